"""A journey map in other tools' words: Mermaid for Markdown, CJML for journey editors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from journeylab.errors import ReportError
from journeylab.formats import clean, shorten
from journeylab.language import gettext as _
from journeylab.map_words import (
    describe_base,
    describe_map,
    name_item,
    name_map,
    write_base,
    write_interval,
    write_note,
    write_value,
)
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from journeylab.journeymap import JourneyMap

    Row = Mapping[Hashable, Any]  # one row of a tidy frame: text and figures side by side
    # What is known in a lane at a stage.
    Cells = dict[tuple[str, str], list[Row]]

_SEPARATOR, _OTHER, _NONE = " · ", "(other)", "(none)"
# Mermaid refuses longer texts (`maxTextSize`, which a diagram may not change itself).
_MOST_TEXT = 50_000
# How long names and how many tasks of a stage may be, until all is short enough.
_ROOM = ((60, 10), (30, 6), (15, 3), (8, 1))
# What Mermaid's grammar, its entities, its mathematics or its HTML would take for its own.
_MEANT = re.compile(r"""["#$%&:;<>@\[\\\]^`{|}~ﬂ¶]""")
# A task must not begin like a statement.
_KEYWORD = re.compile("journey|title|section|acctitle|accdescr", re.IGNORECASE)


def map_mermaid(journey_map: JourneyMap) -> str:
    """Write the map as a Mermaid user journey, which GitHub, JupyterLab and many wikis draw.

    A section per stage with the stage's most frequent steps as tasks. The score of each is the feeling at the stage,
    from 1 (-1) to 5 (1); where it is not known, the section says so and the faces are neutral. Beside a task stand the
    channels in which it is frequent, or whose journey it is.

    Raises
    ------
    ReportError
        The map has more stages than Mermaid reads.
    """
    cells = group_cells(journey_map)
    for longest, most in _ROOM:
        text = "\n".join(_list_statements(journey_map, cells, longest, most)) + "\n"
        if len(text.encode("utf-16-le")) // 2 <= _MOST_TEXT:
            return text
    raise ReportError(
        f"map_mermaid: {len(journey_map.stages):,} stages are more than the {_MOST_TEXT:,} letters that Mermaid reads "
        "can hold; draw a map of fewer stages, or write it with to_drawio()"
    )


def _list_statements(journey_map: JourneyMap, cells: Cells, longest: int, most: int) -> Iterator[str]:
    title = _escape(name_map(journey_map), 2 * longest)
    yield "journey"
    yield "    %% " + _("Faces: the feeling at the stage, from 1 (worst) to 5 (best).")
    yield f"    accTitle: {title}"
    yield f"    accDescr: {_escape(f'{describe_base(journey_map)}. {describe_map(journey_map)}', 10 * longest)}"
    yield f"    title {title}"
    ways, whose = _list_channels(cells), [journey_map.title] if journey_map.title.strip() else []
    for stage in journey_map.stages:
        feeling = _find_feeling(cells, stage)
        name = clean(word_of(stage))
        label = name if feeling is not None else _("{stage} (feeling unknown)", stage=shorten(name, longest))
        yield f"    section {_escape(label, 2 * longest)}"
        score = 3 if feeling is None else rate_feeling(feeling)
        for task, actors in _list_tasks(cells, stage, ways, most):
            names = ", ".join(_escape(actor, longest).replace(",", "#44;") for actor in actors or whose)
            yield f"      {_escape_task(task, longest)}: {score}" + (f": {names}" if names else "")


def _list_tasks(cells: Cells, stage: str, ways: Sequence[str], most: int) -> Iterator[tuple[str, Sequence[str]]]:
    steps = [row["item"] for row in _list_named(cells, "steps", stage)]
    touched = [split_touchpoint(row["item"], ways) for row in _list_named(cells, "touchpoints", stage)]
    # A stage without a task would not be drawn.
    for step in list(dict.fromkeys(steps or [event for event, _way in touched]))[:most] or [_("no steps known")]:
        found = [word_of(way, "channel") for event, way in touched if event == step and way]
        yield word_of(step, "event"), found[:most]


def _escape(text: str, longest: int) -> str:
    """Write a name so that Mermaid shows just that: what it would read as its own goes by number."""
    return _MEANT.sub(lambda found: f"#{ord(found[0])};", shorten(text, longest))


def _escape_task(text: str, longest: int) -> str:
    name = _escape(text, longest)
    return f"#{ord(name[0])};{name[1:]}" if _KEYWORD.match(name) else name


def rate_feeling(feeling: float) -> int:
    """How many of five points is a feeling (-1 to 1)?

    Examples
    --------
    >>> [rate_feeling(feeling) for feeling in (-1, -0.3, 0, 0.6, 1)]
    [1, 2, 3, 4, 5]
    """
    return min(max(round(3 + 2 * feeling), 1), 5)


def _find_feeling(cells: Cells, stage: str) -> float | None:
    """What is felt at this stage (-1 to 1)? None where it is not known."""
    rows = cells.get(("feeling", stage), [])
    return float(rows[0]["value"]) if rows and not math.isnan(rows[0]["value"]) else None


def group_cells(journey_map: JourneyMap) -> Cells:
    """Gather the lines of each cell, by rank; cells of which nothing is known are left out."""
    known = journey_map.cells[journey_map.cells["evidence"] != "unknown"].sort_values("rank", kind="stable")
    cells: Cells = {}
    for row in known.to_dict("records"):
        cells.setdefault((row["lane"], row["stage"]), []).append(row)
    return cells


