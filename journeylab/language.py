"""In which language are reports written? English in the source, Polish and Russian in `locale/`."""

from __future__ import annotations

import gettext as standard
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from journeylab.errors import RuleError

if TYPE_CHECKING:
    import datetime as dt

    from babel.messages import Catalog

Language = Literal["en", "pl", "ru"]

FOLDER = Path(__file__).parent / "locale"
_HEADING = re.compile(r"((?:#+ )?)(.*)", re.DOTALL)
# A kernel runs each cell in a context of its own, so that a context variable would be forgotten in the next one.
_current: str = "en"


def set_language(lang: str) -> None:
    """Write all that follows (sentences, table heads, pictures, numbers, dates) in this language.

    Names from data, column names in CSV files and error messages stay as they are.

    Parameters
    ----------
    lang
        "en", "pl" or "ru".

    Raises
    ------
    RuleError
        When there is no such language.
    """
    global _current
    if lang not in get_args(Language):
        raise RuleError(f'lang must be "en", "pl" or "ru", got {lang!r}.')
    _current = lang


def current_language() -> str:
    """Which language is it now?"""
    return _current


@contextmanager
def use_language(lang: str) -> Iterator[None]:
    """Write in this language for a while."""
    before = _current
    set_language(lang)
    try:
        yield
    finally:
        set_language(before)


def common_language(entries: Iterable[Mapping[str, object]]) -> str:
    """In which language is a page about several reports? In theirs, if they share one."""
    found = {str(entry.get("lang", "en")) for entry in entries}
    return found.pop() if len(found) == 1 and found <= set(get_args(Language)) else "en"


def gettext(message: str, /, **values: object) -> str:
    """Translate a message, and fill in its `{names}`; whole numbers with their thousands apart.

    Examples
    --------
    >>> with use_language("pl"):
    ...     gettext("yes")
    'tak'
    """
    # To gettext the empty message is the catalog's head.
    known = _current == "en" or not message
    return _fill(message if known else _translations(_current).gettext(message), values)


def ngettext(one: str, many: str, n: float, /, **values: object) -> str:
    """Translate a message whose form depends on the count `n`."""
    text = (one if n == 1 else many) if _current == "en" else _translations(_current).ngettext(one, many, int(n))
    return _fill(text, {"n": n} | values)


#: The same for notebooks, in which `_` is the last output.
say = gettext


def _fill(text: str, values: dict[str, object]) -> str:
    written = {name: localise(f"{value:,}") if isinstance(value, Integral) else value for name, value in values.items()}
    return text.format(**written) if values else text


def translate_markdown(source: str) -> str:
    """Translate the text of a notebook, paragraph by paragraph (`split_markdown`)."""
    return "\n\n".join(f"{head}{gettext(text)}" for head, text in split_markdown(source))


def split_markdown(source: str) -> list[tuple[str, str]]:
    r"""Cut a text at its empty lines, into the marks of a heading (or none) and the words.

    Examples
    --------
    >>> split_markdown("## The data\n\nWhere it is from.")
    [('## ', 'The data'), ('', 'Where it is from.')]
    """
    parts = [_HEADING.match(part) for part in re.split(r"\n\s*\n", source.strip())]
    return [(found[1], found[2]) for found in parts if found and found[2]]


def mark(message: str) -> str:
    """Mark a constant for translation, where it is written; `gettext` translates it where it is read."""
    return message


def localise(written: str) -> str:
    r"""Turn the marks of a number in English form ("12,408.5") into those of the language.

    Examples
    --------
    >>> with use_language("pl"):
    ...     localise("12,408.5")
    '12\u202f408,5'
    """
    return written if _current == "en" else written.translate(_marks(_current))


def format_day(moment: dt.date) -> str:
    """Write a date: ISO 8601 in English, which readers of every country tell apart; as usual elsewhere.

    Examples
    --------
    >>> import datetime as dt
    >>> format_day(dt.date(2026, 10, 1))
    '2026-10-01'
    >>> with use_language("pl"):
    ...     format_day(dt.date(2026, 10, 1))
    '1 paź 2026'
    """
    if _current == "en":
        return f"{moment:%Y-%m-%d}"
    from babel.dates import format_date

    return format_date(moment, "medium", locale=_current)


def format_moment(moment: dt.datetime) -> str:
    """Write a date with its time, to the minute."""
    return f"{format_day(moment)} {moment:%H:%M}"


def read_catalog(lang: str) -> Catalog:
    """Read the messages of a language."""
    from babel.messages.pofile import read_po

    with (FOLDER / f"{lang}.po").open("rb") as file:
        return read_po(file, locale=lang)


@cache
def _translations(lang: str) -> standard.NullTranslations:
    from babel.messages.mofile import write_mo

    compiled = BytesIO()
    write_mo(compiled, read_catalog(lang))
    compiled.seek(0)
    return standard.GNUTranslations(compiled)


@cache
def _marks(lang: str) -> dict[int, Any]:
    from babel import Locale

    decimal = Locale.parse(lang).number_symbols["latn"]["decimal"]
    # Typography wants a thin space between thousands; one that breaks no line.
    return str.maketrans({",": "\N{NARROW NO-BREAK SPACE}", ".": decimal})
