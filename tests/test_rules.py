"""Rules say what they mean, and refuse what nobody could mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import pytest

from journeylab.errors import RuleError
from journeylab.journeys import build_journeys, end_of_observation
from journeylab.rules import JourneyRules, parse_duration

HINT = 'must be a duration with a unit, such as "30m", "12h", "30D" or "2w"'
READY = "b2b, ecommerce, five_stages, leads, saas"
KNOWN = "stages, stage_of, goal, journey_gap, session_gap, end_after_goal, dormant_after"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("5min", 300),
        ("12h", 43_200),
        ("12H", 43_200),
        ("1d", 86_400),
        ("30D", 2_592_000),
        ("2w", 1_209_600),
        (" 2 W ", 1_209_600),
    ],
)
def test_durations_have_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text, "within") == seconds


# "1M" is a month to some and a minute to others.
@pytest.mark.parametrize("found", ["30", "0m", "1.5h", "-1d", "1M", "1y", "m", "", "1h 30m", 1800, None])
def test_durations_without_a_clear_unit_are_refused(found: Any) -> None:
    with pytest.raises(RuleError) as caught:
        parse_duration(found, "within")
    assert str(caught.value) == f"within {HINT}; found {found!r}"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"session_gap": "1800"}, f"session_gap {HINT}; found '1800'"),
        ({"journey_gap": 30}, f"journey_gap {HINT}; found 30"),
        ({"dormant_after": "soon"}, f"dormant_after {HINT}; found 'soon'"),
        (
            {"journey_gap": "10m"},
            "journey_gap (10m) is shorter than session_gap (30m): a session cannot span journeys",
        ),
        (
            {"dormant_after": "60D"},
            "dormant_after (60D) is longer than journey_gap (30D): the pause has ended the journey before. "
            "Where the log names its journeys, set journey_gap=None",
        ),
        ({"stages": ("a", "b", "a")}, "stages must differ from each other; found a, b, a"),
        (
            {"stages": ("look", "basket"), "stage_of": {"cart*": "baskett"}},
            'stage_of maps "cart*" to "baskett", which is not in stages. Did you mean "basket"?',
        ),
        (
            {"stage_of": {"/(/": "x"}},
            'stage_of: "/(/" is not a pattern that can be read (missing ), unterminated subpattern at position 0)',
        ),
        ({"end_after_goal": True}, "end_after_goal needs a goal"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        JourneyRules(**rules)
    assert str(caught.value) == message


def test_gaps_may_be_equal() -> None:
    rules = JourneyRules(journey_gap="30m", session_gap="30m", dormant_after="30m")
    assert rules.quiet_s == 1800


@pytest.mark.parametrize(
    ("journey_gap", "dormant_after", "quiet_s"),
    [("30D", None, 2_592_000), ("30D", "7D", 604_800), (None, None, None), (None, "60D", 5_184_000)],
)
def test_silence_that_ends_a_journey(journey_gap: str | None, dormant_after: str | None, quiet_s: int | None) -> None:
    assert JourneyRules(journey_gap=journey_gap, dormant_after=dormant_after).quiet_s == quiet_s


def test_rules_keep_their_own_copy() -> None:
    stages, stage_of = ["s"], {"a": "s"}
    rules = JourneyRules(stages=stages, stage_of=stage_of)  # type: ignore[arg-type]
    stages.append("t")
    stage_of["b"] = "s"
    assert rules.stages == ("s",)
    assert dict(rules.stage_of) == {"a": "s"}


def name_stages(rules: JourneyRules, events: list[str]) -> list[str | None]:
    table = ibis.memtable({"event": events, "i": range(len(events))}).mutate(
        stage=lambda t: rules.name_stage(t.event).cast("string")
    )
    return ibis.duckdb.connect().to_pyarrow(table.order_by("i"))["stage"].to_pylist()


def test_stage_of_an_event() -> None:
    rules = JourneyRules(
        stage_of={
            "/art/": "pattern",
            "/^car/": "later pattern",
            "car*": "short prefix",
            "cart_*": "long prefix",
            "cart_view": "exact",
            "/home": "a path, not a pattern",
            "/shop/*": "a path's prefix",
        }
    )
    expected: dict[str, str | None] = {
        "cart_view": "exact",
        "cart_add": "long prefix",
        "car": "short prefix",
        "artist": "pattern",
        "Car": None,
        "/home": "a path, not a pattern",
        "/shop/1": "a path's prefix",
        "scar": None,
        "x.*": None,
        "$x_1$": None,
    }
    assert name_stages(rules, list(expected)) == list(expected.values())


def test_earlier_pattern_wins_and_a_star_takes_the_rest() -> None:
    rules = JourneyRules(stage_of={"*": "rest", "/^b/": "second", "/a/": "third", "a": "first"})
    assert name_stages(rules, ["a", "ab", "b", ""]) == ["first", "rest", "rest", "rest"]
    rules = JourneyRules(stage_of={"/b/": "one", "/^ab/": "two"})
    assert name_stages(rules, ["ab", "a"]) == ["one", None]


def test_without_rules_no_event_has_a_stage() -> None:
    assert name_stages(JourneyRules(), ["a"]) == [None]


def test_goal_is_a_stage_where_stages_has_it(six: ibis.Table) -> None:
    events = {"cart": 5, "pay": 3}
    for goal, n in events.items():
        rules = JourneyRules(goal=goal)
        assert six.filter(rules.reaches_goal(six)).count().execute() == n
    staged = JourneyRules(stages=("look", "basket", "bought"), goal="basket")
    assert six.filter(staged.reaches_goal(six)).count().execute() == 5
    # Not listed in stages: an event that never happens.
    assert six.filter(JourneyRules(goal="basket").reaches_goal(six)).count().execute() == 0
    assert six.filter(JourneyRules().reaches_goal(six)).count().execute() == 0


@pytest.mark.parametrize("name", READY.split(", "))
def test_ready_sets_load(name: str) -> None:
    rules = JourneyRules.load(name)
    assert rules.goal in rules.stages
    assert set(rules.stage_of.values()) <= set(rules.stages)


def test_rules_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('stages = ["a", "b"]\ngoal = "b"\njourney_gap = "7D"\n[stage_of]\n"x*" = "a"\n', encoding="utf-8")
    assert JourneyRules.load(path) == JourneyRules.load(str(path))
    assert JourneyRules.load(path) == JourneyRules(stages=("a", "b"), goal="b", journey_gap="7D", stage_of={"x*": "a"})


def test_unknown_set_names_the_near_one() -> None:
    with pytest.raises(RuleError) as caught:
        JourneyRules.load("ecomerce")
    assert str(caught.value) == f'no rules at "ecomerce". Did you mean "ecommerce"? Ready sets: {READY}'


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError) as caught:
        JourneyRules.load(tmp_path / "none.toml")
    assert str(caught.value) == f'no rules at "{tmp_path / "none.toml"}". Ready sets: {READY}'


def test_unknown_toml_key_names_the_near_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('journey_gab = "7D"\n')
    with pytest.raises(RuleError) as caught:
        JourneyRules.load(path)
    assert str(caught.value) == f'mine.toml: no rule "journey_gab". Did you mean "journey_gap"? Known: {KNOWN}'


@pytest.mark.parametrize("content", [b"stages = [", b"goal = \xff"])
def test_broken_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RuleError, match=r"^mine\.toml is not TOML: "):
        JourneyRules.load(path)


# Bare numbers, words that pandas would read in its own way, and the time of day the tests run at.
@pytest.mark.parametrize("found", ["", "10", "soon", "now", "31.10.2026", 20261031, 1.5, True])
def test_end_of_observation_is_a_date(six: ibis.Table, found: Any) -> None:
    with pytest.raises(RuleError) as caught:
        build_journeys(six, as_of=found)
    assert str(caught.value) == f'as_of must be a date or a time, such as "2026-10-31"; found {found!r}'


def test_end_of_observation_in_utc(six: ibis.Table) -> None:
    import datetime as dt

    import pandas as pd

    noon = dt.datetime(2026, 1, 1, 12)
    same: list[Any] = ["2026-01-01T12:00", "2026-01-01 12:00:00", "2026-01-01T13:00+01:00", "2026-01-01T12:00Z", noon]
    same += [pd.Timestamp(noon), pd.Timestamp("2026-01-01 12:00:00.000000999"), pd.Timestamp(noon, tz="UTC")]
    same += [noon.replace(tzinfo=dt.UTC)]
    for given in same:
        assert end_of_observation(six, given) == noon
    assert (
        end_of_observation(six, dt.date(2026, 1, 1)) == end_of_observation(six, "2026-01-01") == dt.datetime(2026, 1, 1)
    )
    assert end_of_observation(six, None) == dt.datetime(2026, 3, 1, 10, 5)
