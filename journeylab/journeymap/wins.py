"""Quick wins: what would be gained if a stage lost no more by one way than by its best, against the effort of a fix."""

from __future__ import annotations

import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep

_LEAST_N = 30


def find_quick_wins(
    ways: pd.DataFrame,
    touchpoints: pd.DataFrame,
    *,
    top: int,
) -> pd.DataFrame:
    """Where would a fix gain most for its effort?

    Parameters
    ----------
    ways
        From `compare_ways`: stage, way, n, n_lost, share_lost.
    touchpoints
        What the workshop knows: stage, way, effort (any unit, the same for all; null where unknown).

    Returns
    -------
    pandas.DataFrame
        At most `top` per stage: stage, way, best_way, n, n_lost, gain (journeys that would not be lost here if this way
        lost as few as the best one of at least thirty journeys), low, high (95 %, Newcombe 1998, times n), effort,
        gain_per_effort. Ordered by gain_per_effort, those without a known effort by gain after them. Only gains whose
        interval lies above zero.

    Notes
    -----
    An upper bound: the best way may be best because other customers take it, and the best of several is partly so by
    luck.
    """
    rows = []
    for stage, part in ways[ways["n"] >= _LEAST_N].groupby("stage", sort=False):
        best = part.sort_values(["share_lost", "n", "way"], ascending=[True, False, True]).iloc[0]
        for row in part[part["way"] != best["way"]].to_dict("records"):
            low, high = confint_proportions_2indep(row["n_lost"], row["n"], best["n_lost"], best["n"], method="newcomb")
            gain = row["n"] * (row["share_lost"] - best["share_lost"])
            rows.append(
                {"stage": stage, "way": row["way"], "best_way": best["way"], "n": row["n"], "n_lost": row["n_lost"]}
                | {"gain": gain, "low": row["n"] * low, "high": row["n"] * high}
            )
    columns = ["stage", "way", "best_way", "n", "n_lost", "gain", "low", "high"]
    found = pd.DataFrame(rows, columns=columns)
    found = found[found["low"] > 0].merge(touchpoints[["stage", "way", "effort"]], on=["stage", "way"], how="left")
    found["gain_per_effort"] = found["gain"] / found["effort"]
    ordered = found.sort_values(
        ["gain_per_effort", "gain", "stage", "way"], ascending=[False, False, True, True], na_position="last"
    )
    return ordered.groupby("stage", sort=False).head(top).reset_index(drop=True)
