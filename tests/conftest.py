"""What the tests share: six customers one can count on one's fingers, logs drawn at random, and a way to make steps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import journeylab as jl
from journeylab.schema import OPTIONAL, PROBLEM, ROW, TIME

Row = dict[str, Any]

# The same examples on every machine; one connection serves all examples of a test.
settings.register_profile(
    "journeylab",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("journeylab")


def examples(n: int) -> settings:
    """How many random logs a test looks at: n, or ten times as many with JOURNEYLAB_FULL=1."""
    return settings(max_examples=n * (10 if os.environ.get("JOURNEYLAB_FULL") == "1" else 1))


@pytest.fixture
def con() -> Iterator[ibis.BaseBackend]:
    connection = jl.connect(threads=2)
    yield connection
    connection.disconnect()


# Six customers.
#   anna  buys at once.
#   bert  comes back after exactly the session's limit (same session), then after one minute more (another), and leaves.
#   cleo  comes by an ad and pays without ever opening the cart.
#   dora  goes away for forty days, then buys: two journeys.
#   emil  fills the cart at the very end of the log: still on the way. No channel is known.
#   fred  has the cart before the shop, and asks for help five days before the end: two journeys, the second open.
_SIX = """
anna  web   shop  2026-01-01 10:00  0
anna  web   cart  2026-01-01 10:05  0
anna  web   pay   2026-01-01 10:15  20
bert  app   shop  2026-01-01 09:00  0
bert  app   shop  2026-01-01 09:30  0
bert  web   cart  2026-01-01 10:01  0
cleo  ads   ad    2026-01-01 08:00  0
cleo  web   shop  2026-01-02 08:00  0
cleo  web   pay   2026-01-03 08:00  10
dora  web   shop  2026-01-01 12:00  0
dora  app   shop  2026-02-10 12:00  0
dora  app   cart  2026-02-10 12:10  0
dora  app   pay   2026-02-10 12:20  30
emil  -     shop  2026-03-01 10:00  0
emil  -     cart  2026-03-01 10:05  0
fred  app   cart  2026-01-01 07:00  0
fred  web   shop  2026-01-02 07:00  0
fred  call  help  2026-02-24 07:00  0
"""

SIX_RULES = jl.JourneyRules(
    stages=("look", "basket", "bought"), stage_of={"shop": "look", "cart": "basket", "pay": "bought"}, goal="bought"
)


def six_customers() -> list[Row]:
    rows = []
    for line in _SIX.strip().splitlines():
        customer, channel, event, day, time, value = line.split()
        rows.append(
            {
                "customer_id": customer,
                "event": event,
                "timestamp": datetime.fromisoformat(f"{day} {time}"),
                "channel": None if channel == "-" else channel,
                "value": float(value),
            }
        )
    return rows


@pytest.fixture
def six(con: ibis.BaseBackend) -> ibis.Table:
    return make_steps(six_customers(), SIX_RULES, con=con)


_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}


def make_events(rows: Sequence[Mapping[str, Any]], con: ibis.BaseBackend, *, has_place: bool = True) -> ibis.Table:
    """Events as `read_events` hands them on, without its checks: quick enough for hundreds of logs.

    The columns are those of the first row; any that the package does not know is taken for text.
    """
    fields = [("customer_id", pa.string()), ("event", pa.string()), ("timestamp", pa.timestamp("us"))]
    fields += [(name, _TYPES[OPTIONAL.get(name, "string")]) for name in rows[0] if name not in dict(fields)]
    columns = {name: pa.array([row[name] for row in rows], type=kind) for name, kind in fields}
    columns[PROBLEM] = pa.nulls(len(rows), pa.string())
    columns[TIME] = pa.array(["naive"] * len(rows))
    if has_place:
        columns[ROW] = pa.array(range(len(rows)), type=pa.int64())
    return con.create_table(ibis.util.gen_name("log"), pa.table(columns), temp=True)


def make_steps(
    rows: Sequence[Mapping[str, Any]], rules: jl.JourneyRules | None = None, *, con: ibis.BaseBackend | None = None
) -> ibis.Table:
    return jl.build_steps(make_events(rows, con or jl.connect()), rules)


def fetch(table: ibis.Table) -> list[Row]:
    """All rows as plain Python, nulls as None; steps in the order of each customer's history."""
    is_steps = "position" in table.columns
    return (table.order_by("customer_id", "position") if is_steps else table).to_pyarrow().to_pylist()


def drop_tables(con: ibis.BaseBackend) -> None:
    """Forget what one example has stored."""
    # Not con.list_tables(): that of Ibis 12.0.0 fails with DuckDB 2.0.
    for name, kind in con.raw_sql("SELECT table_name, table_type FROM information_schema.tables").fetchall():
        (con.drop_view if kind == "VIEW" else con.drop_table)(name, force=True)


