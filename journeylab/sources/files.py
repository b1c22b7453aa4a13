"""Files and frames as raw tables in the engine: every cell as it stands, every row with its place."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import ibis

from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError
from journeylab.schema import BOOKKEEPING, ROW

if TYPE_CHECKING:
    import pandas as pd

DELIMITERS = ",;\t|"
_SAMPLE = 1 << 20

_POLISH = set("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ")
_RUSSIAN = set("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф")
#: Guesses for text that is not UTF-8, with the letters that speak for each.
_LEGACY = {
    "cp1250": _POLISH,
    "iso8859_2": _POLISH,
    "cp1251": _RUSSIAN,
    "koi8_r": _RUSSIAN,
    "cp866": _RUSSIAN,
    "mac_cyrillic": _RUSSIAN,
    "cp1252": set("éèêàçñäöüßÄÖÜÉ"),
}


def open_source(
    data: str | Path | Sequence[str | Path],
    con: ibis.BaseBackend,
    *,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | None,
) -> ibis.Table:
    """Which rows stand in these files, as they stand, numbered by their place?"""
    paths = find_files(data)
    kind = _kind_of(paths[0])
    if con.name != "duckdb":
        raise RuleError(
            f"read_events: files are read by DuckDB; load {paths[0].name} into {con.name} and pass the table"
        )
    if kind == "parquet":
        return _open_parquet(paths, con)
    if kind == "csv":
        return _open_csv(paths, con, delimiter=delimiter, encoding=encoding)
    if len(paths) > 1:
        raise RuleError(f"read_events: one {kind} file at a time, found {len(paths)}")
    if kind == "json":
        return _open_json_lines(paths[0], con)
    return open_frame(_read_sheet(paths[0], sheet), con)


def find_files(data: str | Path | Sequence[str | Path]) -> list[Path]:
    """Which files does a path, a folder, a glob or a list of them name? In the order of their names."""
    patterns = [data] if isinstance(data, str | Path) else list(data)
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found += (file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
        elif path.exists():
            found.append(path)
        else:
            found += map(Path, glob(str(pattern), recursive=True))
    if not found:
        raise SchemaError(f"no file at {', '.join(map(str, patterns))} (looked from {Path.cwd().name}/)")
    kinds = Counter(_kind_of(path) for path in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        raise SchemaError(f"the files are of several kinds ({counts}); read each kind on its own")
    return sorted(found)


def _kind_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    endings = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json"}
    endings |= {".ndjson": "json", ".json": "json", ".xlsx": "xlsx"}
    ending = Path(name).suffix
    if ending not in endings:
        raise SchemaError(f'{path.name}: the ending "{ending}" is not known; expected {", ".join(endings)}')
    return endings[ending]


def _open_parquet(paths: list[Path], con: ibis.BaseBackend) -> ibis.Table:
    files = [os.fspath(path) for path in paths]
    try:
        raw = con.read_parquet(
            files, file_row_number=True, filename="_file", hive_partitioning="auto", union_by_name=True
        )
    except Exception as error:
        raise SchemaError(f"{paths[0]}: not a Parquet file that can be read ({_first_line(error)})") from error
    place = raw.file_row_number
    if len(files) > 1:
        # Files follow each other by name; 2^40 rows are room enough for one.
        place = ibis.array(files).index(raw["_file"]).cast("int64") * (1 << 40) + place
    return raw.mutate(**{ROW: place}).drop("file_row_number", "_file")


def _open_csv(paths: list[Path], con: ibis.BaseBackend, *, delimiter: str | None, encoding: str | None) -> ibis.Table:
    tables: list[ibis.Table] = []
    headers: list[list[str]] = []
    for path in paths:
        found = encoding or _find_encoding(path)
        header, mark, skip = _read_header(path, found, delimiter)
        headers.append(header)
        if header != headers[0]:
            odd = sorted(set(header) ^ set(headers[0])) or ["their order"]
            raise SchemaError(f"{path.name} has other columns than {paths[0].name}: {', '.join(odd)}")
        with _as_utf8(path, found) as text:
            # Stored at once: the file may be a temporary one, and a row keeps its place however many threads read it.
            raw = con.read_csv(
                os.fspath(text),
                delim=mark,
                quote='"',
                escape='"',
                header=True,
                skip=skip,
                auto_detect=False,
                columns=dict.fromkeys(header, "VARCHAR"),
            )
            try:
                tables.append(store(raw.mutate(**{ROW: ibis.row_number() + (len(tables) << 40)}), con))
            except Exception as error:
                raise SchemaError(f"{path.name}: {_first_line(error, lines=3)}") from error
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _find_encoding(path: Path) -> str:
    with _open_bytes(path) as file:
        sample = file.read(_SAMPLE)
    if not sample.strip():
        raise SchemaError(f"{path.name} is empty: expected a header row with the column names")
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if sample.count(0) > len(sample) // 4:
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    if _is_utf8(path):
        return "utf-8"
    guess = max(_LEGACY, key=lambda name: _letters(sample, name))
    warnings.warn(
        f"{path.name} is not UTF-8; read as {guess}, judged by its letters. Pass encoding= to be sure.", stacklevel=5
    )
    return guess


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _open_bytes(path) as file:
        try:
            while chunk := file.read(_SAMPLE):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _letters(sample: bytes, encoding: str) -> int:
    counts = Counter(sample.decode(encoding, errors="replace"))
    high = sum(n for letter, n in counts.items() if ord(letter) > 127)
    expected = sum(n for letter, n in counts.items() if letter in _LEGACY[encoding])
    return 2 * expected - high


def _read_header(path: Path, encoding: str, delimiter: str | None) -> tuple[list[str], str, int]:
    with io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=None, errors="replace") as file:
        sample = file.read(_SAMPLE)
    lines = sample.splitlines()
    skip = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(("sep=", "#"))), len(lines))
    if skip == len(lines):
        raise SchemaError(f"{path.name} is empty: expected a header row with the column names")
    named = next((line[4:5] for line in lines[:skip] if line.startswith("sep=")), None)
    # The header decides: names hold no delimiters, cells may.
    mark = delimiter or named or max(DELIMITERS, key=lines[skip].count)
    header = [name.strip() for name in next(csv.reader([lines[skip]], delimiter=mark))]
    blank = header.count("")
    if blank:
        raise SchemaError(f"{path.name}: {blank} of {len(header)} columns have no name; name them in the header row")
    check_names(header, path.name)
    return header, mark, skip


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse column names that the engine could not tell apart, or that the load needs itself."""
    twice = [name for name, n in Counter(name.casefold() for name in names).items() if n > 1]
    if twice:
        raise SchemaError(
            f"{where}: {len(twice)} column names occur twice (letter case does not count): {', '.join(twice)}"
        )
    ours = sorted(set(BOOKKEEPING).intersection(name.casefold() for name in names))
    if ours:
        raise SchemaError(f"{where}: {', '.join(ours)} is what the load itself is recorded in; rename your column")


