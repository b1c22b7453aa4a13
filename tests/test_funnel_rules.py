"""The one object that says how a funnel counts: what it keeps, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from journeylab.errors import RuleError
from journeylab.funnel_rules import FunnelRules, Step, read_step

ABC = ("a", "b", "c")


def refuse(*args: Any, **options: Any) -> str:
    with pytest.raises(RuleError) as caught:
        FunnelRules(*args, **options)
    return str(caught.value)


def test_defaults() -> None:
    assert FunnelRules(ABC) == FunnelRules(
        ABC,
        order="ordered",
        within=None,
        window_from="first",
        entry="first",
        unit="customer",
        exclude=(),
        on_exclude="drop",
        optional=(),
        hold_constant=(),
        dormant_after=None,
    )


def test_steps_are_kept_plain() -> None:
    """Strings stay strings and alternatives tuples; only a condition needs a Step."""
    rules = FunnelRules(
        ["a", ["b", "c"], ("d",), Step("e"), Step("f", "value > 1"), {"event": ["g", "h"], "where": "x == 1"}]
    )
    assert rules.steps == ("a", ("b", "c"), "d", "e", Step("f", "value > 1"), Step(("g", "h"), "x == 1"))
    assert rules.labels == ("a", "b / c", "d", "e", "f (value > 1)", "g / h (x == 1)")
    assert rules.walk_steps[:2] == (Step("a"), Step(("b", "c")))
    assert FunnelRules([{"event": "a"}, "b"]) == FunnelRules(("a", "b"))


def test_one_name_stands_for_a_list_of_one() -> None:
    rules = FunnelRules(ABC, exclude="x", optional="b", hold_constant="plan")
    assert (rules.exclude, rules.optional, rules.hold_constant) == (("x",), ("b",), ("plan",))
    assert rules == FunnelRules(list(ABC), exclude=["x"], optional=["b"], hold_constant=["plan"])
    assert FunnelRules(ABC, exclude=Step("a", "value > 1")).exclude == (Step("a", "value > 1"),)
    assert FunnelRules(ABC, exclude=["x", "y"]).excluded == (Step("x"), Step("y"))


def test_steps_are_read_in_every_way() -> None:
    assert read_step("a") == Step("a")
    assert read_step(["a", "b"]) == Step(("a", "b"))
    assert read_step({"event": "a", "where": "value > 1"}) == Step("a", "value > 1")
    assert Step(["a"]).event == "a"  # type: ignore[arg-type]
    assert (Step("a").names, Step(("a", "b")).names) == (("a",), ("a", "b"))


def test_labels_tell_what_is_optional_and_what_any_order_means() -> None:
    rules = FunnelRules(["a", Step("b", "value > 1"), ("c", "d"), "e"], optional=["b (value > 1)", "c / d"])
    assert rules.labels == ("a", "b (value > 1) (optional)", "c / d (optional)", "e")
    assert rules.required == (1, 4)
    assert FunnelRules(ABC, order="any").labels == ("1 of 3 steps", "2 of 3 steps", "3 of 3 steps")


@pytest.mark.parametrize(
    ("options", "within_s", "horizon_s"),
    [
        ({}, None, None),
        ({"window_from": "previous"}, None, None),
        ({"within": "90m"}, 5400, 5400),
        ({"within": "90m", "window_from": "previous"}, 5400, 10_800),
        ({"within": "2w"}, 1_209_600, 1_209_600),
        # A walk has one span only between a and c, if b may be left out.
        ({"within": "90m", "window_from": "previous", "optional": "b"}, 5400, 5400),
    ],
)
def test_how_long_a_walk_may_last(options: dict[str, Any], within_s: int | None, horizon_s: int | None) -> None:
    rules = FunnelRules(ABC, **options)
    assert (rules.within_s, rules.horizon_s) == (within_s, horizon_s)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 2_592_000),
        ({"unit": "session"}, 1800),
        ({"unit": "account"}, 2_592_000),
        ({"dormant_after": "7D"}, 604_800),
    ],
)
def test_how_long_one_may_be_silent(options: dict[str, Any], seconds: int) -> None:
    assert FunnelRules(ABC, **options).dormant_s == seconds


def test_rules_as_plain_text() -> None:
    rules = FunnelRules(
        ["a", Step("b", "value > 1"), ("c", "d")],
        within="7D",
        exclude="x",
        hold_constant="plan",
        optional="b (value > 1)",
    )
    plain = rules.to_dict()
    assert plain == {
        "steps": ["a", "b (value > 1)", "c / d"],
        "order": "ordered",
        "within": "7D",
        "window_from": "first",
        "entry": "first",
        "unit": "customer",
        "exclude": ["x"],
        "on_exclude": "drop",
        "optional": ["b (value > 1)"],
        "hold_constant": ["plan"],
        "dormant_after": None,
    }
    assert json.loads(json.dumps(plain)) == plain


def test_rules_do_not_change() -> None:
    rules = FunnelRules(["a", ["b", "c"], Step("d", "value > 1")], exclude=["x"], hold_constant=["plan"])
    for target, name in ((rules, "within"), (Step("a"), "event")):
        with pytest.raises(FrozenInstanceError):
            setattr(target, name, "7D")
    assert len({rules, replace(rules), replace(rules, within="7D")}) == 2
    assert replace(rules, within="7D").steps == rules.steps
    assert replace(replace(rules, within="7D"), within=None) == rules
    with pytest.raises(RuleError):
        replace(rules, within="7")


@pytest.mark.parametrize(
    ("steps", "found"),
    [(["a"], "['a']"), ("ab", "'ab'"), ([], "[]"), (Step("a"), "Step(event='a', where=None)")],
)
def test_a_funnel_has_two_steps(steps: Any, found: str) -> None:
    assert refuse(steps) == f"FunnelRules: steps must be a list of at least two events or stages; found {found}"


@pytest.mark.parametrize(
    ("step", "found"),
    [("", "''"), ((), "()"), (("b", ""), "('b', '')"), (5, "5"), (None, "None"), (("b", 5), "('b', 5)")],
)
def test_a_step_is_a_name(step: Any, found: str) -> None:
    message = f"FunnelRules: a step is an event, a stage or several of them; found {found}"
    assert refuse(["a", step]) == message
    with pytest.raises(RuleError) as caught:
        Step(step)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "found"), [({"event": "b", "wher": "x > 1"}, "event, wher"), ({"where": "x > 1"}, "where"), ({}, "")]
)
def test_a_mapping_has_event_and_where(given: dict[str, str], found: str) -> None:
    assert refuse(["a", given]) == f"FunnelRules: a step given as a mapping has event and where; found {found}"


def test_a_condition_is_read_at_once() -> None:
    help_text = (
        'write comparisons of a column with a value, such as value > 100 and plan in ("pro", "team"); '
        "a column whose name is not one word, or a word of Python, stands between backticks"
    )
    message = f"step \"b / c\": the condition 'value > f()' is not understood at 'value > f()'; {help_text}"
    with pytest.raises(RuleError) as caught:
        Step(("b", "c"), "value > f()")
    assert str(caught.value) == message
    assert refuse(["a", {"event": ["b", "c"], "where": "value > f()"}]) == message
    assert refuse(["a", "b"], exclude={"event": ["b", "c"], "where": "value > f()"}) == message


def test_a_condition_is_text() -> None:
    with pytest.raises(RuleError):
        Step("a", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "strickt"}, "order must be one of ordered, strict, any; found 'strickt'. Did you mean \"strict\"?"),
        (
            {"window_from": "prev"},
            "window_from must be one of first, previous; found 'prev'. Did you mean \"previous\"?",
        ),
        ({"entry": "lates"}, "entry must be one of first, latest, best; found 'lates'. Did you mean \"latest\"?"),
        (
            {"unit": "sesion"},
            "unit must be one of customer, journey, session, account, attempt; found 'sesion'. "
            'Did you mean "session"?',
        ),
        ({"on_exclude": "dorp"}, "on_exclude must be one of drop, fail; found 'dorp'. Did you mean \"drop\"?"),
    ],
)
def test_choices(options: dict[str, Any], message: str) -> None:
    assert refuse(ABC, **options) == f"FunnelRules: {message}"


@pytest.mark.parametrize("value", ["7", 7, "", "0s", "-1D", "7 parsecs"])
@pytest.mark.parametrize("name", ["within", "dormant_after"])
def test_durations_have_a_unit(name: str, value: Any) -> None:
    expected = (
        f'FunnelRules: {name} must be a duration with a unit, such as "30m", "12h", "30D" or "2w"; found {value!r}'
    )
    assert refuse(ABC, **{name: value}) == expected


@pytest.mark.parametrize("value", [5, [1], "", ["a", ""], [None]])
@pytest.mark.parametrize("name", ["optional", "hold_constant"])
def test_names_are_text(name: str, value: Any) -> None:
    assert refuse(ABC, **{name: value}) == f"FunnelRules: {name} must be names; found {value!r}"


@pytest.mark.parametrize(
    ("exclude", "names"),
    [("b", "b"), (["c", "x", "a"], "a, c"), ([("a", "x")], "a"), (Step("b"), "b")],
)
def test_a_step_is_not_excluded(exclude: Any, names: str) -> None:
    message = f"FunnelRules: both a step and excluded: {names}; take them out of one of the two"
    assert refuse(ABC, exclude=exclude) == message


def test_a_step_may_be_excluded_on_a_condition() -> None:
    assert FunnelRules(ABC, exclude=Step("b", "value < 0")).excluded == (Step("b", "value < 0"),)


def test_any_order_needs_different_steps() -> None:
    message = 'FunnelRules: order="any" needs different steps; in two of them: '
    assert refuse(["a", "b", "a"], order="any") == f"{message}a"
    assert refuse([("a", "c"), ("b", "c"), "b"], order="any") == f"{message}b, c"
    # On conditions they can be different.
    assert FunnelRules([Step("a", "value > 1"), Step("a", "value <= 1")], order="any").required == (1, 2)
    # In an order, one event after the other of the same name is a funnel.
    assert FunnelRules(["a", "a"]).labels == ("a", "a")


def test_optional_steps_are_in_the_middle() -> None:
    assert refuse(ABC, optional="zz") == 'FunnelRules: optional must name steps; not among a, b, c: "zz"'
    assert refuse(["shop", "cart", "pay"], optional=["chart", "zzz"]) == (
        'FunnelRules: optional must name steps; not among shop, cart, pay: "chart" Did you mean "cart"?; "zzz"'
    )
    assert refuse(ABC, optional="a") == (
        'FunnelRules: the first step, "a", cannot be optional: there the funnel begins. '
        "Take it out of steps, or out of optional"
    )
    assert refuse(ABC, optional=["b", "c"]) == (
        'FunnelRules: the last step, "c", cannot be optional: there the funnel ends. '
        "Take it out of steps, or out of optional"
    )
    for order in ("strict", "any"):
        assert refuse(ABC, optional="b", order=order) == (
            f'FunnelRules: optional steps need order="ordered"; found "{order}"'
        )


@pytest.mark.parametrize("entry", ["latest", "best"])
def test_attempts_have_nothing_to_choose(entry: str) -> None:
    assert refuse(ABC, unit="attempt", entry=entry) == (
        f'FunnelRules: unit="attempt" counts every start in its turn: entry="{entry}" has nothing to choose. '
        'Leave it at "first"'
    )


def test_presets_are_named() -> None:
    for product, expected in (
        ("posthog", FunnelRules(ABC, within="14D", entry="latest", on_exclude="drop")),
        ("mixpanel", FunnelRules(ABC, within="7D", entry="first", on_exclude="fail")),
        ("amplitude", FunnelRules(ABC, within="1D", entry="best", on_exclude="fail")),
        ("ga4", FunnelRules(ABC, within=None, window_from="previous", entry="best")),
        ("retentioneering", FunnelRules(ABC)),
    ):
        assert FunnelRules.like(product, ABC) == expected  # type: ignore[arg-type]


def test_unknown_preset() -> None:
    with pytest.raises(RuleError) as caught:
        FunnelRules.like("posthig", ABC)  # type: ignore[arg-type]
    assert str(caught.value) == (
        'FunnelRules.like: no preset "posthig". Did you mean "posthog"? '
        "There are posthog, mixpanel, amplitude, ga4, retentioneering"
    )
    with pytest.raises(RuleError, match="at least two events"):
        FunnelRules.like("ga4", ["a"])
