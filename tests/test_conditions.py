"""Conditions on the columns of an event: what they mean, and that nothing but comparisons gets through."""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import ibis
import pyarrow as pa
import pytest
from conftest import Row, examples
from hypothesis import given
from hypothesis import strategies as st

from journeylab.conditions import build_condition, check_condition, find_columns
from journeylab.errors import RuleError

HELP = (
    'write comparisons of a column with a value, such as value > 100 and plan in ("pro", "team"); '
    "a column whose name is not one word, or a word of Python, stands between backticks"
)
COLUMNS = {
    "value": pa.array([0.5, 2.0, None, 100.0]),
    "seq": pa.array([1, None, 3, -1], pa.int64()),
    "plan": pa.array(["pro", "free", None, "a`b`c"]),
    "is_new": pa.array([True, False, None, True]),
    "paid_at": pa.array(
        [datetime(2026, 1, 1), None, datetime(2026, 3, 1), datetime(2026, 3, 1, 12)], pa.timestamp("us")
    ),
    "born": pa.array([date(2026, 1, 1), None, date(2026, 3, 1), date(2026, 3, 1)]),
    "client type": pa.array(["new", "old", None, "new"]),
    "class": pa.array(["x", None, "y", "x"]),
}


@pytest.fixture
def table(con: ibis.BaseBackend) -> ibis.Table:
    return con.create_table("rows", pa.table(COLUMNS), temp=True)


def find_met(table: ibis.Table, text: str) -> list[int]:
    """The places (from 0) of the rows that meet the condition."""
    check_condition(text, "step")
    met = table.mutate(met=build_condition(text, table, "step")).to_pyarrow()["met"].to_pylist()
    assert set(met) <= {True, False}
    return [i for i, is_met in enumerate(met) if is_met]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # Numbers.
        ("value > 2", [3]),
        ("value >= 2", [1, 3]),
        ("value < 2", [0]),
        ("value <= 2.0", [0, 1]),
        ("value == 2", [1]),
        ("value != 2", [0, 3]),
        ("seq > -2", [0, 2, 3]),
        ("seq in (1, 3)", [0, 2]),
        ("seq in [1, 3]", [0, 2]),
        ("seq not in (1,)", [2, 3]),
        # Text.
        ('plan == "pro"', [0]),
        ("plan != 'pro'", [1, 3]),
        ('plan in ("pro", "free")', [0, 1]),
        ('plan not in ("pro", "free")', [3]),
        ('plan == "PRO"', []),
        # True and false.
        ("is_new == True", [0, 3]),
        ("is_new != True", [1]),
        # Times, UTC; with a zone they are brought there.
        ('paid_at > "2026-02-01"', [2, 3]),
        ('paid_at >= "2026-03-01 12:00"', [3]),
        ('paid_at <= "2026-03-01T01:00+01:00"', [0, 2]),
        ('paid_at in ("2026-01-01", "2026-03-01")', [0, 2]),
        ('born > "2026-02-01"', [2, 3]),
        # Names that Python could not read.
        ('`client type` == "new"', [0, 3]),
        ('`class` == "y" or `client type` == "old"', [1, 2]),
        # A comparison with a null is not met, so its opposite is.
        ("not value > 2", [0, 1, 2]),
        ("not value == 2", [0, 2, 3]),
        ('not plan in ("pro",)', [1, 2, 3]),
        # not before and before or, as in Python.
        ('value == 2 or plan == "pro" and seq == 7', [1]),
        ('(value == 2 or plan == "pro") and seq == 7', []),
        ('not value == 2 and plan == "pro"', [0]),
        ('not (value == 2 or plan == "pro")', [2, 3]),
        ("value > 0 and value < 50 and seq > 0", [0]),
        ("  value > 2", [3]),
    ],
)
def test_conditions_by_hand(table: ibis.Table, text: str, rows: list[int]) -> None:
    assert find_met(table, text) == rows


def test_backticks_within_a_text_are_text(table: ibis.Table) -> None:
    assert find_met(table, 'plan == "a`b`c"') == [3]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("value > 1", ["value"]),
        ('value > 1 and (plan == "x" or not value < 9) and `client type` in ("a",)', ["value", "plan", "client type"]),
    ],
)
def test_columns_of_a_condition(text: str, columns: list[str]) -> None:
    assert find_columns(text, "step") == columns


