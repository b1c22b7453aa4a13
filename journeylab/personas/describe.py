"""What sets personas apart: their sizes, fates, tempo, shares of events and transitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from journeylab.shares import bound_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from journeylab.personas.markov import MarkovMixture
    from journeylab.personas.tallying import Tally

_TOP = 3


def profile_personas(tally: Tally) -> pd.DataFrame:
    """Which share of a customer's events is each event, in the persona and elsewhere? Strongest difference first.

    Shares are taken within each customer and then averaged, so that the busy do not outvote the others and long
    histories do not contain more of everything.

    Returns
    -------
    pandas.DataFrame
        persona, event, share (in the persona), share_elsewhere (of all others), difference, effect (the difference in
        standard deviations of that share over all customers: Cohen's d with the total deviation, which stays finite
        where a persona is pure). Empty with one persona; none of a persona without customers.
    """
    sizes = tally.sizes["n"]
    share = tally.events["n_own"] / tally.events["n_all"]
    table = _spread(tally.events, share, len(sizes))
    sums, squares = table.to_numpy(), _spread(tally.events, share**2, len(sizes)).to_numpy().sum(axis=0)
    n = sizes.to_numpy()[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):  # of no customers there is no mean
        inside, elsewhere = sums / n, (sums.sum(axis=0) - sums) / (n.sum() - n)
        deviation = np.sqrt(np.maximum(squares / n.sum() - (sums.sum(axis=0) / n.sum()) ** 2, 0))
        effect = np.where(deviation > 1e-9, (inside - elsewhere) / deviation, 0.0)
    table = pd.DataFrame(
        {
            "persona": np.repeat(sizes.index.to_numpy(), sums.shape[1]),
            "event": np.tile(table.columns.to_numpy(), len(sizes)),
            "share": inside.ravel(),
            "share_elsewhere": elsewhere.ravel(),
            "difference": (inside - elsewhere).ravel(),
            "effect": effect.ravel(),
        }
    ).dropna(subset="difference")
    strength = table["effect"].abs()
    return table.iloc[np.lexsort((table["event"], -strength, table["persona"]))].reset_index(drop=True)


def _spread(counted: pd.DataFrame, what: pd.Series, k: int) -> pd.DataFrame:
    """Sum something over the customers of each persona (rows) and each name (columns)."""
    sums = (what * counted["n"]).groupby([counted["persona"], counted["name"]]).sum().unstack()
    return sums.reindex(range(1, k + 1)).fillna(0.0)


def estimate_transitions(tally: Tally, model: MarkovMixture | None = None, events: Sequence[str] = ()) -> pd.DataFrame:
    """What does each persona do next?

    Counted are journeys that have ended, as in `count_transitions`; where none of the log has, open ones are, and no
    end is known.

    Parameters
    ----------
    tally : Tally
    model, events
        A mixture and the events that it knows. Its probabilities are smoothed, and told of every persona for all
        transitions that somebody made; without it, they are shares of what the persona's own customers did.

    Returns
    -------
    pandas.DataFrame
        persona, event (None: the start), next_event (None: the end), probability (of what follows `event`), n (times
        that the persona's customers did so).
    """
    moves = tally.moves if tally.moves["is_open"].all() else tally.moves[~tally.moves["is_open"]]
    names = np.array([*sorted(moves["event"].unique()), None], dtype=object)  # the last, -1, is the start or the end
    places = {name: place for place, name in enumerate(names[:-1])}
    before, after = (moves[side].map(places).fillna(-1).astype("int64") for side in ("event", "next_event"))
    moves = moves.assign(before=before, after=after)
    starts = moves[moves["is_first"]].assign(before=-1, after=before)
    made = pd.concat([starts, moves[(after >= 0) | ~moves["is_open"]]])
    made = made.groupby(["persona", "before", "after"])["n"].sum().reset_index()
    if model is None:
        made["probability"] = made["n"] / made.groupby(["persona", "before"])["n"].transform("sum")
    else:
        made = _look_up(made, model, names, events)
    made = made.sort_values(["persona", "before", "probability", "after"], ascending=[True, True, False, True])
    made = made.assign(event=names[made["before"]], next_event=names[made["after"]])
    table = made[["persona", "event", "next_event", "probability", "n"]].reset_index(drop=True)
    return _with_none(table, "event", "next_event")


def _with_none(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    texts = table[list(names)].astype(object)
    return table.assign(**texts.where(texts.notna(), None))


def _look_up(
    made: pd.DataFrame, model: MarkovMixture, names: NDArray[np.object_], events: Sequence[str]
) -> pd.DataFrame:
    """All transitions that somebody made, of every persona, as probable as the model holds them."""
    known = {name: place for place, name in enumerate(events)} | {None: -1}
    code = np.array([known.get(name, -2) for name in names])  # of events that the model has not met it knows nothing
    pairs = made[["before", "after"]].drop_duplicates()
    pairs = pairs[(code[pairs["before"]] > -2) & (code[pairs["after"]] > -2)]
    before, after, n = code[pairs["before"]], code[pairs["after"]], len(events)
    table = np.vstack([model.log_probabilities_, model.log_unseen_])
    column = np.where(before < 0, after, n + np.where(after < 0, n * n + before, before * n + after))
    log_p = table[model.find_rows(column)]
    # the model draws the next event only after it has drawn that there is one
    is_move = (before >= 0) & (after >= 0)
    log_p[is_move] += table[model.find_rows(n + n * n + n + before[is_move])]
    every = pairs.merge(pd.DataFrame({"persona": np.arange(1, len(model.weights_) + 1)}), how="cross")
    every["probability"] = np.exp(log_p).ravel()
    every = every.merge(made, on=["persona", "before", "after"], how="left")
    return every.assign(n=every["n"].fillna(0).astype("int64"))


def summarise_personas(tally: Tally, transitions: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """How many customers is each persona, how do they travel, and how many reach the goal?

    Parameters
    ----------
    tally : Tally
    transitions : pandas.DataFrame
        From `estimate_transitions`.
    names : sequence of str
        One per persona.

    Returns
    -------
    pandas.DataFrame
        One row per persona: persona, name, n (customers), share (of all) with low and high; n_events_median and
        n_journeys_mean (per customer); conversion (n_reached of n: customers with a journey that reached the goal; null
        where nobody in the log did, for the rules may name no goal) with bounds; value_mean (per customer, none counts
        as 0; null where the log has no values) with bounds; time_to_goal_median_s (from the start of a journey, over
        the n_goal_journeys that reached it so far); gap_median_s (between two events of a journey, each customer
        weighing the same); drop_off and drop_off_share (where most of the n_dropped journeys ended that did not reach
        the goal; null where nobody in the log reached one); next_step and next_step_share (what the n_open journeys
        that are open most likely do next, if they go on); channels and top_events (mean shares within customers, as
        text); probability_mean (of belonging to it); share_atypical (of its customers, fit none).
        Bounds are those of 95 % intervals: Wilson's of shares, Student's of the mean value.
    """
    sizes = tally.sizes
    n, nobody = sizes["n"], sizes["n"] == 0
    has_goal, has_value = bool(sizes["n_reached"].any()), bool(sizes["n_valued"].any())
    share, low, high = bound_shares(n, pd.Series(n.sum(), index=n.index))
    conversion, conversion_low, conversion_high = bound_shares(sizes["n_reached"], n if has_goal else n * 0)
    value = sizes["value"] if has_value else sizes["value"] * np.nan
    margin = stdtrit(n - 1, 0.975) * sizes["value_sd"] / np.sqrt(n)
    table = pd.DataFrame(
        {
            "name": names,
            "n": n,
            "share": share,
            "low": low,
            "high": high,
            "n_events_median": _find_medians(tally.lengths, "n_events"),
            "n_journeys_mean": (sizes["n_journeys"] / n).mask(nobody),
            "n_reached": sizes["n_reached"],
            "conversion": conversion,
            "conversion_low": conversion_low,
            "conversion_high": conversion_high,
            "value_mean": value,
            "value_low": value - margin,
            "value_high": value + margin,
            "n_goal_journeys": tally.waits.groupby("persona")["n"].sum().reindex(n.index, fill_value=0),
            "time_to_goal_median_s": _find_medians(tally.waits, "wait_s"),
            "gap_median_s": _find_medians(tally.gaps, "gap_s"),
        },
        index=n.index,
    )
    table = table.join(_find_drop_off(tally.moves if has_goal else tally.moves.head(0)))
    table = table.join(_find_next_step(tally.moves, transitions))
    table = table.assign(
        channels=_list_top(tally.channels),
        top_events=_list_top(tally.events),
        probability_mean=sizes["probability"],
        share_atypical=(sizes["n_atypical"] / n).mask(nobody),
    )
    counts = ["n_dropped", "n_open"]
    table[counts] = table[counts].fillna(0).astype("int64")
    table = table.fillna({"channels": "", "top_events": ""}).reset_index()
    return _with_none(table, "drop_off", "next_step")


def _find_medians(counted: pd.DataFrame, value: str) -> pd.Series:
    """The middle value of each persona, or the mean of the two in the middle."""
    rows = counted.sort_values(["persona", value])
    until = rows.groupby("persona")["n"].cumsum()
    half = rows.groupby("persona")["n"].transform("sum") / 2
    first = rows[until >= half].groupby("persona")[value].first()
    second = rows[until > half].groupby("persona")[value].first()
    return (first + second) / 2


def _find_drop_off(moves: pd.DataFrame) -> pd.DataFrame:
    dropped = moves[moves["next_event"].isna() & ~moves["is_open"] & ~moves["reached_goal"]]
    total = dropped.groupby("persona")["n"].sum()
    found = _take_largest(dropped, "event").set_axis(["drop_off", "drop_off_share"], axis=1)
    return found.assign(n_dropped=total)


def _find_next_step(moves: pd.DataFrame, transitions: pd.DataFrame) -> pd.DataFrame:
    standing = moves[moves["next_event"].isna() & moves["is_open"]]
    standing = standing.groupby(["persona", "event"])["n"].sum().reset_index()
    ways = transitions.dropna(subset=["event", "next_event"])
    goes_on = ways.groupby(["persona", "event"])["probability"].transform("sum")
    ways = ways.assign(probability=ways["probability"] / goes_on.where(goes_on > 0))
    expected = standing.merge(ways[["persona", "event", "next_event", "probability"]], on=["persona", "event"])
    expected["n"] = expected["n"] * expected["probability"]
    found = _take_largest(expected, "next_event").set_axis(["next_step", "next_step_share"], axis=1)
    return found.join(standing.groupby("persona")["n"].sum().rename("n_open"), how="outer")


def _take_largest(counted: pd.DataFrame, name: str) -> pd.DataFrame:
    """What do most of each persona have, and which share is that? Indexed by persona; of equals, the first name."""
    sums = counted.groupby(["persona", name])["n"].sum().reset_index()
    sums["share"] = sums["n"] / sums.groupby("persona")["n"].transform("sum")
    largest = sums.sort_values(["persona", "n", name], ascending=[True, False, True]).drop_duplicates("persona")
    return largest.set_index("persona")[[name, "share"]]


def _list_top(counted: pd.DataFrame) -> pd.Series:
    """The names with the largest mean shares within customers, such as "web 62 %, app 38 %"; one text per persona."""
    shares = counted.assign(share=counted["n"] * counted["n_own"] / counted["n_all"])
    sums = shares.groupby(["persona", "name"])["share"].sum().reset_index()
    sums["share"] /= sums.groupby("persona")["share"].transform("sum")  # a customer's own shares sum to 1
    sums = sums[sums["share"] >= 0.005].sort_values(["persona", "share", "name"], ascending=[True, False, True])
    texts: dict[int, list[str]] = {}
    for persona, name, share in sums.groupby("persona").head(_TOP).itertuples(index=False):
        texts.setdefault(persona, []).append(f"{name} {100 * share:.0f} %")
    return pd.Series({persona: ", ".join(parts) for persona, parts in texts.items()}, dtype="str")
