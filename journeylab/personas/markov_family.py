"""What the search for personas needs to know of mixtures of Markov chains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from journeylab.personas.drawing import draw_counts
from journeylab.personas.family import Family, Predict, Weights
from journeylab.personas.folding import fold_rows, order_by_content
from journeylab.personas.markov import MarkovMixture

_MOST_CUSTOMERS = 10_000  # enough to see a persona of a few percent; keeps the search to seconds
_LEAST_CUSTOMERS = 30
_PARTS = 5
_RESTARTS = 4
_STEPS = 100  # where nothing is to be found, EM wanders on without end
# A gain below this is nothing that one customer's history could tell: of a nat, in which a coin holds 0.69
_LEAST_GAIN = 0.02


def markov_family(moves: sparse.csr_array, *, emissions: tuple[int, ...] = ()) -> Family:
    """What tells `choose_personas` of mixtures of Markov chains?

    Parameters
    ----------
    moves : scipy.sparse.csr_array
        One row per customer, as `MarkovMixture` reads it.
    emissions : tuple of int
        How many outcomes each emission has.

    Returns
    -------
    Family
        rows: the distinct rows of `moves`, in an order that no name can change. fit: `MarkovMixture` with its defaults,
        so that `rows` get the personas of a mixture fitted to `moves` with the same seed; any other customers fewer
        steps. score_k: see `_score`. draw_null: up to 10,000 customers, each doing as many events as one of the log,
        all by the one chain that fits the log best; journeys are as long as that chain makes them.
    """
    rows, weights = fold_rows(moves, np.ones(moves.shape[0]))
    order, _ = order_by_content(rows, weights)
    rows, weights = rows[order], weights[order]

    def fit(some: sparse.csr_array, of_each: Weights, k: int, seed: int) -> Predict:
        mixture = MarkovMixture(k, emissions=emissions, random_state=seed)
        if some is not rows:
            mixture.set_params(max_iter=_STEPS)
        predict: Predict = mixture.fit(some, sample_weight=of_each).predict
        return predict

    def score_k(ks: Sequence[int], seed: int) -> pd.DataFrame:
        return _score(rows, weights, ks, emissions, seed)

    @cache
    def fit_chain() -> MarkovMixture:
        return MarkovMixture(1, emissions=emissions).fit(rows, sample_weight=weights)

    def draw_null(seed: int) -> sparse.csr_array:
        chain, rng = fit_chain(), np.random.default_rng(seed)
        n_events = rows[:, : chain.layout_.bounds[1]].sum(axis=1)[_draw_customers(weights, rng)]
        who = np.zeros(len(n_events), dtype=np.int64)
        endless = np.full(len(n_events), np.inf)
        return draw_counts(chain, who, n_journeys=endless, n_events=np.maximum(n_events, 1), rng=rng)

    return Family(rows, weights, fit, score_k, draw_null)


def _score(
    rows: sparse.csr_array, weights: Weights, ks: Sequence[int], emissions: tuple[int, ...], seed: int
) -> pd.DataFrame:
    """How well does each number of personas foresee customers that it has not seen?

    Up to 10,000 customers, drawn by `seed`, are parted in five; mixtures learn from four parts and foresee the fifth,
    each part in turn. Chosen is the smallest k whose log-likelihood per held-out customer is within one standard error
    of the best, or within 0.02 of it.

    The standard error is that of the paired differences, customer by customer, for their lengths differ far more than
    the models do. Moves that nobody in the four parts made are not judged: how likely they are is the prior's guess,
    not a persona's. BIC and ICL stand beside it and do not choose: with many events they charge for parameters that
    hardly play a part, and see one persona where there are five.

    Returns
    -------
    pandas.DataFrame
        k (as far as so many customers differ), log_likelihood (per held-out customer, natural logarithm), behind_best
        (what it lacks to the best k), behind_best_se (standard error of that), bic, icl (both on the four parts last
        learned from), chosen (bool). With fewer than thirty customers only k = 1, and nothing is held out.
    """
    drawn = rows[_draw_customers(weights, np.random.default_rng(seed))]
    if drawn.shape[0] < _LEAST_CUSTOMERS:
        single = MarkovMixture(1, emissions=emissions).fit(drawn)
        unknown = {"log_likelihood": np.nan, "behind_best": np.nan, "behind_best_se": np.nan}
        return pd.DataFrame([{"k": 1, **unknown, "bic": single.bic(drawn), "icl": single.icl(drawn), "chosen": True}])
    splits = _split(drawn)
    n_distinct = min(fold_rows(learn, np.ones(learn.shape[0]))[0].shape[0] for learn, _ in splits)
    tried = [k for k in ks if k <= max(n_distinct, min(ks))]
    foreseen, prices = [], []
    for k in tried:
        mixture = MarkovMixture(k, n_init=_RESTARTS, max_iter=_STEPS, emissions=emissions, random_state=seed)
        foreseen.append(np.concatenate([mixture.fit(learn).score_samples(judge) for learn, judge in splits]))
        prices.append((mixture.bic(splits[-1][0]), mixture.icl(splits[-1][0])))
    log_likelihood = np.array(foreseen)
    mean = log_likelihood.mean(axis=1)
    behind = log_likelihood[mean.argmax()] - log_likelihood
    error = behind.std(axis=1, ddof=1) / np.sqrt(behind.shape[1])
    good_enough = behind.mean(axis=1) <= np.maximum(error, _LEAST_GAIN)
    return pd.DataFrame(
        {
            "k": tried,
            "log_likelihood": mean,
            "behind_best": behind.mean(axis=1),
            "behind_best_se": error,
            "bic": [bic for bic, _ in prices],
            "icl": [icl for _, icl in prices],
            "chosen": np.arange(len(tried)) == good_enough.argmax(),
        }
    )


def _split(drawn: sparse.csr_array) -> list[tuple[sparse.csr_array, sparse.csr_array]]:
    """Customers to learn from and others to judge by, the latter without moves that none of the former made."""
    part = np.arange(drawn.shape[0]) % _PARTS
    splits = []
    for held_out in range(_PARTS):
        learn, judge = drawn[part != held_out], drawn[part == held_out]
        judge.data *= (learn.sum(axis=0) > 0)[judge.indices]
        splits.append((learn, judge))
    return splits


def _draw_customers(weights: Weights, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of up to 10,000 customers, in random order."""
    n_customers = int(weights.sum())
    drawn = rng.choice(n_customers, size=min(n_customers, _MOST_CUSTOMERS), replace=False)
    return np.searchsorted(weights.cumsum(), drawn, side="right")
