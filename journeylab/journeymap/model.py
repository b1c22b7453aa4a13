"""A journey map: one tidy table of cells and the facts around it. All its pictures and files are made of this."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from journeylab.errors import ReportError, RuleError, nearest
from journeylab.language import mark as N_

#: The lanes from top to bottom, with what each is called.
LANES: Mapping[str, str] = {
    "steps": N_("Steps"),
    "touchpoints": N_("Touchpoints"),
    "channels": N_("Channels"),
    "reach": N_("Who gets here"),
    "time": N_("Time"),
    "drop_off": N_("Drop-off"),
    "feeling": N_("Feeling"),
    "said": N_("What they say"),
    "pain_points": N_("Pain points"),
    "expectations": N_("Expectations"),
    "owner": N_("Owner"),
    "front_stage": N_("Front stage"),
    "backstage": N_("Backstage"),
    "support": N_("Support"),
    "cost": N_("Cost"),
    "kpis": N_("Key figures"),
    "quick_wins": N_("Quick wins"),
}
#: How a cell is known, the surest first.
EVIDENCE = (N_("measured"), N_("stated"), N_("assumed"), N_("unknown"))
#: What a cell's value is: a share (0 to 1), seconds, a feeling (-1 to 1), customers or journeys, money, or text alone.
UNITS = ("share", "s", "feeling", "count", "money", "text")
COLUMNS = ("lane", "stage", "rank", "item", "value", "unit", "n", "low", "high", "evidence", "note")
MOMENTS = ("stage", "measure", "value", "value_other", "n", "difference", "low", "high", "p_adjusted", "is_moment")
#: Of the published schema of `to_json`; it changes when an older reader could not read the file.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class JourneyMap:
    """A journey map, filled from data and from what people know.

    Attributes
    ----------
    title : str
        Whose journey it is.
    stages : tuple of str
        In their order.
    lanes : tuple of str
        Of `LANES`, from top to bottom.
    cells : pandas.DataFrame
        One row per line of a cell: lane, stage, rank (int64, from 1 within the cell), item (text; names from data stay
        as they are, "(other)" is what was folded), value (float64, null for text), unit (of `UNITS`), n (float64: the
        base of the value; null where there is none), low, high (float64, 95 %), evidence ("measured", "stated",
        "assumed", "unknown"), note (text). A cell of which nothing is known has one row, "unknown".
    moments : pandas.DataFrame
        The moments that matter, and what else was tested: stage, measure ("feeling" or "drop_off"), value, value_other
        (of the other stages), n, difference, low, high, p_adjusted, is_moment (bool). A drop-off's base are the
        journeys that came to the stage before they had reached the goal; see `find_moments`.
    facts : dict
        What the map stands on: n_customers, n_journeys, n_open, n_without_stage (events that no stage has), first, last
        (ISO 8601), min_group, top, and worst (the pain points of all stages, the worst first: stage, touchpoint,
        channel, n_customers, severity, weight). Plain JSON.
    """

    title: str
    stages: tuple[str, ...]
    lanes: tuple[str, ...]
    cells: pd.DataFrame = field(repr=False)
    moments: pd.DataFrame = field(repr=False)
    facts: dict[str, Any] = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JourneyMap) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def cell(self, lane: str, stage: str) -> pd.DataFrame:
        """What does the map say in this lane at this stage? Its rows of `cells`, by rank."""
        return self.cells[(self.cells["lane"] == lane) & (self.cells["stage"] == stage)]

    def _repr_html_(self) -> str:
        from journeylab.map_picture import draw_map

        return draw_map(self)._repr_html_()

    def to_html(self) -> str:
        """Write the map as one page that needs nothing beside it."""
        from journeylab.map_page import map_html

        return map_html(self)

    def to_svg(self) -> str:
        """Draw the map as one SVG."""
        from journeylab.svg_map import map_svg

        return map_svg(self)

    def to_mermaid(self) -> str:
        """Write the map as a Mermaid `journey`."""
        from journeylab.map_formats import map_mermaid

        return map_mermaid(self)

    def to_cjml(self) -> str:
        """Write the map in CJML, the Customer Journey Modeling Language, as XML."""
        from journeylab.map_formats import map_cjml

        return map_cjml(self)

    def to_drawio(self) -> str:
        """Write the map for draw.io, stages across and lanes down."""
        from journeylab.map_drawio import map_drawio

        return map_drawio(self)

    def to_xlsx(self, path: str | Path) -> Path:
        """Write the map to an Excel file, whose grid can be pasted into a whiteboard."""
        from journeylab.map_sheets import write_map_sheets

        return write_map_sheets(self, path)

    def to_json(self) -> str:
        """Write the map as JSON (`journeymap.schema.json`), the same bytes for the same map; `load_map` reads it."""
        content = {
            "format": FORMAT,
            "title": self.title,
            "stages": list(self.stages),
            "lanes": list(self.lanes),
            "facts": plain_facts(self.facts),
            "cells": _as_records(self.cells),
            "moments": _as_records(self.moments),
        }
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def load_map(source: str | Path) -> JourneyMap:
    """Read a map that `JourneyMap.to_json` wrote: a path, or the text itself.

    Raises
    ------
    ReportError
        It is not one, or of another format.
    """
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    name = "this text" if is_text else str(source)
    try:
        text = str(source) if is_text else Path(source).read_text(encoding="utf-8")
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ReportError(f"{name} is a journey map of format {found['format']}; this version reads {FORMAT}")
        return JourneyMap(
            found["title"],
            tuple(found["stages"]),
            tuple(found["lanes"]),
            tidy_cells(found["cells"]),
            tidy_moments(found["moments"]),
            found["facts"],
        )
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{name} is not a journey map: {type(error).__name__} {error}") from None


def tidy_cells(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Give a map's cells their columns and types."""
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ["value", "n", "low", "high"]
    cells[numbers] = cells[numbers].astype("float64")
    cells["rank"] = cells["rank"].astype("int64")
    texts = ["lane", "stage", "item", "unit", "evidence", "note"]
    cells[texts] = cells[texts].astype("str")
    return cells


