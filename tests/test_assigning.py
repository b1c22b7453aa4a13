"""Assignment inside the engine, against plain loops; emissions; who is atypical; and samples of large logs."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import exp, log, sqrt
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import sqlglot
from conftest import ENDS, Row, fetch, group_rows, make_steps, random_logs, random_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from test_backends import COMPILERS, listen
from test_markov import Journey, Planted, plant, simulate

import journeylab as jl
from journeylab.engine import store
from journeylab.errors import RuleError
from journeylab.personas.assigning import MarkovPersonas, fit_markov
from journeylab.personas.counting import CustomerCounts, MarkovRules, count_moves
from journeylab.personas.drawing import draw_customers
from journeylab.personas.fit import sort_by_size

FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
START = datetime(2026, 1, 1)
RULES = jl.JourneyRules(journey_gap="1D")
Tables = tuple[ibis.Table, ibis.Table]


def name_event(event: int) -> str:
    return f"event {event:02}"


def name_customer(customer: int) -> str:
    return f"c{customer:05}"


def write_log(
    journeys: Sequence[Journey],
    *,
    event: Callable[[int], str] = name_event,
    customer: Callable[[int], str] = name_customer,
    wait_s: Callable[[int, int], float] = lambda customer, number: 60.0,
    channel: Callable[[int, int], str | None] = lambda customer, number: "web",
) -> list[Row]:
    """Journeys two days apart; an open one is the customer's last, and all else is long over."""
    rows: list[Row] = []
    n_made: Counter[int] = Counter()
    for journey in journeys:
        begins = START + timedelta(days=100 if not journey.has_ended else 2 * n_made[journey.customer])
        now = begins + timedelta(seconds=journey.customer % 1_000)
        n_made[journey.customer] += 1
        for number, code in enumerate(journey.events):
            names = {"customer_id": customer(journey.customer), "event": event(code)}
            rows.append(names | {"timestamp": now, "channel": channel(journey.customer, number)})
            now += timedelta(seconds=wait_s(journey.customer, number))
    return rows


def store_log(rows: list[Row], con: ibis.BaseBackend, as_of: datetime | None = START + timedelta(days=100.5)) -> Tables:
    """Stored, as every query would be compiled with all that makes them; random logs are assigned without."""
    steps = store(make_steps(rows, RULES, con=con), con)
    return steps, store(jl.build_journeys(steps, RULES, as_of=as_of), con)


# --- the same by hand


def observe(steps: list[Row], journeys: list[Row] | None, remembered: list[Row] | None) -> dict[str, list[Row]]:
    """Per customer, what each step that counts tells: starts, ends, goes_on, next_event, dwell_s, channel."""
    fates = {row["journey_id"]: row for row in (remembered if journeys is None else journeys) or ()}
    closed = [row for row in fates.values() if not row["is_open"]]
    silent = [row["end_time"] for row in closed if not row["reached_goal"]]
    cutoff = max(silent or [row["end_time"] for row in closed], default=datetime.min)
    told = defaultdict(list)
    for journey_id, rows in group_rows(steps, "journey_id").items():
        fate = fates.get(journey_id)
        rows.sort(key=lambda row: row["step"])
        if journeys is not None:
            rows = rows[: fate["n_steps"]] if fate else []
        for place, row in enumerate(rows):
            following = rows[place + 1] if place + 1 < len(rows) else None
            is_told = fate is not None and row["timestamp"] <= cutoff
            told[row["customer_id"]].append(
                {
                    "event": row["event"],
                    "next_event": following and following["event"],
                    "starts": place == 0,
                    "ends": is_told and following is None and not fate["is_open"],
                    "goes_on": is_told and following is not None,
                    "dwell_s": following and following["gap_s"],
                    "channel": row.get("channel"),
                }
            )
    return told


