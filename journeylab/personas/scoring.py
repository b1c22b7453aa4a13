"""How many clusters of features are there, if any? Judged beside populations of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from journeylab.errors import RuleError
from journeylab.personas.clusters import Cluster, Floats, Ints, count_cells, find_cells, name_rows, score_bic

_LEAST_CUSTOMERS = 30  # fewer are not parted
_MOST_CUSTOMERS = 4_000  # by whom numbers of personas are judged …
_MOST_PAIRED = 2_000  # … and between whom distances are taken
_NULLS = 5
_NULL_DEVIATIONS = 3
_LEAST_LEAD = 0.04  # discrete counts are that much ahead by themselves
_NEARLY = 0.75  # of the largest lead: a larger number must be worth it


def score_cells(rows: Floats, belief: Floats, ks: Sequence[int], *, cluster: Cluster, seed: int) -> pd.DataFrame:
    """How much better can the customers be parted in k than a population of one kind?

    Up to 4,000 customers, drawn by `seed`, are clustered, and so are five populations of one kind: normal, with the
    same covariance, and each customer's columns as uncertain as in the log. The lead of the mean silhouette (Rousseeuw
    1987) over its mean in the five (beside HDBSCAN, that of k-means) tells, as in the gap statistic (Tibshirani,
    Walther & Hastie 2001), that there is more than one kind: it must be more than 0.04 and three standard deviations of
    the five. Chosen is the smallest such k that has three quarters of the largest lead; of mixtures, of the largest
    gain in BIC, which alone would see a component in everything that is not normal. Else one.

    Parameters
    ----------
    rows, belief : ndarray of shape (n_customers, n_columns)
        See `Measured`.
    ks : sequence of int

    Returns
    -------
    pandas.DataFrame
        k (as far as so many customers differ; HDBSCAN: what it found), silhouette (-1 to 1; of one persona 0), null
        (mean of the five), lead (what it is more), lead_sd (standard deviation of the five), [bic (of mixtures; per
        customer, the lower the better),] chosen (bool).
    """
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(rows), size=min(len(rows), _MOST_CUSTOMERS), replace=False))
    rows, trust = rows[drawn], np.sqrt(belief[drawn])
    table = _judge(rows, ks, cluster, seed)
    if len(table) == 1:
        return table.assign(null=0.0, lead=0.0, lead_sd=0.0, chosen=True)
    judge: Cluster = "gmm" if cluster == "gmm" else "kmeans"
    nulls = [_judge(_draw_alike(rows, trust, rng), table["k"], judge, seed) for _ in range(_NULLS)]
    of_null = np.array([null["silhouette"] for null in nulls])
    table["null"], table["lead"] = of_null.mean(axis=0), table["silhouette"] - of_null.mean(axis=0)
    table["lead_sd"] = of_null.std(axis=0, ddof=1)
    is_real = table["lead"] > max(_NULL_DEVIATIONS * table["lead_sd"].max(), _LEAST_LEAD)
    gain = table["lead"]
    if cluster == "gmm":
        table["bic"] = [score_bic(rows, k, seed) for k in table["k"]]
        gain = table["bic"][0] - table["bic"]
    is_best = is_real & (gain >= _NEARLY * gain[is_real].max())
    return table.assign(chosen=table.index == int(is_best.to_numpy().argmax()))


def _judge(rows: Floats, ks: Iterable[int], cluster: Cluster, seed: int) -> pd.DataFrame:
    """Silhouettes of one persona (0), and of every other number that so many different customers allow."""
    values = {1: 0.0}
    for k in sorted({max(ks)} if cluster == "hdbscan" else set(ks)) if len(rows) >= _LEAST_CUSTOMERS else ():
        try:
            cells = find_cells(rows, np.ones(len(rows)), k, cluster=cluster, seed=seed)
        except RuleError:  # fewer customers differ
            break
        values[count_cells(cells)] = _compare_distances(rows, name_rows(cells, rows), seed)
    return pd.DataFrame(values.items(), columns=["k", "silhouette"])


def _compare_distances(rows: Floats, labels: Ints, seed: int) -> float:
    """Mean silhouette of some customers: how much nearer is the next cluster than the own?"""
    from sklearn.metrics import silhouette_score

    shown = np.random.default_rng(seed).permutation(len(rows))[:_MOST_PAIRED]
    n_found = len(np.unique(labels[shown]))
    return float(silhouette_score(rows[shown], labels[shown])) if 1 < n_found < len(shown) else 0.0


def _draw_alike(rows: Floats, trust: Floats, rng: np.random.Generator) -> Floats:
    """Customers of one kind: normal, with the covariance of the rows, each column as uncertain as the row's own."""
    even = np.divide(rows, trust, out=np.zeros_like(rows), where=trust > 0)
    known = (trust > 0).astype(np.float64)
    variance, axes = np.linalg.eigh(even.T @ even / np.maximum(known.T @ known, 1))
    normal = rng.normal(size=rows.shape) * np.sqrt(np.maximum(variance, 0))
    return np.ascontiguousarray((normal @ axes.T) * trust)
