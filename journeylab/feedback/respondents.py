"""Who answered, who did not, and how far off does that leave the score?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis

from journeylab.errors import RuleError, nearest
from journeylab.feedback.answers import NONE, check_columns, open_answers
from journeylab.feedback.attach import find_answers
from journeylab.feedback.scores import write_points
from journeylab.formats import format_count, format_interval, format_name, format_number, format_share
from journeylab.language import gettext as _
from journeylab.language import ngettext
from journeylab.shares import bound_shares
from journeylab.words import word_of

if TYPE_CHECKING:
    import pandas as pd

_REST, _AND = "(rest)", " / "
_KINDS = ("all", "goal", "stage", "channel", "persona", "unknown")
_COLUMNS = (
    *("kind", "value", "n", "n_answered", "share_answered", "low", "high"),
    *("share_of_answered", "share_of_silent", "effect", "is_small"),
)
#: From here on a difference between groups is worth a thought (Austin 2009).
_NOTABLE = 0.1

# Groups whose names are words of ours; those of the others are from the log.
_OURS = frozenset(("all", "goal", "stage"))


def compare_respondents(
    steps: ibis.Table,
    journeys: ibis.Table,
    answers: pd.DataFrame | ibis.Table | None = None,
    *,
    members: pd.DataFrame | ibis.Table | None = None,
    min_n: int = 30,
) -> pd.DataFrame:
    """Who answered, and who did not?

    Parameters
    ----------
    steps, journeys
        From `build_steps` and `build_journeys`: the customers who could have answered.
    answers
        A table with customer_id, one row per answer. Default: the steps with a score.
    members
        One row per customer: customer_id and persona, such as ``Personas.members``.
    min_n
        A group of fewer customers is flagged `is_small`.

    Returns
    -------
    pandas.DataFrame
        One row per group of customers, "all" first: kind, value (see below), n (customers), n_answered, share_answered
        (0-1) with low and high (95 %, Wilson), share_of_answered and share_of_silent (of those who answered, and of
        those who did not, how many are of this group), effect (their standardised difference: above 0 the group is
        over-represented among the answers; beyond 0.1 either way is notable, Austin 2009), is_small.

        =========  ==================================================================================
        kind       value
        =========  ==================================================================================
        goal       reached, or not reached, in any journey
        stage      was at this stage; the answers themselves are not looked at
        channel    of the customer's first step with a channel
        persona    from `members`; "(none)" for customers it does not name
        unknown    customers who answered but are not in `steps`; they are in no other row
        =========  ==================================================================================
    """
    import pandas as pd

    people, n_unknown = _describe_people(steps, journeys, answers, members)
    groups = [name for name in ("goal", "channel", "persona") if name in people.columns]
    tables = [people.select("customer_id", "answered", kind=ibis.literal("all"), value=ibis.literal("customers"))]
    tables += [people.select("customer_id", "answered", kind=ibis.literal(name), value=name) for name in groups]
    stages = steps.filter(steps.stage.notnull() & ~find_answers(steps)).select("customer_id", value="stage").distinct()
    stages = stages.join(people.select("customer_id", "answered"), "customer_id")
    tables.append(stages.select("customer_id", "answered", kind=ibis.literal("stage"), value="value"))
    every = ibis.union(*tables)
    table: pd.DataFrame = (
        every.group_by("kind", "value").agg(n=every.count(), n_answered=every.count(where=every.answered)).execute()
    )
    whole = table.loc[table["kind"] == "all"].iloc[0]
    table["share_of_answered"] = table["n_answered"] / (whole["n_answered"] or float("nan"))
    n_silent = whole["n"] - whole["n_answered"]
    table["share_of_silent"] = (table["n"] - table["n_answered"]) / (n_silent or float("nan"))
    table["effect"] = _standardise(table["share_of_answered"], table["share_of_silent"])
    if n_unknown:
        unknown = {"kind": "unknown", "value": NONE, "n": n_unknown, "n_answered": n_unknown}
        table = pd.concat([table, pd.DataFrame([unknown])], ignore_index=True)
    known = table["n"].where(table["kind"] != "unknown", 0)
    table["share_answered"], table["low"], table["high"] = bound_shares(table["n_answered"].where(known > 0), known)
    table["is_small"] = table["n"] < min_n
    order = table["kind"].map({kind: i for i, kind in enumerate(_KINDS)})
    table = table.assign(_kind=order, _n=-table["n"]).sort_values(["_kind", "_n", "value"], ignore_index=True)
    found: pd.DataFrame = table[list(_COLUMNS)]
    return found


def _describe_people(
    steps: ibis.Table,
    journeys: ibis.Table,
    answers: pd.DataFrame | ibis.Table | None,
    members: pd.DataFrame | ibis.Table | None,
) -> tuple[ibis.Table, int]:
    """One row per customer (answered, goal, channel, persona), and how many who answered are none of these."""
    con = steps.get_backend()
    if answers is None:
        if "score" not in steps.columns:
            raise RuleError("compare_respondents: these steps have no column score; give the answers")
        said = steps.filter(steps.score.notnull())
    else:
        said = open_answers(answers, "compare_respondents", con)
        check_columns(said, ["customer_id"], "compare_respondents")
    who = said.filter(said.customer_id.notnull()).select(_who="customer_id").distinct()
    came = journeys.group_by("customer_id").agg(_reached=journeys.reached_goal.any().fill_null(False))
    n_unknown = int(who.anti_join(came, who["_who"] == came.customer_id).count().execute())
    people = came.left_join(who, came.customer_id == who["_who"])
    people = people.mutate(
        answered=people["_who"].notnull(), goal=ibis.ifelse(people["_reached"], "reached", "not reached")
    ).drop("_reached", "_who")
    if "channel" in steps.columns:
        plain = steps.filter(steps.channel.notnull() & ~find_answers(steps))
        first = plain.group_by("customer_id").agg(channel=plain.channel.argmin(plain.position))
        people = people.left_join(first, "customer_id").drop("customer_id_right")
        people = people.mutate(channel=people.channel.fill_null(NONE))
    if members is not None:
        known = open_answers(members, "members", con)
        check_columns(known, ["customer_id", "persona"], "members")
        # One row each, whatever the table holds: a customer with two personas would count twice.
        known = known.group_by("customer_id").agg(persona=known.persona.cast("string").min())
        people = people.left_join(known, "customer_id").drop("customer_id_right")
        people = people.mutate(persona=people.persona.fill_null(NONE))
    return people, n_unknown


def _standardise(share: pd.Series[float], other: pd.Series[float]) -> pd.Series[float]:
    spread = ((share * (1 - share) + other * (1 - other)) / 2) ** 0.5
    return (share - other) / spread.where(spread > 0)


def weigh_answers(
    answers: pd.DataFrame | ibis.Table | None,
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    by: str | Sequence[str] = ("goal", "channel"),
    members: pd.DataFrame | ibis.Table | None = None,
    min_cell: int = 10,
) -> ibis.Table:
    """What must each answer count so that those who answered are like all customers?

    Parameters
    ----------
    answers, steps, journeys, members
        As in `compare_respondents`; None takes the steps with a score.
    by
        What shall be alike, together: "goal", "channel", "persona" (see `compare_respondents`).
    min_cell
        Combinations of `by` in which fewer customers answered are put together: those alike in the first of `by` as
        one, "… / (rest)", and what still has fewer as "(rest)", with the smallest of the others if need be.

    Returns
    -------
    ibis.Table
        The answers of customers in `steps`, plus cell (string) and weight (float64, above 0, 1 on average over the
        customers who answered), for ``score_nps(..., weight="weight")``.

    Raises
    ------
    RuleError
        If `by` names something else, or fewer than `min_cell` customers answered at all.

    Notes
    -----
    Post-stratification (Holt & Smith 1979): weight = share of a cell among all customers over its share among those who
    answered. It mends what goes with `by` alone: the silent are taken to think like those of their cell who answered.
    """
    import pandas as pd

    names = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    people, _n_unknown = _describe_people(steps, journeys, answers, members)
    allowed = [name for name in ("goal", "channel", "persona") if name in people.columns]
    for name in names:
        if name not in allowed:
            raise RuleError(
                f'weigh_answers: by must be of {", ".join(allowed)}; found "{name}".{nearest(name, allowed)}'
                + (" Give members= for personas" if name == "persona" else "")
            )
    people = people.mutate(cell=ibis.literal(_AND).join([people[name] for name in names]))
    cells: pd.DataFrame = (
        people.group_by("cell").agg(n=people.count(), n_answered=people.count(where=people.answered)).execute()
    )
    cells = _fold_cells(cells, min_cell)
    sums = cells.groupby("merged")[["n", "n_answered"]].transform("sum")
    cells["weight"] = (sums["n"] / cells["n"].sum()) / (sums["n_answered"] / cells["n_answered"].sum())
    weights = ibis.memtable(
        pd.DataFrame({"_cell": cells["cell"], "_merged": cells["merged"], "weight": cells["weight"]}),
        schema={"_cell": "string", "_merged": "string", "weight": "float64"},
    )
    weighed = people.join(weights, people.cell == weights["_cell"])
    weighed = weighed.select(_who="customer_id", cell="_merged", weight="weight")
    said = (
        steps.filter(steps.score.notnull())
        if answers is None
        else open_answers(answers, "weigh_answers", steps.get_backend())
    )
    return said.join(weighed, said.customer_id == weighed["_who"]).drop("_who")


def _fold_cells(cells: pd.DataFrame, min_cell: int) -> pd.DataFrame:
    """Put cells in which too few answered together: first those that share the first trait, then all."""
    n_answered = int(cells["n_answered"].sum())
    if n_answered < max(min_cell, 1):
        raise RuleError(
            f"weigh_answers: {n_answered:,} customers answered, fewer than min_cell={min_cell}; so few cannot "
            f"stand for all"
        )
    cells = cells.sort_values("cell", ignore_index=True)
    first = cells["cell"].str.split(_AND).str[0]
    few = cells["n_answered"] < min_cell
    merged = cells["cell"].mask(few, first + _AND + _REST)
    sums = cells.groupby(merged)["n_answered"].sum().sort_values(kind="stable")
    n_few = int((sums < min_cell).sum())
    if n_few:
        # Of the smallest as many as make up a cell.
        n_few = max(n_few, int((sums.cumsum() < min_cell).sum()) + 1)
    return cells.assign(merged=merged.mask(merged.isin(sums.index[:n_few]), _REST))


def describe_respondents(
    compared: pd.DataFrame, score: pd.DataFrame | None = None, weighed: pd.DataFrame | None = None
) -> str:
    """How many answered, who is missing most, and how far may the net promoter score be off? Up to three sentences.

    Parameters
    ----------
    compared
        From `compare_respondents`.
    score, weighed
        From `score_nps`, plain and with the weights of `weigh_answers`: one row each.
    """
    whole = compared.iloc[0]
    said = [
        ngettext(
            "{answered} of {n} customer answered ({share}, 95 % interval {interval}).",
            "{answered} of {n} customers answered ({share}, 95 % interval {interval}).",
            whole["n"],
            answered=format_count(whole["n_answered"]),
            n=format_count(whole["n"]),
            share=format_share(whole["share_answered"]),
            interval=format_interval(whole["low"], whole["high"], format_share),
        )
    ]
    groups = compared[compared["kind"].isin(("goal", "stage", "channel", "persona")) & ~compared["is_small"]]
    notable = groups[groups["effect"].abs() > _NOTABLE]
    if notable.empty:
        said.append(_("Those who answered are much like those who did not, in all that was looked at."))
    else:
        row = notable.iloc[int(notable["effect"].abs().to_numpy().argmax())]
        values = {
            "kind": word_of(row["kind"], "kind"),
            "value": format_name(word_of(row["value"]) if row["kind"] in _OURS else row["value"]),
            "answered": format_share(row["share_of_answered"]),
            "silent": format_share(row["share_of_silent"]),
        }
        said.append(
            _(
                "They are not like the others: “{kind}: {value}” holds for {answered} of those who answered and for "
                "{silent} of those who did not.",
                **values,
            )
        )
    if score is not None and weighed is not None:
        said.append(
            _(
                "If the silent think like those of their kind who answered, the net promoter score is {weighed} "
                "(95 % interval {interval}) rather than {plain}.",
                weighed=format_number(weighed["nps"].iloc[0], 0, signed=True),
                interval=write_points(weighed["low"].iloc[0], weighed["high"].iloc[0]),
                plain=format_number(score["nps"].iloc[0], 0, signed=True),
            )
        )
    return " ".join(said)
