"""Are personas found again in other customers of the same kind, and better than where there are none?

Hennig (2007), "Cluster-wise assessment of cluster stability", Computational Statistics & Data Analysis 52; Tibshirani &
Walther (2005), "Cluster validation by prediction strength", Journal of Computational and Graphical Statistics 14.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.personas.family import Family, Labels, Predict, Weights

_MOST_CUSTOMERS = 10_000  # of a bootstrap: enough to see a persona of a few percent
_BOOTSTRAP, _HALVES, _NULL = 1, 2, 3  # so that no two draws share their chance


def bootstrap_personas(family: Family, k: int, labels: Labels, *, seed: int, n_boot: int) -> Weights:
    """How much of each persona is found again when customers are drawn anew?

    Each bootstrap draws as many customers as there are (10,000 at most) with replacement, looks for k personas among
    them, from other seeds, and asks which of these each customer is, drawn or not.

    Parameters
    ----------
    family : Family
    k : int
    labels : ndarray of shape (n_rows,)
        Which persona, from 0 to k - 1, each row of the family is.
    seed, n_boot : int

    Returns
    -------
    ndarray of shape (n_boot, k)
        Jaccard coefficients, 0 to 1; see `match_personas`.
    """
    return np.stack([_bootstrap(family, k, labels, [seed, _BOOTSTRAP, i]) for i in range(n_boot)])


def part_customers(family: Family, k: int, *, seed: int, n_parts: int) -> Weights:
    """How well do the personas of one half of the customers foretell those of the other?

    Returns
    -------
    ndarray of shape (n_parts,)
        Of each parting of the customers (10,000 at most, drawn without replacement) into halves, the prediction
        strength, 0 to 1, as the mean of both ways; see `foretell_personas`.
    """
    return np.array([_halve(family, k, [seed, _HALVES, i]) for i in range(n_parts)])


def search_null(family: Family, k: int, *, seed: int, n_logs: int) -> tuple[Weights, Weights]:
    """How stable would k personas seem where there is only one?

    Returns
    -------
    tuple of ndarray of shape (n_logs,)
        Of each log of one persona, the mean Jaccard of one bootstrap, and the prediction strength of one parting.
    """
    jaccard, strength = [], []
    for i in range(n_logs):
        rows = family.draw_null(seed + i)
        null = replace(family, rows=rows, weights=np.ones(rows.shape[0]))
        labels = _learn(null, k, np.arange(rows.shape[0]), np.random.default_rng([seed, _NULL, i]))(rows)
        jaccard.append(_bootstrap(null, k, labels, [seed, _NULL, i, _BOOTSTRAP]).mean())
        strength.append(_halve(null, k, [seed, _NULL, i, _HALVES]))
    return np.array(jaccard), np.array(strength)


def match_personas(labels: Labels, found: Labels, weights: Weights, k: int) -> Weights:
    """How much of each persona is found again?

    The Jaccard coefficient of the persona and the most similar of those found: customers in both, of customers in
    either (Hennig 2007). A persona of nobody is not found: 0.

    Parameters
    ----------
    labels, found : ndarray of shape (n_rows,)
        Personas from 0 to k - 1, and those found, in any numbers.
    weights : ndarray of shape (n_rows,)
        Customers per row.

    Returns
    -------
    ndarray of shape (k,)

    Examples
    --------
    Of the first persona's three customers two are found together; the third is found with the two of the second.

    >>> match_personas(np.array([0, 0, 0, 1, 1]), np.array([7, 7, 4, 4, 4]), np.ones(5), 2).round(3).tolist()
    [0.667, 0.667]
    """
    both = _cross(labels, found, weights, k)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    jaccard: Weights = (both / np.maximum(either, 1e-300)).max(axis=1)
    return jaccard


def foretell_personas(own: Labels, foretold: Labels, weights: Weights, k: int) -> float:
    """How well do the personas of some customers say who of the others belong together?

    Of all pairs of customers in one persona of their own, the share that the others' personas hold together too; of
    the persona where it is least (Tibshirani & Walther 2005). A persona of fewer than two customers has no pairs, and
    nobody has foretold it: 0.

    Parameters
    ----------
    own, foretold : ndarray of shape (n_rows,)
        Personas from 0 to k - 1 that were found in these customers, and those that others would put them in.
    weights : ndarray of shape (n_rows,)
        Customers per row.

    Examples
    --------
    Of the first persona's three pairs one is held together; so is the only pair of the second.

    >>> round(foretell_personas(np.array([0, 0, 0, 1, 1]), np.array([7, 7, 4, 4, 4]), np.ones(5), 2), 3)
    0.333
    """
    both = _cross(own, foretold, weights, k)
    n = both.sum(axis=1)
    if (n < 2).any():
        return 0.0
    return float(((both * (both - 1)).sum(axis=1) / (n * (n - 1))).min())


def _cross(labels: Labels, found: Labels, weights: Weights, k: int) -> Weights:
    _, codes = np.unique(found, return_inverse=True)
    width = int(codes.max()) + 1
    cells = np.bincount(labels * width + codes, weights=weights, minlength=k * width)
    return cells.reshape(k, width).astype(np.float64)


def _bootstrap(family: Family, k: int, labels: Labels, seed: list[int]) -> Weights:
    rng, n_customers = np.random.default_rng(seed), _count_customers(family)
    drawn = rng.integers(n_customers, size=min(n_customers, _MOST_CUSTOMERS))
    return match_personas(labels, _learn(family, k, drawn, rng)(family.rows), family.weights, k)


def _halve(family: Family, k: int, seed: list[int]) -> float:
    rng, n_customers = np.random.default_rng(seed), _count_customers(family)
    drawn = rng.choice(n_customers, size=min(n_customers, _MOST_CUSTOMERS), replace=False)
    halves = np.array_split(drawn, 2)
    predicts = [_learn(family, k, half, rng) for half in halves]
    strengths = []
    for half, own, other in zip(halves, predicts, reversed(predicts), strict=True):
        rows, weights = _fold(family, half)
        judged = family.rows[rows]
        strengths.append(foretell_personas(own(judged), other(judged), weights, k))
    return float(np.mean(strengths))


def _learn(family: Family, k: int, customers: NDArray[np.int64], rng: np.random.Generator) -> Predict:
    """Find the personas of some customers, each given as a place among all."""
    rows, weights = _fold(family, customers)
    try:
        return family.fit(family.rows[rows], weights, k, int(rng.integers(2**31)))
    except RuleError:  # too few of them differ for k personas: they are one
        return lambda judged: np.zeros(judged.shape[0], dtype=np.int64)


def _fold(family: Family, customers: NDArray[np.int64]) -> tuple[NDArray[np.int64], Weights]:
    """To which rows do customers belong, and how many to each?"""
    rows = np.searchsorted(family.weights.cumsum(), customers, side="right")
    distinct, n = np.unique(rows, return_counts=True)
    return distinct, n.astype(np.float64)


def _count_customers(family: Family) -> int:
    return int(family.weights.sum())
