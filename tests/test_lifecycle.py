"""Lifecycle, churn and repeats against a walk along each customer's events, and against simulated truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Row, drop_tables, examples, fetch, group_rows, last_instant, make_steps, round_by_hand
from hypothesis import given
from hypothesis import strategies as st
from test_retention import (
    DAY,
    END,
    RUNS,
    SPAN,
    as_seen,
    first_day,
    is_covered,
    log_of,
    logs_with_ends,
    next_period,
    stored_steps,
    wilson,
)

from journeylab.errors import RuleError
from journeylab.lifecycle import count_churn, count_lifecycle, count_repeats
from journeylab.survival import estimate_incidence, estimate_quantile


def lifecycle_by_hand(steps: list[Row], period: str, end: datetime) -> list[Row]:
    seen = [row for row in steps if row["timestamp"] <= end]
    if not seen:
        return []
    active: dict[date, set[str]] = {}
    day, rows = first_day(min(row["timestamp"] for row in seen), period), []
    while day <= end.date():
        active[day] = {row["customer_id"] for row in seen if first_day(row["timestamp"], period) == day}
        earlier = [active[other] for other in sorted(active) if other < day]
        known, before = set().union(*earlier), earlier[-1] if earlier else set()
        now, is_last = active[day], next_period(day, period) > end.date()
        rows.append(
            {
                "period_start": pd.Timestamp(day),
                "n_active": len(now),
                "n_new": len(now - known),
                "n_returning": len(now & before),
                "n_resurrected": len((now & known) - before),
                "n_dormant": None if is_last else len(before - now),
                "is_immature": is_last,
            }
        )
        day = next_period(day, period)
    return rows


def test_nobody_yet(six: ibis.Table) -> None:
    early = "2020-01-01"
    assert count_lifecycle(six, as_of=early).empty
    assert count_repeats(six, event="pay", as_of=early).empty
    churn = count_churn(six, dormant_after="30D", within=None, as_of=early)
    assert churn["n_customers"].tolist() == [0]
    assert churn[["share_returned", "low", "high", "within_s", "n_watched"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("ask", "options", "message"),
    [
        (count_lifecycle, {"period": "w"}, "count_lifecycle: period must be one of D, W, M"),
        (count_churn, {"dormant_after": []}, "count_churn: dormant_after needs at least one duration"),
        (count_churn, {"dormant_after": "30"}, "dormant_after must be a duration with a unit"),
        (count_churn, {"within": "30"}, "within must be a duration with a unit"),
        (count_repeats, {"event": "payy"}, 'count_repeats: event: .*Did you mean "pay"'),
    ],
)
def test_what_does_not_fit_is_refused(
    six: ibis.Table, ask: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuleError, match=message):
        ask(six, **options)


@examples(4)
@given(log=logs_with_ends(), period=st.sampled_from("DWM"))
def test_lifecycle_is_that_of_a_walk(
    con: ibis.BaseBackend, log: tuple[list[Row], datetime | None], period: Any
) -> None:
    rows, as_of = log
    steps = make_steps(rows, con=con)
    found = count_lifecycle(steps, period=period, as_of=as_of)
    expected = lifecycle_by_hand(fetch(steps), period, as_of or last_instant(rows))
    assert found.astype(object).where(found.notna(), None).to_dict("records") == expected
    parts = found["n_new"] + found["n_returning"] + found["n_resurrected"]
    assert (found["n_active"] == parts).all()
    before = found["n_active"].shift(fill_value=0)
    flow = before - found["n_dormant"] + found["n_new"] + found["n_resurrected"]
    assert (found["n_active"] == flow)[~found["is_immature"]].all()
    drop_tables(con)


def test_lifecycle_by_hand(con: ibis.BaseBackend) -> None:
    rows = log_of(
        ("anna", ("2026-03-02", "2026-03-09", "2026-03-30")),
        ("bert", ("2026-03-15 23:59:59",)),
        ("cleo", ("2026-03-23", "2026-04-06")),
    )
    found = count_lifecycle(make_steps(rows, con=con))
    assert found["period_start"].dt.strftime("%m-%d").tolist() == ["03-02", "03-09", "03-16", "03-23", "03-30", "04-06"]
    assert found["n_active"].tolist() == [1, 2, 0, 1, 1, 1]
    assert found["n_new"].tolist() == [1, 1, 0, 1, 0, 0]
    assert found["n_returning"].tolist() == [0, 1, 0, 0, 0, 0]
    assert found["n_resurrected"].tolist() == [0, 0, 0, 0, 1, 1]
    assert found["n_dormant"].tolist() == [0, 0, 2, 0, 1, pd.NA]
    assert found["is_immature"].tolist() == [False] * 5 + [True]


# Churn and repeats: waits that end in a return or are cut.

Wait = tuple[timedelta, bool]
SECOND = timedelta(seconds=1)


class Curve:
    """Product-limit by hand, in fractions, of waits that are rounded as in the engine: share and median.

    The bounds are those of `survival` for the same waits, one row each: its own tests hold them against others.
    """

    def __init__(self, waits: list[Wait], within: timedelta | None) -> None:
        longest = max((wait for wait, _ in waits), default=timedelta(0))
        horizon = within or longest
        limit_s = within // SECOND if within else None
        self.within_s = at = limit_s or round_by_hand(horizon)
        spells = [
            (round_by_hand(min(wait, horizon), limit_s), has_ended and wait <= horizon, 1) for wait, has_ended in waits
        ]
        silent, steps = Fraction(1), []
        for now in sorted({wait for wait, has_ended, _ in spells if has_ended}):
            at_risk = [has_ended and wait == now for wait, has_ended, _ in spells if wait >= now]
            silent *= 1 - Fraction(sum(at_risk), len(at_risk))
            steps.append((now, 1 - silent))
        self.share = (math.nan,) * 3
        self.median = (math.nan,) * 3
        if spells and (not silent or max(wait for wait, _, _ in spells) == at):
            frame = pd.DataFrame(spells, columns=["duration_s", "ended", "n"]).astype(int)
            self.share = (float(1 - silent), *estimate_incidence(frame, at=[at])[["low", "high"]].to_numpy()[0])
        if self.share[0] > 0:
            half = (1 - silent) / 2
            median = next(now for now, share in steps if share >= half)
            self.median = (median, *estimate_quantile(frame, float(half))[1:])

    def assert_is(self, share: Sequence[float], within_s: float) -> None:
        np.testing.assert_allclose(np.array(share, dtype=float), self.share, atol=1e-12, rtol=1e-9)
        if self.within_s:
            assert within_s == self.within_s


def waits_by_hand(steps: list[Row], events: Sequence[str], end: datetime) -> dict[str, list[tuple[datetime, Wait]]]:
    """Of each customer, in order: when each event was, how long until the next or the end, and whether one came."""
    waits = {}
    for customer, history in group_rows(steps, "customer_id").items():
        times = [
            row["timestamp"]
            for row in sorted(history, key=lambda row: row["position"])
            if row["timestamp"] <= end and row["event"] in events
        ]
        later = [*((time, True) for time in times[1:]), (end, False)]
        waits[customer] = (
            [(now, (then - now, came)) for now, (then, came) in zip(times, later, strict=bool(times))] if times else []
        )
    return {customer: pauses for customer, pauses in waits.items() if pauses}


# The seconds of 14 days have more than four digits.
WITHINS = st.sampled_from((None, "5h", "7D", "14D", "30D", "200D"))
DURATIONS = {"5h": timedelta(hours=5), "1D": DAY, **{f"{days}D": days * DAY for days in (7, 14, 30, 200)}}
MEDIAN = ["median_s", "median_s_low", "median_s_high"]


@examples(5)
@given(
    log=logs_with_ends(),
    limits=st.lists(st.sampled_from(("5h", "1D", "7D", "30D")), min_size=1, max_size=3, unique=True),
    within=WITHINS,
)
def test_churn_is_that_of_a_walk(
    con: ibis.BaseBackend, log: tuple[list[Row], datetime | None], limits: list[str], within: str | None
) -> None:
    rows, as_of = log
    end = as_of or last_instant(rows)
    steps = make_steps(rows, con=con)
    found = count_churn(steps, dormant_after=limits, within=within, as_of=as_of).set_index("dormant_after")
    assert list(found.index) == sorted(limits, key=DURATIONS.__getitem__)
    window = DURATIONS[within] if within else None
    customers = waits_by_hand(fetch(steps), "abc", end)
    for text, row in found.iterrows():
        limit = DURATIONS[str(text)]
        firsts = [next(((t, w) for t, w in pauses if w[0] > limit), None) for pauses in customers.values()]
        silences = [first for first in firsts if first is not None]
        n_dormant = sum(pauses[-1][1][0] > limit for pauses in customers.values())
        assert row["n_customers"] == len(customers)
        assert row["n_active"] == len(customers) - len(silences)
        assert row["n_resurrected"] == len(silences) - n_dormant
        assert row["n_dormant"] == n_dormant
        assert row["n_silent"] == len(silences)
        assert row["n_returned"] == sum(has_ended for _, (_, has_ended) in silences)
        if window is None:
            assert row["n_watched"] is pd.NA
        else:
            assert row["n_watched"] == sum(start + limit + window <= end for start, _ in silences)
        curve = Curve([(wait - limit, has_ended) for _, (wait, has_ended) in silences], window)
        curve.assert_is(row[["share_returned", "low", "high"]], row["within_s"])
    drop_tables(con)


@examples(5)
@given(
    log=logs_with_ends(),
    event=st.sampled_from(("a", ("a", "b"), ("a", "b", "c"))),
    within=WITHINS,
    min_n=st.integers(1, 4),
)
def test_repeats_are_those_of_a_walk(
    con: ibis.BaseBackend, log: tuple[list[Row], datetime | None], event: Any, within: str | None, min_n: int
) -> None:
    rows, as_of = log
    steps = make_steps(rows, con=con)
    found = count_repeats(steps, event=event, within=within, as_of=as_of, min_n=min_n)
    window = DURATIONS[within] if within else None
    customers = waits_by_hand(fetch(steps), event, as_of or last_instant(rows))
    k = 0
    for k, row in enumerate(found.to_dict("records"), 1):
        waits = [pauses[k - 1][1] for pauses in customers.values() if len(pauses) >= k]
        came = [has_ended and (window is None or wait <= window) for wait, has_ended in waits]
        is_open = [not has_ended and (window is None or wait < window) for wait, has_ended in waits]
        assert (row["k"], row["n"], row["n_next"], row["n_open"]) == (k, len(waits), sum(came), sum(is_open))
        assert row["share"] == sum(came) / len(waits)
        assert (row["low"], row["high"]) == pytest.approx(wilson(sum(came), len(waits)))
        curve = Curve(waits, window)
        curve.assert_is([row[name] for name in ("share_censored", "censored_low", "censored_high")], row["within_s"])
        np.testing.assert_array_equal([row[name] for name in MEDIAN], curve.median)
    following = sum(len(pauses) > k for pauses in customers.values())
    assert k == 10 or following < min_n or (k == 0 and not following)
    drop_tables(con)


def test_churn_by_hand(con: ibis.BaseBackend) -> None:
    rows = log_of(
        # Ten days of silence exactly are not longer than ten.
        ("anna", ("2026-03-01", "2026-03-11", "2026-03-21", "2026-03-31")),
        # Nothing that comes after `as_of` is seen.
        ("dora", ("2026-04-02",)),
        ("fred", ("2026-04-02",)),
        # Back after eleven days, and after twelve more; silent since.
        ("bert", ("2026-03-01", "2026-03-12", "2026-03-24")),
        ("cleo", ("2026-03-01", "2026-03-21", "2026-03-31")),
        ("dora", ("2026-03-16",)),
        ("emil", ("2026-03-10",)),
    )
    steps = make_steps(rows, con=con)
    row = count_churn(steps, dormant_after="10D", within="10D", as_of="2026-04-01").iloc[0]
    assert row[["n_customers", "n_active", "n_resurrected", "n_dormant"]].tolist() == [5, 1, 2, 2]
    # bert counts once, with his first silence; dora has been dormant for six days only.
    assert row[["n_silent", "n_returned", "n_watched"]].tolist() == [4, 2, 3]
    # bert back on day 1 of 4, cleo on day 10 of the 2 (with emil) who are left when dora is cut on day 6.
    assert row["share_returned"] == pytest.approx(1 - 3 / 4 * 1 / 2)
    # bert and cleo, first dormant on 11 March, are watched for just 21 days: the others are cut before, so no share.
    later = count_churn(steps, dormant_after="10D", within="21D", as_of="2026-04-01").iloc[0]
    assert later["n_watched"] == 2
    assert np.isnan(later["share_returned"])


def test_repeats_by_hand(con: ibis.BaseBackend) -> None:
    rows = log_of(
        ("anna", ("2026-03-01", "2026-03-05", "2026-03-25")),
        ("bert", ("2026-03-01", "2026-03-11")),
        ("cleo", ("2026-03-01",)),
        ("dora", ("2026-03-28", "2026-04-01")),
    )
    table = count_repeats(make_steps(rows, con=con), event="a", within="20D", as_of="2026-03-31", min_n=1)
    assert table[["k", "n", "n_next", "n_open"]].values.tolist() == [[1, 4, 2, 1], [2, 2, 1, 0], [3, 1, 0, 1]]
    # dora is cut before anna comes back: of the three left, two do.
    assert table["share"].tolist() == [0.5, 0.5, 0.0]
    assert table["share_censored"].tolist() == [pytest.approx(2 / 3), 0.5, pytest.approx(np.nan, nan_ok=True)]
    # A third, half of those two thirds, is back with anna on day 4.
    assert table["median_s"][:2].tolist() == [4 * 86_400, 20 * 86_400]
    assert table["within_s"].tolist() == [20 * 86_400] * 3


def test_a_window_is_exact_and_waits_have_four_digits(con: ibis.BaseBackend) -> None:
    """14 days are 1,209,600 s, and a wait of a second more is too long, though both would be 1,210,000 s if rounded."""
    instants = ("2026-03-01", "2026-03-15 00:00:01", "2026-03-16 10:17:37")
    steps = make_steps(log_of(("anna", instants)), con=con)
    table = count_repeats(steps, event="a", within="14D", as_of="2026-05-01", min_n=1)
    assert table["share_censored"].tolist() == [0, 1, 0]
    assert table["median_s"][1] == 123_500
    longer = count_repeats(steps, event="a", within="337h", as_of="2026-05-01", min_n=1)
    assert longer["share_censored"].tolist() == [1, 1, 0]
    # The same of a silence: one second of dormancy.
    churn = count_churn(steps, dormant_after="1s", within="14D", as_of="2026-05-01")
    assert churn[["share_returned", "within_s"]].values.tolist() == [[1, 14 * 86_400]]
    assert count_churn(steps, dormant_after="14D", within=None, as_of="2026-05-01")["within_s"].tolist() == [1]


def test_rare_purchases_have_no_row(con: ibis.BaseBackend) -> None:
    rows = log_of(*((f"k{i}", ["2026-03-01", "2026-03-02"][: 1 + (i < 29)]) for i in range(40)))
    steps = make_steps(rows, con=con)
    assert count_repeats(steps, event="a")["n"].tolist() == [40]
    assert count_repeats(steps, event="a", min_n=29)["n"].tolist() == [40, 29]
    # The first is always there.
    assert count_repeats(steps, event="a", min_n=1000)["n"].tolist() == [40]


def test_at_most_ten_repeats(con: ibis.BaseBackend) -> None:
    rows = log_of(("anna", [f"2026-03-{day:02}" for day in range(1, 15)]))
    assert count_repeats(make_steps(rows, con=con), event="a", min_n=1)["k"].tolist() == list(range(1, 11))


# Simulated truth, as for retention.


def test_repeat_share_and_median_cover_the_truth(con: ibis.BaseBackend) -> None:
    """4 in 10 buy again, after 20 days on average (exponential)."""
    rng, n, p, mean, window = np.random.default_rng(1), 250, 0.4, 20.0, 30.0
    truth = p * (1 - math.exp(-window / mean))
    median = -mean * math.log(1 - truth / 2 / p) * 86_400
    covered = median_covered = 0
    naive, censored = [], []
    for _ in range(RUNS):
        start = rng.uniform(0, SPAN, n)
        again = start + np.where(rng.random(n) < p, rng.exponential(mean, n), np.inf)
        steps = stored_steps(con, *as_seen(np.tile(np.arange(n), 2), np.concatenate((start, again))))
        row = count_repeats(steps, event="a", within="30D", as_of=END).iloc[0]
        covered += row["censored_low"] <= truth <= row["censored_high"]
        high = np.inf if np.isnan(row["median_s_high"]) else row["median_s_high"]
        median_covered += row["median_s_low"] <= median <= high
        naive.append(row["share"])
        censored.append(row["share_censored"])
        drop_tables(con)
    assert is_covered(covered / RUNS)
    # Told to be on the wide side: more is no fault.
    assert is_covered(min(median_covered / RUNS, 0.95))
    error = np.std(censored) / math.sqrt(RUNS)
    assert abs(np.mean(censored) - truth) < 3 * error
    assert np.mean(naive) < truth - 5 * error


def test_return_from_silence_covers_the_truth(con: ibis.BaseBackend) -> None:
    """Half of those who are silent for a week come back, 10 days later on average; the others never."""
    rng, n = np.random.default_rng(2), 250
    truth = 0.5 * (1 - math.exp(-14 / 10))
    covered, naive, censored = 0, [], []
    for _ in range(RUNS):
        start = rng.uniform(0, SPAN, n)
        back = start + 7 + np.where(rng.random(n) < 0.5, rng.exponential(10, n), np.inf)
        steps = stored_steps(con, *as_seen(np.tile(np.arange(n), 2), np.concatenate((start, back))))
        row = count_churn(steps, dormant_after="7D", within="14D", as_of=END).iloc[0]
        covered += row["low"] <= truth <= row["high"]
        # Who is back by the end, later than within 14 days too: neither share is the one that is asked for.
        naive.append(row["n_returned"] / row["n_silent"])
        censored.append(row["share_returned"])
        drop_tables(con)
    assert is_covered(covered / RUNS)
    error = np.std(censored) / math.sqrt(RUNS)
    assert abs(np.mean(censored) - truth) < 3 * error
    assert abs(np.mean(naive) - truth) > 5 * error
