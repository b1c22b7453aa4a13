"""Steps and journeys against a loop over each customer's events."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import (
    ENDS,
    SECONDS,
    SIX_RULES,
    START,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    is_goal,
    last_instant,
    make_events,
    make_steps,
    order_key,
    random_logs,
    random_rules,
    stage_by_hand,
)
from hypothesis import given
from hypothesis import strategies as st

import journeylab as jl
from journeylab.errors import SchemaError

MADE = ("position", "rank", "step", "gap_s", "next_event", "stage")


def steps_by_hand(rows: list[Row], rules: jl.JourneyRules) -> dict[int, Row]:
    """What `build_steps` promises, by the number of each row; journey and session as keys instead of names."""
    answers: dict[int, Row] = {}
    for history in group_rows(rows, "customer_id").values():
        ordered = sorted(history, key=lambda row: (order_key(row), row["nr"]))
        rank = 0
        for i, row in enumerate(ordered):
            rank += i == 0 or order_key(ordered[i - 1]) != order_key(row)
            # Events are strings; "" would be none.
            stage = stage_by_hand(row["event"], rules) or row.get("stage")
            answers[row["nr"]] = {"position": i + 1, "rank": rank, "stage": stage}
        tracks: dict[str | None, list[Row]] = {}
        for row in ordered:
            tracks.setdefault(row.get("journey_id"), []).append(row)
        for given_id, track in tracks.items():
            cut_track(given_id, track, rules, answers)
    return answers


def cut_track(given_id: str | None, track: list[Row], rules: jl.JourneyRules, answers: dict[int, Row]) -> None:
    """Cut one customer's events of one given journey (or of none) at pauses, goals and given sessions."""
    journey, session, before = 0, 0, None
    for row in track:
        answer = answers[row["nr"]]
        gap = None if before is None else row["timestamp"] - before["timestamp"]
        begins = before is None
        if before is not None and given_id is None:
            begins = rules.journey_gap is not None and gap > timedelta(seconds=SECONDS[rules.journey_gap])
            was_goal = is_goal({**before, "stage": answers[before["nr"]]["stage"]}, rules)
            begins = begins or (rules.end_after_goal and was_goal)
        pauses = begins or gap > timedelta(seconds=SECONDS[rules.session_gap])
        if before is not None and (row.get("session_id") is None) != (before.get("session_id") is None):
            pauses = True
        journey, session = journey + begins, session + pauses
        customer = row["customer_id"]
        own = ("given", given_id) if given_id is not None else journey
        answer["journey"] = (customer, own)
        given_session = row.get("session_id")
        answer["session"] = (customer, "given", given_session) if given_session else (customer, given_id, session)
        answer["step"] = 1 if begins else answers[before["nr"]]["step"] + 1
        answer["gap_s"] = None if begins else gap / timedelta(seconds=1)
        answer["next_event"] = None
        if not begins:
            answers[before["nr"]]["next_event"] = row["event"]
        before = row


def assert_same_parts(names: dict[int, str], keys: dict[int, object]) -> None:
    """One name for each key and one key for each name, over all customers."""
    pairs = {(names[nr], keys[nr]) for nr in keys}
    assert len(pairs) == len(set(names.values())) == len(set(keys.values()))


@examples(20)
@given(rows=random_logs(), rules=random_rules())
def test_steps_are_those_of_a_loop(con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules) -> None:
    # The number is carried through, so that each answer finds its row; it is not an order that the package knows.
    rows = [{**row, "nr": i} for i, row in enumerate(rows)]
    steps = make_steps([{**row, "nr": str(row["nr"])} for row in rows], rules, con=con)
    found = {int(row["nr"]): row for row in fetch(steps)}
    expected = steps_by_hand(rows, rules)
    assert len(found) == len(rows) == len(expected)
    for nr, answer in expected.items():
        assert {name: found[nr][name] for name in MADE} == {name: answer[name] for name in MADE}
        kept = {name: rows[nr][name] for name in rows[nr] if name not in ("nr", "journey_id", "session_id", "stage")}
        assert {name: found[nr][name] for name in kept} == kept
    for column, key in (("journey_id", "journey"), ("session_id", "session")):
        names = {nr: row[column] for nr, row in found.items()}
        assert_same_parts(names, {nr: answer[key] for nr, answer in expected.items()})
    drop_tables(con)


