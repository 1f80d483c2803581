"""`dau` while the columnar copy is catching up: from the view, exactly, or else from the copy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event

from data.postgres.actor_days import Effort, advance
from data.postgres.daily_users import view_state
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

REPORT = """
query ($site: ID, $from: Date!, $to: Date!, $timezone: String, $filter: EventFilter) {
  dau(siteId: $site, range: {from: $from, to: $to}, timezone: $timezone, filter: $filter) {
    interval total
    points { date users complete }
    meta { source dataThrough timezone exact }
  }
}
"""
MARCH = {"site": "shop", "from": "2026-03-01", "to": "2026-03-03"}
EVENTS: list[dict[str, object]] = [
    {"eventType": "v", "userId": "ada", "occurredAt": "2026-03-01T12:00:00Z"},
    {"eventType": "v", "userId": "ada", "occurredAt": "2026-03-01T23:30:00Z"},
    {"eventType": "v", "visitorId": "bob", "occurredAt": "2026-03-03T00:30:00Z"},
]


@asynccontextmanager
async def held_back(app: App) -> AsyncIterator[None]:
    """The columnar copy is empty and does not follow, as at the start of a long way."""
    follower = app.resources.follower
    async with follower._swapping:
        await follower._start_over("asked")
        yield


async def refresh(app: App) -> None:
    """Return when the view holds everything that is committed now."""
    while (done := await advance(app.resources.ledger.writer, Effort(rest=0))) is None:
        await asyncio.sleep(0.01)
    assert done.is_complete


async def dau(app: App, **changes: object) -> dict[str, Any]:
    answer = await app.data(REPORT, {**MARCH, **changes})
    report: dict[str, Any] = answer["dau"]
    return report


def figures(report: dict[str, Any]) -> object:
    return report["interval"], report["total"], report["points"], report["meta"]["timezone"]


async def test_the_view_answers_while_the_copy_catches_up_and_says_so(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    async with held_back(app):
        by_view = await dau(app)
        state = await view_state(app.resources.ledger.reads.primary)

    await app.followed()
    by_copy = await dau(app)

    assert by_view["meta"]["source"] == "REPLICA_VIEW"
    assert datetime.fromisoformat(by_view["meta"]["dataThrough"]) == state.through
    assert [point["users"] for point in by_view["points"]] == [1, 0, 1]
    assert by_view["total"] == 2
    assert by_copy["meta"]["source"] == "COLUMNAR"
    assert figures(by_view) == figures(by_copy)


async def test_the_job_keeps_the_view_and_tells_how_far_it_is(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await app.state["jobs"].run_now("refresh_daily_users")

    page = (await app.client.get("/metrics")).text.splitlines()
    health = (await app.client.get("/health")).json()

    assert "footfall_view_position 1.0" in page
    assert "footfall_view_rows 2.0" in page
    assert "footfall_view_actor_days_total 2.0" in page
    # One by itself, at the start or a while after, may have come before.
    timed = "footfall_view_refresh_duration_seconds_count "
    assert sum(float(line.removeprefix(timed)) for line in page if line.startswith(timed)) >= 1
    assert health["details"]["view"] == "at position 1"
    assert health["status"] == "ok"


async def test_what_the_view_cannot_say_exactly_is_left_to_the_copy(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    active = (
        '{ activeUsers(siteId: "shop", interval: WEEK, '
        'range: {from: "2026-03-01", to: "2026-03-03"}) { meta { source } } }'
    )
    async with held_back(app):
        asked = [
            await dau(app, timezone="Europe/Berlin"),
            await dau(app, filter={"eventType": {"eq": "v"}}),
            (await app.data(active))["activeUsers"],
        ]
        by_view = await dau(app, timezone="UTC")

    assert [one["meta"]["source"] for one in asked] == ["COLUMNAR"] * 3
    assert by_view["meta"]["source"] == "REPLICA_VIEW"


async def test_a_view_that_knows_no_more_than_the_copy_is_not_asked(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    await app.followed()
    follower = app.resources.follower
    async with follower._swapping:
        follower._caught_up.clear()
        report = await dau(app)

    assert report["meta"]["source"] == "COLUMNAR"
    assert report["total"] == 2


async def test_a_site_that_is_filled_anew_is_left_to_the_copy(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    await app.site("shop", timezone="Europe/Berlin")
    async with held_back(app):
        before = await dau(app)
        await refresh(app)
        after = await dau(app)
    await app.followed()

    assert before["meta"]["source"] == "COLUMNAR"
    assert after["meta"]["source"] == "REPLICA_VIEW"
    # Half past eleven in Berlin was half past twelve.
    assert [point["users"] for point in after["points"]] == [1, 1, 1]
    assert figures(after) == figures(await dau(app))


async def test_without_the_view_the_copy_answers_with_what_it_has(
    app: App, database: Database
) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    admin = await database.connect()
    await admin.execute("alter table daily_users_state rename to away")
    async with held_back(app):
        report = await dau(app)
    await admin.execute("alter table away rename to daily_users_state")
    await admin.close()

    assert report["meta"]["source"] == "COLUMNAR"
    assert report["total"] == 0
    assert report["meta"]["dataThrough"] == "1970-01-01T00:00:00Z"


async def test_a_view_that_does_not_answer_is_not_waited_for_until_the_query_ends(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", query_timeout_seconds=9) as app:
        await app.site("shop")
        await app.ingest("shop", *EVENTS)
        await refresh(app)
        admin = await database.connect()
        async with held_back(app), admin.transaction():
            await admin.execute("lock table daily_users_state in access exclusive mode")
            report = await dau(app)
        await admin.close()

    assert report["meta"]["source"] == "COLUMNAR"


async def test_several_questions_of_one_request_are_one_statement(app: App) -> None:
    await app.ingest("shop", *EVENTS)
    await app.ingest("blog", EVENTS[0])
    await refresh(app)
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    engine = app.resources.ledger.reads.primary.sync_engine
    query = """{
      a: dau(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-03"}) { ...all }
      b: dau(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-01"}) { ...all }
      c: dau(siteId: "blog", range: {from: "2026-03-01", to: "2026-03-03"}) { ...all }
    } fragment all on ActiveUsersReport { total meta { source } }"""
    async with held_back(app):
        event.listen(engine, "before_cursor_execute", note)
        answer = await app.data(query)
        event.remove(engine, "before_cursor_execute", note)

    assert [answer[name]["total"] for name in "abc"] == [2, 1, 1]
    assert {answer[name]["meta"]["source"] for name in "abc"} == {"REPLICA_VIEW"}
    assert len([one for one in statements if "daily_active_users" in one]) == 1


async def test_a_copy_that_was_changed_shows_in_system_and_health_until_it_is_mended(
    app: App,
) -> None:
    await app.ingest("shop", *EVENTS)
    await refresh(app)
    await app.followed()
    cursor = app.resources.columnar.store._runner._connection.cursor()
    cursor.execute("delete from events where actor = 'bob'")
    cursor.close()
    question = """{ system {
      status
      parts { name status detail }
      reconciliation { siteId day ledger copy view ledgerEvents copyEvents }
    } }"""

    await app.state["jobs"].run_now("reconcile")
    broken = (await app.data(question))["system"]
    health = await app.client.get("/health")
    async with asyncio.timeout(60):
        while app.resources.follower.is_rebuilding or not app.resources.follower.is_caught_up:
            await asyncio.sleep(0.01)
    await app.state["jobs"].run_now("reconcile")
    mended = (await app.data(question))["system"]

    assert broken["reconciliation"] == [
        {
            "siteId": "shop",
            "day": "2026-03-03",
            "ledger": 1,
            "copy": 0,
            "view": 1,
            "ledgerEvents": 1,
            "copyEvents": 0,
        }
    ]
    parts = {part["name"]: part for part in broken["parts"]}
    assert parts["reconcile"]["status"] == broken["status"] == "DEGRADED"
    assert parts["reconcile"]["detail"].startswith("1 day(s) of sites differ from the ledger")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert mended["reconciliation"] == []
    parts = {part["name"]: part for part in mended["parts"]}
    assert (parts["reconcile"]["status"], parts["view"]["status"]) == ("OK", "OK")
    assert (await dau(app))["total"] == 2
