"""Variables of an operation, coerced once.

A type of input objects is turned into a row of fields, with the few things that have to be known
of each, when the first object of it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLLeafType,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    Undefined,
    VariableDefinitionNode,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.execution import VariableValues, get_variable_values
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import VariableValueSource
from graphql.utilities.coerce_input_value import coerce_default_value

from schema.execution.plain import NotPlain

Variables: TypeAlias = VariableValues

# Makes of a value what a resolver is given; raises `NotPlain`.
_Coerce: TypeAlias = Callable[[Any], Any]

_MAX_ERRORS = 50

# By what reads them: the types of the values that a scalar takes as they are.
_TAKEN_AS_THEY_ARE: dict[object, frozenset[type]] = {
    GraphQLString.coerce_input_value: frozenset({str}),
    GraphQLID.coerce_input_value: frozenset({str}),
    GraphQLBoolean.coerce_input_value: frozenset({bool}),
}
_NONE: frozenset[type] = frozenset()


class _Position(NamedTuple):
    """What may stand somewhere: values of some types as they are, anything else as it is taken."""

    as_they_are: frozenset[type]
    take: _Coerce


class _Field(NamedTuple):
    """A field of an input object. `default` is Undefined where there is none."""

    name: str
    out_name: str
    position: _Position
    default: Any
    must_be_sent: bool


# As long as a type lives: how its objects are coerced, None where only graphql-core can.
_known: WeakKeyDictionary[GraphQLInputObjectType, _Coerce | None] = WeakKeyDictionary()


def coerce_variables(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    raw: Mapping[str, Any] | None,
    *,
    hide_suggestions: bool,
) -> Variables | list[GraphQLError]:
    """The variables as resolvers are given them, or what is wrong with them.

    Of more than 50 errors the first 50 come, and one that says so. Values that the operation does
    not declare are ignored.
    """
    definitions = operation.variable_definitions
    if not definitions:
        return Variables({}, {})
    sent = dict(raw or {})
    try:
        return _coerced(schema, definitions, sent)
    except NotPlain:
        return get_variable_values(schema, definitions, sent, _MAX_ERRORS, hide_suggestions)


def _coerced(
    schema: GraphQLSchema, definitions: Collection[VariableDefinitionNode], sent: dict[str, Any]
) -> Variables:
    variables = Variables({}, {})
    for definition in definitions:
        name = definition.variable.name.value
        signature = get_variable_signature(schema, definition)
        if isinstance(signature, GraphQLError):
            raise NotPlain
        value = sent.get(name, Undefined)
        position = None if value is Undefined else position_of(signature.type)
        if position:
            variables.sources[name] = VariableValueSource(signature, value)
            variables.coerced[name] = _taken(value, position)
            continue
        found = get_variable_values(schema, (definition,), sent, _MAX_ERRORS, hide_suggestions=True)
        if isinstance(found, list):
            raise NotPlain
        variables.sources.update(found.sources)
        variables.coerced.update(found.coerced)
    return variables


def position_of(type_: GraphQLInputType) -> _Position | None:
    """What may be sent for the type; None where only graphql-core can tell."""
    try:
        return _position(type_)
    except NotPlain:
        return None


def _position(type_: GraphQLInputType) -> _Position:
    is_required = is_non_null_type(type_)
    if is_non_null_type(type_):
        type_ = type_.of_type
    if is_leaf_type(type_):
        as_they_are = _TAKEN_AS_THEY_ARE.get(type_.coerce_input_value, _NONE)
        return _Position(as_they_are, _leaf_coercer(type_, is_required=is_required))
    coerce = _composite_coercer(type_)
    return _Position(_NONE, coerce if is_required else _or_null(coerce))


def _composite_coercer(type_: GraphQLInputType) -> _Coerce:
    if is_list_type(type_):
        return _list_coercer(_position(type_.of_type))
    if is_input_object_type(type_):
        return _object_coercer(type_)
    raise NotPlain


def _or_null(coerce: _Coerce) -> _Coerce:
    return lambda value: None if value is None else coerce(value)


def _taken(value: Any, position: _Position) -> Any:
    as_they_are, take = position
    return value if type(value) in as_they_are else take(value)


def _list_coercer(items: _Position) -> _Coerce:
    as_they_are, take = items

    def coerce(value: Any) -> list[Any]:
        if type(value) is not list:
            raise NotPlain
        return [item if type(item) in as_they_are else take(item) for item in value]

    return coerce


def _leaf_coercer(type_: GraphQLLeafType, *, is_required: bool) -> _Coerce:
    read = type_.coerce_input_value

    def coerce(value: Any) -> Any:
        # Scalars are not asked about null, whatever they would say.
        if value is None:
            if is_required:
                raise NotPlain
            return None
        try:
            coerced = read(value)
        except Exception as error:
            # graphql-core will say what is wrong.
            raise NotPlain from error
        if coerced is Undefined:
            raise NotPlain
        return coerced

    return coerce


def _object_coercer(type_: GraphQLInputObjectType) -> _Coerce:
    if type_ not in _known:
        # A type that is met within itself is none of ours: it may be nested without end.
        _known[type_] = None
        if type_.is_one_of or type_.out_type is not GraphQLInputObjectType.out_type:
            raise NotPlain
        _known[type_] = _fields_coercer(_fields(type_))
    known = _known[type_]
    if known is None:
        raise NotPlain
    return known


def _fields(type_: GraphQLInputObjectType) -> list[_Field]:
    fields = []
    for name, field in type_.fields.items():
        try:
            default = coerce_default_value(field)
        except TypeError as error:
            raise NotPlain from error
        must_be_sent = is_required_input_field(field)
        position = _position(field.type)
        fields.append(_Field(name, field.out_name or name, position, default, must_be_sent))
    return fields


def _fields_coercer(fields: list[_Field]) -> _Coerce:
    # Unpacked here and spelled out below: this is done for every field of every event.
    rows = [
        (one.name, one.out_name, *one.position, one.default, one.must_be_sent) for one in fields
    ]

    def coerce(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise NotPlain
        unknown = len(value)
        coerced = {}
        for name, out_name, as_they_are, take, default, must_be_sent in rows:
            if name in value:
                unknown -= 1
                item = value[name]
                coerced[out_name] = item if type(item) in as_they_are else take(item)
            elif must_be_sent:
                raise NotPlain
            elif default is not Undefined:
                coerced[out_name] = default
        if unknown:
            raise NotPlain
        return coerced

    return coerce
