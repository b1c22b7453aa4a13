"""Accounts: a golden log of five, a walk in plain Python, planted stalls, and the trap of watching converters less."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import sqlglot
from conftest import GAPS, SECONDS, START, Row, examples, fetch, group_rows, make_steps
from hypothesis import given
from hypothesis import strategies as st
from ibis.backends.sql.compilers import BigQueryCompiler, DatabricksCompiler
from statsmodels.stats.proportion import proportion_confint

import journeylab as jl
from journeylab.accounts import count_accounts, count_roles, find_stalls
from journeylab.errors import RuleError

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
DEAL = ("demo", "offer", "order")
ROLE_COLUMNS = ["n", "n_converted", "share", "low", "high", "n_open"]

# Five accounts, days of January 2026. The end of observation is March 31; silent for 30 days is lost.
#   acme  user, boss and buyer take part; the buyer orders on the 20th.
#   bolt  the user has a demo and an offer, the boss looks in later; nobody orders: lost after the offer.
#   corp  the same person in two roles; a buyer orders on the 3rd, before the landmark of 14 days.
#   dune  the demo alone, by the boss; lost after it.
#   east  demo on March 10 by the user, offer by the buyer: still on the way.
# One visit belongs to no account, one of acme's has no role.
_FIVE = """
acme  ann   user   demo   01-01
acme  ann   -      visit  01-02
acme  bob   boss   offer  01-05
acme  cid   buyer  visit  01-18
acme  cid   buyer  order  01-20
bolt  dan   user   demo   01-01
bolt  dan   user   offer  01-03
bolt  eve   boss   visit  01-25
corp  fay   user   demo   01-01
corp  fay   boss   offer  01-02
corp  hue   buyer  order  01-03
dune  gus   boss   demo   01-01
east  hal   user   demo   03-10
east  ivy   buyer  offer  03-12
-     joe   user   visit  01-01
"""


def five_accounts() -> list[Row]:
    rows = []
    for line in _FIVE.strip().splitlines():
        account, customer, role, event, day = line.split()
        row = {"customer_id": customer, "event": event, "timestamp": datetime.fromisoformat(f"2026-{day}")}
        rows.append(row | {"account_id": None if account == "-" else account, "role": None if role == "-" else role})
    return rows


def build(steps: ibis.Table, *names: str, as_of: str | None = None, **switches: Any) -> jl.Funnel:
    return jl.build_funnel(steps, jl.FunnelRules(names or DEAL, unit="account", **switches), as_of=as_of)


@pytest.fixture
def five(con: ibis.BaseBackend) -> ibis.Table:
    return make_steps(five_accounts(), con=con)


def test_who_is_there(five: ibis.Table) -> None:
    assert count_accounts(five).to_dict("records") == [
        {
            "n_accounts": 5,
            "n_people": 10,
            "n_roles": 3,
            "n_events": 15,
            "n_events_without_account": 1,
            "n_events_without_role": 1,
        }
    ]


def as_lists(table: pd.DataFrame, *columns: str) -> list[list[Any]]:
    return table[list(columns)].to_numpy().tolist()


def test_roles_after_a_fixed_time(five: ibis.Table) -> None:
    """On day 14 acme (user, boss) is under way, bolt (user), dune (boss) and east (user, buyer, open); corp is done."""
    funnel = build(five, as_of="2026-03-31")
    table = count_roles(five, funnel)
    assert list(table.columns) == ["n_roles", *ROLE_COLUMNS]
    assert as_lists(table, "n_roles", "n", "n_converted", "n_open") == [[1, 2, 0, 0], [2, 1, 1, 1]]
    assert table["share"].tolist() == [0, 1]
    assert table[["low", "high"]].to_numpy()[1].tolist() == pytest.approx(proportion_confint(1, 1, method="wilson"))
    # The people of the same accounts: ann and bob, dan, gus, hal and ivy.
    people = count_roles(five, funnel, of="people")
    assert as_lists(people, "n_people", "n", "n_converted", "n_open") == [[1, 2, 0, 0], [2, 1, 1, 1]]
    # After 25 days acme is done too; the landmark itself counts: the boss of bolt came on day 24.
    later = count_roles(five, funnel, within="24D")
    assert as_lists(later, "n_roles", "n", "n_converted", "n_open") == [[1, 1, 0, 0], [2, 1, 0, 0]]


def test_roles_on_the_whole_way(five: ibis.Table) -> None:
    """Before the goal: acme 3, corp 2 (and one person); until lost: bolt 2, dune 1; east 2 and open."""
    funnel = build(five, as_of="2026-03-31")
    table = count_roles(five, funnel, within=None)
    assert as_lists(table, "n_roles", "n", "n_converted", "n_open") == [[1, 1, 0, 0], [2, 2, 1, 1], [3, 1, 1, 0]]
    people = count_roles(five, funnel, within=None, of="people")
    assert as_lists(people, "n_people", "n", "n_converted", "n_open") == [[1, 2, 1, 0], [2, 1, 0, 1], [3, 1, 1, 0]]


def test_stalls(five: ibis.Table) -> None:
    """The user's demo went on to an offer in acme, bolt and corp, the boss's in dune did not; bolt lost its offer."""
    table = find_stalls(five, build(five, as_of="2026-03-31"), min_n=1)
    facts = table.set_index(["label", "role"])
    assert sorted(facts.index) == [("demo", "boss"), ("demo", "user"), ("offer", "boss"), ("offer", "user")]
    names = ["n", "n_lost", "share_lost", "share_lost_elsewhere", "next_role", "share_next_role"]
    assert facts.loc[("demo", "user"), names].tolist() == [3, 0, 0, 1, "boss", pytest.approx(2 / 3)]
    assert facts.loc[("demo", "boss"), names[:4]].tolist() == [1, 1, 1, 0]
    assert facts.loc[("offer", "boss"), names].tolist() == [2, 0, 0, 1, "buyer", 1]
    assert facts.loc[("offer", "user"), names[:4]].tolist() == [1, 1, 1, 0]
    assert facts["difference"].tolist() == pytest.approx((facts["share_lost"] - facts["share_lost_elsewhere"]).tolist())
    assert facts["next_role"].isna().tolist() == (facts["n_lost"] == facts["n"]).tolist()
    small = find_stalls(five, build(five, as_of="2026-03-31"), min_n=3).set_index(["label", "role"])
    assert small.index[0] == ("demo", "user")
    assert small["is_small"].tolist() == [False, True, True, True]
    assert small["p_adjusted"].isna().all()


def test_a_window_counts_mature_accounts_alone(five: ibis.Table) -> None:
    funnel = build(five, within="30D", as_of="2026-03-31")
    table = count_roles(five, funnel)
    assert as_lists(table, "n_roles", "n", "n_converted", "n_open") == [[1, 2, 0, 0], [2, 1, 1, 1]]
    assert find_stalls(five, funnel, min_n=1)["n"].sum() == 7
    with pytest.raises(RuleError) as error:
        count_roles(five, funnel, within="30D")
    assert str(error.value) == (
        "count_roles: within (30D) must be shorter than the funnel's own window (30D); after that nobody is under way"
    )


def test_errors(five: ibis.Table) -> None:
    funnel = jl.build_funnel(five, DEAL)
    for ask, name in ((count_roles, "count_roles"), (find_stalls, "find_stalls")):
        with pytest.raises(RuleError) as error:
            ask(five, funnel)  # type: ignore[operator]
        assert str(error.value) == (
            f'{name} needs a funnel of accounts: build it with FunnelRules(…, unit="account"); found unit="customer"'
        )
        with pytest.raises(RuleError) as error:
            ask(five.rename(rolle="role"), funnel)  # type: ignore[operator]
        assert str(error.value) == (
            f'{name} needs the columns account_id and role; missing: "role" Did you mean "rolle"?. '
            "Map them in read_events(columns=)"
        )
    with pytest.raises(RuleError, match='of must be "roles" or "people"; found "persons"'):
        count_roles(five, funnel, of="persons")  # type: ignore[arg-type]
    with pytest.raises(RuleError, match="count_roles: within must be a duration with a unit"):
        count_roles(five, build(five), within="14")


# The same by a walk along each account's events.
Walk = tuple[list[Row], list[Row], bool, bool, datetime | None]  # events, the steps' events, settled, open, lost when


def walk_by_hand(steps: list[Row], names: tuple[str, ...], within: str | None, as_of: datetime) -> list[Walk]:
    walks: list[Walk] = []
    window = None if within is None else timedelta(seconds=SECONDS[within])
    with_account = [row for row in steps if row["account_id"] is not None and row["timestamp"] <= as_of]
    for rows in group_rows(with_account, "account_id").values():
        history = sorted(rows, key=lambda row: (row["timestamp"], row["seq"]))
        done: list[Row] = []
        for row in history:
            is_next = len(done) < len(names) and row["event"] == names[len(done)]
            if is_next and (not done or window is None or row["timestamp"] - done[0]["timestamp"] <= window):
                done.append(row)
        if not done:
            continue
        start = done[0]["timestamp"]
        deadline = start + window if window else history[-1]["timestamp"] + timedelta(days=30)
        is_over = deadline <= as_of if window else deadline < as_of
        is_converted = len(done) == len(names)
        is_settled = is_over if window else is_converted or is_over
        walks.append((history, done, is_settled, not is_converted and not is_over, deadline if is_over else None))
    return walks


def roles_by_hand(
    walks: list[Walk], n_steps: int, landmark: timedelta | None, within: str | None, of: str, as_of: datetime
) -> dict[int, tuple[int, int, int]]:
    found: dict[int, Counter[str]] = {}
    for history, done, is_settled, is_open, lost in walks:
        start, goal = done[0]["timestamp"], done[-1] if len(done) == n_steps else None
        end = (lost if goal is None else None) or as_of
        if landmark is not None:
            end = start + landmark
            is_over = goal is not None and goal["timestamp"] <= end
            is_over |= within is not None and timedelta(seconds=SECONDS[within]) <= landmark
            last = max(row["timestamp"] for row in history if row["timestamp"] <= end)
            if is_over or end > as_of or (within is None and end - last > timedelta(days=30)):
                continue
        involved = [row for row in history if start <= row["timestamp"] <= end]
        if goal is not None:
            involved = [row for row in involved if row["timestamp"] < goal["timestamp"] or row["timestamp"] == start]
        column = "role" if of == "roles" else "customer_id"
        n = len({row[column] for row in involved} - {None})
        counts = found.setdefault(n, Counter())
        counts["n"] += is_settled
        counts["n_converted"] += is_settled and goal is not None
        counts["n_open"] += is_open
    return {n: (counts["n"], counts["n_converted"], counts["n_open"]) for n, counts in found.items()}


def stalls_by_hand(walks: list[Walk], names: tuple[str, ...]) -> dict[tuple[str, str], tuple[int, int, Counter[str]]]:
    found: dict[tuple[str, str], tuple[int, int, Counter[str]]] = {}
    for _, done, is_settled, _, _ in walks:
        if not is_settled:
            continue
        for i, row in enumerate(done[: len(names) - 1]):
            key = (names[i], row["role"] or "(none)")
            n, n_lost, going = found.get(key, (0, 0, Counter()))
            is_last = i == len(done) - 1
            if not is_last:
                going[done[i + 1]["role"] or "(none)"] += 1
            found[key] = (n + 1, n_lost + is_last, going)
    return found


@st.composite
def account_logs(draw: st.DrawFn) -> list[Row]:
    """Six accounts and the events of nobody's; seq orders the ties."""
    event = st.fixed_dictionaries(
        {
            "event": st.sampled_from("abcd"),
            "gap": st.sampled_from((*GAPS, timedelta(days=40))),
            "customer_id": st.sampled_from("xyz"),
            "role": st.sampled_from((None, "user", "boss")),
        }
    )
    rows: list[Row] = []
    for account in (None, "0012", "NA", "k", "l", "m", "n"):
        now = START
        for given_event in draw(st.lists(event, max_size=8)):
            now += given_event["gap"]
            row = {name: given_event[name] for name in ("event", "role")}
            # A person can belong to several accounts.
            rows.append(row | {"customer_id": given_event["customer_id"], "timestamp": now, "account_id": account})
    rows.append({"customer_id": "x", "event": "a", "timestamp": START, "account_id": "z", "role": "user"})
    rows += [
        {"customer_id": "w", "event": name, "timestamp": START, "account_id": None, "role": None} for name in "abc"
    ]
    for seq, row in enumerate(rows):
        row["seq"] = seq
    return draw(st.permutations(rows))


