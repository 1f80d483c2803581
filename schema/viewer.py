"""What a key may ask for, and what is left of it."""

from __future__ import annotations

from time import monotonic

import strawberry

from resolvers.context import Context
from resolvers.rate_limits import Meter
from schema.limits import LIMITS


@strawberry.type
class RequestLimit:
    """How many requests may be sent in a window of time, and what is left of it."""

    limit: int = strawberry.field(description="Requests in a window, at most.")
    remaining: int = strawberry.field(description="Those that are left now, after this one.")
    reset_seconds: int = strawberry.field(
        description="Seconds until more are left, at most; the header X-RateLimit-Reset."
    )
    window_seconds: int = strawberry.field(description="How long the window is, in seconds.")


@strawberry.type
class ViewerLimits:
    """What an operation may be and cost, and what the key has left. Costs are in points."""

    operation_cost: int = strawberry.field(description="What one operation may cost.")
    budget: int = strawberry.field(
        description="What the key's operations may cost together before they have to wait."
    )
    available: int = strawberry.field(
        description="What is left of the budget; what this operation reserved is off it."
    )
    restore_rate: int = strawberry.field(description="What comes back to the budget per second.")
    timeout_seconds: float = strawberry.field(
        description="How long an operation may take, in seconds."
    )
    requests: RequestLimit | None = strawberry.field(
        default=None, description="Of requests with questions; null where they have no limit."
    )
    characters: int = strawberry.field(
        default=LIMITS.characters, description="Characters of a document, at most."
    )
    lines: int = strawberry.field(default=LIMITS.lines, description="Lines of a document, at most.")
    comments: int = strawberry.field(
        default=LIMITS.comments, description="Comments of a document, at most."
    )
    operations: int = strawberry.field(
        default=LIMITS.operations, description="Operations in a document, at most."
    )
    tokens: int = strawberry.field(
        default=LIMITS.tokens, description="Names, numbers and marks of a document, at most."
    )
    depth: int = strawberry.field(
        default=LIMITS.depth, description="How deep the fields of an operation may be nested."
    )
    fields: int = strawberry.field(
        default=LIMITS.fields,
        description="Fields of an operation, with its fragments expanded, at most.",
    )
    root_fields: int = strawberry.field(
        default=LIMITS.root_fields, description="Fields at the root of an operation, at most."
    )
    aliases: int = strawberry.field(
        default=LIMITS.aliases, description="Aliases of an operation, at most."
    )
    directives: int = strawberry.field(
        default=LIMITS.directives, description="Directives of an operation, at most."
    )


def limits_of(context: Context) -> ViewerLimits:
    """The limits of who asks, now."""
    allowance = context.throttle.allowance
    state = context.throttle.state(context.caller.key_id, monotonic())
    return ViewerLimits(
        operation_cost=allowance.operation,
        budget=state.maximum,
        available=state.available,
        restore_rate=state.restore_rate,
        timeout_seconds=allowance.seconds,
        requests=_requests_of(context.meter),
    )


def _requests_of(meter: Meter | None) -> RequestLimit | None:
    if meter is None or meter.standing is None:
        return None
    standing = meter.standing
    return RequestLimit(
        limit=standing.limit,
        remaining=standing.remaining,
        reset_seconds=standing.reset_seconds,
        window_seconds=meter.limits.rates.seconds,
    )
