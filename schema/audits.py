"""Audits of external sources: a row for each attempt to refresh one, in pages."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import strawberry

from data.sources.records import FetchOutcome, StoredAudit
from resolvers.source_records import AuditPage, AuditsAsked
from schema.arguments import given
from schema.fields import field
from schema.pagination import PageInfo, page_info
from schema.scalars import SentInstant, instant_of
from schema.sources import Audit

Outcome: TypeAlias = Annotated[
    FetchOutcome | None, strawberry.argument("Attempts that came to this only.")
]
Since: TypeAlias = Annotated[
    SentInstant | None, strawberry.argument("Attempts that began at this moment or later.")
]
Until: TypeAlias = Annotated[
    SentInstant | None, strawberry.argument("Attempts that began before this moment.")
]


def audits_asked(
    source_key: str | None,
    outcome: FetchOutcome | None,
    since: SentInstant | None,
    until: SentInstant | None,
) -> AuditsAsked:
    """Which audits are asked for; raises `BadUserInput`."""
    begin, end = given(since), given(until)
    return AuditsAsked(
        source_key=given(source_key),
        outcome=given(outcome),
        since=None if begin is None else instant_of(begin, "since"),
        until=None if end is None else instant_of(end, "until"),
    )


class _Edge(NamedTuple):
    cursor: str
    node: StoredAudit


@strawberry.type
class AuditEdge:
    """An audit and its place in the order."""

    cursor: str = strawberry.field(description="The audit's place, for `after`.")
    node: Audit = strawberry.field(description="The audit.")


@strawberry.type
class AuditConnection:
    """A page of audits, the newest first."""

    @field("The audits of the page with their cursors.", list[AuditEdge])
    @staticmethod
    def edges(page: strawberry.Parent[AuditPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.audits))

    @field("The audits of the page.", list[Audit])
    @staticmethod
    def nodes(page: strawberry.Parent[AuditPage]) -> list[StoredAudit]:
        return list(page.audits)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[AuditPage]) -> PageInfo:
        return page_info(page)
