"""Which real journey is in the middle of each persona?"""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd

_MOST_JOURNEYS = 1_000
_COLUMNS = ("persona", "n_events", "journey", "n_same")
# A prime below 2**31: the product of two remainders fits into 64 bits.
_PRIME = 2_147_483_629


def find_typical(steps: ibis.Table, journeys: ibis.Table, members: ibis.Table, *, seed: int = 0) -> pd.DataFrame:
    """Which journey, that somebody really made, is nearest to all others of its persona?

    The medoid: its mean Indel distance (insertions and deletions, divided by the length of both journeys together) to
    the persona's journeys is the smallest. Of more than 1,000 journeys, evenly spaced ones are looked at, in an order
    by content that no name can change. Only journeys that have ended count, unless none of the persona's has. Equally
    near are decided by how often they occur, then the shorter wins.

    Parameters
    ----------
    steps, journeys : ibis.Table
        From `build_steps` and `build_journeys`.
    members : ibis.Table
        customer_id, persona; in the same database.
    seed : int
        From 0; where the spacing begins.

    Returns
    -------
    pandas.DataFrame
        One row per persona that has customers: persona, n_events, journey (its events, a tuple), n_same (customers of
        the persona with exactly this journey). No id leaves the engine.
    """
    seen = _watch(steps, journeys, members)
    drawn = _draw(seen, seed)
    rows: pd.DataFrame = (
        seen.join(drawn, "journey_id")
        .select("persona", "place", "step", "event")
        .order_by("persona", "place", "step")
        .execute()
    )
    sample = rows.groupby(["persona", "place"])["event"].agg(tuple).reset_index()
    found = [{"persona": persona, "journey": _find_medoid(own)} for persona, own in sample.groupby("persona")["event"]]
    table = pd.DataFrame(found, columns=["persona", "journey"])
    table["n_events"] = table["journey"].map(len).astype("int64")
    return table.assign(n_same=_count_same(seen, table))[list(_COLUMNS)]


def _watch(steps: ibis.Table, journeys: ibis.Table, members: ibis.Table) -> ibis.Table:
    """The steps of each persona's journeys that have ended, or of all where none has."""
    fates = journeys.select("journey_id", "customer_id", "n_steps", is_open=journeys.is_open.cast("int64"))
    fates = fates.join(members.select("customer_id", "persona"), "customer_id")
    fates = fates.mutate(looked_at=fates.is_open.min().over(ibis.window(group_by="persona")))
    fates = fates.filter(fates.is_open == fates.looked_at).select("journey_id", "n_steps", "persona")
    seen = steps.select("customer_id", "journey_id", "event", "step").join(fates, "journey_id")
    return seen.filter(seen.step <= seen.n_steps)


def _draw(seen: ibis.Table, seed: int) -> ibis.Table:
    """Evenly spaced journeys of each persona, in an order that only depends on what happened: journey_id, place.

    An event is known by how often it occurs and where, a journey by a sum that mixes its events with their steps.
    Journeys of one sum are alike in all but the rarest cases, so that their ids, which come next, change nothing.
    """
    events = seen.group_by("event").agg(n=seen.count(), total=seen.step.sum(), late=seen.n_steps.sum())
    codes = events.select("event", code=(events.n * 1_000_003 + events.total * 7_919 + events.late) % _PRIME)
    coded = seen.join(codes, "event")
    mixed = coded.code * ((coded.step * 40_503 + coded.step * coded.step * 30_011) % _PRIME) % _PRIME
    keyed = coded.mutate(mixed=mixed).group_by("persona", "journey_id").agg(key=lambda rows: rows.mixed.sum())
    persona = ibis.window(group_by="persona")
    ranked = keyed.mutate(
        place=ibis.row_number().over(ibis.window(group_by="persona", order_by=["key", "journey_id"])),
        n=keyed.journey_id.count().over(persona),
    )
    spacing = (ranked.n + _MOST_JOURNEYS - 1) // _MOST_JOURNEYS
    return ranked.filter((ranked.place + seed) % spacing == 0).select("journey_id", "place")


def _find_medoid(journeys: pd.Series) -> tuple[str, ...]:
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    counted = journeys.value_counts(sort=False)  # in order of appearance
    distinct, weights = list(counted.index), counted.to_numpy()
    letters: dict[str, str] = {}
    for event in (event for journey in distinct for event in journey):
        letters.setdefault(event, _letter(len(letters)))
    texts = ["".join(letters[event] for event in journey) for journey in distinct]
    lengths = np.array([len(text) for text in texts])
    distance = cdist(texts, texts, scorer=Indel.distance, dtype=np.int32) / (lengths[:, None] + lengths)
    # rounded, for what is equally near may differ in the last digit
    mean = (distance @ weights / weights.sum()).round(12)
    medoid: tuple[str, ...] = distinct[np.lexsort((lengths, -weights, mean))[0]]
    return medoid


def _letter(place: int) -> str:
    return chr(place if place < 0xD800 else place + 0x800)  # what lies between are no letters but halves of some


def _count_same(seen: ibis.Table, typical: pd.DataFrame) -> pd.Series:
    """How many customers of the persona have exactly its typical journey?"""
    if typical.empty:
        return pd.Series(dtype="int64")
    wanted = typical[["persona", "n_events", "journey"]].explode("journey", ignore_index=True)
    wanted["step"] = wanted.groupby("persona").cumcount() + 1
    texts = wanted.rename(columns={"journey": "event", "n_events": "n_steps"}).astype({"event": "str"})
    matching = seen.join(ibis.memtable(texts), ["persona", "n_steps", "step", "event"])
    whole = matching.group_by("persona", "journey_id", "customer_id", "n_steps").agg(n=matching.count())
    whole = whole.filter(whole.n == whole.n_steps)
    counted: pd.DataFrame = whole.group_by("persona").agg(n=whole.customer_id.nunique()).execute()
    same: pd.Series = typical["persona"].map(counted.set_index("persona")["n"])
    return same.astype("int64")
