"""RFM: who bought lately, often and for much? A ready segmentation of customers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import ibis

from journeylab.errors import RuleError
from journeylab.journeys import end_of_observation
from journeylab.retention import check_events

_NEVER = "never bought"
#: Segment by thirds: of the recency score (rows, recent first), and of frequency and money together (most first).
_NAMES = (
    ("champions", "potential loyalists", "promising"),
    ("loyal", "need attention", "about to sleep"),
    ("cannot lose", "at risk", "hibernating"),
)


def score_rfm(
    steps: ibis.Table, *, event: str | Sequence[str] | None = None, as_of: str | date | None = None, n_groups: int = 5
) -> ibis.Table:
    """Who bought lately, often and for much, and who is slipping away?

    Parameters
    ----------
    steps
        From `build_steps`.
    event
        The event(s) that are a purchase. Default: every event with a value above 0.
    as_of
        End of observation (UTC); later events are not looked at. Default: the last event of `steps`.
    n_groups
        Scores run from 1 to this; from 2.

    Returns
    -------
    ibis.Table
        One row per customer with an event; the query runs when it is used: customer_id, recency_s (float64, seconds
        from the last purchase to `as_of`), frequency (int64, purchases), monetary (float64, sum of their values; null
        if the log has no values), r, f, m (int64, 1 to `n_groups`, the best highest; m null if the log has no values),
        segment (string). Who never bought has frequency 0, no recency, no scores and the segment "never bought". Hand
        it to ``compare_segments(steps, journeys, by=score_rfm(steps))``.

    Raises
    ------
    RuleError
        If `n_groups` is no whole number from 2, an event is not in the log, or the log has no values and no event is
        named.

    Notes
    -----
    Recency, frequency and monetary value are Hughes's (2005, "Strategic Database Marketing", 3rd ed., McGraw-Hill). A
    score says how many `n_groups`-ths of the buyers are worse: ``1 + n_groups * (buyers who are worse) // buyers``.
    Equal customers get equal scores; where many have bought just once, they all have f = 1 and the next score is
    higher than 2. Returned money (values below 0) is not subtracted.

    Segments carry the names that are in common use (there is no standard) and are defined here by thirds: r is high
    above two thirds of its range from 1 to `n_groups`, low below one third, and so is the mean of f and m (of f alone
    where the log has no values). With five groups, 1 and 2 are low, 4 and 5 high.

    ============  ===================  =====================  ==================
    r             f and m high         middle                 low
    ============  ===================  =====================  ==================
    high          champions            potential loyalists    promising
    middle        loyal                need attention         about to sleep
    low           cannot lose          at risk                hibernating
    ============  ===================  =====================  ==================
    """
    if not isinstance(n_groups, int) or isinstance(n_groups, bool) or n_groups < 2:
        raise RuleError(f"score_rfm: n_groups={n_groups!r}; give a whole number from 2")
    names = check_events(steps, event, "score_rfm: event")
    has_value = "value" in steps.columns
    if names is None and not has_value:
        raise RuleError(
            "score_rfm: this log has no values to tell purchases by; name the event that is one, such as "
            'event="order", or map the amounts in read_events(columns={"value": …})'
        )
    end = end_of_observation(steps, as_of)
    seen = steps.filter(steps.timestamp <= end)
    is_purchase = seen.event.isin(names) if names else (seen.value > 0).fill_null(False)
    bought = seen.group_by("customer_id").agg(
        last=seen.timestamp.max(where=is_purchase),
        frequency=seen.count(where=is_purchase),
        # Sums of fractions depend on their order, and equal customers would differ: whole ten-thousandths do not.
        monetary=_sum_exactly(seen.value, is_purchase) if has_value else ibis.null("float64"),
    )
    silent_us = ibis.literal(end).delta(bought.last, unit="microsecond")
    scored = _score(bought.mutate(recency_s=silent_us / 1e6), n_groups)
    return scored.select(
        "customer_id", "recency_s", "frequency", "monetary", "r", "f", "m", segment=_name(scored, n_groups)
    )


def _sum_exactly(value: ibis.Value, where: ibis.Value) -> ibis.Value:
    return (value * 10_000).round().cast("int64").sum(where=where).fill_null(0) / 10_000


def _score(bought: ibis.Table, n_groups: int) -> ibis.Table:
    """Which part of the buyers is worse than each? Those who never bought stand apart and get no score."""
    table = bought.mutate(_is_buyer=bought.frequency > 0)
    buyers = {"group_by": table["_is_buyer"]}
    # Windows do not nest: places and the number of buyers first, and what is made of them after.
    table = table.mutate(
        _n=table.count().over(ibis.window(**buyers)),
        _r=ibis.rank().over(ibis.window(**buyers, order_by=ibis.desc("recency_s"))),
        _f=ibis.rank().over(ibis.window(**buyers, order_by="frequency")),
        _m=ibis.rank().over(ibis.window(**buyers, order_by="monetary")),
    )
    is_buyer = table["_is_buyer"]
    known = {"r": is_buyer, "f": is_buyer, "m": is_buyer & table.monetary.notnull()}
    scores = {
        name: ibis.ifelse(is_known, 1 + (n_groups * table[f"_{name}"] // table["_n"]).cast("int64"), None)
        for name, is_known in known.items()
    }
    return table.mutate(**scores)


def _name(scored: ibis.Table, n_groups: int) -> ibis.Value:
    most = n_groups - 1
    recent = 2 * (scored.r - 1)
    much = scored.f + ibis.coalesce(scored.m, scored.f) - 2
    rows = (3 * recent > 4 * most, 3 * recent >= 2 * most)
    columns = (3 * much > 4 * most, 3 * much >= 2 * most)
    return ibis.cases(
        (scored.frequency == 0, _NEVER),
        (rows[0], _pick(columns, _NAMES[0])),
        (rows[1], _pick(columns, _NAMES[1])),
        else_=_pick(columns, _NAMES[2]),
    )


def _pick(columns: tuple[ibis.Value, ibis.Value], names: tuple[str, str, str]) -> ibis.Value:
    return ibis.cases((columns[0], names[0]), (columns[1], names[1]), else_=names[2])
