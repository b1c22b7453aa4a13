"""Funnels against a walk along each unit's events, written from the declared meaning; intervals against statsmodels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import groupby
from statistics import median
from typing import Any, NamedTuple, get_args

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import (
    ENDS,
    EVENTS,
    SECONDS,
    SIX_RULES,
    START,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    last_instant,
    make_steps,
    order_key,
    random_logs,
    random_rules,
    round_by_hand,
)
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import proportion

from journeylab.errors import RuleError, SchemaError
from journeylab.funnel import Funnel, build_funnel, count_spells, describe_conversion
from journeylab.funnel_rules import FunnelRules, Order, Step, StepLike
from journeylab.funnel_rules import Unit as UnitKind
from journeylab.journeys import build_journeys
from journeylab.rules import JourneyRules
from journeylab.survival import estimate_incidence

COLUMNS = (
    *("step", "label", "n", "share_of_start", "share_of_previous", "low", "high", "n_lost", "n_open"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high", "median_time_s"),
)
UNIT_COLUMN = {
    "customer": "customer_id",
    "attempt": "customer_id",
    "journey": "journey_id",
    "session": "session_id",
    "account": "account_id",
}
BUY = ("shop", "cart", "pay")

# Conditions, and what they mean. A comparison with a null is not met.
CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "value > 1": lambda row: row["value"] is not None and row["value"] > 1,
    "value <= 0 or channel == 'app'": lambda row: row["value"] == 0 or row["channel"] == "app",
    "not channel == 'web'": lambda row: row["channel"] != "web",
    "channel != 'web' and plan in ('free', 'pro')": (
        lambda row: row["channel"] == "app" and row["plan"] in ("free", "pro")
    ),
}


@dataclass
class Walk:
    """One way through the steps, from one start."""

    taken: list[Row]
    """The event of each required step that was reached (of each step done, in any order)."""
    optional: dict[int, Row] = field(default_factory=dict)
    """The events of the optional steps, by the steps' places from 1."""
    stop: Row | None = None
    """The event that ended the walk before its time."""
    is_excluded: bool = False


@dataclass
class Unit:
    """What became of one unit."""

    unit: str
    attempt: int
    walk: Walk
    by_step: dict[int, Row]
    groups: tuple[str, ...] = ()
    is_open: bool = False
    is_mature: bool = False
    lost_time: datetime | None = None

    def furthest(self, required: list[int]) -> int:
        return required[len(self.walk.taken) - 1]


