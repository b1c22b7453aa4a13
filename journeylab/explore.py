"""Questions asked by hand: widgets that answer at once, and the Python that gives the same answer again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from html import escape
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import ibis
import ibis.expr.operations as ops
import ipywidgets

from journeylab.cards import draw_personas
from journeylab.engine import drop, store
from journeylab.errors import JourneylabError, RuleError
from journeylab.funnel import Funnel, build_funnel, describe_conversion
from journeylab.funnel_rules import UNIT_COLUMN, Entry, FunnelRules, Order, Step, StepLike, Unit, read_step
from journeylab.journeys import end_of_observation
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.loading import choose_journeys
from journeylab.picture import as_figure, safe_sentence, shorten
from journeylab.svg_funnel import draw_funnel
from journeylab.tables import show_headline, show_table
from journeylab.words import unit_of

if TYPE_CHECKING:
    from journeylab.personas import Personas

# ipywidgets has no types.
Widget = Any
T = TypeVar("T")

_MOST_NAMES, _MOST_GROUPS, _TOP = 500, 50, 6
_LONGEST_LABEL, _LONGEST_MESSAGE = 60, 2_000
# A menu shows nothing at all where its value is None.
_NOTHING, _EVERYONE = "", 0
_WINDOWS = ("1h", "1D", "3D", "7D", "14D", "30D")
# Columns that tell one customer, journey or event from another, or are asked for otherwise.
_NO_GROUPS = frozenset(
    ("customer_id", "account_id", "journey_id", "session_id", "event_id", "event", "next_event", "stage", "text")
)
_SHOWN = [
    *("step", "label", "n", "share_of_start", "low", "high", "n_lost", "n_open"),
    *("conversion_mature", "conversion_censored", "median_time_s"),
]
_NAMES = {
    "steps": N_("steps, in order"),
    "within": N_("time limit"),
    "by": N_("groups"),
    "unit": N_("unit"),
    "order": N_("order"),
    "entry": N_("entry"),
    "since": N_("journeys begun since"),
    "before": N_("and before"),
}
# The choices of `Order` and `Entry`.
_CHOICES = (N_("ordered"), N_("strict"), N_("any"), N_("first"), N_("latest"), N_("best"))
# What is wider than the notebook scrolls by itself, not all widgets with it.
_FITS = "jl-fits"
_STYLE = (
    ".jl-fits>*{min-width:0}"
    ".jl .jl-refused{border-left:4px solid #d55e00;padding:2px 0 2px 12px;margin:0;max-width:62rem;"
    "overflow-wrap:anywhere;color:var(--ink)}"
    ".jl .jl-code{white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px;margin:0;padding:.7em .9em;"
    "border:1px solid var(--line);border-radius:6px;background:var(--bg);color:var(--ink)}"
)


@dataclass(frozen=True, eq=False)
class _Base:
    """Whose steps are asked, and the lines of Python that take them."""

    steps: ibis.Table
    name: str = "steps"
    code: tuple[str, ...] = ()


class FunnelExplorer:
    """A funnel under one's hands. Made by `explore_funnel`; in JupyterLab it shows itself, elsewhere its answer.

    Attributes
    ----------
    controls
        The widgets by name: steps, order, within, entry, unit, by, since, before. To set one's `value` in Python is the
        same as to change it by hand.
    funnel
        The answer to what is asked now, None where it was refused. Its `units` live until the next change; `code`
        builds a funnel that stays.
    message
        Why it was refused, or "".
    code
        The Python that gives the same answer; `steps` (and `personas`, `journeys`) are those that were passed in.
    box
        All of it as one widget.
    """

    def __init__(self, base: _Base, rules: FunnelRules, controls: dict[str, Widget], **settings: Any) -> None:
        self.controls = controls
        self.funnel: Funnel | None = None
        self.message = self.code = self.html = ""
        self._base, self._rules = base, rules
        self._as_of: datetime = settings["as_of"]
        self._min_group: int = settings["min_group"]
        self._steps_of: dict[str, StepLike] = settings["steps_of"]
        self._chosen: tuple[object, ibis.Table] | None = None
        self._shown = ipywidgets.HTML().add_class(_FITS)
        self.box: Widget = ipywidgets.VBox([*_lay_out(controls), self._shown])
        for control in controls.values():
            control.observe(self._on_change, names="value")

    def ask(self, base: _Base | None = None) -> None:
        """Answer what the widgets ask, of these steps or of those before; say so where it is refused."""
        self._base = base or self._base
        try:
            self.answer()
        except JourneylabError as refused:
            self.message = str(refused)
            words = safe_sentence(self.message, _LONGEST_MESSAGE)
            self.html = _show(f'<p class="jl-refused" role="alert">{words}</p>', _("Not answered"))
            self._shown.value = self.html

    def answer(self) -> None:
        """Answer what the widgets ask, or raise."""
        self._forget()
        rules = self._read_rules()
        steps, lines, name = self._choose_steps()
        grouping = self._read_grouping()
        try:
            self.funnel = build_funnel(steps, rules, **grouping, as_of=self._as_of)
        except RuleError:
            absent = self._find_absent(steps, rules) if lines else []
            if not absent:
                raise
            raise RuleError(
                f"none of those chosen ever came to {', '.join(absent)}; take that out of the steps, or choose others"
            ) from None
        self.code = _write_code(lines, name, rules, grouping, self._as_of)
        code = f'<pre class="jl-code" dir="ltr">{escape(self.code)}</pre>'
        self.html = _show_answer(self.funnel) + _show(code, _("The Python that gives the same answer"))
        self._shown.value = self.html

    def _on_change(self, _change: object) -> None:
        self.ask()

    def _forget(self) -> None:
        """Drop the last answer and its units: a hundred changes must not leave a hundred tables in the engine."""
        if self.funnel is not None:
            for table in self.funnel.units.op().find(ops.DatabaseTable):
                drop(table.to_expr())
        self.funnel, self.message, self.code = None, "", ""

    def _read_rules(self) -> FunnelRules:
        """What the widgets ask for, with all other switches as they were given."""
        asked = {name: control.value for name, control in self.controls.items()}
        wanted = [self._steps_of[label] for label in asked["steps"]]
        labels = {read_step(step).label for step in wanted}
        return replace(
            self._rules,
            steps=wanted,
            order=asked["order"],
            within=asked["within"].strip() or None,
            entry=asked["entry"],
            unit=asked["unit"],
            # An optional step that was taken out cannot be left out any more.
            optional=tuple(name for name in self._rules.optional if name in labels),
        )

    def _read_grouping(self) -> dict[str, Any]:
        by = self.controls["by"].value
        return {} if by == _NOTHING else {"by": by, "top": _TOP, "min_group": self._min_group}

    def _choose_steps(self) -> tuple[ibis.Table, list[str], str]:
        """The steps of the journeys that began in the span, the Python that takes them, and what that calls them."""
        base = self._base
        given = {name: self.controls[name].value for name in ("since", "before")}
        span = {name: str(day) for name, day in given.items() if day is not None}
        if not span and not base.code:
            return base.steps, [], base.name
        key = (base, *span.items())
        if self._chosen is None or self._chosen[0] != key:
            if self._chosen is not None:
                drop(self._chosen[1])
            chosen = choose_journeys(base.steps, **span)
            # Stored once for all that is asked of it.
            self._chosen = key, store(chosen, base.steps.get_backend())
        steps = self._chosen[1]
        if not steps.count().execute():
            words = " and ".join(f"{name} {day}" for name, day in span.items())
            raise RuleError(f"no journey began {words}" if span else "no customer is left")
        lines = [*base.code]
        if span:
            arguments = ", ".join(f"{name}={_write(day)}" for name, day in span.items())
            lines.append(f"chosen = jl.choose_journeys({base.name}, {arguments})")
        return steps, lines, "chosen" if span else base.name

    def _find_absent(self, steps: ibis.Table, rules: FunnelRules) -> list[str]:
        """Which names that the log has are not in this part of it?"""
        names = {name for step in (*rules.walk_steps, *rules.excluded) for name in step.names}
        known = names & {name for step in self._steps_of.values() for name in read_step(step).names}
        return sorted(known.difference(_list_names(steps)))

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        return _bundle(self.box, self.html, self.message or _sentence(self.funnel))


class PersonaExplorer:
    """Personas under one's hands. Made by `explore_personas`; in JupyterLab it shows itself, elsewhere its answer.

    Attributes
    ----------
    picker
        The widget that chooses: its `value` is a persona's number, or 0 for everyone.
    funnel
        A `FunnelExplorer` of the chosen customers.
    box
        All of it as one widget.
    """

    def __init__(self, personas: Personas, bases: Mapping[int, _Base], picker: Widget, funnel: FunnelExplorer):
        self.picker = picker
        self.funnel = funnel
        self._personas, self._bases = personas, bases
        self._card = ipywidgets.HTML(value=draw_personas(personas).html).add_class(_FITS)
        self.box: Widget = ipywidgets.VBox([picker, self._card, funnel.box])
        picker.observe(self._on_change, names="value")

    def _on_change(self, _change: object) -> None:
        chosen = self.picker.value
        self._card.value = draw_personas(self._personas, only=chosen or None).html
        self.funnel.ask(self._bases[chosen])

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        return _bundle(self.box, self._card.value + self.funnel.html, self._personas.headline)


def explore_funnel(
    steps: ibis.Table,
    rules: FunnelRules | Sequence[StepLike] | None = None,
    *,
    by: str | None = None,
    since: date | None = None,
    before: date | None = None,
    as_of: str | date | None = None,
    min_group: int = 10,
) -> FunnelExplorer:
    """What becomes of those who start, under rules that are changed by hand?

    Steps are typed or dragged into their order; window, order, entry, unit, group and the days on which journeys began
    are chosen. Each change is answered at once, with the Python that gives the same answer. What the rules do not allow
    is said in words. No customer is shown.

    Parameters
    ----------
    steps
        From `build_steps`.
    rules
        What is asked first. Switches without a widget, and steps that are alternatives or have conditions, stay as they
        are given. Default: the stages of the log, in the order in which journeys come to them.
    by
        The column that groups are made of at first. The six largest groups are shown.
    since, before
        Days between which journeys began at first; see `choose_journeys`.
    as_of
        End of observation (UTC); default: the last event of `steps`, whatever days are chosen.
    min_group
        Groups with fewer starts are merged.

    Raises
    ------
    RuleError, SchemaError
        What is asked first does not fit the log, or there are no stages and no rules.
    """
    return _make_explorer(_Base(steps), rules, by=by, since=since, before=before, as_of=as_of, min_group=min_group)


def explore_personas(
    personas: Personas,
    steps: ibis.Table,
    journeys: ibis.Table,
    rules: FunnelRules | Sequence[StepLike] | None = None,
    *,
    by: str | None = None,
    since: date | None = None,
    before: date | None = None,
    as_of: str | date | None = None,
    min_group: int = 10,
) -> PersonaExplorer:
    """Who is this persona, and how does it fare in a funnel of its own?

    The card of the chosen persona, and below it all that `explore_funnel` offers, of its customers alone.

    Parameters
    ----------
    personas
        From `fit_personas` or `load_personas`; nothing is fitted again.
    steps, journeys
        Whose customers are assigned.
    rules, by, since, before, as_of, min_group
        As of `explore_funnel`.
    """
    members = ibis.memtable(personas.assign(steps, journeys))
    bases = {_EVERYONE: _Base(steps)}
    options = [(_("Everyone"), _EVERYONE)]
    for row in personas.summary.to_dict("records"):
        number = int(row["persona"])
        code = (
            "members = ibis.memtable(personas.assign(steps, journeys))",
            f'own = steps.semi_join(members.filter(members.persona == {number}), "customer_id")',
        )
        own = steps.semi_join(members.filter(members.persona == number), "customer_id")
        bases[number] = _Base(own, "own", code)
        options.append((f"{number} · {shorten(row['name'], _LONGEST_LABEL)}", number))
    picker = ipywidgets.Dropdown(
        description=_("persona"), options=options, value=_EVERYONE, layout={"width": "max-content"}
    )
    funnel = _make_explorer(
        bases[_EVERYONE], rules, by=by, since=since, before=before, as_of=as_of, min_group=min_group
    )
    return PersonaExplorer(personas, bases, picker, funnel)


def _make_explorer(
    base: _Base,
    given: FunnelRules | Sequence[StepLike] | None,
    *,
    by: str | None,
    since: date | None,
    before: date | None,
    as_of: str | date | None,
    min_group: int,
) -> FunnelExplorer:
    steps = base.steps
    rules = given if isinstance(given, FunnelRules) else FunnelRules(_find_steps(steps) if given is None else given)
    steps_of = _label(dict.fromkeys([*rules.steps, *_list_names(steps)]), lambda step: read_step(step).label)
    label_of = {step: label for label, step in steps_of.items()}
    columns = _label(dict.fromkeys([*([by] if by else []), *_list_groups(steps)]), str)
    units = [unit for unit in get_args(Unit) if unit in ("customer", rules.unit) or UNIT_COLUMN[unit] in steps.columns]
    controls = {
        "steps": ipywidgets.TagsInput(
            value=[label_of[step] for step in rules.steps], allowed_tags=list(steps_of), placeholder=_("add a step")
        ),
        "within": ipywidgets.Combobox(
            value=rules.within or "", options=_WINDOWS, placeholder=_("no limit"), continuous_update=False
        ),
        "by": ipywidgets.Dropdown(options=[(_("no groups"), _NOTHING), *columns.items()], value=by or _NOTHING),
        "unit": ipywidgets.Dropdown(options=[(unit_of(unit, 1), unit) for unit in units], value=rules.unit),
        "order": ipywidgets.Dropdown(options=_translate(get_args(Order)), value=rules.order),
        "entry": ipywidgets.Dropdown(options=_translate(get_args(Entry)), value=rules.entry),
        "since": ipywidgets.DatePicker(value=since),
        "before": ipywidgets.DatePicker(value=before),
    }
    end = end_of_observation(steps, as_of)
    explorer = FunnelExplorer(base, rules, controls, as_of=end, min_group=min_group, steps_of=steps_of)
    # At the door a wrong question is an error; later it is a message.
    explorer.answer()
    return explorer


def _find_steps(steps: ibis.Table) -> list[str]:
    """The stages of the log, in the order in which journeys come to them."""
    known = steps.filter(steps.stage.notnull())
    firsts = known.group_by("journey_id", "stage").agg(_first=known.step.min())
    order = firsts.group_by("stage").agg(_place=firsts["_first"].mean()).order_by("_place", "stage")
    stages = [str(stage) for stage in order.execute()["stage"]]
    if len(stages) < 2:
        raise RuleError(
            "explore_funnel: the log has no two stages to begin with; say which events or stages are the first steps, "
            'such as ["catalog", "cart", "payment_done"]'
        )
    return stages


def _list_names(steps: ibis.Table) -> list[str]:
    """What can be a step: the events, the most frequent first, and the stages."""
    counted = steps.group_by("event").agg(n=steps.count()).order_by(ibis.desc("n"), "event").limit(_MOST_NAMES)
    stages = steps.filter(steps.stage.notnull()).select("stage").distinct().order_by("stage").execute()["stage"]
    return [*counted.execute()["event"], *stages]


def _list_groups(steps: ibis.Table) -> list[str]:
    """Columns of text with few enough values to be groups."""
    texts = [name for name, kind in steps.schema().items() if kind.is_string() and not name.startswith("_")]
    names = [name for name in texts if name not in _NO_GROUPS]
    if not names:
        return []
    sizes = steps.agg(**{f"n_{i}": steps[name].nunique() for i, name in enumerate(names)}).execute().iloc[0]
    return [name for name, n in zip(names, sizes, strict=True) if 2 <= n <= _MOST_GROUPS]


def _label(things: Iterable[T], write: Callable[[T], str]) -> dict[str, T]:
    """Short, drawable, different labels for names from data."""
    labels: dict[str, T] = {}
    for thing in things:
        label = shorten(write(thing), _LONGEST_LABEL)
        names = chain([label], (f"{label} ({i})" for i in count(2)))
        labels[next(name for name in names if name not in labels)] = thing
    return labels


def _translate(choices: Iterable[str]) -> list[tuple[str, str]]:
    return [(_(choice), choice) for choice in choices]


def _lay_out(controls: Mapping[str, Widget]) -> list[Widget]:
    """The controls with their names, the steps in a row of their own."""
    fields = {name: ipywidgets.VBox([ipywidgets.Label(_(_NAMES[name])), control]) for name, control in controls.items()}
    for name, control in controls.items():
        control.layout.width = "auto" if name == "steps" else "8.5em"
    rest = [field for name, field in fields.items() if name != "steps"]
    return [fields["steps"], ipywidgets.HBox(rest, layout={"flex_flow": "row wrap"})]


def _show_answer(funnel: Funnel) -> str:
    """The answer in a sentence, a picture and a table."""
    first = funnel.table[funnel.table["step"] == 1]
    n = int(first["n"].sum())
    caption = _("Funnel, base: {n} {units} who started", n=n, units=unit_of(funnel.rules.unit, n))
    note = _("n = n of the next required step + stopped here + still on the way. Median: from the start.")
    table = show_table(funnel.table[[*funnel.by, *_SHOWN]], caption=caption, note=note)
    return show_headline(_sentence(funnel)).html + draw_funnel(funnel).html + table.html


def _sentence(funnel: Funnel | None) -> str:
    return "" if funnel is None else describe_conversion(funnel)


def _show(body: str, alt: str) -> str:
    return as_figure(body, style=_STYLE, alt=alt).html


def _bundle(box: Widget, html: str, words: str) -> dict[str, object]:
    """Widgets where somebody can use them, and the answer as it is where nobody can."""
    return {**box._repr_mimebundle_(), "text/html": html, "text/plain": words}


# The Python that gives the same answer.


def _write_code(
    lines: Sequence[str], name: str, rules: FunnelRules, grouping: Mapping[str, Any], as_of: datetime
) -> str:
    arguments = [name, _write_rules(rules)]
    arguments += [f"{key}={_write(value)}" for key, value in grouping.items()]
    arguments.append(f"as_of={_write(str(as_of))}")
    call = "".join(f"    {argument},\n" for argument in arguments)
    return "\n".join([*lines, f"funnel = jl.build_funnel(\n{call})"])


def _write_rules(rules: FunnelRules) -> str:
    """All that differs from the defaults."""
    given = [_write(list(rules.steps))]
    for field in fields(rules):
        value = getattr(rules, field.name)
        if field.name != "steps" and value != field.default:
            given.append(f"{field.name}={_write(value)}")
    return f"jl.FunnelRules({', '.join(given)})"


def _write(value: object) -> str:
    """A value as Python, with the quotes that ruff would take; marks that would turn the text around are spelled."""
    match value:
        case Step():
            return f"jl.Step({_write(value.event)}, where={_write(value.where)})"
        case tuple():
            return f"({', '.join(map(_write, value))}{',' if len(value) == 1 else ''})"
        case list():
            return f"[{', '.join(map(_write, value))}]"
        case str() if '"' not in value and "'" not in value:
            return f'"{repr(value)[1:-1]}"'
    return repr(value)
