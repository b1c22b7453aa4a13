"""Whether groups or periods convert differently, and how much of a change is mix and how much is rate."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Literal

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.formats import format_count, format_interval, format_name, format_points, format_share
from journeylab.funnel import Funnel, join_groups, name_columns, name_group, name_values
from journeylab.language import gettext as _
from journeylab.shares import compare_shares
from journeylab.words import unit_of

if TYPE_CHECKING:
    import pandas as pd

Base = Literal["start", "previous"]
_OTHERS, _OTHER_FUNNEL, _ALL = "(others)", "(other funnel)", "(all)"
_COMPARISON_COLUMNS = (
    *("against", "step", "label", "base", "n", "n_reached", "share", "n_other", "n_reached_other", "share_other"),
    *("difference", "low", "high", "p", "p_adjusted", "is_small"),
)
_CHANGE_COLUMNS = (
    *("n", "share_of_starts", "conversion", "n_before", "share_of_starts_before", "conversion_before"),
    *("mix", "mix_low", "mix_high", "rate", "rate_low", "rate_high", "change", "change_low", "change_high"),
)


def compare_funnels(
    funnel: Funnel,
    other: Funnel | None = None,
    *,
    baseline: str | None = None,
    base: Base = "start",
    min_n: int = 30,
) -> pd.DataFrame:
    """Which groups, or which of two periods, reach a step more often, and is that more than chance?

    Parameters
    ----------
    funnel
        From `build_funnel`. With `by` and no `other`, its groups are compared with each other.
    other
        A funnel with the same rules and the same `by`: ``compare_funnels(november, october)``. Each group is compared
        with itself. The two must not share units: they count as independent samples.
    baseline
        The group with which every group is compared; several `by` columns are joined: ``"web · mobile"``. Default: each
        against all others. (Of two groups name one, or the same difference is tested twice.)
    base
        Shares of those who started, or of those who reached the (required) step before.
    min_n
        A pair with fewer units on a side is flagged `is_small`, never tested, and ranked last.

    Returns
    -------
    pandas.DataFrame
        One row per pair and step but the first, surest first: the group, against ("(others)", the baseline,
        "(other funnel)"), step, label, base, n (units at the base), n_reached, share, the same of the other side,
        difference (share - share_other: this one minus the other) with low and high (95 %, Newcombe), p
        (Agresti-Caffo), p_adjusted (Holm over all tested rows), is_small. Null where a side has no units, or no test.

    Notes
    -----
    Only units whose time is over count, on both sides. With a window these are the mature starts. Without one they are
    all who are not still on the way: then fast converters are known sooner than those who are lost, and a group with
    many recent starts looks better than it is; set `within` to be sure. Association, not cause.
    """
    import pandas as pd

    by = funnel.by
    _refuse_taken(by, _COMPARISON_COLUMNS, "compare_funnels")
    if base not in ("start", "previous"):
        raise RuleError(f'compare_funnels: base must be "start" or "previous"; found "{base}"')
    one, two, against = _pair(funnel, other, baseline)
    parts = []
    for step in range(2, len(funnel.labels) + 1):
        whole = 1 if base == "start" else max(i for i in funnel.rules.required if i < step)
        part = {"against": against, "step": step, "label": funnel.labels[step - 1], "base": base}
        part |= {"n": one[whole], "n_reached": one[step], "n_other": two[whole], "n_reached_other": two[step]}
        parts.append(pd.DataFrame(part, index=one.index))
    table = compare_shares(pd.concat(parts), min_n)
    _add_names(table, funnel, other or funnel)
    ranked = table.sort_values(["is_small", "p"], kind="stable")
    return ranked[[*by, *_COMPARISON_COLUMNS]].reset_index(drop=True)


def _pair(funnel: Funnel, other: Funnel | None, baseline: str | None) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Set each group beside what it is compared with; both frames have the same rows."""
    one = count_settled(funnel)
    if other is not None:
        if baseline is not None:
            raise RuleError("compare_funnels: baseline is a group of one funnel; leave it out when you compare two")
        _refuse_different(funnel, other, "compare_funnels")
        return *_align(one, count_settled(other)), _OTHER_FUNNEL
    if not funnel.by:
        raise RuleError('compare_funnels: build the funnel with by=, such as by="channel", or give a second one')
    if baseline is None:
        return one, one.sum() - one, _OTHERS
    if baseline not in one.index:
        known = ", ".join(one.index[:20]) + (" …" if len(one) > 20 else "")
        raise RuleError(f'compare_funnels: no group "{baseline}".{nearest(baseline, one.index)} The groups are {known}')
    rest = one.drop(baseline)
    return rest, one.loc[[baseline] * len(rest)].set_axis(rest.index), baseline