def journeys_by_hand(steps: list[Row], rules: jl.JourneyRules, as_of: datetime) -> dict[str, Row]:
    answers = {}
    for journey, rows in group_rows(steps, "journey_id").items():
        seen = sorted((row for row in rows if row["timestamp"] <= as_of), key=lambda row: row["step"])
        if not seen:
            continue
        goals = [row["timestamp"] for row in seen if is_goal(row, rules)]
        stages = [row["stage"] for row in seen if row["stage"] is not None]
        values = [row["value"] for row in seen if row.get("value") is not None]
        start, end = seen[0]["timestamp"], seen[-1]["timestamp"]
        quiet = rules.dormant_after or rules.journey_gap
        is_quiet = quiet is not None and as_of - end > timedelta(seconds=SECONDS[quiet])
        answers[journey] = {
            "journey_id": journey,
            "customer_id": seen[0]["customer_id"],
            "start_time": start,
            "end_time": end,
            "n_steps": len(seen),
            "n_sessions": len({row["session_id"] for row in seen}),
            "n_channels": len({row.get("channel") for row in seen} - {None}),
            "duration_s": (end - start) / timedelta(seconds=1),
            "first_channel": seen[0].get("channel"),
            "last_stage": stages[-1] if stages else None,
            "reached_goal": bool(goals),
            "goal_time": goals[0] if goals else None,
            "is_open": not is_quiet and not (rules.end_after_goal and goals),
            "value": sum(values) if values else None,
        }
    return answers


@examples(15)
@given(rows=random_logs(), rules=random_rules(), as_of=ENDS)
def test_journeys_are_those_of_a_loop(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, as_of: datetime | None
) -> None:
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    found = {row["journey_id"]: row for row in fetch(journeys)}
    assert found == journeys_by_hand(fetch(steps), rules, as_of or last_instant(rows))
    drop_tables(con)


@examples(10)
@given(rows=random_logs(columns=()), rules=random_rules(), as_of=ENDS)
def test_an_open_journey_can_go_on_and_a_closed_one_cannot(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, as_of: datetime | None
) -> None:
    """The sense of is_open: one more event of each customer, just after `as_of`, joins just the open journeys."""
    end = as_of or last_instant(rows)
    seen = [row for row in rows if row["timestamp"] <= end]
    if not seen:
        return
    rules = replace(rules, dormant_after=None)
    journeys = fetch(jl.build_journeys(make_steps(seen, rules, con=con), rules, as_of=end))
    later = [{"customer_id": customer, "event": "d", "timestamp": end} for customer in group_rows(seen, "customer_id")]
    longer = make_steps([*seen, *({**row, "event": "later"} for row in later)], rules, con=con)
    joined = {row["journey_id"] for row in fetch(longer) if row["event"] == "later" and row["step"] > 1}
    assert joined == {row["journey_id"] for row in journeys if row["is_open"]}
    drop_tables(con)


@examples(8)
@given(rows=random_logs(columns=("seq", "channel")), rules=random_rules(), chance=st.randoms(use_true_random=False))
def test_row_order_does_not_matter_where_the_log_has_an_order(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, chance: Random
) -> None:
    rows = [{**row, "event_id": f"e{i}"} for i, row in enumerate(rows)]
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert fetch(make_steps(rows, rules, con=con)) == fetch(make_steps(shuffled, rules, con=con))
    drop_tables(con)


@examples(8)
@given(rows=random_logs(), rules=random_rules(), chance=st.randoms(use_true_random=False))
def test_a_table_without_places_is_ordered_by_its_content(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, chance: Random
) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    once = jl.build_steps(make_events(rows, con, has_place=False), rules)
    again = jl.build_steps(make_events(shuffled, con, has_place=False), rules)
    assert fetch(once) == fetch(again)
    drop_tables(con)


