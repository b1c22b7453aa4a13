"""The process that makes a batch's reports: `python -m journeylab.worker MODE`, jobs in and news out as JSON lines.

It ends with whoever started it: when its input is closed, all that it has begun is ended and cleared away.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from journeylab.errors import JourneylabError

#: One job: its key, the notebook's path, the parameters and the run's folder.
Job = Mapping[str, Any]
Tell = Callable[[Mapping[str, object]], None]

#: Where a process may be forked after NumPy and its like were imported. On a Mac that is asking for crashes.
CAN_FORK = sys.platform == "linux"

# What a pipe takes in one piece, whoever else writes to it.
_MOST_BYTES = getattr(select, "PIPE_BUF", 4096)
# What the kernels of our notebooks import, here or there.
_KERNEL_NEEDS = (
    *("duckdb", "ibis.backends.duckdb", "pandas", "pyarrow.dataset", "pyarrow.parquet"),
    *("matplotlib.backends.backend_svg", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "seaborn"),
    *("rapidfuzz.process", "scipy.stats", "sklearn.cluster", "sklearn.mixture"),
    *("statsmodels.duration.survfunc", "statsmodels.stats.contingency_tables", "statsmodels.stats.proportion"),
)


def main() -> None:
    """Make reports until the input ends. Modes: "warm" and "bare" fork for each job, "alone" makes one at a time."""
    (mode,) = sys.argv[1:]
    # Notebooks and libraries may print; the news have a line of their own, and the jobs as well.
    jobs, news = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    if mode == "alone":
        _serve_alone(jobs, news)
    _import_all(kernels_need=_KERNEL_NEEDS if mode == "warm" else ())
    # From now on there is something to clear away: only the end of the input ends us.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="journeylab-") as folder:
        # What a killed report leaves there goes with us.
        tempfile.tempdir = folder
        _serve_forks(jobs, news)


def _import_all(*, kernels_need: tuple[str, ...]) -> None:
    """Import once what every report would import: a fork takes no time, and shares the memory."""
    from journeylab.kernels import without_url_grammar

    # A kernel sets this for itself, too late for a matplotlib that is there already.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    with without_url_grammar():
        for name in ("papermill", "nbconvert.exporters", "ipykernel.kernelapp", "journeylab.report"):
            import_module(name)
    if kernels_need:
        import journeylab

        for name in journeylab.__all__:
            getattr(journeylab, name)
    for name in kernels_need:
        import_module(name)


def _serve_forks(jobs: int, news: int) -> None:
    """Fork a process for each job; this one runs no thread of its own, or forks would not be safe."""
    running: dict[int, Job] = {}
    for line in _read_lines(jobs, meanwhile=lambda: _reap(running, news)):
        job = json.loads(line)
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_runner(job, me, jobs, news)
        running[pid] = job
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    for pid, job in running.items():
        os.waitpid(pid, 0)
        _clear(job)


def _be_runner(job: Job, parent: int, jobs: int, news: int) -> None:
    """Make one report in this fork, with a kernel forked from it, and end."""
    from journeylab.kernels import die_with, fork_kernel

    code = 1
    try:
        die_with(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(jobs)
        fork_kernel(close=[news])
        _make(job, news)
        code = 0
    finally:
        os._exit(code)


def _make(job: Job, news: int) -> None:
    """Make one report and tell how it went."""
    from journeylab.report import run_report

    def show(name: str, done: int, total: int) -> None:
        _tell(news, {"key": job["key"], "done": done, "total": total})

    error = None
    try:
        run_report(job["notebook"], job["parameters"], out=job["out"], progress=show)
    except (JourneylabError, OSError) as found:
        error = str(found)
    except Exception as found:
        # Not foreseen, so its kind matters; the other reports go on.
        error = f'notebook "{Path(job["notebook"]).stem}" failed: {type(found).__name__}: {found}'
    _tell(news, {"key": job["key"], "error": error})


def _tell(news: int, facts: dict[str, Any]) -> None:
    """Write one line in one piece: the system does not cut lines of this length into each other."""
    line = _as_line(facts)
    while len(line) > _MOST_BYTES and facts.get("error"):
        facts["error"] = facts["error"][: len(facts["error"]) * 3 // 4] + "…"
        line = _as_line(facts)
    os.write(news, line)


def _as_line(facts: Mapping[str, object]) -> bytes:
    return json.dumps(facts, ensure_ascii=False).encode(errors="replace") + b"\n"


def _reap(running: dict[int, Job], news: int) -> None:
    """See which reports have ended; one that did not say how was killed."""
    for pid, job in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            continue
        del running[pid]
        code = os.waitstatus_to_exitcode(status)
        if code:
            _clear(job)
            how = f"was killed by signal {-code} (9 often means: out of memory)" if code < 0 else f"ended with {code}"
            error = f'notebook "{Path(job["notebook"]).stem}" failed: its process {how}. {job["out"]} was not changed.'
            _tell(news, {"key": job["key"], "error": error})


def _clear(job: Job) -> None:
    """Remove what a killed report had begun."""
    from journeylab.report import clear_left

    with suppress(OSError):
        clear_left(Path(job["out"]).resolve())


def _read_lines(handle: int, meanwhile: Callable[[], None]) -> Any:
    """Yield lines as they come, and look around ten times a second."""
    rest = b""
    while True:
        ready, _, _ = select.select([handle], [], [], 0.1)
        if ready:
            chunk = os.read(handle, 65_536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        meanwhile()


def _serve_alone(jobs: int, news: int) -> None:
    """Make one report after the other in this process, and end at once when the input does."""
    waiting: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        with os.fdopen(jobs, "rb") as lines:
            for line in lines:
                waiting.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        _make(json.loads(waiting.get()), news)


if __name__ == "__main__":
    main()
