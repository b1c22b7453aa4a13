"""Quick wins, cost against effect, and the parts of which maps are made: against plain Python and by hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import SIX_RULES, Row, fetch, group_rows, make_steps, six_customers

import journeylab as jl
from journeylab.errors import RuleError
from journeylab.journeymap import (
    build_map,
    compare_costs,
    count_day,
    count_stage_roles,
    describe_costs,
    split_journeys,
)
from journeylab.journeymap.costs import count_contacts
from journeylab.journeymap.measure import read_seen
from journeylab.journeymap.wins import find_quick_wins, sum_efforts
from journeylab.journeymap.workshop import Workshop


def make_ways(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["stage", "way", "n", "n_lost"])
    return table.assign(share_lost=table["n_lost"] / table["n"])


def make_workshop(*rows: tuple[str, str, str, float | None, float | None]) -> Workshop:
    table = pd.DataFrame(rows, columns=["stage", "event", "channel", "cost", "effort"]).assign(evidence="stated")
    return Workshop(Workshop.empty().rows, table.astype({"cost": "float64", "effort": "float64"}))


NO_EFFORT = sum_efforts(Workshop.empty().touchpoints, make_ways())


def test_gain_and_order() -> None:
    ways = make_ways(
        ("pay", "app", 400, 160), ("pay", "web", 600, 60), ("look", "ads", 1000, 400), ("look", "web", 1000, 200)
    )
    efforts = sum_efforts(
        make_workshop(
            ("pay", "payment", "app", None, 2.0),
            ("pay", "checkout", "app", None, 1.0),
            ("pay", "help", "", None, 1.0),
            ("look", "ad", "fax", None, 9.0),
        ).touchpoints,
        ways,
    )
    found = find_quick_wins(ways, efforts, top=5)
    assert found[["stage", "way", "best_way"]].to_numpy().tolist() == [["pay", "app", "web"], ["look", "ads", "web"]]
    # 400 × (0.4 − 0.1) journeys for an effort of 2 + 1 and 1 for all channels; that of look is not known.
    assert found["gain"].tolist() == pytest.approx([120, 200])
    assert found["effort"].tolist()[0] == 4
    assert found["gain_per_effort"].tolist()[0] == pytest.approx(30)
    assert np.isnan(found["gain_per_effort"].tolist()[1])
    assert ((found["low"] < found["gain"]) & (found["gain"] < found["high"]) & (found["low"] > 0)).all()
    assert len(find_quick_wins(ways, efforts, top=1)) == 2


def test_what_is_best_by_luck_is_no_win() -> None:
    """Four ways of each of five stages lose alike: the best of them is best by luck."""
    rng = np.random.default_rng(2)
    found = 0
    n_logs = 500 if os.environ.get("JOURNEYLAB_FULL") == "1" else 25
    for _ in range(n_logs):
        ways = make_ways(*((f"s{i}", f"w{j}", 300, int(rng.binomial(300, 0.2))) for i in range(5) for j in range(4)))
        found += len(find_quick_wins(ways, NO_EFFORT, top=5)) > 0
    assert found <= 0.05 * n_logs + 2 * (0.05 * 0.95 * n_logs) ** 0.5


def test_few_journeys_are_not_compared() -> None:
    assert find_quick_wins(make_ways(("a", "x", 29, 0), ("a", "y", 500, 400)), NO_EFFORT, top=5).empty
    assert find_quick_wins(make_ways(), NO_EFFORT, top=5).empty


def draw_calls(n: int = 400, *, helps: bool, seed: int = 4) -> list[Row]:
    """Half of the customers are called at look; then they pay more often, or as often as the others."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        now, is_called = datetime(2026, 1, 1) + timedelta(minutes=i), i % 2 == 0
        events = [("shop", "web"), *([("call", "phone"), ("call", "chat")] if is_called else [])]
        if rng.random() < (0.7 if helps and is_called else 0.3):
            # After the goal a call is no help on the way to it, and costs all the same.
            events += [("pay", "web"), ("call", "phone")]
        for k, (event, channel) in enumerate(events):
            rows.append(
                {"customer_id": f"c{i}", "event": event, "timestamp": now + timedelta(hours=k), "channel": channel}
            )
    return [*rows, {**rows[0], "customer_id": "last", "timestamp": datetime(2026, 6, 1)}]


CALLS = jl.JourneyRules(
    stages=("look", "bought"), stage_of={"shop": "look", "call": "look", "pay": "bought"}, goal="bought"
)


