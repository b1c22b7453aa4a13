"""Of what does an answer speak? The step before it, in the same customer's journey, if that is not too long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from journeylab.engine import drop, median, store, utc_of_zoned
from journeylab.errors import RuleError
from journeylab.feedback.answers import check_columns, open_answers
from journeylab.formats import format_count, format_share
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.rules import parse_duration

if TYPE_CHECKING:
    import pandas as pd

#: What `attach_feedback` adds.
ATTACHED = (
    *("answer_id", "attached", "journey_id", "about_event", "about_stage", "about_channel"),
    *("about_position", "wait_s"),
)

SAME, BEFORE, NAMED = "same journey", "step before", "named event"
#: Why an answer is attached to nothing, in the order in which they are asked.
REASONS = ("no customer", "no time", "unknown customer", "event not found", "nothing before", "too long before")
_WAYS = (SAME, BEFORE, NAMED, *REASONS)


def find_answers(steps: ibis.Table) -> ibis.Value:
    """Which steps are answers? Those with a score or a text."""
    said = [steps[name].notnull() for name in ("score", "text") if name in steps.columns]
    return ibis.or_(*said) if said else ibis.literal(False)


def attach_feedback(
    answers: pd.DataFrame | ibis.Table | None,
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    within: str = "14D",
) -> ibis.Table:
    """Of which journey, stage and step does each answer speak?

    Parameters
    ----------
    answers
        One row per answer: customer_id, timestamp (UTC), and all else that is to be carried along (score, text …). With
        journey_id (that of the log, or of `steps`) an answer speaks of that journey if it can; with about, of the last
        step with that event. Rows of `steps` are answers too, and None takes all that have a score or a text.
    steps, journeys
        From `build_steps` and `build_journeys`; only steps that `journeys` counts are looked at.
    within
        How long after a step an answer may still speak of it.

    Returns
    -------
    ibis.Table
        One row per answer; the table is stored: `answers` but for its own journey_id, and

        ===============  ===================================================================================
        answer_id        int64, from 1
        attached         "same journey": the last step before the answer in the journey that it is of or names;
                         "step before": the customer's last step before it in any journey; "named event": the
                         last step with the event that the answer names. Or why there is none, the first
                         that fits: "no customer", "no time", "unknown customer" (not in `steps`),
                         "event not found" (not before the answer), "nothing before", "too long before"
        journey_id       string, as in `steps`; null where there is no step, as are all below
        about_event, about_stage, about_channel, about_position
                         that step's event, stage, channel and position
        wait_s           float64, seconds from that step to the answer
        ===============  ===================================================================================

    Raises
    ------
    RuleError
        If answers lack customer_id or timestamp, or have a column that is added here.

    Notes
    -----
    Steps that are answers themselves (a score or a text) are never what an answer speaks of: that a survey was answered
    at the stage "after sale" says nothing of that stage. A step at the same instant counts as before, unless the answer
    is itself a step: then its place in the customer's history decides.
    """
    where = "attach_feedback"
    limit_s = parse_duration(within, "within")
    own = steps.filter(find_answers(steps)) if answers is None else answers
    numbered = _number(open_answers(own, where, steps.get_backend()), steps, where)
    candidates = _list_candidates(steps, journeys)
    pairs = numbered.select("answer_id", "customer_id", "_time", "_journey", "_about", "_position")
    pairs = pairs.join(candidates, "customer_id")
    is_before = ibis.ifelse(
        pairs["_position"].isnull(), pairs.step_time <= pairs["_time"], pairs.position < pairs["_position"]
    )
    is_about = pairs["_about"].isnull() | (pairs.event == pairs["_about"])
    is_same = ((pairs.found_journey == pairs["_journey"]) | (pairs.log_journey == pairs["_journey"])).fill_null(False)
    wait_s = pairs["_time"].delta(pairs.step_time, unit="microsecond") / 1e6
    pairs = pairs.mutate(_is_before=is_before & is_about, _is_same=is_same, _is_near=wait_s <= limit_s, wait_s=wait_s)
    fits = pairs["_is_before"] & pairs["_is_near"]
    found = pairs.group_by("answer_id").agg(
        _n_before=pairs.count(where=pairs["_is_before"]),
        _same=pairs.position.max(where=fits & pairs["_is_same"]),
        _any=pairs.position.max(where=fits),
    )
    found = found.mutate(about_position=ibis.coalesce(found["_same"], found["_any"]))
    table = numbered.left_join(found, "answer_id").drop("answer_id_right")
    attached = store(_describe(table, candidates, steps), steps.get_backend())
    drop(numbered)
    return attached


def _number(table: ibis.Table, steps: ibis.Table, where: str) -> ibis.Table:
    """Answers with an id, and what is asked of them under names that no column of theirs has."""
    check_columns(table, ("customer_id", "timestamp"), where)
    taken = sorted(set(ATTACHED).difference({"journey_id"}).intersection(table.columns))
    if taken:
        raise RuleError(f"{where}: the answers have {', '.join(taken)} already; drop or rename these columns first")
    if not (table.timestamp.type().is_timestamp() or table.timestamp.type().is_string()):
        raise RuleError(f"{where}: timestamp of the answers is {table.timestamp.type()}; expected a timestamp in UTC")
    time = table.timestamp
    if time.type().is_string():
        time = time.try_cast("timestamp")
    elif time.type().timezone is not None:
        time = utc_of_zoned(time, steps.get_backend())
    is_step = {"position", "step"} <= set(table.columns)

    def read(name: str, kind: str) -> ibis.Value:
        return table[name].cast(kind) if name in table.columns else ibis.null(kind)

    numbered = table.mutate(
        answer_id=ibis.row_number().over(order_by=["timestamp", "customer_id"]) + 1,
        _time=time,
        _journey=read("journey_id", "string"),
        _about=read("about", "string"),
        _position=read("position", "int64") if is_step else ibis.null("int64"),
    )
    # Of two answers at one instant either may be the first: stored, it stays that one.
    return store(numbered, steps.get_backend())


def _list_candidates(steps: ibis.Table, journeys: ibis.Table) -> ibis.Table:
    """The steps that an answer may speak of."""
    seen = steps.join(journeys.select("journey_id", _n_seen="n_steps"), "journey_id")
    seen = seen.filter((seen.step <= seen["_n_seen"]) & ~find_answers(seen))
    channel = seen.channel if "channel" in seen.columns else ibis.null("string")
    # build_steps writes customer/journey: a table of answers has the second part alone.
    owner = seen.customer_id.replace("%", "%25").replace("/", "%2F").concat("/")
    return seen.select(
        "customer_id",
        "position",
        "event",
        "stage",
        channel=channel,
        step_time="timestamp",
        found_journey="journey_id",
        log_journey=seen.journey_id.substr(owner.length()),
    )


def _describe(table: ibis.Table, candidates: ibis.Table, steps: ibis.Table) -> ibis.Table:
    """Name the step that was found, or the reason why there is none."""
    spoken = candidates.select(
        _owner="customer_id",
        _at="position",
        about_event="event",
        about_stage="stage",
        about_channel="channel",
        _found_journey="found_journey",
        _step_time="step_time",
    )
    known = steps.select(_known="customer_id").distinct()
    table = table.left_join(known, table.customer_id == known["_known"])
    table = table.left_join(spoken, [table.customer_id == spoken["_owner"], table.about_position == spoken["_at"]])
    is_found = table.about_position.notnull()
    attached = ibis.cases(
        (table.customer_id.isnull(), REASONS[0]),
        (table["_time"].isnull(), REASONS[1]),
        (table["_known"].isnull(), REASONS[2]),
        (is_found & table["_about"].notnull(), NAMED),
        (is_found & table["_same"].notnull(), SAME),
        (is_found, BEFORE),
        (table["_n_before"].fill_null(0) > 0, REASONS[5]),
        (table["_about"].notnull(), REASONS[3]),
        else_=REASONS[4],
    )
    kept = [name for name in table.columns if not name.startswith("_") and name not in ATTACHED]
    made = {
        "attached": attached,
        "journey_id": table["_found_journey"],
        "wait_s": table["_time"].delta(table["_step_time"], unit="microsecond") / 1e6,
    }
    return table.select(*kept, *(name for name in ATTACHED if name not in made), **made).relocate(
        *ATTACHED, after=kept[-1]
    )


def count_attached(attached: ibis.Table) -> pd.DataFrame:
    """How many answers speak of a step, and why do the others not?

    Parameters
    ----------
    attached
        From `attach_feedback`.

    Returns
    -------
    pandas.DataFrame
        One row per value of attached that occurs, ways before reasons: attached, is_attached, n, share (of all
        answers), median_wait_s (from the step to the answer; null where there is none).
    """
    table: pd.DataFrame = (
        attached.group_by("attached")
        .agg(n=attached.count(), median_wait_s=median(attached.wait_s, attached.get_backend()))
        .execute()
    )
    table["is_attached"] = ~table["attached"].isin(REASONS)
    table["share"] = table["n"] / table["n"].sum()
    table["median_wait_s"] = table["median_wait_s"].astype(float)
    order = table["attached"].map({way: i for i, way in enumerate(_WAYS)})
    table = table.assign(_order=order).sort_values("_order", ignore_index=True)
    found: pd.DataFrame = table[["attached", "is_attached", "n", "share", "median_wait_s"]]
    return found


def describe_attached(counted: pd.DataFrame) -> str:
    """How many answers of `count_attached` speak of a step? One sentence."""
    n, found = int(counted["n"].sum()), int(counted.loc[counted["is_attached"], "n"].sum())
    if not n:
        return _("There are no answers.")
    return ngettext(
        "{found} of {n} answer ({share}) speaks of a step in the customer's journey.",
        "{found} of {n} answers ({share}) speak of a step in the customer's journey.",
        n,
        found=format_count(found),
        n=format_count(n),
        share=format_share(found / n),
    )
