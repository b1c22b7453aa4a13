"""Partitions of a distance matrix: by Ward's tree, and how good they are. Weights count as repetition everywhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from journeylab.errors import RuleError
from journeylab.personas.medoids import Distances, Floats, check_weights

_BLOCK_CELLS = 1 << 20


def link_ward(distances: Distances, weights: ArrayLike | None = None) -> Floats:
    """In which order do rows grow together, when each merger should add least to the spread inside clusters?

    Ward's criterion on the distances as they are, as R's ``hclust(method="ward.D")``; SciPy's ``ward`` of their square
    roots is the same tree, with the roots of these heights, but knows no weights. Found by chains of nearest neighbours
    (Murtagh 1983) in O(n^2). A row of weight w begins as a cluster of w equal customers, so weights are the same as
    repetition; R's ``members=`` alone does not do that.

    Parameters
    ----------
    distances : ndarray of shape (n, n)
        Symmetric; a copy of n * n float64 is made.
    weights : array of shape (n,), optional

    Returns
    -------
    ndarray of shape (n - 1, 4)
        A tree as `scipy.cluster.hierarchy` reads it: the two clusters merged, height, rows in the new cluster. Heights
        never fall.
    """
    size = check_weights(weights, len(distances)).copy()
    # what merging two groups of equals costs, on the scale on which two single customers cost their distance
    cost = distances * (2 * np.outer(size, size) / np.add.outer(size, size))
    np.fill_diagonal(cost, np.inf)
    is_left = np.ones(len(size), dtype=bool)
    chain: list[int] = []
    mergers: list[tuple[float, int, int]] = []
    while len(mergers) < len(size) - 1:
        if not chain:
            chain.append(int(is_left.argmax()))
        here = chain[-1]
        near = int(cost[here].argmin())
        if len(chain) == 1 or cost[here, near] < cost[here, chain[-2]]:
            chain.append(near)
            continue
        # nearest to each other: merge, into the later of the two places
        gone, kept = sorted((chain.pop(), chain.pop()))
        height = cost[gone, kept]
        mergers.append((height, gone, kept))
        # Lance & Williams (1967)
        merged = (size[gone] + size) * cost[gone] + (size[kept] + size) * cost[kept] - size * height
        # no cluster is nearer to both together than they are to each other, whatever rounding says
        merged = np.maximum(merged / (size[gone] + size[kept] + size), height)
        merged[[gone, kept]] = np.inf
        cost[kept] = cost[:, kept] = merged
        cost[gone] = cost[:, gone] = np.inf
        is_left[gone], size[kept] = False, size[gone] + size[kept]
    return _name_clusters(sorted(mergers, key=lambda merger: merger[0]))


def _name_clusters(mergers: list[tuple[float, int, int]]) -> Floats:
    """Number clusters in the order of their heights; a merger names two places and means the clusters there by then."""
    n = len(mergers) + 1
    parent, cluster, n_rows = list(range(n)), list(range(n)), [1] * n
    tree = np.empty((n - 1, 4))
    for step, (height, *places) in enumerate(mergers):
        for side, place in enumerate(places):
            while parent[place] != place:
                parent[place] = place = parent[parent[place]]
            places[side] = place
        one, other = places
        tree[step] = *sorted((cluster[one], cluster[other])), height, n_rows[one] + n_rows[other]
        parent[one], cluster[other], n_rows[other] = other, n + step, n_rows[one] + n_rows[other]
    return tree


def judge_partition(distances: Distances, labels: ArrayLike, weights: ArrayLike | None = None) -> pd.Series:
    """How good is a partition, by the measures that R's WeightedCluster prints?

    All are those of Studer (2013), "WeightedCluster library manual", LIVES Working Papers 24. With weights, a row
    counts as so many equal customers. As there, each customer also makes a pair with itself in pbc, hg, hgsd and hc.

    Parameters
    ----------
    distances : ndarray of shape (n, n)
        Symmetric; all pairs are sorted, so a few thousand rows take seconds.
    labels : array of shape (n,)
        Any values; at least two different ones.
    weights : array of shape (n,), optional

    Returns
    -------
    pandas.Series
        pbc: correlation of distance with being in different clusters, -1..1. hg, hgsd: Hubert's gamma and Somers' D,
        of pairs of pairs, how many more are nearer inside a cluster than across (the latter counts ties half), -1..1.
        asw: average silhouette width, see `score_silhouette`; asww: the same with each customer its own neighbour.
        ch: pseudo F, from 0. r2: share of the discrepancy that is between clusters, 0..1. chsq, r2sq: those of squared
        distances. hc: Hubert's C, 0 the best conceivable, 1 the worst.

    Raises
    ------
    RuleError
        If there are fewer than two clusters, or the shapes do not match.
    """
    weight = check_weights(weights, len(distances))
    code, _ = pd.factorize(np.asarray(labels))
    k = int(code.max()) + 1
    if code.shape != weight.shape or k < 2:
        raise RuleError(
            f"judge_partition: {k} clusters in {len(code):,} labels of {len(weight):,} rows; needs two or more"
        )
    within = np.equal.outer(code, code)
    pairs = np.outer(weight, weight)
    values, place = np.unique(distances, return_inverse=True)
    inside, across = (
        np.bincount(place[chosen], weights=pairs[chosen], minlength=len(values)).astype(np.float64)
        for chosen in (within, ~within)
    )
    gamma, somers = _compare_pairs(inside, across)
    ch, r2 = _explain(distances, code, weight, 1)
    chsq, r2sq = _explain(distances, code, weight, 2)
    figures = {
        "pbc": _correlate(values, inside, across),
        "hg": gamma,
        "hgsd": somers,
        "asw": float(np.average(_silhouettes(distances, code, weight, itself=1), weights=weight)),
        "asww": float(np.average(_silhouettes(distances, code, weight, itself=0), weights=weight)),
        "ch": ch,
        "r2": r2,
        "chsq": chsq,
        "r2sq": r2sq,
        "hc": _compare_with_extremes(values, inside, inside + across),
    }
    return pd.Series(figures, dtype=np.float64)


def score_silhouette(distances: Distances, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """How much nearer is a customer to their own cluster than to the next one, on average?

    Average silhouette width (Rousseeuw 1987), -1..1, over customers: other customers of the own row are neighbours at
    distance 0, a customer alone in a cluster scores 0. NaN with one cluster.

    Parameters
    ----------
    distances : ndarray of shape (n, n)
    labels : array of shape (n,)
    weights : array of shape (n,), optional
    """
    weight = check_weights(weights, len(distances))
    code, found = pd.factorize(np.asarray(labels))
    if len(found) < 2:
        return float("nan")
    return float(np.average(_silhouettes(distances, code, weight, itself=1), weights=weight))


def _silhouettes(distances: Distances, code: NDArray[np.int64], weight: Floats, *, itself: int) -> Floats:
    size = np.bincount(code, weights=weight)
    member = np.zeros((len(code), len(size)))
    everyone = np.arange(len(code))
    member[everyone, code] = weight
    step = max(1, _BLOCK_CELLS // len(code))
    sums = np.vstack([distances[low : low + step] @ member for low in range(0, len(code), step)])
    own = sums[everyone, code] / np.maximum(size[code] - itself, 1e-300)
    means = sums / size
    means[everyone, code] = np.inf
    nearest = means.min(axis=1)
    wider = np.maximum(own, nearest)
    is_told = (size[code] > itself) & (wider > 0)
    widths: Floats = np.divide(nearest - own, wider, out=np.zeros(len(code)), where=is_told)
    return widths


def _explain(distances: Distances, code: NDArray[np.int64], weight: Floats, power: int) -> tuple[float, float]:
    """Pseudo F and share of the discrepancy (Studer, Ritschard, Gabadinho & Müller 2011) that clusters explain."""
    size = np.bincount(code, weights=weight)
    spread = (distances.astype(np.float64) ** power * np.outer(weight, weight)).sum(axis=1) / 2
    total = spread.sum() / weight.sum()
    rest = 0.0
    for cluster, n in enumerate(size):
        own = np.flatnonzero(code == cluster)
        inner = distances[np.ix_(own, own)].astype(np.float64) ** power
        rest += float(weight[own] @ inner @ weight[own]) / 2 / n
    k, n_customers = len(size), weight.sum()
    return (total - rest) / (k - 1) / (rest / (n_customers - k)), 1 - rest / total


def _compare_pairs(inside: Floats, across: Floats) -> tuple[float, float]:
    """Hubert's gamma and Somers' D, of pairs of customers counted by rising distance."""
    below, above = np.cumsum(across) - across, across.sum() - np.cumsum(across)
    agree, disagree, tied = inside @ above, inside @ below, inside @ across
    lead = agree - disagree
    return float(lead / (agree + disagree)), float(lead / (agree + disagree + tied / 2))


def _correlate(values: Floats, inside: Floats, across: Floats) -> float:
    everything = inside + across
    n, share = everything.sum(), across.sum() / everything.sum()
    mean = values @ everything / n
    deviation = np.sqrt((values - mean) ** 2 @ everything / n)
    return float(
        (values @ across / across.sum() - values @ inside / inside.sum()) * np.sqrt(share * (1 - share)) / deviation
    )


def _compare_with_extremes(values: Floats, inside: Floats, everything: Floats) -> float:
    """Hubert's C (Hubert & Levin 1976): where the sum inside lies between the least and the most it could be."""
    n = inside.sum()

    def sum_first(values: Floats, counts: Floats) -> float:
        taken = np.clip(n - (np.cumsum(counts) - counts), 0, counts)
        return float(values @ taken)

    least, most = sum_first(values, everything), sum_first(values[::-1], everything[::-1])
    return float((values @ inside - least) / (most - least))
