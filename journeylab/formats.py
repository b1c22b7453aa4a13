"""Numbers as people write them: percent, commas between thousands, times in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# From a cell's value, which can be anything, to the text that it shows.
Format = Callable[[Any], str]

NOTHING = "–"


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