def tidy_moments(rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Give a map's moments their columns and types."""
    moments = pd.DataFrame(rows, columns=list(MOMENTS))
    numbers = ["value", "value_other", "n", "difference", "low", "high", "p_adjusted"]
    moments[numbers] = moments[numbers].astype("float64")
    moments[["stage", "measure"]] = moments[["stage", "measure"]].astype("str")
    moments["is_moment"] = moments["is_moment"].astype("bool")
    return moments


def check_lanes(lanes: Sequence[str] | None) -> tuple[str, ...]:
    """Which lanes shall the map have? All, or those named, in the order they are named."""
    if lanes is None:
        return tuple(LANES)
    if isinstance(lanes, str) or not lanes:
        raise RuleError(f"build_map: lanes must be a list of lanes, such as {list(LANES)[:3]}; found {lanes!r}")
    for lane in lanes:
        if lane not in LANES:
            raise RuleError(f'build_map: no lane "{lane}".{nearest(lane, LANES)} Known: {", ".join(LANES)}')
    return tuple(dict.fromkeys(lanes))


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON has them, so that a map is the same before it is written and after it is read."""
    worst = [{name: _plain(value) for name, value in row.items()} for row in facts.get("worst", [])]
    return {name: _plain(value) for name, value in facts.items()} | ({"worst": worst} if "worst" in facts else {})


def _as_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """A cell of a frame as JSON has it; ten digits, which is more than is known, make the same bytes everywhere."""
    if isinstance(value, float):
        # Adding 0 makes 0 of -0.
        return None if math.isnan(value) else float(f"{round(value, 12):.10g}") + 0.0
    return value
