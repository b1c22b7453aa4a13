"""Planned against actual: six customers by hand, tables against loops, a real process, intervals that cover."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import (
    ENDS,
    SIX_RULES,
    START,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    make_steps,
    random_logs,
    random_rules,
    six_customers,
)
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from test_alignment import choose, find_cost

import journeylab as jl
from journeylab.conformance import Conformance, check_conformance, describe_conformance
from journeylab.deviations import compare_medians
from journeylab.errors import RuleError, SchemaError
from journeylab.planned_path import PlannedPath

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
DATA = Path(__file__).parents[2] / "shared" / "data"
SHOP = ("shop", "cart", "pay")


def check(steps: ibis.Table, plan: Any = SHOP, rules: jl.JourneyRules = SIX_RULES, **options: Any) -> Conformance:
    return check_conformance(steps, jl.build_journeys(steps, rules), plan, **options)


def as_lists(table: pd.DataFrame, *columns: str) -> list[list[Any]]:
    return table[list(columns)].astype(object).where(table[list(columns)].notna(), None).to_numpy().tolist()


def test_six_customers(six: ibis.Table) -> None:
    """Over: anna's buys, bert's, cleo's, dora's first (the shop alone) and fred's first; the rest may still go on."""
    result = check(six)
    counts = ["n_journeys", "n_customers", "n_open", "n_fitting", "cost", "n_open_fitting"]
    assert as_lists(result.summary, *counts) == [[5, 5, 3, 1, 9, 2]]
    # Costs 0, 2, 2, 2 and 3 of 6, 6, 6, 4 and 5.
    assert result.summary["fitness"].tolist() == pytest.approx([(1 + 4 / 6 + 4 / 6 + 2 / 4 + 2 / 5) / 5])
    columns = ["n", "n_done", "n_reordered", "n_skipped", "n_ended", "n_left_out", "n_repeated"]
    assert as_lists(result.steps, "label", *columns, "n_open_done", "n_not_yet") == [
        ["shop", 5, 4, 1, 0, 0, 0, 1, 2, 1],
        ["cart", 5, 3, 0, 2, 1, 0, 0, 2, 1],
        ["pay", 5, 2, 0, 3, 3, 0, 0, 1, 2],
    ]
    columns = ["kind", "step", "event", "n", "n_journeys", "n_customers", "n_ended", "n_open", "cost"]
    assert as_lists(result.deviations, *columns) == [
        ["skipped", 3, "pay", 3, 3, 3, 3, 0, 3],
        ["skipped", 2, "cart", 2, 2, 2, 1, 0, 2],
        ["reordered", 1, "shop", 1, 1, 1, 0, 0, 2],
        ["repeated", 1, "shop", 1, 1, 1, 0, 0, 1],
        ["inserted", None, "ad", 1, 1, 1, 0, 0, 1],
        ["inserted", None, "help", 0, 0, 0, 0, 1, 0],
    ]
    assert [" ".join(told) for told in result.variants["alignment"]] == [
        "ad (inserted) shop cart (skipped) pay",
        "cart shop (reordered) pay (skipped)",
        "shop cart (skipped) pay (skipped)",
        "shop cart pay",
        "shop shop (repeated) cart pay (skipped)",
    ]
    assert as_lists(result.variants, "n_journeys", "share", "cost") == [
        [1, 0.2, 2],
        [1, 0.2, 3],
        [1, 0.2, 2],
        [1, 0.2, 0],
        [1, 0.2, 2],
    ]
    assert len(check(six, top=2).variants) == 2
    assert describe_conformance(result) == (
        "Of 5 journeys that are over, 20.0 % went exactly as planned (95 % interval 3.6–62.4 %); fitness is 0.65 on "
        "average, where 1 is as planned and 0 has nothing in common with the plan. Most often pay was skipped: in 3 of "
        "them (60.0 %), of which 3 ended before it."
    )


