"""Comparisons against plain Python; intervals, tests and the split of a change against known truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import START, Row, examples, fetch, make_steps, random_logs
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.comparison import compare_funnels, describe_comparison, split_change
from journeylab.errors import RuleError

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
DAY = timedelta(days=1)
Z = NormalDist().inv_cdf(0.975)
COLUMNS = [
    *("against", "step", "label", "base", "n", "n_reached", "share", "n_other", "n_reached_other", "share_other"),
    *("difference", "low", "high", "p", "p_adjusted", "is_small"),
]


def newcombe_by_hand(x: int, n: int, y: int, m: int) -> tuple[float, float]:
    """Newcombe (1998), method 10: the two Wilson intervals, squared and added."""
    p, q = x / n, y / m
    (p_low, p_high), (q_low, q_high) = (proportion_confint(*side, method="wilson") for side in ((x, n), (y, m)))
    return p - q - ((p - p_low) ** 2 + (q_high - q) ** 2) ** 0.5, p - q + ((q - q_low) ** 2 + (p_high - p) ** 2) ** 0.5


def p_by_hand(x: int, n: int, y: int, m: int) -> float:
    """Agresti and Caffo (2000): one success and one failure more on each side."""
    p, q = (x + 1) / (n + 2), (y + 1) / (m + 2)
    z = (p - q) / (p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2)) ** 0.5
    return 2 * (1 - NormalDist().cdf(abs(z)))


def holm_by_hand(values: Sequence[float]) -> list[float]:
    adjusted, worst = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        worst = max(worst, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = worst
    return adjusted


def count_by_hand(funnel: jl.Funnel) -> dict[str, list[int]]:
    """Units whose time is over, by group and step."""
    counts: dict[str, list[int]] = {}
    for unit in fetch(funnel.units):
        reached = counts.setdefault(unit["group"] if funnel.by else "", [0] * len(funnel.labels))
        if unit["is_mature"] if funnel.rules.within else not unit["is_open"]:
            for i in range(len(funnel.labels)):
                reached[i] += unit[f"time_{i + 1}"] is not None
    return counts


def compare_by_hand(
    one: Mapping[str, list[int]], two: Mapping[str, list[int]], base: str, min_n: int
) -> dict[tuple[str, int], dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for group in [*one, *(group for group in two if group not in one)]:
        nobody = [0] * len(next(iter(one.values())))
        mine, theirs = one.get(group, nobody), two.get(group, nobody)
        for step in range(1, len(mine)):
            whole = 0 if base == "start" else step - 1
            row = {"n": mine[whole], "n_reached": mine[step], "n_other": theirs[whole], "n_reached_other": theirs[step]}
            row["is_small"] = min(row["n"], row["n_other"]) < min_n
            four = (row["n_reached"], row["n"], row["n_reached_other"], row["n_other"])
            row["low"], row["high"] = newcombe_by_hand(*four) if row["n"] and row["n_other"] else (None, None)
            row["p"] = None if row["is_small"] else p_by_hand(*four)
            found[group, step + 1] = row
    tested = [key for key, row in found.items() if row["p"] is not None]
    for key, p in zip(tested, holm_by_hand([found[key]["p"] for key in tested]), strict=True):
        found[key]["p_adjusted"] = p
    return found


def assert_as_by_hand(table: pd.DataFrame, by: list[str], expected: Mapping[tuple[str, int], Row]) -> None:
    assert list(table.columns) == [*by, *COLUMNS]
    assert len(table) == len(expected)
    for row in table.to_dict("records"):
        hand = expected[row[by[0]] if by else "", row["step"]]
        for name in ("n", "n_reached", "n_other", "n_reached_other", "is_small"):
            assert row[name] == hand[name], name
        for name in ("low", "high", "p", "p_adjusted"):
            value = hand.get(name)
            assert row[name] == pytest.approx(np.nan if value is None else value, abs=1e-9, nan_ok=True), name
        if hand["n"] and hand["n_other"]:
            difference = hand["n_reached"] / hand["n"] - hand["n_reached_other"] / hand["n_other"]
            assert row["difference"] == pytest.approx(difference, abs=1e-12)
            assert row["share"] - row["share_other"] == pytest.approx(row["difference"], abs=1e-12)


def build(steps: ibis.Table, *, within: str | None = None, by: str | None = "channel", **options: Any) -> jl.Funnel:
    return jl.build_funnel(steps, jl.FunnelRules(["a", "b", "c"], within=within), by=by, **options)


WINDOWS = st.sampled_from((None, "30m", "2h"))
BASES = st.sampled_from(("start", "previous"))


@given(random_logs(columns=(), always=("channel",)), WINDOWS, BASES, st.sampled_from((1, 2)))
@examples(4)
def test_groups_against_all_others(rows: list[Row], within: str | None, base: Any, min_n: int) -> None:
    con = jl.connect(threads=2)
    names = {row["event"] for row in rows}
    if not {"a", "b", "c"} <= names:
        return
    # Two hours after the start some windows are over and others are not.
    funnel = build(make_steps(rows, con=con), within=within, as_of=str(START + timedelta(hours=3)))
    counts = count_by_hand(funnel)
    if counts:
        everyone = [sum(reached) for reached in zip(*counts.values(), strict=True)]
        others = {
            group: [all_ - own for all_, own in zip(everyone, reached, strict=True)]
            for group, reached in counts.items()
        }
        table = compare_funnels(funnel, base=base, min_n=min_n)
        assert_as_by_hand(table, ["channel"], compare_by_hand(counts, others, base, min_n))
        assert set(table["against"]) == {"(others)"}
        first = next(iter(counts))
        rest = {group: reached for group, reached in counts.items() if group != first}
        if rest:
            against = compare_funnels(funnel, base=base, min_n=min_n, baseline=first)
            assert_as_by_hand(
                against, ["channel"], compare_by_hand(rest, dict.fromkeys(rest, counts[first]), base, min_n)
            )
    con.disconnect()


@given(random_logs(columns=(), always=("channel",)), WINDOWS, BASES, st.sampled_from((None, "channel")))
@examples(4)
def test_two_periods(rows: list[Row], within: str | None, base: Any, by: str | None) -> None:
    con = jl.connect(threads=2)
    if {"a", "b", "c"} <= {row["event"] for row in rows}:
        steps = make_steps(rows, con=con)
        now, then = (build(steps, within=within, by=by, as_of=str(START + timedelta(hours=h))) for h in (6, 1))
        table = compare_funnels(now, then, base=base, min_n=2)
        one, two = count_by_hand(now), count_by_hand(then)
        if one:
            assert_as_by_hand(table, [by] if by else [], compare_by_hand(one, two, base, 2))
    con.disconnect()


# Channels ads and web; b within a day or never. Everybody starts on one of ten days.
def log_of(groups: Mapping[str, tuple[int, int, int]], *, begin: datetime = START) -> list[Row]:
    """Per channel: how many start, reach b an hour later, and c another hour later."""
    rows = []
    for group, (n, n_b, n_c) in groups.items():
        for i in range(n):
            events = ["a"] + ["b"] * (i < n_b) + ["c"] * (i < n_c)
            for hour, event in enumerate(events):
                time = begin + i % 10 * DAY + hour * timedelta(hours=1)
                rows.append({"customer_id": f"{group}{i}", "event": event, "timestamp": time, "channel": group})
    return rows


def test_golden(con: ibis.BaseBackend) -> None:
    groups = {"web": (100, 60, 30), "ads": (80, 24, 4), "app": (20, 12, 6)}
    funnel = build(make_steps(log_of(groups), con=con), within="1D", as_of="2026-03-01")
    table = compare_funnels(funnel)
    # app has 20 starts: flagged, not tested, last. The surest difference is ads at b: 24 of 80 against 72 of 120.
    assert table[["channel", "step"]].to_numpy().tolist()[-2:] == [["app", 2], ["app", 3]]
    assert table["is_small"].tolist() == [False] * 4 + [True] * 2
    assert table["p_adjusted"].notna().tolist() == [True] * 4 + [False] * 2
    top = table.iloc[0]
    assert (top["channel"], top["label"], top["base"], top["against"]) == ("ads", "c", "start", "(others)")
    ads_at_b = table[(table["channel"] == "ads") & (table["step"] == 2)].iloc[0]
    assert (ads_at_b["n"], ads_at_b["n_reached"], ads_at_b["n_other"], ads_at_b["n_reached_other"]) == (80, 24, 120, 72)
    assert ads_at_b["difference"] == pytest.approx(0.3 - 0.6)
    four = ((24, 80, 72, 120), (4, 80, 36, 120), (60, 100, 36, 100), (30, 100, 10, 100))
    assert ads_at_b[["low", "high"]].tolist() == pytest.approx(newcombe_by_hand(*four[0]))
    tested = table[~table["is_small"]]
    values = [p_by_hand(*counts) for counts in four]
    assert sorted(tested["p"]) == pytest.approx(sorted(values))
    assert sorted(tested["p_adjusted"]) == pytest.approx(sorted(holm_by_hand(values)))
    # Of those who came to b: 4 of 24 against 36 of 72. 24 are too few to test.
    previous = compare_funnels(funnel, base="previous")
    ads_at_c = previous[(previous["channel"] == "ads") & (previous["step"] == 3)].iloc[0]
    assert (ads_at_c["n"], ads_at_c["n_reached"], ads_at_c["n_other"], ads_at_c["n_reached_other"]) == (24, 4, 72, 36)
    assert ads_at_c["is_small"]
    assert np.isnan(ads_at_c["p"])
    assert describe_comparison(table, funnel) == (
        "Of the 80 customers of channel ads who started at a and were watched for 1D, 5.0 % reached c, against 30.0 % "
        "of 120 of the others: −25.0 pp (95 % interval −34.2 to −14.6 pp)."
    )
    against_web = compare_funnels(funnel, baseline="web")
    assert set(against_web["channel"]) == {"ads", "app"}
    assert against_web.iloc[0][["channel", "against", "n_other", "n_reached_other"]].tolist() == ["ads", "web", 100, 30]


def test_only_units_whose_time_is_over(con: ibis.BaseBackend) -> None:
    """Starts lie on ten days, the end on the fifth: with a window only the first four days' are mature."""
    steps = make_steps(log_of({"web": (100, 60, 30), "ads": (80, 24, 4)}), con=con)
    end = str(START + 4 * DAY + timedelta(hours=3))
    table = compare_funnels(build(steps, within="1D", as_of=end), min_n=1).set_index(["channel", "step"])
    assert table.loc[("web", 2), ["n", "n_reached"]].tolist() == [40, 24]
    # Without a window and silent for less than 30 days: only who has converted is known, and that is what is said.
    table = compare_funnels(build(steps, as_of=end), min_n=1).set_index(["channel", "step"])
    assert table.loc[("web", 3), ["n", "n_reached"]].tolist() == [15, 15]
    # A whole month later everybody's time is over.
    table = compare_funnels(build(steps, as_of="2026-03-01")).set_index(["channel", "step"])
    assert table.loc[("web", 3), ["n", "n_reached"]].tolist() == [100, 30]


