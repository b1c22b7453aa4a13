"""Errors that say what is wrong, where, how often, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class JourneylabError(ValueError):
    """Anything a caller can mend; the command line prints it as one paragraph and exits with 1."""


class SchemaError(JourneylabError):
    """The data cannot be read as events; lists every failed check at once."""


class RuleError(JourneylabError):
    """A rule or an argument does not fit the data or itself."""


class ParameterError(JourneylabError):
    """A notebook's parameter is unknown or has the wrong type."""


class ReportError(JourneylabError):
    """A report could not be made; names the notebook, the cell and what is kept where."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Which known name did the caller probably mean?

    Returns
    -------
    str
        A sentence to append to an error, or an empty string when nothing is near.

    Examples
    --------
    >>> nearest("catlog", ["cart", "catalog"])
    ' Did you mean "catalog"?'
    >>> nearest("zzz", ["cart"])
    ''
    """
    by_folded = {option.casefold(): option for option in options}
    match = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f' Did you mean "{by_folded[match[0]]}"?' if match else ""
