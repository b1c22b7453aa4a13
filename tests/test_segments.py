"""Segments and RFM against plain loops over customers, and tests and intervals against simulated truth."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
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
    fetch,
    group_rows,
    last_instant,
    make_steps,
    random_logs,
    random_rules,
    six_customers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

import journeylab as jl
from journeylab.contrasts import judge, lay_out_shares, sum_amounts
from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError
from journeylab.rfm import score_rfm
from journeylab.segments import compare_segments

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
RUNS = 400 if FULL else 25
Floats = NDArray[np.float64]


# What is compared, by a walk through each customer's history.


def segment_by_hand(history: list[Row], by: str, at: str) -> str:
    known = [row[by] for row in history if row[by] is not None]
    if not known:
        return "(none)"
    if at == "most":
        return max(dict.fromkeys(known), key=known.count)
    return known[0] if at == "first" else known[-1]


def share_out(values: list[Any]) -> dict[Any, float]:
    return {value: values.count(value) / len(values) for value in values}


def log_by_hand(seconds: float) -> int:
    return round(math.log(seconds + 1) * 10_000)


def divide_by_hand(total: int, n: int) -> int:
    """The nearest whole number; a half goes up, as in the engines (Python's `round` takes the even one)."""
    return (2 * total + n) // (2 * n)


def traits_by_hand(history: list[Row], journeys: list[Row]) -> dict[tuple[str, str], Any]:
    """Of each kind and trait what the customer has; of a mix all shares, under the trait "*"."""
    traits: dict[tuple[str, str], Any] = {
        ("conversion", "customers who reached the goal"): float(any(row["reached_goal"] for row in journeys)),
        ("value", "value per customer"): sum(row["value"] or 0 for row in journeys),
        ("events", "events per customer"): len(history),
        ("journeys", "journeys per customer"): len(journeys),
        ("event", "*"): share_out([row["event"] for row in history]),
    }
    gaps = [log_by_hand(row["gap_s"]) for row in history if row["gap_s"] is not None]
    if gaps:
        traits["tempo", "seconds between events"] = divide_by_hand(sum(gaps), len(gaps)) / 10_000
    came = [row for row in journeys if row["goal_time"] is not None]
    if came:
        first = min(came, key=lambda row: (row["goal_time"], row["start_time"]))
        wait = (first["goal_time"] - first["start_time"]).total_seconds()
        traits["time_to_goal", "seconds to the first goal"] = log_by_hand(wait) / 10_000
    moves = [f"{row['event']} → {row['next_event']}" for row in history if row["next_event"] is not None]
    for kind, values in (
        ("transition", moves),
        ("channel", [row.get("channel") for row in history]),
        ("stage", [row.get("stage") for row in history]),
    ):
        known = [value for value in values if value is not None]
        if known:
            traits[kind, "*"] = share_out(known)
    return traits


def cut(history: list[Row], fates: dict[str, Row]) -> list[Row]:
    counted = [row for row in history if row["step"] <= fates.get(row["journey_id"], {"n_steps": 0})["n_steps"]]
    for row in counted:
        if row["step"] == fates[row["journey_id"]]["n_steps"]:
            row["next_event"] = None
    return counted


def compare_by_hand(
    steps: list[Row], journeys: list[Row], by: str, at: str
) -> tuple[dict[str, int], dict[tuple[str, str, str], dict[str, float]]]:
    """Sizes of the segments; n, value and their like for each segment, kind and trait."""
    fates = {row["journey_id"]: row for row in journeys}
    of_customer = group_rows(journeys, "customer_id")
    people = []
    for customer, rows in group_rows(steps, "customer_id").items():
        history = cut(rows, fates)
        if history:
            people.append((segment_by_hand(history, by, at), traits_by_hand(history, of_customer[customer])))
    sizes = {name: sum(segment == name for segment, _ in people) for name in {segment for segment, _ in people}}
    wanted = set()
    for _, traits in people:
        for (kind, trait), value in traits.items():
            wanted |= {(kind, part) for part in value} if trait == "*" else {(kind, trait)}
    found = {}
    for kind, trait in wanted:
        known = []
        for segment, traits in people:
            if (kind, trait) in traits:
                known.append((segment, traits[kind, trait]))
            elif (kind, "*") in traits:
                known.append((segment, traits[kind, "*"].get(trait, 0.0)))
        for name in sizes:
            own = [value for segment, value in known if segment == name]
            other = [value for segment, value in known if segment != name]
            found[name, kind, trait] = describe_by_hand(kind, own, other)
    return sizes, found


def describe_by_hand(kind: str, own: list[float], other: list[float]) -> dict[str, float]:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    row = {"n": len(own), "n_other": len(other)}
    both = [mean(own), mean(other)]
    if kind in ("time_to_goal", "tempo"):
        both = [math.expm1(value) for value in both]
    row |= {"value": both[0], "value_other": both[1], "difference": both[0] - both[1]}
    if kind == "conversion":
        return row | {"effect": 2 * math.asin(both[0] ** 0.5) - 2 * math.asin(both[1] ** 0.5)}
    if kind in ("value", "time_to_goal", "tempo", "events", "journeys"):
        own, other = rank_by_hand(own, other)
    deviation = np.std(own + other)
    return row | {"effect": (mean(own) - mean(other)) / deviation if deviation > 1e-9 else 0.0}


def rank_by_hand(own: list[float], other: list[float]) -> tuple[list[float], list[float]]:
    """Mid-ranks; numbers count to four digits."""

    def shorten(value: float) -> int:
        whole = round(value * 10_000)
        grain = 10 ** max(len(str(whole)) - 4, 0)
        return whole // grain * grain

    values = [shorten(value) for value in own + other]
    ranks = [sum(other < value for other in values) + sum(other == value for other in values) / 2 for value in values]
    return ranks[: len(own)], ranks[len(own) :]


@settings(max_examples=80 if FULL else 5)
@given(
    rows=random_logs(columns=("seq", "value", "stage"), always=("channel",)),
    rules=random_rules(),
    as_of=ENDS,
    at=st.sampled_from(("first", "last", "most")),
)
def test_every_number_is_that_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], rules: jl.JourneyRules, as_of: datetime | None, at: Any
) -> None:
    # Stored, as every query would be compiled with all that makes them.
    steps = store(make_steps(rows, rules, con=con), con)
    journeys = store(jl.build_journeys(steps, rules, as_of=as_of), con)
    sizes, expected = compare_by_hand(fetch(steps), fetch(journeys), "channel", at)
    if len(sizes) < 2:
        with pytest.raises(SchemaError if not sizes else RuleError):
            compare_segments(steps, journeys, by="channel", at=at)
    else:
        table = compare_segments(steps, journeys, by="channel", at=at, min_n=1, top=1000)
        found = {(row["segment"], row["kind"], row["trait"]): row for row in table.to_dict("records")}
        of_size = {segment: row for (segment, kind, _), row in found.items() if kind == "size"}
        assert {segment: row["n"] for segment, row in of_size.items()} == sizes
        for segment, row in of_size.items():
            assert row["value"] == pytest.approx(sizes[segment] / sum(sizes.values()))
            bounds = proportion_confint(sizes[segment], sum(sizes.values()), method="wilson")
            assert (row["low"], row["high"]) == pytest.approx(bounds)
        # A kind of which the log can tell nothing has no rows.
        told = {kind for _, kind, _ in expected if kind not in ("conversion", "value", "tempo", "time_to_goal")}
        told |= {kind for (_, kind, _), row in expected.items() if row["value"] > 0 or row["value_other"] > 0}
        kept = {key: row for key, row in expected.items() if key[1] in told}
        assert {key for key in found if key[1] != "size"} == set(kept)
        for key, row in kept.items():
            for name, value in row.items():
                assert found[key][name] == pytest.approx(value, abs=2e-4, rel=1e-6, nan_ok=True), (key, name)
    drop_tables(con)


