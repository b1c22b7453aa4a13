"""Estimates from spells against hand counts, a plain-Python oracle, statsmodels on unfolded rows, and known truths."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight, survdiff
from statsmodels.stats.proportion import proportion_confint

from journeylab.errors import RuleError
from journeylab.survival import compare_survival, estimate_curve, estimate_incidence, estimate_quantile

Spell = tuple[int, int, int]  # duration, ended, n
IS_FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
RUNS = 4000 if IS_FULL else 400
# Where 95 % is stated: what so many runs may show.
COVERAGE = (0.93, 0.975) if IS_FULL else (0.915, 0.985)

SPELLS = st.lists(st.tuples(st.integers(0, 8), st.sampled_from((0, 1, 2)), st.integers(1, 4)), min_size=1, max_size=12)
PLAIN_SPELLS = SPELLS.map(lambda spells: [(duration, int(ended == 1), n) for duration, ended, n in spells])


def to_frame(spells: list[Spell]) -> pd.DataFrame:
    return pd.DataFrame(spells, columns=["duration_s", "ended", "n"]).astype({"duration_s": float})


def unfold(spells: list[Spell]) -> list[Spell]:
    return [(duration, ended, 1) for duration, ended, n in spells for _ in range(n)]


def incidence_by_hand(spells: list[Spell], at: float) -> tuple[float, int]:
    """Aalen and Johansen, spell by spell and in fractions; one less the product limit where nobody ended with 2."""
    people = [(duration, ended) for duration, ended, n in spells for _ in range(n)]
    still, share = Fraction(1), Fraction(0)
    for time in sorted({duration for duration, _ in people if duration <= at}):
        n = sum(duration >= time for duration, _ in people)
        events = sum(person == (time, 1) for person in people)
        others = sum(person == (time, 2) for person in people)
        share += still * Fraction(events, n)
        still *= 1 - Fraction(events + others, n)
    n_at_risk = sum(duration >= at for duration, _ in people)
    return (float(share) if n_at_risk or still == 0 else math.nan), n_at_risk


# Eight spells: who left on day 4 for good is no longer there for the event on day 6.
EIGHT: list[Spell] = [(1, 1, 1), (2, 1, 1), (2, 0, 1), (3, 0, 1), (4, 2, 1), (6, 1, 1), (7, 0, 1), (7, 0, 1)]


def test_product_limit_by_hand() -> None:
    spells = to_frame([(duration, int(ended == 1), n) for duration, ended, n in EIGHT])
    found = estimate_incidence(spells, at=[0, 1, 2, 5, 6, 7, 8])
    # 7/8, then 7/8 · 6/7 = 6/8, then three are left on day 6: 6/8 · 2/3 = 1/2. Day 8 has nobody.
    np.testing.assert_allclose(found["share"], [0, 1 / 8, 2 / 8, 2 / 8, 1 / 2, 1 / 2, np.nan])
    assert found["n_at_risk"].tolist() == [8, 8, 7, 3, 3, 2, 0]
    # Greenwood on day 6: S² (1/(8·7) + 1/(7·6) + 1/(3·2)), on the log(-log) scale of S = 1/2.
    error = 0.5 * math.sqrt(1 / 56 + 1 / 42 + 1 / 6)
    width = 1.959964 * error / (0.5 * math.log(2))
    bounds = found.loc[4, ["low", "high"]].tolist()
    assert bounds == pytest.approx([1 - 0.5 ** math.exp(-width), 1 - 0.5 ** math.exp(width)], abs=1e-6)


def test_cumulative_incidence_by_hand() -> None:
    found = estimate_incidence(to_frame(EIGHT), at=[2, 4, 6])
    # Day 4: one of four leaves for good, 6/8 · 3/4 = 9/16 are still there; day 6 brings a third of them.
    np.testing.assert_allclose(found["share"], [2 / 8, 2 / 8, 2 / 8 + 9 / 16 / 3])
    assert found["n_at_risk"].tolist() == [7, 4, 3]


def test_a_share_is_known_as_long_as_somebody_is_watched_or_all_have_ended() -> None:
    waiting, ended = to_frame([(1, 1, 1), (5, 0, 1)]), to_frame([(1, 1, 1), (5, 2, 1)])
    assert estimate_incidence(waiting, at=[5, 5.5])["share"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert estimate_incidence(ended, at=[5, 500])["share"].tolist() == [0.5, 0.5]
    # In the same instant one comes to the end and one is no longer watched: that one might still come.
    tied = estimate_incidence(to_frame([(5, 1, 1), (5, 0, 1)]), at=[5, 6])
    assert tied["share"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert tied.loc[1, ["low", "high"]].isna().all()
    nobody = estimate_incidence(to_frame([]), at=[1])
    assert math.isnan(nobody["share"][0])
    assert nobody["n_at_risk"][0] == 0
    assert estimate_curve(to_frame([])).empty


def test_bounds_of_none_and_of_all() -> None:
    none = estimate_incidence(to_frame([(3, 0, 4), (9, 0, 6)]), at=[2, 3, 4, 9])
    assert none["share"].tolist() == none["low"].tolist() == [0, 0, 0, 0]
    assert none["high"].tolist() == [proportion_confint(0, n, method="wilson")[1] for n in (10, 10, 6, 6)]
    at_once = estimate_incidence(to_frame([(3, 1, 10)]), at=[3])
    assert at_once[["share", "low", "high"]].loc[0].tolist() == [1, proportion_confint(10, 10, method="wilson")[0], 1]
    # The last of a hundred comes late: that 99 had come stays known.
    late = estimate_incidence(to_frame([(3, 1, 99), (9, 1, 1)]), at=[3, 9])
    assert late["share"].tolist() == pytest.approx([0.99, 1])
    assert late["low"][1] == late["low"][0] > 0.9
    assert late["high"][1] == 1


@examples(100)
@given(spells=SPELLS | PLAIN_SPELLS)
def test_shares_are_those_of_the_oracle(spells: list[Spell]) -> None:
    times = [0, 0.5, 1, 3, 4, 7, 8, 9]
    found = estimate_incidence(to_frame(spells), at=times)
    expected = [incidence_by_hand(spells, time) for time in times]
    np.testing.assert_allclose(found["share"], [share for share, _ in expected], atol=1e-12)
    assert found["n_at_risk"].tolist() == [n for _, n in expected]
    known = found.dropna()
    assert (known["share"] - known["low"] >= -1e-12).all()
    assert (known["high"] - known["share"] >= -1e-12).all()
    assert known[["low", "high"]].stack().between(0, 1).all()


@examples(60)
@given(spells=SPELLS | PLAIN_SPELLS)
def test_weights_are_repetition(spells: list[Spell]) -> None:
    folded, rows = to_frame(spells), to_frame(unfold(spells))
    pd.testing.assert_frame_equal(estimate_incidence(folded, at=[2, 5, 8]), estimate_incidence(rows, at=[2, 5, 8]))
    pd.testing.assert_frame_equal(estimate_curve(folded), estimate_curve(rows))
    assert estimate_quantile(folded, 0.3) == pytest.approx(estimate_quantile(rows, 0.3), nan_ok=True)
    halves = folded.assign(group=np.arange(len(folded)) % 2)
    repeated = halves.loc[halves.index.repeat(halves["n"])].assign(n=1)
    assert compare_survival(halves) == pytest.approx(compare_survival(repeated), nan_ok=True)


def bounds_of(share: NDArray[Any], error: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    width = 1.959963984540054 * error / ((1 - share) * -np.log(1 - share))
    return 1 - (1 - share) ** np.exp(-width), 1 - (1 - share) ** np.exp(width)


@examples(60)
@given(spells=SPELLS | PLAIN_SPELLS)
def test_intervals_are_those_of_the_unfolded_rows(spells: list[Spell]) -> None:
    """statsmodels gives its own standard errors as long as no weights are involved: ours are the same."""
    time, ended = (np.array([row[i] for row in unfold(spells)]) for i in (0, 1))
    with np.errstate(all="ignore"):
        if (ended == 2).any():
            curve = CumIncidenceRight(time, ended)
            times, share, error = curve.times, curve.cinc[0], curve.cinc_se[0]
        else:
            plain = SurvfuncRight(time, ended)
            times, share, error = plain.surv_times, 1 - plain.surv_prob, plain.surv_prob_se
    usable = (share > 1e-9) & (share < 1 - 1e-9) & np.isfinite(error)
    found = estimate_incidence(to_frame(spells), at=times[usable])
    low, high = bounds_of(share[usable], error[usable])
    np.testing.assert_allclose(found["low"], low, atol=1e-7)
    np.testing.assert_allclose(found["high"], high, atol=1e-7)


@examples(60)
@given(spells=PLAIN_SPELLS, p=st.sampled_from((0.25, 0.31, 0.5)))
def test_quantiles_are_those_of_statsmodels(spells: list[Spell], p: float) -> None:
    time, ended = (np.array([row[i] for row in unfold(spells)]) for i in (0, 1))
    value, low, high = estimate_quantile(to_frame(spells), p)
    reached = [at for at in sorted(set(time.tolist())) if incidence_by_hand(spells, at)[0] >= p - 1e-12]
    assert value == pytest.approx(reached[0] if reached else np.nan, nan_ok=True)
    assert not low > value
    assert not high < value
    if not ended.any():
        return
    curve = SurvfuncRight(time, ended)
    with np.errstate(all="ignore"):
        sm_low, sm_high = curve.quantile_ci(p)
    # It skips a curve that jumps from surely below p to surely above, and cannot judge where all have come.
    if np.isfinite(curve.surv_prob_se).all() and not math.isnan(sm_low):
        assert low == sm_low
        assert high == sm_high or (math.isnan(high) and math.isinf(sm_high))


def test_a_median_that_is_jumped_over_has_bounds() -> None:
    spells = to_frame([(1, 1, 1000), (2, 1, 8000), (3, 0, 1000)])
    assert estimate_quantile(spells, 0.5) == (2, 2, 2)
    with_other_ends = to_frame([(1, 1, 1000), (2, 1, 8000), (3, 2, 1000)])
    assert estimate_quantile(with_other_ends, 0.5) == (2, 2, 2)
    assert all(map(math.isnan, estimate_quantile(spells, 0.95)))


def test_half_is_reached_at_exactly_one_half() -> None:
    assert estimate_quantile(to_frame([(i, int(i <= 5), 1) for i in range(1, 11)]), 0.5)[0] == 5


def test_log_rank_is_that_of_statsmodels() -> None:
    spells = to_frame([(i % 13, (i * 7) % 3, 1 + i % 4) for i in range(60)])
    spells["group"] = [("a", "b", "c")[i % 3] for i in range(60)]
    rows = spells.loc[spells.index.repeat(spells["n"])]
    # Whoever ended otherwise is watched until then.
    expected = survdiff(rows["duration_s"], (rows["ended"] == 1).astype(int), rows["group"])
    assert compare_survival(spells) == pytest.approx(expected)


def test_log_rank_of_nothing_to_compare() -> None:
    one = to_frame([(1, 1, 3), (2, 0, 2)]).assign(group="a")
    no_event = to_frame([(1, 0, 3), (2, 0, 2)]).assign(group=["a", "b"])
    for spells in (one, no_event, one.head(0)):
        assert all(map(math.isnan, compare_survival(spells)))


def draw_spells(rng: np.random.Generator, n: int, *, has_others: bool = False) -> pd.DataFrame:
    """Exponential times to the event (mean 10), to another end (mean 15), entries spread evenly over 20."""
    event, other, watched = rng.exponential(10, n), rng.exponential(15, n), rng.uniform(0, 20, n)
    other = other if has_others else np.full(n, np.inf)
    duration = np.minimum(np.minimum(event, other), watched)
    ended = np.where(duration == watched, 0, np.where(duration == event, 1, 2))
    return pd.DataFrame({"duration_s": duration, "ended": ended, "n": 1})


@pytest.mark.parametrize("has_others", [False, True])
def test_intervals_cover(has_others: bool) -> None:
    at, rate = 8.0, 1 / 10 + (1 / 15 if has_others else 0)
    truth = (1 / 10) / rate * (1 - math.exp(-rate * at))
    covered, shares = 0, []
    for seed in range(RUNS):
        found = estimate_incidence(draw_spells(np.random.default_rng(seed), 150, has_others=has_others), at=[at])
        covered += found["low"][0] <= truth <= found["high"][0]
        shares.append(found["share"][0])
    assert abs(np.mean(shares) - truth) < 3.5 * np.std(shares) / math.sqrt(RUNS)
    assert COVERAGE[0] <= covered / RUNS <= COVERAGE[1]


def test_medians_cover() -> None:
    truth, covered = 10 * math.log(2), 0
    for seed in range(RUNS // 2):
        _, low, high = estimate_quantile(draw_spells(np.random.default_rng(seed), 150), 0.5)
        covered += low <= truth <= (math.inf if math.isnan(high) else high)
    assert COVERAGE[0] <= covered / (RUNS // 2) <= COVERAGE[1]


def test_bands_cover_the_whole_curve() -> None:
    """All of it at once; the intervals for single times do so much less often."""
    in_band = in_intervals = 0
    for seed in range(RUNS // 2):
        curve = estimate_curve(draw_spells(np.random.default_rng(seed), 300))
        # The truth at the start and at the end of each flat part.
        start, end = (1 - np.exp(-times / 10) for times in (curve["time_s"], curve["time_s"].shift(-1)))
        end = end.fillna(start)
        in_band += bool(((curve["band_low"] <= start) & (end <= curve["band_high"])).all())
        in_intervals += bool(((curve["low"] <= start) & (end <= curve["high"])).iloc[5:-5].all())
    assert COVERAGE[0] <= in_band / (RUNS // 2) <= COVERAGE[1]
    assert in_intervals / (RUNS // 2) < 0.8


def test_log_rank_rejects_as_often_as_stated() -> None:
    rejected = found = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        spells = draw_spells(rng, 200).assign(group=rng.integers(0, 2, 200))
        rejected += compare_survival(spells)[1] < 0.05
        faster = spells.assign(duration_s=spells["duration_s"] * np.where(spells["group"] == 1, 0.5, 1))
        found += compare_survival(faster)[1] < 0.05
    assert 0.03 <= rejected / RUNS <= 0.07
    assert found / RUNS > 0.9


def test_a_long_curve_is_thinned_to_the_same_picture() -> None:
    spells = draw_spells(np.random.default_rng(1), 20_000)
    curve = estimate_curve(spells)
    assert len(curve) <= 502
    assert curve["time_s"].is_monotonic_increasing
    assert curve["share"].is_monotonic_increasing
    times = np.sort(spells["duration_s"])[::7]
    exact = estimate_incidence(spells, at=times.tolist())["share"].to_numpy()
    drawn = curve["share"].to_numpy()[np.searchsorted(curve["time_s"], times, side="right") - 1]
    assert np.abs(exact - drawn).max() < exact.max() / 400
    # The points are those of the whole curve.
    pd.testing.assert_frame_equal(
        curve[["time_s", "share", "low", "high", "n_at_risk"]], estimate_incidence(spells, at=curve["time_s"].tolist())
    )


def test_curve_of_eight_by_hand() -> None:
    curve = estimate_curve(to_frame(EIGHT))
    columns = ["time_s", "share", "low", "high", "band_low", "band_high", "n_at_risk"]
    assert list(curve.columns) == columns
    assert curve["time_s"].tolist() == [0, 1, 2, 6, 7]
    np.testing.assert_allclose(curve["share"], [0, 1 / 8, 2 / 8, 7 / 16, 7 / 16])
    assert curve["n_at_risk"].tolist() == [8, 8, 7, 3, 2]
    assert curve[["band_low", "band_high"]].isna().all(axis=None)
    # An event at time 0 is on the curve from the start.
    assert estimate_curve(to_frame([(0, 1, 1), (2, 0, 1)]))["share"].tolist() == [0.5, 0.5]


def test_spells_that_are_none_are_refused() -> None:
    with pytest.raises(RuleError, match=r"^spells lack the column n; found duration_s, ended$"):
        estimate_incidence(to_frame(EIGHT)[["duration_s", "ended"]], at=[1])
    with pytest.raises(
        RuleError, match=r"^3 of 4 spells are none: duration_s and n must be 0 or more, ended 0, 1 or 2$"
    ):
        estimate_curve(to_frame([(-1, 0, 1), (1, 3, 1), (1, 1, -1), (1, 1, 1)]))
    with pytest.raises(RuleError, match=r"^spells lack the column group; found duration_s, ended, n$"):
        compare_survival(to_frame(EIGHT))
    with pytest.raises(RuleError, match=r"^estimate_quantile: p must lie between 0 and 1; found 1$"):
        estimate_quantile(to_frame(EIGHT), 1)
