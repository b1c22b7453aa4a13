"""A day, or a week, in the life of customers: when they are at each stage."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from journeylab.errors import RuleError
from journeylab.language import current_language
from journeylab.language import gettext as _
from journeylab.picture import Picture, as_nothing
from journeylab.tables import draw_heat_table
from journeylab.words import word_of

_HOURS, _WEEKDAYS = range(24), range(7)


def draw_day(day: pd.DataFrame, *, by: Literal["hour", "weekday"] = "hour") -> Picture:
    """At which hours, or on which weekdays, are customers at each stage?

    Parameters
    ----------
    day : pandas.DataFrame
        From `count_day`. What it left out, for too few customers were there, is missing here, too.
    by
        The columns: the 24 hours, or the seven days from Monday.
    """
    if by not in ("hour", "weekday"):
        raise RuleError(f'draw_day: by must be "hour" or "weekday", found {by!r}')
    if day.empty:
        return as_nothing(_("Nothing to draw: at no hour were enough customers there."))
    shares = day.pivot_table(index="stage", columns=by, values="share", aggfunc="sum", sort=False, observed=True)
    grid = shares.reindex(columns=list(_HOURS if by == "hour" else _WEEKDAYS))
    grid.index = pd.Index([word_of(stage) for stage in grid.index])
    grid.columns = pd.Index(_name_columns(by))
    title = _("When they are at each stage, by hour") if by == "hour" else _("When they are at each stage, by weekday")
    note = _("Share of the stage's events. Hours at which too few customers were there are left out.")
    return draw_heat_table(grid, title=title, corner=_("stage"), alt=title, note=note)


def _name_columns(by: str) -> list[str]:
    if by == "hour":
        return [f"{hour}" for hour in _HOURS]
    from babel.dates import get_day_names

    names = get_day_names("abbreviated", locale=current_language())
    return [names[day] for day in _WEEKDAYS]
