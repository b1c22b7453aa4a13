"""Conversions against a plain-Python count of each unit, and against truths that were put into the data."""

from __future__ import annotations

import math
import os
import re
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import (
    ENDS,
    EVENTS,
    SIX_RULES,
    START,
    Row,
    drop_tables,
    examples,
    fetch,
    group_rows,
    make_steps,
    random_logs,
    round_by_hand,
    six_customers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.conversion import (
    compare_times,
    count_cohorts,
    describe_conversions,
    estimate_conversion,
    estimate_time_to_convert,
    find_spells,
)
from journeylab.errors import RuleError
from journeylab.funnel import Funnel, build_funnel
from journeylab.funnel_rules import FunnelRules
from journeylab.rules import parse_duration
from journeylab.schema import PROBLEM, ROW, TIME
from journeylab.survival import compare_survival, estimate_curve, estimate_incidence, estimate_quantile

IS_FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
DAY = 86_400
COLUMNS = (
    *("step", "label", "horizon_s", "n_start", "n_converted", "conversion_naive", "naive_low", "naive_high"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high"),
    *("n_at_risk", "n_open"),
)
COHORT_COLUMNS = (
    *("cohort", "n", "n_converted", "n_lost", "n_open", "conversion", "low", "high"),
    *("n_mature", "conversion_mature", "mature_low", "mature_high"),
    *("conversion_censored", "censored_low", "censored_high", "is_immature"),
)


# One unit after the other. The units themselves are checked in test_funnel.py.


def spell_by_hand(unit: Row, funnel: Funnel, step: int) -> tuple[int, int]:
    start, watched, limit_s = unit["time_1"], funnel.as_of - unit["time_1"], funnel.rules.horizon_s
    if unit[f"time_{step}"] is not None:
        return round_by_hand(unit[f"time_{step}"] - start, limit_s), 1
    if limit_s is not None:
        return round_by_hand(min(watched, timedelta(seconds=limit_s)), limit_s), 0
    over = unit["lost_time"] or unit[f"time_{len(funnel.labels)}"]
    return (round_by_hand(watched), 0) if over is None else (round_by_hand(over - start), 2)


def spells_by_hand(units: list[Row], funnel: Funnel, step: int) -> pd.DataFrame:
    rows = [spell_by_hand(unit, funnel, step) for unit in units]
    return pd.DataFrame(rows, columns=["duration_s", "ended"]).assign(n=1)


def wilson(part: int, whole: int) -> list[float]:
    bounds = proportion_confint(part, whole, method="wilson") if whole else (math.nan, math.nan)
    return [part / whole if whole else math.nan, *bounds]


def conversion_by_hand(units: list[Row], funnel: Funnel, step: int, horizon_s: int | None) -> list[Any]:
    """One row of `estimate_conversion`, without the group."""
    spells = spells_by_hand(units, funnel, step)
    is_whole = horizon_s == funnel.rules.horizon_s
    until_s = horizon_s if horizon_s is not None else max(spells["duration_s"], default=0)
    horizon = timedelta(seconds=until_s)
    converted, mature, may_come = [], [], []
    for unit in units:
        has_come = unit[f"time_{step}"] is not None
        is_mature = unit["is_mature"] if is_whole else funnel.as_of - unit["time_1"] >= horizon
        in_time = has_come and (is_whole or unit[f"time_{step}"] - unit["time_1"] <= horizon)
        converted += [unit] if in_time else []
        mature += [in_time] if is_mature else []
        may_come += [unit] if unit["is_open"] and not has_come and unit["reached"] < step and not is_mature else []
    digits = max(len(str(int(until_s))) - 4, 0)
    read_s = until_s if until_s == funnel.rules.horizon_s else until_s // 10**digits * 10**digits
    found = estimate_incidence(spells, at=[read_s]).iloc[0]
    return [
        *(step, funnel.labels[step - 1], until_s, len(units), len(converted), *wilson(len(converted), len(units))),
        *(len(mature), *wilson(sum(mature), len(mature)), found["share"], found["low"], found["high"]),
        *(found["n_at_risk"], len(may_come)),
    ]


def in_groups(funnel: Funnel) -> list[tuple[tuple[str, ...], list[Row]]]:
    """The units of each group, in the order of the funnel's table."""
    units = fetch(funnel.units)
    if not funnel.by:
        return [((), units)]
    keys = ["group"] if len(funnel.by) == 1 else [f"group_{i + 1}" for i in range(len(funnel.by))]
    groups = group_rows(units, *keys)
    by_name = {key if isinstance(key, tuple) else (key,): rows for key, rows in groups.items()}
    return sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))


