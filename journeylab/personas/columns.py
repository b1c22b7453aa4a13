"""What each customer is like in numbers: mixes, times, money and attributes, none of which grows with the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.personas.folding import order_by_content
from journeylab.segments import find_attributes

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

BLOCKS = ("events", "channels", "stages", "tempo", "recency", "value", "attributes")
MIXES = {"events": "event", "channels": "channel", "stages": "stage"}
_TIMES = {"tempo": ("gap",), "recency": ("silence",), "value": ("basket",)}
_OTHER = "(other)"
_LEAST_SHARE = 0.01  # of the customers with the attribute: rarer labels share a column
_FINE = 1_000_000  # logarithms are summed in whole millionths


@dataclass(frozen=True)
class Layout:
    """Which names have a column, in an order that no name plays a part in."""

    events: tuple[str, ...]
    rare_events: tuple[str, ...]  # share a column
    channels: tuple[str, ...]
    stages: tuple[str, ...]
    attributes: tuple[tuple[str, tuple[str, ...] | None], ...]  # name and its labels; None: a number

    def names(self, block: str) -> list[tuple[str, str]]:
        """Variable and name of each column of a block."""
        if block in _TIMES:
            return [(name, name) for name in _TIMES[block]]
        if block == "attributes":
            return [
                (name, name if labels is None else f"{name}: {label}")
                for name, labels in self.attributes
                for label in ([None] if labels is None else [*labels, _OTHER])
            ]
        rest = [_OTHER] if block == "events" and self.rare_events else []
        return [(block, name) for name in [*getattr(self, block), *rest]]


@dataclass(frozen=True, eq=False)
class Sheet:
    """What was counted and timed of each customer, before any scaling; missing is NaN."""

    customers: pd.Index
    layout: Layout
    counts: Mapping[str, NDArray[np.int64]]  # by block of a mix: (n_customers, n_names)
    times: Mapping[str, Floats]  # by name: (n_customers,)
    n_seen: Mapping[str, Floats]  # of a time that is a mean: of how many
    within: Mapping[str, Floats]  # and the squares of what they deviate from it
    attributes: Floats  # (n_customers, n_columns); labels as 0 and 1
    n_unknown: NDArray[np.int64]  # events that the layout does not know
    n_without_attributes: int
    end: datetime

    def take(self, rows: NDArray[np.int64]) -> Sheet:
        """Some customers, in this order."""
        return replace(
            self,
            customers=self.customers[rows],
            counts={name: np.ascontiguousarray(table[rows]) for name, table in self.counts.items()},
            times={name: values[rows] for name, values in self.times.items()},
            n_seen={name: values[rows] for name, values in self.n_seen.items()},
            within={name: values[rows] for name, values in self.within.items()},
            attributes=np.ascontiguousarray(self.attributes[rows]),
            n_unknown=self.n_unknown[rows],
        )

    def lay_out(self, block: str) -> Floats:
        """A block's columns, length-normalised: what grows with the history is divided by it."""
        if block == "attributes":
            return self.attributes
        if block in _TIMES:
            return np.column_stack([self.times[name] for name in _TIMES[block]])
        counts = self.counts[block].astype(np.float64)
        # Of the events how often counts too, if less and less (unit length of the logarithms); else shares.
        parts = np.log1p(counts) if block == "events" else counts
        length = np.sqrt((parts**2).sum(axis=1)) if block == "events" else parts.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.where(length[:, None] > 0, parts / length[:, None], np.nan)


def read_sheet(
    steps: ibis.Table,
    journeys: ibis.Table | None,
    *,
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None,
    top_events: int = 0,
    layout: Layout | None = None,
    end: datetime | None = None,
) -> Sheet:
    """Count and time what each customer does: one row per customer is fetched.

    Parameters
    ----------
    steps, journeys
        With journeys only the steps that they count, and recency up to the last of their events; without, up to the
        last step or `end`, whichever is later.
    customers
        Attributes, as `find_attributes` takes them.
    top_events
        How many events have a column of their own: those of most customers.
    layout
        Of an earlier sheet; default: what is in these steps, in an order that their content gives.
    """
    seen = steps
    if journeys is not None:
        seen = steps.join(journeys.select("journey_id", _n_seen="n_steps"), "journey_id")
        seen = seen.filter(seen.step <= seen["_n_seen"])
    last = (seen.timestamp.max() if journeys is None else journeys.end_time.max()).execute()
    if pd.isna(last):
        raise SchemaError("there are no steps to find personas in; see check_events(events)")
    last = pd.Timestamp(last).to_pydatetime()
    until = max(last, end) if journeys is None and end is not None else last
    names = layout or _find_names(seen, top_events)
    table = _ask(seen, names, until).order_by("customer_id").to_pyarrow()
    ids = pd.Index(table["customer_id"].to_pylist(), dtype="str")
    found = None if customers is None else _fetch_attributes(find_attributes(seen, customers), ids)
    if layout is None and found is not None:
        names = replace(names, attributes=tuple(_find_labels(str(name), column) for name, column in found.items()))
    sheet = Sheet(
        customers=ids,
        layout=names,
        counts={block: _stack(table, block) for block in MIXES},
        **_derive_times(table),
        attributes=_code_attributes(found, names, len(ids)),
        n_unknown=table["n_unknown"].to_numpy(),
        n_without_attributes=0 if found is None else int(found.isna().all(axis=1).sum()),
        end=until,
    )
    return sheet if layout is not None else _sort_names(sheet)


