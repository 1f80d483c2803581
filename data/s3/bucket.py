"""A bucket: objects put, read, listed and deleted, each failure in words for its owner."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from data.outbound.failures import OutboundFailed
from data.s3.clients import Pace, s3_client
from data.s3.connections import CheckedSession
from data.s3.failures import BucketFailed, Reason
from data.s3.places import BucketPlace
from data.s3.words import in_words, too_slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Result = TypeVar("Result")

# A piece lies in memory while it is sent, two or three at a time. S3 takes 5 MiB at least, and
# 10,000 of them.
PIECE_BYTES = 8 * 1024 * 1024
_MOST_PIECES = 9_000
_AT_ONCE = 3
_READ_BYTES = 1024 * 1024
_ABORT_SECONDS = 10.0
_ERRORS = (BotoCoreError, ClientError, HTTPError, OutboundFailed, ResponseParserError)
# Connections: those of the pieces, and a few for whoever looks meanwhile.
_THREADS = _AT_ONCE + 3


@dataclass(frozen=True, slots=True)
class Found:
    """An object in the bucket."""

    name: str
    bytes: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in pieces that was begun and neither completed nor aborted."""

    name: str
    upload_id: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Sending:
    """A file on its way to an object. `sha256` is kept with the object, for its owner."""

    name: str
    path: Path
    content_type: str
    sha256: str

    @property
    def about(self) -> dict[str, Any]:
        """What is told with the object."""
        return {"ContentType": self.content_type, "Metadata": {"sha256": self.sha256}}