def test_an_ibis_table_is_read_without_places(con: ibis.BaseBackend) -> None:
    log = {
        "customer_id": ["k"] * 4,
        "event": ["b", "a", "a", "c"],
        "timestamp": [START] * 4,
        "plan": ["x", "z", "y", "x"],
    }
    orders = ([0, 1, 2, 3], [3, 1, 0, 2])
    found = []
    for order in orders:
        table = pa.table({name: [column[i] for i in order] for name, column in log.items()})
        events = jl.read_events(con.create_table(ibis.util.gen_name("log"), table), con=con)
        assert "_row" not in events.columns
        found.append([(row["event"], row["plan"], row["rank"]) for row in fetch(jl.build_steps(events))])
    assert found == [[("a", "y", 1), ("a", "z", 1), ("b", "x", 1), ("c", "x", 1)]] * 2


@examples(8)
@given(rows=random_logs(columns=("channel",)), rules=random_rules())
def test_the_place_in_the_file_breaks_what_ties_are_left(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules
) -> None:
    steps = make_steps([{**row, "nr": f"{i:03}"} for i, row in enumerate(rows)], rules, con=con)
    for history in group_rows(fetch(steps), "customer_id").values():
        keys = [(row["timestamp"], row["nr"]) for row in history]
        assert keys == sorted(keys)
        for one, two in pairwise(history):
            assert (two["rank"] == one["rank"]) == (two["timestamp"] == one["timestamp"])
    drop_tables(con)


def test_six_customers_by_hand(six: ibis.Table) -> None:
    rows = fetch(six)
    found = {
        journey: " ".join(f"{row['event']}:{row['stage']}" for row in part)
        for journey, part in group_rows(rows, "journey_id").items()
    }
    assert found == {
        "anna/1": "shop:look cart:basket pay:bought",
        "bert/1": "shop:look shop:look cart:basket",
        "cleo/1": "ad:None shop:look pay:bought",
        "dora/1": "shop:look",
        "dora/2": "shop:look cart:basket pay:bought",
        "emil/1": "shop:look cart:basket",
        "fred/1": "cart:basket shop:look",
        "fred/2": "help:None",
    }
    sessions = {
        journey: [row["session_id"] for row in part] for journey, part in group_rows(rows, "journey_id").items()
    }
    assert sessions["bert/1"] == ["bert/1", "bert/1", "bert/2"]
    assert sessions["cleo/1"] == ["cleo/1", "cleo/2", "cleo/3"]
    assert sessions["dora/2"] == ["dora/2"] * 3
    bert = [row for row in rows if row["customer_id"] == "bert"]
    assert [row["gap_s"] for row in bert] == [None, 1800.0, 1860.0]
    assert [row["next_event"] for row in bert] == ["shop", "cart", None]
    dora = [row for row in rows if row["customer_id"] == "dora"]
    assert [(row["position"], row["step"]) for row in dora] == [(1, 1), (2, 1), (3, 2), (4, 3)]


def test_journeys_of_six_customers_by_hand(six: ibis.Table) -> None:
    found = {row["journey_id"]: row for row in fetch(jl.build_journeys(six, SIX_RULES))}
    assert found["anna/1"] == {
        "journey_id": "anna/1",
        "customer_id": "anna",
        "start_time": datetime(2026, 1, 1, 10, 0),
        "end_time": datetime(2026, 1, 1, 10, 15),
        "n_steps": 3,
        "n_sessions": 1,
        "n_channels": 1,
        "duration_s": 900.0,
        "first_channel": "web",
        "last_stage": "bought",
        "reached_goal": True,
        "goal_time": datetime(2026, 1, 1, 10, 15),
        "is_open": False,
        "value": 20.0,
    }
    assert {name for name, row in found.items() if row["is_open"]} == {"dora/2", "emil/1", "fred/2"}
    assert {name for name, row in found.items() if row["reached_goal"]} == {"anna/1", "cleo/1", "dora/2"}
    assert found["emil/1"]["first_channel"] is None
    assert found["emil/1"]["n_channels"] == 0
    assert found["fred/2"]["last_stage"] is None
    # Seen on New Year's Day at ten, nobody has been silent for long and anna has just come.
    early = {row["journey_id"]: row for row in fetch(jl.build_journeys(six, SIX_RULES, as_of="2026-01-01 10:00"))}
    assert sorted(early) == ["anna/1", "bert/1", "cleo/1", "fred/1"]
    assert all(row["is_open"] for row in early.values())
    assert early["bert/1"]["n_steps"] == 2


