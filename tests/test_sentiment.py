"""How a comment feels: what is learned, what it is worth, and what stands in where nobody rated anything."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.feedback.lexicon import weigh_words
from journeylab.feedback.quality import bound_auc, judge_scores
from journeylab.feedback.sentiment import _LEXICON_ON_SKYTRAX, fit_text_score, score_text
from journeylab.resources import find_shipped
from journeylab.sources.demo_texts import TEXTS

DATA = Path(__file__).parents[2] / "shared" / "data" / "skytrax"
FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
needs_reviews = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")


@pytest.fixture(scope="module")
def reviews() -> pd.DataFrame:
    return pd.concat([pd.read_csv(DATA / f"{name}.csv") for name in ("lounge", "seat")], ignore_index=True)


def write_comments(n: int, seed: int, *, noise: float = 0.2) -> tuple[list[str], NDArray[np.int64]]:
    """Comments in no language: happy ones prefer some words, unhappy ones others."""
    rng = np.random.default_rng(seed)
    words = np.array([f"{a}{b}{c}" for a in ("ba", "ku", "zo", "mi") for b in ("rel", "tan", "vix") for c in "aeiou"])
    y = rng.integers(0, 2, n)
    side = np.where(rng.random((n, 8)) < noise, 1 - y[:, None], y[:, None])
    drawn = words[rng.integers(0, len(words) // 2, (n, 8)) * 2 + side]
    return [" ".join(line) for line in drawn], y


# --- what the figures of quality mean ---------------------------------------------------------------------------


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    y, scores = rng.integers(0, 2, 60), rng.integers(0, 8, 60) / 8
    pairs = [
        (a, b) for a, is_a in zip(scores, y, strict=True) if is_a for b, is_b in zip(scores, y, strict=True) if not is_b
    ]
    expected = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    auc, low, high = bound_auc(y, scores, np.arange(60))
    assert auc == pytest.approx(expected)
    assert 0 < low < auc < high < 1


@pytest.mark.parametrize("voices", [1, 4])
def test_bounds_of_auc_cover_the_truth(voices: int) -> None:
    """Each writer copies a comment `voices` times: the bounds know that there are fewer writers."""
    from scipy.stats import norm

    truth, n, rounds = norm.cdf(1 / np.sqrt(2)), 120, 2000 if FULL else 300
    rng = np.random.default_rng(3)
    hits = 0
    for _round in range(rounds):
        y = np.repeat(np.arange(n) % 2, voices)
        scores = np.repeat(rng.normal(size=n) + np.arange(n) % 2, voices)
        _, low, high = bound_auc(y, scores, np.repeat(np.arange(n), voices))
        hits += low <= truth <= high
    # Four standard errors of the simulation.
    assert hits / rounds == pytest.approx(0.95, abs=0.02 if FULL else 0.05)


def test_no_bounds_where_there_is_nothing_to_go_by() -> None:
    y, voices = np.array([1, 1, 0, 0]), np.arange(4)
    assert np.isnan(bound_auc(np.ones(4, dtype=np.int64), np.arange(4.0), voices)).all()
    auc, low, high = bound_auc(y, np.array([4.0, 3, 2, 1]), voices)
    assert auc == 1
    assert np.isnan([low, high]).all()


def test_calibration_error_tells_right_from_bold() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(1, 1, 4000)
    y = (rng.random(4000) < p).astype(np.int64)
    right = judge_scores("x", y, p, np.arange(4000))
    bold = judge_scores("x", y, np.clip(0.5 + 2 * (p - 0.5), 0.001, 0.999), np.arange(4000))
    assert right["calibration_error"] < 1.6 * float(right["calibration_noise"])
    assert right["slope"] == pytest.approx(1, abs=0.1)
    assert bold["calibration_error"] > 5 * float(bold["calibration_noise"])
    assert float(bold["slope"]) < 0.6
    assert bold["auc"] == pytest.approx(right["auc"], abs=0.02)


def test_calibration_error_counted_by_hand() -> None:
    p, y = np.repeat([0.2, 0.7], 5), np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    # Ten texts, ten bins: each is off by its own gap.
    found = judge_scores("x", y, p, np.arange(10))
    assert found["calibration_error"] == pytest.approx((0.8 + 4 * 0.2 + 5 * 0.3) / 10)
    assert found["bias"] == pytest.approx(0.45 - 0.6)
    assert found["brier"] == pytest.approx((0.64 + 4 * 0.04 + 5 * 0.09) / 10)
    assert found["accuracy"] == 0.9


# --- learned ------------------------------------------------------------------------------------------------------


def test_learns_a_language_nobody_knows() -> None:
    texts, y = write_comments(300, 0)
    fitted = fit_text_score(texts, y)
    whole = fitted.quality.set_index("measured_on").loc["all folds"]
    assert fitted.method == "learned"
    assert whole["auc"] > 0.85
    assert whole["calibration_error"] < 0.08
    others, truth = write_comments(300, 99)
    feeling = fitted.score(others)
    # What it says of itself holds for comments that nobody rated.
    assert bound_auc(truth, feeling.to_numpy(), np.arange(300))[0] == pytest.approx(whole["auc"], abs=0.06)
    assert feeling.between(-1, 1).all()
    assert list(fitted.quality["measured_on"]) == [*(f"fold {number}" for number in range(1, 6)), "all folds"]
    assert fitted.quality["n"].iloc[:5].sum() == 300


def test_noise_is_not_learned() -> None:
    texts, _ = write_comments(300, 0)
    y = np.random.default_rng(7).integers(0, 2, 300)
    whole = fit_text_score(texts, y).quality.iloc[-1]
    assert whole["low"] < 0.5 < whole["high"]
    # Chances that say nothing stay near the middle.
    assert whole["calibration_error"] < 0.12


def test_copies_do_not_leak() -> None:
    """Ratings by chance, each comment five times: without grouping, the copies would give them away."""
    texts, _ = write_comments(60, 0)
    y = np.random.default_rng(7).integers(0, 2, 60)
    feelings = score_text([f"  {text.upper()} " for text in texts] + texts * 4, np.tile(y, 5))
    assert feelings.quality.iloc[-1]["auc"] < 0.7
    table = feelings.table["feeling"].to_numpy().reshape(5, 60)
    np.testing.assert_array_equal(table, np.tile(table[0], (5, 1)))


def test_a_copy_of_a_rated_comment_is_not_scored_by_a_model_that_saw_it() -> None:
    texts, y = write_comments(120, 0)
    table = score_text([*texts, texts[0], "baroa kurela"], [*y, None, None]).table
    assert table["feeling"].iloc[120] == table["feeling"].iloc[0]
    assert list(table["how"].iloc[119:]) == ["out of fold", "out of fold", "model"]


def test_groups_keep_a_writer_on_one_side() -> None:
    """Each writer has a word of their own and one mood: only who has read the writer can guess it."""
    rng = np.random.default_rng(0)
    writers = np.repeat(np.arange(40), 5)
    mood = rng.integers(0, 2, 40)[writers]
    filler = [f"w{a}" for a in "abcdefghij"]
    texts = [
        f"sign{chr(97 + w // 26)}{chr(97 + w % 26)}{w * 7919} {' '.join(rng.choice(filler, 3))} {i}"
        for i, w in enumerate(writers)
    ]
    alone = fit_text_score(texts, mood).quality.iloc[-1]["auc"]
    grouped = fit_text_score(texts, mood, groups=writers).quality.iloc[-1]["auc"]
    assert alone > 0.9
    assert grouped < 0.75


def test_same_seed_same_scores_whatever_the_order_of_rows_is_called() -> None:
    texts, y = write_comments(120, 0)
    first = score_text(pd.Series(texts, index=range(500, 620)), y, seed=3).table
    again = score_text(texts, list(map(bool, y)), seed=3).table
    np.testing.assert_array_equal(first["feeling"], again["feeling"])
    assert list(first.index) == list(range(500, 620))


def test_empty_comments_have_no_feeling() -> None:
    texts, y = write_comments(120, 0)
    table = score_text([*texts, None, "", " \n", float("nan"), "漢字"], [*y, 1, 0, 1, None, None]).table
    assert table["feeling"].iloc[120:].isna().all()
    assert set(table["how"].iloc[120:]) == {"none"}
    assert len(score_text([], []).table) == 0


def test_a_script_without_spaces_is_learned() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    signs = [[chr(0x4E00 + code) for code in rng.integers(0, 400, 9)] for _ in y]
    texts = [
        "".join([*line, "好吃" if is_happy else "难用", *line[::-1]]) for line, is_happy in zip(signs, y, strict=True)
    ]
    feelings = score_text(iter(texts), iter(y))
    assert feelings.quality.iloc[-1]["auc"] > 0.9
    assert (feelings.table["how"] == "out of fold").all()


def test_thirds_of_a_scale() -> None:
    texts, y = write_comments(200, 0)
    stars = np.where(y == 1, np.tile([4, 5], 100), np.tile([1, 2], 100))
    with_middle = score_text([*texts, "baroa baroa"], [*stars, 3], scale=(1, 5))
    assert with_middle.quality.iloc[-1]["n"] == 200
    assert with_middle.quality.iloc[-1]["share_positive"] == pytest.approx(y.mean())
    assert with_middle.table["how"].iloc[-1] == "model"
    ten = pd.Series(np.where(y == 1, 7, 4), dtype="Int64").mask(pd.Series(range(200)) < 5)
    assert score_text(texts, ten, scale=(1, 10)).quality.iloc[-1]["n"] == 195


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(RuleError, match=r"scores run from 1 to 5, which says neither yes nor no: name the scale"):
        score_text(["a", "b"], [1, 5])
    with pytest.raises(RuleError, match=r"scores has 1 outside the scale 1 to 5: are there two scales in it\?"):
        score_text(["a", "b"], [1, 9], scale=(1, 5))
    with pytest.raises(RuleError, match=r"scores has 1 values beside 2 texts"):
        score_text(["a", "b"], [1])
    with pytest.raises(RuleError, match=r"scores has 1 that are no numbers, such as 'good'"):
        score_text(["a", "b"], [1, "good"])
    with pytest.raises(RuleError, match=r"scale is \(lowest, highest\), got \(5, 1\)"):
        score_text(["a"], [1], scale=(5, 1))
    with pytest.raises(RuleError, match=r"groups has 1 values beside 2 texts"):
        score_text(["a", "b"], groups=[1])
    with pytest.raises(RuleError, match="texts is one text"):
        score_text("good")


# --- where too little is rated ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Great service", 1),
        ("not great at all", -1),
        ("No problems whatsoever", 1),
        ("The app doesn’t work, useless", -1),
        ("Polecam, bez żadnych problemów", 1),
        ("Nie polecam nikomu", -1),
        ("Płatność nie działa", -1),
        ("Отличный магазин, рекомендую", 1),
        ("Никогда не вернусь, ужасно", -1),
        ("не рекомендую", -1),
    ],
)
def test_words_and_negations(text: str, sign: int) -> None:
    feeling = weigh_words(text)
    assert feeling is not None
    assert np.sign(feeling) == sign
    assert -1 < feeling < 1


def test_unknown_words_have_no_feeling() -> None:
    assert [weigh_words(text) for text in ("Xyzzy", "", "!!!", "漢字", "12")] == [None] * 5


def test_fallback_says_what_it_was_measured_on() -> None:
    feelings = score_text(["Great!", "Awful.", None])
    assert list(feelings.table["how"]) == ["lexicon", "lexicon", "none"]
    assert [*feelings.quality["measured_on"]][-1] == "airline reviews (skytrax), en"
    assert "not on yours" in feelings.note
    assert feelings.quality["calibration_error"].isna().all()


def test_few_ratings_judge_the_fallback() -> None:
    texts = ["Great!", "Awful, never again", "Lovely staff", "It broke", "The bus", "Terrible"]
    feelings = score_text(texts, [1, 0, 1, 0, 1, 1])
    own = feelings.quality.iloc[-1]
    assert own["measured_on"] == "your rated comments"
    assert own["n"] == 6
    assert own["share_scored"] == pytest.approx(5 / 6)
    assert own["accuracy"] == pytest.approx(4 / 5)
    # Of eight pairs one is a tie ("Terrible" and "It broke"); the bus, of which nothing is known, is in the middle.
    assert own["auc"] == 7.5 / 8
    assert "(6)" in feelings.note


def test_one_kind_of_rating_teaches_nothing() -> None:
    texts, _ = write_comments(200, 0)
    assert fit_text_score(texts, np.ones(200)).method == "lexicon"
    assert fit_text_score(["same"] * 100 + ["other"] * 100, [1] * 100 + [0] * 100).method == "lexicon"


@pytest.mark.parametrize("language", TEXTS)
def test_fallback_on_the_demo_shop(language: str) -> None:
    row = score_text(["x"]).quality.set_index("measured_on").loc[f"demo shop, {language}"]
    moods = TEXTS[language]
    assert row["n"] == sum(len(moods[mood]) for mood in moods if mood != "fair")
    assert row["auc"] > 0.9
    assert row["share_scored"] > 0.75


@needs_reviews
def test_fallback_on_reviews_is_as_written_down(reviews: pd.DataFrame) -> None:
    feelings = reviews["content"].map(weigh_words).astype(float).to_numpy()
    codes = pd.factorize(reviews["content"].str.casefold())[0]
    found = judge_scores(
        "airline reviews (skytrax), en", reviews["recommended"].to_numpy(), feelings, codes, is_share=False
    )
    for name, value in _LEXICON_ON_SKYTRAX.items():
        assert found[name] == (value if isinstance(value, str) else pytest.approx(value, abs=0.001)), name


# --- real comments -----------------------------------------------------------------------------------------------


def test_demo_answers_are_learned_though_no_sentence_is_on_both_sides() -> None:
    events = pd.read_csv(find_shipped("data/demo") / "events.csv", dtype={"score": float})
    answers = events[events["score"].notna()]
    fitted = fit_text_score(answers["text"], answers["score"], scale=(0, 10))
    whole = fitted.quality.iloc[-1]
    assert fitted.method == "learned"
    assert whole["auc"] > 0.9
    # The same sentence has one feeling: all its copies were in one fold.
    assert (fitted.rated.groupby(answers["text"]).nunique() <= 1).all()


@needs_reviews
def test_reviews(reviews: pd.DataFrame) -> None:
    """The whole in five folds: AUC 0.877, error 0.019. A third of it has less to learn from."""
    chosen = reviews if FULL else reviews.sample(1000, random_state=0)
    whole = fit_text_score(chosen["content"], chosen["recommended"]).quality.iloc[-1]
    assert whole["auc"] >= (0.87 if FULL else 0.84)
    assert whole["calibration_error"] <= (0.03 if FULL else 0.06)
    assert whole["slope"] == pytest.approx(1, abs=0.15)
    assert whole["share_scored"] == 1
