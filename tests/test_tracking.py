"""Personas over time against counting by hand, and against logs whose changes are known."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import make_steps
from scipy import sparse
from scipy.stats import binom
from test_markov import Journey, Planted, count, plant, simulate
from test_personas import lay_out, name_customer, store

import journeylab as jl
from journeylab import engine
from journeylab.errors import RuleError
from journeylab.personas import MarkovMixture, Personas, tracking
from journeylab.personas.assigning import fit_markov
from journeylab.personas.counting import MarkovRules, count_moves
from journeylab.personas.drift import measure_drift, recall_mixture, recall_transitions, weigh_anew
from journeylab.personas.matching import match_personas
from journeylab.personas.saving import load_personas, save_personas
from journeylab.personas.tracking import Tracking, track_personas

Tables = tuple[ibis.Table, ibis.Table]
FULL = os.environ.get("JOURNEYLAB_FULL") == "1"
EVENTS = tuple("abcd")


# Counting by hand: a persona is the first event of a customer.


@dataclass(frozen=True)
class FirstEvent:
    method: str = "first event"


def assign_by_first(steps: ibis.Table, journeys: ibis.Table | None = None) -> pd.DataFrame:
    rows = steps.execute().sort_values(["customer_id", "timestamp", "step"]).groupby("customer_id")["event"]
    first = rows.first().sort_index()
    return pd.DataFrame(
        {
            "customer_id": first.index,
            "persona": first.map({"a": 1, "b": 2}).fillna(1).astype("int64").to_numpy(),
            "probability": 0.9,
            "is_atypical": (rows.last().sort_index() == "d").to_numpy(),
            "n_unknown": rows.agg(lambda events: (events == "c").sum()).sort_index().to_numpy(),
        }
    )


def list_transitions(histories: dict[str, str]) -> pd.DataFrame:
    """As `Personas.transitions`, of customers who each made one journey."""
    made = Counter(
        (1 if events[0] == "a" else 2, before, after)
        for events in histories.values()
        for before, after in zip([None, *events], [*events, None], strict=True)
    )
    rows = [(*key, n) for key, n in sorted(made.items(), key=str)]
    table = pd.DataFrame(rows, columns=["persona", "event", "next_event", "n"])
    total = table.groupby(["persona", "event"], dropna=False)["n"].transform("sum")
    return table.assign(probability=table["n"] / total)


def known_by_first(histories: dict[str, str]) -> Personas:
    summary = pd.DataFrame({"persona": [1, 2], "name": ["starts with a", "starts with b"], "n": [2, 2]})
    return SimpleNamespace(  # type: ignore[return-value]
        summary=summary, transitions=list_transitions(histories), model=FirstEvent(), assign=assign_by_first
    )


def lay_out_histories(histories: dict[str, str]) -> Tables:
    names = list(histories)
    journeys = [Journey(c, tuple(map(EVENTS.index, histories[name]))) for c, name in enumerate(names)]
    return store(*lay_out(journeys, event=EVENTS.__getitem__, customer=names.__getitem__))


OCTOBER = {"ann": "ab", "bob": "abab", "cid": "ba", "dan": "bad"}
NOVEMBER = {"ann": "ab", "bob": "ba", "cid": "ba", "eve": "acd", "fay": "ac", "gus": "ab"}


@pytest.fixture(scope="module")
def months() -> Tracking:
    periods = {"October": lay_out_histories(OCTOBER), "November": lay_out_histories(NOVEMBER)[0]}
    return track_personas(known_by_first(OCTOBER), periods)


def test_shares_are_of_all_customers_of_a_period(months: Tracking) -> None:
    shares = months.shares
    assert shares["period"].tolist() == ["October", "October", "November", "November"]
    assert shares["persona"].tolist() == [1, 2, 1, 2]
    assert shares["name"].tolist() == ["starts with a", "starts with b"] * 2
    assert shares["n"].tolist() == [2, 2, 4, 2]
    np.testing.assert_allclose(shares["share"], [0.5, 0.5, 4 / 6, 2 / 6])
    # 95 % Wilson interval of 2 in 4
    np.testing.assert_allclose(shares.loc[0, ["low", "high"]].astype(float), [0.15004, 0.84996], atol=1e-5)
    assert shares["change"].isna().tolist() == [True, True, False, False]
    np.testing.assert_allclose(shares["change"][2:], [1 / 6, -1 / 6])
    assert (shares["change_low"] < shares["change"])[2:].all()
    assert shares["p"].isna().all()  # nobody is tested in so small periods
    np.testing.assert_allclose(shares["share_atypical"], [0, 0.5, 0.25, 0])


def test_periods_tell_who_fits_none(months: Tracking) -> None:
    periods = months.periods
    assert periods["n"].tolist() == [4, 6]
    assert periods["n_atypical"].tolist() == [1, 1]
    assert periods["n_unknown"].tolist() == [0, 2]
    np.testing.assert_allclose(periods["growth"], [np.nan, 1 / 6 - 1 / 4])


def test_moves_equal_a_loop_over_customers(months: Tracking) -> None:
    def persona(histories: dict[str, str], name: str) -> int | None:
        return {"a": 1, "b": 2}[histories[name][0]] if name in histories else None

    everyone = {*OCTOBER, *NOVEMBER}
    expected = Counter((persona(OCTOBER, name), persona(NOVEMBER, name)) for name in everyone)
    ends = months.moves[["persona_before", "persona_after"]].astype(object)
    found = [tuple(row) for row in ends.where(ends.notna(), None).to_numpy()]
    assert dict(zip(found, months.moves["n"], strict=True)) == expected
    table = months.moves.set_index(pd.Index(found, tupleize_cols=False))
    assert table.loc[[(1, 2)], "share"].item() == pytest.approx(1 / 3)  # bob, of ann, bob and cid
    assert table.loc[[(1, 2)], "share_of_before"].item() == pytest.approx(1 / 2)
    assert table.loc[[(1, 1)], "probability"].item() == pytest.approx(0.81)
    assert table.loc[[(None, 1), (2, None)], ["share", "share_of_before", "probability"]].isna().all(axis=None)
    # who was there and who is there
    assert months.moves.dropna(subset="persona_before")["n"].sum() == len(OCTOBER)
    assert months.moves.dropna(subset="persona_after")["n"].sum() == len(NOVEMBER)


def test_what_is_not_looked_at_is_said(months: Tracking) -> None:
    assert months.emerging.empty
    assert months.notes == (
        'New personas are not looked for: that takes method="markov", and these are by method="first event".',
    )
    assert months.drift["p"].isna().all()  # nothing happened ten times
    assert months.headline == "From October to November: nothing changed that chance does not explain."
    once = track_personas(known_by_first(OCTOBER), {"October": lay_out_histories(OCTOBER)[0]}, refit=False)
    assert once.notes == ()
    assert once.moves.empty
    assert once.headline.startswith("In October: ")


def test_names_are_escaped(months: Tracking) -> None:
    named = replace(months, shares=months.shares.assign(name="<script>alert(1)</script>"))
    assert "<script>" not in named._repr_html_()
    assert "66.7 %" in named._repr_html_()


def test_no_period_and_an_empty_one() -> None:
    with pytest.raises(RuleError, match="track_personas needs at least one period"):
        track_personas(known_by_first(OCTOBER), {})
    steps, _ = lay_out_histories(OCTOBER)
    with pytest.raises(RuleError, match='period "May" has no customers; leave it out'):
        track_personas(known_by_first(OCTOBER), {"April": steps, "May": steps.filter(steps.event == "z")})


# Drift, where the truth is known.


def draw_counts(planted: Planted, n: int, rng: np.random.Generator) -> sparse.csr_array:
    """What n customers of the truth do, as `MarkovMixture` reads it, many at a time."""
    size = planted.start.shape[1]
    persona = rng.choice(len(planted.shares), size=n, p=planted.shares)
    after = np.concatenate([planted.transition, planted.exit[:, :, None]], axis=2).cumsum(axis=2)
    who = np.repeat(np.arange(n), rng.integers(1, 4, size=n))
    event = (rng.random(len(who))[:, None] > planted.start.cumsum(axis=1)[persona[who]]).sum(axis=1).clip(max=size - 1)
    rows, columns = [who], [event]
    while len(who):
        following = (rng.random(len(who))[:, None] > after[persona[who], event]).sum(axis=1).clip(max=size)
        ends = following == size
        rows += [who[ends], who[~ends], who[~ends]]
        columns += [size + size**2 + event[ends], size + size**2 + size + event[~ends]]
        columns += [(size + event * size + following)[~ends]]
        who, event = who[~ends], following[~ends]
    cells = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.ones(len(cells[0])), cells), shape=(n, size * (size + 3)))


def test_drawing_many_at_a_time_is_drawing_one_by_one() -> None:
    truth = plant(2, seed=1, n_events=4)
    slow, fast = count(simulate(truth, 4_000, seed=2)[0], 4), draw_counts(truth, 4_000, np.random.default_rng(3))
    np.testing.assert_allclose(slow.mean(axis=0), fast.mean(axis=0), atol=0.15)


def drift_of(mixture: MarkovMixture, counts: sparse.csr_array) -> pd.DataFrame:
    n = mixture.n_events_
    events = [f"event {number:02}" for number in range(n)]
    return measure_drift(recall_mixture(mixture), counts[:, n : n + n * n], weigh_anew(mixture, counts), events)


def count_alarms(p: np.ndarray, level: float) -> tuple[int, int]:
    """How many p are below the level, and how many are one time in a thousand if it holds?"""
    tested = p[np.isfinite(p)]
    return int((tested < level).sum()), int(binom.ppf(0.999, len(tested), level))


@pytest.mark.parametrize(
    ("n_fit", "n_now", "k_fitted", "n_events"), [(1_500, 1_500, 3, 12), (500, 1_200, 3, 6), (1_000, 1_000, 2, 12)]
)
def test_without_drift_the_test_holds_its_level(n_fit: int, n_now: int, k_fitted: int, n_events: int) -> None:
    """Also where the fit has fewer personas than the truth: what is compared is what it knows."""
    found = []
    for seed in range(200 if FULL else 4):
        truth, rng = plant(3, seed=seed, n_events=n_events), np.random.default_rng(1_000 + seed)
        mixture = MarkovMixture(k_fitted, n_init=4).fit(draw_counts(truth, n_fit, rng))
        found.append(drift_of(mixture, draw_counts(truth, n_now, rng)))
    table = pd.concat(found)
    for level in (0.05, 0.01):
        alarms, most = count_alarms(table["p"].to_numpy(), level)
        assert alarms <= most
    assert table["low"].median() == 0


def test_customers_who_differ_within_a_persona_are_no_drift() -> None:
    """Customers, not events, are the unit: each has habits of their own, and does much."""
    found = []
    for seed in range(200 if FULL else 8):
        rng = np.random.default_rng(seed)
        common = rng.dirichlet(np.full(5, 2.0), size=5)
        logs = []
        for n in (400, 400):
            own = rng.dirichlet(20 * common.ravel() / 5, size=n).reshape(n, 5, 5)  # not a row alike
            own /= own.sum(axis=2, keepdims=True)
            departures = rng.multinomial(40, np.full(5, 0.2), size=n)
            moves = rng.multinomial(departures, own)
            cells = np.zeros((n, 40))
            cells[:, 5:30] = moves.reshape(n, 25)
            cells[:, 35:] = departures
            logs.append(sparse.csr_array(cells))
        found.append(drift_of(MarkovMixture(1).fit(logs[0]), logs[1])["p"].item())
    alarms, most = count_alarms(np.array(found), 0.05)
    assert alarms <= most


def dense(k: int, seed: int) -> Planted:
    """Personas that do everything often enough to be looked at one by one."""
    rng = np.random.default_rng(seed)
    own = 0.8 * rng.dirichlet(np.full(5, 2.0), size=(k, 5)) + 0.04
    exits = np.full((k, 5), 0.08)
    return Planted(np.full(k, 1 / k), rng.dirichlet(np.full(5, 5.0), size=k), own * (1 - exits)[:, :, None], exits)


def shift(truth: Planted, persona: int, amount: float, seed: int) -> Planted:
    rng = np.random.default_rng(seed)
    other = (0.8 * rng.dirichlet(np.full(5, 2.0), size=5) + 0.04) * (1 - truth.exit[persona])[:, None]
    transition = truth.transition.copy()
    transition[persona] = (1 - amount) * transition[persona] + amount * other
    return replace(truth, transition=transition)


def effect_of(before: Planted, now: Planted) -> float:
    """Cohen's w by its definition, over the transitions that now happen."""
    visits = np.linalg.solve(np.eye(5) - now.transition[0].T, now.start[0]) * (1 - now.exit[0])
    p, q = (truth.transition[0] / (1 - truth.exit[0])[:, None] for truth in (before, now))
    return float(np.sqrt((visits[:, None] * (q - p) ** 2 / p).sum() / visits.sum()))


