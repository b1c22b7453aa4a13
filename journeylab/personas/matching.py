"""Which persona of one fit is which of another, and which of them is new?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from journeylab.errors import RuleError
from journeylab.personas.folding import fold_rows, order_by_content
from journeylab.personas.markov import MarkovMixture
from journeylab.personas.markov_family import markov_family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from journeylab.personas.counting import CustomerCounts
    from journeylab.personas.fit import Personas

# From this distance on two personas are two, if chance does not put them so far apart. In simulations (five personas,
# 6 to 30 events), fits of two logs with one truth found the same persona within 0.1 to 0.2 where it had hundreds of
# customers, and any other 0.3 to 0.6 away.
_LEAST_DISTANCE = 0.25
_BEYOND_CHANCE = 1.5
_MOST_NEW = 2  # so many more personas than before are looked for


def match_personas(old: Personas, new: Personas) -> pd.DataFrame:
    """Which persona of one fit is which of another, by what they do?

    Pairs are those with the least sum of distances (Kuhn 1955, the Hungarian method); numbers and names play no part.
    The distance is that of Jensen and Shannon (Endres & Schindelin 2003; base 2) between how often which event comes
    first and which transition occurs. Ends do not count: a log cut into months knows little of them.

    Parameters
    ----------
    old, new : Personas
        From `fit_personas` or `load_personas`, of any number of personas each.

    Returns
    -------
    pandas.DataFrame
        One row per persona, of the old by number, then of the new that are left: persona_old, persona_new (Int64; null:
        none is left for it), distance (0: the same, 1: nothing in common; null without a pair).

    Raises
    ------
    RuleError
        If personas have no transitions to be compared by.
    """
    for personas in (old, new):
        if personas.transitions.empty:
            raise RuleError(f'personas by method="{personas.model.method}" have no transitions to be compared by')
    distances = _measure_distances(old.transitions, new.transitions)
    table = pd.DataFrame({"persona_old": distances.index}).merge(_pair(distances), how="left")
    table = table.merge(pd.DataFrame({"persona_new": distances.columns}), how="outer")
    table = table.sort_values(["persona_old", "persona_new"], ignore_index=True)
    return table.astype({"persona_old": "Int64", "persona_new": "Int64", "distance": "float64"})


def find_new(
    personas: Personas, counts: CustomerCounts, *, min_n: int, seed: int
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Which personas does a fit of these customers find, and which of them are none of those that were known?

    Parameters
    ----------
    personas : Personas
        Those that are known.
    counts : CustomerCounts
    min_n : int
        Fewer customers are no persona.
    seed : int

    Returns
    -------
    tuple of pandas.DataFrame and ndarray
        One row per persona found, by falling size: persona_new, name (if new: what they do more of than others), n,
        share, persona_old, distance, distance_again, is_new, as in `Tracking.emerging`. And of each customer, whether
        they belong to a new one for which no known one went missing: else it may be that one, changed.
    """
    family = markov_family(counts.moves, emissions=counts.vocabulary.emissions)
    # with fewer personas than are known, two of them merged would look like a new one
    n_known = len(personas.summary)
    k_search = family.score_k(range(n_known, n_known + _MOST_NEW + 1), seed)
    k = int(k_search.loc[k_search["chosen"], "k"].iloc[0])
    mixture = _fit(counts, np.arange(len(counts.customers)), k, seed)
    members = mixture.predict(counts.moves) + 1
    found = _list_moves(mixture, counts.moves, counts.events)
    distances = _measure_distances(personas.transitions, found)
    n = pd.Series(members).value_counts().reindex(distances.columns, fill_value=0)
    pairs = _pair(distances).set_index("persona_new").reindex(n.index)
    known = personas.summary.set_index("persona")
    is_strange = (distances.min() >= _LEAST_DISTANCE) & (n >= min_n)
    again = pd.Series(np.nan, index=n.index)
    if is_strange.any():
        again = _find_again(found, counts, k, seed).where(is_strange)
    # the halves tell how far chance puts what is the same; the fewer customers a persona had in its fit, the farther
    chance = again * np.sqrt(1 + n / known["n"].reindex(distances.idxmin()).clip(lower=1).to_numpy())
    is_new = distances.min() >= _BEYOND_CHANCE * chance
    old = pairs["persona_old"].mask(is_new)
    table = pd.DataFrame(
        {
            "name": [
                _name(counts, members == number) if pd.isna(same) else known.loc[same, "name"]
                for number, same in old.items()
            ],
            "n": n,
            "share": n / len(members),
            "persona_old": old,
            "distance": pairs["distance"].where(old.notna(), distances.min()),
            "distance_again": again,
            "is_new": is_new,
        }
    )
    is_added = is_new & pairs["persona_old"].isna()
    return table.rename_axis("persona_new").reset_index(), np.isin(members, n.index[is_added])


