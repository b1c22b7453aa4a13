"""Personas by what customers do and how much of it, where, how fast, for how much, and who they are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

import numpy as np
import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.personas.clusters import (
    Cells,
    Cluster,
    Floats,
    Ints,
    count_cells,
    find_cells,
    name_rows,
    read_cells,
    tell_cells,
)
from journeylab.personas.columns import BLOCKS, Layout, Sheet, read_sheet, sort_by_content
from journeylab.personas.family import Family, Predict, Weights
from journeylab.personas.scaling import Scale, find_scale
from journeylab.personas.scoring import score_cells

if TYPE_CHECKING:
    import ibis

_FENCE = 3  # Tukey's (1977) far out, in ranges between the quartiles
_ROUNDING = 1e-9  # of a squared distance: who lies on the limit is within
_MOST_CUSTOMERS = 10_000  # of a log of one persona
_BALL = 10  # dimensions at least, lest a ball can be halved in one way only


@dataclass(frozen=True, eq=False)
class FeatureRules:
    """By what are customers likened, and how are clusters found?

    Parameters
    ----------
    cluster
        ``"kmeans"``; ``"gmm"``, a Gaussian mixture (clusters of unequal spread; gives posterior probabilities); or
        ``"hdbscan"``, which finds out by itself how many dense clusters there are, and who is in none.
    blocks
        What to look at, as names or as name → weight (by name: 1 each): events, channels, stages, tempo, recency,
        value, attributes. Default: all that the log has, but recency, which tells more of when the log ends than of who
        somebody is.
    customers
        Attributes, such as age or industry: a table with one row per customer (customer_id and the attributes), or
        names of columns of `steps` (the first known value counts).
    top_events
        How many events have a column of their own, those of most customers; the others share one.

    Notes
    -----
    What is looked at, none of which grows with the length of a history:

    ==========  =====================================================================================================
    events      log(1 + how often) of each event, scaled to length 1
    channels    share of each channel in a customer's events that have one
    stages      share of each stage
    tempo       mean logarithm of the seconds between the events of a journey
    recency     logarithm of the days since the last event, at the end of observation
    value       mean logarithm of the amounts paid
    attributes  numbers, and labels as 0 and 1 (those of less than 1 % of the customers share a column)
    ==========  =====================================================================================================

    Scaling. All columns of a block together get the variance that is the block's weight, and in "attributes" each
    attribute the same part of it: 300 events do not drown an age. Then what is chance is taken out. A share among three
    events says little, a share among three hundred much; so each customer's columns are drawn towards the mean of all
    by as much as the block's real variance (between customers) falls short of that with their number of events added
    (within one): the best linear guess, or empirical Bayes (Efron & Morris 1975). A block then has the share of its
    weight that is real: one in which customers differ by chance alone does not drown the others, and a short history is
    no persona by itself. `FeaturePersonas.scale` shows the figures. Attributes are taken as they are: one that has
    nothing to do with what customers do costs precision; give it less weight or leave it out.

    What never happened is missing, not 0: without a purchase there is no amount, without a second event no tempo. What
    is missing is at the mean and pulls nowhere. A number beyond Tukey's outer fences (three ranges between the
    quartiles) counts as the fence.
    """

    cluster: Cluster = "kmeans"
    blocks: Mapping[str, float] | Sequence[str] | None = None
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None = None
    top_events: int = 100

    def __post_init__(self) -> None:
        if self.cluster not in get_args(Cluster):
            raise RuleError(
                f'FeatureRules: cluster must be one of {", ".join(get_args(Cluster))}; found "{self.cluster}".'
                f"{nearest(str(self.cluster), get_args(Cluster))}"
            )
        if self.top_events < 1:
            raise RuleError(f"FeatureRules: top_events must be at least 1, found {self.top_events}")
        if self.blocks is None:
            return
        given = [self.blocks] if isinstance(self.blocks, str) else self.blocks
        weights = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
        for name, weight in weights.items():
            if name not in BLOCKS:
                raise RuleError(
                    f'FeatureRules: no block "{name}".{nearest(name, BLOCKS)} The blocks are {", ".join(BLOCKS)}'
                )
            if not 0 < weight < np.inf:
                raise RuleError(f"FeatureRules: the weight of {name} must be above 0, found {weight}; or leave it out")
        if not weights:
            raise RuleError(f"FeatureRules: name at least one block of {', '.join(BLOCKS)}")
        if "attributes" in weights and self.customers is None:
            raise RuleError('FeatureRules: the block "attributes" needs customers=, a table or names of columns')
        object.__setattr__(self, "blocks", MappingProxyType(weights))


@dataclass(frozen=True, eq=False)
class Measured:
    """Customers as rows to cluster. Made by `measure_customers`.

    Parameters
    ----------
    rows : ndarray of shape (n_customers, n_columns)
        Scaled, in an order that no name can change.
    belief : ndarray of shape (n_customers, n_columns)
        How far each can be believed, 0 to 1.
    order : ndarray of shape (n_customers,)
        Which customer of `sheet` each row is.
    """

    rows: Floats
    belief: Floats
    order: Ints
    sheet: Sheet
    scale: Scale
    rules: FeatureRules


@dataclass(frozen=True, eq=False)
class FeaturePersonas:
    """Personas by features, ready to say who a new customer is. Made by `fit_features`.

    Parameters
    ----------
    cluster : "kmeans", "gmm" or "hdbscan"
    layout : Layout
        The events, channels, stages and labels that are known.
    scale : Scale
        How columns became comparable: ``scale.table``.
    cells : Centres or Gaussians
        The clusters, largest first.
    limits : ndarray of shape (k,)
        Squared distance from which a customer is atypical.
    end : datetime
        The end of observation of the fit.
    customers : DataFrame, ibis.Table, names or None
        Attributes of the fit. A table is not saved; names are.
    """

    method: ClassVar[str] = "features"
    cluster: Cluster
    layout: Layout
    scale: Scale
    cells: Cells
    limits: Floats
    end: datetime
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None = field(default=None, repr=False)

    @property
    def n_personas(self) -> int:
        """How many personas there are."""
        return count_cells(self.cells)

    def assign(
        self,
        steps: ibis.Table,
        journeys: ibis.Table | None = None,
        *,
        customers: pd.DataFrame | ibis.Table | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Which persona is each customer? The customers of the fit get what the fit gave them.

        Parameters
        ----------
        steps, journeys : ibis.Table
            From `build_steps` and `build_journeys`. Recency is counted up to the last event of `journeys`; without
            them, up to the end of the fit or the last step, whichever is later.
        customers
            Their attributes, if the personas look at any; default: those of the fit. Who has none is placed by the
            rest.

        Returns
        -------
        pandas.DataFrame
            One row per customer, sorted by id: customer_id, persona (int from 1), probability (Gaussian mixture:
            posterior; else membership in fuzzy c-means with m = 2, Bezdek 1981, which is near 1 / k for a customer
            between all centres), is_atypical (bool: farther from the persona's centre than the third quartile of its
            customers plus three ranges between the quartiles, Tukey's "far out"; with HDBSCAN, than any customer of its
            dense cluster), n_unknown (events that the fit has never met: they say nothing).
        """
        sheet = read_sheet(
            steps,
            journeys,
            customers=self.customers if customers is None else customers,
            layout=self.layout,
            end=self.end,
        )
        rows, _ = self.scale.apply(sheet)
        membership = self.cells.belong(rows)
        persona = membership.argmax(axis=1)
        every = np.arange(len(rows))
        return pd.DataFrame(
            {
                "customer_id": sheet.customers,
                "persona": persona + 1,
                "probability": membership[every, persona],
                "is_atypical": self.cells.measure(rows)[every, persona] > self.limits[persona],
                "n_unknown": sheet.n_unknown,
            }
        )

    def reorder(self, order: Ints) -> Self:
        """Number the personas anew: the first shall be the one that is ``order[0]`` (from 0) now."""
        return replace(self, cells=self.cells.take(order), limits=self.limits[order])

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to assign again, to the bit, as plain values that JSON knows; no customer is in it."""
        table = self.scale.table
        columns = {name: [None if value in (np.inf, -np.inf) else value for value in table[name]] for name in table}
        names = [self.customers] if isinstance(self.customers, str) else self.customers
        return {
            "cluster": self.cluster,
            "layout": asdict(self.layout),
            "scale": columns,
            "cells": tell_cells(self.cells),
            "limits": self.limits.tolist(),
            "end": self.end.isoformat(),
            "customers": list(names) if isinstance(names, Sequence) else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The personas that `to_dict` tells of."""
        layout = {name: tuple(value) for name, value in data["layout"].items()}
        layout["attributes"] = tuple((name, labels and tuple(labels)) for name, labels in layout["attributes"])
        table = pd.DataFrame(data["scale"])
        for name, bound in (("low", -np.inf), ("high", np.inf)):
            table[name] = table[name].astype("float64").fillna(bound)  # objects, where no column has a bound
        return cls(
            cluster=data["cluster"],
            layout=Layout(**layout),
            scale=Scale(table),
            cells=read_cells(data["cells"]),
            limits=np.array(data["limits"], dtype=np.float64),
            end=datetime.fromisoformat(data["end"]),
            customers=data["customers"],
        )