@pytest.mark.parametrize(("amount", "n_now"), [(0.1, 500), (0.4, 1_500)])
def test_drift_is_found_and_its_interval_covers_the_truth(amount: float, n_now: int) -> None:
    n_runs = 200 if FULL else 8
    covered, found, errors = 0, 0, []
    for seed in range(n_runs):
        before, rng = dense(1, seed), np.random.default_rng(5_000 + seed)
        now = shift(before, 0, amount, seed + 777)
        row = drift_of(MarkovMixture(1).fit(draw_counts(before, 1_000, rng)), draw_counts(now, n_now, rng)).iloc[0]
        truth = effect_of(before, now)
        covered += row["low"] <= truth <= row["high"]
        found += row["p"] < 0.05
        errors.append(row["effect"] - truth)
    assert covered >= binom.ppf(0.001, n_runs, 0.95)
    assert abs(np.mean(errors)) < 0.02
    assert found >= (0.6 if amount < 0.2 else 1) * n_runs


def test_drift_names_the_transition_that_changed() -> None:
    before = dense(1, 3)
    transition = before.transition.copy()
    transition[0, 2, [0, 4]] += [-0.5 * transition[0, 2, 0], 0.5 * transition[0, 2, 0]]
    now, rng = replace(before, transition=transition), np.random.default_rng(0)
    row = drift_of(MarkovMixture(1).fit(draw_counts(before, 3_000, rng)), draw_counts(now, 3_000, rng)).iloc[0]
    assert row["p"] < 1e-6
    assert row["event"] == "event 02"
    assert row["next_event"] in {"event 00", "event 04"}
    place = int(row["next_event"][-1])
    stays = 1 - before.exit[0, 2]
    assert row["probability_before"] == pytest.approx(before.transition[0, 2, place] / stays, abs=0.02)
    assert row["probability"] == pytest.approx(now.transition[0, 2, place] / stays, abs=0.02)


