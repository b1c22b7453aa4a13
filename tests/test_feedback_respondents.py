"""Who answered, who did not, and what that does to the score."""

from __future__ import annotations

import os
from datetime import timedelta
from math import sqrt

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import START, make_steps
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.feedback.respondents import compare_respondents, describe_respondents, weigh_answers
from journeylab.feedback.scores import score_nps
from journeylab.resources import find_shipped

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
RULES = jl.JourneyRules.load("ecommerce")
Log = tuple[ibis.Table, ibis.Table]


@pytest.fixture(scope="module")
def demo() -> Log:
    steps = jl.build_steps(jl.read_events("demo", con=jl.connect()), RULES)
    return steps, jl.build_journeys(steps, RULES)


def test_against_plain_python(demo: Log) -> None:
    steps, journeys = demo
    members = pd.read_csv(find_shipped("data/demo") / "personas.csv", dtype=str)
    found = compare_respondents(steps, journeys, members=members)
    rows = steps.execute().sort_values(["customer_id", "position"])
    people = set(rows["customer_id"])
    answered = set(rows.loc[rows["score"].notna(), "customer_id"])
    plain = rows[rows["score"].isna() & rows["text"].isna()]
    reached = set(journeys.filter(journeys.reached_goal).customer_id.execute())
    first = plain.dropna(subset="channel").groupby("customer_id")["channel"].first()
    persona = members.set_index("customer_id")["persona"]
    groups = {("all", "customers"): people, ("goal", "reached"): reached, ("goal", "not reached"): people - reached}
    groups |= {("stage", stage): set(own["customer_id"]) for stage, own in plain.groupby("stage")}
    groups |= {
        ("channel", name): {who for who in people if first.get(who, "(none)") == name} for name in {*first, "(none)"}
    }
    groups |= {("persona", name): set(persona.index[persona == name]) & people for name in set(persona)}
    groups = {key: own for key, own in groups.items() if own}
    assert {(row.kind, row.value) for row in found.itertuples()} == set(groups)
    for row in found.to_dict("records"):
        own = groups[row["kind"], row["value"]]
        k = len(own & answered)
        assert (row["n"], row["n_answered"]) == (len(own), k)
        low, high = proportion_confint(k, len(own), method="wilson")
        assert (row["share_answered"], row["low"], row["high"]) == pytest.approx((k / len(own), low, high))
        p, q = k / len(answered), (len(own) - k) / len(people - answered)
        assert (row["share_of_answered"], row["share_of_silent"]) == pytest.approx((p, q))
        spread = sqrt((p * (1 - p) + q * (1 - q)) / 2)
        assert row["effect"] == pytest.approx((p - q) / spread if spread else float("nan"), nan_ok=True)
    said = describe_respondents(found)
    assert said.startswith(f"{len(answered)} of 1,500 customers answered (")
    assert "“goal: not reached” holds for" in said


def test_answers_from_elsewhere(demo: Log) -> None:
    steps, journeys = demo
    some = sorted(set(steps.customer_id.execute()))[:40]
    answers = pd.DataFrame({"customer_id": [*some, *some[:3], "nobody", None], "score": 5})
    found = compare_respondents(steps, journeys, answers)
    assert found.iloc[0][["n", "n_answered"]].tolist() == [1_500, 40]
    unknown = found[found["kind"] == "unknown"].iloc[0]
    assert unknown[["n", "n_answered"]].tolist() == [1, 1]
    assert unknown[["share_answered", "low", "effect"]].isna().all()


def test_weights_make_those_who_answered_like_all(demo: Log) -> None:
    steps, journeys = demo
    for by in ("goal", ("goal", "channel")):
        weighed = weigh_answers(None, steps, journeys, by=by).execute()
        people = weighed.drop_duplicates("customer_id")
        assert people["weight"].mean() == pytest.approx(1)
        assert people.groupby("cell").size().min() >= 10
        assert len(weighed) == int(steps.score.count().execute())
    weighed = weigh_answers(None, steps, journeys, by="goal").execute().drop_duplicates("customer_id")
    all_ = compare_respondents(steps, journeys).query("kind == 'goal'").set_index("value")["n"]
    share = weighed.groupby("cell")["weight"].sum() / weighed["weight"].sum()
    assert share.to_dict() == pytest.approx((all_ / all_.sum()).to_dict())


def test_weights_mend_what_goes_with_the_goal() -> None:
    """Buyers are happy and answer; others are not and seldom do. The weighted score covers the truth, the plain not."""
    rng = np.random.default_rng(0)
    n_runs, n = (60 if FULL else 4), 700
    plain_holds, weighed_holds = [], []
    for _run in range(n_runs):
        bought = rng.random(n) < 0.4
        happy = np.where(
            bought, rng.choice([9, 7, 3], n, p=[0.7, 0.2, 0.1]), rng.choice([9, 7, 3], n, p=[0.1, 0.2, 0.7])
        )
        answers = rng.random(n) < np.where(bought, 0.4, 0.08)
        rows = []
        for i in range(n):
            rows.append(
                {
                    "customer_id": f"k{i}",
                    "event": "purchase" if bought[i] else "home",
                    "timestamp": START,
                    "score": None,
                }
            )
            if answers[i]:
                later = START + timedelta(days=1)
                rows.append(
                    {"customer_id": f"k{i}", "event": "survey_answer", "timestamp": later, "score": float(happy[i])}
                )
        con = jl.connect()
        steps = make_steps(rows, RULES, con=con)
        journeys = jl.build_journeys(steps, RULES)
        truth = 100 * (0.4 * 0.6 + 0.6 * -0.6)
        plain = score_nps(steps).iloc[0]
        weighed = score_nps(weigh_answers(None, steps, journeys, by="goal"), weight="weight").iloc[0]
        plain_holds.append(plain["low"] <= truth <= plain["high"])
        weighed_holds.append(weighed["low"] <= truth <= weighed["high"])
        con.disconnect()
    assert sum(plain_holds) == 0
    assert sum(weighed_holds) >= n_runs - (8 if FULL else 1)


def test_sentence_tells_both_scores(demo: Log) -> None:
    steps, journeys = demo
    plain, weighed = score_nps(steps), score_nps(weigh_answers(None, steps, journeys), weight="weight")
    said = describe_respondents(compare_respondents(steps, journeys), plain, weighed)
    assert f"rather than {plain['nps'].iloc[0]:+.0f}." in said
    assert weighed["nps"].iloc[0] < plain["nps"].iloc[0] - 10


def test_arguments_are_checked(six: ibis.Table, demo: Log) -> None:
    journeys = jl.build_journeys(six)
    with pytest.raises(RuleError, match="no column score; give the answers"):
        compare_respondents(six, journeys)
    with pytest.raises(RuleError, match='no column "persona"'):
        compare_respondents(
            six,
            journeys,
            pd.DataFrame({"customer_id": ["anna"]}),
            members=pd.DataFrame({"customer_id": ["anna"], "x": ["y"]}),
        )
    with pytest.raises(RuleError, match=r'by must be of goal, channel; found "chanel"\. Did you mean "channel"'):
        weigh_answers(None, *demo, by="chanel")
    with pytest.raises(RuleError, match="Give members= for personas"):
        weigh_answers(None, *demo, by="persona")
    few = pd.DataFrame({"customer_id": ["anna"], "score": [5]})
    with pytest.raises(RuleError, match="1 customers answered, fewer than min_cell=10"):
        weigh_answers(few, six, journeys)
