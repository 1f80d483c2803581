"""Dead letters of the queue, in pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple, TypeAlias

import strawberry
from strawberry import ID

from resolvers.dead_letters import MAX_LETTERS, MAX_PREVIEW, DeadLetterPage, ShownLetter
from schema.directives import Cost
from schema.fields import field
from schema.pagination import PageInfo, page_info
from schema.scalars import JSON

FirstLetters: TypeAlias = Annotated[
    int,
    strawberry.argument(
        f"How many entries the page has at most: 1 to {MAX_LETTERS}. It has fewer where they are "
        "large: `hasNextPage` says whether there are more."
    ),
]

# An answer is held in memory as a whole.
_PREVIEW = Cost(weight="20")


@strawberry.type
class DeadLetter:
    """What a worker could not bring into the ledger: one event, or a request as a whole."""

    id: ID = strawberry.field(description="Its id, by which it can be queued anew or deleted.")
    site_id: ID | None = strawberry.field(
        description="The site of its events; null where it cannot be decoded."
    )
    reason: str = strawberry.field(
        description="Why it could not be brought into the ledger, as a sentence for operators."
    )
    tries: int = strawberry.field(description="How often it was handed to a worker.")
    events: int = strawberry.field(description="How many events it holds.")
    queued_at: datetime = strawberry.field(description="When it was acknowledged and queued.")
    failed_at: datetime = strawberry.field(description="When a worker gave it up.")
    preview: JSON = strawberry.field(
        description=(
            f"A list of its first {MAX_PREVIEW} events, with long texts cut off; the first bytes "
            "where it cannot be decoded."
        ),
        directives=[_PREVIEW],
    )


class _Edge(NamedTuple):
    cursor: str
    node: ShownLetter


@strawberry.type
class DeadLetterEdge:
    """A dead letter and its place in the order."""

    cursor: str = strawberry.field(description="The dead letter's place, for `after`.")
    node: DeadLetter = strawberry.field(description="The dead letter.")


@strawberry.type
class DeadLetterConnection:
    """A page of dead letters, the oldest first."""

    @field("The dead letters of the page with their cursors.", list[DeadLetterEdge])
    @staticmethod
    def edges(page: strawberry.Parent[DeadLetterPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.letters))

    @field("The dead letters of the page.", list[DeadLetter])
    @staticmethod
    def nodes(page: strawberry.Parent[DeadLetterPage]) -> list[ShownLetter]:
        return list(page.letters)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[DeadLetterPage]) -> PageInfo:
        return page_info(page)
