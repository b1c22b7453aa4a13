from __future__ import annotations

import asyncio
import base64
import csv
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import ibis
import nbformat
import pandas as pd
import pytest

from journeylab import report
from journeylab.engine import connect
from journeylab.errors import ParameterError, ReportError
from journeylab.recording import data_hash, record, record_data, save_table
from journeylab.report import ReportRun, list_notebooks, run_report, run_reports
from journeylab.templates import render_report, render_run

HOSTILE = "<script>document.title='pwned'</script>"
NAMES = [HOSTILE, "$x_1$", "корзина", "=1+1", "a\"b'c"]

PARAMETERS = f"""
names: list[str] = []  # what the events are called
label: str = "plain"  # any text {HOSTILE}
seed: int = 7
"""
WORK = """
import sys, warnings
import numpy as np, pandas as pd
from pathlib import Path
from IPython.display import Markdown, display
from journeylab.recording import record, save_table
record("headline", f"{label} wins")
record("n_customers", np.int64(20412))
record("share_lost", np.float64(0.5321))
record("median_gap_s", 93_600.0)
record("nothing", float("nan"))
record("when", pd.Timestamp("2026-10-01"))
record("nested", {"a": (1, np.nan), 2: np.array([1.5])})
record("names", names)
record("is_here", Path("here.txt").exists())
record("home", Path.cwd().name)
frame = pd.DataFrame({"event": names, "n": range(len(names)), "loss": -1.5})
kept = save_table("events", frame)
"""
CELLS = [
    "# Which way do they go?\n\nThe lead paragraph.",
    ("parameters", PARAMETERS),
    WORK,
    "## What we see\n\nText.\n\n### Detail",
    "frame",
    "## What we see",
    "display(Markdown(f'From data: **{label}**'))",
    "print('printed <b>text</b>'); warnings.warn('stderr must not show')",
    "object()",
    ("remove-cell", "'gone from the page'"),
]
GIVEN = {"names": NAMES, "label": HOSTILE}


