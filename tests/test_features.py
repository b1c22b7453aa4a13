"""Personas by features: planted kinds, what must not matter, and logs of a few customers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import START, Row, make_steps
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

import journeylab as jl
from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError
from journeylab.personas import FeatureRules
from journeylab.personas.choose import choose_personas
from journeylab.personas.features import FeaturePersonas, Measured, feature_family, fit_features, measure_customers
from journeylab.personas.scaling import Scale, find_scale

# No figure is made of 0 / 0 behind the scenes.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

Tables = tuple[ibis.Table, ibis.Table]
RULES = jl.JourneyRules(journey_gap="30D")
CLUSTERS: tuple[Any, ...] = ("kmeans", "gmm", "hdbscan")
EVERY_CLUSTER = pytest.mark.parametrize("cluster", CLUSTERS)


def walk(customer: str, events: Sequence[str], gap_s: Sequence[float] | float = 60, **columns: Any) -> list[Row]:
    """A history: seconds before each event but the first, and columns that are the same or one value per event."""
    gaps = [gap_s] * len(events) if isinstance(gap_s, float | int) else gap_s
    now, rows = START, []
    for place, event in enumerate(events):
        now += timedelta(seconds=float(gaps[place])) * (place > 0)
        own = {name: value[place] if isinstance(value, list) else value for name, value in columns.items()}
        rows.append({"customer_id": customer, "event": event, "timestamp": now, **own})
    return rows


@cache
def connect() -> ibis.BaseBackend:
    return jl.connect(threads=1)


def build(rows: Sequence[Row]) -> Tables:
    steps = store(make_steps(rows, RULES, con=connect()), connect())
    return steps, store(jl.build_journeys(steps, RULES), connect())


def is_second(n: int) -> np.ndarray:
    """Who is of the second kind: every third."""
    return np.arange(n) % 3 == 2


def draw_rows(
    plant: str = "", n: int = 120, *, seed: int = 0, lengths: Sequence[tuple[int, int]] = ((8, 25),)
) -> list[Row]:
    """Customers who are alike but for what `plant` names; lengths between the bounds, in turn."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, second in enumerate(is_second(n)):
        length = int(rng.integers(*lengths[i % len(lengths)]))
        mix = [0.1, 0.1, 0.8] if second and plant == "events" else [0.6, 0.3, 0.1]
        tempo = 3600 if second and plant == "tempo" else 300
        app = 0.8 if second and plant == "channel" else 0.3
        value = 20 if second and plant == "value" else 2
        rows += walk(
            f"k{i:04}",
            rng.choice(["look", "cart", "help"], size=length, p=mix).tolist(),
            1 + np.round(rng.exponential(tempo, size=length)),
            channel=np.where(rng.random(length) < app, "app", "web").tolist(),
            value=np.where(rng.random(length) < 0.5, rng.lognormal(np.log(value), 0.5, size=length), 0).tolist(),
            country="PL" if second else "DE",
        )
    return rows


@cache
def draw_tables(plant: str = "", n: int = 120) -> Tables:
    return build(draw_rows(plant, n))


@cache
def measure(plant: str = "", cluster: Any = "kmeans") -> Measured:
    if cluster == "kmeans":
        return measure_customers(*draw_tables(plant))
    return replace(measure(plant), rules=FeatureRules(cluster=cluster))  # which plays no part before the clusters


def draw_ages(n: int = 120) -> pd.DataFrame:
    age = np.random.default_rng(1).normal(np.where(is_second(n), 60, 30), 4)
    return pd.DataFrame({"customer_id": [f"k{i:04}" for i in range(n)], "age": age})


def agree(members: pd.DataFrame) -> float:
    """How well are the two kinds found again? Adjusted Rand index."""
    return float(adjusted_rand_score(is_second(len(members)), members["persona"]))


