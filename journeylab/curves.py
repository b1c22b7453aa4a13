"""Answers that unfold over time: time to convert, cohorts, retention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.figures import MUTE, drawing_style, new_axes, picture_of
from journeylab.formats import NOTHING, format_count, format_duration, format_name, format_share
from journeylab.picture import PALETTE, Picture, as_nothing, colours_of, shorten
from journeylab.tables import draw_heat_table

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
            label = f"{shorten(name, 30)}, n = {format_count(rows['n_at_risk'].iloc[0])}" if name else None
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
        band = ", with 95 % band" if len(groups) <= _MOST_BANDS else ""
        ax.set_title(f"Converted by then: share of {format_count(n)} starts{band}", loc="left")
        ax.set_xlabel("time since the start" + (" (logarithmic)" if is_log else ""))
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
        ax.plot(days, rows["conversion"], color=MUTE, linestyle="--", linewidth=1, label="naive: open counted as lost")
        known = rows["conversion_censored"].notna()
        share = rows["conversion_censored"]
        error = [(share - rows["censored_low"]).clip(lower=0), (rows["censored_high"] - share).clip(lower=0)]
        for is_open, face, label in ((False, PALETTE[0], "censored, all over"), (True, "none", "censored, not over")):
            part = known & (rows["is_immature"].astype(bool) == is_open)
            if part.any():
                bars = [side[part] for side in error]
                ax.errorbar(days[part], share[part], bars, fmt="none", ecolor=PALETTE[0], capsize=3)
                ax.plot(days[part], share[part], "o", color=PALETTE[0], markerfacecolor=face, label=label)
        _write_shares(ax, top=rows["censored_high"].fillna(rows["conversion"]).max())
        n_open = int(rows["is_immature"].sum())
        ax.set_title(
            f"Conversion by cohort: {format_count(rows['n'].sum())} starts, {n_open} cohorts not over", loc="left"
        )
        ax.set_xlabel("cohort, by its first day")
        ax.figure.autofmt_xdate(rotation=40)
        ax.legend(frameon=False, loc="best", fontsize=8.5)
    return ax


def plot_before_after(answer: BeforeAfter, *, ax: Axes | None = None) -> Axes:
    """What was conversion before and after the change, and what was to be expected without it?

    Draws `compare_before_after`'s series: shares with their intervals, the trend before and (dashed) its continuation.
    Where the line breaks, starts are left out whose time crosses the change.
    """
    from matplotlib import dates as mdates

    series, unit = answer.series, {"D": "day", "W": "week"}[answer.period]
    sides = {str(side): rows for side, rows in series.groupby("side")}
    changed = mdates.date2num(answer.changed)  # type: ignore[no-untyped-call]
    with drawing_style():
        ax = ax or new_axes(7.4, 3.6)
        for side, rows in sides.items():
            colour, mark = (PALETTE[0], "o") if side == "touched" else (MUTE, "s")
            label = f"{side}, n = {format_count(rows['n'].sum())}" if len(sides) > 1 else "seen"
            ax.plot(rows["start"], rows["share"], mark, markersize=4, color=colour, label=label)
            if len(rows) <= _MOST_BARS:
                ax.vlines(rows["start"], rows["low"], rows["high"], color=colour, linewidth=1)
        touched = sides["touched"]
        for is_after, style, label in ((False, "-", "trend before"), (True, "--", "expected without the change")):
            part = touched[touched["is_after"] == is_after]
            ax.plot(part["start"], part["expected"], linestyle=style, color=PALETTE[1], linewidth=1.5, label=label)
        ax.axvline(changed, color="black", linewidth=1)
        ax.annotate("change", (changed, 1), (3, -10), xycoords=("data", "axes fraction"), textcoords="offset points")
        shown = ["share", "expected", *(["high"] if len(touched) <= _MOST_BARS else [])]
        _write_shares(ax, top=series[shown].max().max())
        n_before, n_after = (format_count(series.loc[series["is_after"] == late, "n"].sum()) for late in (False, True))
        ax.set_title(f"Conversion by {unit}: {n_before} starts before the change, {n_after} after it", loc="left")
        bars = "" if len(touched) > _MOST_BARS else "; shares with 95 % interval"
        ax.set_xlabel(f"{unit} of the start, by its first day{bars}")
        ax.figure.autofmt_xdate(rotation=40)
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
        n_periods, what = len(rows), "level changed" if rows["level"].nunique() > 1 else "no change beyond chance"
        ax.set_title(f"{shorten(figure)}: {n_periods} periods, {what}", loc="left")
        ax.set_xlabel("period, by its first day; shares with 95 % interval, and their level")
        ax.figure.autofmt_xdate(rotation=40)
    return ax


def draw_changes(changes: Changes, figure: str) -> Picture:
    """Show one figure of `find_changes` in a report."""
    ax = plot_changes(changes, figure)
    rows = changes.series[changes.series["figure"] == figure]
    words = (f"{day:%Y-%m-%d} {format_share(share)}" for day, share in zip(rows["period"], rows["share"], strict=True))
    return picture_of(ax, f"{figure} by period: {', '.join(words)}.")


def draw_time_to_convert(curve: pd.DataFrame) -> Picture:
    """Show the time to convert in a report."""
    groups = _split(curve, _CURVE)
    if not groups:
        return as_nothing("No curve to draw: nobody started.")
    ends = (
        f"{format_name(name) if name else 'All'}: {format_share(rows['share'].dropna().iloc[-1])}"
        for name, rows in groups.items()
    )
    alt = f"Share converted by time since the start, with 95 % band. At the end: {'; '.join(ends)}."
    return picture_of(plot_time_to_convert(curve), alt)


def draw_cohorts(cohorts: pd.DataFrame) -> Picture:
    """Show conversion by cohort in a report."""
    rows = cohorts[cohorts["n"] > 0]
    if rows.empty:
        return as_nothing("No trend to draw: nobody started.")
    words = (
        f"{cohort:%Y-%m-%d} {NOTHING if math.isnan(share) else format_share(share)}" + " (not over)" * bool(is_open)
        for cohort, share, is_open in zip(rows["cohort"], rows["conversion_censored"], rows["is_immature"], strict=True)
    )
    return picture_of(plot_cohorts(cohorts), f"Censored conversion by cohort: {', '.join(words)}.")


def draw_before_after(answer: BeforeAfter) -> Picture:
    """Show conversion before and after a change in a report."""
    return picture_of(plot_before_after(answer), answer.sentence)


def draw_retention(retention: Retention) -> Picture:
    """Show the share of each cohort that came back in each period; cells that are not over yet stay empty.

    The last row pools the cohorts. With groups only that row is drawn, one per group.
    """
    if retention.table.empty:
        return as_nothing("No retention to show: no customer started.")
    by = list(retention.by)
    pooled = retention.overall.assign(_row=retention.overall[by].agg(" · ".join, axis=1) if by else "all, pooled")
    rows = [pooled]
    if not by:
        over = retention.table[~retention.table["is_immature"].astype(bool)]
        dates = pd.to_datetime(over["cohort"]).dt.strftime("%Y-%m-%d")
        rows.insert(0, over.assign(_row=dates + " (n = " + over["n_cohort"].map(format_count) + ")"))
    cells = pd.concat(rows)
    grid = cells.pivot(index="_row", columns="period", values="share")
    grid = grid.loc[list(dict.fromkeys(cells["_row"]))]
    unit = {"D": "day", "W": "week", "M": "month"}[retention.period]
    title = f"Retention by {unit} after the start"
    last = retention.overall.groupby("period")[["n_back", "n"]].sum()
    spoken = (f"{unit} {period} {format_share(row.n_back / row.n)}" for period, row in last.iterrows() if row.n)
    note = "Where a row breaks off, its next period is not over for all of the cohort. The pooled row sums customers."
    return draw_heat_table(grid, title=title, corner="started", alt=f"{title}. Pooled: {', '.join(spoken)}.", note=note)


def _split(curve: pd.DataFrame, own: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Rows by group, the largest first; one group named "" where nothing is split."""
    by = [name for name in curve.columns if name not in own]
    if curve.empty:
        return {}
    if not by:
        return {"": curve}
    parts = {" · ".join(map(str, key)): rows for key, rows in curve.groupby(by, sort=False)}
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


def _write_shares(ax: Axes, top: float | None = None) -> None:
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    ax.set_ylim(0, None if top is None else min(1.0, 1.15 * top))
    ax.spines[["top", "right"]].set_visible(False)
