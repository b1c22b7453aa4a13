"""How many personas, and whether they are there: on planted logs, on logs of one persona, and for any method."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import sparse
from test_stability import clumps, fit_means

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.personas.choose import Choice, choose_personas
from journeylab.personas.counting import count_moves
from journeylab.personas.family import Family
from journeylab.personas.markov import MarkovMixture
from journeylab.personas.markov_family import markov_family

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
planted: Any = import_module("planted")

IS_FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
KS = range(1, 6)


def draw(k: int, n_customers: int, seed: int) -> Any:
    return planted.draw_log(planted.plant(k, seed=seed, n_events=12), n_customers, seed=seed)


@pytest.fixture(scope="module")
def moves() -> sparse.csr_array:
    return draw(3, 1_000, seed=1).count()


@pytest.fixture(scope="module")
def three(moves: sparse.csr_array) -> Choice:
    return choose_personas(markov_family(moves), KS, seed=1, n_boot=8)


@pytest.fixture(scope="module")
def alike() -> Family:
    return markov_family(draw(1, 800, seed=2).count())


# The generator


def test_planted_counts_equal_a_loop() -> None:
    log = draw(2, 60, seed=3)
    n, expected = 12, np.zeros((60, 12 * 15))
    best = []
    for customer in range(60):
        log_p = np.log(log.truth.shares)
        for journey in np.flatnonzero(log.customer == customer):
            events = log.event[log.journey == journey]
            row = expected[customer]
            row[events[0]] += 1
            log_p = log_p + np.log(log.truth.start[:, events[0]])
            for before, after in pairwise(events):
                row[n + before * n + after] += 1
                row[n + n * n + n + before] += 1
                log_p += np.log(log.truth.move[:, before, after] * (1 - log.truth.exit[:, before]))
            if not log.is_open[journey]:
                row[n + n * n + events[-1]] += 1
                log_p += np.log(log.truth.exit[:, events[-1]])
        best.append(log_p.argmax())
    np.testing.assert_array_equal(log.count().toarray(), expected)
    assert log.find_best().tolist() == best
    np.testing.assert_array_equal(log.count_events().sum(axis=1), log.n_per_customer)
    assert 0 < log.is_open.sum() < 20


def test_planted_parameters_are_drawn_from() -> None:
    truth = planted.plant(3, seed=4, n_events=8)
    np.testing.assert_allclose(truth.move.sum(axis=2), 1)
    np.testing.assert_allclose([*truth.start.sum(axis=1), truth.shares.sum()], 1)
    log = planted.draw_log(truth, 30_000, seed=5)
    np.testing.assert_allclose(np.bincount(log.persona) / 30_000, truth.shares, atol=0.01)
    own = log.count()[log.persona == 0].sum(axis=0)
    moves = own[8:72].reshape(8, 8)
    often = moves.sum(axis=1) > 2_000
    np.testing.assert_allclose((moves / moves.sum(axis=1, keepdims=True))[often], truth.move[0][often], atol=0.03)
    # of open journeys nothing is known of the ends, so that exits are a little too few
    exits = own[72:80] / (own[72:80] + own[80:])
    assert (exits[often] < truth.exit[0][often] + 0.01).all()
    assert (exits[often] > 0.8 * truth.exit[0][often]).all()


def test_planted_tables_are_those_of_the_engine() -> None:
    log, con = draw(3, 200, seed=6), jl.connect()
    rules = jl.JourneyRules(journey_gap="2D", session_gap="12h")
    steps = jl.build_steps(jl.read_events(log.to_events(), con=con), rules)
    journeys = jl.build_journeys(steps, rules)
    own_steps, own_journeys = log.to_tables(con)
    order = ["customer_id", "position"]
    named = ["customer_id", "event", "next_event", "timestamp", "position", "rank", "step", "gap_s"]
    pd.testing.assert_frame_equal(
        own_steps.order_by(order).select(named).execute(), steps.order_by(order).select(named).execute()
    )
    named = [name for name in journeys.columns if name != "journey_id"]
    order = ["customer_id", "start_time"]
    pd.testing.assert_frame_equal(
        own_journeys.order_by(order).select(named).execute(), journeys.order_by(order).select(named).execute()
    )
    counts = count_moves(own_steps, own_journeys)
    n = len(counts.events)
    assert n == 12
    np.testing.assert_array_equal(counts.moves[:, : n + n * n + n].toarray(), log.count()[:, : n + n * n + n].toarray())


# k and the verdict


def test_planted_personas_are_clear(three: Choice) -> None:
    assert (three.k, three.verdict) == (3, "clear")
    assert three.k_search["k"].tolist() == list(KS)
    assert three.k_search["chosen"].tolist() == [k == 3 for k in KS]
    assert three.k_search.columns.tolist() == [
        *("k", "log_likelihood", "behind_best", "behind_best_se", "bic", "icl", "chosen"),
    ]
    assert three.k_search["behind_best"].min() == 0
    assert (three.k_search["icl"] >= three.k_search["bic"]).all()
    table = three.stability
    assert table.columns.tolist() == ["persona", "jaccard", "low", "high", "is_stable"]
    assert table["persona"].tolist() == [1, 2, 3]
    assert ((table["low"] <= table["jaccard"]) & (table["jaccard"] <= table["high"])).all()
    assert table["jaccard"].min() > 0.75 > three.null_jaccard
    assert table["is_stable"].all()
    assert three.prediction_strength > three.null_strength
    assert three.reason == (
        f"All 3 personas are found again when customers are redrawn (mean Jaccard {table['jaccard'].mean():.2f}, in "
        f"logs of one persona up to {three.null_jaccard:.2f}; prediction strength {three.prediction_strength:.2f}, "
        f"there up to {three.null_strength:.2f})."
    )


def test_held_out_customers_are_foreseen_nearly_as_well_as_by_the_truth(three: Choice) -> None:
    log = draw(3, 1_000, seed=1)
    truth = log.truth
    table = np.hstack([truth.start, truth.move.reshape(3, -1), truth.exit, 1 - truth.exit])
    joint = log.count() @ np.log(table).T + np.log(truth.shares)
    possible = np.logaddexp.reduce(joint, axis=1).mean()
    reached = three.k_search.set_index("k")["log_likelihood"]
    assert possible - 1.5 < reached[3] < possible + 0.2
    assert reached[1] < reached[3] - 1


def test_one_persona_is_none(alike: Family) -> None:
    choice = choose_personas(alike, KS, seed=3, n_boot=8)
    assert (choice.k, choice.verdict) == (1, "none")
    assert choice.reason == "One persona explains the 800 customers as well as any number up to 5 does."
    assert choice.stability.to_dict("records") == [
        {"persona": 1, "jaccard": 1.0, "low": 1.0, "high": 1.0, "is_stable": True}
    ]
    assert choice.prediction_strength == 1
    assert np.isnan(choice.null_jaccard)
    assert np.isnan(choice.null_strength)


def test_a_given_number_is_kept_and_judged(alike: Family) -> None:
    choice = choose_personas(alike, [2], seed=3, n_boot=8)
    assert (choice.k, choice.verdict) == (2, "none")
    assert choice.reason.startswith("One persona explains the 800 customers as well as 2 do (mean Jaccard 0.")
    assert choice.k_search["k"].tolist() == [1, 2]
    assert choice.k_search["chosen"].tolist() == [True, False]
    assert not choice.stability["is_stable"].all()


def test_a_persona_too_many_is_weak_and_not_stable(moves: sparse.csr_array) -> None:
    choice = choose_personas(markov_family(moves), [4], seed=1, n_boot=8)
    assert (choice.k, choice.verdict) == (4, "weak")
    unstable = choice.stability[~choice.stability["is_stable"]]
    assert len(unstable) == 1
    number, jaccard = unstable["persona"].iloc[0], unstable["jaccard"].iloc[0]
    assert jaccard < 0.6
    assert f"{number} ({np.floor(100 * jaccard) / 100:.2f}) when customers are redrawn (mean Jaccard" in choice.reason


def test_personas_are_numbered_as_in_the_mixture_of_all(moves: sparse.csr_array) -> None:
    family = markov_family(moves)
    mixture = MarkovMixture(3, random_state=7).fit(moves)
    predict = family.fit(family.rows, family.weights, 3, 7)
    np.testing.assert_array_equal(predict(moves), mixture.predict(moves))
    assert family.weights.sum() == 1_000


def test_names_and_order_do_not_matter(moves: sparse.csr_array, three: Choice) -> None:
    rng = np.random.default_rng(0)
    new, n = rng.permutation(12), 12
    columns = np.concatenate([new, n + (new[:, None] * n + new).ravel(), n + n * n + new, n + n * n + n + new])
    dense = moves.toarray()
    renamed = np.zeros_like(dense)
    renamed[:, columns] = dense
    shuffled = sparse.csr_array(renamed[rng.permutation(1_000)])
    other = choose_personas(markov_family(shuffled), KS, seed=1, n_boot=8)
    assert other.reason == three.reason
    pd.testing.assert_frame_equal(other.k_search, three.k_search)
    pd.testing.assert_frame_equal(other.stability, three.stability)


def test_the_null_does_as_much_as_the_log_with_one_habit(moves: sparse.csr_array) -> None:
    family = markov_family(moves)
    null = family.draw_null(1)
    assert null.shape == moves.shape
    n_events = [np.sort(counts[:, : 12 + 144].sum(axis=1)) for counts in (moves, null)]
    np.testing.assert_array_equal(*n_events)
    chain, again = MarkovMixture(1).fit(moves), MarkovMixture(1).fit(null)
    often = moves.sum(axis=0)[-12:] > 300
    np.testing.assert_allclose(again.start_, chain.start_, atol=0.05)
    np.testing.assert_allclose(again.transition_[0][often], chain.transition_[0][often], atol=0.08)
    np.testing.assert_allclose(again.exit_[0][often], chain.exit_[0][often], atol=0.06)
    assert (family.draw_null(1) != null).nnz == 0
    assert (family.draw_null(2) != null).nnz > 0


def test_too_few_customers_are_not_told_apart() -> None:
    log = draw(2, 29, seed=4)
    choice = choose_personas(markov_family(log.count()), KS, n_boot=8)
    assert (choice.k, choice.verdict, choice.k_search["k"].tolist()) == (1, "none", [1])
    assert choice.reason == "29 customers are too few, or too much alike, to be told apart."
    given = choose_personas(markov_family(log.count()), [2], n_boot=8)
    assert (given.k, given.verdict) == (2, "none")
    assert given.reason.startswith("29 customers are too few, or too much alike, to be told apart (mean Jaccard")


def test_customers_who_are_all_the_same() -> None:
    same = sparse.csr_array(np.tile([1.0, 0, 0, 1, 0, 0, 0, 1, 1, 0], (50, 1)))
    choice = choose_personas(markov_family(same), KS, n_boot=8)
    assert (choice.k, choice.verdict, choice.k_search["k"].tolist()) == (1, "none", [1])
    with pytest.raises(RuleError, match="only 1 customers differ"):
        choose_personas(markov_family(same), [2], n_boot=8)


def test_emissions_are_looked_at_too() -> None:
    # one habit, but half of the customers come by the first channel and half by the second
    rng = np.random.default_rng(5)
    moves = draw(1, 400, seed=5).count()
    occurrences = (moves[:, :12] + moves[:, 12:156].toarray().reshape(400, 12, 12).sum(axis=1)).astype(int)
    by_first = rng.binomial(occurrences, np.where(np.arange(400) % 2, 0.9, 0.1)[:, None])
    channels = np.stack([by_first, occurrences - by_first], axis=2).reshape(400, 24)
    counts = sparse.csr_array(np.hstack([moves.toarray(), channels]))
    choice = choose_personas(markov_family(counts, emissions=(2,)), [1, 2, 3], n_boot=8)
    assert (choice.k, choice.verdict) == (2, "clear")
    assert choose_personas(markov_family(moves), [1, 2, 3], n_boot=8).k == 1


# Any method


def line_up(rows: NDArray[np.float64], of_one: float = np.nan) -> Family:
    def score_k(ks: Sequence[int], seed: int) -> pd.DataFrame:
        figures = [of_one if k == 1 else 1.0 for k in ks]
        return pd.DataFrame({"k": ks, "figure": figures, "chosen": [k == 3 for k in ks]})

    def draw_null(seed: int) -> NDArray[np.float64]:
        return np.random.default_rng(seed).normal(rows.mean(), rows.std(), size=len(rows))

    return Family(rows, np.ones(len(rows)), fit_means, score_k, draw_null)


def test_any_method_is_judged_against_its_null() -> None:
    clear = choose_personas(line_up(clumps(0, 10, 20, n=100)), KS, n_boot=8)
    assert (clear.k, clear.verdict) == (3, "clear")
    alike = choose_personas(line_up(clumps(0, n=300)), KS, n_boot=8)
    assert (alike.k, alike.verdict) == (3, "none")
    assert alike.reason.startswith("3 personas are found again no better than where there is only one (mean Jaccard")
    # where the method's own figures say that one persona will not do, there are several kinds, if blurred ones
    blurred = choose_personas(line_up(clumps(0, n=300), of_one=0.0), KS, n_boot=8)
    assert (blurred.k, blurred.verdict) == (3, "weak")
    assert blurred.reason.startswith("3 personas explain the customers better than one, but are found again no better")


def test_the_bar_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    family = line_up(clumps(0, 10, n=50))
    choose_personas(family, KS, n_boot=8)
    assert capsys.readouterr().err == ""
    choose_personas(family, KS, n_boot=8, progress=True)
    shown = capsys.readouterr().err
    assert "personas" in shown
    assert "40/40" in shown  # the search, one fit of all, 8 bootstraps, 5 partings into two, 5 nulls of 4


# Full size only: minutes


@pytest.mark.skipif(not IS_FULL, reason="set JOURNEYLAB_FULL=1: takes minutes")
def test_k_is_right_and_one_persona_refused_nearly_always() -> None:
    right = none = 0
    for seed in range(20):
        k = 1 + seed % 8
        log = planted.draw_log(planted.plant(k, seed=seed), 5_000, seed=seed)
        found = markov_family(log.count()).score_k(range(1, 9), seed)
        right += int(found.loc[found["chosen"], "k"].iloc[0]) == k
        log = planted.draw_log(planted.plant(1, seed=100 + seed), 5_000, seed=seed)
        none += choose_personas(markov_family(log.count()), range(1, 9), seed=seed).verdict == "none"
    assert right >= 17
    assert none >= 19
