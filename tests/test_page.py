"""What a report's own scripts do: tables are sorted, figures saved, nothing else happens, and all is there without."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ibis
import matplotlib.image
import nbformat
import numpy as np
import pandas as pd
import pytest
from browser import Browser, needs_chromium
from test_report import FACTS

import journeylab as jl
from journeylab.language import use_language
from journeylab.tables import show_table
from journeylab.templates import render_report

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</script><script>document.title='pwned'</script> ../\\..:"
TABLE = pd.DataFrame(
    {
        "event": ["a10", "b", "a9", "Ż", "c"],
        "n": [12408, 1098, 2, 2_000_000, 30],
        "share": [0.5, 0.075, np.nan, 1.0, 0.09],
        "difference": [-0.031, 0.002, np.nan, -0.4, 0.1],
        "median_time_s": [81.0, 93_600, 0.4, np.nan, 3_600],
        "p": [0.2, 0.0001, 0.001, np.nan, 0.9],
        "since": pd.to_datetime(["2026-10-01", "2025-12-31", None, "2026-09-30", "2026-02-15"]),
        "same": ["x", "x", "y", "x", "y"],
    }
)
# The rows in rising order, by their place before.
RISING = {
    "event": [2, 0, 1, 4, 3],
    "n": [2, 4, 1, 0, 3],
    "share": [1, 4, 0, 3, 2],
    "difference": [3, 0, 1, 4, 2],
    "median_time_s": [2, 0, 4, 1, 3],
    "p": [1, 2, 0, 4, 3],
    "since": [1, 4, 3, 0, 2],
    "same": [0, 1, 3, 2, 4],
}
FALLING = {name: order[::-1] for name, order in RISING.items()} | {
    # What is missing stays last, and equals stay in their order.
    "share": [3, 0, 4, 1, 2],
    "difference": [4, 1, 0, 3, 2],
    "median_time_s": [1, 4, 0, 2, 3],
    "p": [4, 0, 2, 1, 3],
    "since": [0, 3, 4, 1, 2],
    "same": [2, 4, 0, 1, 3],
}
PLOT = """<svg xmlns="http://www.w3.org/2000/svg" width="90pt" viewBox="0 0 90 60" version="1.1">
<rect x="9" y="9" width="40" height="40" fill="#b00"/></svg>"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def make_page(folder: Path, steps: ibis.Table) -> Path:
    """Write a report that holds a table, a small one, a drawing of ours, a plot and a picture."""
    funnel = jl.build_funnel(steps, jl.FunnelRules(["shop", "cart", "pay"]))
    shown: list[dict[str, Any]] = [
        {"text/html": show_table(TABLE, caption=HOSTILE)._repr_html_()},
        {"text/html": show_table(TABLE.head(2), caption="small")._repr_html_()},
        {"text/html": jl.draw_funnel(funnel)._repr_html_()},
        {"image/svg+xml": PLOT},
        {"image/png": PIXEL},
    ]
    outputs = [
        nbformat.v4.new_output("display_data", data, metadata={"alt": "a pixel" if "image/png" in data else HOSTILE})
        for data in shown
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    page = folder / "page.html"
    page.write_text(render_report(notebook, **FACTS | {"name": "drop_off"}), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(tmp_path: Path, six: ibis.Table) -> Path:
    return make_page(tmp_path, six)


def without_scripts(page: Path) -> Path:
    """The same page where nothing may run."""
    text = page.read_text(encoding="utf-8")
    still = page.with_name("still.html")
    still.write_text(re.sub(r"script-src( 'sha256-[^']+')+", "script-src 'none'", text), encoding="utf-8")
    return still


def read_order(browser: Browser) -> list[int]:
    """Where the rows of the first table were before."""
    shown = browser.ask("[...document.querySelector('.jl-t').tBodies[0].rows].map(row => row.cells[0].textContent)")
    return [TABLE["event"].tolist().index(event) for event in shown]


def head(name: str) -> str:
    return f"document.querySelector('.jl-t').tHead.rows[0].cells[{list(TABLE).index(name)}]"


def press(browser: Browser, key: str, code: str, number: int, text: str) -> None:
    for kind in ("keyDown", "keyUp"):
        told = {"text": text} if kind == "keyDown" else {}
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number, **told)


def complaints(browser: Browser) -> list[dict[str, Any]]:
    heard = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event for event in browser.events if event.get("method") in heard]


@needs_chromium
@pytest.mark.parametrize("lang", ["en", "pl", "ru"])
def test_each_column_is_sorted_by_what_it_means(browser: Browser, tmp_path: Path, six: ibis.Table, lang: str) -> None:
    with use_language(lang):
        browser.open(make_page(tmp_path, six))
    assert browser.ask("document.documentElement.lang") == lang
    for name, rising in RISING.items():
        for order, rows in (("ascending", rising), ("descending", FALLING[name]), (None, [0, 1, 2, 3, 4])):
            browser.ask(f"{head(name)}.querySelector('button').click()")
            assert (name, browser.ask(f"{head(name)}.getAttribute('aria-sort')")) == (name, order)
            assert (name, order, read_order(browser)) == (name, order, rows)
    assert complaints(browser) == []


