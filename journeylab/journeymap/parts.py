"""One map for each: the journeys of every persona, segment or period."""

from __future__ import annotations

from typing import Any, Literal, get_args

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.segments import find_attributes

Period = Literal["D", "W", "M"]

_NONE = "(none)"
_PART = "_part"
_MOST = 50


def split_journeys(
    journeys: ibis.Table,
    by: Any,  # a column's name, a period, a table, or anything with .members
    *,
    min_group: int = 10,
) -> dict[str, ibis.Table]:
    """Which journeys belong to each persona, segment or period? Each is what `build_map` asks for.

    Parameters
    ----------
    journeys
        From `build_journeys`.
    by
        A column of `journeys`; or a period, by the start of the journey in UTC: ``"D"``, ``"W"`` (from Monday) or
        ``"M"``; or a table with one row per customer: customer_id and segment, persona or account_id, such as
        ``personas.assign(steps)``; or anything with such a table as ``.members``. Customers whom the table does not
        name are left out.
    min_group
        Parts of fewer customers are left out.

    Returns
    -------
    dict of str to ibis.Table
        Journeys by the name of their part ("(none)" where none is known; "2026-10-01" is the first day of a period);
        periods in their order, all else by falling number of customers. One query has counted them.

    Raises
    ------
    RuleError
        `by` is none of these, all parts are smaller than `min_group`, or there are more than 50 others.

    Examples
    --------
    ``{name: build_map(steps, part, rules, title=name) for name, part in split_journeys(journeys, members).items()}``
    """
    is_period = isinstance(by, str) and by not in journeys.columns and by in get_args(Period)
    parted = _mark_parts(journeys, by, is_period=is_period)
    counted = parted.group_by(_PART).agg(n=parted.customer_id.nunique()).execute()
    large = counted[counted["n"] >= min_group]
    if large.empty:
        raise RuleError(
            f"split_journeys: none of {len(counted)} parts has {min_group} customers; take coarser parts, or lower "
            "min_group if nobody else sees the maps"
        )
    if len(large) > _MOST:
        raise RuleError(f"split_journeys: {len(large)} parts are more maps than anybody reads ({_MOST}); filter first")
    order, ascending = ([_PART], [True]) if is_period else (["n", _PART], [False, True])
    names = large.sort_values(order, ascending=ascending)[_PART]
    return {name: parted.filter(parted[_PART] == name).drop(_PART) for name in names}


def _mark_parts(journeys: ibis.Table, by: Any, *, is_period: bool) -> ibis.Table:  # Any: see split_journeys
    """Journeys with the name of the part that each belongs to."""
    if is_period:
        return journeys.mutate(**{_PART: journeys.start_time.truncate(by).date().cast("string")})
    if isinstance(by, str):
        if by not in journeys.columns:
            raise RuleError(
                f'split_journeys: journeys have no column "{by}", and it is no period ({", ".join(get_args(Period))}).'
                f"{nearest(by, journeys.columns)}"
            )
        return journeys.mutate(**{_PART: journeys[by].cast("string").fill_null(_NONE)})
    table = getattr(by, "members", by)
    if not (isinstance(table, ibis.Table) or hasattr(table, "columns")):
        raise RuleError(
            f"split_journeys: by must be a column of journeys, a period, a table, or something with .members; "
            f"found {by!r}"
        )
    opened = find_attributes(journeys, table)
    name = next((name for name in ("segment", "persona", "account_id") if name in opened.columns), None)
    if name is None:
        raise RuleError(
            f"split_journeys: the table has no column segment, persona or account_id; it has "
            f"{', '.join(opened.columns)}"
        )
    part = opened[name].cast("string").fill_null(_NONE)
    return journeys.join(opened.select("customer_id", **{_PART: part}), "customer_id")
