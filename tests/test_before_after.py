"""Before and after a change: counts and estimates against those by hand, error rates against known truth."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import ibis
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import statsmodels.api as sm
from conftest import START, Row, fetch, make_steps
from matplotlib import pyplot as plt
from scipy.stats import t

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.time_series import estimate_changes

mpl.use("Agg")

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
DAY, WEEK = timedelta(days=1), timedelta(days=7)
Array = npt.NDArray[np.float64]


def estimate_by_hand(y: Array, variance: Array, time: Array, x: Array) -> dict[str, Array]:
    """The mixture of regressions with whole matrices: value and error of each rho, and its weight."""
    found: dict[str, list[Any]] = {"weight": [], "value": [], "error": [], "df": []}
    for rho in np.linspace(0, 0.95, 20):
        sigma = np.sqrt(np.outer(variance, variance)) * rho ** np.abs(np.subtract.outer(time, time))
        fit = sm.GLS(y, x, sigma=sigma).fit()
        inverse = np.linalg.inv(sigma)
        log_weight = -np.linalg.slogdet(sigma)[1] / 2 - np.linalg.slogdet(x.T @ inverse @ x)[1] / 2
        spread = max(fit.scale, 1)
        log_weight += 2 * np.log(1 - rho) - fit.df_resid / 2 * (np.log(spread) + fit.scale / spread)
        found["weight"].append(log_weight)
        found["value"].append(fit.params)
        found["error"].append(fit.bse * max(1, fit.scale**-0.5))
        found["df"].append(fit.df_resid if fit.scale > 1 else 1e9)
    weight = np.exp(np.array(found["weight"]) - max(found["weight"]))
    return {**{name: np.array(values) for name, values in found.items()}, "weight": weight / weight.sum()}


@pytest.mark.parametrize("has_trend", [True, False])
@pytest.mark.parametrize("tau", [0.0, 0.05])
def test_estimates_are_those_of_whole_matrices(has_trend: bool, tau: float) -> None:
    rng = np.random.default_rng(2)
    time = np.concatenate([np.arange(-12, 0) - 1.5, np.arange(7) + 0.5])
    n = rng.integers(50, 300, len(time))
    y = rng.binomial(n, 0.2 + tau * rng.uniform(-1, 1, len(time))) / n
    variance, extra = 0.16 / n, rng.normal(size=(len(time), 1))
    line = np.column_stack([np.ones_like(time), time][: 1 + has_trend])
    x = np.column_stack([line, line * (time > 0)[:, None], extra])
    by_hand, columns = estimate_by_hand(y, variance, time, x), line.shape[1]
    changes, expected = estimate_changes(y, variance, time, has_trend=has_trend, extra=extra)
    assert len(changes) == columns
    mean = by_hand["weight"] @ by_hand["value"]
    assert expected == pytest.approx(line @ mean[:columns] + extra @ mean[2 * columns :])
    for i, change in enumerate(changes):
        assert (change.before, change.effect) == pytest.approx((mean[i], mean[columns + i]))
        assert change.after - change.before == pytest.approx(change.effect)

        def lies_below(limit: float, i: int = columns + i) -> float:
            parts = t.cdf((limit - by_hand["value"][:, i]) / by_hand["error"][:, i], by_hand["df"])
            return float(by_hand["weight"] @ parts)

        assert (lies_below(change.low), lies_below(change.high)) == pytest.approx((0.025, 0.975))
        assert change.p == pytest.approx(2 * min(lies_below(0), 1 - lies_below(0)))


def test_what_has_no_spread_is_not_certain() -> None:
    time = np.arange(-8, 4) + 0.5
    nobody, _ = estimate_changes(np.zeros(12), np.full(12, 1e-4), time, has_trend=True)
    assert [(change.effect, change.p) for change in nobody] == [(0, pytest.approx(1))] * 2
    assert nobody[0].low < -0.005 < 0.005 < nobody[0].high
    # A step as clean as can be: found, and still with the width that chance leaves.
    step, expected = estimate_changes(0.5 + 0.2 * (time > 0), np.full(12, 1e-4), time, has_trend=False)
    assert step[0].effect == pytest.approx(0.2)
    assert step[0].high - step[0].low > 0.01
    assert expected == pytest.approx(np.full(12, 0.5))


# Simulated series. A share moves by chance (binomial), and with tau and rho about its level, too.
def draw_shares(rng: np.random.Generator, time: Array, n: Array, level: Array, tau: float, rho: float) -> Array:
    """Levels move with standard deviation `tau`; the move keeps `rho` of itself from period to period."""
    whole = np.arange(time[0], time[-1] + 1)
    noise = rng.normal(size=len(whole))
    for i in range(1, len(whole)):
        noise[i] = rho * noise[i - 1] + (1 - rho**2) ** 0.5 * noise[i]
    moved = level + tau * noise[np.isin(whole, time)]
    shares: Array = rng.binomial(n.astype(int), moved.clip(0.01, 0.99)) / n
    return shares


def weigh(y: Array, n: Array) -> Array:
    usual = (y * n).sum() / n.sum()
    variance: Array = usual * (1 - usual) / n
    return variance


# 16 weeks before and 8 after, with a gap of two; 20 % convert, and a little more every week.
TIME = np.concatenate([np.arange(-16, 0) - 1.5, np.arange(8) + 0.5])
SETTINGS = {
    "chance alone": (300, 0.0, 0.0),
    "more than chance": (300, 0.02, 0.0),
    "mildly alike": (300, 0.02, 0.4),
    "strongly alike": (2000, 0.03, 0.6),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("effect", [0.0, 0.06])
def test_intervals_cover_and_alarms_are_rare(setting: str, effect: float) -> None:
    """Level and slope of the interrupted series, and difference in differences with a season that both sides share."""
    size, tau, rho = SETTINGS[setting]
    rng, repeats = np.random.default_rng(5), 4_000 if FULL else 150
    season, is_after = 0.03 * np.sin(TIME / 4), TIME > 0
    covered, sure = np.zeros(3), np.zeros(3)
    for _ in range(repeats):
        n, m = rng.poisson(size, (2, len(TIME))).astype(float)
        trend = 0.2 + 0.001 * TIME
        touched = draw_shares(rng, TIME, n, trend + effect * is_after, tau, rho)
        changes, _ = estimate_changes(touched, weigh(touched, n), TIME, has_trend=True)
        one = draw_shares(rng, TIME, n, trend + season + effect * is_after, tau, rho)
        two = draw_shares(rng, TIME, m, trend + season + 0.05, tau, rho)
        variance = weigh(one, n) + weigh(two, m)
        changes += estimate_changes(one - two, variance, TIME, has_trend=False)[0]
        truth = (effect, 0.0, effect)
        covered += [change.low <= true <= change.high for change, true in zip(changes, truth, strict=True)]
        sure += [change.p < 0.05 for change in changes]
    covered, sure = covered / repeats, sure / repeats
    print(f"{setting}, effect {effect}: level, slope, difference cover {covered}, found {sure}")
    # Where weeks are strongly alike, 24 of them do not show how much: least squares are wrong there one time in four.
    least = 0.85 if setting == "strongly alike" else 0.94
    assert (covered >= least - 3 * (0.05 * 0.95 / repeats) ** 0.5).all()
    if effect and setting == "chance alone":
        assert sure[2] > 0.6
    if not effect:
        assert sure == pytest.approx(1 - covered)


def test_least_squares_cry_wolf() -> None:
    """Why neighbours count: the errors in common use, of the same series."""
    rng, repeats = np.random.default_rng(5), 1_000 if FULL else 150
    found = np.zeros(2)
    x = np.column_stack([np.ones_like(TIME), TIME, TIME > 0, TIME * (TIME > 0)])
    n = np.full(len(TIME), 2000.0)
    for _ in range(repeats):
        y = draw_shares(rng, TIME, n, np.full(len(TIME), 0.2), 0.03, 0.6)
        model = sm.WLS(y, x, weights=n)
        hac = {"cov_type": "HAC", "cov_kwds": {"maxlags": 2, "use_correction": True}, "use_t": True}
        found += [model.fit(**options).pvalues[2] < 0.05 for options in ({}, hac)]
    print("false alarms of least squares and of Newey-West:", found / repeats)
    assert (found / repeats > 0.15).all()


# Funnels of two steps whose units are drawn, not walked.
RULES = jl.FunnelRules(["a", "b"], within="10D")
CHANGED = START + 10 * WEEK


class Draws:
    def __init__(self, con: ibis.BaseBackend) -> None:
        rows = [
            {"customer_id": f"{i}", "event": event, "timestamp": START + i * DAY, "channel": channel}
            for i, channel in enumerate(("app", "web"))
            for event in ("a", "b")
        ]
        self.real = jl.build_funnel(make_steps(rows, con=con), RULES, by="channel", as_of=START + 30 * WEEK)

    def funnel(self, starts: Mapping[str, list[tuple[datetime, int, int]]]) -> jl.Funnel:
        """Per group: when how many started, and how many of them converted."""
        names, begun, ended = [], [], []
        for name, groups in starts.items():
            for time, n, x in groups:
                names += [name] * n
                begun += [time] * n
                ended += [time] * x + [None] * (n - x)
        time_type = pa.timestamp("us")
        rows = {"group": pa.array(names, pa.string()), "is_mature": [True] * len(names)}
        rows |= {"time_1": pa.array(begun, time_type), "time_2": pa.array(ended, time_type)}
        table = pd.DataFrame({"channel": list(starts)})
        return replace(self.real, units=ibis.memtable(pa.table(rows)), table=table)


@pytest.fixture
def draws(con: ibis.BaseBackend) -> Draws:
    return Draws(con)


def draw_weeks(rng: np.random.Generator, n: int, level: float, effect: float = 0.0) -> list[tuple[datetime, int, int]]:
    """30 weeks of starts, all at noon of the Monday; from `CHANGED` on with the effect."""
    begun = [START + week * WEEK + timedelta(hours=12) for week in range(30)]
    return [(time, n, int(rng.binomial(n, level + effect * (time >= CHANGED)))) for time in begun]


def test_the_placebo_share_is_about_uniform(draws: Draws) -> None:
    rng, repeats = np.random.default_rng(8), 200 if FULL else 16
    found = []
    for _ in range(repeats):
        funnel = draws.funnel({"app": draw_weeks(rng, 60, 0.3), "web": draw_weeks(rng, 60, 0.2)})
        # The change came when nothing did; 16 weeks before it give 9 placebo dates.
        answer = jl.compare_before_after(funnel, START + 18 * WEEK, untouched="web")
        assert set(answer.table["n_placebo"]) == {9}
        found.append(answer.table.set_index("estimate")["placebo"])
    shares = pd.DataFrame(found)
    print("placebo share: mean", shares.mean().to_dict(), "at most 0.2:", (shares <= 0.2).mean().to_dict())
    # Of ten equally likely places the mean is 0.55; neighbouring dates share most of their data, so the ends are heavy.
    assert (abs(shares.mean() - 0.55) < (0.08 if FULL else 0.25)).all()
    assert ((shares <= 0.2).mean() <= (0.35 if FULL else 0.5)).all()


def test_a_planted_effect_is_found_and_said(draws: Draws) -> None:
    rng = np.random.default_rng(1)
    funnel = draws.funnel({"app": draw_weeks(rng, 400, 0.2, 0.15), "web": draw_weeks(rng, 400, 0.3)})
    answer = jl.compare_before_after(funnel, "2026-03-12", untouched="web")
    rows = answer.table.set_index("estimate")
    assert list(rows.index) == ["level", "slope", "difference"]
    assert (rows.loc[["level", "difference"], "p"] < 0.001).all()
    assert rows.loc["slope", "p"] > 0.05
    assert rows.loc["difference", "low"] < 0.15 < rows.loc["difference", "high"]
    assert (rows["effect"] - (rows["after"] - rows["before"])).abs().max() < 1e-12
    assert rows.loc["difference", "before"] == pytest.approx(-0.1, abs=0.03)
    # 2026-03-12 is ten weeks after 2026-01-01; of these ten days lie in the gap.
    assert rows[["n_before", "n_after"]].to_numpy().tolist() == [[3200, 7200]] * 2 + [[6400, 14400]]
    assert answer.n_crossing == 800
    level, difference = rows.loc["level"], rows.loc["difference"]
    assert answer.sentence == (
        f"Conversion from a to b within 10D rose on 2026-03-12 from {100 * level['before']:.1f} %, which the 8 weeks "
        f"before led to expect, to {100 * level['after']:.1f} %: +{100 * level['effect']:.1f} pp (95 % interval "
        f"+{100 * level['low']:.1f} to +{100 * level['high']:.1f} pp); compared with web, which was not touched, it "
        f"moved by +{100 * difference['effect']:.1f} pp (95 % interval +{100 * difference['low']:.1f} to "
        f"+{100 * difference['high']:.1f} pp). At 0 of 1 earlier dates, when nothing was changed, the same sum is as "
        "clear; 800 starts whose time crosses the change are left out. This says when, not why: whatever else changed "
        "then is part of it, unless it moved web alike."
    )
    assert len(answer.placebos) == rows["n_placebo"].sum()
    # Half of the eight weeks before; the eighth ends ten days before the change.
    assert set(answer.placebos["changed"]) == {pd.Timestamp(CHANGED - 10 * DAY - 4 * WEEK)}


def test_a_season_that_both_share_is_no_difference(draws: Draws) -> None:
    """All rise at the change: the interrupted series cannot know that, the difference does."""
    rng = np.random.default_rng(3)
    both = {"app": draw_weeks(rng, 400, 0.2, 0.1), "web": draw_weeks(rng, 400, 0.3, 0.1)}
    answer = jl.compare_before_after(draws.funnel(both), CHANGED, untouched=["web"])
    p = answer.table.set_index("estimate")["p"]
    assert p["level"] < 0.05
    assert p["difference"] > 0.05
    assert "no more than chance may bring" in answer.sentence
    alone = jl.compare_before_after(draws.funnel(both), CHANGED)
    assert list(alone.table["estimate"]) == ["level", "slope"]
    assert list(dict.fromkeys(alone.series["side"])) == ["touched"]
    assert alone.series["n"].sum() == answer.series["n"].sum()


def test_days_have_their_own_levels(draws: Draws) -> None:
    """Weekends convert half as well, and there are no starts on Sundays; the change is one of all days."""
    rng = np.random.default_rng(6)
    days = []
    for i in range(80):
        time = START + i * DAY
        share = (0.2 if time.weekday() == 5 else 0.4) + 0.1 * (time >= START + 50 * DAY)
        n = 0 if time.weekday() == 6 else 300
        days.append((time, n, int(rng.binomial(n, share))))
    answer = jl.compare_before_after(draws.funnel({"app": days}), START + 50 * DAY, period="D")
    level = answer.table.iloc[0]
    assert level["low"] < 0.1 < level["high"]
    assert level["high"] - level["low"] < 0.08
    expected = answer.series[answer.series["is_after"] & (answer.series["n"] > 0)]
    is_saturday = expected["start"].dt.day_of_week == 5
    assert expected.loc[is_saturday, "expected"].mean() == pytest.approx(0.2, abs=0.05)
    assert expected.loc[~is_saturday, "expected"].mean() == pytest.approx(0.4, abs=0.05)
    assert answer.series.loc[answer.series["n"] == 0, ["share", "expected"]].isna().all(axis=None)


# Counting, of funnels that were walked.
def draw_visits(rng: np.random.Generator) -> list[Row]:
    """Three starts a day on 130 days, at the day's edges, some converting hours or weeks later; a week without any."""
    begun = [day for day in np.repeat(range(130), 3) if not 14 <= day < 21]
    moments = (timedelta(0), timedelta(hours=23, minutes=59), timedelta(hours=24) - timedelta(microseconds=1))
    waits = (None, timedelta(hours=1), 3 * DAY, 3 * DAY + timedelta(microseconds=1), 20 * DAY)
    rows = []
    for i, day in enumerate(begun):
        time, wait = START + int(day) * DAY + moments[rng.integers(3)], waits[rng.integers(5)]
        row = {"customer_id": str(i), "event": "a", "timestamp": time, "channel": ("app", "web")[rng.integers(2)]}
        rows += [row] if wait is None else [row, {**row, "event": "b", "timestamp": time + wait}]
    return rows


