"""Runs from a plan to a published manifest, by one process and by several."""

import asyncio
import json
from datetime import timedelta

import msgspec
import pytest

from data.exporter import NotPublished
from data.exports.destination import REALTIME
from data.exports.records import Metering, RunsQuery, RunStatus, Trigger
from data.exports.verification import chain_problems
from data.postgres.engine import transaction
from data.postgres.export_destinations import delete_destination, set_paused
from data.postgres.export_planning import (
    DestinationPaused,
    NoDestination,
    NothingToRetry,
)
from data.postgres.export_runs import last_runs, manifests_of, runs_page, unpublished
from tests.fixtures.exporting import BACKUP, CLIENT, NOON, Exports, kinds
from tests.fixtures.s3 import BUCKET, SECRET


async def test_what_was_asked_for_is_published_and_verifies(exports: Exports) -> None:
    ids = await exports.ingest(500)
    await exports.ingest(100, "blog")
    destination = await exports.save()
    run = await exports.ask(destination)

    assert (run.status, run.after, run.through, run.number) == (RunStatus.PENDING, 0, 2, 1)
    async with exports.process() as process:
        assert await process.take_up()
        assert not await process.take_up()
        done = await exports.run(run)
        problems = await process.exporter.verify(run.run_id, CLIENT)

    assert problems == []
    assert exports.ids() == sorted(ids)
    target = done.client
    assert (target.status, target.attempts, target.error) == (RunStatus.SUCCEEDED, 1, None)
    assert (target.events, target.files) == (500, 1)
    assert target.finished_at is not None
    manifest = (await manifests_of(exports.reader, [run.run_id]))[run.run_id, CLIENT]
    assert manifest.name == target.manifest_name
    assert manifest.bytes == target.bytes
    assert (await exports.logged()) == ["export.published"]
    about = {"destination": str(destination.destination_id), "target": "client"}
    assert exports.metric("events_total", **about) == 500
    assert exports.metric("targets_total", outcome="succeeded", **about) == 1


async def test_runs_follow_one_another_without_a_gap_whatever_comes_between(
    exports: Exports,
) -> None:
    destination = await exports.save()
    ids = []
    async with exports.process() as process:
        for count in (10, 0, 300, 1):
            ids += await exports.ingest(count)
            await exports.ingest(5, "blog")
            run = await exports.ask(destination)
            assert (await exports.ask(destination)).run_id == run.run_id
            assert await process.take_up()
        runs = await exports.runs(destination)
        problems = [await process.exporter.verify(run.run_id, CLIENT) for run in runs]

    assert [(run.after, run.through) for run in runs] == [(0, 2), (2, 3), (3, 5), (5, 7)]
    assert exports.ids() == sorted(ids)
    assert problems == [[]] * 4
    manifests = await manifests_of(exports.reader, [run.run_id for run in runs])
    assert chain_problems(list(manifests.values())) == []
    assert (await exports.stored(destination)).planned_through == 7
    assert (await last_runs(exports.reader, [destination.destination_id])) == {
        destination.destination_id: runs[-1]
    }
    page = await runs_page(exports.reader, RunsQuery(2, "shop", before=runs[3].sequence))
    assert page == [runs[2], runs[1]]
    assert await runs_page(exports.reader, RunsQuery(5, status=RunStatus.DEAD)) == []
    found = await runs_page(exports.reader, RunsQuery(5, status=RunStatus.SUCCEEDED))
    assert [run.number for run in found] == [4, 3, 2, 1]