def group_rows(rows: Iterable[Row], *columns: str) -> dict[Any, list[Row]]:
    """Rows by the values of one column, or of several as a tuple; each group in the order of the rows."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        key = row[columns[0]] if len(columns) == 1 else tuple(row[name] for name in columns)
        groups.setdefault(key, []).append(row)
    return groups


def order_key(row: Row) -> tuple[Any, ...]:
    """(timestamp, seq, event_id), where a null comes last."""
    key: list[Any] = [row["timestamp"]]
    for name in ("seq", "event_id"):
        key += [row.get(name) is None, row.get(name) or ("" if name == "event_id" else 0)]
    return tuple(key)


# Random logs. The limits of RANDOM_RULES stand among the gaps, with one microsecond more beside them.
START = datetime(2026, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
SESSION_GAP, JOURNEY_GAP = timedelta(minutes=30), timedelta(hours=2)
GAPS = (
    *(timedelta(0), timedelta(0), _MICROSECOND, timedelta(minutes=10), SESSION_GAP, SESSION_GAP + _MICROSECOND),
    *(JOURNEY_GAP, JOURNEY_GAP + _MICROSECOND, timedelta(hours=5)),
)
EVENTS = ("a", "b", "c", "d")
# Some names could be taken for two parts joined, some for a number: no two journeys may be mixed up for that.
CUSTOMERS = ("k", "k/1", "k/~1", "k%2F1", "0012", "NA", "я", *"abcdefg")
_JOURNEY_IDS = (None, None, "1", "~1", "1/1", "x")
_CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.sampled_from((None, 0, 1, 2)),
    "event_id": st.sampled_from((None, "e1", "e10", "e2")),
    "channel": st.sampled_from((None, "web", "app")),
    "value": st.sampled_from((None, 0.0, 1.5)),
    "journey_id": st.sampled_from(_JOURNEY_IDS),
    "session_id": st.sampled_from(_JOURNEY_IDS),
    "stage": st.sampled_from((None, "s2", "s3")),
}


@st.composite
def random_logs(
    draw: st.DrawFn, *, columns: Sequence[str] = tuple(_CHOICES), always: Sequence[str] = (), most_events: int = 7
) -> list[Row]:
    """A few customers with a few events each, in any order of rows; `columns` may be there, `always` are."""
    present = [name for name in columns if draw(st.booleans())] + [name for name in always if name not in columns]
    row = st.fixed_dictionaries(
        {"event": st.sampled_from(EVENTS), "gap": st.sampled_from(GAPS), **{name: _CHOICES[name] for name in present}}
    )
    histories = draw(st.lists(st.lists(row, min_size=1, max_size=most_events), min_size=6, max_size=len(CUSTOMERS)))
    rows = []
    for customer, history in zip(CUSTOMERS, histories, strict=False):
        now = START
        for event in history:
            now += event["gap"]
            rest = {name: event[name] for name in ("event", *present)}
            rows.append({"customer_id": customer, "timestamp": now, **rest})
    return draw(st.permutations(rows))


#: Ends of observation: the default, before anything, between the events, and far behind the last.
ENDS = st.sampled_from(
    (
        None,
        START - timedelta(days=1),
        START,
        START + SESSION_GAP,
        START + JOURNEY_GAP,
        START + timedelta(hours=6),
        START + timedelta(days=300),
    )
)


def last_instant(rows: Iterable[Row]) -> datetime:
    return max(row["timestamp"] for row in rows)


@st.composite
def random_rules(draw: st.DrawFn) -> jl.JourneyRules:
    goal = draw(st.sampled_from((None, "c", "s2", "never")))
    gap = draw(st.sampled_from((None, "2h", "30m")))
    dormant = [None, "10m", "30m"] + (["5h"] if gap is None else [])
    return jl.JourneyRules(
        stages=("s1", "s2", "b"),
        # "b" is a stage too, and not that of the event b: names of events come first in a funnel.
        stage_of=draw(st.sampled_from(({}, {"a": "b", "/^[cd]$/": "s2"}, {"b*": "s1", "c": "s2"}))),
        goal=goal,
        journey_gap=gap,
        session_gap="30m",
        end_after_goal=goal is not None and draw(st.booleans()),
        dormant_after=draw(st.sampled_from(dormant)),
    )


SECONDS = {"10m": 600, "30m": 1800, "2h": 7200, "5h": 18000, "30D": 2592000}


def stage_by_hand(event: str, rules: jl.JourneyRules) -> str | None:
    """The stage of an event by the rules that `random_rules` draws: each is simple enough to spell out."""
    named = dict(rules.stage_of)
    if event in named:
        return named[event]
    if "b*" in named and event.startswith("b"):
        return named["b*"]
    if "/^[cd]$/" in named and event in ("c", "d"):
        return named["/^[cd]$/"]
    return None


def round_by_hand(wait: timedelta, limit_s: int | None = None) -> int:
    """Seconds, rounded up, of which four digits are kept, again rounded up: 123,456 s are 123,500 s."""
    seconds = -(-wait // timedelta(seconds=1))
    grain = 10 ** max(len(str(seconds)) - 4, 0)
    rounded = -(-seconds // grain) * grain
    return rounded if limit_s is None else min(rounded, limit_s)


def is_goal(row: Row, rules: jl.JourneyRules) -> bool:
    if rules.goal is None:
        return False
    return row["stage" if rules.goal in rules.stages else "event"] == rules.goal
