"""Fields that a function answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField


def field(
    description: str, graphql_type: Any = None
) -> Callable[[Callable[..., object]], StrawberryField]:
    """Make the function a field.

    `graphql_type` is the type that describes what the function gives, where that is a value of an
    inner room: it is handed over as it is, and the type's fields are read from its attributes.
    """
    decorate: Callable[[Callable[..., object]], StrawberryField] = strawberry.field(
        description=description, graphql_type=graphql_type
    )
    return decorate
