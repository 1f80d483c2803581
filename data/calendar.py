"""Days, weeks and months of a time zone, exact across clock changes.

One time-zone database serves the whole product: Python's `zoneinfo`. Reports never ask a
store's own time-zone library. Instead a range of local days becomes a list of `Span`s, pieces
of the UTC time line with one offset each; a store adds the offset and has the local time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
# The ends of the calendar keep their distance from what `date` can hold, so that the zone's local
# midnight, the week that a day lies in and the month after it can still be told.
FIRST_DAY = date(1, 1, 10)
LAST_DAY = date(9999, 11, 30)


class Interval(StrEnum):
    """The length of one period of a report."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class Weekday(StrEnum):
    """Days of the week; a week starts on one of them."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"

    @property
    def number(self) -> int:
        """0 for Monday to 6 for Sunday, as `date.weekday()` counts."""
        return list(Weekday).index(self)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Local days from `start` to `end`, both included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """How many days the range has."""
        return (self.end - self.start).days + 1

    def __iter__(self) -> Iterator[date]:
        return (self.start + timedelta(days=n) for n in range(self.days))


@dataclass(frozen=True, slots=True)
class Span:
    """UTC instants from `start` up to, not including, `end`: local time is UTC plus `offset`."""

    start: datetime
    end: datetime
    offset: timedelta


class UnknownZone(ValueError):
    """The name is not in the IANA time-zone database."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name such as `Europe/Berlin`; raises `UnknownZone`."""
    # By the list, as other files lie in the database's folder, too: copies that count leap
    # seconds, and `localtime`, which is whatever this machine is set to.
    if name not in _zone_names():
        raise UnknownZone(name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    """The local calendar day of an instant."""
    return instant.astimezone(zone).date()


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC; where clocks skip midnight, the moment they do."""
    spans = spans_of(DateRange(day, day), zone)
    # A day that clocks skip as a whole starts and ends where they do.
    return spans[0].start if spans else datetime.combine(day, time(), zone).astimezone(UTC)


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first instant, in UTC, after which no instant belongs to a local day any more."""
    spans = spans_of(DateRange(day, day), zone)
    return spans[-1].end if spans else start_of_day(day, zone)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # ZoneInfo always knows
    return offset


def _change_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after `low` with another offset; `high` is known to have one."""
    before = _offset(low, zone)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=4096)
def _changes_in_year(zone: ZoneInfo, year: int) -> tuple[tuple[datetime, timedelta], ...]:
    """Instants in a UTC year at which the offset changes, each with the offset from then on.

    `zoneinfo` does not publish its transitions, so they are found by comparing the offsets
    a day apart and halving. Twelve hours are short enough: no zone in the database changes its
    clock and changes it back within them (the tests compare every zone with `zoneinfo`).
    """
    step = timedelta(hours=12)
    # The first and the last year are cut where `datetime` could not hold the local time.
    first = datetime(year, 1, 1, tzinfo=UTC) if year > 1 else datetime(1, 1, 3, tzinfo=UTC)
    end = (
        datetime(year + 1, 1, 1, tzinfo=UTC) if year < 9999 else datetime(9999, 12, 29, tzinfo=UTC)
    )
    changes: list[tuple[datetime, timedelta]] = []
    # One step into the past, so that a change at the very first instant of the year is seen.
    at, known = first - step, _offset(first - step, zone)
    while at < end:
        following = min(at + step, end)
        if (offset := _offset(following, zone)) != known:
            moment = _change_between(at, following, zone)
            if first <= moment < end:
                changes.append((moment, _offset(moment, zone)))
            known = offset
        at = following
    return tuple(changes)


def offsets_between(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Span]:
    """The stretch of UTC time cut where the zone's offset changes, oldest first."""
    at, offset = start, _offset(start, zone)
    for year in range(start.year, end.year + 1):
        for moment, following in _changes_in_year(zone, year):
            if at < moment < end:
                yield Span(at, moment, offset)
                at, offset = moment, following
            elif moment == at:
                offset = following
    if at < end:
        yield Span(at, end, offset)


def spans_of(days: DateRange, zone: ZoneInfo) -> tuple[Span, ...]:
    """Exactly the instants whose local date lies in the range, with their offsets.

    Not simply from one midnight to another: where clocks go back across midnight, the first
    minutes of a day come, then the last hour of the day before once more.
    """
    first = datetime.combine(days.start, time(), UTC)
    after_last = datetime.combine(days.end, time(), UTC) + DAY
    spans = []
    for span in offsets_between(first - DAY, after_last + DAY, zone):
        start = max(span.start, first - span.offset)
        end = min(span.end, after_last - span.offset)
        if start < end:
            spans.append(Span(start, end, span.offset))
    return tuple(spans)


def week_start(day: date, first_day: Weekday) -> date:
    """The first day of the week that holds `day`."""
    return day - timedelta(days=(day.weekday() - first_day.number) % 7)


def add_months(day: date, months: int) -> date:
    """The first of the month that is `months` after the month of `day`."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)


def period_start(day: date, interval: Interval, first_day: Weekday) -> date:
    """The first day of the period (day, week or month) that holds `day`."""
    if interval is Interval.WEEK:
        return week_start(day, first_day)
    if interval is Interval.MONTH:
        return day.replace(day=1)
    return day


def period_after(start: date, interval: Interval, count: int = 1) -> date:
    """The first day of the period that lies `count` periods after the one at `start`."""
    if interval is Interval.MONTH:
        return add_months(start, count)
    return start + timedelta(days=count * (7 if interval is Interval.WEEK else 1))


def periods_of(days: DateRange, interval: Interval, first_day: Weekday) -> list[date]:
    """The first days of all periods that touch the range, in order."""
    starts = []
    start = period_start(days.start, interval, first_day)
    while start <= days.end:
        starts.append(start)
        start = period_after(start, interval)
    return starts


def hours_of(days: DateRange, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Start and end, in UTC, of each clock hour of the range, in order.

    An hour begins where the local clock shows minute 0, or where the clock is changed: the
    hour that comes twice makes two entries, and a change by 30 minutes makes a short one.
    """
    hours = []
    for span in spans_of(days, zone):
        start = span.start
        while start < span.end:
            local = start + span.offset
            end = min(
                local.replace(minute=0, second=0, microsecond=0) + HOUR - span.offset, span.end
            )
            hours.append((start, end))
            start = end
    return hours
