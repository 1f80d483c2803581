"""A run from its first event to its manifest: all of it can be seen in the end, or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.exports.failures import CopyDiffers
from data.exports.files import open_parts
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
# Told of every file that is in the bucket.
OnFile = Callable[[ManifestFile], None]


@dataclass(frozen=True, slots=True)
class RunParts:
    """What a run needs beside its order and a bucket.

    `source` is asked anew for every statement. `folder` is in the copy's own and holds two files at
    a time. `clock` gives aware times.
    """

    source: Callable[[], ExportSource]
    folder: Path
    ledger: LedgerProof
    clock: Callable[[], datetime]


async def write_run(
    order: RunOrder, parts: RunParts, bucket: Bucket, on_file: OnFile = lambda _: None
) -> Manifest:
    """Files, then their comparison with the ledger, then the manifest; the run is done with it.

    Raises `BucketFailed`, `StoreUnavailable`, `LedgerUnavailable`, `DiskFull` or `CopyDiffers`;
    nothing can be seen then, and `clear_run` takes away what is left behind.
    """
    files: list[ManifestFile] = []
    async with open_parts(parts.source, order, parts.folder) as each:
        async for part in each:
            name = order.file_name(part.number)
            sending = Sending(name, part.path, order.layout.content_type, part.digest.sha256)
            await bucket.put(sending)
            files.append(ManifestFile(name, part.rows, part.digest.bytes, part.digest.sha256))
            on_file(files[-1])
    await require_proven(order.selection, each.tally.everything, parts.ledger)
    manifest = manifest_of(order, tuple(files), each.tally, parts.clock())
    await bucket.put_bytes(manifest.name, encode_manifest(manifest), "application/json")
    return manifest


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


async def clear_run(order: RunOrder, bucket: Bucket) -> int:
    """Take away what a run without a manifest has left: objects and begun uploads; how many.

    For a run that is tried again, and for one that is given up. Raises `BucketFailed`.
    """
    aborted = await bucket.abort_uploads(order.files_prefix)
    names = [found.name async for found in bucket.objects(order.files_prefix)]
    for name in names:
        await bucket.delete(name)
    return aborted + len(names)
