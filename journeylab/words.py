"""What columns, and words of ours in their cells, are called where people read them; data keep their short names."""

from __future__ import annotations

import re

from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.language import ngettext

_HEADS = {
    "about_channel": N_("speaks of channel"),
    "about_event": N_("speaks of event"),
    "about_stage": N_("speaks of stage"),
    "active_s": N_("active"),
    "after": N_("after"),
    "attached": N_("attached"),
    "before": N_("before"),
    "change": N_("change"),
    "changed_at": N_("changed at"),
    "channel": N_("channel"),
    "channels": N_("channels"),
    "check": N_("check"),
    "cohort": N_("cohort"),
    "column": N_("column"),
    "conversion": N_("conversion"),
    "conversion_censored": N_("censored"),
    "conversion_mature": N_("mature"),
    "conversion_naive": N_("naive"),
    "customer_id": N_("customer"),
    "device": N_("device"),
    "difference": N_("difference"),
    "dormant_after": N_("dormant after"),
    "drop_off": N_("drop off"),
    "drop_off_share": N_("drop off share"),
    "effect": N_("effect"),
    "event": N_("event"),
    "evidence": N_("evidence"),
    "excess_lost": N_("lost beyond others"),
    "feeling": N_("feeling"),
    "figure": N_("figure"),
    "first": N_("first event"),
    "first_time": N_("first"),
    "fitness": N_("fitness"),
    "from": N_("from"),
    "gap_median_s": N_("gap, median"),
    "horizon_s": N_("time allowed"),
    "is_attached": N_("is attached"),
    "is_immature": N_("not over yet"),
    "is_moment": N_("moment that matters"),
    "is_open": N_("open"),
    "is_small": N_("small group"),
    "is_sound": N_("sound"),
    "is_stable": N_("stable"),
    "jaccard": N_("mean Jaccard"),
    "k": N_("k"),
    "kind": N_("kind"),
    "kinds": N_("kinds"),
    "label": N_("label"),
    "last": N_("last event"),
    "last_time": N_("last"),
    "least": N_("least"),
    "log_rank": N_("log-rank"),
    "map": N_("map"),
    "mark": N_("mark"),
    "mean_probability": N_("mean probability"),
    "meaning": N_("meaning"),
    "measure": N_("measure"),
    "median_back_s": N_("until they were back, median"),
    "median_converters_s": N_("of converters, median"),
    "median_duration_s": N_("duration, median"),
    "median_next_s": N_("until the next step, median"),
    "median_s": N_("median"),
    "median_stay_s": N_("stay, median"),
    "median_time_s": N_("time, median"),
    "median_wait_s": N_("wait, median"),
    "min_group": N_("smallest group"),
    "most": N_("most"),
    "n": N_("n"),
    "n_active": N_("active"),
    "n_answered": N_("answered"),
    "n_at_risk": N_("at risk"),
    "n_back": N_("went back"),
    "n_changed": N_("changed"),
    "n_channels": N_("channels"),
    "n_closed": N_("closed journeys"),
    "n_contacts": N_("contacts"),
    "n_converted": N_("converted"),
    "n_customers": N_("customers"),
    "n_dormant": N_("dormant"),
    "n_dropped": N_("dropped"),
    "n_earlier": N_("earlier answers"),
    "n_effective": N_("effective n"),
    "n_events_median": N_("events, median"),
    "n_felt": N_("answers with a feeling"),
    "n_figures": N_("figures"),
    "n_goal_journeys": N_("goal journeys"),
    "n_gone": N_("gone"),
    "n_hits": N_("hits"),
    "n_journeys": N_("journeys"),
    "n_journeys_mean": N_("journeys, mean"),
    "n_lost": N_("stopped here"),
    "n_maps": N_("maps"),
    "n_mature": N_("mature starts"),
    "n_missing": N_("no answer"),
    "n_moments": N_("moments that matter"),
    "n_new": N_("new"),
    "n_next": N_("went on"),
    "n_next_later": N_("next step later"),
    "n_null": N_("missing"),
    "n_open": N_("still on the way"),
    "n_other": N_("other"),
    "n_passed": N_("passed"),
    "n_personas": N_("personas"),
    "n_rated": N_("rated"),
    "n_reached": N_("reached"),
    "n_reached_goal": N_("reached the goal"),
    "n_reasons_tested": N_("reasons tested"),
    "n_repeated": N_("repeated it"),
    "n_resurrected": N_("back after a pause"),
    "n_returned": N_("returned"),
    "n_returning": N_("returning"),
    "n_rows": N_("rows"),
    "n_silent": N_("silent"),
    "n_start": N_("started"),
    "n_started": N_("started"),
    "n_steps": N_("steps"),
    "n_steps_max": N_("steps, most"),
    "n_steps_median": N_("steps, median"),
    "n_stuck": N_("stuck"),
    "n_used": N_("rows that count"),
    "n_with": N_("with"),
    "n_without_stage": N_("events without a stage"),
    "name": N_("name"),
    "next_event": N_("next event"),
    "next_label": N_("next step"),
    "next_role": N_("next role"),
    "next_step": N_("next step"),
    "next_step_share": N_("next step share"),
    "nps": N_("NPS"),
    "nps_weighed": N_("NPS, weighed"),
    "p": N_("p"),
    "p_adjusted": N_("p, adjusted"),
    "period": N_("period"),
    "period_start": N_("period"),
    "persona": N_("persona"),
    "probability_mean": N_("probability, mean"),
    "q": N_("q"),
    "reached_goal": N_("goal reached"),
    "report": N_("report"),
    "rfm_segment": N_("segment"),
    "role": N_("role"),
    "scale": N_("scale"),
    "segment": N_("segment"),
    "setting": N_("setting"),
    "severity": N_("severity"),
    "share": N_("share"),
    "share_after": N_("share after"),
    "share_answered": N_("share that answered"),
    "share_attached": N_("share attached"),
    "share_atypical": N_("atypical"),
    "share_back": N_("share back"),
    "share_before": N_("share before"),
    "share_below_half": N_("less than half sure"),
    "share_censored": N_("share, censored"),
    "share_converted": N_("share converted"),
    "share_converted_censored": N_("share converted, censored"),
    "share_converted_mature": N_("share converted, mature"),
    "share_detractors": N_("detractors"),
    "share_hit": N_("share hit"),
    "share_lost": N_("share lost"),
    "share_lost_elsewhere": N_("share lost elsewhere"),
    "share_lost_other": N_("share lost of the others"),
    "share_null": N_("share missing"),
    "share_of_answered": N_("share of those who answered"),
    "share_of_previous": N_("share of previous"),
    "share_of_silent": N_("share of the silent"),
    "share_of_start": N_("share of start"),
    "share_other": N_("share of the others"),
    "share_passives": N_("passives"),
    "share_promoters": N_("promoters"),
    "share_returned": N_("share returned"),
    "share_stuck": N_("share stuck"),
    "share_top": N_("top answers"),
    "share_used": N_("share of rows that count"),
    "share_with": N_("share with"),
    "stage": N_("stage"),
    "start_time": N_("start"),
    "state": N_("state"),
    "step": N_("step"),
    "time_to_goal_median_s": N_("time to goal, median"),
    "to": N_("to"),
    "top_events": N_("top events"),
    "topic": N_("topic"),
    "total": N_("cost in all"),
    "touchpoint": N_("touchpoint"),
    "trait": N_("trait"),
    "type": N_("type"),
    "value": N_("value"),
    "value_at_stake": N_("value at stake"),
    "value_mean": N_("value, mean"),
    "value_other": N_("value of the others"),
    "variant": N_("variant"),
    "verdict": N_("verdict"),
    "weight": N_("weight"),
}

