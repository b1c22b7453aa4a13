"""Where it hurts: counted at the touchpoint where it arose, and the planted pain point on top."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import ENDS, START, drop_tables, examples, fetch, make_steps, random_logs, random_rules
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.feedback.attach import attach_feedback
from journeylab.feedback.pain import count_pain_points, describe_pain
from journeylab.feedback.scales import harmonise_scores

Row = dict[str, Any]
Place = tuple[str, str, str]


def count_by_hand(
    rows: list[Row], journeys: list[Row], pain: str, spoken: list[Row], circle: int | None
) -> dict[Place, dict[str, Any]]:
    """Plain Python: who was hit where, who was there, and what became of the journeys."""
    fate = {row["journey_id"]: row for row in journeys}
    tracks: dict[str, list[Row]] = {}
    for row in rows:
        if row["journey_id"] in fate and row["step"] <= fate[row["journey_id"]]["n_steps"]:
            tracks.setdefault(row["journey_id"], []).append(row)
    low = Counter((row["customer_id"], row["about_position"]) for row in spoken if row["score_feeling"] < -0.2)
    hits: dict[Place, list[tuple[str, str, str]]] = {}
    passed: dict[Place, set[tuple[str, str]]] = {}
    for journey, track in tracks.items():
        touchpoint: Row | None = None
        track = sorted(track, key=lambda row: row["step"])
        for i, row in enumerate(track):
            is_plain = row["event"] != pain and row["score"] is None
            touchpoint = row if is_plain else touchpoint
            at = touchpoint or row
            place = (
                touchpoint["event"] if touchpoint else "(none)",
                at["stage"] or "(none)",
                at["channel"] or "(none)",
            )
            who = (row["customer_id"], journey)
            if is_plain:
                passed.setdefault(place, set()).add(who)
            kinds = [row["event"]] if row["event"] == pain else []
            n_low = low[row["customer_id"], row["position"]]
            kinds += ["low rating"] * n_low
            if (
                circle
                and is_plain
                and i + 1 >= circle
                and {one["event"] for one in track[i + 1 - circle : i + 1]} == {row["event"]}
            ):
                kinds.append("circle")
            hits.setdefault(place, []).extend((*who, kind) for kind in kinds)
    found = {}
    for place, each in hits.items():
        if not each:
            continue
        hurt = {journey for _customer, journey, _kind in each}
        closed = [journey for _customer, journey in passed.get(place, set()) if not fate[journey]["is_open"]]
        found[place] = {
            "n_customers": len({customer for customer, _journey, _kind in each}),
            "n_hits": len(each),
            "n_passed": len({customer for customer, _journey in passed.get(place, set())}),
            "kinds": {kind for *_who, kind in each},
            "n_closed": sum(journey in hurt for journey in closed),
            "n_closed_other": sum(journey not in hurt for journey in closed),
            "n_lost": sum(journey in hurt and not fate[journey]["reached_goal"] for journey in closed),
        }
    return found


@examples(6)
@given(
    rows=random_logs(columns=("journey_id", "stage"), always=("channel",)),
    rules=random_rules(),
    end=ENDS,
    circle=st.sampled_from((None, 2)),
    scores=st.lists(st.integers(0, 10), min_size=7, max_size=7),
)
def test_pain_points_against_plain_python(
    con: ibis.BaseBackend,
    rows: list[Row],
    rules: jl.JourneyRules,
    end: datetime | None,
    circle: int | None,
    scores: list[int],
) -> None:
    for i, row in enumerate(rows):
        row["score"] = float(scores[i % 7]) if row["event"] == "d" else None
    rows.append({**rows[0], "event": "b", "score": None})
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=end)
    attached = harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])
    spoken = [row for row in fetch(attached) if row["about_position"] is not None]
    expected = count_by_hand(fetch(steps), fetch(journeys), "b", spoken, circle)
    found = count_pain_points(steps, journeys, pain="b", attached=attached, circle=circle, min_group=1)
    assert {(row.touchpoint, row.stage, row.channel) for row in found.itertuples()} == set(expected)
    has_goal = any(row["reached_goal"] for row in fetch(journeys))
    for row in found.to_dict("records"):
        own = expected[row["touchpoint"], row["stage"], row["channel"]]
        assert {name: row[name] for name in ("n_customers", "n_hits", "n_closed", "n_closed_other")} == {
            name: own[name] for name in ("n_customers", "n_hits", "n_closed", "n_closed_other")
        }
        assert set(row["kinds"].split(", ")) == own["kinds"]
        assert row["n_passed"] == own["n_passed"]
        if has_goal and own["n_closed"]:
            assert row["share_lost"] == pytest.approx(own["n_lost"] / own["n_closed"])
    drop_tables(con)


@pytest.fixture(scope="module")
def demo() -> tuple[ibis.Table, ibis.Table, ibis.Table]:
    rules = jl.JourneyRules.load("ecommerce")
    steps = jl.build_steps(jl.read_events("demo", con=jl.connect()), rules)
    journeys = jl.build_journeys(steps, rules)
    return steps, journeys, harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])


@pytest.mark.parametrize("with_answers", [True, False])
def test_the_planted_pain_point_is_on_top(demo: tuple[ibis.Table, ibis.Table, ibis.Table], with_answers: bool) -> None:
    """In the app, 42 of 100 payments fail; on the web 6 do."""
    steps, journeys, attached = demo
    points = count_pain_points(
        steps, journeys, pain=("complaint", "payment_error"), attached=attached if with_answers else None
    )
    top = points.iloc[0]
    assert (top["rank"], top["touchpoint"], top["stage"], top["channel"]) == (1, "payment", "checkout", "app")
    assert top["weight"] > 3 * points["weight"].iloc[1]
    # By hand: customers who paid in the app, and those of them for whom it failed or who complained next.
    rows = steps.execute().sort_values(["customer_id", "position"])
    paid = rows[(rows["event"] == "payment") & (rows["channel"] == "app")]
    failed = rows[(rows["event"] == "payment_error") & (rows["channel"] == "app")]
    assert top["n_passed"] == paid["customer_id"].nunique()
    assert top["n_customers"] >= failed["customer_id"].nunique()
    low, high = proportion_confint(top["n_customers"], top["n_passed"], method="wilson")
    assert (top["hit_low"], top["hit_high"]) == pytest.approx((low, high))
    assert top["hit_low"] < 0.42 < top["hit_high"] + 0.05
    web = points[(points["touchpoint"] == "payment") & (points["channel"] == "web")].iloc[0]
    assert web["hit_high"] < top["hit_low"]
    assert describe_pain(points).startswith("It hurts most at payment in app (payment_error, complaint")


def test_severity_is_the_mean_of_what_is_known(demo: tuple[ibis.Table, ibis.Table, ibis.Table]) -> None:
    steps, journeys, attached = demo
    points = count_pain_points(steps, journeys, pain=("complaint", "payment_error"), attached=attached)
    for row in points.to_dict("records"):
        known = []
        if min(row["n_closed"], row["n_closed_other"]) >= 10:
            known.append(max(row["share_lost"] - row["share_lost_other"], 0))
        if row["n_felt"] >= 10:
            known.append(max(-row["feeling"], 0))
        severity = sum(known) / len(known) if known else float("nan")
        assert row["severity"] == pytest.approx(severity, nan_ok=True)
        assert row["weight"] == pytest.approx(row["n_customers"] * severity * row["value_at_stake"], nan_ok=True)
    ranked = points[points["rank"].notna()]
    assert (ranked["n_customers"] >= 10).all()
    assert (points.loc[points["rank"].isna(), "n_customers"] < 10).all()
    assert ranked["weight"].dropna().is_monotonic_decreasing


def test_value_at_stake_is_that_of_journeys_that_came_from_there_to_the_goal(
    demo: tuple[ibis.Table, ibis.Table, ibis.Table],
) -> None:
    steps, journeys, attached = demo
    hurts = ("complaint", "payment_error")
    points = count_pain_points(steps, journeys, pain=hurts, attached=attached)
    worth: dict[tuple[str, str, str], dict[str, float]] = {}
    kept = {row["journey_id"]: row for row in journeys.execute().to_dict("records")}
    for row in steps.execute().to_dict("records"):
        journey = kept[row["journey_id"]]
        is_answer = not (pd.isna(row["score"]) and pd.isna(row["text"]))
        if row["event"] in hurts or is_answer or journey["is_open"] or not journey["reached_goal"]:
            continue
        if not pd.isna(journey["value"]):
            place = (row["event"], row["stage"], row["channel"])
            worth.setdefault(place, {})[row["journey_id"]] = journey["value"]
    for row in points[~points["is_small"]].to_dict("records"):
        values = worth.get((row["touchpoint"], row["stage"], row["channel"]), {})
        if len(values) >= 10:
            assert row["value_at_stake"] == pytest.approx(sum(values.values()) / len(values))
    assert points["value_at_stake"].notna().all()
    without = count_pain_points(steps, journeys.mutate(value=ibis.null("float64")), pain=hurts, attached=attached)
    assert without["value_at_stake"].isna().all()
    top = without.iloc[0]
    assert top["weight"] == pytest.approx(top["n_customers"] * top["severity"])


def test_a_complaint_before_anything_else_has_no_touchpoint(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": who, "event": "complaint", "timestamp": START, "channel": "call", "score": None}
        for who in "abc"
    ]
    steps = make_steps(rows, con=con)
    points = count_pain_points(steps, jl.build_journeys(steps), pain="complaint", min_group=1)
    row = points.iloc[0]
    assert (row["touchpoint"], row["channel"], row["n_customers"], row["n_passed"]) == ("(none)", "call", 3, 0)
    assert pd.isna(row["share_hit"])
    assert pd.isna(row["severity"])
    assert describe_pain(points) == "It hurts most before complaint in call: 3 customers."


def test_small_groups_are_not_named(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": who, "event": "complaint", "timestamp": START, "score": None} for who in "abc"]
    steps = make_steps(rows, con=con)
    points = count_pain_points(steps, jl.build_journeys(steps), pain="complaint")
    assert points["is_small"].tolist() == [True]
    assert points["rank"].isna().all()
    assert describe_pain(points) == "No touchpoint has hurt enough customers to be shown."


def test_arguments_are_checked(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six)
    with pytest.raises(RuleError, match="say what hurts"):
        count_pain_points(six, journeys)
    with pytest.raises(RuleError, match=r'no event "hepl" in this log\. Did you mean "help"'):
        count_pain_points(six, journeys, pain="hepl")
    with pytest.raises(RuleError, match="circle must be at least 2"):
        count_pain_points(six, journeys, circle=1)
    assert count_pain_points(six, journeys, circle=5).empty
