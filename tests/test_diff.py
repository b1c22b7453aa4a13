"""Two runs side by side: what differs, which figures moved by more than noise, and the parts of a change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from journeylab import RunDiff, diff_runs
from journeylab.cli import main
from journeylab.errors import ReportError

FULL = bool(os.environ.get("JOURNEYLAB_FULL"))
HOSTILE = '<img src=x onerror="alert(1)">'


def write_run(
    folder: Path,
    values: dict[str, Any],
    *,
    intervals: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    cohorts: list[tuple[str, str, int, int, int]] | None = None,
    report: str = "drop_off",
) -> Path:
    """A run as the runner leaves it; of each cohort: group, cohort, starts, mature starts, conversions of these."""
    folder.mkdir(parents=True)
    entry = {"values": values, "intervals": intervals or {}, "parameters": parameters or {}, "data": {"rows": 10}}
    (folder / "run.json").write_text(
        json.dumps({"created": "2026-11-01", "versions": {"python": "3.11"}, "reports": {report: entry}})
    )
    if cohorts is not None:
        table = pd.DataFrame(cohorts, columns=["channel", "cohort", "n", "n_mature", "x"])
        table["conversion_mature"] = table["x"] / table["n_mature"].where(table["n_mature"] > 0)
        tables = folder / "tables" / report
        tables.mkdir(parents=True)
        table.drop(columns="x").to_csv(tables / "cohorts_by_group.csv", index=False)
    return folder


def record_shares(shares: dict[str, tuple[int, int]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Values and intervals of shares given as x of n."""
    values = {name: x / n for name, (x, n) in shares.items()}
    return values, {name: list(proportion_confint(x, n, method="wilson")) for name, (x, n) in shares.items()}


