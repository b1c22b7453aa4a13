"""Where units are lost and what became of them, against a walk along each customer's events."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import (
    ENDS,
    EVENTS,
    START,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    make_steps,
    random_logs,
)
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import proportion
from statsmodels.stats.multitest import multipletests

import journeylab as jl
from journeylab.drop_off import describe_drop_off, find_drop_offs
from journeylab.errors import RuleError
from journeylab.leaving import compare_next, count_returns, measure_dwell

BUY = ("shop", "cart", "pay")
STAGED = jl.JourneyRules(stages=("s2", "b"), stage_of={"a": "b", "/^[cd]$/": "s2"}, journey_gap="2h", session_gap="30m")
UNIT_COLUMN = {
    "customer": "customer_id",
    "journey": "journey_id",
    "session": "session_id",
    "account": "account_id",
    "attempt": "customer_id",
}
STEPS = st.lists(
    st.sampled_from((*EVENTS, "s2", ("a", "b"), jl.Step("c", where='channel == "web"'))), min_size=2, max_size=4
)


@st.composite
def random_funnels(draw: st.DrawFn) -> jl.FunnelRules:
    steps = draw(STEPS)
    options = {
        "within": draw(st.sampled_from((None, "10m", "30m", "2h"))),
        "unit": draw(st.sampled_from(tuple(UNIT_COLUMN))),
        "dormant_after": draw(st.sampled_from((None, "10m", "2h"))),
        "window_from": draw(st.sampled_from(("first", "previous"))),
    }
    if options["unit"] != "attempt":
        options["entry"] = draw(st.sampled_from(("first", "first", "latest")))
    if len(steps) > 2 and isinstance(steps[1], str) and steps[0] != steps[1] != steps[-1] and draw(st.booleans()):
        options["optional"] = steps[1]
    return jl.FunnelRules(steps, **options)


def prepare(rows: list[Row]) -> list[Row]:
    """Accounts for all but one, and a customer who knows every event, late: the funnel's names always exist."""
    accounts = {"k": "one", "k/1": "one", "a": "one", "k/~1": None}
    rows = [{**row, "account_id": accounts.get(row["customer_id"], "two")} for row in rows]
    blank = {**dict.fromkeys(rows[0]), "customer_id": "late", "timestamp": START + timedelta(hours=5)}
    return rows + [{**blank, "event": event} for event in "dcba"]


LOGS = random_logs(columns=("journey_id", "session_id"), always=("channel", "value")).map(prepare)


class Log:
    """What the oracles look at: the events up to the end of observation, by unit and by owner, and the units."""

    def __init__(self, steps: ibis.Table, funnel: jl.Funnel) -> None:
        rules = funnel.rules
        self.rules, self.as_of, self.labels = rules, funnel.as_of, funnel.labels
        rows = fetch(steps)
        self.names = {row["event"] for row in rows}
        seen = [row for row in rows if row["timestamp"] <= funnel.as_of]
        order = ("timestamp", "customer_id", "position")
        self.of_unit = group_rows(sorted(seen, key=lambda row: [row[k] for k in order]), UNIT_COLUMN[rules.unit])
        owner = "account_id" if rules.unit == "account" else "customer_id"
        self.of_owner = group_rows(sorted(seen, key=lambda row: [row[k] for k in order]), owner)
        self.units = fetch(funnel.units)
        self.turns = list(zip(rules.required, rules.required[1:], strict=False))

    def owned(self, unit: Row) -> list[Row]:
        return self.of_owner[unit["unit" if self.rules.unit == "account" else "customer_id"]]

    def is_step(self, row: Row, i: int) -> bool:
        step = self.rules.walk_steps[i - 1]
        is_named = any(row["event" if name in self.names else "stage"] == name for name in step.names)
        return is_named and (step.where is None or row["channel"] == "web")

    def lost(self, step: int) -> list[Row]:
        return [unit for unit in self.units if unit["reached"] == step < len(self.labels) and not unit["is_open"]]


def seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()


def middle(values: list[float]) -> float:
    return median(values) if values else np.nan


def wilson(part: int, whole: int) -> list[float]:
    return list(proportion.proportion_confint(part, whole, method="wilson")) if whole else [np.nan, np.nan]


def share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def assert_same(found: pd.DataFrame, expected: list[list[Any]]) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found.itertuples(index=False, name=None), expected, strict=True):
        assert len(row) == len(wanted)
        for one, other in zip(row, wanted, strict=True):
            same = one == other or (isinstance(other, float) and np.isclose(one, other, 1e-9, 1e-12, equal_nan=True))
            assert same, (row, wanted)


@examples(4)
@given(rows=LOGS, rules=random_funnels(), as_of=ENDS)
def test_what_became_of_units_is_that_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.FunnelRules, as_of: datetime | None
) -> None:
    steps = make_steps(rows, STAGED, con=con)
    funnel = jl.build_funnel(steps, rules, as_of=as_of)
    log = Log(steps, funnel)
    assert_next(compare_next(steps, funnel), log)
    assert_returns(count_returns(steps, funnel, dormant_after="30m"), log, timedelta(minutes=30))
    assert_dwell(measure_dwell(steps, funnel), log)
    n_lost = funnel.table.set_index("step")["n_lost"]
    assert count_returns(steps, funnel)["n_lost"].tolist() == n_lost[list(rules.required[:-1])].tolist()
    drop_tables(con)


def stop_time(unit: Row, log: Log) -> datetime:
    return unit[f"time_{unit['reached']}"]


def assert_next(found: pd.DataFrame, log: Log) -> None:
    waits: dict[tuple[int, str | None], list[float]] = {}
    for step, _ in log.turns:
        for unit in log.lost(step):
            # An account's events are counted along the account.
            later = log.owned(unit)[unit["reached_position"] :]
            following = later[0] if later else None
            wait = waits.setdefault((step, following and following["event"]), [])
            wait += [seconds(following["timestamp"], stop_time(unit, log))] if following else [np.nan]
    totals = Counter(step for (step, _), wait in waits.items() for _ in wait)
    expected = []
    for (step, name), wait in sorted(waits.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1] or "")):
        n, whole = len(wait), totals[step]
        expected.append([step, log.labels[step - 1], name, n, n / whole, *wilson(n, whole), float(median(wait))])
    assert list(found.columns) == ["step", "label", "next_event", "n", "share", "low", "high", "median_time_s"]
    assert_same(found, expected)


def assert_returns(found: pd.DataFrame, log: Log, dormant: timedelta) -> None:
    expected = []
    for step, following in log.turns:
        fates: Counter[str] = Counter()
        back = []
        for unit in log.lost(step):
            later = [row for row in log.owned(unit) if row["timestamp"] > unit["lost_time"]]
            silence = log.as_of - max(row["timestamp"] for row in log.owned(unit))
            if later:
                fates["late" if any(log.is_step(row, following) for row in later) else "back"] += 1
                back.append(seconds(later[0]["timestamp"], stop_time(unit, log)))
            else:
                fates["gone" if silence > dormant else "dormant"] += 1
        n = sum(fates.values())
        counts = [fates[name] for name in ("late", "back", "dormant", "gone")]
        shares = [share(len(back), n), *wilson(len(back), n)]
        expected.append([step, log.labels[step - 1], n, *counts, *shares, middle(back)])
    assert list(found.columns) == [
        *("step", "label", "n_lost", "n_next_later", "n_returned", "n_dormant", "n_gone"),
        *("share_back", "low", "high", "median_back_s"),
    ]
    assert_same(found, expected)


