"""Numbers that others have published of real logs, or that were counted by hand from these files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import ibis
import pandas as pd
import pytest

import journeylab as jl

DATA = Path(__file__).parents[2] / "shared" / "data"
ONE_EACH = jl.JourneyRules(journey_gap=None)

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")


def measure(column: pd.Series) -> tuple[float, float, float]:
    return column.mean(), column.median(), column.max()


@pytest.fixture(scope="module")
def shop_events() -> ibis.Table:
    return jl.read_events(DATA / "simple_shop" / "simple-onlineshop.csv", customer_id="client_id", con=jl.connect())


def test_shop_events_and_customers(shop_events: ibis.Table) -> None:
    report = jl.check_events(shop_events)
    assert (report.n_rows, report.n_used, report.n_customers, report.n_event_names) == (32_283, 32_283, 3_751, 12)
    assert report.start.floor("s") == pd.Timestamp("2019-11-01 17:59:13")
    assert report.end.floor("s") == pd.Timestamp("2020-04-29 12:48:06")
    checks = report.checks.set_index("check")["n"]
    assert checks[["null_event", "null_timestamp", "duplicate", "tie"]].tolist() == [0, 0, 0, 0]
    counts = report.events.set_index("event")[["n_customers", "n"]]
    assert counts.loc[["cart", "catalog", "delivery_choice", "main"]].to_numpy().tolist() == [
        [1_924, 2_842],
        [3_611, 14_518],
        [1_356, 1_686],
        [2_385, 5_635],
    ]


def test_shop_funnel_and_sessions(shop_events: ibis.Table) -> None:
    steps = jl.build_steps(shop_events)
    assert steps.session_id.nunique().execute() == 6_454
    path = ["catalog", "cart", "payment_done"]
    for rules in (jl.FunnelRules(path), jl.FunnelRules.like("retentioneering", path)):
        table = jl.build_funnel(steps, rules).table
        assert table["n"].tolist() == [3_611, 1_924, 653]
        assert table["n"].iloc[0] == table["n"].iloc[-1] + table["n_lost"].sum() + table["n_open"].sum()


def test_shop_durations(shop_events: ibis.Table) -> None:
    journeys = jl.build_journeys(jl.build_steps(shop_events, ONE_EACH), ONE_EACH).execute()
    assert len(journeys) == 3_751
    mean = timedelta(days=9, hours=11, minutes=15, seconds=18)
    longest = timedelta(days=149, hours=4, minutes=51, seconds=5)
    expected = (mean.total_seconds(), 81, longest.total_seconds())
    assert measure(journeys["duration_s"]) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("case_is", ["customer", "journey"])
def test_permits(case_is: str) -> None:
    """A case can be the customer, never cut, or a journey that the log names: the answers are the same."""
    case = "case:concept:name"
    names = {"event": "concept:name", "timestamp": "time:timestamp"}
    columns = {"journey_id": case} if case_is == "journey" else {}
    rules = ONE_EACH if case_is == "customer" else jl.JourneyRules()
    path = DATA / "receipt" / "receipt.csv"
    steps = jl.build_steps(jl.read_events(path, customer_id=case, **names, columns=columns, con=jl.connect()), rules)
    assert steps.event.nunique().execute() == 27
    journeys = jl.build_journeys(steps, rules).execute()
    assert len(journeys) == 1_434
    assert (journeys["n_steps"] == 1).sum() == 116
    assert journeys["start_time"].min().date() == pd.Timestamp("2010-10-02").date()
    assert journeys["end_time"].max().date() == pd.Timestamp("2012-01-23").date()
    mean, median, _ = measure(journeys["duration_s"])
    assert (mean, median) == pytest.approx((timedelta(days=5, hours=9, minutes=47).total_seconds(), 2868), abs=60)
    variants = jl.count_variants(steps)
    assert len(variants) == 116
    assert variants["n_journeys"].head(5).tolist() == [713, 123, 116, 115, 75]
    assert variants["n_journeys"].sum() == 1_434


@pytest.mark.parametrize("within", [None, "30D"])
def test_permit_funnel(within: str | None) -> None:
    """From the receipt to the end of a permit, by the channel that the request came through, against a plain walk."""
    path = [
        "Confirmation of receipt",
        "T04 Determine confirmation of receipt",
        "T10 Determine necessity to stop indication",
    ]
    raw = pd.read_csv(DATA / "receipt" / "receipt.csv", dtype=str)
    raw["time"] = pd.to_datetime(raw["time:timestamp"], utc=True, format="ISO8601").dt.tz_localize(None)
    end, limit = raw["time"].max(), pd.Timedelta(within or "9999D")
    expected = {}
    for case, rows in raw.groupby("case:concept:name"):
        reached: list[pd.Timestamp] = []
        for name, time in rows.sort_values("time", kind="stable")[["concept:name", "time"]].itertuples(index=False):
            if len(reached) < 3 and name == path[len(reached)] and (not reached or time - reached[0] <= limit):
                reached.append(time)
        if reached:
            is_over = end - reached[0] >= limit if within else end - rows["time"].max() > pd.Timedelta("30D")
            expected[case] = (len(reached), len(reached) < 3 and not is_over)
    names = {"customer_id": "case:concept:name", "event": "concept:name", "timestamp": "time:timestamp"}
    events = jl.read_events(raw.drop(columns="time"), **names, columns={"channel": "case:channel"}, con=jl.connect())
    funnel = jl.build_funnel(jl.build_steps(events, ONE_EACH), jl.FunnelRules(path, within=within), by="channel")
    found = funnel.units.select("unit", "reached", "is_open").execute()
    assert dict(zip(found["unit"], zip(found["reached"], found["is_open"], strict=True), strict=True)) == expected
    totals = funnel.table.groupby("step")[["n", "n_lost", "n_open"]].sum()
    assert totals["n"].iloc[0] == len(expected) == 1_434
    assert totals["n"].iloc[0] == totals["n"].iloc[-1] + totals["n_lost"].sum() + totals["n_open"].sum()


def test_clothes_shop_without_a_clock() -> None:
    """Dates alone: the click's number in its session is the only order there is."""
    path = DATA / "eshop2008" / "e-shop_clothing_2008.csv"
    raw = pd.read_csv(path, sep=";", dtype=str)
    raw["timestamp"] = raw["year"] + "-" + raw["month"].str.zfill(2) + "-" + raw["day"].str.zfill(2)
    clicks = {"customer_id": "session ID", "event": "page 1 (main category)", "columns": {"seq": "order"}}
    con = jl.connect()
    events = jl.read_events(raw.rename(columns={"order(sells)": "order"}), **clicks, con=con)
    assert events.count().execute() == 165_474
    steps = jl.build_steps(events, ONE_EACH)
    journeys = jl.build_journeys(steps, ONE_EACH).execute()
    assert len(journeys) == 24_026
    mean, median, most = measure(journeys["n_steps"])
    assert (round(mean, 2), median, most) == (6.89, 4, 195)
    assert (journeys["n_steps"] == 1).sum() == 5_042
    # The number of a click is its step: nothing was put out of order.
    assert steps.filter(steps.step != steps.seq).count().execute() == 0
    variants = jl.count_variants(steps)
    assert len(variants) == 6_978
    assert variants["n_journeys"].head(3).tolist() == [1_659, 1_451, 1_170]
