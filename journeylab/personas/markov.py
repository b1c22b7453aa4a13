# ruff: noqa: N803  (scikit-learn calls its input X)
"""A mixture of first-order Markov chains: every persona is a small model of a journey.

Cadez, Heckerman, Meek, Smyth & White (2003), "Model-based clustering and visualization of navigation patterns on a web
site", Data Mining and Knowledge Discovery 7. A persona draws the first event, then after each event whether the journey
ends, and if not, the next event. All that matters of a customer is how often each draw came out how, so the data are
one sparse row of counts per customer, and one step of EM is two sparse products.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from journeylab.errors import RuleError
from journeylab.personas.drawing import draw_counts
from journeylab.personas.em import Chains, Floats, Layout, by_persona, climb_from_seeds, gather_evidence, sum_logs

Counts: TypeAlias = ArrayLike | sparse.sparray | sparse.spmatrix

# Log-probabilities are kept in steps of 2**-24: sums of them are then exact, in any order and in any engine. None is
# below the least, so that what a step tells fits in 32 bits.
LOG_STEPS = 2**24
_LEAST_LOG = -25.0
_LEAST_EXIT = 1e-4  # below it a persona goes on for ever


class MarkovMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Which kinds of journey do customers mix, and who belongs to which?

    Input `X` has one row per customer and, for n events, n + n * n + n + n columns: how many journeys started with each
    event; how often event i was followed by event j (column n + i * n + j); how many journeys ended after each event;
    how often one was seen to go on after it. Where it is not yet known whether a journey ended, count neither of the
    last two: an open journey has made no exit, and near the end of observation a next event shows before an exit could.

    Emissions are what events come with, such as a channel: one of m outcomes, drawn given the event. For each, n * m
    more columns follow: how often event i came with outcome o (column i * m + o of them); where none was seen, count
    none.

    Smoothing: each draw has a Dirichlet prior worth as many outcomes as different ones were seen in the log, spread
    evenly over all events (Witten & Bell 1991: where novelties have been many, more are to come). So the prior grows
    with what there is to learn, and what nobody was seen to do stays possible. The prior of whether to go on is centred
    on the log's rate of ends. The shares of personas have a prior of one customer each; an empty persona does no harm.

    Parameters
    ----------
    n_components : int
        How many personas, k.
    n_init : int
        Seeded restarts, in turn from k-means and from k random customers; the best of the short runs is polished.
    max_iter : int
        Longest polish, in steps of EM.
    tol : float
        The polish ends when the penalised log-likelihood per customer gains less than this.
    smoothing : float
        Weight of the prior, as a multiple of the above; above 0.
    emissions : tuple of int
        How many outcomes each emission has.
    random_state : int
        Seed; the same seed gives the same fit, whatever the order of rows or events.

    Attributes
    ----------
    weights_ : ndarray of shape (k,)
        Share of each persona; personas come by falling number of customers assigned.
    columns_ : ndarray of shape (n_columns,)
        The columns of `X` that were seen, and those of ends and continuations.
    log_probabilities_ : ndarray of shape (n_columns, k)
        Log-probability of each of them among the outcomes of its draw, as a multiple of 2**-24 and -25 at the least:
        sums of such numbers are exact, so that nobody's persona hangs on the order in which they are added.
    log_unseen_ : ndarray of shape (n_draws, k)
        The same for each single column not seen, for the draws: start; where to after each event; whether to go on
        after each; each emission of each.
    histories_ : ndarray of shape (2, m)
        Numbers of events that a customer was seen to do, and the share of the customers who did.
    n_parameters_ : int
        k - 1 shares, and for each persona and draw one less than the number of outcomes that anyone was seen to have.
    objective_path_ : ndarray
        Penalised log-likelihood before each step of the polish; never falls.
    n_events_, n_iter_, n_features_in_ : int
    converged_ : bool

    Examples
    --------
    Two events; two customers go from the first to the second and leave, one stays with the second.

    >>> X = np.array([[9, 0, 0, 9, 0, 0, 0, 9, 9, 0], [8, 0, 0, 8, 0, 0, 0, 8, 8, 0], [0, 1, 0, 0, 0, 9, 0, 1, 0, 9]])
    >>> MarkovMixture(2).fit(X).predict(X)
    array([0, 0, 1])
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_init: int = 10,
        max_iter: int = 500,
        tol: float = 1e-8,
        smoothing: float = 1.0,
        emissions: tuple[int, ...] = (),
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.smoothing = smoothing
        self.emissions = emissions
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:  # scikit-learn ships no types
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.positive_only = True
        return tags

    def fit(self, X: Counts, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn shares, start, transition and exit probabilities, and those of emissions, by EM.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_customers, n_columns)
        y : None
            Not used; scikit-learn passes it.
        sample_weight : array of shape (n_customers,), optional
            How many customers a row stands for; 1 each if not given. A row that stands for none is left out.

        Raises
        ------
        ValueError
            If `X` has no such shape, holds negative or missing counts, or has fewer distinct rows than `n_components`.
        """
        counts, weights = self._check(X, reset=True), _check_weights(sample_weight, X)
        counts, weights = counts[weights > 0], weights[weights > 0]
        if self.n_init < 1 or self.smoothing <= 0:
            raise RuleError(f"n_init={self.n_init} must be at least 1 and smoothing={self.smoothing} above 0")
        self.n_events_ = _count_events(counts.shape[1], self.emissions)
        layout = self.layout_
        self.columns_ = np.union1d(counts.indices, np.arange(layout.bounds[1], layout.bounds[3]))
        evidence, place = gather_evidence(counts[:, self.columns_], weights, self.columns_, layout, self.smoothing)
        n_distinct = len(evidence.weights)
        if not 1 <= self.n_components <= n_distinct:
            raise RuleError(
                f"k (n_components) is {self.n_components}, but only {n_distinct:,} customers differ "
                f"(of {weights.sum():,.0f}); choose a number from 1 to {n_distinct:,}"
            )
        path, chains = climb_from_seeds(
            evidence,
            self.n_components,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.random_state,
        )
        self.objective_path_ = np.array(path)
        self.n_iter_ = len(path)
        self.converged_ = self.n_iter_ < self.max_iter
        n_outcomes = evidence.by_draw @ (evidence.counts.sum(axis=0) > 0)
        self.n_parameters_ = self.n_components - 1 + self.n_components * int(np.maximum(n_outcomes - 1, 0).sum())
        n_events, which = np.unique(counts[:, : layout.bounds[1]].sum(axis=1), return_inverse=True)
        self.histories_ = np.array([n_events, np.bincount(which, weights=weights) / weights.sum()])
        self._take(chains, place)
        # by falling size, as the customers are assigned; the share decides between personas of one size
        sizes = np.bincount(self._joint(counts).argmax(axis=0), weights=weights, minlength=self.n_components)
        self.reorder(np.lexsort((-self.weights_, -sizes)))
        return self

    def _take(self, chains: Chains, place: NDArray[np.int64]) -> None:
        self.weights_ = np.exp(_round_logs(chains.log_w))
        self.log_probabilities_ = _round_logs(chains.log_p[place])
        self.log_unseen_ = _round_logs(chains.log_unseen)

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Put the personas in another order."""
        self.weights_ = self.weights_[order]
        self.log_probabilities_ = self.log_probabilities_[:, order]
        self.log_unseen_ = self.log_unseen_[:, order]

    def predict_proba(self, X: Counts) -> Floats:
        """With which probability does each customer belong to each persona? Rows sum to 1."""
        joint = self._judge(X)
        return np.exp(joint - sum_logs(joint)).T

    def predict(self, X: Counts) -> NDArray[np.int64]:
        """Which persona is each customer most likely to be? Integers from 0, by falling size."""
        component: NDArray[np.int64] = self._judge(X).argmax(axis=0)
        return component

    def score_samples(self, X: Counts) -> Floats:
        """How likely is each customer's history under the mixture? Natural logarithms."""
        return sum_logs(self._judge(X))

    def score(self, X: Counts, y: None = None, sample_weight: ArrayLike | None = None) -> float:
        """How likely are the customers on average? Log-likelihood per customer, natural logarithm."""
        return float(np.average(self.score_samples(X), weights=_check_weights(sample_weight, X)))

    def bic(self, X: Counts, sample_weight: ArrayLike | None = None) -> float:
        """How well does the mixture pay for its parameters? Bayesian information criterion, the lower the better.

        Schwarz (1978), with `n_parameters_` and the number of customers as sample size. With many events and few
        customers it is far too thrifty, since it charges in full for transitions that a persona hardly makes.
        """
        weights = _check_weights(sample_weight, X)
        return float(-2 * (self.score_samples(X) * weights).sum() + self.n_parameters_ * np.log(weights.sum()))

    def icl(self, X: Counts, sample_weight: ArrayLike | None = None) -> float:
        """How well does it pay for its parameters, if customers must be told apart too? The lower the better.

        Integrated completed likelihood (Biernacki, Celeux & Govaert 2000): `bic` plus twice the entropy of the
        assignment, in nats.
        """
        joint = self._judge(X)
        log_share = joint - sum_logs(joint)
        entropy = -(np.exp(log_share) * log_share).sum(axis=0) @ _check_weights(sample_weight, X)
        return self.bic(X, sample_weight) + 2 * float(entropy)

    def sample(
        self,
        n_samples: int = 1,
        *,
        n_journeys: ArrayLike | None = None,
        n_events: ArrayLike | None = None,
        random_state: int = 0,
    ) -> tuple[sparse.csr_array, NDArray[np.int64]]:
        """What would customers of this mixture do?

        Parameters
        ----------
        n_samples : int
            How many customers.
        n_journeys : int or array of shape (n_samples,), optional
            How many journeys each makes. Default: as many as fit into their events.
        n_events : int or array of shape (n_samples,), optional
            For how many events each is watched; the journey under way stays open. Default: with `n_journeys`, to the
            end of the last; without, as many as a customer of the fit drawn at random (see `histories_`).
        random_state : int
            Seed. What is drawn does not depend on the order of events; it does on that of customers.

        Returns
        -------
        tuple
            Counts as `fit` takes them, a scipy.sparse.csr_array (n_samples, n_columns), and each customer's persona,
            from 0. Every event makes every emission.
        """
        check_is_fitted(self)
        rng = np.random.default_rng(random_state)
        persona = rng.choice(len(self.weights_), size=n_samples, p=self.weights_ / self.weights_.sum())
        if n_events is None and n_journeys is None:
            n_events = np.maximum(rng.choice(self.histories_[0], size=n_samples, p=self.histories_[1]), 1)
        if n_events is None and self.exit_.max(axis=1).min() < _LEAST_EXIT:
            raise RuleError("sample: some personas were never seen to end a journey; say when to stop with n_events")
        journeys, events = (
            np.broadcast_to(np.asarray(np.inf if limit is None else limit, dtype=np.float64), n_samples)
            for limit in (n_journeys, n_events)
        )
        return draw_counts(self, persona, n_journeys=journeys, n_events=events, rng=rng), persona

    def _judge(self, X: Counts) -> Floats:
        check_is_fitted(self)
        return self._joint(self._check(X, reset=False))

    def _joint(self, counts: sparse.csr_array) -> Floats:
        """Log of share times likelihood, shape (k, n_customers)."""
        table = np.vstack([self.log_probabilities_, self.log_unseen_])
        data = counts.data, self.find_rows(counts.indices), counts.indptr
        log_w = _round_logs(np.log(self.weights_))
        return by_persona(sparse.csr_array(data, shape=(counts.shape[0], len(table))) @ table, log_w)

    def find_rows(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in `log_probabilities_` do columns of `X` stand, or else, counted on, in `log_unseen_`?"""
        place = np.searchsorted(self.columns_, columns)
        is_seen = np.append(self.columns_, -1)[place] == columns
        return np.where(is_seen, place, len(self.columns_) + self.layout_.read_draws(columns))

    def _check(self, X: Counts, *, reset: bool) -> sparse.csr_array:
        checked = validate_data(self, X, reset=reset, accept_sparse="csr", dtype=np.float64, ensure_non_negative=True)
        counts = sparse.csr_array(checked, copy=True)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        return counts

    @property
    def layout_(self) -> Layout:
        """Which column is what."""
        return Layout(self.n_events_, tuple(self.emissions))

    @property
    def start_(self) -> Floats:
        """Start probabilities, shape (k, n_events)."""
        return self._spread()[0]

    @property
    def transition_(self) -> Floats:
        """Transition probabilities, shape (k, n_events, n_events); with `exit_`, each event's row sums to 1."""
        _, moves, _, goes_on, *_ = self._spread()
        return moves.reshape(len(moves), self.n_events_, -1) * goes_on[:, :, None]

    @property
    def exit_(self) -> Floats:
        """Probability that the journey ends after an event, shape (k, n_events)."""
        return self._spread()[2]

    @property
    def emission_(self) -> list[Floats]:
        """Probabilities of the outcomes of each emission, shape (k, n_events, n_outcomes); rows sum to 1."""
        return [table.reshape(len(table), self.n_events_, -1) for table in self._spread()[4:]]

    def _spread(self) -> list[Floats]:
        """Probabilities of all columns by their kind, each (k, n): starts, moves, ends, continuations, emissions."""
        table = self.log_unseen_[self.layout_.read_draws(np.arange(self.layout_.bounds[-1]))]
        table[self.columns_] = self.log_probabilities_
        return np.split(np.exp(table).T, self.layout_.bounds[:-1], axis=1)


def _count_events(n_columns: int, emissions: tuple[int, ...]) -> int:
    # of n * n + (3 + outcomes) * n columns, the whole n
    linear = 3 + sum(emissions)
    n_events = (isqrt(linear**2 + 4 * n_columns) - linear) // 2
    if min(emissions, default=1) < 1 or n_events < 1 or n_events * (n_events + linear) != n_columns:
        sizes = ", ".join(f"{n * (n + linear):,}" for n in (1, 2, 3))
        raise RuleError(
            f"X has {n_columns:,} feature(s); for n events it needs n starts, n * n transitions, n ends, n "
            f"continuations and n for each outcome of an emission: {sizes} … with emissions={emissions}"
        )
    return n_events


def _round_logs(logs: Floats) -> Floats:
    rounded: Floats = np.rint(np.maximum(logs, _LEAST_LOG) * LOG_STEPS) / LOG_STEPS
    return rounded


def _check_weights(sample_weight: ArrayLike | None, X: Counts) -> Floats:
    weights: Floats = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return weights
