"""What those who were lost did next, whether they came back, and who is stuck at a step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import ibis

from journeylab.engine import median
from journeylab.funnel import Funnel, find_unit_events, mark_steps
from journeylab.rules import parse_duration
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import pandas as pd

_STUCK = 3  # times at one step
_NEXT_COLUMNS = ("step", "label", "next_event", "n", "share", "low", "high", "median_time_s")
_RETURN_COLUMNS = (
    *("step", "label", "n_lost", "n_next_later", "n_returned", "n_dormant", "n_gone"),
    *("share_back", "low", "high", "median_back_s"),
)
_DWELL_COLUMNS = (
    *("step", "label", "n", "n_next", "median_next_s", "median_stay_s", "n_repeated", "n_back", "n_stuck"),
    *("share_stuck", "n_stuck_known", "share_stuck_next", "low", "high"),
)


def list_keys(funnel: Funnel) -> list[str]:
    """Which columns tell the funnel's units apart?"""
    return [name for name in ("unit", "attempt") if name in funnel.units.columns]


def _find_lost(steps: ibis.Table, funnel: Funnel) -> tuple[ibis.Table, ibis.Table]:
    """The units that are lost, and all events of the customers (or accounts) whose they are."""
    units, is_account = funnel.units, funnel.rules.unit == "account"
    lost = units.filter((units.reached < len(funnel.labels)) & ~units.is_open)
    # With order "any" and optional steps too, the furthest step is the last that has a time.
    stop_time = ibis.coalesce(*(lost[f"time_{i}"] for i in reversed(funnel.rules.required)))
    owner = lost.unit if is_account else lost.customer_id
    lost = lost.select(*list_keys(funnel), "reached", "reached_position", "lost_time", owner=owner, stop_time=stop_time)
    rules = replace(funnel.rules, unit="account" if is_account else "customer")
    return lost, find_unit_events(steps, rules, funnel.as_of).rename(owner="_unit")


def compare_next(steps: ibis.Table, funnel: Funnel) -> pd.DataFrame:
    """What did those who were lost do next, and how soon?

    Parameters
    ----------
    steps, funnel
        The steps, and the funnel built from them.

    Returns
    -------
    pandas.DataFrame
        One row per step and next event, most frequent first: step, label (where they stopped), next_event (the
        next event after that step of the customer, in whatever journey or session, or of the account; None: nothing
        more until the end of observation), n, share (of those lost at the step) with low and high (95 %, Wilson),
        median_time_s (from the step until it). Units that are still on the way are not lost and not counted.
    """
    import pandas as pd

    lost, seen = _find_lost(steps, funnel)
    following = seen.select("owner", "timestamp", "event", reached_position=seen.position - 1)
    after = lost.left_join(following, ["owner", "reached_position"])
    wait = after.timestamp.delta(after.stop_time, unit="microsecond") / 1e6
    table: pd.DataFrame = (
        after.group_by(step="reached", next_event="event")
        .agg(n=after.count(), median_time_s=median(wait, steps.get_backend()))
        .execute()
    )
    table["label"] = [funnel.labels[step - 1] for step in table["step"]]
    whole = table.groupby("step")["n"].transform("sum")
    table["share"], table["low"], table["high"] = bound_shares(table["n"], whole)
    table["next_event"] = table["next_event"].astype(object).where(table["next_event"].notna(), None)
    table["median_time_s"] = pd.to_numeric(table["median_time_s"]).astype(float)
    table["_name"] = table["next_event"].fillna("")
    table = table.sort_values(["step", "n", "_name"], ascending=[True, False, True], ignore_index=True)
    return table[list(_NEXT_COLUMNS)]


def count_returns(steps: ibis.Table, funnel: Funnel, *, dormant_after: str | None = None) -> pd.DataFrame:
    """Did those who were lost come back?

    Parameters
    ----------
    steps, funnel
        The steps, and the funnel built from them.
    dormant_after
        Who has been silent for longer than this at the end of observation is gone. Default: that of the funnel's
        rules, or 30 days.

    Returns
    -------
    pandas.DataFrame
        One row per step where units can be lost: step, label, n_lost, and what became of them, each in one class:
        n_next_later (their customer or account did the next step after the unit was lost: late, or in another
        journey or session), n_returned (did something else after that), n_dormant (nothing since they were lost, yet
        not silent for longer than `dormant_after`), n_gone (silent for longer); share_back (the next step later, or
        returned, of n_lost) with low and high (95 %, Wilson), median_back_s (from the step until the first event after
        the unit was lost, among those who came back).

    Notes
    -----
    Without a window a customer is lost by being silent until the end, so that nobody can have come back: ask with
    `within`, or with journeys or sessions as units. Who was lost lately had less time to come back.
    """
    import pandas as pd

    limit_s = parse_duration(dormant_after or funnel.rules.dormant_after or "30D", "dormant_after")
    lost, seen = _find_lost(steps, funnel)
    flags = mark_steps(seen, funnel)
    required = funnel.rules.required
    marked = seen.select("owner", "timestamp", **{f"_is_{i}": flags[i] for i in required[1:]})
    pairs = lost.join(marked, "owner")
    turns = pairwise(required)
    is_next = ibis.or_(*((pairs.reached == step) & pairs[f"_is_{following}"] for step, following in turns))
    is_back = pairs.timestamp > pairs.lost_time
    fates = pairs.group_by(*list_keys(funnel), "reached", "stop_time").agg(
        back_time=pairs.timestamp.min(where=is_back),
        n_next=pairs.count(where=is_back & is_next),
        last_time=pairs.timestamp.max(),
    )
    is_back, is_late = fates.back_time.notnull(), fates.n_next > 0
    is_gone = ibis.literal(funnel.as_of).delta(fates.last_time, unit="microsecond") > limit_s * 1_000_000
    counted = fates.group_by("reached").agg(
        n_lost=fates.count(),
        n_next_later=fates.count(where=is_late),
        n_returned=fates.count(where=is_back & ~is_late),
        n_dormant=fates.count(where=~is_back & ~is_gone),
        n_gone=fates.count(where=~is_back & is_gone),
        median_back_s=median(fates.back_time.delta(fates.stop_time, unit="microsecond") / 1e6, steps.get_backend()),
    )
    found = counted.execute().set_index("reached").reindex(required[:-1])
    counts = [name for name in found.columns if name.startswith("n_")]
    found[counts] = found[counts].fillna(0).astype(int)
    found["median_back_s"] = pd.to_numeric(found["median_back_s"]).astype(float)
    back = found["n_next_later"] + found["n_returned"]
    found["share_back"], found["low"], found["high"] = bound_shares(back, found["n_lost"])
    found.insert(0, "label", [funnel.labels[step - 1] for step in found.index])
    table: pd.DataFrame = found.rename_axis("step").reset_index()
    return table[list(_RETURN_COLUMNS)]