class ByHand:
    """A model's log-probabilities by name, and what was to be expected of each draw."""

    def __init__(self, model: MarkovPersonas) -> None:
        self.model, mixture = model, model.mixture
        self.code = {event: number for number, event in enumerate(model.vocabulary.events)}
        after = mixture.transition_ / (1 - mixture.exit_)[:, :, None]
        self.tables: dict[str, Any] = {"start": mixture.start_[:, None], "move": after}
        self.tables["end"] = np.stack([mixture.exit_, 1 - mixture.exit_], axis=2)
        self.tables |= dict(zip(model.vocabulary.outcomes, mixture.emission_, strict=True))

    def draws(self, row: Row) -> list[tuple[str, int, int]]:
        """Which draw came out how? The kind, the event that it depends on, the outcome."""
        here, following = self.code.get(row["event"]), self.code.get(row["next_event"])
        if here is None:
            return []
        made = [("start", 0, here)] if row["starts"] else []
        made += [("move", here, following)] if following is not None else []
        made += [("end", here, 0 if row["ends"] else 1)] if row["ends"] or row["goes_on"] else []
        words = self.model.vocabulary
        if words.dwell_edges is not None and row["dwell_s"] is not None:
            made.append(("dwell", here, sum(edge < row["dwell_s"] for edge in words.dwell_edges)))
        if words.channels is not None and row["channel"] in words.channels:
            made.append(("channel", here, words.channels.index(row["channel"])))
        return made

    def judge(self, rows: list[Row]) -> Row:
        joint = [log(share) for share in self.model.mixture.weights_]
        surplus, variance = [0.0] * len(joint), [0.0] * len(joint)
        for kind, given_event, outcome in (draw for row in rows for draw in self.draws(row)):
            for own in range(len(joint)):
                odds = self.tables[kind][own][given_event].tolist()
                expected = sum(p * log(p) for p in odds)
                joint[own] += log(odds[outcome])
                if kind != "end":
                    surplus[own] += log(odds[outcome]) - expected
                    variance[own] += sum(p * (log(p) - expected) ** 2 for p in odds)
        best = max(range(len(joint)), key=joint.__getitem__)
        n_unknown = sum(row["event"] not in self.code for row in rows)
        return {
            "joint": joint,
            "persona": best + 1,
            "probability": 1 / sum(exp(one - joint[best]) for one in joint),
            "z": surplus[best] / sqrt(variance[best]) if variance[best] > 1e-9 else 0.0,
            "n_unknown": n_unknown,
            "is_mostly_unknown": n_unknown > len(rows) - n_unknown,
        }


def check_by_hand(model: MarkovPersonas, tables: Sequence[ibis.Table | None]) -> None:
    """Assign, and compare with the loop; `tables` are steps, journeys, and those remembered."""
    members = model.assign(tables[0], tables[1], remembered=tables[2])
    steps, *fates = (None if table is None else fetch(table) for table in tables)
    told, by_hand = observe(steps, *fates), ByHand(model)
    assert members.columns.tolist() == ["customer_id", "persona", "probability", "is_atypical", "n_unknown"]
    assert members.dtypes.astype(str).tolist() == ["str", "int64", "float64", "bool", "int64"]
    assert members["customer_id"].tolist() == sorted(told)
    for row in members.to_dict("records"):
        expected = by_hand.judge(told[row["customer_id"]])
        # of personas that are alike to within rounding either may be named
        assert expected["joint"][row["persona"] - 1] == pytest.approx(max(expected["joint"]), abs=1e-5)
        assert row["probability"] == pytest.approx(expected["probability"], abs=1e-5)
        assert row["n_unknown"] == expected["n_unknown"]
        if row["persona"] == expected["persona"] and abs(expected["z"] - model.least_z) > 1e-3:
            assert row["is_atypical"] == (expected["z"] < model.least_z or expected["is_mostly_unknown"])


# --- three personas that know the events a, b and c, with all that events can come with


@pytest.fixture(scope="module")
def abc() -> MarkovPersonas:
    con = jl.connect(threads=2)
    journeys, _ = simulate(plant(3, seed=21, n_events=3), 300, seed=22)
    rows = write_log(
        journeys,
        event="abc".__getitem__,
        wait_s=lambda customer, number: 7.0 * (customer % 40) + 600.0 * number,
        channel=lambda customer, number: ("web", "app", None)[(customer + number) % 3],
    )
    return fit_markov(count_moves(*store_log(rows, con), MarkovRules(("channel", "dwell"))), 3, seed=0)


@settings(max_examples=50 if FULL else 3)
@given(
    data=st.data(),
    rows=random_logs(columns=("seq", "journey_id"), always=("channel",)),
    rules=random_rules(),
    as_of=ENDS,
)
def test_assigning_equals_a_loop(
    abc: MarkovPersonas, data: st.DataObject, rows: list[Row], rules: jl.JourneyRules, as_of: datetime | None
) -> None:
    con = jl.connect(threads=2)
    steps = make_steps(rows, rules, con=con)
    journeys = jl.build_journeys(steps, rules, as_of=as_of)
    known = data.draw(st.sampled_from(("journeys", "remembered", "neither")))
    check_by_hand(abc, (steps, journeys if known == "journeys" else None, journeys if known == "remembered" else None))
    con.disconnect()


