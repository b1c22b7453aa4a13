"""Who is new, who falls silent, and who buys again? A silence that still runs is not an end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import ibis

from journeylab.engine import round_wait
from journeylab.errors import RuleError
from journeylab.journeys import end_of_observation
from journeylab.retention import (
    Period,
    add_share,
    check_choice,
    check_events,
    dates_of,
    keep_events,
    number_of,
    number_of_day,
)
from journeylab.rules import parse_duration

if TYPE_CHECKING:
    import pandas as pd

_MOST_REPEATS = 10
_LIFECYCLE_COLUMNS = ("period_start", "n_active", "n_new", "n_returning", "n_resurrected", "n_dormant", "is_immature")
_REPEAT_COLUMNS = (
    *("k", "n", "n_next", "n_open", "share", "low", "high", "share_censored", "censored_low", "censored_high"),
    *("within_s", "median_s", "median_s_low", "median_s_high"),
)


def count_lifecycle(steps: ibis.Table, *, period: Period = "W", as_of: str | date | None = None) -> pd.DataFrame:
    """How many customers of each period are new, still here, back again, or gone quiet?

    Parameters
    ----------
    steps
        From `build_steps`.
    period
        ``"D"`` days, ``"W"`` ISO weeks (from Monday), ``"M"`` calendar months; in UTC.
    as_of
        End of observation (UTC); default: the last event of `steps`.

    Returns
    -------
    pandas.DataFrame
        One row per period, empty ones too, from the first event to `as_of`: period_start (its first day), n_active
        (with any event), and its parts n_new (never seen before), n_returning (also active in the period before),
        n_resurrected (active before, but not in the period before); n_dormant (active in the period before, not in
        this one; as in PostHog no part of n_active), is_immature (the period of `as_of`, which is not over: its counts
        will still change, and its n_dormant is null).
        ``n_active = n_active before - n_dormant + n_new + n_resurrected``.

    Notes
    -----
    In the first periods of a log many seem new who were customers before it.
    """
    import pandas as pd

    check_choice("count_lifecycle: period", period, Period)
    end = end_of_observation(steps, as_of)
    seen = steps.filter(steps.timestamp <= end)
    active = seen.mutate(period=number_of(seen.timestamp, period)).select("customer_id", "period").distinct()
    before = active.period.lag().over(ibis.window(group_by="customer_id", order_by="period"))
    active = active.mutate(since=active.period - before)
    counted = active.group_by("period").agg(
        n_active=active.count(),
        n_new=active.count(where=active.since.isnull()),
        n_returning=active.count(where=active.since == 1),
        n_resurrected=active.count(where=active.since > 1),
    )
    found: pd.DataFrame = counted.execute().set_index("period")
    last = number_of_day(end, period)
    first = int(found.index.min()) if len(found) else last + 1
    table = found.reindex(range(first, last + 1), fill_value=0).rename_axis("period").reset_index()
    table["is_immature"] = table["period"] == last
    gone = table["n_active"].shift(fill_value=0) - table["n_returning"]
    table["n_dormant"] = gone.astype("Int64").mask(table["is_immature"], pd.NA)
    table["period_start"] = dates_of(table["period"], period)
    return table[list(_LIFECYCLE_COLUMNS)]


def count_churn(
    steps: ibis.Table,
    *,
    dormant_after: str | Sequence[str] = ("7D", "14D", "30D", "60D", "90D"),
    within: str | None = "30D",
    as_of: str | date | None = None,
) -> pd.DataFrame:
    """Who is active, dormant or back again, and how likely is a silence of this length to be the end?

    Parameters
    ----------
    steps
        From `build_steps`.
    dormant_after
        One silence, or several to choose from. A customer who is silent for longer is dormant.
    within
        How long after falling dormant a return is waited for (inclusive), so that the rows can be compared. None: as
        long as anyone was watched, which differs from row to row.
    as_of
        End of observation (UTC); default: the last event of `steps`.

    Returns
    -------
    pandas.DataFrame
        One row per silence, shortest first: dormant_after; n_customers and its parts at `as_of`, n_active (never that
        long silent), n_resurrected (were, and came back), n_dormant (are); n_silent (customers who ever fell that
        silent), n_returned (of them, came back the first time they did, however late), n_watched (of them, watched for
        all of `within` after it; null without `within`); share_returned with low and high (95 %): the share of
        n_silent that returns in the first within_s seconds after falling dormant, as `estimate_incidence` has it; null
        where nobody was watched for so long.

    Notes
    -----
    A dormancy is too short while many of those whom it calls gone come back. A silence that still runs at `as_of` is
    censored, not an end. Each customer counts once, with their first silence of that length: the pauses of one person
    resemble each other. Silences reach across journeys. Their lengths are rounded up to four digits of seconds (within
    `within` at most), but not before each is known to lie in it or not.
    """
    import pandas as pd

    given = [dormant_after] if isinstance(dormant_after, str) else list(dormant_after)
    if not given:
        raise RuleError('count_churn: dormant_after needs at least one duration, such as "30D"')
    limits = sorted((parse_duration(text, "dormant_after") * 1_000_000, text) for text in given)
    within_s = None if within is None else parse_duration(within, "within")
    end = end_of_observation(steps, as_of)
    pauses = _find_pauses(steps.filter(steps.timestamp <= end), end)
    found = _count_silences(pauses, [limit_us for limit_us, _ in limits], within_s).execute()
    rows = [
        {"dormant_after": text} | _describe_silence(found[found["limit_us"] == limit_us], within_s)
        for limit_us, text in limits
    ]
    return pd.DataFrame(rows).astype({"n_watched": "Int64"})


def _count_silences(pauses: ibis.Table, limits_us: list[int], within_s: int | None) -> ibis.Table:
    """Of each limit: how many customers have the same first silence longer than that (null: none), from then on?"""
    # Short pauses in a customer's history decide nothing.
    pauses = pauses.filter((pauses.wait_us > limits_us[0]) | ~pauses.has_ended)
    pauses = pauses.mutate(limit_us=ibis.array(limits_us).unnest())
    is_long = pauses.wait_us > pauses.limit_us
    first = pauses.group_by("limit_us", "customer_id").agg(
        over_us=(pauses.wait_us - pauses.limit_us).argmin(pauses.number, where=is_long),
        watched_us=(pauses.watched_us - pauses.limit_us).argmin(pauses.number, where=is_long),
        has_ended=pauses.has_ended.argmin(pauses.number, where=is_long),
        is_dormant=(is_long & ~pauses.has_ended).any(),
    )
    first = first.mutate(**_as_spell(first.over_us, first.has_ended, within_s))
    is_watched = ibis.literal(False) if within_s is None else first.watched_us >= within_s * 1_000_000
    return first.group_by("limit_us", "duration_s", "ended").agg(
        n=first.count(),
        n_dormant=first.count(where=first.is_dormant),
        n_returned=first.count(where=first.has_ended),
        n_watched=first.count(where=is_watched),
    )


def _describe_silence(found: pd.DataFrame, within_s: int | None) -> dict[str, float | None]:
    silent = found[found["duration_s"].notna()]
    n_customers, n_dormant, n_silent = int(found["n"].sum()), int(found["n_dormant"].sum()), int(silent["n"].sum())
    share, low, high, horizon_s = _estimate_share(silent, within_s)
    return {
        "n_customers": n_customers,
        "n_active": n_customers - n_silent,
        "n_resurrected": n_silent - n_dormant,
        "n_dormant": n_dormant,
        "n_silent": n_silent,
        "n_returned": int(silent["n_returned"].sum()),
        "n_watched": None if within_s is None else int(silent["n_watched"].sum()),
        "share_returned": share,
        "low": low,
        "high": high,
        "within_s": horizon_s,
    }


def count_repeats(
    steps: ibis.Table,
    *,
    event: str | Sequence[str],
    within: str | None = None,
    as_of: str | date | None = None,
    min_n: int = 30,
) -> pd.DataFrame:
    """Of those who bought once, twice, three times: how many buy again, and how soon?

    Parameters
    ----------
    steps
        From `build_steps`.
    event
        The event(s) that are a purchase (or whatever is to be repeated). Each one counts, also at the same instant.
    within
        How long after a purchase the next is waited for (inclusive). Default: as long as anyone was watched.
    as_of
        End of observation (UTC); default: the last event of `steps`.
    min_n
        Purchases that fewer customers made have no row, but for the first.

    Returns
    -------
    pandas.DataFrame
        One row per purchase k, 10 at most: k, n (customers who made it), n_next (of them, made the next one, within
        `within`), n_open (did not, and still can), share, low and high (n_next / n, Wilson 95 %: too low while many are
        open), share_censored, censored_low and censored_high (the share who buy again in the first within_s seconds
        after purchase k, as `estimate_incidence` has it; null where nobody was watched for so long), within_s, and
        median_s, median_s_low, median_s_high (seconds until half of that share has bought again; null where nobody has,
        or where the data set no bound).

    Notes
    -----
    ``n = n_next + n_open +`` those whose time is over, of whom there are none without `within`. Who has not bought
    again at `as_of` is censored. The median is the curve's quantile at half of share_censored and so not biased
    towards the quick, as that of the repeats seen so far is; its 95 % interval takes that half as known and is on the
    wide side. From k = 2 on the quick are over-represented: they came to purchase k sooner, and were watched for
    longer after it. Waits are rounded as in `count_churn`.
    """
    import pandas as pd

    names = check_events(steps, event, "count_repeats: event")
    within_s = None if within is None else parse_duration(within, "within")
    end = end_of_observation(steps, as_of)
    pauses = _find_pauses(keep_events(steps.filter(steps.timestamp <= end), names), end)
    pauses = pauses.filter(pauses.number <= _MOST_REPEATS)
    pauses = pauses.mutate(
        is_open=~pauses.has_ended & (True if within_s is None else pauses.wait_us < within_s * 1_000_000),
        **_as_spell(pauses.wait_us, pauses.has_ended, within_s),
    )
    counted = pauses.group_by("number", "duration_s", "ended").agg(
        n=pauses.count(), n_open=pauses.count(where=pauses.is_open)
    )
    rows = []
    for k, spells in counted.execute().groupby("number"):
        if k > 1 and spells["n"].sum() < min_n:
            break
        rows.append({"k": k} | _describe_repeat(spells, within_s))
    table = add_share(pd.DataFrame(rows, columns=list(_REPEAT_COLUMNS)), "n_next")
    return table[list(_REPEAT_COLUMNS)]


def _describe_repeat(spells: pd.DataFrame, within_s: int | None) -> dict[str, float]:
    from journeylab.survival import estimate_quantile

    share, low, high, horizon_s = _estimate_share(spells, within_s)
    median = estimate_quantile(spells, share / 2) if share > 0 else (float("nan"),) * 3
    return {
        "n": int(spells["n"].sum()),
        "n_next": int(spells["n"][spells["ended"] == 1].sum()),
        "n_open": int(spells["n_open"].sum()),
        "share_censored": share,
        "censored_low": low,
        "censored_high": high,
        "within_s": horizon_s,
        **dict(zip(("median_s", "median_s_low", "median_s_high"), median, strict=True)),
    }


def _find_pauses(events: ibis.Table, end: datetime) -> ibis.Table:
    """From each event to the customer's next one, or to the end of observation."""
    history = ibis.window(group_by="customer_id", order_by="position")
    later = events.timestamp.lead().over(history)
    events = events.mutate(later=later, number=ibis.row_number().over(history) + 1)
    return events.select(
        "customer_id",
        "number",
        has_ended=events.later.notnull(),
        wait_us=ibis.coalesce(events.later, ibis.literal(end)).delta(events.timestamp, unit="microsecond"),
        watched_us=ibis.literal(end).delta(events.timestamp, unit="microsecond"),
    )


def _as_spell(wait_us: ibis.Value, has_ended: ibis.Value, within_s: int | None) -> dict[str, ibis.Value]:
    """A wait as `survival` takes it, folded: of nobody's interest is more than four digits, or what follows `within`.

    A return after `within` is none, and that is settled to the microsecond, before the rounding.
    """
    if within_s is not None:
        is_over = wait_us > within_s * 1_000_000
        # Not `least`: of a null and a number it gives the null in BigQuery, the number elsewhere.
        wait_us, has_ended = ibis.ifelse(is_over, within_s * 1_000_000, wait_us), has_ended & ~is_over
    return {"duration_s": round_wait(wait_us, within_s), "ended": has_ended.cast("int8")}


def _estimate_share(spells: pd.DataFrame, within_s: int | None) -> tuple[float, float, float, float]:
    """The share that came by the horizon, its bounds, and the horizon in seconds (the window or the longest wait)."""
    from journeylab.survival import estimate_incidence

    time_s = spells["duration_s"].max() if within_s is None else within_s
    share, low, high = estimate_incidence(spells, at=[time_s])[["share", "low", "high"]].to_numpy()[0]
    return float(share), float(low), float(high), float(within_s or time_s)
