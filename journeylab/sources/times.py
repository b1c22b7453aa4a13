"""Any kind of time column as UTC timestamps, each row with a word on how it was read."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

import ibis

from journeylab.engine import local_to_utc, try_strptime, utc_of_zoned, utc_to_local
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.schema import RAW_TIME, TIME

EPOCH_UNITS = ("s", "ms", "us", "ns")

_CLOCK = r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_ZONED = r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)? ?(?:Z|UTC|GMT|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?)"
# Fewer digits than nine are no epoch: 20240301 is a date that somebody must name the format of.
_EPOCH = r"-?(?:0|\d{9,19})(?:\.\d+)?"
_ANY_NUMBER = r"-?\d{1,19}(?:\.\d+)?"

# DuckDB's own; being functions of ours to Ibis, they also keep it from writing one step's formula into the next.
_matches = ibis.udf.scalar.builtin(
    lambda text, pattern: ..., name="regexp_full_match", signature=(("string", "string"), "boolean")
)
_from_micros = ibis.udf.scalar.builtin(
    lambda micros: ..., name="make_timestamp", signature=(("int64",), "timestamp(6)")
)
_to_nanos = ibis.udf.scalar.builtin(lambda instant: ..., name="epoch_ns", signature=((None,), "int64"))
# The // of Ibis goes through floating point, which cannot hold nanoseconds.
_divide = ibis.udf.scalar.builtin(lambda a, b: ..., name="divide", signature=(("int64", "int64"), "int64"))


def read_times(
    events: ibis.Table,
    con: ibis.BaseBackend,
    *,
    tz: str | None = None,
    timestamp_format: str | None = None,
    epoch: str | None = None,
    has_epochs: bool = True,
) -> ibis.Table:
    """Which UTC instant does each row's `timestamp` mean, and how was that found out?

    Where text is known to hold no numbers (not `has_epochs`), the query is half as long.

    Returns
    -------
    ibis.Table
        `events` with timestamp as ``timestamp(6)`` in UTC (null where it cannot be read), ``_time`` (a word of
        `schema.TIMES`; null where timestamp is) and ``_raw_time`` (the text of what cannot be read).

    Notes
    -----
    The unit of an epoch is told from its size, row by row: seconds below 1e11, milliseconds below 1e14, microseconds
    below 1e17, nanoseconds above. Numbers that would then lie after 2099 or look like 202403011230 are not read, for
    they are dates in digits. `epoch` fixes the unit, and every number to the year 9892 is read.
    """
    _check_arguments(tz, timestamp_format, epoch)
    kind = events.timestamp.type()
    if con.name != "duckdb" and (kind.is_string() or kind.is_numeric()):
        raise RuleError(f"read_events: text and numbers become times on DuckDB; make them so in {con.name} first")
    raw = events.mutate(**{RAW_TIME: events.timestamp})
    if timestamp_format is not None and (kind.is_string() or kind.is_numeric()):
        found = _read_format(raw, con, tz, timestamp_format)
    elif kind.is_string():
        found = _read_text(raw, con, tz, epoch, has_epochs)
    elif _is_zoned(events):
        found = raw.mutate(**{"timestamp": _from_zoned(events.timestamp, con), TIME: ibis.literal("utc_offset")})
    elif kind.is_timestamp() or kind.is_date():
        found = _read_clock(raw.mutate(_clock=_to_microseconds(events.timestamp)), con, tz)
    elif kind.is_numeric():
        found = _read_numbers(raw, epoch)
    else:
        raise SchemaError(f"timestamp has type {kind}; expected a timestamp, a date, text or an epoch number")
    is_read = found.timestamp.notnull()
    return found.mutate(
        **{
            TIME: ibis.ifelse(is_read, found[TIME], None),
            RAW_TIME: ibis.ifelse(is_read, None, found[RAW_TIME].cast("string")),
        }
    )


def _check_arguments(tz: str | None, timestamp_format: str | None, epoch: str | None) -> None:
    if tz is not None:
        try:
            ZoneInfo(tz)
        except (KeyError, ValueError, OSError) as error:
            near = nearest(tz, available_timezones())
            raise RuleError(
                f'read_events: tz "{tz}" is not a time zone.{near} Expected a name such as Europe/Warsaw or UTC'
            ) from error
    if epoch is not None and epoch not in EPOCH_UNITS:
        raise RuleError(f'read_events: epoch must be one of {", ".join(EPOCH_UNITS)}, found "{epoch}"')
    if timestamp_format is not None and epoch is not None:
        raise RuleError("read_events: epoch= is for numbers and timestamp_format= for text; pass one of them")
    if timestamp_format is not None and "%" not in timestamp_format:
        raise RuleError(
            f'read_events: timestamp_format needs codes such as "%d.%m.%Y %H:%M", found "{timestamp_format}"'
        )


def _is_zoned(events: ibis.Table) -> bool:
    kind = events.timestamp.type()
    # Ibis does not know DuckDB's zoned nanoseconds, which pandas 2 wrote into Parquet.
    return (kind.is_timestamp() and kind.timezone is not None) or "TIMESTAMPTZ" in str(kind)


def _from_zoned(instant: ibis.Value, con: ibis.BaseBackend) -> ibis.Value:
    return utc_of_zoned(instant, con) if instant.type().is_timestamp() else _cut_nanos(instant)


def _to_microseconds(clock: ibis.Value) -> ibis.Value:
    kind = clock.type()
    return _cut_nanos(clock) if kind.is_timestamp() and kind.scale == 9 else clock.cast("timestamp(6)")


def _cut_nanos(instant: ibis.Value) -> ibis.Value:
    """A cast would round to microseconds; text and epochs are cut off."""
    return _from_micros(_divide(_to_nanos(instant), 1000))


def _read_clock(clocked: ibis.Table, con: ibis.BaseBackend, tz: str | None) -> ibis.Table:
    """Make a timestamp of `_clock`, which has no zone: as `tz` shows it, or else UTC."""
    clock = clocked["_clock"]
    if tz is None:
        return clocked.mutate(**{"timestamp": clock, TIME: ibis.literal("naive")}).drop("_clock")
    read = clocked.mutate(timestamp=local_to_utc(clock, tz, con))
    utc, clock = read.timestamp, read["_clock"]
    # Of an hour that happens twice `local_to_utc` takes the later; on Lord Howe Island it is half an hour.
    earlier = [utc_to_local(utc - ibis.interval(minutes=minutes), tz) == clock for minutes in (60, 30)]
    how = ibis.cases(
        (utc_to_local(utc, tz) != clock, "local_gap"), (earlier[0] | earlier[1], "local_overlap"), else_="local"
    )
    return read.mutate(**{TIME: how}).drop("_clock")


def _read_format(raw: ibis.Table, con: ibis.BaseBackend, tz: str | None, timestamp_format: str) -> ibis.Table:
    try:
        con.execute(try_strptime(ibis.literal("2026"), timestamp_format))
    except Exception as error:
        said = str(error).splitlines()[0]
        raise RuleError(f'read_events: timestamp_format "{timestamp_format}" is not one ({said})') from error
    # 20260301 is read as a date, and 20260301.0 too: a column of whole numbers with gaps.
    written = raw.timestamp if raw.timestamp.type().is_string() else raw.timestamp.try_cast("int64").cast("string")
    text = written.strip()
    if "%z" in timestamp_format.lower():
        # DuckDB gives a zoned timestamp then.
        instant = utc_of_zoned(try_strptime(text, timestamp_format), con)
        return raw.mutate(**{"timestamp": instant, TIME: ibis.literal("utc_offset")})
    return _read_clock(raw.mutate(_clock=try_strptime(text, timestamp_format).cast("timestamp(6)")), con, tz)


def _read_text(
    raw: ibis.Table, con: ibis.BaseBackend, tz: str | None, epoch: str | None, has_epochs: bool
) -> ibis.Table:
    """Sort the texts by their shape, then read each shape in its own way."""
    text = raw.timestamp
    # Most have nothing to strip, and stripping costs more than the looking.
    text = ibis.ifelse(text.startswith(" ") | text.endswith(" "), text.strip(), text)
    shape = ibis.cases(
        (_matches(text, _CLOCK), "clock"),
        (_matches(text, _ZONED), "zoned"),
        (_matches(text, _EPOCH if epoch is None else _ANY_NUMBER), "number"),
    )
    shaped = raw.mutate(timestamp=text, _shape=shape)
    text, shape = shaped.timestamp, shaped["_shape"]
    zoned = text.replace(" UTC", "Z").replace("UTC", "Z").replace(" GMT", "Z").replace("GMT", "Z")
    zoned = zoned.replace(" +", "+").replace(" -", "-").replace(" Z", "Z")
    split = shaped.mutate(
        _clock=ibis.ifelse(shape == "clock", text, None).try_cast("timestamp(6)"),
        _instant=utc_of_zoned(ibis.ifelse(shape == "zoned", zoned, None).try_cast("timestamp('UTC')"), con),
        _how=ibis.ifelse(shape == "zoned", "utc_offset", None),
    )
    local = _read_clock(_add_epochs(split, epoch) if has_epochs else split, con, tz)
    is_clock = local["_shape"] == "clock"
    return local.mutate(
        **{
            "timestamp": ibis.ifelse(is_clock, local.timestamp, local["_instant"]),
            TIME: ibis.ifelse(is_clock, local[TIME], local["_how"]),
        }
    ).drop("_shape", "_instant", "_how")


def _add_epochs(split: ibis.Table, epoch: str | None) -> ibis.Table:
    """Fill `_instant` and `_how` of the rows that hold a number."""
    number = ibis.ifelse(split["_shape"] == "number", split.timestamp, None)
    # A fraction needs a float; without one all digits of a whole number count.
    has_fraction = number.contains(".")
    cast = split.mutate(
        _whole=ibis.ifelse(has_fraction, None, number).try_cast("int64"),
        _fraction=ibis.ifelse(has_fraction, number, None).try_cast("float64"),
    )
    whole, how_whole = _from_epoch(cast["_whole"], epoch)
    fraction, how_fraction = _from_epoch(cast["_fraction"], epoch)
    return cast.mutate(
        _instant=ibis.coalesce(cast["_instant"], _from_micros(ibis.coalesce(whole, fraction))),
        _how=ibis.coalesce(cast["_how"], how_whole, how_fraction),
    ).drop("_whole", "_fraction")


def _read_numbers(raw: ibis.Table, epoch: str | None) -> ibis.Table:
    number = raw.timestamp
    if number.type().is_floating() and number.type().nbytes < 8:
        raise SchemaError("timestamp is a column of 32-bit floats, which are minutes off; write it as 64-bit numbers")
    micros, how = _from_epoch(number if number.type().is_integer() else number.cast("float64"), epoch)
    return raw.mutate(**{"timestamp": _from_micros(micros), TIME: how})


def _from_epoch(number: ibis.Value, epoch: str | None) -> tuple[ibis.Value, ibis.Value]:
    """How many microseconds since 1970, and by which unit? Null where the number cannot be an epoch."""
    size = number.cast("float64").abs()
    if epoch is not None:
        unit: ibis.Value = ibis.literal(epoch)
        seconds = size / {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[epoch]
        is_sound = seconds < 2.5e11
    else:
        unit = ibis.cases((size < 1e11, "s"), (size < 1e14, "ms"), (size < 1e17, "us"), else_="ns")
        seconds = size / ibis.cases((size < 1e11, 1.0), (size < 1e14, 1e3), (size < 1e17, 1e6), else_=1e9)
        # Of twelve digits 202403011230 is a date; as milliseconds it would be a day in 1976.
        is_sound = (seconds < 4102444800) & ~size.between(190001010000, 209912312359)
    # In DuckDB NaN is larger than any number.
    number = ibis.ifelse(is_sound, number, None)
    whole = number.type().is_integer()
    if whole:
        number = number.try_cast("int64")
    micros = ibis.cases(
        (unit == "s", number * 1_000_000),
        (unit == "ms", number * 1_000),
        (unit == "us", number),
        else_=_divide(number, 1000) if whole else number / 1e3,
    )
    how = ibis.ifelse(is_sound, ibis.literal("epoch_").concat(unit), None)
    return (micros if whole else micros.round().cast("int64")), how
