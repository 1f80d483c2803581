"""The schema as people and programs read it: explained, named by the rules, and checked in."""

import re
from collections.abc import Iterator

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_specified_scalar_type,
)

from data.events import MAX_EVENT_BYTES, MAX_EVENTS_PER_REQUEST
from resolvers.reports import MAX_FILTER_DEPTH, MAX_FILTER_PARTS, MAX_RANGE_DAYS
from schema.build import graphql_schema, sdl
from tests.architecture.rules import ROOT

SNAPSHOT = ROOT / "schema" / "schema.graphql"

# Inputs that are named for what they are, by the contract.
NAMED_FOR_THEMSELVES = {
    "DateRange",
    "EventFilter",
    "NumberFilter",
    "PropertyFilter",
    "RetentionOptions",
    "StringFilter",
}
CAMEL = re.compile(r"[a-z][a-zA-Z0-9]*")
PASCAL = re.compile(r"[A-Z][a-zA-Z0-9]*")
UPPER = re.compile(r"[A-Z][A-Z0-9_]*")


def types_of(schema: GraphQLSchema) -> list[GraphQLNamedType]:
    """Our types: without introspection and the scalars that every schema has."""
    return [
        named
        for name, named in sorted(schema.type_map.items())
        if not name.startswith("__") and not is_specified_scalar_type(named)
    ]


def elements_of(named: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    """Name and description of a type and of everything in it."""
    yield named.name, named.description
    if isinstance(named, GraphQLEnumType):
        for name, value in named.values.items():
            yield f"{named.name}.{name}", value.description
    elif isinstance(named, GraphQLInputObjectType):
        for name, sent in named.fields.items():
            yield f"{named.name}.{name}", sent.description
    elif isinstance(named, (GraphQLObjectType, GraphQLInterfaceType)):
        for name, answered in named.fields.items():
            yield f"{named.name}.{name}", answered.description
            for argument, definition in answered.args.items():
                yield f"{named.name}.{name}({argument})", definition.description


def unexplained(schema: GraphQLSchema) -> list[str]:
    """Elements without a description that is a sentence or two."""
    elements = [("schema", schema.description)]
    for named in types_of(schema):
        elements += elements_of(named)
    return [
        name
        for name, text in elements
        if not text or not re.match(r"[A-Z0-9`].*\.$", text, re.DOTALL)
    ]


def misnamed(schema: GraphQLSchema) -> list[str]:
    """Elements whose names break the rules."""
    found = []
    for named in types_of(schema):
        found += [] if PASCAL.fullmatch(named.name) else [named.name]
        if isinstance(named, GraphQLInputObjectType) and not (
            named.name.endswith("Input") or named.name in NAMED_FOR_THEMSELVES
        ):
            found.append(named.name)
        rule = UPPER if isinstance(named, GraphQLEnumType) else CAMEL
        for name, _ in list(elements_of(named))[1:]:
            words = re.split(r"[.()]+", name.rstrip(")"))[1:]
            found += [] if all(map(rule.fullmatch, words)) else [name]
    return found


def test_every_element_is_described_in_sentences() -> None:
    assert unexplained(graphql_schema()) == []


def test_an_element_without_a_description_is_noticed() -> None:
    odd = build_schema('"A." type Query { a(b: Int): Kind } enum Kind { "Not a sentence" LAST }')

    assert unexplained(odd) == ["schema", "Kind", "Kind.LAST", "Query.a", "Query.a(b)"]


def test_names_follow_the_rules() -> None:
    assert misnamed(graphql_schema()) == []


def test_a_name_that_breaks_the_rules_is_noticed() -> None:
    odd = build_schema(
        "type Query { a_b(C: draft): Kind } input draft { D: Int } enum Kind { last } "
        "input Draft { d: Int }"
    )

    assert misnamed(odd) == [
        "Draft",
        "Kind.last",
        "Query.a_b",
        "Query.a_b(C)",
        "draft",
        "draft",
        "draft.D",
    ]


def test_the_checked_in_schema_is_the_schema() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == sdl()


def test_the_printed_schema_is_the_same_every_time_and_can_be_read_back() -> None:
    printed = sdl()

    assert printed == sdl()
    assert printed.endswith("}\n")
    assert not printed.endswith("\n\n")
    assert set(build_schema(printed).type_map) == set(graphql_schema().type_map)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("DateRange", f"{MAX_RANGE_DAYS:,} days"),
        ("EventFilter", f"{MAX_FILTER_DEPTH} deep"),
        ("EventFilter", f"{MAX_FILTER_PARTS} conditions"),
        ("IngestInput", f"{MAX_EVENT_BYTES // 1024} KiB"),
        ("IngestInput.events", f"1 to {MAX_EVENTS_PER_REQUEST:,}"),
    ],
)
def test_descriptions_state_the_limits_that_hold(name: str, limit: str) -> None:
    described = dict(elements_of(graphql_schema().type_map[name.split(".", maxsplit=1)[0]]))

    assert limit in (described[name] or "")


def test_the_schema_has_no_more_roots_than_it_answers() -> None:
    schema = graphql_schema()

    assert schema.query_type is schema.type_map["Query"]
    assert schema.mutation_type is schema.type_map["Mutation"]
    assert schema.subscription_type is schema.type_map["Subscription"]
