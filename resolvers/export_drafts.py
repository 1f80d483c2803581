"""Export destinations as somebody wants them, and the values that they become."""

from __future__ import annotations

from dataclasses import dataclass, field

from data.exports.destination import RunLayout


@dataclass(frozen=True, slots=True)
class BucketDraft:
    """A bucket as it is to be; None: what is there already, or the default."""

    bucket: str
    prefix: str
    region: str | None
    endpoint_url: str | None
    access_key_id: str | None = field(repr=False)
    secret_access_key: str | None = field(repr=False)
    role_arn: str | None


@dataclass(frozen=True, slots=True)
class DestinationDraft:
    """A destination as it is to be; without an id a new one."""

    destination_id: str | None
    site_id: str | None
    name: str
    client: BucketDraft
    backup: BucketDraft | None
    layout: RunLayout
    schedule: str
    timezone: str
    threshold_events: int | None
    webhook_url: str | None
    rotates_webhook_secret: bool
    rotates_hook: bool
