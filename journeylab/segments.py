"""What sets a segment apart? Customers of one kind against all others, or against another kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import ibis

from journeylab.contrasts import judge, lay_out_shares, sum_amounts
from journeylab.engine import store
from journeylab.errors import RuleError, SchemaError, nearest
from journeylab.schema import ROW
from journeylab.shares import bound_shares
from journeylab.sources.frames import open_frame

if TYPE_CHECKING:
    import pandas as pd

At = Literal["first", "last", "most"]

COLUMNS = (
    *("segment", "kind", "trait", "measure", "n", "n_other", "value", "value_other", "difference", "low", "high"),
    *("effect", "p", "p_adjusted", "is_small"),
)
_KINDS = (
    *("size", "conversion", "value", "time_to_goal", "tempo", "events", "journeys"),
    *("channel", "event", "transition", "stage", "attribute"),
)
_NONE, _ARROW = "(none)", " → "
_MOST_SEGMENTS = 50
_FINE = 1_000_000_000  # shares are summed in whole billionths: sums of fractions depend on their order
_DIGITS = 4  # of an amount that count for its rank


class _Amount(NamedTuple):
    """An amount per customer, kept as a whole number of 1 / `scale`, lest its sums depend on their order."""

    kind: str
    trait: str
    column: str
    scale: int
    is_log: bool = False


_AMOUNTS = (
    _Amount("value", "value per customer", "value", 10_000),
    _Amount("time_to_goal", "seconds to the first goal", "time_to_goal", 10_000, is_log=True),
    _Amount("tempo", "seconds between events", "tempo", 10_000, is_log=True),
    _Amount("events", "events per customer", "n_events", 1),
    _Amount("journeys", "journeys per customer", "n_journeys", 1),
)


class _Mix(NamedTuple):
    """What a customer's events are parted by, and which column counts the whole."""

    kind: str
    columns: tuple[str, ...]
    whole: str


_MIXES = (
    _Mix("channel", ("channel",), "n_with_channel"),
    _Mix("event", ("event",), "n_events"),
    _Mix("transition", ("event", "next_event"), "n_moves"),
    _Mix("stage", ("stage",), "n_with_stage"),
)


