"""Planned against actual: how far do real journeys keep to the path of the workshop, and where do they leave it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis
import numpy as np

from journeylab.alignment import Laid, lay_out
from journeylab.deviations import (
    COLUMNS,
    VARIANT_COLUMNS,
    find_deviations,
    judge,
    list_journeys,
    list_variants,
    tabulate_deviations,
)
from journeylab.errors import RuleError
from journeylab.formats import (
    format_count,
    format_duration,
    format_interval,
    format_name,
    format_number,
    format_points,
    format_share,
)
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.planned_path import Bools, PlannedPath, read_log
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import pandas as pd

_Z = 1.959963984540054  # of a 95 % interval
_MOST_GROUPS = 5  # that sentences are about
_SUMMARY_COLUMNS = (
    *("n_journeys", "n_customers", "n_open", "n_fitting", "share", "low", "high"),
    *("fitness", "fitness_low", "fitness_high", "cost", "n_open_fitting"),
)
_STEP_COLUMNS = (
    *("step", "label", "n", "n_done", "share", "low", "high", "n_reordered", "n_skipped", "n_ended", "n_left_out"),
    *("n_repeated", "n_open_done", "n_not_yet"),
)


@dataclass(frozen=True, eq=False)
class Conformance:
    """The answer of `check_conformance`.

    Shares have the journeys that are over as their base; those still open stand beside them. With `by` every table has
    the group in front, the largest first, and each group its own base.

    Attributes
    ----------
    summary
        One row (per group): n_journeys and n_customers (of journeys that are over), n_open, n_fitting (nothing out of
        place), share (of n_journeys) with low and high (95 %, Wilson), fitness (mean, 0 to 1) with fitness_low and
        fitness_high (95 %, normal), cost (sum), n_open_fitting (open journeys with nothing out of place so far).
    steps
        One row per planned step: step (from 1), label, n (journeys that are over) = n_done (at its place) + n_reordered
        (out of its place) + n_skipped + n_left_out (it is optional), share (n_done of n) with low and high; n_ended (of
        n_skipped: no later step was done at its place either), n_repeated (journeys with it more often than planned),
        n_open_done, n_not_yet (open journeys that may still do it).
    deviations
        One row per kind and planned step or, if "inserted", event; most journeys first:

        kind ("skipped": the step was not done at all; "reordered": done, but out of its place; "repeated": done once
        more than planned; "inserted": an event that is in no step), step (from 1; null if inserted), event (the step's
        label or the event), n (times), n_journeys, n_customers, share (of journeys) with low and high, n_ended (of
        n_journeys: no later step was done at its place either), n_open (open journeys with it, beside them), cost
        (their part of the summary's; all rows add up to it);

        median_s, median_other_s (duration of journeys with and without it), extra_s (the difference) with extra_low_s
        and extra_high_s (95 %), all null where `is_small`; conversion, conversion_other (share that reached the goal;
        null if no journey did), difference with difference_low and difference_high (95 %, Newcombe), p (Agresti-Caffo)
        and p_adjusted (Holm over all tested rows), is_small (fewer than `min_n` on a side: not tested).
    variants
        The most frequent whole journeys of those that are over: variant (tuple of events), alignment (tuple of the same
        in words, with the steps that were skipped), n_journeys, share, cost, fitness.
    journeys : ibis.Table
        One row per journey: journey_id, customer_id, is_open, n_events (that were looked at), cost, fitness,
        n_skipped, n_reordered, n_repeated, n_inserted.
    """

    plan: PlannedPath
    by: str | None
    summary: pd.DataFrame
    steps: pd.DataFrame
    deviations: pd.DataFrame
    variants: pd.DataFrame
    journeys: ibis.Table


def check_conformance(
    steps: ibis.Table,
    journeys: ibis.Table,
    plan: PlannedPath | Sequence[str | Sequence[str]],
    *,
    by: str | None = None,
    top: int = 20,
    min_n: int = 30,
) -> Conformance:
    """How far do real journeys keep to the planned path, where do they leave it, and what goes with that?

    Parameters
    ----------
    steps, journeys
        From `build_steps` and `build_journeys`, which says until when journeys were watched and which are still open.
    plan
        The planned path, or just its steps.
    by
        Split the answer by this column of `journeys`, or of `steps` as it stands at a journey's first event.
    top
        How many variants (of each group).
    min_n
        A deviation with fewer journeys on a side, with it or without, is flagged `is_small` and not tested.

    Notes
    -----
    Each journey is laid along the path at the least cost (Adriansyah 2014; ties: see `alignment.align`): every event
    out of place costs 1, every planned step not done at its place 1, optional ones nothing. So a step done out of order
    costs 2, and an event that the plan does not know counts, unless `ignore` names it. Fitness is 1 - cost / (events +
    steps that are not optional): 1 is as planned, 0 has nothing in common. An open journey has not skipped what it may
    still do: the steps after the last one that it has done cost nothing, and its fitness is 1 - cost / events.

    Time and conversion are association, not cause: a journey with one event more takes longer for that alone, one that
    ended early is short, and one that skipped the goal cannot have reached it. A group of newcomers has few journeys
    that are over, the short ones among them.
    """
    plan = plan if isinstance(plan, PlannedPath) else PlannedPath(plan)
    if top < 1:
        raise RuleError(f"check_conformance: top must be at least 1, found {top}")
    if by in {*_SUMMARY_COLUMNS, *_STEP_COLUMNS, *COLUMNS, *VARIANT_COLUMNS}:
        raise RuleError(
            f'check_conformance: "{by}" is a column of the answer itself; rename yours in read_events(columns=)'
        )
    laid = lay_out(read_log(steps, journeys, plan, by), plan)
    found = find_deviations(laid, plan)
    groups = list(laid.split())
    deviations = _join([tabulate_deviations(laid, found, members, min_n) for _, members in groups], groups, by)
    return Conformance(
        plan=plan,
        by=by,
        summary=_join([_summarise(laid, members) for _, members in groups], groups, by),
        steps=_join([_tabulate_steps(laid, plan, members) for _, members in groups], groups, by),
        deviations=judge(deviations, min_n)[[*([by] if by else []), *COLUMNS]],
        variants=_join([list_variants(laid, plan, members, top) for _, members in groups], groups, by),
        journeys=list_journeys(laid),
    )


def _join(parts: list[pd.DataFrame], groups: list[tuple[str | None, Bools]], by: str | None) -> pd.DataFrame:
    import pandas as pd

    if by is not None:
        for part, (name, _members) in zip(parts, groups, strict=True):
            part.insert(0, by, name)
    return pd.concat(parts, ignore_index=True)


def _summarise(laid: Laid, members: Bools) -> pd.DataFrame:
    import pandas as pd

    over, still = np.flatnonzero(members & ~laid.is_open), np.flatnonzero(members & laid.is_open)
    cost, fitness = laid.cost[laid.log.variant], laid.fitness[laid.log.variant[over]]
    n = len(over)
    mean = fitness.mean() if n else float("nan")
    margin = _Z * fitness.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    row = {
        "n_journeys": n,
        "n_customers": laid.count_customers(over),
        "n_open": len(still),
        "n_fitting": int(np.count_nonzero(cost[over] == 0)),
        "fitness": mean,
        "fitness_low": max(mean - margin, 0.0),
        "fitness_high": min(mean + margin, 1.0),
        "cost": int(cost[over].sum()),
        "n_open_fitting": int(np.count_nonzero(cost[still] == 0)),
    }
    return _add_share(pd.DataFrame([row]), "n_fitting", "n_journeys")[list(_SUMMARY_COLUMNS)]


def _add_share(table: pd.DataFrame, part: str, whole: str) -> pd.DataFrame:
    share, low, high = bound_shares(table[part], table[whole])
    return table.assign(share=share, low=low, high=high)


def _tabulate_steps(laid: Laid, plan: PlannedPath, members: Bools) -> pd.DataFrame:
    import pandas as pd

    alignment, n_kinds = laid.alignment, laid.short.shape[0]
    over = np.bincount(laid.short_of[members & ~laid.is_open], minlength=n_kinds)
    still = np.bincount(laid.short_of[members & laid.is_open], minlength=n_kinds)
    is_behind = np.logical_or.accumulate(alignment.done[:, ::-1], axis=1)[:, ::-1]
    table = pd.DataFrame(
        {
            "step": np.arange(1, len(plan.labels) + 1),
            "label": plan.labels,
            "n": over.sum(),
            "n_done": over @ alignment.done,
            "n_reordered": over @ alignment.reordered,
            "n_skipped": over @ alignment.skipped,
            "n_ended": over @ (alignment.ended & ~alignment.reordered),
            "n_repeated": over @ (alignment.repeated > 0),
            "n_open_done": still @ alignment.done,
            "n_not_yet": still @ ~is_behind,
        }
    )
    table["n_left_out"] = table["n"] - table["n_done"] - table["n_reordered"] - table["n_skipped"]
    return _add_share(table, "n_done", "n")[list(_STEP_COLUMNS)]


def describe_conformance(result: Conformance) -> str:
    """How far do journeys keep to the plan, and what is out of place most often? In words, with bases and intervals.

    With `by`, of the largest groups.
    """
    told = []
    for _number, row in result.summary.head(_MOST_GROUPS).iterrows():
        deviations = result.deviations
        if result.by is not None:
            deviations = deviations[deviations[result.by] == row[result.by]]
            told.append(_("{column} {group}:", column=format_name(result.by), group=format_name(row[result.by])))
        told += _describe_group(row, deviations)
    return " ".join(told)


def _describe_group(summary: pd.Series, deviations: pd.DataFrame) -> list[str]:
    n = summary["n_journeys"]
    if not n:
        return [
            ngettext(
                "{n} journey is still on its way and none is over: there is nothing yet to hold against the plan.",
                "{n} journeys are still on their way and none is over: there is nothing yet to hold against the plan.",
                summary["n_open"],
                n=format_count(summary["n_open"]),
            )
        ]
    told = [
        ngettext(
            "Of {n} journey that is over, {share} went exactly as planned (95 % interval {interval}); fitness is "
            "{fitness} on average, where 1 is as planned and 0 has nothing in common with the plan.",
            "Of {n} journeys that are over, {share} went exactly as planned (95 % interval {interval}); fitness is "
            "{fitness} on average, where 1 is as planned and 0 has nothing in common with the plan.",
            n,
            n=format_count(n),
            share=format_share(summary["share"]),
            interval=format_interval(summary["low"], summary["high"], format_share),
            fitness=format_number(summary["fitness"]),
        )
    ]
    if len(deviations) and deviations["n_journeys"].iloc[0]:
        top = deviations.iloc[0]
        told.append(_describe_deviation(top))
        told += _describe_price(top)
    return told


def _describe_deviation(top: pd.Series) -> str:
    messages = {
        "skipped": _("Most often {event} was skipped: in {n} of them ({share}), of which {ended} ended before it."),
        "reordered": _("Most often {event} was done out of its place: in {n} of them ({share})."),
        "repeated": _("Most often {event} was done again, though planned once: in {n} of them ({share})."),
        "inserted": _("Most often {event}, which is not in the plan, was done besides: in {n} of them ({share})."),
    }
    return messages[str(top["kind"])].format(
        event=format_name(top["event"]),
        n=format_count(top["n_journeys"]),
        share=format_share(top["share"]),
        ended=format_count(top["n_ended"]),
    )


def _describe_price(top: pd.Series) -> list[str]:
    """What goes with a deviation, as far as it is beyond chance."""
    told = []
    interval = (top["extra_low_s"], top["extra_high_s"])
    if interval[0] > 0 or interval[1] < 0:
        told.append(
            _(
                "Journeys with this take {median} at the median, the others {other} (95 % interval of the difference "
                "{low} to {high}).",
                median=format_duration(top["median_s"]),
                other=format_duration(top["median_other_s"]),
                low=format_duration(interval[0]),
                high=format_duration(interval[1]),
            )
        )
    if top["p_adjusted"] < 0.05:
        told.append(
            _(
                "{share} of them reach the goal, of the others {other}: {difference} (95 % interval {interval}).",
                share=format_share(top["conversion"]),
                other=format_share(top["conversion_other"]),
                difference=format_points(top["difference"]),
                interval=format_interval(top["difference_low"], top["difference_high"], format_points),
            )
        )
    if told:
        told.append(_("This is association, not cause."))
    return told