async def test_a_backup_is_a_target_of_its_own_with_the_metering_beside_it(
    exports: Exports,
) -> None:
    (exports.server.folder / "backup").mkdir()
    ids = await exports.ingest(50)
    destination = await exports.save(backup=exports.place("safe", "backup"))
    run = await exports.ask(destination)
    async with exports.process() as process:
        assert await process.take_up()
        assert kinds(await exports.run(run)) == [("client", "SUCCEEDED"), ("backup", "PENDING")]
        with pytest.raises(NotPublished):
            await process.exporter.verify(run.run_id, BACKUP)
        assert await process.take_up()
        assert await process.exporter.verify(run.run_id, BACKUP) == []

    done = await exports.run(run)
    assert kinds(done) == [("client", "SUCCEEDED"), ("backup", "SUCCEEDED")]
    assert exports.ids() == exports.ids("backup", "safe/") == sorted(ids)
    assert not [name for name in exports.names() if "metering" in name]
    [name] = [name for name in exports.names("backup") if "metering" in name]
    day = run.begun_at.date().isoformat()
    assert name == f"safe/metering/day={day}/{run.through:019}-{run.run_id}.json"
    data = (exports.server.folder / "backup" / name).read_bytes()
    metering = msgspec.json.decode(data, type=Metering)
    assert (metering.run_id, metering.destination_id) == (run.run_id, destination.destination_id)
    backup = done.targets[1]
    assert (metering.events, metering.bytes, metering.files) == (50, backup.bytes, 1)
    assert (metering.after, metering.through, metering.site_id) == (0, run.through, "shop")


async def test_a_backfill_stands_beside_the_chain(exports: Exports) -> None:
    await exports.ingest(500)
    destination = await exports.save()
    since, until = NOON - timedelta(days=3), NOON - timedelta(days=1)
    async with exports.process() as process:
        backfill = await exports.ask(destination, since=since, until=until)
        chained = await exports.ask(destination)
        again = await exports.ask(destination, since=since, until=until)
        assert await process.take_up()
        assert await process.take_up()
        assert await process.exporter.verify(backfill.run_id, CLIENT) == []

    assert again.run_id == backfill.run_id != chained.run_id
    assert (backfill.after, chained.after) == (0, 0)
    manifests = await manifests_of(exports.reader, [backfill.run_id, chained.run_id])
    found = manifests[backfill.run_id, CLIENT]
    assert found.is_backfill
    assert 0 < found.taken.events < 500
    assert manifests[chained.run_id, CLIENT].taken.events == 500
    assert (await exports.stored(destination)).planned_through == 1


async def test_what_was_changed_after_the_plan_holds_for_the_next_run(exports: Exports) -> None:
    await exports.ingest(30)
    destination = await exports.save()
    first = await exports.ask(destination)
    layout = msgspec.structs.replace(destination.destination.layout, fields=("event_type",))
    await exports.save(destination, layout=layout)
    async with exports.process() as process:
        assert await process.take_up()
        second = await exports.ask(destination)
        assert await process.take_up()

    manifests = await manifests_of(exports.reader, [first.run_id, second.run_id])
    assert len(manifests[first.run_id, CLIENT].fields) == 12
    assert manifests[second.run_id, CLIENT].fields == ("event_id", "event_type")


async def test_a_ledger_that_was_put_back_loses_nothing_of_what_comes_then(
    exports: Exports,
) -> None:
    destination = await exports.save(schedule=REALTIME)
    async with exports.process() as process:
        lost: list[str] = []
        for count in (10, 20, 30):
            lost = await exports.ingest(count)
            await exports.ask(destination)
            await process.take_up()
        # As after a failover to a standby that was behind.
        gone = "select batch_id from ingest_batches where position > 1"
        await exports.rows(f"delete from events where batch_id in ({gone})")
        await exports.rows("delete from ingest_batches where position > 1")
        new = await exports.ingest(5)
        exports.wait(minutes=1)
        async with asyncio.timeout(30):
            while (mark := await process.copy.store.watermark()) is None or mark.position != 2:
                await asyncio.sleep(0.02)
        assert await process.exporter.plan(exports.now()) == 1
        assert await process.take_up()
        new += await exports.ingest(7)
        run = await exports.ask(destination)
        assert await process.take_up()

    runs = await exports.runs(destination)
    assert [(one.after, one.through) for one in runs] == [(0, 1), (1, 2), (2, 3), (1, 2), (2, 3)]
    assert [one.client.events for one in runs] == [10, 20, 30, 5, 7]
    assert run.number == 5
    assert set(new) < set(exports.ids())
    assert set(lost) < set(exports.ids())


