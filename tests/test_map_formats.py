"""A journey map goes out to Mermaid, CJML, draw.io, Excel and JSON, and says there what it says here."""

from __future__ import annotations

import filecmp
import json
import math
import random
import re
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import openpyxl
import pytest
from browser import Browser, needs_chromium
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import ATTACKS

import journeylab as jl
from journeylab import journeymap
from journeylab.errors import ReportError
from journeylab.feedback.attach import attach_feedback
from journeylab.feedback.scales import harmonise_scores
from journeylab.formats import clean, shorten
from journeylab.journeymap import EVIDENCE, LANES, JourneyMap, build_map, load_map
from journeylab.journeymap.model import COLUMNS, MOMENTS, UNITS, tidy_cells, tidy_moments
from journeylab.language import use_language
from journeylab.map_drawio import map_drawio
from journeylab.map_formats import map_cjml, map_mermaid, rate_feeling
from journeylab.map_sheets import write_map_sheets
from journeylab.sheets import disarm, rearm

Row = dict[str, Any]
FACTS: Row = {"n_customers": 40, "n_journeys": 50, "n_open": 5, "n_without_stage": 2, "min_group": 10, "top": 5}
FACTS |= {"first": "2026-08-01T10:00:00", "last": "2026-10-31T22:00:00", "worst": []}
SCHEMA = json.loads((Path(journeymap.__file__).parent / "journeymap.schema.json").read_text(encoding="utf-8"))
NAMES = list(ATTACKS.values())


def make_row(lane: str, stage: str, rank: int = 1, **values: Any) -> Row:
    empty = {"item": "", "value": math.nan, "unit": "text", "n": math.nan, "low": math.nan, "high": math.nan}
    return {"lane": lane, "stage": stage, "rank": rank, "evidence": "measured", "note": ""} | empty | values


def make_map(stages: list[str], rows: list[Row], *, title: str = "") -> JourneyMap:
    lanes = tuple(lane for lane in LANES if any(row["lane"] == lane for row in rows))
    filled = {(row["lane"], row["stage"]) for row in rows}
    rows = rows + [
        make_row(lane, stage, evidence="unknown") for lane in lanes for stage in stages if (lane, stage) not in filled
    ]
    return JourneyMap(title, tuple(stages), lanes, tidy_cells(rows), tidy_moments([]), dict(FACTS))


def share(lane: str, stage: str, rank: int, item: str, value: float = 0.5) -> Row:
    return make_row(lane, stage, rank, item=item, value=value, unit="share", n=40, low=value / 2, high=value)


@pytest.fixture
def small() -> JourneyMap:
    rows = [
        *(
            share("steps", "look", 1, "shop"),
            share("steps", "look", 2, "journey on"),
            share("steps", "look", 3, "(other)"),
        ),
        share("touchpoints", "look", 1, "shop · web"),
        share("touchpoints", "look", 2, "shop · desk · phone", 0.25),
        *(share("channels", "look", 1, "web"), share("channels", "look", 2, "desk · phone")),
        share("steps", "buy", 1, "pay: 100%, now"),
        make_row("feeling", "buy", value=-0.3, unit="feeling", n=20, low=-0.5, high=-0.1, evidence="stated"),
        make_row("owner", "buy", item="=Anna", evidence="assumed", note="workshop"),
    ]
    return make_map(["look", "buy", "stay"], rows, title="Kim & Co")


@pytest.fixture(scope="module")
def hostile() -> JourneyMap:
    rows = []
    for i, stage in enumerate(NAMES):
        names = [NAMES[(i + k) % len(NAMES)] for k in range(4)]
        for rank, name in enumerate(names, 1):
            way = NAMES[(i + rank) % len(NAMES)]
            rows += [share("steps", stage, rank, name), share("touchpoints", stage, rank, f"{name} · {way}")]
            rows += [share("channels", stage, rank, way), make_row("expectations", stage, rank, item=name, note=way)]
        if i % 3:
            value = random.Random(i).uniform(-1, 1)
            rows.append(make_row("feeling", stage, value=value, unit="feeling", n=12, evidence="stated"))
    return make_map(NAMES, rows, title=ATTACKS["script"])


@pytest.fixture(scope="module")
def demo() -> JourneyMap:
    rules = jl.JourneyRules.load("ecommerce")
    steps = jl.build_steps(jl.read_events("demo"), rules)
    journeys = jl.build_journeys(steps, rules)
    answers = harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])
    return build_map(steps, journeys, rules, attached=answers)


