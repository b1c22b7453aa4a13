"""What a notebook asks for: its typed parameters, read without running it, and checked before anything starts."""

from __future__ import annotations

import ast
import io
import json
import math
import operator
import os
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from journeylab.errors import ParameterError, ReportError, nearest
from journeylab.resources import find_shipped

_TAG = "parameters"
_NONE_WORDS = frozenset(("", "~", "none", "null"))
_BOOL_WORDS = {"true": True, "yes": True, "false": False, "no": False}
# Of the members of a union the most particular is tried first: "auto" before text, 4 before 4.0.
_PRECEDENCE = ("None", "Literal", "bool", "int", "float", "list", "Path", "str")


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    annotation: str
    default: object
    help: str


@dataclass(frozen=True)
class Notebook:
    """A notebook file as far as it must be known before it runs.

    The title is short and comes from its metadata, the heading is its first line; one stands in for the other. The
    question is the heading, or the paragraph under a heading that is the title.
    """

    name: str
    path: Path
    title: str
    heading: str
    question: str
    parameters: tuple[Parameter, ...]


def find_notebooks() -> dict[str, Path]:
    """Which notebooks come with journeylab?"""
    return {path.stem: path for path in sorted(find_shipped("notebooks").glob("*.ipynb"))}


def read_notebook(notebook: str | Path) -> Notebook:
    """What does this notebook answer, and what does it ask for?

    Parameters
    ----------
    notebook
        The name of one of journeylab's own (``"personas"``) or a path that ends in ``.ipynb``.

    Raises
    ------
    ReportError
        There is no such notebook, or the file is not one.
    ParameterError
        Its parameters cell is not made of annotated literals.
    """
    path = _find_path(notebook)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in content["cells"]
        ]
        metadata, _ = content["metadata"], content["nbformat"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path} is not a notebook of format 4: {error}") from None
    tagged = [source for kind, source, tags in cells if kind == "code" and _TAG in tags]
    if len(tagged) > 1:
        raise ParameterError(f'{path} has {len(tagged)} cells tagged "{_TAG}"; keep one')
    heading, paragraph = _read_opening([source for kind, source, _ in cells if kind == "markdown"])
    title = metadata.get("title") or heading or path.stem.replace("_", " ").capitalize()
    return Notebook(
        name=path.stem,
        path=path,
        title=title,
        heading=heading or title,
        question=paragraph if heading in {"", title} else heading,
        parameters=_parse_cell(tagged[0], path) if tagged else (),
    )


def read_parameters(notebook: str | Path) -> tuple[Parameter, ...]:
    """Which parameters does a notebook take, of which type, with which default and meaning?

    They are the annotated assignments of literals in the one cell tagged ``parameters``; the comment behind each is its
    help.
    """
    return read_notebook(notebook).parameters


def check_parameters(
    parameters: tuple[Parameter, ...], given: Mapping[str, object], *, text: bool = False
) -> dict[str, object]:
    """Do these values fit a notebook's parameters?

    Parameters
    ----------
    given
        Values by name. A parameter that is not named keeps its default.
    text
        The values come from a command line or a file, as text: they are read as what the annotation says and nothing
        else (``007`` is the text ``"007"`` for a `str`, 7 for an `int`; ``none`` is None where None is allowed; a list
        is ``a,b`` or ``[a, b]``).

    Returns
    -------
    dict
        The given values, converted. A path is passed on as the text that was given.

    Raises
    ------
    ParameterError
        Lists every unknown name and every value of the wrong type.

    Examples
    --------
    >>> k = Parameter("k", 'int | Literal["auto"]', "auto", "how many personas")
    >>> check_parameters((k,), {"k": "4"}, text=True)
    {'k': 4}
    >>> check_parameters((k,), {"k": "four"})
    Traceback (most recent call last):
        ...
    journeylab.errors.ParameterError: parameters that cannot be used:
      k: expected int | Literal["auto"], found "four"
    """
    return match_parameters({"": parameters}, given, text=text)[""]


def match_parameters(
    notebooks: Mapping[str, tuple[Parameter, ...]], given: Mapping[str, object], *, text: bool = False
) -> dict[str, dict[str, object]]:
    """Which value goes to which notebook? Each goes to all that know it; one that none knows is refused."""
    known = {parameter.name for parameters in notebooks.values() for parameter in parameters}
    problems = [f"{name}: unknown.{nearest(name, known)}" for name in given if name not in known]
    values: dict[str, dict[str, object]] = {}
    for notebook, parameters in notebooks.items():
        values[notebook] = {}
        for parameter in parameters:
            if parameter.name not in given:
                continue
            found = given[parameter.name]
            try:
                kind = ast.parse(parameter.annotation, mode="eval").body
                values[notebook][parameter.name] = _convert(kind, found, text=text)
            except _MismatchError:
                where = f" ({notebook})" if len(notebooks) > 1 else ""
                problems.append(f"{parameter.name}{where}: expected {parameter.annotation}, found {_show(found)}")
    if problems:
        lines = ["parameters that cannot be used:", *(f"  {problem}" for problem in problems)]
        if not known.issuperset(given):
            lines.append(f"known: {', '.join(sorted(known)) or 'none'}")
        raise ParameterError("\n".join(lines))
    return values


class _MismatchError(Exception):
    """The value is not of this type."""


def _find_path(notebook: str | Path) -> Path:
    path = Path(notebook)
    if path.suffix == ".ipynb":
        if not path.is_file():
            raise ReportError(f"there is no notebook {path}")
        return path
    known = find_notebooks()
    if str(notebook) not in known:
        near = nearest(str(notebook), known)
        raise ReportError(
            f'there is no notebook "{notebook}".{near} Known: {", ".join(known)}; or give a path to an .ipynb file'
        )
    return known[str(notebook)]


