"""What did each customer do, in order? Coded in the engine, fetched once, and told once where several did the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from journeylab.engine import drop, store
from journeylab.errors import SchemaError
from journeylab.personas.distances import Sequences
from journeylab.personas.medoids import Floats

Ints = NDArray[np.int64]

_PART = 1 << 16  # sequences looked at together: memory stays flat


@dataclass(frozen=True, eq=False)
class Histories:
    """What each customer did, in order; those who did the same are told once.

    Parameters
    ----------
    customers : pandas.Index of str
        Sorted.
    events : tuple of str
        In an order that only their content gives, so that no name plays a part in what follows.
    variants : Sequences
        Distinct histories, short ones first.
    weights : ndarray of shape (n_variants,)
        Customers of each.
    variant : ndarray of shape (n_customers,)
        Which of them is whose.
    n_unknown : ndarray of shape (n_customers,)
        Events that are not among `events`.
    """

    customers: pd.Index
    events: tuple[str, ...]
    variants: Sequences
    weights: Floats
    variant: Ints
    n_unknown: Ints


def read_sequences(
    steps: ibis.Table, journeys: ibis.Table | None = None, *, events: Sequence[str] | None = None
) -> Histories:
    """What did each customer do, in order? Coded in the engine, one fetch of a number per event.

    Journeys follow each other by their first events, with a break between them. With `journeys`, only the steps that
    they count are looked at.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`.
    events : sequence of str, optional
        The known events; default: all that happen.

    Raises
    ------
    SchemaError
        If there are no steps.
    """
    coded, found = _code_steps(steps, journeys)
    if not found:
        raise SchemaError("there are no steps to find personas in; see check_events(events)")
    return _fold_customers(coded.select("begins", "code").to_pyarrow(), found, events)


def stream_sequences(
    steps: ibis.Table, journeys: ibis.Table | None = None, *, events: Sequence[str]
) -> Iterator[Histories]:
    """Read as `read_sequences` does, 65,536 customers at a time: memory stays flat."""
    coded, found = _code_steps(steps, journeys)
    stored = store(coded, steps.get_backend())
    try:
        n = (stored.customer.max() + 1).execute() if found else 0
        for low in range(0, n, _PART):
            part = stored.filter(stored.customer >= low, stored.customer < low + _PART)
            yield _fold_customers(_sort(part).to_pyarrow(), found, events)
    finally:
        # not get_name(): with it, Ibis 12.0.0 looks for a table of the session in the wrong place
        drop(stored)


def fold_sequences(sequences: Sequences, weights: Floats) -> tuple[Sequences, Floats, Ints]:
    """Which distinct sequences are there, how much does each weigh, and which of them is each?

    Returns
    -------
    tuple
        Distinct sequences, short ones first and those of one length in an order that depends on nothing but themselves;
        their summed weights; the place of each sequence among them.
    """
    variants, place = _sort_variants(*_find_distinct(sequences))
    return variants, np.bincount(place, weights=weights).astype(np.float64), place


def shuffle_events(sequences: Sequences, n_events: int, rng: np.random.Generator) -> Sequences:
    """What if nothing but chance decided who does what, and when? All events change places, and breaks stay."""
    codes = sequences.codes.copy()
    is_event = codes != n_events
    codes[is_event] = rng.permutation(codes[is_event])
    return Sequences(codes, sequences.bounds)


def draw_chain(sequences: Sequences, n_events: int, rng: np.random.Generator) -> Sequences:
    """What would the customers do, had they all one way of travelling?

    Journeys keep their first event and their length; every other event is drawn by what followed the one before it,
    over all customers.
    """
    codes = sequences.codes.astype(np.int64)
    is_first = np.append(True, codes[:-1] == n_events)
    is_first[sequences.bounds[:-1]] = True
    is_drawn = ~is_first & (codes != n_events)
    moves = np.bincount((codes[:-1] * n_events + codes[1:])[is_drawn[1:]], minlength=n_events**2).reshape(
        n_events, n_events
    )
    # after an event that nothing ever followed, whatever follows others
    moves = np.where(moves.sum(axis=1, keepdims=True) > 0, moves, moves.sum(axis=0) + 1e-9)
    ladder = (moves.cumsum(axis=1) / moves.sum(axis=1, keepdims=True) + np.arange(n_events)[:, None]).ravel()
    going = np.flatnonzero(is_first[:-1] & is_drawn[1:]) + 1
    while len(going):
        before = codes[going - 1]
        drawn = np.searchsorted(ladder, before + rng.random(len(going)), side="right") - before * n_events
        codes[going] = drawn.clip(0, n_events - 1)
        going = going[going + 1 < len(codes)] + 1
        going = going[is_drawn[going]]
    return Sequences(codes.astype(sequences.codes.dtype), sequences.bounds)


def _code_steps(steps: ibis.Table, journeys: ibis.Table | None) -> tuple[ibis.Table, list[str]]:
    """All steps in order, customers and events as numbers; customer_id only where a journey begins."""
    seen = steps.select("customer_id", "journey_id", "event", "position", "step")
    if journeys is not None:
        seen = seen.join(journeys.select("journey_id", "n_steps"), "journey_id")
        seen = seen.filter(seen.step <= seen.n_steps)
    names = seen.select("event").distinct()
    names = names.mutate(code=ibis.row_number().over(order_by="event").cast("int32"))
    first = seen.filter(seen.step == 1)
    number = ibis.dense_rank().over(order_by="customer_id").cast("int32")
    first = first.select("journey_id", customer=number, began=first.position)
    coded = seen.join(names, "event").join(first, "journey_id")
    begins = ibis.ifelse(coded.step == 1, coded.customer_id, None)
    coded = coded.select("customer", "began", "step", "code", begins=begins)
    return _sort(coded), names.order_by("code").to_pyarrow()["event"].to_pylist()


def _sort(coded: ibis.Table) -> ibis.Table:
    return coded.order_by("customer", "began", "step")


def _fold_customers(table: pa.Table, found: Sequence[str], events: Sequence[str] | None) -> Histories:
    known = list(found if events is None else events)
    place = {event: code for code, event in enumerate(known)}
    recode = np.array([place.get(event, len(known) + 1) for event in found])
    customers, sequences = _cut_customers(table, recode, len(known))
    is_unknown = (sequences.codes == len(known) + 1).astype(np.int64)
    variants, variant = _find_distinct(sequences)
    if events is None:
        known, variants = _forget_names(known, variants, np.bincount(variant))
    variants, variant = _sort_variants(variants, variant)
    order = pc.sort_indices(customers).to_numpy()
    return Histories(
        customers=pd.Index(customers.take(order).to_pylist(), dtype="str"),
        events=tuple(known),
        variants=variants,
        weights=np.bincount(variant).astype(np.float64),
        variant=variant[order],
        n_unknown=np.add.reduceat(is_unknown, sequences.bounds[:-1])[order],
    )


def _cut_customers(table: pa.Table, recode: Ints, n_events: int) -> tuple[pa.Array, Sequences]:
    """Part coded journeys into customers, with a break before all journeys but the first of each."""
    begins = pc.is_valid(table["begins"]).to_numpy()
    owners = table["begins"].drop_null().combine_chunks().dictionary_encode()
    is_new = np.append(True, np.diff(owners.indices.to_numpy()) != 0)
    breaks = np.zeros(len(begins), dtype=np.int64)
    breaks[begins] = ~is_new
    place = np.arange(len(begins)) + np.cumsum(breaks)
    codes = np.full(place[-1] + 1, n_events, dtype=np.min_scalar_type(n_events + 1))
    codes[place] = recode[table["code"].to_numpy()]
    return owners.dictionary, Sequences(codes, np.append(place[np.flatnonzero(begins)[is_new]], len(codes)))


def _find_distinct(sequences: Sequences) -> tuple[Sequences, Ints]:
    """Each sequence once, in order of first appearance, and the place of all among them."""
    width = sequences.codes.itemsize
    buffers = [None, pa.py_buffer(sequences.bounds * width), pa.py_buffer(np.ascontiguousarray(sequences.codes))]
    found = pa.LargeBinaryArray.from_buffers(pa.large_binary(), *sequences.shape, buffers).dictionary_encode()
    lengths = pc.binary_length(found.dictionary).to_numpy() // width
    codes = np.frombuffer(found.dictionary.buffers()[2], sequences.codes.dtype, count=lengths.sum())
    return Sequences(codes, np.append(0, np.cumsum(lengths))), found.indices.to_numpy().astype(np.int64)


def _sort_variants(variants: Sequences, place: Ints) -> tuple[Sequences, Ints]:
    order = np.lexsort((_mark(variants), variants.lengths))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return variants[order], rank[place]


def _forget_names(names: Sequence[str], variants: Sequences, n: Ints) -> tuple[list[str], Sequences]:
    """Number events by how often, where and in how long histories they stand, and only those alike in that by name."""
    marks = np.zeros((4, len(names) + 1))
    for rows, part in _parts(variants):
        weight, steps = np.repeat(n[rows], part.lengths), part.steps
        length = np.repeat(part.lengths, part.lengths)
        for mark, values in zip(marks, (weight, weight * steps, weight * steps**2, weight * length), strict=True):
            mark += np.bincount(part.codes, weights=values, minlength=len(mark))
    order = np.lexsort(marks[::-1, :-1])
    recode = np.append(np.argsort(order), len(names)).astype(variants.codes.dtype)
    return [names[code] for code in order], Sequences(recode[variants.codes], variants.bounds)


def _mark(sequences: Sequences) -> NDArray[np.uint64]:
    """A number that two different sequences hardly ever share: a multilinear hash (Lemire & Kaser 2014)."""
    factors = np.random.default_rng(0).integers(2**64, size=sequences.lengths.max(), dtype=np.uint64)
    marks = np.empty(sequences.shape, np.uint64)
    for rows, part in _parts(sequences):
        marks[rows] = np.add.reduceat(factors[part.steps] * (part.codes + np.uint64(1)), part.bounds[:-1])
    return marks


def _parts(sequences: Sequences) -> Iterator[tuple[slice, Sequences]]:
    for low in range(0, *sequences.shape, _PART):
        bounds = sequences.bounds[low : low + _PART + 1]
        yield slice(low, low + _PART), Sequences(sequences.codes[bounds[0] : bounds[-1]], bounds - bounds[0])
