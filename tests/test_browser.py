"""What a browser does with a report: it shows it, asks for nothing, and runs nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Browser, needs_chromium
from test_report import CELLS, GIVEN, write_notebook

from journeylab.report import run_report

pytestmark = needs_chromium

# TRAP stands for a server that listens.
ATTACKS = [
    "from IPython.display import HTML",
    """HTML('<p onmouseover="document.title = 1">a</p><img src=x onerror="document.title = `pwned`">'
     '<script>document.title = "pwned"</script><iframe src="TRAP/frame"></iframe><img src="TRAP/img">'
     '<link rel=stylesheet href="TRAP/link"><meta http-equiv=refresh content="0;url=TRAP/meta">'
     '<style>@import "TRAP/import"</style><p style="background:url(TRAP/background)">b</p>'
     '<video src="TRAP/video"></video><svg><script>document.title = "pwned"</script><image href="TRAP/svg"/></svg>')""",
    "# ![remote](TRAP/markdown)\n<img src=x onerror=alert(1)>",
    "import pandas as pd; pd.DataFrame([range(30)])",
]

# The text of the page with the least contrast to its ground, by WCAG's formula.
WEAKEST_TEXT = """
(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = part => (part /= 255) <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = element => {
    const [dark, bright] = [numbers(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => a - b);
    return (bright + .05) / (dark + .05);
  };
  return [...document.querySelectorAll('body *')]
    .filter(element => element.tagName !== 'STYLE')
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(element => [contrast(element), element.className + ': ' + element.textContent.slice(0, 30)])
    .sort((a, b) => a[0] - b[0])[0];
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def trap() -> Iterator[tuple[str, list[str]]]:
    """Give a server's address, and the paths that were asked of it."""
    caught: list[str] = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            caught.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", caught
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, trap: tuple[str, list[str]]) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    attacks = [attack.replace("TRAP", trap[0]) for attack in ATTACKS]
    notebook = write_notebook(place / "ways.ipynb", [*CELLS, *attacks])
    return run_report(notebook, GIVEN, out=place / "run").folder


def test_the_browser_would_notice(browser: Browser, tmp_path: Path, trap: tuple[str, list[str]]) -> None:
    address, caught = trap
    page = tmp_path / "bad.html"
    page.write_text(f"<title>t</title><script>document.title = 'pwned'</script><img src='{address}/img'>")
    assert browser.open(page) == [page.as_uri(), f"{address}/img"]
    assert browser.ask("document.title") == "pwned"
    assert caught == ["/img"]
    caught.clear()


@pytest.mark.parametrize(("name", "title"), [("ways.html", "Which way do they go?"), ("index.html", "run")])
def test_a_hostile_report_asks_for_nothing_and_runs_nothing(
    browser: Browser, folder: Path, trap: tuple[str, list[str]], name: str, title: str
) -> None:
    page = (folder / name).resolve()
    assert browser.open(page) == [page.as_uri()]
    assert trap[1] == []
    assert browser.ask("document.title") == title
    assert browser.ask("location.href") == page.as_uri()
    assert browser.ask("document.scripts.length") == (2 if name == "ways.html" else 0)
    assert browser.ask("document.querySelectorAll('iframe, object, embed, base').length") == 0
    assert "document.title='pwned'" in browser.ask("document.body.innerText"), "the name is shown as text"


@pytest.mark.parametrize("name", ["ways.html", "index.html"])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, folder: Path, name: str) -> None:
    browser.open(folder / name, width=375)
    assert browser.ask("document.documentElement.scrollWidth") == 375
    if name == "ways.html":
        wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        assert browser.ask(f"{wide}.length") > 0
        assert browser.ask(f"{wide}.every(e => e.tabIndex === 0 && e.getAttribute('aria-label'))")


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_light_and_dark(browser: Browser, folder: Path, dark: bool) -> None:
    browser.open(folder / "ways.html", dark=dark)
    browser.ask("document.querySelectorAll('details').forEach(e => { e.open = true })")
    weakest = browser.ask(WEAKEST_TEXT)
    assert weakest[0] >= 4.5, weakest
