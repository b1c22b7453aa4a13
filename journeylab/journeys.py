"""From events to steps and journeys: sort once, store, and never sort again."""

from __future__ import annotations

from datetime import date, datetime
from functools import reduce
from operator import and_

import ibis
from ibis.expr.builders import WindowBuilder

from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError
from journeylab.rules import JourneyRules, parse_duration
from journeylab.schema import BOOKKEEPING, PROBLEM, ROW, STEP_COLUMNS, is_used


def build_steps(events: ibis.Table, rules: JourneyRules | None = None, *, name: str | None = None) -> ibis.Table:
    """Cut each customer's events into journeys and sessions at pauses longer than the rules' gaps.

    Parameters
    ----------
    events
        From `read_events`. Rows that have a problem (and were not kept) are left out.
    rules
        Default: ``JourneyRules()``.
    name
        Keep the steps under this name in the database; default: a table of this session.

    Returns
    -------
    ibis.Table
        Stored, one row per event that counts. `events` plus journey_id, session_id (string, unique over customers),
        position (int64, the event's place in its customer's history, from 1), rank (int64, like position, but events
        that neither timestamp, seq nor event_id can order share one), step (int64, from 1 in the journey), stage
        (string; null for an event that no rule names), gap_s (float64, seconds since the journey's previous event;
        null on its first), next_event (string; null on its last).

    Notes
    -----
    Order is (timestamp, seq, event_id), then the place in the file; rows of an Ibis table have no place and are then
    ordered by their content. Journeys that the log names in ``journey_id`` are never cut,
    whatever `rules.journey_gap` says.
    """
    rules = rules or JourneyRules()
    if PROBLEM not in events.columns:
        raise SchemaError("these events have no load record (_problem); pass the table through read_events first")
    used = events.filter(is_used(events))
    steps = _number(_place(used, rules), rules)
    made = ("journey_id", "session_id", "stage")
    carried = [column for column in events.columns if column not in (*BOOKKEEPING, *made)]
    steps = steps.select(*carried, *made, *STEP_COLUMNS)
    return store(steps, events.get_backend(), name=name)


def _order_of(events: ibis.Table) -> list[str]:
    """By which columns are one customer's events ordered, completely?"""
    keys = [name for name in ("timestamp", "seq", "event_id") if name in events.columns]
    if ROW in events.columns:
        return [*keys, ROW]
    return keys + sorted(name for name in events.columns if name not in (*keys, *BOOKKEEPING, "customer_id"))


def _place(used: ibis.Table, rules: JourneyRules) -> ibis.Table:
    """Put each customer's events in order, and look one event back and one ahead."""
    order = _order_of(used)
    history = ibis.window(group_by="customer_id", order_by=order)
    # A journey that the log names is a track of its own: cases of one customer may overlap in time.
    track = ibis.window(group_by=_track_of(used), order_by=order)
    named = rules.name_stage(used.event)
    return used.mutate(
        position=ibis.row_number().over(history) + 1,
        stage=ibis.coalesce(named, used.stage) if "stage" in used.columns else named,
        next_event=used.event.lead().over(track),
        _place=ibis.row_number().over(track),
        _gap_us=used.timestamp.delta(used.timestamp.lag().over(track), unit="microsecond"),
        _is_tied=_is_tied(used, history),
    )


def _track_of(used: ibis.Table) -> list[str]:
    return ["customer_id", *(["journey_id"] if "journey_id" in used.columns else [])]


def _is_tied(used: ibis.Table, history: WindowBuilder) -> ibis.Value:
    """Does nothing but its place in the file set an event apart from the one before?"""
    keys = [name for name in ("timestamp", "seq", "event_id") if name in used.columns]
    same = [used[key].identical_to(used[key].lag().over(history)) for key in keys]
    return reduce(and_, same) & used.timestamp.lag().over(history).notnull()


def _number(placed: ibis.Table, rules: JourneyRules) -> ibis.Table:
    """Count journeys, sessions and steps along each customer's history."""
    # One order for all windows wherever it can be: each further one is a further sort.
    place = "_place" if "journey_id" in placed.columns else "position"
    track = ibis.window(group_by=_track_of(placed), order_by=place)
    so_far = ibis.window(group_by=_track_of(placed), order_by=place, preceding=None, following=0)
    in_history = so_far
    if "journey_id" in placed.columns:
        # Only then are there several tracks: without them it is the same order, and one sort less.
        in_history = ibis.window(group_by="customer_id", order_by="position", preceding=None, following=0)
    # Windows do not nest: what looks one event back is a column before anything is counted over it.
    marked = placed.mutate(_begins=_begins_journey(placed, rules, track), _pauses=_pauses(placed, rules, track))
    begins = marked["_begins"]
    counted = marked.mutate(
        rank=(~marked["_is_tied"]).cast("int64").sum().over(in_history),
        step=marked["_place"] - ibis.ifelse(begins, marked["_place"], None).max().over(so_far) + 1,
        gap_s=ibis.ifelse(begins, None, marked["_gap_us"] / 1e6),
        next_event=ibis.ifelse(begins.lead().over(track), None, marked.next_event),
        _journey=begins.cast("int64").sum().over(so_far),
        _session=(begins | marked["_pauses"]).cast("int64").sum().over(so_far),
    )
    named = counted.mutate(journey_id=_name_part(counted, "journey_id", "_journey", owner=counted.customer_id))
    # Sessions are numbered along the track: where the log names journeys, each begins at 1 again.
    owner = named.journey_id if "journey_id" in counted.columns else named.customer_id
    return named.mutate(session_id=_name_part(named, "session_id", "_session", owner=owner))


