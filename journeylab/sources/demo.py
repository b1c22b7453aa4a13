"""A synthetic shop with everything planted that journeylab is meant to find; no customer in it is real.

The shop sells on the web, in an app and in stores, sends e-mails, buys ads and runs a call centre. Five personas use
the same events in different order: each is a first-order Markov chain (`HABITS`), so who a customer is lies in the
order of the events. In the app, paying fails far more often than on the web (`PAYMENT_FAILS`), and most of those
customers leave, call or complain. Arrivals are spread over three months, so the last customers are still on their way
when the log ends.

Only uniform draws and whole or linear arithmetic are used (no logarithms, no normal draws), so that the same seed gives
the same bytes on any machine. The tables that describe the shop are in `demo_shop`, what its customers say in
`demo_texts`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.errors import RuleError
from journeylab.sources.demo_shop import (
    AFTER_ERROR,
    ARRIVALS_BY_WEEKDAY,
    CALM,
    CAMPAIGNS,
    CLICK_S,
    CODE,
    COMMON,
    DAY_MS,
    DEFECTS,
    DIRTY_CUSTOMERS,
    END,
    END_DAY,
    EVENTS,
    FIRST_DAY,
    HABITS,
    IN_CHARACTER,
    LANGUAGE_SHARES,
    LAST_DAY,
    MAX_STEPS,
    MIN_CUSTOMERS,
    ONLINE_H,
    ORDER_EUR,
    PAYMENT_EVENTS,
    PAYMENT_FAILED,
    PAYMENT_FAILS,
    PERSONA_SHARES,
    PLACES,
    POLISH,
    SCORES,
    SHARE_COME_BACK,
    SHARE_KEEP_CHANNEL,
    SHARE_OWN_APP,
    SHARE_WITH_COMMENT,
    START,
    START_DAY,
    STORE_H,
    SUMMER_TIME_ENDS,
    TROUBLED,
    VISIT_DAYS,
    WAITS_DAYS,
    WAITS_S,
)
from journeylab.sources.demo_texts import TEXTS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def write_demo(folder: str | Path, *, n_customers: int = 20_000, seed: int = 7) -> dict[str, Path]:
    """Write three months of a synthetic shop, its planted truth, and a badly exported copy of a part of it.

    With the defaults some 250,000 events of 20,000 customers from 2026-08-01 to 2026-10-31 UTC. The cut under
    `data/demo` is `write_demo("data/demo", n_customers=1_500)`.

    Parameters
    ----------
    folder
        Made if it is not there. Each file is written beside its place and then moved, so none is ever half there.
    n_customers
        At least 500.
    seed
        The same seed gives the same bytes.

    Returns
    -------
    dict of str to Path
        `events`, `events_dirty`, `personas` and `truth`:

        events.csv
            One row per event by time: customer_id, event, timestamp (UTC, milliseconds), channel (web, app, email, ads,
            store, call_centre), device (mobile, desktop, tablet; empty in stores and on the phone), campaign (on ad,
            e-mail and push events), value (EUR, on payment_done and store_purchase), score (0-10, likelihood to
            recommend, on survey_answer) and text (comments and complaints in Polish, English or Russian).
        events_dirty.csv
            The events of 250 of these customers as a bad export: `;` between columns with Polish names, UTF-8 with a
            byte order mark, duplicates, nulls, timestamps with and without offset, ids that a spreadsheet destroyed.
        personas.csv
            customer_id and persona: the planted truth.
        truth.toml
            Sizes, shares of the personas, the planted drop-off, the customers whose journey the end of the log cut off,
            and the count of each defect in events_dirty.csv.

    Raises
    ------
    RuleError
        When `n_customers` is under 500.
    """
    if n_customers < MIN_CUSTOMERS:
        raise RuleError(f"n_customers must be at least {MIN_CUSTOMERS}, got {n_customers}; ask for a larger demo.")
    rng = np.random.default_rng(seed)
    customers = _draw_customers(rng, n_customers)
    rows, cut = _walk_journeys(rng, customers)
    events = _describe_events(rng, rows, customers)
    dirty, defects = _spoil(np.random.default_rng([seed, 1]), events)
    personas = pd.DataFrame({"customer_id": customers.index, "persona": np.array([*HABITS])[customers["persona"]]})
    truth = {
        "seed": seed,
        "n_customers": n_customers,
        "n_events": len(events),
        "first_day": FIRST_DAY,
        "last_day": LAST_DAY,
        "n_customers_cut_by_the_end": cut,
        "personas": {name: int((personas["persona"] == name).sum()) for name in HABITS},
        "persona_shares_planted": {name: share / 100 for name, share in PERSONA_SHARES.items()},
        "drop_off": _count_drop_off(events),
        "dirty": defects,
    }
    contents = {
        "events.csv": _to_csv(events),
        "events_dirty.csv": "\ufeff" + _to_csv(dirty, sep=";"),
        "personas.csv": _to_csv(personas),
        "truth.toml": _to_toml(truth),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    return {name.split(".")[0]: _write_whole(Path(folder) / name, content) for name, content in contents.items()}


def _draw_customers(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Who comes, on which day first, and through which channel as a rule; in order of arrival."""
    days = np.arange(START_DAY, END_DAY)
    weights = np.array(ARRIVALS_BY_WEEKDAY)[_weekday(days)]
    customers = pd.DataFrame(
        {
            "persona": _draw(rng.random(n), tuple(PERSONA_SHARES.values())),
            "own_app": rng.random(n) < SHARE_OWN_APP,
            "language": _draw(rng.random(n), tuple(LANGUAGE_SHARES.values())),
            "day": np.sort(days[_draw(rng.random(n), tuple(weights))]),
        }
    )
    customers.index = pd.Index([f"c{number:05d}" for number in range(1, n + 1)], name="customer_id")
    return customers


