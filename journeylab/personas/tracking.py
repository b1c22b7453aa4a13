"""Personas over time: how many each are, who moves between them, whether they behave as before, and who is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from journeylab.errors import RuleError
from journeylab.formats import format_interval, format_name, format_points, format_share
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.personas.assigning import MarkovPersonas
from journeylab.personas.counting import MarkovRules, count_moves
from journeylab.personas.drawing import draw_customers
from journeylab.personas.drift import measure_drift, recall_mixture, recall_transitions, weigh_anew
from journeylab.personas.fit import Personas
from journeylab.personas.matching import find_new
from journeylab.shares import adjust_holm, bound_shares, compare_shares

Tables = tuple[ibis.Table, ibis.Table | None]

_LEVEL = 0.05
_LEAST_EFFECT = 0.1  # Cohen (1988): a small w; what is less, large logs show every month
_MOST_CUSTOMERS = 20_000  # drift and new personas show in so many; shares and moves are of all


@dataclass(frozen=True, eq=False)
class Tracking:
    """How do personas change over time? Made by `track_personas`.

    Parameters
    ----------
    periods : pandas.DataFrame
        One row per period: period, n (customers), n_unknown (of them, with events that the personas do not know),
        n_atypical (of them, who fit no persona), share_atypical with low and high (95 %, Wilson), and growth (of that
        share since the first period) with growth_low, growth_high (Newcombe), p and p_adjusted (Holm): where ever more
        fit none, a persona is missing.
    shares : pandas.DataFrame
        One row per period and persona: period, persona, name, n, share (of the customers of the period) with low and
        high (95 %, Wilson), change (since the period before) with change_low, change_high (Newcombe), p and p_adjusted
        (Holm over all; null where a period has fewer than `min_n` customers), share_atypical (of the persona).
    moves : pandas.DataFrame
        Who went where from a period to the next, one row per pair of personas that occurs: period_before, period,
        persona_before (null: not seen before), persona_after (null: not seen any more), n, share (of all customers
        seen in both), share_of_before (of those of persona_before seen in both), probability (that both assignments are
        right, averaged: where it is low, many seem to move who do not).
    drift : pandas.DataFrame
        Do the customers of a persona still do what they did in the fit? One row per period and persona: period,
        persona, name, n (customers looked at, by their probability; not those of a persona that is new beside all the
        others), n_moves (transitions looked at), effect (Cohen's w) with low and high (95 %), p, p_adjusted (Holm over
        all), has_drifted (p_adjusted below 0.05 and an effect of at least 0.1, which is small), and of the transition
        that changed most surely event, next_event, probability_before (in the fit) and probability (in the period); see
        `measure_drift`. Null where too little was seen.
    emerging : pandas.DataFrame
        What a fit of the period alone finds, one row per persona found: period, persona_new (its number there), name,
        n, share, persona_old (which of the personas it is; null: it is new, or none is left for it), distance (to that,
        else to the nearest; see `match_personas`), distance_again (from what fits of two halves of the customers find,
        the farther; null where nothing called for it), is_new (no fewer than `min_n` customers, at least 0.25 from all
        that are known, and 1.5 times as far as chance puts it by `distance_again`). Empty where `notes` say so, and
        without a refit.
    notes : tuple of str
        What was not looked at, and why.
    """

    periods: pd.DataFrame
    shares: pd.DataFrame = field(repr=False)
    moves: pd.DataFrame = field(repr=False)
    drift: pd.DataFrame = field(repr=False)
    emerging: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """What is the answer in one sentence?"""
        names = self.periods["period"].tolist()
        said = [
            text for text in (self._say_changes(), self._say_drift(), self._say_new() or self._say_atypical()) if text
        ]
        findings = "; ".join(said) or _("nothing changed that chance does not explain")
        if len(names) == 1:
            return _("In {period}: {findings}.", period=names[0], findings=findings)
        return _("From {first} to {last}: {findings}.", first=names[0], last=names[-1], findings=findings)

    def _say_changes(self) -> str:
        sure = self.shares[self.shares["p_adjusted"] < _LEVEL]
        if sure.empty:
            return ""
        row, n_more = sure.iloc[int(sure["change"].abs().argmax())], len(sure) - 1
        said = {
            "name": format_name(row["name"]),
            "share": format_share(row["share"]),
            "period": row["period"],
            "change": format_points(row["change"]),
            "interval": format_interval(row["change_low"], row["change_high"], format_points),
        }
        if row["change"] > 0:
            finding = _("{name} grew to {share} in {period} ({change}, {interval})", **said)
        else:
            finding = _("{name} fell to {share} in {period} ({change}, {interval})", **said)
        if not n_more:
            return finding
        return ngettext(
            "{finding}, and {n} more change of shares",
            "{finding}, and {n} more changes of shares",
            n_more,
            finding=finding,
        )

    def _say_drift(self) -> str:
        first = self.drift[self.drift["has_drifted"]].drop_duplicates("persona")
        return ", ".join(
            _("{name} behaves differently (first in {period})", name=format_name(name), period=period)
            for name, period in zip(first["name"], first["period"], strict=True)
        )

    def _say_new(self) -> str:
        new = self.emerging[self.emerging["is_new"]]
        if new.empty:
            return ""
        row = new.iloc[0]
        return _(
            "a new persona, {name}, shows first in {period} ({share})",
            name=format_name(row["name"]),
            period=row["period"],
            share=format_share(row["share"]),
        )

    def _say_atypical(self) -> str:
        grown = self.periods[(self.periods["p_adjusted"] < _LEVEL) & (self.periods["growth"] > 0)]
        if grown.empty:
            return ""
        row, first = grown.iloc[-1], self.periods.iloc[0]
        return _(
            "{share} of the customers of {period} fit no persona (of {first}: {before})",
            share=format_share(row["share_atypical"]),
            period=row["period"],
            first=first["period"],
            before=format_share(first["share_atypical"]),
        )

    def _repr_html_(self) -> str:
        # names come from data: to_html escapes them, and the classes keep $x$ from becoming a formula
        wide = self.shares.pivot(index=["persona", "name"], columns="period", values="share")
        wide = wide[self.periods["period"]].map(format_share)
        wide = wide.rename_axis([_("persona"), _("name")]).rename_axis(columns=None)
        table = wide.reset_index().to_html(index=False, classes=["tex2jax_ignore", "mathjax_ignore"])
        title = _("Share of each persona in the customers of each period")
        return f"<p>{title}</p>{table}"


def track_personas(
    personas: Personas,
    periods: Mapping[str, ibis.Table | Tables],
    *,
    refit: bool = True,
    min_n: int = 30,
    seed: int = 0,
) -> Tracking:
    """Which personas grow, who moves between them, do they behave as they did, and is a new one emerging?

    Personas keep their numbers: the customers of each period are assigned, and what a refit finds is matched.

    Parameters
    ----------
    personas : Personas
        From `fit_personas` or `load_personas`.
    periods : mapping
        The steps of each period under its name, in the order of time: ``{"2026-10": steps_a, "2026-11": steps_b}``, or
        ``{"2026-10": (steps_a, journeys_a), …}``, for journeys tell which have ended. Best are the steps of the whole
        log, filtered by time, with its journeys: in months built each on its own, journeys begin that only go on.
    refit : bool
        Whether to fit each period anew, with up to two more personas, to see whether one is new. It takes most of the
        time.
    min_n : int
        Shares of periods with fewer customers are not tested, and fewer customers are no new persona.
    seed : int
        From 0: who is drawn of more than 20,000 customers to look for drift and new personas, and how refits start.

    Raises
    ------
    RuleError
        If there is no period, or one has no customers.

    Notes
    -----
    Customers seen in two periods count in both as if they were different ones: where they keep their persona, the
    interval of a change is wider than it need be.
    """
    if not periods:
        raise RuleError('track_personas needs at least one period, such as {"2026-10": steps}')
    model = personas.model
    rules = MarkovRules(tuple(model.vocabulary.outcomes)) if isinstance(model, MarkovPersonas) else None
    counted, moves, drift, emerging = [], [], [], []
    before: tuple[str, pd.DataFrame] | None = None
    for key, given in periods.items():
        period, (steps, journeys) = str(key), given if isinstance(given, tuple) else (given, None)
        members = personas.assign(steps, journeys)
        if members.empty:
            raise RuleError(f'period "{period}" has no customers; leave it out')
        counted.append(_count_members(members, personas).assign(period=period))
        if before is not None:
            moves.append(_follow(before[1], members).assign(period_before=before[0], period=period))
        before = period, members[["customer_id", "persona", "probability"]]
        drawn, is_added = _draw(steps, journeys, seed), None
        if refit and rules is not None:
            found, is_added = find_new(personas, count_moves(*drawn, rules), min_n=min_n, seed=seed)
            emerging.append(found.assign(period=period))
        drift.append(_test_drift(personas, drawn, members, is_added).assign(period=period))
    counts = pd.concat(counted, ignore_index=True)
    return Tracking(
        periods=_sum_up(counts, min_n),
        shares=_share_out(counts, min_n),
        moves=_join(moves, _MOVES),
        drift=_flag_drift(_join(drift, _DRIFT)),
        emerging=_join(emerging, _EMERGING),
        notes=() if rules is not None or not refit else (_say_no_refit(model.method),),
    )


def _say_no_refit(method: str) -> str:
    return _(
        'New personas are not looked for: that takes method="markov", and these are by method="{method}".',
        method=method,
    )


_MOVES = {"period_before": "str", "period": "str", "persona_before": "Int64", "persona_after": "Int64", "n": "int64"}
_MOVES |= dict.fromkeys(("share", "share_of_before", "probability"), "float64")
_DRIFT = {"period": "str", "persona": "int64", "name": "str"}
_DRIFT |= dict.fromkeys(("n", "n_moves", "effect", "low", "high", "p", "p_adjusted"), "float64")
_DRIFT |= {"has_drifted": "bool", "event": "str", "next_event": "str"}
_DRIFT |= dict.fromkeys(("probability_before", "probability"), "float64")
_EMERGING = {"period": "str", "persona_new": "int64", "name": "str", "n": "int64", "share": "float64"}
_EMERGING |= {"persona_old": "Int64", "distance": "float64", "distance_again": "float64", "is_new": "bool"}


def _join(tables: list[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))
    return table.reindex(columns=list(columns)).astype(columns)


def _count_members(members: pd.DataFrame, personas: Personas) -> pd.DataFrame:
    """Per persona: name, n, and how many of them fit none or did what is not known."""
    seen = members.assign(is_unknown=members["n_unknown"] > 0).groupby("persona")
    counts = seen.agg(n=("persona", "size"), n_atypical=("is_atypical", "sum"), n_unknown=("is_unknown", "sum"))
    table = personas.summary[["persona", "name"]].join(counts, on="persona")
    return table.fillna(dict.fromkeys(counts.columns, 0)).astype(dict.fromkeys(counts.columns, "int64"))


def _sum_up(counts: pd.DataFrame, min_n: int) -> pd.DataFrame:
    table = counts.groupby("period", sort=False, as_index=False)[["n", "n_unknown", "n_atypical"]].sum()
    table["share_atypical"], table["low"], table["high"] = bound_shares(table["n_atypical"], table["n"])
    later = table.index > 0
    first = [pd.Series(table[name].iloc[0], index=table.index).where(later) for name in ("n_atypical", "n")]
    return table.join(_compare("growth", (table["n_atypical"], table["n"]), first, min_n))


def _share_out(counts: pd.DataFrame, min_n: int) -> pd.DataFrame:
    table = counts[["period", "persona", "name", "n"]].copy()
    whole, k = counts.groupby("period")["n"].transform("sum"), counts["persona"].nunique()
    table["share"], table["low"], table["high"] = bound_shares(table["n"], whole)
    table = table.join(_compare("change", (table["n"], whole), [table["n"].shift(k), whole.shift(k)], min_n))
    return table.assign(share_atypical=counts["n_atypical"] / counts["n"].where(counts["n"] > 0))


def _compare(name: str, now: Sequence[pd.Series], before: Sequence[pd.Series], min_n: int) -> pd.DataFrame:
    """How does n of a whole differ from n of a whole before? Null where there is no before."""
    pairs = pd.concat([*now, *before], axis=1, keys=["n_reached", "n", "n_reached_other", "n_other"]).dropna()
    compared = compare_shares(pairs, min_n) if len(pairs) else pairs
    compared = compared.reindex(now[0].index, columns=["difference", "low", "high", "p", "p_adjusted"])
    return compared.set_axis([name, f"{name}_low", f"{name}_high", "p", "p_adjusted"], axis=1).astype("float64")


def _follow(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """How many went from each persona to each, came new, or were not seen any more?"""
    sides = [table[["customer_id", "persona", "probability"]].astype({"persona": "Int64"}) for table in (before, after)]
    both = sides[0].merge(sides[1], on="customer_id", how="outer", suffixes=("_before", "_after"))
    both["probability"] = both["probability_before"] * both["probability_after"]
    pairs = both.groupby(["persona_before", "persona_after"], dropna=False, as_index=False)
    table = pairs.agg(n=("probability", "size"), probability=("probability", "mean"))
    stayed = table["n"].where(table["probability"].notna())
    table["share"] = stayed / stayed.sum()
    return table.assign(share_of_before=stayed / stayed.groupby(table["persona_before"]).transform("sum"))


def _test_drift(
    personas: Personas, drawn: Tables, members: pd.DataFrame, is_added: NDArray[np.bool_] | None
) -> pd.DataFrame:
    model, summary = personas.model, personas.summary
    if isinstance(model, MarkovPersonas) and not model.vocabulary.emissions:
        events: Sequence[str] = model.vocabulary.events
        counts = count_moves(*drawn, events=events)
        habits, belongs = recall_mixture(model.mixture), weigh_anew(model.mixture, counts.moves)
    else:
        events = sorted({*personas.transitions["event"].dropna(), *personas.transitions["next_event"].dropna()})
        counts = count_moves(*drawn, events=events)
        habits = recall_transitions(personas.transitions, events, len(summary))
        belongs = np.eye(len(summary))[members.set_index("customer_id").loc[counts.customers, "persona"] - 1]
    # those of a new persona would make all others seem to drift
    known = np.flatnonzero(np.ones(len(belongs), dtype=bool) if is_added is None else ~is_added)
    moves = counts.moves[known, len(events) : len(events) * (1 + len(events))]
    return measure_drift(habits, moves, belongs[known], events).assign(name=summary["name"])


def _flag_drift(drift: pd.DataFrame) -> pd.DataFrame:
    drift["p_adjusted"] = adjust_holm(drift["p"])
    return drift.assign(has_drifted=(drift["p_adjusted"] < _LEVEL) & (drift["effect"] >= _LEAST_EFFECT))


def _draw(steps: ibis.Table, journeys: ibis.Table | None, seed: int) -> Tables:
    """Not more customers than drift and new personas need to show."""
    if journeys is None:
        return draw_customers(steps, steps, n=_MOST_CUSTOMERS, seed=seed)[0], None
    return draw_customers(steps, journeys, n=_MOST_CUSTOMERS, seed=seed)
