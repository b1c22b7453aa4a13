"""A journey map as an Excel file: a grid for a whiteboard, and the table it was made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from journeylab.journeymap.model import COLUMNS, MOMENTS
from journeylab.language import gettext as _
from journeylab.map_formats import group_cells, list_lines
from journeylab.map_words import describe_base, list_findings, list_notes, name_lane, name_map
from journeylab.sheets import Sheet, write_book
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from journeylab.journeymap import JourneyMap

_SHORT = frozenset(
    ("rank", "value", "value_other", "n", "low", "high", "unit", "difference", "p_adjusted", "is_moment")
)


def write_map_sheets(journey_map: JourneyMap, path: str | Path) -> Path:
    """Write the map to an Excel file; the same map is the same bytes.

    Four sheets: the grid of stages and lanes, whose cells can be pasted into a whiteboard such as Miro, where each
    becomes a note; what the map rests on; its tidy cells; and its moments. Text that a spreadsheet would run as a
    formula gets a leading apostrophe.
    """
    cells = group_cells(journey_map)
    # With the digits that a map has in JSON, and empty cells for figures that are not there.
    content = json.loads(journey_map.to_json())
    sheets = [
        Sheet(
            _("Map"),
            [name_map(journey_map), *(word_of(stage) for stage in journey_map.stages)],
            [
                [name_lane(lane)]
                + ["\n".join(list_lines(cells.get((lane, stage), []))) for stage in journey_map.stages]
                for lane in journey_map.lanes
            ],
            widths=(20, 34),
            has_names=True,
        ),
        Sheet(
            _("Facts"),
            [_("fact"), _("value")],
            list(_list_facts(journey_map, content["facts"])),
            widths=(24, 100),
            has_names=True,
        ),
        _as_sheet(_("Cells"), content["cells"], COLUMNS),
        _as_sheet(_("Moments"), content["moments"], MOMENTS),
    ]
    return write_book(path, sheets, title=name_map(journey_map))


def _list_facts(journey_map: JourneyMap, facts: Mapping[str, Any]) -> Iterator[list[str | float | bool | None]]:
    yield [_("Base"), describe_base(journey_map)]
    for finding in list_findings(journey_map):
        yield [_("Finding"), finding]
    for note in list_notes(journey_map):
        yield [_("Note"), note]
    for name, value in facts.items():
        yield [name, json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value]


def _as_sheet(title: str, records: list[dict[str, Any]], names: tuple[str, ...]) -> Sheet:
    rows = [[record[name] for name in names] for record in records]
    return Sheet(title, list(names), rows, widths=[12 if name in _SHORT else 30 for name in names])