def _walk_journeys(rng: np.random.Generator, customers: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Walk every customer through one journey, and some through a second, weeks later; rows come back by time.

    Also returns how many customers were on their way when the log ended.
    """
    chains = _build_chains()
    walkers = customers.reset_index(drop=True)[["persona", "own_app", "day"]].rename_axis("customer").reset_index()
    first, n_cut = _walk(rng, chains, walkers)
    last_day = first.groupby("customer")["time"].max() // DAY_MS
    back = walkers.assign(day=walkers["customer"].map(last_day) + 32 + (rng.random(len(walkers)) * 20).astype(np.int64))
    again = rng.random(len(walkers)) < SHARE_COME_BACK
    second, n_cut_again = _walk(rng, chains, back[again & (back["day"] < END_DAY)])
    # One sort key per customer and moment: times never tie within a customer, so the order is complete.
    rows = pd.concat([first, second]).sort_values(["time", "customer"], ignore_index=True)
    return rows, n_cut + n_cut_again


def _build_chains() -> Ints:
    """Cumulative weights by persona, app (0 or 1), from (START last) and to (END last)."""
    own = np.zeros((len(HABITS), 2, len(CODE), len(CODE)), dtype=np.int64)
    for persona, habits in enumerate(HABITS.values()):
        for app, channel in enumerate(("web", "app")):
            fails = PAYMENT_FAILS[channel]
            payment = {"payment": {"payment_error": fails, "payment_done": 98 - fails, "end": 2}}
            rows = {**COMMON, **payment, "payment_error": AFTER_ERROR[channel], **habits}
            for event, weights in rows.items():
                own[persona, app, CODE[event], [CODE[following] for following in weights]] = [*weights.values()]
    chains: Ints = np.cumsum(IN_CHARACTER * own + own.sum(axis=0), axis=-1)
    return chains


def _walk(rng: np.random.Generator, chains: Ints, walkers: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Let each walker make one journey from its `day` on, one event per round for all of them at once."""
    now = walkers.assign(state=START, time=walkers["day"] * DAY_MS, app=False, mood=CALM)
    now = now.assign(visit_day=0, device_draw=0.0, campaign_draw=0.0)
    waits_s = np.array([WAITS_S.get(event, CLICK_S) for event in EVENTS])
    waits_days = np.array([WAITS_DAYS.get(event, (VISIT_DAYS, False))[0] for event in EVENTS])
    by_day = np.array([event in WAITS_DAYS for event in EVENTS])
    begins_visit = np.array([WAITS_DAYS.get(event, ((), False))[1] for event in EVENTS])
    in_store = np.array([event.startswith("store_") for event in EVENTS])
    rows, n_cut = [], 0
    for _ in range(MAX_STEPS):
        draws = rng.random((6, len(now)))
        weights = chains[now["persona"], now["app"].astype(np.int64), now["state"]]
        event = (weights <= np.floor(draws[0] * weights[:, -1])[:, None]).sum(axis=1)
        goes_on = event < END
        now, draws, event = now[goes_on], draws[:, goes_on], event[goes_on]
        is_first = (now["state"] == START).to_numpy()
        time = now["time"].to_numpy()
        day = time // DAY_MS + np.where(is_first, 0, _between(waits_days[event], draws[1])).astype(np.int64)
        day += in_store[event] & (_weekday(day) == 6)  # stores are closed on Sundays
        hour = np.where(in_store[event], _between(STORE_H, draws[2]), _between(ONLINE_H, draws[2]))
        at_hour = day * DAY_MS + (hour * 3_600_000).astype(np.int64)
        soon = time + (_between(waits_s[event], draws[1]) * 1000).astype(np.int64)
        visit = is_first | begins_visit[event]
        now = now.assign(
            state=event,
            time=np.where(is_first | by_day[event], at_hour, soon),
            # A push message is opened in the app, whatever the customer's habit.
            app=np.where(
                visit, (now["own_app"] == (draws[3] < SHARE_KEEP_CHANNEL)) | (event == CODE["push_open"]), now["app"]
            ),
            visit_day=np.where(visit, day, now["visit_day"]),
            device_draw=np.where(visit, draws[4], now["device_draw"]),
            campaign_draw=np.where(visit, draws[5], now["campaign_draw"]),
            mood=_change_mood(now["mood"].to_numpy(), event),
        )
        in_time = now["time"] < END_DAY * DAY_MS
        n_cut += int((~in_time).sum())
        now = now[in_time]
        rows.append(now)
    return pd.concat(rows), n_cut


def _change_mood(mood: Ints, event: Ints) -> Ints:
    """Update what the customer has been through; a purchase heals, a failed payment outweighs the rest."""
    bought = np.isin(event, [CODE["payment_done"], CODE["store_purchase"]])
    troubled = np.isin(event, [CODE["complaint"], CODE["return_request"], CODE["call"]]) & (mood == CALM)
    return np.select([event == CODE["payment_error"], bought, troubled], [PAYMENT_FAILED, CALM, TROUBLED], mood)


def _describe_events(rng: np.random.Generator, rows: pd.DataFrame, customers: pd.DataFrame) -> pd.DataFrame:
    """Turn the walked rows into the columns of the log."""
    event = pd.Series(np.array(EVENTS, dtype=object)[rows["state"]])
    own_channel = pd.Series(np.where(rows["app"], "app", "web"), dtype=object)
    channel = event.map(PLACES).fillna(own_channel)
    # On the web 60 % sit at a desktop; the app runs on phones and tablets.
    device = np.select(
        [
            channel.isin(["store", "call_centre"]),
            (rows["device_draw"] < 0.6) & ~rows["app"],
            rows["device_draw"] < 0.93,
        ],
        ["", "desktop", "mobile"],
        "tablet",
    )
    bought = event.isin(["payment_done", "store_purchase"])
    score, text = _ask(rng, rows, event, customers)
    return pd.DataFrame(
        {
            "customer_id": customers.index.to_numpy()[rows["customer"]],
            "event": event,
            "timestamp": np.datetime_as_string(rows["time"].to_numpy().astype("datetime64[ms]"), unit="ms"),
            "channel": channel,
            "device": device,
            "campaign": _name_campaigns(rows, event),
            "value": np.where(bought, np.floor(_between(ORDER_EUR, rng.random(len(rows))) * 100) / 100, np.nan),
            "score": score,
            "text": text,
        }
    ).assign(timestamp=lambda frame: frame["timestamp"] + "Z")


def _name_campaigns(rows: pd.DataFrame, event: pd.Series[str]) -> pd.Series[str]:
    """Name the campaign of ad, e-mail and push events; one visit keeps its campaign."""
    month = rows["visit_day"].to_numpy().astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 - 7
    index = np.where(rows["campaign_draw"] < 0.7, month, 3)
    campaign = pd.Series("", index=event.index, dtype=object)
    for kind, names in CAMPAIGNS.items():
        touched = event.isin(["email_open", "email_click"]) if kind == "email" else event == kind
        campaign[touched] = np.array(names, dtype=object)[index[touched]]
    return campaign


def _ask(
    rng: np.random.Generator, rows: pd.DataFrame, event: pd.Series[str], customers: pd.DataFrame
) -> tuple[pd.Series[int], pd.Series[str]]:
    """Score and comment of each survey answer, and the text of each complaint, in the customer's language."""
    spoken = np.flatnonzero(event.isin(["survey_answer", "complaint"]))
    draws = rng.random((3, len(spoken)))
    mood = rows["mood"].to_numpy()[spoken]
    is_answer = (event.to_numpy() == "survey_answer")[spoken]
    scores = np.select([mood == kind for kind in SCORES], [_draw(draws[0], weights) for weights in SCORES.values()])
    kinds = np.select(
        [mood == PAYMENT_FAILED, ~is_answer, scores >= 9, scores >= 7], ["payment", "complaint", "good", "fair"], "bad"
    )
    languages = np.array([*LANGUAGE_SHARES])[customers["language"].to_numpy()[rows["customer"].to_numpy()[spoken]]]
    choices = [TEXTS[language][kind] for language, kind in zip(languages, kinds, strict=True)]
    texts = pd.Series(
        [texts[int(draw * len(texts))] for texts, draw in zip(choices, draws[2], strict=True)], index=spoken
    )
    texts = texts[~is_answer | (draws[1] < SHARE_WITH_COMMENT)]
    score = pd.Series(scores[is_answer], index=spoken[is_answer], dtype="Int64")
    return score.reindex(event.index), texts.reindex(event.index)


def _spoil(rng: np.random.Generator, events: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Export some customers' events badly and count what was done to them."""
    ids = events["customer_id"].drop_duplicates().to_numpy()
    chosen = ids[_shuffle(rng, len(ids))[:DIRTY_CUSTOMERS]]
    dirty = events[events["customer_id"].isin(chosen)].reset_index(drop=True)
    # A spreadsheet keeps 15 digits of a long number: two customers become one, for good.
    new_ids = dict(zip(chosen[:5], ("1.22158E+17", "1.22158E+17", "9.0072E+15", "NA", "007"), strict=True))
    whole = np.flatnonzero(~dirty["customer_id"].isin([*new_ids]))
    dirty["customer_id"] = dirty["customer_id"].replace(new_ids)
    local, offset = _to_warsaw(dirty["timestamp"])
    dirty["timestamp"] = local + offset

    ends = np.cumsum([*DEFECTS.values()])
    parts = np.split(whole[_shuffle(rng, len(whole))[: ends[-1]]], ends[:-1])
    rows = dict(zip(DEFECTS, parts, strict=True))
    wrong_times = np.resize(
        np.array(["yesterday", "31.02.2026 25:61", "b.d.", "0000-00-00 00:00:00"]), len(rows["unparseable_timestamps"])
    )
    for defect, column, value in (
        ("null_customer_ids", "customer_id", ""),
        ("null_events", "event", ""),
        ("null_timestamps", "timestamp", ""),
        ("unparseable_timestamps", "timestamp", wrong_times),
        ("timestamps_1970", "timestamp", "1970-01-01T01:00:00.000+01:00"),
        ("naive_timestamps", "timestamp", local[rows["naive_timestamps"]]),
        ("script_events", "event", "<script>alert(1)</script>"),
        ("cyrillic_events", "event", "корзина"),
    ):
        dirty.loc[rows[defect], column] = value
    dirty = pd.concat([dirty, dirty.loc[np.sort(rows["exact_duplicates"])]], ignore_index=True)
    id_rows = dirty["customer_id"].value_counts()
    counts = {
        "n_rows": len(dirty),
        **DEFECTS,
        # Rows with the same wrong timestamp may turn out equal too.
        "exact_duplicates": int(dirty.duplicated().sum()),
        "damaged_ids": 2,
        "damaged_id_rows": int(id_rows["1.22158E+17"] + id_rows["9.0072E+15"]),
        "id_NA_rows": int(id_rows["NA"]),
        "id_007_rows": int(id_rows["007"]),
    }
    return dirty.set_axis([*POLISH], axis=1), counts


def _to_warsaw(timestamp: pd.Series[str]) -> tuple[pd.Series[str], pd.Series[str]]:
    """Write UTC moments as the wall clock in Warsaw, and its offset."""
    moment = pd.to_datetime(timestamp).dt.tz_localize(None)
    hours = np.where(moment < SUMMER_TIME_ENDS, 2, 1)
    local = (moment + pd.to_timedelta(hours, unit="h")).to_numpy().astype("datetime64[ms]")
    text = pd.Series(np.datetime_as_string(local, unit="ms"), index=timestamp.index, dtype=object)
    return text, pd.Series(hours, index=timestamp.index).map({2: "+02:00", 1: "+01:00"})


def _count_drop_off(events: pd.DataFrame) -> dict[str, str | int | float]:
    """Say what was planted at the payment, and count how often it then happened: events, not customers."""
    counts = events.groupby(["channel", "event"]).size()
    return {
        "step": "payment",
        "next_step": "payment_done",
        "channel": "app",
        **{f"share_failing_{channel}_planted": share / 100 for channel, share in PAYMENT_FAILS.items()},
        **{
            f"n_{event}_{channel}": int(counts.get((channel, event), 0))
            for channel in PAYMENT_FAILS
            for event in PAYMENT_EVENTS
        },
    }


def _between(knots: npt.ArrayLike, draw: Floats) -> Floats:
    """Read quantiles, given at 0, 20, … 100 %, at uniform draws; one row of knots for all draws or one for each."""
    table = np.asarray(knots, dtype=np.float64)
    table = table if table.ndim == 2 else np.broadcast_to(table, (len(draw), len(table)))
    part = np.floor(draw * 5).astype(np.int64)
    rows = np.arange(len(draw))
    low, high = table[rows, part], table[rows, part + 1]
    return low + (high - low) * (draw * 5 - part)


def _draw(draw: Floats, weights: tuple[int, ...]) -> Ints:
    """Pick an index by whole weights for each uniform draw."""
    ends = np.cumsum(weights)
    picked: Ints = np.searchsorted(ends, np.floor(draw * ends[-1]), side="right")
    return picked


def _shuffle(rng: np.random.Generator, n: int) -> Ints:
    return np.argsort(rng.random(n), kind="stable")


def _weekday(day: Ints) -> Ints:
    """Monday is 0; 1970-01-01, day 0, was a Thursday."""
    return (day + 3) % 7


def _to_csv(frame: pd.DataFrame, *, sep: str = ",") -> str:
    return frame.to_csv(index=False, sep=sep, lineterminator="\n", float_format="%.2f")


def _to_toml(truth: dict[str, Any]) -> str:
    """Write plain values first, then one table for each nested dict; values are numbers and plain strings only."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in truth.items() if not isinstance(value, dict)]
    for name, table in truth.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])


def _write_whole(path: Path, content: str) -> Path:
    """Write beside the place, then move: a reader sees the old file or the new one, never a half."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
