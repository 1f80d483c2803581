"""Results that are kept: what they come to, and dropping them."""

from __future__ import annotations

import strawberry

from schema.scalars import BigInt


@strawberry.type
class ResultCache:
    """Results of reports that this process keeps, and how it answered since it started."""

    entries: int = strawberry.field(description="Results in the memory of this process.")
    bytes: BigInt = strawberry.field(description="What they take, about.")
    hits: BigInt = strawberry.field(
        description="Answers that were kept from before and were still exact."
    )
    stale_hits: BigInt = strawberry.field(
        description="Answers that were kept from before while newer events were being counted."
    )
    misses: BigInt = strawberry.field(description="Answers that were computed.")
    bypasses: BigInt = strawberry.field(
        description="Answers that were computed because nothing kept was wanted."
    )
    hit_rate: float = strawberry.field(
        description="The share of answers that were kept from before, stale or not: 0 to 1."
    )
    shared: bool = strawberry.field(
        description="Whether processes share results through Redis at the moment."
    )


@strawberry.type
class InvalidateCachePayload:
    """What dropping results came to."""

    dropped: int = strawberry.field(
        description=(
            "Results that were dropped, each counted once: those in the memory of the process that "
            "answers, and those in Redis. Other processes drop what is in their memory, too."
        )
    )
