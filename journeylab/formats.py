"""Numbers as people write them (percent, commas between thousands, times in words), and names of one short line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from journeylab.language import gettext as _
from journeylab.language import localise
from journeylab.language import mark as N_

# From a cell's value, which can be anything, to the text that it shows.
Format = Callable[[Any], str]

NOTHING = "–"

# Marks and overrides of writing direction would turn the text beside a name around.
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNDRAWABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")
_BREAK = re.compile(r"\s*[\x00-\x1f\x7f-\x9f\u2028\u2029]\s*")
# A tooltip holds the full name, unless a name is a whole document; a sentence wants to be read to its end.
_LONGEST_NAME, _LONGEST_IN_SENTENCE = 300, 60

_UNITS = (
    (N_("d"), 86_400, N_("h"), 3_600),
    (N_("h"), 3_600, N_("min"), 60),
    (N_("min"), 60, N_("s"), 1),
)


def clean(text: object) -> str:
    r"""Make one drawable line of any text from data; an empty one becomes "(empty)".

    Examples
    --------
    >>> clean("two\nlines\x00")
    'two lines'
    """
    line = _BREAK.sub(" ", _DIRECTION.sub("", _UNDRAWABLE.sub("\ufffd", str(text)))).strip()
    return line or _("(empty)")


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
    return localise(f"{value:,.0f}")


def format_number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Write a number with this many decimals and a true minus.

    Examples
    --------
    >>> format_number(-1234.5), format_number(3, 1, signed=True)
    ('−1,234.50', '+3.0')
    """
    written = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    return localise(written).replace("-", "−")


def format_share(value: float) -> str:
    """Write a share (0 to 1) in percent with one decimal.

    Examples
    --------
    >>> format_share(0.5328)
    '53.3 %'
    """
    return localise(f"{100 * value:.1f} %")


def format_points(value: float) -> str:
    """Write a difference of shares (-1 to 1) in signed percentage points.

    Examples
    --------
    >>> format_points(-0.031)
    '−3.1 pp'
    """
    return _("{points} pp", points=format_number(100 * value, 1, signed=True))


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
        return _("{seconds} s", seconds=localise(f"{seconds:.1f}".removesuffix(".0")))
    for name, length, part, part_length in _UNITS:
        # Rounded to the smaller unit first: 59 min 59.8 s is one hour, not "59 min 60 s".
        parts = round(seconds / part_length)
        if parts * part_length >= length:
            whole, rest = divmod(parts, length // part_length)
            head = f"{format_count(whole)} {_(name)}"
            return f"{head} {rest} {_(part)}" if rest else head
    return _("{seconds} s", seconds=round(seconds))


def format_interval(low: float, high: float, write: Format) -> str:
    """Write both bounds with one unit: "51.7–54.9 %"; bounds that carry a sign are parted by "to".

    Examples
    --------
    >>> format_interval(0.5165, 0.549, format_share), format_interval(-0.02, 0.01, format_points)
    ('51.6–54.9 %', '−2.0 to +1.0 pp')
    """
    first, last = write(low), write(high)
    points = _("{points} pp", points="")
    if last.endswith(points):
        return _("{low} to {high}", low=first.removesuffix(points), high=last)
    return f"{first.removesuffix(' %')}–{last}" if last.endswith(" %") else f"{first} – {last}"
