"""The walks of `walks`, found in memory: on DuckDB, which runs in this process, rows are read in a moment.

An event is a row of arrays in which units follow one another, each unit's events in their order. "The first such event
after" is then one binary search, many times cheaper than a join. The answers are those of `walks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from journeylab.engine import store, stream
from journeylab.funnel_rules import FunnelRules
from journeylab.walks import EXCLUDED, held_columns

Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

_PIECE = 250_000  # events that are looked at together: so memory stays small, and quick
_NEVER, _NONE = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # times: of no event; no time, null in the answer


def find_walks_in_memory(marked: ibis.Table, rules: FunnelRules, end: datetime, at_steps: Sequence[int]) -> ibis.Table:
    """Which walk does each unit have, how far does it get, and is it still on the way?

    Parameters and columns are those of `walks.find_walks`.
    """
    if marked["rank"].type().is_timestamp():
        # It is the time then, and need not be read twice.
        marked = marked.drop("rank")
    found, torn = _walk_along(marked, rules, end, at_steps)
    if len(torn):
        names = store(ibis.memtable(pa.table({"_unit": torn})), marked.get_backend())
        rest = marked.semi_join(names, "_unit").order_by("_unit", "position")
        whole = found.filter(pc.invert(pc.is_in(found["_unit"], value_set=torn)))
        found = pa.concat_tables([whole, _walk_along(rest, rules, end, at_steps)[0]])
    return ibis.memtable(found)


def _walk_along(
    rows: ibis.Table, rules: FunnelRules, end: datetime, at_steps: Sequence[int]
) -> tuple[pa.Table, pa.Array]:
    """Find the walks as the rows come: as they are stored, unit by unit. Of the units that come otherwise the names.

    Several threads store several units at a time, which tears one in a thousand apart.
    """
    found, names = [], []
    for piece, begins in _cut(stream(rows, _PIECE)):
        found.append(_walk(_read(piece, begins, rules), rules, end, at_steps))
        position = piece["position"].to_numpy()
        begins[1:] |= position[1:] <= position[:-1]
        names.append(piece.select(["_unit"]).filter(pa.array(begins)))
    seen = pa.concat_tables(names)["_unit"]
    if len(seen.unique()) == len(seen):
        return pa.concat_tables(found), pa.array([])
    counts = seen.value_counts()
    return pa.concat_tables(found), counts.field("values").filter(pc.greater(counts.field("counts"), 1))


def _cut(batches: pa.RecordBatchReader) -> Iterator[tuple[pa.Table, Bools]]:
    """Pieces of whole units, and where in them units begin."""
    rows = batches.schema.empty_table()
    for batch in batches:
        rows = pa.concat_tables([rows, pa.Table.from_batches([batch])])
        if len(rows) >= _PIECE:
            begins = _find_changes(rows["_unit"])
            # The last unit may go on in the next batch.
            last = int(np.flatnonzero(begins)[-1])
            yield rows.slice(0, last), begins[:last]
            rows = rows.slice(last)
    yield rows, _find_changes(rows["_unit"])


def _find_changes(column: pa.ChunkedArray) -> Bools:
    """Which values differ from the one before?"""
    changes = np.ones(len(column), bool)
    changes[1:] = pc.not_equal(column[1:], column[:-1]).fill_null(True).to_numpy()
    return changes


@dataclass(frozen=True, eq=False)
class _Log:
    """Events in the order of their units. A row is a place in the arrays; row `n` stands for no event."""

    n: int
    unit: Ints
    key: Ints  # one number for each unit and the values that are held constant
    begin: Ints  # the first row of the same instant: of events that nothing sets apart
    after: Ints  # the first row behind the instant, be it the next unit's
    first_of_unit: Ints  # row
    time: Ints  # microseconds since 1970
    kinds: dict[int, Ints]  # key * n + row of the events of each step, ascending
    rows: pa.Table

    def find(self, kind: int, key: Ints, since: Ints) -> Ints:
        """The first event of a kind that has the key, at or after a row."""
        base = key.astype(np.int64) * self.n
        events = self.kinds[kind]
        found = events[np.searchsorted(events, base + since)] - base
        return np.where(found < self.n, found, self.n)


@dataclass(frozen=True, eq=False)
class _Walks:
    """One walk per entry, in the order of their starts; its events as rows of the log."""

    taken: Ints  # step x walk
    start: Ints
    end: Ints  # the furthest required step
    reached: Ints
    bad: Ints  # the first excluded event after the start
    stop: Ints
    is_excluded: Bools
    deadline: Ints
    lost_time: Ints
    is_open: Bools

    def keep(self, which: Ints | Bools) -> _Walks:
        return _Walks(**{field.name: getattr(self, field.name)[..., which] for field in fields(self)})


def _walk(log: _Log, rules: FunnelRules, end: datetime, at_steps: Sequence[int]) -> pa.Table:
    walks = _judge(log, _find_starts(log, rules), rules, (end - datetime(1970, 1, 1)) // timedelta(microseconds=1))
    if rules.unit == "attempt":
        walks = walks.keep(_find_attempts(log, walks, rules))
    elif rules.entry != "first":
        walks = _choose(log, walks, rules)
    _add_optional(log, walks, rules)
    found = pa.table(_describe(log, walks, rules, at_steps))
    return found.filter(pa.array(~walks.is_excluded)) if rules.excluded and rules.on_exclude == "drop" else found


def _read(table: pa.Table, begins: Bools, rules: FunnelRules) -> _Log:
    n = len(table)
    time = table["time"].to_numpy().astype("M8[us]", copy=False).view(np.int64)
    rank = table["rank"].to_numpy() if "rank" in table.column_names else time
    row: Ints = np.arange(n + 1, dtype=np.int32)
    begin, after = row, np.append(row[1:], row[n:])
    is_new = np.append(begins, True)
    is_new[1:n] |= rank[1:] != rank[:-1]
    if not is_new.all():
        begin = np.maximum.accumulate(np.where(is_new, row, 0))
        after[:-1] = np.minimum.accumulate(np.where(is_new, row, n)[:0:-1])[::-1]
    unit: Ints = np.cumsum(np.append(begins, True), dtype=np.int32)
    key, is_whole = unit, np.ones(n, bool)
    for name in held_columns(rules):
        is_whole &= table[name].is_valid().to_numpy()
        coded = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
        key = key * np.int64(len(coded.dictionary)) + np.append(coded.indices.to_numpy(), 0)
        # Numbered anew each time, so that the numbers stay small.
        key = np.unique(key, return_inverse=True)[1]
    bits = table["_steps"].to_numpy()
    kinds = {EXCLUDED: _list_events(bits & 1 << EXCLUDED > 0, unit)} if rules.excluded else {}
    if held_columns(rules):
        bits = np.where(is_whole, bits, 0)
    kinds |= {i: _list_events(bits & 1 << i > 0, key) for i in range(1, len(rules.steps) + 1)}
    return _Log(
        n=n,
        unit=unit,
        key=key,
        begin=begin,
        after=after,
        first_of_unit=np.concatenate([[-1], np.flatnonzero(begins), [n]]),
        time=np.append(time, _NEVER),
        kinds=kinds,
        rows=table,
    )


def _list_events(is_one: Bools, key: Ints) -> Ints:
    """Where `_Log.find` looks; the last entry is behind all others."""
    rows = np.flatnonzero(is_one)
    events = key[rows].astype(np.int64) * len(is_one) + rows
    # Mostly sorted already, which this kind of sorting knows how to use.
    events.sort(kind="stable")
    return np.append(events, _NEVER)


def _find_starts(log: _Log, rules: FunnelRules) -> Ints:
    is_start = np.zeros(log.n, bool)
    for i in range(1, len(rules.steps) + 1) if rules.order == "any" else [1]:
        is_start[log.kinds[i][:-1] % max(log.n, 1)] = True
    rows = np.flatnonzero(is_start)
    if rules.entry != "first" or rules.unit == "attempt":
        return rows
    return rows[np.diff(log.unit[rows], prepend=-1) > 0]


def _in_time(log: _Log, rules: FunnelRules, found: Ints, *, start: Ints, before: Ints, bad: Ints) -> Bools:
    """Is there an event, in the window and before the first excluded one?"""
    is_good = found < log.n
    if rules.within_s is not None:
        is_good &= log.time[found] <= log.time[start if rules.window_from == "first" else before] + _limit(rules)
    return is_good & (found < log.after[bad]) if rules.excluded else is_good


def _limit(rules: FunnelRules) -> int:
    return (rules.dormant_s if rules.within_s is None else rules.within_s) * 1_000_000


def _walk_on(log: _Log, start: Ints, bad: Ints, rules: FunnelRules) -> Ints:
    """Take the required steps in their order."""
    taken = np.full((len(rules.steps), len(start)), log.n, np.int32)
    taken[0] = start
    walk, here = np.arange(len(start)), start
    for i in rules.required[1:]:
        found = log.find(i, log.key[here], log.after[here])
        is_good = _in_time(log, rules, found, start=start[walk], before=here, bad=bad[walk])
        if rules.order == "strict":
            is_good &= log.begin[found] == log.after[here]
        walk, here = walk[is_good], found[is_good]
        taken[i - 1, walk] = here
    return taken


def _walk_any(log: _Log, start: Ints, bad: Ints, rules: FunnelRules) -> Ints:
    """Take the steps as they come: the k-th is the k-th different one after the start."""
    found = np.stack([log.find(i, log.key[start], log.begin[start]) for i in rules.required])
    # Of one instant the start comes first, whatever its place.
    order = np.argsort(np.where(found == start, -1, found), axis=0, kind="stable")
    taken = np.take_along_axis(found, order, axis=0)
    before = np.vstack([taken[:1], taken[:-1]])
    is_good = np.logical_and.accumulate(_in_time(log, rules, taken, start=start, before=before, bad=bad))
    return np.where(is_good, taken, log.n)


def _judge(log: _Log, start: Ints, rules: FunnelRules, end_us: int) -> _Walks:
    """How far does the walk from each start get, what stops it, and whose time is over?"""
    none = np.full(len(start), log.n)
    bad = log.find(EXCLUDED, log.unit[start], log.after[start]) if rules.excluded else none
    taken = (_walk_any if rules.order == "any" else _walk_on)(log, start, bad, rules)
    required = taken[[i - 1 for i in rules.required]]
    n_taken = (required < log.n).sum(axis=0)
    end = required[n_taken - 1, np.arange(len(start))]
    is_unfinished = n_taken < len(required)
    if rules.within_s is None:
        since = log.first_of_unit[log.unit[start] + 1] - 1
    else:
        since = start if rules.window_from == "first" else end
    deadline = log.time[since] + _limit(rules)
    is_over = deadline < end_us if rules.within_s is None else deadline <= end_us
    stop, is_excluded = none, np.zeros(len(start), bool)
    if rules.order == "strict":
        # The very next event is not the step, or it would have been taken.
        following = log.after[end]
        stop = np.where(is_unfinished & (log.unit[following] == log.unit[end]), following, log.n)
    if rules.excluded:
        is_excluded = is_unfinished & (log.time[bad] <= deadline)
        if rules.order == "strict":
            is_excluded &= bad < log.after[log.after[end]]
        stop = np.where(is_excluded, bad, stop)
    over = np.where(is_over, deadline, _NONE)
    lost_time = np.where(is_unfinished, np.where(log.time[stop] <= deadline, log.time[stop], over), _NONE)
    return _Walks(
        taken=taken,
        start=start,
        end=end,
        reached=np.array(rules.required)[n_taken - 1],
        bad=bad,
        stop=stop,
        is_excluded=is_excluded,
        deadline=deadline,
        lost_time=lost_time,
        is_open=is_unfinished & (lost_time == _NONE),
    )


def _begin_units(log: _Log, walks: _Walks) -> Ints:
    """The first walk of each unit."""
    return np.flatnonzero(np.diff(log.unit[walks.start], prepend=-1))


def _choose(log: _Log, walks: _Walks, rules: FunnelRules) -> _Walks:
    """Which walk does each unit have?"""
    n_steps, begun = len(rules.steps), _begin_units(log, walks)
    sizes = np.diff(begun, append=len(walks.start))
    walk = np.arange(len(walks.start))
    is_best = walks.reached == np.repeat(np.maximum.reduceat(walks.reached, begun), sizes)
    if rules.entry == "latest":
        done = np.where(walks.reached == n_steps, log.begin[walks.end], 0)
        is_best &= done == np.repeat(np.minimum.reduceat(np.where(is_best, done, log.n), begun), sizes)
        chosen = np.maximum.reduceat(np.where(is_best, walk, -1), begun)
    else:
        chosen = np.minimum.reduceat(np.where(is_best, walk, len(walk)), begun)
    ours = walks.keep(chosen)
    # Who may still get there by another start is not lost.
    is_unfinished = ours.reached < n_steps
    is_open = is_unfinished & np.logical_or.reduceat(walks.is_open, begun)
    bad = np.minimum.reduceat(np.where(walks.is_excluded, walks.stop, log.n), begun)
    return replace(
        ours,
        is_open=is_open,
        lost_time=np.where(is_unfinished & ~is_open, np.maximum.reduceat(walks.lost_time, begun), _NONE),
        is_excluded=(bad < log.n) & (is_unfinished | (bad < log.begin[ours.end])),
    )


def _find_attempts(log: _Log, walks: _Walks, rules: FunnelRules) -> Bools:
    """Which walks begin after the one before has ended? All units at once, start after start."""
    key = log.key[walks.start]
    order = np.argsort(key, kind="stable")
    key, start = key[order], walks.start[order]
    is_ended = (walks.reached == len(rules.steps)) | (walks.stop < log.n)
    # With order "strict" the event that ended a walk may begin the next.
    behind = log.after[np.where(walks.is_excluded, walks.stop, walks.end)]
    late = log.n if rules.within_s is None else 0
    from_row, from_time = np.where(is_ended, behind, late)[order], np.where(is_ended, _NONE, walks.deadline)[order]
    here = np.flatnonzero(np.diff(key, prepend=-1))
    last = here.copy()
    is_attempt = np.zeros(len(start), bool)
    is_attempt[here] = True
    while len(here):
        here = here + 1
        goes_on = here < len(start)
        goes_on[goes_on] = key[here[goes_on]] == key[last[goes_on]]
        here, last = here[goes_on], last[goes_on]
        is_next = (start[here] >= from_row[last]) & (log.time[start[here]] > from_time[last])
        is_attempt[here[is_next]] = True
        last = np.where(is_next, here, last)
    return is_attempt[np.argsort(order)]


def _add_optional(log: _Log, walks: _Walks, rules: FunnelRules) -> None:
    """Find the steps that may be left out, between the required ones around them."""
    for i in set(range(1, len(rules.steps) + 1)).difference(rules.required):
        before = walks.taken[max(j for j in rules.required if j < i) - 1]
        behind = walks.taken[min(j for j in rules.required if j > i) - 1]
        found = log.find(i, log.key[before], log.after[before])
        is_good = _in_time(log, rules, found, start=walks.start, before=before, bad=walks.bad)
        walks.taken[i - 1] = np.where(is_good & (before < log.n) & (found < log.begin[behind]), found, log.n)


def _describe(log: _Log, walks: _Walks, rules: FunnelRules, at_steps: Sequence[int]) -> dict[str, pa.Array | Ints]:
    """The columns of the answer."""
    columns = {"_unit": log.rows["_unit"].take(pa.array(walks.start))}
    if rules.unit == "attempt":
        begun = _begin_units(log, walks)
        of_unit = np.repeat(begun, np.diff(begun, append=len(walks.start)))
        columns["attempt"] = np.arange(len(walks.start)) - of_unit + 1
    if "customer_id" in log.rows.column_names:
        columns["customer_id"] = log.rows["customer_id"].take(pa.array(walks.start))
    for name in log.rows.column_names:
        for k in at_steps if name.startswith("_by_") else ():
            taken = walks.taken[k - 1]
            columns[f"{name}_{k}"] = log.rows[name].take(pa.array(taken, mask=taken == log.n))
    columns |= {"reached": walks.reached, "reached_position": log.rows["position"].take(pa.array(walks.end))}
    columns |= {"is_open": walks.is_open, "lost_time": walks.lost_time.view("M8[us]")}
    for k, taken in enumerate(walks.taken, 1):
        columns[f"time_{k}"] = np.where(taken < log.n, log.time[taken], _NONE).view("M8[us]")
    return columns
