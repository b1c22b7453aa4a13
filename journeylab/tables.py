"""Tables a person reads: shares in percent, thousands apart, times in words, everything escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from html import escape, unescape
from typing import Any

import numpy as np
import pandas as pd

from journeylab.formats import (
    NOTHING,
    Format,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_points,
    format_share,
)
from journeylab.language import format_day, format_moment, ngettext
from journeylab.language import gettext as _
from journeylab.picture import HEAT_TEXT_TURNS, Picture, as_figure, safe, safe_sentence, scroll, shorten
from journeylab.words import head_of, word_of

# A longer table is not read but searched, which the CSV beside the report does better.
_MOST_ROWS = 200
_LONGEST_SENTENCE = 3_000
_LONGEST_CELL = 120
_MOST_ROOM = 28
_UNIT = re.compile("_(median|mean)$")
# Which figure do `low` and `high` belong to, in a table that has several? The first of these that it has, or else the
# one before them.
_BOUNDED = ("difference", "share_of_start", "share", "conversion", "share_lost")

_TABLE = (
    ".jl .jl-t{border-collapse:collapse;font-size:14px;margin:0}.jl .jl-t caption{text-align:left;font-weight:600;"
    "padding:0 0 .5em;color:var(--ink)}.jl .jl-t tbody tr,.jl .jl-t thead tr{background:none}"
    ".jl .jl-t th,.jl .jl-t td{box-sizing:content-box}"
    ".jl .jl-t th,.jl .jl-t td{padding:.35em .7em;text-align:left;vertical-align:baseline;border:0;"
    "border-bottom:1px solid var(--line);color:var(--ink);overflow-wrap:anywhere}"
    ".jl .jl-t thead th{color:var(--mute);font-weight:600;font-size:13px;vertical-align:bottom}"
    ".jl .jl-t .r{text-align:right;overflow-wrap:normal}"
    ".jl .jl-t td.r{white-space:nowrap}.jl .jl-t th.r{min-width:4.5em}"
)
_HEADLINE = ".jl .jl-headline{font-size:1.15rem;line-height:1.5;max-width:46rem;margin:.4em 0;color:var(--ink)}"
_HEAT = (
    ".jl .jl-h{border-collapse:separate;border-spacing:1px;font-size:12px;margin:0;table-layout:auto}"
    ".jl .jl-h caption{text-align:left;font-weight:600;font-size:14px;padding:0 0 .5em;color:var(--ink)}"
    ".jl .jl-h tbody tr,.jl .jl-h thead tr{background:none}"
    ".jl .jl-h th,.jl .jl-h td{border:0;padding:2px 4px;min-width:22px;height:20px;color:var(--ink);font-weight:400;"
    "white-space:nowrap;text-align:left;background:var(--bg)}"
    ".jl .jl-h td{text-align:center;color:var(--cell);background:rgb(var(--heat)/var(--a,0))}.jl .jl-h td.w{color:#fff}"
    ".jl .jl-h tbody th{position:sticky;left:0}.jl .jl-h thead th{vertical-align:bottom}"
    ".jl .jl-h thead th{text-align:center}.jl .jl-h .v{writing-mode:vertical-rl;transform:rotate(180deg)}"
)


def show_table(
    frame: pd.DataFrame,
    *,
    caption: str | None = None,
    note: str | None = None,
    formats: Mapping[str, Format] | None = None,
) -> Picture:
    """What does this tidy table say, in a form that people read?

    Shares become percent, counts get thin spaces, seconds become times, `low` and `high` become one 95 % interval
    beside the figure they belong to, missing values a dash. Nothing is computed, all text is escaped.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any of our tidy tables; a named index becomes columns. At most 200 rows are shown, and the note says so.
    caption, note : str, optional
        The title above and a remark below.
    formats : mapping, optional
        Column name -> function from a value to text, where the default by name does not fit.
    """
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    columns = _columns(frame, formats or {})
    shown = frame.head(_MOST_ROWS)
    notes = [note] if note else []
    if len(frame) > len(shown):
        notes.append(_("The first {shown} of {n} rows.", shown=len(shown), n=len(frame)))
    cells = [[(right, text) for text in write(shown)] for _label, right, write in columns]
    head = "".join(
        f'<th scope="col"{_RIGHT if right else _room(label, texts)}>{safe(label)}</th>'
        for (label, right, _write), texts in zip(columns, cells, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(f"<td{_RIGHT if right else ''}>{text}</td>" for right, text in row) + "</tr>"
        for row in zip(*cells, strict=True)
    )
    title = f"<caption>{safe_sentence(caption)}</caption>" if caption else ""
    body = f'<table class="jl-t">{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    name = shorten(caption) if caption else _("Table")
    alt = ngettext("{name}, {n} row", "{name}, {n} rows", len(frame), name=name)
    return as_figure(scroll(body, alt) + _notes(notes), style=_TABLE, alt=alt)


def show_headline(text: str) -> Picture:
    """Show a finding in a sentence, large; the text is escaped."""
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return as_figure(
        f'<p class="jl-headline">{safe_sentence(whole, _LONGEST_SENTENCE)}</p>',
        style=_HEADLINE,
        alt=shorten(text),
    )


def draw_heat_table(grid: pd.DataFrame, *, title: str, corner: str, alt: str, note: str = "") -> Picture:
    """Draw shares (0 to 1, NaN for none) as a table of tinted cells, for grids that a figure cannot hold.

    Rows and columns are labelled by `grid`'s index and columns; each cell shows whole percent from 1 % up.
    """
    top = max(float(np.nanmax(grid.to_numpy())), 1e-9) if grid.size else 1.0
    head = "".join(
        f'<th scope="col" title="{safe(name)}"><span{_turned(name)}>{escape(shorten(name, 24))}</span></th>'
        for name in grid.columns
    )
    rows = "".join(
        f'<tr><th scope="row" title="{safe(name)}">{escape(shorten(name, 28))}</th>'
        + "".join(_heat_cell(value, top) for value in values)
        + "</tr>"
        for name, values in zip(grid.index, grid.to_numpy(), strict=True)
    )
    body = (
        f'<table class="jl-h"><caption>{safe_sentence(title)}</caption><thead><tr><th scope="col">{escape(corner)}</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
    notes = [_("In percent, rounded; an empty cell is less than 0.5 %."), *([note] if note else [])]
    return as_figure(scroll(body, title) + _notes(notes), style=_HEAT, alt=alt)


def _turned(name: object) -> str:
    return ' class="v"' if len(str(name)) > 3 else ""


def heat_tint(share: float, top: float) -> float:
    """How strong is a cell's tint, from 0 to 1? By the square root, so that one large share does not pale the rest."""
    return math.sqrt(share / top)


