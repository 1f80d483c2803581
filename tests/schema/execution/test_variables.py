"""Variables: whatever is sent for whatever type, resolvers are given what graphql-core gives."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    get_named_type,
    get_variable_values,
    is_input_object_type,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st

from schema.execution import Variables, coerce_variables
from schema.execution.inputs import position_of
from tests.schema.execution.inputs import COLOUR, GOOD, LEAVES, ODD, Values, draw_type

seeds = st.integers(0, 2**64 - 1)


def schema_with(type_: GraphQLInputType) -> GraphQLSchema:
    field = GraphQLField(GraphQLString, {"sent": GraphQLArgument(type_)})
    return GraphQLSchema(GraphQLObjectType("Query", {"field": field}))


def operation(text: str) -> OperationDefinitionNode:
    node = parse(text).definitions[0]
    assert isinstance(node, OperationDefinitionNode)
    return node


def shown(outcome: Variables | list[GraphQLError]) -> object:
    """All that can be told apart: types of values, order of keys, and what errors say."""
    if isinstance(outcome, list):
        return [
            (error.message, error.path, error.nodes, error.extensions, repr(error.original_error))
            for error in outcome
        ]
    sources = {
        name: (source.signature.name, str(source.signature.type), source.value)
        for name, source in outcome.sources.items()
    }
    return repr(outcome.coerced), repr(sources)


def outcomes(
    schema: GraphQLSchema, asked: OperationDefinitionNode, sent: dict[str, Any], *, hide: bool
) -> tuple[object, object]:
    """What comes of variables here, and by graphql-core; what is raised counts as well."""
    definitions = asked.variable_definitions or ()
    return (
        _outcome(lambda: coerce_variables(schema, asked, sent, hide_suggestions=hide)),
        _outcome(lambda: get_variable_values(schema, definitions, sent, 50, hide)),
    )


def _outcome(coerce: Callable[[], Variables | list[GraphQLError]]) -> object:
    try:
        return shown(coerce())
    except Exception as error:  # noqa: BLE001 - both have to raise the same
        return repr(error)


@given(seeds)
def test_good_values_are_coerced_as_by_graphql_core(seed: int) -> None:
    random = Random(seed)
    type_ = draw_type(random)
    asked = operation(f"query ($sent: {type_}) {{ field(sent: $sent) }}")
    sent = {"sent": Values(random, is_odd=False).value(type_), "undeclared": object()}

    found, expected = outcomes(schema_with(type_), asked, sent, hide=True)

    assert found == expected


@given(seeds)
def test_odd_values_are_refused_or_coerced_as_by_graphql_core(seed: int) -> None:
    random = Random(seed)
    type_ = draw_type(random)
    asked = operation(
        f"query ($sent: {type_}, $more: {type_}, $text: String! = 7, $number: Int = 7) "
        "{ field(sent: $sent) }"
    )
    values = Values(random, is_odd=True)
    sent = {
        name: values.value(of_type)
        for name, of_type in {"sent": type_, "more": type_, "text": GraphQLString}.items()
        if random.random() < 0.8
    }

    found, expected = outcomes(schema_with(type_), asked, sent, hide=random.random() < 0.5)

    assert found == expected


def agreed(type_: GraphQLInputType, value: object) -> None:
    asked = operation(f"query ($sent: {type_}) {{ field(sent: $sent) }}")

    found, expected = outcomes(schema_with(type_), asked, {"sent": value}, hide=False)

    assert found == expected, value


@pytest.mark.parametrize("leaf", dict.fromkeys(LEAVES))
@pytest.mark.parametrize("is_required", [False, True])
def test_every_value_for_every_leaf_is_taken_as_by_graphql_core(
    leaf: Any, is_required: bool
) -> None:
    type_ = GraphQLNonNull(leaf) if is_required else leaf
    object_type = GraphQLInputObjectType("T", {"f0": GraphQLInputField(type_)})
    for value in [*ODD, *chain.from_iterable(GOOD.values())]:
        agreed(type_, value)
        agreed(GraphQLList(type_), [value])
        agreed(object_type, {"f0": value})


@pytest.mark.parametrize(
    "value", [{}, {"f0": 1}, {"f0": None}, {"f0": 1, "f1": 2}, {"f0": 1, "f1": None}, {"f2": 1}]
)
def test_one_of_several_fields_is_taken_as_by_graphql_core(value: object) -> None:
    fields = {"f0": GraphQLInputField(GraphQLInt), "f1": GraphQLInputField(GraphQLInt)}

    agreed(GraphQLInputObjectType("T", fields, is_one_of=True), value)


@given(seeds)
def test_sound_values_are_never_left_to_graphql_core(seed: int) -> None:
    random = Random(seed)
    type_ = draw_type(random)
    value = Values(random, is_odd=False).value(type_)
    position = position_of(type_)

    if position is None:
        assert {"oneOf", "again", "out_type"} & peculiarities(type_)
    elif value is not None:
        position.take(value)


def peculiarities(type_: GraphQLInputType) -> set[str]:
    """What an input type has that only graphql-core takes, in itself or within."""
    named = get_named_type(type_)
    if not is_input_object_type(named):
        return set()
    found = {"oneOf"} if named.is_one_of else set()
    if named.out_type is not GraphQLInputObjectType.out_type:
        found.add("out_type")
    for name, field in named.fields.items():
        found |= {name} if name == "again" else peculiarities(field.type)
    return found


def test_what_is_known_of_a_type_ends_with_the_type() -> None:
    type_ = GraphQLInputObjectType("T", {"f0": GraphQLInputField(COLOUR)})
    assert position_of(type_) is not None
    gone = weakref.ref(type_)

    del type_
    gc.collect()

    assert gone() is None
