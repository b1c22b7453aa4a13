"""What do distances between sequences cost, and medoids among very many of them?

    python benchmarks/sequences.py

Each row is a process of its own, so that its peak memory is that of its question alone; CPU seconds are those of both
cores. In brackets stands what is asked for: a fifth of the CPU time and memory that Sequenzo 0.1.42 takes for the same
matrix, and losses no worse than those of its k-medoids. Times of another machine need a run of Sequenzo beside them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from journeylab.personas.distances import Metric, Sequences

N_DISTINCT, N_MANY, N_EVENTS = 20_000, 1_000_000, 12
# Sum of distances to the nearest of k medoids: KMedoids(method="PAMonce") on the same matrix.
PAMONCE = {
    "journeys": {4: 256_892, 5: 252_123, 8: 242_914},
    "states": {4: 1_354_178, 5: 1_254_624, 8: 1_112_956},
}


def draw_states(
    n: int, *, length: int = 70, n_states: int = 8, seed: int = 0, stays: float = 0.93
) -> NDArray[np.uint8]:
    """States month by month, from five chains that change one month in ten or so."""
    rng = np.random.default_rng(seed)
    moves, starts = rng.dirichlet(np.full(n_states, 0.3), size=(5, n_states)), rng.dirichlet(np.full(n_states, 0.5), 5)
    kind = rng.integers(0, 5, size=n)

    def draw(shares: NDArray[np.float64]) -> NDArray[np.int64]:
        return (rng.random((n, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, n_states - 1)

    states = [draw(starts[kind])]
    for _ in range(length - 1):
        states.append(np.where(rng.random(n) < stays, states[-1], draw(moves[kind, states[-1]])))
    return np.stack(states, axis=1).astype(np.uint8)


def draw_journeys(n: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """2 to 40 events, 12.6 on average, of twelve kinds: codes, and where each journey begins."""
    events = draw_states(n, length=40, n_states=N_EVENTS, seed=seed, stays=0.1)
    lengths = np.clip(np.random.default_rng([seed, 1]).geometric(1 / 12, size=n) + 1, 2, 40)
    return events[np.arange(40) < lengths[:, None]], np.append(0, np.cumsum(lengths))


def take_distinct(kind: str) -> Sequences:
    from journeylab.personas.distances import Sequences
    from journeylab.personas.histories import fold_sequences

    if kind == "states":
        states = draw_states(24_000)
        drawn = Sequences(states.ravel(), np.arange(len(states) + 1) * states.shape[1])
    else:
        drawn = Sequences(*draw_journeys(60_000))
    distinct, _, _ = fold_sequences(drawn, np.ones(drawn.shape))
    return distinct[np.sort(np.random.default_rng(0).permutation(*distinct.shape)[:N_DISTINCT])]


def settle(sequences: Sequences, **options: Any) -> Metric:
    from journeylab.personas.distances import SequenceRules, settle_metric

    return settle_metric(SequenceRules(**options), [str(i) for i in range(N_EVENTS)], sequences)


def measure_distances(kind: str, normalise: bool) -> Callable[[], str]:
    sequences = take_distinct(kind)
    metric = settle(sequences, normalise=normalise)

    def run() -> str:
        matrix = metric.measure_all(sequences)
        return f"{len(matrix):,} x {len(matrix):,} {matrix.dtype}"

    return run


def find(kind: str, k: int) -> Callable[[], str]:
    from journeylab.personas.medoids import find_medoids

    sequences = take_distinct(kind)
    matrix = settle(sequences, normalise=False).measure_all(sequences)

    def run() -> str:
        loss, bound = find_medoids(matrix, k).loss, PAMONCE[kind][k]
        return f"loss {loss:,.0f}, PAMonce {bound:,.0f} ({loss / bound - 1:+.2%})"

    return run


def find_among_many(normalise: bool) -> Callable[[], str]:
    import pandas as pd

    from journeylab.personas.distances import SequenceRules, Sequences, code_sequences
    from journeylab.personas.histories import Histories, fold_sequences
    from journeylab.personas.sequences import fit_sequences

    sequences = Sequences(*draw_journeys(N_MANY))
    names, customers = tuple(str(i) for i in range(N_EVENTS)), pd.RangeIndex(N_MANY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    def run() -> str:
        variants, weights, place = fold_sequences(sequences, np.ones(N_MANY))
        histories = Histories(customers, names, variants, weights, place, np.zeros(N_MANY, np.int64))
        model = fit_sequences(histories, 5, SequenceRules(normalise=normalise))
        largest = model.assign_histories(histories)["persona"].eq(1).mean()
        loss = model.metric.measure(variants, code_sequences(model.medoids, names)).min(axis=1) @ weights
        return (
            f"{len(weights):,} distinct, largest persona {largest:.0%}, mean distance to the medoid {loss / N_MANY:.3f}; "
            f"drawing them had taken {before:.2f} GB"
        )

    return run


QUESTIONS: dict[str, Callable[[], Callable[[], str]]] = {
    "distances, journeys (7.7 CPU s, 1.26 GB)": lambda: measure_distances("journeys", False),
    "distances, 70 states": lambda: measure_distances("states", False),
    "distances, journeys, normalised": lambda: measure_distances("journeys", True),
    **{
        f"medoids, {kind}, k = {k} (6 s wall)": lambda kind=kind, k=k: find(kind, k)  # type: ignore[misc]
        for kind in ("journeys", "states")
        for k in (4, 5, 8)
    },
    "million journeys, raw (6 CPU s, 1 GB)": lambda: find_among_many(False),
    "million journeys, normalised": lambda: find_among_many(True),
}


def ask(question: str) -> None:
    run = QUESTIONS[question]()
    begun, wall = time.process_time(), time.perf_counter()
    answer = run()
    cpu_s, wall_s = time.process_time() - begun, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{question}: {cpu_s:.1f} CPU s, {wall_s:.1f} s wall, peak {peak:.2f} GB; {answer}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ask(sys.argv[1])
    else:
        for question in QUESTIONS:
            subprocess.run([sys.executable, __file__, question], check=True)
