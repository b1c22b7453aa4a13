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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeylab import __version__
from journeylab.errors import ReportError
from journeylab.locks import locked
from journeylab.parameters import Notebook, find_notebooks, match_parameters, read_notebook
from journeylab.recording import RECORD_MIME, TABLES_VARIABLE
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
_REPORT_FILES = frozenset((".html", ".ipynb"))
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
    _check_folder(folder)
    # The caller's own words, unless these name no folder (such as ".").
    out = folder if Path(out).name in {"", ".."} else Path(out)
    known = {name: notebook.parameters for name, notebook in notebooks.items()}
    given = match_parameters(known, parameters or {}, text=text)
    with _workspace(folder) as work:
        entries = {}
        for name, notebook in notebooks.items():
            entries[name] = _make_report(notebook, given[name], work, out=out, progress=progress)
        _publish(work, folder, entries)
    for name in notebooks:
        _forget_failure(out, name)
    return [
        ReportRun(name, out, out / f"{name}.html", entry["values"], entry["seconds"]) for name, entry in entries.items()
    ]


def _make_report(
    notebook: Notebook, given: Mapping[str, object], work: Path, *, out: Path, progress: Progress | None
) -> Json:
    """Write one report's files into the workspace; return its entry for run.json."""
    started = time.perf_counter()
    tables = work / "tables" / notebook.name
    executed = _execute(notebook, given, tables, out=out, progress=progress)
    values, intervals, data = _collect_records(executed)
    parameters = {parameter.name: given.get(parameter.name, parameter.default) for parameter in notebook.parameters}
    entry: Json = {
        "title": notebook.title,
        "question": notebook.question,
        "parameters": parameters,
        "data": data,
        "seed": parameters.get("seed"),
        "seconds": round(time.perf_counter() - started, 2),
        "created": _now(),
        "versions": _list_versions(),
        "values": values,
        "intervals": intervals,
        "tables": sorted(path.name for path in tables.glob("*.csv")),
    }
    page = render_report(
        executed,
        name=notebook.name,
        title=notebook.title,
        heading=notebook.heading,
        data=data,
        versions=entry["versions"],
        parameters=[(each, parameters[each.name], each.name in given) for each in notebook.parameters],
    )
    _write(work / f"{notebook.name}.html", page)
    _write_notebook(work / f"{notebook.name}.ipynb", executed)
    return entry


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
    with _without_url_grammar():
        import nbformat

    source = nbformat.v4.upgrade(nbformat.read(notebook.path, as_version=4))
    source.cells.append(nbformat.v4.new_code_cell(f'"{_END}"', metadata={"tags": [_END_TAG]}))
    _number_cells(source)
    watch = _Watch(notebook.name, source, progress)
    why = _run_cells(source, given, tables, watch)
    executed = watch.notebook
    finished = any(_END in str(cell.get("outputs")) for cell in executed.cells if _is_end(cell))
    _tidy(executed)
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
    with _without_url_grammar():
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
                kernel_manager_class=_kernel_manager(Path(runtime), tables),
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


@contextmanager
def _without_url_grammar() -> Iterator[None]:
    """Keep jsonschema from compiling a grammar of URLs, which nothing here needs and which takes a second."""
    grammar = "rfc3987_syntax"
    absent = grammar not in sys.modules
    if absent:
        sys.modules[grammar] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[grammar]


def _kernel_manager(runtime: Path, tables: Path) -> type:
    """Return the class whose kernel is this very Python, untouched by the user's other kernels and start-up files."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import Unicode

    connection = str(runtime / "kernel.json")
    # Sockets in a folder of our own: no race for ports, nothing on the network. Such paths may have some 100 bytes.
    has_sockets = os.name == "posix" and len(connection) < 80
    environment = {"IPYTHONDIR": str(runtime), TABLES_VARIABLE: str(tables), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

    class ReportKernel(AsyncKernelManager):  # type: ignore[misc]
        transport = Unicode("ipc" if has_sockets else "tcp")
        connection_file = Unicode(connection)

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=command, display_name="Python 3", language="python")

        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(env=os.environ | environment, **options)

    return ReportKernel


def _is_end(cell: Any) -> bool:
    return _END_TAG in cell.metadata.get("tags", [])


def _number_cells(notebook: Any) -> None:
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"


def _tidy(executed: Any) -> None:
    """Take out what the run left: times, paths, random ids, our last cell."""
    executed.cells = [cell for cell in executed.cells if not _is_end(cell)]
    executed.metadata.pop("papermill", None)
    for cell in executed.cells:
        cell.metadata.pop("papermill", None)
    _number_cells(executed)


def _failed_path(out: Path, name: str) -> Path:
    return out.with_name(f"{out.name}.failed") / f"{name}.ipynb"


def _forget_failure(out: Path, name: str) -> None:
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


def _check_folder(folder: Path) -> None:
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
            for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
                with locked(left, wait=False) as is_free:
                    if is_free:
                        shutil.rmtree(left, ignore_errors=True)
            work.mkdir()
            # Held while we live, however we end: this is how the next run knows.
            held.enter_context(locked(work))
        held.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def _publish(work: Path, folder: Path, entries: Mapping[str, Json]) -> None:
    """Complete the run with what the folder has of earlier reports, and put it in its place."""
    with locked(folder.parent):
        earlier: Json = {}
        if (folder / "run.json").is_file():
            earlier = json.loads((folder / "run.json").read_text(encoding="utf-8"))["reports"]
            _keep_others(folder, work, entries)
        versions = _list_versions()
        run = {
            "journeylab": versions["journeylab"],
            "created": _now(),
            "versions": versions,
            "reports": dict(sorted((earlier | dict(entries)).items())),
        }
        _write(work / "run.json", json.dumps(run, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
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
