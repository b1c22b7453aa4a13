"""Mixed scales are told apart where the data tell, and left alone where they do not."""

from __future__ import annotations

import re
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from journeylab.errors import RuleError
from journeylab.feedback.scales import count_scales, describe_scales, harmonise_scores

SKYTRAX = Path(__file__).parents[2] / "shared" / "data" / "skytrax"
NARROW = (0.1, 0.2, 0.25, 0.25, 0.2)
WIDE = (0.15, 0.1, 0.1, 0.08, 0.08, 0.08, 0.1, 0.13, 0.1, 0.08)

needs_skytrax = pytest.mark.skipif(not SKYTRAX.exists(), reason="the shared data folder is not beside the project")


def draw(rng: np.random.Generator, shares: tuple[float, ...], n: int, first: str, last: str) -> pd.DataFrame:
    span = pd.Timestamp(last) - pd.Timestamp(first)
    times = pd.Timestamp(first) + pd.to_timedelta(rng.random(n) * span.total_seconds(), "s")
    scores = rng.choice(np.arange(1, len(shares) + 1), n, p=shares)
    return pd.DataFrame({"time": times, "score": scores, "truth": f"1-{len(shares)}"})


def share_right(told: ibis.Table, truth: str = "truth") -> tuple[float, float]:
    """Of the answers whose scale was told, how many rightly; and how many were told."""
    rows = told.execute()
    known = rows[rows["scale"].notna()]
    return float((known["scale"] == known[truth]).mean()), len(known) / len(rows)


@needs_skytrax
@pytest.mark.parametrize("clue", ["time", "by"])
def test_skytrax_lounges_change_their_scale(clue: str) -> None:
    """From 9 June 2015 on a new form asked for 1 to 10 and for the kind of traveller."""
    lounges = pd.read_csv(SKYTRAX / "lounge.csv")
    lounges["form"] = lounges["type_traveller"].notna().map({True: "new", False: "old"})
    parts = [name for name in lounges.columns if name.endswith("_rating") and name != "overall_rating"]
    lounges["parts"] = lounges[parts].mean(axis=1)
    column = {"time": "date", "by": "form"}[clue]
    told = harmonise_scores(lounges, score="overall_rating", **{clue: column})  # type: ignore[arg-type]
    counted = count_scales(told, score="overall_rating", time="date")
    assert counted["n"].sum() == lounges["overall_rating"].notna().sum() == 2_259
    assert counted["scale"].notna().all()
    if clue == "time":
        assert counted.groupby("scale")["n"].sum().to_dict() == {"1-5": 2_140, "1-10": 119}
        assert counted.loc[counted["scale"] == "1-10", "first_time"].min() == "2015-06-09"
        assert counted.loc[counted["scale"] == "1-5", "last_time"].max() == "2015-06-05"
    # A witness that was not asked: the old form's overall rating was the rounded mean of its parts.
    rows = told.execute()
    old, new = rows[rows["scale"] == "1-5"], rows[rows["scale"] == "1-10"]
    assert ((old["overall_rating"] - old["parts"]).abs() <= 0.51).mean() > 0.99
    assert ((new["overall_rating"] - new["parts"]).abs() <= 0.51).mean() < 0.3


@needs_skytrax
def test_skytrax_without_a_clue_is_left_alone() -> None:
    told = harmonise_scores(pd.read_csv(SKYTRAX / "lounge.csv"), score="overall_rating")
    counted = count_scales(told, score="overall_rating")
    assert counted[["scale", "evidence", "n"]].to_numpy().tolist() == [
        [None, "unclear", 2_192],
        ["1-10", "beyond", 67],
    ]
    assert describe_scales(counted) == (
        "2,259 answers by scale: 1-10: 67; of 2,192 (97.0 %) the scale cannot be told, and they are left out."
    )
    assert told.filter(told.scale.isnull()).score_feeling.count().execute() == 0


@needs_skytrax
def test_skytrax_seats_have_one_scale() -> None:
    counted = count_scales(
        harmonise_scores(pd.read_csv(SKYTRAX / "seat.csv"), score="overall_rating"), score="overall_rating"
    )
    assert counted.groupby("scale")["n"].sum().to_dict() == {"1-10": 1_257}


@needs_skytrax
def test_skytrax_by_what_else_was_rated() -> None:
    lounges = pd.read_csv(SKYTRAX / "lounge.csv")
    parts = [name for name in lounges.columns if name.endswith("_rating") and name != "overall_rating"]
    lounges["parts"] = lounges[parts].mean(axis=1)
    lounges["truth"] = np.where(lounges["date"] >= "2015-06-09", "1-10", "1-5")
    right, known = share_right(harmonise_scores(lounges, score="overall_rating", alongside="parts"))
    assert right > 0.995
    assert 0.5 < known < 0.6  # low scores look alike on both scales


@pytest.mark.parametrize("seed", range(5))
def test_planted_switch_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, last = (NARROW, WIDE) if seed % 2 else (WIDE, NARROW)
    answers = pd.concat(
        [draw(rng, first, 400, "2026-01-01", "2026-05-01"), draw(rng, last, 300, "2026-05-01", "2026-08-01")]
    )
    right, known = share_right(harmonise_scores(answers, time="time"))
    assert right > 0.985  # the days until the first 6 or more, or since the last, are anyone's guess
    assert known == 1


