"""A whole journey map as one drawing, for slides and drawing programs: text stays text."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from journeylab.journeymap import EVIDENCE
from journeylab.language import gettext as _
from journeylab.map_curve import (
    CURVE,
    CURVE_STYLE,
    FIGURE,
    GAIN,
    PAIN,
    draw_band,
    draw_curve,
    draw_ends,
    find_moment,
    largest,
    read_cell,
    read_moments,
    read_shares,
    split_lanes,
    wrap,
)
from journeylab.map_words import (
    EVIDENCE_SAYS,
    describe_base,
    list_findings,
    list_notes,
    name_item,
    name_lane,
    name_map,
    say_unknown,
    write_base,
    write_difference,
    write_interval,
    write_value,
)
from journeylab.picture import as_svg, colours_of, fit, number, safe, safe_sentence, text_width
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from journeylab.journeymap import JourneyMap
    from journeylab.map_curve import Row

# A drawing and how high it is.
Block = tuple[str, float]

_MARGIN, _LANE, _STAGE, _PAD = 24, 112, 192, 9
_INNER = _STAGE - 2 * _PAD
_BAND, _LINE, _TEXT, _SMALL = 44, 16, 13, 12
# Bold letters are so much wider.
_BOLD = 1.12
# A slide is not read to the last line.
_FIRST = 3
_STYLE = (
    ".jl .t{font-size:22px;font-weight:600}"
    ".jl .v{font-size:16px;font-weight:600}.jl .x{fill:var(--lost);fill-opacity:.18}"
    ".jl .f{font-size:14px}.jl .i{fill:var(--ink)}.jl .a{fill:none;stroke:var(--ink);stroke-width:1.5}"
    ".jl .y{fill:var(--lost);fill-opacity:.55}.jl .z{stroke:var(--ink);stroke-opacity:.55;stroke-width:2.5}"
)


def map_svg(journey_map: JourneyMap) -> str:
    """Draw the whole map as one standalone SVG, the same bytes for the same map.

    Of each cell the first three lines, with their intervals and what they stand on.
    """
    width = 2 * _MARGIN + _LANE + _STAGE * len(journey_map.stages)
    body, height = _draw_map(journey_map, width - 2 * _MARGIN)
    alt = " ".join([describe_base(journey_map) + ".", *list_findings(journey_map)])
    picture = as_svg(body, width=width, height=height, title=name_map(journey_map), alt=alt)
    found = re.search(r"<svg .*</svg>", picture.html, flags=re.DOTALL)
    assert found, "as_svg frames one drawing"
    return found[0]


def _draw_map(journey_map: JourneyMap, width: float) -> Block:
    known, unknown = split_lanes([journey_map], journey_map.lanes)
    blocks = [
        _write(name_map(journey_map), width, 22, "t", after=2),
        _write(describe_base(journey_map), width, _TEXT, "m", after=8),
        *(_write(each, width, 14, "f", after=2) for each in list_findings(journey_map)),
        _draw_legend(width),
        _draw_heads(journey_map),
        *(_draw_lane(journey_map, lane) for lane in known),
    ]
    if unknown:
        said = f"{' · '.join(map(name_lane, unknown))}: {say_unknown(tuple(unknown))}"
        blocks.append(_write(said, width, _SMALL, "s", before=8, after=4))
    notes = [*list_notes(journey_map), _("Of each cell the first lines.")]
    blocks.append(_write(" ".join(notes), width, _SMALL, "s", before=8))
    parts, y = [f"<style>{CURVE_STYLE}{_STYLE}</style>"], float(_MARGIN)
    for body, height in blocks:
        parts.append(_move(body, _MARGIN, y))
        y += height
    return "".join(parts), y + _MARGIN


def _move(body: str, x: float, y: float) -> str:
    return f'<g transform="translate({number(x)} {number(y)})">{body}</g>'


def _write(text: str, width: float, size: int, kind: str, *, before: float = 0, after: float = 0) -> Block:
    """A paragraph."""
    lines = wrap(text, width, size, 6)
    step = size + 5
    body = "".join(
        f'<text x="0" y="{number(before + size + step * i)}" class="{kind}">{safe_sentence(line)}</text>'
        for i, line in enumerate(lines)
    )
    return body, before + step * len(lines) + after


def _draw_legend(width: float) -> Block:
    parts, x, y = [], 0.0, 18.0
    entries = [(_draw_mark(each), _(EVIDENCE_SAYS[each])) for each in EVIDENCE]
    for mark, said in [*entries, (_draw_ring(), _("moment that matters"))]:
        needed = 18 + text_width(said, _SMALL) + 16
        if x and x + needed > width:
            x, y = 0.0, y + 18
        parts.append(
            _move(mark, x + 5, y - 4) + f'<text x="{number(x + 16)}" y="{number(y)}" class="s">{safe(said)}</text>'
        )
        x += needed
    return "".join(parts), y + 12


def _draw_mark(evidence: str) -> str:
    """How a cell is known, by its shape, around the origin."""
    if evidence == EVIDENCE[-1]:
        return '<path d="M-4 0H4" class="a"/>'
    inside = {"measured": '<circle r="4" class="i"/>', "stated": '<path d="M0 -4A4 4 0 0 0 0 4Z" class="i"/>'}
    return f'<circle r="4" class="a"/>{inside.get(evidence, "")}'


def _draw_ring() -> str:
    return '<circle r="5.5" class="a"/><circle r="2.5" class="i"/>'


def _draw_heads(journey_map: JourneyMap) -> Block:
    stages = journey_map.stages
    colours = colours_of(stages)
    moments = [read_moments(journey_map, stage) for stage in stages]
    height = 40 + 18 * max(map(len, moments))
    parts = []
    for i, stage in enumerate(stages):
        x, end, dent = _LANE + _STAGE * i, _STAGE - 2, 12 if i else 0
        shape = f"M0 0H{end - 12}L{end} {height / 2:.0f}L{end - 12} {height}H0L{dent} {height / 2:.0f}Z"
        name = fit(word_of(stage), (_STAGE - 44) / _BOLD, 15)
        body = (
            f'<path d="{shape}" fill="{colours[stage]}" fill-opacity=".16"/>'
            f'<path d="M0 0H{end - 12}V4H0Z" fill="{colours[stage]}"/>'
            f'<text x="{dent + 10}" y="25" class="b" style="font-size:15px">{safe(name)}</text>'
        )
        for k, row in enumerate(moments[i]):
            said = fit(name_lane(row["measure"]), _STAGE - 62, _SMALL)
            body += _move(_draw_ring(), dent + 16, 40 + 18 * k)
            body += f'<text x="{dent + 28}" y="{44 + 18 * k}" style="font-size:12px">{safe(said)}</text>'
        parts.append(_move(f"<g><title>{safe(word_of(stage))}</title>{body}</g>", x, 0))
    return "".join(parts), height + 10


def _draw_lane(journey_map: JourneyMap, lane: str) -> Block:
    stages = journey_map.stages
    full = largest([journey_map], lane)
    cells = [_draw_cell(journey_map, lane, i, full) for i in range(len(stages))]
    top, ground = 0, ""
    if lane == "reach":
        top, shares = _BAND + 12, read_shares(journey_map)
        ground = "".join(
            _move(
                f'<path d="{draw_band(shares, i, _STAGE, _BAND)}" fill="{FIGURE}" stroke="{FIGURE}"/>',
                _LANE + _STAGE * i,
                8,
            )
            for i in range(len(stages))
        )
    if lane == "feeling":
        top = CURVE
        ground = _move(draw_curve([journey_map], stage_width=_STAGE), _LANE, 0) + _move(draw_ends(_LANE), 0, 0)
    height = top + 2 * _PAD + max(cell_height for _body, cell_height in cells)
    name = "".join(
        f'<text x="0" y="{_PAD + 12 + 16 * i}" class="b">{safe(line)}</text>'
        for i, line in enumerate(wrap(name_lane(lane), (_LANE - 8) / _BOLD, _TEXT, 3))
    )
    parts = [f'<path d="M0 0H{_LANE + _STAGE * len(stages)}" class="n"/>', ground, name]
    for i, (body, cell_height) in enumerate(cells):
        x = _LANE + _STAGE * i
        if not cell_height:
            parts.append(f'<rect x="{x}" y="{top}" width="{_STAGE}" height="{number(height - top)}" class="x"/>')
        parts.append(_move(body, x + _PAD, top + _PAD))
    return "".join(parts), height


def _draw_cell(journey_map: JourneyMap, lane: str, i: int, full: float) -> Block:
    rows = read_cell(journey_map, lane, journey_map.stages[i])
    moment = find_moment(journey_map, lane, journey_map.stages[i])
    if not rows:
        return "", 0.0
    stack = _Stack()
    if len(rows) == 1 and not rows[0]["item"]:
        _stack_figure(stack, rows[0], full)
    else:
        _stack_lines(stack, rows[:_FIRST], full)
    if moment and lane != "feeling":
        for k, line in enumerate(wrap(write_difference(moment), (_INNER - 18) / _BOLD, _TEXT, 2)):
            stack.add(
                ("" if k else _move(_draw_ring(), 5, 9)) + f'<text x="17" y="13" class="b">{safe(line)}</text>', _LINE
            )
    return "".join(stack.parts), stack.height


class _Stack:
    """Lines of a cell, one below the other."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.height = 0.0

    def add(self, body: str, height: float) -> None:
        self.parts.append(_move(body, 0, self.height))
        self.height += height


