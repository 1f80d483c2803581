"""Fields that a function answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField

from schema.directives import Directive


def field(
    description: str, graphql_type: Any = None, directives: Sequence[Directive] = ()
) -> Callable[[Callable[..., object]], StrawberryField]:
    """Make the function a field.

    `graphql_type` is the type that describes what the function gives, where that is a value of an
    inner room: it is handed over as it is, and the type's fields are read from its attributes.
    `directives` say what the field costs, how long its lists get and answers keep.
    """
    decorate: Callable[[Callable[..., object]], StrawberryField] = strawberry.field(
        description=description, graphql_type=graphql_type, directives=directives
    )
    return decorate


def stream(
    description: str, graphql_type: Any, directives: Sequence[Directive] = ()
) -> Callable[[Callable[..., object]], StrawberryField]:
    """Make the function, which gives an async iterator, a field of the subscription.

    `graphql_type` is the type that describes each item, as with `field`.
    """
    decorate: Callable[[Callable[..., object]], StrawberryField] = strawberry.field(
        description=description,
        graphql_type=graphql_type,
        directives=directives,
        is_subscription=True,
    )
    return decorate
