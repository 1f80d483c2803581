"""Whether what a run has left in a bucket is still what the ledger holds, object by object."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from data.exports.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    ManifestUnreadable,
    Proven,
    decode_manifest,
)
from data.exports.runs import LedgerProof
from data.s3.bucket import Bucket
from data.s3.failures import BucketFailed, Reason

# Some services answer like this for an object that has come to harm.
_OF_ONE = (Reason.BUSY, Reason.BROKE_OFF)
_MOST_UNREAD = 20


async def verify(manifest: Manifest, bucket: Bucket, ledger: LedgerProof) -> list[str]:
    """What differs, a sentence each, with names of objects; an empty list: everything is right.

    `manifest` is what is known of the run here; manifest and objects are read from the bucket, every
    byte of them. Raises `BucketFailed` and `LedgerUnavailable` where that cannot be found out.
    """
    problems = list(_contradictions(manifest))
    reading = _Reading(1 + len(manifest.files))
    problems += await reading.found(
        f"manifest {manifest.name}", _manifest_problems(manifest, bucket)
    )
    for file in manifest.files:
        problems += await reading.found(f"file {file.name}", _file_problems(file, bucket))
    problems += [found async for found in _strangers(manifest, bucket)]
    problems += [found async for found in _ledger_problems(manifest, ledger)]
    return problems


@dataclass(slots=True)
class _Reading:
    """Reads so many objects. One that cannot be read while others can is a finding, too."""

    objects: int
    unread: int = 0

    async def found(self, what: str, problems: AsyncIterator[str]) -> list[str]:
        """The problems of an object; raises `BucketFailed` where it is not about this one."""
        try:
            return [problem async for problem in problems]
        except BucketFailed as failed:
            self.unread += 1
            if failed.reason not in _OF_ONE or self.unread in (self.objects, _MOST_UNREAD):
                raise
            return [f"{what} cannot be read: {failed}"]


def chain_problems(manifests: Sequence[Manifest]) -> list[str]:
    """Where runs that should follow one another overlap or leave a gap, a sentence each.

    Backfills stand beside the chain and are left out; so is the order in which they are given.
    """
    chain = sorted(
        (one for one in manifests if not one.is_backfill), key=lambda one: (one.after, one.through)
    )
    problems = []
    for before, following in pairwise(chain):
        if following.after == before.through:
            continue
        how = "overlap" if following.after < before.through else "leave a gap"
        problems.append(
            f"{before.name} and {following.name} {how}: one ends at position {before.through},"
            f" the next begins after {following.after}"
        )
    return problems


def _contradictions(manifest: Manifest) -> Iterator[str]:
    rows = sum(file.rows for file in manifest.files)
    if rows != manifest.taken.events:
        yield (
            f"manifest {manifest.name} lists files with {rows:,} rows for"
            f" {manifest.taken.events:,} events"
        )
    events = sum(day.events for day in manifest.days)
    if events != manifest.taken.events:
        yield (
            f"manifest {manifest.name} lists days with {events:,} events of"
            f" {manifest.taken.events:,}"
        )


async def _manifest_problems(manifest: Manifest, bucket: Bucket) -> AsyncIterator[str]:
    try:
        data = await bucket.read(manifest.name, MAX_MANIFEST_BYTES)
    except BucketFailed as failed:
        if failed.reason is not Reason.NOT_FOUND:
            raise
        yield f"manifest {manifest.name} is missing"
        return
    try:
        if decode_manifest(data) != manifest:
            yield f"manifest {manifest.name} was changed: it is not what this run has written"
    except ManifestUnreadable as unreadable:
        yield f"manifest {manifest.name} was changed: {unreadable}"


async def _file_problems(file: ManifestFile, bucket: Bucket) -> AsyncIterator[str]:
    found = await bucket.head(file.name)
    if found is None:
        yield f"file {file.name} is missing, with {file.rows:,} events"
        return
    if found.bytes != file.bytes:
        yield f"file {file.name} was changed: it has {found.bytes:,} bytes instead of {file.bytes:,}"
        return
    digest = hashlib.sha256()
    try:
        async for data in bucket.pieces(file.name):
            digest.update(data)
    except BucketFailed as failed:
        if failed.reason is not Reason.NOT_FOUND:
            raise
        yield f"file {file.name} is missing, with {file.rows:,} events"
        return
    if digest.hexdigest() != file.sha256:
        yield f"file {file.name} was changed: its SHA-256 is not {file.sha256}"


async def _strangers(manifest: Manifest, bucket: Bucket) -> AsyncIterator[str]:
    known = {file.name for file in manifest.files}
    async for found in bucket.objects(manifest.files_prefix):
        if found.name not in known:
            yield f"file {found.name} looks like one of this run, but its manifest does not list it"


async def _ledger_problems(manifest: Manifest, ledger: LedgerProof) -> AsyncIterator[str]:
    known = Proven.of(await ledger(manifest.selection))
    of_whom = f"of site {manifest.site_id} in positions {manifest.after} to {manifest.through}"
    if known.events != manifest.everything.events:
        yield (
            f"the ledger has {known.events:,} events {of_whom}, the run of {manifest.name} had"
            f" {manifest.everything.events:,}"
        )
    elif known.checksum != manifest.everything.checksum:
        yield (
            f"the ledger has other events {of_whom} than the run of {manifest.name} had, though"
            " as many"
        )
