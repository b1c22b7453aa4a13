"""Filling the map: what is measured, what customers stated, what people assume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.feedback.feelings import measure_feeling, read_feeling
from journeylab.feedback.pain import count_pain_points
from journeylab.journeymap.lanes import FILLERS, Source
from journeylab.journeymap.measure import compare_ways, count_reach, read_seen
from journeylab.journeymap.model import JourneyMap, check_lanes, tidy_cells
from journeylab.journeymap.moments import find_moments
from journeylab.journeymap.workshop import Workshop

if TYPE_CHECKING:
    import ibis

    from journeylab.rules import JourneyRules


def build_map(
    steps: ibis.Table,
    journeys: ibis.Table,
    rules: JourneyRules,
    *,
    attached: ibis.Table | None = None,
    pain: str | Sequence[str] = (),
    topics: pd.DataFrame | None = None,
    workshop: Workshop | None = None,
    lanes: Sequence[str] | None = None,
    way: str = "channel",
    top: int = 5,
    min_group: int = 10,
    title: str = "",
) -> JourneyMap:
    """What is the journey of these customers like: what they do, feel and say at each stage, and where it breaks?

    Parameters
    ----------
    steps
        From `build_steps`.
    journeys
        From `build_journeys`: the journeys that the map is about. Filtered, it is the map of a persona, a segment or a
        period.
    rules
        The rules both were built with; their stages stand across the map.
    attached
        Answers from `attach_feedback`, with a column of feelings (`harmonise_scores`, `score_text`); for the lanes
        feeling, said and pain points.
    pain
        Events that hurt, such as ``"payment_error"``.
    topics
        What the comments are about: stage, item, value (share of the stage's comments), n, low, high.
    workshop
        What people know: `read_workshop`.
    lanes
        Of `LANES`, in the order they are wanted; default: all.
    way
        The column by which ways through a stage are compared for quick wins, if the log has it.
    top
        Lines of a cell; what is rarer is folded into "(other)".
    min_group
        What fewer customers did is folded too, or left out, so that nobody can be recognised.
    title
        Whose journey it is.

    Returns
    -------
    JourneyMap
        Queries ran. Every cell has its base, interval and grade of evidence.

    Raises
    ------
    RuleError
        The rules have no stages, no journey is left, or a lane is not known.

    Notes
    -----
    Reach counts customers. Drop-off counts journeys: of those that were at the stage and are not still there, the share
    that is over without the goal and was at no other stage afterwards. Feelings weigh each customer's answers there as
    one; survey answers are "stated".
    """
    chosen = check_lanes(lanes)
    if not rules.stages:
        raise RuleError("build_map: the rules have no stages; name them in order, as in data/reference/ecommerce.toml")
    if top < 1 or min_group < 1:
        raise RuleError(f"build_map: top and min_group must be at least 1, found {top} and {min_group}")
    facts = _count_base(steps, journeys)
    if not facts["n_journeys"]:
        raise RuleError("build_map: there are no journeys; was the filter too narrow?")
    seen = read_seen(steps, journeys)
    known = workshop or Workshop.empty()
    _check_stages(known, rules.stages)
    reach = count_reach(seen, journeys)
    spoken = None if attached is None else attached.semi_join(journeys, "journey_id")
    source = Source(
        seen=seen,
        journeys=journeys,
        stages=rules.stages,
        reach=reach.set_index("stage").reindex(list(rules.stages)).reset_index(),
        ways=compare_ways(seen, journeys, way) if way in seen.columns else None,
        feelings=None if spoken is None else measure_feeling(spoken, min_n=min_group),
        pains=_find_pains(steps, journeys, pain, spoken, min_group),
        topics=topics,
        workshop=known,
        n_customers=facts["n_customers"],
        top=top,
        min_group=min_group,
    )
    cells = [row for lane in chosen for row in FILLERS[lane](source)]
    moments = find_moments(source.reach.dropna(), _sum_feelings(spoken))
    n_unstaged = int(seen.filter(seen.stage.isnull()).count().execute())
    facts |= {"n_without_stage": n_unstaged, "min_group": min_group, "top": top}
    facts["worst"] = _list_worst(source.pains, top)
    return JourneyMap(title, rules.stages, chosen, tidy_cells(_complete(cells, chosen, rules.stages)), moments, facts)


def _count_base(steps: ibis.Table, journeys: ibis.Table) -> dict[str, Any]:
    found = journeys.aggregate(
        n_customers=journeys.customer_id.nunique(),
        n_journeys=journeys.count(),
        n_open=journeys.is_open.cast("int64").sum(),
        first=journeys.start_time.min(),
        last=journeys.end_time.max(),
    )
    (row,) = found.to_pyarrow().to_pylist()
    times = {name: row[name] and row[name].isoformat() for name in ("first", "last")}
    return {"n_customers": row["n_customers"], "n_journeys": row["n_journeys"], "n_open": row["n_open"] or 0} | times


def _check_stages(workshop: Workshop, stages: tuple[str, ...]) -> None:
    for stage in [*workshop.rows["stage"], *workshop.touchpoints["stage"]]:
        if stage not in stages:
            raise RuleError(
                f'build_map: the workshop speaks of a stage "{stage}", which the rules do not have.'
                f"{nearest(stage, stages)} Known: {', '.join(stages)}"
            )


def _find_pains(
    steps: ibis.Table, journeys: ibis.Table, pain: str | Sequence[str], spoken: ibis.Table | None, min_group: int
) -> pd.DataFrame | None:
    if not pain and spoken is None:
        return None
    return count_pain_points(steps, journeys, pain=pain, attached=spoken, min_group=min_group)


def _list_worst(pains: pd.DataFrame | None, top: int) -> list[dict[str, Any]]:
    """The pain points of all stages, the worst first."""
    if pains is None:
        return []
    names = ["stage", "touchpoint", "channel", "n_customers", "severity", "weight"]
    worst = pains.loc[~pains["is_small"], names].head(top).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in worst]


def _sum_feelings(spoken: ibis.Table | None) -> pd.DataFrame:
    """Count, sum and squares of the feelings at each stage; each customer's answers there count as one."""
    if spoken is None:
        return pd.DataFrame(columns=["stage", "n", "sum", "squares"])
    feeling, _is_rated = read_feeling(spoken, ("score_feeling", "feeling"), "build_map")
    told = spoken.select("customer_id", stage=spoken.about_stage, feeling=feeling)
    told = told.filter(told.stage.notnull() & told.feeling.notnull())
    own = told.group_by("customer_id", "stage").agg(feeling=told.feeling.mean())
    sums = own.group_by("stage").agg(n=own.count(), sum=own.feeling.sum(), squares=(own.feeling * own.feeling).sum())
    table: pd.DataFrame = sums.order_by("stage").execute()
    return table


def _complete(cells: list[dict[str, Any]], lanes: Sequence[str], stages: Sequence[str]) -> pd.DataFrame:
    """Put the cells in order, with a row for each of which nothing is known."""
    filled = {(cell["lane"], cell["stage"]) for cell in cells}
    empty = {"rank": 1, "item": "", "unit": "text", "evidence": "unknown", "note": ""}
    cells = cells + [
        empty | {"lane": lane, "stage": stage} for lane in lanes for stage in stages if (lane, stage) not in filled
    ]
    table = pd.DataFrame(cells)
    places = {lane: i for i, lane in enumerate(lanes)}, {stage: i for i, stage in enumerate(stages)}
    order = table.assign(_lane=table["lane"].map(places[0]), _stage=table["stage"].map(places[1]))
    return order.sort_values(["_lane", "_stage", "rank"], kind="stable", ignore_index=True).drop(
        columns=["_lane", "_stage"]
    )
