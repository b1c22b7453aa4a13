"""Did the fix work? Conversion before and after a known date, against what was to be expected without the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import ibis

from journeylab.conversion import check_groups, check_step, list_some
from journeylab.errors import RuleError
from journeylab.formats import format_interval, format_name, format_points, format_share
from journeylab.funnel import Funnel, name_group
from journeylab.journeys import read_instant
from journeylab.language import format_day, format_moment, ngettext, use_language
from journeylab.language import gettext as _
from journeylab.retention import check_choice
from journeylab.shares import bound_shares
from journeylab.time_series import Change, estimate_changes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes

Period = Literal["D", "W"]
_LENGTH = {"D": timedelta(days=1), "W": timedelta(days=7)}
_NAME = {"D": "day", "W": "week"}
# Fewer periods do not tell a trend from chance. Before the change there must be twice as many, to try an earlier date.
_LEAST = {"D": 14, "W": 4}
_SURE = 0.05
_TOUCHED, _UNTOUCHED = "touched", "untouched"
_TABLE_COLUMNS = (
    *("estimate", "n_before", "n_after", "before", "after", "effect", "low", "high", "p"),
    *("n_placebo", "n_placebo_as_clear", "placebo"),
)

_SERIES_COLUMNS = ("side", "start", "is_after", "n", "n_converted", "share", "low", "high", "expected")


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """The answer of `compare_before_after`.

    Attributes
    ----------
    table
        One row per estimate: estimate, n_before and n_after (starts), before, after, effect (after - before) with low
        and high (95 %), p, n_placebo (earlier dates tried), n_placebo_as_clear (of those, with a p as small), placebo
        (the share of them, this date included: how unusual the change is in this log).

        ==========  ==================================================================================================
        estimate    before and after
        ==========  ==================================================================================================
        level       conversion at the change: as the trend before leads to expect, and as the trend after has it
        slope       change of conversion per period: before, and after
        difference  touched minus untouched conversion: mean before, and mean after (difference in differences)
        ==========  ==================================================================================================
    series
        One row per side ("touched", and "untouched" where given) and period: side, start (UTC), is_after, n (starts),
        n_converted, share, low, high (95 %, Wilson), expected (by the side's trend before the change, without it).
    placebos
        One row per estimate and earlier date at which nothing was changed: estimate, changed, effect, low, high, p;
        from the periods before the change alone.
    sentence
        What was found, and what that does not show.
    n_crossing, n_young
        Starts that are left out: so shortly before the change that their time crosses it, and in periods whose time is
        not over for all.
    """

    changed: datetime
    period: Period
    table: pd.DataFrame
    series: pd.DataFrame
    placebos: pd.DataFrame
    sentence: str
    n_crossing: int
    n_young: int

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the series and what was expected on a matplotlib axes."""
        from journeylab.curves import plot_before_after

        return plot_before_after(self, ax=ax)

    def _repr_html_(self) -> str:
        from journeylab.curves import draw_before_after
        from journeylab.tables import show_headline

        return show_headline(self.sentence).html + draw_before_after(self).html


def compare_before_after(
    funnel: Funnel,
    changed: str | date,
    *,
    step: int | None = None,
    period: Period = "W",
    untouched: str | Sequence[str] | None = None,
) -> BeforeAfter:
    """Did conversion change at this date, more than its trend and its ups and downs lead to expect?

    Parameters
    ----------
    funnel
        From `build_funnel`, with `within`: every start is given the same time.
    changed
        When the change came (UTC), a date or a time. It must be known beforehand: a date picked because the curve
        breaks there makes any noise look like an effect.
    step
        Who reaches this step (its number) has converted. Default: the last.
    period
        ``"W"`` 7 days, ``"D"`` 24 hours; the days of the week then have their own levels.
    untouched
        The group (or groups) of the funnel's `by` that the change did not touch; all others are touched. Several `by`
        columns are joined: ``"web · mobile"``.

    Returns
    -------
    BeforeAfter
        Interrupted series: level and slope of the touched. With `untouched`, difference in differences as well. The
        queries have run.

    Raises
    ------
    RuleError
        A funnel without a window; no such group; or too few periods with starts: 8 weeks (28 days) before and 4 (14)
        after are needed.

    Notes
    -----
    Periods are counted from the change, in both directions, so that none holds starts of both sides. Left out are
    starts so shortly before the change that their time reaches across it (the window, in whole days: they began before
    and may have converted after), starts whose time is not over by `as_of`, and what does not fill a period. Counts are
    of `units` with ``is_mature``.

    Both estimates are regressions of the periods' shares, weighted by their binomial variances, with autocorrelated
    errors: see `journeylab.time_series.estimate_changes`. Interrupted series: Bernal, Cummins & Gasparrini (2017),
    "Interrupted time series regression for the evaluation of public health interventions", International Journal of
    Epidemiology 46. Difference in differences is taken of the series of differences, for its errors too resemble
    their neighbours: Bertrand, Duflo & Mullainathan (2004), "How much should we trust differences-in-differences
    estimates?", Quarterly Journal of Economics 119. It takes both sides to have run in parallel; the placebo dates put
    that to the test: each splits the periods before the change at a date at which nothing was changed. Neighbouring
    dates share their data, so that the placebo share is a rough p: without any effect it is 0.1 or less in one log in
    ten for the level, in one in six for slope and difference.

    The trend is a straight line. Seasons, and whatever else changed at the time, are in level and slope; of these the
    difference is free as far as both sides share them. With `entry="first"` the first weeks of a log hold customers who
    in truth began before it. Association in time, not cause.
    """
    import pandas as pd

    step = check_step(funnel, step)
    check_choice("compare_before_after: period", period, Period)
    names = _check_untouched(funnel, untouched)
    span = _lay_out(funnel, read_instant(changed, "changed"), period)
    series, n_crossing, n_young = _count(funnel, step, span, names)
    points = {str(side): _weigh(rows) for side, rows in series.groupby("side", sort=False)}
    for side, known in points.items():
        _refuse_short(known, side if names else "", span, funnel)
    parts = [_estimate(points[_TOUCHED], span, ("level", "slope"))]
    if names:
        both = _subtract(points[_TOUCHED], points[_UNTOUCHED])
        _refuse_short(both, "both sides at once", span, funnel)
        parts.append(_estimate(both, span, ("difference",)))
    table, placebos = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    for known in points.values():
        series.loc[known.index, "expected"] = _regress(known, span, has_trend=True)[1]
    sentence = _describe(table, funnel, step, span, names, n_crossing)
    shown = series[list(_SERIES_COLUMNS)]
    return BeforeAfter(span.changed, period, table, shown, placebos, sentence, n_crossing, n_young)


@dataclass(frozen=True)
class _Span:
    """Which times are looked at: periods up to `gap` before the change, and periods from the change on."""

    changed: datetime
    gap: timedelta
    period: Period
    n_before: int
    n_after: int

    @property
    def length(self) -> timedelta:
        return _LENGTH[self.period]

    @property
    def begin(self) -> datetime:
        return self.changed - self.gap - self.n_before * self.length

    @property
    def end(self) -> datetime:
        return self.changed + self.n_after * self.length

    def start_of(self, number: int) -> datetime:
        return self.begin + number * self.length + (self.gap if number >= self.n_before else timedelta(0))


def _lay_out(funnel: Funnel, changed: datetime, period: Period) -> _Span:
    import pandas as pd

    horizon_s = funnel.rules.horizon_s
    if horizon_s is None:
        raise RuleError(
            'compare_before_after: build the funnel with within=, such as within="14D": without a window later starts '
            "have had less time to convert than earlier ones"
        )
    first = funnel.units.time_1.min().execute()
    first = funnel.as_of if pd.isna(first) else pd.Timestamp(first).to_pydatetime()
    # Whole days, so that every period begins at the same time of the day.
    gap, length = timedelta(days=-(-horizon_s // 86_400)), _LENGTH[period]
    n_before = (changed - gap - first) // length
    n_after = (funnel.as_of - timedelta(seconds=horizon_s) - changed) // length
    return _Span(changed, gap, period, max(n_before, 0), max(n_after, 0))


def _check_untouched(funnel: Funnel, untouched: str | Sequence[str] | None) -> tuple[str, ...]:
    if untouched is None:
        return ()
    names = (untouched,) if isinstance(untouched, str) else tuple(dict.fromkeys(untouched))
    if not funnel.by:
        raise RuleError('compare_before_after: untouched names groups: build the funnel with by=, such as by="channel"')
    known = check_groups("compare_before_after", names, funnel)
    if not names or len(names) == len(known):
        raise RuleError(
            f"compare_before_after: untouched must name some of the groups, not {'all' if names else 'none'}: "
            f"{list_some(known)}"
        )
    return names


def _count(funnel: Funnel, step: int, span: _Span, untouched: tuple[str, ...]) -> tuple[pd.DataFrame, int, int]:
    """Starts and conversions of each side and period, complete; and how many starts cross the change or are young."""
    import pandas as pd

    units, length_us = funnel.units, span.length // timedelta(microseconds=1)
    time, changed = units.time_1, ibis.literal(span.changed)
    is_after, crosses = time >= changed, (time >= ibis.literal(span.changed - span.gap)) & (time < changed)
    # Only times behind the origin are divided: engines differ in how they round below zero.
    number = ibis.ifelse(
        is_after,
        time.delta(changed, unit="microsecond") // length_us + span.n_before,
        time.delta(ibis.literal(span.begin), unit="microsecond") // length_us,
    )
    is_young = is_after & (time >= ibis.literal(span.end))
    left_out = units.agg(crossing=units.count(where=crosses), young=units.count(where=is_young)).execute()
    side = ibis.ifelse(units.group.isin(untouched), _UNTOUCHED, _TOUCHED) if untouched else ibis.literal(_TOUCHED)
    kept = units.mutate(side=side, number=number, has_come=units[f"time_{step}"].notnull())
    kept = kept.filter(kept.is_mature, kept.time_1 >= ibis.literal(span.begin), ~crosses, ~is_young)
    counts = kept.group_by("side", "number").agg(n=kept.count(), n_converted=kept.count(where=kept.has_come)).execute()
    sides = [_TOUCHED, _UNTOUCHED] if untouched else [_TOUCHED]
    whole = pd.MultiIndex.from_product([sides, range(span.n_before + span.n_after)], names=["side", "number"])
    series = counts.set_index(["side", "number"]).reindex(whole, fill_value=0).astype(int).reset_index()
    series.insert(2, "start", pd.to_datetime([span.start_of(i) for i in series["number"]]).as_unit("us"))
    # In periods since the change, at the middle of each.
    series["time"] = (series["start"] - pd.Timestamp(span.changed)) / span.length + 0.5
    series.insert(3, "is_after", series["number"] >= span.n_before)
    series["share"], series["low"], series["high"] = bound_shares(series["n_converted"], series["n"])
    return series, int(left_out["crossing"].iloc[0]), int(left_out["young"].iloc[0])


def _weigh(rows: pd.DataFrame) -> pd.DataFrame:
    """The periods of one side that have starts: time, starts, y, and how much that varies by chance."""
    known = rows[rows["n"] > 0]
    # One more of each kind, lest nobody's converting be certain.
    usual = (known["n_converted"].sum() + 1) / (known["n"].sum() + 2)
    return known[["number", "time", "start", "n"]].assign(y=known["share"], variance=usual * (1 - usual) / known["n"])


def _subtract(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    both = one.merge(other[["number", "n", "y", "variance"]], on="number", suffixes=("", "_other"))
    return both.assign(
        n=both["n"] + both["n_other"],
        y=both["y"] - both["y_other"],
        variance=both["variance"] + both["variance_other"],
    )


def _refuse_short(points: pd.DataFrame, side: str, span: _Span, funnel: Funnel) -> None:
    name, least = f"{_NAME[span.period]}s", _LEAST[span.period]
    n_after = int((points["time"] > 0).sum())
    n_before = len(points) - n_after
    if n_before >= 2 * least and n_after >= least:
        return
    with use_language("en"):
        changed, end = _write_date(span.changed), _write_date(funnel.as_of)
    raise RuleError(
        f"compare_before_after: {n_before} whole {name} with starts before {changed} and {n_after} "
        f"after it{f' ({side})' if side else ''}; needs {2 * least} and {least}. Starts less than {span.gap.days} days "
        f"before the change do not count, for their time crosses it, nor do those whose time is not over by "
        f"{end}. Take a longer log or a shorter `within`" + (', or period="D"' if span.period == "W" else "")
    )


def _estimate(points: pd.DataFrame, span: _Span, names: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the table for these estimates, and the same estimates at all earlier dates."""
    import pandas as pd

    has_trend, least = len(names) == 2, _LEAST[span.period]
    before = points[points["time"] < 0].reset_index(drop=True)
    found, _ = _regress(points, span, has_trend)
    tried = {}
    for i in range(least, len(before) - least + 1):
        # As if it had come at the beginning of this period.
        tried[before["start"][i]] = _regress(before, span, has_trend, before["time"][i] - 0.5)[0]
    starts = {"n_before": before["n"].sum(), "n_after": points["n"].sum() - before["n"].sum(), "n_placebo": len(tried)}
    table, placebos = [], []
    for i, (name, change) in enumerate(zip(names, found, strict=True)):
        n_as_clear = sum(changes[i].p <= change.p for changes in tried.values())
        row = {"estimate": name} | starts | change._asdict() | {"n_placebo_as_clear": n_as_clear}
        table.append(row | {"placebo": (n_as_clear + 1) / (len(tried) + 1)})
        for when, changes in tried.items():
            placebos.append({"estimate": name, "changed": when} | changes[i]._asdict())
    columns = ["estimate", "changed", "effect", "low", "high", "p"]
    return pd.DataFrame(table)[list(_TABLE_COLUMNS)], pd.DataFrame(placebos)[columns]


def _regress(
    points: pd.DataFrame, span: _Span, has_trend: bool, cut: float = 0.0
) -> tuple[list[Change], npt.NDArray[np.float64]]:
    """The changes at this time, and what was expected without them."""
    y, variance, time = (points[name].to_numpy(dtype=float) for name in ("y", "variance", "time"))
    extra = _mark_weekdays(points["start"]) if span.period == "D" else None
    return estimate_changes(y, variance, time - cut, has_trend=has_trend, extra=extra)


def _mark_weekdays(start: pd.Series) -> npt.NDArray[np.float64]:
    """How each day of the week differs from the mean of all that occur; a shop may be closed on Sundays."""
    import pandas as pd

    marks = pd.get_dummies(start.dt.day_of_week, dtype=float).to_numpy()
    apart: npt.NDArray[np.float64] = marks[:, :-1] - marks[:, -1:]
    return apart


def _describe(
    table: pd.DataFrame, funnel: Funnel, step: int, span: _Span, untouched: tuple[str, ...], n_crossing: int
) -> str:
    rows: dict[str, Any] = {row["estimate"]: row for row in table.to_dict("records")}
    lead, sentences = rows["level"], [_describe_level(rows, funnel, step, span)]
    others = _(" and ").join(map(name_group, untouched))
    if untouched:
        lead = rows["difference"]
        moved = {"others": others, "effect": _write(lead)}
        sentences[0] += "; " + (
            _("compared with {others}, which was not touched, it moved by {effect}", **moved)
            if lead["p"] < _SURE
            else _(
                "compared with {others}, which was not touched, it moved by {effect}, no more than chance may bring",
                **moved,
            )
        )
    dates = {"n": lead["n_placebo_as_clear"], "tried": lead["n_placebo"]}
    sentences.append(
        _(
            "At {n} of {tried} earlier dates, when nothing was changed, the same sum is as clear; {crossing} starts "
            "whose time crosses the change are left out",
            crossing=n_crossing,
            **dates,
        )
        if n_crossing
        else _("At {n} of {tried} earlier dates, when nothing was changed, the same sum is as clear", **dates)
    )
    sentences.append(
        _(
            "This says when, not why: whatever else changed then is part of it, unless it moved {others} alike.",
            others=others,
        )
        if untouched
        else _("This says when, not why: whatever else changed then is part of it.")
    )
    return ". ".join(sentences)


def _describe_level(rows: dict[str, Any], funnel: Funnel, step: int, span: _Span) -> str:
    level, slope = rows["level"], rows["slope"]
    found = {
        "start": format_name(funnel.labels[0]),
        "goal": format_name(funnel.labels[step - 1]),
        "within": funnel.rules.within,
        "when": _write_date(span.changed),
        "before": format_share(level["before"]),
        "after": format_share(level["after"]),
        "n": span.n_before,
        "periods": _count_periods(span.period, span.n_before),
        "effect": _write(level),
    }
    if level["p"] >= _SURE:
        text = _(
            "No jump beyond chance: on {when} conversion from {start} to {goal} within {within} was {after}, where the "
            "{n} {periods} before led to expect {before}: {effect}",
            **found,
        )
    elif level["effect"] > 0:
        text = _(
            "Conversion from {start} to {goal} within {within} rose on {when} from {before}, which the {n} {periods} "
            "before led to expect, to {after}: {effect}",
            **found,
        )
    else:
        text = _(
            "Conversion from {start} to {goal} within {within} fell on {when} from {before}, which the {n} {periods} "
            "before led to expect, to {after}: {effect}",
            **found,
        )
    if slope["p"] >= _SURE:
        return text
    effect = _write(slope)
    if span.period == "D":
        return text + "; " + _("the trend changed by {effect} per day", effect=effect)
    return text + "; " + _("the trend changed by {effect} per week", effect=effect)


def _count_periods(period: Period, n: int) -> str:
    return ngettext("day", "days", n) if period == "D" else ngettext("week", "weeks", n)


def _write(row: dict[str, Any]) -> str:
    return _(
        "{value} (95 % interval {interval})",
        value=format_points(row["effect"]),
        interval=format_interval(row["low"], row["high"], format_points),
    )


def _write_date(time: datetime) -> str:
    return format_day(time) if time == datetime(time.year, time.month, time.day) else format_moment(time)
