"""Answers on a scale: which rows count, which codes mean no answer, and sums by group and customer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ibis

from journeylab.engine import default_connection
from journeylab.errors import RuleError, nearest
from journeylab.schema import ROW
from journeylab.sources.frames import open_frame

if TYPE_CHECKING:
    import pandas as pd

NONE = "(none)"

#: What surveys export for "don't know", "not applicable", "refused" and "skipped". A number that the scale itself has
#: is an answer all the same.
NO_ANSWER = (
    *(-99, -98, -97, -9, -8, -7, -2, -1, 77, 88, 97, 98, 99, 777, 888, 997, 998, 999, 9999),
    *("", "-", "n/a", "na", "null", "none", "don't know", "dont know", "not applicable", "no answer", "refused"),
    *("nie wiem", "nie dotyczy", "trudno powiedzieć", "brak odpowiedzi"),
    *("не знаю", "затрудняюсь ответить", "нет ответа", "не применимо"),
)

_SCALE = re.compile(r"(-?\d+)\s*(?:[-–_]|to)\s*(-?\d+)$")


def parse_scale(name: str) -> tuple[int, int]:
    """From which number to which does a scale run?

    Examples
    --------
    >>> parse_scale("1-5"), parse_scale("nps_0_10"), parse_scale("sentiment_-1_1")
    ((1, 5), (0, 10), (-1, 1))
    """
    found = _SCALE.search(str(name).strip())
    if found is None or int(found[1]) >= int(found[2]):
        raise RuleError(f'a scale is written by its ends, such as "1-5", "0-10" or "nps_0_10"; found {name!r}')
    return int(found[1]), int(found[2])


def open_answers(answers: pd.DataFrame | ibis.Table, where: str, con: ibis.BaseBackend | None = None) -> ibis.Table:
    """Answers as a table in the engine, whose customer ids are text."""
    if not isinstance(answers, ibis.Table):
        if not hasattr(answers, "columns"):
            raise RuleError(f"{where}: answers must be a DataFrame or an Ibis table; found {type(answers).__name__}")
        answers = open_frame(answers, con or default_connection(), where=where).drop(ROW)
    if "customer_id" in answers.columns:
        return answers.mutate(customer_id=answers.customer_id.cast("string"))
    return answers


def check_columns(table: ibis.Table, names: Sequence[str], where: str) -> None:
    """Refuse columns that the answers lack."""
    for name in names:
        if name not in table.columns:
            raise RuleError(
                f'{where}: the answers have no column "{name}".{nearest(name, table.columns)} They have '
                f"{', '.join(table.columns)}"
            )


def read_score(
    table: ibis.Table, score: str, scale: tuple[int, int], missing: Sequence[float | str] | None
) -> tuple[ibis.Value, ibis.Value]:
    """The score as a number (null where there is none), and whether a code stands in its place."""
    codes = NO_ANSWER if missing is None else tuple(missing)
    low, high = scale
    numbers = [float(code) for code in codes if not isinstance(code, str)]
    if missing is None:
        # A default code that the scale has is an answer: 99 % are.
        numbers = [code for code in numbers if not low <= code <= high]
    texts = [code.casefold() for code in codes if isinstance(code, str)]
    column = table[score]
    if column.type().is_string():
        written = column.strip().lower()
        number, is_text = written.try_cast("float64"), written.isin(texts)
    else:
        number, is_text = column.cast("float64"), ibis.literal(False)
        number = ibis.ifelse(number.isnan(), ibis.null("float64"), number)
    is_code = (is_text | number.isin(numbers)).fill_null(False) if numbers else is_text.fill_null(False)
    return ibis.ifelse(is_code, ibis.null("float64"), number), is_code


def check_scale(
    table: ibis.Table, score: str, number: ibis.Value, is_code: ibis.Value, scale: tuple[int, int], where: str
) -> None:
    """Refuse scores that the scale does not have, and a column score_scale that names another scale."""
    low, high = scale
    is_off = table[score].notnull() & ~is_code & (number.isnull() | (number < low) | (number > high))
    off = table.filter(is_off).group_by(value=table[score].cast("string")).agg(n=lambda t: t.count())
    found = off.order_by(ibis.desc("n"), "value").limit(5).execute()
    if len(found):
        shown = ", ".join(f"{value} ({n:,})" for value, n in zip(found["value"], found["n"], strict=True))
        raise RuleError(
            f"{where}: {score} has values that no scale from {low} to {high} has: {shown}. Name those that mean "
            f"no answer in missing=, or tell mixed scales apart with harmonise_scores()"
        )
    if "score_scale" not in table.columns:
        return
    stated = table.filter(number.notnull() & table.score_scale.notnull()).group_by("score_scale")
    named = stated.agg(n=lambda t: t.count()).execute()
    others = named[[parse_scale(name) != scale for name in named["score_scale"]]]
    if len(others):
        shown = ", ".join(f"{name} ({n:,})" for name, n in zip(others["score_scale"], others["n"], strict=True))
        raise RuleError(
            f"{where}: the scale here is {low} to {high}, but score_scale says {shown}; filter the answers, or give "
            f"scale="
        )


def mark_customers(table: ibis.Table) -> ibis.Table:
    """Name in _who whose answer a row is; without an id each answer is somebody else's."""
    place = ibis.row_number().cast("string")
    if "customer_id" not in table.columns:
        return table.mutate(_who=place)
    return table.mutate(
        _who=ibis.coalesce(ibis.literal("c").concat(table.customer_id), ibis.literal("r").concat(place))
    )


