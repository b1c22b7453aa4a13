"""Persona cards: how many they are, what sets them apart, and how many reach the goal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from journeylab.formats import NOTHING, format_count, format_interval, format_points, format_share
from journeylab.picture import Picture, as_figure, colour_of, safe, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from journeylab.personas import Personas

    Record = dict[Hashable, Any]  # one row of a tidy frame: text, counts and shares side by side

_MOST_EVENTS = 6

_CARDS = (
    ".jl .jl-cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:16px}"
    ".jl .jl-card{border:1px solid var(--line);border-top:5px solid var(--c);border-radius:6px;padding:12px 16px 14px;"
    "min-width:0}.jl .jl-card p{margin:0;color:var(--ink)}.jl .jl-card .h{font-size:16px;font-weight:600;"
    "overflow-wrap:anywhere;margin-bottom:8px}.jl .jl-card .k{display:inline-block;min-width:1.6em;text-align:center;"
    "border:2px solid var(--c);border-radius:4px;margin-right:.5em;font-size:14px;line-height:1.5em}"
    ".jl .jl-card .big{font-size:26px;font-weight:600;line-height:1.2}.jl .jl-card .m{color:var(--mute);font-size:13px}"
    ".jl .jl-card dl{display:grid;grid-template-columns:auto 1fr;gap:2px 12px;margin:10px 0;font-size:14px}"
    ".jl .jl-card dt{color:var(--mute);font-weight:400;float:none;width:auto;"
    "white-space:nowrap}.jl .jl-card dd{margin:0;overflow-wrap:anywhere}"
    ".jl .jl-size{height:8px;background:var(--lost);border-radius:4px;margin:4px 0;overflow:hidden}"
    ".jl .jl-size i{display:block;height:100%;background:var(--c)}"
    ".jl .jl-apart{display:grid;grid-template-columns:minmax(0,1fr) 96px auto;gap:5px 10px;align-items:center;"
    "font-size:13px;margin-top:8px}.jl .jl-apart .t{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}"
    ".jl .jl-apart .d{position:relative;height:14px}.jl .jl-apart .d::before{content:'';position:absolute;left:50%;"
    "top:-3px;bottom:-3px;border-left:1px solid var(--mute)}.jl .jl-apart .d i{position:absolute;top:1px;bottom:1px;"
    "background:var(--c)}.jl .jl-apart .d i.less{background:none;border:1.5px solid var(--c);box-sizing:border-box}"
    ".jl .jl-apart .r{text-align:right;white-space:nowrap}"
    "@media(max-width:480px){.jl .jl-apart{grid-template-columns:1fr auto}.jl .jl-apart .t{grid-column:1/-1}}"
)


def draw_personas(personas: Personas) -> Picture:
    """Who are these customers: how many, what sets each persona apart, and how many reach the goal?

    One card per persona in its fixed colour. A bar to the right is an event with a larger share of what these customers
    do than of what all others do, a hollow bar to the left one with a smaller share. All cards share one scale, the
    effect size.

    Parameters
    ----------
    personas : Personas
        `fit_personas`'s result: `.summary` (one row per persona) and `.profile` (one row per persona and event).
    """
    summary, profile = personas.summary, personas.profile.dropna(subset="effect")
    widest = max(float(profile["effect"].abs().max()), 1e-9) if len(profile) else 1.0
    records = summary.to_dict("records")
    cards = "".join(_card(row, profile[profile["persona"] == row["persona"]], widest) for row in records)
    customers = int(summary["n"].sum())
    title = f"{len(summary)} personas of {format_count(customers)} customers"
    sizes = "; ".join(f"{_name(row, 60)}, {format_share(row['share'])}" for row in records)
    note = (
        "Sizes and goals with 95 % intervals. What sets apart: the mean share of the event among a customer's events, "
        "in percentage points more or less than all other customers, and as effect d (in standard deviations of that "
        "share over all customers), which the bars show: filled for more, hollow for less."
    )
    body = f'<p class="jl-title">{title}</p><div class="jl-cards">{cards}</div><p class="jl-note">{note}</p>'
    return as_figure(body, style=_CARDS + _TITLE, alt=f"{title}: {sizes}.")


_TITLE = ".jl .jl-title{font-size:16px;font-weight:600;margin:0 0 10px;color:var(--ink)}"


def _card(row: Record, profile: pd.DataFrame, widest: float) -> str:
    """Write one card; its colour goes by the persona's number, so that it is the same in every picture."""
    facts = [
        ("Goal reached", _conversion(row)),
        ("Events", f"{_plain(row.get('n_events_median'))} (median)"),
        ("Journeys", f"{_plain(row.get('n_journeys_mean'))} (mean)"),
        ("Most frequent", safe(shorten(row.get("top_events") or NOTHING, 120))),
    ]
    words = "".join(f"<dt>{term}</dt><dd>{fact}</dd>" for term, fact in facts if fact)
    strongest = profile["effect"].abs().sort_values(ascending=False, kind="stable").index[:_MOST_EVENTS]
    bars = "".join(_bar(event, widest) for event in profile.loc[strongest].to_dict("records"))
    apart = f'<p class="m">What sets them apart</p><div class="jl-apart">{bars}</div>' if bars else ""
    interval = format_interval(row["low"], row["high"], format_share)
    return (
        f'<section class="jl-card" style="--c:{colour_of(int(row["persona"]))}" aria-label="{safe(_name(row, 120))}">'
        f'<p class="h"><span class="k">{row["persona"]}</span>{safe(shorten(row["name"], 80))}</p>'
        f'<p><span class="big">{format_share(row["share"])}</span> '
        f'<span class="m">({interval}) · {format_count(row["n"])} customers</span></p>'
        f'<div class="jl-size"><i style="width:{100 * row["share"]:.1f}%"></i></div>'
        f"<dl>{words}</dl>{apart}</section>"
    )


def _bar(row: Record, widest: float) -> str:
    length = 50 * abs(row["effect"]) / widest
    side = f'left:50%;width:{length:.1f}%"' if row["effect"] >= 0 else f'right:50%;width:{length:.1f}%" class="less"'
    words = f"{format_share(row['share'])} against {format_share(row['share_elsewhere'])} of everyone else"
    return (
        f'<span class="t" title="{safe(row["event"])}: {words}">{safe(row["event"])}</span>'
        f'<span class="d"><i style="{side}></i></span>'
        f'<span class="r" title="{words}">{format_points(row["difference"])}, {_effect(row["effect"])}</span>'
    )


def _effect(value: float) -> str:
    return f"d {value:+.2f}".replace("-", "−")


def _name(row: Record, longest: int) -> str:
    return f"Persona {row['persona']}, {shorten(row['name'], longest)}"


def _plain(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.1f}".removesuffix(".0")


def _conversion(row: Record) -> str:
    """Write the share that reached the goal; nothing where no goal is declared."""
    share = row.get("conversion")
    if share is None or math.isnan(share):
        return ""
    interval = format_interval(row["conversion_low"], row["conversion_high"], format_share)
    return f'{format_share(share)} <span class="m">({interval})</span>'
