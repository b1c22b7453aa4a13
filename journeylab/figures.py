"""From a matplotlib figure to inline SVG that follows the page's theme, with the same bytes every time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from journeylab.picture import HEAT, Picture, as_svg, number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Black text has no fill of its own and takes the page's ink; black in a tinted cell must stay black on a light page.
CELL_INK = "#010101"
MUTE = "#59636e"
_THEMED = {"#000000": "currentColor", CELL_INK: "var(--cell)", MUTE: "var(--mute)", HEAT: "rgb(var(--heat))"}
_REFERRED = re.compile(r"\b[mp][0-9a-f]{10}\b")
_DECIMALS = re.compile(r"-?\d+\.\d+")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def picture_of(ax: Axes, alt: str) -> Picture:
    """Turn a figure into inline SVG: repeatable bytes, real text, the theme of the page, `alt` as its words.

    The figure is closed. Text is never read as formulas: `$x_1$` from data stays `$x_1$`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    with drawing_style():
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        buffer = StringIO()
        # All None: a date or a version in the file would change its bytes.
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.05, transparent=True, metadata=metadata)
    plt.close(figure)
    drawing = buffer.getvalue()
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    assert box is not None
    # Points to pixels, so that 10 point text is as large as the text of the other pictures.
    width, height = (float(side) * 4 / 3 for side in box.groups())
    title = shorten(ax.get_title(loc="left") or ax.get_title() or alt)
    body = f'<g transform="scale(1.3333)">{_compact(drawing)}</g>'
    return as_svg(body, width=width, height=height, title=title, alt=alt)


@contextmanager
def drawing_style() -> Iterator[None]:
    """Set what our figures need and put back what the caller had."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {  # matplotlib types this as a literal of all its settings
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "journeylab",
        "font.family": "DejaVu Sans",
        "font.size": 10.0,
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "axes.axisbelow": True,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the letters that the font here lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_axes(width: float, height: float) -> Axes:
    """Open a figure of this size in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height))[1]


def _compact(drawing: str) -> str:
    """Keep of matplotlib's SVG what draws: no ids of its own, one font, colours that follow the page's theme."""
    root = ElementTree.fromstring(_NOT_XML.sub("", drawing))
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib = {name: _rewrite(name, value) for name, value in attributes.items() if _is_kept(name, value)}
    return "".join(_write(child) for child in root)


def _is_kept(name: str, value: str) -> bool:
    # Marks and clips are named by a letter and a hash and are referred to; figure_1 and text_2 are not.
    return _REFERRED.fullmatch(value) is not None if name == "id" else not value.startswith("rotate(-0 ")


def _rewrite(name: str, value: str) -> str:
    value = _REFERRED.sub("\\g<0>-\0", value)
    if name != "style":
        return " ".join(_DECIMALS.sub(lambda found: number(float(found[0])), value).split())
    value = _DECIMALS.sub(
        lambda found: f"{float(found[0]):.2g}" if float(found[0]) < 1 else number(float(found[0])), value
    )
    for ours, theirs in _THEMED.items():
        value = value.replace(ours, theirs)
    return re.sub(r"font-family: [^;]*(; |$)", "", value)


def _write(element: ElementTree.Element) -> str:
    """Serialise an element without what draws nothing: notes, empty groups, and groups of nothing but children."""
    if element.tag in {"metadata", "style"}:
        return ""
    children = "".join(_write(child) for child in element)
    if element.tag == "g" and not (element.attrib and children):
        return children
    if element.tag == "path" and element.get("style") == "fill: none":
        return ""
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items())
    content = escape(element.text or "") + children
    return f"<{element.tag}{attributes}>{content}</{element.tag}>" if content else f"<{element.tag}{attributes}/>"
