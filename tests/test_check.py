"""`check_events`: every figure against a plain count."""

from __future__ import annotations

import csv
import re
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import pandas as pd
import pytest

import journeylab as jl
from journeylab.language import use_language
from journeylab.resources import find_shipped
from journeylab.schema import PROBLEMS, TIMES

DEMO = find_shipped("data/demo")
COLUMNS = {"customer_id": "klient", "event": "zdarzenie", "timestamp": "czas"}
OURS = {"channel": "kanal", "value": "kwota", "score": "ocena", "text": "komentarz"}
WARSAW = ZoneInfo("Europe/Warsaw")

Row = dict[str, Any]


def read_time(text: str) -> tuple[datetime | None, str | None]:
    if re.fullmatch(r"\d{9,}", text):
        return datetime.fromtimestamp(int(text), UTC), "epoch_s"
    if text == "0":
        return datetime(1970, 1, 1, tzinfo=UTC), "epoch_s"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, None
    if moment.tzinfo is not None:
        return moment.astimezone(UTC), "utc_offset"
    first, second = (moment.replace(tzinfo=WARSAW, fold=fold).astimezone(UTC) for fold in (0, 1))
    return max(first, second), "local" if first == second else "local_gap" if first > second else "local_overlap"


def name_problem(row: Row) -> str | None:
    moment = row["moment"]
    checks = {
        "null_customer": not row["klient"].strip(),
        "damaged_id": re.fullmatch(r"\d([.,]\d+)?[eE]\+\d+", row["klient"]),
        "null_event": not row["zdarzenie"].strip(),
        "null_timestamp": not row["czas"].strip(),
        "unparsed_timestamp": moment is None,
        "epoch_zero": moment is not None and moment.year == 1970,
        "unparsed_number": any(
            row[name] and not re.fullmatch(r"-?\d+(\.\d+)?", row[name]) for name in ("kwota", "ocena")
        ),
    }
    return next((code for code, is_bad in checks.items() if is_bad), None)


