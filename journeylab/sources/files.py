"""Files and frames as raw tables in the engine: every cell as it stands, every row with its place."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from glob import escape, glob
from pathlib import Path

import ibis
import ibis.expr.operations as ops

from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError
from journeylab.schema import ROW, check_names
from journeylab.sources.frames import open_frame, read_sheet
from journeylab.sources.texts import SAMPLE, as_utf8, find_encoding, open_bytes

DELIMITERS = ",;\t|"
#: What the names of our views hold.
_VIEW = "journeylab_view"


def open_source(
    data: str | Path | Sequence[str | Path],
    con: ibis.BaseBackend,
    *,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | None,
) -> tuple[ibis.Table, bool]:
    """Open files: their rows as they stand, numbered by their place, and whether these are a copy in the engine."""
    paths = find_files(data)
    kind = _kind_of(paths[0])
    if con.name != "duckdb":
        raise RuleError(
            f"read_events: files are read by DuckDB; load {paths[0].name} into {con.name} and pass the table"
        )
    if delimiter is not None and len(delimiter) != 1:
        raise RuleError(f"read_events: delimiter must be one character, found {delimiter!r}")
    if encoding is not None:
        try:
            encoding = codecs.lookup(encoding).name
        except LookupError as error:
            raise RuleError(f'read_events: no encoding "{encoding}"; expected such as utf-8 or cp1250') from error
    if kind == "parquet":
        return _open_parquet(paths, con), False
    if kind != "csv" and len(paths) > 1:
        raise RuleError(f"read_events: one {kind} file at a time, found {len(paths)}")
    if kind == "xlsx":
        return open_frame(read_sheet(paths[0], sheet), con, where=paths[0].name), True
    try:
        if kind == "json":
            return _open_json_lines(paths[0], con, encoding), True
        return _open_csv(paths, con, delimiter=delimiter, encoding=encoding), True
    except (gzip.BadGzipFile, EOFError) as error:
        raise SchemaError(f"{paths[0].name}: the ending says gzip, but it is none or cut off ({error})") from error


def find_files(data: str | Path | Sequence[str | Path]) -> list[Path]:
    """Which files does a path, a folder, a glob or a list of them name? Each once, in the order of their names."""
    patterns = [data] if isinstance(data, str | Path) else list(data)
    found: set[Path] = set()
    for pattern in patterns:
        paths = (
            [Path(pattern)] if Path(pattern).exists() else [Path(path) for path in glob(str(pattern), recursive=True)]
        )
        found.update(path for path in paths if path.is_file())
        for folder in (path for path in paths if path.is_dir()):
            inside = (file.relative_to(folder).parts for file in folder.rglob("*") if file.is_file())
            # Not such as _SUCCESS, _temporary/ and .ipynb_checkpoints/.
            found |= {folder.joinpath(*parts) for parts in inside if not any(part[0] in "._" for part in parts)}
    if not found:
        named = ", ".join(map(str, patterns)) or "an empty list"
        raise SchemaError(f"no file at {named} (looked from {Path.cwd()})")
    kinds = Counter(_kind_of(path) for path in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        raise SchemaError(f"the files are of several kinds ({counts}); read each kind on its own")
    # Absolute, as Ibis hands them to DuckDB, which then names the file of each row so.
    return sorted({Path(os.path.abspath(path)) for path in found})


def _kind_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    endings = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json"}
    endings |= {".ndjson": "json", ".json": "json", ".xlsx": "xlsx"}
    ending = Path(name).suffix
    if ending not in endings:
        raise SchemaError(f'{path.name}: the ending "{ending}" is not known; expected {", ".join(endings)}')
    return endings[ending]


def drop(table: ibis.Table, con: ibis.BaseBackend) -> None:
    """Take out of the engine what reading has put into it: the tables and views under `table`."""
    for stored in table.op().find(ops.DatabaseTable):
        if _VIEW in stored.name:
            con.drop_view(stored.name, force=True)
        else:
            con.drop_table(stored.name, force=True)


def _open_parquet(paths: list[Path], con: ibis.BaseBackend) -> ibis.Table:
    files = [os.fspath(path) for path in paths]
    try:
        raw = con.read_parquet(
            [escape(file) for file in files],
            table_name=ibis.util.gen_name(_VIEW),
            file_row_number=True,
            filename="_row_file",
            union_by_name=True,
        )
    except Exception as error:
        raise SchemaError(f"{paths[0].name}: cannot be read as Parquet ({_first_line(error)})") from error
    names = [name for name in raw.columns if name not in ("file_row_number", "_row_file")]
    try:
        check_names(names, paths[0].name)
    except SchemaError:
        drop(raw, con)
        raise
    # Ibis has no name for the type of a column that is null throughout.
    columns = {name: raw[name].cast("string") if "NULL" in str(raw[name].type()) else raw[name] for name in names}
    if len(files) == 1:
        return raw.select(**columns, **{ROW: raw.file_row_number})
    # Files follow each other by name; 2^40 rows are room enough for one. A join, for an array of many files is slow.
    order = ibis.memtable({"_row_file": files, "_row_first": [i << 40 for i in range(len(files))]})
    placed = raw.mutate(**columns).left_join(order, "_row_file")
    return placed.select(*names, **{ROW: placed["_row_first"] + placed.file_row_number})


def _open_csv(paths: list[Path], con: ibis.BaseBackend, *, delimiter: str | None, encoding: str | None) -> ibis.Table:
    tables: list[ibis.Table] = []
    first: list[str] = []
    try:
        for path in paths:
            found = encoding or find_encoding(path, "a header row with the column names")
            header, mark, skip = _read_header(path, found, delimiter)
            first = first or header
            if header != first:
                odd = sorted(set(header) ^ set(first)) or ["their order"]
                raise SchemaError(f"{path.name} has other columns than {paths[0].name}: {', '.join(odd)}")
            with as_utf8(path, found) as text:
                options = {"delim": mark, "quote": '"', "escape": '"', "header": True, "skip": skip}
                types = dict.fromkeys(header, "VARCHAR")
                view = con.read_csv(
                    escape(os.fspath(text)),
                    table_name=ibis.util.gen_name(_VIEW),
                    **options,
                    auto_detect=False,
                    columns=types,
                )
                try:
                    tables.append(_number_rows(view, con, len(tables) << 40))
                except Exception as error:
                    raise SchemaError(_say_unread_line(path, len(header), error)) from error
    except Exception:
        for table in tables:
            drop(table, con)
        raise
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _number_rows(view: ibis.Table, con: ibis.BaseBackend, first: int = 0) -> ibis.Table:
    """Store what a view reads, at once: its file may be a temporary one, and threads must not shuffle the rows."""
    try:
        return store(view.mutate(**{ROW: ibis.row_number() + first}), con)
    finally:
        drop(view, con)


def _say_unread_line(path: Path, n_columns: int, error: Exception) -> str:
    said = str(error)
    line, cells = re.search(r"CSV Error on Line: (\d+)", said), re.search(r"Found: (\d+)", said)
    text = re.search(r"Original Line: (.*)", said)
    if line is None:
        return f"{path.name}: {_first_line(error, lines=2)}"
    cause = "has a quote that is not closed, or text after one"
    if cells is not None:
        cause = f"has {cells[1]} cell{'s' if cells[1] != '1' else ''}, the header {n_columns}"
    elif "unicode" in said.lower() or "utf-8" in said.lower():
        cause = "is not UTF-8; pass encoding="
    elif "unterminated" not in said.lower():
        cause = f"cannot be read ({_first_line(error, lines=6)})"
    shown = f": {text[1][:100]}" if text and text[1].strip() else ""
    return f"{path.name}, line {line[1]}, {cause}{shown}"


def _read_header(path: Path, encoding: str, delimiter: str | None) -> tuple[list[str], str, int]:
    try:
        with io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=None, errors="replace") as file:
            lines = file.read(SAMPLE).removeprefix("\ufeff").split("\n")
    except UnicodeError as error:
        raise SchemaError(f"{path.name}: cannot be read as {encoding} ({error}); pass encoding=") from error
    skip = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(("sep=", "#"))), len(lines))
    if skip == len(lines):
        raise SchemaError(f"{path.name} is empty: expected a header row with the column names")
    named = next((line[4:5] for line in lines[:skip] if line.startswith("sep=")), None)
    mark = delimiter or named or _find_delimiter(lines[skip : skip + 20])
    # A quoted name can go over several lines.
    header = next(csv.reader((line + "\n" for line in lines[skip:]), delimiter=mark))
    names = [" ".join(name.split()) or f"column_{i}" for i, name in enumerate(header, 1)]
    check_names(names, path.name)
    return names, mark, skip


def _find_delimiter(lines: Sequence[str]) -> str:
    """Which mark parts the header and the rows after it? Quoted cells do not count, nor a last line, cut off."""
    bare = re.sub(r'"[^"]*"', "", "\n".join(lines)).split("\n")
    bare = [line for line in bare if line.strip()]
    whole = bare[:-1] if len(bare) > 2 else bare
    return max(DELIMITERS, key=lambda mark: (min(line.count(mark) for line in whole), bare[0].count(mark)))


def _open_json_lines(path: Path, con: ibis.BaseBackend, encoding: str | None) -> ibis.Table:
    found = encoding or find_encoding(path, "one object a line")
    # DuckDB's reader of JSON stumbles over a byte order mark.
    with as_utf8(path, found, without_bom=True) as text:
        # An object is a row however many names it has, and what is nested in it stays JSON.
        options = {"format": "newline_delimited", "records": "true", "maximum_depth": 1, "map_inference_threshold": -1}
        file = escape(os.fspath(text))
        try:
            # Two looks: the first for the names, the second for every value as the text that stands in the file.
            look = con.read_json(file, table_name=ibis.util.gen_name(_VIEW), **options, sample_size=-1)
            drop(look, con)
            check_names(look.columns, path.name)
            types = dict.fromkeys(look.columns, "VARCHAR")
            return _number_rows(
                con.read_json(file, table_name=ibis.util.gen_name(_VIEW), **options, columns=types), con
            )
        except SchemaError:
            raise
        except Exception as error:
            said = _first_line(error).replace(f' in file "{text}"', "")
            raise SchemaError(f"{path.name}: not JSON lines, one object a line ({said})") from error


def _first_line(error: Exception, *, lines: int = 1) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:lines])
