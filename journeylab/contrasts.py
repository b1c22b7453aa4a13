"""Groups told apart by sums alone: means, effect sizes, tests and intervals from what an engine can add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from journeylab.shares import adjust_holm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: What is known of a trait in a segment: n customers; sum and squares of what is shown (where typical, of its
#: logarithm); x1, x2, x3, the sums of what is tested, its square and its cube.
SUMS = ("n", "sum", "squares", "x1", "x2", "x3")
_LEAST_SKEW = 1e-4


def lay_out_shares(found: pd.DataFrame, kind: str, base: pd.Series) -> pd.DataFrame:
    """The sums of shares, with zeros where nobody of a segment shows a trait.

    Parameters
    ----------
    found
        segment, trait, n_with (customers who show it), and of shares within customers x1, x2, x3.
    base
        Customers by segment of whom the shares are taken.
    """
    is_mean = "x1" in found.columns
    sums = found[["segment", "trait", *(("x1", "x2", "x3") if is_mean else ("n_with",))]]
    every = pd.MultiIndex.from_product([base.index, sums["trait"].unique()], names=["segment", "trait"])
    table = sums.set_index(["segment", "trait"]).reindex(every, fill_value=0).astype(float).reset_index()
    if not is_mean:
        table = table.assign(**dict.fromkeys(("x1", "x2", "x3"), table["n_with"])).drop(columns="n_with")
    table["n"] = base.reindex(table["segment"]).to_numpy()
    measure = "mean" if is_mean else "share"
    return table.assign(kind=kind, measure=measure, sum=table["x1"], squares=table["x2"])


def sum_amounts(
    found: pd.DataFrame, kind: str, trait: str, scale: int, base: pd.Series, *, is_log: bool
) -> pd.DataFrame:
    """The sums of an amount and of its mid-ranks, which run from -1/2 to 1/2.

    Parameters
    ----------
    found
        segment, bin (the amount to four digits), n (customers), total (exact sum of the amounts).
    base
        The segments as its index.
    """
    counts = found.pivot_table(index="bin", columns="segment", values="n", aggfunc="sum", fill_value=0).sort_index()
    counts = counts.reindex(columns=base.index, fill_value=0)
    n = counts.to_numpy(dtype=float)
    tied = n.sum(axis=1)
    rank = ((tied.cumsum() - tied / 2) / max(tied.sum(), 1) - 0.5)[:, None]
    amount = (counts.index.to_numpy(dtype=float) / scale)[:, None]
    size = np.maximum(n.sum(axis=0), 1)
    exact = found.groupby("segment")["total"].sum().reindex(base.index, fill_value=0).to_numpy() / scale
    # The bins are cut off: their spread is right, and goes with the exact sum.
    spread = (n * amount**2).sum(axis=0) - (n * amount).sum(axis=0) ** 2 / size
    return pd.DataFrame(
        {
            "segment": base.index,
            "kind": kind,
            "trait": trait,
            "measure": "typical" if is_log else "mean",
            "n": n.sum(axis=0),
            "sum": exact,
            "squares": spread + exact**2 / size,
            **{f"x{i}": (n * rank**i).sum(axis=0) for i in (1, 2, 3)},
        }
    )


def judge(moments: pd.DataFrame, min_n: int) -> pd.DataFrame:
    """How much does each segment differ in each trait from all others, and is it more than chance?

    Parameters
    ----------
    moments
        One row per segment and trait: segment, kind, trait, measure ("share", "mean" or "typical"), and `SUMS`.
    min_n
        With fewer customers on a side nothing is tested.

    Returns
    -------
    pandas.DataFrame
        segment, kind, trait, measure, n, n_other, value, value_other, difference, low, high, effect, p, p_adjusted,
        is_small; see `compare_segments`.
    """
    sums = moments.groupby(["kind", "trait"], sort=False)[list(SUMS)].transform("sum")
    every = {name: sums[name].to_numpy(dtype=float) for name in SUMS}
    own = {name: moments[name].to_numpy(dtype=float) for name in SUMS}
    other = {name: every[name] - own[name] for name in SUMS}
    table = moments[["segment", "kind", "trait", "measure"]].copy()
    table["n"], table["n_other"] = own["n"].astype(int), other["n"].astype(int)
    measure = moments["measure"].to_numpy()
    # Of every row all that any measure asks for is computed: exp of an amount of money goes beyond all numbers.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = [
            np.where(measure == "typical", np.expm1(one["sum"] / one["n"]), one["sum"] / one["n"])
            for one in (own, other)
        ]
        table["value"], table["value_other"] = values
        table["difference"] = values[0] - values[1]
        table["low"], table["high"] = _bound(measure, own, other)
        deviation = np.sqrt(np.maximum(every["x2"] / every["n"] - (every["x1"] / every["n"]) ** 2, 0))
        is_same = deviation < 1e-9  # all customers are alike
        d = np.where(is_same, 0, (own["x1"] / own["n"] - other["x1"] / other["n"]) / deviation)
        h = 2 * (np.arcsin(np.sqrt(np.clip(values[0], 0, 1))) - np.arcsin(np.sqrt(np.clip(values[1], 0, 1))))
        table["effect"] = np.where(measure == "share", h, d)
        table["is_small"] = np.minimum(own["n"], other["n"]) < max(min_n, 2)
        p = np.maximum(_test_dealt(own, every), _test_welch(own, other))
    table["p"] = np.where(table["is_small"] | is_same, np.nan, p)
    table["p_adjusted"] = adjust_holm(table["p"])
    return table


def _variance(sums: dict[str, Floats], first: str, second: str) -> Floats:
    n = sums["n"]
    return np.maximum(sums[second] - sums[first] ** 2 / n, 0) / (n - 1)


def _test_dealt(own: dict[str, Floats], every: dict[str, Floats]) -> Floats:
    """How often would dealing out the names at random set a segment's mean as far apart? Two-sided.

    The mean of n drawn from N without replacement has known moments; the gamma distribution that has the first three
    tells its tails (Pearson type III).
    """
    from scipy.special import gammainc, gammaincc

    n, size = own["n"], every["n"]
    mean = every["x1"] / size
    variance = every["x2"] / size - mean**2
    third = every["x3"] / size - 3 * mean * every["x2"] / size + 2 * mean**3
    error = np.sqrt(variance * (size - n) / (n * (size - 1)))
    skew = third * (size - n) * (size - 2 * n) / (n**2 * (size - 1) * (size - 2)) / error**3
    skew = np.where(np.abs(skew) < _LEAST_SKEW, _LEAST_SKEW, skew)
    shape = 4 / skew**2
    place = np.maximum(shape + np.sign(skew) * (own["x1"] / n - mean) / error * np.sqrt(shape), 0)
    p: Floats = np.minimum(2 * np.minimum(gammainc(shape, place), gammaincc(shape, place)), 1)
    return p


def _test_welch(own: dict[str, Floats], other: dict[str, Floats]) -> Floats:
    from scipy.stats import t

    parts = [_variance(one, "x1", "x2") / one["n"] for one in (own, other)]
    distance = np.abs(own["x1"] / own["n"] - other["x1"] / other["n"]) / np.sqrt(parts[0] + parts[1])
    return np.where(np.isnan(distance), 0, 2 * t.sf(distance, _freedom(parts, own["n"], other["n"])))


def _freedom(parts: list[Floats], n: Floats, n_other: Floats) -> Floats:
    """Degrees of freedom of a difference of means (Welch 1947); one where nothing varies."""
    freedom = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (n_other - 1))
    return np.where(np.isfinite(freedom), freedom, 1)


def _bound(measure: NDArray[np.object_], own: dict[str, Floats], other: dict[str, Floats]) -> tuple[Floats, Floats]:
    """95 % intervals of the differences, by measure."""
    from scipy.stats import t
    from statsmodels.stats.proportion import confint_proportions_2indep

    sides = (own, other)
    means = [one["sum"] / one["n"] for one in sides]
    parts = [_variance(one, "sum", "squares") / one["n"] for one in sides]
    reach = t.ppf(0.975, _freedom(parts, own["n"], other["n"])) * np.sqrt(parts[0] + parts[1])
    difference = means[0] - means[1]
    low, high = difference - reach, difference + reach

    is_share = measure == "share"
    if is_share.any():
        counts = [np.where(one["n"] > 0, one[name], np.nan)[is_share] for one in sides for name in ("sum", "n")]
        low[is_share], high[is_share] = confint_proportions_2indep(*counts, method="newcomb")

    typical = [np.expm1(mean) for mean in means]
    reaches = [t.ppf(0.975, one["n"] - 1) * np.sqrt(part) for one, part in zip(sides, parts, strict=True)]
    down = [value - np.expm1(mean - way) for value, mean, way in zip(typical, means, reaches, strict=True)]
    up = [np.expm1(mean + way) - value for value, mean, way in zip(typical, means, reaches, strict=True)]
    is_typical = measure == "typical"
    difference = typical[0] - typical[1]
    low = np.where(is_typical, difference - np.hypot(down[0], up[1]), low)
    high = np.where(is_typical, difference + np.hypot(up[0], down[1]), high)
    return low, high
