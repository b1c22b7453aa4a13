"""What does a journey map cost, beside the journeys and a funnel of the same log?

    python benchmarks/journeymap.py [CUSTOMERS]

The demo shop with 80,000 customers has a million events. Steps are stored before; imports and the engine's start are not
counted, for one small map has been drawn before. Memory is that of the whole process, with the engine held to 2 GB.
CPU seconds are those of both cores.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ibis

import journeylab as jl
from journeylab.engine import drop, store
from journeylab.feedback.attach import attach_feedback
from journeylab.feedback.scales import harmonise_scores
from journeylab.journeymap import LANES, build_map

RULES = jl.JourneyRules.load("ecommerce")
PAIN = ("payment_error", "complaint", "return_request")
FUNNEL = jl.FunnelRules(["browse", "basket", "checkout", "purchase"])
# What only people know fills in no time.
MEASURED = [lane for lane in LANES if lane in ("steps", "touchpoints", "channels", "reach", "time", "drop_off")]


def measure(what: str, call: Callable[[], object]) -> float:
    began, cpu = time.perf_counter(), time.process_time()
    call()
    spent = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:44} {spent:6.1f} CPU s  {time.perf_counter() - began:6.1f} s  peak so far {peak:,.0f} MB", flush=True)
    return spent


def answer(steps: ibis.Table, journeys: ibis.Table) -> ibis.Table:
    return harmonise_scores(attach_feedback(None, steps, journeys), scales=["0-10"])


def draw_small() -> None:
    steps = jl.build_steps(jl.read_events("demo"), RULES)
    journeys = jl.build_journeys(steps, RULES)
    build_map(steps, journeys, RULES, attached=answer(steps, journeys), pain=PAIN)


def main() -> None:
    n_customers = int(sys.argv[1]) if len(sys.argv) > 1 else 80_000
    draw_small()
    con = jl.connect(memory_limit="2GB", threads=2)
    with tempfile.TemporaryDirectory() as folder:
        path = jl.write_demo(Path(folder), n_customers=n_customers)["events"]
        steps = jl.build_steps(jl.read_events(path, con=con), RULES)
    print(f"{steps.count().execute():,} events of {n_customers:,} customers", flush=True)
    journeys = jl.build_journeys(steps, RULES)

    def draw_base() -> None:
        drop(store(journeys, con))
        jl.build_funnel(steps, FUNNEL)

    base = measure("journeys and a funnel of four stages", draw_base)
    answers = answer(steps, journeys)
    log = measure("a map of the log alone", lambda: build_map(steps, journeys, RULES, lanes=MEASURED))
    whole = measure(
        "a map with answers, pain points, quick wins",
        lambda: build_map(steps, journeys, RULES, attached=answers, pain=PAIN),
    )
    print(f"as many times as journeys and a funnel: {log / base:.1f} and {whole / base:.1f}")


if __name__ == "__main__":
    main()
