"""Can this log be trusted? Every defect counted: what was set aside, what was kept, what was assumed."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import SchemaError
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
        rows = "every row counts"
        if self.n_set_aside:
            rows = f"{self.n_set_aside:,} of {self.n_rows:,} rows are set aside ({self.n_set_aside / self.n_rows:.1%})"
        return (
            f"{self.n_used:,} events of {self.n_customers:,} customers, {self.n_event_names:,} kinds, "
            f"{self.start:%Y-%m-%d} to {self.end:%Y-%m-%d} UTC; {rows}."
        )

    def __str__(self) -> str:
        found = self.checks[self.checks["n"] > 0]
        lines = [self.headline]
        lines += [f"  {r.state:<9}  {r.n:>9,}  {r.share:>6.1%}  {r.check:<20}  {r.meaning}" for r in found.itertuples()]
        nulls = self.columns[self.columns["n_null"] > 0]
        lines += [f"  nulls      {r.n_null:>9,}  {r.share_null:>6.1%}  {r.column}" for r in nulls.itertuples()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from journeylab.tables import show_table

        found = self.checks[self.checks["n"] > 0].reset_index(drop=True)
        parts = [f"<p><strong>{escape(self.headline)}</strong></p>"]
        parts.append(show_table(found, caption="Checks that found something; share of all rows read")._repr_html_())
        parts.append(show_table(self.columns, caption="Columns")._repr_html_())
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
    used = events.filter(is_used(events))
    n_rows = int(events.count().execute())
    if n_rows == 0:
        raise SchemaError("there are no events to check")
    totals = used.aggregate(
        n_used=used.count(),
        n_customers=used.customer_id.nunique(),
        n_event_names=used.event.nunique(),
        start=used.timestamp.min(),
        end=used.timestamp.max(),
    ).execute()
    by_event = _count_events(used, rules)
    checks = _count_checks(events, used, n_rows)
    if rules is not None and rules.stage_of:
        unnamed = by_event[by_event["stage"].isna()]
        names = ", ".join(unnamed["event"].head(5)) + (" …" if len(unnamed) > 5 else "")
        checks.append(
            (
                "unknown_event",
                "event",
                int(unnamed["n"].sum()),
                "seen",
                f"of {len(unnamed)} names without a stage: {names}",
            )
        )
    first = totals.iloc[0]
    return LoadReport(
        n_rows=n_rows,
        n_used=int(first["n_used"]),
        n_customers=int(first["n_customers"]),
        n_event_names=int(first["n_event_names"]),
        start=first["start"],
        end=first["end"],
        checks=_frame_checks(checks, n_rows),
        columns=_count_nulls(events, n_rows),
        events=by_event,
    )


def _count_checks(events: ibis.Table, used: ibis.Table, n_rows: int) -> list[tuple[str, str, int, str, str]]:
    problems = _count_by(events, PROBLEM)
    times = _count_by(used, TIME)
    checks = []
    for code, problem in PROBLEMS.items():
        kept, set_aside = problems.get(f"kept_{code}", 0), problems.get(code, 0)
        state = "kept" if kept else "set aside" if set_aside else "ok"
        checks.append((code, problem.column, kept or set_aside, state, f"{problem.what}; {problem.advice}"))
    checks += [
        (how, "timestamp", times.get(how, 0), "assumed" if how in _ASSUMED else "seen", TIMES[how]) for how in TIMES
    ]
    checks.append(
        (
            "tie",
            "timestamp",
            _count_ties(used),
            "seen",
            "at the same instant as another of their customer, with neither seq nor event_id to order them",
        )
    )
    return checks


#: Readings that rest on an assumption about the clock.
_ASSUMED = {"naive", "local_gap", "local_overlap"}


def _count_by(table: ibis.Table, column: str) -> dict[str, int]:
    counts = table.group_by(column).agg(n=table.count()).execute()
    return {str(key): int(n) for key, n in zip(counts[column], counts["n"], strict=True)}


def _count_ties(used: ibis.Table) -> int:
    keys = ["customer_id", *(name for name in ("timestamp", "seq", "event_id") if name in used.columns)]
    groups = used.group_by(keys).agg(n=used.count())
    tied = groups.filter(groups.n > 1)
    return int(tied.n.sum().fill_null(0).execute())


def _count_nulls(events: ibis.Table, n_rows: int) -> pd.DataFrame:
    import pandas as pd

    names = [name for name in events.columns if name not in BOOKKEEPING]
    counts = (
        events.aggregate(**{f"n_{i}": events[name].isnull().sum() for i, name in enumerate(names)}).execute().iloc[0]
    )
    types = [str(events[name].type()) for name in names]
    table = pd.DataFrame({"column": names, "type": types, "n_null": [int(n) for n in counts]})
    table["share_null"] = table["n_null"] / n_rows
    return table


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


def _frame_checks(checks: list[tuple[str, str, int, str, str]], n_rows: int) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(checks, columns=["check", "column", "n", "state", "meaning"])
    table.insert(3, "share", table["n"] / n_rows)
    return table
