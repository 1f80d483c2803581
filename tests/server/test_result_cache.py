"""Results of reports, as clients see them: exact, or said to be old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from data.calendar import Weekday
from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

META = "meta { cache dataThrough computedAt }"
# What a late event on the 5th of January does not touch.
OTHERS = f"""
{{
  before: dau(siteId: "shop", range: {{from: "2026-01-01", to: "2026-01-04"}}) {{ total {META} }}
  after: eventCounts(siteId: "shop", range: {{from: "2026-01-06", to: "2026-01-09"}}) {{
    total {META}
  }}
  blog: topEvents(siteId: "blog", range: {{from: "2026-01-01", to: "2026-01-31"}}) {{
    total {META}
  }}
  back: retention(siteId: "shop", range: {{from: "2026-01-06", to: "2026-01-07"}}, interval: DAY,
    periods: 1, options: {{cohort: RECURRING}}) {{ cohorts {{ size }} {META} }}
}}
"""
TOUCHED = f"""
{{
  day: dau(siteId: "shop", range: {{from: "2026-01-05", to: "2026-01-05"}}) {{ total {META} }}
  month: eventCounts(siteId: "shop", range: {{from: "2026-01-01", to: "2026-01-31"}}) {{
    total {META}
  }}
  rolling: activeUsers(siteId: "shop", rolling: 3,
    range: {{from: "2026-01-07", to: "2026-01-07"}}) {{ points {{ users }} {META} }}
  first: retention(siteId: "shop", range: {{from: "2026-01-06", to: "2026-01-07"}}, interval: DAY,
    periods: 1) {{ cohorts {{ size }} {META} }}
  east: topEvents(siteId: "shop", range: {{from: "2026-01-06", to: "2026-01-06"}},
    timezone: "Pacific/Auckland") {{ total {META} }}
}}
"""
DAU = (
    f'{{ dau(siteId: "shop", range: {{from: "2026-01-05", to: "2026-01-05"}}) {{ total {META} }} }}'
)
INVALIDATE = "mutation ($site: ID) { invalidateCache(siteId: $site) { dropped } }"
CACHE = "{ system { cache { entries bytes hits staleHits misses bypasses hitRate shared } } }"


def event(day: int, user: str, **fields: object) -> dict[str, object]:
    at = f"2026-01-{day:02}T12:00:00Z"
    return {"eventType": "view", "userId": user, "occurredAt": at, **fields}


def statuses(answer: Mapping[str, Any]) -> dict[str, str]:
    return {name: report["meta"]["cache"] for name, report in answer.items()}


def numbers(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in report.items() if key != "meta"}
        for name, report in answer.items()
    }


def asked(app: App) -> float:
    """How many statements the store has answered, those of the follower left out."""
    page = app.resources.metrics.render()[0].decode()
    name = "footfall_store_query_duration_seconds_count{"
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith(name) and "watermark" not in line and '"apply"' not in line
    )


@pytest.fixture
async def filled(app: App) -> App:
    """The application with events around the fifth of January, all of them followed."""
    await app.ingest("shop", *(event(day, f"user {day % 3}") for day in range(2, 9)))
    await app.ingest("blog", event(5, "ann"))
    await app.followed()
    return app


async def test_a_late_event_changes_only_answers_that_cover_its_day(filled: App) -> None:
    first = {**await filled.data(OTHERS), **await filled.data(TOUCHED)}
    assert set(statuses(first).values()) == {"MISS"}
    again = {**await filled.data(OTHERS), **await filled.data(TOUCHED)}
    assert set(statuses(again).values()) == {"HIT"}
    assert numbers(again) == numbers(first)

    await filled.ingest("shop", event(5, "late"))
    await filled.followed()
    others, touched = await filled.data(OTHERS), await filled.data(TOUCHED)

    assert set(statuses(others).values()) == {"HIT"}
    assert numbers(others) == numbers({name: first[name] for name in others})
    assert set(statuses(touched).values()) == {"MISS"}
    assert touched["day"]["total"] == first["day"]["total"] + 1
    assert touched["month"]["total"] == first["month"]["total"] + 1
    assert touched["rolling"]["points"][0]["users"] == 4
    # Noon of the fifth in UTC is the sixth in Auckland.
    assert touched["east"]["total"] == first["east"]["total"] + 1


async def test_a_hit_tells_up_to_when_data_is_complete_now(filled: App) -> None:
    [first] = (await filled.data(DAU)).values()
    await filled.ingest("shop", event(20, "ann"))
    await filled.followed()

    [hit] = (await filled.data(DAU)).values()

    assert (first["meta"]["cache"], hit["meta"]["cache"]) == ("MISS", "HIT")
    assert hit["meta"]["computedAt"] == first["meta"]["computedAt"]
    assert moment(hit["meta"]["dataThrough"]) > moment(first["meta"]["dataThrough"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_hit_asks_the_store_nothing(filled: App) -> None:
    pattern = 'filter: {url: {matches: "a+"}}'
    query = f'{{ dau(siteId: "shop", range: {{from: "2026-01-05", to: "2026-01-05"}}, {pattern}) {{ {META} }} }}'
    assert statuses(await filled.data(query)) == {"dau": "MISS"}
    before = asked(filled)

    for _ in range(20):
        assert statuses(await filled.data(query)) == {"dau": "HIT"}

    assert asked(filled) == before


async def test_what_an_answer_costs_is_the_same_whether_it_was_kept(filled: App) -> None:
    first, second = await filled.post(DAU), await filled.post(DAU)

    def cost(body: Mapping[str, Any]) -> dict[str, int]:
        told = body["extensions"]["cost"]
        return {key: told[key] for key in ("requestedQueryCost", "actualQueryCost")}

    assert cost(first) == cost(second)


async def test_a_caller_may_ask_for_a_new_answer(filled: App) -> None:
    async def ask(**headers: str) -> str:
        response = await filled.client.post(
            "/graphql",
            json={"query": DAU},
            headers={
                "x-api-key": filled.admin_key,
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        return str(response.json()["data"]["dau"]["meta"]["cache"])

    assert await ask() == "MISS"
    assert await ask(cache_control="no-cache") == "BYPASS"
    assert await ask(pragma="no-cache") == "BYPASS"
    assert await ask(cache_control="max-age=60") == "HIT"


async def test_keys_of_one_site_share_answers_and_none_sees_anothers(filled: App) -> None:
    key, other = await filled.key("shop", Scope.READ), await filled.key("blog", Scope.READ)
    await filled.data(DAU)

    assert statuses(await filled.data(DAU, key=key)) == {"dau": "HIT"}
    assert (await filled.refusal(DAU, key=other))["code"] == "FORBIDDEN"


async def test_another_zone_week_or_filter_is_another_question(filled: App) -> None:
    day = 'siteId: "shop", range: {from: "2026-01-05", to: "2026-01-05"}'
    for arguments in (
        day,
        f'{day}, timezone: "Europe/Berlin"',
        f"{day}, interval: WEEK",
        f"{day}, rolling: 7",
        f'{day}, filter: {{userId: {{eq: "1"}}}}',
        f'{day}, filter: {{visitorId: {{eq: "1"}}}}',
        f'{day}, filter: {{properties: [{{name: "1", number: {{eq: 1}}}}]}}',
    ):
        query = f"{{ activeUsers({arguments}) {{ {META} }} }}"
        assert statuses(await filled.data(query)) == {"activeUsers": "MISS"}, arguments
        assert statuses(await filled.data(query)) == {"activeUsers": "HIT"}, arguments
    await filled.site("shop", week_start=Weekday.SUNDAY)
    query = f"{{ activeUsers({day}, interval: WEEK) {{ {META} }} }}"
    assert statuses(await filled.data(query)) == {"activeUsers": "MISS"}


async def test_the_system_tells_how_the_cache_does(filled: App) -> None:
    before = (await filled.data(CACHE))["system"]["cache"]
    for _ in range(4):
        await filled.data(DAU)

    after = (await filled.data(CACHE))["system"]["cache"]

    assert before["entries"] == before["hits"] == 0
    assert after["bytes"] > 0
    del after["bytes"]
    assert after == {
        "entries": 1,
        "hits": 3,
        "staleHits": 0,
        "misses": 1,
        "bypasses": 0,
        "hitRate": 0.75,
        "shared": False,
    }


async def test_dropped_results_are_computed_anew(filled: App) -> None:
    blog = DAU.replace("shop", "blog")
    for query in (DAU, blog):
        await filled.data(query)
    key = await filled.key("shop", Scope.ADMIN)

    assert (await filled.data(INVALIDATE, key=key))["invalidateCache"] == {"dropped": 1}
    assert statuses(await filled.data(DAU)) == {"dau": "MISS"}
    assert statuses(await filled.data(blog)) == {"dau": "HIT"}
    assert (await filled.data(INVALIDATE))["invalidateCache"] == {"dropped": 2}
    assert statuses(await filled.data(blog)) == {"dau": "MISS"}
    assert (await filled.data(INVALIDATE, {"site": "blog"}))["invalidateCache"] == {"dropped": 1}


async def test_only_admins_drop_results_and_only_of_their_site(filled: App) -> None:
    reader = await filled.key("shop", Scope.READ)
    admin = await filled.key("shop", Scope.ADMIN)

    assert (await filled.refusal(INVALIDATE, key=reader))["code"] == "FORBIDDEN"
    assert (await filled.refusal(INVALIDATE, {"site": "blog"}, admin))["code"] == "FORBIDDEN"
    assert (await filled.refusal(INVALIDATE, {"site": "none"}))["code"] == "NOT_FOUND"


async def test_answers_to_get_go_with_the_results_that_they_rest_on(filled: App) -> None:
    async def get() -> Any:
        response = await filled.client.get(
            "/graphql", params={"query": DAU}, headers={"x-api-key": filled.admin_key}
        )
        return response.json()["data"]["dau"]["meta"]

    first = await get()
    assert await get() == first

    await filled.data(INVALIDATE)

    assert moment((await get())["computedAt"]) > moment(first["computedAt"])


async def test_a_new_copy_is_not_answered_from_the_results_of_the_old_one(filled: App) -> None:
    await filled.data(DAU)
    await filled.resources.follower.rebuild(lambda *_: None)

    assert statuses(await filled.data(DAU)) == {"dau": "MISS"}


async def test_a_new_answer_of_an_old_copy_is_not_kept_for_the_new_one(filled: App) -> None:
    copy = filled.resources.columnar
    headers = {"x-api-key": filled.admin_key, "cache-control": "no-cache"}
    read = copy.store._runner.run

    async def held_up(name: str, mode: Any, work: Any) -> Any:
        found = await read(name, mode, work)
        if name == "active_users":
            await filled.resources.follower.rebuild(lambda *_: None)
        return found

    copy.store._runner.run = held_up  # type: ignore[method-assign]
    response = await filled.client.post("/graphql", json={"query": DAU}, headers=headers)

    assert statuses(response.json()["data"]) == {"dau": "BYPASS"}
    assert statuses(await filled.data(DAU)) == {"dau": "MISS"}


# Slow enough that it takes seconds, with not too many events.
SLOW = """
query ($filter: EventFilter) {
  dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-31"}, filter: $filter) {
    total meta { cache dataThrough }
  }
}
"""
SLOW_FILTER = {
    "or": [{"url": {"matches": f"a.{{1,60}}b.{{1,60}}e{number}"}} for number in range(40)]
    + [{"eventType": {"eq": "new"}}]
}


@asynccontextmanager
async def slow_app(database: Database, home: Path, patience: float) -> AsyncIterator[App]:
    async with open_app(database, home, result_cache_patience_seconds=patience) as app:
        await app.site("shop")
        long = "abcd" * 450
        await app.ingest("shop", *(event(5, f"u{n}", url=f"/{n}{long}") for n in range(2_000)))
        await app.followed()
        yield app


async def ask_slowly(app: App) -> tuple[int, str, datetime]:
    report = (await app.data(SLOW, {"filter": SLOW_FILTER}))["dau"]
    return report["total"], report["meta"]["cache"], moment(report["meta"]["dataThrough"])


async def test_a_slow_answer_is_shown_from_before_and_becomes_exact_by_itself(
    database: Database, tmp_path: Path
) -> None:
    async with slow_app(database, tmp_path, patience=0.01) as app:
        total, status, through = await ask_slowly(app)
        assert (total, status) == (0, "MISS")
        await app.ingest("shop", event(5, "ann", eventType="new"))
        await app.followed()

        assert await ask_slowly(app) == (0, "STALE", through)

        async with asyncio.timeout(60):
            while (latest := await ask_slowly(app))[0] == 0:
                assert latest[1] == "STALE"
                await asyncio.sleep(0.05)
        assert latest[0] == 1
        assert latest[1] in ("HIT", "MISS")
        assert latest[2] > through


async def test_an_answer_that_everybody_waits_for_is_computed_once(
    database: Database, tmp_path: Path
) -> None:
    async with slow_app(database, tmp_path, patience=30) as app:
        before = asked(app)
        answers = await asyncio.gather(*(ask_slowly(app) for _ in range(50)))

        assert {total for total, _, _ in answers} == {0}
        # Each of its regular expressions was looked at once, or by a few at the same moment.
        counted = app.resources.metrics.registry.get_sample_value(
            "footfall_store_query_duration_seconds_count", {"query": "active_users"}
        )
        assert counted == 1
        assert asked(app) > before
