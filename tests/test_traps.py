"""The eleven traps: what has gone wrong elsewhere must not here. Through the public functions, from log to answer."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ibis
import openpyxl
import pandas as pd
import pytest
from conftest import fetch

import journeylab as jl
from journeylab.recording import data_hash

_START = pd.Timestamp("2026-01-01 10:00")


def make_log(*events: tuple[str, str, float], **columns: list[Any]) -> pd.DataFrame:
    """A log from (customer, event, minutes after ten o'clock), with further columns."""
    times = [_START + pd.Timedelta(minutes=minutes) for _, _, minutes in events]
    base = {"customer_id": [e[0] for e in events], "event": [e[1] for e in events], "timestamp": times}
    return pd.DataFrame(base | columns)


LOG = (("a", "shop", 0), ("a", "cart", 1), ("a", "pay", 2), ("b", "shop", 0), ("b", "cart", 5))
TRANSITIONS = {
    (None, "shop"): 2,
    ("shop", "cart"): 2,
    ("cart", "pay"): 1,
    ("cart", None): 1,
    ("pay", None): 1,
}


def build(data: Any, con: ibis.BaseBackend, **options: Any) -> ibis.Table:
    return jl.build_steps(jl.read_events(data, con=con, **options))


def transitions(steps: ibis.Table, **options: Any) -> dict[tuple[Any, ...], int]:
    table = jl.count_transitions(steps, **options)
    keys = [name for name in table.columns if name not in ("n", "n_journeys", "share")]
    return {tuple(row[key] for key in keys): row["n"] for row in table.to_dict("records")}


def test_1_2_a_column_named_event_type_or_index_is_only_carried(con: ibis.BaseBackend) -> None:
    # As an order, as an end or as an id these values would change every answer.
    values = ["end", "start", "path_end", "5", "1"]
    names = (
        "event_type",
        "index",
        "level_0",
        "user_id",
        "time",
        "group",
        "order",
        "select",
        "path",
        "__index_level_0__",
    )
    log = make_log(*LOG, **dict.fromkeys(names, values))
    log.index = pd.Index([4, 3, 2, 1, 0], name="place")
    steps = build(log, con)
    assert transitions(steps) == TRANSITIONS
    carried = {(row["customer_id"], row["event"]): {row[name] for name in names} for row in fetch(steps)}
    assert carried == {(customer, event): {one} for (customer, event, _), one in zip(LOG, values, strict=True)}


@pytest.mark.parametrize("column", ["customer_id", "event", "timestamp"])
def test_3_4_nulls_are_refused_or_set_aside_and_never_an_end(con: ibis.BaseBackend, column: str) -> None:
    log = make_log(*LOG).astype({"timestamp": "str"})
    gaps = make_log(("a", "cart", 0.5), ("a", "cart", 9), ("b", "pay", 9)).astype({"timestamp": "str"})
    gaps[column] = pd.Series([None, "", "  "], dtype="str")
    log = pd.concat([log[:1], gaps, log[1:]], ignore_index=True)
    with pytest.raises(jl.SchemaError, match=rf"1 check in 8 rows\n  {column}  3 without"):
        jl.read_events(log, con=con)
    events = jl.read_events(log, con=con, repair=f"drop_null_{column.removesuffix('_id')}")
    assert events.count().execute() == 8
    assert transitions(jl.build_steps(events)) == TRANSITIONS
    report = jl.check_events(events)
    assert (report.n_rows, report.n_used, report.n_set_aside) == (8, 5, 3)


def test_5_null_sessions_do_not_merge_customers(con: ibis.BaseBackend) -> None:
    log = make_log(*LOG, ("b", "pay", 90), session_id=["s1", None, None, "s1", None, None])
    rows = fetch(build(log, con))
    sessions = {row["session_id"]: row["customer_id"] for row in rows}
    assert None not in sessions
    # a: s1, then without one; b: s1 of its own, then without one, twice for the pause between.
    assert sorted(sessions.values()) == ["a", "a", "b", "b", "b"]
    assert transitions(build(log[:5], con)) == TRANSITIONS


_SCRIPT = """
import json, sys, ibis
import pandas as pd
import journeylab as jl
answers = []
log = pd.DataFrame({
    "customer_id": ["a", "a", "b", "b", "c", "c"], "event": ["shop", "cart"] * 3,
    "timestamp": [
        "2026-03-29 00:30", "2026-03-29 03:30", "1774744200", "1774744200.25", "2026-03-29T02:30:00+02:00", "",
    ],
})
for con in (jl.connect(threads=2), ibis.duckdb.connect()):
    events = jl.read_events(log, con=con, repair="all", tz="Europe/Warsaw")
    report = jl.check_events(events)
    steps = jl.build_steps(events)
    rows = steps.order_by("customer_id", "position").select("customer_id", "event", "gap_s", "timestamp")
    answers.append([str(report), rows.execute().astype("str").values.tolist()])
    answers.append(jl.build_journeys(steps).order_by("journey_id").execute().astype("str").values.tolist())
    per_day = steps.group_by(day=steps.timestamp.date()).agg(n=steps.count()).order_by("day").execute()
    answers.append(per_day.astype("str").values.tolist())
zoned = log[:2].assign(timestamp=pd.to_datetime(log["timestamp"][:2], utc=True))
answers.append(jl.build_steps(jl.read_events(zoned)).execute().astype("str").values.tolist())
json.dump(answers, sys.stdout)
"""


def test_6_answers_do_not_depend_on_the_zone_of_the_machine() -> None:
    machines = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SCRIPT], stdout=subprocess.PIPE, env=os.environ | {"TZ": tz}
        )
        for tz in ("Asia/Tokyo", "America/New_York")
    ]
    tokyo, new_york = (json.loads(machine.communicate()[0]) for machine in machines)
    assert tokyo == new_york
    # The connections of the two kinds agree as well, and an instant is the one that Python names.
    assert tokyo[:3] == tokyo[3:6]
    customer, event, _, instant = tokyo[0][1][0]
    assert (customer, event, instant[:19]) == ("a", "shop", "2026-03-28 23:30:00")


