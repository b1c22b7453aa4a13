"""A journey map as a table that is a picture: stages across, lanes down, every figure with its base and its grade."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal

from journeylab.errors import RuleError
from journeylab.journeymap import EVIDENCE
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.map_cells import break_name, draw_badge, draw_cell, draw_mark
from journeylab.map_curve import (
    CURVE,
    ENDS,
    STAGE,
    alt_of_curve,
    draw_curve,
    draw_ends,
    draw_face,
    draw_names,
    read_moments,
    split_lanes,
)
from journeylab.map_style import shrink_map, style_map
from journeylab.map_words import (
    EVIDENCE_SAYS,
    describe_base,
    describe_map,
    list_findings,
    list_notes,
    name_lane,
    name_map,
    say_unknown,
)
from journeylab.picture import Picture, as_figure, colours_of, safe, safe_sentence
from journeylab.words import word_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from journeylab.journeymap import JourneyMap

Kind = Literal["current", "blueprint"]
_KINDS = ("current", "blueprint")
# A part of the map, the line that is drawn above it, and its lanes.
Part = tuple[str, str, tuple[str, ...]]
# Shostack (1984), with the lines as Bitner, Ostrom & Morgan (2008) draw them.
_BLUEPRINT: tuple[Part, ...] = (
    (N_("Customer"), "", ("expectations", "steps", "reach", "time", "drop_off", "feeling", "said", "pain_points")),
    (N_("Front stage"), N_("line of interaction"), ("channels", "touchpoints", "front_stage")),
    (N_("Back stage"), N_("line of visibility"), ("backstage", "owner")),
    (N_("Support"), N_("line of internal interaction"), ("support", "cost", "kpis", "quick_wins")),
)
# The curve on a phone.
_GUTTER, _SMALL_STAGE = 28, 76


def draw_map(journey_map: JourneyMap, *, kind: Kind = "current") -> Picture:
    """What is this journey like, stage by stage?

    A table: stages across, lanes down. Each cell shows its figure with the 95 % interval, the base, and how it is
    known: ● measured, ◐ stated, ○ assumed. Lanes of which nothing is known are one thin line. Moments that matter are
    ringed, and named at the head of their stage.

    Parameters
    ----------
    journey_map : JourneyMap
        From `build_map`.
    kind : {"current", "blueprint"}
        "blueprint" orders the lanes as a service blueprint: customer, front stage, line of visibility, back stage,
        support.
    """
    return _draw([journey_map], kind)


def draw_maps(first: JourneyMap, second: JourneyMap, *, kind: Kind = "current") -> Picture:
    """How do two journeys differ: persona against persona, before against after?

    Two rows per lane, marked A and B, and both curves in one drawing.

    Raises
    ------
    RuleError
        The maps do not have the same stages.
    """
    if first.stages != second.stages:
        raise RuleError(
            "draw_maps: both maps must have the same stages; build them with the same rules. "
            f"First: {', '.join(first.stages)}. Second: {', '.join(second.stages)}"
        )
    return _draw([first, second], kind)


def _draw(maps: Sequence[JourneyMap], kind: str) -> Picture:
    if kind not in _KINDS:
        raise RuleError(f'draw_map: kind must be "current" or "blueprint", found {kind!r}')
    lanes = tuple(dict.fromkeys(lane for each in maps for lane in each.lanes))
    parts = _BLUEPRINT if kind == "blueprint" else (("", "", lanes),)
    alt = " ".join(f"{name_map(each)}: {describe_base(each)}. {describe_map(each)}" for each in maps).strip()
    n_stages = len(maps[0].stages)
    n_marks = max(sum(len(read_moments(each, stage)) for each in maps) for stage in maps[0].stages)
    titles = "".join(_draw_title(each, place, len(maps)) for place, each in enumerate(maps))
    rows = "".join(_draw_part(maps, part, place) for place, part in enumerate(parts))
    kind_of = "jl-m jl-alone" if len(maps) == 1 else "jl-m"
    table = (
        f'<table class="{kind_of}" role="table" style="--stages:{n_stages};--marks:{n_marks}">'
        f"<caption>{safe_sentence(_caption(maps))}</caption>"
        f'<thead role="rowgroup">{_draw_heads(maps)}</thead>{rows}</table>'
    )
    body = (
        f'<div class="jl-map mathjax_ignore tex2jax_ignore" style="--shrink:{shrink_map(n_stages):.3f}">'
        f'<div class="jl-tops">{titles}</div>{_draw_legend()}'
        f'<div class="jl-pane jl-pane-{n_stages}" role="region" tabindex="0" aria-label="{safe(_caption(maps))}">'
        f"{table}</div>"
        f'<p class="jl-note jl-how">{safe_sentence(" ".join(list_notes(maps[0])), 2_000)}</p></div>'
    )
    return as_figure(body, style=style_map(n_stages), alt=alt)


def _caption(maps: Sequence[JourneyMap]) -> str:
    if len(maps) == 1:
        return _("{name}: stages across, lanes down", name=name_map(maps[0]))
    return _(
        "{first} (A) and {second} (B): stages across, lanes down", first=name_map(maps[0]), second=name_map(maps[1])
    )


def _draw_title(journey_map: JourneyMap, place: int, n_maps: int) -> str:
    found = "".join(f"<li>{_tie(each)}</li>" for each in list_findings(journey_map))
    badge = draw_badge(place) if n_maps > 1 else ""
    return (
        f'<div class="jl-top"><p class="jl-title">{badge}{safe_sentence(name_map(journey_map))}</p>'
        f'<p class="jl-base">{safe_sentence(describe_base(journey_map))}</p><ul class="jl-found">{found}</ul></div>'
    )


def _draw_legend() -> str:
    kinds = "".join(f"<li>{draw_mark(each, is_legend=True)}{escape(_(EVIDENCE_SAYS[each]))}</li>" for each in EVIDENCE)
    moment, title = _("moment that matters"), _("How each cell is known")
    ring = f'<li><i class="jl-ring"></i>{escape(moment)}</li>'
    return f'<ul class="jl-key" aria-label="{escape(title)}">{kinds}{ring}</ul>'


def _draw_heads(maps: Sequence[JourneyMap]) -> str:
    colours = colours_of(maps[0].stages)
    heads = "".join(
        f'<th role="columnheader" scope="col" style="--c:{colours[stage]};--o:{1000 * (i + 1)}">'
        f'<div class="jl-h"><span class="jl-s" title="{safe(word_of(stage))}">{break_name(word_of(stage))}</span>'
        f"{''.join(_draw_moments(each, stage, place, len(maps)) for place, each in enumerate(maps))}</div></th>"
        for i, stage in enumerate(maps[0].stages)
    )
    lane = _("lane")
    corner = f'<th role="columnheader" scope="col" class="jl-c"><span class="jl-v">{escape(lane)}</span></th>'
    return f'<tr role="row">{corner}{heads}</tr>'


def _draw_moments(journey_map: JourneyMap, stage: str, place: int, n_maps: int) -> str:
    moment = _("moment that matters")
    return "".join(
        f'<span class="jl-mm"><i class="jl-ring"></i>{draw_badge(place) if n_maps > 1 else ""}'
        f'<span class="jl-v">{escape(moment)}: </span>{escape(name_lane(row["measure"]))}</span>'
        for row in read_moments(journey_map, stage)
    )


def _draw_part(maps: Sequence[JourneyMap], part: Part, place: int) -> str:
    title, line, lanes = part
    known, unknown = split_lanes(maps, lanes)
    if not known and not unknown:
        return ""
    stages = maps[0].stages
    rows = []
    if title:
        rows.append(
            f'<tr role="row" class="jl-line"><th role="rowheader" scope="rowgroup" colspan="{len(stages) + 1}">'
            f"<div><span>{escape(_(title))}</span><em>{escape(_(line)) if line else ''}</em></div></th></tr>"
        )
    for i, lane in enumerate(known):
        rows.append(_draw_lane(maps, lane, order=100 * place + 2 * (i + 1)))
    if unknown:
        head, names = _("Not known yet"), " · ".join(map(name_lane, unknown))
        rows.append(
            f'<tr role="row" class="jl-none"><th role="rowheader" scope="row">{draw_mark("unknown")}'
            f'{escape(head)}</th><td role="cell" colspan="{len(stages)}"><b>{escape(names)}</b> '
            f"{escape(say_unknown(tuple(unknown)))}</td></tr>"
        )
    return f'<tbody role="rowgroup">{"".join(rows)}</tbody>'


def _draw_lane(maps: Sequence[JourneyMap], lane: str, *, order: int) -> str:
    stages = maps[0].stages
    picture = _draw_curve_row(maps) if lane == "feeling" else ""
    # Beside the curve the lane is named already.
    quiet = ' class="jl-v"' if lane == "feeling" else ""
    rows = []
    for place in range(len(maps)):
        cells = "".join(draw_cell(maps, place, lane, i, order + place) for i in range(len(stages)))
        badge = draw_badge(place) if len(maps) > 1 else ""
        kind = "jl-b" if place else "jl-a"
        rows.append(
            f'<tr role="row" class="{kind} lane-{lane}"><th role="rowheader" scope="row">{badge}'
            f"<span{quiet}>{escape(name_lane(lane))}</span></th>{cells}</tr>"
        )
    return picture + "".join(rows)


def _draw_curve_row(maps: Sequence[JourneyMap]) -> str:
    """The curve across all stages; on a phone, where the stages stand one below the other, with their names."""
    n, label = len(maps[0].stages), escape(alt_of_curve(maps))
    ends = "".join(
        f' <span aria-hidden="true" style="top:{100 * share:.1f}%"><svg viewBox="0 0 20 20">'
        f"{draw_face(10, 10, smile)}</svg>{escape(_(word))}</span>"
        for share, smile, word in ENDS
    )
    broad, small = STAGE * n, _GUTTER + _SMALL_STAGE * n
    return (
        f'<tr role="row" class="jl-curve"><th role="rowheader" scope="row">{escape(name_lane("feeling"))}{ends}</th>'
        f'<td role="cell" colspan="{n}"><svg class="jl-wide" role="img" aria-label="{label}" '
        f'viewBox="0 0 {broad} {CURVE}" fill="currentColor">{draw_curve(maps)}</svg>'
        f'<div class="jl-strip" role="region" tabindex="0" aria-label="{escape(name_lane("feeling"))}">'
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {small} {CURVE + 24}" width="{small}" fill="currentColor">'
        f'<g transform="translate(0 24)">{draw_ends(0)}</g><g transform="translate({_GUTTER} 0)">'
        f'{draw_names(maps[0].stages, _SMALL_STAGE)}<g transform="translate(0 24)">'
        f"{draw_curve(maps, stage_width=_SMALL_STAGE)}</g></g></svg></div></td></tr>"
    )


def _tie(sentence: str) -> str:
    """A figure stays with its unit."""
    return safe_sentence(sentence, 1_000).replace(" %", "\N{NO-BREAK SPACE}%").replace(" – ", "\N{NO-BREAK SPACE}– ")
