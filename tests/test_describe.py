"""What describes personas, against a walk through each customer's journeys; typical journeys; coverage."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import (
    ENDS,
    SIX_RULES,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    make_steps,
    random_logs,
    random_rules,
    round_by_hand,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.personas.counting import count_moves
from journeylab.personas.describe import estimate_transitions, profile_personas, summarise_personas
from journeylab.personas.markov import MarkovMixture
from journeylab.personas.tallying import Tally, tally_members
from journeylab.personas.typical import find_typical

K = 3
Members = dict[str, int]


def store_members(con: ibis.BaseBackend, members: Members) -> ibis.Table:
    """Every third customer is atypical; probabilities differ."""
    rows = [
        {"customer_id": name, "persona": persona, "probability": 1 / (1 + i), "is_atypical": i % 3 == 0}
        for i, (name, persona) in enumerate(sorted(members.items()))
    ]
    return con.create_table(ibis.util.gen_name("members"), pd.DataFrame(rows), temp=True)


class ByHand:
    """All journeys of a log with their steps, as far as `journeys` counts them."""

    def __init__(self, steps: list[Row], journeys: list[Row], members: Members) -> None:
        own = group_rows(sorted(steps, key=lambda row: row["step"]), "journey_id")
        self.members = dict(members.items())
        self.journeys = [
            {**journey, "steps": own[journey["journey_id"]][: journey["n_steps"]], "persona": members[name]}
            for journey in journeys
            if (name := journey["customer_id"]) in members
        ]
        self.customers = group_rows(self.journeys, "customer_id")
        self.has_goal = any(journey["reached_goal"] for journey in self.journeys)
        self.has_value = any(journey["value"] is not None for journey in self.journeys)

    def of(self, persona: int) -> list[list[Row]]:
        return [own for name, own in self.customers.items() if self.members[name] == persona]

    def share(self, own: list[Row], event: str) -> float:
        events = [step["event"] for journey in own for step in journey["steps"]]
        return events.count(event) / len(events)

    def summary(self, persona: int) -> dict[str, Any]:
        own = self.of(persona)
        journeys = [journey for each in own for journey in each]
        reached = [each for each in own if any(journey["reached_goal"] for journey in each)]
        values = [sum(journey["value"] or 0 for journey in each) for each in own]
        waits = [
            round_by_hand(journey["goal_time"] - journey["start_time"]) for journey in journeys if journey["goal_time"]
        ]
        dropped = Counter(j["steps"][-1]["event"] for j in journeys if not j["is_open"] and not j["reached_goal"])
        dropped = dropped if self.has_goal else Counter()
        place, most = min(dropped.items(), key=lambda item: (-item[1], item[0]), default=(None, math.nan))
        value = statistics.mean(values) if own and self.has_value else math.nan
        margin = math.nan
        if len(own) > 1 and self.has_value:
            margin = student.ppf(0.975, len(own) - 1) * statistics.stdev(values) / math.sqrt(len(own))
        low, high = proportion_confint(len(own), len(self.customers), method="wilson")
        conversion = (math.nan,) * 3
        if own and self.has_goal:
            conversion = (len(reached) / len(own), *proportion_confint(len(reached), len(own), method="wilson"))
        return {
            "persona": persona,
            "n": len(own),
            "share": len(own) / len(self.customers),
            "low": low,
            "high": high,
            "n_events_median": median([sum(len(j["steps"]) for j in each) for each in own]),
            "n_journeys_mean": len(journeys) / len(own) if own else math.nan,
            "n_reached": len(reached),
            **dict(zip(("conversion", "conversion_low", "conversion_high"), conversion, strict=True)),
            "value_mean": value,
            "value_low": value - margin,
            "value_high": value + margin,
            "n_goal_journeys": len(waits),
            "time_to_goal_median_s": median(waits),
            "gap_median_s": self.gap(own),
            "drop_off": place,
            "drop_off_share": most / dropped.total() if dropped else math.nan,
            "n_dropped": dropped.total(),
            "n_open": sum(journey["is_open"] for journey in journeys),
        }

    def gap(self, own: list[list[Row]]) -> float:
        """The weighted median, each customer weighing the same."""
        weighed: Counter[int] = Counter()
        for each in own:
            gaps = [step["gap_s"] for journey in each for step in journey["steps"][1:]]
            for gap in gaps:
                weighed[round_by_hand(timedelta(seconds=gap))] += 10**9 // len(gaps)
        if not weighed:
            return math.nan
        half, so_far = weighed.total() / 2, 0
        middle = []
        for gap in sorted(weighed):
            before, so_far = so_far, so_far + weighed[gap]
            if before <= half <= so_far:
                middle.append(gap)
        return (middle[0] + middle[-1]) / 2

    def transitions(self) -> dict[tuple[int, str | None, str | None], int]:
        closed = [journey for journey in self.journeys if not journey["is_open"]]
        made: Counter[tuple[int, str | None, str | None]] = Counter()
        for journey in closed or self.journeys:
            way = [None, *(step["event"] for step in journey["steps"]), *([None] if closed else [])]
            made.update((journey["persona"], a, b) for a, b in itertools.pairwise(way))
        return dict(made)

    def next_steps(self, persona: int) -> Counter[str]:
        """How likely is each next event, summed over the open journeys of a persona?"""
        made = self.transitions()
        weights: Counter[str] = Counter()
        for journey in (j for each in self.of(persona) for j in each if j["is_open"]):
            last = journey["steps"][-1]["event"]
            ways = {b: n for (p, a, b), n in made.items() if p == persona and a == last and b is not None}
            for event, n in ways.items():
                weights[event] += n / sum(ways.values())
        return weights


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def check_rows(found: pd.DataFrame, expected: list[dict[str, Any]]) -> None:
    found = found.astype(object)
    for (_, row), wanted in zip(found.iterrows(), expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, nan_ok=True, rel=1e-7), name
            else:
                assert row[name] == value, name


@examples(3)
@given(
    rows=random_logs(),
    rules=random_rules(),
    as_of=ENDS,
    personas=st.lists(st.integers(1, K), min_size=15, max_size=15),
)
def test_describing_is_that_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, as_of: datetime | None, personas: list[int]
) -> None:
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    seen = fetch(journeys)
    assume(seen)
    members = dict(zip(sorted({row["customer_id"] for row in seen}), personas, strict=False))
    truth = ByHand(fetch(steps), seen, members)
    tally = tally_members(steps, journeys, store_members(con, members), K)
    transitions = estimate_transitions(tally)
    check_summary(summarise_personas(tally, transitions, ["a", "b", "c"]), truth)
    check_transitions(transitions, truth)
    check_profile(profile_personas(tally), truth)
    check_typical(find_typical(steps, journeys, store_members(con, members)), truth)
    drop_tables(con)


def check_summary(summary: pd.DataFrame, truth: ByHand) -> None:
    check_rows(summary, [truth.summary(persona) for persona in range(1, K + 1)])
    for row in summary.to_dict("records"):
        weights = truth.next_steps(row["persona"])
        assert (row["next_step"] is None) == (not weights)
        if weights:
            assert weights[row["next_step"]] == pytest.approx(max(weights.values()))
            assert row["next_step_share"] == pytest.approx(weights[row["next_step"]] / weights.total())


def check_transitions(transitions: pd.DataFrame, truth: ByHand) -> None:
    made = truth.transitions()
    rows = transitions.to_dict("records")
    assert {(row["persona"], row["event"], row["next_event"]): row["n"] for row in rows} == made
    for row in rows:
        departures = sum(n for (p, a, _), n in made.items() if (p, a) == (row["persona"], row["event"]))
        assert row["probability"] == pytest.approx(row["n"] / departures)


def check_profile(profile: pd.DataFrame, truth: ByHand) -> None:
    sizes = {persona: len(truth.of(persona)) for persona in range(1, K + 1)}
    events = {step["event"] for journey in truth.journeys for step in journey["steps"]}
    compared = [persona for persona, n in sizes.items() if 0 < n < len(truth.customers)]
    assert len(profile) == len(compared) * len(events)
    for row in profile.to_dict("records"):
        inside = [truth.share(own, row["event"]) for own in truth.of(row["persona"])]
        every = [truth.share(own, row["event"]) for own in truth.customers.values()]
        elsewhere = (sum(every) - sum(inside)) / (len(every) - len(inside))
        difference = statistics.mean(inside) - elsewhere
        assert row["share"] == pytest.approx(statistics.mean(inside))
        assert row["share_elsewhere"] == pytest.approx(elsewhere)
        assert row["difference"] == pytest.approx(difference, abs=1e-12)
        spread = statistics.pstdev(every)
        assert row["effect"] == pytest.approx(difference / spread if spread > 1e-9 else 0.0, abs=1e-9)


def indel(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of both less twice their longest common subsequence, by the textbook."""
    lengths = [0] * (len(b) + 1)
    for one in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, lengths[j] = lengths[j], before + 1 if one == other else max(lengths[j], lengths[j - 1])
    return len(a) + len(b) - 2 * lengths[-1]


