"""What matplotlib draws: the artists' data, and that the figure is safe and repeatable inside a page."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from journeylab.errors import RuleError
from journeylab.language import use_language
from journeylab.plots import (
    draw_k_search,
    draw_step_matrix,
    draw_transitions,
    picture_of,
    plot_funnel,
    plot_k_search,
    plot_step_matrix,
    plot_transitions,
)

HOSTILE = (
    "<script>alert(1)</script>",
    "$x^$",
    "price $5 to $9",
    "_private",
    "Оплата",
    "日本",
    "a\x00b\nc",
    "y" * 10_000,
)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_matrix(events, steps=4):
    """Journeys that each stay at one event, the first event twice as often, and of which a tenth ends at each step."""
    rows = []
    for step in range(1, steps + 1):
        left = 10 - step + 1
        rows += [(step, event, left * (2 if i == 0 else 1)) for i, event in enumerate(events)]
        rows.append((step, None, (10 - left) * (len(events) + 1)))
    frame = pd.DataFrame(rows, columns=["step", "event", "n"])
    frame = frame[frame["n"] > 0]
    return frame.assign(share=frame["n"] / (10 * (len(events) + 1)))


def make_transitions(events):
    """From each event half go on to the next one, half end."""
    rows = [(None, events[0], 10, 1.0)]
    rows += [(event, events[(i + 1) % len(events)], 5, 0.5) for i, event in enumerate(events)]
    rows += [(event, None, 5, 0.5) for event in events]
    return pd.DataFrame(rows, columns=["event", "next_event", "n", "share"])


def numbered(n):
    return [f"event_{i:03}" for i in range(n)]


K_SEARCH = pd.DataFrame(
    {
        "k": [1, 2, 3],
        "log_likelihood": [-9.0, -8.0, -8.1],
        "behind_best_se": [0.2, 0.0, 0.05],
        "bic": [3.0, 2.0, 2.5],
        "chosen": [False, True, False],
    }
)


def words(ax_texts):
    return [text.get_text() for text in ax_texts]


class TestStepMatrix:
    def test_rows_in_the_order_in_which_events_come(self):
        matrix = pd.DataFrame(
            [(1, "late", 10, 0.1), (1, "early", 90, 0.9), (2, "late", 40, 0.4), (2, None, 60, 0.6)],
            columns=["step", "event", "n", "share"],
        )
        ax = plot_step_matrix(matrix)
        assert words(ax.get_yticklabels()) == ["early", "late", "(ended)"]
        assert words(ax.get_xticklabels()) == ["1", "2"]
        assert "share of 100 journeys" in ax.get_title(loc="left")
        tints = np.asarray(ax.collections[0].get_array()).reshape(3, 2)
        assert tints**2 * 0.9 == pytest.approx(np.array([[0.9, 0], [0.1, 0.4], [0, 0.6]]))

    def test_numbers_only_where_they_are_legible(self):
        ax = plot_step_matrix(make_matrix(numbered(5)))
        assert "33" in words(ax.texts)
        _, small = plt.subplots(figsize=(1.5, 1.5))
        assert not [
            text for text in words(plot_step_matrix(make_matrix(numbered(5), 12), ax=small).texts) if text.isdigit()
        ]

    def test_draws_on_the_axes_given(self):
        _, ax = plt.subplots()
        assert plot_step_matrix(make_matrix(numbered(3)), ax=ax) is ax

    @pytest.mark.parametrize(("n", "tag"), [(5, "svg"), (14, "svg"), (15, "table"), (40, "table")])
    def test_a_figure_while_it_is_legible_then_a_table(self, n, tag):
        root = ElementTree.fromstring(draw_step_matrix(make_matrix(numbered(n))).html)
        assert len([element for element in root.iter() if element.tag.endswith(tag)]) == 1

    def test_in_a_table_the_most_frequent_come_first(self):
        root = ElementTree.fromstring(draw_step_matrix(make_matrix(numbered(40)[::-1])).html)
        names = [th.get("title") for th in root.findall(".//tbody//th")]
        assert names == ["event_039", *numbered(39), "(ended)"]

    def test_of_very_many_events_the_rarest_are_left_out_and_counted(self):
        picture = draw_step_matrix(make_matrix(numbered(2000)))
        assert len(ElementTree.fromstring(picture.html).findall(".//tbody/tr")) == 61
        assert "The 60 most frequent of 2,000 events; 82.4 % are left out here." in picture.html
        assert "20,010 journeys" in picture.html

    def test_alt_names_the_largest_cells(self):
        alt = draw_step_matrix(make_matrix(["cart", "done"])).alt
        assert alt.startswith("Events by step: share of 30 journeys: step 1: cart 66.7 %; step 2: cart 60.0 %")


class TestTransitions:
    def test_rows_and_columns_by_volume_between_start_and_end(self):
        transitions = pd.DataFrame(
            [(None, "rare", 1, 1.0), ("rare", "often", 1, 1.0), ("often", "often", 8, 0.8), ("often", None, 2, 0.2)],
            columns=["event", "next_event", "n", "share"],
        )
        ax = plot_transitions(transitions)
        assert words(ax.get_yticklabels()) == ["(start)", "often", "rare"]
        assert words(ax.get_xticklabels()) == ["often", "rare", "(ended)"]
        assert sorted(text for text in words(ax.texts) if text.isdigit()) == ["100", "100", "20", "80"]
        assert "12 moves" in ax.get_title(loc="left")

    def test_several_groups_are_refused(self):
        twice = pd.concat([make_transitions(numbered(3))] * 2)
        with pytest.raises(RuleError, match="14 rows hold only 7 cells: choose one group"):
            plot_transitions(twice)

    def test_an_event_called_like_the_end_has_a_column_of_its_own(self):
        ax = plot_transitions(make_transitions(["(ended)", "cart"]))
        assert words(ax.get_xticklabels()).count("(ended)") == 2

    def test_forty_events(self):
        root = ElementTree.fromstring(draw_transitions(make_transitions(numbered(40))).html)
        assert len(root.findall(".//tbody/tr")) == 41


class TestKSearch:
    def test_the_chosen_k_is_marked(self):
        ax = plot_k_search(K_SEARCH)
        assert "chosen: k = 2" in words(ax.texts)
        assert ax.lines[0].get_xydata().tolist() == [[1, -9.0], [2, -8.0], [3, -8.1]]

    def test_numbers_are_written_as_in_the_language(self):
        with use_language("pl"):
            ax = plot_k_search(K_SEARCH)
            ax.figure.canvas.draw()
            ticks = words(ax.get_yticklabels())
        assert any("," in tick for tick in ticks)
        assert not any("." in tick for tick in ticks)

    def test_picture(self):
        assert draw_k_search(K_SEARCH).alt == "Log-likelihood per held-out customer for k from 1 to 3; chosen: k = 2."

    def test_with_too_few_customers_nothing_was_held_out(self):
        nothing = pd.DataFrame(
            {"k": [1], "log_likelihood": [np.nan], "behind_best_se": [np.nan], "bic": [1.0], "chosen": [True]}
        )
        assert "k = 1" in draw_k_search(nothing).alt


class TestFunnel:
    table = pd.DataFrame(
        {
            "channel": ["_web", "_web", "app", "app"],
            "step": [1, 2, 1, 2],
            "n": [100, 50, 40, 10],
            "share_of_start": [1.0, 0.5, 1.0, 0.25],
            "low": [0.96, 0.4, 0.9, 0.14],
            "high": [1.0, 0.6, 1.0, 0.4],
        }
    )
    rules = SimpleNamespace(unit="customer")
    funnel = SimpleNamespace(rules=rules, by=("channel",), labels=("a", "$b_1$"), table=table)

    def test_bars_are_shares_with_intervals(self):
        ax = plot_funnel(self.funnel)
        assert [bar.get_width() for bar in ax.patches] == [1.0, 0.5, 1.0, 0.25]
        assert words(ax.get_yticklabels()) == ["a", "$b_1$"]
        assert [text.strip("\u200b") for text in words(ax.get_legend().get_texts())] == ["_web, n = 100", "app, n = 40"]
        assert ax.get_title(loc="left") == "Share of 140 customers that reach each step"

    def test_without_groups(self):
        alone = SimpleNamespace(**{**vars(self.funnel), "by": (), "table": self.table.iloc[:2]})
        assert plot_funnel(alone).get_legend() is None


class TestPictureOf:
    def texts(self, picture):
        return [
            element.text for element in ElementTree.fromstring(picture.html).iter() if element.tag.endswith("}text")
        ]

    def test_hostile_names_are_drawn_as_they_are(self):
        picture = draw_transitions(make_transitions(HOSTILE))
        texts = self.texts(picture)
        for name in ("<script>alert(1)</script>", "$x^$", "price $5 to $9", "_private", "Оплата", "日本", "a b c"):
            assert texts.count(name if len(name) <= 24 else "<script>aler…1)</script>") == 2
        assert "<script" not in picture.html
        assert len(picture.html) < 40_000

    def test_hostile_names_on_anybodys_axes(self):
        _, ax = plt.subplots()
        ax.bar(["$x^$", "a\x01b", "<i>"], [1, 2, 3])
        assert {"$x^$", "ab", "<i>"} <= set(self.texts(picture_of(ax, "three bars")))

    def test_same_bytes_and_closed(self):
        first = picture_of(plot_k_search(K_SEARCH), "the search")
        assert plt.get_fignums() == []
        assert first.html == picture_of(plot_k_search(K_SEARCH), "the search").html

    def test_alt_title_and_ids(self):
        root = ElementTree.fromstring(picture_of(plot_k_search(K_SEARCH), "<the search>").html)
        svg = next(element for element in root.iter() if element.tag.endswith("}svg"))
        assert svg.get("role") == "img"
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert set(svg.get("aria-labelledby").split()) <= set(ids)
        assert svg[1].text == "<the search>"
        referred = [value[1:] for element in root.iter() for name, value in element.attrib.items() if name == "href"]
        assert set(referred) <= set(ids)

    def test_asks_for_nothing_and_follows_the_theme(self):
        html = draw_transitions(make_transitions(numbered(4))).html
        assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
        assert "currentColor" in html
        assert "#000000" not in html
        assert "rgb(var(--heat))" in html

    def test_the_callers_settings_stay(self):
        before = dict(mpl.rcParams)
        draw_transitions(make_transitions(numbered(4)))
        assert dict(mpl.rcParams) == before

    def test_nothing_to_draw(self):
        assert draw_step_matrix(make_matrix(["a"]).head(0)).alt.startswith("Nothing to draw")
        assert draw_transitions(make_transitions(["a"]).head(0)).alt.startswith("Nothing to draw")
        with pytest.raises(RuleError, match="Nothing to draw"):
            plot_transitions(make_transitions(["a"]).head(0))
