"""Transitions, step matrix, flows and variants against loops over each journey."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import ibis
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
)
from hypothesis import given
from hypothesis import strategies as st

import journeylab as jl
from journeylab.errors import RuleError

LOGS = random_logs(columns=("seq", "journey_id", "session_id", "stage", "value"), always=("channel",))


def closed_by_hand(steps: list[Row], journeys: list[Row] | None) -> dict[str, list[Row]]:
    """The steps of each journey in order; with journeys, of closed ones and as far as they were observed."""
    paths = {name: sorted(part, key=lambda row: row["step"]) for name, part in group_rows(steps, "journey_id").items()}
    if journeys is None:
        return paths
    return {row["journey_id"]: paths[row["journey_id"]][: row["n_steps"]] for row in journeys if not row["is_open"]}


def rank_counts(counts: Counter[Any], *, first: int = 0) -> list[Any]:
    """Keys with the largest count first within their `first` parts, equal ones by name with None in front."""
    return sorted(counts, key=lambda key: (key[:first], -counts[key], [part or "" for part in key[first:]]))


def transitions_by_hand(paths: dict[str, list[Row]], by: str | None) -> list[tuple[Any, ...]]:
    counts: Counter[tuple[Any, ...]] = Counter()
    made_by: dict[tuple[Any, ...], set[str]] = {}
    for journey, path in paths.items():
        names = [None, *(row["event"] for row in path), None]
        # The group is that of the event which is left; the start has none before it and takes the first event's.
        groups = [path[0][by] if by else None, *(row[by] if by else None for row in path)]
        for group, event, after in zip(groups, names, names[1:], strict=False):
            key = ("(none)" if group is None else group, event, after) if by else (event, after)
            counts[key] += 1
            made_by.setdefault(key, set()).add(journey)
    departures: Counter[tuple[Any, ...]] = Counter()
    for key, n in counts.items():
        departures[key[:-1]] += n
    return [(*key, counts[key], len(made_by[key]), counts[key] / departures[key[:-1]]) for key in rank_counts(counts)]


def matrix_by_hand(paths: dict[str, list[Row]], max_step: int) -> list[tuple[Any, ...]]:
    counts: Counter[tuple[Any, ...]] = Counter()
    for path in paths.values():
        for step in range(1, max_step + 1):
            counts[step, path[step - 1]["event"] if step <= len(path) else None] += 1
    return [(*key, counts[key], counts[key] / len(paths)) for key in rank_counts(counts, first=1)]


def flows_by_hand(paths: dict[str, list[Row]], max_step: int, top: int) -> list[tuple[Any, ...]]:
    volume = Counter(row["event"] for path in paths.values() for row in path[:max_step])
    kept = sorted(volume, key=lambda event: (-volume[event], event))[:top]
    counts: Counter[tuple[Any, ...]] = Counter()
    for path in paths.values():
        names = [row["event"] if row["event"] in kept else "(other)" for row in path] + [None]
        for step in range(1, min(max_step - 1, len(path)) + 1):
            counts[step, names[step - 1], names[step]] += 1
    return [(*key, counts[key]) for key in rank_counts(counts, first=1)]


def variants_by_hand(paths: dict[str, list[Row]]) -> list[tuple[Any, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    customers: dict[tuple[str, ...], set[str]] = {}
    for path in paths.values():
        variant = tuple(row["event"] for row in path)
        counts[variant] += 1
        customers.setdefault(variant, set()).add(path[0]["customer_id"])
    ranked = sorted(counts, key=lambda variant: (-counts[variant], variant))
    return [(v, counts[v], counts[v] / len(paths), len(customers[v]), len(v)) for v in ranked]


def records(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table.itertuples(index=False, name=None))


@examples(12)
@given(
    rows=LOGS,
    rules=random_rules(),
    has_journeys=st.booleans(),
    as_of=ENDS,
    max_step=st.integers(2, 8),
    top=st.integers(1, 5),
)
def test_paths_are_those_of_a_loop(
    con: ibis.BaseBackend,
    rows: list[Row],
    rules: jl.JourneyRules,
    has_journeys: bool,
    as_of: datetime | None,
    max_step: int,
    top: int,
) -> None:
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of) if has_journeys else None
    paths = closed_by_hand(fetch(steps), None if journeys is None else fetch(journeys))

    transitions = jl.count_transitions(steps, journeys)
    assert list(transitions.columns) == ["event", "next_event", "n", "n_journeys", "share"]
    assert records(transitions) == transitions_by_hand(paths, None)
    split = jl.count_transitions(steps, journeys, by="channel")
    assert list(split.columns) == ["channel", "event", "next_event", "n", "n_journeys", "share"]
    assert records(split) == transitions_by_hand(paths, "channel")
    matrix = jl.step_matrix(steps, journeys, max_step=max_step)
    assert list(matrix.columns) == ["step", "event", "n", "share"]
    assert records(matrix) == matrix_by_hand(paths, max_step)
    flows = jl.count_flows(steps, journeys, max_step=max_step, top=top)
    assert list(flows.columns) == ["step", "event", "next_event", "n"]
    assert records(flows) == flows_by_hand(paths, max_step, top)
    variants = jl.count_variants(steps, journeys)
    assert list(variants.columns) == ["variant", "n_journeys", "share", "n_customers", "n_steps"]
    assert records(variants) == variants_by_hand(paths)
    assert records(jl.count_variants(steps, journeys, top=top)) == records(variants)[:top]

    assert_reconciles(transitions, split, matrix, flows, variants, n_journeys=len(paths))
    drop_tables(con)


def assert_reconciles(
    transitions: pd.DataFrame,
    split: pd.DataFrame,
    matrix: pd.DataFrame,
    flows: pd.DataFrame,
    variants: pd.DataFrame,
    *,
    n_journeys: int,
) -> None:
    """What must hold of any log: each answer accounts for each journey."""
    for table, keys in ((transitions, ["event"]), (split, ["channel", "event"]), (matrix, ["step"])):
        shares = table.groupby(keys, dropna=False)["share"].sum()
        assert ((shares - 1).abs() < 1e-12).all()
    assert matrix.groupby("step")["n"].sum().eq(n_journeys).all()
    # As many starts as ends as journeys; what flows into an event flows out of it.
    assert transitions.loc[transitions["event"].isna(), "n"].sum() == n_journeys
    assert transitions.loc[transitions["next_event"].isna(), "n"].sum() == n_journeys
    into = transitions.dropna(subset="next_event").groupby("next_event")["n"].sum()
    out_of = transitions.dropna(subset="event").groupby("event")["n"].sum()
    assert into.to_dict() == out_of.to_dict()
    both = split.groupby(["event", "next_event"], dropna=False)["n"].sum()
    whole = transitions.set_index(["event", "next_event"])["n"]
    assert sorted(both.tolist()) == sorted(whole.tolist())
    assert variants["n_journeys"].sum() == n_journeys
    assert (variants["n_journeys"] * variants["n_steps"]).sum() == out_of.sum()
    there = flows.groupby("step")["n"].sum()
    assert there.get(1, 0) == n_journeys
    for step in there.index[1:]:
        assert there[step] == flows.loc[(flows["step"] == step - 1) & flows["next_event"].notna(), "n"].sum()


def test_transitions_of_six_customers_by_hand(six: ibis.Table) -> None:
    found = {(event, after): (n, journeys) for event, after, n, journeys, _ in records(jl.count_transitions(six))}
    assert found == {
        (None, "shop"): (5, 5),
        (None, "ad"): (1, 1),
        (None, "cart"): (1, 1),
        (None, "help"): (1, 1),
        ("ad", "shop"): (1, 1),
        ("shop", "cart"): (4, 4),
        ("shop", "shop"): (1, 1),
        ("shop", "pay"): (1, 1),
        # dora's first journey, fred's first.
        ("shop", None): (2, 2),
        ("cart", "pay"): (2, 2),
        ("cart", "shop"): (1, 1),
        ("cart", None): (2, 2),
        ("pay", None): (3, 3),
        ("help", None): (1, 1),
    }
    shares = jl.count_transitions(six).set_index(["event", "next_event"])["share"]
    assert shares["shop", "cart"] == 4 / 8
    assert shares["cart", "pay"] == 2 / 5


def test_closed_journeys_of_six_customers_by_hand(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)
    # Open and so left out as a whole: dora's second, emil's only, fred's second.
    assert records(jl.count_variants(six, journeys)) == [
        (("ad", "shop", "pay"), 1, 1 / 5, 1, 3),
        (("cart", "shop"), 1, 1 / 5, 1, 2),
        (("shop",), 1, 1 / 5, 1, 1),
        (("shop", "cart", "pay"), 1, 1 / 5, 1, 3),
        (("shop", "shop", "cart"), 1, 1 / 5, 1, 3),
    ]
    assert records(jl.step_matrix(six, journeys, max_step=4)) == [
        (1, "shop", 3, 3 / 5),
        (1, "ad", 1, 1 / 5),
        (1, "cart", 1, 1 / 5),
        (2, "shop", 3, 3 / 5),
        (2, None, 1, 1 / 5),
        (2, "cart", 1, 1 / 5),
        (3, None, 2, 2 / 5),
        (3, "pay", 2, 2 / 5),
        (3, "cart", 1, 1 / 5),
        (4, None, 5, 1.0),
    ]
    # shop is the only name kept: ad, cart and pay are the others.
    assert records(jl.count_flows(six, journeys, max_step=3, top=1)) == [
        (1, "(other)", "shop", 2),
        (1, "shop", None, 1),
        (1, "shop", "(other)", 1),
        (1, "shop", "shop", 1),
        (2, "shop", "(other)", 2),
        (2, "(other)", "(other)", 1),
        (2, "shop", None, 1),
    ]


def test_variants_of_six_customers_by_hand(six: ibis.Table) -> None:
    found = jl.count_variants(six, top=2)
    assert records(found) == [(("shop", "cart", "pay"), 2, 2 / 8, 2, 3), (("ad", "shop", "pay"), 1, 1 / 8, 1, 3)]


def test_a_group_that_changes_on_the_way_invents_no_transition(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": "k", "event": event, "timestamp": START + timedelta(minutes=i), "channel": channel}
        for i, (event, channel) in enumerate([("a", "web"), ("b", "app"), ("c", "web")])
    ]
    found = records(jl.count_transitions(make_steps(rows, con=con), by="channel")[["channel", "event", "next_event"]])
    assert sorted(found, key=str) == [
        ("app", "b", "c"),
        ("web", "a", "b"),
        ("web", "c", None),
        ("web", None, "a"),
    ]


def test_what_comes_after_the_end_of_observation_is_not_counted(con: ibis.BaseBackend) -> None:
    """A journey that had gone quiet by `as_of` counts as it stood then, though it woke up later."""
    rules = jl.JourneyRules(journey_gap="30D", dormant_after="1D")
    rows = [
        {"customer_id": "k", "event": event, "timestamp": START + timedelta(days=days)}
        for event, days in (("a", 0), ("b", 1), ("c", 9))
    ]
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=START + timedelta(days=5))
    assert jl.count_variants(steps, journeys)["variant"].tolist() == [("a", "b")]
    assert records(jl.count_transitions(steps, journeys)[["event", "next_event"]]) == [
        (None, "a"),
        ("a", "b"),
        ("b", None),
    ]
    assert records(jl.count_flows(steps, journeys)) == [(1, "a", "b", 1), (2, "b", None, 1)]
    assert jl.step_matrix(steps, journeys)["n"].tolist() == [1] * 12


def test_events_may_be_named_anything(con: ibis.BaseBackend) -> None:
    names = ["<script>alert(1)</script>", "$x_1$", "Вход", "NA", "None", "nan", "a,b", "000000001a", " ", "0012"]
    rows = [
        {"customer_id": "k", "event": name, "timestamp": START + timedelta(minutes=i)} for i, name in enumerate(names)
    ]
    steps = make_steps(rows, con=con)
    assert jl.count_variants(steps)["variant"].tolist() == [tuple(names)]
    assert set(jl.count_transitions(steps)["event"]) == {None, *names}
    assert jl.step_matrix(steps, max_step=10)["event"].tolist() == names


def test_which_names_are_kept_does_not_hang_on_the_order_of_rows(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": "k", "event": f"event number {i * 17 % 40:02}", "timestamp": START + timedelta(minutes=i)}
        for i in range(40)
    ]
    found = jl.count_flows(make_steps(rows, con=con), top=3, max_step=40)
    # All are as frequent: the first by name are kept.
    assert set(found["event"]) == {"event number 00", "event number 01", "event number 02", "(other)"}


def test_steps_may_lie_in_any_order(six: ibis.Table) -> None:
    turned = six.order_by(ibis.desc("position"), "customer_id")
    for count in (jl.count_transitions, jl.step_matrix, jl.count_flows, jl.count_variants):
        pd.testing.assert_frame_equal(count(turned), count(six))


def test_one_long_journey(con: ibis.BaseBackend) -> None:
    """Steps are ordered as numbers: the tenth is not put before the second."""
    rows = [{"customer_id": "k", "event": f"e{i % 7}", "timestamp": START + timedelta(seconds=i)} for i in range(2_000)]
    found = jl.count_variants(make_steps(rows, con=con))
    assert found["variant"].iloc[0] == tuple(f"e{i % 7}" for i in range(2_000))


def test_no_journey_is_closed_yet(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES, as_of="2026-01-01 12:00")
    for count in (jl.count_transitions, jl.step_matrix, jl.count_flows, jl.count_variants):
        assert count(six, journeys).empty
        assert list(count(six, journeys).columns) == list(count(six).columns)
    assert jl.count_transitions(six, journeys, by="channel").empty


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda steps: jl.count_transitions(steps, by="chanel"),
            'count_transitions: no column "chanel" to split by. Did you mean "channel"?',
        ),
        (
            lambda steps: jl.count_transitions(steps, by="event"),
            'count_transitions: "event" is a column of the answer itself; rename yours in read_events(columns=)',
        ),
        (lambda steps: jl.step_matrix(steps, max_step=0), "step_matrix: max_step must be at least 1, found 0"),
        (
            lambda steps: jl.count_flows(steps, max_step=1),
            "count_flows: max_step must be at least 2 and top at least 1, found 1 and 7",
        ),
        (
            lambda steps: jl.count_flows(steps, top=0),
            "count_flows: max_step must be at least 2 and top at least 1, found 5 and 0",
        ),
        (lambda steps: jl.count_variants(steps, top=0), "count_variants: top must be at least 1, found 0"),
    ],
)
def test_arguments_are_refused(six: ibis.Table, call: Any, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        call(six)
    assert str(caught.value) == message
