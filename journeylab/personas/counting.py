"""What did each customer do, and what came next? Counted in the engine, fetched once per customer and transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from journeylab.errors import SchemaError


@dataclass(frozen=True, eq=False)
class CustomerCounts:
    """Every customer as counts; rows of the matrices are `customers`, sorted by id.

    Parameters
    ----------
    customers : pandas.Index of str
    events : tuple of str
        The events that have a column, sorted.
    moves : scipy.sparse.csr_array of shape (n_customers, n + n * n + n + n)
        Starts, transitions, exits and continuations, laid out as `MarkovMixture` reads them.
    occurrences : scipy.sparse.csr_array of shape (n_customers, n)
        How often each event happened, the last event of an open journey included.
    n_unknown : ndarray of shape (n_customers,)
        Events that have no column; no move to or from them is counted.
    """

    customers: pd.Index
    events: tuple[str, ...]
    moves: sparse.csr_array
    occurrences: sparse.csr_array
    n_unknown: NDArray[np.int64]


def count_moves(
    steps: ibis.Table,
    journeys: ibis.Table | None,
    *,
    events: Sequence[str] | None = None,
    remembered: ibis.Table | None = None,
) -> CustomerCounts:
    """How often did each customer start with, go on from and leave after each event?

    Parameters
    ----------
    steps, journeys : ibis.Table
        With journeys, only the steps that they count are looked at (`as_of` may lie before the last).
    events : sequence of str, optional
        The known events; default: all that happen.
    remembered : ibis.Table, optional
        Journeys of an earlier look at the same steps, to know without `journeys` which have ended; of a journey that is
        not among them nobody knows.

    Raises
    ------
    SchemaError
        If there are no steps.
    """
    seen = _observe(steps, remembered if journeys is None else journeys, is_cut=journeys is not None)
    sums = {f"n_{what}": seen[what].cast("int64").sum() for what in ("starts", "ends", "goes_on")}
    table = seen.group_by("customer_id", "event", "next_event").agg(n=seen.count(), **sums).to_pyarrow()
    if table.num_rows == 0:
        raise SchemaError("there are no steps to find personas in; see check_events(events)")
    customers = _sort_distinct(table["customer_id"])
    known = _sort_distinct(table["event"]) if events is None else pa.array(events, pa.string())
    customer, event = _find(table["customer_id"], customers), _find(table["event"], known)
    after = _find(table["next_event"], known)
    n, n_starts, n_ends, n_goes_on = (table[name].to_numpy() for name in ("n", *sums))

    size, is_known, is_move = len(known), event >= 0, (event >= 0) & (after >= 0)
    of_known = customer[is_known], event[is_known]
    return CustomerCounts(
        customers=pd.Index(customers.to_pylist(), dtype="str"),
        events=tuple(known.to_pylist()),
        moves=sparse.hstack(
            [
                _tabulate(n_starts[is_known], *of_known, (len(customers), size)),
                _tabulate(n[is_move], customer[is_move], (event * size + after)[is_move], (len(customers), size**2)),
                _tabulate(n_ends[is_known], *of_known, (len(customers), size)),
                _tabulate(n_goes_on[is_known], *of_known, (len(customers), size)),
            ],
            format="csr",
        ),
        occurrences=_tabulate(n[is_known], *of_known, (len(customers), size)),
        n_unknown=np.bincount(customer[~is_known], weights=n[~is_known], minlength=len(customers)).astype(np.int64),
    )


def _observe(steps: ibis.Table, journeys: ibis.Table | None, *, is_cut: bool) -> ibis.Table:
    """Tell of each step whether it starts a journey, ends it, or was seen to go on.

    Towards the end of observation a next event shows at once, but an end only after a long silence; counting both would
    make ends seem too rare. So neither counts after the last event that silence has shown to be the end of a journey.
    """
    columns = steps.select("customer_id", "journey_id", "event", "next_event", "step", "timestamp")
    if journeys is None:
        unknown = ibis.literal(False)
        return columns.mutate(starts=columns.step == 1, ends=unknown, goes_on=unknown)
    fates = journeys.select("journey_id", "n_steps", "is_open")
    seen = columns.join(fates, "journey_id", how="inner" if is_cut else "left")
    if is_cut:
        seen = seen.filter(seen.step <= seen.n_steps)
    is_last = seen.step == seen.n_steps if is_cut else seen.next_event.isnull()
    cutoff = _find_last_exit(journeys)
    is_told = ibis.literal(False) if cutoff is None else (seen.timestamp <= cutoff) & seen.n_steps.notnull()
    return seen.mutate(
        next_event=ibis.ifelse(is_last, ibis.null("string"), seen.next_event),
        starts=seen.step == 1,
        ends=is_told & is_last & ~seen.is_open.fill_null(True),
        goes_on=is_told & ~is_last,
    )


def _find_last_exit(journeys: ibis.Table) -> datetime | None:
    # a goal may close a journey at once: only if no other has ended do those that reached it tell
    closed = ~journeys.is_open
    by_silence = journeys.end_time.max(where=closed & ~journeys.reached_goal.fill_null(False))
    last = journeys.aggregate(by_silence=by_silence, any=journeys.end_time.max(where=closed)).execute().iloc[0]
    cutoff = last["any"] if pd.isna(last["by_silence"]) else last["by_silence"]
    return None if pd.isna(cutoff) else cutoff.to_pydatetime()


def _sort_distinct(names: pa.ChunkedArray) -> pa.Array:
    distinct = pc.unique(names)
    return distinct.take(pc.array_sort_indices(distinct))


def _find(names: pa.ChunkedArray, among: pa.Array) -> NDArray[np.int64]:
    """Place of each name among others, -1 where it is not there."""
    places = pc.fill_null(pc.index_in(names, value_set=among.cast(names.type)), -1)
    return np.asarray(places, dtype=np.int64)


def _tabulate(
    n: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_array:
    table = sparse.csr_array((n.astype(np.float64), (rows, columns)), shape=shape)
    table.eliminate_zeros()
    return table
