"""Journeys laid along a planned path: what is out of place, in whose journeys, and what goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from journeylab.alignment import Laid
from journeylab.personas.distances import Sequences
from journeylab.planned_path import Bools, Ints, PlannedPath
from journeylab.shares import bound_shares, compare_shares

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

KINDS = ("skipped", "reordered", "repeated", "inserted")
_Z = 1.959963984540054  # of a 95 % interval
_NAN = float("nan")
_TIMES = ("median_s", "median_other_s", "extra_s", "extra_low_s", "extra_high_s")
_SIDES = ("n_reached", "n_other", "n_reached_other")
_TESTED = {
    "conversion": "share",
    "conversion_other": "share_other",
    "difference": "difference",
    "difference_low": "low",
    "difference_high": "high",
    "p": "p",
    "p_adjusted": "p_adjusted",
    "is_small": "is_small",
}
COLUMNS = (
    *("kind", "step", "event", "n", "n_journeys", "n_customers", "share", "low", "high", "n_ended", "n_open", "cost"),
    *_TIMES,
    *_TESTED,
)
VARIANT_COLUMNS = ("variant", "alignment", "n_journeys", "share", "cost", "fitness")


class Deviation(NamedTuple):
    """What is out of place, and in which journeys (how often, at what cost, and whether they just ended)."""

    kind: str
    step: int | None
    event: str
    journeys: Ints
    times: Ints
    costs: Ints
    has_ended: Bools


def find_deviations(laid: Laid, plan: PlannedPath) -> list[Deviation]:
    """What is out of place, step by step and event by event?"""
    found, alignment = [], laid.alignment
    for step, label in enumerate(plan.labels):
        counts = {
            "skipped": (alignment.skipped[:, step], alignment.skipped[:, step]),
            "reordered": (alignment.reordered[:, step], 1 + alignment.missing[:, step]),
            "repeated": (alignment.repeated[:, step], alignment.repeated[:, step]),
        }
        for kind, (times, costs) in counts.items():
            journeys = np.flatnonzero(times.astype(bool)[laid.short_of])
            if len(journeys):
                rows = laid.short_of[journeys]
                ended = alignment.ended[rows, step] & (kind == "skipped")
                each = times[rows].astype(np.int64)
                found.append(Deviation(kind, step + 1, label, journeys, each, costs[rows].astype(np.int64), ended))
    return found + list(_find_inserted(laid))


def _find_inserted(laid: Laid) -> Iterator[Deviation]:
    log = laid.log
    owner = np.repeat(np.arange(*log.variants.shape), log.variants.lengths)
    is_step: Bools = np.any(log.belongs, axis=0)
    is_strange = ~is_step[log.variants.codes]
    codes, owner = log.variants.codes[is_strange].astype(np.int64), owner[is_strange]
    pairs, times = np.unique(codes * log.variants.shape[0] + owner, return_counts=True)
    code, variant = np.divmod(pairs, log.variants.shape[0])
    sizes = np.bincount(log.variant, minlength=log.variants.shape[0])
    members = Sequences(np.argsort(log.variant, kind="stable"), np.append(0, np.cumsum(sizes)))
    for part in np.split(np.arange(len(code)), np.flatnonzero(np.diff(code)) + 1) if len(code) else []:
        journeys = members[variant[part]].codes
        each = np.repeat(times[part], sizes[variant[part]]).astype(np.int64)
        yield Deviation(
            "inserted", None, log.events[code[part[0]]], journeys, each, each, np.zeros(len(each), dtype=bool)
        )


def tabulate_deviations(laid: Laid, found: list[Deviation], members: Bools, min_n: int) -> pd.DataFrame:
    """How many of these journeys have each deviation, and do they take longer and reach the goal less often?

    Columns as in `Conformance.deviations` but those of `judge`, which needs n_reached, n_other and n_reached_other.
    """
    import pandas as pd

    is_over, is_open = members & ~laid.is_open, members & laid.is_open
    base = laid.by_duration[is_over[laid.by_duration]]
    rows = []
    for deviation in found:
        is_own, n_open = is_over[deviation.journeys], int(np.count_nonzero(is_open[deviation.journeys]))
        if is_own.any() or n_open:
            row: dict[str, Any] = {"kind": deviation.kind, "step": deviation.step, "event": deviation.event}
            for name, amounts in (("n", deviation.times), ("n_ended", deviation.has_ended), ("cost", deviation.costs)):
                row[name] = int(amounts[is_own].sum())
            rows.append(row | {"n_open": n_open} | _compare(laid, deviation.journeys[is_own], base, min_n))
    types = {"kind": "str", "step": "Int64", "event": "str"}
    types |= dict.fromkeys(("n", "n_journeys", "n_customers", "n_ended", "n_open", "cost", "n_base", *_SIDES), "int64")
    types |= dict.fromkeys(_TIMES, "float64")
    table = pd.DataFrame(rows, columns=list(types)).astype(types)
    table["share"], table["low"], table["high"] = bound_shares(table["n_journeys"], table["n_base"])
    ranks = table.assign(_kind=table["kind"].map(KINDS.index), _size=-table["n_journeys"], _open=-table["n_open"])
    order = ranks.sort_values(["_size", "_open", "_kind", "step", "event"], na_position="last").index
    return table.loc[order].reset_index(drop=True)


def _compare(laid: Laid, own: Ints, base: Ints, min_n: int) -> dict[str, float]:
    """Set the journeys of a deviation beside all others of `base`, which are in the order of their durations."""
    n, n_own, n_own_reached = len(base), len(own), int(np.count_nonzero(laid.reached_goal[own]))
    row: dict[str, float] = {"n_base": n, "n_journeys": n_own, "n_customers": laid.count_customers(own)}
    row |= {"n_other": n - n_own, "n_reached": n_own_reached}
    row["n_reached_other"] = int(np.count_nonzero(laid.reached_goal[base])) - n_own_reached
    if min(n_own, n - n_own) >= max(min_n, 1):
        has_it = np.zeros(len(laid.is_open), dtype=bool)
        has_it[own] = True
        durations, is_own = laid.log.column("duration_s")[base], has_it[base]
        row |= compare_medians(durations[is_own], durations[~is_own])
    return row


def judge(table: pd.DataFrame, min_n: int) -> pd.DataFrame:
    """Do journeys with a deviation reach the goal more or less often, over all rows of `tabulate_deviations`?"""
    sides = table[list(_SIDES)].assign(n=table["n_journeys"])
    tested = compare_shares(sides, min_n)
    if not sides[["n_reached", "n_reached_other"]].to_numpy().any():
        # No goal is known, or nobody reached it: then there is nothing to compare.
        tested[[name for name in _TESTED.values() if name != "is_small"]] = _NAN
    table = table.assign(**{name: tested[column] for name, column in _TESTED.items()})
    return table.drop(columns=["n_base", *_SIDES])


def compare_medians(one: Floats, two: Floats) -> dict[str, float]:
    """How much longer is one of two sorted samples in the middle? Columns as in `Conformance.deviations`.

    Each median lies between two order statistics whatever the distribution; the bounds of the difference are put
    together from theirs (MOVER; Zou & Donner 2008).
    """
    (low, mid, high), (low2, mid2, high2) = _bound_median(one), _bound_median(two)
    extra = mid - mid2
    bounds = extra - float(np.hypot(mid - low, high2 - mid2)), extra + float(np.hypot(high - mid, mid2 - low2))
    return dict(zip(_TIMES, (mid, mid2, extra, *bounds), strict=True))


def _bound_median(ordered: Floats) -> tuple[float, float, float]:
    n = len(ordered)
    middle, reach = (n - 1) / 2, _Z * np.sqrt(n) / 2
    low, high = max(int(np.floor(middle - reach)), 0), min(int(np.ceil(middle + reach)), n - 1)
    mid = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return float(ordered[low]), float(mid), float(ordered[high])


def list_variants(laid: Laid, plan: PlannedPath, members: Bools, top: int) -> pd.DataFrame:
    """Which whole journeys are most frequent, and how do they lie along the path? As in `Conformance.variants`."""
    import pandas as pd

    sizes = np.bincount(laid.log.variant[members & ~laid.is_open], minlength=len(laid.cost))
    # Among equally frequent ones the shorter: there may be as many as there are journeys, too many to sort by name.
    frequent = np.argsort(-sizes, kind="stable")[:top]
    frequent = frequent[sizes[frequent] > 0]
    table = pd.DataFrame(
        {
            "variant": [_name_events(laid, variant) for variant in frequent],
            "alignment": [_tell(laid, plan, variant) for variant in frequent],
            "n_journeys": sizes[frequent],
            "share": sizes[frequent] / sizes.sum(),
            "cost": laid.cost[frequent],
            "fitness": laid.fitness[frequent],
        }
    )
    return table.sort_values(["n_journeys", "variant"], ascending=[False, True], ignore_index=True)


def _name_events(laid: Laid, variant: int) -> tuple[str, ...]:
    return tuple(laid.log.events[code] for code in laid.log.variants[np.array([variant])].codes)


def _tell(laid: Laid, plan: PlannedPath, variant: int) -> tuple[str, ...]:
    """The events of a variant, each with what is wrong with it, and what was skipped at its place."""
    log, alignment, kind = laid.log, laid.alignment, laid.place[variant]
    codes = log.variants[np.array([variant])].codes
    steps = iter(range(laid.short.bounds[kind], laid.short.bounds[kind + 1]))
    skipped = [int(step) for step in np.flatnonzero(alignment.skipped[kind])]
    told: list[str] = []
    for code in codes:
        event = log.events[code]
        if not log.belongs[:, code].any():
            told.append(f"{event} (inserted)")
            continue
        place = next(steps)
        step = int(alignment.place[place])
        if step < 0:
            told.append(f"{event} ({'reordered' if alignment.moved[place] >= 0 else 'repeated'})")
            continue
        told += [f"{plan.labels[before]} (skipped)" for before in skipped if before < step]
        skipped = [before for before in skipped if before > step]
        told.append(event)
    return (*told, *(f"{plan.labels[step]} (skipped)" for step in skipped))


def list_journeys(laid: Laid) -> ibis.Table:
    """How far does each journey keep to the path? Columns as in `Conformance.journeys`."""
    log, alignment, short = laid.log, laid.alignment, laid.short_of
    columns = {
        "n_events": laid.n_events[log.variant],
        "cost": laid.cost[log.variant],
        "fitness": laid.fitness[log.variant],
        "n_skipped": alignment.skipped.sum(axis=1)[short],
        "n_reordered": alignment.reordered.sum(axis=1)[short],
        "n_repeated": alignment.repeated.sum(axis=1)[short],
        "n_inserted": laid.n_inserted[log.variant],
    }
    table = log.table.select(["journey_id", "customer_id", "is_open"])
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return ibis.memtable(table)
