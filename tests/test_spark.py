"""The same answers from Spark, where it is installed: steps, funnels, and personas assigned inside the engine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import ibis
import pandas as pd
import pytest

import journeylab as jl

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'journeylab[spark]'")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java found: Spark needs 17 or newer"),
    # Its frames are pandas', and it says that it has not tried these.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]
RULES = jl.JourneyRules.load("ecommerce")
END = "2026-11-01"


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ibis.BaseBackend]:
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.pyspark.python": sys.executable,
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield ibis.pyspark.connect(session)
    session.stop()


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    events = jl.read_events("demo", con=jl.connect()).execute()
    first = sorted(events["customer_id"].unique())[:150]
    chosen = events.loc[events["customer_id"].isin(first), ["customer_id", "event", "timestamp", "channel", "value"]]
    return chosen.astype({"customer_id": object, "event": object, "channel": object, "timestamp": "datetime64[us]"})


def build(log: pd.DataFrame, con: ibis.BaseBackend) -> tuple[ibis.Table, ibis.Table]:
    steps = jl.build_steps(jl.read_events(con.create_table("log", log)), RULES)
    return steps, jl.build_journeys(steps, RULES, as_of=END)


def test_spark_gives_the_answers_of_duckdb(spark: ibis.BaseBackend, log: pd.DataFrame, tmp_path: Path) -> None:
    ours, theirs = build(log, jl.connect()), build(log, spark)
    rules = jl.FunnelRules(["catalog", "cart", "payment_done"], within="14D")
    funnels = [jl.build_funnel(steps, rules, as_of=END).table for steps, _ in (ours, theirs)]
    pd.testing.assert_frame_equal(*funnels, check_dtype=False)
    personas = jl.fit_personas(*ours, k=2)
    # Saved here, assigned there: one pass inside Spark, the same to the bit.
    loaded = jl.load_personas(personas.save(tmp_path / "personas.json"))
    members = loaded.assign(*theirs)
    assert len(members) == 150
    pd.testing.assert_frame_equal(members, personas.assign(*ours), check_dtype=False, check_exact=True)
