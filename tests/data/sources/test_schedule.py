"""When sources are due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.schedules import InvalidCron, cron_of
from data.sources.schedule import next_due
from data.sources.source import Source

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def source(key: str = "prices", **more: object) -> Source:
    return Source(**{"key": key, "url": "http://a.example", **more})  # type: ignore[arg-type]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@given(seconds=st.integers(1, 2_678_400), after=MOMENTS, key=st.text(max_size=20))
def test_an_interval_source_is_due_once_in_each_interval(
    seconds: int, after: datetime, key: str
) -> None:
    wanted = source(key, refresh_seconds=seconds)

    first = next_due(wanted, after)
    second = next_due(wanted, first)

    assert timedelta() < first - after <= timedelta(seconds=seconds)
    assert second - first == timedelta(seconds=seconds)
    assert first.tzinfo is UTC


def test_sources_of_one_interval_are_spread_over_it() -> None:
    due = sorted(next_due(source(f"s{n}", refresh_seconds=60), NOON) for n in range(600))

    seconds = [(moment - NOON).total_seconds() for moment in due]
    assert min(seconds) < 3
    assert max(seconds) > 57
    assert max(later - earlier for earlier, later in pairwise(seconds)) < 3


def test_a_source_keeps_its_phase() -> None:
    assert next_due(source(), NOON) == next_due(source(), NOON + timedelta(microseconds=1))
    assert next_due(source("a"), NOON) != next_due(source("b"), NOON)


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "due"),
    [
        ("30 6 * * *", "UTC", "2026-11-22T12:00Z", "2026-11-23T06:30Z"),
        ("30 6 * * *", "Europe/Berlin", "2026-11-22T12:00Z", "2026-11-23T05:30Z"),
        ("30 6 * * *", "Europe/Berlin", "2026-07-22T12:00Z", "2026-07-23T04:30Z"),
        ("*/15 * * * *", "Asia/Kolkata", "2026-11-22T12:00Z", "2026-11-22T12:15Z"),
        ("0 * * * mon-fri", "UTC", "2026-11-22T12:00Z", "2026-11-23T00:00Z"),
        ("0 0 29 2 *", "UTC", "2026-11-22T12:00Z", "2028-02-29T00:00Z"),
        # What falls into the hour that is left out comes at its end, once.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00Z", "2026-03-30T00:30Z"),
        # And in the hour that comes twice, the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", "2026-10-25T00:30Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-26T01:30Z"),
        ("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", "2026-10-26T01:45Z"),
        # On each of its minutes, though, also the second time.
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T01:00Z"),
    ],
)
def test_a_cron_is_followed_in_its_zone(cron: str, timezone: str, after: str, due: str) -> None:
    found = next_due(source(cron=cron, timezone=timezone), at(after))

    assert found == at(due)
    assert found.tzinfo is UTC


@given(after=MOMENTS, minute=st.integers(0, 59), hour=st.integers(0, 23))
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_daily_cron_comes_once_a_day_and_always_later(
    zone: str, after: datetime, minute: int, hour: int
) -> None:
    wanted = source(cron=f"{minute} {hour} * * *", timezone=zone)

    first = next_due(wanted, after)
    second = next_due(wanted, first)

    assert after < first < second
    assert timedelta(hours=22) < second - first < timedelta(hours=26)


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("", "UTC", "five fields"),
        ("* * * *", "UTC", "five fields"),
        ("* * * * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("61 * * * *", "UTC", "bad minute"),
        ("* 24 * * *", "UTC", "bad hour"),
        ("* * 0 * *", "UTC", "bad day-of-month"),
        ("* * * 13 *", "UTC", "bad month"),
        ("* * * * 9", "UTC", "bad day-of-week"),
        ("*/0 * * * *", "UTC", "bad minute"),
        ("a b c d e", "UTC", "bad minute"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 31 4,6,9,11 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Mars/Olympus", "'Mars/Olympus' is not a time zone"),
    ],
)
def test_what_is_no_cron_is_refused(cron: str, timezone: str, message: str) -> None:
    with pytest.raises(InvalidCron, match=message):
        cron_of(cron, timezone)
