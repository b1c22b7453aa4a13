"""A file for a workshop to fill in: what the log already knows stands in it, the rest is asked for."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from journeylab.errors import RuleError
from journeylab.journeymap.workshop_files import GRADES, KNOWN_LANES, ROLES, SHEETS
from journeylab.language import gettext as _
from journeylab.language import mark as N_
from journeylab.sheets import Sheet, can_hold, write_book

if TYPE_CHECKING:
    import ibis

    from journeylab.rules import JourneyRules

_ASKED = {
    "expectations": N_("What do customers expect here?"),
    "owner": N_("Who answers for this stage?"),
    "front_stage": N_("What do they see and meet: pages, people, letters?"),
    "backstage": N_("What happens that they do not see?"),
    "support": N_("Which systems and partners make it possible?"),
    "kpis": N_("Which figures say that it goes well?"),
}
_ABOUT = (
    N_(
        "What people know of this journey and no log does. Fill in what you know and leave the rest empty: what is "
        "empty stays unknown on the map."
    ),
    N_(
        'Evidence: "stated" where a customer or a colleague said so, in an interview for example; "assumed", which it '
        "is unless you say otherwise, where the workshop thinks so. The note says who said it, or where it is from."
    ),
)
_TOUCHPOINTS = (
    N_("Touchpoints: what one contact costs, and how much effort a fix would be, in any one unit (days, points)."),
    N_("Those that most customers come to are named already. A channel left empty stands for all channels."),
)
_PATH = (
    N_("The path as it was planned, for comparing it with the journeys that customers really make."),
    N_("Steps are events or stages in their order."),
)
_IN_TOML = (
    N_("An entry is a text, or a table if there is more to say:"),
    N_("Several ways to take a step stand in brackets of their own."),
)
_IN_EXCEL = (
    N_("One entry per row; add rows as you need them."),
    N_('Role: "step", "or" for another way to take the step above, "ignore" for what does not matter.'),
    N_('Optional, repeatable: "yes" or empty.'),
)
_BARE = re.compile("[A-Za-z0-9_-]+")
_WIDTH = 110


def write_template(
    path: str | Path, rules: JourneyRules, steps: ibis.Table | None = None, *, top: int = 5, min_group: int = 10
) -> Path:
    """Write the file that a workshop fills in, for `read_workshop`.

    Parameters
    ----------
    path
        A .toml or .xlsx file that is not there yet.
    rules
        Their stages stand in it.
    steps
        From `build_steps` with these rules: the touchpoints of each stage that most customers come to are filled in.
    top
        So many of each stage.
    min_group
        None that fewer customers came to.

    Returns
    -------
    Path
        Of the file. One query runs if there are steps.

    Raises
    ------
    RuleError
        The rules have no stages, the file is there already, or it is of neither kind.
    """
    path = Path(path)
    if not rules.stages:
        raise RuleError(
            "write_template: the rules have no stages; name them in order, as in data/reference/ecommerce.toml"
        )
    if path.suffix.lower() not in (".toml", ".xlsx"):
        raise RuleError(f'write_template: the file must end in .toml or .xlsx, found "{path.name}"')
    if path.exists():
        raise RuleError(f'write_template: "{path}" is there already, and may be filled in; choose another name')
    found = [] if steps is None else _find_touchpoints(steps, rules, top, min_group)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".xlsx":
        return write_book(path, _list_sheets(rules, found), title=_("Workshop"))
    path.write_text("\n".join(_list_lines(rules, found)) + "\n", encoding="utf-8")
    return path


def _find_touchpoints(steps: ibis.Table, rules: JourneyRules, top: int, min_group: int) -> list[tuple[str, str, str]]:
    names = ["stage", "event", *(["channel"] if "channel" in steps.columns else [])]
    counted = steps.filter(steps.stage.notnull()).group_by(names).agg(n=steps.customer_id.nunique())
    table = counted.filter(counted.n >= min_group).execute()
    table["channel"] = table["channel"].fillna("") if "channel" in names else ""
    table = table.sort_values(["n", "event", "channel"], ascending=[False, True, True])
    kept = table.groupby("stage", sort=False).head(top)
    places = {stage: i for i, stage in enumerate(rules.stages)}
    kept = kept[kept["stage"].isin(places)].sort_values("stage", key=lambda stage: stage.map(places), kind="stable")
    return [*kept[["stage", "event", "channel"]].itertuples(index=False, name=None)]


def _list_lines(rules: JourneyRules, found: list[tuple[str, str, str]]) -> Iterator[str]:
    yield from _comment(*_ABOUT, _IN_TOML[0])
    yield '#   kpis = ["NPS", { text = "…", evidence = "stated", note = "…" }]'
    for i, stage in enumerate(rules.stages):
        yield ""
        yield f"[stages.{stage if _BARE.fullmatch(stage) else _quote(stage)}]"
        for lane in KNOWN_LANES:
            if i == 0:
                yield from _comment(_ASKED[lane])
            yield f"{lane} = []"
    yield ""
    yield from _comment(*_TOUCHPOINTS)
    for values in found or [(rules.stages[0], "…", "")]:
        mark = "" if found else "# "
        yield ""
        yield f"{mark}[[touchpoints]]"
        yield from (
            f"{mark}{name} = {_quote(value)}" for name, value in zip(("stage", "event", "channel"), values, strict=True)
        )
        yield "# cost ="
        yield "# effort ="
    yield ""
    yield from _comment(*_PATH, _IN_TOML[1])
    yield "# [path]"
    yield f"# steps = [{', '.join(map(_quote, rules.stages))}]"
    yield from (f"# {name} = []" for name in ("optional", "repeatable", "ignore"))


def _comment(*texts: str) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(_(text), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _quote(text: str) -> str:
    # JSON's texts are TOML's, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list_sheets(rules: JourneyRules, found: list[tuple[str, str, str]]) -> list[Sheet]:
    rows = [[stage, lane, None, None, None] for stage in rules.stages for lane in KNOWN_LANES]
    # A name that Excel cannot hold to the letter would be another touchpoint.
    named = [[*each, None, None, None] for each in found if all(map(can_hold, each))]
    about = [_(text) for text in (*_ABOUT, _IN_EXCEL[0], *_TOUCHPOINTS, *_PATH, *_IN_EXCEL[1:])]
    lanes = "\n".join(f"{lane}: {_(asked)}" for lane, asked in _ASKED.items())
    return [
        Sheet(
            "stages",
            SHEETS["stages"],
            rows,
            widths=(18, 16, 70, 12, 40),
            notes=("", lanes, _(_IN_EXCEL[0]), _(_ABOUT[1]), ""),
            choices={0: rules.stages, 1: KNOWN_LANES, 3: GRADES},
        ),
        Sheet(
            "touchpoints",
            SHEETS["touchpoints"],
            named,
            widths=(18, 30, 18, 12, 12, 12),
            notes=("", "", _(_TOUCHPOINTS[1]), _(_TOUCHPOINTS[0]), "", _(_ABOUT[1])),
            choices={0: rules.stages, 5: GRADES},
        ),
        Sheet(
            "path",
            SHEETS["path"],
            [],
            widths=(30, 14),
            notes=(_(_PATH[1]), _(_IN_EXCEL[1]), _(_IN_EXCEL[2]), _(_IN_EXCEL[2])),
            choices={1: ROLES, 2: ("yes",), 3: ("yes",)},
        ),
        Sheet(_("read me"), [_("Workshop")], [[text] for text in [*about, lanes]], widths=(100,)),
    ]