# Mermaid


def read_mermaid(text: str) -> tuple[str, list[tuple[str, list[tuple[str, int, list[str]]]]]]:
    """Read a journey by Mermaid's grammar: what it takes for comments, statements, tasks and codes."""
    lines = text.split("\n")
    assert lines.pop(0) == "journey"
    title, sections = "", list[tuple[str, list[tuple[str, int, list[str]]]]]()
    for line in (line.strip() for line in lines):
        if not line or line.startswith("%%"):
            continue
        coded = re.sub(r"#(\d+);", lambda found: f"\ue000{found[1]}\ue001", line)
        assert not set("#;") & set(coded), "a comment or the end of a statement in the middle of one"
        word, _, rest = coded.partition(" ")
        if word in ("title", "section"):
            assert ":" not in rest
            title = decode(rest) if word == "title" else title
            sections += [(decode(rest), [])] if word == "section" else []
        elif word not in ("accTitle:", "accDescr:"):
            assert not re.match("journey|title|section|accTitle|accDescr", coded, re.IGNORECASE)
            name, score, *actors = (part.strip() for part in coded.split(":"))
            assert len(actors) < 2
            sections[-1][1].append(
                (decode(name), int(score), [decode(each.strip()) for each in ":".join(actors).split(",")])
            )
    return title, sections


def decode(text: str) -> str:
    return re.sub("\ue000(\\d+)\ue001", lambda found: chr(int(found[1])), text)


def test_mermaid_says_stages_steps_scores_and_channels(small: JourneyMap) -> None:
    title, sections = read_mermaid(map_mermaid(small))
    assert title == "Kim & Co"
    assert sections == [
        ("look (feeling unknown)", [("shop", 3, ["web", "desk · phone"]), ("journey on", 3, ["Kim & Co"])]),
        ("buy", [("pay: 100%, now", 2, ["Kim & Co"])]),
        ("stay (feeling unknown)", [("no steps known", 3, ["Kim & Co"])]),
    ]


def test_mermaid_as_it_is_written(small: JourneyMap) -> None:
    lines = map_mermaid(small).splitlines()
    assert lines[:2] == ["journey", "    %% Faces: the feeling at the stage, from 1 (worst) to 5 (best)."]
    assert lines[4] == "    title Kim #38; Co"
    assert "      #106;ourney on: 3: Kim #38; Co" in lines
    assert "      pay#58; 100#37;, now: 2: Kim #38; Co" in lines
    with use_language("pl"):
        assert read_mermaid(map_mermaid(small))[1][1] == ("buy", [("pay: 100%, now", 2, ["Kim & Co"])])


def test_score_is_linear_and_bounded() -> None:
    for number in range(-100, 101):
        feeling = number / 100
        exact = 3 + 2 * feeling
        assert abs(rate_feeling(feeling) - exact) <= 0.5 + 1e-12
    assert [rate_feeling(each) for each in (-1.001, 1.001)] == [1, 5]


def test_hostile_names_are_names_in_mermaid(hostile: JourneyMap) -> None:
    text = map_mermaid(hostile)
    assert len(text) <= 50_000
    assert "```" not in text
    assert "~~~" not in text
    _title, sections = read_mermaid(text)
    assert len(sections) == len(NAMES)
    assert [len(tasks) for _name, tasks in sections] == [4] * len(NAMES)
    for i, (_name, tasks) in enumerate(sections):
        names = [NAMES[(i + k) % len(NAMES)] for k in range(4)]
        assert [task for task, _score, _actors in tasks] == [shorten(name, 60) for name in names]
        assert [actors for _task, _score, actors in tasks] == [
            [shorten(NAMES[(i + k + 1) % len(NAMES)], 60)] for k in range(4)
        ]


def test_mermaid_shortens_names_before_it_gives_up() -> None:
    stages = [f"{i:03}{'#' * 80}" for i in range(150)]
    rows = [share("steps", stage, rank, f"{rank}{'%' * 80}") for stage in stages for rank in range(1, 6)]
    text = map_mermaid(make_map(stages, rows))
    assert len(text) <= 50_000
    assert len(read_mermaid(text)[1]) == 150
    with pytest.raises(ReportError, match=r"^map_mermaid: 2,000 stages are more than .* write it with to_drawio\(\)$"):
        map_mermaid(make_map([f"stage {i}" for i in range(2_000)], [make_row("owner", "stage 0", item="Anna")]))


