"""The state of the service and of each of its parts."""

from __future__ import annotations

from datetime import datetime

import strawberry

from resolvers.system import PartStatus, SystemState
from schema.cache import ResultCache
from schema.enums import describe_enum
from schema.fields import field
from schema.scalars import BigInt

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

    cache: ResultCache = strawberry.field(
        description="Results of reports that the process which answers keeps."
    )

    @field("How the service is: as its worst part is.")
    @staticmethod
    def status(state: strawberry.Parent[SystemState]) -> PartStatus:
        from_best_to_worst = list(PartStatus)
        return max((part.status for part in state.parts), key=from_best_to_worst.index)
