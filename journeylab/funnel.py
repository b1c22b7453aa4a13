"""How many go on from step to step, who is still on the way, and where the loss is out of line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Literal

import ibis

from journeylab.engine import median, store
from journeylab.errors import RuleError, nearest
from journeylab.formats import format_count, format_share
from journeylab.journeys import end_of_observation
from journeylab.rules import parse_duration

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Unit = Literal["customer", "journey", "session"]
_TABLE_COLUMNS = (
    *("step", "label", "n", "share_of_start", "share_of_previous", "low", "high", "n_lost", "n_open"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high", "median_time_s"),
)
_MOST_NAMES = 20  # that an error lists
_NO_GROUP = "(none)"
_UNIT_COLUMN = {"customer": "customer_id", "journey": "journey_id", "session": "session_id"}


@dataclass(frozen=True)
class FunnelRules:
    """What counts as going through the steps?

    Ordered: each step happens after the one before; other events may lie between. The clock starts at the unit's first
    event of step 1. A second event at the same instant counts as after the first only if (seq, event_id) says so.

    Parameters
    ----------
    steps
        At least two. Each an event, a stage (where no event has that name), or a tuple of alternatives.
    within
        Every step must happen at most this long after step 1, such as ``"7D"``. None: no limit.
    unit
        Who goes through: each customer once, each journey, or each session.
    dormant_after
        Without `within`: who has been silent for longer than this is lost, not still on the way.
        Default: 30 days for customers and journeys, 30 minutes for sessions.
    """

    steps: Sequence[str | Sequence[str]]
    within: str | None = None
    unit: Unit = "customer"
    dormant_after: str | None = None

    def __post_init__(self) -> None:
        given = [self.steps] if isinstance(self.steps, str) else list(self.steps)
        steps = tuple(step if isinstance(step, str) else tuple(step) for step in given)
        if len(steps) < 2 or not all(steps):
            raise RuleError(f"FunnelRules: steps must be a list of at least two events or stages; found {self.steps!r}")
        object.__setattr__(self, "steps", steps)
        if self.unit not in _UNIT_COLUMN:
            raise RuleError(f'FunnelRules: unit must be one of {", ".join(_UNIT_COLUMN)}; found "{self.unit}"')
        for name in ("within", "dormant_after"):
            if getattr(self, name) is not None:
                parse_duration(getattr(self, name), name)

    @property
    def within_s(self) -> int | None:
        """The window in seconds."""
        return None if self.within is None else parse_duration(self.within, "within")

    @property
    def dormant_s(self) -> int:
        """The silence in seconds after which a unit without a window is lost."""
        return parse_duration(self.dormant_after or ("30m" if self.unit == "session" else "30D"), "dormant_after")


@dataclass(frozen=True, eq=False)
class Funnel:
    """The answer of `build_funnel`.

    Attributes
    ----------
    table
        One row per step (and group): [the group], step (from 1), label, n, share_of_start, share_of_previous, low and
        high (95 % Wilson interval of share_of_start), n_lost, n_open, n_mature, conversion_mature, mature_low,
        mature_high, median_time_s (from step 1, among those who reached the step).
        ``n = n of the next step + n_lost + n_open`` in each row.
    units
        Ibis table, one row per unit that started: unit, customer_id, [group], reached (the furthest step),
        reached_position (of that step's event in the customer's history), is_open, is_mature, time_1, time_2, …
    """

    rules: FunnelRules
    by: str | None
    as_of: datetime
    labels: tuple[str, ...]
    table: pd.DataFrame
    units: ibis.Table

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the funnel on a matplotlib axes."""
        from journeylab.plots import plot_funnel

        return plot_funnel(self, ax=ax)

    def _repr_html_(self) -> str:
        from journeylab.svg_funnel import draw_funnel

        return draw_funnel(self)._repr_html_()


def build_funnel(
    steps: ibis.Table,
    rules: FunnelRules | Sequence[str | Sequence[str]],
    *,
    by: str | None = None,
    as_of: str | date | None = None,
) -> Funnel:
    """How many units reach each step, how many are lost, and how many are still on the way?

    Parameters
    ----------
    steps
        From `build_steps`.
    rules
        `FunnelRules`, or just their steps.
    by
        Split the answer by this column, as it stands at the unit's first event of step 1 (so that a unit is in one
        group for good). A null is the group "(none)".
    as_of
        End of observation (UTC); default: the last event of `steps`.

    Returns
    -------
    Funnel
        See there; the queries have run.

    Notes
    -----
    A unit that stopped before the last step is *open* while its time is not over: until `within` has passed since its
    start, or, without a window, until it has been silent for `dormant_after`. *Mature* figures look only at starts
    whose whole window lies before `as_of` (null without a window).
    """
    rules = rules if isinstance(rules, FunnelRules) else FunnelRules(rules)
    if by is not None and by not in steps.columns:
        columns = ", ".join(steps.columns)
        raise RuleError(
            f'build_funnel: no column "{by}" to split by.{nearest(by, steps.columns)} The columns are {columns}'
        )
    if by in _TABLE_COLUMNS:
        raise RuleError(f'build_funnel: "{by}" is a column of the answer itself; rename yours in read_events(columns=)')
    events = _find_events(steps, rules)
    end = end_of_observation(steps, as_of)
    seen = steps.filter(steps.timestamp <= end)
    walk = _follow(_mark(seen, rules, events), rules, by)
    units = store(_judge(walk, seen, rules, end), steps.get_backend())
    labels = tuple(step if isinstance(step, str) else " / ".join(step) for step in rules.steps)
    return Funnel(rules, by, end, labels, _tabulate(units, labels, by), units)


