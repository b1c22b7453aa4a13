"""Clusters of rows by k-means, Gaussian mixtures and HDBSCAN, told in a few numbers that assign any other row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import RuleError

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Cluster = Literal["kmeans", "gmm", "hdbscan"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_RESTARTS = 5
_MOST_ROWS = {"kmeans": 50_000, "gmm": 50_000, "hdbscan": 5_000}  # more tell the clusters nothing new
# Axes of the largest variance, along which mixtures are fitted and densities estimated: in more, all is sparse.
_AXES, _DENSE_AXES = 5, 3
# Of the variance along the longest axis: a component cannot be thinner, and so cannot settle on customers who are all
# alike or of whom little is known.
_LEAST_VARIANCE = 0.05
_LEAST_CLUSTER, _LEAST_CLUSTER_SHARE = 5, 0.05  # of HDBSCAN: customers, and share of all
_AT_A_TIME = 20_000  # rows, so that memory stays flat


@dataclass(frozen=True, eq=False)
class Centres:
    """Clusters that are told by their centres.

    Parameters
    ----------
    centres : ndarray of shape (k, q)
    reach : ndarray of shape (k,) or None
        How far from it a cluster's own rows lie at most, where rows were found that belong to none.
    middle, axes : ndarray of shape (d,) and (d, q), or None
        Where distances are taken along a few axes only.
    """

    centres: Floats
    reach: Floats | None = None
    middle: Floats | None = None
    axes: Floats | None = None

    def measure(self, rows: Floats) -> Floats:
        """Squared distance of each row to each centre."""
        # Not as a matrix product: a row's distance must not depend on what other rows there are.
        squares = np.empty((len(rows), len(self.centres)))
        for part in _slice(len(rows)):
            places = rows[part]
            if self.middle is not None and self.axes is not None:
                places = _project(places, self.middle, self.axes)
            for j, centre in enumerate(self.centres):
                squares[part, j] = ((places - centre) ** 2).sum(axis=1)
        return squares

    def belong(self, rows: Floats) -> Floats:
        """Membership in fuzzy c-means with m = 2: by the inverse squares of the distances (Bezdek 1981)."""
        squares = self.measure(rows)
        nearest = squares.min(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            near = np.where(squares == nearest, 1.0, nearest / squares)
        membership: Floats = near / near.sum(axis=1, keepdims=True)
        return membership

    def take(self, order: Ints) -> Centres:
        """These clusters, in this order."""
        return replace(self, centres=self.centres[order], reach=None if self.reach is None else self.reach[order])


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Components of a Gaussian mixture along the axes of the largest variance.

    Parameters
    ----------
    middle : ndarray of shape (d,)
    axes : ndarray of shape (d, q)
    weights : ndarray of shape (k,)
    means : ndarray of shape (k, q)
    roots : ndarray of shape (k, q, q)
        Upper triangular; each times its transpose is a component's inverse covariance.
    """

    middle: Floats
    axes: Floats
    weights: Floats
    means: Floats
    roots: Floats

    def measure(self, rows: Floats) -> Floats:
        """Squared Mahalanobis distance of each row to each component."""
        squares = np.empty((len(rows), len(self.means)))
        for part in _slice(len(rows)):
            places = _project(rows[part], self.middle, self.axes)
            for j, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):
                squares[part, j] = (_project(places, mean, root) ** 2).sum(axis=1)
        return squares

    def belong(self, rows: Floats) -> Floats:
        """Posterior probability of each component."""
        log_scale = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        joint = np.log(self.weights) + log_scale - self.measure(rows) / 2
        likely = np.exp(joint - joint.max(axis=1, keepdims=True))
        posterior: Floats = likely / likely.sum(axis=1, keepdims=True)
        return posterior

    def take(self, order: Ints) -> Gaussians:
        """These components, in this order."""
        own = {name: getattr(self, name)[order] for name in ("weights", "means", "roots")}
        return replace(self, **own)


Cells = Centres | Gaussians


def tell_cells(cells: Cells) -> dict[str, Any]:
    """Clusters as plain values."""
    return {name: value.tolist() for name, value in vars(cells).items() if value is not None}


def read_cells(data: dict[str, Any]) -> Cells:
    """The inverse of `tell_cells`."""
    arrays = {name: np.array(value, dtype=np.float64) for name, value in data.items()}
    return Centres(**arrays) if "centres" in arrays else Gaussians(**arrays)


