"""Journeys of accounts, where several people in several roles decide: who takes part, and whose step is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.funnel import Funnel, find_unit_events, mark_steps
from journeylab.rules import parse_duration
from journeylab.shares import bound_shares, compare_shares

if TYPE_CHECKING:
    import pandas as pd

_NO_ROLE = "(none)"
_STALL_COLUMNS = (
    *("step", "label", "role", "n", "n_lost", "share_lost", "low", "high"),
    *("share_lost_elsewhere", "difference", "difference_low", "difference_high", "p_adjusted", "is_small"),
    *("next_role", "share_next_role"),
)


def count_accounts(steps: ibis.Table) -> pd.DataFrame:
    """How many accounts, people and roles are there, and how many events belong to no account or to no role?

    Parameters
    ----------
    steps
        From `build_steps`, with the columns account_id and role.

    Returns
    -------
    pandas.DataFrame
        One row: n_accounts, n_people (customers with an account), n_roles, n_events, n_events_without_account (left out
        of every answer about accounts), n_events_without_role (of those with an account).
    """
    _check_columns(steps, "count_accounts")
    has_account = steps.account_id.notnull()
    counted: pd.DataFrame = steps.agg(
        n_accounts=steps.account_id.nunique(),
        n_people=steps.customer_id.nunique(where=has_account),
        n_roles=steps.role.nunique(where=has_account),
        n_events=steps.count(),
        n_events_without_account=steps.count(where=~has_account),
        n_events_without_role=steps.count(where=has_account & steps.role.isnull()),
    ).execute()
    return counted


def count_roles(
    steps: ibis.Table, funnel: Funnel, *, within: str | None = "14D", of: Literal["roles", "people"] = "roles"
) -> pd.DataFrame:
    """Do accounts with more roles (or people) involved reach the goal more often?

    Parameters
    ----------
    steps
        The steps that the funnel was built from, with the columns account_id and role.
    funnel
        From `build_funnel` with ``FunnelRules(…, unit="account")``; the goal is its last step.
    within
        Look at all accounts after the same time: who was involved in the first 14 days, and, of the accounts that were
        then still under way, which reached the goal later? None: who was involved on the whole way (see Notes).
    of
        Count different roles, or different people (customers).

    Returns
    -------
    pandas.DataFrame
        One row per number: n_roles or n_people (from the start of step 1, up to the time above; 0: no event has a
        role), n (accounts whose time is over), n_converted, share (of n) with low and high (95 %, Wilson), n_open
        (accounts beside them that are still on the way). With a window only mature starts are in n. Events without an
        account are left out; `count_accounts` says how many they are.

    Notes
    -----
    The answer is the one after a fixed time (a landmark). On the whole way, accounts that reach the goal stop being
    watched there, and the others are watched until they are lost or the log ends: time alone brings them more roles,
    and few roles would seem to go with success. Accounts that reached the goal, or were lost, before the landmark are
    in no row: say so when you show it. Without a window an account is under way if at that time it had not been silent
    for longer than `dormant_after`. Association, not cause.
    """
    if of not in ("roles", "people"):
        raise RuleError(f'count_roles: of must be "roles" or "people"; found "{of}"')
    _check_columns(steps, "count_roles")
    _check_unit(funnel, "count_roles")
    units = _select_under_way(steps, funnel, within)
    seen = find_unit_events(steps, funnel.rules, funnel.as_of).select("_unit", "timestamp", "role", "customer_id")
    involved = units.join(seen, units.unit == seen["_unit"])
    is_before_goal = (involved.timestamp < involved.goal_time).fill_null(True)
    # The start counts even where the goal has the same time, told apart by seq or event_id alone.
    is_before_goal = is_before_goal | (involved.timestamp == involved.time_1)
    involved = involved.filter(is_before_goal & involved.timestamp.between(involved.time_1, involved.end))
    per_account = involved.group_by("unit", "is_settled", "is_converted", "is_open").agg(
        n_involved=(involved.role if of == "roles" else involved.customer_id).nunique()
    )
    counted = per_account.group_by("n_involved").agg(
        n=per_account.count(where=per_account.is_settled),
        n_converted=per_account.count(where=per_account.is_settled & per_account.is_converted),
        n_open=per_account.count(where=per_account.is_open),
    )
    table: pd.DataFrame = counted.execute().sort_values("n_involved", ignore_index=True)
    table["share"], table["low"], table["high"] = bound_shares(table["n_converted"], table["n"])
    names = ["n_involved", "n", "n_converted", "share", "low", "high", "n_open"]
    return table[names].rename(columns={"n_involved": f"n_{of}"})


def _select_under_way(steps: ibis.Table, funnel: Funnel, within: str | None) -> ibis.Table:
    """Which accounts are looked at, from when (time_1) until when (end, and before goal_time)?"""
    units, rules = funnel.units, funnel.rules
    units = units.mutate(
        goal_time=units[f"time_{len(funnel.labels)}"],
        is_converted=units.reached == len(funnel.labels),
        is_settled=~units.is_open if rules.within_s is None else units.is_mature,
    )
    names = ("unit", "time_1", "goal_time", "is_converted", "is_settled", "is_open")
    as_of = ibis.literal(funnel.as_of, "timestamp(6)")
    if within is None:
        return units.select(*names, end=ibis.coalesce(units.lost_time, as_of))
    landmark_s = parse_duration(within, "count_roles: within")
    if rules.horizon_s is not None and landmark_s >= rules.horizon_s:
        raise RuleError(
            f"count_roles: within ({within}) must be shorter than the funnel's own window ({rules.within}); "
            "after that nobody is under way"
        )
    units = units.mutate(end=units.time_1 + ibis.interval(seconds=landmark_s))
    is_under_way = (units.end <= as_of) & (units.goal_time > units.end).fill_null(True)
    units = units.filter(is_under_way & (units.lost_time > units.end).fill_null(True))
    if rules.within_s is None:
        # Not by lost_time alone, which knows of the time after: who was silent at the landmark may have come back.
        seen = find_unit_events(steps, rules, funnel.as_of).select("_unit", "timestamp")
        before = units.join(seen, units.unit == seen["_unit"])
        last = before.filter(before.timestamp <= before.end).group_by("unit").agg(_last=lambda t: t.timestamp.max())
        units = units.join(last, "unit")
        units = units.filter(units.end.delta(units["_last"], unit="microsecond") <= rules.dormant_s * 1_000_000)
    return units.select(*names, "end")


def find_stalls(steps: ibis.Table, funnel: Funnel, *, min_n: int = 30) -> pd.DataFrame:
    """After which role's step do accounts get no further, and whose step is then waited for?

    Parameters
    ----------
    steps
        The steps that the funnel was built from, with the columns account_id and role.
    funnel
        From `build_funnel` with ``FunnelRules(…, unit="account")``.
    min_n
        A role with fewer accounts at a step is flagged `is_small` and ranked last; it is not tested, and no other is
        tested against so few.

    Returns
    -------
    pandas.DataFrame
        One row per required step but the last, and role of who did it ("(none)" where the event has none): step, label,
        role, n (accounts whose time is over), n_lost (that got no further), share_lost with low and high (95 %,
        Wilson), share_lost_elsewhere (after other roles' doing the same step), difference with difference_low and
        difference_high (95 %, Newcombe), p_adjusted (Agresti-Caffo, Holm over all tested rows), is_small, next_role
        (who most often did the next step in accounts that went on, so the one that is waited for; null if none did)
        and share_next_role (of those that went on). Most accounts lost beyond what the others' share would cost, at the
        lower bound, first. Events without an account are left out; `count_accounts` says how many they are.

    Notes
    -----
    Of several fitting events at the same instant the first in the account's order has done the step. With a window only
    mature starts count, without one those that are not still on the way. Association, not cause: a role may come in
    where an account is in trouble anyway.
    """
    import pandas as pd

    _check_columns(steps, "find_stalls")
    _check_unit(funnel, "find_stalls")
    counted = _count_actors(steps, funnel)
    rows = []
    for step, role in counted[["step", "role"]].drop_duplicates().itertuples(index=False):
        cell = counted[(counted["step"] == step) & (counted["role"] == role)]
        went_on = cell[~cell["is_lost"]].groupby("next_role")["n"].sum()
        n, n_going = int(cell["n"].sum()), int(went_on.sum())
        place = {"step": step, "label": funnel.labels[step - 1], "role": role, "n": n, "n_lost": n - n_going}
        place["next_role"] = went_on.idxmax() if n_going else None
        place["share_next_role"] = went_on.max() / n_going if n_going else float("nan")
        rows.append(place)
    table = pd.DataFrame(rows, columns=["step", "label", "role", "n", "n_lost", "next_role", "share_next_role"])
    # Where no account's time is over there are no rows, and no types.
    table = table.astype({"n": "int64", "n_lost": "int64"})
    at_step = table.groupby("step")[["n", "n_lost"]].transform("sum")
    sides = table[["n"]].assign(n_reached=table["n_lost"])
    sides[["n_other", "n_reached_other"]] = at_step - table[["n", "n_lost"]]
    tested = compare_shares(sides, min_n)
    table["share_lost"], table["low"], table["high"] = bound_shares(table["n_lost"], table["n"])
    table["share_lost_elsewhere"], table["p_adjusted"] = tested["share_other"], tested["p_adjusted"]
    table[["difference", "difference_low", "difference_high"]] = tested[["difference", "low", "high"]]
    table["is_small"] = table["n"] < min_n
    table["_surest"] = table["difference_low"] * table["n"]
    ranked = table.sort_values(["is_small", "_surest"], ascending=[True, False], kind="stable")
    return ranked[list(_STALL_COLUMNS)].reset_index(drop=True)


def _count_actors(steps: ibis.Table, funnel: Funnel) -> pd.DataFrame:
    """Settled accounts by step, role of who did it, role of who did the next, and whether they got no further."""
    rules, units = funnel.rules, funnel.units
    reached = [units.select("unit", step=ibis.literal(i, "int64"), time=f"time_{i}") for i in rules.required]
    asked = ibis.union(*reached)
    asked = asked.filter(asked.time.notnull())
    seen = find_unit_events(steps, rules, funnel.as_of)
    flags = mark_steps(seen, funnel)
    seen = seen.mutate(**{f"_is_{i}": flags[i] for i in rules.required})
    acts = asked.join(seen, [asked.unit == seen["_unit"], asked.time == seen.timestamp], rname="{name}_of_event")
    acts = acts.filter(ibis.or_(*((acts.step == i) & acts[f"_is_{i}"] for i in rules.required)))
    role = acts.role.fill_null(_NO_ROLE)
    actors = acts.group_by("unit", "step").agg(role=role.argmin(acts.position))
    along = ibis.window(group_by="unit", order_by="step")
    actors = actors.mutate(next_role=actors.role.lead().over(along))
    settled = units.filter(~units.is_open if rules.within_s is None else units.is_mature)
    actors = actors.join(settled.select("unit", "reached"), "unit")
    actors = actors.filter(actors.step < len(funnel.labels))
    actors = actors.mutate(is_lost=actors.reached == actors.step)
    counted: pd.DataFrame = actors.group_by("step", "role", "next_role", "is_lost").agg(n=actors.count()).execute()
    return counted.sort_values(["step", "role", "next_role"])


def _check_columns(steps: ibis.Table, where: str) -> None:
    missing = [name for name in ("account_id", "role") if name not in steps.columns]
    if missing:
        hints = " and ".join(f'"{name}"{nearest(name, steps.columns)}' for name in missing)
        raise RuleError(
            f"{where} needs the columns account_id and role; missing: {hints}. Map them in read_events(columns=)"
        )


def _check_unit(funnel: Funnel, where: str) -> None:
    if funnel.rules.unit != "account":
        raise RuleError(
            f'{where} needs a funnel of accounts: build it with FunnelRules(…, unit="account"); '
            f'found unit="{funnel.rules.unit}"'
        )
