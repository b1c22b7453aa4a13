"""Topics that were planted are found, and none where words fall by chance."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from journeylab.errors import RuleError
from journeylab.feedback.topics import Topics, count_topics, find_topics

DATA = Path(__file__).parents[2] / "shared" / "data" / "skytrax"
FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
N_WORDS = 160


def write_comments(n: int, k: int, seed: int, own: float = 0.5) -> tuple[list[str], NDArray[np.int64]]:
    """Comments whose words come half from their topic's and half from anywhere; with k = 0 all from anywhere."""
    rng = np.random.default_rng(seed)
    letters = list("bcdfghjklm")
    # Told apart by their first letters, as words are; few are frequent.
    words = np.array([f"{letters[i // 100]}{letters[i // 10 % 10]}{letters[i % 10]}aro" for i in range(N_WORDS)])
    often = (1 / np.arange(1, N_WORDS + 1) ** 0.7)[rng.permutation(N_WORDS)]
    topic = rng.integers(0, max(k, 1), n)
    texts = []
    for number in range(n):
        length = rng.poisson(12) + 3
        of_topic = np.where(np.arange(N_WORDS) % max(2 * k, 1) == topic[number], often, 0)
        is_own = rng.random(length) < (own if k else 0)
        drawn = np.where(
            is_own,
            rng.choice(N_WORDS, length, p=of_topic / of_topic.sum()),
            rng.choice(N_WORDS, length, p=often / often.sum()),
        )
        texts.append(" ".join(words[drawn]))
    return texts, topic


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], NDArray[np.int64], Topics]:
    texts, topic = write_comments(300, 3, 1)
    return texts, topic, find_topics(texts, feeling=topic / 2)


def test_planted_topics_are_found(planted: tuple[list[str], NDArray[np.int64], Topics]) -> None:
    _, topic, found = planted
    assert found.verdict == "clear"
    assert len(found.table) == 3
    assert adjusted_rand_score(topic, found.assign["topic"].astype(int)) > 0.75
    # Each is as large as what was planted, and feels as it does.
    matched = found.table.sort_values("feeling")
    assert matched["n"].to_numpy() == pytest.approx(np.bincount(topic), rel=0.15)
    assert matched["feeling"].to_numpy() == pytest.approx([0, 0.5, 1], abs=0.1)


def test_table_adds_up(planted: tuple[list[str], NDArray[np.int64], Topics]) -> None:
    texts, _, found = planted
    table = found.table
    assert list(table["topic"]) == [1, 2, 3]
    assert table["n"].is_monotonic_decreasing
    assert table["n"].sum() == found.assign["topic"].notna().sum()
    assert (table["share"] == table["n"] / len(texts)).all()
    assert (table["low"] < table["share"]).all()
    assert (table["share"] < table["high"]).all()
    assert found.assign["weight"].between(1 / 3, 1).all()
    assert (table["stability"] >= 0.7).all()
    for row in table.itertuples():
        assert str(row.words).startswith(str(row.name))


def test_words_of_a_topic_are_words_that_its_texts_use(planted: tuple[list[str], NDArray[np.int64], Topics]) -> None:
    texts, _, found = planted
    said = pd.Series(texts).str.split().explode()
    of_topic = found.assign["topic"].reindex(said.index)
    for row in found.table.itertuples():
        for word in str(row.words).split(", ")[:3]:
            assert of_topic[said == word].value_counts().idxmax() == row.topic


@pytest.mark.parametrize("seed", range(10 if FULL else 2))
def test_chance_has_no_topics(seed: int) -> None:
    texts, _ = write_comments(150, 0, seed)
    found = find_topics(texts, seed=seed)
    assert found.verdict == "none"
    assert len(found.table) == 0
    assert found.assign["topic"].isna().all()
    assert len(found.stability) >= 5
    assert "random halves" in found.reason or "no more often than chance" in found.reason


def test_too_many_topics_are_refused() -> None:
    texts, _ = write_comments(300, 3, 1)
    found = find_topics(texts, k=12)
    assert found.verdict == "none"
    assert "at best, with 12, the weakest topic" in found.reason
    assert list(found.stability["k"]) == [12]