def test_7_float_epochs_and_changing_units_never_become_1970(con: ibis.BaseBackend) -> None:
    seconds = make_log(*LOG)["timestamp"].astype("int64") // 10**6
    log = make_log(*LOG)
    for times in (seconds + 0.25, seconds.astype("str") + ".25"):
        steps = build(log.assign(timestamp=times), con)
        assert transitions(steps) == TRANSITIONS
        assert steps.timestamp.min().execute() == _START + pd.Timedelta(milliseconds=250)
    changed = log.assign(timestamp=[float(one) * (1000 if i == 4 else 1) for i, one in enumerate(seconds)])
    with pytest.raises(jl.SchemaError, match="1 with another epoch unit than most"):
        jl.read_events(changed, con=con)
    assert transitions(build(changed, con, repair="keep_mixed_epoch")) == TRANSITIONS
    zero = log.assign(timestamp=[*seconds[:4], 0])
    with pytest.raises(jl.SchemaError, match=r"1 in 1970 \(an epoch of zero, or a wrong unit\)"):
        jl.read_events(zero, con=con)


def test_8_never_is_not_at_once(con: ibis.BaseBackend) -> None:
    rules = jl.JourneyRules(goal="pay")
    log = make_log(*LOG, ("c", "shop", 0), ("c", "pay", 0), seq=[0] * 6 + [1])
    steps = jl.build_steps(jl.read_events(log, con=con), rules)
    gaps = {(row["customer_id"], row["event"]): row["gap_s"] for row in fetch(steps)}
    assert gaps == {
        ("a", "shop"): None,
        ("a", "cart"): 60.0,
        ("a", "pay"): 60.0,
        ("b", "shop"): None,
        ("b", "cart"): 300.0,
        ("c", "shop"): None,
        ("c", "pay"): 0.0,
    }
    journeys = {row["customer_id"]: row for row in fetch(jl.build_journeys(steps, rules))}
    assert [journeys[name]["reached_goal"] for name in "abc"] == [True, False, True]
    assert [journeys[name]["goal_time"] for name in "abc"] == [_START + pd.Timedelta(minutes=2), None, _START]
    never = jl.build_funnel(steps, jl.FunnelRules(["cart", "shop"])).table
    assert never["n"].tolist() == [2, 0]
    assert all(math.isnan(one) for one in never["median_time_s"])
    # Of those who get there a took two minutes and c no time at all.
    funnel = jl.build_funnel(steps, jl.FunnelRules(["shop", "pay"])).table
    assert funnel["n"].tolist() == [3, 2]
    assert math.isnan(funnel["median_time_s"][0])
    assert funnel["median_time_s"][1] == 60.0


def test_9_the_data_hash_sees_order(con: ibis.BaseBackend) -> None:
    log = make_log(("a", "shop", 0), ("a", "cart", 0), ("b", "shop", 1), ("b", "cart", 2))
    swapped = log.iloc[[1, 0, 2, 3]]
    other_rows_order = log.iloc[[2, 3, 0, 1]]
    hashes = [data_hash(build(one, con)) for one in (log, swapped, other_rows_order)]
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2]
    later = log.assign(timestamp=log["timestamp"] + pd.Timedelta(microseconds=1))
    assert data_hash(build(later, con)) != hashes[0]


