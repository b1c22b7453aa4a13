"""A report: a notebook run with parameters, whole or not at all, and read as one HTML file that asks for nothing."""

from __future__ import annotations

import ctypes
import glob
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from journeylab import __version__
from journeylab.disclosure import MASK, mask_secrets
from journeylab.errors import ReportError
from journeylab.freshness import describe_making
from journeylab.kernels import kernel_manager, without_url_grammar
from journeylab.language import Language, common_language, gettext, translate_markdown, use_language
from journeylab.locks import locked
from journeylab.parameters import Notebook, find_notebooks, match_parameters, read_notebook
from journeylab.recording import RECORD_MIME
from journeylab.runs import read_run, write_indexes
from journeylab.templates import render_report, render_run

if TYPE_CHECKING:
    import pandas as pd

#: Called with the notebook's name, the cells done and the cells in all.
Progress = Callable[[str, int, int], None]
# What run.json holds: whatever JSON allows.
Json = dict[str, Any]

_PARTS = {
    "pandas": "pandas",
    "duckdb": "duckdb",
    "ibis": "ibis-framework",
    "numpy": "numpy",
    "scikit-learn": "scikit-learn",
    "statsmodels": "statsmodels",
    "matplotlib": "matplotlib",
    "seaborn": "seaborn",
    "papermill": "papermill",
    "nbconvert": "nbconvert",
}
_WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
_REPORT_FILES = frozenset((".html", ".ipynb", ".pdf"))
# A kernel that died and `sys.exit(0)` both look like success: only a run that shows this came to its end.
_END_TAG = "journeylab-end"
_END = "journeylab: end of the notebook"


@dataclass(frozen=True)
class ReportRun:
    """One report that was made.

    Attributes
    ----------
    name : str
        The notebook's name.
    folder : pathlib.Path
        The run's folder, with `run.json`, `index.html` and the tables.
    html : pathlib.Path
        The report: one file.
    values : dict
        What the notebook recorded.
    seconds : float
        How long the notebook ran.
    """

    name: str
    folder: Path
    html: Path
    values: dict[str, Any] = field(repr=False)
    seconds: float


def list_notebooks() -> pd.DataFrame:
    """Which notebooks are there, and which question does each answer?

    Returns
    -------
    pandas.DataFrame
        name, title, question.
    """
    import pandas as pd

    notebooks = [read_notebook(path) for path in find_notebooks().values()]
    return pd.DataFrame(
        [(notebook.name, notebook.title, notebook.question) for notebook in notebooks],
        columns=["name", "title", "question"],
    )


