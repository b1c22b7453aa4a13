"""What do comments talk about? Topics that come back from other comments and other seeds, or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.feedback.words import ReadTexts, count_words, list_words
from journeylab.formats import format_count, format_number
from journeylab.language import gettext as _
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The least mean cosine of a topic with its likeness in halves of the texts.
STABLE = 0.7
_TRIED = (2, 3, 4, 5, 6, 8, 10, 12)
_REFITS, _SHUFFLES, _TOP = 6, 3, 8
# Of several numbers of topics and several shuffles, one is a little better than chance by chance.
_BEYOND = 0.05


@dataclass(frozen=True, eq=False)
class Topics:
    """Topics of comments, and whether they are there.

    Attributes
    ----------
    verdict
        "clear", or "none": no number of topics came back; table and assign are empty then.
    reason
        Why, in words.
    table
        One row per topic, the largest first: topic (from 1), name (its three foremost words), words, n (texts whose
        foremost topic it is), share of all texts with words, with low and high (95 %, Wilson), stability (0-1),
        coherence (mean normalised pointwise mutual information of its words, -1 to 1) and, where feelings are given,
        feeling (their mean, -1 to 1).
    assign
        On the index of the texts: topic (null: no word of any topic) and weight (its part of the text's topics, 0-1).
    stability
        One row per number of topics tried: k, stability (mean over topics), worst (of the topics), coherence (mean),
        coherence_by_chance (the same of texts whose words were dealt out anew, the highest of three; null where the
        topics are not stable, for nothing hangs on it) and is_clear.
    """

    verdict: Literal["clear", "none"]
    reason: str
    table: pd.DataFrame
    assign: pd.DataFrame
    stability: pd.DataFrame


def find_topics(
    texts: Iterable[object],
    *,
    k: int | Literal["auto"] = "auto",
    feeling: Iterable[float | None] | None = None,
    stop_words: Collection[str] = (),
    seed: int = 0,
) -> Topics:
    """What do comments talk about, if the same topics come back whichever half of them is read?

    Non-negative matrix factorisation (Lee & Seung 1999) of TF-IDF-weighted words. A number of topics is accepted when
    each topic finds its likeness (mean cosine at least 0.7) in fits of random halves with other seeds, and when topics'
    words stand together clearly more often (coherence higher by 0.05) than in texts of the same lengths and words at
    random. Of those accepted, the largest is taken.

    Parameters
    ----------
    texts
        Comments in any language; null and blank ones are in no topic. Identical ones count once when topics are looked
        for, and each when they are counted. Words are told apart by their first six letters, so that scripts
        without spaces give none. Fits read 4,000 texts.
    k
        How many; "auto" tries 2 to 12.
    feeling
        From -1 to 1, beside each text, as `score_text` gives it.
    stop_words
        Words to leave out, beside those in more than half of the texts and the small words of English, Polish, Russian.
    seed
        Draws the starts, the halves and the shuffles.
    """
    if isinstance(texts, str):
        raise RuleError("texts is one text: pass a list of them")
    if k != "auto" and (not isinstance(k, int) or k < 2):
        raise RuleError(f'k is "auto" or a whole number from 2, got {k!r}')
    given = texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype=object)
    words = given.astype(object).map(list_words).astype(object)
    feelings = None if feeling is None else np.array(list(feeling), dtype=np.float64)
    if feelings is not None and len(feelings) != len(given):
        raise RuleError(f"feeling has {len(feelings):,} values beside {len(given):,} texts")
    rng = np.random.default_rng(seed)
    read = ReadTexts.read(words, stop_words, rng)
    if read is None or (k != "auto" and read.counts.shape[0] < 10 * k):
        return _refuse(given.index, _("There are too few distinct comments to look for topics in."), pd.DataFrame())
    tried = [_try(read, each, rng) for each in (_TRIED if k == "auto" else (k,)) if read.counts.shape[0] >= 10 * each]
    stability = pd.DataFrame([each.row for each in tried])
    found = next((each for each in reversed(tried) if each.row["is_clear"]), None)
    if found is None:
        best = max(tried, key=lambda each: each.row["worst"])
        return _refuse(given.index, _explain(best.row), stability)
    assign, order = _assign(read, found, words)
    table = _describe(read, found, assign, order, int((words.str.len() > 0).sum()), feelings)
    reason = _(
        "{k} topics come back from random halves of the comments (mean cosine {stability}).",
        k=format_count(len(table)),
        stability=format_number(found.row["stability"]),
    )
    return Topics("clear", reason, table, assign, stability)


@dataclass(frozen=True, eq=False)
class _Tried:
    row: dict[str, Any]
    components: Floats
    stability: Floats
    coherence: Floats


def count_topics(topics: Topics, stages: pd.Series) -> pd.DataFrame:
    """What do comments on each stage talk about? As `build_map` asks for it.

    Parameters
    ----------
    topics
        From `find_topics`.
    stages
        On the index of the texts: the stage that each speaks of (about_stage of `attach_feedback`); null: none.

    Returns
    -------
    pandas.DataFrame
        stage, item (the topic's name), n (comments on the stage that have words of any topic), value (share of them),
        low, high (95 %, Wilson); by stage, the most frequent first. Empty where the topics are not there.
    """
    told = topics.assign.assign(stage=stages).dropna(subset=["topic", "stage"])
    counts = told.groupby(["stage", "topic"]).size().rename("n_topic").reset_index()
    counts["n"] = counts.groupby("stage")["n_topic"].transform("sum")
    counts["item"] = counts["topic"].map(topics.table.set_index("topic")["name"])
    counts["value"], counts["low"], counts["high"] = bound_shares(counts["n_topic"], counts["n"])
    ordered = counts.sort_values(["stage", "n_topic", "topic"], ascending=[True, False, True], ignore_index=True)
    return ordered[["stage", "item", "n", "value", "low", "high"]]


def _try(read: ReadTexts, k: int, rng: np.random.Generator) -> _Tried:
    """Fit k topics to all texts, and again to halves of them, and to texts that talk of nothing."""
    weighed = read.weigh(read.counts)
    components = _factorise(weighed, k, rng)
    n = weighed.shape[0]
    halves = (_factorise(weighed[rng.permutation(n)[: n // 2]], k, rng) for _ in range(_REFITS))
    stability = np.mean([_match(components, other) for other in halves], axis=0)
    coherence = _cohere(read.counts, components)
    chance = np.nan
    if stability.min() >= STABLE:
        shuffled = (_shuffle(read.counts, rng) for _ in range(_SHUFFLES))
        chance = max(float(_cohere(each, _factorise(read.weigh(each), k, rng)).mean()) for each in shuffled)
    row = {
        "k": k,
        "stability": float(stability.mean()),
        "worst": float(stability.min()),
        "coherence": float(coherence.mean()),
        "coherence_by_chance": chance,
        # Each topic must come back, and each must be more than words that happen to be frequent.
        "is_clear": bool(coherence.mean() >= chance + _BEYOND and coherence.min() > chance),
    }
    return _Tried(row, components, stability, coherence)


def _factorise(weighed: sparse.csr_matrix, k: int, rng: np.random.Generator) -> Floats:
    """Directions of length 1, one per topic."""
    import warnings

    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    # The better of two starts: a bad one would look like topics that are not there.
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _start in range(2):
            model = NMF(k, init="random", tol=1e-3, max_iter=100, random_state=int(rng.integers(2**31)))
            fits.append(model.fit(weighed))
    components = min(fits, key=lambda each: each.reconstruction_err_).components_
    return np.asarray(components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12), dtype=float)


def _match(components: Floats, others: Floats) -> Floats:
    """Cosine of each topic with its likeness, in the pairing where all together are most alike."""
    from scipy.optimize import linear_sum_assignment

    alike = components @ others.T
    mine, theirs = linear_sum_assignment(-alike)
    return np.asarray(alike[mine, theirs], dtype=float)


def _cohere(counts: sparse.csr_matrix, components: Floats) -> Floats:
    """Do a topic's foremost words stand in the same texts? Normalised pointwise mutual information (Bouma 2009)."""
    n = counts.shape[0]
    found = []
    for weights in components:
        top = np.argsort(-weights, kind="stable")[:_TOP]
        present = (counts[:, top] > 0).astype(float)
        together = (present.T @ present).toarray() / n
        alone = np.diag(together)
        first, second = np.triu_indices(len(top), 1)
        joint = together[first, second]
        with np.errstate(divide="ignore", invalid="ignore"):
            npmi = np.log(joint / (alone[first] * alone[second])) / -np.log(joint)
        found.append(np.where(joint > 0, npmi, -1.0).mean())
    return np.array(found)


def _shuffle(counts: sparse.csr_matrix, rng: np.random.Generator) -> sparse.csr_matrix:
    """Deal all words out anew: texts as long as before, words as frequent as before, and nothing goes together."""
    from scipy import sparse

    # Words, not their columns: a word twice in a text would else stay there twice.
    words = rng.permutation(np.repeat(counts.indices, counts.data.astype(np.int64)))
    lengths = np.asarray(counts.sum(axis=1), dtype=np.int64).ravel()
    dealt = sparse.csr_matrix((np.ones(len(words)), words, np.append(0, np.cumsum(lengths))), shape=counts.shape)
    dealt.sum_duplicates()
    return dealt


def _assign(read: ReadTexts, found: _Tried, words: pd.Series) -> tuple[pd.DataFrame, Ints]:
    """Each text's foremost topic, numbered by size, and the fits' numbers of those."""
    from sklearn.decomposition import non_negative_factorization

    distinct = list(dict.fromkeys(words))
    weighed = read.weigh(count_words(distinct, read.column))
    known = np.flatnonzero(np.diff(weighed.indptr) > 0)
    k = len(found.components)
    parts = np.zeros((len(distinct), k))
    for at in range(0, len(known), 5_000):
        rows = known[at : at + 5_000]
        parts[rows] = non_negative_factorization(
            weighed[rows], H=found.components, update_H=False, n_components=k, init="custom", tol=1e-3, max_iter=200
        )[0]
    total = parts.sum(axis=1)
    row = words.map({each: number for number, each in enumerate(distinct)}).to_numpy(dtype=np.int64)
    best, is_in = parts.argmax(axis=1)[row], total[row] > 0
    order = np.argsort(-np.bincount(best[is_in], minlength=k), kind="stable")
    number = np.empty(k, dtype=np.int64)
    number[order] = np.arange(1, k + 1)
    weight = np.divide(parts.max(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)[row]
    topic = pd.array(np.where(is_in, number[best], 0), dtype="Int64")
    topic[~is_in] = pd.NA
    return pd.DataFrame({"topic": topic, "weight": weight}, index=words.index), order


def _describe(
    read: ReadTexts, found: _Tried, assign: pd.DataFrame, order: Ints, n_texts: int, feelings: Floats | None
) -> pd.DataFrame:

    rows: list[dict[str, Any]] = []
    for number, topic in enumerate(order, start=1):
        top = [read.names[each] for each in np.argsort(-found.components[topic], kind="stable")[:_TOP]]
        is_in = (assign["topic"] == number).fillna(False).to_numpy(dtype=bool)
        row: dict[str, Any] = {"topic": number, "name": ", ".join(top[:3]), "words": ", ".join(top), "n": is_in.sum()}
        row |= {"stability": found.stability[topic], "coherence": found.coherence[topic]}
        if feelings is not None:
            felt = feelings[is_in & ~np.isnan(feelings)]
            row["feeling"] = felt.mean() if len(felt) else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    share, low, high = bound_shares(table["n"], pd.Series(n_texts, index=table.index))
    for place, (name, values) in enumerate({"share": share, "low": low, "high": high}.items(), start=4):
        table.insert(place, name, values)
    return table


def _refuse(index: pd.Index, reason: str, stability: pd.DataFrame) -> Topics:
    assign = pd.DataFrame({"topic": pd.array([pd.NA] * len(index), dtype="Int64"), "weight": np.nan}, index=index)
    columns = ["topic", "name", "words", "n", "share", "low", "high", "stability", "coherence"]
    return Topics("none", reason, pd.DataFrame(columns=columns), assign, stability)


def _explain(best: dict[str, Any]) -> str:
    if best["worst"] < STABLE:
        return _(
            "No number of topics comes back from random halves of the comments: at best, with {k}, the weakest topic is"
            " found again with a cosine of {worst}, where {stable} is asked for.",
            k=format_count(best["k"]),
            worst=format_number(best["worst"]),
            stable=format_number(STABLE),
        )
    return _(
        "The words of a topic stand together no more often than chance has it: coherence {coherence}, and"
        " {chance} in comments whose words were dealt out anew.",
        coherence=format_number(best["coherence"]),
        chance=format_number(best["coherence_by_chance"]),
    )
