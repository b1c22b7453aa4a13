"""The widgets without a browser: their values are set as a hand would, and the answers are those of plain calls."""

from __future__ import annotations

import json
from datetime import date, datetime
from html.parser import HTMLParser
from typing import Any

import ibis
import pandas as pd
import pytest
from conftest import make_steps
from traitlets import TraitError

import journeylab as jl
from journeylab.engine import store
from journeylab.errors import RuleError
from journeylab.language import use_language
from journeylab.resources import find_shipped

N_FEW = 150
WALK = ["catalog", "cart", "payment_done"]
HOSTILE = '<script>alert("$x$")</script>\u202e\n=1+1'


@pytest.fixture(scope="module")
def log() -> jl.LoadedLog:
    return jl.load_log("demo", rules="ecommerce")


@pytest.fixture
def explorer(log: jl.LoadedLog) -> jl.FunnelExplorer:
    return jl.explore_funnel(log.steps, WALK)


@pytest.fixture(scope="module")
def few(log: jl.LoadedLog) -> tuple[ibis.Table, ibis.Table]:
    """Steps and journeys of some customers."""
    chosen = log.journeys.select("customer_id").distinct().order_by("customer_id").limit(N_FEW).execute()["customer_id"]
    steps, journeys = (each.filter(each.customer_id.isin(list(chosen))) for each in (log.steps, log.journeys))
    return store(steps, log.steps.get_backend()), store(journeys, log.steps.get_backend())


@pytest.fixture(scope="module")
def personas(few: tuple[ibis.Table, ibis.Table]) -> jl.Personas:
    return jl.fit_personas(*few, k=3, method="sequence")


def choose(explorer: jl.FunnelExplorer, **values: object) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def table_of(explorer: jl.FunnelExplorer) -> pd.DataFrame:
    assert explorer.message == ""
    assert explorer.funnel is not None
    return explorer.funnel.table


def run_code(explorer: jl.FunnelExplorer, **names: object) -> pd.DataFrame:
    """What a reader gets who pastes the code into a cell."""
    seen: dict[str, Any] = {"jl": jl, "ibis": ibis, **names}
    exec(explorer.code, seen)
    table: pd.DataFrame = seen["funnel"].table
    return table


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("asked", "rules", "grouping"),
    [
        ({"within": " "}, {}, {}),
        ({"order": "any", "unit": "journey"}, {"order": "any", "unit": "journey"}, {}),
        ({"entry": "best", "within": "1D"}, {"entry": "best", "within": "1D"}, {}),
        ({"by": "channel", "unit": "attempt"}, {"unit": "attempt"}, {"by": "channel", "top": 6, "min_group": 10}),
    ],
)
def test_answers_are_those_of_build_funnel(
    log: jl.LoadedLog,
    explorer: jl.FunnelExplorer,
    asked: dict[str, object],
    rules: dict[str, Any],
    grouping: dict[str, Any],
) -> None:
    choose(explorer, **asked)
    plain = jl.build_funnel(log.steps, jl.FunnelRules(WALK, **rules), **grouping).table
    pd.testing.assert_frame_equal(table_of(explorer), plain)
    pd.testing.assert_frame_equal(run_code(explorer, steps=log.steps), plain)


def test_steps_keep_the_order_in_which_they_stand(log: jl.LoadedLog, explorer: jl.FunnelExplorer) -> None:
    choose(explorer, steps=["home", "product", "catalog", "product"])
    assert list(table_of(explorer)["label"]) == ["home", "product", "catalog", "product"]
    choose(explorer, steps=["catalog", "home"])
    pd.testing.assert_frame_equal(table_of(explorer), jl.build_funnel(log.steps, ["catalog", "home"]).table)


def test_days_choose_whole_journeys_by_their_first_event(six: ibis.Table) -> None:
    explorer = jl.explore_funnel(six, ["shop", "pay"], since=date(2026, 1, 2), before=date(2026, 3, 1))
    # dora's second journey; of those who began on the first of January or in March, nothing.
    assert list(table_of(explorer)["n"]) == [1, 1]
    assert table_of(explorer).equals(run_code(explorer, steps=six))
    choose(explorer, since=None)
    # cleo's journey began with an ad in January, and fred's with the cart.
    assert list(table_of(explorer)["n"]) == [5, 3]
    choose(explorer, before=None)
    assert list(table_of(explorer)["n"]) == [6, 3]
    assert "choose_journeys" not in explorer.code


def test_the_end_of_observation_is_that_of_the_log(six: ibis.Table) -> None:
    explorer = jl.explore_funnel(six, ["shop", "pay"], before=date(2026, 1, 2))
    assert explorer.funnel is not None
    assert explorer.funnel.as_of == datetime(2026, 3, 1, 10, 5)
    until = jl.explore_funnel(six, ["shop", "pay"], as_of="2026-01-20")
    assert until.funnel is not None
    assert until.funnel.as_of == datetime(2026, 1, 20)