@pytest.mark.parametrize("has_sides", [False, True])
@pytest.mark.parametrize("period", ["D", "W"])
@pytest.mark.parametrize("seed", range(40 if FULL else 2))
def test_series_as_by_hand(con: ibis.BaseBackend, seed: int, period: Any, has_sides: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, day = draw_visits(rng), 76 + seed % 8
    rules = jl.FunnelRules(["a", "b"], within="3D")
    funnel = jl.build_funnel(make_steps(rows, con=con), rules, by="channel", as_of=START + 128 * DAY)
    changed, length = START + day * DAY, {"D": DAY, "W": WEEK}[period]
    first = min(unit["time_1"] for unit in fetch(funnel.units))
    before, after = [changed - 3 * DAY], [changed]
    while before[0] - length >= first:
        before.insert(0, before[0] - length)
    while after[-1] + length + 3 * DAY <= funnel.as_of:
        after.append(after[-1] + length)
    starts = [*before[:-1], *after[:-1]]
    counts: Counter[tuple[str, datetime, bool]] = Counter()
    crossing = young = 0
    for unit in fetch(funnel.units):
        time, side = unit["time_1"], "untouched" if has_sides and unit["group"] == "web" else "touched"
        crossing += changed - 3 * DAY <= time < changed
        young += time >= after[-1]
        for start in starts:
            if start <= time < start + length:
                counts[side, start, False] += 1
                counts[side, start, True] += unit["time_2"] is not None
    answer = jl.compare_before_after(funnel, changed, period=period, untouched="web" if has_sides else None)
    assert (answer.n_crossing, answer.n_young) == (crossing, young)
    sides = ["touched", "untouched"] if has_sides else ["touched"]
    assert answer.series[["side", "start"]].to_numpy().tolist() == [
        [side, pd.Timestamp(start)] for side in sides for start in starts
    ]
    for row in answer.series.to_dict("records"):
        key = (row["side"], row["start"].to_pydatetime())
        assert (row["n"], row["n_converted"]) == (counts[*key, False], counts[*key, True])
        assert row["is_after"] == (key[1] >= changed)
        if row["n"]:
            assert row["share"] == row["n_converted"] / row["n"]
            assert row["low"] <= row["share"] + 1e-12 <= row["high"] + 2e-12


def test_pictures(draws: Draws) -> None:
    rng = np.random.default_rng(1)
    funnel = draws.funnel({"app": draw_weeks(rng, 50, 0.2, 0.15), "$x_1$": draw_weeks(rng, 50, 0.3)})
    answer = jl.compare_before_after(funnel, CHANGED, untouched="$x_1$")
    ax = answer.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    touched = answer.series[answer.series["side"] == "touched"]
    assert np.array_equal(lines["touched, n = 1,300"].get_ydata(), touched["share"])
    after = touched[touched["is_after"]]
    assert np.array_equal(lines["expected without the change"].get_ydata(), after["expected"])
    assert len(lines["trend before"].get_xdata()) == 8
    assert ax.get_title(loc="left") == "Conversion by week: 800 starts before the change, 1,800 after it"
    html = answer._repr_html_()
    assert html == answer._repr_html_()
    assert "$x_1$" in html
    assert jl.draw_before_after(answer).alt == answer.sentence
    plt.close("all")


def test_errors(draws: Draws, con: ibis.BaseBackend) -> None:
    rng = np.random.default_rng(1)
    funnel = draws.funnel({"app": draw_weeks(rng, 5, 0.2), "web": draw_weeks(rng, 5, 0.3)})
    with pytest.raises(RuleError) as error:
        jl.compare_before_after(funnel, "2026-02-01")
    assert str(error.value) == (
        "compare_before_after: 2 whole weeks with starts before 2026-02-01 and 24 after it; needs 8 and 4. Starts less "
        "than 10 days before the change do not count, for their time crosses it, nor do those whose time is not over "
        'by 2026-07-30. Take a longer log or a shorter `within`, or period="D"'
    )
    with pytest.raises(RuleError, match=r"28 whole weeks with starts before 2026-08-01 06:00 and 0 after it"):
        jl.compare_before_after(funnel, "2026-08-01T06:00")
    few = draws.funnel({"app": draw_weeks(rng, 5, 0.2), "web": draw_weeks(rng, 5, 0.2)[:15]})
    with pytest.raises(RuleError, match=r"and 5 after it|and 4 after it|\(untouched\); needs 8 and 4"):
        jl.compare_before_after(few, START + 13 * WEEK, untouched="web")
    for options, words in (
        ({"untouched": "wed"}, 'no group "wed". Did you mean "web"? The groups are app, web'),
        ({"untouched": ["web", "app"]}, "untouched must name some of the groups, not all: app, web"),
        ({"untouched": []}, "untouched must name some of the groups, not none: app, web"),
        ({"period": "M"}, "compare_before_after: period must be one of D, W; found 'M'."),
        ({"step": 3}, "step must be a number from 2 to 2, the steps after the start; found 3"),
    ):
        with pytest.raises(RuleError) as error:
            jl.compare_before_after(funnel, CHANGED, **options)  # type: ignore[arg-type]
        assert words in str(error.value)
    with pytest.raises(RuleError, match="changed must be a date or a time"):
        jl.compare_before_after(funnel, "3 November")
    steps = make_steps([{"customer_id": "k", "event": name, "timestamp": START} for name in "ab"], con=con)
    with pytest.raises(RuleError, match='build the funnel with within=, such as within="14D"'):
        jl.compare_before_after(jl.build_funnel(steps, ["a", "b"]), CHANGED)
    with pytest.raises(RuleError, match='untouched names groups: build the funnel with by=, such as by="channel"'):
        jl.compare_before_after(jl.build_funnel(steps, RULES), CHANGED, untouched="web")
