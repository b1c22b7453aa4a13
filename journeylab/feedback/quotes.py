"""A few comments in their writers' words, only when asked for: shortened, and without names, addresses and numbers."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from journeylab.errors import RuleError
from journeylab.formats import clean

_BLOCKS = (
    # Whole addresses first: what stands in them looks like a handle, a number or a name. Spaces and words around the
    # sign are how people hide addresses from machines.
    ("[link]", re.compile(r"(?:\b[a-z][a-z0-9+.-]{0,20}://|\bwww\.)\S+|\bt\.me/\S+", re.IGNORECASE)),
    (
        "[e-mail]",
        re.compile(
            r"[\w.+%-]{1,64}\s?(?:@|\(at\)|\[at\])\s?[\w-]{1,63}(?:\s?(?:\.|\(dot\)|\[dot\])\s?[\w-]{2,63}){1,4}",
            re.IGNORECASE,
        ),
    ),
    (
        "[link]",
        re.compile(
            r"\b[\w-]{1,63}(?:\.[\w-]{1,63}){0,3}\.(?:com|net|org|info|biz|eu|pl|ru|рф|uk|de|io|me|shop)\b\S*", re.I
        ),
    ),
    ("[handle]", re.compile(r"(?<!\w)@\w[\w.]*")),
)
_NUMBERS = (
    re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{2,4}){3,8}\b"),
    # Telephones, cards, accounts and orders: from six figures on, however they are grouped.
    re.compile(r"(?<!\w)[+(#№]{0,2}\d(?:[\s().,/–-]{0,3}\d){5,}(?!\w)"),
)
_NAME = "[name]"
_CODE = re.compile(r"(?<![\w/-])[\w/-]{5,}")
# One capitalised name, with what people put into names; two in a row where they follow.
_CAPITAL = r"[^\W\d_a-zа-яёąćęłńóśźż]"
_ONE = rf"{_CAPITAL}(?:\.|[^\W\d_]*(?:['’-][^\W\d_]+)*)"
_NAMES = rf"{_ONE}(?:\s+{_ONE}){{0,2}}"
_ANY = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_TITLE = (
    r"(?:mr|mrs|ms|miss|mx|dr|prof|sir|madam|pan|pana|panu|panem|pani|panią|państwo|г-н|г-на|г-ну|г-жа|г-жи|г-же|"
    r"господин\w{0,2}|госпож\w{1,2}|доктор)"
)
_BY_PLACE = (
    # "J. R. Smith", but not "so did I. Great shop".
    re.compile(rf"(?<!\w)(?P<name>(?:(?![IЯ]){_CAPITAL}\.\s*){{1,3}}{_CAPITAL}[^\W\d_]+)"),
    # "Mr Smith", "pani Kowalska": after a title a name follows, in capitals or not quite.
    re.compile(rf"\b(?i:{_TITLE})\.?\s+(?P<name>{_NAMES})"),
    # "my name is anna", "nazywam się", "меня зовут": the next two words are one, however they are written.
    re.compile(
        rf"\b(?i:my name is|nazywam się|nazywam sie|mam na imię|mam na imie|меня зовут|моё имя|мое имя)"
        rf"\s+(?P<name>{_ANY}(?:\s+{_ANY})?)"
    ),
)
_BY_GREETING = (
    # "Dear Anna", "Cześć Aniu", "Здравствуйте, Анна".
    re.compile(
        rf"\b(?i:dear|hi|hello|hey|thanks|thank you|cześć|czesc|witaj|hej|drog[ai]|szanown[aey]|dziękuję|dziekuje|"
        rf"привет|здравствуйте|уважаем\w{{2}}|дорог\w{{2}}|спасибо)\s*,?\s+(?P<name>{_NAMES})"
    ),
    # A letter's end: "Best regards, Anna Nowak".
    re.compile(
        rf"\b(?i:regards|sincerely|yours|cheers|best|love|pozdrawiam|pozdrowienia|z poważaniem|z powazaniem|ukłony|"
        rf"с уважением|всего доброго|ваша?)\s*[,.!\n–—-]*\s*(?P<name>{_NAMES})\s*[.!]*\s*$"
    ),
)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_ENDS = '.!?…:;\n"„“”«»([{•–—'
# Capitals that English writes on words which are no names.
_NEVER_NAMES = frozenset(
    (
        *("i", "i'm", "i've", "i'd", "i'll", "i’m", "i’ve", "i’d", "i’ll", "ok", "tv", "pin", "sms", "app", "usb"),
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october"),
        *("november", "december", "english", "polish", "russian"),
    )
)
LONGEST = 160
# Beyond what is shown, masks may shorten what stands before.
_READ = 2_000


def clean_quotes(texts: Iterable[object], *, longest: int = LONGEST, ids: Collection[str] = ()) -> pd.Series:
    """What may be quoted of these comments, without those who wrote them or are named in them?

    Links, e-mail addresses, handles, long numbers and codes, and what looks like a name become [link], [e-mail],
    [handle], [number] and [name]: after titles, greetings and at a letter's end, and any capitalised word inside a
    sentence that these texts do not write small more often (where it begins a sentence it is masked too). This takes
    too much (shops, towns, German nouns) rather than too little, and still cannot promise that nobody is recognised:
    read quotes before you show them.

    Parameters
    ----------
    texts
        Comments; the more, the better common words are told from names.
    longest
        Characters at most; cut at a word's end, with "…".
    ids
        Customers' ids, however short; they become [id] where they stand as words.

    Returns
    -------
    pandas.Series
        On the index of `texts`; null for null and blank ones.

    Examples
    --------
    >>> clean_quotes(["Ask Mr Smith, +48 600 700 800 or jan@example.com!"])[0]
    'Ask Mr [name], [number] or [e-mail]!'
    """
    if isinstance(texts, str):
        raise RuleError("texts is one text: pass a list of them")
    if longest < 20:
        raise RuleError(f"longest is at least 20 characters, got {longest}")
    given = texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype=object)
    said = [_open(text, longest) for text in given]
    common, names = _tell_names(said)
    pattern = _match_ids(ids)
    return pd.Series(
        [_cut(_mask(text, common, names, pattern), longest) if text else None for text in said],
        index=given.index,
        dtype=object,
        name="quote",
    )


def pick_quotes(
    texts: Iterable[object],
    *,
    n: int = 3,
    topic: Iterable[object] | None = None,
    longest: int = LONGEST,
    ids: Collection[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Which comments may stand for the others, cleaned as `clean_quotes` does?

    Parameters
    ----------
    texts
        Comments. Identical ones are drawn as one.
    n
        How many, of each topic where topics are given; never more than there are.
    topic
        Beside each text, as `find_topics(...).assign["topic"]` has it; texts without one are not quoted.
    longest, ids
        As for `clean_quotes`.
    seed
        Draws them. Quotes are drawn by chance, not for effect.

    Returns
    -------
    pandas.DataFrame
        topic (where given), quote and n_alike (texts that are the same, this one among them).
    """
    if n < 1:
        raise RuleError(f"n is at least 1, got {n}")
    given = texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype=object)
    frame = pd.DataFrame({"quote": clean_quotes(given, longest=longest, ids=ids).to_numpy()})
    keys = ["quote"]
    if topic is not None:
        topics = list(topic)
        if len(topics) != len(given):
            raise RuleError(f"topic has {len(topics):,} values beside {len(given):,} texts")
        frame.insert(0, "topic", topics)
        keys = ["topic", "quote"]
    counted = frame.dropna().groupby(keys, sort=True).size().rename("n_alike").reset_index()
    drawn = counted.iloc[np.random.default_rng(seed).permutation(len(counted))]
    picked = (
        drawn.groupby("topic", sort=False).head(n).sort_values("topic", kind="stable")
        if topic is not None
        else drawn.head(n)
    )
    return picked.reset_index(drop=True)


