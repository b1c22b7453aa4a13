"""Small logs on which the products differ, and what each preset answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import ibis
import pytest
from conftest import START, Row, fetch, make_steps

from journeylab.funnel import build_funnel
from journeylab.funnel_rules import FunnelRules, Product

# Who did what after how many hours; the funnel is a, b within a day, and x must not happen between.
LOGS = {
    "A1 A2 B": "a0 a5 b10",
    "B A": "b0 a1",
    "exactly a day": "a0 b24",
    "more than a day": "a0 b25",
    "A1 too early, A2 not": "a0 a20 b30",
    "again after the time ran out": "a0 a30 b31",
    "again after converting": "a0 b2 a3 b4",
    "excluded between": "a0 x1 b2",
    "excluded, then another start": "a0 x1 a2 b5",
    "excluded after another start": "a0 a1 x2 b3",
    "excluded before the start": "x0 a1 b2",
    "excluded after converting": "a0 b2 x3",
    "excluded at the second try": "a0 b2 a3 x4",
    "excluded after the time ran out": "a0 x30",
    "at once": "a0 b0",
}
LOST, OUT = "lost", "out"
# What each preset says: hours from the start that counts to b, lost, or taken out of the funnel (or never in it).
# GA4 and Retentioneering know no excluded events: there x is one event among others. Retentioneering knows no window.
ANSWERS: dict[str, tuple[Any, Any, Any, Any, Any]] = {
    # posthog, mixpanel, amplitude, ga4, retentioneering
    "A1 A2 B": (5, 10, 10, 10, 10),
    "B A": (LOST, LOST, LOST, LOST, LOST),
    "exactly a day": (24, 24, 24, 24, 24),
    "more than a day": (LOST, LOST, LOST, LOST, 25),
    "A1 too early, A2 not": (10, LOST, 10, 10, 30),
    "again after the time ran out": (1, LOST, 1, 1, 31),
    "again after converting": (2, 2, 2, 2, 2),
    "excluded between": (OUT, LOST, LOST, 2, 2),
    "excluded, then another start": (OUT, LOST, 3, 5, 5),
    "excluded after another start": (OUT, LOST, LOST, 3, 3),
    "excluded before the start": (1, 1, 1, 1, 1),
    "excluded after converting": (2, 2, 2, 2, 2),
    "excluded at the second try": (2, 2, 2, 2, 2),
    "excluded after the time ran out": (LOST, LOST, LOST, LOST, LOST),
    "at once": (LOST, LOST, LOST, LOST, LOST),
}
PRODUCTS = get_args(Product)
EXCLUDING = ("posthog", "mixpanel", "amplitude")


def make_log(con: ibis.BaseBackend, logs: dict[str, str]) -> ibis.Table:
    """Steps from "a0 b5:web": what after how many hours, by which channel; somebody else is seen long after."""
    rows = []
    for customer, log in {**logs, "somebody else": "x2000 a2000 b2000 c2000"}.items():
        for word in log.split():
            what, _, channel = word.partition(":")
            now = START + timedelta(hours=float(what[1:]))
            rows.append({"customer_id": customer, "event": what[0], "timestamp": now, "channel": channel or None})
    return make_steps(rows, con=con)


def ask(steps: ibis.Table, rules: FunnelRules, as_of: Any = START + timedelta(hours=1000)) -> list[Row]:
    return fetch(build_funnel(steps, rules, as_of=as_of).units)


def to_hours(row: Row) -> Any:
    last = [time for name, time in row.items() if name.startswith("time_")][-1]
    return LOST if last is None else (last - row["time_1"]) / timedelta(hours=1)


@pytest.mark.parametrize("product", PRODUCTS)
def test_what_each_preset_answers(con: ibis.BaseBackend, product: Product) -> None:
    rules = FunnelRules.like(product, ["a", "b"])
    if product != "retentioneering":
        rules = replace(rules, within="1D")
    if product in EXCLUDING:
        rules = replace(rules, exclude="x")
    found = {row["unit"]: to_hours(row) for row in ask(make_log(con, LOGS), rules)}
    column = PRODUCTS.index(product)
    assert {log: found.get(log, OUT) for log in LOGS} == {log: answers[column] for log, answers in ANSWERS.items()}


WINDOWS = {"posthog": 14, "mixpanel": 7, "amplitude": 1}


@pytest.mark.parametrize("product", WINDOWS)
def test_windows_are_inclusive(con: ibis.BaseBackend, product: Product) -> None:
    hours = 24 * WINDOWS[product]
    steps = make_log(con, {"just": f"a0 b{hours}", "late": f"a0 b{hours + 1e-6}"})
    found = {row["unit"]: to_hours(row) for row in ask(steps, FunnelRules.like(product, ["a", "b"]))}
    assert found == {"just": hours, "late": LOST}


@pytest.mark.parametrize("product", ["ga4", "retentioneering"])
def test_no_window_by_default(con: ibis.BaseBackend, product: Product) -> None:
    steps = make_log(con, {"k": "a0 b900"})
    assert [to_hours(row) for row in ask(steps, FunnelRules.like(product, ["a", "b"]))] == [900]


@pytest.mark.parametrize(("product", "reached"), [("ga4", 3), ("posthog", 2), ("mixpanel", 2), ("amplitude", 2)])
def test_the_clock_of_ga4_starts_anew_at_each_step(con: ibis.BaseBackend, product: Product, reached: int) -> None:
    steps = make_log(con, {"k": "a0 b20 c44"})
    rules = replace(FunnelRules.like(product, ["a", "b", "c"]), within="1D")
    assert [row["reached"] for row in ask(steps, rules)] == [reached]


def test_the_furthest_step_wins(con: ibis.BaseBackend) -> None:
    """The first start gets nowhere, the second to b, the third nowhere again."""
    steps = make_log(con, {"k": "a0 a30 b31 a90"})
    reached = {}
    for product in ("posthog", "mixpanel", "amplitude", "ga4"):
        rules = replace(FunnelRules.like(product, ["a", "b", "c"]), within="1D")
        reached[product] = [row["reached"] for row in ask(steps, rules)]
    assert reached == {"posthog": [2], "mixpanel": [1], "amplitude": [2], "ga4": [2]}


@pytest.mark.parametrize("product", PRODUCTS)
def test_who_is_still_on_the_way_stands_beside_what_the_product_shows(con: ibis.BaseBackend, product: Product) -> None:
    steps = make_log(con, {"done": "a0 b1", "gone": "a0", "new": "a990"})
    rules = replace(FunnelRules.like(product, ["a", "b"]), within="1D")
    table = build_funnel(steps, rules, as_of=START + timedelta(hours=1000)).table
    # All of them show 1 of 3. Of the two whose time is over, one converted.
    assert table["share_of_start"].tolist() == [1.0, 1 / 3]
    assert (table["n_lost"].tolist(), table["n_open"].tolist()) == ([1, 0], [1, 0])
    assert table["conversion_mature"].tolist() == [1.0, 0.5]


# What the presets do not reproduce. Each test says what the product would answer.


def test_posthog_sorts_an_instant_by_step(con: ibis.BaseBackend) -> None:
    """PostHog: a and b at one instant convert. Here only if seq or event_id says that b came later."""
    rules = FunnelRules.like("posthog", ["a", "b"])
    assert [to_hours(row) for row in ask(make_log(con, {"k": "b0 a0"}), rules)] == [LOST]
    rows = [{"customer_id": "k", "event": e, "timestamp": START, "seq": i} for i, e in enumerate("ab")]
    assert [to_hours(row) for row in ask(make_steps(rows, con=con), rules)] == [0]


def test_mixpanel_has_a_grace_of_two_seconds(con: ibis.BaseBackend) -> None:
    """Mixpanel: b one second before a converts."""
    rules = FunnelRules.like("mixpanel", ["a", "b"])
    assert [to_hours(row) for row in ask(make_log(con, {"k": f"b0 a{1 / 3600}"}), rules)] == [LOST]


def test_mixpanel_lets_people_in_again(con: ibis.BaseBackend) -> None:
    """Mixpanel: who ran out of time may enter again, and converts. Here attempts count that, as its totals do."""
    steps = make_log(con, {"k": "a0 a200 b201"})
    rules = FunnelRules.like("mixpanel", ["a", "b"])
    assert [to_hours(row) for row in ask(steps, rules)] == [LOST]
    attempts = ask(steps, replace(rules, unit="attempt"))
    assert {row["attempt"]: to_hours(row) for row in attempts} == {1: LOST, 2: 1}


def test_amplitude_takes_either_order_within_a_second(con: ibis.BaseBackend) -> None:
    """Amplitude: b half a second before a converts."""
    rules = FunnelRules.like("amplitude", ["a", "b"])
    assert [to_hours(row) for row in ask(make_log(con, {"k": f"b0 a{0.5 / 3600}"}), rules)] == [LOST]


def test_amplitude_counts_customer_and_value(con: ibis.BaseBackend) -> None:
    """Amplitude: with the channel held constant this is two who started, one of whom converted. Here it is one."""
    steps = make_log(con, {"k": "a0:web a1:app b2:app"})
    rules = replace(FunnelRules.like("amplitude", ["a", "b"]), hold_constant="channel")
    assert [to_hours(row) for row in ask(steps, rules)] == [1]


def test_ga4_may_be_open(con: ibis.BaseBackend) -> None:
    """GA4, open funnel: who begins at b is counted there. Here nobody begins but at the first step."""
    assert ask(make_log(con, {"k": "b0"}), FunnelRules.like("ga4", ["a", "b"])) == []


def test_ga4_may_ask_for_directly_followed(con: ibis.BaseBackend) -> None:
    """GA4: b directly after a, then c at any time, converts. Here the order is strict everywhere or nowhere."""
    steps = make_log(con, {"k": "a0 b1 x2 c3", "l": "a0 x1 b2 c3"})
    rules = FunnelRules.like("ga4", ["a", "b", "c"])
    assert {row["unit"]: row["reached"] for row in ask(steps, rules)} == {"k": 3, "l": 3}
    assert {row["unit"]: row["reached"] for row in ask(steps, replace(rules, order="strict"))} == {"k": 2, "l": 1}


def test_retentioneering_orders_an_instant_by_the_file(con: ibis.BaseBackend) -> None:
    """Retentioneering: a before b in the file converts."""
    rules = FunnelRules.like("retentioneering", ["a", "b"])
    assert [to_hours(row) for row in ask(make_log(con, {"k": "a0 b0"}), rules)] == [LOST]
