from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from journeylab.errors import ParameterError, ReportError
from journeylab.parameters import Parameter, check_parameters, match_parameters, read_notebook, read_parameters


def write_notebook(path: Path, cell: str, *, opening: str = "# Title", **metadata: str) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell(opening),
        nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def typed(annotation: str) -> tuple[Parameter, ...]:
    return (Parameter("p", annotation, None, ""),)


def test_reads_name_type_default_and_help(tmp_path: Path) -> None:
    cell = """from pathlib import Path
from typing import Literal
data: Path = "shop.csv"  # the event log
k: int | Literal["auto"] = "auto"
steps: list[str] = [
    "cart",  # not this
    "pay",
]  # the funnel, in order
low: float = -1.5  # has a # in it
"""
    assert read_parameters(write_notebook(tmp_path / "n.ipynb", cell)) == (
        Parameter("data", "Path", "shop.csv", "the event log"),
        Parameter("k", 'int | Literal["auto"]', "auto", ""),
        Parameter("steps", "list[str]", ["cart", "pay"], "the funnel, in order"),
        Parameter("low", "float", -1.5, "has a # in it"),
    )


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("k = 4", r'line 1: "k = 4" is not a parameter; write name: type = value'),
        ("a: int = 1\nb: int = a + 1", r'line 2: "b: int = a \+ 1" is not a literal'),
        ("k: int = 'four'", "the default is not of type int"),
        ("k: complex = 4", "the type complex is not known here"),
        ("k: int = ", "parameters cell, line 1: invalid syntax"),
        ("k: int", "is not a parameter"),
    ],
)
def test_says_what_is_wrong_with_the_cell(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        read_parameters(write_notebook(tmp_path / "n.ipynb", cell))


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("str", "007", "007"),
        ("str", "none", "none"),
        ("str", "nan", "nan"),
        ("str", " a ", " a "),
        ("Path", "data/{month}.csv", "data/{month}.csv"),
        ("int", "-12", -12),
        ("float", "0.5", 0.5),
        ("float", "4", 4.0),
        ("bool", "true", True),
        ("bool", "No", False),
        ("list[str]", "a, b", ["a", "b"]),
        ("list[str]", "", []),
        ("list[str]", "[007, no, 'a, b']", ["007", "no", "a, b"]),
        ("list[int]", "1,2", [1, 2]),
        ("str | None", "none", None),
        ("str | None", "30D", "30D"),
        ("None | int", "null", None),
        ('int | Literal["auto"]', "auto", "auto"),
        ('Literal["auto"] | int', "4", 4),
        ('Literal["web", "app"]', "app", "app"),
        ("Literal[1, 2]", "2", 2),
        ("int | float", "4", 4),
        ("int | float", "4.5", 4.5),
        ("list[str] | None", "a", ["a"]),
    ],
)
def test_text_is_read_as_the_annotation_says(annotation: str, text: str, value: object) -> None:
    converted = check_parameters(typed(annotation), {"p": text}, text=True)["p"]
    assert (converted, type(converted)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("int", "four"),
        ("int", "4.0"),
        ("int", "1_000"),
        ("int", "true"),
        ("float", "nan"),
        ("float", "inf"),
        ("bool", "1"),
        ('int | Literal["auto"]', "Auto"),
        ("int", "none"),
        ("list[int]", "1,b"),
        ("list[str]", "[a"),
    ],
)
def test_other_text_is_refused(annotation: str, text: str) -> None:
    with pytest.raises(ParameterError) as error:
        check_parameters(typed(annotation), {"p": text}, text=True)
    assert f'  p: expected {annotation}, found "{text}"' in str(error.value)


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        ("str", "007", "007"),
        ("Path", Path("a/b.csv"), "a/b.csv"),
        ("int", np.int64(4), 4),
        ("float", 4, 4.0),
        ("float", np.float32(0.5), 0.5),
        ("bool", True, True),
        ("list[str]", ("a", "b"), ["a", "b"]),
        ("str | None", None, None),
        ("str | None", "none", "none"),
        ('int | Literal["auto"]', 4, 4),
    ],
)
def test_python_values_keep_their_type(annotation: str, value: object, converted: object) -> None:
    found = check_parameters(typed(annotation), {"p": value})["p"]
    assert (found, type(found)) == (converted, type(converted))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", "4"),
        ("int", True),
        ("int", 4.0),
        ("float", True),
        ("float", float("nan")),
        ("str", 7),
        ("bool", 1),
        ("list[str]", "a"),
        ("list[str]", ["a", 1]),
        ("Literal[1]", True),
        ("str", None),
    ],
)
def test_python_values_of_another_type_are_refused(annotation: str, value: object) -> None:
    with pytest.raises(ParameterError, match="p: expected"):
        check_parameters(typed(annotation), {"p": value})


def test_all_problems_are_told_at_once() -> None:
    parameters = (*typed("int"), Parameter("customer_id", "str", "customer_id", ""))
    with pytest.raises(ParameterError) as error:
        check_parameters(parameters, {"p": "four", "custmer_id": "client", "zzz": 1})
    assert str(error.value) == (
        "parameters that cannot be used:\n"
        '  custmer_id: unknown. Did you mean "customer_id"?\n'
        "  zzz: unknown.\n"
        '  p: expected int, found "four"\n'
        "known: customer_id, p"
    )


def test_each_notebook_takes_what_it_knows() -> None:
    notebooks = {
        "a": (Parameter("k", "int", 1, ""),),
        "b": (Parameter("k", "str", "", ""), Parameter("m", "int", 1, "")),
    }
    assert match_parameters(notebooks, {"k": "4", "m": "5"}, text=True) == {"a": {"k": 4}, "b": {"k": "4", "m": 5}}
    with pytest.raises(ParameterError, match=r"k \(a\): expected int"):
        match_parameters(notebooks, {"k": "x"}, text=True)
    with pytest.raises(ParameterError, match="n: unknown"):
        match_parameters(notebooks, {"n": "4"}, text=True)


@pytest.mark.parametrize(
    ("metadata", "opening", "found"),
    [
        ({}, "# A *title*\n\nWhich\nquestion?\n\nMore.", ("A title", "A title", "Which question?")),
        ({"title": "Short"}, "# Which question?\n\nText.", ("Short", "Which question?", "Which question?")),
        ({}, "no heading", ("My notebook", "My notebook", "")),
        ({}, "# Title\n\n- a list", ("Title", "Title", "")),
    ],
)
def test_reads_title_heading_and_question(
    tmp_path: Path, metadata: dict[str, Any], opening: str, found: tuple[str, str, str]
) -> None:
    notebook = read_notebook(write_notebook(tmp_path / "my_notebook.ipynb", "", opening=opening, **metadata))
    assert (notebook.title, notebook.heading, notebook.question) == found


def test_says_which_notebooks_there_are(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r'no notebook "persona"\. Did you mean "personas"\? Known: .*drop_off'):
        read_parameters("persona")
    with pytest.raises(ReportError, match=r"there is no notebook .*x\.ipynb"):
        read_parameters(tmp_path / "x.ipynb")
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{}")
    with pytest.raises(ReportError, match="is not a notebook of format 4"):
        read_parameters(broken)