def compare(folder: Path, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> RunDiff:
    sides = [
        write_run(folder / name, values, intervals=intervals)
        for name, (values, intervals) in {"a": record_shares(before), "b": record_shares(after)}.items()
    ]
    return diff_runs(*sides)


def test_a_move_beyond_noise_is_marked(tmp_path: Path) -> None:
    found = compare(
        tmp_path, {"share_x": (300, 1000), "share_y": (50, 100)}, {"share_x": (400, 1000), "share_y": (55, 100)}
    )
    values = found.values.set_index("name")
    assert values["is_beyond_noise"].to_dict() == {"share_x": True, "share_y": False}
    assert values.loc["share_x", "change"] == pytest.approx(0.1)
    # Newcombe's interval of the difference is MOVER with Wilson's.
    assert values.loc["share_x", ["low", "high"]].tolist() == pytest.approx([0.0582, 0.1412], abs=1e-3)
    assert found.headline == "1 of 2 figures with an interval moved by more than noise: share_x."


def test_false_marks_stay_rare_and_intervals_cover(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n_runs, n_values, truth = (2_000 if FULL else 80), 5, 0.3
    marked = covered = 0
    for i in range(n_runs):
        sides = [{f"share_{j}": (int(rng.binomial(400, truth)), 400) for j in range(n_values)} for _ in range(2)]
        values = compare(tmp_path / str(i), *sides).values
        marked += bool(values["is_beyond_noise"].any())
        covered += int(((values["low"] <= 0) & (values["high"] >= 0)).sum())
    # Each bound is four standard errors of its own share away.
    assert marked / n_runs < 0.05 + 4 * (0.05 * 0.95 / n_runs) ** 0.5
    assert abs(covered / (n_runs * n_values) - 0.95) < 4 * (0.05 * 0.95 / (n_runs * n_values)) ** 0.5 + 0.005


def test_what_differs_is_listed(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", {"n": 1}, parameters={"within": "7D", "by": ["channel"], "old": 1})
    other = write_run(
        tmp_path / "b", {"n": 3, "new": 4}, parameters={"within": "14D", "by": ["channel"], "name": HOSTILE}
    )
    found = diff_runs(one, other)
    listed = found.settings.set_index("name")[["before", "after"]].apply(tuple, axis=1).to_dict()
    assert listed == {"within": ("7D", "14D"), "old": ("1", "–"), "name": ("–", HOSTILE)}
    # A figure that has no interval is shown, and not judged.
    (row,) = found.values.to_dict("records")
    assert (row["name"], row["change"], row["is_beyond_noise"]) == ("n", 2, False)
    assert np.isnan(row["p_adjusted"])
    page = found.save(tmp_path / "diff.html").read_text()
    assert HOSTILE not in page
    assert "&lt;img" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "diff.html"]


def test_figures_in_mappings_are_compared_by_name(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / name, {"shares": shares}, intervals={"shares": [low, high]}, report="personas")
        for name, shares, low, high in (
            ("a", {"1": 0.2, "2": 0.8}, {"1": 0.1, "2": 0.7}, {"1": 0.3, "2": 0.9}),
            ("b", {"1": 0.7}, {"1": 0.6}, {"1": 0.8}),
        )
    ]
    values = diff_runs(*folders).values
    assert values[["name", "is_beyond_noise"]].to_numpy().tolist() == [["shares: 1", True]]


def test_a_change_of_conversion_is_taken_apart(tmp_path: Path) -> None:
    # In October 10 of 100 app starts were missing one conversion that came late; November brings more of the app.
    october = [("web", "10", 100, 100, 40), ("app", "10", 100, 100, 9), ("app", "11", 20, 0, 0)]
    november = [
        ("web", "10", 100, 100, 40),
        ("app", "10", 100, 100, 10),
        ("web", "11", 50, 50, 20),
        ("app", "11", 150, 150, 15),
    ]
    sides = [
        write_run(tmp_path / name, {"n": 1}, cohorts=cohorts) for name, cohorts in (("a", october), ("b", november))
    ]
    found = diff_runs(*sides)
    parts = found.conversion.set_index("part")["change"]
    assert parts["late data"] == pytest.approx(50 / 200 - 49 / 200)
    # No group converts otherwise than before.
    assert parts["rate"] == pytest.approx(0)
    assert parts["all"] == pytest.approx(85 / 400 - 49 / 200)
    assert parts["all"] == pytest.approx(parts["late data"] + parts["mix"] + parts["rate"])
    assert found.conversion[["low", "high"]].isna().all().all()
    assert "share customers" in found.note


def test_other_customers_give_intervals(tmp_path: Path) -> None:
    sides = [
        write_run(tmp_path / name, {"n": 1}, cohorts=[("web", name, 400, 400, x), ("app", name, 400, 400, 40)])
        for name, x in (("10", 100), ("11", 160))
    ]
    parts = diff_runs(*sides).conversion.set_index("part")
    assert parts.loc["late data", "change"] == 0
    assert parts.loc["mix", "change"] == pytest.approx(0)
    assert parts.loc["rate", "change"] == pytest.approx(60 / 800)
    assert parts.loc["rate", "low"] > 0
    assert parts.loc["mix", "low"] < 0 < parts.loc["mix", "high"]


@pytest.mark.parametrize(
    ("parameters", "cohorts", "words"),
    [
        ({"within": "7D"}, [("web", "10", 5, 5, 1)], "different questions (within)"),
        ({}, None, "cohorts_by_group"),
        ({}, [("web", "10", 5, 0, 0)], "no starts whose time is over"),
    ],
)
def test_no_split_without_ground(tmp_path: Path, parameters: dict[str, Any], cohorts: Any, words: str) -> None:
    before = write_run(tmp_path / "a", {"n": 1}, cohorts=[("web", "09", 5, 5, 1)])
    found = diff_runs(before, write_run(tmp_path / "b", {"n": 1}, parameters=parameters, cohorts=cohorts))
    assert not len(found.conversion)
    assert words in found.note


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a", {"n": 1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match=r"empty is not a run: it has no run\.json"):
        diff_runs(run, tmp_path / "empty")
    (tmp_path / "empty" / "run.json").write_text("{")
    with pytest.raises(ReportError, match="damaged"):
        diff_runs(run, tmp_path / "empty")
    with pytest.raises(ReportError, match="no report in common: the first has drop_off, the second personas"):
        diff_runs(run, write_run(tmp_path / "c", {"n": 1}, report="personas"))


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [record_shares({"share_x": (x, 1000)}) for x in (300, 400)]
    for name, (share, interval) in zip("ab", values, strict=True):
        write_run(tmp_path / name, share, intervals=interval)
    with pytest.raises(SystemExit) as ended:
        main(["diff", str(tmp_path / "a"), str(tmp_path / "b")])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "30.0 %" in printed
    assert "+10.0 points" in printed
    assert "beyond noise" in printed
    assert (tmp_path / "diff-a-b.html").is_file()
