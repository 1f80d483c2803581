"""Questions to the event store and the rows that answer them.

Questions are frozen and hashable: equal questions are one question (dataloaders and caches rely
on it). They are about days and zones; what a caller may ask is decided in `resolvers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from data.calendar import DateRange, Interval, Weekday
from data.events import StoredEvent

Rows = TypeVar("Rows")


class Field(StrEnum):
    """The fields of an event that a filter can look at; the names are columns of the store."""

    EVENT_TYPE = "event_type"
    USER_ID = "user_id"
    VISITOR_ID = "visitor_id"
    SESSION_ID = "session_id"
    URL = "url"
    PATH = "path"
    REFERRER = "referrer"


@dataclass(frozen=True, slots=True)
class StringFilter:
    """Conditions on a text; all that are given (not None) must hold.

    The negative ones (`ne`, `not_in`) hold where the text is missing, the others do not.
    """

    eq: str | None = None
    ne: str | None = None
    in_: tuple[str, ...] | None = None
    not_in: tuple[str, ...] | None = None
    contains: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    matches: str | None = None
    ignore_case: bool = False
    is_set: bool | None = None


@dataclass(frozen=True, slots=True)
class NumberFilter:
    """Conditions on a number; a value that is not a JSON number counts as missing."""

    eq: float | None = None
    ne: float | None = None
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None
    is_set: bool | None = None


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """Conditions on one property, by name. JSON null counts as missing.

    `string` looks at text as it is and at any other value by its JSON text; `number` and
    `boolean` look at values of just that JSON type.
    """

    name: str
    string: StringFilter | None = None
    number: NumberFilter | None = None
    boolean: bool | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events count; all conditions that are given must hold.

    `any_of` is None where it was not given; an empty one holds for no event. `negated` holds
    for an event for which the inner filter does not.
    """

    fields: tuple[tuple[Field, StringFilter], ...] = ()
    properties: tuple[PropertyFilter, ...] = ()
    all_of: tuple[EventFilter, ...] = ()
    any_of: tuple[EventFilter, ...] | None = None
    negated: EventFilter | None = None


EVERYTHING = EventFilter()


class CohortRule(StrEnum):
    """Who belongs to a cohort."""

    FIRST_EVER = "FIRST_EVER"
    RECURRING = "RECURRING"


