"""Persona cards: how many they are, what sets them apart, the way they travel, and how sure that is."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from journeylab.errors import RuleError
from journeylab.formats import (
    Format,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_points,
    format_share,
)
from journeylab.language import gettext as _
from journeylab.language import localise, ngettext
from journeylab.language import mark as N_
from journeylab.picture import Picture, as_figure, colour_of, safe, shorten
from journeylab.words import unit_of, word_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import pandas as pd

    from journeylab.personas import Personas

    Record = dict[Hashable, Any]  # one row of a tidy frame: text, counts and shares side by side

_MOST_EVENTS, _MOST_TRAITS = 5, 3
_FIRST_CHIPS, _LAST_CHIPS = 10, 3
_LEAST_EFFECT, _P = 0.2, 0.05
# Smaller groups are not counted in public; figures of smaller samples are flagged.
_MIN_GROUP, _MIN_SAMPLE = 10, 30

# Kinds of traits by the part of the card that they stand in, and how one is called.
_TRAVEL = {
    "time_to_goal": N_("Time to goal"),
    "tempo": N_("Time between events"),
    "journeys": N_("Journeys"),
    "channel": "",
}
_VERDICTS = {"clear": N_("Clearly there."), "weak": N_("Weakly there."), "none": N_("Not there.")}
_SAID = {
    "goal": N_("Goals"),
    "motive": N_("Motives"),
    "need": N_("Needs"),
    "pain": N_("Pains"),
    "context": N_("Context"),
    "quote": N_("In their words"),
}
_NOTE = N_(
    "Intervals: 95 %. Bars show the effect d against all other customers, filled for more and hollow for less: the "
    "difference in standard deviations over all customers (for shares of customers Cohen's h); 0.2 is small, 0.8 "
    "large. Events, channels and moves: mean share of what a customer does. Goal: so far, for open journeys may still "
    "reach it. Value: none counts as 0. Typically: the geometric mean over customers."
)

_CARDS = (
    ".jl .jl-title{font-size:16px;font-weight:600;margin:0 0 10px;color:var(--ink)}"
    ".jl .jl-verdict{border-left:4px solid var(--mute);padding:2px 0 2px 12px;margin:0 0 14px;max-width:62rem;"
    "overflow-wrap:anywhere;color:var(--ink)}.jl .jl-verdict b{font-weight:600}"
    ".jl .jl-cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(360px,100%),1fr));gap:16px}"
    ".jl .jl-card{border:1px solid var(--line);border-top:5px solid var(--c);border-radius:6px;padding:12px 16px 14px;"
    "display:flex;flex-direction:column;min-width:0;break-inside:avoid;print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    ".jl .jl-card.shaky{border-top-style:dashed}.jl .jl-card p{margin:0;color:var(--ink)}"
    ".jl .jl-card .h{font-size:16px;font-weight:600;overflow-wrap:anywhere;margin-bottom:8px}"
    ".jl .jl-card .k{display:inline-block;min-width:1.6em;text-align:center;border:2px solid var(--c);"
    "border-radius:4px;margin-right:.5em;font-size:14px;line-height:1.5em}"
    ".jl .jl-card .big{font-size:26px;font-weight:600;line-height:1.2}"
    ".jl .jl-card .m{color:var(--mute);font-size:13px;overflow-wrap:anywhere}"
    ".jl .jl-card .s{color:var(--mute);font-size:13px;font-weight:600;margin:14px 0 5px}"
    ".jl .jl-card dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:3px 12px;margin:10px 0 0;font-size:14px}"
    ".jl .jl-card dt{color:var(--mute);font-weight:400;float:none;width:auto;white-space:nowrap}"
    ".jl .jl-card dd{margin:0;overflow-wrap:anywhere}"
    ".jl .jl-size{height:8px;background:var(--lost);border-radius:4px;margin:4px 0;overflow:hidden}"
    ".jl .jl-size i{display:block;height:100%;background:var(--c)}"
    ".jl .jl-apart{display:grid;grid-template-columns:minmax(0,1fr) 100px 4.9em;gap:5px 8px;align-items:center;"
    "font-size:13px}.jl .jl-apart .t{overflow-wrap:anywhere;line-height:1.25}"
    ".jl .jl-apart .d{position:relative;height:14px}.jl .jl-apart .d::before{content:'';position:absolute;left:50%;"
    "top:-3px;bottom:-3px;border-left:1px solid var(--mute)}.jl .jl-apart .d i{position:absolute;top:1px;bottom:1px;"
    "background:var(--c)}.jl .jl-apart .d i.less{background:none;border:1.5px solid var(--c);box-sizing:border-box}"
    ".jl .jl-apart .r{text-align:right;white-space:nowrap}"
    ".jl .jl-path{list-style:none;display:flex;flex-wrap:wrap;gap:5px 0;margin:0 0 5px;padding:0;font-size:13px}"
    ".jl .jl-path li{display:flex;align-items:center;margin:0;padding:0;max-width:100%}.jl .jl-path li span{"
    "padding:0 7px;border:1px solid var(--line);border-radius:9px;line-height:1.5;overflow-wrap:anywhere;min-width:0}"
    ".jl .jl-path li.o span{border:0;padding:0 2px;color:var(--mute)}"
    ".jl .jl-path li+li::before{content:'→';color:var(--mute);padding:0 4px}"
    ".jl .jl-card details{margin-top:10px;font-size:13px}.jl .jl-card summary{color:var(--mute);cursor:pointer}"
    ".jl .jl-card summary:focus-visible{outline:2px solid #2698f0}.jl .jl-card details .jl-apart{margin-top:7px}"
    ".jl .jl-said{border:1px dashed var(--mute);border-radius:6px;padding:8px 12px 10px;margin-top:14px;font-size:14px}"
    ".jl .jl-said .s{margin:0 0 2px}.jl .jl-said ul{list-style:none;margin:0;padding:0}"
    ".jl .jl-said li{margin:1px 0 0;overflow-wrap:anywhere}.jl .jl-said ul+.m{margin-top:7px}"
    ".jl .jl-card .jl-sure{border-top:1px solid var(--line);margin-top:auto;padding-top:8px}"
    ".jl .jl-card :has(+.jl-sure){margin-bottom:12px}"
    "@media(max-width:480px){.jl .jl-card{padding:10px 12px 12px}.jl .jl-apart{grid-template-columns:"
    "minmax(0,1fr) 64px 4.9em}}"
    "@media print{.jl .jl-card details::details-content{content-visibility:visible;block-size:auto}}"
)


def _plain(value: float) -> str:
    return localise(f"{value:.1f}".removesuffix(".0"))


def _word(text: str) -> str:
    return shorten(text, 120)


def _goal_base(row: Record) -> str:
    n, interval = int(row["n"]), _interval(row, "conversion", format_share)
    if not interval:
        return ngettext("of {n} customer", "of {n} customers", n)
    return ngettext("({interval}) of {n} customer", "({interval}) of {n} customers", n, interval=interval)


def _value_base(row: Record) -> str:
    n, interval = int(row["n"]), _interval(row, "value", format_number)
    if not interval:
        return ngettext("mean of {n} customer", "mean of {n} customers", n)
    return ngettext("({interval}) mean of {n} customer", "({interval}) mean of {n} customers", n, interval=interval)


def _time_base(row: Record) -> str:
    n = int(row["n_goal_journeys"])
    return ngettext("median of {n} journey", "median of {n} journeys", n)


def _drop_off_base(row: Record) -> str:
    return ngettext(
        "{share} of {n} journey that ended short of the goal",
        "{share} of {n} journeys that ended short of the goal",
        int(row["n_dropped"]),
        share=format_share(row["drop_off_share"]),
    )


def _next_step_base(row: Record) -> str:
    return ngettext(
        "{share} of {n} open journey, if it goes on",
        "{share} of {n} open journeys, if they go on",
        int(row["n_open"]),
        share=format_share(row["next_step_share"]),
    )


# Term, column of the summary, how it is written, and its base; a figure that the log cannot tell is left out.
_Facts = tuple[tuple[str, str, Format, "Callable[[Record], str]"], ...]
_FACTS: _Facts = (
    (N_("Goal reached"), "conversion", format_share, _goal_base),
    (N_("Value"), "value_mean", format_number, _value_base),
    (N_("Time to goal"), "time_to_goal_median_s", format_duration, _time_base),
    (N_("Stops after"), "drop_off", _word, _drop_off_base),
    (N_("Next step"), "next_step", _word, _next_step_base),
    (N_("Channels"), "channels", _word, lambda row: ""),
)
_MORE_FACTS: _Facts = (
    (N_("Most frequent"), "top_events", _word, lambda row: ""),
    (N_("Events"), "n_events_median", _plain, lambda row: _("median per customer")),
    (N_("Journeys"), "n_journeys_mean", _plain, lambda row: _("mean per customer")),
    (N_("Between events"), "gap_median_s", format_duration, lambda row: _("median")),
)


def draw_personas(personas: Personas, *, only: int | None = None) -> Picture:
    """Who are these customers: how many, what sets each persona apart, how do they travel, and how sure is that?

    One card per persona in its fixed colour. A bar to the right is something of which these customers have more than
    all others, a hollow bar to the left something of which they have less; all bars share one scale, the effect size.
    What people stated stands in a box of its own, apart from what was measured. A part without data is left out.

    Parameters
    ----------
    personas : Personas
        `fit_personas`'s result. Of its `traits` are shown those that pass the test (adjusted p below 5 %) and differ
        by more than next to nothing (effect 0.2).
    only : int, optional
        The number of one persona: its card alone, its bars on the scale of all.
    """
    summary, profile, traits = personas.summary, personas.profile.dropna(subset="effect"), _keep_clear(personas.traits)
    effects = [effect for frame in (profile, traits) if len(frame) for effect in frame["effect"].abs()]
    widest = max([*effects, 1e-9])
    records = [row for row in summary.to_dict("records") if only in (None, row["persona"])]
    if not records:
        known = ", ".join(map(str, summary["persona"]))
        raise RuleError(f"draw_personas: only must be the number of a persona, one of {known}; found {only!r}")
    cards = "".join(_card(row, personas, profile, traits, widest) for row in records)
    title = _title(len(summary), int(summary["n"].sum()), only)
    body = (
        f'<div class="mathjax_ignore tex2jax_ignore"><p class="jl-title">{title}</p>{_verdict(personas)}'
        f'<div class="jl-cards">{cards}</div></div><p class="jl-note">{_(_NOTE)}</p>'
    )
    sizes = "; ".join(f"{_name(row, 60)}, {format_share(row['share'])}" for row in records)
    return as_figure(body, style=_CARDS, alt=f"{title}: {sizes}.")


def _title(n: int, n_customers: int, only: int | None) -> str:
    units = unit_of("customer", n_customers)
    if only is None:
        return ngettext(
            "{n} persona of {n_customers} {units}",
            "{n} personas of {n_customers} {units}",
            n,
            n_customers=n_customers,
            units=units,
        )
    return ngettext(
        "Persona {only}, one of {n} persona of {n_customers} {units}",
        "Persona {only}, one of {n} personas of {n_customers} {units}",
        n,
        only=only,
        n_customers=n_customers,
        units=units,
    )


def _keep_clear(traits: pd.DataFrame) -> pd.DataFrame:
    """The differences that are neither chance nor next to nothing, the strongest first."""
    if traits.empty:
        return traits
    kept = traits[(traits["p_adjusted"] < _P) & (traits["effect"].abs() >= _LEAST_EFFECT)]
    return kept.loc[kept["effect"].abs().sort_values(ascending=False, kind="stable").index]


def _verdict(personas: Personas) -> str:
    if personas.verdict is None:
        return ""
    word = _(_VERDICTS[personas.verdict]) if personas.verdict in _VERDICTS else personas.verdict
    return f'<p class="jl-verdict"><b>{safe(word)}</b> {safe(personas.reason, 600)}</p>'


def _card(row: Record, personas: Personas, profile: pd.DataFrame, traits: pd.DataFrame, widest: float) -> str:
    """Write one card; its colour goes by the persona's number, so that it is the same in every picture."""
    number = row["persona"]
    stated = None if personas.stated is None else personas.stated.astype({"n": "float64"})  # NaN where nobody counted
    events = sorted(_take(profile, number), key=lambda event: -abs(event["effect"]))
    own = _take(traits, number, "segment")
    travel, people = ([one for one in own if one["kind"] in kinds] for kinds in (_TRAVEL, ("attribute",)))
    moves = [move for move in own if move["kind"] == "transition"][:_MOST_EVENTS]
    found = next(iter(_take(personas.stability, number)), None)
    parts = [
        _facts(row, _FACTS),
        _bars(_("What sets them apart"), [_event_bar(event, widest) for event in events[:_MOST_EVENTS]]),
        _bars(_("How they travel"), [_trait_bar(trait, widest) for trait in travel[:_MOST_TRAITS]]),
        _bars(_("Who they are"), [_trait_bar(trait, widest) for trait in people[:_MOST_TRAITS]]),
        *(_path(medoid, row["n"]) for medoid in _take(personas.medoids, number)),
        _said(_take(stated, number)),
        _fold(_("Moves that set them apart"), _bars("", [_share_bar(move["trait"], move, widest) for move in moves])),
        _fold(_("More figures"), _facts(row, _MORE_FACTS)),
        _sureness(row, found),
    ]
    shaky = "" if found is None or found["is_stable"] else " shaky"
    return (
        f'<section class="jl-card{shaky}" style="--c:{colour_of(int(number))}" aria-label="{safe(_name(row, 120))}">'
        f"{_head(row)}{''.join(parts)}</section>"
    )


