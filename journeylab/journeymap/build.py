"""Filling the map: what is measured, what customers stated, what people assume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.engine import drop, store
from journeylab.errors import RuleError, nearest
from journeylab.feedback.answers import open_answers
from journeylab.feedback.feelings import measure_feeling, read_feeling
from journeylab.feedback.pain import count_pain_points
from journeylab.journeymap.lanes import FILLERS, Source
from journeylab.journeymap.measure import compare_ways, count_reach, read_seen, read_visits
from journeylab.journeymap.model import JourneyMap, check_lanes, plain_facts, tidy_cells
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
    attached: pd.DataFrame | ibis.Table | None = None,
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
        From `build_journeys`: the journeys that the map is about, watched until then. `split_journeys` gives those of
        each persona, segment or period.
    rules
        The rules both were built with; their stages stand across the map.
    attached
        Answers from `attach_feedback`, with a column of feelings (`harmonise_scores`, `score_text`); for the lanes
        feeling and pain points. Those that are events of the log count as far as the journeys were watched.
    pain
        Events that hurt, such as ``"payment_error"``.
    topics
        What the comments are about: stage, item, value (share of the stage's comments), n, low, high.
    workshop
        What people know: `read_workshop`.
    lanes
        Of `LANES`, in the order they are wanted; default: all.
    way
        The column of `steps` by which ways through a stage are compared for quick wins.
    top
        Lines of a cell; what is rarer is folded into "(other)".
    min_group
        What fewer customers did is folded too, or left out, so that nobody can be recognised. That holds for each map
        by itself: of the map of all and those of all segments but one, the last can be told.
    title
        Whose journey it is.

    Returns
    -------
    JourneyMap
        Queries ran. Every cell has its base, interval and grade of evidence.

    Raises
    ------
    RuleError
        The rules have no stages, too few customers are left, or a lane, a stage or a column is not known.

    Notes
    -----
    Reach counts customers. Drop-off counts journeys: of those that were at the stage and are not still there, the share
    that is over without the goal and was at no other stage afterwards; rules without a goal have none. Feelings are
    "stated". Cells weigh each answer, with an interval for customers who gave several; moments weigh each customer.

    Planned against actual: ``check_conformance(steps, journeys, workshop.path)`` holds the same journeys against the
    path that the workshop planned; its `steps` say of each planned step what the map's reach says of each stage.
    """
    chosen = check_lanes(lanes)
    known = workshop or Workshop.empty()
    _check(steps, rules, known, topics, way, top, min_group)
    con = steps.get_backend()
    # Each is asked many times; a journey would be put together anew for each.
    journeys = store(journeys, con)
    seen = store(read_seen(steps, journeys, rules.stages, ("channel", way)), con)
    visits = store(read_visits(seen, journeys, way if way in seen.columns else None), con)
    try:
        facts = _count_base(journeys, min_group)
        spoken = None if attached is None else _cut_answers(attached, seen, journeys)
        reach = count_reach(visits).set_index("stage").reindex(list(rules.stages), fill_value=0).reset_index()
        has_goal = rules.goal is not None
        source = Source(
            seen=seen,
            visits=visits,
            reach=reach,
            has_goal=has_goal,
            way=way,
            ways=compare_ways(visits) if has_goal and way in seen.columns else None,
            feelings=None if spoken is None else measure_feeling(spoken, min_n=min_group),
            pains=_find_pains(steps, journeys, pain, spoken, min_group),
            topics=topics,
            workshop=known,
            n_customers=facts["n_customers"],
            top=top,
            min_group=min_group,
        )
        cells = [row for lane in chosen for row in FILLERS[lane](source) if row["stage"] in rules.stages]
        moments = find_moments(reach if has_goal else reach[:0], _sum_feelings(spoken, rules.stages), min_n=min_group)
        facts["n_without_stage"] = int(seen.filter(seen.stage.isnull()).count().execute())
    finally:
        for table in (visits, seen, journeys):
            drop(table)
    facts |= {"min_group": min_group, "top": top, "worst": _list_worst(source.pains, top)}
    table = tidy_cells(_complete(cells, chosen, rules.stages))
    return JourneyMap(title, rules.stages, chosen, table, moments, plain_facts(facts))