@dataclass
class Oracle:
    """The plain-Python funnel: all starts of all units, each walked along all events."""

    steps: list[Row]
    rules: FunnelRules
    as_of: datetime

    def __post_init__(self) -> None:
        rules = self.rules
        self.events = {row["event"] for row in self.steps}
        self.within = None if rules.within is None else timedelta(seconds=SECONDS[rules.within])
        dormant = rules.dormant_after or ("30m" if rules.unit == "session" else "30D")
        self.dormant = timedelta(seconds=SECONDS[dormant])
        optional = [rules.optional] if isinstance(rules.optional, str) else rules.optional
        plain = [name_step(step) for step in rules.steps]
        self.required = [i for i, name in enumerate(plain, 1) if name not in optional]
        self.labels = [f"{name} (optional)" if name in optional else name for name in plain]
        if rules.order == "any":
            self.labels = [f"{i} of {len(plain)} steps" for i in range(1, len(plain) + 1)]

    def matches(self, row: Row, step: StepLike) -> bool:
        if isinstance(step, Step):
            return self.matches(row, step.event) and (step.where is None or CONDITIONS[step.where](row))
        names = (step,) if isinstance(step, str) else tuple(step)
        return any(row["event"] == name if name in self.events else row["stage"] == name for name in names)

    def is_step(self, row: Row, i: int) -> bool:
        return self.matches(row, self.rules.steps[i - 1])

    def is_out(self, row: Row) -> bool:
        """An event that must not happen on the way."""
        return any(self.matches(row, step) for step in read_many(self.rules.exclude))

    def holds(self, start: Row, row: Row) -> bool:
        columns = read_many(self.rules.hold_constant)
        return all(start[name] is not None and start[name] == row[name] for name in columns)

    def is_start(self, row: Row) -> bool:
        return self.holds(row, row) and any(
            self.is_step(row, i) for i in (self.required if self.rules.order == "any" else [1])
        )

    def deadline(self, taken: list[Row]) -> datetime | None:
        since = taken[0] if self.rules.window_from == "first" else taken[-1]
        return None if self.within is None else since["timestamp"] + self.within

    def in_time(self, row: Row, taken: list[Row]) -> bool:
        limit = self.deadline(taken)
        return limit is None or row["timestamp"] <= limit

    def finished(self, walk: Walk) -> bool:
        return len(walk.taken) == len(self.required)

    def walk_from(self, start: Row, history: list[Row]) -> Walk:
        if self.rules.order == "any":
            return self.walk_any(start, history)
        walk = Walk([start])
        later = [row for row in history if order_key(row) > order_key(start)]
        for _, at_once in groupby(later, key=order_key):
            moment = list(at_once)
            if self.finished(walk) or not self.in_time(moment[0], walk.taken):
                break
            step = self.required[len(walk.taken)]
            fits = [row for row in moment if self.is_step(row, step) and self.holds(start, row)]
            walk.taken += fits[:1]
            if self.finished(walk):
                break
            excluded = [row for row in moment if self.is_out(row)]
            if excluded or (self.rules.order == "strict" and not fits):
                walk.stop, walk.is_excluded = (excluded or moment)[0], bool(excluded)
                break
        self.add_optional(walk, later)
        return walk

    def add_optional(self, walk: Walk, later: list[Row]) -> None:
        """The first time between the required steps around each: in time, and before the walk was stopped."""
        for i in set(range(1, len(self.labels) + 1)).difference(self.required):
            n_before = sum(place < i for place in self.required)
            if n_before > len(walk.taken):
                continue
            behind = walk.taken[n_before] if n_before < len(walk.taken) else None
            for row in later:
                is_between = order_key(row) > order_key(walk.taken[n_before - 1]) and (
                    behind is None or order_key(row) < order_key(behind)
                )
                is_stopped = walk.stop is not None and order_key(row) > order_key(walk.stop)
                if not is_between or is_stopped or not self.in_time(row, walk.taken[:n_before]):
                    continue
                if self.is_step(row, i) and self.holds(walk.taken[0], row):
                    walk.optional[i] = row
                    break

    def walk_any(self, start: Row, history: list[Row]) -> Walk:
        """Each step the first time that it happens from the start on; an order within an instant does not matter."""
        since = [row for row in history if order_key(row) >= order_key(start) and self.holds(start, row)]
        firsts = [next((row for row in since if self.is_step(row, i)), None) for i in self.required]
        done = sorted(
            (row for row in firsts if row is not None),
            key=lambda row: (order_key(row), row is not start, row["position"]),
        )
        excluded = [row for row in history if order_key(row) > order_key(start) and self.is_out(row)]
        walk = Walk([])
        for row in done:
            is_late = bool(walk.taken) and not self.in_time(row, walk.taken)
            is_stopped = bool(excluded) and order_key(excluded[0]) < order_key(row)
            if is_late or is_stopped:
                break
            walk.taken.append(row)
        if excluded and not self.finished(walk) and self.in_time(excluded[0], walk.taken):
            walk.stop, walk.is_excluded = excluded[0], True
        return walk

    def judge(self, walk: Walk, history: list[Row]) -> tuple[bool, datetime | None]:
        """Whether the walk is still on the way, and since when it is lost."""
        if self.finished(walk):
            return False, None
        if walk.stop is not None:
            return False, walk.stop["timestamp"]
        limit = self.deadline(walk.taken)
        if limit is not None:
            return (False, limit) if self.as_of >= limit else (True, None)
        last = history[-1]["timestamp"]
        return (False, last + self.dormant) if self.as_of - last > self.dormant else (True, None)

    def choose(self, walks: list[Walk]) -> Walk | None:
        """The walk that counts; None if an excluded event takes the unit out."""
        ends = [order_key(walk.taken[-1]) for walk in walks if self.finished(walk)]
        if self.rules.on_exclude == "drop":
            met = [order_key(walk.stop) for walk in walks if walk.is_excluded and walk.stop is not None]
            if any(not any(end <= key for end in ends) for key in met):
                return None
        furthest = max(len(walk.taken) for walk in walks)
        best = [walk for walk in walks if len(walk.taken) == furthest]
        if self.rules.entry == "latest":
            is_end = [not ends or order_key(walk.taken[-1]) == min(ends) for walk in best]
            return [walk for walk, is_first in zip(best, is_end, strict=True) if is_first][-1]
        return best[0]

    def attempts(self, history: list[Row]) -> Iterator[tuple[int, Walk]]:
        """Attempts one after the other, of each value that is held constant; numbered as they begin."""
        walks: list[Walk] = []
        for start in history:
            same = [walk for walk in walks if self.holds(walk.taken[0], start)]
            if self.is_start(start) and (not same or self.is_behind(start, same[-1])):
                walks.append(self.walk_from(start, history))
        return enumerate(walks, 1)

    def is_behind(self, row: Row, walk: Walk) -> bool:
        """Whether an event lies behind an attempt."""
        if self.finished(walk):
            return order_key(row) > order_key(walk.taken[-1])
        if walk.stop is not None:
            # What made one attempt fail may begin the next, unless it is excluded.
            is_same = order_key(row) == order_key(walk.stop) and not walk.is_excluded
            return is_same or order_key(row) > order_key(walk.stop)
        limit = self.deadline(walk.taken)
        return limit is not None and row["timestamp"] > limit

    def histories(self) -> Iterator[tuple[str, list[Row]]]:
        column = UNIT_COLUMN[self.rules.unit]
        seen = [row for row in self.steps if row["timestamp"] <= self.as_of and row[column] is not None]
        for unit, history in group_rows(seen, column).items():
            # An account's customers are put in one order, and their events numbered anew.
            whole = sorted(history, key=lambda row: (order_key(row), row["customer_id"], row["position"]))
            if self.rules.unit == "account":
                whole = [{**row, "position": i} for i, row in enumerate(whole, 1)]
            else:
                whole.sort(key=lambda row: row["position"])
            yield unit, whole

    def units(self, by: Sequence[str] = (), by_at: str | int = 1, top: int | None = None) -> list[Unit]:
        found = []
        for unit, history in self.histories():
            if self.rules.unit == "attempt":
                for number, walk in self.attempts(history):
                    if not (walk.is_excluded and self.rules.on_exclude == "drop"):
                        found.append(self.describe(unit, number, walk, [walk], history))
                continue
            walks = [self.walk_from(row, history) for row in history if self.is_start(row)]
            if self.rules.entry == "first":
                walks = walks[:1]
            chosen = self.choose(walks) if walks else None
            if chosen is not None:
                found.append(self.describe(unit, 1, chosen, walks, history))
        for one in found:
            one.groups = tuple(self.find_group(one, name, by_at) for name in by)
        if top is not None and by:
            sizes = Counter(one.groups for one in found)
            kept = sorted(sizes, key=lambda groups: (-sizes[groups], groups))[:top]
            for one in found:
                one.groups = one.groups if one.groups in kept else ("(other)",) * len(by)
        return found

    def describe(self, unit: str, attempt: int, chosen: Walk, walks: list[Walk], history: list[Row]) -> Unit:
        by_step = {**dict(zip(self.required, chosen.taken, strict=False)), **chosen.optional}
        one = Unit(unit, attempt, chosen, dict(sorted(by_step.items())))
        if self.within is not None:
            longest = self.within * (1 if self.rules.window_from == "first" else len(self.required) - 1)
            one.is_mature = chosen.taken[0]["timestamp"] + longest <= self.as_of
        if not self.finished(chosen):
            fates = [self.judge(walk, history) for walk in walks]
            one.is_open = any(is_open for is_open, _ in fates)
            one.lost_time = None if one.is_open else max(time for _, time in fates if time)
            one.is_mature &= not one.is_open
        return one

    def find_group(self, one: Unit, name: str, by_at: str | int) -> str:
        if isinstance(by_at, int):
            if by_at not in one.by_step:
                return "(not reached)"
            value = one.by_step[by_at][name]
        else:
            known = [row[name] for row in one.by_step.values() if row[name] is not None]
            value = (known[0] if by_at == "first" else known[-1]) if known else None
        return "(none)" if value is None else str(value)

    def counts(self, **options: Any) -> Counter[tuple[Any, ...]]:
        """How many units took which steps, are open, and are in which group."""
        return Counter((one.groups, tuple(one.by_step), one.is_open) for one in self.units(**options))

    def horizon(self) -> int | None:
        if self.within is None:
            return None
        n_spans = 1 if self.rules.window_from == "first" else len(self.required) - 1
        return n_spans * SECONDS[self.rules.within or ""]

    def spells(self, units: list[Unit], i: int) -> list[tuple[int, int]]:
        """Seconds watched on the way to a step, and how that ended: 1 there, 2 never, 0 not yet."""
        horizon, spells = self.horizon(), []
        for one in units:
            start = one.walk.taken[0]["timestamp"]
            over = one.walk.taken[-1]["timestamp"] if self.finished(one.walk) else one.lost_time
            if i in one.by_step:
                ended, until = 1, one.by_step[i]["timestamp"]
            elif horizon is None and over is not None:
                ended, until = 2, over
            else:
                # With a window everybody is watched to its end, or as far as the log goes.
                ended, until = 0, self.as_of
            spells.append((round_by_hand(until - start, horizon), ended))
        return spells

    def table(self, units: list[Unit], by: Sequence[str]) -> pd.DataFrame:
        sizes = Counter(one.groups for one in units)
        groups = sorted(sizes, key=lambda group: (-sizes[group], group)) if by else [()]
        rows = [row for group in groups for row in self.rows([one for one in units if one.groups == group], group, by)]
        return pd.DataFrame(rows, columns=[*by, *COLUMNS])

    def rows(self, part: list[Unit], group: tuple[str, ...], by: Sequence[str]) -> Iterator[Row]:
        mature = [one for one in part if one.is_mature]
        n_before = len(part)
        for i, label in enumerate(self.labels, 1):
            here = [one for one in part if i in one.by_step]
            stopped = [one for one in part if not self.finished(one.walk) and one.furthest(self.required) == i]
            there = [one for one in mature if i in one.by_step]
            times = [
                (one.by_step[i]["timestamp"] - one.walk.taken[0]["timestamp"]).total_seconds() for one in here if i > 1
            ]
            row = {
                **dict(zip(by, group, strict=True)),
                "step": i,
                "label": label,
                "n": len(here),
                "share_of_start": share(len(here), len(part)),
                "share_of_previous": share(len(here), n_before),
                "n_lost": sum(not one.is_open for one in stopped),
                "n_open": sum(one.is_open for one in stopped),
                "n_mature": len(mature),
                "conversion_mature": share(len(there), len(mature)),
                "median_time_s": median(times) if times else np.nan,
            }
            row["low"], row["high"] = wilson(len(here), len(part))
            row["mature_low"], row["mature_high"] = wilson(len(there), len(mature))
            yield row | self.censored(part, i)
            n_before = len(here) if i in self.required else n_before

    def censored(self, part: list[Unit], i: int) -> Row:
        spells = self.spells(part, i)
        names = ("conversion_censored", "censored_low", "censored_high")
        if not spells:
            return dict.fromkeys(names, np.nan)
        horizon = self.horizon()
        at = max(seconds for seconds, _ in spells) if horizon is None else horizon
        frame = pd.DataFrame(spells, columns=["duration_s", "ended"]).astype({"duration_s": float}).assign(n=1)
        # The bounds are those of test_survival.py; the share is worked out here.
        bounds = estimate_incidence(frame, at=[at]).iloc[0]
        return dict(zip(names, (incidence(spells, at), bounds["low"], bounds["high"]), strict=True))