# --- a log with planted personas


@pytest.fixture(scope="module")
def planted() -> tuple[list[Journey], np.ndarray]:
    return simulate(plant(4, seed=31), 1_500, seed=32)


@pytest.fixture(scope="module")
def log_(planted: tuple[list[Journey], np.ndarray]) -> Tables:
    return store_log(write_log(planted[0]), jl.connect(threads=2))


@pytest.fixture(scope="module")
def counts(log_: Tables) -> CustomerCounts:
    return count_moves(*log_)


@pytest.fixture(scope="module")
def model(counts: CustomerCounts) -> MarkovPersonas:
    return fit_markov(counts, 4, seed=0)


def test_the_engine_gives_the_customers_of_the_fit_what_the_mixture_gave_them(
    log_: Tables, counts: CustomerCounts, model: MarkovPersonas
) -> None:
    members = model.assign(*log_)
    np.testing.assert_array_equal(members["persona"], model.mixture.predict(counts.moves) + 1)
    np.testing.assert_allclose(
        members["probability"], model.mixture.predict_proba(counts.moves).max(axis=1), rtol=1e-10
    )
    assert members["persona"].value_counts().sort_index().is_monotonic_decreasing
    pd.testing.assert_frame_equal(model.assign(log_[0], remembered=log_[1]), members)


def test_neither_order_nor_threads_nor_names_matter(
    planted: tuple[list[Journey], np.ndarray], log_: Tables, model: MarkovPersonas
) -> None:
    members = model.assign(*log_)
    for threads in (1, 4):
        con = jl.connect(threads=threads)
        steps, journeys = (table.to_pandas().sample(frac=1, random_state=threads) for table in log_)
        shuffled = con.create_table("shuffled", steps), con.create_table("fates", journeys)
        pd.testing.assert_frame_equal(model.assign(*shuffled), members)
    rng = np.random.default_rng(5)
    customers, events = rng.permutation(1_500), rng.permutation(12)
    names = {"event": lambda one: f"<{events[one]}>", "customer": lambda one: f"ż{customers[one]:05}"}
    renamed = store_log(write_log(planted[0], **names), jl.connect(threads=2))
    again = fit_markov(count_moves(*renamed), 4, seed=0)
    assert again.least_z == model.least_z
    of_renamed = again.assign(*renamed).set_index("customer_id").loc[[names["customer"](one) for one in range(1_500)]]
    expected = members.drop(columns="customer_id")
    pd.testing.assert_frame_equal(of_renamed.reset_index(drop=True), expected, check_exact=True)


def test_plain_values_are_enough_to_assign_again(log_: Tables, model: MarkovPersonas, abc: MarkovPersonas) -> None:
    for one in (model, abc):
        text = json.dumps(one.to_dict(), allow_nan=False)
        again = MarkovPersonas.from_dict(json.loads(text))
        assert json.dumps(again.to_dict()) == text
        pd.testing.assert_frame_equal(again.assign(*log_), one.assign(*log_), check_exact=True)
    assert json.loads(text)["method"] == "markov"
    assert again.n_personas == 3


def test_nothing_is_left_behind_but_members(model: MarkovPersonas) -> None:
    con = jl.connect()
    tables = store_log(write_log([Journey(0, (0, 1))]), con)

    def list_tables() -> set[tuple[str]]:
        gc.collect()  # what Ibis was given as an Arrow table it lets go of with its last reference
        return set(con.raw_sql("SELECT table_name FROM information_schema.tables").fetchall())

    before = list_tables()
    assert len(model.assign(*tables)) == 1
    assert list_tables() == before
    members = model.assign_members(*tables)
    assert members.count().execute() == 1
    assert len(list_tables() - before) == 1


def test_unknown_events_say_nothing(model: MarkovPersonas) -> None:
    journeys = [Journey(0, (20, 20)), Journey(1, (3, 20, 20, 20)), Journey(2, (20, 3, 3, 20))]
    tables = store_log(write_log(journeys), jl.connect())
    members = model.assign(*tables)
    assert members["n_unknown"].tolist() == [2, 3, 2]
    assert members["is_atypical"].tolist()[:2] == [True, True]  # more is unknown than known
    assert members.loc[0, ["persona", "probability"]].tolist() == [1, pytest.approx(model.mixture.weights_[0])]
    check_by_hand(model, (*tables, None))


