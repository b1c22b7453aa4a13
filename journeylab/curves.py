"""Answers that unfold over time: time to convert, cohorts, retention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.figures import MUTE, drawing_style, new_axes, picture_of
from journeylab.formats import NOTHING, format_count, format_duration, format_name, format_share
from journeylab.language import current_language, format_day, ngettext
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.picture import PALETTE, Picture, as_nothing, colours_of, name_group, shorten
from journeylab.tables import draw_heat_table
from journeylab.words import word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from journeylab.before_after import BeforeAfter
    from journeylab.monitor import Changes
    from journeylab.retention import Retention

_CURVE = ("time_s", "share", "low", "high", "band_low", "band_high", "n_at_risk")
_TICKS_S = (1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)
# Where the slow half takes this many times as long as the fast quarter, a linear axis shows a wall and a plain.
_SPREAD = 20
_MOST_GROUPS = 6
_MOST_BANDS = 3  # more lie on top of each other
_MOST_BARS = 60  # more hide the points
_SIDES = {"touched": N_("touched"), "untouched": N_("untouched")}
_PERIODS = {
    "D": (
        N_("Conversion by day: {n_before} starts before the change, {n_after} after it"),
        N_("day of the start, by its first day"),
        N_("day of the start, by its first day; shares with 95 % interval"),
    ),
    "W": (
        N_("Conversion by week: {n_before} starts before the change, {n_after} after it"),
        N_("week of the start, by its first day"),
        N_("week of the start, by its first day; shares with 95 % interval"),
    ),
}
_RETENTION = {
    "D": (N_("Retention by day after the start"), N_("day {period} {share}")),
    "W": (N_("Retention by week after the start"), N_("week {period} {share}")),
    "M": (N_("Retention by month after the start"), N_("month {period} {share}")),
}


def plot_time_to_convert(curve: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Which share has converted by each time after the start?

    Draws `estimate_time_to_convert`'s frame: a step curve per group with its band (for the whole curve where it is
    known, else point by point). Of more than six groups those with the most starts. The time axis is logarithmic where
    conversions spread over several orders of magnitude.
    """
    groups = _split(curve, _CURVE)
    if not groups:
        raise RuleError("Nothing to draw: nobody started.")
    colours = colours_of(groups) if "" not in groups else {"": PALETTE[0]}
    is_log = _is_spread(curve)
    with drawing_style():
        ax = ax or new_axes(7.4, 3.6)
        for name, rows in groups.items():
            start = rows["time_s"].clip(lower=1) if is_log else rows["time_s"]
            label = _("{group}, n = {n}", group=shorten(name, 30), n=int(rows["n_at_risk"].iloc[0])) if name else None
            ax.step(start, rows["share"], where="post", color=colours[name], label=label)
            low, high = rows["band_low"].fillna(rows["low"]), rows["band_high"].fillna(rows["high"])
            if len(groups) > _MOST_BANDS:
                continue
            # Before the first conversion the band is wide and says nothing.
            has_begun = rows["share"] > 0
            ax.fill_between(*(start, low, high), has_begun, step="post", color=colours[name], alpha=0.15, linewidth=0)
        begins = float(curve.loc[(curve["share"] > 0) & (curve["time_s"] > 0), "time_s"].min()) / 2 if is_log else 0.0
        _write_times(ax, begins, float(curve["time_s"].max()), is_log)
        _write_shares(ax)
        n = sum(int(rows["n_at_risk"].iloc[0]) for rows in groups.values())
        if len(groups) <= _MOST_BANDS:
            title = _("Converted by then: share of {n} starts, with 95 % band", n=n)
        else:
            title = _("Converted by then: share of {n} starts", n=n)
        ax.set_title(title, loc="left")
        ax.set_xlabel(_("time since the start (logarithmic)") if is_log else _("time since the start"))
        if len(groups) > 1:
            ax.legend(frameon=False, loc="best", fontsize=8.5)
    return ax