async def test_a_paused_destination_rests_until_it_goes_on(exports: Exports) -> None:
    await exports.ingest(3)
    destination = await exports.save()
    run = await exports.ask(destination)
    async with transaction(exports.engine) as connection:
        paused = await set_paused(
            connection, destination.destination_id, exports.now(), paused=True
        )
    assert paused is not None
    assert paused.pauses[CLIENT].reason is None
    async with exports.process() as process:
        assert not await process.take_up()
        assert await process.exporter.plan(exports.now() + timedelta(days=1)) == 0
        with pytest.raises(DestinationPaused, match="'Lake' is paused"):
            await exports.ask(destination)
        async with transaction(exports.engine) as connection:
            await set_paused(connection, destination.destination_id, exports.now(), paused=False)
        assert await process.take_up()
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED
    with pytest.raises(NothingToRetry):
        await exports.retry(run)


async def test_a_deleted_destination_ends_with_its_runs_and_keeps_nothing_secret(
    exports: Exports,
) -> None:
    destination = await exports.save()
    run = await exports.ask(destination)
    async with transaction(exports.engine) as connection:
        assert await delete_destination(connection, destination.destination_id, exports.now())
        assert not await delete_destination(connection, destination.destination_id, exports.now())

    done = await exports.run(run)
    assert (done.status, done.client.reason) == (RunStatus.DEAD, "DELETED")
    with pytest.raises(NoDestination):
        await exports.ask(destination)
    rows = await exports.rows(
        "select client_secret, backup_secret, webhook_secret, hook_hash from export_destinations"
    )
    assert rows == [(None, None, None, None)]
    async with exports.process() as process:
        assert not await process.take_up()


async def test_processes_share_the_targets_and_none_is_written_twice(exports: Exports) -> None:
    (exports.server.folder / "backup").mkdir()
    ids = []
    async with exports.process(takes_up=True), exports.process(takes_up=True):
        places = [
            (exports.place(f"p{one}"), exports.place(f"p{one}", "backup")) for one in range(4)
        ]
        found = [
            await exports.save(name=f"Lake {one}", client=client, backup=backup)
            for one, (client, backup) in enumerate(places)
        ]
        for _ in range(2):
            ids += await exports.ingest(200)
            runs = [await exports.ask(destination) for destination in found]
            for run in runs:
                await exports.until_done(run, "SUCCEEDED")
        async with asyncio.timeout(30):
            while await exports.rows("select 1 from export_targets where status <> 'SUCCEEDED'"):
                await asyncio.sleep(0.02)

    for number in range(4):
        assert exports.ids(prefix=f"p{number}/") == sorted(ids)
        assert exports.ids("backup", f"p{number}/") == sorted(ids)
    assert await exports.rows("select distinct attempts, hold_id from export_targets") == [(1, 1)]


async def test_lag_is_what_no_published_run_has(exports: Exports) -> None:
    await exports.ingest(10)
    destination = await exports.save()
    found = [destination]
    async with exports.process() as process:
        await process.caught_up()
        waiting = (await process.exporter.lags(found))[destination.destination_id]
        run = await exports.ask(destination)
        await exports.ingest(5)
        await exports.ingest(7, "blog")
        await process.caught_up()
        planned = await exports.stored(destination)
        both = (await process.exporter.lags([planned]))[destination.destination_id]
        assert await unpublished(exports.reader, [destination.destination_id]) == {
            destination.destination_id: [(0, 1)]
        }
        await process.exporter.measure()
        measured = exports.metric("lag_events", destination=str(destination.destination_id))
        await process.take_up()
        after = (await process.exporter.lags([planned]))[destination.destination_id]
        await exports.ask(destination)
        await process.take_up()
        nothing = await process.exporter.lags([await exports.stored(destination)])

    assert (await exports.run(run)).status is RunStatus.SUCCEEDED
    assert (waiting.events, both.events, measured, after.events) == (10, 15, 15, 5)
    assert waiting.since == both.since
    assert after.since is not None
    assert waiting.since is not None
    assert after.since > waiting.since
    assert nothing[destination.destination_id].events == 0
    assert nothing[destination.destination_id].since is None


