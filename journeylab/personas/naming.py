"""Short names from what sets each persona apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from journeylab.errors import RuleError, nearest
from journeylab.language import gettext as _
from journeylab.language import mark as N_

if TYPE_CHECKING:
    from journeylab.personas.fit import Personas

_LEAST_EFFECT = 0.2  # Cohen (1988): a small difference; less names nobody
_LEAST_QUALITY = 0.5  # a medium one: a word beside the events must be worth its place
_P = 0.05
_LONGEST = 3  # marks in a name
# Some words are true of a range only: about one journey per customer, more than half of the events.
_BELOW, _FROM = {"one visit": 1.1}, {"mostly {name}": 0.5}

# A trait of `compare_segments`, and whether there is more of it than elsewhere. Names from data stand by themselves or
# after a word that asks for no case: what data say is never inflected.
_WORDS = {
    ("tempo", False): N_("quick"),
    ("tempo", True): N_("slow"),
    ("time_to_goal", False): N_("quick to the goal"),
    ("time_to_goal", True): N_("slow to the goal"),
    ("journeys", True): N_("returning"),
    ("journeys", False): N_("one visit"),
    ("value", True): N_("high value"),
    ("value", False): N_("low value"),
    ("conversion", True): N_("often reach the goal"),
    ("conversion", False): N_("rarely reach the goal"),
    ("channel", True): N_("mostly {name}"),
}


def name_personas(
    profile: pd.DataFrame,
    traits: pd.DataFrame,
    transitions: pd.DataFrame,
    *,
    sizes: Sequence[int],
    unstable: Iterable[int] = (),
) -> list[str]:
    """Which short name tells each persona from the others?

    Its one or two most over-represented events, behind what else marks it clearly: tempo, channel, coming back, value,
    goal. Where nothing stands out, the transition that gives it away most. No name is used twice, and a persona that
    was not found again is only numbered.

    Parameters
    ----------
    profile, transitions : pandas.DataFrame
        From `profile_personas` and `estimate_transitions`.
    traits : pandas.DataFrame
        Tested differences to all others, from `compare_segments`; may be empty.
    sizes : sequence of int
        Customers of each persona.
    unstable : iterable of int
        Numbers of the personas that are not found again when customers are drawn anew.

    Returns
    -------
    list of str
        One per persona, in their order; in the language of `set_language`.
    """
    names: list[str] = []
    shaky = set(unstable)
    for number, n in enumerate(sizes, start=1):
        if number in shaky:
            choices = [_("persona {number} (unstable)", number=number)]
        elif n == 0 or len(sizes) == 1:
            choices = [_("everyone") if n else _("nobody")]
        else:
            choices = _find_names(profile, traits, transitions, number)
        numbered = (f"{choices[0]} ({i})" for i in count(number))
        names.append(next(name for name in chain(choices, numbered) if name not in names))
    return names


def _find_names(profile: pd.DataFrame, traits: pd.DataFrame, transitions: pd.DataFrame, number: int) -> list[str]:
    """Names that would fit a persona, the best first."""
    own = profile[(profile["persona"] == number) & (profile["effect"] >= _LEAST_EFFECT)]
    events = own["event"][own["effect"] >= own["effect"].max() / 2].tolist()
    words = _find_qualities(traits, number, own["effect"].max() / 2 if events else 0.0)
    if not events and not words:
        events = [_find_strongest_move(transitions, number)]
    n_events = min(2, len(events))
    n_words = min(_LONGEST - n_events, len(words))
    lengths = [(n_events, n_words)]
    lengths += [(length, n_words) for length in range(n_events + 1, len(events) + 1)]
    lengths += [(n_events, length) for length in range(n_words + 1, len(words) + 1)]
    return [_join(words[:n_words], events[:n_events]) for n_events, n_words in lengths]


def _join(words: list[str], events: list[str]) -> str:
    said = ", ".join(words)
    return ": ".join(part for part in (said[:1].upper() + said[1:], " · ".join(events)) if part)


def _find_qualities(traits: pd.DataFrame, number: int, least: float) -> list[str]:
    """What beside its events marks a persona clearly, in words, the strongest first?"""
    if traits.empty:
        return []
    is_clear = (traits["p_adjusted"] < _P) & (traits["effect"].abs() >= max(least, _LEAST_QUALITY))
    own = traits[(traits["segment"] == number) & is_clear & ~traits["is_small"].astype(bool)]
    own = own.iloc[np.argsort(-own["effect"].abs().to_numpy(), kind="stable")]
    found = []
    for row in own.to_dict("records"):
        word = _WORDS.get((row["kind"], bool(row["effect"] > 0)))
        if word is not None and row["value"] < _BELOW.get(word, np.inf) and row["value"] >= _FROM.get(word, -np.inf):
            found.append(_(word, name=row["trait"]))
    return found


def _find_strongest_move(transitions: pd.DataFrame, number: int) -> str:
    """The move by which most of a persona's journeys differ from what all customers do (a log-likelihood ratio)."""
    sides = transitions[["event", "next_event"]]
    made = pd.DataFrame({"before": pd.factorize(sides["event"])[0], "after": pd.factorize(sides["next_event"])[0]})
    made = made.assign(persona=transitions["persona"], n=transitions["n"])
    rate = made["n"] / made.groupby(["persona", "before"])["n"].transform("sum")
    n_all = made.groupby(["before", "after"])["n"].transform("sum")
    rate_all = n_all / made.groupby("before")["n"].transform("sum")
    own = (made["persona"] == number) & (made["n"] > 0)
    gain = made["n"][own] * np.log(rate[own] / rate_all[own])
    before, after = sides.loc[gain.idxmax()]
    return " → ".join((_("start") if before is None else before, _("end") if after is None else after))


