"""Persona cards: which parts they show, with which base, and that text from data stays text."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from test_svg import HOSTILE

from journeylab.cards import draw_personas
from journeylab.picture import Picture

EVENTS = ("search", "cart", "pay", "help", "chat", "call", "wishlist")


def make_summary() -> pd.DataFrame:
    """Payers, and a few who ask for help; of these nobody reached the goal or brought any value."""
    payers = {"persona": 1, "name": "search · cart", "n": 520, "share": 0.9454, "low": 0.923, "high": 0.961}
    payers |= {"n_events_median": 7.0, "n_journeys_mean": 1.25, "n_reached": 319, "conversion": 0.6135}
    payers |= {"conversion_low": 0.571, "conversion_high": 0.654, "value_mean": 102.881, "value_low": 87.88}
    payers |= {"value_high": 117.88, "n_goal_journeys": 362, "time_to_goal_median_s": 672.0, "gap_median_s": 36.0}
    payers |= {"drop_off": "cart", "drop_off_share": 0.27, "n_dropped": 174, "next_step": "pay"}
    payers |= {"next_step_share": 0.24, "n_open": 264, "channels": "web 55 %, app 45 %", "top_events": "search 18 %"}
    payers |= {"probability_mean": 0.934, "share_atypical": 0.021}
    others = {name: np.nan if isinstance(value, float) else value for name, value in payers.items()}
    others |= {"persona": 2, "name": "help · chat", "n": 30, "share": 0.0546, "low": 0.039, "high": 0.077}
    others |= {"drop_off": None, "next_step": None, "channels": "", "n_events_median": 2.0, "n_journeys_mean": 1.0}
    return pd.DataFrame([payers, others])


def make_profile() -> pd.DataFrame:
    rows = [
        (persona, event, 0.3, 0.2, 0.1 * sign, sign * (1.2 - 0.1 * i))
        for persona, sign in ((1, 1), (2, -1))
        for i, event in enumerate(EVENTS)
    ]
    return pd.DataFrame(rows, columns=["persona", "event", "share", "share_elsewhere", "difference", "effect"])


def make_trait(kind: str, trait: str, measure: str, value: float, other: float, effect: float, p: float = 0.001) -> Any:
    row = {"segment": 1, "kind": kind, "trait": trait, "measure": measure, "value": value, "value_other": other}
    return row | {"difference": value - other, "effect": effect, "p_adjusted": p}


def make_personas(**parts: Any) -> Any:
    nothing = {"traits": pd.DataFrame(), "medoids": pd.DataFrame(), "stability": None, "verdict": None, "reason": ""}
    return SimpleNamespace(**{"summary": make_summary(), "profile": make_profile(), "stated": None, **nothing, **parts})


def parse(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(picture.html)


def read_cards(picture: Picture) -> list[str]:
    """The text of each card, in one line."""
    return [" ".join(" ".join(card.itertext()).split()) for card in parse(picture).iter("section")]


class TestFigures:
    def test_every_figure_names_its_base(self) -> None:
        first, _ = read_cards(draw_personas(make_personas()))
        for words in (
            "94.5 % (92.3–96.1 %) · 520 customers",
            "Goal reached 61.4 % (57.1–65.4 %) of 520 customers",
            "Value 102.88 (87.88 – 117.88) mean of 520 customers",
            "Time to goal 11 min 12 s median of 362 journeys",
            "Stops after cart 27.0 % of 174 journeys that ended short of the goal",
            "Next step pay 24.0 % of 264 open journeys, if they go on",
            "Channels web 55 %, app 45 %",
            "Events 7 median per customer",
            "Journeys 1.2 mean per customer",
            "Between events 36 s median",
            "2.1 % of them fit none · sure of each by 0.93 (mean probability)",
        ):
            assert words in first

    def test_what_the_log_cannot_tell_is_left_out(self) -> None:
        _, second = read_cards(draw_personas(make_personas()))
        for words in ("Goal", "Value", "Time to goal", "Stops", "Next step", "Channels", "fit none", "nan", "None"):
            assert words not in second

    def test_a_mean_without_bounds_stands_alone(self) -> None:
        summary = make_summary().assign(value_low=np.nan, value_high=np.nan)
        assert "Value 102.88 mean of 520 customers" in read_cards(draw_personas(make_personas(summary=summary)))[0]

    def test_a_small_sample_is_flagged(self) -> None:
        small = make_summary().assign(n=[520, 29])
        first, second = read_cards(draw_personas(make_personas(summary=small)))
        assert second.endswith("Fewer than 30 customers: read with care")
        assert "read with care" not in first

    def test_one_persona(self) -> None:
        personas = make_personas(summary=make_summary().head(1), profile=make_profile().head(0))
        assert draw_personas(personas).alt == "1 persona of 520 customers: Persona 1, search · cart, 94.5 %."


class TestBars:
    def test_the_strongest_five_events_with_their_effect(self) -> None:
        first, second = read_cards(draw_personas(make_personas()))
        assert "What sets them apart search +10.0 pp d +1.20 cart +10.0 pp d +1.10" in first
        assert "search −10.0 pp d −1.20" in second
        assert "call" not in first

    def test_traits_stand_where_they_belong(self) -> None:
        rows = [
            make_trait("attribute", "age: 25–34", "share", 0.41, 0.22, 0.44),
            make_trait("attribute", "age", "mean", 33.1, 41.7, -0.52),
            make_trait("tempo", "seconds between events", "typical", 68.8, 125.0, -2.4),
            make_trait("channel", "app", "mean", 0.45, 0.25, 0.6),
            make_trait("transition", "cart → pay", "mean", 0.3, 0.1, 0.9),
            make_trait("stage", "checkout", "mean", 0.3, 0.1, 0.9),
        ]
        first, second = read_cards(draw_personas(make_personas(traits=pd.DataFrame(rows))))
        travel = (
            "How they travel Time between events typically 1 min 9 s against 2 min 5 s d −2.40 app (channel) +20.0 pp"
        )
        assert travel in first
        assert "Who they are age 33.10 against 41.70 d −0.52 age: 25–34 41.0 % against 22.0 % d +0.44" in first
        assert "Moves that set them apart cart → pay +20.0 pp d +0.90" in first
        assert "checkout" not in first
        assert "How they travel" not in second

    def test_all_bars_share_one_scale(self) -> None:
        traits = pd.DataFrame([make_trait("tempo", "seconds between events", "typical", 68.8, 125.0, -2.4)])
        bars = [i.get("style", "") for i in parse(draw_personas(make_personas(traits=traits))).iter("i")]
        assert "right:50%;width:50.0%" in bars
        assert "left:50%;width:25.0%" in bars

    @pytest.mark.parametrize(("effect", "p"), [(0.9, 0.05), (0.9, np.nan), (0.19, 0.001)])
    def test_what_may_be_chance_or_is_next_to_nothing_is_not_shown(self, effect: float, p: float) -> None:
        traits = pd.DataFrame([make_trait("channel", "app", "mean", 0.45, 0.25, effect, p)])
        assert "app (channel)" not in read_cards(draw_personas(make_personas(traits=traits)))[0]


class TestJourney:
    def chips(self, journey: tuple[str, ...], n_same: int = 12) -> tuple[list[str], str]:
        medoid = {"persona": 1, "n_events": len(journey), "journey": journey, "n_same": n_same}
        picture = draw_personas(make_personas(medoids=pd.DataFrame([medoid])))
        return ["".join(chip.itertext()) for chip in parse(picture).iter("li")], read_cards(picture)[0]

    def test_is_a_path_of_chips(self) -> None:
        chips, card = self.chips(("search", "cart", "cart", "cart", "pay"))
        assert chips == ["search", "cart ×3", "pay"]
        assert "5 events, nearest to all others; 12 of 520 customers made just this one" in card

    def test_of_a_long_one_the_middle_is_left_out(self) -> None:
        chips, _ = self.chips(tuple(f"e{i // 2}" for i in range(60)))
        assert len(chips) == 14
        assert chips[9:11] == ["e9 ×2", "34 more"]
        assert chips[-1] == "e29 ×2"

    def test_of_few_it_is_not_said_how_few(self) -> None:
        assert "fewer than 10 of 520 customers made just this one" in self.chips(("pay",), n_same=1)[1]


class TestSureness:
    def test_verdict(self) -> None:
        picture = draw_personas(make_personas(verdict="weak", reason="One of two is found again."))
        assert "Weakly there. One of two is found again." in " ".join("".join(parse(picture).itertext()).split())
        assert "jl-verdict" not in re.sub("<style>.*?</style>", "", draw_personas(make_personas()).html)

    def test_stability(self) -> None:
        stability = pd.DataFrame({"persona": [1, 2], "jaccard": [0.93, 0.41], "is_stable": [True, False]})
        picture = draw_personas(make_personas(stability=stability))
        first, second = read_cards(picture)
        assert "Found again in re-draws: 0.93 (mean Jaccard)" in first
        assert "Not stable, found again in re-draws: 0.41 (mean Jaccard)" in second
        assert [card.get("class") for card in parse(picture).iter("section")] == ["jl-card", "jl-card shaky"]


class TestStated:
    def card(self, n: list[int | None]) -> str:
        said = {
            "persona": [1, 1, 1],
            "kind": ["goal", "goal", "quote"],
            "text": ["Pay fast", "See the date", "Let me."],
        }
        stated = pd.DataFrame(said).assign(n=pd.array(n, dtype="Int64"))
        first, second = read_cards(draw_personas(make_personas(stated=stated)))
        assert "Stated" not in second
        return first

    def test_one_base_stands_in_the_head(self) -> None:
        words = "Stated in 7 interviews, not measured Goals Pay fast See the date In their words “Let me.”"
        assert words in self.card([7, 7, 7])

    def test_each_has_its_own(self) -> None:
        words = "Stated, not measured Goals Pay fast (1 interview) See the date In their words “Let me.” (3 interviews)"
        assert words in self.card([1, None, 3])

    def test_nobody_counted(self) -> None:
        assert "Stated, not measured Goals Pay fast See the date In" in self.card([None, None, None])


def test_text_from_data_stays_text() -> None:
    traits = [make_trait(kind, name, "mean", 0.5, 0.2, 0.9) for kind in ("channel", "attribute") for name in HOSTILE]
    traits += [make_trait("transition", f"{name} → x", "mean", 0.5, 0.2, 0.9) for name in HOSTILE]
    summary = (
        make_summary()
        .assign(name=HOSTILE[:2], drop_off=HOSTILE[0], next_step=HOSTILE[1], channels=HOSTILE[6])
        .assign(drop_off_share=0.5, next_step_share=0.5)
    )
    personas = make_personas(
        summary=summary,
        profile=make_profile().assign(event=[*HOSTILE[:7]] * 2),
        traits=pd.DataFrame(traits),
        medoids=pd.DataFrame([{"persona": 1, "n_events": len(HOSTILE), "journey": HOSTILE, "n_same": 50}]),
        verdict="weak",
        reason=HOSTILE[0],
        stated=pd.DataFrame({"persona": 1, "kind": "quote", "text": HOSTILE, "n": pd.array([1] * 10, dtype="Int64")}),
    )
    picture = draw_personas(personas)
    root = parse(picture)
    assert not {element.tag for element in root.iter()} & {"script", "svg", "a", "img"}
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert len(picture.html) < 60_000
    assert draw_personas(personas).html == picture.html
    # nothing of it is taken for a formula
    shielded = next(element for element in root.iter("div"))
    assert shielded.get("class") == "mathjax_ignore tex2jax_ignore"
    rest = [child for child in root if child is not shielded]
    assert not any("$" in "".join(child.itertext()) for child in rest)
