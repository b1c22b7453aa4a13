"""How far is one journey from another? Coded sequences of any length, and optimal matching, LCS and Hamming on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import RuleError, nearest

if TYPE_CHECKING:
    from journeylab.personas.medoids import Distances, Floats

Codes = NDArray[Any]  # unsigned integers, as narrow as the number of events allows
Distance = Literal["om", "lcs", "hamming"]
Linkage = Literal["medoids", "ward"]

_BLOCK_CELLS = 1 << 22  # of a matrix, reckoned at once
_ALIGN_ROWS, _ALIGN_COLUMNS = 32, 256  # pairs of a block that one step of the alignment fills, in the processor's cache


@dataclass(frozen=True, eq=False)
class SequenceRules:
    """What makes two journeys alike for ``method="sequence"``?

    Parameters
    ----------
    distance : "om", "lcs" or "hamming"
        om: optimal matching, the least cost of insertions, deletions and substitutions that turn one into the other.
        lcs: by the longest common subsequence, length + length - 2 * common, which is om with the costs as they stand.
        hamming: places at which they differ, all those beyond the end of the shorter one included.
    indel : float
        om: cost of an insertion or deletion, above 0.
    substitution : float, pandas.DataFrame or "transitions"
        om: what it costs to replace one event by another. A frame has a row and a column for each event, is symmetric,
        and 0 on its diagonal. "transitions": 2 - p(a, b) - p(b, a), where p(a, b) is how likely b follows a, as TRATE
        in R's TraMineR. It never is more than twice `indel`, for one event can as well be deleted and the other
        inserted; between an event and the break that parts two journeys it always is that.
    normalise : bool
        Divide by the most that two sequences of these lengths can differ, so that distances lie between 0 and 1. If
        not, as in R by default, long journeys are far from all others, and personas are first of all long or short.
    linkage : "medoids" or "ward"
        How personas are found: k-medoids, or the medoids of the clusters of Ward's tree.
    """

    distance: Distance = "om"
    indel: float = 1.0
    substitution: float | pd.DataFrame | Literal["transitions"] = 2.0
    normalise: bool = True
    linkage: Linkage = "medoids"

    def __post_init__(self) -> None:
        for name, known in (("distance", get_args(Distance)), ("linkage", get_args(Linkage))):
            value = getattr(self, name)
            if value not in known:
                raise RuleError(
                    f'SequenceRules: {name}="{value}" is not known; choose {_list(known)}.{nearest(value, known)}'
                )
        if not self.indel > 0:
            raise RuleError(f"SequenceRules: indel={self.indel} must be above 0")
        costs = self.substitution
        if isinstance(costs, str) and costs != "transitions":
            raise RuleError(
                f'SequenceRules: substitution="{costs}" is not known; give a number, a frame or "transitions"'
            )
        if isinstance(costs, int | float) and not costs >= 0:
            raise RuleError(f"SequenceRules: substitution={costs} must not be below 0")
        is_plain = self.indel == 1 and isinstance(costs, int | float) and costs == 2
        if self.distance != "om" and not is_plain:
            raise RuleError(f'SequenceRules: distance="{self.distance}" knows no costs; leave them out or choose "om"')


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of codes, one after another: each in its true length.

    Parameters
    ----------
    codes : ndarray of unsigned integers
        Of n events, event i is i; n is the break between two journeys, n + 1 an event that is not known.
    bounds : ndarray of shape (n_sequences + 1,)
        Where each begins, and the last ends.
    """

    codes: Codes
    bounds: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int]:
        """How many there are."""
        return (len(self.bounds) - 1,)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Codes in each."""
        return np.diff(self.bounds)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The place of each code in its sequence, from 0."""
        return np.arange(len(self.codes)) - np.repeat(self.bounds[:-1], self.lengths)

    def __getitem__(self, rows: NDArray[np.int64]) -> Sequences:
        """Some of them, or one more than once."""
        lengths = self.lengths[rows]
        bounds = np.append(0, np.cumsum(lengths))
        places = np.arange(bounds[-1]) + np.repeat(self.bounds[rows] - bounds[:-1], lengths)
        return Sequences(self.codes[places], bounds)

    def to_lists(self) -> list[list[int]]:
        """Each as a list of codes."""
        return [part.tolist() for part in np.split(self.codes, self.bounds[1:-1])]

    def to_texts(self) -> list[str]:
        """Each as a text with one character per code."""
        text = self.codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        return [text[low:high] for low, high in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)]


