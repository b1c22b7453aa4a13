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
    format_points,
    format_share,
)
from journeylab.picture import Picture, as_figure, colour_of, safe, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd

    from journeylab.personas import Personas

    Record = dict[Hashable, Any]  # one row of a tidy frame: text, counts and shares side by side

_MOST_EVENTS, _MOST_TRAITS = 5, 3
_FIRST_CHIPS, _LAST_CHIPS = 10, 3
_LEAST_EFFECT, _P = 0.2, 0.05
# Smaller groups are not counted in public; figures of smaller samples are flagged.
_MIN_GROUP, _MIN_SAMPLE = 10, 30

# Kinds of traits by the part of the card that they stand in, and how one is called.
_TRAVEL = {"time_to_goal": "Time to goal", "tempo": "Time between events", "journeys": "Journeys", "channel": ""}
_VERDICTS = {"clear": "Clearly there.", "weak": "Weakly there.", "none": "Not there."}
_SAID = {
    "goal": "Goals",
    "motive": "Motives",
    "need": "Needs",
    "pain": "Pains",
    "context": "Context",
    "quote": "In their words",
}
_NOTE = (
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


def _amount(value: float) -> str:
    return f"{value:,.2f}".replace("-", "−")


def _plain(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _word(text: str) -> str:
    return shorten(text, 120)


# Term, column of the summary, how it is written, and its base; a figure that the log cannot tell is left out.
_FACTS: tuple[tuple[str, str, Format, str], ...] = (
    ("Goal reached", "conversion", format_share, "{interval}of {n} customers"),
    ("Value", "value_mean", _amount, "{interval}mean of {n} customers"),
    ("Time to goal", "time_to_goal_median_s", format_duration, "median of {n_goal_journeys} journeys"),
    ("Stops after", "drop_off", _word, "{drop_off_share} of {n_dropped} journeys that ended short of the goal"),
    ("Next step", "next_step", _word, "{next_step_share} of {n_open} open journeys, if they go on"),
    ("Channels", "channels", _word, ""),
)
_MORE_FACTS: tuple[tuple[str, str, Format, str], ...] = (
    ("Most frequent", "top_events", _word, ""),
    ("Events", "n_events_median", _plain, "median per customer"),
    ("Journeys", "n_journeys_mean", _plain, "mean per customer"),
    ("Between events", "gap_median_s", format_duration, "median"),
)
_BOUNDS = {"conversion": "conversion", "value_mean": "value"}
_BASES: dict[str, Format] = {
    **dict.fromkeys(("n", "n_goal_journeys", "n_dropped", "n_open"), format_count),
    **dict.fromkeys(("drop_off_share", "next_step_share"), format_share),
}


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
    n = f"{len(summary)} persona{'s' if len(summary) != 1 else ''} of {format_count(summary['n'].sum())} customers"
    title = n if only is None else f"Persona {only}, one of {n}"
    body = (
        f'<div class="mathjax_ignore tex2jax_ignore"><p class="jl-title">{title}</p>{_verdict(personas)}'
        f'<div class="jl-cards">{cards}</div></div><p class="jl-note">{_NOTE}</p>'
    )
    sizes = "; ".join(f"{_name(row, 60)}, {format_share(row['share'])}" for row in records)
    return as_figure(body, style=_CARDS, alt=f"{title}: {sizes}.")


def _keep_clear(traits: pd.DataFrame) -> pd.DataFrame:
    """The differences that are neither chance nor next to nothing, the strongest first."""
    if traits.empty:
        return traits
    kept = traits[(traits["p_adjusted"] < _P) & (traits["effect"].abs() >= _LEAST_EFFECT)]
    return kept.loc[kept["effect"].abs().sort_values(ascending=False, kind="stable").index]


def _verdict(personas: Personas) -> str:
    if personas.verdict is None:
        return ""
    word = _VERDICTS.get(personas.verdict, personas.verdict)
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
        _bars("What sets them apart", [_share_bar(event["event"], event, widest) for event in events[:_MOST_EVENTS]]),
        _bars("How they travel", [_trait_bar(trait, widest) for trait in travel[:_MOST_TRAITS]]),
        _bars("Who they are", [_trait_bar(trait, widest) for trait in people[:_MOST_TRAITS]]),
        *(_path(medoid, row["n"]) for medoid in _take(personas.medoids, number)),
        _said(_take(stated, number)),
        _fold("Moves that set them apart", _bars("", [_share_bar(move["trait"], move, widest) for move in moves])),
        _fold("More figures", _facts(row, _MORE_FACTS)),
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
    return f"Persona {row['persona']}, {shorten(row['name'], longest)}"


def _head(row: Record) -> str:
    interval = format_interval(row["low"], row["high"], format_share)
    return (
        f'<p class="h"><span class="k">{row["persona"]}</span>{safe(shorten(row["name"], 80))}</p>'
        f'<p><span class="big">{format_share(row["share"])}</span> '
        f'<span class="m">({interval}) · {format_count(row["n"])} customers</span></p>'
        f'<div class="jl-size"><i style="width:{100 * row["share"]:.1f}%"></i></div>'
    )


def _facts(row: Record, facts: tuple[tuple[str, str, Format, str], ...]) -> str:
    bases = {name: write(row[name]) for name, write in _BASES.items() if not _is_missing(row.get(name))}
    lines = []
    for term, column, write, base in facts:
        value = row.get(column)
        if _is_missing(value) or value == "":
            continue
        words = base.format(interval=_interval(row, column, write), **bases)
        lines.append(f"<dt>{term}</dt><dd>{safe(write(value))} {_mute(words)}</dd>")
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def _mute(words: str) -> str:
    return f'<span class="m">{words}</span>' if words else ""


def _is_missing(value: Any) -> bool:  # Any: a cell of a frame
    return value is None or (isinstance(value, float) and math.isnan(value))


def _interval(row: Record, column: str, write: Format) -> str:
    low, high = (row.get(f"{_BOUNDS.get(column)}_{end}", math.nan) for end in ("low", "high"))
    return "" if math.isnan(low) or math.isnan(high) else f"({format_interval(low, high, write)}) "


def _bars(title: str, bars: Sequence[str]) -> str:
    head = f'<p class="s">{title}</p>' if title else ""
    return f'{head}<div class="jl-apart">{"".join(bars)}</div>' if bars else ""


def _fold(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>" if inside else ""


def _share_bar(name: str, row: Record, widest: float) -> str:
    """A bar for a share of what customers do; `row` is one of the profile or of the traits."""
    mine, other = (row["share"], row["share_elsewhere"]) if "share" in row else (row["value"], row["value_other"])
    both = f"{format_share(mine)} against {format_share(other)} of everyone else"
    return _bar(name, format_points(row["difference"]).replace(" ", "\N{NO-BREAK SPACE}"), both, row["effect"], widest)


def _trait_bar(row: Record, widest: float) -> str:
    """A bar for any other trait, with both values in words."""
    if row["kind"] == "channel":
        return _share_bar(f"{row['trait']} (channel)", row, widest)
    write: Format = format_share
    if row["measure"] == "typical":
        write = format_duration
    elif row["measure"] == "mean":
        write = _amount
    how = "typically " if row["measure"] == "typical" else ""
    mine, other = (write(row[name]).replace(" ", "\N{NO-BREAK SPACE}") for name in ("value", "value_other"))
    both = f"{how}{mine} against {other}"
    return _bar(str(_TRAVEL.get(row["kind"], row["trait"])), both, both, row["effect"], widest)


def _bar(name: str, figure: str, both: str, effect: float, widest: float) -> str:
    side = "left" if effect >= 0 else "right"
    less = "" if effect >= 0 else ' class="less"'
    size = f"d {effect:+.2f}".replace("-", "−")
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
    left_out = sum(times for _, times in chips[_FIRST_CHIPS:-_LAST_CHIPS])
    shown = [chip for chip, _ in chips]
    if len(chips) > _FIRST_CHIPS + _LAST_CHIPS:
        shown[_FIRST_CHIPS:-_LAST_CHIPS] = [f'<li class="o"><span>{format_count(left_out)} more</span></li>']
    same = format_count(medoid["n_same"]) if medoid["n_same"] >= _MIN_GROUP else f"fewer than {_MIN_GROUP}"
    events, customers = format_count(medoid["n_events"]), format_count(n)
    note = f"{events} events, nearest to all others; {same} of {customers} customers made just this one"
    return f'<p class="s">A typical journey</p><ol class="jl-path">{"".join(shown)}</ol><p class="m">{note}</p>'


def _said(rows: list[Record]) -> str:
    """What people stated, and how many."""
    if not rows:
        return ""
    bases = {_base(row["n"]) for row in rows}
    base = f" in {bases.copy().pop()}" if len(bases) == 1 and bases != {""} else ""
    parts = []
    for kind, texts in groupby(rows, key=lambda row: row["kind"]):
        lines = "".join(_line(row, has_base=not base) for row in texts)
        parts.append(f'<p class="m">{_SAID.get(kind, safe(kind))}</p><ul>{lines}</ul>')
    return f'<div class="jl-said"><p class="s">Stated{base}, not measured</p>{"".join(parts)}</div>'


def _line(row: Record, *, has_base: bool) -> str:
    text, base = safe(row["text"], 1_000), _base(row["n"]) if has_base else ""
    said = f"“{text}”" if row["kind"] == "quote" else text
    return f"<li>{said}{_mute(f' ({base})') if base else ''}</li>"


def _base(n: float) -> str:
    return "" if math.isnan(n) else f"{format_count(n)} {'interview' if n == 1 else 'interviews'}"


def _sureness(row: Record, found: Record | None) -> str:
    """How often the persona is found again, and how many of its customers fit none."""
    said = []
    if found is not None and not _is_missing(found["jaccard"]):
        again = f"found again in re-draws: {found['jaccard']:.2f} (mean Jaccard)"
        said.append(again if found["is_stable"] else f"not stable, {again}")
    if not _is_missing(row.get("share_atypical")):
        said.append(f"{format_share(row['share_atypical'])} of them fit none")
    if not _is_missing(row.get("probability_mean")):
        said.append(f"sure of each by {row['probability_mean']:.2f} (mean probability)")
    if row["n"] < _MIN_SAMPLE:
        said.append(f"fewer than {_MIN_SAMPLE} customers: read with care")
    words = " · ".join(said)
    return f'<p class="m jl-sure">{words[:1].upper()}{words[1:]}</p>' if said else ""
