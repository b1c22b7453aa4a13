"""Where customers leave, who leaves, what they did next, and what goes with leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError
from journeylab.formats import format_count, format_interval, format_points, format_share
from journeylab.funnel import Funnel

if TYPE_CHECKING:
    import pandas as pd

_FINDING_COLUMNS = (
    *("step", "label", "next_label", "n", "n_lost", "share_lost", "share_lost_elsewhere", "difference", "low", "high"),
    *("p_adjusted", "excess_lost", "is_small"),
)


def find_drop_offs(funnel: Funnel, *, min_n: int = 30) -> pd.DataFrame:
    """Between which steps, and in which group, are more customers lost than elsewhere?

    Parameters
    ----------
    funnel
        From `build_funnel` with `by`.
    min_n
        A group with fewer units at a step is flagged `is_small` and ranked last.

    Returns
    -------
    pandas.DataFrame
        One row per group and step but the last, best finding first: the group, step, label, next_label, n (units that
        reached the step and are not still on the way), n_lost, share_lost (of n), share_lost_elsewhere (all others),
        difference with low and high (95 %, Newcombe), p_adjusted (Agresti-Caffo, Holm over all rows), excess_lost
        (units lost beyond what the others' share would cost), is_small. Ranked by the excess at the lower bound.

    Notes
    -----
    Association, not cause: groups differ in more than their name.
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    by = funnel.by
    if by is None:
        raise RuleError('find_drop_offs compares groups: build the funnel with by=, such as by="channel"')
    known = funnel.table.assign(n=funnel.table["n"] - funnel.table["n_open"])
    rows = []
    for step, label in enumerate(funnel.labels[:-1], 1):
        cells = known.loc[known["step"] == step, [by, "n", "n_lost"]]
        n_all, lost_all = int(cells["n"].sum()), int(cells["n_lost"].sum())
        for group, n, lost in cells.itertuples(index=False):
            place = {by: group, "step": step, "label": label, "next_label": funnel.labels[step], "n": n, "n_lost": lost}
            rows.append(place | _compare_loss(lost, n, lost_all - lost, n_all - n))
    table = pd.DataFrame(rows, columns=[by, *_FINDING_COLUMNS])
    tested = table["p_adjusted"].notna()
    if tested.any():
        table.loc[tested, "p_adjusted"] = multipletests(table.loc[tested, "p_adjusted"], method="holm")[1]
    table["is_small"] = table["n"] < min_n
    surest = table["low"] * table["n"]
    ranked = table.assign(_surest=surest).sort_values(["is_small", "_surest"], ascending=[True, False], kind="stable")
    return ranked.drop(columns="_surest").reset_index(drop=True)


def _compare_loss(lost: int, n: int, lost_elsewhere: int, n_elsewhere: int) -> dict[str, float]:
    import numpy as np
    from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

    nan = float("nan")
    share, elsewhere = lost / n if n else nan, lost_elsewhere / n_elsewhere if n_elsewhere else nan
    low = high = p = nan
    if n and n_elsewhere:
        low, high = confint_proportions_2indep(lost, n, lost_elsewhere, n_elsewhere, method="newcomb")
        # It works out an odds ratio too, which nobody asked for and which has no value where a share is 0 or 1.
        with np.errstate(divide="ignore", invalid="ignore"):
            p = float(test_proportions_2indep(lost, n, lost_elsewhere, n_elsewhere, method="agresti-caffo").pvalue)
    return {
        "share_lost": share,
        "share_lost_elsewhere": elsewhere,
        "difference": share - elsewhere,
        "low": low,
        "high": high,
        "p_adjusted": p,
        "excess_lost": (share - elsewhere) * n,
    }


def describe_drop_off(findings: pd.DataFrame, funnel: Funnel) -> str:
    """What is the first finding of `find_drop_offs`, in one sentence with its base and interval?

    A finding counts where its adjusted p is below 0.05 and its group is not small.
    """
    by, units = str(funnel.by), f"{funnel.rules.unit}s"
    sure = findings[~findings["is_small"] & (findings["difference"] > 0) & (findings["p_adjusted"] < 0.05)]
    if not (findings["p_adjusted"].notna() & ~findings["is_small"]).any():
        return f"Too few {units} to compare: no {by} is large enough at any step, or nobody's time has passed yet."
    if sure.empty:
        return f"No {by} loses more {units} at any step than the others do, beyond chance."
    top = sure.iloc[0]
    return (
        f"Of the {format_count(top['n'])} {units} of {by} {top[by]} who reached {top['label']} "
        f"and are not still on the way, {format_share(top['share_lost'])} never reached {top['next_label']}, against "
        f"{format_share(top['share_lost_elsewhere'])} elsewhere (95 % interval of the difference: "
        f"{format_interval(top['low'], top['high'], format_points)}): "
        f"about {format_count(top['excess_lost'])} more {units} than expected."
    )


def compare_next(steps: ibis.Table, funnel: Funnel) -> pd.DataFrame:
    """What did those who dropped out do next, in the same journey?

    Returns
    -------
    pandas.DataFrame
        step, label (where they stopped), next_event (None: nothing more in that journey), n, share (of those lost at
        the step). Units that are still on the way are not lost and not counted.
    """
    units, seen = funnel.units, steps.filter(steps.timestamp <= funnel.as_of)
    lost = units.filter((units.reached < len(funnel.labels)) & ~units.is_open).select(
        "customer_id", "reached", position="reached_position"
    )
    stops = lost.join(seen.select("customer_id", "position", "journey_id", "step"), ["customer_id", "position"])
    # Not `steps.next_event`: that may lie after the end of observation.
    following = seen.select("journey_id", step=seen.step - 1, next_event="event")
    after = stops.left_join(following, ["journey_id", "step"])
    table: pd.DataFrame = after.group_by("reached", "next_event").agg(n=after.count()).execute()
    table = table.rename(columns={"reached": "step"})
    table["label"] = [funnel.labels[step - 1] for step in table["step"]]
    table["share"] = table["n"] / table.groupby("step")["n"].transform("sum")
    table["next_event"] = table["next_event"].astype(object).where(table["next_event"].notna(), None)
    table["_name"] = table["next_event"].fillna("")
    order = table.sort_values(["step", "n", "_name"], ascending=[True, False, True])
    return order[["step", "label", "next_event", "n", "share"]].reset_index(drop=True)