def test_six_customers_by_hand(six: ibis.Table) -> None:
    """By their first known channel: anna, dora and fred is on the web … fred began in the app."""
    journeys = jl.build_journeys(six, SIX_RULES)
    table = compare_segments(six, journeys, by="channel", min_n=1)
    assert table.loc[table["kind"] == "size", ["segment", "n"]].values.tolist() == [
        *(["app", 2], ["web", 2]),
        *(["(none)", 1], ["ads", 1]),
    ]
    web = table[table["segment"] == "web"].set_index(["kind", "trait"])
    # anna and dora both pay; of the others only cleo does.
    goal = web.loc[("conversion", "customers who reached the goal")]
    assert goal[["value", "value_other", "measure"]].tolist() == [1.0, 0.25, "share"]
    assert (goal["low"], goal["high"]) == pytest.approx(confint_proportions_2indep(2, 2, 1, 4, method="newcomb"))
    assert web.loc[("value", "value per customer"), ["value", "value_other"]].tolist() == [25.0, 2.5]
    # anna's first goal comes after 15 minutes, dora's after 20, cleo's after two days.
    wait = web.loc[("time_to_goal", "seconds to the first goal")]
    assert wait["value"] == pytest.approx(math.sqrt(901 * 1201) - 1, rel=1e-3)
    assert wait[["n", "n_other"]].tolist() == [2, 1]
    # dora used the app for three of four events.
    assert web.loc[("channel", "web"), "value"] == (1 + 0.25) / 2
    assert web.loc[("transition", "cart → pay"), "value"] == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_of_two_goals_at_one_instant_that_of_the_earlier_journey_counts(con: ibis.BaseBackend) -> None:
    """A journey that ends with its goal, and at the same time one that is nothing but a goal, in any order of rows."""
    rules = jl.JourneyRules(stages=("looked",), stage_of={"look": "looked"}, goal="buy", end_after_goal=True)
    rows = [
        {"customer_id": f"k{i}", "event": event, "timestamp": START + timedelta(minutes=minute), "channel": f"c{i % 2}"}
        for i in range(8)
        for event, minute in (("look", 0), ("buy", 10), ("buy", 10))
    ]
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules)
    assert journeys.count().execute() == 16
    for order in (ibis.asc("start_time"), ibis.desc("start_time")):
        ordered = con.create_table(ibis.util.gen_name("journeys"), journeys.order_by(order))
        table = compare_segments(steps, ordered, by="channel", min_n=1).set_index("kind")
        assert table.loc["time_to_goal", "value"].tolist() == pytest.approx([600, 600], rel=1e-4)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_large_amounts_are_no_trouble(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": f"k{i}", "event": "buy", "timestamp": START, "channel": f"c{i % 2}", "value": 1e6 * i}
        for i in range(8)
    ]
    steps = make_steps(rows, con=con)
    table = compare_segments(steps, jl.build_journeys(steps), by="channel", min_n=2)
    value = table[table["kind"] == "value"].set_index("segment")
    assert value.loc["c0", ["value", "difference"]].tolist() == [3e6, -1e6]
    assert value.loc["c0", "low"] < -1e6 < value.loc["c0", "high"]