@given(
    account_logs(),
    st.sampled_from((None, "2h", "5h")),
    st.sampled_from((None, ("10m", timedelta(minutes=10)), ("1h", timedelta(hours=1)), ("45D", timedelta(days=45)))),
    st.sampled_from(("roles", "people")),
    st.sampled_from((timedelta(hours=4), timedelta(days=31), timedelta(days=90))),
)
@examples(5)
def test_against_a_walk(
    rows: list[Row], within: str | None, landmark: tuple[str, timedelta] | None, of: Any, watched: timedelta
) -> None:
    con = jl.connect(threads=2)
    steps, as_of, names = make_steps(rows, con=con), START + watched, ("a", "b", "c")
    funnel = build(steps, *names, within=within, as_of=str(as_of))
    walks = walk_by_hand(fetch(steps), names, within, as_of)
    text, length = landmark or (None, None)
    if within is None or length is None or length < timedelta(seconds=SECONDS[within]):
        table = count_roles(steps, funnel, within=text, of=of)
        found = {row[0]: tuple(row[1:]) for row in as_lists(table, f"n_{of}", "n", "n_converted", "n_open")}
        assert found == roles_by_hand(walks, 3, length, within, of, as_of)
    table = find_stalls(steps, funnel, min_n=2)
    con.disconnect()
    expected = stalls_by_hand(walks, names)
    assert len(table) == len(expected)
    for row in table.to_dict("records"):
        n, n_lost, going = expected[row["label"], row["role"]]
        assert (row["n"], row["n_lost"]) == (n, n_lost)
        rest = [cell for (label, role), cell in expected.items() if label == row["label"] and role != row["role"]]
        n_rest, lost_rest = sum(cell[0] for cell in rest), sum(cell[1] for cell in rest)
        elsewhere = lost_rest / n_rest if n_rest else np.nan
        assert row["share_lost_elsewhere"] == pytest.approx(elsewhere, nan_ok=True)
        assert row["difference"] == pytest.approx(n_lost / n - elsewhere, nan_ok=True)
        assert row["is_small"] == (n < 2)
        assert np.isnan(row["p_adjusted"]) == (min(n, n_rest) < 2)
        top = min(going, key=lambda role: (-going[role], role)) if going else None
        assert row["next_role"] == top if top else pd.isna(row["next_role"])
        assert row["share_next_role"] == pytest.approx(going[top] / sum(going.values()) if top else np.nan, nan_ok=True)


