"""Workbooks and DataFrames as tables in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis

from journeylab.errors import SchemaError
from journeylab.schema import ROW, check_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def read_sheet(path: Path, sheet: str | None) -> pd.DataFrame:
    """Read a sheet of a workbook, the first unless named; cells are text, but for columns of fractions."""
    import pandas as pd
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise SchemaError(f"{path.name}: not an xlsx file that can be read ({error})") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise SchemaError(f'{path.name} has no sheet "{sheet}"; it has {", ".join(book.sheetnames)}')
    rows = [[None if cell == "" else cell for cell in row] for row in book[sheet or book.sheetnames[0]].values]
    book.close()
    rows = [row for row in rows if any(cell is not None for cell in row)]
    if not rows:
        raise SchemaError(f"{path.name} is empty: expected a header row with the column names")
    # Rows end where their last cell stands; a column is one if it has a name or a cell.
    columns = [(head, cells) for head, *cells in zip_longest(*rows) if head is not None or set(cells) - {None}]
    names = [_cell_text(head) or f"column_{i}" for i, (head, _) in enumerate(columns, 1)]
    check_names(names, path.name)
    typed = {name: _type_cells(cells) for name, (_, cells) in zip(names, columns, strict=True)}
    return pd.DataFrame(typed, columns=names)


def _type_cells(cells: Sequence[object]) -> pd.Series[Any]:
    """Keep a column of fractions as numbers, whose decimal mark nobody needs to know; all else is text."""
    import pandas as pd

    is_numeric = {type(cell) for cell in cells} <= {float, int, type(None)}
    if is_numeric and any(isinstance(cell, float) and not cell.is_integer() for cell in cells):
        return pd.Series(cells, dtype="float64")
    return pd.Series([_cell_text(cell) for cell in cells], dtype=object)


def _cell_text(cell: object) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, float | int) and not isinstance(cell, bool):
        # A sheet keeps 15 digits: what is longer has been rounded and must look so.
        return f"{cell:.5E}" if abs(cell) >= 1e15 else f"{cell:.15g}"
    return cell.isoformat(sep=" ") if isinstance(cell, datetime) else str(cell)


def open_frame(frame: pd.DataFrame, con: ibis.BaseBackend, *, where: str = "the DataFrame") -> ibis.Table:
    """Put a DataFrame into the engine; its rows are numbered from the top, its index means nothing."""
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    check_names(names, where)
    if frame.empty:
        # Columns without a value have no type to speak of.
        raise SchemaError(f"{where} has no rows: there is nothing to read")
    columns = {name: _as_array(frame.iloc[:, i]) for i, name in enumerate(names)}
    columns[ROW] = pa.array(range(len(frame)), type=pa.int64())
    return con.create_table(ibis.util.gen_name("journeylab"), pa.table(columns), temp=con.name == "duckdb")


def _as_array(column: pd.Series[Any]) -> pa.Array:
    """Numbers, times and truth values keep their type; everything else is written out as text."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    kind = column.dtype
    plain = isinstance(kind, np.dtype | pd.api.extensions.ExtensionDtype) and kind.kind in "iufbM"
    if pd.api.types.is_datetime64_any_dtype(kind):
        # Cut off here as everywhere: on the way into the engine nanoseconds would be rounded.
        column = column.dt.as_unit("us")
    if isinstance(kind, pd.SparseDtype):
        column = pd.Series(column.array.to_dense())
    if isinstance(kind, pd.CategoricalDtype) or not (plain or isinstance(kind, pd.StringDtype)):
        column = column.astype(object).map(str, na_action="ignore").astype("str")
    return pa.array(column, from_pandas=True)
