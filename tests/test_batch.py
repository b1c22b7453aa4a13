"""Batches: what a plan asks for, what is made again, what a failure or a kill leaves behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_cli import call
from test_report import read_run, read_tree, write_notebook

from journeylab import batch, freshness
from journeylab.batch import BatchNews, run_batch
from journeylab.errors import ParameterError, ReportError
from journeylab.plan import read_plan
from journeylab.report import find_current

IS_FULL = os.environ.get("JOURNEYLAB_FULL") == "1"

PARAMETERS = """
data: Path = "log.csv"  # a file
rules: str = "ecommerce"  # a ready set, or a file
since: str | None = None  # a day
market: str = "all"  # a market
k: int = 1  # a number
by: list[str] = []  # columns
"""
# Tells how often it was run, and what a notebook of a batch finds around it.
WORK = """
import os, random
from pathlib import Path
from journeylab.recording import record, save_table
Path("calls.txt").open("a").write(f"{since} {market}\\n")
record("headline", f"{market} since {since}")
record("n_letters", len(Path(data).read_text()) * k)
record("names", sorted(set("some names in a set")))
record("threads", os.environ["OMP_NUM_THREADS"])
record("store", Path(os.environ["JOURNEYLAB_STORE"]).name)
record("has_store", Path(os.environ["JOURNEYLAB_STORE"]).is_dir())
"""
CELLS = ["# Ways", "from pathlib import Path", ("parameters", PARAMETERS), WORK, "print('done')"]
MONTHS = """
[[matrix.month]]
name = "2026-10"
since = 2026-10-01
[[matrix.month]]
name = "2026-11"
since = "2026-11-01"
"""
PLAN = f"""
notebooks = ["ways.ipynb"]
out = "reports/{{month}}-{{market}}"
[parameters]
k = 2
[matrix]
market = ["pl", "de"]
{MONTHS}
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package: somebody may be at work on it, and other code means that all is made again."""
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copytree(freshness._PACKAGE, folder / "journeylab")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(frozen))
    monkeypatch.setattr(freshness, "_PACKAGE", frozen / "journeylab")
    write_notebook(tmp_path / "ways.ipynb", CELLS)
    (tmp_path / "log.csv").write_text("a,b")
    return tmp_path


def write_plan(text: str = PLAN, name: str = "plan.toml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def read_calls() -> list[str]:
    """What was run since the last look."""
    path = Path("calls.txt")
    calls = sorted(path.read_text().splitlines()) if path.exists() else []
    path.unlink(missing_ok=True)
    return calls


# What a plan asks for.


def test_a_plan_is_all_combinations() -> None:
    plan = read_plan(write_plan())
    assert plan.root == Path("reports")
    assert [(str(task.out), task.parameters) for task in plan.tasks] == [
        ("reports/2026-10-pl", {"market": "pl", "since": "2026-10-01", "k": 2}),
        ("reports/2026-11-pl", {"market": "pl", "since": "2026-11-01", "k": 2}),
        ("reports/2026-10-de", {"market": "de", "since": "2026-10-01", "k": 2}),
        ("reports/2026-11-de", {"market": "de", "since": "2026-11-01", "k": 2}),
    ]


def test_values_are_read_as_on_the_command_line() -> None:
    text = 'notebooks = ["ways.ipynb"]\n[parameters]\nk = 3\nby = ["a,b", "007", "\\"", "no"]\nsince = "none"\n'
    (task,) = read_plan(write_plan(text)).tasks
    assert task.parameters == {"k": 3, "by": ["a,b", "007", '"', "no"], "since": None}
    assert task.out == Path("reports/plan"), "where there is no matrix, the plan names the run"
    matrix = '[matrix]\nk = [1, 2]\nmarket = ["pl"]\n'
    plan = read_plan(write_plan(f'notebooks = ["ways.ipynb"]\n{matrix}[parameters]\nk = 7\n'))
    assert [(str(task.out), task.parameters["k"]) for task in plan.tasks] == [("reports/1-pl", 1), ("reports/2-pl", 2)]
    plan = read_plan(write_plan(f'notebooks = ["ways.ipynb"]\nout = "x/{{k}}/{{market}} {{}}"\n{matrix}'))
    assert (plan.root, plan.tasks[0].out) == (Path("x"), Path("x/1/pl {}"))


def test_the_plan_in_the_readme_is_one() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    plan = readme.partition("```toml\n# plan.toml\n")[2].partition("```")[0]
    tasks = read_plan(write_plan(plan)).tasks
    assert [task.name for task in tasks] == [
        f"reports/2026-10-pl-{within}/{notebook}" for within in ("7D", "14D") for notebook in ("data_check", "drop_off")
    ]
    assert tasks[1].parameters.keys() == {"data", "since", "as_of", "where", "within"}


BOOK = 'notebooks = ["ways.ipynb"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("notebooks = [", "plan.toml is not TOML: "),
        ("", 'plan.toml must say which notebooks to run, such as notebooks = ["data_check", "drop_off"]'),
        ('notebooks = ["drop_of"]', 'there is no notebook "drop_of". Did you mean "drop_off"?'),
        (
            'notebooks = ["ways.ipynb", "./ways.ipynb"]',
            "plan.toml: each report needs its own name, found ways.ipynb, ./",
        ),
        (BOOK + "[params]", 'plan.toml: "params" is unknown. Did you mean "parameters"? Known: notebooks, out, param'),
        (BOOK + "matrix = 1", "plan.toml: matrix must be a table, written under [matrix]; found 1"),
        (BOOK + "out = 1", 'plan.toml: out must be text such as "reports/plan", found 1'),
        (
            BOOK + "[parameters]\nkk = 1",
            'plan.toml: parameters that cannot be used:\n  kk: unknown. Did you mean "k"?\nknown: by, ',
        ),
        (BOOK + '[matrix]\nmaket = ["pl"]', 'maket: unknown. Did you mean "market"?'),
        (BOOK + '[matrix]\nk = [1, "four"]', 'k: expected int, found "four"'),
        (
            BOOK + "[matrix]\nk = []",
            "plan.toml, matrix, k: expected a list of values, or tables under [[matrix.k]]; fou",
        ),
        (
            BOOK + '[matrix]\nby = [["a"]]',
            "plan.toml, matrix, by: ['a'] has no name; write it as [[matrix.by]] with a na",
        ),
        (
            BOOK + "[[matrix.m]]\nk = 1",
            'plan.toml, matrix, m: each table needs a name for the folder, such as name = "a"',
        ),
        (
            BOOK + '[matrix]\ndata = ["a/b"]',
            'matrix, data: "a/b" cannot be part of a folder\'s name; write [[matrix.data]]',
        ),
        (BOOK + '[matrix]\nmarket = [".."]', '".." cannot be part of a folder\'s name'),
        (BOOK + '[matrix]\nmarket = ["pl.failed"]', '"pl.failed" cannot be part of a folder\'s name'),
        (
            BOOK + '[matrix]\nmarket = ["pl"]\n[[matrix.m]]\nname = "a"\nmarket = "de"',
            "plan.toml, matrix: m and market both set market; let one of them",
        ),
        (
            BOOK + 'out = "r/{maket}"\n[matrix]\nmarket = ["pl"]',
            'plan.toml: out has {maket}. Did you mean "market"? Known: {market}',
        ),
        (BOOK + 'out = "r/{x}"', "plan.toml: out has {x}. Known: none, for there is no matrix"),
        (
            BOOK + 'out = "r/{market}"\n[matrix]\nmarket = ["pl"]\nk = [1, 2]',
            "two runs would share the folder r/pl: market pl, k 1 and market pl, k 2; add {k} to out",
        ),
        (
            BOOK + '[matrix]\nmarket = ["pl", "PL"]',
            "two runs would share the folder reports/PL: market pl and market PL; give each a name of its own",
        ),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_starts(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_start_workers", None)
    with pytest.raises((ReportError, ParameterError)) as error:
        run_batch(write_plan(text))
    assert told in str(error.value)
    assert sorted(path.name for path in Path().iterdir()) == ["log.csv", "plan.toml", "ways.ipynb"]


def test_a_folder_with_other_things_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_start_workers", None)
    Path("reports/2026-11-de").mkdir(parents=True)
    Path("reports/2026-11-de/thesis.txt").touch()
    with pytest.raises(ReportError, match=r"2026-11-de has files but no run\.json"):
        run_batch(write_plan())


# What is made, and what is made again.


def test_makes_all_and_only_what_has_changed_again(place: Path) -> None:
    plan, told = write_plan(PLAN.replace(', "de"', "")), list[BatchNews]()
    reports = run_batch(plan, jobs=2, progress=told.append)
    assert [str(report.html) for report in reports] == [f"reports/2026-{n}-pl/ways.html" for n in (10, 11)]
    assert reports[0].values == {
        "headline": "pl since 2026-10-01",
        "n_letters": 6,
        "names": sorted(set("some names in a set")),
        "threads": "1",
        "store": ".steps",
        "has_store": True,
    }
    october, november = "2026-10-01 pl", "2026-11-01 pl"
    assert read_calls() == [october, november]
    assert [news.n_ended for news in told if news.state == "whole"] == [1, 2]
    cells = [(news.done, news.total) for news in told if news.name == "reports/2026-10-pl/ways"]
    assert cells[0] == (0, 0)
    assert cells[-2][0] == cells[-2][1] > len(CELLS)
    assert sorted(path.name for path in Path("reports").iterdir()) == ["2026-10-pl", "2026-11-pl", "index.html"]
    assert Path("reports/index.html").read_text().count('<th scope="row">') == 2

    def find_old() -> list[str]:
        """The runs that the next batch would make again."""
        tasks = read_plan(plan).tasks
        return [task.out.name for task in tasks if find_current(task.notebook, task.parameters, task.out) is None]

    @contextmanager
    def changed(path: str, *change: str) -> Iterator[list[str]]:
        before = Path(path).read_text()
        after = before.replace(*change)
        assert after != before
        Path(path).write_text(after)
        os.utime(path, (1, 1))
        yield find_old()
        Path(path).write_text(before)
        assert find_old() == []

    both = ["2026-10-pl", "2026-11-pl"]
    os.utime("log.csv", (1, 1))
    assert find_old() == [], "touched, not changed"
    with changed("log.csv", "a,b", "c,d") as old:
        assert old == both, "changed, though not in size and time"
    with changed("plan.toml", '"2026-11-01"', '"2026-11-02"') as old:
        assert old == ["2026-11-pl"]
    with changed("reports/2026-10-pl/run.json", '"pandas": "', '"pandas": "0.') as old:
        assert old == ["2026-10-pl"]
    with changed("reports/2026-10-pl/run.json", '"reports"', '"report"') as old:
        assert old == ["2026-10-pl"]
    with changed("ways.ipynb", "print('done')", "print('made')") as old:
        assert old == both
    with changed("ways.ipynb", '"outputs": []', '"outputs": [{"output_type": "stream", "text": "x"}]') as old:
        assert old == [], "what a notebook has printed does not count"
    with changed(str(freshness._PACKAGE / "__init__.py"), "from", "#\nfrom") as old:
        assert old == both
    Path("ecommerce").write_text("any text may name a file, such as rules")
    assert find_old() == both
    Path("ecommerce").unlink()

    def make_again(**how: bool) -> list[str]:
        told.clear()
        run_batch(plan, jobs=2, progress=told.append, **how)
        found = read_calls()
        assert [news.state for news in told if news.state != "running"].count("unchanged") == 2 - len(found)
        return found

    before = read_tree(Path("reports"))
    Path("reports/index.html").unlink()
    assert make_again() == []
    assert read_tree(Path("reports")) == before, "a list that is missing is made"
    Path("reports/2026-10-pl/ways.html").unlink()
    assert make_again() == [october]
    assert make_again(again=True) == [october, november]


def test_a_failure_does_not_stop_the_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The kernel's parent is the process that makes the report.
    fails = "import os, signal\nif market == 'de': 1 / 0\nif market == 'fr': os.kill(os.getppid(), signal.SIGKILL)"
    write_notebook(place / "ways.ipynb", [*CELLS[:3], fails])
    plan = 'notebooks = ["ways.ipynb"]\n[matrix]\nmarket = ["de", "fr", "pl"]\n'
    assert call("batch", str(write_plan(plan)), "--jobs", "2") == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    start = lines.index("journeylab: 2 of 3 reports failed:")
    assert sorted(lines[start + 1 : start + 3]) == [
        '  notebook "ways" failed in cell 4, "import os, signal": ZeroDivisionError: division by zero. '
        "The notebook up to there is in reports/de.failed/ways.ipynb; reports/de was not changed.",
        '  notebook "ways" failed: its process was killed by signal 9 (9 often means: out of memory). '
        "reports/fr was not changed.",
    ]
    assert lines[start + 3 :] == [
        "Once this is mended, run the batch again: what is finished and unchanged is not made again."
    ]
    assert "reports/pl/ways: whole (" in err
    assert sorted(path.name for path in Path("reports").iterdir()) == ["de.failed", "index.html", "pl"]
    page = Path("reports/index.html").read_text()
    assert "<bdi>de</bdi></th>" in page
    write_notebook(place / "ways.ipynb", CELLS)
    assert call("batch", "plan.toml") == 0
    assert capsys.readouterr().out == (
        "3 reports: 3 made, 0 unchanged\nreports/de/index.html\nreports/fr/index.html\nreports/pl/index.html\n"
    )
    assert not Path("reports/de.failed").exists()
    assert call("batch", "plan.toml") == 0
    assert capsys.readouterr().err == "".join(
        f"reports/{name}/ways: unchanged ({n} of 3)\n" for n, name in enumerate(("de", "fr", "pl"), 1)
    )


def test_several_notebooks_into_one_folder_where_processes_cannot_be_forked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CAN_FORK", False)
    write_notebook(place / "bad.ipynb", ["# Bad", "1 / 0"])
    write_notebook(place / "more.ipynb", ["# More", "import random; random.random()"])
    plan = write_plan('notebooks = ["ways.ipynb", "bad.ipynb", "more.ipynb"]\nout = "x"\n[parameters]\nk = 2\n')
    with pytest.raises(ReportError, match='1 of 3 reports failed:\n  notebook "bad" failed in cell 2'):
        run_batch(plan, jobs=2)
    assert list(read_run(Path("x"))["reports"]) == ["more", "ways"]


def test_a_worker_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()), prepend=os.pathsep)
    Path("papermill.py").write_text("raise ImportError('no papermill here')")
    with pytest.raises(ReportError, match="ended: ImportError: no papermill here"):
        run_batch(write_plan())


# Killed, and gone on with.


def find_processes(folder: Path) -> list[str]:
    """Which processes of a batch are there still? They all have the folder as theirs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and (process / "cwd").resolve() == folder.resolve():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                found += [command] if state != "Z" else []
        except OSError:
            continue
    return found


