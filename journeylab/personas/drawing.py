"""Drawing lots: some customers of a large log, or what customers of a mixture would do."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import ibis
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from journeylab.engine import drop, store

if TYPE_CHECKING:
    from journeylab.personas.em import Floats
    from journeylab.personas.markov import MarkovMixture


# A multiplier that spreads well over the remainders of this prime (Park, Miller & Stockmeyer 1993). Products stay below
# 2**63, so that every engine reckons alike; their own hashes differ.
_PRIME, _MULTIPLIER = 2**31 - 1, 48_271
_EPOCH = datetime(1970, 1, 1)


def draw_customers(steps: ibis.Table, journeys: ibis.Table, *, n: int, seed: int) -> tuple[ibis.Table, ibis.Table]:
    """Which n customers stand for all?

    Who is drawn hangs on `seed` and on what customers did, and when: not on their names, those of events, or the order
    of rows. Of customers who did the same at the same times, it is left to chance how many are drawn.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`.
    n : int
    seed : int
        From 0.

    Returns
    -------
    tuple of ibis.Table
        Steps and journeys of the customers drawn, stored; where there are not more than n, those given.
    """
    if steps.customer_id.nunique().execute() <= n:
        return steps, journeys
    con = steps.get_backend()
    drawn = store(_order_customers(steps, seed).limit(n).select("customer_id"), con)
    own_steps, own_journeys = (store(table.semi_join(drawn, "customer_id"), con) for table in (steps, journeys))
    drop(drawn)
    return own_steps, own_journeys


def _order_customers(steps: ibis.Table, seed: int) -> ibis.Table:
    """One row per customer, in an order that their names do not tell."""
    moments = steps.timestamp.delta(ibis.literal(_EPOCH), unit="microsecond")
    seen = steps.select("customer_id", "event", "timestamp", mark=_stir(_stir(ibis.literal(seed), moments), steps.step))
    # an event is known by the times at which it happened, not by its name
    events = seen.group_by("event").agg(event_mark=_sum_marks(seen.mark))
    marked = seen.join(events, "event")
    customers = marked.group_by("customer_id").agg(
        mark=_sum_marks(_stir(marked.mark, marked.event_mark)),
        first=marked.timestamp.min(),
        last=marked.timestamp.max(),
        n_events=marked.count(),
    )
    content = ("mark", "first", "last", "n_events")
    alike = ibis.window(group_by=content, order_by="customer_id")
    numbered = customers.mutate(number=ibis.row_number().over(alike))
    return numbered.mutate(lot=_stir(numbered.mark, numbered.number)).order_by("lot", *content, "number")


def _stir(mark: ibis.Value, number: ibis.Value) -> ibis.Value:
    """Mix a number into a mark, a whole number from 0 below the prime."""
    mixed = (mark * _MULTIPLIER + number % _PRIME) % _PRIME
    # squared, for otherwise numbers in a row would be drawn at equal distances
    return mixed * mixed % _PRIME


def _sum_marks(marks: ibis.Value) -> ibis.Value:
    # DuckDB adds in 128 bits, with which reckoning is slow; a cast to what Ibis takes the sum for, it would leave out
    return (marks.sum() % _PRIME).cast("int32").cast("int64")


def draw_counts(
    mixture: MarkovMixture,
    persona: NDArray[np.int64],
    *,
    n_journeys: Floats,
    n_events: Floats,
    rng: np.random.Generator,
) -> sparse.csr_array:
    """What would customers of these personas do?

    All walk together, one event a round. A customer begins journey after journey until `n_journeys` have ended or
    `n_events` have happened; the journey then under way is open. The order of events plays no part: draws follow an
    order that their probabilities give them.

    Parameters
    ----------
    mixture : MarkovMixture
        Fitted.
    persona : ndarray of shape (n_customers,)
        From 0.
    n_journeys, n_events : ndarray of shape (n_customers,)
        At least 1; infinity for no limit, in one of the two at the most.
    rng : numpy.random.Generator

    Returns
    -------
    scipy.sparse.csr_array
        As `MarkovMixture` reads it. Every event makes every emission.
    """
    size, exits = mixture.n_events_, mixture.exit_
    move_at, end_at, stay_at, *emissions_at, n_columns = mixture.layout_.bounds.tolist()
    ladder, names = _stack_steps(mixture)
    emissions = [(_cumulate(table), table.shape[2]) for table in mixture.emission_]
    who, before = np.arange(len(persona)), np.full(len(persona), -1)  # -1: a journey begins
    left_journeys, left_events = n_journeys.astype(float), n_events.astype(float)
    cells: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    while len(who):
        own = persona[who]
        place = _climb(ladder, own * (size + 1) + before + 1, rng)
        event = names[place]
        cells.append((who, np.where(before < 0, event, move_at + before * size + event)))
        for first, (table, m) in zip(emissions_at, emissions, strict=True):
            cells.append((who, first + event * m + _climb(table, own * size + event, rng)))
        left_events[who] -= 1
        is_seen = left_events[who] > 0
        who, own, event = who[is_seen], own[is_seen], event[is_seen]
        ends = rng.random(len(who)) < exits[own, event]
        cells.append((who, np.where(ends, end_at, stay_at) + event))
        left_journeys[who] -= ends
        goes_on = left_journeys[who] > 0
        who, before = who[goes_on], np.where(ends, -1, event)[goes_on]
    rows, columns = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    counts = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(persona), n_columns))
    counts.sum_duplicates()
    return counts


def _stack_steps(mixture: MarkovMixture) -> tuple[Floats, NDArray[np.int64]]:
    """Cumulated probabilities of first events and of next ones, for `_climb`, and which events these are.

    Row ``persona * (n + 1)`` is the start, the n rows after it are those after each event.
    """
    start, exits = mixture.start_, mixture.exit_
    moves = mixture.transition_ / (1 - exits)[:, :, None]
    marks = np.vstack([start, exits, np.diagonal(moves, axis1=1, axis2=2), moves.max(axis=2), moves.max(axis=1)])
    names = np.lexsort(marks)
    steps = np.concatenate([start[:, None], moves], axis=1)
    return _cumulate(steps[:, :, names]), names


def _cumulate(probabilities: Floats) -> Floats:
    """Lay rows of probabilities end to end on one line, row i between i and i + 1."""
    rows = probabilities.reshape(-1, probabilities.shape[-1]).cumsum(axis=1)
    rows /= rows[:, -1:]
    rows += np.arange(len(rows))[:, None]
    return rows


def _climb(ladder: Floats, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an outcome of each of these rows."""
    n = ladder.shape[1]
    place = np.searchsorted(ladder.ravel(), rows + rng.random(len(rows)), side="right")
    drawn: NDArray[np.int64] = np.minimum(place - rows * n, n - 1)
    return drawn
