"""What people know of a journey and no log does: expectations, owners, what is behind the stage, costs and efforts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.errors import RuleError
from journeylab.journeymap.workshop_files import GRADES, KNOWN_LANES, Entry, Faults, as_text, read_book, read_toml

if TYPE_CHECKING:
    from journeylab.planned_path import PlannedPath
    from journeylab.rules import JourneyRules

_PATH = ("steps", "optional", "repeatable", "ignore")


@dataclass(frozen=True, eq=False)
class Workshop:
    """What a workshop or interviews brought.

    Attributes
    ----------
    rows : pandas.DataFrame
        lane ("expectations", "owner", "front_stage", "backstage", "support" or "kpis"), stage, item (the text),
        evidence ("stated": somebody said so in an interview; "assumed": the workshop thinks so), note (who said it).
    touchpoints : pandas.DataFrame
        stage, event, channel (empty: any), cost (money per contact; null where unknown), effort (of a fix, in any one
        unit; null where unknown), evidence.
    path : PlannedPath or None
        The way that was planned, for `check_conformance`.
    """

    rows: pd.DataFrame
    touchpoints: pd.DataFrame
    path: PlannedPath | None = None

    @classmethod
    def empty(cls) -> Workshop:
        """Nothing is known."""
        return cls(_as_rows([]), _as_touchpoints([]))


def read_workshop(path: str | Path, rules: JourneyRules | None = None) -> Workshop:
    """What did people write into the template?

    Parameters
    ----------
    path
        A TOML or Excel file that `write_template` began. What is left empty there is unknown.
    rules
        If given, each stage must be one of theirs; `build_map` checks that in any case.

    Returns
    -------
    Workshop
        Entries without a grade of evidence are "assumed". Touchpoints without cost and effort are left out.

    Raises
    ------
    RuleError
        The file is not there or cannot be read, or entries cannot be used: all of them are named, with their place.
    """
    path = Path(path)
    if not path.exists():
        raise RuleError(f'no workshop at "{path}": the file does not exist; journeylab map-template writes one')
    reader = {".toml": read_toml, ".xlsx": read_book}.get(path.suffix.lower())
    if reader is None:
        raise RuleError(f'{path.name}: a workshop is a .toml or .xlsx file, found "{path.suffix}"')
    faults = Faults(path.name)
    found = reader(path, faults)
    rows = [_read_entry(entry, faults) for entry in found.entries]
    touchpoints = _read_touchpoints(found.touchpoints, faults)
    planned = _read_path(found.path, faults)
    if rules is not None:
        for entry in [*found.entries, *found.touchpoints]:
            if (stage := as_text(entry.values.get("stage"))) and stage not in rules.stages:
                faults.check_name(entry.place, stage, "stage", rules.stages)
    faults.raise_any()
    return Workshop(_as_rows([row for row in rows if row["item"]]), _as_touchpoints(touchpoints), planned)


def _read_entry(entry: Entry, faults: Faults) -> dict[str, str]:
    values = entry.values
    stage, lane, text, note = (values.get(name) for name in ("stage", "lane", "text", "note"))
    faults.check_name(entry.place, as_text(lane), "lane", KNOWN_LANES)
    if not as_text(stage):
        faults.add(entry.place, "names no stage")
    for name, value in (("text", text), ("note", note)):
        if isinstance(value, bool | dict | list):
            faults.add(entry.place, f"{name} must be text, found {value!r}")
    if as_text(note).strip() and not as_text(text).strip():
        faults.add(entry.place, "has a note, but no text")
    written = {"item": as_text(text).strip(), "note": as_text(note).strip(), "evidence": _read_grade(entry, faults)}
    return {"lane": as_text(lane), "stage": as_text(stage)} | written


def _read_grade(entry: Entry, faults: Faults) -> str:
    grade = as_text(entry.values.get("evidence")).strip() or "assumed"
    faults.check_name(entry.place, grade, "grade of evidence", GRADES)
    return grade


def _read_touchpoints(entries: list[Entry], faults: Faults) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    seen: dict[tuple[str, ...], str] = {}
    for entry in entries:
        names = {name: as_text(entry.values.get(name)) for name in ("stage", "event", "channel")}
        for name in ("stage", "event"):
            if not names[name]:
                faults.add(entry.place, f"names no {name}")
        first = seen.setdefault(tuple(names.values()), entry.place)
        if first != entry.place:
            faults.add(entry.place, f"is the same touchpoint as {first}: its cost would count twice")
        cost, effort = _read_figure(entry, "cost", faults), _read_figure(entry, "effort", faults)
        grade = _read_grade(entry, faults)
        # The template names touchpoints of which nobody may know more.
        if cost is not None or effort is not None:
            rows.append({**names, "cost": cost, "effort": effort, "evidence": grade})
    return rows


def _read_figure(entry: Entry, name: str, faults: Faults) -> float | None:
    value = entry.values.get(name)
    if value is None or value == "":
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    # A gain is divided by its effort.
    if not is_number or value < 0 or (value == 0 and name == "effort"):
        least = "more than 0" if name == "effort" else "0 or more"
        faults.add(entry.place, f"{name} must be a number, {least}; found {value!r}")
        return None
    return float(value)


def _read_path(given: Mapping[str, Any] | None, faults: Faults) -> PlannedPath | None:
    if given is None:
        return None
    from journeylab.planned_path import PlannedPath

    for name in given:
        faults.check_name("path", name, "key", _PATH)
    if "steps" not in given:
        faults.add("path", 'steps are missing, such as steps = ["visit", "cart", "pay"]')
        return None
    try:
        return PlannedPath(**{name: value for name, value in given.items() if name in _PATH})
    except RuleError as error:
        faults.add("path", str(error).removeprefix("PlannedPath: "))
        return None


def _as_rows(rows: list[dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["lane", "stage", "item", "evidence", "note"], dtype="str")


def _as_touchpoints(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["stage", "event", "channel", "evidence", "cost", "effort"])
    kinds = dict.fromkeys(("stage", "event", "channel", "evidence"), "str") | dict.fromkeys(
        ("cost", "effort"), "float64"
    )
    return table.astype(kinds)