def plot_cohorts(cohorts: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How does conversion change from cohort to cohort, and which cohorts are not over yet?

    Draws `count_cohorts`' frame without groups: the censored conversion with its interval; a cohort that is not over
    yet is hollow (or missing where nothing can be said), and a dashed line shows what counting it as lost would say.
    """
    rows = cohorts[cohorts["n"] > 0]
    if rows.empty:
        raise RuleError("Nothing to draw: nobody started.")
    with drawing_style():
        ax = ax or new_axes(7.4, 3.4)
        days = pd.to_datetime(rows["cohort"])
        naive = _("naive: open counted as lost")
        ax.plot(days, rows["conversion"], color=MUTE, linestyle="--", linewidth=1, label=naive)
        known = rows["conversion_censored"].notna()
        share = rows["conversion_censored"]
        error = [(share - rows["censored_low"]).clip(lower=0), (rows["censored_high"] - share).clip(lower=0)]
        labels = _("censored, all over"), _("censored, not over")
        for is_open, face, label in zip((False, True), (PALETTE[0], "none"), labels, strict=True):
            part = known & (rows["is_immature"].astype(bool) == is_open)
            if part.any():
                bars = [side[part] for side in error]
                ax.errorbar(days[part], share[part], bars, fmt="none", ecolor=PALETTE[0], capsize=3)
                ax.plot(days[part], share[part], "o", color=PALETTE[0], markerfacecolor=face, label=label)
        _write_shares(ax, top=rows["censored_high"].fillna(rows["conversion"]).max())
        n, n_open = int(rows["n"].sum()), int(rows["is_immature"].sum())
        title = ngettext(
            "Conversion by cohort: {n} starts, {n_open} cohort not over",
            "Conversion by cohort: {n} starts, {n_open} cohorts not over",
            n_open,
            n=n,
            n_open=n_open,
        )
        ax.set_title(title, loc="left")
        ax.set_xlabel(_("cohort, by its first day"))
        _write_days(ax)
        ax.legend(frameon=False, loc="best", fontsize=8.5)
    return ax


def plot_before_after(answer: BeforeAfter, *, ax: Axes | None = None) -> Axes:
    """What was conversion before and after the change, and what was to be expected without it?

    Draws `compare_before_after`'s series: shares with their intervals, the trend before and (dashed) its continuation.
    Where the line breaks, starts are left out whose time crosses the change.
    """
    from matplotlib import dates as mdates

    series, words = answer.series, _PERIODS[answer.period]
    sides = {str(side): rows for side, rows in series.groupby("side")}
    changed = mdates.date2num(answer.changed)  # type: ignore[no-untyped-call]
    with drawing_style():
        ax = ax or new_axes(7.4, 3.6)
        for side, rows in sides.items():
            colour, mark = (PALETTE[0], "o") if side == "touched" else (MUTE, "s")
            n = int(rows["n"].sum())
            label = _("{group}, n = {n}", group=_(_SIDES[side]), n=n) if len(sides) > 1 else _("seen")
            ax.plot(rows["start"], rows["share"], mark, markersize=4, color=colour, label=label)
            if len(rows) <= _MOST_BARS:
                ax.vlines(rows["start"], rows["low"], rows["high"], color=colour, linewidth=1)
        touched = sides["touched"]
        labels = _("trend before"), _("expected without the change")
        for is_after, style, label in zip((False, True), ("-", "--"), labels, strict=True):
            part = touched[touched["is_after"] == is_after]
            ax.plot(part["start"], part["expected"], linestyle=style, color=PALETTE[1], linewidth=1.5, label=label)
        ax.axvline(changed, color="black", linewidth=1)
        ax.annotate(_("change"), (changed, 1), (3, -10), xycoords=("data", "axes fraction"), textcoords="offset points")
        shown = ["share", "expected", *(["high"] if len(touched) <= _MOST_BARS else [])]
        _write_shares(ax, top=series[shown].max().max())
        n_before, n_after = (int(series.loc[series["is_after"] == late, "n"].sum()) for late in (False, True))
        ax.set_title(_(words[0], n_before=n_before, n_after=n_after), loc="left")
        ax.set_xlabel(_(words[1 if len(touched) > _MOST_BARS else 2]))
        _write_days(ax)
        # Beside the picture: inside it there is always something.
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    return ax


def plot_changes(changes: Changes, figure: str, *, ax: Axes | None = None) -> Axes:
    """How did one figure of `find_changes` go from period to period, and where did its level change?"""
    rows = changes.series[changes.series["figure"] == figure]
    if rows.empty:
        known = ", ".join(changes.figures["figure"])
        raise RuleError(
            f'plot_changes: no figure "{figure}".{nearest(figure, changes.figures["figure"])} Known: {known}'
        )
    with drawing_style():
        ax = ax or new_axes(7.4, 2.8)
        days = pd.to_datetime(rows["period"])
        error = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
        ax.errorbar(days, rows["share"], error, fmt="o", color=PALETTE[0], ecolor=PALETTE[0], markersize=4, capsize=2)
        ax.step(days, rows["level"], where="mid", color=PALETTE[1], linewidth=1.5)
        _write_shares(ax, top=rows["high"].max())
        ax.set_title(_change_title(figure, rows), loc="left")
        ax.set_xlabel(_("period, by its first day; shares with 95 % interval, and their level"))
        _write_days(ax)
    return ax


def _change_title(figure: str, rows: pd.DataFrame) -> str:
    name = shorten(_name_figure(figure))
    if rows["level"].nunique() > 1:
        return ngettext(
            "{figure}: {n} period, level changed", "{figure}: {n} periods, level changed", len(rows), figure=name
        )
    return ngettext(
        "{figure}: {n} period, no change beyond chance",
        "{figure}: {n} periods, no change beyond chance",
        len(rows),
        figure=name,
    )


def _name_figure(figure: str) -> str:
    return word_of(figure, "measure")


def draw_changes(changes: Changes, figure: str) -> Picture:
    """Show one figure of `find_changes` in a report."""
    ax = plot_changes(changes, figure)
    rows = changes.series[changes.series["figure"] == figure]
    words = (
        f"{format_day(day)} {format_share(share)}" for day, share in zip(rows["period"], rows["share"], strict=True)
    )
    return picture_of(ax, _("{figure} by period: {shares}.", figure=_name_figure(figure), shares=", ".join(words)))


def draw_time_to_convert(curve: pd.DataFrame) -> Picture:
    """Show the time to convert in a report."""
    groups = _split(curve, _CURVE)
    if not groups:
        return as_nothing(_("No curve to draw: nobody started."))
    everyone = _("All")
    ends = (
        f"{format_name(name) if name else everyone}: {format_share(rows['share'].dropna().iloc[-1])}"
        for name, rows in groups.items()
    )
    alt = _("Share converted by time since the start, with 95 % band. At the end: {shares}.", shares="; ".join(ends))
    return picture_of(plot_time_to_convert(curve), alt)


def draw_cohorts(cohorts: pd.DataFrame) -> Picture:
    """Show conversion by cohort in a report."""
    rows = cohorts[cohorts["n"] > 0]
    if rows.empty:
        return as_nothing(_("No trend to draw: nobody started."))
    words = (
        _say_cohort(format_day(cohort), NOTHING if math.isnan(share) else format_share(share), bool(is_open))
        for cohort, share, is_open in zip(rows["cohort"], rows["conversion_censored"], rows["is_immature"], strict=True)
    )
    return picture_of(plot_cohorts(cohorts), _("Censored conversion by cohort: {shares}.", shares=", ".join(words)))


def _say_cohort(cohort: str, share: str, is_open: bool) -> str:
    return _("{cohort} {share} (not over)", cohort=cohort, share=share) if is_open else f"{cohort} {share}"


def draw_before_after(answer: BeforeAfter) -> Picture:
    """Show conversion before and after a change in a report."""
    return picture_of(plot_before_after(answer), answer.sentence)


def draw_retention(retention: Retention) -> Picture:
    """Show the share of each cohort that came back in each period; cells that are not over yet stay empty.

    The last row pools the cohorts. With groups only that row is drawn, one per group.
    """
    if retention.table.empty:
        return as_nothing(_("No retention to show: no customer started."))
    by = list(retention.by)
    joined = " · ".join(by)
    groups = retention.overall[by].agg(" · ".join, axis=1).map(lambda group: name_group(group, joined)) if by else None
    pooled = retention.overall.assign(_row=_("all, pooled") if groups is None else groups)
    rows = [pooled]
    if not by:
        over = retention.table[~retention.table["is_immature"].astype(bool)]
        dates = pd.to_datetime(over["cohort"]).map(format_day)
        rows.insert(0, over.assign(_row=dates + " (n = " + over["n_cohort"].map(format_count) + ")"))
    cells = pd.concat(rows)
    grid = cells.pivot(index="_row", columns="period", values="share")
    grid = grid.loc[list(dict.fromkeys(cells["_row"]))]
    title, word = _(_RETENTION[retention.period][0]), _RETENTION[retention.period][1]
    last = retention.overall.groupby("period")[["n_back", "n"]].sum()
    spoken = (
        _(word, period=period, share=format_share(row.n_back / row.n)) for period, row in last.iterrows() if row.n
    )
    note = _(
        "Where a row breaks off, its next period is not over for all of the cohort. The pooled row sums customers."
    )
    alt = _("{title}. Pooled: {shares}.", title=title, shares=", ".join(spoken))
    return draw_heat_table(grid, title=title, corner=_("started"), alt=alt, note=note)


def _split(curve: pd.DataFrame, own: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Rows by group, the largest first; one group named "" where nothing is split."""
    by = [name for name in curve.columns if name not in own]
    if curve.empty:
        return {}
    if not by:
        return {"": curve}
    names = " · ".join(by)
    groups = curve.groupby(by, sort=False)
    parts = {name_group(" · ".join(map(str, key)), names): rows for key, rows in groups}
    order = sorted(parts, key=lambda name: (-parts[name]["n_at_risk"].iloc[0], name))
    return {name: parts[name] for name in order[:_MOST_GROUPS]}


def _is_spread(curve: pd.DataFrame) -> bool:
    moving = curve.loc[(curve["share"] > 0) & (curve["time_s"] > 0)]
    if moving.empty:
        return False
    end = float(moving["share"].max())
    early, late = (moving.loc[moving["share"] >= part * end, "time_s"].min() for part in (0.25, 1.0))
    return bool(late > _SPREAD * early)


def _write_times(ax: Axes, begins: float, longest: float, is_log: bool) -> None:
    if is_log:
        ax.set_xscale("log")
        ax.set_xlim(left=begins)
        ax.minorticks_off()
        ticks = [tick for tick in _TICKS_S if begins <= tick <= longest]
    else:
        unit = next((size for size in (86400, 3600, 60) if longest >= 2 * size), 1)
        pace = unit * max(1, round(longest / unit / 7))
        ticks = [i * pace for i in range(int(longest // pace) + 1)]
    ax.set_xticks(ticks, [format_duration(tick) for tick in ticks])


def _write_days(ax: Axes) -> None:
    """Write dates as the language does, and no hours between two days."""
    from matplotlib import dates as mdates

    def write(number: float, _place: float) -> str:
        moment = mdates.num2date(number)  # type: ignore[no-untyped-call]
        return format_day(moment) if moment.hour == moment.minute == 0 else ""

    if current_language() != "en":
        ax.xaxis.set_major_formatter(write)
    ax.figure.autofmt_xdate(rotation=40)


def _write_shares(ax: Axes, top: float | None = None) -> None:
    ax.yaxis.set_major_formatter(lambda share, _place: f"{100 * share:.0f} %")
    ax.set_ylim(0, None if top is None else min(1.0, 1.15 * top))
    ax.spines[["top", "right"]].set_visible(False)