def measure_customers(steps: ibis.Table, journeys: ibis.Table | None, rules: FeatureRules | None = None) -> Measured:
    """What is each customer like, in numbers that can be compared?

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`. One row per customer is fetched.
    rules : FeatureRules, optional

    Raises
    ------
    RuleError
        If the log lacks a block that the rules name, or attributes do not fit.
    SchemaError
        If there are no steps.
    """
    rules = rules or FeatureRules()
    sheet = read_sheet(steps, journeys, customers=rules.customers, top_events=rules.top_events)
    if sheet.n_without_attributes:
        warnings.warn(
            f"{sheet.n_without_attributes:,} of {len(sheet.customers):,} customers have no attributes; they are placed "
            "by the rest",
            stacklevel=2,
        )
    order, _ = sort_by_content(sheet)
    ordered = sheet.take(order)
    scale = find_scale(ordered, _choose_blocks(rules, sheet))
    rows, belief = scale.apply(ordered)
    return Measured(rows, belief, order, sheet, scale, rules)


def _choose_blocks(rules: FeatureRules, sheet: Sheet) -> dict[str, float]:
    has = {
        "tempo": bool(sheet.n_seen["gap"].any()),
        "channels": bool(sheet.layout.channels),
        "stages": bool(sheet.layout.stages),
        "value": bool(sheet.n_seen["basket"].any()),
    }
    if isinstance(rules.blocks, Mapping):
        lacking = [name for name in rules.blocks if not has.get(name, True)]
        if lacking:
            raise RuleError(f"FeatureRules: this log has no {' and no '.join(lacking)}; leave out that block")
        return dict(rules.blocks)
    return {name: 1.0 for name in BLOCKS if has.get(name, True) and name != "recency"}


