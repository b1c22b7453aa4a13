"""Sequences of events and personas by them: against plain loops, planted kinds and what must not matter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import sqlglot
from conftest import ENDS, START, Row, drop_tables, examples, group_rows, make_steps, random_logs, random_rules
from hypothesis import given
from ibis.backends.sql.compilers import BigQueryCompiler, DatabricksCompiler
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

import journeylab as jl
from journeylab.errors import RuleError, SchemaError
from journeylab.personas.distances import (
    SequenceRules,
    Sequences,
    code_sequences,
    derive_transition_costs,
    settle_metric,
)
from journeylab.personas.histories import Histories, draw_chain, fold_sequences, read_sequences, shuffle_events
from journeylab.personas.sequences import SequencePersonas, fit_sequences, sequence_family

Journeys = Sequence[str]  # of one customer; an event is a letter
GAP = jl.JourneyRules(journey_gap="2h")
LETTERS = "abcdefghij"
# Three ways of travelling, and what customers make of them
WAYS = ("abcdefgh", "aabbccddee", "hgfedcbaij")


def make_log(customers: Mapping[str, Journeys], con: ibis.BaseBackend) -> tuple[ibis.Table, ibis.Table]:
    """Steps and journeys: a minute from event to event, a day from journey to journey."""
    rows: list[Row] = []
    for customer, journeys in customers.items():
        for day, journey in enumerate(journeys):
            for minute, event in enumerate(journey):
                time = START + timedelta(days=day, minutes=minute)
                rows.append({"customer_id": customer, "event": event, "timestamp": time})
    steps = make_steps(rows, GAP, con=con)
    return steps, jl.build_journeys(steps, GAP)


def read(customers: Mapping[str, Journeys]) -> Histories:
    con = jl.connect(threads=1)
    return read_sequences(*make_log(customers, con))


@cache
def draw_customers(n: int, *, seed: int = 0, n_ways: int = 3) -> dict[str, tuple[str, ...]]:
    """Customers of each way in turn, who leave out, repeat and add events, most of them on one journey."""
    rng = np.random.default_rng(seed)
    customers = {}
    for i in range(n):
        walked = ""
        for event in WAYS[i % n_ways]:
            if rng.random() < 0.15:
                continue
            walked += event * (1 + (rng.random() < 0.2))
            walked += LETTERS[rng.integers(10)] * (rng.random() < 0.1)
        walked = walked or "a"
        cut = int(rng.integers(1, len(walked))) if len(walked) > 1 and rng.random() < 0.2 else len(walked)
        customers[f"k{i:04}"] = tuple(part for part in (walked[:cut], walked[cut:]) if part)
    return customers


@cache
def read_drawn(n: int) -> Histories:
    return read(draw_customers(n))


def true_way(members: pd.DataFrame, n_ways: int = 3) -> pd.Series:
    return members["customer_id"].str[1:].astype(int) % n_ways


def spell(histories: Histories) -> dict[str, tuple[str, ...]]:
    """What was read, customer by customer, in letters again."""
    n, named = len(histories.events), {}
    for customer, variant in zip(histories.customers, histories.variant, strict=True):
        codes = histories.variants[np.array([variant])].codes.tolist()
        letters = "".join("|" if code == n else "?" if code > n else histories.events[code] for code in codes)
        named[customer] = tuple(letters.split("|"))
    return named


def align_by_hand(one: Sequence[int], other: Sequence[int], cost: NDArray[np.float64], indel: float) -> float:
    table = [[(i + j) * indel for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            sides = min(table[i - 1][j], table[i][j - 1]) + indel
            table[i][j] = min(sides, table[i - 1][j - 1] + cost[a, b])
    return table[-1][-1]


def draw_sequences(seed: int, n: int, *, n_events: int = 5, longest: int = 12) -> Sequences:
    """Of any length, with a break here and there."""
    rng = np.random.default_rng(seed)
    journeys = [
        ["".join(LETTERS[i] for i in rng.integers(0, n_events, size=rng.integers(1, longest))) for _ in range(n_parts)]
        for n_parts in rng.integers(1, 3, size=n)
    ]
    return code_sequences(journeys, LETTERS[:n_events])


# Distances


@pytest.mark.parametrize("indel", [1.0, 1.5])
@pytest.mark.parametrize("substitution", [2.0, 4.0, 1.0, "frame"])
def test_optimal_matching_against_loops(indel: float, substitution: Any) -> None:
    sequences = draw_sequences(1, 40)
    cost = np.full((6, 6), 2 * indel)  # the last is the break
    if substitution == "frame":
        drawn = np.random.default_rng(2).random((5, 5)).round(2) * 4
        table = np.triu(drawn, 1) + np.triu(drawn, 1).T
        # rows and columns in other orders than the events
        named = pd.DataFrame(table, list("abcde"), list("abcde"))
        substitution = named.sample(frac=1, random_state=0).sample(frac=1, axis=1, random_state=1)
        cost[:5, :5] = table
    else:
        cost[:5, :5] = substitution
    np.fill_diagonal(cost, 0)
    rules = SequenceRules(indel=indel, substitution=substitution, normalise=False)
    metric = settle_metric(rules, LETTERS[:5], sequences)
    codes = sequences.to_lists()
    expected = np.array([[align_by_hand(one, other, cost, indel) for other in codes] for one in codes])
    np.testing.assert_allclose(metric.measure_all(sequences), expected, rtol=1e-5)
    np.testing.assert_allclose(metric.measure(sequences[np.arange(3)], sequences), expected[:3], rtol=1e-5)
    np.testing.assert_allclose(metric.measure(sequences, sequences[np.arange(3)]), expected[:, :3], rtol=1e-5)
    relative = settle_metric(SequenceRules(indel=indel, substitution=substitution), LETTERS[:5], sequences)
    most = np.add.outer(sequences.lengths, sequences.lengths) * indel
    np.testing.assert_allclose(relative.measure_all(sequences), expected / most, rtol=1e-5)
    np.testing.assert_allclose(metric.measure_most(sequences, sequences), most)


def test_plain_costs_are_lcs_and_whole_numbers() -> None:
    sequences = draw_sequences(3, 50)
    metric = settle_metric(SequenceRules(normalise=False), LETTERS[:5], sequences)
    lcs = settle_metric(SequenceRules(distance="lcs", normalise=False), LETTERS[:5], sequences)
    assert metric.measure_all(sequences).dtype == np.uint8
    np.testing.assert_array_equal(metric.measure_all(sequences), lcs.measure_all(sequences))


def test_hamming_counts_what_lies_beyond_the_end() -> None:
    sequences = draw_sequences(4, 40)
    metric = settle_metric(SequenceRules(distance="hamming", normalise=False), LETTERS[:5], sequences)
    codes = sequences.to_lists()
    expected = [
        [sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other)) for other in codes]
        for one in codes
    ]
    np.testing.assert_array_equal(metric.measure_all(sequences), expected)
    relative = settle_metric(SequenceRules(distance="hamming"), LETTERS[:5], sequences)
    most = np.maximum.outer(sequences.lengths, sequences.lengths)
    np.testing.assert_allclose(relative.measure_all(sequences), expected / most, rtol=1e-6)


def test_many_events_need_wider_codes() -> None:
    """More events than fit in a byte, and codes for which no character stands."""
    n = 60_000
    coded = Sequences(np.array([0, 255, 256, 55_296, 57_343, 0, 256, 57_343], dtype=np.uint16), np.array([0, 5, 8]))
    metric = settle_metric(SequenceRules(normalise=False), [str(i) for i in range(n)], coded)
    assert metric.measure_all(coded).tolist() == [[0, 2], [2, 0]]
    assert fold_sequences(coded[np.array([1, 0, 1])], np.ones(3))[2].tolist() == [0, 1, 0]


def test_long_sequences_need_wider_distances() -> None:
    sequences = code_sequences([["a" * 300], ["b" * 200]], "ab")
    metric = settle_metric(SequenceRules(normalise=False), "ab", sequences)
    assert metric.measure_all(sequences).tolist() == [[0, 500], [500, 0]]


@pytest.mark.parametrize("weighted", [True, False])
def test_transition_costs_against_loops(weighted: bool) -> None:
    sequences = draw_sequences(5, 30)
    weights = np.random.default_rng(0).integers(1, 4, size=30).astype(np.float64) if weighted else None
    moves = np.zeros((5, 5))
    for number, codes in enumerate(sequences.to_lists()):
        for one, other in pairwise(codes):
            if one < 5 and other < 5:  # a break is no transition
                moves[one, other] += 1 if weights is None else weights[number]
    rate = moves / moves.sum(axis=1, keepdims=True)
    expected = (2 - rate - rate.T) * (1 - np.eye(5))
    np.testing.assert_allclose(derive_transition_costs(sequences, 5, weights), expected)


def test_rules_refuse_what_makes_no_sense() -> None:
    with pytest.raises(
        RuleError, match=r'distance="lsc" is not known; choose "om", "lcs", "hamming". Did you mean "lcs"'
    ):
        SequenceRules(distance="lsc")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match=r'linkage="wards" is not known; choose "medoids", "ward". Did you mean "ward"'):
        SequenceRules(linkage="wards")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match=r"indel=0 must be above 0"):
        SequenceRules(indel=0)
    with pytest.raises(RuleError, match=r"substitution=-1 must not be below 0"):
        SequenceRules(substitution=-1)
    with pytest.raises(RuleError, match=r'substitution="trate" is not known; give a number, a frame or "transitions"'):
        SequenceRules(substitution="trate")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match=r'distance="hamming" knows no costs; leave them out or choose "om"'):
        SequenceRules(distance="hamming", indel=2)


def test_a_frame_of_costs_must_cover_the_events() -> None:
    sequences = code_sequences([["ab"]], ["cart", "pay"])
    table = pd.DataFrame([[0.0, 1.0], [1.0, 0.0]], ["cart", "payed"], ["cart", "pay"])
    with pytest.raises(
        RuleError, match=r'needs one row for each of 2 events, and has none for "pay". Did you mean "payed"'
    ):
        settle_metric(SequenceRules(substitution=table), ["cart", "pay"], sequences)
    lopsided = pd.DataFrame([[0.0, 1.0], [2.0, 0.0]], ["cart", "pay"], ["cart", "pay"])
    with pytest.raises(RuleError, match=r'2 costs are missing, below 0, not the same.* from "cart" to "pay"'):
        settle_metric(SequenceRules(substitution=lopsided), ["cart", "pay"], sequences)
    twice = pd.DataFrame(np.zeros((3, 3)), ["cart", "pay", "pay"], ["cart", "pay", "pay"])
    with pytest.raises(RuleError, match=r"has some twice"):
        settle_metric(SequenceRules(substitution=twice), ["cart", "pay"], sequences)


# Reading and folding


@pytest.mark.parametrize("with_journeys", [True, False])
@given(rows=random_logs(most_events=9), rules=random_rules(), as_of=ENDS)
@examples(8)
def test_reading_against_loops(
    con: ibis.BaseBackend, with_journeys: bool, rows: list[Row], rules: Any, as_of: Any
) -> None:
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    counted = {row["journey_id"]: row["n_steps"] for row in journeys.to_pyarrow().to_pylist()}
    all_steps = sorted(steps.to_pyarrow().to_pylist(), key=lambda row: row["position"])
    expected = {}
    for customer, own in group_rows(all_steps, "customer_id").items():
        walked = []
        for journey, events in group_rows(own, "journey_id").items():
            if not with_journeys:
                walked.append("".join(row["event"] for row in events))
            elif journey in counted:
                walked.append("".join(row["event"] for row in events[: counted[journey]]))
        if walked:
            expected[customer] = tuple(walked)
    given_journeys = journeys if with_journeys else None
    if not expected:
        with pytest.raises(SchemaError, match="there are no steps"):
            read_sequences(steps, given_journeys)
    else:
        found = read_sequences(steps, given_journeys)
        assert spell(found) == expected
        assert found.customers.tolist() == sorted(expected, key=lambda name: name.encode())
        assert found.weights.sum() == len(expected)
        assert len(set(expected.values())) == len(found.weights)
        unknown = read_sequences(steps, given_journeys, events=["b", "a"])
        n_unknown = [sum(event not in "ab" for event in "".join(expected[name])) for name in found.customers]
        assert unknown.n_unknown.tolist() == n_unknown
        assert unknown.events == ("b", "a")
    drop_tables(con)


def test_folding_keeps_everyone() -> None:
    sequences = draw_sequences(6, 200, n_events=2, longest=4)
    weights = np.random.default_rng(0).random(200)
    variants, summed, place = fold_sequences(sequences, weights)
    codes = sequences.to_lists()
    assert [variants.to_lists()[i] for i in place] == codes
    assert len(variants.to_lists()) == len({tuple(code) for code in codes})
    np.testing.assert_allclose(summed, np.bincount(place, weights=weights))
    assert (np.diff(variants.lengths) >= 0).all()
    order = np.random.default_rng(1).permutation(200)
    assert fold_sequences(sequences[order], weights[order])[0].to_lists() == variants.to_lists()


def test_a_chain_keeps_starts_and_lengths() -> None:
    sequences = draw_sequences(7, 500)
    drawn = draw_chain(sequences, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.bounds, sequences.bounds)
    np.testing.assert_array_equal(drawn.codes == 5, sequences.codes == 5)
    is_first = np.append(True, sequences.codes[:-1] == 5)
    is_first[sequences.bounds[:-1]] = True
    np.testing.assert_array_equal(drawn.codes[is_first], sequences.codes[is_first])
    assert (drawn.codes != sequences.codes).mean() > 0.5


def test_a_chain_draws_what_followed() -> None:
    """a is followed by b in three of four cases and by c in one; b by c always, and c by nothing."""
    sequences = code_sequences([["ab"], ["ab"], ["ab"], ["ac"], ["bc"]] * 2_000, "abc")
    drawn = draw_chain(sequences, 3, np.random.default_rng(0))
    second = drawn.codes[1::2][drawn.codes[::2] == 0]
    assert (second == 1).mean() == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 8_000))
    assert set(second.tolist()) == {1, 2}
    assert set(drawn.codes[1::2][drawn.codes[::2] == 1].tolist()) == {2}


def test_shuffled_events_stay_as_many() -> None:
    sequences = draw_sequences(8, 100)
    drawn = shuffle_events(sequences, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.codes == 5, sequences.codes == 5)
    np.testing.assert_array_equal(np.bincount(drawn.codes), np.bincount(sequences.codes))


@pytest.mark.parametrize("compiler", [BigQueryCompiler, DatabricksCompiler])
def test_queries_compile_for_warehouses(con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch, compiler: Any) -> None:
    steps, journeys = make_log(draw_customers(9), con)
    model = fit_sequences(read_sequences(steps, journeys), 2)
    heard: list[ibis.Expr] = []
    to_pyarrow, create_table = con.to_pyarrow, con.create_table

    def hear_fetch(expression: ibis.Expr, *args: Any, **options: Any) -> Any:
        heard.append(expression)
        return to_pyarrow(expression, *args, **options)

    def hear_store(name: str, rows: Any = None, **options: Any) -> ibis.Table:
        heard.append(rows)
        return create_table(name, rows, **options)

    monkeypatch.setattr(con, "to_pyarrow", hear_fetch)
    monkeypatch.setattr(con, "create_table", hear_store)
    read_sequences(steps, journeys)
    model.assign(steps, journeys)
    assert len(heard) >= 5
    for expression in heard:
        sql = compiler().to_sqlglot(expression.unbind()).sql(compiler.dialect)
        assert sqlglot.parse_one(sql, dialect=compiler.dialect)


# Personas

METHODS = {
    "plain": SequenceRules(),
    "raw": SequenceRules(normalise=False),
    "ward": SequenceRules(linkage="ward"),
    "transitions": SequenceRules(substitution="transitions"),
    "hamming": SequenceRules(distance="hamming"),
}


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def rules(request: pytest.FixtureRequest) -> SequenceRules:
    return request.param


@pytest.mark.parametrize("name", ["plain", "raw", "ward", "transitions"])
def test_planted_ways_are_found(name: str) -> None:
    histories = read_drawn(300)
    members = fit_sequences(histories, 3, METHODS[name]).assign_histories(histories)
    assert adjusted_rand_score(true_way(members), members["persona"]) > 0.95


def test_assigning_reproduces_the_fit(con: ibis.BaseBackend, rules: SequenceRules) -> None:
    steps, journeys = make_log(draw_customers(90), con)
    histories = read_sequences(steps, journeys)
    model = fit_sequences(histories, 3, rules)
    members = model.assign_histories(histories)
    pd.testing.assert_frame_equal(model.assign(steps, journeys), members)
    again = SequencePersonas.from_dict(json.loads(json.dumps(model.to_dict())))
    pd.testing.assert_frame_equal(again.assign(steps, journeys), members)
    assert list(members.dtypes.astype(str)) == ["str", "int64", "float64", "bool", "int64"]
    assert members["customer_id"].is_monotonic_increasing
    assert members["probability"].between(0, 1, inclusive="right").all()
    assert (np.diff(np.bincount(members["persona"], minlength=4)[1:]) <= 0).all()
    assert model.n_personas == len(model.medoids) == 3
    assert model.method == "sequence"


def test_other_numbers_change_nothing_else(rules: SequenceRules) -> None:
    """Nor who belongs to which of two that are equally near."""
    histories = read_drawn(90)
    model, order = fit_sequences(histories, 4, rules), np.array([2, 0, 3, 1])
    members, found = model.assign_histories(histories), model.reorder(order).assign_histories(histories)
    assert (order[found["persona"] - 1] + 1 == members["persona"]).all()
    rest = ["customer_id", "probability", "is_atypical", "n_unknown"]
    pd.testing.assert_frame_equal(found[rest], members[rest])


def test_names_and_order_of_rows_do_not_matter(rules: SequenceRules) -> None:
    customers = draw_customers(90)
    expected = fit_sequences(read_drawn(90), 3, rules)
    members = expected.assign_histories(read_drawn(90)).set_index("customer_id")
    swap = str.maketrans(LETTERS, "ZYXWVUTSRQ")
    order = np.random.default_rng(0).permutation(90)
    names = list(customers)
    renamed = {f"x{90 - i:03}": tuple(part.translate(swap) for part in customers[names[i]]) for i in order}
    histories = read(renamed)
    model = fit_sequences(histories, 3, rules)
    found = model.assign_histories(histories).set_index("customer_id")
    found.index = [names[90 - int(name[1:])] for name in found.index]
    pd.testing.assert_frame_equal(found.sort_index(), members, check_names=False)
    told = tuple(tuple(tuple(event.translate(swap) for event in part) for part in own) for own in expected.medoids)
    assert model.medoids == told
    assert model.limits == expected.limits


def test_weights_are_repetition(rules: SequenceRules) -> None:
    """Everyone thrice: the same personas, and the same limits."""
    customers = draw_customers(60)
    thrice = {f"{name}{copy}": journeys for name, journeys in customers.items() for copy in "xyz"}
    once, often = fit_sequences(read_drawn(60), 3, rules), fit_sequences(read(thrice), 3, rules)
    assert often.medoids == once.medoids
    assert often.limits == once.limits


def test_a_sample_finds_the_same_ways(monkeypatch: pytest.MonkeyPatch, rules: SequenceRules) -> None:
    """More distinct histories than are all compared: a sample finds the personas, and everyone is assigned."""
    monkeypatch.setattr("journeylab.personas.sequences._MOST_VARIANTS", 100)
    monkeypatch.setattr("journeylab.personas.sequences._MOST_IN_TREE", 100)
    monkeypatch.setattr("journeylab.personas.sequences._SAMPLE", 80)
    histories = read_drawn(300)
    members = fit_sequences(histories, 3, rules).assign_histories(histories)
    assert len(members) == 300
    whole = {"plain", "raw", "ward", "transitions"}
    if any(METHODS[name] is rules for name in whole):
        assert adjusted_rand_score(true_way(members), members["persona"]) > 0.9


def test_many_customers_are_assigned_in_parts(con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, journeys = make_log(draw_customers(50), con)
    histories = read_sequences(steps, journeys)
    model = fit_sequences(histories, 3)
    monkeypatch.setattr("journeylab.personas.histories._PART", 7)
    pd.testing.assert_frame_equal(model.assign(steps, journeys), model.assign_histories(histories))
    pd.testing.assert_frame_equal(model.assign(steps), model.assign_histories(histories))


def test_events_never_met_count_and_keep_apart(con: ibis.BaseBackend) -> None:
    model = fit_sequences(read_drawn(90), 3, SequenceRules(normalise=False))
    old = "".join(model.medoids[0][0])
    steps, journeys = make_log({"new": (old + "??",), "old": (old,), "other": ("?!?!",)}, con)
    members = model.assign(steps, journeys).set_index("customer_id")
    assert members["n_unknown"].to_dict() == {"new": 2, "old": 0, "other": 4}
    assert members.loc["old", ["persona", "probability", "is_atypical"]].tolist() == [1, 1.0, False]
    assert members.loc["new", "persona"] == 1
    assert members.loc["new", "probability"] < 1
    assert members.loc["other", "is_atypical"]


def test_probability_is_a_fuzzy_membership(con: ibis.BaseBackend) -> None:
    model = fit_sequences(read({"a": ("aaaa",), "b": ("bbbb",)}), 2, SequenceRules(normalise=False))
    steps, journeys = make_log({"x": ("aaab",), "y": ("aabb",)}, con)
    members = model.assign(steps, journeys)
    # one away by a deletion and an insertion, the other by three of each
    assert members["probability"].tolist() == pytest.approx([6 / 8, 0.5])
    nearest = model.medoids[members["persona"][0] - 1]
    assert nearest == (("a",) * 4,)
    assert members["persona"][1] == 1


def test_who_fits_none_is_atypical() -> None:
    """Among three ways, a few who go their own: nearly all of them are told, and hardly any of the others."""
    rng = np.random.default_rng(0)
    own = {f"odd{i:02}": ("".join(rng.choice(list("klmnopqrst"), size=8)),) for i in range(20)}
    histories = read({**draw_customers(300), **own})
    members = fit_sequences(histories, 3).assign_histories(histories).set_index("customer_id")
    is_odd = members.index.str.startswith("odd")
    assert members.loc[is_odd, "is_atypical"].mean() >= 0.9
    assert members.loc[~is_odd, "is_atypical"].mean() <= 0.02


def test_the_smallest_logs() -> None:
    for customers in ({"k": ("a",)}, {"k": ("a", "b", "a")}, {"k": ("a",), "l": ("a",)}):
        histories = read(customers)
        members = fit_sequences(histories, 1).assign_histories(histories)
        assert members["persona"].tolist() == [1] * len(customers)
        assert members["probability"].tolist() == [1.0] * len(customers)
        assert not members["is_atypical"].any()
        family = sequence_family(histories)
        table = family.score_k([1], 0)
        assert table["chosen"].tolist() == [True]
        assert family.draw_null(0).shape == (len(customers),)


def test_more_personas_than_customers_who_differ() -> None:
    histories = read({"k": ("a",), "l": ("a",), "m": ("ab",)})
    with pytest.raises(
        RuleError, match=r"k is 3, but only 2 customers differ in what they did; choose a number from 1 to 2"
    ):
        fit_sequences(histories, 3)


def test_nobody_to_assign(con: ibis.BaseBackend) -> None:
    model = fit_sequences(read_drawn(9), 2)
    steps, journeys = make_log(draw_customers(9), con)
    with pytest.raises(SchemaError, match="there are no steps to assign"):
        model.assign(steps, journeys.filter(journeys.n_steps > 1_000))


# The search


def test_the_family_finds_what_was_planted() -> None:
    family = sequence_family(read_drawn(240))
    table = family.score_k(range(1, 6), 0)
    assert table["k"].tolist() == [1, 2, 3, 4, 5]
    assert table.loc[table["chosen"], "k"].tolist() == [3]
    assert np.isnan(table["silhouette"][0])
    ahead = (table["silhouette"] - table["null_silhouette"])[2] / table["null_deviation"][2]
    assert ahead > 5
    labels = family.fit(family.rows, family.weights, 3, 0)(family.rows)
    some = np.arange(0, 240, 2)
    drawn = family.fit(family.rows[some], family.weights[some], 3, 1)(family.rows)
    assert adjusted_rand_score(labels, drawn) > 0.95
    assert (np.diff(np.bincount(labels)) <= 0).all()


def test_labels_of_the_family_are_those_of_the_model() -> None:
    histories = read_drawn(120)
    family, model = sequence_family(histories), fit_sequences(histories, 4, seed=5)
    labels = family.fit(family.rows, family.weights, 4, 5)(family.rows)
    sizes = model.assign_histories(histories)["persona"].value_counts().sort_index()
    assert np.bincount(labels).tolist() == sizes.tolist()


def test_one_chain_is_one_persona() -> None:
    """A single chain makes clusters by where it begins; they are no personas."""
    rng = np.random.default_rng(3)
    move, start = rng.dirichlet(np.full(6, 0.3), size=6), rng.dirichlet(np.full(6, 0.5))
    customers = {}
    for i in range(250):
        walked = [rng.choice(6, p=start)]
        while len(walked) < rng.integers(2, 15):
            walked.append(rng.choice(6, p=move[walked[-1]]))
        customers[f"k{i}"] = ("".join(LETTERS[code] for code in walked),)
    table = sequence_family(read(customers)).score_k(range(1, 6), 0)
    assert table["silhouette"].max() > 0.1
    assert table.loc[table["chosen"], "k"].tolist() == [1]


def test_the_same_seed_gives_the_same() -> None:
    family = sequence_family(read_drawn(120))
    pd.testing.assert_frame_equal(family.score_k([1, 2, 3], 4), family.score_k([1, 2, 3], 4))
    assert family.draw_null(7).codes.tolist() == family.draw_null(7).codes.tolist()  # type: ignore[attr-defined]
