"""The demo shop holds what its truth table says, and is the same on every machine."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from journeylab.errors import RuleError
from journeylab.sources.demo import write_demo

ROOT = Path(__file__).parents[1]
CUT = ROOT / "data" / "demo"
FILES = ("events.csv", "events_dirty.csv", "personas.csv", "truth.toml")
FUNNEL = ("catalog", "cart", "checkout", "payment", "payment_done")
REFERENCE = sorted((ROOT / "data" / "reference").glob("*.toml"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@cache
def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def read_truth(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "truth.toml").read_text())


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lose_at_each_step(rows: list[dict[str, str]]) -> dict[str, list[tuple[int, int]]]:
    """(customers at the step, lost after it) by the channel of the customer's first catalog, in plain Python."""
    reached: dict[str, int] = {}
    channel: dict[str, str] = {}
    for row in rows:
        customer, at = row["customer_id"], reached.get(row["customer_id"], 0)
        if at < len(FUNNEL) and row["event"] == FUNNEL[at]:
            reached[customer] = at + 1
            channel.setdefault(customer, row["channel"])
    counts = {
        group: [sum(reached[c] > step for c in reached if channel[c] == group) for step in range(len(FUNNEL))]
        for group in ("web", "app")
    }
    return {group: [(n[i], n[i] - n[i + 1]) for i in range(len(FUNNEL) - 1)] for group, n in counts.items()}


def test_the_committed_cut_is_what_the_code_writes(tmp_path: Path) -> None:
    write_demo(tmp_path, n_customers=1_500)
    assert read_bytes(tmp_path) == read_bytes(CUT), (
        'run write_demo("data/demo", n_customers=1_500) and commit the files'
    )
    assert sum(path.stat().st_size for path in CUT.iterdir()) < 2_000_000


def test_time_zone_and_threads_change_nothing(tmp_path: Path) -> None:
    code = "import sys; from journeylab.sources.demo import write_demo; write_demo(sys.argv[1], n_customers=1_500)"
    far = {"TZ": "Pacific/Auckland", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "3", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, tmp_path], env={**os.environ, **far}, cwd=ROOT, check=True)
    assert read_bytes(tmp_path) == read_bytes(CUT)


def test_another_seed_is_another_shop(tmp_path: Path) -> None:
    paths = write_demo(tmp_path, n_customers=500, seed=8)
    assert [path.name for path in paths.values()] == list(FILES)
    assert read_truth(tmp_path)["seed"] == 8
    assert paths["events"].read_bytes()[:5_000] != (CUT / "events.csv").read_bytes()[:5_000]


def test_too_few_customers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="at least 500, got 499"):
        write_demo(tmp_path / "new", n_customers=499)
    assert not (tmp_path / "new").exists()


def test_a_failed_write_leaves_the_old_files_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.csv").write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("journeylab.sources.demo.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_demo(tmp_path, n_customers=500)
    assert read_bytes(tmp_path) == {"events.csv": b"old"}


