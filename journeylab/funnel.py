"""How many go on from step to step, and who is still on the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Literal

import ibis

from journeylab.conditions import build_condition, find_columns
from journeylab.engine import is_in_process, median, round_wait, store
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.formats import format_name, format_share
from journeylab.funnel_rules import UNIT_COLUMN, FunnelRules, Step, StepLike
from journeylab.journeys import end_of_observation
from journeylab.language import gettext as _
from journeylab.shares import bound_shares
from journeylab.walks import EXCLUDED, find_walks, held_columns
from journeylab.walks_in_memory import find_walks_in_memory
from journeylab.words import head_of, unit_of, word_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_TABLE_COLUMNS = (
    *("step", "label", "n", "share_of_start", "share_of_previous", "low", "high", "n_lost", "n_open"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high", "median_time_s"),
)
_MOST_NAMES = 20  # that an error lists
_NO_GROUP, _OTHER, _NOT_REACHED = "(none)", "(other)", "(not reached)"
_SEPARATOR = " · "


@dataclass(frozen=True, eq=False)
class Funnel:
    """The answer of `build_funnel`.

    Attributes
    ----------
    by
        The columns by which the answer is split; empty for one answer.
    table
        One row per step (and group): [the groups], step (from 1), label, n, share_of_start, share_of_previous (of the
        required step before), low and high (95 % Wilson interval of share_of_start), n_lost, n_open, n_mature,
        conversion_mature, mature_low, mature_high (Wilson), conversion_censored, censored_low, censored_high (product
        limit at the window's end; without a window the cumulative incidence at the end, where being lost competes),
        median_time_s (from the start, among those who reached the step).
        ``n = n of the next required step + n_lost + n_open`` in each row of a required step.
    units
        Ibis table, one row per unit that started: unit (the id under which its events are found), [attempt],
        customer_id (who started), [group; group_1, … of several columns], reached (the furthest required step),
        reached_position (of that step's event among the unit's), is_open, is_mature, lost_time (when its time was over;
        null for who finished or is open), time_1, time_2, … (null where not reached).
    events
        Which of the names in the rules are events of this log; the others are stages.
    """

    rules: FunnelRules
    by: tuple[str, ...]
    as_of: datetime
    labels: tuple[str, ...]
    table: pd.DataFrame
    units: ibis.Table
    events: frozenset[str]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the funnel on a matplotlib axes."""
        from journeylab.plots import plot_funnel

        return plot_funnel(self, ax=ax)

    def _repr_html_(self) -> str:
        from journeylab.svg_funnel import draw_funnel

        return draw_funnel(self)._repr_html_()


def build_funnel(
    steps: ibis.Table,
    rules: FunnelRules | Sequence[StepLike],
    *,
    by: str | Sequence[str] | None = None,
    by_at: Literal["first", "last"] | int = 1,
    top: int | None = None,
    min_group: int = 1,
    as_of: str | date | None = None,
    known: Collection[str] = (),
) -> Funnel:
    """How many units reach each step, how many are lost, and how many are still on the way?

    Parameters
    ----------
    steps
        From `build_steps`.
    rules
        `FunnelRules`, or just their steps.
    by
        Split the answer by one or several columns. A unit is in one group for good; a null is the group "(none)".
    by_at
        At which step the columns are read: a number (default 1, the start; who did not get there is "(not reached)"),
        or the ``"first"`` or ``"last"`` step of the unit's walk at which the column is known. All but 1 look at what
        came after the start: such groups describe, but their conversions cannot be compared as if given beforehand.
    top
        Keep this many groups, those with the most starts; the rest become "(other)".
    min_group
        Groups with fewer starts become "(other)" too, and with them the next larger ones until "(other)" has as many:
        for reports that are shared. Where even all together have fewer, they stay one group.
    as_of
        End of observation (UTC); default: the last event of `steps`.
    known
        Names that are events, though `steps` may have none of them: those of a whole log, of which `steps` is a part.

    Returns
    -------
    Funnel
        See there; the queries have run.

    Notes
    -----
    A unit that stopped before the last step is *open* while its time is not over: until `within` has passed, or,
    without a window, until it has been silent for `dormant_after`. With entry "latest" or "best" it is open while any
    of its walks is. *Mature* figures look only at starts whose whole window lies before `as_of` (null without a
    window), and at units that are not still on the way by another start. With entry "latest" or "best" the start is
    chosen by what followed, and who tries again is watched longer: for rates without that bias take
    ``entry="first"`` or ``unit="attempt"``.
    """
    rules = rules if isinstance(rules, FunnelRules) else FunnelRules(rules)
    columns = (by,) if isinstance(by, str) else tuple(by or ())
    if not isinstance(steps, ibis.Table) or not {"position", "rank"} <= set(steps.columns):
        raise SchemaError("build_funnel: these are no steps; pass events through read_events and build_steps first")
    _check_columns(steps, rules, columns, by_at, top, min_group)
    events = _find_events(steps, rules, known)
    end = end_of_observation(steps, as_of)
    seen = find_unit_events(steps, rules, end)
    marked = _mark(seen, rules, events, columns)
    con = steps.get_backend()
    find = find_walks_in_memory if is_in_process(con) else find_walks
    at_steps = [by_at] if isinstance(by_at, int) else range(1, len(rules.steps) + 1)
    walks = find(marked, rules, end, at_steps)
    units = store(_describe_units(walks, rules, columns, by_at, end), con)
    if "customer_id" not in units.columns:
        # The unit is the customer: stored once.
        units = units.mutate(customer_id=units.unit).relocate("customer_id", before="reached")
    units = _keep_largest(units, columns, top, min_group)
    return Funnel(rules, columns, end, rules.labels, _tabulate(units, rules, columns, end), units, events)


def find_unit_events(steps: ibis.Table, rules: FunnelRules, end: datetime) -> ibis.Table:
    """Which events belong to each unit, in its order, up to the end of observation?

    Adds _unit; position and rank are an account's own where the unit is one.
    """
    seen = steps.filter(steps.timestamp <= end)
    seen = seen.mutate(_unit=seen[UNIT_COLUMN[rules.unit]])
    if rules.unit == "account":
        # Several customers' histories become one: their events are ordered anew.
        seen = seen.filter(seen["_unit"].notnull())
        keys = [name for name in ("timestamp", "seq", "event_id") if name in seen.columns]
        full = [*keys, "customer_id", "position"]
        seen = seen.mutate(
            rank=ibis.dense_rank().over(ibis.window(group_by="_unit", order_by=keys)) + 1,
            position=ibis.row_number().over(ibis.window(group_by="_unit", order_by=full)) + 1,
        )
    return seen


def _check_columns(
    steps: ibis.Table, rules: FunnelRules, by: tuple[str, ...], by_at: str | int, top: int | None, min_group: int
) -> None:
    named = {
        "by=": by,
        "hold_constant": rules.hold_constant,
        'unit="account"': ("account_id",) if rules.unit == "account" else (),
        "a condition": [name for step in (*rules.walk_steps, *rules.excluded) for name in _columns_of(step)],
    }
    for where, names in named.items():
        for name in names:
            if name not in steps.columns:
                shown = ", ".join(name for name in steps.columns if not name.startswith("_"))
                # A journey is no account, however alike the names are.
                hint = "" if where == 'unit="account"' else nearest(name, steps.columns)
                raise RuleError(f'build_funnel: {where} needs a column "{name}".{hint} The columns are {shown}')
    taken = [name for name in by if name in _TABLE_COLUMNS]
    if taken:
        raise RuleError(
            f'build_funnel: "{taken[0]}" is a column of the answer itself; rename yours in read_events(columns=)'
        )
    if len(set(by)) < len(by):
        raise RuleError(f"build_funnel: by= names a column twice: {', '.join(by)}")
    if by_at not in ("first", "last") and not (isinstance(by_at, int) and 1 <= by_at <= len(rules.steps)):
        raise RuleError(
            f'build_funnel: by_at must be "first", "last" or a step from 1 to {len(rules.steps)}; found {by_at!r}'
        )
    for name, given in (("top", top), ("min_group", min_group)):
        if given is not None and given < 1:
            raise RuleError(f"build_funnel: {name} must be at least 1, found {given}")


def _columns_of(step: Step) -> list[str]:
    return find_columns(step.where, f'step "{step.label}"') if step.where else []


def _find_events(steps: ibis.Table, rules: FunnelRules, known: Collection[str]) -> frozenset[str]:
    """Which names are events of this log? The rules' other names are stages, or the rules do not fit the log."""
    names = {name: None for step in (*rules.walk_steps, *rules.excluded) for name in step.names}
    wanted = ibis.array(list(names)).unnest().name("event").as_table()
    # All events first, which costs less than to look for these in every row.
    found = frozenset(steps.select("event").distinct().semi_join(wanted, "event").execute()["event"])
    found |= set(names).intersection(known)
    if found == set(names):
        return found
    stages = set(_distinct(steps.stage))
    unknown = [name for name in names if name not in found | stages]
    if unknown:
        options = sorted({*_distinct(steps.event), *stages})
        hints = "; ".join(f'"{format_name(name)}"{nearest(name, options)}' for name in unknown)
        shown = ", ".join(map(format_name, options[:_MOST_NAMES])) + (" …" if len(options) > _MOST_NAMES else "")
        raise RuleError(
            f"FunnelRules: {len(unknown)} of {len(names)} names are neither an event nor a stage of this log: {hints} "
            f"– known are {shown}"
        )
    return found


def _distinct(column: ibis.Value) -> list[str]:
    values = column.name("value").as_table().distinct().execute()["value"]
    return [str(value) for value in values.dropna()]


def _mark(seen: ibis.Table, rules: FunnelRules, events: frozenset[str], by: tuple[str, ...]) -> ibis.Table:
    """Which steps can each event be? Keep no others, unless they matter too."""
    held = dict(zip(held_columns(rules), (seen[name].cast("string") for name in rules.hold_constant), strict=True))
    groups = {f"_by_{i}": seen[name].cast("string") for i, name in enumerate(by, 1)}
    owner = {} if UNIT_COLUMN[rules.unit] == "customer_id" else {"customer_id": seen.customer_id}
    # Where time alone orders the events it is their rank, and one column less to carry.
    rank = seen["rank"] if {"seq", "event_id"} & set(seen.columns) else seen.timestamp
    steps = [*((EXCLUDED, step) for step in rules.excluded), *enumerate(rules.walk_steps, 1)]
    bits = _collect_bits(seen, steps, events)
    marked = seen.select("_unit", "position", rank=rank, time=seen.timestamp, _steps=bits, **owner, **held, **groups)
    # With order "strict" others end a walk; without a window the last of all shows how long a unit has been silent.
    keeps_all = rules.order == "strict" or rules.within_s is None
    return marked if keeps_all else marked.filter(marked["_steps"] > 0)


def _collect_bits(seen: ibis.Table, steps: Sequence[tuple[int, Step]], events: frozenset[str]) -> ibis.IntegerValue:
    """One whole number for each event: bit `i` says that it can be step `i`."""
    of_event: dict[str, int] = {}
    others = []
    for i, step in steps:
        if step.where or not events.issuperset(step.names):
            others.append(ibis.ifelse(_is_step(seen, step, events), 1 << i, 0))
        else:
            of_event |= {name: of_event.get(name, 0) | 1 << i for name in step.names}
    names: dict[int, list[str]] = {}
    for name, bits in of_event.items():
        names.setdefault(bits, []).append(name)
    # One look at the event answers for all steps that are events.
    plain = [ibis.cases(*((seen.event.isin(of), bits) for bits, of in names.items()), else_=0)] if names else []
    return reduce(or_, [*plain, *others])


def _is_step(seen: ibis.Table, step: Step, events: frozenset[str]) -> ibis.BooleanValue:
    named = [name for name in step.names if name in events]
    stages = [name for name in step.names if name not in events]
    flag = seen.event.isin(named) if named else ibis.literal(False)
    flag = flag | seen.stage.isin(stages).fill_null(False) if stages else flag
    return flag & build_condition(step.where, seen, f'step "{step.label}"') if step.where else flag


def mark_steps(seen: ibis.Table, funnel: Funnel) -> dict[int, ibis.BooleanValue]:
    """Which events can be step 1, 2, …? With order "any" a step of the answer is any of the rules' steps."""
    flags = {i: _is_step(seen, step, funnel.events) for i, step in enumerate(funnel.rules.walk_steps, 1)}
    return dict.fromkeys(flags, ibis.or_(*flags.values())) if funnel.rules.order == "any" else flags


def _describe_units(
    walks: ibis.Table, rules: FunnelRules, by: tuple[str, ...], by_at: str | int, end: datetime
) -> ibis.Table:
    """Name each walk's unit and group, and say whether its whole window was watched."""
    is_mature = ibis.literal(False)
    if rules.horizon_s is not None:
        is_mature = (
            ibis.literal(end).delta(walks.time_1, unit="microsecond") >= rules.horizon_s * 1_000_000
        ) & ~walks.is_open
    walks = _add_groups(walks.mutate(is_mature=is_mature), rules, len(by), by_at)
    return walks.select(
        *(["attempt"] if rules.unit == "attempt" else []),
        *(["customer_id"] if "customer_id" in walks.columns else []),
        *(*dict.fromkeys((*(["group"] if by else []), *list_group_keys(by))), "reached", "reached_position"),
        *("is_open", "is_mature", "lost_time", *(f"time_{i}" for i in range(1, len(rules.steps) + 1))),
        unit="_unit",
    ).relocate("unit")


def _add_groups(walks: ibis.Table, rules: FunnelRules, n_columns: int, by_at: str | int) -> ibis.Table:
    """Of the columns of `by` as each step has them, take the wanted ones."""
    if not n_columns:
        return walks
    order = [by_at] if isinstance(by_at, int) else list(range(1, len(rules.steps) + 1))
    order = order[::-1] if by_at == "last" else order
    known = {
        f"group_{i}": ibis.coalesce(*(walks[f"_by_{i}_{k}"] for k in order)).fill_null(_NO_GROUP)
        for i in range(1, n_columns + 1)
    }
    if isinstance(by_at, int) and by_at > 1:
        has_come = walks[f"time_{by_at}"].notnull()
        known = {name: ibis.ifelse(has_come, value, _NOT_REACHED) for name, value in known.items()}
    walks = walks.mutate(**known)
    return walks.mutate(group=ibis.literal(_SEPARATOR).join([walks[name] for name in known]))


def list_group_keys(by: Sequence[str]) -> list[str]:
    """Under which names does `Funnel.units` hold the columns of `by`?"""
    return ["group"] if len(by) == 1 else [f"group_{i}" for i in range(1, len(by) + 1)]


def _keep_largest(units: ibis.Table, by: tuple[str, ...], top: int | None, min_group: int) -> ibis.Table:
    if not by or (top is None and min_group == 1):
        return units
    names = dict.fromkeys(("group", *list_group_keys(by)))
    sizes = units.group_by("group").agg(n=units.count()).order_by(ibis.desc("n"), "group").execute()
    n_kept = min(len(sizes) if top is None else top, int((sizes["n"] >= min_group).sum()))
    while 0 < n_kept < len(sizes) and sizes["n"].iloc[n_kept:].sum() < min_group:
        n_kept -= 1
    is_large = units.group.isin(sizes["group"].head(n_kept).tolist())
    return units.mutate(**{name: ibis.ifelse(is_large, units[name], _OTHER) for name in names})


def join_groups(table: pd.DataFrame, by: tuple[str, ...]) -> pd.Series:
    """What is the group of each row called? As in `Funnel.units`; "" where nothing is split."""
    import pandas as pd

    if not by:
        return pd.Series("", index=table.index, dtype=object)
    return table[by[0]] if len(by) == 1 else pd.Series(map(_SEPARATOR.join, table[list(by)].to_numpy()), table.index)


def merge_groups(funnel: Funnel) -> tuple[pd.DataFrame, str | None]:
    """The funnel's table with one column for the group, however many `by` has, and its name (None: no groups)."""
    if len(funnel.by) < 2:
        return funnel.table, funnel.by[0] if funnel.by else None
    name, merged = _SEPARATOR.join(funnel.by), join_groups(funnel.table, funnel.by)
    return funnel.table.drop(columns=list(funnel.by)).assign(**{name: merged}), name


def _tabulate(units: ibis.Table, rules: FunnelRules, by: tuple[str, ...], end: datetime) -> pd.DataFrame:
    import pandas as pd

    keys = list_group_keys(by)
    counted = _count_reached(units, rules)
    wide = (units.group_by(keys).agg(**counted) if by else units.agg(**counted)).execute()
    names = dict(zip(keys, by, strict=True))
    wide = wide.sort_values(["n_1", *keys], ascending=[False, *([True] * len(keys))], ignore_index=True)
    wide = wide.rename(columns=names)
    censored = _estimate_censored(units, rules, keys, end)
    parts = []
    for i, label in enumerate(rules.labels, 1):
        n, n_open = wide[f"n_{i}"], wide[f"open_{i}"]
        following = next((j for j in rules.required if j > i), i)
        previous = max((j for j in rules.required if j < i), default=1)
        parts.append(
            pd.DataFrame(
                {
                    **{name: wide[name] for name in by},
                    "step": i,
                    "label": label,
                    "n": n,
                    "n_lost": n - wide[f"n_{following}"] - n_open if i in rules.required else 0,
                    "n_open": n_open,
                    "n_mature": wide["mature_1"],
                    "median_time_s": wide[f"median_{i}"].astype(float) if i > 1 else float("nan"),
                    "_start": wide["n_1"],
                    "_previous": wide[f"n_{previous}"],
                    "_n_mature_reached": wide[f"mature_{i}"],
                }
            )
        )
    # Row by row of `wide`, that is group by group.
    table = pd.concat(parts).sort_index(kind="stable")
    return _add_shares(table.merge(censored.rename(columns=names), on=[*by, "step"], how="left"), by)


def _count_reached(units: ibis.Table, rules: FunnelRules) -> dict[str, ibis.Value]:
    con = units.get_backend()
    counted: dict[str, ibis.Value] = {}
    for i in range(1, len(rules.steps) + 1):
        has_reached = units[f"time_{i}"].notnull()
        counted |= {
            f"n_{i}": units.count(where=has_reached),
            f"open_{i}": units.count(where=units.is_open & (units.reached == i)),
            f"mature_{i}": units.count(where=units.is_mature & has_reached),
        }
        if i > 1:
            counted[f"median_{i}"] = median(units[f"time_{i}"].delta(units.time_1, unit="microsecond") / 1e6, con)
    return counted


def count_spells(
    units: ibis.Table, rules: FunnelRules, steps: Sequence[int], end: datetime, *, keys: Sequence[str] = ()
) -> pd.DataFrame:
    """How long was each unit watched on its way to each of these steps, and how did that end?

    Returns
    -------
    pandas.DataFrame
        One row per distinct spell: step, [keys], duration_s (from the start, as `round_wait` has it), ended (1 the
        step, 2 lost for good or finished without it, 0 still waiting), n. With a window nobody is lost before it is
        over: until when each start is watched is known beforehand (`end`, at most the window), so all stay at risk to
        that time, whatever else happens to them.
    """
    watched_us = ibis.literal(end).delta(units.time_1, unit="microsecond")
    if rules.horizon_s is not None:
        until_us = ibis.least(watched_us, rules.horizon_s * 1_000_000)
        other = ibis.literal(0, "int8")
    else:
        over = ibis.coalesce(units.lost_time, units[f"time_{len(rules.steps)}"])
        until_us = ibis.coalesce(over.delta(units.time_1, unit="microsecond"), watched_us)
        other = ibis.ifelse(over.notnull(), 2, 0).cast("int8")
    parts = []
    for step in steps:
        time = units[f"time_{step}"]
        # Who started has come to the start.
        wait_us, ended = ibis.literal(0, "int64"), ibis.literal(1, "int8")
        if step > 1:
            wait_us = ibis.coalesce(time.delta(units.time_1, unit="microsecond"), until_us)
            ended = ibis.ifelse(time.notnull(), ended, other)
        parts.append(units.select(*keys, step=ibis.literal(step, "int8"), wait_us=wait_us, ended=ended))
    waits = ibis.union(*parts) if len(parts) > 1 else parts[0]
    spells = waits.select("step", *keys, "ended", duration_s=round_wait(waits.wait_us, rules.horizon_s))
    counted: pd.DataFrame = spells.group_by("step", *keys, "duration_s", "ended").agg(n=spells.count()).execute()
    return counted


def _estimate_censored(units: ibis.Table, rules: FunnelRules, keys: list[str], end: datetime) -> pd.DataFrame:
    """The censored conversion of each group and step, at the end of the window or of what was seen."""
    import pandas as pd

    from journeylab.survival import estimate_incidence

    rows = []
    spells = count_spells(units, rules, range(1, len(rules.steps) + 1), end, keys=keys)
    for place, part in spells.groupby([*keys, "step"]):
        horizon = part["duration_s"].max() if rules.horizon_s is None else rules.horizon_s
        found = estimate_incidence(part, at=[horizon])[["share", "low", "high"]]
        rows.append((*place, *found.to_numpy()[0]))
    return pd.DataFrame(rows, columns=[*keys, "step", "conversion_censored", "censored_low", "censored_high"])


def _add_shares(table: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    table["share_of_previous"] = bound_shares(table["n"], table["_previous"])[0]
    for names, part, whole in (
        (("share_of_start", "low", "high"), "n", "_start"),
        (("conversion_mature", "mature_low", "mature_high"), "_n_mature_reached", "n_mature"),
    ):
        for name, column in zip(names, bound_shares(table[part], table[whole]), strict=True):
            table[name] = column
    return table[[*by, *_TABLE_COLUMNS]].reset_index(drop=True)


def describe_conversion(funnel: Funnel) -> str:
    """How many of those who started have finished, are lost, and are still on the way? One sentence; they add up."""
    first, last = funnel.table[funnel.table["step"] == 1], funnel.table[funnel.table["step"] == len(funnel.labels)]
    started, finished = int(first["n"].sum()), int(last["n"].sum())
    counts = {
        "finished": finished,
        "started": started,
        "units": unit_of(funnel.rules.unit, started),
        "share": f" ({format_share(finished / started)})" if started else "",
        "lost": int(funnel.table["n_lost"].sum()),
        "open": int(funnel.table["n_open"].sum()),
    }
    if funnel.rules.order == "any":
        return _(
            "{finished} of {started} {units} who did any of the {n} steps did all of them{share}; {lost} are lost, "
            "{open} are still on the way.",
            n=len(funnel.labels),
            **counts,
        )
    return _(
        "{finished} of {started} {units} who started at {start} reached {goal}{share}; {lost} are lost, "
        "{open} are still on the way.",
        start=format_name(funnel.labels[0]),
        goal=format_name(funnel.labels[-1]),
        **counts,
    )


def name_columns(by: Sequence[str]) -> str:
    """What are the columns of `by` called in a sentence?"""
    return _(" and ").join(head_of(column) or format_name(column) for column in by)


def name_values(row: pd.Series, by: Sequence[str]) -> list[str]:
    """What is the group of this row called in a sentence, column by column?"""
    return [f"{name_columns([column])} {name_group(row[column], column)}" for column in by]


def name_group(group: object, column: str = "group") -> str:
    """What is this value of a column of `by` called in a sentence?"""
    return format_name(word_of(str(group), column))
