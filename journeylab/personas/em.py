"""Climbing to the most likely mixture of Markov chains: folded evidence, seeded starts, steps of EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from journeylab.personas.folding import fold_rows, order_by_content

Floats = NDArray[np.float64]

# Deterministic annealing (Ueda & Nakano 1998): a restart sees the evidence dimmed by these factors first, lest it
# settle on its accidental seeds, and then as it is. Restarts begin at the first, second or third factor in turn, for
# much dimming can also melt two personas into one.
_HEATS = (0.3, 0.5, 0.7)
_STEPS_PER_HEAT = 7
_STEPS_OF_RESTART = 10
_KMEANS_ROWS = 5_000
_KMEANS_STEPS = 5


@dataclass(frozen=True)
class Layout:
    """Which column of the counts is which outcome of which draw?

    For n events: n starts, n * n moves, n ends, n continuations; then n * m columns for each emission of m outcomes.
    Moves and emissions come event by event. Draws are numbered: 0 the start; then, of each event in turn, where to;
    after all of these whether to go on, and after these each emission.
    """

    n_events: int
    emissions: tuple[int, ...] = ()

    @property
    def bounds(self) -> NDArray[np.int64]:
        """First column of the moves, ends, continuations and each emission, and the number of all columns."""
        n = self.n_events
        return np.cumsum([n, n * n, n, n, *(n * m for m in self.emissions)])

    def count_outcomes(self) -> NDArray[np.int64]:
        """How many outcomes has each draw?"""
        n = self.n_events
        return np.repeat([n, n, 2, *self.emissions], [1, n, n, *(n for _ in self.emissions)])

    def read_draws(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which draw are columns outcomes of?"""
        n, bounds = self.n_events, self.bounds
        kind = np.searchsorted(bounds, columns, side="right")
        event = (columns - np.append(0, bounds)[kind]) // np.array([n, n, 1, 1, *self.emissions])[kind]
        return np.where(kind == 0, 0, 1 + event + n * (kind - 1 - (kind > 2)))


@dataclass(frozen=True, eq=False)
class Chains:
    """Logarithms of what EM estimates, one column per persona."""

    log_p: Floats  # (n_columns, k): of a column among those that it is drawn from
    log_unseen: Floats  # (n_draws, k): of a single column not seen, for each draw
    log_w: Floats  # (k,): share of the persona


@dataclass(frozen=True, eq=False)
class Evidence:
    """What EM looks at in each step: distinct customers by columns seen, both in an order that no name can change."""

    counts: sparse.csr_array
    weights: Floats
    draw: NDArray[np.int64]  # which draw each column is an outcome of
    by_draw: sparse.csr_array  # sums the outcomes of each draw
    prior: Floats  # outcomes that the prior adds to each column
    prior_unseen: Floats  # and to a single column not seen, for each draw
    prior_total: Floats  # to all outcomes of a draw

    def maximise(self, shares: Floats) -> Chains:
        """Which personas explain their customers best, when `shares` (n, k) tells what weight each has in each?"""
        seen = self.counts.T @ shares
        log_total = np.log(self.by_draw @ seen + self.prior_total[:, None])
        size = shares.sum(axis=0)
        return Chains(
            np.log(seen + self.prior[:, None]) - log_total[self.draw],
            np.log(self.prior_unseen)[:, None] - log_total,
            np.log(size + 1) - np.log(size.sum() + len(size)),
        )

    def expect(self, chains: Chains, heat: float = 1.0) -> tuple[Floats, float]:
        """What weight has each customer in each persona (n, k), and how likely is the log?"""
        joint = heat * by_persona(self.counts @ chains.log_p, chains.log_w)
        total = sum_logs(joint)
        return (np.exp(joint - total) * self.weights).T, float((total * self.weights).sum())

    def climb(self, chains: Chains, n_steps: int, tol: float) -> tuple[list[float], Chains]:
        """Run EM until the penalised log-likelihood gains less than `tol` per customer, at most `n_steps`."""
        all_unseen = self.prior_total - self.by_draw @ self.prior  # what the prior leaves to columns not seen
        path: list[float] = []
        for _ in range(n_steps):
            shares, log_likelihood = self.expect(chains)
            penalty = (self.prior[:, None] * chains.log_p).sum() + (all_unseen[:, None] * chains.log_unseen).sum()
            path.append(log_likelihood + float(penalty + chains.log_w.sum()))
            if len(path) > 1 and path[-1] - path[-2] < tol * self.weights.sum():
                break
            chains = self.maximise(shares)
        return path, chains