class PeriodRule(StrEnum):
    """How the time line is cut into periods."""

    CALENDAR = "CALENDAR"
    RANGE_START = "RANGE_START"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which events a question is about: of one site, on local days, that pass the filter."""

    site_id: str
    days: DateRange
    zone: ZoneInfo
    filter: EventFilter = EVERYTHING


@dataclass(frozen=True, slots=True)
class ActiveUsersQuery:
    """Distinct actors per period or, with `rolling`, of the last N days as seen on each day."""

    scope: Scope
    interval: Interval = Interval.DAY
    week_start: Weekday = Weekday.MONDAY
    rolling: int | None = None


@dataclass(frozen=True, slots=True)
class ActiveUsersRows:
    """Actors by first day of the period, without empty periods, and over the whole range."""

    users: dict[date, int]
    total: int


@dataclass(frozen=True, slots=True)
class TopEventsQuery:
    """The `limit` most frequent event types; ties are ordered by name."""

    scope: Scope
    limit: int = 10


@dataclass(frozen=True, slots=True)
class TopEventsRow:
    """One event type with its number of events and of distinct actors."""

    event_type: str
    count: int
    users: int


@dataclass(frozen=True, slots=True)
class TopEventsRows:
    """The first event types, and the number of events of all types."""

    rows: tuple[TopEventsRow, ...]
    total: int


@dataclass(frozen=True, slots=True)
class EventCountsQuery:
    """Number of events per period, by the hour too."""

    scope: Scope
    interval: Interval = Interval.DAY
    week_start: Weekday = Weekday.MONDAY


@dataclass(frozen=True, slots=True)
class EventCountsRows:
    """Events per period, without empty ones.

    The key is the first day of the period or, by the hour, the UTC instant (a `datetime`, which
    is a `date`) at which the local clock hour begins, as `data.calendar.hours_of` lists them.
    """

    counts: dict[date, int]
    total: int


@dataclass(frozen=True, slots=True)
class RetentionQuery:
    """Of the actors who started in a period of the range: how many were back k periods later.

    The filter holds for starts and returns alike. `start_events` and `return_events` narrow
    them to event types; None means all. k runs from 0 to `periods`, both included.
    """

    scope: Scope
    interval: Interval = Interval.WEEK
    week_start: Weekday = Weekday.MONDAY
    periods: int = 8
    cohort: CohortRule = CohortRule.FIRST_EVER
    period_rule: PeriodRule = PeriodRule.CALENDAR
    unbounded: bool = False
    start_events: tuple[str, ...] | None = None
    return_events: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RetentionRows:
    """Cohorts by index of their period in the range (0 is the first that touches it).

    `sizes[i]` actors started in period i; `returned[i, k]` of them were back in period i + k.
    Zeros are left out.
    """

    sizes: dict[int, int]
    returned: dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of events: by time, then by arrival."""

    occurred_at: datetime
    arrival: int


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """Single events, newest first; `days` None means all of them.

    `actor` narrows to one actor; `after` continues behind a place. At most `first` events.
    """

    site_id: str
    zone: ZoneInfo
    days: DateRange | None = None
    filter: EventFilter = EVERYTHING
    actor: str | None = None
    first: int = 50
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a copy follows the ledger: the last batch it holds, with when that committed."""

    position: int
    batch_id: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Answer(Generic[Rows]):
    """Rows of each question, in the order asked, and the watermark that they rest on."""

    rows: Sequence[Rows]
    watermark: Watermark | None


EventRows = tuple[StoredEvent, ...]


# As sql/insert_slice.sql numbers arrivals: room for the events of one batch.
_PLACES_OF_BATCH = 65_536


def last_arrival(watermark_position: int) -> int:
    """The last place in the order of arrival that belongs to a batch at this position."""
    return (watermark_position + 1) * _PLACES_OF_BATCH - 1


def position_of(arrival: int) -> int:
    """The position of the batch to which a place in the order of arrival belongs."""
    return arrival // _PLACES_OF_BATCH


@dataclass(frozen=True, slots=True)
class NewEventsQuery:
    """Events of a site that pass the filter and stand behind a place in the order of arrival."""

    site_id: str
    filter: EventFilter
    after: int


@dataclass(frozen=True, slots=True)
class NewEvents:
    """What is new for each question, in the order asked; each in order of arrival.

    Everything up to the place `through` is in it; `is_all` says that the copy holds no more.
    """

    rows: Sequence[EventRows]
    through: int
    is_all: bool


# What counts as now: the five minutes that end with a whole second.
ACTIVITY_WINDOW = timedelta(minutes=5)
TOP_PATHS = 10


@dataclass(frozen=True, slots=True)
class Activity:
    """Distinct actors, events and the most frequent paths of the five minutes up to `at`.

    An event counts if it occurred after `at` - 5 minutes and at `at` at the latest.
    """

    at: datetime
    users: int
    events: int
    top_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownActivity:
    """What somebody knows of a site already: what had arrived and had occurred by then.

    That is every event up to the place `arrival` that occurred at the whole second `at` or
    before it. Whoever knows nothing has -1 and 0.
    """

    site_id: str
    arrival: int = -1
    at: int = 0


@dataclass(frozen=True, slots=True)
class ActivityChanges:
    """What is in a site's five minutes and was not known.

    Times are the whole seconds since 1970 in which, or at the end of which, events occurred.
    `actors` has each actor with the last of their seconds; `paths` the number of events by second
    and path, None for those without one.
    """

    actors: Sequence[tuple[str, int]]
    paths: Sequence[tuple[int, str | None, int]]