def find_cells(rows: Floats, weights: Floats, k: int, *, cluster: Cluster, seed: int) -> Cells:
    """Which clusters are there, the largest first?

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        In an order that no name can change. Of many, some are drawn.
    weights : ndarray of shape (n,)
        Whole numbers: how often each row is there.
    k : int
        How many; with HDBSCAN, how many at most.

    Raises
    ------
    RuleError
        If fewer than k rows differ.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    _check_distinct(rows, k)
    if k == 1:
        return Centres((rows * (weights / weights.sum())[:, None]).sum(axis=0, keepdims=True))
    most = _MOST_ROWS[cluster]
    drawn = np.arange(len(rows))
    if len(rows) > most:
        drawn = np.sort(np.random.default_rng(seed).choice(len(rows), size=most, replace=False))
    # Threads add in the order in which they come: one alone gives the same bits every time.
    with threadpool_limits(limits=1):
        cells = _FINDERS[cluster](rows[drawn], weights[drawn], k, seed)
    sizes = np.bincount(name_rows(cells, rows), weights=weights, minlength=count_cells(cells))
    return cells.take(np.argsort(-sizes, kind="stable"))


def name_rows(cells: Cells, rows: Floats) -> Ints:
    """Which cluster does each row belong to? From 0."""
    labels: Ints = cells.belong(rows).argmax(axis=1)
    return labels


def count_cells(cells: Cells) -> int:
    """How many clusters are there?"""
    return len(cells.centres if isinstance(cells, Centres) else cells.means)


def score_bic(rows: Floats, k: int, seed: int) -> float:
    """What does a mixture of k cost, per customer? Its BIC (Schwarz 1978), the lower the better."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        _, _, mixture, places = _fit_mixture(rows, np.ones(len(rows)), k, seed)
        return float(mixture.bic(places) / len(places))


def _check_distinct(rows: Floats, k: int) -> None:
    seen: set[bytes] = set()
    for row in rows:
        seen.add(row.tobytes())
        if len(seen) >= k:
            return
    raise RuleError(f"k is {k}, but only {len(seen):,} of {len(rows):,} customers differ; choose a number up to that")


def _find_means(rows: Floats, weights: Floats, k: int, seed: int) -> Centres:
    from sklearn.cluster import KMeans

    return Centres(KMeans(k, n_init=_RESTARTS, random_state=seed).fit(rows, sample_weight=weights).cluster_centers_)


def _find_gaussians(rows: Floats, weights: Floats, k: int, seed: int) -> Gaussians:
    middle, axes, mixture, _ = _fit_mixture(rows, weights, k, seed)
    return Gaussians(middle, axes, mixture.weights_, mixture.means_, mixture.precisions_cholesky_)


def _fit_mixture(rows: Floats, weights: Floats, k: int, seed: int) -> tuple[Floats, Floats, GaussianMixture, Floats]:
    """The axes, the mixture in them, and the rows' places in them."""
    from sklearn.mixture import GaussianMixture

    middle, axes = _find_axes(rows, weights)
    places = _repeat(_project(rows, middle, axes), weights)
    mixture = GaussianMixture(k, n_init=_RESTARTS, reg_covar=_LEAST_VARIANCE, random_state=seed).fit(places)
    return middle, axes, mixture, places


def _find_dense(rows: Floats, weights: Floats, k: int, seed: int) -> Centres:
    """The k largest clusters of HDBSCAN, by their centres; one where there is none."""
    from sklearn.cluster import HDBSCAN

    middle, axes = _find_axes(rows, weights, _DENSE_AXES)
    places = _repeat(_project(rows, middle, axes), weights)
    size = max(_LEAST_CLUSTER, round(_LEAST_CLUSTER_SHARE * len(places)))
    labels = np.full(len(places), -1)
    if len(places) >= _LEAST_CLUSTER:  # of fewer it refuses to speak
        labels = HDBSCAN(min_cluster_size=size, min_samples=_LEAST_CLUSTER, copy=True).fit_predict(places)
    sizes = np.bincount(labels[labels >= 0])
    own = [places[labels == label] for label in np.argsort(-sizes, kind="stable")[:k]] or [places]
    centres = np.stack([part.mean(axis=0) for part in own])
    far = [((part - centre) ** 2).sum(axis=1).max() for part, centre in zip(own, centres, strict=True)]
    return Centres(centres, np.sqrt(far), middle, axes)


_FINDERS: dict[Cluster, Callable[[Floats, Floats, int, int], Cells]] = {
    "kmeans": _find_means,
    "gmm": _find_gaussians,
    "hdbscan": _find_dense,
}


def _find_axes(rows: Floats, weights: Floats, most: int = _AXES) -> tuple[Floats, Floats]:
    """The middle, and the axes of the largest variance, in units of the standard deviation along the longest."""
    share = weights / weights.sum()
    middle = (rows * share[:, None]).sum(axis=0)
    spread = rows - middle
    variance, axes = np.linalg.eigh((spread * share[:, None]).T @ spread)
    kept = np.argsort(-variance, kind="stable")[:most]
    axes = axes[:, kept[variance[kept] > 1e-9 * variance.max()]]
    # Either direction is right; the same one is taken every time.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return middle, np.ascontiguousarray(axes * np.sign(largest) / np.sqrt(variance.max()))


def _project(rows: Floats, middle: Floats, axes: Floats) -> Floats:
    # Not as a matrix product: see Centres.measure.
    spread = rows - middle
    return np.column_stack([(spread * axis).sum(axis=1) for axis in np.ascontiguousarray(axes.T)])


def _repeat(rows: Floats, weights: Floats) -> Floats:
    return np.repeat(rows, weights.round().astype(int), axis=0)


def _slice(n: int) -> Iterator[slice]:
    for first in range(0, n, _AT_A_TIME):
        yield slice(first, first + _AT_A_TIME)
