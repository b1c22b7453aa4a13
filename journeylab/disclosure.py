"""What must not leave the house: people, secrets, paths of the author's machine, and pages that call out or run."""

from __future__ import annotations

import base64
import csv
import hmac
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeylab.errors import ReportError, nearest
from journeylab.resources import find_shipped

if TYPE_CHECKING:
    import pandas as pd

#: The smallest group of customers that a shared report shows.
MIN_GROUP = 10

_MEANING = {
    "customer id": "a customer can be looked up: show groups, or pseudonyms",
    "e-mail": "a person can be reached",
    "phone": "a person can be reached",
    "secret": "a password or key: change it, and take it from the environment",
    "path": "a path of the author's machine",
    "active": "a script, a handler or a frame: it could run what data say",
    "request": "the page asks another address for something when it is opened",
    "small group": f"fewer than {MIN_GROUP} customers: they may be recognised",
}
_TEXT = {
    # From the start of a word only: from each of its letters, a long name takes minutes.
    "e-mail": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"),
    # With a country's code, or in the groups of a number that is dialled; our own counts have thin spaces.
    "phone": re.compile(
        r"(?<![\w.,+-])(?:(?:\+|00)[1-9][0-9]{0,2}[ .-]?(?:\(?[0-9]{1,4}\)?[ .-]?){2,4}[0-9]{2,4}"
        r"|\(0?[0-9]{2,4}\) ?[0-9]{3}[ -]?[0-9]{2,4}(?:[ -][0-9]{2})?|[0-9]{3}[ -][0-9]{3}[ -][0-9]{3,4})(?![\w.,-]*\w)"
    ),
    "secret": re.compile(
        r"\bAKIA[0-9A-Z]{16}\b|\b(?:ghp|gho|github_pat|glpat|xox[abp])[-_]\w{16,}|\bsk-[\w-]{20,}"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}|\b\w+://[^\s/:@<>]+:[^\s/@<>]+@"
        r"|(?i:\b(?:password|passwd|secret|api_?key|access_token)\b[\"']?\s*[=:]\s*[\"']?[^\s\"'<>*…]{4,})"
    ),
    "path": re.compile(
        r"(?:/(?:home|Users|root|tmp|private|mnt)/|\b[A-Za-z]:\\+Users\\+)[^\s\"'<>]+|\bfile://[^\s\"'<>]+"
        r"|(?<![^\s\"'<>])[^\s\"'<>/]*/[^\s\"'<>]*/site-packages/"
    ),
}
_WORD = re.compile(r"[^\s\"'<>(),;|\[\]{}=]+")
_COUNTS = frozenset(("n", "n_customers", "n_journeys", "n_start"))
_GEOMETRY = frozenset(("d", "points", "transform", "viewbox", "style", "class", "id"))
_FRAMES = frozenset(("iframe", "frame", "object", "embed", "form", "portal", "base"))
_SHORTEST_ID = 4
_KINDS = frozenset((".html", ".htm", ".ipynb", ".json", ".csv", ".svg", ".md", ".txt"))


@dataclass(frozen=True)
class _Finding:
    kind: str
    example: str


def check_report(path: str | Path, *, ids: Collection[str] = (), min_group: int = MIN_GROUP) -> pd.DataFrame:
    """Is there anything in this report, or in any file of this run, that must not leave the house?

    Parameters
    ----------
    path
        A file, or the folder of a run; files other than html, ipynb, json, csv, svg, md and txt are not read.
    ids
        The customers' ids, to be looked for as whole words. Those shorter than four characters are not: they would be
        found everywhere.
    min_group
        The least customers that a row of a table may count.

    Returns
    -------
    pandas.DataFrame
        file, kind ("customer id", "e-mail", "phone", "secret", "path", "active", "request", "small group"), n (how
        often), example (the first, cut to its first characters), meaning. No rows: nothing was found, which is not
        proof that nothing is there: names and comments look like any other text.
    """
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise ReportError(f"check_report: there is no {path}")
    files = sorted(each for each in path.rglob("*") if each.suffix.lower() in _KINDS) if path.is_dir() else [path]
    known = frozenset(name for name in map(str, ids) if len(name) >= _SHORTEST_ID)
    rows = []
    for file in files:
        found: dict[str, list[str]] = {}
        for finding in _look(file, known, min_group):
            found.setdefault(finding.kind, []).append(finding.example)
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        rows += [
            (name, kind, len(found[kind]), _cut(found[kind][0]), _MEANING[kind]) for kind in _MEANING if kind in found
        ]
    return pd.DataFrame(rows, columns=["file", "kind", "n", "example", "meaning"])


