"""Single events as they were taken in, in pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple, TypeAlias
from uuid import UUID

import strawberry
from strawberry import ID

from data.events import StoredEvent
from resolvers.raw_events import EventPage
from schema.directives import Cost
from schema.fields import field
from schema.pagination import PageInfo, page_info
from schema.reports import DateRange, ReportMeta
from schema.scalars import JSON

Days: TypeAlias = Annotated[
    DateRange | None,
    strawberry.argument(
        "Days in the site's time zone, both ends included; all days where it is left out."
    ),
]
UserId: TypeAlias = Annotated[
    str,
    strawberry.argument(
        "The user as reports count them: a user id, or the visitor id of events that have none."
    ),
]


# Scalars cost nothing, but these may be long, and an answer is held in memory as a whole.
_LONG_TEXT = Cost(weight="5")
_DOCUMENT = Cost(weight="20")


@strawberry.type
class Event:
    """Something that somebody did on a site, at a moment."""

    event_id: UUID = strawberry.field(
        description="The event's id, unique on its site and honoured for ever."
    )
    event_type: str = strawberry.field(description="What happened, such as `page_view`.")
    site_id: ID = strawberry.field(description="The site on which it happened.")
    occurred_at: datetime = strawberry.field(description="When it happened, as the sender says.")
    received_at: datetime = strawberry.field(description="When it arrived here.")
    user_id: str | None = strawberry.field(description="Who did it, where the site knows.")
    visitor_id: str | None = strawberry.field(
        description="The browser or device; it counts as the user where there is no user id."
    )
    session_id: str | None = strawberry.field(description="The visit to which it belongs.")
    url: str | None = strawberry.field(
        description="Address of the page on which it happened.", directives=[_LONG_TEXT]
    )
    path: str | None = strawberry.field(description="Path of that page, without the host.")
    referrer: str | None = strawberry.field(
        description="The page from which the user came.", directives=[_LONG_TEXT]
    )
    properties: JSON | None = strawberry.field(
        description="Whatever else the sender told, as a JSON object.", directives=[_DOCUMENT]
    )


class _Edge(NamedTuple):
    cursor: str
    node: StoredEvent


@strawberry.type
class EventEdge:
    """An event and its place in the order."""

    cursor: str = strawberry.field(description="The event's place, for `after`.")
    node: Event = strawberry.field(description="The event.")


@strawberry.type
class EventConnection:
    """A page of events, the newest first; those of the same moment by order of arrival."""

    meta: ReportMeta = strawberry.field(description="What the page rests on.")

    @field("The events of the page with their cursors.", list[EventEdge])
    @staticmethod
    def edges(page: strawberry.Parent[EventPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.events))

    @field("The events of the page.", list[Event])
    @staticmethod
    def nodes(page: strawberry.Parent[EventPage]) -> list[StoredEvent]:
        return list(page.events)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[EventPage]) -> PageInfo:
        return page_info(page)