def assert_same(found: pd.DataFrame, rows: list[Any], columns: list[str]) -> None:
    expected = pd.DataFrame(rows, columns=columns)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-12, rtol=1e-12)


def cohorts_by_hand(funnel: Funnel, freq: str) -> list[list[Any]]:
    def first_day(time: datetime) -> datetime:
        day = time.replace(hour=0, minute=0, second=0, microsecond=0)
        return {"D": day, "W": day - timedelta(days=day.weekday()), "M": day.replace(day=1)}[freq]

    def next_day(day: datetime) -> datetime:
        return first_day(day + timedelta(days={"D": 1, "W": 7, "M": 32}[freq]))

    groups, rules, last = in_groups(funnel), funnel.rules, len(funnel.labels)
    starts = [first_day(unit["time_1"]) for _, units in groups for unit in units]
    rows = []
    for group, units in groups:
        day = min(starts, default=datetime.max)
        while starts and day <= max(starts):
            here = [unit for unit in units if first_day(unit["time_1"]) == day]
            done = [unit for unit in here if unit["reached"] == last]
            is_open = [unit for unit in here if unit["is_open"]]
            mature = [unit["reached"] == last for unit in here if unit["is_mature"]]
            if rules.within is None:
                waits = timedelta(seconds=rules.dormant_s)
                has_more = bool(is_open) or any(funnel.as_of - unit["time_1"] < waits for unit in here)
            else:
                has_more = len(mature) < len(here)
            spells = spells_by_hand(here, funnel, last)
            until_s = max(spells["duration_s"], default=0) if rules.horizon_s is None else rules.horizon_s
            censored = estimate_incidence(spells, at=[until_s])[["share", "low", "high"]].iloc[0]
            rows.append(
                [
                    *(*group, day, len(here), len(done), len(here) - len(done) - len(is_open), len(is_open)),
                    *(*wilson(len(done), len(here)), len(mature), *wilson(sum(mature), len(mature)), *censored),
                    has_more or next_day(day) > funnel.as_of,
                ]
            )
            day = next_day(day)
    return rows


@st.composite
def random_funnels(draw: st.DrawFn) -> FunnelRules:
    steps = draw(st.lists(st.sampled_from(EVENTS), min_size=2, max_size=4, unique=True))
    middle = steps[1:-1]
    return FunnelRules(
        steps,
        within=draw(st.sampled_from((None, "10m", "30m", "2h"))),
        window_from=draw(st.sampled_from(("first", "previous"))),
        unit=draw(st.sampled_from(("customer", "session", "attempt"))),
        optional=draw(st.sampled_from(middle)) if middle and draw(st.booleans()) else (),
        dormant_after=draw(st.sampled_from((None, "10m", "2h"))),
    )


def with_all_names(rows: list[Row]) -> list[Row]:
    """The log with one customer more, who knows every event, early: the funnel's names exist, somebody has started."""
    blank = dict.fromkeys(rows[0])
    return [
        *(
            {**blank, "customer_id": "early", "event": event, "timestamp": START - timedelta(days=1)}
            for event in EVENTS
        ),
        *rows,
    ]


