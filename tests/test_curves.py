"""Curves, trends and retention as drawn: the artists' data, and the words."""

from __future__ import annotations

import re
from datetime import timedelta

import ibis
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from conftest import START, make_steps
from matplotlib import pyplot as plt

import journeylab as jl
from journeylab.curves import draw_cohorts, draw_retention, draw_time_to_convert, plot_cohorts, plot_time_to_convert
from journeylab.language import use_language

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures() -> object:
    yield
    plt.close("all")


def make_curve(times: list[float], shares: list[float], n: int = 100, **group: str) -> pd.DataFrame:
    share = np.array(shares)
    rows = {"time_s": times, "share": share, "low": share * 0.9, "high": share * 1.1}
    rows |= {"band_low": share * 0.8, "band_high": share * 1.2, "n_at_risk": [n, *[n // 2] * (len(times) - 1)]}
    return pd.DataFrame({**group, **rows})


def make_cohorts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cohort": pd.to_datetime(["2026-01-05", "2026-01-12", "2026-01-19", "2026-01-26"]),
            "n": [40, 0, 50, 60],
            "conversion": [0.5, np.nan, 0.3, 0.1],
            "conversion_censored": [0.5, np.nan, 0.45, np.nan],
            "censored_low": [0.35, np.nan, 0.3, np.nan],
            "censored_high": [0.65, np.nan, 0.6, np.nan],
            "is_immature": [False, False, True, True],
        }
    )


def test_curve_is_drawn_as_it_is() -> None:
    ax = plot_time_to_convert(make_curve([0, 60, 120, 180], [0.0, 0.1, 0.2, 0.3]))
    line = ax.get_lines()[0]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata().tolist() == [0, 60, 120, 180]
    assert line.get_ydata().tolist() == [0.0, 0.1, 0.2, 0.3]
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.08, 0.36))
    assert ax.get_xscale() == "linear"
    assert ax.get_legend() is None
    assert ax.get_title(loc="left") == "Converted by then: share of 100 starts, with 95 % band"


def test_times_far_apart_get_a_logarithmic_axis() -> None:
    ax = plot_time_to_convert(make_curve([0, 60, 600, 86_400], [0.0, 0.2, 0.25, 0.3]))
    assert ax.get_xscale() == "log"
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["1 min", "10 min", "1 h", "6 h", "1 d"]


def test_without_a_band_the_interval_is_drawn() -> None:
    curve = make_curve([0, 60, 120], [0.0, 0.1, 0.2]).assign(band_low=np.nan, band_high=np.nan)
    band = plot_time_to_convert(curve).collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.09, 0.22))


def test_the_six_largest_groups_are_drawn() -> None:
    parts = [make_curve([0, 60], [0.0, 0.1], n=n, channel=f"c{n}") for n in (10, 80, 20, 70, 30, 60, 40)]
    ax = plot_time_to_convert(pd.concat(parts))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["c80, n = 80", "c70, n = 70", "c60, n = 60", "c40, n = 40", "c30, n = 30", "c20, n = 20"]


def test_cohorts_that_are_not_over_are_hollow() -> None:
    ax = plot_cohorts(make_cohorts())
    lines = {line.get_label(): line for line in ax.get_lines() if not str(line.get_label()).startswith("_")}
    assert lines["naive: open counted as lost"].get_ydata().tolist() == [0.5, 0.3, 0.1]
    assert lines["censored, all over"].get_ydata().tolist() == [0.5]
    assert lines["censored, not over"].get_ydata().tolist() == [0.45]
    assert lines["censored, not over"].get_markerfacecolor() == "none"
    assert ax.get_title(loc="left") == "Conversion by cohort: 150 starts, 2 cohorts not over"


def test_words_of_the_pictures() -> None:
    assert draw_cohorts(make_cohorts()).alt == (
        "Censored conversion by cohort: 2026-01-05 50.0 %, 2026-01-19 45.0 % (not over), 2026-01-26 – (not over)."
    )
    picture = draw_time_to_convert(make_curve([0, 60], [0.0, 0.1]))
    assert picture.alt == "Share converted by time since the start, with 95 % band. At the end: All: 10.0 %."


def test_dates_are_written_as_in_the_language() -> None:
    with use_language("pl"):
        ax = plot_cohorts(make_cohorts())
        ax.figure.canvas.draw()
        labels = [label.get_text() for label in ax.get_xticklabels()]
    assert any(re.fullmatch(r"\d+ \w+ 2026", label) for label in labels), labels
    assert not any("-" in label for label in labels)


def test_nobody_started() -> None:
    empty = make_curve([0], [0.0]).iloc[:0]
    assert "nobody started" in draw_time_to_convert(empty).alt
    with pytest.raises(jl.RuleError, match="nobody started"):
        plot_time_to_convert(empty)
    nobody = make_cohorts().assign(n=0)
    assert "nobody started" in draw_cohorts(nobody).alt
    with pytest.raises(jl.RuleError, match="nobody started"):
        plot_cohorts(nobody)


def make_visits(con: ibis.BaseBackend) -> ibis.Table:
    """Ten customers start in each of three weeks; half of them come back a week later; the log ends in week four."""
    rows = []
    for week in range(3):
        for i in range(10):
            days = [0, 8] if i % 2 else [0]
            for day in days:
                time = START + timedelta(days=7 * week + day, hours=i)
                plan = "pro" if i < 4 else "free"
                rows.append({"customer_id": f"{week}-{i}", "event": "visit", "timestamp": time, "plan": plan})
    return make_steps(rows, con=con)


def test_retention_leaves_out_what_is_not_over(con: ibis.BaseBackend) -> None:
    retention = jl.count_retention(make_visits(con), n_periods=2)
    html = draw_retention(retention).html
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    by_row = {cells[0]: cells[1:] for cells in rows[1:]}
    over = retention.table[~retention.table["is_immature"]]
    drawn = sum(cell != "" for name, cells in by_row.items() if "(n = " in name for cell in cells)
    assert drawn == (over["share"] >= 0.005).sum() > 0
    pooled = retention.overall["share"].fillna(0)
    assert by_row["all, pooled"] == [f"{100 * share:.0f}" if share >= 0.005 else "" for share in pooled]


def test_retention_of_groups_shows_one_row_each(con: ibis.BaseBackend) -> None:
    html = draw_retention(jl.count_retention(make_visits(con), n_periods=2, by="plan")).html
    assert re.findall(r'<th scope="row"[^>]*>(.*?)</th>', html) == ["free", "pro"]
