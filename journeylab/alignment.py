"""The best way to lay a journey along a planned path: which event is which step, and what is out of place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeylab.personas.distances import Sequences
from journeylab.personas.histories import fold_sequences
from journeylab.planned_path import Bools, Ints, Log, PlannedPath, keep_codes

_CELLS = 1 << 22  # of the tables of journeys that are laid out together: memory stays flat
_FAR = np.int32(np.iinfo(np.int32).max // 2)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How does each sequence lie along a planned path?

    Attributes
    ----------
    place : ndarray of int16, one per code of the sequences
        The step (from 0) at whose place the code stands; -1: it is out of place.
    moved : the same
        Of a code out of place, the step that it does there instead (out of order); -1: the step is done besides.
    done, reordered, missing, ended : ndarray of bool of shape (n_sequences, n_steps)
        The step is done at its place; out of its place; not at its place, though it is not optional and the sequence
        went past it or is over; that, and no later step is done at its place.
    repeated : ndarray of int64 of shape (n_sequences, n_steps)
        Codes out of place of a step that is done besides.
    cost : ndarray of int64
        Codes out of place, and steps that are not done at their place though they should be.
    """

    place: NDArray[np.int16]
    moved: NDArray[np.int16]
    done: Bools
    reordered: Bools
    missing: Bools
    ended: Bools
    repeated: Ints

    @property
    def skipped(self) -> Bools:
        """The step should be done and is not, not even out of its place."""
        return self.missing & ~self.reordered

    @property
    def cost(self) -> Ints:
        """Codes out of place, and steps that are not done at their place though they should be."""
        cost: Ints = self.missing.sum(axis=1) + self.reordered.sum(axis=1) + self.repeated.sum(axis=1)
        return cost


def align(sequences: Sequences, belongs: Bools, plan: PlannedPath, is_open: Bools) -> Alignment:
    """What is the cheapest way to read each sequence as the planned path?

    An optimal alignment (Adriansyah 2014): an event that is out of place costs 1, a step that is not done at its place
    1, or nothing if it is optional. Of a sequence that is open, the steps after the last one done cost nothing: it may
    still do them (a prefix alignment). For a straight path this is the Indel distance.

    Of several such ways the one is taken in which the first event that has a place comes earliest, and has the earliest
    step; then the second, and so on.

    Parameters
    ----------
    sequences
        Of codes that each belong to a step.
    belongs : ndarray of bool of shape (n_steps, n_codes)
        Which code can be which step?
    plan
        Which steps are optional or repeatable.
    is_open : ndarray of bool, one per sequence
        May it still go on?
    """
    place = np.full(len(sequences.codes), -1, dtype=np.int16)
    nothing = belongs.shape[1]
    padded_belongs = np.column_stack([belongs, np.zeros(len(belongs), dtype=bool)])
    for rows in _part(sequences.lengths, len(belongs)):
        lengths = sequences.lengths[rows]
        is_code = np.arange(lengths.max(initial=0))[:, None] < lengths
        places = (sequences.bounds[rows] + np.arange(len(is_code))[:, None])[is_code]
        codes = np.full(is_code.shape, nothing)
        codes[is_code] = sequences.codes[places]
        place[places] = _walk(_lay_out(codes, is_code, padded_belongs, plan, is_open[rows]))[is_code]
    return _sort_out(sequences, place, belongs, plan, is_open)


def _part(lengths: Ints, n_steps: int) -> Iterator[Ints]:
    """Sequences that are about as long as each other, as many as fill the cells."""
    order = np.argsort(lengths, kind="stable")
    lengths = lengths[order]
    kind = np.frexp(lengths)[1].astype(np.int64)
    filled = np.cumsum((lengths + 1) * (n_steps + 1)) // _CELLS
    cuts = np.flatnonzero(np.diff(kind) | np.diff(filled)) + 1
    yield from np.split(order, cuts)


def _lay_out(codes: Ints, is_code: Bools, belongs: Bools, plan: PlannedPath, is_open: Bools) -> NDArray[np.int16]:
    """What becomes of event i of each sequence when the first j steps are behind it: which step is it, or none (-1)?

    From the last event to the first; `cost[j]` is what the rest costs at least.
    """
    n_events, n = codes.shape
    n_steps = len(belongs)
    skip, repeatable = (~plan.is_optional).astype(np.int32), plan.is_repeatable
    rest = np.append(np.cumsum(skip[::-1])[::-1], 0).astype(np.int32)
    cost = np.where(is_open, np.int32(0), rest[:, None])
    fate = np.full((n_events, n_steps + 1, n), -1, dtype=np.int16)
    for i in reversed(range(n_events)):
        fits, after, fates = belongs[:, codes[i]], cost, fate[i]
        cost = after + is_code[i]
        for j in reversed(range(n_steps + 1)):
            # The later a choice stands here, the more it is preferred where costs are equal.
            if j < n_steps:
                _choose(cost[j], fates[j], cost[j + 1] + skip[j], fates[j + 1])
                _choose(cost[j], fates[j], np.where(fits[j], after[j + 1], _FAR), j)
            if j and repeatable[j - 1]:
                _choose(cost[j], fates[j], np.where(fits[j - 1], after[j], _FAR), j - 1)
    return fate


def _choose(cost: NDArray[Any], fate: NDArray[Any], other_cost: NDArray[Any], other_fate: NDArray[Any] | int) -> None:
    is_better = other_cost <= cost
    np.copyto(cost, other_cost, where=is_better)
    np.copyto(fate, other_fate, where=is_better, casting="unsafe")


