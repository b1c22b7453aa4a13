"""What do customers say in numbers? NPS, CSAT and CES with intervals that hold for few answers too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import ibis

from journeylab.errors import RuleError
from journeylab.feedback.answers import (
    average,
    bound_means,
    check_columns,
    check_scale,
    count_effective,
    count_informative,
    keep_last,
    mark_customers,
    name_groups,
    open_answers,
    parse_scale,
    read_score,
    read_weight,
    sum_by_customer,
)
from journeylab.formats import format_count, format_number, format_share
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.shares import bound_shares

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Repeats = Literal["last", "all"]


class _Question(NamedTuple):
    """What was asked, and which answers count; see `score_nps`."""

    where: str
    score: str
    scale: tuple[int, int]
    by: str | Sequence[str] | None
    weight: str | None
    missing: Sequence[float | str] | None
    repeats: Repeats


_Z = 1.959963984540054
_NPS_COLUMNS = (
    *("n", "n_customers", "n_missing", "n_earlier", "n_promoters", "n_passives", "n_detractors"),
    *("share_promoters", "share_passives", "share_detractors", "nps", "low", "high", "n_effective", "is_small"),
)
_BOX_COLUMNS = (
    *("n", "n_customers", "n_missing", "n_earlier", "n_top", "share_top", "low", "high"),
    *("mean", "mean_low", "mean_high", "n_effective", "is_small"),
)


def score_nps(
    answers: pd.DataFrame | ibis.Table,
    *,
    score: str = "score",
    by: str | Sequence[str] | None = None,
    weight: str | None = None,
    missing: Sequence[float | str] | None = None,
    repeats: Repeats = "last",
    min_n: int = 30,
) -> pd.DataFrame:
    """How many more customers would recommend us than warn of us: the net promoter score, in points.

    Parameters
    ----------
    answers
        One row per answer; a table of steps or events will do, in which rows without a score are no answers.
    score
        The column of answers from 0 to 10: 9 and 10 are promoters, 7 and 8 passives, 0 to 6 detractors.
    by
        Columns that split the answer.
    weight
        A column of weights, not below 0.
    missing
        Codes that stand for no answer, such as ``(11, "don't know")``, in place of the usual ones
        (`journeylab.feedback.answers.NO_ANSWER`: 99, -1, "n/a" and so on, where the scale does not have them). Anything
        else off the scale is refused.
    repeats
        Of several answers of one customer in a group, ``"last"`` counts the last alone (which takes the columns
        customer_id and timestamp), ``"all"`` counts each.
    min_n
        A group with a smaller n_effective is flagged `is_small`.

    Returns
    -------
    pandas.DataFrame
        One row per group, by name: the columns of `by` ("(none)" where nothing is known), n (answers), n_customers,
        n_missing (codes, and answers left blank: nulls, unless the table has a column event and so is a log), n_earlier
        (scores left out for a later one of the same customer), n_promoters, n_passives, n_detractors (answers), their
        shares (0-1, weighted), nps (-100 to 100 points), low and high (95 %), n_effective, is_small.

    Raises
    ------
    RuleError
        If a column is not there, a value is neither on the scale nor a code, score_scale names another scale, or a
        weight is null or negative.

    Notes
    -----
    The interval is that of the score test of a difference of two shares of one sample (Tango 1998, Statistics in
    Medicine 17:891), which Rocks (2016, The American Statistician 70:365) found to hold best for net promoter scores.
    It stays within -100 and 100, and has a width when all answers are the same. Over worlds drawn at random it covers
    96.0 % at 20 answers and 95.2 % at 100, and no less than 92.9 % in any.

    Weights, and with ``repeats="all"`` several answers of a customer, shrink n to n_effective: Kish's (1965), the
    square of the summed weights over the summed squares of each customer's weight, so that answers of one customer are
    copies of each other; or fewer, where the answers that weigh most differ most, by the variance between customers.

    Examples
    --------
    >>> import pandas as pd
    >>> found = score_nps(pd.DataFrame({"score": [10, 9, 9, 8, 3, 99]}))
    >>> found[["n", "n_missing", "nps", "low", "high"]].round(1)
       n  n_missing   nps   low  high
    0  5          1  40.0 -34.9  82.6
    """
    question = _Question("score_nps", score, (0, 10), by, weight, missing, repeats)
    table, groups, counts = _prepare(answers, question)
    x = table["_x"]
    if int(table.count(where=x != x.floor()).execute()):
        raise RuleError("score_nps: answers between two whole numbers, such as 8.5, are neither passive nor promoter")
    kinds = {"promoters": x >= 9, "passives": (x >= 7) & (x < 9), "detractors": x < 7}
    table = table.mutate(**{name: is_kind.cast("float64") for name, is_kind in kinds.items()})
    table = table.mutate(net=table.promoters - table.detractors)
    sums = _sum_groups(table, groups, counts, [*kinds, "net"])
    n = count_effective(sums)
    for name in kinds:
        sums[f"n_{name}"] = sums[f"c_{name}"].astype(int)
        sums[f"share_{name}"] = average(sums, name, n)[0]
    net, variance = average(sums, "net", n)
    decided = sums["share_promoters"] + sums["share_detractors"]
    n = count_informative(n, sums["n_customers"], variance, decided - net**2)
    sums["nps"] = 100 * net
    low, high = bound_net(sums["share_promoters"] * n, sums["share_detractors"] * n, n)
    sums["low"], sums["high"] = 100 * low, 100 * high
    return _finish(sums, groups, _NPS_COLUMNS, n, min_n)


def score_csat(
    answers: pd.DataFrame | ibis.Table,
    *,
    score: str = "score",
    scale: str = "1-5",
    satisfied: float | None = None,
    by: str | Sequence[str] | None = None,
    weight: str | None = None,
    missing: Sequence[float | str] | None = None,
    repeats: Repeats = "last",
    min_n: int = 30,
) -> pd.DataFrame:
    """How many customers are satisfied, and how satisfied are they on average?

    Parameters
    ----------
    answers, score, by, weight, missing, repeats, min_n
        As in `score_nps`.
    scale
        The ends of the scale, the best highest: "1-5", "1-7", "0-10", "0-100".
    satisfied
        Who answers this or more is satisfied. Default: the upper two of the scale's whole numbers.

    Returns
    -------
    pandas.DataFrame
        One row per group: the columns of `by`, n, n_customers, n_missing, n_earlier (see `score_nps`), n_top (satisfied
        answers), share_top (0-1, weighted) with low and high (95 %, Wilson 1927, of n_effective), mean (on the scale)
        with mean_low and mean_high (95 %), n_effective, is_small.

    Notes
    -----
    The interval of the mean is Student's t with the variance between customers, as if half an answer had been given at
    either end of the scale: answers crowd at the top, where the plain one covers far less than 95 %.

    Examples
    --------
    >>> import pandas as pd
    >>> found = score_csat(pd.DataFrame({"score": [5, 4, 5, 3, 5, "n/a"]}))
    >>> found[["n", "n_missing", "share_top", "low", "high", "mean"]].round(2)
       n  n_missing  share_top   low  high  mean
    0  5          1        0.8  0.38  0.96   4.4
    """
    ends = parse_scale(scale)
    limit = ends[1] - 1 if satisfied is None else satisfied
    return _score_box(answers, _Question("score_csat", score, ends, by, weight, missing, repeats), limit, min_n)


def score_ces(
    answers: pd.DataFrame | ibis.Table,
    *,
    score: str = "score",
    scale: str = "1-7",
    easy: float | None = None,
    by: str | Sequence[str] | None = None,
    weight: str | None = None,
    missing: Sequence[float | str] | None = None,
    repeats: Repeats = "last",
    min_n: int = 30,
) -> pd.DataFrame:
    """How easy did customers find it: the customer effort score?

    Parameters
    ----------
    answers, score, by, weight, missing, repeats, min_n
        As in `score_nps`.
    scale
        The ends of the scale; the highest means that it was easy ("agree that it was made easy", CES 2.0).
    easy
        Who answers this or more found it easy. Default: the upper three of the scale's whole numbers (5 to 7).

    Returns
    -------
    pandas.DataFrame
        As of `score_csat`; share_top is the share of those who found it easy.
    """
    ends = parse_scale(scale)
    limit = ends[1] - 2 if easy is None else easy
    return _score_box(answers, _Question("score_ces", score, ends, by, weight, missing, repeats), limit, min_n)


def _score_box(answers: pd.DataFrame | ibis.Table, question: _Question, limit: float, min_n: int) -> pd.DataFrame:
    """The share of the upper answers, and the mean."""
    low, high = question.scale
    if not low < limit <= high:
        raise RuleError(f"{question.where}: {limit:g} does not part a scale from {low} to {high}")
    table, groups, counts = _prepare(answers, question)
    table = table.mutate(top=(table["_x"] >= limit).cast("float64"), mean=table["_x"])
    sums = _sum_groups(table, groups, counts, ["top", "mean"])
    n = count_effective(sums)
    sums["n_top"] = sums["c_top"].astype(int)
    sums["mean"], variance = average(sums, "mean", n)
    sums["mean_low"], sums["mean_high"] = bound_means(sums["mean"], n, variance, question.scale)
    share, variance = average(sums, "top", n)
    n = count_informative(n, sums["n_customers"], variance, share * (1 - share))
    sums["share_top"] = share
    _share, sums["low"], sums["high"] = bound_shares(share * n, n)
    return _finish(sums, groups, _BOX_COLUMNS, n, min_n)


def _prepare(answers: pd.DataFrame | ibis.Table, question: _Question) -> tuple[ibis.Table, list[str], pd.DataFrame]:
    """The scores that count as _x with weight _w of customer _who, the groups, and counts of what else there is."""
    where, score, scale, by, weight, missing, repeats = question
    if repeats not in get_args(Repeats):
        raise RuleError(f'{where}: repeats must be "last" or "all"; found {repeats!r}')
    table = open_answers(answers, where)
    check_columns(table, [score], where)
    number, is_code = read_score(table, score, scale, missing)
    check_scale(table, score, number, is_code, scale, where)
    # In a log most rows are no answers; in a table of answers a null is a question left blank.
    is_blank = ibis.literal(False) if "event" in table.columns else table[score].isnull()
    table = table.mutate(_x=number, _w=read_weight(table, weight, where), _none=is_code | is_blank)
    table, groups = name_groups(table.filter(table["_x"].notnull() | table["_none"]), by, where)
    scored = mark_customers(table.filter(table["_x"].notnull()))
    kept = keep_last(scored, groups) if repeats == "last" else scored
    aggregates = {"n_missing": table.count(where=table["_none"]), "_n_scored": table["_x"].count()}
    counts: pd.DataFrame = (table.group_by(groups) if groups else table).agg(**aggregates).execute()
    return kept, groups, counts


def _sum_groups(table: ibis.Table, groups: list[str], counts: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The sums of every group that has an answer or a code, and how many answers show each value."""
    import pandas as pd

    sums = sum_by_customer(table, groups, values)
    shown = {f"c_{name}": table.count(where=table[name] > 0) for name in values if name not in ("mean", "net")}
    n_shown = (table.group_by(groups) if groups else table).agg(**shown).execute()
    parts = [counts, sums, n_shown]
    if groups:
        parts = [part.set_index(groups) for part in parts]
    whole: pd.DataFrame = pd.concat(parts, axis=1)
    whole = whole.fillna(dict.fromkeys(whole.columns, 0))
    if groups:
        whole = whole.sort_index().reset_index()
    whole["n_earlier"] = whole["_n_scored"] - whole["n"]
    return whole