def test_segments_of_any_form_say_the_same(con: ibis.BaseBackend, six: ibis.Table) -> None:
    six, journeys = store(six, con), store(jl.build_journeys(six, SIX_RULES), con)
    names = ["anna", "bert", "cleo", "dora", "emil"]
    members = pd.DataFrame({"customer_id": names, "persona": [1, 2, 1, 1, 2], "probability": 0.9})
    table = compare_segments(six, journeys, by=members, min_n=1)
    assert table["segment"].drop_duplicates().tolist() == [1, 2]  # by falling size
    for by in (
        con.create_table("members", members),
        SimpleNamespace(members=con.table("members")),
        members.rename(columns={"persona": "segment"}),
    ):
        pd.testing.assert_frame_equal(compare_segments(six, journeys, by=by, min_n=1), table)
    # fred is in no segment, so nobody's customer.
    assert table.loc[table["kind"] == "size", "n"].sum() == 5
    sizes = table[table["kind"] == "size"].set_index("segment")
    assert sizes.loc[1, ["n", "n_other", "value"]].tolist() == [3, 2, 0.6]


def test_a_pair_is_compared_without_the_others(six: ibis.Table) -> None:
    six, journeys = store(six, six.get_backend()), store(jl.build_journeys(six, SIX_RULES), six.get_backend())
    members = pd.DataFrame({"customer_id": ["anna", "bert", "cleo", "dora", "emil", "fred"], "segment": list("aabbcc")})
    table = compare_segments(six, journeys, by=members, pair=("a", "b"), min_n=1)
    assert set(table["segment"]) == {"a"}
    only = members[members["segment"] != "c"]
    alone = compare_segments(six, journeys, by=only, min_n=1)
    alone = alone[alone["segment"] == "a"]
    assert table["n_other"][1:].tolist() == alone["n_other"][1:].tolist()
    columns = ["kind", "trait", "value", "value_other", "difference", "low", "high", "effect", "p"]
    pd.testing.assert_frame_equal(table[columns][1:], alone[columns][1:])
    # The size is that among all customers.
    assert table.loc[0, "value"] == pytest.approx(1 / 3)