def incidence(spells: list[tuple[int, int]], at: int) -> float:
    """Aalen and Johansen by hand: of those still there, who came at each second."""
    longest = max(seconds for seconds, _ in spells)
    if at > longest and any(seconds == longest and ended == 0 for seconds, ended in spells):
        return np.nan
    there, came = Fraction(1), Fraction(0)
    for second in sorted({seconds for seconds, ended in spells if ended and seconds <= at}):
        n_at_risk = sum(seconds >= second for seconds, _ in spells)
        n_came, n_gone = (sum(spell == (second, ended) for spell in spells) for ended in (1, 2))
        came += there * Fraction(n_came, n_at_risk)
        there *= Fraction(n_at_risk - n_came - n_gone, n_at_risk)
    return float(came)


def name_step(step: StepLike) -> str:
    if isinstance(step, Step):
        return name_step(step.event) + (f" ({step.where})" if step.where else "")
    return step if isinstance(step, str) else " / ".join(step)


def read_many(given: Any) -> Sequence[Any]:
    return (given,) if isinstance(given, (str, Step)) else given


def share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def wilson(part: int, whole: int) -> tuple[float, float]:
    return proportion.proportion_confint(part, whole, method="wilson") if whole else (np.nan, np.nan)


NAMES = st.sampled_from((*EVENTS, "s2"))
ALTERNATIVES = st.lists(NAMES, min_size=2, max_size=3, unique=True).map(tuple)
WHERE = st.sampled_from(tuple(CONDITIONS))
STEP = NAMES | NAMES | ALTERNATIVES | ALTERNATIVES | ALTERNATIVES | st.builds(Step, NAMES | ALTERNATIVES, WHERE)


@st.composite
def random_funnels(draw: st.DrawFn) -> FunnelRules:
    order: Order = draw(st.sampled_from(("ordered", "ordered", "ordered", "ordered", "strict", "any")))
    if order == "any":
        names = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
        steps: list[Any] = [Step(name, draw(WHERE)) if draw(st.integers(0, 3)) == 0 else name for name in names]
    else:
        steps = draw(st.lists(STEP, min_size=2, max_size=4))
    used = {name for step in steps for name in read_many(step.event if isinstance(step, Step) else step)}
    excluded: list[Any] = [name for name in (*EVENTS, "s2") if name not in used] + [Step("d", "value > 1")]
    labels = [name_step(step) for step in steps]
    middle = [label for label in labels[1:-1] if label not in (labels[0], labels[-1])]
    unit: UnitKind = draw(st.sampled_from(get_args(UnitKind)))
    return FunnelRules(
        steps,
        order=order,
        within=draw(st.sampled_from((None, "10m", "30m", "2h", "2h", "2h"))),
        window_from=draw(st.sampled_from(("first", "previous", "previous"))),
        entry=draw(st.sampled_from(("first", "latest", "best") if unit != "attempt" else ("first",))),
        unit=unit,
        exclude=draw(st.sampled_from(((), excluded[0], excluded[-1], tuple(excluded[:2])))),
        on_exclude=draw(st.sampled_from(("drop", "fail"))),
        optional=draw(st.sampled_from(((), tuple(middle), *middle))) if order == "ordered" else (),
        hold_constant=draw(st.sampled_from(((), (), (), (), "channel", ("channel", "plan")))),
        dormant_after=draw(st.sampled_from((None, "10m", "2h"))),
    )