def _finish(
    sums: pd.DataFrame, groups: list[str], columns: tuple[str, ...], n: pd.Series[float], min_n: int
) -> pd.DataFrame:
    sums["n_effective"] = n.fillna(0.0)
    sums["is_small"] = sums["n_effective"] < min_n
    for name in ("n", "n_customers", "n_missing", "n_earlier"):
        sums[name] = sums[name].astype(int)
    table: pd.DataFrame = sums[[*groups, *columns]]
    return table


def bound_net(
    more: pd.Series[float], less: pd.Series[float], n: pd.Series[float]
) -> tuple[pd.Series[float], pd.Series[float]]:
    """Between which bounds (95 %, Tango 1998) does the share of some, less that of others, of the same n lie?

    The counts may be fractions (of an effective n). Null where n is 0.
    """
    import numpy as np
    import pandas as pd

    b, c = more.to_numpy(dtype=float), less.to_numpy(dtype=float)
    size = n.where(n > 0).to_numpy(dtype=float)
    net = (b - c) / size

    def distance(delta: Floats) -> Floats:
        """How many standard errors is the net share found from one supposed?"""
        middle = -b - c + (2 * size - b + c) * delta
        root = np.sqrt(np.maximum(middle**2 + 8 * size * c * delta * (1 - delta), 0))
        variance = size * (np.maximum(root - middle, 0) / (2 * size) + delta * (1 - delta))
        gap = b - c - size * delta
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.where(variance > 1e-12, gap / np.sqrt(variance.clip(0)), np.sign(gap) * np.inf)
        return found

    def search(low: Floats, high: Floats, target: float) -> Floats:
        for _half in range(60):
            middle = (low + high) / 2
            is_below = distance(middle) > target
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        found: Floats = np.where(np.isnan(size), np.nan, (low + high) / 2)
        return found

    ends = np.ones_like(net)
    return pd.Series(search(-ends, net, _Z), index=n.index), pd.Series(search(net, ends, -_Z), index=n.index)


def describe_nps(scores: pd.DataFrame) -> str:
    """What does the first row of `score_nps` say? One sentence."""
    row = scores.iloc[0]
    if not row["n"]:
        return _("Nobody has answered.")
    return ngettext(
        "Of {n} answer, {promoters} came from promoters and {detractors} from detractors: a net promoter score of "
        "{nps} (95 % interval {interval}).",
        "Of {n} answers, {promoters} came from promoters and {detractors} from detractors: a net promoter score of "
        "{nps} (95 % interval {interval}).",
        row["n"],
        n=format_count(row["n"]),
        promoters=format_share(row["share_promoters"]),
        detractors=format_share(row["share_detractors"]),
        nps=format_number(row["nps"], 0, signed=True),
        interval=write_points(row["low"], row["high"]),
    )


def write_points(low: float, high: float) -> str:
    """Write the bounds of a net promoter score, which carry a sign."""
    return _("{low} to {high}", low=format_number(low, 0, signed=True), high=format_number(high, 0, signed=True))