def test_sentences_when_nothing_is_found(con: ibis.BaseBackend) -> None:
    steps = make_steps(log_of({"web": (60, 30, 10), "ads": (60, 30, 10)}), con=con)
    funnel, alone = build(steps, as_of="2026-03-01"), build(steps, by=None, as_of="2026-03-01")
    assert describe_comparison(compare_funnels(funnel), funnel) == (
        "No channel differs from the others beyond chance (4 comparisons)."
    )
    assert describe_comparison(compare_funnels(funnel, min_n=100), funnel) == (
        "Too few customers to compare: on one side or the other, too few of them have had their time."
    )
    again = build(steps, by=None, as_of="2026-03-01")
    assert describe_comparison(compare_funnels(alone, again), alone) == (
        "The funnel at no step differs from the other funnel beyond chance (2 comparisons)."
    )
    better = build(make_steps(log_of({"web": (120, 90, 60)}), con=con), by=None, as_of="2026-03-01")
    assert describe_comparison(compare_funnels(better, alone, base="previous"), better) == (
        "Of the 90 customers who reached the step before and are not still on the way, 66.7 % reached c, against "
        "33.3 % of 60 of the other funnel: +33.3 pp (95 % interval +17.1 to +47.2 pp)."
    )


def test_errors(con: ibis.BaseBackend) -> None:
    steps = make_steps(log_of({"web": (9, 6, 3), "ads": (8, 4, 4)}), con=con)
    funnel = build(steps, within="1D")
    with pytest.raises(RuleError) as error:
        compare_funnels(funnel, build(steps, within="2D", by=None))
    assert str(error.value) == (
        "compare_funnels: the two funnels ask different questions: within ('1D' and '2D'); by (('channel',) and ()). "
        "Build both with the same rules and the same by="
    )
    with pytest.raises(RuleError) as error:
        compare_funnels(funnel, baseline="wed")
    assert str(error.value) == 'compare_funnels: no group "wed". Did you mean "web"? The groups are web, ads'
    with pytest.raises(RuleError, match="leave it out when you compare two"):
        compare_funnels(funnel, funnel, baseline="web")
    with pytest.raises(RuleError, match='build the funnel with by=, such as by="channel", or give a second one'):
        compare_funnels(build(steps, by=None))
    with pytest.raises(RuleError, match='base must be "start" or "previous"; found "first"'):
        compare_funnels(funnel, base="first")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match='split_change needs groups: build both funnels with by=, such as by="channel"'):
        split_change(build(steps, by=None), build(steps, by=None))
    with pytest.raises(RuleError, match="0 and 0 starts whose time is over; both sides need some"):
        split_change(build(steps, within="60D"), build(steps, within="60D"))
    mixed = make_steps([row | {"mix": row["channel"]} for row in log_of({"web": (9, 6, 3)})], con=con)
    with pytest.raises(RuleError, match='split_change: "mix" is a column of the answer itself; rename yours'):
        split_change(build(mixed, by="mix"), build(mixed, by="mix"))


