"""What the log says of each stage: who gets there, what they do where, for how long, and who leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd

from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import numpy.typing as npt

OTHER = "(other)"
# Times are grouped to this many digits before they leave the engine: no reader sees more, and a stage has some
# thousand different ones at most, however long the log.
_DIGITS = 3


def read_seen(
    steps: ibis.Table, journeys: ibis.Table, stages: Sequence[str], columns: Sequence[str] = ("channel",)
) -> ibis.Table:
    """The steps of these journeys, as far as they were observed, with when the next one came.

    Returns
    -------
    ibis.Table
        journey_id, customer_id, position, step, event, stage (null where it is none of `stages`), timestamp, those of
        `columns` that the log has, is_before_goal (bool: the journey had not reached its goal yet) and wait_us
        (int64, microseconds until the journey's next event; null on its last).
    """
    ends = journeys.select("journey_id", _n_steps="n_steps", _goal_time="goal_time")
    seen = steps.join(ends, ["journey_id"])
    seen = seen.filter(seen.step <= seen["_n_steps"])
    track = ibis.window(group_by="journey_id", order_by="step")
    return seen.select(
        *("journey_id", "customer_id", "position", "step", "event", "timestamp"),
        *(name for name in dict.fromkeys(columns) if name in steps.columns),
        stage=ibis.ifelse(seen.stage.isin(stages), seen.stage, ibis.null("string")),
        is_before_goal=seen["_goal_time"].isnull() | (seen.timestamp < seen["_goal_time"]),
        # Whole microseconds: sums of fractions depend on their order.
        wait_us=(seen.gap_s.lead().over(track) * 1e6).round().cast("int64"),
    )


def read_visits(seen: ibis.Table, journeys: ibis.Table, way: str | None = None) -> ibis.Table:
    """What became of each journey at each stage that it came to?

    Returns
    -------
    ibis.Table
        One row per journey and stage: journey_id, customer_id, stage, n_before_goal (events there, before the goal),
        wait_us (there, until the next event each; null if that is not known of any), is_lost (the journey is over
        without the goal, and this is its last stage), is_here (still on the way without the goal, and this is its last
        stage so far) and way (the first known value of that column there, "(none)" without one).
    """
    staged = seen.filter(seen.stage.notnull())
    named = ibis.null("string")
    if way is not None:
        named = staged[way].cast("string").argmin(staged.step, where=staged[way].notnull())
    visits = staged.group_by("journey_id", "customer_id", "stage").agg(
        n_before_goal=staged.is_before_goal.cast("int64").sum(), wait_us=staged.wait_us.sum(), way=named
    )
    told = visits.join(journeys.select("journey_id", "reached_goal", "is_open", "last_stage"), ["journey_id"])
    is_last = ((told.last_stage == told.stage) & ~told.reached_goal).fill_null(False)
    return told.select(
        *("journey_id", "customer_id", "stage", "n_before_goal", "wait_us"),
        is_lost=is_last & ~told.is_open,
        is_here=is_last & told.is_open,
        way=told.way.fill_null("(none)"),
    )


def count_reach(visits: ibis.Table) -> pd.DataFrame:
    """Who gets to each stage, and who leaves there?

    Returns
    -------
    pandas.DataFrame
        One row per stage, by name: stage, n_customers, n_journeys (that were there), n_lost (journeys that are over,
        without the goal, and whose last stage it is), n_open (that are still on the way, and there), n_known
        (n_journeys - n_open) of n_known_customers; and, of n_known, n_risked (journeys that came before they had
        reached the goal) with n_events (the events there before the goal after which it is known whether they left).
    """
    here = visits.is_here.cast("int64")
    table: pd.DataFrame = (
        visits.group_by("stage")
        .agg(
            n_customers=visits.customer_id.nunique(),
            n_journeys=visits.count(),
            n_lost=visits.is_lost.cast("int64").sum(),
            n_open=here.sum(),
            n_known_customers=visits.customer_id.nunique(where=~visits.is_here),
            n_risked=visits.count(where=~visits.is_here & (visits.n_before_goal > 0)),
            n_events=(visits.n_before_goal - here).sum(),
        )
        .order_by("stage")
        .execute()
    )
    return table.assign(n_known=table["n_journeys"] - table["n_open"])


def count_items(seen: ibis.Table, names: Sequence[str], *, top: int, min_group: int) -> pd.DataFrame:
    """What do customers do at each stage: its most frequent events, or channels, or both together?

    Parameters
    ----------
    names
        Columns that make an item; a null is "(none)".
    top
        So many items of each stage by name; the rest is "(other)".
    min_group
        Items of fewer customers become "(other)" too; if these have fewer still together, the rarest named item joins
        them, lest they could be told by subtraction; not so if it is what everybody at the stage does. What then has
        too few is left out.

    Returns
    -------
    pandas.DataFrame
        stage, item (the names joined by " · "), n_customers, n_events; most customers first, "(other)" last.
    """
    staged = seen.filter(seen.stage.notnull())
    keys = [staged[name].cast("string").fill_null("(none)") for name in names]
    item = keys[0]
    for key in keys[1:]:
        item = item + " · " + key
    named = staged.select("stage", "customer_id", item=item)
    counts = named.group_by("stage", "item").agg(n_customers=named.customer_id.nunique()).execute()
    counts = counts.sort_values(["stage", "n_customers", "item"], ascending=[True, False, True], ignore_index=True)
    counts["rank"] = counts.groupby("stage").cumcount()
    kept = counts[(counts["rank"] < top) & (counts["n_customers"] >= min_group)]
    found = _fold(named, kept)
    small = found.loc[(found["item"] == OTHER) & (found["n_customers"] < min_group), "stage"]
    if len(small):
        # Where nothing is named all is folded: that counts everybody.
        everybody = _fold(named, kept.iloc[:0]).set_index("stage")["n_customers"]
        joins = ~kept.duplicated("stage", keep="last") & kept["stage"].isin(small)
        joins &= kept["n_customers"] < everybody.reindex(kept["stage"]).to_numpy()
        found = _fold(named, kept[~joins])
    found = found[found["n_customers"] >= min_group]
    order = found.assign(_last=found["item"] == OTHER).sort_values(
        ["stage", "_last", "n_customers", "item"], ascending=[True, True, False, True], ignore_index=True
    )
    return order.drop(columns="_last")


def _fold(named: ibis.Table, kept: pd.DataFrame) -> pd.DataFrame:
    """Count customers and events of these items, and of all others of a stage together."""
    is_kept = ibis.or_(
        ibis.literal(False),
        *((named.stage == stage) & named.item.isin(list(part["item"])) for stage, part in kept.groupby("stage")),
    )
    folded = named.select("stage", "customer_id", item=ibis.ifelse(is_kept, named.item, OTHER))
    counted = folded.group_by("stage", "item").agg(n_customers=folded.customer_id.nunique(), n_events=folded.count())
    found: pd.DataFrame = counted.execute()
    return found


def measure_times(visits: ibis.Table) -> pd.DataFrame:
    """How long do journeys stay at each stage?

    The time from each event of the stage to the journey's next event, whatever that is, summed by journey; a journey
    that ends with its first event there has spent none that could be seen, and is left out.

    Returns
    -------
    pandas.DataFrame
        stage, n (journeys), n_customers, median_s, low, high (95 %, by ranks: Conover 1999), to three digits.
    """
    spent = visits.filter(visits.wait_us.notnull())
    seconds = spent.wait_us / 1e6
    unit = ibis.literal(10.0) ** (ibis.greatest(seconds, 1.0).log10().floor() - (_DIGITS - 1))
    rounded = spent.mutate(seconds=(seconds / unit).round() * unit)
    counts = rounded.group_by("stage", "seconds").agg(n=rounded.count()).order_by("stage", "seconds").execute()
    people = spent.group_by("stage").agg(n_customers=spent.customer_id.nunique()).execute().set_index("stage")
    rows = [
        {"stage": stage, "n": int(part["n"].sum()), "n_customers": int(people.loc[stage, "n_customers"])}
        | _read_median(part["seconds"].to_numpy(), part["n"].to_numpy())
        for stage, part in counts.groupby("stage", sort=True)
    ]
    return pd.DataFrame(rows, columns=["stage", "n", "n_customers", "median_s", "low", "high"])


def _read_median(values: npt.NDArray[Any], counts: npt.NDArray[Any]) -> dict[str, float]:
    """The median of values that occur so often, and the ranks between which it lies in 95 of 100 samples."""
    from scipy.stats import binom

    below = np.cumsum(counts)
    n = int(below[-1])

    def at(rank: float) -> float:
        return float(values[np.searchsorted(below, min(max(rank, 1), n))])

    low, high = binom.ppf(0.025, n, 0.5), binom.ppf(0.975, n, 0.5) + 1
    # Too few for two such ranks: nothing bounds the median.
    known = low >= 1 and high <= n
    median = (at((n + 1) // 2) + at(n // 2 + 1)) / 2
    return {"median_s": median, "low": at(low) if known else np.nan, "high": at(high) if known else np.nan}


def compare_ways(visits: ibis.Table) -> pd.DataFrame:
    """Of the journeys that enter a stage by each way (such as a channel), how many are lost there?

    Returns
    -------
    pandas.DataFrame
        stage, way, n (journeys that are not still there) of n_customers, n_lost, share_lost with low and high (95 %,
        Wilson); most journeys first within a stage.
    """
    known = visits.filter(~visits.is_here)
    counted = known.group_by("stage", "way").agg(
        n=known.count(), n_customers=known.customer_id.nunique(), n_lost=known.is_lost.cast("int64").sum()
    )
    table: pd.DataFrame = counted.execute()
    table = table.sort_values(["stage", "n", "way"], ascending=[True, False, True], ignore_index=True)
    table["share_lost"], table["low"], table["high"] = bound_shares(table["n_lost"], table["n"])
    return table