@needs_chromium
def test_keys_sort_too_and_one_column_at_a_time(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask(f"{head('n')}.querySelector('button').focus()")
    press(browser, "Enter", "Enter", 13, "\r")
    assert read_order(browser) == RISING["n"]
    press(browser, " ", "Space", 32, " ")
    assert read_order(browser) == FALLING["n"]
    press(browser, "Tab", "Tab", 9, "")
    press(browser, "Enter", "Enter", 13, "\r")
    assert read_order(browser) == RISING["share"]
    assert browser.ask("document.querySelectorAll('[aria-sort]').length") == 1
    assert browser.ask("document.querySelectorAll('.jl-t')[1].querySelectorAll('button').length") == 0, "two rows"


@needs_chromium
def test_nothing_moves_when_a_table_is_sorted_or_can_be(browser: Browser, page: Path) -> None:
    widths = "JSON.stringify([...document.querySelectorAll('.jl-t th')].map(e => e.getBoundingClientRect()))"
    browser.open(page)
    before = browser.ask(widths)
    browser.ask(f"{head('share')}.querySelector('button').click()")
    assert browser.ask(widths) == before
    browser.open(without_scripts(page))
    assert browser.ask(widths) == before


def save(browser: Browser, folder: Path, button: str) -> list[Path]:
    """Press the buttons with this name, one after the other; return the files that come of it."""
    folder.mkdir()
    browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    found = f"[...document.querySelectorAll('.save button')].filter(each => each.textContent === '{button}')"
    n = browser.ask(f"{found}.length")
    for place in range(n):
        browser.ask(f"{found}[{place}].click()")
        for _ in range(100):
            made = [path for path in folder.iterdir() if path.suffix in (".svg", ".png") and path.stat().st_size]
            if len(made) > place:
                break
            time.sleep(0.1)
    return sorted(made)


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_figure_is_saved_as_a_drawing_of_its_own(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    plot, drawing = save(browser, page.parent / "saved", "SVG")
    assert [drawing.name, plot.name] == [
        "drop_off-shop-pay-6-customers-started-2-finished.svg",
        "drop_off-script-script-document-title-pwned-script.svg",
    ]
    root = ElementTree.parse(drawing).getroot()
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    text = drawing.read_text(encoding="utf-8")
    assert "var(" not in text
    assert "prefers-color-scheme" not in text
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "fill:#59636e" in (style.text or ""), "the light theme's colour"
    ground = next(child for child in root if child.tag == f"{SVG}rect")
    assert ground.attrib == {"x": "0", "y": "0", "style": "fill:#fff"} | {
        name: root.get(name) for name in ("width", "height")
    }
    # Alone it is drawn as on the page.
    browser.open(drawing, dark=dark)
    assert browser.ask("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("document.querySelectorAll('text').length") > 9


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_figure_is_saved_as_a_picture(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    box = browser.ask("(({width, height}) => [width, height])(document.querySelector('svg.jl').viewBox.baseVal)")
    pictures = {path.name: path for path in save(browser, page.parent / "saved", "PNG")}
    assert len(pictures) == 3
    assert matplotlib.image.imread(pictures.pop("drop_off-a-pixel.png")).shape == (1, 1, 4)
    image = matplotlib.image.imread(pictures["drop_off-shop-pay-6-customers-started-2-finished.png"])
    assert image.shape[:2] == (int(3 * box[1]), int(3 * box[0]))
    white = (image[..., :3] == 1).all(axis=-1)
    # Mostly white, opaque, with bars in their colour and dark letters.
    assert 0.5 < white.mean() < 0.99
    assert (image[..., 3] == 1).all()
    blue = np.abs(image[..., :3] - np.array([0, 0x72, 0xB2]) / 255).max(axis=-1) < 0.01
    assert blue.mean() > 0.01
    assert (image[..., :3].max(axis=-1) < 0.2).mean() > 0.001
    image = matplotlib.image.imread(pictures["drop_off-script-script-document-title-pwned-script.png"])
    assert image.shape[:2] == (180, 270)
    assert (image[0, 0, :3] == 1).all()
    assert np.allclose(image[90, 90, :3], [0xBB / 255, 0, 0], atol=0.01)
    assert complaints(browser) == []
    asked = [event["params"]["request"]["url"] for event in browser.events if 'requestWillBeSent"' in json.dumps(event)]
    assert not [url for url in asked if not re.match(r"data:|blob:", url) and url != page.as_uri()]


@needs_chromium
def test_names_from_data_run_nowhere(browser: Browser, page: Path) -> None:
    assert [url for url in browser.open(page) if not url.startswith("data:")] == [page.as_uri()]
    assert browser.ask("document.title") == "T"
    assert browser.ask("document.scripts.length") == 2
    label = "document.querySelector('.plot').closest('.scroll').nextElementSibling.firstChild.ariaLabel"
    assert browser.ask(label) == f"Save as SVG: {HOSTILE}"


@needs_chromium
def test_without_scripts_the_page_is_whole(browser: Browser, page: Path) -> None:
    words = "[...document.querySelectorAll('h1, h2, h3, td, th, text, p:not(.save)')].map(e => e.textContent).join('|')"
    browser.open(page)
    with_scripts = browser.ask(words)
    browser.open(without_scripts(page))
    assert browser.ask("document.querySelectorAll('button').length") == 0
    assert browser.ask(words) == with_scripts


@needs_chromium
def test_no_button_is_printed(browser: Browser, page: Path) -> None:
    browser.open(page)
    shown = "[...document.querySelectorAll('.save')].filter(each => each.checkVisibility()).length"
    assert browser.ask(shown) == 3
    browser.send("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.ask(shown) == 0
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")


def test_scripts_are_small_and_end_where_they_should() -> None:
    scripts = sorted((Path(jl.__file__).parent / "templates").glob("*.js"))
    assert [path.name for path in scripts] == ["filter.js", "save.js", "sort.js"]
    for path in scripts:
        script = path.read_text(encoding="utf-8")
        assert not re.search(r"</script|<!--|https?:(?!//www\.w3\.org)|fetch|eval|innerHTML", script)
    assert sum(path.stat().st_size for path in scripts) < 12_000
