"""Identical customers told once, in an order that no name can change."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

_ROUNDS = 3  # each round lets a row see one neighbour further; real logs are told apart after two


def fold_rows(counts: sparse.csr_array, weights: NDArray[np.float64]) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Which distinct rows are there, and how much does each weigh?

    Parameters
    ----------
    counts : scipy.sparse.csr_array
        Sorted indices, no stored zeros.
    weights : ndarray of shape (n_rows,)

    Returns
    -------
    tuple
        The distinct rows in order of first appearance, and the summed weight of each.
    """
    bounds = zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
    contents = np.empty(counts.shape[0], dtype=object)
    contents[:] = [counts.indices[low:high].tobytes() + counts.data[low:high].tobytes() for low, high in bounds]
    codes, _ = pd.factorize(contents)
    _, first = np.unique(codes, return_index=True)
    return counts[first], np.bincount(codes, weights=weights).astype(np.float64)


def order_by_content(
    counts: sparse.csr_array, weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which order do rows and columns come when their names are forgotten?

    Seeded draws follow this order, so that renaming customers or events, or shuffling rows, draws the same customers.
    Rows and columns colour each other in turn until their keys tell them apart (Weisfeiler & Leman 1968), in wrapping
    integer arithmetic, whose sums do not depend on order. Rows with equal keys are alike in all that a model can see.

    Parameters
    ----------
    counts : scipy.sparse.csr_array
    weights : ndarray of shape (n_rows,)

    Returns
    -------
    tuple
        Row positions and column positions, sorted by key.
    """
    n_rows, n_columns = counts.shape
    per_row = np.diff(counts.indptr)
    cells = _scramble(counts.data.astype(np.float64).view(np.uint64))
    rows = _scramble(weights.astype(np.float64).view(np.uint64))
    columns = np.zeros(n_columns, dtype=np.uint64)
    for _ in range(_ROUNDS):
        seen = sparse.csr_array(
            (_scramble(cells + np.repeat(rows, per_row)), counts.indices, counts.indptr), counts.shape
        )
        columns = _scramble(columns + seen.T @ np.ones(n_rows, dtype=np.uint64))
        seen = sparse.csr_array(
            (_scramble(cells + columns[counts.indices]), counts.indices, counts.indptr), counts.shape
        )
        rows = _scramble(rows + seen @ np.ones(n_columns, dtype=np.uint64))
    return np.argsort(rows, kind="stable"), np.argsort(columns, kind="stable")


def _scramble(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # finaliser of SplitMix64 (Steele, Lea & Flood 2014): every bit of the input moves every bit of the output
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
