"""A day in the life: when do customers do what they do at each stage, and who of an account does it?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd

from journeylab.engine import utc_to_local
from journeylab.errors import RuleError, nearest
from journeylab.journeymap.measure import read_seen
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import ibis

    from journeylab.rules import JourneyRules

_NO_ROLE = "(none)"


def count_day(
    steps: ibis.Table, journeys: ibis.Table, rules: JourneyRules, *, tz: str | None = None, min_group: int = 10
) -> pd.DataFrame:
    """At which hours and on which weekdays are customers at each stage?

    Parameters
    ----------
    steps, journeys, rules
        As for `build_map`.
    tz
        Whose clock, such as ``"Europe/Warsaw"``; default: UTC. DuckDB only.
    min_group
        Hours in which fewer customers were there are left out.

    Returns
    -------
    pandas.DataFrame
        One row per stage, weekday and hour with at least `min_group` customers, in this order: stage, weekday (int64,
        0 is Monday), hour (int64, 0 to 23), n_events, n_customers, share (of the stage's events, those left out
        included).
    """
    if not rules.stages:
        raise RuleError("count_day: the rules have no stages; name them in order, as in data/reference/ecommerce.toml")
    _check_zone(tz, steps.get_backend().name)
    seen = read_seen(steps, journeys, rules.stages)
    seen = seen.filter(seen.stage.notnull())
    clock = seen.timestamp if tz is None else utc_to_local(seen.timestamp, tz)
    counted = seen.group_by("stage", weekday=clock.day_of_week.index().cast("int64"), hour=clock.hour().cast("int64"))
    table: pd.DataFrame = counted.agg(n_events=seen.count(), n_customers=seen.customer_id.nunique()).execute()
    table["share"] = table["n_events"] / table.groupby("stage")["n_events"].transform("sum")
    table = table[table["n_customers"] >= min_group]
    order = table["stage"].map({stage: i for i, stage in enumerate(rules.stages)})
    return (
        table.assign(_order=order).sort_values(["_order", "weekday", "hour"], ignore_index=True).drop(columns="_order")
    )


def _check_zone(tz: str | None, backend: str) -> None:
    if tz is None:
        return
    if backend != "duckdb":
        raise RuleError(f"count_day: tz= works on DuckDB; {backend} counts hours in UTC")
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:
        near = nearest(tz, available_timezones())
        raise RuleError(
            f'count_day: tz "{tz}" is not a time zone.{near} Expected a name such as Europe/Warsaw or UTC'
        ) from error


def count_stage_roles(
    steps: ibis.Table, journeys: ibis.Table, rules: JourneyRules, *, min_group: int = 10
) -> pd.DataFrame:
    """Of the accounts that come to each stage, in how many does each role take part there?

    Parameters
    ----------
    steps
        From `build_steps`, with the columns account_id and role; events without an account are left out
        (`count_accounts` says how many).
    journeys, rules
        As for `build_map`.
    min_group
        Roles of fewer accounts at a stage are left out.

    Returns
    -------
    pandas.DataFrame
        One row per stage and role ("(none)" where the event has none), stages in their order, most accounts first:
        stage, role, n_accounts (in which the role did something there), n (accounts that came there), share (of n) with
        low and high (95 %, Wilson), n_people, n_events. An account has several roles: shares add up to more than 1.
    """
    missing = [name for name in ("account_id", "role") if name not in steps.columns]
    if missing:
        hints = " and ".join(f'"{name}"{nearest(name, steps.columns)}' for name in missing)
        raise RuleError(f"count_stage_roles needs the columns account_id and role; missing: {hints}")
    seen = read_seen(steps, journeys, rules.stages, ("account_id", "role"))
    seen = seen.filter(seen.stage.notnull() & seen.account_id.notnull())
    base = seen.group_by("stage").agg(n=seen.account_id.nunique()).execute()
    counted = seen.group_by("stage", role=seen.role.fill_null(_NO_ROLE)).agg(
        n_accounts=seen.account_id.nunique(), n_people=seen.customer_id.nunique(), n_events=seen.count()
    )
    table: pd.DataFrame = counted.execute().merge(base, on="stage")
    table = table[table["n_accounts"] >= min_group]
    table["share"], table["low"], table["high"] = bound_shares(table["n_accounts"], table["n"])
    table["_order"] = table["stage"].map({stage: i for i, stage in enumerate(rules.stages)})
    table = table.sort_values(["_order", "n_accounts", "role"], ascending=[True, False, True], ignore_index=True)
    return table[["stage", "role", "n_accounts", "n", "share", "low", "high", "n_people", "n_events"]]