async def test_credentials_are_nowhere_to_be_read(exports: Exports) -> None:
    await exports.ingest(3)
    destination = await exports.save(backup=exports.place("other"))
    await exports.ask(destination)
    async with exports.process() as process:
        await process.take_up()
        opened = await exports.buckets.kept_key(destination.destination_id, CLIENT)
        said = repr((process.exporter, destination, opened, exports.buckets))
    tables = ("export_destinations", "export_runs", "export_targets", "admin_log")
    rows = [str(await exports.rows(f"select * from {table}")) for table in tables]

    assert opened is not None
    assert opened.secret == SECRET
    assert SECRET not in said
    assert not [row for row in rows if SECRET in row]
    client = await exports.database.connect("replica_user")
    try:
        for column in ("client_secret", "backup_secret", "webhook_secret", "hook_hash"):
            with pytest.raises(Exception, match="permission denied"):
                await client.fetch(f"select {column} from export_destinations")
    finally:
        await client.close()


async def test_a_run_by_schedule_threshold_and_realtime(exports: Exports) -> None:
    # Half past some hour, whenever this runs.
    exports.wait(minutes=90 - exports.now().minute)
    made = {
        "HOURLY": await exports.save(schedule="HOURLY", client=exports.place("hourly")),
        REALTIME: await exports.save(schedule=REALTIME, client=exports.place("realtime")),
        "MANUAL": await exports.save(threshold_events=20, client=exports.place("threshold")),
    }
    start = exports.now()
    planned: dict[str, list[str]] = {}
    async with exports.process() as process:

        async def plan(**later: float) -> None:
            exports.wait(seconds=(start + timedelta(**later) - exports.now()).total_seconds())
            await process.caught_up()
            await process.exporter.plan(exports.now())
            for _ in range(len(made)):
                await process.exporter.take_up()
            for name, destination in made.items():
                runs = await exports.runs(destination)
                planned[name] = [run.trigger.value for run in runs]

        await plan(seconds=1)
        assert planned == {"HOURLY": [], REALTIME: [], "MANUAL": []}
        await exports.ingest(10)
        await plan(seconds=2)
        assert planned == {"HOURLY": [], REALTIME: ["SCHEDULE"], "MANUAL": []}
        await exports.ingest(10)
        await plan(seconds=3)
        assert planned == {"HOURLY": [], REALTIME: ["SCHEDULE"], "MANUAL": ["THRESHOLD"]}
        await plan(minutes=1)
        assert planned[REALTIME] == ["SCHEDULE", "SCHEDULE"]
        await plan(hours=1, minutes=1)
        assert planned["HOURLY"] == ["SCHEDULE"]
        await plan(hours=2, minutes=2)
        assert planned["HOURLY"] == ["SCHEDULE"]

    hourly = await exports.stored(made["HOURLY"])
    assert hourly.next_run_at is not None
    assert hourly.next_run_at > start + timedelta(hours=2)
    assert (hourly.next_run_at.minute, hourly.next_run_at.second) == (0, 0)
    for prefix in ("hourly/", "realtime/", "threshold/"):
        assert len(exports.ids(prefix=prefix)) == 20


async def test_what_falls_due_while_a_run_is_under_way_waits_and_covers_everything_since(
    exports: Exports,
) -> None:
    destination = await exports.save(schedule=REALTIME)
    async with exports.process() as process:
        await exports.ingest(3)
        await process.caught_up()
        assert await process.exporter.plan(exports.now()) == 1
        for _ in range(3):
            await exports.ingest(2)
            exports.wait(minutes=2)
            await process.caught_up()
            assert await process.exporter.plan(exports.now()) == 0
        await process.take_up()
        assert await process.exporter.plan(exports.now()) == 1
        await process.take_up()

    runs = await exports.runs(destination)
    assert [(run.after, run.through, run.client.events) for run in runs] == [(0, 1, 3), (1, 4, 6)]
    assert [run.trigger for run in runs] == [Trigger.SCHEDULE] * 2


async def test_nothing_of_the_service_stands_in_the_files_that_a_client_gets(
    exports: Exports,
) -> None:
    await exports.ingest(2)
    await exports.ask(await exports.save())
    async with exports.process() as process:
        await process.take_up()
    [manifest] = [name for name in exports.names() if "manifests" in name]
    text = (exports.server.folder / BUCKET / manifest).read_text()
    assert SECRET not in text
    assert json.loads(text)["files"][0]["rows"] == 2
