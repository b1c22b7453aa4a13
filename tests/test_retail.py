"""A real shop's year: households that were mailed a campaign, redeemed a coupon of it or of another, and bought again.

The figures below came out of the package; each test walks the same rows in plain Python and must come to the same.
Campaigns have a first day and redemptions a date, no hour: a mailing stands at the day's beginning and a redemption at
its end, so that the basket in which a coupon was redeemed is not what was "bought again".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Row, fetch, group_rows

import journeylab as jl
from journeylab.comparison import compare_funnels

DATA = Path(__file__).parents[2] / "shared" / "data" / "complete_journey"
NAMES = ("mailed", "redeemed", "bought")
# The year of the transactions. Who was mailed before it may have redeemed unseen: those mailings are left out.
FIRST_DAY, END = "2017-01-01", datetime(2018, 1, 1)
WITHIN = timedelta(days=90)

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(DATA / f"{name}.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """One row per mailing, redemption and basket; the household's age and the campaign where there is one."""
    mailed = read("campaigns").merge(read("campaign_descriptions"), on="campaign_id")
    assert (len(mailed), mailed["household_id"].nunique()) == (6_589, 1_559)
    mailed["timestamp"] = mailed["start_date"] + " 00:00:00"
    redeemed = read("coupon_redemptions")
    assert (len(redeemed), redeemed["household_id"].nunique()) == (2_102, 410)
    redeemed["timestamp"] = redeemed["redemption_date"] + " 23:59:59"
    bought = read("transactions_sample")
    assert (len(bought), bought["household_id"].nunique()) == (75_000, 2_377)
    bought = bought.drop_duplicates("basket_id").rename(columns={"transaction_timestamp": "timestamp"})
    assert len(bought) == 47_243
    parts = [part.assign(event=name) for name, part in zip(NAMES, (mailed, redeemed, bought), strict=True)]
    names = ["household_id", "event", "timestamp", "campaign_id", "campaign_type", "coupon_upc", "basket_id"]
    log = pd.concat(parts, ignore_index=True)[names]
    log = log[(log["event"] != "mailed") | (log["timestamp"] >= FIRST_DAY)]
    assert (log["event"] == "mailed").sum() == 6_442
    demographics = read("demographics")[["household_id", "age"]]
    assert len(demographics) == 801
    log = log.merge(demographics, on="household_id", how="left")
    # Two campaigns can begin on one day: the lower number is the first.
    return log.assign(seq=log["campaign_id"].fillna("0"))


@pytest.fixture(scope="module")
def steps(log: pd.DataFrame) -> ibis.Table:
    events = jl.read_events(log, customer_id="household_id", con=jl.connect(threads=2))
    return jl.build_steps(events, jl.JourneyRules(journey_gap=None))


class Walk(NamedTuple):
    """The events that took a household through the steps, and its last event before the end."""

    taken: list[Row]
    last: datetime

    @property
    def start(self) -> datetime:
        return self.taken[0]["timestamp"]

    @property
    def is_converted(self) -> bool:
        return len(self.taken) == len(NAMES)


def walk_by_hand(log: pd.DataFrame, within: timedelta | None) -> dict[str, Walk]:
    rows = log.to_dict("records")
    for row in rows:
        row["timestamp"] = datetime.fromisoformat(row["timestamp"])
    walks = {}
    for household, history in group_rows((row for row in rows if row["timestamp"] <= END), "household_id").items():
        taken: list[Row] = []
        for row in sorted(history, key=lambda row: (row["timestamp"], int(row["seq"]))):
            if len(taken) < len(NAMES) and row["event"] == NAMES[len(taken)]:
                is_later = not taken or row["timestamp"] > taken[-1]["timestamp"]
                if is_later and (not taken or within is None or row["timestamp"] - taken[0]["timestamp"] <= within):
                    taken.append(row)
        if taken:
            walks[household] = Walk(taken, max(row["timestamp"] for row in history))
    return walks


