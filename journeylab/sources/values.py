"""Each column of a log with its type: ids as text, numbers as numbers, and what could not be made one remembered."""

from __future__ import annotations

import ibis

from journeylab.errors import SchemaError
from journeylab.schema import LOST_NUMBER, OPTIONAL, REQUIRED


def convert_columns(timed: ibis.Table, decimal: str | None) -> ibis.Table:
    """Give each column its type; what a number could not be made of is remembered."""
    columns: dict[str, ibis.Value] = {name: timed[name] for name in timed.columns}
    columns |= {"customer_id": _as_text(timed, "customer_id"), "event": _as_text(timed, "event")}
    lost: list[ibis.Value] = [ibis.null("string")]
    for name, kind in OPTIONAL.items():
        if name not in timed.columns:
            continue
        if kind == "string":
            columns[name] = _as_text(timed, name)
            continue
        columns[name], is_lost = _as_number(timed, name, kind, decimal)
        lost.append(ibis.ifelse(is_lost, ibis.literal(f"{name} ").concat(timed[name].cast("string")), None))
    first = [name for name in (*REQUIRED, *OPTIONAL) if name in columns]
    columns = {name: columns[name] for name in dict.fromkeys((*first, *columns))}
    return timed.select(**columns, **{LOST_NUMBER: ibis.coalesce(*lost)})


_IDS = frozenset(("customer_id", "event", "event_id", "session_id", "journey_id", "account_id"))


def _as_text(table: ibis.Table, name: str) -> ibis.Value:
    column = table[name]
    kind = column.type()
    if kind.is_floating() and name in _IDS:
        raise SchemaError(
            f"{name} is a column of floating point numbers: ids of 16 digits and more have lost their last ones, "
            f"and 7 became 7.0. Read it as text in the first place (pandas: dtype={{{name!r}: str}})"
        )
    return column if kind.is_string() else column.cast("string")


_NUMBERS = {"float64": r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$", "int64": r"^[+-]?\d+(?:\.0)?$"}


def _as_number(table: ibis.Table, name: str, kind: str, decimal: str | None) -> tuple[ibis.Value, ibis.Value]:
    """Read a column as numbers; the second value says which cells hold something that is none."""
    column = table[name]
    if column.type().is_string():
        number = _parse_number(column, kind, decimal)
        return number, number.isnull() & ~is_blank(column)
    if not (column.type().is_numeric() or column.type().is_boolean() or column.type().is_null()):
        raise SchemaError(
            f"{name} has type {column.type()}; expected numbers. If it means something else, rename it with "
            f"columns={{'their_{name}': {name!r}}}"
        )
    number = column.try_cast(kind)
    if column.type().is_floating():
        # NaN is a missing value, infinity and half a place in the order are none.
        is_whole = column == column.floor() if kind == "int64" else ibis.literal(True)
        number = ibis.ifelse(column.isnan() | column.isinf() | ~is_whole, None, number)
        return number, number.isnull() & column.notnull() & ~column.isnan()
    return number, number.isnull() & column.notnull()


def _parse_number(text: ibis.Value, kind: str, decimal: str | None) -> ibis.Value:
    # Thousands are set apart by spaces of several kinds; U+2212 is a minus.
    plain = text.re_replace("[\\s\u00a0\u202f\u2009']", "").replace("\u2212", "-")
    if decimal is not None:
        mark, group = (r"\.", ",") if decimal == "." else (",", ".")
        is_grouped = plain.re_search(rf"^[+-]?\d{{1,3}}(?:[{group}]\d{{3}})+(?:{mark}\d*)?$")
        plain = ibis.ifelse(is_grouped, plain.replace(group, ""), plain)
    if decimal == ",":
        plain = ibis.ifelse(plain.contains("."), None, plain.replace(",", "."))
    number = ibis.ifelse(plain.re_search(_NUMBERS[kind]), plain, None).try_cast(kind)
    return ibis.ifelse(number.isinf(), None, number) if kind == "float64" else number


def is_blank(column: ibis.Value) -> ibis.Value:
    """Is there nothing in a cell of text but spaces?"""
    # Spaces come before all other characters: the cheap test first, stripping every cell is what a large log waits for.
    return column.isnull() | ((column < "!") & (column.strip() == ""))