_NUMBERS = st.sampled_from((-1, 0, 1, 2, 0.5, 100))
_ATOMS = st.one_of(
    st.tuples(st.sampled_from(("value", "seq")), st.sampled_from(("<", "<=", ">", ">=", "==", "!=")), _NUMBERS),
    st.tuples(st.just("seq"), st.sampled_from(("in", "not in")), st.lists(_NUMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("plan"), st.sampled_from(("==", "!=")), st.sampled_from(("pro", "free", "'"))),
    st.tuples(
        st.just("plan"), st.sampled_from(("in", "not in")), st.lists(st.sampled_from(("pro", "free")), min_size=1)
    ),
)


def say(node: Any) -> str:
    """A tree of ("and", left, right), ("or", left, right), ("not", part) or (column, how, value) as text."""
    if node[0] in ("and", "or"):
        return f"({say(node[1])} {node[0]} {say(node[2])})"
    return f"not {say(node[1])}" if node[0] == "not" else f"{node[0]} {node[1]} {node[2]!r}"


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}


def meets(row: Row, node: Any) -> bool:
    if node[0] in ("and", "or"):
        return (all if node[0] == "and" else any)(meets(row, part) for part in node[1:])
    if node[0] == "not":
        return not meets(row, node[1])
    return row[node[0]] is not None and COMPARE[node[1]](row[node[0]], node[2])


_TREES = st.recursive(
    _ATOMS,
    lambda parts: st.tuples(st.sampled_from(("and", "or")), parts, parts) | st.tuples(st.just("not"), parts),
    max_leaves=6,
)


@examples(25)
@given(tree=_TREES)
def test_conditions_mean_what_python_means(table: ibis.Table, tree: Any) -> None:
    rows = pa.table(COLUMNS).to_pylist()
    assert find_met(table, say(tree)) == [i for i, row in enumerate(rows) if meets(row, tree)]


@pytest.mark.parametrize(
    "text",
    [
        # Nothing is called, looked up, indexed, computed or defined.
        "__import__('os')",
        "__import__('os').system('true') == 1",
        "value > f()",
        "value.real > 1",
        "plan[0] == 'a'",
        "value > 1 + 1",
        "value > 1 & seq > 1",
        "plan == f'{value}'",
        "lambda: 1",
        "[value for value in (1,)]",
        "(value := 1) > 0",
        "value > 1 if seq else seq > 1",
        "seq in range(3)",
        # No column with a column, no value first, no chain, nothing alone.
        "value > seq",
        "1 < value",
        "1 < value < 3",
        "value < 1 < 3",
        "value",
        "True",
        "-value > 1",
        # A null, one value for many, and many for one.
        "plan == None",
        "plan is None",
        "seq == (1, 2)",
    ],
)
def test_nothing_but_comparisons(text: str) -> None:
    part = ast.unparse(ast.parse(text, mode="eval").body)
    with pytest.raises(RuleError) as caught:
        check_condition(text, 'step "a"')
    assert str(caught.value) == f'step "a": the condition {text!r} is not understood at {part!r}; {HELP}'
    with pytest.raises(RuleError):
        find_columns(text, 'step "a"')


def test_what_is_wrong_is_named(table: ibis.Table) -> None:
    with pytest.raises(RuleError) as caught:
        check_condition("value > 1 and not (plan == 'x' or seq > f())", "here")
    assert "is not understood at 'seq > f()'" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "value >", "value = 1", "value > 1; seq", "value > 1\nimport os", "\0", "class == 1"]
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(RuleError) as caught:
        check_condition(text, "here")
    assert str(caught.value).startswith(f"here: the condition {text!r} cannot be read: ")
    assert str(caught.value).endswith(HELP)


@pytest.mark.parametrize("text", ["value == {[]: 1}", "(" * 500 + "value > 1" + ")" * 500, "not " * 3000 + "value > 1"])
def test_what_nobody_writes_is_refused_too(text: str) -> None:
    with pytest.raises(RuleError):
        check_condition(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("valu > 1", 'here: no column "valu" in the condition \'valu > 1\'. Did you mean "value"?'),
        ("zzz > 1", "here: no column \"zzz\" in the condition 'zzz > 1'."),
        ('value > "1"', "here: \"value\" holds float64, which cannot be compared with '1' in 'value > \"1\"'"),
        ("plan > 1", "here: \"plan\" holds string, which cannot be compared with 1 in 'plan > 1'"),
        ("plan == True", "here: \"plan\" holds string, which cannot be compared with True in 'plan == True'"),
        (
            'is_new == "yes"',
            "here: \"is_new\" holds boolean, which cannot be compared with 'yes' in 'is_new == \"yes\"'",
        ),
    ],
)
def test_what_does_not_fit_the_columns(table: ibis.Table, text: str, message: str) -> None:
    check_condition(text, "here")
    with pytest.raises(RuleError) as caught:
        build_condition(text, table, "here")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        *('paid_at > "soon"', "paid_at > 5", 'born == "x"', "seq > 99999999999999999999"),
        *('plan in ("z", 5)', 'seq in (1, "z")', 'plan in (("a",),)'),
    ],
)
def test_values_of_another_kind(table: ibis.Table, text: str) -> None:
    with pytest.raises(RuleError, match="cannot be compared with"):
        build_condition(text, table, "here")