def count_by_hand(walks: Iterable[Walk], within: timedelta | None) -> tuple[int, int, int, int]:
    """Started, converted, lost, still on the way."""
    counts: Counter[str] = Counter()
    for walk in walks:
        is_over = END - walk.start >= within if within else END - walk.last > timedelta(days=30)
        counts["converted" if walk.is_converted else "lost" if is_over else "open"] += 1
    return counts.total(), counts["converted"], counts["lost"], counts["open"]


def count_all(table: pd.DataFrame) -> tuple[int, int, int, int]:
    n = table["n"].tolist()
    return n[0], n[-1], int(table["n_lost"].sum()), int(table["n_open"].sum())


def build(steps: ibis.Table, *, within: str | None = "90D", by: str | None = None) -> jl.Funnel:
    return jl.build_funnel(steps, jl.FunnelRules(NAMES, within=within), by=by, as_of=END)


def test_the_year_without_a_window(log: pd.DataFrame, steps: ibis.Table) -> None:
    walks = walk_by_hand(log, None)
    funnel = build(steps, within=None)
    assert funnel.table["n"].tolist() == [1_546, 409, 398]
    assert funnel.table["n"].tolist() == [sum(len(w.taken) >= i for w in walks.values()) for i in (1, 2, 3)]
    assert count_all(funnel.table) == count_by_hand(walks.values(), None) == (1_546, 398, 297, 851)


def test_ninety_days(log: pd.DataFrame, steps: ibis.Table) -> None:
    walks = walk_by_hand(log, WITHIN)
    funnel = build(steps)
    assert funnel.table["n"].tolist() == [1_546, 219, 208]
    assert funnel.table["n"].tolist() == [sum(len(w.taken) >= i for w in walks.values()) for i in (1, 2, 3)]
    assert count_all(funnel.table) == count_by_hand(walks.values(), WITHIN) == (1_546, 208, 1_202, 136)


def test_who_is_in_the_window_at_the_end_of_the_year_is_not_lost(log: pd.DataFrame, steps: ibis.Table) -> None:
    walks = walk_by_hand(log, WITHIN)
    late = {household for household, walk in walks.items() if walk.start > END - WITHIN}
    units = {unit["unit"]: unit for unit in fetch(build(steps).units)}
    assert len(late) == 157
    for household, walk in walks.items():
        unit = units[household]
        assert unit["is_mature"] == (household not in late)
        assert unit["is_open"] == (household in late and not walk.is_converted)
        is_lost = household not in late and not walk.is_converted
        assert unit["lost_time"] == (walk.start + WITHIN if is_lost else None)
        assert [unit[f"time_{i}"] for i in range(1, len(walk.taken) + 1)] == [row["timestamp"] for row in walk.taken]
    assert len(units) == len(walks)


def test_naive_mature_and_censored(log: pd.DataFrame, steps: ibis.Table) -> None:
    """The naive share counts those who are on the way as if they would never come; the others do not."""
    walks = walk_by_hand(log, WITHIN).values()
    mature = [walk for walk in walks if END - walk.start >= WITHIN]
    last = build(steps).table.iloc[-1]
    assert last["share_of_start"] == sum(walk.is_converted for walk in walks) / len(walks)
    assert last["n_mature"] == len(mature)
    assert last["conversion_mature"] == sum(walk.is_converted for walk in mature) / len(mature)
    assert last["conversion_censored"] == pytest.approx(product_limit_by_hand(walks))
    found = last[["share_of_start", "conversion_mature", "conversion_censored"]].astype(float).round(4).tolist()
    assert found == [0.1345, 0.1346, 0.1374]
    assert last["share_of_start"] < last["conversion_censored"] < last["mature_high"]


