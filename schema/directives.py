"""What fields cost, how long lists get and answers keep, said in the schema for clients to read.

The two about cost have the names, arguments and meaning of the GraphQL Cost Directives draft
(https://ibm.github.io/graphql-specs/cost-spec.html); their descriptions say what that draft leaves
open. `schema.cost` counts by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, TypeAlias

import strawberry
from graphql import (
    FieldDefinitionNode,
    GraphQLField,
    GraphQLInputField,
    GraphQLSchema,
    InputValueDefinitionNode,
    parse,
)
from strawberry import UNSET
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema_directive import Location, StrawberrySchemaDirective
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from schema.cache_hints import CacheControl


@strawberry.schema_directive(
    name="cost",
    locations=[Location.FIELD_DEFINITION, Location.INPUT_FIELD_DEFINITION],
    description=(
        "Points that a field costs by itself, beside the objects that it answers with: each object "
        "costs 1 point, scalars and enums cost none. On the list of an input, what each of its "
        "entries costs. A point stands for up to a millisecond of work."
    ),
)
class Cost:
    """Points of a field by itself, or of each entry of an input's list."""

    weight: str = strawberry.field(
        description="Points as a decimal number, with three decimals at most."
    )


@strawberry.schema_directive(
    name="listSize",
    locations=[Location.FIELD_DEFINITION],
    description=(
        "How many entries a list has. A cost that is told before an operation runs takes the "
        "largest of the slicing arguments, and never more than `assumedSize`."
    ),
)
class ListSize:
    """How many entries the list of a field has, or the lists that its object holds."""

    assumed_size: int | None = strawberry.field(
        default=UNSET,
        description="The most entries there can be, assumed where no slicing argument is given.",
    )
    slicing_arguments: list[str] | None = strawberry.field(
        default=UNSET,
        description=(
            "Arguments that tell the number of entries: a number as it is (`periods` and one "
            "more, for the cohort's own), a list by its length, days by the periods of `interval` "
            "that they touch (25 hours a day). A dot leads into an input. An argument that the "
            "field does not have is the one of the field around it."
        ),
    )
    sized_fields: list[str] | None = strawberry.field(
        default=UNSET,
        description="The fields of the answer whose lists are meant, where it is not one itself.",
    )
    require_one_slicing_argument: bool | None = strawberry.field(
        default=True,
        description="One slicing argument must be given, or has a default.",
    )


Directive: TypeAlias = Cost | ListSize | CacheControl
Field: TypeAlias = GraphQLField | GraphQLInputField


def applied(field: Field) -> tuple[Directive, ...]:
    """The directives of a field of ours; none for those of introspection."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryField):
        return ()
    kinds = (Cost, ListSize, CacheControl)
    return tuple(one for one in definition.directives if isinstance(one, kinds))


def describe_directives(schema: GraphQLSchema) -> None:
    """Let the descriptions of a directive's fields be those of its arguments."""
    for directive in schema.directives:
        definition = directive.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if isinstance(definition, StrawberrySchemaDirective):
            for each in definition.fields:
                directive.args[to_camel_case(each.name)].description = each.description


def with_applied(schema: GraphQLSchema, printed: str) -> str:
    """The printed schema with the directives of each field behind its type.

    graphql-core prints which directives there are and, but for its own, not where they are.
    """
    parts, at = [], 0
    for field, end in _fields_in(schema, printed):
        if directives := applied(field):
            parts += [printed[at:end], *(f" {_application(one)}" for one in directives)]
            at = end
    return "".join([*parts, printed[at:]])


def _fields_in(schema: GraphQLSchema, printed: str) -> Iterator[tuple[Field, int]]:
    """The fields in order of the text, each with the place at which its directives belong."""
    for definition in parse(printed).definitions:
        nodes: tuple[FieldDefinitionNode | InputValueDefinitionNode, ...]
        nodes = getattr(definition, "fields", None) or ()
        for node in nodes:
            named: Any = schema.type_map[definition.name.value]  # type: ignore[attr-defined]
            last = getattr(node, "default_value", None) or node.type
            assert last.loc is not None  # it was parsed from text
            yield named.fields[node.name.value], last.loc.end


def _application(directive: Directive) -> str:
    """The directive as it is written behind a field, without arguments that have their default."""
    given = {
        to_camel_case(each.name): value
        for each in fields(directive)
        if (value := getattr(directive, each.name)) != each.default
    }
    # What is given are numbers, plain texts and lists of them, which GraphQL writes as JSON does.
    arguments = ", ".join(f"{name}: {json.dumps(value)}" for name, value in sorted(given.items()))
    return f"@{_NAMES[type(directive)]}({arguments})"


_NAMES = {Cost: "cost", ListSize: "listSize", CacheControl: "cacheControl"}