def judge_by_hand(path: list[Row], plan: PlannedPath, events: set[str], *, is_open: bool) -> Row:
    """What is out of place in one journey?"""

    def is_any(row: Row, names: tuple[str, ...]) -> bool:
        return any(name == row["event"] if name in events else name == row["stage"] for name in names)

    path = [row for row in path if not is_any(row, plan.ignore)]
    steps_of = [tuple(s for s, names in enumerate(plan.names) if is_any(row, names)) for row in path]
    known = [steps for steps in steps_of if steps]
    # The same plan of sets of steps instead of events: what is known of an event is which steps it can be.
    kinds = SimpleNamespace(
        steps=plan.steps,
        names=[[steps for steps in set(known) if s in steps] for s in range(len(plan.steps))],
        is_optional=plan.is_optional,
        is_repeatable=plan.is_repeatable,
    )
    places = choose(known, kinds, is_open=is_open)
    done = {place for place in places if place >= 0}
    loose = [steps for steps, place in zip(known, places, strict=True) if place < 0]
    counts: Counter[tuple[str, Any]] = Counter()
    for step in sorted(set(range(len(plan.steps))) - done):
        found = next((steps for steps in loose if step in steps), None)
        if found:
            counts["reordered", step] += 1
            loose.remove(found)
    counts.update(("repeated", steps[0]) for steps in loose)
    counts.update(("inserted", row["event"]) for row, steps in zip(path, steps_of, strict=True) if not steps)
    last = max(done, default=-1)
    due = {step for step in range(len(plan.steps)) if not plan.is_optional[step] and (not is_open or step < last)}
    counts.update(("skipped", step) for step in due - done if not counts["reordered", step])
    n_inserted = sum(not steps for steps in steps_of)
    cost = find_cost(known, kinds, is_open=is_open) + n_inserted
    worst = len(path) + (0 if is_open else int(sum(~plan.is_optional)))
    return {
        "variant": tuple(row["event"] for row in path),
        "done": done,
        "last": last,
        "missing": due - done,
        "counts": +counts,
        "cost": cost,
        "fitness": 1 - cost / worst if worst else 1.0,
    }


def conform_by_hand(paths: dict[str, list[Row]], journeys: list[Row], plan: PlannedPath, by: str | None) -> list[Row]:
    events = {row["event"] for path in paths.values() for row in path}
    found = []
    for journey in journeys:
        path = paths[journey["journey_id"]]
        group = (journey.get(by, path[0].get(by)) or "(none)") if by else None
        facts = judge_by_hand(path[: journey["n_steps"]], plan, events, is_open=journey["is_open"])
        found.append({**journey, **facts, "group": group})
    return found


def deviations_by_hand(members: list[Row], plan: PlannedPath) -> dict[tuple[str, str, Any], Row]:
    over = [row for row in members if not row["is_open"]]
    answer = {}
    for kind, what in {key for row in members for key in row["counts"]}:
        with_it, without = (
            [row for row in over if ((kind, what) in row["counts"]) is has_it] for has_it in (True, False)
        )
        has_step = kind != "inserted"
        cost = [row["counts"][kind, what] + (kind == "reordered" and what in row["missing"]) for row in with_it]
        durations = [sorted(row["duration_s"] for row in side) for side in (with_it, without)]
        reached = [sum(bool(row["reached_goal"]) for row in side) for side in (with_it, without)]
        answer[kind, plan.labels[what] if has_step else what, what + 1 if has_step else None] = {
            "n": sum(row["counts"][kind, what] for row in with_it),
            "n_journeys": len(with_it),
            "n_customers": len({row["customer_id"] for row in with_it}),
            "share": len(with_it) / len(over) if over else None,
            "n_ended": sum(kind == "skipped" and what > row["last"] for row in with_it),
            "n_open": sum((kind, what) in row["counts"] for row in members if row["is_open"]),
            "cost": sum(cost),
            "median_s": median(durations[0]) if with_it and without else None,
            "median_other_s": median(durations[1]) if with_it and without else None,
            "conversion": reached[0] / len(with_it) if with_it else None,
            "conversion_other": reached[1] / len(without) if without else None,
        }
    return answer


def steps_by_hand(members: list[Row], plan: PlannedPath) -> list[Row]:
    over, still = ([row for row in members if row["is_open"] is is_open] for is_open in (False, True))

    def count(kind: str, step: int) -> int:
        return sum((kind, step) in row["counts"] for row in over)

    return [
        {
            "step": step + 1,
            "label": label,
            "n": len(over),
            "n_done": sum(step in row["done"] for row in over),
            "n_reordered": count("reordered", step),
            "n_skipped": count("skipped", step),
            "n_ended": sum(("skipped", step) in row["counts"] and step > row["last"] for row in over),
            "n_repeated": count("repeated", step),
            "n_open_done": sum(step in row["done"] for row in still),
            "n_not_yet": sum(step > row["last"] for row in still),
        }
        for step, label in enumerate(plan.labels)
    ]


