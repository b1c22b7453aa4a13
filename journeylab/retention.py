"""Who comes back? Each share with those as its base who were watched for long enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, get_args

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.journeys import end_of_observation
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import pandas as pd

Period = Literal["D", "W", "M"]
Mode = Literal["on", "on_or_after"]
Clock = Literal["rolling", "calendar"]

_DAY_US = 86_400_000_000
_DAYS = {"D": 1, "W": 7, "M": 30}  # of a rolling period
FREQUENCIES = {"D": "D", "W": "W-SUN", "M": "M"}  # pandas names a week by its last day
_NO_GROUP = "(none)"
_MOST_NAMES = 20  # that an error lists
_OVERALL_COLUMNS = ("period", "n", "n_back", "share", "low", "high", "n_cohorts")
_TABLE_COLUMNS = ("cohort", "period", "n", "n_back", "share", "low", "high", "is_immature", "n_cohort")


@dataclass(frozen=True, eq=False)
class Retention:
    """The answer of `count_retention`.

    Attributes
    ----------
    table
        One row per cohort and period (and group), complete from period 0 to `n_periods`: [the groups], cohort (first
        day of the calendar period in which its customers started), period (0 is the starting one), n (customers whose
        time for this cell was watched to its end), n_back (of those, how many came back), share, low, high (95 %
        Wilson; null where n is 0), is_immature (n < n_cohort: the cell is not, or not for all, over), n_cohort.
    overall
        One row per period (and group): period, n and n_back (the sums over the cohorts), share (n_back / n, never the
        mean of the cohorts' shares), low, high, n_cohorts (how many cohorts have any customer in n).
    """

    start: tuple[str, ...] | None
    back: tuple[str, ...] | None
    period: Period
    mode: Mode
    clock: Clock
    n_periods: int
    by: tuple[str, ...]
    as_of: datetime
    table: pd.DataFrame
    overall: pd.DataFrame

    def _repr_html_(self) -> str:
        from journeylab.curves import draw_retention

        return draw_retention(self)._repr_html_()


def count_retention(
    steps: ibis.Table,
    *,
    start: str | Sequence[str] | None = None,
    back: str | Sequence[str] | None = None,
    period: Period = "W",
    mode: Mode = "on",
    clock: Clock = "rolling",
    n_periods: int = 8,
    by: str | Sequence[str] | None = None,
    min_group: int = 1,
    as_of: str | date | None = None,
) -> Retention:
    """Of the customers who started in the same period, how many come back after 1, 2, 3 … periods?

    Parameters
    ----------
    steps
        From `build_steps`.
    start
        The event(s) of which a customer's first is the start; default: the first event of all.
    back
        The event(s) that count as coming back; default: any. They must come after the start; at the start's own
        instant, only if (seq, event_id) says so. So period 0 tells who did anything more, not 100 %.
    period
        ``"D"`` days, ``"W"`` ISO weeks (from Monday), ``"M"`` calendar months; all in UTC.
    mode
        ``"on"`` (N-day, bounded): came back in that very period. ``"on_or_after"`` (unbounded): came back in that
        period or a later one, up to the end of period `n_periods`.
    clock
        ``"rolling"``: period k of a customer runs from k to k + 1 times 24 hours, 7 days or (months) 30 days after
        their own start; the end belongs to the next. ``"calendar"``: the k-th calendar period after that of the start.
    n_periods
        The last period.
    by
        Split the answer by these columns, as they stand at the start. A null is the group "(none)".
    min_group
        Where a cohort has fewer customers, all become longer: weeks for days, months for weeks. Where a month has fewer
        still, the answer has no rows.
    as_of
        End of observation (UTC); default: the last event of `steps`.

    Notes
    -----
    A cell counts a customer only if its whole period lies before `as_of`. With the rolling clock a young cohort's cell
    may hold its earlier customers only; with the calendar it holds all of them or none.

    "On or after" asked of all data to date, as elsewhere, flatters old cohorts: they had longer to come back. Here
    every customer gets the same time: the count ends with period `n_periods`, and customers whose period `n_periods`
    is not over yet are in no cell. The share then never rises from period to period, overall neither.

    Cohorts are always calendar periods. Those without a customer have no row. The first cohorts of a log hold
    customers who in truth started before it.
    """
    asked = _Question(_check_groups(steps, by), period, mode, clock, n_periods)
    starts_on = check_events(steps, start, "count_retention: start")
    returns_on = check_events(steps, back, "count_retention: back")
    end = end_of_observation(steps, as_of)
    seen = steps.filter(steps.timestamp <= end)
    members = _find_members(keep_events(seen, starts_on), asked, end)
    counts = members.mutate(watched=ibis.least(members.watched, n_periods + 1))
    sizes = counts.group_by(*asked.keys, "watched").agg(n=counts.count()).execute()
    if len(sizes) and sizes.groupby(asked.keys)["n"].sum().min() < min_group:
        longer = find_longer(period)
        if longer is not None:
            return count_retention(
                steps,
                start=start,
                back=back,
                period=longer,
                mode=mode,
                clock=clock,
                n_periods=n_periods,
                by=by,
                min_group=min_group,
                as_of=end,
            )
        sizes = sizes.iloc[:0]
    returned = _count_returned(keep_events(seen, returns_on), members, asked).execute()
    table = _tabulate_cells(sizes, returned, asked)
    overall = _pool(table, asked)
    table["cohort"] = dates_of(table["cohort"], period)
    names = dict(zip(asked.keys, asked.groups, strict=False))
    return Retention(
        start=starts_on,
        back=returns_on,
        period=period,
        mode=mode,
        clock=clock,
        n_periods=n_periods,
        by=asked.groups,
        as_of=end,
        table=table.rename(columns=names),
        overall=overall.rename(columns=names),
    )


@dataclass(frozen=True)
class _Question:
    groups: tuple[str, ...]
    period: Period
    mode: Mode
    clock: Clock
    n_periods: int

    def __post_init__(self) -> None:
        for name, kind in (("period", Period), ("mode", Mode), ("clock", Clock)):
            check_choice(f"count_retention: {name}", getattr(self, name), kind)
        if not isinstance(self.n_periods, int) or self.n_periods < 1:
            raise RuleError(f"count_retention: n_periods must be a whole number from 1; found {self.n_periods!r}")

    @property
    def keys(self) -> list[str]:
        """What a cohort is told by; the user's columns under names that none of ours has."""
        return [*(f"_by_{i}" for i in range(len(self.groups))), "cohort"]


def _find_members(starts: ibis.Table, asked: _Question, end: datetime) -> ibis.Table:
    """Each customer's start, cohort, and how many of their periods were watched to the end (below 1: none)."""
    groups = [starts[name].cast("string").fill_null(_NO_GROUP).argmin(starts.position) for name in asked.groups]
    first = starts.group_by("customer_id").agg(
        start_time=starts.timestamp.min(),
        start_rank=starts["rank"].min(),
        **dict(zip(asked.keys, groups, strict=False)),
    )
    first = first.mutate(cohort=number_of(first.start_time, asked.period))
    if asked.clock == "rolling":
        watched_us = ibis.literal(end).delta(first.start_time, unit="microsecond")
        return first.mutate(watched=watched_us // (_DAYS[asked.period] * _DAY_US))
    # The period that `as_of` lies in is not over.
    return first.mutate(watched=number_of_day(end, asked.period) - first.cohort)


def _count_returned(returns: ibis.Table, members: ibis.Table, asked: _Question) -> ibis.Table:
    """How many watched customers of each cohort came back in each period? "On or after": for the last time."""
    came = returns.select("customer_id", "timestamp", "rank").join(members, "customer_id")
    came = came.filter(came["rank"] > came.start_rank)
    if asked.clock == "rolling":
        passed_us = came.timestamp.delta(came.start_time, unit="microsecond")
        came = came.mutate(period=passed_us // (_DAYS[asked.period] * _DAY_US))
    else:
        came = came.mutate(period=number_of(came.timestamp, asked.period) - came.cohort)
    came = came.filter(came.period <= asked.n_periods)
    if asked.mode == "on":
        came = came.filter(came.watched > came.period)
        return came.group_by(*asked.keys, "period").agg(n_back=came.customer_id.nunique())
    came = came.filter(came.watched > asked.n_periods)
    last = came.group_by(*asked.keys, "customer_id").agg(period=came.period.max())
    return last.group_by(*asked.keys, "period").agg(n_back=last.count())


def _tabulate_cells(sizes: pd.DataFrame, returned: pd.DataFrame, asked: _Question) -> pd.DataFrame:
    import pandas as pd

    keys = [*asked.keys, "period"]
    cells = sizes.merge(pd.DataFrame({"period": range(asked.n_periods + 1)}), how="cross")
    is_watched = cells["watched"] > (cells["period"] if asked.mode == "on" else asked.n_periods)
    cells = cells.assign(n_cohort=cells["n"], n=cells["n"].where(is_watched, 0))
    table = cells.groupby(keys, as_index=False)[["n", "n_cohort"]].sum()
    table = table.merge(returned, on=keys, how="left")
    table["n_back"] = table["n_back"].fillna(0).astype("int64")
    if asked.mode == "on_or_after":
        table["n_back"] = table[::-1].groupby(asked.keys)["n_back"].cumsum()
    table["is_immature"] = table["n"] < table["n_cohort"]
    groups = asked.keys[:-1]
    if groups:
        # Largest group first, as in a funnel.
        table["_size"] = table.groupby(groups)["n_cohort"].transform("sum")
        table = table.sort_values(["_size", *keys], ascending=[False, *(True for _ in keys)])
    return add_share(table, "n_back")[[*groups, *_TABLE_COLUMNS]].reset_index(drop=True)


def _pool(table: pd.DataFrame, asked: _Question) -> pd.DataFrame:
    """Sum the cohorts: every customer weighs the same, so that a small cohort does not sway the whole."""
    groups = asked.keys[:-1]
    cells = table.assign(n_cohorts=table["n"] > 0).groupby([*groups, "period"], sort=False)
    overall = cells[["n", "n_back", "n_cohorts"]].sum()
    if not groups:
        # Without any customer there are no cohorts, and still a row per period.
        overall = overall.reindex(range(asked.n_periods + 1), fill_value=0).rename_axis("period")
    overall = add_share(overall.reset_index(), "n_back")
    return overall[[*groups, *_OVERALL_COLUMNS]]


def add_share(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Add the share of `part` in n, with Wilson's 95 % interval; null where n is 0."""
    share, low, high = bound_shares(table[part], table["n"])
    return table.assign(share=share, low=low, high=high)


def number_of(time: ibis.Value, period: Period) -> ibis.Value:
    """Which calendar period does a timestamp lie in? Numbered without gaps, as pandas does."""
    if period == "M":
        return (time.year().cast("int64") - 1970) * 12 + time.month() - 1
    days = time.date().delta(ibis.literal(date(1970, 1, 1)), unit="day")
    # The first day was a Thursday, in week 1.
    return (days + 3) // 7 + 1 if period == "W" else days


def number_of_day(time: datetime, period: Period) -> int:
    """The same of one time."""
    import pandas as pd

    return int(pd.Period(time, freq=FREQUENCIES[period]).ordinal)


def dates_of(numbers: pd.Series, period: Period) -> pd.Series:
    """On which day does each numbered period begin?"""
    import pandas as pd

    periods = pd.arrays.PeriodArray(numbers.to_numpy(dtype="int64"), dtype=pd.PeriodDtype(FREQUENCIES[period]))
    dates: pd.Series = pd.Series(periods, index=numbers.index).dt.to_timestamp()
    return dates


def keep_events(seen: ibis.Table, names: tuple[str, ...] | None) -> ibis.Table:
    """Keep the events of these names; None: all."""
    return seen if names is None else seen.filter(seen.event.isin(names))


def check_choice(name: str, value: object, kind: object) -> None:
    """Refuse what is none of a `Literal`'s values."""
    options = get_args(kind)
    if value not in options:
        raise RuleError(f"{name} must be one of {', '.join(options)}; found {value!r}.{nearest(str(value), options)}")


def find_longer(period: str) -> Period | None:
    """Which is the next longer period? None behind months."""
    longer: dict[str, Period] = {"D": "W", "W": "M"}
    return longer.get(period)


def check_frequency(where: str, freq: object) -> None:
    """Refuse what is no length of a period."""
    if freq not in FREQUENCIES:
        raise RuleError(f'{where}: freq must be "D" (day), "W" (week) or "M" (month); found {freq!r}')


def _check_groups(steps: ibis.Table, by: str | Sequence[str] | None) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys((by,) if isinstance(by, str) else by or ()))
    for name in groups:
        if name not in steps.columns:
            known, hint = ", ".join(steps.columns), nearest(name, steps.columns)
            raise RuleError(f'count_retention: no column "{name}" to split by.{hint} The columns are {known}')
        if name in {*_TABLE_COLUMNS, *_OVERALL_COLUMNS}:
            raise RuleError(
                f'count_retention: "{name}" is a column of the answer itself; rename yours in read_events(columns=)'
            )
    return groups


def check_events(steps: ibis.Table, given: str | Sequence[str] | None, argument: str) -> tuple[str, ...] | None:
    """Which events are meant? The log must know them; None: any event."""
    if given is None:
        return None
    names = tuple(dict.fromkeys((given,) if isinstance(given, str) else given))
    if not names:
        raise RuleError(f"{argument} must name at least one event; found {given!r}")
    events = steps.select("event").distinct()
    unknown = sorted(set(names) - set(events.filter(events.event.isin(names)).execute()["event"]))
    if unknown:
        known = sorted(events.execute()["event"])
        hints = "; ".join(f'"{name}"{nearest(name, known)}' for name in unknown)
        shown = ", ".join(known[:_MOST_NAMES]) + (" …" if len(known) > _MOST_NAMES else "")
        raise RuleError(
            f"{argument}: {len(unknown)} of {len(names)} names are no event of this log: {hints} – known are {shown}"
        )
    return names