@examples(4)
@given(
    rows=random_logs(columns=("seq",), always=("channel",)).map(with_all_names),
    rules=random_funnels(),
    by=st.sampled_from((None, "channel", ("channel", "event"))),
    as_of=ENDS.filter(lambda end: end is None or end >= START),
    data=st.data(),
)
def test_conversions_are_those_of_a_count(
    con: ibis.BaseBackend, rows: list[Row], rules: FunnelRules, by: Any, as_of: datetime | None, data: st.DataObject
) -> None:
    steps = make_steps(rows, jl.JourneyRules(journey_gap="2h", session_gap="30m"), con=con)
    funnel = build_funnel(steps, rules, by=by, as_of=as_of)
    step = data.draw(st.integers(2, len(rules.steps)), label="step")
    groups = in_groups(funnel)

    found = find_spells(funnel, step)
    keys = [name for name in found.columns if name.startswith("group")]
    parts = dict(iter(found.groupby(keys))) if keys else {(): found}
    for group, units in groups:
        part = parts[group].sort_values(["duration_s", "ended"])[["duration_s", "ended", "n"]]
        folded = spells_by_hand(units, funnel, step).groupby(["duration_s", "ended"], as_index=False).sum()
        np.testing.assert_array_equal(part, folded)
    assert found["n"].sum() == sum(len(units) for _, units in groups)

    horizons = [text for text in ("5m", "10m", "30m", "2h", "18007s") if _fits(text, rules)]
    names = [*funnel.by, *COLUMNS]
    for at in (None, horizons):
        limits = [rules.horizon_s] if at is None else [parse_duration(text, "at") for text in horizons]
        expected = [
            [*group, *conversion_by_hand(units, funnel, step, limit)] for group, units in groups for limit in limits
        ]
        assert_same(estimate_conversion(funnel, step=step, at=at), expected, names)

    curves = estimate_time_to_convert(funnel, step=step)
    expected_curves = []
    for group, units in groups:
        curve = estimate_curve(spells_by_hand(units, funnel, step))
        expected_curves += [[*group, *row] for row in curve.itertuples(index=False)]
    curve_columns = ["time_s", "share", "low", "high", "band_low", "band_high", "n_at_risk"]
    assert_same(curves, expected_curves, [*funnel.by, *curve_columns])
    assert_times_are_those_of_a_count(funnel, step)
    freq = data.draw(st.sampled_from(("D", "W", "M")), label="freq")
    assert_same(count_cohorts(funnel, freq), cohorts_by_hand(funnel, freq), [*funnel.by, *COHORT_COLUMNS])
    drop_tables(con)


def _fits(text: str, rules: FunnelRules) -> bool:
    return rules.horizon_s is None or parse_duration(text, "at") <= rules.horizon_s


def assert_times_are_those_of_a_count(funnel: Funnel, step: int, min_n: int = 3) -> None:
    groups = in_groups(funnel)
    together = pd.concat(
        [spells_by_hand(units, funnel, step).assign(place=i) for i, (_, units) in enumerate(groups)],
        ignore_index=True,
    )
    rows = []
    for i, (group, units) in enumerate(groups):
        times = [unit[f"time_{step}"] - unit["time_1"] for unit in units if unit[f"time_{step}"] is not None]
        median = float(np.median([time.total_seconds() for time in times])) if times else math.nan
        log_rank, p = compare_survival(together.assign(group=together["place"] == i))
        tested = (log_rank, p) if len(units) >= min_n else (math.nan, math.nan)
        quantile = estimate_quantile(together[together["place"] == i], 0.5)
        rows.append([*group, len(units), len(times), *quantile, median, *tested, math.nan, len(units) < min_n])
    adjusted = [row[-3] for row in rows if not math.isnan(row[-3])]
    if adjusted:
        holm = iter(multipletests(adjusted, method="holm")[1])
        for row in rows:
            row[-2] = row[-2] if math.isnan(row[-3]) else next(holm)
    names = ["n", "n_converted", "median_s", "low", "high", "median_converters_s", "log_rank", "p", "p_adjusted"]
    found = compare_times(funnel, step=step, min_n=min_n)
    assert_same(found, rows, [*funnel.by, *names, "is_small"])


@examples(2)
@given(rows=random_logs(columns=("seq",)).map(with_all_names), limit=st.sampled_from(("10m", "30m", "2h", "5h")))
def test_a_horizon_counts_like_a_window(con: ibis.BaseBackend, rows: list[Row], limit: str) -> None:
    steps = make_steps(rows, con=con)
    at_horizon = estimate_conversion(build_funnel(steps, EVENTS[:3]), at=[limit]).iloc[0]
    table = build_funnel(steps, FunnelRules(EVENTS[:3], within=limit)).table.iloc[-1]
    assert at_horizon["n_converted"] == table["n"]
    assert at_horizon["n_mature"] == table["n_mature"]
    assert at_horizon["conversion_mature"] == pytest.approx(table["conversion_mature"], nan_ok=True)
    drop_tables(con)