STATIC = Path(sys.prefix, "share/jupyter/lab/static")
# JupyterLab's own bundle, from which only Mermaid is taken: its start is held up until the page has what it wants.
PAGE = """<!doctype html><meta charset="utf-8"><title>drawn</title>
<script id="jupyter-config-data" type="application/json">{config}</script><body><script>
const chunks = self.{chunks} = [];
let need, fetchChunk;
chunks.push([["probe"], {{}}, found => {{
  need = found;
  fetchChunk = found.e;
  found.e = () => new Promise(() => {{}});
}}]);
</script><script src="{main}"></script><script>
need.e = fetchChunk;
const mermaid = (async () => {{
  await need.I("default");
  const [shared] = Object.values(need.S.default["@jupyterlab/mermaid"]);
  const {{ MermaidManager }} = (await shared.get())();
  return new MermaidManager().getMermaid();
}})();
async function draw(text) {{
  try {{
    const {{ svg }} = await (await mermaid).render("drawn", text);
    document.body.innerHTML = svg;
  }} catch (error) {{
    return {{ error: String(error) }};
  }}
  const texts = kind => [...document.querySelectorAll(`div.${{kind}} .label`)].map(each => each.textContent);
  return {{
    error: "", whole: document.body.textContent, tasks: texts("task"), sections: texts("journey-section"),
    lines: document.querySelectorAll("line.task-line").length, faces: document.querySelectorAll("circle.face").length,
    scripts: document.querySelectorAll("body svg script, body svg [onload], body svg [onerror], body svg img").length,
  }};
}}
</script>"""


