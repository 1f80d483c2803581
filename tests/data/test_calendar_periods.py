"""Weeks, months, the ends of the calendar and the names of zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.calendar import (
    FIRST_DAY,
    LAST_DAY,
    DateRange,
    Interval,
    Span,
    UnknownZone,
    Weekday,
    add_months,
    hours_of,
    period_after,
    period_start,
    periods_of,
    spans_of,
    start_of_day,
    week_start,
    zone_of,
)
from tests.zones import NASTY, offset, zone_names

DAY = timedelta(days=1)

weekdays = st.sampled_from(list(Weekday))
long_intervals = st.sampled_from([Interval.DAY, Interval.WEEK, Interval.MONTH])
any_days = st.dates(FIRST_DAY, LAST_DAY)
modern_days = st.dates(date(1880, 1, 1), date(2100, 12, 31))
all_zones = st.sampled_from(zone_names()).map(ZoneInfo)


# Weeks and months


@given(any_days.filter(lambda day: day > FIRST_DAY + 3 * DAY), weekdays)
def test_a_week_starts_on_its_first_weekday(day: date, first_day: Weekday) -> None:
    start = week_start(day, first_day)

    assert start.strftime("%A").upper() == first_day
    assert start <= day < start + 7 * DAY


@given(any_days, st.integers(-30, 30))
def test_months_are_counted_one_after_another(day: date, months: int) -> None:
    expected = day.replace(day=1)
    if not 20 < expected.year < 9980:
        return
    for _ in range(abs(months)):
        expected = (expected + (31 if months > 0 else -1) * DAY).replace(day=1)

    assert add_months(day, months) == expected


def first_of_period(day: date, interval: Interval, first_day: Weekday) -> bool:
    if interval is Interval.WEEK:
        return day.strftime("%A").upper() == first_day
    return interval is Interval.DAY or day.day == 1


@given(modern_days, long_intervals, weekdays)
def test_a_period_starts_on_the_last_first_day_before(
    day: date, interval: Interval, first_day: Weekday
) -> None:
    start = period_start(day, interval, first_day)

    earlier = (day - n * DAY for n in range(31))
    assert start == next(at for at in earlier if first_of_period(at, interval, first_day))


@given(modern_days, long_intervals, weekdays, st.integers(-30, 30))
def test_periods_follow_one_another(
    day: date, interval: Interval, first_day: Weekday, count: int
) -> None:
    start = period_start(day, interval, first_day)
    after = period_after(start, interval, count)

    low, high = sorted([start, after])
    between = [low + n * DAY for n in range(1, (high - low).days + 1)]
    assert sum(first_of_period(at, interval, first_day) for at in between) == abs(count)
    assert first_of_period(after, interval, first_day)
    assert (after >= start) == (count >= 0)


@given(modern_days, st.integers(-2, 400), long_intervals, weekdays)
def test_periods_of_a_range_are_those_of_its_days(
    start: date, more: int, interval: Interval, first_day: Weekday
) -> None:
    days = DateRange(start, start + more * DAY)

    expected = sorted({period_start(day, interval, first_day) for day in days})

    # A reversed range may lie within one period; nobody asks for one.
    if more >= 0:
        assert periods_of(days, interval, first_day) == expected


def test_weekdays_are_numbered_as_python_does() -> None:
    sunday = date(2024, 2, 25)

    assert Weekday.SUNDAY.number == sunday.weekday()
    assert [day.number for day in Weekday] == list(range(7))


# The ends of the calendar


@pytest.mark.parametrize("day", [FIRST_DAY, LAST_DAY])
@given(zone=all_zones, interval=long_intervals, first_day=weekdays)
def test_the_calendar_works_up_to_its_ends(
    day: date, zone: ZoneInfo, interval: Interval, first_day: Weekday
) -> None:
    midnight = datetime.combine(day, time(), UTC)
    expected = midnight - offset(midnight, zone)

    assert start_of_day(day, zone) == expected
    assert spans_of(DateRange(day, day), zone) == (
        Span(expected, expected + DAY, offset(midnight, zone)),
    )
    assert len(hours_of(DateRange(day, day), zone)) in (24, 25)
    assert len(periods_of(DateRange(day, day), interval, first_day)) == 1


# Names of zones


@given(st.sampled_from(zone_names()))
def test_every_zone_of_the_database_is_known(name: str) -> None:
    assert zone_of(name).key == name


@pytest.mark.parametrize("name", NASTY)
def test_the_nasty_zones_are_in_the_database(name: str) -> None:
    assert zone_of(name).key in zone_names()


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "/",
        "/etc/localtime",
        "../zoneinfo/UTC",
        "Europe/../UTC",
        "Europe",
        "Europe/",
        "Europe/Berlin/",
        "Europe//Berlin",
        "Europe/Berlin\0",
        "Europe\\Berlin",
        "europe/Atlantis",
        "CEST",
        "+02:00",
        "zone.tab",
        "tzdata.zi",
        "leapseconds",
        "__init__.py",
        "\ud800",
        "E" * 10_000,
    ],
)
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownZone):
        zone_of(name)


@pytest.mark.parametrize(
    "name", ["right/Europe/Berlin", "posix/Europe/Berlin", "posixrules", "localtime"]
)
def test_files_beside_the_database_are_no_zones(name: str) -> None:
    # `right/` counts leap seconds and would shift clock changes by them; `localtime` is another
    # zone on every machine.
    with pytest.raises(UnknownZone):
        zone_of(name)


@given(st.text(max_size=20) | st.sampled_from(zone_names()).map(lambda name: name + "x"))
def test_a_name_is_known_or_refused(name: str) -> None:
    if name in zone_names():
        assert zone_of(name).key == name
    else:
        with pytest.raises(UnknownZone):
            zone_of(name)
