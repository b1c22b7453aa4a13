"""Personas over time: a line for the share of each, with marks where behaviour changed or a new one shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from journeylab.figures import drawing_style, new_axes, picture_of
from journeylab.formats import format_share
from journeylab.language import gettext as _
from journeylab.picture import NEUTRAL, Picture, colour_of, shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from journeylab.personas.tracking import Tracking

_LONGEST_NAME = 32
# What a number at the end of a line needs, as a share of the height of the axes.
_LINE = 0.055


def plot_tracking(tracking: Tracking, *, ax: Axes | None = None) -> Axes:
    """Which personas grow and which shrink, which behave differently, and is there a new one?

    Draws the shares of `track_personas`' result with their 95 % intervals, each persona in its fixed colour and with
    its number at the end of its line. A hollow diamond marks a persona that behaves differently than in the fit; a star
    is a new one, at its share in a fit of the period alone.
    """
    shares, place = tracking.shares, {period: number for number, period in enumerate(tracking.periods["period"])}
    drifted = tracking.drift[tracking.drift["has_drifted"]]
    new = tracking.emerging[tracking.emerging["is_new"]]
    top = 1.08 * max([shares["high"].max(), *new["share"]])
    with drawing_style():
        ax = ax or new_axes(5.6, 3.6)
        for persona, rows in shares.groupby("persona"):
            colour, x, y = colour_of(int(str(persona))), rows["period"].map(place), rows["share"]
            error = [(y - rows["low"]).clip(lower=0), (rows["high"] - y).clip(lower=0)]
            label = f"{persona} {shorten(rows['name'].iloc[-1], _LONGEST_NAME)}, {_say_shares(rows)}"
            ax.errorbar(x, y, error, color=colour, label=label, marker="o", markersize=5, capsize=3, linewidth=1.6)
            is_marked = rows["period"].isin(drifted.loc[drifted["persona"] == persona, "period"])
            ax.plot(x[is_marked], y[is_marked], "D", markersize=12, markerfacecolor="none", markeredgecolor=colour)
        if len(drifted):
            ax.plot([], [], "D", markerfacecolor="none", color=NEUTRAL, label=_("behaves differently than in the fit"))
        for name, rows in new.groupby("name"):
            label = _("new: {name}, {shares}", name=shorten(name, _LONGEST_NAME), shares=_say_shares(rows))
            ax.plot(rows["period"].map(place), rows["share"], "*", markersize=14, color=NEUTRAL, label=label)
        _number_lines(ax, shares[shares["period"] == tracking.periods["period"].iloc[-1]], len(place) - 1, top)
        _set_axes(ax, tracking.periods, top)
    return ax


def draw_tracking(tracking: Tracking) -> Picture:
    """Show the personas over time in a report."""
    words = "; ".join(
        f"{shorten(rows['name'].iloc[-1], 60)} {_say_shares(rows)}"
        for _persona, rows in tracking.shares.groupby("persona")
    )
    return picture_of(plot_tracking(tracking), f"{_title()}: {words}. {tracking.headline}")


def _title() -> str:
    return _("Share of each persona in a period's customers")


def _say_shares(rows: pd.DataFrame) -> str:
    first, last = (format_share(rows["share"].iloc[at]) for at in (0, -1))
    return last if len(rows) == 1 else f"{first} → {last}"


def _number_lines(ax: Axes, last: pd.DataFrame, x: int, top: float) -> None:
    """From the lowest up, none on top of another."""
    height = 0.0
    for row in last.sort_values("share").to_dict("records"):
        height = max(row["share"] / top, height + _LINE)
        ax.annotate(str(row["persona"]), (x, row["share"]), (1.01, height), textcoords=ax.transAxes, va="center")


def _set_axes(ax: Axes, periods: pd.DataFrame, top: float) -> None:
    names = [shorten(period, 14) for period in periods["period"]]
    ax.set_xticks(range(len(names)), names)
    if len(names) > 5:
        ax.tick_params(axis="x", rotation=60)
    ax.set_xlim(-0.3, len(names) - 0.7)
    ax.set_ylim(0, top)
    ax.yaxis.set_major_formatter(lambda share, _place: f"{100 * share:.0f} %")
    least, most = int(periods["n"].min()), int(periods["n"].max())
    if least == most:
        sizes = _("{n} customers in a period; with 95 % intervals", n=most)
    else:
        sizes = _("{least} to {most} customers in a period; with 95 % intervals", least=least, most=most)
    ax.set_xlabel(sizes)
    ax.set_title(_title(), loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    below = -0.2 if len(names) <= 5 else -0.34
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.08, below), borderaxespad=0, fontsize=9)