def test_other_shares_are_no_drift() -> None:
    """Where a persona grows, more of its customers are taken for another's, which has not changed for all that."""
    flagged = 0
    for seed in range(60 if FULL else 4):
        truth, rng = plant(3, seed=seed), np.random.default_rng(seed)
        truth = replace(truth, shares=np.array([0.6, 0.25, 0.15]))
        mixture = MarkovMixture(3, n_init=4).fit(draw_counts(truth, 2_000, rng))
        table = drift_of(mixture, draw_counts(replace(truth, shares=truth.shares[::-1]), 2_000, rng))
        flagged += int(((table["p"] < 0.05 / 3) & (table["effect"] >= 0.1)).any())
    assert flagged <= binom.ppf(0.999, 60 if FULL else 4, 0.05)


@pytest.mark.parametrize("amount", [0.0, 0.5])
def test_personas_of_any_method_are_compared_by_their_customers(amount: float) -> None:
    p = []
    for seed in range(100 if FULL else 8):
        before, rng = dense(1, seed), np.random.default_rng(seed)
        logs = [draw_counts(truth, 800, rng)[:, 5:30] for truth in (before, shift(before, 0, amount, seed + 1))]
        n = logs[0].sum(axis=0)
        names = np.array(list("abcde"))
        transitions = pd.DataFrame({"persona": 1, "event": names.repeat(5), "next_event": np.tile(names, 5), "n": n})
        habits = recall_transitions(transitions, list("abcde"), 2)
        belongs = np.array([[1.0, 0.0]]).repeat(800, axis=0)
        table = measure_drift(habits, logs[1], belongs, list("abcde"))
        assert table["n"].tolist() == [800, 0]
        assert np.isnan(table["p"][1])
        p.append(table["p"][0])
    alarms, most = count_alarms(np.array(p), 0.05)
    assert alarms == len(p) if amount else alarms <= most


