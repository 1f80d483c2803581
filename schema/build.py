"""The schema put together, and printed."""

from __future__ import annotations

from inspect import cleandoc

import strawberry
from graphql import GraphQLSchema, lexicographic_sort_schema, print_schema
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryObjectDefinition

from schema.directives import describe_directives, with_applied
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

_DESCRIPTION = (
    "Footfall: usage analytics that a team owns. Send events in and ask for numbers; every number "
    "says what it rests on."
)


def build_schema() -> strawberry.Schema:
    """A new schema; its fields take a `resolvers.context.Context` as context value."""
    # Not with Strawberry's sort_schema: the sorted copy hands resolvers plain texts where this
    # one hands them members of enums.
    schema = strawberry.Schema(
        Query, Mutation, Subscription, config=StrawberryConfig(scalar_map=SCALARS)
    )
    _describe(schema._schema)
    return schema


def graphql_schema() -> GraphQLSchema:
    """A new schema, as graphql-core's own functions take it."""
    return build_schema()._schema


def sdl() -> str:
    """The schema in its own language, sorted by name: the same text for the same schema."""
    schema = lexicographic_sort_schema(graphql_schema())
    return with_applied(schema, print_schema(schema)) + "\n"


def _describe(schema: GraphQLSchema) -> None:
    """Let the docstring of a class be the description of its type."""
    schema.description = _DESCRIPTION
    describe_directives(schema)
    for named in schema.type_map.values():
        definition = named.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if isinstance(definition, StrawberryObjectDefinition):
            named.description = cleandoc(definition.origin.__doc__ or "")