def _align(one: pd.DataFrame, two: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give both the groups of either; who is missing has nobody."""
    groups = [*one.index, *(group for group in two.index if group not in one.index)]
    return one.reindex(groups, fill_value=0), two.reindex(groups, fill_value=0)


def count_settled(funnel: Funnel) -> pd.DataFrame:
    """How many of the units whose time is over did each step? A row per group, a column per step from 1."""
    units = funnel.units
    settled = units.filter(~units.is_open if funnel.rules.within_s is None else units.is_mature)
    counts = {f"n_{i}": settled[f"time_{i}"].count() for i in range(1, len(funnel.labels) + 1)}
    named = settled.mutate(_group=settled.group if funnel.by else ibis.literal(""))
    found: pd.DataFrame = named.group_by("_group").agg(**counts).execute().set_index("_group")
    # In the order of the funnel's own table, with the groups of which nobody's time is over.
    found = found.reindex(list(_name_groups(funnel)), fill_value=0)
    return found.set_axis(range(1, len(funnel.labels) + 1), axis=1)


def describe_comparison(comparison: pd.DataFrame, funnel: Funnel) -> str:
    """What is the surest difference of `compare_funnels`, in one sentence with its base and interval?

    A difference counts where its adjusted p is below 0.05.
    """
    by, unit, within = funnel.by, funnel.rules.unit, funnel.rules.within
    against = str(comparison["against"].iloc[0]) if len(comparison) else _OTHERS
    rest = {_OTHERS: _("the others"), _OTHER_FUNNEL: _("the other funnel")}.get(against) or name_group(against)
    tested, sure = comparison[comparison["p"].notna()], comparison[comparison["p_adjusted"] < 0.05]
    if tested.empty:
        return _(
            "Too few {units} to compare: on one side or the other, too few of them have had their time.",
            units=unit_of(unit, 0),
        )
    if sure.empty and not by:
        return _("The funnel at no step differs from {rest} beyond chance ({n} comparisons).", rest=rest, n=len(tested))
    if sure.empty:
        return _(
            "No {columns} differs from {rest} beyond chance ({n} comparisons).",
            columns=name_columns(by),
            rest=rest,
            n=len(tested),
        )
    top = sure.iloc[0]
    base = {"n": int(top["n"]), "units": unit_of(unit, top["n"])}
    return _(
        "Of the {who} who {condition}, {share} reached {label}, against {share_other} of {n_other} of {rest}: "
        "{difference} (95 % interval {interval}).",
        who=_("{n} {units} of {group}", group=_(" and ").join(name_values(top, by)), **base)
        if by
        else _("{n} {units}", **base),
        condition=_name_condition(top["base"], format_name(funnel.labels[0]), within),
        share=format_share(top["share"]),
        label=format_name(top["label"]),
        share_other=format_share(top["share_other"]),
        n_other=int(top["n_other"]),
        rest=rest,
        difference=format_points(top["difference"]),
        interval=format_interval(top["low"], top["high"], format_points),
    )


def _name_condition(base: Base, start: str, within: str | None) -> str:
    """Who is in the base of a comparison?"""
    if base == "start" and within is None:
        return _("started at {start} and are not still on the way", start=start)
    if base == "start":
        return _("started at {start} and were watched for {within}", start=start, within=within)
    if within is None:
        return _("reached the step before and are not still on the way")
    return _("reached the step before and were watched for {within}", within=within)


def split_change(funnel: Funnel, before: Funnel) -> pd.DataFrame:
    """Did overall conversion change because other groups came (mix), or because groups converted otherwise (rate)?

    Parameters
    ----------
    funnel, before
        Two funnels with the same rules and the same `by`, such as November and October; they must not share units.

    Returns
    -------
    pandas.DataFrame
        One row per group and, last, one named "(all)": the group, n (starts whose time is over, as in
        `compare_funnels`), share_of_starts (of all groups'), conversion (share that reached the last step), the same
        before, mix, rate and change (= mix + rate, as shares: 0.01 is one percentage point). In the row "(all)" change
        is the whole difference in conversion, which the groups' add up to, and mix, rate and change have 95 % intervals
        (`…_low`, `…_high`; null for groups: `compare_funnels` tests those).

    Notes
    -----
    Kitagawa (1955), "Components of a difference between two rates", JASA 50: the interaction is shared evenly, since
    shares are weighed by the mean of both conversions and conversions by the mean of both shares. A group's mix is
    its conversion against the overall one times its growth: below average and growing is negative. A new or gone
    group has no conversion to change: all that it brings is mix. Intervals of mix and rate by the delta method, with
    (x + 1) / (n + 2) for a group's conversion in the variances; of the change by Newcombe.
    """
    import pandas as pd
    from statsmodels.stats.proportion import confint_proportions_2indep

    by = funnel.by
    if not by:
        raise RuleError('split_change needs groups: build both funnels with by=, such as by="channel"')
    _refuse_taken(by, _CHANGE_COLUMNS, "split_change")
    _refuse_different(funnel, before, "split_change")
    now, then = _align(count_settled(funnel), count_settled(before))
    last = len(funnel.labels)
    (n1, x1), (n0, x0) = (now[1].sum(), now[last].sum()), (then[1].sum(), then[last].sum())
    if not n1 or not n0:
        raise RuleError(
            f"split_change: {format_count(n1)} and {format_count(n0)} starts whose time is over; both sides need some. "
            "Use a shorter within=, or a later as_of="
        )
    table = pd.DataFrame(
        {
            "n": now[1],
            "share_of_starts": now[1] / n1,
            "conversion": now[last] / now[1].where(now[1] > 0),
            "n_before": then[1],
            "share_of_starts_before": then[1] / n0,
            "conversion_before": then[last] / then[1].where(then[1] > 0),
        }
    )
    _add_names(table, funnel, before)
    table["mix"], table["rate"], margins = decompose_change(now[1], now[last], then[1], then[last])
    table["change"] = table["mix"] + table["rate"]
    total: dict[str, float] = {"n": n1, "share_of_starts": 1.0, "conversion": x1 / n1}
    total |= {"n_before": n0, "share_of_starts_before": 1.0, "conversion_before": x0 / n0}
    total |= {"mix": table["mix"].sum(), "rate": table["rate"].sum(), "change": x1 / n1 - x0 / n0}
    for name, margin in margins.items():
        total |= {f"{name}_low": total[name] - margin, f"{name}_high": total[name] + margin}
    total["change_low"], total["change_high"] = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb")
    whole = pd.concat([table, pd.DataFrame([dict.fromkeys(by, _ALL) | total])])
    return whole[[*by, *_CHANGE_COLUMNS]].reset_index(drop=True)


def decompose_change(
    n1: pd.Series, x1: pd.Series, n0: pd.Series, x0: pd.Series
) -> tuple[pd.Series, pd.Series, dict[str, float]]:
    """Which part of a change in conversion is mix, and which is rate? See `split_change`.

    Parameters
    ----------
    n1, x1, n0, x0
        Starts and conversions of each group, now and before, with the same index.

    Returns
    -------
    tuple
        Mix and rate of each group, and half the width of the 95 % intervals of their sums ("mix", "rate").
    """
    from scipy.stats import norm

    w1, w0 = n1 / n1.sum(), n0 / n0.sum()
    is_new, is_gone = n0 == 0, n1 == 0
    overall = (x1.sum() / n1.sum() + x0.sum() / n0.sum()) / 2
    known1, known0 = x1 / n1.where(~is_gone), x0 / n0.where(~is_new)
    # Who is on one side alone has there the conversion of the other side; who is on neither moves nothing.
    r1, r0 = known1.fillna(known0).fillna(overall), known0.fillna(known1).fillna(overall)
    typical, weight, moved, turned = (r1 + r0) / 2, (w1 + w0) / 2, w1 - w0, r1 - r0
    mix, rate = moved * (typical - overall), weight * turned
    # Given the sizes of the groups, their conversions are independent of these and of each other.
    mix_var = rate_var = 0.0
    for n, x, w, is_alone, is_absent in ((n1, x1, w1, is_new, is_gone), (n0, x0, w0, is_gone, is_new)):
        near = (x + 1) / (n + 2)
        conversion_var = (near * (1 - near) / (n + 2)).where(~is_absent, 0.0)
        mix_var += (moved**2 * conversion_var).where(is_alone, moved**2 * conversion_var / 4).sum()
        mix_var += ((w * typical**2).sum() - (w * typical).sum() ** 2) / n.sum()
        rate_var += (weight**2 * conversion_var).where(~is_alone, 0.0).sum()
        rate_var += ((w * turned**2).sum() - (w * turned).sum() ** 2) / (4 * n.sum())
    z = norm.isf(0.025)
    return mix, rate, {"mix": z * max(mix_var, 0.0) ** 0.5, "rate": z * max(rate_var, 0.0) ** 0.5}


def _name_groups(funnel: Funnel) -> dict[str, tuple[str, ...]]:
    """The groups as `units` names them, with their values per column, in the order of the funnel's table."""
    if not funnel.by:
        return {"": ()}
    keys = funnel.table[list(funnel.by)].drop_duplicates()
    return dict(zip(join_groups(keys, funnel.by), keys.itertuples(index=False, name=None), strict=True))


def _add_names(table: pd.DataFrame, *funnels: Funnel) -> None:
    """Give each row the values of the `by` columns that its group, the index, stands for."""
    names = {group: key for funnel in funnels for group, key in _name_groups(funnel).items()}
    for i, column in enumerate(funnels[0].by):
        table[column] = [names[group][i] for group in table.index]


def _refuse_taken(by: tuple[str, ...], columns: tuple[str, ...], where: str) -> None:
    taken = [name for name in by if name in columns]
    if taken:
        raise RuleError(
            f'{where}: "{taken[0]}" is a column of the answer itself; rename yours in read_events(columns=)'
        )


def _refuse_different(funnel: Funnel, other: Funnel, where: str) -> None:
    """Two funnels can be compared only if they ask the same question of others."""
    if funnel is other:
        raise RuleError(
            f"{where}: the funnel is given twice; compare it with that of another time, or alone by its groups"
        )
    asked = [
        {field.name: getattr(side.rules, field.name) for field in fields(side.rules)} | {"by": side.by}
        for side in (funnel, other)
    ]
    differing = [f"{name} ({one!r} and {asked[1][name]!r})" for name, one in asked[0].items() if one != asked[1][name]]
    if differing:
        raise RuleError(
            f"{where}: the two funnels ask different questions: {'; '.join(differing)}. "
            "Build both with the same rules and the same by="
        )