def _heat_cell(share: float, top: float) -> str:
    tint = heat_tint(share, top)
    # A tint too faint to see is not worth its bytes: most cells of a large grid are almost empty.
    if math.isnan(share) or (round(100 * share) == 0 and tint < 0.05):
        return "<td></td>"
    text = f"{100 * share:.0f}" if round(100 * share) else ""
    return f'<td{_WHITE if tint > HEAT_TEXT_TURNS else ""} style="--a:{tint:.2f}">{text}</td>'


def _room(label: str, texts: list[tuple[bool, str]]) -> str:
    """Give a column of text the width of its texts, up to a point; its words may break, and would in every table."""
    longest = max((len(unescape(text)) for _right, text in texts), default=0)
    # One more for the cells, whose letters are larger, and for a bold head, whose letters are wider.
    return f' style="min-width:{min(max(longest, len(label)) + 1, _MOST_ROOM)}ch"'


def _notes(notes: list[str]) -> str:
    return "".join(f'<p class="jl-note">{safe_sentence(note, _LONGEST_SENTENCE)}</p>' for note in notes)


_RIGHT, _WHITE = ' class="r"', ' class="w"'
# Head, whether it is aligned right, and the texts (escaped) of its cells.
_Column = tuple[str, bool, Callable[[pd.DataFrame], list[str]]]


