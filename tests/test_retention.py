"""Retention against a walk along each customer's events, and against simulated truth."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Row, drop_tables, examples, fetch, group_rows, last_instant, make_steps
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from journeylab.errors import RuleError
from journeylab.retention import Retention, count_retention

TICK, DAY = timedelta(microseconds=1), timedelta(days=1)
LENGTHS = {"D": DAY, "W": 7 * DAY, "M": 30 * DAY}
# Around the end of a leap February, of a year, and of an ISO week that spans two years; and before times count from 0.
STARTS = (
    *(datetime(2024, 2, 28, 23, 59, 59, 999999), datetime(2024, 2, 29), datetime(2024, 3, 1), datetime(2023, 2, 28)),
    *(datetime(2024, 12, 29, 23, 59, 59, 999999), datetime(2024, 12, 30), datetime(2025, 1, 1, 6)),
    datetime(1969, 12, 21, 23),
)
GAPS = (
    *(timedelta(0), TICK, timedelta(hours=5), DAY - TICK, DAY, 7 * DAY - TICK, 7 * DAY, 7 * DAY + TICK),
    *(14 * DAY, 30 * DAY - TICK, 30 * DAY, 30 * DAY + TICK, 45 * DAY),
)


@st.composite
def weeks_of_events(draw: st.DrawFn) -> list[Row]:
    """Customers who start near the same border and come back after gaps that are just, or just not, a period."""
    base = draw(st.sampled_from(STARTS))
    row = st.tuples(st.sampled_from("abc"), st.sampled_from(GAPS), st.sampled_from((None, "web", "app")))
    histories = draw(st.lists(st.lists(row, min_size=1, max_size=6), min_size=3, max_size=9))
    has_seq = draw(st.booleans())
    rows = []
    for i, history in enumerate(histories):
        now = base + draw(st.sampled_from((timedelta(0), TICK, DAY, 7 * DAY, 31 * DAY)))
        for event, gap, channel in history:
            seq = {"seq": draw(st.sampled_from((1, 2)))} if has_seq else {}
            rows.append({"customer_id": f"k{i}", "event": event, "timestamp": now, "channel": channel, **seq})
            now += gap
    # The names exist, whatever is drawn.
    known = [{**rows[0], "customer_id": "known", "event": event, "timestamp": base} for event in "abc"]
    return draw(st.permutations([*rows, *known]))


@st.composite
def logs_with_ends(draw: st.DrawFn) -> tuple[list[Row], datetime | None]:
    """A log and an end of observation, often at the very border of someone's period."""
    rows = draw(weeks_of_events())
    if draw(st.booleans()):
        return rows, None
    instant = draw(st.sampled_from(rows))["timestamp"]
    if draw(st.booleans()):
        instant = datetime.combine(instant.date() + timedelta(days=-instant.weekday()), time())
    return rows, instant + draw(st.sampled_from((-TICK, timedelta(0), DAY, 7 * DAY - TICK, 7 * DAY, 60 * DAY)))


def first_day(instant: datetime, period: str) -> date:
    day = instant.date()
    if period == "W":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "M" else day


def next_period(day: date, period: str) -> date:
    if period == "M":
        return (day + timedelta(days=31)).replace(day=1)
    return day + LENGTHS[period]


def border(start: datetime, k: int, period: str, clock: str) -> datetime:
    """When does period k of a customer begin?"""
    if clock == "rolling":
        return start + k * LENGTHS[period]
    day = first_day(start, period)
    for _ in range(k):
        day = next_period(day, period)
    return datetime.combine(day, time())


def wilson(part: float, whole: float) -> tuple[float, float]:
    return proportion_confint(part, whole, method="wilson") if whole else (np.nan, np.nan)


def add_shares(rows: list[Row], part: str = "n_back") -> list[Row]:
    for row in rows:
        row["share"] = row[part] / row["n"] if row["n"] else np.nan
        row["low"], row["high"] = wilson(row[part], row["n"])
    return rows


