"""Randomised tests of two groups: sizes against the exact power of the test, the rest against `compare_funnels`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import START, make_steps
from scipy.stats import binom, norm

import journeylab as jl
from journeylab.errors import RuleError

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"


def power_by_hand(share: float, effect: float, n: int, m: int, alpha: float = 0.05) -> float:
    """How likely the test of `compare_groups` (Agresti and Caffo) is to find it: summed over all that can happen."""
    x, y = np.arange(n + 1)[:, None], np.arange(m + 1)[None]
    p, q = (x + 1) / (n + 2), (y + 1) / (m + 2)
    is_found = abs(p - q) > norm.isf(alpha / 2) * np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return float((binom.pmf(x, n, share + effect) * binom.pmf(y, m, share) * is_found).sum())


@pytest.mark.parametrize(
    ("share", "effect", "power", "alpha"),
    [(0.2, 0.04, 0.8, 0.05), (0.2, -0.05, 0.9, 0.05), (0.5, 0.1, 0.8, 0.01), (0.02, 0.02, 0.8, 0.05)],
)
def test_so_many_find_it(share: float, effect: float, power: float, alpha: float) -> None:
    plan = jl.plan_experiment(share, effect=effect, power=power, alpha=alpha)
    assert list(plan.columns) == ["share", "effect", "n", "power", "alpha"]
    n = int(plan["n"].iloc[0])
    assert power_by_hand(share, effect, n, n, alpha) == pytest.approx(power, abs=0.01)
    # The other way round: so many find that effect, or where it is a fall, a rise of much the same size.
    again = jl.plan_experiment(share, n=n, power=power, alpha=alpha)
    assert again["effect"].iloc[0] == pytest.approx(abs(effect), rel=0.002 if effect > 0 else 0.2)
    assert power_by_hand(share, again["effect"].iloc[0], n, n, alpha) == pytest.approx(power, abs=0.01)


def test_several_at_once() -> None:
    effects = [0.01, 0.02, 0.04]
    plan = jl.plan_experiment(0.1, effect=effects)
    assert plan["effect"].tolist() == effects
    assert plan["n"].is_monotonic_decreasing
    # Nobody would look up these by heart, but Cohen's rule of 16 * variance / effect^2 is near.
    assert plan["n"].to_numpy() == pytest.approx([16 * 0.09 / effect**2 for effect in effects], rel=0.3)
    sizes = jl.plan_experiment(0.1, n=[50, 5_000, 2])
    assert sizes["effect"].iloc[0] > sizes["effect"].iloc[1]
    assert np.isnan(sizes["effect"].iloc[2])


@pytest.mark.parametrize(
    ("share", "options", "words"),
    [
        (0.2, {}, "give the effect to find or the n per group, and get the other"),
        (0.2, {"effect": 0.1, "n": 10}, "give the effect to find or the n per group, and get the other"),
        (20, {"effect": 0.1}, "share must lie between 0 and 1, such as 0.2; found 20"),
        (0.2, {"effect": 0.1, "power": 80}, "power must lie between 0 and 1, such as 0.2; found 80"),
        (0.2, {"effect": 0.1, "power": 0.01}, "power must be more than alpha, which is 0.05; found 0.01"),
        (0.2, {"effect": 0.0}, "share + effect must lie between 0 and 1, and effect not be 0; found 0.0"),
        (0.2, {"effect": [0.1, 0.9]}, "share + effect must lie between 0 and 1, and effect not be 0; found 0.9"),
        (0.2, {"n": 1}, "n must be 2 or more units per group; found 1"),
        (0.2, {"n": []}, "n must be 2 or more units per group; found []"),
    ],
)
def test_what_cannot_be_planned(share: float, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RuleError) as error:
        jl.plan_experiment(share, **options)
    assert str(error.value) == f"plan_experiment: {words}"


# Funnels of two steps whose units are drawn, not walked; all are mature.
class Draws:
    def __init__(self, con: ibis.BaseBackend) -> None:
        rows = [
            {"customer_id": variant, "event": event, "timestamp": START, "variant": variant}
            for variant in ("new", "old")
            for event in ("a", "b")
        ]
        rules = jl.FunnelRules(["a", "b"], within="1D")
        self.real = jl.build_funnel(make_steps(rows, con=con), rules, by="variant", as_of="2026-03-01")

    def funnel(self, groups: dict[str, tuple[int, int]], n_young: int = 0) -> jl.Funnel:
        """Per group: how many started, and how many of them converted; and as many whose time is not over."""
        names = [name for name, (n, _) in groups.items() for _ in range(n + n_young)]
        ends = [START if i < x else None for n, x in groups.values() for i in range(n + n_young)]
        mature = [i < n for n, _ in groups.values() for i in range(n + n_young)]
        rows = {"group": pa.array(names, pa.string()), "is_open": [not known for known in mature], "is_mature": mature}
        rows |= {
            name: pa.array(times, pa.timestamp("us"))
            for name, times in (("time_1", [START] * len(ends)), ("time_2", ends))
        }
        sizes = pd.DataFrame({"variant": list(groups), "step": 1, "n": [n + n_young for n, _ in groups.values()]})
        return replace(self.real, units=ibis.memtable(pa.table(rows)), table=sizes)


@pytest.fixture
def draws(con: ibis.BaseBackend) -> Draws:
    return Draws(con)


def test_the_test_is_that_of_compare_funnels(draws: Draws) -> None:
    funnel = draws.funnel({"new": (400, 120), "old": (420, 84), "other": (50, 10)}, n_young=30)
    found = jl.compare_groups(funnel, "new", "old")
    row = found.iloc[0]
    against = jl.compare_funnels(funnel, baseline="old")
    expected = against[against["variant"] == "new"].iloc[0]
    for name in ("step", "label", "n", "n_reached", "share", "n_other", "n_reached_other", "share_other"):
        assert row[name] == expected[name], name
    for name in ("difference", "low", "high", "p"):
        assert row[name] == pytest.approx(expected[name]), name
    # Young ones are not tested, but whether the lot was kept shows in all.
    assert row[["group", "control", "n_started", "n_started_other"]].tolist() == ["new", "old", 430, 450]
    assert row["split_p"] == pytest.approx(2 * norm.sf(20 / 880**0.5))
    assert not row["is_mismatched"]
    assert power_by_hand(0.2, row["mde"], 400, 420) == pytest.approx(0.8, abs=0.01)
    assert jl.describe_groups(found, funnel) == (
        "30.0 % of 400 customers in new reached b, against 20.0 % of 420 in old: +10.0 pp (95 % interval +4.1 to "
        f"+15.9 pp), beyond chance; so many would mostly show a rise of +{100 * row['mde']:.1f} pp or more."
    )
    even = draws.funnel({"new": (100, 20), "old": (100, 21)})
    assert "(95 % interval −12.2 to +10.2 pp), no more than chance may bring; so many" in jl.describe_groups(
        jl.compare_groups(even, "new", "old"), even
    )


def test_groups_that_are_not_as_planned(draws: Draws) -> None:
    funnel = draws.funnel({"new": (1000, 100), "old": (1200, 120)})
    found = jl.compare_groups(funnel, "new", "old")
    assert found["is_mismatched"].iloc[0]
    assert jl.describe_groups(found, funnel) == (
        "The groups are not as planned: 1,000 customers in new and 1,200 in old are not what the lot would give "
        "(p = 2e-05); find out why before you trust any difference."
    )
    tenth = draws.funnel({"new": (110, 11), "old": (900, 90)})
    assert not jl.compare_groups(tenth, "new", "old", split=0.1)["is_mismatched"].iloc[0]
    assert jl.compare_groups(tenth, "new", "old")["is_mismatched"].iloc[0]


def test_few_or_none_that_convert(draws: Draws) -> None:
    few = draws.funnel({"new": (20, 5), "old": (20, 4)})
    found = jl.compare_groups(few, "new", "old")
    assert np.isnan(found["p"].iloc[0])
    assert jl.describe_groups(found, few) == (
        "Too few customers to compare: the time of 20 in new and 20 in old is over."
    )
    none = draws.funnel({"new": (50, 3), "old": (50, 0)})
    found = jl.compare_groups(none, "new", "old")
    # From no share at all nobody can say what would have been found.
    assert np.isnan(found["mde"].iloc[0])
    assert jl.describe_groups(found, none).endswith("no more than chance may bring.")


def test_errors(draws: Draws, con: ibis.BaseBackend) -> None:
    funnel = draws.funnel({"new": (20, 5), "old": (20, 4)})
    for names, options, words in (
        (("nev", "old"), {}, 'compare_groups: no group "nev". Did you mean "new"? The groups are new, old'),
        (
            ("old", "old"),
            {},
            'compare_groups: "old" is given twice; name the group with the change, then the one without',
        ),
        (("new", "old"), {"split": 50}, "compare_groups: split must lie between 0 and 1, such as 0.5; found 50"),
        (("new", "old"), {"step": 7}, "step must be a number from 2 to 2, the steps after the start; found 7"),
    ):
        with pytest.raises(RuleError) as error:
            jl.compare_groups(funnel, *names, **options)  # type: ignore[arg-type]
        assert str(error.value) == words
    steps = make_steps([{"customer_id": "k", "event": name, "timestamp": START} for name in "ab"], con=con)
    with pytest.raises(RuleError, match="build the funnel with by= the column of the groups"):
        jl.compare_groups(jl.build_funnel(steps, ["a", "b"]), "new", "old")


def test_it_finds_as_often_as_planned(draws: Draws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of a planned test: the effect is found at the planned power, none at alpha; the lot fails one in 1,000."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)
    rng, repeats = np.random.default_rng(4), 600 if FULL else 60
    n = int(jl.plan_experiment(0.3, effect=0.15)["n"].iloc[0])
    found = np.zeros(3)
    for _ in range(repeats):
        size = int(rng.binomial(2 * n, 0.5))
        shown = (size, int(rng.binomial(size, 0.45)))
        groups = {"new": shown, "old": (2 * n - size, int(rng.binomial(2 * n - size, 0.3)))}
        effect = jl.compare_groups(draws.funnel(groups), "new", "old").iloc[0]
        none = jl.compare_groups(draws.funnel({**groups, "old": (n, int(rng.binomial(n, 0.45)))}), "new", "old").iloc[0]
        found += [effect["p"] < 0.05, none["p"] < 0.05, effect["is_mismatched"]]
    power, alarms, mismatched = found / repeats
    print(f"n = {n} per group: power {power:.3f}, false alarms {alarms:.3f}, mismatched {mismatched:.4f}")
    assert power == pytest.approx(0.8, abs=3 * (0.16 / repeats) ** 0.5)
    assert alarms <= 0.05 + 3 * (0.0475 / repeats) ** 0.5
    assert mismatched <= 0.001 + 3 * (0.001 / repeats) ** 0.5