def run_report(
    name: str | Path,
    parameters: Mapping[str, object] | None = None,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> ReportRun:
    """Run one notebook with these parameters and keep the report in the folder `out`.

    Parameters
    ----------
    name
        One of `list_notebooks`, or a path to an ``.ipynb`` file.
    parameters
        Values by name; the others keep their defaults. Checked before anything starts.
    out
        The run's folder: new, empty, or an earlier run, whose other reports stay in it. It changes in one step,
        when the report is whole.
    progress
        Called with the notebook's name, the cells done and the cells in all.

    Raises
    ------
    ParameterError
        A parameter is unknown or has the wrong type; nothing was started.
    ReportError
        The notebook failed; `out` is as it was, and the notebook as far as it came is in ``<out>.failed``.
    """
    return run_reports([name], parameters, out=out, progress=progress)[0]


def run_reports(
    names: Sequence[str | Path],
    parameters: Mapping[str, object] | None = None,
    *,
    out: str | Path,
    text: bool = False,
    progress: Progress | None = None,
) -> list[ReportRun]:
    """Run several notebooks into one folder, all or none; each takes the parameters that it knows.

    Like `run_report`; `text` says that the parameters come as text (see `check_parameters`).
    """
    notebooks = {notebook.name: notebook for notebook in map(read_notebook, names)}
    if len(notebooks) < len(names):
        raise ReportError(f"each report needs its own name, found {', '.join(Path(name).stem for name in names)}")
    if "index" in notebooks:
        raise ReportError('a notebook cannot be called "index": index.html is the run\'s own page')
    folder = Path(out).resolve()
    check_folder(folder)
    # The caller's own words, unless these name no folder (such as ".").
    out = folder if Path(out).name in {"", ".."} else Path(out)
    known = {name: notebook.parameters for name, notebook in notebooks.items()}
    given = match_parameters(known, parameters or {}, text=text)
    try:
        with _workspace(folder) as work:
            entries = {}
            for name, notebook in notebooks.items():
                entries[name] = _make_report(notebook, given[name], work, out=out, progress=progress)
            _publish(work, folder, entries)
        for name in notebooks:
            forget_failure(out, name)
    finally:
        # Failures too are told there.
        write_indexes(folder)
    return [_as_run(name, out, entry) for name, entry in entries.items()]


def _make_report(
    notebook: Notebook, given: Mapping[str, object], work: Path, *, out: Path, progress: Progress | None
) -> Json:
    """Write one report's files into the workspace; return its entry for run.json."""
    started = time.perf_counter()
    tables = work / "tables" / notebook.name
    parameters = fill_parameters(notebook, given)
    # Before the notebook reads them: a file that changes meanwhile makes the report old, never the other way round.
    made_from = describe_making(notebook, parameters)
    executed = _execute(notebook, given, tables, out=out, progress=progress)
    shown, saved = mask_secrets(parameters), sorted(path for path in tables.glob("*") if path.is_file())
    values, intervals, data = _collect_records(executed)
    lang = find_language(parameters)
    with use_language(lang):
        title, question = gettext(notebook.title), gettext(notebook.question)
    entry: Json = {
        "title": title,
        "question": question,
        "lang": lang,
        "parameters": shown,
        "changed": [each.name for each in notebook.parameters if parameters[each.name] != each.default],
        "made_from": made_from,
        "data": data,
        "seed": parameters.get("seed"),
        "seconds": round(time.perf_counter() - started, 2),
        "created": _now(),
        "versions": _list_versions(),
        "values": values,
        "intervals": intervals,
        "tables": [path.name for path in saved],
    }
    with use_language(lang):
        page = render_report(
            executed,
            name=notebook.name,
            title=title,
            heading=gettext(notebook.heading),
            data=data,
            versions=entry["versions"],
            tables=saved,
            parameters=[
                (replace(each, help=gettext(each.help)), shown[each.name], each.name in given)
                for each in notebook.parameters
            ],
        )
    _write(work / f"{notebook.name}.html", page)
    _write_notebook(work / f"{notebook.name}.ipynb", executed)
    return entry


def find_language(parameters: Mapping[str, object]) -> Language:
    """In which language shall the report be? That of its parameter `lang`, if it has one that is a language."""
    return next((lang for lang in get_args(Language) if parameters.get("lang") == lang), "en")


def fill_parameters(notebook: Notebook, given: Mapping[str, object]) -> dict[str, object]:
    """All parameters of a notebook: those given, and the defaults of the others."""
    return {parameter.name: given.get(parameter.name, parameter.default) for parameter in notebook.parameters}


def find_current(notebook: Notebook, given: Mapping[str, object], folder: Path) -> ReportRun | None:
    """Is there such a report already, whole, of the same files and parameters by the same versions?"""
    parameters = fill_parameters(notebook, given)
    wanted = [json.loads(json.dumps(mask_secrets(parameters))), _list_versions(), describe_making(notebook, parameters)]
    try:
        entry = read_run(folder)["reports"][notebook.name]
        found = [entry["parameters"], entry["versions"], entry["made_from"]]
        files = [f"{notebook.name}.html", f"{notebook.name}.ipynb", "index.html"]
        files += [f"tables/{notebook.name}/{table}" for table in entry["tables"]]
    except (OSError, ReportError, KeyError):  # none, or of an earlier journeylab
        return None
    is_whole = all((folder / file).is_file() for file in files)
    return _as_run(notebook.name, folder, entry) if found == wanted and is_whole else None


def load_run(name: str, folder: Path) -> ReportRun:
    """Which report of this notebook is in this folder?"""
    return _as_run(name, folder, read_run(folder)["reports"][name])


def _as_run(name: str, folder: Path, entry: Json) -> ReportRun:
    return ReportRun(name, folder, folder / f"{name}.html", entry["values"], entry["seconds"])


def _collect_records(executed: Any) -> tuple[Json, Json, Json | None]:
    """Return what the cells recorded: the values, the bounds of those that have some, and the identity of the data."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    records = [output.data[RECORD_MIME] for output in outputs if RECORD_MIME in output.get("data", {})]
    values = {record["name"]: record["value"] for record in records if "name" in record}
    intervals = {record["name"]: [record["low"], record["high"]] for record in records if "low" in record}
    return values, intervals, next((record["data"] for record in reversed(records) if "data" in record), None)


def _list_versions() -> dict[str, str]:
    parts = {name: metadata.version(package) for name, package in _PARTS.items()}
    return {"journeylab": __version__, "python": platform.python_version(), **parts}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# Running: one kernel per notebook, through papermill.


class _Watch:
    """Follows a notebook while it runs: how far it is, and what there is of it should the kernel die."""

    def __init__(self, name: str, notebook: Any, progress: Progress | None) -> None:
        self.notebook = notebook
        self.where = "before its first cell"
        self._name = name
        self._progress = progress

    def start(self, notebook: Any) -> None:
        self.notebook = notebook

    def start_cell(self, cell: Any, cell_index: int) -> None:
        # papermill's own cell with the parameters has no number: it is not in the notebook.
        if cell.id.startswith("cell-"):
            line = next(iter(cell.source.strip().splitlines()), "")
            self.where = f'in cell {cell.id.removeprefix("cell-")}, "{line[:60]}"'
        self.tell(cell_index)

    def tell(self, done: int | None = None) -> None:
        total = len(self.notebook.cells)
        if self._progress:
            self._progress(self._name, total if done is None else done, total)


def _execute(
    notebook: Notebook, given: Mapping[str, object], tables: Path, *, out: Path, progress: Progress | None
) -> Any:
    """Run the notebook in a kernel of its own; return it without traces of this machine and moment."""
    with without_url_grammar():
        import nbformat

    source = nbformat.v4.upgrade(nbformat.read(notebook.path, as_version=4))
    with use_language(find_language(fill_parameters(notebook, given))):
        for cell in source.cells:
            if cell.cell_type == "markdown":
                cell.source = translate_markdown(cell.source)
    source.cells.append(nbformat.v4.new_code_cell(f'"{_END}"', metadata={"tags": [_END_TAG]}))
    _number_cells(source)
    watch = _Watch(notebook.name, source, progress)
    why = _run_cells(source, given, tables, watch)
    executed = watch.notebook
    finished = any(_END in str(cell.get("outputs")) for cell in executed.cells if _is_end(cell))
    _tidy(executed, given)
    if not finished:
        kept = _failed_path(out, notebook.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        _write_notebook(kept, executed)
        reason = " ".join(why.split())[:600].rstrip(".")
        failed = f'notebook "{notebook.name}" failed {watch.where}: {reason}.'
        raise ReportError(f"{failed} The notebook up to there is in {kept}; {out} was not changed.")
    watch.tell()
    return executed


def _run_cells(source: Any, given: Mapping[str, object], tables: Path, watch: _Watch) -> str:
    """Run the cells as far as they go; return why they may have stopped early."""
    with without_url_grammar():
        import papermill
    from papermill.exceptions import PapermillException, PapermillExecutionError
    from papermill.log import logger

    # It warns of parameters whose types it cannot read; they were checked before.
    logger.setLevel("CRITICAL")
    with tempfile.TemporaryDirectory(prefix="journeylab-") as runtime:
        try:
            papermill.execute_notebook(
                source,
                None,
                parameters=given,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                kernel_manager_class=kernel_manager(Path(runtime), tables),
                shutdown_kernel="immediate",
                record_timing=False,
                store_widget_state=False,
                on_notebook_start=watch.start,
                on_cell_start=watch.start_cell,
            )
        except PapermillExecutionError as error:
            return f"{error.ename}: {error.evalue}"
        except (PapermillException, RuntimeError, OSError) as error:
            return str(error) or type(error).__name__
    return "it stopped before its end, as sys.exit() does"


def _is_end(cell: Any) -> bool:
    return _END_TAG in cell.metadata.get("tags", [])


def _number_cells(notebook: Any) -> None:
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"


def _tidy(executed: Any, given: Mapping[str, object]) -> None:
    """Take out what the run left: times, paths, secrets, random ids, widgets that nobody can use, our last cell."""
    masked = mask_secrets(given)
    secrets = {str(value): MASK for name, value in given.items() if masked[name] != value}
    # This machine's folders, such as that of a library that warns.
    places = dict.fromkeys({sys.prefix, str(Path.cwd()), str(Path.home())} - {"/"}, "…")
    executed.cells = [cell for cell in executed.cells if not _is_end(cell)]
    executed.metadata.pop("papermill", None)
    for cell in executed.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.source = _replace(cell.source, secrets)
            cell.outputs = [_replace(output, places | secrets) for output in cell.outputs if _outlives_kernel(output)]
    _number_cells(executed)


def _replace(value: Any, words: Mapping[str, str]) -> Any:
    """Put other words into every text of an output."""
    if isinstance(value, str):
        # The longest first: one may lie in another.
        for word in sorted(words, key=len, reverse=True):
            value = value.replace(word, words[word])
    elif isinstance(value, dict):
        # In place: an output is more than a mapping.
        for key in value:
            value[key] = _replace(value[key], words)
    elif isinstance(value, list):
        return [_replace(each, words) for each in value]
    return value


def _outlives_kernel(output: Any) -> bool:
    """Is this more than a widget, such as a bar of progress? What else it can be seen as stays, without its widget."""
    data = output.get("data", {})
    return data.pop(_WIDGET_MIME, None) is None or "text/html" in data


def _failed_path(out: Path, name: str) -> Path:
    return out.with_name(f"{out.name}.failed") / f"{name}.ipynb"


def forget_failure(out: Path, name: str) -> None:
    """Remove what an earlier failure of this notebook had left."""
    failed = _failed_path(out, name)
    failed.unlink(missing_ok=True)
    if failed.parent.is_dir() and not any(failed.parent.iterdir()):
        failed.parent.rmdir()


def _write_notebook(path: Path, notebook: Any) -> None:
    import nbformat

    _write(path, nbformat.writes(notebook) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


# The run's folder: made beside its place, put there in one step.


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier run."""
    if folder.exists() and not folder.is_dir():
        raise ReportError(f"{folder} is a file; name a folder for the run")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "run.json").is_file():
        raise ReportError(f"{folder} has files but no run.json: it is not an earlier run. Name a new folder")


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside the run's; what killed runs left there is removed first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    with ExitStack() as held:
        with locked(folder.parent):
            _restore(folder)
            clear_left(folder)
            work.mkdir()
            # Held while we live, however we end: this is how the next run knows.
            held.enter_context(locked(work))
        held.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def clear_left(folder: Path) -> None:
    """Remove what killed runs into this folder have left beside it."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        with locked(left, wait=False) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)


def _publish(work: Path, folder: Path, entries: Mapping[str, Json]) -> None:
    """Complete the run with what the folder has of earlier reports, and put it in its place."""
    with locked(folder.parent):
        earlier: Json = {}
        if (folder / "run.json").is_file():
            earlier = read_run(folder)["reports"]
            _keep_others(folder, work, entries)
        versions = _list_versions()
        run: Json = {
            "journeylab": versions["journeylab"],
            "created": _now(),
            "versions": versions,
            "reports": dict(sorted((earlier | dict(entries)).items())),
        }
        _write(work / "run.json", json.dumps(run, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        with use_language(common_language(run["reports"].values())):
            _write(work / "index.html", render_run(folder.name, run))
        _swap(work, folder)


def _keep_others(folder: Path, work: Path, entries: Mapping[str, Json]) -> None:
    """Copy all that the new reports do not replace, notes of the user's included."""
    replaced = shutil.ignore_patterns(*map(glob.escape, entries))
    for path in folder.iterdir():
        if path.is_dir():
            ignored = replaced if path.name == "tables" else None
            shutil.copytree(path, work / path.name, dirs_exist_ok=True, ignore=ignored)
        elif path.name not in {"run.json", "index.html"} and not (
            path.stem in entries and path.suffix in _REPORT_FILES
        ):
            shutil.copy2(path, work / path.name)


def _swap(work: Path, folder: Path) -> None:
    if not folder.exists():
        work.rename(folder)
    elif not _exchange(work, folder):
        previous = _previous_path(folder)
        folder.rename(previous)
        work.rename(folder)
        shutil.rmtree(previous)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step, where the system can (Linux)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _previous_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _restore(folder: Path) -> None:
    """Undo a swap in two steps that was killed between them."""
    previous = _previous_path(folder)
    if previous.is_dir() and folder.exists():
        shutil.rmtree(previous)
    elif previous.is_dir():
        previous.rename(folder)
