"""Every page can be used by everyone: axe-core finds nothing serious, on a desk and a phone, in light and dark."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import Browser, needs_chromium

import journeylab as jl
from journeylab.report import run_reports
from journeylab.resources import find_shipped
from journeylab.runs import write_indexes

FULL = bool(os.environ.get("JOURNEYLAB_FULL"))
NOTEBOOKS = ["data_check", "drop_off", "personas"] if FULL else ["drop_off", "personas"]
N_FEW = 150
# Colours differ by theme, places by width: two of four meet all of them.
LOOKS = [(1280, False), (375, True), *([(1280, True), (375, False)] if FULL else [])]
# The package is only a way to have axe-core, without the network: nothing of it runs.
_PACKAGE = importlib.util.find_spec("axe_playwright_python")
AXE = Path(*(_PACKAGE.submodule_search_locations or ()), "axe.min.js") if _PACKAGE else None
pytestmark = [needs_chromium, pytest.mark.skipif(AXE is None, reason="no axe-core: install axe-playwright-python")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run over a few customers of the demo, another that differs in its figures, and all pages of both."""
    folder = tmp_path_factory.mktemp("pages") / "reports"
    folder.mkdir()
    demo = pd.read_csv(find_shipped("data/demo") / "events.csv", dtype=str)
    few = demo["customer_id"].drop_duplicates().head(N_FEW)
    demo[demo["customer_id"].isin(few)].to_csv(folder / "few.csv", index=False)
    run_reports(NOTEBOOKS, {"data": str(folder / "few.csv")}, out=folder / "october")
    shutil.copytree(folder / "october", folder / "november")
    told = json.loads((folder / "november" / "run.json").read_text(encoding="utf-8"))
    told["reports"]["drop_off"]["values"]["share_converted"] /= 2
    told["versions"]["python"] = "3.0"
    (folder / "november" / "run.json").write_text(json.dumps(told), encoding="utf-8")
    # One that failed is listed in another colour.
    (folder / "december.failed").mkdir()
    (folder / "december.failed" / "drop_off.ipynb").touch()
    write_indexes(folder / "november")
    jl.diff_runs(folder / "october", folder / "november").save(folder / "diff.html")
    own = {name: folder / "october" / f"{name}.html" for name in [*NOTEBOOKS, "index"]}
    return {**own, "runs": folder / "index.html", "diff": folder / "diff.html"}


def find_violations(browser: Browser) -> list[dict[str, Any]]:
    assert AXE
    browser.ask(AXE.read_text(encoding="utf-8"))
    found = browser.ask("axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify(found))")
    return list(json.loads(found)["violations"])


def find_serious(browser: Browser) -> list[tuple[str, str]]:
    """What is wrong, and the first place where it is."""
    return [
        (each["id"], each["nodes"][0]["html"][:200])
        for each in find_violations(browser)
        if each["impact"] in ("serious", "critical")
    ]


def test_axe_would_find_it(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><html lang=en><title>t</title><main><h1>t</h1><img src='data:,'><button></button>")
    browser.open(page)
    assert {rule for rule, _ in find_serious(browser)} == {"image-alt", "button-name"}
    page.write_text("<!doctype html><html lang=en><title>t</title><main><h1>t</h1><p style='color:#999'>pale</p>")
    browser.open(page)
    assert [rule for rule, _ in find_serious(browser)] == ["color-contrast"]


@pytest.mark.parametrize("name", [*NOTEBOOKS, "index", "runs", "diff"])
@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_nothing_serious_is_found(browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    assert len(browser.open(pages[name], width=width, dark=dark)) == 1, "asks for nothing else"
    browser.ask("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert find_serious(browser) == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