@pytest.fixture(scope="module")
def mermaid_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A page with the Mermaid that JupyterLab brings along."""
    mains = sorted(STATIC.glob("main.*.js"))
    if not mains:
        pytest.skip("JupyterLab's bundle, and the Mermaid in it, is not here")
    chunks = re.search(r"\bself\.?\[?\"?((?:webpack|rspack)Chunk\w+)", mains[0].read_text(encoding="utf-8"))
    assert chunks, "JupyterLab's bundle is made otherwise now"
    config = {"fullStaticUrl": STATIC.as_uri(), "federated_extensions": [], "baseUrl": "http://127.0.0.1:1/"}
    folder = tmp_path_factory.mktemp("mermaid")
    page = folder / "page.html"
    written = PAGE.format(config=json.dumps(config), main=mains[0].as_uri(), chunks=chunks[1])
    page.write_text(written, encoding="utf-8")
    browser = Browser(folder / "profile")
    browser.open(page)
    yield browser
    browser.close()


def draw(browser: Browser, text: str) -> dict[str, Any]:
    return dict(browser.ask(f"draw({json.dumps(text)})"))


@needs_chromium
def test_mermaid_itself_draws_the_demo(mermaid_page: Browser, demo: JourneyMap) -> None:
    text = map_mermaid(demo)
    _title, sections = read_mermaid(text)
    drawn = draw(mermaid_page, text)
    assert drawn["error"] == ""
    assert "Syntax error" not in drawn["whole"]
    steps = demo.cells[(demo.cells["lane"] == "steps") & (demo.cells["item"] != "(other)")]
    assert drawn["tasks"] == list(steps["item"])
    assert drawn["lines"] == drawn["faces"] == len(steps) == 24
    assert drawn["sections"] == [name for name, _tasks in sections]
    assert drawn["sections"][0] == "discover (feeling unknown)"


@needs_chromium
def test_mermaid_itself_draws_hostile_names(mermaid_page: Browser, hostile: JourneyMap) -> None:
    text = map_mermaid(hostile)
    _title, sections = read_mermaid(text)
    drawn = draw(mermaid_page, text)
    assert drawn["error"] == ""
    assert "Syntax error" not in drawn["whole"]
    assert drawn["lines"] == drawn["faces"] == 4 * len(NAMES)
    assert drawn["tasks"] == [task for _name, tasks in sections for task, _score, _actors in tasks]
    assert drawn["sections"] == [name for name, _tasks in sections]
    assert drawn["scripts"] == 0
    assert mermaid_page.ask("document.title") == "drawn"


@needs_chromium
def test_mermaid_would_say_that_it_cannot_read(mermaid_page: Browser) -> None:
    assert draw(mermaid_page, "journey\n  section a\n    journey on: 3: b\n")["error"]


@needs_chromium
def test_every_character_alone_is_a_task(mermaid_page: Browser) -> None:
    names = [f"{chr(code)}a{chr(code)}" for code in range(33, 127)]
    names += [
        "journey",
        "Title x",
        "section",
        "accTitle: a",
        "accDescr { b }",
        "%%{init}%%",
        "style a:#38;b",
        "ﬂ°°60¶ß",
        "---",
    ]
    drawn = draw(mermaid_page, map_mermaid(make_map(["s"], [share("steps", "s", 1, names[0])])))
    assert drawn["tasks"] == names[:1]
    stages = [f"s{i}" for i in range(len(names))]
    rows = [share("steps", stage, 1, name) for stage, name in zip(stages, names, strict=True)]
    rows += [share("touchpoints", stage, 1, f"{name} · {name}") for stage, name in zip(stages, names, strict=True)]
    drawn = draw(mermaid_page, map_mermaid(make_map(stages, rows)))
    assert drawn["error"] == ""
    assert drawn["tasks"] == names


# CJML


def test_cjml_has_a_point_per_touchpoint(small: JourneyMap) -> None:
    journey = ElementTree.fromstring(map_cjml(small)).find("actualJourney")
    assert journey is not None
    assert [each.findtext("phaseName") for each in journey.iter("journeyPhase")] == ["look", "buy", "stay"]
    points = list(journey.find("touchpoints") or [])
    assert [
        (point.tag, point.findtext("initiator/initiatorLabel"), point.findtext("channel/channelName"))
        for point in points
    ] == [
        ("actualCommunicationPoint", "shop", "web"),
        ("actualCommunicationPoint", "shop", "desk · phone"),
        ("actualAction", "pay: 100%, now", None),
    ]
    assert points[1].findtext("comment") == "shop · desk · phone: 25.0 % (12.5–25.0 %) [measured · of 40 customers]"
    assert [point.findtext("touchpointExperience/experienceRating") for point in points] == [None, None, "2"]
    assert journey.findtext("actors/endUser/actorName") == "Kim & Co"


def test_cjml_refers_to_what_it_has(hostile: JourneyMap, demo: JourneyMap) -> None:
    for each in (hostile, demo):
        root = ElementTree.fromstring(map_cjml(each))
        assert (root.tag, root.attrib) == ("CJML", {"version": "2.0"})
        ids = [found.text for found in root.iter("touchpointID")]
        named = each.cells[(each.cells["lane"] == "touchpoints") & ~each.cells["item"].isin(["", "(other)"])]
        assert len(ids) == len(set(ids)) == len(named)
        phases = [found.get("phaseID") for found in root.iter("journeyPhase")]
        assert [found.get("phaseIDref") for found in root.iter("belongsTo")] == [
            phases[each.stages.index(stage)] for stage in named["stage"]
        ]
        actors = {found.get("actorID") for found in root.findall(".//actors/*")}
        assert {found.get("actorIDref") for found in root.iter("refersTo")} == actors
    names = [found.text for found in ElementTree.fromstring(map_cjml(hostile)).iter("phaseName")]
    assert names == [clean(name) for name in NAMES]


# draw.io


def read_cells(text: str) -> dict[str, tuple[ElementTree.Element, tuple[float, float, float, float] | None]]:
    cells: dict[str, tuple[ElementTree.Element, tuple[float, float, float, float] | None]] = {}
    for cell in ElementTree.fromstring(text).iter("mxCell"):
        name = str(cell.get("id"))
        assert name not in cells
        box = cell.find("mxGeometry")
        place = None if box is None else tuple(float(box.get(side, 0)) for side in ("x", "y", "width", "height"))
        cells[name] = (cell, place)  # type: ignore[assignment]
    return cells


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = list[str](), ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += "\n"

    def handle_data(self, data: str) -> None:
        self.text += data


def read_label(cell: ElementTree.Element) -> str:
    parser = Tags()
    parser.feed(cell.get("value", ""))
    parser.close()
    assert set(parser.tags) <= {"br"}
    return parser.text


@pytest.mark.parametrize("which", ["small", "hostile", "demo"])
def test_drawio_is_a_grid(which: str, request: pytest.FixtureRequest) -> None:
    journey_map: JourneyMap = request.getfixturevalue(which)
    cells = read_cells(map_drawio(journey_map))
    assert cells["0"][0].get("parent") is None
    assert cells["1"][0].get("parent") == "0"
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for name, (cell, place) in cells.items():
        if name in "01":
            continue
        assert place is not None
        x, y, width, height = place
        parent, outer = cells[str(cell.get("parent"))]
        if outer is not None:
            head = 40 if "swimlane" in parent.get("style", "") else 0
            assert x >= 0
            assert y >= head
            assert x + width <= outer[2]
            assert y + height <= outer[3]
        for left, top, wide, high in boxes.setdefault(str(cell.get("parent")), []):
            assert x >= left + wide or left >= x + width or y >= top + high or top >= y + height, (
                f"{name} covers another"
            )
        boxes[str(cell.get("parent"))].append(place)
    filled = journey_map.cells[journey_map.cells["evidence"] != "unknown"]
    known = {(journey_map.stages.index(row["stage"]), row["lane"]) for row in filled.to_dict("records")}
    assert {name for name in cells if name.startswith("cell-")} == {f"cell-{i}-{lane}" for i, lane in known}
    for i, lane in known:
        # The same lane is at the same height in each stage.
        assert cells[f"cell-{i}-{lane}"][1][1::2] == cells[f"lane-{lane}"][1][1::2]  # type: ignore[index]


def test_drawio_shows_names_as_they_are(hostile: JourneyMap) -> None:
    cells = read_cells(map_drawio(hostile))
    for i, stage in enumerate(NAMES):
        assert read_label(cells[f"stage-{i}"][0]) == shorten(stage, 60)
        lines = read_label(cells[f"cell-{i}-steps"][0]).split("\n")
        assert lines[-1] == "[measured · of 40 customers]"
        assert lines[0].endswith(": 50.0 % (25.0–50.0 %)")
        assert len(lines) == 5


@needs_chromium
def test_text_fits_into_its_notes(demo: JourneyMap, tmp_path: Path) -> None:
    notes = []
    for cell, place in read_cells(map_drawio(demo)).values():
        if place is not None and (text := cell.get("value")):
            inner = f"width:{place[2] - 12}px;height:{place[3]}px" if "spacing=6" in cell.get("style", "") else ""
            inner = inner or f"width:{place[2]}px;height:{min(place[3], 40)}px"
            notes.append(f'<div class="n" style="{inner};overflow:hidden;font:12px/1.2 Helvetica,Arial">{text}</div>')
    page = tmp_path / "notes.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{"".join(notes)}', encoding="utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(page)
        is_cut = "n.scrollHeight > n.clientHeight || n.scrollWidth > n.clientWidth"
        found = f"[...document.querySelectorAll('.n')].filter(n => {is_cut}).map(n => n.textContent)"
        assert browser.ask(found) == []
        assert browser.ask("document.querySelectorAll('.n').length") == len(notes)
    finally:
        browser.close()


# Excel


def read_sheet(path: Path, name: str) -> list[list[Any]]:
    return [list(row) for row in openpyxl.load_workbook(path)[name].iter_rows(values_only=True)]


def test_grid_is_ready_for_a_whiteboard(small: JourneyMap, tmp_path: Path) -> None:
    path = write_map_sheets(small, tmp_path / "map.xlsx")
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Map", "Facts", "Cells", "Moments"]
    grid = read_sheet(path, "Map")
    assert grid[0] == ["Kim & Co", "look", "buy", "stay"]
    assert grid[1] == [
        "Steps",
        "shop: 50.0 % (25.0–50.0 %)\njourney on: 50.0 % (25.0–50.0 %)\n(other): 50.0 % (25.0–50.0 %)\n"
        "[measured · of 40 customers]",
        "pay: 100%, now: 50.0 % (25.0–50.0 %)\n[measured · of 40 customers]",
        None,
    ]
    assert grid[-1] == ["Owner", None, "'=Anna – workshop\n[assumed]", None]
    page = book["Map"]
    assert page.freeze_panes == "B2"
    assert all(cell.alignment.wrap_text for row in page.iter_rows() for cell in row)
    assert page.row_dimensions[2].height >= 4 * 15


def test_cells_and_facts_are_all_there(demo: JourneyMap, tmp_path: Path) -> None:
    path = write_map_sheets(demo, tmp_path / "map.xlsx")
    head, *rows = read_sheet(path, "Cells")
    assert tuple(head) == COLUMNS
    assert len(rows) == len(demo.cells)
    for row, cell in zip(rows, json.loads(demo.to_json())["cells"], strict=True):
        assert row == [None if value == "" else value for value in cell.values()]
    head, *rows = read_sheet(path, "Moments")
    assert tuple(head) == MOMENTS
    assert len(rows) == len(demo.moments)
    facts = dict(read_sheet(path, "Facts")[1:])
    assert facts["n_customers"] == 1500
    assert facts["Base"].startswith("1,500 customers · 1,883 journeys · 837 of them still on the way")


def test_nothing_in_excel_is_a_formula(hostile: JourneyMap, tmp_path: Path) -> None:
    book = openpyxl.load_workbook(write_map_sheets(hostile, tmp_path / "map.xlsx"))
    texts = [cell for page in book for row in page.iter_rows() for cell in row if isinstance(cell.value, str)]
    assert len(texts) > 500
    assert {cell.data_type for cell in texts} == {"s"}
    assert not [cell.value for cell in texts if cell.value[0] in "=+-@\t\r\n＝＋－＠"]
    items = [row[COLUMNS.index("item")] for row in read_sheet(tmp_path / "map.xlsx", "Cells")[1:]]
    shown = {name: items[i] for i, name in enumerate(hostile.cells["item"]) if name in NAMES}
    for name in ("script", "quotes", "arabic", "sql", "template", "override"):
        assert shown[ATTACKS[name]] == ATTACKS[name]
    assert shown[ATTACKS["formula"]] == "'" + ATTACKS["formula"]


def test_excel_takes_no_name_for_an_error(tmp_path: Path) -> None:
    names = ["#N/A", "#REF!", "TRUE", "12", "1e5", "_x0041_"]
    journey_map = make_map(names, [share("steps", name, 1, name) for name in names])
    page = openpyxl.load_workbook(write_map_sheets(journey_map, tmp_path / "map.xlsx"))["Map"]
    assert [(cell.value, cell.data_type) for cell in page[1][1:6]] == [(name, "s") for name in names[:5]]
    # Excel would show "A" for the last, were its first letter not written by number itself.
    assert page[1][6].value == "_x005F_x0041_"


@given(st.text())
def test_apostrophe_comes_off_again(text: str) -> None:
    assert rearm(disarm(text)) == text
    assert disarm(text)[:1] not in tuple("=+-@\t\r\n＝＋－＠")


@pytest.mark.parametrize("which", ["small", "hostile"])
def test_same_map_same_bytes(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    first: JourneyMap = request.getfixturevalue(which)
    second = load_map(first.to_json())
    one = write_map_sheets(first, tmp_path / "one.xlsx")
    # A zip file's times have steps of two seconds.
    time.sleep(2.1 if which == "small" else 0)
    assert filecmp.cmp(one, write_map_sheets(second, tmp_path / "two.xlsx"), shallow=False)
    for write in (map_mermaid, map_cjml, map_drawio):
        assert write(second) == write(first)


@pytest.mark.parametrize("lang", ["pl", "ru"])
def test_other_languages_are_as_whole(demo: JourneyMap, lang: str, tmp_path: Path) -> None:
    english = read_mermaid(map_mermaid(demo))[1]
    with use_language(lang):
        sections = read_mermaid(map_mermaid(demo))[1]
        points = list(ElementTree.fromstring(map_cjml(demo)).iter("comment"))
        names = openpyxl.load_workbook(write_map_sheets(demo, tmp_path / "map.xlsx")).sheetnames
        assert read_cells(map_drawio(demo)).keys() == read_cells(map_drawio(demo)).keys()
    assert [tasks for _name, tasks in sections] == [tasks for _name, tasks in english]
    assert len(points) == sum(1 for _ in ElementTree.fromstring(map_cjml(demo)).iter("comment"))
    assert len(set(names)) == 4


# JSON

FIGURES = st.none() | st.floats(-1e6, 1e6) | st.just(math.nan)
COUNTS = st.none() | st.integers(0, 10**9)
TEXTS = st.text(max_size=12) | st.sampled_from(NAMES)


@st.composite
def maps(choose: st.DrawFn) -> JourneyMap:
    stages = choose(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    lanes = choose(st.lists(st.sampled_from(list(LANES)), min_size=1, max_size=4, unique=True))
    drawn = {"item": TEXTS, "note": TEXTS, "value": FIGURES, "low": FIGURES, "high": FIGURES, "n": COUNTS}
    drawn |= {"unit": st.sampled_from(UNITS), "evidence": st.sampled_from(EVIDENCE)}
    rows = [
        {"lane": lane, "stage": stage, "rank": rank} | choose(st.fixed_dictionaries(drawn))
        for lane in lanes
        for stage in stages
        for rank in range(1, choose(st.integers(2, 4)))
    ]
    for row in rows:
        # Text alone has no figure.
        row |= dict.fromkeys(("value", "low", "high")) if row["unit"] == "text" else {}
    moment = {"measure": st.sampled_from(["feeling", "drop_off"]), "is_moment": st.booleans(), "n": COUNTS}
    moment |= {"p_adjusted": st.floats(0, 1)} | dict.fromkeys(
        ("value", "value_other", "difference", "low", "high"), FIGURES
    )
    moments = [{"stage": stage} | choose(st.fixed_dictionaries(moment)) for stage in stages]
    facts = FACTS | {"first": choose(st.none() | st.just("2026-01-01T00:00:00")), "n_open": choose(st.integers(0, 9))}
    return JourneyMap(choose(TEXTS), tuple(stages), tuple(lanes), tidy_cells(rows), tidy_moments(moments), facts)


VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@examples(40)
@given(maps())
def test_every_map_is_valid_and_comes_back(journey_map: JourneyMap) -> None:
    text = journey_map.to_json()
    VALIDATOR.validate(json.loads(text))
    again = load_map(text)
    assert again == journey_map
    assert again.to_json() == text
    assert list(again.cells["item"]) == list(journey_map.cells["item"])


@examples(20)
@given(maps())
def test_any_map_is_written_in_every_format(journey_map: JourneyMap) -> None:
    assert len(read_mermaid(map_mermaid(journey_map))[1]) == len(journey_map.stages)
    assert ElementTree.fromstring(map_cjml(journey_map)).tag == "CJML"
    assert len(read_cells(map_drawio(journey_map))) > 2


def test_schema_says_what_the_model_says() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    parts = SCHEMA["$defs"]
    assert parts["lane"]["enum"] == list(LANES)
    assert tuple(parts["cell"]["required"]) == tuple(parts["cell"]["properties"]) == COLUMNS
    assert tuple(parts["cell"]["properties"]["unit"]["enum"]) == UNITS
    assert tuple(parts["cell"]["properties"]["evidence"]["enum"]) == EVIDENCE
    assert tuple(parts["moment"]["required"]) == tuple(parts["moment"]["properties"]) == MOMENTS
    assert SCHEMA["properties"]["format"]["const"] == journeymap.model.FORMAT


def test_demo_is_valid(demo: JourneyMap) -> None:
    VALIDATOR.validate(json.loads(demo.to_json()))
    assert load_map(demo.to_json()) == demo


@pytest.mark.parametrize("place", [(), ("facts",), ("cells", 0), ("moments", 0)])
def test_schema_misses_what_is_not_there(demo: JourneyMap, place: tuple[str | int, ...]) -> None:
    whole = json.loads(demo.to_json())
    part = whole
    for name in place:
        part = part[name]
    required = (
        SCHEMA["required"]
        if not place
        else SCHEMA["$defs"][str(place[0]).rstrip("s") if len(place) > 1 else "facts"]["required"]
    )
    for name in required:
        value = part.pop(name)
        assert not VALIDATOR.is_valid(whole)
        part[name] = value
    assert VALIDATOR.is_valid(whole)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("lane", "mood"), ("rank", 0), ("value", "0.5"), ("unit", "%"), ("n", -1), ("evidence", "guessed"), ("extra", 1)],
)
def test_schema_refuses_what_is_wrong(small: JourneyMap, name: str, wrong: object) -> None:
    whole = json.loads(small.to_json())
    assert VALIDATOR.is_valid(whole)
    whole["cells"][0][name] = wrong
    assert not VALIDATOR.is_valid(whole)