# Simulations: many funnels, each drawn from known shares. They differ from one real funnel in their units alone.
class Draws:
    """Funnels of two steps whose units are drawn, not walked."""

    def __init__(self, con: ibis.BaseBackend) -> None:
        steps = make_steps(log_of({"web": (2, 1, 1)}), con=con)
        self.real = jl.build_funnel(steps, jl.FunnelRules(["a", "b"], within="1D"), by="channel", as_of="2026-03-01")

    def funnel(self, groups: Mapping[str, tuple[int, int]]) -> jl.Funnel:
        """Per group: how many started, and how many of them converted. All are mature."""
        names = [name for name, (n, _) in groups.items() for _ in range(n)]
        ends = [START if i < x else None for n, x in groups.values() for i in range(n)]
        times = pa.array(ends, type=pa.timestamp("us"))
        # No rows of unit, customer and position: nothing here asks for them.
        rows = pa.table(
            {
                "group": pa.array(names, type=pa.string()),
                "is_open": [False] * len(names),
                "is_mature": [True] * len(names),
                "time_1": pa.array([START] * len(names), type=pa.timestamp("us")),
                "time_2": times,
            }
        )
        units = ibis.memtable(rows)
        return replace(self.real, units=units, table=pd.DataFrame({"channel": list(groups)}))


