"""A journey map in words: what stands in its cells, what it rests on, and what it says."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from journeylab.formats import (
    format_count,
    format_duration,
    format_interval,
    format_name,
    format_number,
    format_points,
    format_share,
    shorten,
)
from journeylab.journeymap import LANES
from journeylab.language import format_day, ngettext
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.picture import name_group
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from journeylab.formats import Format
    from journeylab.journeymap import JourneyMap

    Row = Mapping[Hashable, Any]  # one row of a tidy frame: text and figures side by side

#: What each mark of evidence means.
EVIDENCE_SAYS = {
    "measured": N_("measured: from the log"),
    "stated": N_("stated: customers or staff said so"),
    "assumed": N_("assumed: a workshop thinks so"),
    "unknown": N_("unknown"),
}
# Who can fill a lane of which nothing is known.
_ASKED = frozenset(("feeling", "said"))
_OF_WORKSHOP = frozenset(("expectations", "owner", "front_stage", "backstage", "support", "cost", "kpis"))
_LONGEST_TITLE = 120


def _write_count(value: float) -> str:
    return format_count(round(value))


def _write_feeling(value: float) -> str:
    return format_number(value, signed=True)


_WRITE: dict[str, Format] = {
    "share": format_share,
    "s": format_duration,
    "feeling": _write_feeling,
    "count": _write_count,
    "money": _write_count,
}


def name_map(journey_map: JourneyMap) -> str:
    """What is the map called? Whose journey it is, if that was said."""
    return shorten(journey_map.title, _LONGEST_TITLE) if journey_map.title.strip() else _("Journey map")


def name_lane(lane: str) -> str:
    """What is this lane called?"""
    return _(LANES[lane])


def name_item(row: Row) -> str:
    """What is this line of a cell about? Names from data stay as they are."""
    return name_group(row["item"], "event") if row["item"] else ""


def write_value(row: Row) -> str:
    """Write the figure of a line; nothing for one of text."""
    if math.isnan(row["value"]):
        return ""
    if row["lane"] == "quick_wins":
        n = round(row["value"])
        return ngettext("up to {n} journey", "up to {n} journeys", n, n=format_count(n))
    return _WRITE[row["unit"]](row["value"])


def write_interval(row: Row) -> str:
    """Write the 95 % interval of a line; nothing where there is none."""
    if math.isnan(row["low"]) or math.isnan(row["high"]):
        return ""
    if row["unit"] == "feeling":
        return _("{low} to {high}", low=_write_feeling(row["low"]), high=_write_feeling(row["high"]))
    return format_interval(row["low"], row["high"], _WRITE[row["unit"]])


def write_base(row: Row) -> str:
    """Write of how many customers, journeys or contacts a line's figure is; nothing where there is no base."""
    if math.isnan(row["n"]):
        return ""
    n = int(row["n"])
    return _BASES.get(row["lane"], _of_customers)(n)


def _of_customers(n: int) -> str:
    return ngettext("of {n} customer", "of {n} customers", n)


def _of_journeys(n: int) -> str:
    return ngettext("of {n} journey", "of {n} journeys", n)


_BASES: dict[str, Callable[[int], str]] = {
    "time": lambda n: ngettext("median of {n} journey", "median of {n} journeys", n),
    "drop_off": _of_journeys,
    "quick_wins": _of_journeys,
    "feeling": lambda n: ngettext("mean of {n} customer", "mean of {n} customers", n),
    "said": lambda n: ngettext("of {n} comment", "of {n} comments", n),
    "cost": lambda n: ngettext("for {n} contact", "for {n} contacts", n),
}


def write_note(row: Row) -> str:
    """Write what is worth knowing of a line beside its figure: whose best it is, what hurts, who said so."""
    if not row["note"]:
        return ""
    if row["lane"] == "quick_wins":
        return _("if it lost as few as {way}", way=format_name(word_of(row["note"], "channel")))
    if row["lane"] == "pain_points":
        return ", ".join(_(kind) if kind in _KINDS else format_name(kind) for kind in row["note"].split(", "))
    return shorten(row["note"], _LONGEST_TITLE)


_KINDS = (N_("low rating"), N_("circle"))


def write_difference(moment: Row) -> str:
    """Write by how much a moment differs from the other stages."""
    is_feeling = moment["measure"] == "feeling"
    difference = _write_feeling(moment["difference"]) if is_feeling else format_points(moment["difference"])
    return _("{difference} against other stages", difference=difference)


