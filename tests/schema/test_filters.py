"""Filters as clients write them become filters of the store, with nothing lost on the way."""

from dataclasses import fields
from typing import Any

import pytest
import strawberry
from graphql import print_ast
from graphql.utilities import value_to_literal
from hypothesis import given
from hypothesis import strategies as st
from strawberry import UNSET
from strawberry.schema.config import StrawberryConfig

from data.queries import EVERYTHING, EventFilter, Field, NumberFilter, PropertyFilter, StringFilter
from schema.filters import Filter, filter_asked, filter_shown
from schema.scalars import SCALARS

TEXT_NAMES = {
    "eq": "eq",
    "ne": "ne",
    "in_": "in",
    "not_in": "notIn",
    "contains": "contains",
    "starts_with": "startsWith",
    "ends_with": "endsWith",
    "matches": "matches",
    "ignore_case": "ignoreCase",
    "is_set": "isSet",
}
NUMBER_NAMES = {
    name: name if name != "is_set" else "isSet" for name in NumberFilter.__dataclass_fields__
}
FIELD_NAMES = {
    Field.EVENT_TYPE: "eventType",
    Field.USER_ID: "userId",
    Field.VISITOR_ID: "visitorId",
    Field.SESSION_ID: "sessionId",
    Field.URL: "url",
    Field.PATH: "path",
    Field.REFERRER: "referrer",
}

heard: list[EventFilter] = []


@strawberry.type
class Echo:
    @strawberry.field
    def filter(self, filter: Filter = UNSET) -> bool:
        heard.append(filter_asked(filter))
        return True


SCHEMA = strawberry.Schema(Echo, config=StrawberryConfig(scalar_map=SCALARS))


def understood(sent: object) -> EventFilter:
    """The filter that a variable becomes."""
    return _ask("query ($f: EventFilter) { filter(filter: $f) }", {"f": sent})


def understood_literal(sent: object) -> EventFilter:
    """The filter that a value becomes that is written into the document."""
    literal = value_to_literal(sent, SCHEMA._schema.type_map["EventFilter"])  # type: ignore[arg-type]
    assert literal is not None
    return _ask(f"{{ filter(filter: {print_ast(literal)}) }}", None)


def _ask(query: str, variables: dict[str, Any] | None) -> EventFilter:
    heard.clear()
    result = SCHEMA.execute_sync(query, variables)
    assert result.errors is None, result.errors
    return heard.pop()


def refusal(sent: object) -> str:
    """What is said about a filter that is not one."""
    result = SCHEMA.execute_sync("query ($f: EventFilter) { filter(filter: $f) }", {"f": sent})
    assert result.errors
    return result.errors[0].message


def sent_text(wanted: StringFilter) -> dict[str, Any]:
    values = {given: getattr(wanted, name) for name, given in TEXT_NAMES.items()}
    return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}


def sent_property(wanted: PropertyFilter) -> dict[str, Any]:
    number = wanted.number
    return {
        "name": wanted.name,
        "string": wanted.string and sent_text(wanted.string),
        "number": number and {given: getattr(number, one) for one, given in NUMBER_NAMES.items()},
        "boolean": wanted.boolean,
    }


def sent_filter(wanted: EventFilter) -> dict[str, Any]:
    """A filter as a client writes it, with null for all that is not given."""
    conditions = {field: sent_text(text) for field, text in wanted.fields}
    return {
        **{name: conditions.get(field) for field, name in FIELD_NAMES.items()},
        "properties": [sent_property(one) for one in wanted.properties],
        "and": [sent_filter(one) for one in wanted.all_of],
        "or": None if wanted.any_of is None else [sent_filter(one) for one in wanted.any_of],
        "not": wanted.negated and sent_filter(wanted.negated),
    }


