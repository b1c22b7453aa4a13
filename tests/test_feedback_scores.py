"""NPS, CSAT, CES and feelings: right by hand, refused where unclear, and with intervals that cover."""

from __future__ import annotations

import os
import re
from math import isnan, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, multinomial
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.feedback.answers import parse_scale
from journeylab.feedback.feelings import measure_feeling
from journeylab.feedback.scores import bound_net, describe_nps, score_ces, score_csat, score_nps

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
RUNS = 8_000 if FULL else 1_500

# Shares of the scores 0 to 10.
WORLDS = {
    "loved": (0, 0, 0, 0.01, 0, 0.01, 0, 0.03, 0.05, 0.2, 0.7),
    "torn": (0.3, 0.1, 0, 0, 0, 0.05, 0, 0.05, 0.05, 0.05, 0.4),
    "middling": (0.02, 0.02, 0.03, 0.03, 0.05, 0.1, 0.15, 0.2, 0.2, 0.12, 0.08),
    "indifferent": (0, 0, 0, 0, 0, 0, 0.05, 0.45, 0.45, 0.03, 0.02),
    "hated": (0.6, 0.2, 0.1, 0.05, 0, 0, 0, 0, 0.05, 0, 0),
}


def net_of(shares: tuple[float, ...]) -> float:
    return 100 * (sum(shares[9:]) - sum(shares[:7]))


def count_misses_allowed(runs: int, rate: float = 0.05) -> int:
    """More misses than this come by chance in one of 10,000 simulations of an interval that keeps its rate."""
    return int(binom.ppf(0.9999, runs, rate))


def draw_answers(rng: np.random.Generator, shares: tuple[float, ...], n: int, runs: int, lowest: int) -> pd.DataFrame:
    scores = rng.choice(np.arange(lowest, lowest + len(shares)), size=runs * n, p=shares)
    return pd.DataFrame({"run": np.repeat(np.arange(runs), n), "score": scores})


@pytest.mark.parametrize(("n", "least"), [(20, 0.925), (50, 0.93), *([(100, 0.93), (200, 0.93)] if FULL else [])])
def test_nps_interval_covers_in_all_worlds(n: int, least: float) -> None:
    """Coverage without chance: every count that n answers can give, and how likely each world gives it."""
    promoters, detractors = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
    can_be = promoters + detractors <= n
    b, c = promoters[can_be], detractors[can_be]
    lows, highs = bound_net(pd.Series(b), pd.Series(c), pd.Series(np.full(len(b), n)))
    covered = []
    for shares in np.random.default_rng(1).dirichlet((0.6, 0.6, 0.6), 150):
        net = shares[0] - shares[2]
        holds = (lows <= net + 1e-12) & (net <= highs + 1e-12)
        covered.append(multinomial.pmf(np.c_[b, n - b - c, c], n, shares)[holds].sum())
    assert np.mean(covered) == pytest.approx(0.955, abs=0.006)
    assert min(covered) > least


@pytest.mark.parametrize("n", (20, 60, 400) if FULL else (20,))
@pytest.mark.parametrize("world", WORLDS)
def test_nps_interval_covers(world: str, n: int) -> None:
    shares = WORLDS[world]
    scores = score_nps(draw_answers(np.random.default_rng(n), shares, n, RUNS, 0), by="run")
    missed = (scores["low"] > net_of(shares) + 1e-9) | (scores["high"] < net_of(shares) - 1e-9)
    assert len(scores) == RUNS
    # 20 answers of which one in twenty is a promoter: the counts are too few to do better, with any interval.
    assert missed.sum() <= count_misses_allowed(RUNS, 0.0755 if (world, n) == ("hated", 20) else 0.055)
    assert scores["low"].min() >= -100
    assert scores["high"].max() <= 100
    assert (scores["low"] < scores["high"]).all()


