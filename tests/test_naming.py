"""Names: from what stands out, in three languages, never twice, and never for what is not stable."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
import pytest

from journeylab.errors import RuleError
from journeylab.language import use_language
from journeylab.personas.naming import find_unstable, name_personas, rename_personas

Effects = dict[str, float]


def make_profile(*personas: Effects) -> pd.DataFrame:
    rows = [(k, event, effect) for k, own in enumerate(personas, start=1) for event, effect in own.items()]
    table = pd.DataFrame(rows, columns=["persona", "event", "effect"])
    return table.iloc[table["effect"].abs().argsort(kind="stable")[::-1]].sort_values("persona", kind="stable")


def make_traits(*rows: tuple[int, str, str, float, float], p: float = 0.001, is_small: bool = False) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["segment", "kind", "trait", "value", "effect"])
    return table.assign(p_adjusted=p, is_small=is_small)


def make_transitions(*rows: tuple[int, str | None, str | None, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["persona", "event", "next_event", "n"])
    ends = table[["event", "next_event"]].astype(object)
    return table.assign(**ends.where(ends.notna(), None))


NO_TRAITS = pd.DataFrame()
MOVES = make_transitions((1, None, "a", 9), (1, "a", "b", 9), (2, None, "a", 9), (2, "a", None, 9))
PROFILE = make_profile({"help": 1.2, "chat": 0.9, "shop": 0.3, "pay": -1.0}, {"pay": 1.0, "help": -1.0, "chat": -0.9})


def name_two(traits: pd.DataFrame = NO_TRAITS, profile: pd.DataFrame = PROFILE, **options: Any) -> list[str]:
    return name_personas(profile, traits, MOVES, **{"sizes": [6, 4], **options})


def test_the_events_that_stand_out() -> None:
    assert name_two() == ["help · chat", "pay"]


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", ["Quick: help · chat", "One visit, mostly app: pay"]),
        ("pl", ["Szybcy: help · chat", "Jedna wizyta, głównie app: pay"]),
        ("ru", ["Быстрые: help · chat", "Один визит, в основном app: pay"]),
    ],
)
def test_what_marks_them_beside_their_events(lang: str, expected: list[str]) -> None:
    traits = make_traits(
        (1, "tempo", "seconds between events", 40.0, -0.9),
        (1, "value", "value per customer", 50.0, 0.7),  # three marks are enough
        (2, "journeys", "journeys per customer", 1.02, -0.8),
        (2, "channel", "app", 0.6, 0.7),
        (2, "channel", "web", 0.3, 0.75),  # more than elsewhere, and yet not mostly
        (2, "conversion", "customers who reached the goal", 0.2, -0.4),  # too weak
    )
    with use_language(lang):
        assert name_two(traits) == expected


def test_qualities_that_may_be_chance_name_nobody() -> None:
    row = (1, "tempo", "seconds between events", 40.0, -0.9)
    assert name_two(make_traits(row, p=0.06)) == name_two()
    assert name_two(make_traits(row, p=float("nan"))) == name_two()
    assert name_two(make_traits(row, is_small=True)) == name_two()


def test_two_visits_are_not_one() -> None:
    assert name_two(make_traits((2, "journeys", "journeys per customer", 1.8, -0.9)))[1] == "pay"


def test_a_quality_alone_names_where_no_event_stands_out() -> None:
    traits = make_traits((1, "tempo", "seconds between events", 9_000.0, 0.9), (1, "journeys", "journeys", 4.2, 0.6))
    profile = make_profile({"a": 0.1}, {"a": -0.1, "b": 0.5})
    assert name_two(traits, profile) == ["Slow, returning", "b"]


def way(persona: int, n_b: int, n_c: int) -> list[tuple[int, str | None, str | None, int]]:
    """From the start to b or c, and on to the end."""
    return [(persona, None, "b", n_b), (persona, None, "c", n_c), (persona, "b", None, n_b), (persona, "c", None, n_c)]


def leave(persona: int, n_now: int, n_later: int) -> list[tuple[int, str | None, str | None, int]]:
    """All begin with a; some end there, others after b."""
    return [(persona, None, "a", n_now + n_later), (persona, "a", None, n_now), (persona, "a", "b", n_later)]


@pytest.mark.parametrize(
    ("lang", "start", "end"), [("en", "start", "end"), ("pl", "początek", "koniec"), ("ru", "начало", "конец")]
)
def test_where_nothing_stands_out_a_move_does(lang: str, start: str, end: str) -> None:
    def name(*rows: tuple[int, str | None, str | None, int]) -> list[str]:
        profile = make_profile({"a": 0.1}, {"a": 0.0})
        return name_personas(profile, NO_TRAITS, make_transitions(*rows), sizes=[3, 3])

    with use_language(lang):
        assert name(*way(1, 9, 1), *way(2, 1, 9)) == [f"{start} → b", f"{start} → c"]
        assert name(*leave(1, 9, 1), *leave(2, 1, 9)) == [f"a → {end}", "a → b"]


def test_no_name_is_used_twice() -> None:
    same = {"a": 1.0, "b": 0.9, "c": 0.8}
    profile = make_profile(same, same, same, {"x": 1.0}, {"x": 0.9})
    traits = make_traits((5, "value", "value per customer", 5.0, 0.8), p=0.2)
    names = name_personas(profile, traits, MOVES, sizes=[5, 4, 3, 2, 1])
    assert names == ["a · b", "a · b · c", "a · b (3)", "x", "x (5)"]
    tricky = make_profile({"x (3)": 1.0}, {"x": 1.0}, {"x": 0.9})
    assert name_personas(tricky, NO_TRAITS, MOVES, sizes=[3, 2, 1]) == ["x (3)", "x", "x (4)"]


@pytest.mark.parametrize(
    ("lang", "everyone", "nobody", "unstable"),
    [
        ("en", "everyone", "nobody", "persona 2 (unstable)"),
        ("pl", "wszyscy", "nikt", "persona 2 (niestabilna)"),
        ("ru", "все", "никто", "персона 2 (неустойчива)"),
    ],
)
def test_who_has_no_name_of_their_own(lang: str, everyone: str, nobody: str, unstable: str) -> None:
    with use_language(lang):
        assert name_personas(PROFILE.head(0), NO_TRAITS, MOVES, sizes=[7]) == [everyone]
        assert name_two(sizes=[7, 0]) == ["help · chat", nobody]
        assert name_two(unstable={2}) == ["help · chat", unstable]
        assert name_two(sizes=[7, 0], unstable={1, 2})[1] == unstable


def test_data_are_never_inflected() -> None:
    """Whatever is said, names of events and channels stand in it as they are."""
    kinds = (("tempo", -0.9, 40.0), ("tempo", 0.9, 40.0), ("channel", 0.9, 0.8), ("conversion", 0.9, 0.5))
    for lang, (kind, effect, value) in product(("en", "pl", "ru"), kinds):
        for name in ("{}", "płatność", "<b>", "Оплата"):
            with use_language(lang):
                found = name_two(make_traits((1, kind, name, value, effect)), make_profile({name: 1.0}, {}))[0]
            assert found.endswith(f": {name}")
            assert kind != "channel" or f" {name}: " in found


@dataclass(frozen=True, eq=False)
class Named:
    """As much of `Personas` as renaming looks at."""

    summary: pd.DataFrame
    stability: pd.DataFrame | None = None


def make_named(stable: list[bool] | None = None) -> Any:
    summary = pd.DataFrame({"persona": [1, 2, 3], "name": ["search · cart", "help · chat", "pay"], "n": [5, 3, 1]})
    if stable is None:
        return Named(summary)
    return Named(summary, pd.DataFrame({"persona": [1, 2, 3], "jaccard": 0.5, "is_stable": stable}))


def test_renaming() -> None:
    personas = make_named([True, True, False])
    renamed = rename_personas(personas, {2: " Help seekers ", 1: "help · chat"})
    assert renamed.summary["name"].tolist() == ["help · chat", "Help seekers", "pay"]
    assert personas.summary["name"].tolist() == ["search · cart", "help · chat", "pay"]
    assert rename_personas(personas, {}).summary["name"].tolist() == personas.summary["name"].tolist()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            {4: "x"},
            "rename_personas: 4 is no persona's number; they are 1 (search · cart), 2 (help · chat), 3 (pay).",
        ),
        (
            {"help chat": "x"},
            "rename_personas: 'help chat' is no persona's number; they are 1 (search · cart), 2 (help · chat), "
            '3 (pay). Did you mean "help · chat"?',
        ),
        ({1: " ", 2: None}, "rename_personas: the name of 1 is ''; give a text; the name of 2 is None; give a text"),
        ({1: "pay"}, 'rename_personas: personas 1 and 3 would both be called "pay"'),
        ({1: "x", 2: "x"}, 'rename_personas: personas 1 and 2 would both be called "x"'),
        (
            {3: "Payers"},
            "rename_personas: persona 3 is not stable: customers drawn anew do not make it again, so it has a number "
            "and no name",
        ),
    ],
)
def test_names_that_do_not_fit(names: dict[Any, Any], said: str) -> None:
    with pytest.raises(RuleError) as error:
        rename_personas(make_named([True, True, False]), names)
    assert str(error.value) == said


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RuleError) as error:
        rename_personas(make_named(), {4: "x", 1: "", 2: "pay"})
    assert str(error.value).count("; ") == 4


def test_unstable_personas() -> None:
    assert find_unstable(None) == set()
    assert find_unstable(make_named([True, False, False]).stability) == {2, 3}
