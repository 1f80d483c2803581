"""What operations cost: by their arguments before they run, by their answers afterwards."""

from collections.abc import Mapping
from datetime import date, timedelta
from math import ceil
from random import Random
from typing import Any

import pytest
import strawberry
from graphql import (
    DocumentNode,
    GraphQLSchema,
    NoUnusedFragmentsRule,
    NoUnusedVariablesRule,
    OperationDefinitionNode,
    execute_sync,
    get_introspection_query,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)
from graphql.execution.values import VariableValues, get_variable_values
from hypothesis import given
from hypothesis import strategies as st

from data.calendar import DateRange, Interval, Weekday, hours_of, periods_of, zone_of
from data.queries import PeriodRule
from resolvers.reports import MAX_RANGE_DAYS
from schema.build import graphql_schema
from schema.cost import CostModel, CostPlan
from schema.cost_plan import MOST, POINT
from schema.directives import Cost, ListSize
from schema.estimates import periods_in
from tests.schema.cost_oracle import (
    OUR_ARGUMENTS,
    OUR_PRICES,
    SMALL_ARGUMENTS,
    SMALL_PRICES,
    Oracle,
    Writer,
    small_schema,
)

# Documents of the oracle leave some of their fragments and variables unused.
RULES = [
    rule for rule in specified_rules if rule not in (NoUnusedFragmentsRule, NoUnusedVariablesRule)
]
YEAR = {"from": "2025-01-01", "to": "2025-12-31"}
LONGEST = {"from": "2023-01-01", "to": "2026-01-04"}
DAY = '{ from: "2025-01-01", to: "2025-01-01" }'
EVENT = {"eventType": "view"}
RETENTION = "query ($r: DateRange!) { retention(range: $r, interval: MONTH, periods: 0)"


def prepared(
    schema: GraphQLSchema, text: str, variables: Mapping[str, Any]
) -> tuple[DocumentNode, OperationDefinitionNode, VariableValues]:
    """A valid document, its operation and the coerced variables."""
    document = parse(text)
    assert validate(schema, document, RULES) == []
    operation = get_operation_ast(document)
    assert operation is not None
    values = get_variable_values(schema, operation.variable_definitions or (), dict(variables))
    assert isinstance(values, VariableValues), values
    return document, operation, values


class Priced:
    """Asks what operations of our schema cost."""

    def __init__(self) -> None:
        self.schema = graphql_schema()
        self.model = CostModel(self.schema)

    def plan(self, text: str, variables: Mapping[str, Any]) -> tuple[CostPlan, Mapping[str, Any]]:
        """The plan of an operation, and its variables as they are coerced."""
        document, operation, values = prepared(self.schema, text, variables)
        return self.model.plan(document, operation), values.coerced

    def requested(self, text: str, **variables: Any) -> int:
        """The most that an operation can cost."""
        plan, coerced = self.plan(text, variables)
        return plan.requested(coerced)

    def actual(self, text: str, data: Mapping[str, Any] | None, **variables: Any) -> int:
        """What an operation cost."""
        plan, coerced = self.plan(text, variables)
        return plan.actual(data, coerced)


@pytest.fixture(scope="module")
def priced() -> Priced:
    return Priced()


SMALL = small_schema()
SMALL_MODEL = CostModel(SMALL)


@given(
    st.integers(0, 2**64),
    st.fixed_dictionaries(
        {
            "n": st.integers(-2, 12),
            "yes": st.booleans(),
            "input": st.fixed_dictionaries({"items": st.lists(st.integers(0, 9), max_size=4)}),
        },
        optional={"no": st.booleans()},
    ),
)
def test_costs_are_what_walking_every_path_finds(seed: int, variables: dict[str, Any]) -> None:
    random = Random(seed)
    declared = "($n: Int! = 1, $yes: Boolean!, $no: Boolean = false, $input: PutInput!)"
    text = Writer(SMALL, SMALL_ARGUMENTS, random).query(declared, 4)
    document, operation, values = prepared(SMALL, text, variables)
    plan = SMALL_MODEL.plan(document, operation)
    oracle = Oracle(SMALL, document, values, SMALL_PRICES)

    requested = plan.requested(values.coerced)
    assert requested == ceil(oracle.cost(operation, None))

    result = execute_sync(SMALL, document, variable_values=variables, context_value=random)
    assert result.errors is None
    actual = plan.actual(result.data, values.coerced)
    assert result.data is not None
    assert actual == ceil(oracle.cost(operation, result.data))
    assert actual <= requested


