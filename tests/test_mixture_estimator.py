"""`MarkovMixture` as scikit-learn knows estimators, what it draws, and what events come with."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_markov import N_EVENTS, Journey, count, plant, simulate

from journeylab.errors import RuleError
from journeylab.personas import MarkovMixture

Check = Callable[..., None]

# scikit-learn's checks come with one to thirty columns, hardly ever as many as the events of a journey need: 4, 10, 18…
NO_CLASSIFIER = dict.fromkeys(
    ("check_estimator_sparse_array", "check_estimator_sparse_matrix"),
    "scikit-learn 1.9 asks any estimator that has predict_proba for the tags of a classifier",
)
OTHER_COLUMNS = dict.fromkeys(
    (
        *("check_dict_unchanged", "check_dont_overwrite_parameters", "check_estimator_sparse_tag"),
        *("check_estimators_dtypes", "check_estimators_fit_returns_self", "check_estimators_nan_inf"),
        *("check_estimators_overwrite_params", "check_estimators_pickle", "check_f_contiguous_array_estimator"),
        *("check_fit2d_predict1d", "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y"),
        *("check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_n_features_in"),
        *("check_pipeline_consistency", "check_readonly_memmap_input", "check_sample_weights_list"),
        *("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"),
        *("check_sample_weights_not_an_array", "check_sample_weights_not_overwritten"),
        *("check_sample_weights_pandas_series", "check_sample_weights_shape"),
    ),
    "its X has no n + n * n + n + n columns",
)


class PaddedMixture(MarkovMixture):
    """The same, but to any number of columns it adds empty ones until events have as many."""

    def _check(self, X: object, *, reset: bool) -> sparse.csr_array:
        counts = super()._check(X, reset=reset)
        n_events = next(n for n in range(1, 100) if n * (n + 3) >= counts.shape[1])
        counts.resize(counts.shape[0], n_events * (n_events + 3))
        return counts


def name_failures(estimator: MarkovMixture) -> dict[str, str]:
    """Which checks do not apply, and why."""
    return NO_CLASSIFIER if isinstance(estimator, PaddedMixture) else NO_CLASSIFIER | OTHER_COLUMNS


@parametrize_with_checks(
    [MarkovMixture(n_init=2), PaddedMixture(n_init=2), PaddedMixture(2, n_init=2)],
    expected_failed_checks=name_failures,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator: MarkovMixture, check: Check) -> None:
    check(estimator)


def test_only_the_shape_of_the_input_stands_in_the_way() -> None:
    """What is not checked of the mixture is checked of the padded one."""
    assert name_failures(PaddedMixture()).keys() < name_failures(MarkovMixture()).keys()


def test_parameters_are_read_and_set() -> None:
    model = MarkovMixture(3, smoothing=0.5, emissions=(2, 4), random_state=7)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_components=2).n_components == 2


@pytest.fixture(scope="module")
def fitted() -> MarkovMixture:
    return MarkovMixture(3, n_init=4).fit(count(simulate(plant(3, seed=5), 2_000, seed=6)[0]))


def test_what_is_drawn_has_the_probabilities_of_the_mixture(fitted: MarkovMixture) -> None:
    n, n_customers = N_EVENTS, 40_000
    counts, persona = fitted.sample(n_customers, n_journeys=2, random_state=1)
    # each at most a few standard errors off, over all that are tested at once
    limit = stats.norm.isf(1e-4 / (3 * n * (n + 3)))
    assert (np.abs(np.bincount(persona) / n_customers - fitted.weights_) < limit * np.sqrt(0.25 / n_customers)).all()
    for own in range(3):
        seen = counts[persona == own].sum(axis=0)
        starts, moves, ends, goes_on = np.split(seen, fitted.layout_.bounds[:-1])
        assert starts.sum() == 2 * (persona == own).sum() == ends.sum()
        for part, whole, expected in [
            (starts, starts.sum(), fitted.start_[own]),
            (ends, ends + goes_on, fitted.exit_[own]),
            (moves.reshape(n, n), (ends + goes_on)[:, None], fitted.transition_[own]),
        ]:
            error = np.sqrt(expected * (1 - expected) / np.maximum(whole, 1))
            # the share of few draws is no normal deviate
            is_many = np.broadcast_to(whole, expected.shape) * expected > 20
            assert is_many.any()
            assert (np.abs(part / np.maximum(whole, 1) - expected) < limit * error)[is_many].all()


def test_histories_are_drawn_as_they_are_asked_for(fitted: MarkovMixture) -> None:
    n, n_events = N_EVENTS, np.arange(1, 41)
    counts, _ = fitted.sample(40, n_events=n_events)
    starts, moves, ends, goes_on = np.split(counts.toarray(), fitted.layout_.bounds[:-1], axis=1)
    np.testing.assert_array_equal(starts.sum(axis=1) + moves.sum(axis=1), n_events)
    # one journey is under way, and what it does next is not known; of all other events it is
    np.testing.assert_array_equal(starts.sum(axis=1), ends.sum(axis=1) + 1)
    np.testing.assert_array_equal((ends + goes_on).sum(axis=1), n_events - 1)
    # events that were followed are those before moves, and those reached are counted by starts and moves
    np.testing.assert_array_equal(moves.reshape(40, n, n).sum(axis=2), goes_on)
    counts, _ = fitted.sample(5, n_journeys=[1, 2, 3, 4, 5])
    assert counts[:, :n].sum(axis=1).tolist() == [1, 2, 3, 4, 5]
    both, _ = fitted.sample(500, n_journeys=2, n_events=5)
    assert both[:, : n + n * n].sum(axis=1).max() == 5
    assert both[:, :n].sum(axis=1).max() == 2
    assert both[:, fitted.layout_.bounds[1] : fitted.layout_.bounds[2]].sum(axis=1).max() == 2


def test_by_default_customers_are_as_busy_as_those_of_the_fit() -> None:
    journeys = [Journey(c, (0,) if c % 4 else (0, 1, 0, 1, 1)) for c in range(400)]
    model = MarkovMixture(1).fit(count(journeys, 2))
    np.testing.assert_array_equal(model.histories_, [[1, 5], [0.75, 0.25]])
    n_events = model.sample(10_000)[0][:, :6].sum(axis=1)
    assert set(n_events) == {1, 5}
    assert (n_events == 5).mean() == pytest.approx(0.25, abs=0.02)


def test_the_same_seed_draws_the_same_whatever_events_are_called() -> None:
    journeys, _ = simulate(plant(2, seed=3), 300, seed=4)
    new = np.random.default_rng(0).permutation(N_EVENTS)
    renamed = [Journey(j.customer, tuple(new[list(j.events)]), j.has_ended) for j in journeys]
    one, other = (MarkovMixture(2).fit(count(log)) for log in (journeys, renamed))
    counts, persona = one.sample(200, random_state=5)
    again, persona_again = other.sample(200, random_state=5)
    np.testing.assert_array_equal(persona, persona_again)
    np.testing.assert_array_equal(counts[:, :N_EVENTS].toarray(), again[:, new].toarray())
    np.testing.assert_array_equal(counts.sum(axis=1), again.sum(axis=1))
    assert (one.sample(200, random_state=6)[1] != persona).any()


def test_a_mixture_is_found_again_in_what_it_draws(fitted: MarkovMixture) -> None:
    counts, persona = fitted.sample(4_000, n_journeys=4, random_state=2)
    again = MarkovMixture(3, n_init=4).fit(counts)
    best = adjusted_rand_score(persona, fitted.predict(counts))
    assert best > 0.8
    assert adjusted_rand_score(persona, again.predict(counts)) > 0.97 * best


def test_where_nobody_ends_someone_must_say_when_to_stop() -> None:
    model = MarkovMixture(1).fit(count([Journey(c, (0, 1), has_ended=False) for c in range(9)], 2))
    with pytest.raises(RuleError, match="say when to stop with n_events"):
        model.sample(3, n_journeys=1)
    counts, _ = model.sample(3, n_journeys=1, n_events=4)
    assert counts[:, :6].sum(axis=1).tolist() == [4, 4, 4]


def test_icl_asks_to_be_sure() -> None:
    journeys, _ = simulate(plant(2, seed=7), 60, seed=8)
    counts = count(journeys)
    model = MarkovMixture(2).fit(counts)
    share = model.predict_proba(counts)
    entropy = -sum(p * log(p) for row in share for p in row if p > 0)
    assert model.icl(counts) == pytest.approx(model.bic(counts) + 2 * entropy)
    weights = np.arange(1, 61)
    repeated = counts[np.repeat(np.arange(60), weights)]
    assert model.icl(counts, weights) == pytest.approx(model.icl(repeated))


def come_with(
    counts: sparse.csr_array, outcome: Callable[[int, int], int], n_outcomes: int, n_events: int
) -> sparse.csr_array:
    """Let every event of customer c come with outcome(c, number of the event)."""
    reached = counts[:, : n_events + n_events**2].toarray().reshape(-1, n_events + 1, n_events).sum(axis=1).astype(int)
    emitted = np.zeros((counts.shape[0], n_events, n_outcomes))
    for customer, event in zip(*reached.nonzero(), strict=True):
        for number in range(reached[customer, event]):
            emitted[customer, event, outcome(customer, number)] += 1
    return sparse.hstack([counts, emitted.reshape(len(emitted), -1)], format="csr")


def test_likelihood_of_emissions_equals_a_loop() -> None:
    counts = count(simulate(plant(1, seed=1, n_events=3), 30, seed=2)[0], 3)
    both = come_with(come_with(counts, lambda c, i: (c + i) % 2, 2, 3), lambda c, i: c * i % 4, 4, 3)
    model = MarkovMixture(2, emissions=(2, 4)).fit(both)
    plain, first, second = np.split(both.toarray(), [counts.shape[1], counts.shape[1] + 6], axis=1)
    for customer, score in enumerate(model.score_samples(both)):
        likelihood = 0.0
        for own, share in enumerate(model.weights_):
            n, table = 3, [model.start_[own], model.transition_[own], model.exit_[own]]
            product = share
            for event in range(n):
                product *= table[0][event] ** plain[customer, event]
                product *= table[2][event] ** plain[customer, n + n * n + event]
                # a move is in `transition_` with going on, which is counted beside it
                product *= np.prod(table[1][event] ** plain[customer, n + n * event : n + n * event + n])
                product *= np.prod(model.emission_[0][own, event] ** first[customer, 2 * event : 2 * event + 2])
                product *= np.prod(model.emission_[1][own, event] ** second[customer, 4 * event : 4 * event + 4])
            likelihood += product
        assert score == pytest.approx(log(likelihood), rel=1e-6)
    for emission in model.emission_:
        np.testing.assert_allclose(emission.sum(axis=2), 1)
    drawn, _ = model.sample(50, n_events=6)
    assert drawn.shape[1] == both.shape[1]
    assert drawn[:, -18:-12].sum(axis=1).tolist() == drawn[:, -12:].sum(axis=1).tolist() == [6] * 50
    np.testing.assert_array_equal(model.fit(drawn).predict_proba(drawn).shape, (50, 2))


def test_emissions_tell_apart_who_travel_alike() -> None:
    journeys, _ = simulate(plant(1, seed=3), 1_000, seed=4)
    counts, rng = count(journeys), np.random.default_rng(5)
    truth = rng.integers(0, 2, size=1_000)
    both = come_with(counts, lambda c, _: int(rng.random() < 0.8) if truth[c] else int(rng.random() < 0.2), 2, N_EVENTS)
    without = MarkovMixture(2, n_init=4).fit(counts).predict(counts)
    told = MarkovMixture(2, n_init=4, emissions=(2,)).fit(both).predict(both)
    events = both[:, -2 * N_EVENTS :].toarray().reshape(1_000, -1, 2).sum(axis=1)
    best = adjusted_rand_score(truth, events[:, 1] > events[:, 0])
    assert adjusted_rand_score(truth, without) < 0.05
    assert adjusted_rand_score(truth, told) > 0.95 * best > 0.8


def test_without_emissions_nothing_is_different() -> None:
    counts = count(simulate(plant(2, seed=3), 200, seed=4)[0])
    wider = sparse.hstack([counts, sparse.csr_array((200, 3 * N_EVENTS))])
    plain = MarkovMixture(2, n_init=2).fit(counts)
    silent = MarkovMixture(2, n_init=2, emissions=(3,)).fit(wider)
    np.testing.assert_array_equal(silent.predict_proba(wider), plain.predict_proba(counts))
    with pytest.raises(RuleError, match=r"n for each outcome of an emission: 7, 16, 27 … with emissions=\(3,\)"):
        MarkovMixture(2, emissions=(3,)).fit(counts)
