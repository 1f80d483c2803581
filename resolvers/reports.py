"""Reports: which days and periods are meant, and what their numbers rest on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from data.cache import CacheStatus
from data.calendar import (
    DateRange,
    Interval,
    UnknownZone,
    end_of_day,
    hours_of,
    period_after,
    periods_of,
    start_of_day,
    zone_of,
)
from data.event_store import InvalidPattern, StoreUnavailable
from data.postgres.keys import Scope as KeyScope
from data.postgres.sites import Site
from data.queries import (
    EVERYTHING,
    ActiveUsersQuery,
    ActiveUsersRows,
    EventCountsQuery,
    EventFilter,
    Scope,
    StringFilter,
    TopEventsQuery,
    TopEventsRow,
    Watermark,
)
from resolvers.access import require_site
from resolvers.cached import ACTIVE_USERS, EVENT_COUNTS, TOP_EVENTS, Cached, Rows, cached
from resolvers.context import Context
from resolvers.errors import BadUserInput, Unavailable

MAX_RANGE_DAYS = 1_100
MAX_ROLLING_DAYS = 366
MAX_TOP_EVENTS = 1_000
MAX_FILTER_DEPTH = 12
MAX_FILTER_PARTS = 200
# What `dataThrough` says while nothing has been followed: nothing was committed before it.
NOTHING_YET = datetime(1970, 1, 1, tzinfo=UTC)


class ReportSource(StrEnum):
    """The store that answered."""

    COLUMNAR = "COLUMNAR"
    REPLICA_VIEW = "REPLICA_VIEW"


@dataclass(frozen=True, slots=True)
class Meta:
    """What a report rests on."""

    data_through: datetime
    computed_at: datetime
    timezone: str
    cache: CacheStatus = CacheStatus.BYPASS
    source: ReportSource = ReportSource.COLUMNAR
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments that all reports share, as they were sent."""

    site_id: str | None
    start: date
    end: date
    timezone: str | None = None
    filter: EventFilter = EVERYTHING


@dataclass(frozen=True, slots=True)
class ActiveUsersPoint:
    """Distinct users of one period."""

    date: date
    users: int
    complete: bool


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """All periods of the range in order, empty ones too."""

    interval: Interval
    points: list[ActiveUsersPoint]
    total: int
    meta: Meta


@dataclass(frozen=True, slots=True)
class TopEvents:
    """Event types by number of events."""

    events: tuple[TopEventsRow, ...]
    total: int
    meta: Meta


@dataclass(frozen=True, slots=True)
class EventCountPoint:
    """Events of the period that begins at `at`."""

    at: datetime
    count: int
    complete: bool


@dataclass(frozen=True, slots=True)
class EventCounts:
    """All periods of the range in order, empty ones too."""

    interval: Interval
    points: list[EventCountPoint]
    total: int
    meta: Meta


async def prepare(ctx: Context, asked: Asked) -> tuple[Site, Scope]:
    """The site, and the scope of the question; refuses what cannot be asked."""
    site = await require_site(ctx, asked.site_id, KeyScope.READ)
    zone = require_zone(asked.timezone or site.timezone)
    days = require_range(asked.start, asked.end)
    await require_filter(ctx, asked.filter)
    return site, Scope(site.site_id, days, zone, asked.filter)