OURS = graphql_schema()
OUR_MODEL = CostModel(OURS)
OUR_VARIABLES = (
    "($n: Int!, $yes: Boolean!, $no: Boolean!, $interval: Interval! = MONTH, $ids: [UUID!]!,"
    " $days: DateRange!, $first: Date!, $last: Date!)"
)


@given(
    st.integers(0, 2**64),
    st.fixed_dictionaries(
        {
            "n": st.integers(0, 50),
            "yes": st.booleans(),
            "no": st.booleans(),
            "ids": st.lists(st.just("id"), max_size=9),
            "days": st.sampled_from([YEAR, LONGEST, {"from": "2025-03-30", "to": "2025-03-30"}]),
            "first": st.dates(date(2024, 1, 1), date(2025, 1, 1)).map(str),
            "last": st.dates(date(2025, 2, 1), date(2026, 1, 1)).map(str),
        },
        optional={"interval": st.sampled_from(["HOUR", "DAY", "WEEK"])},
    ),
)
def test_our_questions_cost_what_walking_every_path_finds(
    seed: int, variables: dict[str, Any]
) -> None:
    text = Writer(OURS, OUR_ARGUMENTS, Random(seed)).query(OUR_VARIABLES, 4)
    document, operation, values = prepared(OURS, text, variables)

    requested = OUR_MODEL.plan(document, operation).requested(values.coerced)

    assert requested == ceil(Oracle(OURS, document, values, OUR_PRICES).cost(operation, None))


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("{ __typename }", 0),
        ("{ viewer { name scopes } }", 1),
        ("{ site { id name } }", 11),
        ("query ($r: DateRange!) { dau(range: $r) { total } }", 101),
        ("query ($r: DateRange!) { dau(range: $r) { points { date users complete } } }", 466),
        ("query ($r: DateRange!) { dau(range: $r) { points { date } meta { cache } } }", 467),
        ("query ($r: DateRange!) { activeUsers(range: $r) { points { date } } }", 466),
        (
            "query ($r: DateRange!) { activeUsers(range: $r, interval: WEEK) { points { date }}}",
            154,
        ),
        (
            "query ($r: DateRange!) { activeUsers(range: $r, interval: MONTH) { points { date }}}",
            114,
        ),
        (
            "query ($r: DateRange!) { eventCounts(range: $r, interval: HOUR) { points { at } } }",
            9226,
        ),
        ("query ($r: DateRange!) { topEvents(range: $r) { events { count } } }", 111),
        ("query ($r: DateRange!) { topEvents(range: $r, limit: 500) { events { count } } }", 601),
        ("query ($r: DateRange!) { retention(range: $r) { cohorts { size } } }", 154),
        ("query ($r: DateRange!) { retention(range: $r) { cohorts { periods { rate } } } }", 631),
        (f"{RETENTION} {{ cohorts {{ periods {{ rate }} }} }} }}", 127),
        ("{ events { nodes { eventId } } }", 151),
        ("{ events(first: 10) { nodes { eventId } edges { node { eventId } } } }", 131),
        ('{ userEvents(userId: "u", first: 3) { edges { cursor } pageInfo { endCursor } } }', 105),
        ('{ receipts(eventIds: ["a", "b"]) { status } }', 102),
        ('{ receipts(eventIds: "a") { status } }', 101),
        ("{ a: viewer { name } b: receipts(eventIds: []) { status } }", 101),
    ],
)
def test_typical_questions_cost(text: str, points: int, priced: Priced) -> None:
    given_variables = {"r": YEAR} if "$r" in text else {}

    assert priced.requested(text, **given_variables) == points


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (
            "query ($r: DateRange!) { eventCounts(range: $r, interval: HOUR) { points { at } } }",
            {"r": LONGEST},
        ),
        ("{ events(first: 1000) { edges { node { eventId } } nodes { eventId } } }", {}),
        (
            "query ($ids: [UUID!]!) { receipts(eventIds: $ids) { status } }",
            {"ids": ["x"] * 5_000},
        ),
        (
            "mutation ($i: IngestInput!) { ingest(input: $i) { receipts { status } } }",
            {"i": {"events": [EVENT] * 5_000}},
        ),
        (get_introspection_query(), {}),
    ],
)
def test_the_largest_questions_of_a_kind_cost_less_than_is_allowed(
    text: str, variables: Mapping[str, Any], priced: Priced
) -> None:
    assert priced.requested(text, **variables) < 200_000


