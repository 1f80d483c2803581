"""Records of external sources, in pages, and what became of each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
import strawberry
from strawberry import ID

from data.sources.records import ChangeKind, StoredRecord
from data.sources.records import RecordChange as StoredChange
from resolvers import source_records, sources
from resolvers.source_records import MAX_HISTORY, RecordPage, RecordsAsked
from resolvers.sources import ShownSource
from schema.arguments import Info, given
from schema.directives import Cost, ListSize
from schema.enums import describe_enum
from schema.fields import field
from schema.pagination import PageInfo, page_info
from schema.scalars import JSON, SentInstant, instant_of
from schema.sources import Source

describe_enum(
    ChangeKind,
    "What became of a record.",
    name="RecordChangeKind",
    ADDED="It was seen for the first time.",
    CHANGED="Its content became another.",
    VANISHED="The whole set was seen, and it was not in it any more.",
    RETURNED="It was seen again after it had vanished.",
)

SourceKey: TypeAlias = Annotated[
    str | None, strawberry.argument("Those of this source only; of every source where left out.")
]
ExternalId: TypeAlias = Annotated[
    str | None, strawberry.argument("Records that their source knows by this id.")
]
ChangedSince: TypeAlias = Annotated[
    SentInstant | None,
    strawberry.argument("Records whose content changed at this moment or later."),
]
ChangedBefore: TypeAlias = Annotated[
    SentInstant | None, strawberry.argument("Records whose content changed last before this.")
]
IncludeVanished: TypeAlias = Annotated[
    bool, strawberry.argument("Also records that their source does not have any more.")
]
Changes: TypeAlias = Annotated[
    int, strawberry.argument(f"How many changes to list at most: 1 to {MAX_HISTORY}.")
]

_DOCUMENT = Cost(weight="20")
_HISTORY = ListSize(assumed_size=MAX_HISTORY, slicing_arguments=["first"])


def records_asked(
    source_key: str | None,
    external_id: str | None,
    changed: tuple[SentInstant | None, SentInstant | None],
    include_vanished: bool,
) -> RecordsAsked:
    """Which records are asked for; raises `BadUserInput`."""
    since, until = map(given, changed)
    return RecordsAsked(
        source_key=given(source_key),
        external_id=given(external_id),
        since=None if since is None else instant_of(since, "changedSince"),
        until=None if until is None else instant_of(until, "changedBefore"),
        include_vanished=include_vanished,
    )


def _as_sent(text: str) -> msgspec.Raw:
    """The JSON as it is kept: it goes into the answer as it stands, digits of numbers and all."""
    return msgspec.Raw(text.encode())


@strawberry.type
class RecordChange:
    """Something that became of a record."""

    at: datetime = strawberry.field(description="When it was noticed.")
    kind: ChangeKind = strawberry.field(description="What became of the record.")

    @field(
        "The content from then on; null where the record vanished.",
        JSON | None,
        directives=[_DOCUMENT],
    )
    @staticmethod
    def data(change: strawberry.Parent[StoredChange]) -> msgspec.Raw | None:
        return None if change.data is None else _as_sent(change.data)


@strawberry.type
class Record:
    """Something that an external source holds, as it was last seen."""

    record_id: ID = strawberry.field(name="id", description="The record's id here.")
    external_id: str = strawberry.field(description="The id by which its source knows it.")
    first_seen_at: datetime = strawberry.field(description="When it was seen for the first time.")
    fetched_at: datetime = strawberry.field(description="When it was last seen as it is.")
    changed_at: datetime = strawberry.field(
        description="When its content became what it is; a refresh that finds it so moves nothing."
    )
    vanished_at: datetime | None = strawberry.field(
        description="When its source was found not to have it any more; null where it has."
    )

    @field("The source that it comes from.", Source)
    @staticmethod
    async def source(record: strawberry.Parent[StoredRecord], info: Info) -> ShownSource:
        return await sources.source_of(info.context, record.source_key)

    @field("The record as its source sent it, as a JSON object.", JSON, directives=[_DOCUMENT])
    @staticmethod
    def data(record: strawberry.Parent[StoredRecord]) -> msgspec.Raw:
        return _as_sent(record.data)

    @field(
        "What became of it, the newest first; kept for SOURCE_HISTORY_DAYS.",
        list[RecordChange],
        directives=[_HISTORY],
    )
    @staticmethod
    async def history(
        record: strawberry.Parent[StoredRecord], info: Info, first: Changes = 10
    ) -> list[StoredChange]:
        return await source_records.history(info.context, record.record_id, first)


class _Edge(NamedTuple):
    cursor: str
    node: StoredRecord


@strawberry.type
class RecordEdge:
    """A record and its place in the order."""

    cursor: str = strawberry.field(description="The record's place, for `after`.")
    node: Record = strawberry.field(description="The record.")


@strawberry.type
class RecordConnection:
    """A page of records, those that changed last first."""

    @field("The records of the page with their cursors.", list[RecordEdge])
    @staticmethod
    def edges(page: strawberry.Parent[RecordPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.records))

    @field("The records of the page.", list[Record])
    @staticmethod
    def nodes(page: strawberry.Parent[RecordPage]) -> list[StoredRecord]:
        return list(page.records)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[RecordPage]) -> PageInfo:
        return page_info(page)
