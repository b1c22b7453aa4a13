"""The funnel as our own inline SVG: everyone who started is somewhere in the picture."""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.formats import NOTHING, format_count, format_duration, format_interval, format_name, format_share
from journeylab.funnel import merge_groups
from journeylab.language import format_moment
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.picture import (
    PALETTE,
    Picture,
    as_nothing,
    as_svg,
    fit,
    name_column,
    name_group,
    name_step,
    number,
    safe,
    safe_sentence,
    shorten,
    text_width,
)
from journeylab.words import unit_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from journeylab.funnel import Funnel

    Record = dict[Hashable, Any]  # one row of a tidy frame: text, counts and shares side by side

_MOST_GROUPS = 6
_FEW = 30

# Where the bars start, how long 100 % is, and the right edges of the columns of numbers.
_BAR_X, _BAR_W = 190.0, 320.0
_N_X, _START_X, _PREVIOUS_X, _MATURE_X = 582.0, 725.0, 800.0, 945.0
_WIDTH = 955.0
# The heads of these columns stand above the bars, on two lines where one is too short.
_HEAD_Y, _LINE = 98.0, 14.0


def draw_funnel(funnel: Funnel) -> Picture:
    """How many reach each step, how many stop, and how many are still on the way?

    Each bar is everyone who reached the step, split into those who went on, those still on the way (hatched) and those
    who stopped (pale), so that every unit that started can be found. The whisker is the 95 % Wilson interval of the
    share of all who started. With `by`, the bars of all groups stand together at each step, each on its group's scale.

    Parameters
    ----------
    funnel : Funnel
        `build_funnel`'s result. Of more than six groups the six largest are drawn, and a note says so.
    """
    whole, by = merge_groups(funnel)
    unit = funnel.rules.unit
    table, left_out = _largest_groups(whole, by)
    if table.empty:
        return as_nothing(_("No funnel to draw: no {unit} started.", unit=unit_of(unit, 1)))
    table = table.assign(label=table["label"].map(name_step))
    drawn, y = _legend(by is not None), 112.0
    for step in sorted(table["step"].unique()):
        records = table[table["step"] == step].to_dict("records")
        drawn += _step(records[0], y) if by is None else _step_by_group(records, by, y)
        y += 64 if by is None else 36 + 25 * len(records)
    notes = _notes(table, left_out, by)
    drawn += [f'<text class="s" x="0" y="{number(y + 8 + 18 * i)}">{note}</text>' for i, note in enumerate(notes)]
    ends = table[table["step"] == table["step"].min()], table[table["step"] == table["step"].max()]
    started, finished = (int(end["n"].sum()) for end in ends)
    labels = [shorten(end["label"].iloc[0], 34) for end in ends]
    reached = _(
        "{started} {units} started, {finished} finished",
        started=started,
        units=unit_of(unit, started),
        finished=finished,
    )
    title = f"{labels[0]} → {labels[1]}: {reached}"
    heads = (
        f'<text class="h" x="0" y="18">{safe_sentence(fit(title, _WIDTH, 16))}</text>'
        f'<text class="m" x="0" y="40">{safe_sentence(_terms(funnel))}</text>'
    )
    alt = _("Funnel. {reached}. {steps}", reached=reached, steps=_words(table, by))
    body = _HATCH + heads + "".join(drawn)
    # A page that has the funnel as a whole too tells the two apart by their names.
    name = title if by is None else _("{title}, by {by}", title=title, by=format_name(name_column(by)))
    return as_svg(body, width=_WIDTH, height=y + 18 * len(notes), title=name, alt=alt)


_HATCH = (
    f'<defs><pattern id="jl-h\0" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<path d="M0 3H6" stroke="{PALETTE[0]}" stroke-width="2.4"/></pattern></defs>'
)
# In the legend, beside a number, and how it is painted.
_PARTS = {
    "go": (N_("went on, or finished"), N_("{n} went on"), f'fill="{PALETTE[0]}"'),
    "open": (N_("still on the way"), N_("{n} still on the way"), f'fill="url(#jl-h\0)" stroke="{PALETTE[0]}"'),
    "lost": (N_("stopped here"), N_("{n} stopped here"), 'style="fill:var(--lost)"'),
}


