"""Single events: newest first in pages, and what became of ids that were sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from data.calendar import DateRange
from data.events import Receipt, ReceiptStatus, StoredEvent
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.keys import Scope
from data.postgres.receipts import receipts as receipts_in
from data.queries import EVERYTHING, EventFilter, EventsQuery, Place
from resolvers.access import require_site
from resolvers.context import Context
from resolvers.cursors import cursor_of, place_of
from resolvers.errors import BadUserInput, Unavailable
from resolvers.reports import Meta, meta_of, require_filter, require_zone

MAX_PAGE = 1_000
MAX_RECEIPTS = 5_000


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events, newest first; `cursors[i]` belongs to event i."""

    events: Sequence[StoredEvent]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool
    meta: Meta


@dataclass(frozen=True, slots=True)
class PageAsked:
    """Which page: the first `first` events behind the cursor `after`."""

    first: int = 50
    after: str | None = None


async def events(
    ctx: Context,
    site_id: str | None,
    days: DateRange | None,
    wanted: EventFilter,
    page: PageAsked,
) -> EventPage:
    """Events of a site that pass the filter, newest first."""
    site = await require_site(ctx, site_id, Scope.READ)
    if days is not None and days.end < days.start:
        raise BadUserInput("range", f"range.to ({days.end}) is before range.from ({days.start})")
    await require_filter(ctx, wanted)
    query = EventsQuery(
        site_id=site.site_id,
        zone=require_zone(site.timezone),
        days=days,
        filter=wanted,
        first=page_size(page),
        after=place_of(page.after) if page.after else None,
    )
    return await _page(ctx, query)


async def user_events(
    ctx: Context, site_id: str | None, user_id: str, page: PageAsked
) -> EventPage:
    """What one user did, newest first; a visitor's id names a user where no user id is known."""
    site = await require_site(ctx, site_id, Scope.READ)
    query = EventsQuery(
        site_id=site.site_id,
        zone=require_zone(site.timezone),
        actor=user_id,
        filter=EVERYTHING,
        first=page_size(page),
        after=place_of(page.after) if page.after else None,
    )
    return await _page(ctx, query)


def page_size(page: PageAsked) -> int:
    """How many entries to ask a store for; raises `BadUserInput`."""
    if not 1 <= page.first <= MAX_PAGE:
        raise BadUserInput("first", f"first takes 1 to {MAX_PAGE}")
    # One more than asked tells whether there is a next page.
    return page.first + 1


async def _page(ctx: Context, query: EventsQuery) -> EventPage:
    rows, watermark = await ctx.loaders.events.load(query)
    shown = rows[: query.first - 1]
    return EventPage(
        events=shown,
        cursors=[cursor_of(Place(event.occurred_at, event.arrival)) for event in shown],
        has_next=len(rows) > len(shown),
        has_previous=query.after is not None,
        meta=meta_of(ctx, watermark, query.zone),
    )


async def receipts(
    ctx: Context, site_id: str | None, event_ids: Sequence[UUID]
) -> list[Receipt | None]:
    """What became of each id, in the order asked; None for one that the site does not know."""
    site = await require_site(ctx, site_id, Scope.READ)
    if len(event_ids) > MAX_RECEIPTS:
        raise BadUserInput("eventIds", f"at most {MAX_RECEIPTS} ids can be asked at once")
    ledger = ctx.resources.ledger
    try:
        found = await ledger.reads.run(lambda at: receipts_in(at, site.site_id, event_ids))
        if ledger.reads.has_replica:
            found |= await _last_words(ctx, site.site_id, event_ids, found)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise Unavailable("ledger", "receipts cannot be read now; try again shortly") from error
    return [found.get(event_id) for event_id in event_ids]


async def _last_words(
    ctx: Context, site_id: str, event_ids: Sequence[UUID], found: Mapping[UUID, Receipt]
) -> dict[UUID, Receipt]:
    """What the primary says of ids that a replica does not know to be accepted.

    A replica may be a moment behind: "never heard of it" is the primary's to say, and so is what
    became of an id that was refused before. Raises `LedgerUnavailable`.
    """
    refused = [key for key, one in found.items() if one.status is ReceiptStatus.REJECTED]
    unknown = [event_id for event_id in event_ids if event_id not in found]
    if not (refused or unknown):
        return {}
    resources = ctx.resources
    reading = receipts_in(resources.ledger.writer, site_id, [*refused, *unknown])
    try:
        return await resources.lookout.ask(reading)
    except LedgerUnavailable:
        if unknown:
            raise
        return {}
