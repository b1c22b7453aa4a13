"""Personas: found, proven, described in tidy tables, and ready to say who a new customer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, Self

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from journeylab.engine import drop, store
from journeylab.errors import RuleError, nearest
from journeylab.formats import format_interval, format_name, format_share
from journeylab.language import gettext as _
from journeylab.personas.assigning import MarkovPersonas, fit_markov
from journeylab.personas.choose import Verdict, choose_personas
from journeylab.personas.counting import MarkovRules, count_moves
from journeylab.personas.describe import estimate_transitions, profile_personas, summarise_personas
from journeylab.personas.distances import SequenceRules
from journeylab.personas.drawing import draw_customers
from journeylab.personas.features import FeatureRules, feature_family, fit_features, measure_customers
from journeylab.personas.histories import read_sequences
from journeylab.personas.markov_family import markov_family
from journeylab.personas.naming import name_personas
from journeylab.personas.sequences import fit_sequences, sequence_family
from journeylab.personas.tallying import tally_members
from journeylab.personas.typical import find_typical
from journeylab.segments import COLUMNS, compare_segments

if TYPE_CHECKING:
    from pathlib import Path

    from journeylab.personas.family import Family

Method = Literal["markov", "features", "sequence"]
Rules = MarkovRules | FeatureRules | SequenceRules

_RULES: dict[str, Callable[[], Rules]] = {"markov": MarkovRules, "features": FeatureRules, "sequence": SequenceRules}
_MOST_CUSTOMERS = 200_000  # more tell a model nothing new


class Model(Protocol):
    """What tells the personas of a method apart, once it has been fitted."""

    @property
    def method(self) -> str:
        """By which method."""

    @property
    def n_personas(self) -> int:
        """How many there are."""

    def assign(self, steps: ibis.Table, journeys: ibis.Table | None = None) -> pd.DataFrame:
        """Which persona is each customer? See `Personas.assign`."""

    def reorder(self, order: NDArray[np.int64]) -> Self:
        """Number the personas anew: the first shall be the one that is ``order[0]`` (from 0) now."""

    def to_dict(self) -> dict[str, object]:
        """All that is needed to assign again, to the bit, as plain values that JSON knows."""


@dataclass(frozen=True, eq=False)
class Personas:
    """Who are the customers, by the way they travel? Made by `fit_personas`.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row per persona, by falling size: persona (int from 1), name, n, share with its interval, and how they
        travel; see `summarise_personas`.
    profile : pandas.DataFrame
        Events that set each apart, strongest first; see `profile_personas`. Empty with one persona.
    transitions : pandas.DataFrame
        persona, event (None: the start), next_event (None: the end), probability (of what follows `event`), n.
    traits : pandas.DataFrame
        Each persona against everyone else in size, conversion, value, times, channels, events, moves, stages and given
        attributes; see `compare_segments`. Empty with one persona.
    medoids : pandas.DataFrame
        A real journey of each persona, nearest to all its others; see `find_typical`.
    k_search : pandas.DataFrame
        One row per number of personas tried, with what speaks for it.
    stability : pandas.DataFrame
        One row per persona: persona, jaccard (how much of it is found again in bootstraps, 0 to 1), low, high,
        is_stable.
    verdict : "clear", "weak" or "none"
        Are they really there? none: one persona explains the customers as well.
    reason : str
        Why, in a sentence.
    model : MarkovPersonas, FeaturePersonas or SequencePersonas
    seed : int
    span : tuple of pandas.Timestamp
        The first and the last event of the fit.
    stated : pandas.DataFrame or None
        What the customers of each persona say of themselves: persona, kind, text, n; see `attach_stated`.
    journeys, members : ibis.Table or None
        The journeys of the fit, and who is which persona: customer_id, persona, probability, is_atypical, n_unknown.
        None after `load_personas`.
    """

    summary: pd.DataFrame
    profile: pd.DataFrame = field(repr=False)
    transitions: pd.DataFrame = field(repr=False)
    traits: pd.DataFrame = field(repr=False)
    medoids: pd.DataFrame = field(repr=False)
    k_search: pd.DataFrame = field(repr=False)
    stability: pd.DataFrame = field(repr=False)
    verdict: Verdict
    reason: str
    model: Model = field(repr=False)
    seed: int
    span: tuple[pd.Timestamp, pd.Timestamp]
    stated: pd.DataFrame | None = field(default=None, repr=False)
    journeys: ibis.Table | None = field(default=None, repr=False)
    members: ibis.Table | None = field(default=None, repr=False)

    @property
    def headline(self) -> str:
        """What is the answer in one sentence?"""
        n, largest = int(self.summary["n"].sum()), self.summary.iloc[0]
        if len(self.summary) == 1:
            return _("One persona for all {n} customers.", n=n)
        return _(
            "{k} personas of {n} customers; the largest, {name}, is {share} ({interval}).",
            k=len(self.summary),
            n=n,
            name=format_name(largest["name"]),
            share=format_share(largest["share"]),
            interval=format_interval(largest["low"], largest["high"], format_share),
        )

    def assign(self, steps: ibis.Table, journeys: ibis.Table | None = None) -> pd.DataFrame:
        """Which persona is each customer? Without a refit; the customers of the fit get what the fit gave them.

        Parameters
        ----------
        steps, journeys : ibis.Table
            From `build_steps` and `build_journeys`. Without journeys, those of the fit tell which have ended; whether
            any other has is not known and says nothing.

        Returns
        -------
        pandas.DataFrame
            One row per customer, sorted by id: customer_id, persona (int from 1), probability (of that persona, given
            all that the customer did), is_atypical (bool: fits none), n_unknown (events that the model has never met:
            they say nothing; a customer with no other events gets the largest persona).
        """
        # the journeys of the fit can only be joined to steps of the same database
        known = self.journeys if journeys is None else None
        if known is not None and isinstance(self.model, MarkovPersonas) and steps.get_backend() is known.get_backend():
            return self.model.assign(steps, remembered=known)
        return self.model.assign(steps, journeys)

    def save(self, path: str | Path) -> Path:
        """Keep them in one plain file that holds no customer; see `save_personas`."""
        from journeylab.personas.saving import save_personas

        return save_personas(self, path)

    def _repr_html_(self) -> str:
        from journeylab.tables import show_table

        caption = _("Personas; base of the shares: all {n} customers", n=self.summary["n"].sum())
        table = show_table(self.summary, caption=caption)._repr_html_()
        # The classes keep $x$ in a name from becoming a formula.
        return f'<div class="tex2jax_ignore mathjax_ignore">{table}</div>'


def fit_personas(
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    k: int | Literal["auto"] = "auto",
    method: Method | Rules = "markov",
    seed: int = 0,
    k_max: int = 8,
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None = None,
    progress: bool = False,
) -> Personas:
    """Which kinds of customer are there, by what they do?

    Of more than 200,000 customers so many are drawn to find the personas; then all are assigned, in one pass inside the
    engine. Open journeys count as far as they went. Neither names nor the order of rows matter. What they are called is
    said in the language of `set_language`.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`.
    k : int or "auto"
        How many personas. "auto" takes what the method's own score speaks for (`Personas.k_search`), and one where
        they are found again no better than in logs of one persona. A number that is given is kept, and judged.
    method : "markov", "features", "sequence", or `MarkovRules`, `FeatureRules`, `SequenceRules`
        markov: by the order of events, a mixture of first-order Markov chains (Cadez, Heckerman, Meek, Smyth & White
        2003; see `MarkovMixture`). features: by how much of what, where, when, for how much, and given attributes.
        sequence: by the likeness of whole journeys (optimal matching). The word stands for the rules as they are
        without arguments.
    seed : int
        From 0; the same seed gives the same personas.
    k_max : int
        The largest k that "auto" tries.
    customers : DataFrame, ibis.Table or names of columns of `steps`, optional
        Attributes to describe the personas by, such as age: one row per customer. They play no part in who is which.
    progress : bool
        Show a bar.

    Raises
    ------
    RuleError
        If an argument does not fit, or k is larger than the number of customers who differ.
    SchemaError
        If there are no steps.
    """
    rules = _read_method(method)
    _check_arguments(k, seed, k_max)
    journeys = store(journeys, journeys.get_backend())  # asked of often, and worked out each time until stored
    family, fit = _prepare(*draw_customers(steps, journeys, n=_MOST_CUSTOMERS, seed=seed), rules, seed)
    choice = choose_personas(family, range(1, k_max + 1) if k == "auto" else [k], seed=seed, progress=progress)
    n_personas = 1 if k == "auto" and choice.verdict == "none" else choice.k
    model, members, order = _assign_all(fit(n_personas), steps, journeys)
    n_personas = model.n_personas  # of HDBSCAN there may be fewer
    stability = choice.stability.head(n_personas).iloc[order].assign(persona=range(1, n_personas + 1))
    stability = stability.reset_index(drop=True)
    tally = tally_members(steps, journeys, members, n_personas)
    profile = profile_personas(tally)
    mixture = (model.mixture, model.vocabulary.events) if isinstance(model, MarkovPersonas) else ()
    transitions = estimate_transitions(tally, *mixture)
    traits = _compare(steps, journeys, members, tally.sizes["n"], customers)
    names = name_personas(
        profile,
        traits,
        transitions,
        sizes=tally.sizes["n"].tolist(),
        unstable=stability.loc[~stability["is_stable"], "persona"],
    )
    return Personas(
        summary=summarise_personas(tally, transitions, names),
        profile=profile,
        transitions=transitions,
        traits=traits,
        medoids=find_typical(steps, journeys, members, seed=seed),
        k_search=choice.k_search,
        stability=stability,
        verdict=choice.verdict,
        reason=choice.reason,
        model=model,
        seed=seed,
        span=_find_span(steps),
        journeys=journeys,
        members=members,
    )


def _read_method(method: object) -> Rules:
    if isinstance(method, Rules):
        return method
    if method not in _RULES:
        raise RuleError(
            f'method="{method}" is not known; choose one of {", ".join(_RULES)}.{nearest(str(method), _RULES)}'
        )
    return _RULES[str(method)]()


def _prepare(steps: ibis.Table, journeys: ibis.Table, rules: Rules, seed: int) -> tuple[Family, Callable[[int], Model]]:
    """What the search needs, and how personas are fitted once their number is known."""
    if isinstance(rules, MarkovRules):
        counts = count_moves(steps, journeys, rules)
        family = markov_family(counts.moves, emissions=counts.vocabulary.emissions)
        return family, lambda k: fit_markov(counts, k, seed=seed)
    if isinstance(rules, FeatureRules):
        measured = measure_customers(steps, journeys, rules)
        return feature_family(measured), lambda k: fit_features(measured, k, seed=seed)
    histories = read_sequences(steps, journeys)
    return sequence_family(histories, rules), lambda k: fit_sequences(histories, k, rules, seed=seed)


def _assign_all(model: Model, steps: ibis.Table, journeys: ibis.Table) -> tuple[Model, ibis.Table, NDArray[np.int64]]:
    """Who is which persona? Stored; numbered anew where personas come in another order than among those drawn."""
    con = steps.get_backend()
    if isinstance(model, MarkovPersonas):
        members = model.assign_members(steps, journeys)
    else:
        members = store(pa.Table.from_pandas(model.assign(steps, journeys), preserve_index=False), con)
    return sort_by_size(model, members)


def sort_by_size(model: Model, members: ibis.Table) -> tuple[Model, ibis.Table, NDArray[np.int64]]:
    """Number personas by falling size among these members; also which each was before (from 0)."""
    sizes = members.group_by("persona").agg(n=members.count()).execute().set_index("persona")["n"]
    order = np.argsort(-sizes.reindex(range(1, model.n_personas + 1), fill_value=0).to_numpy(), kind="stable")
    if (np.diff(order) > 0).all():
        return model, members, order
    persona = ibis.cases(*((members.persona == int(old) + 1, new) for new, old in enumerate(order, start=1)))
    renumbered = store(members.mutate(persona=persona.cast("int64")), members.get_backend())
    drop(members)
    return model.reorder(order), renumbered, order


def _compare(
    steps: ibis.Table,
    journeys: ibis.Table,
    members: ibis.Table,
    sizes: pd.Series,
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None,
) -> pd.DataFrame:
    """Each persona against everyone else; no rows where there is nobody else."""
    if (sizes > 0).sum() < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    return compare_segments(steps, journeys, by=members, customers=customers)


def _find_span(steps: ibis.Table) -> tuple[pd.Timestamp, pd.Timestamp]:
    found = steps.aggregate(first=steps.timestamp.min(), last=steps.timestamp.max()).execute().iloc[0]
    return found["first"], found["last"]


def _check_arguments(k: object, seed: object, k_max: object) -> None:
    if k != "auto" and not _is_whole(k, 1):
        raise RuleError(f'k={k!r} is no number of personas; give a whole number from 1, or "auto"')
    if not _is_whole(k_max, 1):
        raise RuleError(f"k_max={k_max!r} is no number of personas; give a whole number from 1")
    if not _is_whole(seed, 0):
        raise RuleError(f"seed={seed!r}; give a whole number from 0")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
