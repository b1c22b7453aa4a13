"""From what was counted and timed to rows in which every block has its say, and chance as little as possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.personas.columns import MIXES, Floats, Sheet

_FENCE = 3  # Tukey's (1977) outer fences, in ranges between the quartiles
_LEAST_REAL = 0.01  # of a block's variance: where chance explains it all, the block whispers
_ROUNDING = 1e-12  # of a number: a smaller spread is that of sums, and would be blown up to a block's full weight
_NUMBERS = ("low", "high", "mean", "factor", "real", "chance")


@dataclass(frozen=True, eq=False)
class Scale:
    """How the columns of a sheet become comparable; the same for every customer, then and later.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per column: block, variable, name; low and high (beyond them a number counts as them), mean, factor;
        real and chance (variance between customers and, of a single event, within one).
    """

    table: pd.DataFrame

    def apply(self, sheet: Sheet) -> tuple[Floats, Floats]:
        """Rows, and how far each of their columns can be believed (0 to 1); both of shape (n_customers, n_columns)."""
        rows, beliefs = [], []
        for block, part in self.table.groupby("block", sort=False):
            places = [
                sheet.layout.names(str(block)).index(pair) for pair in zip(part["variable"], part["name"], strict=True)
            ]
            low, high, mean, factor, real, chance = (part[name].to_numpy() for name in _NUMBERS)
            values = np.clip(sheet.lay_out(str(block))[:, places], low, high)
            n_seen = _count_seen(sheet, str(block))
            with np.errstate(divide="ignore", invalid="ignore"):  # of no events nothing is known
                belief = np.where(np.isnan(values), 0, real / (real + chance / n_seen[:, None]))
            rows.append(np.where(np.isnan(values), 0, (values - mean) * factor) * belief)
            beliefs.append(belief)
        if not rows:  # all customers are alike
            return np.zeros((len(sheet.customers), 0)), np.zeros((len(sheet.customers), 0))
        return np.ascontiguousarray(np.column_stack(rows)), np.column_stack(beliefs)


def find_scale(sheet: Sheet, weights: Mapping[str, float]) -> Scale:
    """How do blocks of many columns and of one become comparable?

    Parameters
    ----------
    sheet
        In an order that no name can change: sums of fractions depend on it.
    weights
        By block.
    """
    parts = []
    for block, weight in weights.items():
        table = pd.DataFrame(sheet.layout.names(block), columns=["variable", "name"]).assign(block=block)
        if table.empty:
            continue
        values = sheet.lay_out(block)
        known = np.flatnonzero(~np.isnan(values).all(axis=0))
        if not known.size:
            continue
        table, values = table.iloc[known].reset_index(drop=True), values[:, known]
        is_number = block not in MIXES and (table.groupby("variable")["name"].transform("size") == 1)
        table["low"], table["high"] = _find_fences(values, np.broadcast_to(is_number, len(table)))
        kept = np.clip(values, table["low"].to_numpy(), table["high"].to_numpy())
        table["mean"], variance = np.nanmean(kept, axis=0), np.nanvar(kept, axis=0)
        variance[np.sqrt(variance) <= _ROUNDING * np.nanmax(np.abs(kept), axis=0)] = 0
        total = pd.Series(variance).groupby(table["variable"]).transform("sum")
        table["real"], table["chance"], share = _part_variance(sheet, block, kept)
        n_variables = table["variable"][total > 0].nunique()
        with np.errstate(divide="ignore"):
            table["factor"] = np.sqrt(weight / max(n_variables, 1) / total / share)
        parts.append(table.loc[(total > 0) & (share > 0)])
    columns = ["block", "variable", "name", *_NUMBERS]
    return Scale(pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns))


def _find_fences(values: Floats, is_number: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    low, high = np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
    quartiles = np.nanquantile(values, [0.25, 0.75], axis=0)
    reach = _FENCE * (quartiles[1] - quartiles[0])
    has_fence = is_number & (reach > 0)
    low[has_fence], high[has_fence] = (quartiles[0] - reach)[has_fence], (quartiles[1] + reach)[has_fence]
    return low, high


def _part_variance(sheet: Sheet, block: str, kept: Floats) -> tuple[float, float, float]:
    """How do customers differ from each other, how does one from event to event, and which share is real?

    The variance of customers' means is that between customers, and of the mean of a few events that within one, over
    their number (analysis of variance, by moments).
    """
    n = _count_seen(sheet, block)
    values = _take_shares(sheet, block) if block in MIXES else kept
    seen = np.isfinite(n) & (n > 0)
    if not seen.any():  # nothing that happens once more would change
        return 1.0, 0.0, 1.0
    total = float(np.nanvar(values[seen], axis=0).sum())
    if total <= _ROUNDING**2:  # all alike, but for how often
        return 0.0, 0.0, 0.0
    within = (1 - (values[seen] ** 2).sum(axis=1)) * n[seen] if block in MIXES else sheet.within[_MEANS[block]][seen]
    n_free = float((n[seen] - 1).sum())
    chance = float(within[n[seen] > 1].sum()) / n_free if n_free else 0.0
    real = max(total - chance * float((1 / n[seen]).mean()), _LEAST_REAL * total)
    return real, chance, real / total


_MEANS = {"tempo": "gap", "value": "basket"}


def _count_seen(sheet: Sheet, block: str) -> Floats:
    """Of how many events does a customer's value speak? Infinity where it is no mean of events."""
    if block in MIXES:
        n_events: Floats = sheet.counts[block].sum(axis=1).astype(np.float64)
        return n_events
    if block in _MEANS:
        return sheet.n_seen[_MEANS[block]]
    return np.full(len(sheet.customers), np.inf)


def _take_shares(sheet: Sheet, block: str) -> Floats:
    counts = sheet.counts[block].astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares
