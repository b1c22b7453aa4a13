"""Moments that matter: found where one was planted, and nowhere else."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import START, make_events

import journeylab as jl
from journeylab.journeymap.measure import count_reach, read_seen, read_visits
from journeylab.journeymap.moments import find_moments

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
N_LOGS = 100 if FULL else 20
STAGES = ("find", "look", "choose", "basket", "pay", "bought")
RULES = jl.JourneyRules(
    stages=STAGES, stage_of={f"{stage}_*": stage for stage in STAGES}, goal="bought", journey_gap="2D"
)
# How many events a visit of a stage has, at most: in any shop people look more than they pay.
LENGTHS = (2, 8, 5, 2, 1)


def draw_log(
    seed: int,
    *,
    n: int = 600,
    per: str = "stage",
    leave: float = 0.12,
    worse: tuple[str, float] | None = None,
    sad: tuple[str, float] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and answers of customers who walk from stage to stage.

    Who comes to a stage leaves there with `leave`, or, with `per="event"`, after each event with a third of it. `worse`
    adds to that at one stage. Each customer has a mood of their own and rates every other stage; `sad` moves one.
    """
    rng = np.random.default_rng([seed, 11])
    events, answers = [], []
    for who in range(n):
        now, position, mood = START + timedelta(minutes=int(rng.integers(0, 80_000))), 0, rng.normal(0.4, 0.3)
        channel = ("web", "app", "ads")[int(rng.integers(3))]
        for stage, length in zip(STAGES, LENGTHS, strict=False):
            risk = leave + (worse[1] if worse and worse[0] == stage else 0.0)
            n_events = int(rng.integers(1, length + 1))
            stays = rng.random(n_events) >= risk / 3 if per == "event" else np.full(n_events, True)
            leaves = not stays.all() if per == "event" else rng.random() < risk
            n_events = int(np.argmin(stays)) + 1 if per == "event" and leaves else n_events
            for i in range(n_events):
                position += 1
                now += timedelta(seconds=int(rng.integers(5, 600)))
                row = {"customer_id": f"c{who:05}", "event": f"{stage}_{i % 2}", "timestamp": now, "channel": channel}
                events.append(row)
            if rng.random() < 0.25:
                feeling = rng.normal(mood, 0.4) + (sad[1] if sad and sad[0] == stage else 0.0)
                rated = round(5 * float(np.clip(feeling, -1, 1))) / 5
                answers.append(
                    {"customer_id": f"c{who:05}", "about_position": position, "about_stage": stage, "feeling": rated}
                )
            if leaves:
                break
        else:
            events.append({**events[-1], "event": "bought_0", "timestamp": now + timedelta(seconds=60)})
    events.append({**events[0], "customer_id": "last", "timestamp": START + timedelta(days=90)})
    return events, answers