def retention_by_hand(
    steps: list[Row], start: Sequence[str], back: Sequence[str], by: tuple[str, ...], end: datetime, **asked: Any
) -> tuple[list[Row], list[Row]]:
    period, clock, mode, last = asked["period"], asked["clock"], asked["mode"], asked["n_periods"]
    cells: dict[tuple[Any, ...], dict[int, list[bool | None]]] = {}
    for history in group_rows([row for row in steps if row["timestamp"] <= end], "customer_id").values():
        history.sort(key=lambda row: row["position"])
        started = next((row for row in history if row["event"] in start), None)
        if started is None:
            continue
        group = tuple("(none)" if started[name] is None else str(started[name]) for name in by)
        cohort = cells.setdefault((group, first_day(started["timestamp"], period)), {k: [] for k in range(last + 1)})
        later = [row["timestamp"] for row in history if row["rank"] > started["rank"] and row["event"] in back]
        for k in cohort:
            begin = border(started["timestamp"], k, period, clock)
            until = border(started["timestamp"], (k if mode == "on" else last) + 1, period, clock)
            cohort[k].append(any(begin <= t < until for t in later) if until <= end else None)
    sizes: dict[tuple[str, ...], int] = {}
    for (group, _), cohort in cells.items():
        sizes[group] = sizes.get(group, 0) + len(cohort[0])
    table, overall = [], []
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)) if by else [()]:
        named = dict(zip(by, group, strict=True))
        cohorts = sorted(cohort for other, cohort in cells if other == group)
        for cohort in cohorts:
            for k, states in cells[group, cohort].items():
                n = sum(state is not None for state in states)
                is_immature = n < len(states)
                row = {**named, "cohort": pd.Timestamp(cohort), "period": k, "n": n, "n_back": states.count(True)}
                table.append({**row, "is_immature": is_immature, "n_cohort": len(states)})
        for k in range(last + 1):
            column = [cells[group, cohort][k] for cohort in cohorts]
            states = [state for part in column for state in part if state is not None]
            n_cohorts = sum(any(state is not None for state in part) for part in column)
            row = {**named, "period": k, "n": len(states), "n_back": states.count(True)}
            overall.append({**row, "n_cohorts": n_cohorts})
    return add_shares(table), add_shares(overall)


def assert_rows(found: pd.DataFrame, expected: list[Row]) -> None:
    wanted = pd.DataFrame(expected, columns=list(found.columns))
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False, atol=1e-12, rtol=1e-12)


EVENTS = st.sampled_from((None, "a", ("a", "b"), ("c",)))


@examples(5)
@given(
    log=logs_with_ends(),
    start=EVENTS,
    back=EVENTS,
    period=st.sampled_from("DWM"),
    mode=st.sampled_from(("on", "on_or_after")),
    clock=st.sampled_from(("rolling", "calendar")),
    n_periods=st.integers(1, 8),
    by=st.sampled_from((None, "channel", ("event", "channel"))),
)
def test_retention_is_that_of_a_walk(
    con: ibis.BaseBackend, log: tuple[list[Row], datetime | None], start: Any, back: Any, by: Any, **asked: Any
) -> None:
    rows, as_of = log
    steps = make_steps(rows, con=con)
    found = count_retention(steps, start=start, back=back, by=by, as_of=as_of, **asked)
    end = as_of or last_instant(rows)
    groups = (by,) if isinstance(by, str) else tuple(by or ())
    table, overall = retention_by_hand(fetch(steps), start or "abc", back or "abc", groups, end, **asked)
    assert_rows(found.table, table)
    assert_rows(found.overall, overall)
    assert (found.by, found.as_of, found.mode) == (groups, end, asked["mode"])
    if asked["mode"] == "on_or_after":
        by_group = found.overall.groupby(list(groups)) if groups else [((), found.overall)]
        assert all(part["n"].nunique() <= 1 and part["n_back"].is_monotonic_decreasing for _, part in by_group)
    drop_tables(con)