@pytest.mark.parametrize(("events", "points"), [(1, 3), (10, 3), (11, 4), (1_000, 102)])
def test_ingest_costs_by_its_events(events: int, points: int, priced: Priced) -> None:
    text = "mutation ($i: IngestInput!) { ingest(input: $i) { accepted } }"

    variables = {"i": {"events": [EVENT] * events}}

    assert priced.requested(text, **variables) == points
    assert priced.actual(text, {"ingest": {"accepted": events}}, **variables) == points


def test_receipts_cost_by_the_events_that_were_sent(priced: Priced) -> None:
    text = (
        "mutation ($e: [EventInput!]!, $more: EventInput!) {"
        " a: ingest(input: { events: $e }) { receipts(only: [REJECTED]) { code } }"
        ' b: ingest(input: { events: [$more, { eventType: "b" }] }) { receipts { status } } }'
    )
    variables = {"e": [EVENT] * 100, "more": EVENT}
    data = {"a": {"receipts": []}, "b": {"receipts": [{"status": "QUEUED"}] * 2}}

    assert priced.requested(text, **variables) == 1 + 1 + 10 + 100 + 1 + 1 + 0.2 + 2 + 0.8
    assert priced.actual(text, data, **variables) == 1 + 1 + 10 + 0 + 1 + 1 + 0.2 + 2 + 0.8


@pytest.mark.parametrize(
    "argument", ['{ from: "2025-01-01", to: "2025-12-31" }', '{ from: $from, to: "2025-12-31" }']
)
def test_days_are_read_from_literals_too(argument: str, priced: Priced) -> None:
    declared = "($from: Date!)" if "$from" in argument else ""
    variables = {"from": date(2025, 1, 1).isoformat()} if declared else {}
    text = f"query {declared} {{ dau(range: {argument}) {{ points {{ date }} }} }}"

    assert priced.requested(text, **variables) == 466


@pytest.mark.parametrize(("declared", "points"), [("$n: Int! = 7", 108), ("$n: Int", 151)])
def test_a_variable_that_is_left_out_leaves_the_default(
    declared: str, points: int, priced: Priced
) -> None:
    text = f"query ({declared}) {{ events(first: $n) {{ nodes {{ path }} }} }}"

    assert priced.requested(text) == points
    assert priced.requested(text, n=2) == 103


def test_a_fragment_costs_by_the_field_that_it_stands_in(priced: Priced) -> None:
    text = (
        "{ a: events(first: 1) { ...f } b: events(first: 5) { ...f } }"
        " fragment f on EventConnection { nodes { path } }"
    )

    assert priced.requested(text) == 102 + 106


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("... on Book { price } ... on Disc { tracks { text } }", {"tracks": []}),
        ("title ... on Disc { owner { shelf { name } } }", {"title": "t"}),
        ("... on Book { owner { name } } ... on Disc { title owner { favourite { title } } }", {}),
    ],
)
def test_an_object_costs_by_what_it_answered_whatever_others_would_have(
    text: str, data: Mapping[str, Any]
) -> None:
    document, operation, _ = prepared(SMALL, f"{{ thing {{ {text} }} }}", {})

    assert SMALL_MODEL.plan(document, operation).actual({"thing": data}, {}) == 1


def test_what_lies_below_such_an_object_costs_by_what_was_answered() -> None:
    text = "{ thing { owner { name } ... on Disc { owner { shelf { name } } } } }"
    document, operation, _ = prepared(SMALL, text, {})
    plan = SMALL_MODEL.plan(document, operation)

    # The owner is written twice and counts twice, its shelf only where there is one.
    assert plan.actual({"thing": {"owner": {"name": "n"}}}, {}) == 1 + 2
    with_shelf = {"thing": {"owner": {"name": "n", "shelf": {"name": "s"}}}}
    assert plan.actual(with_shelf, {}) == ceil(1 + 2 + 1.5 + 1)


def test_members_and_names_of_enums_are_the_same(priced: Priced) -> None:
    plan, _ = priced.plan(
        "query ($r: DateRange!, $i: Interval!) { activeUsers(range: $r, interval: $i) "
        "{ points { date } } }",
        {"r": YEAR, "i": "WEEK"},
    )
    days = {"from": date(2025, 1, 1), "to": date(2025, 12, 31)}

    assert plan.requested({"r": days, "i": Interval.WEEK}) == 154
    assert plan.requested({"r": days, "i": "WEEK"}) == 154


