"""Moments that matter: the stages at which feeling or drop-off differs from all others by more than noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from journeylab.journeymap.model import tidy_moments
from journeylab.shares import compare_shares

# A stage is called a moment that matters on one side of a meeting and acted on after it: rather one too few.
_LEVEL = 0.01
# Less than this nobody would act on: a fifth of the way from neutral to delighted, ten of a hundred journeys.
_LEAST = {"feeling": 0.2, "drop_off": 0.1}
_LEAST_STAGES = 3

Row = dict[str, Any]


def find_moments(reach: pd.DataFrame, feelings: pd.DataFrame, *, min_n: int = 10) -> pd.DataFrame:
    """At which stages does feeling or drop-off turn, by more than noise?

    Each stage against all others together. The surest to differ is taken out and the rest are compared anew, so that
    one bad stage does not make all others look good. A moment differs with p below 1 % (Holm over both measures and all
    stages), and by at least 0.2 in feeling, or ten points more of drop-off: that fewer are lost somewhere is no news.

    Parameters
    ----------
    reach
        From `count_reach`: stage, n_lost, n_known, n_risked, n_events.
    feelings
        stage, n (customers), sum and squares of their feelings (one per customer and stage, -1 to 1).
    min_n
        Stages with fewer journeys or customers are not compared.

    Returns
    -------
    pandas.DataFrame
        As `JourneyMap.moments`, moments first; without any where there are fewer than three stages to compare.

    Notes
    -----
    Drop-off is a share of the journeys that came to the stage before they had reached the goal: who has it can no
    longer be lost. Stages at which most journeys have it already (after the sale) are not compared for drop-off.

    Where people do most, most of them stop, in any shop. So a stage must lose more than others not only of the journeys
    that come there, but also of its events: each is a chance to leave. p is the larger of both (intersection-union:
    Berger 1982). So no moment comes of stages being longer or shorter, whether customers leave by stage or by event;
    the price: of a stage with many events that loses somewhat more it cannot be told, and it is none.

    Feelings are compared by Welch's test; so that a few answers that agree do not look certain, half an answer is added
    at either end to each side, and neither side counts as more of one mind than the stages are on average.
    """
    tested = [_compare_lost(reach, min_n), _compare_feelings(feelings, min_n)]
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
        by_journey, by_event = _compare_rest(kept, "n_risked"), _compare_rest(kept, "n_events")
        agree = np.sign(by_journey["difference"]) == np.sign(by_event["difference"])
        p = np.where(agree, np.maximum(by_journey["p"], by_event["p"]), 1.0)
        return by_journey.rename(columns={"share": "value", "share_other": "value_other"}).assign(p=p)


def _compare_rest(kept: pd.DataFrame, base: str) -> pd.DataFrame:
    """Each stage's share lost of this base against that of the other stages."""
    sides = {"n_reached": kept["n_lost"], "n": kept[base]}
    others = {f"{name}_other": column.sum() - column for name, column in sides.items()}
    return compare_shares(kept[["stage"]].assign(**sides, **others), min_n=1)


class _Felt(_Measure):
    def compare(self, kept: pd.DataFrame) -> pd.DataFrame:
        """Welch's test: neither the spread nor the number of answers need be alike."""
        from scipy import stats

        one, other = kept, {name: kept[name].sum() - kept[name] for name in ("n", "sum", "squares")}
        within = (kept["squares"] - kept["sum"] ** 2 / kept["n"]).sum() / (kept["n"].sum() - len(kept))
        spread, spread_other = (np.maximum(_square_error(each), within / each["n"]) for each in (one, other))
        error = (spread + spread_other) ** 0.5
        free = error**4 / (spread**2 / (one["n"] - 1) + spread_other**2 / (other["n"] - 1))
        reach = stats.t.ppf(0.975, free) * error
        value, value_other = one["sum"] / one["n"], other["sum"] / other["n"]
        difference = value - value_other
        return kept.assign(
            value=value,
            value_other=value_other,
            difference=difference,
            low=difference - reach,
            high=difference + reach,
            p=2 * stats.t.sf((difference / error).abs(), free),
        )


def _square_error(sums: Any) -> pd.Series:  # a frame or a mapping: columns n, sum, squares
    """The square of the mean's standard error, as if half an answer had been given at either end of the scale."""
    n = sums["n"] + 1
    squared: pd.Series = (sums["squares"] + 1 - sums["sum"] ** 2 / n) / (n - 1) / n
    return squared


def _compare_lost(reach: pd.DataFrame, min_n: int) -> _Measure:
    is_on_the_way = reach["n_risked"] * 2 >= reach["n_known"]
    return _Lost("drop_off", reach[is_on_the_way & (reach["n_risked"] >= min_n)])


def _compare_feelings(feelings: pd.DataFrame, min_n: int) -> _Measure:
    return _Felt("feeling", feelings[feelings["n"] >= max(min_n, 2)])


def _step_down(measure: _Measure, *, n_tests: int) -> list[Row]:
    """Take out the surest to differ, compare the rest anew, until none is sure."""
    rows: list[Row] = []
    kept = measure.table
    while len(kept) >= _LEAST_STAGES:
        compared = measure.compare(kept)
        compared = compared.assign(p_adjusted=(compared["p"] * (n_tests - len(rows))).clip(upper=1))
        size = compared["difference"].abs()
        stands_out = (compared["p_adjusted"] < _LEVEL) & (size >= _LEAST[measure.name])
        if not stands_out.any():
            rows += [_as_row(row, measure.name, is_moment=False) for row in compared.to_dict("records")]
            break
        order = (
            compared[stands_out].assign(_size=size).sort_values(["p", "_size", "stage"], ascending=[True, False, True])
        )
        surest = order.iloc[0]
        # Only more of drop-off is a moment; a feeling may turn either way.
        is_moment = measure.name == "feeling" or surest["difference"] > 0
        rows.append(_as_row(surest.to_dict(), measure.name, is_moment=bool(is_moment)))
        kept = kept[kept["stage"] != surest["stage"]]
    return rows


def _as_row(row: dict[Any, Any], measure: str, *, is_moment: bool) -> Row:
    named = ("stage", "value", "value_other", "n", "difference", "low", "high", "p_adjusted")
    known = {name: row[name] for name in named}
    p = known["p_adjusted"]
    return known | {"measure": measure, "is_moment": is_moment, "p_adjusted": 1.0 if math.isnan(p) else p}