def _begins_journey(placed: ibis.Table, rules: JourneyRules, track: WindowBuilder) -> ibis.Value:
    begins = ibis.literal(False)
    if rules.journey_gap is not None:
        begins = placed["_gap_us"] > parse_duration(rules.journey_gap, "journey_gap") * 1_000_000
    if rules.end_after_goal:
        begins = begins | rules.reaches_goal(placed).lag().over(track)
    if "journey_id" in placed.columns:
        begins = begins & placed.journey_id.isnull()
    return (placed["_place"] == 0) | begins.fill_null(False)


def _pauses(placed: ibis.Table, rules: JourneyRules, track: WindowBuilder) -> ibis.Value:
    """Does a session of ours begin within a journey? Sessions that the log names part those that it does not."""
    is_long = placed["_gap_us"] > parse_duration(rules.session_gap, "session_gap") * 1_000_000
    if "session_id" not in placed.columns:
        return is_long
    return is_long | (placed.session_id.isnull() != placed.session_id.lag().over(track).isnull())


def _name_part(table: ibis.Table, column: str, number: str, *, owner: ibis.Value) -> ibis.Value:
    """Name a journey or session after its customer and its id in the log, or else after its owner and its number."""
    counted = table[number].cast("string")
    if column not in table.columns:
        return owner.concat("/", counted)
    # Ids may hold slashes and tildes: unescaped, a/b + c would be a + b/c, and an id ~1 the first without an id.
    customer = table.customer_id.replace("%", "%25").replace("/", "%2F")
    return ibis.coalesce(customer.concat("/", table[column].replace("~", "~~")), owner.concat("/~", counted))


def build_journeys(
    steps: ibis.Table, rules: JourneyRules | None = None, *, as_of: str | date | None = None
) -> ibis.Table:
    """What became of each journey, as far as it was observed?

    Parameters
    ----------
    steps
        From `build_steps`, with the same `rules`.
    as_of
        End of observation (UTC); later events are not looked at. Default: the last event of `steps`, never "now".

    Returns
    -------
    ibis.Table
        One row per journey: journey_id, customer_id (string), start_time, end_time (first and last event), n_steps,
        n_sessions, n_channels (int64; 0 without a channel column), duration_s (float64), first_channel (string, of the
        first event; null where that has none), last_stage (string, of the last event that has one), reached_goal
        (bool), goal_time (null where not reached), is_open (bool: at `as_of` it could still go on), value (float64,
        sum; null without values). The query runs when it is used.

    Notes
    -----
    A journey is over when it has been silent for longer than `rules.quiet_s`, or when it has reached the goal and
    `rules.end_after_goal` says so. With neither a gap nor `dormant_after` nothing shows that one is over: all are open.
    """
    rules = rules or JourneyRules()
    end = end_of_observation(steps, as_of)
    seen = steps.filter(steps.timestamp <= end)
    seen = seen.mutate(_is_goal=rules.reaches_goal(seen))
    first, last = seen.step == 1, seen.stage.notnull()
    has_channel, has_value = "channel" in seen.columns, "value" in seen.columns
    journeys = seen.group_by("journey_id", "customer_id").agg(
        start_time=seen.timestamp.min(),
        end_time=seen.timestamp.max(),
        n_steps=seen.count(),
        n_sessions=seen.session_id.nunique(),
        n_channels=seen.channel.nunique() if has_channel else ibis.literal(0, "int64"),
        first_channel=seen.channel.max(where=first) if has_channel else ibis.null("string"),
        last_stage=seen.stage.argmax(seen.step, where=last),
        reached_goal=seen["_is_goal"].any(),
        goal_time=seen.timestamp.min(where=seen["_is_goal"]),
        value=seen.value.sum() if has_value else ibis.null("float64"),
    )
    silent_us = ibis.literal(end).delta(journeys.end_time, unit="microsecond")
    is_open = ibis.literal(True) if rules.quiet_s is None else silent_us <= rules.quiet_s * 1_000_000
    if rules.end_after_goal:
        is_open = is_open & ~journeys.reached_goal
    journeys = journeys.mutate(
        duration_s=journeys.end_time.delta(journeys.start_time, unit="microsecond") / 1e6, is_open=is_open
    )
    return journeys.select(*_JOURNEY_COLUMNS)


_JOURNEY_COLUMNS = (
    "journey_id",
    "customer_id",
    "start_time",
    "end_time",
    "n_steps",
    "n_sessions",
    "n_channels",
    "duration_s",
    "first_channel",
    "last_stage",
    "reached_goal",
    "goal_time",
    "is_open",
    "value",
)


def end_of_observation(steps: ibis.Table, as_of: str | date | None) -> datetime:
    """Until when were the customers watched? The given instant in UTC, or the last event."""
    import pandas as pd

    if as_of is None:
        last = steps.timestamp.max().execute()
        if pd.isna(last):
            raise SchemaError("there are no steps; see check_events(events)")
        return pd.Timestamp(last).to_pydatetime()
    return read_instant(as_of, "as_of")


def read_instant(given: str | date, name: str) -> datetime:
    """Which instant does a date or a time mean? In UTC, where the zone is not said."""
    import pandas as pd

    found: object = given
    if isinstance(given, str):
        try:
            # ISO 8601 alone: pandas would read 20261031 as nanoseconds, and "now" as an answer that changes.
            found = datetime.fromisoformat(given)
        except ValueError:
            found = None
    if not isinstance(found, date) or pd.isna(found):
        raise RuleError(f'{name} must be a date or a time, such as "2026-10-31"; found {given!r}')
    instant = pd.Timestamp(found).as_unit("us")
    if instant.tzinfo is not None:
        instant = instant.tz_convert("UTC").tz_localize(None)
    return instant.to_pydatetime()
