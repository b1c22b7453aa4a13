"""What a notebook hands to its report while it runs: recorded values, tables, and the identity of its data."""

from __future__ import annotations

import hashlib
import math
import numbers
import os
import re
import sys
from collections.abc import Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from journeylab.errors import ReportError
from journeylab.sheets import FORMULA_STARTS

if TYPE_CHECKING:
    import ibis
    import pandas as pd

RECORD_MIME = "application/vnd.journeylab.record+json"
#: Where the runner wants the tables; not set outside a run.
TABLES_VARIABLE = "JOURNEYLAB_TABLES"

# What the rules made of the events: other rules are another question to the same data.
_DERIVED = frozenset(("journey_id", "session_id", "rank", "step", "stage", "gap_s", "next_event"))
_TABLE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


def record(name: str, value: object, *, low: object = None, high: object = None) -> None:
    """Which figure shall `run.json` keep, so that runs can be compared?

    Parameters
    ----------
    name
        ``"headline"`` is the sentence that the run's index shows; all others are figures. A name that starts with
        ``share_`` is shown in percent. A later record of the same name wins.
    value
        Text, number, truth value, None, or lists and mappings of these. NumPy and pandas values are converted; NaN, NaT
        and infinity become null.
    low, high
        The bounds of the value's 95 % interval, or mappings of these where the value is one. With them a comparison of
        two runs can tell a move from noise.

    Raises
    ------
    ReportError
        `value` is something else, such as a whole table (`save_table` is for these).
    """
    bounds = {} if low is None or high is None else {"low": _as_json(low, name), "high": _as_json(high, name)}
    _publish({"name": name, "value": _as_json(value, name), **bounds})


def record_data(steps: ibis.Table) -> None:
    """Which data is this report about? Keeps hash, rows, customers, first and last event; runs one query."""
    totals = steps.aggregate(
        rows=steps.count(),
        customers=steps.customer_id.nunique(),
        first=steps.timestamp.min(),
        last=steps.timestamp.max(),
    )
    (found,) = totals.to_pyarrow().to_pylist()
    span = {name: found[name] and found[name].isoformat() for name in ("first", "last")}
    _publish({"data": {"hash": data_hash(steps), "rows": found["rows"], "customers": found["customers"], **span}})


def data_hash(steps: ibis.Table) -> str:
    """Are these the same events in the same order as in another run?

    Each event counts with its customer, its place in the customer's history (`position`) and all it carries; what rules
    derive (journeys, sessions, stages) does not. The rows' order in storage, the number of threads and the machine's
    time zone do not matter. Comparable within one engine and its version, for each engine has its own row hash.

    Examples
    --------
    >>> import ibis
    >>> a = ibis.memtable({"customer_id": ["c", "c"], "position": [1, 2], "event": ["cart", "pay"]})
    >>> b = ibis.memtable({"customer_id": ["c", "c"], "position": [2, 1], "event": ["cart", "pay"]})
    >>> data_hash(a) == data_hash(b)
    False
    """
    from ibis import _

    from journeylab.schema import BOOKKEEPING

    if "position" not in steps.columns:
        raise ReportError("data_hash needs `position`, the order of the events: pass what build_steps returned")
    names = sorted(set(steps.columns) - _DERIVED - set(BOOKKEEPING))
    row = reduce(add, (_as_text(steps[name]) for name in names)).hash()
    # Sums do not depend on the order of the rows; of halves, so that they do not overflow.
    sums = steps.select(row=row).aggregate(low=(_.row & 0xFFFFFFFF).sum(), high=(_.row >> 32).sum())
    (found,) = sums.to_pyarrow().to_pylist()
    return hashlib.sha256(f"{names} {found['low']} {found['high']}".encode()).hexdigest()[:16]


def save_table(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Keep a table as CSV beside the report, under ``tables/<notebook>/<name>.csv``; returns it.

    Outside a run nothing is written. A named index becomes columns. Text that a spreadsheet would run as a formula gets
    a leading apostrophe; numbers stay as they are.
    """
    if not _TABLE_NAME.fullmatch(name):
        raise ReportError(f'save_table: "{name}" cannot be a file name; use letters, digits, "_", "-" and "."')
    folder = os.environ.get(TABLES_VARIABLE)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        flat = frame.reset_index() if any(label is not None for label in frame.index.names) else frame
        flat = flat.map(_disarm).rename(columns=_disarm)
        flat.to_csv(Path(folder, f"{name}.csv"), index=False, lineterminator="\n")
    return frame


def place_file(name: str) -> Path:
    """Where shall a notebook write a further file of its report, such as a map as SVG?

    Beside the tables, from where the page carries it; outside a run in the folder one is in.
    """
    if not _TABLE_NAME.fullmatch(name):
        raise ReportError(f'place_file: "{name}" cannot be a file name; use letters, digits, "_", "-" and "."')
    folder = Path(os.environ.get(TABLES_VARIABLE) or ".")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _publish(record: Mapping[str, object]) -> None:
    """Send a record to whoever runs this notebook; in JupyterLab and in the HTML it shows nothing."""
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        display({RECORD_MIME: record}, raw=True)


def _as_json(value: object, name: str) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(each, name) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(each, name) for each in value]
    if type(value).__module__ == "numpy" and value.dtype.kind == "M":  # type: ignore[attr-defined]
        # Nanoseconds would become a bare number.
        return _as_json(value.astype("datetime64[us]").tolist(), name)  # type: ignore[attr-defined]
    # NumPy arrays and scalars, pandas Series and Index.
    if hasattr(value, "tolist"):
        return _as_json(value.tolist(), name)
    if isinstance(value, numbers.Integral):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        # NaT is the one moment that differs from itself.
        return value.isoformat() if value == value else None
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ReportError(
        f'record "{name}": cannot keep a {type(value).__name__}; record numbers and text, tables go to save_table'
    )


def _as_text(column: ibis.Column) -> ibis.Value:
    """Write a column so that neighbours cannot run into each other: text with its length, null unlike any text."""
    text = column.cast("string")
    if column.type().is_string():
        text = text.length().cast("string") + ":" + text
    return (text + "|").fill_null("-|")


def _disarm(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