def fit(tables: Tables, k: int = 2, rules: FeatureRules | None = None, *, seed: int = 0) -> FeaturePersonas:
    return fit_features(measure_customers(*tables, rules), k, seed=seed)


def find_variance(rows: NDArray[np.float64], scale: Scale, by: str = "block") -> dict[str, float]:
    """Of all columns of a block together, among the customers."""
    variance = pd.Series(rows.var(axis=0)).groupby(scale.table[by]).sum()
    return {str(block): float(value) for block, value in variance.items()}


# What is found


@pytest.mark.parametrize("plant", ["tempo", "channel", "value", "events"])
def test_kinds_that_differ_in_one_thing_are_found(plant: str) -> None:
    tables = draw_tables(plant)
    assert agree(fit_features(measure(plant), 2).assign(*tables)) > 0.85


def test_kinds_that_differ_in_an_attribute_only_are_found() -> None:
    tables = draw_tables()
    assert agree(fit_features(measure(), 2).assign(*tables)) < 0.1  # nothing that they do tells
    for attribute in (draw_ages(), ["country"]):
        assert agree(fit(tables, rules=FeatureRules(customers=attribute)).assign(*tables)) > 0.95


@EVERY_CLUSTER
def test_every_cluster_finds_them(cluster: Any) -> None:
    # HDBSCAN finds out by itself how many there are
    model = fit_features(measure("tempo", cluster), 5 if cluster == "hdbscan" else 2)
    assert model.n_personas == 2
    assert agree(model.assign(*draw_tables("tempo"))) > 0.85


def test_fewer_are_found_than_were_asked_for() -> None:
    personas = jl.fit_personas(*draw_tables("tempo"), k=5, method=FeatureRules(cluster="hdbscan"))
    assert personas.summary["persona"].tolist() == [1, 2]
    assert personas.summary["n"].sum() == 120
    assert personas.stability["persona"].tolist() == [1, 2]


def test_their_number_is_found() -> None:
    choice = choose_personas(feature_family(measure("tempo")), [1, 2, 3])
    assert (choice.verdict, choice.k) == ("clear", 2)


def test_customers_of_one_kind_are_not_parted() -> None:
    """Not even those of few events from those of many, of whom more is known."""
    rows = draw_rows(lengths=[(2, 6), (40, 60)])
    personas = jl.fit_personas(*build(rows), method="features", k_max=4)
    assert personas.verdict == "none"
    assert personas.summary["n"].tolist() == [120]


@pytest.mark.parametrize("cluster", ["gmm", "hdbscan"])
def test_nor_by_other_clusters(cluster: Any) -> None:
    search = feature_family(measure("", cluster)).score_k([1, 2, 3], 0)
    assert search.loc[search["chosen"], "k"].tolist() == [1]


# How customers are measured


def test_long_and_short_histories_of_a_kind_are_together() -> None:
    tables = build(draw_rows("events", lengths=[(8, 12), (80, 120)]))
    members = fit(tables).assign(*tables)
    assert agree(members) > 0.9
    is_long = np.arange(len(members)) % 2
    assert abs(adjusted_rand_score(is_long, members["persona"])) < 0.05


def test_doing_it_all_five_times_changes_nobody() -> None:
    rows = draw_rows("events")
    again = [{**row, "timestamp": row["timestamp"] + timedelta(days=day)} for day in range(5) for row in rows]
    tables = draw_tables("events")
    model = fit(tables, rules=FeatureRules(blocks=["events"]))
    members, longer = model.assign(*tables), model.assign(*build(again))
    assert (longer["persona"] == members["persona"]).mean() > 0.97


def test_customers_who_differ_in_how_often_only_do_not_differ() -> None:
    tables = build([row for i in range(40) for row in walk(f"k{i:02}", "abb" * (1 + i % 4))])
    measured = measure_customers(*tables, FeatureRules(blocks=["events"]))
    with pytest.raises(RuleError, match="k is 2, but only 1 of 40 customers differ; choose a number up to that"):
        fit_features(measured, 2)


