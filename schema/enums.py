"""Enums of the inner rooms as GraphQL enums."""

from __future__ import annotations

from enum import Enum

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition


def describe_enum(
    enum: type[Enum], description: str, *, name: str | None = None, **values: str
) -> None:
    """Make the enum a GraphQL enum; `values` has a sentence for each of its members.

    `name` is what it is called there, where its own name would say too little without its module.
    The enum itself stays where it is and knows nothing of GraphQL. Raises ValueError unless
    each member has its sentence, so that a new member cannot go out unexplained.
    """
    definition = _definition(enum, description, name)
    if set(values) != {value.name for value in definition.values}:
        raise ValueError(f"describe each value of {enum.__name__}: {list(enum.__members__)}")
    for value in definition.values:
        value.description = values[value.name]


def _definition(enum: type[Enum], description: str, name: str | None) -> StrawberryEnumDefinition:
    made = strawberry.enum(enum, name=name, description=description)
    if not has_enum_definition(made):
        raise TypeError(f"{enum.__name__} did not become a GraphQL enum")
    return made.__strawberry_definition__