def test_what_always_went_one_way_and_still_does_has_not_drifted() -> None:
    transitions = pd.DataFrame({"persona": [1], "event": ["a"], "next_event": ["b"], "n": [500]})
    habits, everyone = recall_transitions(transitions, ["a", "b"], 1), np.ones((100, 1))
    same = np.zeros((100, 4))
    same[:, 1] = 3
    assert measure_drift(habits, sparse.csr_array(same), everyone, ["a", "b"])["p"].item() == 1
    other = same.copy()
    other[::3, 0] = 1
    row = measure_drift(habits, sparse.csr_array(other), everyone, ["a", "b"]).iloc[0]
    assert row["p"] < 1e-6
    assert (row["event"], row["next_event"]) == ("a", "b")
    assert row["probability"] == pytest.approx(300 / 334)


# All together.


def tables_of(truth: Planted, n: int, seed: int) -> Tables:
    return store(*lay_out(simulate(truth, n, seed=seed)[0]))


def tabulate_transitions(steps: pd.DataFrame, mixture: MarkovMixture) -> pd.DataFrame:
    """`Personas.transitions` by plain loops."""
    first = steps[steps["step"] == 1].assign(next_event=lambda rows: rows["event"], event=None)
    both = pd.concat([steps, first])[["persona", "event", "next_event"]].astype(object)
    made = Counter(map(tuple, both.where(both.notna(), None).to_numpy()))
    place = {event: number for number, event in enumerate(sorted(steps["event"].unique()))}
    rows = []
    for before, after in sorted({key[1:] for key in made}, key=str):
        for i in range(len(mixture.weights_)):
            if before is None:
                p = mixture.start_[i, place[after]]
            else:
                p = (
                    mixture.exit_[i, place[before]]
                    if after is None
                    else mixture.transition_[i, place[before], place[after]]
                )
            rows.append((i + 1, before, after, p, made[i + 1, before, after]))
    return pd.DataFrame(rows, columns=["persona", "event", "next_event", "probability", "n"])


