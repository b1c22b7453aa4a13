"""Quick wins: what would be gained if a stage lost no more by one way than by its best, against the effort of a fix."""

from __future__ import annotations

import pandas as pd

from journeylab.shares import compare_shares

_LEAST_N = 30
_LEVEL = 0.05
_COLUMNS = ["stage", "way", "best_way", "n", "n_lost", "gain", "low", "high", "p_adjusted"]


def find_quick_wins(ways: pd.DataFrame, efforts: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Where would a fix gain most for its effort?

    Parameters
    ----------
    ways
        From `compare_ways`: stage, way, n, n_lost, share_lost.
    efforts
        What the workshop knows, from `sum_efforts`: stage, way, effort.

    Returns
    -------
    pandas.DataFrame
        At most `top` per stage: stage, way, best_way, n, n_lost, gain (journeys that would not be lost here if this way
        lost as few as the best one of at least thirty journeys), low, high (95 %, Newcombe 1998, times n), p_adjusted,
        effort, gain_per_effort. Ordered by gain_per_effort, those without a known effort by gain after them. Only gains
        with p_adjusted below 5 % and an interval above zero.

    Notes
    -----
    Which way is best is read from the same data. So each p counts as often as there are pairs of ways in all stages
    (Bonferroni): the pair that stands out is one of these. Still an upper bound: the best way may be best because other
    customers take it.
    """
    large = ways[ways["n"] >= _LEAST_N]
    pairs = []
    sizes = large.groupby("stage").size()
    n_pairs = int((sizes * (sizes - 1) // 2).sum())
    for _stage, part in large.groupby("stage", sort=False):
        best = part.sort_values(["share_lost", "n", "way"], ascending=[True, False, True]).iloc[0]
        rest = part[part["way"] != best["way"]]
        against = {"best_way": best["way"], "n_other": best["n"], "n_reached_other": best["n_lost"]}
        pairs.append(rest[["stage", "way", "n", "n_lost"]].assign(**against, n_reached=rest["n_lost"]))
    if not n_pairs:
        return pd.DataFrame(columns=[*_COLUMNS, "effort", "gain_per_effort"])
    found = compare_shares(pd.concat(pairs, ignore_index=True), min_n=_LEAST_N)
    found["p_adjusted"] = (found["p"] * n_pairs).clip(upper=1)
    found["gain"] = found["n"] * found["difference"]
    found[["low", "high"]] = found[["low", "high"]].mul(found["n"], axis=0)
    found = found.loc[(found["low"] > 0) & (found["p_adjusted"] < _LEVEL), _COLUMNS]
    found = found.merge(efforts, on=["stage", "way"], how="left")
    found["gain_per_effort"] = found["gain"] / found["effort"]
    ordered = found.sort_values(
        ["gain_per_effort", "gain", "stage", "way"], ascending=[False, False, True, True], na_position="last"
    )
    return ordered.groupby("stage", sort=False).head(top).reset_index(drop=True)


def sum_efforts(touchpoints: pd.DataFrame, ways: pd.DataFrame) -> pd.DataFrame:
    """What would it take to mend a stage by one channel: the efforts of all its touchpoints there, as far as known?

    Parameters
    ----------
    touchpoints
        Of a `Workshop`: stage, channel (empty: any), effort.
    ways
        From `compare_ways`, by channel: stage, way.

    Returns
    -------
    pandas.DataFrame
        stage, way, effort; none where nothing is known of it.
    """
    known = touchpoints[touchpoints["effort"].notna()].rename(columns={"channel": "way"})
    named, general = known[known["way"] != ""], known[known["way"] == ""].drop(columns="way")
    every = general.merge(ways[["stage", "way"]], on="stage")
    each = pd.concat([named, every])[["stage", "way", "effort"]]
    return each.groupby(["stage", "way"])[["effort"]].sum().reset_index()
