"""A workshop fills in a template, and what it wrote stands on the map with its grade of evidence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import ibis
import openpyxl
import pytest
from conftest import SIX_RULES, make_steps, six_customers
from test_hostile import ATTACKS, toml

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.journeymap import build_map
from journeylab.journeymap.template import write_template
from journeylab.journeymap.workshop import Workshop, read_workshop
from journeylab.journeymap.workshop_files import KNOWN_LANES, SHEETS
from journeylab.language import use_language

FILLED = """
[stages.look]
expectations = ["It loads at once", { text = "I find my size", evidence = "stated", note = "7 interviews" }]
owner = "Web team"

[stages.basket]
support = { text = "Stock system", note = "IT" }
kpis = [12, ""]

[[touchpoints]]
stage = "basket"
event = "cart"
channel = "web"
cost = 0.25
effort = 3
evidence = "stated"

[[touchpoints]]
stage = "look"
event = "shop"
effort = 1.5

[[touchpoints]]
stage = "look"
event = "ad"

[path]
steps = ["shop", ["cart", "wish"], "pay"]
optional = ["cart / wish"]
repeatable = ["shop"]
ignore = ["help"]
"""
ROWS = [
    ["expectations", "look", "It loads at once", "assumed", ""],
    ["expectations", "look", "I find my size", "stated", "7 interviews"],
    ["owner", "look", "Web team", "assumed", ""],
    ["support", "basket", "Stock system", "assumed", "IT"],
    ["kpis", "basket", "12", "assumed", ""],
]
TOUCHPOINTS = [["basket", "cart", "web", "stated", 0.25, 3.0], ["look", "shop", "", "assumed", None, 1.5]]


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_excel(folder: Path, **sheets: list[list[Any]]) -> Path:
    """Fill in the template: rows below its heads, in the place of those that it has."""
    path = folder / "shop.xlsx"
    if not path.exists():
        write_template(path, SIX_RULES)
    book = openpyxl.load_workbook(path)
    for name, rows in sheets.items():
        book[name].delete_rows(2, 1_000)
        for row in rows:
            book[name].append(row)
    book.save(path)
    return path


def as_lists(workshop: Workshop) -> tuple[list[list[Any]], list[list[Any]]]:
    touchpoints = workshop.touchpoints.astype(object).where(workshop.touchpoints.notna(), None)
    return workshop.rows.to_numpy().tolist(), touchpoints.to_numpy().tolist()


def test_toml_says_who_knows_what(tmp_path: Path) -> None:
    workshop = read_workshop(write_toml(tmp_path, FILLED), SIX_RULES)
    assert as_lists(workshop) == (ROWS, TOUCHPOINTS)
    assert workshop.path == jl.PlannedPath(
        ["shop", ["cart", "wish"], "pay"], optional="cart / wish", repeatable="shop", ignore="help"
    )


def test_excel_says_the_same(tmp_path: Path) -> None:
    path = write_excel(
        tmp_path,
        stages=[
            ["look", "expectations", " It loads at once "],
            ["look", "expectations", "I find my size", "stated", "7 interviews"],
            ["look", "owner", "Web team", "assumed", None],
            ["look", "backstage", None, None, None],
            [None, None, None, None, None],
            ["basket", "support", "Stock system", None, "IT"],
            ["basket", "kpis", 12],
        ],
        touchpoints=[["basket", "cart", "web", 0.25, 3, "stated"], ["look", "shop", None, None, 1.5], ["look", "ad"]],
        path=[
            ["shop", "step", None, "yes"],
            ["cart", None, "x"],
            ["wish", "or"],
            ["pay", "step"],
            ["help", "ignore"],
        ],
    )
    from_excel, from_toml = read_workshop(path, SIX_RULES), read_workshop(write_toml(tmp_path, FILLED), SIX_RULES)
    assert as_lists(from_excel) == as_lists(from_toml)
    assert from_excel.path == from_toml.path
    assert dict(from_excel.rows.dtypes) == dict(Workshop.empty().rows.dtypes)
    assert dict(from_excel.touchpoints.dtypes) == dict(Workshop.empty().touchpoints.dtypes)


@pytest.mark.parametrize("name", ["new.toml", "new.xlsx"])
@pytest.mark.parametrize("lang", ["en", "pl", "ru"])
def test_empty_template_knows_nothing(six: ibis.Table, tmp_path: Path, name: str, lang: str) -> None:
    with use_language(lang):
        path = write_template(tmp_path / name, SIX_RULES, six, min_group=1)
    workshop = read_workshop(path, SIX_RULES)
    assert as_lists(workshop) == ([], [])
    assert workshop.path is None


def test_template_asks_for_every_lane_of_every_stage(tmp_path: Path) -> None:
    toml = tomllib.loads(write_template(tmp_path / "a.toml", SIX_RULES).read_text(encoding="utf-8"))
    assert toml == {"stages": {stage: {lane: [] for lane in KNOWN_LANES} for stage in SIX_RULES.stages}}
    book = openpyxl.load_workbook(write_template(tmp_path / "a.xlsx", SIX_RULES))
    assert book.sheetnames == [*SHEETS, "read me"]
    asked = [row[:2] for row in book["stages"].iter_rows(min_row=2, values_only=True)]
    assert asked == [(stage, lane) for stage in SIX_RULES.stages for lane in KNOWN_LANES]
    for name, heads in SHEETS.items():
        assert tuple(cell.value for cell in book[name][1]) == heads
    assert [each.formula1 for each in book["stages"].data_validations.dataValidation] == [
        '"look,basket,bought"',
        f'"{",".join(KNOWN_LANES)}"',
        '"stated,assumed"',
    ]
    assert "backstage" in book["stages"]["B1"].comment.text


def find_touchpoints(steps: ibis.Table, rules: jl.JourneyRules, top: int, min_group: int) -> list[tuple[str, ...]]:
    who: dict[tuple[str, str, str], set[str]] = {}
    for row in steps.to_pyarrow().to_pylist():
        if row["stage"]:
            who.setdefault((row["stage"], row["event"], row["channel"] or ""), set()).add(row["customer_id"])
    found = []
    for stage in rules.stages:
        keys = [key for key, people in who.items() if key[0] == stage and len(people) >= min_group]
        found += sorted(keys, key=lambda key: (-len(who[key]), *key[1:]))[:top]
    return found


@pytest.mark.parametrize(("top", "min_group"), [(5, 1), (1, 1), (2, 2), (5, 3)])
def test_template_names_the_touchpoints_of_the_log(six: ibis.Table, tmp_path: Path, top: int, min_group: int) -> None:
    expected = find_touchpoints(six, SIX_RULES, top, min_group)
    assert expected
    path = write_template(tmp_path / "a.toml", SIX_RULES, six, top=top, min_group=min_group)
    toml = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [tuple(each.values()) for each in toml["touchpoints"]] == expected
    book = openpyxl.load_workbook(
        write_template(tmp_path / "a.xlsx", SIX_RULES, six, top=top, min_group=min_group), read_only=True
    )
    rows = [row[:3] for row in book["touchpoints"].iter_rows(min_row=2, values_only=True)]
    assert [(stage, event, channel or "") for stage, event, channel in rows] == expected


def test_log_without_channels(tmp_path: Path) -> None:
    steps = make_steps(
        [{k: row[k] for k in ("customer_id", "event", "timestamp")} for row in six_customers()], SIX_RULES
    )
    toml = tomllib.loads(write_template(tmp_path / "a.toml", SIX_RULES, steps, min_group=1).read_text(encoding="utf-8"))
    assert [tuple(each.values()) for each in toml["touchpoints"]] == [
        ("look", "shop", ""),
        ("basket", "cart", ""),
        ("bought", "pay", ""),
    ]


def test_hostile_names_come_back_to_the_letter(tmp_path: Path) -> None:
    names = [name for name in ATTACKS.values() if len(name) < 1_000]
    rows = six_customers()
    rows = [
        {**rows[0], "customer_id": str(number), "event": name, "channel": names[-1 - i]}
        for i, name in enumerate(names)
        for number in range(2)
    ]
    stages = (*names[:6], "rest")
    rules = jl.JourneyRules(stages=stages, stage_of={name: stages[min(i, 6)] for i, name in enumerate(names)})
    steps = make_steps(rows, rules)
    expected = find_touchpoints(steps, rules, 99, 2)
    assert len(expected) == len(names)
    path = write_template(tmp_path / "a.toml", rules, steps, top=99, min_group=2)
    text = path.read_text(encoding="utf-8").replace("# cost =", "cost = 2")
    path.write_text(text, encoding="utf-8")
    found = read_workshop(path, rules).touchpoints
    assert [*found[["stage", "event", "channel"]].itertuples(index=False, name=None)] == expected

    path = write_template(tmp_path / "a.xlsx", rules, steps, top=99, min_group=2)
    book = openpyxl.load_workbook(path)
    for row in book["touchpoints"].iter_rows(min_row=2):
        assert {cell.data_type for cell in row[:3]} == {"s"}
        row[3].value = 2
    book.save(path)
    found = read_workshop(path, rules).touchpoints
    held = [*found[["stage", "event", "channel"]].itertuples(index=False, name=None)]
    # What Excel cannot hold is left out, not changed.
    lost = {"returns", "controls"}
    assert held == [each for each in expected if not {ATTACKS[name] for name in lost} & set(each)]


@pytest.mark.parametrize("name", ["a.toml", "a.xlsx"])
def test_same_template_same_bytes(six: ibis.Table, tmp_path: Path, name: str) -> None:
    one = write_template(tmp_path / name, SIX_RULES, six).read_bytes()
    assert write_template(tmp_path / "new" / name, SIX_RULES, six).read_bytes() == one


def test_map_carries_the_grades(six: ibis.Table, tmp_path: Path) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)
    workshop = read_workshop(write_toml(tmp_path, FILLED), SIX_RULES)
    journey_map = build_map(six, journeys, SIX_RULES, workshop=workshop, min_group=1)
    cell = journey_map.cell("expectations", "look")
    assert cell[["item", "evidence", "note"]].to_numpy().tolist() == [
        ["It loads at once", "assumed", ""],
        ["I find my size", "stated", "7 interviews"],
    ]
    assert list(journey_map.cell("expectations", "basket")["evidence"]) == ["unknown"]
    cost = journey_map.cell("cost", "basket").iloc[0]
    assert (cost["value"], cost["n"], cost["evidence"]) == (0.5, 2, "stated")


# Errors

WRONG = """
[stages.lok]
expectations = ["a"]
[stages.look]
expectatoins = ["a"]
owner = [{ text = "a", evidence = "gessed" }, true, { txt = "a" }, { note = "Anna" }]
kpis = 3
[stages]
basket = "a"
[[touchpoints]]
stage = "look"
cost = "0,5"
effrot = 1
[[touchpoints]]
stage = "look"
event = "shop"
cost = -1
effort = 0
[[touchpoints]]
stage = "look"
event = "shop"
[[touchpoints]]
event = "shop"
cost = nan
[path]
steps = ["shop"]
optional = ["shp"]
stepz = []
[other]
"""


def test_every_fault_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journeylab.journeymap.workshop_files._MOST_LISTED", 99)
    with pytest.raises(RuleError) as raised:
        read_workshop(write_toml(tmp_path, WRONG), SIX_RULES)
    head, *lines = str(raised.value).splitlines()
    assert head == f"shop.toml: {len(lines)} entries cannot be used"
    found = [tuple(line.strip().split("  ", 1)) for line in lines]
    assert sorted((place, what.strip()) for place, what in found) == sorted(
        [
            ("other", 'no part "other". Known: stages, touchpoints, path'),
            ("stages.basket", "must be a table such as [stages.basket], found 'a'"),
            ("stages.look.owner[3]", 'no key "txt". Did you mean "text"? Known: text, evidence, note'),
            (
                "touchpoints[1]",
                'no key "effrot". Did you mean "effort"? Known: stage, event, channel, cost, effort, evidence',
            ),
            (
                "stages.look.expectatoins",
                'no lane "expectatoins". Did you mean "expectations"? '
                "Known: expectations, owner, front_stage, backstage, support, kpis",
            ),
            ("stages.look.owner[1]", 'no grade of evidence "gessed". Did you mean "assumed"? Known: stated, assumed'),
            ("stages.look.owner[2]", "text must be text, found True"),
            ("stages.look.owner[4]", "has a note, but no text"),
            ("touchpoints[1]", "names no event"),
            ("touchpoints[1]", "cost must be a number, 0 or more; found '0,5'"),
            ("touchpoints[2]", "cost must be a number, 0 or more; found -1"),
            ("touchpoints[2]", "effort must be a number, more than 0; found 0"),
            ("touchpoints[3]", "is the same touchpoint as touchpoints[2]: its cost would count twice"),
            ("touchpoints[4]", "names no stage"),
            ("touchpoints[4]", "cost must be a number, 0 or more; found nan"),
            ("path", 'no key "stepz". Did you mean "steps"? Known: steps, optional, repeatable, ignore'),
            ("path", 'optional must name steps; not among shop: "shp" Did you mean "shop"?'),
            ("stages.lok.expectations[1]", 'no stage "lok". Did you mean "look"? Known: look, basket, bought'),
        ]
    )


def test_faults_of_excel_are_named_by_row(tmp_path: Path) -> None:
    path = write_excel(
        tmp_path,
        stages=[["look", "owner", "a", "guess"], [None, "kpi", "a"], ["look", "kpis", None, None, "Anna"]],
        touchpoints=[["look", "shop", None, "dear"]],
        path=[["shop", "stepp"], [None, "or"]],
    )
    with pytest.raises(RuleError) as raised:
        read_workshop(path, SIX_RULES)
    assert str(raised.value).splitlines() == [
        "shop.xlsx: 7 entries cannot be used",
        '  path, row 2         no role "stepp". Did you mean "step"? Known: step, or, ignore',
        "  path, row 3         names no event",
        '  stages, row 2       no grade of evidence "guess". Known: stated, assumed',
        '  stages, row 3       no lane "kpi". Did you mean "kpis"? Known: expectations, owner, front_stage, backstage, '
        "support, kpis",
        "  stages, row 3       names no stage",
        "  stages, row 4       has a note, but no text",
        "  touchpoints, row 2  cost must be a number, 0 or more; found 'dear'",
    ]


def test_many_faults_are_counted(tmp_path: Path) -> None:
    text = "[stages.look]\nowner = [" + "{ evidence = 'sure', text = 'a' }, " * 1_234 + "]\n"
    with pytest.raises(RuleError) as raised:
        read_workshop(write_toml(tmp_path, text))
    lines = str(raised.value).splitlines()
    assert lines[0] == "shop.toml: 1,234 entries cannot be used"
    assert len(lines) == 12
    assert lines[-1] == "  … and 1,224 more"


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    names = [toml(name) for name in ATTACKS.values()]
    text = "".join(f"[stages.{name}]\nowner = 'a'\n{name} = 'a'\n[{name}]\n" for name in names)
    with pytest.raises(RuleError) as raised:
        read_workshop(write_toml(tmp_path, text), SIX_RULES)
    lines = str(raised.value).split("\n")
    assert lines[0] == f"shop.toml: {3 * len(names)} entries cannot be used"
    assert len(lines) == 12
    assert max(map(len, lines)) < 400
    assert not [line for line in lines if set("\r\x07\x1b\u2028\u202e") & set(line)]


def test_what_is_no_workshop(tmp_path: Path) -> None:
    with pytest.raises(
        RuleError, match=r"no workshop at .*: the file does not exist; journeylab map-template writes one"
    ):
        read_workshop(tmp_path / "no.toml")
    with pytest.raises(RuleError, match=r'shop.txt: a workshop is a .toml or .xlsx file, found ".txt"'):
        read_workshop(write_toml(tmp_path, "").rename(tmp_path / "shop.txt"))
    with pytest.raises(RuleError, match=r"^shop.toml is not TOML: Invalid value"):
        read_workshop(write_toml(tmp_path, "stages = ["))
    with pytest.raises(RuleError, match=r"^shop.xlsx is not an Excel file: "):
        read_workshop(write_toml(tmp_path, "a").rename(tmp_path / "shop.xlsx"))
    with pytest.raises(RuleError, match=r"^shop.toml: 1 entry cannot be used\n  touchpoints  write each under \[\["):
        read_workshop(write_toml(tmp_path, "[touchpoints]\nstage = 'a'"))
    openpyxl.Workbook().save(tmp_path / "other.xlsx")
    with pytest.raises(RuleError, match=r"^other.xlsx: no sheet of stages, touchpoints, path; found Sheet$"):
        read_workshop(tmp_path / "other.xlsx")


def test_template_is_not_written_over(tmp_path: Path) -> None:
    path = write_toml(tmp_path, FILLED)
    with pytest.raises(RuleError, match="is there already, and may be filled in; choose another name"):
        write_template(path, SIX_RULES)
    assert path.read_text(encoding="utf-8") == FILLED
    with pytest.raises(RuleError, match=r'must end in .toml or .xlsx, found "a.csv"'):
        write_template(tmp_path / "a.csv", SIX_RULES)
    with pytest.raises(RuleError, match="the rules have no stages"):
        write_template(tmp_path / "a.toml", jl.JourneyRules())
