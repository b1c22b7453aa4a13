"""Which scale tells a set of numbers? The numbers' range, their gaps, and when they changed."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

Scales = dict[str, tuple[int, int]]  # by name: the ends

UNCLEAR = "unclear"
NO_DAY = -1_000_000

#: How sure the data must be: the chance that answers on the wider scale look like this is below it.
_SURE = 0.001
#: Where nothing else tells: the least share of answers on a wider scale that lie beyond the narrower one.
_BEYOND = 0.05
#: Answers beyond a scale that may be slips of the finger.
_STRAYS = 0.01
#: On one scale, the number past a narrower one's end is given at least this often beside that end; _DOUBT is the
#: chance of the fewer that are found.
_BREAK, _DOUBT = 0.25, 0.05
_MOST_POINTS = 10


def decide_scales(counted: pd.DataFrame, keys: list[str], ends: Scales) -> tuple[list[str | None], list[str]]:
    """Which scale has each number of each part (a group, or its time before or after its switch), and why?"""
    if len(ends) == 1:
        return [*ends] * len(counted), ["given"] * len(counted)
    parts = _find_parts(counted, keys, next(iter(ends.values())))
    names, scales = list(ends), list(ends.values())
    rows = {part: counted[parts == part] for part in parts.unique()}
    fits = {part: _fit(own, scales) for part, own in rows.items()}
    references = _measure_beyond(rows, fits, scales)
    found = {part: _judge(own, fits[part], scales, references) for part, own in rows.items()}
    told: list[str | None] = []
    evidence = []
    for part, value in zip(parts, counted["_x"], strict=True):
        fit = fits[part]
        is_only = not any(low <= value <= high for low, high in scales[:-1])
        if found[part] and scales[fit][0] <= value <= scales[fit][1] and not is_only:
            told.append(names[fit])
        else:
            told.append(names[-1] if is_only else None)
        evidence.append("beyond" if is_only else (found[part] if told[-1] else None) or UNCLEAR)
    return told, evidence


def _find_parts(counted: pd.DataFrame, keys: list[str], narrowest: tuple[int, int]) -> pd.Series[int]:
    """Number the groups, and of each that switched its times; what has no day is then a part of its own."""
    parts = pd.Series(0, index=counted.index)
    groups = counted.groupby(keys, sort=True) if keys else [((), counted)]
    for number, (_group, rows) in enumerate(groups):
        parts[rows.index] = 3 * number
        day = _find_switch(rows, narrowest)
        if day is not None:
            dated = rows["_day"] > NO_DAY
            parts[rows.index] += (rows["_day"] >= day).astype(int) + 2 * (~dated).astype(int)
    return parts


def _find_switch(rows: pd.DataFrame, narrowest: tuple[int, int]) -> int | None:
    """From which day on did more, or fewer, of a group's answers lie beyond the narrowest scale?"""
    import numpy as np
    from scipy.special import xlogy
    from scipy.stats import chi2

    dated = rows[rows["_day"] > NO_DAY]
    beyond = dated["n"] * ~dated["_x"].between(*narrowest)
    sums = dated.assign(beyond=beyond).groupby("_day")[["n", "beyond"]].sum()
    if len(sums) < 2:
        return None

    def likelihood(k: Any, n: Any) -> Any:  # numbers or arrays
        return xlogy(k, k / n) + xlogy(n - k, 1 - k / n)

    n, k = (sums[name].to_numpy(dtype=float) for name in ("n", "beyond"))
    first_n, first_k = n.cumsum()[:-1], k.cumsum()[:-1]
    last_n, last_k = n.sum() - first_n, k.sum() - first_k
    gain = 2 * (likelihood(first_k, first_n) + likelihood(last_k, last_n) - likelihood(k.sum(), n.sum()))
    best = int(gain.argmax())
    rarer = np.minimum(first_k / first_n, last_k / last_n)[best]
    if chi2.sf(gain[best], 1) * len(gain) >= _SURE or rarer > _STRAYS:
        return None
    return int(sums.index[best + 1])


def _count_beyond(rows: pd.DataFrame, scale: tuple[int, int]) -> tuple[int, int]:
    """How many answers lie outside a scale, and of how many?"""
    return int(rows["n"][~rows["_x"].between(*scale)].sum()), int(rows["n"].sum())


def _fit(rows: pd.DataFrame, scales: list[tuple[int, int]]) -> int:
    """The narrowest scale that has all answers of a part but for strays."""
    for i, scale in enumerate(scales):
        beyond, n = _count_beyond(rows, scale)
        if beyond <= _STRAYS * n:
            return i
    return len(scales) - 1


def _measure_beyond(
    rows: dict[int, pd.DataFrame], fits: dict[int, int], scales: list[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """Of answers on a wider scale, at least which share lies beyond a narrower one?"""
    from statsmodels.stats.proportion import proportion_confint

    found = {}
    for narrow, wide in combinations(range(len(scales)), 2):
        counts = [
            _count_beyond(own, scales[narrow])
            for part, own in rows.items()
            if fits[part] == wide and not _breaks(own, scales[narrow], scales[wide])
        ]
        beyond, n = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        found[narrow, wide] = float(proportion_confint(beyond, n, method="wilson")[0]) if n else _BEYOND
    return found


def _judge(
    rows: pd.DataFrame, fit: int, scales: list[tuple[int, int]], references: dict[tuple[int, int], float]
) -> str | None:
    """Why are all answers of a part on the scale that fits? None if they may not be."""
    from scipy.stats import binom

    beyond, n = _count_beyond(rows, scales[fit])
    for wide in range(fit + 1, len(scales)):
        if binom.cdf(beyond, n, references[fit, wide]) >= _SURE:
            return None
    if any(_breaks(rows, scales[narrow], scales[fit]) for narrow in range(fit)):
        return None
    return "all within" if fit < len(scales) - 1 else "no break"


def _breaks(rows: pd.DataFrame, narrow: tuple[int, int], wide: tuple[int, int]) -> bool:
    """Do answers fall off at the narrower scale's upper end, more than on one scale they would?"""
    from scipy.stats import binom

    # Of 0 to 100 most people give the tens.
    step = max(1, (wide[1] - wide[0]) // _MOST_POINTS)
    edge = rows["_x"] - narrow[1]
    at_end = int(rows["n"][(edge > -step) & (edge <= 0)].sum())
    past_end = int(rows["n"][(edge > 0) & (edge <= step)].sum())
    return wide[1] > narrow[1] and bool(binom.cdf(past_end, at_end + past_end, _BREAK / (1 + _BREAK)) < _DOUBT)
