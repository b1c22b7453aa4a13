"""An answer speaks of the step before it, and it is said how it was attached, or why not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import ENDS, SESSION_GAP, START, drop_tables, examples, fetch, make_steps, random_logs, random_rules
from hypothesis import given
from hypothesis import strategies as st

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.feedback.attach import attach_feedback, count_attached, describe_attached
from journeylab.feedback.feelings import measure_feeling
from journeylab.feedback.scales import harmonise_scores

Row = dict[str, Any]
WITHIN = {"10m": timedelta(minutes=10), "30m": SESSION_GAP, "3h": timedelta(hours=3)}

RULES = jl.JourneyRules(stages=("look", "pay"), stage_of={"shop": "look", "pay": "pay"}, journey_gap="30D")


def test_an_answer_speaks_of_the_step_before(con: ibis.BaseBackend) -> None:
    day = datetime(2026, 1, 1)
    rows = [
        ("anna", "shop", 0, None, None),
        ("anna", "pay", 1, None, None),
        ("anna", "survey", 3, 9, None),  # of pay
        ("anna", "complaint", 4, None, "Broken."),  # of pay too: an answer is no step to speak of
        ("bert", "survey", 0, 2, None),  # nothing before
        ("cleo", "shop", 0, None, None),
        ("cleo", "survey", 20, 5, None),  # too long after
    ]
    log = [
        {
            "customer_id": who,
            "event": event,
            "timestamp": day + timedelta(days=at),
            "channel": "web",
            "score": score,
            "text": text,
        }
        for who, event, at, score, text in rows
    ]
    steps = make_steps(log, RULES, con=con)
    attached = attach_feedback(None, steps, jl.build_journeys(steps, RULES))
    found = attached.order_by("customer_id", "timestamp").execute()
    columns = ["customer_id", "event", "attached", "about_event", "about_stage", "about_channel", "wait_s"]
    shown = found[columns].astype(object).where(found[columns].notna(), None).to_numpy().tolist()
    assert shown == [
        ["anna", "survey", "same journey", "pay", "pay", "web", 172_800.0],
        ["anna", "complaint", "same journey", "pay", "pay", "web", 259_200.0],
        ["bert", "survey", "nothing before", None, None, None, None],
        ["cleo", "survey", "too long before", None, None, None, None],
    ]
    counted = count_attached(attached)
    assert counted[["attached", "is_attached", "n"]].to_numpy().tolist() == [
        ["same journey", True, 2],
        ["nothing before", False, 1],
        ["too long before", False, 1],
    ]
    assert describe_attached(counted) == "2 of 4 answers (50.0 %) speak of a step in the customer's journey."


def speaks_of(answer: Row, steps: list[Row], seen: dict[str, int], within: timedelta) -> tuple[str, Row | None]:
    """Plain Python: how an answer is attached, and to which step."""
    if answer["customer_id"] is None:
        return "no customer", None
    if answer["timestamp"] is None:
        return "no time", None
    own = [step for step in steps if step["customer_id"] == answer["customer_id"]]
    if not own:
        return "unknown customer", None
    plain = [s for s in own if s["score"] is None and s["step"] <= seen.get(s["journey_id"], 0)]
    if "position" in answer:
        before = [step for step in plain if step["position"] < answer["position"]]
    else:
        before = [step for step in plain if step["timestamp"] <= answer["timestamp"]]
    about = answer.get("about")
    if about is not None:
        before = [step for step in before if step["event"] == about]
    near = [step for step in before if answer["timestamp"] - step["timestamp"] <= within]
    same = [
        step for step in near if answer.get("journey_id") is not None and step["journey_id"] == answer["journey_id"]
    ]
    if near:
        step = max(same or near, key=lambda step: step["position"])
        return "named event" if about is not None else "same journey" if same else "step before", step
    return "too long before" if before else "event not found" if about is not None else "nothing before", None


def check(found: list[Row], expected: list[tuple[str, Row | None]]) -> None:
    for row, (how, step) in zip(found, expected, strict=True):
        assert row["attached"] == how
        for name, own in (
            ("journey_id", "journey_id"),
            ("about_event", "event"),
            ("about_stage", "stage"),
            ("about_position", "position"),
        ):
            assert row[name] == (None if step is None else step[own])
        if step is not None:
            assert row["wait_s"] == pytest.approx((row["timestamp"] - step["timestamp"]).total_seconds())


@examples(6)
@given(
    rows=random_logs(columns=("channel", "journey_id", "seq", "stage")),
    rules=random_rules(),
    end=ENDS,
    within=st.sampled_from(tuple(WITHIN)),
)
def test_answers_of_the_log_against_plain_python(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, end: datetime | None, within: str
) -> None:
    for row in rows:
        row["score"] = 5.0 if row["event"] == "d" else None
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=end)
    seen = {row["journey_id"]: row["n_steps"] for row in fetch(journeys)}
    every = fetch(steps)
    answers = [row for row in every if row["score"] is not None]
    found = fetch(attach_feedback(None, steps, journeys, within=within))
    check(found, [speaks_of(answer, every, seen, WITHIN[within]) for answer in answers])
    drop_tables(con)


_ANSWERS = st.lists(
    st.fixed_dictionaries(
        {
            "customer_id": st.sampled_from(("k", "k/1", "0012", "я", "nobody", None)),
            "timestamp": st.sampled_from((None, *(START + timedelta(minutes=at) for at in (0, 10, 45, 200, 900)))),
            "journey_id": st.sampled_from((None, "1", "x")),
            "about": st.sampled_from((None, None, "a", "zzz")),
        }
    ),
    min_size=1,
    max_size=8,
)


@examples(6)
@given(
    rows=random_logs(columns=("journey_id",), always=("journey_id",)),
    answers=_ANSWERS,
    within=st.sampled_from(tuple(WITHIN)),
)
def test_answers_of_a_survey_against_plain_python(
    con: ibis.BaseBackend, rows: list[Row], answers: list[Row], within: str
) -> None:
    for row in rows:
        row["score"] = None
    steps = make_steps(rows, con=con)
    journeys = jl.build_journeys(steps)
    seen = {row["journey_id"]: row["n_steps"] for row in fetch(journeys)}
    # Steps name a journey after its customer; the survey names it as the log does.
    named = {(row["customer_id"], row["journey_id"].partition("/")[2]): row["journey_id"] for row in fetch(steps)}
    expected = [
        speaks_of(
            {**answer, "journey_id": named.get((answer["customer_id"], answer["journey_id"]))},
            fetch(steps),
            seen,
            WITHIN[within],
        )
        for answer in answers
    ]
    frame = pd.DataFrame([{**answer, "line": i} for i, answer in enumerate(answers)])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"])
    found = sorted(fetch(attach_feedback(frame, steps, journeys, within=within)), key=lambda row: row["line"])
    check(found, expected)
    assert sorted(row["answer_id"] for row in found) == [*range(1, len(answers) + 1)]
    drop_tables(con)


def test_the_journey_that_goes_on_comes_first(con: ibis.BaseBackend) -> None:
    """Two cases of one customer run side by side: an answer in one does not speak of the other's last step."""
    at = [START + timedelta(minutes=i) for i in range(4)]
    rows = [
        {"customer_id": "k", "journey_id": "one", "event": "shop", "timestamp": at[0], "score": None},
        {"customer_id": "k", "journey_id": "two", "event": "pay", "timestamp": at[1], "score": None},
        {"customer_id": "k", "journey_id": "one", "event": "survey", "timestamp": at[2], "score": 3.0},
    ]
    steps = make_steps(rows, RULES, con=con)
    found = fetch(attach_feedback(None, steps, jl.build_journeys(steps, RULES)))
    assert [(row["attached"], row["about_event"], row["journey_id"]) for row in found] == [
        ("same journey", "shop", "k/one")
    ]
    survey = pd.DataFrame({"customer_id": ["k", "k"], "timestamp": [at[3]] * 2, "journey_id": ["one", None]})
    found = fetch(attach_feedback(survey, steps, jl.build_journeys(steps, RULES)))
    assert {(row["attached"], row["about_event"]) for row in found} == {
        ("same journey", "shop"),
        ("step before", "pay"),
    }