def test_journey_ends_after_its_goal() -> None:
    rules = jl.JourneyRules(goal="buy", end_after_goal=True, journey_gap="1D")
    rows = [
        {"customer_id": "k", "event": event, "timestamp": START + timedelta(minutes=i)}
        for i, event in enumerate(["see", "buy", "buy", "see"])
    ]
    steps = make_steps(rows, rules)
    assert [(row["journey_id"], row["next_event"]) for row in fetch(steps)] == [
        ("k/1", "buy"),
        ("k/1", None),
        ("k/2", None),
        ("k/3", None),
    ]
    journeys = fetch(jl.build_journeys(steps, rules).order_by("journey_id"))
    assert [(row["reached_goal"], row["is_open"]) for row in journeys] == [(True, False), (True, False), (False, True)]


def test_a_journey_is_over_once_its_silence_is_longer_than_the_limit(six: ibis.Table) -> None:
    def open_ones(as_of: datetime, rules: jl.JourneyRules) -> set[str]:
        return {row["journey_id"] for row in fetch(jl.build_journeys(six, rules, as_of=as_of)) if row["is_open"]}

    month = datetime(2026, 1, 1, 10, 15) + timedelta(days=30)
    assert "anna/1" in open_ones(month, SIX_RULES)
    assert "anna/1" not in open_ones(month + timedelta(microseconds=1), SIX_RULES)
    week = datetime(2026, 1, 1, 10, 15) + timedelta(days=7)
    weekly = replace(SIX_RULES, dormant_after="7D")
    assert "anna/1" in open_ones(week, weekly)
    assert "anna/1" not in open_ones(week + timedelta(microseconds=1), weekly)


def test_given_journeys_overlap_and_sessions_stay_inside_them() -> None:
    times = [START + timedelta(minutes=i) for i in range(4)]
    rows = [
        {"customer_id": "k", "event": f"e{i}", "timestamp": times[i], "journey_id": journey}
        for i, journey in enumerate(["one", "two", "one", "two"])
    ]
    found = fetch(make_steps(rows))
    assert [(row["event"], row["next_event"], row["position"], row["step"]) for row in found] == [
        ("e0", "e2", 1, 1),
        ("e1", "e3", 2, 1),
        ("e2", None, 3, 2),
        ("e3", None, 4, 2),
    ]
    assert [row["gap_s"] for row in found] == [None, None, 120.0, 120.0]
    assert [row["journey_id"] for row in found] == ["k/one", "k/two"] * 2
    assert [row["session_id"] for row in found] == ["k/one/1", "k/two/1"] * 2


def test_null_sessions_never_merge_customers() -> None:
    rows = [
        {"customer_id": customer, "event": "a", "timestamp": START + timedelta(minutes=i), "session_id": session}
        for customer in ("k", "l")
        for i, session in enumerate([None, "s", None])
    ]
    found = group_rows(fetch(make_steps(rows)), "customer_id")
    names = [[row["session_id"] for row in part] for part in found.values()]
    assert [len(set(part)) for part in names] == [3, 3]
    assert not set(names[0]) & set(names[1])


def test_ids_are_text_to_the_last_digit() -> None:
    ids = ["NA", "0012", "9007199254740993", "$x_1$", "<script>alert(1)</script>", "Łódź", "Вход"]
    rows = [{"customer_id": name, "event": name, "timestamp": START} for name in ids]
    assert sorted(row["customer_id"] for row in fetch(make_steps(rows))) == sorted(ids)