def describe_base(journey_map: JourneyMap) -> str:
    """What does the map stand on?"""
    facts = journey_map.facts
    n, n_journeys, n_open = (int(facts[name]) for name in ("n_customers", "n_journeys", "n_open"))
    parts = [
        ngettext("{n} customer", "{n} customers", n),
        ngettext("{n} journey", "{n} journeys", n_journeys),
        ngettext("{n} of them still on the way", "{n} of them still on the way", n_open),
    ]
    days = [format_day(dt.datetime.fromisoformat(facts[name])) for name in ("first", "last") if facts.get(name)]
    if len(days) == 2:
        parts.append(_("{first} to {last}", first=days[0], last=days[1]))
    if facts.get("n_without_stage"):
        n_without = int(facts["n_without_stage"])
        parts.append(ngettext("{n} event without a stage left out", "{n} events without a stage left out", n_without))
    return " · ".join(parts)


def list_findings(journey_map: JourneyMap) -> list[str]:
    """What does the map say: the moments that matter, the worst pain point, the surest quick win? A sentence each."""
    return [said for said in (_say_moments(journey_map), _say_worst(journey_map), _say_win(journey_map)) if said]


def describe_map(journey_map: JourneyMap) -> str:
    """What does the map say, in a few sentences?

    The moments that matter, the worst pain point, and the quick win that is surest: the one whose interval begins
    highest, among the first of each stage.
    """
    return " ".join(list_findings(journey_map))


def _say_moments(journey_map: JourneyMap) -> str:
    moments = journey_map.moments
    if moments.empty:
        return ""
    found = [_say_moment(row) for row in moments[moments["is_moment"]].to_dict("records")]
    if not found:
        return _("No stage stands out from the others in feeling or drop-off by more than noise.")
    return ngettext(
        "Moment that matters: {moments}.", "Moments that matter: {moments}.", len(found), moments="; ".join(found)
    )


def _say_moment(row: Row) -> str:
    stage = format_name(word_of(row["stage"]))
    if row["measure"] == "feeling":
        value = _write_feeling(row["value"])
        return _("{stage} (feeling {value}, {difference})", stage=stage, value=value, difference=write_difference(row))
    return _(
        "{stage} (drop-off before the goal {value}, {difference})",
        stage=stage,
        value=format_share(row["value"]),
        difference=write_difference(row),
    )


def _say_worst(journey_map: JourneyMap) -> str:
    worst = next((row for row in journey_map.facts.get("worst", []) if (row["weight"] or 0) > 0), None)
    if worst is None:
        return ""
    place = " · ".join(
        format_name(word_of(worst[name], name)) for name in ("touchpoint", "channel") if _is_named(worst[name])
    )
    stage, n = format_name(word_of(worst["stage"])), int(worst["n_customers"])
    return ngettext(
        "Worst pain point: {place} at {stage}, which hurts {n} customer.",
        "Worst pain point: {place} at {stage}, which hurts {n} customers.",
        n,
        place=place,
        stage=stage,
    )


def _is_named(name: str) -> bool:
    return name != "(none)"


def _say_win(journey_map: JourneyMap) -> str:
    cells = journey_map.cells
    wins = cells[(cells["lane"] == "quick_wins") & cells["value"].notna() & (cells["rank"] == 1)]
    if wins.empty:
        return ""
    row = wins.sort_values(["low", "stage"], ascending=[False, True]).iloc[0].to_dict()
    n = round(row["value"])
    return ngettext(
        "Surest quick win: if {way} lost as few as {best} at {stage}, at most {n} journey fewer ({interval}) would be "
        "lost.",
        "Surest quick win: if {way} lost as few as {best} at {stage}, at most {n} journeys fewer ({interval}) would be "
        "lost.",
        n,
        n=format_count(n),
        interval=write_interval(row),
        stage=format_name(word_of(row["stage"])),
        way=format_name(word_of(row["item"], "channel")),
        best=format_name(word_of(row["note"], "channel")),
    )


def say_unknown(lanes: tuple[str, ...]) -> str:
    """Say that nothing is known in these lanes, and who could tell."""
    said = [_("Nothing is known here yet.")]
    if _OF_WORKSHOP & set(lanes):
        said.append(_("A workshop can tell: fill in its template."))
    if _ASKED & set(lanes):
        said.append(_("Customers can tell: attach their answers."))
    return " ".join(said)


def list_notes(journey_map: JourneyMap) -> list[str]:
    """How are the figures to be read?"""
    notes = [
        _("In brackets and in grey: 95 % intervals."),
        _(
            "Steps, touchpoints and channels: share of the customers at the stage. Drop-off: of the journeys that were "
            "at the stage and are not still there, the share that ended there without the goal."
        ),
        _("Feeling: from −1 to 1, each customer counts once."),
        _(
            "A moment that matters differs from the other stages with p below 1 % (Holm), by at least 0.2 in feeling "
            "or 10 points more drop-off among the journeys that had not reached the goal yet."
        ),
        _("Quick wins are upper bounds: other customers may take the better way."),
    ]
    if (least := int(journey_map.facts.get("min_group", 1))) > 1:
        notes.append(_("What fewer than {n} customers did is folded or left out.", n=least))
    return notes