def assert_dwell(found: pd.DataFrame, log: Log) -> None:
    expected = []
    for step, following in log.turns:
        n = n_next = n_repeated = n_back = n_stuck = n_stuck_known = n_stuck_next = 0
        waits, stays = [], []
        for unit in log.units:
            if unit["reached"] < step:
                continue
            since, until = unit[f"time_{step}"], unit[f"time_{following}"]
            has_next, is_lost = until is not None, unit["reached"] == step and not unit["is_open"]
            during = [
                row
                for row in log.of_unit[unit["unit"]]
                if since < row["timestamp"] <= (unit["lost_time"] or log.as_of)
                and (until is None or row["timestamp"] < until)
            ]
            again = sum(log.is_step(row, step) for row in during)
            earlier = any(log.is_step(row, i) and not log.is_step(row, step) for row in during for i in range(1, step))
            n, n_next, n_repeated, n_back = n + 1, n_next + has_next, n_repeated + (again > 0), n_back + earlier
            if again >= 2:
                n_stuck, n_stuck_known = n_stuck + 1, n_stuck_known + (has_next or is_lost)
                n_stuck_next += has_next
            waits += [seconds(until, since)] if has_next else []
            stays += [seconds(max([since, *(row["timestamp"] for row in during)]), since)] if is_lost else []
        counts = [n, n_next, middle(waits), middle(stays), n_repeated, n_back, n_stuck, share(n_stuck, n)]
        stuck = [n_stuck_known, share(n_stuck_next, n_stuck_known), *wilson(n_stuck_next, n_stuck_known)]
        expected.append([step, log.labels[step - 1], *counts, *stuck])
    assert list(found.columns) == [
        *("step", "label", "n", "n_next", "median_next_s", "median_stay_s", "n_repeated", "n_back", "n_stuck"),
        *("share_stuck", "n_stuck_known", "share_stuck_next", "low", "high"),
    ]
    assert_same(found, expected)


@examples(4)
@given(
    rows=LOGS,
    rules=random_funnels(),
    by=st.sampled_from((None, "channel", ("channel", "event"))),
    as_of=ENDS,
)
def test_places_are_those_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.FunnelRules, by: Any, as_of: datetime | None
) -> None:
    steps = make_steps(rows, STAGED, con=con)
    funnel = jl.build_funnel(steps, rules, by=by, as_of=as_of)
    found = find_drop_offs(funnel, steps=steps, value="value")
    log = Log(steps, funnel)
    known = [unit for unit in log.units if (not unit["is_open"] if rules.within is None else unit["is_mature"])]
    groups = found[list(funnel.by)].agg(" · ".join, axis=1) if by and len(found) else [None] * len(found)
    assert len(found) == len(log.turns) * (len({unit["group"] for unit in log.units}) if by else 1)
    for row, group in zip(found.to_dict("records"), groups, strict=True):
        step, following = row["step"], dict(log.turns)[row["step"]]
        place = f"time_{step}"
        here = [unit for unit in log.units if unit[place] and group in (None, unit.get("group"))]
        if rules.within is None:
            here = [unit for unit in here if not (unit["is_open"] and unit["reached"] == step)]
        else:
            here = [unit for unit in here if unit["is_mature"]]
        n_lost = sum(unit["reached"] == step for unit in here)
        assert (row["n"], row["n_lost"]) == (len(here), n_lost)
        assert row["share_lost"] == pytest.approx(share(n_lost, len(here)), nan_ok=True)
        assert (row["label"], row["next_label"]) == (log.labels[step - 1], log.labels[following - 1])
        onward = [unit for unit in known if unit["reached"] >= following]
        own = [unit for unit in onward if group in (None, unit.get("group"))] or onward
        each = np.mean([brought(unit, log) for unit in own]) if own else np.nan
        assert row["value_each"] == pytest.approx(each, nan_ok=True)
        worth, size = ("excess_value", "excess_lost") if by else ("value_lost", "n_lost")
        assert row[worth] == pytest.approx(row[size] * each, nan_ok=True)
        assert row["is_small"] == (len(here) < 30)
    drop_tables(con)


