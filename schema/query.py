"""Questions: input to query object, resolver, type."""

from __future__ import annotations

from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from data.calendar import Interval
from data.events import Receipt
from data.postgres.keys import ApiKey as StoredKey
from data.postgres.sites import Site as StoredSite
from resolvers import (
    admin_log,
    daily_users,
    dead_letters,
    keys,
    raw_events,
    reports,
    retention,
    sites,
    system,
)
from resolvers.admin_log import AdminLogPage
from resolvers.context import Caller
from resolvers.dead_letters import MAX_LETTERS, DeadLetterPage
from resolvers.raw_events import MAX_PAGE, MAX_RECEIPTS, EventPage
from resolvers.reports import (
    MAX_RANGE_DAYS,
    MAX_TOP_EVENTS,
    ActiveUsers,
    EventCounts,
    TopEvents,
)
from resolvers.retention import Retention
from resolvers.system import SystemState
from schema.admin_log import Action, AdminLogConnection, LogSite, Since, Until, log_asked
from schema.arguments import Info, SiteId, given
from schema.cache_hints import CacheControl
from schema.dead_letters import DeadLetterConnection, FirstLetters
from schema.directives import Cost, ListSize
from schema.events import Days, EventConnection, UserId
from schema.export_query import ExportQuery
from schema.fields import field
from schema.filters import Filter, filter_asked
from schema.ingest import EventIds, IngestReceipt
from schema.keys import ApiKey, Viewer
from schema.pagination import After, First, page_asked
from schema.reports import (
    ActiveUsersReport,
    AnyInterval,
    EventCountsReport,
    Limit,
    LongInterval,
    Range,
    Rolling,
    TimeZone,
    TopEventsReport,
    asked,
)
from schema.retention import Options, Periods, RetentionReport, retention_asked
from schema.scalars import uuid_of
from schema.sites import Site
from schema.source_query import SourceQuery
from schema.system import System

# What asking a store costs, and what is at hand in the process: see decision 12.
_STORE = Cost(weight="100")
_AT_HAND = Cost(weight="10")
# A report of whole days changes little in five seconds, and tells up to when its data is complete.
_BRIEFLY = CacheControl(max_age=5)
_MAX_SITES = 1_000
_MAX_KEYS = 1_000
_MAX_PARTS = 20

_DAYS = ListSize(assumed_size=MAX_RANGE_DAYS, slicing_arguments=["range"], sized_fields=["points"])
_HOURS = ListSize(
    assumed_size=25 * MAX_RANGE_DAYS, slicing_arguments=["range"], sized_fields=["points"]
)
_TOP = ListSize(assumed_size=MAX_TOP_EVENTS, slicing_arguments=["limit"], sized_fields=["events"])
_COHORTS = ListSize(
    assumed_size=MAX_RANGE_DAYS, slicing_arguments=["range"], sized_fields=["cohorts"]
)
_PAGE = ListSize(
    assumed_size=MAX_PAGE, slicing_arguments=["first"], sized_fields=["edges", "nodes"]
)
_LETTERS = ListSize(
    assumed_size=MAX_LETTERS, slicing_arguments=["first"], sized_fields=["edges", "nodes"]
)
_RECEIPTS = ListSize(assumed_size=MAX_RECEIPTS, slicing_arguments=["eventIds"])
_SITES = ListSize(assumed_size=_MAX_SITES)
_KEYS = ListSize(assumed_size=_MAX_KEYS)
_PARTS = ListSize(assumed_size=_MAX_PARTS, sized_fields=["parts"])


