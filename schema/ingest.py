"""Taking events in: what is sent, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import strawberry
from strawberry import ID
from strawberry.types import get_object_definition
from strawberry.types.arguments import InputContext
from strawberry.utils.str_converters import to_camel_case

from data.events import MAX_EVENTS_PER_REQUEST, Receipt, ReceiptStatus, RejectionCode
from resolvers.ingest import Outcome
from resolvers.pipeline import FIELDS, MAX_EVENT_TYPE_CHARS, MAX_ID_CHARS, MAX_URL_CHARS, Draft
from resolvers.raw_events import MAX_RECEIPTS
from schema.arguments import given
from schema.directives import Cost
from schema.enums import describe_enum
from schema.fields import field
from schema.scalars import JSON, SentInstant, SentUUID

describe_enum(
    ReceiptStatus,
    "What became of an event.",
    ACCEPTED="It is committed, and was not there before.",
    DUPLICATE="An event with its id was committed before; this one changed nothing.",
    QUEUED="It is durably queued and will be committed; reports don't have it yet.",
    REJECTED="It was refused; `code` and `message` say why.",
)
describe_enum(
    RejectionCode,
    "Why an event was refused.",
    INVALID_EVENT_ID="The event id is not a UUID.",
    INVALID_EVENT_TYPE=f"The event type is empty or longer than {MAX_EVENT_TYPE_CHARS} characters.",
    INVALID_TIMESTAMP=(
        "The time is neither RFC 3339 with an offset nor a number of milliseconds since 1970, "
        "or it lies more than 24 hours in the future."
    ),
    INVALID_URL=(
        "The address, the path or the referrer is none, holds control characters, or is longer "
        f"than {MAX_URL_CHARS:,} characters."
    ),
    INVALID_TEXT=(
        "Something is not plain text: it holds NUL or half a character, or an id is longer than "
        f"{MAX_ID_CHARS} characters."
    ),
    PROPERTIES_NOT_AN_OBJECT="The properties are JSON, but not an object.",
    EVENT_TOO_LARGE="The event has more than 32 KiB.",
    UNKNOWN_FIELD="The event has a field that events don't have; your own go into `properties`.",
)


@strawberry.input
class EventInput:
    """An event to be taken in. One that cannot be is rejected by itself; the others are taken."""

    event_id: SentUUID | None = strawberry.field(
        description=(
            "The event's id, made by the sender so that sending again is safe. It is honoured for "
            "ever: a second event of the site with the same id is a DUPLICATE, whatever else it "
            "says. The service makes one where it is left out."
        )
    )
    event_type: str = strawberry.field(
        description=f"What happened, such as `page_view`: 1 to {MAX_EVENT_TYPE_CHARS} characters."
    )
    occurred_at: SentInstant | None = strawberry.field(
        description=(
            "When it happened: any time in the past, or up to 24 hours ahead. "
            "The moment of arrival where it is left out."
        )
    )
    user_id: str | None = strawberry.field(
        description=(
            f"Who did it, if you know: up to {MAX_ID_CHARS} characters. Reports count users by it."
        )
    )
    visitor_id: str | None = strawberry.field(
        description=(
            f"The browser or device: up to {MAX_ID_CHARS} characters. It counts as the user where "
            "`userId` is left out."
        )
    )
    session_id: str | None = strawberry.field(
        description=f"The visit to which it belongs: up to {MAX_ID_CHARS} characters."
    )
    url: str | None = strawberry.field(
        description=(
            "Address of the page, or its path beginning with `/`: "
            f"up to {MAX_URL_CHARS:,} characters."
        )
    )
    path: str | None = strawberry.field(
        description="Path of the page; taken from `url` where it is left out."
    )
    referrer: str | None = strawberry.field(
        description=f"The page from which the user came: up to {MAX_URL_CHARS:,} characters."
    )
    properties: JSON | None = strawberry.field(
        description="Whatever else is worth knowing, as a JSON object; filters can look into it."
    )


@strawberry.input
class IngestInput:
    """Events of one site. Each is judged by itself, and an event has at most 32 KiB."""

    site_id: ID | None = strawberry.field(
        description=(
            "The site of the events. It may be left out where there is no choice: with a key of "
            "one site, and where the service has but one."
        )
    )
    events: list[Draft] = strawberry.field(
        graphql_type=list[EventInput],
        description=f"1 to {MAX_EVENTS_PER_REQUEST:,} events, in any order.",
        directives=[Cost(weight="0.1")],
    )


# The names of `EventInput` as clients write them, and as drafts have them.
_DRAFT_NAMES = {to_camel_case(name): name for name in FIELDS}


def _ingest_input(_: type, sent: Mapping[str, Any], __: InputContext) -> IngestInput:
    """The input with events as drafts for the pipeline: plain dicts of what was given.

    Strawberry would make an object of each event, field by field, which takes longer than
    everything else that an event goes through on its way to the ledger.
    """
    names = _DRAFT_NAMES
    return IngestInput(
        site_id=sent.get("siteId"),
        events=[{names[name]: value for name, value in event.items()} for event in sent["events"]],
    )


get_object_definition(IngestInput, strict=True).from_input = _ingest_input

EventIds: TypeAlias = Annotated[
    list[SentUUID], strawberry.argument(f"Ids of events, {MAX_RECEIPTS:,} at most.")
]


@strawberry.type
class IngestReceipt:
    """What became of one event."""

    index: int | None = strawberry.field(
        description="The event's place in the request, from 0; null where it was asked for by id."
    )
    event_id: UUID | None = strawberry.field(
        description="The event's id, also one that the service made; null for one that is no UUID."
    )
    status: ReceiptStatus = strawberry.field(description="What became of the event.")
    code: RejectionCode | None = strawberry.field(
        description="Why it was refused; null unless it was."
    )
    message: str | None = strawberry.field(
        description="Why it was refused, as a sentence; null unless it was."
    )


@strawberry.type
class IngestPayload:
    """What became of the events of a request. Accepted and duplicate ones are in the ledger."""

    accepted: int = strawberry.field(description="Events that were committed and are new.")
    duplicates: int = strawberry.field(
        description="Events whose id was committed before; they count as taken."
    )
    queued: int = strawberry.field(
        description="Events that are durably queued and not committed yet."
    )
    rejected: int = strawberry.field(description="Events that were refused; see their receipts.")

    @field("Events that the request had.")
    @staticmethod
    def received(outcome: strawberry.Parent[Outcome]) -> int:
        return len(outcome.results)

    @field("A receipt for each event, in the order sent.", list[IngestReceipt])
    @staticmethod
    def receipts(
        outcome: strawberry.Parent[Outcome],
        only: Annotated[
            list[ReceiptStatus] | None,
            strawberry.argument(
                description="Receipts with one of these, such as `[REJECTED]`; all where left out."
            ),
        ] = strawberry.UNSET,
    ) -> list[Receipt]:
        wanted = given(only)
        return [
            receipt for receipt in outcome.receipts() if wanted is None or receipt.status in wanted
        ]
