"""The admin log: what administrators did, in pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
import strawberry
from strawberry import ID

from data.admin_log import AdminAction, LoggedEntry
from resolvers.admin_log import AdminLogPage, LogAsked
from schema.arguments import given
from schema.directives import Cost
from schema.fields import field
from schema.pagination import PageInfo, page_info
from schema.scalars import JSON, BigInt, SentInstant, instant_of

LogSite: TypeAlias = Annotated[
    ID | None,
    strawberry.argument(
        "Entries of this site only. Where it is left out, a key of one site gets that site's, and "
        "a key for all sites every entry."
    ),
]
Action: TypeAlias = Annotated[
    str | None,
    strawberry.argument(f"Entries of this action only: one of {', '.join(AdminAction)}."),
]
Since: TypeAlias = Annotated[
    SentInstant | None, strawberry.argument("Entries from this moment on; all where left out.")
]
Until: TypeAlias = Annotated[
    SentInstant | None, strawberry.argument("Entries before this moment; all where left out.")
]

_DOCUMENT = Cost(weight="20")


def log_asked(
    site_id: str | None, action: str | None, since: SentInstant | None, until: SentInstant | None
) -> LogAsked:
    """Which entries are asked for; raises `BadUserInput`."""
    begin, end = given(since), given(until)
    return LogAsked(
        site_id=given(site_id),
        action=given(action),
        since=None if begin is None else instant_of(begin, "since"),
        until=None if end is None else instant_of(end, "until"),
    )


@strawberry.type
class AdminLogActor:
    """Who did something."""

    key_id: ID = strawberry.field(
        description="The id of the key with which it was done; `cli` for the command line, `hook` for "
        "the hook of an export, `service` for the service itself."
    )
    name: str = strawberry.field(description="The name that the key had at that time.")


@strawberry.type
class AdminLog:
    """Something that was done, as the log keeps it for ever."""

    position: BigInt = strawberry.field(
        description="The entry's place in the whole log: 1, 2, 3 and so on, in order of commit."
    )
    at: datetime = strawberry.field(description="When it was done.")
    actor: AdminLogActor = strawberry.field(description="Who did it.")
    site_id: ID | None = strawberry.field(
        description="The site that it concerns; null where it concerns no single one."
    )
    action: str = strawberry.field(description="What was done, such as `key.created`.")
    target: str = strawberry.field(
        description="What it was done to, such as the id of the key; never a secret."
    )
    hash: str = strawberry.field(description="SHA-256 over the entry and `previousHash`, in hex.")
    previous_hash: str = strawberry.field(description="The hash of the entry before.")

    @field("What else there is to say of it, as a JSON object.", JSON, directives=[_DOCUMENT])
    @staticmethod
    def details(entry: strawberry.Parent[LoggedEntry]) -> object:
        found: object = msgspec.json.decode(entry.details)
        return found


class _Edge(NamedTuple):
    cursor: str
    node: LoggedEntry


@strawberry.type
class AdminLogEdge:
    """An entry and its place in the order."""

    cursor: str = strawberry.field(description="The entry's place, for `after`.")
    node: AdminLog = strawberry.field(description="The entry.")


@strawberry.type
class AdminLogConnection:
    """A page of the admin log, the newest first."""

    @field("The entries of the page with their cursors.", list[AdminLogEdge])
    @staticmethod
    def edges(page: strawberry.Parent[AdminLogPage]) -> list[_Edge]:
        return list(map(_Edge, page.cursors, page.entries))

    @field("The entries of the page.", list[AdminLog])
    @staticmethod
    def nodes(page: strawberry.Parent[AdminLogPage]) -> list[LoggedEntry]:
        return list(page.entries)

    @field("Where the page begins and ends, and what lies around it.")
    @staticmethod
    def page_info(page: strawberry.Parent[AdminLogPage]) -> PageInfo:
        return page_info(page)
