"""What a browser does with a report: it shows it, asks for nothing, and runs nothing."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_report import CELLS, GIVEN, write_notebook

from journeylab.report import run_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]
pytestmark = pytest.mark.skipif(CHROMIUM is None or os.name != "posix", reason="no Chromium found")

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


class Browser:
    """Headless Chromium, spoken to through its debugging pipe."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        hears, self._says = os.pipe()
        self._hears, says = os.pipe()

        def connect_pipe() -> None:
            # Chromium reads commands from 3 and writes to 4; both are first moved out of the way.
            one, two = os.dup(hears), os.dup(says)
            os.dup2(one, 3)
            os.dup2(two, 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect_pipe,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._heard_bytes = b""
        self._n = 0
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Runtime"):
            self.send(f"{domain}.enable")

    _session: str | None = None

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._say(method, parameters)
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, page: Path, *, width: int = 1280, dark: bool = False) -> list[str]:
        """Load a page and return what it asked for and its policy let through."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        # What a page does after it has loaded (refresh, timers) gets its chance too.
        self.ask("new Promise(done => setTimeout(done, 300))")
        refused = [
            each["requestId"] for each in self._heard("Network.loadingFailed") if each.get("blockedReason") == "csp"
        ]
        asked = [each for each in self._heard("Network.requestWillBeSent") if each["requestId"] not in refused]
        return [each["request"]["url"] for each in asked]

    def _say(self, method: str, parameters: dict[str, Any]) -> int:
        self._n += 1
        message: dict[str, Any] = {"id": self._n, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._says, json.dumps(message).encode() + b"\0")
        return self._n

    def _heard(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def ask(self, expression: str) -> Any:
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._says)
        os.close(self._hears)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._heard_bytes:
            assert select.select([self._hears], [], [], 30)[0], "Chromium says nothing more"
            more = os.read(self._hears, 65_536)
            assert more, "Chromium has ended"
            self._heard_bytes += more
        message, _, self._heard_bytes = self._heard_bytes.partition(b"\0")
        told = dict(json.loads(message))
        if told.get("method") == "Page.javascriptDialogOpening":
            self._say("Page.handleJavaScriptDialog", {"accept": True})
            pytest.fail(f"a script has opened a dialog: {told['params']['message']}")
        return told


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
    assert browser.ask("document.scripts.length + document.querySelectorAll('iframe, object, embed, base').length") == 0
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
