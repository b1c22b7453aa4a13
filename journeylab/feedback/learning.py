"""What rated comments teach: n-grams, one logistic regression, and a curve that makes its margin a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from journeylab.feedback.lexicon import weigh_words

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Counted:
    """How often each n-gram stands in each text, in logarithms (words; letters), and what the lexicon says of it."""

    counters: tuple[Any, Any]  # scikit-learn's CountVectorizer, which has no types
    blocks: list[sparse.csr_matrix]

    @classmethod
    def count(cls, texts: NDArray[np.object_]) -> Counted:
        """Count these texts' n-grams."""
        from sklearn.feature_extraction.text import CountVectorizer

        # Texts are in small letters already. A thing seen once or twice teaches nothing.
        same: dict[str, Any] = {"lowercase": False, "dtype": np.float32}
        words = CountVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\w+", **same)
        letters = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, **same)
        (words, said), (letters, spelt) = _learn_grams(words, texts), _learn_grams(letters, texts)
        return cls((words, letters), [said, spelt, _ask_lexicon(texts)])

    def take(self, rows: Ints) -> list[sparse.csr_matrix]:
        """Blocks of some of the texts."""
        return [block[rows] for block in self.blocks]


# Any: scikit-learn has no types.
def _learn_grams(counter: Any, texts: NDArray[np.object_]) -> tuple[Any, sparse.csr_matrix]:
    """Count; where no two texts share an n-gram (as in a script without spaces), none."""
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        return counter, _damp(counter.fit_transform(texts))
    except ValueError:
        nothing = CountVectorizer(vocabulary=["\0"], lowercase=False, dtype=np.float32)
        return nothing, nothing.transform(texts)


def _ask_lexicon(texts: NDArray[np.object_]) -> sparse.csr_matrix:
    from scipy import sparse

    return sparse.csr_matrix(np.array([[weigh_words(text) or 0.0] for text in texts], dtype=np.float32).reshape(-1, 1))


def _damp(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    counts.data = 1 + np.log(counts.data)
    return counts


@dataclass(frozen=True, eq=False)
class Model:
    """Logistic regression on weighted n-grams, and the curve that makes its margin a probability."""

    counters: tuple[Any, Any]
    weights: tuple[NDArray[np.float32], NDArray[np.float32]]
    coefficients: Floats
    intercept: float
    slope: float = 1.0
    offset: float = 0.0
    bend: tuple[float, float, float] = (1.0, 1.0, 0.0)

    def margin(self, blocks: Sequence[sparse.csr_matrix]) -> Floats:
        """How far on the happy side is each text? Null where nothing in it is known."""
        features = _weigh(blocks, self.weights)
        margins = np.asarray(features @ self.coefficients, dtype=float) + self.intercept
        # Nothing in it was ever rated: what is usual is no answer.
        margins[np.diff(features.indptr) == 0] = np.nan
        return margins

    def predict(self, texts: NDArray[np.object_]) -> Floats:
        """How probable is it that each text is a happy one?"""
        blocks = [_damp(counter.transform(texts)) for counter in self.counters]
        return self.calibrate(self.margin([*blocks, _ask_lexicon(texts)]))

    def calibrate(self, margins: Floats) -> Floats:
        """Which probabilities are these margins?"""
        from scipy.special import expit

        happy, unhappy, offset = self.bend
        p, known = np.full(len(margins), np.nan), ~np.isnan(margins)
        p[known] = expit(_part(self.slope * margins[known] + self.offset) @ (happy, unhappy) + offset)
        return p


def _weigh(blocks: Sequence[sparse.csr_matrix], weights: Sequence[NDArray[np.float32]]) -> sparse.csr_matrix:
    from scipy import sparse
    from sklearn.preprocessing import normalize

    weighed = []
    *counts, lexicon = blocks
    for block, weight in zip(counts, weights, strict=True):
        part = sparse.csr_matrix((block.data * weight[block.indices], block.indices, block.indptr), shape=block.shape)
        part = part.copy()
        part.eliminate_zeros()
        weighed.append(normalize(part, copy=False))
    return sparse.hstack([*weighed, lexicon]).tocsr()


def _fit(counted: Counted, y: Ints, rows: Ints, seed: int) -> Model:
    from sklearn.linear_model import LogisticRegression

    blocks = counted.take(rows)
    weights = []
    for block, least in zip(blocks[:-1], (2, 3), strict=True):
        n_with = np.bincount(block.indices, minlength=block.shape[1])
        # What is rare among these rows would not have been counted, had there been no others.
        idf = np.log((1 + len(rows)) / (1 + n_with)) + 1
        weights.append(np.where(n_with >= least, idf, 0).astype(np.float32))
    # The dual is quick where there are more n-grams than texts.
    learner = LogisticRegression(C=1.0, solver="liblinear", dual=True, tol=1e-3, max_iter=1000, random_state=seed)
    learner.fit(_weigh(blocks, weights), y[rows])
    both = (weights[0], weights[1])
    return Model(counted.counters, both, learner.coef_[0].astype(float), float(learner.intercept_[0]))


def _split(y: Ints, voices: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(y)), y, voices))


