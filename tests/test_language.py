"""Reports in Polish and Russian: every message has its translation, and no English word is left in a report."""

from __future__ import annotations

import ast
import datetime as dt
import re
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import pandas as pd
import pytest

import journeylab as jl
from journeylab.formats import format_count, format_duration, format_interval, format_points, format_share
from journeylab.language import FOLDER, common_language, format_moment, gettext, ngettext, read_catalog, use_language
from journeylab.messages import collect_messages, write_catalog
from journeylab.parameters import find_notebooks
from journeylab.schema import PROBLEMS, TIMES
from journeylab.tables import show_table
from journeylab.words import unit_of

LANGUAGES = ("pl", "ru")
NARROW = "\N{NARROW NO-BREAK SPACE}"


def find_fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_message_is_translated(lang: str) -> None:
    catalog = read_catalog(lang)
    missing = []
    for message in collect_messages():
        if not message.id:
            continue
        found = catalog.get(message.id)
        texts = found.string if found and isinstance(found.string, tuple) else (found.string if found else "",)
        if not all(texts) or (message.pluralizable and len(texts) != 3):
            missing.append(message.id)
    assert not missing, f"{len(missing)} messages have no translation in {lang}.po; see CONTRIBUTING"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_translations_fill_in_the_same_figures(lang: str) -> None:
    for message in read_catalog(lang):
        if message.id:
            sources = message.id if isinstance(message.id, tuple) else (message.id,)
            texts = message.string if isinstance(message.string, tuple) else (message.string,)
            for text in texts:
                assert find_fields(text) == find_fields(sources[-1]), message.id
            assert not message.fuzzy, message.id


@pytest.mark.parametrize("lang", LANGUAGES)
def test_catalogs_hold_what_is_said_and_no_more(lang: str) -> None:
    assert (FOLDER / f"{lang}.po").read_bytes() == write_catalog(lang), "run python -m journeylab.messages"


def test_a_new_message_would_be_missed() -> None:
    assert "95 % interval" in {message.id for message in collect_messages()}
    assert "Where do customers leave, and who?" in {message.id for message in collect_messages()}
    assert read_catalog("pl").get("a message that nobody says") is None


def test_no_message_is_hidden_in_an_f_string() -> None:
    # There Babel does not find it.
    for path in Path(jl.__file__).parent.rglob("*.py"):
        for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(outer, ast.JoinedStr):
                said = [call for call in ast.walk(outer) if isinstance(call, ast.Call) and is_message(call)]
                assert not said, (path.name, outer.lineno)


def is_message(call: ast.Call) -> bool:
    is_ours = isinstance(call.func, ast.Name) and call.func.id in ("_", "gettext", "ngettext")
    return is_ours and bool(call.args) and isinstance(call.args[0], ast.Constant | ast.JoinedStr)


def test_numbers_dates_and_forms() -> None:
    with use_language("pl"):
        assert (format_count(12408), format_share(0.5328)) == (f"12{NARROW}408", "53,3 %")
        assert format_interval(-0.02, 0.01, format_points) == "−2,0 do +1,0 p.p."
        assert format_duration(93_600) == "1 d 2 godz."
        assert format_moment(dt.datetime(2026, 10, 1, 14, 5)) == "1 paź 2026 14:05"
        assert [unit_of("customer", n) for n in (1, 2, 5, 12, 22, 112)] == [
            *("klient", "klienci", "klientów", "klientów", "klienci", "klientów")
        ]
    with use_language("ru"):
        assert (format_count(12408), format_share(0.5328)) == (f"12{NARROW}408", "53,3 %")
        assert [unit_of("session", n) for n in (1, 2, 5, 11, 21)] == ["сессия", "сессии", "сессий", "сессий", "сессия"]
    assert (format_count(12408), format_share(0.5328)) == ("12,408", "53.3 %")


def test_messages_fill_in_whole_numbers_with_their_thousands() -> None:
    assert gettext("{shown} of {n}", shown=3, n=12408) == "3 of 12,408"
    assert ngettext("{n} row", "{n} rows", 1) == "1 row"
    assert gettext("{always} stays") == "{always} stays"  # nothing to fill in
    with use_language("pl"):
        assert gettext("no message of ours: {n}", n=1200) == f"no message of ours: 1{NARROW}200"
        assert gettext("") == ""