def test_what_the_widgets_do_not_show_stays(log: jl.LoadedLog) -> None:
    rules = jl.FunnelRules(
        [("home", "search"), "cart", jl.Step("payment_done", where="value > 100")],
        exclude="complaint",
        on_exclude="fail",
        optional="cart",
        hold_constant="device",
    )
    explorer = jl.explore_funnel(log.steps, rules)
    assert explorer.controls["steps"].value == ["home / search", "cart", "payment_done (value > 100)"]
    plain = jl.build_funnel(log.steps, rules).table
    pd.testing.assert_frame_equal(table_of(explorer), plain)
    pd.testing.assert_frame_equal(run_code(explorer, steps=log.steps), plain)
    choose(explorer, steps=["home / search", "payment_done (value > 100)"])
    assert list(table_of(explorer)["step"]) == [1, 2]
    assert "optional" not in explorer.code


def test_without_rules_the_stages_are_asked(six: ibis.Table) -> None:
    explorer = jl.explore_funnel(six)
    assert explorer.controls["steps"].value == ["look", "basket", "bought"]
    assert set(explorer.controls["steps"].allowed_tags) == {
        "look",
        "basket",
        "bought",
        "shop",
        "cart",
        "pay",
        "ad",
        "help",
    }
    assert explorer.controls["by"].options == (("no groups", ""), ("channel", "channel"))
    assert "account" not in [unit for _, unit in explorer.controls["unit"].options]


