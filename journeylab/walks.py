"""Every way through a funnel's steps: from each start one walk, and of a unit's walks the one that counts.

Each event of step 1 begins a walk. "The first event after" is a running minimum over the unit's events from the last
to the first, which any engine knows. Where the engine runs in this process, `walks_in_memory` gives the same answers
many times sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import ibis

from journeylab.engine import store
from journeylab.funnel_rules import FunnelRules

EXCLUDED = 0  # among the steps, which are numbered from 1

_FOUND = ("rank", "time", "position")
_WALK = ["_unit", "_walk"]


def find_walks(marked: ibis.Table, rules: FunnelRules, end: datetime, at_steps: Sequence[int]) -> ibis.Table:
    """Which walk does each unit have, how far does it get, and is it still on the way?

    Parameters
    ----------
    marked
        The events that matter, or all of them with order "strict" or without a window: _unit, rank, time, position
        (both in the unit's order), _steps (bit `i`: can be step `i`; bit `EXCLUDED`), _held_1 … (text), [customer_id],
        _by_1 … (text).
    end
        End of observation.
    at_steps
        The steps at which the columns _by are wanted.

    Returns
    -------
    ibis.Table
        One row per unit that started (with unit "attempt" per walk that counts): _unit, [attempt], [customer_id] (of
        the start), reached (the furthest required step), reached_position, is_open, lost_time (null: finished, or still
        on the way), time_1 … (null where not reached), and of step k _by_1_k ….
    """
    if rules.order == "strict":
        # The unit's events are numbered anew: a journey's need not be neighbours in the customer's history.
        marked = marked.mutate(rank=ibis.dense_rank().over(ibis.window(group_by="_unit", order_by="rank")) + 1)
    walks = _find_stops(_measure(_follow(marked, rules), rules), marked, rules)
    walks = _add_optional(_choose(_judge(walks, marked, rules, end), rules), marked, rules)
    return _look_up(walks, marked, rules, at_steps)


def _follow(marked: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Take the steps from each start."""
    starts = _find_starts(marked, rules)
    if rules.excluded:
        bad = marked.filter(_can_be(marked, EXCLUDED)).select("_unit", *_FOUND)
        found = _look_ahead(starts.select(*_WALK, _before="rank"), bad, ["_unit"])
        starts = _add(starts, found.select(*_WALK, _bad_rank="rank", _bad_time="time"))
    return _walk_any(marked, starts, rules) if rules.order == "any" else _walk_on(marked, starts, rules)


def _can_be(marked: ibis.Table, i: int) -> ibis.BooleanValue:
    return (marked["_steps"] & (1 << i)) != 0


def held_columns(rules: FunnelRules) -> list[str]:
    """The names under which the walks carry the values that are held constant."""
    return [f"_held_{i}" for i in range(1, len(rules.hold_constant) + 1)]


def _find_starts(marked: ibis.Table, rules: FunnelRules) -> ibis.Table:
    flags = [_can_be(marked, i) for i in range(1, len(rules.steps) + 1)]
    held = held_columns(rules)
    # What has no value cannot hold it.
    starts = marked.filter(ibis.or_(*flags) if rules.order == "any" else flags[0], *(marked[h].notnull() for h in held))
    starts = starts.select("_unit", *held, *_FOUND, _walk="position", _start="time")
    if rules.entry != "first" or rules.unit == "attempt":
        return starts
    first = starts.group_by("_unit").agg(_walk=starts["_walk"].min())
    return starts.semi_join(first, _WALK)


def _walk_on(marked: ibis.Table, starts: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Take the required steps in their order."""
    arrivals = {1: starts}
    for before, i in pairwise(rules.required):
        # Each step looks only at those who came to the one before; what they carry along is small.
        asked = arrivals[before].select(*_carried(rules), _before="rank", _since="time")
        found = _in_time(_look_ahead(asked, _events_of(marked, i, rules), _step_keys(rules)), rules)
        arrivals[i] = found.filter(found["rank"] == found["_before"] + 1) if rules.order == "strict" else found
    walks = None
    # From the last to the first: the smallest tables are joined first.
    for i in reversed(rules.required[1:]):
        part = arrivals[i].select(*_WALK, **{f"time_{i}": "time", f"position_{i}": "position", f"_rank_{i}": "rank"})
        walks = part if walks is None else _add(part, walks)
    return _add(starts.rename(time_1="time", position_1="position", _rank_1="rank"), walks)


def _step_keys(rules: FunnelRules) -> list[str]:
    """What is the same at every step of a walk?"""
    return ["_unit", *held_columns(rules)]


def _carried(rules: FunnelRules) -> list[str]:
    """What does a walk know about itself on its way?"""
    return [*_step_keys(rules), "_walk", "_start", *(["_bad_rank"] if rules.excluded else [])]


def _events_of(marked: ibis.Table, i: int, rules: FunnelRules) -> ibis.Table:
    return marked.filter(_can_be(marked, i)).select(*_step_keys(rules), *_FOUND)


def _in_time(found: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Keep what lies in the window and before the first excluded event."""
    if rules.within_s is not None:
        since = found["_start"] if rules.window_from == "first" else found["_since"]
        found = found.filter(found.time <= since + ibis.interval(seconds=rules.within_s))
    if rules.excluded:
        found = found.filter((found["rank"] <= found["_bad_rank"]).fill_null(True))
    return found


def _look_ahead(asked: ibis.Table, events: ibis.Table, keys: Sequence[str], *, with_ties: bool = False) -> ibis.Table:
    """Rank, time and position of the first event after the rank `_before` (`with_ties`: or with it).

    Rows of `asked` for which there is none are left out.
    """
    offered = events.select(
        *keys,
        **{
            name: events["rank"] if name == "_before" else ibis.null(asked[name].type())
            for name in asked.columns
            if name not in keys
        },
        **{f"_{name}": events[name] for name in _FOUND},
        _is_event=ibis.literal(1, "int8"),
    )
    blank = {f"_{name}": ibis.null(events[name].type()) for name in _FOUND}
    both = offered.union(asked.mutate(**blank, _is_event=ibis.literal(0, "int8")).select(*offered.columns))
    # From the last to the first; of the same rank, an event is passed after the rows that it must not serve.
    of_ties = ibis.desc("_is_event") if with_ties else ibis.asc("_is_event")
    window = ibis.window(group_by=keys, order_by=[ibis.desc("_before"), of_ties], preceding=None, following=0)
    looked = both.mutate(**{name: both[f"_{name}"].min().over(window) for name in _FOUND})
    looked = looked.filter(looked["_is_event"] == 0, looked["rank"].notnull())
    return looked.drop("_is_event", *(f"_{name}" for name in _FOUND))


def _add_optional(walks: ibis.Table, marked: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """When did each walk take the steps that may be left out, between the required ones around them?"""
    for i in sorted(set(range(1, len(rules.steps) + 1)).difference(rules.required)):
        before, behind = max(j for j in rules.required if j < i), min(j for j in rules.required if j > i)
        names = {"_before": f"_rank_{before}", "_since": f"time_{before}", "_behind": f"_rank_{behind}"}
        asked = walks.filter(walks[f"_rank_{before}"].notnull()).select(*_carried(rules), **names)
        found = _in_time(_look_ahead(asked, _events_of(marked, i, rules), _step_keys(rules)), rules)
        found = found.filter((found["rank"] < found["_behind"]).fill_null(True))
        walks = _add(walks, found.select(*_WALK, **{f"time_{i}": "time", f"position_{i}": "position"}))
    return walks


def _walk_any(marked: ibis.Table, starts: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Take the steps as they come: the k-th is the k-th different one after the start."""
    asked = starts.select(*_carried(rules), _before="rank")
    firsts = []
    for i in range(1, len(rules.steps) + 1):
        found = _look_ahead(asked, _events_of(marked, i, rules), _step_keys(rules), with_ties=True)
        firsts.append(found.drop("_before").mutate(_step=ibis.literal(i, "int8")))
    taken = ibis.union(*firsts)
    # Of one instant the start comes first, whatever its place.
    order = ["rank", taken.position != taken["_walk"], "position", "_step"]
    in_walk = ibis.window(group_by=_WALK, order_by=order)
    placed = taken.mutate(_k=ibis.row_number().over(in_walk) + 1, _since=taken.time.lag().over(in_walk))
    placed = _until_late(placed, rules) if rules.window_from == "previous" else _in_time(placed, rules)
    reached = placed.group_by(_WALK).agg(
        **{
            f"{new}_{k}": placed[name].max(where=placed["_k"] == k)
            for k in range(1, len(rules.steps) + 1)
            for new, name in (("time", "time"), ("position", "position"), ("_rank", "rank"))
        }
    )
    return _add(starts.drop(*_FOUND), reached)


def _until_late(placed: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Keep each walk's steps up to the first that came too late after the one before."""
    is_first = placed.mutate(_since=ibis.coalesce(placed["_since"], placed.time))
    is_late = is_first.anti_join(_in_time(is_first, rules), ["_unit", "_walk", "_k"])
    first_late = is_late.group_by(_WALK).agg(_late=is_late["_k"].min())
    both = _add(placed, first_late)
    return both.filter((both["_k"] < both["_late"]).fill_null(True))


def _add(walks: ibis.Table, found: ibis.Table) -> ibis.Table:
    """Add to each walk what was found for it; nulls where nothing was."""
    return walks.left_join(found, _WALK).drop(*(f"{key}_right" for key in _WALK))


def _measure(walks: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """How far did each walk get?"""
    backwards = rules.required[::-1]
    reached = ibis.coalesce(*(ibis.ifelse(walks[f"_rank_{i}"].notnull(), i, None) for i in backwards))
    return walks.mutate(
        reached=reached.cast("int64"),
        end_rank=ibis.coalesce(*(walks[f"_rank_{i}"] for i in backwards)),
        end_time=ibis.coalesce(*(walks[f"time_{i}"] for i in backwards)),
        reached_position=ibis.coalesce(*(walks[f"position_{i}"] for i in backwards)),
    )


def _find_stops(walks: ibis.Table, marked: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Did an excluded event, or with order "strict" any other, end the walk before its time?"""
    rank, time = ibis.null(walks.end_rank.type()), ibis.null("timestamp(6)")
    is_excluded, is_unfinished = ibis.literal(False), walks.reached < len(rules.steps)
    if rules.order == "strict":
        # The very next event is not the step, or it would have been taken.
        nexts = marked.group_by("_unit", _next_rank="rank").agg(_next_time=marked.time.min())
        nexts = nexts.mutate(_after=nexts["_next_rank"] - 1)
        walks = walks.left_join(nexts, [walks["_unit"] == nexts["_unit"], walks.end_rank == nexts["_after"]])
        walks = walks.drop("_unit_right", "_after")
        is_unfinished = walks.reached < len(rules.steps)
        rank, time = (ibis.ifelse(is_unfinished, walks[name], None) for name in ("_next_rank", "_next_time"))
    if rules.excluded:
        is_excluded = is_unfinished & walks["_bad_rank"].notnull()
        if rules.within_s is not None:
            since = walks["_start"] if rules.window_from == "first" else walks.end_time
            is_excluded = is_excluded & (walks["_bad_time"] <= since + ibis.interval(seconds=rules.within_s))
        if rules.order == "strict":
            is_excluded = is_excluded & (walks["_bad_rank"] <= walks.end_rank + 1)
        is_excluded = is_excluded.fill_null(False)
        rank = ibis.ifelse(is_excluded, walks["_bad_rank"], rank)
        time = ibis.ifelse(is_excluded, walks["_bad_time"], time)
    return walks.mutate(is_excluded=is_excluded, stop_rank=rank, stop_time=time)


def _judge(walks: ibis.Table, marked: ibis.Table, rules: FunnelRules, end: datetime) -> ibis.Table:
    """Whose time is over? Adds deadline, lost_time (null: finished, or still on the way) and is_open."""
    if rules.within_s is not None:
        since = walks["_start"] if rules.window_from == "first" else walks.end_time
        walks = walks.mutate(deadline=since + ibis.interval(seconds=rules.within_s))
        is_over = walks.deadline <= end
    else:
        walks = walks.inner_join(marked.group_by("_unit").agg(_last=marked.time.max()), "_unit")
        walks = walks.mutate(deadline=walks["_last"] + ibis.interval(seconds=rules.dormant_s)).drop("_last")
        is_over = walks.deadline < end
    is_unfinished = walks.reached < len(rules.steps)
    is_stopped = walks.stop_time.notnull() & (walks.stop_time <= walks.deadline)
    walks = walks.mutate(
        lost_time=ibis.cases(
            (~is_unfinished, None), (is_stopped, walks.stop_time), (is_over, walks.deadline), else_=None
        )
    )
    return walks.mutate(is_open=(walks.reached < len(rules.steps)) & walks.lost_time.isnull())


def _choose(walks: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Which walk does each unit have, and which units are left out because they met an excluded event?"""
    n_steps, drops = len(rules.steps), bool(rules.excluded) and rules.on_exclude == "drop"
    if rules.unit == "attempt":
        walks = _find_attempts(walks, rules)
    elif rules.entry != "first":
        done_first = ibis.ifelse(walks.reached == n_steps, walks.end_rank, None)
        order = [ibis.desc("reached"), walks["_walk"]]
        if rules.entry == "latest":
            order = [ibis.desc("reached"), done_first, walks["_walk"].desc()]
        in_unit = ibis.window(group_by="_unit")
        bad_rank = ibis.ifelse(walks.is_excluded, walks.stop_rank, None)
        walks = walks.mutate(
            _choice=ibis.row_number().over(ibis.window(group_by="_unit", order_by=order)),
            _unit_bad_rank=bad_rank.min().over(in_unit),
            _is_open=walks.is_open.any().over(in_unit),
            _lost_time=walks.lost_time.max().over(in_unit),
        )
        walks = walks.filter(walks["_choice"] == 0)
        is_unfinished = walks.reached < n_steps
        # Who may still get there by another start is not lost.
        walks = walks.mutate(
            is_open=walks["_is_open"] & is_unfinished,
            lost_time=ibis.ifelse(is_unfinished & ~walks["_is_open"], walks["_lost_time"], None),
            is_excluded=(
                walks["_unit_bad_rank"].notnull() & (is_unfinished | (walks["_unit_bad_rank"] < walks.end_rank))
            ).fill_null(False),
        )
    return walks.filter(~walks.is_excluded) if drops else walks


def _find_attempts(walks: ibis.Table, rules: FunnelRules) -> ibis.Table:
    """Keep the walks that begin after the one before has ended, and number them.

    Each walk points to the first start after its end. Who can be reached from a unit's first walk is found by doubling
    the pointers: as many rounds as the logarithm of the most attempts.
    """
    keys, con = ["_unit", *held_columns(rules)], walks.get_backend()
    walks = store(walks, con)
    jumps = store(_point_ahead(walks, rules, keys), con)
    first = walks.group_by(keys).agg(_walk=walks["_walk"].min())
    taken = store(first.select("_unit", "_walk"), con)
    while jumps.count().execute():
        more = taken.inner_join(jumps, ["_unit", "_walk"]).select("_unit", _walk="_next")
        taken = store(taken.union(more), con)
        jumps = store(_double(jumps), con)
    numbered = ibis.row_number().over(ibis.window(group_by="_unit", order_by="_walk")) + 1
    kept = walks.semi_join(taken, ["_unit", "_walk"])
    return kept.mutate(attempt=numbered)


def _double(jumps: ibis.Table) -> ibis.Table:
    onward = jumps.select(_owner="_unit", _from="_walk", _to="_next")
    met = jumps.inner_join(onward, [jumps["_unit"] == onward["_owner"], jumps["_next"] == onward["_from"]])
    return met.select("_unit", "_walk", _next="_to")


def _point_ahead(walks: ibis.Table, rules: FunnelRules, keys: list[str]) -> ibis.Table:
    """For each walk the first start after it has finished, failed or run out of time."""
    epoch = datetime(1970, 1, 1)

    def clock(column: ibis.Value) -> ibis.Value:
        return column.delta(epoch, unit="microsecond")

    starts = walks.select(*keys, rank="_rank_1", time="_start", position="_walk")
    # With order "strict" the event that ended a walk may begin the next.
    failed_at = ibis.ifelse(walks.is_excluded, walks.stop_rank, walks.end_rank)
    is_ended = (walks.reached == len(rules.steps)) | walks.stop_rank.notnull()
    ended = walks.filter(is_ended).select(*keys, "_walk", _before=failed_at)
    found = _look_ahead(ended, starts, keys).select(*_WALK, _next="position")
    if rules.within_s is not None:
        late = walks.filter(~is_ended).select(*keys, "_walk", _before=clock(walks.deadline))
        timed = starts.mutate(rank=clock(starts.time))
        found = found.union(_look_ahead(late, timed, keys).select(*_WALK, _next="position"))
    return found


def _look_up(walks: ibis.Table, marked: ibis.Table, rules: FunnelRules, at_steps: Sequence[int]) -> ibis.Table:
    """Add the customer who started, and the columns _by at the steps where they are wanted."""
    if "customer_id" in marked.columns:
        walks = walks.inner_join(marked.select("_unit", "customer_id", _walk="position"), _WALK)
    columns = [name for name in marked.columns if name.startswith("_by_")]
    for k in at_steps if columns else ():
        here = marked if rules.order == "any" else marked.filter(_can_be(marked, k))
        here = here.select(_owner="_unit", _place="position", **{f"{name}_{k}": name for name in columns})
        walks = walks.left_join(here, [walks["_unit"] == here["_owner"], walks[f"position_{k}"] == here["_place"]])
        walks = walks.drop("_owner", "_place")
    return walks
