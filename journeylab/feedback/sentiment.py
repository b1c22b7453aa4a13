"""How does a comment feel? Learned from the comments that customers rated themselves, in whatever language.

Word n-grams and character n-grams (which know nothing of any language's grammar), weighted by TF-IDF, and beside them
what our own list of words says (0 where it knows none, as in other languages than its three), in one logistic
regression, calibrated by a beta curve. Nothing is tuned: C = 1 and the n-grams' lengths are fixed. Every figure of
quality is nested: a fold's comments are scored by a model that was fitted, weighted and calibrated without them, and
the same text never stands on both sides.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.feedback.learning import Counted, Model, cross_fit, fit_calibrated
from journeylab.feedback.lexicon import weigh_words
from journeylab.feedback.quality import judge_scores
from journeylab.formats import format_count, format_number, format_share
from journeylab.language import gettext as _

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_RATED, LEAST_OF_A_KIND = 50, 10
# More teach little, and memory grows with them; longer texts repeat themselves.
MOST_RATED, LONGEST = 20_000, 2_000
_CHUNK = 5_000
# The fallback's figures on skytrax's 3,522 airline reviews, which are not shipped; a test works them out again.
_LEXICON_ON_SKYTRAX: dict[str, str | float] = {
    "measured_on": "airline reviews (skytrax), en",
    "n": 3522,
    "share_positive": 0.362,
    "share_scored": 0.993,
    "auc": 0.840,
    "low": 0.826,
    "high": 0.853,
    "accuracy": 0.760,
}


@dataclass(frozen=True, eq=False)
class TextScore:
    """A way to score comments, and how good it is.

    Attributes
    ----------
    method
        "learned" from the caller's ratings, or "lexicon": words that we wrote down.
    rated
        Feeling of each text that it was given (-1 to 1), on the texts' index: a text it learned from is scored by a
        model that did not see it. Null: nothing to score.
    quality
        One row per fold and one for all of them ("learned"), or per collection that the lexicon was tried on:
        measured_on, n, share_positive, share_scored (0-1), auc (area under the ROC curve) with low and high (95 %,
        Obuchowski 1997: identical texts count as one voice), brier, calibration_error (expected calibration error, ten
        bins of equal counts), calibration_noise (what a perfectly calibrated score would show by chance), bias (mean
        probability - share_positive), slope (1: neither too bold nor too timid), accuracy (of those scored, by the sign
        of the feeling). The lexicon gives no probability: null there.
    note
        The same in words.
    """

    method: Literal["learned", "lexicon"]
    rated: pd.Series
    quality: pd.DataFrame
    note: str
    _model: Model | None

    def score(self, texts: Iterable[object]) -> pd.Series:
        """How do these comments feel, from -1 to 1? Null: empty, or nothing in it is known."""
        prepared = _prepare(texts)
        distinct = prepared[prepared != ""].drop_duplicates().to_numpy(dtype=object)
        if self._model is None:
            feelings = np.array([weigh_words(text) for text in distinct], dtype=float)
        else:
            parts = [self._model.predict(distinct[at : at + _CHUNK]) for at in range(0, len(distinct), _CHUNK)]
            feelings = 2 * np.concatenate([np.empty(0), *parts]) - 1
        return prepared.map(dict(zip(distinct, feelings, strict=True))).astype(float).rename("feeling")


@dataclass(frozen=True, eq=False)
class TextFeelings:
    """How comments feel: table (feeling -1 to 1, how), quality and note as `TextScore` has them."""

    table: pd.DataFrame
    quality: pd.DataFrame
    note: str


def score_text(
    texts: Iterable[object],
    scores: Iterable[object] | None = None,
    *,
    scale: tuple[float, float] | None = None,
    groups: Iterable[object] | None = None,
    seed: int = 0,
) -> TextFeelings:
    """How does each comment feel, from -1 to 1, and how far can that be trusted?

    Parameters
    ----------
    texts
        Comments in any language; null and blank ones get no feeling.
    scores
        What their writers said themselves, beside each text, null where they did not: true or false (1 or 0), or a
        score on `scale`. Of a scale, the upper third is a happy comment, the lower third an unhappy one (4-5 and 1-2 of
        five; 7-10 and 0-3 of 0 to 10); those between teach nothing and are no part of the quality, but get a feeling.
    scale
        The lowest and the highest score that could be given, such as (0, 10).
    groups
        Texts that belong together, such as their writers: no group teaches about itself. Identical texts never do.
    seed
        Draws the folds.

    Returns
    -------
    TextFeelings
        table: one row per text, on the index of `texts` if it is a Series: feeling, and how: "out of fold" (rated, and
        scored by a model that did not see it, nor its like), "model", "lexicon" or "none". With fewer than 50 rated
        comments, or fewer than 10 distinct ones of a kind, it is a list of words of ours that scores: better than
        nothing, not calibrated, and the quality says what it was measured on. Its words were chosen by someone who had
        read the demo shop's comments, so that those flatter it; it was never fitted to the reviews.

    Examples
    --------
    >>> score_text(["Great service!", "Payment failed, I gave up.", None]).table
       feeling      how
    0      0.5  lexicon
    1     -0.5  lexicon
    2      NaN     none
    """
    known = _as_series(texts)
    fitted = fit_text_score(known, scores, scale=scale, groups=groups, seed=seed)
    learned = fitted.method == "learned"
    feeling = fitted.rated
    how = pd.Series("out of fold" if learned else "lexicon", index=feeling.index, dtype=object)
    if learned:
        unseen = feeling.isna().to_numpy()
        feeling = feeling.copy()
        feeling[unseen] = fitted.score(known[unseen]).to_numpy()
        how[unseen] = "model"
    how[feeling.isna().to_numpy()] = "none"
    return TextFeelings(pd.DataFrame({"feeling": feeling, "how": how}), fitted.quality, fitted.note)


def fit_text_score(
    texts: Iterable[object],
    scores: Iterable[object] | None = None,
    *,
    scale: tuple[float, float] | None = None,
    groups: Iterable[object] | None = None,
    seed: int = 0,
) -> TextScore:
    """What do the rated comments teach about how a comment feels? Parameters are those of `score_text`."""
    prepared = _prepare(texts)
    labels = np.full(len(prepared), np.nan) if scores is None else _read_labels(scores, scale, len(prepared))
    voices = _join_groups(prepared, groups)
    taught = np.flatnonzero(~np.isnan(labels) & (prepared != "").to_numpy())
    n_rated = len(taught)
    if n_rated > MOST_RATED:
        taught = np.sort(np.random.default_rng(seed).choice(taught, MOST_RATED, replace=False))
    y = labels[taught].astype(np.int64)
    kinds = [len(np.unique(voices[taught][y == kind])) for kind in (0, 1)]
    if n_rated < LEAST_RATED or min(kinds) < LEAST_OF_A_KIND:
        return _fall_back(prepared, labels, voices, n_rated, kinds)
    counted = Counted.count(prepared.iloc[taught].to_numpy(dtype=object))
    p, fold = cross_fit(counted, y, voices[taught], seed)
    # A text that is the same as one it learned from has been seen as well.
    unseen_by = dict(zip(prepared.iloc[taught], 2 * p - 1, strict=True))
    rated = prepared.map(unseen_by).astype(float).rename("feeling")
    quality = _judge_folds(y, p, fold, voices[taught])
    model = fit_calibrated(counted, y, voices[taught], np.arange(len(y)), seed)
    return TextScore("learned", rated, quality, _describe_learned(quality, n_rated), model)


def _as_series(texts: Iterable[object]) -> pd.Series:
    if isinstance(texts, str):
        raise RuleError("texts is one text: pass a list of them")
    return texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype=object)


def _prepare(texts: Iterable[object]) -> pd.Series:
    """Texts without what does not matter; "" for null and blank ones."""
    return _as_series(texts).astype(object).map(_normalise).astype(object)


def _normalise(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join(unicodedata.normalize("NFKC", text[:LONGEST]).casefold().split())


def _read_labels(scores: Iterable[object], scale: tuple[float, float] | None, n: int) -> Floats:
    """1: happy, 0: unhappy, nan: neither, or not said."""
    given = scores if isinstance(scores, pd.Series) else pd.Series(list(scores), dtype=object)
    if len(given) != n:
        raise RuleError(f"scores has {len(given):,} values beside {n:,} texts: one each, null where nothing was said")
    values: Floats = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    odd = given[np.isnan(values) & given.notna().to_numpy()]
    if len(odd):
        raise RuleError(f"scores has {len(odd):,} that are no numbers, such as {odd.iloc[0]!r}: make them null")
    said = values[~np.isnan(values)]
    if scale is None:
        if not np.isin(said, (0, 1)).all():
            raise RuleError(
                f"scores run from {said.min():g} to {said.max():g}, which says neither yes nor no: name the scale they"
                " were given on, such as scale=(0, 10)"
            )
        return values
    low, high = scale
    if not low < high:
        raise RuleError(f"scale is (lowest, highest), got {scale}")
    if outside := int(((said < low) | (said > high)).sum()):
        raise RuleError(f"scores has {outside:,} outside the scale {low:g} to {high:g}: are there two scales in it?")
    # 7 of 1 to 10 is two thirds of the way, whatever its last binary digit says.
    place = (values - low) / (high - low)
    labels = np.full(n, np.nan)
    labels[place >= 2 / 3 - 1e-9] = 1
    labels[place <= 1 / 3 + 1e-9] = 0
    return labels


def _join_groups(prepared: pd.Series, groups: Iterable[object] | None) -> Ints:
    """Number the texts so that two which are identical, or of one group, have the same number."""
    codes = pd.factorize(prepared)[0].astype(np.int64)
    if groups is None:
        return codes
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    given = groups if isinstance(groups, pd.Series) else pd.Series(list(groups), dtype=object)
    if len(given) != len(prepared):
        raise RuleError(f"groups has {len(given):,} values beside {len(prepared):,} texts")
    owners = pd.factorize(given.to_numpy())[0].astype(np.int64)
    known = (owners >= 0) & (prepared != "").to_numpy()
    n_codes, n_owners = codes.max(initial=-1) + 1, owners.max(initial=-1) + 1
    edges = (np.ones(known.sum()), (codes[known], n_codes + owners[known]))
    graph = coo_array(edges, shape=(n_codes + n_owners,) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)[codes]


def _judge_folds(y: Ints, p: Floats, fold: Ints, voices: Ints) -> pd.DataFrame:
    rows = [
        judge_scores(f"fold {number}", y[fold == number], p[fold == number], voices[fold == number])
        for number in np.unique(fold)
    ]
    return pd.DataFrame([*rows, judge_scores("all folds", y, p, voices)])


def _fall_back(prepared: pd.Series, labels: Floats, voices: Ints, n_rated: int, kinds: list[int]) -> TextScore:
    from journeylab.sources.demo_texts import TEXTS

    rows = []
    for language, moods in TEXTS.items():
        tried = [(text, mood == "good") for mood in moods if mood != "fair" for text in moods[mood]]
        feelings = np.array([weigh_words(text) for text, _happy in tried], dtype=float)
        happy = np.array([is_happy for _text, is_happy in tried], dtype=np.int64)
        rows.append(judge_scores(f"demo shop, {language}", happy, feelings, np.arange(len(happy)), is_share=False))
    rows.append(_LEXICON_ON_SKYTRAX)
    scored = TextScore("lexicon", prepared, pd.DataFrame(), "", None).score(prepared)
    taught = ~np.isnan(labels) & (prepared != "").to_numpy()
    own = min(kinds) > 0
    if own:
        happy = labels[taught].astype(np.int64)
        yours = scored.to_numpy()[taught]
        rows.append(judge_scores("your rated comments", happy, yours, voices[taught], is_share=False))
    quality = pd.DataFrame(rows)
    return TextScore("lexicon", scored, quality, _describe_fallback(quality, n_rated, own=own), None)


def _describe_learned(quality: pd.DataFrame, n_rated: int) -> str:
    whole = quality.iloc[-1]
    return _(
        "Learned from {n} of {rated} comments rated happy or unhappy. Of a happy and an unhappy comment that it had"
        " not seen, it put the happy one higher in {auc} of cases ({low} to {high}); its probabilities are off by"
        " {error} on average, where chance alone would show {noise}.",
        n=format_count(whole["n"]),
        rated=format_count(n_rated),
        auc=format_share(whole["auc"]),
        low=format_share(whole["low"]),
        high=format_share(whole["high"]),
        error=format_number(whole["calibration_error"], 3),
        noise=format_number(whole["calibration_noise"], 3),
    )


def _describe_fallback(quality: pd.DataFrame, n_rated: int, *, own: bool) -> str:
    if own:
        whole = quality.iloc[-1]
        return _(
            "Too few comments are rated to learn from ({n}), so a list of words scores them. Of a happy and an unhappy"
            " one of these, it put the happy one higher in {auc} of cases ({low} to {high}).",
            n=format_count(n_rated),
            auc=format_share(whole["auc"]),
            low=format_share(whole["low"]),
            high=format_share(whole["high"]),
        )
    return _(
        "Too few comments are rated to learn from ({n}), so a list of words scores them. It was measured on other"
        " people's comments, not on yours: on airline reviews it put a happy one above an unhappy one in {auc} of"
        " cases.",
        n=format_count(n_rated),
        auc=format_share(float(_LEXICON_ON_SKYTRAX["auc"])),
    )
