"""A batch: many reports from one plan, side by side, where what is finished and unchanged is not made again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Literal

from journeylab.errors import ReportError
from journeylab.locks import locked
from journeylab.plan import Plan, Task, read_plan
from journeylab.report import ReportRun, check_folder, find_current, forget_failure, load_run
from journeylab.runs import write_indexes
from journeylab.worker import CAN_FORK

# Kernels side by side, each with threads for all cores, would only stand in each other's way. Also where there is one
# job: figures shall not depend on how many there are.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PATIENCE_S = 15


@dataclass(frozen=True)
class BatchNews:
    """What has just happened in a batch.

    Attributes
    ----------
    name
        Of the report: its folder and its notebook.
    state
        "unchanged": it was there already; "running": `done` of `total` cells; "whole" or "failed": it has ended.
    n_ended, n_reports
        How many of the batch have ended, unchanged and failed ones included, and how many there are.
    """

    name: str
    state: Literal["unchanged", "running", "whole", "failed"]
    done: int
    total: int
    n_ended: int
    n_reports: int


def run_batch(
    plan: str | Path,
    *,
    jobs: int | None = None,
    again: bool = False,
    progress: Callable[[BatchNews], None] | None = None,
) -> list[ReportRun]:
    """Make all reports of a plan, several at a time, except those that are finished and unchanged.

    Parameters
    ----------
    plan
        A TOML file. ``notebooks`` is a list of names or paths; ``[parameters]`` holds for all runs. ``[matrix]`` gives
        lists of values by parameter, or by any name tables that set several parameters at once (``[[matrix.month]]``
        with ``name``); there is a run for each combination. ``out`` is the folder of a run, with ``{month}`` and such
        in it; by default all of them under ``reports``. Values are read as on the command line, and paths start from
        the folder one is in.
    jobs
        How many reports at a time; by default as many as there are cores.
    again
        Make also those again that are finished and unchanged. A report is unchanged when the notebook's cells, its
        parameters, the content of the files that these name, journeylab and the versions of all it rests on are those
        it was made from.
    progress
        Called whenever a report begins, goes on or ends.

    Returns
    -------
    list of ReportRun
        In the order of the plan.

    Raises
    ------
    ReportError
        The plan is at fault, and nothing was started; or reports have failed: the others were made nevertheless.
    ParameterError
        A parameter is unknown or has the wrong type; nothing was started.

    Notes
    -----
    Whoever is killed, this process or one of those that it starts, leaves no half-written report and no lock, and the
    same call goes on from there. While it runs, a hidden folder beside the runs keeps steps that several need.
    """
    asked = read_plan(plan)
    if jobs is not None and jobs < 1:
        raise ReportError(f"jobs must be at least 1, found {jobs}")
    for task in asked.tasks:
        check_folder(task.out.resolve())
    batch = _Batch(asked, progress)
    waiting = batch.find_waiting(again=again)
    if waiting:
        with _shared_steps(asked.root) as store:
            batch.run(waiting, min(jobs or _count_cores(), len(waiting)), store)
    # Each report does so when it ends; one that was killed before it could has left that to us.
    for out in {task.out.parent: task.out for task in asked.tasks}.values():
        write_indexes(out)
    if batch.failures:
        n, n_all = len(batch.failures), len(asked.tasks)
        lines = "\n".join(f"  {failure}" for failure in batch.failures.values())
        raise ReportError(
            f"{n} of {n_all} reports failed:\n{lines}\n"
            "Once this is mended, run the batch again: what is finished and unchanged is not made again."
        )
    return [load_run(task.notebook.name, task.out) for task in asked.tasks]


def _count_cores() -> int:
    # Those that this process may use, which in a container are fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Batch:
    """How far a batch is."""

    def __init__(self, plan: Plan, progress: Callable[[BatchNews], None] | None) -> None:
        self.failures: dict[int, str] = {}
        self._tasks = plan.tasks
        self._progress = progress
        self._n_ended = 0

    def find_waiting(self, *, again: bool) -> list[int]:
        """Return the numbers of the reports that must be made."""
        waiting = []
        for number, task in enumerate(self._tasks):
            if again or find_current(task.notebook, task.parameters, task.out) is None:
                waiting.append(number)
            else:
                forget_failure(task.out, task.notebook.name)
                self._tell(number, "unchanged")
        return waiting

    def run(self, waiting: Sequence[int], jobs: int, store: Path) -> None:
        """Make these reports, at most `jobs` at a time."""
        is_warm = any(_uses_journeylab(self._tasks[number]) for number in waiting)
        left = list(reversed(waiting))
        with _start_workers(jobs, store, is_warm=is_warm) as (workers, news):
            while left or any(worker.running for worker in workers):
                for worker in workers:
                    while left and len(worker.running) < worker.slots:
                        number = left.pop()
                        worker.begin(number, self._tasks[number])
                        self._tell(number, "running")
                worker, found = news.get()
                if found is None:
                    workers.remove(worker)
                    self._bury(worker)
                    if left and not workers:
                        raise ReportError(f"the process that makes the reports has ended: {worker.last_words()}")
                elif found["key"] not in worker.running:  # it had ended before it was killed
                    continue
                elif "error" in found:
                    worker.running.remove(found["key"])
                    self._end(found["key"], found["error"])
                else:
                    self._tell(found["key"], "running", found["done"], found["total"])

    def _bury(self, worker: _Worker) -> None:
        for number in worker.running:
            name = self._tasks[number].notebook.name
            self._end(number, f'notebook "{name}" failed: its process has ended: {worker.last_words()}')

    def _end(self, number: int, error: str | None) -> None:
        if error is not None:
            self.failures[number] = error
        self._tell(number, "whole" if error is None else "failed")

    def _tell(
        self, number: int, state: Literal["unchanged", "running", "whole", "failed"], done: int = 0, total: int = 0
    ) -> None:
        self._n_ended += state != "running"
        if self._progress:
            name = self._tasks[number].name
            self._progress(BatchNews(name, state, done, total, self._n_ended, len(self._tasks)))


def _uses_journeylab(task: Task) -> bool:
    """Will this notebook import what ours import?"""
    return bool(re.search(r'"(import|from) journeylab\b(?!\.)', task.notebook.path.read_text(encoding="utf-8")))


# The processes that make the reports (see worker.py): one that forks, or as many as there are jobs.

_News = SimpleQueue[tuple["_Worker", Mapping[str, Any] | None]]


class _Worker:
    """A process that makes reports, and those that it has to make."""

    def __init__(self, mode: str, slots: int, environment: Mapping[str, str], errors: IO[bytes], news: _News) -> None:
        self.slots = slots
        self.running: set[int] = set()
        self._errors = errors
        # Without the folder one is in on the path: a file there may be called like one of Python's own. In a session of
        # its own: Ctrl-C is for us alone, who tell it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "journeylab.worker", mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=[news], daemon=True).start()

    def begin(self, number: int, task: Task) -> None:
        self.running.add(number)
        job = {
            "key": number,
            "notebook": str(task.notebook.path),
            "parameters": task.parameters,
            "out": str(task.out),
        }
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it has ended, and its last news will say so
            return

    def end(self) -> None:
        """Let it end what it is doing and clear it away."""
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.close()
        # Heard only until it begins to serve: nobody shall wait for its imports.
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.wait()}"

    def _listen(self, news: _News) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            news.put((self, json.loads(line)))
        news.put((self, None))


@contextmanager
def _start_workers(jobs: int, store: Path, *, is_warm: bool) -> Iterator[tuple[list[_Worker], _News]]:
    # Not at the top: it takes as long as all the rest, and there may be nothing to make.
    from journeylab.loading import STORE_VARIABLE

    environment = dict.fromkeys(_ONE_THREAD, "1") | os.environ
    environment |= {STORE_VARIABLE: str(store.resolve()), "PYTHONHASHSEED": "0"}
    news: _News = SimpleQueue()
    with ExitStack() as ending:
        workers = []
        for _ in range(1 if CAN_FORK else jobs):
            mode = ("warm" if is_warm else "bare") if CAN_FORK else "alone"
            errors = ending.enter_context(tempfile.TemporaryFile())
            worker = _Worker(mode, jobs if CAN_FORK else 1, environment, errors, news)
            ending.callback(worker.end)
            workers.append(worker)
        yield workers, news


@contextmanager
def _shared_steps(root: Path) -> Iterator[Path]:
    """Give the folder in which reports keep steps for each other: gone when all are made, there when we are killed."""
    store = root / ".steps"
    store.mkdir(parents=True, exist_ok=True)
    with locked(store, wait=False) as is_ours:
        if is_ours:
            yield store
            shutil.rmtree(store, ignore_errors=True)
            return
    # Another batch has it, and would take it away when it is done.
    with tempfile.TemporaryDirectory(prefix="journeylab-steps-") as own:
        yield Path(own)
