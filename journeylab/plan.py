"""A plan: which notebooks with which parameters into which folders, from TOML, checked before anything starts."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from journeylab.errors import ParameterError, ReportError, nearest
from journeylab.parameters import Notebook, match_parameters, read_notebook

_KEYS = ("notebooks", "out", "parameters", "matrix")
_PLACE = re.compile(r"\{(\w+)\}")
_SCALARS = (str, bool, int, float, date, datetime, time)


@dataclass(frozen=True)
class Task:
    """One report of a plan: a notebook, the parameters given to it, and the folder of its run."""

    notebook: Notebook
    parameters: Mapping[str, object]
    out: Path

    @property
    def name(self) -> str:
        """How the report is called where many are listed."""
        return str(self.out / self.notebook.name)


@dataclass(frozen=True)
class Plan:
    """All reports of a plan in its order, and the folder that holds their runs."""

    tasks: tuple[Task, ...]
    root: Path


@dataclass(frozen=True)
class _Choice:
    """One place on an axis of the matrix: its name in paths, and the parameters that it sets."""

    name: str
    parameters: Mapping[str, object]


def read_plan(path: str | Path) -> Plan:
    """Which reports does this plan ask for?

    Parameters
    ----------
    path
        A TOML file; `run_batch` says what is in it.

    Raises
    ------
    ReportError
        The plan itself is at fault: a key, the matrix, or folders in which runs would meet.
    ParameterError
        A parameter is unknown or has the wrong type; lists all of all runs.
    """
    path = Path(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} is not TOML: {error}") from None
    for key in found:
        if key not in _KEYS:
            raise ReportError(f'{path}: "{key}" is unknown.{nearest(key, _KEYS)} Known: {", ".join(_KEYS)}')
    notebooks = _read_notebooks(found.get("notebooks"), path)
    shared = _expect_table(found, "parameters", path)
    axes = {name: _read_axis(name, choices, path) for name, choices in _expect_table(found, "matrix", path).items()}
    _check_axes(axes, path)
    default = "-".join(f"{{{name}}}" for name in axes) or path.stem
    template = found.get("out", f"reports/{default}")
    if not isinstance(template, str) or not template:
        raise ReportError(f'{path}: out must be text such as "reports/{default}", found {template!r}')
    cells = list(product(*axes.values()))
    outs = _find_places(template, axes, cells, path)
    tasks = _match(notebooks, [_merge(shared, cell) for cell in cells], outs, path)
    # The folder above the first that differs from run to run.
    fixed = Path(template.split("{")[0] + "_").parent if "{" in template else Path(template).parent
    return Plan(tuple(tasks), fixed)


def _read_notebooks(found: object, path: Path) -> dict[str, Notebook]:
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise ReportError(f'{path} must say which notebooks to run, such as notebooks = ["data_check", "drop_off"]')
    notebooks = {notebook.name: notebook for notebook in map(read_notebook, found)}
    if len(notebooks) < len(found):
        raise ReportError(f"{path}: each report needs its own name, found {', '.join(found)}")
    return notebooks


def _expect_table(found: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    table = found.get(key, {})
    if not isinstance(table, dict):
        raise ReportError(f"{path}: {key} must be a table, written under [{key}]; found {table!r}")
    return table


def _read_axis(name: str, choices: object, path: Path) -> list[_Choice]:
    """Read values of one parameter, or tables that set several and have a name."""
    where = f"{path}, matrix, {name}"
    if not isinstance(choices, list) or not choices:
        raise ReportError(f"{where}: expected a list of values, or tables under [[matrix.{name}]]; found {choices!r}")
    read = []
    for choice in choices:
        if isinstance(choice, dict):
            called = choice.get("name")
            if not isinstance(called, _SCALARS):
                raise ReportError(f'{where}: each table needs a name for the folder, such as name = "a"')
            read.append(_Choice(_as_text(called), {key: value for key, value in choice.items() if key != "name"}))
        elif isinstance(choice, _SCALARS):
            read.append(_Choice(_as_text(choice), {name: choice}))
        else:
            raise ReportError(f"{where}: {choice!r} has no name; write it as [[matrix.{name}]] with a name")
        # A part of a folder's name that is one, can be seen, and is not what a failed run is called.
        if not re.fullmatch(r"(?!\.)[^/\\\x00-\x1f]+(?<!\.failed)", read[-1].name):
            raise ReportError(
                f'{where}: "{read[-1].name}" cannot be part of a folder\'s name; write [[matrix.{name}]] with a name'
            )
    return read


def _check_axes(axes: Mapping[str, Sequence[_Choice]], path: Path) -> None:
    """Refuse a parameter that two axes set: which one would win?"""
    setters: dict[str, set[str]] = {}
    for name, choices in axes.items():
        for choice in choices:
            for parameter in choice.parameters:
                setters.setdefault(parameter, set()).add(name)
    for parameter, names in setters.items():
        if len(names) > 1:
            raise ReportError(f"{path}, matrix: {' and '.join(sorted(names))} both set {parameter}; let one of them")


def _find_places(
    template: str, axes: Mapping[str, object], cells: Sequence[Sequence[_Choice]], path: Path
) -> list[Path]:
    """Return the folder of each run; no two may meet."""
    for place in _PLACE.findall(template):
        if place not in axes:
            known = ", ".join(f"{{{name}}}" for name in axes) or "none, for there is no matrix"
            raise ReportError(f"{path}: out has {{{place}}}.{nearest(place, axes)} Known: {known}")
    outs: list[Path] = []
    taken: dict[str, dict[str, str]] = {}
    for cell in cells:
        values = dict(zip(axes, (choice.name for choice in cell), strict=True))
        out = Path(_PLACE.sub(partial(_fill, values), template))
        # Some file systems do not tell A from a.
        other = taken.setdefault(str(out).casefold(), values)
        if other is not values:
            missing = [name for name in axes if other[name] != values[name] and f"{{{name}}}" not in template]
            hint = f"add {{{missing[0]}}} to out" if missing else "give each a name of its own"
            told = " and ".join(", ".join(f"{key} {value}" for key, value in each.items()) for each in (other, values))
            raise ReportError(f"{path}: two runs would share the folder {out}: {told}; {hint}")
        outs.append(out)
    return outs


def _fill(values: Mapping[str, str], place: re.Match[str]) -> str:
    return values[place[1]]


def _merge(shared: Mapping[str, object], cell: Sequence[_Choice]) -> dict[str, object]:
    """The matrix says more exactly what [parameters] says for all."""
    merged = dict(shared)
    for choice in cell:
        merged |= choice.parameters
    return merged


def _match(
    notebooks: Mapping[str, Notebook], given: Sequence[Mapping[str, object]], outs: Sequence[Path], path: Path
) -> list[Task]:
    """Check all parameters of all runs; each notebook takes those that it knows."""
    known = {name: notebook.parameters for name, notebook in notebooks.items()}
    tasks: list[Task] = []
    problems: dict[str, None] = {}
    for parameters, out in zip(given, outs, strict=True):
        try:
            matched = match_parameters(known, {key: _as_text(value) for key, value in parameters.items()}, text=True)
        except ParameterError as error:
            # Mostly the same in all runs: told once.
            problems[str(error)] = None
            continue
        tasks += [Task(notebook, matched[name], out) for name, notebook in notebooks.items()]
    if problems:
        raise ParameterError(f"{path}: " + "\n".join(problems))
    return tasks


def _as_text(value: object) -> str:
    """Write a value of TOML as one would on the command line, which is how it is read."""
    if isinstance(value, str):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list):
        return json.dumps([_as_text(each) for each in value], ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)
