"""Numbers as people write them (percent, commas between thousands, times in words), and names of one short line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# From a cell's value, which can be anything, to the text that it shows.
Format = Callable[[Any], str]

NOTHING = "–"

# Marks and overrides of writing direction would turn the text beside a name around.
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNDRAWABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")
_BREAK = re.compile(r"\s*[\x00-\x1f\x7f-\x9f\u2028\u2029]\s*")
# A tooltip holds the full name, unless a name is a whole document; a sentence wants to be read to its end.
_LONGEST_NAME, _LONGEST_IN_SENTENCE = 300, 60


def clean(text: object) -> str:
    r"""Make one drawable line of any text from data; an empty one becomes "(empty)".

    Examples
    --------
    >>> clean("two\nlines\x00")
    'two lines'
    """
    line = _BREAK.sub(" ", _DIRECTION.sub("", _UNDRAWABLE.sub("\ufffd", str(text)))).strip()
    return line or "(empty)"


def shorten(text: object, longest: int = _LONGEST_NAME) -> str:
    """Cut the middle out of a long name: what tells names apart is often at their end.

    Examples
    --------
    >>> shorten("checkout_delivery_address", 15)
    'checkou…address'
    """
    line = clean(text)
    if len(line) <= longest:
        return line
    tail = (longest - 1) // 2
    return f"{line[: longest - 1 - tail]}…{line[len(line) - tail :]}"


def format_name(name: object) -> str:
    """Write a name as part of a sentence."""
    return shorten(name, _LONGEST_IN_SENTENCE)


def format_count(value: float) -> str:
    """Write a count with commas between thousands.

    Examples
    --------
    >>> format_count(12408)
    '12,408'
    """
    return f"{value:,.0f}"


def format_share(value: float) -> str:
    """Write a share (0 to 1) in percent with one decimal.

    Examples
    --------
    >>> format_share(0.5328)
    '53.3 %'
    """
    return f"{100 * value:.1f} %"


def format_points(value: float) -> str:
    """Write a difference of shares (-1 to 1) in signed percentage points.

    Examples
    --------
    >>> format_points(-0.031)
    '−3.1 pp'
    """
    return f"{100 * value:+.1f} pp".replace("-", "−")


def format_duration(seconds: float) -> str:
    """Write seconds the way people say them, in the two largest units.

    Examples
    --------
    >>> format_duration(81), format_duration(93_600), format_duration(0.4)
    ('1 min 21 s', '1 d 2 h', '0.4 s')
    """
    if seconds < 0:
        return f"−{format_duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    for name, length, part, part_length in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        # Rounded to the smaller unit first: 59 min 59.8 s is one hour, not "59 min 60 s".
        parts = round(seconds / part_length)
        if parts * part_length >= length:
            whole, rest = divmod(parts, length // part_length)
            return f"{format_count(whole)} {name} {rest} {part}" if rest else f"{format_count(whole)} {name}"
    return f"{seconds:.0f} s"


def format_interval(low: float, high: float, write: Format) -> str:
    """Write both bounds with one unit: "51.7–54.9 %"; bounds that carry a sign are parted by "to".

    Examples
    --------
    >>> format_interval(0.5165, 0.549, format_share), format_interval(-0.02, 0.01, format_points)
    ('51.6–54.9 %', '−2.0 to +1.0 pp')
    """
    first, last = write(low), write(high)
    unit = last[last.rfind(" ") :] if " " in last and not last[-1].isdigit() else ""
    if unit not in {" %", " pp"}:
        return f"{first} – {last}"
    return f"{first.removesuffix(unit)}{' to ' if unit == ' pp' else '–'}{last}"