def check_typical(typical: pd.DataFrame, truth: ByHand) -> None:
    assert typical["persona"].tolist() == [persona for persona in range(1, K + 1) if truth.of(persona)]
    for row in typical.to_dict("records"):
        own = [journey for each in truth.of(row["persona"]) for journey in each]
        own = [journey for journey in own if not journey["is_open"]] or own
        ways = [tuple(step["event"] for step in journey["steps"]) for journey in own]
        means = [statistics.mean(indel(a, b) / (len(a) + len(b)) for b in ways) for a in ways]
        assert row["journey"] in ways
        assert means[ways.index(row["journey"])] == pytest.approx(min(means))
        same = {j["customer_id"] for j, way in zip(own, ways, strict=True) if way == row["journey"]}
        assert (row["n_events"], row["n_same"]) == (len(row["journey"]), len(same))


@pytest.fixture
def parted(con: ibis.BaseBackend, six: ibis.Table) -> tuple[ibis.Table, ibis.Table, ibis.Table]:
    """The six customers: those who bought, and those who did not."""
    members = {name: 1 if name in ("anna", "cleo", "dora") else 2 for name in ("anna", "bert", "cleo", "dora")}
    members |= {"emil": 2, "fred": 2}
    journeys = jl.build_journeys(six, SIX_RULES)
    return six, journeys, store_members(con, members)


