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
    strawberry.argument(f"How many entries the page has at most: 1 to {MAX_LETTERS}."),
]

# An answer is held in memory as a whole.
_PREVIEW = Cost(weight="20")


@strawberry.type
class DeadLetter:
    """What a worker could not bring into the ledger: one event, or a request as a whole."""

    @field("Its id, by which it can be queued anew or deleted.", ID)
    @staticmethod
    def id(shown: strawberry.Parent[ShownLetter]) -> str:
        return shown.letter.letter_id

    site_id: ID | None = strawberry.field(
        description="The site of its events; null where it cannot be decoded."
    )

    @field("Why it could not be brought into the ledger, as a sentence for operators.")
    @staticmethod
    def reason(shown: strawberry.Parent[ShownLetter]) -> str:
        return shown.letter.reason

    @field("How often it was handed to a worker.")
    @staticmethod
    def tries(shown: strawberry.Parent[ShownLetter]) -> int:
        return shown.letter.tries

    @field("How many events it holds.")
    @staticmethod
    def events(shown: strawberry.Parent[ShownLetter]) -> int:
        return shown.letter.events

    @field("When it was acknowledged and queued.")
    @staticmethod
    def queued_at(shown: strawberry.Parent[ShownLetter]) -> datetime:
        return shown.letter.queued_at

    @field("When a worker gave it up.")
    @staticmethod
    def failed_at(shown: strawberry.Parent[ShownLetter]) -> datetime:
        return shown.letter.failed_at

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
