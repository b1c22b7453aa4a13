"""A log as reports load it: chosen customers and journeys, and steps that are kept for the next report."""

from __future__ import annotations

from pathlib import Path

import ibis
import pandas as pd
import pytest

from journeylab import JourneyRules, build_funnel, build_journeys, build_steps, load_log, read_events
from journeylab.errors import RuleError
from journeylab.loading import STORE_VARIABLE

# kim is first seen without a market, lea moves from pl to cz; kim's second journey begins in March.
LOG = """customer_id,event,timestamp,market
kim,look,2026-01-01,
kim,buy,2026-01-02,pl
kim,look,2026-03-01,pl
lea,look,2026-01-05,pl
lea,buy,2026-01-06,cz
max,look,2026-02-10,cz
max,buy,2026-03-20,cz
"""
MONTH = JourneyRules(journey_gap="30D", goal="buy", stages=("buy",), stage_of={"buy": "buy"})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def list_events(steps: ibis.Table) -> list[tuple[str, str]]:
    found = steps.order_by("customer_id", "position").execute()
    return list(zip(found["customer_id"], found["timestamp"].dt.strftime("%m-%d"), strict=True))


def test_without_a_choice_it_is_the_log(log: Path) -> None:
    loaded = load_log(log, rules=MONTH)
    by_hand = build_steps(read_events(log), MONTH)
    pd.testing.assert_frame_equal(
        *(each.order_by("customer_id", "position").execute() for each in (loaded.steps, by_hand))
    )
    assert loaded.as_of == pd.Timestamp("2026-03-20")
    assert loaded.headline.startswith("7 events of 3 customers")
    assert loaded.rules is MONTH
    assert set(loaded.journeys.journey_id.execute()) == {"kim/1", "kim/2", "lea/1", "max/1", "max/2"}


def test_where_keeps_whole_customers_by_what_is_first_known(log: Path) -> None:
    polish = load_log(log, rules=MONTH, where='market == "pl"')
    assert {customer for customer, _ in list_events(polish.steps)} == {"kim", "lea"}
    assert len(list_events(polish.steps)) == 5
    czech = load_log(log, rules=MONTH, where='market == "cz"')
    assert {customer for customer, _ in list_events(czech.steps)} == {"max"}
    # Watched to the log's end, though its own last event is older: a journey of January is over.
    assert polish.as_of == pd.Timestamp("2026-03-20")
    assert polish.journeys.filter(polish.journeys.journey_id == "lea/1").is_open.execute().tolist() == [False]


def test_a_group_that_never_did_a_step_has_a_funnel(log: Path) -> None:
    polish = load_log(log, rules=MONTH, where='market == "pl"')
    assert polish.events == {"look", "buy"}
    early = polish.steps.filter(polish.steps.event == "look")
    with pytest.raises(RuleError, match="neither an event nor a stage"):
        build_funnel(early, ["look", "buy", "bye"], known=polish.events)
    with pytest.raises(RuleError, match="neither an event nor a stage"):
        build_funnel(early, ["look", "pay"])
    funnel = build_funnel(early, ["look", "pay"], as_of=polish.as_of, known={"look", "pay"})
    assert funnel.table["n"].tolist() == [2, 0]


def test_since_keeps_journeys_that_began_then(log: Path) -> None:
    loaded = load_log(log, rules=MONTH, since="2026-02-10", as_of="2026-03-10")
    assert list_events(loaded.steps) == [("kim", "03-01"), ("max", "02-10"), ("max", "03-20")]
    # Events after the end of observation are not looked at.
    assert set(loaded.journeys.journey_id.execute()) == {"kim/2", "max/1"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"where": 'market == "de"'}, ["market", "none of 7 events of 3 customers"]),
        ({"since": "2027-01-01"}, ["since '2027-01-01'", "none of 7"]),
        ({"where": 'markt == "pl"'}, ["markt", 'did you mean "market"']),
        ({"since": "May"}, ["since must be a date", "May"]),
    ],
)
def test_refusals(log: Path, asked: dict[str, str], words: list[str]) -> None:
    with pytest.raises(RuleError) as caught:
        load_log(log, rules=MONTH, **asked)
    assert all(word.casefold() in str(caught.value).casefold() for word in words)


def test_steps_are_kept_until_the_log_or_the_question_changes(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "kept"))

    def count_kept() -> int:
        assert not list(tmp_path.glob("kept/*/*.partial"))
        return len(list(tmp_path.glob("kept/*/steps.parquet")))

    first = load_log(log, rules=MONTH)
    with monkeypatch.context() as patch:
        # The second time nothing is read or built.
        patch.delattr("journeylab.loading.read_events")
        again = load_log(log, rules=MONTH, where='market == "pl"')
        whole = load_log(log, rules=MONTH)
    assert count_kept() == 1
    frames = [each.steps.order_by("customer_id", "position").execute() for each in (first, whole)]
    pd.testing.assert_frame_equal(*frames)
    assert (whole.headline, whole.as_of) == (first.headline, first.as_of)
    assert len(list_events(again.steps)) == 5
    pd.testing.assert_frame_equal(
        whole.journeys.order_by("journey_id").execute(),
        build_journeys(first.steps, MONTH).order_by("journey_id").execute(),
    )
    load_log(log, rules=JourneyRules(journey_gap="90D"))
    assert count_kept() == 2
    load_log(log, rules=MONTH, columns=["place=market"])
    assert count_kept() == 3
    log.write_text(LOG.replace("max,buy,2026-03-20", "max,buy,2026-03-21"))
    assert load_log(log, rules=MONTH).as_of == pd.Timestamp("2026-03-21")
    assert count_kept() == 4
