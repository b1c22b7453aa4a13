"""The cells of a journey map as HTML: figures with bars, intervals, bases and marks of evidence; words with marks."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from journeylab.formats import NOTHING
from journeylab.journeymap import EVIDENCE
from journeylab.language import gettext as _
from journeylab.map_curve import (
    FIGURE,
    GAIN,
    PAIN,
    SECOND,
    draw_band,
    find_moment,
    largest,
    read_cell,
    read_shares,
)
from journeylab.map_words import (
    name_item,
    name_lane,
    write_base,
    write_difference,
    write_interval,
    write_note,
    write_value,
)
from journeylab.picture import safe, safe_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from journeylab.journeymap import JourneyMap
    from journeylab.map_curve import Row

_LONGEST_ITEM = 80


def draw_mark(evidence: str, *, is_legend: bool = False) -> str:
    """How is this known? A mark told by its shape."""
    kind = f'<i class="jl-e {escape(evidence)}"'
    if is_legend:
        return f'{kind} aria-hidden="true"></i>'
    return f'{kind} role="img" aria-label="{escape(_(evidence))}" title="{escape(_(evidence))}"></i>'


def draw_badge(place: int) -> str:
    """Which of two maps is this?"""
    return f'<b class="jl-badge" style="--c:{(FIGURE, SECOND)[place]}">{"AB"[place]}</b>'


def break_name(name: str) -> str:
    """Names of events are one long word; they may break where people would break them."""
    return safe(name, _LONGEST_ITEM).replace("_", "_<wbr>")


def draw_cell(maps: Sequence[JourneyMap], place: int, lane: str, i: int, order: int) -> str:
    """Draw what one of the maps says in a lane at its stage number `i`; `order` is its place in the card on a phone."""
    journey_map = maps[place]
    stage = journey_map.stages[i]
    rows = read_cell(journey_map, lane, stage) if lane in journey_map.lanes else []
    head = f'role="cell" style="--o:{1000 * (i + 1) + order}" data-lane="{escape(_label(lane, place, len(maps)))}"'
    if not rows:
        return (
            f'<td {head} class="jl-u"><span aria-hidden="true">{NOTHING}</span>'
            f'<span class="jl-v">{escape(_(EVIDENCE[-1]))}</span></td>'
        )
    moment = find_moment(journey_map, lane, stage)
    kind = ' class="jl-mo"' if moment else ""
    if all(row["unit"] == "text" for row in rows):
        body = _draw_texts(rows)
    elif len(rows) == 1 and not rows[0]["item"]:
        body = _draw_figure(maps, journey_map, lane, i, rows[0], place) + (_draw_moment(moment) if moment else "")
    else:
        body = _draw_items(rows, largest(maps, lane), place)
    return f"<td {head}{kind}>{body}</td>"


def _label(lane: str, place: int, n_maps: int) -> str:
    return f"{name_lane(lane)} {'AB'[place]}" if n_maps > 1 else name_lane(lane)


def _draw_texts(rows: list[Row]) -> str:
    lines = "".join(
        f'<li>{draw_mark(row["evidence"])}<span title="{safe(row["item"])}">'
        f"{safe(row['item'], 2 * _LONGEST_ITEM)}</span>{_quiet(write_note(row))}</li>"
        for row in rows
    )
    return f'<ul class="jl-w">{lines}</ul>'


def _quiet(text: str) -> str:
    return f"<small>{safe_sentence(text)}</small>" if text else ""


def _draw_figure(maps: Sequence[JourneyMap], journey_map: JourneyMap, lane: str, i: int, row: Row, place: int) -> str:
    picture = ""
    if lane == "reach":
        shares = read_shares(journey_map)
        picture = (
            f'<svg class="jl-band" viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true">'
            f'<path d="{draw_band(shares, i, 100, 40)}" style="--c:{(FIGURE, SECOND)[place]}"/></svg>'
        )
    elif lane == "drop_off":
        picture = _draw_bar(row, largest(maps, lane), PAIN)
    value = f'<b class="jl-n">{safe(write_value(row))}</b>'
    return f"{picture}{value}{_quiet(write_interval(row))}{_draw_foot(row)}"


def _draw_moment(moment: Row) -> str:
    return f'<p class="jl-why"><i class="jl-ring"></i>{safe(write_difference(moment))}</p>'


def _draw_bar(row: Row, full: float, colour: str) -> str:
    """A bar, and over its end the interval: both in percent of the longest."""
    if math.isnan(row["value"]) or row["unit"] not in ("share", "count"):
        return ""
    ends = "" if math.isnan(row["low"]) else f"--l:{_percent(row['low'], full)};--h:{_percent(row['high'], full)};"
    return f'<i class="jl-bar" style="--v:{_percent(row["value"], full)};{ends}--c:{colour}" aria-hidden="true"></i>'


def _percent(value: float, full: float) -> str:
    return f"{100 * min(max(value / full, 0.0), 1.0):.1f}%"


def _draw_foot(row: Row) -> str:
    return f'<p class="jl-f">{draw_mark(row["evidence"])}{escape(write_base(row))}</p>'


def _draw_items(rows: list[Row], full: float, place: int) -> str:
    """One line per item; what all of them stand on is said once, below."""
    is_shared = len({(row["n"], row["evidence"]) for row in rows}) == 1
    lane = rows[0]["lane"]
    colour = {"pain_points": PAIN, "quick_wins": GAIN}.get(str(lane), (FIGURE, SECOND)[place])
    lines = "".join(
        f'<li><div><span class="jl-t" title="{safe(name_item(row))}">{break_name(name_item(row))}</span>'
        f"<b>{safe(write_value(row))}</b></div><div>{_draw_bar(row, full, colour)}{_quiet(write_interval(row))}</div>"
        f"{_note(row)}{'' if is_shared else _draw_foot(row)}</li>"
        for row in rows
    )
    return f'<ul class="jl-i">{lines}</ul>{_draw_foot(rows[0]) if is_shared else ""}'


def _note(row: Row) -> str:
    return f'<p class="jl-note">{safe_sentence(write_note(row))}</p>' if row["note"] else ""