def _walk(fate: NDArray[np.int16]) -> NDArray[np.int16]:
    """From the first event to the last: which step is each?"""
    n_events, _, n = fate.shape
    found = np.empty((n_events, n), dtype=np.int16)
    behind, each = np.zeros(n, dtype=np.int64), np.arange(n)
    for i in range(n_events):
        found[i] = fate[i, behind, each]
        behind = np.where(found[i] >= 0, found[i] + 1, behind)
    return found


def _sort_out(
    sequences: Sequences, place: NDArray[np.int16], belongs: Bools, plan: PlannedPath, is_open: Bools
) -> Alignment:
    """Tell apart what was done out of order, done again, skipped, and not done before the end."""
    (n,), n_steps = sequences.shape, len(belongs)
    owner = np.repeat(np.arange(n), sequences.lengths)
    done = np.zeros((n, n_steps), dtype=bool)
    done[owner[place >= 0], place[place >= 0]] = True
    reordered, moved = np.zeros_like(done), np.full_like(place, -1)
    for step in range(n_steps):
        loose = np.flatnonzero((place < 0) & (moved < 0) & belongs[step][sequences.codes] & ~done[owner, step])
        first = loose[np.append(True, np.diff(owner[loose]) != 0)] if len(loose) else loose
        moved[first], reordered[owner[first], step] = step, True
    again = np.flatnonzero((place < 0) & (moved < 0))
    # Of several steps that it could be, the first.
    cell = owner[again] * n_steps + belongs.argmax(axis=0)[sequences.codes[again]]
    steps = np.arange(n_steps)
    behind = np.where(done, steps, -1).max(axis=1, initial=-1)[:, None]
    missing = ~done & ~plan.is_optional & (~is_open[:, None] | (steps < behind))
    return Alignment(
        place=place,
        moved=moved,
        done=done,
        reordered=reordered,
        missing=missing,
        ended=missing & (steps > behind),
        repeated=np.bincount(cell, minlength=n * n_steps).reshape(n, n_steps),
    )


@dataclass(frozen=True, eq=False)
class Laid:
    """Every journey laid along the planned path.

    Attributes
    ----------
    log : Log
        The journeys.
    short : Sequences
        Distinct journeys without the events that are in no step.
    place : ndarray
        Which of them each variant of the log is.
    alignment : Alignment
        How each of `short` lies along the path.
    n_inserted, n_events, cost, fitness : ndarray
        Of each variant of the log.
    """

    log: Log
    short: Sequences
    place: Ints
    alignment: Alignment
    n_inserted: Ints
    n_events: Ints
    cost: Ints
    fitness: NDArray[np.float64]

    @cached_property
    def is_open(self) -> Bools:
        """May the journey still go on?"""
        return self.log.column("is_open").astype(bool)

    @cached_property
    def reached_goal(self) -> Bools:
        """Did the journey reach the goal?"""
        return self.log.column("reached_goal").astype(bool)

    @cached_property
    def short_of(self) -> Ints:
        """Which of `short` is each journey?"""
        return self.place[self.log.variant]

    @cached_property
    def customer(self) -> Ints:
        """Whose journey is it? Numbered."""
        owners = self.log.table["customer_id"].combine_chunks().dictionary_encode()
        customer: Ints = owners.indices.to_numpy().astype(np.int64)
        return customer

    @cached_property
    def by_duration(self) -> Ints:
        """The journeys from the shortest time to the longest."""
        return np.argsort(self.log.column("duration_s"), kind="stable")

    def count_customers(self, journeys: Ints) -> int:
        """How many customers have these journeys?"""
        has_any = np.zeros(len(self.customer), dtype=bool)
        has_any[self.customer[journeys]] = True
        return int(np.count_nonzero(has_any))

    def split(self) -> Iterator[tuple[str | None, Bools]]:
        """Each group and whether a journey is in it; the largest first."""
        found = self.log.table["group"].combine_chunks().dictionary_encode()
        names, group = found.dictionary.to_pylist(), found.indices.to_numpy(zero_copy_only=False)
        if not names:
            yield None, np.ones(len(group), dtype=bool)
            return
        sizes = np.bincount(group)
        for number in sorted(range(len(names)), key=lambda number: (-sizes[number], names[number])):
            yield names[number], group == number


def lay_out(log: Log, plan: PlannedPath) -> Laid:
    """Lay every distinct journey along the path. An event that is in no step is out of place anyhow."""
    n_codes, (n,) = len(log.events), log.variants.shape
    is_step: Bools = np.any(log.belongs, axis=0)
    known = keep_codes(log.variants, is_step)
    # Events that can be the same steps are one class; the last two codes end a journey, as in the log.
    classes, of_code = np.unique(log.belongs[:, is_step], axis=1, return_inverse=True)
    class_of = np.zeros(n_codes, dtype=np.int64)
    class_of[is_step] = of_code
    n_classes = classes.shape[1]
    bounds = known.bounds + np.arange(n + 1)
    codes = np.empty(bounds[-1], dtype=np.min_scalar_type(n_classes + 1))
    is_end = np.zeros(len(codes), dtype=bool)
    is_end[bounds[1:] - 1] = True
    codes[is_end], codes[~is_end] = n_classes + log.is_open, class_of[known.codes]
    ended, _, place = fold_sequences(Sequences(codes, bounds), np.ones(n))
    is_open = ended.codes[ended.bounds[1:] - 1] == n_classes + 1
    short = keep_codes(ended, np.append(np.ones(n_classes, dtype=bool), [False, False]))
    alignment = align(short, classes, plan, is_open)
    n_events = log.variants.lengths
    n_inserted = n_events - known.lengths
    cost = alignment.cost[place] + n_inserted
    worst = n_events + np.where(log.is_open, 0, np.count_nonzero(~plan.is_optional))
    fitness = np.where(worst > 0, 1 - cost / np.maximum(worst, 1), 1.0)
    return Laid(log, short, place, alignment, n_inserted, n_events, cost, fitness)
