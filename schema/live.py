"""What is going on at this moment."""

from __future__ import annotations

from datetime import datetime

import strawberry

from data.queries import TOP_PATHS
from schema.directives import ListSize


@strawberry.type
class LiveActivity:
    """Who was there and what happened in the five minutes up to a moment.

    An event counts by `occurredAt`: after `at` - 5 minutes, and at `at` at the latest. One that
    arrives late counts from then on, as long as its time is within the five minutes.
    """

    at: datetime = strawberry.field(description="The whole second with which the five minutes end.")
    users: int = strawberry.field(description="Distinct users of these events.")
    events: int = strawberry.field(description="Number of these events.")
    top_paths: list[str] = strawberry.field(
        description="Up to ten paths with the most of these events; ties are in order of name.",
        directives=[ListSize(assumed_size=TOP_PATHS)],
    )
