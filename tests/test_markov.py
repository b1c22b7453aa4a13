"""The mixture of Markov chains against plain loops, planted truth and its own invariants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from journeylab.errors import RuleError
from journeylab.personas import MarkovMixture

N_EVENTS = 12


@dataclass(frozen=True)
class Planted:
    """True parameters of a mixture: shares (k,), start (k, n), transition (k, n, n), exit (k, n)."""

    shares: NDArray[np.float64]
    start: NDArray[np.float64]
    transition: NDArray[np.float64]
    exit: NDArray[np.float64]


@dataclass(frozen=True)
class Journey:
    customer: int
    events: tuple[int, ...]
    has_ended: bool = True


def plant(k: int, *, seed: int, n_events: int = N_EVENTS) -> Planted:
    """Personas that share about a third of their habits."""
    rng = np.random.default_rng(seed)
    common = rng.dirichlet(np.full(n_events, 0.3), size=n_events)
    own = rng.dirichlet(np.full(n_events, 0.3), size=(k, n_events))
    ends = rng.uniform(0.05, 0.2, size=(k, n_events))
    return Planted(
        rng.dirichlet(np.full(k, 8.0)),
        rng.dirichlet(np.full(n_events, 0.5), size=k),
        (0.35 * common + 0.65 * own) * (1 - ends)[:, :, None],
        ends,
    )


def simulate(planted: Planted, n_customers: int, *, seed: int) -> tuple[list[Journey], NDArray[np.int64]]:
    """One to three journeys per customer, and each customer's true persona."""
    rng = np.random.default_rng(seed)
    persona = rng.choice(len(planted.shares), size=n_customers, p=planted.shares)
    n_events = planted.start.shape[1]
    start = planted.start.cumsum(axis=1)
    after = np.concatenate([planted.transition, planted.exit[:, :, None]], axis=2).cumsum(axis=2)
    journeys = []
    for customer, own in enumerate(persona):
        for _ in range(rng.integers(1, 4)):
            events = [min(int(np.searchsorted(start[own], rng.random())), n_events - 1)]
            while (following := int(np.searchsorted(after[own, events[-1]], rng.random()))) < n_events:
                events.append(following)
            journeys.append(Journey(customer, tuple(events)))
    return journeys, persona


def count(journeys: list[Journey], n_events: int = N_EVENTS) -> sparse.csr_array:
    """Rows for `MarkovMixture`, by a plain loop over journeys."""
    n, rows, columns = n_events, [], []
    for journey in journeys:
        last = journey.events[-1]
        row = [journey.events[0]]
        row += [n + i * n + j for i, j in pairwise(journey.events)]
        row += [n + n * n + n + i for i in journey.events[:-1]]
        row += [n + n * n + last] if journey.has_ended else []
        rows += [journey.customer] * len(row)
        columns += row
    shape = max(rows) + 1, n * (n + 3)
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def log_likelihood(journeys: list[Journey], shares: list[float], start: object, move: object, end: object) -> float:
    """Of all journeys of one customer, by the definition."""
    total = 0.0
    for persona, share in enumerate(shares):
        product = share
        for journey in journeys:
            product *= start[persona][journey.events[0]]
            for i, j in pairwise(journey.events):
                product *= move[persona][i][j]
            if journey.has_ended:
                product *= end[persona][journey.events[-1]]
        total += product
    return log(total)


def rename(counts: sparse.csr_array, new: NDArray[np.int64]) -> sparse.csr_array:
    """The same counts when event i is called new[i]."""
    n = len(new)
    moves = n + (new[:, None] * n + new).ravel()
    columns = np.concatenate([new, moves, n + n * n + new, n + n * n + n + new])
    renamed = counts.tocoo()
    return sparse.csr_array((renamed.data, (renamed.coords[0], columns[renamed.coords[1]])), shape=counts.shape)


@pytest.fixture(scope="module")
def planted() -> tuple[Planted, list[Journey], NDArray[np.int64]]:
    truth = plant(5, seed=3)
    return truth, *simulate(truth, 3_000, seed=4)


@pytest.fixture(scope="module")
def fitted(planted: tuple[Planted, list[Journey], NDArray[np.int64]]) -> MarkovMixture:
    return MarkovMixture(5).fit(count(planted[1]))


