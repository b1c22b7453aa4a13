"""Runs on disk: reading one, and the page that lists all that lie together."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from journeylab.errors import ReportError
from journeylab.language import common_language, use_language
from journeylab.locks import locked
from journeylab.picture import isolate, shorten
from journeylab.templates import RUNS_MARK, choose_figures, render_runs, write_parameter

#: What holds runs unless one says otherwise.
_USUAL = "reports"
# Runs are looked for so far down: reports/2026-10/pl/checkout.
_DEPTH = 3
_FAILED = ".failed"
_MOST_FIGURES, _MOST_LETTERS = 4, 400
# What a parameter is worth in a list; the report has it whole.
_MOST_LETTERS_ASKED = 120


def read_run(folder: str | Path) -> dict[str, Any]:
    """What does this run's run.json say?

    Raises
    ------
    ReportError
        There is none, or it is damaged.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise ReportError(f"{folder} is not a run: it has no run.json")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        entries = list(run["reports"].values())
        is_whole = isinstance(run["created"], str) and all(isinstance(entry["values"], dict) for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ReportError(f"{path} is damaged; remove the folder, or make the run anew in another one")
    return dict(run)


def write_indexes(folder: Path) -> None:
    """Rebuild the lists of runs that this run belongs to: beside it, and further up where there is one already.

    A list is kept as ``index.html`` where runs are kept: in a folder that is called ``reports``, has such a list, or
    has two runs in it. The folder one is in, one's home and the system's folder for temporary files do not get one for
    having two runs. A page that is not ours stays.
    """
    nearest, *above = folder.resolve().parents[:_DEPTH]
    for parent in (nearest, *above):
        # A folder above may be somebody else's: the run is whole without a list there.
        with contextlib.suppress(OSError):
            if _is_kept(parent, has_run=parent == nearest):
                _write_index(parent)


def _is_kept(folder: Path, *, has_run: bool) -> bool:
    page = folder / "index.html"
    if page.exists():
        return _is_ours(page)
    return folder.name == _USUAL or (has_run and _keeps_runs(folder))


def _keeps_runs(folder: Path) -> bool:
    if folder in {Path.cwd(), Path.home(), Path(tempfile.gettempdir()).resolve()}:
        return False
    return sum(path.name[0] != "." and (path / "run.json").is_file() for path in folder.iterdir()) > 1


def _is_ours(page: Path) -> bool:
    with page.open(encoding="utf-8", errors="replace") as file:
        return RUNS_MARK in file.read(2000)


def _write_index(folder: Path) -> None:
    # Who comes second reads after the first has written, so the last page knows both runs.
    with locked(folder):
        partial = folder / ".index.html.partial"
        runs = list_runs(folder)
        with use_language(common_language(report for run in runs for report in run["reports"])):
            partial.write_text(render_runs(folder.name, runs), encoding="utf-8", newline="\n")
        partial.replace(folder / "index.html")


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Which runs are there, and what is worth knowing of each? The newest first.

    Returns
    -------
    list of dict
        All as text: name, href, created, state ("whole", "failed", "damaged"), span (first and last day of the data),
        reports (a list of title, lang, href, headline, figures), parameters (pairs: those that differ from the
        notebook's default) and failed (pairs: a notebook's name and where it is kept as far as it came).
    """
    places = sorted(_find_runs(folder))
    return sorted((_describe(place, folder) for place in places), key=lambda run: run["created"], reverse=True)


def _find_runs(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield the folders of runs, also of those that have only failed."""
    for path in folder.iterdir():
        # Hidden: runs that are being made, and what a batch keeps.
        if path.name.startswith(".") or not path.is_dir() or path.is_symlink():
            continue
        if path.name.endswith(_FAILED) and any(path.glob("*.ipynb")):
            whole = path.with_name(path.name.removesuffix(_FAILED))
            if not (whole / "run.json").is_file():
                yield whole
        elif (path / "run.json").is_file():
            yield path
        elif depth > 1:
            with contextlib.suppress(OSError):
                yield from _find_runs(path, depth - 1)


def _describe(run: Path, folder: Path) -> dict[str, Any]:
    failures = run.with_name(run.name + _FAILED)
    failed = sorted(failures.glob("*.ipynb"))
    row: dict[str, Any] = {
        "name": _clean(run.relative_to(folder).as_posix()),
        "href": "",
        "created": "",
        "state": "failed",
        "span": [],
        "reports": [],
        "parameters": [],
        "failed": [(_clean(path.stem), _link(path, folder)) for path in failed],
    }
    if not (run / "run.json").is_file():
        return row
    try:
        # All of it or nothing: a damaged file must not take the other rows with it.
        return row | _describe_whole(run, folder) | {"state": "failed" if failed else "whole"}
    except (ReportError, OSError, KeyError, TypeError, AttributeError, ValueError):
        return row | {"state": "damaged"}


def _describe_whole(run: Path, folder: Path) -> dict[str, Any]:
    found = read_run(run)
    reports: list[dict[str, Any]] = []
    parameters: dict[str, str] = {}
    moments: list[str] = []
    for name, entry in found["reports"].items():
        data = entry.get("data") or {}
        moments += [_clean(data[end])[:10] for end in ("first", "last") if data.get(end)]
        parameters |= {
            key: _clean(write_parameter(entry["parameters"][key]), _MOST_LETTERS_ASKED)
            for key in entry.get("changed", [])
        }
        reports.append(
            {
                "title": _clean(entry.get("title") or name),
                "lang": _clean(entry.get("lang") or "en"),
                "href": _link(run / f"{name}.html", folder),
                "headline": _clean(entry["values"].get("headline") or ""),
                "figures": [
                    (_clean(label), _clean(value))
                    for label, value, is_number in choose_figures(entry["values"])
                    if is_number
                ][:_MOST_FIGURES],
            }
        )
    return {
        "href": _link(run / "index.html", folder),
        "created": _clean(found["created"])[:19],
        "span": [min(moments), max(moments)] if moments else [],
        "reports": reports,
        "parameters": [(_clean(key), value) for key, value in parameters.items()],
    }


def _clean(value: object, longest: int = _MOST_LETTERS) -> str:
    """Any text, as a page can hold it: of one line, not endless, and without bytes that are no characters."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    text = " ".join(value.encode("utf-8", "replace").decode().split())
    return isolate(shorten(text, longest)) if text else ""


def _link(path: Path, folder: Path) -> str:
    return quote(os.fsencode(path.relative_to(folder).as_posix()))