def log_of(*customers: tuple[str, Sequence[str]], event: str = "a") -> list[Row]:
    """One row per instant: (customer, instants)."""
    return [
        {"customer_id": name, "event": event, "timestamp": datetime.fromisoformat(instant)}
        for name, instants in customers
        for instant in instants
    ]


def cells_of(retention: Retention) -> list[tuple[Any, ...]]:
    columns = retention.table[["cohort", "period", "n", "n_back", "is_immature"]]
    return [(str(cohort.date()), *rest) for cohort, *rest in columns.itertuples(index=False)]


WEEKS = log_of(
    # Starts on a Wednesday; comes back on Monday (same rolling week, next calendar week) and exactly after 14 days.
    ("anna", ("2026-03-04 10:00", "2026-03-09 10:00", "2026-03-18 10:00")),
    # Starts on Sunday, comes back an hour later, which is Monday, and in a third week that is not over below.
    ("bert", ("2026-03-08 23:30", "2026-03-09 00:30", "2026-03-23 10:00")),
    ("cleo", ("2026-03-16 00:00", "2026-03-17 10:00")),
)


def test_rolling_weeks_by_hand(con: ibis.BaseBackend) -> None:
    found = count_retention(make_steps(WEEKS, con=con), n_periods=2, as_of="2026-03-25 10:00")
    assert cells_of(found) == [
        ("2026-03-02", 0, 2, 2, False),
        ("2026-03-02", 1, 2, 0, False),
        # anna's third week is over at the very end; bert's is not.
        ("2026-03-02", 2, 1, 1, True),
        ("2026-03-16", 0, 1, 1, False),
        ("2026-03-16", 1, 0, 0, True),
        ("2026-03-16", 2, 0, 0, True),
    ]
    assert found.table["n_cohort"].tolist() == [2, 2, 2, 1, 1, 1]
    assert found.table["share"].isna().tolist() == [False] * 4 + [True] * 2
    assert found.overall[["n", "n_back", "n_cohorts"]].values.tolist() == [[3, 3, 2], [2, 0, 1], [1, 1, 1]]


def test_calendar_weeks_by_hand(con: ibis.BaseBackend) -> None:
    steps = make_steps(WEEKS, con=con)
    found = count_retention(steps, clock="calendar", n_periods=2, as_of="2026-03-25 10:00")
    assert cells_of(found) == [
        ("2026-03-02", 0, 2, 0, False),
        ("2026-03-02", 1, 2, 2, False),
        ("2026-03-02", 2, 2, 1, False),
        ("2026-03-16", 0, 1, 1, False),
        ("2026-03-16", 1, 0, 0, True),
        ("2026-03-16", 2, 0, 0, True),
    ]
    later = count_retention(steps, clock="calendar", mode="on_or_after", n_periods=2, as_of="2026-03-25 10:00")
    # cleo's third week is not over: she is in no cell, so that all have had the same time.
    assert [cell[2:] for cell in cells_of(later)] == [(2, 2, False), (2, 2, False), (2, 1, False)] + [(0, 0, True)] * 3


def test_months_are_calendar_months_or_thirty_days(con: ibis.BaseBackend) -> None:
    # From the last day of January of a leap year: 29 February is the next month, and 29 days later.
    steps = make_steps(log_of(("anna", ("2024-01-31 12:00", "2024-02-29 12:00", "2024-03-01 12:00"))), con=con)
    calendar = count_retention(steps, period="M", clock="calendar", n_periods=2, as_of="2024-05-01")
    assert calendar.overall["n_back"].tolist() == [0, 1, 1]
    rolling = count_retention(steps, period="M", n_periods=2, as_of="2024-05-01")
    assert rolling.overall["n_back"].tolist() == [1, 1, 0]
    assert rolling.table["cohort"].unique().tolist() == [pd.Timestamp("2024-01-01")]


