"""Quotes say what customers said, and not who they are."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab.disclosure import check_report
from journeylab.errors import RuleError
from journeylab.feedback.quotes import clean_quotes, pick_quotes
from journeylab.sources.demo_texts import TEXTS


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        # Addresses
        ("Write to jan.kowalski+shop@mail.example.pl today", "Write to [e-mail] today"),
        ("Write to jan (at) example (dot) com today", "Write to [e-mail] today"),
        ("see https://shop.example/u?id=jan#x and www.foo.pl/jan", "see [link] and [link]"),
        ("it is on jan-nowak.pl/me now", "it is on [link] now"),
        ("ask @jan_k there", "ask [handle] there"),
        # Numbers
        ("call +48 600 700 800 or 600-700-800", "call [number] or [number]"),
        ("call (22) 123 45 67 or 8 (916) 123-45-67", "call [number] or [number]"),
        ("６００７００８００ is wide", "[number] is wide"),
        ("call 600\u200b700\u200b800 now", "call [number] now"),
        ("pay to PL61 1090 1014 0000 0712 1981 2874 please", "pay to [number] please"),
        ("card 4111 1111 1111 1111 refused", "card [number] refused"),
        ("order AB-123456/7, again #12345678", "order [number], again [number]"),
        ("PESEL 90010112345", "PESEL [number]"),
        ("it took 3 days and 129.99 in 2024", "it took 3 days and 129.99 in 2024"),
        # Names
        ("Ask Mr Smith about it", "Ask Mr [name] about it"),
        ("I spoke to Anna Nowak at the desk", "I spoke to [name] at the desk"),
        ("I met J. R. Smith there", "I met [name] there"),
        ("J. Smith was rude, and so was I. Great shop", "[name] was rude, and so was I. Great shop"),
        ("thanks O'Brien and Jean-Luc Picard.", "thanks [name] and [name]."),
        ("my name is john smith and it broke", "my name is [name] and it broke"),
        ("Pani Kowalska była miła, pan Jan Nowak też", "Pani [name] była miła, pan [name] też"),
        ("nazywam się jan kowalski", "nazywam się [name]"),
        ("Меня зовут Анна Иванова, г-н Петров не помог", "Меня зовут [name], г-н [name] не помог"),
        ("Спасибо, Мария! Всё хорошо", "Спасибо, [name]! Всё хорошо"),
        ("Dear Anna, it broke", "Dear [name], it broke"),
        ("It broke. Best regards, Tom", "It broke. Best regards, [name]"),
        ("Zepsute. pozdrawiam\nKasia", "Zepsute. pozdrawiam [name]"),
        ("On Monday I paid by PIN", "On Monday I paid by PIN"),
    ],
)
def test_who_it_was_is_masked(said: str, quoted: str) -> None:
    assert clean_quotes([said])[0] == quoted


def test_words_of_others_tell_names_from_words() -> None:
    texts = ["We liked the Lounge", "the lounge was cold, the lounge!", "They asked Zdzisława", "Zdzisława helped me"]
    assert list(clean_quotes(texts)) == [
        "We liked the Lounge",
        "the lounge was cold, the lounge!",
        "They asked [name]",
        # At a sentence's start too, since it is known for a name.
        "[name] helped me",
    ]
    # One who writes names small gives nobody away.
    assert clean_quotes(["it was anna", "I asked Anna", "I saw Anna"])[1] == "I asked [name]"


def test_ids_are_masked_however_short() -> None:
    quotes = clean_quotes(["I am c17, c-9 and C17.", "c170 is another"], ids=["c17", "c-9", ""])
    assert list(quotes) == ["I am [id], [id] and [id].", "c170 is another"]


def test_quotes_of_the_demo_shop_stay_as_they_are() -> None:
    """Nothing in them is private; of a shop's own words BLIK alone looks like a name."""
    texts = [text for moods in TEXTS.values() for mood in moods.values() for text in mood]
    quotes = clean_quotes(texts)
    changed = [(text, quote) for text, quote in zip(texts, quotes, strict=True) if text != quote]
    assert [quote for _text, quote in changed] == ["Aplikacja zawiesza się przy płatności [name]."]


def test_nothing_is_left_that_a_report_may_not_show(tmp_path: Path) -> None:
    texts = [
        "jan@example.com, +48 600 700 800, (022) 123 4567",
        "Mail ANNA.NOWAK@EXAMPLE.COM or 600 700 800!!",
        "a@b.co;c@d.org/e@f.net 00 44 20 7946 0958",
        "x" * 300 + " jan@example.com",
    ]
    file = tmp_path / "quotes.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    assert len(check_report(file)) > 0
    file.write_text("\n".join(clean_quotes(texts)), encoding="utf-8")
    assert len(check_report(file)) == 0


def test_cut_at_a_word_and_never_inside_a_mark() -> None:
    quote = clean_quotes(["the parcel came late and nobody answered my letters"], longest=30)[0]
    assert quote == "the parcel came late and…"
    for longest in range(20, 70):
        quote = clean_quotes(["it was a long way until 600700800 and jan@example.com were asked"], longest=longest)[0]
        assert len(quote) <= longest
        assert quote.count("[") == quote.count("]")
        assert not re.search(r"\d|jan|example", quote)
    assert len(clean_quotes(["x" * 500], longest=40)[0]) == 40


def test_null_and_blank_comments_have_no_quote() -> None:
    quotes = clean_quotes(pd.Series([None, " \n", float("nan"), "ok"], index=list("abcd")))
    assert quotes.isna().tolist() == [True, True, True, False]
    assert list(quotes.index) == list("abcd")
    assert list(clean_quotes(["two\nlines\x00 \u202ehere"])) == ["two lines here"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_quoted_within_the_length(text: str) -> None:
    quote = clean_quotes([text], longest=40)[0]
    assert quote is None or len(quote) <= 40
    assert quote is None or not re.search(r"[0-9]{6}|[\n\x00]", quote)


@pytest.mark.parametrize(
    "unit", ["a", "1 ", "a.", "@", "A ", "a@", "Mr ", "a-1", "+(", "[at] ", "Ab'", "http://", "hi, "]
)
def test_no_text_takes_long(unit: str) -> None:
    before = time.process_time()
    clean_quotes([unit * 50_000])
    assert time.process_time() - before < 2


def test_picked_by_chance_and_by_topic() -> None:
    texts = ["late parcel", "late parcel", "wrong size", "good shop", None, "jan@example.com was kind"]
    picked = pick_quotes(texts, n=2, topic=[1, 1, 1, 2, 2, None])
    assert list(picked["topic"]) == [1, 1, 2]
    assert dict(zip(picked["quote"], picked["n_alike"], strict=True)) == {
        "late parcel": 2,
        "wrong size": 1,
        "good shop": 1,
    }
    assert len(pick_quotes(texts, n=9)) == 4
    pd.testing.assert_frame_equal(pick_quotes(texts, n=2, seed=4), pick_quotes(texts, n=2, seed=4))
    drawn = {pick_quotes(texts, n=1, seed=seed)["quote"][0] for seed in range(40)}
    assert drawn == {"late parcel", "wrong size", "good shop", "[e-mail] was kind"}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(RuleError, match="texts is one text"):
        clean_quotes("good")
    with pytest.raises(RuleError, match="longest is at least 20 characters, got 5"):
        clean_quotes(["a"], longest=5)
    with pytest.raises(RuleError, match="n is at least 1, got 0"):
        pick_quotes(["a"], n=0)
    with pytest.raises(RuleError, match="topic has 1 values beside 2 texts"):
        pick_quotes(["a", "b"], topic=[1])
