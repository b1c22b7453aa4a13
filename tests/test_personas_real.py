"""Personas of real logs: the conclusions are the same whatever the seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import ibis
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import journeylab as jl

DATA = Path(__file__).parents[2] / "shared" / "data"
FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
SEEDS = range(3 if FULL else 2)
Log = tuple[ibis.Table, ibis.Table, pd.DataFrame | None]

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")


def lay_out(events: ibis.Table, rules: jl.JourneyRules, demographics: pd.DataFrame | None = None) -> Log:
    steps = jl.build_steps(events, rules)
    return steps, jl.build_journeys(steps, rules), demographics


def read_simple_shop() -> Log:
    path = DATA / "simple_shop" / "simple-onlineshop.csv"
    return lay_out(
        jl.read_events(path, customer_id="client_id", con=jl.connect()), jl.JourneyRules(goal="payment_done")
    )


def read_clothes_shop() -> Log:
    raw = pd.read_csv(DATA / "eshop2008" / "e-shop_clothing_2008.csv", sep=";", dtype=str)
    raw["timestamp"] = raw["year"] + "-" + raw["month"].str.zfill(2) + "-" + raw["day"].str.zfill(2)
    clicks = {"customer_id": "session ID", "event": "page 1 (main category)", "columns": {"seq": "order"}}
    events = jl.read_events(raw.rename(columns={"order(sells)": "order"}), **clicks, con=jl.connect())
    return lay_out(events, jl.JourneyRules(journey_gap=None))


def read_retail() -> Log:
    def read(name: str, time: str, at: str = "") -> pd.DataFrame:
        table = pd.read_csv(DATA / "complete_journey" / f"{name}.csv", dtype=str, keep_default_na=False)
        return table.assign(timestamp=table[time] + at) if time in table else table

    begun = read("campaign_descriptions", "start_date", " 00:00:00")[["campaign_id", "timestamp"]]
    parts = {
        "mailed": read("campaigns", "").merge(begun, on="campaign_id"),
        "redeemed": read("coupon_redemptions", "redemption_date", " 23:59:59"),
        "bought": read("transactions_sample", "transaction_timestamp").drop_duplicates("basket_id"),
    }
    log = pd.concat([part.assign(event=name) for name, part in parts.items()], ignore_index=True)
    log = log.loc[log["timestamp"] >= "2017-01-01", ["household_id", "event", "timestamp", "campaign_id"]]
    demographics = read("demographics", "").rename(columns={"household_id": "customer_id"})
    events = jl.read_events(log, customer_id="household_id", con=jl.connect(), repair="all")
    return lay_out(events, jl.JourneyRules(journey_gap=None), demographics)


# The numbers of personas that seeds come to, and how far their labels agree at the least (adjusted Rand index). Of the
# retail log no persona but the largest is sure, and whether the others are two or three hangs on the seed.
LOGS = [(read_simple_shop, {3}, 0.97), (read_retail, {3, 4}, 0.75)]
LOGS += [(read_clothes_shop, {3}, 0.79)] if FULL else []


@pytest.mark.parametrize(("read", "ks", "agreement"), LOGS, ids=lambda value: getattr(value, "__name__", ""))
def test_seeds_agree(read: Callable[[], Log], ks: set[int], agreement: float) -> None:
    steps, journeys, demographics = read()
    labels = []
    for seed in SEEDS:
        personas = jl.fit_personas(steps, journeys, seed=seed, customers=demographics)
        assert len(personas.summary) in ks
        assert personas.verdict != "none"
        if demographics is not None:
            described = personas.traits.loc[personas.traits["kind"] == "attribute", "trait"].str.split(":").str[0]
            assert {"age", "income"} <= set(described)
        labels.append(personas.assign(steps, journeys)["persona"])
    for one, other in combinations(labels, 2):
        assert adjusted_rand_score(one, other) >= agreement
