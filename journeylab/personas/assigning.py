"""Who is a customer? Asked in the engine, in one pass over the steps, of a mixture that was fitted before."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from journeylab.engine import drop, store
from journeylab.personas.counting import CustomerCounts, Emission, Vocabulary, code_outcome, observe_steps
from journeylab.personas.em import Floats
from journeylab.personas.markov import LOG_STEPS, MarkovMixture

Ints = NDArray[np.int64]

# Atypical is whom less than one in a hundred of the persona's own are as unlike. How far off that is, is tried out on
# customers drawn from the mixture, with a margin; never nearer than for a normal deviate, which many draws add up to.
_ATYPICAL_SHARE = 0.0075
_NORMAL_Z = -2.3263  # of one in a hundred
_TRIED_CUSTOMERS = 20_000
_TRIED_EVENTS = 100
# Of each draw that a customer made: its log-probability, by how much that is above what was to be expected, and with
# which variance.
_FIGURES = ("log", "surplus", "variance")
_ODDS_STEPS = 2**40
# How a step is told from others with the same two events: the sum of these.
_STARTS, _ENDS, _GOES_ON, _HAS_NEXT = 1, 2, 4, 8
# What a mixture has learned, without the underscore.
_LEARNED = ("weights", "columns", "log_probabilities", "log_unseen", "histories")


@dataclass(frozen=True, eq=False)
class MarkovPersonas:
    """Personas by the order of events, ready to say who a new customer is.

    Parameters
    ----------
    mixture : MarkovMixture
        Fitted; its components are the personas, by falling size.
    vocabulary : Vocabulary
        The events and emissions that it knows.
    least_z : float
        Below 0. A customer is atypical when where they went (and what it came with) is less likely under their own
        persona than it expects of the same draws, by more than this many standard deviations. How long journeys are
        plays no part in that: it would hide those who go astray.
    """

    method: ClassVar[str] = "markov"
    mixture: MarkovMixture
    vocabulary: Vocabulary
    least_z: float

    @property
    def n_personas(self) -> int:
        """How many there are."""
        return len(self.mixture.weights_)

    def assign(
        self, steps: ibis.Table, journeys: ibis.Table | None = None, *, remembered: ibis.Table | None = None
    ) -> pd.DataFrame:
        """Which persona is each customer? The columns of `assign_members`, sorted by customer_id."""
        members = self.assign_members(steps, journeys, remembered=remembered)
        table: pd.DataFrame = members.to_pyarrow().sort_by("customer_id").to_pandas()
        drop(members)
        return table.astype({"customer_id": "str"})

    def assign_members(
        self, steps: ibis.Table, journeys: ibis.Table | None = None, *, remembered: ibis.Table | None = None
    ) -> ibis.Table:
        """Which persona is each customer? One pass over the steps; what is fetched are the distinct moves.

        Log-probabilities are added as whole numbers (of 2**-24), so that neither the order of rows nor the number of
        threads plays a part.

        Parameters
        ----------
        steps, journeys : ibis.Table
            From `build_steps` and `build_journeys`. With journeys, only the steps that they count are looked at, and
            open ones make no exit. Without, nobody knows which have ended, and that says nothing.
        remembered : ibis.Table, optional
            Journeys of an earlier look at the same steps, to know without `journeys` which have ended.

        Returns
        -------
        ibis.Table
            Stored, one row per customer: customer_id (string), persona (int64 from 1), probability (float64, of that
            persona, given all that the customer did), is_atypical (bool: fits none, or did more unknown events than
            known ones), n_unknown (int64, events that the model has never met: they and the moves to and from them say
            nothing; a customer with no others gets the largest share as probability).
        """
        con, emissions = steps.get_backend(), tuple(self.vocabulary.outcomes)
        seen = observe_steps(steps, journeys, remembered=remembered, emissions=emissions)
        pairs = steps.select("event", "next_event").distinct().execute()
        told = [self._tell_moves(pairs), *(self._tell_emission(name) for name in emissions)]
        tables = [store(table, con) for table in told]
        members = store(self._choose(self._add_up(seen, *tables)), con)
        for table in tables:
            drop(table)
        return members

    def reorder(self, order: Ints) -> Self:
        """Number the personas anew: the first shall be the one that is ``order[0]`` (from 0) now."""
        mixture = copy(self.mixture)
        mixture.reorder(order)
        return replace(self, mixture=mixture)

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to assign again, to the bit, as plain values that JSON knows."""
        mixture = self.mixture
        return {
            "method": self.method,
            "events": list(self.vocabulary.events),
            "dwell_edges": self.vocabulary.dwell_edges and list(self.vocabulary.dwell_edges),
            "channels": self.vocabulary.channels and list(self.vocabulary.channels),
            "least_z": self.least_z,
            **{name: getattr(mixture, f"{name}_").tolist() for name in _LEARNED},
            "n_parameters": mixture.n_parameters_,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Take up what `to_dict` gave."""
        edges, channels = data["dwell_edges"], data["channels"]
        vocabulary = Vocabulary(
            events=tuple(data["events"]),
            dwell_edges=None if edges is None else tuple(edges),
            channels=None if channels is None else tuple(channels),
        )
        mixture = MarkovMixture(len(data["weights"]), emissions=vocabulary.emissions)
        for name in _LEARNED:
            setattr(mixture, f"{name}_", np.array(data[name]))
        mixture.n_parameters_, mixture.n_events_ = data["n_parameters"], len(vocabulary.events)
        mixture.n_features_in_ = int(mixture.layout_.bounds[-1])
        return cls(mixture, vocabulary, data["least_z"])

    def _add_up(self, seen: ibis.Table, moves: ibis.Table, *emissions: ibis.Table) -> ibis.Table:
        """One row per customer: what all steps tell, by the kind of step each is and by what it came with."""
        fate = _HAS_NEXT * seen.next_event.notnull().cast("int64")
        for name, bit in (("starts", _STARTS), ("ends", _ENDS), ("goes_on", _GOES_ON)):
            fate = fate + bit * seen[name].cast("int64")
        outcomes = {name: code_outcome(seen, self.vocabulary, name) for name in self.vocabulary.outcomes}
        told = seen.select("customer_id", "event", after=seen.next_event.fill_null(seen.event), fate=fate, **outcomes)
        told = told.join(moves, ["event", "after", "fate"])
        for name, table in zip(outcomes, emissions, strict=True):
            told = told.left_join(table, [("event", f"{name}_event"), (name, f"{name}_outcome")])
        # An event there always is. But sums that ask for it need columns of both sides of the join: others DuckDB adds
        # up in part before it joins, for almost as many groups as there are steps, at five times the cost.
        is_step = told.event.notnull()
        figures = {
            figure: sum((told[f"{name}_{figure}"].fill_null(0) for name in outcomes), told[f"move_{figure}"])
            for figure in _name_figures(self.n_personas)
        }
        return told.group_by("customer_id").agg(
            n_events=told.count(),
            n_unknown=told.n_unknown.sum(),
            **{figure: ibis.ifelse(is_step, value, 0).sum().cast("float64") for figure, value in figures.items()},
        )

    def _choose(self, sums: ibis.Table) -> ibis.Table:
        """One row per customer: the persona that they are most likely to be, of equals the larger."""
        log_w = np.rint(np.log(self.mixture.weights_) * LOG_STEPS).astype(np.int64).tolist()
        numbers = range(1, self.n_personas + 1)
        sums = sums.mutate(**{f"log_{number}": sums[f"log_{number}"] + log_w[number - 1] for number in numbers})
        logs = [sums[f"log_{number}"] for number in numbers]
        sums = sums.mutate(best=ibis.greatest(*logs) if len(logs) > 1 else logs[0])
        persona = ibis.cases(*((sums[f"log_{number}"] == sums.best, number) for number in numbers))
        odds = [((sums[f"log_{number}"] - sums.best) / LOG_STEPS).exp() for number in numbers]
        whole = [(one * _ODDS_STEPS).floor() for one in odds]  # again exact in any order, that of the personas too
        sums = sums.mutate(persona=persona.cast("int64"), probability=_ODDS_STEPS / sum(whole[1:], whole[0]))
        surplus, variance = (
            ibis.cases(*((sums.persona == number, sums[f"{figure}_{number}"]) for number in numbers)) / LOG_STEPS
            for figure in _FIGURES[1:]
        )
        is_unlike = (surplus < self.least_z * variance.sqrt()) | (2 * sums.n_unknown > sums.n_events)
        return sums.select(
            "customer_id", "persona", "probability", is_atypical=is_unlike, n_unknown=sums.n_unknown.cast("int64")
        )

    def _tell_moves(self, pairs: pd.DataFrame) -> pa.Table:
        """What does each kind of step tell of each persona? event, after, fate, n_unknown, and the figures.

        `after` is the event itself where no next event is to be looked at.
        """
        lasts = pairs[["event"]].drop_duplicates().assign(next_event=None)
        fates = pd.DataFrame({"starts": [False, True] * 2, "is_told": [False] * 2 + [True] * 2})
        kinds = pd.concat([pairs.dropna(), lasts]).merge(fates, how="cross")
        starts, is_told, has_next = kinds["starts"], kinds["is_told"], kinds["next_event"].notna()
        names = pd.Index(self.vocabulary.events, dtype="str")
        event, after = (names.get_indexer(pd.Index(kinds[name], dtype="str")) for name in ("event", "next_event"))
        move_at, end_at, stay_at = self.mixture.layout_.bounds[:3]
        draws = (
            (event, starts),
            (move_at + event * len(names) + after, after >= 0),
            (end_at + event, is_told & ~has_next),
            (stay_at + event, is_told & has_next),
        )
        weighed = weigh_outcomes(self.mixture)
        told = np.zeros((len(kinds), weighed.shape[1]), dtype=np.int64)
        for columns, is_made in draws:
            counts = np.asarray(is_made & (event >= 0))
            told[counts] += weighed[self.mixture.find_rows(columns[counts])]
        fate = _STARTS * starts + is_told * np.where(has_next, _GOES_ON, _ENDS) + _HAS_NEXT * has_next
        keys = {
            "event": pa.array(kinds["event"], pa.string()),
            "after": pa.array(kinds["next_event"].fillna(kinds["event"]), pa.string()),
            "fate": pa.array(fate, pa.int64()),
            "n_unknown": pa.array(event < 0, pa.int32()),
        }
        return pa.table(keys | self._lay_out(told, "move"))

    def _tell_emission(self, name: Emission) -> pa.Table:
        """What does it tell that an event came with an outcome? event, outcome, and the figures."""
        events, outcomes = self.vocabulary.events, self.vocabulary.outcomes[name]
        first = self.mixture.layout_.bounds[3 + list(self.vocabulary.outcomes).index(name)]
        told = weigh_outcomes(self.mixture)[self.mixture.find_rows(first + np.arange(len(events) * len(outcomes)))]
        keys = {f"{name}_event": [event for event in events for _ in outcomes]}
        keys |= {f"{name}_outcome": [*outcomes] * len(events)}
        return pa.table(keys | self._lay_out(told, name))

    def _lay_out(self, told: Ints, name: str) -> dict[str, Ints]:
        # few bits, so that the sums of ten million customers take little room
        columns = told.T.astype(np.int32)
        return {
            f"{name}_{figure}": column for figure, column in zip(_name_figures(self.n_personas), columns, strict=True)
        }


def fit_markov(counts: CustomerCounts, k: int, *, seed: int) -> MarkovPersonas:
    """Which k personas do these customers mix?

    Raises
    ------
    RuleError
        If k is larger than the number of customers who differ.
    """
    mixture = MarkovMixture(k, emissions=counts.vocabulary.emissions, random_state=seed).fit(counts.moves)
    return MarkovPersonas(mixture, counts.vocabulary, _find_least_z(mixture, seed))


def weigh_outcomes(mixture: MarkovMixture) -> Ints:
    """What does each outcome add to the figures of a customer, in steps of 2**-24?

    Returns
    -------
    ndarray of shape (n_columns + n_draws, 3 * k)
        Rows as `MarkovMixture.find_rows` has them; columns as `_FIGURES` of each persona.
    """
    layout, k = mixture.layout_, len(mixture.weights_)
    logs = np.vstack([mixture.log_probabilities_, mixture.log_unseen_])
    seen_draw, n_outcomes = layout.read_draws(mixture.columns_), layout.count_outcomes()
    n_unseen = n_outcomes - np.bincount(seen_draw, minlength=len(n_outcomes))
    draw = np.append(seen_draw, np.arange(len(n_outcomes)))
    p = np.exp(logs) * np.append(np.ones(len(seen_draw)), n_unseen)[:, None]
    surplus = logs - _sum_by_draw(draw, p * logs)[draw]
    variance = _sum_by_draw(draw, p * surplus**2)[draw]
    is_length = (draw > layout.n_events) & (draw <= 2 * layout.n_events)  # whether to go on
    surplus[is_length] = variance[is_length] = 0.0
    figures = np.stack([logs, surplus, variance], axis=2).reshape(len(logs), 3 * k)
    return np.rint(figures * LOG_STEPS).astype(np.int64)


def _sum_by_draw(draw: Ints, values: Floats) -> Floats:
    """Add what belongs to each draw, from the least on: the names of outcomes are not to decide how that is rounded."""
    orders = [np.lexsort((column, draw)) for column in values.T]
    sums = [np.bincount(draw[order], column[order]) for order, column in zip(orders, values.T, strict=True)]
    return np.array(sums, dtype=np.float64).T


def _find_least_z(mixture: MarkovMixture, seed: int) -> float:
    rng = np.random.default_rng(seed)
    n_events = rng.choice(mixture.histories_[0], size=_TRIED_CUSTOMERS, p=mixture.histories_[1])
    counts, _ = mixture.sample(_TRIED_CUSTOMERS, n_events=np.clip(n_events, 1, _TRIED_EVENTS), random_state=seed)
    rows = sparse.csr_array((counts.data, mixture.find_rows(counts.indices), counts.indptr))
    sums = rows @ weigh_outcomes(mixture)[: rows.shape[1]] / LOG_STEPS
    log, surplus, variance = (sums[:, which::3] for which in range(3))
    own = np.arange(len(sums)), (log + np.log(mixture.weights_)).argmax(axis=1)
    z = surplus[own] / np.sqrt(np.maximum(variance[own], 1 / LOG_STEPS))
    return min(float(np.quantile(z, _ATYPICAL_SHARE)), _NORMAL_Z)


def _name_figures(k: int) -> list[str]:
    return [f"{figure}_{number}" for number in range(1, k + 1) for figure in _FIGURES]