def _find_events(steps: ibis.Table, rules: FunnelRules) -> set[str]:
    """Which names are events of this log? The steps' other names are stages, or the rules do not fit the log."""
    names = {name: None for step in rules.steps for name in ((step,) if isinstance(step, str) else step)}
    found = set(_distinct(steps.filter(steps.event.isin(list(names))).event))
    if found == set(names):
        return found
    stages = set(_distinct(steps.stage))
    unknown = [name for name in names if name not in found | stages]
    if unknown:
        options = sorted({*_distinct(steps.event), *stages})
        hints = "; ".join(f'"{name}"{nearest(name, options)}' for name in unknown)
        shown = ", ".join(options[:_MOST_NAMES]) + (" …" if len(options) > _MOST_NAMES else "")
        raise RuleError(
            f"FunnelRules: {len(unknown)} of {len(names)} names are neither an event nor a stage of this log: {hints} "
            f"– known are {shown}"
        )
    return found


def _mark(seen: ibis.Table, rules: FunnelRules, events: set[str]) -> ibis.Table:
    """Keep the events that any step names, with one flag per step."""

    def is_step(step: str | Sequence[str]) -> ibis.Value:
        alternatives = (step,) if isinstance(step, str) else step
        named = [name for name in alternatives if name in events]
        stages = [name for name in alternatives if name not in events]
        flag = seen.event.isin(named) if named else ibis.literal(False)
        return flag | seen.stage.isin(stages).fill_null(False) if stages else flag

    flags = {f"_step_{i}": is_step(step) for i, step in enumerate(rules.steps, 1)}
    marked = seen.mutate(_unit=seen[_UNIT_COLUMN[rules.unit]], **flags)
    return marked.filter(ibis.or_(*(marked[name] for name in flags)))


def _distinct(column: ibis.Value) -> list[str]:
    values = column.name("value").as_table().distinct().execute()["value"]
    return [str(value) for value in values.dropna()]


def _follow(marked: ibis.Table, rules: FunnelRules, by: str | None) -> ibis.Table:
    """Walk the steps one by one: the earliest event of each that comes after the earliest of the one before."""
    starts = marked.filter(marked["_step_1"])
    # The customer of a journey or session; of a customer, itself.
    owner = {} if rules.unit == "customer" else {"customer_id": starts.customer_id.min()}
    first = starts.group_by("_unit").agg(
        rank=starts["rank"].min(), time=starts.timestamp.min(), position=starts.position.min(), **owner
    )
    arrivals = [first.mutate(start=first.time)]
    for i in range(2, len(rules.steps) + 1):
        # Each step looks only at those who came to the one before; what they carry along is small.
        here = marked.filter(marked[f"_step_{i}"]).select("_unit", "rank", "timestamp", "position")
        later = here.join(arrivals[-1].select("_unit", "start", _before="rank"), "_unit")
        later = later.filter(later["rank"] > later["_before"])
        if rules.within_s is not None:
            later = later.filter(later.timestamp.delta(later.start, unit="microsecond") <= rules.within_s * 1_000_000)
        arrivals.append(
            later.group_by("_unit").agg(
                rank=later["rank"].min(),
                time=later.timestamp.min(),
                position=later.position.min(),
                start=later.start.min(),
            )
        )
    walk = first.rename(time_1="time", position_1="position").drop("rank")
    if rules.unit == "customer":
        walk = walk.mutate(customer_id=walk["_unit"])
    if by is not None:
        groups = starts.select("_unit", position_1="position", _group=starts[by].cast("string").fill_null(_NO_GROUP))
        walk = walk.join(groups, ["_unit", "position_1"])
    for i, arrival in enumerate(arrivals[1:], 2):
        reached = arrival.select("_unit", **{f"time_{i}": "time", f"position_{i}": "position"})
        walk = walk.left_join(reached, "_unit").drop("_unit_right")
    return walk