def test_likelihood_equals_a_loop_over_journeys() -> None:
    journeys, _ = simulate(plant(2, seed=1, n_events=4), 40, seed=2)
    journeys = [Journey(j.customer, j.events, has_ended=place % 3 > 0) for place, j in enumerate(journeys)]
    counts = count(journeys, 4)
    model = MarkovMixture(3, n_init=2).fit(counts)
    for customer, score in enumerate(model.score_samples(counts)):
        own = [journey for journey in journeys if journey.customer == customer]
        expected = log_likelihood(own, model.weights_, model.start_, model.transition_, model.exit_)
        assert score == pytest.approx(expected, rel=1e-9)
    assert model.score(counts) == pytest.approx(model.score_samples(counts).mean())


def test_the_prior_is_worth_as_many_outcomes_as_were_different() -> None:
    # of three events: start 0 three times; after 0, 1 twice and 2 once; ends after 1 and 2, one draw in two
    journeys = [Journey(0, (0, 1)), Journey(1, (0, 1)), Journey(2, (0, 2))]
    model = MarkovMixture(1, smoothing=1.5).fit(count(journeys, 3))
    np.testing.assert_allclose(model.start_[0], np.array([3 + 1.5 / 3, 1.5 / 3, 1.5 / 3]) / 4.5)
    np.testing.assert_allclose(model.exit_[0], [0.75 / 4.5, 2.75 / 3.5, 1.75 / 2.5])
    after_first = np.array([3 / 3, 2 + 3 / 3, 1 + 3 / 3]) / 6
    np.testing.assert_allclose(model.transition_[0, 0], (1 - model.exit_[0, 0]) * after_first)


@pytest.mark.parametrize("seed", range(5))
def test_em_never_lowers_the_penalised_likelihood(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, size=(80, 5 * 8)).astype(float)
    model = MarkovMixture(4, n_init=1, tol=0, max_iter=60, smoothing=0.5, random_state=seed).fit(counts)
    assert len(model.objective_path_) > 10
    assert np.diff(model.objective_path_).min() > -1e-8


def test_planted_personas_are_recovered(
    planted: tuple[Planted, list[Journey], NDArray[np.int64]], fitted: MarkovMixture
) -> None:
    truth, journeys, persona = planted
    counts = count(journeys)
    goes_on = np.ones((5, N_EVENTS))  # already in the transitions
    table = np.concatenate([truth.start, truth.transition.reshape(5, -1), truth.exit, goes_on], axis=1)
    best = (counts @ np.log(table).T + np.log(truth.shares)).argmax(axis=1)
    best_possible = adjusted_rand_score(persona, best)
    assert best_possible > 0.5
    assert adjusted_rand_score(persona, fitted.predict(counts)) >= 0.95 * best_possible
    np.testing.assert_allclose(fitted.weights_, np.sort(truth.shares)[::-1], atol=0.04)


def test_probabilities_sum_to_one(
    planted: tuple[Planted, list[Journey], NDArray[np.int64]], fitted: MarkovMixture
) -> None:
    np.testing.assert_allclose(fitted.predict_proba(count(planted[1])).sum(axis=1), 1)
    np.testing.assert_allclose(fitted.weights_.sum(), 1)
    np.testing.assert_allclose(fitted.start_.sum(axis=1), 1)
    np.testing.assert_allclose(fitted.transition_.sum(axis=2) + fitted.exit_, 1)


def test_personas_come_by_falling_size(
    planted: tuple[Planted, list[Journey], NDArray[np.int64]], fitted: MarkovMixture
) -> None:
    sizes = np.bincount(fitted.predict(count(planted[1])))
    assert (np.diff(sizes) <= 0).all()