@examples(2)
@given(rows=random_logs(columns=("seq",)).map(with_all_names), rules=random_funnels())
def test_when_all_is_over_the_three_agree(con: ibis.BaseBackend, rows: list[Row], rules: FunnelRules) -> None:
    funnel = build_funnel(make_steps(rows, con=con), rules, as_of=START + timedelta(days=300))
    found = estimate_conversion(funnel).iloc[0]
    assert found["n_open"] == 0
    assert found["conversion_censored"] == pytest.approx(found["conversion_naive"])
    if rules.within is not None:
        assert found["conversion_mature"] == found["conversion_naive"]
    drop_tables(con)


def test_conversions_agree_with_the_funnel(six: ibis.Table) -> None:
    for rules in (FunnelRules(["shop", "cart", "pay"]), FunnelRules(["shop", "cart", "pay"], within="3D")):
        funnel = build_funnel(six, rules, by="channel")
        found, table = estimate_conversion(funnel), funnel.table[funnel.table["step"] == 3].reset_index(drop=True)
        pairs = {"n_converted": "n", "conversion_naive": "share_of_start", "naive_low": "low", "naive_high": "high"}
        pairs |= {"n_mature": "n_mature", "conversion_mature": "conversion_mature", "mature_low": "mature_low"}
        pairs |= {
            "conversion_censored": "conversion_censored",
            "censored_low": "censored_low",
            "censored_high": "censored_high",
        }
        for mine, theirs in pairs.items():
            pd.testing.assert_series_equal(found[mine], table[theirs], check_names=False, check_dtype=False)
        of_group = funnel.table.groupby("channel", sort=False)
        assert found["n_open"].tolist() == of_group["n_open"].sum().tolist()


def test_six_customers_by_hand(six: ibis.Table) -> None:
    # anna pays after a quarter of an hour, cleo after a day, dora after forty and twenty minutes; bert and fred are
    # silent for longer than two weeks (at the end of it lost), emil came five minutes before the end.
    funnel = build_funnel(six, FunnelRules(["shop", "pay"], dormant_after="2w"))
    spells = find_spells(funnel).sort_values("duration_s")[["duration_s", "ended", "n"]]
    bert, dora = (round_by_hand(timedelta(seconds=time)) for time in (14 * DAY + 3660, 40 * DAY + 1200))
    assert [tuple(row) for row in spells.itertuples(index=False)] == [
        *((300, 0, 1), (900, 1, 1), (DAY, 1, 1), (bert, 2, 1), (dora, 1, 1)),
        # fred asked for help five days ago: still on the way.
        (round_by_hand(timedelta(seconds=58 * DAY + 3 * 3600 + 300)), 0, 1),
    ]
    found = estimate_conversion(funnel, at=["1D", "50D"])
    # Day 1: emil is gone before anna pays (1 of 5), cleo is the next of 4. Day 40: one of the two that are left.
    np.testing.assert_allclose(found["conversion_censored"], [2 / 5, 2 / 5 + 3 / 5 * 2 / 3 / 2])
    assert found["n_at_risk"].tolist() == [4, 1]
    assert found["n_converted"].tolist() == [2, 3]
    assert found["n_mature"].tolist() == [5, 5]
    assert found["conversion_mature"].tolist() == [2 / 5, 3 / 5]
    assert found["n_open"].tolist() == [1, 1]
    # To the very second that fred has been watched for, whatever the spells are rounded to.
    at_the_end = estimate_conversion(funnel, at=[f"{58 * DAY + 3 * 3600 + 300}s"]).iloc[0]
    assert at_the_end["n_at_risk"] == 1
    assert at_the_end["conversion_censored"] == found["conversion_censored"][1]


