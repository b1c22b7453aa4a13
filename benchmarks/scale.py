"""How fast is the mixture of Markov chains, and do personas of a log that hardly fits take little memory?

    python benchmarks/scale.py [n_customers] [memory_limit]

First ten restarts on a million events of 100,000 customers. Then ten stored steps for each of 10 million customers, in
a DuckDB file: fitted on a sample, and everybody assigned. A process of its own makes the log, so that the peak memory
printed is that of the questions alone. CPU seconds are those of both cores. The last table says which planted persona
(rows) was found as which.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from planted import draw_log, plant

import journeylab as jl
from journeylab.personas import MarkovMixture
from journeylab.personas.assigning import fit_markov
from journeylab.personas.counting import count_moves
from journeylab.personas.drawing import draw_customers
from journeylab.personas.fit import sort_by_size

Answer = TypeVar("Answer")
SAMPLE, SEED = 200_000, 0

# Five personas go round thirty events, each with a stride of its own, and one time in three anywhere. Every customer
# makes two journeys at the most, ten steps in all; the last one of a tenth of the customers is still open.
MACROS = """
create macro persona_of(c) as [0, 0, 0, 1, 1, 1, 2, 2, 3, 4][1 + (hash(c, 1) % 10)::int];
create macro cut_of(c) as 1 + (hash(c, 2) % 10)::int;
create macro code_of(c, i) as
  (case when hash(c, i, 3) % 3 = 0 then hash(c, i, 4) % 30 else persona_of(c) * 4 + i * (2 * persona_of(c) + 1) end % 30)::int;
create macro time_of(c, i) as timestamp '2026-01-01'
  + to_microseconds((hash(c, 5) % 7776000000000)::bigint + case when i < cut_of(c) then 0 else 3456000000000 end
  + 3600000000 * i + (hash(c, i, 6) % 3600000000)::bigint);
create macro name_of(c) as 'customer-' || lpad(c::varchar, 9, '0');
"""
STEPS = """
create table steps as
with drawn as (select c, unnest(range(10))::int as i, cut_of(c) as cut from range({customers}) t(c))
select name_of(c) as customer_id, name_of(c) || case when i < cut then '/1' else '/2' end as journey_id,
  'event ' || code_of(c, i) as event, time_of(c, i) as timestamp, i + 1 as position,
  case when i < cut then i else i - cut end + 1 as step,
  case when i in (0, cut) then null else date_diff('microsecond', time_of(c, i - 1), time_of(c, i)) / 1e6 end as gap_s,
  case when i not in (cut - 1, 9) then 'event ' || code_of(c, i + 1) end as next_event
from drawn
"""
JOURNEYS = """
create table journeys as
with drawn as (select c, unnest([1, 2]) as number, cut_of(c) as cut from range({customers}) t(c))
select name_of(c) || '/' || number as journey_id, name_of(c) as customer_id,
  time_of(c, if(number = 1, cut - 1, 9)) as end_time, if(number = 1, cut, 10 - cut)::bigint as n_steps,
  false as reached_goal, persona_of(c) as planted, hash(c, 7) % 10 = 0 and number = if(cut = 10, 1, 2) as is_open
from drawn where number = 1 or cut < 10
"""
MAKE = """
import duckdb, sys
con = duckdb.connect(sys.argv[1])
con.execute("set memory_limit = '3GB'; set threads = 2; set preserve_insertion_order = false; set enable_progress_bar = false")
for statement in sys.argv[2:]:
    con.execute(statement)
"""


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ask(name: str, work: Callable[[], Answer]) -> Answer:
    before, begun = spent(), time.perf_counter()
    answer = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:24s} {spent() - before:7.1f} CPU s {time.perf_counter() - begun:7.1f} s  peak {peak:5.2f} GiB",
        flush=True,
    )
    return answer


def main(n_customers: int, memory_limit: str) -> None:
    moves = draw_log(plant(5, seed=SEED), 100_000, seed=SEED).count()
    ask("fit 100,000, k = 5", lambda: MarkovMixture(5, n_init=10).fit(moves))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.duckdb")
        statements = [MACROS, STEPS.format(customers=n_customers), JOURNEYS.format(customers=n_customers)]
        subprocess.run([sys.executable, "-c", MAKE, str(path), *statements], check=True)
        con = jl.connect(path, memory_limit=memory_limit, threads=2, spill_dir=Path(folder, "spill"))
        steps, journeys = con.table("steps"), con.table("journeys")
        print(
            f"{steps.count().execute():,} steps, {journeys.count().execute():,} journeys; DuckDB may use {memory_limit}"
        )
        drawn = ask(f"draw {SAMPLE:,}", lambda: draw_customers(steps, journeys, n=SAMPLE, seed=SEED))
        counts = ask("count their moves", lambda: count_moves(*drawn))
        model = ask("fit, k = 5", lambda: fit_markov(counts, 5, seed=SEED))
        members = ask("assign everybody", lambda: model.assign_members(steps, journeys))
        model, members, _ = ask("number by size", lambda: sort_by_size(model, members))
        first = journeys.filter(journeys.journey_id.endswith("/1")).select("customer_id", "planted")
        found = members.join(first, "customer_id").select("planted", "persona")
        table = found.group_by("planted", "persona").agg(n=found.count()).execute()
        print(table.pivot_table(index="planted", columns="persona", values="n", fill_value=0).astype(int))
        print(f"atypical: {members.is_atypical.mean().execute():.2%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000, sys.argv[2] if len(sys.argv) > 2 else "2500MB")