def test_attributes(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": f"k{i}", "event": "a", "timestamp": START, "channel": "app" if i < 4 else "web"}
        for i in range(8)
    ]
    steps = make_steps(rows, con=con)
    customers = pd.DataFrame(
        {
            "customer_id": [f"k{i}" for i in range(7)],
            "age": [20.5, 30, None, 40, 50, 60, 70],
            "plan": ["free", "free", "pro", None, "pro", "pro", "team"],
            "is_vip": [True, False, True, False, True, True, True],
        }
    )
    table = compare_segments(steps, jl.build_journeys(steps), by="channel", customers=customers, min_n=1)
    app = table[(table["segment"] == "app") & (table["kind"] == "attribute")].set_index("trait")
    assert app.loc["age", ["n", "n_other", "value", "value_other"]].tolist() == [3, 3, 90.5 / 3, 60.0]
    assert app.loc["plan: free", ["n", "n_other", "value", "value_other"]].tolist() == [3, 3, 2 / 3, 0.0]
    assert app.loc["is_vip: true", ["n", "n_other", "value"]].tolist() == [4, 3, 0.5]
    assert app["measure"].to_dict() == {name: "mean" if name == "age" else "share" for name in app.index}
    named = compare_segments(steps, jl.build_journeys(steps), by="channel", customers=["channel"], min_n=1)
    assert named.set_index(["segment", "trait"]).loc[("web", "channel: web"), "value"] == 1


def test_only_the_most_common_traits_are_kept(con: ibis.BaseBackend) -> None:
    # Event e0 is done by ten customers, e1 by nine, …; of two done by as many, the first by name is kept.
    rows = [
        {"customer_id": f"k{i}", "event": f"e{j}", "timestamp": START + timedelta(minutes=j), "channel": f"c{i % 2}"}
        for i in range(10)
        for j in (*range(10 - i), 20)
    ]
    table = compare_segments(
        make_steps(rows, con=con), jl.build_journeys(make_steps(rows, con=con)), by="channel", min_n=1, top=3
    )
    for _, part in table[table["kind"] == "event"].groupby("segment"):
        assert set(part["trait"]) == {"e0", "e20", "e1"}
    # The shares are still of all events.
    shares = table[(table["trait"] == "e0") & (table["segment"] == "c0")]["value"].iloc[0]
    assert shares == pytest.approx(np.mean([1 / (11 - i) for i in range(0, 10, 2)]))


def test_order_and_adjustment(six: ibis.Table) -> None:
    rows = [dict(row, customer_id=f"{row['customer_id']}{copy}") for row in six_customers() for copy in range(12)]
    steps = make_steps(rows, SIX_RULES, con=six.get_backend())
    table = compare_segments(steps, jl.build_journeys(steps, SIX_RULES), by="channel", min_n=20)
    kinds = list(dict.fromkeys(table["kind"]))
    assert kinds == [
        *("size", "conversion", "value", "time_to_goal", "tempo", "events", "journeys"),
        *("channel", "event", "transition", "stage"),
    ]
    assert table["segment"].drop_duplicates().tolist() == ["app", "web", "(none)", "ads"]
    for _, part in table.groupby(["segment", "kind"], sort=False):
        assert part["effect"].abs().is_monotonic_decreasing or part["effect"].isna().all()
    is_small = table[["n", "n_other"]].min(axis=1) < 20
    assert table["is_small"].tolist() == is_small.tolist()
    assert table.loc[is_small, "p"].isna().all()
    tested = table["p"].notna()
    assert tested.any()
    holm = multipletests(table.loc[tested, "p"], method="holm")[1]
    np.testing.assert_allclose(table.loc[tested, "p_adjusted"], holm)