def test_nobody_is_assigned_where_there_is_nobody(log_: Tables, model: MarkovPersonas) -> None:
    steps, journeys = log_
    nobody = steps.filter(steps.event == "nothing")
    members = model.assign(nobody, journeys.filter(journeys.n_steps < 0))
    assert members.columns.tolist() == ["customer_id", "persona", "probability", "is_atypical", "n_unknown"]
    assert members.empty


# --- who fits none


def to_planted(model: MarkovPersonas) -> Planted:
    mixture = model.mixture
    return Planted(mixture.weights_ / mixture.weights_.sum(), mixture.start_, mixture.transition_, mixture.exit_)


def test_customers_of_the_model_are_hardly_ever_atypical(model: MarkovPersonas) -> None:
    journeys, _ = simulate(to_planted(model), 8_000, seed=41)
    tables = store_log(write_log(journeys), jl.connect(threads=2))
    share = model.assign(*tables)["is_atypical"].mean()
    assert 0.004 < share < 0.01


def test_random_walkers_are_atypical(model: MarkovPersonas) -> None:
    rng = np.random.default_rng(43)
    lengths = rng.integers(4, 30, size=1_000)
    journeys = [Journey(c, tuple(rng.integers(0, 12, size=n).tolist())) for c, n in enumerate(lengths)]
    members = model.assign(*store_log(write_log(journeys), jl.connect(threads=2)))
    assert members["is_atypical"][lengths >= 8].mean() > 0.85
    assert members["is_atypical"][lengths >= 16].mean() > 0.95


def test_where_all_do_the_same_nobody_is_atypical_but_who_does_not() -> None:
    journeys = [Journey(c, (0, 1, 2)) for c in range(50)]
    tables = store_log(write_log(journeys), jl.connect())
    model = fit_markov(count_moves(*tables), 1, seed=0)
    assert not model.assign(*tables)["is_atypical"].any()
    other = model.assign(*store_log(write_log([Journey(0, (2, 0, 2, 1, 0))]), jl.connect()))
    assert other["is_atypical"].tolist() == [True]


# --- what events come with


@pytest.mark.parametrize("emission", ["dwell", "channel"])
def test_tempo_and_channel_tell_apart_who_travel_alike(emission: str) -> None:
    rng = np.random.default_rng(51)
    journeys, _ = simulate(plant(1, seed=52), 600, seed=53)
    truth = rng.integers(0, 2, size=600)
    waits = {"wait_s": lambda customer, number: float(rng.exponential((60, 600)[truth[customer]]))}
    places = {
        "channel": lambda customer, number: rng.choice(["web", "app"], p=((0.8, 0.2), (0.2, 0.8))[truth[customer]])
    }
    tables = store_log(write_log(journeys, **waits, **places), jl.connect(threads=2))

    def recover(rules: MarkovRules) -> float:
        members = fit_markov(count_moves(*tables, rules), 2, seed=0).assign(*tables)
        return float(adjusted_rand_score(truth, members["persona"]))

    assert recover(MarkovRules()) < 0.05
    assert recover(MarkovRules((emission,))) > 0.7  # type: ignore[arg-type]


def test_dwell_times_fall_into_classes_of_equal_size() -> None:
    journeys = [Journey(c, (0, 1, 2)) for c in range(40)]
    tables = store_log(write_log(journeys, wait_s=lambda customer, number: 10.0 + customer), jl.connect())
    counts = count_moves(*tables, MarkovRules(("dwell",)))
    edges = counts.vocabulary.dwell_edges
    assert edges == (14, 19, 24, 29, 34, 39, 44)
    assert counts.vocabulary.emissions == (8,)
    emitted = counts.moves[:, -3 * 8 :].toarray().reshape(40, 3, 8)
    # each event but the last of a journey was followed
    np.testing.assert_array_equal(emitted.sum(axis=(0, 2)), [40, 40, 0])
    np.testing.assert_array_equal(emitted.sum(axis=(0, 1)), np.full(8, 10))
    np.testing.assert_array_equal(emitted[4], [[1, *[0] * 7], [1, *[0] * 7], [0] * 8])


