"""How many personas do the customers support?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from journeylab.personas.folding import fold_rows, order_by_content
from journeylab.personas.markov import MarkovMixture

if TYPE_CHECKING:
    from scipy import sparse

_MOST_CUSTOMERS = 10_000  # enough to see a persona of a few percent; keeps the search to seconds
_FEW_CUSTOMERS = 1_000  # up to here every customer is held out once; above, one fifth is enough
_LEAST_CUSTOMERS = 30
_PARTS = 5
_RESTARTS = 4
_STEPS = 100  # where nothing is to be found, EM wanders on without end
# A gain below this is nothing that one customer's history could tell: of a nat, in which a coin holds 0.69
_LEAST_GAIN = 0.02


def search_k(moves: sparse.csr_array, *, k_max: int, seed: int) -> pd.DataFrame:
    """How well does each number of personas foresee customers that it has not seen?

    Up to 10,000 customers, drawn by `seed`, are parted in five; mixtures of 1 to `k_max` personas learn from four parts
    and foresee the fifth (each part in turn up to 1,000 customers). Chosen is the smallest k whose log-likelihood per
    held-out customer is within one standard error of the best, or within 0.02 of it.

    The standard error is that of the paired differences, customer by customer, for their lengths differ far more than
    the models do. Moves that nobody in the four parts made are not judged: how likely they are is the prior's guess,
    not a persona's. BIC stands beside it and does not choose: with many events it charges for parameters that hardly
    play a part, and sees one persona where there are five.

    Parameters
    ----------
    moves : scipy.sparse.csr_array
        One row per customer, as `MarkovMixture` reads it.
    k_max : int
        Largest k tried; less where the customers are not so many or all alike.

    Returns
    -------
    pandas.DataFrame
        k, log_likelihood (per held-out customer, natural logarithm), behind_best (what it lacks to the best k),
        behind_best_se (standard error of that), bic (on the four parts last learned from), chosen (bool). With fewer
        than thirty customers only k = 1, and nothing is held out.
    """
    if moves.shape[0] < _LEAST_CUSTOMERS:
        nothing = {"log_likelihood": np.nan, "behind_best": np.nan, "behind_best_se": np.nan}
        return pd.DataFrame([{"k": 1, **nothing, "bic": MarkovMixture(1).fit(moves).bic(moves), "chosen": True}])
    splits = _split(moves, seed)
    n_distinct = min(fold_rows(learn, np.ones(learn.shape[0]))[0].shape[0] for learn, _ in splits)
    ks = np.arange(1, min(k_max, n_distinct) + 1)
    foreseen, bics = [], []
    for k in ks:
        mixture = MarkovMixture(int(k), n_init=_RESTARTS, max_iter=_STEPS, random_state=seed)
        foreseen.append(np.concatenate([mixture.fit(learn).score_samples(judge) for learn, judge in splits]))
        bics.append(mixture.bic(splits[-1][0]))
    log_likelihood = np.array(foreseen)
    mean = log_likelihood.mean(axis=1)
    behind = log_likelihood[mean.argmax()] - log_likelihood
    error = behind.std(axis=1, ddof=1) / np.sqrt(behind.shape[1])
    good_enough = behind.mean(axis=1) <= np.maximum(error, _LEAST_GAIN)
    return pd.DataFrame(
        {
            "k": ks,
            "log_likelihood": mean,
            "behind_best": behind.mean(axis=1),
            "behind_best_se": error,
            "bic": bics,
            "chosen": np.arange(len(ks)) == good_enough.argmax(),
        }
    )


def _split(moves: sparse.csr_array, seed: int) -> list[tuple[sparse.csr_array, sparse.csr_array]]:
    """Draw customers to learn from and others to judge by, the latter without moves that none of the former made."""
    # in an order without names, so that renaming customers or events draws the same ones
    order, _ = order_by_content(moves, np.ones(moves.shape[0]))
    drawn = moves[np.random.default_rng(seed).permutation(order)[:_MOST_CUSTOMERS]]
    part = np.arange(drawn.shape[0]) % _PARTS
    splits = []
    for held_out in range(_PARTS if drawn.shape[0] <= _FEW_CUSTOMERS else 1):
        learn, judge = drawn[part != held_out], drawn[part == held_out]
        judge.data *= (learn.sum(axis=0) > 0)[judge.indices]
        splits.append((learn, judge))
    return splits
