"""A report on paper: the same page as PDF, printed by whichever Chromium is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from journeylab.errors import ReportError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_PATIENCE_S = 120
_STARTS = {".pdf": b"%PDF", ".png": b"\x89PNG"}


def find_browser() -> str:
    """Which Chromium can print here? Asked before a report is made, which may take long."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ReportError(f"a PDF needs one of {', '.join(_BROWSERS)}; install it, or open the HTML and print it there")
    return found


def print_pdf(page: str | Path) -> Path:
    """Print a report as PDF beside its page, whole or not at all; the network is not asked.

    Raises
    ------
    ReportError
        No Chromium is installed, or it did not print.
    """
    page = Path(page).resolve()
    with tempfile.TemporaryDirectory(prefix="journeylab-") as folder:
        made = Path(folder, "page.pdf")
        run_browser(page, "--no-pdf-header-footer", f"--print-to-pdf={made}")
        # The same file system first, so that the last step is one.
        partial = page.with_name(f".{page.stem}.pdf.partial")
        shutil.copyfile(made, partial)
        return partial.replace(page.with_suffix(".pdf"))


def run_browser(page: Path, *wishes: str) -> None:
    """Let Chromium make a file of a page, as the last of `wishes` says (``--print-to-pdf=…``, ``--screenshot=…``).

    Raises
    ------
    ReportError
        No Chromium is installed, or it did not make the file.
    """
    browser = find_browser()
    made = Path(wishes[-1].partition("=")[2])
    with tempfile.TemporaryDirectory(prefix="journeylab-") as profile:
        command = [
            *(browser, "--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
            # Nothing that a page asks for is found: it holds all that it needs.
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", *wishes),
            # Chromium's sandbox does not work for root, which containers often are.
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
            page.resolve().as_uri(),
        ]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            raise ReportError(f"{page.name}: {browser} did not print it within {_PATIENCE_S} s") from None
    if not made.is_file() or not made.read_bytes().startswith(_STARTS[made.suffix]):
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise ReportError(f"{page.name}: {browser} did not print it: {said[-1] if said else ended.returncode}")
