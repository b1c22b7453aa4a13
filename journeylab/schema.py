"""The columns of an event log, and everything that can be wrong with one of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import ibis

from journeylab.errors import SchemaError
from journeylab.language import mark as N_

REQUIRED = ("customer_id", "event", "timestamp")

#: Optional columns of the events table and their types. Ids are text, always.
OPTIONAL = {
    "event_id": "string",
    "seq": "int64",
    "session_id": "string",
    "journey_id": "string",
    "channel": "string",
    "stage": "string",
    "value": "float64",
    "score": "float64",
    "score_scale": "string",
    "text": "string",
    "account_id": "string",
    "role": "string",
    "source": "string",
}

#: What `read_events` writes about each row: its place in the source, why it does not count, how its time was read.
ROW, PROBLEM, TIME = "_row", "_problem", "_time"
BOOKKEEPING = (ROW, PROBLEM, TIME)

#: While a log is read: the text of a time that cannot be read, and whether a number was lost.
RAW_TIME, LOST_NUMBER = "_raw_time", "_lost_number"

#: What `build_steps` adds.
STEP_COLUMNS = ("position", "rank", "step", "gap_s", "next_event")

#: Columns that reading and numbering need for a moment.
_PASSING = (
    *("_clock", "_fraction", "_how", "_instant", "_shape", "_whole"),
    *("_copy", "_copy_of", "_file"),
    *("_begins", "_gap_us", "_is_tied", "_journey", "_pauses", "_place", "_session"),
)

#: Names that no column of the user's may have: they would be overwritten on the way.
RESERVED = frozenset((*BOOKKEEPING, *STEP_COLUMNS, RAW_TIME, LOST_NUMBER, *_PASSING))


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse column names that the engine could not tell apart, or that the load needs itself."""
    twice = [name for name, n in Counter(name.casefold() for name in names).items() if n > 1]
    if twice:
        raise SchemaError(f"{where}: column names occur twice (letter case does not count): {', '.join(twice)}")
    ours = sorted(set(BOOKKEEPING).intersection(name.casefold() for name in names))
    if ours:
        raise SchemaError(
            f"{where}: the load itself is recorded in {', '.join(ours)}; drop or rename your column of that name first"
        )


@dataclass(frozen=True)
class Problem:
    """One way in which a row can fail, and the switches that let the load go on."""

    column: str
    what: str
    advice: str
    repair: str
    keep: str | None = None


#: In order of precedence: a row is counted under the first that fits.
PROBLEMS = {
    "null_customer": Problem(
        "customer_id",
        N_("without a customer"),
        N_("fill the ids in the source, or set these rows aside"),
        "drop_null_customer",
    ),
    "damaged_id": Problem(
        "customer_id",
        N_("with an id that a spreadsheet has rounded (1.22E+17)"),
        N_("export the ids again as text: their digits are lost here"),
        "drop_damaged_id",
        "keep_damaged_id",
    ),
    "null_event": Problem(
        "event", N_("without an event"), N_("name the events in the source, or set these rows aside"), "drop_null_event"
    ),
    "null_timestamp": Problem(
        "timestamp",
        N_("without a time"),
        N_("fill the times in the source, or set these rows aside"),
        "drop_null_timestamp",
    ),
    "unparsed_timestamp": Problem(
        "timestamp",
        N_("with a time that cannot be read"),
        N_('pass timestamp_format= (such as "%d.%m.%Y %H:%M")'),
        "drop_unparsed_timestamp",
    ),
    "epoch_zero": Problem(
        "timestamp",
        N_("in 1970 (an epoch of zero, or a wrong unit)"),
        N_("check the export, or pass epoch= with the unit"),
        "drop_epoch_zero",
        "keep_epoch_zero",
    ),
    "mixed_epoch": Problem(
        "timestamp",
        N_("with another epoch unit than most"),
        N_("pass epoch= with the unit if it is one after all"),
        "drop_mixed_epoch",
        "keep_mixed_epoch",
    ),
    "unparsed_number": Problem(
        "value, score, seq",
        N_("with a number that cannot be read"),
        N_("pass decimal= with their decimal mark, or set these rows aside"),
        "drop_unparsed_number",
        "keep_unparsed_number",
    ),
    "duplicate": Problem(
        "all columns",
        N_("that repeat an earlier row in every column"),
        N_("keep one of each, or keep them all if they are real"),
        "drop_duplicate",
        "keep_duplicate",
    ),
}

#: How a time was read, for the load report.
TIMES = {
    "utc_offset": N_("with their own offset from UTC"),
    "naive": N_("without a zone, read as UTC (pass tz= if the clock was another)"),
    "local": N_("without a zone, read as local time in tz"),
    "local_gap": N_("at a local time that was skipped when summer time began"),
    "local_overlap": N_("at a local time that happened twice when summer time ended, read as the later"),
    "epoch_s": N_("as seconds since 1970"),
    "epoch_ms": N_("as milliseconds since 1970"),
    "epoch_us": N_("as microseconds since 1970"),
    "epoch_ns": N_("as nanoseconds since 1970"),
}


def is_used(events: ibis.Table) -> ibis.Value:
    """Does a row count? It does without a problem, or with one that the load was told to keep."""
    return events[PROBLEM].isnull() | events[PROBLEM].startswith("kept_")
