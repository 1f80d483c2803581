"""Who may refresh a source: one at a time, as it is defined now, and nobody for another."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState
from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.source_audits import source_transaction
from data.postgres.source_claims import (
    Awaited,
    Claim,
    Due,
    Room,
    Skipped,
    abandon,
    answers_of,
    claim,
    due_sources,
    make_due,
    renew,
)
from data.postgres.sources import delete_source
from data.sources.fetched import Progress, Validators
from data.sources.source import Source
from tests.data.postgres.source_scenes import Scene, failed, fetched
from tests.fixtures.ledger import Database

SOURCE = Source(
    key="prices",
    url="https://example.com/prices",
    refresh_seconds=60,
    breaker_failures=1,
    breaker_seconds=300,
)


@pytest_asyncio.fixture
async def scene(database: Database, writer: AsyncEngine) -> Scene:
    """A ledger with one source."""
    scene = Scene(writer, database)
    await scene.save(SOURCE)
    return scene


async def test_of_many_who_claim_a_source_at_once_one_gets_it(scene: Scene) -> None:
    claims = await asyncio.gather(
        *(claim(scene.engine, "prices", scene.now, str(n)) for n in range(8))
    )

    (got,) = (one for one in claims if one is not None)
    assert isinstance(got, Claim)
    assert (await scene.source()).state.is_held


async def test_a_claim_ends_by_itself_unless_it_is_renewed(scene: Scene) -> None:
    first = await scene.claim()
    await scene.end_hold()
    assert not (await scene.source()).state.is_held
    assert await renew(scene.engine, first, Progress(pages=2, records=70), seconds=5)
    state = (await scene.source()).state
    assert (state.is_held, state.progress) == (True, Progress(pages=2, records=70))
    assert await claim(scene.engine, "prices", scene.now, "other") is None

    await scene.end_hold()
    second = await scene.claim()

    assert second.refresh_id == first.refresh_id + 1
    assert not await renew(scene.engine, first, Progress(), seconds=5)
    assert await renew(scene.engine, second, Progress(), seconds=5)


async def test_whoever_lost_its_claim_writes_nothing(scene: Scene) -> None:
    frozen = await scene.claim()
    await scene.end_hold()
    second = await scene.claim()

    assert await scene.write(frozen, fetched({"old": 1})) is None
    assert await scene.records() == {}
    assert await scene.write(second, fetched({"new": 1}))
    assert await scene.write(frozen, fetched({"old": 1})) is None

    assert await scene.records() == {"new": 1}


async def test_what_was_committed_is_not_committed_again(scene: Scene) -> None:
    claimed = await scene.claim()
    assert await scene.write(claimed, fetched({"a": 1}))

    assert await scene.write(claimed, fetched({"a": 1})) is None

    assert await scene.rows("select count(*) from source_audits") == [(1,)]


async def test_an_attempt_that_nothing_came_of_is_audited_when_the_next_begins(
    scene: Scene,
) -> None:
    first = await scene.claim()
    await scene.end_hold()
    scene.wait(60)

    second = await scene.claim()
    await scene.write(second, fetched({"a": 1}))

    audits = await scene.rows(
        "select refresh_id, outcome, error is null, tries from source_audits order by audit_id"
    )
    assert audits == [
        (first.refresh_id, "FAILURE", False, 0),
        (second.refresh_id, "SUCCESS", True, 1),
    ]
    # Nobody knows whether the source was to blame.
    assert (await scene.source()).state.failures == 0


async def test_a_claim_that_was_given_up_is_free_at_once(scene: Scene) -> None:
    first = await scene.claim()

    await abandon(scene.engine, first, seconds=5)

    assert (await scene.claim()).refresh_id == first.refresh_id + 1


async def test_a_source_that_is_not_due_is_not_to_be_had(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1}))

    assert await due_sources(scene.engine, scene.now, Room(5, 5)) == []
    assert await claim(scene.engine, "prices", scene.now, "test") is None
    assert await claim(scene.engine, "no such source", scene.now, "test") is None


async def test_sources_are_due_in_order_and_without_those_held_or_switched_off(
    scene: Scene,
) -> None:
    await scene.claim()
    for key, enabled in (("c", True), ("b", True), ("off", False)):
        scene.wait(1)
        await scene.save(msgspec.structs.replace(SOURCE, key=key, enabled=enabled))

    assert await due_sources(scene.engine, scene.now, Room(5, 5)) == [
        Due("c", False),
        Due("b", False),
    ]
    assert await due_sources(scene.engine, scene.now, Room(1, 1)) == [Due("c", False)]
    assert await claim(scene.engine, "off", scene.now, "test") is None


async def test_sources_that_failed_are_told_apart(scene: Scene) -> None:
    await scene.refresh(failed())
    scene.wait(60)

    assert await due_sources(scene.engine, scene.now, Room(5, 5)) == [Due("prices", True)]
    (named,) = await make_due(scene.engine, None, scene.now)
    assert named.is_failing


async def test_what_was_fetched_by_an_older_definition_is_not_kept(scene: Scene) -> None:
    claimed = await scene.claim()
    scene.wait(1)
    await scene.save(msgspec.structs.replace(SOURCE, url="https://example.org/"))
    assert not await renew(scene.engine, claimed, Progress(), seconds=5)
    assert await claim(scene.engine, "prices", scene.now, "test") is None

    written = await scene.write(claimed, fetched({"old": 1}))

    assert written
    assert "was changed" in (written.attempt.error or "")
    assert await scene.records() == {}
    state = (await scene.source()).state
    assert (state.is_held, state.failures, state.next_attempt_at) == (False, 0, scene.now)
    assert (await scene.claim()).version == 2


async def test_a_source_that_was_deleted_meanwhile_gets_no_records(scene: Scene) -> None:
    claimed = await scene.claim()
    async with transaction(scene.engine) as connection:
        await delete_source(connection, "prices")

    assert not await renew(scene.engine, claimed, Progress(), seconds=5)
    assert await scene.write(claimed, fetched({"a": 1})) is None


async def test_requests_are_conditional_only_for_the_definition_that_they_were_told_for(
    scene: Scene,
) -> None:
    await scene.refresh(fetched({"a": 1}, validators=Validators(etag='"1"')))
    scene.wait(60)
    await scene.save(msgspec.structs.replace(SOURCE, id_field="name"))

    assert (await scene.claim()).validators is None


async def test_a_due_time_while_the_breaker_is_open_is_skipped_and_audited(scene: Scene) -> None:
    first = await scene.claim()
    await scene.write(first, failed())
    scene.wait(60)

    skipped = await claim(scene.engine, "prices", scene.now, "test")

    assert isinstance(skipped, Skipped)
    state = (await scene.source()).state
    assert state.next_attempt_at is not None
    assert state.next_attempt_at > scene.now
    assert (state.is_held, state.breaker) == (False, BreakerState.OPEN)
    audits = await scene.rows(
        "select outcome, tries, started_at, refresh_id from source_audits where audit_id = $1",
        skipped.audit_id,
    )
    assert audits == [("SKIPPED_BREAKER_OPEN", 0, scene.now, first.refresh_id + 1)]


async def test_a_trial_shows_half_open_and_one_that_died_is_made_again(scene: Scene) -> None:
    await scene.refresh(failed())
    scene.wait(360)

    trial = await scene.claim()
    assert trial.breaker is BreakerState.HALF_OPEN
    await scene.end_hold()
    scene.wait(60)
    again = await scene.claim()

    assert again.breaker is BreakerState.HALF_OPEN
    assert (await scene.source()).state.breaker is BreakerState.HALF_OPEN
    await scene.write(again, failed())
    assert (await scene.source()).state.breaker is BreakerState.OPEN


async def test_what_is_made_due_by_hand_is_due_at_once_unless_it_is_under_way(
    scene: Scene,
) -> None:
    await scene.save(msgspec.structs.replace(SOURCE, key="other"))
    await scene.save(msgspec.structs.replace(SOURCE, key="off", enabled=False))
    first = await scene.claim()
    await scene.write(first, fetched({"a": 1}))
    held = await scene.claim("other")

    named = await make_due(scene.engine, ["prices", "off", "unknown"], scene.now)
    every = await make_due(scene.engine, None, scene.now)

    assert named == [Awaited("prices", False, first.refresh_id + 1, is_held=False)]
    assert every == [Awaited("other", False, held.refresh_id, is_held=True), *named]
    assert await due_sources(scene.engine, scene.now, Room(5, 5)) == [Due("prices", False)]


async def test_nobody_waits_for_a_set_that_is_being_written(scene: Scene) -> None:
    await scene.save(msgspec.structs.replace(SOURCE, key="other"))
    held = await scene.claim()
    # By its clock it is not held any more, as with a set that takes long to write.
    await scene.end_hold()
    async with source_transaction(scene.engine) as writing:
        await writing.execute("select from source_states where source_key = 'prices' for update")

        awaited = await make_due(scene.engine, None, scene.now)

    assert [(one.key, one.is_held) for one in awaited] == [("other", False), ("prices", True)]
    assert awaited[1].refresh_id == held.refresh_id


async def test_there_is_room_for_sources_that_did_well_whatever_others_do(scene: Scene) -> None:
    for key in ("bad-1", "bad-2", "good-1", "good-2"):
        await scene.save(msgspec.structs.replace(SOURCE, key=key))
    await scene.rows("update source_states set failures = 1 where source_key like 'bad%'")
    await scene.rows(
        "update source_states set next_attempt_at = next_attempt_at - interval '1 hour'"
        " where source_key <> 'good-2'"
    )

    async def due(room: Room) -> list[str]:
        return [one.key for one in await due_sources(scene.engine, scene.now, room)]

    assert await due(Room(2, 1)) == ["good-1", "prices", "bad-1"]
    assert await due(Room(5, 5, ["prices", "bad-1"])) == ["good-1", "good-2", "bad-2"]
    assert await due(Room(0, 5)) == ["bad-1", "bad-2"]
    assert await due(Room(5, 0)) == ["good-1", "prices", "good-2"]


async def test_what_is_fetched_for_a_deleted_source_is_none_of_a_new_one_of_its_key(
    scene: Scene,
) -> None:
    old = await scene.claim()
    async with transaction(scene.engine) as connection:
        await delete_source(connection, "prices")
    await scene.save(SOURCE)
    new = await scene.claim()

    assert not await renew(scene.engine, old, Progress(), seconds=5)
    assert await scene.write(old, fetched({"a": "of the old one"})) is None
    assert await scene.write(new, fetched({"b": "of the new one"}))
    assert await scene.records() == {"b": "of the new one"}


async def test_waiting_ends_with_the_refresh_that_was_waited_for(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1}))
    awaited = await make_due(scene.engine, ["prices"], scene.now)
    assert await answers_of(scene.engine, awaited) == {}
    claimed = await scene.claim()
    assert await answers_of(scene.engine, awaited) == {}

    written = await scene.write(claimed, fetched({"a": 2}))

    assert written
    assert await answers_of(scene.engine, awaited) == {"prices": written.audit_id}


async def test_waiting_goes_on_where_the_process_at_work_died(scene: Scene) -> None:
    await scene.claim()
    awaited = await make_due(scene.engine, ["prices"], scene.now)
    await scene.end_hold()
    second = await scene.claim()
    assert await answers_of(scene.engine, awaited) == {}

    written = await scene.write(second, fetched({"a": 2}))

    assert written
    assert await answers_of(scene.engine, awaited) == {"prices": written.audit_id}


async def test_waiting_ends_where_nothing_will_come(scene: Scene) -> None:
    await scene.save(msgspec.structs.replace(SOURCE, key="other"))
    awaited = await make_due(scene.engine, None, scene.now)

    await scene.save(msgspec.structs.replace(SOURCE, key="other", enabled=False))
    async with transaction(scene.engine) as connection:
        await delete_source(connection, "prices")

    assert await answers_of(scene.engine, awaited) == {"other": None, "prices": None}


async def test_a_claim_counts_the_delay_from_when_it_was_due(scene: Scene) -> None:
    scene.wait(7)

    claimed = await scene.claim()

    assert claimed.started_at - claimed.due_at == timedelta(seconds=7)


async def test_a_process_that_hangs_with_the_row_in_its_hands_is_waited_for_by_nobody(
    scene: Scene,
) -> None:
    claimed = await scene.claim()
    await scene.end_hold()
    others: list[Claim | Skipped | None] = []

    async def hang() -> None:
        async with source_transaction(scene.engine) as hanging:
            await hanging.execute("select from source_states for update")
            async with asyncio.timeout(30):
                # Until the server ends its session, and what it had begun.
                while not any(others):
                    others.append(await claim(scene.engine, "prices", scene.now, "other"))
                    await asyncio.sleep(0.2)

    with pytest.raises(LedgerUnavailable):
        await hang()

    assert others[0] is None
    assert isinstance(others[-1], Claim)
    assert others[-1].refresh_id == claimed.refresh_id + 1