def test_six_customers(parted: tuple[ibis.Table, ibis.Table, ibis.Table]) -> None:
    tally = tally_members(*parted, 2)
    transitions = estimate_transitions(tally)
    buyers, others = summarise_personas(tally, transitions, ["buyers", "others"]).to_dict("records")
    assert (buyers["name"], buyers["n"], buyers["n_reached"], buyers["conversion"]) == ("buyers", 3, 3, 1.0)
    assert buyers["value_mean"] == pytest.approx((20 + 10 + 30) / 3)
    # anna took 15 minutes, dora 20 in her second journey, cleo two days
    assert buyers["time_to_goal_median_s"] == 20 * 60
    # all of anna's events come by web, two of cleo's three, one of dora's four
    assert buyers["channels"] == "web 64 %, app 25 %, ads 11 %"
    assert others["channels"] == "app 50 %, web 33 %, call 17 %"  # emil's are not known
    # bert left after the cart, fred after the shop; nobody knows yet of emil and of fred's second journey
    assert (others["drop_off"], others["drop_off_share"], others["n_dropped"]) == ("cart", 0.5, 2)
    assert others["n_open"] == 2
    assert buyers["share_atypical"] == pytest.approx(2 / 3)  # anna and dora
    assert buyers["probability_mean"] == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)


def test_a_log_without_optional_columns(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": name, "event": event, "timestamp": datetime(2026, 1, 1)} for name, event in ("xa", "yb")]
    steps = make_steps(rows, con=con)
    tally = tally_members(steps, jl.build_journeys(steps), store_members(con, {"x": 1, "y": 1}), 1)
    summary = summarise_personas(tally, estimate_transitions(tally), ["everyone"]).loc[0]
    nothing = ["conversion", "value_mean", "value_low", "time_to_goal_median_s", "gap_median_s", "drop_off_share"]
    assert summary[nothing].isna().all()
    assert (summary["channels"], summary["drop_off"], summary["top_events"]) == ("", None, "a 50 %, b 50 %")
    assert profile_personas(tally).empty


def test_of_a_mixture_its_own_probabilities_are_told(con: ibis.BaseBackend) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"customer_id": f"k{i}", "event": event, "timestamp": datetime(2026, 1, 1) + timedelta(days=60 * j, minutes=m)}
        for i in range(60)
        for j in range(2)
        for m, event in enumerate(rng.choice(list("abc" if i % 2 else "cd"), size=4))
    ]
    rules = jl.JourneyRules(journey_gap="30D")
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of="2026-12-01")
    counts = count_moves(steps, journeys)
    mixture = MarkovMixture(2).fit(counts.moves)
    members = dict(zip(counts.customers, (mixture.predict(counts.moves) + 1).tolist(), strict=True))
    tally = tally_members(steps, journeys, store_members(con, members), 2)
    place = {event: i for i, event in enumerate(counts.events)}
    table = estimate_transitions(tally, mixture, counts.events)
    assert set(table["persona"]) == {1, 2}
    assert table.groupby("persona").size().nunique() == 1  # of each all transitions that anyone made
    for row in table.to_dict("records"):
        p, before, after = row["persona"] - 1, place.get(row["event"]), place.get(row["next_event"])
        if before is None:
            expected = mixture.start_[p, after]
        else:
            expected = mixture.exit_[p, before] if after is None else mixture.transition_[p, before, after]
        assert row["probability"] == pytest.approx(expected)
    known = [event for event in counts.events if event != "d"]
    assert "d" not in set(estimate_transitions(tally, MarkovMixture(2).fit(_without(counts, "d")), known)["event"])


