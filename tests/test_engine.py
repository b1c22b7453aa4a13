"""Connections, and the few things in which backends differ."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ibis
import pytest

import journeylab as jl
from journeylab.engine import default_connection, median, store, stream
from journeylab.errors import RuleError


def setting(con: ibis.BaseBackend, name: str) -> Any:
    return con.raw_sql(f"SELECT current_setting('{name}')").fetchone()[0]


def test_settings_reach_the_engine(tmp_path: Path) -> None:
    con = jl.connect(memory_limit="512MB", threads=1, spill_dir=tmp_path / "spill")
    assert setting(con, "threads") == 1
    assert setting(con, "memory_limit") == "488.2 MiB"
    assert setting(con, "temp_directory") == str(tmp_path / "spill")


def test_the_machine_s_zone_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert setting(jl.connect(), "TimeZone") == "UTC"


@pytest.mark.parametrize("prefix", ["", "duckdb://"])
def test_a_file_keeps_its_tables(tmp_path: Path, prefix: str) -> None:
    url = f"{prefix}{tmp_path / 'shop.duckdb'}"
    con = jl.connect(url)
    store(ibis.memtable({"x": [1, 2]}), con, name="numbers")
    con.disconnect()
    again = jl.connect(url)
    assert again.table("numbers").x.sum().execute() == 3
    again.disconnect()


def test_a_path_may_be_a_path(tmp_path: Path) -> None:
    jl.connect(tmp_path / "shop.duckdb").disconnect()
    assert (tmp_path / "shop.duckdb").exists()


def test_each_connection_is_its_own_but_for_the_default() -> None:
    assert jl.connect() is not jl.connect()
    assert default_connection() is default_connection()


def test_one_thread_at_least() -> None:
    with pytest.raises(RuleError) as caught:
        jl.connect(threads=0)
    assert str(caught.value) == "connect: threads must be at least 1, found 0"


@pytest.mark.parametrize("option", [{"memory_limit": "1GB"}, {"threads": 2}, {"spill_dir": "x"}])
def test_other_backends_take_no_settings(option: dict[str, Any]) -> None:
    with pytest.raises(RuleError) as caught:
        jl.connect("bigquery://shop/log", **option)
    assert str(caught.value) == (
        "connect: memory_limit, threads and spill_dir are DuckDB settings; bigquery://shop/log takes none of them"
    )


def test_what_is_stored_without_a_name_is_temporary(tmp_path: Path) -> None:
    url = tmp_path / "shop.duckdb"
    con = jl.connect(url)
    table = store(ibis.memtable({"x": [1, 2]}), con)
    assert table.count().execute() == 2
    con.disconnect()
    again = jl.connect(url)
    assert again.raw_sql("SELECT count(*) FROM information_schema.tables").fetchone()[0] == 0
    again.disconnect()


def test_rows_come_in_parts_and_in_order(con: ibis.BaseBackend) -> None:
    table = store(ibis.memtable({"x": list(range(10))}), con)
    parts = [batch["x"].to_pylist() for batch in stream(table.filter(table.x != 5), 4)]
    assert max(map(len, parts)) <= 4
    assert [x for part in parts for x in part] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_storing_again_replaces(con: ibis.BaseBackend) -> None:
    for rows in ([1, 2], [3]):
        store(ibis.memtable({"x": rows}), con, name="numbers")
    assert con.table("numbers").x.sum().execute() == 3


def test_median_is_exact_but_on_bigquery() -> None:
    column = ibis.table({"x": "float64"}, name="t").x
    assert "QUANTILE_CONT" in ibis.to_sql(median(column, SimpleNamespace(name="duckdb")), dialect="duckdb")
    # BigQuery has no exact median: Ibis would not compile it.
    with pytest.raises(Exception, match="Median"):
        ibis.to_sql(column.median(), dialect="bigquery")
    assert "APPROX_QUANTILES" in ibis.to_sql(median(column, SimpleNamespace(name="bigquery")), dialect="bigquery")