def fit_calibrated(counted: Counted, y: Ints, voices: Ints, rows: Ints, seed: int) -> Model:
    """Fit on all rows; learn the curve from margins of models that did not see the row."""
    margins = np.full(len(rows), np.nan)
    for train, test in _split(y[rows], voices[rows], seed):
        inner = _fit(counted, y, rows[train], seed)
        margins[test] = inner.margin(counted.take(rows[test]))
    known = ~np.isnan(margins)
    slope, offset, bend = _fit_curve(y[rows][known], margins[known])
    return replace(_fit(counted, y, rows, seed), slope=slope, offset=offset, bend=bend)


def _part(margins: Floats) -> Floats:
    """Both ends of p = expit(margin): ln p, and -ln(1 - p). Their sum is the margin."""
    return np.column_stack([-np.logaddexp(0, -margins), np.logaddexp(0, margins)])


def _fit_curve(y: Ints, margins: Floats) -> tuple[float, float, tuple[float, float, float]]:
    """Platt's sigmoid (1999), then beta calibration (Kull, Silva Filho & Flach 2017), which lets its two ends differ.

    On comments the sigmoid alone is too bold at the happy end. It stays as it is where a free end would fall.
    """
    from sklearn.linear_model import LogisticRegression

    n_happy, n_unhappy = y.sum(), (1 - y).sum()
    # Platt's targets, a little inside 0 and 1, keep both finite where the margins part the classes wholly.
    target = np.where(y == 1, (n_happy + 1) / (n_happy + 2), 1 / (n_unhappy + 2))
    outcome, weight = np.repeat([1, 0], len(y)), np.concatenate([target, 1 - target])
    learner = LogisticRegression(C=1e6, solver="newton-cholesky", max_iter=1000)

    def regress(columns: Floats) -> tuple[list[float], float]:
        learner.fit(np.vstack([columns, columns]), outcome, sample_weight=weight)
        return learner.coef_[0].tolist(), float(learner.intercept_[0])

    (slope,), offset = regress(margins[:, None])
    (happy, unhappy), shift = regress(_part(slope * margins + offset))
    bend = (happy, unhappy, shift) if min(happy, unhappy) > 0 else (1.0, 1.0, 0.0)
    return slope, offset, bend


def cross_fit(counted: Counted, y: Ints, voices: Ints, seed: int) -> tuple[Floats, Ints]:
    """Probability of each rated text from a model without it, and the fold it was in."""
    p, fold = np.full(len(y), np.nan), np.zeros(len(y), dtype=np.int64)
    for number, (train, test) in enumerate(_split(y, voices, seed), start=1):
        model = fit_calibrated(counted, y, voices, train, seed)
        p[test] = model.calibrate(model.margin(counted.take(test)))
        fold[test] = number
    return p, fold
