"""How long an answer may be kept and shown again, by what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema_directive import Location


@strawberry.schema_directive(
    name="cacheControl",
    locations=[Location.FIELD_DEFINITION],
    description=(
        "How long an answer may be kept and shown again to the same key, when it was asked by GET. "
        "The shortest time of an operation's root fields counts; a field without this directive "
        "may not be kept at all."
    ),
)
class CacheControl:
    """For how long what a field answers may be kept."""

    max_age: int = strawberry.field(description="Seconds.")


def max_ages_of(schema: GraphQLSchema) -> Mapping[str, int]:
    """The seconds for each field of Query that may be kept."""
    fields = schema.query_type.fields if schema.query_type else {}
    return {
        name: directive.max_age
        for name, field in fields.items()
        for directive in getattr(
            field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF), "directives", ()
        )
        if isinstance(directive, CacheControl)
    }


def max_age_of(
    max_ages: Mapping[str, int], document: DocumentNode, operation: OperationDefinitionNode
) -> int:
    """For how many seconds the operation's answer may be kept; 0: not at all.

    The shortest time of all its root fields, also of those that a directive may leave out. What
    lies below a root field is as old as the field. `__typename` is the same for ever and decides
    nothing, unless it stands alone.
    """
    if operation.operation is not OperationType.QUERY:
        return 0
    names = set(_root_fields(document, operation.selection_set)) - {"__typename"}
    return min((max_ages.get(name, 0) for name in names), default=0)


def _root_fields(document: DocumentNode, root: SelectionSetNode) -> Iterator[str]:
    fragments = {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }
    waiting, seen = [root], set[str]()
    while waiting:
        for selection in waiting.pop().selections:
            if isinstance(selection, FieldNode):
                yield selection.name.value
            elif isinstance(selection, InlineFragmentNode):
                waiting.append(selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in seen:
                seen.add(selection.name.value)
                waiting.append(fragments[selection.name.value].selection_set)
