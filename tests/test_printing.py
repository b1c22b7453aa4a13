"""A report as PDF: printed whole, or said why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import needs_chromium

import journeylab as jl
from journeylab.errors import ReportError

PAGE = "<!doctype html><title>t</title><p>first</p><p style='break-before:page'>second</p>"


@needs_chromium
def test_a_page_is_printed_whole(tmp_path: Path) -> None:
    page = tmp_path / "a page.html"
    page.write_text(PAGE)
    pdf = jl.print_pdf(page)
    assert pdf == tmp_path / "a page.pdf"
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert max(int(n) for n in re.findall(rb"/Count (\d+)", content)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a page.html", "a page.pdf"]


def test_without_a_browser_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReportError, match="a PDF needs one of chromium"):
        jl.print_pdf(tmp_path / "page.html")


def test_a_browser_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "chromium"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho out of paper >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/usr/bin:/bin")
    (tmp_path / "page.html").write_text(PAGE)
    with pytest.raises(ReportError, match=r"page\.html: .*chromium did not print it: out of paper"):
        jl.print_pdf(tmp_path / "page.html")
    assert not list(tmp_path.glob("*.pdf"))