@pytest.mark.parametrize("n", (20, 60, 400) if FULL else (20, 60))
@pytest.mark.parametrize("shares", [(0.02, 0.03, 0.05, 0.3, 0.6), (0.01, 0.01, 0.02, 0.06, 0.9), (0.2,) * 5])
def test_csat_intervals_cover(shares: tuple[float, ...], n: int) -> None:
    scores = score_csat(draw_answers(np.random.default_rng(n), shares, n, RUNS, 1), by="run")
    mean = sum((1 + i) * share for i, share in enumerate(shares))
    missed = (scores["mean_low"] > mean + 1e-9) | (scores["mean_high"] < mean - 1e-9)
    assert missed.sum() <= count_misses_allowed(RUNS, 0.055)
    top = shares[3] + shares[4]
    found = np.arange(n + 1)
    low, high = proportion_confint(found, n, method="wilson")
    # What Wilson's interval covers at this very n and share is known exactly; on average over shares it is 95 %.
    rate = 1 - float(binom.pmf(found, n, top)[(low <= top) & (top <= high)].sum())
    assert ((scores["low"] > top) | (scores["high"] < top)).sum() <= count_misses_allowed(RUNS, rate)
    assert rate < 0.08


def test_weighted_interval_covers() -> None:
    """Two kinds of customers, of whom one answers four times as often as the other and counts a quarter."""
    rng = np.random.default_rng(5)
    kinds = (WORLDS["loved"], WORLDS["torn"])
    n, runs = 80, RUNS
    is_torn = rng.random(runs * n) < 0.2
    drawn = [rng.choice(11, size=runs * n, p=shares) for shares in kinds]
    answers = pd.DataFrame({"run": np.repeat(np.arange(runs), n), "score": np.where(is_torn, drawn[1], drawn[0])})
    answers["weight"] = np.where(is_torn, 2.5, 0.625)
    truth = (net_of(kinds[0]) + net_of(kinds[1])) / 2
    scores = score_nps(answers, by="run", weight="weight")
    assert ((scores["low"] > truth) | (scores["high"] < truth)).mean() < 0.06
    assert scores["nps"].mean() == pytest.approx(truth, abs=1)
    plain = score_nps(answers, by="run")
    assert ((plain["low"] > truth) | (plain["high"] < truth)).mean() > 0.5
    assert scores["n_effective"].max() < n


def test_intervals_of_several_answers_cover() -> None:
    """Customers differ from each other more than from themselves; answers counted as independent do not cover."""
    rng = np.random.default_rng(6)
    runs, customers, each = RUNS // 3, 25, 4
    mood = np.repeat(rng.normal(0, 2.5, runs * customers), each)
    score = np.clip(np.round(7 + mood + rng.normal(0, 1, len(mood))), 0, 10)
    answers = pd.DataFrame({"run": np.repeat(np.arange(runs), customers * each), "score": score})
    answers["customer_id"] = np.repeat(np.arange(runs * customers), each).astype(str)
    answers["timestamp"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.tile(np.arange(each), runs * customers), "D")
    truth = 100 * (np.mean(score >= 9) - np.mean(score <= 6))
    for repeats in ("all", "last"):
        found = score_nps(answers, by="run", repeats=repeats)
        assert ((found["low"] > truth) | (found["high"] < truth)).mean() < 0.07
        assert (found["n_customers"] == customers).all()
    naive = score_nps(answers.drop(columns="customer_id"), by="run")
    assert ((naive["low"] > truth) | (naive["high"] < truth)).mean() > 0.15
    felt = measure_feeling(answers.assign(score_feeling=score / 5 - 1), by="run")
    mean = np.mean(score / 5 - 1)
    assert ((felt["low"] > mean) | (felt["high"] < mean)).mean() < 0.065


def test_net_bounds_are_those_of_the_score_test() -> None:
    """At a bound the counts lie 1.96 standard errors off, with the shares that fit it best (found numerically)."""
    cases = [(12, 5, 20), (3, 3, 9), (0, 7, 30), (40, 1, 41), (2.5, 0.5, 7.25)]
    table = pd.DataFrame(cases, columns=["b", "c", "n"]).astype(float)
    lows, highs = bound_net(table["b"], table["c"], table["n"])
    for (b, c, n), *bounds in zip(cases, lows, highs, strict=True):
        for bound in bounds:

            def loss(q: float, bound: float = bound, b: float = b, c: float = c, n: float = n) -> float:
                parts = ((b, q + bound), (c, q), (n - b - c, 1 - 2 * q - bound))
                return -sum(k * np.log(max(p, 1e-300)) for k, p in parts if k)

            most = (1 - bound) / 2
            q = minimize_scalar(loss, bounds=(max(0, -bound), most), method="bounded", options={"xatol": 1e-12}).x
            error = sqrt((2 * q + bound - bound**2) / n)
            assert abs((b - c) / n - bound) / error == pytest.approx(1.95996, abs=1e-3)