def measure_dwell(steps: ibis.Table, funnel: Funnel) -> pd.DataFrame:
    """How long do units stay at each step, and who is stuck there?

    Parameters
    ----------
    steps, funnel
        The steps, and the funnel built from them.

    Returns
    -------
    pandas.DataFrame
        One row per step where units can be lost: step, label, n (reached it), n_next (went on to the next),
        median_next_s (from this step to the next, among those), median_stay_s (from this step to the unit's last event
        before it was lost, among those lost here), and what they did after the instant of the step, before going on,
        being lost, or the end of observation: n_repeated (the step again), n_back (an earlier step), n_stuck (the step
        three times or more, the first included), share_stuck (of n), n_stuck_known (those of them who are not still on
        the way), share_stuck_next (of these, who went on) with low and high (95 %, Wilson).

    Notes
    -----
    Who stays longer has more time to repeat a step: whether repeating goes with leaving is for `explain_drop_off` to
    say, not for share_stuck_next beside the share of the others.
    """
    import pandas as pd

    stays = _list_stays(funnel)
    seen = find_unit_events(steps, funnel.rules, funnel.as_of)
    flags = mark_steps(seen, funnel)
    events = seen.select("timestamp", unit="_unit", **{f"_is_{i}": flag for i, flag in flags.items()})
    pairs = stays.join(events, "unit")
    is_before = (pairs.timestamp < pairs.next_time).fill_null(True)
    pairs = pairs.filter(pairs.timestamp > pairs.time, pairs.timestamp <= pairs.end_time, is_before)
    is_again = ibis.or_(*((pairs.step == i) & pairs[f"_is_{i}"] for i in flags))
    # With order "any" no step is earlier than another.
    is_earlier = ibis.or_(ibis.literal(False), *((pairs.step > i) & pairs[f"_is_{i}"] & ~is_again for i in flags))
    keys = [*list_keys(funnel), "step"]
    done = pairs.group_by(keys).agg(
        n_again=pairs.count(where=is_again), n_earlier=pairs.count(where=is_earlier), last_time=pairs.timestamp.max()
    )
    whole = stays.left_join(done, keys)
    again, earlier = whole.n_again.fill_null(0), whole.n_earlier.fill_null(0)
    has_next, is_stuck, is_lost = whole.next_time.notnull(), again >= _STUCK - 1, whole.is_lost
    stayed = ibis.coalesce(whole.last_time, whole.time)
    con = steps.get_backend()
    counted = whole.group_by("step").agg(
        n=whole.count(),
        n_next=whole.count(where=has_next),
        median_next_s=median(whole.next_time.delta(whole.time, unit="microsecond") / 1e6, con),
        median_stay_s=median(ibis.ifelse(is_lost, stayed.delta(whole.time, unit="microsecond") / 1e6, None), con),
        n_repeated=whole.count(where=again > 0),
        n_back=whole.count(where=earlier > 0),
        n_stuck=whole.count(where=is_stuck),
        n_stuck_known=whole.count(where=is_stuck & (has_next | is_lost)),
        n_stuck_next=whole.count(where=is_stuck & has_next),
    )
    found = counted.execute().set_index("step").reindex(funnel.rules.required[:-1])
    counts = [name for name in found.columns if name.startswith("n")]
    found[counts] = found[counts].fillna(0).astype(int)
    for name in ("median_next_s", "median_stay_s"):
        found[name] = pd.to_numeric(found[name]).astype(float)
    found["share_stuck"] = found["n_stuck"] / found["n"].where(found["n"] > 0)
    bounded = bound_shares(found["n_stuck_next"], found["n_stuck_known"])
    found["share_stuck_next"], found["low"], found["high"] = bounded
    found.insert(0, "label", [funnel.labels[step - 1] for step in found.index])
    table: pd.DataFrame = found.rename_axis("step").reset_index()
    return table[list(_DWELL_COLUMNS)]


def _list_stays(funnel: Funnel) -> ibis.Table:
    """One row per unit and required step that it reached: from when to when it stayed there."""
    units, required = funnel.units, funnel.rules.required
    parts = []
    for step, following in pairwise(required):
        here = units.filter(units.reached >= step)
        parts.append(
            here.select(
                *list_keys(funnel),
                step=ibis.literal(step, "int64"),
                time=here[f"time_{step}"],
                next_time=here[f"time_{following}"],
                end_time=ibis.coalesce(here[f"time_{following}"], here.lost_time, ibis.literal(funnel.as_of)),
                is_lost=(here.reached == step) & ~here.is_open,
            )
        )
    return ibis.union(*parts) if len(parts) > 1 else parts[0]