def keep_last(table: ibis.Table, groups: Sequence[str]) -> ibis.Table:
    """Of several scores of one customer in a group, keep the last; of two at one instant, the lower."""
    if "customer_id" not in table.columns or "timestamp" not in table.columns:
        return table
    order = [ibis.desc("timestamp"), "_x"]
    place = ibis.row_number().over(ibis.window(group_by=[*groups, "_who"], order_by=order))
    return table.mutate(_place=place).filter(ibis._["_place"] == 0).drop("_place")


def name_groups(table: ibis.Table, by: str | Sequence[str] | None, where: str) -> tuple[ibis.Table, list[str]]:
    """The columns that split the answer, as text; where nothing is known the group is "(none)"."""
    names = [] if by is None else [by] if isinstance(by, str) else list(dict.fromkeys(by))
    check_columns(table, names, where)
    return table.mutate(**{name: table[name].cast("string").fill_null(NONE) for name in names}), names


def read_weight(table: ibis.Table, weight: str | None, where: str) -> ibis.Value:
    """What each answer counts: 1, or its weight, which must be there and not below 0."""
    if weight is None:
        return ibis.literal(1.0)
    check_columns(table, [weight], where)
    column = table[weight].cast("float64")
    n_bad = int(table.count(where=(column.isnull() | column.isnan() | (column < 0)).fill_null(True)).execute())
    if n_bad:
        raise RuleError(f"{where}: {n_bad:,} answers have no weight, or one below 0, in {weight}; weigh every answer")
    return column


def sum_by_customer(table: ibis.Table, groups: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Sums per group of what each customer adds up to, which is all that means and their errors need.

    Returns
    -------
    pandas.DataFrame
        One row per group, by name: the groups, n (answers), n_customers, w (weights), w2 (squares of a customer's
        weights), and of each value s_… (weighted sum), sw_… and ss_… (sums of products of a customer's sum).
    """
    weighed = {f"_s_{name}": (table[name] * table["_w"]).sum() for name in values}
    people = table.group_by([*groups, "_who"]).agg(_n=table.count(), _w=table["_w"].sum(), **weighed)
    sums: dict[str, Any] = {  # Any: expressions of Ibis
        "n": people["_n"].sum(),
        "n_customers": people.count(),
        "w": people["_w"].sum(),
        "w2": (people["_w"] * people["_w"]).sum(),
    }
    for name in values:
        own = people[f"_s_{name}"]
        sums |= {f"s_{name}": own.sum(), f"sw_{name}": (own * people["_w"]).sum(), f"ss_{name}": (own * own).sum()}
    found: pd.DataFrame = (people.group_by(list(groups)) if groups else people).agg(**sums).execute()
    found = found.fillna(dict.fromkeys(sums, 0))
    return found.sort_values(list(groups), ignore_index=True) if groups else found


def bound_means(
    mean: pd.Series[float], n: pd.Series[float], variance: pd.Series[float], scale: tuple[float, float]
) -> tuple[pd.Series[float], pd.Series[float]]:
    """Between which bounds (95 %) do means on a scale lie? Null for fewer than two answers.

    Student's t, as if half an answer had been given at either end of the scale. Without these, an interval of answers
    that are nearly all the same covers far too seldom (of 20 answers, 90 % of them at the top: 72 % instead of 95 %),
    and one of answers that are all the same has no width.

    Parameters
    ----------
    n
        Effective number of answers.
    variance
        Of one answer: that of the mean times n.
    """
    import numpy as np
    from scipy.stats import t

    low, high = scale
    centre = (n * mean + (low + high) / 2) / (n + 1)
    square = (n * (variance + mean**2) + (low**2 + high**2) / 2) / (n + 1)
    error = np.sqrt((square - centre**2).clip(lower=0) / (n + 1))
    half = t.ppf(0.975, (n - 1).where(n > 1)) * error
    return (centre - half).clip(lower=low), (centre + half).clip(upper=high)


def count_effective(sums: pd.DataFrame) -> pd.Series[float]:
    """How many answers of equal weight, one a customer, tell as much (Kish 1965)? Null where there are none."""
    return (sums["w"] ** 2 / sums["w2"].where(sums["w2"] > 0)).astype(float)


def count_informative(
    n: pd.Series[float], n_customers: pd.Series[int], found: pd.Series[float], plain: pd.Series[float]
) -> pd.Series[float]:
    """The effective number of answers, of a share or net share whose weights go with the answers.

    Kish's number takes weights to be unrelated to what is said. Where those say it who weigh most, the estimate varies
    more: then it is the number that would vary as much without weights.

    Parameters
    ----------
    n
        From `count_effective`.
    found, plain
        Of one effective answer: the variance between customers, and what it would be without weights.
    """
    freedom = (n_customers - 1).where(n_customers > 1) / n_customers
    informative = n * plain / found.where(found > 0) * freedom
    # A hair's breadth of rounding must not make 68 answers 67.
    return n.where(informative.isna() | (informative > n * freedom - 1e-6), informative)


def average(sums: pd.DataFrame, name: str, n_effective: pd.Series[float]) -> tuple[pd.Series[float], pd.Series[float]]:
    """The mean of a value, and the variance that one effective answer has."""
    w = sums["w"].where(sums["w"] > 0)
    mean = sums[f"s_{name}"] / w
    spread = sums[f"ss_{name}"] - 2 * mean * sums[f"sw_{name}"] + mean**2 * sums["w2"]
    return mean, spread.clip(lower=0) / w**2 * n_effective
