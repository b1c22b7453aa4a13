"""What goes with going on from a step: compared among units that were watched alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import ibis

from journeylab.engine import median, store
from journeylab.errors import RuleError, nearest
from journeylab.formats import format_count, format_duration, format_interval, format_name, format_points, format_share
from journeylab.funnel import Funnel, find_unit_events, mark_steps, name_columns, name_group
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.leaving import list_keys
from journeylab.rules import parse_duration
from journeylab.words import unit_of

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    *("step", "label", "next_label", "after_s", "kind", "name", "value", "n_with", "n_without", "share_with"),
    *("share_without", "difference", "low", "high", "odds_ratio", "odds_low", "odds_high", "p", "q"),
    *("is_finding", "is_small", "rank"),
)
_COMPARED = (
    *("share_with", "share_without", "difference", "low", "high"),
    *("odds_ratio", "odds_low", "odds_high", "p"),
)
_COUNTS = ("kind", "name", "value", "n_with", "n_with_next", "n", "n_next", "after_s")
_MOST_NAMES = 500  # of events, or of a property's values, that leave the engine: those with most units
_NONE, _NAN = "(none)", float("nan")


class _Watch(NamedTuple):
    """A transition, and for how long its units are watched."""

    step: int
    following: int
    horizon_s: int  # from step 1 or from the step, whichever the window counts from


def explain_drop_off(
    steps: ibis.Table,
    funnel: Funnel,
    *,
    step: int | str | None = None,
    landmark: str | None = None,
    properties: Sequence[str] = (),
    min_support: int = 30,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """What goes with going on from a step, among units that were watched alike?

    Parameters
    ----------
    steps, funnel
        The steps, and the funnel built from them. With `entry` other than "first" the start itself was chosen by what
        followed; the comparison then inherits that choice.
    step
        Number (from 1) or label of the step to go on from. Default: the one where most units are lost.
    landmark
        How long after the step behaviour is looked at, such as ``"10m"``. Default: the median time to the next step.
    properties
        Columns read at the step, such as ``["device", "campaign"]``; channel is always among them.
    min_support
        With fewer units on either side a row is flagged `is_small`, not tested, and listed last.
    alpha
        The rate of false discoveries among the findings.

    Returns
    -------
    pandas.DataFrame
        One row per difference, surest first: step, label, next_label, after_s (the landmark in seconds; 0: known at the
        step), kind, name, value, n_with, n_without (units with and without it), share_with, share_without (of them, who
        went on), difference with low and high (95 %, Newcombe), odds_ratio with odds_low and odds_high (95 %, Wald on
        the log scale; 0.5 is added to each of the four cells where one is 0), p (Fisher's exact test), q
        (Benjamini-Hochberg over all tested rows), is_finding (q < alpha), is_small, rank (by the bound of `difference`
        nearer to 0; null where not tested).

        Kinds: "event" (another event, once or more after the step), "repeat" (an event twice or more; one that was a
        step so far, again), "channel" (used after the step), "time" (more events, active for longer, than the median),
        "property" (value at the step; of two values the rarer).

    Notes
    -----
    Who goes on is no longer watched on the way, who does not is watched to the end: whatever takes time is then found
    more among those who did not. So one landmark is set for all units. Only those count that had neither gone on nor
    been lost when it had passed; only what they did by then (at a later instant than the step); and then it is seen who
    goes on (Anderson, Cain & Gelber 1983, J Clin Oncol 1:710). Properties are known at the step and need no landmark:
    there all units count. Either way only units count that were watched to the end: with a window the mature ones, and
    without one those with `dormant_after` between the step and the end of observation, and who went on later than that
    counts as not.

    The default landmark looks at when units went on, never at what else they did. Given those times, and if nothing
    that they did mattered, everyone who was still there is as likely as any other to have done it: the test is exact
    whatever landmark the times suggest. The median leaves half of those who went on. Support too is counted without
    looking at who went on (Bourgon, Gentleman & Huber 2010, PNAS 107:9546).

    Association, not cause.
    """
    import pandas as pd

    watch = _choose_step(funnel, step)
    names = dict.fromkeys((*(["channel"] if "channel" in steps.columns else []), *properties))
    for name in names:
        if name not in steps.columns:
            shown = ", ".join(steps.columns)
            raise RuleError(
                f'explain_drop_off: no column "{name}" in steps.{nearest(name, steps.columns)} The columns are {shown}'
            )
    base = _find_watched(funnel, watch)
    seen = find_unit_events(steps, funnel.rules, funnel.as_of).mutate(unit=ibis._["_unit"])
    counts = _count_properties(base, seen, funnel, watch.step, list(names))
    landmark_us = _choose_landmark(base, landmark, watch)
    if landmark_us:
        counts += _count_behaviour(base, seen, funnel, watch.step, landmark_us)
    table = pd.concat(counts, ignore_index=True) if counts else pd.DataFrame(columns=list(_COUNTS))
    table = _compare(table, min_support, alpha)
    table["step"], table["label"] = watch.step, funnel.labels[watch.step - 1]
    table["next_label"] = funnel.labels[watch.following - 1]
    return table[list(_COLUMNS)]


def _choose_step(funnel: Funnel, step: int | str | None) -> _Watch:
    """Which transition is asked for?"""
    required = funnel.rules.required
    labels = [funnel.labels[i - 1] for i in required[:-1]]
    if step is None:
        place = int(funnel.table.groupby("step")["n_lost"].sum().reindex(required[:-1]).to_numpy().argmax())
    elif step in labels:
        place = labels.index(str(step))
    elif step in required[:-1]:
        place = required.index(int(step))
    else:
        options = ", ".join(f"{i} ({label})" for i, label in zip(required, labels, strict=False))
        raise RuleError(
            f"explain_drop_off: step must be one that units go on from: {options}; found {step!r}."
            f"{nearest(str(step), labels)}"
        )
    horizon_s = funnel.rules.dormant_s if funnel.rules.within_s is None else funnel.rules.within_s
    return _Watch(required[place], required[place + 1], horizon_s)


def _find_watched(funnel: Funnel, watch: _Watch) -> ibis.Table:
    """The units that reached the step and were watched for long enough, and whether and when they went on."""
    units, time = funnel.units, funnel.units[f"time_{watch.step}"]
    horizon_us = watch.horizon_s * 1_000_000
    next_us = units[f"time_{watch.following}"].delta(time, unit="microsecond")
    if funnel.rules.within_s is None:
        is_watched = ibis.literal(funnel.as_of).delta(time, unit="microsecond") >= horizon_us
        has_next = (next_us <= horizon_us).fill_null(False)
    else:
        is_watched, has_next = units.is_mature, next_us.notnull()
    watched = units.select(
        *list_keys(funnel),
        time=time,
        has_next=has_next,
        next_us=next_us,
        # With a window, when the unit's time was over; whatever its end, the same for those who went on.
        lost_us=units.lost_time.delta(time, unit="microsecond"),
        _is_watched=is_watched & time.notnull(),
    )
    return watched.filter(watched["_is_watched"]).drop("_is_watched")


def _choose_landmark(base: ibis.Table, landmark: str | None, watch: _Watch) -> int | None:
    """How many microseconds after the step is it seen what units have done?"""
    import pandas as pd

    if landmark is not None:
        landmark_s = parse_duration(landmark, "explain_drop_off: landmark")
        if landmark_s >= watch.horizon_s:
            raise RuleError(
                f"explain_drop_off: landmark must leave time to go on; found {landmark!r}, and units are watched for "
                f"{format_duration(watch.horizon_s)}"
            )
        return landmark_s * 1_000_000
    middle = base.agg(middle=median(ibis.ifelse(base.has_next, base.next_us, None), base.get_backend()))
    found = middle.execute()["middle"].iloc[0]
    return None if pd.isna(found) else int(found)


def _count_properties(
    base: ibis.Table, seen: ibis.Table, funnel: Funnel, step: int, names: list[str]
) -> list[pd.DataFrame]:
    """How many units had each value at the step, and how many of these went on?"""
    if not names:
        return []
    here = seen.filter(mark_steps(seen, funnel)[step])
    values = {f"_value_{i}": here[name].cast("string").fill_null(_NONE) for i, name in enumerate(names)}
    here = base.join(here.select("unit", "position", time="timestamp", **values), ["unit", "time"])
    # Of several such events at the instant, the first.
    place = ibis.row_number().over(ibis.window(group_by=list_keys(funnel), order_by="position"))
    here = store(here.mutate(_place=place).filter(ibis._["_place"] == 0), base.get_backend())
    counts = []
    for i, name in enumerate(names):
        counted = here.group_by(value=f"_value_{i}").agg(
            n_with=here.count(), n_with_next=here.count(where=here.has_next)
        )
        table = _fetch_largest(counted, ["value"])
        if len(table) == 2:  # The other row would say the same again.
            table = table.iloc[1:]
        counts.append(table.assign(kind="property", name=name, after_s=0.0))
    return _add_totals(counts, here)


def _count_behaviour(
    base: ibis.Table, seen: ibis.Table, funnel: Funnel, step: int, landmark_us: int
) -> list[pd.DataFrame]:
    """Of the units still there at the landmark, how many had done what, and how many of these went on?"""
    con, keys = base.get_backend(), list_keys(funnel)
    is_there = (base.next_us > landmark_us).fill_null(True) & (base.lost_us > landmark_us).fill_null(True)
    there = store(base.filter(is_there), con)
    optional = ["channel"] if "channel" in seen.columns else []
    pairs = there.join(seen.select("unit", "timestamp", "event", *optional), "unit")
    pairs = pairs.mutate(_after_us=pairs.timestamp.delta(pairs.time, unit="microsecond"))
    pairs = pairs.filter(pairs["_after_us"] > 0, pairs["_after_us"] <= landmark_us)
    done = store(pairs.select(*keys, "has_next", "event", *optional, "_after_us"), con)
    # With order "any" a step's event that does not take the unit on is one that it has done before.
    taken = funnel.rules.walk_steps[: None if funnel.rules.order == "any" else step]
    counts = _count_events(done, keys, {name for part in taken for name in part.names})
    if optional:
        used = done.filter(done.channel.notnull()).select(*keys, "has_next", "channel").distinct()
        counted = used.group_by(value="channel").agg(n_with=used.count(), n_with_next=used.count(where=used.has_next))
        counts.append(_fetch_largest(counted, ["value"]).assign(kind="channel", name="channel"))
    counts.append(_count_activity(there, done, keys))
    return _add_totals([table.assign(after_s=landmark_us / 1e6) for table in counts], there)


def _count_events(done: ibis.Table, keys: list[str], earlier: set[str]) -> list[pd.DataFrame]:
    each = done.group_by(*keys, "has_next", "event").agg(n_times=done.count())
    is_repeated = each.n_times >= 2
    counted = each.group_by(name="event").agg(
        n_with=each.count(),
        n_with_next=each.count(where=each.has_next),
        n_repeated=each.count(where=is_repeated),
        n_repeated_next=each.count(where=is_repeated & each.has_next),
    )
    table = _fetch_largest(counted, ["name"])
    again = table["name"].isin(earlier)
    once = table.assign(kind="event", value=_("once or more")).drop(columns=["n_repeated", "n_repeated_next"])
    once.loc[again, ["kind", "value"]] = "repeat", _("again")
    twice = table[["name"]].assign(
        n_with=table["n_repeated"], n_with_next=table["n_repeated_next"], kind="repeat", value=_("twice or more")
    )
    twice.loc[again, "value"] = _("again, twice or more")
    return [once, twice[twice["n_with"] > 0]]


def _count_activity(there: ibis.Table, done: ibis.Table, keys: list[str]) -> pd.DataFrame:
    """How many had more events, and were active for longer, than half of them?"""
    import pandas as pd

    active = done.group_by(keys).agg(n_events=done.count(), last_us=done["_after_us"].max())
    units = there.left_join(active, keys)
    units = units.select(
        "has_next", n_events=units.n_events.fill_null(0), active_s=units.last_us.fill_null(0).cast("float64") / 1e6
    )
    con, columns = there.get_backend(), ("n_events", "active_s")
    middle = units.agg(**{name: median(units[name], con) for name in columns}).execute().iloc[0].fillna(0)
    above = {name: units[name] > float(middle[name]) for name in columns}
    sums = {f"{name}_with": units.count(where=above[name]) for name in columns}
    sums |= {f"{name}_next": units.count(where=above[name] & units.has_next) for name in columns}
    counted = units.agg(**sums).execute().iloc[0]
    limits = (format_count(int(middle["n_events"])), format_duration(middle["active_s"]))
    rows = [
        ("time", name, _("more than {limit}", limit=limit), counted[f"{name}_with"], counted[f"{name}_next"])
        for name, limit in zip(columns, limits, strict=True)
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "value", "n_with", "n_with_next"])


def _fetch_largest(counted: ibis.Table, order: list[str]) -> pd.DataFrame:
    table: pd.DataFrame = counted.order_by(ibis.desc("n_with"), *order).limit(_MOST_NAMES).execute()
    return table


def _add_totals(counts: list[pd.DataFrame], units: ibis.Table) -> list[pd.DataFrame]:
    totals = units.agg(n=units.count(), n_next=units.count(where=units.has_next)).execute().iloc[0]
    return [table.assign(n=totals["n"], n_next=totals["n_next"]) for table in counts]


def _compare(table: pd.DataFrame, min_support: int, alpha: float) -> pd.DataFrame:
    """Shares with and without, their differences, and which of them are more than chance."""
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    table["n_without"] = table["n"] - table["n_with"]
    table["is_small"] = table[["n_with", "n_without"]].min(axis=1) < max(min_support, 1)
    cells = table[["n_with_next", "n_with", "n_next", "n", "is_small"]].itertuples(index=False)
    compared = [
        _compare_shares(int(with_next), int(n_with), int(n_next - with_next), int(n - n_with), bool(is_small))
        for with_next, n_with, n_next, n, is_small in cells
    ]
    table = table.join(pd.DataFrame(compared, columns=list(_COMPARED), index=table.index, dtype=float))
    is_tested = table["p"].notna()
    table["q"] = table["p"]
    if is_tested.any():
        table.loc[is_tested, "q"] = multipletests(table.loc[is_tested, "p"], method="fdr_bh")[1]
    table["is_finding"] = table["q"] < alpha
    table["_surest"] = pd.concat([table["low"], -table["high"]], axis=1).max(axis=1)
    order = ["is_small", "_surest", "kind", "name", "value"]
    table = table.sort_values(order, ascending=[True, False, True, True, True], ignore_index=True)
    return table.assign(rank=pd.Series(range(1, len(table) + 1), dtype="Int64").where(table["p"].notna()))


def _compare_shares(next_with: int, n_with: int, next_without: int, n_without: int, is_small: bool) -> list[float]:
    import numpy as np
    from scipy.stats import fisher_exact
    from statsmodels.stats.contingency_tables import Table2x2
    from statsmodels.stats.proportion import confint_proportions_2indep

    share_with = next_with / n_with if n_with else _NAN
    share_without = next_without / n_without if n_without else _NAN
    if not (n_with and n_without):
        return [share_with, share_without, *[_NAN] * 7]
    cells = np.array([[next_with, n_with - next_with], [next_without, n_without - next_without]])
    # Its own shift_zeros fills the empty cells alone (statsmodels 0.15), which is no known estimator.
    odds = Table2x2(cells + 0.5 * (cells == 0).any(), shift_zeros=False)
    return [
        *(share_with, share_without, share_with - share_without),
        *confint_proportions_2indep(next_with, n_with, next_without, n_without, method="newcomb"),
        *(odds.oddsratio, *odds.oddsratio_confint()),
        _NAN if is_small else fisher_exact(cells).pvalue,
    ]


def describe_explanation(table: pd.DataFrame, funnel: Funnel) -> str:
    """What is the surest finding of `explain_drop_off`, and what does it mean? With its base and interval."""
    unit = funnel.rules.unit
    tested = table[table["p"].notna()]
    if tested.empty:
        return _(
            "Too few {units} to compare: nothing that they did or were has enough of them on both sides.",
            units=unit_of(unit, 0),
        )
    first, findings = tested.iloc[0], tested[tested["is_finding"]]
    asked = {"label": format_name(first["label"]), "following": format_name(first["next_label"])}
    if findings.empty:
        return _(
            "Nothing that {units} did or were goes with going on from {label} to {following} beyond chance "
            "(differences tested: {n}).",
            units=unit_of(unit, 0),
            n=len(tested),
            **asked,
        )
    return _(
        "{finding}; {counted}. Both sides were watched for the same time, so this is no effect of having had longer; "
        "but it says what goes with going on from {label} to {following}, not what brings it about.",
        finding=_describe_finding(findings.iloc[0], unit),
        counted=ngettext(
            "{n} of {tested} differences tested is a finding",
            "{n} of {tested} differences tested are findings",
            len(findings),
            tested=len(tested),
        ),
        **asked,
    )


def _describe_finding(row: pd.Series, unit: str) -> str:
    n = int(row["n_with"] + row["n_without"])
    counts = {
        "n": n,
        "units": unit_of(unit, n),
        "label": format_name(row["label"]),
        "exposure": _name_exposure(row),
        "following": format_name(row["next_label"]),
        "share_with": format_share(row["share_with"]),
        "share_without": format_share(row["share_without"]),
        "difference": format_points(row["difference"]),
        "interval": format_interval(row["low"], row["high"], format_points),
    }
    if not row["after_s"]:
        return _(
            "Of {n} {units} who reached {label}, those {exposure} went on to {following} in {share_with} of cases, the "
            "others in {share_without} (difference {difference}, 95 % interval {interval})",
            **counts,
        )
    return _(
        "Of {n} {units} who reached {label} and had not gone on {time} later, those {exposure} went on to {following} "
        "in {share_with} of cases, the others in {share_without} (difference {difference}, 95 % interval {interval})",
        time=format_duration(row["after_s"]),
        **counts,
    )


def _name_exposure(row: pd.Series) -> str:
    name, value = format_name(row["name"]), format_name(row["value"])
    if row["kind"] == "property":
        return _("with {name} {value}", name=name_columns([row["name"]]), value=name_group(row["value"], row["name"]))
    if row["kind"] == "channel":
        return _("who had used {value} by then", value=value)
    if row["kind"] == "time" and row["name"] == "n_events":
        return _("with {value} events by then", value=value)
    if row["kind"] == "time":
        return _("active for {value}", value=value)
    return _("who had done {name} {value} by then", name=name, value=value)