def _find_names(seen: ibis.Table, top_events: int) -> Layout:
    counted = seen.group_by("event").agg(n_customers=seen.customer_id.nunique(), n=seen.count()).execute()
    counted = counted.sort_values(["n_customers", "n", "event"], ascending=[False, False, True], ignore_index=True)
    size = counted["n_customers"].to_numpy(), counted["n"].to_numpy()
    is_top = np.ones(len(counted), dtype=bool)
    if len(counted) > top_events:
        # Equals of the first one left out are left out too: no name decides.
        is_top = (size[0] > size[0][top_events]) | ((size[0] == size[0][top_events]) & (size[1] > size[1][top_events]))
    mixes = {
        block: tuple(sorted(seen.select(name).distinct().execute()[name].dropna())) if name in seen.columns else ()
        for block, name in MIXES.items()
        if block != "events"
    }
    return Layout(tuple(counted["event"][is_top]), tuple(counted["event"][~is_top]), attributes=(), **mixes)


def _ask(seen: ibis.Table, names: Layout, until: datetime) -> ibis.Table:
    """One row per customer: counts by name (``events_0``, …), and whole numbers that the times are made of.

    Whole numbers, since a sum of fractions depends on the order in which threads add them.
    """
    codes = {name: code for code, name in enumerate(names.events)} | dict.fromkeys(names.rare_events, len(names.events))
    known = ibis.memtable(
        {"event": list(codes), "_code": list(codes.values())}, schema={"event": "string", "_code": "int64"}
    )
    value = seen.value if "value" in seen.columns else ibis.null("float64")
    seen = seen.mutate(_gap=(seen.gap_s + 1).ln(), _basket=ibis.ifelse(value > 0, value, None).ln())
    seen = seen.join(known, "event", how="left")
    counts = {f"events_{code}": seen.count(where=seen["_code"] == code) for code in sorted(set(codes.values()))}
    for block in ("channels", "stages"):
        column = seen[MIXES[block]] if MIXES[block] in seen.columns else None
        for code, name in enumerate(getattr(names, block)):
            if column is None:
                raise RuleError(
                    f"these personas look at {block}, and the steps have no column {MIXES[block]}; read the log with it"
                )
            counts[f"{block}_{code}"] = seen.count(where=column == name)
    for name in ("gap", "basket"):
        log = seen[f"_{name}"]
        counts[f"n_{name}"] = log.count()
        counts[f"log_{name}"] = _sum_exactly(log)
        counts[f"square_{name}"] = _sum_exactly(log * log)
    asked = seen.group_by("customer_id").agg(
        **counts, n_unknown=seen.count(where=seen["_code"].isnull()), last=seen.timestamp.max()
    )
    silent_us = ibis.literal(until).delta(asked["last"], unit="microsecond")
    return asked.mutate(silent_us=silent_us).drop("last")


def _sum_exactly(log: ibis.Value) -> ibis.Value:
    return (log * _FINE).round().cast("int64").sum().fill_null(0)


def _stack(table: pa.Table, block: str) -> NDArray[np.int64]:
    names = [name for name in table.column_names if name.startswith(f"{block}_")]
    columns = [table[name].to_numpy().astype(np.int64) for name in names]
    return np.column_stack(columns) if columns else np.zeros((table.num_rows, 0), dtype=np.int64)