def test_all_of_one_kind() -> None:
    found = score_nps(pd.DataFrame({"score": [10] * 20})).iloc[0]
    wilson = proportion_confint(20, 20, method="wilson")[0]
    assert found["nps"] == found["high"] == 100
    assert found["low"] == pytest.approx(100 * (2 * wilson - 1))
    alike = score_csat(pd.DataFrame({"score": [4] * 20})).iloc[0]
    assert alike["mean_low"] < alike["mean"] == 4 < alike["mean_high"]


def nps_by_hand(rows: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    scored = [row for row in rows if row["score"] not in (None, 99, -1)]
    if last:
        newest: dict[str, dict[str, Any]] = {}
        for row in sorted(scored, key=lambda row: (row["timestamp"], -row["score"])):
            newest[row["customer_id"]] = row
        kept = list(newest.values())
    else:
        kept = scored
    w = sum(row["weight"] for row in kept)
    good = [row for row in kept if row["score"] >= 9]
    bad = [row for row in kept if row["score"] <= 6]
    shares = [sum(row["weight"] for row in part) / w if w else float("nan") for part in (good, bad)]
    net = shares[0] - shares[1]
    of_customer: dict[str, list[float]] = {}
    for row in kept:
        worth = (row["score"] >= 9) - (row["score"] <= 6) - net
        own = of_customer.setdefault(row["customer_id"], [0.0, 0.0])
        own[0] += row["weight"]
        own[1] += row["weight"] * worth
    return {
        "n": len(kept),
        "n_customers": len(of_customer),
        "n_missing": len(rows) - len(scored),
        "n_earlier": len(scored) - len(kept),
        "n_promoters": len(good),
        "n_detractors": len(bad),
        "n_passives": len(kept) - len(good) - len(bad),
        "nps": 100 * net,
        "n_effective": count_effective_by_hand(w, list(of_customer.values()), sum(shares) - net**2),
    }


def count_effective_by_hand(w: float, of_customer: list[list[float]], plain: float) -> float:
    """Kish's number, or that of answers without weights whose net score would vary as much, if it is smaller."""
    if not of_customer:
        return 0
    kish = w**2 / sum(weight**2 for weight, _worth in of_customer)
    varies = sum(worth**2 for _weight, worth in of_customer) / w**2
    n = len(of_customer)
    return min(kish, plain / (varies * n / (n - 1))) if varies and plain / varies < kish - 1e-6 else kish


@pytest.mark.parametrize("seed", range(6))
def test_nps_against_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        {
            "customer_id": f"k{rng.integers(25)}",
            "timestamp": pd.Timestamp("2026-01-01") + pd.Timedelta(int(rng.integers(20)), "D"),
            "channel": [None, "web", "app"][rng.integers(3)],
            "score": [None, 99, -1, *range(11)][rng.integers(14)],
            "weight": float(rng.integers(1, 5)),
        }
        for _ in range(60)
    ]
    # Two answers of one customer at one instant: which is the last would be chance.
    rows = list({(row["customer_id"], row["timestamp"]): row for row in rows}.values())
    for repeats in ("last", "all"):
        found = score_nps(pd.DataFrame(rows), by="channel", weight="weight", repeats=repeats).set_index("channel")
        for channel in ("web", "app", None):
            expected = nps_by_hand([row for row in rows if row["channel"] == channel], last=repeats == "last")
            row = found.loc[channel or "(none)"]
            assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_codes_are_no_answers() -> None:
    answers = pd.DataFrame({"score": ["10", "9", " N/A ", "nie wiem", "Не знаю", "99", "-1", "3", None]})
    found = score_nps(answers).iloc[0]
    assert (found["n"], found["n_missing"]) == (3, 6)
    # In a log most rows are no answers, and none was left blank.
    assert score_nps(answers.assign(event="x")).iloc[0]["n_missing"] == 5
    # Of 100 percent 99 are an answer, unless it is said that they are not.
    percent = pd.DataFrame({"score": [99, 80, 20]})
    assert score_csat(percent, scale="0-100", satisfied=60)["n"].tolist() == [3]
    assert score_csat(percent, scale="0-100", satisfied=60, missing=(99,))["n"].tolist() == [2]
    assert score_nps(pd.DataFrame({"score": [11, 10, 99]}), missing=(11, 99))["n"].tolist() == [1]


