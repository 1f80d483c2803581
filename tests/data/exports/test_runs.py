"""Runs from a real ledger into a real bucket: complete, proved, or not to be seen at all."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import duckdb
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.duckdb.store import DuckDBStore, open_copy
from data.events import Event
from data.exports.failures import CopyDiffers, DiskFull
from data.exports.layout import (
    MIN_FILE_BYTES,
    Compression,
    FileFormat,
    Layout,
    Selection,
)
from data.exports.manifest import Manifest, ManifestFile, decode_manifest, encode_manifest
from data.exports.orders import RunOrder
from data.exports.runs import RunParts, clear_run, published, write_run
from data.exports.tally import Proof
from data.exports.verification import chain_problems, verify
from data.postgres.append import append, make_partitions_ahead
from data.postgres.engine import LedgerUnavailable
from data.postgres.exports import ledger_proof
from data.postgres.feed import copy_slice, feed_state, ledger_id, next_slice
from data.queries import EventFilter, Field, StringFilter
from data.s3.bucket import Bucket, open_bucket
from data.s3.clients import Pace
from data.s3.failures import BucketFailed, Reason, Verdict
from data.s3.places import BucketPlace
from tests.data.exports.conftest import proof_of
from tests.data.exports.readers import by_python
from tests.data.exports.test_files import files_of_at_most, noise
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import S3Server, running_gate

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
# One attempt, with time for a busy machine: what is refused or cut off fails at once all the same.
QUICK = Pace(connect=20, read=30, attempts=1)
SMALL = Layout(FileFormat.JSONL, Compression.NONE, max_file_bytes=MIN_FILE_BYTES)


@dataclass(slots=True)
class World:
    """A ledger, a copy that follows it, and a server with a bucket."""

    database: Database
    ledger: AsyncEngine
    store: DuckDBStore
    folder: Path
    server: S3Server
    events: list[Event] = field(default_factory=list)
    now: datetime = NOW

    async def ingest(self, *events: Event) -> None:
        """Commit events, of which some may be known already, and let the copy follow."""
        appended = await append(self.ledger, events, [])
        self.events += [
            event for event, is_new in zip(events, appended.fresh, strict=True) if is_new
        ]
        watermark = await self.store.watermark()
        position = watermark.position if watermark else 0
        while piece := await next_slice(self.ledger, position, most_events=50_000):
            rows = self.folder / "slice.csv"
            await copy_slice(self.ledger, piece, rows)
            await self.store.apply(rows, piece.events, piece.last)
            position = piece.last.position

    async def lose_events(self, count: int) -> None:
        """Delete events of the site from the ledger, which nobody else may do."""
        connection = await self.database.connect()
        try:
            await connection.execute(
                "delete from events where event_id in"
                " (select event_id from events where site_id = 'site' limit $1)",
                count,
            )
        finally:
            await connection.close()

    async def newest(self) -> int:
        """The last position of the feed."""
        return (await feed_state(self.ledger, 0)).newest

    @property
    def parts(self) -> RunParts:
        """What runs need."""
        return RunParts(lambda: self.store, self.folder / "exports", self.proof, lambda: self.now)

    async def proof(self, selection: Selection) -> Proof:
        """What the ledger holds."""
        return await ledger_proof(self.ledger, selection)

    def order(self, after: int, through: int, layout: Layout = SMALL) -> RunOrder:
        """A run of the site `site`."""
        return RunOrder(uuid4(), self.now, Selection("site", after, through), layout, "exports")

    def bucket(self, place: BucketPlace | None = None, pace: Pace = QUICK):  # type: ignore[no-untyped-def]
        """The bucket, open."""
        return open_bucket(place or self.server.place(), allow_private=True, pace=pace)


def events_of(numbers: Sequence[int], size: int = 20, **given: object) -> list[Event]:
    return [
        Event(
            event_id=UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128),
            site_id="other" if number % 7 == 6 else "site",
            event_type=f"kind-{number % 3}",
            occurred_at=NOW - timedelta(minutes=number * 37 % 20_000),
            received_at=NOW,
            user_id=f"u-{number % 11}",
            url=noise(number, size),
            properties=json.dumps({"n": number}),
            **given,  # type: ignore[arg-type]
        )
        for number in numbers
    ]


@pytest.fixture
async def world(
    database: Database, writer: AsyncEngine, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[World]:
    """An empty ledger, followed, and an empty bucket."""
    await make_partitions_ahead(writer, NOW)
    slot = tmp_path / "slot"
    slot.mkdir()
    whose = str(await ledger_id(writer))
    async with open_copy(slot / "copy.duckdb", ledger_id=whose, memory_limit="256MB") as store:
        yield World(database, writer, store, slot, s3_server)


async def ids_in_bucket(bucket: Bucket, manifests: Sequence[Manifest], folder: Path) -> list[str]:
    found = []
    for manifest in manifests:
        for file in manifest.files:
            data = b"".join([piece async for piece in bucket.pieces(file.name)])
            path = folder / file.name.rpartition("/")[2]
            path.write_bytes(data)
            layout = Layout(manifest.format, manifest.compression, manifest.fields)
            found += [row["event_id"] for row in by_python(path, layout)]
    return found


def site_ids(events: Sequence[Event]) -> list[str]:
    return [str(event.event_id) for event in events if event.site_id == "site"]


async def test_a_run_leaves_files_and_at_last_a_manifest_that_says_all_of_them(
    world: World, tmp_path: Path
) -> None:
    await world.ingest(*events_of(range(4_000), size=600))
    order = world.order(0, await world.newest())
    seen: list[ManifestFile] = []

    async with world.bucket() as bucket:
        manifest = await write_run(order, world.parts, bucket, seen.append)

        assert tuple(seen) == manifest.files
        assert len(manifest.files) > 2
        listed = [found.name async for found in bucket.objects("")]
        assert listed == sorted([file.name for file in manifest.files] + [manifest.name])
        stored = await bucket.read(manifest.name, 1_000_000)
        assert decode_manifest(stored) == manifest
        assert await published(order, bucket) == manifest
        found = await ids_in_bucket(bucket, [manifest], tmp_path)
        assert await verify(manifest, bucket, world.proof) == []
    mine = [event for event in world.events if event.site_id == "site"]
    assert sorted(found) == sorted(site_ids(world.events))
    assert manifest.taken.events == len(mine) == sum(file.rows for file in manifest.files)
    assert manifest.taken.checksum == proof_of(mine).checksum_text
    assert (manifest.after, manifest.through, manifest.is_backfill) == (0, 1, False)
    assert manifest.bytes == sum(file.bytes for file in manifest.files)
    days = {event.occurred_at.date() for event in mine}
    assert {day.day for day in manifest.days} == days


async def test_runs_in_a_row_are_the_ledger_whatever_comes_late_twice_or_out_of_order(
    world: World, tmp_path: Path
) -> None:
    chance = random.Random(7)
    manifests: list[Manifest] = []
    after = 0
    async with world.bucket() as bucket:
        for turn in range(10):
            for _ in range(chance.randrange(1, 4)):
                numbers = [chance.randrange(3_000) for _ in range(chance.randrange(1, 200))]
                await world.ingest(*events_of(numbers))
            through = await world.newest() - chance.randrange(2)
            layout = Layout(
                (FileFormat.JSONL, FileFormat.CSV, FileFormat.PARQUET, FileFormat.JSON)[turn % 4]
            )
            order = world.order(after, max(after, through), layout)
            if turn % 3 == 2:
                # Somebody kills the process in the middle, and the run is tried again.
                task = asyncio.create_task(write_run(order, world.parts, bucket))
                await asyncio.sleep(chance.random() / 10)
                task.cancel()
                await asyncio.wait([task])
                await clear_run(order, bucket)
            manifests.append(await write_run(order, world.parts, bucket))
            after = order.selection.through
        last = world.order(after, await world.newest())
        manifests.append(await write_run(last, world.parts, bucket))

        found = await ids_in_bucket(bucket, manifests, tmp_path)
        problems = [await verify(manifest, bucket, world.proof) for manifest in manifests]
        assert [upload async for upload in bucket.uploads("")] == []

    assert sorted(found) == sorted(site_ids(world.events))
    assert problems == [[]] * len(manifests)
    assert chain_problems(manifests) == []
    assert chain_problems(manifests[:2] + manifests[3:]) != []


async def test_verifying_names_what_was_altered_deleted_or_added_by_hand(world: World) -> None:
    await world.ingest(*events_of(range(3_000), size=600))
    async with world.bucket() as bucket:
        order = world.order(0, 1)
        manifest = await write_run(order, world.parts, bucket)
        first, second, third = (file.name for file in manifest.files[:3])
        added = third.replace(".jsonl", "-copy.jsonl")

        changed = bytearray(await bucket.read(first, 10_000_000))
        changed[1000] ^= 1
        await bucket.put_bytes(first, bytes(changed), "text/plain")
        cut = (await bucket.read(second, 10_000_000))[:-1]
        await bucket.put_bytes(second, cut, "text/plain")
        await bucket.delete(third)
        await bucket.put_bytes(added, b"{}", "text/plain")

        problems = await verify(manifest, bucket, world.proof)

        sizes = f"{len(cut):,} bytes instead of {len(cut) + 1:,}"
        assert problems == [
            f"file {first} was changed: its SHA-256 is not {manifest.files[0].sha256}",
            f"file {second} was changed: it has {sizes}",
            f"file {third} is missing, with {manifest.files[2].rows:,} events",
            f"file {added} looks like one of this run, but its manifest does not list it",
        ]

        other = encode_manifest(manifest).replace(b'"rows": ', b'"rows": 1')
        for data, complaint in (
            (other, "it is not what this run has written"),
            (b"{}", "it is no"),
        ):
            await bucket.put_bytes(manifest.name, data, "text/plain")
            [problem, *_] = await verify(manifest, bucket, world.proof)
            assert problem.startswith(f"manifest {manifest.name} was changed: {complaint}")
        await bucket.delete(manifest.name)
        [problem, *_] = await verify(manifest, bucket, world.proof)
        assert problem == f"manifest {manifest.name} is missing"


async def test_verifying_notices_a_ledger_that_says_otherwise(world: World) -> None:
    await world.ingest(*events_of(range(100)))
    async with world.bucket() as bucket:
        manifest = await write_run(world.order(0, 1), world.parts, bucket)

        await world.lose_events(3)
        [problem] = await verify(manifest, bucket, world.proof)

    assert problem == (
        "the ledger has 83 events of site site in positions 0 to 1, the run of"
        f" {manifest.name} had 86"
    )


async def test_a_copy_that_disagrees_with_the_ledger_publishes_nothing(world: World) -> None:
    await world.ingest(*events_of(range(100)))
    order = world.order(0, 1)

    def spoil(cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute(
            "delete from events where event_id ="
            " (select min(event_id) from events where site_id = 'site')"
        )

    await world.store._runner.run("spoil", "write", spoil)
    async with world.bucket() as bucket:
        with pytest.raises(CopyDiffers, match=r"85 events .* the ledger 86 .*footfall rebuild"):
            await write_run(order, world.parts, bucket)

        assert await published(order, bucket) is None
        assert await clear_run(order, bucket) == 1
        assert [found async for found in bucket.objects("")] == []


async def test_a_ledger_behind_the_run_proves_nothing(world: World) -> None:
    await world.ingest(*events_of(range(10)))

    with pytest.raises(LedgerUnavailable, match="at position 1, the run goes up to 2"):
        await world.proof(Selection("site", 0, 2))


async def test_filter_and_backfill_stand_in_the_manifest(world: World) -> None:
    for start in (0, 300, 600):
        await world.ingest(*events_of(range(start, start + 300)))
    since, until = NOW - timedelta(days=3), NOW - timedelta(days=1)
    wanted = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(in_=("kind-1", "kind-2"))),))
    selection = Selection("site", 0, 3, wanted, since, until)
    inside = [
        event
        for event in world.events
        if event.site_id == "site" and since <= event.occurred_at < until
    ]
    chosen = [event for event in inside if event.event_type != "kind-0"]

    async with world.bucket() as bucket:
        order = RunOrder(uuid4(), NOW, selection, Layout(FileFormat.PARQUET))
        manifest = await write_run(order, world.parts, bucket)
        stored = decode_manifest(await bucket.read(manifest.name, 100_000))

        assert await verify(stored, bucket, world.proof) == []
    assert stored.selection == selection
    assert stored.is_backfill
    assert stored.taken.events == len(chosen) > 0
    assert stored.everything.checksum == proof_of(inside).checksum_text
    assert chain_problems([stored, stored]) == []


async def test_a_server_killed_in_the_middle_leaves_nothing_to_be_seen_and_the_run_goes_again(
    world: World, tmp_path: Path
) -> None:
    await world.ingest(*events_of(range(6_000), size=3_000))
    layout = Layout(FileFormat.JSONL, Compression.NONE)
    order = world.order(0, 1, layout)

    async with running_gate(world.server) as gate, world.bucket() as direct:
        place = world.server.place(endpoint=gate.endpoint)
        gate.bytes_left = 9 * 1024 * 1024
        async with world.bucket(place) as bucket:
            with pytest.raises(BucketFailed) as cut:
                await write_run(order, world.parts, bucket)
        assert cut.value.verdict is Verdict.MAY_PASS
        # The abort could not get through either: the upload is found later.
        assert [upload.name async for upload in direct.uploads("")] == [order.file_name(1)]
        assert [found async for found in direct.objects("")] == []
        assert await published(order, direct) is None

        assert await clear_run(order, direct) == 1
        gate.bytes_left = None
        async with world.bucket(place) as bucket:
            manifest = await write_run(order, world.parts, bucket)
            assert await verify(manifest, bucket, world.proof) == []
            found = await ids_in_bucket(bucket, [manifest], tmp_path)
        assert [upload async for upload in direct.uploads("")] == []
    assert sorted(found) == sorted(site_ids(world.events))


async def test_a_real_kill_of_the_server_is_told_as_what_may_pass(world: World) -> None:
    await world.ingest(*events_of(range(4_000), size=600))
    async with world.bucket() as bucket:
        killed = asyncio.Event()

        def kill(_: object) -> None:
            assert world.server.process is not None
            world.server.process.kill()
            killed.set()

        order = world.order(0, 1)
        with pytest.raises(BucketFailed) as failed:
            await write_run(order, world.parts, bucket, kill)
        assert killed.is_set()
        assert failed.value.verdict is Verdict.MAY_PASS
        assert failed.value.reason in (Reason.UNREACHABLE, Reason.BROKE_OFF)

        await world.server.kill()
        await world.server.start()
        await clear_run(order, bucket)
        manifest = await write_run(order, world.parts, bucket)
        assert await verify(manifest, bucket, world.proof) == []


async def test_a_bucket_that_goes_away_and_a_full_disk_are_told_apart(world: World) -> None:
    await world.ingest(*events_of(range(4_000), size=600))
    order = world.order(0, 1)
    async with world.bucket() as bucket:
        with files_of_at_most(100_000), pytest.raises(DiskFull):
            await write_run(order, world.parts, bucket)

        world.server.remove_bucket()
        with pytest.raises(BucketFailed) as gone:
            await write_run(order, world.parts, bucket)
        with pytest.raises(BucketFailed) as unread:
            await verify(await _manifest_elsewhere(world, order), bucket, world.proof)

    assert (gone.value.reason, gone.value.verdict) == (Reason.NO_BUCKET, Verdict.PERMANENT)
    assert unread.value.reason is Reason.NO_BUCKET
    assert list((world.folder / "exports").iterdir()) == []


async def _manifest_elsewhere(world: World, order: RunOrder) -> Manifest:
    (world.server.folder / "elsewhere").mkdir()
    async with world.bucket(world.server.place(bucket="elsewhere")) as bucket:
        return await write_run(order, world.parts, bucket)


async def test_a_server_that_is_busy_for_a_while_is_asked_again(world: World) -> None:
    await world.ingest(*events_of(range(100)))
    async with running_gate(world.server) as gate:
        place = world.server.place(endpoint=gate.endpoint)
        gate.busy = 2
        async with world.bucket(place, Pace(connect=20, read=30, attempts=4)) as bucket:
            manifest = await write_run(world.order(0, 1), world.parts, bucket)
            assert await verify(manifest, bucket, world.proof) == []

        gate.busy = 1_000
        async with world.bucket(place) as bucket:
            with pytest.raises(BucketFailed, match="does not keep up now") as failed:
                await write_run(world.order(0, 1), world.parts, bucket)
    assert (failed.value.reason, failed.value.verdict) == (Reason.BUSY, Verdict.MAY_PASS)
