"""Lists of an answer, completed column by column.

All values that a list has for one field are read, checked and shown together, which costs a
fraction of doing so item by item. Lists within the items are one column as well: they are strung
together, completed, and cut again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice, repeat
from math import isfinite
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

from graphql import (
    Executor,
    GraphQLBoolean,
    GraphQLError,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLStreamDirective,
    GraphQLString,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.type import GRAPHQL_MAX_INT, GRAPHQL_MIN_INT
from strawberry.schema.schema_converter import CustomGraphQLEnumType, GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from schema.execution.plain import NotPlain, require_stored

# Completes the values of one position in all items of a list: as many as there are, in the same
# order. Raises `NotPlain`, in which case nothing has happened.
Column: TypeAlias = Callable[[list[Any]], list[Any]]
# The same for values none of which is None; it is also told of which types they are.
_Present: TypeAlias = Callable[[list[Any], set[type]], list[Any]]

# Values of exactly these types are not null, not awaitable and no exceptions.
_INERT = frozenset(
    {
        bool,
        int,
        float,
        str,
        bytes,
        dict,
        list,
        tuple,
        date,
        datetime,
        time,
        timedelta,
        Decimal,
        UUID,
    }
)

# How members of an enum are told apart by identity, or by a value that no two of them share.
_PLAIN_EQUALITY: frozenset[object] = frozenset({object.__eq__, str.__eq__, int.__eq__})

# By serializer: whether values, which are of these types, are shown as they are.
_SHOWN_AS_THEY_ARE: dict[object, Callable[[list[Any], set[type]], bool]] = {
    GraphQLString.coerce_output_value: lambda _, kinds: kinds == {str},
    GraphQLID.coerce_output_value: lambda _, kinds: kinds == {str},
    GraphQLBoolean.coerce_output_value: lambda _, kinds: kinds == {bool},
    GraphQLFloat.coerce_output_value: lambda values, kinds: (
        kinds == {float} and all(map(isfinite, values))
    ),
    GraphQLInt.coerce_output_value: lambda values, kinds: (
        kinds == {int} and min(values) >= GRAPHQL_MIN_INT and max(values) <= GRAPHQL_MAX_INT
    ),
}


def list_column(
    executor: Executor[Any], type_: GraphQLList[Any], details: FieldDetailsList
) -> Column | None:
    """What completes the items of the lists in a place of the document, or None."""
    if executor.middleware_manager:
        return None
    try:
        return _items(executor, type_, details)
    except NotPlain:
        return None


def _items(executor: Executor[Any], type_: GraphQLList[Any], details: FieldDetailsList) -> Column:
    directives = details[0].node.directives or ()
    if any(directive.name.value == GraphQLStreamDirective.name for directive in directives):
        raise NotPlain
    return _column(executor, type_.of_type, details)


def _column(executor: Executor[Any], type_: GraphQLOutputType, details: FieldDetailsList) -> Column:
    if is_non_null_type(type_):
        return _required(_present(executor, type_.of_type, details))
    return _optional(_present(executor, type_, details))


def _required(present: _Present) -> Column:
    def complete(values: list[Any]) -> list[Any]:
        kinds = set(map(type, values))
        if NoneType in kinds:
            raise NotPlain
        return present(values, kinds)

    return complete


def _optional(present: _Present) -> Column:
    def complete(values: list[Any]) -> list[Any]:
        kinds = set(map(type, values))
        if NoneType not in kinds:
            return present(values, kinds)
        kinds.remove(NoneType)
        shown = iter(present([value for value in values if value is not None], kinds))
        return [None if value is None else next(shown) for value in values]

    return complete


def _present(
    executor: Executor[Any], type_: GraphQLOutputType, details: FieldDetailsList
) -> _Present:
    if is_list_type(type_):
        return _lists(_items(executor, type_, details))
    if isinstance(type_, CustomGraphQLEnumType):
        return _members(type_)
    if is_leaf_type(type_):
        return _leaves(type_)
    if is_object_type(type_):
        return _objects(executor, type_, details)
    raise NotPlain


def _lists(items: Column) -> _Present:
    def present(values: list[Any], kinds: set[type]) -> list[Any]:
        if not kinds <= {list, tuple}:
            raise NotPlain
        shown = iter(items(list(chain.from_iterable(values))))
        return [list(islice(shown, len(value))) for value in values]

    return present


def _members(type_: CustomGraphQLEnumType) -> _Present:
    if type_.wrapped_cls.__eq__ not in _PLAIN_EQUALITY:
        raise NotPlain

    def present(values: list[Any], kinds: set[type]) -> list[Any]:
        if not kinds <= {type_.wrapped_cls}:
            raise NotPlain
        # Finding a member's name takes a search, and a column has few different members.
        members = list(dict.fromkeys(values))
        names = dict(zip(members, _shown(type_, members), strict=True))
        return [names[value] for value in values]

    return present


def _leaves(type_: GraphQLLeafType) -> _Present:
    as_they_are = _SHOWN_AS_THEY_ARE.get(type_.coerce_output_value)

    def present(values: list[Any], kinds: set[type]) -> list[Any]:
        if as_they_are and as_they_are(values, kinds):
            return values
        if not kinds <= _INERT:
            raise NotPlain
        return _shown(type_, values)

    return present


def _shown(type_: GraphQLLeafType, values: list[Any]) -> list[Any]:
    try:
        shown = list(map(type_.coerce_output_value, values))
    except Exception as error:
        # graphql-core will say which, and at which place.
        raise NotPlain from error
    if not set(map(type, shown)) <= _INERT:
        raise NotPlain
    return shown


def _objects(
    executor: Executor[Any], type_: GraphQLObjectType, details: FieldDetailsList
) -> _Present:
    if type_.is_type_of:
        raise NotPlain
    attributes: set[str] = set()
    columns: dict[str, Column] = {}
    for name, field_details in _subfields(executor, type_, details).items():
        field = executor.schema.get_field(type_, field_details[0].node.name.value)
        if field is None:
            continue
        if field_details[0].node.name.value == "__typename":
            columns[name] = _typenames(type_)
            continue
        attribute = _attribute_of(field)
        attributes.add(attribute)
        columns[name] = _attributes(attribute, _column(executor, field.type, field_details))

    names = tuple(columns)

    def present(values: list[Any], kinds: set[type]) -> list[Any]:
        for kind in kinds:
            require_stored(kind, attributes)
        if not names:
            return [{} for _ in values]
        rows = zip(*(column(values) for column in columns.values()), strict=True)
        return list(map(dict, map(zip, repeat(names), rows)))

    return present


def _subfields(
    executor: Executor[Any], type_: GraphQLObjectType, details: FieldDetailsList
) -> GroupedFieldSet:
    try:
        collected = executor.collect_subfields(type_, details)
    except GraphQLError as error:
        raise NotPlain from error
    if collected.new_defer_usages:
        raise NotPlain
    return collected.grouped_field_set


def _attribute_of(field: GraphQLField) -> str:
    """The attribute that the field shows; raises `NotPlain` where more than that is done."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if (
        isinstance(definition, StrawberryField)
        and definition.is_basic_field
        and definition.default_resolver is getattr
        and type(definition).get_result is StrawberryField.get_result
        and getattr(field.resolve, "_is_default", False)
    ):
        return definition.python_name
    raise NotPlain


def _attributes(name: str, column: Column) -> Column:
    read = attrgetter(name)

    def complete(objects: list[Any]) -> list[Any]:
        try:
            values = list(map(read, objects))
        except AttributeError as error:
            raise NotPlain from error
        return column(values)

    return complete


def _typenames(type_: GraphQLObjectType) -> Column:
    return lambda objects: [type_.name] * len(objects)