def brought(unit: Row, log: Log) -> float:
    if unit["reached"] < len(log.labels):
        return 0.0
    row = log.of_unit[unit["unit"]]
    if log.rules.unit == "account":
        return row[unit["reached_position"] - 1]["value"] or 0.0
    return next(event["value"] or 0.0 for event in row if event["position"] == unit["reached_position"])


def test_places_of_six_customers_by_hand(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, BUY)
    found = find_drop_offs(funnel, steps=six, value="value", min_n=1)
    assert list(found.columns) == [
        *("step", "label", "next_label", "n", "n_lost", "share_lost", "low", "high", "share_of_losses"),
        *("median_time_s", "value_each", "value_lost", "is_small"),
    ]
    # From the cart anna and dora went on and paid 20 and 30; bert is lost. From the shop bert went on too, for nothing.
    assert found["step"].tolist() == [2, 1]
    assert found["n"].tolist() == [3, 5]
    assert found["n_lost"].tolist() == [1, 1]
    assert found["share_lost"].tolist() == [1 / 3, 1 / 5]
    assert found["share_of_losses"].tolist() == [0.5, 0.5]
    assert found["value_each"].tolist() == [25.0, 50 / 3]
    assert found["value_lost"].tolist() == [25.0, 50 / 3]
    np.testing.assert_allclose(found[["low", "high"]], [wilson(1, 3), wilson(1, 5)])
    assert describe_drop_off(found, funnel) == (
        "Most is lost between cart and pay: of the 3 customers who reached cart and are not still on the way, "
        "1 (33.3 %, 95 % interval 6.1–79.2 %) never reached pay: 50.0 % of all losses and about 25 of value."
    )
    # Without values the first step comes first, and six are too few.
    plain = find_drop_offs(funnel)
    assert plain["step"].tolist() == [1, 2]
    assert plain["is_small"].all()
    assert describe_drop_off(plain, funnel) == "No step has lost customers yet among enough whose time has passed."


def test_what_six_customers_did_next_by_hand(six: ibis.Table) -> None:
    found = compare_next(six, jl.build_funnel(six, BUY))
    # cleo paid a day later; bert did nothing more. fred and emil are still on the way.
    columns = ["step", "label", "next_event", "n", "share"]
    assert list(found[columns].itertuples(index=False, name=None)) == [
        (1, "shop", "pay", 1, 1.0),
        (2, "cart", None, 1, 1.0),
    ]
    assert found["median_time_s"].tolist()[0] == 86_400
    assert np.isnan(found["median_time_s"].tolist()[1])


def test_next_is_looked_for_beyond_the_journey(six: ibis.Table) -> None:
    # dora's first journey is one shop; she came again after forty days.
    found = compare_next(six, jl.build_funnel(six, jl.FunnelRules(BUY, unit="journey"))).set_index("next_event")
    assert found.loc["shop", ["step", "n", "median_time_s"]].tolist() == [1, 1, 40 * 86_400.0]


def test_returns_of_six_customers_by_hand(six: ibis.Table) -> None:
    found = count_returns(six, jl.build_funnel(six, jl.FunnelRules(BUY, within="1h"))).set_index("step")
    # Lost at the shop: bert and dora, who filled a cart later; cleo and fred, who came back for something else.
    assert found.loc[1, "n_lost":"n_gone"].tolist() == [4, 2, 2, 0, 0]
    assert found.loc[1, "share_back"] == 1
    # bert 30 min is within the hour, 61 min is after it; cleo a day, dora forty days, fred 53.
    assert found.loc[1, "median_back_s"] == (86_400 + 40 * 86_400) / 2
    # Silent customers alone: lost after 30 days of silence, and so gone; with more patience only dormant.
    silent = jl.build_funnel(six, BUY)
    assert count_returns(six, silent)["n_gone"].tolist() == [1, 1]
    assert count_returns(six, silent, dormant_after="90D")["n_dormant"].tolist() == [1, 1]


