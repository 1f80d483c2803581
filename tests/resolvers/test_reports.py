"""Which periods of a report had ended."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from data.calendar import (
    DateRange,
    Interval,
    Weekday,
    end_of_day,
    period_after,
    periods_of,
    zone_of,
)
from resolvers.reports import ended_periods

# Clocks that skip a day, go back over midnight, skip midnight, and are off by odd amounts.
ZONES = ["UTC", "Pacific/Apia", "America/Havana", "America/Sao_Paulo", "Asia/Kathmandu"]


@given(
    first=st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    length=st.integers(1, 60),
    interval=st.sampled_from([Interval.DAY, Interval.WEEK, Interval.MONTH]),
    zone=st.sampled_from(ZONES),
    hours=st.integers(-48, 24 * 70),
)
@example(first=date(2011, 12, 28), length=5, interval=Interval.DAY, zone="Pacific/Apia", hours=58)
def test_the_first_periods_have_ended_and_those_after_them_have_not(
    first: date, length: int, interval: Interval, zone: str, hours: int
) -> None:
    clock = zone_of(zone)
    days = DateRange(first, first + timedelta(days=length - 1))
    starts = periods_of(days, interval, Weekday.MONDAY)
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(hours=hours)

    ended = ended_periods(starts, interval, clock, moment)

    lasts = [period_after(start, interval) - timedelta(days=1) for start in starts]
    assert [number < ended for number in range(len(starts))] == [
        end_of_day(last, clock) <= moment for last in lasts
    ]