def read_ids(data: str | Path, customer_id: str = "customer_id") -> list[str]:
    """Which customers are in these files, whatever else is in their rows? One id each."""
    from journeylab.engine import default_connection
    from journeylab.sources.files import drop, open_source

    con = default_connection()
    if str(data) == "demo":
        data = find_shipped("data/demo") / "events.csv"
    raw, _ = open_source(data, con, delimiter=None, encoding=None, sheet=None)
    try:
        if customer_id not in raw.columns:
            shown = ", ".join(name for name in raw.columns if not name.startswith("_"))
            raise ReportError(f'no column "{customer_id}" in {data}.{nearest(customer_id, raw.columns)} It has {shown}')
        ids = raw[customer_id].cast("string").name("id").as_table().distinct().execute()["id"]
    finally:
        drop(raw, con)
    return [str(each) for each in ids.dropna()]


def _cut(example: str) -> str:
    """Enough to find the place, too little to spread what was found."""
    example = " ".join(example.split())
    return example if len(example) <= 6 else f"{example[: min(12, len(example) // 2)]}…"


def _look(file: Path, ids: frozenset[str], min_group: int) -> Iterator[_Finding]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ReportError(f"check_report: {file} is not text in UTF-8") from None
    match file.suffix.lower():
        case ".html" | ".htm" | ".svg":
            page = _Page()
            page.feed(text)
            page.close()
            yield from page.findings()
            text = "\n".join(page.texts)
        case ".ipynb" | ".json":
            text = "\n".join(_list_texts(json.loads(text)))
        case ".csv":
            yield from _find_small(text, min_group)
    for kind, pattern in _TEXT.items():
        yield from (_Finding(kind, found[0]) for found in pattern.finditer(text))
    if ids:
        yield from (_Finding("customer id", word) for word in _find_ids(text, ids))


def _list_texts(value: Any) -> Iterator[str]:
    """All texts of a JSON file; pages in a notebook's outputs as what they say."""
    if isinstance(value, str):
        if value.lstrip().startswith("<"):
            page = _Page()
            page.feed(value)
            page.close()
            yield from page.texts
        else:
            yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            # A picture's letters mean nothing.
            if not str(key).startswith("image/"):
                yield str(key)
                yield from _list_texts(each)
    elif isinstance(value, list):
        # A notebook keeps a text as its lines.
        if value and all(isinstance(each, str) for each in value):
            yield from _list_texts("".join(value))
        else:
            for each in value:
                yield from _list_texts(each)


def _find_ids(text: str, ids: frozenset[str]) -> Iterator[str]:
    for found in _WORD.finditer(text):
        word = found[0].rstrip(".:!?…")
        # A journey is named after its customer.
        if word in ids or word.partition("/")[0] in ids:
            yield word


def _find_small(text: str, min_group: int) -> Iterator[_Finding]:
    for row in csv.DictReader(text.splitlines()):
        for name in _COUNTS.intersection(row):
            count = row[name] or ""
            if count.isdigit() and 0 < int(count) < min_group:
                yield _Finding("small group", f"{name} = {count}")


class _Page(HTMLParser):
    """What a page says, and what it would do."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._active: list[str] = []
        self._requests: list[str] = []
        self._scripts: list[str] = []
        self._inside: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in {"script", "style"}:
            self._inside[tag] += 1
        if tag == "script":
            self._scripts.append("")
        if tag in _FRAMES:
            self._active.append(f"<{tag}>")
        for name, value in given.items():
            if name.startswith("on") or value.strip().casefold().startswith("javascript:"):
                self._active.append(f"{tag} {name}")
            is_link = tag == "a" and name in {"href", "xlink:href"}
            if name in {"src", "href", "xlink:href", "srcset", "poster", "action", "data"} and not is_link:
                self._note_request(value)
            if name == "style":
                self._read_style(value)
            if name not in _GEOMETRY and not value.startswith("data:"):
                self.texts.append(value)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside[tag]:
            self._inside[tag] -= 1

    def handle_data(self, data: str) -> None:
        if self._inside["script"]:
            self._scripts[-1] += data
        elif self._inside["style"]:
            self._read_style(data)
        else:
            self.texts.append(data)

    def _read_style(self, style: str) -> None:
        for address in re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", style):
            self._note_request(address)

    def _note_request(self, address: str) -> None:
        if re.match(r"\s*(?:https?:|wss?:|ftp:)?//", address):
            self._requests.append(address)

    def findings(self) -> Iterator[_Finding]:
        for script in self._scripts:
            if script not in _own_scripts():
                yield _Finding("active", f"<script>{script.strip()}")
        yield from (_Finding("active", each) for each in self._active)
        yield from (_Finding("request", each) for each in self._requests)


@cache
def _own_scripts() -> frozenset[str]:
    """What our pages run, letter for letter; a page's own policy may name whatever it likes."""
    templates = find_shipped("templates")
    return frozenset(path.read_text(encoding="utf-8") for path in templates.glob("*.js"))