@strawberry.type
class Query(SourceQuery, ExportQuery):
    """What can be asked. Every question is about one site; a key of one site need not say which."""

    @field(
        "Unique active users per calendar day.",
        ActiveUsersReport,
        directives=[_STORE, _DAYS, _BRIEFLY],
    )
    async def dau(
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Range,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> ActiveUsers:
        return await daily_users.dau(info.context, asked(range, site_id, filter, timezone))

    @field(
        "Unique active users per day, week or month; with `rolling`, users of the last N days "
        "as seen on each day (7: WAU, 30: MAU).",
        ActiveUsersReport,
        directives=[_STORE, _DAYS, _BRIEFLY],
    )
    async def active_users(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Range,
        interval: LongInterval = Interval.DAY,
        rolling: Rolling = UNSET,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> ActiveUsers:
        question = asked(range, site_id, filter, timezone)
        return await reports.active_users(info.context, question, interval, given(rolling))

    @field(
        "Event types by number of events; ties are in order of name.",
        TopEventsReport,
        directives=[_STORE, _TOP, _BRIEFLY],
    )
    async def top_events(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Range,
        limit: Limit = 10,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> TopEvents:
        return await reports.top_events(
            info.context, asked(range, site_id, filter, timezone), limit
        )

    @field("Number of events over time.", EventCountsReport, directives=[_STORE, _HOURS, _BRIEFLY])
    async def event_counts(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Range,
        interval: AnyInterval = Interval.DAY,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> EventCounts:
        return await reports.event_counts(
            info.context, asked(range, site_id, filter, timezone), interval
        )

    @field(
        "Cohort retention: of the users who started in a period, how many came back k periods "
        "later.",
        RetentionReport,
        directives=[_STORE, _COHORTS, _BRIEFLY],
    )
    async def retention(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Range,
        interval: LongInterval = Interval.WEEK,
        periods: Periods = 8,
        options: Options = UNSET,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> Retention:
        question = asked(range, site_id, filter, timezone)
        how = retention_asked(interval, periods, options)
        return await retention.retention(info.context, question, how)

    @field(
        "Single events, newest first; those of the same moment by order of arrival.",
        EventConnection,
        directives=[_STORE, _PAGE, _BRIEFLY],
    )
    async def events(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: SiteId = UNSET,
        range: Days = UNSET,
        filter: Filter = UNSET,
        first: First = 50,
        after: After = UNSET,
    ) -> EventPage:
        days = range.to_query() if range else None
        page = page_asked(first, after)
        return await raw_events.events(
            info.context, given(site_id), days, filter_asked(filter), page
        )

    @field(
        "What one user did, newest first.", EventConnection, directives=[_STORE, _PAGE, _BRIEFLY]
    )
    async def user_events(
        self,
        info: Info,
        *,
        user_id: UserId,
        site_id: SiteId = UNSET,
        first: First = 50,
        after: After = UNSET,
    ) -> EventPage:
        page = page_asked(first, after)
        return await raw_events.user_events(info.context, given(site_id), user_id, page)

    @field(
        "Were these events taken? In the order asked; null for unknown ids and what is still queued.",
        list[IngestReceipt | None],
        directives=[_STORE, _RECEIPTS],
    )
    async def receipts(
        self,
        info: Info,
        *,
        event_ids: EventIds,
        site_id: SiteId = UNSET,
    ) -> list[Receipt | None]:
        ids = [uuid_of(event_id, "eventIds") for event_id in event_ids]
        return await raw_events.receipts(info.context, given(site_id), ids)

    @field(
        "A site that the key may read; null with an error if not.",
        Site | None,
        directives=[_AT_HAND, _BRIEFLY],
    )
    async def site(
        self,
        info: Info,
        *,
        id: Annotated[
            ID | None,
            strawberry.argument("The site's id; the key's own or only site where it is left out."),
        ] = UNSET,
    ) -> StoredSite:
        return await sites.site(info.context, given(id))

    @field(
        "All sites that the key may read, in order of id.",
        list[Site],
        directives=[_AT_HAND, _SITES, _BRIEFLY],
    )
    async def sites(self, info: Info) -> list[StoredSite]:
        return await sites.sites(info.context)

    @field(
        "API keys, revoked ones too, oldest first: those of a site, or all of them with an admin "
        "key that is bound to no site. Takes the scope ADMIN.",
        list[ApiKey],
        directives=[_AT_HAND, _KEYS],
    )
    async def api_keys(
        self,
        info: Info,
        *,
        site_id: Annotated[
            ID | None,
            strawberry.argument("Keys of this site alone; the key's own where it has one."),
        ] = UNSET,
    ) -> list[StoredKey]:
        return await keys.api_keys(info.context, given(site_id))

    @field("Who asks: the key's name, its scopes and the site that it is bound to.", Viewer)
    def viewer(self, info: Info) -> Caller:
        return info.context.caller

    @field(
        "Events and requests that workers could not bring into the ledger, the oldest first; "
        "takes an admin key that is bound to no site.",
        DeadLetterConnection,
        directives=[_STORE, _LETTERS],
    )
    async def dead_letters(
        self, info: Info, *, first: FirstLetters = 20, after: After = UNSET
    ) -> DeadLetterPage:
        return await dead_letters.dead_letters(info.context, first, given(after))

    @field(
        "State of every part of the service; takes an admin key that is bound to no site.",
        System,
        directives=[_STORE, _PARTS],
    )
    async def system(self, info: Info) -> SystemState:
        return await system.system(info.context)

    @field(
        "What administrators did, newest first. Takes the scope ADMIN; an admin of one site sees "
        "the entries of that site.",
        AdminLogConnection,
        directives=[_STORE, _PAGE],
    )
    async def admin_log(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        site_id: LogSite = UNSET,
        action: Action = UNSET,
        since: Since = UNSET,
        until: Until = UNSET,
        first: First = 50,
        after: After = UNSET,
    ) -> AdminLogPage:
        asked = log_asked(site_id, action, since, until)
        return await admin_log.admin_log(info.context, asked, page_asked(first, after))