def test_inputs_may_be_objects(priced: Priced) -> None:
    class Days:
        from_ = date(2025, 1, 1)
        to = date(2025, 12, 31)

    class Sent:
        events = (EVENT, EVENT)

    dau, _ = priced.plan(
        "query ($r: DateRange!) { dau(range: $r) { points { date } } }", {"r": YEAR}
    )
    ingest, _ = priced.plan(
        "mutation ($i: IngestInput!) { ingest(input: $i) { receipts { status } } }",
        {"i": {"events": []}},
    )

    assert dau.requested({"r": Days()}) == 466
    assert ingest.requested({"i": Sent()}) == ceil(1 + 1 + 0.2 + 2)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ('{ dau(range: { from: "0001-01-01", to: "9999-12-31" }) { points { date } } }', 1_201),
        ('{ dau(range: { from: "2025-01-02", to: "2025-01-01" }) { points { date } } }', 101),
        ("{ events(first: 2000000000) { nodes { path } } }", 1_101),
        ("{ events(first: -5) { nodes { path } } }", 101),
        (f"{{ topEvents(range: {DAY}, limit: 99999) {{ events {{ count }} }} }}", 1_101),
    ],
)
def test_what_a_resolver_refuses_costs_no_more_than_what_it_answers(
    text: str, most: int, priced: Priced
) -> None:
    assert priced.requested(text) == most


def test_what_is_skipped_costs_nothing(priced: Priced) -> None:
    text = (
        "query ($yes: Boolean!) { viewer { name } dau(range: "
        '{ from: "2025-01-01", to: "2025-01-10" }) @include(if: $yes) '
        "{ points @skip(if: $yes) { date } ... @skip(if: true) { points { date } } } }"
    )

    assert priced.requested(text, yes=True) == 102
    assert priced.requested(text, yes=False) == 1
    assert priced.actual(text, {"viewer": {"name": "n"}}, yes=False) == 1


@pytest.mark.parametrize(
    ("data", "points"),
    [
        (None, 0),
        ({}, 0),
        ({"a": None, "b": None}, 100),
        ({"a": [None, {"status": "ACCEPTED"}], "b": None}, 101),
        ({"a": [], "b": {"id": "s"}}, 101 + 10),
    ],
)
def test_an_answer_costs_what_is_in_it(
    data: Mapping[str, Any] | None, points: int, priced: Priced
) -> None:
    text = '{ a: receipts(eventIds: ["x", "y"]) { status } b: site { id } }'

    # A field that was answered by null was asked all the same.
    assert priced.actual(text, data) == points + (10 if data and data.get("b", 1) is None else 0)


def test_an_answer_with_lists_in_lists_costs_each_entry(priced: Priced) -> None:
    text = "query ($r: DateRange!) { retention(range: $r) { cohorts { size periods { rate } } } }"
    cohorts = [{"size": 1, "periods": [{"rate": 0.5}] * length} for length in (3, 2, 1)]

    assert priced.actual(text, {"retention": {"cohorts": cohorts}}, r=YEAR) == 101 + 3 + 6


def test_costs_stop_growing() -> None:
    levels = 40
    text = f"{{ {'shelf(first: 6) { books { owner { ' * levels} name {'} } } ' * levels} }}"
    document, operation, values = prepared(SMALL, text.replace("{ shelf", "{ shelf", 1), {})
    plan = SMALL_MODEL.plan(document, operation)
    data: dict[str, Any] = {"name": "n"}
    for _ in range(levels):
        data = {"shelf": {"books": [{"owner": data}]}}

    assert plan.requested(values.coerced) == MOST // POINT
    assert plan.actual(data, values.coerced) == 3 + 3 * levels + ceil(1.5 * (levels - 1))


def test_a_plan_is_as_large_as_its_document(priced: Priced) -> None:
    levels = 150
    text = (
        "query ($r: DateRange!) { ...f0 } "
        + " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels))
        + f" fragment f{levels} on Query {{ dau(range: $r) {{ total points {{ date }} }} }}"
    )
    document = parse(text)
    operation = get_operation_ast(document)
    assert operation is not None

    seen: set[int] = set()
    parts: list[Any] = [priced.model.plan(document, operation)._root]
    while parts:
        part = parts.pop()
        if id(part) not in seen:
            seen.add(id(part))
            parts += getattr(part, "parts", ())

    assert len(seen) < 4 * levels


