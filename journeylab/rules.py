"""What a journey is: stages, goal, pauses. One object, from Python or TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.resources import find_shipped

# No "M": it is a month elsewhere, and a minute by mistake.
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "H": 3600, "d": 86400, "D": 86400, "w": 604800, "W": 604800}


def parse_duration(text: str, name: str) -> int:
    """How many seconds does a duration such as ``"30m"``, ``"1h"``, ``"30D"`` or ``"2w"`` have?

    A bare number is refused: nobody can tell its unit.

    Examples
    --------
    >>> parse_duration("30m", "session_gap")
    1800
    >>> parse_duration("30D", "journey_gap")
    2592000
    """
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]+)\s*", text) if isinstance(text, str) else None
    if match is None or match[2] not in _UNITS or int(match[1]) == 0:
        raise RuleError(f'{name} must be a duration with a unit, such as "30m", "12h", "30D" or "2w"; found {text!r}')
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class JourneyRules:
    """What counts as one journey, its stages and its goal?

    Parameters
    ----------
    stages
        The stages in their order.
    stage_of
        Event → stage. A key is an exact event name, a prefix (``"cart*"``) or a pattern (``"/^view_/"``); an exact name
        wins over a prefix, a longer prefix over a shorter, a prefix over a pattern, an earlier pattern over a later.
    goal
        The event or the stage that customers come for.
    journey_gap
        A pause longer than this begins a new journey. None: one journey per customer, or per `journey_id` of the log.
    session_gap
        A pause longer than this begins a new session.
    end_after_goal
        Does the event after a reached goal begin a new journey?
    dormant_after
        A journey that is silent for longer is over; default, and at most: `journey_gap`.
    """

    stages: tuple[str, ...] = ()
    stage_of: Mapping[str, str] = field(default_factory=dict)
    goal: str | None = None
    journey_gap: str | None = "30D"
    session_gap: str = "30m"
    end_after_goal: bool = False
    dormant_after: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "stage_of", MappingProxyType(dict(self.stage_of)))
        session_s = parse_duration(self.session_gap, "session_gap")
        if self.journey_gap is not None and parse_duration(self.journey_gap, "journey_gap") < session_s:
            raise RuleError(
                f"journey_gap ({self.journey_gap}) is shorter than session_gap ({self.session_gap}): "
                "a session cannot span journeys"
            )
        if self.dormant_after is not None:
            dormant_s = parse_duration(self.dormant_after, "dormant_after")
            if self.journey_gap is not None and dormant_s > parse_duration(self.journey_gap, "journey_gap"):
                raise RuleError(
                    f"dormant_after ({self.dormant_after}) is longer than journey_gap ({self.journey_gap}): the pause "
                    "has ended the journey before. Where the log names its journeys, set journey_gap=None"
                )
        if len(set(self.stages)) < len(self.stages):
            raise RuleError(f"stages must differ from each other; found {', '.join(self.stages)}")
        for pattern, stage in self.stage_of.items():
            if self.stages and stage not in self.stages:
                raise RuleError(
                    f'stage_of maps "{pattern}" to "{stage}", which is not in stages.{nearest(stage, self.stages)}'
                )
            _check_pattern(pattern)
        if self.end_after_goal and self.goal is None:
            raise RuleError("end_after_goal needs a goal")

    @classmethod
    def load(cls, source: str | Path) -> JourneyRules:
        """Read rules from a TOML file, or one of the ready sets: ecommerce, saas, b2b, leads, five_stages."""
        path, folder = Path(source), find_shipped("data/reference")
        if not path.suffix:
            path = folder / f"{source}.toml"
        if not path.exists():
            ready = sorted(file.stem for file in folder.glob("*.toml"))
            raise RuleError(f'no rules at "{source}".{nearest(str(source), ready)} Ready sets: {", ".join(ready)}')
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RuleError(f"{path.name} is not TOML: {error}") from error
        known = [item.name for item in fields(cls)]
        for name in found:
            if name not in known:
                raise RuleError(f'{path.name}: no rule "{name}".{nearest(name, known)} Known: {", ".join(known)}')
        return cls(**found)

    @property
    def quiet_s(self) -> int | None:
        """After how many seconds of silence is a journey over? None: never by silence alone."""
        limit = self.dormant_after or self.journey_gap
        return None if limit is None else parse_duration(limit, "dormant_after")

    def name_stage(self, event: ibis.Value) -> ibis.Value:
        """Which stage does each event belong to? Null where no rule names it."""
        exact: dict[str, list[str]] = {}
        prefixes, patterns = [], []
        for key, stage in self.stage_of.items():
            if _is_pattern(key):
                patterns.append((event.re_search(key[1:-1]), stage))
            elif key.endswith("*"):
                prefixes.append((key[:-1], stage))
            else:
                exact.setdefault(stage, []).append(key)
        prefixes.sort(key=lambda item: -len(item[0]))
        branches = [(event.isin(names), stage) for stage, names in exact.items()]
        branches += [(event.startswith(prefix), stage) for prefix, stage in prefixes]
        branches += patterns
        return ibis.cases(*branches, else_=ibis.null("string")) if branches else ibis.null("string")

    def reaches_goal(self, steps: ibis.Table) -> ibis.Value:
        """Is this step the goal? The goal is a stage where `stages` has it, else an event."""
        if self.goal is None:
            return ibis.literal(False)
        column = steps.stage if self.goal in self.stages else steps.event
        return (column == self.goal).fill_null(False)


def _is_pattern(key: str) -> bool:
    return len(key) > 2 and key.startswith("/") and key.endswith("/")


def _check_pattern(key: str) -> None:
    if _is_pattern(key):
        try:
            re.compile(key[1:-1])
        except re.error as error:
            raise RuleError(f'stage_of: "{key}" is not a pattern that can be read ({error})') from error