def _legend(grouped: bool) -> list[str]:
    x, y, drawn = 0.0, 64.0, []
    for legend, _count, paint in _PARTS.values():
        words = _(legend)
        drawn.append(f'<rect x="{number(x + 0.5)}" y="{number(y - 10)}" width="20" height="11" {paint}/>')
        drawn.append(f'<text class="m" x="{number(x + 28)}" y="{number(y)}">{words}</text>')
        x += 46 + text_width(words, 13)
    drawn.append(f'<path d="M{number(x)} {number(y - 5)}h20m-20 -4v8m20 -8v8" stroke="currentColor" fill="none"/>')
    words = _("95 % interval")
    drawn.append(f'<text class="m" x="{number(x + 28)}" y="{number(y)}">{words}</text>')
    heads = (_("n"), _("of start"), _("of previous"), _("of mature starts"))
    edges = (_BAR_X + _BAR_W, _N_X, _START_X, _PREVIOUS_X, _MATURE_X)
    for head, (before, edge) in zip(heads, pairwise(edges), strict=True):
        lines = _break(head, edge - before - 2)
        drawn += [
            f'<text class="s e" x="{number(edge)}" y="{number(_HEAD_Y - _LINE * i)}">{escape(line)}</text>'
            for i, line in enumerate(reversed(lines))
        ]
    scale = _("start of each group = 100 %") if grouped else _("start = 100 %")
    return [*drawn, f'<text class="s" x="{number(_BAR_X)}" y="{number(_HEAD_Y)}">{scale}</text>']


def _break(head: str, width: float) -> list[str]:
    """Break a head at a space where it is too wide, so that the longer of the two lines is as short as can be."""
    words = head.split(" ")
    if len(words) == 1 or text_width(head, 12) <= width:
        return [head]
    halves = ([" ".join(words[:i]), " ".join(words[i:])] for i in range(1, len(words)))
    return min(halves, key=lambda lines: max(text_width(line, 12) for line in lines))


def _step(row: Record, y: float) -> list[str]:
    """Draw a step of a funnel without groups: a bar, its numbers, and a line below that spells them out."""
    name = f'<text class="b" x="0" y="{number(y + 19.5)}">{_named(row["label"], _BAR_X - 22, 14.5)}{_few(row)}</text>'
    parts = [_(_PARTS[part][1], n=n) for part, n in _split(row).items() if n or part == "lost"]
    spelled = " · ".join(parts) if row["n_lost"] or row["n_open"] else ""
    median = row["median_time_s"]
    time = "" if math.isnan(median) else _("median {time}", time=format_duration(median))
    below = f'<text class="s" x="0" y="{number(y + 45)}">{time}</text>'
    below += f'<text class="s" x="{number(_BAR_X)}" y="{number(y + 45)}">{spelled}</text>'
    return [*_bar(row, y, 30.0), *_numbers(row, y + 15), name, below]


def _step_by_group(records: list[Record], by: str, y: float) -> list[str]:
    """Draw a step of all groups: its name, and below it a bar with its numbers for each group."""
    heading = _named(records[0]["label"], _WIDTH - 40, 14.5, f"{records[0]['step']}. ")
    drawn = [f'<text class="b" x="0" y="{number(y + 12)}">{heading}</text>']
    for place, row in enumerate(records):
        top = y + 22 + 25 * place
        drawn.append(
            f'<text x="0" y="{number(top + 14.5)}">{_named(name_group(row[by], by), _BAR_X - 22)}{_few(row)}</text>'
        )
        drawn += [*_bar(row, top, 20.0), *_numbers(row, top + 10)]
    return drawn


def _split(row: Record) -> dict[str, int]:
    still, lost = int(row["n_open"]), int(row["n_lost"])
    return {"go": int(row["n"]) - still - lost, "open": still, "lost": lost}


