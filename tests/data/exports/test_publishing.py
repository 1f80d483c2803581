"""Manifests of attempts that met: one counts, and what it lists is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from data.exports.layout import Compression, FileFormat, Layout
from data.exports.manifest import decode_manifest
from data.exports.runs import clear_attempt, clear_run, is_whole, published, write_run
from data.exports.verification import verify
from data.s3.bucket import Bucket, open_bucket
from data.s3.failures import BucketFailed, Reason
from data.s3.places import BucketPlace
from tests.data.exports.test_runs import QUICK, World, events_of, world
from tests.fixtures.s3 import BUCKET, REGION, S3Server, running_cloud
from tests.fixtures.service import free_port

__all__ = ["world"]

LINES = Layout(FileFormat.JSONL, Compression.NONE)


@asynccontextmanager
async def strict_bucket() -> AsyncIterator[Bucket]:
    """A bucket whose service knows conditions."""
    async with running_cloud(4) as cloud:
        keys = await asyncio.to_thread(cloud.set_up, {"owner": ["s3:*"]})
        place = BucketPlace(BUCKET, REGION, keys["owner"], cloud.endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
            yield bucket


async def test_the_attempt_that_comes_second_takes_what_the_first_has_published(
    world: World,
) -> None:
    await world.ingest(*events_of(range(100)))
    first = world.order(0, 1, LINES)
    second = replace(first, attempt=2)
    async with strict_bucket() as bucket:
        manifest = await write_run(first, world.parts, bucket)
        assert await write_run(second, world.parts, bucket) == manifest
        assert await published(second, bucket) == manifest
        assert await is_whole(manifest, bucket)
        names = [found.name async for found in bucket.objects("")]
        assert await verify(manifest, bucket, world.proof) == []
        # The same attempt again, of which only the answer was lost, takes nothing away.
        later = replace(world.parts, clock=lambda: manifest.finished_at)
        assert await write_run(first, later, bucket) == manifest
        assert await verify(manifest, bucket, world.proof) == []
    assert names == [first.file_name(1), first.manifest_name]


async def test_a_manifest_whose_files_were_cleared_away_gives_way(world: World) -> None:
    await world.ingest(*events_of(range(100)))
    first = world.order(0, 1, LINES)
    second = replace(first, attempt=2)
    async with strict_bucket() as bucket:
        # As if it was frozen between asking whether it may and publishing.
        late = await write_run(first, world.parts, bucket)
        assert await clear_attempt(first, bucket) == 1
        assert not await is_whole(late, bucket)
        manifest = await write_run(second, world.parts, bucket)
        stored = decode_manifest(await bucket.read(second.manifest_name, 1_000_000))
        assert await verify(manifest, bucket, world.proof) == []
    assert stored == manifest != late
    assert [file.name for file in manifest.files] == [second.file_name(1)]


async def test_who_may_not_publish_any_more_leaves_no_manifest(world: World) -> None:
    await world.ingest(*events_of(range(100)))
    order = world.order(0, 1, LINES)

    class TakenOver(Exception):
        pass

    async def refuse() -> None:
        raise TakenOver

    async with world.bucket() as bucket:
        with pytest.raises(TakenOver):
            await write_run(order, replace(world.parts, may_publish=refuse), bucket)
        assert await published(order, bucket) is None
        # Whoever clears up finds what all attempts have left.
        assert await clear_run(replace(order, attempt=9), bucket) == 1


async def test_an_object_is_made_once_where_the_service_knows_that(s3_server: S3Server) -> None:
    async with strict_bucket() as bucket:
        assert await bucket.put_new("a", b"1", "text/plain")
        assert not await bucket.put_new("a", b"2", "text/plain")
        assert await bucket.read("a", 10) == b"1"
    # This one does not, and takes what comes last.
    place = s3_server.place()
    async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
        assert await bucket.put_new("a", b"1", "text/plain")
        assert await bucket.put_new("a", b"2", "text/plain")


async def test_a_service_that_refuses_conditions_gets_the_object_without() -> None:
    asked: list[bool] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        is_conditional = b"if-none-match" in head
        asked.append(is_conditional)
        code = b"<Error><Code>NotImplemented</Code></Error>" if is_conditional else b""
        status = b"501 Not Implemented" if is_conditional else b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (status, len(code), code)
        )
        await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    place = S3Server.place(S3Server(folder=None, port=port))  # type: ignore[arg-type]
    async with server, open_bucket(place, allow_private=True, pace=QUICK) as bucket:
        assert await bucket.put_new("a", b"1", "text/plain")
    assert asked == [True, False]


async def test_what_else_goes_wrong_with_a_new_object_is_told(s3_server: S3Server) -> None:
    place = s3_server.place(secret="not-the-secret")
    async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
        with pytest.raises(BucketFailed) as failed:
            await bucket.put_new("a", b"1", "text/plain")
    assert failed.value.reason is Reason.WRONG_SECRET
