"""The engine under every question: an Ibis connection, and the few things in which backends differ."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError

if TYPE_CHECKING:
    import pyarrow as pa

# The builtin functions below exist in DuckDB only, which reads all files. Tables of other backends bring typed
# timestamps: `utc_of_zoned` knows both, `local_to_utc` refuses theirs.
_utc_of_local = ibis.udf.scalar.builtin(
    lambda zone, local: ..., name="timezone", signature=(("string", "timestamp"), "timestamp('UTC')")
)
_local_of_utc = ibis.udf.scalar.builtin(
    lambda zone, instant: ..., name="timezone", signature=(("string", "timestamp('UTC')"), "timestamp")
)
try_strptime = ibis.udf.scalar.builtin(
    lambda text, format: ..., name="try_strptime", signature=(("string", "string"), "timestamp")
)


def connect(
    url: str | Path = "",
    *,
    memory_limit: str | None = None,
    threads: int | None = None,
    spill_dir: str | Path | None = None,
) -> ibis.BaseBackend:
    """Where shall the events live and the queries run?

    Parameters
    ----------
    url
        Nothing for DuckDB in memory, a path for a DuckDB file, or any URL that Ibis knows
        (``pyspark://…``, ``bigquery://project/dataset``).
    memory_limit
        DuckDB only: such as ``"4GB"``; more than that goes to `spill_dir`.
    threads
        DuckDB only: how many threads a query may use. Answers do not depend on it.
    spill_dir
        DuckDB only: the folder for what does not fit in memory.

    Examples
    --------
    >>> connect(memory_limit="1GB", threads=1).name
    'duckdb'
    """
    options = {"memory_limit": memory_limit, "threads": threads, "temp_directory": spill_dir}
    given = {name: value for name, value in options.items() if value is not None}
    if "://" in str(url) and not str(url).startswith("duckdb://"):
        if given:
            raise RuleError(
                f"connect: memory_limit, threads and spill_dir are DuckDB settings; {url} takes none of them"
            )
        return ibis.connect(str(url))
    path = str(url).removeprefix("duckdb://") or ":memory:"
    if threads is not None and threads < 1:
        raise RuleError(f"connect: threads must be at least 1, found {threads}")
    con = ibis.duckdb.connect(
        path, **{name: str(value) if name != "threads" else value for name, value in given.items()}
    )
    # Text that has no zone must not be read in the zone of this machine.
    con.settings["TimeZone"] = "UTC"
    return con


def is_in_process(con: ibis.BaseBackend) -> bool:
    """Does the engine run in this process? Then reading many rows costs next to nothing."""
    return bool(con.name == "duckdb")


def stream(expression: ibis.Table, n_rows: int) -> pa.RecordBatchReader:
    """Read a query's rows as they come, about `n_rows` at a time, from an engine that runs in this process."""
    con = expression.get_backend()
    # Ibis 12 asks DuckDB 2.0 for a method that it no longer has.
    return con.con.sql(con.compile(expression)).to_arrow_reader(n_rows)


@cache
def default_connection() -> ibis.BaseBackend:
    """Which connection serves a caller who names none? One DuckDB in memory for the whole process."""
    return connect()


def store(expression: ibis.Table, con: ibis.BaseBackend, *, name: str | None = None) -> ibis.Table:
    """Run a query once and keep its rows in the engine.

    Without a `name` the table is the session's own: temporary where the backend has temporary tables.
    """
    if name is not None:
        return con.create_table(name, expression, overwrite=True)
    # Spark has no temporary tables.
    temporary = con.name == "duckdb"
    name = ibis.util.gen_name("journeylab")
    try:
        return con.create_table(name, expression, temp=temporary)
    except Exception:
        # Ibis creates a table before it fills it.
        con.drop_table(name, force=True)
        raise


def drop(table: ibis.Table) -> None:
    """Take a table that `store` has kept out of the engine."""
    # Not table.get_name(): with it, Ibis 12.0.0 looks for a table of the session in the wrong place.
    table.get_backend().drop_table(table.op().name)


def local_to_utc(local: ibis.Value, zone: str, con: ibis.BaseBackend) -> ibis.Value:
    """Which UTC instant does a clock in `zone` mean? Of an hour that happens twice, the later (winter time)."""
    if con.name != "duckdb":
        raise RuleError(f"tz= needs timestamps without zone on DuckDB; convert them to UTC in {con.name} first")
    return _local_of_utc("UTC", _utc_of_local(zone, local))


def utc_to_local(utc: ibis.Value, zone: str) -> ibis.Value:
    """What does a clock in `zone` show at a UTC instant?"""
    return _local_of_utc(zone, _utc_of_local("UTC", utc))


def utc_of_zoned(instant: ibis.Value, con: ibis.BaseBackend) -> ibis.Value:
    """Take the zone off a zoned timestamp, in UTC whatever the session's zone is."""
    if con.name == "duckdb":
        return _local_of_utc("UTC", instant.cast("timestamp('UTC')"))
    return instant.cast("timestamp('UTC')").cast("timestamp")


def median(column: ibis.Value, con: ibis.BaseBackend) -> ibis.Value:
    """The middle value: exact where the backend can (BigQuery knows approximate quantiles only)."""
    return column.approx_median() if con.name == "bigquery" else column.median()


def round_wait(wait_us: ibis.Value, limit_s: int | None = None) -> ibis.Value:
    """Round waits up to four digits of seconds, to the limit at most: finer than any curve is read, and soon counted.

    What ended and what still lasts are rounded alike, so that neither overtakes the other. The share that has ended by
    the limit, or by a time of four digits, is then read without error.
    """

    def round_up(grain_s: int) -> ibis.NumericValue:
        return (wait_us / (grain_s * 1e6)).ceil() * grain_s

    # Longer than three years of seconds hardly occurs.
    rungs = ((wait_us <= 10 ** (digits + 6), round_up(10 ** (digits - 4))) for digits in range(4, 9))
    wait_s = ibis.cases(*rungs, else_=round_up(10**5))
    return wait_s if limit_s is None else ibis.ifelse(wait_s > limit_s, limit_s, wait_s)
