"""Seaborn draws what is statistical: heat maps and curves, as Axes, or as inline SVG for a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from journeylab.errors import RuleError
from journeylab.figures import CELL_INK, MUTE, drawing_style, new_axes, picture_of
from journeylab.formats import format_share
from journeylab.funnel import merge_groups
from journeylab.language import gettext as _
from journeylab.language import localise, ngettext
from journeylab.language import mark as N_
from journeylab.picture import (
    HEAT,
    HEAT_TEXT_TURNS,
    PALETTE,
    Picture,
    as_nothing,
    colours_of,
    name_column,
    name_group,
    name_step,
    shorten,
)
from journeylab.tables import draw_heat_table, heat_tint
from journeylab.words import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from journeylab.funnel import Funnel

# Up to this many rows and columns a figure is smaller than a table of cells, and its numbers are legible.
_FIGURE_HOLDS = 15
# Beyond this a table is not read any more; the rarest events are left out, and the note counts them.
_MOST_EVENTS = 60
_LONGEST_LABEL = 24
# A cell narrower than this, in points, has no room for "100".
_CELL_WITH_TEXT = 20.0
_NOTHING = N_("Nothing to draw: no journey has ended yet, or none was passed.")
_START, _END = N_("(start)"), N_("(ended)")


def plot_funnel(funnel: Funnel, *, ax: Axes | None = None) -> Axes:
    """Which share of all who started reaches each step, in each group?

    Bars are share_of_start with 95 % Wilson intervals. `draw_funnel` shows more: who stopped and who is on the way.
    """
    table, by = merge_groups(funnel)
    groups = {"": table} if by is None else {_label(group, by): rows for group, rows in table.groupby(by, dropna=False)}
    colours = {"": PALETTE[0]} if by is None else colours_of(groups)
    thick = 0.8 / len(groups)
    with drawing_style():
        ax = ax or new_axes(7.0, 1.4 + 0.35 * len(table))
        for place, (group, rows) in enumerate(groups.items()):
            # matplotlib leaves labels with a leading underscore out of the legend.
            mark = "\N{ZERO WIDTH SPACE}" if group.startswith("_") else ""
            y = rows["step"] - 0.4 + thick * (place + 0.5)
            share = rows["share_of_start"]
            ax.barh(y, share, height=0.9 * thick, color=colours[group], label=f"{mark}{_legend(group, rows)}")
            error = [(share - rows["low"]).clip(lower=0), (rows["high"] - share).clip(lower=0)]
            ax.errorbar(share, y, xerr=error, fmt="none", ecolor="black", capsize=3, linewidth=1)
        ax.set_yticks(
            range(1, len(funnel.labels) + 1), [shorten(name_step(label), _LONGEST_LABEL) for label in funnel.labels]
        )
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(lambda share, _place: f"{100 * share:.0f} %")
        ax.set_xlim(0, 1)
        n = _started(table)
        title = _("Share of {n} {units} that reach each step", n=n, units=unit_of(funnel.rules.unit, n))
        ax.set_title(title, loc="left")
        ax.set_xlabel(_("share of all that started, with 95 % interval"))
        ax.spines[["top", "right"]].set_visible(False)
        if by is not None:
            ax.legend(title=shorten(name_column(by), 30), frameon=False, loc="lower right")
    return ax


def _started(table: pd.DataFrame) -> int:
    return int(table.loc[table["step"] == 1, "n"].sum())


def _legend(group: str, rows: pd.DataFrame) -> str:
    return _("{group}, n = {n}", group=group, n=_started(rows))


def plot_step_matrix(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Which share of journeys does which event as its first, second, third … step?

    Draws `step_matrix`'s frame (step, event, n, share; event None: already ended) as a heat map, events in the order in
    which they come in journeys (by volume from 15 on), the ended last. Each column adds up to 100 %.
    """
    return _plot_grid(_step_grid(matrix), _step_title(matrix), (_("step"), ""), ax)


