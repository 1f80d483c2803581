"""The manifest of a run: what its owner has when it is there, and can check without asking us."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

import msgspec

from data.exports.layout import SCHEMA_VERSION, Compression, FileFormat, Selection
from data.exports.orders import RunOrder
from data.exports.tally import Proof, Tally
from data.queries import EVERYTHING, EventFilter

MAX_MANIFEST_BYTES = 64 * 1024 * 1024


class ManifestUnreadable(Exception):
    """What is there under a manifest's name is none."""


class ManifestFile(msgspec.Struct, frozen=True):
    """An object with events: its name in the bucket, and what is in it."""

    name: str
    rows: int
    bytes: int
    sha256: str


class EventDay(msgspec.Struct, frozen=True):
    """A UTC day on which events of the run occurred, and how many."""

    day: date
    events: int


class Proven(msgspec.Struct, frozen=True):
    """A number of events, and the exclusive or of their ids in 32 hexadecimal digits."""

    events: int
    checksum: str

    @classmethod
    def of(cls, proof: Proof) -> Proven:
        """A proof as a manifest has it."""
        return cls(proof.events, proof.checksum_text)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that is complete. Times are UTC.

    `taken` is what the files hold together; `everything` is the same without the filter, which
    was compared with the ledger. Positions are those of the change feed: the run has what came
    after `after`, up to and with `through`. `bytes` is the sum over the files.
    """

    schema_version: int
    name: str
    export_id: UUID
    site_id: str
    begun_at: datetime
    finished_at: datetime
    after: int
    through: int
    is_backfill: bool
    format: FileFormat
    compression: Compression
    fields: tuple[str, ...]
    taken: Proven
    everything: Proven
    bytes: int
    days: tuple[EventDay, ...]
    files: tuple[ManifestFile, ...]
    # Of a backfill; half-open.
    since: datetime | None = None
    until: datetime | None = None
    # None: every event.
    filter: EventFilter | None = None
    # The times between which the events occurred, where there are any.
    first_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def selection(self) -> Selection:
        """What the run took."""
        return Selection(
            self.site_id,
            self.after,
            self.through,
            self.filter or EVERYTHING,
            self.since,
            self.until,
        )

    @property
    def files_prefix(self) -> str:
        """How the names of all files of the run begin, and of no other's."""
        before, _, after = self.name.rpartition("manifests/day=")
        return f"{before}events/day={after.removesuffix('.json')}-"


def manifest_of(
    order: RunOrder, files: tuple[ManifestFile, ...], tally: Tally, finished_at: datetime
) -> Manifest:
    """The manifest of a run that has been written in full."""
    selection, layout = order.selection, order.layout
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=order.manifest_name,
        export_id=order.run_id,
        site_id=selection.site_id,
        begun_at=order.begun_at,
        finished_at=finished_at,
        after=selection.after,
        through=selection.through,
        is_backfill=selection.is_backfill,
        since=selection.since,
        until=selection.until,
        filter=None if selection.filter == EVERYTHING else selection.filter,
        format=layout.format,
        compression=layout.compression,
        fields=layout.fields,
        taken=Proven.of(tally.taken),
        everything=Proven.of(tally.everything),
        bytes=sum(file.bytes for file in files),
        days=tuple(EventDay(day, events) for day, events in tally.days.items()),
        files=files,
        first_at=tally.first_at,
        last_at=tally.last_at,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON for people and programs; the same one always gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in the bytes of an object; raises `ManifestUnreadable`."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestUnreadable("it is far larger than a manifest")
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestUnreadable(f"it is no manifest: {error}") from None