def test_same_seed_same_topics_whatever_the_index_and_the_copies() -> None:
    texts, _ = write_comments(200, 3, 2)
    first = find_topics(texts, k=3, seed=5)
    again = find_topics(pd.Series(texts, index=range(7, 207)), k=3, seed=5)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert list(again.assign.index) == list(range(7, 207))
    # A text pasted a hundred times makes no topic of its own, but is counted.
    pasted = find_topics(texts + [texts[0]] * 100, k=3, seed=5)
    assert list(pasted.table["words"].sort_values()) == list(first.table["words"].sort_values())
    assert pasted.table["n"].sum() == first.table["n"].sum() + 100


def test_texts_without_words_are_in_no_topic() -> None:
    texts, _ = write_comments(200, 3, 2)
    found = find_topics([*texts, None, "", "!!! 123", "the and", "unheardof"], k=3)
    assert found.verdict == "clear"
    assert found.assign["topic"].iloc[200:].isna().all()
    assert found.assign["weight"].iloc[200:].isna().all()
    # "the and" and "unheardof" are comments too.
    assert found.table["share"].to_numpy() == pytest.approx(found.table["n"] / 202)


def test_stop_words_and_inflections() -> None:
    texts, _ = write_comments(200, 3, 2)
    wordy = [
        f"{text} {('płatność', 'płatności', 'płatnością')[i % 3]}" if i % 4 == 0 else f"{text} shoply"
        for i, text in enumerate(texts)
    ]
    words = " ".join(find_topics(wordy, k=3, stop_words=["Shoply"]).table["words"])
    # In three quarters of the texts it would be left out by itself; said or not, it names nothing.
    assert "shoply" not in words
    assert len({form for form in ("płatność", "płatności", "płatnością") if f"{form}," in words}) <= 1


def test_too_little_to_read() -> None:
    found = find_topics(["good shop"] * 500)
    assert found.verdict == "none"
    assert found.reason == "There are too few distinct comments to look for topics in."
    assert find_topics([]).verdict == "none"
    with pytest.raises(RuleError, match='k is "auto" or a whole number from 2, got 1'):
        find_topics(["a"], k=1)
    with pytest.raises(RuleError, match="feeling has 1 values beside 2 texts"):
        find_topics(["a", "b"], feeling=[1])
    with pytest.raises(RuleError, match="texts is one text"):
        find_topics("good")


@pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")
def test_lounges_and_seats_are_different_topics() -> None:
    """Nobody told it which file a review came from."""
    parts = [pd.read_csv(DATA / f"{name}.csv")["content"] for name in ("lounge", "seat")]
    reviews = pd.concat([part if FULL else part.sample(400, random_state=0) for part in parts], keys=["lounge", "seat"])
    found = find_topics(reviews, k=2)
    assert found.verdict == "clear"
    kind = reviews.index.get_level_values(0)
    assert adjusted_rand_score(kind, found.assign["topic"].fillna(0)) > 0.6


def test_topics_by_stage_are_those_of_a_walk() -> None:
    texts, _ = write_comments(400, 3, seed=1)
    topics = find_topics(texts, k=3)
    rng = np.random.default_rng(2)
    stages = pd.Series(rng.choice(["look", "buy", None], len(texts)), dtype=object)
    found = count_topics(topics, stages)
    by_hand: dict[tuple[str, str], int] = {}
    names = topics.table.set_index("topic")["name"]
    for number, stage in enumerate(stages):
        topic = topics.assign["topic"].iloc[number]
        if stage is not None and not pd.isna(topic):
            key = (stage, names[topic])
            by_hand[key] = by_hand.get(key, 0) + 1
    whole = {stage: sum(n for (of, _), n in by_hand.items() if of == stage) for stage in ("buy", "look")}
    assert len(found) == len(by_hand) > 3
    for row in found.to_dict("records"):
        n = by_hand[(row["stage"], row["item"])]
        assert row["n"] == whole[row["stage"]]
        assert row["value"] == pytest.approx(n / whole[row["stage"]])
        assert row["low"] < row["value"] < row["high"]
    assert found["stage"].is_monotonic_increasing
    nothing = find_topics(["a", "b"])
    assert count_topics(nothing, pd.Series(["look", "buy"])).empty
