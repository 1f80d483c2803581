"""A run from its first event to its manifest: all of it can be seen in the end, or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.exports.failures import CopyDiffers
from data.exports.files import OnWritten, open_parts
from data.exports.layout import Selection
from data.exports.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    ManifestUnreadable,
    decode_manifest,
    encode_manifest,
    manifest_of,
)
from data.exports.orders import RunOrder
from data.exports.source import ExportSource
from data.exports.tally import Proof
from data.s3.bucket import Bucket, Sending
from data.s3.failures import BucketFailed, Reason

# What the ledger holds of a selection; it raises `LedgerUnavailable`.
LedgerProof = Callable[[Selection], Awaitable[Proof]]
_JSON = "application/json"
# Told of every file that is in the bucket.
OnFile = Callable[[ManifestFile], None]


async def _always() -> None:
    return


def _tell_nobody(_: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class RunParts:
    """What a run needs beside its order and a bucket.

    `source` is asked anew for every statement. `folder` is in the copy's own and holds two files at
    a time. `clock` gives aware times. `may_publish` is asked right before the manifest is written,
    and raises where somebody else has taken over. `on_written` is told how many events were
    written so far, before their files are in the bucket.
    """

    source: Callable[[], ExportSource]
    folder: Path
    ledger: LedgerProof
    clock: Callable[[], datetime]
    may_publish: Callable[[], Awaitable[None]] = _always
    on_written: OnWritten = _tell_nobody


async def write_run(
    order: RunOrder, parts: RunParts, bucket: Bucket, on_file: OnFile = lambda _: None
) -> Manifest:
    """Files, then their comparison with the ledger, then the manifest; the run is done with it.

    Where another attempt has published a whole run meanwhile, its manifest is what comes back.

    Raises `BucketFailed`, `StoreUnavailable`, `LedgerUnavailable`, `DiskFull` or `CopyDiffers`;
    nothing can be seen then, and `clear_run` takes away what is left behind.
    """
    files: list[ManifestFile] = []
    async with open_parts(parts.source, order, parts.folder, parts.on_written) as each:
        async for part in each:
            name = order.file_name(part.number)
            sending = Sending(name, part.path, order.layout.content_type, part.digest.sha256)
            await bucket.put(sending)
            files.append(ManifestFile(name, part.rows, part.digest.bytes, part.digest.sha256))
            on_file(files[-1])
    await require_proven(order.selection, each.tally.everything, parts.ledger)
    manifest = manifest_of(order, tuple(files), each.tally, parts.clock())
    await parts.may_publish()
    return await _publish(manifest, order, bucket)


async def _publish(manifest: Manifest, order: RunOrder, bucket: Bucket) -> Manifest:
    """The manifest that counts: ours, or that of another attempt that was faster."""
    data = encode_manifest(manifest)
    if await bucket.put_new(manifest.name, data, _JSON):
        return manifest
    found = await published(order, bucket)
    if found == manifest:
        # Only the answer to the first try was lost.
        return manifest
    if found is None or not await is_whole(found, bucket):
        # Of a process that was frozen with it in its hands while its files were taken away.
        await bucket.put_bytes(manifest.name, data, _JSON)
        return manifest
    await clear_attempt(order, bucket)
    return found


async def require_proven(selection: Selection, found: Proof, ledger: LedgerProof) -> None:
    """Raise `CopyDiffers` unless the ledger holds just the events that the copy gave."""
    expected = await ledger(selection)
    if found != expected:
        raise CopyDiffers(
            f"the columnar copy has {found.events:,} events of site {selection.site_id} in positions"
            f" {selection.after} to {selection.through} (checksum {found.checksum_text}), the ledger"
            f" {expected.events:,} (checksum {expected.checksum_text}): rebuild the copy with"
            " `footfall rebuild` and run the export again; nothing was published"
        )


async def published(order: RunOrder, bucket: Bucket) -> Manifest | None:
    """The manifest of a run that ended after all, with its process killed before it could tell.

    Raises `BucketFailed`, and `ManifestUnreadable` where something else has the name.
    """
    try:
        data = await bucket.read(order.manifest_name, MAX_MANIFEST_BYTES)
    except BucketFailed as failed:
        if failed.reason is Reason.NOT_FOUND:
            return None
        raise
    manifest = decode_manifest(data)
    if manifest.export_id != order.run_id:
        raise ManifestUnreadable("it is the manifest of another run")
    return manifest


async def is_whole(manifest: Manifest, bucket: Bucket) -> bool:
    """Whether all files of a manifest are there, as far as their sizes tell. Raises `BucketFailed`."""
    if not manifest.files:
        return True
    found = {one.name: one.bytes async for one in bucket.objects(manifest.files_prefix)}
    return all(found.get(file.name) == file.bytes for file in manifest.files)


async def clear_run(order: RunOrder, bucket: Bucket) -> int:
    """Take away what a run without a manifest has left: objects and begun uploads; how many.

    For a run that is tried again, and for one that is given up. Raises `BucketFailed`.
    """
    return await _clear(order.files_prefix, bucket)


async def clear_attempt(order: RunOrder, bucket: Bucket) -> int:
    """The same for what this one attempt has left, beside another that goes on or is done."""
    return await _clear(order.attempt_prefix, bucket)


async def _clear(prefix: str, bucket: Bucket) -> int:
    aborted = await bucket.abort_uploads(prefix)
    names = [found.name async for found in bucket.objects(prefix)]
    for name in names:
        await bucket.delete(name)
    return aborted + len(names)
