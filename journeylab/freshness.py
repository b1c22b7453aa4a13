"""Is a report still what it would be if it were made again?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from journeylab.parameters import Notebook

_PACKAGE = Path(__file__).parent
# The pages and the languages are code, too.
_CODE = frozenset((".py", ".j2", ".js", ".po"))


def describe_making(notebook: Notebook, parameters: Mapping[str, object]) -> dict[str, Any]:
    """What was this report made from, besides its parameters?

    Parameters
    ----------
    parameters
        All of them, those with their default value too.

    Returns
    -------
    dict
        Hashes: ``notebook`` of its cells (not their outputs), ``code`` of journeylab itself, and ``inputs`` of the
        files that each parameter names. By content: a file that was copied, fetched or touched again is the same file,
        and one that was changed is another, whatever its size and time. Reading it costs little beside the report.
    """
    inputs = {}
    for parameter in notebook.parameters:
        files = sorted(_find_files(parameters[parameter.name], is_path="Path" in parameter.annotation))
        if files:
            inputs[parameter.name] = _hash([str(path), _hash_file(path)] for path in files)
    return {"notebook": _hash_cells(notebook.path), "code": _hash_code(), "inputs": inputs}


def _find_files(value: object, *, is_path: bool) -> Iterator[Path]:
    """Yield the files that a parameter names. Any text may name one (a rules file), only a path a folder or a glob."""
    if isinstance(value, list):
        for each in value:
            yield from _find_files(each, is_path=is_path)
    elif isinstance(value, str) and value and "\0" not in value:
        try:
            is_file = Path(value).is_file()
        except OSError:  # such as a text that is too long for a name
            return
        if is_file:
            yield Path(value)
        elif is_path:
            yield from _find_many(value)


def _find_many(pattern: str) -> list[Path]:
    from journeylab.errors import JourneylabError
    from journeylab.sources.files import find_files

    try:
        return find_files(pattern)
    except JourneylabError:  # no such file: the notebook will say so, or it is the name of a log that ships with us
        return []


def _hash_cells(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return _hash([cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells)


def _hash_code() -> str:
    files = sorted(path for path in _PACKAGE.rglob("*") if path.suffix in _CODE)
    return _hash([str(path.relative_to(_PACKAGE)), _hash_file(path)] for path in files)


def _hash_file(path: Path) -> str:
    about = path.stat()
    # The time of the last change to the file itself cannot be set back, as that of its content can.
    return _hash_content(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@cache
def _hash_content(path: Path, *unchanged: int) -> str:
    """Read a file once for all the reports that a plan makes of it, as long as it is the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(parts: Iterator[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]
