"""Random events and questions, placed where calendars, clocks and texts go wrong.

Everything is drawn from small pools, so that things meet: equal instants, actors of several
events, filters that hold for some of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from data.calendar import DateRange, Interval, Weekday
from data.events import Event, StoredEvent
from data.queries import (
    EVERYTHING,
    ActiveUsersQuery,
    CohortRule,
    EventCountsQuery,
    EventFilter,
    EventsQuery,
    PeriodRule,
    Place,
    RetentionQuery,
    Scope,
    TopEventsQuery,
)
from tests.filter_strategies import FEW, Words, coin, draw_filter, draw_words, pick_some
from tests.oracle import holds
from tests.slices import Batch, stored
from tests.zones import NASTY, ODD, changes_in_year, zone_names

SITES = ("left", "right")
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)

COMMON_YEARS = (1969, 1970, 1999, 2000, 2004, 2015, 2020, 2023, 2024, 2025)
ANCIENT = datetime(3, 2, 1, 12, tzinfo=UTC)
# Local times of day; the odd ones lie in hours that many zones skip or repeat.
TIMES = (
    time(),
    time(0, 0, 0, 1),
    time(0, 0, 30),
    time(0, 1),
    time(0, 30),
    time(1),
    time(1, 30),
    time(2, 0),
    time(2, 15),
    time(2, 30),
    time(2, 59, 59, 999_999),
    time(3),
    time(12),
    time(23),
    time(23, 30),
    time(23, 59, 59, 999_999),
)
LONG_INTERVALS = (Interval.DAY, Interval.WEEK, Interval.MONTH)
WEEKDAYS = tuple(Weekday)
LENGTHS = (1, 2, 1, 3, 7, 8, 30, 31, 40, 70)
# How far other days lie from the one that everything is about.
DISTANCES = (0, 0, 0, 1, -1, 2, 6, -6, 7, -7, 8, -8, 14, 27, -29, 30, -30, 31, 59, -366)

Query = TypeVar("Query")

_NUMBERS = (*range(24), *range(100, 112))


# When


def draw_zone(random: Random) -> ZoneInfo:
    """A zone: two times out of three one that breaks rules, else one of all there are."""
    return ZoneInfo(random.choice(random.choice((ODD, sorted(NASTY), zone_names()))))


@lru_cache(maxsize=1024)
def notable_days(zone: ZoneInfo, year: int) -> tuple[date, ...]:
    """Days of a year around which a report may go wrong: clock changes first, ends, leap days."""
    changes = [
        change.astimezone(zone).date() + n * DAY
        for change in changes_in_year(zone, year)
        for n in (0, -1, 1)
    ]
    ends = [date(year, *month_day) for month_day in ((1, 1), (12, 31), (2, 28), (3, 1), (9, 30))]
    mondays = [date(year, 6, 5) - timedelta(days=date(year, 6, 5).weekday())]
    leap = [date(year, 2, 29)] if year % 4 == 0 and (year % 100 or year % 400 == 0) else []
    return (*changes, *changes, *leap, *ends, *mondays)


def draw_day(random: Random, zone: ZoneInfo) -> date:
    """A day that is special in this zone."""
    years = NASTY.get(zone.key, ()) if coin(random) else ()
    return random.choice(notable_days(zone, random.choice(years or COMMON_YEARS)))


@lru_cache(maxsize=4096)
def notable_instants(zone: ZoneInfo, day: date) -> tuple[datetime, ...]:
    """Instants of a local day, and those around every change of the clock near it."""
    shown = [
        datetime.combine(day, at, zone).replace(fold=fold).astimezone(UTC)
        for at in TIMES
        for fold in (0, 1)
    ]
    near = [
        change + distance
        for change in changes_in_year(zone, day.year)
        if abs(change - shown[0]) < 2 * DAY
        for distance in (
            timedelta(),
            -MICROSECOND,
            MICROSECOND,
            timedelta(seconds=-30),
            timedelta(minutes=10),
            timedelta(minutes=-40),
            timedelta(minutes=50),
        )
    ]
    return (*near, *near, *dict.fromkeys(shown))


# What


@dataclass(frozen=True, slots=True)
class Scene:
    """Events in the order in which they arrive, and where to ask about them.

    `slices` hold batches with positions from 1, as the follower brings them; `events` are the
    same events as they must be read back. `days` are those on which something happened, `zone`
    is theirs, `words` is what the events are made of.
    """

    zone: ZoneInfo
    days: tuple[date, ...]
    words: Words
    slices: tuple[tuple[Batch, ...], ...]
    events: tuple[StoredEvent, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    """What an event may say besides who did what and when."""

    session_id: str | None
    url: str | None
    path: str | None
    referrer: str | None
    properties: dict[str, Any] | None
    json: str | None


# The ledger keeps JSON as it was sent: spaced or not, escaped or not.
_WRITTEN = (((",", ":"), False), ((", ", ": "), False), ((",", ":"), True), ((", ", ": "), True))


def _draw_page(random: Random, words: Words) -> _Page:
    texts = (None, *words.texts)
    properties, text = None, None
    if random.choice((True, True, False)):
        names = pick_some(random, words.names, FEW)
        properties = {name: random.choice(words.values) for name in names}
        separators, escaped = random.choice(_WRITTEN)
        text = json.dumps(properties, separators=separators, ensure_ascii=escaped)
    session_id, url, path, referrer = (random.choice(texts) for _ in range(4))
    return _Page(session_id, url, path, referrer, properties, text)


def _draw_event(
    random: Random, words: Words, number: int, instants: Sequence[datetime], page: _Page
) -> Event:
    occurred_at = random.choice(instants)
    actors = (None, *words.actors)
    return Event(
        event_id=UUID(int=number % 100),
        site_id=SITES[number // 100],
        event_type=random.choice(words.types),
        occurred_at=occurred_at,
        received_at=occurred_at + number * timedelta(seconds=1.000001),
        user_id=random.choice(actors),
        visitor_id=random.choice(actors),
        session_id=page.session_id,
        url=page.url,
        path=page.path,
        referrer=page.referrer,
        properties=page.json,
    )


def draw_scene(random: Random) -> Scene:
    """Events of two sites, around one day of one zone, in several slices."""
    zone = draw_zone(random)
    center = draw_day(random, zone)
    distances = (0, *pick_some(random, DISTANCES, (0, 1, 2, 3, 4, 5)))
    days = tuple(center + distance * DAY for distance in distances)
    instants = tuple(instant for day in days for instant in notable_instants(zone, day))
    if random.randrange(10) == 9:
        instants += (ANCIENT,) * 5
    words = draw_words(random)
    pages = [_draw_page(random, words) for _ in range(random.choice((1, 3, 4, 5, 6)))]
    had = [pair for page in pages for pair in (page.properties or {}).items()]
    words = replace(words, properties=tuple(had))
    # Two thirds of the numbers are the first site's; the sites share the ids.
    left = list(_NUMBERS)
    numbers = [
        left.pop(random.randrange(len(left)))
        for _ in range(random.choice((1, 3, 8, 15, 20, 25, 30)))
    ]
    arriving = [
        _draw_event(random, words, number, instants, random.choice(pages)) for number in numbers
    ]
    slices = _draw_slices(random, arriving)
    events = tuple(stored(batch for piece in slices for batch in piece))
    return Scene(zone, days, words, slices, events)


def _draw_slices(random: Random, arriving: Sequence[Event]) -> tuple[tuple[Batch, ...], ...]:
    """The events cut into batches, with gaps between their positions, and these into slices."""
    slices: list[list[Batch]] = [[]]
    position = 0
    while arriving:
        size = random.choice(range(1, len(arriving) + 1))
        position += random.choice((1, 2, 3))
        is_cut = random.choice((False, False, True))
        if slices[-1] and is_cut:
            slices.append([])
        slices[-1].append(Batch(position, arriving[:size]))
        arriving = arriving[size:]
    return tuple(tuple(piece) for piece in slices)


# Questions


def draw_range(random: Random, scene: Scene) -> DateRange:
    """From one of the days on which something happened to another, or some days around one."""
    day = random.choice((scene.days[0], *scene.days))
    if coin(random):
        other = random.choice(scene.days)
        return DateRange(min(day, other), max(day, other))
    day += random.choice((0, 0, 0, 1, -1, 8)) * DAY
    length = (random.choice(LENGTHS) - 1) * DAY
    return DateRange(day - length, day) if coin(random) else DateRange(day, day + length)


def _draw_condition(random: Random, scene: Scene) -> EventFilter:
    """Everything often, else one of several filters: the first that some of the events pass."""
    if random.choice((0, 0, 1)):
        return EVERYTHING
    condition = EVERYTHING
    for _ in range(4):
        condition = draw_filter(random, scene.words)
        if len({holds(event, condition) for event in scene.events}) > 1:
            break
    return condition


def draw_scope(random: Random, scene: Scene) -> Scope:
    """Mostly the first site, mostly in the zone in which its days are special."""
    site = random.choice([*[SITES[0]] * 6, SITES[1], "nowhere"])
    zone = draw_zone(random) if random.choice((0, 0, 0, 1)) else scene.zone
    return Scope(site, draw_range(random, scene), zone, _draw_condition(random, scene))


def draw_active_users(random: Random, scene: Scene) -> ActiveUsersQuery:
    """Per day, week or month, or rolling."""
    scope = draw_scope(random, scene)
    if coin(random):
        return ActiveUsersQuery(scope, rolling=random.choice((1, 2, 7, 8, 28, 29, 30, 60)))
    return ActiveUsersQuery(scope, random.choice(LONG_INTERVALS), random.choice(WEEKDAYS))


def draw_top_events(random: Random, scene: Scene) -> TopEventsQuery:
    """Some or all of the event types."""
    return TopEventsQuery(draw_scope(random, scene), random.choice((1, 2, 3, 10)))


def draw_event_counts(random: Random, scene: Scene) -> EventCountsQuery:
    """Per hour most often."""
    interval = random.choice((*LONG_INTERVALS, Interval.HOUR, Interval.HOUR, Interval.HOUR))
    return EventCountsQuery(draw_scope(random, scene), interval, random.choice(WEEKDAYS))


def _draw_types(random: Random, scene: Scene) -> tuple[str, ...] | None:
    return pick_some(random, scene.words.types, FEW) if coin(random) else None


def draw_retention(random: Random, scene: Scene) -> RetentionQuery:
    """All options; filters less often than elsewhere, as they leave little to come back."""
    scope = draw_scope(random, scene)
    if coin(random):
        scope = replace(scope, filter=EVERYTHING)
    start_events, return_events = _draw_types(random, scene), _draw_types(random, scene)
    if start_events and random.choice((False, False, True)):
        return_events = tuple(one for one in scene.words.types if one not in start_events)
    return RetentionQuery(
        scope,
        random.choice(LONG_INTERVALS),
        random.choice(WEEKDAYS),
        random.choice(range(10)),
        random.choice(list(CohortRule)),
        random.choice(list(PeriodRule)),
        coin(random),
        start_events,
        return_events,
    )


def draw_events(random: Random, scene: Scene) -> EventsQuery:
    """A page of events, from the start or from behind one of them."""
    scope = draw_scope(random, scene)
    places = [None, *(Place(event.occurred_at, event.arrival) for event in scene.events)]
    return EventsQuery(
        scope.site_id,
        scope.zone,
        scope.days if coin(random) else None,
        scope.filter,
        random.choice((None, None, None, None, *scene.words.actors)),
        random.choice((50, 1, 2, 3, 5)),
        random.choice(places) if coin(random) else None,
    )


def draw_filtered_events(random: Random, scene: Scene) -> EventsQuery:
    """All events that pass a filter, whenever they happened."""
    condition = draw_filter(random, scene.words)
    return EventsQuery(SITES[0], scene.zone, filter=condition, first=100)


Tells = Callable[[Sequence[StoredEvent], Query], bool]


def _draw_telling(
    random: Random, scene: Scene, draw_query: Callable[[Random, Scene], Query], tells: Tells[Query]
) -> Query:
    """A question with an answer that could be wrong, if it takes no more than a few attempts."""
    query = draw_query(random, scene)
    for _ in range(3):
        if tells(scene.events, query):
            break
        query = draw_query(random, scene)
    return query


@st.composite
def cases(
    draw: st.DrawFn,
    draw_query: Callable[[Random, Scene], Query],
    tells: Tells[Query],
    most: int = 4,
) -> tuple[Scene, list[Query]]:
    """Events, and one to `most` questions about them, asked at once.

    Drawn through a `Random` that Hypothesis steers and shrinks: several times as fast as a tree
    of strategies, and no two examples in a row are nearly the same.
    """
    random = draw(st.randoms(use_true_random=False))
    scene = draw_scene(random)
    number = random.randint(1, most)
    return scene, [_draw_telling(random, scene, draw_query, tells) for _ in range(number)]


@st.composite
def mixed_cases(
    draw: st.DrawFn,
) -> tuple[Scene, ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery]:
    """Events, and a question for each report that counts."""
    random = draw(st.randoms(use_true_random=False))
    scene = draw_scene(random)
    return (
        scene,
        draw_active_users(random, scene),
        draw_top_events(random, scene),
        draw_event_counts(random, scene),
        draw_retention(random, scene),
    )
