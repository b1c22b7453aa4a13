"""What the pictures of a journey map share: its cells as lines, the curve of feelings, the band of those who arrive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from journeylab.formats import shorten
from journeylab.journeymap import EVIDENCE
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.map_words import write_difference, write_interval, write_value
from journeylab.picture import PALETTE, fit, number, safe, text_width
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from journeylab.journeymap import JourneyMap

    Row = dict[Hashable, Any]  # one row of a tidy frame: text and figures side by side

#: Colours with a meaning: a figure, one that hurts, one that gains, and the second of two maps.
FIGURE, PAIN, GAIN, SECOND = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3]
#: Width of a stage in a drawing, and height of the curve with room for words at both ends.
STAGE, CURVE = 170, 260
#: What the ends of the curve and its middle mean, and how far down they stand.
_EDGE = 44
ENDS = (
    (_EDGE / CURVE, 4, N_("delighted")),
    (0.5, 0, N_("neutral")),
    (1 - _EDGE / CURVE, -4, N_("upset")),
)
# Narrower than this there is no room for sentences.
_ROOMY, _TEXT, _SMALL = 140, 13, 12
CURVE_STYLE = (
    ".jl .c{text-anchor:middle}.jl .e{text-anchor:end}.jl .b{font-weight:600}.jl .s{font-size:12px;fill:var(--mute)}"
    ".jl .n{fill:none;stroke:var(--line)}.jl .w{stroke-width:2.5;stroke-opacity:.55;stroke-linecap:round;fill:none}"
    ".jl .l{fill:none;stroke-width:3;stroke-linecap:round}.jl .d{stroke-dasharray:2 8}"
    ".jl .halo{paint-order:stroke;stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}"
    ".jl .q{fill:none;stroke:var(--mute);stroke-width:1.5}.jl .k{fill:none;stroke:var(--ink);stroke-width:2}"
    ".jl .p{stroke:var(--bg);stroke-width:2}.jl .u{stroke-dasharray:2 2}.jl .g{stroke-dasharray:1 5}"
)


def read_cell(journey_map: JourneyMap, lane: str, stage: str) -> list[Row]:
    """Read the lines of a cell; none where nothing is known."""
    rows = journey_map.cell(lane, stage)
    return rows[rows["evidence"] != EVIDENCE[-1]].to_dict("records")


def read_moments(journey_map: JourneyMap, stage: str) -> list[Row]:
    """Read the moments that matter at a stage."""
    moments = journey_map.moments
    return moments[moments["is_moment"] & (moments["stage"] == stage)].to_dict("records")


def find_moment(journey_map: JourneyMap, lane: str, stage: str) -> Row | None:
    """Is this cell a moment that matters?"""
    return next((row for row in read_moments(journey_map, stage) if row["measure"] == lane), None)


def split_lanes(maps: Sequence[JourneyMap], lanes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of these lanes say something, and which nothing at any stage?"""
    told: set[str] = set()
    for each in maps:
        told |= set(each.cells.loc[each.cells["evidence"] != EVIDENCE[-1], "lane"])
    present = [lane for lane in lanes if any(lane in each.lanes for each in maps)]
    return [lane for lane in present if lane in told], [lane for lane in present if lane not in told]


def read_shares(journey_map: JourneyMap) -> list[float]:
    """Read which share of all customers gets to each stage; none where that is not known."""
    cells = [read_cell(journey_map, "reach", stage) for stage in journey_map.stages]
    return [float(rows[0]["value"]) if rows and not math.isnan(rows[0]["value"]) else 0.0 for rows in cells]


def largest(maps: Sequence[JourneyMap], lane: str) -> float:
    """What does the longest bar of a lane stand for? Of losses, pains and gains the largest, else all."""
    if lane not in ("drop_off", "pain_points", "quick_wins"):
        return 1.0
    highs = [high for each in maps for high in each.cells.loc[each.cells["lane"] == lane, "high"].dropna()]
    return float(max([*highs, 0.01]))


def alt_of_curve(maps: Sequence[JourneyMap]) -> str:
    """Say what the curve shows, for readers who cannot see it."""
    points = "; ".join(
        f"{safe_name(stage, 60)} {write_value(row)}"
        for each in maps
        for stage, row in zip(each.stages, _read_feelings(each), strict=True)
        if row
    )
    return _("How it feels, from −1 to 1: {points}.", points=points)


def safe_name(stage: str, longest: int) -> str:
    """Shorten a stage's name for a sentence."""
    return shorten(word_of(stage), longest)


