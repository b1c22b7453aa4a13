"""k-medoids against all subsets, plain loops and its own invariants."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.personas.medoids import draw_rows, find_medoids, sample_medoids

Floats = NDArray[np.float64]


def draw_distances(seed: int, n: int, *, whole: bool = False) -> NDArray[np.float64]:
    """Points in the plane; as whole numbers they tie often."""
    points = np.random.default_rng(seed).normal(size=(n, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return np.rint(3 * distances) if whole else distances


def draw_weights(seed: int, n: int) -> Floats:
    return np.random.default_rng([seed, 1]).integers(1, 5, size=n).astype(np.float64)


def sum_loss(distances: Floats, rows: list[int], weights: Floats) -> float:
    return sum(weight * min(line[row] for row in rows) for line, weight in zip(distances, weights, strict=True))


def swap_by_hand(distances: Floats, k: int, weights: Floats) -> float:
    """BUILD and SWAP as Kaufman & Rousseeuw (1990) describe them: always the best swap of all."""
    n, rows = len(distances), []
    for _ in range(k):
        rows.append(min(range(n), key=lambda row: sum_loss(distances, [*rows, row], weights)))
    loss = sum_loss(distances, rows, weights)
    while True:
        swaps = [[*rows[:i], row, *rows[i + 1 :]] for i in range(k) for row in range(n)]
        best = min(swaps, key=lambda swap: sum_loss(distances, swap, weights))
        if sum_loss(distances, best, weights) >= loss - 1e-9:
            return loss
        rows, loss = best, sum_loss(distances, best, weights)


@pytest.mark.parametrize("whole", [True, False])
def test_almost_always_the_best_of_all_subsets(whole: bool) -> None:
    n_best = 0
    for seed in range(60):
        n, k = 6 + seed % 6, 1 + seed % 4
        distances, weights = draw_distances(seed, n, whole=whole), draw_weights(seed, n)
        least = min(sum_loss(distances, list(rows), weights) for rows in combinations(range(n), k))
        loss = find_medoids(distances, k, weights).loss
        assert loss >= least - 1e-9
        n_best += loss <= least + 1e-9
    assert n_best >= 58


@pytest.mark.parametrize("seed", range(20))
def test_loss_is_exact_and_no_swap_lowers_it(seed: int) -> None:
    n, k = 25 + seed, 1 + seed % 6
    distances, weights = draw_distances(seed, n, whole=seed % 2 == 0), draw_weights(seed, n)
    found = find_medoids(distances, k, weights, seed=seed)
    rows = found.rows.tolist()
    assert len(set(rows)) == k
    assert found.loss == pytest.approx(sum_loss(distances, rows, weights), rel=1e-12)
    for i in range(k):
        for row in range(n):
            assert sum_loss(distances, [*rows[:i], row, *rows[i + 1 :]], weights) >= found.loss * (1 - 1e-8)


def test_no_worse_than_plain_loops() -> None:
    for seed in range(15):
        distances, weights = draw_distances(seed, 40), draw_weights(seed, 40)
        assert find_medoids(distances, 4, weights).loss <= swap_by_hand(distances, 4, weights) + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_labels_are_the_nearest_medoids_and_sizes_fall(seed: int) -> None:
    distances, weights = draw_distances(seed, 60, whole=True), draw_weights(seed, 60)
    found = find_medoids(distances, 5, weights)
    to_medoids = distances[:, found.rows]
    assert found.labels.tolist() == [list(line).index(min(line)) for line in to_medoids]
    sizes = np.bincount(found.labels, weights=weights, minlength=5)
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_weights_are_repetition(k: int) -> None:
    distances, weights = draw_distances(3, 30), draw_weights(3, 30)
    repeated = np.repeat(np.arange(30), weights.astype(int))
    once = find_medoids(distances, k, weights)
    often = find_medoids(distances[np.ix_(repeated, repeated)], k)
    assert often.loss == pytest.approx(once.loss)
    assert repeated[often.rows].tolist() == once.rows.tolist()
    assert often.labels.tolist() == once.labels[repeated].tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.float32])
def test_any_number_type_gives_the_same(kind: type) -> None:
    distances = draw_distances(5, 300, whole=True)
    expected, found = find_medoids(distances, 4), find_medoids(distances.astype(kind), 4)
    assert (found.rows.tolist(), found.loss) == (expected.rows.tolist(), expected.loss)


def test_starts_on_a_sample_do_not_spoil_it() -> None:
    """More rows than a start looks at: five clouds, of which each must get a medoid."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(10 * i, 1, size=(n, 1)) for i, n in enumerate((900, 700, 500, 300, 100))])
    distances = np.abs(points - points.T).astype(np.float32)
    found = find_medoids(distances, 5)
    assert np.bincount(found.labels).tolist() == [900, 700, 500, 300, 100]