def test_what_is_off_the_scale_is_refused() -> None:
    answers = pd.DataFrame({"score": [10, 11, 11, 12, 99]})
    message = (
        "score_nps: score has values that no scale from 0 to 10 has: 11.0 (2), 12.0 (1). Name those that mean no "
        "answer in missing=, or tell mixed scales apart with harmonise_scores()"
    )
    with pytest.raises(RuleError, match=re.escape(message)):
        score_nps(answers.astype(float))
    with pytest.raises(RuleError, match="soso"):
        score_nps(pd.DataFrame({"score": ["10", "soso"]}))
    with pytest.raises(RuleError, match=re.escape("8.5, are neither passive nor promoter")):
        score_nps(pd.DataFrame({"score": [8.5, 9]}))
    mixed = pd.DataFrame({"score": [5, 9], "score_scale": ["csat_1_5", "nps_0_10"]})
    with pytest.raises(RuleError, match=re.escape("the scale here is 0 to 10, but score_scale says csat_1_5 (1)")):
        score_nps(mixed)


def test_arguments_are_checked() -> None:
    answers = pd.DataFrame({"score": [9, 3], "weight": [1.0, None]})
    with pytest.raises(RuleError, match=r'no column "scores".*Did you mean "score"'):
        score_nps(answers, score="scores")
    with pytest.raises(RuleError, match="1 answers have no weight, or one below 0"):
        score_nps(answers, weight="weight")
    with pytest.raises(RuleError, match='repeats must be "last" or "all"'):
        score_nps(answers, repeats="first")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="9 does not part a scale from 1 to 5"):
        score_csat(answers.head(0), satisfied=9)
    with pytest.raises(
        RuleError,
        match=re.escape('such as "1-5", "0-10" or "nps_0_10"; found "5 stars"'.replace('"5 stars"', "'5 stars'")),
    ):
        parse_scale("5 stars")


def test_effort_and_satisfaction_by_hand() -> None:
    found = score_ces(pd.DataFrame({"score": [7, 6, 5, 4, 1, "refused"]})).iloc[0]
    assert (found["n"], found["n_top"], found["share_top"], found["mean"]) == (5, 3, 0.6, 4.6)
    low, high = proportion_confint(3, 5, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["is_small"]
    found = score_csat(pd.DataFrame({"score": [5, 4, 3], "w": [1, 1, 2]}), weight="w").iloc[0]
    assert (found["share_top"], found["mean"], found["n_effective"]) == pytest.approx((0.5, 3.75, 16 / 6))


def test_nobody_answered() -> None:
    found = score_nps(pd.DataFrame({"score": [99, 99]}))
    row = found.iloc[0]
    assert (row["n"], row["n_missing"], row["n_effective"]) == (0, 2, 0)
    assert [isnan(row[name]) for name in ("nps", "low", "high")] == [True] * 3
    assert describe_nps(found) == "Nobody has answered."


def test_scores_of_the_demo() -> None:
    steps = jl.build_steps(jl.read_events("demo"), jl.JourneyRules.load("ecommerce"))
    found = score_nps(steps)
    newest: dict[str, float] = {}
    rows = steps.filter(steps.score.notnull()).order_by("timestamp").execute()
    for row in rows.itertuples():
        newest[row.customer_id] = row.score
    scores = pd.Series(newest)
    assert found["n"].tolist() == [len(scores)]
    assert found["n_earlier"].tolist() == [len(rows) - len(scores)]
    assert found["nps"].iloc[0] == pytest.approx(100 * ((scores >= 9).mean() - (scores <= 6).mean()))
    assert describe_nps(found).startswith(f"Of {len(scores)} answers, ")
