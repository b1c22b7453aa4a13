"""Personas from steps and journeys: what is counted, what is said, and what must not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import ibis
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from test_markov import Journey, plant, simulate

from journeylab.errors import RuleError, SchemaError
from journeylab.personas import Personas, fit_personas

Tables = tuple[ibis.Table, ibis.Table]
START = pd.Timestamp("2026-01-01")


def name_event(event: int) -> str:
    return f"event {event:02}"


def name_customer(customer: int) -> str:
    return f"c{customer:05}"


def lay_out(
    journeys: list[Journey],
    event: Callable[[int], str] = name_event,
    customer: Callable[[int], str] = name_customer,
    seed: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps and journeys as `build_steps` and `build_journeys` give them; shuffled if there is a seed."""
    steps, fates = [], []
    position: Counter[str] = Counter()
    for number, journey in enumerate(journeys):
        names = [event(one) for one in journey.events]
        ids = {"journey_id": f"j{number:06}", "customer_id": customer(journey.customer)}
        times = [START + pd.Timedelta(minutes=number + step) for step in range(len(names))]
        steps += [
            {
                **ids,
                "event": name,
                "next_event": following,
                "step": step,
                "position": position[ids["customer_id"]] + step,
                "timestamp": time,
                "gap_s": 60.0 if step > 1 else None,
            }
            for step, (name, following, time) in enumerate(zip(names, [*names[1:], None], times, strict=True), start=1)
        ]
        position[ids["customer_id"]] += len(names)
        fates.append(
            {
                **ids,
                "start_time": times[0],
                "end_time": times[-1],
                "goal_time": times[-1] if names[-1] == "buy" else pd.NaT,
                "n_steps": len(names),
                "is_open": not journey.has_ended,
                "reached_goal": names[-1] == "buy",
                "value": 10.0 if names[-1] == "buy" else None,
            }
        )
    tables = pd.DataFrame(steps), pd.DataFrame(fates).astype({"value": "float64"})
    return tables if seed is None else tuple(table.sample(frac=1, random_state=seed) for table in tables)  # type: ignore[return-value]


def store(steps: pd.DataFrame, journeys: pd.DataFrame) -> Tables:
    con = ibis.duckdb.connect()
    steps = steps.astype({"customer_id": "str", "event": "str", "next_event": "str", "gap_s": "float64"})
    return con.create_table("steps", steps), con.create_table("journeys", journeys)


SHOP = ["home", "search", "cart", "buy", "help", "chat"]


@pytest.fixture(scope="module")
def shop() -> Tables:
    """Eight buyers, who search and buy, and four who ask for help, one of them still on the way."""
    buys, asks = (0, 1, 2, 3), (0, 4, 5)
    journeys = [Journey(c, buys) for c in range(8)] + [Journey(c, asks) for c in range(8, 12)]
    journeys += [Journey(c, buys[: 2 + c % 3]) for c in range(8)] + [Journey(c, asks) for c in range(8, 11)]
    journeys += [Journey(11, (0, 4), has_ended=False)]
    return store(*lay_out(journeys, event=SHOP.__getitem__))


@pytest.fixture(scope="module")
def two(shop: Tables) -> Personas:
    return fit_personas(*shop, k=2)


@pytest.fixture(scope="module")
def planted() -> tuple[list[Journey], np.ndarray]:
    return simulate(plant(5, seed=13), 3_000, seed=14)


def test_summary_of_a_log_that_fits_on_a_page(two: Personas) -> None:
    summary = two.summary
    assert summary["persona"].tolist() == [1, 2]
    assert summary["n"].tolist() == [8, 4]
    np.testing.assert_allclose(summary["share"], [2 / 3, 1 / 3])
    # 95 % Wilson interval of 8 in 12
    assert summary.loc[0, "low"] == pytest.approx(0.3906, abs=1e-4)
    assert summary.loc[0, "high"] == pytest.approx(0.8619, abs=1e-4)
    # buyers have 4 events and 2, 3 or 4 more; those who ask 6, the open one 5
    assert summary["n_events_median"].tolist() == [7.0, 6.0]
    assert summary["n_journeys_mean"].tolist() == [2.0, 2.0]
    assert summary["conversion"].tolist() == [1.0, 0.0]
    assert summary.loc[1, "conversion_high"] == pytest.approx(0.4899, abs=1e-4)
    # each of 8 bought once, two of them (customers 2 and 5) twice
    assert summary["value_mean"].tolist() == [12.5, 0.0]
    assert (summary["probability_mean"] > 0.9).all()
    assert summary.loc[1, "top_events"].startswith("help ")
    assert two.headline == "2 personas of 12 customers; the largest, search · cart, is 66.7 % (39.1–86.2 %)."


def test_profile_compares_shares_within_customers(shop: Tables, two: Personas) -> None:
    steps = shop[0].execute()
    shares = pd.crosstab(steps["customer_id"], steps["event"], normalize="index")
    is_buyer = shares.index < name_customer(8)
    expected = shares[is_buyer].mean() - shares[~is_buyer].mean()
    own = two.profile[two.profile["persona"] == 1].set_index("event")
    np.testing.assert_allclose(own["difference"], expected[own.index])
    np.testing.assert_allclose(own["share"], shares[is_buyer].mean()[own.index])
    np.testing.assert_allclose(own["effect"], (expected / shares.std(ddof=0))[own.index])
    assert own["effect"].abs().is_monotonic_decreasing


