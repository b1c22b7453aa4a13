from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from test_report import write_notebook

from journeylab import cli

LOG = """customer_id,event,timestamp
0012,cart,2026-10-01 10:00
NA,<script>alert(1)</script>,2026-10-01 11:00
NA,$x_1$,2026-10-02 11:00
9007199254740993,корзина,2026-10-01 12:00
"""


def test_one_file_of_parameters_serves_any_of_the_notebooks() -> None:
    found = {"data": "shop.csv", "by": "device", "k": "4", "misspelt": "x"}
    assert cli._choose_parameters(found, ["data_check"]) == {"data": "shop.csv", "misspelt": "x"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    code = end.value.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return int(code or 0)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "journeylab", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_two(folder: Path) -> None:
    write_notebook(folder / "one.ipynb", ["# One", ("parameters", 'k: int = 1\nid: str = ""')])
    write_notebook(folder / "two.ipynb", ["# Two", ("parameters", "m: int = 1  # another")])


def test_runs_end_to_end_in_a_process_of_its_own(place: Path) -> None:
    write_two(place)
    (place / "given.yml").write_text("id: 007\nk: 2\n")
    process = start("run", "one.ipynb", "two.ipynb", "-f", "given.yml", "-p", "k=3", "--out", "runs/x")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[0].startswith("one: runs/x/one.html (")
    assert out.splitlines()[-1] == "index: runs/x/index.html"
    assert err == "one: running\ntwo: running\n", "plain lines where nobody watches"
    reports = json.loads((place / "runs/x/run.json").read_text())["reports"]
    assert reports["one"]["parameters"] == {"k": 3, "id": "007"}
    assert reports["two"]["parameters"] == {"m": 1}


def test_a_failing_cell_exits_with_one_paragraph(place: Path) -> None:
    write_notebook(place / "bad.ipynb", ["# Bad", "raise ValueError('two\\nlines')"])
    process = start("run", "bad.ipynb", "--out", "x")
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == (
        'journeylab: notebook "bad" failed in cell 2, "raise ValueError(\'two\\nlines\')": ValueError: two lines. '
        "The notebook up to there is in x.failed/bad.ipynb; x was not changed."
    )
    assert "Traceback" not in err
    assert not (place / "x").exists()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_run_leaves_nothing_to_be_seen(place: Path) -> None:
    write_notebook(place / "slow.ipynb", ["# Slow", "open('begun', 'w').close(); import time; time.sleep(60)"])
    write_notebook(place / "quick.ipynb", ["# Quick"])
    process = start("run", "slow.ipynb", "--out", "x")
    deadline = time.monotonic() + 60
    while not (place / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place / "x").exists()
    assert call("run", "quick.ipynb", "--out", "x") == 0
    assert not list(place.glob(".x*")), "the next run has cleaned up"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "one.ipynb", "-p", "kk=1", "--out", "x"], 1, "kk: unknown."),
        (["run", "one.ipynb", "two.ipynb", "-p", "k=four", "--out", "x"], 1, 'k (one): expected int, found "four"'),
        (["run", "nothing", "--out", "x"], 1, 'there is no notebook "nothing"'),
        (["run", "one.ipynb", "-f", "list.yml", "--out", "x"], 1, "must hold lines such as name: value"),
        (["run", "one.ipynb", "-f", "broken.yml", "--out", "x"], 1, "broken.yml is not YAML"),
        (["run", "one.ipynb", "--out", "list.yml"], 1, "is a file"),
        (["run", "one.ipynb", "--out", "list.yml/x"], 1, "list.yml"),
        (["run", "one.ipynb", "-p", "k", "--out", "x"], 2, '"k" has no value'),
        (["run", "one.ipynb", "-f", "missing.yml", "--out", "x"], 2, "missing.yml"),
        (["run", "one.ipynb"], 2, "--out"),
        (["run", "--out", "x"], 2, "NAME"),
        (["fly"], 2, "fly"),
        (["demo", "--customers", "none"], 2, "--customers"),
        (["check", "missing.csv"], 1, "missing.csv"),
        (["check", "log.csv", "--event", "evnt"], 1, "evnt"),
        (["check", "log.csv", "--rules", "ecomerce"], 1, "ecomerce"),
    ],
)
def test_mistakes_are_told_on_stderr(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    write_two(place)
    (place / "log.csv").write_text(LOG)
    (place / "list.yml").write_text("- a\n")
    (place / "broken.yml").write_text("a: [\n")
    assert call(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert not (place / "x").exists()


@pytest.mark.parametrize("command", [[], ["demo"], ["check"], ["run"], ["batch"], ["notebooks"], ["sources"]])
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert call(*command, "--help") == 0
    assert ("Example: journeylab" if command else "Start with: journeylab demo") in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    heavy = ["pandas", "numpy", "ibis", "duckdb", "papermill", "nbconvert", "IPython", "matplotlib", "sklearn"]
    code = f"""
import sys
sys.argv = ["journeylab", "--help"]
try:
    from journeylab.cli import main
    main()
except SystemExit:
    print("loaded:", [name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_lists_notebooks_and_their_parameters(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("notebooks") == 0
    assert "drop_off" in capsys.readouterr().out
    write_two(place)
    assert call("notebooks", "two.ipynb") == 0
    assert capsys.readouterr().out == "Two\nm  int  = 1  another\n"
    nbformat.write(nbformat.v4.new_notebook(), place / "bare.ipynb")
    assert call("notebooks", "bare.ipynb") == 0
    assert capsys.readouterr().out == "Bare\ntakes no parameters\n"


def test_prints_version_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("journeylab 0")
    assert call("sources") == 0
    assert "parquet" in capsys.readouterr().out


def test_checks_a_log(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "log.csv").write_text(LOG)
    assert call("check", "log.csv", "--tz", "Europe/Warsaw", "--rules", "ecommerce") == 0
    assert "4" in capsys.readouterr().out
    (place / "log.csv").write_text(LOG + ",cart,2026-10-01 10:00\n")
    assert call("check", "log.csv") == 1
    assert "drop_null_customer" in capsys.readouterr().err
    assert call("check", "log.csv", "--repair", "drop_null_customer") == 0


def test_writes_the_demo(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("demo", "--customers", "500", "--out", "shop") == 0
    written = [Path(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines()]
    assert written
    assert all(path.is_file() and path.parent == Path("shop") for path in written)
