"""Where most units are lost, and where more are lost than elsewhere."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.formats import format_count, format_interval, format_name, format_points, format_share
from journeylab.funnel import Funnel, find_unit_events, join_groups, name_columns, name_values
from journeylab.language import gettext as _
from journeylab.shares import bound_shares, compare_shares
from journeylab.words import unit_of

if TYPE_CHECKING:
    import pandas as pd

_PLACE_COLUMNS = ("step", "label", "next_label", "n", "n_lost", "share_lost")
_GROUP_COLUMNS = ("share_lost_elsewhere", "difference", "low", "high", "p_adjusted", "excess_lost")
_NAN = float("nan")


def find_drop_offs(
    funnel: Funnel, *, steps: ibis.Table | None = None, value: str | None = None, min_n: int = 30
) -> pd.DataFrame:
    """Where is most lost, and where is more lost than in comparable places?

    Parameters
    ----------
    funnel
        From `build_funnel`. With `by`, each group is compared with all others at the same step.
    steps, value
        The steps that the funnel was built from, and a numeric column of theirs, such as ``"value"``, that says at the
        last step what a unit brought. A null counts 0; of several events at the same instant the largest counts.
    min_n
        A place with fewer units is flagged `is_small` and ranked last.

    Returns
    -------
    pandas.DataFrame
        One row per step but the last (and group): [the groups], step, label, next_label, n (units that reached the step
        and whose fate is known), n_lost, share_lost (of n), then

        without `by`: low and high (95 %, Wilson), share_of_losses (of all units lost), median_time_s (from step 1 to
        this one); most losses first;

        with `by`: share_lost_elsewhere (all other groups), difference with low and high (95 %, Newcombe), p_adjusted
        (Agresti-Caffo, Holm over all rows but the small), excess_lost (units lost beyond what the others' share would
        cost); the largest excess at the lower bound first;

        with `value`: value_each (what a unit of the group that went on from here brought on average, those who were
        lost later counting 0; where nobody of the group went on, what those of all groups brought), and value_lost
        (n_lost x value_each) or excess_value (excess_lost x value_each); ranked by it, with `by` at its lower bound;

        and is_small.

    Notes
    -----
    With a window only mature starts count. A late start that went on fast is known, one that did not is still open:
    to keep the first and leave out the second would flatter whoever came lately. Without a window nothing can mend
    that: units that are still on the way are left out, and a group of newcomers looks better than it is.

    Association, not cause: groups differ in more than their name. A value at stake says what the lost would have
    brought had they been like those who went on.
    """
    by = funnel.by
    if (steps is None) != (value is None):
        raise RuleError("find_drop_offs: value needs steps=, and steps needs value=: the column and where it is found")
    table = _count_places(funnel)
    table = _compare_groups(table, by, min_n) if by else _share_places(table, funnel)
    size, weight = ("excess_lost", table["low"] * table["n"]) if by else ("n_lost", table["n_lost"])
    if steps is not None and value is not None:
        table = _add_value(table, funnel, steps, value)
        table["excess_value" if by else "value_lost"] = table[size] * table["value_each"]
        weight = weight * table["value_each"]
    table["is_small"] = table["n"] < min_n
    order = table.assign(_weight=weight).sort_values(["is_small", "_weight"], ascending=[True, False], kind="stable")
    return order.drop(columns="_weight").reset_index(drop=True)


def _count_places(funnel: Funnel) -> pd.DataFrame:
    """How many reached each step and are known to have gone on or not?"""
    import pandas as pd

    table, required = funnel.table, funnel.rules.required
    # A share of two counts, times the lower one, is the upper one.
    mature = (table["conversion_mature"] * table["n_mature"]).fillna(0).round().astype(int)
    reached = mature.to_numpy().reshape(-1, len(funnel.labels))
    parts = []
    for step, following in pairwise(required):
        part = table[table["step"] == step]
        part = part.assign(next_label=funnel.labels[following - 1])
        if funnel.rules.within is None:
            part["n"] -= part["n_open"]
        else:
            part["n"], part["n_lost"] = reached[:, step - 1], reached[:, step - 1] - reached[:, following - 1]
        parts.append(part)
    places = pd.concat(parts, ignore_index=True)
    places["share_lost"] = places["n_lost"] / places["n"].where(places["n"] > 0)
    return places[[*funnel.by, *_PLACE_COLUMNS, "median_time_s"]]


def _share_places(places: pd.DataFrame, funnel: Funnel) -> pd.DataFrame:
    _, places["low"], places["high"] = bound_shares(places["n_lost"], places["n"])
    lost = places["n_lost"].sum()
    places["share_of_losses"] = places["n_lost"] / lost if lost else _NAN
    return places[[*_PLACE_COLUMNS, "low", "high", "share_of_losses", "median_time_s"]]


def _compare_groups(places: pd.DataFrame, by: tuple[str, ...], min_n: int) -> pd.DataFrame:
    whole = places.groupby("step")[["n", "n_lost"]].transform("sum")
    sides = places[["n"]].assign(
        n_reached=places["n_lost"], n_other=whole["n"] - places["n"], n_reached_other=whole["n_lost"] - places["n_lost"]
    )
    tested = compare_shares(sides, min_n).rename(columns={"share_other": "share_lost_elsewhere"})
    tested["excess_lost"] = tested["difference"] * places["n"]
    return places[[*by, *_PLACE_COLUMNS]].join(tested[list(_GROUP_COLUMNS)])


def _add_value(table: pd.DataFrame, funnel: Funnel, steps: ibis.Table, value: str) -> pd.DataFrame:
    """Add what a unit that went on from the step brought on average."""
    if value not in steps.columns or not steps[value].type().is_numeric():
        numbers = [name for name in steps.columns if steps[name].type().is_numeric()]
        raise RuleError(f'find_drop_offs: no number column "{value}" in steps.{nearest(value, numbers)}')
    units = funnel.units
    known = units.filter(~units.is_open if funnel.rules.within is None else units.is_mature)
    events = find_unit_events(steps, funnel.rules, funnel.as_of)
    events = events.select(unit="_unit", reached_position="position", _brought=events[value].cast("float64"))
    known = known.left_join(events, ["unit", "reached_position"])
    has_finished = known.reached == len(funnel.labels)
    brought = ibis.ifelse(has_finished, known["_brought"].fill_null(0), 0.0)
    sums = {
        str(step): brought.mean(where=known.reached >= following) for step, following in pairwise(funnel.rules.required)
    }
    overall = known.agg(**sums).execute().iloc[0].astype(float)
    table["value_each"] = table["step"].astype(str).map(overall).astype(float)
    if funnel.by and len(table):
        groups = join_groups(table, funnel.by)
        means = known.group_by("group").agg(**sums).execute().set_index("group").astype(float)
        means = means.reindex(groups.unique()).fillna(overall)
        table["value_each"] = [means.at[place] for place in zip(groups, table["step"].astype(str), strict=True)]
    return table


def describe_drop_off(findings: pd.DataFrame, funnel: Funnel) -> str:
    """What is the first finding of `find_drop_offs`, in one sentence with its base and interval?

    Between groups a finding counts where its adjusted p is below 0.05 and its group is not small.
    """
    by, unit, within = funnel.by, funnel.rules.unit, funnel.rules.within
    if not by:
        return _describe_most(findings, unit, within)
    sure = findings[~findings["is_small"] & (findings["difference"] > 0) & (findings["p_adjusted"] < 0.05)]
    named = {"units": unit_of(unit, 0), "columns": name_columns(by)}
    if not (findings["p_adjusted"].notna() & ~findings["is_small"]).any():
        return _(
            "Too few {units} to compare: no {columns} is large enough at any step, or nobody's time has passed yet.",
            **named,
        )
    if sure.empty:
        return _("No {columns} loses more {units} at any step than the others do, beyond chance.", **named)
    top = sure.iloc[0]
    counts = {
        "n": int(top["n"]),
        "units": unit_of(unit, top["n"]),
        "group": ", ".join(name_values(top, by)),
        "label": format_name(top["label"]),
        "share": format_share(top["share_lost"]),
        "following": format_name(top["next_label"]),
        "elsewhere": format_share(top["share_lost_elsewhere"]),
        "interval": format_interval(top["low"], top["high"], format_points),
        "excess": format_count(top["excess_lost"]),
        "more_units": unit_of(unit, round(top["excess_lost"])),
    }
    if within is None:
        finding = _(
            "Of the {n} {units} of {group} who reached {label} and are not still on the way, {share} never reached "
            "{following}, against {elsewhere} elsewhere (95 % interval of the difference: {interval}): about {excess} "
            "more {more_units} than expected",
            **counts,
        )
    else:
        finding = _(
            "Of the {n} {units} of {group} who reached {label} and whose {within} are over, {share} never reached "
            "{following}, against {elsewhere} elsewhere (95 % interval of the difference: {interval}): about {excess} "
            "more {more_units} than expected",
            within=within,
            **counts,
        )
    if "excess_value" not in findings:
        return f"{finding}."
    return _("{finding}, worth about {value}.", finding=finding, value=format_count(top["excess_value"]))


def _describe_most(findings: pd.DataFrame, unit: str, within: str | None) -> str:
    sure = findings[~findings["is_small"] & (findings["n_lost"] > 0)]
    if sure.empty:
        return _("No step has lost {units} yet among enough whose time has passed.", units=unit_of(unit, 0))
    top = sure.iloc[0]
    counts = {
        "label": format_name(top["label"]),
        "following": format_name(top["next_label"]),
        "n": int(top["n"]),
        "units": unit_of(unit, top["n"]),
        "n_lost": int(top["n_lost"]),
        "share": format_share(top["share_lost"]),
        "interval": format_interval(top["low"], top["high"], format_share),
        "of_all": format_share(top["share_of_losses"]),
    }
    if within is None:
        finding = _(
            "Most is lost between {label} and {following}: of the {n} {units} who reached {label} and are not still on "
            "the way, {n_lost} ({share}, 95 % interval {interval}) never reached {following}: {of_all} of all losses",
            **counts,
        )
    else:
        finding = _(
            "Most is lost between {label} and {following}: of the {n} {units} who reached {label} and whose {within} "
            "are over, {n_lost} ({share}, 95 % interval {interval}) never reached {following}: {of_all} of all losses",
            within=within,
            **counts,
        )
    if "value_lost" not in findings:
        return f"{finding}."
    return _("{finding} and about {value} of value.", finding=finding, value=format_count(top["value_lost"]))