def draw_curve(maps: Sequence[JourneyMap], *, stage_width: int = STAGE) -> str:
    """Draw how it feels from stage to stage: the inside of an SVG, `CURVE` high.

    A point per stage with its interval; a line between neighbours that are both known, a dashed one across what is not.
    """
    known = [_read_feelings(each) for each in maps]
    lines, points = [], []
    for place, each in enumerate(maps):
        shift = 0 if len(maps) == 1 else (-11, 11)[place]
        xs = [stage_width * (i + 0.5) + shift for i in range(len(each.stages))]
        lines.append(_draw_line(known[place], xs, (FIGURE, SECOND)[place]))
        for i, (x, row) in enumerate(zip(xs, known[place], strict=True)):
            rival = known[1 - place][i] if shift else None
            points.append(_draw_stage(each, i, row, rival, x, place))
            if row and not shift and stage_width >= _ROOMY:
                points.append(_draw_label(each, i, row, x, stage_width))
    return _draw_ground(stage_width * len(maps[0].stages)) + "".join(lines) + "".join(points)


def draw_names(stages: Sequence[str], stage_width: int) -> str:
    """Draw the names of the stages, for a curve that stands alone."""
    return "".join(
        f'<text x="{number(stage_width * (i + 0.5))}" y="16" class="b c">'
        f"{safe(fit(word_of(stage), (stage_width - 8) / 1.12, _SMALL))}</text>"
        for i, stage in enumerate(stages)
    )


def draw_ends(width: float) -> str:
    """Draw beside the curve what its height means: by a face, and a word if there is room."""
    faces = "".join(draw_face(11, CURVE * share, smile) for share, smile, _word in ENDS)
    if width < _ROOMY / 2:
        return faces
    return faces + "".join(
        f'<text x="25" y="{number(CURVE * share + 4)}" class="s">{safe(fit(_(word), width - 25, _SMALL))}</text>'
        for share, _smile, word in ENDS
    )


def draw_face(x: float, y: float, smile: float) -> str:
    """Draw a face that smiles, or does not."""
    corner = y + 3.5 - smile / 4
    return (
        f'<circle cx="{number(x)}" cy="{number(y)}" r="9" class="q"/>'
        f'<path d="M{number(x - 4)} {number(corner)}Q{number(x)} {number(corner + smile)} {number(x + 4)} '
        f'{number(corner)}M{number(x - 3)} {number(y - 3)}v1M{number(x + 3)} {number(y - 3)}v1" class="q" '
        f'stroke-linecap="round"/>'
    )


def _height_of(feeling: float) -> float:
    return CURVE / 2 - feeling * (CURVE / 2 - _EDGE)


def _draw_ground(width: int) -> str:
    """The pale halves, the neutral line and the ends."""
    middle = CURVE / 2
    lines = "".join(
        f'<path d="M0 {number(CURVE * share)}H{width}" class="{kind}"/>'
        for share, kind in ((ENDS[0][0], "n g"), (ENDS[1][0], "n"), (ENDS[2][0], "n g"))
    )
    return (
        f'<rect x="0" y="0" width="{width}" height="{number(middle)}" fill="{GAIN}" fill-opacity=".08"/>'
        f'<rect x="0" y="{number(middle)}" width="{width}" height="{number(middle)}" fill="{PAIN}" '
        f'fill-opacity=".08"/>{lines}'
    )


def _read_feelings(journey_map: JourneyMap) -> list[Row | None]:
    if "feeling" not in journey_map.lanes:
        return [None] * len(journey_map.stages)
    cells = [read_cell(journey_map, "feeling", stage) for stage in journey_map.stages]
    return [rows[0] if rows and not math.isnan(rows[0]["value"]) else None for rows in cells]


def _draw_line(rows: Sequence[Row | None], xs: Sequence[float], colour: str) -> str:
    parts = []
    before: tuple[int, float, float] | None = None
    for place, (x, row) in enumerate(zip(xs, rows, strict=True)):
        if row is None:
            continue
        y = _height_of(row["value"])
        if before:
            parts.append(_draw_bend(before[1:], (x, y), "l" if before[0] == place - 1 else "l d", colour))
        before = (place, x, y)
    return "".join(parts)


