"""Logs with planted personas: what was planted is known, and so is how well anyone could find it again.

Every persona is a chain over the same events: a shape of its own (a funnel, a hub with spokes, a ring, …), blurred by what
all customers do and by noise. Short journeys leave little to tell personas apart by, so that even with the true parameters
nobody could name them all: `best_possible` is what to measure against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Noise = Literal["low", "medium", "high"]

# Of a persona's moves: the share that all personas have in common, and the share that goes anywhere. Medium is set so that
# with five personas and ten events a customer the best possible adjusted Rand index is about 0.70 over all customers and
# 0.95 over those with eight events or more.
BLUR: dict[Noise, tuple[float, float]] = {"low": (0.10, 0.05), "medium": (0.25, 0.10), "high": (0.40, 0.20)}
EXIT = 0.2  # journeys of five events or so
COMES_BACK = 1.1  # journeys of a customer after the first, on average
STAYS_OPEN = 0.10  # customers whose last journey is cut off by the end of observation
START = np.datetime64("2026-01-01", "us")


@dataclass(frozen=True)
class Truth:
    """Shares (k,), start (k, n), move (k, n, n; where to, given that the journey goes on) and exit (k, n)."""

    shares: Floats
    start: Floats
    move: Floats
    exit: Floats

    @property
    def n_events(self) -> int:
        return self.start.shape[1]


@dataclass(frozen=True, eq=False)
class Log:
    """Coded journeys, one after another: events of a journey and journeys of a customer stand together, in order."""

    truth: Truth
    persona: Ints  # of each customer, from 0
    customer: Ints  # of each journey
    is_open: NDArray[np.bool_]  # each journey
    journey: Ints  # of each event
    event: Ints

    @property
    def n_per_customer(self) -> Ints:
        return np.bincount(self.customer[self.journey], minlength=len(self.persona))

    def count(self) -> sparse.csr_array:
        """Starts, transitions, ends and continuations of each customer, as `MarkovMixture` reads them."""
        n, owner = self.truth.n_events, self.customer[self.journey]
        is_first, is_last = self._bounds()
        is_exit = is_last & ~self.is_open[self.journey]
        before, after = self.event[:-1][~is_last[:-1]], self.event[1:][~is_first[1:]]
        columns = [
            self.event[is_first],
            n + n * before + after,
            n + n * n + self.event[is_exit],
            n + n * n + n + before,
        ]
        rows = [owner[is_first], owner[~is_last], owner[is_exit], owner[~is_last]]
        cells = np.concatenate(rows), np.concatenate(columns)
        counts = sparse.csr_array((np.ones(len(cells[0])), cells), shape=(len(self.persona), n * (n + 3)))
        counts.sum_duplicates()
        return counts

    def count_events(self) -> Floats:
        """How often each customer did each event, shape (n_customers, n_events)."""
        n = self.truth.n_events
        cells = self.customer[self.journey] * n + self.event
        return np.bincount(cells, minlength=len(self.persona) * n).reshape(-1, n).astype(np.float64)

    def find_best(self) -> Ints:
        """Which persona would one name who knows the true parameters? No assignment is right more often."""
        truth, k = self.truth, len(self.truth.shares)
        table = np.hstack([truth.start, truth.move.reshape(k, -1), truth.exit, 1 - truth.exit])
        with np.errstate(divide="ignore"):
            return (self.count() @ np.log(np.maximum(table, 1e-300)).T + np.log(truth.shares)).argmax(axis=1)

    def to_events(self) -> pd.DataFrame:
        """customer_id, event, timestamp: for `read_events`, and rules with ``journey_gap="2D"``."""
        return pd.DataFrame(
            {
                "customer_id": _name("c", self.customer[self.journey]),
                "event": _name("e", self.event),
                "timestamp": self._times(),
            }
        )

    def to_tables(self, con: ibis.BaseBackend) -> tuple[ibis.Table, ibis.Table]:
        """Steps and journeys as `build_steps` and `build_journeys` would store them."""
        is_first, is_last = self._bounds()
        step = np.arange(len(self.event)) - np.flatnonzero(is_first)[self.journey] + 1
        times, owner = self._times(), self.customer[self.journey]
        following = np.append(self.event[1:], 0)
        first_event = np.append(0, np.cumsum(self.n_per_customer)[:-1])
        position = np.arange(len(self.event)) - first_event[owner] + 1
        gap = np.append(0, np.diff(times).astype(np.int64)) / 1e6
        steps = pa.table(
            {
                "customer_id": _name("c", owner),
                "journey_id": _name("j", self.journey),
                "session_id": _name("j", self.journey),
                "event": _name("e", self.event),
                "next_event": pa.array(_name("e", following), mask=is_last),
                "timestamp": times,
                "position": position,
                "rank": position,
                "step": step,
                "stage": pa.nulls(len(step), pa.string()),
                "gap_s": pa.array(gap, mask=is_first),
            }
        )
        n_steps = np.bincount(self.journey)
        n = len(n_steps)
        journeys = pa.table(
            {
                "journey_id": _name("j", np.arange(n)),
                "customer_id": _name("c", self.customer),
                "start_time": times[is_first],
                "end_time": times[is_last],
                "n_steps": n_steps,
                "n_sessions": np.ones(n, dtype=np.int64),
                "n_channels": np.zeros(n, dtype=np.int64),
                "duration_s": (times[is_last] - times[is_first]).astype(np.int64) / 1e6,
                "first_channel": pa.nulls(n, pa.string()),
                "last_stage": pa.nulls(n, pa.string()),
                "reached_goal": np.zeros(n, dtype=bool),
                "goal_time": pa.nulls(n, pa.timestamp("us")),
                "is_open": self.is_open,
                "value": pa.nulls(n, pa.float64()),
            }
        )
        return con.create_table("planted_steps", steps), con.create_table("planted_journeys", journeys)

    def _bounds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        is_first = np.append(True, np.diff(self.journey) > 0)
        return is_first, np.append(is_first[1:], True)

    def _times(self) -> NDArray[np.datetime64]:
        """Minutes between events, five days between journeys; open journeys end with the log."""
        is_first, _ = self._bounds()
        owner = self.customer[self.journey]
        rng = np.random.default_rng(len(self.event))
        gap = np.where(is_first, 5 * 86_400, rng.integers(30, 3_600, len(owner))).cumsum()
        is_new = np.append(True, np.diff(owner) > 0)
        since = gap - gap[is_new][owner]
        ends = np.append(np.flatnonzero(is_new)[1:], len(owner)) - 1
        # the whole history lies before the end of observation, two days at least where the last journey has ended
        span = since.max() + 90 * 86_400
        last_journey = np.append(np.flatnonzero(np.diff(self.customer)), len(self.customer) - 1)
        silence = np.where(self.is_open[last_journey], 0, rng.integers(3 * 86_400, 90 * 86_400, len(ends)))
        begin = span - since[ends] - silence
        return START + (begin[owner] + since).astype("timedelta64[s]")


def plant(k: int, *, seed: int, n_events: int = 20, noise: Noise = "medium") -> Truth:
    """Draw k personas of different shapes and unequal shares; from the second round on a shape comes in other events."""
    rng = np.random.default_rng([seed, k])
    in_common, anywhere = BLUR[noise]
    shapes = [SHAPES[i % len(SHAPES)] for i in rng.permutation(max(k, len(SHAPES)))[:k]]
    order = rng.permutation(n_events)  # in which the shapes that have a direction walk
    common = rng.dirichlet(np.full(n_events, 0.3), size=n_events)
    own = np.stack([_shape(shape, order, rng) for shape in shapes])
    move = (1 - in_common - anywhere) * own + in_common * common + anywhere / n_events
    start_common = rng.dirichlet(np.full(n_events, 0.5))
    start = 0.4 * rng.dirichlet(np.full(n_events, 0.3), size=k) + 0.5 * start_common + 0.1 / n_events
    leaves = EXIT * rng.uniform(0.7, 1.4, size=(k, 1)) * rng.uniform(0.4, 1.6, size=(k, n_events))
    shares = 0.8 ** np.arange(k) * rng.uniform(0.8, 1.2, size=k)
    return Truth(shares / shares.sum(), start, move, leaves)


def _shape(shape: Callable[[Ints, np.random.Generator], Floats], order: Ints, rng: np.random.Generator) -> Floats:
    """A chain over about two thirds of the events; whoever strays outside goes back in."""
    n = len(order)
    inside = order[np.sort(rng.choice(n, size=max(2, round(n * rng.uniform(0.55, 0.8))), replace=False))]
    move = np.zeros((n, n))
    move[:, inside] = rng.dirichlet(np.ones(len(inside)), size=n)
    move[np.ix_(inside, inside)] = shape(inside, rng)
    return move


def _funnel(inside: Ints, rng: np.random.Generator) -> Floats:
    n = len(inside)
    return 0.75 * np.eye(n, k=1) + 0.15 * np.eye(n, k=2) + _rest(n, 0.10, rng, last=2)


def _backwards(inside: Ints, rng: np.random.Generator) -> Floats:
    return _funnel(inside, rng)[::-1, ::-1]


def _ring(inside: Ints, rng: np.random.Generator) -> Floats:
    n = len(inside)
    return 0.8 * np.roll(np.eye(n), 3, axis=1) + 0.2 * rng.dirichlet(np.ones(n), size=n)


def _hub(inside: Ints, rng: np.random.Generator) -> Floats:
    n = len(inside)
    hub = rng.integers(n)
    move = 0.2 * rng.dirichlet(np.ones(n), size=n)
    move[:, hub] += 0.8
    move[hub] = rng.dirichlet(np.full(n, 0.8))
    return move


def _pairs(inside: Ints, rng: np.random.Generator) -> Floats:
    n = len(inside)
    partner = np.arange(n)[::-1]
    return 0.65 * np.eye(n)[partner] + 0.35 * rng.dirichlet(np.full(n, 0.5), size=n)


def _repeats(inside: Ints, rng: np.random.Generator) -> Floats:
    n = len(inside)
    return 0.5 * np.eye(n) + 0.5 * rng.dirichlet(np.full(n, 0.3), size=n)


def _wander(inside: Ints, rng: np.random.Generator) -> Floats:
    return rng.dirichlet(np.full(len(inside), 0.25), size=len(inside))


def _few(inside: Ints, rng: np.random.Generator) -> Floats:
    """Nearly all moves lead to a handful of events."""
    n = len(inside)
    return 0.2 * rng.dirichlet(np.ones(n), size=n) + 0.8 * rng.dirichlet(np.full(n, 0.15))


def _rest(n: int, share: float, rng: np.random.Generator, *, last: int) -> Floats:
    """`share` goes anywhere; of the last rows, which lead nowhere else, all that is left."""
    rest = np.full(n, share)
    rest[-last:] += [0.15, 0.9][-last:]
    return rest[:, None] * rng.dirichlet(np.ones(n), size=n)


SHAPES = (_funnel, _hub, _wander, _pairs, _ring, _repeats, _backwards, _few)


def draw_log(truth: Truth, n_customers: int, *, seed: int) -> Log:
    """Draw customers and all that they do, step by step for all journeys at once."""
    rng = np.random.default_rng([seed, n_customers])
    persona = rng.choice(len(truth.shares), size=n_customers, p=truth.shares)
    customer = np.repeat(np.arange(n_customers), 1 + rng.poisson(COMES_BACK, size=n_customers))
    own = persona[customer]
    at = _draw(truth.start, own, rng)
    going, walked, journeys = np.arange(len(customer)), [at], [np.arange(len(customer))]
    move = truth.move.reshape(-1, truth.n_events)
    while True:
        stays = rng.random(len(going)) >= truth.exit[own[going], at]
        going, at = going[stays], at[stays]
        if not len(going):
            break
        at = _draw(move, own[going] * truth.n_events + at, rng)
        walked.append(at)
        journeys.append(going)
    journey, event = np.concatenate(journeys), np.concatenate(walked)
    order = np.argsort(journey, kind="stable")
    is_open = np.append(np.diff(customer) > 0, True) & (rng.random(n_customers) < STAYS_OPEN)[customer]
    journey, event = journey[order], event[order]
    # of an open journey only a part was seen, the first event at least
    length = np.bincount(journey)
    seen = np.where(is_open, np.ceil(length * rng.random(len(length))), length)
    step = np.arange(len(journey)) - (np.cumsum(length) - length)[journey]
    is_seen = step < seen[journey]
    return Log(truth, persona, customer, is_open, journey[is_seen], event[is_seen])


def _draw(table: Floats, rows: Ints, rng: np.random.Generator) -> Ints:
    """One outcome from each of `rows` of a table of probabilities: the rows end to end are one ladder to look up in."""
    ladder = (table.cumsum(axis=1) / table.sum(axis=1, keepdims=True)).clip(max=1) + np.arange(len(table))[:, None]
    found = np.searchsorted(ladder.ravel(), rows + rng.random(len(rows)), side="right") - rows * table.shape[1]
    return np.minimum(found, table.shape[1] - 1)


def _name(letter: str, codes: Ints) -> NDArray[np.object_]:
    names, places = np.unique(codes, return_inverse=True)
    return np.array([f"{letter}{code:08}" for code in names], dtype=object)[places]