def test_groups_have_scales_of_their_own() -> None:
    rng = np.random.default_rng(0)
    stars = draw(rng, NARROW, 300, "2026-01-01", "2026-02-01").assign(source="stars")
    survey = draw(rng, WIDE, 300, "2026-01-01", "2026-02-01").assign(source="survey")
    few = draw(rng, NARROW, 5, "2026-01-01", "2026-02-01").assign(source="few")
    told = harmonise_scores(pd.concat([stars, survey, few]), by="source")
    found = told.group_by("source", "scale", "evidence").agg(n=told.count()).execute()
    shown = {(row.source, None if pd.isna(row.scale) else row.scale, row.evidence): row.n for row in found.itertuples()}
    above = int((survey["score"] > 5).sum())
    assert shown == {
        ("stars", "1-5", "all within"): 300,
        ("survey", "1-10", "beyond"): above,
        ("survey", "1-10", "no break"): 300 - above,
        # Five answers of 5 or less may be of either.
        ("few", None, "unclear"): 5,
    }


def test_a_mixture_without_a_clue_stays_unclear() -> None:
    """One in ten answers is on the wider scale: the fall after 5 shows the mixture, not which is which."""
    rng = np.random.default_rng(0)
    answers = pd.concat(
        [draw(rng, NARROW, 900, "2026-01-01", "2026-08-01"), draw(rng, WIDE, 100, "2026-01-01", "2026-08-01")]
    )
    counted = count_scales(harmonise_scores(answers, time="time"))
    above = int((answers["score"] > 5).sum())
    assert counted[["scale", "evidence", "n"]].to_numpy().tolist() == [
        [None, "unclear", 1_000 - above],
        ["1-10", "beyond", above],
    ]


def test_a_slip_of_the_finger_is_no_scale() -> None:
    rng = np.random.default_rng(0)
    answers = pd.concat(
        [
            draw(rng, NARROW, 800, "2026-01-01", "2026-08-01"),
            pd.DataFrame({"time": [pd.Timestamp("2026-04-01")], "score": [9]}),
        ]
    )
    counted = count_scales(harmonise_scores(answers, time="time"))
    assert counted[["scale", "evidence", "n"]].to_numpy().tolist() == [
        ["1-5", "all within", 800],
        ["1-10", "beyond", 1],
    ]


def test_three_scales() -> None:
    rng = np.random.default_rng(0)
    five = draw(rng, NARROW, 400, "2026-01-01", "2026-02-01").assign(source="five")
    ten = draw(rng, WIDE, 400, "2026-01-01", "2026-02-01").assign(source="ten")
    percent = pd.DataFrame(
        {"score": rng.choice([0, 10, 20, 30, 50, 75, 80, 90, 100], 400), "truth": "0-100", "source": "percent"}
    )
    told = harmonise_scores(pd.concat([five, ten, percent]), scales=["1-5", "1-10", "0-100"], by="source")
    assert share_right(told) == (1.0, 1.0)


def test_stated_scales_count_and_map_linearly() -> None:
    answers = pd.DataFrame(
        {
            "score": [1, 5, 3, 0, 10, 5, -1, 0.5, 7, None],
            "score_scale": ["csat_1_5"] * 3 + ["nps_0_10"] * 3 + ["sentiment_-1_1"] * 2 + ["ces_1_7", "ces_1_7"],
        }
    )
    rows = harmonise_scores(answers).execute()
    assert rows["score_feeling"].tolist()[:9] == [-1, 1, 0, -1, 1, 0, -1, 0.5, 1]
    assert rows["scale"].tolist()[:9] == ["1-5"] * 3 + ["0-10"] * 3 + ["-1-1"] * 2 + ["1-7"]
    assert rows["evidence"].tolist()[:9] == ["stated"] * 9
    assert rows.loc[9, ["scale", "evidence", "score_feeling"]].isna().all()


def test_one_scale_is_given() -> None:
    rows = harmonise_scores(pd.DataFrame({"score": [0, 5, 10, 99, None]}), scales=["0-10"]).execute()
    assert rows["score_feeling"].tolist()[:3] == [-1, 0, 1]
    assert rows["score_feeling"].isna().tolist() == [False, False, False, True, True]
    assert rows["evidence"].tolist()[:3] == ["given"] * 3


def test_arguments_are_checked() -> None:
    answers = pd.DataFrame({"score": [1, 12, 12, 99]})
    message = (
        "harmonise_scores: score has values that are not on their scale (1-5, 1-10, unless score_scale names another): "
        "12 (2). Name those that mean no answer in missing=, and give every scale in scales="
    )
    with pytest.raises(RuleError, match=re.escape(message)):
        harmonise_scores(answers)
    with pytest.raises(RuleError, match='"1-10" is not within "1-5"'):
        harmonise_scores(answers, scales=["1-10", "1-5"])
    with pytest.raises(RuleError, match="scales must be a list"):
        harmonise_scores(answers, scales="1-5")
    with pytest.raises(RuleError, match="have scale already"):
        harmonise_scores(answers.assign(scale="x"))
    with pytest.raises(RuleError, match=r'no column "source"'):
        harmonise_scores(answers, by="source")