def code_sequences(journeys: Sequence[Sequence[Sequence[str]]], events: Sequence[str]) -> Sequences:
    """Write customers, each a list of journeys, each a list of events, as sequences of codes."""
    code, n = {event: i for i, event in enumerate(events)}, len(events)
    coded: list[list[int]] = []
    for customer in journeys:
        parts = [[code.get(event, n + 1) for event in journey] for journey in customer]
        coded.append([place for part in parts for place in (n, *part)][1:])
    bounds = np.cumsum([0, *map(len, coded)])
    return Sequences(np.array([place for part in coded for place in part], dtype=np.min_scalar_type(n + 1)), bounds)


@dataclass(frozen=True, eq=False)
class Metric:
    """A distance with its costs settled for the events of a log.

    Parameters
    ----------
    distance : "om" or "hamming"
    indel : float
    gains : ndarray of shape (n_events + 2, n_events + 2), optional
        What it spares to match or substitute two codes, rather than to delete one and insert the other. None: twice
        `indel` for equals, else nothing.
    normalise : bool
    """

    distance: Literal["om", "hamming"]
    indel: float
    gains: Floats | None
    normalise: bool

    def measure(self, these: Sequences, those: Sequences) -> Distances:
        """Distance of each of these to each of those: whole numbers where all costs are, else float32."""
        dtype = self._choose_type(these, those)
        texts = those.to_texts() if self.gains is None else []
        parts = _cut(len(these.lengths), _BLOCK_CELLS // len(those.lengths) + 1)
        return np.vstack([self._measure_block(these[rows], those, texts, dtype) for rows in parts])

    def measure_all(self, sequences: Sequences) -> Distances:
        """Distances of all to all; quickest where short sequences come first."""
        (n,) = sequences.shape
        matrix = np.empty((n, n), self._choose_type(sequences, sequences))
        texts = sequences.to_texts() if self.gains is None else []
        for rows in _cut(n, min(_BLOCK_CELLS // n, n // 8) + 1):
            low, high = rows[0], rows[-1] + 1
            rest = sequences[np.arange(low, n)]
            matrix[low:high, low:] = self._measure_block(sequences[rows], rest, texts[low:], matrix.dtype)
            matrix[low:, low:high] = matrix[low:high, low:].T
        return matrix

    def measure_most(self, these: Sequences, those: Sequences) -> Distances:
        """What each distance would be if the two had nothing in common."""
        if self.normalise:
            return np.ones((*these.shape, *those.shape), np.float32)
        return self._measure_most(these, those).astype(self._choose_type(these, those))

    def _choose_type(self, these: Sequences, those: Sequences) -> np.dtype[Any]:
        if self.normalise or self.gains is not None or self.indel != 1:
            return np.dtype(np.float32)
        return np.min_scalar_type(int(these.lengths.max() + those.lengths.max()))

    def _measure_most(self, these: Sequences, those: Sequences) -> NDArray[np.float32]:
        reach = np.maximum.outer if self.distance == "hamming" else np.add.outer
        most: NDArray[np.float32] = reach(these.lengths.astype(np.float32), those.lengths.astype(np.float32))
        most *= self.indel
        return most

    def _measure_block(self, these: Sequences, those: Sequences, texts: list[str], dtype: np.dtype[Any]) -> Distances:
        if self.gains is None:
            apart = _match(self.distance, these.to_texts(), texts).astype(dtype, copy=False)
            if self.indel != 1:
                apart *= self.indel
        else:
            apart = self._measure_most(these, those) - _align(these, those, self.gains)
        if self.normalise:
            apart /= self._measure_most(these, those)
        return apart

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON knows."""
        return {
            "distance": self.distance,
            "indel": float(self.indel),
            "gains": None if self.gains is None else self.gains.tolist(),
            "normalise": self.normalise,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Take up what `to_dict` gave."""
        gains = None if data["gains"] is None else np.array(data["gains"])
        return cls(data["distance"], data["indel"], gains, data["normalise"])


def settle_metric(
    rules: SequenceRules, events: Sequence[str], sequences: Sequences, weights: Floats | None = None
) -> Metric:
    """Settle the costs for these events; transition rates are those of these sequences.

    Raises
    ------
    RuleError
        If a frame of costs does not cover the events, or is not symmetric with 0 on its diagonal and nothing below 0.
    """
    costs, n = rules.substitution, len(events)
    distance: Literal["om", "hamming"] = "hamming" if rules.distance == "hamming" else "om"
    if rules.distance != "om" or (isinstance(costs, int | float) and costs >= 2 * rules.indel):
        return Metric(distance, rules.indel, None, rules.normalise)
    if isinstance(costs, pd.DataFrame):
        table = _check_costs(costs, events)
    elif isinstance(costs, str):
        table = derive_transition_costs(sequences, n, weights)
    else:
        table = np.full((n, n), float(costs))
    gains = np.zeros((n + 2, n + 2))
    gains[:n, :n] = np.maximum(2 * rules.indel - table, 0)
    gains[range(n + 1), range(n + 1)] = 2 * rules.indel
    return Metric(distance, rules.indel, gains, rules.normalise)


def derive_transition_costs(sequences: Sequences, n_events: int, weights: Floats | None = None) -> Floats:
    """How unlike are two events, if those are alike that follow each other often? 2 - p(a, b) - p(b, a).

    p(a, b) is the share of b among what follows a within a journey, over customers by their weights; as TRATE in R's
    TraMineR (Gabadinho, Ritschard, Müller & Studer 2011).

    Returns
    -------
    ndarray of shape (n_events, n_events)
        0 to 2, 0 on the diagonal.
    """
    owner = np.repeat(np.arange(len(sequences.lengths)), sequences.lengths)
    before, after = sequences.codes[:-1].astype(np.int64), sequences.codes[1:].astype(np.int64)
    is_move = (owner[:-1] == owner[1:]) & (before < n_events) & (after < n_events)
    share = None if weights is None else weights[owner[:-1]][is_move]
    moves = np.bincount((before * n_events + after)[is_move], weights=share, minlength=n_events**2)
    rates = moves.reshape(n_events, n_events).astype(np.float64)
    rates /= np.maximum(rates.sum(axis=1, keepdims=True), 1e-300)
    costs = 2 - rates - rates.T
    np.fill_diagonal(costs, 0)
    return costs


def _check_costs(costs: pd.DataFrame, events: Sequence[str]) -> Floats:
    for axis, names in (("row", costs.index), ("column", costs.columns)):
        known = [str(name) for name in names]
        missing = [event for event in events if event not in known]
        if missing or len(set(known)) < len(known):
            raise RuleError(
                f"SequenceRules: the frame of costs needs one {axis} for each of {len(events)} events, and "
                + (f"has none for {_list(missing)}.{nearest(missing[0], known)}" if missing else "has some twice")
            )
    named = costs.set_axis(costs.index.astype(str)).set_axis(costs.columns.astype(str), axis=1)
    table: Floats = named.loc[list(events), list(events)].to_numpy(dtype=np.float64)
    wrong = ~(table >= 0) | (table != table.T)
    wrong |= (table != 0) & np.eye(len(table), dtype=bool)
    if wrong.any():
        one, other = (events[place] for place in np.argwhere(wrong)[0])
        raise RuleError(
            f"SequenceRules: {int(wrong.sum())} costs are missing, below 0, not the same both ways, or not 0 from an "
            f'event to itself; the first is from "{one}" to "{other}"'
        )
    return table


def _match(distance: Literal["om", "hamming"], these: list[str], those: list[str]) -> Distances:
    from rapidfuzz.distance import Hamming, Indel
    from rapidfuzz.process import cdist

    scorer = Hamming.distance if distance == "hamming" else Indel.distance
    dtype = np.min_scalar_type(max(map(len, these)) + max(map(len, those)))
    if len(those) < len(these):
        return cdist(those, these, scorer=scorer, dtype=dtype, workers=-1).T
    return cdist(these, those, scorer=scorer, dtype=dtype, workers=-1)


def _align(these: Sequences, those: Sequences, gains: Floats) -> NDArray[np.float32]:
    """What the best alignment of each of these with each of those spares, compared to deleting all and inserting all.

    Needleman & Wunsch (1970), the same cell for many pairs at once. Filled up to the longest of a block with a code
    that spares nothing, shorter sequences come out as they are.
    """
    spared = np.empty((*these.shape, *those.shape), np.float32)
    gains = gains.astype(np.float32)
    for columns in _cut(len(those.lengths), _ALIGN_COLUMNS):
        # (place, code of the other, column)
        by_code = np.ascontiguousarray(gains[:, _fill(those[columns], len(gains) - 1).T].transpose(1, 0, 2))
        for rows in _cut(len(these.lengths), _ALIGN_ROWS):
            filled = _fill(these[rows], len(gains) - 1)
            before = np.zeros((len(by_code) + 1, len(rows), len(columns)), np.float32)
            best = np.zeros_like(before)
            for codes in filled.T:
                for place, gain in enumerate(by_code):
                    np.take(gain, codes, axis=0, out=best[place + 1], mode="clip")
                    best[place + 1] += before[place]
                    np.maximum(best[place + 1], before[place + 1], out=best[place + 1])
                    np.maximum(best[place + 1], best[place], out=best[place + 1])
                before, best = best, before
            spared[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = before[-1]
    return spared


def _fill(sequences: Sequences, code: int) -> NDArray[np.intp]:
    lengths = sequences.lengths
    table = np.full((len(lengths), lengths.max()), code)
    table[np.arange(table.shape[1]) < lengths[:, None]] = sequences.codes
    return table


def _cut(n: int, size: int) -> Iterator[NDArray[np.int64]]:
    for low in range(0, n, size):
        yield np.arange(low, min(low + size, n))


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
