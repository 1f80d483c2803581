"""What a refresh leaves in the ledger: records, their history, the state and the audit."""

import asyncio
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from data.breaker import BreakerState
from data.postgres import source_writing
from data.postgres.engine import LedgerRefused, transaction
from data.postgres.source_audits import expire_audits, expire_changes
from data.postgres.sources import save_source
from data.sources.fetched import Effort, Unchanged, Validators
from data.sources.records import FetchOutcome
from data.sources.source import Source
from tests.data.postgres.source_scenes import START, Scene, failed, fetched
from tests.fixtures.ledger import Database

SOURCE = Source(key="prices", url="https://example.com/prices", refresh_seconds=60)
_WAITS = """
select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest_asyncio.fixture
async def scene(database: Database, writer: AsyncEngine) -> Scene:
    """A ledger with one source."""
    scene = Scene(writer, database)
    await scene.save(SOURCE)
    return scene


async def test_a_first_set_is_added_whole(scene: Scene) -> None:
    written = await scene.refresh(fetched({"a": {"n": 1}, "b": {"n": 2}}))

    assert (written.records, written.attempt.tally.added, written.attempt.tally.changed) == (
        2,
        2,
        0,
    )
    assert await scene.records() == {"a": {"n": 1}, "b": {"n": 2}}
    assert await scene.changes() == [("a", "added"), ("b", "added")]
    state = (await scene.source()).state
    assert (state.records, state.is_held, state.failures) == (2, False, 0)
    assert state.last_success_at == state.last_complete_at == scene.now


async def test_only_what_changed_is_written_and_moves_its_time(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1, "b": 2, "c": 3}))
    first_at = scene.now
    before = dict(await scene.rows("select external_id, xmin::text from source_records"))

    written = await scene.refresh(fetched({"a": 1, "b": 20, "d": 4}))

    tally = written.attempt.tally
    assert (tally.seen, tally.added, tally.changed, tally.vanished) == (3, 1, 1, 1)
    assert await scene.records() == {"a": 1, "b": 20, "d": 4}
    assert dict(await scene.rows("select external_id, changed_at from source_records")) == {
        "a": first_at,
        "b": scene.now,
        "c": first_at,
        "d": scene.now,
    }
    after = dict(await scene.rows("select external_id, xmin::text from source_records"))
    assert after["a"] == before["a"]
    assert await scene.changes() == [
        ("a", "added"),
        ("b", "added"),
        ("c", "added"),
        ("b", "changed"),
        ("d", "added"),
        ("c", "vanished"),
    ]


async def test_what_vanished_is_kept_and_comes_back_under_its_id(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1, "b": 2}))
    first_at, ids = scene.now, await scene.rows("select external_id, record_id from source_records")
    await scene.refresh(fetched({}))
    gone = await scene.rows("select vanished_at from source_records")
    assert gone == [(scene.now,)] * 2
    assert (await scene.source()).state.records == 0

    written = await scene.refresh(fetched({"a": 1, "b": 3}))

    tally = written.attempt.tally
    assert (written.records, tally.added, tally.changed) == (2, 0, 1)
    changed_at = dict(await scene.rows("select external_id, changed_at from source_records"))
    assert changed_at == {"a": first_at, "b": scene.now}
    assert await scene.rows("select external_id, record_id from source_records") == ids
    assert (await scene.changes())[-2:] == [("a", "returned"), ("b", "returned")]


async def test_a_set_that_was_cut_makes_nothing_vanish(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1, "b": 2}))
    whole_at = scene.now

    written = await scene.refresh(fetched({"a": 1, "c": 3}, is_complete=False))

    assert (written.records, written.attempt.tally.vanished) == (3, 0)
    assert (await scene.source()).state.last_complete_at == whole_at
    seen = dict(await scene.rows("select external_id, seen_at from source_records"))
    assert seen == {"a": scene.now, "b": whole_at, "c": scene.now}


async def test_what_has_not_changed_since_moves_nothing_but_the_state(scene: Scene) -> None:
    validators = Validators(etag='"1"')
    await scene.refresh(fetched({"a": 1}, validators=validators))
    changes = await scene.changes()

    written = await scene.refresh(Unchanged(Effort(tries=1, http_status=304)))

    assert written.attempt.outcome is FetchOutcome.SUCCESS
    assert written.attempt.tally.seen == 1
    assert await scene.changes() == changes
    assert (await scene.source()).state.last_complete_at == scene.now
    scene.wait(60)
    assert (await scene.claim()).validators == validators


async def test_a_failure_changes_no_record_and_says_why(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1}, validators=Validators(etag='"1"')))
    succeeded_at = scene.now

    await scene.refresh(failed("it answered\0 500"))

    assert await scene.records() == {"a": 1}
    state = (await scene.source()).state
    assert (state.last_success_at, state.last_failure_at) == (succeeded_at, scene.now)
    assert (state.records, state.failures) == (1, 1)
    audits = await scene.rows(
        "select outcome, http_status, tries, seen, error, duration_ms >= 0 from source_audits"
        " order by audit_id desc limit 1"
    )
    assert audits == [("FAILURE", 500, 3, 0, "it answered 500", True)]


async def test_the_next_attempt_comes_at_the_interval_but_not_before_it_is_welcome(
    scene: Scene,
) -> None:
    await scene.refresh(failed())
    state = (await scene.source()).state
    assert state.next_attempt_at is not None
    assert scene.now < state.next_attempt_at <= scene.now + timedelta(seconds=60)

    await scene.refresh(failed(retry_after=600))

    state = (await scene.source()).state
    assert state.next_attempt_at is not None
    rest = state.next_attempt_at - scene.now
    assert timedelta(seconds=600) <= rest <= timedelta(seconds=660)


async def test_sets_that_need_many_statements_are_written_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_writing, "_ROWS", 7)
    monkeypatch.setattr(source_writing, "_BYTES", 40)
    monkeypatch.setattr(source_writing, "_MANY", 10)
    monkeypatch.setattr(source_writing, "_READ_ROWS", 10)
    await scene.refresh(fetched({f"{n:03}": {"n": n} for n in range(50)}))
    half = {f"{n:03}": {"n": n + n % 2} for n in range(0, 50, 3)}

    written = await scene.refresh(fetched(half))

    assert await scene.records() == half
    assert (written.records, written.attempt.tally.vanished) == (17, 33)
    assert written.attempt.tally.changed == sum(n % 2 for n in range(0, 50, 3))


async def test_content_that_the_ledger_does_not_take_leaves_nothing(scene: Scene) -> None:
    await scene.refresh(fetched({"a": 1}))
    scene.wait(60)
    claimed = await scene.claim()

    with pytest.raises(LedgerRefused):
        await scene.write(claimed, fetched({"b": 2, "with\0nul": 3}))

    assert await scene.records() == {"a": 1}
    assert await scene.write(claimed, failed("it was refused"))


async def test_the_breaker_opens_rests_tries_and_closes(scene: Scene) -> None:
    await scene.save(Source(key="prices", url="https://example.com/x", breaker_failures=2))

    async def breaker() -> tuple[BreakerState, int]:
        state = (await scene.source()).state
        return state.breaker, state.failures

    await scene.refresh(failed())
    assert await breaker() == (BreakerState.CLOSED, 1)
    await scene.refresh(failed())
    assert await breaker() == (BreakerState.OPEN, 2)
    opened_at = scene.now
    scene.now = opened_at + timedelta(seconds=60)
    assert await breaker() == (BreakerState.HALF_OPEN, 2)
    await scene.refresh(failed())
    assert await breaker() == (BreakerState.OPEN, 3)
    await scene.refresh(fetched({"a": 1}))
    assert await breaker() == (BreakerState.CLOSED, 0)


async def test_history_and_audits_go_when_their_time_is_over_and_records_stay(
    scene: Scene,
) -> None:
    for n in range(6):
        await scene.refresh(fetched({"a": n}))
    in_between = scene.now - timedelta(seconds=90)

    assert await expire_changes(scene.engine, in_between, limit=3) == 3
    assert await expire_changes(scene.engine, in_between, limit=3) == 1
    assert await expire_audits(scene.engine, in_between, limit=10) == 4

    assert await scene.records() == {"a": 5}
    assert len(await scene.changes()) == 2
    assert await scene.rows("select count(*) from source_audits") == [(2,)]
    assert await expire_changes(scene.engine, START, limit=3) == 0


async def test_a_definition_that_changes_while_a_set_is_committed_is_not_overlooked(
    scene: Scene,
) -> None:
    claimed = await scene.claim()
    changed = msgspec.structs.replace(SOURCE, id_field="name")
    async with asyncio.TaskGroup() as group, transaction(scene.engine) as connection:
        await save_source(connection, changed, scene.now, is_declared=False)
        writing = group.create_task(scene.write(claimed, fetched({"a": 1})))
        async with asyncio.timeout(30):
            while not await scene.rows(_WAITS):
                await asyncio.sleep(0.02)

    written = writing.result()
    assert written
    assert "was changed" in (written.attempt.error or "")
    assert await scene.records() == {}
    assert (await scene.source()).state.next_attempt_at == scene.now