def fit_quickly(tables: Tables, k: int, rules: MarkovRules | None = None) -> Personas:
    """What of `fit_personas` tracking needs, without the proof that the personas are there."""
    model = fit_markov(count_moves(*tables, rules), k, seed=0)
    members = model.assign(*tables)
    transitions = tabulate_transitions(tables[0].execute().merge(members[["customer_id", "persona"]]), model.mixture)
    sizes = members["persona"].value_counts().reindex(range(1, k + 1), fill_value=0)
    names = [f"persona {number}" for number in sizes.index]
    summary = pd.DataFrame({"persona": sizes.index, "name": names, "n": sizes.to_numpy()})
    empty = {each.name: pd.DataFrame() for each in fields(Personas)}
    given = {"summary": summary, "transitions": transitions, "model": model, "journeys": None, "members": None}
    return Personas(**empty | given)  # type: ignore[arg-type]


FOUR = plant(4, seed=3)
THREE = replace(FOUR, shares=np.array([0.4, 0.3, 0.3, 0.0]))


@pytest.fixture(scope="module")
def personas() -> Personas:
    return fit_quickly(tables_of(THREE, 1_200, 1), 3)


@pytest.fixture(scope="module")
def quiet() -> Tables:
    return tables_of(THREE, 600, 2)