def test_equal_dwell_times_are_one_class() -> None:
    journeys = [Journey(c, (0, 1)) for c in range(9)]
    tables = store_log(write_log(journeys), jl.connect())
    assert count_moves(*tables, MarkovRules(("dwell",))).vocabulary.dwell_edges == ()
    alone = store_log(write_log([Journey(c, (c % 2,)) for c in range(9)]), jl.connect())
    counts = count_moves(*alone, MarkovRules(("dwell",)))
    assert counts.vocabulary.emissions == (1,)
    assert len(fit_markov(counts, 2, seed=0).assign(*alone)) == 9


def test_channels_are_counted_where_they_are_known() -> None:
    rows = write_log([Journey(0, (0, 1, 0)), Journey(1, (1,))], channel=lambda c, i: ("web", None, "app")[c + i])
    tables = store_log(rows, jl.connect())
    counts = count_moves(*tables, MarkovRules(("channel",)))
    assert counts.vocabulary.outcomes == {"channel": ("app", "web")}
    np.testing.assert_array_equal(counts.moves[:, -4:].toarray(), [[1, 1, 0, 0], [0, 0, 0, 0]])
    model = fit_markov(counts, 1, seed=0)
    later = write_log([Journey(0, (0, 1))], channel=lambda c, i: "store")  # nobody has heard of it
    check_by_hand(model, (*store_log(later, jl.connect()), None))


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(RuleError) as error:
        MarkovRules(("chanel",))  # type: ignore[arg-type]
    assert str(error.value) == 'emissions: "chanel" is not known; choose from dwell, channel. Did you mean "channel"?'
    steps, journeys = store_log(write_log([Journey(0, (0,))], channel=lambda c, i: None), jl.connect())
    with pytest.raises(RuleError, match='emissions: "channel" needs steps with a channel, and none has one'):
        count_moves(steps, journeys, MarkovRules(("channel",)))
    with pytest.raises(RuleError, match='emissions: "channel" needs a column channel in the steps'):
        count_moves(steps.drop("channel"), journeys, MarkovRules(("channel",)))


# --- small logs


@pytest.mark.parametrize(
    ("journeys", "k"),
    [
        ([Journey(0, (0, 1, 0))], 1),  # a single customer
        ([Journey(0, (0,))], 1),  # with a single event
        ([Journey(c, (0,) * (1 + c)) for c in range(5)], 2),  # a single event type
        ([Journey(c, (c % 3,)) for c in range(30)], 2),  # journeys of length one
        ([Journey(c, (c % 3,), has_ended=False) for c in range(30)], 2),  # which are all open
        ([Journey(c, (0, 1) * (1 + c % 3)) for c in range(90)], 3),  # one habit: a persona may stay empty
    ],
)
def test_small_logs_are_assigned(journeys: list[Journey], k: int) -> None:
    con = jl.connect()
    tables = store_log(write_log(journeys), con)
    model = fit_markov(count_moves(*tables, MarkovRules(("dwell", "channel"))), k, seed=0)
    members = model.assign(*tables)
    assert len(members) == len({journey.customer for journey in journeys})
    assert members["persona"].between(1, k).all()
    assert members["probability"].between(1 / k - 1e-9, 1).all()
    assert (members["n_unknown"] == 0).all()
    sizes = members["persona"].value_counts().reindex(range(1, k + 1), fill_value=0)
    assert sizes.is_monotonic_decreasing
    check_by_hand(model, (*tables, None))


# --- more customers than a model needs


def test_personas_are_numbered_by_size_among_those_assigned(log_: Tables, model: MarkovPersonas) -> None:
    members = model.assign(*log_)
    few = members["customer_id"][(members["persona"] == 4) | (members.index % 5 == 0)]
    steps, journeys = log_
    some = steps.filter(steps.customer_id.isin(few.tolist())), journeys
    assigned = model.assign_members(*some)
    before = assigned.to_pandas().set_index("customer_id")
    renumbered, table, _ = sort_by_size(model, assigned)
    after = table.to_pandas().set_index("customer_id").loc[before.index]
    assert (before["persona"] == 4).mean() > 0.4
    assert after["persona"].value_counts().sort_index().is_monotonic_decreasing
    assert (pd.crosstab(before["persona"], after["persona"]) > 0).sum().sum() == 4
    pd.testing.assert_frame_equal(after.drop(columns="persona"), before.drop(columns="persona"))
    again = renumbered.assign(*some).set_index("customer_id").loc[before.index]
    pd.testing.assert_frame_equal(again, after, check_exact=True, check_dtype=False)
    assert sort_by_size(renumbered, table)[:2] == (renumbered, table)


def test_a_log_that_is_not_too_large_is_kept_whole(log_: Tables) -> None:
    assert draw_customers(*log_, n=1_500, seed=0) == log_


