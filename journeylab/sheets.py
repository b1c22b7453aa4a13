"""Excel files: text stays text, nothing is a formula, and the same content has the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from journeylab.formats import shorten

#: What a spreadsheet takes for the beginning of a formula, also after it was saved as CSV. Some read the wide signs of
#: East Asian keyboards alike.
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")
# XML cannot hold these, and Excel reads `_x0041_` as a letter by number.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BY_NUMBER = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_LONGEST_CELL = 32_000
_LINE, _HIGHEST, _MORE_ROWS = 15, 409, 500
# Two moments that openpyxl writes into each file, and that each member of a zip file has.
_MOMENT = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*")
_NO_MOMENT, _NO_TIME = rb"\g<1>2000-01-01T00:00:00Z", (1980, 1, 1, 0, 0, 0)
_HEAD, _FIRST, _LIGHT = "1F4E79", "DDEBF7", "F2F2F2"


@dataclass(frozen=True)
class Sheet:
    """One sheet of an Excel file.

    Attributes
    ----------
    title : str
        Of the tab.
    heads : sequence of str
        Its first row, which stays in sight.
    rows : sequence of sequences
        Text, numbers, or None for an empty cell.
    widths : sequence of float
        Of the columns, in letters; the last one goes for all that follow.
    notes : sequence of str
        A comment on each head, or none.
    choices : mapping
        Number of a column (from 0) -> what may be chosen in it.
    has_names : bool
        Is the first column a head, too?
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str | float | bool | None]]
    widths: Sequence[float]
    notes: Sequence[str] = ()
    choices: Mapping[int, Sequence[str]] = field(default_factory=dict)
    has_names: bool = False


def write_book(path: str | Path, sheets: Iterable[Sheet], *, title: str) -> Path:
    """Write sheets to an Excel file and return its path; the same sheets are the same bytes."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    book.properties.creator, book.properties.title = "journeylab", _as_text(shorten(title))
    for sheet in sheets:
        _fill_sheet(book.create_sheet(sheet.title), sheet)
    buffer = BytesIO()
    book.save(buffer)
    path = Path(path)
    with ZipFile(buffer) as made, ZipFile(path, "w") as kept:
        for name in made.namelist():
            content = made.read(name)
            content = _MOMENT.sub(_NO_MOMENT, content) if name == "docProps/core.xml" else content
            kept.writestr(ZipInfo(name, _NO_TIME), content, ZIP_DEFLATED)
    return path


def disarm(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; `rearm` takes it away."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) or _is_disarmed(text) else text


def rearm(text: str) -> str:
    """Take away the apostrophe that `disarm` has put.

    Examples
    --------
    >>> [rearm(disarm(text)) for text in ("=1+1", "'=1+1", "'tis", "a")]
    ['=1+1', "'=1+1", "'tis", 'a']
    """
    return text[1:] if _is_disarmed(text) else text


def can_hold(text: str) -> bool:
    """Does a cell hold this text to the letter?"""
    return rearm(_as_text(text)) == text and not _BY_NUMBER.search(text)


def _is_disarmed(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULA_STARTS) and text.startswith("'")


def _as_text(text: str) -> str:
    text = text if len(text) <= _LONGEST_CELL else shorten(text, _LONGEST_CELL)
    return disarm(_BY_NUMBER.sub("_x005F_", _FORBIDDEN.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")))


# openpyxl has no types.
def _fill_sheet(page: Any, sheet: Sheet) -> None:
    from openpyxl.comments import Comment
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    edge = Side(style="thin", color="BFBFBF")
    look = {"alignment": Alignment(wrap_text=True, vertical="top"), "border": Border(edge, edge, edge, edge)}
    head = {"font": Font(bold=True, color="FFFFFF"), "fill": PatternFill("solid", _HEAD)}
    name = {"font": Font(bold=True), "fill": PatternFill("solid", _FIRST)}
    empty = {"fill": PatternFill("solid", _LIGHT)} if sheet.has_names else {}
    widths = [sheet.widths[min(i, len(sheet.widths) - 1)] for i in range(len(sheet.heads))]
    for number, row in enumerate([sheet.heads, *sheet.rows], 1):
        for i, value in enumerate(row):
            cell = page.cell(number, i + 1)
            _set(cell, value)
            special = (
                head if number == 1 else name if sheet.has_names and i == 0 else empty if value in ("", None) else {}
            )
            for part, style in (look | special).items():
                setattr(cell, part, style)
        page.row_dimensions[number].height = _measure(row, widths)
    for i, width in enumerate(widths):
        page.column_dimensions[get_column_letter(i + 1)].width = width
    for i, note in enumerate(sheet.notes):
        if note:
            page.cell(1, i + 1).comment = Comment(note, "journeylab", height=120, width=320)
    for i, options in sheet.choices.items():
        joined = ",".join(options)
        # Excel holds choices in one text, in which a comma parts them.
        if len(joined) > 250 or '"' in joined or joined.count(",") >= len(options):
            continue
        letter = get_column_letter(i + 1)
        choice = DataValidation(type="list", formula1=f'"{joined}"', allow_blank=True)
        page.add_data_validation(choice)
        choice.add(f"{letter}2:{letter}{len(sheet.rows) + _MORE_ROWS}")
    page.freeze_panes = "B2" if sheet.has_names else "A2"


def _set(cell: Any, value: str | float | bool | None) -> None:
    if not isinstance(value, str):
        cell.value = value
    elif value:
        cell.value = _as_text(value)
        # openpyxl would make formulas and error codes of some.
        cell.data_type = "s"


def _measure(row: Sequence[object], widths: Sequence[float]) -> int:
    """How high must a row be for its texts? No program measures that when it opens the file."""
    lines = [
        sum(1 + int(len(line) / width) for line in str(value).split("\n"))
        for value, width in zip(row, widths, strict=False)
        if value is not None
    ]
    return min(_LINE * max(lines, default=1) + 3, _HIGHEST)
