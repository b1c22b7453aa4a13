"""The stated half of a persona: from which files it is read, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from journeylab.errors import SchemaError
from journeylab.personas.stated import attach_stated


@dataclass(frozen=True, eq=False)
class Named:
    """As much of `Personas` as statements are attached to."""

    summary: pd.DataFrame
    stated: pd.DataFrame | None = None


@pytest.fixture
def personas() -> Any:
    return Named(pd.DataFrame({"persona": [1, 2], "name": ["bargain hunters", "Płacący od razu"], "n": [5, 3]}))


Said = list[tuple[int, str, str, int | None]]
EXPECTED: Said = [
    (1, "goal", "Find the best price", 7),
    (1, "motive", "Proud of a saving", 7),
    (1, "quote", "I always wait for a code.", 3),
    (1, "quote", "Why should I pay more?", 7),
    (2, "pain", "Zbyt wiele kroków", None),
]


def read(personas: Any) -> Said:
    table = personas.stated
    assert table.columns.tolist() == ["persona", "kind", "text", "n"]
    assert table.dtypes["n"] == "Int64"
    rows = table.astype({"n": object}).itertuples(index=False, name=None)
    return [(persona, kind, text, None if n is pd.NA else n) for persona, kind, text, n in rows]


TOML = """
[1]
n_interviews = 7
quote = [{text = "I always wait for a code.", n_interviews = 3}, "Why should I pay more?"]
goal = "Find the best price"
motive = ["Proud of a saving"]

["Płacący od razu"]
pain = "Zbyt wiele kroków"
"""
TABLE = pd.DataFrame(
    {
        "coder": ["A", "B", "A", "A", "B"],
        "persona": ["Płacący od razu", "1", "1", "bargain hunters", "1"],
        "kind": ["pain", "quote", "quote", "Goal", "motive"],
        "text": [
            "Zbyt wiele kroków",
            "I always wait for a code.",
            "Why should I pay more?",
            " Find the best price ",
            "Proud of a saving",
        ],
        "n_interviews": [None, 3, 7, 7, 7],
    }
)


def test_toml(personas: Any, tmp_path: Path) -> None:
    path = tmp_path / "stated.toml"
    path.write_text(TOML, encoding="utf-8")
    assert read(attach_stated(personas, path)) == EXPECTED
    assert personas.stated is None


def test_tables(personas: Any, tmp_path: Path) -> None:
    assert read(attach_stated(personas, TABLE)) == EXPECTED
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    TABLE.to_csv(tmp_path / "b.csv", index=False, sep=";", encoding="cp1250")
    TABLE.to_excel(tmp_path / "c.xlsx", index=False)
    for name in ("a.csv", "c.xlsx"):
        assert read(attach_stated(personas, str(tmp_path / name))) == EXPECTED
    with pytest.warns(UserWarning, match="cp1250"):
        assert read(attach_stated(personas, tmp_path / "b.csv")) == EXPECTED


def test_persona_by_number_and_base_left_out(personas: Any) -> None:
    table = pd.DataFrame({"persona": [2, 1], "kind": "need", "text": ["b", "a"]})
    assert read(attach_stated(personas, table)) == [(1, "need", "a", None), (2, "need", "b", None)]


def test_what_was_attached_before_is_gone(personas: Any) -> None:
    again = attach_stated(attach_stated(personas, TABLE), TABLE.tail(1))
    assert read(again) == [(1, "motive", "Proud of a saving", 7)]


def test_all_that_is_wrong_with_a_table_is_said_at_once(personas: Any, tmp_path: Path) -> None:
    path = tmp_path / "interviews.csv"
    path.write_text("persona,kind,text,n_interviews\nbargin hunters,gaol,,7.5\n3,goal,x,0\n1,goal,fine,2\n")
    with pytest.raises(SchemaError) as error:
        attach_stated(personas, path)
    known = "they are 1 (bargain hunters), 2 (Płacący od razu)."
    assert str(error.value) == (
        "interviews.csv failed 6 checks in 3 statements\n"
        f'  row 2: "bargin hunters" is no persona; {known} Did you mean "bargain hunters"?\n'
        '  row 2: "gaol" is no kind; they are goal, motive, need, pain, context, quote. Did you mean "goal"?\n'
        "  row 2: there is no text\n"
        '  row 2: n_interviews is "7.5"; expected a whole number from 1\n'
        f'  row 3: "3" is no persona; {known}\n'
        '  row 3: n_interviews is "0"; expected a whole number from 1'
    )


def test_all_that_is_wrong_with_a_toml_file_is_said_at_once(personas: Any, tmp_path: Path) -> None:
    path = tmp_path / "stated.toml"
    path.write_text('goal = "whose?"\n[1]\nqoute = "x"\ngoal = [{txt = "y"}]\n')
    with pytest.raises(SchemaError) as error:
        attach_stated(personas, path)
    assert str(error.value).splitlines()[0] == "stated.toml failed 5 checks in 3 statements"
    assert '  [1] qoute: "qoute" is no kind; they are goal, motive, need, pain, context, quote.' in str(error.value)
    assert '  [1] goal: "txt" is not known. Did you mean "text"?' in str(error.value)


def test_a_long_list_of_problems_is_cut(personas: Any) -> None:
    with pytest.raises(SchemaError, match=r"the table failed 30 checks in 30 statements\n(.*\n){10}  … and 20 more"):
        attach_stated(personas, pd.DataFrame({"persona": 9, "kind": "goal", "text": ["x"] * 30}))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", "[1", "a.toml: no TOML file that can be read"),
        ("a.toml", "", "a.toml has no statement in it; expected at least one"),
        ("a.toml", "[1]\nn_interviews = 7", "a.toml has no statement in it"),
        ("missing.toml", None, "missing.toml: no TOML file that can be read"),
        ("missing.csv", None, "no file at"),
        ("a.docx", "x", 'a.docx: the ending ".docx" is not known'),
        (
            "a.csv",
            "who,kind,quote\n1,goal,x\n",
            r"a.csv lacks persona, text; it has who, kind, quote\. "
            r"Expected are persona, kind, text, n_interviews \(the last may be missing\)",
        ),
    ],
)
def test_files_that_cannot_be_read(personas: Any, tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SchemaError, match=said):
        attach_stated(personas, tmp_path / name)
