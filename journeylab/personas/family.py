"""What the search for personas needs to know of a method, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Weights = NDArray[np.float64]


class Rows(Protocol):
    """What was seen of each customer, or of all customers who did the same."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows comes first."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Rows:
        """Some of them, or one more than once."""


# Which persona, from 0, is each row?
Predict = Callable[[Rows], Labels]


@dataclass(frozen=True, eq=False)
class Family:
    """A way of clustering, for any number of personas.

    Parameters
    ----------
    rows : Rows
    weights : ndarray of shape (n_rows,)
        Customers per row.
    fit : callable
        ``fit(rows, weights, k, seed)`` learns k personas and returns who is told which.
    score_k : callable
        ``score_k(ks, seed)``: one row per k, with k, the figures by which the method judges it, and chosen (bool, true
        once).
    draw_null : callable
        ``draw_null(seed)``: as many rows of as many customers, who have one way of travelling.
    """

    rows: Rows
    weights: Weights
    fit: Callable[[Rows, Weights, int, int], Predict]
    score_k: Callable[[Sequence[int], int], pd.DataFrame]
    draw_null: Callable[[int], Rows]
