"""Pictures of a journey map: what they show is what the map holds, on a screen, on a phone, on paper."""

from __future__ import annotations

import importlib.util
import math
import re
import struct
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browser import Browser, needs_chromium
from test_hostile import ATTACKS, BEYOND, CUT_OFF, HANDLERS

from journeylab.errors import ReportError, RuleError
from journeylab.journeymap import LANES, JourneyMap, load_map
from journeylab.journeymap.model import tidy_cells, tidy_moments
from journeylab.map_curve import CURVE, draw_curve
from journeylab.map_page import map_html, save_map
from journeylab.map_picture import draw_map, draw_maps
from journeylab.map_words import describe_map
from journeylab.svg_map import map_svg, size_svg

NAN = math.nan
STAGES = ("look", "buy", "pay", "thank")
FILLED = ("steps", "reach", "drop_off", "feeling", "pain_points", "owner", "quick_wins")
FOLDED = ("said", "backstage")
_PACKAGE = importlib.util.find_spec("axe_playwright_python")
AXE = Path(*(_PACKAGE.submodule_search_locations or ()), "axe.min.js") if _PACKAGE else None

Cell = dict[str, Any]


def cell(lane: str, stage: str, value: float = NAN, **more: Any) -> Cell:
    """A line of a cell; what is not said is empty."""
    empty = {"item": "", "unit": "share", "n": NAN, "low": NAN, "high": NAN, "evidence": "measured", "note": ""}
    return {"lane": lane, "stage": stage, "rank": 1, "value": value} | empty | more


def make_cells() -> list[Cell]:
    cells = []
    for i, stage in enumerate(STAGES):
        reached = (1.0, 0.62, 0.31, 0.127)[i]
        base = round(1_234 * reached)
        cells.append(cell("reach", stage, reached, n=1_234, low=reached - 0.027, high=min(1.0, reached + 0.023)))
        cells.append(cell("steps", stage, 0.876, item=f"{stage}_page", n=base, low=0.853, high=0.899))
        cells.append(cell("steps", stage, 0.234, item="(other)", rank=2, n=base, low=0.212, high=0.256))
        cells.append(cell("drop_off", stage, 0.1 * i + 0.015, n=base + 3, low=0.1 * i + 0.007, high=0.1 * i + 0.044))
    told: dict[str, Any] = {"unit": "feeling", "evidence": "stated", "n": 45}
    cells.append(cell("feeling", "look", 0.5, low=0.25, high=0.75, **told))
    cells.append(cell("feeling", "pay", -0.75, low=-1.0, high=-0.5, **told))
    cells.append(cell("feeling", "thank", 0.25, **told))
    hurt: dict[str, Any] = {"note": "payment_error, low rating"}
    cells.append(cell("pain_points", "pay", 0.43, item="payment · app", n=290, low=0.37, high=0.49, **hurt))
    cells.append(cell("pain_points", "pay", 0.07, item="form · web", rank=2, n=374, low=0.05, high=0.11, **hurt))
    won: dict[str, Any] = {"unit": "count", "note": "web"}
    cells.append(cell("quick_wins", "look", 80.4, item="app", n=650, low=2.1, high=133.0, **won))
    cells.append(cell("quick_wins", "pay", 30.6, item="app", n=298, low=14.9, high=47.0, **won))
    for stage, evidence in (("look", "stated"), ("pay", "assumed")):
        cells.append(cell("owner", stage, item="Shop team", unit="text", evidence=evidence))
    known = {(each["lane"], each["stage"]) for each in cells}
    blank: dict[str, Any] = {"unit": "text", "evidence": "unknown"}
    lanes = (*FILLED, *FOLDED)
    return cells + [cell(lane, stage, **blank) for lane in lanes for stage in STAGES if (lane, stage) not in known]


def make_moments() -> list[Cell]:
    felt = {"measure": "feeling", "value": -0.75, "value_other": 0.41, "n": 45, "difference": -1.16, "low": -1.4}
    lost = {"measure": "drop_off", "value": 0.315, "value_other": 0.08, "n": 160, "difference": 0.235, "low": 0.2}
    return [
        {"stage": "pay", "high": -0.9, "p_adjusted": 1e-9, "is_moment": True} | felt,
        {"stage": "thank", "high": 0.27, "p_adjusted": 1e-5, "is_moment": True} | lost,
        {"stage": "look", "high": 0.1, "p_adjusted": 0.3, "is_moment": False} | lost,
    ]