def require_zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name; raises `BadUserInput`."""
    try:
        return zone_of(name)
    except UnknownZone:
        raise BadUserInput(
            "timezone", f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin"
        ) from None


def require_range(start: date, end: date) -> DateRange:
    """The days from `start` to `end`; raises `BadUserInput`."""
    if end < start:
        raise BadUserInput("range", f"range.to ({end}) is before range.from ({start})")
    days = DateRange(start, end)
    if days.days > MAX_RANGE_DAYS:
        raise BadUserInput(
            "range",
            f"the range has {days.days} days; at most {MAX_RANGE_DAYS} can be asked at once",
        )
    if start.year < 2 or end.year > 9_990:
        raise BadUserInput("range", "the range is outside of the years 2 to 9990")
    return days


async def require_filter(ctx: Context, wanted: EventFilter) -> None:
    """Refuses a filter that is too large or has a bad regular expression."""
    patterns: list[str] = []
    parts = _measure(wanted, 1, patterns)
    if parts > MAX_FILTER_PARTS:
        raise BadUserInput("filter", f"a filter may have {MAX_FILTER_PARTS} conditions at most")
    for pattern in patterns:
        try:
            await ctx.resources.columnar.store.check_pattern(pattern)
        except InvalidPattern as error:
            raise BadUserInput("filter", f"matches: {error}") from None
        except StoreUnavailable as error:
            raise Unavailable("columnar", "reports cannot be answered now") from error


def _measure(wanted: EventFilter, depth: int, patterns: list[str]) -> int:
    if depth > MAX_FILTER_DEPTH:
        raise BadUserInput("filter", f"a filter may be nested {MAX_FILTER_DEPTH} deep at most")
    texts: list[StringFilter] = [condition for _, condition in wanted.fields]
    texts += [one.string for one in wanted.properties if one.string]
    patterns += [one.matches for one in texts if one.matches is not None]
    inner = (*wanted.all_of, *(wanted.any_of or ()), *filter(None, [wanted.negated]))
    own = len(texts) + len(wanted.properties) + 1
    return own + sum(_measure(one, depth + 1, patterns) for one in inner)


def meta_of_kept(answer: Cached[Rows], zone: ZoneInfo) -> Meta:
    """What a report rests on that may be kept from before."""
    through = answer.through or NOTHING_YET
    return Meta(through, answer.computed_at, zone.key, answer.status)


def meta_of(ctx: Context, watermark: Watermark | None, zone: ZoneInfo) -> Meta:
    """What an answer at this watermark rests on."""
    through = ctx.resources.follower.data_through(watermark)
    return Meta(through or NOTHING_YET, ctx.resources.clock(), zone.key)


async def active_users(
    ctx: Context, asked: Asked, interval: Interval, rolling: int | None
) -> ActiveUsers:
    """Distinct users per day, week or month or, with `rolling`, of the last N days each day."""
    site, scope = await prepare(ctx, asked)
    if interval is Interval.HOUR:
        raise BadUserInput("interval", "active users are counted by DAY, WEEK or MONTH")
    if rolling is not None:
        if interval is not Interval.DAY:
            raise BadUserInput("rolling", "rolling goes with the interval DAY")
        if not 1 <= rolling <= MAX_ROLLING_DAYS:
            raise BadUserInput("rolling", f"rolling takes 1 to {MAX_ROLLING_DAYS} days")
    query = ActiveUsersQuery(scope, interval, site.week_start, rolling)
    answer = await cached(ctx, ACTIVE_USERS, query)
    return active_users_of(query, answer.rows, meta_of_kept(answer, scope.zone))


def active_users_of(query: ActiveUsersQuery, rows: ActiveUsersRows, meta: Meta) -> ActiveUsers:
    """The answer that a store's rows come to: every period, also those without anybody."""
    scope, interval = query.scope, query.interval
    starts = periods_of(scope.days, interval, query.week_start)
    ended = ended_periods(starts, interval, scope.zone, meta.data_through)
    points = [
        ActiveUsersPoint(start, rows.users.get(start, 0), number < ended)
        for number, start in enumerate(starts)
    ]
    return ActiveUsers(interval, points, rows.total, meta)


def ended_periods(
    starts: Sequence[date], interval: Interval, zone: ZoneInfo, moment: datetime
) -> int:
    """How many of the periods, which are in order, had ended at a moment: the first ones.

    Found by halving, as the end of a day takes some microseconds to work out.
    """

    def end(start: date) -> datetime:
        return end_of_day(period_after(start, interval) - timedelta(days=1), zone)

    return bisect_right(starts, moment, key=end)


async def top_events(ctx: Context, asked: Asked, limit: int) -> TopEvents:
    """The most frequent event types of the range."""
    _, scope = await prepare(ctx, asked)
    if not 1 <= limit <= MAX_TOP_EVENTS:
        raise BadUserInput("limit", f"limit takes 1 to {MAX_TOP_EVENTS}")
    answer = await cached(ctx, TOP_EVENTS, TopEventsQuery(scope, limit))
    return TopEvents(answer.rows.rows, answer.rows.total, meta_of_kept(answer, scope.zone))


async def event_counts(ctx: Context, asked: Asked, interval: Interval) -> EventCounts:
    """Number of events of each period of the range."""
    site, scope = await prepare(ctx, asked)
    query = EventCountsQuery(scope, interval, site.week_start)
    answer = await cached(ctx, EVENT_COUNTS, query)
    rows, meta = answer.rows, meta_of_kept(answer, scope.zone)
    counts = rows.counts
    if interval is Interval.HOUR:
        points = [
            EventCountPoint(start, counts.get(start, 0), end <= meta.data_through)
            for start, end in hours_of(scope.days, scope.zone)
        ]
    else:
        starts = periods_of(scope.days, interval, site.week_start)
        ended = ended_periods(starts, interval, scope.zone, meta.data_through)
        points = [
            EventCountPoint(start_of_day(start, scope.zone), counts.get(start, 0), number < ended)
            for number, start in enumerate(starts)
        ]
    return EventCounts(interval, points, rows.total, meta)