def _bar(row: Record, y: float, height: float) -> list[str]:
    """Draw a bar and its whisker; the segments add up to the bar, and the bar to its share of the start."""
    x, drawn = _BAR_X, []
    for part, n in _split(row).items():
        if n:
            width, (_legend, words, paint) = _BAR_W * row["share_of_start"] * n / row["n"], _PARTS[part]
            drawn.append(
                f'<rect class="{part}" x="{number(x)}" y="{number(y)}" width="{width:.2f}" height="{number(height)}" '
                f"{paint}><title>{_(words, n=n)}</title></rect>"
            )
            x += width
    if row["step"] > 1 and not math.isnan(row["low"]):
        low, high = (number(_BAR_X + _BAR_W * row[bound]) for bound in ("low", "high"))
        middle, top = number(y + height / 2), number(y + height / 2 - 5)
        path = f"M{low} {middle}H{high}M{low} {top}v10M{high} {top}v10"
        drawn.append(f'<path d="{path}" fill="none" style="stroke:var(--bg)" stroke-width="4"/>')
        drawn.append(f'<path class="ci" d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
    return drawn


def _numbers(row: Record, middle: float) -> list[str]:
    # At the first step every share is 100 % by definition and has no interval.
    figures = [NOTHING] * 3
    if row["step"] > 1:
        figures = [
            _with_interval(row, "share_of_start", ""),
            _share(row["share_of_previous"]),
            _with_interval(row, "conversion_mature", "mature_"),
        ]
    columns = zip((_N_X, _START_X, _PREVIOUS_X, _MATURE_X), (format_count(row["n"]), *figures), strict=True)
    return [f'<text class="e" x="{number(x)}" y="{number(middle + 4.5)}">{figure}</text>' for x, figure in columns]


def _few(row: Record) -> str:
    return " †" if row["step"] == 1 and row["n"] < _FEW else ""


def _named(label: str, width: float, size: float = 13, before: str = "") -> str:
    """Write a label that fits, with its full name as tooltip where it was shortened, and our own words before it."""
    short = fit(label, width, size)
    full = f"<title>{safe(label)}</title>" if short != label else ""
    return f"{full}{before}{safe(short)}"


def _text(value: object) -> str:
    return "(none)" if value is None or value is pd.NA or value != value else str(value)


def _share(value: float) -> str:
    return NOTHING if math.isnan(value) else format_share(value)


def _with_interval(row: Record, figure: str, prefix: str) -> str:
    low, high = float(row[f"{prefix}low"]), float(row[f"{prefix}high"])
    if math.isnan(row[figure]) or math.isnan(low):
        return _share(row[figure])
    interval = format_interval(low, high, format_share).removesuffix(" %")
    return f'{format_share(row[figure])}<tspan class="s"> ({interval})</tspan>'


def _largest_groups(table: pd.DataFrame, by: str | None) -> tuple[pd.DataFrame, int]:
    """Keep the largest groups, largest first; the second value is how many are left out."""
    if by is None:
        return table, 0
    names = table[by].map(_text)
    starts = table["n"].where(table["step"] == table["step"].min(), 0).groupby(names).sum()
    order = sorted(starts.index, key=lambda name: (-starts[name], name))
    kept = order[:_MOST_GROUPS]
    rank = names.map({name: place for place, name in enumerate(kept)})
    table = table[rank.notna()].assign(**{by: names[rank.notna()]})
    return table.loc[rank.dropna().sort_values(kind="stable").index], len(order) - len(kept)


def _notes(table: pd.DataFrame, left_out: int, by: str | None) -> list[str]:
    notes = []
    if left_out:
        notes.append(
            _(
                "The {shown} largest groups by {by}; {n} more are in the table.",
                shown=_MOST_GROUPS,
                by=safe(name_column(str(by))),
                n=left_out,
            )
        )
    if bool((table.loc[table["step"] == table["step"].min(), "n"] < _FEW).any()):
        notes.append(_("† Fewer than {n} started: too few to rank.", n=_FEW))
    return notes


def _terms(funnel: Funnel) -> str:
    within, moment = funnel.rules.within, format_moment(funnel.as_of)
    if not funnel.by and within:
        return _(
            "Shares and times count from the start: within {within}, as of {moment} UTC.", within=within, moment=moment
        )
    if not funnel.by:
        return _("Shares and times count from the start: without a time limit, as of {moment} UTC.", moment=moment)
    by = shorten(", ".join(map(name_column, funnel.by)), 30)
    if within:
        return _(
            "Shares and times count from the start: by {by}, within {within}, as of {moment} UTC.",
            by=by,
            within=within,
            moment=moment,
        )
    return _(
        "Shares and times count from the start: by {by}, without a time limit, as of {moment} UTC.",
        by=by,
        moment=moment,
    )


def _words(table: pd.DataFrame, by: str | None) -> str:
    if by is None:
        steps = (
            _(
                "{step} {n} ({share} of start, {lost} stopped here, {open} still on the way)",
                step=shorten(row["label"], 60),
                n=int(row["n"]),
                share=_share(row["share_of_start"]),
                lost=int(row["n_lost"]),
                open=int(row["n_open"]),
            )
            for row in table.to_dict("records")
        )
        return "; ".join(steps) + "."
    ends = table[table["step"] == table["step"].max()].to_dict("records")
    groups = (
        _(
            "{group} {share} of start",
            group=shorten(name_group(row[by], by), 60),
            share=_share(row["share_of_start"]),
        )
        for row in ends
    )
    return _("Finished, by {by}: {groups}.", by=shorten(name_column(by), 60), groups="; ".join(groups))