@pytest.mark.parametrize(
    ("lang", "units"),
    [("pl", ["klient", "podróż", "sesja", "próba"]), ("ru", ["клиент", "путь", "сессия", "попытка"])],
)
def test_menus_are_translated_and_their_values_stay(six: ibis.Table, lang: str, units: list[str]) -> None:
    plain = jl.explore_funnel(six)
    with use_language(lang):
        explorer = jl.explore_funnel(six)
        choose(explorer, unit="journey", order="any")
    choose(plain, unit="journey", order="any")
    assert [word for word, _ in explorer.controls["unit"].options] == units
    assert not {word for word, _ in explorer.controls["order"].options} & {"ordered", "strict", "any"}
    assert explorer.code == plain.code


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"within": "7"}, 'within must be a duration with a unit, such as "30m"'),
        ({"steps": ["cart"]}, "steps must be a list of at least two events or stages"),
        ({"entry": "best", "unit": "attempt"}, 'unit="attempt" counts every start in its turn'),
        ({"since": date(2026, 10, 1), "before": date(2026, 9, 1)}, "no journey began since 2026-10-01 and before"),
    ],
)
def test_what_is_refused_is_said_and_shows_no_answer(
    explorer: jl.FunnelExplorer, asked: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choose(explorer, **asked)
    assert said in explorer.message
    assert explorer.funnel is None
    assert explorer.code == ""
    shown = explorer._repr_mimebundle_()
    page = Page(str(shown["text/html"]))
    assert said in page.text
    assert "svg" not in page.tags
    assert 'role="alert"' in explorer.html
    assert capsys.readouterr() == ("", "")
    choose(explorer, within="", entry="first", since=None, steps=WALK)
    assert list(table_of(explorer)["label"]) == WALK


def test_the_first_question_is_checked_at_the_door(log: jl.LoadedLog) -> None:
    with pytest.raises(RuleError, match='"catlog" Did you mean "catalog"'):
        jl.explore_funnel(log.steps, ["catlog", "cart"])
    with pytest.raises(RuleError, match='by= needs a column "chanel"'):
        jl.explore_funnel(log.steps, WALK, by="chanel")
    with pytest.raises(RuleError, match='unit="account" needs a column'):
        jl.explore_funnel(log.steps, jl.FunnelRules(WALK, unit="account"))
    with pytest.raises(RuleError, match="no two stages to begin with"):
        jl.explore_funnel(make_steps([{"customer_id": "kim", "event": "look", "timestamp": datetime(2026, 1, 1)}]))


def test_only_steps_of_the_log_can_be_chosen(explorer: jl.FunnelExplorer) -> None:
    with pytest.raises(TraitError):
        choose(explorer, steps=["catlog", "cart"])


def test_names_from_data_are_shown_not_obeyed() -> None:
    long = "x" * 10_000
    rows = [
        {"customer_id": f"c{i}", "event": event, "timestamp": datetime(2026, 1, 1 + day), HOSTILE: f"{HOSTILE}{i % 2}"}
        for i in range(12)
        for day, event in enumerate([HOSTILE, "kasa ł", long + "a", long + "b", 'it\'s "so"'][: 1 + i % 5])
    ]
    steps = make_steps(rows)
    explorer = jl.explore_funnel(steps, [HOSTILE, "kasa ł", long + "b", 'it\'s "so"'], by=HOSTILE, min_group=1)
    pd.testing.assert_frame_equal(run_code(explorer, steps=steps), table_of(explorer))
    labels = explorer.controls["steps"].allowed_tags
    assert len(labels) == len(set(labels)) == 5
    assert all(len(label) <= 70 and "\n" not in label and "\u202e" not in label for label in labels)
    for html in (explorer.html, explorer._shown.value):
        page = Page(html)
        assert not {"script", "img", "iframe"} & set(page.tags)
        assert not page.handlers
        assert "\u202e" not in html
    assert '<script>alert("$x$")</script>' in Page(explorer.html).text
    choose(explorer, within=HOSTILE)
    assert "script" not in Page(explorer.html).tags
    assert "<script>" in Page(explorer.html).text


def test_no_customer_is_shown(
    few: tuple[ibis.Table, ibis.Table], explorer: jl.FunnelExplorer, personas: jl.Personas
) -> None:
    ids = set(few[1].select("customer_id").distinct().execute()["customer_id"])
    choose(explorer, by="channel")
    both = jl.explore_personas(personas, *few, WALK)
    for shown in (explorer, both):
        words = set(Page(str(shown._repr_mimebundle_()["text/html"])).text.split())
        assert not words & ids


def test_answers_leave_no_tables_behind(log: jl.LoadedLog, explorer: jl.FunnelExplorer) -> None:
    con: Any = log.steps.get_backend()

    def count_tables() -> int:
        return int(con.raw_sql("select count(*) from duckdb_tables()").fetchall()[0][0])

    choose(explorer, since=date(2026, 9, 1))
    before = count_tables()
    choose(explorer, within="1D", by="channel", since=date(2026, 8, 1), order="any")
    assert count_tables() == before


def test_a_persona_has_its_card_and_its_funnel(few: tuple[ibis.Table, ibis.Table], personas: jl.Personas) -> None:
    steps, journeys = few
    walk = ["home", "catalog"]
    explorer = jl.explore_personas(personas, steps, journeys, walk)
    assert [value for _, value in explorer.picker.options] == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(table_of(explorer.funnel), jl.build_funnel(steps, walk).table)
    members = personas.assign(steps, journeys)
    end = str(explorer.funnel.funnel.as_of) if explorer.funnel.funnel else None
    for number in (1, 2):
        explorer.picker.value = number
        own = steps.semi_join(ibis.memtable(members[members["persona"] == number]), "customer_id")
        plain = jl.build_funnel(own, walk, as_of=end).table
        pd.testing.assert_frame_equal(table_of(explorer.funnel), plain)
        given = {"steps": steps, "journeys": journeys, "personas": personas}
        pd.testing.assert_frame_equal(run_code(explorer.funnel, **given), plain)
        name = personas.summary.set_index("persona")["name"][number]
        html = str(explorer._repr_mimebundle_()["text/html"])
        assert html.count('<section class="jl-card') == 1
        assert name in Page(html).text
    choose(explorer.funnel, within="7D")
    pd.testing.assert_frame_equal(
        table_of(explorer.funnel), jl.build_funnel(own, jl.FunnelRules(walk, within="7D"), as_of=end).table
    )
    explorer.picker.value = 0
    assert table_of(explorer.funnel)["n"].iloc[0] > plain["n"].iloc[0]


def test_a_step_that_no_chosen_customer_took_is_said_so(six: ibis.Table) -> None:
    explorer = jl.explore_funnel(six, ["shop", "pay"])
    choose(explorer, since=date(2026, 2, 20))
    assert explorer.message.startswith("none of those chosen ever came to pay; ")


def test_both_widgets_and_a_picture_for_where_there_are_none(explorer: jl.FunnelExplorer) -> None:
    shown = explorer._repr_mimebundle_()
    assert set(shown) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    page = Page(str(shown["text/html"]))
    assert {"svg", "table", "pre"} <= set(page.tags)
    assert shown["text/plain"] == jl.describe_conversion(explorer.funnel)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> jl.ReportRun:
    # Few customers: what is looked at is how the answers are shown.
    folder = tmp_path_factory.mktemp("explore")
    demo = pd.read_csv(find_shipped("data/demo") / "events.csv", dtype=str)
    few = demo["customer_id"].drop_duplicates().head(N_FEW)
    demo[demo["customer_id"].isin(few)].to_csv(folder / "few.csv", index=False)
    return jl.run_report(
        "explore", {"data": str(folder / "few.csv"), "within": "7D", "k": 2, "method": "sequence"}, out=folder / "run"
    )


def test_a_report_shows_the_answers_and_no_widget(report: jl.ReportRun) -> None:
    notebook = (report.folder / "explore.ipynb").read_text(encoding="utf-8")
    assert "widget-view" not in notebook
    assert "widgets" not in json.loads(notebook)["metadata"]
    page = Page(report.html.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 2
    assert "jl.FunnelRules(" in page.text
    assert 'within="7D"' in page.text
    assert page.tags.count("script") == 2, "those of the page"
    assert report.values["headline"] in page.text.replace("\N{NO-BREAK SPACE}", " ")
    # The one path is that of the data, which a parameter names.
    assert set(jl.check_report(report.folder)["kind"]) <= {"path"}