def _find_again(found: pd.DataFrame, counts: CustomerCounts, k: int, seed: int) -> pd.Series:
    """How far is each persona from the nearest that a fit of half the customers finds? The larger of both halves."""
    # in an order without names, so that renaming customers or events draws the same ones
    order, _ = order_by_content(counts.moves, np.ones(counts.moves.shape[0]))
    drawn = np.random.default_rng(seed).permutation(order)
    far = []
    for half in (drawn[::2], drawn[1::2]):
        n_distinct = fold_rows(counts.moves[half], np.ones(len(half)))[0].shape[0]
        fitted = _fit(counts, half, min(k, n_distinct), seed)
        again = _list_moves(fitted, counts.moves[half], counts.events)
        far.append(_measure_distances(found, again).min(axis=1))
    return pd.concat(far, axis=1).max(axis=1)


def _fit(counts: CustomerCounts, rows: NDArray[np.int64], k: int, seed: int) -> MarkovMixture:
    return MarkovMixture(k, emissions=counts.vocabulary.emissions, random_state=seed).fit(counts.moves[rows])


def _list_moves(mixture: MarkovMixture, moves: sparse.csr_array, events: Sequence[str]) -> pd.DataFrame:
    """First events and transitions that somebody made, as `Personas.transitions` has them, but of those who go on."""
    n, k, names = len(events), len(mixture.weights_), np.array([*events, None], dtype=object)
    columns = mixture.columns_[mixture.columns_ < n + n * n]
    before, after = np.where(columns < n, n, columns // n - 1), columns % n
    p = np.exp(mixture.log_probabilities_[mixture.find_rows(columns)])
    made = np.eye(k)[mixture.predict(moves)].T @ moves[:, columns]
    table = {"persona": np.repeat(np.arange(1, k + 1), len(columns)), "event": np.tile(names[before], k)}
    table |= {"next_event": np.tile(names[after], k), "probability": p.T.ravel(), "n": made.ravel()}
    return pd.DataFrame(table)


def _name(counts: CustomerCounts, is_member: NDArray[np.bool_]) -> str:
    """The two events whose share these customers exceed the others in by most standard deviations."""
    shares = sparse.diags_array(1 / np.maximum(counts.occurrences.sum(axis=1), 1)) @ counts.occurrences
    inside, elsewhere = (side @ shares / max(side.sum(), 1) for side in (is_member, ~is_member))
    deviation = np.sqrt(np.maximum(shares.multiply(shares).mean(axis=0) - shares.mean(axis=0) ** 2, 1e-12))
    first = np.argsort(-(inside - elsewhere) / deviation, kind="stable")[:2]
    return " · ".join(counts.events[place] for place in first)


def _pair(distances: pd.DataFrame) -> pd.DataFrame:
    from scipy.optimize import linear_sum_assignment

    i, j = linear_sum_assignment(distances)
    pairs = {"persona_old": distances.index[i], "persona_new": distances.columns[j]}
    return pd.DataFrame(pairs | {"distance": distances.to_numpy()[i, j]})


def _measure_distances(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """One row per old persona, one column per new one."""
    from scipy.special import rel_entr

    flows = pd.concat([_find_flows(old), _find_flows(new)], axis=1, keys=["old", "new"]).fillna(0.0)
    one, other = (flows[side].to_numpy().T for side in ("old", "new"))
    middle = (one[:, None] + other) / 2
    nats = (rel_entr(one[:, None], middle) + rel_entr(other, middle)).sum(axis=2) / 2
    distances = np.sqrt(np.maximum(nats, 0) / np.log(2))
    return pd.DataFrame(distances, index=flows["old"].columns, columns=flows["new"].columns)


def _find_flows(transitions: pd.DataFrame) -> pd.DataFrame:
    """How often does each persona (columns) start with or go to which event after which (rows)? Columns sum to 1.

    Where to is told by the probability, which of a mixture is free of customers taken for another persona's.
    """
    going = transitions[transitions["next_event"].notna()].fillna({"event": ""})
    going = going.assign(event=np.where(transitions.loc[going.index, "event"].isna(), "", "after " + going["event"]))
    from_here = going.groupby(["persona", "event"])
    n = going["probability"] / from_here["probability"].transform("sum") * from_here["n"].transform("sum")
    flows = going.assign(n=n).pivot(index=["event", "next_event"], columns="persona", values="n").fillna(0.0)
    return flows / flows.sum().clip(lower=1)