def without_nulls(value: Any) -> Any:
    """The same value with nothing in place of null."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


TEXT = optional(st.text(max_size=4))
TEXTS = optional(st.lists(st.text(max_size=4), max_size=3).map(tuple))
NUMBER = optional(st.floats(allow_nan=False, allow_infinity=False))
FLAG = optional(st.booleans())
TEXT_FILTERS = st.builds(
    StringFilter, TEXT, TEXT, TEXTS, TEXTS, TEXT, TEXT, TEXT, TEXT, st.booleans(), FLAG
)
NUMBER_FILTERS = st.builds(NumberFilter, *[NUMBER] * 6, FLAG)
PROPERTY_FILTERS = st.builds(
    PropertyFilter, st.text(max_size=4), optional(TEXT_FILTERS), optional(NUMBER_FILTERS), FLAG
)
# A client gives one condition for a field at most; their order is that of the fields.
CONDITIONS = st.lists(
    st.tuples(st.sampled_from(Field), TEXT_FILTERS), max_size=3, unique_by=lambda one: one[0]
).map(lambda some: tuple(sorted(some, key=lambda one: list(Field).index(one[0]))))


def _around(inner: st.SearchStrategy[EventFilter]) -> st.SearchStrategy[EventFilter]:
    several = st.lists(inner, max_size=2).map(tuple)
    properties = st.lists(PROPERTY_FILTERS, max_size=2).map(tuple)
    return st.builds(
        EventFilter, CONDITIONS, properties, several, optional(several), optional(inner)
    )


FILTERS = st.recursive(st.builds(EventFilter, CONDITIONS), _around, max_leaves=6)


@given(FILTERS)
def test_every_filter_can_be_written_and_is_understood(wanted: EventFilter) -> None:
    assert understood(sent_filter(wanted)) == wanted


@given(FILTERS)
def test_null_is_the_same_as_not_given(wanted: EventFilter) -> None:
    assert understood(without_nulls(sent_filter(wanted))) == wanted


@given(FILTERS)
def test_a_filter_in_the_document_is_the_same_as_in_a_variable(wanted: EventFilter) -> None:
    assert understood_literal(without_nulls(sent_filter(wanted))) == wanted


@given(FILTERS)
def test_a_filter_is_shown_as_it_would_be_sent(wanted: EventFilter) -> None:
    assert understood(filter_shown(wanted)) == wanted


def test_the_names_that_these_tests_know_are_all_there_are() -> None:
    assert set(TEXT_NAMES) == {field.name for field in fields(StringFilter)}
    assert set(FIELD_NAMES) == set(Field)


@pytest.mark.parametrize("sent", [None, {}, {"and": []}, {"properties": []}, {"or": None}])
def test_no_conditions_let_every_event_pass(sent: object) -> None:
    assert understood(sent) == EVERYTHING


def test_a_filter_that_is_left_out_lets_every_event_pass() -> None:
    assert _ask("{ filter }", None) == EVERYTHING


def test_an_empty_or_is_not_the_same_as_none() -> None:
    assert understood({"or": []}) == EventFilter(any_of=())
    assert understood({"or": [{}]}) == EventFilter(any_of=(EVERYTHING,))


def test_empty_lists_of_texts_are_conditions() -> None:
    text = StringFilter(in_=(), not_in=())

    assert understood({"path": {"in": [], "notIn": []}}).fields == ((Field.PATH, text),)


def test_a_condition_that_says_false_is_a_condition() -> None:
    sent = {"userId": {"isSet": False}, "properties": [{"name": "paid", "boolean": False}]}

    assert understood(sent) == EventFilter(
        fields=((Field.USER_ID, StringFilter(is_set=False)),),
        properties=(PropertyFilter("paid", boolean=False),),
    )


def test_zero_and_the_empty_text_are_values() -> None:
    sent = {
        "path": {"eq": ""},
        "properties": [{"name": "", "number": {"eq": 0}, "string": {"ne": ""}}],
    }

    assert understood(sent) == EventFilter(
        fields=((Field.PATH, StringFilter(eq="")),),
        properties=(PropertyFilter("", StringFilter(ne=""), NumberFilter(eq=0.0)),),
    )


def test_one_filter_may_stand_for_a_list_of_one() -> None:
    assert understood({"or": {"not": {}}}) == EventFilter(any_of=(EventFilter(negated=EVERYTHING),))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"colour": {}}, "colour"),
        ({"path": "/a"}, "StringFilter"),
        ({"path": {"eq": 1}}, "String cannot represent"),
        ({"path": {"in": [None]}}, "String!"),
        ({"path": {"like": "x"}}, "like"),
        ({"properties": [{"string": {"eq": "x"}}]}, "name"),
        ({"properties": [{"name": "x", "number": {"eq": "1"}}]}, "Float cannot represent"),
        ({"and": [None]}, "EventFilter!"),
        ([], "EventFilter"),
    ],
)
def test_what_is_no_filter_is_refused(sent: object, message: str) -> None:
    assert message in refusal(sent)


@pytest.mark.parametrize("member", ["not", "and", "or"])
@pytest.mark.parametrize("depth", [100, 5_000])
def test_deep_nesting_is_understood_or_refused_in_words(member: str, depth: int) -> None:
    deep: dict[str, Any] = {}
    for _ in range(depth):
        deep = {member: deep}

    if depth == 100:
        assert understood(deep) != EVERYTHING
    else:
        assert refusal(deep) == "Variable values are nested too deeply."
