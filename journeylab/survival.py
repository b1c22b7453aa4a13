"""How many will have come to the event by a time, when not everybody has been watched to the end?

All functions take `spells`, a DataFrame: duration_s (seconds watched, at least 0), ended (0 still waiting when the
watching ended, 1 the event, 2 another end that rules the event out) and n (how many such spells: equal rows may be
folded, and the answer is that of the unfolded rows). statsmodels estimates; see `_estimate` for what it leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journeylab.errors import RuleError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_POINTS = 500  # of a drawn curve
_FEW = 10  # at risk: with fewer the band fails (7 % instead of 5 % in a simulation with 300 spells)
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class _Estimate:
    """What is known at each observed duration, in ascending order."""

    time: Floats
    n_at_risk: Floats
    share: Floats
    error: Floats
    low: Floats
    high: Floats
    has_events: NDArray[np.bool_]
    is_complete: bool  # nobody was still waiting at the end: the share is final


def estimate_incidence(spells: pd.DataFrame, *, at: Sequence[float]) -> pd.DataFrame:
    """Which share has come to the event by each of these times?

    Parameters
    ----------
    spells
        duration_s, ended (0, 1 or 2) and n; see the module.
    at
        Times in seconds from the start.

    Returns
    -------
    pandas.DataFrame
        One row per time, in the order of `at`: time_s, share (0–1), low and high (95 %, for this one time) and
        n_at_risk (watched, without any end, until just before the time).
        share, low and high are null where they are not known: at times that nobody was watched for, unless all the
        longest spells ended, so that the last share is final.

    Notes
    -----
    One less the product-limit estimate (Kaplan & Meier 1958); where some spells ended with 2 the cumulative incidence
    (Aalen & Johansen 1978), which counts those as never coming. It assumes that who is watched for a short time only
    would have gone on like the others. Interval: Greenwood's error (for the cumulative incidence the delta method of
    Marubini & Valsecchi 1995) on the complementary log-log scale of the share; at a share of 0 Wilson's upper bound
    for none of n_at_risk; at a share of 1 the lower bound before the last event, or Wilson's for those at risk then.

    Examples
    --------
    >>> import pandas as pd
    >>> spells = pd.DataFrame({"duration_s": [1.0, 2.0, 3.0, 4.0], "ended": [1, 0, 1, 0], "n": [1, 1, 1, 1]})
    >>> estimate_incidence(spells, at=[1, 3, 5])[["time_s", "share", "n_at_risk"]]
       time_s  share  n_at_risk
    0     1.0  0.250          4
    1     3.0  0.625          2
    2     5.0    NaN          0
    """
    import numpy as np

    return _read(_estimate(spells), np.asarray(at, dtype=float))


def estimate_curve(spells: pd.DataFrame) -> pd.DataFrame:
    """How does the share that has come to the event grow with time?

    Returns
    -------
    pandas.DataFrame
        A step function, ascending: time_s, share, low, high and n_at_risk as `estimate_incidence` gives them, and
        band_low and band_high, between which the *whole* curve lies with 95 % (null where some spells ended with 2:
        there is no such band then). From time 0 to the longest spell; long curves are thinned to about 500 points,
        less than a 400th of the height off. No rows where there are no spells.

    Notes
    -----
    Band: Hall & Wellner (1980), log-transformed, for the whole range, made monotone (Meeker & Escobar 1998). Where
    fewer than ten are still at risk it has no upper bound but 1.
    """
    import numpy as np

    estimate = _estimate(spells)
    times = _choose_times(estimate)
    curve = _read(estimate, times)
    curve["band_low"] = curve["band_high"] = np.nan
    if estimate.has_events.any() and not (spells["ended"] == 2).any():
        since, lowest, highest = _find_band(spells, estimate)
        place = np.searchsorted(since, times, side="right")
        # Before the first event there is no lower bound, and the upper one is that of the event.
        curve["band_low"] = np.concatenate([[0.0], lowest])[place]
        curve["band_high"] = np.concatenate([highest[:1], highest])[place]
    return curve[["time_s", "share", "low", "high", "band_low", "band_high", "n_at_risk"]]


def estimate_quantile(spells: pd.DataFrame, p: float) -> tuple[float, float, float]:
    """By when has the share p come to the event?

    Returns
    -------
    tuple
        Seconds, and low and high (95 %): each an observed time of an event, null where it is not reached.

    Notes
    -----
    The first time at which the share, its upper and its lower bound have reached p (Brookmeyer & Crowley 1982). That
    is what statsmodels' ``quantile_ci`` gives, and more: it knows other ends, and shares that jump across p.
    """
    import numpy as np

    if not 0 < p < 1:
        raise RuleError(f"estimate_quantile: p must lie between 0 and 1; found {p}")
    estimate = _estimate(spells)
    seen = estimate.has_events
    times = estimate.time[seen]

    def first(has_reached: NDArray[np.bool_]) -> float:
        return float(times[np.argmax(has_reached)]) if has_reached.any() else float("nan")

    # A share of exactly one half can come out a rounding error below it.
    share, high, low = estimate.share[seen], estimate.high[seen], estimate.low[seen]
    return first(share >= p - _ROUNDING), first(high >= p - _ROUNDING), first(low > p)


def compare_survival(spells: pd.DataFrame) -> tuple[float, float]:
    """Do groups come to the event at different speeds?

    Parameters
    ----------
    spells
        As elsewhere, with a column group.

    Returns
    -------
    tuple
        Chi-square statistic (degrees of freedom: groups less one) and p of the log-rank test; null where there is
        nothing to compare: fewer than two groups, or no event while two were watched.

    Notes
    -----
    statsmodels' ``survdiff``. A spell that ended with 2 is watched until then, no longer: what is compared is the
    speed among those still there.
    """
    import numpy as np
    import pandas as pd
    from statsmodels.duration.survfunc import survdiff

    _check(spells, "group")
    n = spells["n"].to_numpy(dtype=int)
    # survdiff knows no weights: unfold.
    codes = np.repeat(pd.factorize(spells["group"])[0], n)
    nothing = float("nan"), float("nan")
    if len(np.unique(codes)) < 2:
        return nothing
    try:
        statistic, p = survdiff(
            np.repeat(spells["duration_s"].to_numpy(dtype=float), n),
            np.repeat(spells["ended"].to_numpy() == 1, n).astype(int),
            codes,
        )
    except np.linalg.LinAlgError:
        return nothing
    return float(statistic), float(p)


def _check(spells: pd.DataFrame, *more: str) -> None:
    missing = [name for name in ("duration_s", "ended", "n", *more) if name not in spells.columns]
    if missing:
        raise RuleError(f"spells lack the column {', '.join(missing)}; found {', '.join(map(str, spells.columns))}")
    n_bad = int((~(spells["duration_s"] >= 0) | ~spells["ended"].isin([0, 1, 2]) | ~(spells["n"] >= 0)).sum())
    if n_bad:
        raise RuleError(
            f"{n_bad} of {len(spells)} spells are none: duration_s and n must be 0 or more, ended 0, 1 or 2"
        )


def _estimate(spells: pd.DataFrame) -> _Estimate:
    """The share at each observed duration, with its standard error and interval.

    statsmodels gives the share. Of folded rows it gives no error of a cumulative incidence, and for the product-limit
    one that is not that of the unfolded rows: that is worked out here. (Without other ends it is Greenwood's.)
    """
    import numpy as np
    from statsmodels.duration.survfunc import CumIncidenceRight

    _check(spells)
    spells = spells[spells["n"] > 0]
    duration, ended = spells["duration_s"].to_numpy(dtype=float), spells["ended"].to_numpy()
    weights = spells["n"].to_numpy(dtype=float)
    if len(spells) == 0:
        none = np.empty(0)
        return _Estimate(none, none, none, none, none, none, none > 0, False)
    time, place = np.unique(duration, return_inverse=True)
    events, ends, spent = (np.bincount(place, weights=weights * part) for part in (ended == 1, ended > 0, ended >= 0))
    n_at_risk = spent[::-1].cumsum()[::-1]
    # Ranks sort faster than times.
    curves = CumIncidenceRight(place, ended, freq_weights=weights).cinc
    share = np.clip(curves[0], 0, 1) if curves else np.zeros(len(time))
    # Where all ends are over, the estimate is 1 less rounding errors.
    share[share > 1 - 1e-12] = 1

    left = n_at_risk - ends
    hazard = np.divide(ends, n_at_risk * left, out=np.zeros(len(time)), where=left > 0)
    survival = np.concatenate([[1.0], np.cumprod(1 - ends / n_at_risk)[:-1]])
    jump = survival * events / n_at_risk**2
    variance = np.cumsum(share**2 * hazard + survival * (1 - events / n_at_risk) * jump + 2 * share * jump)
    variance += share**2 * np.cumsum(hazard) - 2 * share * np.cumsum(share * hazard + jump)
    error = np.sqrt(np.clip(variance, 0, None))
    low, high = _find_interval(share, error, n_at_risk)
    return _Estimate(time, n_at_risk, share, error, low, high, events > 0, bool(left[-1] == 0))


def _find_interval(share: Floats, error: Floats, n: Floats) -> tuple[Floats, Floats]:
    import numpy as np
    from scipy.stats import norm
    from statsmodels.stats.proportion import proportion_confint

    low, high = np.zeros(len(share)), np.ones(len(share))
    inner = (share > 0) & (share < 1)
    rest = 1 - share[inner]
    width = norm.ppf(0.975) * error[inner] / (rest * -np.log(rest))
    low[inner], high[inner] = 1 - rest ** np.exp(-width), 1 - rest ** np.exp(width)
    none = share == 0
    high[none] = proportion_confint(0, n[none], method="wilson")[1]
    if share[-1] == 1:
        # All have come. Only the last time can say so: nobody is left.
        low[-1] = max(low[-2:-1].max(initial=0), proportion_confint(n[-1], n[-1], method="wilson")[0])
    return low, high


def _read(estimate: _Estimate, times: Floats) -> pd.DataFrame:
    """The estimate at any times."""
    import numpy as np
    import pandas as pd
    from statsmodels.stats.proportion import proportion_confint

    n_at_risk = np.append(estimate.n_at_risk, 0)[np.searchsorted(estimate.time, times, side="left")]
    place = np.searchsorted(estimate.time, times, side="right")
    is_known = (n_at_risk > 0) | (estimate.is_complete & (len(estimate.time) > 0))
    share, low, high = (np.concatenate([[0], part])[place] for part in (estimate.share, estimate.low, estimate.high))
    # Before the first event only those who were watched until this very time say anything.
    none = (share == 0) & (n_at_risk > 0)
    high[none] = proportion_confint(0, n_at_risk[none], method="wilson")[1]
    table = pd.DataFrame({"time_s": times, "share": share, "low": low, "high": high})
    table.loc[~is_known, ["share", "low", "high"]] = np.nan
    return table.assign(n_at_risk=n_at_risk.astype(int))


def _choose_times(estimate: _Estimate) -> Floats:
    """The start, the end, and the events between: where there are many, one per level of the share."""
    import numpy as np

    if len(estimate.time) == 0:
        return estimate.time
    times, share = estimate.time[estimate.has_events], estimate.share[estimate.has_events]
    if len(times) > _MOST_POINTS:
        levels = np.linspace(share[0], share[-1], _MOST_POINTS)
        times = times[np.searchsorted(share, levels)]
    return np.unique(np.concatenate([[0.0], times, estimate.time[-1:]]))


def _find_band(spells: pd.DataFrame, estimate: _Estimate) -> tuple[Floats, Floats, Floats]:
    """The times of the events, and the bounds of the band from each of them on."""
    import numpy as np
    from statsmodels.duration.survfunc import SurvfuncRight

    seen = estimate.has_events
    curve = SurvfuncRight(spells["duration_s"], spells["ended"], freq_weights=spells["n"])
    # Of folded rows statsmodels gives another error (see `_estimate`), and where Hall and Wellner have the number of
    # spells it takes the number still at risk.
    curve.surv_prob_se = estimate.error[seen]
    curve.n_risk = estimate.n_at_risk[0]
    # Where all have come there are no bounds: 0 / 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = curve.simultaneous_cb()
    lowest, highest = 1 - np.fmax(*bounds), 1 - np.fmin(*bounds)
    # Each holds until the next event, or the end: too few may be left by then.
    has_few = np.append(estimate.n_at_risk[seen][1:], estimate.n_at_risk[-1]) < _FEW
    lowest[has_few], highest[has_few] = 0, 1
    # The share never falls: a bound at one time is a bound at all later (lower) or earlier (upper) times.
    return curve.surv_times, np.fmax.accumulate(lowest), np.fmin.accumulate(highest[::-1])[::-1]