#: What stands for a secret.
MASK = "•••"
_SECRET_NAME = re.compile(r"(?:^|_)(?:password|passwd|secret|token|api_?key|credentials?)(?:$|_)", re.IGNORECASE)


def mask_secrets(parameters: Mapping[str, object]) -> dict[str, object]:
    """Parameters as a report may show them: of those whose name or value says that they are secret, only that."""
    return {name: MASK if _is_secret(name, value) else value for name, value in parameters.items()}


def _is_secret(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(value and (_SECRET_NAME.search(name) or _TEXT["secret"].search(value)))


def fold_small(
    frame: pd.DataFrame,
    what: str,
    *,
    count: str,
    sums: Collection[str] = (),
    within: Collection[str] = (),
    min_group: int = MIN_GROUP,
) -> pd.DataFrame:
    """What may be shown of a table, when nobody is to be recognised in a small group?

    Parameters
    ----------
    frame
        A tidy table; not changed.
    what
        The column that names the groups. Small ones become one row "(other)", last of its block.
    count
        The column with the customers (or journeys) of each row.
    sums
        Columns that add up: in the row "(other)" they are summed, `count` among them only if it is named here too. All
        other columns are empty there.
    within
        Columns that make blocks, each with its own "(other)".
    min_group
        Rows that count fewer are folded, and with them the next larger ones until as many are together: what is left
        out cannot be found by taking the shown rows from a total. A block that counts fewer altogether is left out.
    """
    import pandas as pd

    keys = list(within)
    blocks = [block for _, block in frame.groupby(keys, sort=False, dropna=False)] if keys else [frame]
    shown: list[pd.DataFrame] = []
    for block in blocks:
        rising = block[count].sort_values(kind="stable")
        n_small = int((rising < min_group).sum())
        if n_small:
            # Of the smallest rows as many as make up a group.
            enough = int((rising.cumsum() < min_group).sum()) + 1
            n_small = max(n_small, enough)
        if n_small > len(block):
            continue
        folded = block.loc[rising.index[:n_small]]
        shown.append(block.drop(folded.index))
        if n_small:
            other = {name: block[name].iloc[0] for name in keys} | {what: "(other)"}
            other |= {name: folded[name].sum() for name in sums}
            shown.append(pd.DataFrame([other]).reindex(columns=frame.columns))
    # Empty frames and columns would change the others' types.
    parts = [each.dropna(axis=1, how="all") for each in shown if len(each)]
    return pd.concat(parts, ignore_index=True).reindex(columns=frame.columns) if parts else frame.head(0)


def pseudonymise(ids: pd.Series, key: str) -> pd.Series:
    """Which names can stand for these ids, so that only who has the key can tell whose they are?

    Parameters
    ----------
    ids
        Text; nulls stay.
    key
        A secret of yours, such as ``os.environ["JOURNEYLAB_KEY"]``: with the same key the same ids get the same names,
        in every table and every month. At least 16 characters.

    Returns
    -------
    pandas.Series
        Twelve letters and digits for each id (HMAC-SHA256, shortened to 60 bits: among a million ids two alike are met
        in one of two million keys).
    """
    if len(key) < 16:
        raise ReportError(
            f"pseudonymise: the key has {len(key)} characters; take at least 16, such as a random password"
        )
    return ids.map(lambda name: _name_by_key(str(name), key), na_action="ignore")


def _name_by_key(name: str, key: str) -> str:
    digest = hmac.digest(key.encode(), name.encode(), "sha256")
    return base64.b32encode(digest[:8]).decode().lower()[:12]