def test_dwell_of_six_customers_by_hand(six: ibis.Table) -> None:
    found = measure_dwell(six, jl.build_funnel(six, BUY)).set_index("step")
    # bert saw the shop again before his cart, dora on her second visit.
    assert found.loc[1, ["n", "n_next", "n_repeated", "n_back", "n_stuck"]].tolist() == [6, 4, 2, 0, 0]
    # To the cart: anna 5 min, bert 61, dora 40 days and 10 min, emil 5. cleo, who is lost, was there for a day.
    assert found.loc[1, "median_next_s"] == (300 + 3660) / 2
    assert found.loc[1, "median_stay_s"] == 86_400
    assert found.loc[2, ["n_next", "median_next_s", "median_stay_s"]].tolist() == [2, 600, 0]


def test_who_is_stuck(con: ibis.BaseBackend) -> None:
    def history(customer: str, events: str) -> list[Row]:
        times = enumerate(events)
        return [{"customer_id": customer, "event": e, "timestamp": START + timedelta(hours=h)} for h, e in times]

    # Three times at b: k leaves, l goes on. m does it twice. n goes back to a.
    logs = {"k": "abbb", "l": "abxbbc", "m": "abb", "n": "abac"}
    steps = make_steps([row for item in logs.items() for row in history(*item)], con=con)
    found = measure_dwell(steps, jl.build_funnel(steps, ["a", "b", "c"], as_of="2026-12-31")).iloc[1]
    assert found[["n", "n_next", "n_repeated", "n_back", "n_stuck"]].tolist() == [4, 2, 3, 1, 2]
    assert found[["share_stuck", "n_stuck_known", "share_stuck_next"]].tolist() == [0.5, 2, 0.5]


def test_what_the_lost_did_next_is_not_taken_from_the_future(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": "k", "event": event, "timestamp": START + timedelta(hours=hours)}
        for event, hours in (("a", 0), ("c", 5), ("b", 50))
    ]
    steps = make_steps(rows, con=con)
    rules = jl.FunnelRules(["a", "b"], within="1h")

    def ask(hours: int) -> tuple[list[Any], list[int]]:
        funnel = jl.build_funnel(steps, rules, as_of=START + timedelta(hours=hours))
        returned = count_returns(steps, funnel)
        classes = ["n_next_later", "n_returned", "n_dormant", "n_gone"]
        return compare_next(steps, funnel)["next_event"].tolist(), returned.loc[0, classes].tolist()

    assert ask(4) == ([None], [0, 0, 1, 0])
    assert ask(5) == (["c"], [0, 1, 0, 0])
    assert ask(50) == (["c"], [1, 0, 0, 0])


