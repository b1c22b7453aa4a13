"""A level or a slope that changes at a known time in a short series whose neighbours resemble each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


class Change(NamedTuple):
    """What was before, what is after, and the difference with its 95 % interval and p."""

    before: float
    after: float
    effect: float
    low: float
    high: float
    p: float


class _Fits(NamedTuple):
    """One regression for each degree of resemblance; the first axis runs over these."""

    weight: Array  # how well it explains the series; they add up to 1
    value: Array  # of each column of the design
    error: Array
    df: Array


def estimate_changes(
    y: Array, variance: Array, time: Array, *, has_trend: bool, extra: Array | None = None
) -> tuple[list[Change], Array]:
    """Did the level of a series, or its slope too, change at time 0, and how would it have gone on?

    Parameters
    ----------
    y
        The series, such as shares.
    variance
        How much each value varies by chance alone, such as share * (1 - share) / n. Only the proportions count, unless
        the series is steadier than that.
    time
        Increasing; what lies behind 0 is after the change. Gaps are allowed.
    has_trend
        Whether there is a slope, before and (another one) after.
    extra
        Further columns of the design, one row per value, which the change leaves alone, such as days of the week.

    Returns
    -------
    tuple
        The change of the level (with a trend: at time 0) and, with a trend, of the slope per unit of time; and what
        the line before the change expects at each time.

    Notes
    -----
    Segmented regression. The errors are a first-order autoregression: a value that is above the line by chance may pull
    the next one with it. By how much (rho), a short series hardly tells; least squares take it for none, and
    Newey-West's errors are too small (Turner et al. 2021, "Evaluation of statistical methods used in the analysis of
    interrupted time series studies: a simulation study", BMC Medical Research Methodology 21). So each of twenty rho
    from 0 to 0.95 has its own generalised least squares with a t distribution. They are mixed by their restricted
    likelihoods (Harville 1977, JASA 72), that is by what the series says of rho, times (1 - rho)^2: strong resemblance
    wants evidence. After Zellner & Tiao (1964), "Bayesian analysis of the regression model with autocorrelated errors",
    JASA 59, with another prior. The spread of the errors is estimated; below `variance` it is not, for nothing is
    steadier than chance, and what chance brings is known: there the t distribution is the normal one.

    In simulations of 16 and 8 weeks without a change, each p is below 0.05 in one to four of a hundred series, and in
    ten of a hundred where rho is 0.6; with least squares that is 25, with Newey-West 33.
    """
    import numpy as np

    line = np.column_stack([np.ones_like(time), time] if has_trend else [np.ones_like(time)])
    further = np.empty((len(y), 0)) if extra is None else extra
    n = line.shape[1]
    fits = _fit(y, variance, time, np.column_stack([line, line * (time > 0)[:, None], further]))
    means = fits.weight @ fits.value
    changes = []
    for i in range(n):
        before, effect = float(means[i]), float(means[n + i])
        changes.append(Change(before, before + effect, effect, *_judge(fits, n + i)))
    return changes, line @ means[:n] + further @ means[2 * n :]


def _fit(y: Array, variance: Array, time: Array, design: Array) -> _Fits:
    import numpy as np

    scaled = np.column_stack([design, y]) / np.sqrt(variance)[:, None]
    rho = np.linspace(0, 0.95, 20)
    kept = rho[:, None] ** np.diff(time)
    noise = np.sqrt(1 - kept**2)
    first = np.broadcast_to(scaled[:1], (len(rho), 1, scaled.shape[1]))
    # What each value brings beyond what it has from the one before is independent.
    white = np.concatenate([first, (scaled[1:] - kept[..., None] * scaled[:-1]) / noise[..., None]], axis=1)
    x, z = white[..., :-1], white[..., -1:]
    gram = np.swapaxes(x, 1, 2) @ x
    inverse = np.linalg.inv(gram)
    value = inverse @ np.swapaxes(x, 1, 2) @ z
    df = len(y) - design.shape[1]
    squares = ((z - x @ value) ** 2).sum(axis=(1, 2))
    spread = np.maximum(squares / df, 1)
    fit = 2 * np.log1p(-rho) - np.log(noise).sum(axis=1) - np.linalg.slogdet(gram)[1] / 2
    fit -= (df * np.log(spread) + squares / spread) / 2
    weight = np.exp(fit - fit.max())
    error = np.sqrt(spread[:, None] * np.diagonal(inverse, axis1=1, axis2=2))
    return _Fits(weight / weight.sum(), value[..., 0], error, np.where(spread > 1, df, np.inf))


def _judge(fits: _Fits, i: int) -> tuple[float, float, float]:
    """The bounds and the p of one value: of the mixture of all fits."""
    from scipy.optimize import brentq
    from scipy.special import stdtr, stdtrit

    value, error = fits.value[:, i], fits.error[:, i]

    def lies_below(limit: float) -> float:
        return float(fits.weight @ stdtr(fits.df, (limit - value) / error))

    # Each part has less than 1.25 % outside of this, and so has the mixture.
    reach = stdtrit(fits.df, 0.9875) * error
    span = (value - reach).min(), (value + reach).max()
    low, high = (brentq(lambda limit, at=at: lies_below(limit) - at, *span) for at in (0.025, 0.975))
    below = lies_below(0.0)
    return low, high, 2 * min(below, 1 - below)