def _derive_times(table: pa.Table) -> dict[str, dict[str, Floats]]:
    """Means of logarithms; what never happened has none."""
    times, n_seen, within = {}, {}, {}
    for name in ("gap", "basket"):
        n, log, square = (table[f"{part}_{name}"].to_numpy().astype(np.float64) for part in ("n", "log", "square"))
        with np.errstate(invalid="ignore", divide="ignore"):
            times[name] = log / n / _FINE
            within[name] = np.where(n > 1, np.maximum(square - log**2 / n / _FINE, 0) / _FINE, 0)
        n_seen[name] = n
    times["silence"] = np.log1p(table["silent_us"].to_numpy() / 86_400e6)
    return {"times": times, "n_seen": n_seen, "within": within}


def _fetch_attributes(attributes: ibis.Table, ids: pd.Index) -> pd.DataFrame:
    for name, kind in attributes.schema().items():
        if kind.is_temporal():
            raise RuleError(f'customers: "{name}" is a time ({kind}); make it a number or a label first')
    # Truth values are labels.
    labels = {
        name: attributes[name].cast("string") for name, kind in attributes.schema().items() if not kind.is_numeric()
    }
    found: pd.DataFrame = attributes.mutate(**labels).to_pyarrow().to_pandas().set_index("customer_id")
    if not found.index.isin(ids).any():
        raise RuleError(
            f"customers: none of its {len(found):,} customers is among the {len(ids):,} of the steps; do the ids match?"
        )
    return found.reindex(ids)


def _find_labels(name: str, column: pd.Series) -> tuple[str, tuple[str, ...] | None]:
    if pd.api.types.is_numeric_dtype(column):
        return name, None
    sizes = column.value_counts()
    labels = tuple(sorted(sizes.index[sizes >= _LEAST_SHARE * sizes.sum()]))
    if not labels and len(sizes):
        raise RuleError(
            f'customers: "{name}" has {len(sizes):,} different values, each of less than 1 % of the customers: rather '
            "a name than an attribute. Leave it out, or sort it into classes"
        )
    return name, labels


def _code_attributes(found: pd.DataFrame | None, names: Layout, n: int) -> Floats:
    columns: list[Floats] = []
    for name, labels in names.attributes:
        if found is None or name not in found.columns:
            known = [] if found is None else list(found.columns)
            raise RuleError(
                f'these personas look at the attribute "{name}"; pass customers= with a column of that name.'
                f"{nearest(name, known)}"
            )
        if labels is None:
            number = pd.to_numeric(found[name]).to_numpy(dtype=np.float64, na_value=np.nan)
            columns.append(np.where(np.isfinite(number), number, np.nan))
            continue
        is_known = found[name].notna().to_numpy()
        for label in (*labels, _OTHER):
            is_it = ~found[name].isin(labels) if label == _OTHER else found[name] == label
            columns.append(np.where(is_known, is_it.to_numpy(dtype=np.float64), np.nan))
    return np.column_stack(columns) if columns else np.zeros((n, 0))


def _sort_names(sheet: Sheet) -> Sheet:
    """Put names in an order that only their content gives, so that renaming them changes nothing."""
    _, order = sort_by_content(sheet)
    place = np.argsort(order)  # of each column among all
    counts, names, first = {}, {}, 0
    for block in MIXES:
        own = getattr(sheet.layout, block)
        by_place = np.argsort(place[first : first + len(own)])
        names[block] = tuple(own[i] for i in by_place)
        rest = np.arange(len(own), sheet.counts[block].shape[1])
        counts[block] = np.ascontiguousarray(sheet.counts[block][:, [*by_place, *rest]])
        first += sheet.counts[block].shape[1]
    first += len(sheet.times)
    attributes, columns = [], []
    for name, labels in sheet.layout.attributes:
        width = 1 if labels is None else len(labels) + 1
        by_place = np.arange(1) if labels is None else np.argsort(place[first : first + width - 1])
        attributes.append((name, None if labels is None else tuple(labels[i] for i in by_place)))
        columns += [first + i for i in (*by_place, *range(len(by_place), width))]
        first += width
    offset = first - sheet.attributes.shape[1]
    return replace(
        sheet,
        layout=replace(sheet.layout, attributes=tuple(attributes), **names),
        counts=counts,
        attributes=np.ascontiguousarray(sheet.attributes[:, np.array(columns, dtype=int) - offset]),
    )


def sort_by_content(sheet: Sheet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which order do customers and columns come when their names are forgotten?"""
    parts = [*sheet.counts.values(), *(values[:, None] for values in sheet.times.values()), sheet.attributes]
    table = np.column_stack([part.astype(np.float64) for part in parts])
    # A cell of its own for what is missing: an empty one stands for 0.
    table[np.isnan(table)] = np.finfo(np.float64).max
    return order_by_content(sparse.csr_array(table), np.ones(len(table)))
