"""Files as they come: delimiters, encodings, line ends, Parquet folders, JSON lines, workbooks, DataFrames."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import fetch

import journeylab as jl

HEADER = "customer_id,event,timestamp,channel\n"
ROWS = "a,cart,2026-01-01,web\nb,pay,2026-01-02,app\n"
EXPECTED = [("a", "cart", "web"), ("b", "pay", "app")]
POLISH = "customer_id;event;timestamp;miasto\na;Zażółć gęślą jaźń;2026-01-01;Łódź\nb;koszyk;2026-01-02;Świdnica\n"
RUSSIAN = "customer_id;event;timestamp;город\na;Корзина;2026-01-01;Москва\nb;оплата заказа;2026-01-02;Санкт-Петербург\n"

Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def read(con: ibis.BaseBackend) -> Read:
    """Rows of a log in the order of their places."""

    def _read(data: Any, **options: Any) -> list[dict[str, Any]]:
        rows = fetch(jl.read_events(data, con=con, **options))
        return sorted(rows, key=lambda row: row["_row"])

    return _read


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def pick(rows: list[dict[str, Any]], *names: str) -> list[Any]:
    return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in rows]


def frame(**columns: Any) -> pd.DataFrame:
    n = len(next(iter(columns.values()), (1, 2)))
    times = [dt.datetime(2026, 1, 1)] * n
    return pd.DataFrame({"customer_id": ["a"] * n, "event": [f"e{i}" for i in range(n)], "timestamp": times} | columns)


def parquet(path: Path, *, row_group_size: int | None = None, **columns: Any) -> Path:
    n = len(next(iter(columns.values())))
    base = {"customer_id": ["a"] * n, "event": ["e"] * n, "timestamp": [dt.datetime(2026, 1, 1)] * n}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(base | columns), path, row_group_size=row_group_size)
    return path


def workbook(path: Path, *rows: list[Any], title: str = "Events") -> Path:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.create_sheet("Empty")
    book.save(path)
    return path


def list_tables(con: ibis.BaseBackend) -> set[str]:
    return {
        name
        for (name,) in con.raw_sql(
            "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    }


# Text.


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "semicolon": ("x.csv", (HEADER + ROWS).replace(",", ";")),
        "tab": ("x.tsv", (HEADER + ROWS).replace(",", "\t")),
        "pipe": ("x.txt", (HEADER + ROWS).replace(",", "|")),
        "windows": ("x.csv", (HEADER + ROWS).replace("\n", "\r\n")),
        "old mac": ("x.csv", (HEADER + ROWS).replace("\n", "\r")),
        "mixed ends": ("x.csv", (HEADER + ROWS).replace("\n", "\r\n", 1)),
        "no last end": ("x.csv", (HEADER + ROWS).rstrip()),
        "byte order mark": ("x.csv", "\ufeff" + HEADER + ROWS),
        "sep": ("x.csv", "sep=;\r\n" + (HEADER + ROWS).replace(",", ";").replace("\n", "\r\n")),
        "preamble": ("x.csv", "\n# export of the shop, 2026\n\n" + HEADER + ROWS),
        "upper case": ("X.CSV", HEADER + ROWS),
        "gzip": ("x.csv.gz", gzip.compress((HEADER + ROWS).encode(), mtime=0)),
        "gzip of utf-16": ("X.CSV.GZ", gzip.compress((HEADER + ROWS).encode("utf-16"), mtime=0)),
        "other header": ("x.csv", HEADER.replace("event", " Event ").replace("channel", "CHANNEL") + ROWS),
        "named like a glob": ("[x]*.csv", HEADER + ROWS),
    }.values(),
)
def test_shapes_of_text_files(tmp_path: Path, read: Read, name: str, content: str | bytes) -> None:
    # Were the name taken for a pattern, these would be read.
    write(tmp_path / "xa.csv", HEADER + "decoy,x,2026-01-01,web\n")
    assert pick(read(write(tmp_path / name, content)), "customer_id", "event", "channel") == EXPECTED


def test_quotes_delimiters_and_line_breaks_in_cells(tmp_path: Path, read: Read) -> None:
    cells = ["plain", "a;b,c", 'say "hi"', "two\nlines", "=1+1", "  spaces  ", "'", "☃ 🛒"]
    quoted = [f'"{cell}"'.replace('say "hi"', 'say ""hi""') for cell in cells]
    rows = [f"a;e{i};2026-01-01;{cell}" for i, cell in enumerate(quoted)]
    header = 'customer_id;event;timestamp;"a,b,c,d,e,f\nand g"'
    for end in ("\n", "\r\n"):
        path = write(tmp_path / "x.csv", end.join([header, *rows]) + end)
        assert pick(read(path), "a,b,c,d,e,f and g") == cells
    # Quotes inside a cell that does not begin with one are text.
    path = write(tmp_path / "inch.csv", HEADER + 'a,x,2026-01-01,the 5" tv\n')
    assert pick(read(path), "channel") == ['the 5" tv']


def test_delimiter_is_told_by_header_and_rows_and_can_be_given(tmp_path: Path, read: Read) -> None:
    path = write(tmp_path / "x.csv", "customer_id,event,timestamp,a;b;c;d;e\na,x,2026-01-01,1\n")
    assert pick(read(path), "a;b;c;d;e") == ["1"]
    path = write(tmp_path / "y.csv", "customer_id^event^timestamp\na^x^2026-01-01\n")
    assert pick(read(path, delimiter="^"), "event") == ["x"]
    with pytest.raises(jl.RuleError, match=r"delimiter must be one character, found '\|\|'"):
        read(path, delimiter="||")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [POLISH, RUSSIAN], ids=["pl", "ru"])
def test_unicode_is_recognised(
    tmp_path: Path, con: ibis.BaseBackend, recwarn: pytest.WarningsRecorder, text: str, encoding: str
) -> None:
    events = jl.read_events(write(tmp_path / "x.csv", text, encoding), con=con)
    assert [row["event"] for row in fetch(events)] == [line.split(";")[1] for line in text.splitlines()[1:]]
    assert text.splitlines()[0].split(";")[3] in events.columns
    assert not [found for found in recwarn if found.category is UserWarning]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((POLISH, name) for name in ("cp1250", "iso8859_2")),
        *((RUSSIAN, name) for name in ("cp1251", "koi8_r", "cp866", "mac_cyrillic")),
    ],
)
def test_old_encodings_are_guessed_with_a_warning_or_given(
    tmp_path: Path, read: Read, text: str, encoding: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = write(tmp_path / "x.csv", text, encoding)
    expected = [line.split(";")[1] for line in text.splitlines()[1:]]
    with pytest.warns(
        UserWarning, match=f"x.csv is not UTF-8; read as {encoding}, .* Pass encoding= to be sure"
    ) as seen:
        assert pick(read(path), "event") == expected
    assert [one.filename for one in seen if one.category is UserWarning] == [__file__]
    recwarn.clear()
    assert pick(read(path, encoding=encoding.upper()), "event") == expected
    assert not [found for found in recwarn if found.category is UserWarning]


def test_a_wrong_encoding_is_an_error_that_names_the_file(tmp_path: Path, read: Read) -> None:
    path = write(tmp_path / "x.csv", POLISH, "cp1250")
    with pytest.raises(jl.SchemaError, match=r"x.csv, line 2, is not UTF-8; pass encoding="):
        read(path, encoding="utf-8")
    with pytest.raises(jl.SchemaError, match=r"x.csv: cannot be read as utf-16 .*; pass encoding="):
        read(path, encoding="utf-16")
    with pytest.raises(jl.RuleError, match=r'no encoding "klingon"; expected such as utf-8 or cp1250'):
        read(path, encoding="klingon")
    # One that only says what the file is anyway, byte order mark or not.
    assert pick(read(write(tmp_path / "y.csv", POLISH, "utf-8-sig"), encoding="UTF8"), "customer_id") == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + ROWS + "c,pay\n", "x.csv, line 4, has 2 cells, the header 4: c,pay"),
        ("# shop\n" + HEADER + ROWS + "c\n", "x.csv, line 5, has 1 cell, the header 4: c"),
        (HEADER + "c,pay,2026-01-01,web,5\n", "x.csv, line 2, has 5 cells, the header 4: c,pay,2026-01-01,web,5"),
        (
            HEADER + 'c,"pay" now,2026-01-01,web\n',
            "x.csv, line 2, has a quote that is not closed, or text after one: c",
        ),
        (HEADER + 'c,"pay,2026-01-01,web\n', "x.csv, line 2, has a quote that is not closed, or text after one: c"),
        ("customer_id,event,timestamp,x,X\n", "x.csv: column names occur twice (letter case does not count): x"),
        (
            "customer_id,event,timestamp,_row\n",
            "x.csv: the load itself is recorded in _row; drop or rename your column",
        ),
        ("", "x.csv is empty: expected a header row with the column names"),
        ("\n \n", "x.csv is empty: expected a header row with the column names"),
        (HEADER, "x.csv has no rows: there is nothing to read"),
        (HEADER.strip(), "x.csv has no rows: there is nothing to read"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, con: ibis.BaseBackend, content: str, message: str) -> None:
    with pytest.raises(jl.SchemaError) as error:
        jl.read_events(write(tmp_path / "x.csv", content), con=con)
    assert str(error.value).startswith(message)
    assert list_tables(con) == set()


def test_columns_without_a_name_are_numbered(tmp_path: Path, con: ibis.BaseBackend) -> None:
    events = jl.read_events(write(tmp_path / "x.csv", ",customer_id,event,timestamp,\n0,a,x,2026-01-01,\n"), con=con)
    assert events.columns == ("customer_id", "event", "timestamp", "column_1", "column_5", "_row", "_time", "_problem")


def test_several_csv_files_follow_each_other_by_name(tmp_path: Path, con: ibis.BaseBackend, read: Read) -> None:
    (tmp_path / "in").mkdir()
    for name, customer in (("b.csv", "second"), ("a.csv", "first")):
        write(tmp_path / "in" / name, HEADER + f"{customer},x,2026-01-01,web\n{customer},y,2026-01-01,web\n")
    expected = [("first", "x"), ("first", "y"), ("second", "x"), ("second", "y")]
    listed = [tmp_path / "in" / "b.csv", str(tmp_path / "in" / "a.csv")]
    for data in (str(tmp_path / "in" / "*.csv"), tmp_path / "in", listed):
        assert pick(read(data), "customer_id", "event") == expected
    steps = fetch(jl.build_steps(jl.read_events(tmp_path / "in", con=con)))
    assert pick(steps, "event", "step") == [("x", 1), ("y", 2)] * 2
    before = list_tables(con)
    write(tmp_path / "in" / "c.csv", HEADER.replace("channel", "chanel") + ROWS)
    with pytest.raises(jl.SchemaError, match=r"c.csv has other columns than a.csv: chanel, channel"):
        read(tmp_path / "in")
    write(tmp_path / "in" / "c.csv", "event,customer_id,timestamp,channel\n")
    with pytest.raises(jl.SchemaError, match=r"c.csv has other columns than a.csv: their order"):
        read(tmp_path / "in")
    assert list_tables(con) == before


def test_finding_files(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.csv", HEADER + ROWS)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    write(tmp_path / ".ipynb_checkpoints" / "x-checkpoint.csv", HEADER + ROWS)
    write(tmp_path / "_SUCCESS", "")
    # Named twice it is read once.
    for data in (tmp_path, [path, path, str(tmp_path / "*.csv"), tmp_path / ".ipynb_checkpoints" / ".." / "x.csv"]):
        assert len(read(data)) == 2
    monkeypatch.chdir(tmp_path)
    assert len(read("x.csv")) == 2
    parquet(tmp_path / "x.parquet", n=[1])
    for data, message in {
        "nothing.csv": rf"no file at nothing.csv \(looked from {tmp_path}\)",
        "*.tsv": r"no file at \*.tsv",
        "x.pdf": "no file at x.pdf",
        ".": r"the files are of several kinds \(1 csv, 1 parquet\); read each kind on its own",
    }.items():
        with pytest.raises(jl.SchemaError, match=message):
            read(data)
    with pytest.raises(jl.SchemaError, match="no file at an empty list"):
        read([])
    write(tmp_path / "x.pdf", "")
    with pytest.raises(jl.SchemaError, match=r'x.pdf: the ending ".pdf" is not known; expected .parquet, '):
        read("x.pdf")
    with pytest.raises(jl.SchemaError, match=r"y.csv.gz: the ending says gzip, but it is none or cut off"):
        read(write(tmp_path / "y.csv.gz", HEADER))
    for data in ([1], {"a": 1}, None, pa.table({"customer_id": ["a"]})):
        with pytest.raises(jl.RuleError, match="expected a path, a list of paths, a DataFrame or an Ibis table, found"):
            read(data)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_keeps_its_order(tmp_path: Path, threads: int) -> None:
    # Large enough for DuckDB to read it in several pieces at once.
    n, filling = 200_000, "." * 100
    lines = "\n".join(f"c,e{i},2026-01-01,{filling}" for i in range(n))
    path = write(tmp_path / "x.csv", f"customer_id,event,timestamp,filling\n{lines}\n")
    events = [f"e{i}" for i in range(n)]
    parquet(tmp_path / "x.parquet", customer_id=["c"] * n, event=events, row_group_size=10_000)
    con = jl.connect(threads=threads)
    for data in (path, tmp_path / "x.parquet"):
        steps = jl.build_steps(jl.read_events(data, con=con))
        wrong = steps.filter(steps.event != ibis.literal("e").concat((steps.step - 1).cast("string")))
        assert wrong.count().execute() == 0
        assert steps.count().execute() == n
    con.disconnect()


# Parquet.


def test_parquet_file_list_glob_and_folder(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    # The second file has one column more, and its name comes first.
    parquet(tmp_path / "p" / "b.parquet", customer_id=["b", "b"], n=[1, 2])
    parquet(tmp_path / "p" / "a.pq", customer_id=["a", "a"], n=[3, 4], more=["x", None])
    expected = [("a", 3, "x"), ("a", 4, None), ("b", 1, None), ("b", 2, None)]
    files = sorted((tmp_path / "p").iterdir(), reverse=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("p")
    by_any_way = [Path("p", "..", "p", "b.parquet"), str(tmp_path / "p" / ".." / "p" / "a.pq")]
    for data in (tmp_path / "p", files, str(tmp_path / "p" / "*.p*q*"), "p", "./p/*", "link", by_any_way):
        assert pick(read(data), "customer_id", "n", "more") == expected
    assert pick(read(files[0]), "customer_id", "n", "_row") == [("b", 1, 0), ("b", 2, 1)]
    # A name that DuckDB would take for a pattern.
    odd = parquet(tmp_path / "odd" / "[x].parquet", customer_id=["right"])
    parquet(tmp_path / "odd" / "x.parquet", customer_id=["wrong"])
    assert pick(read(odd), "customer_id") == ["right"]


def test_hive_folder_has_its_partitions_and_the_order_of_its_files(tmp_path: Path, con: ibis.BaseBackend) -> None:
    for month, names in (("2026-02", ["c", "d"]), ("2026-01", ["a", "b"])):
        for i, name in enumerate(names):
            parquet(
                tmp_path / "log" / f"month={month}" / "kind=x" / f"part-{i}.parquet", event=[name + "1", name + "2"]
            )
    write(tmp_path / "log" / "_SUCCESS", "")
    steps = fetch(jl.build_steps(jl.read_events(tmp_path / "log", con=con)))
    assert pick(steps, "event") == ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"]
    assert jl.read_events(str(tmp_path / "log" / "month=2026-0*"), con=con).count().execute() == 8
    assert [str(row["month"])[:7] for row in steps] == ["2026-01"] * 4 + ["2026-02"] * 4
    assert set(pick(steps, "kind")) == {"x"}


def test_parquet_stays_where_it_is(tmp_path: Path, con: ibis.BaseBackend) -> None:
    n = 100_000
    path = parquet(tmp_path / "x.parquet", customer_id=[str(i) for i in range(n)])
    events = jl.read_events(path, con=con)
    assert con.raw_sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert all("view" in table.name for table in events.op().find(ops.DatabaseTable))
    # The rows come from the file each time.
    parquet(path, customer_id=["new"])
    assert events.count().execute() == 1


def test_parquet_types(tmp_path: Path, read: Read) -> None:
    big = 9007199254740993
    arrays = {
        "int64": pa.array([big, 7]),
        "uint64": pa.array([big, 7], pa.uint64()),
        "string": pa.array([str(big), "7"]),
        "dictionary": pa.array([str(big), "7"]).dictionary_encode(),
        "decimal": pa.array([Decimal(big), Decimal(7)], pa.decimal128(20, 0)),
    }
    for kind, array in arrays.items():
        rows = read(parquet(tmp_path / f"{kind}.parquet", customer_id=array))
        assert pick(rows, "customer_id") == [str(big), "7"], kind
    with pytest.raises(
        jl.SchemaError, match=r"^customer_id is a column of floating point numbers: .*customer_id.: str"
    ):
        read(parquet(tmp_path / "float.parquet", customer_id=[1.0]))
    rows = read(
        parquet(
            tmp_path / "more.parquet",
            nothing=pa.nulls(2),
            value=[Decimal("1.25"), None],
            nested=[{"a": [1]}, None],
            mapped=pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            event=["x", "y"],
        ),
    )
    assert pick(rows, "value", "nothing", "nested") == [(1.25, None, {"a": [1]}), (None, None, None)]


def test_what_is_not_parquet(tmp_path: Path, read: Read) -> None:
    with pytest.raises(jl.SchemaError, match=r"^x.parquet: cannot be read as Parquet \("):
        read(write(tmp_path / "x.parquet", "PAR1"))
    empty = parquet(tmp_path / "y.parquet", n=[1])
    pq.write_table(pq.read_table(empty).slice(0, 0), empty)
    with pytest.raises(jl.SchemaError, match=r"^y.parquet has no rows: there is nothing to read$"):
        read(empty)


# JSON lines.


def test_json_lines_keep_every_value_as_it_stands(tmp_path: Path, read: Read) -> None:
    lines = [
        {
            "customer_id": 9223372036854775807,
            "event": "x",
            "timestamp": "2026-01-01T10:00:00Z",
            "deep": {"k": [1, None]},
        },
        {"timestamp": 1767261600, "event": "y", "customer_id": "NA", "late": True, "value": 1.5},
        {"customer_id": "0012", "event": 'a "b" ł', "timestamp": "2026-01-01T11:00:00+01:00", "deep": None, "value": 2},
    ]
    text = "\n".join(map(json.dumps, lines)).replace("9223372036854775807", "12345678901234567890123") + "\n\n"
    expected = [
        ("12345678901234567890123", "x", '{"k":[1,null]}', None, None),
        ("NA", "y", None, "true", 1.5),
        ("0012", 'a "b" ł', None, None, 2.0),
    ]
    for name, content in (
        ("x.jsonl", text.encode()),
        ("x.ndjson", b"\xef\xbb\xbf" + text.encode()),
        ("x.json", text.encode("utf-16")),
        ("x.jsonl.gz", gzip.compress(text.encode())),
    ):
        rows = read(write(tmp_path / name, content))
        assert pick(rows, "customer_id", "event", "deep", "late", "value") == expected, name
        assert {row["timestamp"] for row in rows} == {dt.datetime(2026, 1, 1, 10)}


def test_json_lines_may_have_hundreds_of_names(tmp_path: Path, read: Read) -> None:
    lines = [{"customer_id": f"c{i}", "event": "x", "timestamp": "2026-01-01", f"key_{i}": i} for i in range(220)]
    rows = read(write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines))))
    assert [row[f"key_{i}"] for i, row in enumerate(rows)] == [str(i) for i in range(220)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.jsonl is empty: expected one object a line"),
        ("\n\n", "x.jsonl is empty: expected one object a line"),
        ('[{"customer_id": 1}]\n', "x.jsonl: not JSON lines, one object a line ("),
        ('"text"\n3\n', "x.jsonl: not JSON lines, one object a line ("),
        ('{"customer_id": "a",\n"event": "x"}\n', "x.jsonl: not JSON lines, one object a line ("),
        ('{"customer_id": "a", "_row": 1}\n', "x.jsonl: the load itself is recorded in _row"),
        ('{"customer_id": "a", "event": "x"}\n', "x.jsonl: 1 column was not found"),
    ],
)
def test_what_is_not_json_lines(tmp_path: Path, con: ibis.BaseBackend, content: str, message: str) -> None:
    path = write(tmp_path / "x.jsonl", content)
    with pytest.raises(jl.SchemaError) as error:
        jl.read_events(path, con=con)
    assert str(error.value).startswith(message)
    assert str(tmp_path) not in str(error.value)
    assert list_tables(con) == set()
    with pytest.raises(jl.RuleError, match="one json file at a time, found 2"):
        jl.read_events([path, write(tmp_path / "y.jsonl", content)], con=con)


# Workbooks.


def test_xlsx_dates_numbers_and_damaged_ids(tmp_path: Path, con: ibis.BaseBackend, read: Read) -> None:
    path = workbook(
        tmp_path / "x.xlsx",
        [None, None, None],
        ["customer_id", "event", "timestamp", "value", "note", None],
        [1234567890123456, "x", dt.datetime(2026, 1, 1, 10, 30, 0, 500000), 1.125, True],
        ["0012", "=1+1", "2026-01-01 10:30", None, dt.date(2026, 1, 2)],
        [],
        [7, "x", 1767263400, 2, dt.time(10, 0), "overhang"],
        [123456789012345, "", dt.datetime(2026, 1, 1, 10, 30), 0.3, None],
    )
    # A number in a cell has no decimal mark: 1.125 is never 1125.
    for decimal in (None, ",", "."):
        rows = read(path, decimal=decimal, repair="all")
        assert pick(rows, "customer_id", "value", "_problem") == [
            ("1.23457E+15", 1.125, "damaged_id"),
            ("0012", None, "null_event"),
            ("7", 2.0, None),
            ("123456789012345", 0.3, "null_event"),
        ]
    assert pick(rows, "note") == ["True", "2026-01-02 00:00:00", "10:00:00", None]
    assert pick(rows, "column_6") == [None, None, "overhang", None]
    start = dt.datetime(2026, 1, 1, 10, 30)
    assert pick(rows, "timestamp") == [start.replace(microsecond=500000), start, start, start]
    with pytest.raises(jl.SchemaError, match=r'x.xlsx has no sheet "events"; it has Events, Empty'):
        read(path, sheet="events")
    with pytest.raises(jl.SchemaError, match=r"x.xlsx is empty: expected a header row with the column names"):
        read(path, sheet="Empty")
    with pytest.raises(jl.SchemaError, match=r"y.xlsx has no rows: there is nothing to read"):
        read(workbook(tmp_path / "y.xlsx", ["customer_id", "event", "timestamp"]))
    with pytest.raises(jl.SchemaError, match=r"z.xlsx: not an xlsx file that can be read \(File is not a zip file\)"):
        read(write(tmp_path / "z.xlsx", b""))
    fractions = workbook(tmp_path / "f.xlsx", ["customer_id", "event", "timestamp"], [1.5, "x", "2026-01-01"])
    with pytest.raises(jl.SchemaError, match="customer_id is a column of floating point numbers"):
        read(fractions)


# DataFrames and Ibis tables.


def test_frame_ids_stay_text(read: Read) -> None:
    big = 9223372036854775807
    for ids, expected in (
        ([big, 7], [str(big), "7"]),
        (pd.array([big, 7], dtype="Int64"), [str(big), "7"]),
        (pd.Series(["NA", 7], dtype=object), ["NA", "7"]),
        (["007", "NA"], ["007", "NA"]),
        (pd.Categorical([7, 8]), ["7", "8"]),
        (pd.array(["007", "NA"], dtype="string[pyarrow]"), ["007", "NA"]),
        (np.array([1, 2], dtype="uint8"), ["1", "2"]),
    ):
        assert pick(read(frame(customer_id=ids)), "customer_id") == expected
    for column in ("customer_id", "event", "session_id"):
        with pytest.raises(jl.SchemaError, match=rf"^{column} is a column of floating point numbers.*'{column}': str"):
            read(frame(**{column: [7.0, 8.0]}))


def test_frame_with_any_columns(read: Read) -> None:
    table = frame(
        mixed=[1, "b"],
        category=pd.Categorical(["u", None]),
        nested=[[1, 2], {"a": 1}],
        period=pd.period_range("2026-01", periods=2, freq="M"),
        wait=pd.to_timedelta([1, 2], unit="s"),
        interval=pd.IntervalIndex.from_breaks([0, 1, 2]),
        sparse=pd.arrays.SparseArray([0, 1]),
        flag=pd.array([True, None], dtype="boolean"),
        nothing=[None, None],
        zoned=[pd.Timestamp("2026-01-01", tz="Asia/Tokyo")] * 2,
    )
    table[5] = [3, 4]
    table[("a", "b")] = [1.5, None]
    rows = read(table)
    names = ("mixed", "category", "nested", "period", "interval", "sparse", "flag", "nothing", "5", "('a', 'b')")
    assert pick(rows, *names) == [
        ("1", "u", "[1, 2]", "2026-01", "(0, 1]", 0, True, None, 3, 1.5),
        ("b", None, "{'a': 1}", "2026-02", "(1, 2]", 1, None, None, 4, None),
    ]
    assert rows[0]["zoned"] == dt.datetime(2025, 12, 31, 15, tzinfo=dt.UTC)


def test_frame_index_means_nothing(con: ibis.BaseBackend, read: Read) -> None:
    table = frame(customer_id=["a", "b", "c", "d"], n=[1, 2, 3, 4])
    table.index = pd.Index(["timestamp", "z", "q", "a"], name="event")
    assert pick(read(table), "customer_id", "n", "_row") == [("a", 1, 0), ("b", 2, 1), ("c", 3, 2), ("d", 4, 3)]
    assert pick(read(table[::-2]), "customer_id", "_row") == [("d", 0), ("b", 1)]
    with pytest.raises(jl.SchemaError, match=r'no column "customer_id"'):
        read(table.set_index("customer_id"))
    twice = frame(x=[1, 2], y=[3, 4]).set_axis(["customer_id", "event", "timestamp", "x", "x"], axis=1)
    with pytest.raises(jl.SchemaError, match=r"^the DataFrame: column names occur twice .*: x$"):
        read(twice)
    with pytest.raises(jl.SchemaError, match=r"^the DataFrame: column names occur twice .*: 5$"):
        read(frame(**{"5": [1, 2], "6": [3, 4]}).rename(columns={"6": 5}))
    for empty in (pd.DataFrame(), frame()[:0], pd.DataFrame({"customer_id": [], "event": [], "timestamp": []})):
        with pytest.raises(jl.SchemaError, match=r"^the DataFrame has no rows: there is nothing to read$"):
            read(empty)


def test_ibis_table_is_read_where_it_is_and_never_harmed() -> None:
    own = ibis.duckdb.connect()
    own.raw_sql("SET TimeZone = 'Asia/Tokyo'")
    log = own.create_table("log", frame(n=[1, 2], event=["x", "x"]))
    assert "_row" not in jl.read_events(log).columns
    assert jl.check_events(jl.read_events(log)).start == pd.Timestamp("2026-01-01")
    twins = own.create_table("twins", frame(event=["x", "x"]))
    empty = own.create_table("empty", schema=log.schema())
    with pytest.raises(jl.SchemaError, match="the table failed 1 check in 2 rows"):
        jl.read_events(twins)
    with pytest.raises(jl.SchemaError, match="the table has no rows"):
        jl.read_events(empty)
    report = jl.check_events(jl.read_events(twins, repair="all"))
    assert (report.n_rows, report.n_used) == (2, 1)
    assert list_tables(own) == {"log", "twins", "empty"}
    with pytest.raises(jl.RuleError, match="the table lives in another connection than con=; leave con= out"):
        jl.read_events(log, con=jl.connect())
    with pytest.raises(jl.SchemaError, match="the table: the load itself is recorded in _problem, _time"):
        jl.read_events(jl.read_events(log))


def test_memtable_goes_to_the_connection_that_is_given(con: ibis.BaseBackend) -> None:
    events = jl.read_events(ibis.memtable(frame(n=[1, 2])), con=con)
    assert events.get_backend() is con
    assert jl.build_steps(events).count().execute() == 2


def test_files_need_duckdb(tmp_path: Path) -> None:
    class Elsewhere:
        name = "bigquery"

    path = write(tmp_path / "x.csv", HEADER + ROWS)
    with pytest.raises(jl.RuleError, match=r"files are read by DuckDB; load x.csv into bigquery and pass the table"):
        jl.read_events(path, con=Elsewhere())  # type: ignore[arg-type]


def test_loading_leaves_no_files_behind(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    read(write(tmp_path / "x.csv", POLISH, "utf-16"))
    with pytest.raises(jl.SchemaError):
        read(write(tmp_path / "x.csv", POLISH + "c;d\n", "utf-16"))
    assert os.listdir(tmp_path / "tmp") == []