def compare_segments(
    steps: ibis.Table,
    journeys: ibis.Table,
    *,
    by: Any,  # a column's name, a table, or anything with .members
    pair: tuple[Any, Any] | None = None,
    at: At = "first",
    customers: pd.DataFrame | ibis.Table | Sequence[str] | None = None,
    min_n: int = 30,
    top: int = 30,
) -> pd.DataFrame:
    """What sets the customers of each segment apart from everyone else?

    Parameters
    ----------
    steps, journeys
        From `build_steps` and `build_journeys`; only steps that `journeys` counts are looked at.
    by
        A column of `steps`; or a table (DataFrame or Ibis) with one row per customer: customer_id and segment (or
        persona); or anything with such a table as ``.members``. Customers whom a table does not name are left out.
    pair
        Compare only these two segments, the first against the second. Default: each against all other customers.
    at
        Of a column that changes along a customer's history, the value that counts: the ``"first"`` known, the
        ``"last"``, or the one of ``"most"`` events (the earlier of two). Where none is known the segment is "(none)".
    customers
        Attributes to compare as well: a table with one row per customer (customer_id and the attributes), or names of
        columns of `steps` (the first known value counts). Numbers are compared by their means, all else by the share of
        customers with each value.
    min_n
        With fewer customers on a side a row is flagged `is_small` and not tested.
    top
        Of channels, events, transitions, stages and values of an attribute, how many: those of most customers.

    Returns
    -------
    pandas.DataFrame
        One row per segment and trait; segments by falling size, within a kind the strongest first: segment, kind,
        trait (text), measure, n, n_other (customers who have the trait's base, on both sides), value, value_other,
        difference (value - value_other) with low and high (95 %), effect, p, p_adjusted (Holm 1979, over all tested
        rows), is_small.

        ============  ===============================================================  ========
        kind          value                                                            measure
        ============  ===============================================================  ========
        size          share of all customers; low and high are its Wilson bounds       share
        conversion    customers who reached the goal so far (of all)                   share
        value         value per customer, none counting 0                              mean
        time_to_goal  seconds from a journey's start to the customer's first goal      typical
        tempo         seconds between the events of a journey                          typical
        events        events per customer                                              mean
        journeys      journeys per customer                                            mean
        channel       share of a customer's events with a channel that have this one   mean
        event         share of a customer's events                                     mean
        transition    share of a customer's moves from event to event in a journey     mean
        stage         share of a customer's events with a stage that have this one     mean
        attribute     a number's mean, or the share of customers with the value        either
        ============  ===============================================================  ========

        A kind that the log cannot tell of is left out. Shares are taken within each customer and then averaged, so that
        the busy do not outvote the others. "typical" is the geometric mean over customers (of seconds + 1, less 1).

    Raises
    ------
    RuleError
        If an argument does not fit, or there is only one segment.
    SchemaError
        If no customer of `by` has a step.

    Notes
    -----
    Amounts (value, times, counts, numeric attributes) are tested by their mid-ranks (Mann & Whitney 1947, to four
    digits), which no heavy tail sways: p tells whether customers of one side tend to have more. All else is tested by
    the difference of the means. p is the larger of two: as if the segments' names had been dealt out to the customers
    at random, by the first three moments of that permutation (Pearson type III; Mielke & Berry 2007), which holds where
    hardly anybody shows the trait; and Welch's, which holds where one side varies more than the other.

    effect is Cohen's (1988) d for the measures "mean" and "typical", the difference of what is tested in standard
    deviations over all customers compared; and his h for "share", the difference of 2·arcsin(√share). 0.2 is small, 0.5
    medium, 0.8 large. Intervals are Newcombe's (1998) for shares, Welch's for means, and for typical times those of
    both sides put together alike (Zou & Donner 2008). An interval of a mean is too narrow where a side has few
    customers and one of them nearly all the value.

    With two segments each row says its mirror image again, and with personas, which were made to differ in what they
    do, p of what they do is no evidence that they are there. Association, not cause.
    """
    import pandas as pd

    if at not in get_args(At):
        raise RuleError(f'compare_segments: at must be one of {", ".join(get_args(At))}; found "{at}"')
    if top < 1:
        raise RuleError(f"compare_segments: top must be at least 1, found {top}")
    con, seen = steps.get_backend(), _keep_counted(steps, journeys)
    attributes = None if customers is None else find_attributes(seen, customers)
    members = _find_members(seen, by, at)
    people = store(_describe_people(seen, journeys, members, attributes), con)
    sizes = _count_members(people, pair)
    if pair is not None:
        people = people.filter(people.segment.isin(pair))
    numbers, labels = _sort_attributes(attributes)
    bases = _count_bases(people, list(labels.values()))
    parts = [
        _sum_goals(bases),
        *_sum_amounts(people, [*_AMOUNTS, *numbers], bases["customers"]),
        *(_sum_mix(seen, people, mix, bases, top) for mix in _MIXES if mix.whole in people.columns),
        *(_sum_labels(people, name, column, bases, top) for name, column in labels.items()),
    ]
    table = judge(pd.concat(parts, ignore_index=True), min_n)
    compared = list(pair[:1]) if pair else list(sizes["segment"])
    table = table[table["segment"].isin(compared)]
    return _sort(pd.concat([_tabulate_sizes(sizes, compared, min_n), table], ignore_index=True), compared)


def find_attributes(steps: ibis.Table, customers: pd.DataFrame | ibis.Table | Sequence[str]) -> ibis.Table:
    """Which attributes has each customer? One row per customer: customer_id (text) and the attributes as they are.

    Of a table, its columns but customer_id; of names, these columns of `steps` at the first event where each is known.
    """
    if isinstance(customers, ibis.Table) or hasattr(customers, "columns"):
        table = _open_table(customers, steps.get_backend(), "customers")
        if len(table.columns) < 2:
            raise RuleError("customers: the table has no column beside customer_id, so no attribute")
        return table
    names = [customers] if isinstance(customers, str) else list(dict.fromkeys(customers))
    for name in names:
        if name not in steps.columns:
            raise RuleError(
                f'customers: no column "{name}" in steps.{nearest(name, steps.columns)} The columns are '
                f"{', '.join(steps.columns)}"
            )
    first = {name: steps[name].argmin(steps.position, where=steps[name].notnull()) for name in names}
    return steps.group_by("customer_id").agg(**first)


