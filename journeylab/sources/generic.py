"""Any table of events: csv, tsv, Parquet, JSON lines, xlsx, a DataFrame or an Ibis table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import ibis
import ibis.expr.operations as ops

from journeylab.engine import default_connection, store
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.formats import format_share
from journeylab.resources import find_shipped
from journeylab.schema import (
    LOST_NUMBER,
    OPTIONAL,
    PROBLEM,
    PROBLEMS,
    RAW_TIME,
    REQUIRED,
    RESERVED,
    ROW,
    TIME,
    check_names,
)
from journeylab.sources.duplicates import mark_duplicates
from journeylab.sources.files import drop, open_source
from journeylab.sources.frames import open_frame
from journeylab.sources.times import read_times
from journeylab.sources.values import convert_columns, is_blank

if TYPE_CHECKING:
    import pandas as pd

_DAMAGED_ID = r"^\d(?:[.,]\d+)?[eE]\+\d+$"
_SWITCHES = [name for problem in PROBLEMS.values() for name in (problem.repair, problem.keep) if name]


def read_events(
    data: str | Path | Sequence[str | Path] | pd.DataFrame | ibis.Table,
    *,
    customer_id: str = "customer_id",
    event: str = "event",
    timestamp: str = "timestamp",
    columns: Mapping[str, str] | Sequence[str] = (),
    tz: str | None = None,
    timestamp_format: str | None = None,
    epoch: Literal["s", "ms", "us", "ns"] | None = None,
    decimal: Literal[".", ","] | None = None,
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
        Further columns by the name they shall have: ``{"channel": "utm_medium", "their_step": "step"}``, or as
        parameters are written, ``["channel=utm_medium", "their_step=step"]``. Columns that
        already have one of our names (`channel`, `Value`, `SEQ` …) need no mention; all others are carried through.
    tz
        The zone of clock times without one, such as ``"Europe/Warsaw"``. Default: UTC, counted as naive in the report.
    timestamp_format
        For times that are not ISO 8601 or epochs: a strptime format.
    epoch
        The unit of numeric times. Default: told from their size, and refused where rows differ.
    decimal
        The decimal mark of numbers in text; the other of ``.`` and ``,`` then sets thousands apart, as spaces always
        may. Default: a point, and a number with a comma is refused, for it can mean either.
    delimiter, encoding, sheet
        Of a text file: found by looking, unless given. Of a workbook: the first sheet, unless given.
    repair
        ``"all"`` or the names of repairs, as the error lists them. ``drop_…`` sets rows aside: they
        stay in the table with their problem and count in the report, and `build_steps` leaves them out. ``keep_…``
        lets them count as they are; an unreadable number is then empty. ``"all"`` sets aside every row that cannot
        count, and keeps those whose numbers are unreadable.

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
    con = _choose_connection(data, con)
    repairs = _check_repairs(repair)
    if decimal not in (None, ".", ","):
        raise RuleError(f'read_events: decimal must be "." or ",", found {decimal!r}')
    if isinstance(data, str) and data == "demo":
        data = find_shipped("data/demo") / "events.csv"
    raw, is_copy = _open(data, con, delimiter=delimiter, encoding=encoding, sheet=sheet)
    made = [raw]
    where = _describe(data)
    try:
        named = _rename(
            raw, {"customer_id": customer_id, "event": event, "timestamp": timestamp, **_read_columns(columns)}, where
        )
        main_unit = None if epoch or timestamp_format else _find_main_unit(named, con)
        has_epochs = bool(epoch or main_unit)
        timed = read_times(named, con, tz=tz, timestamp_format=timestamp_format, epoch=epoch, has_epochs=has_epochs)
        typed = convert_columns(timed, decimal)
        events = typed.mutate(**{PROBLEM: _name_problem(typed, repairs, main_unit)})
        if is_copy:
            # Text is converted once; Parquet and tables stay where they are, however large.
            made.append(events := store(events, con))
            drop(made.pop(0), con)
        made.append(events := mark_duplicates(events, con, keep="keep_duplicate" in repairs))
        _refuse(events, repairs, where)
    except Exception:
        if is_copy or not isinstance(data, ibis.Table):
            for table in made:
                drop(table, con)
        raise
    return events.drop(RAW_TIME, LOST_NUMBER)


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


def _choose_connection(data: object, con: ibis.BaseBackend | None) -> ibis.BaseBackend:
    if not isinstance(data, ibis.Table) or _is_in_python(data):
        return con or default_connection()
    own = data.get_backend()
    if con is not None and con != own:
        raise RuleError("read_events: the table lives in another connection than con=; leave con= out")
    return own


def _is_in_python(table: ibis.Table) -> bool:
    """Does an Ibis table come from `ibis.memtable` alone, so that no connection has it?"""
    elsewhere = (ops.DatabaseTable, ops.SQLQueryResult, ops.SQLStringView)
    return bool(table.op().find(ops.InMemoryTable)) and not table.op().find(elsewhere)


def _open(
    data: str | Path | Sequence[str | Path] | pd.DataFrame | ibis.Table,
    con: ibis.BaseBackend,
    *,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | None,
) -> tuple[ibis.Table, bool]:
    """Open any source: its rows, and whether they are a copy that this load has put into the engine."""
    if isinstance(data, ibis.Table):
        check_names(data.columns, "the table")
        return (store(data, con), True) if _is_in_python(data) else (data, False)
    if not isinstance(data, str | Path | Sequence) and hasattr(data, "iloc"):
        return open_frame(data, con), True
    paths = [data] if isinstance(data, str | Path) else data
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | Path) for path in paths):
        raise RuleError(
            f"read_events: expected a path, a list of paths, a DataFrame or an Ibis table, found {type(data).__name__}"
        )
    return open_source(paths, con, delimiter=delimiter, encoding=encoding, sheet=sheet)


def _read_columns(columns: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    if isinstance(columns, Mapping):
        return columns
    pairs = [columns] if isinstance(columns, str) else list(columns)
    wrong = [pair for pair in pairs if not all(pair.partition("="))]
    if wrong:
        raise RuleError(
            f"read_events: {len(wrong)} of {len(pairs)} columns have no name on both sides of a =: "
            f"{', '.join(map(repr, wrong))}; write ours=theirs, such as channel=utm_medium"
        )
    return dict(pair.split("=", 1) for pair in pairs)


def _describe(data: object) -> str:
    if isinstance(data, str | Path):
        return Path(data).name
    return (
        "the table" if isinstance(data, ibis.Table) else "the files" if isinstance(data, Sequence) else "the DataFrame"
    )


def _check_repairs(repair: str | Iterable[str]) -> frozenset[str]:
    names = {repair} if isinstance(repair, str) else set(repair)
    for name in sorted(names - {"all", *_SWITCHES}):
        raise RuleError(
            f'read_events: no repair "{name}".{nearest(name, _SWITCHES)} Known: all, {", ".join(_SWITCHES)}'
        )
    if "all" in names:
        # A row without a time cannot count; one whose price is unreadable can, without its price.
        usual = {code: p.keep if code == "unparsed_number" else p.repair for code, p in PROBLEMS.items()}
        others = {code for code, p in PROBLEMS.items() if {p.repair, p.keep} & names}
        names = names - {"all"} | {str(switch) for code, switch in usual.items() if code not in others}
    both = [p.repair for p in PROBLEMS.values() if p.repair in names and p.keep in names]
    if both:
        raise RuleError(f"read_events: {both[0]} and its keep_ cannot both be asked for")
    return frozenset(names)


def _rename(raw: ibis.Table, wanted: Mapping[str, str], where: str) -> ibis.Table:
    """Give the columns our names; letter case tells none apart, for it does not in the engine."""
    known = {*REQUIRED, *OPTIONAL}
    wanted = {ours.casefold() if ours.casefold() in known else ours: theirs for ours, theirs in wanted.items()}
    present = {name.casefold(): name for name in raw.columns if name != ROW}
    missing = {ours: theirs for ours, theirs in wanted.items() if theirs.casefold() not in present}
    if missing:
        raise SchemaError(_say_missing(missing, list(present.values()), where))
    found = {ours: present[theirs.casefold()] for ours, theirs in wanted.items()}
    for name in OPTIONAL:
        if name in present and present[name] not in found.values():
            found.setdefault(name, present[name])
    carried = {name: name for name in present.values() if name not in found.values()}
    taken = {name.casefold() for name in found} | RESERVED
    clashes = {name: theirs for name, theirs in found.items() if name.casefold() in RESERVED}
    clashes |= {name: theirs for name, theirs in carried.items() if name.casefold() in taken}
    if clashes:
        hints = ", ".join(f"{'their_' + name.lstrip('_')!r}: {theirs!r}" for name, theirs in clashes.items())
        said = _count(len(clashes), "column has a name that means", "columns have names that mean")
        first = next(f"their_{name.lstrip('_')}={theirs}" for name, theirs in clashes.items())
        raise SchemaError(
            f"{where}: {said} something else here: {', '.join(clashes)}. Rename with columns={{{hints}}} "
            f"(notebooks: columns=[{first}], command line: --column {first})"
        )
    check_names([*found, *carried], where)
    place = {ROW: ROW} if ROW in raw.columns else {}
    return raw.select(**{ours: raw[theirs] for ours, theirs in (found | carried | place).items()})


def _say_missing(missing: Mapping[str, str], present: list[str], where: str) -> str:
    lines = [f"{where}: {_count(len(missing), 'column was', 'columns were')} not found"]
    width = max(map(len, missing))
    lines += [f'  {ours:<{width}}  no column "{theirs}".{nearest(theirs, present)}' for ours, theirs in missing.items()]
    shown = ", ".join(present[:30]) + (f" and {len(present) - 30} more" if len(present) > 30 else "")
    ours = next(iter(missing))
    said = "{}={!r}" if ours in REQUIRED else "columns={{{!r}: {!r}}}"
    example = f"; say which is which, such as read_events(…, {said.format(ours, present[0])})" if present else ""
    return "\n".join([*lines, f"The columns are {shown or 'none at all'}{example}"])


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _find_main_unit(named: ibis.Table, con: ibis.BaseBackend) -> str | None:
    """By which unit do most epochs count? None where no time is one."""
    kind = named.timestamp.type()
    if not (kind.is_string() or kind.is_numeric()):
        return None
    if kind.is_string():
        # Times with a date are not worth reading twice, and mostly there are no others.
        named = named.filter(~named.timestamp.substr(1).contains("-"))
        if not named.limit(1).count().execute():
            return None
    timed = read_times(named.select("timestamp"), con)
    units = timed.filter(timed[TIME].startswith("epoch_")).group_by(TIME).agg(n=lambda t: t.count())
    found = units.order_by(ibis.desc("n"), TIME).limit(1).execute()
    return None if found.empty else str(found[TIME].iloc[0])


def _name_problem(typed: ibis.Table, repairs: frozenset[str], main_unit: str | None) -> ibis.Value:
    """Why does a row not count? The first problem that is not kept, else the first that is, as ``kept_…``."""
    customer, time = typed.customer_id, typed.timestamp
    checks = {
        "null_customer": is_blank(customer),
        "damaged_id": customer.contains("+") & customer.re_search(_DAMAGED_ID),
        "null_event": is_blank(typed.event),
        "null_timestamp": time.isnull() & is_blank(typed[RAW_TIME]),
        "unparsed_timestamp": time.isnull(),
        # A day early, for a local midnight of 1970 may lie in 1969 in UTC.
        "epoch_zero": (time >= ibis.timestamp("1969-12-31")) & (time < ibis.timestamp("1971-01-01")),
        "mixed_epoch": typed[TIME].startswith("epoch_") & (typed[TIME] != (main_unit or "")),
        "unparsed_number": typed[LOST_NUMBER].notnull(),
    }
    if main_unit is None:
        del checks["mixed_epoch"]
    kept = {code for code in checks if PROBLEMS[code].keep in repairs}
    fatal = [(check, code) for code, check in checks.items() if code not in kept]
    harmless = [(check, f"kept_{code}") for code, check in checks.items() if code in kept]
    return ibis.cases(*fatal, *harmless, else_=ibis.null("string"))


def _refuse(events: ibis.Table, repairs: frozenset[str], where: str) -> None:
    """Stop with every failed check at once, unless each has its repair."""
    counts = events.group_by(PROBLEM).agg(n=lambda t: t.count()).execute()
    n_rows = int(counts["n"].sum())
    if n_rows == 0:
        raise SchemaError(f"{where} has no rows: there is nothing to read")
    found = dict(zip(counts[PROBLEM], counts["n"], strict=True))
    failed = {
        code: int(found[code]) for code, problem in PROBLEMS.items() if code in found and problem.repair not in repairs
    }
    if failed:
        unread = (("unparsed_timestamp", RAW_TIME), ("unparsed_number", LOST_NUMBER))
        examples = {column: _list_examples(events, code, column) for code, column in unread if code in failed}
        raise SchemaError(_say_failed(failed, examples, n_rows, where))
    if n_rows == sum(int(found.get(code, 0)) for code in PROBLEMS):
        dropped = ", ".join(PROBLEMS[code].repair for code in PROBLEMS if code in found)
        raise SchemaError(f"{where}: none of {_count(n_rows, 'row', 'rows')} is left after {dropped}")


def _list_examples(events: ibis.Table, code: str, column: str) -> list[str]:
    counts = events.filter(events[PROBLEM] == code).group_by(column).agg(n=lambda t: t.count())
    top: list[str] = counts.order_by(ibis.desc("n"), column).limit(3).execute()[column].tolist()
    return top


def _say_failed(failed: Mapping[str, int], examples: Mapping[str, list[str]], n_rows: int, where: str) -> str:
    lines = [f"{where} failed {_count(len(failed), 'check', 'checks')} in {_count(n_rows, 'row', 'rows')}"]
    problems = [PROBLEMS[code] for code in failed]
    found = [f"{n:,} {PROBLEMS[code].what} ({_percent(n / n_rows)})" for code, n in failed.items()]
    columns, whats = max(len(problem.column) for problem in problems), max(map(len, found))
    lines += [
        f"  {problem.column:<{columns}}  {what:<{whats}}  {problem.advice}"
        for problem, what in zip(problems, found, strict=True)
    ]
    for column, kind in ((RAW_TIME, "times"), (LOST_NUMBER, "numbers")):
        if examples.get(column):
            lines.append(f"  unread {kind} look like {', '.join(repr(text[:40]) for text in examples[column])}")
    lines.append('To set all these rows aside, counted in check_events: repair="all"')
    lines.append(f"To choose: repair=[{', '.join(repr(problem.repair) for problem in problems)}]")
    keeps = [problem.keep for problem in problems if problem.keep]
    if keeps:
        lines.append(f"To let such rows count as they are: {', '.join(repr(keep) for keep in keeps)}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.0005 else format_share(share)
