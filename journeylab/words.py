"""What columns, and words of ours in their cells, are called where people read them; data keep their short names."""

from __future__ import annotations

from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.language import ngettext

_HEADS = {
    "active_s": N_("active"),
    "after": N_("after"),
    "before": N_("before"),
    "change": N_("change"),
    "changed_at": N_("changed at"),
    "channel": N_("channel"),
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
    "effect": N_("effect"),
    "event": N_("event"),
    "excess_lost": N_("lost beyond others"),
    "figure": N_("figure"),
    "from": N_("from"),
    "horizon_s": N_("time allowed"),
    "is_immature": N_("not over yet"),
    "is_open": N_("open"),
    "is_small": N_("small group"),
    "is_stable": N_("stable"),
    "jaccard": N_("mean Jaccard"),
    "k": N_("k"),
    "kind": N_("kind"),
    "label": N_("label"),
    "log_rank": N_("log-rank"),
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
    "n": N_("n"),
    "n_active": N_("active"),
    "n_at_risk": N_("at risk"),
    "n_back": N_("went back"),
    "n_converted": N_("converted"),
    "n_customers": N_("customers"),
    "n_dormant": N_("dormant"),
    "n_events_median": N_("events, median"),
    "n_gone": N_("gone"),
    "n_journeys": N_("journeys"),
    "n_lost": N_("stopped here"),
    "n_mature": N_("mature starts"),
    "n_new": N_("new"),
    "n_next": N_("went on"),
    "n_next_later": N_("next step later"),
    "n_null": N_("missing"),
    "n_open": N_("still on the way"),
    "n_reached_goal": N_("reached the goal"),
    "n_repeated": N_("repeated it"),
    "n_resurrected": N_("back after a pause"),
    "n_returned": N_("returned"),
    "n_returning": N_("returning"),
    "n_silent": N_("silent"),
    "n_start": N_("started"),
    "n_steps": N_("steps"),
    "n_steps_max": N_("steps, most"),
    "n_steps_median": N_("steps, median"),
    "n_stuck": N_("stuck"),
    "n_with": N_("with"),
    "name": N_("name"),
    "next_event": N_("next event"),
    "next_label": N_("next step"),
    "next_role": N_("next role"),
    "p": N_("p"),
    "p_adjusted": N_("p, adjusted"),
    "period": N_("period"),
    "period_start": N_("period"),
    "persona": N_("persona"),
    "q": N_("q"),
    "report": N_("report"),
    "role": N_("role"),
    "segment": N_("segment"),
    "setting": N_("setting"),
    "share": N_("share"),
    "share_after": N_("share after"),
    "share_atypical": N_("atypical"),
    "share_back": N_("share back"),
    "share_before": N_("share before"),
    "share_below_half": N_("less than half sure"),
    "share_censored": N_("share, censored"),
    "share_lost": N_("share lost"),
    "share_lost_elsewhere": N_("share lost elsewhere"),
    "share_null": N_("share missing"),
    "share_of_previous": N_("share of previous"),
    "share_of_start": N_("share of start"),
    "share_other": N_("share of the others"),
    "share_returned": N_("share returned"),
    "share_stuck": N_("share stuck"),
    "share_with": N_("share with"),
    "stage": N_("stage"),
    "state": N_("state"),
    "step": N_("step"),
    "to": N_("to"),
    "trait": N_("trait"),
    "type": N_("type"),
    "value": N_("value"),
    "value_mean": N_("value, mean"),
    "value_other": N_("value of the others"),
    "variant": N_("variant"),
}

# What cells of our own tables say, and the stages of the ready rules: a stage of the user's own keeps its name.
_WORDED = frozenset(
    ("check", "kind", "last_stage", "mark", "meaning", "measure", "rfm_segment", "stage", "state", "trait", "type")
)
_WORDS = (
    # comparing segments
    *(N_("journeys per customer"), N_("value per customer"), N_("customers who reached the goal"), N_("customers")),
    *(N_("seconds between events"), N_("seconds to the first goal")),
    *(N_("share"), N_("mean"), N_("typical")),
    *(N_("size"), N_("event"), N_("transition"), N_("channel"), N_("stage"), N_("time"), N_("tempo"), N_("journeys")),
    *(N_("conversion"), N_("value"), N_("time_to_goal"), N_("attribute"), N_("property"), N_("repeat"), N_("loop")),
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
_GROUPS = (N_("(other)"), N_("(none)"), N_("(not reached)"))


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
    return _(_HEADS[column]) if column in _HEADS else None


def word_of(text: str, column: str = "stage") -> str:
    """What is this word of ours called, by default a stage? What is none of ours is data and stays."""
    return _(text) if text in _GROUPS or (column in _WORDED and text in _WORDS) else text