def test_the_log_is_clean_and_as_large_as_promised(demo: Path) -> None:
    rows, truth = read_rows(demo / "events.csv"), read_truth(demo)
    assert len(rows) == truth["n_events"]
    assert 250_000 <= len(rows) <= 400_000
    assert len({row["customer_id"] for row in rows}) == truth["n_customers"] == 20_000
    assert len({row["event"] for row in rows}) == 27
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times)
    assert all(re.fullmatch(r"2026-(08|09|10)-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert len({(row["customer_id"], row["timestamp"]) for row in rows}) == len(rows)
    assert {row["channel"] for row in rows} == {"web", "app", "email", "ads", "store", "call_centre"}
    assert all((row["value"] != "") == (row["event"] in {"payment_done", "store_purchase"}) for row in rows)
    assert all((row["score"] != "") == (row["event"] == "survey_answer") for row in rows)
    assert {int(row["score"]) for row in rows if row["score"]} == set(range(11))
    touched = ("ad_click", "email_open", "email_click", "push_open")
    assert all((row["campaign"] != "") == (row["event"] in touched) for row in rows)


def test_personas_are_counted_and_near_their_planted_shares(demo: Path) -> None:
    personas, truth = read_rows(demo / "personas.csv"), read_truth(demo)
    counts = Counter(row["persona"] for row in personas)
    assert counts == truth["personas"]
    assert {row["customer_id"] for row in personas} == {row["customer_id"] for row in read_rows(demo / "events.csv")}
    shares = truth["persona_shares_planted"]
    assert all(counts[name] / len(personas) == pytest.approx(share, abs=0.01) for name, share in shares.items())


@pytest.mark.parametrize("size", ["full", "cut"])
def test_paying_in_the_app_is_by_far_the_largest_loss(size: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("demo") if size == "full" else CUT
    rows, planted = read_rows(folder / "events.csv"), read_truth(folder)["drop_off"]
    seen = Counter((row["event"], row["channel"]) for row in rows)
    for channel in ("web", "app"):
        for event in ("payment", "payment_error", "payment_done"):
            assert planted[f"n_{event}_{channel}"] == seen[event, channel]
        share = seen["payment_error", channel] / seen["payment", channel]
        three_errors = 1.5 / seen["payment", channel] ** 0.5
        assert share == pytest.approx(planted[f"share_failing_{channel}_planted"], abs=three_errors)
    losses = lose_at_each_step(rows)
    excess = {}
    for group, other in (("app", "web"), ("web", "app")):
        for step, (n, lost), (n_other, lost_other) in zip(FUNNEL, losses[group], losses[other], strict=False):
            excess[step, group] = lost - n * lost_other / n_other
    first, second = sorted(excess, key=lambda key: -excess[key])[:2]
    assert first == (planted["step"], planted["channel"]) == ("payment", "app")
    assert excess[first] > (5 if size == "full" else 2) * excess[second]


def test_some_hundred_customers_are_still_on_their_way(demo: Path) -> None:
    rows, truth = read_rows(demo / "events.csv"), read_truth(demo)
    assert 300 <= truth["n_customers_cut_by_the_end"] <= 3_000
    n_events = Counter(row["customer_id"] for row in rows)
    arrived = {row["customer_id"]: row["timestamp"] for row in reversed(rows)}
    early = [n_events[customer] for customer, day in arrived.items() if day < "2026-08-08"]
    late = [n_events[customer] for customer, day in arrived.items() if day >= "2026-10-25"]
    assert len(late) > 1_000
    assert sum(late) / len(late) < 0.7 * sum(early) / len(early)


def test_who_could_not_pay_says_so(demo: Path) -> None:
    words = re.compile("pay|płat|zapłac|оплат", re.IGNORECASE)
    said: dict[bool, list[bool]] = {True: [], False: []}
    scores: dict[bool, list[int]] = {True: [], False: []}
    previous: dict[str, str] = {}
    for row in read_rows(demo / "events.csv"):
        after_error = previous.get(row["customer_id"]) == "payment_error"
        if row["text"]:
            said[after_error].append(bool(words.search(row["text"])))
        if row["score"]:
            scores[after_error].append(int(row["score"]))
        previous[row["customer_id"]] = row["event"]
    assert len(said[True]) > 100
    assert all(said[True])
    assert sum(said[False]) / len(said[False]) < 0.2
    assert max(scores[True]) <= 6 < sum(scores[False]) / len(scores[False])


@pytest.mark.parametrize("size", ["full", "cut"])
def test_each_dirty_row_is_in_the_truth(size: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("demo") if size == "full" else CUT
    assert (folder / "events_dirty.csv").read_bytes().startswith(b"\xef\xbb\xbfklient;zdarzenie;czas;")
    rows = read_rows(folder / "events_dirty.csv", ";")
    ids, events = Counter(row["klient"] for row in rows), Counter(row["zdarzenie"] for row in rows)
    times = [row["czas"] for row in rows]
    stamps = [parse(time) for time in times]
    damaged = [name for name in ids if "E+" in name]
    assert 2_000 <= len(rows) <= 5_000
    assert read_truth(folder)["dirty"] == {
        "n_rows": len(rows),
        "null_customer_ids": ids[""],
        "null_events": events[""],
        "null_timestamps": times.count(""),
        "unparseable_timestamps": sum(time != "" and stamp is None for time, stamp in zip(times, stamps, strict=True)),
        "timestamps_1970": sum(stamp is not None and stamp.year == 1970 for stamp in stamps),
        "naive_timestamps": sum(stamp is not None and stamp.tzinfo is None for stamp in stamps),
        "script_events": events["<script>alert(1)</script>"],
        "cyrillic_events": events["корзина"],
        "exact_duplicates": len(rows) - len({tuple(row.values()) for row in rows}),
        "damaged_ids": len(damaged),
        "damaged_id_rows": sum(ids[name] for name in damaged),
        "id_NA_rows": ids["NA"],
        "id_007_rows": ids["007"],
    }


def parse(time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return None


def find_stage(event: str, stage_of: dict[str, str]) -> str | None:
    prefixes = [pattern for pattern in stage_of if pattern.endswith("*") and event.startswith(pattern[:-1])]
    return stage_of.get(event) or (stage_of[max(prefixes, key=len)] if prefixes else None)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_ready_rules_name_only_their_own_stages(path: Path) -> None:
    rules = tomllib.loads(path.read_text())
    assert set(rules) == {"stages", "stage_of", "goal", "journey_gap", "session_gap", "end_after_goal"}
    assert set(rules["stage_of"].values()) == set(rules["stages"])
    assert rules["goal"] in rules["stages"]
    assert path.read_text().startswith("# For ")


def test_there_are_five_ready_rules() -> None:
    assert [path.stem for path in REFERENCE] == ["b2b", "ecommerce", "five_stages", "leads", "saas"]


def test_no_ready_pattern_is_ambiguous() -> None:
    for path in REFERENCE:
        patterns = list(tomllib.loads(path.read_text())["stage_of"])
        for prefix in (pattern[:-1] for pattern in patterns if pattern.endswith("*")):
            inside = [pattern for pattern in patterns if pattern.startswith(prefix) and pattern != f"{prefix}*"]
            assert not inside, f"{path.stem}: {prefix}* also covers {inside}"


def test_shop_rules_know_the_demo_ga4_and_simple_shops() -> None:
    shop = tomllib.loads((ROOT / "data/reference/ecommerce.toml").read_text())["stage_of"]
    five = tomllib.loads((ROOT / "data/reference/five_stages.toml").read_text())["stage_of"]
    own = {row["event"] for row in read_rows(CUT / "events.csv")}
    ga4 = {"view_item", "add_to_cart", "begin_checkout", "add_shipping_info", "add_payment_info", "purchase", "refund"}
    simple = {
        "main",
        "catalog",
        "product1",
        "cart",
        "delivery_courier",
        "payment_choice",
        "payment_card",
        "payment_done",
    }
    assert [event for event in own | ga4 | simple if find_stage(event, shop) is None] == []
    assert [event for event in own if find_stage(event, five) is None] == []
    goals = {event for event in own | ga4 | simple if find_stage(event, shop) == "purchase"}
    assert goals == {"purchase", "payment_done", "store_purchase"}
