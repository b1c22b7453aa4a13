"""What sets personas apart: their sizes, shares of events, transitions and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    import ibis
    from numpy.typing import NDArray

    from journeylab.personas.counting import CustomerCounts
    from journeylab.personas.em import Floats
    from journeylab.personas.markov import MarkovMixture

_LEAST_EFFECT = 0.2  # Cohen (1988): a small difference; less names nobody
_TOP_EVENTS = 3


def summarise(
    counts: CustomerCounts, members: pd.DataFrame, journeys: ibis.Table, profile: pd.DataFrame, names: list[str]
) -> pd.DataFrame:
    """How many customers is each persona, how active are they, and how many reach the goal? One row per persona."""
    customers = _follow(counts, journeys).assign(
        persona=members["persona"].to_numpy(), probability=members["probability"].to_numpy()
    )
    has_goal, has_value = bool(customers["reached_goal"].any()), bool(customers["value"].notna().any())
    groups = customers.groupby("persona").agg(
        n=("persona", "size"),
        n_events_median=("n_events", "median"),
        n_journeys_mean=("n_journeys", "mean"),
        n_reached=("reached_goal", "sum"),
        value_mean=("value", lambda value: value.fillna(0).mean() if has_value else np.nan),
        probability_mean=("probability", "mean"),
    )
    groups = groups.reindex(range(1, len(names) + 1))
    groups[["n", "n_reached"]] = groups[["n", "n_reached"]].fillna(0).astype(int)
    low, high = _interval(groups["n"], len(customers))
    base = groups["n"].where((groups["n"] > 0) & has_goal)
    conversion_low, conversion_high = _interval(groups["n_reached"], base)
    return pd.DataFrame(
        {
            "persona": groups.index,
            "name": names,
            "n": groups["n"],
            "share": groups["n"] / len(customers),
            "low": low,
            "high": high,
            "n_events_median": groups["n_events_median"],
            "n_journeys_mean": groups["n_journeys_mean"],
            "conversion": groups["n_reached"] / base,
            "conversion_low": conversion_low,
            "conversion_high": conversion_high,
            "value_mean": groups["value_mean"],
            "probability_mean": groups["probability_mean"],
            "top_events": [_list_events(profile, persona) for persona in groups.index],
        }
    ).reset_index(drop=True)


def profile_events(counts: CustomerCounts, persona: pd.Series, k: int) -> pd.DataFrame:
    """Which share of a customer's events is each event, in the persona and elsewhere? Strongest difference first.

    Shares are taken within each customer and then averaged, so that the busy do not outvote the others and long
    histories do not contain more of everything. `effect` is the difference in standard deviations of that share over
    all customers: Cohen's d with the total deviation, which stays finite where a persona is pure.
    """
    members = sparse.csr_array((np.ones(len(persona)), (persona - 1, np.arange(len(persona)))), (k, len(persona)))
    n_members = np.bincount(persona - 1, minlength=k)[:, None]
    shares = sparse.diags_array(1 / np.maximum(counts.occurrences.sum(axis=1), 1)) @ counts.occurrences
    sums = (members @ shares).toarray()
    with np.errstate(invalid="ignore", divide="ignore"):  # of no customers there is no mean
        inside, elsewhere = sums / n_members, (sums.sum(axis=0) - sums) / (len(persona) - n_members)
        mean = sums.sum(axis=0) / len(persona)
        deviation = np.sqrt(np.maximum(shares.multiply(shares).sum(axis=0) / len(persona) - mean**2, 0))
        effect = np.where(deviation > 1e-9, (inside - elsewhere) / deviation, 0.0)
    table = pd.DataFrame(
        {
            "persona": np.repeat(np.arange(1, k + 1), len(counts.events)),
            "event": np.tile(np.array(counts.events, dtype=object), k),
            "share": inside.ravel(),
            "share_elsewhere": elsewhere.ravel(),
            "difference": (inside - elsewhere).ravel(),
            "effect": effect.ravel(),
        }
    )
    strength = table["effect"].abs()
    return table.iloc[np.lexsort((table["event"], -strength, table["persona"]))].reset_index(drop=True)


def list_transitions(counts: CustomerCounts, model: MarkovMixture) -> pd.DataFrame:
    """What does each persona do next? persona, event (None: the start), next_event (None: the end), probability.

    All transitions that somebody made; probabilities are smoothed as `MarkovMixture` says.
    """
    place, before, after = _read_columns(counts, model)
    n, k = len(counts.events), len(model.weights_)
    log_p = model.log_probabilities_[place]
    # the model draws the next event only after it has drawn that there is one
    is_move = (before >= 0) & (after >= 0)
    log_p[is_move] += model.log_probabilities_[-n:][before[is_move]]
    names = np.array([*counts.events, None], dtype=object)
    table = pd.DataFrame(
        {
            "persona": np.repeat(np.arange(1, k + 1), len(place)),
            "event": np.tile(names[before], k),
            "next_event": np.tile(names[after], k),
            "probability": np.exp(log_p).T.ravel(),
        }
    )
    table = table.sort_values(
        ["persona", "event", "probability", "next_event"], ascending=[True, True, False, True], na_position="first"
    ).reset_index(drop=True)
    ends = table[["event", "next_event"]].astype(object)
    return table.assign(**ends.where(ends.notna(), None))


def name_personas(counts: CustomerCounts, persona: pd.Series, profile: pd.DataFrame, model: MarkovMixture) -> list[str]:
    """Which short name tells each persona from the others?

    Its one or two most over-represented events; where no event stands out, the transition that gives it away most.
    No name is used twice.
    """
    k = len(model.weights_)
    names: list[str] = []
    for number in range(1, k + 1):
        is_member = (persona == number).to_numpy()
        own = profile[(profile["persona"] == number) & (profile["effect"] >= _LEAST_EFFECT)]
        marks = own["event"][own["effect"] >= own["effect"].max() / 2].tolist()
        if k == 1 or not is_member.any():
            marks = ["everyone" if k == 1 else "nobody"]
        elif not marks:
            marks = [_strongest_move(counts, is_member, model, number - 1)]
        longer = (" · ".join(marks[:length]) for length in range(2, len(marks) + 1))
        choices = [" · ".join(marks[:2]), *longer, f"{' · '.join(marks[:2])} ({number})"]
        names.append(next(name for name in choices if name not in names))
    return names


def _strongest_move(counts: CustomerCounts, is_member: NDArray[np.bool_], model: MarkovMixture, component: int) -> str:
    place, before, after = _read_columns(counts, model)
    made = counts.moves[is_member].sum(axis=0)[model.columns_[place]]
    log_p = model.log_probabilities_[place]
    gain = made * (log_p[:, component] - np.log(np.exp(log_p) @ model.weights_))
    strongest = int(gain.argmax())
    start, end = before[strongest], after[strongest]
    return f"{counts.events[start] if start >= 0 else 'start'} → {counts.events[end] if end >= 0 else 'end'}"


def _read_columns(
    counts: CustomerCounts, model: MarkovMixture
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which rows of the model's table are starts, transitions and ends that somebody made, from and to which event?

    -1 stands for the start before and the end after.
    """
    n = len(counts.events)
    is_made = (counts.moves.sum(axis=0)[model.columns_] > 0) & (model.columns_ < n + n * n + n)
    place = np.flatnonzero(is_made)
    columns = model.columns_[place]
    move, end = columns - n, columns - n - n * n
    before = np.where(move < 0, -1, np.where(end < 0, move // n, end))
    after = np.where(move < 0, columns, np.where(end < 0, move % n, -1))
    return place, before, after


def _follow(counts: CustomerCounts, journeys: ibis.Table) -> pd.DataFrame:
    """Per customer: n_events, n_journeys, reached_goal (0 or 1) and value (NaN: none)."""
    fates = journeys.group_by("customer_id").agg(
        n_journeys=journeys.count(),
        reached_goal=journeys.reached_goal.any().fill_null(False).cast("int64"),
        value=journeys.value.sum(),
    )
    table: pd.DataFrame = fates.execute().set_index("customer_id").reindex(counts.customers)
    return table.assign(value=table["value"].astype(float), n_events=counts.occurrences.sum(axis=1))


def _interval(n: pd.Series, base: pd.Series | int) -> tuple[Floats, Floats]:
    from statsmodels.stats.proportion import proportion_confint

    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = proportion_confint(n.to_numpy(float), np.asarray(base, dtype=float), method="wilson")
    return low, high


def _list_events(profile: pd.DataFrame, persona: int) -> str:
    top = profile[profile["persona"] == persona].nlargest(_TOP_EVENTS, "share")
    return ", ".join(
        f"{event} {share:.0%}" for event, share in zip(top["event"], top["share"], strict=True) if share > 0
    )
