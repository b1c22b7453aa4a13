"""`read_events`: columns, numbers, problems and their repairs, and what is refused how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import fetch
from hypothesis import given, settings
from hypothesis import strategies as st

import journeylab as jl
from journeylab.schema import PROBLEMS, RESERVED


def make_log(n: int = 2, /, **columns: Any) -> pd.DataFrame:
    base = {"customer_id": ["a"] * n, "event": [f"e{i}" for i in range(n)], "timestamp": ["2026-01-01T10:00"] * n}
    return pd.DataFrame(base | columns)


def read(con: ibis.BaseBackend, log: pd.DataFrame, **options: Any) -> list[dict[str, Any]]:
    rows = fetch(jl.read_events(log, con=con, **options))
    return sorted(rows, key=lambda row: row["_row"])


def refusal(con: ibis.BaseBackend, log: Any, **options: Any) -> str:
    with pytest.raises(jl.SchemaError) as error:
        jl.read_events(log, con=con, **options)
    return str(error.value)


def n_tables(con: ibis.BaseBackend) -> int:
    return len(con.raw_sql("SELECT 1 FROM information_schema.tables").fetchall())


# Columns.


def test_columns_come_in_order_with_their_types(con: ibis.BaseBackend) -> None:
    log = make_log(text="t", value="1.5", seq="3", mine=2, session_id=7, Role="buyer", SCORE=None)
    events = jl.read_events(log, con=con)
    assert {name: str(kind) for name, kind in events.schema().items()} == {
        **dict.fromkeys(("customer_id", "event"), "string"),
        "timestamp": "timestamp(6)",
        "seq": "int64",
        "session_id": "string",
        **dict.fromkeys(("value", "score"), "float64"),
        **dict.fromkeys(("text", "role"), "string"),
        "mine": "int64",
        "_row": "int64",
        "_time": "string",
        "_problem": "string",
    }
    order = ("customer_id", "event", "timestamp", "seq", "session_id", "value", "score", "text", "role", "mine")
    assert events.columns == (*order, "_row", "_time", "_problem")


def test_columns_are_mapped_by_any_name_and_letter_case(con: ibis.BaseBackend) -> None:
    log = make_log(Kanał=["web", "app"], n=[1, 2]).rename(columns={"customer_id": "Klient", "event": "Zdarzenie"})
    log = log.rename(columns={"timestamp": "TIMESTAMP"})
    options = {"customer_id": "klient", "event": "Zdarzenie", "columns": {"Channel": "Kanał", "count": "n"}}
    rows = read(con, log, **options)
    assert [(row["customer_id"], row["event"], row["channel"], row["count"]) for row in rows] == [
        ("a", "e0", "web", 1),
        ("a", "e1", "app", 2),
    ]
    # One column may serve twice.
    rows = read(con, make_log(), columns={"account_id": "customer_id"})
    assert {(row["customer_id"], row["account_id"]) for row in rows} == {("a", "a")}


def test_columns_as_parameters_write_them(con: ibis.BaseBackend) -> None:
    rows = pd.DataFrame({"customer_id": ["a"], "event": ["x"], "timestamp": ["2026-01-01"], "utm": ["ad=1"]})
    assert jl.read_events(rows, columns=["channel=utm"], con=con).channel.execute().tolist() == ["ad=1"]
    with pytest.raises(jl.RuleError) as error:
        jl.read_events(rows, columns=["channel", "=utm", "a=b"], con=con)
    assert str(error.value) == (
        "read_events: 2 of 3 columns have no name on both sides of a =: 'channel', '=utm'; "
        "write ours=theirs, such as channel=utm_medium"
    )


def test_missing_columns_are_named_together_with_the_near_match(con: ibis.BaseBackend) -> None:
    log = make_log(kanal="web").rename(columns={"customer_id": "customerid", "timestamp": "czas"})
    assert refusal(con, log, columns={"channel": "kanał", "value": "amount"}) == (
        "the DataFrame: 4 columns were not found\n"
        '  customer_id  no column "customer_id". Did you mean "customerid"?\n'
        '  timestamp    no column "timestamp".\n'
        '  channel      no column "kanał". Did you mean "kanal"?\n'
        '  value        no column "amount".\n'
        "The columns are customerid, event, czas, kanal; "
        "say which is which, such as read_events(…, customer_id='customerid')"
    )
    assert refusal(con, make_log(), columns={"channel": "kanal"}) == (
        "the DataFrame: 1 column was not found\n"
        '  channel  no column "kanal".\n'
        "The columns are customer_id, event, timestamp; "
        "say which is which, such as read_events(…, columns={'channel': 'customer_id'})"
    )
    assert refusal(con, pd.DataFrame({f"c{i}": [1] for i in range(50)})).endswith(
        "c28, c29 and 20 more; say which is which, such as read_events(…, customer_id='c0')"
    )
    assert n_tables(con) == 0


def test_names_that_mean_something_else_are_refused_with_a_hint_that_works(con: ibis.BaseBackend) -> None:
    log = make_log(Step=[1, 2], gap_s=[3, 4], _place=["x", "y"], customer=["c", "d"])
    message = refusal(con, log, customer_id="customer")
    hint = "{'their_customer_id': 'customer_id', 'their_Step': 'Step', 'their_gap_s': 'gap_s', 'their_place': '_place'}"
    assert message == (
        "the DataFrame: 4 columns have names that mean something else here: customer_id, Step, gap_s, _place. "
        f"Rename with columns={hint} "
        "(notebooks: columns=[their_customer_id=customer_id], command line: --column their_customer_id=customer_id)"
    )
    rows = read(con, log, customer_id="customer", columns=eval(hint))
    assert [tuple(row[name] for name in eval(hint)) for row in rows] == [("a", 1, 3, "x"), ("a", 2, 4, "y")]
    assert refusal(con, make_log(n=[1, 2]), columns={"position": "n"}) == (
        "the DataFrame: 1 column has a name that means something else here: position. "
        "Rename with columns={'their_position': 'n'} "
        "(notebooks: columns=[their_position=n], command line: --column their_position=n)"
    )
    with pytest.raises(jl.SchemaError, match="column names occur twice"):
        jl.read_events(make_log(n=[1, 2]), con=con, columns={"N": "event", "n": "n"})


def test_every_column_of_the_users_own_survives_to_the_steps(con: ibis.BaseBackend) -> None:
    # Names that the package gives to columns of its own, in other tables.
    names = ("_id", "_n", "n", "index", "_group", "_events", "_variant", "_is_goal", "step_", "label", "share")
    log = make_log(**{name: [f"{name}1", f"{name}2"] for name in names})
    events = jl.read_events(log, con=con)
    rules = jl.JourneyRules(goal="e1", stages=("s",), stage_of={"e*": "s"})
    steps = jl.build_steps(events, rules)
    for row, end in zip(fetch(steps.order_by("position")), "12", strict=True):
        assert {name: row[name] for name in names} == {name: name + end for name in names}
    assert jl.build_journeys(steps, rules).count().execute() == 1
    assert len(jl.count_variants(steps)) == 1
    message = refusal(con, make_log(**dict.fromkeys(map(str.upper, RESERVED - {"_row", "_problem", "_time"}), 1)))
    assert message.startswith(f"the DataFrame: {len(RESERVED) - 3} columns have names that mean something else here: ")


# Numbers.

NUMBERS: dict[str, tuple[float | None, float | None, float | None]] = {
    # text: as read by default, with decimal="." and with decimal=","; None: cannot be read
    "1.5": (1.5, 1.5, None),
    "1,5": (None, None, 1.5),
    "1.234": (1.234, 1.234, 1234.0),
    "1,234": (None, 1234.0, 1.234),
    "1.234,50": (None, None, 1234.5),
    "1,234.50": (None, 1234.5, None),
    "1.234.567": (None, None, 1234567.0),
    "12.34,5": (None, None, None),
    "1 234,5": (None, None, 1234.5),
    "1\u00a0234,5": (None, None, 1234.5),
    "1\u202f234.5": (1234.5, 1234.5, None),
    "1'234.5": (1234.5, 1234.5, None),
    " 7 ": (7.0, 7.0, 7.0),
    "-7": (-7.0, -7.0, -7.0),
    "\u22127": (-7.0, -7.0, -7.0),
    "+7": (7.0, 7.0, 7.0),
    ".5": (0.5, 0.5, None),
    "1e3": (1000.0, 1000.0, 1000.0),
    **dict.fromkeys(
        ("-", "--", "n/a", "nan", "inf", "1e999", "0x10", "1_000", "12 zł", "5%", "TRUE", "١"), (None,) * 3
    ),
}


@pytest.mark.parametrize(("column", "decimal"), [(0, None), (1, "."), (2, ",")])
def test_numbers_in_text(con: ibis.BaseBackend, column: int, decimal: Any) -> None:
    texts = [*NUMBERS, "", None, "  "]
    log = make_log(len(texts), value=texts)
    rows = read(con, log, decimal=decimal, repair="keep_unparsed_number")
    found = {text: (row["value"], row["_problem"]) for text, row in zip(texts, rows, strict=True)}
    assert [found[text] for text in ("", None, "  ")] == [(None, None)] * 3
    for text, answers in NUMBERS.items():
        number = answers[column]
        assert found[text] == (number, "kept_unparsed_number" if number is None else None), text
    unread = sum(answers[column] is None for answers in NUMBERS.values())
    assert f"value, score, seq  {unread} with a number that cannot be read" in refusal(con, log, decimal=decimal)


def test_whole_numbers_stay_whole(con: ibis.BaseBackend) -> None:
    texts = ["1", "1.0", "-3", "1 000", "9223372036854775807", "1.5", "1e3", "9223372036854775808", "0x10"]
    rows = read(con, make_log(len(texts), seq=texts), repair="keep_unparsed_number")
    assert [row["seq"] for row in rows] == [1, 1, -3, 1000, 9223372036854775807, None, None, None, None]
    typed = pd.array([1.0, 2.5, None], dtype="Float64")
    rows = read(con, make_log(3, seq=typed), repair="keep_unparsed_number")
    assert [(row["seq"], row["_problem"]) for row in rows] == [(1, None), (None, "kept_unparsed_number"), (None, None)]


def test_numbers_of_other_types(con: ibis.BaseBackend) -> None:
    rows = read(con, make_log(3, value=[1.5, float("inf"), float("nan")]), repair="keep_unparsed_number")
    assert [(row["value"], row["_problem"]) for row in rows] == [
        (1.5, None),
        (None, "kept_unparsed_number"),
        (None, None),
    ]
    assert [row["value"] for row in read(con, make_log(value=pd.array([True, None], dtype="boolean")))] == [1.0, None]
    message = refusal(con, make_log(value=pd.to_datetime(["2026-01-01"] * 2)))
    assert message.startswith("value has type timestamp(6); expected numbers. If it means something else, rename it")
    rows = read(con, make_log(value=pd.to_datetime(["2026-01-01"] * 2)), columns={"their_value": "value"})
    assert "value" not in rows[0]
    with pytest.raises(jl.RuleError) as error:
        jl.read_events(make_log(), con=con, decimal=";")  # type: ignore[arg-type]
    assert str(error.value) == 'read_events: decimal must be "." or ",", found \';\''
    assert "  unread numbers look like 'value -', 'score n/a', 'value x'\n" in refusal(
        con, make_log(4, value=["-", "x", "-", "1"], score=["", None, "", "n/a"])
    )


# Problems.

GOOD = {"customer_id": "good", "event": "e", "timestamp": "1767261600", "value": "1"}
BAD: dict[str, list[dict[str, str | None]]] = {
    "null_customer": [{"customer_id": None}, {"customer_id": ""}, {"customer_id": "  "}],
    "damaged_id": [{"customer_id": "1.22E+17"}, {"customer_id": "1,2e+15"}, {"customer_id": "1E+20"}],
    "null_event": [{"event": None}, {"event": " "}],
    "null_timestamp": [{"timestamp": None}, {"timestamp": ""}],
    "unparsed_timestamp": [{"timestamp": "soon"}, {"timestamp": "2026-02-30"}],
    "epoch_zero": [{"timestamp": "1970-01-01"}, {"timestamp": "0"}, {"timestamp": "1970-12-31T23:59:59Z"}],
    "mixed_epoch": [{"timestamp": "1767261600000"}],
    "unparsed_number": [{"value": "n/a"}],
    "duplicate": [{}, {}],
}
FINE = ["1.22E-17", "E+5", "a+b", "12E+17", "1e5", "NA", "1.22E+", "+48 123 456 789"]


def make_bad_log() -> pd.DataFrame:
    rows: list[Mapping[str, str | None]] = [GOOD, *(GOOD | {"customer_id": name} for name in FINE)]
    rows += [GOOD | {"event": f"{code}{i}"} | bad for code, each in BAD.items() for i, bad in enumerate(each) if bad]
    rows += [GOOD] * len(BAD["duplicate"])
    return pd.DataFrame(rows)


N_GOOD = 1 + len(FINE)


def test_every_problem_is_refused_at_once(con: ibis.BaseBackend) -> None:
    assert list(BAD) == list(PROBLEMS)
    message = refusal(con, make_bad_log())
    assert message == (
        "the DataFrame failed 9 checks in 28 rows\n"
        "  customer_id        3 without a customer (10.7 %)                                    "
        "fill the ids in the source, or set these rows aside\n"
        "  customer_id        3 with an id that a spreadsheet has rounded (1.22E+17) (10.7 %)  "
        "export the ids again as text: their digits are lost here\n"
        "  event              2 without an event (7.1 %)                                       "
        "name the events in the source, or set these rows aside\n"
        "  timestamp          2 without a time (7.1 %)                                         "
        "fill the times in the source, or set these rows aside\n"
        "  timestamp          2 with a time that cannot be read (7.1 %)                        "
        'pass timestamp_format= (such as "%d.%m.%Y %H:%M")\n'
        "  timestamp          3 in 1970 (an epoch of zero, or a wrong unit) (10.7 %)           "
        "check the export, or pass epoch= with the unit\n"
        "  timestamp          1 with another epoch unit than most (3.6 %)                      "
        "pass epoch= with the unit if it is one after all\n"
        "  value, score, seq  1 with a number that cannot be read (3.6 %)                      "
        "pass decimal= with their decimal mark, or set these rows aside\n"
        "  all columns        2 that repeat an earlier row in every column (7.1 %)             "
        "keep one of each, or keep them all if they are real\n"
        "  unread times look like '2026-02-30', 'soon'\n"
        "  unread numbers look like 'value n/a'\n"
        'To set all these rows aside, counted in check_events: repair="all"\n'
        "To choose: repair=['drop_null_customer', 'drop_damaged_id', 'drop_null_event', 'drop_null_timestamp', "
        "'drop_unparsed_timestamp', 'drop_epoch_zero', 'drop_mixed_epoch', 'drop_unparsed_number', 'drop_duplicate']\n"
        "To let such rows count as they are: 'keep_damaged_id', 'keep_epoch_zero', 'keep_mixed_epoch', "
        "'keep_unparsed_number', 'keep_duplicate'"
    )
    assert n_tables(con) == 0


@pytest.mark.parametrize("left", [list(PROBLEMS)[::2], list(PROBLEMS)[1::2]])
def test_each_problem_has_a_repair_of_its_own(con: ibis.BaseBackend, left: list[str]) -> None:
    message = refusal(con, make_bad_log(), repair=[PROBLEMS[code].repair for code in PROBLEMS if code not in left])
    assert message.startswith(f"the DataFrame failed {len(left)} checks in 28 rows\n")
    for code, problem in PROBLEMS.items():
        assert (f"  {len(BAD[code])} {problem.what} (" in message) == (code in left)
        assert (repr(problem.repair) in message) == (code in left)


def test_all_keeps_a_row_whose_price_is_unreadable(con: ibis.BaseBackend) -> None:
    rows = read(con, make_log(2, value=["12,50", "3"]), repair="all")
    assert [(row["value"], row["_problem"]) for row in rows] == [(None, "kept_unparsed_number"), (3.0, None)]


def test_rows_that_are_dropped_stay_and_are_counted_and_are_no_steps(con: ibis.BaseBackend) -> None:
    events = jl.read_events(make_bad_log(), con=con, repair=["all", "drop_unparsed_number"])
    report = jl.check_events(events)
    assert (report.n_rows, report.n_used, report.n_set_aside) == (28, N_GOOD, 28 - N_GOOD)
    found = report.checks.set_index("check")
    assert {code: tuple(found.loc[code, ["n", "state"]]) for code in BAD} == {
        code: (len(each), "set aside") for code, each in BAD.items()
    }
    problems = [row["_problem"] for row in fetch(events)]
    assert {code: problems.count(code) for code in BAD} == {code: len(each) for code, each in BAD.items()}
    steps = fetch(jl.build_steps(events))
    assert sorted(row["customer_id"] for row in steps) == sorted(["good", *FINE])


def test_rows_that_are_kept_count(con: ibis.BaseBackend) -> None:
    kept = {code: str(problem.keep) for code, problem in PROBLEMS.items() if problem.keep}
    events = jl.read_events(make_bad_log(), con=con, repair=["all", *kept.values()])
    report = jl.check_events(events)
    found = report.checks.set_index("check")
    assert {code: tuple(found.loc[code, ["n", "state"]]) for code in BAD} == {
        code: (len(each), "kept" if code in kept else "set aside") for code, each in BAD.items()
    }
    assert report.n_used == N_GOOD + sum(len(BAD[code]) for code in kept)
    assert jl.build_steps(events).count().execute() == report.n_used


def test_a_row_is_counted_once_under_its_first_problem(con: ibis.BaseBackend) -> None:
    log = pd.DataFrame([GOOD, dict.fromkeys(GOOD, ""), {"customer_id": "1E+9", "event": "", "timestamp": "x"}])
    rows = read(con, log, repair="all")
    assert [row["_problem"] for row in rows] == [None, "null_customer", "damaged_id"]
    # What is kept does not hide what is not.
    rows = read(con, log, repair=["all", "keep_damaged_id"])
    assert [row["_problem"] for row in rows] == [None, "null_customer", "null_event"]
    message = refusal(con, log[1:], repair="all")
    assert message == "the DataFrame: none of 2 rows is left after drop_null_customer, drop_damaged_id"


@settings(max_examples=5)
@given(st.lists(st.sampled_from([(code, i) for code, each in BAD.items() for i in range(len(each))]), max_size=30))
def test_rows_reconcile(picked: list[tuple[str, int]]) -> None:
    con = jl.connect()
    rows = [GOOD, *(GOOD | {"event": f"good{i}"} for i in range(40))]
    rows += [
        GOOD | {"event": f"e{nr}"} | BAD[code][i] if code != "duplicate" else GOOD
        for nr, (code, i) in enumerate(picked)
    ]
    report = jl.check_events(jl.read_events(pd.DataFrame(rows), con=con, repair="all"))
    found = report.checks.set_index("check")["n"]
    assert {code: found[code] for code in PROBLEMS} == {
        code: sum(one == code for one, _ in picked) for code in PROBLEMS
    }
    assert report.n_rows == len(rows) == report.n_used + report.n_set_aside
    assert report.n_set_aside == len(picked)
    con.disconnect()


def test_unknown_and_contradicting_repairs(con: ibis.BaseBackend) -> None:
    with pytest.raises(jl.RuleError) as error:
        jl.read_events(make_log(), con=con, repair=["drop_duplicates"])
    message = str(error.value)
    assert message.startswith(
        'read_events: no repair "drop_duplicates". Did you mean "drop_duplicate"? Known: all, drop_'
    )
    assert all(problem.repair in message for problem in PROBLEMS.values())
    with pytest.raises(jl.RuleError, match=r"drop_duplicate and its keep_ cannot both be asked for"):
        jl.read_events(make_log(), con=con, repair=["drop_duplicate", "keep_duplicate"])


def test_duplicates_are_told_by_every_column(con: ibis.BaseBackend) -> None:
    log = make_log(
        6,
        event="e",
        value=["1", "1.0", "2", "1", None, None],
        text=["x", "x", "x", "y", "", ""],
        nested=[{"a": 1}] * 6,
    )
    rows = read(con, log, repair="drop_duplicate")
    # 1 and 1.0 are the same number; the last row repeats the one before.
    assert [row["_problem"] for row in rows] == [None, "duplicate", None, None, None, "duplicate"]


def test_a_refused_load_leaves_no_table_behind(con: ibis.BaseBackend, tmp_path: Path) -> None:
    log = pd.concat([make_bad_log()] * 2)
    log.to_csv(tmp_path / "x.csv", index=False)
    log.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    for name in ("a", "b"):
        log.to_parquet(tmp_path / f"{name}.parquet")
    parquet = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for data in (log, tmp_path / "x.csv", tmp_path / "x.jsonl", parquet, ibis.memtable(log)):
        refusal(con, data)
    refusal(con, tmp_path / "x.csv", timestamp="nothing")
    refusal(con, parquet, columns={"value": "event", "note": "nothing"})
    left = [name for (name,) in con.raw_sql("SELECT table_name FROM information_schema.tables").fetchall()]
    # What Ibis keeps of a memtable goes with the memtable.
    assert [name for name in left if "memtable" not in name] == []
    jl.read_events(log, con=con, repair="all")
    left = [name for (name,) in con.raw_sql("SELECT table_name FROM information_schema.tables").fetchall()]
    # The events, and the places of the duplicates among them.
    assert len([name for name in left if "memtable" not in name]) == 2


def test_list_sources() -> None:
    assert jl.list_sources()["source"].tolist() == [
        *("csv, tsv", "parquet", "json lines", "xlsx", "DataFrame", "Ibis table", "demo")
    ]