def test_10_groups_that_change_in_mid_journey_invent_no_transitions(con: ibis.BaseBackend) -> None:
    log = make_log(*LOG, channel=["web", "app", "web", "app", None])
    steps = build(log, con)
    split = transitions(steps, by="channel")
    assert split == {
        ("web", None, "shop"): 1,
        ("app", None, "shop"): 1,
        ("web", "shop", "cart"): 1,
        ("app", "shop", "cart"): 1,
        ("app", "cart", "pay"): 1,
        ("(none)", "cart", None): 1,
        ("web", "pay", None): 1,
    }
    total: Counter[tuple[Any, ...]] = Counter()
    for (_, *move), n in split.items():
        total[tuple(move)] += n
    assert total == TRANSITIONS


def test_11_exact_duplicates_are_no_loops(con: ibis.BaseBackend) -> None:
    log = make_log(*LOG, LOG[1], LOG[1], value=[1.0, 2.0, None, None, None, 2.0, 3.0])
    with pytest.raises(jl.SchemaError, match=r"\n  all columns  1 that repeat an earlier row in every column"):
        jl.read_events(log, con=con)
    # The third cart has another value: a real event.
    kept = TRANSITIONS | {("cart", "cart"): 1}
    assert transitions(build(log, con, repair="drop_duplicate")) == kept
    assert transitions(build(log, con, repair="keep_duplicate")) == kept | {("cart", "cart"): 2}


# Odd inputs that must give the right answer.

ODD_IDS = ("NA", "007", "7", "9223372036854775807", "null", "-", "1e5", "a/b", "я", "=1+1")
ODD_EVENTS = ("<script>alert(1)</script>", "$x_1$", "Корзина", "None", "end", "(start)", "a,b;c", "🛒", "0", "NaN")


def write_sheet(path: Path, log: pd.DataFrame) -> None:
    book = openpyxl.Workbook()
    for row in (log.columns, *log.to_numpy()):
        book.active.append(list(row))
    for row in book.active.iter_rows():
        for cell in row:
            # Not a formula.
            cell.data_type = "s"
    book.save(path)


def test_odd_ids_and_events_come_through(con: ibis.BaseBackend, tmp_path: Path) -> None:
    log = pd.DataFrame(
        [(customer, event, f"2026-01-01 10:{i:02}") for customer in ODD_IDS for i, event in enumerate(ODD_EVENTS)],
        columns=["customer_id", "event", "timestamp"],
    )
    log.to_csv(tmp_path / "x.csv", index=False)
    log.to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    log.to_parquet(tmp_path / "x.parquet")
    log.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    write_sheet(tmp_path / "x.xlsx", log)
    for data in (log, *sorted(tmp_path.iterdir())):
        steps = build(data, con)
        variants = jl.count_variants(steps)
        assert variants["variant"].tolist() == [ODD_EVENTS], data
        assert variants["n_customers"].tolist() == [len(ODD_IDS)]
        assert set(fetch(steps.select("customer_id").distinct())[0]) == {"customer_id"}
        assert {row["customer_id"] for row in fetch(steps.select("customer_id").distinct())} == set(ODD_IDS)


def test_one_customer_with_200_000_events(con: ibis.BaseBackend, tmp_path: Path) -> None:
    n = 200_000
    path = tmp_path / "x.csv"
    lines = (f"c,{'abc'[i % 3]},{1_767_261_600 + i}" for i in range(n))
    path.write_text("customer_id,event,timestamp\n" + "\n".join(lines), encoding="utf-8")
    events = jl.read_events(path, con=con)
    steps = jl.build_steps(events)
    report = jl.check_events(events)
    assert (report.n_used, report.n_customers, report.n_event_names) == (n, 1, 3)
    assert transitions(steps) == {
        (None, "a"): 1,
        ("a", "b"): 66_667,
        ("b", "c"): 66_666,
        ("c", "a"): 66_666,
        ("b", None): 1,
    }
    (journey,) = fetch(jl.build_journeys(steps))
    assert (journey["n_steps"], journey["duration_s"]) == (n, n - 1)


def test_2_000_event_names(con: ibis.BaseBackend) -> None:
    n = 2_000
    names = [f"e{i}" for i in range(n)]
    log = pd.DataFrame(
        {"customer_id": ["a", "b"] * n, "event": names + names, "timestamp": range(10**9, 10**9 + 2 * n)}
    )
    events = jl.read_events(log, con=con)
    steps = jl.build_steps(events)
    assert len(jl.check_events(events).events) == n
    expected = Counter({(None, "e0"): 1, (None, "e1"): 1, ("e1998", None): 1, ("e1999", None): 1})
    for i in range(2 * n - 2):
        expected[names[i % n], names[(i + 2) % n]] += 1
    assert transitions(steps) == expected
