"""Destinations that are moved or lose their backup while runs of them wait or are written."""

import asyncio
from dataclasses import replace

import pytest

from data.exporter import NotPublished
from data.exports.checking import DestinationInvalid
from data.exports.layout import Selection
from data.exports.records import RunAsked, RunStatus, StoredDestination, StoredRun, Trigger
from data.exports.tally import Proof
from data.postgres.engine import transaction
from data.postgres.export_claims import Claim, DueTarget, claim, due_targets
from data.postgres.export_destinations import delete_destination
from data.postgres.export_pauses import standing
from data.postgres.export_planning import NothingToRetry, plan_run
from resolvers.export_verifying import problems_of
from tests.fixtures.exporting import BACKUP, CLIENT, KEY, SECONDS, Exports, kinds

_WAITING = """
select count(*) from pg_stat_activity
where wait_event_type = 'Lock' and state = 'active' and datname = current_database()
"""


async def until_waiting(exports: Exports) -> None:
    """Return when somebody waits for a lock in the ledger."""
    async with asyncio.timeout(SECONDS):
        while (await exports.rows(_WAITING))[0][0] == 0:
            await asyncio.sleep(0.02)


async def asked_with_backup(exports: Exports) -> tuple[StoredDestination, StoredRun]:
    """A destination with a backup in a bucket of its own, beside a third bucket, and its first run."""
    await exports.ingest(10)
    for name in ("backup", "other"):
        (exports.server.folder / name).mkdir()
    saved = await exports.save(backup=exports.place("safe", "backup"))
    return saved, await exports.ask(saved)


async def test_what_was_for_a_backup_in_another_bucket_is_not_written_into_the_new_one(
    exports: Exports,
) -> None:
    saved, run = await asked_with_backup(exports)
    async with exports.process() as process:
        assert await process.take_up()
        await exports.save(saved, backup=exports.place("vault", "other"))
        with pytest.raises(NothingToRetry):
            await exports.retry(run)
        assert not await process.take_up()
    assert kinds(await exports.run(run)) == [("client", "SUCCEEDED"), ("backup", "DEAD")]
    # It waits for nobody's retryExport.
    assert (await standing(exports.reader)).dead == 0
    assert exports.names("other") == exports.names("backup") == []


@pytest.mark.parametrize("is_moved", [True, False])
async def test_a_backup_that_changes_under_the_hands_of_a_process_that_dies_ends(
    exports: Exports, is_moved: bool
) -> None:
    saved, run = await asked_with_backup(exports)
    async with exports.process() as process:
        assert await process.take_up()
        [due] = await due_targets(exports.engine, exports.now(), 1, only_fresh=False, first=5)
        assert due.kind is BACKUP
        assert await claim(exports.engine, due, exports.now(), "somebody") is not None
        await exports.save(saved, backup=exports.place("vault", "other") if is_moved else None)
        assert kinds(await exports.run(run))[1] == ("backup", "RUNNING")
        # The process was killed.
        await exports.rows("update export_targets set held_until = clock_timestamp()")
        assert not await process.take_up()
    ended = await exports.run(run)
    assert kinds(ended) == [("client", "SUCCEEDED"), ("backup", "DEAD")]
    assert ended.targets[1].reason == "BACKUP_REMOVED"
    assert (await exports.stored(saved)).pauses == {}
    assert exports.names("other") == []


async def test_a_backup_that_lies_elsewhere_by_now_is_not_missed_where_it_is_not(
    exports: Exports,
) -> None:
    saved, run = await asked_with_backup(exports)
    async with exports.process() as process:
        assert await process.take_up()
        assert await process.take_up()
        moved = await exports.save(saved, backup=exports.place("vault", "other"))
        with pytest.raises(NotPublished):
            await process.exporter.verify(run.run_id, BACKUP)
        found = await exports.run(run)
        verify = process.exporter.verify
        assert await problems_of(verify, found, moved.destination) == []


async def test_a_destination_does_not_move_while_its_first_run_is_planned(
    exports: Exports,
) -> None:
    await exports.ingest(10)
    saved = await exports.save()
    async with transaction(exports.engine) as connection:
        asked = RunAsked(saved.destination_id, Trigger.REQUEST)
        planned = await plan_run(connection, asked, exports.now())
        moving = asyncio.create_task(exports.save(saved, client=exports.place("elsewhere")))
        await until_waiting(exports)
    with pytest.raises(DestinationInvalid, match="its runs are in another place"):
        await moving
    assert planned.run.client.place == (await exports.stored(saved)).destination.client
    async with exports.process() as process:
        assert await process.take_up()
    assert (await exports.run(planned.run)).status is RunStatus.SUCCEEDED


async def test_whoever_gives_a_run_up_that_another_has_taken_over_leaves_that_ones_files(
    exports: Exports,
) -> None:
    await exports.ingest(10)
    run = await exports.ask(await exports.save())
    taken: list[Claim] = []

    async def prove(_: Selection) -> Proof:
        """As if this process had hung before it found that its own copy differs."""
        await exports.rows("update export_targets set held_until = clock_timestamp()")
        due = DueTarget(run.run_id, CLIENT)
        other = await claim(exports.engine, due, exports.now(), "another")
        assert other is not None
        taken.append(other)
        name = run.order(run.client.place, other.hold_id).file_name(1)
        async with exports.buckets.open(run.client.place, KEY) as bucket:
            await bucket.put_bytes(name, b"{}", "text/plain")
        return Proof()

    async with exports.process() as process:
        await process.caught_up()
        process.exporter.means = replace(process.exporter.means, prove=prove)
        assert await process.exporter.take_up()
    [other] = taken
    assert exports.names() == [run.order(run.client.place, other.hold_id).file_name(1)]
    found = (await exports.run(run)).client
    assert (found.status, found.is_held, found.error) == (RunStatus.RUNNING, True, None)


async def test_who_saves_a_destination_that_is_just_deleted_gives_it_no_new_secrets(
    exports: Exports,
) -> None:
    saved = await exports.save()
    async with transaction(exports.engine) as connection:
        assert await delete_destination(connection, saved.destination_id, exports.now())
        saving = asyncio.create_task(exports.save(saved))
        await until_waiting(exports)
    with pytest.raises(DestinationInvalid, match="was deleted"):
        await saving
    assert await exports.rows("select client_secret from export_destinations") == [(None,)]
