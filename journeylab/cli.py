"""The command line: every question that journeylab answers, without Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from journeylab import __version__
from journeylab.errors import JourneylabError, ParameterError

if TYPE_CHECKING:
    from journeylab.batch import BatchNews
    from journeylab.report import Progress

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Help is plain text where nobody looks at it on a terminal, and quicker.
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    pretty_exceptions_enable=False,
)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 the data, a rule, a parameter or a report is at fault, 2 wrong usage."""
    try:
        app(arguments, prog_name="journeylab")
    except JourneylabError as error:
        sys.exit(f"journeylab: {error}")
    except OSError as error:
        sys.exit(
            f"journeylab: {error.strerror or error}: {error.filename}" if error.filename else f"journeylab: {error}"
        )


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"journeylab {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, no_args_is_help=True)
def _journeylab(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Customer-journey research: who your customers are, how they travel, where they leave.

    Start with: journeylab demo, then journeylab run data_check personas drop_off --out reports/demo
    """


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("data/raw/demo"),
    customers: Annotated[int, typer.Option(min=1, help="How many customers.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
) -> None:
    """Write the log of an imaginary shop.

    It has five kinds of customers and one planted drop-off, and the truth about both in a file beside it.

    Example: journeylab demo --out data/raw/demo --customers 2000
    """
    from journeylab.sources.demo import write_demo

    for name, path in write_demo(out, n_customers=customers, seed=seed).items():
        print(f"{name}: {path}")


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A csv, tsv, Parquet, JSON lines or xlsx file, or a glob.")],
    customer_id: Annotated[str, typer.Option(help="The column with the customer.")] = "customer_id",
    event: Annotated[str, typer.Option(help="The column with the event's name.")] = "event",
    timestamp: Annotated[str, typer.Option(help="The column with the time.")] = "timestamp",
    column: Annotated[
        list[str] | None,
        typer.Option(help="A further column by our name, such as channel=utm_medium. May be given again."),
    ] = None,
    tz: Annotated[str | None, typer.Option(help="The zone of times without one, such as Europe/Warsaw.")] = None,
    timestamp_format: Annotated[
        str | None, typer.Option(help="How times are written, such as %d.%m.%Y %H:%M; ISO 8601 and epochs need none.")
    ] = None,
    decimal: Annotated[
        Literal[".", ","] | None, typer.Option(help="The decimal mark of numbers; a point unless given.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The encoding of a text file, where the guess is wrong.")] = None,
    repair: Annotated[
        list[str] | None, typer.Option(help='A repair that the check has named, or "all". May be given again.')
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="A rules file, or the name of a ready set such as ecommerce.")
    ] = None,
) -> None:
    """Say whether an event log can be trusted.

    Counts what is missing, repeated, unreadable or unknown. Nothing is dropped or repaired unless you say so.

    Example: journeylab check shop.csv --customer-id client --tz Europe/Warsaw
    """
    from journeylab.rules import JourneyRules
    from journeylab.sources.check import check_events
    from journeylab.sources.generic import read_events

    events = read_events(
        file,
        customer_id=customer_id,
        event=event,
        timestamp=timestamp,
        columns=_split_parameters(column or []),
        tz=tz,
        timestamp_format=timestamp_format,
        decimal=decimal,
        encoding=encoding,
        repair=repair or (),
    )
    print(check_events(events, JourneyRules.load(rules) if rules else None))


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Notebooks by name, or paths to .ipynb files.", metavar="NAME")],
    out: Annotated[Path, typer.Option(help="Folder of the run: new, or an earlier run to add to.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="May be given again.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, help="Parameters as YAML; -p wins.")
    ] = None,
    lang: Annotated[
        Literal["en", "pl", "ru"] | None, typer.Option(help="The language of the reports; English unless given.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print each report as PDF, too; needs Chromium.")] = False,
) -> None:
    """Run notebooks with parameters into HTML reports.

    Each notebook takes the parameters that it knows; one that none knows is refused before anything starts.

    Example: journeylab run personas drop_off -p data=shop.csv -p k=4 --out reports/2026-11
    """
    from journeylab.printing import find_browser, print_pdf
    from journeylab.report import run_reports

    if pdf:
        find_browser()
    given = {**(_choose_parameters(_read_file(file), names) if file else {}), **_split_parameters(parameter or [])}
    if lang:
        given["lang"] = lang
    with _show_progress() as progress:
        reports = run_reports(names, given, out=out, text=True, progress=progress)
    for report in reports:
        print(f"{report.name}: {report.html} ({report.seconds:.1f} s)")
        if pdf:
            print(f"{report.name}: {print_pdf(report.html)}")
    print(f"index: {out / 'index.html'}")


@app.command()
def batch(
    plan: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A TOML file: notebooks, parameters, matrix, out.")
    ],
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Reports at a time; as many as there are cores.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Make what is finished and unchanged again, too.")] = False,
) -> None:
    """Run notebooks for all months, segments and markets of a plan, side by side.

    What is finished and unchanged is not made again: after Ctrl-C, a failure or a change run the same command.

    Example: journeylab batch plan.toml --jobs 4
    """
    from journeylab.batch import run_batch

    with _show_batch() as (progress, seen):
        reports = run_batch(plan, jobs=jobs, again=again, progress=progress)
    print(f"{len(reports)} reports: {seen.count('whole')} made, {seen.count('unchanged')} unchanged")
    for folder in dict.fromkeys(report.folder for report in reports):
        print(f"{folder / 'index.html'}")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN_A")],
    after: Annotated[Path, typer.Argument(help="The folder of a later run.", metavar="RUN_B")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; beside RUN_B unless given.", dir_okay=False)
    ] = None,
) -> None:
    """Say what differs between two runs, and which figures moved by more than noise.

    Example: journeylab diff reports/october reports/november
    """
    from journeylab.diff import diff_runs
    from journeylab.language import common_language, use_language
    from journeylab.runs import read_run
    from journeylab.templates import write_diff

    reports = [report for run in (before, after) for report in read_run(run)["reports"].values()]
    with use_language(common_language(reports)):
        found = diff_runs(before, after)
        for rows in write_diff(found):
            _print_rows(rows)
            print()
        page = out or after.resolve().parent / "diff-{}-{}.html".format(*found.names)
        print(f"{found.headline}\n{found.note}\npage: {found.save(page)}")


@app.command("check-report")
def check_report(
    path: Annotated[Path, typer.Argument(help="A report, or the folder of a run.", exists=True)],
    data: Annotated[str | None, typer.Option(help="The event log, whose customers' ids are looked for too.")] = None,
    customer_id: Annotated[str, typer.Option(help="Its column with the customer.")] = "customer_id",
) -> None:
    """Look for what must not leave the house: ids, e-mails, phones, secrets, paths, scripts, requests, small groups.

    Exits with 1 if anything is found. Nothing found is no proof: names and comments look like any other text.

    Example: journeylab check-report reports/november --data shop.csv --customer-id client
    """
    from journeylab.disclosure import check_report, read_ids

    ids = [] if data is None else read_ids(data, customer_id)
    found = check_report(path, ids=ids)
    if len(found):
        _print_rows([tuple(found.columns), *(tuple(map(str, row)) for row in found.itertuples(index=False))])
        raise typer.Exit(1)
    asked = f", {len(ids):,} customer ids among it" if data is not None else "; customer ids only with --data"
    print(f"{path}: nothing found of what is looked for{asked}")


@app.command()
def notebooks(name: Annotated[str | None, typer.Argument(help="A notebook by name or path.")] = None) -> None:
    """List the notebooks, or the parameters of one.

    Example: journeylab notebooks personas
    """
    from journeylab.parameters import find_notebooks, read_notebook

    if name is None:
        listed = [read_notebook(path) for path in find_notebooks().values()]
        _print_rows([(notebook.name, notebook.question or notebook.title) for notebook in listed])
        return
    notebook = read_notebook(name)
    print("\n".join(dict.fromkeys(filter(None, (notebook.title, notebook.question)))))
    if notebook.parameters:
        _print_rows([(each.name, each.annotation, f"= {each.default!r}", each.help) for each in notebook.parameters])
    else:
        print("takes no parameters")


@app.command("map-template")
def map_template(
    out: Annotated[Path, typer.Argument(help="The file to write, .toml or .xlsx.", metavar="FILE")],
    rules: Annotated[str, typer.Option(help="A rules file, or the name of a ready set.")] = "ecommerce",
    data: Annotated[
        str | None, typer.Option(help="The event log, whose most frequent touchpoints are filled in.")
    ] = None,
    customer_id: Annotated[str, typer.Option(help="Its column with the customer.")] = "customer_id",
    event: Annotated[str, typer.Option(help="Its column with the event.")] = "event",
    timestamp: Annotated[str, typer.Option(help="Its column with the time.")] = "timestamp",
) -> None:
    """Write the file that a workshop fills in: expectations, owners, backstage, costs, efforts, the planned path.

    The notebook journey_map reads it: -p workshop=FILE.

    Example: journeylab map-template workshop.xlsx --rules ecommerce --data shop.csv
    """
    from journeylab.journeymap.template import write_template
    from journeylab.journeys import build_steps
    from journeylab.rules import JourneyRules
    from journeylab.sources.generic import read_events

    known = JourneyRules.load(rules)
    steps = None
    if data is not None:
        steps = build_steps(read_events(data, customer_id=customer_id, event=event, timestamp=timestamp), known)
    print(write_template(out, known, steps))


@app.command()
def sources() -> None:
    """List the kinds of files that can be read.

    Example: journeylab sources
    """
    from journeylab.sources.generic import list_sources

    table = list_sources()
    _print_rows([tuple(map(str, row)) for row in table.itertuples(index=False)])


def _split_parameters(pairs: list[str]) -> dict[str, str]:
    parted = [pair.partition("=") for pair in pairs]
    for name, equals, _ in parted:
        if not equals:
            raise typer.BadParameter(f'"{name}" has no value; write -p name=value')
    return {name.strip(): value for name, _, value in parted}


def _choose_parameters(found: Mapping[str, object], names: list[str]) -> dict[str, object]:
    """Leave out what only our other notebooks know: one file serves them all, whichever are run."""
    from journeylab.parameters import find_notebooks, read_parameters

    wanted = {each.name for name in names for each in read_parameters(name)}
    known = {each.name for path in find_notebooks().values() for each in read_parameters(path)}
    return {name: value for name, value in found.items() if name in wanted or name not in known}


def _read_file(path: Path) -> Mapping[str, object]:
    """Read parameters as text: YAML itself would make 7 of `007` and False of `no`."""
    import yaml

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ParameterError(f"{path} must hold lines such as name: value")
    return found


@contextmanager
def _show_progress() -> Iterator[Progress]:
    """Show how far the notebooks are: bars on a terminal, a line per notebook elsewhere."""
    if not sys.stderr.isatty():
        yield _print_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


@contextmanager
def _show_batch() -> Iterator[tuple[Callable[[BatchNews], None], list[str]]]:
    """Show how far a batch is: bars for it and for what is running on a terminal, a line per event elsewhere.

    Yields who shall be told, and the list of what became of the reports so far.
    """
    seen: list[str] = []
    if not sys.stderr.isatty():

        def write(news: BatchNews) -> None:
            if news.state != "running":
                seen.append(news.state)
                print(f"{news.name}: {news.state} ({news.n_ended} of {news.n_reports})", file=sys.stderr, flush=True)
            elif not news.total:
                print(f"{news.name}: running", file=sys.stderr, flush=True)

        yield write, seen
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bars:
        whole = bars.add_task("all reports", total=None)
        tasks: dict[str, Any] = {}
        shares: dict[str, float] = {}

        def show(news: BatchNews) -> None:
            if news.state == "running":
                if news.name not in tasks:
                    tasks[news.name] = bars.add_task(news.name, total=None)
                bars.update(tasks[news.name], completed=news.done, total=news.total or None)
                shares[news.name] = news.done / news.total if news.total else 0
            else:
                seen.append(news.state)
                shares.pop(news.name, None)
                if news.name in tasks:
                    bars.remove_task(tasks.pop(news.name))
                bars.console.print(f"{news.name}: {news.state}", markup=False, highlight=False)
            # What was there already took no time, and says nothing about the time that is left.
            n_unchanged = seen.count("unchanged")
            done = news.n_ended - n_unchanged + sum(shares.values())
            bars.update(whole, completed=done, total=news.n_reports - n_unchanged)

        yield show, seen


def _print_progress(name: str, done: int, total: int) -> None:
    if done == 0:
        print(f"{name}: running", file=sys.stderr, flush=True)


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns, the last as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
