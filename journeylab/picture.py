"""What every picture shares: one frame, one theme for light and dark, fixed colours, and text that is safe to draw."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from journeylab.errors import ReportError
from journeylab.formats import clean as clean
from journeylab.formats import shorten as shorten
from journeylab.language import current_language
from journeylab.language import gettext as _
from journeylab.words import head_of, word_of

# Derived from Okabe and Ito (2008), darkened until each has a contrast of 3:1 on white and on our dark ground,
# then moved apart as seen with protanopia, deuteranopia and tritanopia (Machado et al. 2009). One palette for both
# themes, so that a persona keeps its colour in the light report, the dark one, and in matplotlib.
PALETTE = ("#0072b2", "#d55e00", "#2a997d", "#be2a90", "#2698f0", "#825e3a", "#808640", "#8f3fe0")
NEUTRAL = "#7d8590"
# The full shade of a heat map on white; dark enough that black or white text always has 4.5:1 on its tints.
HEAT = "#00558a"
# Above this tint of HEAT white text reads better than black.
HEAT_TEXT_TURNS = 0.77

_LIGHT = "--bg:#fff;--ink:#1b1f24;--mute:#59636e;--line:#d0d7de;--lost:#d3d9e0;--cell:#000;--heat:0 85 138"
_DARK = "--bg:#16191f;--ink:#e8ebef;--mute:#a3acb7;--line:#3d4550;--lost:#434c57;--cell:#fff;--heat:0 114 178"
# The picture paints its own ground: JupyterLab's theme need not be the system's, and text must be legible in both.
_THEME = (
    f".jl,[data-jp-theme-light=true] .jl{{{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{.jl{{{_DARK}}}}}"
    f"[data-jp-theme-light=false] .jl{{{_DARK}}}"
    ".jl{background:var(--bg);color:var(--ink);font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;"
    "font-size:14px;line-height:1.4;font-variant-numeric:tabular-nums}"
    "figure.jl{margin:1em 0;padding:0}svg.jl{display:block;height:auto}"
    ".jl-scroll{overflow-x:auto;max-width:100%}.jl-scroll:focus-visible{outline:2px solid #2698f0}"
    ".jl .jl-note{color:var(--mute);font-size:13px;margin:.4em 0 0}"
    "@media print{.jl-scroll{overflow:visible}}"
)

# Letters and digits of scripts that are written from right to left.
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))
_OPENED_BY = {")": "(", "]": "[", "}": "{", "»": "«", "”": "“"}
# A tooltip holds the full name, unless a name is a whole document.
_LONGEST_NAME = 300
# Between the parts of a group that is one of several columns.
_SEPARATOR = " · "
# What `FunnelRules.labels` adds to the name of a step, or says in its place.
_OPTIONAL, _OF_STEPS = " (optional)", re.compile(r"(\d+) of (\d+) steps")


@dataclass(frozen=True)
class Picture:
    """A picture or table as inline HTML: no script, no file beside it, the same bytes every time.

    Attributes
    ----------
    html : str
        A `<figure>` that shows itself in JupyterLab and in exported reports.
    alt : str
        The picture in words, for readers who cannot see it; also part of `html`.
    """

    html: str = field(repr=False)
    alt: str

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write the picture to an `.svg` file (where it is one drawing) or an `.html` file; returns the path."""
        path = Path(path)
        head = f'<!doctype html><html lang="{current_language()}"><meta charset="utf-8"><title>journeylab</title>'
        text = f"{head}{self.html}</html>"
        if path.suffix == ".svg":
            drawings = re.findall(r"<svg .*?</svg>", self.html, flags=re.DOTALL)
            if len(drawings) != 1:
                raise ReportError(f'This picture is a table, not a drawing: save it as "{path.stem}.html".')
            text = drawings[0]
        path.write_text(text, encoding="utf-8", newline="\n")
        return path