def test_what_was_never_done_was_not_done_at_once() -> None:
    """One event has no pause, which is something else than a short one; who never paid did not pay little."""
    rows = [row for i in range(20) for row in walk(f"k{i:02}", "aaa", 3600 if i % 2 else 1, value=1 + 99.0 * (i % 2))]
    rules = FeatureRules(blocks=["tempo", "value"])
    model = fit(build(rows), rules=rules)
    others = walk("once", "a", value=0.0) + walk("quick", "aa", 0, value=1.0)
    members = model.assign(*build(others)).set_index("customer_id")
    quick = model.assign(*build(rows)).loc[0, "persona"]
    assert members.loc["quick", "persona"] == quick
    assert members.loc["quick", "probability"] > 0.9
    assert members.loc["once", "probability"] == pytest.approx(0.5)
    measured = measure_customers(*build(rows + others), rules)
    place = measured.sheet.customers[measured.order].get_loc("once")
    assert measured.rows[place].tolist() == measured.belief[place].tolist() == [0, 0]


def test_variance_is_parted_into_kinds_and_chance() -> None:
    """Customers' mean logarithms of pauses have variance 0.25, and the logarithms of each 1."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(400):
        pauses = np.exp(rng.normal(7 + 0.5 * rng.normal(), 1, size=9))
        rows += walk(f"k{i:03}", "a" * 9, pauses)
    measured = measure_customers(*build(rows), FeatureRules(blocks={"tempo": 4}))
    column = measured.scale.table.iloc[0]
    assert column["real"] == pytest.approx(0.25, rel=0.15)
    assert column["chance"] == pytest.approx(1, rel=0.05)
    # of eight pauses, two thirds of the variance is real, and so much of its weight the block has
    share = column["real"] / (column["real"] + column["chance"] / 8)
    assert find_variance(measured.rows, measured.scale)["tempo"] == pytest.approx(4 * share, rel=0.01)
    np.testing.assert_allclose(measured.belief, share)


def test_a_block_of_chance_does_not_drown_the_others() -> None:
    variance = find_variance(measure("tempo").rows, measure("tempo").scale)
    assert variance["tempo"] > 0.9
    assert max(variance[block] for block in ("events", "channels", "value")) < 0.2


def test_each_attribute_has_the_same_part_of_their_weight() -> None:
    rng = np.random.default_rng(0)
    frame = draw_ages().assign(plan=rng.choice(list("abcdef"), size=120), is_new=rng.random(120) < 0.3, visits=0.1)
    measured = measure_customers(*draw_tables(), FeatureRules(blocks={"attributes": 3}, customers=frame))
    own = find_variance(measured.rows, measured.scale, by="variable")
    assert own == pytest.approx({"age": 1, "plan": 1, "is_new": 1})  # and of visits there is only one number


def test_far_out_numbers_count_as_the_fence() -> None:
    places = []
    for age in (1e3, 1e9):
        ages = draw_ages()
        ages.loc[0, "age"] = age
        measured = measure_customers(*draw_tables(), FeatureRules(blocks=["attributes"], customers=ages))
        places.append(np.sort(measured.rows[:, 0]))
    np.testing.assert_allclose(places[0], places[1])


def test_rare_events_share_a_column() -> None:
    rows = [row for i in range(10) for row in walk(f"k{i}", ["a", "b"] if i < 6 else ["a", "cd"[i % 2]])]
    measured = measure_customers(*build(rows), FeatureRules(top_events=2))
    assert sorted(measured.sheet.layout.events) == ["a", "b"]
    assert sorted(measured.sheet.layout.rare_events) == ["c", "d"]
    counts = measured.sheet.counts["events"]
    assert counts.shape == (10, 3)
    assert counts[:, 2].tolist() == [0] * 6 + [1] * 4


# What must not matter


def test_names_and_order_of_rows_do_not_matter() -> None:
    rows = draw_rows("channel")
    events, channels = {"look": "zobacz", "cart": "a", "help": "м"}, {"app": "www", "web": "α"}
    shuffled = np.random.default_rng(2).permutation(120)
    renamed = [
        {
            **rows[place],
            "customer_id": f"x{shuffled[int(rows[place]['customer_id'][1:])]:04}",
            "event": events[rows[place]["event"]],
            "channel": channels[rows[place]["channel"]],
        }
        for place in np.random.default_rng(3).permutation(len(rows))
    ]
    others = build(renamed)
    measured = measure_customers(*others)
    for cluster in CLUSTERS:
        members = fit_features(measure("channel", cluster), 2).assign(*draw_tables("channel"))
        model = fit_features(replace(measured, rules=FeatureRules(cluster=cluster)), 2)
        found = model.assign(*others).set_index("customer_id").loc[[f"x{place:04}" for place in shuffled]]
        pd.testing.assert_frame_equal(found.reset_index(drop=True), members.drop(columns="customer_id"))


@EVERY_CLUSTER
def test_assigning_reproduces_the_fit(cluster: Any) -> None:
    tables = draw_tables("tempo")
    measured = measure("tempo", cluster)
    model = fit_features(measured, 2)
    members = model.assign(*tables)
    assert members["customer_id"].tolist() == [f"k{i:04}" for i in range(120)]
    assert list(members.dtypes.astype(str)) == ["str", "int64", "float64", "bool", "int64"]
    predict = feature_family(measured).fit(measured.rows, np.ones(120), 2, 0)
    assert (members["persona"].to_numpy()[measured.order] == predict(measured.rows) + 1).all()
    np.testing.assert_allclose(model.cells.belong(measured.rows).sum(axis=1), 1)
    assert members["probability"].between(1 / model.n_personas, 1).all()
    assert members["is_atypical"].mean() < 0.1
    assert fit_features(measured, 2).to_dict() == model.to_dict()
    again = FeaturePersonas.from_dict(json.loads(json.dumps(model.to_dict())))
    pd.testing.assert_frame_equal(again.assign(*tables), members, check_exact=True)
    assert json.dumps(again.to_dict()) == json.dumps(model.to_dict())
    part = [table.filter(table.customer_id < "k0007") for table in tables]
    pd.testing.assert_frame_equal(model.assign(*part), members.head(7), check_exact=True)


def test_other_numbers_change_nothing_else() -> None:
    tables = draw_tables("tempo")
    model, order = fit_features(measure("tempo"), 3), np.array([2, 0, 1])
    members, found = model.assign(*tables), model.reorder(order).assign(*tables)
    assert (order[found["persona"] - 1] + 1 == members["persona"]).all()
    rest = ["customer_id", "probability", "is_atypical", "n_unknown"]
    pd.testing.assert_frame_equal(found[rest], members[rest])


def test_what_the_fit_has_not_met_says_nothing() -> None:
    model = fit_features(measure("tempo"), 2)
    new = walk("k1", ["look", "new", "new"], 300, channel="tv", value=0.0)
    new += walk("k2", ["new"], channel="tv", value=0.0)
    members = model.assign(*build(new))
    assert members["n_unknown"].tolist() == [2, 1]
    assert members.notna().all(axis=None)


def test_the_limit_itself_is_typical() -> None:
    """Two customers are equally far from their centre; and a dense cluster's limit is its own farthest customer."""
    for cluster in ("kmeans", "hdbscan"):
        measured = measure("tempo", cluster)
        for seed in range(10):
            rows = np.random.default_rng(seed).normal(size=(4 if cluster == "kmeans" else 40, 2))
            model = fit_features(replace(measured, rows=rows), 2)
            squares = model.cells.measure(rows)
            on_the_limit = np.isclose(squares, model.limits, rtol=1e-8, atol=0)
            assert on_the_limit.any()
            assert (squares <= model.limits)[on_the_limit].all()


