"""Figures from period to period: counted by hand, changes found, and few false alarms."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import START, Row, make_steps

import journeylab as jl
from journeylab.errors import RuleError

FULL = bool(os.environ.get("JOURNEYLAB_FULL"))


def draw_counts(
    shares: list[float], n: int, rng: np.random.Generator, *, n_figures: int = 1, unrest: float = 0
) -> pd.DataFrame:
    rows = []
    for figure in range(n_figures):
        for t, share in enumerate(shares):
            moved = float(np.clip(share + rng.normal(0, unrest), 0.01, 0.99))
            period = pd.Timestamp("2026-01-05") + pd.Timedelta(weeks=t)
            rows.append((f"f{figure}", period, int(rng.binomial(n, moved)), n))
    return pd.DataFrame(rows, columns=["figure", "period", "x", "n"])


@pytest.mark.parametrize("unrest", [0, 0.04])
def test_false_alarms_are_rare_over_all_figures_together(unrest: float) -> None:
    rng = np.random.default_rng(11)
    n_runs = 600 if FULL else 20
    alarms = [
        jl.find_changes(draw_counts([0.3] * 10, 300, rng, n_figures=4, unrest=unrest), seed=seed)
        .figures["is_change"]
        .any()
        for seed in range(n_runs)
    ]
    # Three standard errors above the stated 5 %.
    assert np.mean(alarms) <= 0.05 + 3 * (0.05 * 0.95 / n_runs) ** 0.5


def test_a_change_is_found_where_it_was() -> None:
    rng = np.random.default_rng(5)
    n_runs = 200 if FULL else 20
    found = []
    for seed in range(n_runs):
        counts = draw_counts([0.3] * 7 + [0.42] * 5, 400, rng)
        (row,) = jl.find_changes(counts, seed=seed).figures.to_dict("records")
        weeks_off = (row["changed_at"] - pd.Timestamp("2026-02-23")).days / 7
        found.append((row["is_change"], abs(weeks_off) <= 1, row["low"] <= 0.12 <= row["high"]))
    is_change, is_near, is_covered = np.mean(found, axis=0)
    assert is_change > 0.85
    assert is_near > 0.9
    assert is_covered > 0.85


def test_what_a_change_says() -> None:
    counts = draw_counts([0.2] * 6 + [0.5] * 6, 1_000, np.random.default_rng(0))
    steady = draw_counts([0.2] * 12, 1_000, np.random.default_rng(1)).assign(figure="steady")
    changes = jl.find_changes(pd.concat([steady, counts]))
    assert changes.figures["figure"].tolist() == ["f0", "steady"]
    assert changes.figures["is_change"].tolist() == [True, False]
    row = changes.figures.iloc[0]
    before, after = counts.iloc[:6], counts.iloc[6:]
    assert (row["n_before"], row["n_after"]) == (6_000, 6_000)
    assert row["share_before"] == pytest.approx(before["x"].sum() / 6_000)
    assert row["difference"] == pytest.approx(after["x"].sum() / 6_000 - before["x"].sum() / 6_000)
    assert row["low"] < row["difference"] < row["high"]
    assert changes.headline.startswith("1 of 2 figures changed: f0 from 19.8 % to 51.4 %")
    assert "since 2026-02-16" in changes.headline
    levels = changes.series.groupby("figure")["level"].nunique()
    assert levels.to_dict() == {"f0": 2, "steady": 1}


def test_a_figure_is_drawn_with_its_levels() -> None:
    changes = jl.find_changes(draw_counts([0.2] * 6 + [0.5] * 6, 1_000, np.random.default_rng(0)))
    ax = jl.plot_changes(changes, "f0")
    assert ax.get_title(loc="left") == "f0: 12 periods, level changed"
    assert len(set(ax.lines[-1].get_ydata())) == 2
    picture = jl.draw_changes(changes, "f0")
    assert picture.alt.startswith("f0 by period: 2026-01-05 ")
    assert "<svg" in picture.html
    with pytest.raises(RuleError, match=r'no figure "g0".*Known: f0'):
        jl.plot_changes(changes, "g0")


def test_order_and_seed() -> None:
    counts = draw_counts([0.2] * 4 + [0.3] * 4, 200, np.random.default_rng(0), n_figures=2)
    first, again = jl.find_changes(counts), jl.find_changes(counts)
    pd.testing.assert_frame_equal(first.figures, again.figures)
    within = counts.sample(frac=1, random_state=0).sort_values("figure", kind="stable")
    pd.testing.assert_frame_equal(jl.find_changes(within).series, first.series)


def test_too_little_to_say_anything() -> None:
    rng = np.random.default_rng(0)
    for counts in (draw_counts([0.1] * 3 + [0.9] * 2, 100, rng), draw_counts([0.5] * 8, 50, rng).assign(x=0)):
        changes = jl.find_changes(counts)
        assert not changes.figures["is_change"].any()
        assert changes.figures["p"].isna().all()
        assert changes.headline == "None of 1 figures changed by more than chance from period to period."
    assert jl.find_changes(draw_counts([], 1, rng)).figures.empty


def test_refusals(six: ibis.Table) -> None:
    counts = draw_counts([0.5] * 6, 10, np.random.default_rng(0))
    with pytest.raises(RuleError, match="missing: n"):
        jl.find_changes(counts.drop(columns="n"))
    with pytest.raises(RuleError, match="in 1 of 6 rows x is not between 0 and n"):
        jl.find_changes(counts.assign(x=[11, 0, 0, 0, 0, 0]))
    with pytest.raises(RuleError, match="a period twice"):
        jl.find_changes(pd.concat([counts, counts]))
    with pytest.raises(RuleError, match="needs a window"):
        jl.count_figures(jl.build_funnel(six, ["shop", "pay"]))
    funnel = jl.build_funnel(six, jl.FunnelRules(["shop", "pay"], within="1D"), by="channel")
    with pytest.raises(RuleError, match="split by channel"):
        jl.count_figures(funnel)
    with pytest.raises(RuleError, match='freq must be "D"'):
        jl.count_figures(funnel, freq="Y")  # type: ignore[arg-type]


def draw_log(rng: np.random.Generator) -> list[Row]:
    rows = []
    for i in range(60):
        now = START + timedelta(hours=float(rng.uniform(0, 30 * 24)))
        for event in ("look", "cart", "pay")[: rng.integers(1, 4)]:
            rows.append({"customer_id": f"k{i}", "event": event, "timestamp": now})
            now += timedelta(hours=float(rng.exponential(20)))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_counted_by_hand(con: ibis.BaseBackend, seed: int) -> None:
    rows = draw_log(np.random.default_rng(seed))
    end = max(row["timestamp"] for row in rows)
    funnel = jl.build_funnel(make_steps(rows, con=con), jl.FunnelRules(["look", "cart", "pay"], within="2D"))
    counted = jl.count_figures(funnel, freq="D")
    times = {(row["customer_id"], row["event"]): row["timestamp"] for row in rows}
    reached: Counter[tuple[str, object]] = Counter()
    open_days = set()
    for (customer, event), start in times.items():
        if event != "look":
            continue
        day = pd.Timestamp(start).normalize()
        if start + timedelta(days=2) > end:
            open_days.add(day)
        for i, name in enumerate(("look", "cart", "pay"), 1):
            at = times.get((customer, name))
            if at is None or at > start + timedelta(days=2):
                break
            reached[day, i] += 1
    days = sorted({day for day, _ in reached} - open_days)
    assert len(days) > 10
    expected = {
        (figure, day, reached[day, j], reached[day, i])
        for day in days
        for figure, i, j in (("conversion", 1, 3), ("look → cart", 1, 2), ("cart → pay", 2, 3))
        if reached[day, i]
    }
    assert set(counted.itertuples(index=False, name=None)) == expected


def test_members_are_counted_where_they_are_new(con: ibis.BaseBackend) -> None:
    days = {"anna": 1, "bert": 9, "cleo": 35, "dora": 36, "emil": 70}
    rows = [{"customer_id": name, "event": "a", "timestamp": START + timedelta(days=day)} for name, day in days.items()]
    journeys = jl.build_journeys(make_steps([*rows, {**rows[0], "timestamp": START + timedelta(days=40)}], con=con))
    members = pd.DataFrame({"customer_id": list(days), "persona": [1, 2, 1, 1, 2]})
    counted = jl.count_members(members, journeys)
    first = pd.Timestamp(START).to_period("M").start_time
    months = [first, first + pd.offsets.MonthBegin(1)]
    found = {(row.figure, row.period): (row.x, row.n) for row in counted.itertuples()}
    # March is not over: emil does not count.
    assert found == {
        ("persona 1", months[0]): (1, 2),
        ("persona 2", months[0]): (1, 2),
        ("persona 1", months[1]): (2, 2),
        ("persona 2", months[1]): (0, 2),
    }