def rename_personas(personas: Personas, names: Mapping[int, str]) -> Personas:
    """Which names do you give the personas? A copy with these; all others keep theirs.

    Parameters
    ----------
    personas : Personas
    names : mapping
        Number of a persona → its name, such as ``{1: "Bargain hunters"}``.

    Raises
    ------
    RuleError
        If a number is not one of the personas, a name is empty or used twice, or a persona was not found again when
        customers were drawn anew: a name would make it look as if it were there. All at once.
    """
    own = dict(zip(personas.summary["persona"].tolist(), personas.summary["name"].tolist(), strict=True))
    given = {number: name.strip() if isinstance(name, str) else name for number, name in names.items()}
    problems = [_say_unknown(number, own) for number in given if number not in own]
    problems += [f"the name of {n} is {name!r}; give a text" for n, name in given.items() if not _is_name(name)]
    unstable = find_unstable(personas.stability)
    problems += [
        f"persona {number} is not stable: customers drawn anew do not make it again, so it has a number and no name"
        for number in given
        if number in unstable
    ]
    renamed = own | {number: name for number, name in given.items() if number in own}
    for name in sorted({name for name in given.values() if _is_name(name)}):
        numbers = [str(number) for number, other in renamed.items() if other == name]
        if len(numbers) > 1:
            problems.append(f'personas {" and ".join(numbers)} would both be called "{name}"')
    if problems:
        raise RuleError(f"rename_personas: {'; '.join(problems)}")
    summary = personas.summary.assign(name=[renamed[number] for number in personas.summary["persona"]])
    return replace(personas, summary=summary)


def find_unstable(stability: pd.DataFrame | None) -> set[int]:
    """Which personas are not found again when customers are drawn anew? Nobody knows where that was not tried."""
    return set() if stability is None else set(stability["persona"][~stability["is_stable"].astype(bool)].tolist())


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


def _say_unknown(number: object, own: Mapping[int, str]) -> str:
    known = ", ".join(f"{n} ({name})" for n, name in own.items())
    hint = nearest(number, own.values()) if isinstance(number, str) else ""
    return f"{number!r} is no persona's number; they are {known}.{hint}"
