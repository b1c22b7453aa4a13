"""Do the customers of a persona still do what its customers did when it was fitted?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

if TYPE_CHECKING:
    from journeylab.personas.em import Floats
    from journeylab.personas.markov import MarkovMixture

    Ints = NDArray[np.int64]

_Z = 1.96
# A transition expected less often, in the fit or now, is looked at together with the others after its event.
_FEW = 10
_MOST_TRANSITIONS = 500  # of a persona; what is left is rare, and looked at together
_COLUMNS = dict.fromkeys(("persona", "n", "n_moves", "effect", "low", "high", "p"), "float64")
_COLUMNS |= {"persona": "int64", "event": "str", "next_event": "str"}
_COLUMNS |= dict.fromkeys(("probability_before", "probability"), "float64")


@dataclass(frozen=True, eq=False)
class Habits:
    """Where did a persona go from each of n events, in the fit?

    Parameters
    ----------
    moves : ndarray of int64
        Transitions that somebody made, as ``event * n + next event``, rising.
    p : ndarray
        The probability of each, of all next events.
    departures : ndarray of shape (n,)
        How often it went on from each event.
    prior : ndarray of shape (n,)
        How many departures p takes for granted beside those, evenly to all events.
    """

    moves: Ints
    p: Floats
    departures: Floats
    prior: Floats


def recall_mixture(mixture: MarkovMixture) -> list[Habits]:
    """What did each persona of a mixture do in the fit? Its prior told apart from what was seen."""
    n, start = mixture.n_events_, int(mixture.layout_.bounds[0])
    moves = mixture.columns_[(mixture.columns_ >= start) & (mixture.columns_ < start + n * n)] - start
    p = np.exp(mixture.log_probabilities_[mixture.find_rows(start + moves)])
    # the prior is worth as many outcomes as were seen, spread evenly (see MarkovMixture): what it left to one that was
    # not seen tells how many departures there were
    prior = mixture.smoothing * np.maximum(np.bincount(moves // n, minlength=n), 1)
    departures = prior[:, None] * (np.exp(-mixture.log_unseen_[1 : 1 + n]) / n - 1)
    return [Habits(moves, own, seen, prior) for own, seen in zip(p.T, departures.T, strict=True)]


def recall_transitions(transitions: pd.DataFrame, events: Sequence[str], k: int) -> list[Habits]:
    """What did the customers of each of k personas do in the fit? From `Personas.transitions`."""
    size, place = len(events), {event: number for number, event in enumerate(events)}
    move = transitions["event"].map(place) * size + transitions["next_event"].map(place)
    table = transitions.assign(move=move).dropna(subset="move").sort_values("move")
    habits = []
    for persona in range(1, k + 1):
        own = table[table["persona"] == persona]
        moves, n = own["move"].to_numpy(np.int64), own["n"].to_numpy(np.float64)
        departures: Floats = np.bincount(moves // size, weights=n, minlength=size).astype(np.float64)
        habits.append(Habits(moves, n / np.maximum(departures[moves // size], 1), departures, np.zeros(size)))
    return habits


def measure_drift(
    habits: Sequence[Habits], moves: sparse.csr_array, belongs: Floats, events: Sequence[str]
) -> pd.DataFrame:
    """Does each persona go from event to event as it did in the fit?

    Compared are the transitions of all customers, weighted by how far each belongs to the persona, with those that are
    expected after the same events: Pearson's sum of squares. For a mixture this is a score test. What is known of the
    fit is itself an estimate: its error counts, and its prior is taken out.

    Customers, not events, are the unit: the covariance of the sums is that between customers (a sandwich), and the
    distribution without drift, a weighted sum of chi-squares, is taken for that of a chi-square with the same first
    three moments (Pearson 1959; Imhof 1961).

    Parameters
    ----------
    habits : sequence of Habits
        Of each persona.
    moves : scipy.sparse.csr_array of shape (n_customers, n * n)
        How often each customer went from which of n events to which.
    belongs : ndarray of shape (n_customers, k)
        The probability of each persona: of a mixture by `weigh_anew`, else 0 or 1.
    events : sequence of str
        The n events.

    Returns
    -------
    pandas.DataFrame
        One row per persona: persona, n (customers, by their probability), n_moves (transitions looked at), effect
        (Cohen's w: the root of the squared differences of probabilities over those expected, averaged over transitions,
        less what chance adds) with low and high (95 %), p, event, next_event (of the transition that differs by the
        most standard errors), probability_before, probability (of it, in the fit and now). Null where no transition was
        expected ten times.

    Notes
    -----
    Effects are those that show in customers who are still recognised: where personas resemble each other, a large drift
    looks smaller than it is, and some of it shows in the persona that those who changed now pass for.
    """
    n, names = len(events), np.array(events, dtype=object)
    by_column = moves.tocsc()
    departures = (by_column @ sparse.kron(sparse.eye_array(n), np.ones((n, 1)))).tocsc()
    rows = []
    for persona, own in enumerate(habits):
        cells = _choose_cells(own, departures.T @ belongs[:, persona])
        row: dict[str, Any] = {"persona": persona + 1, "n": belongs[:, persona].sum()}
        if cells is not None:
            row |= cells.compare(sparse.hstack([by_column[:, cells.moves], departures]), belongs[:, persona])
            move = row.pop("move")
            row |= {"event": names[move // n], "next_event": names[move % n]}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def weigh_anew(mixture: MarkovMixture, counts: sparse.csr_array) -> Floats:
    """To which persona does each customer belong, when the shares are those of these customers? Rows sum to 1.

    With the shares of the fit, where one persona has grown, more of its customers would pass for another's.
    """
    first: Floats = mixture.predict_proba(counts)
    shares = mixture.weights_
    for _ in range(500):
        belongs: Floats = first * (shares / mixture.weights_)
        belongs /= belongs.sum(axis=1, keepdims=True)
        before, shares = shares, np.maximum(belongs.mean(axis=0), 1e-9)
        if np.abs(shares - before).max() < 1e-7:
            break
    return belongs


@dataclass(frozen=True, eq=False)
class _Cells:
    """Transitions of one persona that are looked at, and after each of their events the others together.

    `moves` are the former; `event`, `p` and `shift` (by how much the prior of the fit moved p away from what was seen)
    belong to both, the former first. `before` and `now` are the departures from each event, in the fit and now.
    """

    moves: Ints
    event: Ints
    p: Floats
    before: Floats
    now: Floats
    shift: Floats

    def compare(self, made: sparse.csc_array, belongs: Floats) -> dict[str, Any]:
        """Differ the transitions made (then the departures) from those expected by more than chance?"""
        residual = self._lay_out_residuals(made.shape[1])
        weighed = sparse.diags_array(belongs) @ made
        now, n = self.now[self.event], made.shape[0]
        total = residual.T @ weighed.sum(axis=0)
        # sums over customers have this covariance, and as much again for the error of the fit, by their departures
        covariance = (residual.T @ (weighed.T @ weighed) @ residual).toarray() - np.outer(total, total) / n
        size = np.sqrt((1 + now / self.before[self.event]) / (now * self.p))
        covariance *= size[:, None] * size
        z = (total - now * self.shift) / np.sqrt(now * self.p)
        events = np.unique(self.event)
        n_moves = float(self.now[events].sum())
        kept = len(self.moves)
        sure = np.abs(z[:kept]) / np.sqrt(np.maximum(np.diag(covariance)[:kept], 1e-12))
        most = int(sure.argmax())
        return {
            "n_moves": n_moves,
            **_judge(z, covariance, n_moves),
            "move": int(self.moves[most]),
            "probability_before": self.p[most],
            "probability": min(max(self.p[most] + total[most] / now[most], 0.0), 1.0),
        }

    def _lay_out_residuals(self, width: int) -> sparse.csc_array:
        """Which sums of transitions and departures say how far each is from what was expected?"""
        kept, n_cells = len(self.moves), len(self.p)
        first = width - len(self.now)  # where departures begin
        lay = sparse.lil_array((width, n_cells))
        lay[first + self.event, np.arange(n_cells)] = -self.p
        lay[np.arange(kept), np.arange(kept)] = 1
        for other in range(kept, n_cells):
            event = self.event[other]
            lay[np.flatnonzero(self.event[:kept] == event), other] = -1
            lay[first + event, other] += 1
        return lay.tocsc()


def _choose_cells(habits: Habits, now: Floats) -> _Cells | None:
    """Which transitions were expected often enough? None if none was."""
    n, before = len(now), habits.departures
    least = np.minimum(before, now)
    expected = habits.p * least[habits.moves // n]
    chosen = np.flatnonzero(expected >= _FEW)
    chosen = np.sort(chosen[np.argsort(-expected[chosen], kind="stable")[:_MOST_TRANSITIONS]])
    if not len(chosen):
        return None
    event = habits.moves[chosen] // n
    n_chosen = np.bincount(event, minlength=n)
    left = 1 - np.bincount(event, weights=habits.p[chosen], minlength=n)
    others = np.flatnonzero((n_chosen > 0) & (left * least >= _FEW))
    event = np.append(event, others)
    p: Floats = np.append(habits.p[chosen], left[others]).astype(np.float64)
    even: Floats = np.append(np.ones(len(chosen)), n - n_chosen[others]).astype(np.float64) / n
    shift = habits.prior[event] / before[event] * (p - even)
    return _Cells(habits.moves[chosen], event, p, before, now, shift)


def _judge(z: Floats, covariance: Floats, n_moves: float) -> dict[str, float]:
    """How likely is a sum of squares as large as that of z by chance, and how large is it without what chance adds?"""
    from scipy.stats import chi2

    squared = covariance @ covariance
    first, second, third = np.trace(covariance), np.trace(squared), (squared * covariance).sum()
    if not second:  # all went as it must
        return {"effect": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    beyond = float((z**2).sum() - first)
    freedom = second**3 / third**2
    p = chi2.sf(beyond / np.sqrt(2 * second) * np.sqrt(2 * freedom) + freedom, freedom)
    # a mean m of z adds |m|² to the sum of squares and 4 m'Km to its variance, of which this is the size along z: the
    # bounds are the |m|² from which what was seen is 1.96 standard deviations off
    along = float(z @ covariance @ z / (z @ z)) if z.any() else 0.0
    middle = beyond + 2 * _Z**2 * along
    # Less than 0: so little was seen that no |m|² is that far below it.
    reach = np.sqrt(max(middle**2 - beyond**2 + 2 * _Z**2 * second, 0.0))
    effect, low, high = (np.sqrt(max(square, 0) / n_moves) for square in (beyond, middle - reach, middle + reach))
    return {"effect": effect, "low": low, "high": high, "p": float(p)}