def _columns(frame: pd.DataFrame, formats: Mapping[str, Format]) -> list[_Column]:
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        frame = frame.set_axis(
            [f"{name}.{i}" if names.index(name) < i else name for i, name in enumerate(names)], axis=1
        )
        names = list(frame.columns)
    bounds = {_bounded(low.removesuffix("low"), names): low.removesuffix("low") for low in names if _is_low(low, names)}
    merged = {prefix + end for prefix in bounds.values() for end in ("low", "high")}
    columns: list[_Column] = []
    for place, name in enumerate(names):
        series = frame.iloc[:, place]
        write = formats.get(name) or _format_for(name, series)
        if name not in merged:
            right = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
            columns.append((_head(name), right, _writer(place, write)))
        if name in bounds:
            places = tuple(names.index(bounds[name] + end) for end in ("low", "high"))
            columns.append((_("95 % interval"), True, _interval_writer(places[0], places[1], write)))
    return columns


def _is_low(name: str, names: list[str]) -> bool:
    return (name == "low" or name.endswith("_low")) and f"{name.removesuffix('low')}high" in names


def _bounded(prefix: str, names: list[str]) -> str:
    """Find the column whose bounds start with `prefix`; bounds that belong to none stand by themselves."""
    stem = prefix.removesuffix("_")
    wanted = [stem, *(name for name in names if name.endswith(f"_{stem}") and not name.startswith("n_"))]
    before = names[: names.index(f"{prefix}low")]
    wanted = wanted if prefix else [*_BOUNDED, *before[-1:]]
    return next((name for name in wanted if name in names), f"{prefix}low")


def _head(name: str) -> str:
    return head_of(name) or (
        _UNIT.sub(lambda found: f", {found[1]}", name.removeprefix("n_").removesuffix("_s")).replace("_", " ") or name
    )


def _format_for(name: str, series: pd.Series[Any]) -> Format:
    types = pd.api.types
    if types.is_bool_dtype(series):
        return lambda value: _("yes") if value else _("no")
    if types.is_datetime64_any_dtype(series):
        days = bool((series.dropna() == series.dropna().dt.normalize()).all())
        return format_day if days else format_moment
    if types.is_numeric_dtype(series):
        return _format_number(name, whole=types.is_integer_dtype(series))
    return lambda value: _format_text(name, value)


def _format_number(name: str, *, whole: bool) -> Format:
    if name.endswith("_s"):
        return format_duration
    if name == "difference" or name.endswith("_difference"):
        return format_points
    if name.startswith(("share", "conversion", "probability")) or name.endswith("_share"):
        return format_share
    if name == "nps":
        return lambda value: format_number(value, 1, signed=True)
    if name in ("p", "q") or name.startswith("p_"):
        return lambda value: f"< {format_number(0.001, 3)}" if value < 0.001 else format_number(value, 3)
    if whole or name == "n" or (name.startswith("n_") and not name.endswith("_mean")):
        return lambda value: format_count(value) if float(value).is_integer() else format_number(value, 1)
    return format_number


def _format_text(column: str, value: object) -> str:
    text = " → ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return shorten(word_of(text, column), _LONGEST_CELL)


def _missing(value: Any) -> bool:
    # pandas would answer for each element of a tuple.
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _writer(place: int, write: Format) -> Callable[[pd.DataFrame], list[str]]:
    return lambda rows: [NOTHING if _missing(value) else safe(write(value)) for value in rows.iloc[:, place]]


def _interval_writer(low: int, high: int, write: Format) -> Callable[[pd.DataFrame], list[str]]:
    return lambda rows: [
        NOTHING if _missing(start) or _missing(end) else safe(format_interval(start, end, write))
        for start, end in zip(rows.iloc[:, low], rows.iloc[:, high], strict=True)
    ]
