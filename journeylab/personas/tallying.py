"""What did the customers of each persona do? Counted in the engine, whatever found the personas.

What is fetched are numbers of customers, journeys and steps that are alike, so that a million customers are as quickly
described as a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import pandas as pd

from journeylab.engine import drop, round_wait, store

# What is summed up is counted in whole parts, for the sum of whole numbers is the same in any order.
_WHOLE, _CENTS = 10**9, 10**4


@dataclass(frozen=True, eq=False)
class Tally:
    """What the customers of each persona did, counted.

    Parameters
    ----------
    sizes : pandas.DataFrame
        One row per persona, from 1 to k: n (customers), n_atypical, probability (mean), n_journeys, n_reached
        (customers with a journey that reached the goal), n_valued (with any value), value (mean per customer, none
        counts as 0), value_sd.
    lengths : pandas.DataFrame
        persona, n_events (of a customer), n (customers).
    waits : pandas.DataFrame
        persona, wait_s (from a journey's start to its goal), n (journeys).
    gaps : pandas.DataFrame
        persona, gap_s (between two events of a journey), n (weight: all gaps of a customer together have 10**9).
    moves : pandas.DataFrame
        persona, event, next_event (None: the journey's last so far), is_first, is_open and reached_goal (of its
        journey), n (steps).
    events, channels : pandas.DataFrame
        persona, name, n_own (of a customer's events), n_all (all of them), n (customers who are alike in that).
    """

    sizes: pd.DataFrame
    lengths: pd.DataFrame
    waits: pd.DataFrame
    gaps: pd.DataFrame
    moves: pd.DataFrame
    events: pd.DataFrame
    channels: pd.DataFrame


def tally_members(steps: ibis.Table, journeys: ibis.Table, members: ibis.Table, k: int) -> Tally:
    """What did the customers of each persona do? Runs all queries that describing them takes.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`; only the steps that the journeys count are looked at.
    members : ibis.Table
        customer_id, persona (from 1), probability, is_atypical; in the same database.
    k : int
        How many personas there are; some may have no customers.
    """
    con = members.get_backend()
    fates = store(_follow(journeys, members), con)
    customers = store(_gather(fates, members), con)
    tracks = store(_mark(fates, customers), con)
    seen = _watch(steps, tracks)
    tally = Tally(
        sizes=_measure(customers, k),
        lengths=_fold(customers, "persona", "n_events"),
        waits=_fold(fates.filter(fates.wait_s.notnull()), "persona", "wait_s"),
        gaps=_weigh_gaps(seen),
        moves=_fold(seen, "persona", "event", "next_event", "is_first", "is_open", "reached_goal"),
        events=_count_shares(seen, seen.event),
        channels=_count_shares(seen, seen.channel if "channel" in seen.columns else ibis.null("string")),
    )
    for table in (fates, customers, tracks):
        drop(table)
    return tally


def _follow(journeys: ibis.Table, members: ibis.Table) -> ibis.Table:
    """What became of each journey of the members."""
    fates = journeys.select(
        *("journey_id", "customer_id", "n_steps", "is_open", "value"),
        reached_goal=journeys.reached_goal.fill_null(False),
        wait_s=round_wait(journeys.goal_time.delta(journeys.start_time, unit="microsecond")),
    )
    return fates.join(members.select("customer_id", "persona"), "customer_id")


def _gather(fates: ibis.Table, members: ibis.Table) -> ibis.Table:
    """One row per customer; numbered, for numbers are sooner compared than names."""
    customers = fates.group_by("customer_id").agg(
        n_events=fates.n_steps.sum(),
        n_journeys=fates.count(),
        has_reached=fates.reached_goal.any(),
        value=fates.value.sum().cast("float64"),
    )
    own = members.select("customer_id", "persona", "probability", "is_atypical").join(customers, "customer_id")
    return own.mutate(customer=ibis.row_number())


def _mark(fates: ibis.Table, customers: ibis.Table) -> ibis.Table:
    """What a step needs to know of its journey and its customer."""
    own = customers.select("customer_id", "customer", n_gaps=customers.n_events - customers.n_journeys)
    columns = ("journey_id", "persona", "customer", "n_gaps", "n_steps", "is_open", "reached_goal")
    return fates.join(own, "customer_id").select(*columns)


def _watch(steps: ibis.Table, tracks: ibis.Table) -> ibis.Table:
    own = ["channel"] if "channel" in steps.columns else []
    seen = steps.select("journey_id", "event", "next_event", "step", "gap_s", *own).join(tracks, "journey_id")
    seen = seen.filter(seen.step <= seen.n_steps)
    return seen.mutate(
        next_event=ibis.ifelse(seen.step < seen.n_steps, seen.next_event, ibis.null("string")), is_first=seen.step == 1
    )


def _measure(customers: ibis.Table, k: int) -> pd.DataFrame:
    value = customers.value.fill_null(0.0)
    sums = customers.group_by("persona").agg(
        n=customers.count(),
        n_atypical=customers.is_atypical.cast("int64").sum(),
        n_journeys=customers.n_journeys.sum(),
        n_reached=customers.has_reached.cast("int64").sum(),
        n_valued=customers.value.count(),
        probability=(customers.probability * _WHOLE).round().cast("int64").sum(),
        value=(value * _CENTS).round().cast("int64").sum(),
        value_sd=value.std(how="sample"),
    )
    sizes: pd.DataFrame = sums.execute().set_index("persona").reindex(range(1, k + 1))
    counts = ["n", "n_atypical", "n_journeys", "n_reached", "n_valued"]
    sizes = sizes.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, "int64"))
    # of floats the engine's threads sum up the last digits as they please
    digits = sizes["value_sd"].map(lambda sd: float(f"{sd:.9g}"))
    means = {"probability": sizes["probability"] / _WHOLE / sizes["n"], "value": sizes["value"] / _CENTS / sizes["n"]}
    return sizes.assign(**means, value_sd=digits)


def _fold(table: ibis.Table, *keys: str) -> pd.DataFrame:
    return _fetch(table.group_by(*keys).agg(n=table.count()))


def _fetch(counted: ibis.Table) -> pd.DataFrame:
    """Rows in an order of their own, whatever order the engine gave; None for what is missing in text."""
    rows: pd.DataFrame = counted.execute()
    rows = rows.sort_values([name for name in rows.columns if name != "n"], ignore_index=True)
    texts = [name for name in ("event", "next_event") if name in rows.columns]
    return rows.assign(**{name: rows[name].astype(object).where(rows[name].notna(), None) for name in texts})


def _weigh_gaps(seen: ibis.Table) -> pd.DataFrame:
    paused = seen.filter(seen.gap_s.notnull())
    gap_s = round_wait((paused.gap_s * 1e6).round().cast("int64"))
    weight = ibis.literal(_WHOLE) // paused.n_gaps
    paused = paused.select("persona", gap_s=gap_s, weight=weight)
    return _fetch(paused.group_by("persona", "gap_s").agg(n=paused.weight.sum()))


def _count_shares(seen: ibis.Table, name: ibis.Value) -> pd.DataFrame:
    """How many customers of each persona have the same number of these among the same number in all?"""
    named = seen.select("customer", "persona", name=name)
    named = named.filter(named.name.notnull())
    own = named.group_by("customer", "persona", "name").agg(n_own=named.count())
    own = own.mutate(n_all=own.n_own.sum().over(ibis.window(group_by="customer")))
    return _fold(own, "persona", "name", "n_own", "n_all")
