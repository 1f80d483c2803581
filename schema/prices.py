"""What the `@cost` and `@listSize` of a schema say, ready for counting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
)

from schema.cost_plan import POINT
from schema.directives import Cost, ListSize, applied

_WEIGHT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")


class Prices:
    """Weights and list sizes of a schema's fields.

    Raises ValueError for a schema that doesn't say how long a list of objects can get, or says
    something that is no weight.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._introspection = _introspection_sizes(schema)
        self._inputs: dict[int, tuple[tuple[str, int], ...]] = {}
        for _, field in _fields_of(schema):
            weight_of(field)
            self.inputs(field)
        unsized = [name for name, is_sized in _lists_of_objects(schema) if not is_sized]
        if unsized:
            raise ValueError(f"say with @listSize how long these can get: {', '.join(unsized)}")

    def inputs(self, field: GraphQLField) -> tuple[tuple[str, int], ...]:
        """Paths to the entries of inputs that cost something, with what one of them costs."""
        known = self._inputs.get(id(field))
        if known is None:
            known = self._inputs[id(field)] = tuple(
                found
                for name, argument in field.args.items()
                for found in _weighted(get_named_type(argument.type), name, frozenset())
            )
        return known

    def size_in_introspection(self, field_name: str) -> int:
        """How long a list of the schema about itself is, on the average."""
        return self._introspection[field_name]


def weight_of(field: GraphQLField | GraphQLInputField) -> int:
    """What a field costs by itself, in thousandths; raises ValueError for an odd weight."""
    for directive in applied(field):
        if isinstance(directive, Cost):
            if not _WEIGHT.fullmatch(directive.weight):
                raise ValueError(f"{directive.weight!r} is not a weight")
            return int(Decimal(directive.weight) * POINT)
    return 0


def list_size_of(field: GraphQLField) -> ListSize | None:
    """The `@listSize` of a field, if it has one."""
    return next((one for one in applied(field) if isinstance(one, ListSize)), None)


def is_list(type_: GraphQLOutputType) -> bool:
    """Whether values of the type are lists."""
    return is_list_type(get_nullable_type(type_))


def item_of(type_: GraphQLOutputType) -> GraphQLOutputType:
    """The type of the entries of a list."""
    items = get_nullable_type(type_)
    assert isinstance(items, GraphQLList)
    item: GraphQLOutputType = items.of_type
    return item


def _fields_of(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLField]]:
    for name, named in schema.type_map.items():
        if isinstance(named, (GraphQLObjectType, GraphQLInterfaceType)) and name[:2] != "__":
            for field in named.fields.values():
                yield name, field


def _lists_of_objects(schema: GraphQLSchema) -> Iterator[tuple[str, bool]]:
    """Names of fields that answer with lists of objects, and whether it is said how long."""
    for type_name, named in schema.type_map.items():
        if isinstance(named, (GraphQLObjectType, GraphQLInterfaceType)) and type_name[:2] != "__":
            for name, field in named.fields.items():
                if is_list(field.type) and is_composite_type(get_named_type(field.type)):
                    yield f"{type_name}.{name}", _is_sized(schema, named, name, field)


def _is_sized(
    schema: GraphQLSchema, parent: GraphQLNamedType, name: str, field: GraphQLField
) -> bool:
    if is_list(item_of(field.type)):
        return False  # nothing says how long lists in lists are
    own = list_size_of(field)
    if own and not own.sized_fields:
        return bool(own.assumed_size)
    sizes = [
        list_size_of(other)
        for _, other in _fields_of(schema)
        if _answers_with(schema, get_named_type(other.type), parent)
    ]
    return bool(sizes) and all(
        size and size.assumed_size and name in (size.sized_fields or ()) for size in sizes
    )


def _answers_with(
    schema: GraphQLSchema, answered: GraphQLNamedType, type_: GraphQLNamedType
) -> bool:
    """Whether an object of the one type may be one of the other."""
    both = [answered, type_]
    one, other = (
        set(schema.get_possible_types(each)) if is_abstract_type(each) else {each} for each in both
    )
    return bool(one & other)


def _weighted(
    type_: GraphQLNamedType, path: str, above: frozenset[str]
) -> Iterator[tuple[str, int]]:
    # Inputs may hold themselves; then what is weighted was found further up.
    if not isinstance(type_, GraphQLInputObjectType) or type_.name in above:
        return
    for name, field in type_.fields.items():
        if weight := weight_of(field):
            yield f"{path}.{name}", weight
        yield from _weighted(get_named_type(field.type), f"{path}.{name}", above | {type_.name})


def _introspection_sizes(schema: GraphQLSchema) -> Mapping[str, int]:
    """How long the lists of the schema's own description are, averages rounded up.

    Whoever reads the whole schema reads as much as there is; where a list stands, it is as long
    as lists of its name are on the average.
    """
    types = list(schema.type_map.values())
    objects = [one for one in types if isinstance(one, (GraphQLObjectType, GraphQLInterfaceType))]
    fields = [field for one in objects for field in one.fields.values()]
    inputs = [one for one in types if isinstance(one, GraphQLInputObjectType)]
    return {
        "types": len(types),
        "directives": len(schema.directives),
        "fields": _per(len(fields), len(types)),
        "args": _per(sum(len(field.args) for field in fields), len(fields)),
        "inputFields": _per(sum(len(one.fields) for one in inputs), len(types)),
        "interfaces": 1,
        "possibleTypes": 1,
        "enumValues": _per(
            sum(len(one.values) for one in types if isinstance(one, GraphQLEnumType)), len(types)
        ),
    }


def _per(amount: int, number: int) -> int:
    return -(-amount // max(number, 1))
