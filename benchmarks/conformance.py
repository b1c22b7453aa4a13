"""What does it cost to hold journeys against a planned path?

    python benchmarks/conformance.py

Journeys are drawn from a planned path of eight steps with skips, detours, repetitions and swaps, so that nearly each of
them is another. Steps and journeys are stored before; imports and the engine's start are not counted, for one small
question has been asked before. In brackets stands what is asked for; CPU seconds are those of both cores.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime, timedelta

import ibis
import numpy as np
import pyarrow as pa

import journeylab as jl
from journeylab.conformance import check_conformance
from journeylab.engine import store
from journeylab.planned_path import PlannedPath

PATH = ["visit", "search", "product", "cart", "login", "delivery", "payment", "done"]
DETOURS = [f"detour_{i}" for i in range(8)]
RICH = PlannedPath(
    ["visit", ["search", "detour_0"], "product", "cart", "login", "delivery", ["payment", "detour_1"], "done"],
    optional=("login", "search / detour_0"),
    repeatable=("product", "cart"),
)
QUESTIONS = {
    "straight path, 100,000 journeys (1 s)": (100_000, PlannedPath(PATH)),
    "optional, repeated, alternative steps, 10,000 journeys (1.8 s; pm4py 2.7.23: 18.6 s)": (10_000, RICH),
    "the same, 100,000 journeys": (100_000, RICH),
    "the same, 1,000,000 journeys": (1_000_000, RICH),
}


def draw_log(n: int, *, seed: int = 0) -> pa.Table:
    """Journeys of ten events on average: each planned step done with 0.8, again with 0.2, and a detour with 0.3."""
    rng = np.random.default_rng(seed)
    slots = np.stack(
        [np.tile(np.arange(8), (n, 1)), np.tile(np.arange(8), (n, 1)), rng.integers(8, 16, size=(n, 8))], axis=2
    ).reshape(n, 24)
    happens = rng.random(slots.shape) < np.tile([0.8, 0.2, 0.3], 8)
    happens[~happens.any(axis=1), 0] = True
    # Most stay at their place, some come earlier or later.
    order = np.argsort(np.arange(24) + rng.normal(0, 1.5, size=slots.shape), axis=1)
    slots, happens = np.take_along_axis(slots, order, 1), np.take_along_axis(happens, order, 1)
    owner, _ = np.nonzero(happens)
    start = np.datetime64(datetime(2026, 1, 1), "us") + rng.integers(0, 10**12, size=n).astype("timedelta64[us]")
    gaps = np.cumsum(rng.integers(1, 10**8, size=len(owner))).astype("timedelta64[us]")
    first = np.searchsorted(owner, np.arange(n))
    names = pa.array([*PATH, *DETOURS])
    return pa.table(
        {
            "customer_id": pa.array(np.char.add("customer_", owner.astype(str))),
            "event": names.take(pa.array(slots[happens])),
            "timestamp": pa.array(start[owner] + (gaps - gaps[first][owner])),
        }
    )


def build(n: int) -> tuple[ibis.Table, ibis.Table]:
    con = jl.connect()
    rules = jl.JourneyRules(goal="done")
    steps = jl.build_steps(jl.read_events(con.create_table("log", draw_log(n)), con=con), rules)
    as_of = datetime(2026, 1, 12) + timedelta(days=90)
    return steps, store(jl.build_journeys(steps, rules, as_of=as_of), con)


def ask(question: str) -> None:
    n, plan = QUESTIONS[question]
    check_conformance(*build(2_000), plan)
    steps, journeys = build(n)
    begun, wall = time.process_time(), time.perf_counter()
    result = check_conformance(steps, journeys, plan)
    cpu_s, wall_s = time.process_time() - begun, time.perf_counter() - wall
    distinct = jl.count_variants(steps, journeys)
    summary = result.summary.iloc[0]
    print(
        f"{question}: {wall_s:.2f} s wall, {cpu_s:.2f} CPU s; {len(distinct):,} distinct journeys, "
        f"{steps.count().execute():,} events, mean fitness {summary['fitness']:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ask(sys.argv[1])
    else:
        for question in QUESTIONS:
            subprocess.run([sys.executable, __file__, question], check=True)