def test_selections_may_be_nested_as_deep_as_documents_may(priced: Priced) -> None:
    deep = 150
    chain = " ".join(
        f"fragment f{n} on Query {{ ...f{n + 1} @include(if: $yes) }}" for n in range(deep)
    )
    text = (
        f"query ($yes: Boolean!) {{ {'... {' * deep} ...f0 {'}' * deep} }} {chain} "
        f"fragment f{deep} on Query {{ site {{ id }} }}"
    )
    document = parse(text)
    operation = get_operation_ast(document)
    assert operation is not None
    plan = priced.model.plan(document, operation)

    assert plan.requested({"yes": True}) == 11
    assert plan.requested({"yes": False}) == 0
    assert plan.actual({"site": {"id": "s"}}, {"yes": True}) == 11


@given(
    st.dates(date(1971, 1, 1), date(2037, 1, 1)),
    st.integers(0, MAX_RANGE_DAYS - 1),
    st.sampled_from([Interval.DAY, Interval.WEEK, Interval.MONTH]),
    st.sampled_from(Weekday),
)
def test_periods_are_never_fewer_than_there_are(
    first: date, days: int, interval: Interval, week_start: Weekday
) -> None:
    asked = DateRange(first, first + timedelta(days=days))
    counted = len(periods_of(asked, interval, week_start))
    from_start = ceil(asked.days / {"DAY": 1, "WEEK": 7, "MONTH": 30}[interval.value])

    most = periods_in(asked.start, asked.end, interval)

    assert most is not None
    assert max(counted, from_start) <= most <= max(counted, from_start) + 1
    assert PeriodRule.RANGE_START  # the rule by which periods are counted from the first day


@pytest.mark.parametrize(
    ("days", "weeks", "months"), [(1, 1, 1), (2, 2, 2), (8, 2, 2), (9, 3, 2), (30, 6, 2)]
)
def test_days_may_touch_a_period_at_either_end(days: int, weeks: int, months: int) -> None:
    first = date(2025, 8, 31)  # a Sunday
    last = first + timedelta(days=days - 1)

    assert periods_in(first, last, "WEEK") == weeks
    assert periods_in(first, last, "MONTH") == months


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_hours_are_never_fewer_than_there_are(zone: str) -> None:
    year = DateRange(date(2025, 1, 1), date(2025, 12, 31))

    most = periods_in(year.start, year.end, "HOUR")

    assert most == 365 * 25
    assert len(list(hours_of(year, zone_of(zone)))) <= most


@pytest.mark.parametrize("value", [None, "no day", 5])
def test_days_that_are_none_tell_nothing(value: object) -> None:
    assert periods_in(value, date(2025, 1, 1), Interval.DAY) is None


def test_a_list_of_objects_must_say_how_long_it_gets() -> None:
    @strawberry.type
    class Leaf:
        name: str

    @strawberry.type
    class Branch:
        leaves: list[Leaf]

    @strawberry.type
    class Query:
        sized: Branch = strawberry.field(
            directives=[ListSize(assumed_size=2, sized_fields=["leaves"])]
        )
        unsized: Branch
        own: list[Leaf]
        vague: list[Leaf] = strawberry.field(directives=[ListSize(slicing_arguments=["first"])])
        nested: list[list[Leaf]] = strawberry.field(directives=[ListSize(assumed_size=2)])
        plain: list[str]

    with pytest.raises(ValueError, match="@listSize") as refused:
        CostModel(strawberry.Schema(Query)._schema)

    named = str(refused.value).partition(": ")[2].split(", ")
    assert sorted(named) == ["Branch.leaves", "Query.nested", "Query.own", "Query.vague"]


@pytest.mark.parametrize("weight", ["", "x", "-1", "0.0001", "1e400000", "nan", "inf"])
def test_a_weight_must_be_a_number_of_thousandths(weight: str) -> None:
    @strawberry.type
    class Query:
        a: str = strawberry.field(directives=[Cost(weight=weight)])

    with pytest.raises(ValueError, match="is not a weight"):
        CostModel(strawberry.Schema(Query)._schema)


def test_operations_of_a_document_share_the_plans_of_its_fragments(priced: Priced) -> None:
    document = parse(
        "query A($r: DateRange!) { ...f } query B($r: DateRange!) { ...f } "
        "fragment f on Query { dau(range: $r) { points { date } } }"
    )
    plans = []
    for name in ("A", "B"):
        operation = get_operation_ast(document, name)
        assert operation is not None
        root: Any = priced.model.plan(document, operation)._root
        plans.append(root.parts[0])

    assert plans[0] is plans[1]
