"""Questions about external sources: input to query object, resolver, type."""

from __future__ import annotations

from typing import Annotated

import strawberry
from strawberry import ID, UNSET

from data.sources.records import StoredRecord
from resolvers import source_records, source_summary, sources
from resolvers.raw_events import MAX_PAGE
from resolvers.source_records import AuditPage, RecordPage
from resolvers.source_summary import Summary
from resolvers.sources import MAX_SOURCES, ShownSource
from schema.arguments import Info
from schema.audits import AuditConnection, Outcome, Since, Until, audits_asked
from schema.directives import Cost, ListSize
from schema.fields import field
from schema.pagination import After, First, page_asked
from schema.records import (
    ChangedBefore,
    ChangedSince,
    ExternalId,
    IncludeVanished,
    Record,
    RecordConnection,
    SourceKey,
    records_asked,
)
from schema.sources import Source, SourceSummary

# What asking the ledger costs: see decision 12.
_STORE = Cost(weight="100")
_PAGE = ListSize(
    assumed_size=MAX_PAGE, slicing_arguments=["first"], sized_fields=["edges", "nodes"]
)
_SOURCES = ListSize(assumed_size=MAX_SOURCES)
_SUMMARY = ListSize(assumed_size=MAX_SOURCES, sized_fields=["sources"])


@strawberry.type
class SourceQuery:
    """What can be asked about external sources; a part of `Query`."""

    @field(
        "External sources that the key may read, in order of key: those of its site, all of them "
        "with a key for all sites.",
        list[Source],
        directives=[_STORE, _SOURCES],
    )
    async def sources(self, info: Info) -> list[ShownSource]:
        return await sources.sources(info.context)

    @field(
        "Records fetched from external sources, those that changed last first.",
        RecordConnection,
        directives=[_STORE, _PAGE],
    )
    async def records(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        source_key: SourceKey = UNSET,
        external_id: ExternalId = UNSET,
        changed_since: ChangedSince = UNSET,
        changed_before: ChangedBefore = UNSET,
        include_vanished: IncludeVanished = False,
        first: First = 50,
        after: After = UNSET,
    ) -> RecordPage:
        changed = (changed_since, changed_before)
        asked = records_asked(source_key, external_id, changed, include_vanished)
        return await source_records.records(info.context, asked, page_asked(first, after))

    @field(
        "A record, vanished or not; null where the key may read none of this id.",
        Record | None,
        directives=[_STORE],
    )
    async def record(
        self, info: Info, *, id: Annotated[ID, strawberry.argument("The record's id.")]
    ) -> StoredRecord | None:
        return await source_records.record(info.context, id)

    @field(
        "One row per attempt to fetch a source, the newest first; kept for SOURCE_AUDIT_DAYS.",
        AuditConnection,
        directives=[_STORE, _PAGE],
    )
    async def audits(  # noqa: PLR0913 - GraphQL passes them by name
        self,
        info: Info,
        *,
        source_key: SourceKey = UNSET,
        outcome: Outcome = UNSET,
        since: Since = UNSET,
        until: Until = UNSET,
        first: First = 50,
        after: After = UNSET,
    ) -> AuditPage:
        asked = audits_asked(source_key, outcome, since, until)
        return await source_records.audits(info.context, asked, page_asked(first, after))

    @field(
        "Records per source with their freshness, as one cached summary.",
        SourceSummary,
        directives=[_STORE, _SUMMARY],
    )
    async def source_summary(self, info: Info) -> Summary:
        return await source_summary.source_summary(info.context)
