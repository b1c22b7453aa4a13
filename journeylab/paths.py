"""The ways that customers really travel: transitions, step matrix, flows and variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError, nearest

if TYPE_CHECKING:
    import pandas as pd

#: Joins the events of a variant; a control character that event names have no use for.
_SEPARATOR = "\x1f"
_STEP_DIGITS = 9


def count_transitions(steps: ibis.Table, journeys: ibis.Table | None = None, *, by: str | None = None) -> pd.DataFrame:
    """Which event follows which, how often?

    Parameters
    ----------
    steps
        From `build_steps`.
    journeys
        From `build_journeys`. With it, journeys that are still open are left out as a whole: cutting off only their
        last step would bias every row. Without it, the last event seen counts as the end.
    by
        Split by this column as it stands at the event that is left. Transitions are those of the whole journey: a group
        that changes on the way never creates one that did not happen.

    Returns
    -------
    pandas.DataFrame
        [the group], event (None: the start), next_event (None: the end), n (transitions), n_journeys (that made it at
        least once), share (of the departures from `event`; sums to 1 per event and group).
    """
    if by is not None and by not in steps.columns:
        raise RuleError(f'count_transitions: no column "{by}" to split by.{nearest(by, steps.columns)}')
    if by in ("event", "next_event", "n", "n_journeys", "share"):
        raise RuleError(
            f'count_transitions: "{by}" is a column of the answer itself; rename yours in read_events(columns=)'
        )
    closed = _only_closed(steps, journeys)
    group = {"_group": closed[by].cast("string").fill_null("(none)")} if by else {}
    moves = closed.select("journey_id", "event", "next_event", **group)
    first = closed.filter(closed.step == 1)
    group = {"_group": first[by].cast("string").fill_null("(none)")} if by else {}
    starts = first.select("journey_id", event=ibis.null("string"), next_event=first.event, **group)
    both = moves.union(starts)
    keys = [*(["_group"] if by else []), "event", "next_event"]
    table = both.group_by(keys).agg(n=both.count(), n_journeys=both.journey_id.nunique()).execute()
    table["share"] = table["n"] / table.groupby(keys[:-1], dropna=False)["n"].transform("sum")
    table = _sort(table, keys, "n").rename(columns={"_group": by})
    return _with_none(table, "event", "next_event")


def step_matrix(steps: ibis.Table, journeys: ibis.Table | None = None, *, max_step: int = 12) -> pd.DataFrame:
    """At which event are journeys at their first, second, third … step?

    Returns
    -------
    pandas.DataFrame
        step (from 1 to `max_step`), event (None: the journey had ended before), n (journeys), share (of all journeys;
        sums to 1 within a step). Open journeys are left out as in `count_transitions`.
    """
    import pandas as pd

    if max_step < 1:
        raise RuleError(f"step_matrix: max_step must be at least 1, found {max_step}")
    closed = _only_closed(steps, journeys)
    early = closed.filter(closed.step <= max_step)
    table = early.group_by("step", "event").agg(n=early.count()).execute()
    total = int(table.loc[table["step"] == 1, "n"].sum())
    left = total - table.groupby("step")["n"].sum().reindex(range(1, max_step + 1), fill_value=0)
    ended = pd.DataFrame({"step": left.index, "event": None, "n": left.to_numpy()})
    table = pd.concat([_with_none(table, "event"), ended[ended["n"] > 0]], ignore_index=True)
    table["share"] = table["n"] / total
    return _sort(table, ["event"], "n", within="step")[["step", "event", "n", "share"]]


def count_flows(
    steps: ibis.Table, journeys: ibis.Table | None = None, *, max_step: int = 5, top: int = 7
) -> pd.DataFrame:
    """How do journeys flow from step to step, event by event?

    Returns
    -------
    pandas.DataFrame
        step (from 1 to `max_step` - 1), event, next_event (at the step after; None: ended), n (journeys). The `top`
        events of the first `max_step` steps keep their names, the rest are "(other)"; nothing is left out, so each
        step's n sums to the journeys that reached it.
    """
    if max_step < 2 or top < 1:
        raise RuleError(f"count_flows: max_step must be at least 2 and top at least 1, found {max_step} and {top}")
    closed = _only_closed(steps, journeys)
    early = closed.filter(closed.step <= max_step)
    volume = early.group_by("event").agg(n=early.count()).order_by(ibis.desc("n"), "event").limit(top).execute()
    kept = [str(name) for name in volume["event"]]

    def fold(column: ibis.Value) -> ibis.Value:
        return ibis.cases((column.isnull(), None), (column.isin(kept), column), else_="(other)")

    moves = closed.filter(closed.step < max_step)
    folded = moves.select("step", event=fold(moves.event), next_event=fold(moves.next_event))
    table = folded.group_by("step", "event", "next_event").agg(n=folded.count()).execute()
    return _with_none(_sort(table, ["event", "next_event"], "n", within="step"), "next_event")


def count_variants(steps: ibis.Table, journeys: ibis.Table | None = None, *, top: int | None = None) -> pd.DataFrame:
    """Which whole journeys occur, and how often?

    Parameters
    ----------
    top
        Only the most frequent; shares keep all journeys as their base. None: all of them.

    Returns
    -------
    pandas.DataFrame
        variant (tuple of events), n_journeys, share (of all journeys), n_customers, n_steps; most frequent first,
        ties by their events. Open journeys are left out as in `count_transitions`.
    """
    if top is not None and top < 1:
        raise RuleError(f"count_variants: top must be at least 1, found {top}")
    closed = _only_closed(steps, journeys)
    # Spark has no ordered collect: the step's number in front of each event makes plain sorting do it.
    numbered = closed.step.cast("string").lpad(_STEP_DIGITS, "0").concat(closed.event)
    journeys_ = closed.group_by("journey_id", "customer_id").agg(_events=numbered.collect(), n_steps=closed.count())
    journeys_ = journeys_.mutate(_variant=journeys_["_events"].sort().join(_SEPARATOR))
    counted = journeys_.group_by("_variant", "n_steps").agg(
        n_journeys=journeys_.count(), n_customers=journeys_.customer_id.nunique()
    )
    counted = counted.mutate(_total=counted.n_journeys.sum().over(ibis.window()))
    # The variant is its own tie-break: equal prefixes, so it sorts by its events.
    ordered = counted.order_by(ibis.desc("n_journeys"), "_variant")
    table: pd.DataFrame = (ordered.limit(top) if top is not None else ordered).execute()
    table["variant"] = [tuple(part[_STEP_DIGITS:] for part in text.split(_SEPARATOR)) for text in table["_variant"]]
    table["share"] = table["n_journeys"] / table["_total"]
    return table[["variant", "n_journeys", "share", "n_customers", "n_steps"]]


def _only_closed(steps: ibis.Table, journeys: ibis.Table | None) -> ibis.Table:
    """Leave out open journeys as a whole, and of closed ones what came after the end of observation."""
    if journeys is None:
        return steps
    closed = journeys.filter(~journeys.is_open).select("journey_id", _n_seen="n_steps")
    seen = steps.join(closed, ["journey_id"])
    seen = seen.filter(seen.step <= seen["_n_seen"])
    return seen.mutate(next_event=ibis.ifelse(seen.step < seen["_n_seen"], seen.next_event, None)).drop("_n_seen")


def _sort(table: pd.DataFrame, names: list[str], size: str, *, within: str | None = None) -> pd.DataFrame:
    """Largest first; equal ones by name, with None in front, whatever order the engine gave."""
    keys = {f"_key_{name}": table[name].fillna("") for name in names}
    by = [*([within] if within else []), size, *keys]
    ascending = [*([True] if within else []), False, *([True] * len(keys))]
    return table.assign(**keys).sort_values(by, ascending=ascending)[list(table.columns)].reset_index(drop=True)


def _with_none(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    for name in names:
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table
