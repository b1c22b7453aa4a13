"""How good is a score that was never shown the answers? Ranking, calibration and hits, each with its noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS = 10
_Z = 1.959963984540054


def judge_scores(
    measured_on: str, y: Ints, scores: Floats, voices: Ints, *, is_share: bool = True
) -> dict[str, str | float]:
    """How good are these scores (probabilities, or feelings from -1 to 1)? The columns of `TextScore.quality`."""
    known = ~np.isnan(scores)
    middle = 0.5 if is_share else 0.0
    auc, low, high = bound_auc(y, np.where(known, scores, middle), voices)
    hits = (scores[known] > middle) == (y[known] == 1)
    found: dict[str, str | float] = {
        "measured_on": measured_on,
        "n": len(y),
        "share_positive": _mean(y),
        "share_scored": _mean(known),
        "auc": auc,
        "low": low,
        "high": high,
    }
    if is_share:
        found |= _judge_calibration(y[known], scores[known])
    else:
        found |= dict.fromkeys(("brier", "calibration_error", "calibration_noise", "bias", "slope"), np.nan)
    return found | {"accuracy": _mean(hits)}


def bound_auc(y: Ints, scores: Floats, voices: Ints) -> tuple[float, float, float]:
    """How often is a positive scored above a negative (ties count half), with 95 % bounds?

    Texts of one voice are no independent witnesses: the variance is that of clustered data (Obuchowski 1997), on the
    logit scale, so that the bounds stay between 0 and 1. Null where one kind is missing; bounds null where all of one
    kind are one voice, or where the score parts the kinds wholly, which says nothing of how near it came not to.
    """
    from scipy.stats import rankdata

    is_up = y == 1
    up, down = scores[is_up], scores[~is_up]
    m, n = len(up), len(down)
    if not m or not n:
        return np.nan, np.nan, np.nan
    ranks = rankdata(np.concatenate([up, down]))
    # Of each positive, the share of negatives below it; of each negative, of positives above it (DeLong 1988).
    above = (ranks[:m] - rankdata(up)) / n
    below = 1 - (ranks[m:] - rankdata(down)) / m
    auc = float(above.mean())
    _, code = np.unique(voices, return_inverse=True)
    size = int(code.max()) + 1
    by_up = np.bincount(code[is_up], above - auc, minlength=size)
    by_down = np.bincount(code[~is_up], below - auc, minlength=size)
    n_up, n_down = len(np.unique(code[is_up])), len(np.unique(code[~is_up]))
    if min(n_up, n_down) < 2 or not 0 < auc < 1:
        return auc, np.nan, np.nan
    variance = (
        (by_up @ by_up) * n_up / ((n_up - 1) * m**2)
        + (by_down @ by_down) * n_down / ((n_down - 1) * n**2)
        + 2 * (by_up @ by_down) * size / ((size - 1) * m * n)
    )
    reach = _Z * max(float(variance), 0.0) ** 0.5 / (auc * (1 - auc))
    odds = auc / (1 - auc)
    low, high = (1 / (1 + np.exp(-sign * reach) / odds) for sign in (-1, 1))
    return auc, float(low), float(high)


def _judge_calibration(y: Ints, p: Floats) -> dict[str, float]:
    if not len(y):
        return dict.fromkeys(("brier", "calibration_error", "calibration_noise", "bias", "slope"), np.nan)
    bins = np.array_split(np.argsort(p, kind="stable"), min(_BINS, len(y)))
    gaps = [abs(p[each].mean() - y[each].mean()) for each in bins]
    # Mean absolute deviation of a share around its expectation, normal approximation.
    noise = [float(np.sqrt(2 / np.pi * (p[each] @ (1 - p[each])))) / len(each) for each in bins]
    weights = [len(each) for each in bins]
    return {
        "brier": float(np.mean((p - y) ** 2)),
        "calibration_error": float(np.average(gaps, weights=weights)),
        "calibration_noise": float(np.average(noise, weights=weights)),
        "bias": float(p.mean() - y.mean()),
        "slope": _find_slope(y, p),
    }


def _find_slope(y: Ints, p: Floats) -> float:
    """Cox's (1958) calibration slope: of the outcome on the logit of the probability."""
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y)) < 2:
        return np.nan
    x = logit(np.clip(p, 1e-9, 1 - 1e-9))[:, None]
    return float(LogisticRegression(C=1e6, solver="newton-cholesky", max_iter=1000).fit(x, y).coef_[0, 0])


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if len(values) else np.nan
