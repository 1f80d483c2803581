"""The state of the service and of each of its parts."""

from __future__ import annotations

from datetime import date, datetime

import strawberry
from strawberry import ID

from data.reconciliation import MAX_DAYS, DayDifference
from resolvers.sources import MAX_SOURCES
from resolvers.system import PartStatus, QueueFigures, SystemState
from schema.cache import ResultCache
from schema.directives import ListSize
from schema.enums import describe_enum
from schema.fields import field
from schema.scalars import BigInt
from schema.sources import Source

describe_enum(
    PartStatus,
    "How a part of the service is.",
    OK="It works as it should.",
    DEGRADED="It works, but not as it should: slower, or behind.",
    DOWN="It does not work.",
)


@strawberry.type
class SystemPart:
    """One part of the service."""

    name: str = strawberry.field(description="The part, such as `ledger`.")
    status: PartStatus = strawberry.field(description="How the part is.")
    detail: str = strawberry.field(description="A sentence about it for operators.")


@strawberry.type
class SystemQueue:
    """What waits in the queue, as this process last saw it."""

    length: int = strawberry.field(description="Requests that wait, those in hand included.")
    events: int = strawberry.field(description="Events that these requests hold.")
    pending: int = strawberry.field(description="Requests that a worker has in hand.")
    oldest_age_seconds: float = strawberry.field(
        description="How long the oldest request has waited; 0 where none does."
    )
    workers: int = strawberry.field(description="Workers that were heard of in the last seconds.")
    dead_letters: int = strawberry.field(
        description="Events and requests that could not be brought into the ledger."
    )


@strawberry.type
class ReconciledDay:
    """A day of a site on which a store does not have what the ledger has.

    Figures are distinct users, null where there was no time to count them.
    """

    site_id: ID = strawberry.field(description="The site.")
    day: date = strawberry.field(description="The day, in the time zone of the site.")
    view: int | None = strawberry.field(
        description=(
            "Users by the materialised view; null where the site is being filled anew, or where "
            "the columnar copy alone was compared."
        )
    )

    @field("Users by the ledger, which is right.")
    @staticmethod
    def ledger(difference: strawberry.Parent[DayDifference]) -> int | None:
        return difference.ledger.users if difference.ledger else None

    @field("Users by the columnar copy of this process.")
    @staticmethod
    def copy(difference: strawberry.Parent[DayDifference]) -> int | None:
        return difference.copy.users if difference.copy else None

    @field("Events in the ledger.", BigInt | None)
    @staticmethod
    def ledger_events(difference: strawberry.Parent[DayDifference]) -> int | None:
        return difference.ledger.events if difference.ledger else None

    @field("Events in the columnar copy of this process.", BigInt | None)
    @staticmethod
    def copy_events(difference: strawberry.Parent[DayDifference]) -> int | None:
        return difference.copy.events if difference.copy else None


@strawberry.type
class System:
    """The state of the service, looked at for this request."""

    parts: list[SystemPart] = strawberry.field(description="Every part that was looked at.")
    data_through: datetime | None = strawberry.field(
        description="Every event committed before this moment is in reports; null if none is yet."
    )
    ledger_position: BigInt | None = strawberry.field(
        description="The newest position of the change feed; null while the ledger is down."
    )
    copy_position: BigInt | None = strawberry.field(
        description=(
            "The position up to which the columnar copy has followed; null while it is down."
        )
    )
    pending_events: int = strawberry.field(
        description="Events that wait in this process to be committed."
    )

    @field(
        "What waits in the queue; null without INGEST_MODE=queue, and while Redis is down.",
        SystemQueue | None,
    )
    @staticmethod
    def queue(state: strawberry.Parent[SystemState]) -> QueueFigures | None:
        return state.queue

    reconciliation: list[ReconciledDay] = strawberry.field(
        description=(
            "What ledger, columnar copy and view of daily users disagreed on when they were "
            f"compared last: the worst {MAX_DAYS} days; empty if nothing."
        ),
        directives=[ListSize(assumed_size=MAX_DAYS)],
    )
    cache: ResultCache = strawberry.field(
        description="Results of reports that the process which answers keeps."
    )

    sources: list[Source] = strawberry.field(
        description="Every external source, in order of key; none while the ledger is down.",
        directives=[ListSize(assumed_size=MAX_SOURCES)],
    )

    @field("How the service is: as its worst part is.")
    @staticmethod
    def status(state: strawberry.Parent[SystemState]) -> PartStatus:
        from_best_to_worst = list(PartStatus)
        return max((part.status for part in state.parts), key=from_best_to_worst.index)