def _open_table(table: Any, con: ibis.BaseBackend, what: str) -> ibis.Table:  # Any: as the user hands it over
    """A table with one row per customer, whose ids are text."""
    opened = table if isinstance(table, ibis.Table) else open_frame(table, con, where=what).drop(ROW)
    if "customer_id" not in opened.columns:
        raise RuleError(
            f"{what}: the table has no column customer_id.{nearest('customer_id', opened.columns)} It has "
            f"{', '.join(opened.columns)}"
        )
    opened = opened.mutate(customer_id=opened.customer_id.cast("string"))
    twice = opened.group_by("customer_id").having(lambda t: t.count() > 1).agg(n=lambda t: t.count())
    found = twice.agg(n=twice.count(), example=twice.customer_id.min()).execute().iloc[0]
    if found["n"]:
        raise RuleError(
            f'{what}: {found["n"]:,} customers have more than one row, such as "{found["example"]}"; keep one row each'
        )
    return opened


def _find_members(steps: ibis.Table, by: Any, at: At) -> ibis.Table:  # Any: see compare_segments
    """customer_id and segment, one row per customer."""
    if isinstance(by, str):
        return _read_column(steps, by, at)
    table = getattr(by, "members", by)
    if not (isinstance(table, ibis.Table) or hasattr(table, "columns")):
        raise RuleError(
            f"compare_segments: by must be a column of steps, a table, or something with .members; found {by!r}"
        )
    table = _open_table(table, steps.get_backend(), "by")
    name = next((name for name in ("segment", "persona") if name in table.columns), None)
    if name is None:
        raise RuleError(f"by: the table has no column segment or persona; it has {', '.join(table.columns)}")
    segment = table[name]
    if not segment.type().is_integer():
        segment = segment.cast("string").fill_null(_NONE)
    return table.select("customer_id", segment=segment)


def _read_column(steps: ibis.Table, by: str, at: At) -> ibis.Table:
    if by not in steps.columns:
        raise RuleError(
            f'compare_segments: no column "{by}" in steps.{nearest(by, steps.columns)} The columns are '
            f"{', '.join(steps.columns)}"
        )
    column = steps[by].cast("string")
    if at == "most":
        counted = steps.group_by("customer_id", segment=column).agg(n=steps.count(), since=steps.position.min())
        order = [counted.segment.isnull(), ibis.desc("n"), "since"]
        place = ibis.row_number().over(ibis.window(group_by="customer_id", order_by=order))
        members = counted.mutate(_place=place).filter(ibis._["_place"] == 0).select("customer_id", "segment")
    else:
        pick = column.argmin if at == "first" else column.argmax
        members = steps.group_by("customer_id").agg(segment=pick(steps.position, where=column.notnull()))
    return members.mutate(segment=members.segment.fill_null(_NONE))


def _keep_counted(steps: ibis.Table, journeys: ibis.Table) -> ibis.Table:
    """The steps that `journeys` counts; a move that leads out of them is none."""
    seen = steps.join(journeys.select("journey_id", _n_seen="n_steps"), "journey_id")
    seen = seen.filter(seen.step <= seen["_n_seen"])
    return seen.mutate(next_event=ibis.ifelse(seen.step < seen["_n_seen"], seen.next_event, None)).drop("_n_seen")