@contextmanager
def _as_utf8(path: Path, encoding: str) -> Iterator[Path]:
    """Give a path to the text in UTF-8 with line feeds: the file itself where it is so, else a copy for the while."""
    if encoding in ("utf-8", "utf-8-sig") and not _has_lone_returns(path):
        yield path
        return
    handle, copy = tempfile.mkstemp(suffix=".csv", prefix="journeylab-")
    try:
        with (
            open(handle, "w", encoding="utf-8", newline="\n") as out,
            io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=None) as source,
        ):
            shutil.copyfileobj(source, out)
        yield Path(copy)
    except (UnicodeError, LookupError) as error:
        raise SchemaError(f"{path.name}: cannot be read as {encoding} ({error}); pass encoding=") from error
    finally:
        os.unlink(copy)


def _has_lone_returns(path: Path) -> bool:
    with _open_bytes(path) as file:
        sample = file.read(_SAMPLE)
    return b"\r" in sample and b"\n" not in sample


def _open_bytes(path: Path) -> io.BufferedReader:
    # A GzipFile reads like a BufferedReader.
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _open_json_lines(path: Path, con: ibis.BaseBackend) -> ibis.Table:
    name = os.fspath(path)
    try:
        # Two looks: the first for the names, the second for every value as the text that stands in the file.
        names = con.read_json(name, format="newline_delimited", sample_size=-1).columns
        check_names(names, path.name)
        raw = con.read_json(name, format="newline_delimited", columns=dict.fromkeys(names, "VARCHAR"))
        return store(raw.mutate(**{ROW: ibis.row_number()}), con)
    except SchemaError:
        raise
    except Exception as error:
        raise SchemaError(f"{path.name}: not JSON lines, one object a line ({_first_line(error)})") from error


def _read_sheet(path: Path, sheet: str | None) -> pd.DataFrame:
    import pandas as pd
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise SchemaError(f"{path.name}: not an xlsx file that can be read ({_first_line(error)})") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise SchemaError(f'{path.name} has no sheet "{sheet}"; it has {", ".join(book.sheetnames)}')
    rows = ([_cell_text(cell) for cell in row] for row in book[sheet or book.sheetnames[0]].values)
    filled = (row for row in rows if any(row))
    header = next(filled, None)
    if header is None:
        raise SchemaError(f"{path.name} is empty: expected a header row with the column names")
    names = [name or f"column_{i}" for i, name in enumerate(header, 1)]
    return pd.DataFrame(filled, columns=names, dtype=object)


def _cell_text(cell: object) -> str | None:
    if cell is None or cell == "":
        return None
    if isinstance(cell, float | int) and not isinstance(cell, bool):
        # A sheet keeps 15 digits: what is longer has been rounded and must look so.
        return f"{cell:.5E}" if abs(cell) >= 1e15 else f"{cell:.15g}"
    return cell.isoformat(sep=" ") if isinstance(cell, datetime) else str(cell)


def open_frame(frame: pd.DataFrame, con: ibis.BaseBackend) -> ibis.Table:
    """Put a DataFrame into the engine; its rows are numbered from the top, its index means nothing."""
    import pandas as pd
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    check_names(names, "the DataFrame")
    columns = {}
    for i, name in enumerate(names):
        column = frame.iloc[:, i]
        if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
            column = column.map(str, na_action="ignore").astype("str")
        columns[name] = pa.array(column, from_pandas=True)
    columns[ROW] = pa.array(range(len(frame)), type=pa.int64())
    return con.create_table(ibis.util.gen_name("journeylab"), pa.table(columns), temp=con.name == "duckdb")


def _first_line(error: Exception, *, lines: int = 1) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:lines])
