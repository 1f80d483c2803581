"""The calendar against `zoneinfo`: every answer is found again by looking at single instants."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.calendar import (
    LAST_DAY,
    DateRange,
    Span,
    end_of_day,
    hours_of,
    local_day,
    offsets_between,
    spans_of,
    start_of_day,
)
from tests.oracle import clock_hour
from tests.strategies import draw_day, draw_zone, notable_instants
from tests.zones import (
    HOUR,
    MINUTE,
    SECOND,
    changes_in_year,
    listed_changes,
    offset,
    zone_names,
)

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
randoms = st.randoms(use_true_random=False)
all_zones = st.sampled_from(zone_names()).map(ZoneInfo)


@st.composite
def places(draw: st.DrawFn) -> tuple[ZoneInfo, date]:
    """A zone, and a day on which its clock may do something."""
    random: Random = draw(randoms)
    zone = draw_zone(random)
    return zone, draw_day(random, zone)


def one_day(day: date) -> DateRange:
    return DateRange(day, day)


def around(days: DateRange, step: timedelta) -> list[datetime]:
    """Instants, `step` apart, from before the first of some local days until after the last."""
    start = datetime.combine(days.start, time(), UTC) - 26 * HOUR
    end = datetime.combine(days.end, time(), UTC) + 50 * HOUR
    return [start + n * step for n in range((end - start) // step)]


# Days


@given(randoms)
def test_a_local_day_is_what_the_offset_makes_of_utc(random: Random) -> None:
    zone = draw_zone(random)
    instant = random.choice(notable_instants(zone, draw_day(random, zone)))

    assert local_day(instant, zone) == (instant + offset(instant, zone)).date()


@given(places())
@example((ZoneInfo("America/Toronto"), date(1919, 3, 31)))
@example((ZoneInfo("America/St_Johns"), date(2010, 11, 6)))
def test_a_day_lasts_from_its_first_to_its_last_instant(place: tuple[ZoneInfo, date]) -> None:
    zone, day = place
    minutes = [at for at in around(one_day(day), MINUTE) if local_day(at, zone) == day]
    if not minutes:
        return  # The day that an island skipped has no instants.
    seconds = [at + n * SECOND for at in (minutes[0] - MINUTE, minutes[-1]) for n in range(1, 61)]
    instants = [at for at in seconds if local_day(at, zone) == day]

    assert start_of_day(day, zone) == instants[0]
    assert end_of_day(day, zone) == instants[-1] + SECOND


def test_a_day_starts_late_where_clocks_skip_its_midnight() -> None:
    toronto, havana = ZoneInfo("America/Toronto"), ZoneInfo("America/Havana")

    assert start_of_day(date(1919, 3, 31), toronto) == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)
    assert start_of_day(date(2024, 3, 10), havana) == datetime(2024, 3, 10, 5, tzinfo=UTC)


def test_a_day_that_did_not_happen_starts_and_ends_when_the_next_one_starts() -> None:
    apia = ZoneInfo("Pacific/Apia")
    change = datetime(2011, 12, 30, 10, tzinfo=UTC)

    assert start_of_day(date(2011, 12, 30), apia) == change
    assert end_of_day(date(2011, 12, 30), apia) == change
    assert start_of_day(date(2011, 12, 31), apia) == change


def test_a_day_ends_after_the_hour_that_comes_again() -> None:
    st_johns = ZoneInfo("America/St_Johns")

    assert end_of_day(date(2010, 11, 6), st_johns) == datetime(2010, 11, 7, 3, 30, tzinfo=UTC)
    assert start_of_day(date(2010, 11, 7), st_johns) == datetime(2010, 11, 7, 2, 30, tzinfo=UTC)


def test_a_range_holds_both_of_its_ends() -> None:
    days = DateRange(date(2024, 2, 28), date(2024, 3, 1))

    assert list(days) == [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
    assert days.days == 3


# Pieces of the time line


def test_no_zone_changes_its_clock_twice_within_a_day() -> None:
    too_close = [
        (name, first)
        for name in zone_names()
        for (first, _), (second, _) in pairwise(listed_changes(name))
        if second - first <= DAY
    ]

    assert too_close == []


@given(st.sampled_from(zone_names()), st.data())
def test_every_change_that_a_zones_file_lists_is_found(name: str, data: st.DataObject) -> None:
    zone = ZoneInfo(name)
    changes = listed_changes(name)
    if not changes:
        return
    index = data.draw(st.integers(0, len(changes) - 1))
    moment, after = changes[index]
    before = offset(moment - SECOND, zone)

    found = list(offsets_between(moment - DAY, moment + DAY, zone))

    assert found == [Span(moment - DAY, moment, before), Span(moment, moment + DAY, after)]


@given(all_zones, st.integers(1850, 2150))
@example(ZoneInfo("Africa/Casablanca"), 2087)
@example(ZoneInfo("Europe/London"), LAST_DAY.year)
def test_offsets_change_where_clocks_do(zone: ZoneInfo, year: int) -> None:
    start, end = datetime(year, 1, 1, 5, tzinfo=UTC), datetime(year, 12, 31, 3, tzinfo=UTC)

    spans = list(offsets_between(start, end, zone))

    changes = [at for at in changes_in_year(zone, year) if start < at < end]
    assert [span.start for span in spans] == [start, *changes]
    assert [span.end for span in spans] == [*changes, end]
    assert all(span.offset == offset(span.start, zone) for span in spans)


@given(places(), st.integers(0, 40), st.data())
def test_spans_hold_exactly_the_instants_of_their_days(
    place: tuple[ZoneInfo, date], more: int, data: st.DataObject
) -> None:
    zone, first = place
    days = DateRange(first, first + more * DAY)
    spans = spans_of(days, zone)

    edges = [at for span in spans for at in (span.start, span.end)]
    instants = [
        *notable_instants(zone, days.start),
        *notable_instants(zone, days.end),
        *(edge + nudge for edge in edges for nudge in (-MICROSECOND, timedelta(), MICROSECOND)),
    ]
    for instant in instants:
        holding = [span for span in spans if span.start <= instant < span.end]
        if first <= local_day(instant, zone) <= days.end:
            assert [span.offset for span in holding] == [offset(instant, zone)]
        else:
            assert holding == []


@given(places())
def test_spans_of_a_day_hold_exactly_its_minutes(place: tuple[ZoneInfo, date]) -> None:
    zone, day = place
    spans = spans_of(one_day(day), zone)

    for at in around(one_day(day), MINUTE):
        assert any(s.start <= at < s.end for s in spans) == (local_day(at, zone) == day)


@given(places(), st.integers(0, 400))
def test_spans_are_in_order_and_do_not_meet_with_one_offset(
    place: tuple[ZoneInfo, date], more: int
) -> None:
    zone, first = place
    spans = spans_of(DateRange(first, first + more * DAY), zone)

    assert all(span.start < span.end for span in spans)
    for before, after in pairwise(spans):
        assert before.end <= after.start
        assert before.end < after.start or before.offset != after.offset


def test_the_day_that_an_island_skipped_is_empty() -> None:
    apia = ZoneInfo("Pacific/Apia")

    assert spans_of(one_day(date(2011, 12, 30)), apia) == ()
    assert hours_of(one_day(date(2011, 12, 30)), apia) == []
    assert len(hours_of(DateRange(date(2011, 12, 29), date(2011, 12, 31)), apia)) == 48


def test_the_first_minute_of_a_day_comes_before_the_last_hour_of_the_day_before() -> None:
    st_johns = ZoneInfo("America/St_Johns")
    ahead, behind = timedelta(hours=-2, minutes=-30), timedelta(hours=-3, minutes=-30)
    midnight = datetime(2010, 11, 7, 2, 30, tzinfo=UTC)

    assert spans_of(one_day(date(2010, 11, 7)), st_johns) == (
        Span(midnight, midnight + MINUTE, ahead),
        Span(midnight + HOUR, midnight + 25 * HOUR, behind),
    )
    assert spans_of(one_day(date(2010, 11, 6)), st_johns) == (
        Span(midnight - 24 * HOUR, midnight, ahead),
        Span(midnight + MINUTE, midnight + HOUR, behind),
    )


# Hours


def hours_by_looking(days: DateRange, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Clock hours, found by watching the clock: a new one whenever it shows another or jumps."""
    hours: list[tuple[datetime, datetime]] = []
    shown = None
    step = watching_step(days, zone)
    for at in around(days, step):
        local = at.astimezone(zone)
        now = (local.date(), local.hour, local.utcoffset())
        if not days.start <= local.date() <= days.end:
            shown = None
        elif now == shown:
            hours[-1] = (hours[-1][0], at + step)
        else:
            hours.append((at, at + step))
            shown = now
    return hours


