"""Tables for people: what stands in which cell, and that nothing in it is markup."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from journeylab.formats import format_duration
from journeylab.tables import draw_heat_table, show_headline, show_table


def read(picture):
    """The head and the rows of a table, as text."""
    root = ElementTree.fromstring(picture.html)
    head, *rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    return head, rows


class TestShowTable:
    def test_a_funnel(self):
        frame = pd.DataFrame(
            {
                "channel": ["web", None],
                "step": [1, 2],
                "label": ["catalog", "cart"],
                "n": [12408, 653],
                "share_of_start": [1.0, 0.0526],
                "share_of_previous": [math.nan, 0.0526],
                "low": [0.999, 0.0488],
                "high": [1.0, 0.0567],
                "n_lost": [11000, 0],
                "n_open": [755, 0],
                "n_mature": [10000, 10000],
                "conversion_mature": [1.0, 0.06],
                "mature_low": [0.999, 0.0555],
                "mature_high": [1.0, 0.0648],
                "median_time_s": [math.nan, 81.4],
            }
        )
        head, rows = read(show_table(frame))
        assert head == [
            *["channel", "step", "label", "n", "share of start", "95 % interval", "share of previous"],
            *[
                "stopped here",
                "still on the way",
                "mature starts",
                "mature",
                "95 % interval",
                "time, median",
            ],
        ]
        assert rows[0][:7] == ["web", "1", "catalog", "12,408", "100.0 %", "99.9–100.0 %", "–"]
        assert rows[1] == [
            *["–", "2", "cart", "653", "5.3 %", "4.9–5.7 %", "5.3 %"],
            *["0", "0", "10,000", "6.0 %", "5.5–6.5 %", "1 min 21 s"],
        ]

    def test_drop_offs(self):
        frame = pd.DataFrame(
            {
                "share_lost": [0.4],
                "difference": [-0.021],
                "low": [-0.05],
                "high": [0.008],
                "p_adjusted": [0.0002],
                "is_small": [np.True_],
            }
        )
        head, rows = read(show_table(frame))
        assert head == ["share lost", "difference", "95 % interval", "p, adjusted", "small group"]
        assert rows == [["40.0 %", "−2.1 pp", "−5.0 to +0.8 pp", "< 0.001", "yes"]]

    def test_bounds_of_no_known_figure_stand_alone(self):
        head, rows = read(show_table(pd.DataFrame({"low": [1.5], "high": [2.5], "bic": [-1234.5]})))
        assert head == ["95 % interval", "bic"]
        assert rows == [["1.50 – 2.50", "−1,234.50"]]

    def test_other_values(self):
        frame = pd.DataFrame(
            {
                "variant": [("a", "b"), ("c",)],
                "day": pd.to_datetime(["2026-11-01", None]),
                "at": pd.to_datetime(["2026-11-01 12:30", "2026-11-02 00:00"]),
                "n_events_median": [2.5, 3.0],
                "whole": pd.array([7, None], dtype="Int64"),
                "flag": [True, False],
            }
        )
        head, rows = read(show_table(frame))
        assert head == ["variant", "day", "at", "events, median", "whole", "flag"]
        assert rows[0] == ["a → b", "2026-11-01", "2026-11-01 12:30", "2.5", "7", "yes"]
        assert rows[1] == ["c", "–", "2026-11-02 00:00", "3", "–", "no"]

    def test_own_format(self):
        frame = pd.DataFrame({"next_event": ["cart"], "share": [0.5]})
        _, rows = read(show_table(frame, formats={"share": lambda share: f"<{share}>"}))
        assert rows == [["cart", "<0.5>"]]

    def test_text_is_never_markup(self):
        frame = pd.DataFrame({"<b>": ["<script>alert(1)</script>", "\"quotes'", "two\nlines\x00"], "_x": ["$x_1$"] * 3})
        picture = show_table(frame, caption="<i>&", note="<u>")
        head, rows = read(picture)
        assert head == ["<b>", "x"]
        assert [row[0] for row in rows] == ["<script>alert(1)</script>", "\"quotes'", "two lines"]
        assert rows[0][1] == "$x_1$"
        root = ElementTree.fromstring(picture.html)
        table = {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert {element.tag for element in root.iter()} == {"figure", "style", "div", "p"} | table
        assert root.find(".//caption").text == "<i>&"
        assert root.find("p").text == "<u>"

    def test_long_text_is_cut(self):
        _, rows = read(show_table(pd.DataFrame({"event": ["x" * 10_000]})))
        assert len(rows[0][0]) == 120

    def test_long_table_says_what_it_leaves_out(self):
        picture = show_table(pd.DataFrame({"n": range(1434)}), caption="Variants")
        assert len(read(picture)[1]) == 200
        assert "The first 200 of 1,434 rows." in picture.html
        assert picture.alt == "Variants, 1,434 rows"

    def test_scrolls_by_keyboard(self):
        region = ElementTree.fromstring(show_table(pd.DataFrame({"n": [1]})).html).find("div")
        assert (region.get("role"), region.get("tabindex"), region.get("aria-label")) == (
            "region",
            "0",
            "Table, 1 row",
        )

    def test_numbers_are_right_aligned(self):
        root = ElementTree.fromstring(show_table(pd.DataFrame({"event": ["a"], "n": [1]})).html)
        assert [cell.get("class") for cell in root.iter("td")] == [None, "r"]

    def test_named_index_becomes_a_column_and_empty_tables_stay_tables(self):
        assert read(show_table(pd.DataFrame({"n": [3]}, index=pd.Index(["cart"], name="event"))))[1] == [["cart", "3"]]
        assert read(show_table(pd.DataFrame({"event": [], "n": []}))) == (["event", "n"], [])

    def test_columns_of_one_name_are_told_apart(self):
        frame = pd.DataFrame([[1, 2]], columns=["n", "n"])
        assert read(show_table(frame))[1] == [["1", "2"]]

    def test_leaves_the_frame_alone_and_repeats_itself(self):
        frame = pd.DataFrame({"share": [0.5], "low": [0.4], "high": [0.6]})
        before = frame.copy()
        assert show_table(frame).html == show_table(frame).html
        pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.2 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (81, "1 min 21 s"),
        (3599.8, "1 h"),
        (86_399, "1 d"),
        (93_600, "1 d 2 h"),
        (-81, "−1 min 21 s"),
    ],
)
def test_durations(seconds, words):
    assert format_duration(seconds) == words


class TestHeatTable:
    grid = pd.DataFrame([[0.64, 0.001], [math.nan, 0.16]], index=["<a>", "b" * 40], columns=["cart", 12])

    def test_cells_show_whole_percent_on_a_tint(self):
        root = ElementTree.fromstring(draw_heat_table(self.grid, title="Moves", corner="event", alt="moves").html)
        cells = [(cell.text, cell.get("style"), cell.get("class")) for cell in root.iter("td")]
        assert cells == [("64", "--a:1.00", "w"), (None, None, None), (None, None, None), ("16", "--a:0.50", None)]

    def test_long_names_are_whole_in_the_tooltip(self):
        root = ElementTree.fromstring(draw_heat_table(self.grid, title="Moves", corner="event", alt="moves").html)
        name = root.findall(".//tbody//th")[1]
        assert name.get("title") == "b" * 40
        assert len(name.text) == 28

    def test_alt(self):
        root = ElementTree.fromstring(draw_heat_table(self.grid, title="Moves", corner="event", alt="<moves>").html)
        assert root.get("aria-label") == "<moves>"


def test_headline_is_not_cut_like_a_name() -> None:
    sentence = " ".join(f"word{i}" for i in range(200))
    assert ElementTree.fromstring(show_headline(sentence).html).find("p").text == sentence


def test_headline_is_text():
    assert ElementTree.fromstring(show_headline("<b>5 %</b>").html).find("p").text == "<b>5\N{NO-BREAK SPACE}%</b>"