def _stack_figure(stack: _Stack, row: Row, full: float) -> None:
    if row["lane"] == "drop_off":
        stack.add(_draw_bar(row, full, _INNER, 8), 14)
    stack.add(f'<text x="0" y="14" class="v">{safe(write_value(row))}</text>', 20)
    if interval := write_interval(row):
        stack.add(f'<text x="0" y="12" class="s">{safe(interval)}</text>', _LINE)
    _stack_base(stack, row)


def _stack_base(stack: _Stack, row: Row) -> None:
    for k, line in enumerate(wrap(write_base(row), _INNER - 14, _SMALL, 2) or [""]):
        mark = "" if k else _move(_draw_mark(row["evidence"]), 4, 8)
        stack.add(mark + (f'<text x="14" y="12" class="s">{safe(line)}</text>' if line else ""), _LINE)
    stack.height += 2


def _stack_lines(stack: _Stack, rows: Sequence[Row], full: float) -> None:
    is_shared = len({(row["n"], row["evidence"]) for row in rows}) == 1
    for row in rows:
        if not write_value(row):
            _stack_words(stack, row)
            continue
        _stack_item(stack, row, full)
        if not is_shared:
            _stack_base(stack, row)
    if is_shared and write_value(rows[0]):
        _stack_base(stack, rows[0])


