"""A journey map as a file: one page that needs nothing beside it, a drawing, a picture, or paper."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

from journeylab.errors import ReportError
from journeylab.journeymap.model import JourneyMap
from journeylab.language import current_language
from journeylab.map_drawio import map_drawio
from journeylab.map_formats import map_cjml, map_mermaid
from journeylab.map_picture import Kind, draw_map, draw_maps
from journeylab.map_sheets import write_map_sheets
from journeylab.map_words import describe_map, name_map
from journeylab.printing import find_browser, print_pdf, run_browser
from journeylab.svg_map import map_svg, size_svg

_WRITERS: Mapping[str, Callable[[JourneyMap], str]] = {
    ".svg": map_svg,
    ".json": JourneyMap.to_json,
    ".mmd": map_mermaid,
    ".cjml": map_cjml,
    ".drawio": map_drawio,
}
_ENDINGS = (".html", ".pdf", ".png", ".xlsx", *_WRITERS)
# Nothing is loaded and nothing runs, whatever the names in the data say.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PAGE_STYLE = (
    ":root{color-scheme:light dark}body{margin:24px clamp(12px,2.2vw,40px)}figure.jl{margin:0}"
    "@media(prefers-color-scheme:dark){body{background:#16191f}}@media print{body{margin:0;background:none}"
    ":root{color-scheme:light}}"
)


def map_html(journey_map: JourneyMap, *, second: JourneyMap | None = None, kind: Kind = "current") -> str:
    """Write the map (or two of them, side by side) as one page: no script, no file beside it, no network.

    Stage heads and names of lanes stay in sight, on a phone each stage is a card, and on paper it is as wide as A3
    across. The same bytes for the same map.
    """
    picture = draw_map(journey_map, kind=kind) if second is None else draw_maps(journey_map, second, kind=kind)
    # In a notebook the map is a figure among others; here its title is the page's.
    heading = '<p class="jl-title" role="heading" aria-level="1">'
    return _frame(
        picture.html.replace('<p class="jl-title">', heading), name_map(journey_map), describe_map(journey_map)
    )


def _frame(body: str, title: str, says: str) -> str:
    return (
        f'<!doctype html>\n<html lang="{current_language()}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<meta name="description" content="{escape(says)}">\n<title>{escape(title)}</title>\n'
        f"<style>{_PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def save_map(
    journey_map: JourneyMap,
    path: str | Path,
    *,
    second: JourneyMap | None = None,
    kind: Kind = "current",
) -> Path:
    """Write the map to a file, by its ending: a page, a drawing, paper, or another program's format.

    ============  ===========================================
    .html         one page that needs nothing beside it
    .svg, .png    a drawing; .png at twice its size
    .pdf          A3 across
    .json         all of it, for `load_map`
    .xlsx         a grid for whiteboards, and the tidy cells
    .mmd          Mermaid `journey`
    .cjml         CJML as XML
    .drawio       draw.io
    ============  ===========================================

    Parameters
    ----------
    journey_map
        From `build_map`.
    path
        Where to; what is there is replaced, when the new file is whole.
    second
        Another map to set against it: .html and .pdf.
    kind
        As in `draw_map`: .html and .pdf.

    Raises
    ------
    ReportError
        Another ending, an option that the ending does not have, or no Chromium for .pdf and .png.
    """
    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise ReportError(f'save_map: "{path.name}" must end in {", ".join(_ENDINGS[:-1])} or {_ENDINGS[-1]}')
    if path.suffix not in (".html", ".pdf") and (second is not None or kind != "current"):
        raise ReportError(f'save_map: a {path.suffix} shows one map of kind "current"; save "{path.stem}.html" or .pdf')
    if path.suffix in (".pdf", ".png"):
        find_browser()
    with tempfile.TemporaryDirectory(prefix=".journeylab-", dir=path.parent) as folder:
        made = Path(folder, f"map{path.suffix}")
        if path.suffix == ".png":
            _shoot(map_svg(journey_map), made)
        elif path.suffix == ".xlsx":
            write_map_sheets(journey_map, made)
        elif path.suffix in _WRITERS:
            made.write_text(_WRITERS[path.suffix](journey_map), encoding="utf-8", newline="\n")
        else:
            page = made.with_suffix(".html")
            page.write_text(map_html(journey_map, second=second, kind=kind), encoding="utf-8", newline="\n")
            if path.suffix == ".pdf":
                print_pdf(page)
        return made.replace(path)


def _shoot(svg: str, path: Path) -> None:
    """Take a picture of a drawing, at twice its size, which is sharp on paper and on good screens."""
    width, height = size_svg(svg)
    page = path.with_suffix(".html")
    page.write_text(f'<!doctype html><meta charset="utf-8"><style>body{{margin:0}}</style>{svg}', encoding="utf-8")
    run_browser(page, f"--window-size={width},{height}", "--force-device-scale-factor=2", f"--screenshot={path}")
