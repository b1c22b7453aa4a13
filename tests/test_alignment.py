"""Alignments against Dijkstra on the product of journey and plan, Indel distances, and a search of all ways."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

import journeylab.alignment
from journeylab.alignment import Alignment, align
from journeylab.errors import RuleError
from journeylab.personas.distances import Sequences
from journeylab.planned_path import PlannedPath

EVENTS = "abcd"


def find_cost(trace: str, plan: PlannedPath, *, is_open: bool = False) -> int:
    """The cheapest way through the product of journey and plan, by Dijkstra.

    A state is: events behind, steps behind, and whether the last of these was done (only then can it be repeated).
    """
    steps, n = plan.names, len(plan.steps)
    waiting, settled = [(0, (0, 0, False))], set()
    while waiting:
        cost, state = heapq.heappop(waiting)
        if state in settled:
            continue
        settled.add(state)
        i, j, was_done = state
        if i == len(trace) and (j == n or is_open):
            return cost
        moves = []
        if i < len(trace):
            moves.append((1, (i + 1, j, was_done)))
            if j < n and trace[i] in steps[j]:
                moves.append((0, (i + 1, j + 1, True)))
            if was_done and plan.is_repeatable[j - 1] and trace[i] in steps[j - 1]:
                moves.append((0, (i + 1, j, True)))
        if j < n:
            moves.append((1, (i, j + 1, True)))
            if plan.is_optional[j]:
                moves.append((0, (i, j + 1, False)))
        for price, target in moves:
            heapq.heappush(waiting, (cost + price, target))
    raise AssertionError("every journey has an alignment")


def price(places: Sequence[int], plan: PlannedPath, *, is_open: bool) -> int:
    """What does it cost to have the events at these places (-1: at none)?"""
    done = {place for place in places if place >= 0}
    due = range(max(done, default=-1) + 1 if is_open else len(plan.steps))
    return sum(place < 0 for place in places) + sum(step not in done and not plan.is_optional[step] for step in due)


def is_valid(trace: str, places: Sequence[int], plan: PlannedPath) -> bool:
    """Do the events with a place make a way through the plan?"""
    placed = [(event, place) for event, place in zip(trace, places, strict=True) if place >= 0]
    return all(event in plan.names[place] for event, place in placed) and all(
        later > place or (later == place and plan.is_repeatable[place]) for (_, place), (_, later) in pairwise(placed)
    )


def choose(trace: Sequence[str], plan: PlannedPath, *, is_open: bool) -> list[int]:
    """Of all ways the cheapest, and of these the one whose first event has a place, and the earliest; and so on."""
    n = len(plan.steps)
    required = [0 if is_optional else 1 for is_optional in plan.is_optional]

    @cache
    def search(i: int, last: int) -> tuple[int, list[int]]:
        if i == len(trace):
            return (0 if is_open else sum(required[last + 1 :])), []
        cost, rest = search(i + 1, last)
        ways = [(cost + 1, [n, *rest])]
        for step in range(max(last, 0), n):
            if trace[i] in plan.names[step] and (step > last or plan.is_repeatable[step]):
                cost, rest = search(i + 1, step)
                ways.append((cost + sum(required[last + 1 : step]), [step, *rest]))
        return min(ways)

    return [-1 if step == n else step for step in search(0, -1)[1]]


def lay(traces: Sequence[str], plan: PlannedPath, is_open: Sequence[bool]) -> tuple[Alignment, list[list[int]]]:
    """The alignment, and the places of each trace."""
    codes = np.array([EVENTS.index(event) for trace in traces for event in trace], dtype=np.uint8)
    sequences = Sequences(codes, np.append(0, np.cumsum([len(trace) for trace in traces])))
    belongs = np.array([[event in names for event in EVENTS] for names in plan.names])
    alignment = align(sequences, belongs, plan, np.array(is_open, dtype=bool))
    return alignment, [part.tolist() for part in np.split(alignment.place, sequences.bounds[1:-1])]


@st.composite
def plans(draw: st.DrawFn, most: int = 4) -> PlannedPath:
    """Paths of which every event of the alphabet is a step: others never come to be aligned."""
    alternatives = st.lists(st.sampled_from(EVENTS), min_size=1, max_size=2, unique=True)
    steps = [*draw(st.lists(alternatives, min_size=1, max_size=most)), list(EVENTS[: draw(st.integers(1, 4))])]
    rest = [event for event in EVENTS if not any(event in step for step in steps)]
    steps = draw(st.permutations([*steps, rest] if rest else steps))
    labels = [" / ".join(step) for step in steps]
    some = st.lists(st.sampled_from(labels), unique=True)
    return PlannedPath(steps, optional=draw(some), repeatable=draw(some))


TRACES = st.lists(st.text(EVENTS, max_size=12), min_size=1, max_size=8)


@examples(60)
@given(traces=TRACES, plan=plans(), opens=st.lists(st.booleans(), min_size=8, max_size=8))
def test_costs_are_those_of_dijkstra(traces: list[str], plan: PlannedPath, opens: list[bool]) -> None:
    opens = opens[: len(traces)]
    alignment, places = lay(traces, plan, opens)
    expected = [find_cost(trace, plan, is_open=is_open) for trace, is_open in zip(traces, opens, strict=True)]
    assert alignment.cost.tolist() == expected
    for trace, way, is_open, cost in zip(traces, places, opens, expected, strict=True):
        assert is_valid(trace, way, plan)
        assert price(way, plan, is_open=is_open) == cost


@examples(40)
@given(traces=TRACES, plan=plans(), is_open=st.booleans())
def test_ties_are_parted_as_documented(traces: list[str], plan: PlannedPath, is_open: bool) -> None:
    _, places = lay(traces, plan, [is_open] * len(traces))
    assert places == [choose(trace, plan, is_open=is_open) for trace in traces]


@pytest.mark.parametrize("seed", range(3))
def test_a_straight_path_is_the_indel_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = "".join(rng.choice(list(EVENTS), size=12)) + EVENTS
    lengths = np.append(rng.integers(0, 40, size=300), 3_000)
    traces = ["".join(rng.choice(list(EVENTS), size=length)) for length in lengths]
    alignment, places = lay(traces, PlannedPath(list(path)), [False] * len(traces))
    assert alignment.cost.tolist() == [Indel.distance(trace, path) for trace in traces]
    matched = [sum(place >= 0 for place in way) for way in places]
    assert alignment.cost.tolist() == [len(trace) + len(path) - 2 * n for trace, n in zip(traces, matched, strict=True)]
    open_ones, _ = lay(traces[:50], PlannedPath(list(path)), [True] * 50)
    prefixes = [path[:j] for j in range(len(path) + 1)]
    assert open_ones.cost.tolist() == [min(Indel.distance(trace, part) for part in prefixes) for trace in traces[:50]]


def test_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    traces = ["".join(rng.choice(list(EVENTS), size=length)) for length in rng.integers(0, 60, size=200)]
    plan = PlannedPath(["a", "b", "c", "d", "a"], optional="b", repeatable="c")
    whole, places = lay(traces, plan, [False] * 200)
    monkeypatch.setattr(journeylab.alignment, "_CELLS", 1_000)
    parts, same_places = lay(traces, plan, [False] * 200)
    assert same_places == places
    assert np.array_equal(parts.cost, whole.cost)


@pytest.mark.parametrize(
    ("trace", "is_open", "facts"),
    [
        ("abcd", False, {}),
        ("abd", False, {"skipped": "c"}),
        ("ab", False, {"skipped": "cd", "ended": "cd"}),
        ("ab", True, {}),
        ("b", True, {"skipped": "a"}),
        ("", False, {"skipped": "abcd", "ended": "abcd"}),
        ("", True, {}),
        ("abbcd", False, {"repeated": "b"}),
        ("abbbcd", False, {"repeated": "bb"}),
        # Of two orders the one that has a place for the first event.
        ("acbd", False, {"reordered": "b"}),
        ("bacd", False, {"reordered": "a"}),
        # Too early, and still to come: out of its place already, and nothing is missing yet.
        ("cab", True, {"reordered": "c"}),
        # Done in its turn too: then the early one was once more than planned.
        ("cabc", True, {"repeated": "c"}),
        ("dabc", False, {"reordered": "d"}),
        # Out of its place twice: out of order, and once more than planned.
        ("ddabc", False, {"reordered": "d", "repeated": "d"}),
    ],
)
def test_what_is_out_of_place(trace: str, is_open: bool, facts: dict[str, str]) -> None:
    alignment, _ = lay([trace], PlannedPath(list(EVENTS)), [is_open])

    def name(counts: np.ndarray) -> str:
        return "".join(event * int(n) for event, n in zip(EVENTS, counts[0], strict=True))

    kinds = ("skipped", "reordered", "repeated")
    assert {kind: name(getattr(alignment, kind)) for kind in kinds} == {kind: facts.get(kind, "") for kind in kinds}
    assert name(alignment.ended & alignment.skipped) == facts.get("ended", "")


def test_optional_and_repeatable_steps() -> None:
    plan = PlannedPath(["a", ["b", "c"], "d"], optional="b / c", repeatable="b / c")
    traces = ["ad", "abd", "abccbd", "bad", "abdc", "aad"]
    alignment, places = lay(traces, plan, [False] * len(traces))
    assert places == [[0, 2], [0, 1, 2], [0, 1, 1, 1, 1, 2], [-1, 0, 2], [0, 1, 2, -1], [0, -1, 2]]
    assert alignment.cost.tolist() == [0, 0, 0, 1, 1, 1]
    # An optional step at the wrong place is out of order, and costs 1: nobody misses it at its own.
    assert alignment.reordered.tolist() == [[False, row == 3, False] for row in range(6)]
    assert alignment.repeated.tolist() == [[int(row == 5), int(row == 4), 0] for row in range(6)]


def test_an_event_of_several_steps() -> None:
    """The shop is planned at the beginning and at the end: one that is out of place stands in for the missing one."""
    plan = PlannedPath(["a", "b", "a", "c", "d"])
    alignment, places = lay(["abcad", "abacda"], plan, [False, False])
    assert places == [[0, 1, 3, -1, 4], [0, 1, 2, 3, 4, -1]]
    assert alignment.reordered.tolist() == [[False, False, True, False, False], [False] * 5]
    assert alignment.repeated.tolist() == [[0] * 5, [1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"steps": []}, "PlannedPath: steps must be a list of events, stages or alternatives; found []"),
        ({"steps": [3]}, "PlannedPath: a step is an event, a stage or several of them; found 3"),
        ({"steps": ["a", []]}, "PlannedPath: steps must be a list of events, stages or alternatives; found ['a', []]"),
        ({"optional": "chart"}, 'PlannedPath: optional must name steps; not among shop, cart, pay: "chart" '),
        ({"repeatable": ["shopp"]}, 'among shop, cart, pay: "shopp" Did you mean "shop"?'),
        ({"ignore": 3}, "PlannedPath: ignore must be names; found 3"),
        ({"ignore": ["cart", "x"]}, "PlannedPath: both a step and ignored: cart; take them out of one of the two"),
    ],
)
def test_plans_that_are_refused(switches: dict[str, object], message: str) -> None:
    with pytest.raises(RuleError) as error:
        PlannedPath(**{"steps": ["shop", "cart", "pay"], **switches})
    assert message.strip() in str(error.value)
