"""What goes wrong with exports, and what becomes of it: tried again, resting, or dead."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from duckdb import DuckDBPyConnection

from data.exports.destination import REALTIME
from data.exports.layout import MIN_FILE_BYTES
from data.exports.notices import NoticeKind
from data.exports.records import RunStatus, StoredDestination, StoredRun
from data.postgres.engine import READER, WRITER, LedgerUnavailable
from data.postgres.export_pauses import Standing, standing
from data.postgres.export_runs import manifests_of
from data.s3.places import AccessKey
from tests.data.exports.test_files import files_of_at_most
from tests.fixtures.exporting import (
    BACKUP,
    CLIENT,
    KEY,
    LINES,
    SECONDS,
    SMALL_FILES,
    Exports,
    kinds,
    never_again,
)
from tests.fixtures.s3 import KEY_ID, SECRET, Gate, running_cloud, running_gate, running_s3
from tests.fixtures.service import ROOT, clean_environment

HOOK = "https://hooks.example/exports"


async def notices(exports: Exports) -> list[tuple[str, str]]:
    """Kind and target of what the webhook is to be told, in order."""
    rows = await exports.rows("select kind, body from export_notices order by created_at")
    return [(kind, json.loads(body)["data"]["target"]) for kind, body in rows]


async def end_holds(exports: Exports) -> None:
    """As if the time of every claim were over."""
    await exports.rows("update export_targets set held_until = clock_timestamp()")


async def test_a_wrong_secret_pauses_the_destination_until_it_is_saved_with_another(
    exports: Exports,
) -> None:
    ids = await exports.ingest(20)
    wrong = AccessKey(KEY_ID, "not-the-secret")
    destination = await exports.save(key=wrong, webhook_url=HOOK)
    run = await exports.ask(destination)
    async with exports.process() as process:
        assert await process.take_up()
        failed = await exports.run(run)
        paused = await exports.stored(destination)
        exports.wait(hours=24)
        assert not await process.take_up()

        assert (failed.status, failed.client.reason) == (RunStatus.FAILED, "WRONG_SECRET")
        assert failed.client.next_attempt_at is None
        told = "the secret does not belong to the access key: enter both again"
        assert failed.client.error == paused.pauses[CLIENT].reason == told
        assert await notices(exports) == [(NoticeKind.PAUSED, "client")]
        assert await exports.logged() == ["export.paused"]
        assert await standing(exports.reader) == Standing(1, ["Lake"], 0)

        saved = await exports.save(destination)
        assert saved.pauses == {}
        assert await process.take_up()
    done = await exports.run(run)
    assert (done.status, done.client.attempts) == (RunStatus.SUCCEEDED, 1)
    assert exports.ids() == sorted(ids)
    assert [kind for kind, _ in await notices(exports)] == ["export.paused", "export.succeeded"]


async def test_an_attempt_by_credentials_that_were_replaced_meanwhile_pauses_nothing(
    exports: Exports,
) -> None:
    await exports.ingest(20)
    async with exports.process() as process, running_gate(exports.server) as gate:
        place, wrong = exports.place(endpoint=gate.endpoint), AccessKey(KEY_ID, "not-the-secret")
        destination = await exports.save(client=place, key=wrong)
        run = await exports.ask(destination)
        exports.server.freeze()
        taking = asyncio.create_task(process.take_up())
        async with asyncio.timeout(SECONDS):
            while not gate.connections:
                await asyncio.sleep(0.02)
        await exports.save(destination)
        exports.server.thaw()
        assert await taking
        assert (await exports.stored(destination)).pauses == {}
        assert (await exports.run(run)).status is RunStatus.FAILED
        assert await process.take_up()
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED


async def test_a_bucket_that_is_gone_ends_the_run_until_somebody_asks_for_it_again(
    exports: Exports,
) -> None:
    ids = await exports.ingest(20)
    destination = await exports.save(webhook_url=HOOK, schedule=REALTIME)
    run = await exports.ask(destination)
    exports.server.remove_bucket()
    async with exports.process() as process:
        assert await process.take_up()
        dead = await exports.run(run)
        paused = await exports.stored(destination)
        ids += await exports.ingest(5)
        await process.caught_up()
        exports.wait(minutes=5)
        # Not one run after the other that must fail.
        assert await process.exporter.plan(exports.now()) == 0

        assert (dead.status, dead.client.reason) == (RunStatus.DEAD, "NO_BUCKET")
        assert dead.client.error == paused.pauses[CLIENT].reason
        assert "there is no bucket their-events" in (dead.client.error or "")
        assert await notices(exports) == [("export.dead", "client"), ("export.paused", "client")]
        assert await exports.logged() == ["export.dead", "export.paused"]
        assert await standing(exports.reader) == Standing(1, ["Lake"], 1)

        # The server remembers what it has seen of a folder.
        await exports.server.kill()
        await exports.server.start()
        again = await exports.retry(run)
        assert (again.status, again.client.attempts, again.client.error) == ("PENDING", 0, None)
        assert (await exports.stored(destination)).pauses == {}
        assert await process.take_up()
        assert await process.exporter.plan(exports.now()) == 1
        assert await process.take_up()
    assert [run.status for run in await exports.runs(destination)] == [RunStatus.SUCCEEDED] * 2
    assert exports.ids() == sorted(ids)


async def test_a_key_without_permission_is_told_what_it_lacks(exports: Exports) -> None:
    await exports.ingest(20)
    async with running_cloud(1 + 3 * 2) as cloud, exports.process() as process:
        users = await asyncio.to_thread(
            cloud.set_up,
            {"reader": ["s3:GetObject"], "writer": ["s3:PutObject", "s3:DeleteObject"]},
        )
        place = exports.place(endpoint=cloud.endpoint)
        destination = await exports.save(client=place, key=users["reader"])
        run = await exports.ask(destination)
        assert await process.take_up()
        refused = await exports.run(run)
        # Without leave to list and to read, the second attempt stands on its own.
        await exports.save(destination, key=users["writer"])
        assert await process.take_up()

    assert (refused.status, refused.client.reason) == (RunStatus.FAILED, "NO_PERMISSION")
    assert refused.client.error == (
        "permission is missing: allow s3:PutObject on arn:aws:s3:::their-events/exports/*"
    )
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED


async def test_a_server_that_is_busy_for_a_while_is_tried_again_and_told_of_once(
    exports: Exports,
) -> None:
    ids = await exports.ingest(20)
    async with running_gate(exports.server) as gate, exports.process() as process:
        place = exports.place(endpoint=gate.endpoint)
        destination = await exports.save(client=place, webhook_url=HOOK)
        run = await exports.ask(destination)
        gate.busy = 1_000
        assert await process.take_up()
        first = await exports.run(run)
        # Not before its time.
        assert not await process.take_up()
        for _ in range(3):
            exports.wait(minutes=15)
            assert await process.take_up()
        late = await exports.run(run)
        gate.busy = 0
        exports.wait(minutes=15)
        assert await process.take_up()

    assert (first.status, first.client.reason) == (RunStatus.FAILED, "BUSY")
    assert first.client.next_attempt_at is not None
    assert "does not keep up now" in (first.client.error or "")
    assert (late.status, late.client.attempts) == (RunStatus.FAILED, 4)
    done = await exports.run(run)
    assert (done.status, done.client.attempts, done.client.error) == ("SUCCEEDED", 5, None)
    assert (await exports.stored(destination)).pauses == {}
    assert exports.ids() == sorted(ids)
    assert await notices(exports) == [("export.failed", "client"), ("export.succeeded", "client")]


async def test_a_network_that_is_cut_in_the_middle_of_a_part_leaves_nothing_behind(
    exports: Exports,
) -> None:
    ids = await exports.ingest(15_000, size=1_000)
    async with running_gate(exports.server) as gate, exports.process() as process:
        destination = await exports.save(client=exports.place(endpoint=gate.endpoint))
        run = await exports.ask(destination)
        gate.bytes_left = 9 * 1024 * 1024
        assert await process.take_up()
        cut = await exports.run(run)
        gate.bytes_left = None
        exports.wait(minutes=1)
        assert await process.take_up()
        assert await process.exporter.verify(run.run_id, CLIENT) == []

    assert (cut.status, cut.client.reason) == (RunStatus.FAILED, "BROKE_OFF")
    assert exports.ids() == sorted(ids)
    files = [name for name in exports.names() if "/events/" in name]
    assert files
    assert [name for name in files if f"-{run.run_id}-002-" not in name] == []


async def test_a_full_disk_is_waited_out(exports: Exports) -> None:
    ids = await exports.ingest(4_000, size=600)
    destination = await exports.save(layout=SMALL_FILES)
    run = await exports.ask(destination)
    async with exports.process() as process:
        await process.caught_up()
        with files_of_at_most(100_000):
            assert await process.exporter.take_up()
        full = await exports.run(run)
        exports.wait(minutes=1)
        assert await process.take_up()

    assert (full.status, full.client.reason) == (RunStatus.FAILED, "DISK_FULL")
    assert "is full: free some room" in (full.client.error or "")
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED
    assert exports.ids() == sorted(ids)


async def test_a_backup_that_is_down_holds_up_nothing_and_catches_up(
    exports: Exports, tmp_path: Path
) -> None:
    ids = []
    async with exports.process() as process, running_s3(tmp_path / "other") as other:
        backup = exports.place("safe", endpoint=other.endpoint)
        destination = await exports.save(backup=backup, webhook_url=HOOK)
        await other.kill()
        runs = []
        for _ in range(3):
            ids += await exports.ingest(10)
            runs.append(await exports.ask(destination))
            while await process.take_up():
                pass
        states = [kinds(await exports.run(run)) for run in runs]
        assert states == [[("client", "SUCCEEDED"), ("backup", "FAILED")]] * 3
        assert (await exports.run(runs[0])).targets[1].reason == "UNREACHABLE"
        assert (await exports.stored(destination)).pauses == {}

        await other.start()
        exports.wait(hours=1)
        while await process.take_up():
            pass
        problems = [await process.exporter.verify(run.run_id, BACKUP) for run in runs]
    states = [kinds(await exports.run(run)) for run in runs]
    assert states == [[("client", "SUCCEEDED"), ("backup", "SUCCEEDED")]] * 3
    assert problems == [[]] * 3
    assert exports.ids() == sorted(ids)
    assert await notices(exports) == [("export.succeeded", "client")] * 3


async def test_a_refused_backup_rests_alone(exports: Exports) -> None:
    (exports.server.folder / "backup").mkdir()
    await exports.ingest(10)
    wrong = AccessKey(KEY_ID, "not-the-secret")
    destination = await exports.save(
        backup=exports.place("safe", "backup"), backup_key=wrong, webhook_url=HOOK
    )
    first = await exports.ask(destination)
    async with exports.process() as process:
        while await process.take_up():
            pass
        assert set((await exports.stored(destination)).pauses) == {BACKUP}
        second = await exports.ask(destination)
        while await process.take_up():
            pass
        assert kinds(await exports.run(first)) == [("client", "SUCCEEDED"), ("backup", "FAILED")]
        assert kinds(await exports.run(second)) == [("client", "SUCCEEDED"), ("backup", "PENDING")]
        await exports.save(destination, backup_key=KEY)
        while await process.take_up():
            pass
    assert [kinds(run)[1] for run in await exports.runs(destination)] == [
        ("backup", "SUCCEEDED")
    ] * 2
    assert ("export.paused", "backup") in await notices(exports)


async def test_what_fails_again_and_again_is_dead_and_does_not_block_the_chain(
    exports: Exports,
) -> None:
    ids = await exports.ingest(10)
    destination = await exports.save(webhook_url=HOOK)
    run = await exports.ask(destination)
    await exports.server.kill()
    async with exports.process(retry=never_again(3)) as process:
        for _ in range(3):
            assert await process.take_up()
            exports.wait(minutes=1)
        assert not await process.take_up()
        dead = await exports.run(run)
        await exports.server.start()
        ids += await exports.ingest(5)
        following = await exports.ask(destination)
        assert following.after == run.through
        assert await process.take_up()
        await exports.retry(run)
        assert await process.take_up()

    assert (dead.status, dead.client.attempts) == (RunStatus.DEAD, 3)
    assert (dead.client.error or "").startswith("given up after 3 attempts: there is no connection")
    assert [kind for kind, _ in await notices(exports)] == [
        "export.failed",
        "export.dead",
        "export.succeeded",
        "export.succeeded",
    ]
    assert exports.ids() == sorted(ids)


async def test_what_was_published_stays_though_its_metering_cannot_be_written(
    exports: Exports,
) -> None:
    ids = await exports.ingest(10)
    (exports.server.folder / "backup" / "safe").mkdir(parents=True)
    # Where a folder should be.
    (exports.server.folder / "backup" / "safe" / "metering").write_text("in the way")
    destination = await exports.save(backup=exports.place("safe", "backup"))
    run = await exports.ask(destination)
    async with exports.process(retry=never_again(2)) as process:
        assert await process.take_up()
        for _ in range(2):
            assert await process.take_up()
            exports.wait(minutes=1)
        assert kinds(await exports.run(run)) == [("client", "SUCCEEDED"), ("backup", "DEAD")]
        assert exports.ids("backup", "safe/") == sorted(ids)

        (exports.server.folder / "backup" / "safe" / "metering").unlink()
        # The server remembers what it has seen of a folder.
        await exports.server.kill()
        await exports.server.start()
        await exports.retry(run)
        assert await process.take_up()
        assert await process.exporter.verify(run.run_id, BACKUP) == []
    assert kinds(await exports.run(run)) == [("client", "SUCCEEDED"), ("backup", "SUCCEEDED")]
    assert len([name for name in exports.names("backup") if "/metering/" in name]) == 1


async def test_a_copy_that_disagrees_with_the_ledger_publishes_nothing(exports: Exports) -> None:
    await exports.ingest(10)
    destination = await exports.save()
    run = await exports.ask(destination)

    def spoil(cursor: DuckDBPyConnection) -> None:
        cursor.execute("delete from events where event_id = (select min(event_id) from events)")

    async with exports.process() as process:
        await process.caught_up()
        await process.copy.store._runner.run("spoil", "write", spoil)
        assert await process.take_up()
    dead = await exports.run(run)
    assert (dead.status, dead.client.reason) == (RunStatus.DEAD, "COPY_DIFFERS")
    assert "footfall rebuild" in (dead.client.error or "")
    assert exports.names() == []
    assert (await exports.stored(destination)).pauses == {}


async def test_credentials_that_cannot_be_read_any_more_pause_with_a_sentence(
    exports: Exports,
) -> None:
    await exports.ingest(10)
    destination = await exports.save()
    run = await exports.ask(destination)
    (exports.home / "master-keys.json").unlink()
    async with exports.process() as process:
        assert await process.take_up()
        failed = await exports.run(run)
        assert (failed.status, failed.client.reason) == (RunStatus.FAILED, "CREDENTIALS_UNREADABLE")
        await exports.save(destination)
        assert await process.take_up()
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED


async def test_a_run_that_was_published_while_the_ledger_went_away_is_found_and_noted(
    exports: Exports,
) -> None:
    ids = await exports.ingest(10)
    destination = await exports.save(webhook_url=HOOK)
    run = await exports.ask(destination)
    async with exports.process(outcome_tries=1) as process:
        await process.caught_up()
        # What the last step needs is missing for a moment.
        await exports.rows("alter table admin_log rename to away")
        with pytest.raises(LedgerUnavailable):
            await process.exporter.take_up()
        await exports.rows("alter table away rename to admin_log")
        assert (await exports.run(run)).status is RunStatus.RUNNING
        before = exports.names()
        assert not await process.take_up()
        await end_holds(exports)
        assert await process.take_up()

    done = await exports.run(run)
    assert (done.status, done.client.attempts) == (RunStatus.SUCCEEDED, 2)
    assert exports.names() == before
    assert exports.ids() == sorted(ids)
    assert await notices(exports) == [("export.succeeded", "client")]


async def test_who_cannot_reach_the_ledger_stops_before_another_may_begin(
    exports: Exports,
) -> None:
    ids = await exports.ingest(10)
    async with running_gate(exports.server) as gate:
        destination = await exports.save(client=exports.place(endpoint=gate.endpoint))
        run = await exports.ask(destination)
        # Less patience than a claim lasts, so that the test need not wait for so long.
        pace: dict[str, Any] = {"renew_every": 0.2, "renewal": 6.5, "outcome_tries": 1}
        async with exports.process(**pace) as process:
            await process.caught_up()
            exports.server.freeze()
            taking = asyncio.create_task(process.exporter.take_up())
            async with asyncio.timeout(SECONDS):
                while not gate.connections:
                    await asyncio.sleep(0.02)
            await exports.rows("alter table export_targets rename to away")
            with pytest.raises(LedgerUnavailable):
                await taking
            await exports.rows("alter table away rename to export_targets")
            exports.server.thaw()
            assert (await exports.run(run)).client.is_held
            assert not exports.ids()
            await end_holds(exports)
            assert await process.take_up()
    assert (await exports.run(run)).status is RunStatus.SUCCEEDED
    assert exports.ids() == sorted(ids)


async def test_runs_at_which_every_process_dies_are_given_up(exports: Exports) -> None:
    await exports.ingest(10)
    run = await exports.ask(await exports.save())
    await exports.rows("update export_targets set attempts = 3, status = 'RUNNING'")
    async with exports.process(retry=never_again(3)) as process:
        assert await process.take_up()
    dead = await exports.run(run)
    assert (dead.status, dead.client.reason) == (RunStatus.DEAD, "KILLED")
    assert exports.names() == []


async def test_a_definition_of_a_newer_version_is_dead_and_says_so(exports: Exports) -> None:
    await exports.ingest(10)
    destination = await exports.save()
    run = await exports.ask(destination)
    unknown = '{"filter": {"fields": [["shoe_size", {"eq": "42"}]]}}'
    await exports.rows("update export_runs set layout = $1::jsonb", unknown)
    async with exports.process() as process:
        assert not await process.take_up()
    await exports.rows("update export_runs set layout = '{}'")
    dead = await exports.run(run)
    assert (dead.status, dead.client.reason) == (RunStatus.DEAD, "INVALID")


async def test_a_process_that_ends_hands_its_work_on_at_once(exports: Exports) -> None:
    ids = await exports.ingest(15_000, size=1_000)
    async with running_gate(exports.server) as gate:
        destination = await exports.save(client=exports.place(endpoint=gate.endpoint))
        async with exports.process(takes_up=True):
            gate.stop_after = 4 * 2**20
            run = await exports.ask(destination)
            await gate.until_stopped()
            # For what there is to clear up at the end.
            gate.stop_after = None
        handed = await exports.run(run)
        async with exports.process() as process:
            assert await process.take_up()
    assert not handed.client.is_held
    done = await exports.run(run)
    # What was given up on purpose is no failure.
    assert (done.status, done.client.attempts) == (RunStatus.SUCCEEDED, 1)
    assert exports.ids() == sorted(ids)


@asynccontextmanager
async def another_process(exports: Exports) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real process that takes up what is due."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.data.exporter_process"),
        *(exports.database.url(WRITER), exports.database.url(READER), str(exports.home)),
        cwd=ROOT,
        env=clean_environment(exports.home),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()


async def until_writing(exports: Exports, run: StoredRun) -> None:
    """Return when a process has files of the run in the bucket, and is still at it."""
    async with asyncio.timeout(SECONDS):
        while not [name for name in exports.names() if str(run.run_id) in name]:
            found = await exports.run(run)
            assert found.status in (RunStatus.PENDING, RunStatus.RUNNING), found.client.error
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def gate(exports: Exports) -> AsyncIterator[Gate]:
    """What stands before the server."""
    async with running_gate(exports.server) as opened:
        yield opened


async def large_run(exports: Exports, gate: Gate) -> tuple[list[str], StoredDestination, StoredRun]:
    """A run of many small files, which takes a while."""
    ids = await exports.ingest(12_000, size=1_000)
    # Some files get through, and then none does.
    gate.stop_after = 4 * MIN_FILE_BYTES
    place = exports.place(endpoint=gate.endpoint)
    destination = await exports.save(client=place, layout=SMALL_FILES)
    return ids, destination, await exports.ask(destination)


async def test_what_a_killed_process_has_left_is_cleared_and_written_by_another(
    exports: Exports, gate: Gate
) -> None:
    ids, _, run = await large_run(exports, gate)
    async with another_process(exports) as killed:
        await until_writing(exports, run)
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
    gate.stop_after = None
    half = await exports.run(run)
    assert half.status is RunStatus.RUNNING
    left = [name for name in exports.names() if f"{run.run_id}-001-" in name]
    assert left
    assert not [name for name in exports.names() if "manifests" in name]

    async with exports.process(takes_up=True) as process:
        await exports.until_done(run, "SUCCEEDED", "FAILED", "DEAD")
        assert await process.exporter.verify(run.run_id, CLIENT) == []
    done = await exports.run(run)
    assert (done.status, done.client.attempts) == (RunStatus.SUCCEEDED, 2)
    assert not set(left) & set(exports.names())
    assert exports.ids() == sorted(ids)


async def test_a_frozen_process_that_wakes_up_spoils_nothing(exports: Exports, gate: Gate) -> None:
    ids, destination, run = await large_run(exports, gate)
    async with another_process(exports) as frozen:
        await until_writing(exports, run)
        os.kill(frozen.pid, signal.SIGSTOP)
        gate.stop_after = None
        async with exports.process(takes_up=True) as process:
            done = await exports.until_done(run, "SUCCEEDED", "FAILED", "DEAD")
            assert done.client.attempts == 2
            os.kill(frozen.pid, signal.SIGCONT)
            # It may finish the file that it was at, and takes that away again.
            rounds = 0
            async with asyncio.timeout(SECONDS):
                while rounds < 20:
                    strange = [one for one in exports.names() if f"{run.run_id}-001-" in one]
                    rounds = 0 if strange else rounds + 1
                    await asyncio.sleep(0.1)
            assert await process.exporter.verify(run.run_id, CLIENT) == []
        # And it goes on with what comes next.
        following = await exports.ask(await exports.stored(destination))
        await exports.until_done(following, "SUCCEEDED")
        assert frozen.returncode is None
    manifest = (await manifests_of(exports.reader, [run.run_id]))[run.run_id, CLIENT]
    assert all(f"{run.run_id}-002-" in file.name for file in manifest.files)
    assert exports.ids() == sorted(ids)


async def test_no_error_of_a_run_names_a_credential(exports: Exports) -> None:
    await exports.ingest(3)
    await exports.ask(await exports.save(key=AccessKey("AKIAWRONGWRONGWRONG1", SECRET)))
    async with exports.process() as process:
        await process.take_up()
    rows = str(await exports.rows("select * from export_targets"))
    assert "WRONG_KEY" in rows
    assert SECRET not in rows
    assert "AKIAWRONGWRONGWRONG1" not in rows
    assert LINES.filter is None
