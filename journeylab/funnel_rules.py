"""What counts as going through a funnel: one object, with presets that count as other products do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from journeylab.conditions import check_condition
from journeylab.errors import RuleError, nearest
from journeylab.rules import parse_duration

Order = Literal["ordered", "strict", "any"]
WindowFrom = Literal["first", "previous"]
Entry = Literal["first", "latest", "best"]
Unit = Literal["customer", "journey", "session", "account", "attempt"]
OnExclude = Literal["drop", "fail"]
Product = Literal["posthog", "mixpanel", "amplitude", "ga4", "retentioneering"]

#: The column of `steps` under which a unit's events are found.
UNIT_COLUMN: dict[str, str] = {
    "customer": "customer_id",
    "journey": "journey_id",
    "session": "session_id",
    "account": "account_id",
    "attempt": "customer_id",
}


@dataclass(frozen=True)
class Step:
    """Which events are this step: by name, and by what their columns hold?

    Parameters
    ----------
    event
        An event, a stage (where no event has that name), or several alternatives.
    where
        Comparisons of columns with values, joined by and, or, not: ``'value > 100 and plan in ("pro", "team")'``.
        A comparison with a null is not met. A name with spaces stands between backticks.

    Examples
    --------
    >>> Step("payment_done", where="value > 100").label
    'payment_done (value > 100)'
    """

    event: str | tuple[str, ...]
    where: str | None = None

    def __post_init__(self) -> None:
        names = (self.event,) if not isinstance(self.event, Sequence) or isinstance(self.event, str) else self.event
        names = tuple(names)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise RuleError(f"FunnelRules: a step is an event, a stage or several of them; found {self.event!r}")
        object.__setattr__(self, "event", names[0] if len(names) == 1 else names)
        if self.where is not None:
            check_condition(self.where, f'step "{" / ".join(names)}"')

    @property
    def names(self) -> tuple[str, ...]:
        """The events or stages, any of which will do."""
        return (self.event,) if isinstance(self.event, str) else self.event

    @property
    def label(self) -> str:
        """What the step is called in tables and pictures."""
        return " / ".join(self.names) + (f" ({self.where})" if self.where else "")


#: A step as users write it; a mapping, because a notebook's parameters know no classes.
StepLike = str | Sequence[str] | Step | Mapping[str, Any]


def read_step(given: StepLike) -> Step:
    """Take a step in any of the ways in which users write one."""
    if isinstance(given, Step):
        return given
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - {"event", "where"})
        if unknown or "event" not in given:
            raise RuleError(f"FunnelRules: a step given as a mapping has event and where; found {', '.join(given)}")
        return Step(_names_of(given["event"]), given.get("where"))
    return Step(_names_of(given))


def _names_of(given: str | Sequence[str]) -> str | tuple[str, ...]:
    if not isinstance(given, str | Sequence):
        raise RuleError(f"FunnelRules: a step is an event, a stage or several of them; found {given!r}")
    return given if isinstance(given, str) else tuple(given)


def _read_steps(given: StepLike | Sequence[StepLike]) -> tuple[Step, ...]:
    return (read_step(given),) if isinstance(given, str | Step | Mapping) else tuple(read_step(step) for step in given)


@dataclass(frozen=True)
class FunnelRules:
    """What counts as going through the steps?

    Every event of step 1 begins a *walk*. The walk takes each further step the first time that it happens after the
    step before, other events may lie between. An event at the same instant counts as after another only if (seq,
    event_id) says so. A unit has the walk that `entry` chooses.

    Parameters
    ----------
    steps
        At least two. Each an event, a stage (where no event has that name), a tuple of alternatives, a `Step` with a
        condition, or ``{"event": …, "where": …}``.
    order
        ``"ordered"``: each step after the one before, others may lie between. ``"strict"``: each step is the unit's
        very next event. ``"any"``: the steps in whatever order; any of them begins a walk, and step k of the answer is
        "k different steps done".
    within
        Every step must happen at most this long after `window_from`, such as ``"7D"``. None: no limit.
    window_from
        ``"first"``: `within` runs from the walk's start; ``"previous"``: anew from each step.
    entry
        Of ``A1 A2 B``: ``"first"``: the unit's first start, A1, counts, and no other. ``"latest"``: of the walks that
        finish first the one that started last: A2; if none finishes, of those that get furthest the one that started
        last. ``"best"``: of the walks that get furthest the one that started first: A1, or A2 if A1 is too early for
        the window.
    unit
        Who goes through: each customer once, each journey, each session, each account (column account_id; all its
        customers' events together), or each attempt: a customer begins another one with the first start after the
        attempt before has finished, failed or run out of time (of each value, with `hold_constant`). With order
        "strict" the event that made an attempt fail may itself begin the next.
    exclude
        Events that must not happen after the start of a walk and before its next step.
    on_exclude
        ``"fail"``: such an event ends the walk, which is lost. ``"drop"``: it takes the unit out of the funnel
        altogether, out of those who started too, unless the unit had finished before.
    optional
        Steps, by their label, that may be left out: they are counted where they happen between the required steps
        around them. Neither the first nor the last, and with order "ordered" alone.
    hold_constant
        Columns whose value must be the same at every step of a walk; an event with a null there is no step at all.
    dormant_after
        Without `within`: who has been silent for longer than this is lost, not still on the way.
        Default: 30 days, for sessions 30 minutes.
    """

    steps: Sequence[StepLike]
    order: Order = "ordered"
    within: str | None = None
    window_from: WindowFrom = "first"
    entry: Entry = "first"
    unit: Unit = "customer"
    exclude: StepLike | Sequence[StepLike] = ()
    on_exclude: OnExclude = "drop"
    optional: str | Sequence[str] = ()
    hold_constant: str | Sequence[str] = ()
    dormant_after: str | None = None

    def __post_init__(self) -> None:
        steps = _read_steps(self.steps)
        if len(steps) < 2:
            raise RuleError(f"FunnelRules: steps must be a list of at least two events or stages; found {self.steps!r}")
        for name, read in (("steps", steps), ("exclude", _read_steps(self.exclude))):
            object.__setattr__(self, name, tuple(step if step.where else step.event for step in read))
        for name in ("optional", "hold_constant"):
            given = getattr(self, name)
            names = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
            if not all(isinstance(part, str) and part for part in names):
                raise RuleError(f"FunnelRules: {name} must be names; found {given!r}")
            object.__setattr__(self, name, names)
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                found, options = getattr(self, name), get_args(kind)
                hint = nearest(str(found), options)
                raise RuleError(f"FunnelRules: {name} must be one of {', '.join(options)}; found {found!r}.{hint}")
        for name in ("within", "dormant_after"):
            if getattr(self, name) is not None:
                parse_duration(getattr(self, name), f"FunnelRules: {name}")
        if self.unit == "attempt" and self.entry != "first":
            raise RuleError(
                f'FunnelRules: unit="attempt" counts every start in its turn: entry="{self.entry}" has nothing to '
                'choose. Leave it at "first"'
            )
        self._check_names()
        self._check_optional()

    def _check_names(self) -> None:
        names = [name for step in self.walk_steps for name in step.names]
        excluded = {name for step in self.excluded if step.where is None for name in step.names}
        both = sorted(excluded.intersection(names))
        if both:
            raise RuleError(
                f"FunnelRules: both a step and excluded: {', '.join(both)}; take them out of one of the two"
            )
        plain = [name for step in self.walk_steps if step.where is None for name in step.names]
        twice = sorted({name for name in plain if plain.count(name) > 1})
        if self.order == "any" and twice:
            raise RuleError(f'FunnelRules: order="any" needs different steps; in two of them: {", ".join(twice)}')

    def _check_optional(self) -> None:
        if not self.optional:
            return
        labels = [step.label for step in self.walk_steps]
        unknown = [name for name in self.optional if name not in labels]
        if unknown:
            hints = "; ".join(f'"{name}"{nearest(name, labels)}' for name in unknown)
            raise RuleError(f"FunnelRules: optional must name steps; not among {', '.join(labels)}: {hints}")
        for place, word in ((0, "first"), (-1, "last")):
            if labels[place] in self.optional:
                raise RuleError(
                    f'FunnelRules: the {word} step, "{labels[place]}", cannot be optional: '
                    f"there the funnel {'begins' if place == 0 else 'ends'}. Take it out of steps, or out of optional"
                )
        if self.order != "ordered":
            raise RuleError(f'FunnelRules: optional steps need order="ordered"; found "{self.order}"')

    @property
    def walk_steps(self) -> tuple[Step, ...]:
        """`steps`, each as a `Step`."""
        return _read_steps(self.steps)

    @property
    def excluded(self) -> tuple[Step, ...]:
        """`exclude`, each as a `Step`."""
        return _read_steps(self.exclude)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each row of the answer is called."""
        if self.order == "any":
            return tuple(f"{i} of {len(self.steps)} steps" for i in range(1, len(self.steps) + 1))
        return tuple(
            f"{step.label} (optional)" if step.label in self.optional else step.label for step in self.walk_steps
        )

    @property
    def required(self) -> tuple[int, ...]:
        """The places (from 1) of the steps that cannot be left out."""
        return tuple(i for i, step in enumerate(self.walk_steps, 1) if step.label not in self.optional)

    @property
    def within_s(self) -> int | None:
        """The window in seconds."""
        return None if self.within is None else parse_duration(self.within, "within")

    @property
    def horizon_s(self) -> int | None:
        """How long a walk can last at most, in seconds; None without a window."""
        if self.within_s is None:
            return None
        return self.within_s * (len(self.required) - 1 if self.window_from == "previous" else 1)

    @property
    def dormant_s(self) -> int:
        """The silence in seconds after which a unit without a window is lost."""
        return parse_duration(self.dormant_after or ("30m" if self.unit == "session" else "30D"), "dormant_after")

    def to_dict(self) -> dict[str, Any]:
        """The switches as plain text and lists, for a report's record."""
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["steps"] = [step.label for step in self.walk_steps]
        plain["exclude"] = [step.label for step in self.excluded]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def like(cls, product: Product, steps: Sequence[StepLike], **switches: Any) -> FunnelRules:
        """How would another product count? The switches that come nearest to its defaults.

        Parameters
        ----------
        product
            ``"posthog"``: 14 days, each new start overwrites the one before, an excluded event takes the person out.
            Not reproduced: events at the same instant, which PostHog sorts by step; a breakdown by all steps.

            ``"mixpanel"``: 7 days, the first start alone, an excluded event ends the walk. Not reproduced: its grace of
            2 seconds for events out of order; anchored steps of an "any order" funnel; a second entry of a customer
            whose window ran out (`unit="attempt"` counts those, as its "totals" do).

            ``"amplitude"``: 1 day, the start that gets furthest, still converted if any walk avoids the excluded event.
            Not reproduced: either order within 1 second; with a property held constant it counts customer x value.

            ``"ga4"``: no window (with `within`, from the step before, inclusive), closed funnel, the start that gets
            furthest (its documentation does not say). Not reproduced: open funnels; "directly followed by" for some
            steps only; estimates and thresholds where Google hides small numbers.

            ``"retentioneering"``: ordered, no window, the first start. Not reproduced: it orders ties by their place in
            the file, we by (seq, event_id) or not at all.

            All of them count customers who are still on the way as lost; here `n_open` and the mature and censored
            conversions stand beside what they would show (`share_of_start`).
        steps, switches
            As in `FunnelRules`: what is given here wins over the product's defaults.

        Examples
        --------
        >>> FunnelRules.like("mixpanel", ["catalog", "cart"]).within
        '7D'
        >>> FunnelRules.like("mixpanel", ["catalog", "cart"], within="3D").within
        '3D'
        """
        if product not in _PRESETS:
            raise RuleError(
                f'FunnelRules.like: no preset "{product}".{nearest(product, _PRESETS)} There are {", ".join(_PRESETS)}'
            )
        return cls(steps, **{**_PRESETS[product], **switches})


_CHOICES: dict[str, Any] = {
    "order": Order,
    "window_from": WindowFrom,
    "entry": Entry,
    "unit": Unit,
    "on_exclude": OnExclude,
}
# What they cannot reproduce stands in the docstring of `like`.
_PRESETS: dict[str, dict[str, Any]] = {
    "posthog": {"within": "14D", "entry": "latest", "on_exclude": "drop"},
    "mixpanel": {"within": "7D", "entry": "first", "on_exclude": "fail"},
    "amplitude": {"within": "1D", "entry": "best", "on_exclude": "fail"},
    "ga4": {"window_from": "previous", "entry": "best"},
    "retentioneering": {"entry": "first"},
}
