"""How much sooner are many reports made side by side than one after another?

    python benchmarks/batch.py [n_reports]

Makes the drop-off report on the demo data with as many different parameters, on two cores: first with `run_report` in a
loop, then with `run_batch`. Prints wall and CPU seconds of both, and the ratio of the walls, which is what to compare: on
a machine that does something else too, it says little.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import journeylab as jl

PLAN = """
notebooks = ["drop_off"]
out = "side by side/{{top}}"
[matrix]
top = {tops}
"""


def measure(name: str, work: Callable[[], object]) -> float:
    before, begun = spent(), time.perf_counter()
    work()
    wall = time.perf_counter() - begun
    print(f"{name:18s} {wall:6.1f} s wall  {spent() - before:6.1f} CPU s", flush=True)
    return wall


def spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(n_reports: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    tops = list(range(1, n_reports + 1))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("plan.toml").write_text(PLAN.format(tops=tops))
        one = measure(
            "one after another", lambda: [jl.run_report("drop_off", {"top": n}, out=f"one/{n}") for n in tops]
        )
        many = measure("side by side", lambda: jl.run_batch("plan.toml", jobs=2))
        os.chdir("/")
    print(f"{n_reports} reports, {one / many:.2f} times as fast")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