def _check(
    steps: ibis.Table,
    rules: JourneyRules,
    workshop: Workshop,
    topics: pd.DataFrame | None,
    way: str,
    top: int,
    min_group: int,
) -> None:
    if not rules.stages:
        raise RuleError("build_map: the rules have no stages; name them in order, as in data/reference/ecommerce.toml")
    if top < 1 or min_group < 1:
        raise RuleError(f"build_map: top and min_group must be at least 1, found {top} and {min_group}")
    # Not every log has channels, and nobody asked for them.
    if way != "channel" and way not in steps.columns:
        raise RuleError(f'build_map: steps have no column "{way}" for way=.{nearest(way, steps.columns)}')
    _check_stages("the workshop speaks", [*workshop.rows["stage"], *workshop.touchpoints["stage"]], rules.stages)
    if topics is not None:
        missing = [name for name in ("stage", "item", "value", "n") if name not in topics.columns]
        if missing:
            raise RuleError(
                f"build_map: topics have no column {', '.join(missing)}; expected stage, item, value (share), n, low, "
                f"high; found {', '.join(map(str, topics.columns))}"
            )
        _check_stages("topics speak", list(topics["stage"]), rules.stages)


def _check_stages(who: str, named: Sequence[str], stages: tuple[str, ...]) -> None:
    for stage in named:
        if stage not in stages:
            raise RuleError(
                f'build_map: {who} of a stage "{stage}", which the rules do not have.{nearest(stage, stages)} Known: '
                f"{', '.join(stages)}"
            )


def _count_base(journeys: ibis.Table, min_group: int) -> dict[str, Any]:
    found = journeys.aggregate(
        n_customers=journeys.customer_id.nunique(),
        n_journeys=journeys.count(),
        n_open=journeys.is_open.cast("int64").sum(),
        first=journeys.start_time.min(),
        last=journeys.end_time.max(),
    )
    row: dict[str, Any] = found.to_pyarrow().to_pylist()[0]
    if not row["n_journeys"]:
        raise RuleError("build_map: there are no journeys; was the filter too narrow?")
    if row["n_customers"] < min_group:
        raise RuleError(
            f"build_map: the journeys are of {row['n_customers']} customers, fewer than min_group={min_group}: they "
            "could be recognised. Take in more customers, or lower min_group if nobody else sees the map"
        )
    return row | {name: row[name].isoformat() for name in ("first", "last")}


def _cut_answers(attached: pd.DataFrame | ibis.Table, seen: ibis.Table, journeys: ibis.Table) -> ibis.Table:
    """The answers that speak of these journeys, as far as they were watched."""
    table = open_answers(attached, "build_map", seen.get_backend())
    about = seen.select("customer_id", about_position="position")
    spoken = table.mutate(about_position=table.about_position.cast("int64"))
    spoken = spoken.semi_join(about, ["customer_id", "about_position"])
    if {"position", "step"} <= set(table.columns):
        # They are events themselves: what was said after the end of observation was not yet known.
        spoken = spoken.filter(spoken.timestamp <= journeys.end_time.max().as_scalar())
    return spoken


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


def _sum_feelings(spoken: ibis.Table | None, stages: Sequence[str]) -> pd.DataFrame:
    """Count, sum and squares of the feelings at each stage; each customer's answers there count as one."""
    if spoken is None:
        return pd.DataFrame(columns=["stage", "n", "sum", "squares"])
    feeling, _is_rated = read_feeling(spoken, ("score_feeling", "feeling"), "build_map")
    told = spoken.select("customer_id", stage=spoken.about_stage, feeling=feeling)
    told = told.filter(told.stage.isin(stages) & told.feeling.notnull())
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
