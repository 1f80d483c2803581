"""What the reports must say, in plain Python: sets, dicts and `astimezone`, slow and obvious.

Nothing of the product is used here but its value types. Every function takes all events there
are, of all sites, and one question.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from data.calendar import DateRange, Interval, Weekday
from data.events import StoredEvent
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    CohortRule,
    EventCountsQuery,
    EventCountsRows,
    EventFilter,
    EventRows,
    EventsQuery,
    NumberFilter,
    PeriodRule,
    PropertyFilter,
    RetentionQuery,
    RetentionRows,
    Scope,
    StringFilter,
    TopEventsQuery,
    TopEventsRow,
    TopEventsRows,
)

ONE_DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


# Who, when


def actor_of(event: StoredEvent) -> str | None:
    """The user, else the visitor, else nobody."""
    return event.user_id if event.user_id is not None else event.visitor_id


def day_of(event: StoredEvent, zone: ZoneInfo) -> date:
    """The day that the calendar on the wall showed."""
    return event.occurred_at.astimezone(zone).date()


@lru_cache(maxsize=65536)
def first_day_of_period(day: date, interval: Interval, week_start: Weekday) -> date:
    """Back from `day`, one day at a time, to the day on which its week or month begins."""
    while (interval is Interval.WEEK and day.strftime("%A").upper() != week_start) or (
        interval is Interval.MONTH and day.day != 1
    ):
        day -= ONE_DAY
    return day


def clock_hour(instant: datetime, zone: ZoneInfo) -> datetime:
    """The UTC instant at which the local clock hour of `instant` began.

    That is when the clock showed minute 0 or, if it was changed since, when it was changed.
    """
    local = instant.astimezone(zone)
    shown_zero = instant - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    return max(shown_zero, _last_change(shown_zero, instant, zone))


@lru_cache(maxsize=65536)
def _last_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The last instant after `low`, up to `high`, with a new offset; `low` if there is none."""
    if len({_offset(at, zone) for at in [*_steps(low, high, MINUTE), high]}) == 1:
        return low
    return max(
        at for at in _steps(low, high, SECOND) if _offset(at, zone) != _offset(at - SECOND, zone)
    )


