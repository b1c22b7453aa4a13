"""k real journeys that stand for all others: weighted k-medoids on a matrix, or on samples where there are too many.

Schubert & Rousseeuw (2021), "Fast and eager k-medoids clustering", Information Systems 101: one look at a candidate
tells what swapping it against each of the k medoids would change, and a good swap is made at once. So one round over
all candidates reads the matrix once, whatever k is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import RuleError

# whole numbers of any width stay what they are: a matrix of bytes is read four times as fast as one of floats
Distances: TypeAlias = NDArray[Any]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
# Distances between these rows (first) and those
Measure = Callable[[Rows, Rows], Distances]

_BLOCK_CELLS = 1 << 17  # candidates looked at together: what fits into the processor's cache as float64
_START_ROWS = 2_000
_STARTS, _POLISHED = 6, 2
_LEAST_GAIN = 1e-9  # of the loss: less is rounding


@dataclass(frozen=True, eq=False)
class Medoids:
    """Which rows stand for all others, and which row is near which?

    Parameters
    ----------
    rows : ndarray of shape (k,)
        Positions of the medoids, by falling weight of the rows nearest to them.
    labels : ndarray of shape (n,)
        Each row's nearest medoid, from 0; the first of those equally near.
    loss : float
        Sum of weight times distance to that medoid.
    """

    rows: Rows
    labels: Rows
    loss: float


def find_medoids(distances: Distances, k: int, weights: ArrayLike | None = None, *, seed: int = 0) -> Medoids:
    """Which k rows are nearest to all, when each row counts for the nearest of them?

    FasterPAM from three starts, of which the best result is kept: one from BUILD (Kaufman & Rousseeuw 1990), which adds
    the row that helps most; the others are the best of six on 2,000 rows, drawn by `seed` with a chance that grows with
    the distance from those drawn before (Arthur & Vassilvitskii 2007). The result cannot be bettered by any single
    swap. O(n^2) per round; besides the matrix, memory is that of a few rows.

    Parameters
    ----------
    distances : ndarray of shape (n, n)
        Symmetric, from 0, of any number type; sums are float64, so exact for whole numbers.
    k : int
        From 1 to n.
    weights : array of shape (n,), optional
        Customers per row, above 0; a weight of 3 is the same as the row three times.

    Raises
    ------
    RuleError
        If the shapes do not match, a weight is not above 0, or k is not in range.

    Examples
    --------
    >>> find_medoids(abs(np.subtract.outer([1, 2, 3, 20, 21], [1, 2, 3, 20, 21])), 2).rows
    array([1, 3])
    """
    weight = check_weights(weights, len(distances))
    if distances.shape != (len(weight), len(weight)):
        raise RuleError(
            f"find_medoids: distances have shape {distances.shape}; expected one row and column for each row"
        )
    if not 1 <= k <= len(weight):
        raise RuleError(f"find_medoids: k is {k}, but there are {len(weight):,} rows; choose from 1 to {len(weight):,}")
    rng = np.random.default_rng(seed)
    starts = _start_on_sample(distances, weight, k, rng)[:_POLISHED] if k > 1 else []
    found = [_swap(distances, weight, rows) for rows in [_build(distances, weight, k), *starts]]
    best = min(found, key=lambda rows: _sum_nearest(distances, weight, rows))
    return settle_medoids(best, distances[best].T, weight)


def sample_medoids(measure: Measure, k: int, weights: ArrayLike, *, n_sample: int, seed: int = 0) -> Medoids:
    """Which k rows are nearest to all, where there are too many for a matrix of all distances?

    As in CLARA (Kaufman & Rousseeuw 1990), the medoids of a sample; but one of thousands of rows, which does better
    than many of a few dozen. Labels and loss are those of all rows.

    Parameters
    ----------
    measure : callable
        ``measure(rows, others)``: distances of shape (len(rows), len(others)).
    weights : array of shape (n,)
    n_sample : int
        Rows in the sample, drawn by `seed` (see `draw_rows`).
    """
    weight = check_weights(weights, len(np.asarray(weights)))
    rows, n_drawn = draw_rows(weight, n_sample, np.random.default_rng(seed))
    medoids = rows[find_medoids(measure(rows, rows), k, n_drawn, seed=seed).rows]
    return settle_medoids(medoids, measure(np.arange(len(weight)), medoids), weight)


def draw_rows(weights: Floats, n: int, rng: np.random.Generator) -> tuple[Rows, Floats]:
    """Which n rows stand for all, and for how many customers does each?

    What very many did is always among them; the rest of the customers stand in line, and every m-th is drawn.
    """
    if n >= len(weights):
        return np.arange(len(weights)), weights
    is_sure = np.zeros(len(weights), dtype=bool)
    while True:
        rest = np.where(is_sure, 0.0, weights)
        stride = rest.sum() / (n - is_sure.sum())
        is_heavy = rest > stride
        if not is_heavy.any():
            break
        is_sure |= is_heavy
    hits = (rng.random() + np.arange(n - is_sure.sum())) * stride
    is_drawn = is_sure.copy()
    is_drawn[np.searchsorted(np.cumsum(rest), hits, side="right").clip(max=len(weights) - 1)] = True
    rows = np.flatnonzero(is_drawn)
    return rows, np.where(is_sure, weights, stride)[rows]


def settle_medoids(rows: Rows, to_medoids: Distances, weights: Floats) -> Medoids:
    """Whose is each row, and in which order come the medoids?

    Distances of whole numbers often tie, and a tie goes to the first medoid; yet which is first depends on their sizes.
    So the first is the one that most customers are nearest to, ties included; the next the one that most of the others
    are nearest to, and so on: sizes fall, and the first of equals is always right.

    Parameters
    ----------
    to_medoids : ndarray of shape (n, k)
    """
    is_nearest = to_medoids == to_medoids.min(axis=1, keepdims=True)
    order: list[int] = []
    rest = weights.astype(np.float64)
    for _ in rows:
        sizes = rest @ is_nearest
        sizes[order] = -1
        order.append(int(sizes.argmax()))
        rest = rest * ~is_nearest[:, order[-1]]
    ordered = to_medoids[:, order]
    labels = ordered.argmin(axis=1)
    nearest = np.take_along_axis(ordered, labels[:, None], axis=1)[:, 0]
    return Medoids(rows[order], labels, float(nearest.astype(np.float64) @ weights))


def check_weights(weights: ArrayLike | None, n: int) -> Floats:
    """One weight above 0 for each row, or ones."""
    weight = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (n,):
        raise RuleError(f"weights have shape {weight.shape}; expected one for each of {n:,} rows")
    n_wrong = int((~(np.isfinite(weight) & (weight > 0))).sum())
    if n_wrong:
        raise RuleError(f"{n_wrong:,} of {n:,} weights are not above 0; leave those rows out")
    return weight


def _start_on_sample(distances: Distances, weights: Floats, k: int, rng: np.random.Generator) -> list[Rows]:
    """Medoids of a sample, from several starts; the different ones, by rising loss over all rows."""
    rows, n_drawn = draw_rows(weights, max(_START_ROWS, k), rng)
    among = distances if len(rows) == len(weights) else distances[np.ix_(rows, rows)]
    found = {tuple(np.sort(rows[_swap(among, n_drawn, _seed(among, n_drawn, k, rng))])) for _ in range(_STARTS)}
    return sorted(map(np.array, sorted(found)), key=lambda medoids: _sum_nearest(distances, weights, medoids))


def _seed(distances: Distances, weights: Floats, k: int, rng: np.random.Generator) -> Rows:
    """Draw rows with a chance that grows with their distance from those drawn before."""
    chosen: list[int] = []
    chance = weights
    for _ in range(k):
        # where fewer than k rows differ, any others will do
        chance = chance if chance.any() else np.isin(np.arange(len(weights)), chosen, invert=True).astype(np.float64)
        chosen.append(int(rng.choice(len(weights), p=chance / chance.sum())))
        chance = weights * distances[chosen].min(axis=0)
    return np.array(chosen)


def _build(distances: Distances, weights: Floats, k: int) -> Rows:
    """Add, k times, the row that lowers the loss most."""
    near = np.full(len(weights), _largest(distances))
    chosen: list[int] = []
    for _ in range(k):
        loss = np.concatenate([np.minimum(block, near) @ weights for _, block in _blocks(distances)])
        loss[chosen] = np.inf
        chosen.append(int(loss.argmin()))
        near = np.minimum(near, distances[chosen[-1]])
    return np.array(chosen)


def _swap(distances: Distances, weights: Floats, rows: Rows) -> Rows:
    """Swap medoids against other rows until a whole round over all rows finds no swap that lowers the loss.

    With a the distance of each row to the nearest medoid, b to the second and d to the candidate, swapping medoid i for
    the candidate leaves min(d, a) to the rows of other medoids, and min(d, b) to those of medoid i.
    """
    medoids, n = rows.copy(), len(weights)
    near, second, of_medoid = _look_around(distances, weights, medoids)
    loss, n_seen = float(near @ weights), 0
    while n_seen < n:
        for low, block in _blocks(distances):
            with_nearest = np.minimum(block, near)
            left_over = np.minimum(block, second) - with_nearest
            after = (with_nearest @ weights)[:, None] + left_over @ of_medoid
            candidate, i = np.unravel_index(after.argmin(), after.shape)
            n_seen += len(block)
            if after[candidate, i] < loss * (1 - _LEAST_GAIN):
                medoids[i] = low + candidate
                near, second, of_medoid = _look_around(distances, weights, medoids)
                loss, n_seen = float(near @ weights), 0
            if n_seen >= n:
                break
    return medoids


def _look_around(distances: Distances, weights: Floats, medoids: Rows) -> tuple[Distances, Distances, Floats]:
    """How far is each row from the nearest medoid and the second, and its weight in the column of the nearest."""
    to_medoids, everyone = distances[medoids], np.arange(len(weights))
    label = to_medoids.argmin(axis=0)
    near = to_medoids[label, everyone]
    to_medoids[label, everyone] = _largest(distances)
    of_medoid = np.zeros((len(weights), len(medoids)))
    of_medoid[everyone, label] = weights
    return near, to_medoids.min(axis=0), of_medoid


def _sum_nearest(distances: Distances, weights: Floats, medoids: Rows) -> float:
    return float(distances[medoids].min(axis=0) @ weights)


def _blocks(distances: Distances) -> Iterator[tuple[int, Distances]]:
    size = max(1, _BLOCK_CELLS // len(distances))
    for low in range(0, len(distances), size):
        yield low, distances[low : low + size]


def _largest(distances: Distances) -> Any:
    is_whole = np.issubdtype(distances.dtype, np.integer)
    return distances.dtype.type(np.iinfo(distances.dtype).max if is_whole else np.inf)