# What cells of our own tables say, and the stages of the ready rules: a stage of the user's own keeps its name.
_WORDED = frozenset(
    [
        *(
            "about_stage",
            "attached",
            "check",
            "estimate",
            "evidence",
            "figure",
            "kind",
            "last_stage",
            "mark",
            "meaning",
            "measure",
            "part",
            "rfm_segment",
        ),
        *("side", "stage", "state", "trait", "type", "verdict"),
    ]
)
_WORDS = (
    # comparing segments
    *(N_("journeys per customer"), N_("value per customer"), N_("customers who reached the goal"), N_("customers")),
    *(N_("seconds between events"), N_("seconds to the first goal")),
    *(N_("share"), N_("mean"), N_("typical")),
    *(N_("events per customer"), N_("events")),
    *(N_("size"), N_("event"), N_("transition"), N_("channel"), N_("stage"), N_("time"), N_("tempo"), N_("journeys")),
    *(N_("conversion"), N_("value"), N_("time_to_goal"), N_("attribute"), N_("property"), N_("repeat"), N_("loop")),
    # load report, and states of its columns
    *(N_("set aside"), N_("kept"), N_("assumed"), N_("seen"), N_("ok")),
    # comparing runs, and before with after
    *(N_("late data"), N_("mix"), N_("rate"), N_("all"), N_("parameter"), N_("data"), N_("version"), N_("report")),
    *(N_("level"), N_("slope"), N_("difference"), N_("touched"), N_("untouched")),
    # answers: how a scale was told, what they are attached to
    *(N_("stated"), N_("given"), N_("beyond"), N_("all within"), N_("no break"), N_("alongside"), N_("unclear")),
    *(N_("same journey"), N_("step before"), N_("named event"), N_("no customer"), N_("no time")),
    *(N_("unknown customer"), N_("event not found"), N_("nothing before"), N_("too long before")),
    *(N_("unknown"), N_("reached"), N_("not reached")),
    # what personas stated
    *(N_("goal"), N_("motive"), N_("need"), N_("pain"), N_("context"), N_("quote")),
    # verdicts
    *(N_("clear"), N_("weak"), N_("none")),
    # RFM
    *(N_("champions"), N_("potential loyalists"), N_("promising"), N_("loyal"), N_("need attention")),
    *(N_("about to sleep"), N_("cannot lose"), N_("at risk"), N_("hibernating"), N_("never bought")),
    # stages
    *(N_("awareness"), N_("interest"), N_("evaluation"), N_("proposal"), N_("contract"), N_("onboarding")),
    *(N_("growth"), N_("discover"), N_("browse"), N_("basket"), N_("checkout"), N_("purchase"), N_("after_sale")),
    *(N_("service"), N_("consideration"), N_("decision"), N_("retention"), N_("advocacy"), N_("visit"), N_("lead")),
    *(N_("qualified"), N_("offer"), N_("won"), N_("lost"), N_("signup"), N_("activation"), N_("use")),
    *(N_("subscription"), N_("renewal"), N_("churn")),
)
# What a group without a name of its own is called, in any column.
_GROUPS = (
    N_("(other)"),
    N_("(none)"),
    N_("(not reached)"),
    N_("(others)"),
    N_("(other funnel)"),
    N_("(all)"),
    N_("all columns"),
)


