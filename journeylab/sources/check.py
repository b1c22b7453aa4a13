"""Can this log be trusted? Every defect counted: what was set aside, what was kept, what was assumed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import ibis

from journeylab.errors import SchemaError
from journeylab.formats import format_count, format_name, format_share
from journeylab.language import format_day
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.rules import JourneyRules
from journeylab.schema import BOOKKEEPING, PROBLEM, PROBLEMS, TIME, TIMES, is_used

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class LoadReport:
    """What a log holds, and what is wrong with it. Prints as text, shows as HTML.

    Attributes
    ----------
    n_rows, n_used, n_set_aside
        Rows read; rows that count; rows that do not (``n_rows = n_used + n_set_aside``).
    n_customers, n_event_names, start, end
        Of the rows that count; times in UTC.
    checks
        DataFrame: check, column, n (rows), share (of all rows read), state ("set aside", "kept", "assumed", "seen",
        "ok"), meaning.
    columns
        DataFrame: column, type, n_null, share_null (of all rows read).
    events
        DataFrame: event, n, n_customers, stage (None where no rule names it); most frequent first.
    """

    n_rows: int
    n_used: int
    n_customers: int
    n_event_names: int
    start: pd.Timestamp
    end: pd.Timestamp
    checks: pd.DataFrame
    columns: pd.DataFrame
    events: pd.DataFrame

    @property
    def n_set_aside(self) -> int:
        """Rows that do not count."""
        return self.n_rows - self.n_used

    @property
    def headline(self) -> str:
        """The finding in one sentence."""
        rows = _("every row counts")
        if self.n_set_aside:
            rows = _(
                "{n} of {n_rows} rows are set aside ({share})",
                n=self.n_set_aside,
                n_rows=self.n_rows,
                share=format_share(self.n_set_aside / self.n_rows),
            )
        return _(
            "{n} events of {n_customers} customers, {n_kinds} kinds, {start} to {end} UTC; {rows}.",
            n=self.n_used,
            n_customers=self.n_customers,
            n_kinds=self.n_event_names,
            start=format_day(self.start),
            end=format_day(self.end),
            rows=rows,
        )

    def __str__(self) -> str:
        found = self.checks[self.checks["n"] > 0]
        nulls = self.columns[self.columns["n_null"] > 0]
        rows = found[["state", "n", "share", "check", "meaning"]].to_numpy().tolist()
        rows += [
            [_NULLS, n, share, format_name(name), _("empty")]
            for name, n, share in nulls[["column", "n_null", "share_null"]].to_numpy().tolist()
        ]
        states = max(len(_(state)) for state in (*_STATES, _NULLS))
        count = max((len(format_count(row[1])) for row in rows), default=0)
        name = max((len(row[3]) for row in rows), default=0)
        lines = [
            f"  {_(state):<{states}}  {format_count(n):>{count}}  {format_share(share):>7}  {check:<{name}}  {meaning}"
            for state, n, share, check, meaning in rows
        ]
        return "\n".join([self.headline, *lines])

    def _repr_html_(self) -> str:
        from journeylab.tables import show_table

        found = self.checks[self.checks["n"] > 0].reset_index(drop=True)
        parts = [f"<p><strong>{escape(self.headline)}</strong></p>"]
        caption = _("Checks that found something; share of all rows read")
        parts.append(show_table(found, caption=caption)._repr_html_())
        parts.append(show_table(self.columns, caption=_("Columns"))._repr_html_())
        return "\n".join(parts)


def check_events(events: ibis.Table, rules: JourneyRules | None = None) -> LoadReport:
    """Can this log be trusted, and what was done to read it?

    Parameters
    ----------
    events
        From `read_events`.
    rules
        With them, events that no rule names a stage for are counted.

    Returns
    -------
    LoadReport
        The queries have run.
    """
    if PROBLEM not in events.columns:
        raise SchemaError("these events have no load record (_problem); pass the table through read_events first")
    counts = _count_reasons(events)
    n_rows = int(counts["n"].sum())
    if n_rows == 0:
        raise SchemaError("there are no events to check")
    if not counts["is_used"].any():
        raise SchemaError(f"none of these {n_rows:,} rows counts; their _problem says why")
    used = events.filter(is_used(events))
    totals, columns = _count_columns(events, n_rows)
    by_event = _count_events(used, rules)
    checks = [
        *_list_problems(counts),
        *_list_times(counts),
        _make_check("tie", "timestamp", _count_ties(used), _(_TIE)),
    ]
    if rules is not None and rules.stage_of:
        checks.append(_check_names(by_event))
    return LoadReport(
        n_rows=n_rows,
        n_used=int(totals["n_used"]),
        n_customers=int(totals["n_customers"]),
        n_event_names=len(by_event),
        start=totals["start"],
        end=totals["end"],
        checks=_frame_checks(checks, n_rows),
        columns=columns,
        events=by_event,
    )


#: Readings that rest on an assumption about the clock.
_ASSUMED = {"naive", "local_gap", "local_overlap"}
_TIE = N_("at the same instant as another of their customer, with neither seq nor event_id to order them")
_STATES = (N_("set aside"), N_("kept"), N_("assumed"), N_("seen"), N_("ok"))
_NULLS = N_("nulls")

#: check, column, n, state, meaning
_Check = tuple[str, str, int, str, str]


def _count_reasons(events: ibis.Table) -> pd.DataFrame:
    """How many rows have which problem, and which reading of their time?"""
    counts: pd.DataFrame = events.group_by(PROBLEM, TIME).agg(n=events.count()).execute()
    counts["is_used"] = counts[PROBLEM].isna() | counts[PROBLEM].astype("str").str.startswith("kept_")
    return counts


def _list_problems(counts: pd.DataFrame) -> list[_Check]:
    found = counts.groupby(PROBLEM)["n"].sum()
    checks = []
    for code, problem in PROBLEMS.items():
        kept, set_aside = int(found.get(f"kept_{code}", 0)), int(found.get(code, 0))
        state = "kept" if kept else "set aside" if set_aside else "ok"
        checks.append((code, problem.column, kept or set_aside, state, f"{_(problem.what)}; {_(problem.advice)}"))
    return checks


def _list_times(counts: pd.DataFrame) -> list[_Check]:
    found = counts[counts["is_used"]].groupby(TIME)["n"].sum()
    return [
        (how, "timestamp", int(found.get(how, 0)), "assumed" if how in _ASSUMED else "seen", _(meaning))
        for how, meaning in TIMES.items()
    ]


def _make_check(check: str, column: str, n: int, meaning: str) -> _Check:
    return check, column, n, "seen" if n else "ok", meaning


def _check_names(by_event: pd.DataFrame) -> _Check:
    unnamed = by_event[by_event["stage"].isna()]
    meaning = _("with a name that no rule gives a stage")
    if len(unnamed):
        names = ", ".join(unnamed["event"].head(5).map(format_name)) + (" …" if len(unnamed) > 5 else "")
        meaning = _("with a name that no rule gives a stage ({n}: {names})", n=len(unnamed), names=names)
    return _make_check("unknown_event", "event", int(unnamed["n"].sum()), meaning)


def _count_ties(used: ibis.Table) -> int:
    keys = ["customer_id", *(name for name in ("timestamp", "seq", "event_id") if name in used.columns)]
    groups = used.group_by(keys).agg(n=used.count())
    tied = groups.filter(groups.n > 1)
    return int(tied.n.sum().fill_null(0).execute())


def _count_columns(events: ibis.Table, n_rows: int) -> tuple[pd.Series[Any], pd.DataFrame]:
    """Totals of the rows that count, and nulls per column of all rows, in one query."""
    import pandas as pd

    names = [name for name in events.columns if name not in BOOKKEEPING]
    counts = is_used(events)
    found = events.aggregate(
        n_used=events.count(where=counts),
        n_customers=events.customer_id.nunique(where=counts),
        start=events.timestamp.min(where=counts),
        end=events.timestamp.max(where=counts),
        **{f"n_null_{i}": events[name].isnull().sum() for i, name in enumerate(names)},
    ).execute()
    totals = found.iloc[0]
    table = pd.DataFrame(
        {
            "column": names,
            "type": [str(events[name].type()) for name in names],
            "n_null": [int(totals[f"n_null_{i}"]) for i in range(len(names))],
        }
    )
    table["share_null"] = table["n_null"] / n_rows
    return totals, table


def _count_events(used: ibis.Table, rules: JourneyRules | None) -> pd.DataFrame:
    stage = rules.name_stage(used.event) if rules is not None else ibis.null("string")
    counts = (
        used.mutate(stage=stage)
        .group_by("event", "stage")
        .agg(n=lambda t: t.count(), n_customers=lambda t: t.customer_id.nunique())
    )
    table: pd.DataFrame = counts.order_by(ibis.desc("n"), "event").execute()
    table["stage"] = table["stage"].astype(object).where(table["stage"].notna(), None)
    return table[["event", "n", "n_customers", "stage"]]


def _frame_checks(checks: list[_Check], n_rows: int) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(checks, columns=["check", "column", "n", "state", "meaning"])
    table.insert(3, "share", table["n"] / n_rows)
    return table