def watching_step(days: DateRange, zone: ZoneInfo) -> timedelta:
    """A minute, if the clock is off by whole minutes on all of these days."""
    offsets = {offset(at, zone) for at in around(days, 6 * HOUR)}
    return SECOND if any(found % MINUTE for found in offsets) else MINUTE


@given(places(), st.sampled_from([0, 0, 0, 1, 2]))
@example((ZoneInfo("Europe/Amsterdam"), date(1937, 7, 1)), 0)
@example((ZoneInfo("Pacific/Kwajalein"), date(1969, 9, 30)), 0)
@example((ZoneInfo("Asia/Kathmandu"), date(1986, 1, 1)), 1)
@example((ZoneInfo("Australia/Lord_Howe"), date(2024, 10, 6)), 0)
def test_hours_are_those_that_the_clock_shows(place: tuple[ZoneInfo, date], more: int) -> None:
    zone, first = place
    days = DateRange(first, first + more * DAY)

    assert hours_of(days, zone) == hours_by_looking(days, zone)


@given(places())
def test_every_instant_lies_in_the_hour_that_the_oracle_says(
    place: tuple[ZoneInfo, date],
) -> None:
    zone, day = place
    hours = hours_of(one_day(day), zone)

    for instant in notable_instants(zone, day):
        if local_day(instant, zone) == day:
            (start,) = [start for start, end in hours if start <= instant < end]
            assert start == clock_hour(instant, zone)


