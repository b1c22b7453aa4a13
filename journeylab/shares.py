"""Shares and their differences, with the intervals that the whole package uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def bound_shares(part: pd.Series, whole: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Which shares are these, between which bounds (95 %, Wilson 1927)? Null where there is nobody."""
    from statsmodels.stats.proportion import proportion_confint

    known = whole.astype(float).where(whole > 0)
    low, high = proportion_confint(part.astype(float), known, method="wilson")
    return part / known, low, high


def compare_shares(table: pd.DataFrame, min_n: int) -> pd.DataFrame:
    """Is n_reached of n more or less than n_reached_other of n_other, in each row?

    Adds share, share_other, difference (share - share_other) with low and high (95 %, Newcombe 1998), is_small (fewer
    than `min_n` on a side), p (Agresti & Caffo 2000; null where small) and p_adjusted (Holm 1979 over all tested rows).
    Null where a side has nobody.
    """
    import numpy as np
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    n, n_other = (table[name].astype(float).where(table[name] > 0) for name in ("n", "n_other"))
    table["share"], table["share_other"] = table["n_reached"] / n, table["n_reached_other"] / n_other
    table["difference"] = table["share"] - table["share_other"]
    both = (table["n_reached"], n, table["n_reached_other"], n_other)
    table["low"], table["high"] = confint_proportions_2indep(*both, method="newcomb")
    table["is_small"] = table[["n", "n_other"]].min(axis=1) < min_n
    # It works out a ratio and an odds ratio too, which nobody asked for and which have no value where a share is 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        p = test_proportions_2indep(*both, method="agresti-caffo").pvalue
    table["p"] = np.where(table["is_small"], np.nan, p)
    table["p_adjusted"] = adjust_holm(table["p"])
    return table


def adjust_holm(p: pd.Series) -> pd.Series:
    """What is each p worth when all of them are looked at? Holm (1979); null where nothing was tested."""
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    adjusted = p.to_numpy(dtype=float, copy=True)
    tested = p.notna().to_numpy()
    if tested.any():
        adjusted[tested] = multipletests(adjusted[tested], method="holm")[1]
    return pd.Series(adjusted, index=p.index)
