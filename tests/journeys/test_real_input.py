"""Three real data sets, imported by the command and asked for over GraphQL: every number is equal.

The reference answers were computed by plain Python; where a range is longer than one question may
be, it is asked in pieces.
"""

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.service import Service, footfall, running

SITES = ("datasette", "polar", "procrastinate", "strawberry", "umami")
LONGEST = 1_100

USERS = """
query ($site: ID!, $from: Date!, $to: Date!, $interval: Interval!, $rolling: Int, $zone: String,
       $filter: EventFilter) {
  activeUsers(siteId: $site, range: {from: $from, to: $to}, interval: $interval,
              rolling: $rolling, timezone: $zone, filter: $filter) {
    total points { date users complete } meta { exact timezone }
  }
}
"""
COUNTS = """
query ($site: ID!, $from: Date!, $to: Date!, $interval: Interval!, $filter: EventFilter) {
  eventCounts(siteId: $site, range: {from: $from, to: $to}, interval: $interval, filter: $filter) {
    total points { at count }
  }
}
"""
TOP = """
query ($site: ID!, $from: Date!, $to: Date!, $limit: Int!) {
  topEvents(siteId: $site, range: {from: $from, to: $to}, limit: $limit) {
    total events { eventType count users }
  }
}
"""
RETENTION = """
query ($site: ID!, $from: Date!, $to: Date!, $interval: Interval!, $periods: Int!) {
  retention(siteId: $site, range: {from: $from, to: $to}, interval: $interval, periods: $periods) {
    cohorts { start size periods { period users } }
  }
}
"""
SAVE_WEEK = "mutation ($input: SiteInput!) { saveSite(input: $input) { weekStart } }"


