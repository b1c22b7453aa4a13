"""The half of a persona that no log knows: goals, motives and quotes, as people stated them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from journeylab.engine import connect
from journeylab.errors import SchemaError, nearest
from journeylab.schema import ROW
from journeylab.sources.files import open_source

if TYPE_CHECKING:
    from journeylab.personas.fit import Personas

#: What people can have stated, in the order of a card.
KINDS = ("goal", "motive", "need", "pain", "context", "quote")
_COLUMNS = ("persona", "kind", "text", "n_interviews")
_MOST_PROBLEMS = 10

# Where it stands, and what it says: persona, kind, text, n_interviews as they were given.
_Entry = tuple[str, dict[str, Any]]


def attach_stated(personas: Personas, stated: str | Path | pd.DataFrame) -> Personas:
    """What do these customers want, and in which words do they say so? A copy of the personas that also tells that.

    What people state is shown beside what was measured, marked as such and with the number of interviews behind it;
    it plays no part in who belongs to which persona. It takes the place of what was attached before.

    Parameters
    ----------
    personas : Personas
    stated : path or pandas.DataFrame
        A coded-interview table (DataFrame, csv, tsv or xlsx) with one row per statement: persona (number or name), kind
        (goal, motive, need, pain, context or quote), text, and n_interviews (in how many it came up; may be missing).
        Or a TOML file with a table per persona, by number or name::

            [1]
            n_interviews = 7                      # of all that follows, unless it has its own
            goal = "Find the best price"
            quote = [{text = "I always wait for a code.", n_interviews = 3}, "Why should I pay more?"]

    Returns
    -------
    Personas
        With `.stated`: persona (number), kind, text, n (interviews; missing where nobody counted); by persona and kind.

    Raises
    ------
    SchemaError
        If something does not fit: all of it at once, with its place.
    """
    entries, where = _read(stated)
    own = {str(name): int(number) for number, name in personas.summary[["persona", "name"]].itertuples(index=False)}
    rows, problems = [], []
    for place, entry in entries:
        row, wrong = _check(entry, own)
        rows.append(row)
        problems += [f"{place}: {problem}" for problem in wrong]
    if problems or not rows:
        raise SchemaError(_say(where, len(rows), problems))
    table = pd.DataFrame(rows, columns=["persona", "kind", "text", "n"]).astype({"n": "Int64"})
    order = table["persona"] * len(KINDS) + table["kind"].map(KINDS.index)
    return replace(personas, stated=table.iloc[order.argsort(kind="stable")].reset_index(drop=True))


def _read(stated: str | Path | pd.DataFrame) -> tuple[list[_Entry], str]:
    """All statements as they were given, and how their source is called."""
    if isinstance(stated, pd.DataFrame):
        return _list_rows(stated, "the table", first=1), "the table"
    path = Path(stated)
    if path.suffix.lower() == ".toml":
        try:
            content = tomllib.loads(path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SchemaError(f"{path.name}: no TOML file that can be read ({error})") from error
        return list(_list_tables(content)), path.name
    con = connect()
    table, _ = open_source(path, con, delimiter=None, encoding=None, sheet=None)
    frame = table.order_by(ROW).drop(ROW).execute()
    con.disconnect()
    return _list_rows(frame, path.name, first=2), path.name  # below the header


def _list_rows(frame: pd.DataFrame, where: str, *, first: int) -> list[_Entry]:
    names = [str(name) for name in frame.columns]
    missing = [name for name in _COLUMNS[:3] if name not in names]
    if missing:
        hints = "".join(nearest(name, names) for name in missing)
        raise SchemaError(
            f"{where} lacks {', '.join(missing)}; it has {', '.join(names)}.{hints} "
            f"Expected are {', '.join(_COLUMNS)} (the last may be missing)"
        )
    records = frame.set_axis(names, axis=1).to_dict("records")
    return [(f"row {first + i}", {name: row.get(name) for name in _COLUMNS}) for i, row in enumerate(records)]


def _list_tables(content: Mapping[str, Any]) -> Iterator[_Entry]:
    for persona, table in content.items():
        if not isinstance(table, dict):
            yield f"{persona}", {"persona": persona, "kind": None, "text": table}
            continue
        for kind, said in table.items():
            for text in said if isinstance(said, list) else [said]:
                own = text if isinstance(text, dict) else {"text": text}
                if kind != "n_interviews":
                    base = {"n_interviews": table.get("n_interviews")}
                    yield f"[{persona}] {kind}", {"persona": persona, "kind": kind, **base, **own}


def _check(entry: Mapping[str, Any], own: Mapping[str, int]) -> tuple[tuple[int, str, str, int | None], list[str]]:
    """One statement as a row, and all that is wrong with it."""
    problems = []
    numbers = {str(number): number for number in own.values()} | dict(own)
    named = _as_text(entry.get("persona"))
    if named not in numbers:
        known = ", ".join(f"{number} ({name})" for name, number in own.items())
        problems.append(f'"{named}" is no persona; they are {known}.{nearest(named, own)}')
    kind, text = _as_text(entry.get("kind")).casefold(), _as_text(entry.get("text"))
    if kind not in KINDS:
        problems.append(f'"{kind}" is no kind; they are {", ".join(KINDS)}.{nearest(kind, KINDS)}')
    if not text:
        problems.append("there is no text")
    problems += [f'"{key}" is not known.{nearest(key, _COLUMNS)}' for key in entry if key not in _COLUMNS]
    count = _as_text(entry.get("n_interviews"))
    if count and not (count.isdecimal() and int(count) > 0):
        problems.append(f'n_interviews is "{count}"; expected a whole number from 1')
    n = int(count) if count.isdecimal() else None
    return (numbers.get(named, 0), kind, text, n), problems


def _as_text(value: Any) -> str:  # Any: a cell holds anything
    """What a cell says; a whole number without the fraction that pandas gives it where another is missing."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    text = str(value).strip()
    whole = text.removesuffix(".0")
    return whole if whole.isdecimal() else text


def _say(where: str, n_rows: int, problems: list[str]) -> str:
    if not problems:
        return f"{where} has no statement in it; expected at least one"
    more = len(problems) - _MOST_PROBLEMS
    lines = problems[:_MOST_PROBLEMS] + ([f"… and {more:,} more"] if more > 0 else [])
    return "\n  ".join([f"{where} failed {len(problems):,} checks in {n_rows:,} statements", *lines])
