"""The pages: one for a report, one for a run, filled here. Every text is escaped unless it was made as HTML."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeylab.formats import NOTHING, format_duration, format_number, format_share
from journeylab.language import current_language, format_day, format_moment, localise, ngettext
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.words import head_of, word_of

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

    from journeylab.diff import RunDiff

#: By this a list of runs is known as ours.
RUNS_MARK = "journeylab: list of runs"

_FOLDER = Path(__file__).parent
_HIDDEN_TAGS = frozenset(("parameters", "injected-parameters", "remove-cell"))
# What a page may never hold, whoever wrote it: the second wall behind escaping, the CSP is the third.
_ACTIVE = re.compile(r"<(?=/?(?:script|meta|base|link|iframe|frame|object|embed|form|portal)\b)", re.IGNORECASE)
_MOST_BYTES = 200_000
_KINDS = {
    suffix: f"text/{kind};charset=utf-8" for suffix, kind in ((".csv", "csv"), (".json", "plain"), (".mmd", "plain"))
}
_MOST_FIGURES, _MOST_LETTERS = 8, 40
# The rest of a longer parameter is in run.json.
_MOST_OF_A_PARAMETER, _LONGEST_SENTENCE, _LONGEST_CELL = 300, 3_000, 60
_SCROLL = '<div class="scroll" role="region" tabindex="0" aria-label="Table">'
#: What `journeylab.runs.list_runs` says of a run.
_STATES = (N_("whole"), N_("failed"), N_("damaged"))


def render_report(notebook: Any, *, tables: Sequence[Path] = (), **facts: Any) -> str:
    """Make the page of one executed notebook.

    Parameters
    ----------
    notebook
        An executed `nbformat` notebook; not changed.
    tables
        The CSV files that it saved. The page holds them, to be saved from it wherever it goes; a very large one stays
        beside it.
    **facts
        What ``report.html.j2`` shows around the cells: name, title, heading, data, versions, and the parameters with
        their values and whether these were given.
    """
    # The page's head shows it: a second h1 would be one too many.
    cells = re.sub(r"<h1>.*?</h1>", "", _render_cells(notebook), count=1, flags=re.DOTALL)
    body, contents = _add_anchors(_ACTIVE.sub("&lt;", cells))
    contents.append(("about-this-report", _("About this report")))
    links = [(path.name, _hold(path)) for path in tables]
    page = _pages().get_template("report.html.j2")
    scripts = _read_scripts("sort", "save")
    return page.render(body=body, contents=contents, tables=links, scripts=scripts, **facts)


def _read_scripts(*names: str) -> list[tuple[str, str]]:
    """The scripts that a page may run, each with the hash that names it in the page's policy; it runs no other."""
    sources = [(_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in names]
    return [(source, base64.b64encode(sha256(source.encode()).digest()).decode()) for source in sources]


def _hold(table: Path) -> str:
    """The content of a table as an address that needs no file; nothing for one that would weigh down the page."""
    content = table.read_bytes()
    if len(content) > _MOST_BYTES:
        return ""
    kind = _KINDS.get(table.suffix, "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render_run(title: str, run: Mapping[str, Any]) -> str:
    """Make the index of a run from what its run.json says."""
    reports = [
        {"name": name, "figures": choose_figures(report["values"]), "headline": report["values"].get("headline")}
        | report
        for name, report in run["reports"].items()
    ]
    page = _pages().get_template("run.html.j2")
    return page.render(title=title, reports=reports, created=run["created"], version=run["journeylab"])


def render_runs(title: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Make the list of the runs in a folder, of rows that are text (see `journeylab.runs.list_runs`)."""
    page = _pages().get_template("runs.html.j2")
    return page.render(title=title, runs=runs, scripts=_read_scripts("filter"), mark=RUNS_MARK)


def render_diff(diff: RunDiff) -> str:
    """Make the page that sets two runs side by side."""
    from markupsafe import Markup

    from journeylab import __version__
    from journeylab.tables import show_table

    def show(table: pd.DataFrame, caption: str, note: str | None = None) -> str:
        return Markup(show_table(table, caption=caption, note=note)._repr_html_()) if len(table) else ""

    before, after = diff.names
    note = _(
        "Beyond noise: p below 5 % after Holm's correction over all figures that have an interval. Runs over the same "
        "customers are not independent: there a mark stands, and a missing one proves nothing."
    )
    sections = [
        (_("Figures"), "", show(_write_values(diff.values), _("Recorded figures that both runs have"), note)),
        (_("Conversion in parts"), diff.note, show(_write_parts(diff.conversion), _("Change in mature conversion"))),
        (
            _("What differs"),
            "" if len(diff.settings) else _("Parameters, data and versions are the same."),
            show(diff.settings.replace({"report": {"": _("all")}}), _("Parameters, data and versions that differ")),
        ),
    ]
    return (
        _pages()
        .get_template("diff.html.j2")
        .render(
            title=f"{before} → {after}",
            headline=diff.headline,
            sections=sections,
            version=__version__,
            scripts=_read_scripts("sort"),
        )
    )


def write_diff(diff: RunDiff) -> list[list[tuple[str, ...]]]:
    """The same tables as rows of text, each with its heads."""
    tables = _write_values(diff.values), _write_parts(diff.conversion), diff.settings
    return [
        [
            tuple(table.columns),
            *(tuple(_cut(str(cell), _LONGEST_CELL) for cell in row) for row in table.itertuples(index=False)),
        ]
        for table in tables
        if len(table)
    ]


def _write_values(values: pd.DataFrame) -> pd.DataFrame:
    """The figures as text, each in its own unit."""
    import pandas as pd

    rows = []
    for row in values.to_dict("records"):
        name = row["name"]
        low, high = (_write_change(name, row[bound]) for bound in ("low", "high"))
        is_known = NOTHING not in (low, high)
        rows.append(
            {
                "report": row["report"],
                "figure": name,
                "before": _write_number(name, row["before"]),
                "after": _write_number(name, row["after"]),
                "change": _write_change(name, row["change"]),
                "95 % interval": _("{low} to {high}", low=low, high=high) if is_known else NOTHING,
                "mark": _write_mark(row["is_beyond_noise"]) if is_known else NOTHING,
            }
        )
    return pd.DataFrame(rows)


def _write_mark(is_beyond_noise: bool) -> str:
    return _("beyond noise") if is_beyond_noise else _("within noise")


def _write_parts(parts: pd.DataFrame) -> pd.DataFrame:
    shown = parts.copy()
    for name in ("change", "low", "high"):
        shown[name] = [_write_change("share", each) for each in parts[name]]
    return shown.rename(columns={"low": "from", "high": "to"})


@cache
def _pages() -> jinja2.Environment:
    import jinja2

    pages = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(_FOLDER), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    pages.globals |= {"_": _, "ngettext": ngettext, "lang": current_language}
    pages.filters |= {
        "duration": format_duration,
        "day": lambda moment: _write_moment(moment, format_day),
        "moment": lambda moment: _write_moment(moment, format_moment),
        "as_text": lambda value: _cut(write_parameter(value), _MOST_OF_A_PARAMETER),
        "sentence": _cut,
    }
    return pages


def _write_moment(moment: str, write: Callable[[datetime], str]) -> str:
    """A moment of run.json, which anybody may have edited: what is none is shown as it is."""
    try:
        return write(datetime.fromisoformat(moment))
    except ValueError:
        return moment


def _cut(text: str, longest: int = _LONGEST_SENTENCE) -> str:
    """Any text as one line of a page that is not endless; names in it do not turn their neighbours around."""
    from journeylab.picture import isolate, shorten

    return isolate(shorten(text, longest)) if text.strip() else text


def _render_cells(notebook: Any) -> str:
    """Let nbconvert write the visible cells."""
    from nbconvert.exporters import TemplateExporter
    from nbconvert.filters import Highlight2HTML

    exporter = TemplateExporter(template_name="report", extra_template_basedirs=[str(_FOLDER)], file_extension=".html")
    exporter.environment.autoescape = True
    exporter.environment.filters |= {
        "is_hidden": lambda cell: bool(_HIDDEN_TAGS & set(cell.metadata.get("tags", []))),
        "markdown": lambda source, attachments: _render_markdown(source, attachments, escape=False),
        # Markdown that a cell printed may hold text from data: HTML in it is shown, not obeyed.
        "markdown_of_data": lambda source: _render_markdown(source, None, escape=True),
        "highlight": Highlight2HTML(pygments_lexer="python3"),
        "pick": _Pictures().pick,
    }
    exporter.environment.globals["_"] = _
    body, _resources = exporter.from_notebook_node(notebook)
    return str(body)


def _render_markdown(source: str, attachments: Any, *, escape: bool) -> str:
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(
        escape=escape, allow_harmful_protocols=False, exclude_anchor_links=True, attachments=attachments or {}
    )
    html = str(MarkdownWithMath(renderer=renderer).render(source))
    # Both may be wider than the page: who has no mouse must be able to scroll them.
    html = re.sub(r"<table>\s*<thead>(?:(?!<table).)*?</table>", rf"{_SCROLL}\g<0></div>", html, flags=re.DOTALL)
    return html.replace("<pre>", '<pre tabindex="0">')


class _Pictures:
    """Chooses what to show of an output, and numbers the pictures so that their ids differ."""

    def __init__(self) -> None:
        self._n = 0

    def pick(self, output: Any) -> tuple[str, str, str]:
        """Return kind, content and alternative text; an empty kind for an output that is not shown."""
        if output.output_type == "stream":
            return ("text", output.text, "") if output.name == "stdout" else ("", "", "")
        data = output.get("data", {})
        for kind in ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"):
            if kind in data:
                return self._show(kind, data[kind], output.metadata)
        return "", "", ""

    def _show(self, kind: str, content: str, about: Any) -> tuple[str, str, str]:
        alt = str(about.get(kind, {}).get("alt") or about.get("alt") or _("Figure without a description"))
        match kind.partition("/"):
            case _, _, "svg+xml":
                self._n += 1
                return "svg", _make_inline(content, self._n), alt
            case "image", _, _:
                return "image", f"data:{kind};base64,{''.join(content.split())}", alt
            case _, _, "html":
                # pandas' own style would outweigh the page's.
                return "html", re.sub(r"<style scoped>.*?</style>", "", content, count=1, flags=re.DOTALL), ""
            case _, _, "markdown":
                return "markdown", content, ""
        # An address in memory tells nothing, and differs from run to run.
        return ("", "", "") if re.search(r" at 0x[0-9a-f]+>", content) else ("text", content, "")


def _make_inline(svg: str, number: int) -> str:
    """Make a drawing part of the page: no prologue, no date, and ids that are its own and the same in each run."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    names: dict[str, str] = {}

    def rename(found: re.Match[str]) -> str:
        return found[1] + names.setdefault(found[2], f"f{number}-{len(names)}")

    return re.sub(r"""(\bid="|url\(#|href="#)([^")]+)""", rename, svg)


def _add_anchors(body: str) -> tuple[str, list[tuple[str, str]]]:
    """Give each heading an id and each scrolling region its name; return the second-level headings with their ids."""
    contents: list[tuple[str, str]] = []
    anchors: set[str] = {"main", "about-this-report"}
    regions: dict[str, int] = {}
    worded = {"Table": N_("Table {n}"), "Figure": N_("Figure {n}")}
    section = ""

    def name(found: re.Match[str]) -> str:
        nonlocal section
        if found["region"]:
            kind = found["region"]
            regions[kind] = regions.get(kind, 0) + 1
            return f'aria-label="{_(worded[kind], n=regions[kind])}{section}"'
        text = unescape(re.sub(r"<[^>]+>", "", found["text"])).strip()
        slug = re.sub(r"\W+", "-", text.casefold()).strip("-") or "section"
        anchor = next(each for each in (slug, *(f"{slug}-{i}" for i in range(2, 10_000))) if each not in anchors)
        anchors.add(anchor)
        if found["level"] == "2":
            contents.append((anchor, text))
        section = f": {found['text']}" if "<" not in found["text"] and '"' not in found["text"] else ""
        return f'<h{found["level"]} id="{anchor}">{found["text"]}</h{found["level"]}>'

    pattern = r'<h(?P<level>[23])>(?P<text>.*?)</h(?P=level)>|(?<=tabindex="0" )aria-label="(?P<region>Table|Figure)"'
    return re.sub(pattern, name, body, flags=re.DOTALL), contents


def write_parameter(value: object) -> str:
    """How would one type this value?"""
    if value is None or isinstance(value, str):
        return "none" if value is None else value
    return json.dumps(value, ensure_ascii=False)


def choose_figures(values: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Which recorded values does a card show? The first that are one number or a few words.

    Returns name in words, value, and whether it is a number.
    """
    figures = []
    for name, value in values.items():
        if name == "headline":
            continue
        label = head_of(name) or name.removeprefix("n_").removesuffix("_s").replace("_", " ")
        if isinstance(value, int | float):
            figures.append((label, _write_number(name, value), True))
        elif isinstance(value, str) and len(value) <= _MOST_LETTERS:
            figures.append((label, word_of(value, name), False))
    return figures[:_MOST_FIGURES]


def _write_change(name: str, change: float) -> str:
    """A difference with its sign, of shares in percentage points; a dash for what is not known."""
    if math.isnan(change):
        return NOTHING
    if name.startswith("share"):
        return _("{n} points", n=format_number(100 * change, 1, signed=True))
    return f"{'' if change < 0 else '+'}{_write_number(name, change)}"


def _write_number(name: str, value: float) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if name.startswith("share"):
        return format_share(value)
    written = f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    written = localise(written).replace("-", "−")
    return _("{seconds} s", seconds=written) if name.endswith("_s") else written