def _open(text: object, longest: int) -> str:
    """Text without the ways to hide things in it, and no more of it than can be shown."""
    if not isinstance(text, str):
        return ""
    if len(text) > longest + _READ:
        # Half an address at the end would not be known for one.
        text = text[: longest + _READ].rpartition(" ")[0]
    # Letters of other widths, and invisible ones between figures.
    text = unicodedata.normalize("NFKC", text)
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf").strip()


def _match_ids(ids: Collection[str]) -> re.Pattern[str] | None:
    known = sorted({str(each) for each in ids if str(each)}, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, known))})(?!\w)", re.IGNORECASE) if known else None


def _mask(text: str, common: frozenset[str], names: frozenset[str], ids: re.Pattern[str] | None) -> str:
    if ids is not None:
        text = ids.sub("[id]", text)
    for mark, pattern in _BLOCKS:
        text = pattern.sub(mark, text)
    text = _CODE.sub(_mask_code, text)
    for pattern in _NUMBERS:
        text = pattern.sub("[number]", text)
    for pattern in _BY_PLACE:
        text = pattern.sub(lambda found: _put_name(found, frozenset()), text)
    for pattern in _BY_GREETING:
        text = pattern.sub(lambda found: _put_name(found, common), text)
    return clean(_mask_capitals(text, common, names))


def _mask_code(found: re.Match[str]) -> str:
    """Letters and at least four figures in one: bookings, accounts, customers."""
    n_figures = sum(letter.isdigit() for letter in found[0])
    return "[number]" if n_figures >= 4 and any(map(str.isalpha, found[0])) else found[0]


def _put_name(found: re.Match[str], common: frozenset[str]) -> str:
    words = found["name"].split()
    # "Hello There" greets nobody, if others write "there".
    if words[0].casefold() in common:
        return found[0]
    start, end = (at - found.start() for at in found.span("name"))
    return found[0][:start] + _NAME + found[0][end:]


def _tell_names(texts: list[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Which words are written small, and which have a capital inside sentences at least as often? In small letters."""
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for text in texts:
        for found in _WORD.finditer(text):
            word = found[0]
            if word.islower():
                small[word] += 1
            elif word[0].isupper() and _is_inside(text, found.start()):
                capital[word.casefold()] += 1
    # One "anna" must not make Anna a common word.
    common = frozenset(word for word, n in small.items() if n > capital[word]) | _NEVER_NAMES
    return common, frozenset(capital) - common


def _is_inside(text: str, at: int) -> bool:
    before = text[max(0, at - 20) : at].rstrip()
    return bool(before) and before[-1] not in _SENTENCE_ENDS


def _mask_capitals(text: str, common: frozenset[str], names: frozenset[str]) -> str:
    """Mask capitalised words inside sentences, and the same words where they begin one."""
    titles = re.compile(rf"(?i:{_TITLE})\.?")

    def mask(found: re.Match[str]) -> str:
        word = found[0]
        if not word[0].isupper() or word.casefold() in common or titles.fullmatch(word):
            return word
        return _NAME if word.casefold() in names or _is_inside(text, found.start()) else word

    return re.sub(r"\[name\](?:[\s-]+\[name\])+", _NAME, _WORD.sub(mask, text))


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = text[:longest]
    # A word of the last third may be given up, and no mark is cut in two.
    at = head.rfind(" ", longest * 2 // 3)
    head = head[: at if at > 0 else longest - 1]
    if head.count("[") > head.count("]"):
        head = head[: head.rfind("[")]
    return head.rstrip(" ,;:–—-([") + "…"