def test_steps_that_are_optional_or_in_any_order(five: ibis.Table) -> None:
    """Without the offer as a must, acme and corp go from demo to order: next to act is the buyer."""
    funnel = build(five, optional="offer", as_of="2026-03-31")
    demo = find_stalls(five, funnel, min_n=1).set_index("role")
    assert as_lists(demo.loc[["user", "boss"]], "label", "n", "n_lost") == [["demo", 3, 1], ["demo", 1, 1]]
    assert demo.loc["user", ["next_role", "share_next_role"]].tolist() == ["buyer", 1]
    either = find_stalls(five, build(five, order="any", as_of="2026-03-31"), min_n=1)
    first = either[either["step"] == 1].set_index("role")
    assert as_lists(first.loc[["user", "boss"]], "n", "n_lost") == [[3, 0], [1, 1]]
    where = jl.build_funnel(
        five,
        jl.FunnelRules([{"event": "demo", "where": 'role == "user"'}, "order"], unit="account"),
        as_of="2026-03-31",
    )
    assert as_lists(find_stalls(five, where, min_n=1), "role", "n", "n_lost") == [["user", 3, 1]]


# Simulations.
def simulate_deals(rng: np.random.Generator, n: int, stall: Mapping[str, float]) -> list[Row]:
    """Demo by a role at random, offer by another; after the demo of a role its share stalls, after an offer 30 %."""
    rows = []
    for i in range(n):
        roles = rng.choice(["boss", "buyer", "user"], 3)
        n_done = 1 if rng.random() < stall[roles[0]] else 2 if rng.random() < 0.3 else 3
        for k in range(n_done):
            time = START + timedelta(days=int(rng.integers(0, 5)) + 5 * k)
            row = {"customer_id": f"{roles[k]}{i}", "event": DEAL[k], "timestamp": time}
            rows.append(row | {"account_id": f"account{i}", "role": str(roles[k])})
    return rows