def _draw_bend(start: tuple[float, float], end: tuple[float, float], kind: str, colour: str) -> str:
    """A line that leaves and arrives level, so that it never rises above what was measured."""
    (x0, y0), (x1, y1) = start, end
    middle = number((x0 + x1) / 2)
    path = f"M{number(x0)} {number(y0)}C{middle} {number(y0)} {middle} {number(y1)} {number(x1)} {number(y1)}"
    return f'<path d="{path}" class="{kind}" stroke="{colour}"/>'


def _draw_stage(journey_map: JourneyMap, i: int, row: Row | None, rival: Row | None, x: float, place: int) -> str:
    """A point with its whisker and figure, ringed where it matters; of two, the better one has its figure above."""
    at = number(x)
    if row is None:
        return f'<circle cx="{at}" cy="{number(CURVE / 2)}" r="5" class="q u"/>'
    y, colour = _height_of(row["value"]), (FIGURE, SECOND)[place]
    high, low = _ends_of(row)
    mark = f'<circle cx="{at}" cy="{number(y)}" r="6" fill="{colour}" class="p"/>'
    if place:
        # Told apart without colour, too.
        mark = f'<rect x="{number(x - 5.5)}" y="{number(y - 5.5)}" width="11" height="11" fill="{colour}" class="p"/>'
    if find_moment(journey_map, "feeling", journey_map.stages[i]):
        mark = f'<circle cx="{at}" cy="{number(y)}" r="11" class="k"/>{mark}'
    is_above = rival is None or (row["value"], -place) > (rival["value"], place - 1)
    height = min(high, y - 10) - 6 if is_above else max(low, y + 10) + 15
    said = " ".join(filter(None, [write_value(row), write_interval(row)]))
    return (
        f'<g><title>{safe(said)}</title><path d="M{at} {number(high)}V{number(low)}" class="w" stroke="{colour}"/>'
        f'{mark}<text x="{at}" y="{number(height)}" class="b halo c">{safe(write_value(row))}</text></g>'
    )


def _ends_of(row: Row) -> tuple[float, float]:
    if math.isnan(row["low"]):
        return _height_of(row["value"]), _height_of(row["value"])
    return _height_of(row["high"]), _height_of(row["low"])


def _draw_label(journey_map: JourneyMap, i: int, row: Row, x: float, stage_width: int) -> str:
    """What makes it matter: two lines at most, below the whisker and inside the drawing."""
    moment = find_moment(journey_map, "feeling", journey_map.stages[i])
    if not moment:
        return ""
    lines = wrap(write_difference(moment), stage_width - 8, _SMALL, 2)
    lowest = max(_ends_of(row)[1], _height_of(row["value"]) + 11)
    first = min(lowest + 16, CURVE - 6 - 14 * (len(lines) - 1))
    return "".join(
        f'<text x="{number(x)}" y="{number(first + 14 * i)}" class="s c halo">{safe(line)}</text>'
        for i, line in enumerate(lines)
    )


def wrap(text: str, width: float, size: float, most: int) -> list[str]:
    """Break a text into lines of this width; what is too long is cut, a word as well as the last line."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        taken = 1
        while taken < len(words) and text_width(" ".join(words[: taken + 1]), size) <= width:
            taken += 1
        is_last = len(lines) == most - 1
        lines.append(fit(" ".join(words if is_last else words[:taken]), width, size))
        words = words[taken:]
    return lines


def draw_band(shares: Sequence[float], place: int, width: float, height: float) -> str:
    """Draw one stage's part of the band of those who get there; neighbours meet half way."""
    own = shares[place]
    edges = (
        (own + shares[place - 1]) / 2 if place else own,
        own,
        own,
        (own + shares[place + 1]) / 2 if place + 1 < len(shares) else own,
    )
    xs = [0, 0.3 * width, 0.7 * width, width]
    upper = [(x, height / 2 * (1 - share)) for x, share in zip(xs, edges, strict=True)]
    lower = [(x, height / 2 * (1 + share)) for x, share in zip(xs, edges, strict=True)]
    return f"M{_along(upper)}L{_along(lower[::-1])}Z"


def _along(points: list[tuple[float, float]]) -> str:
    """Four points: a bend, a straight, a bend."""
    a, b, c, d = points
    return f"{_pair(*a)}C{_bend(a, b)}L{_pair(*c)}C{_bend(c, d)}"


def _bend(start: tuple[float, float], end: tuple[float, float]) -> str:
    middle = (start[0] + end[0]) / 2
    return f"{_pair(middle, start[1])} {_pair(middle, end[1])} {_pair(*end)}"


def _pair(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"