@st.composite
def random_funnel_logs(draw: st.DrawFn) -> list[Row]:
    """Random logs with accounts of several customers, plans, and one customer more who knows every event, late.

    So the funnel's names exist whatever is drawn.
    """
    columns = ("seq", "event_id", "journey_id", "session_id")
    rows = draw(random_logs(columns=columns, always=("channel", "value"), most_events=9))
    more = st.tuples(st.sampled_from((None, "x", "x", "y", "y")), st.sampled_from((None, "free", "free", "pro")))
    extra = draw(st.lists(more, min_size=len(rows), max_size=len(rows)))
    rows = [{**row, "account_id": a, "plan": p} for row, (a, p) in zip(rows, extra, strict=True)]
    late = {**dict.fromkeys(rows[0]), "customer_id": "late", "timestamp": START + timedelta(hours=5)}
    return [*rows, *({**late, "event": event} for event in EVENTS)]


# So that the stage s2 exists too, in whatever log and rules are drawn.
STAGED = JourneyRules(stages=("s2", "b"), stage_of={"a": "b", "/^[cd]$/": "s2"}, journey_gap="2h", session_gap="30m")


class Question(NamedTuple):
    """What build_funnel is asked, but for the steps."""

    rules: FunnelRules
    by: tuple[str, ...]
    by_at: Any
    top: int | None
    as_of: datetime | None


@st.composite
def random_questions(draw: st.DrawFn) -> Question:
    rules, by = draw(random_funnels()), draw(st.sampled_from(((), ("channel",), ("channel", "plan"))))
    at = draw(st.sampled_from((1, 2, "first", "first", "last"))) if by else 1
    top = draw(st.sampled_from((None, 1, 2))) if by else None
    return Question(rules, by, at, top, draw(st.none() | st.none() | ENDS))


def unit_rows(units: list[Unit], rules: FunnelRules, by: Sequence[str]) -> list[Row]:
    """What `Funnel.units` should say."""
    required, n_steps = list(rules.required), len(rules.steps)
    rows = []
    for one in units:
        row: Row = {"unit": one.unit}
        if rules.unit == "attempt":
            row["attempt"] = one.attempt
        row["customer_id"] = one.walk.taken[0]["customer_id"]
        if by:
            row["group"] = "(other)" if set(one.groups) == {"(other)"} else " · ".join(one.groups)
        if len(by) > 1:
            row |= {f"group_{i}": group for i, group in enumerate(one.groups, 1)}
        row |= {"reached": one.furthest(required), "reached_position": one.walk.taken[-1]["position"]}
        row |= {"is_open": one.is_open, "is_mature": one.is_mature, "lost_time": one.lost_time}
        row |= {f"time_{i}": one.by_step[i]["timestamp"] if i in one.by_step else None for i in range(1, n_steps + 1)}
        rows.append(row)
    return sorted(rows, key=unit_key)


def unit_key(row: Row) -> Any:
    return row["unit"], row.get("attempt", 1)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-12, rtol=1e-12)


def assert_reconciles(funnel: Funnel) -> None:
    """What must hold of any funnel, whatever the log: started = converted + lost + open, in each row of each group."""
    by, required = list(funnel.by), list(funnel.rules.required)
    for _, part in funnel.table.groupby(by) if by else [("", funnel.table)]:
        rows = part.set_index("step")
        main, others = rows.loc[required], rows.drop(required)
        n_next = main["n"].shift(-1, fill_value=main["n"].iloc[-1])
        assert main["n"].is_monotonic_decreasing
        assert (main["n"] == n_next + main["n_lost"] + main["n_open"]).all()
        assert main["n"].iloc[0] == main["n"].iloc[-1] + rows["n_lost"].sum() + rows["n_open"].sum()
        assert (rows[["n_lost", "n_open"]] >= 0).all(axis=None)
        assert (others[["n_lost", "n_open"]] == 0).all(axis=None)
        for i, n in others["n"].items():
            assert n <= main["n"][max(place for place in required if place < i)]
        for kind in ("", "mature_", "censored_"):
            known = rows[[f"{kind}low", f"{kind}high"]].dropna()
            assert ((known >= 0) & (known <= 1)).all(axis=None)
            assert (known[f"{kind}low"] <= known[f"{kind}high"]).all()


def assert_spells(funnel: Funnel, oracle: Oracle, units: list[Unit]) -> None:
    step = len(funnel.labels)
    found = count_spells(funnel.units, funnel.rules, [step], funnel.as_of)
    assert {*found.columns} == {"step", "duration_s", "ended", "n"}
    assert {(row.duration_s, row.ended): row.n for row in found.itertuples()} == Counter(oracle.spells(units, step))


#: Each switch, and what it is when nobody touches it.
DEFAULTS: dict[str, Any] = {
    item.name: item.default for item in fields(FunnelRules) if item.name not in ("steps", "on_exclude")
}


def find_effects(steps: list[Row], question: Question) -> Iterator[str]:
    """Which switches make a difference to the answer?"""
    rules, by, by_at, top, as_of = question
    last = last_instant(steps)

    def ask(rules: FunnelRules, as_of: datetime = as_of or last, **options: Any) -> Counter[tuple[Any, ...]]:
        return Oracle(steps, rules, as_of).counts(**options)

    usual = ask(rules)
    for name, default in DEFAULTS.items():
        if ask(replace(rules, **{name: default})) != usual:
            yield name
    if ask(replace(rules, on_exclude="fail" if rules.on_exclude == "drop" else "drop")) != usual:
        yield f"on_exclude {rules.on_exclude}"
    plain = [step.event if isinstance(step, Step) else step for step in rules.steps]
    if ask(replace(rules, steps=plain, optional=())) != ask(replace(rules, optional=())):
        yield "where"
    if ask(rules, last) != usual:
        yield "as_of"
    split = ask(rules, by=by, by_at=by_at, top=top)
    if split != ask(rules, by=by, by_at=1, top=top):
        yield f"by_at {by_at}"
    if split != ask(rules, by=by, by_at=by_at):
        yield "top"