def write_notebook(path: Path, cells: list[Any]) -> Path:
    """Write text that starts with # as markdown, the rest as code; a pair is a tag and code."""
    made = []
    for cell in cells:
        tag, source = cell if isinstance(cell, tuple) else (None, cell)
        is_text = source.startswith("#")
        new = nbformat.v4.new_markdown_cell if is_text else nbformat.v4.new_code_cell
        made.append(new(source, metadata={"tags": [tag]} if tag else {}))
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def read_run(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory whose name would trip str.format, with one notebook and one file beside it."""
    folder = tmp_path_factory.mktemp("work") / "a {place}"
    folder.mkdir()
    (folder / "here.txt").touch()
    write_notebook(folder / "ways.ipynb", CELLS)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def steps_seen() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def run(place: Path, steps_seen: list[tuple[str, int, int]]) -> ReportRun:
    return run_report("ways.ipynb", GIVEN, out="out", progress=lambda *step: steps_seen.append(step))


@pytest.fixture(scope="module")
def page(run: ReportRun) -> str:
    return run.html.read_text(encoding="utf-8")


@pytest.fixture
def kernelless(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr(report, "_execute", refuse)


def test_a_run_is_one_folder(run: ReportRun, place: Path) -> None:
    assert run.folder == Path("out")
    assert run.html == Path("out/ways.html")
    assert sorted(read_tree(run.folder)) == [
        "index.html",
        "run.json",
        "tables/ways/events.csv",
        "ways.html",
        "ways.ipynb",
    ]
    assert [path.name for path in place.iterdir() if path.name.startswith(("out", "."))] == ["out"]
    assert run.folder.stat().st_mode & 0o077 == place.stat().st_mode & 0o077


def test_run_json_says_what_was_asked_and_found(run: ReportRun) -> None:
    found = read_run(run.folder)
    entry = found["reports"]["ways"]
    assert entry["parameters"] == {"names": NAMES, "label": HOSTILE, "seed": 7}
    assert entry["seed"] == 7
    assert entry["values"] == run.values
    assert entry["seconds"] == run.seconds > 0
    assert entry["title"] == "Which way do they go?"
    assert {"python", "pandas", "duckdb", "ibis"} <= set(found["versions"])
    assert str(run.folder.resolve().parent) not in json.dumps(found)


def test_values_are_what_json_can_hold(run: ReportRun) -> None:
    assert run.values == {
        "headline": f"{HOSTILE} wins",
        "n_customers": 20412,
        "share_lost": 0.5321,
        "median_gap_s": 93600.0,
        "nothing": None,
        "when": "2026-10-01T00:00:00",
        "nested": {"a": [1, None], "2": [1.5]},
        "names": NAMES,
        "is_here": True,
        "home": "a {place}",
    }


def test_tables_cannot_be_run_as_formulas(run: ReportRun) -> None:
    rows = list(csv.reader((run.folder / "tables/ways/events.csv").open(encoding="utf-8", newline="")))
    assert rows[0] == ["event", "n", "loss"]
    assert [row[0] for row in rows[1:]] == [HOSTILE, "$x_1$", "корзина", "'=1+1", "a\"b'c"]
    assert {row[2] for row in rows[1:]} == {"-1.5"}


def test_the_page_shows_text_from_data_as_text(page: str, run: ReportRun) -> None:
    index = (run.folder / "index.html").read_text(encoding="utf-8")
    # The page's own: one sorts tables, one saves figures.
    assert page.count("<script") == len(re.findall("sha256-", page)) == 2
    assert "<script" not in index
    for made in (page, index):
        assert made.count("Content-Security-Policy") == 1
        assert (
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'" in made
        )
    assert "<td>&lt;script&gt;" in page
    assert "<td>$x_1$</td>" in page
    assert "<td>корзина</td>" in page
    assert "<strong>&lt;script&gt;" in page
    assert "printed &lt;b&gt;text&lt;/b&gt;" in page
    assert f'<p class="headline">{escape(HOSTILE).replace("&#x27;", "&#39;")} wins</p>' in index


def test_the_page_asks_for_nothing(page: str, run: ReportRun) -> None:
    index = (run.folder / "index.html").read_text(encoding="utf-8")
    for made in (page, index):
        assert not re.search(r"""(src|srcset|poster|data)=["']?(?!data:)|<link|@import|url\(""", made)


def test_the_page_is_a_document(page: str) -> None:
    assert '<html lang="en">' in page
    assert "<title>Which way do they go?</title>" in page
    assert re.findall(r"<h1>(.*?)</h1>", page) == ["Which way do they go?"]
    assert re.findall(r'<a href="#(.*?)">(.*?)</a></li>', page) == [
        ("what-we-see", "What we see"),
        ("what-we-see-2", "What we see"),
        ("about-this-report", "About this report"),
    ]
    anchors = re.findall(r'\bid="(.*?)"', page)
    assert len(anchors) == len(set(anchors))
    assert {"main", "what-we-see", "what-we-see-2", "detail", "about-this-report"} == set(anchors)
    assert 'role="region" tabindex="0" aria-label="Table 1: Detail"><div>' in page
    assert '<a class="skip" href="#main">' in page


def test_the_page_hides_what_is_not_for_readers(page: str, run: ReportRun) -> None:
    assert page.count("stderr must not show") == 1, "in the code only"
    assert "gone from the page" not in page
    assert "object object at" not in page
    assert "vnd.journeylab" not in page
    assert "journeylab: end" not in page + (run.folder / "ways.ipynb").read_text(encoding="utf-8")
    assert page.count('<details class="code">') == 5
    assert "<details open" not in page


def test_the_page_names_its_parameters(page: str) -> None:
    row = re.search(r"<code>label</code></th><td>(.*?)</td><td>(.*?)</td>", page)
    assert row
    assert "&lt;script&gt;" in row[1]
    assert '<span class="tag">set</span>' in row[1]
    assert row[2].startswith("any text &lt;script&gt;")
    assert "<code>7</code></td>" in page


def test_the_index_shows_key_figures(run: ReportRun) -> None:
    index = (run.folder / "index.html").read_text(encoding="utf-8")
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd(?: class=\"words\")?>(.*?)</dd>", index))
    assert figures["customers"] == "20,412"
    assert figures["share lost"] == "53.2 %"
    assert figures["median gap"] == "93,600 s"
    assert figures["is here"] == "yes"
    assert 'href="ways.html"' in index
    assert 'href="tables/ways/events.csv"' in index


def test_progress_counts_the_cells(run: ReportRun, steps_seen: list[tuple[str, int, int]]) -> None:
    done = [step[1] for step in steps_seen]
    assert done == sorted(done)
    assert steps_seen[0][:2] == ("ways", 0)
    assert steps_seen[-1][1] == steps_seen[-1][2] >= len(CELLS)


def test_the_same_run_gives_the_same_bytes_also_inside_a_running_loop(run: ReportRun) -> None:
    async def as_in_jupyter() -> ReportRun:
        return run_report("ways.ipynb", GIVEN, out="again")

    again = asyncio.run(as_in_jupyter())
    first, second = read_tree(run.folder), read_tree(again.folder)
    for name in ("ways.html", "tables/ways/events.csv"):
        assert first[name] == second[name]


