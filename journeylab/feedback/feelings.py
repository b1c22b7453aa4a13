"""How did customers feel at each stage? Means from -1 to 1, of ratings first and of words where there is no rating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError
from journeylab.feedback.answers import (
    average,
    bound_means,
    count_effective,
    mark_customers,
    name_groups,
    open_answers,
    sum_by_customer,
)

if TYPE_CHECKING:
    import pandas as pd

#: Columns from -1 to 1 in the order in which they are believed: a rating, then the words.
FEELINGS = ("score_feeling", "feeling")

_COLUMNS = ("n", "n_customers", "n_rated", "feeling", "low", "high", "n_effective", "is_small")


def read_feeling(table: ibis.Table, feelings: Sequence[str], where: str) -> tuple[ibis.Value, ibis.Value]:
    """The feeling of each answer, and whether it comes from the first of `feelings`."""
    present = [name for name in feelings if name in table.columns]
    if not present:
        raise RuleError(
            f"{where}: the answers have none of the columns {', '.join(feelings)}; make them with harmonise_scores() "
            f"from ratings, or with score_text() from comments"
        )
    columns = [table[name].cast("float64") for name in present]
    columns = [ibis.ifelse(column.isnan(), ibis.null("float64"), column) for column in columns]
    is_first = columns[0].notnull() if present[0] == feelings[0] else ibis.literal(False)
    return ibis.coalesce(*columns), is_first


def measure_feeling(
    attached: pd.DataFrame | ibis.Table,
    *,
    by: str | Sequence[str] | None = "about_stage",
    feelings: Sequence[str] = FEELINGS,
    min_n: int = 30,
) -> pd.DataFrame:
    """How do customers feel about each stage, from -1 to 1?

    Parameters
    ----------
    attached
        From `attach_feedback`, with a column from -1 to 1: score_feeling (`harmonise_scores`), feeling (`score_text`),
        or both.
    by
        Columns that split the answer, such as ``("about_stage", "about_channel")``.
    feelings
        The columns with feelings; of an answer that has several, the first counts.
    min_n
        A group with a smaller n_effective is flagged `is_small`.

    Returns
    -------
    pandas.DataFrame
        One row per group, by name: the columns of `by` ("(none)": attached to no step, or to one without a stage), n
        (answers with a feeling), n_customers, n_rated (of n: from the first of `feelings`), feeling (mean, -1 to 1)
        with low and high (95 %; null for a single customer), n_effective, is_small. Answers without any feeling do not
        count.

    Notes
    -----
    Answers of one customer are not independent: the interval is Student's t with the variance between customers, and
    n_effective is Kish's (1965) with each customer a cluster of copies. As if half an answer had been given at either
    end, so that a few answers that agree do not look certain; see `score_csat`.
    """
    table = open_answers(attached, "measure_feeling")
    feeling, is_rated = read_feeling(table, feelings, "measure_feeling")
    table, groups = name_groups(table.mutate(_x=feeling, rated=is_rated.cast("float64")), by, "measure_feeling")
    table = mark_customers(table.filter(table["_x"].notnull())).mutate(_w=ibis.literal(1.0))
    sums = sum_by_customer(table, groups, ["_x", "rated"])
    n = count_effective(sums)
    sums["feeling"], variance = average(sums, "_x", n)
    sums["low"], sums["high"] = bound_means(sums["feeling"], n, variance, (-1, 1))
    sums["n_rated"], sums["n_effective"] = sums["s_rated"].astype(int), n.fillna(0.0)
    sums["is_small"] = sums["n_effective"] < min_n
    found: pd.DataFrame = sums[[*groups, *_COLUMNS]]
    return found