def _list_named(cells: Cells, lane: str, stage: str) -> list[Row]:
    return [row for row in cells.get((lane, stage), []) if row["item"] != _OTHER]


def _list_channels(cells: Cells) -> list[str]:
    names = {str(row["item"]) for (lane, _stage), rows in cells.items() if lane == "channels" for row in rows}
    return sorted(names - {_OTHER, ""}, key=lambda name: (-len(name), name))


def split_touchpoint(item: str, channels: Sequence[str]) -> tuple[str, str]:
    """Split "event · channel", the item of a touchpoint; `channels` are the known ones, the longest first.

    Examples
    --------
    >>> split_touchpoint("call · back · desk · phone", ["desk · phone"])
    ('call · back', 'desk · phone')
    >>> split_touchpoint("call · phone", []), split_touchpoint("call · (none)", []), split_touchpoint("call", [])
    (('call', 'phone'), ('call', ''), ('call', ''))
    """
    event, mark, channel = item.rpartition(_SEPARATOR)
    for known in channels:
        if item.endswith(f"{_SEPARATOR}{known}"):
            event, channel = item.removesuffix(f"{_SEPARATOR}{known}"), known
            break
    return (event, "" if channel == _NONE else channel) if mark else (item, "")


def list_lines(rows: Sequence[Row]) -> list[str]:
    """Write the lines of a cell, and below them on what they stand."""
    grounds = [_write_ground(row) for row in rows]
    lines = [_write_line(row) for row in rows]
    if len(set(grounds)) <= 1:
        return [*lines, *(f"[{ground}]" for ground in grounds[:1])]
    return [f"{line} [{ground}]" for line, ground in zip(lines, grounds, strict=True)]


def _write_line(row: Row) -> str:
    value, interval, note = write_value(row), write_interval(row), write_note(row)
    figure = f"{value} ({interval})" if value and interval else value
    line = ": ".join(filter(None, (name_item(row), figure)))
    return f"{line} – {note}" if note else line


def _write_ground(row: Row) -> str:
    return _SEPARATOR.join(filter(None, (_(row["evidence"]), write_base(row))))


def map_cjml(journey_map: JourneyMap) -> str:
    """Write the map as an actual journey in CJML 2.0, SINTEF's language for customer journeys (https://cjml.no).

    A phase per stage, a communication point per touchpoint with its channel (an action where no channel is known), its
    figures as comment and the feeling at its stage as rating from 1 to 5. There is no public schema: the elements are
    those of the published example and of SINTEF's own writers.
    """
    cells = group_cells(journey_map)
    root = ElementTree.Element("CJML", version="2.0")
    journey = ElementTree.SubElement(root, "actualJourney")
    _add(journey, "journeyID", "AJ1")
    _add(journey, "journeyTitle", name_map(journey_map))
    phases = ElementTree.SubElement(journey, "journeyPhases")
    for number, stage in enumerate(journey_map.stages, 1):
        phase = ElementTree.SubElement(phases, "journeyPhase", phaseID=f"P{number}")
        _add(phase, "phaseName", word_of(stage))
        _add(phase, "phaseDescription", "; ".join(list_lines(cells.get(("reach", stage), []))))
    _add(journey, "journeyShortSummary", f"{describe_base(journey_map)}. {describe_map(journey_map)}")
    actors = ElementTree.SubElement(journey, "actors")
    _add(ElementTree.SubElement(actors, "endUser", actorID="A1"), "actorName", journey_map.title or _("Customer"))
    _add(ElementTree.SubElement(actors, "serviceProvider", actorID="A2"), "companyName", _("Company"))
    points = ElementTree.SubElement(journey, "touchpoints")
    ways = _list_channels(cells)
    for number, stage in enumerate(journey_map.stages, 1):
        for row in _list_named(cells, "touchpoints", stage) or _list_named(cells, "steps", stage):
            event, way = split_touchpoint(row["item"], ways) if row["lane"] == "touchpoints" else (row["item"], "")
            point = ElementTree.SubElement(points, "actualCommunicationPoint" if way else "actualAction")
            _add(point, "touchpointID", f"T{len(points)}")
            ElementTree.SubElement(point, "belongsTo", phaseIDref=f"P{number}")
            _fill_point(point, word_of(event, "event"), word_of(way, "channel"))
            _add(point, "comment", f"{_write_line(row)} [{_write_ground(row)}]")
            _add_experience(point, cells, stage)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _fill_point(point: ElementTree.Element, event: str, way: str) -> None:
    # Who began is not in a log; the customer is at each of these points, that much is known.
    sides = (("initiator", "A1"), ("receiver", "A2")) if way else (("initiator", "A1"),)
    for side, actor in sides:
        element = ElementTree.SubElement(point, side)
        ElementTree.SubElement(element, "refersTo", actorIDref=actor)
        _add(element, f"{side}Label", event)
    if way:
        _add(ElementTree.SubElement(point, "channel"), "channelName", way)


def _add_experience(point: ElementTree.Element, cells: Cells, stage: str) -> None:
    feeling = _find_feeling(cells, stage)
    if feeling is not None:
        experience = ElementTree.SubElement(point, "touchpointExperience")
        _add(experience, "experienceDescription", "; ".join(list_lines(cells["feeling", stage])))
        _add(experience, "experienceRating", str(rate_feeling(feeling)))


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = clean(text)