@given(places(), st.integers(0, 400))
def test_hours_tile_the_spans_of_their_days(place: tuple[ZoneInfo, date], more: int) -> None:
    zone, first = place
    days = DateRange(first, first + more * DAY)

    hours = hours_of(days, zone)

    joined: list[tuple[datetime, datetime]] = []
    for start, end in hours:
        assert start < end <= start + HOUR
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    pieces: list[tuple[datetime, datetime]] = []
    for span in spans_of(days, zone):
        if pieces and pieces[-1][1] == span.start:
            pieces[-1] = (pieces[-1][0], span.end)
        else:
            pieces.append((span.start, span.end))
    assert joined == pieces


@pytest.mark.parametrize(
    ("zone", "day", "lengths"),
    [
        ("UTC", date(2024, 2, 29), [60] * 24),
        ("Europe/Berlin", date(2024, 3, 31), [60] * 23),
        ("Europe/Berlin", date(2024, 10, 27), [60] * 25),
        ("Australia/Lord_Howe", date(2024, 10, 6), [60, 60, 30, *[60] * 21]),
        ("Australia/Lord_Howe", date(2024, 4, 7), [60, 60, 30, *[60] * 22]),
        ("America/St_Johns", date(2010, 11, 7), [1, *[60] * 24]),
        ("America/St_Johns", date(2010, 11, 6), [*[60] * 24, 59]),
        ("Asia/Kathmandu", date(1986, 1, 1), [45, *[60] * 23]),
    ],
)
def test_hours_are_short_or_twice_where_clocks_change(
    zone: str, day: date, lengths: list[int]
) -> None:
    hours = hours_of(one_day(day), ZoneInfo(zone))

    assert [(end - start) / MINUTE for start, end in hours] == lengths