def test_same_seed_same_fit_whatever_the_names_and_the_order() -> None:
    truth = plant(3, seed=5)
    journeys, _ = simulate(truth, 400, seed=6)
    counts = count(journeys)
    rng = np.random.default_rng(0)
    rows, new = rng.permutation(counts.shape[0]), rng.permutation(N_EVENTS)
    first, again = (MarkovMixture(3, random_state=9).fit(counts) for _ in range(2))
    np.testing.assert_array_equal(first.log_probabilities_, again.log_probabilities_)
    other = MarkovMixture(3, random_state=9).fit(rename(counts, new)[rows])
    np.testing.assert_array_equal(other.weights_, first.weights_)
    np.testing.assert_array_equal(other.exit_[:, new], first.exit_)
    np.testing.assert_array_equal(other.predict(rename(counts, new)), first.predict(counts))


def test_a_weight_equals_repetition() -> None:
    journeys, _ = simulate(plant(2, seed=7), 60, seed=8)
    counts = count(journeys)
    weights = np.random.default_rng(1).integers(1, 5, size=60)
    weighted = MarkovMixture(2).fit(counts, sample_weight=weights)
    repeated_rows = np.repeat(np.arange(60), weights)
    repeated = MarkovMixture(2).fit(counts[repeated_rows])
    np.testing.assert_array_equal(weighted.log_probabilities_, repeated.log_probabilities_)
    assert weighted.bic(counts, sample_weight=weights) == pytest.approx(repeated.bic(counts[repeated_rows]))
    assert weighted.score(counts, sample_weight=weights) == pytest.approx(repeated.score(counts[repeated_rows]))


def test_a_row_that_stands_for_nobody_is_left_out() -> None:
    counts = count(simulate(plant(2, seed=7), 60, seed=8)[0])
    without = MarkovMixture(2).fit(counts[:40])
    weighted = MarkovMixture(2).fit(counts, sample_weight=np.arange(60) < 40)
    np.testing.assert_array_equal(weighted.columns_, without.columns_)
    np.testing.assert_array_equal(weighted.log_probabilities_, without.log_probabilities_)


def test_sums_of_log_probabilities_are_exact() -> None:
    counts = count(simulate(plant(3, seed=5), 300, seed=6)[0])
    model = MarkovMixture(3).fit(counts)
    for logs in (model.log_probabilities_, model.log_unseen_):
        assert (logs * 2**24 == np.rint(logs * 2**24)).all()
        assert -25 <= logs.min() <= logs.max() <= 0
    rng = np.random.default_rng(0)
    one = counts[[7]].tocoo()
    for _ in range(20):  # the same customer, whose counts are stored in another order
        order = rng.permutation(len(one.data))
        cells = one.data[order], (one.coords[0][order], one.coords[1][order])
        again = sparse.csr_array(cells, shape=one.shape)
        np.testing.assert_array_equal(model.predict_proba(again), model.predict_proba(counts[[7]]))


def test_parameters_are_those_that_the_data_could_move() -> None:
    # with two outcomes: the start {0, 1}, where to after 0 {1, 2}, whether to go on after 1 {yes, no}
    journeys = [Journey(0, (0, 1)), Journey(1, (1, 0, 2)), Journey(2, (0, 1))]
    model = MarkovMixture(2).fit(count(journeys, 3))
    assert model.n_parameters_ == 1 + 2 * (1 + 1 + 1)
    expected = -2 * model.score_samples(count(journeys, 3)).sum() + 7 * log(3)
    assert model.bic(count(journeys, 3)) == pytest.approx(expected)


@pytest.mark.parametrize("n_customers", [60, 200, 2_000])
@pytest.mark.parametrize(
    "paths",
    [
        [(0, 1, 2), (3, 4, 5)],  # nothing in common
        [(0, 1, 2), (0, 3, 4)],  # one start, two ways
        [(0, 1, 2, 3), (0, 2, 1, 3)],  # the same events in another order
    ],
)
def test_two_plain_paths_are_told_apart(paths: list[tuple[int, ...]], n_customers: int) -> None:
    journeys = [
        Journey(c, (*paths[c % 2][:2], *paths[c % 2][1:]) if c % 4 > 1 else paths[c % 2]) for c in range(n_customers)
    ]
    counts = count(journeys, 6)
    persona = MarkovMixture(2).fit(counts).predict(counts)
    assert adjusted_rand_score(np.arange(n_customers) % 2, persona) == 1


