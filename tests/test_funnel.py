"""Funnels against a walk along each unit's events; intervals against statsmodels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

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
)
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import proportion
from statsmodels.stats.multitest import multipletests

import journeylab as jl
from journeylab.errors import RuleError, SchemaError

COLUMNS = (
    *("step", "label", "n", "share_of_start", "share_of_previous", "low", "high", "n_lost", "n_open"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high", "median_time_s"),
)
UNIT_COLUMN = {"customer": "customer_id", "journey": "journey_id", "session": "session_id"}
BUY = ("shop", "cart", "pay")


class Walk(NamedTuple):
    """How one unit went through the steps: the event of each step it reached, and what its time allows."""

    unit: str
    group: str
    reached: list[Row]
    is_open: bool
    is_mature: bool


def is_step(row: Row, step: str | Sequence[str], events: set[str]) -> bool:
    names = (step,) if isinstance(step, str) else step
    return any(row["event"] == name if name in events else row["stage"] == name for name in names)


def walk_by_hand(steps: list[Row], rules: jl.FunnelRules, by: str | None, as_of: datetime) -> list[Walk]:
    events = {row["event"] for row in steps}
    within = None if rules.within is None else timedelta(seconds=SECONDS[rules.within])
    dormant = rules.dormant_after or ("30m" if rules.unit == "session" else "30D")
    walks = []
    for unit, history in group_rows(steps, UNIT_COLUMN[rules.unit]).items():
        seen = sorted((row for row in history if row["timestamp"] <= as_of), key=lambda row: row["position"])
        reached: list[Row] = []
        for row in seen:
            if len(reached) == len(rules.steps):
                break
            is_later = not reached or order_key(row) > order_key(reached[-1])
            is_in_time = not reached or within is None or row["timestamp"] - reached[0]["timestamp"] <= within
            if is_later and is_in_time and is_step(row, rules.steps[len(reached)], events):
                reached.append(row)
        if not reached:
            continue
        if within is not None:
            is_mature = as_of - reached[0]["timestamp"] >= within
            is_over = is_mature
        else:
            is_mature = False
            is_over = as_of - seen[-1]["timestamp"] > timedelta(seconds=SECONDS[dormant])
        group = "" if by is None else "(none)" if reached[0][by] is None else str(reached[0][by])
        walks.append(Walk(unit, group, reached, not is_over and len(reached) < len(rules.steps), is_mature))
    return walks


def wilson(part: int, whole: int) -> tuple[float, float]:
    return proportion.proportion_confint(part, whole, method="wilson") if whole else (np.nan, np.nan)


def table_by_hand(walks: list[Walk], rules: jl.FunnelRules, by: str | None) -> pd.DataFrame:
    sizes = Counter(walk.group for walk in walks)
    groups = sorted(sizes, key=lambda group: (-sizes[group], group)) if by else [""]
    rows = []
    for group in groups:
        part = [walk for walk in walks if walk.group == group]
        mature = [walk for walk in part if walk.is_mature]
        for i, step in enumerate(rules.steps, 1):
            here = [walk for walk in part if len(walk.reached) >= i]
            before = [walk for walk in part if len(walk.reached) >= i - 1]
            stopped = [walk for walk in here if len(walk.reached) == i < len(rules.steps)]
            there = [walk for walk in mature if len(walk.reached) >= i]
            times = [(walk.reached[i - 1]["timestamp"] - walk.reached[0]["timestamp"]).total_seconds() for walk in here]
            low, high = wilson(len(here), len(part))
            mature_low, mature_high = wilson(len(there), len(mature))
            rows.append(
                {
                    "group": group,
                    "step": i,
                    "label": step if isinstance(step, str) else " / ".join(step),
                    "n": len(here),
                    "share_of_start": len(here) / len(part) if part else np.nan,
                    "share_of_previous": len(here) / len(before) if before else np.nan,
                    "low": low,
                    "high": high,
                    "n_lost": sum(not walk.is_open for walk in stopped),
                    "n_open": sum(walk.is_open for walk in stopped),
                    "n_mature": len(mature),
                    "conversion_mature": len(there) / len(mature) if mature else np.nan,
                    "mature_low": mature_low,
                    "mature_high": mature_high,
                    "median_time_s": median(times) if i > 1 and times else np.nan,
                }
            )
    table = pd.DataFrame(rows, columns=["group", *COLUMNS])
    return table.rename(columns={"group": by}) if by else table[list(COLUMNS)]


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-12, rtol=1e-12)


NAMES = st.sampled_from((*EVENTS, "s2"))
STEPS = st.lists(NAMES | st.lists(NAMES, min_size=2, max_size=3, unique=True).map(tuple), min_size=2, max_size=4)


@st.composite
def random_funnels(draw: st.DrawFn) -> jl.FunnelRules:
    return jl.FunnelRules(
        draw(STEPS),
        within=draw(st.sampled_from((None, "10m", "30m", "2h"))),
        unit=draw(st.sampled_from(tuple(UNIT_COLUMN))),
        dormant_after=draw(st.sampled_from((None, "10m", "2h"))),
    )


def with_all_names(rows: list[Row]) -> list[Row]:
    """The log with one customer more, who knows every event, late: the funnel's names exist whatever is drawn."""
    blank = dict.fromkeys(rows[0])
    late = [{**blank, "customer_id": "late", "event": event, "timestamp": START + timedelta(hours=5)} for event in "dc"]
    return [*rows, *late, {**late[0], "event": "b"}, {**late[0], "event": "a"}]