def test_data_keep_their_names() -> None:
    frame = pd.DataFrame({"channel": ["churn", "web"], "stage": ["churn", "web"], "mine": ["share", "(other)"]})
    with use_language("pl"):
        html = show_table(frame).html
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert cells[0] == "churn"  # a channel of that name is data
    assert cells[1] != "churn"  # the stage is a word of the ready rules
    assert cells[2] == "share"
    assert cells[3:5] == ["web", "web"]
    assert cells[5] != "(other)"


def test_languages_are_known_and_left_again() -> None:
    with pytest.raises(jl.RuleError, match=r'lang must be "en", "pl" or "ru", got \'de\'\.'):
        jl.set_language("de")
    with pytest.raises(ZeroDivisionError), use_language("ru"):
        _ = 1 / 0
    assert gettext("yes") == "yes"
    assert common_language([{"lang": "pl"}, {"lang": "pl"}]) == "pl"
    assert common_language([{"lang": "pl"}, {}]) == "en"
    assert common_language([{"lang": "klingon"}]) == "en"


class Reader(HTMLParser):
    """Collects what a reader of a page sees or hears, without code, parameters' names and values, and versions."""

    SILENT = frozenset(("script", "style", "code", "pre", "title"))
    VOID = frozenset(("meta", "link", "br", "img", "input", "hr", "col", "rect", "path", "circle", "line"))

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if not any(self._open):
            self.texts += [
                str(found[name]) for name in ("aria-label", "alt", "title", "placeholder") if found.get(name)
            ]
        if tag not in self.VOID:
            silent = tag in self.SILENT or found.get("class") in ("parameters", "version") or "download" in found
            self._open.append(silent)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self._open):
            self.texts.append(data)


# Names of products and methods, and letters that statistics is written in.
OURS = frozenset(
    [
        *("bh", "bic", "cohen", "em", "holm", "jaccard", "kaplan", "meier", "nps", "python", "rfm"),
        "enter",  # a key
        *("csv", "html", "id", "journeylab", "json", "png", "svg", "toml", "utc"),
        *("d", "h", "k", "n", "p", "q", "t", "x", "z"),
        # types and columns of the log, and the checks by name, as one would type them
        *("float", "role", "string"),
        *(part for name in (*PROBLEMS, *TIMES, "tie", "unknown_event") for part in name.split("_")),
    ]
)
# Columns of the demo whose cells are names; the others are numbers and comments.
NAMES = ("event", "channel", "device", "campaign")


# Files, and names that were cut to fit.
_PARTS = re.compile(r"\w+\.(?:csv|json|html|xlsx)\b|\w*…\w*")


def find_words(text: str) -> set[str]:
    return {word.casefold() for word in re.findall(r"[A-Za-z]+", _PARTS.sub("", text))}


@pytest.mark.parametrize("name", sorted(find_notebooks()))
def test_no_english_is_left_in_a_russian_report(name: str, tmp_path: Path) -> None:
    # How many personas there are is told in `personas`; explore says the same words of any number.
    given = {"lang": "ru"} | ({"k": 3} if name == "explore" else {})
    run = jl.run_report(name, given, out=tmp_path / "1")
    # Whatever is written in the log, the file's and the columns' names.
    log = pd.read_csv(Path(jl.__file__).parents[1] / "data/demo/events.csv", dtype=str)
    names = [*log.columns, *(each for column in NAMES for each in log[column].dropna().unique())]
    of_data = {word for name in names for word in find_words(name)}
    pages = [run.html, run.folder / "index.html"]
    for page in pages:
        reader = Reader()
        reader.feed(page.read_text(encoding="utf-8"))
        left = {text.strip(): find_words(text) - of_data - OURS - find_words(name) for text in reader.texts}
        left = {text: words for text, words in left.items() if words}
        assert not left, (page.name, left)
    assert '<html lang="ru"' in run.html.read_text(encoding="utf-8")
