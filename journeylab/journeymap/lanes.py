"""One filler per lane: rows of the map's cells from what was measured, stated or assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.journeymap.costs import count_contacts
from journeylab.journeymap.measure import count_items, measure_times
from journeylab.journeymap.wins import find_quick_wins, sum_efforts
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import ibis

    from journeylab.journeymap.workshop import Workshop

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """What the lanes are filled from; None: not asked."""

    seen: ibis.Table
    visits: ibis.Table
    reach: pd.DataFrame
    has_goal: bool
    way: str
    ways: pd.DataFrame | None
    feelings: pd.DataFrame | None
    pains: pd.DataFrame | None
    topics: pd.DataFrame | None
    workshop: Workshop
    n_customers: int
    top: int
    min_group: int


def _fill_items(lane: str, names: tuple[str, ...]) -> Callable[[Source], Rows]:
    def fill(source: Source) -> Rows:
        if not set(names) <= set(source.seen.columns):
            return []
        table = count_items(source.seen, names, top=source.top, min_group=source.min_group)
        table["n"] = table["stage"].map(dict(zip(source.reach["stage"], source.reach["n_customers"], strict=True)))
        table["value"], table["low"], table["high"] = bound_shares(table["n_customers"], table["n"])
        return _lay_out(table, lane, "share")

    return fill


def _fill_reach(source: Source) -> Rows:
    table = source.reach.assign(n=source.n_customers, item="")
    # A stage that nobody comes to is reached by none of them; that is measured, too.
    table["value"], table["low"], table["high"] = bound_shares(table["n_customers"].fillna(0), table["n"])
    return _lay_out(_hide_small(table, "n_customers", source.min_group), "reach", "share")


def _fill_drop_off(source: Source) -> Rows:
    # Without a goal there is none to miss.
    if not source.has_goal:
        return []
    table = source.reach[source.reach["n_known_customers"] >= source.min_group].assign(item="")
    table = table.rename(columns={"n_known": "n"})
    table["value"], table["low"], table["high"] = bound_shares(table["n_lost"], table["n"])
    return _lay_out(table, "drop_off", "share")


def _fill_times(source: Source) -> Rows:
    table = measure_times(source.visits).rename(columns={"median_s": "value"}).assign(item="")
    return _lay_out(table[table["n_customers"] >= source.min_group], "time", "s")


def _fill_feelings(source: Source) -> Rows:
    if source.feelings is None:
        return []
    table = source.feelings.rename(columns={"about_stage": "stage", "feeling": "value"}).assign(item="")
    table = table[table["n_customers"] >= source.min_group]
    return _lay_out(table.assign(n=table["n_customers"]), "feeling", "feeling", evidence="stated")


def _fill_said(source: Source) -> Rows:
    if source.topics is None:
        return []
    return _lay_out(source.topics[source.topics["n"] >= source.min_group], "said", "share", evidence="stated")


def _fill_pains(source: Source) -> Rows:
    if source.pains is None:
        return []
    table = source.pains[~source.pains["is_small"]].rename(
        columns={"share_hit": "value", "hit_low": "low", "hit_high": "high", "n_passed": "n"}
    )
    table["item"] = [" · ".join(name for name in pair if name != "(none)") for pair in _pairs(table)]
    table["note"] = table["kinds"]
    return _lay_out(table.groupby("stage", sort=False).head(source.top), "pain_points", "share")


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["touchpoint"], table["channel"], strict=True))


def _fill_wins(source: Source) -> Rows:
    if source.ways is None:
        return []
    efforts = source.workshop.touchpoints
    # Efforts are known by channel.
    efforts = efforts if source.way == "channel" else efforts.iloc[:0]
    ways = source.ways[source.ways["n_customers"] >= source.min_group]
    wins = find_quick_wins(ways, sum_efforts(efforts, ways), top=source.top)
    table = wins.assign(item=wins["way"], value=wins["gain"], note=wins["best_way"])
    return _lay_out(table, "quick_wins", "count")


def _fill_cost(source: Source) -> Rows:
    table = count_contacts(source.seen, source.workshop)
    table = _hide_small(table, "n_customers", source.min_group)
    table = table.rename(columns={"n_contacts": "n", "total": "value"})
    table["item"] = [" · ".join(filter(None, pair)) for pair in zip(table["event"], table["channel"], strict=True)]
    table = table.sort_values(["stage", "value", "item"], ascending=[True, False, True])
    return _lay_out(table.groupby("stage", sort=False).head(source.top), "cost", "money")


def _fill_known(lane: str) -> Callable[[Source], Rows]:
    def fill(source: Source) -> Rows:
        rows = source.workshop.rows
        return _lay_out(rows[rows["lane"] == lane].drop(columns="lane"), lane, "text")

    return fill


def _hide_small(table: pd.DataFrame, count: str, min_group: int) -> pd.DataFrame:
    """Leave out what so few customers stand behind that they could be recognised."""
    return table[(table[count].fillna(0) == 0) | (table[count] >= min_group)]


def _lay_out(table: pd.DataFrame, lane: str, unit: str, *, evidence: str = "measured") -> Rows:
    """Rows of cells: ranked within their stage in the order they come in."""
    names = ["stage", "item", "value", "unit", "n", "low", "high", "evidence", "note"]
    given = {"unit": unit, "evidence": evidence, "note": ""}
    kept = table.assign(**{name: value for name, value in given.items() if name not in table.columns})
    kept = kept.reindex(columns=names)
    kept["rank"] = kept.groupby("stage").cumcount() + 1
    return [{"lane": lane} | {str(name): value for name, value in row.items()} for row in kept.to_dict("records")]


#: What fills each lane.
FILLERS: Mapping[str, Callable[[Source], Rows]] = {
    "steps": _fill_items("steps", ("event",)),
    "touchpoints": _fill_items("touchpoints", ("event", "channel")),
    "channels": _fill_items("channels", ("channel",)),
    "reach": _fill_reach,
    "time": _fill_times,
    "drop_off": _fill_drop_off,
    "feeling": _fill_feelings,
    "said": _fill_said,
    "pain_points": _fill_pains,
    **{lane: _fill_known(lane) for lane in ("expectations", "owner", "front_stage", "backstage", "support", "kpis")},
    "cost": _fill_cost,
    "quick_wins": _fill_wins,
}