def expected(shared_data: Path, name: str) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((shared_data / f"{name}.expected.json").read_text())
    return answers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service into which everything was imported twice; the second time brought nothing."""
    home = tmp_path_factory.mktemp("real")
    together = home / "oss.jsonl"
    commits = shared_data / "oss_commits.events.jsonl.gz"
    with gzip.open(commits, "rt") as lines, together.open("w") as target:
        for line in lines:
            event = json.loads(line)
            del event["site_id"]
            target.write(json.dumps(event) + "\n")
    files = {
        "cdnow": shared_data / "cdnow.csv.gz",
        "apache": shared_data / "apache.events.jsonl.gz",
        "oss": together,
        **dict.fromkeys(SITES, commits),
    }
    async with running(home) as started:
        for site, file in files.items():
            await footfall(home, "sites", "create", site)
            first = json.loads(await footfall(home, "import", str(file), "--site", site, "--json"))
            again = json.loads(await footfall(home, "import", str(file), "--site", site, "--json"))
            assert (first["duplicates"], first["rejected"]) == (0, 0)
            assert (again["accepted"], again["duplicates"]) == (0, first["accepted"])
        same = shared_data / "cdnow.events.jsonl.gz"
        other_form = json.loads(
            await footfall(home, "import", str(same), "--site", "cdnow", "--json")
        )
        assert (other_form["accepted"], other_form["duplicates"]) == (0, 69_659)
        answer = await started.data(
            '{ system { status } dau(siteId: "cdnow", range: {from: "2026-01-01", to: "2026-01-01"}) { meta { computedAt } } }'
        )
        await started.until_followed(answer["dau"]["meta"]["computedAt"])
        yield started


def pieces(first: date, last: date, days: int = LONGEST) -> Iterator[tuple[str, str]]:
    """The range cut into questions that may be asked."""
    while first <= last:
        end = min(first + timedelta(days=days - 1), last)
        yield first.isoformat(), end.isoformat()
        first = end + timedelta(days=1)


def span(answers: dict[str, Any]) -> tuple[date, date]:
    return (
        date.fromisoformat(answers["first_event"][:10]),
        date.fromisoformat(answers["last_event"][:10]),
    )


async def users_by_date(
    service: Service, site: str, first: date, last: date, days: int = LONGEST, **more: object
) -> dict[str, int]:
    found: dict[str, int] = {}
    for start, end in pieces(first, last, days):
        variables = {"site": site, "from": start, "to": end, "interval": "DAY", **more}
        report = (await service.data(USERS, variables))["activeUsers"]
        assert report["meta"]["exact"]
        assert all(point["complete"] for point in report["points"])
        found |= {point["date"]: point["users"] for point in report["points"]}
    return found


def without_zeros(numbers: dict[str, int]) -> dict[str, int]:
    return {key: number for key, number in numbers.items() if number}


async def require_calendar_users(service: Service, site: str, answers: dict[str, Any]) -> None:
    first, last = span(answers)
    months = (
        await users_by_date(
            service, site, first.replace(day=1), last, days=31 * 400, interval="MONTH"
        )
        if (last - first).days < LONGEST
        else await monthly(service, site, first, last)
    )
    assert without_zeros(answers["mau_calendar"]) == {
        month[:7]: users for month, users in months.items() if users
    }


async def monthly(service: Service, site: str, first: date, last: date) -> dict[str, int]:
    """Months asked year by year, so that no month is cut."""
    found: dict[str, int] = {}
    for year in range(first.year, last.year + 1):
        found |= (
            await users_by_date(
                service, site, date(year, 1, 1), date(year, 12, 31), interval="MONTH"
            )
            if year < last.year
            else await users_by_date(service, site, date(year, 1, 1), last, interval="MONTH")
        )
    return found


async def require_weeks(service: Service, site: str, answers: dict[str, Any], key: str) -> None:
    first, last = span(answers)
    # Pieces of whole weeks, however a week begins.
    start = first - timedelta(days=(first.weekday() - (6 if key.endswith("sunday") else 0)) % 7)
    found = await users_by_date(service, site, start, last, days=7 * 150, interval="WEEK")
    assert without_zeros(found) == without_zeros(answers[key])


async def require_retention(
    service: Service, site: str, answers: dict[str, Any], key: str, interval: str
) -> None:
    cohorts: dict[str, list[int]] = answers[key]
    starts = [date.fromisoformat(start) for start in cohorts]
    most = max(len(cells) for cells in cohorts.values())
    found: dict[str, list[int]] = {}
    for begin in range(0, len(starts), 30):
        piece = starts[begin : begin + 30]
        end = (
            starts[begin + 30] - timedelta(days=1) if begin + 30 < len(starts) else span(answers)[1]
        )
        variables = {
            "site": site,
            "from": piece[0].isoformat(),
            "to": end.isoformat(),
            "interval": interval,
            "periods": most,
        }
        report = (await service.data(RETENTION, variables))["retention"]
        for cohort in report["cohorts"]:
            found[cohort["start"]] = [period["users"] for period in cohort["periods"]]
            assert cohort["size"] == cohort["periods"][0]["users"]
    assert list(found) == [start.isoformat() for start in starts]
    for start, cells in cohorts.items():
        assert found[start][: len(cells)] == cells, start
        assert not any(found[start][len(cells) :])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["cdnow", "apache", "oss_commits"])
class TestEverySet:
    async def test_active_users(self, service: Service, shared_data: Path, name: str) -> None:
        answers, site = expected(shared_data, name), name.removesuffix("_commits")
        first, last = span(answers)

        assert await users_by_date(service, site, first, last) == answers["dau"]
        for key, days in (("wau_trailing", 7), ("mau_trailing", 30)):
            found = await users_by_date(service, site, first, last, rolling=days)
            assert {day: found[day] for day in answers[key]} == answers[key]
        await require_weeks(service, site, answers, "wau_calendar")
        await require_calendar_users(service, site, answers)

    async def test_counts(self, service: Service, shared_data: Path, name: str) -> None:
        answers, site = expected(shared_data, name), name.removesuffix("_commits")
        first, last = span(answers)
        months: dict[str, int] = {}
        total = 0
        for year in range(first.year, last.year + 1):
            variables = {
                "site": site, "from": f"{year}-01-01", "to": f"{year}-12-31", "interval": "MONTH"
            }  # fmt: skip
            report = (await service.data(COUNTS, variables))["eventCounts"]
            months |= {point["at"][:7]: point["count"] for point in report["points"]}
            assert sum(point["count"] for point in report["points"]) == report["total"]
            total += report["total"]
        assert total == answers["events"]
        assert without_zeros(months) == without_zeros(answers["events_per_month"])

    async def test_retention(self, service: Service, shared_data: Path, name: str) -> None:
        answers, site = expected(shared_data, name), name.removesuffix("_commits")

        await require_retention(service, site, answers, "retention_weekly", "WEEK")
        await require_retention(service, site, answers, "retention_monthly", "MONTH")

    async def test_weeks_that_begin_on_sunday(
        self, service: Service, shared_data: Path, name: str
    ) -> None:
        answers, site = expected(shared_data, name), name.removesuffix("_commits")
        await service.data(SAVE_WEEK, {"input": {"id": site, "weekStart": "SUNDAY"}})
        try:
            await require_weeks(service, site, answers, "wau_calendar_sunday")
            if "retention_weekly_sunday" in answers:
                await require_retention(service, site, answers, "retention_weekly_sunday", "WEEK")
        finally:
            await service.data(SAVE_WEEK, {"input": {"id": site, "weekStart": "MONDAY"}})


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("site", SITES)
async def test_each_project(service: Service, shared_data: Path, site: str) -> None:
    answers = expected(shared_data, "oss_commits")["per_site"][site]

    await require_calendar_users(service, site, answers)
    await require_retention(service, site, answers, "retention_monthly", "MONTH")
    counts = {"total": 0}
    types: dict[str, int] = {}
    for start, end in pieces(*span(answers)):
        variables = {"site": site, "from": start, "to": end, "limit": 1_000}
        report = (await service.data(TOP, variables))["topEvents"]
        counts["total"] += report["total"]
        for event in report["events"]:
            types[event["eventType"]] = types.get(event["eventType"], 0) + event["count"]
    assert counts["total"] == answers["events"]
    ranked = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    assert ranked[: len(answers["top_event_types"])] == [
        tuple(pair) for pair in answers["top_event_types"]
    ]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kolkata", "Europe/Berlin"])
async def test_other_time_zones(service: Service, shared_data: Path, zone: str) -> None:
    days = expected(shared_data, "oss_commits")["dau_other_timezones"][zone]
    first, last = (date.fromisoformat(day) for day in (min(days), max(days)))

    found = await users_by_date(service, "oss", first, last, zone=zone)

    assert {day: found[day] for day in days} == days


@pytest.mark.asyncio(loop_scope="module")
async def test_top_events_and_users_over_a_whole_range(service: Service, shared_data: Path) -> None:
    for name in ("cdnow", "apache"):
        answers = expected(shared_data, name)
        first, last = span(answers)
        variables = {"site": name, "from": first.isoformat(), "to": last.isoformat(), "limit": 10}
        report = (await service.data(TOP, variables))["topEvents"]
        assert report["total"] == answers["events"]
        found = [[event["eventType"], event["count"]] for event in report["events"]]
        assert found == answers["top_event_types"]
        variables = {**variables, "interval": "MONTH"}
        del variables["limit"]
        assert (await service.data(USERS, variables))["activeUsers"]["total"] == answers["actors"]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_filters_can_ask_of_the_access_log(service: Service, shared_data: Path) -> None:
    answers = expected(shared_data, "apache")
    window = {"site": "apache", "from": "2015-05-17", "to": "2015-05-20"}

    async def count(**conditions: object) -> int:
        variables = {**window, "interval": "DAY", "filter": conditions}
        total: int = (await service.data(COUNTS, variables))["eventCounts"]["total"]
        return total

    for path, number in answers["top_paths"]:
        assert await count(path={"eq": path}) == number
    for path, number in answers["top_pageview_paths"]:
        assert await count(path={"eq": path}, eventType={"eq": "pageview"}) == number
    for status, number in answers["status_codes"]:
        assert await count(properties=[{"name": "status", "number": {"eq": status}}]) == number
    assert await count(referrer={"isSet": False}) == answers["events_without_referrer"]
    for host, number in answers["top_referrer_hosts"]:
        escaped = host.replace(".", r"\.")
        assert await count(referrer={"matches": rf"^https?://{escaped}(:\d+)?(/|\?|$)"}) == number
    for path, number in answers["top_pageview_paths_by_visitors"]:
        conditions = {"path": {"eq": path}, "eventType": {"eq": "pageview"}}
        variables = {**window, "interval": "MONTH", "filter": conditions}
        report = (await service.data(USERS, variables))["activeUsers"]
        assert report["total"] == number


@pytest.mark.asyncio(loop_scope="module")
async def test_events_by_the_hour(service: Service, shared_data: Path) -> None:
    answers = expected(shared_data, "apache")
    variables = {"site": "apache", "from": "2015-05-17", "to": "2015-05-20", "interval": "HOUR"}

    points = (await service.data(COUNTS, variables))["eventCounts"]["points"]

    assert len(points) == 96
    found = {point["at"][:13]: point["count"] for point in points if point["count"]}
    assert found == answers["events_per_hour"]


@pytest.mark.asyncio(loop_scope="module")
async def test_purchases_of_fifty_dollars_and_more(service: Service, shared_data: Path) -> None:
    answers = expected(shared_data, "cdnow")
    conditions = {"properties": [{"name": "usd", "number": {"gte": 50}}]}
    variables = {
        "site": "cdnow", "from": "1997-01-01", "to": "1998-06-30",
        "interval": "MONTH", "filter": conditions,
    }  # fmt: skip

    total = (await service.data(COUNTS, variables))["eventCounts"]["total"]

    assert total == answers["purchases_with_usd_at_least_50"]
