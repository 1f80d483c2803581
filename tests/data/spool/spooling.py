"""What tests of the spool share: events, a spool in a folder, and what stands in its files."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from data.events import Event, Rejection, RejectionCode
from data.spool.records import Record, Spooled, read_records
from data.spool.segments import segments_in
from data.spool.store import Spool, SpoolLimits, open_spool
from telemetry.metrics import Metrics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = SpoolLimits(held=1024 * 1024, segment=4_096)


def event(event_id: UUID | None = None, **fields: str) -> Event:
    return Event(event_id or uuid4(), "shop", "view", NOW, NOW, **fields)


def rejection() -> Rejection:
    return Rejection("shop", RejectionCode.INVALID_TEXT, "odd", "{}", 2, NOW)


def spool_in(
    root: Path, limits: SpoolLimits = SMALL, metrics: Metrics | None = None
) -> AbstractAsyncContextManager[Spool]:
    own = metrics or Metrics.create()
    return open_spool(root, limits=limits, clock=lambda: NOW, metrics=own.spool)


def on_disk(folder: Path) -> list[Spooled]:
    """What the segments of a folder hold, in order."""
    return [
        found.spooled
        for segment in segments_in(folder)
        for found in read_records(segment.read_bytes())
        if isinstance(found, Record)
    ]


def ids(sent: Sequence[Event]) -> list[UUID]:
    return [one.event_id for one in sent]