def _without(counts: Any, event: str) -> Any:
    """The counts of a log in which an event never was."""
    n, gone = len(counts.events), counts.events.index(event)
    keep = np.arange(n) != gone
    blocks = [keep, (keep[:, None] & keep).ravel(), keep, keep]
    return counts.moves[:, np.flatnonzero(np.concatenate(blocks))]


def big_log(n: int, *, name: Any = str, event: Any = str) -> list[Row]:
    """More journeys of one persona than are looked at, all on the same day: only what happened tells them apart."""
    rng = np.random.default_rng(7)
    rows = []
    for i in range(n):
        way = rng.choice(6, size=rng.integers(1, 7), p=[0.3, 0.25, 0.2, 0.12, 0.08, 0.05])
        rows += [
            {"customer_id": name(i), "event": event(int(one)), "timestamp": datetime(2026, 1, 1), "seq": place}
            for place, one in enumerate(way)
        ]
    return rows


def find_in(rows: list[Row], con: ibis.BaseBackend, seed: int = 0) -> pd.DataFrame:
    steps = make_steps(rows, con=con)
    members = store_members(con, {row["customer_id"]: 1 for row in rows})
    return find_typical(steps, jl.build_journeys(steps), members, seed=seed)


def test_names_and_order_do_not_change_the_typical_journey(con: ibis.BaseBackend) -> None:
    first = find_in(big_log(1_500), con)
    rows = big_log(1_500, name=lambda i: f"z{(i * 7_919) % 1_511}", event=lambda e: "fcabed"[e])
    np.random.default_rng(3).shuffle(rows)
    second = find_in(rows, con)
    assert [tuple("fcabed"[int(one)] for one in first["journey"][0])] == second["journey"].tolist()
    assert second["n_same"].tolist() == first["n_same"].tolist()
    pd.testing.assert_frame_equal(find_in(rows, con), second)


def test_a_sample_finds_a_journey_that_is_about_as_near(con: ibis.BaseBackend) -> None:
    rows = big_log(1_500)
    ways = Counter(tuple(row["event"] for row in own) for own in group_rows(rows, "customer_id").values())

    def distance(way: tuple[str, ...]) -> float:
        return sum(n * indel(way, other) / (len(way) + len(other)) for other, n in ways.items()) / 1_500

    best = min(distance(way) for way, _ in ways.most_common(60))
    for seed in (0, 7):
        found = find_in(rows, con, seed)
        assert distance(found["journey"][0]) <= 1.05 * best
        assert found["n_same"][0] == ways[found["journey"][0]]


def test_interval_of_the_mean_value_covers_it() -> None:
    """Values that differ as those of a shop do: a third have any, these between 1 and 9."""
    rng = np.random.default_rng(11)
    n_rounds, n = 2_000, 60
    values = np.where(rng.random((n_rounds, n)) < 1 / 3, rng.uniform(1, 9, (n_rounds, n)), 0.0)
    counts = {"n": n, "n_atypical": 0, "n_journeys": n, "n_reached": 0, "n_valued": n}
    sizes = pd.DataFrame(
        {**counts, "probability": 1.0, "value": values.mean(axis=1), "value_sd": values.std(axis=1, ddof=1)},
        index=pd.RangeIndex(1, n_rounds + 1, name="persona"),
    )
    nothing = {name: pd.DataFrame(columns=["persona", name, "n"]) for name in ("n_events", "wait_s", "gap_s")}
    nothing = {name: table.astype("int64") for name, table in nothing.items()}
    moves = pd.DataFrame(columns=["persona", "event", "next_event", "is_first", "is_open", "reached_goal", "n"])
    moves = moves.astype({"is_first": bool, "is_open": bool, "reached_goal": bool})
    shares = pd.DataFrame(columns=["persona", "name", "n_own", "n_all", "n"]).astype({"n": "int64"})
    tally = Tally(sizes, nothing["n_events"], nothing["wait_s"], nothing["gap_s"], moves, shares, shares)
    summary = summarise_personas(tally, estimate_transitions(tally), [str(i) for i in range(n_rounds)])
    covered = summary["value_low"].le(5 / 3) & summary["value_high"].ge(5 / 3)
    assert 0.925 < covered.mean() < 0.965