# Few customers, and little to tell them by

ONE = {
    "one customer": walk("k", "ab", channel="web", value=5.0),
    "one event": walk("k", "a"),
    "one event each": [row for i in range(40) for row in walk(f"k{i}", "a", value=0.0)],
    "all alike": [row for i in range(40) for row in walk(f"k{i}", "abc", 130, channel="web", value=0.1)],
}


@pytest.mark.parametrize("rows", ONE.values(), ids=ONE)
def test_where_nobody_differs_there_is_one_persona(rows: list[Row]) -> None:
    tables = build(rows)
    measured = measure_customers(*tables)
    assert measured.rows.shape == (len({row["customer_id"] for row in rows}), 0)
    for rules in map(FeatureRules, CLUSTERS):
        assert feature_family(replace(measured, rules=rules)).score_k([1, 2, 3], 0)["k"].tolist() == [1]
    model = fit_features(measured, 1)
    members = FeaturePersonas.from_dict(json.loads(json.dumps(model.to_dict()))).assign(*tables)
    assert (members["persona"] == 1).all()
    assert (members["probability"] == 1).all()
    assert not members["is_atypical"].any()


def test_a_customer_alone_is_everyone() -> None:
    personas = jl.fit_personas(*build(ONE["one event"]), method="features")
    assert personas.headline == "One persona for all 1 customers."


