"""What stands where in the file of a workshop, TOML or Excel; what it means is for `workshop.py`."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeylab.errors import RuleError, nearest
from journeylab.formats import format_name, shorten
from journeylab.sheets import rearm

#: The lanes that people fill.
KNOWN_LANES = ("expectations", "owner", "front_stage", "backstage", "support", "kpis")
#: The columns of a workshop's Excel file, by sheet.
SHEETS: Mapping[str, tuple[str, ...]] = {
    "stages": ("stage", "lane", "text", "evidence", "note"),
    "touchpoints": ("stage", "event", "channel", "cost", "effort", "evidence"),
    "path": ("event", "role", "optional", "repeatable"),
}
#: How somebody can know it, the surest first.
GRADES = ("stated", "assumed")
#: What an event of the planned path can be: the next step, another way to take the step above it, or of no matter.
ROLES = ("step", "or", "ignore")
#: What marks a step as optional or repeatable in Excel.
YES = ("yes", "x", "true", "1")
_PARTS, _ENTRY = ("stages", "touchpoints", "path"), ("text", "evidence", "note")
# Names must be those of the log, to the letter.
_EXACT = ("stage", "event", "channel")
_MOST_LISTED, _LONGEST_PLACE = 10, 60


@dataclass(frozen=True)
class Entry:
    """What stands at one place of the file."""

    place: str
    values: Mapping[str, Any]  # as written, of any type


@dataclass
class Found:
    """All that stands in a file: entries of lanes, touchpoints, and the planned path."""

    entries: list[Entry] = field(default_factory=list)
    touchpoints: list[Entry] = field(default_factory=list)
    path: Mapping[str, Any] | None = None  # as written, of any type


@dataclass
class Faults:
    """All that is wrong in a file, to be said at once."""

    name: str
    found: dict[tuple[str, str], None] = field(default_factory=dict)

    def add(self, place: str, what: str) -> None:
        """Keep what is wrong at a place."""
        self.found[shorten(place, _LONGEST_PLACE), shorten(what)] = None

    def check_name(self, place: str, name: str, what: str, known: tuple[str, ...]) -> None:
        """Keep that a name is none of the known ones."""
        if name not in known:
            self.add(place, f'no {what} "{format_name(name)}".{nearest(name, known)} Known: {", ".join(known)}')

    def raise_any(self) -> None:
        """Raise what was kept."""
        if not self.found:
            return
        n = len(self.found)
        width = max(len(place) for place, _what in self.found)
        lines = [f"  {place:{width}}  {what}" for place, what in self.found][:_MOST_LISTED]
        lines += [f"  … and {n - _MOST_LISTED:,} more"] if n > _MOST_LISTED else []
        entries = "1 entry" if n == 1 else f"{n:,} entries"
        raise RuleError("\n".join([f"{self.name}: {entries} cannot be used", *lines]))


def read_toml(path: Path, faults: Faults) -> Found:
    """Read a workshop's TOML file: `[stages.<stage>]`, `[[touchpoints]]` and `[path]`."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"{path.name} is not TOML: {error}") from error
    for name in raw:
        faults.check_name(name, name, "part", _PARTS)
    found = Found(path=_as_table(raw.get("path"), "path", faults))
    for stage, lanes in (_as_table(raw.get("stages"), "stages", faults) or {}).items():
        for lane, value in (_as_table(lanes, f"stages.{stage}", faults) or {}).items():
            faults.check_name(f"stages.{stage}.{lane}", lane, "lane", KNOWN_LANES)
            if lane in KNOWN_LANES:
                found.entries += _list_entries(stage, lane, value, faults)
    listed = raw.get("touchpoints", [])
    if not isinstance(listed, list):
        faults.add("touchpoints", "write each under [[touchpoints]], with two brackets")
        return found
    for number, each in enumerate(listed, 1):
        place = f"touchpoints[{number}]"
        named = _as_table(each, place, faults) or {}
        for name in named:
            faults.check_name(place, name, "key", SHEETS["touchpoints"])
        found.touchpoints.append(Entry(place, named))
    return found


def _list_entries(stage: str, lane: str, value: object, faults: Faults) -> Iterator[Entry]:
    """Take a text, a table, or a list of both apart."""
    place = f"stages.{stage}.{lane}"
    for number, each in enumerate(value if isinstance(value, list) else [value], 1):
        at = f"{place}[{number}]" if isinstance(value, list) else place
        given = each if isinstance(each, dict) else {"text": each}
        for name in given:
            faults.check_name(at, name, "key", _ENTRY)
        yield Entry(at, {**given, "stage": stage, "lane": lane})


def _as_table(value: object, place: str, faults: Faults) -> Mapping[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    faults.add(place, f"must be a table such as [{place}], found {value!r}")
    return None


def read_book(path: Path, faults: Faults) -> Found:
    """Read a workshop's Excel file; of its sheets those of `SHEETS`, in any order."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, data_only=True, read_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError) as error:
        raise RuleError(f"{path.name} is not an Excel file: {error}") from error
    try:
        if not set(book.sheetnames) & set(SHEETS):
            raise RuleError(f"{path.name}: no sheet of {', '.join(SHEETS)}; found {', '.join(book.sheetnames)}")
        entries, touchpoints, path_rows = (_read_sheet(book, sheet, faults) for sheet in SHEETS)
    finally:
        book.close()
    filled = [entry for entry in entries if entry.values.get("text") or entry.values.get("note")]
    return Found(filled, touchpoints, _gather_path(path_rows, faults))


# openpyxl has no types.
def _read_sheet(book: Any, sheet: str, faults: Faults) -> list[Entry]:
    if sheet not in book.sheetnames:
        return []
    rows = book[sheet].iter_rows(values_only=True)
    heads = [str(head).strip() if head is not None else "" for head in next(rows, ())]
    for head in filter(None, heads):
        faults.check_name(f"{sheet}, row 1", head, "column", SHEETS[sheet])
    entries = []
    for number, row in enumerate(rows, 2):
        values = {head: _trim(head, value) for head, value in zip(heads, row, strict=False) if head}
        if any(value not in ("", None) for value in values.values()):
            entries.append(Entry(f"{sheet}, row {number}", values))
    return entries


def _trim(head: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    return rearm(value) if head in _EXACT else rearm(value).strip()


def _gather_path(rows: Iterable[Entry], faults: Faults) -> Mapping[str, Any] | None:
    """Put the rows of the sheet together to a planned path."""
    steps: list[list[str]] = []
    ignored, marked = [], {"optional": set[int](), "repeatable": set[int]()}
    for row in rows:
        event, role = as_text(row.values.get("event")), row.values.get("role") or "step"
        faults.check_name(row.place, str(role), "role", ROLES)
        if not event:
            faults.add(row.place, "names no event")
        elif role == "ignore":
            ignored.append(event)
        elif role == "or" and steps:
            steps[-1].append(event)
        else:
            steps.append([event])
        for name, places in marked.items():
            if as_text(row.values.get(name)).lower() in YES and steps:
                places.add(len(steps) - 1)
    if not steps:
        return None
    labels = [" / ".join(names) for names in steps]
    named = {name: [labels[i] for i in sorted(places)] for name, places in marked.items()}
    return {"steps": steps, **named, "ignore": ignored}


def as_text(value: object) -> str:
    """Write what stands in a cell as text; an empty cell is none.

    Examples
    --------
    >>> as_text(None), as_text(12.0), as_text(0.5), as_text("a ")
    ('', '12', '0.5', 'a ')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
