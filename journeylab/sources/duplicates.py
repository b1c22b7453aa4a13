"""Rows that say the same thing twice."""

from __future__ import annotations

import ibis

from journeylab.engine import store
from journeylab.schema import PROBLEM, REQUIRED, ROW, is_used


def mark_duplicates(typed: ibis.Table, con: ibis.BaseBackend, *, keep: bool) -> ibis.Table:
    """Which rows repeat an earlier row in every column of the source?

    The first of equal rows stays; later ones get the problem ``duplicate`` (``kept_duplicate`` with `keep`).
    """
    key = list(REQUIRED)
    # Few rows share customer, event and time: only those are compared in full.
    repeated = typed.filter(is_used(typed)).group_by(key).agg(n=lambda t: t.count()).filter(lambda t: t.n > 1)
    suspects = typed.filter(is_used(typed)).semi_join(repeated, key)
    content = [name for name in typed.columns if name not in (ROW, PROBLEM)]
    place = ibis.row_number().over(ibis.window(group_by=content, order_by=ROW if ROW in typed.columns else None))
    label = "kept_duplicate" if keep else "duplicate"
    if ROW not in typed.columns:
        # Rows without a place cannot be named, so the whole table is numbered, but only if anything repeats.
        numbered = typed.mutate(_copy=place)
        if not suspects.mutate(_copy=place).filter(lambda t: t["_copy"] > 0).count().execute():
            return typed
        is_copy = is_used(typed) & (numbered["_copy"] > 0)
        return numbered.mutate(**{PROBLEM: ibis.ifelse(is_copy, label, numbered[PROBLEM])}).drop("_copy")
    copies = store(suspects.mutate(_copy=place).filter(lambda t: t["_copy"] > 0).select(_copy_of=ROW), con)
    if not copies.count().execute():
        con.drop_table(copies.get_name(), force=True)
        return typed
    joined = typed.left_join(copies, typed[ROW] == copies["_copy_of"])
    return joined.mutate(**{PROBLEM: ibis.ifelse(joined["_copy_of"].notnull(), label, joined[PROBLEM])}).drop(
        "_copy_of"
    )
