"""Where does it hurt? Errors, complaints, low ratings and circles, at the touchpoint where they arose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.feedback.answers import NONE, open_answers
from journeylab.feedback.attach import find_answers
from journeylab.feedback.feelings import FEELINGS, read_feeling
from journeylab.formats import format_count, format_interval, format_name, format_share
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.shares import bound_shares
from journeylab.words import word_of

if TYPE_CHECKING:
    import pandas as pd

LOW_RATING, CIRCLE = "low rating", "circle"

_PLACE = ["touchpoint", "stage", "channel"]
_COLUMNS = (
    *("rank", *_PLACE, "kinds", "n_customers", "n_hits", "n_passed", "share_hit", "hit_low", "hit_high"),
    *("n_closed", "share_lost", "n_closed_other", "share_lost_other", "n_felt", "feeling"),
    *("severity", "value_at_stake", "weight", "is_small"),
)


def count_pain_points(
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    pain: str | Sequence[str] = (),
    attached: pd.DataFrame | ibis.Table | None = None,
    low_feeling: float = -0.2,
    circle: int | None = None,
    feelings: Sequence[str] = FEELINGS,
    min_group: int = 10,
) -> pd.DataFrame:
    """Where does it hurt most: how many customers, and how badly?

    Parameters
    ----------
    steps, journeys
        From `build_steps` and `build_journeys`; only steps that `journeys` counts are looked at.
    pain
        Events that hurt, such as ``("complaint", "payment_error")``.
    attached
        From `attach_feedback`, with a column of `feelings`: answers below `low_feeling` hurt too, and all tell how
        severe a pain point is.
    low_feeling
        From -1 to 1; -0.2 is below 4 on a scale from 0 to 10.
    circle
        Who does the same event this many times running in a journey goes in circles. Default: that is no pain.
    feelings
        The columns with feelings; see `measure_feeling`.
    min_group
        Pain points that hit fewer customers are flagged `is_small` and not ranked; neither is a share lost or a feeling
        of fewer part of the severity.

    Returns
    -------
    pandas.DataFrame
        One row per touchpoint, worst first: rank (from 1; null where small), touchpoint (the event at which it arose),
        stage, channel ("(none)" where unknown), kinds (the pain events, "low rating" and "circle" that occur, those of
        most customers first), n_customers (hit), n_hits, n_passed (customers who were there), share_hit (of these) with
        hit_low and hit_high (95 %, Wilson), n_closed (journeys that were hit and are over), share_lost (of these, those
        that never reached the goal), n_closed_other and share_lost_other (of journeys that passed there unhurt), n_felt
        and feeling (answers there of customers who were hit, and their mean, -1 to 1), severity (0 to 1),
        value_at_stake (mean value of the journeys that are over, passed there and reached the goal: what one that is
        not lost would bring; of all places where fewer than `min_group` did; null in a log without values), weight
        (n_customers × severity × value_at_stake, where there are values), is_small.

    Raises
    ------
    RuleError
        If nothing is named that could hurt, or an event of `pain` is not in the log.

    Notes
    -----
    A complaint is not about itself: what hurt is at the last step before it in the journey that is neither painful nor
    an answer. So a failed payment, the complaint about it and the low rating after it are one pain point.

    severity is the mean of what is known of two: how much more often those who were hit were lost than those who passed
    there unhurt (share_lost - share_lost_other, at least 0), and how bad they felt (-feeling, at least 0). Being lost
    goes with the pain; that it comes of it is not shown.
    """
    names = [pain] if isinstance(pain, str) else list(dict.fromkeys(pain))
    _check(steps, names, attached, circle)
    seen = _place_steps(steps, journeys, names)
    spoken = None if attached is None else _read_spoken(attached, seen, feelings)
    hits = _find_hits(seen, names, spoken, low_feeling, circle)
    table = _count_hits(hits)
    if table.empty:
        return table.reindex(columns=list(_COLUMNS))
    for part in (_count_passed(seen), _count_lost(hits, seen), _average_feelings(hits, spoken, seen)):
        if part is not None:
            table = table.merge(part, on=_PLACE, how="left")
    return _rank(table, min_group)


def _check(steps: ibis.Table, names: list[str], attached: pd.DataFrame | ibis.Table | None, circle: int | None) -> None:
    if not names and attached is None and circle is None:
        raise RuleError(
            'count_pain_points: say what hurts: events in pain=("complaint", …), answers in attached=, or circle=3'
        )
    if circle is not None and circle < 2:
        raise RuleError(f"count_pain_points: circle must be at least 2 times running, found {circle}")
    known = steps.filter(steps.event.isin(names)).select("event").distinct().execute()["event"] if names else []
    for name in names:
        if name not in set(known):
            every = steps.select("event").distinct().execute()["event"]
            raise RuleError(f'count_pain_points: no event "{name}" in this log.{nearest(name, every)}')


def _place_steps(steps: ibis.Table, journeys: ibis.Table, names: list[str]) -> ibis.Table:
    """Steps that count, with the position of the touchpoint they belong to and what became of their journey."""
    found = journeys.select("journey_id", "reached_goal", "is_open", _n_seen="n_steps", _value="value")
    seen = steps.join(found, "journey_id")
    seen = seen.filter(seen.step <= seen["_n_seen"])
    is_pain = seen.event.isin(names) if names else ibis.literal(False)
    so_far = ibis.window(group_by="journey_id", order_by="position", preceding=None, following=0)
    is_plain = ~is_pain & ~find_answers(seen)
    touchpoint = ibis.ifelse(is_plain, seen.position, ibis.null("int64")).max().over(so_far)
    channel = seen.channel if "channel" in seen.columns else ibis.null("string")
    return seen.select(
        *("customer_id", "journey_id", "position", "step", "event", "reached_goal", "is_open"),
        stage=seen.stage.fill_null(NONE),
        channel=channel.fill_null(NONE),
        is_plain=is_plain,
        _touchpoint=touchpoint,
        journey_value=seen["_value"],
    )


def _find_hits(
    seen: ibis.Table, names: list[str], spoken: ibis.Table | None, low_feeling: float, circle: int | None
) -> ibis.Table:
    """One row per hit: whose, in which journey, of which kind, and where."""
    keys = ("customer_id", "journey_id", "position")
    parts = []
    if names:
        parts.append(seen.filter(seen.event.isin(names)).select(*keys, kind="event"))
    if spoken is not None:
        parts.append(spoken.filter(spoken.feeling < low_feeling).select(*keys, kind=ibis.literal(LOW_RATING)))
    if circle is not None:
        history = ibis.window(group_by="journey_id", order_by="position")
        same = [(seen.event == seen.event.lag(i).over(history)).fill_null(False) for i in range(1, circle)]
        turning = seen.mutate(_turns=ibis.and_(*same))
        parts.append(turning.filter(turning["_turns"] & turning.is_plain).select(*keys, kind=ibis.literal(CIRCLE)))
    hits = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return _name_place(hits, seen)


def _name_place(rows: ibis.Table, seen: ibis.Table) -> ibis.Table:
    """Add touchpoint, stage and channel of the step to which a position belongs."""
    own = seen.select("customer_id", "position", "_touchpoint", _own_stage="stage", _own_channel="channel")
    rows = rows.join(own, ["customer_id", "position"])
    there = seen.select(_who="customer_id", _at="position", touchpoint="event", _stage="stage", _channel="channel")
    rows = rows.left_join(there, [rows.customer_id == there["_who"], rows["_touchpoint"] == there["_at"]])
    named = rows.mutate(
        touchpoint=rows.touchpoint.fill_null(NONE),
        stage=ibis.coalesce(rows["_stage"], rows["_own_stage"]),
        channel=ibis.coalesce(rows["_channel"], rows["_own_channel"]),
    )
    return named.drop("_touchpoint", "_own_stage", "_own_channel", "_who", "_at", "_stage", "_channel")


def _read_spoken(attached: pd.DataFrame | ibis.Table, seen: ibis.Table, feelings: Sequence[str]) -> ibis.Table:
    """Answers with a feeling, under the position and in the journey of the step of which they speak."""
    table = open_answers(attached, "count_pain_points", seen.get_backend())
    feeling, _is_rated = read_feeling(table, feelings, "count_pain_points")
    table = table.select("customer_id", position=table.about_position.cast("int64"), feeling=feeling)
    table = table.filter(table.position.notnull() & table.feeling.notnull())
    return table.join(seen.select("customer_id", "position", "journey_id"), ["customer_id", "position"])


def _count_hits(hits: ibis.Table) -> pd.DataFrame:
    table: pd.DataFrame = (
        hits.group_by(_PLACE).agg(n_customers=hits.customer_id.nunique(), n_hits=hits.count()).execute()
    )
    kinds = hits.group_by([*_PLACE, "kind"]).agg(n=hits.customer_id.nunique()).execute()
    kinds = kinds.sort_values(["n", "kind"], ascending=[False, True])
    named = kinds.groupby(_PLACE)["kind"].agg(", ".join).rename("kinds").reset_index()
    return table.merge(named, on=_PLACE)


def _count_passed(seen: ibis.Table) -> pd.DataFrame:
    plain = seen.filter(seen.is_plain)
    counted = plain.group_by(touchpoint=plain.event, stage="stage", channel="channel")
    found: pd.DataFrame = counted.agg(n_passed=plain.customer_id.nunique()).execute()
    return found


def _count_lost(hits: ibis.Table, seen: ibis.Table) -> pd.DataFrame:
    """Of journeys that are over, how many were lost: those that were hit, and those that passed unhurt?"""
    plain = seen.filter(seen.is_plain & ~seen.is_open)
    passed = plain.group_by("journey_id", "stage", "channel", touchpoint=plain.event).agg(
        is_lost=(~plain.reached_goal.fill_null(False)).any(), value=plain.journey_value.max()
    )
    hit = hits.group_by("journey_id", *_PLACE).agg(n=hits.count())
    both = passed.left_join(hit, ["journey_id", *_PLACE])
    is_hit, is_worth = both.n.notnull(), ~both.is_lost & both.value.notnull()
    found: pd.DataFrame = (
        both.group_by(_PLACE)
        .agg(
            n_closed=both.count(where=is_hit),
            n_lost=both.count(where=is_hit & both.is_lost),
            n_closed_other=both.count(where=~is_hit),
            n_lost_other=both.count(where=~is_hit & both.is_lost),
            n_worth=both.count(where=is_worth),
            worth=both.value.sum(where=is_worth),
        )
        .execute()
    )
    for suffix in ("", "_other"):
        whole = found[f"n_closed{suffix}"].where(found[f"n_closed{suffix}"] > 0)
        found[f"share_lost{suffix}"] = found.pop(f"n_lost{suffix}") / whole
    # Where nobody reaches the goal there is none to miss.
    has_goal = bool(seen.reached_goal.any().execute())
    return found if has_goal else found.assign(share_lost=float("nan"), share_lost_other=float("nan"))


def _average_feelings(hits: ibis.Table, spoken: ibis.Table | None, seen: ibis.Table) -> pd.DataFrame | None:
    """How did those who were hit feel there?"""
    if spoken is None:
        return None
    hurt = hits.select("customer_id", *_PLACE).distinct()
    felt = _name_place(spoken, seen).semi_join(hurt, ["customer_id", *_PLACE])
    found: pd.DataFrame = felt.group_by(_PLACE).agg(n_felt=felt.count(), feeling=felt.feeling.mean()).execute()
    return found


def _rank(table: pd.DataFrame, min_group: int) -> pd.DataFrame:
    import pandas as pd

    counts = ["n_passed", "n_closed", "n_closed_other", "n_felt"]
    table = table.reindex(columns=[*table.columns, *(name for name in _COLUMNS if name not in table.columns)])
    table[counts] = table[counts].fillna(0).astype(int)
    passed = table["n_passed"].where(table["touchpoint"] != NONE, 0)
    table["share_hit"], table["hit_low"], table["hit_high"] = bound_shares(
        table["n_customers"].where(passed > 0), passed
    )
    is_known = table[["n_closed", "n_closed_other"]].min(axis=1) >= min_group
    lost = (table["share_lost"] - table["share_lost_other"]).clip(lower=0).where(is_known)
    felt = (-table["feeling"].astype(float)).clip(lower=0).where(table["n_felt"] >= min_group)
    table["severity"] = pd.concat([lost, felt], axis=1).mean(axis=1)
    table["value_at_stake"] = _value_stakes(table, min_group)
    table["weight"] = table["n_customers"] * table["severity"] * table["value_at_stake"].fillna(1.0)
    table["is_small"] = table["n_customers"] < min_group
    order = ["is_small", "weight", "n_customers", *_PLACE]
    ascending = [True, False, False, True, True, True]
    table = table.sort_values(order, ascending=ascending, na_position="last", ignore_index=True)
    table["rank"] = pd.Series(range(1, len(table) + 1), dtype="Int64").where(~table["is_small"])
    found: pd.DataFrame = table[list(_COLUMNS)]
    return found


def _value_stakes(table: pd.DataFrame, min_group: int) -> pd.Series:
    """What is a journey worth that comes from there to the goal? Null in a log without values."""
    n, worth = (table[name].astype(float).fillna(0.0) for name in ("n_worth", "worth"))
    everywhere = worth.sum() / n.sum() if n.sum() >= min_group else float("nan")
    return (worth / n.where(n >= min_group)).fillna(everywhere)


def describe_pain(points: pd.DataFrame) -> str:
    """What is the worst pain point of `count_pain_points`? One sentence."""
    ranked = points[points["rank"].notna()]
    if ranked.empty:
        return _("No touchpoint has hurt enough customers to be shown.")
    row = ranked.iloc[0]
    n = int(row["n_customers"])
    values = {
        "touchpoint": format_name(row["touchpoint"]),
        "channel": format_name(row["channel"]),
        "kinds": format_name(word_of(row["kinds"], "kinds")),
        "n": format_count(n),
        "share": format_share(row["share_hit"]),
        "interval": format_interval(row["hit_low"], row["hit_high"], format_share),
        "passed": format_count(row["n_passed"]),
    }
    if row["share_hit"] != row["share_hit"]:
        return ngettext(
            "It hurts most before {kinds} in {channel}: {n} customer.",
            "It hurts most before {kinds} in {channel}: {n} customers.",
            n,
            **{name: values[name] for name in ("kinds", "channel", "n")},
        )
    return ngettext(
        "It hurts most at {touchpoint} in {channel} ({kinds}): it hit {n} customer, {share} of {passed} who were "
        "there (95 % interval {interval}).",
        "It hurts most at {touchpoint} in {channel} ({kinds}): it hit {n} customers, {share} of {passed} who were "
        "there (95 % interval {interval}).",
        n,
        **values,
    )
