"""What goes with going on: counts against a walk along the events, findings against simulated truth."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta
from math import comb, exp, log, sqrt
from statistics import median
from typing import Any, NamedTuple

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ENDS, START, Row, drop_tables, examples, fetch, group_rows, make_steps, random_logs
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.explain import describe_explanation, explain_drop_off
from journeylab.formats import format_duration
from journeylab.schema import PROBLEM, ROW, TIME

IS_FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
RULES = jl.JourneyRules(journey_gap="2h", session_gap="30m")
UNIT_COLUMN = {"customer": "customer_id", "journey": "journey_id", "attempt": "customer_id"}
SECOND = timedelta(seconds=1)


@st.composite
def random_questions(draw: st.DrawFn) -> tuple[jl.FunnelRules, int, str | None]:
    steps = draw(st.lists(st.sampled_from(("a", "b", "c")), min_size=2, max_size=3))
    rules = jl.FunnelRules(
        steps,
        within=draw(st.sampled_from((None, "2h", "5h"))),
        unit=draw(st.sampled_from(tuple(UNIT_COLUMN))),
        dormant_after=draw(st.sampled_from(("2h", "5h"))),
    )
    return rules, draw(st.integers(1, len(steps) - 1)), draw(st.sampled_from((None, "10m", "30m")))


def with_all_names(rows: list[Row]) -> list[Row]:
    late = {**rows[0], "customer_id": "late", "timestamp": START + timedelta(hours=5), "channel": None, "plan": None}
    plans = ("free", "pro", None)
    rows = [{**row, "plan": plans[i % 3] if row["customer_id"] < "b" else "free"} for i, row in enumerate(rows)]
    return rows + [{**late, "event": event} for event in "dcba"]


def count_by_hand(
    steps: list[Row], funnel: jl.Funnel, step: int, landmark: str | None
) -> dict[tuple[str, str, str], tuple[float, int, int, int, int]]:
    """(kind, name, value) → (after_s, n_with, n_with_next, n, n_next), where anybody has it."""
    rules, as_of = funnel.rules, funnel.as_of
    of_unit = group_rows((row for row in steps if row["timestamp"] <= as_of), UNIT_COLUMN[rules.unit])
    horizon = timedelta(seconds=rules.dormant_s)
    watched = []
    for unit in fetch(funnel.units):
        since, until = unit[f"time_{step}"], unit[f"time_{step + 1}"]
        if since is None or not (unit["is_mature"] if rules.within else as_of - since >= horizon):
            continue
        has_next = until is not None and (rules.within is not None or until - since <= horizon)
        watched.append((unit, since, until, has_next))
    exposed: dict[tuple[str, str, str], list[bool]] = {}
    found = {}

    def settle(after_s: float, units: list[Any]) -> None:
        for key, fates in exposed.items():
            found[key] = (after_s, len(fates), sum(fates), len(units), sum(unit[-1] for unit in units))
        exposed.clear()

    for unit, since, _, has_next in watched:
        here = min(
            (r for r in of_unit[unit["unit"]] if r["timestamp"] == since and r["event"] == rules.steps[step - 1]),
            key=lambda row: row["position"],
        )
        for name in ("channel", "plan"):
            exposed.setdefault(("property", name, here[name] or "(none)"), []).append(has_next)
    for name in ("channel", "plan"):
        keys = [key for key in exposed if key[1] == name]
        if len(keys) == 2:
            del exposed[max(keys, key=lambda key: (len(exposed[key]), [-ord(letter) for letter in key[2]]))]
    settle(0, watched)

    times = [(until - since) / SECOND for _, since, until, has_next in watched if has_next]
    if landmark is None and (not times or median(times) < 1e-6):
        return found
    after = timedelta(microseconds=int(median(times) * 1e6 + 1e-3)) if landmark is None else None
    after = after or timedelta(minutes=int(landmark.removesuffix("m")))
    there = []
    for unit, since, until, has_next in watched:
        lost = unit["lost_time"]
        if (until is None or until - since > after) and (lost is None or lost - since > after):
            rows = [r for r in of_unit[unit["unit"]] if timedelta(0) < r["timestamp"] - since <= after]
            there.append((rows, since, has_next))
    n_events = median([len(rows) for rows, *_ in there]) if there else 0
    active = [max((row["timestamp"] - since for row in rows), default=timedelta(0)) for rows, since, _ in there]
    active_s = median([time / SECOND for time in active]) if there else 0
    kinds = [("n_events", f"more than {int(n_events)}"), ("active_s", f"more than {format_duration(active_s)}")]
    exposed |= {("time", name, value): [] for name, value in kinds}
    for (rows, _, has_next), time in zip(there, active, strict=True):
        names = [row["event"] for row in rows]
        for name in set(names):
            is_again, is_twice = name in rules.steps[:step], names.count(name) > 1
            key = ("repeat", name, "again") if is_again else ("event", name, "once or more")
            exposed.setdefault(key, []).append(has_next)
            if is_twice:
                value = "again, twice or more" if is_again else "twice or more"
                exposed.setdefault(("repeat", name, value), []).append(has_next)
        for name in {row["channel"] for row in rows} - {None}:
            exposed.setdefault(("channel", "channel", name), []).append(has_next)
        if len(rows) > n_events:
            exposed["time", *kinds[0]].append(has_next)
        if time / SECOND > active_s:
            exposed["time", *kinds[1]].append(has_next)
    settle(after / SECOND, there)
    return found


@examples(3)
@given(
    rows=random_logs(columns=("journey_id",), always=("channel",)).map(with_all_names),
    question=random_questions(),
    as_of=ENDS,
)
def test_counts_are_those_of_a_walk(
    con: ibis.BaseBackend, rows: list[Row], question: tuple[jl.FunnelRules, int, str | None], as_of: datetime | None
) -> None:
    rules, step, landmark = question
    steps = make_steps(rows, RULES, con=con)
    funnel = jl.build_funnel(steps, rules, as_of=as_of)
    table = explain_drop_off(steps, funnel, step=step, landmark=landmark, properties=["plan"], min_support=3)
    expected = count_by_hand(fetch(steps), funnel, step, landmark)
    found = {}
    for row in table.itertuples():
        n, n_next = row.n_with + row.n_without, 0
        n_next += round(row.share_with * row.n_with) if row.n_with else 0
        n_with_next = n_next
        n_next += round(row.share_without * row.n_without) if row.n_without else 0
        found[row.kind, row.name, row.value] = (row.after_s, row.n_with, n_with_next, n, n_next)
        assert row.is_small == (min(row.n_with, row.n_without) < 3)
        assert (row.step, row.label, row.next_label) == (step, funnel.labels[step - 1], funnel.labels[step])
    assert found == pytest.approx(expected) if not expected else found.keys() == expected.keys()
    for key, counts in expected.items():
        assert found[key] == pytest.approx(counts), key
    assert_ranked(table)
    drop_tables(con)


def assert_ranked(table: pd.DataFrame) -> None:
    tested = table[~table["is_small"]]
    assert table["is_small"].is_monotonic_increasing
    assert tested["rank"].tolist() == list(range(1, len(tested) + 1))
    assert table.loc[table["is_small"], ["p", "q", "rank"]].isna().all(axis=None)
    surest = np.fmax(tested["low"], -tested["high"])
    assert surest.is_monotonic_decreasing
    if len(tested):
        np.testing.assert_allclose(tested["q"], multipletests(tested["p"], method="fdr_bh")[1])


def make_log(con: ibis.BaseBackend, histories: dict[str, str], **columns: dict[str, str]) -> ibis.Table:
    """One event an hour, "." for an hour without."""
    rows = [
        {"customer_id": customer, "event": event, "timestamp": START + timedelta(hours=hour)}
        | {name: values[customer] for name, values in columns.items()}
        for customer, history in histories.items()
        for hour, event in enumerate(history)
        if event != "."
    ]
    return make_steps(rows, con=con)


def many(**kinds: tuple[str, int]) -> dict[str, str]:
    return {f"{name}{i}": history for name, (history, n) in kinds.items() for i in range(n)}


def test_figures_of_a_small_log_by_hand(con: ibis.BaseBackend) -> None:
    """Twelve did h within two hours and 9 of them went on; of 16 others 3. Nine went on in two hours or less."""
    histories = many(
        hb=("ah.b", 9),
        h=("ah..", 3),
        b=("a..b", 3),
        q=("ab", 5),
        e=("a.b", 4),
        # After the landmark, when others have gone on already, h does not count.
        n=("a..h", 13),
    )
    steps = make_log(con, histories)
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "b"], within="1D"), as_of="2026-12-31")
    table = explain_drop_off(steps, funnel, landmark="2h", min_support=10)
    row = table.iloc[0]
    assert row[["label", "next_label", "after_s", "kind", "name", "value"]].tolist() == [
        *("a", "b", 7200.0, "event", "h", "once or more")
    ]
    assert row[["n_with", "n_without", "share_with", "share_without"]].tolist() == [12, 16, 9 / 12, 3 / 16]
    assert row["difference"] == pytest.approx(9 / 12 - 3 / 16)
    assert row[["low", "high"]].tolist() == pytest.approx(
        list(confint_proportions_2indep(9, 12, 3, 16, method="newcomb"))
    )
    odds, spread = 9 * 13 / (3 * 3), 1.959964 * sqrt(1 / 9 + 1 / 3 + 1 / 3 + 1 / 13)
    assert row[["odds_ratio", "odds_low", "odds_high"]].tolist() == pytest.approx(
        [odds, exp(log(odds) - spread), exp(log(odds) + spread)], rel=1e-5
    )
    # Of 28 units 12 went on; the tables that are no likelier than this one.
    chances = {k: comb(12, k) * comb(16, 12 - k) / comb(28, 12) for k in range(13)}
    assert row["p"] == pytest.approx(sum(chance for chance in chances.values() if chance <= chances[9] * (1 + 1e-9)))
    assert row["is_finding"]
    assert describe_explanation(table, funnel) == (
        "Of 28 customers who reached a and had not gone on 2 h later, those who had done h once or more by then went "
        "on to b in 75.0 % of cases, the others in 18.8 % (difference +56.2 pp, 95 % interval +19.0 to +76.4 pp); 3 of "
        "3 differences tested are findings. Both sides were watched for the same time, so this is no effect of having "
        "had longer; but it says what goes with going on from a to b, not what brings it about."
    )


def test_a_zero_cell_has_odds_all_the_same(con: ibis.BaseBackend) -> None:
    steps = make_log(con, many(x=("ah.b", 6), n=("a..b", 2), m=("a...", 4)))
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "b"], within="1D"), as_of="2026-12-31")
    row = explain_drop_off(steps, funnel, landmark="1h").iloc[0]
    # 6 and 0, 2 and 4: half a unit more in each of the four cells.
    assert row["odds_ratio"] == pytest.approx(6.5 * 4.5 / (0.5 * 2.5))
    assert row[["share_with", "share_without"]].tolist() == [1, 1 / 3]
    assert row["is_small"]
    assert pd.isna(row["p"])


def test_loops_repeats_and_time(con: ibis.BaseBackend) -> None:
    steps = make_log(con, many(l=("ab.a..c", 2), r=("ab.h.h", 3), g=("ab.....c", 4)))
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "b", "c"], within="1D"), as_of="2026-12-31")
    table = explain_drop_off(steps, funnel, step="b", landmark="4h")
    found = {(row.kind, row.name, row.value): (row.n_with, row.share_with) for row in table.itertuples()}
    assert found == {
        ("repeat", "a", "again"): (2, 1.0),
        ("event", "h", "once or more"): (3, 0.0),
        ("repeat", "h", "twice or more"): (3, 0.0),
        # Most did one thing or nothing; the median of active time is the two hours of those who went back.
        ("time", "n_events", "more than 1"): (3, 0.0),
        ("time", "active_s", "more than 2 h"): (3, 0.0),
    }


def test_who_runs_out_of_time_before_the_landmark_is_not_watched_alike(con: ibis.BaseBackend) -> None:
    # Four hours from a. Two hours after b, k and m still have one of them; l came to b when an hour was left.
    steps = make_log(con, many(k=("abh..", 2), l=("a..b", 3), m=("ab..c", 1)))
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "b", "c"], within="4h"), as_of="2026-12-31")
    table = explain_drop_off(steps, funnel, step="b", landmark="2h").set_index("kind")
    assert table.loc["event", ["name", "n_with", "n_without", "share_without"]].tolist() == ["h", 2, 1, 1.0]


def test_of_the_same_event_twice_at_an_instant_the_first_is_the_step(con: ibis.BaseBackend) -> None:
    rows = [{"customer_id": "k", "event": "a", "timestamp": START, "channel": name} for name in ("web", "app", "ads")]
    rows.append({"customer_id": "l", "event": "b", "timestamp": START + timedelta(days=60), "channel": "web"})
    steps = make_steps(rows, con=con)
    table = explain_drop_off(steps, jl.build_funnel(steps, ["a", "b"]))
    assert table[["kind", "value", "n_with"]].to_numpy().tolist() == [["property", "web", 1]]


def test_the_step_asked_for(con: ibis.BaseBackend) -> None:
    steps = make_log(con, many(x=("abc", 3), y=("ab.", 2), z=("a..", 4)))
    funnel = jl.build_funnel(steps, ["a", "b", "c"], as_of="2026-12-31")
    labels = [explain_drop_off(steps, funnel, step=step)["label"].unique().tolist() for step in (None, 1, 2, "b")]
    # Most are lost at a.
    assert labels == [["a"], ["a"], ["b"], ["b"]]


def test_properties_are_those_at_the_step(con: ibis.BaseBackend) -> None:
    rows = [
        {"customer_id": f"{plan}{i}", "event": event, "timestamp": START + timedelta(hours=hour), "plan": value}
        for plan, n, n_next in (("pro", 4, 3), ("free", 5, 1))
        for i in range(n)
        for hour, event, value in ((0, "a", plan), (1, "b" if i < n_next else "x", "later"))
    ]
    steps = make_steps(rows, con=con)
    funnel = jl.build_funnel(steps, ["a", "b"], as_of="2026-12-31")
    table = explain_drop_off(steps, funnel, properties=["plan"], min_support=1)
    row = table[table["kind"] == "property"].iloc[0]
    # Of two values the rarer: the other row would say the same again.
    assert (table["kind"] == "property").sum() == 1
    assert row[["name", "value", "after_s", "n_with", "n_without"]].tolist() == ["plan", "pro", 0, 4, 5]
    assert row[["share_with", "share_without"]].tolist() == [3 / 4, 1 / 5]


def test_without_a_window_all_are_watched_alike(con: ibis.BaseBackend) -> None:
    """Thirty days for each: who came lately is left out, though he went on; who went on later than that did not."""
    days = {"old": (0, 5), "slow": (0, 35), "never": (0, None), "new": (40, 41)}
    rows = [
        {"customer_id": name, "event": event, "timestamp": START + timedelta(days=day), "channel": name}
        for name, times in days.items()
        for event, day in zip("ab", times, strict=True)
        if day is not None
    ]
    steps = make_steps(rows, con=con)
    funnel = jl.build_funnel(steps, ["a", "b"], as_of=START + timedelta(days=60))
    table = explain_drop_off(steps, funnel)
    shares = table[table["kind"] == "property"].set_index("value")["share_with"].to_dict()
    assert shares == {"old": 1, "slow": 0, "never": 0}


def test_six_customers_are_too_few(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, ["shop", "cart", "pay"])
    table = explain_drop_off(six, funnel)
    assert table["is_small"].all()
    assert describe_explanation(table, funnel) == (
        "Too few customers to compare: nothing that they did or were has enough of them on both sides."
    )


def test_nobody_has_been_watched(six: ibis.Table) -> None:
    funnel = jl.build_funnel(six, jl.FunnelRules(["shop", "cart"], within="7D"), as_of="2025-01-01")
    table = explain_drop_off(six, funnel)
    assert table.empty
    assert {"kind", "difference", "q", "rank"} <= set(table.columns)
    assert describe_explanation(table, funnel).startswith("Too few customers")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"step": "chart"},
            "explain_drop_off: step must be one that units go on from: 1 (shop), 2 (cart); found 'chart'. "
            'Did you mean "cart"?',
        ),
        ({"step": 3}, "explain_drop_off: step must be one that units go on from: 1 (shop), 2 (cart); found 3."),
        (
            {"landmark": "7D"},
            "explain_drop_off: landmark must leave time to go on; found '7D', and units are watched for 7 d",
        ),
        (
            {"properties": ["chanel"]},
            'explain_drop_off: no column "chanel" in steps. Did you mean "channel"? The columns are customer_id, '
            "event, timestamp, channel, value, journey_id, session_id, stage, position, rank, step, gap_s, next_event",
        ),
    ],
)
def test_questions_are_refused(six: ibis.Table, options: dict[str, Any], message: str) -> None:
    funnel = jl.build_funnel(six, jl.FunnelRules(["shop", "cart", "pay"], within="7D"))
    with pytest.raises(RuleError) as caught:
        explain_drop_off(six, funnel, **options)
    assert str(caught.value) == message


# Simulated truth. Each customer starts at a; other events happen at a constant rate until b, or to the end of the week.
DAY, WINDOW_DAYS, NOISE = 86_400, 7.0, 8


class Simulated(NamedTuple):
    """Runs that share one log and one funnel, and whether the naive correlation finds anything in each."""

    steps: ibis.Table
    funnel: jl.Funnel
    naive_finds: list[bool]

    def explain(self, run: int, **options: Any) -> pd.DataFrame:
        units = self.funnel.units.filter(self.funnel.units.group == str(run))
        return explain_drop_off(self.steps, replace(self.funnel, by=(), units=units), step=1, **options)


def simulate(con: ibis.BaseBackend, *, n_runs: int, n: int, seed: int, gain: float | None = None) -> Simulated:
    """Half convert, soon or late, whatever else they do.

    With `gain` a fifth converts on the first day, and of the others a quarter later; help, which comes to four of ten
    on the first day, adds the gain to that quarter.
    """
    rng = np.random.default_rng(seed)
    size = n_runs * n
    run = np.repeat(np.arange(n_runs), n)
    start = rng.uniform(0, 20, size)
    if gain is None:
        until = np.where(rng.random(size) < 0.5, rng.exponential(1.5, size), np.inf)
        extra = np.full(size, np.inf)
    else:
        extra = np.where(rng.random(size) < 0.4, rng.random(size), np.inf)
        later = rng.random(size) < 0.25 + gain * np.isfinite(extra)
        until = np.where(later, rng.uniform(1, WINDOW_DAYS, size), np.inf)
        until = np.where(rng.random(size) < 0.2, rng.random(size), until)
    until[until > WINDOW_DAYS] = np.inf
    watched = np.minimum(until, WINDOW_DAYS)
    counts = rng.poisson(0.4 * watched[:, None], (size, NOISE))
    who, kind = (
        np.repeat(np.arange(size), counts.sum(axis=1)),
        np.repeat(np.tile(np.arange(NOISE), size), counts.ravel()),
    )
    finished, helped = np.flatnonzero(np.isfinite(until)), np.flatnonzero(extra < watched)
    parts = [
        (np.arange(size), np.zeros(size), np.full(size, "a")),
        (who, rng.random(len(who)) * watched[who], np.char.add("noise", kind.astype(str))),
        (helped, extra[helped], np.full(len(helped), "help")),
        (finished, until[finished], np.full(len(finished), "b")),
    ]
    unit, day, event = (np.concatenate([part[i] for part in parts]) for i in range(3))
    micros = ((start[unit] + day) * DAY * 1e6).astype("int64")
    table = pa.table(
        {
            "customer_id": np.char.add("k", unit.astype(str)),
            "event": event,
            "timestamp": pa.array(np.datetime64(START, "us") + micros.astype("timedelta64[us]")),
            "channel": rng.choice(["web", "app", "shop"], len(unit)),
            "device": rng.choice(["phone", "tablet", "desk"], len(unit)),
            "run": run[unit].astype(str),
            PROBLEM: pa.nulls(len(unit), pa.string()),
            TIME: np.full(len(unit), "naive"),
            ROW: np.arange(len(unit)),
        }
    )
    log_table = con.create_table(ibis.util.gen_name("log"), table, temp=True)
    steps = jl.build_steps(log_table, jl.JourneyRules(journey_gap=None))
    rules = jl.FunnelRules(["a", "b"], within="7D")
    # The latest starts are not mature.
    funnel = jl.build_funnel(steps, rules, by="run", as_of=START + timedelta(days=25))
    naive = [_finds_naively(counts[run == i] > 0, np.isfinite(until[run == i])) for i in range(n_runs)]
    return Simulated(steps, funnel, naive)


def _finds_naively(had: np.ndarray, converted: np.ndarray) -> bool:
    """Events before b for those who got there, in the whole window for the others: as correlation reports compare."""
    p = [
        fisher_exact(
            [[np.sum(h & converted), np.sum(h & ~converted)], [np.sum(~h & converted), np.sum(~h & ~converted)]]
        )[1]
        for h in had.T
    ]
    return bool((multipletests(p, method="fdr_bh")[1] < 0.05).any())


def test_no_effect_is_seldom_found(con: ibis.BaseBackend) -> None:
    n_runs = 200 if IS_FULL else 10
    simulated = simulate(con, n_runs=n_runs, n=500, seed=1)
    tables = [simulated.explain(run, properties=["device"]) for run in range(n_runs)]
    n_false = sum(table["is_finding"].any() for table in tables)
    print(f"false findings in {n_false} of {n_runs} runs; naive in {sum(simulated.naive_finds)}")
    assert n_false <= 0.05 * n_runs + 3 * sqrt(0.05 * 0.95 * n_runs)
    # What takes time happens more to those who are watched for longer: nearly every run blames it.
    assert sum(simulated.naive_finds) >= 0.95 * n_runs
    assert all(table["p"].notna().sum() >= NOISE for table in tables)
    # Of many intervals for a difference of nothing, those without 0.
    missed = pd.concat(tables).query("not is_small").eval("low > 0 or high < 0")
    assert missed.mean() <= (0.055 if IS_FULL else 0.08)


def test_a_planted_effect_is_found(con: ibis.BaseBackend) -> None:
    n_runs, gain = (200 if IS_FULL else 6), 0.25
    simulated = simulate(con, n_runs=n_runs, n=500, seed=2, gain=gain)
    rows = [simulated.explain(run, landmark="1D").set_index("name").loc["help"] for run in range(n_runs)]
    rows = [row if isinstance(row, pd.Series) else row.iloc[0] for row in rows]
    n_covered = sum(row["low"] <= gain <= row["high"] for row in rows)
    n_found = sum(row["is_finding"] and row["difference"] > 0 for row in rows)
    print(f"covered in {n_covered}, found in {n_found} of {n_runs} runs")
    assert n_covered >= 0.95 * n_runs - 3 * sqrt(0.05 * 0.95 * n_runs)
    assert n_found >= 0.9 * n_runs
    assert np.mean([row["difference"] for row in rows]) == pytest.approx(gain, abs=0.02 if not IS_FULL else 0.005)
    # With a landmark that nobody chose it is found too, and among all that happened it comes first.
    first = simulated.explain(0).iloc[0]
    assert first["name"] == "help"
    assert first["difference"] > 0