def _take(frame: pd.DataFrame | None, number: int, column: str = "persona") -> list[Record]:
    return [] if frame is None or frame.empty else frame[frame[column] == number].to_dict("records")


def _name(row: Record, longest: int) -> str:
    return _("Persona {number}, {name}", number=row["persona"], name=shorten(row["name"], longest))


def _head(row: Record) -> str:
    interval, n = format_interval(row["low"], row["high"], format_share), int(row["n"])
    return (
        f'<p class="h"><span class="k">{row["persona"]}</span>{safe(shorten(row["name"], 80))}</p>'
        f'<p><span class="big">{format_share(row["share"])}</span> '
        f'<span class="m">({interval}) · {format_count(n)} {unit_of("customer", n)}</span></p>'
        f'<div class="jl-size"><i style="width:{100 * row["share"]:.1f}%"></i></div>'
    )


def _facts(row: Record, facts: _Facts) -> str:
    lines = []
    for term, column, write, base in facts:
        value = row.get(column)
        if _is_missing(value) or value == "":
            continue
        lines.append(f"<dt>{_(term)}</dt><dd>{safe(write(value))} {_mute(base(row))}</dd>")
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def _mute(words: str) -> str:
    return f'<span class="m">{words}</span>' if words else ""


def _is_missing(value: Any) -> bool:  # Any: a cell of a frame
    return value is None or (isinstance(value, float) and math.isnan(value))