def _describe_people(
    seen: ibis.Table, journeys: ibis.Table, members: ibis.Table, attributes: ibis.Table | None
) -> ibis.Table:
    """One row per customer: the segment, the amounts in whole parts of their scale, and what shares are taken of."""
    wholes = {
        f"n_with_{name}": seen[name].notnull().cast("int64").sum()
        for name in ("channel", "stage")
        if name in seen.columns
    }
    done = seen.group_by("customer_id").agg(
        n_events=seen.count(),
        n_moves=seen.next_event.notnull().cast("int64").sum(),
        _log_gaps=_take_log(seen.gap_s).sum(),
        _n_gaps=seen.gap_s.count(),
        **wholes,
    )
    done = done.mutate(tempo=(done["_log_gaps"] / done["_n_gaps"].nullif(0)).round().cast("int64"))
    wait_s = journeys.goal_time.delta(journeys.start_time, unit="microsecond") / 1e6
    journeys = journeys.mutate(
        _wait=_take_log(wait_s), _came=journeys.goal_time.min().over(ibis.window(group_by=journeys.customer_id))
    )
    came = journeys.group_by("customer_id").agg(
        n_journeys=journeys.count(),
        reached_goal=journeys.reached_goal.any().fill_null(False),
        # Of journeys that reach it at one instant the first counts, and that is the one which took longest.
        time_to_goal=journeys["_wait"].max(where=journeys.goal_time == journeys["_came"]),
        value=(journeys.value * 10_000).round().cast("int64").sum().fill_null(0),
    )
    people = members.join(done.drop("_log_gaps", "_n_gaps"), "customer_id").join(came, "customer_id")
    if attributes is None:
        return people
    numbers, labels = _sort_attributes(attributes)
    own = {amount.column: _as_whole(attributes[amount.trait], amount.scale) for amount in numbers}
    own |= {column: attributes[name].cast("string") for name, column in labels.items()}
    return people.left_join(attributes.select("customer_id", **own), "customer_id").drop("customer_id_right")


def _take_log(seconds: ibis.Value) -> ibis.Value:
    return ((seconds + 1).ln() * 10_000).round().cast("int64")


def _as_whole(number: ibis.Value, scale: int) -> ibis.Value:
    if number.type().is_floating():
        number = ibis.ifelse(number.isnan() | number.isinf(), None, number)
    return (number * scale).round().cast("int64")


def _sort_attributes(attributes: ibis.Table | None) -> tuple[list[_Amount], dict[str, str]]:
    """Which attributes are numbers, and which are labels (name → column)?"""
    numbers, labels = [], {}
    schema = {} if attributes is None else dict(attributes.schema().items())
    for i, (name, kind) in enumerate(schema.items()):
        if kind.is_temporal():
            raise RuleError(
                f'customers: "{name}" is a time ({kind}); make it a number (such as days since then) or a label first'
            )
        if name == "customer_id":
            continue
        if kind.is_numeric():
            numbers.append(_Amount("attribute", name, f"number_{i}", 10_000))
        else:
            labels[name] = f"label_{i}"
    return numbers, labels


def _count_members(people: ibis.Table, pair: tuple[Any, Any] | None) -> pd.DataFrame:
    """The segments and their customers, by falling size."""
    sizes: pd.DataFrame = people.group_by("segment").agg(n=people.count()).execute()
    sizes = sizes.dropna(subset="segment").sort_values(["n", "segment"], ascending=[False, True], ignore_index=True)
    known = [str(segment) for segment in sizes["segment"]]
    if not known:
        raise SchemaError("compare_segments: no customer of `by` has a step in these journeys; do the ids match?")
    if not 2 <= len(known) <= _MOST_SEGMENTS:
        raise RuleError(
            f"compare_segments: by makes {len(known):,} segments ({', '.join(known[:3])} …); it takes 2 to "
            f"{_MOST_SEGMENTS}. Sort numbers into bands first"
        )
    for segment in pair or ():
        if segment not in set(sizes["segment"]):
            raise RuleError(
                f'compare_segments: pair names the segment "{segment}", which no customer is in.'
                f"{nearest(str(segment), known)} The segments are {', '.join(known)}"
            )
    if pair is not None and (len(pair) != 2 or pair[0] == pair[1]):
        raise RuleError(f"compare_segments: pair must name two different segments; found {pair!r}")
    return sizes


def _count_bases(people: ibis.Table, labels: list[str]) -> pd.DataFrame:
    """Of how many customers of each segment is each share taken? One row per segment, one column per whole."""
    wholes = [mix.whole for mix in _MIXES if mix.whole in people.columns]
    bases: pd.DataFrame = (
        people.group_by("segment")
        .agg(
            customers=people.count(),
            reached_goal=people.count(where=people.reached_goal),
            **{name: people.count(where=people[name] > 0) for name in wholes},
            **{name: people[name].count() for name in labels},
        )
        .execute()
    )
    return bases.set_index("segment")


def _sum_goals(bases: pd.DataFrame) -> pd.DataFrame:
    """How many customers reached the goal? Nothing where nobody did: the rules may name no goal."""
    counted = bases["reached_goal"].rename("n_with").reset_index().assign(trait="customers who reached the goal")
    has_goal = bool(bases["reached_goal"].any())
    return lay_out_shares(counted if has_goal else counted.iloc[:0], "conversion", bases["customers"])