def test_contacts_cost_what_the_nearest_line_says(con: ibis.BaseBackend) -> None:
    rows = draw_calls(60, helps=False)
    steps = make_steps(rows, CALLS, con=con)
    journeys = jl.build_journeys(steps, CALLS)
    workshop = make_workshop(("look", "call", "", 5.0, None), ("look", "call", "phone", 2.0, None))
    table = count_contacts(read_seen(steps, journeys, CALLS.stages), workshop)
    for channel, cost in (("chat", 5.0), ("phone", 2.0)):
        there = [row for row in rows if row["event"] == "call" and row["channel"] == channel]
        (line,) = table[table["channel"] == channel.replace("chat", "")].to_dict("records")
        assert (line["n_contacts"], line["total"]) == (len(there), len(there) * cost)
        assert line["n_customers"] == len({row["customer_id"] for row in there})
    cells = build_map(steps, journeys, CALLS, workshop=workshop).cell("cost", "look")
    assert cells["item"].tolist() == ["call", "call · phone"]
    assert cells["value"].tolist() == sorted(table["total"], reverse=True)
    assert set(cells["evidence"]) == {"stated"}


@pytest.mark.parametrize("helps", [True, False])
def test_cost_against_effect(con: ibis.BaseBackend, helps: bool) -> None:
    rows = draw_calls(helps=helps)
    steps = make_steps(rows, CALLS, con=con)
    journeys = jl.build_journeys(steps, CALLS)
    table = compare_costs(steps, journeys, make_workshop(("look", "call", "phone", 3.0, None)))
    (row,) = table.to_dict("records")
    tracks = {who: [e["event"] for e in track] for who, track in group_rows(rows, "customer_id").items()}
    tracks.pop("last")  # still on the way
    called = {who: "call" in track[:2] for who, track in tracks.items()}
    for suffix, is_called in (("", True), ("_other", False)):
        there = [track for who, track in tracks.items() if called[who] == is_called]
        assert row[f"n{suffix}"] == len(there)
        assert row[f"n_reached{suffix}"] == sum("pay" in track for track in there)
    n_contacts = sum(e["event"] == "call" and e["channel"] == "phone" for e in rows)
    assert (row["n_contacts"], row["total"]) == (n_contacts, 3.0 * n_contacts)
    assert row["cost_per_goal"] == pytest.approx(row["total"] / row["n_reached"])
    assert row["is_costly"]
    assert row["is_idle"] == (not helps)
    said = describe_costs(table)
    if helps:
        assert row["low"] > 0.2
        assert said == "No touchpoint costs much without going with more or fewer journeys that reach the goal."
    else:
        assert said.startswith("call · phone cost ")
        assert said.endswith("This is association, not cause: who needs a contact may differ from who does not.")


def test_few_journeys_prove_nothing(con: ibis.BaseBackend) -> None:
    steps = make_steps(draw_calls(40, helps=False), CALLS, con=con)
    table = compare_costs(steps, jl.build_journeys(steps, CALLS), make_workshop(("look", "call", "", 3.0, None)))
    assert table[["is_small", "is_costly", "is_idle"]].to_numpy().tolist() == [[True, True, False]]
    assert np.isnan(table["p_adjusted"].item())
    assert describe_costs(table) == "Too few journeys came to the touchpoints whose cost is known to compare them."


def test_no_costs(six: ibis.Table) -> None:
    with pytest.raises(RuleError) as error:
        compare_costs(six, jl.build_journeys(six, SIX_RULES), Workshop.empty())
    assert str(error.value) == (
        "compare_costs: the workshop knows the cost of no touchpoint; fill it in, see write_template()"
    )


def test_the_day_matches_a_loop(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)
    for tz in (None, "Asia/Kathmandu"):
        table = count_day(six, journeys, SIX_RULES, tz=tz, min_group=1)
        expected: dict[tuple[str, int, int], list[Row]] = {}
        rows = [row for row in fetch(six) if row["stage"]]
        for row in rows:
            clock = row["timestamp"].replace(tzinfo=UTC).astimezone(ZoneInfo(tz or "UTC"))
            expected.setdefault((row["stage"], clock.weekday(), clock.hour), []).append(row)
        found = {(r["stage"], r["weekday"], r["hour"]): r for r in table.to_dict("records")}
        assert found.keys() == expected.keys()
        sizes = {stage: len(there) for stage, there in group_rows(rows, "stage").items()}
        for key, there in expected.items():
            assert found[key]["n_events"] == len(there)
            assert found[key]["n_customers"] == len({row["customer_id"] for row in there})
            assert found[key]["share"] == pytest.approx(len(there) / sizes[key[0]])
        assert list(found) == sorted(found, key=lambda key: (SIX_RULES.stages.index(key[0]), *key[1:]))
    assert count_day(six, journeys, SIX_RULES, min_group=2)["n_customers"].min() >= 2