@st.composite
def plans_for(draw: st.DrawFn, names: list[str]) -> PlannedPath:
    one = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    steps = draw(st.lists(one, min_size=1, max_size=4))
    labels = st.lists(st.sampled_from([" / ".join(step) for step in steps]), unique=True)
    return PlannedPath(steps, optional=draw(labels), repeatable=draw(labels))


@examples(10)
@given(
    rows=random_logs(columns=("seq", "journey_id", "stage"), always=("channel",)),
    rules=random_rules(),
    as_of=ENDS,
    by=st.sampled_from((None, "channel", "last_stage")),
    data=st.data(),
)
def test_tables_are_those_of_a_loop(
    con: ibis.BaseBackend,
    rows: list[Row],
    rules: jl.JourneyRules,
    as_of: datetime | None,
    by: str | None,
    data: st.DataObject,
) -> None:
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    events = fetch(steps)
    names = sorted({row[name] for row in events for name in ("event", "stage") if row[name] is not None})
    plan = data.draw(plans_for(names))
    known = fetch(journeys)
    if not known:
        with pytest.raises(SchemaError, match="there are no journeys"):
            check_conformance(steps, journeys, plan)
        drop_tables(con)
        return
    result = check_conformance(steps, journeys, plan, by=by, min_n=1)
    paths = {name: sorted(part, key=lambda row: row["step"]) for name, part in group_rows(events, "journey_id").items()}
    expected = conform_by_hand(paths, known, plan, by)
    found = {row["journey_id"]: row for row in fetch(result.journeys)}
    for row in expected:
        mine = found.pop(row["journey_id"])
        assert (mine["cost"], mine["n_events"], mine["is_open"]) == (row["cost"], len(row["variant"]), row["is_open"])
        assert mine["fitness"] == pytest.approx(row["fitness"])
        for kind in ("skipped", "reordered", "repeated", "inserted"):
            assert mine[f"n_{kind}"] == sum(n for (named, _), n in row["counts"].items() if named == kind)
    assert not found
    groups = group_rows(expected, "group")
    assert by is None or set(result.summary[by]) == set(groups)
    has_goal = any(row["reached_goal"] for row in expected if not row["is_open"])
    for group, members in groups.items():
        parts = (result.summary, result.steps, result.deviations, result.variants)
        assert_group(*(part if by is None else part[part[by] == group] for part in parts), members, plan, has_goal)
    drop_tables(con)


def assert_group(
    summary: pd.DataFrame,
    steps: pd.DataFrame,
    deviations: pd.DataFrame,
    variants: pd.DataFrame,
    members: list[Row],
    plan: PlannedPath,
    has_goal: bool,
) -> None:
    over, still = ([row for row in members if row["is_open"] is is_open] for is_open in (False, True))
    n = len(over)
    row = summary.iloc[0]
    assert row[["n_journeys", "n_customers", "n_open", "n_fitting", "cost", "n_open_fitting"]].tolist() == [
        *(n, len({row["customer_id"] for row in over}), len(still), sum(row["cost"] == 0 for row in over)),
        *(sum(row["cost"] for row in over), sum(row["cost"] == 0 for row in still)),
    ]
    fitness = [row["fitness"] for row in over]
    assert row["fitness"] == pytest.approx(np.mean(fitness) if over else np.nan, nan_ok=True)
    by_hand = steps_by_hand(members, plan)
    assert steps[list(by_hand[0])].to_dict("records") == by_hand
    assert (steps["n"] == steps[["n_done", "n_reordered", "n_skipped", "n_left_out"]].sum(axis=1)).all()
    expected = deviations_by_hand(members, plan)
    records = deviations.astype(object).where(deviations.notna(), None).to_dict("records")
    assert {(mine["kind"], mine["event"], mine["step"]) for mine in records} == set(expected)
    assert len(records) == len(expected)
    for mine in records:
        facts = expected[mine["kind"], mine["event"], mine["step"]]
        if not has_goal:
            facts |= {"conversion": None, "conversion_other": None}
        assert {name: mine[name] for name in facts} == pytest.approx(facts)
    # Nothing is counted twice, and nothing is left over.
    assert deviations["cost"].sum() == row["cost"]
    assert deviations["n_journeys"].is_monotonic_decreasing
    counted = Counter(row["variant"] for row in over)
    if len(variants) < 20:
        whole = variants.groupby("variant")["n_journeys"].sum()
        assert whole.to_dict() == counted
        assert variants["share"].sum() == pytest.approx(1 if n else 0)
    for variant in variants.to_dict("records"):
        told = [part.rsplit(" (", 1) for part in variant["alignment"]]
        assert tuple(part[0] for part in told if part[-1] != "skipped)") == variant["variant"]


