"""Personas over time as drawn: the artists' data, and the words."""

from __future__ import annotations

from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from journeylab.personas.tracking import Tracking
from journeylab.picture import NEUTRAL, colour_of
from journeylab.shares import bound_shares
from journeylab.svg_tracking import draw_tracking, plot_tracking

mpl.use("Agg")

NAMES = ["search · cart", "<script>$x_1$", "a very long name of a persona, much longer than fits"]


@pytest.fixture(autouse=True)
def _close_figures() -> object:
    yield
    plt.close("all")


def make_tracking(n_periods: int, *, drifted: tuple[int, ...] = (), has_new: bool = False) -> Tracking:
    """Three personas of 1,000 to 1,200 customers; the first grows."""
    months = [f"2026-{month:02}" for month in range(1, n_periods + 1)]
    rows = []
    for place, month in enumerate(months):
        sizes = 500 + 20 * place, 400 - 10 * place, 100
        rows += [{"period": month, "persona": i + 1, "name": NAMES[i], "n": n} for i, n in enumerate(sizes)]
    shares = pd.DataFrame(rows)
    whole = shares.groupby("period")["n"].transform("sum")
    shares["share"], shares["low"], shares["high"] = bound_shares(shares["n"], whole)
    shares = shares.assign(change=np.nan, p_adjusted=np.nan)
    periods = shares.groupby("period", as_index=False)["n"].sum().assign(growth=np.nan, p_adjusted=np.nan)
    drift = pd.DataFrame({"period": months[-1], "persona": [1, 2, 3], "name": NAMES})
    drift["has_drifted"] = drift["persona"].isin(drifted)
    new = {"period": months[-1:], "name": ["pay"], "share": [0.7], "is_new": [has_new]}
    return Tracking(periods, shares, pd.DataFrame(), drift, pd.DataFrame(new))


def labels_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_lines_are_the_shares_in_the_colour_of_the_persona() -> None:
    tracking = make_tracking(4)
    ax = plot_tracking(tracking)
    lines = [bars.lines[0] for bars in ax.containers]
    for persona, line in enumerate(lines, start=1):
        own = tracking.shares[tracking.shares["persona"] == persona]
        assert line.get_xdata().tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), own["share"])
        assert line.get_color() == colour_of(persona)
        bars = ax.containers[persona - 1].lines[2][0].get_segments()
        np.testing.assert_allclose(np.array(bars, dtype=float)[:, :, 1], own[["low", "high"]].to_numpy(float))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2026-01", "2026-02", "2026-03", "2026-04"]
    assert ax.get_xlabel() == "1,000 to 1,030 customers in a period; with 95 % intervals"
    assert [text.get_text() for text in ax.texts] == ["3", "2", "1"]
    assert labels_of(ax) == [
        "1 search · cart, 50.0 % → 54.4 %",
        "2 <script>$x_1$, 40.0 % → 35.9 %",
        "3 a very long name…onger than fits, 10.0 % → 9.7 %",
    ]


def test_drift_and_a_new_persona_are_marked() -> None:
    ax = plot_tracking(make_tracking(3, drifted=(2,), has_new=True))
    diamonds = [line for line in ax.get_lines() if line.get_marker() == "D" and len(line.get_xdata())]
    assert [(line.get_xdata().tolist(), line.get_markeredgecolor()) for line in diamonds] == [([2], colour_of(2))]
    stars = [line for line in ax.get_lines() if line.get_marker() == "*"]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in stars] == [([2], [0.7])]
    assert stars[0].get_color() == NEUTRAL
    assert {"behaves differently than in the fit", "new: pay, 70.0 %"} < set(labels_of(ax))
    assert ax.get_ylim()[1] > 0.7


def test_numbers_at_the_ends_do_not_overlap() -> None:
    tracking = make_tracking(2)
    same = tracking.shares.assign(share=0.3, low=0.28, high=0.32)
    ax = plot_tracking(Tracking(tracking.periods, same, tracking.moves, tracking.drift, tracking.emerging))
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert np.diff(heights).min() > 0.05


def test_one_period_has_points() -> None:
    ax = plot_tracking(make_tracking(1))
    assert ax.get_xlabel() == "1,000 customers in a period; with 95 % intervals"
    assert labels_of(ax)[0] == "1 search · cart, 50.0 %"


def test_many_periods_stay_legible() -> None:
    ax = plot_tracking(make_tracking(12))
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {60}


def test_the_picture_says_all_in_words_and_is_safe() -> None:
    tracking = make_tracking(3, drifted=(1,), has_new=True)
    picture = draw_tracking(tracking)
    assert "search · cart 50.0 % → 52.9 %; <script>$x_1$ 40.0 %" in picture.alt
    assert picture.alt.endswith(tracking.headline)
    assert "<script>" not in picture.html
    assert "$x_1$" in picture.html
    assert draw_tracking(tracking).html == picture.html
    drawing = picture.html[picture.html.index("<svg") : picture.html.index("</svg>") + 6]
    ElementTree.fromstring(drawing)
