"""Key figures from period to period, and those that changed: with few false alarms over all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import ibis

from journeylab.errors import RuleError
from journeylab.formats import format_name, format_share
from journeylab.funnel import Funnel
from journeylab.language import format_day
from journeylab.language import gettext as _
from journeylab.retention import FREQUENCIES, check_frequency
from journeylab.shares import adjust_holm, bound_shares
from journeylab.words import word_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Freq = Literal["D", "W", "M"]
LEAST_PERIODS = 6
_N_DRAWS = 2_000
_MOST_SAID = 3  # changes in the headline
_COUNT_COLUMNS = ("figure", "period", "x", "n")


@dataclass(frozen=True, eq=False)
class Changes:
    """The answer of `find_changes`.

    Attributes
    ----------
    figures
        One row per figure, the surest change first: figure, n_periods, changed_at (the first period after the likeliest
        change), n_before, n_after, share_before, share_after, difference with low and high (95 %, taken at
        `changed_at` as if it had been known, and therefore somewhat too narrow), p, p_adjusted (Holm, over all
        figures), is_change. changed_at to p are null where a figure has too few periods or does not vary.
    series
        One row per figure and period: figure, period, x, n, share, low, high (Wilson, 95 %), level (the share before or
        after the change where there is one, and overall where not).
    """

    figures: pd.DataFrame
    series: pd.DataFrame

    @property
    def headline(self) -> str:
        """What changed, in one sentence."""
        changed, n = self.figures[self.figures["is_change"]], len(self.figures)
        if changed.empty:
            return _("None of {n} figures changed by more than chance from period to period.", n=n)
        said = "; ".join(
            _(
                "{figure} from {before} to {after} since {day}",
                figure=format_name(word_of(row["figure"], "figure")),
                before=format_share(row["share_before"]),
                after=format_share(row["share_after"]),
                day=format_day(row["changed_at"]),
            )
            for row in changed.head(_MOST_SAID).to_dict("records")
        )
        counts = {"changed": len(changed), "n": n, "said": said}
        if len(changed) > _MOST_SAID:
            return _(
                "{changed} of {n} figures changed: {said}, and {more} more.", more=len(changed) - _MOST_SAID, **counts
            )
        return _("{changed} of {n} figures changed: {said}.", **counts)


def count_figures(funnel: Funnel, *, freq: Freq = "W") -> pd.DataFrame:
    """How did those who started in each period fare, of all whose time is over?

    Parameters
    ----------
    funnel
        From `build_funnel`, with a window and without groups.
    freq
        Days, ISO weeks or months of the start (UTC).

    Returns
    -------
    pandas.DataFrame
        figure ("conversion", and for each required step "step → next step"), period (its first day), n (units) and x
        (those of them who went on). Only periods in which every start's time is over: the latest are left out, for the
        quick ones would speak for all.
    """
    import pandas as pd

    check_frequency("count_figures", freq)
    if funnel.by:
        raise RuleError(f"count_figures: this funnel is split by {', '.join(funnel.by)}; build it without by=")
    if funnel.rules.horizon_s is None:
        raise RuleError(
            'count_figures needs a window, such as FunnelRules(…, within="14D"): without one no start is over'
        )
    units = funnel.units.mutate(_period=funnel.units.time_1.truncate(freq))
    steps = [1, *funnel.rules.required[1:]]
    reached = {f"n_{step}": units.count(where=units[f"time_{step}"].notnull()) for step in steps}
    counted = units.group_by("_period").agg(**reached, _mature=units.count(where=units.is_mature)).execute()
    periods = pd.PeriodIndex(counted["_period"], freq=FREQUENCIES[freq])
    is_over = (counted["_mature"] == counted["n_1"]) & (periods.end_time < pd.Timestamp(funnel.as_of))
    counted = counted[is_over.to_numpy()].assign(_period=periods[is_over.to_numpy()].start_time)
    pairs = [("conversion", steps[0], steps[-1])]
    if funnel.rules.order != "any":
        pairs += [(f"{funnel.labels[i - 1]} → {funnel.labels[j - 1]}", i, j) for i, j in pairwise(steps)]
    return _stack((name, counted["_period"], counted[f"n_{j}"], counted[f"n_{i}"]) for name, i, j in pairs)


def count_members(members: pd.DataFrame, journeys: ibis.Table, *, freq: Freq = "M") -> pd.DataFrame:
    """Which share of each period's new customers belongs to each persona?

    Parameters
    ----------
    members
        customer_id and persona (any name), one row per customer, such as `Personas.assign` gives.
    journeys
        From `build_journeys`; a customer is new in the period of the first.

    Returns
    -------
    pandas.DataFrame
        As `count_figures`: figure ("persona …"), period, x (new customers of the persona), n (all new customers). The
        last period counts only if it is over.
    """
    import pandas as pd

    check_frequency("count_members", freq)
    first = journeys.group_by("customer_id").agg(start=journeys.start_time.min()).execute()
    last = pd.Timestamp(journeys.end_time.max().execute())
    new = members[["customer_id", "persona"]].merge(first, on="customer_id")
    new["_period"] = new["start"].dt.to_period(FREQUENCIES[freq])
    counts = pd.crosstab(new["_period"], new["persona"])
    periods = pd.PeriodIndex(counts.index)
    counts, starts = counts[periods.end_time <= last], periods[periods.end_time <= last].start_time.to_series()
    return _stack((_("persona {name}", name=name), starts, counts[name], counts.sum(axis=1)) for name in counts)


def _stack(parts: Iterable[tuple[str, pd.Series, pd.Series, pd.Series]]) -> pd.DataFrame:
    import pandas as pd

    tables = [
        pd.DataFrame({"figure": name, "period": period.to_numpy(), "x": x.to_numpy(), "n": n.to_numpy()})
        for name, period, x, n in parts
    ]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=_COUNT_COLUMNS)
    return table[table["n"] > 0].sort_values(["figure", "period"], kind="stable", ignore_index=True)


def find_changes(counts: pd.DataFrame, *, level: float = 0.05, seed: int = 0) -> Changes:
    """Which of these figures changed on the way, when, and by how much?

    Parameters
    ----------
    counts
        figure, period, x and n, such as `count_figures` and `count_members` give; several of them may be concatenated.
        Periods that a figure does not have are no matter.
    level
        The chance of any false alarm at all, over all figures together.
    seed
        Of the drawn series that show what chance does.

    Returns
    -------
    Changes
        See there.

    Notes
    -----
    One change of level per figure: of all ways to cut the series in two, the one with the largest difference of shares,
    in units of what neighbours differ by (von Neumann 1941). So weeks that vary more than the counts explain raise no
    alarm, and the change does not hide behind the unrest that it makes. p comes from series without a change, drawn
    with the same sizes. A slow drift is found too, as a change near its middle; it takes a second year to tell a season
    from a change. At least six periods are needed; single odd periods are not looked for.
    """
    import pandas as pd

    missing = [name for name in _COUNT_COLUMNS if name not in counts.columns]
    if missing:
        raise RuleError(
            f"find_changes: counts need the columns {', '.join(_COUNT_COLUMNS)}; missing: {', '.join(missing)}"
        )
    wrong = int(((counts["x"] < 0) | (counts["x"] > counts["n"])).sum())
    if wrong:
        raise RuleError(f"find_changes: in {wrong} of {len(counts)} rows x is not between 0 and n")
    if counts.duplicated(["figure", "period"]).any():
        raise RuleError("find_changes: a figure has a period twice; sum its counts first")
    rows, series = [], []
    for number, (figure, part) in enumerate(counts[counts["n"] > 0].groupby("figure", sort=False)):
        part = part.sort_values("period", kind="stable", ignore_index=True)
        found = _find_change(part, [seed, number])
        rows.append({"figure": figure, "n_periods": len(part), **found})
        series.append(part)
    names = ["figure", "n_periods", "changed_at", "n_before", "n_after", "share_before", "share_after"]
    figures = pd.DataFrame(rows, columns=[*names, "difference", "low", "high", "p"])
    figures["p_adjusted"] = adjust_holm(figures["p"])
    figures["is_change"] = figures["p_adjusted"] < level
    figures = figures.sort_values(["p", "figure"], kind="stable", ignore_index=True)
    drawn = pd.concat(series, ignore_index=True) if series else counts[list(_COUNT_COLUMNS)].head(0)
    return Changes(figures, _describe(drawn, figures))


def _find_change(part: pd.DataFrame, seed: list[int]) -> dict[str, object]:
    import numpy as np
    from statsmodels.stats.proportion import confint_proportions_2indep

    x, n = part["x"].to_numpy(float), part["n"].to_numpy(float)
    share = x.sum() / n.sum()
    if len(part) < LEAST_PERIODS or share in (0.0, 1.0):
        return {}
    size, place = _scan(x[None, :], n)
    drawn = np.random.default_rng(seed).binomial(n.astype(int), share, size=(_N_DRAWS, len(n)))
    by_chance, _place = _scan(drawn.astype(float), n)
    cut = int(place[0]) + 1
    (x0, x1), (n0, n1) = ((int(each[:cut].sum()), int(each[cut:].sum())) for each in (x, n))
    low, high = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb")
    return {
        "changed_at": part["period"].iloc[cut],
        "n_before": n0,
        "n_after": n1,
        "share_before": x0 / n0,
        "share_after": x1 / n1,
        "difference": x1 / n1 - x0 / n0,
        "low": low,
        "high": high,
        # As large by chance, the series itself among them: never 0.
        "p": (1 + int((by_chance >= size[0]).sum())) / (1 + _N_DRAWS),
    }


def _scan(x: NDArray[np.float64], n: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The largest difference of each series (a row) over all cuts, and behind which period that cut is."""
    import numpy as np

    share = x / n
    unrest = np.mean(np.diff(share, axis=1) ** 2 / (1 / n[1:] + 1 / n[:-1]), axis=1)
    before_x, before_n = x.cumsum(axis=1)[:, :-1], n.cumsum()[:-1]
    after_x, after_n = x.sum(axis=1, keepdims=True) - before_x, n.sum() - before_n
    difference = np.abs(after_x / after_n - before_x / before_n) / np.sqrt(1 / before_n + 1 / after_n)
    place = difference.argmax(axis=1)
    largest = np.take_along_axis(difference, place[:, None], axis=1)[:, 0]
    return np.where(largest > 0, largest / np.sqrt(np.maximum(unrest, 1e-300)), 0.0), place


def _describe(series: pd.DataFrame, figures: pd.DataFrame) -> pd.DataFrame:
    """Add to each period its share with its interval, and the level it belongs to."""
    share, low, high = bound_shares(series["x"], series["n"])
    series = series.assign(share=share, low=low, high=high)
    totals = series.groupby("figure")[["x", "n"]].transform("sum")
    series["level"] = totals["x"] / totals["n"]
    for row in figures[figures["is_change"]].to_dict("records"):
        is_figure, is_after = series["figure"] == row["figure"], series["period"] >= row["changed_at"]
        series.loc[is_figure & is_after, "level"] = row["share_after"]
        series.loc[is_figure & ~is_after, "level"] = row["share_before"]
    return series[["figure", "period", "x", "n", "share", "low", "high", "level"]]