FACTS: dict[str, Any] = {
    "n_customers": 1_234,
    "n_journeys": 1_500,
    "n_open": 321,
    "n_without_stage": 17,
    "min_group": 10,
    "top": 5,
    "first": "2026-08-01T04:09:45.007000",
    "last": "2026-10-31T22:33:02.277000",
    "worst": [
        {"stage": "pay", "touchpoint": "payment", "channel": "app", "n_customers": 125, "severity": 0.6, "weight": 78.0}
    ],
}


def make_map(title: str = "", **changes: Any) -> JourneyMap:
    given = {"cells": make_cells(), "moments": make_moments(), "facts": FACTS} | changes
    lanes = tuple(lane for lane in LANES if lane in (*FILLED, *FOLDED))
    return JourneyMap(title, STAGES, lanes, tidy_cells(given["cells"]), tidy_moments(given["moments"]), given["facts"])


@pytest.fixture(scope="module")
def journey_map() -> JourneyMap:
    return make_map()


class Reader(HTMLParser):
    """What a page says: its rows, cell by cell, and what screen readers are told of marks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.heads: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._is_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._is_style = tag == "style"
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            if tag == "th":
                self.heads.append((told.get("scope") or "", ""))
        if tag == "i" and told.get("role") == "img":
            self._say(f" [{told['aria-label']}] ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.rows.append([])
        self._is_style = False
        if tag in ("p", "li", "div", "span", "b", "small", "text", "tspan"):
            self._say(" ")

    def handle_data(self, data: str) -> None:
        if not self._is_style:
            self._say(data)

    def _say(self, words: str) -> None:
        self.text.append(words)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += words

    def row(self, name: str, *, at: int = 0) -> list[str]:
        found = [[" ".join(text.split()) for text in row] for row in self.rows]
        return [row for row in found if row and row[0].startswith(name)][at]


def written_numbers(journey_map: JourneyMap) -> set[str]:
    """Every number of the map, as people would write it, by other means than the package's own."""
    said: set[str] = set()

    def add(*texts: str) -> None:
        said.update(text.replace("-", "−") for text in texts)

    for row in journey_map.cells.to_dict("records"):
        for name in ("value", "low", "high"):
            value = row[name]
            if math.isnan(value):
                continue
            add({"share": f"{100 * value:.1f}", "feeling": f"{value:+.2f}"}.get(row["unit"], f"{value:,.0f}"))
        if not math.isnan(row["n"]):
            add(f"{row['n']:,.0f}")
    for row in journey_map.moments.to_dict("records"):
        for name in ("value", "difference"):
            add(f"{100 * row[name]:.1f}", f"{100 * row[name]:+.1f}", f"{row[name]:+.2f}")
    facts = journey_map.facts
    add(*(f"{facts[name]:,}" for name in ("n_customers", "n_journeys", "n_open", "n_without_stage", "min_group")))
    add(*(f"{worst['n_customers']:,}" for worst in facts["worst"]))
    return said


# Dates, and what the notes say of the method.
_OF_METHOD = {"2026-08-01", "2026-10-31", "95", "1", "−1", "0.2", "10"}


@pytest.mark.parametrize("draw", ["page", "svg"])
def test_every_number_is_one_of_the_map(journey_map: JourneyMap, draw: str) -> None:
    page = map_html(journey_map) if draw == "page" else map_svg(journey_map)
    text = " ".join(Reader(page).text)
    found = set(re.findall(r"\d{4}-\d\d-\d\d|[+−]?\d+(?:,\d{3})*(?:\.\d+)?", text))
    assert found - written_numbers(journey_map) - _OF_METHOD == set()
    shown = set() if draw == "svg" else {f"{100 * v:.1f}" for v in journey_map.cells.query("unit == 'share'")["value"]}
    assert shown <= found
    assert {"1,234", "125", "−0.75"} <= found