def test_a_planted_stall_is_found_first_and_no_other(con: ibis.BaseBackend) -> None:
    """After the buyer's demo 60 % stall, after the others' 30 %; nothing is wrong with any offer."""
    rng = np.random.default_rng(5)
    steps = make_steps(simulate_deals(rng, 900, {"boss": 0.3, "buyer": 0.6, "user": 0.3}), con=con)
    table = find_stalls(steps, build(steps, within="30D", as_of="2026-06-01"))
    top = table.iloc[0]
    assert (top["label"], top["role"], top["is_small"]) == ("demo", "buyer", False)
    assert top["difference_low"] < 0.3 < top["difference_high"]
    assert top["low"] < 0.6 < top["high"]
    assert top["p_adjusted"] < 1e-6
    worse = table[(table["p_adjusted"] < 0.05) & (table["difference"] > 0)]
    assert len(worse) == 1


def test_without_a_stall_none_is_found(con: ibis.BaseBackend) -> None:
    """All roles alike: Holm keeps the share of logs in which any row is called different."""
    repeats, found = 100 if FULL else 4, 0
    for seed in range(repeats):
        rows = simulate_deals(np.random.default_rng(100 + seed), 250, dict.fromkeys(("boss", "buyer", "user"), 0.4))
        steps = make_steps(rows, con=con)
        found += (find_stalls(steps, build(steps, within="30D", as_of="2026-06-01"))["p_adjusted"] < 0.05).any()
    print(f"logs with a false finding: {found} of {repeats}")
    assert found <= repeats * 0.05 + 2 * (repeats * 0.05 * 0.95) ** 0.5