@pytest.fixture(scope="module")
def quarter(personas: Personas, quiet: Tables) -> Tracking:
    """Two quiet months, then one in which a fifth of the customers are of a fourth kind."""
    grown = replace(FOUR, shares=np.array([0.32, 0.24, 0.24, 0.2]))
    return track_personas(personas, {"10": quiet, "11": tables_of(THREE, 500, 3), "12": tables_of(grown, 700, 6)})


def test_quiet_months_are_quiet(quarter: Tracking) -> None:
    emerging = quarter.emerging[quarter.emerging["period"] < "12"]
    assert emerging.groupby("period")["persona_old"].agg(sorted).tolist() == [[1, 2, 3]] * 2
    assert (emerging["name"] == "persona " + emerging["persona_old"].astype("str")).all()
    assert (emerging["distance"] < 0.15).all()
    assert emerging["distance_again"].isna().all()
    assert not quarter.drift["has_drifted"].any()
    november = quarter.shares[quarter.shares["period"] == "11"]
    assert (november["p_adjusted"] > 0.05).all()
    assert (november["change_low"] < 0).all()
    assert (november["change_high"] > 0).all()


def test_a_new_persona_is_found(quarter: Tracking) -> None:
    new = quarter.emerging[quarter.emerging["is_new"]]
    assert new["period"].tolist() == ["12"]
    assert new["share"].item() == pytest.approx(0.2, abs=0.05)
    assert new["persona_old"].isna().all()
    assert new["distance"].item() > 0.35
    assert new["distance_again"].item() < 0.2
    old = quarter.emerging[(quarter.emerging["period"] == "12") & ~quarter.emerging["is_new"]]
    assert sorted(old["persona_old"]) == [1, 2, 3]
    # its customers are nobody's, and do not make the others seem to drift
    assert quarter.periods["growth"].iloc[2] > 0.05
    assert quarter.periods["p_adjusted"].iloc[2] < 0.001
    assert not quarter.drift["has_drifted"].any()
    assert f"a new persona, {new['name'].item()}, shows first in 12 (" in quarter.headline


def test_a_share_that_grows_is_told_and_is_no_drift(personas: Personas, quiet: Tables) -> None:
    smaller = replace(THREE, shares=np.array([0.2, 0.5, 0.3, 0.0]))
    tracking = track_personas(personas, {"October": quiet, "November": tables_of(smaller, 800, 4)}, refit=False)
    sure = tracking.shares[tracking.shares["p_adjusted"] < 0.05].set_index("persona")["change"]
    assert sure[1] == pytest.approx(-0.2, abs=0.06)
    assert (sure > 0).sum() == 1
    assert not tracking.drift["has_drifted"].any()
    assert tracking.emerging.empty
    assert f"{personas.summary.loc[0, 'name']} fell to" in tracking.headline
    assert "and 1 more change of shares" in tracking.headline


def test_a_persona_that_changes_its_ways_is_told(personas: Personas, quiet: Tables) -> None:
    transition = THREE.transition.copy()
    transition[0] = 0.7 * transition[0] + 0.3 * np.roll(transition[0], 1, axis=1)
    changed = replace(THREE, transition=transition)
    tracking = track_personas(personas, {"October": quiet, "November": tables_of(changed, 800, 5)}, refit=False)
    drifted = tracking.drift[tracking.drift["has_drifted"]]
    assert drifted["period"].tolist() == ["November"]
    assert drifted["persona"].tolist() == [1]
    assert f"{personas.summary.loc[0, 'name']} behaves differently (first in November)" in tracking.headline
    # without a refit, those who fit none tell
    assert "of the customers of November fit no persona" in tracking.headline


