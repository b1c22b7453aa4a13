"""Personas: fitted once, described in tidy tables, and ready to say who a new customer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.formats import format_interval, format_share
from journeylab.personas.choose import search_k
from journeylab.personas.counting import count_moves
from journeylab.personas.describe import list_transitions, name_personas, profile_events, summarise
from journeylab.personas.markov import MarkovMixture

if TYPE_CHECKING:
    import ibis

    from journeylab.personas.counting import CustomerCounts

_METHODS = ("markov",)


@dataclass(frozen=True, eq=False)
class Personas:
    """Who are the customers, by the way they travel? Made by `fit_personas`.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row per persona, by falling size: persona (int from 1), name, n (customers), share (of all customers) with
        its 95 % Wilson interval low and high, n_events_median and n_journeys_mean (per customer), conversion (share of
        the persona's customers with a journey that reached the goal; NaN where nobody in the log did, for the rules may
        name no goal) with conversion_low and conversion_high, value_mean (per customer, none counts as 0; NaN where the
        log has no values), probability_mean (of belonging to it, over its customers), top_events (with their shares).
    profile : pandas.DataFrame
        What sets each apart, strongest first: persona, event, share (of a customer's events, averaged over the
        persona's customers), share_elsewhere (over all others), difference, effect (difference in standard deviations
        of that share over all customers). Empty with one persona.
    transitions : pandas.DataFrame
        persona, event (None: the start), next_event (None: the end), probability (smoothed; of what follows `event`).
    k_search : pandas.DataFrame or None
        With ``k="auto"``: k, log_likelihood (per held-out customer), behind_best, behind_best_se, bic, chosen.
    model : MarkovMixture
    events : tuple of str
        The events that the model knows.
    journeys : ibis.Table
        The journeys of the fit.
    """

    summary: pd.DataFrame
    profile: pd.DataFrame = field(repr=False)
    transitions: pd.DataFrame = field(repr=False)
    k_search: pd.DataFrame | None = field(repr=False)
    model: MarkovMixture = field(repr=False)
    events: tuple[str, ...] = field(repr=False)
    journeys: ibis.Table = field(repr=False)

    @property
    def headline(self) -> str:
        """What is the answer in one sentence?"""
        n, largest = int(self.summary["n"].sum()), self.summary.iloc[0]
        if len(self.summary) == 1:
            return f"One persona for all {n:,} customers."
        return (
            f"{len(self.summary)} personas of {n:,} customers; the largest, {largest['name']}, "
            f"is {format_share(largest['share'])} ({format_interval(largest['low'], largest['high'], format_share)})."
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
            all that the customer did), n_unknown (events that the model has never met: they and the moves to and from
            them say nothing; a customer with no other events gets the largest share as probability).
        """
        # the journeys of the fit can only be joined to steps of the same database
        is_here = journeys is None and steps.get_backend() is self.journeys.get_backend()
        remembered = self.journeys if is_here else None
        return _assign(self.model, count_moves(steps, journeys, events=self.events, remembered=remembered))

    def _repr_html_(self) -> str:
        # names and events come from data: to_html escapes them, and the classes keep $x$ from becoming a formula
        table = self.summary.to_html(index=False, na_rep="–", classes=["tex2jax_ignore", "mathjax_ignore"])
        return f"<p>Personas; base of the shares: all {self.summary['n'].sum():,} customers</p>{table}"


def fit_personas(
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    k: int | Literal["auto"] = "auto",
    method: Literal["markov"] = "markov",
    seed: int = 0,
    k_max: int = 8,
) -> Personas:
    """Which kinds of customer are there, by the order in which they do things?

    Counts run in the engine; what is fetched is one row per customer and transition. Open journeys count as far as they
    went and make no exit; whether journeys go on or end is learned only from the time in which both could show, up to
    the last end of a journey. Neither names nor the order of rows matter.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`.
    k : int or "auto"
        How many personas. "auto" takes the smallest number that foresees customers held out as well as the best number
        does, within one standard error (see `Personas.k_search`).
    method : "markov"
        Mixture of first-order Markov chains (Cadez, Heckerman, Meek, Smyth & White 2003); see `MarkovMixture`.
    seed : int
        From 0; the same seed gives the same personas.
    k_max : int
        The largest k that "auto" tries.

    Raises
    ------
    RuleError
        If an argument does not fit, or k is larger than the number of customers who differ.
    SchemaError
        If there are no steps.
    """
    _check_arguments(k, method, seed, k_max)
    counts = count_moves(steps, journeys)
    k_search = None
    if k == "auto":
        k_search = search_k(counts.moves, k_max=k_max, seed=seed)
        k = int(k_search.loc[k_search["chosen"], "k"].iloc[0])
    model = MarkovMixture(k, random_state=seed).fit(counts.moves)
    members = _assign(model, counts)
    profile = profile_events(counts, members["persona"], k)
    names = name_personas(counts, members["persona"], profile, model)
    return Personas(
        summary=summarise(counts, members, journeys, profile, names),
        profile=profile.dropna(subset="difference").reset_index(drop=True),
        transitions=list_transitions(counts, model),
        k_search=k_search,
        model=model,
        events=counts.events,
        journeys=journeys,
    )


def _assign(model: MarkovMixture, counts: CustomerCounts) -> pd.DataFrame:
    probability = model.predict_proba(counts.moves)
    return pd.DataFrame(
        {
            "customer_id": counts.customers,
            "persona": model.predict(counts.moves) + 1,
            "probability": probability.max(axis=1),
            "n_unknown": counts.n_unknown,
        }
    )


def _check_arguments(k: object, method: str, seed: object, k_max: object) -> None:
    if method not in _METHODS:
        raise RuleError(
            f'method="{method}" is not known; choose one of {", ".join(_METHODS)}.{nearest(method, _METHODS)}'
        )
    if k != "auto" and not _is_whole(k, 1):
        raise RuleError(f'k={k!r} is no number of personas; give a whole number from 1, or "auto"')
    if not _is_whole(k_max, 1):
        raise RuleError(f"k_max={k_max!r} is no number of personas; give a whole number from 1")
    if not _is_whole(seed, 0):
        raise RuleError(f"seed={seed!r}; give a whole number from 0")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
