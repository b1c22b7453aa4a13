"""Comments as the words that may tell their topics apart."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float64]

LEAST_TEXTS = 50
_MOST_TEXTS, _MOST_WORDS, _LONGEST = 4_000, 4_000, 2_000
# Inflected words count as one by their beginning: "płatność" and "płatności", "refund" and "refunded".
_STEM = 6
_WORD = re.compile(r"[^\W\d_]{3,}")
_STOP = """
the and for are was were but not you all any can had her his our out has have been this that with they them from will
would there their what when where which who why how very just also than then too its into over some more most only own
same about after again because before being between both did does doing down during each few here him hers itself off
once other she should such these those through under until while could one two get got even much still your yours nie
się sie jest jak ale czy był była było były być dla już juz tak tym tego też tez tylko przy przez oraz lub ich jego
jej mnie mam nas nam pan pani przed pod nad bez ten tej sobie które który która gdy kiedy więc bardzo что как так это
его она они оно был была было были быть для при под над без или также тоже уже ещё еще только если когда меня мне нас
нам вас вам них ему ней чем где кто все всё вот очень этот эта эти того тому тем который которая которые
"""


def list_words(text: object) -> tuple[str, ...]:
    """Words of three letters or more, in small letters."""
    if not isinstance(text, str):
        return ()
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text[:_LONGEST]).casefold()))


@cache
def _list_stops() -> frozenset[str]:
    return frozenset(_STOP.split())


@dataclass(frozen=True, eq=False)
class ReadTexts:
    """Distinct texts as words that may tell topics apart."""

    column: dict[str, int]
    names: list[str]
    counts: sparse.csr_matrix
    idf: Floats

    @classmethod
    def read(cls, words: pd.Series, stop_words: Collection[str], rng: np.random.Generator) -> ReadTexts | None:
        """Keep words neither rare nor in most texts; None where too few texts have any."""
        stops = _list_stops() | {word.casefold() for word in stop_words}
        distinct = list(dict.fromkeys(each for each in words if each))
        if len(distinct) > _MOST_TEXTS:
            distinct = [distinct[at] for at in np.sort(rng.choice(len(distinct), _MOST_TEXTS, replace=False))]
        kept = [[word for word in each if word not in stops] for each in distinct]
        n_with = Counter(stem for each in kept for stem in {word[:_STEM] for word in each})
        least = max(3, len(kept) // 500)
        usual = [(n, stem) for stem, n in n_with.items() if least <= n <= len(kept) / 2]
        stems = [stem for _n, stem in sorted(usual, key=lambda each: (-each[0], each[1]))[:_MOST_WORDS]]
        column = {stem: number for number, stem in enumerate(sorted(stems))}
        forms: dict[str, Counter[str]] = {}
        for each in kept:
            for word in each:
                forms.setdefault(word[:_STEM], Counter())[word] += 1
        names = [min(forms[stem], key=lambda word: (-forms[stem][word], word)) for stem in column]
        counts = count_words(kept, column)
        counts = counts[np.diff(counts.indptr) > 0]
        if counts.shape[0] < LEAST_TEXTS or len(column) < 10:
            return None
        idf = np.log((1 + counts.shape[0]) / (1 + np.bincount(counts.indices, minlength=len(column)))) + 1
        return cls(column, names, counts, idf)

    def weigh(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """TF-IDF, each text of length 1."""
        from sklearn.preprocessing import normalize

        weighed = counts.copy()
        weighed.data = (1 + np.log(weighed.data)) * self.idf[weighed.indices]
        return normalize(weighed, copy=False)


def count_words(texts: Iterable[Iterable[str]], column: dict[str, int]) -> sparse.csr_matrix:
    """How often does each text say each word?"""
    from scipy import sparse

    starts, columns = [0], []
    for words in texts:
        columns += [column[word[:_STEM]] for word in words if word[:_STEM] in column]
        starts.append(len(columns))
    found = sparse.csr_matrix(
        (np.ones(len(columns)), np.array(columns, dtype=np.int64), np.array(starts)),
        shape=(len(starts) - 1, len(column)),
    )
    found.sum_duplicates()
    return found
