"""Times of every kind against Python's own datetime and zoneinfo."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import fetch

import journeylab as jl

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = dt.timedelta(microseconds=1)
Answer = tuple[dt.datetime | None, str | None]


def read_times(con: ibis.BaseBackend, times: Any, **options: Any) -> list[Answer]:
    """How each time of a column is read: the instant in UTC, and the word for it."""
    n = len(times)
    log = pd.DataFrame({"customer_id": ["a"] * n, "event": [f"e{i}" for i in range(n)], "timestamp": times})
    options = {"repair": ["all", "keep_epoch_zero", "keep_mixed_epoch"]} | options
    rows = fetch(jl.read_events(log, con=con, **options).select("timestamp", "_time", "_row"))
    return [(row["timestamp"], row["_time"]) for row in sorted(rows, key=lambda row: row["_row"])]


def naive(instant: dt.datetime) -> dt.datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def in_zone(clock: dt.datetime, tz: str) -> Answer:
    """What zoneinfo says a clock means: in a gap by the offset before it, of two instants the later."""
    first, second = (naive(clock.replace(tzinfo=ZoneInfo(tz), fold=fold)) for fold in (0, 1))
    if first == second:
        return first, "local"
    return (first, "local_gap") if first > second else (second, "local_overlap")


# Text.


def random_texts(n: int, seed: int) -> list[tuple[str, dt.datetime, bool]]:
    """ISO 8601 in all its spellings: the text, the moment it names, and whether it names an offset."""
    random = Random(seed)
    found = []
    for _ in range(n):
        moment = dt.datetime(1971, 1, 3) + dt.timedelta(microseconds=random.randrange(60 * 365 * 86_400 * 1_000_000))
        digits = random.choice((0, 0, 1, 3, 6, 9))
        if random.random() < 0.1:
            moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            text = f"{moment:%Y-%m-%d}"
        elif random.random() < 0.1:
            moment = moment.replace(second=0, microsecond=0)
            text = f"{moment:%Y-%m-%d{random.choice('T ')}%H:%M}"
        else:
            text = f"{moment:%Y-%m-%d{random.choice('T ')}%H:%M:%S}"
            fraction = f"{moment.microsecond:06}{random.randrange(1000):03}"[:digits]
            moment = moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))
            text += f".{fraction}" if digits else ""
        has_offset = ":" in text and random.random() < 0.5
        if has_offset:
            hours, minutes = random.randrange(15), random.choice((0, 0, 30, 45))
            sign = random.choice((1, -1))
            mark = f"{'+' if sign > 0 else '-'}{hours:02}"
            spelled = random.choice(("Z", " UTC", "UTC", "GMT", mark, f"{mark}{minutes:02}", f"{mark}:{minutes:02}"))
            if spelled[0] in "+-":
                minutes = minutes if len(spelled) > 3 else 0
                moment -= sign * dt.timedelta(hours=hours, minutes=minutes)
                spelled = random.choice(("", " ")) + spelled
            text += spelled
        found.append((random.choice(("", "", " ")) + text + random.choice(("", " ")), moment, has_offset))
    return found


@pytest.mark.parametrize("tz", [None, "Europe/Warsaw", "America/New_York"])
def test_iso_text_in_all_spellings(con: ibis.BaseBackend, tz: str | None) -> None:
    texts = random_texts(3_000, seed=1)
    found = read_times(con, [text for text, _, _ in texts], tz=tz)
    for (text, moment, has_offset), answer in zip(texts, found, strict=True):
        local = (moment, "naive") if tz is None else in_zone(moment, tz)
        assert answer == ((moment, "utc_offset") if has_offset else local), text


UNREADABLE = (
    *("yesterday", "nan", "NaT", "null", "-", "inf", "infinity", "epoch", "now", "today"),
    *("2026-02-30", "2026-01-01 25:61", "2026-01-01T10", "2026-01-01 10:00:60", "0000-00-00 00:00:00", "2026-1-5"),
    *("2026/01/05", "05.01.2026", "01/05/2026 10:00", "2026-W01", "20260105", "20260105T100000Z", "10:00"),
    *("2026-01-01T10:00:00+25:00", "2026-01-01T10:00:00+02:75", "2026-01-01Z", "2026-01-01 10:00:00 Warsaw"),
    *(
        "2026-01-01 10:00:00 Europe/Warsaw",
        "2026-01-01T10:00:00+02:00[Europe/Warsaw]",
        "٢٠٢٦-٠١-٠١",
        "2026-01-01\t10:00",
    ),
    # Dates in digits are no epochs, and what would lie after 2099 is none either.
    *("202601051030", "20260105103000", "99999999999999999999", "9e9", "1700000000,5", "1700000000.", "12345678"),
)


def test_what_cannot_be_read_is_said_not_guessed(con: ibis.BaseBackend) -> None:
    options: dict[str, Any]
    for options in ({}, {"tz": "Europe/Warsaw"}):
        found = read_times(con, [*UNREADABLE, "2026-01-01"], **options)
        read = [text for text, answer in zip(UNREADABLE, found, strict=False) if answer != (None, None)]
        assert read == []
        assert found[-1][0] is not None
    log = pd.DataFrame({"customer_id": "a", "event": "e", "timestamp": ["x", "", None, "  ", "x", "y", "z", "w"]})
    with pytest.raises(jl.SchemaError) as error:
        jl.read_events(log, con=con)
    assert str(error.value).splitlines()[:4] == [
        "the DataFrame failed 2 checks in 8 rows",
        "  timestamp  3 without a time (37.5 %)                   "
        "fill the times in the source, or set these rows aside",
        '  timestamp  5 with a time that cannot be read (62.5 %)  pass timestamp_format= (such as "%d.%m.%Y %H:%M")',
        "  unread times look like 'x', 'w', 'y'",
    ]


# Zones.


@pytest.mark.parametrize(
    ("tz", "days"),
    [
        ("Europe/Warsaw", ("2026-03-29", "2026-10-25", "1977-04-03", "2026-07-01")),
        # Moscow gave up winter time in 2011 and summer time in 2014.
        ("Europe/Moscow", ("2010-03-28", "2010-10-31", "2011-03-27", "2014-10-26", "2014-07-01")),
        ("Australia/Lord_Howe", ("2026-04-05", "2026-10-04")),
        ("Pacific/Apia", ("2011-12-30",)),
    ],
)
def test_clocks_in_their_zone(con: ibis.BaseBackend, tz: str, days: tuple[str, ...]) -> None:
    clocks = [dt.datetime.fromisoformat(day) + dt.timedelta(minutes=5 * i) for day in days for i in range(-12, 12 * 25)]
    expected = [in_zone(clock, tz) for clock in clocks]
    assert read_times(con, [clock.isoformat() for clock in clocks], tz=tz) == expected
    assert read_times(con, pd.DatetimeIndex(clocks), tz=tz) == expected
    # What has its own zone does not ask for another.
    zoned = pd.to_datetime([instant for instant, _ in expected], utc=True).tz_convert(tz)
    assert read_times(con, zoned, tz="Asia/Tokyo") == [(instant, "utc_offset") for instant, _ in expected]
    if tz == "Europe/Warsaw":
        for unit in ("s", "ms", "ns"):
            assert read_times(con, pd.DatetimeIndex(clocks).as_unit(unit), tz=tz) == expected
        spelled = [f"{clock:%d.%m.%Y %H:%M}" for clock in clocks]
        assert read_times(con, spelled, tz=tz, timestamp_format="%d.%m.%Y %H:%M") == expected
        found = read_times(con, [str(one) for one in zoned], tz="Asia/Tokyo")
        assert found == [(instant, "utc_offset") for instant, _ in expected]


def test_dates_are_local_midnights(con: ibis.BaseBackend) -> None:
    days = [dt.date(2026, 1, 1), dt.date(2026, 7, 1)]
    midnights = [dt.datetime(2025, 12, 31, 23), dt.datetime(2026, 6, 30, 22)]
    assert read_times(con, days, tz="Europe/Warsaw") == [(midnight, "local") for midnight in midnights]


@pytest.mark.parametrize(
    ("tz", "near"),
    [
        ("Europe/Warschau", ' Did you mean "Europe/Warsaw"?'),
        ("europe/warsaw", ' Did you mean "Europe/Warsaw"?'),
        ("+02:00", ""),
        ("", ""),
        ("../etc/passwd", ""),
    ],
)
def test_unknown_zone(con: ibis.BaseBackend, tz: str, near: str) -> None:
    with pytest.raises(jl.RuleError) as error:
        read_times(con, ["2026-01-01"], tz=tz)
    assert str(error.value) == (
        f'read_events: tz "{tz}" is not a time zone.{near} Expected a name such as Europe/Warsaw or UTC'
    )


# Formats.


def test_strptime_formats(con: ibis.BaseBackend) -> None:
    def read(times: Any, timestamp_format: str, **options: Any) -> list[Answer]:
        return read_times(con, times, timestamp_format=timestamp_format, **options)

    day = dt.datetime(2026, 3, 1)
    assert read(["01.03.2026", " 1.3.2026 ", "2026-03-01"], "%d.%m.%Y") == [
        (day, "naive"),
        (day, "naive"),
        (None, None),
    ]
    assert read(["03/01/2026"], "%m/%d/%Y") == [(day, "naive")]
    assert read([20260301, 20260302], "%Y%m%d")[0] == (day, "naive")
    # With gaps, whole numbers become floats in pandas.
    assert read([20260301.0, None], "%Y%m%d") == [(day, "naive"), (None, None)]
    later = day.replace(hour=9, microsecond=123456)
    assert read(["2026-03-01 09:00:00.123456"], "%Y-%m-%d %H:%M:%S.%f") == [(later, "naive")]
    # An offset in the text wins over tz, and is taken off once.
    for options in ({}, {"tz": "Europe/Warsaw"}):
        found = read(["01.03.2026 10:00 +0200"], "%d.%m.%Y %H:%M %z", **options)
        assert found == [(day.replace(hour=8), "utc_offset")]
    for wrong, said in {
        "yyyymmdd": 'timestamp_format needs codes such as "%d.%m.%Y %H:%M", found "yyyymmdd"',
        "%Q": 'timestamp_format "%Q" is not one (',
    }.items():
        with pytest.raises(jl.RuleError) as error:
            read(["x"], wrong)
        assert str(error.value).startswith(f"read_events: {said}")
    with pytest.raises(jl.RuleError, match=r"epoch= is for numbers and timestamp_format= for text; pass one of them"):
        read(["x"], "%Y", epoch="s")


# Epochs.

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def epochs(unit: str, n: int = 500) -> list[int]:
    """Whole numbers of a unit, from 1975 to 2099, dates in digits left out."""
    random = Random(unit)
    low, high = 160_000_000 * UNITS[unit], 4_102_444_799 * UNITS[unit]
    found = [*(random.randrange(low, high) for _ in range(n)), high]
    return [one for one in found if not 190001010000 <= one <= 209912312359]


def as_instant(number: int | Decimal, unit: str) -> dt.datetime:
    """Cut off to microseconds, in exact arithmetic."""
    nanos = int(Decimal(number) * (1_000_000_000 // UNITS[unit]))
    return naive(EPOCH + nanos // 1000 * MICROSECOND)


@pytest.mark.parametrize("unit", UNITS)
def test_whole_epochs_are_exact_in_every_unit(con: ibis.BaseBackend, unit: str) -> None:
    numbers = epochs(unit)
    expected = [(as_instant(number, unit), f"epoch_{unit}") for number in numbers]
    assert read_times(con, numbers) == expected
    assert read_times(con, [str(number) for number in numbers]) == expected
    assert read_times(con, numbers, epoch=unit) == expected


def test_fractions_of_epochs_are_right_to_the_microsecond(con: ibis.BaseBackend) -> None:
    random = Random(3)
    seconds = [Decimal(random.randrange(10**15, 4 * 10**15)) / 10**6 for _ in range(1_000)]
    expected = [as_instant(second, "s") for second in seconds]
    for numbers in ([float(second) for second in seconds], [str(second) for second in seconds]):
        assert [instant for instant, _ in read_times(con, numbers)] == expected
    found = read_times(con, [str(second * 1000) for second in seconds])
    assert found == [(instant, "epoch_ms") for instant in expected]
    assert [instant for instant, _ in read_times(con, [Decimal(second) for second in seconds])] == expected


def test_numbers_of_any_type(con: ibis.BaseBackend, tmp_path: Path) -> None:
    number, instant = 1_767_261_600, dt.datetime(2026, 1, 1, 10)
    for kind in ("int32", "uint64", "float64", "int64[pyarrow]"):
        found = read_times(con, pd.array([number, number], dtype=kind))
        assert found == [(instant, "epoch_s")] * 2, kind
    with pytest.raises(jl.SchemaError, match="timestamp is a column of 32-bit floats, which are minutes off"):
        read_times(con, np.array([number], dtype="float32"))
    for typed in ([True], [dt.time(10)], [[1]]):
        pq.write_table(
            pa.table({"customer_id": ["a"], "event": ["e"], "timestamp": pa.array(typed)}), tmp_path / "x.parquet"
        )
        with pytest.raises(
            jl.SchemaError, match=r"^timestamp has type .*; expected a timestamp, a date, text or an epoch"
        ):
            jl.read_events(tmp_path / "x.parquet", con=con)


def test_numbers_that_are_no_times(con: ibis.BaseBackend) -> None:
    sound, instant = 1_767_261_600, dt.datetime(2026, 1, 1, 10)
    floats = [float(sound), float("nan"), float("inf"), float("-inf"), 1e300, 4.2e9, 202601051030.0, 20260105103000.0]
    assert read_times(con, floats) == [(instant, "epoch_s")] + [(None, None)] * 7
    whole = [sound, 2**63 - 1, -(2**63), 202601051030, 20260105103000]
    assert read_times(con, whole) == [(instant, "epoch_s")] + [(None, None)] * 4
    assert read_times(con, np.array([sound, 2**64 - 1], dtype="uint64"), epoch="ns")[1] == (None, None)
    # A unit that is given reads more, if it can be a date at all.
    given = read_times(con, [0, -1, 5_000_000_000, 2**63 - 1], epoch="s")
    assert given[:2] == [(dt.datetime(1970, 1, 1), "epoch_s"), (dt.datetime(1969, 12, 31, 23, 59, 59), "epoch_s")]
    assert given[2:] == [(as_instant(5_000_000_000, "s"), "epoch_s"), (None, None)]
    assert read_times(con, ["0", "-1", "12345", "20260105"], epoch="s") == [
        (as_instant(number, "s"), "epoch_s") for number in (0, -1, 12345, 20260105)
    ]
    assert read_times(con, [-1_700_000_000, "-1700000000"])[0] == (as_instant(-1_700_000_000, "s"), "epoch_s")
    with pytest.raises(jl.RuleError, match='epoch must be one of s, ms, us, ns, found "sec"'):
        read_times(con, [0], epoch="sec")


def test_a_unit_that_changes_between_rows_is_refused(con: ibis.BaseBackend) -> None:
    times = [1_767_261_600, 1_767_261_601, 1_767_261_602_000]
    for column in (times, [float(one) for one in times], [str(one) for one in times]):
        with pytest.raises(jl.SchemaError) as error:
            read_times(con, column, repair=())
        assert str(error.value) == (
            "the DataFrame failed 1 check in 3 rows\n"
            "  timestamp  1 with another epoch unit than most (33.3 %)  "
            "pass epoch= with the unit if it is one after all\n"
            'To set all these rows aside, counted in check_events: repair="all"\n'
            "To choose: repair=['drop_mixed_epoch']\n"
            "To let such rows count as they are: 'keep_mixed_epoch'"
        )
        found = read_times(con, column, repair="keep_mixed_epoch")
        assert [how for _, how in found] == ["epoch_s", "epoch_s", "epoch_ms"]
        assert found[2][0] == dt.datetime(2026, 1, 1, 10, 0, 2)


def test_mixed_text_is_read_row_by_row(con: ibis.BaseBackend) -> None:
    texts = ["2026-01-01", "2026-01-01T12:00:00+02:00", "1767261600", "1767261600.5", "", None, "soon"]
    ten = dt.datetime(2026, 1, 1, 10)
    assert read_times(con, texts, tz="Europe/Warsaw") == [
        (dt.datetime(2025, 12, 31, 23), "local"),
        (ten, "utc_offset"),
        (ten, "epoch_s"),
        (ten.replace(microsecond=500000), "epoch_s"),
        *[(None, None)] * 3,
    ]
    # Objects of several kinds in one column come out alike.
    mixed = [pd.Timestamp("2026-01-01 11:00", tz="Europe/Warsaw"), ten, dt.date(2026, 1, 1), 1767261600, pd.NaT]
    assert [instant for instant, _ in read_times(con, pd.Series(mixed, dtype=object))] == [
        *(ten, ten, dt.datetime(2026, 1, 1), ten, None)
    ]


# Typed columns.


def test_typed_times_are_cut_to_microseconds_from_every_kind_of_file(con: ibis.BaseBackend, tmp_path: Path) -> None:
    nanos = 1_767_261_600_123_456_999
    expected = as_instant(nanos, "ns")
    kinds: list[tuple[pa.DataType, int, str]] = [
        *((pa.timestamp(unit), nanos // (10**9 // UNITS[unit]), "naive") for unit in ("s", "us", "ns")),
        *((pa.timestamp(unit, "Asia/Tokyo"), nanos // (10**9 // UNITS[unit]), "utc_offset") for unit in ("us", "ns")),
    ]
    for i, (kind, number, how) in enumerate(kinds):
        path = tmp_path / f"{i}.parquet"
        times = pa.array([number, None], pa.int64()).cast(kind)
        pq.write_table(pa.table({"customer_id": ["a", "b"], "event": ["e", "e"], "timestamp": times}), path)
        rows = fetch(jl.read_events(path, con=con, repair="all").order_by("_row"))
        unit = kind.unit
        assert [(row["timestamp"], row["_time"]) for row in rows] == [
            (as_instant(number, unit), how),
            (None, None),
        ], kind
    assert as_instant(nanos // 1000, "us") == expected
    written = pd.Series(pd.to_datetime([nanos, nanos], unit="ns"))
    assert read_times(con, written) == [(expected, "naive")] * 2
    assert read_times(con, written.dt.tz_localize("UTC")) == [(expected, "utc_offset")] * 2
    assert read_times(con, [f"{one.isoformat()}" for one in written]) == [(expected, "naive")] * 2
    assert read_times(con, [nanos, nanos]) == [(expected, "epoch_ns")] * 2


def test_a_connection_of_the_users_own_zone_changes_nothing() -> None:
    own = ibis.duckdb.connect()
    own.raw_sql("SET TimeZone = 'Asia/Tokyo'")
    texts = ["2026-01-01 10:00", "2026-01-01T10:00:00+02:00", "1767261600"]
    zoned = pd.to_datetime(["2026-01-01 10:00"] * 3, utc=True)
    ten = dt.datetime(2026, 1, 1, 10)
    assert [instant for instant, _ in read_times(own, texts)] == [ten, ten.replace(hour=8), ten]
    assert [instant for instant, _ in read_times(own, texts, tz="UTC")] == [ten, ten.replace(hour=8), ten]
    assert [instant for instant, _ in read_times(own, zoned)] == [ten] * 3
    offset = read_times(own, ["01.01.2026 10:00 +0200"], timestamp_format="%d.%m.%Y %H:%M %z")
    assert offset == [(ten.replace(hour=8), "utc_offset")]