def test_overall_is_pooled_and_no_mean_of_shares(con: ibis.BaseBackend) -> None:
    """8 of 10 and 6 of 15: 56 %, and not 60 %, the mean of 80 % and 40 %."""
    customers = []
    for week, n, n_back in (("2026-03-02", 10, 8), ("2026-03-09", 15, 6)):
        start = datetime.fromisoformat(week)
        for i in range(n):
            instants = [start, start + 8 * DAY] if i < n_back else [start]
            customers.append((f"{week} {i}", [str(instant) for instant in instants]))
    found = count_retention(make_steps(log_of(*customers), con=con), n_periods=1, as_of="2026-04-01")
    week_1 = found.table["period"] == 1
    assert found.table["share"][week_1].mean() == pytest.approx(0.6)
    pooled = found.overall.iloc[1]
    assert pooled["share"] == 0.56
    assert (pooled["low"], pooled["high"]) == proportion_confint(14, 25, method="wilson")


def test_small_cohorts_make_longer_ones(con: ibis.BaseBackend) -> None:
    steps = make_steps(WEEKS, con=con)
    asked = {"n_periods": 2, "as_of": "2026-06-01"}
    assert count_retention(steps, min_group=1, **asked).table["n_cohort"].min() == 1
    # Two start in the first week and one in another: together they are the three of March.
    joined, months = count_retention(steps, min_group=2, **asked), count_retention(steps, period="M", **asked)
    assert joined.period == "M"
    pd.testing.assert_frame_equal(joined.table, months.table)
    assert joined.table["n_cohort"].unique().tolist() == [3]
    nobody = count_retention(steps, min_group=4, **asked)
    assert nobody.table.empty
    assert nobody.overall["n"].sum() == 0


def test_start_itself_is_no_return(con: ibis.BaseBackend) -> None:
    def back_at_once(**seq: Any) -> int:
        rows = [
            {"customer_id": "k", "event": event, "timestamp": STARTS[1], **{name: seq[name][i] for name in seq}}
            for i, event in enumerate("ab")
        ]
        found = count_retention(make_steps(rows, con=con), start="a", n_periods=1, as_of="2025-01-01")
        return int(found.overall["n_back"].iloc[0])

    assert back_at_once() == 0
    assert back_at_once(seq=(1, 2)) == 1
    assert back_at_once(seq=(2, 1)) == 0


def test_start_and_back_are_told_apart(con: ibis.BaseBackend) -> None:
    rows = [
        *log_of(("anna", ("2026-03-02",)), ("bert", ("2026-03-10",)), event="visit"),
        *log_of(("anna", ("2026-03-10",)), ("bert", ("2026-03-02",)), ("cleo", ("2026-03-02",)), event="buy"),
    ]
    found = count_retention(make_steps(rows, con=con), start="visit", back=["buy"], n_periods=1, as_of="2026-04-01")
    assert (found.start, found.back) == (("visit",), ("buy",))
    assert found.overall[["n", "n_back"]].values.tolist() == [[2, 0], [2, 1]]


def test_groups_are_those_at_the_start(con: ibis.BaseBackend) -> None:
    rows = log_of(("anna", ("2026-03-02", "2026-03-10")), ("bert", ("2026-03-02",)), ("cleo", ("2026-03-03",)))
    for row, watched in zip(rows, ("app", "web", "web", None), strict=True):
        # The names of our own columns inside are free for the user's.
        row["watched"] = watched
    found = count_retention(make_steps(rows, con=con), by="watched", n_periods=1, as_of="2026-04-01")
    assert found.overall[["watched", "period", "n", "n_back"]].values.tolist() == [
        *(["(none)", 0, 1, 0], ["(none)", 1, 1, 0], ["app", 0, 1, 0], ["app", 1, 1, 1]),
        *(["web", 0, 1, 0], ["web", 1, 1, 0]),
    ]