ERRORS: list[tuple[dict[str, Any], str]] = [
    (
        {"by": "chanel"},
        'compare_segments: no column "chanel" in steps. Did you mean "channel"? The columns are customer_id, event, '
        "timestamp, channel, value, journey_id, session_id, stage, position, rank, step, gap_s, next_event",
    ),
    ({"by": 3}, "compare_segments: by must be a column of steps, a table, or something with .members; found 3"),
    (
        {"by": pd.DataFrame({"customer": ["anna"], "segment": ["a"]})},
        'by: the table has no column customer_id. Did you mean "customer"? It has customer, segment',
    ),
    (
        {"by": pd.DataFrame({"customer_id": ["anna"], "group": ["a"]})},
        "by: the table has no column segment or persona; it has customer_id, group",
    ),
    (
        {"by": pd.DataFrame({"customer_id": ["anna", "bert", "anna"], "segment": list("abc")})},
        'by: 1 customers have more than one row, such as "anna"; keep one row each',
    ),
    (
        {"by": pd.DataFrame({"customer_id": ["anna", "bert"], "segment": ["a", "a"]})},
        "compare_segments: by makes 1 segments (a …); it takes 2 to 50. Sort numbers into bands first",
    ),
    (
        {"by": "channel", "pair": ("web", "ap")},
        'compare_segments: pair names the segment "ap", which no customer is in. Did you mean "app"? The segments are '
        "app, web, (none), ads",
    ),
    (
        {"by": "channel", "pair": ("web", "web")},
        "compare_segments: pair must name two different segments; found ('web', 'web')",
    ),
    ({"by": "channel", "at": "start"}, 'compare_segments: at must be one of first, last, most; found "start"'),
    ({"by": "channel", "top": 0}, "compare_segments: top must be at least 1, found 0"),
    (
        {"by": "channel", "customers": ["plan"]},
        'customers: no column "plan" in steps. The columns are customer_id, event, timestamp, channel, value, '
        "journey_id, session_id, stage, position, rank, step, gap_s, next_event",
    ),
    (
        {"by": "channel", "customers": pd.DataFrame({"customer_id": ["anna"]})},
        "customers: the table has no column beside customer_id, so no attribute",
    ),
    (
        {"by": "channel", "customers": pd.DataFrame({"customer_id": ["anna"], "since": [pd.Timestamp("2020-01-01")]})},
        'customers: "since" is a time (timestamp(6)); make it a number (such as days since then) or a label first',
    ),
]