# So that the stage s2 exists too, in whatever log and rules are drawn.
STAGED = jl.JourneyRules(stages=("s2", "b"), stage_of={"a": "b", "/^[cd]$/": "s2"}, journey_gap="2h", session_gap="30m")


@examples(25)
@given(
    rows=random_logs(columns=("seq", "event_id", "journey_id", "session_id"), always=("channel",)).map(with_all_names),
    rules=random_funnels(),
    by=st.sampled_from((None, "channel")),
    as_of=ENDS,
)
def test_funnel_is_that_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.FunnelRules, by: str | None, as_of: datetime | None
) -> None:
    steps = make_steps(rows, STAGED, con=con)
    funnel = jl.build_funnel(steps, rules, by=by, as_of=as_of)
    end = as_of or last_instant(rows)
    assert funnel.as_of == end
    walks = walk_by_hand(fetch(steps), rules, by, end)
    assert_same(funnel.table, table_by_hand(walks, rules, by))

    found = {row["unit"]: row for row in fetch(funnel.units)}
    expected = {}
    for walk in walks:
        times = [row["timestamp"] for row in walk.reached] + [None] * (len(rules.steps) - len(walk.reached))
        expected[walk.unit] = {
            "unit": walk.unit,
            "customer_id": walk.reached[0]["customer_id"],
            **({"group": walk.group} if by else {}),
            "reached": len(walk.reached),
            "reached_position": walk.reached[-1]["position"],
            "is_open": walk.is_open,
            "is_mature": walk.is_mature,
            **{f"time_{i}": time for i, time in enumerate(times, 1)},
        }
    assert found == expected
    assert_reconciles(funnel)
    assert_next_is_that_of_a_walk(jl.compare_next(steps, funnel), fetch(steps), walks, rules, end)
    drop_tables(con)


def assert_reconciles(funnel: jl.Funnel) -> None:
    """What must hold of any funnel, whatever the log."""
    parts = funnel.table.groupby(funnel.by) if funnel.by else [("", funnel.table)]
    for _, part in parts:
        n_next = part["n"].shift(-1, fill_value=part["n"].iloc[-1])
        assert part["n"].is_monotonic_decreasing
        assert (part["n"] == n_next + part["n_lost"] + part["n_open"]).all()
        assert part["n"].iloc[0] == part["n"].iloc[-1] + part["n_lost"].sum() + part["n_open"].sum()
        assert (part[["n_lost", "n_open"]] >= 0).all(axis=None)
        bounds = part[["low", "high", "mature_low", "mature_high"]].stack().dropna()
        assert bounds.between(0, 1).all()


def assert_next_is_that_of_a_walk(
    found: pd.DataFrame, steps: list[Row], walks: list[Walk], rules: jl.FunnelRules, end: datetime
) -> None:
    journeys = group_rows((row for row in steps if row["timestamp"] <= end), "journey_id")
    counts: Counter[tuple[int, str | None]] = Counter()
    for walk in walks:
        if walk.is_open or len(walk.reached) == len(rules.steps):
            continue
        last = walk.reached[-1]
        later = {row["step"]: row["event"] for row in journeys[last["journey_id"]]}
        counts[len(walk.reached), later.get(last["step"] + 1)] += 1
    totals: Counter[int] = Counter()
    for (step, _), n in counts.items():
        totals[step] += n
    labels = [step if isinstance(step, str) else " / ".join(step) for step in rules.steps]
    expected = [
        (step, labels[step - 1], name, n, n / totals[step])
        for (step, name), n in sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1] or ""))
    ]
    assert list(found.columns) == ["step", "label", "next_event", "n", "share"]
    assert list(found.itertuples(index=False, name=None)) == expected


