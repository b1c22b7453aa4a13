"""The pictures of our own: structure and text, not pixels."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pandas as pd
import pytest

from journeylab.cards import draw_personas
from journeylab.errors import ReportError, RuleError
from journeylab.language import use_language
from journeylab.picture import HEAT, HEAT_TEXT_TURNS, PALETTE, Picture, clean, colour_of, colours_of, fit, shorten
from journeylab.picture import text_width as width_of
from journeylab.svg_flow import draw_flow
from journeylab.svg_funnel import draw_funnel

FIVE = ("catalog", "product", "cart", "payment", "done")
FORTY = tuple(
    f"{verb}_{thing}_number_{i}" for i in range(10) for verb in ("view", "click") for thing in ("item", "page")
)
HOSTILE = (
    "<script>alert(1)</script>",
    "$x_1$",
    "\"quotes'",
    "Оплата заказа",
    "\u202eevil\u200f",
    "two\nlines\x00",
    "x" * 10_000,
    "_private",
    "עגלת קניות",
    "--> & </svg>",
)


def make_funnel(labels=FIVE, groups=(None,), start=1000, by="channel", within="7D"):
    """A funnel in which, at each step, 60 % go on, 10 % are still on the way and the rest is lost."""
    rows = []
    for g, group in enumerate(groups):
        n = start - 100 * g
        first = previous = n
        for step, label in enumerate(labels, 1):
            following = int(n * 0.6) if step < len(labels) else n
            still = int(n * 0.1) if step < len(labels) else 0
            share = n / first if first else math.nan
            row = {"step": step, "label": label, "n": n, "share_of_start": share}
            row |= {"share_of_previous": n / previous if previous and step > 1 else math.nan}
            row |= {"low": share * 0.95, "high": min(1.0, share * 1.05)}
            row |= {"n_lost": n - following - still, "n_open": still, "n_mature": first, "conversion_mature": share}
            row |= {"mature_low": share * 0.9, "mature_high": min(1.0, share * 1.1)}
            row |= {"median_time_s": math.nan if step == 1 else 81.0 * step}
            rows.append(row if group is None else {by: group, **row})
            previous, n = n, following
    rules = SimpleNamespace(steps=labels, within=within, unit="customer")
    by = () if groups == (None,) else (by,)
    return SimpleNamespace(
        rules=rules, by=by, as_of=pd.Timestamp("2026-11-01"), labels=labels, table=pd.DataFrame(rows)
    )


def make_flows(events=FIVE, max_step=5):
    """Of every three journeys at an event one stays, one takes the next event, one ends."""
    rows = []
    here = {event: 3**max_step * (len(events) - i) for i, event in enumerate(events)}
    for step in range(1, max_step):
        there = {}
        for i, event in enumerate(events):
            for following in (event, events[(i + 1) % len(events)], None):
                n = here.get(event, 0) // 3
                rows.append((step, event, following, n))
                if following is not None:
                    there[following] = there.get(following, 0) + n
        here = there
    return pd.DataFrame(rows, columns=["step", "event", "next_event", "n"])


NOTHING_MORE = {"traits": pd.DataFrame(), "medoids": pd.DataFrame(), "stability": None, "verdict": None, "stated": None}


def make_personas(events=FIVE, names=("loyal · buyers", "browsers")):
    n = [700, 300]
    summary = pd.DataFrame(
        {
            "persona": [1, 2],
            "name": names,
            "n": n,
            "share": [0.7, 0.3],
            "low": [0.67, 0.27],
            "high": [0.73, 0.33],
            "n_events_median": [12.0, 3.0],
            "n_journeys_mean": [2.25, 1.0],
            "conversion": [0.5, math.nan],
            "conversion_low": [0.46, math.nan],
            "conversion_high": [0.54, math.nan],
            "top_events": [", ".join(events[:2]), ""],
        }
    )
    rows = [
        (persona, event, 0.3, 0.2, 0.1 * sign, sign * (0.9 - 0.1 * i))
        for persona, sign in ((1, 1), (2, -1))
        for i, event in enumerate(events)
    ]
    profile = pd.DataFrame(rows, columns=["persona", "event", "share", "share_elsewhere", "difference", "effect"])
    return SimpleNamespace(summary=summary, profile=profile, **NOTHING_MORE)


def all_pictures(events):
    yield draw_funnel(make_funnel(events))
    yield draw_funnel(make_funnel(events[:2], groups=events[:10]))
    yield draw_flow(make_flows(events))
    yield draw_personas(make_personas(events, names=events[:2]))


def parse(picture):
    root = ElementTree.fromstring(picture.html)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element):
    """What is written; a tooltip is not."""
    inner = "".join(text_of(child) + (child.tail or "") for child in element if child.tag != "title")
    return (element.text or "") + inner


def boxes(root):
    """Left, right, baseline, size and text of each label, from the coordinates that we place."""
    sizes = {"h": 16, "s": 12, "halo": 12}
    for element in root.iter("text"):
        classes, text = element.get("class", "").split(), text_of(element)
        size = max((sizes[name] for name in classes if name in sizes), default=13)
        x, width = float(element.get("x")), width_of(text, size)
        left = x - width if "e" in classes else x
        yield left, left + width, float(element.get("y")), size, text


def overlaps(root):
    labels = [box for box in boxes(root) if box[4]]
    return [
        (a[4], b[4])
        for i, a in enumerate(labels)
        for b in labels[i + 1 :]
        if min(a[1], b[1]) - max(a[0], b[0]) > 0 and abs(a[2] - b[2]) < max(a[3], b[3])
    ]


@pytest.mark.parametrize("events", [FIVE, FORTY, HOSTILE], ids=["5 events", "40 events", "hostile"])
class TestEveryPicture:
    def test_is_whole_and_says_what_it_shows(self, events):
        for picture in all_pictures(events):
            root = parse(picture)
            ids = [element.get("id") for element in root.iter() if element.get("id")]
            assert len(ids) == len(set(ids))
            for svg in root.iter("svg"):
                assert svg.get("role") == "img"
                named = {element.get("id"): element.text for element in svg if element.tag in ("title", "desc")}
                assert list(named) == svg.get("aria-labelledby").split()
                assert all(named.values())
                assert picture.alt in named.values()
            assert picture.alt
            assert picture.alt in (root.get("aria-label", picture.alt))

    def test_runs_and_asks_for_nothing(self, events):
        for picture in all_pictures(events):
            elements = list(parse(picture).iter())
            assert not {element.tag for element in elements} & {"script", "img", "image", "iframe", "a", "use"}
            for element in elements:
                assert not [name for name in element.attrib if name.startswith("on") or name in ("href", "src")]
            assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", picture.html)

    def test_same_input_same_bytes(self, events):
        assert [p.html for p in all_pictures(events)] == [p.html for p in all_pictures(events)]

    def test_no_label_touches_another(self, events):
        for picture in all_pictures(events):
            assert overlaps(parse(picture)) == []

    def test_no_label_leaves_the_picture(self, events):
        for picture in all_pictures(events):
            for svg in parse(picture).iter("svg"):
                width, height = map(float, svg.get("viewBox").split()[2:])
                assert all(left >= 0 and right <= width and y < height for left, right, y, _, _ in boxes(svg))

    def test_long_names_stay_small(self, events):
        assert all(len(picture.html) < 150_000 for picture in all_pictures(events))


@pytest.mark.parametrize("lang", ["pl", "ru"])
class TestOtherLanguages:
    """Words there are longer, and the pictures as wide as in English."""

    def test_no_label_touches_another_or_leaves_the_picture(self, lang):
        with use_language(lang):
            pictures = [*all_pictures(FIVE), draw_funnel(make_funnel(groups=("web", "(other)"), within=None))]
        for picture in pictures:
            root = parse(picture)
            assert overlaps(root) == []
            for svg in root.iter("svg"):
                width = float(svg.get("viewBox").split()[2])
                assert [text for left, right, _, _, text in boxes(svg) if left < 0 or right > width] == []

    def test_says_its_language(self, lang, tmp_path):
        with use_language(lang):
            page = draw_flow(make_flows()).save(tmp_path / "flow.html").read_text(encoding="utf-8")
        assert f'<html lang="{lang}">' in page
        assert "The first" not in page

    def test_names_from_data_stay(self, lang):
        events = ("purchase", "checkout", "lead")
        with use_language(lang):
            for picture in (draw_funnel(make_funnel(events)), draw_flow(make_flows(events))):
                texts = " ".join(text for *_, text in boxes(parse(picture)))
                assert all(event in texts for event in events)


class TestFunnel:
    def test_segments_add_up_and_keep_to_scale(self):
        funnel = make_funnel()
        root = parse(draw_funnel(funnel))
        by_row = {}
        for rect in root.iter("rect"):
            if rect.get("class"):
                by_row.setdefault(rect.get("y"), {})[rect.get("class")] = float(rect.get("width"))
        full = sum(next(iter(by_row.values())).values())
        assert len(by_row) == len(FIVE)
        for row, widths in zip(funnel.table.itertuples(), by_row.values(), strict=True):
            assert sum(widths.values()) == pytest.approx(full * row.n / 1000, abs=0.05)
            assert widths.get("lost", 0) == pytest.approx(full * row.n_lost / 1000, abs=0.05)
            assert widths.get("open", 0) == pytest.approx(full * row.n_open / 1000, abs=0.05)

    def test_still_on_the_way_is_hatched(self):
        root = parse(draw_funnel(make_funnel()))
        hatch = {rect.get("fill") for rect in root.iter("rect") if rect.get("class") == "open"}
        assert hatch == {f"url(#{next(root.iter('pattern')).get('id')})"}

    def test_whisker_spans_the_interval(self):
        root = parse(draw_funnel(make_funnel()))
        first = next(rect for rect in root.iter("rect") if rect.get("class") == "go")
        left = float(first.get("x"))
        whiskers = [path.get("d") for path in root.iter("path") if path.get("class") == "ci"]
        assert len(whiskers) == len(FIVE) - 1
        low, high = map(float, re.match(r"M([\d.]+) [\d.]+H([\d.]+)", whiskers[0]).groups())
        assert (low - left, high - left) == pytest.approx((320 * 0.57, 320 * 0.63), abs=0.1)

    def test_numbers_stand_beside_the_bars(self):
        texts = [box[4] for box in boxes(parse(draw_funnel(make_funnel())))]
        assert "catalog → done: 1,000 customers started, 129 finished" in texts
        assert "600 went on · 100 still on the way · 300 stopped here" in texts
        assert "60.0 % (57.0–63.0)" in texts
        assert "60.0 % (54.0–66.0)" in texts
        assert "median 2 min 42 s" in texts

    def test_of_many_groups_the_largest_six_are_drawn(self):
        picture = draw_funnel(make_funnel(FIVE[:2], groups=[f"group {i}" for i in range(8)]))
        texts = [box[4] for box in boxes(parse(picture))]
        assert "group 5" in texts
        assert "group 6" not in texts
        assert "The 6 largest groups by channel; 2 more are in the table." in texts

    def test_a_missing_group_has_a_name(self):
        assert "(none)" in [b[4] for b in boxes(parse(draw_funnel(make_funnel(groups=["web", math.nan]))))]

    def test_few_are_marked(self):
        texts = [box[4] for box in boxes(parse(draw_funnel(make_funnel(start=12))))]
        assert "catalog †" in texts
        assert "† Fewer than 30 started: too few to rank." in texts

    def test_nobody_started(self):
        assert "0 customers started" in draw_funnel(make_funnel(start=0)).alt


class TestFlow:
    def test_every_column_adds_up_to_all_journeys(self):
        root = parse(draw_flow(make_flows()))
        columns = {}
        for rect in root.iter("rect"):
            columns.setdefault(rect.get("x"), []).append(float(rect.get("height")))
        assert len(columns) == 5
        assert [sum(heights) for heights in columns.values()] == pytest.approx([380.0] * 5, abs=0.1)

    def test_heights_are_counts(self):
        flows = pd.DataFrame(
            [(1, "a", "b", 6), (1, "a", None, 3), (1, "b", "b", 1)], columns=["step", "event", "next_event", "n"]
        )
        heights = [float(rect.get("height")) for rect in parse(draw_flow(flows)).iter("rect")]
        # by volume: b (1 + 7), a (9); then who ended
        assert heights == pytest.approx([342.0, 38.0, 266.0, 114.0])

    def test_a_ribbon_tells_its_count(self):
        titles = [title.text for title in parse(draw_flow(make_flows(FIVE[:2], 2))).iter("title")]
        assert "catalog → product: 6 of 27 (22.2 %)" in titles
        assert "catalog → ended: 6 of 27 (22.2 %)" in titles

    def test_a_shortened_name_is_whole_in_the_tooltip(self):
        name = "checkout_delivery_address_confirmation"
        root = parse(draw_flow(make_flows((name, "cart"))))
        assert not [box for box in boxes(root) if name in box[4]]
        assert any((title.text or "").startswith(name + ": ") for title in root.iter("title"))

    def test_folded_and_ended_come_last_and_have_no_colour_of_their_own(self):
        root = parse(draw_flow(make_flows(("(other)", "cart"), 3)))
        labels = [box[4].rpartition(" ")[0].rpartition(" ")[0] for box in boxes(root)][3:]
        assert labels[:2] == ["cart", "(other)"]
        assert [rect.get("fill") in PALETTE for rect in root.iter("rect")][:2] == [True, False]

    def test_an_event_called_ended_is_not_the_end(self):
        titles = [title.text for title in parse(draw_flow(make_flows(("ended",), 2))).iter("title")]
        assert "ended → ended: 3 of 9 (33.3 %)" in titles

    def test_a_selection_is_refused(self):
        with pytest.raises(RuleError) as error:
            draw_flow(make_flows().iloc[1:])
        assert str(error.value).startswith('flows do not add up at step 2: 81 arrive at "catalog" and 486 leave it.')

    def test_nothing_to_draw(self):
        assert draw_flow(make_flows().iloc[:0]).alt.startswith("No journey to draw")


class TestPersonas:
    def test_cards_in_order_with_size_goal_and_colour(self):
        root = parse(draw_personas(make_personas()))
        cards = list(root.iter("section"))
        assert [card.get("style") for card in cards] == [f"--c:{PALETTE[0]}", f"--c:{PALETTE[1]}"]
        first, second = (" ".join("".join(card.itertext()).split()) for card in cards)
        assert "70.0 % (67.0–73.0 %) · 700 customers" in first
        assert "50.0 % (46.0–54.0 %)" in first
        assert "Goal reached" not in second

    def test_bars_diverge_and_share_one_scale(self):
        root = parse(draw_personas(make_personas()))
        bars = [i.get("style") for i in root.iter("i") if "left" in i.get("style") or "right" in i.get("style")]
        assert bars[:2] == ["left:50%;width:50.0%", "left:50%;width:44.4%"]
        assert bars[5] == "right:50%;width:50.0%"

    def test_one_persona_has_nothing_that_sets_it_apart(self):
        personas = make_personas()
        one = SimpleNamespace(summary=personas.summary.head(1), profile=personas.profile.head(0), **NOTHING_MORE)
        assert "What sets them apart</p>" not in draw_personas(one).html


class TestTextAndColour:
    def test_clean(self):
        assert clean("a\r\nb\x07") == "a b"
        assert clean("\u202eabc\u2069") == "abc"
        assert clean(" ") == "(empty)"
        assert clean("\ud800") == "\ufffd"

    def test_shorten_keeps_both_ends(self):
        assert shorten("abcdefghij", 7) == "abc…hij"
        assert len(shorten("x" * 1000)) == 300

    def test_fit(self):
        assert fit("cart", 100, 13) == "cart"
        assert width_of(fit("W" * 50, 100, 13), 13) <= 100

    def test_colours_are_stable_and_distinct(self):
        assert colour_of(1) == PALETTE[0] == colour_of(9)
        assert colours_of(["b", "a"]) == colours_of(["a", "b", "a"])
        assert len(set(colours_of("abcdefgh").values())) == 8

    def test_contrast(self):
        for ground in ("#ffffff", "#16191f"):
            assert all(contrast(colour, ground) >= 3 for colour in PALETTE)
        for ink, ground in (
            ("#1b1f24", "#ffffff"),
            ("#59636e", "#ffffff"),
            ("#e8ebef", "#16191f"),
            ("#a3acb7", "#16191f"),
        ):
            assert contrast(ink, ground) >= 4.5

    def test_text_in_heat_map_cells_is_legible(self):
        for tint in range(101):
            light = mix(HEAT, "#ffffff", tint / 100)
            assert contrast("#ffffff" if tint / 100 > HEAT_TEXT_TURNS else "#000000", light) >= 4.5
            assert contrast("#ffffff", mix("#0072b2", "#16191f", tint / 100)) >= 4.5

    @pytest.mark.parametrize("sight", ["normal", "protan", "deutan", "tritan"])
    def test_colours_hold_for_colour_blind_readers(self, sight):
        seen = [oklab(apply(SIGHT[sight], linear(colour))) for colour in PALETTE]
        apart = [[100 * math.dist(a, b) for b in seen[i + 1 :]] for i, a in enumerate(seen)]
        assert min(min(row) for row in apart if row) > 5.5
        assert min(min(row[: 4 - i]) for i, row in enumerate(apart[:4])) > 6.9


class TestSaving:
    def test_svg_is_one_drawing(self, tmp_path):
        path = draw_funnel(make_funnel()).save(tmp_path / "funnel.svg")
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"

    def test_html(self, tmp_path):
        assert draw_personas(make_personas()).html in draw_personas(make_personas()).save(
            tmp_path / "p.html"
        ).read_text("utf-8")

    def test_a_table_is_no_svg(self, tmp_path):
        with pytest.raises(ReportError, match=r'save it as "p\.html"'):
            draw_personas(make_personas()).save(tmp_path / "p.svg")

    def test_repr_is_short(self):
        assert repr(Picture("<figure>" * 100, "two bars")) == "Picture(alt='two bars')"


# Machado, Oliveira and Fernandes (2009), severity 1.0.
SIGHT = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def apply(matrix, vector):
    return [sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix]


def channels(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def linear(colour):
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]


TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
TO_LAB = (
    (0.2104542553, 0.793617785, -0.0040720468),
    (1.9779984951, -2.428592205, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.808675766),
)


def oklab(rgb):
    return apply(TO_LAB, [c ** (1 / 3) for c in apply(TO_LMS, [min(max(c, 0), 1) for c in rgb])])


def mix(colour, ground, tint):
    both = zip(channels(colour), channels(ground), strict=True)
    return "#" + "".join(f"{round(255 * (tint * a + (1 - tint) * b)):02x}" for a, b in both)


def contrast(a, b):
    dark, light = sorted(apply([(0.2126, 0.7152, 0.0722)], linear(colour))[0] for colour in (a, b))
    return (light + 0.05) / (dark + 0.05)