def _interval(row: Record, figure: str, write: Format) -> str:
    low, high = (row.get(f"{figure}_{end}", math.nan) for end in ("low", "high"))
    return "" if math.isnan(low) or math.isnan(high) else format_interval(low, high, write)


def _bars(title: str, bars: Sequence[str]) -> str:
    head = f'<p class="s">{title}</p>' if title else ""
    return f'{head}<div class="jl-apart">{"".join(bars)}</div>' if bars else ""


def _fold(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>" if inside else ""


def _event_bar(row: Record, widest: float) -> str:
    return _share_bar(word_of(row["event"], "event"), row, widest)


def _share_bar(name: str, row: Record, widest: float) -> str:
    """A bar for a share of what customers do; `row` is one of the profile or of the traits."""
    mine, other = (row["share"], row["share_elsewhere"]) if "share" in row else (row["value"], row["value_other"])
    both = _("{mine} against {other} of everyone else", mine=format_share(mine), other=format_share(other))
    return _bar(name, format_points(row["difference"]).replace(" ", "\N{NO-BREAK SPACE}"), both, row["effect"], widest)


def _trait_bar(row: Record, widest: float) -> str:
    """A bar for any other trait, with both values in words."""
    if row["kind"] == "channel":
        return _share_bar(_("{channel} (channel)", channel=row["trait"]), row, widest)
    write: Format = format_share
    if row["measure"] == "typical":
        write = format_duration
    elif row["measure"] == "mean":
        write = format_number
    mine, other = (write(row[name]).replace(" ", "\N{NO-BREAK SPACE}") for name in ("value", "value_other"))
    if row["measure"] == "typical":
        both = _("typically {mine} against {other}", mine=mine, other=other)
    else:
        both = _("{mine} against {other}", mine=mine, other=other)
    kind = row["kind"]
    name = _(_TRAVEL[kind]) if kind in _TRAVEL else str(row["trait"])
    return _bar(name, both, both, row["effect"], widest)


def _bar(name: str, figure: str, both: str, effect: float, widest: float) -> str:
    side = "left" if effect >= 0 else "right"
    less = "" if effect >= 0 else ' class="less"'
    size = f"d {format_number(effect, signed=True)}"
    return (
        f'<span class="t" title="{safe(name)}: {both}">{safe(shorten(name, 60))} {_mute(figure)}</span>'
        f'<span class="d"><i style="{side}:50%;width:{50 * abs(effect) / widest:.1f}%"{less}></i></span>'
        f'<span class="r">{size}</span>'
    )


def _path(medoid: Record, n: int) -> str:
    """A real journey as a row of chips; what repeats at once is one chip, the middle of a long one is left out."""
    chips = []
    for event, again in groupby(medoid["journey"]):
        times = len(list(again))
        chips.append((f"<li><span>{safe(shorten(event, 40))}{f' ×{times}' if times > 1 else ''}</span></li>", times))
    left_out = sum(times for _chip, times in chips[_FIRST_CHIPS:-_LAST_CHIPS])
    shown = [chip for chip, _times in chips]
    if len(chips) > _FIRST_CHIPS + _LAST_CHIPS:
        more = _("{n} more", n=left_out)
        shown[_FIRST_CHIPS:-_LAST_CHIPS] = [f'<li class="o"><span>{more}</span></li>']
    note = _path_note(int(medoid["n_events"]), int(medoid["n_same"]), n)
    title = _("A typical journey")
    return f'<p class="s">{title}</p><ol class="jl-path">{"".join(shown)}</ol><p class="m">{note}</p>'


def _path_note(n_events: int, n_same: int, n: int) -> str:
    if n_same < _MIN_GROUP:
        return _(
            "{n_events} events, nearest to all others; fewer than {least} of {n} customers made just this one",
            n_events=n_events,
            least=_MIN_GROUP,
            n=n,
        )
    return _(
        "{n_events} events, nearest to all others; {n_same} of {n} customers made just this one",
        n_events=n_events,
        n_same=n_same,
        n=n,
    )


def _said(rows: list[Record]) -> str:
    """What people stated, and how many."""
    if not rows:
        return ""
    bases = {None if math.isnan(row["n"]) else int(row["n"]) for row in rows}
    base = bases.pop() if len(bases) == 1 else None
    head = _("Stated, not measured")
    if base is not None:
        head = ngettext("Stated in {n} interview, not measured", "Stated in {n} interviews, not measured", base)
    parts = []
    for kind, texts in groupby(rows, key=lambda row: row["kind"]):
        lines = "".join(_line(row, has_base=base is None) for row in texts)
        parts.append(f'<p class="m">{_(_SAID[kind]) if kind in _SAID else safe(kind)}</p><ul>{lines}</ul>')
    return f'<div class="jl-said"><p class="s">{head}</p>{"".join(parts)}</div>'


def _line(row: Record, *, has_base: bool) -> str:
    text, base = safe(row["text"], 1_000), _base(row["n"]) if has_base else ""
    said = _("“{text}”", text=text) if row["kind"] == "quote" else text
    return f"<li>{said}{_mute(f' ({base})') if base else ''}</li>"


def _base(n: float) -> str:
    return "" if math.isnan(n) else ngettext("{n} interview", "{n} interviews", int(n))


def _sureness(row: Record, found: Record | None) -> str:
    """How often the persona is found again, and how many of its customers fit none."""
    said = []
    if found is not None and not _is_missing(found["jaccard"]):
        jaccard = format_number(found["jaccard"])
        if found["is_stable"]:
            said.append(_("found again in re-draws: {jaccard} (mean Jaccard)", jaccard=jaccard))
        else:
            said.append(_("not stable, found again in re-draws: {jaccard} (mean Jaccard)", jaccard=jaccard))
    if not _is_missing(row.get("share_atypical")):
        said.append(_("{share} of them fit none", share=format_share(row["share_atypical"])))
    if not _is_missing(row.get("probability_mean")):
        probability = format_number(row["probability_mean"])
        said.append(_("sure of each by {probability} (mean probability)", probability=probability))
    if row["n"] < _MIN_SAMPLE:
        said.append(_("fewer than {n} customers: read with care", n=_MIN_SAMPLE))
    words = " · ".join(said)
    return f'<p class="m jl-sure">{words[:1].upper()}{words[1:]}</p>' if said else ""