# What hurts besides events.
_PAINS = (N_("low rating"), N_("circle"))
# What is measured of customers on their way, among names of events.
_MEASURES = {"n_events": N_("events in all"), "active_s": N_("time spent")}
_OF_PERSONA = re.compile(r"share_persona_(\d+)")
_UNITS = {
    "customer": lambda n: ngettext("customer", "customers", n),
    "journey": lambda n: ngettext("journey", "journeys", n),
    "session": lambda n: ngettext("session", "sessions", n),
    "account": lambda n: ngettext("account", "accounts", n),
    "attempt": lambda n: ngettext("attempt", "attempts", n),
}


def unit_of(unit: str, n: float) -> str:
    """What is this unit of a funnel called behind the number `n`?"""
    return _UNITS[unit](n)


def head_of(column: str) -> str | None:
    """What is a column of ours called? None for one of the user's own."""
    persona = _OF_PERSONA.fullmatch(column)
    if persona:
        return _("persona {n}", n=int(persona[1]))
    return _(_HEADS[column]) if column in _HEADS else None


def word_of(text: str, column: str = "stage") -> str:
    """What is this word of ours called, by default a stage? What is none of ours is data and stays."""
    if column == "name" and text in _MEASURES:
        return _(_MEASURES[text])
    if column == "kinds":
        return ", ".join(_(kind) if kind in _PAINS else kind for kind in text.split(", "))
    is_ours = text in _GROUPS or (column in _WORDED and text in _WORDS)
    return _(text).replace("_", " ") if is_ours else text