def test_rows_in_any_order_give_the_same(con: ibis.BaseBackend) -> None:
    rows = six_customers()
    one, two = (check(make_steps(part, SIX_RULES, con=con), by="channel") for part in (rows, rows[::-1]))
    for name in ("summary", "steps", "deviations", "variants"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))
    pd.testing.assert_frame_equal(one.journeys.execute(), two.journeys.execute())


def test_stages_alternatives_and_what_does_not_matter(six: ibis.Table) -> None:
    """Stages are steps as their events are; the ad that is ignored is out of nobody's place."""
    by_stage = check(six, ("look", "basket", "bought"))
    assert as_lists(by_stage.summary, "n_fitting", "cost") == as_lists(check(six).summary, "n_fitting", "cost")
    plan = PlannedPath(["shop", "cart", "pay"], optional="cart", repeatable="shop", ignore=["ad", "help"])
    result = check(six, plan)
    assert as_lists(result.summary, "n_fitting", "cost", "n_open_fitting") == [[2, 4, 3]]
    # Nobody misses fred's optional cart at its place: too early, it costs 1.
    facts = as_lists(result.deviations, "kind", "event", "n_ended", "cost")
    assert facts == [["skipped", "pay", 3, 3], ["reordered", "cart", 0, 1]]
    assert ("shop", "pay") in set(result.variants["variant"])
    # Of fred's second journey nothing is left: there is nothing against it.
    fred = {row["journey_id"]: row for row in fetch(result.journeys)}["fred/2"]
    assert (fred["n_events"], fred["cost"], fred["fitness"]) == (0, 0, 1.0)
    either = check(six, [["ad", "shop"], ["cart", "pay"]])
    assert as_lists(either.steps, "label", "n_done") == [["ad / shop", 4], ["cart / pay", 4]]


def test_a_journey_on_its_way_has_skipped_nothing(con: ibis.BaseBackend) -> None:
    """The same two events, of one who may still pay and of one who has left; a third paid at once."""
    rows = [
        {"customer_id": name, "event": event, "timestamp": datetime(2026, month, 1, hour)}
        for name, month, events in (("late", 3, SHOP[:2]), ("gone", 1, SHOP[:2]), ("done", 1, SHOP))
        for hour, event in enumerate(events)
    ]
    result = check(make_steps(rows, con=con))
    costs = {row["customer_id"]: (row["is_open"], row["cost"], row["fitness"]) for row in fetch(result.journeys)}
    assert costs == {"late": (True, 0, 1.0), "gone": (False, 1, 0.8), "done": (False, 0, 1.0)}
    facts = as_lists(result.steps, "n", "n_skipped", "n_ended", "n_not_yet")
    assert facts == [[2, 0, 0, 0], [2, 0, 0, 0], [2, 1, 1, 1]]
    never_over = jl.JourneyRules(journey_gap=None)
    steps = make_steps(rows, never_over, con=con)
    nothing = check(steps, rules=never_over)
    assert as_lists(nothing.summary, "n_journeys", "n_open", "share", "fitness") == [[0, 3, None, None]]
    assert describe_conformance(nothing) == (
        "3 journeys are still on their way and none is over: there is nothing yet to hold against the plan."
    )


def test_all_as_planned(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": str(i), "event": event, "timestamp": datetime(2026, 1, 1, hour)}
        for i in range(3)
        for hour, event in enumerate(SHOP)
    ]
    steps = make_steps(rows, con=con)
    result = check_conformance(steps, jl.build_journeys(steps, as_of="2026-12-01"), SHOP)
    assert as_lists(result.summary, "n_fitting", "share", "fitness", "cost") == [[3, 1, 1, 0]]
    assert result.deviations.empty
    assert describe_conformance(result).startswith("Of 3 journeys that are over, 100.0 % went exactly as planned")