def test_arguments_are_checked(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six)
    with pytest.raises(RuleError, match=r'no column "timestamp".*Did you mean "timestam"'):
        attach_feedback(pd.DataFrame({"customer_id": ["anna"], "timestam": ["2026-01-01"]}), six, journeys)
    with pytest.raises(RuleError, match="have about_stage already"):
        attach_feedback(
            pd.DataFrame({"customer_id": ["anna"], "timestamp": ["2026-01-01"], "about_stage": ["x"]}), six, journeys
        )
    with pytest.raises(RuleError, match="timestamp of the answers is int64"):
        attach_feedback(pd.DataFrame({"customer_id": ["anna"], "timestamp": [20260101]}), six, journeys)
    with pytest.raises(RuleError, match="within"):
        attach_feedback(pd.DataFrame({"customer_id": ["anna"], "timestamp": ["2026-01-01"]}), six, journeys, within="7")


def test_times_with_a_zone_and_as_text(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six)
    zoned = pd.DataFrame({"customer_id": ["anna"], "timestamp": pd.to_datetime(["2026-01-01 12:20+02:00"])})
    text = pd.DataFrame({"customer_id": ["anna"], "timestamp": ["2026-01-01 10:20"]})
    for answers in (zoned, text):
        row = attach_feedback(answers, six, journeys).execute().iloc[0]
        assert (row["about_event"], row["wait_s"]) == ("pay", 300)


@pytest.fixture(scope="module")
def demo() -> ibis.Table:
    rules = jl.JourneyRules.load("ecommerce")
    steps = jl.build_steps(jl.read_events("demo", con=jl.connect()), rules)
    return harmonise_scores(attach_feedback(None, steps, jl.build_journeys(steps, rules)), scales=["0-10"])


def test_the_demo_feels_bad_where_paying_fails(demo: ibis.Table) -> None:
    felt = measure_feeling(demo, min_n=10).set_index("about_stage")
    assert felt["feeling"].idxmin() == "checkout"
    assert felt.loc["checkout", "high"] < 0 < felt.loc["purchase", "low"]
    places = measure_feeling(demo, by=("about_event", "about_channel"), min_n=10)
    worst = places[places["about_event"] == "payment_error"].set_index("about_channel")
    assert worst.loc["app", "high"] < 0
    rows = demo.execute()
    for stage, row in felt.iterrows():
        own = rows[(rows["about_stage"] == stage) & rows["score"].notna()]
        assert (row["n"], row["n_customers"]) == (len(own), own["customer_id"].nunique())
        assert row["feeling"] == pytest.approx((own["score"] / 5 - 1).mean())


def test_ratings_come_before_words(demo: ibis.Table) -> None:
    rows = demo.execute().assign(feeling=0.5)
    rows = rows[rows["about_stage"] == "checkout"]
    found = measure_feeling(rows).iloc[0]
    rated = rows["score"].notna()
    assert (found["n"], found["n_rated"]) == (len(rows), rated.sum())
    assert 0 < rated.sum() < len(rows)
    assert found["feeling"] == pytest.approx((rows["score"] / 5 - 1).fillna(0.5).mean())
    with pytest.raises(RuleError, match=r"none of the columns score_feeling, feeling; make them"):
        measure_feeling(rows.drop(columns=["score_feeling", "feeling"]))
