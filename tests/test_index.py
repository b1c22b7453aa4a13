"""The list of runs: what it says of each, where it is kept, and that nothing breaks it."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import Browser, needs_chromium
from test_report import write_notebook

from journeylab import report
from journeylab.errors import ReportError
from journeylab.report import run_report
from journeylab.runs import list_runs, read_run, write_indexes

HOSTILE = "<script>document.title='pwned'</script>\"&\u202e\n$x^$"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # One below, so that nothing above is a list of another test.
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write_run(folder: Path, created: str = "2026-11-01T10:00:00+00:00", **entry: Any) -> Path:
    """A run with one report, as run_reports leaves it."""
    folder.mkdir(parents=True)
    whole = {
        "title": "Ways",
        "parameters": {"k": 2, "since": "2026-10-01", "by": []},
        "changed": ["k", "since"],
        "data": {"first": "2026-10-01T08:00:00", "last": "2026-10-31T20:00:00", "rows": 10, "customers": 3},
        "values": {"headline": "Half are lost", "share_lost": 0.5, "n_customers": 1234, "words": "few"},
    } | entry
    (folder / "run.json").write_text(json.dumps({"created": created, "reports": {"ways": whole}}))
    return folder


def read_rows(page: Path) -> list[list[str]]:
    """The cells of each row, as a reader sees them."""
    body = page.read_text(encoding="utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def names(page: Path) -> list[str]:
    return [row[0].split()[0] for row in read_rows(page)]


def test_tells_of_each_run_what_is_worth_knowing() -> None:
    old = write_run(Path("reports/old"), "2026-10-01T10:00:00+00:00", data=None, changed=[], values={})
    new = write_run(Path("reports/2026-11/pl"), "2026-11-02T10:00:00+00:00")
    (failures := new.with_name("pl.failed")).mkdir()
    (failures / "drop off.ipynb").touch()
    (only := Path("reports/never.failed")).mkdir()
    (only / "ways.ipynb").touch()
    write_indexes(old)
    page = Path("reports/index.html")
    assert read_rows(page) == [
        [
            "2026-11/pl 2026-11-02 10:00 UTC",
            "2026-10-01 to 2026-10-31",
            "k 2 since 2026-10-01",
            "Ways : Half are lost share lost 50.0 % customers 1,234",
            "failed : drop off ; the reports are of an earlier run",
        ],
        ["old 2026-10-01 10:00 UTC", "–", "–", "Ways", "whole"],
        ["never", "–", "–", "–", "failed : ways"],
    ]
    links = re.findall(r'href="([^#].*?)"', page.read_text())
    assert links == [
        *("2026-11/pl/index.html", "2026-11/pl/ways.html", "2026-11/pl.failed/drop%20off.ipynb"),
        *("old/index.html", "old/ways.html", "never.failed/ways.ipynb"),
    ]


def test_the_page_runs_its_own_script_and_no_other() -> None:
    write_indexes(write_run(Path("reports/a")))
    page = Path("reports/index.html").read_bytes().decode()
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"form-action 'none'; script-src 'sha256-{digest}'\">" in unescape(page)
    assert '<p class="filter" hidden>' in page, "shown by the script, useless without"
    assert not re.search(r"""(src|srcset|poster)=|<link|@import|url\(""", page)


def test_text_from_runs_is_text() -> None:
    run = write_run(
        Path("reports") / HOSTILE.replace("/", "").replace("\n", "\n\n"),
        title=HOSTILE,
        parameters={HOSTILE: HOSTILE},
        changed=[HOSTILE],
        values={"headline": HOSTILE + "x" * 10_000, "n_" + HOSTILE: 1, "lone": "\ud800"},
    )
    (run.with_name(run.name + ".failed")).mkdir()
    (run.with_name(run.name + ".failed") / "<b>.ipynb").touch()
    write_run(Path("reports/surrogate-\udcff"))
    write_indexes(run)
    page = Path("reports/index.html").read_bytes().decode()
    assert page.count("<script") == 1
    assert "<b>" not in page
    assert "xxx…" in page
    assert len(page) < 40_000
    assert "surrogate-%FF/index.html" in page
    rows = read_rows(Path("reports/index.html"))
    assert [len(row) for row in rows] == [5, 5]


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[]", "null", '{"reports": {}}', '{"created": 1, "reports": {}}', "\ud800"),
        '{"created": "2026", "reports": {"a": {"values": {}, "changed": ["k"], "parameters": {}}}}',
        '{"created": "2026", "reports": {"a": {"values": {"headline": 7}}}}',
        '{"created": "2026", "reports": {"a": {"values": {}, "data": {"first": 7, "last": "b"}}}}',
    ],
)
def test_a_damaged_run_is_told_and_the_others_stay(damage: str) -> None:
    write_run(Path("reports/b")).joinpath("run.json").write_bytes(damage.encode(errors="surrogatepass"))
    write_indexes(write_run(Path("reports/a")))
    rows = {row[0].split()[0]: row[-1] for row in read_rows(Path("reports/index.html"))}
    assert rows == {"a": "whole", "b": "damaged : its run.json cannot be read"}


def test_a_damaged_run_is_not_written_into(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    executed = nbformat.v4.new_notebook(cells=[])
    monkeypatch.setattr(report, "_execute", lambda *_, **__: executed)
    write_notebook(place / "ways.ipynb", ["# Ways"])
    Path("reports/a").mkdir(parents=True)
    Path("reports/a/run.json").write_text("{")
    with pytest.raises(ReportError, match=r"run\.json is damaged; remove the folder, or make the run anew in another"):
        run_report("ways.ipynb", out="reports/a")
    with pytest.raises(ReportError, match=r"work is not a run: it has no run\.json"):
        read_run(place)


def test_what_is_no_run_is_passed_over() -> None:
    Path("reports/notes").mkdir(parents=True)
    Path("reports/notes/run.txt").touch()
    Path("reports/file.csv").touch()
    write_run(Path("reports/.a.12345678.partial"))
    write_run(Path("reports/too/deep/to/look"))
    write_run(Path("elsewhere/a"))
    Path("reports/link").symlink_to(Path("elsewhere/a").resolve())
    Path("reports/empty.failed").mkdir()
    assert [run["name"] for run in list_runs(Path("reports"))] == []


def test_is_kept_where_runs_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_listed(folder: str) -> bool:
        return (Path(folder) / "index.html").exists()

    write_indexes(write_run(Path("made")))
    write_indexes(write_run(Path("another")))
    assert not is_listed("."), "two runs in the folder one is in are no reason"
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    write_indexes(write_run(Path("tmp/a")))
    write_indexes(write_run(Path("tmp/b")))
    assert not is_listed("tmp")
    write_indexes(write_run(Path("november/a")))
    assert not is_listed("november"), "one run has a page of its own"
    write_indexes(write_run(Path("november/b")))
    assert names(Path("november/index.html")) == ["a", "b"]
    write_indexes(write_run(Path("november/markets/pl")))
    assert not is_listed("november/markets")
    assert names(Path("november/index.html")) == ["a", "b", "markets/pl"], "a list is kept up also from below"
    write_indexes(write_run(Path("reports/2026-11/pl")))
    assert is_listed("reports")
    assert not is_listed("reports/2026-11")
    write_run(Path("site/a"))
    Path("site/index.html").write_text("<h1>my site</h1>")
    write_indexes(write_run(Path("site/b")))
    assert Path("site/index.html").read_text() == "<h1>my site</h1>"
    assert not list(place.rglob(".*")), "nothing is left beside it"


def test_each_run_rebuilds_it_failed_ones_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [nbformat.v4.new_markdown_cell("# Ways")]
    monkeypatch.setattr(report, "_execute", lambda *_, **__: nbformat.v4.new_notebook(cells=cells))
    write_notebook(place / "ways.ipynb", ["# Ways", ("parameters", "k: int = 1\nm: str = 'a'")])
    run_report("ways.ipynb", {"k": 1, "m": "b"}, out="reports/a")
    (row,) = read_rows(Path("reports/index.html"))
    assert row[2:] == ["m b", "Ways", "whole"], "a value that is the default is none to tell"
    monkeypatch.undo()
    monkeypatch.chdir(place)
    write_notebook(place / "ways.ipynb", ["# Ways", "1 / 0"])
    for out in ("reports/a", "reports/b"):
        with pytest.raises(ReportError):
            run_report("ways.ipynb", out=out)
    assert [row[-1] for row in read_rows(Path("reports/index.html"))] == [
        "failed : ways ; the reports are of an earlier run",
        "failed : ways",
    ]


def test_two_runs_that_end_together_are_both_there() -> None:
    def run(number: int) -> None:
        made = write_run(Path(f"reports/.{number}"))
        made.rename(f"reports/{number}")
        write_indexes(Path(f"reports/{number}"))

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))
        assert sorted(names(Path("reports/index.html"))) == [str(number) for number in range(8)]
        for number in range(8):
            Path(f"reports/{number}/run.json").unlink()
            Path(f"reports/{number}").rmdir()


@needs_chromium
def test_in_a_browser_the_words_one_types_choose_the_rows(tmp_path: Path) -> None:
    write_run(Path("reports/2026-10-pl"))
    write_run(Path("reports/2026-11-de"), values={"headline": HOSTILE})
    write_indexes(write_run(Path("reports") / HOSTILE.replace("/", "").replace("\n", "")))
    page = Path("reports/index.html").resolve()
    browser = Browser(tmp_path / "profile")
    try:
        assert browser.open(page, width=375) == [page.as_uri()], "asks for nothing else"
        assert browser.ask("document.documentElement.scrollWidth") == 375
        assert browser.ask("document.title") == "reports", "no script of a name has run"
        typed = "box.value = 'PL ways'; box.dispatchEvent(new Event('input')); shown.textContent"
        assert browser.ask(typed) == "1 of 3"
        visible = "rows.filter(row => row.checkVisibility()).map(row => row.cells[0].innerText.slice(0, 10)).join()"
        assert browser.ask(visible) == "2026-10-pl"
    finally:
        browser.close()