def test_steps_are_stored_under_a_name(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": "a", "timestamp": START}]
    for _ in range(2):
        jl.build_steps(make_events(rows, con), name="steps")
    assert con.table("steps").count().execute() == 1


def test_types_are_those_of_the_docstrings(six: ibis.Table) -> None:
    found = dict(six.schema().items())
    kinds = {"journey_id": "string", "session_id": "string", "stage": "string", "next_event": "string"}
    kinds |= {"position": "int64", "rank": "int64", "step": "int64", "gap_s": "float64", "timestamp": "timestamp(6)"}
    assert {name: str(found[name]) for name in kinds} == kinds
    row = {"customer_id": "k", "event": "a", "timestamp": START}
    for log in ([row], [{**row, "channel": "web", "value": 1.0}]):
        journeys = jl.build_journeys(make_steps(log))
        assert {name: str(kind) for name, kind in journeys.schema().items()} == {
            **dict.fromkeys(("journey_id", "customer_id"), "string"),
            **dict.fromkeys(("start_time", "end_time"), "timestamp(6)"),
            **dict.fromkeys(("n_steps", "n_sessions", "n_channels"), "int64"),
            "duration_s": "float64",
            **dict.fromkeys(("first_channel", "last_stage"), "string"),
            "reached_goal": "boolean",
            "goal_time": "timestamp(6)",
            "is_open": "boolean",
            "value": "float64",
        }


def test_rows_with_a_problem_are_left_out(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": event, "timestamp": START} for event in ("a", "b", "c")]
    events = make_events(rows, con)
    problem = ibis.cases((events.event == "a", "duplicate"), (events.event == "b", "kept_duplicate"), else_=None)
    steps = jl.build_steps(events.mutate(_problem=problem))
    assert [(row["event"], row["position"]) for row in fetch(steps)] == [("b", 1), ("c", 2)]


def test_events_must_have_been_read(con: ibis.BaseBackend) -> None:
    raw = ibis.memtable({"customer_id": ["k"], "event": ["a"], "timestamp": [START]})
    with pytest.raises(SchemaError) as caught:
        jl.build_steps(raw)
    expected = "these events have no load record (_problem); pass the table through read_events first"
    assert str(caught.value) == expected


def test_no_steps_have_no_end(con: ibis.BaseBackend) -> None:
    events = make_events([{"customer_id": "k", "event": "a", "timestamp": START}], con)
    steps = jl.build_steps(events.mutate(_problem=ibis.literal("null_event")))
    with pytest.raises(SchemaError) as caught:
        jl.build_journeys(steps)
    assert str(caught.value) == "there are no steps; see check_events(events)"
    assert fetch(jl.build_journeys(steps, as_of="2026-01-01")) == []


def test_threads_do_not_change_the_answer(tmp_path: Path) -> None:
    """More rows than one thread takes at once, few customers, few instants: only the place in the file orders them."""
    n, random = 250_000, np.random.default_rng(7)
    log = {
        "customer_id": pa.array([f"k{i}" for i in random.integers(0, 50, n)]),
        "event": pa.array(np.array(list("abcd"))[random.integers(0, 4, n)]),
        "timestamp": pa.array(np.datetime64(START, "us") + random.integers(0, 300, n).astype("timedelta64[D]")),
        "nr": pa.array(range(n)),
    }
    pq.write_table(pa.table(log), tmp_path / "log.parquet", row_group_size=50_000)
    answers = []
    for threads in (1, 2):
        con = jl.connect(threads=threads)
        events = jl.read_events(tmp_path / "log.parquet", con=con)
        steps = jl.build_steps(events, jl.JourneyRules(journey_gap="1D", session_gap="30m"))
        answers.append(steps.order_by("customer_id", "position").to_pyarrow())
        con.disconnect()
    assert answers[0].equals(answers[1])
    assert answers[0].num_rows == n
