"""Cost against effect: what do contacts cost, and do journeys with them reach the goal more often?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import pandas as pd

from journeylab.errors import RuleError
from journeylab.formats import format_count, format_interval, format_name, format_points, format_share
from journeylab.journeymap.measure import read_seen
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.shares import compare_shares

if TYPE_CHECKING:
    from journeylab.journeymap.workshop import Workshop

#: Less than this nobody would pay for.
LEAST = 0.02
_COLUMNS = (
    *("stage", "event", "channel", "cost", "evidence", "n_contacts", "n_customers", "total"),
    *("n", "n_reached", "share", "n_other", "n_reached_other", "share_other", "difference", "low", "high"),
    *("p_adjusted", "is_small", "cost_per_goal", "is_costly", "is_idle"),
)


def count_contacts(seen: ibis.Table, workshop: Workshop) -> pd.DataFrame:
    """What do contacts cost at the touchpoints whose cost is known?

    A contact costs what the line with its channel says, else what the line for all channels says.

    Parameters
    ----------
    seen
        From `read_seen`.

    Returns
    -------
    pandas.DataFrame
        One row per such touchpoint of the workshop, in its order: stage, event, channel (empty: any other), cost (of
        one contact), evidence, n_contacts, n_customers, total (money).
    """
    lines = _list_lines(workshop)
    if lines.empty:
        return lines.assign(n_contacts=[], n_customers=[], total=[])
    marked = seen.mutate(_line=_find_line(seen, lines))
    marked = marked.filter(marked["_line"].notnull())
    counted = marked.group_by("_line").agg(n_contacts=marked.count(), n_customers=marked.customer_id.nunique())
    found = counted.execute().set_index("_line").reindex(lines.index, fill_value=0)
    table = lines.join(found)
    return table.assign(total=table["cost"] * table["n_contacts"])


def _list_lines(workshop: Workshop) -> pd.DataFrame:
    touchpoints = workshop.touchpoints
    known = touchpoints[touchpoints["cost"].notna()].reset_index(drop=True)
    return known[["stage", "event", "channel", "cost", "evidence"]]


def _find_line(seen: ibis.Table, lines: pd.DataFrame) -> ibis.Value:
    """The number of the line that says what an event costs; null if none does."""
    cases = []
    for i, line in lines.sort_values("channel", ascending=False, kind="stable").iterrows():
        fits = (seen.stage == line["stage"]) & (seen.event == line["event"])
        if line["channel"]:
            fits &= seen.channel == line["channel"] if "channel" in seen.columns else ibis.literal(False)
        cases.append((fits, ibis.literal(i, "int64")))
    return ibis.cases(*cases, else_=ibis.null("int64"))


def compare_costs(steps: ibis.Table, journeys: ibis.Table, workshop: Workshop, *, min_n: int = 30) -> pd.DataFrame:
    """What does each touchpoint cost, and does it go with reaching the goal?

    Parameters
    ----------
    steps, journeys
        From `build_steps` and `build_journeys`; only steps that `journeys` counts are looked at.
    workshop
        From `read_workshop`: its touchpoints with a cost.
    min_n
        With fewer journeys on a side a touchpoint is flagged `is_small` and not tested.

    Returns
    -------
    pandas.DataFrame
        One row per touchpoint, the dearest first:

        stage, event, channel (empty: any other), cost (of one contact), evidence, n_contacts, n_customers, total (cost
        of all contacts);

        of the journeys whose outcome is known and that came to the stage before they had reached the goal: n (with the
        contact, before the goal), n_reached (of n: that reached the goal afterwards), share, n_other, n_reached_other,
        share_other (without it), difference (share - share_other) with low and high (95 %, Newcombe 1998), p_adjusted
        (Agresti & Caffo 2000, Holm), is_small;

        cost_per_goal (total / n_reached; null if none), is_costly (of the dearest that together make half of all known
        cost), is_idle (costs money and is not seen to move anything: not small, and either the whole interval lies
        within two points of zero, or the touchpoint is costly and its interval holds zero).

    Notes
    -----
    Association, not cause: who is called may have been in trouble before. Only journeys at the same stage are compared,
    for others had no occasion; yet longer journeys have more occasions for everything. An interval that holds zero may
    be wide: it shows that nothing is seen, not that there is nothing.
    """
    lines = _list_lines(workshop)
    if lines.empty:
        raise RuleError("compare_costs: the workshop knows the cost of no touchpoint; fill it in, see write_template()")
    stages = list(dict.fromkeys(lines["stage"]))
    seen = read_seen(steps, journeys, stages)
    table = count_contacts(seen, workshop)
    effects = _count_effects(seen, journeys, lines).reindex(lines.index)
    counts = ["n", "n_reached", "n_other", "n_reached_other"]
    table[counts] = effects[counts].fillna(0).astype("int64")
    table = compare_shares(table, min_n)
    table["cost_per_goal"] = table["total"] / table["n_reached"].where(table["n_reached"] > 0)
    names = ["stage", "event", "channel"]
    table = table.sort_values(["total", *names], ascending=[False, True, True, True], ignore_index=True)
    half = table["total"].sum() / 2
    table["is_costly"] = (table["total"].cumsum() - table["total"] < half) & (table["total"] > 0)
    within = (table["low"] > -LEAST) & (table["high"] < LEAST)
    holds_zero = (table["low"] <= 0) & (table["high"] >= 0)
    table["is_idle"] = ~table["is_small"] & (table["total"] > 0) & (within | (table["is_costly"] & holds_zero))
    return table[list(_COLUMNS)]


def _count_effects(seen: ibis.Table, journeys: ibis.Table, lines: pd.DataFrame) -> pd.DataFrame:
    """By line: journeys at its stage with and without the contact, and how many of them reached the goal."""
    over = journeys.filter(~journeys.is_open | journeys.reached_goal).select("journey_id", "reached_goal")
    risked = seen.filter(seen.is_before_goal & seen.stage.notnull()).inner_join(over, "journey_id")
    marked = risked.mutate(_line=_find_line(risked, lines))
    flags = {f"_has_{i}": (marked["_line"] == i).fill_null(False).any() for i in lines.index}
    each = marked.group_by("journey_id", "stage", "reached_goal").agg(**flags)
    rows = []
    counts = {}
    for i, stage in lines["stage"].items():
        at, has = each.stage == stage, each[f"_has_{i}"]
        for name, who in (("n", at & has), ("n_other", at & ~has)):
            counts[f"{name}_{i}"] = who.cast("int64").sum()
            counts[f"{name.replace('n', 'n_reached', 1)}_{i}"] = (who & each.reached_goal).cast("int64").sum()
    (found,) = each.agg(**counts).to_pyarrow().to_pylist()
    for i in lines.index:
        names = ("n", "n_reached", "n_other", "n_reached_other")
        rows.append({name: found[f"{name}_{i}"] or 0 for name in names})
    return pd.DataFrame(rows, index=lines.index)


def describe_costs(table: pd.DataFrame) -> str:
    """Which touchpoint of `compare_costs` costs money and is not seen to move anything? One or two sentences."""
    if table["is_small"].all():
        return _("Too few journeys came to the touchpoints whose cost is known to compare them.")
    idle = table[table["is_idle"]]
    if idle.empty:
        return _("No touchpoint costs much without going with more or fewer journeys that reach the goal.")
    row = idle.iloc[0]
    place = " · ".join(format_name(name) for name in (row["event"], row["channel"]) if name)
    n = int(row["n_contacts"])
    values = {
        "place": place,
        "total": format_count(round(row["total"])),
        "n": format_count(n),
        "share": format_share(row["share"]),
        "other": format_share(row["share_other"]),
        "difference": format_points(row["difference"]),
        "interval": format_interval(row["low"], row["high"], format_points),
    }
    said = ngettext(
        "{place} cost {total} for {n} contact and is not seen to move anything: with it {share} of journeys reached "
        "the goal, without it {other} (difference {difference}, 95 % interval {interval}).",
        "{place} cost {total} for {n} contacts and is not seen to move anything: with it {share} of journeys reached "
        "the goal, without it {other} (difference {difference}, 95 % interval {interval}).",
        n,
        **values,
    )
    return said + " " + _("This is association, not cause: who needs a contact may differ from who does not.")
