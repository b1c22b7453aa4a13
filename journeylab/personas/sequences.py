"""Personas by whole journeys: k real ones are their medoids, and a customer is whose journeys are most like theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import RuleError, SchemaError
from journeylab.personas.distances import Metric, SequenceRules, Sequences, code_sequences, settle_metric
from journeylab.personas.family import Family, Labels, Predict, Weights
from journeylab.personas.histories import Histories, draw_chain, fold_sequences, shuffle_events, stream_sequences
from journeylab.personas.medoids import (
    Distances,
    Floats,
    Medoids,
    Rows,
    draw_rows,
    find_medoids,
    sample_medoids,
    settle_medoids,
)
from journeylab.personas.partitions import link_ward, score_silhouette

History = tuple[tuple[str, ...], ...]  # journeys of a customer, each a tuple of events

# Up to so many distinct histories all distances are reckoned; where there are more, those of samples.
_MOST_VARIANTS, _MOST_WITH_COSTS, _MOST_IN_TREE = 20_000, 4_000, 5_000
_SAMPLE = 8_000
_SEARCH_CUSTOMERS, _SEARCH_VARIANTS, _SCORE_VARIANTS = 10_000, 2_000, 1_000
_NULLS, _NULL_DEVIATIONS = 8, 3
_OUTSIDE = 1.5  # Tukey (1977): that many interquartile ranges above the upper quartile


@dataclass(frozen=True, eq=False)
class SequencePersonas:
    """Personas by whole journeys, ready to say who a new customer is.

    Parameters
    ----------
    metric : Metric
    events : tuple of str
        The events that were met in the fit.
    medoids : tuple
        The history of a real customer for each persona, by falling size: journeys, each a tuple of events.
    limits : tuple of float
        Farther from its medoid than this, a customer of the persona is atypical.
    preference : tuple of int
        Personas (from 0) in the order in which equally near ones are preferred: by falling size in the fit.
    """

    method: ClassVar[str] = "sequence"
    metric: Metric
    events: tuple[str, ...]
    medoids: tuple[History, ...]
    limits: tuple[float, ...]
    preference: tuple[int, ...]

    @property
    def n_personas(self) -> int:
        """How many there are."""
        return len(self.medoids)

    def assign(self, steps: ibis.Table, journeys: ibis.Table | None = None) -> pd.DataFrame:
        """Which persona is each customer? One pass over coded events; the columns of `assign_histories`."""
        parts = [self.assign_histories(part) for part in stream_sequences(steps, journeys, events=self.events)]
        if not parts:
            raise SchemaError("there are no steps to assign; see check_events(events)")
        return pd.concat(parts).sort_values("customer_id", ignore_index=True)

    def assign_histories(self, histories: Histories) -> pd.DataFrame:
        """Whose medoid is nearest to each customer, and how near is it?

        Parameters
        ----------
        histories : Histories
            Those of the fit, or read with the `events` of this model.

        Returns
        -------
        pandas.DataFrame
            Sorted by customer_id: customer_id (str), persona (int64 from 1; of equally near ones the larger),
            probability (0 to 1: membership of fuzzy c-medoids with m = 2, Krishnapuram, Joshi, Nasraoui & Yi 2001: in
            proportion to 1 / distance, and 1 at a distance of 0), is_atypical (bool: fits none, see `fit_sequences`),
            n_unknown (int64, events never met in the fit; like nothing else, they add to all distances).
        """
        medoids = code_sequences(self.medoids, self.events)
        distances = self.metric.measure(histories.variants, medoids)
        persona = np.array(self.preference)[distances[:, self.preference].argmin(axis=1)]
        everyone = np.arange(len(persona))
        most = self.metric.measure_most(histories.variants, medoids)[everyone, persona]
        own = distances[everyone, persona]
        is_atypical = (own > np.array(self.limits, dtype=np.float64)[persona]) | (own >= most)
        return pd.DataFrame(
            {
                "customer_id": histories.customers,
                "persona": persona[histories.variant] + 1,
                "probability": _share_memberships(distances)[everyone, persona][histories.variant],
                "is_atypical": is_atypical[histories.variant],
                "n_unknown": histories.n_unknown,
            }
        )

    def reorder(self, order: NDArray[np.int64]) -> Self:
        """Number the personas anew: the first shall be the one that is ``order[0]`` (from 0) now."""
        medoids, limits = tuple(self.medoids[old] for old in order), tuple(self.limits[old] for old in order)
        new = np.argsort(order).tolist()
        return replace(self, medoids=medoids, limits=limits, preference=tuple(new[old] for old in self.preference))

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to assign again, to the bit, as plain values that JSON knows."""
        return {
            "method": self.method,
            "metric": self.metric.to_dict(),
            "events": list(self.events),
            "medoids": [[list(journey) for journey in history] for history in self.medoids],
            "limits": list(self.limits),
            "preference": list(self.preference),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Take up what `to_dict` gave."""
        medoids = tuple(tuple(tuple(journey) for journey in history) for history in data["medoids"])
        limits, preference = tuple(data["limits"]), tuple(data["preference"])
        return cls(Metric.from_dict(data["metric"]), tuple(data["events"]), medoids, limits, preference)


def fit_sequences(
    histories: Histories, k: int, rules: SequenceRules | None = None, *, seed: int = 0
) -> SequencePersonas:
    """Which k customers travel so that everyone travels much like one of them?

    Up to 20,000 distinct histories, k-medoids of all distances (`find_medoids`); of more, or of more than 4,000 with
    costs of their own, those of a sample of 8,000 or 4,000 (`sample_medoids`). With ``linkage="ward"``, the medoids of
    the k clusters of Ward's tree (of a sample of 5,000, if there are more). Whatever found the medoids, a customer
    belongs to the nearest one; so clusters of the tree lose some at their borders.

    A customer is atypical who has nothing in common with the nearest medoid, or is farther from it than one and a half
    interquartile ranges above the upper quartile of its persona (Tukey's "outside": of normally distributed distances,
    four in a thousand) and than three quarters of all customers are from theirs.

    Parameters
    ----------
    histories : Histories
        From `read_sequences`.
    k : int
    rules : SequenceRules, optional

    Raises
    ------
    RuleError
        If fewer than k customers differ, or costs do not fit the events.
    """
    rules = rules or SequenceRules()
    metric = settle_metric(rules, histories.events, histories.variants, histories.weights)
    found = _find(metric, histories.variants, histories.weights, k, rules, seed)
    medoids = histories.variants[found.rows]
    distances = metric.measure(histories.variants, medoids).min(axis=1).astype(np.float64)
    _, upper = _find_quartiles(distances, histories.weights)
    limits = []
    for persona in range(k):
        is_own = found.labels == persona
        low, high = _find_quartiles(distances[is_own], histories.weights[is_own])
        limits.append(float(max(high + _OUTSIDE * (high - low), upper)))
    named = _name_events(medoids, histories.events)
    return SequencePersonas(metric, histories.events, named, tuple(limits), tuple(range(k)))


def sequence_family(histories: Histories, rules: SequenceRules | None = None) -> Family:
    """What tells `choose_personas` of clusters of sequences?

    Returns
    -------
    Family
        rows: up to 10,000 customers, evenly drawn. fit: of all these rows, the personas of `fit_sequences`; of others,
        as it does with 2,000 distinct histories at most. score_k: see `_score`, which refuses logs of one first-order
        chain. draw_null: journeys as long as they are, of events drawn as often as they happen. Not by a chain again:
        k-medoids finds the same parts of one chain time after time, and no persona could be more stable than they are.
    """
    rules = rules or SequenceRules()
    metric = settle_metric(rules, histories.events, histories.variants, histories.weights)
    line = np.repeat(np.arange(len(histories.weights)), histories.weights.astype(np.int64))
    if len(line) > _SEARCH_CUSTOMERS:
        line = line[(np.arange(_SEARCH_CUSTOMERS) + 0.5).astype(np.int64) * len(line) // _SEARCH_CUSTOMERS]
    rows = histories.variants[line]

    def fit(seen: Sequences, weights: Weights, k: int, seed: int) -> Predict:
        if seen is rows:
            variants, found = histories.variants, _find(metric, histories.variants, histories.weights, k, rules, seed)
        else:
            variants, n, _ = fold_sequences(seen, weights)
            found = _find(metric, variants, n, k, rules, seed, most=_SEARCH_VARIANTS)
        medoids = variants[found.rows]

        def predict(rows: Sequences) -> Labels:
            labels: Labels = metric.measure(rows, medoids).argmin(axis=1)
            return labels

        return predict  # type: ignore[return-value]  # of the rows that this family has

    def score_k(ks: Sequence[int], seed: int) -> pd.DataFrame:
        nulls = [draw_chain(rows, len(histories.events), np.random.default_rng([seed, i])) for i in range(_NULLS)]
        return _score(metric, rows, nulls, ks, rules, seed)

    def draw_null(seed: int) -> Sequences:
        return shuffle_events(rows, len(histories.events), np.random.default_rng(seed))

    return Family(rows, np.ones(len(line)), fit, score_k, draw_null)  # type: ignore[arg-type]


def _score(
    metric: Metric, rows: Sequences, nulls: Sequence[Sequences], ks: Sequence[int], rules: SequenceRules, seed: int
) -> pd.DataFrame:
    """How much better do k personas hold together than in logs of one first-order chain?

    Silhouettes alone say little: a chain that stays where it began makes clusters of its own. So they are compared with
    those of such logs (Studer 2021, "Validating sequence analysis typologies using parametric bootstrap", Sociological
    Methodology 51). Chosen is the k that is farthest ahead of them; 1 where none is by three standard deviations.

    Returns
    -------
    pandas.DataFrame
        k (as far as so many customers differ), silhouette (average silhouette width, -1 to 1), null_silhouette,
        null_deviation (mean and standard deviation of those of eight logs of one chain), chosen (bool). All of 1,000
        distinct histories at most; of one persona there are none.
    """
    silhouettes, *others = (_measure_silhouettes(metric, part, ks, rules, seed) for part in (rows, *nulls))
    # where chains make fewer distinct histories than k, none is the best conceivable
    null = np.array([[figures.get(k, 1.0) for k in silhouettes] for figures in others])
    table = pd.DataFrame({"k": list(silhouettes), "silhouette": list(silhouettes.values())})
    table = table.assign(null_silhouette=null.mean(axis=0), null_deviation=null.std(axis=0, ddof=1))
    ahead = table["silhouette"] - table["null_silhouette"]
    ahead[ahead <= _NULL_DEVIATIONS * np.sqrt((table["null_deviation"] ** 2).mean())] = -1
    ahead[table["k"] == 1] = 0
    return table.assign(chosen=np.arange(len(table)) == ahead.argmax())


def _measure_silhouettes(
    metric: Metric, rows: Sequences, ks: Sequence[int], rules: SequenceRules, seed: int
) -> dict[int, float]:
    variants, n, _ = fold_sequences(rows, np.ones(*rows.shape))
    drawn, weights = draw_rows(n, _SCORE_VARIANTS, np.random.default_rng(seed))
    distances = metric.measure_all(variants[drawn])
    silhouettes = {}
    for k in [k for k in ks if k <= max(len(weights), min(ks))]:
        if rules.linkage == "ward":
            medoids = _cut_tree(distances, weights, k)
            found = settle_medoids(medoids, distances[:, medoids], weights)
        else:
            found = find_medoids(distances, k, weights, seed=seed)
        silhouettes[k] = score_silhouette(distances, found.labels, weights)
    return silhouettes


def _find(
    metric: Metric,
    variants: Sequences,
    weights: Floats,
    k: int,
    rules: SequenceRules,
    seed: int,
    most: int = _MOST_VARIANTS,
) -> Medoids:
    n = len(weights)
    if k > n:
        raise RuleError(f"k is {k}, but only {n:,} customers differ in what they did; choose a number from 1 to {n:,}")
    if rules.linkage == "ward":
        drawn, n_drawn = draw_rows(weights, min(most, _MOST_IN_TREE), np.random.default_rng(seed))
        rows = drawn[_cut_tree(metric.measure_all(variants[drawn]), n_drawn, k)]
        return settle_medoids(rows, metric.measure(variants, variants[rows]), weights)
    if n <= (most if metric.gains is None else min(most, _MOST_WITH_COSTS)):
        return find_medoids(metric.measure_all(variants), k, weights, seed=seed)

    def measure(rows: Rows, others: Rows) -> Distances:
        if rows is others:
            return metric.measure_all(variants[rows])
        return metric.measure(variants[rows], variants[others])

    n_sample = min(most, _SAMPLE if metric.gains is None else _MOST_WITH_COSTS)
    return sample_medoids(measure, k, weights, seed=seed, n_sample=n_sample)


def _cut_tree(distances: Distances, weights: Floats, k: int) -> Rows:
    """The medoid of each of the k clusters of Ward's tree."""
    from scipy.cluster.hierarchy import cut_tree

    labels = cut_tree(link_ward(distances, weights), k)[:, 0] if len(weights) > 1 else np.zeros(1)
    medoids = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        medoids.append(own[(distances[np.ix_(own, own)] @ weights[own]).argmin()])
    return np.array(medoids)


def _share_memberships(distances: Distances) -> Floats:
    with np.errstate(divide="ignore"):
        near = 1 / distances.astype(np.float64)
    is_same = np.isinf(near)
    near = np.where(is_same.any(axis=1, keepdims=True), is_same, near)
    shares: Floats = near / near.sum(axis=1, keepdims=True)
    return shares


def _find_quartiles(distances: Floats, weights: Floats) -> tuple[float, float]:
    """The least distances that a quarter and three quarters of the customers do not exceed."""
    if not len(distances):
        return 0.0, 0.0
    order = np.argsort(distances, kind="stable")
    line = np.cumsum(weights[order])
    low, high = distances[order][np.searchsorted(line, line[-1] * np.array([0.25, 0.75]))]
    return float(low), float(high)


def _name_events(sequences: Sequences, events: tuple[str, ...]) -> tuple[History, ...]:
    histories = []
    for codes in sequences.to_lists():
        journeys: list[list[str]] = [[]]
        for code in codes:
            if code == len(events):
                journeys.append([])
            else:
                journeys[-1].append(events[code])
        histories.append(tuple(tuple(journey) for journey in journeys))
    return tuple(histories)