@pytest.mark.parametrize("n", [2, 6, 30])
def test_a_handful_of_customers(n: int) -> None:
    """With gaps: some have one event, some never paid, most paid once."""
    rng = np.random.default_rng(n)
    rows = []
    for i in range(n):
        length = 1 + i % 3
        paid = [float(i % 4) * (place == 0) for place in range(length)]
        rows += walk(f"k{i:02}", rng.choice(list("ab"), size=length), 60.0 * (1 + i % 5), channel="web", value=paid)
    tables = build(rows)
    measured = measure_customers(*tables)
    assert np.isfinite(measured.rows).all()
    assert all(variance <= 1 + 1e-9 for variance in find_variance(measured.rows, measured.scale).values())
    for rules in map(FeatureRules, CLUSTERS):
        membership = fit_features(replace(measured, rules=rules), 2).cells.belong(measured.rows)
        np.testing.assert_allclose(membership.sum(axis=1), 1)


def test_fewer_than_thirty_are_not_parted_unasked() -> None:
    rows = [row for row in draw_rows("events") if row["customer_id"] < "k0029"]
    search = feature_family(measure_customers(*build(rows))).score_k(range(1, 9), 0)
    assert search["k"].tolist() == [1]


def test_chance_alone_has_little_weight_even_among_six() -> None:
    sheet, weights = measure().sheet, dict.fromkeys(("events", "channels", "tempo", "value"), 1.0)
    variances = []
    for first in range(0, 120, 6):
        six = sheet.take(np.arange(first, first + 6))
        scale = find_scale(six, weights)
        variances.append(find_variance(scale.apply(six)[0], scale))
    found = pd.DataFrame(variances)
    assert found.mean().max() < 0.2
    assert found.max(axis=None) <= 1 + 1e-9


def test_what_is_the_same_for_all_is_no_column() -> None:
    """Though a mean of equal numbers is not always that number: nothing is made large that is rounding only."""
    rows = [row for i in range(30) for row in walk(f"k{i:02}", ["abc"[i % 3]] * (1 + i % 4), 40)]
    ages = pd.DataFrame({"customer_id": [f"k{i:02}" for i in range(30)], "age": 37.1, "plan": None})
    ages.loc[:9, "age"] = None
    with pytest.warns(UserWarning, match="10 of 30 customers have no attributes; they are placed by the rest"):
        measured = measure_customers(*build(rows), FeatureRules(customers=ages))
    assert measured.scale.table["block"].unique().tolist() == ["events"]
    model = fit_features(measured, 3)
    other = pd.DataFrame({"customer_id": ["k"], "age": [99.0], "plan": ["gold"]})
    found = model.assign(*build(walk("k", "bb", 86_400)), customers=other)
    members = model.assign(*build(rows)).set_index("customer_id")
    assert found.loc[0, "persona"] == members.loc["k01", "persona"]


