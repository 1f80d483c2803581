"""What the owner of a destination is told of its exports, as a webhook gets it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class NoticeKind(StrEnum):
    """What happened."""

    SUCCEEDED = "export.succeeded"
    FAILED = "export.failed"
    PAUSED = "export.paused"
    DEAD = "export.dead"
    TEST = "export.test"


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a notice says; names are those of manifests, and what there is not is left out.

    `destination` is its name, `target` is `client` or `backup`, `manifest` the manifest's name in
    the bucket. `error` is a sentence for people. There is no place for credentials here.
    """

    destination_id: UUID
    destination: str
    site_id: str
    export_id: UUID | None = None
    target: str | None = None
    bucket: str | None = None
    manifest: str | None = None
    events: int | None = None
    bytes: int | None = None
    files: int | None = None
    attempts: int | None = None
    reason: str | None = None
    error: str | None = None


class Notice(msgspec.Struct, frozen=True):
    """Something that happened, and when (aware)."""

    kind: NoticeKind
    at: datetime
    told: Told

    @property
    def body(self) -> str:
        """The notice as JSON, in the form of Standard Webhooks: `type`, `timestamp`, `data`."""
        content = {
            "type": self.kind.value,
            "timestamp": self.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": self.told,
        }
        return msgspec.json.encode(content).decode()