def colour_of(key: int | str) -> str:
    """Which colour does this persona (numbered from 1), stage or event have, in every picture?

    Examples
    --------
    >>> colour_of(1), colour_of(9)
    ('#0072b2', '#0072b2')
    >>> colour_of("cart") == colour_of("cart")
    True
    """
    if isinstance(key, str):
        key = 1 + int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:4], "big")
    return PALETTE[(key - 1) % len(PALETTE)]


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Give each name its own colour as far as the palette reaches; the same names always get the same colours."""
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        own = PALETTE.index(colour_of(name))
        turns = (PALETTE[(own + i) % len(PALETTE)] for i in range(len(PALETTE)))
        taken[name] = next((colour for colour in turns if colour not in taken.values()), PALETTE[own])
    return taken


def safe(text: object, longest: int = _LONGEST_NAME) -> str:
    """Make text from data fit for HTML and SVG: cleaned, capped, escaped, and without effect on its neighbours."""
    line = shorten(text, longest)
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in line):
        line = f"\u2068{line}\u2069"
    return escape(line)


def safe_sentence(text: object, longest: int = _LONGEST_NAME) -> str:
    """Like `safe`, for a sentence of ours that names from data are part of."""
    return escape(isolate(shorten(text, longest)))


def isolate(line: str) -> str:
    r"""Keep names that are written from right to left from turning around the numbers and marks beside them.

    Examples
    --------
    >>> isolate("12 of 40 reached \u05e9\u05dc (30 %)")
    '12 of 40 reached \u2068\u05e9\u05dc\u2069 (30 %)'
    """
    if line.isascii():
        return line
    kinds = [unicodedata.bidirectional(char) for char in line]
    parts, done, place = [], 0, 0
    while place < len(line):
        if kinds[place] not in _RIGHT_TO_LEFT:
            place += 1
            continue
        # To the last such letter before the next one from left to right, and the bracket that closes one of these.
        limit = next((i for i in range(place, len(line)) if kinds[i] == "L"), len(line))
        end = 1 + max(i for i in range(place, limit) if kinds[i] in _RIGHT_TO_LEFT)
        opened = _OPENED_BY.get(line[end]) if end < limit else None
        if opened and line.count(opened, place, end) > line.count(line[end], place, end):
            end += 1
        parts.append(f"{line[done:place]}\u2068{line[place:end]}\u2069")
        done = place = end
    return "".join(parts) + line[done:]


def name_group(group: str, by: str) -> str:
    """How is a group of this column called, or of several columns at once? Data keep their names."""
    return _SEPARATOR.join(word_of(part, by) for part in group.split(_SEPARATOR))


def name_step(label: str) -> str:
    """How is this step of a funnel called? Data keep their names, the words beside them are ours.

    Examples
    --------
    >>> name_step("cart (optional)"), name_step("2 of 3 steps")
    ('cart (optional)', '2 of 3 steps')
    """
    if label.endswith(_OPTIONAL):
        return _("{step} (optional)", step=label.removesuffix(_OPTIONAL))
    if found := _OF_STEPS.fullmatch(label):
        return _("{i} of {n} steps", i=int(found[1]), n=int(found[2]))
    return label


def name_column(by: str) -> str:
    """How is this column called, or several at once?"""
    return _SEPARATOR.join(head_of(part) or part for part in by.split(_SEPARATOR))


def text_width(text: str, size: float) -> float:
    """How many pixels does this text need at most, whatever font the reader has?

    Estimated from the wide DejaVu Sans, for a picture made here is read elsewhere.
    """
    return size * sum(_EM.get(char) or _em(char) for char in text)


def fit(text: object, width: float, size: float) -> str:
    """Shorten a name until it fits `width` pixels."""
    line = shorten(text)
    longest = len(line)
    while longest > 1 and text_width(line, size) > width:
        longest -= 1
        line = shorten(text, longest)
    return line


_EM = (
    dict.fromkeys("iljłtfrI.,:;'|! ()[]/·\u202f\u2009", 0.36)
    | dict.fromkeys("жшщыюфмМФЫ", 0.9)
    | dict.fromkeys("mwMW@%…→", 1.0)
    | dict.fromkeys("ЖШЩЮ", 1.1)
)


def _em(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.1
    if ord(char) > 0x2E80:
        return 1.3
    return 0.78 if char.isupper() else 0.65


def as_svg(body: str, *, width: float, height: float, title: str, alt: str) -> Picture:
    r"""Put a drawing into its frame; `body` is SVG with all text escaped, and \0 where an id needs this picture's key.

    Below 90 % of its width the drawing scrolls instead of shrinking on, so that its text stays legible on a phone.
    """
    key = hashlib.sha256(body.encode()).hexdigest()[:8]
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="jl" role="img" aria-labelledby="jl-t{key} jl-d{key}" '
        f'viewBox="0 0 {number(width)} {number(height)}" style="min-width:{width * 0.9:.0f}px;max-width:{width:.0f}px" '
        f'width="100%" fill="currentColor">'
        f'<title id="jl-t{key}">{escape(clean(title))}</title><desc id="jl-d{key}">{escape(clean(alt))}</desc>'
        f"<style>{_THEME}{_DRAWING}</style>"
    ) + body.replace("\0", key)
    return Picture(f'<figure class="jl">{scroll(drawing + "</svg>", title)}</figure>', alt)


def as_figure(body: str, *, style: str, alt: str) -> Picture:
    """Put HTML (all text escaped) with its own style rules into the frame."""
    label = escape(clean(alt))
    return Picture(f'<figure class="jl" aria-label="{label}"><style>{_THEME}{style}</style>{body}</figure>', alt)


def as_nothing(words: str) -> Picture:
    """Say that there is nothing to draw, where a report would otherwise end in an error."""
    return as_figure(f'<p class="jl-note">{escape(words)}</p>', style="", alt=words)


def scroll(body: str, label: str) -> str:
    """Let what is wider than the screen scroll, by finger and by keyboard."""
    return f'<div class="jl-scroll" role="region" tabindex="0" aria-label="{escape(label)}">{body}</div>'


def number(value: float) -> str:
    """Write a coordinate: one decimal is a tenth of a pixel.

    Examples
    --------
    >>> number(12.0), number(3.14159)
    ('12', '3.1')
    """
    return f"{value:.1f}".removesuffix(".0")


_DRAWING = (
    ".jl text{font-size:13px}.jl .h{font-size:16px;font-weight:600}.jl .b{font-weight:600}.jl .m{fill:var(--mute)}"
    ".jl .s{font-size:12px;fill:var(--mute)}.jl .e{text-anchor:end}.jl tspan{unicode-bidi:isolate}"
    ".jl .halo{font-size:12px;paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-opacity:.85}"
    ".jl .r{fill-opacity:.3}.jl .o{fill-opacity:.6}.jl .r path:hover{fill-opacity:.6}"
)