def fit_features(measured: Measured, k: int, *, seed: int = 0) -> FeaturePersonas:
    """Which k personas are there? With HDBSCAN as many as it finds, k at most.

    Parameters
    ----------
    measured : Measured
    k : int
        From 1.
    seed : int
        From 0; the same seed gives the same personas.

    Raises
    ------
    RuleError
        If fewer than k customers differ.
    """
    rows, rules = measured.rows, measured.rules
    cells = find_cells(rows, np.ones(len(rows)), k, cluster=rules.cluster, seed=seed)
    return FeaturePersonas(
        cluster=rules.cluster,
        layout=measured.sheet.layout,
        scale=measured.scale,
        cells=cells,
        limits=_find_limits(cells, rows),
        end=measured.sheet.end,
        customers=rules.customers,
    )


def _find_limits(cells: Cells, rows: Floats) -> Floats:
    reach = getattr(cells, "reach", None)
    if reach is not None:
        return np.asarray(reach**2 * (1 + _ROUNDING))
    labels, squares = name_rows(cells, rows), cells.measure(rows)
    limits = np.full(count_cells(cells), np.inf)
    for j in np.unique(labels):
        low, high = np.quantile(np.sqrt(squares[labels == j, j]), [0.25, 0.75])
        limits[j] = (high + _FENCE * (high - low)) ** 2 * (1 + _ROUNDING)
    return limits


def feature_family(measured: Measured) -> Family:
    """What tells `choose_personas` of clusters of features?

    Returns
    -------
    Family
        rows: one per customer, as in `measured`. fit: see `find_cells`. score_k: see `score_cells`. draw_null: up to
        10,000 customers who differ from each other in all directions alike (a ball in ten dimensions or more). Where
        they differ mostly in one, halves are found again in every bootstrap without being two kinds; `score_cells` has
        refused such a population before.
    """
    rows, cluster = measured.rows, measured.rules.cluster

    def fit(rows: Floats, weights: Weights, k: int, seed: int) -> Predict:
        cells = find_cells(rows, weights, k, cluster=cluster, seed=seed)
        return partial(name_rows, cells)

    def score_k(ks: Sequence[int], seed: int) -> pd.DataFrame:
        return score_cells(rows, measured.belief, ks, cluster=cluster, seed=seed)

    def draw_null(seed: int) -> Floats:
        size = min(len(rows), _MOST_CUSTOMERS), max(rows.shape[1], _BALL)
        return np.random.default_rng(seed).normal(size=size)

    return Family(rows, np.ones(len(rows)), fit, score_k, draw_null)  # type: ignore[arg-type]  # its rows are arrays