def test_a_move_never_seen_stays_possible() -> None:
    journeys = [Journey(c, (0, 1, 0, 1) if c % 2 else (2, 3, 2, 3)) for c in range(60)]
    model = MarkovMixture(2).fit(count(journeys, 4))
    assert (model.transition_ > 0).all()
    assert np.isfinite(model.score_samples(count([Journey(0, (0, 3)), Journey(1, (3, 3, 1))], 4))).all()
    likely = model.predict(count([Journey(0, (0, 1, 0, 1, 3)), Journey(1, (1, 2, 3, 2, 3))], 4))
    np.testing.assert_array_equal(likely, model.predict(count([Journey(0, (0, 1)), Journey(1, (2, 3))], 4)))


@pytest.mark.parametrize(
    ("journeys", "n_events"),
    [
        ([Journey(0, (0, 1, 0))], 2),  # a single customer
        ([Journey(c, (0,) * (c + 1)) for c in range(5)], 1),  # a single event
        ([Journey(c, (c % 3,)) for c in range(9)], 3),  # journeys of length one
        ([Journey(c, (c % 3,), has_ended=False) for c in range(9)], 3),  # and nothing known of their ends
    ],
)
def test_small_logs_have_answers(journeys: list[Journey], n_events: int) -> None:
    counts = count(journeys, n_events)
    k = min(2, len(set(map(bytes, counts.toarray()))))
    model = MarkovMixture(k).fit(counts)
    np.testing.assert_allclose(model.predict_proba(counts).sum(axis=1), 1)
    np.testing.assert_allclose(model.transition_.sum(axis=2) + model.exit_, 1)


def test_nobody_is_seen_to_end_where_all_are_open() -> None:
    model = MarkovMixture(1).fit(count([Journey(c, (0, 1), has_ended=False) for c in range(9)], 2))
    assert model.exit_.max() < 1e-3


def test_an_empty_persona_does_no_harm() -> None:
    # customers differ in length only: there is one habit, and nothing for the other personas to be
    journeys = [Journey(c, (0, 1) * (1 + c % 4)) for c in range(200)]
    counts = count(journeys, 2)
    model = MarkovMixture(4).fit(counts)
    assert np.isfinite(model.log_probabilities_).all()
    assert np.isfinite(model.predict_proba(counts)).all()
    assert (model.weights_ > 0).all()


def test_more_personas_than_customers_who_differ() -> None:
    counts = count([Journey(0, (0, 1)), Journey(1, (0, 1)), Journey(2, (1,))], 2)
    with pytest.raises(RuleError) as error:
        MarkovMixture(3).fit(counts)
    assert str(error.value) == (
        "k (n_components) is 3, but only 2 customers differ (of 3); choose a number from 1 to 2"
    )
    MarkovMixture(2).fit(counts)


@pytest.mark.parametrize(
    ("counts", "weights", "said"),
    [
        (
            np.ones((2, 9)),
            None,
            r"X has 9 feature\(s\); for n events it needs n starts, n \* n transitions, n ends, n continuations and n "
            r"for each outcome of an emission: 4, 10, 18 … with emissions=\(\)",
        ),
        (-np.ones((2, 10)), None, "Negative values in data passed to X in MarkovMixture"),
        (np.full((2, 10), np.nan), None, "Input X contains NaN"),
        (np.ones((2, 10)), [1.0], r"sample_weight.shape == \(1,\), expected \(2,\)"),
        (np.ones((2, 10)), [1.0, -1.0], "Negative values in data passed to `sample_weight`"),
    ],
)
def test_input_that_cannot_be_counts_is_refused(counts: object, weights: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MarkovMixture(1).fit(counts, sample_weight=weights)


@pytest.mark.parametrize("arguments", [{"n_init": 0}, {"smoothing": 0}])
def test_settings_that_lead_nowhere_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(RuleError, match=r"n_init=.* must be at least 1 and smoothing=.* above 0"):
        MarkovMixture(1, **arguments).fit(np.ones((2, 10)))


def test_another_number_of_events_is_refused() -> None:
    model = MarkovMixture(1).fit(np.ones((2, 10)))
    with pytest.raises(ValueError, match="X has 4 features, but MarkovMixture is expecting 10 features"):
        model.predict(np.ones((2, 4)))