def test_a_failing_cell_leaves_the_earlier_run_and_keeps_the_notebook(run: ReportRun, place: Path) -> None:
    before = read_tree(run.folder)
    write_notebook(
        place / "breaks.ipynb", ["# Title", ("parameters", "k: int = 0"), "print('so far')\n1 / k", "'not reached'"]
    )
    with pytest.raises(ReportError) as error:
        run_reports(["ways.ipynb", "breaks.ipynb"], {"k": 0}, out="out")
    assert str(error.value) == (
        'notebook "breaks" failed in cell 3, "print(\'so far\')": ZeroDivisionError: division by zero. '
        "The notebook up to there is in out.failed/breaks.ipynb; out was not changed."
    )
    kept = Path("out.failed/breaks.ipynb").read_text(encoding="utf-8")
    assert "so far" in kept
    assert "ZeroDivisionError" in kept
    assert read_tree(run.folder) == before
    assert not list(place.glob(".out*"))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import sys\nsys.exit(0)", "it stopped before its end"),
        ("import os\nos._exit(0)", "Kernel died"),
    ],
)
def test_an_end_before_the_end_is_a_failure(place: Path, source: str, why: str) -> None:
    write_notebook(place / "ends.ipynb", ["# Title", source, "'not reached'"])
    with pytest.raises(ReportError, match=f'notebook "ends" failed in cell 2, "import .*": {why}'):
        run_report("ends.ipynb", out="ended")
    assert not Path("ended").exists()
    assert Path("ended.failed/ends.ipynb").is_file()