def test_every_row_may_be_a_medoid() -> None:
    distances = draw_distances(0, 5)
    assert sorted(find_medoids(distances, 5).rows) == [0, 1, 2, 3, 4]
    assert find_medoids(np.zeros((4, 4)), 3).loss == 0
    assert find_medoids(np.zeros((1, 1)), 1).rows.tolist() == [0]


def test_the_seed_decides_alone() -> None:
    distances = draw_distances(8, 200)
    assert find_medoids(distances, 6, seed=3).rows.tolist() == find_medoids(distances, 6, seed=3).rows.tolist()


def test_a_sample_of_all_rows_is_no_sample() -> None:
    distances, weights = draw_distances(1, 50), draw_weights(1, 50)
    found = sample_medoids(lambda rows, others: distances[np.ix_(rows, others)], 3, weights, n_sample=50)
    assert found.rows.tolist() == find_medoids(distances, 3, weights).rows.tolist()


def test_a_sample_comes_near_to_all() -> None:
    distances = draw_distances(2, 1_500)
    best = find_medoids(distances, 5).loss
    for seed in range(5):
        found = sample_medoids(
            lambda rows, others: distances[np.ix_(rows, others)], 5, np.ones(1_500), n_sample=400, seed=seed
        )
        assert best * (1 - 1e-9) <= found.loss < 1.03 * best
        assert found.loss == pytest.approx(distances[:, found.rows].min(axis=1).sum())
        assert found.labels.tolist() == distances[:, found.rows].argmin(axis=1).tolist()


def test_a_draw_stands_for_everyone() -> None:
    """What many did is drawn for sure, everything else as often as its weight says, and no customer is lost."""
    weights = np.append(np.random.default_rng(0).integers(1, 4, size=200), [5_000, 300]).astype(np.float64)
    stood_for, n_draws = np.zeros(202), 2_000
    for seed in range(n_draws):
        rows, standing = draw_rows(weights, 50, np.random.default_rng(seed))
        assert len(rows) == len(set(rows.tolist())) == 50
        assert standing.sum() == pytest.approx(weights.sum())
        assert set(rows[-2:]) == {200, 201}
        assert standing[-2:].tolist() == [5_000, 300]
        stood_for[rows] += standing / n_draws
    # each of the rest is drawn with a chance of weight / stride and then stands for a stride of customers
    stride = weights[:200].sum() / 48
    assert (np.abs(stood_for - weights)[:200] < 5 * np.sqrt(weights[:200] * stride / n_draws)).all()


def test_errors_say_what_is_wrong() -> None:
    distances = draw_distances(0, 5)
    with pytest.raises(RuleError, match=r"find_medoids: k is 6, but there are 5 rows; choose from 1 to 5"):
        find_medoids(distances, 6)
    with pytest.raises(RuleError, match=r"find_medoids: distances have shape \(5, 4\); expected one row and column"):
        find_medoids(distances[:, :4], 2)
    with pytest.raises(RuleError, match=r"weights have shape \(3,\); expected one for each of 5 rows"):
        find_medoids(distances, 2, np.ones(3))
    with pytest.raises(RuleError, match=r"2 of 5 weights are not above 0; leave those rows out"):
        find_medoids(distances, 2, [1, 0, 1, float("nan"), 1])