def measure(con: ibis.BaseBackend, log: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> pd.DataFrame:
    """The moments of a log, by the tables that the map is made of."""
    steps = jl.build_steps(make_events(log[0], con), RULES)
    journeys = jl.build_journeys(steps, RULES)
    visits = read_visits(read_seen(steps, journeys, STAGES), journeys)
    answers = pd.DataFrame(log[1])
    feelings = (
        answers.assign(squares=answers["feeling"] ** 2)
        .groupby("about_stage")
        .agg(n=("feeling", "size"), sum=("feeling", "sum"), squares=("squares", "sum"))
        .rename_axis("stage")
        .reset_index()
    )
    moments = find_moments(count_reach(visits), feelings)
    return moments[moments["is_moment"]]


def test_no_moment_where_none_was_planted(con: ibis.BaseBackend) -> None:
    logs = [draw_log(seed, per=("stage", "event")[seed % 2]) for seed in range(N_LOGS)]
    found = [len(measure(con, log)) > 0 for log in logs]
    assert sum(found) <= N_LOGS // 20


def test_a_planted_moment_is_found(con: ibis.BaseBackend) -> None:
    n_logs = N_LOGS if FULL else 5
    n_lost = n_felt = n_false = 0
    for seed in range(n_logs):
        lost, felt = STAGES[seed % 5], STAGES[(seed + 2) % 5]
        # Where people do most, only more risk of each event is more than they would leave anyway.
        per = "event" if lost == "look" else "stage"
        found = measure(con, draw_log(seed, per=per, worse=(lost, 0.25), sad=(felt, -0.6)))
        pairs = set(zip(found["measure"], found["stage"], strict=True))
        n_lost += ("drop_off", lost) in pairs
        n_felt += ("feeling", felt) in pairs
        n_false += bool(pairs - {("drop_off", lost), ("feeling", felt)})
    assert min(n_lost, n_felt) >= 0.9 * n_logs
    assert n_false <= n_logs // 20


def make_reach(*rows: tuple[int, int, int]) -> pd.DataFrame:
    """Stages with so many journeys, of which so many were lost, after so many events."""
    table = pd.DataFrame(rows, columns=["n_risked", "n_lost", "n_events"])
    return table.assign(stage=list("abcdefg"[: len(rows)]), n_known=table["n_risked"])


def make_feelings(*answers: list[float]) -> pd.DataFrame:
    rows = [(len(each), sum(each), sum(one * one for one in each)) for each in answers]
    return pd.DataFrame(rows, columns=["n", "sum", "squares"]).assign(stage=list("abcdefg"[: len(rows)]))


NO_ONE = make_feelings()


def test_a_long_stage_is_no_moment() -> None:
    """Where people do most, most stop: of a third of journeys that stop there, each event takes no more than others."""
    long, short = (1000, 300, 9000), (1000, 50, 1000)
    found = find_moments(make_reach(long, short, short), NO_ONE)
    assert found.loc[found["stage"] == "a", "difference"].item() == pytest.approx(0.25)
    assert not found["is_moment"].any()
    found = find_moments(make_reach((1000, 300, 1000), short, short), NO_ONE)
    assert found.loc[found["is_moment"], ["stage", "n", "value", "value_other"]].to_numpy().tolist() == [
        ["a", 1000.0, 0.3, 0.05]
    ]


def test_after_the_goal_nobody_is_lost() -> None:
    reach = make_reach((1000, 50, 1000), (1000, 50, 1000), (1000, 50, 1000), (30, 25, 30))
    assert find_moments(reach, NO_ONE)["is_moment"].tolist() == [True, False, False, False]
    reach["n_known"] = [1000, 1000, 1000, 200]
    assert find_moments(reach, NO_ONE)["stage"].tolist() == ["a", "b", "c"]


def test_small_differences_are_no_moments() -> None:
    reach = make_reach((100_000, 15_000, 100_000), *[(100_000, 6_000, 100_000)] * 3)
    found = find_moments(reach, NO_ONE)
    assert found["p_adjusted"].iloc[0] < 1e-6
    assert not found["is_moment"].any()
    feelings = make_feelings([0.0, 0.2] * 1000, [0.1, 0.3] * 1000, [0.1, 0.3] * 1000)
    assert not find_moments(make_reach(), feelings)["is_moment"].any()


def test_a_good_feeling_is_a_moment_too_and_a_low_drop_off_is_not() -> None:
    feelings = make_feelings([0.8, 0.4] * 50, [0.0, 0.2] * 50, [0.0, 0.2] * 50)
    reach = make_reach((1000, 0, 1000), (1000, 300, 1000), (1000, 300, 1000))
    found = find_moments(reach, feelings)
    assert found.loc[found["is_moment"], ["stage", "measure"]].to_numpy().tolist() == [["a", "feeling"]]


def test_one_bad_stage_does_not_make_the_others_good() -> None:
    feelings = make_feelings(*[[0.4, 0.6] * 20] * 4, [-0.9, -0.7] * 400)
    found = find_moments(make_reach(), feelings)
    assert found.loc[found["is_moment"], "stage"].tolist() == ["e"]
    assert (found.loc[~found["is_moment"], "difference"].abs() < 1e-9).all()


def test_a_few_answers_that_agree_are_not_certain() -> None:
    mixed = [0.4, 1.0] * 100
    found = find_moments(make_reach(), make_feelings([1.0] * 10, mixed, mixed)).set_index("stage")
    assert found.loc["a", "difference"] == pytest.approx(0.3)
    assert not found["is_moment"].any()


def test_a_stage_of_one_mind_by_chance_is_no_moment() -> None:
    """Of twelve answers that fall like coins, eleven are alike once in 300 times, and there are six stages."""
    coins = [1.0, -1.0] * 6
    found = find_moments(make_reach(), make_feelings([1.0] * 11 + [-1.0], *[coins] * 5))
    assert found["difference"].max() == pytest.approx(10 / 12)
    assert not found["is_moment"].any()


def test_too_few_are_not_compared() -> None:
    assert find_moments(make_reach((100, 5, 100), (100, 50, 100)), NO_ONE).empty
    few, many = [0.5] * 19, [0.5, 0.7] * 20
    assert find_moments(make_reach(), make_feelings(few, many, many), min_n=20).empty
    assert len(find_moments(make_reach(), make_feelings(few, many, many), min_n=19)) == 3