def check_that_all_is_whole() -> int:
    """Look at the folder as anybody may at any time: each run that is there is whole."""
    runs = [path for path in Path("reports").glob("[!.]*") if path.is_dir()]
    for run in runs:
        for name in ("index.html", "ways.html"):
            assert (run / name).read_text().rstrip().endswith("</html>")
        assert (run / "ways.ipynb").read_text().endswith("}\n")
        assert set(read_run(run)["reports"]) == {"ways"}
        assert (run / "tables/ways/t.csv").read_text() == "1"
    index = Path("reports/index.html")
    assert not index.exists() or index.read_text().rstrip().endswith("</html>")
    return len(runs)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_at_any_moment_and_gone_on_with_it_ends_as_if_undisturbed(place: Path) -> None:
    """Six reports killed three times, or twelve killed ten times with JOURNEYLAB_FULL=1, by kill -9 or Ctrl-C."""
    n_reports, n_kills = (12, 10) if IS_FULL else (6, 3)
    # As save_table does, without waiting for pandas.
    table = "(folder := Path(os.environ['JOURNEYLAB_TABLES'])).mkdir(parents=True)\n(folder / 't.csv').write_text('1')"
    write_notebook(place / "ways.ipynb", [*CELLS, table, "import time\ntime.sleep(0.2)"])
    plan = BOOK + f'[matrix]\nmarket = ["pl", "de", "fr"]\nk = {list(range(n_reports // 3))}\n'
    command = [sys.executable, "-m", "journeylab", "batch", str(write_plan(plan)), "--jobs", "2"]

    def read_results() -> dict[str, Any]:
        runs = {path.name: path for path in Path("reports").iterdir() if path.is_dir()}
        return {
            name: [read_run(run)["reports"]["ways"]["values"], (run / "ways.html").read_bytes()]
            for name, run in runs.items()
        }

    subprocess.run(command, check=True, capture_output=True)
    undisturbed = read_results()
    assert len(undisturbed) == n_reports
    Path("reports").rename("undisturbed")
    drawn = random.Random(7)
    for _ in range(n_kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        # A moment: some news, and some time more. Without news it has only just begun.
        for _ in range(n_news := drawn.randrange(5)):
            process.stderr.readline()
        time.sleep(drawn.uniform(0, 0.8))
        # While Python itself begins, Ctrl-C has nobody yet to be heard by.
        process.send_signal(drawn.choice([signal.SIGKILL, signal.SIGINT]) if n_news else signal.SIGKILL)
        check_that_all_is_whole()
        assert "Traceback" not in process.communicate(timeout=15)[1]
        deadline = time.monotonic() + 10
        while find_processes(place) and time.monotonic() < deadline:
            check_that_all_is_whole()
            time.sleep(0.05)
        assert find_processes(place) == [], "who was started ends with it"
        check_that_all_is_whole()
        assert not list(Path("reports").glob(".*.partial")), "what was half done is cleared away"
    done = check_that_all_is_whole()
    read_calls()
    subprocess.run(command, check=True, capture_output=True)
    assert len(read_calls()) == n_reports - done, "what was whole is not made again"
    assert read_results() == undisturbed
    assert not list(Path("reports").glob(".*")), "nothing is left, no steps either"
