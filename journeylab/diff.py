"""Two runs side by side: what was asked otherwise, and which figures moved by more than noise."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeylab.errors import ReportError
from journeylab.language import gettext as _
from journeylab.runs import read_run
from journeylab.shares import adjust_holm

if TYPE_CHECKING:
    import pandas as pd

_GROUPED = "cohorts_by_group.csv"
# Of a cohort, in the table that drop_off keeps; what stands before is the group.
_COHORT = "cohort"


@dataclass(frozen=True, eq=False)
class RunDiff:
    """The answer of `diff_runs`.

    Attributes
    ----------
    names
        The folders' names, the earlier run first.
    settings
        What differs in parameters, data and versions: report, kind ("parameter", "data", "version", "report"), name,
        before, after (text; "–" where a run has none).
    values
        Recorded numbers that both runs have: report, name, before, after, change, low and high (95 % interval of the
        change; null where a value has no interval), p_adjusted (Holm, over all these values), is_beyond_noise.
    conversion
        The change in mature conversion of `drop_off` in parts: part ("late data", "mix", "rate", "all"), change, low,
        high. No rows where the runs do not allow it; `note` then says why.
    note
        One sentence on the split, or on what stands against reading the change as one of the customers.
    """

    names: tuple[str, str]
    settings: pd.DataFrame
    values: pd.DataFrame
    conversion: pd.DataFrame
    note: str

    @property
    def headline(self) -> str:
        """What moved, in one sentence."""
        moved = self.values[self.values["is_beyond_noise"]]
        tested = int(self.values["p_adjusted"].notna().sum())
        if not len(moved):
            return _("None of {n} figures with an interval moved by more than noise.", n=tested)
        shown = ", ".join(moved["name"].head(5)) + (" …" if len(moved) > 5 else "")
        return _(
            "{moved} of {n} figures with an interval moved by more than noise: {names}.",
            moved=len(moved),
            n=tested,
            names=shown,
        )

    def to_html(self) -> str:
        """The comparison as one page that asks for nothing."""
        from journeylab.templates import render_diff

        return render_diff(self)

    def save(self, path: str | Path) -> Path:
        """Write the page; whole or not at all."""
        path, page = Path(path), self.to_html()
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
            file.write(page)
        os.replace(file.name, path)
        return path


def diff_runs(before: str | Path, after: str | Path) -> RunDiff:
    """What differs between two runs, and which figures moved by more than noise?

    Parameters
    ----------
    before, after
        The folders of two runs, such as last month's and this month's.

    Raises
    ------
    ReportError
        A folder is no run, or the runs have no report in common.

    Notes
    -----
    The interval of a change comes from those of the two values (MOVER; Zou & Donner 2008, "Construction of confidence
    limits about effect measures", Statistics in Medicine 27), as if the runs were independent. Runs over the same
    customers are not: their true interval is narrower, so that a mark stands and a missing one proves nothing.

    Conversion is split over the cohorts that the earlier run had seen in full. *Late data*: how much the earlier figure
    moves when these cohorts are counted as the later run counts them (events that came late, corrected rows). The rest,
    from there to the later figure, is mix and rate of the groups, see `split_change`.
    """
    import pandas as pd

    folders = Path(before), Path(after)
    runs = [read_run(folder) for folder in folders]
    reports = [run["reports"] for run in runs]
    common = [name for name in reports[0] if name in reports[1]]
    if not common:
        had = [", ".join(each) or "none" for each in reports]
        raise ReportError(
            f"{folders[0]} and {folders[1]} have no report in common: the first has {had[0]}, the second {had[1]}"
        )
    settings = pd.DataFrame(_list_settings(runs), columns=["report", "kind", "name", "before", "after"])
    values = _compare_values([{name: each[name] for name in common} for each in reports])
    asked = settings[(settings["report"] == "drop_off") & (settings["kind"] == "parameter")]
    tables = [folder / "tables" / "drop_off" / _GROUPED for folder in folders]
    conversion, note = _split_conversion(tables, asked)
    names = folders[0].resolve().name, folders[1].resolve().name
    return RunDiff(names, settings, values, conversion, note)


def _list_settings(runs: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Every fact about the runs that is not the same in both."""
    for name, both in _pair(*(run.get("versions") for run in runs)):
        yield "", "version", name, *map(_write, both)
    for report, (one, other) in _pair(*(run["reports"] for run in runs)):
        if one is None or other is None:
            yield report, "report", "made", *("–" if each is None else "yes" for each in (one, other))
            continue
        for kind, key in (("parameter", "parameters"), ("data", "data")):
            for name, both in _pair(one.get(key), other.get(key)):
                yield report, kind, name, *map(_write, both)


def _pair(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The entries that differ, under their names; None where there is none."""
    one, other = one or {}, other or {}
    for name in dict.fromkeys([*one, *other]):
        if name not in one or name not in other or one[name] != other[name]:
            yield name, (one.get(name), other.get(name))


def _write(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _compare_values(reports: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd
    from scipy.stats import norm

    rows = []
    for report, entry in reports[0].items():
        sides = [dict(_flatten(each["values"], each.get("intervals", {}))) for each in (entry, reports[1][report])]
        for name in (name for name in sides[0] if name in sides[1]):
            (a, a_low, a_high), (b, b_low, b_high) = (side[name] for side in sides)
            change = b - a
            low, high = change - math.hypot(b - b_low, a_high - a), change + math.hypot(b_high - b, a - a_low)
            # The half of the interval that lies towards zero.
            half = change - low if change > 0 else high - change
            p = 2 * norm.sf(abs(change) / half * norm.isf(0.025)) if half > 0 else float(change == 0)
            rows.append((report, name, a, b, change, low, high, math.nan if math.isnan(half) else p))
    columns = ["report", "name", "before", "after", "change", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = adjust_holm(table["p"])
    table["is_beyond_noise"] = table["p_adjusted"] < 0.05
    return table.drop(columns="p")


def _flatten(
    values: Mapping[str, Any], intervals: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Numbers with their bounds (NaN where there are none), those in mappings under both names."""
    for name, value in values.items():
        low, high = intervals.get(name, (None, None))
        if isinstance(value, Mapping):
            bounds = {key: (low[key], high[key]) for key in low} if isinstance(low, Mapping) else {}
            yield from _flatten(value, bounds, f"{prefix}{name}: ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known = low is not None and high is not None
            yield f"{prefix}{name}", (value, *((low, high) if known else (math.nan, math.nan)))


def _split_conversion(tables: list[Path], asked: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Which part of the change in mature conversion is late data, mix and rate?"""
    import pandas as pd

    from journeylab.comparison import decompose_change

    none = pd.DataFrame(columns=["part", "change", "low", "high"])
    if not all(table.is_file() for table in tables):
        return none, _("Conversion is not split: both runs need the report drop_off with its table cohorts_by_group.")
    # These say which customers are looked at; all others, what is asked of them.
    differing = asked.loc[~asked["name"].isin(["data", "since", "as_of", "where"]), "name"].tolist()
    if differing:
        return none, _(
            "Conversion is not split: the runs ask different questions ({names}).", names=", ".join(differing)
        )
    then, now = (_read_cohorts(table) for table in tables)
    if not then["n"].sum() or not now["n"].sum():
        return none, _("Conversion is not split: a run has no starts whose time is over.")
    both = then.index[then["is_whole"]].intersection(now.index)
    # The earlier run, as the later one counts those cohorts.
    corrected = then[["n", "x"]].copy()
    corrected.loc[both] = now.loc[both, ["n", "x"]]
    groups = [
        each.groupby(level=list(range(each.index.nlevels - 1)), sort=False)[["n", "x"]].sum()
        for each in (then, corrected, now)
    ]
    index = groups[0].index.union(groups[2].index)
    old, mid, new = (each.reindex(index, fill_value=0) for each in groups)
    mix, rate, margins = decompose_change(new["n"], new["x"], mid["n"], mid["x"])
    late = mid["x"].sum() / mid["n"].sum() - old["x"].sum() / old["n"].sum()
    whole = new["x"].sum() / new["n"].sum() - old["x"].sum() / old["n"].sum()
    rows = [("late data", late, math.nan, math.nan)]
    for part, change in (("mix", mix.sum()), ("rate", rate.sum())):
        # Runs that share customers are not independent.
        margin = math.nan if len(both) else margins[part]
        rows.append((part, change, change - margin, change + margin))
    rows.append(("all", whole, math.nan, math.nan))
    note = _(
        "Base: {before} and {after} mature starts, of the cohorts that the runs have kept. Seen in full by both: "
        "{both} of {n}.",
        before=int(old["n"].sum()),
        after=int(new["n"].sum()),
        both=len(both),
        n=len(then),
    )
    if len(both):
        note += " " + _("The runs share customers: mix and rate have no intervals.")
    return pd.DataFrame(rows, columns=none.columns), note


def _read_cohorts(path: Path) -> pd.DataFrame:
    """Mature starts (n) and conversions (x) per group and cohort, and whether the whole cohort is mature."""
    import pandas as pd

    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    keys = [*table.columns[: table.columns.get_loc(_COHORT)], _COHORT]
    converted = (table["n_mature"] * table["conversion_mature"].fillna(0)).round().astype(int)
    cohorts = pd.DataFrame({"n": table["n_mature"], "x": converted, "is_whole": table["n_mature"] == table["n"]})
    names = [table[key].astype(str) for key in keys]
    cohorts.index = pd.MultiIndex.from_arrays(names if len(keys) > 1 else [[""] * len(table), *names])
    return cohorts
