"""How much do the questions cost, beside hand-written SQL for the same answers in the same run?

    python benchmarks/run.py [n_events]

Prints CPU seconds (both cores), peak memory so far, and the ratio to the hand-written SQL where there is some. Absolute
times drift with the machine; the ratios are what to compare.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import duckdb

import journeylab as jl

# Ten events a customer, begun on any of 90 days and hours to days apart; the steps of the funnel are common, so that
# almost every customer starts.
DRAW = """
with drawn as (
  select i // 10 as c, 'c' || (i // 10)::varchar as customer_id, hash(i * 7 + 1) % 100 as u,
    timestamp '2026-01-01' + to_microseconds((hash(i // 10 * 3) % 7776000000000 + hash(i * 13) % 864000000000)::bigint)
      as timestamp,
    ['web', 'app', 'store'][1 + (hash(i * 5) % 3)::int] as channel, 'g' || (hash(i // 10 * 11) % 20)::varchar as region
  from range({events}) t(i)
)
select customer_id, timestamp, channel, region, case when u < 34 then 'e1' when u < 54 then 'e2' when u < 68 then 'e3'
  when u < 78 then 'e4' when u < 84 then 'e5' else 'e' || (u - 78)::varchar end as event
from drawn order by hash(c) % 1000, timestamp
"""
STEPS = """
create table steps as
with placed as (
  select *, row_number() over w as position, lead(event) over w as next_event,
    date_diff('microsecond', lag(timestamp) over w, timestamp) as gap_us,
    coalesce(timestamp = lag(timestamp) over w, false) as is_tied
  from read_parquet('{log}', file_row_number=true)
  window w as (partition by customer_id order by timestamp, file_row_number)
), marked as (
  select *, coalesce(gap_us > 30 * 86400000000, true) as begins, coalesce(gap_us > 1800000000, true) as pauses from placed
), counted as (
  select *, sum(begins::int) over s as journey, sum(pauses::int) over s as session, sum((not is_tied)::int) over s as rank,
    position - max(case when begins then position end) over s + 1 as step, lead(begins) over w as next_begins
  from marked
  window w as (partition by customer_id order by position),
    s as (partition by customer_id order by position rows between unbounded preceding and current row)
)
select customer_id, event, timestamp, channel, customer_id || '/' || journey as journey_id,
  customer_id || '/' || session as session_id, position, rank, step, case when begins then null else gap_us / 1e6 end as gap_s,
  case when next_begins then null else next_event end as next_event
from counted
"""
TRANSITIONS = "select event, next_event, count(*), count(distinct journey_id) from steps group by all"
FUNNEL_STEPS = ("e1", "e2", "e3", "e4", "e5")


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write_funnel() -> str:
    """The five steps within seven days: n, open, mature and median time of each, as a chain of first occurrences.

    The fastest of those tried: each step is counted where it was found, and nothing is joined back to the starts. ASOF
    joins, one list per customer or step, nested windows and a copy of the five events all cost more. It leaves out what
    build_funnel adds: the unit table that it stores, and the censored conversion.
    """
    week, end, n = "interval 7 day", "(select max(timestamp) from steps)", len(FUNNEL_STEPS)
    start = f"select customer_id as c, min(timestamp) as t1 from steps where event = '{FUNNEL_STEPS[0]}' group by 1"
    parts, counts = [f"f1 as materialized ({start})"], []
    for i, event in enumerate(FUNNEL_STEPS[1:], 2):
        parts.append(
            f"f{i} as materialized (select c, any_value(f.t1) as t1, min(s.timestamp) as t{i} "
            f"from f{i - 1} f join steps s on s.customer_id = f.c "
            f"where s.event = '{event}' and s.timestamp > f.t{i - 1} and s.timestamp <= f.t1 + {week} group by 1)"
        )
    for i in range(1, n + 1):
        counts.append(
            f"select {i} as step, count(*) as n, count(*) filter (t1 + {week} > {end}) as recent, "
            f"count(*) filter (t1 + {week} <= {end}) as mature, "
            f"median(date_diff('microsecond', t1, t{i}) / 1e6) as median_time_s from f{i}"
        )
    return (
        f"with {', '.join(parts)}, counted as ({' union all '.join(counts)}) select step, n, "
        f"case when step < {n} then recent - lead(recent) over (order by step) else 0 end, mature, median_time_s "
        "from counted order by step"
    )


def main(n_events: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.parquet")
        duckdb.sql(DRAW.format(customers=n_events // 10, events=n_events)).write_parquet(str(log))
        by_hand = duckdb.connect(Path(folder, "hand.duckdb"))
        by_hand.execute("set threads = 2")
        con = jl.connect(Path(folder, "ours.duckdb"), threads=2)
        made: dict[str, object] = {}

        def time_one(work: Callable[[], object]) -> tuple[float, object]:
            before = spent()
            answer = work()
            return spent() - before, answer

        def ask(name: str, ours: Callable[[], object], sql: str | None = None, *, times: int = 1) -> None:
            # In turns, so that a busy moment hits both; of several the best.
            runs, theirs = [], []
            for _ in range(times):
                cpu, made[name] = time_one(ours)
                runs.append(cpu)
                if sql is not None:
                    theirs.append(time_one(lambda: by_hand.execute(sql).fetchall())[0])
            cpu, ratio = min(runs), f"{min(runs) / min(theirs):5.2f} x by hand" if theirs else ""
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(f"{name:16s} {cpu:6.2f} CPU s  {peak:5.2f} GB  {ratio}", flush=True)

        begun = time.perf_counter()
        ask("import", lambda: (jl.fit_personas, jl.draw_cohorts, import_module("statsmodels.duration.survfunc")))
        ask("read_events", lambda: jl.read_events(log, con=con))
        ask("build_steps", lambda: jl.build_steps(made["read_events"], name="steps"), STEPS.format(log=log))
        # Opened again, as by who asks the next day.
        con.disconnect()
        by_hand.close()
        by_hand = duckdb.connect(Path(folder, "hand.duckdb"))
        by_hand.execute("set threads = 2")
        steps = jl.connect(Path(folder, "ours.duckdb"), threads=2).table("steps")
        ask("journeys", lambda: jl.build_journeys(steps).count().execute())
        ask("transitions", lambda: jl.count_transitions(steps), TRANSITIONS)
        ask("step matrix", lambda: jl.step_matrix(steps))
        week = jl.FunnelRules(FUNNEL_STEPS, within="7D")
        ask("funnel, 7 days", lambda: jl.build_funnel(steps, week), write_funnel(), times=3)
        started = made["funnel, 7 days"].table["n"].iloc[0]
        ask("  by 20 groups", lambda: jl.build_funnel(steps, week, by="region"), times=3)
        for switch in ({"entry": "latest"}, {"unit": "attempt"}):
            rules = dataclasses.replace(week, **switch)
            ask(f"  {' '.join(*switch.items())}", lambda rules=rules: jl.build_funnel(steps, rules))
        print(f"{started:,} of {n_events // 10:,} customers started")
        print(f"{n_events:,} events, {time.perf_counter() - begun:.0f} s wall in all")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
