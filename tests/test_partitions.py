"""Ward's tree and the measures of a partition against SciPy, scikit-learn, plain loops and repetition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, is_monotonic, is_valid_linkage, ward
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, silhouette_samples

from journeylab.errors import RuleError
from journeylab.personas.partitions import judge_partition, link_ward, score_silhouette

Floats = NDArray[np.float64]


def draw_points(seed: int, n: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(n, 3))


def measure(points: Floats) -> Floats:
    return np.linalg.norm(points[:, None] - points, axis=2)


@pytest.mark.parametrize("seed", range(10))
def test_ward_is_scipys_of_the_square_roots(seed: int) -> None:
    """Also where distances are no straight lines: SciPy takes the roots of any."""
    n = 2 + 7 * seed
    drawn = np.random.default_rng(seed).random(n * (n - 1) // 2)
    tree, expected = link_ward(squareform(drawn)), ward(np.sqrt(drawn))
    expected[:, 2] **= 2
    assert is_valid_linkage(tree)
    assert is_monotonic(tree)
    np.testing.assert_allclose(tree, expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_the_tree_are_repetition(seed: int) -> None:
    distances, weights = measure(draw_points(seed, 25)), np.random.default_rng(seed).integers(1, 5, size=25)
    repeated = np.repeat(np.arange(25), weights)
    once, often = link_ward(distances, weights), link_ward(distances[np.ix_(repeated, repeated)])
    np.testing.assert_allclose(often[-24:, 2], once[:, 2])
    assert (often[:-24, 2] == 0).all()
    for k in (2, 4, 7):
        assert adjusted_rand_score(cut_tree(once, k)[repeated, 0], cut_tree(often, k)[:, 0]) == 1


def test_heights_never_fall_where_distances_tie() -> None:
    for seed in range(20):
        drawn = np.random.default_rng(seed).integers(0, 3, size=(40, 40))
        tree = link_ward(np.triu(drawn, 1) + np.triu(drawn, 1).T)
        assert is_valid_linkage(tree)
        assert is_monotonic(tree)


def test_a_single_row_is_no_tree() -> None:
    assert link_ward(np.zeros((1, 1))).shape == (0, 4)


def judge_by_hand(distances: Floats, labels: NDArray[np.int64]) -> dict[str, float]:
    """Of customers one by one: gamma, Somers' D and C from all pairs of pairs, the correlation from all pairs."""
    n = len(labels)
    pairs = [(distances[i, j], labels[i] != labels[j]) for i, j in product(range(n), repeat=2)]
    inside = sorted(distance for distance, is_across in pairs if not is_across)
    across = [distance for distance, is_across in pairs if is_across]
    agree = sum(one < other for one, other in product(inside, across))
    disagree = sum(one > other for one, other in product(inside, across))
    tied = len(inside) * len(across) - agree - disagree
    everything = sorted(distance for distance, _ in pairs)
    least, most = sum(everything[: len(inside)]), sum(everything[-len(inside) :])
    return {
        "pbc": float(np.corrcoef(*zip(*pairs, strict=True))[0, 1]),
        "hg": (agree - disagree) / (agree + disagree),
        "hgsd": (agree - disagree) / (agree + disagree + tied / 2),
        "hc": (sum(inside) - least) / (most - least),
    }


@pytest.mark.parametrize("seed", range(6))
def test_measures_against_loops_and_scikit_learn(seed: int) -> None:
    points = draw_points(seed, 24).round(0 if seed % 2 else 6)
    distances, labels = measure(points), np.random.default_rng(seed).integers(0, 3, size=24)
    found = judge_partition(distances, labels)
    for name, expected in judge_by_hand(distances, labels).items():
        assert found[name] == pytest.approx(expected), name
    assert found["asw"] == pytest.approx(silhouette_samples(distances, labels, metric="precomputed").mean())
    assert found["chsq"] == pytest.approx(calinski_harabasz_score(points, labels))
    spread = [np.square(points[labels == c] - points[labels == c].mean(axis=0)).sum() for c in range(3)]
    assert found["r2sq"] == pytest.approx(1 - sum(spread) / np.square(points - points.mean(axis=0)).sum())
    plain = [distances[np.ix_(labels == c, labels == c)].sum() / 2 / (labels == c).sum() for c in range(3)]
    total = distances.sum() / 2 / 24
    assert found["r2"] == pytest.approx(1 - sum(plain) / total)
    assert found["ch"] == pytest.approx((total - sum(plain)) / 2 / (sum(plain) / 21))


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_the_measures_are_repetition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances, labels = measure(draw_points(seed, 20)), rng.permutation(np.arange(20) % 4)
    weights = rng.integers(1, 6, size=20)
    repeated = np.repeat(np.arange(20), weights)
    once = judge_partition(distances, labels, weights)
    often = judge_partition(distances[np.ix_(repeated, repeated)], labels[repeated])
    np.testing.assert_allclose(once, often, rtol=1e-9)


def test_labels_may_be_anything() -> None:
    distances, labels = measure(draw_points(0, 12)), np.arange(12) % 3
    named = np.array(["z", "a", "m"])[labels]
    assert judge_partition(distances, labels).tolist() == judge_partition(distances, named).tolist()


def test_silhouettes_of_the_lonely_and_the_equal() -> None:
    """A customer alone in a cluster scores 0; so do customers as far from their own as from others."""
    assert score_silhouette(measure(draw_points(0, 3)), [0, 1, 2]) == 0
    assert score_silhouette(np.zeros((4, 4)), [0, 0, 1, 1]) == 0
    assert score_silhouette(np.zeros((4, 4)), [0, 0, 1, 1], [2, 1, 1, 1]) == 0
    assert np.isnan(score_silhouette(np.zeros((4, 4)), [0, 0, 0, 0]))
    # two customers who did the same are neighbours, even where one row stands for both
    distances = np.array([[0, 4], [4, 0]])
    assert score_silhouette(distances, [0, 1], [2, 1]) == pytest.approx(2 / 3)


def test_one_cluster_cannot_be_judged() -> None:
    with pytest.raises(RuleError, match="judge_partition: 1 clusters in 5 labels of 5 rows; needs two or more"):
        judge_partition(np.zeros((5, 5)), np.zeros(5))
    with pytest.raises(RuleError, match="2 clusters in 2 labels of 5 rows"):
        judge_partition(np.zeros((5, 5)), [0, 1])