def plot_transitions(transitions: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """What comes next after each event?

    Draws `count_transitions`' frame (event, next_event, n, share; None: start or end) as a heat map, events by volume.
    Each row adds up to 100 % of the departures from its event.
    """
    return _plot_grid(_transition_grid(transitions), _transition_title(transitions), (_("next event"), _("event")), ax)


# How the figure that a method judges by is called, and in a sentence
_JUDGED = {
    "log_likelihood": (
        N_("log-likelihood per customer\n(± one standard error)"),
        N_("Log-likelihood per held-out customer for k from 1 to {most}; chosen: k = {k}."),
    ),
    "silhouette": (
        N_("average silhouette width"),
        N_("Average silhouette width for k from 1 to {most}; chosen: k = {k}."),
    ),
    "bic": (N_("BIC (lower is better)"), N_("BIC for k from 1 to {most}; chosen: k = {k}.")),
}


def plot_k_search(k_search: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """What speaks for each number of personas?

    Draws `Personas.k_search`: k, the figure that the method judges by (log_likelihood per held-out customer, with
    behind_best_se, one standard error of the difference to the best k; silhouette; or bic) and chosen.
    """
    with drawing_style():
        ax = ax or new_axes(6.4, 3.4)
        rows = k_search.sort_values("k")
        judged = _find_judged(rows)
        error = rows.get("behind_best_se")
        ax.errorbar(rows["k"], rows[judged], yerr=error, color=PALETTE[0], marker="o", capsize=3)
        for k, value in rows.loc[rows["chosen"].astype(bool), ["k", judged]].itertuples(index=False):
            ax.plot([k], [value], marker="o", markersize=13, markerfacecolor="none", color=PALETTE[1], linestyle="none")
            ax.annotate(_("chosen: k = {k}", k=k), (k, value), (0, -26), textcoords="offset points", ha="center")
        ax.margins(0.12, 0.3)
        ax.set_xticks(rows["k"].tolist())
        ax.set_title(_("What speaks for each number of personas"), loc="left")
        ax.set_xlabel(_("k, number of personas"))
        ax.set_ylabel(_(_JUDGED[judged][0]))
        _write_numbers(ax)
        ax.spines[["top", "right"]].set_visible(False)
    return ax


def _write_numbers(ax: Axes) -> None:
    from matplotlib.ticker import ScalarFormatter

    class Localised(ScalarFormatter):
        def __call__(self, value: float, place: int | None = None) -> str:
            return localise(super().__call__(value, place))

    ax.yaxis.set_major_formatter(Localised())


def _find_judged(k_search: pd.DataFrame) -> str:
    return next(name for name in _JUDGED if name in k_search)


def draw_k_search(k_search: pd.DataFrame) -> Picture:
    """Show the search for the number of personas in a report."""
    chosen, most = int(k_search.loc[k_search["chosen"].astype(bool), "k"].iloc[0]), int(k_search["k"].max())
    alt = _(_JUDGED[_find_judged(k_search)][1], most=most, k=chosen)
    return picture_of(plot_k_search(k_search), alt)


def draw_step_matrix(matrix: pd.DataFrame) -> Picture:
    """Show the step matrix in a report: a figure up to 15 events, beyond that a table that scrolls."""
    if matrix.empty:
        return as_nothing(_NOTHING)
    shown, note = _most_frequent(matrix)
    title, grid = _step_title(matrix), _step_grid(shown)
    alt = f"{title}: {_largest_cells(grid, _say_step)}."
    if max(grid.shape) > _FIGURE_HOLDS:
        return draw_heat_table(grid, title=title, corner=_("event, by step"), alt=alt, note=note)
    return picture_of(_plot_grid(grid, title, (_("step"), ""), None), alt)


def draw_transitions(transitions: pd.DataFrame) -> Picture:
    """Show the transitions in a report: a figure up to 15 events, beyond that a table that scrolls."""
    if transitions.empty:
        return as_nothing(_NOTHING)
    shown, note = _most_frequent(transitions)
    title, grid = _transition_title(transitions), _transition_grid(shown)
    alt = f"{title}: {_largest_cells(grid, _say_move)}."
    if max(grid.shape) > _FIGURE_HOLDS:
        return draw_heat_table(grid, title=title, corner=_("event, by next event"), alt=alt, note=note)
    return picture_of(_plot_grid(grid, title, (_("next event"), _("event")), None), alt)


def _plot_grid(grid: pd.DataFrame, title: str, axes: tuple[str, str], ax: Axes | None) -> Axes:
    if grid.empty:
        raise RuleError(_NOTHING)
    import seaborn as sns
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    rows, columns = grid.shape
    # From clear to full rather than from white to full: the ground of a dark page shows through.
    tints = LinearSegmentedColormap.from_list("journeylab", [(*to_rgb(HEAT), 0.0), (*to_rgb(HEAT), 1.0)])
    with drawing_style():
        ax = ax or new_axes(1.9 + 0.5 * columns, 1.3 + 0.32 * rows)
        labelled = grid.set_axis([shorten(name, _LONGEST_LABEL) for name in grid.index]).set_axis(
            [shorten(name, _LONGEST_LABEL) for name in grid.columns], axis=1
        )
        top = max(float(grid.to_numpy().max()), 1e-9)
        sns.heatmap(
            labelled.map(heat_tint, top=top),
            ax=ax,
            cmap=tints,
            vmin=0,
            vmax=1,
            cbar=False,
            xticklabels=True,
            yticklabels=True,
        )
        ax.collections[0].set_clip_on(False)
        if _cell_width(ax, columns) >= _CELL_WITH_TEXT:
            _annotate(ax, grid, top)
        ax.set_title(title, loc="left", pad=26)
        ax.annotate(_("in percent"), (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=MUTE)
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        ax.tick_params(length=0)
        slanted = any(len(str(name)) > 3 for name in labelled.columns)
        for label in ax.get_xticklabels():
            label.set(rotation=40 if slanted else 0, ha="right" if slanted else "center", rotation_mode="anchor")
        for label in ax.get_yticklabels():
            label.set(rotation=0)
    return ax


def _cell_width(ax: Axes, columns: int) -> float:
    box = ax.get_window_extent()
    return float(box.width * 72 / ax.get_figure(root=True).dpi / max(columns, 1))  # type: ignore[union-attr]


def _annotate(ax: Axes, grid: pd.DataFrame, top: float) -> None:
    for row, values in enumerate(grid.to_numpy()):
        for column, value in enumerate(values):
            if round(100 * value) > 0:
                colour = "white" if heat_tint(value, top) > HEAT_TEXT_TURNS else CELL_INK
                words = f"{100 * value:.0f}"
                ax.text(column + 0.5, row + 0.5, words, ha="center", va="center", color=colour, fontsize=8.5)


def _step_title(matrix: pd.DataFrame) -> str:
    n = int(matrix.loc[matrix["step"] == matrix["step"].min(), "n"].sum())
    return ngettext("Events by step: share of {n} journey", "Events by step: share of {n} journeys", n)


def _transition_title(transitions: pd.DataFrame) -> str:
    n = int(transitions["n"].sum())
    return ngettext(
        "What comes next: share of departures, {n} move", "What comes next: share of departures, {n} moves", n
    )


def _step_grid(matrix: pd.DataFrame) -> pd.DataFrame:
    """Steps across; events down in the order in which they come, or by volume where there are too many to see that."""
    volume = matrix.groupby("event")["n"].sum()
    place = (matrix["step"] * matrix["n"]).groupby(matrix["event"]).sum() / volume
    rank = place if len(volume) < _FIGURE_HOLDS else -volume
    order = [*sorted(volume.index, key=lambda name: (rank[name], name)), None]
    return _grid(matrix, "event", "step", order, sorted(matrix["step"].unique()), (_(_END), ""))


def _transition_grid(transitions: pd.DataFrame) -> pd.DataFrame:
    """Events down, next events across, both by volume; the start comes first and the end last."""
    volume = transitions.groupby("event")["n"].sum().add(transitions.groupby("next_event")["n"].sum(), fill_value=0)
    order = sorted(volume.index, key=lambda name: (-volume[name], name))
    return _grid(transitions, "event", "next_event", [None, *order], [*order, None], (_(_START), _(_END)))


def _label(group: object, by: str) -> str:
    return shorten(name_group("(none)" if pd.isna(group) else str(group), by), 30)  # type: ignore[call-overload]


def _grid(
    frame: pd.DataFrame,
    down: str,
    across: str,
    rows: list[str | None],
    columns: list[str | None],
    ends: tuple[str, str],
) -> pd.DataFrame:
    """Spread a tidy frame over a grid of shares; None has its own row or column where it occurs."""
    keys = list(zip(frame[down].astype(object), frame[across].astype(object), strict=True))
    cells = {
        tuple(None if pd.isna(end) else end for end in key): share
        for key, share in zip(keys, frame["share"], strict=True)
    }
    if len(cells) < len(frame):
        raise RuleError(f"{len(frame)} rows hold only {len(cells)} cells: choose one group, or count without `by`.")
    rows, columns = (
        [name for name in names if name in {key[i] for key in cells}] for i, names in ((0, rows), (1, columns))
    )
    values = [[cells.get((row, column), 0.0) for column in columns] for row in rows]
    labels = [
        [end if name is None else name for name in names] for names, end in zip((rows, columns), ends, strict=True)
    ]
    return pd.DataFrame(values, index=labels[0], columns=labels[1])


def _most_frequent(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Leave the rarest events out of a grid too large to read; the second value says how many."""
    ends = [name for name in ("event", "next_event") if name in frame]
    volume = pd.concat([frame.groupby(end)["n"].sum() for end in ends]).groupby(level=0).sum()
    if len(volume) <= _MOST_EVENTS:
        return frame, ""
    kept = set(sorted(volume.index, key=lambda name: (-volume[name], name))[:_MOST_EVENTS])
    shown = frame[frame[ends].apply(lambda column: column.isna() | column.isin(kept)).all(axis=1)]
    missing = format_share(1 - shown["n"].sum() / frame["n"].sum())
    note = _(
        "The {shown} most frequent of {n} events; {missing} are left out here.",
        shown=_MOST_EVENTS,
        n=len(volume),
        missing=missing,
    )
    return shown, note


def _say_step(event: str, step: str, share: str) -> str:
    return _("step {step}: {event} {share}", step=step, event=event, share=share)


def _say_move(event: str, following: str, share: str) -> str:
    return f"{event} → {following} {share}"


def _largest_cells(grid: pd.DataFrame, say: Callable[[str, str, str], str]) -> str:
    rows, columns = ([shorten(name, 60) for name in names] for names in (grid.index, grid.columns))
    cells = [(share, rows[i], columns[j]) for i, line in enumerate(grid.to_numpy()) for j, share in enumerate(line)]
    largest = sorted(cells, key=lambda cell: -cell[0])[:5]
    return "; ".join(say(row, column, format_share(share)) for share, row, column in largest)
