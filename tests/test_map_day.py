"""A day in the life, drawn."""

from __future__ import annotations

from html import unescape
from xml.etree import ElementTree

import pandas as pd
import pytest

from journeylab.errors import RuleError
from journeylab.language import use_language
from journeylab.map_day import draw_day

DAY = pd.DataFrame(
    [("visit", 0, 9, 20, 12, 0.2), ("visit", 6, 9, 30, 15, 0.3), ("mine", 2, 23, 10, 10, 1.0)],
    columns=["stage", "weekday", "hour", "n_events", "n_customers", "share"],
)


def read_rows(html: str) -> list[list[str]]:
    root = ElementTree.fromstring(html)
    return [[unescape("".join(cell.itertext())) for cell in row] for row in root.iter("tr")]


def test_hours_of_all_weekdays_are_summed() -> None:
    head, visit, mine = read_rows(draw_day(DAY).html)
    assert head == ["stage", *map(str, range(24))]
    assert visit == ["visit", *[""] * 9, "50", *[""] * 14]
    assert mine == ["mine", *[""] * 23, "100"]


def test_weekdays_are_named_in_the_language() -> None:
    with use_language("pl"):
        head, visit, _ = read_rows(draw_day(DAY, by="weekday").html)
    assert head == ["etap", "pon.", "wt.", "śr.", "czw.", "pt.", "sob.", "niedz."]
    assert visit[0] != "visit"  # a stage of the ready rules
    assert visit[1:] == ["20", "", "", "", "", "", "30"]
    assert read_rows(draw_day(DAY, by="weekday").html)[0][1] == "Mon"


def test_nothing_and_nonsense() -> None:
    assert "at no hour" in draw_day(DAY.iloc[:0]).html
    with pytest.raises(RuleError, match=r'^draw_day: by must be "hour" or "weekday", found \'month\'$'):
        draw_day(DAY, by="month")  # type: ignore[arg-type]