def test_a_cell_has_value_interval_base_and_grade(journey_map: JourneyMap) -> None:
    page = Reader(map_html(journey_map))
    assert page.row("Drop-off")[3] == "21.5 % 20.7–24.4 % [measured] of 386 journeys"
    assert page.row("Who gets here")[2] == "62.0 % 59.3–64.3 % [measured] of 1,234 customers"
    feelings = page.row("Feeling", at=1)
    assert feelings[1] == "+0.50 +0.25 to +0.75 [stated] mean of 45 customers"
    assert feelings[2] == "– unknown"
    assert feelings[3] == "−0.75 −1.00 to −0.50 [stated] mean of 45 customers −1.16 against other stages"
    assert feelings[4] == "+0.25 [stated] mean of 45 customers"
    assert page.row("Owner")[1:4] == ["[stated] Shop team", "– unknown", "[assumed] Shop team"]
    # What both lines stand on is said once; what differs, with each.
    assert page.row("Steps")[2].count("of 765 customers") == 1
    assert (
        "form · web 7.0 % 5.0–11.0 % payment_error, low rating [measured] of 374 customers"
        in page.row("Pain points")[3]
    )
    assert page.row("Quick wins")[1] == (
        "app up to 80 journeys 2 – 133 if it lost as few as web [measured] of 650 journeys"
    )


def test_the_table_is_one_for_screen_readers(journey_map: JourneyMap) -> None:
    page = map_html(journey_map)
    assert re.search("<caption>Journey map: stages across, lanes down</caption>", page)
    heads = Reader(page)
    assert heads.row("lane") == ["lane", "look", "buy", "pay moment that matters: Feeling", *heads.row("lane")[4:]]
    assert heads.row("lane")[4] == "thank moment that matters: Drop-off"
    scopes = [scope for scope, _text in heads.heads]
    n_rows = len(FILLED) + 1 + 1
    assert scopes == ["col"] * (1 + len(STAGES)) + ["row"] * n_rows
    assert 'lang="en"' in page
    assert "How it feels, from −1 to 1: look +0.50; pay −0.75; thank +0.25." in unescape(page)


def test_lanes_of_which_nothing_is_known_are_one_line(journey_map: JourneyMap) -> None:
    page = Reader(map_html(journey_map))
    assert page.row("[unknown] Not known yet")[1] == (
        "What they say · Backstage Nothing is known here yet. A workshop can tell: fill in its template. "
        "Customers can tell: attach their answers."
    )
    assert not [row for row in page.rows if row and row[0].startswith("Backstage")]
    assert "What they say · Backstage: Nothing is known here yet." in " ".join(Reader(map_svg(journey_map)).text)


def test_the_curve_stands_where_feelings_are(journey_map: JourneyMap) -> None:
    drawing = draw_curve([journey_map], stage_width=100)
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="6"', drawing)]
    assert [x for x, _y in points] == [50, 250, 350]
    heights = [(CURVE / 2 - y) / (CURVE / 2 - 44) for _x, y in points]
    assert heights == pytest.approx([0.5, -0.75, 0.25], abs=0.001)
    whiskers = re.findall(r'<path d="M(\d+) ([\d.]+)V([\d.]+)" class="w"', drawing)
    spans = [[(CURVE / 2 - float(end)) / (CURVE / 2 - 44) for end in (low, high)] for _x, high, low in whiskers]
    assert spans[:2] == [pytest.approx([0.25, 0.75], abs=0.001), pytest.approx([-1, -0.5], abs=0.001)]
    assert spans[2] == pytest.approx([0.25, 0.25], abs=0.001)
    # Over the stage nobody spoke of the line is dashed, and there is no point.
    assert re.findall(r'class="(l|l d)"', drawing) == ["l d", "l"]
    assert re.findall(r'cx="(\d+)"[^>]*class="q u"', drawing) == ["150"]
    assert re.findall(r'cx="(\d+)"[^>]*r="11" class="k"', drawing) == ["250"]


def test_bars_are_as_long_as_their_figures(journey_map: JourneyMap) -> None:
    page = map_html(journey_map)
    lost = re.search('class="jl-a lane-drop_off".*?</tr>', page, flags=re.DOTALL)
    assert lost
    # The largest upper bound, 34.4 %, fills the cell.
    bars: list[tuple[Any, Any]] = [
        (float(v), float(h)) for v, h in re.findall(r"--v:([\d.]+)%;--l:[\d.]+%;--h:([\d.]+)%", lost[0])
    ]
    assert bars == [
        (
            pytest.approx(100 * (0.1 * i + 0.015) / 0.344, abs=0.06),
            pytest.approx(100 * (0.1 * i + 0.044) / 0.344, abs=0.06),
        )
        for i in range(4)
    ]