def _steps(low: datetime, high: datetime, step: timedelta) -> list[datetime]:
    return [low + n * step for n in range((high - low) // step + 1)]


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


# Which


def holds(event: StoredEvent, condition: EventFilter) -> bool:
    """Whether an event passes a filter."""
    return (
        all(text_holds(getattr(event, name.value), text) for name, text in condition.fields)
        and all(_property_holds(event, wanted) for wanted in condition.properties)
        and all(holds(event, inner) for inner in condition.all_of)
        and (condition.any_of is None or any(holds(event, inner) for inner in condition.any_of))
        and (condition.negated is None or not holds(event, condition.negated))
    )


def text_holds(value: str | None, given: StringFilter) -> bool:
    """Whether a text, or None for a missing one, meets every condition that is given."""
    if given.is_set is not None and given.is_set != (value is not None):
        return False
    if value is None:
        positive = (
            given.eq,
            given.in_,
            given.contains,
            given.starts_with,
            given.ends_with,
            given.matches,
        )
        return all(wanted is None for wanted in positive)

    def fold(text: str) -> str:
        return text.lower() if given.ignore_case else text

    text = fold(value)
    return (
        (given.eq is None or text == fold(given.eq))
        and (given.ne is None or text != fold(given.ne))
        and (given.in_ is None or text in map(fold, given.in_))
        and (given.not_in is None or text not in map(fold, given.not_in))
        and (given.contains is None or fold(given.contains) in text)
        and (given.starts_with is None or text.startswith(fold(given.starts_with)))
        and (given.ends_with is None or text.endswith(fold(given.ends_with)))
        and (given.matches is None or _is_found(given.matches, value, given.ignore_case))
    )


def _is_found(pattern: str, text: str, ignore_case: bool) -> bool:
    # RE2's `$` is the end of the text; Python's also stands before a last line break.
    pattern = re.sub(r"(?<!\\)\$", r"\\Z", pattern)
    return re.search(pattern, text, re.IGNORECASE if ignore_case else 0) is not None


def number_holds(value: float | None, given: NumberFilter) -> bool:
    """Whether a number, or None for a missing one, meets every condition that is given."""
    if given.is_set is not None and given.is_set != (value is not None):
        return False
    if value is None:
        positive = (given.eq, given.gt, given.gte, given.lt, given.lte)
        return all(wanted is None for wanted in positive)
    return (
        (given.eq is None or value == given.eq)
        and (given.ne is None or value != given.ne)
        and (given.gt is None or value > given.gt)
        and (given.gte is None or value >= given.gte)
        and (given.lt is None or value < given.lt)
        and (given.lte is None or value <= given.lte)
    )


def _property_holds(event: StoredEvent, condition: PropertyFilter) -> bool:
    value = (event.properties or {}).get(condition.name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        (condition.string is None or text_holds(_text_of(value), condition.string))
        and (
            condition.number is None or number_holds(value if is_number else None, condition.number)
        )
        and (condition.boolean is None or value is condition.boolean)
    )


def _text_of(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def matching(events: Iterable[StoredEvent], scope: Scope) -> list[StoredEvent]:
    """The site's events that pass the filter, on whatever day."""
    return [e for e in events if e.site_id == scope.site_id and holds(e, scope.filter)]


def _is_in(day: date, days: DateRange) -> bool:
    return days.start <= day <= days.end


def in_range(events: Iterable[StoredEvent], scope: Scope) -> list[StoredEvent]:
    """The site's events that pass the filter, on the days of the range."""
    return [e for e in matching(events, scope) if _is_in(day_of(e, scope.zone), scope.days)]


# The reports


def active_users(events: Iterable[StoredEvent], query: ActiveUsersQuery) -> ActiveUsersRows:
    """Who was active when, counted."""
    scope = query.scope
    actors_by_day: dict[date, set[str]] = defaultdict(set)
    for event in matching(events, scope):
        if (actor := actor_of(event)) is not None:
            actors_by_day[day_of(event, scope.zone)].add(actor)
    actors: dict[date, set[str]] = defaultdict(set)
    everyone: set[str] = set()
    for day in _days(scope.days):
        everyone |= actors_by_day.get(day, set())
        if query.rolling is not None:
            for back in range(query.rolling):
                actors[day] |= actors_by_day.get(day - back * ONE_DAY, set())
        else:
            start = first_day_of_period(day, query.interval, query.week_start)
            actors[start] |= actors_by_day.get(day, set())
    users = {day: len(who) for day, who in actors.items() if who}
    return ActiveUsersRows(users, len(everyone))


def _days(days: DateRange) -> list[date]:
    return [days.start + n * ONE_DAY for n in range((days.end - days.start).days + 1)]


def top_events(events: Iterable[StoredEvent], query: TopEventsQuery) -> TopEventsRows:
    """Which event types came most often."""
    found = in_range(events, query.scope)
    counts = Counter(event.event_type for event in found)
    rows = [
        TopEventsRow(event_type, count, len(_actors(found, event_type)))
        for event_type, count in counts.items()
    ]
    rows.sort(key=lambda row: (-row.count, row.event_type))
    return TopEventsRows(tuple(rows[: query.limit]), len(found))


def _actors(events: Iterable[StoredEvent], event_type: str) -> set[str]:
    who = {actor_of(event) for event in events if event.event_type == event_type}
    return {actor for actor in who if actor is not None}


def event_counts(events: Iterable[StoredEvent], query: EventCountsQuery) -> EventCountsRows:
    """How many events came when."""
    found = in_range(events, query.scope)
    zone = query.scope.zone
    if query.interval is Interval.HOUR:
        counts = Counter[date](clock_hour(event.occurred_at, zone) for event in found)
    else:
        counts = Counter(
            first_day_of_period(day_of(event, zone), query.interval, query.week_start)
            for event in found
        )
    return EventCountsRows(dict(counts), len(found))


def period_number(day: date, query: RetentionQuery) -> int:
    """How many periods after the one of the range's first day; negative for those before it."""
    first = query.scope.days.start
    if query.period_rule is PeriodRule.RANGE_START:
        length = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 30}[query.interval]
        return (day - first).days // length
    if query.interval is Interval.MONTH:
        return (day.year - first.year) * 12 + day.month - first.month
    start = first_day_of_period(day, query.interval, query.week_start)
    zero = first_day_of_period(first, query.interval, query.week_start)
    return (start - zero).days // (7 if query.interval is Interval.WEEK else 1)


def retention(events: Iterable[StoredEvent], query: RetentionQuery) -> RetentionRows:
    """Who started in which period, and who of them was back in which period."""
    start_days, return_days = _starts_and_returns(matching(events, query.scope), query)
    cohorts: dict[int, set[str]] = defaultdict(set)
    for actor, days in start_days.items():
        counting = days[:1] if query.cohort is CohortRule.FIRST_EVER else days
        for day in counting:
            if _is_in(day, query.scope.days):
                cohorts[period_number(day, query)].add(actor)
    active_in = {
        actor: {period_number(day, query) for day in days} for actor, days in return_days.items()
    }
    returned = {}
    for i, cohort in cohorts.items():
        for k in range(query.periods + 1):
            back = [a for a in cohort if _is_back(active_in.get(a, set()), i + k, query)]
            if back:
                returned[i, k] = len(back)
    return RetentionRows({i: len(cohort) for i, cohort in cohorts.items()}, returned)


def _starts_and_returns(
    events: Sequence[StoredEvent], query: RetentionQuery
) -> tuple[dict[str, list[date]], dict[str, list[date]]]:
    """The days of each actor's starting and returning events, in the order of the events."""
    start_days: dict[str, list[date]] = defaultdict(list)
    return_days: dict[str, list[date]] = defaultdict(list)
    for event in sorted(events, key=lambda e: (e.occurred_at, e.arrival)):
        actor, day = actor_of(event), day_of(event, query.scope.zone)
        if actor is None:
            continue
        if query.start_events is None or event.event_type in query.start_events:
            start_days[actor].append(day)
        if query.return_events is None or event.event_type in query.return_events:
            return_days[actor].append(day)
    return start_days, return_days


def _is_back(periods: set[int], period: int, query: RetentionQuery) -> bool:
    return any(p >= period for p in periods) if query.unbounded else period in periods


def events_page(events: Iterable[StoredEvent], query: EventsQuery) -> EventRows:
    """Single events, newest first."""
    found = [
        event
        for event in events
        if event.site_id == query.site_id
        and holds(event, query.filter)
        and (query.days is None or _is_in(day_of(event, query.zone), query.days))
        and (query.actor is None or actor_of(event) == query.actor)
        and (
            query.after is None
            or (event.occurred_at, event.arrival) < (query.after.occurred_at, query.after.arrival)
        )
    ]
    found.sort(key=lambda event: (event.occurred_at, event.arrival), reverse=True)
    return tuple(found[: query.first])
