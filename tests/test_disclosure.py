"""What must not leave the house is found, and small groups are folded so that subtraction does not find them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import START, make_steps

from journeylab import build_funnel, check_report, fold_small, pseudonymise
from journeylab.cli import main
from journeylab.errors import ReportError, RuleError
from journeylab.resources import find_shipped

SCRIPT = (find_shipped("templates") / "sort.js").read_text(encoding="utf-8")
CHANGED = f"{SCRIPT} "
_HASH = base64.b64encode(hashlib.sha256(CHANGED.encode()).digest()).decode()
POLICY = f"""<meta http-equiv="Content-Security-Policy" content="script-src 'sha256-{_HASH}'">"""


def find(folder: Path, name: str, text: str, *, ids: tuple[str, ...] = ()) -> list[str]:
    (folder / name).write_text(text, encoding="utf-8")
    return check_report(folder / name, ids=ids)["kind"].tolist()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to anna.nowak@example.co.uk", "e-mail"),
        ("call +48 601 234 567 now", "phone"),
        ("call 0048601234567", "phone"),
        ("call 601-234-567", "phone"),
        ("tel. (022) 345-67-89", "phone"),
        ("token ghp_0123456789abcdef0123", "secret"),
        ("password = hunter22", "secret"),
        ("postgres://me:pass@host/db", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret"),
        ("read /home/anna/shop.csv", "path"),
        (r"read C:\Users\anna\shop.csv", "path"),
        ("/opt/env/lib/python3.11/site-packages/tqdm/auto.py", "path"),
        ("customer c00017 left", "customer id"),
        ("journey c00017/2 is open", "customer id"),
    ],
)
@pytest.mark.parametrize("form", ["page", "title", "notebook", "table"])
def test_what_must_not_leave_is_found(tmp_path: Path, text: str, kind: str, form: str) -> None:
    match form:
        case "page":
            found = find(tmp_path, "a.html", f"<p>{text}</p>", ids=("c00017",))
        case "title":
            found = find(tmp_path, "a.svg", f'<svg><text aria-label="{text}">x</text></svg>', ids=("c00017",))
        case "notebook":
            outputs = {"cells": [{"outputs": [{"data": {"text/html": [f"<b>{text}", "</b>\n"]}}]}]}
            found = find(tmp_path, "a.ipynb", json.dumps(outputs), ids=("c00017",))
        case _:
            found = find(tmp_path, "a.csv", f'event,share\n"{text}",0.5\n', ids=("c00017",))
    assert found == [kind]


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("<script>alert(1)</script>", "active"),
        # What a page allows itself is not for it to say.
        (f"{POLICY}<script>{CHANGED}</script>", "active"),
        ("<script src='sort.js'></script>", "active"),
        ('<b onclick="go()">x</b>', "active"),
        ('<a href="javascript:go()">x</a>', "active"),
        ("<iframe></iframe>", "active"),
        ('<img src="https://example.org/pixel.png">', "request"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "request"),
        ("<style>@import 'https://example.org/a.css';</style>", "request"),
        ('<p style="background:url(https://example.org/a.png)">x</p>', "request"),
    ],
)
def test_a_page_that_runs_or_calls_out(tmp_path: Path, page: str, kind: str) -> None:
    assert find(tmp_path, "a.html", page) == [kind]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    page = f"""<script>{SCRIPT}</script>
    <a href="https://example.org">a link asks for nothing</a> <img src="data:image/png;base64,AAAA">
    <p>1 098 of 123\N{THIN SPACE}456\N{THIN SPACE}789 customers, 29.7 % (2026-08-01 04:09:45)</p>
    <p>/shop/cart/checkout, c000170</p>
    <svg><path d="M 601 234 567 100 200 300"/></svg>"""
    assert find(tmp_path, "a.html", page, ids=("c00017", "12")) == []
    assert find(tmp_path, "a.csv", "event,n,share\ncart,10,0.5\nshop,0,0\n") == []


def test_a_run_is_looked_through_and_examples_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "variants.csv").write_text("variant,n_customers\nlook,9\nbuy,3\n")
    (tmp_path / "a.html").write_text("<p>anna@example.org, anna@example.org</p>")
    (tmp_path / "picture.png").write_bytes(b"\xff")
    found = check_report(tmp_path)
    assert found[["file", "kind", "n", "example"]].to_numpy().tolist() == [
        ["a.html", "e-mail", 2, "anna@exa…"],
        ["tables/variants.csv", "small group", 2, "n_custo…"],
    ]
    with pytest.raises(SystemExit) as ended:
        main(["check-report", str(tmp_path)])
    assert ended.value.code == 1
    assert "anna@example" not in capsys.readouterr().out
    with pytest.raises(ReportError, match="there is no"):
        check_report(tmp_path / "none")


def test_the_command_knows_the_customers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, page = tmp_path / "log.csv", tmp_path / "page.html"
    log.write_text("client,event,timestamp\nkim-1234,look,some day\n")
    page.write_text("<p>kim-1234</p>")
    with pytest.raises(SystemExit) as ended:
        main(["check-report", str(page), "--data", str(log), "--customer-id", "client"])
    assert ended.value.code == 1
    page.write_text("<p>nobody</p>")
    with pytest.raises(SystemExit) as ended:
        main(["check-report", str(page), "--data", str(log), "--customer-id", "client"])
    assert not ended.value.code
    assert "1 customer ids among it" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["check-report", str(page), "--data", str(log), "--customer-id", "klient"])
    assert 'no column "klient"' in str(ended.value.code)


def make_counts(counts: list[int]) -> pd.DataFrame:
    n = sum(counts) or 1
    names = [f"g{i}" for i in range(len(counts))]
    return pd.DataFrame({"group": names, "n": counts, "share": [each / n for each in counts], "median_s": 1.0})


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([50, 20, 10], [50, 20, 10]),
        ([50, 20, 9, 8], [50, 20, 17]),
        # One small group alone would be the total less the others.
        ([50, 20, 3], [50, 23]),
        ([50, 3, 12, 4], [50, 19]),
        ([4, 3], []),
        ([6, 5], [11]),
        ([], []),
    ],
)
def test_small_groups_are_folded(counts: list[int], shown: list[int]) -> None:
    folded = fold_small(make_counts(counts), "group", count="n", sums=["n", "share"])
    assert folded["n"].tolist() == shown
    if len(shown) < len(counts) and shown:
        assert folded["group"].iloc[-1] == "(other)"
        assert folded["share"].sum() == pytest.approx(1)
        assert np.isnan(folded["median_s"].iloc[-1])


def test_no_fold_shows_a_small_group_or_lets_it_be_computed() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.geometric(rng.uniform(0.02, 0.3), size=rng.integers(1, 8)).tolist()
        folded = fold_small(make_counts(counts), "group", count="n", sums=["n"])
        # The total is published elsewhere: what is missing from it must not be a small group.
        assert (folded["n"] >= 10).all()
        assert sum(counts) - folded["n"].sum() in (0, sum(counts))
        assert set(folded["group"]) <= {*make_counts(counts)["group"], "(other)"}


def test_each_block_folds_its_own() -> None:
    frame = pd.concat([make_counts([30, 4]).assign(step=1), make_counts([5, 20, 7]).assign(step=None)])
    folded = fold_small(frame, "group", count="n", sums=["n"], within=["step"])
    assert folded["n"].tolist() == [34, 20, 12]
    assert frame["n"].tolist() == [30, 4, 5, 20, 7]


def test_groups_of_a_funnel_are_merged(con: ibis.BaseBackend) -> None:
    sizes = {"pl": 20, "cz": 12, "de": 6, "sk": 3}
    customers = [(f"{market}{i}", market) for market, n in sizes.items() for i in range(n)]
    rows = [{"customer_id": name, "event": "a", "timestamp": START, "market": market} for name, market in customers]
    steps = make_steps([*rows, {**rows[0], "event": "b"}], con=con)

    def count(**options: int) -> dict[str, int]:
        table = build_funnel(steps, ["a", "b"], by="market", **options).table
        return table[table["step"] == 1].set_index("market")["n"].to_dict()

    assert count() == sizes
    # Nine are no group of ten either: cz joins them.
    assert count(min_group=10) == {"pl": 20, "(other)": 21}
    assert count(min_group=9) == {"pl": 20, "cz": 12, "(other)": 9}
    assert count(min_group=10, top=3) == {"pl": 20, "(other)": 21}
    assert count(min_group=50) == {"(other)": 41}
    with pytest.raises(RuleError, match="min_group must be at least 1, found 0"):
        count(min_group=0)


def test_pseudonyms_are_the_same_for_who_has_the_key() -> None:
    ids, key = pd.Series(["kim", "lea", None, "kim"]), "a long random password"
    names = pseudonymise(ids, key)
    assert names[0] == names[3] != names[1]
    assert names.isna().tolist() == [False, False, True, False]
    assert names.dropna().str.fullmatch("[a-z2-7]{12}").all()
    pd.testing.assert_series_equal(names, pseudonymise(ids, key))
    assert pseudonymise(ids, "another random password")[0] != names[0]
    assert pseudonymise(pd.Series(map(str, range(20_000))), key).is_unique
    with pytest.raises(ReportError, match="the key has 5 characters"):
        pseudonymise(ids, "short")