def simulate_roles(rng: np.random.Generator, n: int) -> list[Row]:
    """New roles come in at a steady rate, the order at another, neither knows of the other; ten weeks, then silence."""
    rows = []
    for i in range(n):
        order = rng.exponential(60)
        events = [(0.0, "demo", "role0"), *([(order, "order", "role0")] if order < 70 else [])]
        arrivals = np.cumsum(rng.exponential(14, 9))
        events += [(day, "visit", f"role{k}") for k, day in enumerate(arrivals, 1) if day < 70]
        for day, event, role in events:
            row = {"customer_id": f"{role}/{i}", "event": event, "timestamp": START + timedelta(days=float(day))}
            rows.append(row | {"account_id": f"account{i}", "role": role})
    return rows


def test_the_landmark_is_not_fooled_by_time(con: ibis.BaseBackend) -> None:
    """Roles have no effect at all. On the whole way few roles seem to win; after a fixed time all shares are equal."""
    steps = make_steps(simulate_roles(np.random.default_rng(2), 12_000 if FULL else 2_500), con=con)
    funnel = build(steps, "demo", "order", within="70D", as_of="2026-12-31")
    # Of those under way on day 14, this share orders by day 70.
    truth = 1 - np.exp(-56 / 60)
    fair = count_roles(steps, funnel)
    large = fair[fair["n"] >= 100]
    assert len(large) >= 3
    assert ((large["share"] - truth).abs() <= 3 * (truth * (1 - truth) / large["n"]) ** 0.5).all()
    naive = count_roles(steps, funnel, within=None).set_index("n_roles")
    print(naive["share"].round(2).to_dict(), large.set_index("n_roles")["share"].round(2).to_dict(), round(truth, 2))
    assert naive.loc[1, "share"] > 0.9
    assert naive.loc[7, "share"] < 0.45


def test_wilson_covers_at_its_rate_after_the_landmark(con: ibis.BaseBackend) -> None:
    """Many draws in one log: the 40 accounts of draw k have k roles, so that each row is a draw of its own."""
    rng, truth, repeats, size = np.random.default_rng(8), 0.3, 120 if FULL else 30, 40
    rows = []
    for k in range(1, repeats + 1):
        for i, is_won in enumerate((rng.random(size) < truth).tolist()):
            events = [("demo", 0, 1), *(("visit", 1, role) for role in range(2, k + 1)), *[("order", 20, 1)] * is_won]
            for event, day, role in events:
                row = {"customer_id": f"{k}/{i}/{role}", "event": event, "timestamp": START + timedelta(days=day)}
                rows.append(row | {"account_id": f"{k}/{i}", "role": f"role{role}"})
    steps = make_steps(rows, con=con)
    table = count_roles(steps, build(steps, "demo", "order", within="30D", as_of="2026-06-01"))
    assert table["n_roles"].tolist() == list(range(1, repeats + 1))
    covered = ((table["low"] <= truth) & (truth <= table["high"])).mean()
    print(f"Wilson covers {covered:.3f}")
    assert covered >= 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5


@pytest.mark.parametrize("dialect", ["bigquery", "databricks"])
@pytest.mark.parametrize("ask", [count_accounts, count_roles, find_stalls])
def test_every_query_compiles(
    five: ibis.Table, con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch, dialect: str, ask: Callable[..., Any]
) -> None:
    arguments = () if ask is count_accounts else (build(five),)
    heard: list[ibis.Expr] = []
    execute = con.execute

    def hear(expression: ibis.Expr, *args: Any, **options: Any) -> Any:
        heard.append(expression)
        return execute(expression, *args, **options)

    monkeypatch.setattr(con, "execute", hear)
    ask(five, *arguments)
    compiler = {"bigquery": BigQueryCompiler, "databricks": DatabricksCompiler}[dialect]()
    assert heard
    for expression in heard:
        sqlglot.parse_one(compiler.to_sqlglot(expression.unbind()).sql(dialect), dialect=dialect)
