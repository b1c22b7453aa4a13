"""Any table of events: csv, tsv, Parquet, JSON lines, xlsx, a DataFrame or an Ibis table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import ibis
import ibis.expr.operations as ops

from journeylab.engine import default_connection, store
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.resources import find_shipped
from journeylab.schema import OPTIONAL, PROBLEM, PROBLEMS, RESERVED, ROW, TIME
from journeylab.sources.duplicates import mark_duplicates
from journeylab.sources.files import check_names, find_files, open_frame, open_source
from journeylab.sources.times import read_times

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import pandas as pd

_DAMAGED_ID = r"^\d(?:[.,]\d+)?[eE]\+\d+$"
_SWITCHES = [name for problem in PROBLEMS.values() for name in (problem.repair, problem.keep) if name]


def read_events(
    data: str | Path | Sequence[str | Path] | pd.DataFrame | ibis.Table,
    *,
    customer_id: str = "customer_id",
    event: str = "event",
    timestamp: str = "timestamp",
    columns: Mapping[str, str] | None = None,
    tz: str | None = None,
    timestamp_format: str | None = None,
    epoch: Literal["s", "ms", "us", "ns"] | None = None,
    decimal: Literal[".", ","] = ".",
    delimiter: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    repair: str | Iterable[str] = (),
    con: ibis.BaseBackend | None = None,
) -> ibis.Table:
    """Which events are in this log?

    Parameters
    ----------
    data
        A csv, tsv, JSON lines or xlsx file, Parquet (a file, a list, a glob, a folder with hive partitions), a
        DataFrame, an Ibis table, or ``"demo"`` for the small shop that ships with the package.
    customer_id, event, timestamp
        The names of these columns in `data`.
    columns
        Further columns by the name they shall have: ``{"channel": "utm_medium", "their_step": "step"}``. Columns that
        already have one of our names (`channel`, `value`, `seq` …) need no mention; all others are carried through.
    tz
        The zone of clock times without one, such as ``"Europe/Warsaw"``. Default: UTC, counted as naive in the report.
    timestamp_format
        For times that are not ISO 8601 or epochs: a strptime format.
    epoch
        The unit of numeric times. Default: told from their size, and refused where rows differ.
    repair
        ``"all"`` or the names of repairs, as the error and `check_events` list them. ``drop_…`` sets rows aside: they
        stay in the table with their problem and count in the report, and `build_steps` leaves them out. ``keep_…``
        lets them count as they are.

    Returns
    -------
    ibis.Table
        customer_id, event (string), timestamp (UTC without zone, microseconds), then the optional columns of the log,
        and the load record: ``_row`` (place in the source; not for Ibis tables, whose rows have none), ``_problem``
        (why the row does not count; null where it does), ``_time`` (how its time was read). No row is left out, ever.

    Raises
    ------
    SchemaError
        Lists every failed check with its count and the repair that lets the load go on.
    """
    con = con or (data.get_backend() if isinstance(data, ibis.Table) else default_connection())
    if isinstance(data, str) and data == "demo":
        data = find_shipped("data/demo") / "events.csv"
    repairs = _check_repairs(repair)
    raw = _open(data, con, delimiter=delimiter, encoding=encoding, sheet=sheet)
    try:
        named = _rename(raw, {"customer_id": customer_id, "event": event, "timestamp": timestamp, **(columns or {})})
        instant, how = read_times(named.timestamp, con, tz=tz, timestamp_format=timestamp_format, epoch=epoch)
        typed = _convert(named, instant, how, decimal)
        main_unit = None if epoch else _find_main_unit(typed, named.timestamp.type())
        typed = typed.mutate(**{PROBLEM: _name_problem(typed, repairs, main_unit)})
        if _is_copy(data):
            # Text is converted once; Parquet and tables stay where they are, however large.
            typed = store(typed, con)
    finally:
        if _is_copy(data):
            _drop(raw, con)
    typed = mark_duplicates(typed, con, keep="keep_duplicate" in repairs)
    try:
        _refuse(typed, repairs, _describe(data))
    except SchemaError:
        if _is_copy(data):
            _drop(typed, con)
        raise
    return typed.drop("_raw_time", "_lost_number")


def list_sources() -> pd.DataFrame:
    """Which kinds of source can be read?

    Returns
    -------
    pandas.DataFrame
        source (str) and what it reads (str), one row per reader.
    """
    import pandas as pd

    rows = [
        ("csv, tsv", "text tables; delimiter, encoding and byte order mark are found or given"),
        ("parquet", "one file, a list, a glob, or a folder with hive partitions; read by the engine, never as a whole"),
        ("json lines", "one object a line; nested values are carried as JSON text"),
        ("xlsx", "one sheet of a workbook"),
        ("DataFrame", "pandas; rows keep their order, the index means nothing"),
        ("Ibis table", "any backend that Ibis knows; rows have no order but their time"),
        ("demo", "the small synthetic shop that ships with the package"),
    ]
    return pd.DataFrame(rows, columns=["source", "reads"])


def _open(
    data: str | Path | Sequence[str | Path] | pd.DataFrame | ibis.Table,
    con: ibis.BaseBackend,
    *,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | None,
) -> ibis.Table:
    if isinstance(data, ibis.Table):
        check_names(data.columns, "the table")
        return data
    if not isinstance(data, str | Path | Sequence):
        return open_frame(data, con)
    return open_source(data, con, delimiter=delimiter, encoding=encoding, sheet=sheet)


def _describe(data: object) -> str:
    if isinstance(data, str | Path):
        return Path(data).name
    return (
        "the table" if isinstance(data, ibis.Table) else "the files" if isinstance(data, Sequence) else "the DataFrame"
    )


def _check_repairs(repair: str | Iterable[str]) -> frozenset[str]:
    if repair == "all":
        return frozenset(problem.repair for problem in PROBLEMS.values())
    names = [repair] if isinstance(repair, str) else list(repair)
    for name in names:
        if name not in _SWITCHES:
            raise RuleError(
                f'read_events: no repair "{name}".{nearest(name, _SWITCHES)} Known: all, {", ".join(_SWITCHES)}'
            )
    both = [p.repair for p in PROBLEMS.values() if p.repair in names and p.keep in names]
    if both:
        raise RuleError(f"read_events: {both[0]} and its keep_ cannot both be asked for")
    return frozenset(names)


def _rename(raw: ibis.Table, wanted: Mapping[str, str]) -> ibis.Table:
    missing = [(ours, theirs) for ours, theirs in wanted.items() if theirs not in raw.columns]
    if missing:
        present = [name for name in raw.columns if name != ROW]
        lines = [f'  {ours:<12}  no column "{theirs}".{nearest(theirs, present)}' for ours, theirs in missing]
        example = f"read_events(…, {missing[0][0]}={present[0]!r})"
        hint = f"The columns are {', '.join(present)}; say which is which, such as {example}"
        raise SchemaError(
            "\n".join([f"{len(missing)} column{'s were' if len(missing) > 1 else ' was'} not found", *lines, hint])
        )
    taken = {name.casefold() for name in wanted} | RESERVED - {ROW}
    carried = [name for name in raw.columns if name not in wanted.values() and name != ROW]
    clashes = [name for name in (*carried, *RESERVED.intersection(wanted)) if name.casefold() in taken]
    if clashes:
        hints = ", ".join(f"'their_{name}': {name!r}" for name in clashes)
        raise SchemaError(
            f"{len(clashes)} columns have names that mean something else here: {', '.join(clashes)}. "
            f"Rename them with columns={{{hints}}}"
        )
    return raw.select(
        **{ours: raw[theirs] for ours, theirs in wanted.items()},
        **{name: raw[name] for name in carried},
        **{name: raw[name] for name in raw.columns if name == ROW},
    )


def _convert(named: ibis.Table, instant: ibis.Value, how: ibis.Value, decimal: str) -> ibis.Table:
    """Give each column its type; what a number could not be made of is remembered."""
    columns: dict[str, ibis.Value] = {"customer_id": _as_text(named, "customer_id"), "event": _as_text(named, "event")}
    columns["timestamp"] = instant
    lost: ibis.Value = ibis.literal(False)
    for name, kind in OPTIONAL.items():
        if name in named.columns:
            columns[name] = _as_text(named, name) if kind == "string" else _as_number(named[name], kind, decimal)
            if named[name].type().is_string() and kind != "string":
                lost = lost | (columns[name].isnull() & (named[name].strip() != "").fill_null(False))
    columns |= {name: named[name] for name in named.columns if name not in columns}
    return named.select(
        **columns,
        **{
            TIME: how,
            "_raw_time": ibis.ifelse(instant.isnull(), named.timestamp.cast("string"), None),
            "_lost_number": lost,
        },
    )


def _as_text(named: ibis.Table, name: str) -> ibis.Value:
    column = named[name]
    if column.type().is_floating() and name in (
        "customer_id",
        "event",
        "event_id",
        "session_id",
        "journey_id",
        "account_id",
    ):
        raise SchemaError(
            f"{name} is a column of floating point numbers: ids of 16 digits and more have lost their last ones, "
            f"and 7 became 7.0. Read it as text in the first place (pandas: dtype={{{name!r}: str}})"
        )
    return column if column.type().is_string() else column.cast("string")


def _as_number(column: ibis.Value, kind: str, decimal: str) -> ibis.Value:
    if not column.type().is_string():
        return column.cast(kind)
    # Thousands are set apart by spaces of several kinds; a point is one only where the decimal mark is a comma.
    plain = column.re_replace("[\\s\u00a0\u202f\u2009']", "")
    if decimal == ",":
        plain = plain.replace(".", "").replace(",", ".")
    return plain.try_cast(kind)


def _find_main_unit(typed: ibis.Table, kind: dt.DataType) -> str | None:
    if not (kind.is_string() or kind.is_numeric()):
        return None
    units = typed.filter(typed[TIME].startswith("epoch_")).group_by(TIME).agg(n=lambda t: t.count())
    found = units.order_by(ibis.desc("n"), TIME).limit(1).execute()
    return None if found.empty else str(found[TIME].iloc[0])


def _is_blank(column: ibis.Value) -> ibis.Value:
    return column.isnull() | (column.strip() == "")


def _name_problem(typed: ibis.Table, repairs: frozenset[str], main_unit: str | None) -> ibis.Value:
    """Why does a row not count? The first problem that is not kept, else the first that is, as ``kept_…``."""
    customer, raw_time = typed.customer_id, typed["_raw_time"]
    checks = {
        "null_customer": _is_blank(customer),
        # The cheap test first: a pattern on every id is what a large log would wait for.
        "damaged_id": (customer.contains("E+") | customer.contains("e+")) & customer.re_search(_DAMAGED_ID),
        "null_event": _is_blank(typed.event),
        "null_timestamp": typed.timestamp.isnull() & _is_blank(raw_time),
        "unparsed_timestamp": typed.timestamp.isnull(),
        # A day early, for a local midnight of 1970 may lie in 1969 in UTC.
        "epoch_zero": (typed.timestamp >= ibis.timestamp("1969-12-31"))
        & (typed.timestamp < ibis.timestamp("1971-01-01")),
        "mixed_epoch": typed[TIME].startswith("epoch_") & (typed[TIME] != main_unit)
        if main_unit
        else ibis.literal(False),
        "unparsed_number": typed["_lost_number"],
    }
    kept = {code for code in checks if PROBLEMS[code].keep in repairs}
    fatal = [(check, code) for code, check in checks.items() if code not in kept]
    harmless = [(check, f"kept_{code}") for code, check in checks.items() if code in kept]
    return ibis.cases(*fatal, *harmless, else_=ibis.null("string"))


def _refuse(typed: ibis.Table, repairs: frozenset[str], where: str) -> None:
    """Stop with every failed check at once, unless each has its repair."""
    counts = typed.group_by(PROBLEM).agg(n=lambda t: t.count()).execute()
    n_rows = int(counts["n"].sum())
    if n_rows == 0:
        raise SchemaError(f"{where} has a header but no rows: there is nothing to read")
    found = dict(zip(counts[PROBLEM], counts["n"], strict=True))
    failed = {
        code: int(found[code]) for code, problem in PROBLEMS.items() if code in found and problem.repair not in repairs
    }
    if not failed:
        if n_rows == sum(int(found.get(code, 0)) for code in PROBLEMS):
            raise SchemaError(f"{where}: none of {n_rows:,} rows is left after {', '.join(sorted(repairs))}")
        return
    lines = [f"{where} failed {len(failed)} check{'s' if len(failed) > 1 else ''} in {n_rows:,} rows"]
    for code, n in failed.items():
        problem = PROBLEMS[code]
        switches = " or ".join(f'"{name}"' for name in (problem.repair, problem.keep) if name)
        lines.append(
            f"  {problem.column:<12}  {n:,} {problem.what} ({n / n_rows:.1%})    {problem.advice}; repair={switches}"
        )
    if "unparsed_timestamp" in failed:
        examples = typed.filter(typed[PROBLEM] == "unparsed_timestamp")["_raw_time"].topk(3).execute()["_raw_time"]
        lines.append(f"  unread times look like: {', '.join(repr(str(text)[:40]) for text in examples)}")
    lines.append('To set all such rows aside, and count them in check_events: repair="all"')
    raise SchemaError("\n".join(lines))


def _is_copy(data: object) -> bool:
    """Did reading put a copy of the data into the engine?"""
    if isinstance(data, ibis.Table):
        return False
    return not isinstance(data, str | Path | Sequence) or find_files(data)[0].suffix not in (".parquet", ".pq")


def _drop(table: ibis.Table, con: ibis.BaseBackend) -> None:
    for stored in table.op().find(ops.DatabaseTable):
        con.drop_table(stored.name, force=True)
