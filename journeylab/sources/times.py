"""Any kind of time column as UTC timestamps, each row with a word on how it was read."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

import ibis

from journeylab.engine import local_to_utc, try_strptime, utc_of_zoned, utc_to_local
from journeylab.errors import RuleError, nearest

EPOCH_UNITS = ("s", "ms", "us", "ns")

_OFFSET = r"^(.*\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?) ?(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_ISO = r"^\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?$"
# Fewer digits than nine are no epoch: 20240301 is a date that somebody must name the format of.
_NUMBER = r"^-?\d{9,19}(?:\.\d+)?$"


def read_times(
    column: ibis.Value, con: ibis.BaseBackend, *, tz: str | None, timestamp_format: str | None, epoch: str | None
) -> tuple[ibis.Value, ibis.Value]:
    """Which UTC instant does each cell mean, and how was that found out?

    Returns
    -------
    tuple
        ``timestamp(6)`` in UTC (null where it cannot be read) and a word of `schema.TIMES`.

    Notes
    -----
    The unit of an epoch is told from its size, row by row: seconds below 1e11, milliseconds below 1e14,
    microseconds below 1e17, nanoseconds above (so each unit reads years 1973 to 5138 right). `epoch` fixes it.
    """
    if tz is not None:
        _check_zone(tz)
    if epoch is not None and epoch not in EPOCH_UNITS:
        raise RuleError(f'read_events: epoch must be one of {", ".join(EPOCH_UNITS)}, found "{epoch}"')
    kind = column.type()
    if kind.is_timestamp() and kind.timezone is not None:
        return utc_of_zoned(column, con), ibis.literal("utc_offset")
    if kind.is_timestamp() or kind.is_date():
        return _from_local(column.cast("timestamp(6)"), con, tz)
    if kind.is_numeric():
        return _from_epoch(column.cast("float64") if kind.is_decimal() else column, epoch)
    if not kind.is_string():
        raise RuleError(
            f"read_events: timestamp has type {kind}; expected a timestamp, a date, text or an epoch number"
        )
    return _from_text(column.strip(), con, tz=tz, timestamp_format=timestamp_format, epoch=epoch)


def _check_zone(tz: str) -> None:
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError) as error:
        raise RuleError(f'read_events: tz "{tz}" is not a time zone.{nearest(tz, available_timezones())}') from error


def _from_local(local: ibis.Value, con: ibis.BaseBackend, tz: str | None) -> tuple[ibis.Value, ibis.Value]:
    if tz is None:
        return local, ibis.literal("naive")
    utc = local_to_utc(local, tz, con)
    hour = ibis.interval(hours=1)
    twice = (utc_to_local(utc - hour, tz) == local) | (utc_to_local(utc + hour, tz) == local)
    how = ibis.cases((utc_to_local(utc, tz) != local, "local_gap"), (twice, "local_overlap"), else_="local")
    return utc, how


def _from_epoch(number: ibis.Value, epoch: str | None) -> tuple[ibis.Value, ibis.Value]:
    size = number.cast("float64").abs()
    if epoch is not None:
        unit: ibis.Value = ibis.literal(epoch)
    else:
        unit = ibis.cases((size < 1e11, "s"), (size < 1e14, "ms"), (size < 1e17, "us"), else_="ns")
    microseconds = ibis.cases(
        (unit == "s", size * 1e6), (unit == "ms", size * 1e3), (unit == "us", size), else_=size / 1e3
    )
    is_sound = ~size.isnan() & (microseconds < 2.5e17)  # before the year 9892
    number = ibis.ifelse(is_sound, number, None)
    # Whole numbers stay whole: a float of 19 digits would lose the microseconds.
    thousand, last = (1000, number // 1000) if number.type().is_integer() else (1e3, number / 1e3)
    scaled = ibis.cases(
        (unit == "s", number * thousand * thousand),
        (unit == "ms", number * thousand),
        (unit == "us", number),
        else_=last,
    )
    instant = ibis.timestamp("1970-01-01 00:00:00") + scaled.round().cast("int64").as_interval("us")
    return instant.cast("timestamp(6)"), ibis.literal("epoch_").concat(unit)


def _from_text(
    text: ibis.Value, con: ibis.BaseBackend, *, tz: str | None, timestamp_format: str | None, epoch: str | None
) -> tuple[ibis.Value, ibis.Value]:
    if timestamp_format is not None:
        return _from_local(try_strptime(text, timestamp_format).cast("timestamp(6)"), con, tz)
    has_offset, is_number = text.re_search(_OFFSET), text.re_search(_NUMBER)
    clock = ibis.ifelse(has_offset, text.re_extract(_OFFSET, 1).strip(), text)
    naive = ibis.ifelse(clock.re_search(_ISO), clock.try_cast("timestamp"), None).cast("timestamp(6)")
    from_offset = naive - _offset_minutes(text.re_extract(_OFFSET, 2)).as_interval("m")
    from_local, how_local = _from_local(naive, con, tz)
    # A fraction needs a float; without one all digits of a whole number count.
    is_whole = is_number & ~text.contains(".")
    from_whole, how_whole = _from_epoch(ibis.ifelse(is_whole, text, None).try_cast("int64"), epoch)
    from_float, how_float = _from_epoch(ibis.ifelse(is_number, text, None).try_cast("float64"), epoch)
    instant = ibis.cases((has_offset, from_offset), (is_whole, from_whole), (is_number, from_float), else_=from_local)
    how = ibis.cases((has_offset, "utc_offset"), (is_whole, how_whole), (is_number, how_float), else_=how_local)
    return instant, how


def _offset_minutes(offset: ibis.Value) -> ibis.Value:
    digits = offset.re_replace(r"[^0-9]", "")
    hours = digits.substr(0, 2).try_cast("int64").fill_null(0)
    minutes = digits.substr(2, 2).try_cast("int64").fill_null(0)
    return ibis.ifelse(offset.startswith("-"), -1, 1) * (hours * 60 + minutes)