def test_a_conversion_in_words(six: ibis.Table) -> None:
    funnel = build_funnel(six, FunnelRules(["shop", "pay"], within="7D"))
    assert describe_conversions(estimate_conversion(funnel)) == (
        "Of 6 starts, 2 (33.3 %) have reached pay within 7 d so far and 1 still may; of the 5 whose time is over, "
        "40.0 % (95 % interval 11.8–76.9 %) did; counting each start for as long as it was watched, "
        "40.0 % (95 % interval 11.8–87.4 %) will."
    )
    by_channel = describe_conversions(estimate_conversion(build_funnel(six, funnel.rules, by="channel"))).split("\n")
    assert len(by_channel) == 3
    assert by_channel[1] == (
        "(none): of 1 starts, 0 (0.0 %) have reached pay within 7 d so far and 1 still may; nobody was watched long "
        "enough to say how many will."
    )
    nobody = build_funnel(six, funnel.rules, as_of="2020-01-01")
    assert describe_conversions(estimate_conversion(nobody)) == "Of nobody, for nobody has started."
    assert count_cohorts(nobody).empty
    assert list(count_cohorts(nobody).columns) == list(COHORT_COLUMNS)
    assert estimate_time_to_convert(nobody).empty


def test_cohorts_of_six_customers_by_hand(six: ibis.Table) -> None:
    weeks = count_cohorts(build_funnel(six, FunnelRules(["shop", "pay"], within="7D")), "W")
    # From Monday, 29 December, to Monday, 23 February; all but emil begin in the first week.
    assert weeks["cohort"].tolist() == pd.date_range("2025-12-29", "2026-02-23", freq="7D").tolist()
    assert weeks["n"].tolist() == [5, 0, 0, 0, 0, 0, 0, 0, 1]
    assert weeks.loc[0, ["n_converted", "n_lost", "n_open", "n_mature"]].tolist() == [2, 3, 0, 5]
    assert weeks.loc[8, ["n_converted", "n_lost", "n_open", "n_mature"]].tolist() == [0, 0, 1, 0]
    assert weeks["is_immature"].tolist() == [False] * 8 + [True]
    assert weeks.loc[1, ["conversion", "low", "conversion_censored"]].isna().all()
    # Without a window the first week is open as long as fred is.
    for dormant_after, is_immature in (("2w", True), ("4D", False)):
        rules = FunnelRules(["shop", "pay"], dormant_after=dormant_after)
        assert count_cohorts(build_funnel(six, rules), "W")["is_immature"].tolist() == [is_immature, *[False] * 7, True]


def test_small_cohorts_make_longer_ones(six: ibis.Table) -> None:
    funnel = build_funnel(six, FunnelRules(["shop", "pay"], within="7D"))
    assert count_cohorts(funnel, "D", min_group=1)["n"].sum() == 6
    # In every week and every month somebody is alone.
    assert count_cohorts(funnel, "D", min_group=2).empty
    alone = build_funnel(six, FunnelRules(["shop", "pay"], within="7D"), as_of="2026-01-20")
    days, weeks = (count_cohorts(alone, freq, min_group=4) for freq in ("D", "W"))
    pd.testing.assert_frame_equal(days, weeks)
    assert weeks["n"].tolist()[0] == 5


def test_wrong_questions_are_refused(six: ibis.Table) -> None:
    funnel = build_funnel(six, FunnelRules(["shop", "cart", "pay"], within="7D"))
    text = (
        "estimate_conversion: at 8D lies beyond the window of the funnel, 7 d: nothing converts there. Ask for less, "
        "or build the funnel with a longer `within`"
    )
    with pytest.raises(RuleError, match=f"^{re.escape(text)}$"):
        estimate_conversion(funnel, at=["1D", "8D"])
    for step in (1, 4):
        text = f"step must be a number from 2 to 3, the steps after the start; found {step}"
        with pytest.raises(RuleError, match=f"^{re.escape(text)}$"):
            estimate_conversion(funnel, step=step)
    text = 'count_cohorts: freq must be "D" (day), "W" (week) or "M" (month); found \'Y\''
    with pytest.raises(RuleError, match=f"^{re.escape(text)}$"):
        count_cohorts(funnel, "Y")  # type: ignore[arg-type]
    rows = [row | {"cohort": "x"} for row in six_customers()]
    named = build_funnel(make_steps(rows, SIX_RULES), ["shop", "pay"], by="cohort")
    text = '"cohort" is a column of the answer itself; rename yours in read_events(columns=)'
    with pytest.raises(RuleError, match=f"^{re.escape(text)}$"):
        count_cohorts(named)


