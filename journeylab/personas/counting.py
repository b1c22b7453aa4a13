"""What did each customer do, and what came next? Counted in the engine, fetched once per customer and transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from journeylab.engine import round_wait
from journeylab.errors import RuleError, SchemaError, nearest

Emission = Literal["dwell", "channel"]

_DWELL_CLASSES = 8


@dataclass(frozen=True)
class MarkovRules:
    """What does ``method="markov"`` look at, besides the order of events?

    Parameters
    ----------
    emissions : tuple of "dwell" or "channel"
        dwell: how long it takes from each event to the next of the journey, in eight classes of equal size; of an event
        that none has followed nothing is known. channel: where each event happened, if the log says.
    """

    emissions: tuple[Emission, ...] = ()

    def __post_init__(self) -> None:
        for name in self.emissions:
            if name not in get_args(Emission):
                known = get_args(Emission)
                raise RuleError(
                    f'emissions: "{name}" is not known; choose from {", ".join(known)}.{nearest(name, known)}'
                )


@dataclass(frozen=True)
class Vocabulary:
    """What a model has words for.

    Parameters
    ----------
    events : tuple of str
    dwell_edges : tuple of float, optional
        Seconds: classes of dwell times are up to the first, up to the second, …, above the last. None: not looked at.
    channels : tuple of str, optional
        None: not looked at.
    """

    events: tuple[str, ...]
    dwell_edges: tuple[float, ...] | None = None
    channels: tuple[str, ...] | None = None

    @property
    def outcomes(self) -> dict[Emission, Sequence[int] | Sequence[str]]:
        """What each emission that is looked at can come out as, both in the order of the columns."""
        outcomes: dict[Emission, Sequence[int] | Sequence[str]] = {}
        if self.dwell_edges is not None:
            outcomes["dwell"] = range(len(self.dwell_edges) + 1)
        if self.channels is not None:
            outcomes["channel"] = self.channels
        return outcomes

    @property
    def emissions(self) -> tuple[int, ...]:
        """How many outcomes has each?"""
        return tuple(len(outcomes) for outcomes in self.outcomes.values())


@dataclass(frozen=True, eq=False)
class CustomerCounts:
    """Every customer as counts; rows of the matrices are `customers`, sorted by id.

    Parameters
    ----------
    customers : pandas.Index of str
    vocabulary : Vocabulary
        What has a column; events and channels are sorted.
    moves : scipy.sparse.csr_array of shape (n_customers, n_columns)
        Starts, transitions, exits, continuations and emissions, laid out as `MarkovMixture` reads them.
    occurrences : scipy.sparse.csr_array of shape (n_customers, n)
        How often each event happened, the last event of an open journey included.
    """

    customers: pd.Index
    vocabulary: Vocabulary
    moves: sparse.csr_array
    occurrences: sparse.csr_array

    @property
    def events(self) -> tuple[str, ...]:
        """The events that have a column, sorted."""
        return self.vocabulary.events


def count_moves(
    steps: ibis.Table,
    journeys: ibis.Table | None,
    rules: MarkovRules | None = None,
    *,
    events: Sequence[str] | None = None,
) -> CustomerCounts:
    """How often did each customer start with, go on from and leave after each event, and what came with it?

    Parameters
    ----------
    steps, journeys : ibis.Table
        With journeys, only the steps that they count are looked at (`as_of` may lie before the last); without, nobody
        knows which have ended.
    rules : MarkovRules, optional
        What to look at besides the order of events; default: nothing.
    events : sequence of str, optional
        The events that have a column; default: all that happen. No others are counted, nor moves to or from them.

    Raises
    ------
    SchemaError
        If there are no steps.
    RuleError
        If the rules look at channels and no step has one.
    """
    emissions = (rules or MarkovRules()).emissions
    seen = observe_steps(steps, journeys, emissions=emissions)
    sums = {f"n_{what}": seen[what].cast("int64").sum() for what in ("starts", "ends", "goes_on")}
    table = seen.group_by("customer_id", "event", "next_event").agg(n=seen.count(), **sums).to_pyarrow()
    if table.num_rows == 0:
        raise SchemaError("there are no steps to find personas in; see check_events(events)")
    customers = _sort_distinct(table["customer_id"])
    known = _sort_distinct(table["event"]) if events is None else pa.array(events, pa.string())
    vocabulary = Vocabulary(
        events=tuple(known.to_pylist()),
        dwell_edges=_find_dwell_edges(seen) if "dwell" in emissions else None,
        channels=_find_channels(seen) if "channel" in emissions else None,
    )
    customer, event = _find(table["customer_id"], customers), _find(table["event"], known)
    after = _find(table["next_event"], known)
    n, n_starts, n_ends, n_goes_on = (table[name].to_numpy() for name in ("n", *sums))

    size, is_known, is_move = len(known), event >= 0, (event >= 0) & (after >= 0)
    of_known = customer[is_known], event[is_known]
    moves = [
        _tabulate(n_starts[is_known], *of_known, (len(customers), size)),
        _tabulate(n[is_move], customer[is_move], (event * size + after)[is_move], (len(customers), size**2)),
        _tabulate(n_ends[is_known], *of_known, (len(customers), size)),
        _tabulate(n_goes_on[is_known], *of_known, (len(customers), size)),
    ]
    moves += [_count_emission(seen, vocabulary, name, customers, known) for name in vocabulary.outcomes]
    return CustomerCounts(
        customers=pd.Index(customers.to_pylist(), dtype="str"),
        vocabulary=vocabulary,
        moves=sparse.hstack(moves, format="csr"),
        occurrences=_tabulate(n[is_known], *of_known, (len(customers), size)),
    )


def observe_steps(
    steps: ibis.Table,
    journeys: ibis.Table | None,
    *,
    remembered: ibis.Table | None = None,
    emissions: Sequence[Emission] = (),
) -> ibis.Table:
    """What does each step show: does it start a journey, end it, or was it seen to go on?

    Towards the end of observation a next event shows at once, but an end only after a long silence; counting both would
    make ends seem too rare. So neither counts after the last event that silence has shown to be the end of a journey.

    Parameters
    ----------
    steps, journeys : ibis.Table
        As for `count_moves`.
    remembered : ibis.Table, optional
        Journeys of an earlier look at the same steps, to know without `journeys` which have ended; of a journey that is
        not among them nobody knows.
    emissions : sequence of "dwell" or "channel"

    Returns
    -------
    ibis.Table
        One row per step that counts: customer_id, event, next_event (null on the last), starts, ends, goes_on (bool),
        and, if asked for, dwell_s (float64, seconds to the next event; null on the last) and channel (null: unknown).
    """
    if "channel" in emissions and "channel" not in steps.columns:
        raise RuleError(
            'emissions: "channel" needs a column channel in the steps; leave it out, or read the log with it'
        )
    names = ["customer_id", "journey_id", "event", "next_event", "step", "timestamp"]
    names += [column for emission, column in (("dwell", "gap_s"), ("channel", "channel")) if emission in emissions]
    seen = steps.select(*names)
    if "dwell" in emissions:
        along = ibis.window(group_by="journey_id", order_by="step")
        seen = seen.mutate(dwell_s=seen.gap_s.lead().over(along))
    fates = remembered if journeys is None else journeys
    if fates is None:
        return seen.mutate(starts=seen.step == 1, ends=ibis.literal(False), goes_on=ibis.literal(False))
    is_cut = journeys is not None
    seen = seen.join(fates.select("journey_id", "n_steps", "is_open"), "journey_id", how="inner" if is_cut else "left")
    if is_cut:
        seen = seen.filter(seen.step <= seen.n_steps)
    is_last = seen.step == seen.n_steps if is_cut else seen.next_event.isnull()
    cutoff = _find_last_exit(fates)
    is_told = ibis.literal(False) if cutoff is None else (seen.timestamp <= cutoff) & seen.n_steps.notnull()
    dwell = {"dwell_s": ibis.ifelse(is_last, None, seen.dwell_s)} if "dwell" in emissions else {}
    return seen.mutate(
        next_event=ibis.ifelse(is_last, ibis.null("string"), seen.next_event),
        starts=seen.step == 1,
        ends=is_told & is_last & ~seen.is_open.fill_null(True),
        goes_on=is_told & ~is_last,
        **dwell,
    )


def code_outcome(seen: ibis.Table, vocabulary: Vocabulary, name: Emission) -> ibis.Value:
    """How did an emission of each step come out, of `Vocabulary.outcomes`? Null where that is not known."""
    if name == "channel":
        return seen.channel
    edges = vocabulary.dwell_edges or ()
    classes = ((seen.dwell_s <= edge, number) for number, edge in enumerate(edges))
    return ibis.cases(*classes, (seen.dwell_s.notnull(), len(edges))).cast("int64")


def _find_dwell_edges(seen: ibis.Table) -> tuple[float, ...]:
    """Find what parts the dwell times in classes of equal size, to four digits; as many as there can be."""
    rounded = seen.filter(seen.dwell_s.notnull()).select(wait_s=round_wait((seen.dwell_s * 1e6).cast("int64")))
    table = rounded.group_by("wait_s").agg(n=rounded.count()).order_by("wait_s").execute()
    waits, so_far = table["wait_s"].to_numpy(), table["n"].cumsum().to_numpy()
    places = np.searchsorted(so_far * _DWELL_CLASSES, np.arange(1, _DWELL_CLASSES) * table["n"].sum())
    return tuple(float(edge) for edge in np.unique(waits[places]) if edge < waits[-1]) if len(waits) else ()


def _find_channels(seen: ibis.Table) -> tuple[str, ...]:
    channels = seen.filter(seen.channel.notnull()).select("channel").distinct().to_pyarrow()["channel"]
    if not len(channels):
        raise RuleError('emissions: "channel" needs steps with a channel, and none has one; leave it out')
    return tuple(sorted(channels.to_pylist()))


def _count_emission(
    seen: ibis.Table, vocabulary: Vocabulary, name: Emission, customers: pa.Array, events: pa.Array
) -> sparse.csr_array:
    coded = seen.mutate(outcome=code_outcome(seen, vocabulary, name))
    came = coded.filter(coded.outcome.notnull())
    table = came.group_by("customer_id", "event", "outcome").agg(n=came.count()).to_pyarrow()
    outcomes = pa.array(vocabulary.outcomes[name])
    event, outcome = _find(table["event"], events), _find(table["outcome"], outcomes)
    is_known = (event >= 0) & (outcome >= 0)
    rows, columns = _find(table["customer_id"], customers), event * len(outcomes) + outcome
    shape = len(customers), len(events) * len(outcomes)
    return _tabulate(table["n"].to_numpy()[is_known], rows[is_known], columns[is_known], shape)


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
