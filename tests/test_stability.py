"""How well personas are found again: by hand, on clumps of numbers, and where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from journeylab.errors import RuleError
from journeylab.personas.family import Family, Labels, Predict, Weights
from journeylab.personas.stability import (
    bootstrap_personas,
    foretell_personas,
    match_personas,
    part_customers,
    search_null,
)


def code(letters: str) -> Labels:
    return np.array([ord(letter) - ord("a") for letter in letters])


@pytest.mark.parametrize(
    ("labels", "found", "jaccard"),
    [
        ("aaabb", "aaabb", [1, 1]),
        ("aaabb", "ddccc", [2 / 3, 2 / 3]),  # the third of a went over to b
        ("aaabb", "ccccc", [3 / 5, 2 / 5]),  # all in one
        ("aaaab", "accde", [2 / 4, 1]),  # the most similar of several
        ("aaacc", "aaabb", [1, 0, 1]),  # nobody is b
    ],
)
def test_jaccard_by_hand(labels: str, found: str, jaccard: Sequence[float]) -> None:
    answer = match_personas(code(labels), code(found), np.ones(5), len(jaccard))
    np.testing.assert_allclose(answer, jaccard)


@pytest.mark.parametrize(
    ("own", "foretold", "strength"),
    [
        ("aaabb", "aaabb", 1),
        ("aaabb", "aabbb", 1 / 3),  # of three pairs in a one is held together, the pair in b is
        ("aaabb", "cccdc", 0),  # the pair in b is not
        ("aaabb", "ccccc", 1),  # all are held together
        ("aaaab", "aaaab", 0),  # one customer makes no pair
        ("aaaaa", "aaaaa", 0),  # and nobody is b
    ],
)
def test_prediction_strength_by_hand(own: str, foretold: str, strength: float) -> None:
    assert foretell_personas(code(own), code(foretold), np.ones(5), 2) == pytest.approx(strength)


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_loops_over_customers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, found, weights = rng.integers(3, size=12), rng.integers(4, size=12), rng.integers(1, 4, size=12)
    customers = [(int(a), int(b)) for a, b, n in zip(labels, found, weights, strict=True) for _ in range(n)]
    jaccard, strength = [], []
    for persona in range(3):
        own = {i for i, (a, _) in enumerate(customers) if a == persona}
        others = [{i for i, (_, b) in enumerate(customers) if b == other} for other in range(4)]
        jaccard.append(max(len(own & other) / len(own | other) for other in others))
        pairs = list(combinations(own, 2))
        strength.append(sum(customers[i][1] == customers[j][1] for i, j in pairs) / len(pairs))
    np.testing.assert_allclose(match_personas(labels, found, weights.astype(float), 3), jaccard)
    assert foretell_personas(labels, found, weights.astype(float), 3) == pytest.approx(min(strength))


# A way of clustering that has nothing to do with journeys: k-means of numbers on a line.
def fit_means(rows: NDArray[np.float64], weights: Weights, k: int, seed: int) -> Predict:
    if len(np.unique(rows)) < k:
        raise RuleError(f"only {len(np.unique(rows))} numbers differ")
    means = KMeans(k, n_init=3, random_state=seed).fit(rows[:, None], sample_weight=weights).cluster_centers_.ravel()
    cuts = np.sort(means)[:-1] + np.diff(np.sort(means)) / 2
    return lambda judged: np.searchsorted(cuts, judged)


def line_up(rows: NDArray[np.float64], weights: Weights | None = None) -> Family:
    def draw_null(seed: int) -> NDArray[np.float64]:
        return np.random.default_rng(seed).normal(rows.mean(), rows.std(), size=len(rows))

    def score_k(ks: Sequence[int], seed: int) -> pd.DataFrame:
        raise NotImplementedError

    return Family(rows, np.ones(len(rows)) if weights is None else weights, fit_means, score_k, draw_null)


def clumps(*centres: float, n: int = 200, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(centre, 0.5, size=n) for centre in centres])


def test_clumps_are_found_again_and_foretold() -> None:
    family = line_up(clumps(0, 10, 20))
    labels = fit_means(family.rows, family.weights, 3, 0)(family.rows)
    jaccard = bootstrap_personas(family, 3, labels, seed=1, n_boot=8)
    assert jaccard.shape == (8, 3)
    assert (jaccard == 1).all()
    assert (part_customers(family, 3, seed=1, n_parts=4) == 1).all()


def test_a_fourth_of_three_clumps_is_not_found_again() -> None:
    family = line_up(clumps(0, 10, 20))
    labels = fit_means(family.rows, family.weights, 4, 0)(family.rows)
    jaccard = bootstrap_personas(family, 4, labels, seed=1, n_boot=8).mean(axis=0)
    assert (jaccard > 0.8).sum() == 2  # of the third clump, halves are called personas, now here and now there
    assert part_customers(family, 4, seed=1, n_parts=4).min() < 0.6


def test_one_clump_seems_as_stable_as_the_null() -> None:
    family = line_up(clumps(0))
    labels = fit_means(family.rows, family.weights, 2, 0)(family.rows)
    jaccard = bootstrap_personas(family, 2, labels, seed=1, n_boot=8).mean()
    null_jaccard, null_strength = search_null(family, 2, seed=1, n_logs=8)
    assert null_jaccard.shape == null_strength.shape == (8,)
    # k-means halves a single clump in the same place again and again: only the null tells that this means nothing
    assert jaccard > 0.8
    assert null_jaccard.min() < jaccard < null_jaccard.max()
    strength = part_customers(family, 2, seed=1, n_parts=4).mean()
    assert null_strength.min() < strength < null_strength.max()


def test_weights_equal_repetition() -> None:
    rows = np.sort(clumps(0, 3, n=40))
    n = np.random.default_rng(1).integers(1, 4, size=len(rows))
    folded, repeated = line_up(rows, n.astype(float)), line_up(np.repeat(rows, n))
    labels = fit_means(rows, folded.weights, 3, 0)(rows)
    np.testing.assert_allclose(
        bootstrap_personas(folded, 3, labels, seed=2, n_boot=4),
        bootstrap_personas(repeated, 3, np.repeat(labels, n), seed=2, n_boot=4),
    )
    np.testing.assert_allclose(
        part_customers(folded, 3, seed=2, n_parts=3), part_customers(repeated, 3, seed=2, n_parts=3)
    )


def test_the_same_seed_draws_the_same_customers() -> None:
    family = line_up(clumps(0, 2))
    labels = fit_means(family.rows, family.weights, 3, 0)(family.rows)
    first, again, other = (bootstrap_personas(family, 3, labels, seed=seed, n_boot=4) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len({tuple(row) for row in first}) > 1  # no bootstrap is drawn twice


def test_customers_who_hardly_differ_are_one_persona() -> None:
    # the rare third number is missing from most halves, which then have no three personas
    family = line_up(np.array([0.0, 1.0, 2.0]), np.array([50.0, 50.0, 1.0]))
    labels = np.array([0, 1, 2])
    jaccard = bootstrap_personas(family, 3, labels, seed=1, n_boot=8)
    assert set(jaccard[:, 2].round(3)) <= {1.0, round(1 / 101, 3)}
    assert (part_customers(family, 3, seed=1, n_parts=4) == 0).all()
