"""The messages that reports are made of, and what becomes of them in the catalogs: `python -m journeylab.messages`."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import get_args

from babel.messages import Catalog
from babel.messages.extract import extract, extract_from_dir
from babel.messages.pofile import write_po

from journeylab.language import FOLDER, Language, read_catalog, split_markdown
from journeylab.parameters import find_notebooks, read_notebook

_PACKAGE = Path(__file__).parent
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None, "say": None}
_METHODS = [("**.py", "python"), ("templates/**.j2", "jinja2.ext:babel_extract")]


def main() -> None:
    """Bring the catalogs up to date: new messages come in without a translation, those that nobody says go."""
    for lang in get_args(Language)[1:]:
        (FOLDER / f"{lang}.po").write_bytes(write_catalog(lang))


def write_catalog(lang: str) -> bytes:
    """What shall the catalog of this language hold, by what the code and the notebooks say today?"""
    catalog = read_catalog(lang)
    catalog.update(collect_messages(), no_fuzzy_matching=True)
    written = BytesIO()
    write_po(written, catalog, 120, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True)
    head = ('msgid ""', 'msgstr ""', *(f'"{line}\\n"' for line in _write_head(lang, catalog)))
    return "\n".join((*head, "", "")).encode() + written.getvalue()


def _write_head(lang: str, catalog: Catalog) -> tuple[str, ...]:
    """What programs need to know of a catalog; Babel's own head names the minute it was made in."""
    encoding = ("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit")
    return f"Language: {lang}", f"Plural-Forms: {catalog.plural_forms}", *encoding


def collect_messages() -> Catalog:
    """All that modules, pages and notebooks say."""
    catalog = Catalog()
    found = extract_from_dir(
        _PACKAGE,
        method_map=_METHODS,
        options_map={"templates/**.j2": {"trimmed": "true"}},
        keywords=_KEYWORDS,
        strip_comment_tags=True,
    )
    for *_, message, _comments, _context in found:
        catalog.add(message)
    for path in find_notebooks().values():
        for message in _read_notebook(path):
            catalog.add(message)
    return catalog


def _read_notebook(path: Path) -> Iterator[str | tuple[str, ...]]:
    """Yield titles, the text between the cells, what parameters mean, and what the cells say."""
    from nbformat import read

    notebook = read_notebook(path)
    yield from filter(None, (notebook.title, notebook.heading, notebook.question))
    yield from (parameter.help for parameter in notebook.parameters if parameter.help)
    for cell in read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            yield from (text for _, text in split_markdown(cell.source))
        elif cell.cell_type == "code":
            for *_, message, _comments, _context in extract("python", BytesIO(cell.source.encode()), _KEYWORDS):
                yield message


if __name__ == "__main__":
    main()
