"""Reports over time: active users, top events, event counts, and what their numbers rest on.

Types here describe the answers of `resolvers.reports`, field by field and under the same names;
the answers themselves are handed over as they are, however many points they have.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, TypeAlias

import strawberry
from strawberry import ID

from data import calendar
from data.cache import CacheStatus
from data.calendar import Interval
from resolvers import reports
from resolvers.reports import ReportSource
from schema.arguments import given
from schema.enums import describe_enum
from schema.filters import EventFilter, filter_asked
from schema.scalars import BigInt

_COMPLETE = (
    "The period had ended by `dataThrough`: only events that arrive late can still change the "
    "number."
)

describe_enum(
    Interval,
    "The length of a period, in the time zone of the report.",
    HOUR="From one full hour of the local clock to the next.",
    DAY="A calendar day; it has 23 to 25 hours where clocks are changed.",
    WEEK="Seven days from the site's first day of the week.",
    MONTH="A calendar month.",
)
describe_enum(
    CacheStatus,
    "Where the answer came from.",
    HIT="It was kept from before, and nothing that it covers has changed since.",
    STALE="It was kept from before; newer events are being counted, or will be at the next request.",
    MISS="It was computed for this request and is kept for the next.",
    BYPASS="It was computed for this request, without asking the cache.",
)
describe_enum(
    ReportSource,
    "The store that answered.",
    COLUMNAR="The columnar copy of the events.",
    REPLICA_VIEW="The materialised view of daily users in the database replica.",
)


@strawberry.input
class DateRange:
    """Days from one to another, both included, in the time zone of the report.

    `to` may not come before `from`; a report takes at most 1,100 days.
    """

    from_: date = strawberry.field(name="from", description="The first day.")
    to: date = strawberry.field(description="The last day, which is included.")

    def to_query(self) -> calendar.DateRange:
        """The same days for the store."""
        return calendar.DateRange(self.from_, self.to)


Range: TypeAlias = Annotated[
    DateRange,
    strawberry.argument("The days that the report covers, both ends included."),
]
TimeZone: TypeAlias = Annotated[
    str | None,
    strawberry.argument(
        "Whose days, weeks and months are meant, as an IANA name such as `Europe/Berlin`. "
        "The site's own time zone where it is left out."
    ),
]
AnyInterval: TypeAlias = Annotated[Interval, strawberry.argument("The length of the periods.")]
LongInterval: TypeAlias = Annotated[
    Interval, strawberry.argument("The length of the periods: DAY, WEEK or MONTH.")
]
Rolling: TypeAlias = Annotated[
    int | None,
    strawberry.argument(
        "Count the users of the last N days as seen on each day, "
        f"1 to {reports.MAX_ROLLING_DAYS}; goes with the interval DAY."
    ),
]
Limit: TypeAlias = Annotated[
    int,
    strawberry.argument(f"How many event types to list at most: 1 to {reports.MAX_TOP_EVENTS:,}."),
]


def asked(
    range: DateRange, site_id: ID | None, filter: EventFilter | None, timezone: str | None
) -> reports.Asked:
    """The arguments that all reports share."""
    return reports.Asked(
        site_id=given(site_id),
        start=range.from_,
        end=range.to,
        timezone=given(timezone),
        filter=filter_asked(filter),
    )


@strawberry.type
class ReportMeta:
    """What the numbers of an answer rest on."""

    data_through: datetime = strawberry.field(
        description="Every event committed before this moment is in the answer."
    )
    computed_at: datetime = strawberry.field(description="When the answer was computed.")
    cache: CacheStatus = strawberry.field(description="Whether the answer was kept from before.")
    source: ReportSource = strawberry.field(description="The store that answered.")
    exact: bool = strawberry.field(description="The numbers are counted, not estimated.")
    timezone: str = strawberry.field(
        description="IANA name of the time zone whose days, weeks and months are meant."
    )


@strawberry.type
class SummaryMeta:
    """What a summary rests on."""

    computed_at: datetime = strawberry.field(description="When the summary was computed.")
    cache: CacheStatus = strawberry.field(description="Whether it was kept from before.")


@strawberry.interface
class Report:
    """An answer that says what it rests on."""

    meta: ReportMeta = strawberry.field(description="What the numbers of this report rest on.")


def answered_by(answer: type) -> Callable[[object, object], bool]:
    """The test by which GraphQL knows that a type with an interface describes `answer`."""
    return lambda value, _: isinstance(value, answer)


@strawberry.type
class ActiveUsersPoint:
    """Active users of one period; days of it outside of the range are not counted.

    With `rolling`, of the last N days up to one day, also those before the range.
    """

    date: date = strawberry.field(
        description="The first day of the period; with `rolling`, the last of the N days."
    )
    users: int = strawberry.field(
        description="Distinct users with at least one event in the period that passes the filter."
    )
    complete: bool = strawberry.field(description=_COMPLETE)


@strawberry.type
class ActiveUsersReport(Report):
    """Distinct users per period.

    A user is the `userId` of an event, else its `visitorId`; an event with neither counts for
    nobody.
    """

    is_type_of = staticmethod(answered_by(reports.ActiveUsers))

    interval: Interval = strawberry.field(description="The length of the periods.")
    points: list[ActiveUsersPoint] = strawberry.field(
        description="Every period that touches the range, in order; one without events has 0 users."
    )
    total: int = strawberry.field(
        description=(
            "Distinct users over the whole range: who was active in several periods counts once."
        )
    )


@strawberry.type
class TopEvent:
    """One event type and how often it occurred."""

    event_type: str = strawberry.field(description="The event type.")
    count: BigInt = strawberry.field(description="Number of events of this type in the range.")
    users: int = strawberry.field(description="Distinct users with an event of this type.")


@strawberry.type
class TopEventsReport(Report):
    """Event types by number of events."""

    is_type_of = staticmethod(answered_by(reports.TopEvents))

    events: list[TopEvent] = strawberry.field(
        description="The most frequent event types first; ties are in order of name."
    )
    total: BigInt = strawberry.field(
        description="Events of all types in the range, also of those that are not listed."
    )


@strawberry.type
class EventCountPoint:
    """Number of events of one period; days of it outside of the range are not counted."""

    at: datetime = strawberry.field(description="The moment at which the period begins.")
    count: BigInt = strawberry.field(
        description="Number of events in the period that pass the filter, with or without a user."
    )
    complete: bool = strawberry.field(description=_COMPLETE)


@strawberry.type
class EventCountsReport(Report):
    """Number of events per period."""

    is_type_of = staticmethod(answered_by(reports.EventCounts))

    interval: Interval = strawberry.field(description="The length of the periods.")
    points: list[EventCountPoint] = strawberry.field(
        description="Every period that touches the range, in order; one without events has 0."
    )
    total: BigInt = strawberry.field(description="Number of events over the whole range.")
