"""Every query that the package runs also compiles for BigQuery and for Databricks (Spark without a session).

The questions are asked through the public functions, of a log that has every column and rules that have every switch,
on DuckDB with an ear on it: what the engine was given to run is compiled again for the other dialects. That proves
that Ibis can say it there, not that the warehouse gives the same answer.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import ibis
import pandas as pd
import pytest
import sqlglot
from conftest import START, make_events
from ibis.backends.sql.compilers import BigQueryCompiler, DatabricksCompiler

import journeylab as jl
from journeylab.engine import median
from journeylab.personas.drawing import draw_customers

RULES = jl.JourneyRules(
    stages=("look", "buy"),
    stage_of={"a": "look", "b*": "look", "/^c/": "buy"},
    goal="buy",
    journey_gap="30D",
    end_after_goal=True,
    dormant_after="7D",
)


def make_log(con: ibis.BaseBackend, *, has_place: bool) -> ibis.Table:
    row = {"customer_id": "k", "event": "a", "timestamp": START, "event_id": "e", "seq": 1, "session_id": None}
    row |= {"journey_id": None, "channel": "web", "stage": None, "value": 1.0, "plan": "free"}
    row |= {"account_id": "x", "role": "buyer"}
    other = {**row, "customer_id": "l", "plan": "pro", "channel": "app", "event_id": "g"}
    rows = [row, {**row, "event": "c", "event_id": "f"}, other, {**other, "event": "b", "event_id": "h"}]
    return make_events(rows, con, has_place=has_place)


def listen(con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch) -> list[ibis.Expr]:
    """All expressions that are run or stored from now on."""
    heard: list[ibis.Expr] = []
    execute, create_table = con.execute, con.create_table

    def hear_execute(expression: ibis.Expr, *args: Any, **options: Any) -> Any:
        heard.append(expression)
        return execute(expression, *args, **options)

    def hear_create_table(name: str, rows: Any = None, **options: Any) -> ibis.Table:
        if isinstance(rows, ibis.Expr):
            heard.append(rows)
        return create_table(name, rows, **options)

    def hear_reading(read: Any) -> Any:
        def hear(expression: ibis.Expr, *args: Any, **options: Any) -> Any:
            heard.append(expression)
            return read(expression, *args, **options)

        return hear

    for name in ("to_pyarrow", "to_pyarrow_batches"):
        monkeypatch.setattr(con, name, hear_reading(getattr(con, name)))
    monkeypatch.setattr(con, "execute", hear_execute)
    monkeypatch.setattr(con, "create_table", hear_create_table)
    return heard


def ask_steps(steps: ibis.Table) -> None:
    """Nothing more: the steps are built before."""


def ask_journeys(steps: ibis.Table) -> None:
    jl.build_journeys(steps, RULES).execute()
    jl.build_journeys(steps, as_of="2026-02-01").execute()


def ask_funnel(steps: ibis.Table) -> None:
    jl.find_drop_offs(jl.build_funnel(steps, [("a", "look"), "buy"], by="plan"))
    for unit in ("customer", "journey", "session", "account", "attempt"):
        jl.build_funnel(steps, jl.FunnelRules(["a", "c"], within="7D", unit=unit))


def ask_walks(steps: ibis.Table) -> None:
    rich = jl.Step("c", where='value > 0 and plan in ("free", "pro")')
    rules = jl.FunnelRules(["a", "c"], within="7D")
    for order in ("ordered", "strict", "any"):
        for entry in ("first", "latest", "best"):
            jl.build_funnel(steps, dataclasses.replace(rules, order=order, entry=entry, window_from="previous"))
    jl.build_funnel(steps, dataclasses.replace(rules, steps=["a", rich], unit="attempt", hold_constant="plan"))
    full = jl.FunnelRules(["a", "look", "c"], optional="look", exclude=jl.Step("c", where="value < 0"), entry="best")
    jl.build_funnel(steps, full, by=["plan", "channel"], by_at="last", top=2)


def ask_conversion(steps: ibis.Table) -> None:
    # Late enough for every start to be mature: without any there is nothing to split.
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "c"], within="7D"), by="plan", as_of="2027-01-01")
    jl.estimate_conversion(funnel, at=["1D"])
    jl.estimate_time_to_convert(funnel)
    jl.compare_times(funnel)
    jl.count_cohorts(funnel)
    jl.compare_funnels(funnel)
    jl.split_change(funnel, jl.build_funnel(steps, funnel.rules, by="plan", as_of="2026-12-01"))


def ask_before_after(steps: ibis.Table) -> None:
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "c"], within="7D"), by="plan", as_of="2027-01-01")
    for period in ("D", "W"):
        # So short a log has no series; it is refused after it is counted.
        with pytest.raises(jl.RuleError, match="with starts before 2026-06-01"):
            jl.compare_before_after(funnel, "2026-06-01", period=period, untouched="free")
    jl.compare_groups(funnel, "pro", "free")


def ask_leaving(steps: ibis.Table) -> None:
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "c"], within="7D"))
    jl.compare_next(steps, funnel)
    jl.count_returns(steps, funnel)
    jl.measure_dwell(steps, funnel)
    jl.explain_drop_off(steps, funnel, landmark="1h", properties=["plan"])


def ask_accounts(steps: ibis.Table) -> None:
    funnel = jl.build_funnel(steps, jl.FunnelRules(["a", "c"], within="7D", unit="account"))
    jl.count_accounts(steps)
    jl.count_roles(steps, funnel, within="1D")
    jl.find_stalls(steps, funnel)


def ask_retention(steps: ibis.Table) -> None:
    for period in ("D", "W", "M"):
        for clock in ("rolling", "calendar"):
            jl.count_retention(steps, start="a", back="c", period=period, clock=clock, by="plan")
    jl.count_lifecycle(steps)
    jl.count_churn(steps)
    jl.count_repeats(steps, event="a")


def ask_transitions(steps: ibis.Table) -> None:
    jl.count_transitions(steps)
    jl.count_transitions(steps, jl.build_journeys(steps, RULES), by="channel")


def ask_matrix(steps: ibis.Table) -> None:
    jl.step_matrix(steps, jl.build_journeys(steps, RULES))


def ask_flows(steps: ibis.Table) -> None:
    jl.count_flows(steps, jl.build_journeys(steps, RULES))


def ask_variants(steps: ibis.Table) -> None:
    jl.count_variants(steps, jl.build_journeys(steps, RULES), top=3)


def ask_personas(steps: ibis.Table) -> None:
    journeys = jl.build_journeys(steps, RULES)
    every_emission = jl.MarkovRules(emissions=("dwell", "channel"))
    for method in (every_emission, jl.FeatureRules(customers=["plan"]), jl.SequenceRules()):
        personas = jl.fit_personas(steps, journeys, k=2, method=method, customers=["plan"])
        personas.assign(steps, journeys)
    draw_customers(steps, journeys, n=1, seed=0)


def ask_segments(steps: ibis.Table) -> None:
    journeys = jl.build_journeys(steps, RULES)
    for at in ("first", "last", "most"):
        jl.compare_segments(steps, journeys, by="plan", at=at, customers=["channel"])
    jl.score_rfm(steps).execute()


def ask_conformance(steps: ibis.Table) -> None:
    journeys = jl.build_journeys(steps, RULES)
    for by in ("plan", "first_channel"):
        plan = jl.PlannedPath(["a", "buy"], ignore="b")
        jl.check_conformance(steps, journeys, plan, by=by).journeys.execute()


def ask_map(steps: ibis.Table) -> None:
    journeys = jl.build_journeys(steps, RULES)
    touchpoint = {"stage": "look", "event": "a", "channel": "web", "evidence": "stated", "cost": 1.0, "effort": 1.0}
    workshop = jl.Workshop(jl.Workshop.empty().rows, pd.DataFrame([touchpoint, {**touchpoint, "channel": ""}]))
    said = steps.select("customer_id", "timestamp", "position", "step").mutate(feeling=ibis.literal(0.5))
    answers = jl.attach_feedback(said, steps, journeys)
    for part in jl.split_journeys(journeys, "M", min_group=1).values():
        jl.build_map(steps, part, RULES, attached=answers, workshop=workshop, pain="b", way="plan", min_group=1)
    jl.compare_costs(steps, journeys, workshop)
    jl.count_day(steps, journeys, RULES, min_group=1)
    jl.count_stage_roles(steps, journeys, RULES, min_group=1)


QUESTIONS = (
    *(ask_conformance, ask_map),
    *(ask_steps, ask_journeys, ask_funnel, ask_walks),
    *(ask_conversion, ask_before_after, ask_leaving, ask_accounts, ask_retention),
    *(ask_transitions, ask_matrix, ask_flows, ask_variants),
    *(ask_personas, ask_segments),
)
COMPILERS = {"bigquery": BigQueryCompiler, "databricks": DatabricksCompiler}


# Rows of a table have no place of their own; once the steps are built, all questions are the same.
ASKED = [(question, True) for question in QUESTIONS] + [(ask_steps, False)]


@pytest.mark.parametrize(
    ("question", "has_place"),
    ASKED,
    ids=[
        f"{'file' if has_place else 'table'}-{question.__name__.removeprefix('ask_')}" for question, has_place in ASKED
    ],
)
@pytest.mark.parametrize("dialect", COMPILERS)
def test_every_query_compiles(
    con: ibis.BaseBackend, monkeypatch: pytest.MonkeyPatch, question: Any, dialect: str, has_place: bool
) -> None:
    events = make_log(con, has_place=has_place)
    heard = listen(con, monkeypatch)
    # Elsewhere funnels are walked in the engine.
    monkeypatch.setattr("journeylab.funnel.is_in_process", lambda con: False)
    # The one thing that a query says otherwise, by the backend's name.
    named = SimpleNamespace(name=dialect)
    for module in ("funnel", "leaving", "explain"):
        monkeypatch.setattr(f"journeylab.{module}.median", lambda column, con: median(column, named))
    question(jl.build_steps(events, RULES))
    assert heard
    compiler = COMPILERS[dialect]()
    for expression in heard:
        sqlglot.parse_one(compiler.to_sqlglot(expression.unbind()).sql(dialect), dialect=dialect)