def _read_opening(markdown: list[str]) -> tuple[str, str]:
    """Return the first heading, and the paragraph under it."""
    text = "\n\n".join(markdown)
    heading = re.search(r"^#\s+(.+?)\s*$", text, re.MULTILINE)
    if not heading:
        return "", ""
    paragraphs = re.split(r"\n\s*\n", text[heading.end() :].strip())
    question = "" if paragraphs[0].startswith(("#", "-", "|", "`")) else paragraphs[0]
    return _strip_marks(heading[1]), _strip_marks(question)


def _strip_marks(markdown: str) -> str:
    return " ".join(re.sub(r"[*`]|\b_|_\b", "", markdown).split())


def _parse_cell(source: str, path: Path) -> tuple[Parameter, ...]:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(f"{path}, parameters cell, line {error.lineno}: {error.msg}") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    # Types must be imported where they are used, and a line of text may explain the cell.
    passive = (ast.Import, ast.ImportFrom)
    told = [node for node in statements if not isinstance(node, passive) and not _is_text(node)]
    return tuple(_parse_statement(node, source, comments, path) for node in told)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _parse_statement(node: ast.stmt, source: str, comments: Mapping[int, str], path: Path) -> Parameter:
    line = ast.get_source_segment(source, node) or ""
    where = f'{path}, parameters cell, line {node.lineno}: "{line.splitlines()[0]}"'
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
        raise ParameterError(f"{where} is not a parameter; write name: type = value")
    annotation = ast.get_source_segment(source, node.annotation) or ""
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise ParameterError(f"{where} is not a literal; derive values in a later cell") from None
    try:
        _convert(node.annotation, default, text=False)
    except _MismatchError:
        raise ParameterError(f"{where}: the default is not of type {annotation}") from None
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from None
    text = comments.get(node.end_lineno or node.lineno, comments.get(node.lineno, ""))
    return Parameter(node.target.id, annotation, default, text)


def _convert(kind: ast.expr, value: object, *, text: bool) -> object:
    """Return the value as `kind`, or raise _MismatchError."""
    match kind:
        case ast.BinOp(op=ast.BitOr()):
            for member in sorted(_members(kind), key=_precedence):
                try:
                    return _convert(member, value, text=text)
                except _MismatchError:
                    continue
            raise _MismatchError
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return _choose(ast.literal_eval(choices), value, text=text)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            items = _split(value) if text and isinstance(value, str) else value
            if not isinstance(items, list | tuple):
                raise _MismatchError
            return [_convert(item, each, text=text) for each in items]
        case ast.Constant(value=None):
            if value is None or (text and isinstance(value, str) and value.strip().casefold() in _NONE_WORDS):
                return None
            raise _MismatchError
        case ast.Name(id=name) if name in _READ_VALUE:
            if text and not isinstance(value, str):
                raise _MismatchError
            return (_READ_TEXT if text else _READ_VALUE)[name](value)
    known = "str, int, float, bool, Path, list[…], Literal[…] and … | None"
    raise ParameterError(f"the type {ast.unparse(kind)} is not known here; use {known}")


def _members(union: ast.expr) -> list[ast.expr]:
    if isinstance(union, ast.BinOp):
        return [*_members(union.left), *_members(union.right)]
    return [union]


def _precedence(kind: ast.expr) -> int:
    name = ast.unparse(kind).partition("[")[0]
    return _PRECEDENCE.index(name) if name in _PRECEDENCE else len(_PRECEDENCE)


def _choose(choices: object, value: object, *, text: bool) -> object:
    for choice in choices if isinstance(choices, tuple) else (choices,):
        # Type and value: True is not 1 here.
        if (text and str(choice) == value) or (type(choice) is type(value) and choice == value):
            return choice
    raise _MismatchError


def _split(text: str) -> list[object]:
    if text.lstrip().startswith("["):
        import yaml

        try:
            # BaseLoader leaves every scalar as text: `007` and `no` stay what they are.
            items = yaml.load(text, Loader=yaml.BaseLoader)
        except yaml.YAMLError:
            raise _MismatchError from None
        return list(items)
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _text_as_int(value: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", value.strip()):
        raise _MismatchError
    return int(value)


def _text_as_float(value: str) -> float:
    try:
        return _value_as_float(float(value))
    except ValueError:
        raise _MismatchError from None


def _text_as_bool(value: str) -> bool:
    try:
        return _BOOL_WORDS[value.strip().casefold()]
    except KeyError:
        raise _MismatchError from None


def _value_as_int(value: object) -> int:
    if isinstance(value, bool):
        raise _MismatchError
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise _MismatchError from None


def _value_as_float(value: object) -> float:
    if isinstance(value, bool | str) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
        raise _MismatchError
    return float(value)


def _value_as_path(value: object) -> str:
    if isinstance(value, str | os.PathLike):
        return str(os.fspath(value))
    raise _MismatchError


def _same(kind: type) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, kind):
            raise _MismatchError
        return value

    return read


_READ_VALUE: dict[str, Callable[..., object]] = {
    "str": _same(str),
    "Path": _value_as_path,
    "bool": _same(bool),
    "int": _value_as_int,
    "float": _value_as_float,
}
_READ_TEXT: dict[str, Callable[..., object]] = {
    "str": str,
    "Path": str,
    "bool": _text_as_bool,
    "int": _text_as_int,
    "float": _text_as_float,
}


def _show(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
