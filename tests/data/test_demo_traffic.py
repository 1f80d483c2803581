"""The demo site's traffic: repeatable to the byte, and shaped like a real shop's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from data.demo_traffic import DEMO_LAUNCH, DEMO_TIMEZONE, demo_events

DAY = timedelta(days=1)
BERLIN = ZoneInfo(DEMO_TIMEZONE)
# Thirty minutes past noon in Berlin, a year after the launch.
UNTIL = datetime(2026, 12, 1, 11, 30, tzinfo=UTC)
FIELDS = {
    *("event_id", "event_type", "occurred_at", "user_id", "visitor_id", "session_id"),
    *("url", "referrer", "properties"),
}
TYPES = {
    *("pageview", "signup", "login", "logout", "search", "add_to_cart", "purchase"),
    *("video_play", "error"),
}

Row = dict[str, Any]


def rows(**arguments: Any) -> list[Row]:
    defaults: Row = {"until": UNTIL, "scale": 0.1}
    return list(demo_events(**defaults | arguments))


def local_date(event: Row) -> date:
    moment: datetime = event["occurred_at"]
    return moment.astimezone(BERLIN).date()


def actor(event: Row) -> str | None:
    known: str | None = event.get("user_id") or event.get("visitor_id")
    return known


def per_day(events: Sequence[Row]) -> Counter[date]:
    return Counter(local_date(event) for event in events)


def mean(counts: Counter[date], first: date, days: int) -> float:
    return sum(counts[first + n * DAY] for n in range(days)) / days


@pytest.fixture(scope="module")
def year() -> list[Row]:
    return rows(scale=0.25)


def test_the_same_arguments_give_the_same_events() -> None:
    assert rows(days=40) == rows(days=40)


def test_another_process_with_another_hash_seed_gives_the_same_events() -> None:
    program = (
        "import datetime as d; from data.demo_traffic import demo_events; "
        "until = d.datetime(2026, 12, 1, tzinfo=d.UTC); "
        "print(list(demo_events(until=until, days=3, scale=0.1)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(printed) == 1
    assert "event_id" in printed.pop()


@pytest.mark.parametrize("other", [{"seed": 8}, {"scale": 0.11}, {"launch": date(2025, 12, 2)}])
def test_other_arguments_never_give_the_same_ids(other: Row) -> None:
    ids = {event["event_id"] for event in rows(days=5)}

    assert ids.isdisjoint(event["event_id"] for event in rows(days=5, **other))


def test_a_demo_started_on_a_later_day_only_carries_on() -> None:
    early, late = rows(days=60), rows(days=60, until=UNTIL + 33 * DAY)

    start = UNTIL - 27 * DAY
    common = [event for event in early if event["occurred_at"] >= start]
    assert common == late[: len(common)]
    assert all(event["occurred_at"] >= UNTIL for event in late[len(common) :])


def test_a_later_hour_of_the_same_day_adds_events_at_the_end_only() -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC)
    morning, evening = rows(until=until, days=2), rows(until=until + DAY / 2, days=2)

    kept = [event for event in morning if event["occurred_at"] >= until - 1.5 * DAY]
    assert kept == evening[: len(kept)]
    assert len(evening) > len(kept)


def test_a_longer_history_ends_with_the_shorter_one() -> None:
    short, long = rows(days=10), rows(days=100)

    assert long[-len(short) :] == short


def test_events_come_in_order_of_time_inside_the_range(year: list[Row]) -> None:
    times = [event["occurred_at"] for event in year]

    assert times == sorted(times)
    assert UNTIL - 365 * DAY <= times[0] < UNTIL - 364 * DAY
    assert times[-1] < UNTIL
    assert {time.tzinfo for time in times} == {UTC}


def test_today_has_traffic_up_to_now() -> None:
    (*_, last) = demo_events(until=UNTIL, days=1)

    occurred_at = last["occurred_at"]
    assert isinstance(occurred_at, datetime)
    assert UNTIL - timedelta(minutes=15) < occurred_at < UNTIL


def test_until_may_be_given_in_any_zone() -> None:
    assert rows(days=3, until=UNTIL.astimezone(BERLIN)) == rows(days=3)


def test_a_year_has_about_300_000_events_and_no_id_twice(year: list[Row]) -> None:
    ids = [str(event["event_id"]) for event in demo_events(until=UNTIL)]

    assert 250_000 <= len(ids) <= 400_000
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(event_id)) == event_id for event_id in ids[::97])
    assert 3.2 < len(ids) / len(year) < 4.8, "scale multiplies the traffic"


def test_a_year_is_not_held_in_memory() -> None:
    tracemalloc.start()
    try:
        count = sum(1 for _ in demo_events(until=UNTIL, scale=0.05))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count > 10_000
    assert peak < 50 * count  # an event that is held takes 700 bytes


def test_every_event_is_one_that_can_be_ingested(year: list[Row]) -> None:
    assert {event["event_type"] for event in year} == TYPES
    for event in year:
        assert FIELDS >= event.keys() >= {"event_id", "event_type", "occurred_at", "properties"}
        assert event["url"].startswith("https://demo.example/")
        assert len(json.dumps(event["properties"]).encode()) <= 200
        texts = (value for key, value in event.items() if key not in {"occurred_at", "properties"})
        assert all(isinstance(text, str) and 0 < len(text) <= 100 for text in texts)


def test_events_share_no_properties(year: list[Row]) -> None:
    assert len({id(event["properties"]) for event in year}) == len(year)


def test_users_visitors_and_a_few_unknown_are_among_them(year: list[Row]) -> None:
    kinds = Counter(
        "user" if "user_id" in event else "visitor" if "visitor_id" in event else "neither"
        for event in year
    )

    assert kinds["user"] > kinds["visitor"] > kinds["neither"] > 0
    assert kinds["neither"] < 0.02 * len(year)


def test_accounts_sign_up_once_and_before_anything_else_they_do(year: list[Row]) -> None:
    seen: dict[str, list[str]] = defaultdict(list)
    for event in year:
        if "user_id" in event:
            seen[event["user_id"]].append(event["event_type"])

    signed_up = [types for types in seen.values() if "signup" in types]
    assert len(signed_up) > 400
    assert all(types[0] == "signup" and types.count("signup") == 1 for types in signed_up)


def test_sessions_have_several_events_of_one_visit(year: list[Row]) -> None:
    sessions: dict[str, list[Row]] = defaultdict(list)
    for event in year:
        sessions[event["session_id"]].append(event)

    assert 3 < len(year) / len(sessions) < 6
    for events in sessions.values():
        assert len({local_date(event) for event in events}) == 1
        assert len({event.get("user_id") for event in events} - {None}) <= 1


def test_a_purchase_is_rare_and_follows_a_filled_cart(year: list[Row]) -> None:
    carts: Counter[str] = Counter()
    purchases = []
    for event in year:
        if event["event_type"] == "add_to_cart":
            carts[event["session_id"]] += 1
        elif event["event_type"] == "purchase":
            purchases.append(event)
            assert event["properties"]["items"] == carts[event["session_id"]] > 0
            assert event["properties"]["currency"] in {"EUR", "CHF", "GBP", "USD", "PLN"}
            amount = event["properties"]["amount"]
            assert 0 < amount == round(amount, 2)

    assert 0.003 < len(purchases) / len(year) < 0.02


def test_traffic_grows_to_about_two_and_a_half_times(year: list[Row]) -> None:
    counts = per_day(year)

    # Whole weeks at both ends, before the campaign of the last one.
    first, last = mean(counts, date(2025, 12, 2), 28), mean(counts, date(2026, 10, 27), 28)
    assert 1.9 < last / first < 3.2


def test_growth_follows_the_launch_that_is_named() -> None:
    launch = date(2031, 3, 1)
    until = datetime.combine(launch + 365 * DAY, datetime.min.time(), UTC)

    counts = per_day(rows(until=until, launch=launch, scale=0.2))

    assert 250_000 <= sum(counts.values()) / 0.2 <= 400_000
    assert 1.7 < mean(counts, launch + 330 * DAY, 28) / mean(counts, launch + DAY, 14) < 3.5
    assert launch != DEMO_LAUNCH


def test_weekends_are_quieter(year: list[Row]) -> None:
    counts = per_day(year)
    days = [date(2025, 12, 8) + n * DAY for n in range(350)]
    weekend = sum(counts[day] for day in days if day.weekday() >= 5) / 2
    working = sum(counts[day] for day in days if day.weekday() < 5) / 5

    assert 0.55 < weekend / working < 0.75


def test_the_day_has_its_peak_in_daytime_of_the_sites_zone(year: list[Row]) -> None:
    for months in ({12, 1, 2}, {6, 7, 8}):  # one hour apart in UTC
        local = [event["occurred_at"].astimezone(BERLIN) for event in year]
        hours = Counter(moment.hour for moment in local if moment.month in months)
        assert sum(hours[hour] for hour in range(8, 22)) > 0.8 * hours.total()
        assert sum(hours[hour] for hour in range(5)) < 0.03 * hours.total()
        assert hours[7] < 0.7 * hours[8] < 0.7 * hours[9] * 1.1


def test_a_campaign_is_a_spike_and_the_outage_a_dip(year: list[Row]) -> None:
    counts = per_day(year)

    campaign, week_before = mean(counts, date(2026, 11, 24), 4), mean(counts, date(2026, 11, 17), 4)
    assert campaign > 1.15 * week_before
    assert counts[date(2026, 9, 16)] < 0.4 * counts[date(2026, 9, 9)]


def weekly_retention(events: Sequence[Row], first_cohort: date, cohorts: int) -> list[float]:
    """Share of the newcomers of some weeks who are active k weeks later, for k from 0 to 8."""
    active: dict[str, set[int]] = defaultdict(set)
    for event in events:
        if (name := actor(event)) is not None:
            active[name].add((local_date(event) - first_cohort).days // 7)
    newcomers = [weeks for weeks in active.values() if 0 <= min(weeks) < cohorts]
    return [sum(min(weeks) + k in weeks for weeks in newcomers) / len(newcomers) for k in range(9)]


def test_weekly_retention_falls_fast_and_then_slowly(year: list[Row]) -> None:
    # Not the first weeks: there, old customers are seen for the first time.
    rates = weekly_retention(year, date(2026, 3, 2), 28)

    assert rates[0] == 1
    assert 0.25 < rates[1] < 0.45
    assert 0.08 < rates[8] < 0.22
    assert rates[1] > rates[2] > rates[4] > rates[8]
    assert rates[1] - rates[2] > rates[7] - rates[8]


def test_about_a_fifth_of_a_months_people_come_on_a_day(year: list[Row]) -> None:
    people: dict[date, set[str]] = defaultdict(set)
    for event in year:
        if (name := actor(event)) is not None:
            people[local_date(event)].add(name)
    month = [date(2026, 10, 1) + n * DAY for n in range(30)]

    daily = sum(len(people[day]) for day in month) / 30
    assert 0.12 < daily / len(set().union(*(people[day] for day in month))) < 0.28


def test_a_few_people_account_for_much_of_the_traffic(year: list[Row]) -> None:
    events = Counter(name for event in year if (name := actor(event)) is not None)
    top = sum(count for _, count in events.most_common(len(events) // 10))

    assert 0.4 < top / events.total() < 0.9


def test_clock_changes_neither_lose_order_nor_cross_days() -> None:
    for until in (datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)):
        times = [event["occurred_at"] for event in rows(until=until, days=3, scale=1.0)]
        assert times == sorted(times)
        assert len(times) > 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"until": datetime(2026, 12, 1)}, "time zone"),
        ({"until": UNTIL, "days": 0}, "positive"),
        ({"until": UNTIL, "scale": 0.0}, "positive"),
    ],
)
def test_arguments_without_sense_are_refused_at_once(arguments: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo_events(**arguments)