@examples(4)
@given(rows=random_logs(columns=("seq",), always=("channel",)).map(with_all_names), rules=random_funnels(), as_of=ENDS)
def test_groups_add_up_to_the_whole(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.FunnelRules, as_of: datetime | None
) -> None:
    steps = make_steps(rows, STAGED, con=con)
    whole = jl.build_funnel(steps, rules, as_of=as_of).table
    parts = jl.build_funnel(steps, rules, by="channel", as_of=as_of).table
    for column in ("n", "n_lost", "n_open"):
        summed = parts.groupby("step")[column].sum().reindex(whole["step"], fill_value=0)
        assert summed.tolist() == whole[column].tolist()
    drop_tables(con)


@examples(6)
@given(rows=random_logs(columns=("journey_id", "channel")).map(with_all_names), rules=random_rules(), end=ENDS)
def test_journey_funnel_agrees_with_journeys(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, end: datetime | None
) -> None:
    """Started, at unit="journey": just the journeys that have the first step at the end of observation."""
    steps = make_steps(rows, rules, con=con)
    funnel = jl.build_funnel(steps, jl.FunnelRules([EVENTS, "c"], unit="journey"), as_of=end)
    journeys = fetch(jl.build_journeys(steps, rules, as_of=end))
    assert {row["unit"] for row in fetch(funnel.units)} == {row["journey_id"] for row in journeys}
    drop_tables(con)


def test_six_customers_by_hand(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, BUY)
    table = funnel.table
    assert list(table.columns) == list(COLUMNS)
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
    assert funnel.as_of == datetime(2026, 3, 1, 10, 5)


def test_window_of_six_customers_by_hand(six: ibis.Table) -> None:
    # An hour from the first shop: bert is a minute late, dora forty days.
    table = jl.build_funnel(six, jl.FunnelRules(BUY, within="1h")).table
    assert table["n"].tolist() == [6, 2, 1]
    assert table["n_lost"].tolist() == [4, 0, 0]
    # emil began five minutes before the end.
    assert table["n_open"].tolist() == [0, 1, 0]
    assert table["n_mature"].tolist() == [5, 5, 5]
    assert table["conversion_mature"].tolist() == [1.0, 0.2, 0.2]
    # 61 minutes is just enough for bert.
    assert jl.build_funnel(six, jl.FunnelRules(BUY, within="61m")).table["n"].tolist() == [6, 3, 1]


def test_units_of_six_customers_by_hand(six: ibis.Table) -> None:
    def counts(**options: Any) -> list[int]:
        return jl.build_funnel(six, jl.FunnelRules(BUY, **options)).table["n"].tolist()

    assert counts(unit="journey") == [7, 4, 2]
    # bert's cart and cleo's three events each lie in sessions of their own.
    assert counts(unit="session") == [7, 3, 2]


def test_groups_of_six_customers_by_hand(six: ibis.Table) -> None:
    table = jl.build_funnel(six, BUY, by="channel").table
    assert table.columns[0] == "channel"
    # The channel of the first shop: anna, cleo, dora and fred web, bert app, emil none. dora's later ones do not count.
    found = {group: part["n"].tolist() for group, part in table.groupby("channel", sort=False)}
    assert found == {"web": [4, 2, 2], "(none)": [1, 1, 0], "app": [1, 1, 0]}
    assert list(found) == ["web", "(none)", "app"]


def test_steps_may_be_stages_or_alternatives(six: ibis.Table) -> None:
    assert jl.build_funnel(six, ["look", "basket", "bought"]).table["n"].tolist() == [6, 4, 2]
    funnel = jl.build_funnel(six, [("ad", "shop"), ("cart", "bought")])
    assert funnel.labels == ("ad / shop", "cart / bought")
    # cleo pays without a cart; fred's cart is too early.
    assert funnel.table["n"].tolist() == [6, 5]
    assert jl.build_funnel(six, ["help", "ad"]).table["n"].tolist() == [1, 0]


def test_a_name_that_is_an_event_is_no_stage(con: ibis.BaseBackend) -> None:
    """The event a has the stage "b", and there is an event b: as a step, "b" is the event alone."""
    rows = [{"customer_id": "k", "event": e, "timestamp": START + timedelta(hours=i)} for i, e in enumerate("cab")]
    steps = make_steps(rows, STAGED, con=con)
    assert jl.build_funnel(steps, ["c", "b", "b"]).table["n"].tolist() == [1, 1, 0]


