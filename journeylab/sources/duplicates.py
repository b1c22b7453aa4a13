"""Rows that say the same thing twice."""

from __future__ import annotations

import ibis

from journeylab.engine import store
from journeylab.schema import PROBLEM, ROW, is_used


def mark_duplicates(events: ibis.Table, con: ibis.BaseBackend, *, keep: bool) -> ibis.Table:
    """Which rows repeat an earlier row in every column of the source?

    The first of equal rows stays; later ones get the problem ``duplicate`` (``kept_duplicate`` with `keep`).
    """
    # Few rows share customer, event and time, mostly none: only those are compared in full. Hashes group faster than
    # text, and two rows that share one by chance are told apart by the comparison.
    used = events.filter(is_used(events)).mutate(
        _copy_of=events.customer_id.hash() ^ events.event.hash() ^ events.timestamp.hash()
    )
    if used.aggregate(n=used.count() - used["_copy_of"].nunique()).execute().iloc[0, 0] == 0:
        return events
    repeated = used.group_by("_copy_of").agg(n=used.count()).filter(lambda t: t.n > 1)
    content = [name for name in events.columns if name not in (ROW, PROBLEM)]
    has_place = ROW in events.columns
    place = ibis.row_number().over(ibis.window(group_by=content, order_by=ROW if has_place else None))
    copies = used.semi_join(repeated, "_copy_of").mutate(_copy=place).filter(lambda t: t["_copy"] > 0)
    if not copies.count().execute():
        return events
    if has_place:
        found = store(copies.select(_copy_of=ROW), con)
        joined = events.left_join(found, events[ROW] == found["_copy_of"])
        is_copy = joined["_copy_of"].notnull()
    else:
        # Rows without a place cannot be named, so the whole table is numbered.
        joined = events.mutate(_copy=place)
        is_copy = is_used(joined) & (joined["_copy"] > 0)
    label = "kept_duplicate" if keep else "duplicate"
    return joined.mutate(**{PROBLEM: ibis.ifelse(is_copy, label, joined[PROBLEM])}).select(*events.columns)