def test_customers_are_drawn_with_all_they_did(log_: Tables) -> None:
    steps, journeys = draw_customers(*log_, n=100, seed=0)
    drawn = set(steps.customer_id.to_pyarrow().to_pylist())
    assert len(drawn) == 100
    assert set(journeys.customer_id.to_pyarrow().to_pylist()) == drawn
    for table, whole in zip((steps, journeys), log_, strict=True):
        assert table.columns == whole.columns
        assert table.count().execute() == whole.filter(whole.customer_id.isin(list(drawn))).count().execute()
    other = set(draw_customers(*log_, n=100, seed=1)[0].customer_id.to_pyarrow().to_pylist())
    assert len(drawn & other) < 30  # of 100 each in 1,500, about 7


@pytest.mark.parametrize("grain_s", [1, 86_400])
def test_who_is_drawn_hangs_on_no_name(planted: tuple[list[Journey], np.ndarray], grain_s: int) -> None:
    """Where a log knows days alone, many customers do the same at the same times: then as many of them are drawn."""
    rng = np.random.default_rng(61)
    customers, events = rng.permutation(1_500), rng.permutation(12)

    def draw(rows: list[Row]) -> Counter[tuple[Any, ...]]:
        steps, journeys = store_log(rows, jl.connect(threads=2), as_of=None)
        histories = group_rows(fetch(draw_customers(steps, journeys, n=300, seed=7)[0]), "customer_id")
        return Counter(
            tuple((row["timestamp"], row["step"], row["event"]) for row in rows) for rows in histories.values()
        )

    def coarsen(rows: list[Row]) -> list[Row]:
        seconds = [(row["timestamp"] - START).total_seconds() // grain_s * grain_s for row in rows]
        return [row | {"timestamp": START + timedelta(seconds=one)} for row, one in zip(rows, seconds, strict=True)]

    plain = draw(coarsen(write_log(planted[0])))
    new = {"event": lambda one: name_event(events[one]), "customer": lambda one: f"x{customers[one]}"}
    renamed = coarsen(write_log(planted[0], **new))
    back = dict(zip(map(name_event, events), map(name_event, range(12)), strict=True))
    again = draw([renamed[place] for place in rng.permutation(len(renamed))] if grain_s == 1 else renamed)
    named = Counter(
        {tuple((time, step, back[event]) for time, step, event in history): n for history, n in again.items()}
    )
    assert sum(plain.values()) == 300
    assert named == plain


def test_everybody_is_as_likely_to_be_drawn() -> None:
    # on a log of days, where half of the customers only ever look once, on one of thirty days
    rng = np.random.default_rng(71)
    rows = []
    for customer in range(4_000):
        day = START + timedelta(days=int(rng.integers(0, 30)))
        events = ["look"] if customer % 2 else rng.choice(["look", "buy", "help"], size=rng.integers(1, 9)).tolist()
        rows += [{"customer_id": f"c{customer}", "event": event, "timestamp": day} for event in events]
    steps, journeys = store_log(rows, jl.connect(threads=2), as_of=None)
    shares = []
    for seed in range(8):
        drawn = draw_customers(steps, journeys, n=800, seed=seed)[0].customer_id.to_pyarrow().unique().to_pylist()
        shares.append(np.mean([int(name[1:]) % 2 for name in drawn]))
    # a share of 800 in 4,000 varies by 0.016; drawn in whole groups of those alike it would by far more
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * 0.016 / sqrt(8))
    assert np.std(shares) < 0.032


# --- other engines


def test_every_query_compiles(monkeypatch: pytest.MonkeyPatch, abc: MarkovPersonas) -> None:
    con = jl.connect()
    tables = store_log(write_log([Journey(c, (c % 3, 1)) for c in range(5)], event="abc".__getitem__), con)
    heard = listen(con, monkeypatch)
    drawn = draw_customers(*tables, n=4, seed=0)
    count_moves(*drawn, MarkovRules(("dwell", "channel")))
    sort_by_size(abc, abc.assign_members(*tables))
    abc.assign_members(tables[0], remembered=tables[1])
    fit_markov(count_moves(*tables), 1, seed=0).assign(tables[0])
    assert len(heard) > 10
    for expression in heard:
        for dialect, compiler in COMPILERS.items():
            query = compiler().to_sqlglot(expression.unbind()).sql(dialect)
            sqlglot.parse_one(query, dialect=dialect)