def product_limit_by_hand(walks: Iterable[Walk]) -> float:
    times = []
    for walk in walks:
        end = walk.taken[-1]["timestamp"] if walk.is_converted else min(END, walk.start + WITHIN)
        times.append((end - walk.start, walk.is_converted))
    remaining = 1.0
    for time in sorted({time for time, is_converted in times if is_converted}):
        at_risk = sum(other >= time for other, _ in times)
        remaining *= 1 - sum(other == time and is_converted for other, is_converted in times) / at_risk
    return 1 - remaining


def test_by_age(log: pd.DataFrame, steps: ibis.Table) -> None:
    """Of most households nothing is known: they are a group of their own, "(none)", and no one is left out."""
    walks = group_walks(walk_by_hand(log, WITHIN).values(), "age")
    table = build(steps, by="age").table
    assert list(table["age"].unique()) == sorted(walks, key=lambda age: (-len(walks[age]), age))
    for age, part in table.groupby("age"):
        assert count_all(part) == count_by_hand(walks[age], WITHIN), age
    assert table[table["step"] == 1].set_index("age")["n"].to_dict() == {
        "(none)": 791,
        "45-54": 268,
        "35-44": 186,
        "25-34": 130,
        "65+": 67,
        "55-64": 59,
        "19-24": 45,
    }
    assert table.groupby("step")["n"].sum().tolist() == build(steps).table["n"].tolist()


def group_walks(walks: Iterable[Walk], column: str) -> dict[str, list[Walk]]:
    groups: dict[str, list[Walk]] = {}
    for walk in walks:
        value = walk.taken[0][column]
        groups.setdefault("(none)" if pd.isna(value) else value, []).append(walk)
    return groups


def test_cohorts_by_campaign(log: pd.DataFrame, steps: ibis.Table) -> None:
    """A household's cohort is the first campaign it was mailed; all of a cohort started on one day."""
    walks = group_walks(walk_by_hand(log, WITHIN).values(), "campaign_id")
    table = build(steps, by="campaign_id").table
    starts = read("campaign_descriptions").set_index("campaign_id")["start_date"].map(datetime.fromisoformat)
    assert set(table["campaign_id"]) == set(walks)
    for campaign, part in table.groupby("campaign_id"):
        assert count_all(part) == count_by_hand(walks[campaign], WITHIN), campaign
        # Whole cohorts are mature, or nobody in them is, and then nobody is lost.
        is_mature = END - starts[campaign] >= WITHIN
        assert part["n_mature"].tolist() == [len(walks[campaign]) if is_mature else 0] * 3
        assert is_mature or part["n_lost"].sum() == 0
        assert np.isnan(part["conversion_mature"]).all() != is_mature
    largest = table[table["step"] == 1].head(5)
    assert largest[["campaign_id", "n", "n_mature"]].to_numpy().tolist() == [
        ["8", 543, 543],
        ["27", 361, 361],
        ["5", 108, 108],
        ["13", 106, 106],
        ["18", 100, 0],
    ]


def test_types_of_campaign_compared(log: pd.DataFrame, steps: ibis.Table) -> None:
    """Households that were first mailed a personal campaign (type A) against the others, mature starts alone."""
    walks = group_walks(walk_by_hand(log, WITHIN).values(), "campaign_type")
    table = compare_funnels(build(steps, by="campaign_type")).set_index(["campaign_type", "step"])
    for (kind, step), row in table.iterrows():
        sides: dict[bool, Counter[bool]] = {True: Counter(), False: Counter()}
        for other, part in walks.items():
            for walk in part:
                if END - walk.start >= WITHIN:
                    sides[other == kind][len(walk.taken) >= step] += 1
        own, rest = sides[True], sides[False]
        found = row[["n", "n_reached", "n_other", "n_reached_other"]].tolist()
        assert found == [own.total(), own[True], rest.total(), rest[True]]
    figures = table.loc[[("Type A", 2), ("Type B", 2), ("Type C", 2)], ["n", "n_reached"]]
    assert figures.to_numpy().tolist() == [[1_010, 132], [343, 51], [36, 12]]
