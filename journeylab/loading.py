"""A log as reports read it: read, checked, cut into journeys, and kept for the next report of the same log."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ibis

from journeylab import __version__
from journeylab.conditions import build_condition, find_columns
from journeylab.engine import default_connection, store
from journeylab.errors import RuleError
from journeylab.journeys import build_journeys, build_steps, end_of_observation, read_instant
from journeylab.language import current_language
from journeylab.locks import locked
from journeylab.resources import find_shipped
from journeylab.rules import JourneyRules
from journeylab.sources.check import check_events
from journeylab.sources.files import find_files
from journeylab.sources.generic import read_events

#: The folder in which the reports of a batch keep steps for each other; not set outside one.
STORE_VARIABLE = "JOURNEYLAB_STORE"


@dataclass(frozen=True, eq=False)
class LoadedLog:
    """The answer of `load_log`.

    Attributes
    ----------
    steps
        From `build_steps`, of the chosen customers and journeys.
    journeys
        From `build_journeys`, of the same.
    rules
        Those that made them.
    as_of
        End of observation (UTC) of the whole log: a group is watched as long as all, whenever its last event was.
    events
        The names of all events of the whole log, for `build_funnel(known=)`: a group may have none of some.
    headline
        What was loaded and set aside, of the whole log, in one sentence.
    """

    steps: ibis.Table
    journeys: ibis.Table
    rules: JourneyRules
    as_of: datetime
    events: frozenset[str]
    headline: str


def load_log(
    data: str | Path,
    *,
    rules: JourneyRules | str | Path | None = None,
    where: str | None = None,
    since: str | date | None = None,
    as_of: str | date | None = None,
    con: ibis.BaseBackend | None = None,
    **reading: Any,
) -> LoadedLog:
    """Which journeys are in this log, as a report wants them?

    Parameters
    ----------
    data, con
        As of `read_events`.
    rules
        `JourneyRules`, a rules file or the name of a ready set; default: ``JourneyRules()``.
    where
        Keep the customers who meet this condition, such as ``market == "pl"``: by what is known at their first event
        that has all columns of the condition. Of them whole histories stay, so that nobody is in two groups.
    since
        Keep the journeys that began then or later (UTC).
    as_of
        End of observation (UTC); default: the last event of the log.
    **reading
        The other arguments of `read_events`.

    Raises
    ------
    RuleError
        Nothing is left; and as `read_events`, `JourneyRules` and `build_journeys` say.

    Notes
    -----
    In a batch the steps of a log are built once: the folder of ``JOURNEYLAB_STORE`` keeps them under a hash of the
    files' content, the rules and all that was asked of the reading.
    """
    con = con or default_connection()
    rules = rules if isinstance(rules, JourneyRules) else JourneyRules.load(rules) if rules else JourneyRules()
    folder = os.environ.get(STORE_VARIABLE)
    if folder:
        steps, headline = _reuse(Path(folder), data, rules, con, reading)
    else:
        steps, headline = _build(data, rules, con, reading)
    end = end_of_observation(steps, as_of)
    events = frozenset(steps.select("event").distinct().execute()["event"])
    steps = _choose(steps, where, since)
    return LoadedLog(steps, build_journeys(steps, rules, as_of=end), rules, end, events, headline)


def choose_journeys(
    steps: ibis.Table, *, since: str | date | None = None, before: str | date | None = None
) -> ibis.Table:
    """Which steps are of journeys that began in this span?

    Parameters
    ----------
    steps
        From `build_steps`.
    since, before
        Journeys that began at `since` or later, and earlier than `before` (UTC). They stay whole, whatever happened
        after `before`; other journeys of the same customers are left out. None: no bound.

    Returns
    -------
    ibis.Table
        As `steps`; no query runs.
    """
    begun = steps.group_by("journey_id").agg(_start=steps.timestamp.min())
    bounds = []
    if since is not None:
        bounds.append(begun["_start"] >= read_instant(since, "since"))
    if before is not None:
        bounds.append(begun["_start"] < read_instant(before, "before"))
    return steps.semi_join(begun.filter(bounds), "journey_id") if bounds else steps


def _build(
    data: str | Path, rules: JourneyRules, con: ibis.BaseBackend, reading: Mapping[str, Any]
) -> tuple[ibis.Table, str]:
    events = read_events(data, con=con, **reading)
    return build_steps(events, rules), check_events(events).headline


def _reuse(
    folder: Path, data: str | Path, rules: JourneyRules, con: ibis.BaseBackend, reading: Mapping[str, Any]
) -> tuple[ibis.Table, str]:
    """Take what an earlier report has left in the folder, or leave it there."""
    kept = folder / _name_log(data, rules, reading)
    kept.mkdir(parents=True, exist_ok=True)
    steps, headline = kept / "steps.parquet", kept / "headline.txt"
    # One builds, the others wait.
    with locked(kept):
        if not steps.exists():
            built, said = _build(data, rules, con, reading)
            headline.write_text(said, encoding="utf-8")
            partial = kept / "steps.partial"
            built.to_parquet(partial)
            partial.replace(steps)
    return con.read_parquet(steps), headline.read_text(encoding="utf-8")


def _name_log(data: str | Path, rules: JourneyRules, reading: Mapping[str, Any]) -> str:
    """A name that changes with the content of the files and with everything that is asked of them."""
    paths = [find_shipped("data/demo") / "events.csv"] if data == "demo" else find_files(data)
    asked = {field.name: getattr(rules, field.name) for field in fields(rules)}
    asked["stage_of"] = list(rules.stage_of.items())
    # What was said of the log is kept with it.
    versions = [current_language(), __version__, version("duckdb"), version("ibis-framework")]
    name = hashlib.sha256(json.dumps([asked, sorted(reading.items()), versions], default=str).encode())
    for path in paths:
        with path.open("rb") as file:
            # The path tells partitions apart.
            name.update(str(path).encode() + hashlib.file_digest(file, "sha256").digest())
    return name.hexdigest()[:32]


def _choose(steps: ibis.Table, where: str | None, since: str | date | None) -> ibis.Table:
    """Keep the customers and journeys that are wanted."""
    if where is None and since is None:
        return steps
    chosen = choose_journeys(steps, since=since)
    if where is not None:
        names = find_columns(where, "where")
        met = build_condition(where, steps, "where")
        is_known = ibis.and_(*(steps[name].notnull() for name in names))
        known = steps.filter(is_known).mutate(_met=met)
        firsts = known.group_by("customer_id").agg(_met=known["_met"].argmin(known.position))
        chosen = chosen.semi_join(firsts.filter(firsts["_met"]), "customer_id")
    chosen = store(chosen, steps.get_backend())
    if not chosen.count().execute():
        asked = " and ".join(f"{name} {value!r}" for name, value in (("where", where), ("since", since)) if value)
        raise RuleError(
            f"load_log: {asked} leave none of {steps.count().execute():,} events of "
            f"{steps.customer_id.nunique().execute():,} customers"
        )
    return chosen