# What does not fit


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"cluster": "kmean"},
            'FeatureRules: cluster must be one of kmeans, gmm, hdbscan; found "kmean". Did you mean "kmeans"?',
        ),
        ({"top_events": 0}, "FeatureRules: top_events must be at least 1, found 0"),
        (
            {"blocks": "evens"},
            'FeatureRules: no block "evens". Did you mean "events"? The blocks are events, channels, stages, tempo, '
            "recency, value, attributes",
        ),
        ({"blocks": {"tempo": 0}}, "FeatureRules: the weight of tempo must be above 0, found 0; or leave it out"),
        (
            {"blocks": {"tempo": float("inf")}},
            "FeatureRules: the weight of tempo must be above 0, found inf; or leave it out",
        ),
        (
            {"blocks": []},
            "FeatureRules: name at least one block of events, channels, stages, tempo, recency, value, attributes",
        ),
        (
            {"blocks": ["attributes"]},
            'FeatureRules: the block "attributes" needs customers=, a table or names of columns',
        ),
    ],
)
def test_rules_that_do_not_fit(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(RuleError) as error:
        FeatureRules(**arguments)
    assert str(error.value) == said


IDS = [f"k{i:04}" for i in range(120)]
NOBODY = pd.DataFrame({"customer_id": ["x"], "age": [1]})
NAMES = pd.DataFrame({"customer_id": IDS, "mail": IDS})
TIMES = pd.DataFrame({"customer_id": IDS, "since": pd.Timestamp("2026-01-01")})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"customers": ["contry"]}, 'customers: no column "contry" in steps. Did you mean "country"?'),
        ({"customers": NOBODY}, "customers: none of its 1 customers is among the 120 of the steps; do the ids match?"),
        (
            {"customers": NAMES},
            'customers: "mail" has 120 different values, each of less than 1 % of the customers: rather a name than '
            "an attribute. Leave it out, or sort it into classes",
        ),
        ({"customers": TIMES}, 'customers: "since" is a time (timestamp'),
        ({"customers": draw_ages()[["age"]]}, "customers: the table has no column customer_id"),
        ({"blocks": ["stages", "events"]}, "FeatureRules: this log has no stages; leave out that block"),
    ],
)
def test_logs_and_attributes_that_do_not_fit(rules: Mapping[str, Any], said: str) -> None:
    with pytest.raises(RuleError) as error:
        measure_customers(*draw_tables(), FeatureRules(**rules))
    assert str(error.value).startswith(said)


def test_a_block_that_the_log_lacks() -> None:
    tables = build(ONE["one event each"])
    with pytest.raises(RuleError, match="this log has no tempo and no channels and no value; leave out that block"):
        measure_customers(*tables, FeatureRules(blocks=["tempo", "channels", "value", "recency"]))
    with pytest.raises(SchemaError, match="there are no steps to find personas in"):
        measure_customers(tables[0].filter(ibis.literal(False)), None)


def test_personas_need_what_they_look_at() -> None:
    model = fit(draw_tables(), rules=FeatureRules(customers=draw_ages()))
    again = FeaturePersonas.from_dict(model.to_dict())  # a table is not saved
    with pytest.raises(RuleError, match='look at the attribute "age"; pass customers= with a column of that name'):
        again.assign(*draw_tables())
    with pytest.raises(RuleError, match="look at channels, and the steps have no column channel; read the log with it"):
        fit(draw_tables()).assign(*build(walk("k", "ab")))