@pytest.mark.parametrize(
    ("rules", "tz", "message"),
    [
        (
            SIX_RULES,
            "Europe/Warsawa",
            'count_day: tz "Europe/Warsawa" is not a time zone. Did you mean "Europe/Warsaw"? Expected a name such as '
            "Europe/Warsaw or UTC",
        ),
        (
            jl.JourneyRules(),
            None,
            "count_day: the rules have no stages; name them in order, as in data/reference/ecommerce.toml",
        ),
    ],
)
def test_errors_of_the_day(six: ibis.Table, rules: Any, tz: str | None, message: str) -> None:
    with pytest.raises(RuleError) as error:
        count_day(six, jl.build_journeys(six, rules), rules, tz=tz)
    assert str(error.value) == message


def test_roles_by_stage(con: ibis.BaseBackend) -> None:
    who = {"anna": ("x", "buyer"), "bert": ("x", "user"), "cleo": ("y", "buyer"), "dora": ("y", None)}
    rows = [
        {**row, "account_id": account, "role": role}
        for row in six_customers()
        for account, role in [who.get(row["customer_id"], (None, "buyer"))]
    ]
    steps = make_steps(rows, SIX_RULES, con=con)
    table = count_stage_roles(steps, jl.build_journeys(steps, SIX_RULES), SIX_RULES, min_group=1)
    names = ["stage", "role", "n_accounts", "n", "share", "n_people", "n_events"]
    assert table[names].to_numpy().tolist() == [
        ["look", "buyer", 2, 2, 1.0, 2, 2],
        ["look", "(none)", 1, 2, 0.5, 1, 2],
        ["look", "user", 1, 2, 0.5, 1, 2],
        ["basket", "(none)", 1, 2, 0.5, 1, 1],
        ["basket", "buyer", 1, 2, 0.5, 1, 1],
        ["basket", "user", 1, 2, 0.5, 1, 1],
        ["bought", "buyer", 2, 2, 1.0, 2, 2],
        ["bought", "(none)", 1, 2, 0.5, 1, 1],
    ]
    with pytest.raises(RuleError) as error:
        count_stage_roles(make_steps(six_customers(), con=con), jl.build_journeys(steps), SIX_RULES)
    assert str(error.value) == (
        'count_stage_roles needs the columns account_id and role; missing: "account_id" Did you mean "journey_id"? and '
        '"role"'
    )


def test_parts(six: ibis.Table) -> None:
    journeys = jl.build_journeys(six, SIX_RULES)

    def count(by: Any, **options: Any) -> dict[str, int]:
        return {name: part.count().execute() for name, part in split_journeys(journeys, by, **options).items()}

    assert count("M", min_group=1) == {"2026-01-01": 5, "2026-02-01": 2, "2026-03-01": 1}
    assert count("M", min_group=2) == {"2026-01-01": 5, "2026-02-01": 2}
    assert count("first_channel", min_group=1) == {"web": 2, "app": 3, "(none)": 1, "ads": 1, "call": 1}
    members = pd.DataFrame({"customer_id": ["anna", "dora", "bert"], "persona": [2, 1, 2]})
    assert count(members, min_group=1) == {"2": 2, "1": 2}
    assert count(members, min_group=2) == {"2": 2}
    (part,) = split_journeys(journeys, members, min_group=2).values()
    assert part.columns == journeys.columns
    assert build_map(six, part, SIX_RULES, min_group=2, title="2").facts["n_journeys"] == 2


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (
            "first_chanel",
            'split_journeys: journeys have no column "first_chanel", and it is no period (D, W, M). Did you mean '
            '"first_channel"?',
        ),
        (
            "M",
            "split_journeys: none of 3 parts has 10 customers; take coarser parts, or lower min_group if nobody else "
            "sees the maps",
        ),
        (7, "split_journeys: by must be a column of journeys, a period, a table, or something with .members; found 7"),
        (
            pd.DataFrame({"customer_id": ["anna"], "x": [1]}),
            "split_journeys: the table has no column segment, persona or account_id; it has customer_id, x",
        ),
    ],
)
def test_errors_of_parts(six: ibis.Table, by: Any, message: str) -> None:
    with pytest.raises(RuleError) as error:
        split_journeys(jl.build_journeys(six, SIX_RULES), by)
    assert str(error.value) == message