# Known truth: starts spread over 60 days, of which 45 are seen; 40 % convert within 30 days, by a Weibull law (shape
# 0.8, scale 10 days) cut off there. One third of those who are seen have had their whole window.
WINDOW, SEEN, TRUTH = 30.0, 45.0, 0.4


def draw_starts(seed: int, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Days of the start, and days from there to the conversion (infinite for who never converts)."""
    rng = np.random.default_rng(seed)
    within = 1 - math.exp(-((WINDOW / 10) ** 0.8))
    waits = 10 * (-np.log(1 - rng.uniform(0, within, n))) ** (1 / 0.8)
    return rng.uniform(0, 60, n), np.where(rng.random(n) < TRUTH, waits, np.inf)


def draw_spells(seed: int, n: int) -> pd.DataFrame:
    starts, waits = draw_starts(seed, n)
    is_seen = starts < SEEN
    watched, waits = np.minimum(SEEN - starts[is_seen], WINDOW), waits[is_seen]
    return pd.DataFrame({"duration_s": np.minimum(watched, waits), "ended": (waits <= watched).astype(int), "n": 1})


def test_censored_conversion_meets_the_truth() -> None:
    """Within two standard errors in 95 of 100 seeded runs; what all starters show so far is far too low.

    A right 95 % does not reach 95 in every batch of 100. Over the seeds 0 to 1999 it is 95.3 %; of those twenty batches
    four stay below 95, this one has 96.
    """
    seeds = range(2000) if IS_FULL else range(1000, 1100)
    near, naive, censored, mature = [], [], [], []
    for seed in seeds:
        spells = draw_spells(seed, 2000)
        found = estimate_incidence(spells, at=[WINDOW])["share"][0]
        # Greenwood's error as statsmodels has it.
        error = SurvfuncRight(spells["duration_s"], spells["ended"]).surv_prob_se[-1]
        near.append(abs(found - TRUTH) <= 2 * error)
        censored.append(found)
        naive.append(spells["ended"].mean())
        starts, waits = draw_starts(seed, 2000)
        mature.append((waits[starts <= SEEN - WINDOW] <= WINDOW).mean())
    print(f"within two standard errors of the truth: {sum(near)} of {len(near)}")
    assert np.mean(near) >= 0.95
    spread = 3.5 / math.sqrt(len(near))
    assert abs(np.mean(censored) - TRUTH) < spread * np.std(censored)
    assert abs(np.mean(mature) - TRUTH) < spread * np.std(mature)
    assert np.std(mature) > 1.2 * np.std(censored)
    # Seven points of forty are missing.
    assert np.mean(naive) == pytest.approx(0.33, abs=0.005)


def make_log(con: ibis.BaseBackend, starts: NDArray[Any], waits: NDArray[Any], groups: NDArray[Any]) -> ibis.Table:
    names = np.array([f"c{i}" for i in range(len(starts))])
    has_come = np.isfinite(waits)
    days = np.concatenate([starts, (starts + waits)[has_come]])
    times = np.datetime64("2026-01-01", "us") + (days * DAY * 1e6).astype("timedelta64[us]")
    columns = {
        "customer_id": np.concatenate([names, names[has_come]]),
        "event": ["start"] * len(starts) + ["convert"] * int(has_come.sum()),
        "timestamp": pa.array(times),
        "plan": np.concatenate([groups, groups[has_come]]),
        PROBLEM: pa.nulls(len(days), pa.string()),
        TIME: ["naive"] * len(days),
        ROW: np.arange(len(days)),
    }
    return con.create_table(ibis.util.gen_name("log"), pa.table(columns), temp=True)


def test_the_whole_way_meets_the_truth(con: ibis.BaseBackend) -> None:
    near = 0
    for seed in range(8 if IS_FULL else 4):
        starts, waits = draw_starts(seed, 3000)
        log = make_log(con, starts, waits, np.full(len(starts), "free"))
        rules = FunnelRules(["start", "convert"], within="30D")
        steps = jl.build_steps(log, jl.JourneyRules(journey_gap=None))
        funnel = build_funnel(steps, rules, as_of=datetime(2026, 1, 1) + timedelta(days=SEEN))
        found = estimate_conversion(funnel, at=["7D", "30D"])
        is_seen = starts < SEEN
        assert found["n_start"].tolist() == [is_seen.sum()] * 2
        assert found["naive_high"][1] < TRUTH
        at_7 = TRUTH * (1 - math.exp(-(0.7**0.8))) / (1 - math.exp(-(3**0.8)))
        truths = pd.Series([at_7, TRUTH])
        near += int(((found["censored_low"] <= truths) & (truths <= found["censored_high"])).sum())
        # Mature is right, and less sure.
        assert (found["conversion_mature"] - truths).abs().max() < 0.06
        width = (found["mature_high"] - found["mature_low"]) / (found["censored_high"] - found["censored_low"])
        assert width[1] > 1.2
        # The same estimate as from the spells, but for the rounding.
        watched = np.minimum(SEEN - starts[is_seen], WINDOW)
        plain = pd.DataFrame({"duration_s": np.minimum(watched, waits[is_seen]), "n": 1})
        plain["ended"] = (waits[is_seen] <= watched).astype(int)
        assert found["conversion_censored"][1] == pytest.approx(
            estimate_incidence(plain, at=[30])["share"][0], abs=1e-3
        )
    assert near >= (14 if IS_FULL else 7)


def test_groups_that_differ_in_time_are_told_apart(con: ibis.BaseBackend) -> None:
    starts, waits = draw_starts(5, 3000)
    groups = np.where(np.arange(3000) % 2 == 0, "slow", "fast")
    groups[:20] = "tiny"
    waits = np.where(groups == "fast", waits / 3, waits)
    # So that more than half convert.
    waits = np.where(np.isinf(waits) & (np.arange(3000) % 3 > 0), 25.0 - 5 * (groups == "fast"), waits)
    steps = jl.build_steps(make_log(con, starts, waits, groups), jl.JourneyRules(journey_gap=None))
    funnel = build_funnel(steps, FunnelRules(["start", "convert"], within="30D"), by="plan", as_of="2026-02-15")
    found = compare_times(funnel).set_index("plan")
    assert found["is_small"].to_dict() == {"slow": False, "fast": False, "tiny": True}
    assert found.index[-1] == "tiny"
    assert math.isnan(found["p"]["tiny"])
    assert math.isnan(found["p_adjusted"]["tiny"])
    first, second = sorted(found["p"][["slow", "fast"]])
    assert sorted(found["p_adjusted"].dropna()) == [2 * first, max(2 * first, second)]
    assert second < 0.001
    assert found["high"]["fast"] < found["low"]["slow"]
    # Of those who have come so far the slow are missing.
    assert (found["median_converters_s"][["slow", "fast"]] < found["median_s"][["slow", "fast"]]).all()


def test_a_trend_shows_its_unripe_end(con: ibis.BaseBackend) -> None:
    starts, waits = draw_starts(3, 6000)
    steps = jl.build_steps(make_log(con, starts, waits, np.full(6000, "free")), jl.JourneyRules(journey_gap=None))
    rules = FunnelRules(["start", "convert"], within="30D")
    weeks = count_cohorts(build_funnel(steps, rules, as_of="2026-02-15"), "W")
    assert (weeks["n"] == weeks["n_converted"] + weeks["n_lost"] + weeks["n_open"]).all()
    ripe = weeks[~weeks["is_immature"]]
    # 1 to 15 January have had their 30 days: two full weeks, and the one to which New Year's Day belongs.
    assert ripe["cohort"].tolist() == [pd.Timestamp("2025-12-29"), pd.Timestamp("2026-01-05")]
    assert (ripe["conversion"] == ripe["conversion_mature"]).all()
    np.testing.assert_allclose(ripe["conversion"], ripe["conversion_censored"])
    # Naively, conversion seems to fall to nothing.
    unripe = weeks[weeks["is_immature"]]
    assert unripe["conversion"].iloc[-1] < 0.15
    assert ripe["conversion"].between(0.33, 0.47).all()