def test_end_of_observation_hides_what_comes_later(six: ibis.Table) -> None:
    table = jl.build_funnel(six, BUY, as_of="2026-01-01 10:03").table
    # bert has his cart, anna not yet, the others have not come at all. pay is known, though nobody did it yet.
    assert table["n"].tolist() == [2, 1, 0]
    assert table["n_open"].tolist() == [1, 1, 0]
    assert table["n_lost"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("by", [None, "channel"])
def test_nobody_started_yet(six: ibis.Table, by: str | None) -> None:
    funnel = jl.build_funnel(six, jl.FunnelRules(BUY, within="1D"), by=by, as_of="2025-01-01")
    assert funnel.table["n"].sum() == 0
    assert len(funnel.table) == (0 if by else 3)
    assert list(funnel.table.columns) == [*([by] if by else []), *COLUMNS]
    shares = ["share_of_start", "share_of_previous", "low", "high", "conversion_mature", "mature_low", "mature_high"]
    assert funnel.table[shares].isna().all(axis=None)
    assert jl.compare_next(six, funnel).empty
    if by:
        assert jl.find_drop_offs(funnel).empty


def test_nobody_is_lost(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": e, "timestamp": START + timedelta(hours=i)} for i, e in enumerate("ab")]
    steps = make_steps(rows, con=con)
    funnel = jl.build_funnel(steps, ["a", "b"])
    assert list(jl.compare_next(steps, funnel).columns) == ["step", "label", "next_event", "n", "share"]
    assert jl.compare_next(steps, funnel).empty


def test_same_instant_is_after_only_if_the_log_says_so(con: ibis.BaseBackend) -> None:
    def second_step(**columns: Sequence[Any]) -> int:
        rows = [
            {"customer_id": "k", "event": event, "timestamp": START, **{name: columns[name][i] for name in columns}}
            for i, event in enumerate("ab")
        ]
        return int(jl.build_funnel(make_steps(rows, con=con), ["a", "b"]).table["n"].iloc[1])

    # The place in the file puts a before b, and does not count.
    assert second_step() == 0
    assert second_step(seq=[1, 2]) == 1
    assert second_step(seq=[2, 1]) == 0
    assert second_step(seq=[1, 1]) == 0
    assert second_step(seq=[1, 1], event_id=["x", "y"]) == 1
    assert second_step(event_id=["y", "x"]) == 0


def test_one_event_is_one_step_only(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": "a", "timestamp": START + timedelta(hours=i)} for i in range(2)]
    steps = make_steps(rows, con=con)
    assert jl.build_funnel(steps, ["a", "a"]).table["n"].tolist() == [1, 1]
    assert jl.build_funnel(steps, ["a", "a", "a"]).table["n"].tolist() == [1, 1, 0]


def test_open_ends_just_after_the_limit(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": "k", "event": "a", "timestamp": START},
        {"customer_id": "l", "event": "b", "timestamp": START + timedelta(days=60)},
    ]
    steps = make_steps(rows, con=con)

    def state(as_of: datetime, **rules: Any) -> tuple[int, int, int]:
        table = jl.build_funnel(steps, jl.FunnelRules(["a", "b"], **rules), as_of=as_of).table
        return int(table["n_open"].iloc[0]), int(table["n_lost"].iloc[0]), int(table["n_mature"].iloc[0])

    week, tick = START + timedelta(days=7), timedelta(microseconds=1)
    # With a window: open until it has passed. At its last instant nothing can be missed any more.
    assert state(week - tick, within="7D") == (1, 0, 0)
    assert state(week, within="7D") == (0, 1, 1)
    # Without: lost once the silence is longer than the limit.
    assert state(week, dormant_after="7D") == (1, 0, 0)
    assert state(week + tick, dormant_after="7D") == (0, 1, 0)
    month, half_hour = START + timedelta(days=30), START + timedelta(minutes=30)
    assert [state(month), state(month + tick)] == [(1, 0, 0), (0, 1, 0)]
    assert [state(half_hour + i * tick, unit="session") for i in (0, 1)] == [(1, 0, 0), (0, 1, 0)]


def test_what_the_lost_did_next_is_not_taken_from_the_future(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": "k", "event": event, "timestamp": START + timedelta(hours=hours)}
        for event, hours in (("a", 0), ("c", 5), ("b", 50))
    ]
    steps = make_steps(rows, con=con)
    rules = jl.FunnelRules(["a", "b"], within="1h")
    seen = [jl.compare_next(steps, jl.build_funnel(steps, rules, as_of=START + timedelta(hours=h))) for h in (4, 5)]
    assert [table["next_event"].tolist() for table in seen] == [[None], ["c"]]


def test_what_six_customers_did_next_by_hand(six: ibis.Table) -> None:
    found = jl.compare_next(six, jl.build_funnel(six, BUY))
    # cleo paid at once; bert did nothing more. fred and emil are still on the way.
    assert list(found.itertuples(index=False, name=None)) == [(1, "shop", "pay", 1, 1.0), (2, "cart", None, 1, 1.0)]


def make_shops(con: ibis.BaseBackend, sizes: dict[str, tuple[int, int, int]]) -> jl.Funnel:
    """A funnel a → b → c where, of each channel, so many started, reached b, reached c; nobody is still on the way."""
    rows = []
    for channel, reached in sizes.items():
        for i in range(reached[0]):
            done = [event for event, n in zip("abc", reached, strict=True) if i < n]
            rows += [
                {
                    "customer_id": f"{channel}{i}",
                    "event": event,
                    "timestamp": START + timedelta(days=d),
                    "channel": channel,
                }
                for d, event in enumerate(done)
            ]
    steps = make_steps(rows, con=con)
    return jl.build_funnel(steps, ["a", "b", "c"], by="channel", as_of="2026-12-31")


def test_drop_offs_against_statsmodels(con: ibis.BaseBackend) -> None:
    sizes = {"web": (120, 90, 60), "app": (80, 30, 20), "ads": (20, 20, 0)}
    found = jl.find_drop_offs(make_shops(con, sizes))
    assert list(found.columns) == [
        *("channel", "step", "label", "next_label", "n", "n_lost", "share_lost", "share_lost_elsewhere", "difference"),
        *("low", "high", "p_adjusted", "excess_lost", "is_small"),
    ]
    expected = {}
    for channel, reached in sizes.items():
        for step in (1, 2):
            n, lost = reached[step - 1], reached[step - 1] - reached[step]
            n_else = sum(other[step - 1] for name, other in sizes.items() if name != channel)
            lost_else = sum(other[step - 1] - other[step] for name, other in sizes.items() if name != channel)
            low, high = proportion.confint_proportions_2indep(lost, n, lost_else, n_else, method="newcomb")
            p = proportion.test_proportions_2indep(lost, n, lost_else, n_else, method="agresti-caffo").pvalue
            difference = lost / n - lost_else / n_else
            expected[channel, step] = [n, lost, lost / n, lost_else / n_else, difference, low, high, p, difference * n]
    adjusted = multipletests([row[7] for row in expected.values()], method="holm")[1]
    for row, p in zip(expected.values(), adjusted, strict=True):
        row[7] = p
    for row in found.itertuples():
        assert (row.label, row.next_label) == (("a", "b") if row.step == 1 else ("b", "c"))
        np.testing.assert_allclose(np.array(row[5:14], dtype=float), expected[row.channel, row.step], rtol=1e-12)
        assert row.is_small == (row.n < 30)
    surest = found["low"] * found["n"]
    assert found["is_small"].is_monotonic_increasing
    assert surest[~found["is_small"]].is_monotonic_decreasing
    assert surest[found["is_small"]].is_monotonic_decreasing
    assert (found.iloc[0]["channel"], found.iloc[0]["step"]) == ("app", 1)
    assert not jl.find_drop_offs(make_shops(con, sizes), min_n=20)["is_small"].any()


def test_drop_offs_leave_out_who_is_still_on_the_way(six: ibis.Table) -> None:
    found = jl.find_drop_offs(jl.build_funnel(six, BUY, by="channel")).set_index(["channel", "step"])
    # web: four started, fred is on the way. cleo is lost, anna and dora go on.
    assert found.loc[("web", 1), ["n", "n_lost", "share_lost", "share_lost_elsewhere"]].tolist() == [3, 1, 1 / 3, 0.0]
    # (none): emil had a cart and is on the way, so nobody's fate is known there.
    assert found.loc[("(none)", 2), "n"] == 0
    assert found.loc[("(none)", 2), ["share_lost", "difference", "low", "high", "p_adjusted"]].isna().all()
    assert found["is_small"].all()


def test_one_group_has_no_others(con: ibis.BaseBackend) -> None:
    found = jl.find_drop_offs(make_shops(con, {"web": (40, 20, 10)}))
    assert found["share_lost"].tolist() == [0.5, 0.5]
    assert found[["share_lost_elsewhere", "difference", "low", "high", "p_adjusted"]].isna().all(axis=None)


def test_loss_that_is_the_same_everywhere_is_no_finding(con: ibis.BaseBackend) -> None:
    found = jl.find_drop_offs(make_shops(con, {"web": (200, 100, 50), "app": (200, 100, 50)}))
    assert (found["low"] < 0).all()
    assert (found["high"] > 0).all()
    assert (found["p_adjusted"] == 1).all()
    assert (found["excess_lost"] == 0).all()


def test_missing_steps_name_the_near_ones(six: ibis.Table) -> None:
    with pytest.raises(RuleError) as caught:
        jl.build_funnel(six, ["shop", "chart", "boughd", ("pay", "zzz")])
    assert str(caught.value) == (
        'FunnelRules: 3 of 5 names are neither an event nor a stage of this log: "chart" Did you mean "cart"?; '
        '"boughd" Did you mean "bought"?; "zzz" – known are ad, basket, bought, cart, help, look, pay, shop'
    )


@pytest.mark.parametrize(
    ("steps", "found"),
    [(["shop"], "['shop']"), ("shop", "'shop'"), ([], "[]"), (["shop", ""], "['shop', '']"), (["a", ()], "['a', ()]")],
)
def test_a_funnel_has_two_steps(six: ibis.Table, steps: Any, found: str) -> None:
    message = f"FunnelRules: steps must be a list of at least two events or stages; found {found}"
    for build in (jl.FunnelRules, lambda steps: jl.build_funnel(six, steps)):
        with pytest.raises(RuleError) as caught:
            build(steps)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "user"}, 'FunnelRules: unit must be one of customer, journey, session; found "user"'),
        (
            {"within": "7"},
            'within must be a duration with a unit, such as "30m", "12h", "30D" or "2w"; found \'7\'',
        ),
        (
            {"dormant_after": 30},
            'dormant_after must be a duration with a unit, such as "30m", "12h", "30D" or "2w"; found 30',
        ),
    ],
)
def test_rules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        jl.FunnelRules(["a", "b"], **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (
            "chanel",
            'build_funnel: no column "chanel" to split by. Did you mean "channel"? The columns are customer_id, event, '
            "timestamp, channel, value, journey_id, session_id, stage, position, rank, step, gap_s, next_event",
        ),
        ("step", 'build_funnel: "step" is a column of the answer itself; rename yours in read_events(columns=)'),
    ],
)
def test_groups_are_refused(six: ibis.Table, by: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        jl.build_funnel(six, BUY, by=by)
    assert str(caught.value) == message


def test_group_named_like_a_finding_is_refused(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": e, "timestamp": START, "difference": "x"} for e in "ab"]
    with pytest.raises(RuleError, match='"difference" is a column of the answer itself'):
        jl.build_funnel(make_steps(rows, con=con), ["a", "b"], by="difference")


def test_conversion_in_a_sentence_adds_up(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, BUY)
    first, last = funnel.table.iloc[0], funnel.table.iloc[-1]
    lost, still_open = funnel.table["n_lost"].sum(), funnel.table["n_open"].sum()
    assert first["n"] == last["n"] + lost + still_open
    assert jl.describe_conversion(funnel) == (
        f"{last['n']} of {first['n']} customers who started at {first['label']} reached {last['label']} "
        f"({100 * last['share_of_start']:.1f} %); {lost} are lost, {still_open} are still on the way."
    )


def test_drop_offs_need_groups(six: ibis.Table) -> None:
    with pytest.raises(RuleError) as caught:
        jl.find_drop_offs(jl.build_funnel(six, BUY))
    expected = 'find_drop_offs compares groups: build the funnel with by=, such as by="channel"'
    assert str(caught.value) == expected


def test_empty_log(con: ibis.BaseBackend) -> None:
    steps = make_steps([{"customer_id": "k", "event": "a", "timestamp": START}], SIX_RULES, con=con)
    with pytest.raises(RuleError, match="2 of 2 names are neither"):
        jl.build_funnel(steps.filter(steps.step > 1), ["a", "b"])
    with pytest.raises(SchemaError, match="there are no steps"):
        jl.build_journeys(steps.filter(steps.step > 1))
