"""Personas as one plain file: JSON that holds no code and no customer, and that notices when it has been damaged."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from journeylab.errors import RuleError, SchemaError, nearest

if TYPE_CHECKING:
    from journeylab.personas.fit import Personas

_FORMAT = 1
_KIND = "personas of journeylab"
_GZIP = b"\x1f\x8b"
# Where the model of each method lives; imported only when a file holds one.
_MODELS = {
    "markov": ("journeylab.personas.assigning", "MarkovPersonas"),
    "features": ("journeylab.personas.features", "FeaturePersonas"),
    "sequence": ("journeylab.personas.sequences", "SequencePersonas"),
}
_TABLES = ("journeys", "members")  # of customers, in the engine
# They tell who somebody is; what personas need of anybody stands in other columns.
_IDS = ("customer_id", "journey_id", "session_id", "account_id", "event_id")
_NUMBERS = ("int64", "Int64", "float64", "Float64", "bool", "boolean")
_TIMES = ("datetime64[us]", "datetime64[ns]", "datetime64[ms]", "datetime64[s]")
_TAG = "$"


def save_personas(personas: Personas, path: str | Path) -> Path:
    """Where can these personas be kept, so that they can tell who a customer is without a refit?

    One JSON file, compressed where the name ends in ``.gz``. The same personas give the same bytes. No customer is in
    it: `journeys` and `members` are left out, and columns of ids are emptied. It is written under another name and
    renamed when whole, so that an earlier file is there until the new one is.

    Parameters
    ----------
    personas : Personas
        From `fit_personas`.
    path : str or pathlib.Path
        Such as "personas.json" or "personas.json.gz"; a file of that name is replaced.

    Returns
    -------
    pathlib.Path
        Where the file is.

    Raises
    ------
    RuleError
        If the folder does not exist.
    """
    import journeylab

    path = Path(path)
    if not path.parent.is_dir():
        raise RuleError(f"no folder {path.parent} to save personas in; make it first")
    content = {each.name: getattr(personas, each.name) for each in fields(personas) if each.name not in _TABLES}
    content["model"] = {"method": personas.model.method, "content": personas.model.to_dict()}
    whole = {
        "kind": _KIND,
        "format": _FORMAT,
        "journeylab": journeylab.__version__,
        "content": {name: _encode(value, name) for name, value in content.items()},
    }
    data = _write({**whole, "checksum": _sum_up(whole)}).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    _replace(path, data)
    return path


def load_personas(path: str | Path) -> Personas:
    """Which personas were saved here? They assign customers exactly as before.

    Parameters
    ----------
    path : str or pathlib.Path
        From `save_personas`, compressed or not. Nothing in the file is run, whoever wrote it.

    Returns
    -------
    Personas
        As they were saved; their `journeys` and `members` are None.

    Raises
    ------
    SchemaError
        If there is no such file, it is not one of personas, it has been damaged or cut off, or a newer journeylab wrote
        it in a format that this one does not know.
    """
    from journeylab.personas.fit import Personas

    path = Path(path)
    content = _open(path)
    expected = {each.name for each in fields(Personas)} - {*_TABLES}
    if content.keys() != expected:
        lacking, odd = sorted(expected - content.keys()), sorted(content.keys() - expected)
        said = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has {', '.join(odd)}, unknown here"] * bool(odd)
        raise SchemaError(f"{path.name}: the content {' and '.join(said)}; save the personas again")
    try:
        found = {name: _decode(value) for name, value in content.items()}
        model = _build_model(**found.pop("model"))
    except (KeyError, TypeError, ValueError) as error:
        raise SchemaError(f"{path.name}: the content cannot be read ({error}); save the personas again") from error
    return Personas(**found, model=model, journeys=None, members=None)


def _open(path: Path) -> dict[str, Any]:
    """Read the file and refuse what is not whole, before anything is made of it."""
    damaged = f"{path.name} is damaged or cut off"
    try:
        data = path.read_bytes()
        whole = json.loads(gzip.decompress(data) if data[:2] == _GZIP else data)
    except FileNotFoundError as error:
        raise SchemaError(f"no file at {path} (looked from {Path.cwd()})") from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise SchemaError(f"{damaged} ({error}); take another copy of it, or fit and save again") from error
    if not isinstance(whole, dict) or whole.get("kind") != _KIND:
        raise SchemaError(f"{path.name} is no file of save_personas; give the path that it returned")
    if whole.get("format") != _FORMAT:
        raise SchemaError(
            f"{path.name} has format {whole.get('format')} (journeylab {whole.get('journeylab')}), and this journeylab "
            f"reads format {_FORMAT}; update journeylab, or save the personas again with this one"
        )
    odd = sorted(whole.keys() - {"kind", "format", "journeylab", "content", "checksum"})
    if odd:
        raise SchemaError(f"{path.name} has {', '.join(odd)} beside its content, which nothing here reads")
    checksum = whole.pop("checksum", None)
    if checksum != _sum_up(whole) or not isinstance(whole.get("content"), dict):
        raise SchemaError(
            f"{damaged}: its content does not match its checksum; take another copy of it, or fit and save again"
        )
    content: dict[str, Any] = whole["content"]
    return content


def _build_model(method: str, content: dict[str, Any]) -> Any:  # a model of any method
    if method not in _MODELS:
        raise ValueError(f'method "{method}" is not known; expected {", ".join(_MODELS)}.{nearest(method, _MODELS)}')
    module, name = _MODELS[method]
    return getattr(import_module(module), name).from_dict(content)


def _write(whole: dict[str, Any]) -> str:
    return json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _sum_up(whole: dict[str, Any]) -> str:
    # numbers are written as Python reads them back, so what was loaded gives the bytes that were saved
    return f"sha256:{hashlib.sha256(_write(whole).encode()).hexdigest()}"


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _encode(value: Any, place: str) -> Any:
    """Write any value that personas hold as plain JSON; what JSON does not know becomes {"$": what it is, …}."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_TAG: "float", "value": str(value)}
    if isinstance(value, pd.DataFrame):
        return _encode_frame(value, place)
    if isinstance(value, pd.Timestamp):
        return {_TAG: "time", "value": value.isoformat(), "unit": value.unit}
    if isinstance(value, list):
        return [_encode(item, place) for item in value]
    if isinstance(value, tuple):
        return {_TAG: "tuple", "items": [_encode(item, place) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and _TAG not in value:
            return {key: _encode(item, place) for key, item in value.items()}
        return {_TAG: "dict", "items": [[_encode(key, place), _encode(item, place)] for key, item in value.items()]}
    raise RuleError(f"{place} holds a {type(value).__name__}, which cannot be saved; take it out")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_TAG):
        case None:
            return {key: _decode(item) for key, item in value.items()}
        case "float":
            return float(value["value"])
        case "time":
            return pd.Timestamp(value["value"]).as_unit(value["unit"])
        case "tuple":
            return tuple(_decode(item) for item in value["items"])
        case "dict":
            return {_decode(key): _decode(item) for key, item in value["items"]}
        case "frame":
            return _decode_frame(value)
    raise ValueError(f'"{value[_TAG]}" is no kind of value that is known here')


def _encode_frame(frame: pd.DataFrame, place: str) -> dict[str, Any]:
    columns = [_encode_column(frame[name], f"{place}, column {name}") for name in frame.columns]
    whole = {_TAG: "frame", "n_rows": len(frame), "columns": columns}
    if not frame.index.equals(pd.RangeIndex(len(frame))) or frame.index.name is not None:
        whole["index"] = _encode_column(frame.index.to_series(), f"{place}, index")
    return whole


def _encode_column(column: pd.Series, place: str) -> dict[str, Any]:
    kind = str(column.dtype)
    if kind not in (*_NUMBERS, *_TIMES, "str", "object"):
        raise RuleError(f"{place} is of type {kind}, which cannot be saved; make it text or a number")
    values = column.astype(object).where(column.notna() | (kind == "object"), None).tolist()
    if column.name in _IDS:
        values = [None] * len(values)
    return {
        "name": _encode(column.name, place),
        "type": kind,
        "values": [
            value.isoformat() if kind in _TIMES and value is not None else _encode(value, place) for value in values
        ],
    }


def _decode_frame(whole: dict[str, Any]) -> pd.DataFrame:
    columns = [_decode_column(column, whole["n_rows"]) for column in whole["columns"]]
    index = pd.RangeIndex(whole["n_rows"])
    frame = pd.DataFrame({column.name: column for column in columns}, index=index, columns=[c.name for c in columns])
    return frame.set_index(pd.Index(_decode_column(whole["index"], len(index)))) if "index" in whole else frame


def _decode_column(column: dict[str, Any], n_rows: int) -> pd.Series:
    kind, name, values = column["type"], _decode(column["name"]), [_decode(value) for value in column["values"]]
    if kind not in (*_NUMBERS, *_TIMES, "str", "object"):
        raise ValueError(f'column {name} is of type "{kind}", which is not known here')
    if len(values) != n_rows:
        raise ValueError(f"column {name} has {len(values)} of {n_rows} rows")
    if kind not in _TIMES:
        series: pd.Series = pd.Series(values, dtype=kind, name=name)
        return series
    times: pd.Series = pd.to_datetime(pd.Series(values, dtype="str", name=name), format="ISO8601").astype(kind)
    return times
