"""How well are comments read, and how fast?

    python benchmarks/text.py [FOLDER WITH lounge.csv AND seat.csv OF SKYTRAX]

Feeling is measured on comments that the model did not see: five shuffled folds, three shuffles, calibrated within each
fold; the same text is never on both sides. In brackets stands what is asked for. The demo shop's customers draw their
comments from some eighty sentences, so that each row of it asks for the feeling of sentences never read before.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from journeylab.feedback.quality import judge_scores
from journeylab.feedback.sentiment import fit_text_score, score_text
from journeylab.feedback.topics import find_topics
from journeylab.resources import find_shipped
from journeylab.sources.demo_texts import TEXTS

SKYTRAX = Path(__file__).parents[2] / "shared" / "data" / "skytrax"
N_MANY = 100_000


def tell(what: str, row: dict[str, object]) -> None:
    print(
        f"{what:34} n {row['n']:>6,}   AUC {row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})   accuracy"
        f" {row['accuracy']:.3f}   off by {row['calibration_error']:.3f} (chance alone {row['calibration_noise']:.3f})"
    )


def measure_reviews(reviews: pd.DataFrame) -> None:
    folds, errors = [], []
    for seed in range(3):
        began = time.process_time()
        quality = fit_text_score(reviews["content"], reviews["recommended"], seed=seed).quality
        tell(f"skytrax, shuffle {seed}", quality.iloc[-1].to_dict())
        print(f"{'':34} {time.process_time() - began:.0f} CPU s")
        folds += quality["auc"].iloc[:-1].tolist()
        errors.append(quality["calibration_error"].iloc[-1])
    print(
        f"skytrax: mean AUC of {len(folds)} folds {np.mean(folds):.4f} [0.86], from {min(folds):.3f} to {max(folds):.3f};"
        f" off by {np.mean(errors):.4f} [0.05]"
    )


def measure_demo() -> None:
    events = pd.read_csv(find_shipped("data/demo") / "events.csv", dtype={"score": float})
    answers = events[events["score"].notna() & events["text"].notna()]
    fitted = fit_text_score(answers["text"], answers["score"], scale=(0, 10))
    language_of = {text: lang for lang, moods in TEXTS.items() for mood in moods.values() for text in mood}
    language = answers["text"].map(language_of)
    is_happy, is_unhappy = answers["score"] >= 7, answers["score"] <= 3
    tell("demo, all", fitted.quality.iloc[-1].to_dict())
    for each in TEXTS:
        chosen = (language == each) & (is_happy | is_unhappy)
        p = (fitted.rated[chosen].to_numpy() + 1) / 2
        sentences, _ = pd.factorize(answers["text"][chosen])
        row = judge_scores(each, is_happy[chosen].to_numpy().astype(np.int64), p, sentences)
        tell(f"demo, {each}, {sentences.max() + 1} sentences", dict(row))


def measure_size(reviews: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    # Halves of two reviews make a comment that nobody wrote.
    halves = reviews["content"].str.split(". ", n=2, regex=False).str[:2].str.join(". ").to_numpy()
    first, second = rng.integers(0, len(halves), (2, N_MANY))
    many = [f"{a} {b}" for a, b in zip(halves[first], halves[second], strict=True)]
    for what, call in {
        "rated, none": lambda: score_text(many),
        "rated, 3,522": lambda: score_text([*reviews["content"], *many], [*reviews["recommended"], *[None] * N_MANY]),
        "topics": lambda: find_topics(many),
    }.items():
        began = time.process_time()
        call()
        print(
            f"{N_MANY:,} comments of {np.mean([len(each) for each in many]):.0f} letters, {what}: {time.process_time() - began:.0f} CPU s"
        )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SKYTRAX
    measure_demo()
    print(score_text(["x"]).quality.dropna(axis=1, how="all").round(3).to_string(index=False))
    if not folder.exists():
        sys.exit(f"there is no {folder}: name the folder with lounge.csv and seat.csv")
    reviews = pd.concat([pd.read_csv(folder / f"{name}.csv") for name in ("lounge", "seat")], ignore_index=True)
    measure_reviews(reviews)
    topics = find_topics(reviews["content"], feeling=reviews["recommended"] * 2 - 1)
    print(topics.reason)
    print(topics.table[["name", "n", "share", "stability", "coherence", "feeling"]].round(2).to_string(index=False))
    measure_size(reviews)


if __name__ == "__main__":
    main()