@pytest.mark.parametrize(("asked", "text"), ERRORS, ids=lambda value: str(value)[:40] if isinstance(value, str) else "")
def test_errors(six: ibis.Table, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(RuleError) as caught:
        compare_segments(six, jl.build_journeys(six, SIX_RULES), **asked)
    assert str(caught.value) == text


def test_ids_that_match_nobody(six: ibis.Table) -> None:
    members = pd.DataFrame({"customer_id": ["x", "y"], "segment": ["a", "b"]})
    with pytest.raises(SchemaError, match="no customer of `by` has a step in these journeys; do the ids match"):
        compare_segments(six, jl.build_journeys(six), by=members)


# Tests and intervals. What is simulated are values of customers; what is judged are their sums, as from the engine.

SEGMENTS = pd.Index(["a", "b"])
Pairs = Sequence[tuple[Floats, Floats]]  # a segment's customers and the others, of each run


def number_runs(pairs: Pairs) -> list[tuple[str, Floats]]:
    return [(f"{run}", values) for run, pair in enumerate(pairs) for values in pair]


def sum_shares(kind: str, pairs: Pairs) -> pd.DataFrame:
    """Each run is a trait: all are laid out and judged at a time."""
    runs = number_runs(pairs)
    found = pd.DataFrame({"segment": np.tile(SEGMENTS, len(pairs)), "trait": [run for run, _ in runs]})
    for power in (1, 2, 3):
        found[f"x{power}"] = [(values**power).sum() for _, values in runs]
    return lay_out_shares(found, kind, pd.Series([len(values) for values in pairs[0]], index=SEGMENTS))


def sum_flags(kind: str, pairs: Pairs) -> pd.DataFrame:
    runs = number_runs(pairs)
    found = pd.DataFrame({"segment": np.tile(SEGMENTS, len(pairs)), "trait": [run for run, _ in runs]})
    found["n_with"] = [values.sum() for _, values in runs]
    return lay_out_shares(found, kind, pd.Series([len(values) for values in pairs[0]], index=SEGMENTS))


def sum_numbers(kind: str, pairs: Pairs, *, is_log: bool = False) -> pd.DataFrame:
    base = pd.Series(0, index=SEGMENTS)
    moments = []
    for run, pair in enumerate(pairs):
        counted = []
        for segment, values in zip(SEGMENTS, pair, strict=True):
            whole = np.round(values * 10_000)
            grain = 10.0 ** np.maximum(np.floor(np.log10(np.maximum(whole, 1))) - 3, 0)
            bins, place, n = np.unique(np.floor(whole / grain) * grain, return_inverse=True, return_counts=True)
            counted.append(
                pd.DataFrame({"bin": bins, "n": n, "total": np.bincount(place, whole)}).assign(segment=segment)
            )
        found = pd.concat(counted, ignore_index=True)
        moments.append(sum_amounts(found, kind, f"{run}", 10_000, base, is_log=is_log))
    return pd.concat(moments, ignore_index=True)


def judge_own(moments: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of segment a: one per kind and run."""
    table = judge(pd.concat(moments, ignore_index=True), 2)
    return table[table["segment"] == "a"]


def find_p(moments: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """p by run (rows) and kind (columns); 1 where nothing varies."""
    return judge_own(moments).pivot(index="trait", columns="kind", values="p").fillna(1)


def draw_shares(rng: np.random.Generator, n: int, p: float, length: int) -> Floats:
    """Shares of an event in histories of about this length."""
    n_events = 1 + rng.poisson(length - 1, n)
    return rng.binomial(n_events, p) / n_events


SKEWED: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "orders of a few": lambda rng, n: rng.lognormal(3, 1.5, n) * (rng.random(n) < 0.15),
    "all spend": lambda rng, n: rng.lognormal(3, 2, n),
    "counts": lambda rng, n: rng.geometric(0.2, n).astype(float),
}


def is_at_most(share: float, level: float, runs: int) -> bool:
    """Within what chance alone can add (three standard errors)."""
    return share <= level + 3 * math.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize(("n", "n_other"), [(30, 2000), (150, 150)])
def test_without_a_difference_hardly_anything_is_found(n: int, n_other: int) -> None:
    """Rare and common shares, skewed values, equal in both segments: one false finding in twenty answers at most."""
    rng = np.random.default_rng(n)

    def draw(one: Callable[[int], Floats]) -> Pairs:
        return [(one(n), one(n_other)) for _ in range(RUNS)]

    moments = [
        sum_shares(f"{share} {length}", draw(lambda size, p=share, long=length: draw_shares(rng, size, p, long)))
        for share in (0.002, 0.02, 0.3)
        for length in (2, 20)
    ]
    moments += [sum_numbers(name, draw(lambda size, one=one: one(rng, size))) for name, one in SKEWED.items()]
    moments += [
        sum_flags(f"flag {share}", draw(lambda size, p=share: (rng.random(size) < p).astype(float)))
        for share in (0.01, 0.2)
    ]
    p = find_p(moments)
    assert p.shape == (RUNS, 11)
    # Of all p that Holm adjusts, the least becomes as many times as large.
    assert is_at_most((p.min(axis=1) * 11 < 0.05).mean(), 0.05, RUNS)
    for kind, values in p.items():
        assert is_at_most((values < 0.05).mean(), 0.05, RUNS), kind


def test_equal_means_of_unequal_spread_are_no_finding() -> None:
    """Few customers with two events each, many with thirty: the same share of an event, but noisier where few."""
    rng = np.random.default_rng(5)
    pairs = [(draw_shares(rng, 60, 0.3, 2), draw_shares(rng, 1500, 0.3, 30)) for _ in range(2 * RUNS)]
    assert is_at_most((find_p([sum_shares("x", pairs)])["x"] < 0.05).mean(), 0.05, 2 * RUNS)


def test_what_differs_is_found() -> None:
    rng, spend = np.random.default_rng(6), SKEWED["all spend"]
    runs = range(40)
    p = find_p(
        [
            sum_shares("shares", [(draw_shares(rng, 200, 0.15, 10), draw_shares(rng, 2000, 0.1, 10)) for _ in runs]),
            sum_numbers("twice the value", [(2 * spend(rng, 300), spend(rng, 2000)) for _ in runs]),
            sum_flags("flags", [(rng.random(300) < 0.3, rng.random(2000) < 0.2) for _ in runs]),
            # Of eighty customers nobody does what of the others about one in seven does.
            sum_shares("never", [(np.zeros(80), draw_shares(rng, 2000, 0.02, 8)) for _ in runs]),
        ]
    )
    assert p.shape == (40, 4)
    assert ((p < 0.05).mean() > 0.8).all()


def test_effects_are_known_ones() -> None:
    rng = np.random.default_rng(7)
    own, other = rng.normal(100.5, 1, 20_000), rng.normal(100, 1, 20_000)
    table = judge_own([sum_numbers("d", [(own, other)])])
    # Half a standard deviation between the means, which is a little less in ranks and in total deviations.
    assert table["effect"].iloc[0] == pytest.approx(0.5, abs=0.04)
    flags = judge_own([sum_flags("h", [(np.repeat([1.0, 0.0], [50, 50]), np.repeat([1.0, 0.0], [25, 75]))])])
    assert flags["effect"].iloc[0] == pytest.approx(2 * (math.asin(0.5**0.5) - math.asin(0.25**0.5)))


def test_intervals_cover_the_truth() -> None:
    rng, runs = np.random.default_rng(8), range(2 * RUNS)

    def draw_value(n: int, share: float) -> Floats:
        return rng.lognormal(2, 1, n) * (rng.random(n) < share)

    truth = {
        "shares": 0.25 - 0.2,
        "flags": 0.35 - 0.3,
        "value": 0.4 * math.exp(2.5) - 0.3 * math.exp(2.5),
        "typical": math.expm1(3.2) - math.expm1(3),
    }
    table = judge_own(
        [
            sum_shares("shares", [(draw_shares(rng, 80, 0.25, 4), draw_shares(rng, 600, 0.2, 12)) for _ in runs]),
            sum_flags("flags", [(rng.random(60) < 0.35, rng.random(500) < 0.3) for _ in runs]),
            sum_numbers("value", [(draw_value(400, 0.4), draw_value(2000, 0.3)) for _ in runs]),
            sum_numbers("typical", [(rng.normal(3.2, 0.8, 40), rng.normal(3, 1.2, 400)) for _ in runs], is_log=True),
        ]
    )
    error = 3 * math.sqrt(0.05 * 0.95 / len(runs))
    for kind, part in table.groupby("kind"):
        assert len(part) == len(runs)
        covered = part["low"].le(truth[kind]) & part["high"].ge(truth[kind])
        assert 0.95 - error - 0.01 <= covered.mean() <= 0.95 + error, kind


def test_nobody_and_all_alike() -> None:
    ones = np.ones(40)
    alike = [(ones, ones)]
    table = judge_own([sum_shares("all alike", alike), sum_flags("all", alike), sum_numbers("same", alike)])
    assert table["effect"].tolist() == [0, 0, 0]
    assert table["p"].isna().all()
    apart = judge_own([sum_flags("apart", [(ones, 0 * ones)]), sum_shares("shares apart", [(ones, 0 * ones)])])
    assert (apart["p"] < 1e-15).all()
    nobody = judge_own([sum_shares("nobody", [(np.zeros(0), ones)])])
    assert nobody[["value", "difference", "low", "high", "p"]].isna().all(axis=None)
    assert nobody["is_small"].all()


# RFM


def rfm_by_hand(steps: list[Row], events: Sequence[str] | None, end: datetime, n_groups: int) -> dict[str, Row]:
    bought = {}
    for customer, history in group_rows([row for row in steps if row["timestamp"] <= end], "customer_id").items():
        orders = [
            row
            for row in history
            if (row["event"] in events if events else row["value"] is not None and row["value"] > 0)
        ]
        bought[customer] = {
            "recency_s": (end - max(row["timestamp"] for row in orders)).total_seconds() if orders else None,
            "frequency": len(orders),
            "monetary": sum(row["value"] or 0 for row in orders) if "value" in steps[0] else None,
        }
    buyers = [row for row in bought.values() if row["frequency"]]
    for row in bought.values():
        row |= {"r": None, "f": None, "m": None, "segment": "never bought"}
        if not row["frequency"]:
            continue
        worse = {
            "r": sum(other["recency_s"] > row["recency_s"] for other in buyers),
            "f": sum(other["frequency"] < row["frequency"] for other in buyers),
        }
        if row["monetary"] is not None:
            worse["m"] = sum(other["monetary"] < row["monetary"] for other in buyers)
        row |= {name: 1 + n_groups * n // len(buyers) for name, n in worse.items()}
        row["segment"] = name_by_hand(row, n_groups)
    return bought


def name_by_hand(row: Row, n_groups: int) -> str:
    def third(score: float) -> int:
        place = (score - 1) / (n_groups - 1)
        return 0 if place > 2 / 3 + 1e-9 else 2 if place < 1 / 3 - 1e-9 else 1

    much = (row["f"] + (row["f"] if row["m"] is None else row["m"])) / 2
    names = (
        ("champions", "potential loyalists", "promising"),
        ("loyal", "need attention", "about to sleep"),
        ("cannot lose", "at risk", "hibernating"),
    )
    return names[third(row["r"])][third(much)]


@settings(max_examples=120 if FULL else 8)
@given(
    rows=random_logs(columns=("seq",), always=("value",)),
    events=st.sampled_from((None, ("a",), ("a", "b", "c", "d"))),
    as_of=ENDS,
    n_groups=st.integers(2, 7),
    has_value=st.booleans(),
)
def test_rfm_is_that_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], events: Any, as_of: datetime | None, n_groups: int, has_value: bool
) -> None:
    if not has_value:
        events = events or ("b",)
        rows = [{name: value for name, value in row.items() if name != "value"} for row in rows]
    present = {row["event"] for row in rows}
    events = events and tuple(event for event in events if event in present)
    steps = make_steps(rows, con=con)
    if events != ():
        expected = rfm_by_hand(fetch(steps), events, as_of or last_instant(rows), n_groups)
        found = fetch(score_rfm(steps, event=events, as_of=as_of, n_groups=n_groups))
        assert {row.pop("customer_id"): row for row in found} == expected
    drop_tables(con)


def test_rfm_by_hand_and_as_segments(con: ibis.BaseBackend) -> None:
    rows = []
    for i in range(60):  # customer i buys i % 4 times, the last time i days before the end
        times = [START + timedelta(days=100 - i, hours=-j) for j in range(i % 4)] or [START]
        value = 10.0 if i % 4 else None
        rows += [{"customer_id": f"k{i:02}", "event": "order", "timestamp": time, "value": value} for time in times]
    steps = make_steps(rows, con=con)
    table = score_rfm(steps, as_of=START + timedelta(days=100)).execute().set_index("customer_id")
    # 45 buyers: a third each bought once, twice, three times. Nobody has bought less than once, 15 less than twice …
    assert table.loc["k01", ["recency_s", "frequency", "monetary", "r", "f", "m"]].tolist() == [86_400, 1, 10, 5, 1, 1]
    assert table.loc["k02", ["f", "m"]].tolist() == [1 + 5 * 15 // 45] * 2
    assert table.loc["k03", ["f", "m", "segment"]].tolist() == [4, 4, "champions"]
    assert table.loc["k59", ["r", "f", "segment"]].tolist() == [1, 4, "cannot lose"]
    assert table.loc["k57", "segment"] == "hibernating"
    assert set(table.loc[table["frequency"] == 0, "segment"]) == {"never bought"}
    compared = compare_segments(steps, jl.build_journeys(steps), by=score_rfm(steps), min_n=1)
    sizes = compared[compared["kind"] == "size"].set_index("segment")["n"]
    assert sizes.to_dict() == table["segment"].value_counts().to_dict()


def test_rfm_errors(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": "order", "timestamp": START}]
    steps = make_steps(rows, con=con)
    with pytest.raises(RuleError) as caught:
        score_rfm(steps)
    assert str(caught.value) == (
        "score_rfm: this log has no values to tell purchases by; name the event that is one, such as "
        'event="order", or map the amounts in read_events(columns={"value": …})'
    )
    with pytest.raises(RuleError, match='score_rfm: event: 1 of 1 names are no event of this log: "oder" Did you mean'):
        score_rfm(steps, event="oder")
    for wrong in (1, 2.5, True):
        with pytest.raises(RuleError, match="give a whole number from 2"):
            score_rfm(steps, event="order", n_groups=wrong)  # type: ignore[arg-type]