@pytest.mark.skipif(not FULL, reason="the same as above, sixty times: JOURNEYLAB_FULL=1")
@pytest.mark.parametrize("extra", [0.0, 0.15])
def test_false_and_missed_news(extra: float) -> None:
    alarms, drifts, runs = 0, 0, 30
    for seed in range(runs):
        truth = plant(4, seed=100 + seed)
        shares = np.array([0.4, 0.35, 0.25, 0.0])
        known = fit_quickly(tables_of(replace(truth, shares=shares), 1_200, seed), 3)
        now = replace(truth, shares=np.append((1 - extra) * shares[:3], extra))
        tracking = track_personas(known, {"now": tables_of(now, 1_000, 200 + seed)})
        alarms += int(tracking.emerging["is_new"].any())
        drifts += int(tracking.drift["has_drifted"].any())
    assert alarms >= 0.9 * runs if extra else alarms == 0
    assert drifts <= binom.ppf(0.999, runs, 0.05)


def test_saved_personas_are_tracked_alike(personas: Personas, quiet: Tables, tmp_path: Any) -> None:
    loaded = load_personas(save_personas(personas, tmp_path / "personas.json.gz"))
    one, other = (track_personas(each, {"October": quiet}, refit=False) for each in (personas, loaded))
    for name in ("periods", "shares", "drift"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_names_and_order_do_not_matter(personas: Personas) -> None:
    journeys, _ = simulate(FOUR, 300, seed=8)
    shuffled = np.random.default_rng(2).permutation(300)
    plain = store(*lay_out(journeys))
    renamed = store(*lay_out(journeys, customer=lambda c: f"ż{shuffled[c]}", seed=5))
    one, other = (track_personas(personas, {"now": tables}) for tables in (plain, renamed))
    for name in ("periods", "shares", "drift", "emerging"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_of_many_customers_some_are_looked_at(
    personas: Personas, quiet: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_MOST_CUSTOMERS", 300)
    found = track_personas(personas, {"October": quiet, "again": quiet[0]})
    assert found.periods["n"].tolist() == [600, 600]
    assert found.drift.groupby("period")["n"].sum().round().tolist() == [300, 300]
    assert found.emerging.groupby("period")["n"].sum().tolist() == [300, 300]


def test_months_of_one_log_as_it_is_read() -> None:
    """Steps of the whole log, filtered by time, with or without its journeys."""
    rng, rows = np.random.default_rng(0), []
    for customer in range(120):
        path = ("shop", "cart", "pay") if customer % 2 else ("help", "chat", "help")
        for month in (1, 2):
            for place, event in enumerate(path[: rng.integers(1, 4)]):
                at = pd.Timestamp(2026, month, 5 + customer % 20, place)
                rows.append({"customer_id": name_customer(customer), "event": event, "timestamp": at.to_pydatetime()})
    rules, con = jl.JourneyRules(journey_gap="10D"), jl.connect()
    steps = engine.store(make_steps(rows, rules, con=con), con)
    journeys = engine.store(jl.build_journeys(steps, rules), con)
    personas = fit_quickly((steps, journeys), 2)
    months = {f"2026-0{month}": steps.filter(steps.timestamp.month() == month) for month in (1, 2)}
    found = track_personas(personas, {"2026-01": months["2026-01"], "2026-02": (months["2026-02"], journeys)})
    assert found.shares["n"].tolist() == [60] * 4
    assert found.moves["n"].tolist() == [60, 60]
    assert not found.emerging["is_new"].any()


def test_personas_that_look_at_more_than_the_order_are_tracked() -> None:
    journeys, _ = simulate(THREE, 400, seed=9)
    steps, fates = lay_out(journeys)
    con = ibis.duckdb.connect()
    by_customer = steps["customer_id"].str[-1].isin(list("02468"))
    stored = con.create_table("steps", steps.assign(channel=by_customer.map({True: "app", False: "web"})))
    tables = stored, con.create_table("journeys", fates)
    personas = fit_quickly(tables, 2, MarkovRules(("channel",)))
    found = track_personas(personas, {"now": tables})
    assert found.notes == ()
    assert found.drift["n"].tolist() == found.shares["n"].tolist()
    assert not found.drift["has_drifted"].any()
    assert found.emerging["n"].sum() == 400


# Matching.

Way = dict[tuple[str | None, str | None], int]


def number_ways(*ways: Way, method: str = "markov") -> Personas:
    """Personas who went these ways so often."""
    rows = [(number, *ends, n) for number, way in enumerate(ways, start=1) for ends, n in way.items()]
    table = pd.DataFrame(rows, columns=["persona", "event", "next_event", "n"])
    total = table.groupby(["persona", "event"], dropna=False)["n"].transform("sum")
    table = table.assign(probability=table["n"] / total)
    return SimpleNamespace(transitions=table, model=SimpleNamespace(method=method))  # type: ignore[return-value]


BUYER = {(None, "shop"): 100, ("shop", "cart"): 80, ("shop", None): 20, ("cart", None): 80}
ASKER = {(None, "help"): 50, ("help", "chat"): 30, ("help", None): 25, ("chat", "help"): 5, ("chat", None): 25}
READER = {(None, "news"): 10, ("news", "news"): 10, ("news", None): 10}


def test_personas_are_matched_whatever_their_numbers() -> None:
    table = match_personas(number_ways(BUYER, ASKER, READER), number_ways(READER, BUYER, ASKER))
    assert table["persona_old"].tolist() == [1, 2, 3]
    assert table["persona_new"].tolist() == [2, 3, 1]
    np.testing.assert_allclose(table["distance"], 0, atol=1e-7)


def test_more_and_fewer_personas_are_matched() -> None:
    more = match_personas(number_ways(BUYER, ASKER), number_ways(READER, BUYER, ASKER))
    assert more["persona_old"].tolist() == [1, 2, pd.NA]
    assert more["persona_new"].tolist() == [2, 3, 1]
    fewer = match_personas(number_ways(BUYER, READER, ASKER), number_ways(ASKER))
    assert fewer["persona_old"].tolist() == [1, 2, 3]
    assert fewer["persona_new"].tolist() == [pd.NA, pd.NA, 1]
    assert fewer["distance"].notna().tolist() == [False, False, True]


def test_distance_is_that_of_jensen_and_shannon() -> None:
    other = {(None, "shop"): 50, ("shop", "cart"): 10, ("shop", "help"): 40, ("cart", None): 10, ("help", None): 40}
    p = {"start": 100 / 180, "cart": 80 / 180, "help": 0.0}
    q = {"start": 50 / 100, "cart": 10 / 100, "help": 40 / 100}
    middle = {name: (p[name] + q[name]) / 2 for name in p}
    bits = sum(side[name] * np.log2(side[name] / middle[name]) / 2 for side in (p, q) for name in p if side[name])
    assert match_personas(number_ways(BUYER), number_ways(other))["distance"].item() == pytest.approx(np.sqrt(bits))
    assert match_personas(number_ways(BUYER), number_ways(READER))["distance"].item() == pytest.approx(1)


def test_ends_play_no_part() -> None:
    endless = {ends: 3 * n for ends, n in BUYER.items() if ends[1] is not None}
    assert match_personas(number_ways(BUYER), number_ways(endless))["distance"].item() == pytest.approx(0, abs=1e-7)


def test_an_event_called_nothing_is_not_the_start() -> None:
    one, other = {(None, "a"): 5, ("", "b"): 5}, {(None, "b"): 5, ("", "a"): 5}
    assert match_personas(number_ways(one), number_ways(other))["distance"].item() == pytest.approx(1)


def test_without_transitions_there_is_nothing_to_match_by() -> None:
    with pytest.raises(RuleError, match='personas by method="features" have no transitions to be compared by'):
        match_personas(number_ways(BUYER), number_ways(method="features"))