def gather_evidence(
    counts: sparse.csr_array, weights: Floats, columns: NDArray[np.int64], layout: Layout, smoothing: float
) -> tuple[Evidence, NDArray[np.int64]]:
    """Fold and sort the customers, and lay out the prior.

    `columns` tells which columns of `X` those of `counts` are; also returned is where each of them went.
    """
    counts, weights = fold_rows(counts, weights)
    rows, order = order_by_content(counts, weights)
    counts, weights = counts[rows][:, order], weights[rows]
    counts.sort_indices()  # so that sums run in this order too
    columns, seen = columns[order], counts.T @ weights
    draw, n_outcomes = layout.read_draws(columns), layout.count_outcomes()
    by_draw = sparse.csr_array((np.ones(len(draw)), (draw, np.arange(len(draw)))), (len(n_outcomes), len(draw)))
    # outcomes are alike to the prior; but whether to go on is as likely as after any event
    moves_end, ends_end, end = layout.bounds[1:4]
    is_exit, is_end = (columns >= moves_end) & (columns < ends_end), (columns >= moves_end) & (columns < end)
    exit_rate = np.clip(seen[is_exit].sum() / max(seen[is_end].sum(), 1), 1e-6, 1 - 1e-6)
    likely = np.where(is_end, np.where(is_exit, exit_rate, 1 - exit_rate), 1 / n_outcomes[draw])
    total = smoothing * np.maximum(by_draw @ (seen > 0), 1.0)
    return Evidence(counts, weights, draw, by_draw, total[draw] * likely, total / n_outcomes, total), np.argsort(order)


def climb_from_seeds(
    evidence: Evidence, k: int, *, n_init: int, max_iter: int, tol: float, seed: int
) -> tuple[list[float], Chains]:
    """Start `n_init` times, for a short run each, and climb on from the best; also returns the path of that climb."""
    runs = [_start(evidence, k, restart, tol, seed) for restart in range(n_init if k > 1 else 1)]
    _, chains = max(runs, key=lambda run: run[0][-1])
    return evidence.climb(chains, max_iter, tol)


def _start(evidence: Evidence, k: int, restart: int, tol: float, seed: int) -> tuple[list[float], Chains]:
    rng = np.random.default_rng([seed, restart])
    draw = _seed_by_kmeans if restart % 2 == 0 else _seed_by_customers
    chains = evidence.maximise(draw(evidence, k, rng))
    for heat in _HEATS[restart // 2 % len(_HEATS) :]:
        for _ in range(_STEPS_PER_HEAT):
            chains = evidence.maximise(evidence.expect(chains, heat)[0])
    return evidence.climb(chains, _STEPS_OF_RESTART, tol)


def _seed_by_kmeans(evidence: Evidence, k: int, rng: np.random.Generator) -> Floats:
    """Each customer in the nearest of k directions of log counts: spherical k-means, begun as k-means++."""
    logs = evidence.counts.copy()
    logs.data = np.log1p(logs.data)
    lengths = np.sqrt(logs.multiply(logs).sum(axis=1))
    logs = (sparse.diags_array(1 / np.maximum(lengths, 1e-12)) @ logs).tocsr()
    chosen = rng.choice(logs.shape[0], size=min(logs.shape[0], _KMEANS_ROWS), replace=False)
    sample, weights = logs[chosen], evidence.weights[chosen]
    centres = np.zeros((k, logs.shape[1]))
    distance = np.ones(len(chosen))
    for centre in centres:
        odds = weights * distance
        centre[:] = sample[[rng.choice(len(odds), p=odds / odds.sum())]].toarray()[0]
        distance = np.maximum(np.minimum(distance, 1 - sample @ centre), 1e-12)
    for _ in range(_KMEANS_STEPS):
        members = np.eye(k)[(sample @ centres.T).argmax(axis=1)] * weights[:, None]
        centres = (sample.T @ members).T
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    shares: Floats = np.eye(k)[(logs @ centres.T).argmax(axis=1)] * evidence.weights[:, None]
    return shares


def _seed_by_customers(evidence: Evidence, k: int, rng: np.random.Generator) -> Floats:
    """Each persona around one customer drawn at random, all others still out."""
    shares = np.zeros((len(evidence.weights), k))
    chosen = rng.choice(len(shares), size=k, replace=False, p=evidence.weights / evidence.weights.sum())
    shares[chosen, np.arange(k)] = 1.0
    return shares


def by_persona(log_likelihood: Floats, log_w: Floats) -> Floats:
    """Weigh log-likelihoods (n, k) by the shares, turned to (k, n): what runs over personas then runs on long rows."""
    joint: Floats = np.ascontiguousarray(log_likelihood.T)
    joint += log_w[:, None]
    return joint


def sum_logs(joint: Floats) -> Floats:
    """Take the logarithm of the sum over personas (rows), safe from underflow."""
    top: Floats = joint.max(axis=0)
    top += np.log(np.exp(joint - top).sum(axis=0))
    return top