def test_the_same_map_has_the_same_bytes(journey_map: JourneyMap) -> None:
    again = load_map(journey_map.to_json())
    assert again == journey_map
    assert map_html(again) == map_html(journey_map)
    assert map_svg(again) == map_svg(journey_map)
    assert draw_maps(again, journey_map).html == draw_maps(journey_map, again).html


def test_what_a_map_says(journey_map: JourneyMap) -> None:
    assert describe_map(journey_map) == (
        "Moments that matter: pay (feeling −0.75, −1.16 against other stages); thank (drop-off before the goal 31.5 %, "
        "+23.5 pp against other stages). Worst pain point: payment · app at pay, which hurts 125 customers. Surest "
        "quick win: if app lost as few as web at pay, at most 31 journeys fewer (15 – 47) would be lost."
    )
    calm = [moment | {"is_moment": False} for moment in make_moments()]
    quiet = make_map(moments=calm, facts=FACTS | {"worst": []}, cells=[c for c in make_cells() if c["unit"] != "count"])
    assert describe_map(quiet) == "No stage stands out from the others in feeling or drop-off by more than noise."
    assert describe_map(make_map(moments=[], facts=FACTS | {"worst": []}, cells=[])) == ""


def test_pain_that_nobody_weighed_is_not_the_worst() -> None:
    worst = [FACTS["worst"][0] | {"weight": weight} for weight in (None, NAN, 0.0)]
    assert "Worst" not in describe_map(make_map(facts=FACTS | {"worst": worst}))


def test_a_blueprint_is_parted_by_its_lines(journey_map: JourneyMap) -> None:
    page = Reader(draw_map(journey_map, kind="blueprint").html)
    names = [" ".join(row[0].split()) for row in page.rows if row]
    lanes = {lane for each in FILLED for lane in [LANES[each]]}
    assert [name for name in names if name not in lanes and name != "lane"] == [
        "Customer",
        "Feeling delighted neutral upset",
        "[unknown] Not known yet",
        "Back stage line of visibility",
        "[unknown] Not known yet",
        "Support line of internal interaction",
    ]
    assert names.index("Steps") < names.index("Back stage line of visibility") < names.index("Owner")
    assert sorted(name for name in names if name in lanes) == sorted(lanes)


def test_two_maps_stand_in_one_picture(journey_map: JourneyMap) -> None:
    other = make_map("Before", moments=[], facts=FACTS | {"n_customers": 77})
    page = Reader(draw_maps(journey_map, other).html)
    assert page.row("A Drop-off")[1:4] == page.row("B Drop-off")[1:4]
    assert page.row("A Drop-off")[4] == page.row("B Drop-off")[4] + " +23.5 pp against other stages"
    said = " ".join(" ".join(page.text).split())
    assert "A Journey map 1,234 customers" in said
    assert "B Before 77 customers" in said
    curve = draw_curve([journey_map, other])
    # The second is square: told apart without colour.
    assert (curve.count('r="6"'), curve.count('<rect x="')) == (3, 3 + 2)


def test_maps_of_other_stages_are_not_set_side_by_side(journey_map: JourneyMap) -> None:
    other = JourneyMap("", ("look",), (), tidy_cells([]), tidy_moments([]), FACTS)
    with pytest.raises(RuleError) as caught:
        draw_maps(journey_map, other)
    assert str(caught.value) == (
        "draw_maps: both maps must have the same stages; build them with the same rules. "
        "First: look, buy, pay, thank. Second: look"
    )
    with pytest.raises(RuleError, match=r"^draw_map: kind must be .*, found 'future'$"):
        draw_map(journey_map, kind="future")  # type: ignore[arg-type]


