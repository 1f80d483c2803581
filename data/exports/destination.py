"""A destination as a value: where a site's events are exported to, how they are written, and when."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec

from data.exports.layout import FIELDS, USUAL_FILE_BYTES, Compression, FileFormat, Layout
from data.queries import EVERYTHING, EventFilter
from data.s3.places import AccessKey, BucketPlace, PlaceInvalid, Role

HOURLY = "HOURLY"
DAILY = "DAILY"
REALTIME = "REALTIME"
MANUAL = "MANUAL"

# Of services that know no regions; the library wants one in any case.
ANY_REGION = "us-east-1"


class TargetKind(StrEnum):
    """Which bucket of a destination; the values are those of the ledger and of notices."""

    CLIENT = "client"
    BACKUP = "backup"


class AssumedRole(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A role to assume. The external id is ours, one for each destination, and no secret.

    `sts_endpoint` is for services other than AWS.
    """

    arn: str
    external_id: str
    sts_endpoint: str | None = None


class Place(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A bucket and the prefix in it, without credentials. Without an endpoint it is one of AWS.

    With a `role`, that is assumed: by the key that was given or, where none was, by the service's
    own, which is the secret `ROLE_KEY_SECRET`.
    """

    bucket: str
    prefix: str = ""
    region: str = ANY_REGION
    endpoint: str | None = None
    role: AssumedRole | None = None

    def opened_by(self, key: AccessKey) -> BucketPlace:
        """The bucket, to be opened by a key; raises `PlaceInvalid`."""
        login: AccessKey | Role = key
        if self.role is not None:
            role = self.role
            login = Role(role.arn, role.external_id, key, role.sts_endpoint)
        return BucketPlace(self.bucket, self.region, login, self.endpoint)


# `footfall secrets set footfall-export-role-key`: KEY_ID:SECRET.
ROLE_KEY_SECRET = "footfall-export-role-key"  # noqa: S105 - the name of a secret


def role_key_of(text: str) -> AccessKey:
    """The service's own key for roles, out of its secret; raises `PlaceInvalid`."""
    key_id, _, secret = text.strip().partition(":")
    if not key_id or not secret:
        raise PlaceInvalid(f"the secret {ROLE_KEY_SECRET} is not of the form KEY_ID:SECRET")
    return AccessKey(key_id, secret)


class RunLayout(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What runs take and how their files are written. `filter` None: every event."""

    format: FileFormat = FileFormat.JSONL
    compression: Compression = Compression.GZIP
    fields: tuple[str, ...] = FIELDS
    max_file_bytes: int = USUAL_FILE_BYTES
    filter: EventFilter | None = None

    @property
    def layout(self) -> Layout:
        """How files are written; raises `LayoutInvalid`."""
        return Layout(self.format, self.compression, self.fields, self.max_file_bytes)

    @property
    def wanted(self) -> EventFilter:
        """Which events are taken."""
        return self.filter or EVERYTHING


class Destination(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """Where and how a site's events are exported. Made of an input or of a row of the ledger.

    `schedule` is HOURLY (at minute 0), DAILY (at midnight), REALTIME, MANUAL or five fields of
    cron, in `timezone`. A run begins as soon as `threshold_events` wait, too. No credentials are
    in here: those of `client`, `backup` and of the webhook lie beside it.
    """

    destination_id: UUID
    site_id: str
    name: str
    client: Place
    backup: Place | None = None
    layout: RunLayout = RunLayout()
    schedule: str = HOURLY
    timezone: str = "UTC"
    threshold_events: int | None = None
    webhook_url: str | None = None

    def place(self, target: TargetKind) -> Place | None:
        """The bucket of a target; None where there is no backup."""
        return self.client if target is TargetKind.CLIENT else self.backup

    @property
    def places(self) -> dict[TargetKind, Place]:
        """The buckets that each run is written into."""
        found = {TargetKind.CLIENT: self.client}
        return found if self.backup is None else {**found, TargetKind.BACKUP: self.backup}
