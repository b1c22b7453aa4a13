"""What the demo shop is like: its customers, what they do, and what is planted. Plain tables, read by `demo`."""

from __future__ import annotations

import numpy as np
import pandas as pd

Weights = dict[str, dict[str, int]]  # from event, to event, weight out of the row's sum

FIRST_DAY, LAST_DAY = "2026-08-01", "2026-10-31"
DAY_MS = 86_400_000
START_DAY = int(np.datetime64(FIRST_DAY, "D").astype(np.int64))
END_DAY = int(np.datetime64(LAST_DAY, "D").astype(np.int64)) + 1
IN_CHARACTER = 80  # parts of a persona's own habits for one part of each of the five: 95 % in character
MAX_STEPS = 60  # a journey of the demo is not longer
SHARE_OWN_APP = 0.42  # customers whose usual channel is the app
SHARE_KEEP_CHANNEL = 0.92  # visits made in the customer's usual channel
SHARE_COME_BACK = 0.5  # customers who start a second journey weeks after the first
MIN_CUSTOMERS = 500  # fewer leave no room for every dirty row and for a funnel by channel

# Out of 100 payments begun: how many end in payment_error. The planted cause of the drop-off.
PAYMENT_FAILS = {"web": 6, "app": 42}
PAYMENT_EVENTS = ("payment", "payment_error", "payment_done")
PERSONA_SHARES = {
    "decisive_buyer": 34,
    "careful_comparer": 24,
    "deal_hunter": 18,
    "window_shopper": 14,
    "store_goer": 10,
}

# What everybody does; a persona's own rows (HABITS) replace these. Each row sums to 100.
COMMON: Weights = {
    "ad_click": {"product": 56, "catalog": 34, "end": 10},
    "email_open": {"email_click": 60, "email_open": 10, "end": 30},
    "email_click": {"catalog": 55, "product": 45},
    "push_open": {"catalog": 70, "product": 30},
    "newsletter_signup": {"catalog": 60, "email_open": 30, "end": 10},
    "home": {"catalog": 60, "search": 40},
    "search": {"catalog": 55, "product": 45},
    "coupon": {"checkout": 80, "cart": 20},
    "checkout": {"delivery_choice": 90, "cart": 4, "end": 6},
    "delivery_choice": {"payment": 92, "checkout": 3, "end": 5},
    "payment_done": {"order_tracking": 46, "survey_answer": 12, "return_request": 4, "home": 12, "end": 26},
    "order_tracking": {
        "order_tracking": 16,
        "survey_answer": 14,
        "return_request": 6,
        "call": 3,
        "home": 15,
        "end": 46,
    },
    "return_request": {"call": 14, "complaint": 10, "survey_answer": 16, "home": 10, "end": 50},
    "complaint": {"call": 20, "survey_answer": 24, "home": 6, "end": 50},
    "call": {"complaint": 14, "survey_answer": 16, "order_tracking": 10, "home": 10, "end": 50},
    "survey_answer": {"home": 20, "end": 80},
    "account": {"order_tracking": 40, "home": 30, "end": 30},
    "store_visit": {"store_purchase": 40, "home": 24, "end": 36},
    "store_purchase": {"survey_answer": 14, "return_request": 6, "store_visit": 20, "end": 60},
}
AFTER_ERROR: Weights = {
    "web": {"payment": 74, "call": 6, "complaint": 4, "end": 16},
    "app": {"payment": 14, "call": 12, "complaint": 14, "survey_answer": 10, "end": 50},
}
HABITS: dict[str, Weights] = {
    "decisive_buyer": {  # knows what to buy: search, product, cart, pay
        "start": {"search": 62, "ad_click": 24, "home": 14},
        "home": {"search": 75, "catalog": 25},
        "search": {"catalog": 48, "product": 46, "search": 6},
        "catalog": {"product": 86, "search": 10, "end": 4},
        "product": {"cart": 72, "search": 18, "end": 10},
        "cart": {"checkout": 84, "search": 8, "end": 8},
        "payment_done": {"order_tracking": 46, "survey_answer": 12, "home": 20, "return_request": 4, "end": 18},
    },
    "careful_comparer": {  # product, compare, reviews, product again; buys late
        "start": {"search": 34, "home": 42, "ad_click": 24},
        "home": {"catalog": 80, "search": 20},
        "catalog": {"product": 72, "compare": 22, "end": 6},
        "product": {"compare": 46, "reviews": 36, "wishlist": 12, "end": 6},
        "compare": {"reviews": 38, "product": 46, "cart": 12, "end": 4},
        "reviews": {"compare": 32, "product": 32, "cart": 28, "end": 8},
        "wishlist": {"home": 62, "compare": 20, "end": 18},
        "cart": {"checkout": 60, "reviews": 20, "compare": 10, "end": 10},
    },
    "deal_hunter": {  # comes by e-mail or push, hardly ever pays without a coupon
        "start": {"email_open": 56, "push_open": 18, "newsletter_signup": 14, "ad_click": 12},
        "email_open": {"email_click": 78, "email_open": 12, "end": 10},
        "email_click": {"catalog": 76, "product": 24},
        "catalog": {"product": 62, "catalog": 22, "email_open": 10, "end": 6},
        "product": {"cart": 52, "catalog": 24, "email_open": 14, "end": 10},
        "cart": {"coupon": 76, "email_open": 16, "end": 8},
        "coupon": {"checkout": 66, "catalog": 14, "email_open": 12, "end": 8},
        "payment_done": {"email_open": 46, "order_tracking": 24, "survey_answer": 8, "end": 22},
    },
    "window_shopper": {  # catalog, product, catalog, product; hardly ever a cart
        "start": {"home": 70, "ad_click": 20, "push_open": 10},
        "home": {"catalog": 90, "search": 10},
        "catalog": {"product": 62, "catalog": 28, "end": 10},
        "product": {"catalog": 62, "product": 8, "wishlist": 14, "home": 8, "cart": 3, "end": 5},
        "wishlist": {"catalog": 58, "home": 26, "end": 16},
        "cart": {"catalog": 50, "checkout": 22, "end": 28},
    },
    "store_goer": {  # looks things up, buys in the store, asks for service
        "start": {"store_visit": 32, "search": 32, "home": 26, "call": 10},
        "home": {"search": 40, "account": 36, "catalog": 24},
        "search": {"product": 70, "catalog": 20, "store_visit": 10},
        "catalog": {"product": 80, "store_visit": 14, "end": 6},
        "product": {"store_visit": 58, "search": 18, "cart": 6, "call": 10, "end": 8},
        "cart": {"checkout": 50, "store_visit": 36, "end": 14},
        "store_visit": {"store_purchase": 56, "search": 22, "store_visit": 12, "end": 10},
        "store_purchase": {"account": 26, "store_visit": 28, "return_request": 12, "survey_answer": 12, "end": 22},
        "account": {"search": 26, "store_visit": 38, "call": 18, "end": 18},
        "return_request": {"store_visit": 44, "call": 28, "complaint": 12, "end": 16},
        "call": {"store_visit": 38, "complaint": 16, "survey_answer": 12, "account": 16, "end": 18},
    },
}
EVENTS = tuple(
    sorted({*COMMON, *(row for rows in HABITS.values() for row in rows), "payment", "payment_error"} - {"start"})
)
CODE = {event: code for code, event in enumerate(EVENTS)} | {"start": len(EVENTS), "end": len(EVENTS)}
START = END = len(EVENTS)  # as a row of the chains: start; as a column: end

