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
# Waits are grouped to this many digits before they leave the engine: no reader sees more, and a stage has some thousand
# different ones at most, however long the log.
_DIGITS = 3


def read_seen(steps: ibis.Table, journeys: ibis.Table) -> ibis.Table:
    """The steps of these journeys, as far as they were observed, with when the next one came.

    Returns
    -------
    ibis.Table
        journey_id, customer_id, step, event, stage, timestamp, [channel, value], is_last (bool), wait_s (float64, until
        the journey's next event; null on its last).
    """
    ends = journeys.select("journey_id", _n_steps="n_steps")
    seen = steps.join(ends, ["journey_id"])
    seen = seen.filter(seen.step <= seen["_n_steps"])
    track = ibis.window(group_by="journey_id", order_by="step")
    kept = [name for name in ("channel", "value") if name in steps.columns]
    return seen.select(
        *("journey_id", "customer_id", "step", "event", "stage", "timestamp", *kept),
        is_last=seen.step == seen["_n_steps"],
        wait_s=seen.gap_s.lead().over(track),
    )


def count_reach(seen: ibis.Table, journeys: ibis.Table) -> pd.DataFrame:
    """Who gets to each stage, and who leaves there?

    Returns
    -------
    pandas.DataFrame
        One row per stage, in no order: stage, n_customers, n_journeys (that were there), n_lost (journeys that are
        over, without the goal, and whose last stage it is), n_open (that are still on the way, and there), and n_known
        (n_journeys - n_open).
    """
    staged = seen.filter(seen.stage.notnull())
    reached = staged.group_by("stage").agg(
        n_customers=staged.customer_id.nunique(), n_journeys=staged.journey_id.nunique()
    )
    is_left = ~journeys.reached_goal & journeys.last_stage.notnull()
    left = journeys.filter(is_left)
    ended = left.group_by(stage=left.last_stage).agg(
        n_lost=(~left.is_open).cast("int64").sum(), n_open=left.is_open.cast("int64").sum()
    )
    table: pd.DataFrame = reached.execute().merge(ended.execute(), on="stage", how="left")
    table[["n_lost", "n_open"]] = table[["n_lost", "n_open"]].fillna(0).astype("int64")
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
        Items of fewer customers become "(other)" too; if that has fewer still, it is left out.

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
    if kept.empty:
        return pd.DataFrame(columns=["stage", "item", "n_customers", "n_events"])
    known = ibis.memtable(kept[["stage", "item"]].assign(name=kept["item"]))
    folded = named.left_join(known, ["stage", "item"])
    folded = folded.select("stage", "customer_id", item=folded["name"].fill_null(OTHER))
    table = folded.group_by("stage", "item").agg(n_customers=folded.customer_id.nunique(), n_events=folded.count())
    found: pd.DataFrame = table.execute()
    found = found[found["n_customers"] >= min_group]
    last = found["item"] == OTHER
    order = found.assign(_last=last).sort_values(
        ["stage", "_last", "n_customers", "item"], ascending=[True, True, False, True], ignore_index=True
    )
    return order.drop(columns="_last")


def measure_times(seen: ibis.Table) -> pd.DataFrame:
    """How long do journeys stay at each stage?

    The time from each event of the stage to the journey's next event, whatever that is, summed by journey; a journey
    that ends with its first event there has spent none that could be seen, and is left out.

    Returns
    -------
    pandas.DataFrame
        stage, n (journeys), median_s, low, high (95 %, by ranks: Conover 1999), to three digits.
    """
    waits = seen.filter(seen.stage.notnull() & seen.wait_s.notnull())
    spent = waits.group_by("journey_id", "stage").agg(seconds=waits.wait_s.sum())
    size = ibis.greatest(spent.seconds, 1.0).log10().floor() - (_DIGITS - 1)
    unit = ibis.literal(10.0) ** size
    rounded = spent.mutate(seconds=(spent.seconds / unit).round() * unit)
    counts = rounded.group_by("stage", "seconds").agg(n=rounded.count()).order_by("stage", "seconds").execute()
    rows = [
        {"stage": stage, "n": int(part["n"].sum())} | _read_median(part["seconds"].to_numpy(), part["n"].to_numpy())
        for stage, part in counts.groupby("stage", sort=True)
    ]
    return pd.DataFrame(rows, columns=["stage", "n", "median_s", "low", "high"])


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


def compare_ways(seen: ibis.Table, journeys: ibis.Table, by: str) -> pd.DataFrame:
    """Of the journeys that enter a stage by each way (such as a channel), how many are lost there?

    Returns
    -------
    pandas.DataFrame
        stage, way (`by` as first known in the stage), n (journeys that are not still there), n_lost,
        share_lost with low and high (95 %, Wilson).
    """
    staged = seen.filter(seen.stage.notnull())
    entered = staged.group_by("journey_id", "stage").agg(way=staged[by].cast("string").argmin(staged.step))
    told = entered.join(journeys.select("journey_id", "reached_goal", "is_open", "last_stage"), ["journey_id"])
    is_last = (told.last_stage == told.stage) & ~told.reached_goal
    told = told.mutate(
        way=told.way.fill_null("(none)"), is_lost=is_last & ~told.is_open, is_here=is_last & told.is_open
    )
    known = told.filter(~told.is_here)
    counted = known.group_by("stage", "way").agg(n=known.count(), n_lost=known.is_lost.cast("int64").sum())
    table: pd.DataFrame = counted.execute()
    table = table.sort_values(["stage", "n", "way"], ascending=[True, False, True], ignore_index=True)
    table["share_lost"], table["low"], table["high"] = bound_shares(table["n_lost"], table["n"])
    return table