def read_dirty() -> list[Row]:
    """The dirty log by the plain reader of Python, with the instant and the problem of each row."""
    with (DEMO / "events_dirty.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    seen = set()
    for row in rows:
        content = tuple(row.values())
        row["moment"], row["how"] = read_time(row["czas"])
        row["problem"] = name_problem(row)
        if row["problem"] is None:
            row["problem"] = "duplicate" if content in seen else None
            seen.add(content)
    return rows


@pytest.fixture(scope="module")
def dirty() -> ibis.Table:
    return jl.read_events(
        DEMO / "events_dirty.csv", **COLUMNS, columns=OURS, tz="Europe/Warsaw", repair="all", con=jl.connect()
    )


def test_every_figure_of_the_dirty_demo(dirty: ibis.Table) -> None:
    rules = jl.JourneyRules.load("ecommerce")
    report = jl.check_events(dirty, rules)
    rows = read_dirty()
    used = [row for row in rows if row["problem"] is None]
    assert report.n_rows == len(rows)
    assert report.n_used == len(used)
    assert report.n_set_aside == len(rows) - len(used)
    assert report.n_customers == len({row["klient"] for row in used})
    assert report.n_event_names == len({row["zdarzenie"] for row in used})
    for found, expected in (
        (report.start, min(r["moment"] for r in used)),
        (report.end, max(r["moment"] for r in used)),
    ):
        assert found == pd.Timestamp(expected).tz_localize(None)

    events = Counter(row["zdarzenie"] for row in used)
    customers = Counter(event for event, _ in {(row["zdarzenie"], row["klient"]) for row in used})
    assert report.events["event"].tolist() == sorted(events, key=lambda event: (-events[event], event))
    assert dict(zip(report.events["event"], report.events["n"], strict=True)) == events
    assert dict(zip(report.events["event"], report.events["n_customers"], strict=True)) == customers

    problems, times = Counter(row["problem"] for row in rows), Counter(row["how"] for row in used)
    checks = report.checks.set_index("check")
    assert {code: checks.loc[code, "n"] for code in PROBLEMS} == {code: problems[code] for code in PROBLEMS}
    assert {code: checks.loc[code, "state"] for code in PROBLEMS} == {
        code: "set aside" if problems[code] else "ok" for code in PROBLEMS
    }
    assert {how: checks.loc[how, "n"] for how in TIMES} == {how: times[how] for how in TIMES}
    assert checks["share"].tolist() == pytest.approx([n / len(rows) for n in checks["n"]])
    instants = Counter((row["klient"], row["moment"]) for row in used)
    assert checks.loc["tie", "n"] == sum(n for n in instants.values() if n > 1)
    stages = dict(zip(report.events["event"], report.events["stage"], strict=True))
    assert stages["cart"] in rules.stages
    assert checks.loc["unknown_event", "n"] == sum(n for event, n in events.items() if stages[event] is None) > 0

    columns = report.columns.set_index("column")
    for ours, theirs in (COLUMNS | OURS | {"urzadzenie": "urzadzenie"}).items():
        if ours != "timestamp":
            assert columns.loc[ours, "n_null"] == sum(not row[theirs] for row in rows), ours
    assert columns.loc["timestamp", "n_null"] == sum(row["moment"] is None for row in rows)
    assert columns["share_null"].tolist() == pytest.approx([n / len(rows) for n in columns["n_null"]])


def test_the_dirty_demo_has_what_its_truth_says(dirty: ibis.Table) -> None:
    truth = tomllib.loads((DEMO / "truth.toml").read_text(encoding="utf-8"))["dirty"]
    report = jl.check_events(dirty)
    found = report.checks.set_index("check")["n"]
    assert report.n_rows == truth["n_rows"]
    assert found["null_customer"] == truth["null_customer_ids"]
    assert found["null_event"] == truth["null_events"]
    assert found["null_timestamp"] == truth["null_timestamps"]
    assert found["unparsed_timestamp"] == truth["unparseable_timestamps"]
    assert found["epoch_zero"] == truth["timestamps_1970"]
    assert found["damaged_id"] == truth["damaged_id_rows"]
    # Copies of rows that are set aside for another reason are not counted twice.
    assert 0 < found["duplicate"] <= truth["exact_duplicates"]
    events = report.events.set_index("event")["n"]
    assert events["<script>alert(1)</script>"] == truth["script_events"]


def test_the_report_reads_well(dirty: ibis.Table) -> None:
    report = jl.check_events(dirty, jl.JourneyRules.load("ecommerce"))
    n_aside, n_rows = report.n_set_aside, report.n_rows
    lines = str(report).splitlines()
    assert lines[0] == report.headline
    assert report.headline == (
        f"{report.n_used:,} events of {report.n_customers} customers, {report.n_event_names} kinds, "
        f"2026-08-01 to 2026-10-31 UTC; {n_aside} of {n_rows:,} rows are set aside ({100 * n_aside / n_rows:.1f} %)."
    )
    # One line each for what was found, none for what was not, and all columns under each other.
    found = report.checks[report.checks["n"] > 0]
    n_with_nulls = (report.columns["n_null"] > 0).sum()
    assert len(lines) == 1 + len(found) + n_with_nulls
    for line, check in zip(lines[1:], found.itertuples(), strict=False):
        assert re.fullmatch(rf"  {check.state} +{check.n:,} +{100 * check.share:.1f} %  {check.check} +\S.*", line), (
            line
        )
    assert len({re.match(r" +[a-z ]+? +[\d,]+ +[\d.]+ %  ", line).end() for line in lines[1:]}) == 1  # type: ignore[union-attr]
    html = report._repr_html_()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert f"{report.n_used:,} events" in html


@pytest.mark.parametrize(
    ("lang", "head", "aside"), [("pl", "Zdarzenia: ", "odłożone"), ("ru", "Событий: ", "отложено")]
)
def test_other_languages_say_the_same_of_the_same_data(dirty: ibis.Table, lang: str, head: str, aside: str) -> None:
    plain = jl.check_events(dirty)
    with use_language(lang):
        report = jl.check_events(dirty)
        lines = str(report).splitlines()
    pd.testing.assert_frame_equal(report.checks.drop(columns="meaning"), plain.checks.drop(columns="meaning"))
    assert not set(report.checks["meaning"]) & set(plain.checks["meaning"])
    assert lines[0].startswith(head)
    assert sum(line.startswith(f"  {aside} ") for line in lines) == (plain.checks["state"] == "set aside").sum()
    assert len({line.index(" %") for line in lines[1:]}) == 1


def check(
    con: ibis.BaseBackend, log: pd.DataFrame, rules: jl.JourneyRules | None = None, **options: Any
) -> jl.LoadReport:
    return jl.check_events(jl.read_events(log, con=con, **options), rules)


def make_log(**columns: Any) -> pd.DataFrame:
    base = {"customer_id": ["a", "a", "a", "b", "b"], "event": list("xyzxy"), "timestamp": ["2026-01-01 10:00"] * 5}
    return pd.DataFrame(base | columns)


def test_ties_that_nothing_breaks(con: ibis.BaseBackend) -> None:
    def count(**columns: Any) -> tuple[int, str]:
        checks = check(con, make_log(**columns)).checks.set_index("check")
        return int(checks.loc["tie", "n"]), str(checks.loc["tie", "state"])

    assert count() == (5, "seen")
    assert count(timestamp=[f"2026-01-01 10:0{i}" for i in (0, 0, 1, 0, 1)]) == (2, "seen")
    assert count(seq=[1, 2, 3, 1, 2]) == (0, "ok")
    # No number is as good as any other, and numbers of two customers do not meet.
    assert count(seq=["1", "", "", "1", "1"]) == (4, "seen")
    assert count(event_id=["1", "2", "3", "1", "2"]) == (0, "ok")
    assert count(seq=[1, 1, 1, 1, 1], event_id=["1", "1", "3", "1", "2"]) == (2, "seen")


def test_columns_and_nulls(con: ibis.BaseBackend) -> None:
    log = make_log(value=["1", "", None, "2", "3"], mine=[None] * 5, ok=[1] * 5)
    report = check(con, log)
    assert report.columns.to_dict("list") == {
        "column": ["customer_id", "event", "timestamp", "value", "mine", "ok"],
        "type": ["string", "string", "timestamp(6)", "float64", "string", "int64"],
        "n_null": [0, 0, 0, 2, 5, 0],
        "share_null": [0, 0, 0, 0.4, 1, 0],
    }
    assert str(report).splitlines()[1:] == [
        "  assumed    5  100.0 %  naive  without a zone, read as UTC (pass tz= if the clock was another)",
        "  seen       5  100.0 %  tie    at the same instant as another of their customer, "
        "with neither seq nor event_id to order them",
        "  nulls      2   40.0 %  value  empty",
        "  nulls      5  100.0 %  mine   empty",
    ]
    assert report.headline == "5 events of 2 customers, 3 kinds, 2026-01-01 to 2026-01-01 UTC; every row counts."


def test_names_that_no_rule_knows(con: ibis.BaseBackend) -> None:
    def find(stage_of: dict[str, str]) -> tuple[Any, ...]:
        report = check(con, make_log(), jl.JourneyRules(stages=("s", "t"), stage_of=stage_of))
        assert report.events["stage"].isna().sum() == sum(name not in stage_of for name in "xyz")
        return tuple(report.checks.set_index("check").loc["unknown_event", ["n", "share", "state", "meaning"]])

    assert find({"x": "s"}) == (3, 0.6, "seen", "with a name that no rule gives a stage (2: y, z)")
    assert find(dict.fromkeys("xyz", "t")) == (0, 0.0, "ok", "with a name that no rule gives a stage")
    assert "unknown_event" not in check(con, make_log()).checks["check"].tolist()
    assert "unknown_event" not in check(con, make_log(), jl.JourneyRules()).checks["check"].tolist()


def test_kept_problems_are_counted_as_kept(con: ibis.BaseBackend) -> None:
    log = make_log(timestamp=["1970-01-01", *["2026-01-01"] * 4])
    report = check(con, log, repair="keep_epoch_zero")
    row = report.checks.set_index("check").loc["epoch_zero"]
    assert (row["n"], row["state"]) == (1, "kept")
    assert (report.n_used, report.n_set_aside, report.start) == (5, 0, pd.Timestamp("1970-01-01"))


def test_what_cannot_be_checked(con: ibis.BaseBackend) -> None:
    events = jl.read_events(make_log(), con=con)
    with pytest.raises(jl.SchemaError, match=r"^there are no events to check$"):
        jl.check_events(events.filter(events.event == "none"))
    gaps = jl.read_events(make_log(event=["", *"xyzx"]), con=con, repair="all")
    with pytest.raises(jl.SchemaError, match=r"^none of these 1 rows counts; their _problem says why$"):
        jl.check_events(gaps.filter(gaps["_problem"].notnull()))
    with pytest.raises(jl.SchemaError, match=r"^these events have no load record \(_problem\); pass the table through"):
        jl.check_events(events.drop("_problem"))


def test_a_report_of_parquet_and_of_csv_is_the_same(con: ibis.BaseBackend, tmp_path: Path) -> None:
    rows = [{**{name: row[name] or None for name in (*COLUMNS.values(), *OURS.values())}} for row in read_dirty()]
    log = pd.DataFrame(rows, dtype="str")
    log.to_csv(tmp_path / "x.csv", index=False)
    log.to_parquet(tmp_path / "x.parquet")
    options = COLUMNS | {"columns": OURS, "tz": "Europe/Warsaw", "repair": "all", "con": con}
    reports = [jl.check_events(jl.read_events(tmp_path / name, **options)) for name in ("x.csv", "x.parquet")]
    assert str(reports[0]) == str(reports[1])
    table = con.create_table("log", log)
    report = jl.check_events(jl.read_events(table, **options))
    assert str(report) == str(reports[0])
