"""External sources: how each is fetched, how it fares, and what its attempts came to."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import ID

from data.breaker import BreakerState
from data.sources.records import FetchOutcome, StoredAudit
from resolvers import sources
from resolvers.sources import Refresh, ShownSource
from schema.arguments import Info
from schema.directives import ListSize
from schema.enums import describe_enum
from schema.fields import field
from schema.reports import SummaryMeta
from schema.scalars import BigInt
from schema.source_enums import Format, Method, PagingKind

MAX_HEADERS = 20

describe_enum(
    BreakerState,
    "Whether something that failed too often in a row is asked at all.",
    CLOSED="It is asked as usual.",
    OPEN="It is not asked until some time has passed.",
    HALF_OPEN="The time has passed: the next attempt tells whether it is asked as usual again.",
)
describe_enum(
    FetchOutcome,
    "What an attempt to refresh a source came to.",
    SUCCESS="Its records are up to date; also where it said that nothing is new (304).",
    FAILURE="Nothing was changed; `error` says why.",
    SKIPPED_BREAKER_OPEN="It was not asked, as it had failed too often in a row.",
)


@strawberry.type
class SourceHeader:
    """A header that is sent to a source; its value is never shown."""

    name: str = strawberry.field(description="The header's name.")
    secret: str | None = strawberry.field(
        description="The name of the secret in its value; null where it has none."
    )


@strawberry.type
class SourcePaging:
    """How the pages of a source are followed."""

    kind: PagingKind = strawberry.field(description="How the next page is found.")
    next_at: str | None = strawberry.field(
        description="JSON Pointer to the next URL or cursor in an answer."
    )
    parameter: str | None = strawberry.field(
        description="The query parameter that takes the cursor or the number."
    )
    first: int = strawberry.field(description="The number of the first page.")
    max_pages: int = strawberry.field(description="The most pages that one refresh fetches.")


@strawberry.type
class SourceLimits:
    """What a refresh may bring and take; beyond that it fails, and nothing is changed."""

    min_records: int = strawberry.field(description="The fewest records.")
    max_records: int = strawberry.field(description="The most records.")
    max_bytes: BigInt = strawberry.field(
        description="The most bytes of all pages together, decompressed."
    )
    timeout_seconds: float = strawberry.field(description="The longest that a request may take.")


@strawberry.type
class SourceRefresh:
    """A refresh that is under way, and how far it has come; a few seconds old at the most."""

    started_at: datetime = strawberry.field(description="When it began.")

    @field("Requests that were sent, repeated ones too.")
    @staticmethod
    def tries(refresh: strawberry.Parent[Refresh]) -> int:
        return refresh.progress.tries

    @field("Pages that were fetched.")
    @staticmethod
    def pages(refresh: strawberry.Parent[Refresh]) -> int:
        return refresh.progress.pages

    @field("Records that were found.")
    @staticmethod
    def records(refresh: strawberry.Parent[Refresh]) -> int:
        return refresh.progress.records

    @field("Bytes that were received, decompressed.", BigInt)
    @staticmethod
    def bytes(refresh: strawberry.Parent[Refresh]) -> int:
        return refresh.progress.bytes


@strawberry.type
class Source:
    """Where external data is fetched from, and how that fares."""

    key: str = strawberry.field(description="The source's name, which identifies it.")
    url: str = strawberry.field(description="The address that is fetched; of pages, the first.")
    site_id: ID | None = strawberry.field(
        description=(
            "The site whose keys may read it, beside keys for all sites; null where only those may."
        )
    )
    enabled: bool = strawberry.field(description="Whether it is fetched at all.")
    refresh_seconds: int = strawberry.field(
        description="The time from one refresh to the next; it counts where there is no `cron`."
    )
    cron: str | None = strawberry.field(
        description="When it is refreshed, as the five fields of a crontab line, in `timezone`."
    )
    timezone: str = strawberry.field(description="IANA name of the time zone of `cron`.")
    method: Method = strawberry.field(description="How it is asked.")
    headers: list[SourceHeader] = strawberry.field(
        description="Headers that are sent to it.",
        directives=[ListSize(assumed_size=MAX_HEADERS)],
    )
    format: Format = strawberry.field(description="What it answers with.")
    records_at: str | None = strawberry.field(
        description="JSON Pointer to the list of records in an answer."
    )
    records_query: str | None = strawberry.field(
        description="JMESPath that gives the list of records of an answer."
    )
    id_field: str = strawberry.field(
        description=(
            "The field of a record that identifies it, or a JSON Pointer to it, which begins "
            "with a slash."
        )
    )
    paging: SourcePaging | None = strawberry.field(
        description="How its pages are followed; null where there is but one."
    )
    limits: SourceLimits = strawberry.field(description="What a refresh may bring and take.")
    breaker_failures: int = strawberry.field(
        description="After so many failures in a row the breaker opens."
    )
    breaker_seconds: int = strawberry.field(description="For so long the breaker stays open.")
    is_declared: bool = strawberry.field(
        description="It stands in SOURCES_FILE, and is changed there only."
    )
    version: BigInt = strawberry.field(description="Goes up whenever its definition changes.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When its definition changed last.")
    breaker: BreakerState = strawberry.field(
        description="Whether it is asked, after what it came to before."
    )
    failures: int = strawberry.field(description="Refreshes that failed in a row, up to now.")
    last_success_at: datetime | None = strawberry.field(
        description="When a refresh succeeded last; null where none has."
    )
    last_failure_at: datetime | None = strawberry.field(
        description="When a refresh failed last; null where none has."
    )
    next_attempt_at: datetime | None = strawberry.field(
        description="When it is due next; null while it is switched off."
    )
    records: int = strawberry.field(description="Records that it has; vanished ones don't count.")
    refresh: SourceRefresh | None = strawberry.field(
        description="The refresh that is under way, in whichever process; null where none is."
    )

    @field("The newest audit of the source; null where it was never tried.")
    @staticmethod
    async def last_audit(source: strawberry.Parent[ShownSource], info: Info) -> Audit | None:
        return cast("Audit | None", await sources.last_audit(info.context, source.key))


@strawberry.type
class Audit:
    """One attempt to refresh a source."""

    audit_id: ID = strawberry.field(name="id", description="The audit's id.")
    started_at: datetime = strawberry.field(description="When the attempt began.")
    duration_ms: int = strawberry.field(description="How long it took, in milliseconds.")
    pages: int = strawberry.field(description="Pages that were fetched.")
    outcome: FetchOutcome = strawberry.field(description="What it came to.")
    http_status: int | None = strawberry.field(
        description="HTTP status of the last answer; null where there was none."
    )
    is_complete: bool = strawberry.field(
        description=(
            "The whole set was seen, so that records which were not in it have vanished. False "
            "where it failed, and where `maxPages` cut the set."
        )
    )
    bytes: BigInt = strawberry.field(description="Bytes that were received, decompressed.")
    error: str | None = strawberry.field(description="Why it failed; null where it didn't.")

    @field("The source that was to be refreshed.", Source)
    @staticmethod
    async def source(audit: strawberry.Parent[StoredAudit], info: Info) -> ShownSource:
        return await sources.source_of(info.context, audit.source_key)

    @field("Requests that were sent, repeated ones too; 0 where it was skipped.")
    @staticmethod
    def attempts(audit: strawberry.Parent[StoredAudit]) -> int:
        return audit.tries

    @field("Records that the source has, as far as it was seen.")
    @staticmethod
    def records_seen(audit: strawberry.Parent[StoredAudit]) -> int:
        return audit.seen

    @field("Records whose `changedAt` it moved: new ones, and those with new content.")
    @staticmethod
    def records_changed(audit: strawberry.Parent[StoredAudit]) -> int:
        return audit.added + audit.changed

    @field("Records that were seen for the first time.")
    @staticmethod
    def records_added(audit: strawberry.Parent[StoredAudit]) -> int:
        return audit.added

    @field("Records that the source did not have any more.")
    @staticmethod
    def records_vanished(audit: strawberry.Parent[StoredAudit]) -> int:
        return audit.vanished


@strawberry.type
class SourceSummaryRow:
    """A source of the summary."""

    source: Source = strawberry.field(
        description="The source, as it was when the summary was computed."
    )
    records: int = strawberry.field(description="Records that it has.")
    age_seconds: int | None = strawberry.field(
        description="Seconds since a refresh succeeded last; null where none has."
    )


@strawberry.type
class SourceSummary:
    """Records per source with their freshness; a second old at most, unless `meta` says STALE."""

    sources: list[SourceSummaryRow] = strawberry.field(
        description="The sources that the key may read, in order of key."
    )
    records: int = strawberry.field(description="Records of all of them.")
    meta: SummaryMeta = strawberry.field(description="What the summary rests on.")


@strawberry.type
class RefreshSourcesPayload:
    """What refreshing sources by hand came to."""

    sources: list[Source] = strawberry.field(
        description="What was started or, with `wait`, done: the sources as they are now."
    )
    audits: list[Audit] = strawberry.field(
        description="With `wait`, the attempts that have ended; none without it."
    )
    running: list[str] = strawberry.field(
        description=(
            "Keys of the sources whose refresh is still under way, see their `refresh`, or waits "
            "for its turn."
        )
    )
