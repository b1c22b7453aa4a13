"""What is planted in the demo shop must be what the reports find."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import journeylab as jl

ROOT = Path(__file__).parents[1]
FUNNEL = ["catalog", "cart", "checkout", "payment", "payment_done"]


@pytest.fixture(scope="module", params=["committed", "full"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cut that ships with the package, and the shop that `make report` writes."""
    if request.param == "committed":
        return ROOT / "data" / "demo"
    if not os.environ.get("JOURNEYLAB_FULL"):
        pytest.skip("the full shop runs in `make test-all`")
    path = tmp_path_factory.mktemp("demo")
    jl.write_demo(path)
    return path


def test_planted_personas_and_drop_off_are_found(folder: Path) -> None:
    rules = jl.JourneyRules.load("ecommerce")
    steps = jl.build_steps(jl.read_events(folder / "events.csv"), rules)
    personas = jl.fit_personas(steps, jl.build_journeys(steps, rules), seed=0)
    planted = pd.read_csv(folder / "personas.csv", dtype=str)
    assert len(personas.summary) == planted["persona"].nunique() == 5

    n_events = steps.group_by("customer_id").agg(n_events=steps.count()).execute()
    found = personas.assign(steps).merge(planted, on="customer_id", suffixes=("", "_planted")).merge(n_events)
    assert len(found) == len(planted)
    known_well = found[found["n_events"] >= 8]
    assert adjusted_rand_score(known_well["persona_planted"], known_well["persona"]) >= 0.85

    truth = tomllib.loads((folder / "truth.toml").read_text(encoding="utf-8"))["drop_off"]
    funnel = jl.build_funnel(steps, jl.FunnelRules(FUNNEL, within="14D"), by="channel")
    top = jl.find_drop_offs(funnel).iloc[0]
    assert (top["channel"], top["label"], top["next_label"]) == (truth["channel"], truth["step"], truth["next_step"])
    assert top["p_adjusted"] < 0.001
    sentence = jl.describe_drop_off(jl.find_drop_offs(funnel), funnel)
    assert "customers of channel app who reached payment " in sentence