class Choice:
    """Of many questions, the one in which most switches matter: an answer takes the engine a second."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.has_failed = False

    def choose(self, steps: list[Row], questions: list[Question]) -> tuple[Question, set[str]]:
        def worth(effects: set[str]) -> int:
            return sum(1 if name in self.seen else 5 for name in effects)

        effects = [set(find_effects(steps, question)) for question in questions]
        return max(zip(questions, effects, strict=True), key=lambda both: worth(both[1]))

    def learn(self, effects: set[str]) -> None:
        # While hypothesis looks for a smaller example of a failure, the same log must lead to the same question.
        if not self.has_failed:
            self.seen.update(effects)


def test_funnel_is_that_of_a_walk(con: ibis.BaseBackend) -> None:
    choice = Choice()

    @examples(9)
    @given(rows=random_funnel_logs(), questions=st.lists(random_questions(), min_size=50, max_size=50))
    def check(rows: list[Row], questions: list[Question]) -> None:
        steps = make_steps(rows, STAGED, con=con)
        events = fetch(steps)
        question, effects = choice.choose(events, questions)
        try:
            assert_answers(steps, events, question)
        except Exception:
            choice.has_failed = True
            raise
        choice.learn(effects)
        drop_tables(con)

    check()
    # Not one switch was drawn in vain.
    switches = {*DEFAULTS, "on_exclude drop", "on_exclude fail", "where", "as_of", "top"}
    assert not {*switches, "by_at 2", "by_at first", "by_at last"}.difference(choice.seen)


def assert_answers(steps: ibis.Table, events: list[Row], question: Question) -> None:
    rules, by, by_at, top, as_of = question
    oracle = Oracle(events, rules, as_of or last_instant(events))
    units = oracle.units(by, by_at, top)
    for is_in_process in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            # In memory, a few events at a time; and in the engine, as anywhere but on DuckDB.
            patch.setattr("journeylab.walks_in_memory._PIECE", 5)
            patch.setattr("journeylab.funnel.is_in_process", lambda con, answer=is_in_process: answer)
            funnel = build_funnel(steps, rules, by=by or None, by_at=by_at, top=top, as_of=as_of)
        assert (funnel.as_of, funnel.by, funnel.labels) == (oracle.as_of, by, tuple(oracle.labels))
        assert sorted(fetch(funnel.units), key=unit_key) == unit_rows(units, rules, by)
        assert_same(funnel.table, oracle.table(units, by))
        assert_reconciles(funnel)
    assert_spells(funnel, oracle, units)


@pytest.mark.parametrize("order", ["timestamp", ibis.desc("timestamp"), ["event", "customer_id"]])
def test_stored_order_does_not_matter(con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    """Steps lie customer by customer; those that do not are looked at once more."""
    monkeypatch.setattr("journeylab.walks_in_memory._PIECE", 2)
    steps = make_log(con, "k a0 b1 a2 c3", "l a0 b5 c9", "m b0 a3 c4", "n a1 a2 b8")
    mixed = con.create_table("mixed", steps.order_by(order), temp=True)
    rules = FunnelRules(["a", "b", "c"], entry="latest", within="1h")
    whole, again = build_funnel(steps, rules, by="customer_id"), build_funnel(mixed, rules, by="customer_id")
    assert sorted(fetch(again.units), key=unit_key) == sorted(fetch(whole.units), key=unit_key)
    assert_same(again.table, whole.table)
    assert count(mixed) == [4, 3, 2]


@examples(1)
@given(rows=random_funnel_logs(), rules=random_funnels(), as_of=ENDS)
def test_groups_add_up_to_the_whole(
    con: ibis.BaseBackend, rows: list[Row], rules: FunnelRules, as_of: datetime | None
) -> None:
    steps = make_steps(rows, STAGED, con=con)
    whole = build_funnel(steps, rules, as_of=as_of).table
    parts = build_funnel(steps, rules, by=["channel", "plan"], by_at="last", top=2, as_of=as_of).table
    for column in ("n", "n_lost", "n_open", "n_mature"):
        summed = parts.groupby("step")[column].sum().reindex(whole["step"], fill_value=0)
        assert summed.tolist() == whole[column].tolist()
    drop_tables(con)


@examples(2)
@given(rows=random_logs(columns=("journey_id", "channel")), rules=random_rules(), end=ENDS)
def test_journey_funnel_agrees_with_journeys(
    con: ibis.BaseBackend, rows: list[Row], rules: JourneyRules, end: datetime | None
) -> None:
    """Started, at unit="journey": just the journeys that have the first step at the end of observation."""
    rows = [*rows, *({**rows[0], "event": event, "timestamp": START + timedelta(hours=5)} for event in EVENTS)]
    steps = make_steps(rows, rules, con=con)
    funnel = build_funnel(steps, FunnelRules([EVENTS, "c"], unit="journey"), as_of=end)
    journeys = fetch(build_journeys(steps, rules, as_of=end))
    assert {row["unit"] for row in fetch(funnel.units)} == {row["journey_id"] for row in journeys}
    drop_tables(con)


# Six customers that one can count on one's fingers (see conftest.py).


def test_six_customers_by_hand(six: ibis.Table) -> None:
    funnel = build_funnel(six, BUY)
    table = funnel.table
    assert list(table.columns) == list(COLUMNS)
    assert funnel.by == ()
    assert table["label"].tolist() == list(BUY) == list(funnel.labels)
    assert table["step"].tolist() == [1, 2, 3]
    # cleo never had a cart, and fred's was before the shop.
    assert table["n"].tolist() == [6, 4, 2]
    # cleo and bert are silent for good; fred asked for help five days ago, emil filled his cart just now.
    assert table["n_lost"].tolist() == [1, 1, 0]
    assert table["n_open"].tolist() == [1, 1, 0]
    assert table["share_of_start"].tolist() == [1.0, 4 / 6, 2 / 6]
    assert table["share_of_previous"].tolist() == [1.0, 4 / 6, 2 / 4]
    # anna 5 min, bert 61 min, dora 40 days and 10 min, emil 5 min; then anna 15 min, dora 40 days and 20 min.
    forty_days = 40 * 86_400
    expected = [np.nan, (300 + 3660) / 2, (900 + forty_days + 1200) / 2]
    np.testing.assert_array_equal(table["median_time_s"], expected)
    assert table["n_mature"].tolist() == [0, 0, 0]
    assert table[["conversion_mature", "mature_low", "mature_high"]].isna().all(axis=None)
    # emil is watched for 5 minutes only, so anna is 1 of 5 to pay; after 30 days cleo and bert are gone for good; then
    # dora is 1 of the 2 still there, for fred is.
    censored = [1.0, 4 / 6, 1 / 5 + 4 / 5 * 2 / 4 * 1 / 2]
    assert table["conversion_censored"].tolist() == pytest.approx(censored)
    sentence = "2 of 6 customers who started at shop reached pay (33.3 %); 2 are lost, 2 are still on the way."
    assert describe_conversion(funnel) == sentence
    assert funnel.as_of == datetime(2026, 3, 1, 10, 5)


def test_window_of_six_customers_by_hand(six: ibis.Table) -> None:
    # An hour from the first shop: bert is a minute late, dora forty days.
    table = build_funnel(six, FunnelRules(BUY, within="1h")).table
    assert table["n"].tolist() == [6, 2, 1]
    assert table["n_lost"].tolist() == [4, 0, 0]
    # emil began five minutes before the end.
    assert table["n_open"].tolist() == [0, 1, 0]
    assert table["n_mature"].tolist() == [5, 5, 5]
    assert table["conversion_mature"].tolist() == [1.0, 0.2, 0.2]
    # anna paid after 15 minutes, and emil was watched for 5.
    assert table["conversion_censored"].tolist() == pytest.approx([1.0, 2 / 6, 1 / 5])
    # 61 minutes is just enough for bert.
    assert build_funnel(six, FunnelRules(BUY, within="61m")).table["n"].tolist() == [6, 3, 1]


def test_units_of_six_customers_by_hand(six: ibis.Table) -> None:
    def counts(**options: Any) -> list[int]:
        return build_funnel(six, FunnelRules(BUY, **options)).table["n"].tolist()

    assert counts(unit="journey") == [7, 4, 2]
    # bert's cart and cleo's three events each lie in sessions of their own.
    assert counts(unit="session") == [7, 3, 2]
    # dora's second shop is another attempt, bert's lies within the hour of his first, which runs out before his cart.
    assert counts(unit="attempt", within="1h") == [7, 3, 2]


def test_groups_of_six_customers_by_hand(six: ibis.Table) -> None:
    funnel = build_funnel(six, BUY, by="channel")
    table = funnel.table
    assert table.columns[0] == "channel"
    # The channel of the first shop: anna, cleo, dora and fred web, bert app, emil none. dora's later ones do not count.
    found = {group: part["n"].tolist() for group, part in table.groupby("channel", sort=False)}
    assert found == {"web": [4, 2, 2], "(none)": [1, 1, 0], "app": [1, 1, 0]}
    assert list(found) == ["web", "(none)", "app"]
    assert describe_conversion(funnel).startswith("2 of 6 customers")


def test_steps_may_be_stages_or_alternatives(six: ibis.Table) -> None:
    assert build_funnel(six, ["look", "basket", "bought"]).table["n"].tolist() == [6, 4, 2]
    funnel = build_funnel(six, [("ad", "shop"), ("cart", "bought")])
    assert funnel.labels == ("ad / shop", "cart / bought")
    # cleo pays without a cart; fred's cart is too early.
    assert funnel.table["n"].tolist() == [6, 5]


def test_steps_may_have_conditions(six: ibis.Table) -> None:
    # dora paid 30 by the app, anna 20 and cleo 10 on the web.
    funnel = build_funnel(six, ["shop", {"event": "pay", "where": "value > 10"}])
    assert funnel.labels == ("shop", "pay (value > 10)")
    assert funnel.table["n"].tolist() == [6, 2]
    assert build_funnel(six, [Step("shop", "channel != 'web'"), "pay"]).table["n"].tolist() == [2, 1]


def test_end_of_observation_hides_what_comes_later(six: ibis.Table) -> None:
    table = build_funnel(six, BUY, as_of="2026-01-01 10:03").table
    # bert has his cart, anna not yet, the others have not come at all. pay is known, though nobody did it yet.
    assert table["n"].tolist() == [2, 1, 0]
    assert table["n_open"].tolist() == [1, 1, 0]
    assert table["n_lost"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("by", [None, "channel"])
def test_nobody_started_yet(six: ibis.Table, by: str | None) -> None:
    funnel = build_funnel(six, FunnelRules(BUY, within="1D"), by=by, as_of="2025-01-01")
    assert funnel.table["n"].sum() == 0
    assert len(funnel.table) == (0 if by else 3)
    assert list(funnel.table.columns) == [*([by] if by else []), *COLUMNS]
    shares = ["share_of_start", "share_of_previous", "low", "high", "conversion_mature", "mature_low", "mature_high"]
    shares += ["conversion_censored", "censored_low", "censored_high"]
    assert funnel.table[shares].isna().all(axis=None)


# One switch after the other.


def make_log(con: ibis.BaseBackend, *histories: str) -> ibis.Table:
    """Steps from lines such as "k a0 b5:web": who, and what after how many minutes, by which channel."""
    rows = []
    for line in histories:
        customer, *events = line.split()
        for event in events:
            what, _, channel = event.partition(":")
            now = START + timedelta(minutes=int(what[1:]))
            row = {"customer_id": customer, "event": what[0], "timestamp": now, "channel": channel or None}
            rows.append(row | {"account_id": customer[0] if customer[1:] else None})
    return make_steps(rows, con=con)


def count(steps: ibis.Table, names: Any = "abc", **options: Any) -> list[int]:
    return build_funnel(steps, FunnelRules(list(names), **options)).table["n"].tolist()


def test_order_by_hand(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 x1 b2 c3", "l c0 b1 a2", "m a0 b1 c2", "n a0 b0 c0")
    assert count(steps) == [4, 2, 2]
    strict = build_funnel(steps, FunnelRules(["a", "b", "c"], order="strict"))
    assert strict.table["n"].tolist() == [4, 1, 1]
    # k's walk ended when x came; l and n may go on.
    lost = {row["unit"]: row["lost_time"] for row in fetch(strict.units)}
    assert lost == {"k": START + timedelta(minutes=1), "l": None, "m": None, "n": None}
    # Where any order will do, it does not matter that nobody knows the order of n's.
    free = build_funnel(steps, FunnelRules(["a", "b", "c"], order="any"))
    assert free.labels == ("1 of 3 steps", "2 of 3 steps", "3 of 3 steps")
    assert free.table["n"].tolist() == [4, 4, 4]


def test_window_from_the_step_before(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 b60 c120", "l a0 b61", "m a0 b10 c71")
    assert count(steps, within="1h") == [3, 2, 0]
    funnel = build_funnel(steps, FunnelRules(["a", "b", "c"], within="1h", window_from="previous"))
    assert funnel.table["n"].tolist() == [3, 2, 1]
    lost = {row["unit"]: row["lost_time"] for row in fetch(funnel.units)}
    assert lost == {"k": None, "l": START + timedelta(minutes=60), "m": START + timedelta(minutes=70)}
    # The whole window is two hours then: at 120 minutes every start has been watched for it.
    assert funnel.table["n_mature"].tolist() == [3, 3, 3]


def test_excluded_events_by_hand(con: ibis.BaseBackend) -> None:
    # k meets x on the way, m after the end, n before the start, and o meets it when the time is over.
    steps = make_log(con, "k a0 x1 b2", "l a0 b1", "m a0 b1 x2", "n x0 a1 b2", "o a0 x61 b62")
    assert count(steps, "ab", within="1h") == [5, 4]
    assert count(steps, "ab", within="1h", exclude="x") == [4, 3]
    failed = build_funnel(steps, FunnelRules(["a", "b"], within="1h", exclude="x", on_exclude="fail"))
    assert failed.table["n"].tolist() == [5, 3]
    lost = {row["unit"]: row["lost_time"] for row in fetch(failed.units) if row["lost_time"]}
    assert lost == {"k": START + timedelta(minutes=1), "o": START + timedelta(minutes=60)}


def test_optional_steps_by_hand(con: ibis.BaseBackend) -> None:
    # n's b comes before the start, o's after the end.
    steps = make_log(con, "k a0 b10 c20", "l a0 c10", "m a0 b1", "n b0 a1 c2", "o a0 c1 b2")
    funnel = build_funnel(steps, FunnelRules(["a", "b", "c"], optional="b"))
    table = funnel.table
    assert funnel.labels == ("a", "b (optional)", "c")
    assert table["n"].tolist() == [5, 2, 4]
    # Of the required step before: a for both.
    assert table["share_of_previous"].tolist() == [1.0, 2 / 5, 4 / 5]
    assert table["n_open"].tolist() == [1, 0, 0]
    assert table["median_time_s"].tolist()[1:] == [330.0, 330.0]
    assert {row["unit"]: row["reached"] for row in fetch(funnel.units)} == {"k": 3, "l": 3, "m": 1, "n": 3, "o": 3}


def test_optional_steps_after_another_walk_failed(con: ibis.BaseBackend) -> None:
    """The walk that counts is the second; what ended the first does not concern it."""
    steps = make_log(con, "k a0 x1 a2 b3 c4")
    for entry in ("latest", "best"):
        rules = FunnelRules(["a", "b", "c"], optional="b", exclude="x", on_exclude="fail", entry=entry)
        assert build_funnel(steps, rules).table["n"].tolist() == [1, 1, 1]


def test_values_held_constant_by_hand(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0:web b1:app b2:web", "l a0 b1", "m a0:web b1:app", "n a0 a1:app b2:app")
    funnel = build_funnel(steps, FunnelRules(["a", "b"], hold_constant="channel"))
    # An a without a channel, such as that of l and the first of n, is no step at all.
    assert funnel.table["n"].tolist() == [3, 2]
    # k took the b of the web, n the one start that has a channel.
    times = {row["unit"]: (row["time_1"], row["time_2"]) for row in fetch(funnel.units)}
    start, second = START + timedelta(minutes=1), START + timedelta(minutes=2)
    assert times == {"k": (START, second), "m": (START, None), "n": (start, second)}


def test_attempts_by_hand(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 a5 b10 a20 b90 a100")
    funnel = build_funnel(steps, FunnelRules(["a", "b"], within="1h", unit="attempt"))
    found = [(row["attempt"], row["reached"], row["is_open"], row["time_1"]) for row in fetch(funnel.units)]
    # a5 belongs to the first attempt; the second runs out of time at minute 80; the third has just begun.
    begun = [START + timedelta(minutes=minutes) for minutes in (0, 20, 100)]
    assert sorted(found) == [(1, 2, False, begun[0]), (2, 1, False, begun[1]), (3, 1, True, begun[2])]
    assert funnel.table[["n", "n_lost", "n_open", "n_mature"]].values.tolist() == [[3, 1, 1, 2], [1, 0, 0, 2]]
    # With order "strict" a5 ends the first attempt, and begins the second.
    assert count(steps, "ab", unit="attempt", order="strict") == [4, 2]


def test_accounts_by_hand(con: ibis.BaseBackend) -> None:
    # Two customers of account x, one of y, one of none.
    steps = make_log(con, "x1 a0 a9", "x2 b5", "y1 b0 a1", "k a0 b1")
    funnel = build_funnel(steps, FunnelRules(["a", "b"], unit="account"))
    assert funnel.table["n"].tolist() == [2, 1]
    found = {(row["unit"], row["customer_id"], row["reached_position"]) for row in fetch(funnel.units)}
    # The b of x2 is the second event of the account.
    assert found == {("x", "x1", 2), ("y", "y1", 2)}


def test_groups_read_at_other_steps(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0:web b1:app", "l a0 b1:web", "m a0:app", "n a0 b1")

    def groups_at(by_at: Any) -> str:
        units = fetch(build_funnel(steps, ["a", "b"], by="channel", by_at=by_at).units)
        return " ".join(row["group"] for row in sorted(units, key=unit_key))

    assert groups_at(1) == "web (none) app (none)"
    assert groups_at(2) == "app web (not reached) (none)"
    assert groups_at("first") == "web web app (none)"
    assert groups_at("last") == "app web app (none)"


def test_several_columns_and_the_rest(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "x1 a0:web b1", "x2 a0:web", "x3 a0:app", "y1 a0:app b1", "k a0")
    funnel = build_funnel(steps, ["a", "b"], by=["account_id", "channel"], top=2)
    assert funnel.by == ("account_id", "channel")
    found = funnel.table[["account_id", "channel", "step", "n"]].values.tolist()
    # Those of one start each are sorted by name: "(none)" is kept, x by app and y are the rest.
    assert found == [
        *(["(other)", "(other)", 1, 2], ["(other)", "(other)", 2, 1]),
        *(["x", "web", 1, 2], ["x", "web", 2, 1], ["(none)", "(none)", 1, 1], ["(none)", "(none)", 2, 0]),
    ]
    names = {row["unit"]: (row["group"], row["group_1"], row["group_2"]) for row in fetch(funnel.units)}
    assert names["x1"] == ("x · web", "x", "web")
    assert names["y1"] == ("(other)", "(other)", "(other)")


def test_who_tries_again_is_on_the_way(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 a50", "z a70 b71 c72")
    found = {}
    for entry in ("first", "latest", "best"):
        units = fetch(build_funnel(steps, FunnelRules(["a", "b", "c"], within="1h", entry=entry)).units)
        row = next(row for row in units if row["unit"] == "k")
        found[entry] = (row["is_open"], row["lost_time"], (row["time_1"] - START) // timedelta(minutes=1))
    assert found == {
        "first": (False, START + timedelta(minutes=60), 0),
        "latest": (True, None, 50),
        "best": (True, None, 0),
    }


def test_a_name_that_is_an_event_is_no_stage(con: ibis.BaseBackend) -> None:
    """The event a has the stage "b", and there is an event b: as a step, "b" is the event alone."""
    rows = [{"customer_id": "k", "event": e, "timestamp": START + timedelta(hours=i)} for i, e in enumerate("cab")]
    steps = make_steps(rows, STAGED, con=con)
    assert build_funnel(steps, ["c", "b", "b"]).table["n"].tolist() == [1, 1, 0]


def test_same_instant_is_after_only_if_the_log_says_so(con: ibis.BaseBackend) -> None:
    # (seq, event_id) of a, then of b. The place in the file puts a before b, and does not count.
    orders: dict[str, Any] = {
        "nothing": ((None, None), (None, None)),
        "seq": ((1, None), (2, None)),
        "seq back": ((2, None), (1, None)),
        "same seq": ((1, None), (1, None)),
        "id": ((1, "x"), (1, "y")),
        "id back": ((None, "y"), (None, "x")),
    }
    rows = [
        {"customer_id": customer, "event": event, "timestamp": START, "seq": seq, "event_id": event_id}
        for customer, order in orders.items()
        for event, (seq, event_id) in zip("ab", order, strict=True)
    ]
    funnel = build_funnel(make_steps(rows, con=con), ["a", "b"])
    assert {row["unit"] for row in fetch(funnel.units) if row["reached"] == 2} == {"seq", "id"}


def test_one_event_is_one_step_only(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 a60")
    assert count(steps, "aa") == [1, 1]
    assert count(steps, "aaa") == [1, 1, 0]


def test_open_ends_just_after_the_limit(con: ibis.BaseBackend) -> None:
    end, tick = START + timedelta(days=60), timedelta(microseconds=1)
    ages = {"week-": timedelta(days=7) - tick, "week": timedelta(days=7), "week+": timedelta(days=7) + tick}
    ages |= {"half": timedelta(minutes=30), "half+": timedelta(minutes=30) + tick}
    rows = [{"customer_id": name, "event": "a", "timestamp": end - age} for name, age in ages.items()]
    steps = make_steps([*rows, {"customer_id": "z", "event": "b", "timestamp": end}], con=con)

    def is_open(column: str = "is_open", **rules: Any) -> set[str]:
        units = fetch(build_funnel(steps, FunnelRules(["a", "b"], **rules)).units)
        return {row["customer_id"] for row in units if row[column]}

    # With a window: open until it has passed. At its last instant nothing can be missed any more.
    assert is_open(within="7D") == {"week-", "half", "half+"}
    assert is_open("is_mature", within="7D") == {"week", "week+"}
    # Without: lost once the silence is longer than the limit.
    assert is_open(dormant_after="7D") == {"week-", "week", "half", "half+"}
    assert is_open(unit="session") == {"half"}


def test_spells_by_hand(con: ibis.BaseBackend) -> None:
    steps = make_log(con, "k a0 b20", "l a0", "m a50", "n a59", "z x100")

    def spells(**rules: Any) -> list[tuple[int, int, int]]:
        funnel = build_funnel(steps, FunnelRules(["a", "b"], **rules))
        found = count_spells(funnel.units, funnel.rules, [2], funnel.as_of)
        return sorted(found[["duration_s", "ended", "n"]].itertuples(index=False, name=None))

    # Within an hour: l was watched for the whole of it, m for 50 minutes and n for 41.
    assert spells(within="1h") == [(1200, 1, 1), (2460, 0, 1), (3000, 0, 1), (3600, 0, 1)]
    # Without: l is lost 45 minutes after its only event, and so is m; n still waits.
    assert spells(dormant_after="45m") == [(1200, 1, 1), (2460, 0, 1), (2700, 2, 2)]


def test_missing_names_and_their_near_ones(six: ibis.Table) -> None:
    with pytest.raises(RuleError) as caught:
        build_funnel(six, FunnelRules(["shop", "chart", "boughd"], exclude=("pay", "zzz")))
    assert str(caught.value) == (
        'FunnelRules: 3 of 5 names are neither an event nor a stage of this log: "chart" Did you mean "cart"?; '
        '"boughd" Did you mean "bought"?; "zzz" – known are ad, basket, bought, cart, help, look, pay, shop'
    )


SIX_COLUMNS = (
    "The columns are customer_id, event, timestamp, channel, value, journey_id, session_id, stage, position, rank, "
    "step, gap_s, next_event"
)


@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        ({}, {"by": "chanel"}, f'by= needs a column "chanel". Did you mean "channel"? {SIX_COLUMNS}'),
        ({}, {"by": ["channel", "zz"]}, f'by= needs a column "zz". {SIX_COLUMNS}'),
        ({"hold_constant": "plan"}, {}, f'hold_constant needs a column "plan". {SIX_COLUMNS}'),
        (
            {"unit": "account"},
            {},
            f'unit="account" needs a column "account_id". {SIX_COLUMNS}',
        ),
        (
            {"exclude": Step("help", "valu > 1")},
            {},
            f'a condition needs a column "valu". Did you mean "value"? {SIX_COLUMNS}',
        ),
        ({}, {"by": "step"}, '"step" is a column of the answer itself; rename yours in read_events(columns=)'),
        ({}, {"by": ["channel", "channel"]}, "by= names a column twice: channel, channel"),
        ({}, {"by": "channel", "by_at": 4}, 'by_at must be "first", "last" or a step from 1 to 3; found 4'),
        ({}, {"by": "channel", "by_at": "lst"}, 'by_at must be "first", "last" or a step from 1 to 3; found \'lst\''),
        ({}, {"by": "channel", "top": 0}, "top must be at least 1, found 0"),
    ],
)
def test_what_does_not_fit_the_log_is_refused(
    six: ibis.Table, rules: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuleError) as caught:
        build_funnel(six, FunnelRules(BUY, **rules), **options)
    assert str(caught.value) == f"build_funnel: {message}"


def test_empty_log(con: ibis.BaseBackend) -> None:
    steps = make_steps([{"customer_id": "k", "event": "a", "timestamp": START}], SIX_RULES, con=con)
    with pytest.raises(RuleError, match="2 of 2 names are neither"):
        build_funnel(steps.filter(steps.step > 1), ["a", "b"])
    with pytest.raises(SchemaError, match="there are no steps"):
        build_journeys(steps.filter(steps.step > 1))
