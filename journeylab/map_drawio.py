"""A journey map as a draw.io drawing: a column per stage, a row per lane, each cell a note that can be moved."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from journeylab.formats import shorten
from journeylab.map_formats import group_cells, list_lines
from journeylab.map_words import describe_base, name_lane, name_map
from journeylab.picture import colours_of
from journeylab.words import word_of

if TYPE_CHECKING:
    from journeylab.journeymap import JourneyMap

# All in draw.io's points. A letter of its 12-point type is 7 wide at most, but for capitals.
_HEAD, _LANE, _STAGE, _GAP, _LINE, _LETTER = 40, 120, 220, 10, 16, 7
_LONGEST_LINE, _LONGEST_NAME = 120, 60
_TEXT = "html=1;whiteSpace=wrap;overflow=hidden;"
_PLAIN = f"text;{_TEXT}align=left;verticalAlign=middle;"
_BOLD = f"{_PLAIN}fontStyle=1;"
_NOTE = f"rounded=1;arcSize=3;{_TEXT}align=left;verticalAlign=top;spacing=6;fillColor=#ffffff;strokeColor=#d0d7de;"
# A stage is a swimlane: what lies in it moves with it.
_COLUMN = f"swimlane;startSize={_HEAD};{_TEXT}collapsible=0;fontStyle=1;fillColor=none;swimlaneFillColor=none;"


def map_drawio(journey_map: JourneyMap) -> str:
    """Write the map as a .drawio file for draw.io (diagrams.net), Confluence or VS Code.

    Stages are columns, lanes rows; a note per cell of which something is known. Names of more than 60 letters, and
    lines of more than 120, are cut in their middle.
    """
    cells = group_cells(journey_map)
    texts = {
        (lane, stage): [shorten(line, _LONGEST_LINE) for line in list_lines(cells.get((lane, stage), []))]
        for lane in journey_map.lanes
        for stage in journey_map.stages
    }
    heights = {
        lane: max((_measure(texts[lane, stage]) for stage in journey_map.stages), default=_HEAD)
        for lane in journey_map.lanes
    }
    width = _LANE + _GAP + len(journey_map.stages) * (_STAGE + _GAP)
    height = sum(heights.values()) + _GAP * (len(heights) + 1) + _HEAD
    root = ElementTree.Element("root")
    ElementTree.SubElement(root, "mxCell", id="0")
    ElementTree.SubElement(root, "mxCell", {"id": "1", "parent": "0"})
    _add(root, "title", "1", f"<b>{_escape(name_map(journey_map))}</b>", _PLAIN, (0, 0, width, _HEAD))
    _add(
        root,
        "base",
        "1",
        escape(describe_base(journey_map)),
        _PLAIN.replace("=1;align", "=0;align"),
        (0, _HEAD, width, _HEAD),
    )
    _add(root, "lanes", "1", "", _COLUMN, (0, 2 * _HEAD, _LANE, height))
    tops = {lane: _HEAD + _GAP + sum(list(heights.values())[:i]) + _GAP * i for i, lane in enumerate(heights)}
    for lane, top in tops.items():
        _add(
            root, f"lane-{lane}", "lanes", escape(name_lane(lane)), _PLAIN, (_GAP, top, _LANE - 2 * _GAP, heights[lane])
        )
    colours = colours_of(journey_map.stages)
    for i, stage in enumerate(journey_map.stages):
        left = _LANE + _GAP + i * (_STAGE + _GAP)
        style = f"{_COLUMN}strokeColor={colours[stage]};"
        _add(root, f"stage-{i}", "1", _escape(word_of(stage)), style, (left, 2 * _HEAD, _STAGE, height))
        for lane, top in tops.items():
            if texts[lane, stage]:
                text = "<br>".join(map(escape, texts[lane, stage]))
                place = (_GAP, top, _STAGE - 2 * _GAP, heights[lane])
                _add(root, f"cell-{i}-{lane}", f"stage-{i}", text, _NOTE, place)
    return _wrap(root, width, height + 2 * _HEAD)


def _wrap(root: ElementTree.Element, width: int, height: int) -> str:
    file = ElementTree.Element("mxfile", host="journeylab")
    diagram = ElementTree.SubElement(file, "diagram", id="map", name="1")
    sheet = {
        "grid": "1",
        "gridSize": "10",
        "page": "1",
        "pageWidth": str(width),
        "pageHeight": str(height),
        "math": "0",
    }
    model = ElementTree.SubElement(diagram, "mxGraphModel", sheet)
    model.append(root)
    ElementTree.indent(file)
    return f"{ElementTree.tostring(file, encoding='unicode')}\n"


def _add(
    root: ElementTree.Element, name: str, parent: str, text: str, style: str, place: tuple[int, int, int, int]
) -> None:
    about = {"id": name, "value": text, "style": style, "vertex": "1", "parent": parent}
    cell = ElementTree.SubElement(root, "mxCell", about)
    x, y, width, height = map(str, place)
    ElementTree.SubElement(cell, "mxGeometry", {"x": x, "y": y, "width": width, "height": height, "as": "geometry"})


def _escape(name: str) -> str:
    # Text of a cell is HTML, or else draw.io would not wrap it.
    return escape(shorten(name, _LONGEST_NAME))


def _measure(lines: list[str]) -> int:
    """How high must a note be for these lines?"""
    letters = (_STAGE - 2 * _GAP - 12) // _LETTER
    return _LINE * sum(max(math.ceil(len(line) / letters), 1) for line in lines) + 12 if lines else _HEAD
