"""Conditions on the columns of an event, such as ``value > 100 and country in ("PL", "CZ")``."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from journeylab.errors import RuleError, nearest

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda column, values: column.isin(values),
    ast.NotIn: lambda column, values: column.notin(values),
}
_HELP = (
    'write comparisons of a column with a value, such as value > 100 and plan in ("pro", "team"); '
    "a column whose name is not one word, or a word of Python, stands between backticks"
)
# A text in quotes, in which a backtick is just a letter; or a name between backticks.
_TEXT_OR_NAME = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]+)`""")


def check_condition(text: str, where: str) -> None:
    """Refuse a condition that is not made of comparisons of a column with values."""
    _walk(_parse(text, where), text, where, compare=lambda *_: True, combine=lambda *_: True)


def find_columns(text: str, where: str) -> list[str]:
    """Which columns does a condition look at?"""
    found: dict[str, None] = {}

    def compare(column: str, *_: object) -> bool:
        found[column] = None
        return True

    _walk(_parse(text, where), text, where, compare=compare, combine=lambda *_: True)
    return list(found)


def build_condition(text: str, table: ibis.Table, where: str) -> ibis.BooleanValue:
    """Which rows of the table meet the condition? A comparison with a null is not met."""

    def compare(name: str, how: type[ast.cmpop], value: Any) -> Any:  # Any: a literal of the condition's
        if name not in table.columns:
            raise RuleError(f'{where}: no column "{name}" in the condition {text!r}.{nearest(name, table.columns)}')
        column, kind = table[name], table[name].type()
        members = value if isinstance(value, tuple) else (value,)
        try:
            if kind.is_timestamp():
                members = tuple(datetime.fromisoformat(member) for member in members)
            # Ibis sees some mismatches only when the query runs.
            elif not all(_fits(member, kind) for member in members):
                raise TypeError
            met = _COMPARE[how](column, list(members) if isinstance(value, tuple) else members[0])
        except (TypeError, ValueError) as error:
            raise RuleError(
                f'{where}: "{name}" holds {kind}, which cannot be compared with {value!r} in {text!r}'
            ) from error
        return met.fill_null(False)

    def combine(how: ast.boolop | ast.Not, parts: list[Any]) -> Any:
        if isinstance(how, ast.Not):
            return ~parts[0]
        return ibis.and_(*parts) if isinstance(how, ast.And) else ibis.or_(*parts)

    return _walk(_parse(text, where), text, where, compare=compare, combine=combine)


def _fits(value: Any, kind: dt.DataType) -> bool:
    if kind.is_boolean():
        return isinstance(value, bool)
    if kind.is_numeric():
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)


def _parse(text: str, where: str) -> ast.expr:
    # A name that is no Python name stands between backticks, as in pandas: `client type` == "new".
    quoted: list[str] = []

    def hide(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        quoted.append(match[1])
        return f"_quoted_{len(quoted) - 1}"

    if not isinstance(text, str):
        raise RuleError(f"{where}: a condition is text; found {text!r}; {_HELP}")
    try:
        tree = ast.parse(_TEXT_OR_NAME.sub(hide, text).strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise RuleError(f"{where}: the condition {text!r} cannot be read: {error}; {_HELP}") from None
    except (RecursionError, MemoryError):
        raise RuleError(f"{where}: the condition {text[:40]!r} … is nested too deeply; {_HELP}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and (match := re.fullmatch(r"_quoted_(\d+)", node.id)):
            node.id = quoted[int(match[1])]
    return tree


def _walk(node: ast.expr, text: str, where: str, *, compare: Callable[..., Any], combine: Callable[..., Any]) -> Any:
    def walk(part: ast.expr) -> Any:
        return _walk(part, text, where, compare=compare, combine=combine)

    if isinstance(node, ast.BoolOp):
        return combine(node.op, [walk(part) for part in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return combine(node.op, [walk(node.operand)])
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and len(node.ops) == 1:
        try:
            value = ast.literal_eval(node.comparators[0])
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = None
        is_many = isinstance(node.ops[0], ast.In | ast.NotIn)
        if isinstance(value, list):
            value = tuple(value)
        elif is_many and isinstance(value, str | int | float):
            # ("pro") is no tuple to Python, and one to everybody else.
            value = (value,)
        if type(node.ops[0]) in _COMPARE and value is not None and isinstance(value, tuple) == is_many:
            return compare(node.left.id, type(node.ops[0]), value)
    raise RuleError(f"{where}: the condition {text!r} is not understood at {ast.unparse(node)!r}; {_HELP}")
