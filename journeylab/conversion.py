"""How many will convert and how fast: of all who started, of those whose time is over, and corrected for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.formats import format_duration, format_interval, format_name, format_share
from journeylab.funnel import Funnel, count_spells, join_groups, list_group_keys, name_group
from journeylab.language import gettext as _
from journeylab.retention import FREQUENCIES, check_frequency, find_longer
from journeylab.rules import parse_duration
from journeylab.shares import adjust_holm, bound_shares
from journeylab.survival import compare_survival, estimate_curve, estimate_incidence, estimate_quantile

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMES = 20  # that an error lists
_ESTIMATE_COLUMNS = (
    *("step", "label", "horizon_s", "n_start", "n_converted", "conversion_naive", "naive_low", "naive_high"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high"),
    *("n_at_risk", "n_open"),
)
_COUNTS = ("n_start", "n_converted", "n_mature", "n_mature_converted", "n_open")
_CURVE_COLUMNS = ("time_s", "share", "low", "high", "band_low", "band_high", "n_at_risk")
_TIME_COLUMNS = (
    *("n", "n_converted", "median_s", "low", "high", "median_converters_s", "log_rank", "p", "p_adjusted", "is_small"),
)
_COHORT_COLUMNS = (
    *("cohort", "n", "n_converted", "n_lost", "n_open", "conversion", "low", "high"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high", "is_immature"),
)


def find_spells(funnel: Funnel, step: int | None = None) -> pd.DataFrame:
    """How long was each unit watched on its way to a step, and how did that end?

    Returns
    -------
    pandas.DataFrame
        What `journeylab.survival` estimates from, one row per distinct spell: [group; group_1, … of several columns],
        duration_s, ended, n; see `count_spells`. `step` is its number; default: the last.
    """
    return count_spells(
        funnel.units, funnel.rules, [check_step(funnel, step)], funnel.as_of, keys=list_group_keys(funnel.by)
    ).drop(columns="step")


def estimate_conversion(
    funnel: Funnel, *, step: int | None = None, at: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """How many convert within a time: as it looks, among those whose time is over, and corrected for the rest?

    Parameters
    ----------
    funnel
        From `build_funnel`.
    step
        Who reaches this step (its number) has converted. Default: the last.
    at
        Horizons, such as ``["1D", "7D"]``. Default: the funnel's window, or without one the longest time that anyone
        of the group was watched.

    Returns
    -------
    pandas.DataFrame
        One row per group and horizon: [the `by` columns], step, label, horizon_s, n_start, n_converted (within the
        horizon, as seen), and three shares, each with low and high (95 %):
        conversion_naive (of all starts: those of yesterday count as failed, so it is too low while any are open;
        Wilson), conversion_mature (of the n_mature starts that lie a whole horizon before `as_of`; Wilson; null at the
        default horizon of a funnel without a window, which nobody's time ends at), conversion_censored (product limit;
        without a window cumulative incidence, where being lost for good competes; null where nobody was watched that
        long). n_at_risk: watched, and not converted or lost, until just before the horizon.
        n_open: not converted and not lost, with part of the horizon still to come.

    Raises
    ------
    RuleError
        A horizon beyond the funnel's window: nothing that happens there converts. Or, without a window, one longer than
        anyone was watched.

    Notes
    -----
    The censored share uses everyone for as long as they were watched. It takes late starts to convert like early ones;
    `count_cohorts` shows whether they do. Without a window a unit counts as lost by its silence up to `as_of`: who
    would have come back later is lost in it, and the share that much too low. Times are rounded to four digits
    (`round_wait`): a horizon that has more is read that much too early.
    """
    import pandas as pd

    step = check_step(funnel, step)
    _check_by(funnel, _ESTIMATE_COLUMNS)
    asked = [at] if isinstance(at, str) else at
    horizons = [funnel.rules.horizon_s] if asked is None else [_check_horizon(text, funnel) for text in asked]
    counts = _split(funnel, _count_by_horizon(funnel, step, horizons))
    rows: list[dict[str, Any]] = []
    for (place, counted), (_group, spells) in zip(counts, _split(funnel, find_spells(funnel, step)), strict=True):
        for i, horizon_s in enumerate(horizons):
            until_s = _longest(spells) if horizon_s is None else horizon_s
            row = place | {"step": step, "label": funnel.labels[step - 1], "horizon_s": until_s}
            row |= {name: counted[f"{name}_{i}"].iloc[0] for name in _COUNTS}
            rows.append(row | _estimate_at(spells, until_s, funnel.rules.horizon_s))
    table = pd.DataFrame(rows, columns=[*dict.fromkeys([*funnel.by, *_ESTIMATE_COLUMNS, *_COUNTS])])
    _add_share(table, "naive", "n_converted", "n_start")
    _add_share(table, "mature", "n_mature_converted", "n_mature")
    return table[[*funnel.by, *_ESTIMATE_COLUMNS]].astype({"n_at_risk": int})


def estimate_time_to_convert(funnel: Funnel, *, step: int | None = None) -> pd.DataFrame:
    """Which share has converted by each time since the start?

    Returns
    -------
    pandas.DataFrame
        One step function per group: [the `by` columns], time_s, share, low, high, band_low, band_high, n_at_risk; see
        `journeylab.survival.estimate_curve`. Of all who started, not only of those who converted.
    """
    import pandas as pd

    _check_by(funnel, _CURVE_COLUMNS)
    parts = []
    for place, spells in _split(funnel, find_spells(funnel, step)):
        curve = estimate_curve(spells)
        parts.append(pd.concat([pd.DataFrame(place, index=curve.index), curve], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*funnel.by, *_CURVE_COLUMNS])


def compare_times(funnel: Funnel, *, step: int | None = None, min_n: int = 30) -> pd.DataFrame:
    """Which groups convert faster than the others?

    Parameters
    ----------
    funnel
        From `build_funnel` with `by`, or without: then just the times.
    step
        Who reaches this step (its number) has converted. Default: the last.
    min_n
        A group with fewer starts is flagged `is_small` and not tested.

    Returns
    -------
    pandas.DataFrame
        One row per group, the largest first: [the `by` columns], n (starts), n_converted, median_s with low and high
        (seconds until half of *all* who started have converted; null where fewer than half do), median_converters_s
        (of those who converted by now: too fast, since the slow are missing from it), log_rank (chi-square statistic
        against all other groups together), p, p_adjusted (Holm), is_small.

    Notes
    -----
    Without a window the test compares how fast those convert who are not lost; the share that is lost it leaves out.
    """
    import pandas as pd

    step = check_step(funnel, step)
    _check_by(funnel, _TIME_COLUMNS)
    spells = find_spells(funnel, step)
    at_step = funnel.table[funnel.table["step"] == step].reset_index(drop=True)
    rows = []
    for i, (place, of_group) in enumerate(_split(funnel, spells)):
        n, (median, low, high) = int(of_group["n"].sum()), estimate_quantile(of_group, 0.5)
        row = place | {"n": n, "n_converted": at_step["n"][i], "median_s": median, "low": low, "high": high}
        row |= {"median_converters_s": at_step["median_time_s"][i], "is_small": n < min_n}
        log_rank = p = float("nan")
        if n >= min_n:
            log_rank, p = compare_survival(spells.assign(group=spells.index.isin(of_group.index)))
        rows.append(row | {"log_rank": log_rank, "p": p})
    table = pd.DataFrame(rows, columns=[*funnel.by, *_TIME_COLUMNS])
    table["p_adjusted"] = adjust_holm(table["p"])
    return table


def count_cohorts(funnel: Funnel, freq: Literal["D", "W", "M"] = "W", *, min_group: int = 1) -> pd.DataFrame:
    """Do those who start later convert better or worse?

    Parameters
    ----------
    funnel
        From `build_funnel`.
    freq
        One cohort per day, ISO week (from Monday) or month of the start, in UTC.
    min_group
        Where a cohort (of a group) has fewer starts, all become longer: weeks for days, months for weeks. Where a month
        has fewer still, there is no row: one that is left out alone would be found by subtraction.

    Returns
    -------
    pandas.DataFrame
        One row per group and period from the first start to the last, empty ones too: [the `by` columns], cohort (the
        period's first day), n (starts) = n_converted + n_lost + n_open, conversion (naive) with low and high (Wilson),
        n_mature, conversion_mature with mature_low and mature_high (Wilson), conversion_censored with censored_low and
        censored_high (at the window's end, or without a window at the longest time that the cohort was watched), and
        is_immature (more may come: the window is not over for all its starts, or, without a window, anyone is open or
        started less than `dormant_s` ago; or the period itself is not over).
    """
    import pandas as pd

    check_frequency("count_cohorts", freq)
    _check_by(funnel, _COHORT_COLUMNS)
    counted = _count_cohorts(funnel, freq)
    if not counted.empty and counted["n"].min() < min_group:
        longer = find_longer(freq)
        if longer is not None:
            return count_cohorts(funnel, longer, min_group=min_group)
        counted = counted.iloc[:0]
    if counted.empty:
        return pd.DataFrame(columns=[*funnel.by, *_COHORT_COLUMNS])
    counted = counted.set_index(pd.PeriodIndex(counted["_cohort"], freq=FREQUENCIES[freq]))
    span = pd.period_range(counted.index.min(), counted.index.max())
    is_over = span.end_time < pd.Timestamp(funnel.as_of)
    parts = [
        of_group.reindex(span).assign(cohort=span.start_time, _is_over=is_over, **place)
        for place, of_group in _split(funnel, counted)
    ]
    table = pd.concat(parts, ignore_index=True)
    counts = ["n", "n_converted", "n_open", "n_mature", "n_mature_converted", "_has_more"]
    table[counts] = table[counts].fillna(0).astype(int)
    table["n_lost"] = table["n"] - table["n_converted"] - table["n_open"]
    table["is_immature"] = (table["_has_more"] > 0) | ~table["_is_over"]
    _add_share(table, "naive", "n_converted", "n")
    _add_share(table, "mature", "n_mature_converted", "n_mature")
    names = {"conversion_naive": "conversion", "naive_low": "low", "naive_high": "high"}
    return table.rename(columns=names)[[*funnel.by, *_COHORT_COLUMNS]]


def _count_cohorts(funnel: Funnel, freq: str) -> pd.DataFrame:
    """Counts and censored conversion of each group and period that has starts."""
    import pandas as pd

    rules, last = funnel.rules, len(funnel.labels)
    units = funnel.units.mutate(_cohort=funnel.units.time_1.truncate(freq))
    keys = [*list_group_keys(funnel.by), "_cohort"]
    has_more = ~units.is_mature
    if rules.within_s is None:
        watched_us = ibis.literal(funnel.as_of).delta(units.time_1, unit="microsecond")
        has_more = units.is_open | (watched_us < rules.dormant_s * 1_000_000)
    is_done = units.reached == last
    counts = units.group_by(keys).agg(
        n=units.count(),
        n_converted=units.count(where=is_done),
        n_open=units.count(where=units.is_open),
        n_mature=units.count(where=units.is_mature),
        n_mature_converted=units.count(where=units.is_mature & is_done),
        _has_more=units.count(where=has_more),
    )
    counted: pd.DataFrame = counts.execute()
    if counted.empty:
        return counted
    estimated = []
    for key, spells in count_spells(units, rules, [last], funnel.as_of, keys=keys).groupby(keys):
        until_s = _longest(spells) if rules.horizon_s is None else rules.horizon_s
        estimated.append(dict(zip(keys, key, strict=True)) | _estimate_at(spells, until_s, funnel.rules.horizon_s))
    return counted.merge(pd.DataFrame(estimated), on=keys)


def describe_conversions(estimate: pd.DataFrame) -> str:
    """What do the three shares of `estimate_conversion` say? One sentence per row, each share with its base."""
    by = list(estimate.columns[: list(estimate.columns).index("step")])
    said = [_describe(row) for row in estimate.to_dict("records")]
    if not by:
        return "\n".join(text[:1].upper() + text[1:] for text in said)
    groups = [[name_group(row[name], name) for name in by] for row in estimate.to_dict("records")]
    return "\n".join(f"{' · '.join(group)}: {text}" for group, text in zip(groups, said, strict=True))


def _describe(row: dict[Any, Any]) -> str:
    """What do the shares of one row say? Begins with a small letter."""
    if not row["n_start"]:
        return _("of nobody, for nobody has started.")
    counts = {
        "n": row["n_start"],
        "converted": row["n_converted"],
        "share": format_share(row["conversion_naive"]),
        "label": format_name(row["label"]),
        "time": format_duration(row["horizon_s"]),
    }
    clauses = [
        _(
            "of {n} starts, {converted} ({share}) have reached {label} within {time} so far and {n_open} still may",
            n_open=row["n_open"],
            **counts,
        )
        if row["n_open"]
        else _(
            "of {n} starts, {converted} ({share}) have reached {label} within {time} so far and none still may",
            **counts,
        )
    ]
    if row["n_mature"]:
        clauses.append(_("of the {n} whose time is over, {share} did", n=row["n_mature"], share=_write(row, "mature")))
    if row["conversion_censored"] == row["conversion_censored"]:
        clauses.append(
            _("counting each start for as long as it was watched, {share} will.", share=_write(row, "censored"))
        )
    else:
        clauses.append(_("nobody was watched long enough to say how many will."))
    return "; ".join(clauses)


def _write(row: dict[Any, Any], name: str) -> str:
    return _(
        "{value} (95 % interval {interval})",
        value=format_share(row[f"conversion_{name}"]),
        interval=format_interval(row[f"{name}_low"], row[f"{name}_high"], format_share),
    )


def check_step(funnel: Funnel, step: int | None) -> int:
    """Which step is meant by its number? By none, the last."""
    last = len(funnel.labels)
    if step is not None and not 2 <= step <= last:
        raise RuleError(f"step must be a number from 2 to {last}, the steps after the start; found {step!r}")
    return step or last


def check_groups(where: str, names: Iterable[str], funnel: Funnel) -> list[str]:
    """Refuse what is no group of the funnel; return all that are."""
    known = list(dict.fromkeys(join_groups(funnel.table, funnel.by)))
    for name in names:
        if name not in known:
            raise RuleError(f'{where}: no group "{name}".{nearest(name, known)} The groups are {list_some(known)}')
    return known


def list_some(names: Sequence[str]) -> str:
    """As many names as an error can hold."""
    return ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")


def _check_by(funnel: Funnel, columns: Sequence[str]) -> None:
    taken = [name for name in funnel.by if name in columns]
    if taken:
        raise RuleError(f'"{taken[0]}" is a column of the answer itself; rename yours in read_events(columns=)')


def _check_horizon(text: str, funnel: Funnel) -> int:
    horizon_s, full_s = parse_duration(text, "at"), funnel.rules.horizon_s
    if full_s is not None and horizon_s > full_s:
        raise RuleError(
            f"estimate_conversion: at {text} lies beyond the window of the funnel, {format_duration(full_s)}: nothing "
            "converts there. Ask for less, or build the funnel with a longer `within`"
        )
    if full_s is None:
        first = funnel.units.time_1.min().execute()
        watched_s = (funnel.as_of - first).total_seconds() if first == first else horizon_s
        if horizon_s > watched_s:
            raise RuleError(
                f"estimate_conversion: at {text} is longer than anyone was watched, which is "
                f"{format_duration(watched_s)} from the first start to as_of. Ask for less"
            )
    return horizon_s


def _split(funnel: Funnel, rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of each group, in the order of the funnel's table, with the columns and values that name it."""
    keys = list_group_keys(funnel.by)
    if not keys:
        yield {}, rows
        return
    parts = dict(iter(rows.groupby(keys)))
    for group in funnel.table.loc[funnel.table["step"] == 1, list(funnel.by)].itertuples(index=False, name=None):
        yield dict(zip(funnel.by, group, strict=True)), parts[group]


def _count_by_horizon(funnel: Funnel, step: int, horizons: Sequence[int | None]) -> pd.DataFrame:
    """Counts per group; their names end in the horizon's place in the list."""
    units, time = funnel.units, funnel.units[f"time_{step}"]
    watched_us = ibis.literal(funnel.as_of).delta(units.time_1, unit="microsecond")
    may_come = units.is_open & time.isnull() & (units.reached < step)
    counts: dict[str, ibis.Value] = {}
    for i, horizon_s in enumerate(horizons):
        has_come, is_mature, is_open = time.notnull(), units.is_mature, may_come
        # At the window's end, or without one and no horizon given, the funnel itself has said who is mature and open.
        if horizon_s is not None and horizon_s != funnel.rules.horizon_s:
            has_come = time.delta(units.time_1, unit="microsecond") <= horizon_s * 1_000_000
            is_mature = watched_us >= horizon_s * 1_000_000
            is_open = may_come & ~is_mature
        counts |= {
            f"n_start_{i}": units.count(),
            f"n_converted_{i}": units.count(where=has_come),
            f"n_mature_{i}": units.count(where=is_mature),
            f"n_mature_converted_{i}": units.count(where=is_mature & has_come),
            f"n_open_{i}": units.count(where=is_open),
        }
    keys = list_group_keys(funnel.by)
    table: pd.DataFrame = (units.group_by(keys).agg(**counts) if keys else units.agg(**counts)).execute()
    return table


def _longest(spells: pd.DataFrame) -> int:
    return int(spells["duration_s"].max()) if len(spells) else 0


def _estimate_at(spells: pd.DataFrame, time_s: int, limit_s: int | None) -> dict[str, float]:
    if time_s != limit_s:
        # Waits have four digits, but for the window itself.
        time_s -= time_s % 10 ** max(len(str(time_s)) - 4, 0)
    found = estimate_incidence(spells, at=[time_s])[["share", "low", "high", "n_at_risk"]]
    names = ("conversion_censored", "censored_low", "censored_high", "n_at_risk")
    return dict(zip(names, found.iloc[0], strict=True))


def _add_share(table: pd.DataFrame, name: str, part: str, whole: str) -> None:
    bounded = bound_shares(table[part], table[whole])
    table[f"conversion_{name}"], table[f"{name}_low"], table[f"{name}_high"] = bounded