def plant_skips(n: int, seed: int) -> list[Row]:
    """Who skips the cart pays half as often, and is an hour slower; channels are dealt out at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        skips = rng.random() < 0.3
        names = [
            "shop",
            *([] if skips else ["cart"]),
            "end",
            *(["pay"] if rng.random() < (0.3 if skips else 0.6) else []),
        ]
        stops = np.cumsum(rng.exponential(600, size=len(names))) + np.linspace(0, 3600 * skips, len(names))
        channel = str(rng.choice(["web", "app"]))
        rows += [
            {"customer_id": str(i), "event": name, "channel": channel, "timestamp": START + pd.Timedelta(stop, "s")}
            for name, stop in zip(names, stops, strict=True)
        ]
    return rows


def test_what_goes_with_a_deviation_is_found(con: ibis.BaseBackend) -> None:
    rules = jl.JourneyRules(goal="pay")
    steps = make_steps(plant_skips(2_000, 0), rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of="2026-12-01")
    plan = PlannedPath(["shop", "cart", "end", "pay"], optional="pay")
    result = check_conformance(steps, journeys, plan)
    (row,) = result.deviations.to_dict("records")
    assert (row["kind"], row["event"], row["n_ended"]) == ("skipped", "cart", 0)
    assert row["share"] == pytest.approx(0.3, abs=0.03)
    assert (row["low"], row["high"]) == pytest.approx(proportion_confint(row["n"], 2_000, method="wilson"))
    assert row["conversion"] == pytest.approx(0.3, abs=0.06)
    assert row["conversion_other"] == pytest.approx(0.6, abs=0.06)
    n, other = row["n_journeys"], 2_000 - row["n_journeys"]
    sides = (row["conversion"] * n, n, row["conversion_other"] * other, other)
    newcombe = confint_proportions_2indep(*sides, method="newcomb")
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(newcombe)
    assert row["p_adjusted"] < 1e-9
    assert row["extra_low_s"] < row["extra_s"] < row["extra_high_s"]
    assert row["extra_low_s"] > 1_800
    told = describe_conformance(result)
    assert "Most often cart was skipped: in" in told
    assert "This is association, not cause." in told
    small = check_conformance(steps, journeys, plan, min_n=1_000).deviations.iloc[0]
    assert small["is_small"]
    assert small[["median_s", "extra_low_s", "extra_high_s", "p", "p_adjusted"]].isna().all()
    split = check_conformance(steps, journeys, plan, by="channel")
    assert sorted(split.summary["channel"]) == ["app", "web"]
    for name in ("n_journeys", "n_fitting", "cost"):
        assert split.summary[name].sum() == result.summary[name].sum()
    # Two tests now: Holm counts both.
    assert split.deviations["p_adjusted"].max() == pytest.approx(split.deviations["p"].max())
    assert split.deviations["p_adjusted"].min() == pytest.approx(2 * split.deviations["p"].min())
    words = describe_conformance(split)
    assert words.startswith(f"channel {split.summary['channel'].iloc[0]}: Of ")


@pytest.mark.parametrize(("n", "n_other"), [(30, 30), (40, 400)])
def test_bounds_of_a_difference_of_medians_cover_it(n: int, n_other: int) -> None:
    """Long tails of different scale: exponential with medians 2·ln 2 and ln 2."""
    rng, n_runs, hits = np.random.default_rng(0), 4_000 if FULL else 1_000, 0
    for _ in range(n_runs):
        one, two = np.sort(rng.exponential(2, size=n)), np.sort(rng.exponential(1, size=n_other))
        row = compare_medians(one, two)
        hits += row["extra_low_s"] <= np.log(2) <= row["extra_high_s"]
    assert 0.94 <= hits / n_runs <= 0.99


def test_bounds_of_mean_fitness_cover_it(con: ibis.BaseBackend) -> None:
    """Samples of one log of many journeys, whose mean is the truth."""
    rules = jl.JourneyRules(goal="pay")
    steps = make_steps(plant_skips(1_800, 1), rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of="2026-12-01")
    n_runs = 200 if FULL else 60
    groups = steps.mutate(sample=(steps.customer_id.cast("int64") % n_runs).cast("string"))
    result = check_conformance(groups, journeys, SHOP, by="sample")
    truth = check_conformance(steps, journeys, SHOP).summary["fitness"].iloc[0]
    assert len(result.summary) == n_runs
    # n_runs samples of a 60th of the log each: nearly independent of its mean.
    covered = result.summary["fitness_low"].le(truth) & result.summary["fitness_high"].ge(truth)
    assert covered.mean() >= 0.88


def test_a_real_process() -> None:
    """Permits: of 1,434 cases 713 go the most frequent way, 116 stop after the first of its six steps."""
    if not DATA.exists():
        pytest.skip("the shared data folder is not beside the project")
    rules = jl.JourneyRules(journey_gap=None, dormant_after="30D")
    names = {"customer_id": "case:concept:name", "event": "concept:name", "timestamp": "time:timestamp"}
    steps = jl.build_steps(jl.read_events(DATA / "receipt" / "receipt.csv", **names, con=jl.connect()), rules)
    journeys = jl.build_journeys(steps, rules, as_of="2013-01-01")
    variants = jl.count_variants(steps, journeys)
    path = variants["variant"][0]
    result = check_conformance(steps, journeys, path)
    assert as_lists(result.summary, "n_journeys", "n_open", "n_fitting", "share") == [[1_434, 0, 713, 713 / 1_434]]
    assert as_lists(result.variants.head(5), "n_journeys") == [[713], [123], [116], [115], [75]]
    plan = PlannedPath(path)
    costs = [find_cost(variant, plan) for variant in variants["variant"]]
    assert result.summary["cost"].iloc[0] == sum(np.array(costs) * variants["n_journeys"])
    worst = variants["n_steps"] + len(path)
    fitness = np.average(1 - costs / worst, weights=variants["n_journeys"])
    assert result.summary["fitness"].iloc[0] == pytest.approx(fitness)
    skipped = result.deviations[result.deviations["kind"] == "skipped"].set_index("event")
    assert skipped.loc["T02 Check confirmation of receipt", "n_ended"] == 116
    inserted = result.deviations[result.deviations["kind"] == "inserted"]
    strange = steps.filter(~steps.event.isin(path))
    assert inserted["n"].sum() == strange.count().execute()
    assert len(inserted) == 27 - len(path)


def test_plans_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        'steps = ["visit", ["cart", "wishlist"], "pay"]\noptional = ["cart / wishlist"]\n', encoding="utf-8"
    )
    assert PlannedPath.load(file) == PlannedPath(["visit", ["cart", "wishlist"], "pay"], optional="cart / wishlist")
    for text, message in (
        ('step = ["a"]', 'plan.toml: no rule "step". Did you mean "steps"? Known: steps, optional, repeatable, ignore'),
        ('optional = ["a"]', 'plan.toml: steps are missing, such as steps = ["visit", "cart", "pay"]'),
        ("steps = [", "plan.toml is not TOML: "),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RuleError) as error:
            PlannedPath.load(file)
        assert message in str(error.value)
    with pytest.raises(RuleError, match=r'no planned path at "none\.toml": the file does not exist'):
        PlannedPath.load(tmp_path / "none.toml")


def test_what_is_refused(six: ibis.Table) -> None:
    with pytest.raises(RuleError) as error:
        check(six, ["shop", "chart", "pay"])
    assert str(error.value) == (
        'PlannedPath: 1 of 3 names are neither an event nor a stage of this log: "chart" Did you mean "cart"? – known '
        "are ad, basket, bought, cart, help, look, pay, shop"
    )
    with pytest.raises(RuleError, match=r'no column "chanel" to split by\. Did you mean "channel"'):
        check(six, by="chanel")
    with pytest.raises(RuleError, match='"cost" is a column of the answer itself'):
        check(six, by="cost")
    with pytest.raises(RuleError, match="top must be at least 1, found 0"):
        check(six, top=0)
    with pytest.raises(RuleError, match="both a step and ignored, by their stage: cart; take them out"):
        check(six, PlannedPath(["shop", "cart"], ignore="basket"))
    with pytest.raises(SchemaError, match="there are no journeys"):
        check_conformance(six, jl.build_journeys(six, SIX_RULES, as_of="2025-01-01"), SHOP)
    with pytest.raises(SchemaError, match="journeys count 18 steps, of which 17 are in steps; build the journeys from"):
        check_conformance(six.filter(six.event != "ad"), jl.build_journeys(six, SIX_RULES), SHOP)