def test_transitions_say_what_comes_next(two: Personas) -> None:
    table = two.transitions
    sums = table.assign(event=table["event"].fillna("(start)")).groupby(["persona", "event"])["probability"].sum()
    assert (sums <= 1 + 1e-9).all()
    assert sums[(1, "search")] > 0.95  # the rest is for moves that nobody made
    assert sums[(2, "search")] < 0.8  # these customers never search, so that little is known
    first = table[(table["persona"] == 1) & table["event"].isna()]
    assert first["next_event"].tolist() == ["home"]
    after_home = table[(table["persona"] == 1) & (table["event"] == "home")]
    assert after_home["next_event"].iloc[0] == "search"
    assert (table.loc[(table["event"] == "buy"), "next_event"].iloc[0]) is None


def test_assigning_the_customers_of_the_fit_reproduces_it(shop: Tables, two: Personas) -> None:
    members = two.assign(*shop)
    assert members.columns.tolist() == ["customer_id", "persona", "probability", "is_atypical", "n_unknown"]
    assert members["customer_id"].tolist() == [name_customer(c) for c in range(12)]
    assert members["persona"].tolist() == [1] * 8 + [2] * 4
    means = members.groupby("persona")["probability"].mean()
    np.testing.assert_allclose(means, two.summary["probability_mean"], atol=1e-9)  # summed in billionths
    pd.testing.assert_frame_equal(two.assign(shop[0]), members)


def test_a_new_customer_is_assigned_without_a_refit(two: Personas) -> None:
    asks, never_met = Journey(0, (0, 4, 5), has_ended=False), Journey(1, (6, 6))
    names = [*SHOP, "brand new"]
    steps, _ = store(*lay_out([asks, never_met, Journey(2, (0, 4, 5, 6))], event=names.__getitem__))
    members = two.assign(steps)
    assert members["persona"].tolist() == [2, 1, 2]
    assert members["n_unknown"].tolist() == [0, 2, 1]
    assert members.loc[1, "probability"] == pytest.approx(two.model.mixture.weights_[0])


def test_journeys_of_another_log_do_not_lend_their_ends(two: Personas) -> None:
    # the same journey ids, a month later: nobody said which of them have ended
    later = [Journey(0, (0, 1)), Journey(1, (0, 4))]
    steps, journeys = lay_out(later, event=SHOP.__getitem__)
    steps["timestamp"] += pd.Timedelta(days=31)
    con = two.journeys.get_backend()
    table = con.create_table("later", steps.astype({"next_event": "str"}))
    opened = con.create_table("later_journeys", journeys.assign(is_open=True))
    pd.testing.assert_frame_equal(two.assign(table), two.assign(table, opened))


def test_what_came_after_the_end_of_observation_is_not_looked_at(shop: Tables) -> None:
    steps, journeys = (table.execute() for table in shop)
    cut = journeys.assign(n_steps=journeys["n_steps"].clip(upper=2), is_open=True)
    seen = steps[steps["step"] <= 2].copy()
    seen.loc[seen["step"] == 2, "next_event"] = None
    before = fit_personas(*store(seen, cut), k=2)
    pd.testing.assert_frame_equal(fit_personas(*store(steps, cut), k=2).summary, before.summary)


def test_k_is_found(planted: tuple[list[Journey], np.ndarray]) -> None:
    journeys, truth = planted
    steps, fates = store(*lay_out(journeys))
    personas = fit_personas(steps, fates)
    assert personas.k_search is not None
    assert personas.k_search["k"].tolist() == list(range(1, 9))
    assert personas.k_search.loc[personas.k_search["chosen"], "k"].tolist() == [5]
    assert len(personas.summary) == 5
    assert personas.summary["name"].is_unique
    assert personas.summary["n"].is_monotonic_decreasing
    assert personas.summary["n"].sum() == 3_000
    assert adjusted_rand_score(truth, personas.assign(steps, fates)["persona"]) > 0.6


@pytest.mark.parametrize("seed", [1, 2])
def test_one_persona_is_not_split(seed: int) -> None:
    journeys, _ = simulate(plant(1, seed=seed), 1_500, seed=seed)
    personas = fit_personas(*store(*lay_out(journeys)))
    assert personas.summary["n"].tolist() == [1_500]
    assert personas.profile.empty
    assert personas.headline == "One persona for all 1,500 customers."


def test_names_and_order_do_not_matter(planted: tuple[list[Journey], np.ndarray]) -> None:
    journeys = [journey for journey in planted[0] if journey.customer < 600]
    tables = store(*lay_out(journeys))
    members = fit_personas(*tables, k=4).assign(*tables)
    shuffled = np.random.default_rng(2).permutation(600)
    other = store(*lay_out(journeys, event=lambda e: f"<{(7 * e) % 12}>", customer=lambda c: f"ż{shuffled[c]}", seed=5))
    renamed = fit_personas(*other, k=4).assign(*other).set_index("customer_id")
    again = renamed.loc[[f"ż{shuffled[c]}" for c in range(600)]]
    assert again["persona"].tolist() == members["persona"].tolist()
    np.testing.assert_allclose(again["probability"], members["probability"])


