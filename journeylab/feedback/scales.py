"""Scores from mixed scales: told apart where the data tell, left alone where they do not, and mapped to -1 … 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError
from journeylab.feedback.answers import NONE, check_columns, open_answers, parse_scale, read_score
from journeylab.feedback.evidence import NO_DAY, UNCLEAR, Scales, decide_scales
from journeylab.formats import format_count, format_share
from journeylab.language import ngettext

if TYPE_CHECKING:
    import pandas as pd

_LIKELY = 0.99
_LEAST = 30


def harmonise_scores(
    answers: pd.DataFrame | ibis.Table,
    *,
    scales: Sequence[str] = ("1-5", "1-10"),
    score: str = "score",
    by: str | Sequence[str] | None = None,
    time: str | None = None,
    alongside: str | None = None,
    alongside_scale: str = "1-5",
    missing: Sequence[float | str] | None = None,
) -> ibis.Table:
    """On which scale was each answer given, and how good is it from -1 to 1?

    Parameters
    ----------
    answers
        One row per answer. Where a column score_scale names the scale ("nps_0_10", "stars_1_5"), that counts.
    scales
        The scales that may be in it, each within the next: "1-5", "1-7", "1-10", "0-10", "0-100". With one, all answers
        are on it.
    score
        The column of the answers.
    by
        Columns that say how an answer came (source, form, file): within a group all answers have one scale, or one
        until a day and another from then on.
    time
        The column with the time of the answer, to find that day. Without it a group has no such day.
    alongside
        A column with another rating by the same person of the same thing, on a known scale, which tells the scale of
        answers that the above leaves open.
    alongside_scale
        The scale of that column.
    missing
        Codes that stand for no answer; see `score_nps`.

    Returns
    -------
    ibis.Table
        `answers` plus scale (string, such as "1-5"; null where the data do not tell), evidence (string, see below;
        "unclear" where they do not tell; null without a score), score_feeling (float64, -1 at the scale's lower end, 1
        at its upper, linear between; null without a scale). `count_scales` counts them.

    Raises
    ------
    RuleError
        If a column is not there, a scale is not within the next, or a score is on none of them and no code.

    Notes
    -----
    In this order, the first that tells:

    ``"stated"``
        score_scale says so.
    ``"given"``
        `scales` is one only.
    ``"beyond"``
        Only this one of `scales` has the score.
    ``"all within"``
        The answer is of a group (or of its time before or after the switch) of which no more than one in a hundred lie
        outside the scale, while on the next wider scale so few would with a chance below 0.001. How many lie outside is
        taken from groups that use the wider scale for certain (lower bound of a 95 % Wilson interval), or else is one
        in twenty.
    ``"no break"``
        The group uses the whole of the wider scale: the number beyond the narrower scale's end is not surely rarer than
        a quarter of that end (which would say that two scales are mixed).
    ``"alongside"``
        The other rating agrees with the score on one scale and not on the other: odds of 99 to 1, if the difference of
        the two, both mapped to -1 … 1, is spread normally as it is among the answers whose scale is known.

    The day of a switch is the one that parts a group's answers best into a time with fewer and one with more beyond the
    narrowest scale (maximum likelihood); it counts if the gain could come by chance in fewer than one of 1,000 groups
    (Bonferroni over the days). One switch a group is looked for.
    """
    where = "harmonise_scores"
    ends = _check_scales(scales)
    table = open_answers(answers, where)
    given = table.columns
    taken = [name for name in ("scale", "evidence", "score_feeling") if name in given]
    if taken:
        raise RuleError(f"{where}: the answers have {', '.join(taken)} already; drop or rename these columns first")
    groups = [] if by is None else [by] if isinstance(by, str) else list(by)
    check_columns(table, [name for name in (score, time, alongside, *groups) if name is not None], where)
    stated = _read_stated(table)
    number = _read_numbers(table, score, ends, stated, missing)
    keys = {f"_key{i}": table[name].cast("string").fill_null(NONE) for i, name in enumerate(groups)}
    table = table.mutate(_x=number, _day=_count_days(table, time), _stated=_name_stated(table, stated), **keys)
    told = _tell(table, list(keys), ends)
    if alongside is not None:
        told = _compare_alongside(told, alongside, parse_scale(alongside_scale), ends)
    known = ends | {_name(scale): scale for scale in stated.values()}
    return told.select(*given, "scale", "evidence", score_feeling=_map(told["_x"], told.scale, known))


def _name(scale: tuple[int, int]) -> str:
    return f"{scale[0]}-{scale[1]}"


def _check_scales(scales: Sequence[str]) -> Scales:
    if isinstance(scales, str) or not scales:
        raise RuleError(f'harmonise_scores: scales must be a list such as ["1-5", "1-10"]; found {scales!r}')
    ends = {_name(scale): scale for scale in map(parse_scale, scales)}
    for (name, narrow), (other, wide) in pairwise(ends.items()):
        if not wide[0] <= narrow[0] < narrow[1] <= wide[1]:
            raise RuleError(f'harmonise_scores: each scale must lie within the next; "{name}" is not within "{other}"')
    return ends


def _read_stated(table: ibis.Table) -> Scales:
    """The names in score_scale, and their ends."""
    if "score_scale" not in table.columns:
        return {}
    found = table.filter(table.score_scale.notnull()).select("score_scale").distinct().execute()
    return {name: parse_scale(name) for name in sorted(found["score_scale"])}


def _name_stated(table: ibis.Table, stated: Scales) -> ibis.Value:
    if not stated:
        return ibis.null("string")
    return ibis.cases(*((table.score_scale == name, _name(scale)) for name, scale in stated.items()))


def _read_numbers(
    table: ibis.Table, score: str, ends: Scales, stated: Scales, missing: Sequence[float | str] | None
) -> ibis.Value:
    """The scores as numbers; refused where they are not on their scale."""
    low, high = list(ends.values())[-1]
    widest = (min([low, *(scale[0] for scale in stated.values())]), max([high, *(s[1] for s in stated.values())]))
    number, is_code = read_score(table, score, widest, missing)
    is_on = number.between(low, high)
    if stated:
        on_own = ((table.score_scale == name) & number.between(*scale) for name, scale in stated.items())
        is_on = ibis.ifelse(table.score_scale.isnull(), is_on, ibis.or_(*on_own))
    off = table.filter(table[score].notnull() & ~is_code & ~is_on.fill_null(False))
    found = off.group_by(value=off[score].cast("string")).agg(n=lambda t: t.count())
    shown = found.order_by(ibis.desc("n"), "value").limit(5).execute()
    if len(shown):
        values = ", ".join(f"{value} ({n:,})" for value, n in zip(shown["value"], shown["n"], strict=True))
        raise RuleError(
            f"harmonise_scores: {score} has values that are not on their scale ({', '.join(ends)}, unless score_scale "
            f"names another): {values}. Name those that mean no answer in missing=, and give every scale in scales="
        )
    return number


def _count_days(table: ibis.Table, time: str | None) -> ibis.Value:
    """Days since 1970; -1,000,000 where no time is known: it joins, as a null does not."""
    if time is None:
        return ibis.literal(NO_DAY)
    column = table[time]
    moment = column.try_cast("timestamp") if column.type().is_string() else column.cast("timestamp")
    return (moment.epoch_seconds() // 86_400).cast("int64").fill_null(NO_DAY)


def _map(number: ibis.Value, scale: ibis.Value, known: Scales) -> ibis.Value:
    """From the ends of its scale to -1 … 1."""
    return ibis.cases(*((scale == name, 2 * (number - low) / (high - low) - 1) for name, (low, high) in known.items()))


def _tell(table: ibis.Table, keys: list[str], ends: Scales) -> ibis.Table:
    """Add scale and evidence, which depend on nothing but the group, the day and the score."""
    is_open = table["_x"].notnull() & table["_stated"].isnull()
    columns = [*keys, "_day", "_x"]
    counted: pd.DataFrame = table.filter(is_open).group_by(columns).agg(n=lambda t: t.count()).execute()
    counted["scale"], counted["evidence"] = decide_scales(counted, keys, ends)
    kinds = {**dict.fromkeys(keys, "string"), "_day": "int64", "_x": "float64", "scale": "string", "evidence": "string"}
    told = {f"_told_{name}": kind for name, kind in kinds.items()}
    rules = ibis.memtable(counted[list(kinds)].set_axis(list(told), axis=1), schema=told)
    joined = table.left_join(rules, [table[name] == rules[f"_told_{name}"] for name in columns])
    is_stated = joined["_stated"].notnull() & joined["_x"].notnull()
    return joined.mutate(
        scale=ibis.ifelse(is_stated, joined["_stated"], joined["_told_scale"]),
        evidence=ibis.ifelse(is_stated, "stated", joined["_told_evidence"]),
    )


def _compare_alongside(told: ibis.Table, alongside: str, scale: tuple[int, int], ends: Scales) -> ibis.Table:
    """Tell scales that are still unclear by another rating of the same thing."""
    low, high = scale
    other = 2 * (told[alongside].cast("float64") - low) / (high - low) - 1
    gap = {name: _map(told["_x"], ibis.literal(name), {name: ends[name]}) - other for name in ends}
    known = told.filter(other.notnull() & told.scale.isin(list(ends)))
    own = ibis.cases(*((known.scale == name, _map(known["_x"], known.scale, ends)) for name in ends))
    known_gap = own - (2 * (known[alongside].cast("float64") - low) / (high - low) - 1)
    found = known.agg(n=known_gap.count(), square=(known_gap * known_gap).mean()).execute().iloc[0]
    if found["n"] < _LEAST:
        return told
    # The log of the odds of each scale against the best of all.
    weighed = {
        name: ibis.ifelse(told["_x"].between(*ends[name]), -(gap[name] ** 2) / (2 * found["square"]), -1e9)
        for name in ends
    }
    best = ibis.greatest(*weighed.values())
    odds = sum((weight - best).exp() for weight in weighed.values())
    likely = ibis.cases(*((weight == best, name) for name, weight in weighed.items()))
    is_told = (told.evidence == UNCLEAR) & (1 / odds >= _LIKELY)
    is_told = is_told.fill_null(False)
    return told.mutate(
        scale=ibis.ifelse(is_told, likely, told.scale), evidence=ibis.ifelse(is_told, "alongside", told.evidence)
    )


def count_scales(harmonised: ibis.Table, *, score: str = "score", time: str | None = None) -> pd.DataFrame:
    """How many answers were given on each scale, by which evidence, and of how many can it not be told?

    Parameters
    ----------
    harmonised
        From `harmonise_scores`.
    score, time
        The columns of the answers and of their times.

    Returns
    -------
    pandas.DataFrame
        One row per scale and evidence, most answers first: scale (None where the data do not tell), evidence (see
        `harmonise_scores`), n, share (of all answers with a score), least, most (scores), and with `time` first_time,
        last_time.
    """
    check_columns(harmonised, [name for name in (score, time) if name is not None], "count_scales")
    scored = harmonised.filter(harmonised.evidence.notnull())
    number = scored[score].cast("float64")
    times = {} if time is None else {"first_time": scored[time].min(), "last_time": scored[time].max()}
    counted = scored.group_by("scale", "evidence").agg(n=scored.count(), least=number.min(), most=number.max(), **times)
    table: pd.DataFrame = counted.execute()
    table.insert(3, "share", table["n"] / table["n"].sum())
    table["scale"] = table["scale"].astype(object).where(table["scale"].notna(), None)
    return table.sort_values(["n", "evidence"], ascending=[False, True], ignore_index=True)


def describe_scales(counted: pd.DataFrame) -> str:
    """On which scales were the answers of `count_scales` given? One sentence."""
    n = int(counted["n"].sum())
    known = counted.dropna(subset="scale").groupby("scale")["n"].sum().sort_values(ascending=False)
    scales = ", ".join(f"{scale}: {format_count(count)}" for scale, count in known.items())
    unclear = n - int(known.sum())
    if not unclear:
        return ngettext(
            "{n} answer by scale: {scales}.", "{n} answers by scale: {scales}.", n, n=format_count(n), scales=scales
        )
    return ngettext(
        "{n} answer by scale: {scales}; of {unclear} ({share}) the scale cannot be told, and they are left out.",
        "{n} answers by scale: {scales}; of {unclear} ({share}) the scale cannot be told, and they are left out.",
        n,
        n=format_count(n),
        scales=scales or "–",
        unclear=format_count(unclear),
        share=format_share(unclear / n),
    )