class Bucket:
    """An open bucket; all of it raises `BucketFailed`."""

    def __init__(
        self, place: BucketPlace, client: S3Client, threads: ThreadPoolExecutor, seconds: float
    ) -> None:
        self.place = place
        self._client = client
        self._threads = threads
        self._seconds = seconds
        self._name = place.bucket

    async def put(self, sending: Sending) -> None:
        """Make an object of a file: in one piece, or in several that are checked one by one."""
        size = (await asyncio.to_thread(sending.path.stat)).st_size
        if size > PIECE_BYTES:
            await self._put_in_pieces(sending, size)
            return

        def put() -> None:
            self._put(sending.name, sending.path.read_bytes(), sending.about)

        await self._run(put, sending.name)

    async def put_bytes(self, name: str, data: bytes, content_type: str) -> None:
        """Make a small object; it is there as a whole, or not at all."""
        about = {
            "ContentType": content_type,
            "Metadata": {"sha256": hashlib.sha256(data).hexdigest()},
        }
        await self._run(lambda: self._put(name, data, about), name)

    async def put_new(self, name: str, data: bytes, content_type: str) -> bool:
        """Make a small object, unless there is one of this name; False then.

        Some services do not know of this condition: there it is made in any case.
        """
        about = {
            "ContentType": content_type,
            "Metadata": {"sha256": hashlib.sha256(data).hexdigest()},
        }
        try:
            await self._run(lambda: self._put(name, data, {**about, "IfNoneMatch": "*"}), name)
        except BucketFailed as failed:
            if failed.reason is Reason.ALREADY_THERE:
                return False
            if failed.reason is not Reason.NOT_OFFERED:
                raise
            await self.put_bytes(name, data, content_type)
        return True

    async def pieces(self, name: str) -> AsyncIterator[bytes]:
        """What an object holds, a mebibyte at a time."""
        answer = await self._run(lambda: self._client.get_object(Bucket=self._name, Key=name), name)
        body = answer["Body"]
        try:
            while data := await self._run(lambda: body.read(_READ_BYTES), name):
                yield data
        finally:
            body.close()

    async def read(self, name: str, most: int) -> bytes:
        """A small object as a whole; `most` + 1 bytes of one that is larger."""
        found = bytearray()
        async for data in self.pieces(name):
            found += data
            if len(found) > most:
                break
        return bytes(found[: most + 1])

    async def head(self, name: str) -> Found | None:
        """An object's size, None where there is no such object."""
        try:
            answer = await self._run(
                lambda: self._client.head_object(Bucket=self._name, Key=name), name
            )
        except BucketFailed as failed:
            if failed.reason is Reason.NOT_FOUND:
                return None
            raise
        return Found(name, answer["ContentLength"], answer["LastModified"])

    async def objects(self, prefix: str) -> AsyncIterator[Found]:
        """The objects whose names begin so, in order of name."""
        following: dict[str, Any] = {}
        while True:
            ask = partial(
                self._client.list_objects_v2, Bucket=self._name, Prefix=prefix, **following
            )
            answer = await self._run(ask, prefix)
            for one in answer.get("Contents", []):
                yield Found(one["Key"], one["Size"], one["LastModified"])
            if not answer.get("IsTruncated"):
                return
            following = {"ContinuationToken": answer["NextContinuationToken"]}

    async def delete(self, name: str) -> None:
        """See to it that there is no such object."""
        await self._run(lambda: self._client.delete_object(Bucket=self._name, Key=name), name)

    async def uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """Uploads that somebody has left where they were, by a killed process, say."""
        following: dict[str, Any] = {}
        while True:
            ask = partial(
                self._client.list_multipart_uploads, Bucket=self._name, Prefix=prefix, **following
            )
            try:
                answer = await self._run(ask, prefix)
            except BucketFailed as failed:
                # Some services say so of a bucket that never had any.
                if failed.reason is Reason.UPLOAD_GONE:
                    return
                raise
            for one in answer.get("Uploads", []):
                yield Upload(one["Key"], one["UploadId"], one["Initiated"])
            if not answer.get("IsTruncated"):
                return
            following = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    async def abort(self, upload: Upload) -> None:
        """Throw away what an upload has brought; one that is gone is fine."""
        try:
            await self._run(
                lambda: self._client.abort_multipart_upload(
                    Bucket=self._name, Key=upload.name, UploadId=upload.upload_id
                ),
                upload.name,
            )
        except BucketFailed as failed:
            if failed.reason is not Reason.UPLOAD_GONE:
                raise

    async def abort_uploads(self, prefix: str) -> int:
        """Throw away all uploads under a prefix that are not finished; how many there were."""
        left = [upload async for upload in self.uploads(prefix)]
        for upload in left:
            await self.abort(upload)
        return len(left)

    async def probe(self, prefix: str) -> None:
        """Write a few bytes under a prefix and delete them; the failure says what is missing."""
        name = f".footfall-{uuid4().hex}"
        name = f"{prefix}/{name}" if prefix else name
        await self.put_bytes(name, b"Footfall may write here.\n", "text/plain")
        try:
            await self.delete(name)
        except BucketFailed as failed:
            if failed.reason is not Reason.NO_PERMISSION:
                raise
            raise BucketFailed(
                failed.reason, f"writing works, but {failed}; the object {name} is left behind"
            ) from None

    async def _put_in_pieces(self, sending: Sending, size: int) -> None:
        answer = await self._run(
            lambda: self._client.create_multipart_upload(
                Bucket=self._name,
                Key=sending.name,
                ChecksumAlgorithm="SHA256",
                **sending.about,
            ),
            sending.name,
        )
        upload_id = answer["UploadId"]
        try:
            parts = await self._send_pieces(sending, size, upload_id)
            await self._complete(sending, size, upload_id, parts)
        except BaseException:
            # What cannot be aborted now is found by `uploads` later.
            with suppress(BucketFailed, TimeoutError):
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self.abort(Upload(sending.name, upload_id, datetime.min))  # noqa: DTZ901
            raise

    async def _send_pieces(self, sending: Sending, size: int, upload_id: str) -> list[Any]:
        width = max(PIECE_BYTES, -(-size // _MOST_PIECES))
        gate = asyncio.Semaphore(_AT_ONCE)

        def send(number: int) -> dict[str, Any]:
            with sending.path.open("rb") as file:
                file.seek(number * width)
                data = file.read(width)
            checksum = _checksum(data)
            answer = self._client.upload_part(
                Bucket=self._name,
                Key=sending.name,
                UploadId=upload_id,
                PartNumber=number + 1,
                Body=data,
                ChecksumSHA256=checksum,
            )
            part = {"PartNumber": number + 1, "ETag": answer["ETag"]}
            # One that does not tell it knows nothing of it.
            told = answer.get("ChecksumSHA256")
            return part | ({"ChecksumSHA256": told} if told else {})

        async def one(number: int) -> dict[str, Any]:
            async with gate:
                return await self._run(lambda: send(number), sending.name)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(each)) for each in range(-(-size // width))]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _complete(
        self, sending: Sending, size: int, upload_id: str, parts: list[Any]
    ) -> None:
        try:
            await self._run(
                lambda: self._client.complete_multipart_upload(
                    Bucket=self._name,
                    Key=sending.name,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},
                ),
                sending.name,
            )
        except BucketFailed as failed:
            # It may have been completed by a try of which only the answer was lost.
            found = None
            if failed.reason is Reason.UPLOAD_GONE:
                found = await self.head(sending.name)
            if found is None or found.bytes != size:
                raise

    def _put(self, name: str, data: bytes, about: Mapping[str, Any]) -> None:
        self._client.put_object(
            Bucket=self._name, Key=name, Body=data, ChecksumSHA256=_checksum(data), **about
        )

    async def _run(self, work: Callable[[], Result], name: str) -> Result:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            if not limit.expired():
                raise
            raise too_slow(self.place, self._seconds) from None
        except _ERRORS as error:
            # Not chained: the library's errors hold requests, and those hold signatures.
            raise in_words(error, self.place, name) from None


def _checksum(data: bytes) -> str:
    return b64encode(hashlib.sha256(data).digest()).decode()


@asynccontextmanager
async def open_bucket(
    place: BucketPlace, *, allow_private: bool, pace: Pace | None = None
) -> AsyncIterator[Bucket]:
    """The bucket at a place. Nothing is asked of it yet, so nothing can be wrong with it either.

    `allow_private`: endpoints may be on private, loopback and link-local addresses.
    """
    pace = pace or Pace()
    sending = CheckedSession(
        allow_private=allow_private, seconds=(pace.connect, pace.read), most=_THREADS
    )
    threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="bucket")
    try:
        client = await asyncio.to_thread(s3_client, place, sending, pace)
        yield Bucket(place, client, threads, pace.whole)
    finally:
        sending.close()
        # A request that hangs is not waited for: its connection was just cut.
        threads.shutdown(wait=False, cancel_futures=True)
