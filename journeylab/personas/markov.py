# ruff: noqa: N803  (scikit-learn calls its input X)
"""A mixture of first-order Markov chains: every persona is a small model of a journey.

Cadez, Heckerman, Meek, Smyth & White (2003), "Model-based clustering and visualization of navigation patterns on a web
site", Data Mining and Knowledge Discovery 7. A persona draws the first event, then after each event whether the journey
ends, and if not, the next event. All that matters of a customer is how often each draw came out how, so the data are
one sparse row of counts per customer, and one step of EM is two sparse products.
"""

from __future__ import annotations

from math import isqrt
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator

from journeylab.errors import RuleError
from journeylab.personas.em import Chains, Floats, by_persona, climb_from_seeds, gather_evidence, read_draws, sum_logs

Counts: TypeAlias = ArrayLike | sparse.sparray | sparse.spmatrix


class MarkovMixture(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Which kinds of journey do customers mix, and who belongs to which?

    Input `X` has one row per customer and, for n events, n + n * n + n + n columns: how many journeys started with each
    event; how often event i was followed by event j (column n + i * n + j); how many journeys ended after each event;
    how often one was seen to go on after it. Where it is not yet known whether a journey ended, count neither of the
    last two: an open journey has made no exit, and near the end of observation a next event shows before an exit could.

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
    random_state : int
        Seed; the same seed gives the same fit, whatever the order of rows or events.

    Attributes
    ----------
    weights_ : ndarray of shape (k,)
        Share of each persona; personas come by falling number of customers assigned.
    columns_ : ndarray of shape (n_columns,)
        The columns of `X` that were seen, and those of ends and continuations.
    log_probabilities_ : ndarray of shape (n_columns, k)
        Log-probability of each of them among the outcomes of its draw.
    log_unseen_ : ndarray of shape (1 + 2 * n_events, k)
        Log-probability of each single column not seen, for the draws: start, where to after each event, whether to.
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
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.smoothing = smoothing
        self.random_state = random_state

    def fit(self, X: Counts, y: None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn shares, start, transition and exit probabilities by EM.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_customers, n + n * n + n + n)
        y : None
            Not used; scikit-learn passes it.
        sample_weight : array of shape (n_customers,), optional
            How many customers a row stands for; 1 each if not given.

        Raises
        ------
        RuleError
            If `X` has no such shape, holds negative or missing counts, or has fewer distinct rows than `n_components`.
        """
        counts, weights = _check_counts(X), _check_weights(sample_weight, X)
        if self.n_init < 1 or self.smoothing <= 0:
            raise RuleError(f"n_init={self.n_init} must be at least 1 and smoothing={self.smoothing} above 0")
        self.n_features_in_ = counts.shape[1]
        self.n_events_ = _count_events(counts.shape[1])
        ends = np.arange(self.n_features_in_ - 2 * self.n_events_, self.n_features_in_)
        self.columns_ = np.union1d(counts.indices, ends)
        evidence, place = gather_evidence(
            counts[:, self.columns_], weights, self.columns_, self.n_events_, self.smoothing
        )
        n_distinct = len(evidence.weights)
        if not 1 <= self.n_components <= n_distinct:
            raise RuleError(
                f"k (n_components) is {self.n_components}, but only {n_distinct:,} customers differ "
                f"({counts.shape[0]:,} rows); choose a number from 1 to {n_distinct:,}"
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
        self._take(chains, place, np.arange(self.n_components))
        # by falling size, as the customers are assigned; the share decides between personas of one size
        sizes = np.bincount(self.predict(counts), weights=weights, minlength=self.n_components)
        self._take(chains, place, np.lexsort((-self.weights_, -sizes)))
        return self

    def _take(self, chains: Chains, place: NDArray[np.int64], order: NDArray[np.int64]) -> None:
        self.weights_ = np.exp(chains.log_w[order])
        self.log_probabilities_ = chains.log_p[place][:, order]
        self.log_unseen_ = chains.log_unseen[:, order]

    def predict_proba(self, X: Counts) -> Floats:
        """With which probability does each customer belong to each persona? Rows sum to 1."""
        joint = self._joint(X)
        return np.exp(joint - sum_logs(joint)).T

    def predict(self, X: Counts) -> NDArray[np.int64]:
        """Which persona is each customer most likely to be? Integers from 0, by falling size."""
        component: NDArray[np.int64] = self._joint(X).argmax(axis=0)
        return component

    def score_samples(self, X: Counts) -> Floats:
        """How likely is each customer's history under the mixture? Natural logarithms."""
        return sum_logs(self._joint(X))

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

    def _joint(self, X: Counts) -> Floats:
        """Log of share times likelihood, shape (k, n_customers)."""
        counts = _check_counts(X)
        if counts.shape[1] != self.n_features_in_:
            raise RuleError(f"X has {counts.shape[1]:,} columns; the mixture was fitted on {self.n_features_in_:,}")
        place = np.searchsorted(self.columns_, counts.indices)
        known = np.append(self.columns_, -1)[place] == counts.indices
        # a column never seen reads the row of its draw, below those seen
        below = len(self.columns_) + read_draws(counts.indices, self.n_events_)
        table = np.vstack([self.log_probabilities_, self.log_unseen_])
        data = counts.data, np.where(known, place, below), counts.indptr
        return by_persona(sparse.csr_array(data, shape=(counts.shape[0], len(table))) @ table, np.log(self.weights_))

    @property
    def start_(self) -> Floats:
        """Start probabilities, shape (k, n_events)."""
        return self._spread()[:, : self.n_events_]

    @property
    def transition_(self) -> Floats:
        """Transition probabilities, shape (k, n_events, n_events); with `exit_`, each event's row sums to 1."""
        n, p = self.n_events_, self._spread()
        return p[:, n : n + n * n].reshape(-1, n, n) * p[:, -n:, None]

    @property
    def exit_(self) -> Floats:
        """Probability that the journey ends after an event, shape (k, n_events)."""
        return self._spread()[:, -2 * self.n_events_ : -self.n_events_]

    def _spread(self) -> Floats:
        table = self.log_unseen_[read_draws(np.arange(self.n_features_in_), self.n_events_)]
        table[self.columns_] = self.log_probabilities_
        return np.exp(table).T


def _count_events(n_columns: int) -> int:
    n_events = (isqrt(9 + 4 * n_columns) - 3) // 2
    if n_events < 1 or n_events * (n_events + 3) != n_columns:
        raise RuleError(
            f"X has {n_columns:,} columns; for n events it needs n starts, n * n transitions, n ends and n "
            "continuations (4 for one event, 10 for two, 18 for three)"
        )
    return n_events


def _check_counts(X: Counts) -> sparse.csr_array:
    counts = sparse.csr_array(X, dtype=np.float64, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    n_wrong = int((~(np.isfinite(counts.data) & (counts.data > 0))).sum())
    if n_wrong:
        raise RuleError(f"X holds {n_wrong:,} negative or missing counts; expected numbers from 0")
    return counts


def _check_weights(sample_weight: ArrayLike | None, X: Counts) -> Floats:
    n_rows = np.shape(X)[0]
    weights = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise RuleError(f"sample_weight has shape {weights.shape}; expected one weight for each of {n_rows:,} rows")
    n_wrong = int((~(np.isfinite(weights) & (weights > 0))).sum())
    if n_wrong:
        raise RuleError(f"sample_weight holds {n_wrong:,} weights that are not above 0; leave those rows out")
    return weights