def test_another_notebook_joins_an_earlier_run(run: ReportRun, place: Path) -> None:
    (run.folder / "notes.txt").write_text("mine")
    before = read_tree(run.folder)
    write_notebook(place / "second.ipynb", ["# Second", "1"])
    live, dead = place / ".out.aaaaaaaa.partial", place / ".out.bbbbbbbb.partial"
    live.mkdir()
    dead.mkdir()
    (dead / "half.html").touch()
    failed = place / "out.failed"
    failed.mkdir(exist_ok=True)
    (failed / "second.ipynb").touch()
    handle = os.open(live, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        run_report(Path("second.ipynb"), out="out")
    finally:
        os.close(handle)
    after = read_tree(run.folder)
    changed = {"run.json", "index.html"}
    assert {name: bytes_ for name, bytes_ in after.items() if name in before and name not in changed} == {
        name: bytes_ for name, bytes_ in before.items() if name not in changed
    }
    assert set(after) - set(before) == {"second.html", "second.ipynb"}
    assert list(read_run(run.folder)["reports"]) == ["second", "ways"]
    assert 'href="ways.html"' in after["index.html"].decode()
    assert live.is_dir(), "another run is writing there"
    assert not dead.exists(), "its run was killed"
    assert not (failed / "second.ipynb").exists()
    live.rmdir()


@pytest.mark.parametrize("way", ["_exchange", "_swap"])
def test_nothing_half_written_is_ever_seen(
    place: Path, monkeypatch: pytest.MonkeyPatch, kernelless: None, way: str
) -> None:
    """The folder is swapped last: whatever fails before leaves the earlier run, also without renameat2."""
    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T")])
    monkeypatch.setattr(report, "_execute", lambda *_, **__: executed)
    monkeypatch.setattr(report, "_exchange", lambda *_: False)
    write_notebook(place / "quick.ipynb", ["# T"])
    run_report("quick.ipynb", out="whole")
    before = read_tree(Path("whole"))
    with monkeypatch.context() as broken:
        broken.setattr(report, "render_run" if way == "_exchange" else "_swap", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_report("quick.ipynb", out="whole")
    assert read_tree(Path("whole")) == before
    run_report("quick.ipynb", out="whole")
    assert sorted(read_tree(Path("whole"))) == sorted(before)
    assert not list(place.glob(".whole*"))


def test_a_swap_that_was_killed_half_way_is_undone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T")])
    monkeypatch.setattr(report, "_execute", lambda *_, **__: executed)
    for name in ("one", "two"):
        write_notebook(place / f"{name}.ipynb", ["# T"])
    run_report("one.ipynb", out="killed")
    Path("killed").rename(".killed.previous")
    run_report("two.ipynb", out="killed")
    assert list(read_run(Path("killed"))["reports"]) == ["one", "two"]


@pytest.mark.usefixtures("kernelless", "place")
def test_wrong_parameters_are_refused_before_anything_starts() -> None:
    with pytest.raises(ParameterError, match=r'lable: unknown\. Did you mean "label"\?'):
        run_report("ways.ipynb", {"lable": "x"}, out="refused")
    with pytest.raises(ParameterError, match=r"seed: expected int, found \"7\""):
        run_report("ways.ipynb", {"seed": "7"}, out="refused")
    assert not list(Path().glob("*refused*"))


@pytest.mark.usefixtures("kernelless", "place")
def test_a_folder_that_is_not_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ReportError, match=r"has files but no run\.json"):
        run_report("ways.ipynb", out=tmp_path)
    with pytest.raises(ReportError, match="is a file"):
        run_report("ways.ipynb", out=tmp_path / "thesis.txt")
    with pytest.raises(ReportError, match="each report needs its own name"):
        run_reports(["ways.ipynb", "./ways.ipynb"], out=tmp_path / "new")


FACTS: dict[str, Any] = {"name": "n", "title": "T", "heading": "T", "data": None, "parameters": []}
FACTS["versions"] = {"journeylab": "1"}


def test_figures_have_alternative_text_and_ids_of_their_own() -> None:
    drawing = '<svg viewBox="0 0 9 9"><metadata>2026</metadata><g id="{0}"/><use href="#{0}"/></svg>'
    svg = f'<?xml version="1.0"?>\n<!DOCTYPE svg>\n{drawing}'

    def render(salt: str) -> str:
        data = [{"image/svg+xml": svg.format(salt)}, {"image/svg+xml": svg.format(salt)}, {"image/png": "iVBO\n"}]
        about = [{"image/svg+xml": {"alt": 'Bars: "a" 1'}}, {}, {"alt": "a < b"}]
        outputs = [nbformat.v4.new_output("display_data", d, metadata=m) for d, m in zip(data, about, strict=True)]
        cell = nbformat.v4.new_code_cell("draw()", outputs=outputs)
        return render_report(nbformat.v4.new_notebook(cells=[cell]), **FACTS)

    page = render("p1a2b")
    assert 'role="img" aria-label="Bars: &#34;a&#34; 1"><svg' in page
    assert 'role="img" aria-label="Figure without a description"><svg' in page
    assert '<img src="data:image/png;base64,iVBO" alt="a &lt; b">' in page
    assert '<g id="f1-0"/><use href="#f1-0"/>' in page
    assert '<g id="f2-0"/><use href="#f2-0"/>' in page
    assert "DOCTYPE svg" not in page
    assert "2026" not in page
    assert page == render("another_salt"), "random ids do not change the page"


def test_html_of_a_cell_cannot_reach_out() -> None:
    html = '<META http-equiv=refresh content="0;url=//x"><base href=//x><link rel=preconnect href=//x><p>shown</p>'
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    page = render_report(notebook, **FACTS)
    assert "&lt;META" in page
    assert "&lt;base" in page
    assert "&lt;link" in page
    assert "<p>shown</p>" in page


def test_an_index_without_reports_data_is_still_a_page() -> None:
    entry: dict[str, Any] = {"title": HOSTILE, "question": "", "values": {}, "tables": [], "data": None, "seconds": 1.5}
    page = render_run(HOSTILE, {"journeylab": "1", "created": "2026-10-01T00:00:00+00:00", "reports": {"a b": entry}})
    assert "<script" not in page
    assert 'href="a%20b.html"' in page


def make_steps(con: Any, rows: list[tuple[str, int, str, str | None]]) -> ibis.Table:
    frame = pd.DataFrame(rows, columns=["customer_id", "position", "event", "channel"])
    frame["timestamp"] = pd.Timestamp("2026-10-01") + pd.to_timedelta(range(len(rows)), unit="h")
    frame = frame.assign(step=frame["position"], stage=None)
    frame["timestamp"] = pd.Timestamp("2026-10-01")
    return con.create_table(ibis.util.gen_name("steps"), frame.astype({"stage": "string"}))


ROWS = [("a", 1, "cart", "web"), ("a", 2, "pay", None), ("b", 1, "cart", "app")]


@pytest.fixture(scope="module")
def con() -> Any:
    return connect(threads=2)


def test_data_hash_sees_order_and_content(con: Any) -> None:
    whole = data_hash(make_steps(con, ROWS))
    assert re.fullmatch(r"[0-9a-f]{16}", whole)
    swapped = [("a", 1, "pay", None), ("a", 2, "cart", "web"), ROWS[2]]
    others = [
        swapped,
        ROWS[:2],
        [*ROWS, ROWS[2]],
        [ROWS[0], ("a", 2, "pay", ""), ROWS[2]],
        [("a", 1, "cart", "web"), ("a", 2, "pay", None), ("c", 1, "cart", "app")],
        [("a", 1, "cartweb", ""), *ROWS[1:]],
    ]
    assert whole not in {data_hash(make_steps(con, rows)) for rows in others}


def test_data_hash_does_not_see_storage_rules_threads_or_zone(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = make_steps(con, ROWS)
    whole = data_hash(steps)
    assert data_hash(make_steps(con, [ROWS[2], ROWS[1], ROWS[0]])) == whole
    assert data_hash(steps.mutate(step=ibis._.step + 5, stage=ibis.literal("x"))) == whole
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert data_hash(make_steps(connect(threads=1), ROWS)) == whole
    with pytest.raises(ReportError, match="data_hash needs `position`"):
        data_hash(steps.drop("position"))


def test_a_page_holds_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = ["import pandas as pd, journeylab as jl", "jl.save_table('small', pd.DataFrame({'a': ['<b>', 'ż']}))"]
    path = write_notebook(
        tmp_path / "tables.ipynb", [*cells, "jl.save_table('large', pd.DataFrame({'a': ['x' * 99] * 9}))"]
    )
    monkeypatch.setattr("journeylab.templates._MOST_BYTES", 500)
    run = run_report(path, out=tmp_path / "out")
    links = dict(re.findall(r'<li><a (?:download="[^"]*" )?href="([^"]+)">([^<]+)</a>', run.html.read_text()))
    held = {name: href for href, name in links.items() if name.endswith(".csv")}
    kind, _, content = held["small.csv"].partition(",")
    assert kind == "data:text/csv;charset=utf-8;base64"
    assert base64.b64decode(content) == (run.folder / "tables/tables/small.csv").read_bytes()
    assert (run.folder / held["large.csv"]).is_file()


def test_secrets_reach_no_file(tmp_path: Path) -> None:
    cells = [
        ("parameters", 'api_token: str = ""\nurl: str = "x"'),
        "print(api_token, url); 1 / int(url == 'x' or len(url) > 5)",
    ]
    path = write_notebook(tmp_path / "secret.ipynb", cells)
    given = {"api_token": "hunter22-hunter22", "url": "postgres://me:pass@host/db"}
    run_report(path, given, out=tmp_path / "out")
    with pytest.raises(ReportError, match="failed"):
        run_report(path, {**given, "url": "boom"}, out=tmp_path / "out")
    made = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
    assert {file.parent.name for file in made} >= {"out", "out.failed"}
    for file in made:
        assert not [value for value in given.values() if value in file.read_text()]
    assert read_run(tmp_path / "out")["reports"]["secret"]["parameters"] == {"api_token": "•••", "url": "•••"}


def test_folders_of_this_machine_stay_here(tmp_path: Path) -> None:
    cells = ["import sys, warnings\nfrom pathlib import Path", "print(sys.prefix, Path.home() / 'x.csv')", "Path.cwd()"]
    path = write_notebook(tmp_path / "leaky.ipynb", [*cells, "warnings.warn('old')"])
    run_report(path, out=tmp_path / "out")
    for made in (tmp_path / "out").rglob("leaky.*"):
        text = made.read_text()
        assert sys.prefix not in text
        assert f"{Path.cwd()}'" not in text
        assert "…" in text


def test_outside_a_run_recording_does_nothing(con: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record("n", 1)
    record_data(make_steps(con, ROWS))
    frame = pd.DataFrame({"a": [1]})
    assert save_table("t", frame) is frame
    assert not list(tmp_path.iterdir())


def test_recording_says_what_it_cannot_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportError, match='record "t": cannot keep a DataFrame'):
        record("t", pd.DataFrame({"a": [1]}))
    with pytest.raises(ReportError, match=r'save_table: "\.\./t" cannot be a file name'):
        save_table("../t", pd.DataFrame({"a": [1]}))
    monkeypatch.setenv("JOURNEYLAB_TABLES", str(tmp_path / "tables"))
    frame = pd.DataFrame({"@a": ["-1", "\tx", "ok", None]}, index=pd.Index([1, 2, 3, 4], name="+n"))
    save_table("t", frame)
    assert (tmp_path / "tables/t.csv").read_text() == "'+n,'@a\n1,'-1\n2,'\tx\n3,ok\n4,\n"


def test_lists_the_notebooks() -> None:
    table = list_notebooks()
    assert list(table.columns) == ["name", "title", "question"]
    assert {"quickstart", "data_check", "personas", "drop_off"} <= set(table["name"])
    assert table["question"].str.endswith("?").all()
