"""The flow of the first steps as our own inline SVG: every journey is in every column, also when it has ended."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from journeylab.errors import RuleError
from journeylab.formats import format_share
from journeylab.language import gettext as _
from journeylab.picture import NEUTRAL, Picture, as_nothing, as_svg, colours_of, fit, number, safe, shorten
from journeylab.words import unit_of, word_of

# The distance of two columns, the width of a node, the room above the nodes, and the least height of a label.
_COLUMN, _NODE, _TOP, _LINE = 190.0, 12.0, 76.0, 18.0
_TALLEST = 380.0
# Nobody can point at a thinner ribbon; hundreds of them would be most of the file.
_THINNEST = 0.5
_OTHER = "(other)"


class _Node(NamedTuple):
    name: str | None
    n: int
    y: float
    height: float
    label_y: float


def draw_flow(flows: pd.DataFrame, *, unit: str = "journey") -> Picture:
    """Which way do journeys go in their first steps, and where do they end?

    Columns are steps, heights are numbers of journeys, and those that ended stay in the picture as a pale band, so that
    each column adds up to all journeys.

    Parameters
    ----------
    flows : pandas.DataFrame
        `count_flows`' frame, one row per ribbon: step (from 1), event, next_event (None: the journey ended after this
        event) and n; rare events already folded into "(other)".
    unit : str
        What is counted, in the singular.

    Raises
    ------
    RuleError
        When more or fewer leave an event than arrived at it.
    """
    if flows.empty:
        return as_nothing(_("No {unit} to draw: none has ended yet, or none was passed.", unit=unit_of(unit, 1)))
    links, columns = _read_flows(flows)
    total = sum(columns[0].values())
    names = _flow_order(columns)
    colours = colours_of(name for name in names if name not in (None, _OTHER))
    placed = [_place_nodes(column, names, _TALLEST / total) for column in columns]
    drawn = []
    for step, (here, there) in enumerate(pairwise(placed), start=1):
        drawn.append(_ribbons(step, links[step - 1], here, there, colours, total))
    for step, column in enumerate(placed, start=1):
        x = (step - 1) * _COLUMN
        head = _("step {step}", step=step)
        drawn.append(f'<text class="s" x="{number(x)}" y="58">{head}</text>')
        drawn += [_flow_node(node, x, colours, total) for node in column.values()]
    title = _("The first {steps} steps of {n} {units}", steps=len(columns), n=total, units=unit_of(unit, total))
    # As behind a zero, which is the plural in English and the genitive of the plural in Polish and Russian.
    below = _("Height: number of {units}. Every column adds up to all {n}.", units=unit_of(unit, 0), n=total)
    heads = f'<text class="h" x="0" y="18">{safe(title)}</text><text class="m" x="0" y="38">{below}</text>'
    height = max(node.label_y + _LINE for column in placed for node in column.values())
    body = heads + "".join(drawn)
    width = max(len(columns) * _COLUMN, 620.0)
    return as_svg(body, width=width, height=height, title=title, alt=f"{title}. {_flow_words(columns, total)}")


_Counts = dict[str | None, int]
_Links = dict[tuple[str | None, str | None], int]


def _read_flows(flows: pd.DataFrame) -> tuple[list[_Links], list[_Counts]]:
    """Turn the rows into ribbons and columns; who has ended is carried on to the last column."""
    links: list[_Links] = []
    columns: list[_Counts] = []
    arrived: _Counts = {}
    for step in range(int(flows["step"].min()), int(flows["step"].max()) + 1):
        rows = flows[flows["step"] == step]
        pairs = zip(
            rows["event"].map(str), (None if pd.isna(to) else str(to) for to in rows["next_event"]), strict=True
        )
        ribbons: _Links = {}
        for pair, n in zip(pairs, rows["n"], strict=True):
            ribbons[pair] = ribbons.get(pair, 0) + int(n)
        leaving = _sum_by(ribbons, 0)
        ended = arrived.pop(None, 0)
        if columns and leaving != arrived:
            name = next(name for name in sorted(map(str, leaving | arrived)) if leaving.get(name) != arrived.get(name))
            raise RuleError(
                f'flows do not add up at step {step}: {arrived.get(name, 0)} arrive at "{shorten(name, 60)}" and '
                f"{leaving.get(name, 0)} leave it. Pass all rows of count_flows(), not a selection."
            )
        if ended:
            leaving[None] = ribbons[None, None] = ended
        columns.append(leaving)
        links.append(ribbons)
        arrived = _sum_by(ribbons, 1)
    return links, [*columns, arrived]


def _sum_by(ribbons: _Links, end: int) -> _Counts:
    sums: _Counts = {}
    for pair, n in ribbons.items():
        sums[pair[end]] = sums.get(pair[end], 0) + n
    return sums


def _flow_order(columns: list[_Counts]) -> list[str | None]:
    """Put events in one order for all columns: by volume, then the folded ones, then the ended."""
    volume: dict[str, int] = {}
    for column in columns:
        for name, n in column.items():
            if name is not None:
                volume[name] = volume.get(name, 0) + n
    return [*sorted(volume, key=lambda name: (name == _OTHER, -volume[name], name)), None]


def _place_nodes(column: _Counts, names: list[str | None], scale: float) -> dict[str | None, _Node]:
    """Stack a column; a node thinner than a line of text still gets the room of one, so labels never touch."""
    nodes: dict[str | None, _Node] = {}
    y = _TOP
    for name in names:
        if n := column.get(name, 0):
            height = n * scale
            room = max(height + 4, _LINE)
            nodes[name] = _Node(name, n, y + (room - height) / 2, height, y + room / 2)
            y += room
    return nodes


def _ribbons(
    step: int,
    links: _Links,
    here: dict[str | None, _Node],
    there: dict[str | None, _Node],
    colours: dict[str, str],
    total: int,
) -> str:
    """Draw what flows from one column to the next; at a node, ribbons leave and arrive in the order of the columns."""
    x = ((step - 1) * _COLUMN + _NODE, step * _COLUMN)
    arrived = dict.fromkeys(there, 0.0)
    drawn = []
    for name, node in here.items():
        paths, threads, left = [], [], 0.0
        for following, target in there.items():
            if n := links.get((name, following), 0):
                height = n * _TALLEST / total
                path = _ribbon(*x, node.y + left, target.y + arrived[following], height)
                left += height
                arrived[following] += height
                if height < _THINNEST:
                    threads.append(path)
                    continue
                ends = _("ended before") if name is None else f"{_short(name)} → {_short(following)}"
                paths.append(f'<path d="{path}"><title>{ends}: {_of_total(n, total)}</title></path>')
        if threads:
            # Too thin to point at: the node's tooltip and the table have these numbers.
            paths.append(f'<path d="{"".join(threads)}"/>')
        drawn.append(f'<g class="{"r" if name is not None else "r o"}" {_paint(name, colours)}>{"".join(paths)}</g>')
    return "".join(drawn)


def _ribbon(x0: float, x1: float, y0: float, y1: float, height: float) -> str:
    """Outline a ribbon that leaves and arrives level, as high at each point as it is at its ends."""
    left, bend, right = number(x0), number((x0 + x1) / 2), number(x1)
    top, low = (number(y0), number(y1)), (number(y1 + height), number(y0 + height))
    over = f"M{left} {top[0]}C{bend} {top[0]} {bend} {top[1]} {right} {top[1]}"
    return f"{over}V{low[0]}C{bend} {low[0]} {bend} {low[1]} {left} {low[1]}Z"


def _of_total(n: int, total: int) -> str:
    return _("{n} of {total} ({share})", n=n, total=total, share=format_share(n / total))


def _short(name: str | None) -> str:
    return safe(_ended(name, 80))


def _flow_node(node: _Node, x: float, colours: dict[str, str], total: int) -> str:
    share = f"{100 * node.n / total:.0f} %" if node.n / total >= 0.01 else "&lt; 1 %"
    name = _ended(node.name)
    full = f"{safe(name)}: {_of_total(node.n, total)}"
    short = fit(name, _COLUMN - _NODE - 54, 12)
    return (
        f'<g><title>{full}</title><rect class="node" x="{number(x)}" y="{number(node.y)}" width="{number(_NODE)}" '
        f'height="{node.height:.2f}" {_paint(node.name, colours)}/><text class="halo" x="{number(x + _NODE + 5)}" '
        f'y="{number(node.label_y + 4.5)}">{safe(short)} <tspan class="s">{share}</tspan></text></g>'
    )


def _paint(name: str | None, colours: dict[str, str]) -> str:
    return 'style="fill:var(--lost)"' if name is None else f'fill="{colours.get(name, NEUTRAL)}"'


def _ended(name: str | None, longest: int = 300) -> str:
    return _("ended") if name is None else shorten(word_of(name, "event"), longest)


def _flow_words(columns: list[_Counts], total: int) -> str:
    words = []
    for step, column in enumerate(columns, start=1):
        largest = sorted(column, key=lambda name: (-column[name], name is None, str(name)))[:3]
        events = ", ".join(f"{_ended(name, 60)} {format_share(column[name] / total)}" for name in largest)
        words.append(_("Step {step}: {events}", step=step, events=events))
    return "; ".join(words) + "."
