"""Sources in the ledger: what saving does, and what of it shows."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState
from data.calendar import Weekday
from data.postgres.engine import transaction
from data.postgres.sites import Site, create_site
from data.postgres.sources import (
    StoredSource,
    all_sources,
    delete_source,
    source_by_key,
    sources_by_keys,
)
from data.sources.source import Header, Method, Paging, PagingKind, Source
from tests.data.postgres.source_scenes import START, Scene, failed, fetched
from tests.fixtures.ledger import Database

SOURCE = Source(
    key="prices",
    url="https://example.com/prices",
    cron="*/5 * * * *",
    timezone="Europe/Berlin",
    method=Method.POST,
    body="{}",
    headers=(Header("Accept", value="text/csv"), Header("X-Token", "Bearer {}", "token")),
    paging=Paging(PagingKind.CURSOR, next_at="/next", parameter="cursor"),
    timeout_seconds=2.5,
)


@pytest_asyncio.fixture
async def scene(database: Database, writer: AsyncEngine) -> Scene:
    """An empty ledger."""
    return Scene(writer, database)


async def test_a_source_comes_back_as_it_was_saved_and_is_due_at_once(
    scene: Scene, reader: AsyncEngine
) -> None:
    saved = await scene.save(SOURCE)

    assert saved == await source_by_key(reader, "prices", START)
    assert (saved.source, saved.version, saved.is_declared) == (SOURCE, 1, False)
    assert saved.state.next_attempt_at == START
    assert saved.state.breaker is BreakerState.CLOSED
    assert not saved.state.is_held


async def test_what_is_known_of_a_source_can_be_packed_and_unpacked(scene: Scene) -> None:
    saved = await scene.save(SOURCE)

    packed = msgspec.msgpack.encode([saved])

    assert msgspec.msgpack.decode(packed, type=list[StoredSource]) == [saved]


async def test_saving_a_source_as_it_is_changes_nothing(scene: Scene) -> None:
    await scene.save(SOURCE)
    await scene.refresh(fetched({"a": 1}))
    before = await scene.source()

    assert await scene.save(SOURCE) == before


async def test_a_changed_source_has_a_new_version_and_is_due_with_a_closed_breaker(
    scene: Scene,
) -> None:
    await scene.save(msgspec.structs.replace(SOURCE, breaker_failures=1))
    await scene.refresh(failed())
    assert (await scene.source()).state.breaker is BreakerState.OPEN
    changed = msgspec.structs.replace(SOURCE, url="https://example.org/")

    saved = await scene.save(changed)

    assert (saved.source, saved.version, saved.updated_at) == (changed, 2, scene.now)
    assert (saved.state.next_attempt_at, saved.state.breaker) == (scene.now, BreakerState.CLOSED)
    assert saved.state.failures == 0
    assert saved.state.last_failure_at == scene.now


async def test_a_source_that_the_file_takes_over_goes_on_as_it_was(scene: Scene) -> None:
    before = await scene.save(SOURCE)
    scene.wait(10)

    saved = await scene.save(SOURCE, is_declared=True)

    assert saved == replace(before, is_declared=True)


async def test_a_source_that_is_switched_off_has_no_next_attempt(scene: Scene) -> None:
    saved = await scene.save(msgspec.structs.replace(SOURCE, enabled=False))

    assert saved.state.next_attempt_at is None


async def test_sources_are_listed_in_order_of_their_keys(scene: Scene, reader: AsyncEngine) -> None:
    async with transaction(scene.engine) as connection:
        await create_site(connection, Site("shop", "Shop", "UTC", Weekday.MONDAY, (), START))
    for key, site_id in (("b", "shop"), ("a", None), ("C", None)):
        await scene.save(msgspec.structs.replace(SOURCE, key=key, site_id=site_id))

    listed = await all_sources(reader, START)

    assert [one.source.key for one in listed] == ["C", "a", "b"]
    assert listed[2].source.site_id == "shop"
    assert set(await sources_by_keys(reader, ["a", "b", "x"], START)) == {"a", "b"}
    assert await source_by_key(reader, "x", START) is None


async def test_a_deleted_source_takes_its_records_and_audits_with_it(scene: Scene) -> None:
    await scene.save(SOURCE)
    await scene.refresh(fetched({"a": 1}))

    async with transaction(scene.engine) as connection:
        assert await delete_source(connection, "prices")
        assert not await delete_source(connection, "prices")

    for table in ("source_states", "source_records", "source_changes", "source_audits"):
        assert await scene.rows(f"select * from {table}") == []


async def test_a_rest_is_shown_by_the_clock_that_is_asked_for(scene: Scene) -> None:
    await scene.save(msgspec.structs.replace(SOURCE, breaker_failures=1, breaker_seconds=30))
    await scene.refresh(failed())

    for seconds, state in ((29, BreakerState.OPEN), (30, BreakerState.HALF_OPEN)):
        at = scene.now + timedelta(seconds=seconds)
        (stored,) = await all_sources(scene.engine, at)
        assert stored.state.breaker is state