def test_nobody_is_lost(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": e, "timestamp": START + timedelta(hours=i)} for i, e in enumerate("ab")]
    steps = make_steps(rows, con=con)
    funnel = jl.build_funnel(steps, ["a", "b"])
    assert compare_next(steps, funnel).empty
    returned = count_returns(steps, funnel)
    assert returned[["n_lost", "n_next_later", "n_returned", "n_dormant", "n_gone"]].to_numpy().tolist() == [[0] * 5]
    assert returned[["share_back", "low", "high", "median_back_s"]].isna().all(axis=None)
    assert find_drop_offs(funnel)["share_of_losses"].isna().all()


@pytest.mark.parametrize("by", [None, "channel"])
def test_nobody_started_yet(six: ibis.Table, by: str | None) -> None:
    funnel = jl.build_funnel(six, jl.FunnelRules(BUY, within="1D"), by=by, as_of="2025-01-01")
    assert compare_next(six, funnel).empty
    assert measure_dwell(six, funnel)["n"].tolist() == [0, 0]
    found = find_drop_offs(funnel, steps=six, value="value")
    assert len(found) == (0 if by else 2)
    assert not found["n"].any()
    assert "nobody's time has passed" in describe_drop_off(found, funnel) or not by


def make_shops(con: ibis.BaseBackend, sizes: dict[str, tuple[int, int, int]]) -> jl.Funnel:
    """A funnel a → b → c where, of each channel, so many started, reached b, reached c; nobody is still on the way."""
    rows = [
        {"customer_id": f"{channel}{i}", "event": event, "timestamp": START + timedelta(days=day), "channel": channel}
        for channel, reached in sizes.items()
        for day, (event, n) in enumerate(zip("abc", reached, strict=True))
        for i in range(n)
    ]
    return jl.build_funnel(make_steps(rows, con=con), ["a", "b", "c"], by="channel", as_of="2026-12-31")


def test_drop_offs_against_statsmodels(con: ibis.BaseBackend) -> None:
    sizes = {"web": (120, 90, 60), "app": (80, 30, 20), "ads": (20, 20, 0)}
    found = find_drop_offs(make_shops(con, sizes))
    assert list(found.columns) == [
        *("channel", "step", "label", "next_label", "n", "n_lost", "share_lost", "share_lost_elsewhere", "difference"),
        *("low", "high", "p_adjusted", "excess_lost", "is_small"),
    ]
    expected: dict[tuple[str, int], list[float]] = {}
    for channel, reached in sizes.items():
        for step in (1, 2):
            n, lost = reached[step - 1], reached[step - 1] - reached[step]
            n_else = sum(other[step - 1] for name, other in sizes.items() if name != channel)
            lost_else = sum(other[step - 1] - other[step] for name, other in sizes.items() if name != channel)
            low, high = proportion.confint_proportions_2indep(lost, n, lost_else, n_else, method="newcomb")
            p = proportion.test_proportions_2indep(lost, n, lost_else, n_else, method="agresti-caffo").pvalue
            difference = lost / n - lost_else / n_else
            expected[channel, step] = [n, lost, lost / n, lost_else / n_else, difference, low, high, p, difference * n]
    tested = [row for row in expected.values() if row[0] >= 30]
    for row, p in zip(tested, multipletests([row[7] for row in tested], method="holm")[1], strict=True):
        row[7] = p
    for row in expected.values():
        row[7] = row[7] if row in tested else np.nan
    for row in found.itertuples():
        assert (row.label, row.next_label) == (("a", "b") if row.step == 1 else ("b", "c"))
        np.testing.assert_allclose(np.array(row[5:14], dtype=float), expected[row.channel, row.step], rtol=1e-12)
        assert row.is_small == (row.n < 30)
    surest = found["low"] * found["n"]
    assert found["is_small"].is_monotonic_increasing
    assert surest[~found["is_small"]].is_monotonic_decreasing
    assert surest[found["is_small"]].is_monotonic_decreasing
    assert (found.iloc[0]["channel"], found.iloc[0]["step"]) == ("app", 1)
    assert not find_drop_offs(make_shops(con, sizes), min_n=20)["is_small"].any()


def test_drop_offs_leave_out_who_is_still_on_the_way(six: ibis.Table) -> None:
    found = find_drop_offs(jl.build_funnel(six, BUY, by="channel")).set_index(["channel", "step"])
    # web: four started, fred is on the way. cleo is lost, anna and dora go on.
    assert found.loc[("web", 1), ["n", "n_lost", "share_lost", "share_lost_elsewhere"]].tolist() == [3, 1, 1 / 3, 0.0]
    # (none): emil had a cart and is on the way, so nobody's fate is known there.
    assert found.loc[("(none)", 2), "n"] == 0
    assert found.loc[("(none)", 2), ["share_lost", "difference", "low", "high", "p_adjusted"]].isna().all()
    assert found["is_small"].all()


def test_one_group_has_no_others(con: ibis.BaseBackend) -> None:
    found = find_drop_offs(make_shops(con, {"web": (40, 20, 10)}))
    assert found["share_lost"].tolist() == [0.5, 0.5]
    assert found[["share_lost_elsewhere", "difference", "low", "high", "p_adjusted"]].isna().all(axis=None)


def test_loss_that_is_the_same_everywhere_is_no_finding(con: ibis.BaseBackend) -> None:
    funnel = make_shops(con, {"web": (200, 100, 50), "app": (200, 100, 50)})
    found = find_drop_offs(funnel)
    assert (found["low"] < 0).all()
    assert (found["high"] > 0).all()
    assert (found["p_adjusted"] == 1).all()
    assert (found["excess_lost"] == 0).all()
    assert (
        describe_drop_off(found, funnel)
        == "No channel loses more customers at any step than the others do, beyond chance."
    )


def test_who_came_lately_is_not_flattered(con: ibis.BaseBackend) -> None:
    """Half of each group goes on a day later, the others never; "new" came two days before the end."""
    as_of = START + timedelta(days=30)
    rows: list[Row] = []
    for channel, start in (("old", 0), ("new", 28)):
        for i in range(100):
            day = START + timedelta(days=start)
            row = {"customer_id": f"{channel}{i}", "event": "a", "timestamp": day, "channel": channel}
            rows += [row, {**row, "event": "b", "timestamp": day + timedelta(days=1)}][: 1 + i % 2]
    funnel = jl.build_funnel(
        make_steps(rows, con=con), jl.FunnelRules(["a", "b"], within="7D"), by="channel", as_of=as_of
    )
    found = find_drop_offs(funnel).set_index("channel")
    assert found.loc["old", ["n", "n_lost"]].tolist() == [100, 50]
    # All 50 of "new" who are not still on the way went on: nobody of them may be looked at yet.
    assert found.loc["new", ["n", "n_lost"]].tolist() == [0, 0]
    assert found["p_adjusted"].isna().all()


def test_a_value_at_stake(con: ibis.BaseBackend) -> None:
    """Both shops lose most at a; web's customers bring 10, those of app 1,000."""
    rows = []
    for channel, reached, price in (("web", (100, 30, 30), 10.0), ("app", (100, 80, 40), 1000.0)):
        for day, (event, n) in enumerate(zip("abc", reached, strict=True)):
            row = {"event": event, "timestamp": START + timedelta(days=day), "channel": channel}
            rows += [{**row, "customer_id": f"{channel}{i}", "value": price if event == "c" else 0.0} for i in range(n)]
    steps = make_steps(rows, con=con)
    funnel = jl.build_funnel(steps, ["a", "b", "c"], by="channel", as_of="2026-12-31")
    found = find_drop_offs(funnel, steps=steps, value="value")
    first = found.iloc[0]
    assert (first["channel"], first["label"]) == ("app", "b")
    # Of the 80 who went on from a, 40 brought 1,000; who went on from b brought all of it.
    values = found.set_index(["channel", "step"])
    assert values["value_each"].to_dict() == {("app", 1): 500, ("app", 2): 1000, ("web", 1): 10, ("web", 2): 10}
    # At b, app loses 40 of 80 and web 0 of 30.
    assert first["excess_lost"] == 40
    assert first["excess_value"] == 40_000
    assert describe_drop_off(found, funnel) == (
        "Of the 80 customers of channel app who reached b and are not still on the way, 50.0 % never reached c, "
        "against 0.0 % elsewhere (95 % interval of the difference: +34.4 to +60.7 pp): about 40 more customers than "
        "expected, worth about 40,000."
    )
    assert find_drop_offs(funnel).iloc[0][["channel", "label"]].tolist() == ["web", "a"]


def test_values_are_refused(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, BUY)
    with pytest.raises(RuleError) as caught:
        find_drop_offs(funnel, value="value")
    assert str(caught.value) == (
        "find_drop_offs: value needs steps=, and steps needs value=: the column and where it is found"
    )
    for name, hint in (("valeu", ' Did you mean "value"?'), ("channel", "")):
        with pytest.raises(RuleError) as caught:
            find_drop_offs(funnel, steps=six, value=name)
        assert str(caught.value) == f'find_drop_offs: no number column "{name}" in steps.{hint}'