@pytest.fixture
def draws(con: ibis.BaseBackend) -> Draws:
    return Draws(con)


@pytest.mark.parametrize(("n", "m", "p", "q"), [(40, 60, 0.1, 0.3), (100, 50, 0.5, 0.5), (35, 400, 0.05, 0.02)])
def test_newcombe_covers_at_its_rate(draws: Draws, n: int, m: int, p: float, q: float) -> None:
    """Each group is a draw of its own; 95 % of the intervals hold the true difference."""
    rng, repeats = np.random.default_rng(7), 10_000 if FULL else 800
    one = {str(i): (n, int(x)) for i, x in enumerate(rng.binomial(n, p, repeats))}
    two = {str(i): (m, int(x)) for i, x in enumerate(rng.binomial(m, q, repeats))}
    table = compare_funnels(draws.funnel(one), draws.funnel(two))
    covered = ((table["low"] <= p - q) & (p - q <= table["high"])).mean()
    assert 0.93 <= covered <= 0.985
    print(f"Newcombe {n} {m} {p} {q}: {covered:.3f}")


def test_holm_keeps_the_family_wise_error(draws: Draws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six groups, no difference: at most one table in twenty names any; without the adjustment one in four would."""
    # statsmodels collects garbage in each call, which takes five times as long as all else.
    monkeypatch.setattr("gc.collect", lambda *_: 0)
    rng, repeats = np.random.default_rng(11), 2_000 if FULL else 120
    found = np.zeros(2)
    for _ in range(repeats):
        sizes = rng.integers(40, 200, 6)
        table = compare_funnels(
            draws.funnel({f"g{i}": (int(n), int(rng.binomial(n, 0.3))) for i, n in enumerate(sizes)})
        )
        found += [(table["p_adjusted"] < 0.05).any(), (table["p"] < 0.05).any()]
    adjusted, naive = found / repeats
    print(f"family-wise error: {adjusted:.3f}, without Holm {naive:.3f}")
    assert adjusted <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5
    assert naive > 0.15


# The split of a change.
def test_golden_split(draws: Draws) -> None:
    """By hand: shares of starts 0.75 / 0.25 before and 0.25 / 0.75 now; web 40 % -> 40 %, ads 20 % -> 10 %."""
    before = draws.funnel({"web": (300, 120), "ads": (100, 20)})
    table = split_change(draws.funnel({"web": (100, 40), "ads": (300, 30)}), before).set_index("channel")
    assert list(table.index) == ["web", "ads", "(all)"]
    # Overall 35 % -> 17.5 %, mean 26.25 %. web: (0.25 - 0.75) * (0.40 - 0.2625), ads: 0.5 * (0.15 - 0.2625).
    assert table["mix"].tolist() == pytest.approx([-0.06875, -0.05625, -0.125])
    assert table["rate"].tolist() == pytest.approx([0, -0.05, -0.05])
    assert table["change"].tolist() == pytest.approx([-0.06875, -0.10625, -0.175])
    assert table.loc["(all)", ["n", "conversion", "n_before", "conversion_before"]].tolist() == [400, 0.175, 400, 0.35]
    assert table.loc["web", ["share_of_starts", "share_of_starts_before"]].tolist() == [0.25, 0.75]
    low, high = newcombe_by_hand(70, 400, 140, 400)
    assert table.loc["(all)", ["change_low", "change_high"]].tolist() == pytest.approx([low, high])
    assert table.loc[["web", "ads"], ["mix_low", "rate_high", "change_low"]].isna().all(axis=None)


def test_new_and_gone_groups_are_mix(draws: Draws) -> None:
    before = draws.funnel({"web": (50, 10), "mail": (50, 20), "idle": (0, 0)})
    table = split_change(draws.funnel({"web": (50, 10), "tv": (50, 5), "idle": (0, 0)}), before).set_index("channel")
    assert list(table.index) == ["web", "tv", "idle", "mail", "(all)"]
    assert table["rate"].tolist() == [0, 0, 0, 0, 0]
    # Overall 30 % -> 15 %, mean 22.5 %; tv brings 0.5 * (0.1 - 0.225), mail takes away 0.5 * (0.4 - 0.225).
    assert table["mix"].tolist() == pytest.approx([0, -0.0625, 0, -0.0875, -0.15])
    assert table.loc["tv", ["n_before", "share_of_starts_before"]].tolist() == [0, 0]
    assert np.isnan(table.loc["tv", "conversion_before"])
    assert np.isnan(table.loc["idle", "conversion"])
    assert table.loc["(all)", "mix_low"] < -0.15 < table.loc["(all)", "mix_high"]
    assert table.loc["(all)", ["rate_low", "rate_high"]].abs().max() < 0.15


COUNTS = st.dictionaries(
    st.sampled_from("uvwxyz"),
    st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    min_size=1,
).filter(lambda groups: any(n for n, _ in groups.values()))


@given(one=COUNTS, two=COUNTS)
@examples(12)
def test_the_split_is_exact(draws: Draws, one: dict[str, tuple[int, int]], two: dict[str, tuple[int, int]]) -> None:
    table = split_change(draws.funnel(one), draws.funnel(two))
    back = split_change(draws.funnel(two), draws.funnel(one)).set_index("channel")
    groups, total = table.iloc[:-1], table.iloc[-1]
    (n1, x1), (n0, x0) = ([sum(pair[i] for pair in side.values()) for i in (0, 1)] for side in (one, two))
    assert total["mix"] + total["rate"] == pytest.approx(x1 / n1 - x0 / n0, abs=1e-12)
    for name in ("mix", "rate", "change"):
        assert groups[name].sum() == pytest.approx(total[name], abs=1e-12)
        assert total[f"{name}_low"] <= total[name] + 1e-12 <= total[f"{name}_high"] + 2e-12
        # The way back is the same change with the other sign, group by group.
        assert -back[name][table["channel"]].to_numpy() == pytest.approx(table[name].to_numpy(), abs=1e-12)
    assert groups["n"].sum() == n1
    assert groups["n_before"].sum() == n0


@pytest.mark.parametrize(
    ("shares", "shares_before", "rates", "rates_before"),
    [
        ((0.5, 0.3, 0.2), (0.2, 0.3, 0.5), (0.4, 0.2, 0.1), (0.4, 0.2, 0.1)),  # mix alone
        ((0.4, 0.4, 0.2), (0.4, 0.4, 0.2), (0.4, 0.3, 0.2), (0.3, 0.2, 0.1)),  # rate alone
        ((0.6, 0.3, 0.1), (0.3, 0.3, 0.4), (0.1, 0.5, 0.05), (0.3, 0.4, 0.02)),  # both, against each other
        ((0.5, 0.5, 0.0), (0.4, 0.3, 0.3), (0.2, 0.3, 0.5), (0.3, 0.3, 0.5)),  # a group is gone
    ],
)
def test_the_intervals_of_the_split_cover(
    draws: Draws,
    shares: Sequence[float],
    shares_before: Sequence[float],
    rates: Sequence[float],
    rates_before: Sequence[float],
) -> None:
    truth = split_by_hand(shares, shares_before, rates, rates_before)
    rng, repeats = np.random.default_rng(3), 2_000 if FULL else 40
    covered = np.zeros(3)
    for _ in range(repeats):
        sides = []
        for n, w, r in ((350, shares, rates), (250, shares_before, rates_before)):
            sizes = rng.multinomial(n, w)
            sides.append(
                draws.funnel(
                    {name: (int(k), int(rng.binomial(k, p))) for name, k, p in zip("uvw", sizes, r, strict=True)}
                )
            )
        total = split_change(*sides).iloc[-1]
        covered += [total[f"{name}_low"] <= truth[name] <= total[f"{name}_high"] for name in truth]
    covered /= repeats
    print("mix, rate, change:", covered)
    assert (covered >= 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5).all()
    assert (covered <= 0.999 if FULL else covered <= 1).all()


def split_by_hand(
    shares: Sequence[float], shares_before: Sequence[float], rates: Sequence[float], rates_before: Sequence[float]
) -> dict[str, float]:
    mix = rate = 0.0
    for w1, w0, r1, r0 in zip(shares, shares_before, rates, rates_before, strict=True):
        r1, r0 = (r1 if w1 else r0), (r0 if w0 else r1)
        mix += (w1 - w0) * (r1 + r0) / 2
        rate += (w1 + w0) / 2 * (r1 - r0)
    return {"mix": mix, "rate": rate, "change": mix + rate}
