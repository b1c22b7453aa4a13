"""Moments that matter: the stages at which feeling or drop-off differs from all others by more than noise."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from journeylab.journeymap.model import tidy_moments
from journeylab.shares import compare_shares

# A stage is called a moment that matters on one side of a meeting and acted on after it: rather one too few.
_LEVEL = 0.01
# Less than this nobody would act on: a fifth of the way from neutral to delighted, ten of a hundred journeys.
_LEAST = {"feeling": 0.2, "drop_off": 0.1}
_LEAST_STAGES = 3
_LEAST_N = 10

Row = dict[str, Any]


def find_moments(reach: pd.DataFrame, feelings: pd.DataFrame) -> pd.DataFrame:
    """At which stages does feeling or drop-off turn, by more than noise?

    Each stage against all others together. The surest is taken out and the rest are compared anew, so that one bad
    stage does not make all others look good. A moment differs with p below 1 % (Holm over both measures and all
    stages), and by at least 0.2 in feeling, or ten points more of drop-off: that the last stages lose fewer is no news.

    Parameters
    ----------
    reach
        From `count_reach`: stage, n_lost, n_known.
    feelings
        stage, n (customers), sum and squares of their feelings (one per customer and stage, -1 to 1).

    Returns
    -------
    pandas.DataFrame
        As `JourneyMap.moments`, moments first; without any where there are fewer than three stages to compare.
    """
    tested = [_compare_lost(reach), _compare_feelings(feelings)]
    rows = [row for measure in tested for row in _step_down(measure, n_tests=sum(len(each) for each in tested))]
    rows.sort(key=lambda row: (not row["is_moment"], row["p_adjusted"], row["measure"], row["stage"]))
    return tidy_moments(rows)


class _Measure:
    """Stages that can be set against each other in one respect."""

    def __init__(self, name: str, table: pd.DataFrame) -> None:
        self.name = name
        self.table = table

    def __len__(self) -> int:
        return len(self.table) if len(self.table) >= _LEAST_STAGES else 0

    def compare(self, kept: pd.DataFrame) -> pd.DataFrame:
        """Each of these stages against the others of them: value, value_other, difference, low, high, p."""
        raise NotImplementedError


class _Lost(_Measure):
    def compare(self, kept: pd.DataFrame) -> pd.DataFrame:
        table = kept.assign(
            n_reached=kept["n_lost"],
            n=kept["n_known"],
            n_reached_other=kept["n_lost"].sum() - kept["n_lost"],
            n_other=kept["n_known"].sum() - kept["n_known"],
        )
        compared = compare_shares(table, min_n=_LEAST_N)
        return compared.rename(columns={"share": "value", "share_other": "value_other"})


class _Felt(_Measure):
    def compare(self, kept: pd.DataFrame) -> pd.DataFrame:
        """Welch's test: neither the spread nor the number of answers need be alike."""
        from scipy import stats

        one, other = kept, {name: kept[name].sum() - kept[name] for name in ("n", "sum", "squares")}
        value, spread = _mean_and_error(one["n"], one["sum"], one["squares"])
        value_other, spread_other = _mean_and_error(other["n"], other["sum"], other["squares"])
        error = (spread + spread_other) ** 0.5
        # Answers that are all alike have no spread; that proves nothing.
        free = error**4 / (spread**2 / (one["n"] - 1) + spread_other**2 / (other["n"] - 1)).where(error > 0)
        reach = stats.t.ppf(0.975, free) * error
        difference = value - value_other
        p = 2 * stats.t.sf((difference / error.where(error > 0)).abs(), free)
        return kept.assign(
            value=value,
            value_other=value_other,
            difference=difference,
            low=difference - reach,
            high=difference + reach,
            p=p,
        )


def _mean_and_error(n: pd.Series, total: pd.Series, squares: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The mean, and the square of its standard error."""
    mean = total / n
    return mean, ((squares - n * mean**2) / (n - 1)).clip(lower=0) / n


def _compare_lost(reach: pd.DataFrame) -> _Measure:
    # At the stages where journeys end as they should, "lost" has no meaning: nobody is lost there.
    return _Lost("drop_off", reach[(reach["n_known"] >= _LEAST_N) & (reach["n_lost"] > 0)])


def _compare_feelings(feelings: pd.DataFrame) -> _Measure:
    return _Felt("feeling", feelings[feelings["n"] >= _LEAST_N])


def _step_down(measure: _Measure, *, n_tests: int) -> list[Row]:
    """Take out the surest moment, compare the rest anew, until none is sure."""
    rows: list[Row] = []
    kept = measure.table
    while len(kept) >= _LEAST_STAGES:
        compared = measure.compare(kept)
        compared = compared.assign(p_adjusted=(compared["p"] * (n_tests - len(rows))).clip(upper=1))
        # Only more of drop-off is a moment; a feeling may turn either way.
        size = compared["difference"].abs() if measure.name == "feeling" else compared["difference"]
        is_moment = (compared["p_adjusted"] < _LEVEL) & (size >= _LEAST[measure.name])
        if not is_moment.any():
            rows += [_as_row(row, measure.name, is_moment=False) for row in compared.to_dict("records")]
            break
        surest = compared[is_moment].assign(_size=size).sort_values(["p", "_size"], ascending=[True, False]).iloc[0]
        rows.append(_as_row(surest.to_dict(), measure.name, is_moment=True))
        kept = kept[kept["stage"] != surest["stage"]]
    return rows


def _as_row(row: dict[Any, Any], measure: str, *, is_moment: bool) -> Row:
    named = ("stage", "value", "value_other", "n", "difference", "low", "high", "p_adjusted")
    known = {name: row[name] for name in named}
    p = known["p_adjusted"]
    return known | {"measure": measure, "is_moment": is_moment, "p_adjusted": 1.0 if math.isnan(p) else p}