@pytest.mark.parametrize("by", [None, "event"])
def test_nobody_yet(six: ibis.Table, by: str | None) -> None:
    early = "2020-01-01"
    found = count_retention(six, by=by, as_of=early)
    assert found.table.empty
    assert found.overall["n"].tolist() == ([] if by else [0] * 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "shopp"}, 'start: 1 of 1 names .*"shopp" Did you mean "shop"'),
        ({"back": ("pay", "card")}, 'count_retention: back: 1 of 2 names .*"card" .*known are ad, cart'),
        ({"start": ()}, "start must name at least one event"),
        ({"period": "Y"}, "count_retention: period must be one of D, W, M; found 'Y'"),
        ({"mode": "after"}, "mode must be one of on, on_or_after; found 'after'"),
        ({"clock": "calender"}, "found 'calender'. Did you mean \"calendar\""),
        ({"n_periods": 0}, "n_periods must be a whole number from 1; found 0"),
        ({"n_periods": 2.5}, "n_periods must be a whole number from 1; found 2.5"),
        (
            {"by": "chanel"},
            'no column "chanel" to split by. Did you mean "channel".* The columns are .*channel, .*stage',
        ),
    ],
)
def test_what_does_not_fit_is_refused(six: ibis.Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message):
        count_retention(six, **options)


def test_a_column_of_the_answer_cannot_split_it(con: ibis.BaseBackend) -> None:
    rows = [{**row, "cohort": "x"} for row in log_of(("anna", ("2026-03-02",)))]
    with pytest.raises(
        RuleError, match=r'"cohort" is a column of the answer itself; rename yours in read_events\(columns='
    ):
        count_retention(make_steps(rows, con=con), by="cohort")


# Simulated truth. Customers come in over 90 days, so that the later have less time; all is seen until day 90.

RUNS = 400 if os.environ.get("JOURNEYLAB_FULL") == "1" else 10
SPAN = 90.0
T0 = datetime(2026, 1, 1)


def stored_steps(con: ibis.BaseBackend, customers: np.ndarray, days: np.ndarray) -> ibis.Table:
    """Steps of one event, with the columns that these questions need."""
    order = np.lexsort((days, customers))
    customers, days = customers[order], days[order]
    place = np.arange(len(customers)) - np.searchsorted(customers, customers) + 1
    times = np.datetime64(T0, "us") + (days * 86_400e6).astype("timedelta64[us]")
    columns = {"customer_id": customers.astype(str), "event": ["a"] * len(days), "timestamp": times}
    table = pa.table({**columns, "position": place, "rank": place})
    return con.create_table(ibis.util.gen_name("sim"), table, temp=True)


def as_seen(customers: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_seen = days <= SPAN
    return customers[is_seen], days[is_seen]


END = T0 + timedelta(days=SPAN)


def is_covered(rate: float) -> bool:
    """Is this what runs of a 95 % interval show, but for one time in a thousand?"""
    return abs(rate - 0.95) <= 3.3 * math.sqrt(0.95 * 0.05 / RUNS)


@pytest.mark.parametrize("mode", ["on", "on_or_after"])
def test_retention_covers_the_truth(con: ibis.BaseBackend, mode: Any) -> None:
    """Visits without memory, 0.3 a week: the same chance in each week, whatever the cohort."""
    rng, n, rate, last = np.random.default_rng(3), 150, 0.3, 6
    weeks = np.array([1 if mode == "on" else last + 1 - k for k in range(last + 1)])
    truth = 1 - np.exp(-rate * weeks)
    covered = np.zeros(last + 1)
    for _ in range(RUNS):
        start = rng.uniform(0, SPAN, n)
        visits = rng.poisson(rate * SPAN / 7, n)
        who = np.repeat(np.arange(n), visits)
        days = start[who] + rng.uniform(0, SPAN, len(who))
        steps = stored_steps(con, *as_seen(np.append(np.arange(n), who), np.append(start, days)))
        overall = count_retention(steps, mode=mode, n_periods=last, as_of=END).overall
        covered += (overall["low"] <= truth) & (truth <= overall["high"])
        drop_tables(con)
    assert all(is_covered(rate) for rate in covered / RUNS)
