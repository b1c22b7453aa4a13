"""How many personas do the customers support, and are they really there?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from journeylab.formats import format_count, format_number
from journeylab.language import gettext as _
from journeylab.personas.family import Family, Predict, Rows, Weights
from journeylab.personas.stability import bootstrap_personas, part_customers, search_null

Verdict = Literal["clear", "weak", "none"]
Fit: TypeAlias = Callable[[Rows, Weights, int, int], Predict]

# Hennig's reading of a mean Jaccard (manual of clusterboot in R's fpc): a stable cluster has 0.75 or more; between 0.6
# and 0.75 there is a pattern, but who belongs to it is doubtful; below, it should not be trusted.
_STABLE = 0.75
_TRUSTED = 0.6
_LOGS = 5  # of one persona; and partings into halves
_ALWAYS = 0.99  # who is always found again is there, however stable halves of one persona may be
_NULL_DEVIATIONS = 3  # above the mean of such logs: about one in forty lies higher, as far as five can tell


@dataclass(frozen=True, eq=False)
class Choice:
    """How many personas, and how sure are we of them? Made by `choose_personas`.

    Parameters
    ----------
    k : int
    k_search : pandas.DataFrame
        One row per k tried, with the figures by which the method judges it, and chosen (bool: what these figures speak
        for, also where k was given).
    stability : pandas.DataFrame
        One row per persona, by falling size: persona (int from 1), jaccard (mean over the bootstraps, 0 to 1: how much
        of it is found again; see `match_personas`), low and high (between which the middle 95 % of the bootstraps lie),
        is_stable (bool; one that is not should bear no name). One persona alone is always found again.
    prediction_strength : float
        Mean over partings into halves, 0 to 1; see `foretell_personas`. 1 for one persona.
    null_jaccard, null_strength : float
        What mean Jaccard and prediction strength of k personas hardly exceed in logs of one persona, at most 0.99; NaN
        for k = 1.
    verdict : "clear", "weak" or "none"
        none: one persona explains the data as well, or nothing shows that it does not. weak: there are several kinds,
        but some of these personas may not be there. clear: all are.
    reason : str
        Why, in a sentence.
    """

    k: int
    k_search: pd.DataFrame
    stability: pd.DataFrame
    prediction_strength: float
    null_jaccard: float
    null_strength: float
    verdict: Verdict
    reason: str


def choose_personas(
    family: Family, ks: Sequence[int], *, seed: int = 0, n_boot: int = 20, progress: bool = False
) -> Choice:
    """How many personas do the customers support, and are they really there?

    The method's own figures choose k. Whether its personas are found again, and better than in logs of one persona,
    does not change k: it decides about the verdict, and which of them bear a name.

    Parameters
    ----------
    family : Family
        Of a method, such as `markov_family`. Its rows come in an order that no name can change.
    ks : sequence of int
        The numbers to choose from, from 1 on; or one that is given, beside which one persona is tried.
    seed : int
        From 0; the same seed gives the same choice.
    n_boot : int
        Bootstraps of the customers, from 1. Partings into halves and logs of one persona are five each.
    progress : bool
        Show a bar.

    Raises
    ------
    RuleError
        If fewer customers differ than a given k.
    """
    with warnings.catch_warnings():
        # Without ipywidgets it warns, and draws its bar as text.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    with tqdm(total=2 + n_boot + 6 * _LOGS, desc=_("personas"), unit=_("fit"), disable=not progress) as bar:
        k_search = family.score_k(sorted({1, *ks}), seed)
        bar.update()
        k = ks[0] if len(ks) == 1 else _read_chosen(k_search)
        if k == 1:
            return _choose_one(k_search, family)
        family = replace(family, fit=_tell(family.fit, bar.update))
        labels = family.fit(family.rows, family.weights, k, seed)(family.rows)
        jaccards = bootstrap_personas(family, k, labels, seed=seed, n_boot=n_boot)
        strength = part_customers(family, k, seed=seed, n_parts=_LOGS)
        null = search_null(family, k, seed=seed, n_logs=_LOGS)
    return _judge(k_search, family, jaccards, float(strength.mean()), *map(_bound_null, null))


def _tell(fit: Fit, tick: Callable[[], object]) -> Fit:
    """The same, and moves the bar on."""

    def fit_and_tick(rows: Rows, weights: Weights, k: int, seed: int) -> Predict:
        predict = fit(rows, weights, k, seed)
        tick()
        return predict

    return fit_and_tick


def _choose_one(k_search: pd.DataFrame, family: Family) -> Choice:
    stability = pd.DataFrame([{"persona": 1, "jaccard": 1.0, "low": 1.0, "high": 1.0, "is_stable": True}])
    reason = f"{_tell_one(k_search, family)}."
    return Choice(1, k_search, stability, 1.0, float("nan"), float("nan"), "none", reason)


def _judge(
    k_search: pd.DataFrame,
    family: Family,
    jaccards: Weights,
    strength: float,
    null_jaccard: float,
    null_strength: float,
) -> Choice:
    k, jaccard = jaccards.shape[1], jaccards.mean(axis=0)
    low, high = np.quantile(jaccards, [0.025, 0.975], axis=0)
    stability = pd.DataFrame({"persona": np.arange(1, k + 1), "jaccard": jaccard, "low": low, "high": high})
    stability["is_stable"] = jaccard >= _TRUSTED
    is_above = jaccard.mean() > null_jaccard, strength > null_strength
    doubtful = stability[jaccard < _STABLE]
    verdict: Verdict = "none"
    if _read_chosen(k_search) == 1:
        what = _tell_one(k_search, family)
    elif not any(is_above):
        # a score that can speak for one persona has spoken: there are several kinds, but who is which nobody can tell
        verdict = "weak" if _judges_one(k_search) else "none"
        if verdict == "weak":
            what = _(
                "{k} personas explain the customers better than one, but are found again no better than where there is "
                "only one",
                k=k,
            )
        else:
            what = _("{k} personas are found again no better than where there is only one", k=k)
    elif len(doubtful) or not all(is_above):
        verdict, what = "weak", _tell_doubts(k, doubtful)
    else:
        verdict, what = "clear", _("All {k} personas are found again when customers are redrawn", k=k)
    reason = _(
        "{finding} (mean Jaccard {jaccard}, in logs of one persona up to {null_jaccard}; prediction strength "
        "{strength}, there up to {null_strength}).",
        finding=what,
        jaccard=format_number(jaccard.mean()),
        null_jaccard=format_number(null_jaccard),
        strength=format_number(strength),
        null_strength=format_number(null_strength),
    )
    return Choice(k, k_search, stability, strength, null_jaccard, null_strength, verdict, reason)


def _read_chosen(k_search: pd.DataFrame) -> int:
    return int(k_search.loc[k_search["chosen"], "k"].iloc[0])


def _judges_one(k_search: pd.DataFrame) -> bool:
    """Has the method a figure for one persona, to set beside those for more? A silhouette has none."""
    figures = k_search.loc[k_search["k"] == 1].drop(columns=["k", "chosen"])
    return figures.size > 0 and bool(figures.iloc[0].notna().iloc[0])


def _bound_null(figures: Weights) -> float:
    # on the scale of angles, on which figures between 0 and 1 spread alike everywhere
    angles = np.arcsin(np.sqrt(figures))
    bound = np.sin(min(angles.mean() + _NULL_DEVIATIONS * angles.std(ddof=1), np.pi / 2)) ** 2
    return float(min(bound, _ALWAYS))


def _tell_one(k_search: pd.DataFrame, family: Family) -> str:
    n, most = format_count(family.weights.sum()), int(k_search["k"].max())
    if most == 1:
        return _("{n} customers are too few, or too much alike, to be told apart", n=n)
    if len(k_search) == 2:
        return _("One persona explains the {n} customers as well as {k} do", n=n, k=most)
    return _("One persona explains the {n} customers as well as any number up to {k} does", n=n, k=most)


def _tell_doubts(k: int, doubtful: pd.DataFrame) -> str:
    if doubtful.empty:
        return _("{k} personas stand out from those of customers who are all alike by one measure only", k=k)
    # rounded down, lest 0.749 be said to be less than 0.75
    shown = np.floor(100 * doubtful["jaccard"]) / 100
    numbers = [
        f"{persona} ({format_number(jaccard)})" for persona, jaccard in zip(doubtful["persona"], shown, strict=True)
    ]
    listed = numbers[-1]
    if len(numbers) > 1:
        listed = _("{several} and {last}", several=", ".join(numbers[:-1]), last=numbers[-1])
    return _(
        "Of {k} personas, less than {least} is found again of {listed} when customers are redrawn",
        k=k,
        least=format_number(_STABLE),
        listed=listed,
    )
