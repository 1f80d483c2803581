"""What fields are given: the request, and the arguments that many of them share."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import strawberry
from strawberry import ID, UNSET

from resolvers.context import Context

Info: TypeAlias = strawberry.Info[Context, None]

Value = TypeVar("Value")

SiteId: TypeAlias = Annotated[
    ID | None,
    strawberry.argument(
        "The site that is meant. It may be left out where there is no choice: with a key of "
        "one site, and where the service has but one."
    ),
]


def given(value: Value | None) -> Value | None:
    """The value of an argument that may be left out; None where it was left out or null."""
    return None if value is UNSET else value
