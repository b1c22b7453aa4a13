"""Are planted personas found again, is their number, and is nothing found where nothing was planted?

    python benchmarks/personas.py [n_customers] [n_seeds]

Three tables on the logs of `planted`, medium noise. Recovery: five personas, ten restarts, beside the best possible assignment
and beside k-means on event counts. Choice: k and verdict of `choose_personas` on logs of 10,000 customers, planted k from 1
to 8 in turn, and five. None: the same on logs of one persona. Last, `choose_personas` on one log of `n_customers`.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
from planted import Log, draw_log, plant
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import MinMaxScaler, normalize

from journeylab.personas.choose import choose_personas
from journeylab.personas.markov import MarkovMixture
from journeylab.personas.markov_family import markov_family

K, K_MAX = 5, 8
LONG = 8  # events, from which there is something to tell personas apart by
CHOICE_CUSTOMERS = 10_000


def draw(k: int, n_customers: int, seed: int) -> Log:
    return draw_log(plant(k, seed=seed), n_customers, seed=seed)


def compare_recovery(n_customers: int, seed: int) -> dict[str, float]:
    log = draw(K, n_customers, seed)
    moves, counts, is_long = log.count(), log.count_events(), log.n_per_customer >= LONG
    begun = time.process_time()
    ours = MarkovMixture(K, n_init=10, random_state=seed).fit(moves).predict(moves)
    spent = time.process_time() - begun
    kmeans = KMeans(K, n_init=10, random_state=seed)
    found = {
        "best": log.find_best(),
        "ours": ours,
        "min-max": kmeans.fit_predict(MinMaxScaler().fit_transform(counts)),
        "log1p+L2": kmeans.fit_predict(normalize(np.log1p(counts))),
    }
    row = {"seed": seed, "n_events": len(log.event), "share_long": is_long.mean()}
    for name, labels in found.items():
        row[name] = adjusted_rand_score(log.persona, labels)
        row[f"{name} {LONG}+"] = adjusted_rand_score(log.persona[is_long], labels[is_long])
    return row | {"of_best": row["ours"] / row["best"], "cpu_s": spent}


def compare_choice(k: int, n_customers: int, seed: int) -> dict[str, object]:
    moves = draw(k, n_customers, seed).count()
    begun, wall = time.process_time(), time.perf_counter()
    choice = choose_personas(markov_family(moves), range(1, K_MAX + 1), seed=seed)
    return {
        "seed": seed,
        "planted": k,
        "k": choice.k,
        "verdict": choice.verdict,
        "least_jaccard": choice.stability["jaccard"].min(),
        "strength": choice.prediction_strength,
        "null_jaccard": choice.null_jaccard,
        "null_strength": choice.null_strength,
        "cpu_s": time.process_time() - begun,
        "wall_s": time.perf_counter() - wall,
    }


def show(title: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    print(f"\n{title}\n{table.round(3).to_string(index=False)}", flush=True)
    return table


def main(n_customers: int = 100_000, n_seeds: int = 20) -> None:
    seeds = range(n_seeds)
    table = show(
        f"Recovery: adjusted Rand index, {n_customers:,} customers", [compare_recovery(n_customers, s) for s in seeds]
    )
    print(table.drop(columns="seed").agg(["mean", "min", "max"]).round(3).to_string())
    for title, planted in (("planted k from 1 to 8", [1 + s % K_MAX for s in seeds]), ("planted k = 5", [K] * n_seeds)):
        rows = [compare_choice(k, CHOICE_CUSTOMERS, 100 + s) for k, s in zip(planted, seeds, strict=True)]
        table = show(f"Choice: {title}, {CHOICE_CUSTOMERS:,} customers", rows)
        print(f"k right in {(table['k'] == table['planted']).sum()} of {n_seeds}")
    table = show("One persona", [compare_choice(1, CHOICE_CUSTOMERS, 200 + s) for s in seeds])
    print(f'"none" in {(table["verdict"] == "none").sum()} of {n_seeds}')
    show(f"Choice of {n_customers:,} customers", [compare_choice(K, n_customers, 0)])


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:3]))