# Quantiles at 0, 20, 40, 60, 80 and 100 %, linear between. Seconds since the event before …
CLICK_S = (2, 9, 20, 38, 80, 600)
WAITS_S = {
    "payment": (15, 30, 45, 70, 120, 500),
    "store_purchase": (240, 600, 900, 1400, 2400, 5400),
    "call": (120, 900, 2700, 7200, 20000, 60000),
    "complaint": (120, 600, 1500, 4000, 12000, 50000),
}
# … or whole days: these events begin a visit (True) or happen outside one. All stay under the journey gap of 30 days.
VISIT_DAYS = (1, 2, 3, 5, 9, 20)
WAITS_DAYS: dict[str, tuple[tuple[int, ...], bool]] = {
    **dict.fromkeys(("home", "ad_click", "email_open", "push_open", "store_visit"), (VISIT_DAYS, True)),
    "order_tracking": ((1, 1, 1, 2, 3, 5), False),
    "survey_answer": ((1, 1, 2, 3, 5, 8), False),
    "return_request": ((3, 5, 7, 9, 12, 15), False),
}
ONLINE_H = (4, 8.2, 11.5, 15.4, 18.6, 22.6)  # hours of the day in UTC at which visits begin
STORE_H = (7.1, 10, 12.2, 14.2, 15.9, 18.2)
ORDER_EUR = (9, 28, 49, 83, 140, 620)
ARRIVALS_BY_WEEKDAY = (11, 10, 10, 11, 13, 16, 18)  # Monday first
PLACES = {  # events that do not belong to the visit's own channel
    "ad_click": "ads",
    **dict.fromkeys(("email_open", "email_click", "survey_answer"), "email"),
    **dict.fromkeys(("store_visit", "store_purchase"), "store"),
    "call": "call_centre",
}
CAMPAIGNS = {  # August, September, October; the last runs all the time
    "ad_click": ("summer_sale", "back_to_school", "autumn_collection", "brand_search"),
    "email": ("newsletter_august", "newsletter_september", "newsletter_october", "loyalty_club"),
    "push_open": ("flash_sale_august", "flash_sale_september", "flash_sale_october", "back_in_stock"),
}
# Weights of the scores 0 to 10 (likelihood to recommend) by what the customer has been through in the journey.
CALM, TROUBLED, PAYMENT_FAILED = 0, 1, 2
SCORES = {
    CALM: (1, 0, 1, 1, 1, 3, 5, 14, 24, 28, 22),
    TROUBLED: (12, 9, 12, 14, 14, 15, 10, 7, 4, 2, 1),
    PAYMENT_FAILED: (24, 16, 18, 17, 13, 8, 4, 0, 0, 0, 0),
}
LANGUAGE_SHARES = {"pl": 60, "en": 25, "ru": 15}
SHARE_WITH_COMMENT = 0.6

DIRTY_CUSTOMERS = 250
DEFECTS = {  # rows of events_dirty.csv; a spoiled row has one defect only
    "null_customer_ids": 25,
    "null_events": 15,
    "null_timestamps": 10,
    "unparseable_timestamps": 12,
    "timestamps_1970": 18,
    "naive_timestamps": 200,
    "script_events": 3,
    "cyrillic_events": 5,
    "exact_duplicates": 60,
}
SUMMER_TIME_ENDS = pd.Timestamp("2026-10-25T01:00")  # in Warsaw, given in UTC
POLISH = ("klient", "zdarzenie", "czas", "kanal", "urzadzenie", "kampania", "kwota", "ocena", "komentarz")