def test_files_by_their_ending(journey_map: JourneyMap, tmp_path: Path) -> None:
    assert save_map(journey_map, tmp_path / "map.html").read_text(encoding="utf-8") == map_html(journey_map)
    assert save_map(journey_map, str(tmp_path / "map.svg")).read_text(encoding="utf-8") == map_svg(journey_map)
    assert load_map(save_map(journey_map, tmp_path / "map.json")) == journey_map
    for ending, written in ((".mmd", journey_map.to_mermaid()), (".cjml", journey_map.to_cjml())):
        assert save_map(journey_map, tmp_path / f"map{ending}").read_text(encoding="utf-8") == written
    assert save_map(journey_map, tmp_path / "map.drawio").read_text(encoding="utf-8") == journey_map.to_drawio()
    assert save_map(journey_map, tmp_path / "map.xlsx").read_bytes()[:2] == b"PK"
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["map.cjml", "map.drawio", "map.html", "map.json", "map.mmd", "map.svg", "map.xlsx"]
    expected = 'save_map: "map.jpg" must end in .html, .pdf, .png, .xlsx, .svg, .json, .mmd, .cjml or .drawio'
    with pytest.raises(ReportError, match=f"^{re.escape(expected)}$"):
        save_map(journey_map, tmp_path / "map.jpg")
    with pytest.raises(
        ReportError, match=r'^save_map: a .svg shows one map of kind "current"; save "map.html" or .pdf$'
    ):
        save_map(journey_map, tmp_path / "map.svg", kind="blueprint")
    assert sorted(path.name for path in tmp_path.iterdir()) == made


def test_without_a_browser_the_error_says_what_to_install(
    journey_map: JourneyMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReportError, match="install it"):
        save_map(journey_map, tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []


@needs_chromium
def test_a_picture_and_a_sheet_of_paper(journey_map: JourneyMap, tmp_path: Path) -> None:
    png = save_map(journey_map, tmp_path / "map.png").read_bytes()
    width, height = size_svg(map_svg(journey_map))
    assert struct.unpack(">II", png[16:24]) == (2 * width, 2 * height)
    pdf = save_map(journey_map, tmp_path / "map.pdf").read_bytes()
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)}
    # A3 across, in points.
    assert [(round(box[2]), round(box[3])) for box in boxes] == [(1191, 842)]


def make_hostile() -> JourneyMap:
    """Every name an attack: the stages, what happens there, what was said of it, the title."""
    stages = tuple(
        ATTACKS[name] for name in ("script", "long", "words", "arabic", "closing", "style", "zalgo", "lines")
    )
    others = list(ATTACKS.values())
    texts = iter(others * 20)
    cells = []
    for each in make_cells():
        for stage in stages[STAGES.index(each["stage"]) :: len(STAGES)]:
            named = {"item": next(texts), "note": next(texts)} if each["item"] else {}
            cells.append(each | {"stage": stage} | named)
    moments = [each | {"stage": stage} for each in make_moments() for stage in (ATTACKS["long"], ATTACKS["arabic"])]
    worst = [
        FACTS["worst"][0] | {"stage": ATTACKS["long"], "touchpoint": ATTACKS["image"], "channel": ATTACKS["words"]}
    ]
    lanes = tuple(lane for lane in LANES if lane in (*FILLED, *FOLDED))
    facts = FACTS | {"worst": worst}
    return JourneyMap(ATTACKS["closing"], stages, lanes, tidy_cells(cells), tidy_moments(moments), facts)


def test_a_hostile_drawing_is_a_drawing_and_nothing_else() -> None:
    root = ElementTree.fromstring(map_svg(make_hostile()))
    tags = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()}
    assert tags <= {"svg", "g", "path", "rect", "text", "title", "desc", "style", "circle"}
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def save_kind(journey_map: JourneyMap, folder: Path, kind: str) -> Path:
    second = journey_map if kind == "two" else None
    return save_map(
        journey_map, folder / "map.html", second=second, kind="blueprint" if kind == "blueprint" else "current"
    )


@needs_chromium
@pytest.mark.parametrize("kind", ["current", "blueprint", "two"])
def test_in_a_browser_every_name_is_only_a_name(browser: Browser, tmp_path: Path, kind: str) -> None:
    page = save_kind(make_hostile(), tmp_path, kind)
    for width in (1440, 375):
        assert browser.open(page, width=width) == [page.as_uri()]
        assert browser.ask("document.title") == ATTACKS["closing"]
        assert browser.ask("document.scripts.length + document.images.length") == browser.ask(HANDLERS) == 0
        assert browser.ask(BEYOND.replace(".jl-scroll", ".jl-pane table[class*=nothing], .jl-strip, .jl-v")) == []
        assert browser.ask(CUT_OFF.replace("svg.jl", ".jl-wide")) == []
        assert browser.ask("document.documentElement.scrollWidth") <= width