def test_open_journeys_make_no_exit() -> None:
    """A window cuts slow journeys: their ends are learned right where they are marked, and far too often if not."""
    rng = np.random.default_rng(3)
    ends, window, gap = 0.25, 120.0, 40.0
    steps, fates = [], []
    for customer in range(3_000):
        times = [rng.uniform(0, window)]
        while rng.random() > ends:
            times.append(times[-1] + rng.exponential(6.0))
        times = [time for time in times if time < window]
        ids = {"journey_id": str(customer), "customer_id": str(customer)}
        for step, time in enumerate(times, start=1):
            following = "look" if step < len(times) else None
            moment = START + pd.Timedelta(seconds=round(86_400 * time))
            row = {**ids, "event": "look", "next_event": following, "step": step, "position": step, "gap_s": None}
            steps.append({**row, "timestamp": moment})
        fates.append({**ids, "end_time": moment, "n_steps": len(times), "is_open": window - time <= gap})
    never = {"start_time": START, "goal_time": pd.Series(pd.NaT, range(3_000), "datetime64[us]")}
    journeys = pd.DataFrame(fates).assign(reached_goal=False, value=np.nan, **never)

    def exit_probability(journeys: pd.DataFrame) -> float:
        table = fit_personas(*store(pd.DataFrame(steps), journeys), k=1).transitions
        return float(table.loc[(table["event"] == "look") & table["next_event"].isna(), "probability"].iloc[0])

    assert exit_probability(journeys) == pytest.approx(ends, abs=0.012)
    assert exit_probability(journeys.assign(is_open=False)) > ends + 0.03


def test_personas_that_share_events_are_named_after_a_move() -> None:
    journeys = [Journey(c, (0, 1, 2, 3) if c % 2 else (0, 2, 1, 3)) for c in range(40)]
    names = fit_personas(*store(*lay_out(journeys, event="abcd".__getitem__)), k=2).summary["name"]
    assert all("→" in name for name in names)
    assert names.is_unique


def test_text_from_data_is_escaped() -> None:
    evil = ["<script>alert(1)</script>", "$x_1$", "Оплата", "b"]
    journeys = [Journey(c, (0, 1) if c % 2 else (2, 3)) for c in range(20)]
    page = fit_personas(*store(*lay_out(journeys, event=evil.__getitem__)), k=2)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "mathjax_ignore" in page


@pytest.mark.parametrize(
    "journeys",
    [
        [Journey(0, (0,))],
        [Journey(0, (0, 1, 0), has_ended=False)],
        [Journey(c, (0,)) for c in range(30)],
        [Journey(c, (c % 3,), has_ended=False) for c in range(30)],
    ],
)
def test_small_logs_have_one_persona(journeys: list[Journey]) -> None:
    steps, fates = store(*lay_out(journeys))
    personas = fit_personas(steps, fates)
    assert len(personas.summary) == 1
    assert personas.summary.loc[0, "name"] == "everyone"
    assert np.isnan(personas.summary.loc[0, "conversion"])
    assert personas.assign(steps, fates)["probability"].tolist() == [1.0] * len({j.customer for j in journeys})


def test_a_persona_without_customers_is_shown_as_such() -> None:
    # these differ in length only, so that a third persona finds nothing of its own
    journeys = [Journey(c, (0, 1) * (1 + c % 3)) for c in range(300)]
    personas = fit_personas(*store(*lay_out(journeys)), k=3)
    assert personas.summary["n"].sum() == 300
    assert personas.verdict != "clear"
    assert personas.summary.loc[personas.summary["n"] == 0, "name"].str.contains("nobody|unstable").all()
    assert personas.summary["name"].is_unique
    assert not personas.profile.isna().any(axis=None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"method": "markow"},
            'method="markow" is not known; choose one of markov, features, sequence. Did you mean "markov"?',
        ),
        ({"k": 0}, 'k=0 is no number of personas; give a whole number from 1, or "auto"'),
        ({"k": True}, 'k=True is no number of personas; give a whole number from 1, or "auto"'),
        ({"k": "five"}, "k='five' is no number of personas; give a whole number from 1, or \"auto\""),
        ({"k_max": 0}, "k_max=0 is no number of personas; give a whole number from 1"),
        ({"seed": -1}, "seed=-1; give a whole number from 0"),
        (
            {"k": 9},
            "k (n_components) is 9, but only 5 customers differ (of 12); choose a number from 1 to 5",
        ),
    ],
)
def test_arguments_that_do_not_fit(shop: Tables, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(RuleError) as error:
        fit_personas(*shop, **arguments)  # type: ignore[arg-type]
    assert str(error.value) == said


def test_no_steps(shop: Tables) -> None:
    steps, journeys = shop
    with pytest.raises(SchemaError, match="there are no steps to find personas in"):
        fit_personas(steps.filter(steps.event == "nothing"), journeys)
