"""A randomised test of two groups: how many it needs, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from journeylab.comparison import count_settled
from journeylab.conversion import check_groups, check_step
from journeylab.errors import RuleError
from journeylab.formats import format_interval, format_name, format_points, format_share
from journeylab.funnel import Funnel, join_groups, name_group
from journeylab.language import gettext as _
from journeylab.language import localise
from journeylab.shares import compare_shares
from journeylab.words import unit_of

if TYPE_CHECKING:
    import pandas as pd

_SURE = 0.05
# With so small a p the groups are not those that were planned (Kohavi, Tang & Xu 2020, chapter 21).
_MISMATCH = 0.001
_GROUP_COLUMNS = (
    *("group", "control", "step", "label", "n", "n_reached", "share", "n_other", "n_reached_other", "share_other"),
    *("difference", "low", "high", "p", "is_small", "mde", "n_started", "n_started_other", "split_p", "is_mismatched"),
)


def plan_experiment(
    share: float,
    *,
    effect: float | Sequence[float] | None = None,
    n: int | Sequence[int] | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """How many units does a test of two equally large groups need, or which effect can it find with so many?

    Parameters
    ----------
    share
        Conversion without the change, between 0 and 1.
    effect
        The smallest difference worth finding: 0.02 is a rise by two percentage points, -0.02 a fall. One or several.
    n
        Instead of `effect`: units per group, one or several.
    power
        How likely such an effect is to be found.
    alpha
        How likely a difference is to be "found" where there is none; two-sided.

    Returns
    -------
    pandas.DataFrame
        One row per effect, or per n: share, effect (with `n`: the smallest rise that is found with this power; null
        where none is), n (units per group), power, alpha.

    Notes
    -----
    Normal approximation of the test of two proportions: Fleiss, Levin & Paik (2003), "Statistical methods for rates and
    proportions", chapter 4. The n is that of one look at the end: who looks every day and stops at the first p below
    alpha finds far more than alpha of nothing. Units count when their window is over: the test ends a window later.

    Examples
    --------
    >>> plan_experiment(0.2, effect=[0.02, 0.04])
       share  effect     n  power  alpha
    0    0.2    0.02  6510    0.8   0.05
    1    0.2    0.04  1683    0.8   0.05
    """
    import pandas as pd

    for name, value in (("share", share), ("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise RuleError(f"plan_experiment: {name} must lie between 0 and 1, such as 0.2; found {value!r}")
    if power <= alpha:
        raise RuleError(f"plan_experiment: power must be more than alpha, which is {alpha}; found {power!r}")
    if (effect is None) == (n is None):
        raise RuleError("plan_experiment: give the effect to find or the n per group, and get the other")
    if effect is not None:
        effects = [effect] if isinstance(effect, int | float) else list(effect)
        for value in effects:
            if value == 0 or not 0 < share + value < 1:
                raise RuleError(
                    f"plan_experiment: share + effect must lie between 0 and 1, and effect not be 0; found {value!r}"
                )
        sizes = [_find_size(share, value, power, alpha) for value in effects]
    else:
        sizes = [n] if isinstance(n, int) else list(n or ())
        if min(sizes, default=0) < 2:
            raise RuleError(f"plan_experiment: n must be 2 or more units per group; found {n!r}")
        effects = [_find_effect(share, size, size, power, alpha) for size in sizes]
    return pd.DataFrame({"share": share, "effect": effects, "n": sizes, "power": power, "alpha": alpha})


def _find_power(effect: float, share: float, n: int, n_other: int, alpha: float) -> float:
    from statsmodels.stats.proportion import power_proportions_2indep

    found = power_proportions_2indep(effect, share, n, ratio=n_other / n, alpha=alpha, return_results=False)
    return float(found)


def _find_size(share: float, effect: float, power: float, alpha: float) -> int:
    n = 2
    while _find_power(effect, share, n, n, alpha) < power:
        n *= 2
    # The smallest one is above the half of this.
    low = n // 2
    while n - low > 1:
        middle = (low + n) // 2
        low, n = (low, middle) if _find_power(effect, share, middle, middle, alpha) >= power else (middle, n)
    return n


def _find_effect(share: float, n: int, n_other: int, power: float, alpha: float) -> float:
    """The smallest rise that is found with this power; NaN where not even the largest is, or where nobody is."""
    from scipy.optimize import brentq

    most = 1 - share - 1e-9
    if not (n and n_other and 0 < share < 1) or _find_power(most, share, n, n_other, alpha) < power:
        return float("nan")
    return float(brentq(lambda effect: _find_power(effect, share, n, n_other, alpha) - power, 1e-9, most))


def compare_groups(
    funnel: Funnel,
    group: str,
    control: str,
    *,
    step: int | None = None,
    split: float = 0.5,
    power: float = 0.8,
    min_n: int = 30,
) -> pd.DataFrame:
    """Did those who got the change convert more often than those who, by lot, did not?

    Parameters
    ----------
    funnel
        From `build_funnel`, with `by` the column that says which group the lot gave.
    group, control
        The group with the change, and the one without.
    step
        Who reaches this step (its number) has converted. Default: the last.
    split
        The share of the two groups together that `group` was meant to get.
    power
        Of the smallest detectable effect.
    min_n
        With fewer units whose time is over on a side, nothing is tested (`is_small`).

    Returns
    -------
    pandas.DataFrame
        One row: group, control, step, label, n (units whose time is over, as in `compare_funnels`), n_reached, share,
        the same of the control (`…_other`), difference (share - share_other) with low and high (95 %, Newcombe), p
        (Agresti-Caffo), is_small, mde (the smallest rise above the control's share that this many units show with this
        power, at 5 %), n_started and n_started_other (all units), split_p (chi-square test of these against `split`),
        is_mismatched (split_p below 0.001).

    Notes
    -----
    This is `compare_funnels` for one question, asked beforehand, so that no p is adjusted. With a sample ratio mismatch
    the groups are not what the lot made them (some were lost on the way, or counted twice), and no difference between
    them can be trusted: Fabijan et al. (2019), "Diagnosing sample ratio mismatch in online controlled experiments".
    mde is what such a test can see, not what it has seen: for that read the interval. Units are told apart by the
    column's value at their start: who was shown both is in the first.
    """
    import pandas as pd
    from scipy.stats import chisquare

    step = check_step(funnel, step)
    _check_groups(funnel, group, control)
    if not 0 < split < 1:
        raise RuleError(f"compare_groups: split must lie between 0 and 1, such as 0.5; found {split!r}")
    first = funnel.table[funnel.table["step"] == 1]
    started = dict(zip(join_groups(first, funnel.by), first["n"], strict=True))
    settled = count_settled(funnel)
    row = {"group": group, "control": control, "step": step, "label": funnel.labels[step - 1]}
    row |= {"n": settled.at[group, 1], "n_reached": settled.at[group, step]}
    row |= {"n_other": settled.at[control, 1], "n_reached_other": settled.at[control, step]}
    table = compare_shares(pd.DataFrame([row]), min_n)
    both = [int(started[group]), int(started[control])]
    n, n_other, share = (table[name].iloc[0] for name in ("n", "n_other", "share_other"))
    table["mde"] = _find_effect(float(share), int(n), int(n_other), power, _SURE)
    table["n_started"], table["n_started_other"] = both
    table["split_p"] = float(chisquare(both, [sum(both) * split, sum(both) * (1 - split)]).pvalue)
    table["is_mismatched"] = table["split_p"] < _MISMATCH
    return table[list(_GROUP_COLUMNS)]


def _check_groups(funnel: Funnel, group: str, control: str) -> None:
    if not funnel.by:
        raise RuleError('compare_groups: build the funnel with by= the column of the groups, such as by="variant"')
    check_groups("compare_groups", (group, control), funnel)
    if group == control:
        raise RuleError(
            f'compare_groups: "{group}" is given twice; name the group with the change, then the one without'
        )


def describe_groups(comparison: pd.DataFrame, funnel: Funnel) -> str:
    """What did the test of `compare_groups` find, and what could it have found? One sentence."""
    row, unit = comparison.iloc[0], funnel.rules.unit
    sides = {"group": name_group(row["group"]), "control": name_group(row["control"])}
    if row["is_mismatched"]:
        return _(
            "The groups are not as planned: {n} {units} in {group} and {n_other} in {control} are not what the lot "
            "would give (p = {p}); find out why before you trust any difference.",
            n=row["n_started"],
            units=unit_of(unit, row["n_started"]),
            n_other=row["n_started_other"],
            p=localise(f"{row['split_p']:.1g}"),
            **sides,
        )
    if row["is_small"]:
        return _(
            "Too few {units} to compare: the time of {n} in {group} and {n_other} in {control} is over.",
            units=unit_of(unit, 0),
            n=row["n"],
            n_other=row["n_other"],
            **sides,
        )
    counts = sides | {
        "share": format_share(row["share"]),
        "n": row["n"],
        "units": unit_of(unit, row["n"]),
        "label": format_name(row["label"]),
        "share_other": format_share(row["share_other"]),
        "n_other": row["n_other"],
        "difference": format_points(row["difference"]),
        "interval": format_interval(row["low"], row["high"], format_points),
    }
    if row["p"] < _SURE:
        finding = _(
            "{share} of {n} {units} in {group} reached {label}, against {share_other} of {n_other} in {control}: "
            "{difference} (95 % interval {interval}), beyond chance",
            **counts,
        )
    else:
        finding = _(
            "{share} of {n} {units} in {group} reached {label}, against {share_other} of {n_other} in {control}: "
            "{difference} (95 % interval {interval}), no more than chance may bring",
            **counts,
        )
    if row["mde"] != row["mde"]:
        return f"{finding}."
    return _(
        "{finding}; so many would mostly show a rise of {points} or more.",
        finding=finding,
        points=format_points(row["mde"]),
    )