def _judge(walk: ibis.Table, seen: ibis.Table, rules: FunnelRules, end: datetime) -> ibis.Table:
    """Say of each unit how far it came and whether its time is over."""
    last_step = len(rules.steps)
    reached = reduce(add, (walk[f"position_{i}"].notnull().cast("int64") for i in range(1, last_step + 1)))
    furthest = ibis.coalesce(*(walk[f"position_{i}"] for i in range(last_step, 0, -1)))
    walk = walk.mutate(reached=reached, reached_position=furthest)
    observed_us = ibis.literal(end).delta(walk.time_1, unit="microsecond")
    if rules.within_s is not None:
        is_mature = observed_us >= rules.within_s * 1_000_000
        is_open = ~is_mature
        deadline = walk.time_1 + ibis.interval(seconds=rules.within_s)
    else:
        last = seen.group_by(_unit=seen[_UNIT_COLUMN[rules.unit]]).agg(_last=seen.timestamp.max())
        walk = walk.join(last, "_unit")
        is_mature = ibis.literal(False)
        is_open = ibis.literal(end).delta(walk["_last"], unit="microsecond") <= rules.dormant_s * 1_000_000
        deadline = walk["_last"] + ibis.interval(seconds=rules.dormant_s)
    group = {"group": walk["_group"]} if "_group" in walk.columns else {}
    times = {name: walk[name] for name in walk.columns if name.startswith("time_")}
    return walk.select(
        unit=walk["_unit"],
        customer_id=walk.customer_id,
        **group,
        reached=walk.reached,
        reached_position=walk.reached_position,
        is_open=is_open & (walk.reached < last_step),
        is_mature=is_mature,
        lost_time=ibis.ifelse(is_open | (walk.reached == last_step), None, deadline),
        **times,
    )


def _tabulate(units: ibis.Table, labels: tuple[str, ...], by: str | None) -> pd.DataFrame:
    import pandas as pd

    counted = _count_reached(units, len(labels))
    wide = (units.group_by("group").agg(**counted) if by else units.agg(**counted)).execute()
    if by:
        wide = wide.sort_values(["n_1", "group"], ascending=[False, True], ignore_index=True)
    parts = []
    for i, label in enumerate(labels, 1):
        n, n_open = wide[f"n_{i}"], wide[f"open_{i}"]
        part = {
            "step": i,
            "label": label,
            "n": n,
            "n_lost": n - wide.get(f"n_{i + 1}", n) - n_open,
            "n_open": n_open,
            "n_mature": wide["mature_1"],
            "median_time_s": wide[f"median_{i}"].astype(float) if i > 1 else float("nan"),
            "_start": wide["n_1"],
            "_previous": wide[f"n_{max(i - 1, 1)}"],
            "_n_mature_reached": wide[f"mature_{i}"],
        }
        parts.append(pd.DataFrame({by: wide["group"], **part} if by else part))
    # Row by row of `wide`, that is group by group.
    return _add_shares(pd.concat(parts).sort_index(kind="stable"), by)


def _count_reached(units: ibis.Table, n_steps: int) -> dict[str, ibis.Value]:
    con = units.get_backend()
    counted: dict[str, ibis.Value] = {}
    for i in range(1, n_steps + 1):
        has_reached = units.reached >= i
        counted |= {
            f"n_{i}": units.count(where=has_reached),
            f"open_{i}": units.count(where=units.is_open & (units.reached == i)),
            f"mature_{i}": units.count(where=units.is_mature & has_reached),
            f"median_{i}": median(units[f"time_{i}"].delta(units.time_1, unit="microsecond") / 1e6, con),
        }
    return counted


def _add_shares(table: pd.DataFrame, by: str | None) -> pd.DataFrame:
    from statsmodels.stats.proportion import proportion_confint

    def share(part: str, whole: str) -> pd.Series:
        return table[part] / table[whole].where(table[whole] > 0)

    def interval(part: str, whole: str) -> tuple[pd.Series, pd.Series]:
        low, high = proportion_confint(table[part], table[whole].where(table[whole] > 0), method="wilson")
        return low, high

    table["share_of_start"] = share("n", "_start")
    table["share_of_previous"] = share("n", "_previous")
    table["low"], table["high"] = interval("n", "_start")
    table["conversion_mature"] = share("_n_mature_reached", "n_mature")
    table["mature_low"], table["mature_high"] = interval("_n_mature_reached", "n_mature")
    return table[[*([by] if by else []), *_TABLE_COLUMNS]].reset_index(drop=True)


def describe_conversion(funnel: Funnel) -> str:
    """How many of those who started have finished, are lost, and are still on the way? One sentence; they add up."""
    first, last = funnel.table[funnel.table["step"] == 1], funnel.table[funnel.table["step"] == len(funnel.labels)]
    started, finished = int(first["n"].sum()), int(last["n"].sum())
    share = f" ({format_share(finished / started)})" if started else ""
    return (
        f"{format_count(finished)} of {format_count(started)} {funnel.rules.unit}s who started at {funnel.labels[0]} "
        f"reached {funnel.labels[-1]}{share}; {format_count(funnel.table['n_lost'].sum())} are lost, "
        f"{format_count(funnel.table['n_open'].sum())} are still on the way."
    )
