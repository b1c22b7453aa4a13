"""What the map measures, against plain Python; what it shows, and what it hides."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
from datetime import datetime
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import (
    ENDS,
    SIX_RULES,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    make_events,
    make_steps,
    random_logs,
    random_rules,
    six_customers,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

import journeylab as jl
from journeylab.errors import ReportError, RuleError
from journeylab.feedback.attach import attach_feedback
from journeylab.feedback.feelings import measure_feeling
from journeylab.feedback.pain import count_pain_points
from journeylab.feedback.scales import harmonise_scores
from journeylab.journeymap import LANES, JourneyMap, build_map, load_map
from journeylab.journeymap.measure import (
    compare_ways,
    count_items,
    count_reach,
    measure_times,
    read_seen,
    read_visits,
)
from journeylab.journeymap.workshop import Workshop
from journeylab.resources import find_shipped

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
SHOP = jl.JourneyRules.load("ecommerce")
PAIN = ("payment_error", "complaint", "return_request")
OTHER = "(other)"


def watch(steps: ibis.Table, journeys: ibis.Table, stages: tuple[str, ...]) -> tuple[list[Row], dict[str, Row]]:
    """The steps that are seen, their stage null where it is none of these, and their journeys by id."""
    found = {row["journey_id"]: row for row in fetch(journeys)}
    rows = [row for row in fetch(steps) if row["journey_id"] in found]
    rows = [row for row in rows if row["step"] <= found[row["journey_id"]]["n_steps"]]
    return [{**row, "stage": row["stage"] if row["stage"] in stages else None} for row in rows], found


def visit_by_hand(rows: list[Row], journeys: dict[str, Row]) -> list[Row]:
    """One row per journey and stage."""
    waits: dict[tuple[str, int], int | None] = {}
    for journey, track in group_rows(rows, "journey_id").items():
        track = sorted(track, key=lambda row: row["step"])
        for row, after in zip(track, [*track[1:], None], strict=True):
            waits[journey, row["step"]] = after and round((after["timestamp"] - row["timestamp"]).total_seconds() * 1e6)
    visits = []
    for (journey, stage), there in group_rows([r for r in rows if r["stage"]], "journey_id", "stage").items():
        known, facts = [waits[journey, row["step"]] for row in there], journeys[journey]
        goal = facts["goal_time"]
        ways = [row["channel"] for row in sorted(there, key=lambda row: row["step"]) if row.get("channel")]
        ends_here = not facts["reached_goal"] and facts["last_stage"] == stage
        visits.append(
            {
                "journey_id": journey,
                "customer_id": facts["customer_id"],
                "stage": stage,
                "n_before_goal": sum(goal is None or row["timestamp"] < goal for row in there),
                "wait_us": sum(w for w in known if w is not None) if any(w is not None for w in known) else None,
                "is_lost": ends_here and not facts["is_open"],
                "is_here": ends_here and facts["is_open"],
                "way": ways[0] if ways else "(none)",
            }
        )
    return visits


@given(log=random_logs(), rules=random_rules(), as_of=ENDS)
@examples(10)
def test_visits_and_reach_match_a_loop(con: ibis.BaseBackend, log: list[Row], rules: Any, as_of: Any) -> None:
    drop_tables(con)
    steps = make_steps(log, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    way = "channel" if "channel" in log[0] else None
    rows, facts = watch(steps, journeys, rules.stages)
    seen = read_seen(steps, journeys, rules.stages)
    visits = read_visits(seen, journeys, way)
    expected = visit_by_hand(rows, facts)

    def by_key(each: list[Row]) -> list[Row]:
        return sorted(each, key=lambda row: (row["journey_id"], row["stage"]))

    assert by_key(fetch(visits)) == by_key(expected)
    reach = count_reach(visits).to_dict("records")
    assert reach == [reach_by_hand(stage, group) for stage, group in sorted(group_rows(expected, "stage").items())]
    ways = compare_ways(visits)[["stage", "way", "n", "n_customers", "n_lost"]].to_dict("records")
    known = [row for row in expected if not row["is_here"]]
    by_hand = [
        {"stage": stage, "way": name, "n": len(group)}
        | {"n_customers": count_people(group), "n_lost": sum(row["is_lost"] for row in group)}
        for (stage, name), group in group_rows(known, "stage", "way").items()
    ]
    assert ways == sorted(by_hand, key=lambda row: (row["stage"], -row["n"], row["way"]))
    times = measure_times(visits).set_index("stage")
    for stage, group in group_rows([row for row in expected if row["wait_us"] is not None], "stage").items():
        median = statistics.median(round_to_digits(row["wait_us"] / 1e6) for row in group)
        assert times.loc[stage, "median_s"] == pytest.approx(median, rel=1e-9)
        assert times.loc[stage, ["n", "n_customers"]].tolist() == [len(group), count_people(group)]


def reach_by_hand(stage: str, group: list[Row]) -> Row:
    known = [row for row in group if not row["is_here"]]
    return {
        "stage": stage,
        "n_customers": count_people(group),
        "n_journeys": len(group),
        "n_lost": sum(row["is_lost"] for row in group),
        "n_open": len(group) - len(known),
        "n_known_customers": count_people(known),
        "n_risked": sum(row["n_before_goal"] > 0 for row in known),
        "n_events": sum(row["n_before_goal"] for row in group) - (len(group) - len(known)),
        "n_known": len(known),
    }


def count_people(rows: list[Row]) -> int:
    return len({row["customer_id"] for row in rows})


def round_to_digits(seconds: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(max(seconds, 1.0))) - 2)
    return float(math.floor(seconds / unit + 0.5) * unit)


def fold_by_hand(rows: list[Row], names: tuple[str, ...], top: int, min_group: int) -> dict[str, dict[str, list[Row]]]:
    """Items of each stage, in any order."""
    folded = {}
    for stage, there in group_rows([row for row in rows if row["stage"]], "stage").items():
        items = group_rows(
            [{**row, "item": " · ".join(row[name] or "(none)" for name in names)} for row in there], "item"
        )
        order = sorted(items, key=lambda item: (-count_people(items[item]), item))
        kept = [item for item in order[:top] if count_people(items[item]) >= min_group]
        rest = [row for item in order if item not in kept for row in items[item]]
        everybody = count_people(there)
        if rest and count_people(rest) < min_group and kept and count_people(items[kept[-1]]) < everybody:
            rest += items[kept.pop()]
        folded[stage] = {item: items[item] for item in kept}
        if rest and count_people(rest) >= min_group:
            folded[stage][OTHER] = rest
    return {stage: items for stage, items in folded.items() if items}


@given(
    log=random_logs(always=("channel",)),
    rules=random_rules(),
    as_of=ENDS,
    top=st.integers(1, 3),
    min_group=st.integers(1, 4),
)
@examples(10)
def test_items_match_a_loop(
    con: ibis.BaseBackend, log: list[Row], rules: Any, as_of: Any, top: int, min_group: int
) -> None:
    drop_tables(con)
    log = [{"channel": None} | row for row in log]
    steps = make_steps(log, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    rows, _facts = watch(steps, journeys, rules.stages)
    seen = read_seen(steps, journeys, rules.stages)
    for names in (("event",), ("event", "channel")):
        table = count_items(seen, names, top=top, min_group=min_group)
        expected = fold_by_hand(rows, names, top, min_group)
        found = {(r["stage"], r["item"]): (r["n_customers"], r["n_events"]) for r in table.to_dict("records")}
        assert found == {
            (stage, item): (count_people(there), len(there))
            for stage, items in expected.items()
            for item, there in items.items()
        }
        for _stage, part in table.groupby("stage"):
            sizes = part.loc[part["item"] != OTHER, "n_customers"].tolist()
            assert sizes == sorted(sizes, reverse=True)
            assert OTHER not in part["item"].tolist()[:-1]
        assert (table["n_customers"] >= min_group).all()


@pytest.mark.parametrize(
    ("without_cart", "expected"),
    [
        # All fill the cart; that one of them has a coupon too is left out.
        (0, {"cart": 5}),
        # One has a coupon alone: beside "cart: 4 of 5" that could be told.
        (1, {OTHER: 5}),
        # Two may be shown.
        (2, {"cart": 3, "coupon": 2}),
    ],
)
def test_who_is_left_out_cannot_be_told_by_subtraction(
    con: ibis.BaseBackend, without_cart: int, expected: dict[str, int]
) -> None:
    rows = [("coupon", i) for i in range(max(without_cart, 1))] + [("cart", i) for i in range(without_cart, 5)]
    log = [{"customer_id": f"c{i}", "event": event, "timestamp": datetime(2026, 1, 1)} for event, i in rows]
    rules = jl.JourneyRules(stages=("basket",), stage_of={"c*": "basket"})
    steps = make_steps(log, rules, con=con)
    seen = read_seen(steps, jl.build_journeys(steps, rules), rules.stages)
    table = count_items(seen, ["event"], top=5, min_group=2)
    assert dict(zip(table["item"], table["n_customers"], strict=True)) == expected


def test_six_customers(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)
    journey_map = build_map(six, journeys, SIX_RULES, min_group=1)
    assert journey_map.stages == ("look", "basket", "bought")
    assert journey_map.lanes == tuple(LANES)

    def read(lane: str, stage: str) -> list[tuple[Any, ...]]:
        rows = journey_map.cell(lane, stage)
        return list(zip(rows["item"], rows["value"].round(4), rows["n"], strict=True))

    # All six look; all but cleo and none of fred's second journey have a basket; anna, cleo and dora buy.
    assert [read("reach", stage) for stage in journey_map.stages] == [
        [("", 1.0, 6.0)],
        [("", round(5 / 6, 4), 6.0)],
        [("", 0.5, 6.0)],
    ]
    assert read("steps", "basket") == [("cart", 1.0, 5.0)]
    assert read("channels", "basket") == [("app", 0.4, 5.0), ("web", 0.4, 5.0), ("(none)", 0.2, 5.0)]
    # Of seven journeys at look, dora's first and fred's first end there; of five at basket emil is still there.
    assert read("drop_off", "look") == [("", round(2 / 7, 4), 7.0)]
    assert read("drop_off", "basket") == [("", 0.25, 4.0)]
    assert read("drop_off", "bought") == [("", 0.0, 3.0)]
    # anna 5, bert 61, cleo 1440, dora 10 and emil 5 minutes; fred and dora's first are not seen to go on.
    assert read("time", "look") == [("", 600.0, 5.0)]
    assert journey_map.facts["n_without_stage"] == 2
    assert [journey_map.facts[name] for name in ("n_customers", "n_journeys", "n_open")] == [6, 8, 3]
    assert journey_map.facts["first"] == "2026-01-01T07:00:00"


def test_as_of_is_respected(six: ibis.Table) -> None:
    early = build_map(six, jl.build_journeys(six, SIX_RULES, as_of="2026-01-01 23:59"), SIX_RULES, min_group=1)
    rows = [row for row in six_customers() if row["timestamp"] < datetime(2026, 1, 2)]
    steps = make_steps(rows, SIX_RULES)
    cut = build_map(steps, jl.build_journeys(steps, SIX_RULES, as_of="2026-01-01 23:59"), SIX_RULES, min_group=1)
    assert early == cut


def test_stages_that_are_not_on_the_map_have_no_column() -> None:
    rules = jl.JourneyRules(stages=("look",), stage_of={"shop": "look"})
    rows = [{**row, "stage": "elsewhere" if row["event"] == "cart" else None} for row in six_customers()]
    steps = make_steps(rows, rules)
    journey_map = build_map(steps, jl.build_journeys(steps, rules), rules, min_group=1)
    assert set(journey_map.cells["stage"]) == {"look"}
    assert journey_map.facts["n_without_stage"] == sum(row["event"] != "shop" for row in six_customers())


def test_a_drop_off_of_two_is_not_shown(con: ibis.BaseBackend) -> None:
    """Twelve customers look; ten of them are still at it, and what became of the other two is theirs."""
    log = [
        {"customer_id": f"c{i}", "event": "shop", "timestamp": datetime(2026, 5 if i < 10 else 1, 1)} for i in range(12)
    ]
    steps = make_steps(log, SIX_RULES, con=con)
    journey_map = build_map(steps, jl.build_journeys(steps, SIX_RULES), SIX_RULES)
    assert journey_map.cell("reach", "look")["n"].tolist() == [12.0]
    assert journey_map.cell("drop_off", "look")["evidence"].tolist() == ["unknown"]


def test_without_a_goal_nobody_is_lost(six: ibis.Table) -> None:
    rules = jl.JourneyRules(stages=SIX_RULES.stages, stage_of=dict(SIX_RULES.stage_of))
    journey_map = build_map(six, jl.build_journeys(six, rules), rules, min_group=1)
    for lane in ("drop_off", "quick_wins"):
        assert set(journey_map.cells.loc[journey_map.cells["lane"] == lane, "evidence"]) == {"unknown"}
    assert journey_map.moments.empty


def test_without_channels(con: ibis.BaseBackend) -> None:
    rows = [{name: row[name] for name in ("customer_id", "event", "timestamp")} for row in six_customers()]
    steps = make_steps(rows, SIX_RULES, con=con)
    journey_map = build_map(steps, jl.build_journeys(steps, SIX_RULES), SIX_RULES, min_group=1)
    for lane in ("touchpoints", "channels", "quick_wins"):
        assert set(journey_map.cells.loc[journey_map.cells["lane"] == lane, "evidence"]) == {"unknown"}


def test_the_interval_of_a_median_covers() -> None:
    """Of samples of a known law, by ranks: at least 95 %, and not much more than the ranks allow."""
    from journeylab.journeymap.measure import _read_median

    rng = np.random.default_rng(5)
    for n in (8, 30, 101):
        draws = np.sort(rng.exponential(1.0, size=(10_000 if FULL else 1_500, n)), axis=1)
        bounds = [_read_median(row, np.ones(n, dtype=int)) for row in draws]
        covered = np.mean([each["low"] <= np.log(2) <= each["high"] for each in bounds])
        low = int(binom.ppf(0.025, n, 0.5))
        exact = binom.cdf(n - low, n, 0.5) - binom.cdf(low - 1, n, 0.5)
        assert exact >= 0.95
        assert covered == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / len(draws)))
    few = _read_median(np.array([1.0, 2.0]), np.array([2, 3]))
    assert few["median_s"] == 2.0
    assert math.isnan(few["low"])
    # The same counts in another form.
    assert _read_median(np.array([1.0, 2.0]), np.array([20, 20]))["median_s"] == 1.5


@pytest.fixture(scope="module")
def demo() -> tuple[ibis.Table, ibis.Table, ibis.Table]:
    steps = jl.build_steps(jl.read_events("demo"), SHOP)
    journeys = jl.build_journeys(steps, SHOP)
    return steps, journeys, harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])


@pytest.fixture(scope="module")
def shop_map(demo: tuple[ibis.Table, ibis.Table, ibis.Table]) -> JourneyMap:
    steps, journeys, answers = demo
    return build_map(steps, journeys, SHOP, attached=answers, pain=PAIN, title="Everybody")


def test_every_number_is_found_in_a_table_of_the_run(
    demo: tuple[ibis.Table, ibis.Table, ibis.Table], shop_map: JourneyMap
) -> None:
    steps, journeys, answers = demo
    cells = shop_map.cells[shop_map.cells["value"].notna()]
    feelings = measure_feeling(answers, min_n=10).set_index("about_stage")
    pains = count_pain_points(steps, journeys, pain=PAIN, attached=answers)
    felt = cells[cells["lane"] == "feeling"].set_index("stage")
    assert len(felt) == 4
    for name, column in (("value", "feeling"), ("low", "low"), ("high", "high"), ("n", "n_customers")):
        assert felt[name].tolist() == pytest.approx(feelings.loc[felt.index, column].tolist())
    hurt = cells[cells["lane"] == "pain_points"]
    for row in hurt.to_dict("records"):
        touchpoint, channel = row["item"].split(" · ")
        (fits,) = pains[(pains["touchpoint"] == touchpoint) & (pains["channel"] == channel)].to_dict("records")
        assert [row[name] for name in ("value", "low", "high", "n")] == pytest.approx(
            [fits[name] for name in ("share_hit", "hit_low", "hit_high", "n_passed")]
        )
    assert [row["touchpoint"] for row in shop_map.facts["worst"]] == pains["touchpoint"].head(5).tolist()
    # The customers of a stage are those of a funnel of this one step.
    for stage in shop_map.stages:
        n = steps.filter(steps.stage == stage).customer_id.nunique().execute()
        (row,) = shop_map.cell("reach", stage).to_dict("records")
        assert round(row["value"] * row["n"]) == n
        assert set(shop_map.cell("steps", stage)["n"]) == {float(n)}
    for stage in ("browse", "checkout"):
        (row,) = shop_map.cell("drop_off", stage).to_dict("records")
        lost = journeys.filter(~journeys.reached_goal & ~journeys.is_open & (journeys.last_stage == stage))
        assert round(row["value"] * row["n"]) == lost.count().execute()


def test_the_planted_dip_is_found(shop_map: JourneyMap) -> None:
    """Where payments fail and where complaints are dealt with, feelings turn; what would help is the way of the web."""
    win = shop_map.cell("quick_wins", "checkout")
    assert win[["item", "note"]].to_numpy().tolist() == [["app", "web"]]
    moments = shop_map.moments[shop_map.moments["is_moment"]]
    assert set(zip(moments["measure"], moments["stage"], strict=True)) == {
        ("feeling", "checkout"),
        ("feeling", "service"),
    }
    assert (moments["difference"] < -0.5).all()


@pytest.mark.parametrize("persona", ["decisive_buyer", "careful_comparer", "deal_hunter"])
def test_the_planted_pain_is_the_worst(demo: tuple[ibis.Table, ibis.Table, ibis.Table], persona: str) -> None:
    """Payments fail in the app, for all personas that pay there."""
    steps, journeys, answers = demo
    who = pd.read_csv(find_shipped("data/demo") / "personas.csv")
    chosen = journeys.filter(journeys.customer_id.isin(who.loc[who["persona"] == persona, "customer_id"].tolist()))
    journey_map = build_map(steps, chosen, SHOP, attached=answers, pain=PAIN, title=persona)
    worst = journey_map.facts["worst"][0]
    assert (worst["stage"], worst["touchpoint"], worst["channel"]) == ("checkout", "payment", "app")
    assert journey_map.cell("pain_points", "checkout")["item"].iloc[0] == "payment · app"


def test_the_same_map_twice_in_any_order_on_any_threads() -> None:
    rng = random.Random(3)
    rows = six_customers() * 1
    wanted = None
    for threads in (1, 2):
        rng.shuffle(rows)
        con = jl.connect(threads=threads)
        steps = jl.build_steps(make_events(rows, con), SIX_RULES)
        found = build_map(steps, jl.build_journeys(steps, SIX_RULES), SIX_RULES, min_group=1).to_json()
        wanted = wanted or found
        assert found == wanted
        con.disconnect()


def test_json_round_trip(shop_map: JourneyMap, tmp_path: Any) -> None:
    text = shop_map.to_json()
    again = load_map(text)
    assert again == shop_map
    assert hash(again) == hash(shop_map)
    assert again.facts == shop_map.facts
    assert again.to_json() == text
    assert "-0.0," not in text
    path = tmp_path / "map.json"
    path.write_text(text, encoding="utf-8")
    assert load_map(path) == load_map(str(path)) == shop_map
    pd.testing.assert_frame_equal(again.cells, shop_map.cells, rtol=1e-9, atol=1e-11)
    pd.testing.assert_frame_equal(again.moments, shop_map.moments, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 7}', "this text is a journey map of format 7; this version reads 1"),
        ('{"format": 1}', "this text is not a journey map: KeyError 'title'"),
        ("{", "this text is not a journey map: JSONDecodeError Expecting property name enclosed in double quotes: "),
        ("nowhere.json", "nowhere.json is not a journey map: FileNotFoundError "),
    ],
)
def test_what_is_not_a_map(text: str, message: str) -> None:
    with pytest.raises(ReportError) as error:
        load_map(text)
    assert str(error.value).startswith(message)


def test_nobody_can_be_recognised(demo: tuple[ibis.Table, ibis.Table, ibis.Table]) -> None:
    steps, journeys, answers = demo
    few = steps.select("customer_id").distinct().order_by("customer_id").limit(60)
    chosen = journeys.semi_join(few, "customer_id")
    rows, facts = watch(steps, chosen, SHOP.stages)
    visits = visit_by_hand(rows, facts)
    shown = 0
    for least in (5, 12):
        journey_map = build_map(steps, chosen, SHOP, attached=answers, pain=PAIN, min_group=least)
        cells = journey_map.cells[journey_map.cells["value"].notna()]
        for row in cells.to_dict("records"):
            there = [visit for visit in visits if visit["stage"] == row["stage"]]
            shown += 1
            if row["lane"] in ("steps", "touchpoints", "channels", "reach"):
                assert round(row["value"] * row["n"]) >= least
            elif row["lane"] == "drop_off":
                assert count_people([visit for visit in there if not visit["is_here"]]) >= least
            elif row["lane"] == "time":
                assert count_people([visit for visit in there if visit["wait_us"] is not None]) >= least
            elif row["lane"] in ("feeling", "pain_points"):
                assert row["n"] >= least
            else:
                assert row["lane"] == "quick_wins"
        # What is left out is not the one thing that is missing: with it, at least so many more would be.
        for lane in ("steps", "channels"):
            column = {"steps": "event", "channels": "channel"}[lane]
            for stage, there in group_rows([row for row in rows if row["stage"]], "stage").items():
                items = set(journey_map.cell(lane, stage)["item"])
                if OTHER in items or items == {""}:
                    continue
                hidden = {row["customer_id"] for row in there if (row[column] or "(none)") not in items}
                if hidden:
                    assert {row["customer_id"] for row in there if (row[column] or "(none)") in items} == {
                        row["customer_id"] for row in there
                    }
        assert (journey_map.moments["n"] >= least).all()
    assert shown > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lanes": "reach"},
            "build_map: lanes must be a list of lanes, such as ['steps', 'touchpoints', 'channels']; found 'reach'",
        ),
        ({"lanes": ["reech"]}, 'build_map: no lane "reech". Did you mean "reach"? Known: ' + ", ".join(LANES)),
        ({"top": 0}, "build_map: top and min_group must be at least 1, found 0 and 10"),
        ({"way": "chanel"}, 'build_map: steps have no column "chanel" for way=. Did you mean "channel"?'),
        (
            {},
            "build_map: the journeys are of 6 customers, fewer than min_group=10: they could be recognised. Take in "
            "more customers, or lower min_group if nobody else sees the map",
        ),
        (
            {"topics": pd.DataFrame({"stage": ["lok"], "item": ["x"], "value": [0.5], "n": [20]})},
            'build_map: topics speak of a stage "lok", which the rules do not have. Did you mean "look"? Known: look, '
            "basket, bought",
        ),
        (
            {"topics": pd.DataFrame({"stage": ["look"], "name": ["x"]})},
            "build_map: topics have no column item, value, n; expected stage, item, value (share), n, low, high; found "
            "stage, name",
        ),
    ],
)
def test_errors(six: ibis.Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as error:
        build_map(six, jl.build_journeys(six, SIX_RULES), SIX_RULES, **options)
    assert str(error.value) == message


def test_errors_of_rules_and_journeys(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)
    with pytest.raises(RuleError, match=r"^build_map: the rules have no stages; name them in order, as in "):
        build_map(six, journeys, jl.JourneyRules())
    with pytest.raises(RuleError, match=r"^build_map: there are no journeys; was the filter too narrow\?$"):
        build_map(six, journeys.filter(journeys.n_steps > 99), SIX_RULES)
    workshop = Workshop.empty()
    rows = pd.DataFrame([{"lane": "owner", "stage": "baskett", "item": "x", "evidence": "assumed", "note": ""}])
    with pytest.raises(RuleError) as error:
        build_map(six, journeys, SIX_RULES, workshop=Workshop(rows, workshop.touchpoints))
    assert str(error.value) == (
        'build_map: the workshop speaks of a stage "baskett", which the rules do not have. Did you mean "basket"? '
        "Known: look, basket, bought"
    )


def test_nothing_is_left_in_the_engine(six: ibis.Table) -> None:
    con = six.get_backend()
    before = con.raw_sql("SELECT count(*) FROM information_schema.tables").fetchall()
    build_map(six, jl.build_journeys(six, SIX_RULES), SIX_RULES, min_group=1)
    assert con.raw_sql("SELECT count(*) FROM information_schema.tables").fetchall() == before


def test_answers_count_as_far_as_they_were_known(con: ibis.BaseBackend) -> None:
    """Each of twelve customers pays and is asked twice, the second time after the end of observation."""
    rows = []
    for i in range(12):
        for event, day, score in (("shop", 1, None), ("pay", 2, None), ("survey", 3, 10.0), ("survey", 9, 0.0)):
            time = datetime(2026, 1, day, i)
            rows.append({"customer_id": f"c{i}", "event": event, "timestamp": time, "score": score})
    steps = make_steps(rows, SIX_RULES, con=con)
    for as_of, feeling in (("2026-01-05", 1.0), ("2026-01-20", 0.0)):
        journeys = jl.build_journeys(steps, SIX_RULES, as_of=as_of)
        answers = harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])
        journey_map = build_map(steps, journeys, SIX_RULES, attached=answers, lanes=["feeling"])
        assert journey_map.cell("feeling", "bought")["value"].tolist() == [feeling]
        assert json.loads(journey_map.to_json())["lanes"] == ["feeling"]


@pytest.mark.parametrize("kind", ["saas", "b2b", "leads", "five_stages"])
def test_the_other_ready_rules_make_maps_too(con: ibis.BaseBackend, kind: str) -> None:
    """From sign-up to renewal, a company with roles, a lead: 40 customers, of whom each stage loses two."""
    rules = jl.JourneyRules.load(kind)
    event_of = {stage: key.replace("*", "x") for key, stage in reversed(rules.stage_of.items()) if key[0] != "/"}
    rows: list[Row] = []
    for who in range(40):
        for place, stage in enumerate(
            rules.stages[: len(rules.stages) - who // 2 if who < 2 * len(rules.stages) else None]
        ):
            moment = datetime(2026, 1, 1 + who % 5, 8 + place)
            rows.append({"customer_id": f"c{who}", "event": event_of[stage], "timestamp": moment, "channel": "web"})
            rows[-1] |= {"account_id": f"a{who // 2}", "role": "buyer" if who % 2 else "user"}
    steps = jl.build_steps(make_events(rows, con), rules)
    journeys = jl.build_journeys(steps, rules, as_of="2027-01-01")
    found = build_map(steps, journeys, rules, min_group=1)
    assert found.stages == rules.stages
    reach = [found.cell("reach", stage)["value"].iloc[0] * 40 for stage in rules.stages]
    n_stages = len(rules.stages)
    # Those who stop early: none, none, one stage less for the next two, and so on.
    by_hand = [
        sum(n_stages - (who // 2 if who < 2 * n_stages else 0) > i for who in range(40)) for i in range(n_stages)
    ]
    assert reach == pytest.approx(by_hand)
    roles = jl.count_stage_roles(steps, journeys, rules, min_group=1)
    assert set(roles["role"]) == {"buyer", "user"}
    assert load_map(found.to_json()) == found