def _sum_labels(people: ibis.Table, name: str, column: str, bases: pd.DataFrame, top: int) -> pd.DataFrame:
    """How many customers have each label, of those who have any?"""
    known = people.filter(people[column].notnull())
    counted = known.group_by("segment", label=column).agg(n_with=known.count())
    found = _fetch_largest(counted, ["label"], top)
    return lay_out_shares(found.assign(trait=f"{name}: " + found["label"]), "attribute", bases[column])


def _sum_mix(seen: ibis.Table, people: ibis.Table, mix: _Mix, bases: pd.DataFrame, top: int) -> pd.DataFrame:
    """What share of a customer's events has each channel, and so on: sums of it, its square and its cube."""
    known = seen.filter(*(seen[name].notnull() for name in mix.columns))
    counted = known.group_by("customer_id", *mix.columns).agg(n=known.count())
    shares = counted.join(people.select("customer_id", "segment", whole=mix.whole), "customer_id")
    share = shares.n / shares.whole
    powers = {f"x{i}": (share**i * _FINE).round().cast("int64").sum() / _FINE for i in (1, 2, 3)}
    sums = shares.group_by("segment", *mix.columns).agg(n_with=shares.count(), **powers)
    found = _fetch_largest(sums, list(mix.columns), top)
    trait = found[mix.columns[0]].astype("str")
    for name in mix.columns[1:]:
        trait = trait + _ARROW + found[name].astype("str")
    return lay_out_shares(found.assign(trait=trait), mix.kind, bases[mix.whole])


def _fetch_largest(sums: ibis.Table, names: list[str], top: int) -> pd.DataFrame:
    """Of everything that was counted, keep what most customers show; of equals, the first by name."""
    whole = sums.mutate(_all=sums.n_with.sum().over(ibis.window(group_by=names)))
    place = ibis.dense_rank().over(ibis.window(order_by=[ibis.desc("_all"), *names]))
    kept: pd.DataFrame = whole.mutate(_place=place).filter(ibis._["_place"] < top).execute()
    return kept


def _sum_amounts(people: ibis.Table, amounts: list[_Amount], base: pd.Series) -> list[pd.DataFrame]:
    """How much has each customer, and which place does that give them among all?"""
    columns = [
        people.select("segment", number=ibis.literal(i, "int64"), whole=amount.column).filter(ibis._.whole.notnull())
        for i, amount in enumerate(amounts)
    ]
    every = ibis.union(*columns)
    size = every.whole.abs()
    digits = ibis.ifelse(size > 0, size, 1).log10().floor()
    grain = ibis.literal(10.0) ** ibis.greatest(digits - (_DIGITS - 1), 0)
    every = every.mutate(bin=(size / grain).floor() * grain * every.whole.sign())
    counted = every.group_by("number", "segment", "bin").agg(n=every.count(), total=every.whole.cast("float64").sum())
    found = counted.execute()
    return [
        sum_amounts(found[found["number"] == i], amount.kind, amount.trait, amount.scale, base, is_log=amount.is_log)
        for i, amount in enumerate(amounts)
        if found.loc[found["number"] == i, "bin"].any()
    ]


def _tabulate_sizes(sizes: pd.DataFrame, compared: list[Any], min_n: int) -> pd.DataFrame:
    table = sizes[sizes["segment"].isin(compared)].assign(kind="size", trait="customers", measure="share")
    all_ = int(sizes["n"].sum())
    table["n_other"] = all_ - table["n"]
    table["value"], table["low"], table["high"] = bound_shares(table["n"], table["n"] * 0 + all_)
    return table.assign(is_small=table["n"] < min_n).reindex(columns=list(COLUMNS))


def _sort(table: pd.DataFrame, segments: list[Any]) -> pd.DataFrame:
    table = table.assign(
        _segment=table["segment"].map({segment: i for i, segment in enumerate(segments)}),
        _kind=table["kind"].map({kind: i for i, kind in enumerate(_KINDS)}),
        _strength=-table["effect"].abs().fillna(0),
    )
    ordered = table.sort_values(["_segment", "_kind", "_strength", "trait"], ignore_index=True)
    return ordered[list(COLUMNS)]