def _stack_item(stack: _Stack, row: Row, full: float) -> None:
    """Name and value; below them the bar and its interval."""
    value, interval = write_value(row), write_interval(row)
    if row["lane"] == "quick_wins":
        # A value of several words stands below the name.
        stack.add(f'<text x="0" y="12">{safe(fit(name_item(row), _INNER, _TEXT))}</text>', _LINE)
        stack.add(f'<text x="0" y="12" class="b">{safe(fit(value, _INNER / _BOLD, _TEXT))}</text>', _LINE)
    else:
        for k, line in enumerate(wrap(name_item(row), _INNER - _BOLD * text_width(value, _TEXT) - 6, _TEXT, 2)):
            beside = "" if k else f'<text x="{_INNER}" y="12" class="b e">{safe(value)}</text>'
            stack.add(f'<text x="0" y="12">{safe(line)}</text>{beside}', _LINE)
    room = max(_INNER - text_width(interval, _SMALL) - 6, 20)
    if bar := _draw_bar(row, full, room, 5):
        said = f'<text x="{_INNER}" y="10" class="s e">{safe(interval)}</text>' if interval else ""
        stack.add(_move(bar, 0, 3) + said, 18)


def _stack_words(stack: _Stack, row: Row) -> None:
    for k, line in enumerate(wrap(row["item"], _INNER - 16, _TEXT, 3)):
        mark = "" if k else _move(_draw_mark(row["evidence"]), 4, 8)
        stack.add(f'{mark}<text x="15" y="12">{safe(line)}</text>', _LINE)


def _draw_bar(row: Row, full: float, width: float, height: float) -> str:
    if row["unit"] not in ("share", "count"):
        return ""
    colour = {"drop_off": PAIN, "pain_points": PAIN, "quick_wins": GAIN}.get(row["lane"], FIGURE)

    def at(value: float) -> float:
        return width * min(max(value / full, 0.0), 1.0)

    whisker = ""
    if not math.isnan(row["low"]):
        whisker = f'<path d="M{number(at(row["low"]))} {number(height / 2)}H{number(at(row["high"]))}" class="z"/>'
    return (
        f'<rect width="{number(width)}" height="{number(height)}" rx="2.5" class="y"/>'
        f'<rect width="{number(at(row["value"]))}" height="{number(height)}" rx="2.5" fill="{colour}"/>{whisker}'
    )


def size_svg(svg: str) -> tuple[int, int]:
    """How wide and high is this drawing, in pixels?"""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found, "as_svg writes the size of every drawing"
    return round(float(found[1])), round(float(found[2]))