@needs_chromium
def test_a_hostile_drawing_cuts_nothing_off(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{map_svg(make_hostile())}', encoding="utf-8")
    browser.open(page, width=1900)
    assert browser.ask(CUT_OFF) == []


@pytest.fixture
def page(journey_map: JourneyMap, tmp_path: Path) -> Path:
    return save_map(journey_map, tmp_path / "map.html")


@needs_chromium
def test_heads_and_lanes_stay_in_sight(browser: Browser, page: Path) -> None:
    top = "document.querySelectorAll('thead th')[1].getBoundingClientRect().top"
    browser.open(page, width=1440)
    browser.ask("document.body.style.paddingBottom = '2000px'; scrollTo(0, 500)")
    assert browser.ask(top) == 0
    browser.open(page, width=700)
    browser.ask("document.querySelector('.jl-pane').scrollTo(120, 200)")
    moved = browser.ask("document.querySelector('.jl-pane').scrollLeft")
    assert moved > 0
    edge = "document.querySelector('.jl-pane').getBoundingClientRect()"
    assert browser.ask(f"{top} - {edge}.top") == 0
    assert browser.ask(f"document.querySelector('tbody th').getBoundingClientRect().left - {edge}.left") == 0


@needs_chromium
def test_on_a_phone_each_stage_is_a_card(browser: Browser, page: Path) -> None:
    browser.open(page, width=375)
    assert browser.ask("document.documentElement.scrollWidth") == 375
    heads = browser.ask("[...document.querySelectorAll('thead th:not(.jl-c)')].map(e => e.getBoundingClientRect().top)")
    assert heads == sorted(heads)
    tops = browser.ask(
        "[...document.querySelectorAll('.lane-quick_wins td, .lane-drop_off td')].filter(e => e.offsetHeight > 20)"
        ".map(e => [e.cellIndex, e.getBoundingClientRect().top])"
    )
    assert {column for column, _top in tops} == {1, 2, 3, 4}
    for column, height in tops:
        assert heads[column - 1] < height < (heads[column] if column < len(heads) else math.inf)
    assert (
        browser.ask("getComputedStyle(document.querySelector('.lane-drop_off td'), '::before').content") == '"Drop-off"'
    )


@needs_chromium
@pytest.mark.parametrize("n_stages", [4, 16])
def test_on_paper_it_is_as_wide_as_the_sheet(browser: Browser, tmp_path: Path, n_stages: int) -> None:
    stages = tuple(f"stage_{i}" for i in range(n_stages))
    cells = [each | {"stage": stage} for stage in stages for each in make_cells() if each["stage"] == "pay"]
    lanes = tuple(lane for lane in LANES if lane in FILLED)
    many = JourneyMap("", stages, lanes, tidy_cells(cells), tidy_moments([]), FACTS)
    browser.open(save_map(many, tmp_path / "map.html"), width=1512)
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.ask("document.documentElement.scrollWidth") <= 1512
        assert browser.ask("document.querySelector('table').getBoundingClientRect().right") <= 1512
        assert (
            browser.ask(
                "document.querySelector('.jl-pane').scrollWidth - document.querySelector('.jl-pane').clientWidth"
            )
            <= 1
        )
        narrow = "Math.min(...[...document.querySelectorAll('thead th')].slice(1).map(e => e.offsetWidth))"
        assert browser.ask(narrow) > 100
    finally:
        browser.send("Emulation.setEmulatedMedia", media="screen")


@needs_chromium
@pytest.mark.skipif(AXE is None, reason="no axe-core: install axe-playwright-python")
@pytest.mark.parametrize(
    ("width", "dark", "kind"), [(1440, False, "two"), (800, True, "current"), (375, False, "blueprint")]
)
def test_everyone_can_use_it(
    browser: Browser, journey_map: JourneyMap, tmp_path: Path, width: int, kind: str, *, dark: bool
) -> None:
    assert AXE
    browser.open(save_kind(journey_map, tmp_path, kind), width=width, dark=dark)
    browser.ask(AXE.read_text(encoding="utf-8"))
    found = browser.ask("axe.run().then(done => done.violations.map(each => `${each.id}: ${each.nodes[0].html}`))")
    assert found == []
