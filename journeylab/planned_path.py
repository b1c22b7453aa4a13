"""The path that was planned, and the real journeys beside it as codes, told once where several are the same."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from journeylab.engine import drop, store
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.formats import format_name
from journeylab.personas.distances import Sequences
from journeylab.personas.histories import fold_sequences

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NO_GROUP, _MOST_NAMES = "(none)", 20


@dataclass(frozen=True)
class PlannedPath:
    """Which way was planned, step by step?

    Parameters
    ----------
    steps
        In their order. Each an event, a stage (where no event has that name), or several alternatives.
    optional
        Steps, by their label (alternatives joined by " / "), that may be left out.
    repeatable
        Steps, by their label, that may happen more than once in a row: other steps' events between them are out of
        place.
    ignore
        Events or stages that do not matter: they are not looked at. All others that are no step count as deviations.

    Examples
    --------
    >>> PlannedPath(["visit", ["cart", "wishlist"], "pay"], optional="cart / wishlist").labels
    ('visit', 'cart / wishlist', 'pay')
    """

    steps: Sequence[str | Sequence[str]]
    optional: str | Sequence[str] = ()
    repeatable: str | Sequence[str] = ()
    ignore: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        given = (self.steps,) if isinstance(self.steps, str) else self.steps
        steps = tuple(_read_names(step, "a step is an event, a stage or several of them") for step in given)
        if not steps or not all(steps):
            raise RuleError(f"PlannedPath: steps must be a list of events, stages or alternatives; found {given!r}")
        object.__setattr__(self, "steps", tuple(step[0] if len(step) == 1 else step for step in steps))
        for name in ("optional", "repeatable", "ignore"):
            names = _read_names(getattr(self, name), f"{name} must be names")
            object.__setattr__(self, name, names)
            unknown = [label for label in names if label not in self.labels] if name != "ignore" else []
            if unknown:
                hints = "; ".join(f'"{label}"{nearest(label, self.labels)}' for label in unknown)
                raise RuleError(f"PlannedPath: {name} must name steps; not among {', '.join(self.labels)}: {hints}")
        both = sorted(set(self.ignore).intersection(name for step in steps for name in step))
        if both:
            raise RuleError(f"PlannedPath: both a step and ignored: {', '.join(both)}; take them out of one of the two")

    @classmethod
    def load(cls, path: str | Path) -> PlannedPath:
        """Read a planned path from a TOML file: steps, and if need be optional, repeatable and ignore."""
        path = Path(path)
        if not path.exists():
            raise RuleError(f'no planned path at "{path.name}": the file does not exist')
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RuleError(f"{path.name} is not TOML: {error}") from error
        known = [item.name for item in fields(cls)]
        for name in found:
            if name not in known:
                raise RuleError(f'{path.name}: no rule "{name}".{nearest(name, known)} Known: {", ".join(known)}')
        if "steps" not in found:
            raise RuleError(f'{path.name}: steps are missing, such as steps = ["visit", "cart", "pay"]')
        return cls(**found)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The events or stages of each step, any of which will do."""
        return tuple((step,) if isinstance(step, str) else tuple(step) for step in self.steps)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each step is called in tables."""
        return tuple(" / ".join(names) for names in self.names)

    @property
    def is_optional(self) -> Bools:
        """May the step be left out?"""
        return np.array([label in self.optional for label in self.labels])

    @property
    def is_repeatable(self) -> Bools:
        """May the step happen more than once in a row?"""
        return np.array([label in self.repeatable for label in self.labels])


def _read_names(given: str | Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Sequence) or not all(isinstance(name, str) and name for name in given):
        raise RuleError(f"PlannedPath: {what}; found {given!r}")
    return tuple(given)


@dataclass(frozen=True, eq=False)
class Log:
    """What became of each journey, and its events as codes.

    Attributes
    ----------
    table : pyarrow.Table
        One row per journey, in the order of journey_id: journey_id, customer_id, n_steps, is_open, reached_goal,
        duration_s, group.
    events : list of str
        The event of each code; an event has several where its stage makes it another step.
    belongs : ndarray of bool of shape (n_steps, n_codes)
        Which code can be which planned step?
    variants : Sequences
        The distinct journeys; those that are open apart from those that are over.
    variant : ndarray
        Which of them is whose.
    is_open : ndarray of bool
        Of each variant.
    """

    table: pa.Table
    events: list[str]
    belongs: Bools
    variants: Sequences
    variant: Ints
    is_open: Bools

    def column(self, name: str) -> NDArray[Any]:
        """One value per journey."""
        values: NDArray[Any] = self.table[name].to_numpy(zero_copy_only=False)
        return values


def read_log(steps: ibis.Table, journeys: ibis.Table, plan: PlannedPath, by: str | None) -> Log:
    """What did each journey do, event by event, of what the plan does not ignore?

    A number per event is fetched, in whatever order: its journey and its step say where it belongs.

    Raises
    ------
    RuleError
        If the plan names what is neither an event nor a stage, or `by` no column.
    SchemaError
        If there are no journeys.
    """
    con = steps.get_backend()
    names = steps.select("event", stage=steps.stage.fill_null("")).distinct()
    names = store(names.mutate(code=ibis.row_number().over(order_by=["event", "stage"]).cast("int32")), con)
    counted = store(_number(steps, journeys, by), con)
    try:
        known = names.order_by("code").to_pyarrow()
        events, stages = known["event"].to_pylist(), known["stage"].to_pylist()
        belongs, is_ignored = _find_codes(plan, events, stages)
        # Stages tell codes of one event apart only where the plan does.
        kinds = [*zip(events, map(tuple, belongs.T.tolist()), is_ignored.tolist(), strict=True)]
        first = {kind: code for code, kind in reversed([*enumerate(kinds)])}
        recode = np.array([first[kind] for kind in kinds], dtype=np.int64)
        table = counted.order_by("number").drop("number").to_pyarrow()
        if not len(table):
            raise SchemaError("check_conformance: there are no journeys; see check_events(events)")
        seen = steps.select("journey_id", "event", "step", stage=steps.stage.fill_null(""))
        seen = seen.join(counted.select("journey_id", "number", "n_steps"), "journey_id")
        seen = seen.filter(seen.step <= seen.n_steps).join(names, ["event", "stage"])
        rows = seen.select("number", step=seen.step.cast("int32"), code=seen.code).to_pyarrow()
    finally:
        drop(names)
        drop(counted)
    if len(rows) != (n_steps := pc.sum(table["n_steps"]).as_py()):
        raise SchemaError(
            f"check_conformance: journeys count {n_steps:,} steps, of which {len(rows):,} are in steps; "
            "build the journeys from these very steps"
        )
    # One more code each for the end of a journey that is over, and of one that is still open: no journey is empty then.
    n_codes, is_open = len(events), table["is_open"].to_numpy(zero_copy_only=False)
    bounds = np.append(0, np.cumsum(table["n_steps"].to_numpy() + 1))
    codes = np.empty(bounds[-1], dtype=np.min_scalar_type(n_codes + 1))
    codes[bounds[rows["number"].to_numpy()] + rows["step"].to_numpy() - 1] = recode[rows["code"].to_numpy()]
    codes[bounds[1:] - 1] = n_codes + is_open
    kept = keep_codes(Sequences(codes, bounds), ~np.append(is_ignored, [False, False]))
    variants, _, variant = fold_sequences(kept, np.ones(kept.shape))
    ends = variants.codes[variants.bounds[1:] - 1]
    is_event = np.append(np.ones(n_codes, dtype=bool), [False, False])
    return Log(table, events, belongs, keep_codes(variants, is_event), variant, ends == n_codes + 1)


def keep_codes(sequences: Sequences, is_kept: Bools) -> Sequences:
    """Leave out codes."""
    kept = is_kept[sequences.codes]
    return Sequences(sequences.codes[kept], np.append(0, np.cumsum(kept))[sequences.bounds])


def _number(steps: ibis.Table, journeys: ibis.Table, by: str | None) -> ibis.Table:
    """Each journey with its number, from 0."""
    group = ibis.null("string")
    if by is not None and by not in journeys.columns:
        if by not in steps.columns:
            known = [*dict.fromkeys((*journeys.columns, *steps.columns))]
            raise RuleError(
                f'check_conformance: no column "{by}" to split by.{nearest(by, known)} The columns are '
                f"{', '.join(known)}"
            )
        first = steps.filter(steps.step == 1).select("journey_id", _group=by)
        journeys = journeys.join(first, "journey_id")
        group = journeys["_group"].cast("string").fill_null(_NO_GROUP)
    elif by is not None:
        group = journeys[by].cast("string").fill_null(_NO_GROUP)
    return journeys.select(
        *("journey_id", "customer_id", "n_steps", "is_open", "duration_s"),
        reached_goal=journeys.reached_goal.fill_null(False),
        group=group,
        number=ibis.row_number().over(order_by="journey_id").cast("int32"),
    )


def _find_codes(plan: PlannedPath, events: list[str], stages: list[str]) -> tuple[Bools, Bools]:
    """Which codes can be which step, and which are ignored? Refuses names that the log does not have."""
    names = [name for step in plan.names for name in step] + list(plan.ignore)
    known = {*events, *stages} - {""}
    unknown = sorted(set(names) - known)
    if unknown:
        hints = "; ".join(f'"{format_name(name)}"{nearest(name, known)}' for name in unknown)
        shown = ", ".join(map(format_name, sorted(known)[:_MOST_NAMES])) + (" …" if len(known) > _MOST_NAMES else "")
        raise RuleError(
            f"PlannedPath: {len(unknown)} of {len(set(names))} names are neither an event nor a stage of this log: "
            f"{hints} – known are {shown}"
        )

    def is_any(named: Sequence[str]) -> Bools:
        by_event, by_stage = set(named).intersection(events), set(named).difference(events)
        pairs = zip(events, stages, strict=True)
        return np.array([event in by_event or stage in by_stage for event, stage in pairs])

    belongs, is_ignored = np.array([is_any(step) for step in plan.names]), is_any(plan.ignore)
    both = sorted({event for event, hit in zip(events, is_ignored & belongs.any(axis=0), strict=True) if hit})
    if both:
        raise RuleError(
            f"PlannedPath: both a step and ignored, by their stage: {', '.join(both)}; take them out of one of the two"
        )
    return belongs, is_ignored
