"""Export destinations as they are to be: what `saveExportDestination` takes."""

from __future__ import annotations

import strawberry
from strawberry import ID

from data import queries
from data.exports.destination import RunLayout
from data.exports.layout import FIELDS, USUAL_FILE_BYTES
from resolvers.errors import BadUserInput
from resolvers.export_drafts import BucketDraft, DestinationDraft
from schema.export_enums import Compression, FileFormat
from schema.filters import EventFilter
from schema.scalars import BigInt


@strawberry.input
class ExportDestinationInput:
    """A destination as it is to be, as a whole: what is left out has its default.

    Credentials are the exception: those that are left out stay as they are.
    """

    id: ID | None = strawberry.field(
        description="The destination to change; a new one is made where it is left out."
    )
    site_id: ID | None = strawberry.field(
        description=(
            "The site whose events are taken. It may be left out where there is no choice; a "
            "destination stays with its site."
        )
    )
    name: str = strawberry.field(
        description="1 to 100 characters to know it by; `footfall export` takes it, too."
    )
    bucket: str = strawberry.field(description="The bucket; it must be there already.")
    prefix: str | None = strawberry.field(
        default="",
        description=(
            "What the names of all objects begin with, such as `footfall/shop`. No two "
            "destinations may share one, nor may one lie within another."
        ),
    )
    region: str | None = strawberry.field(
        description="The region of the bucket; `us-east-1` where it is left out."
    )
    endpoint_url: str | None = strawberry.field(
        description=(
            "The service that has the bucket, such as `https://s3.example.com`; where it is left "
            "out the operator's S3_ENDPOINT_URL or, without one, AWS."
        )
    )
    access_key_id: str | None = strawberry.field(
        description="The key by which the service gets in; it is not shown again."
    )
    secret_access_key: str | None = strawberry.field(
        description="The secret of that key; it is not shown again."
    )
    role_arn: str | None = strawberry.field(
        description=(
            "A role to assume in place of a key. Its trust policy must ask for the `externalId` of "
            "`exportSetup`."
        )
    )
    format: FileFormat = strawberry.field(
        default=FileFormat.JSONL, description="How its files are written."
    )
    compression: Compression = strawberry.field(
        default=Compression.GZIP, description="How its files are compressed."
    )
    schedule: str = strawberry.field(
        default="HOURLY",
        description=(
            "HOURLY (at minute 0), DAILY (at midnight), REALTIME (within a minute), MANUAL, or "
            "five cron fields such as `30 2 * * mon-fri`."
        ),
    )
    timezone: str | None = strawberry.field(
        default="UTC", description="IANA name of the time zone of DAILY and of cron fields."
    )
    threshold_events: int | None = strawberry.field(
        description="Begin a run as soon as so many events wait, whatever the schedule says."
    )
    max_file_bytes: BigInt | None = strawberry.field(
        default=BigInt(USUAL_FILE_BYTES), description="The most bytes that a file may have."
    )
    filter: EventFilter | None = strawberry.field(
        description="Take these events only; every event where it is left out."
    )
    fields: list[str] | None = strawberry.field(
        description=(
            "The fields of each event, by the names that `footfall import` takes; all of them "
            "where it is left out. `event_id` is always among them."
        )
    )
    backup_bucket: str | None = strawberry.field(
        description="A second bucket, which gets the same files and a record of what each run took."
    )
    backup_prefix: str | None = strawberry.field(
        description="Its prefix; `prefix` where it is left out."
    )
    backup_region: str | None = strawberry.field(
        description="Its region; `region` where it is left out."
    )
    backup_endpoint_url: str | None = strawberry.field(
        description="The service that has it; that of the first bucket where it is left out."
    )
    backup_access_key_id: str | None = strawberry.field(
        description="Its key; the first bucket's login is used where no other is given."
    )
    backup_secret_access_key: str | None = strawberry.field(
        description="The secret of its key; it is not shown again."
    )
    backup_role_arn: str | None = strawberry.field(
        description="A role to assume for it in place of a key."
    )
    webhook_url: str | None = strawberry.field(
        description="An address to tell what becomes of runs, by signed POST requests."
    )
    rotate_webhook_secret: bool | None = strawberry.field(
        default=False, description="Sign notices by a new secret from now on, which is shown once."
    )
    rotate_hook: bool | None = strawberry.field(
        default=False,
        description="Make a new token for `POST /hooks/export/TOKEN`, which is shown once.",
    )

    def to_draft(self) -> DestinationDraft:
        """The destination for the resolver; null and an empty text count as left out."""
        return DestinationDraft(
            destination_id=self.id or None,
            site_id=self.site_id or None,
            name=self.name,
            client=BucketDraft(
                bucket=self.bucket,
                prefix=self.prefix or "",
                region=self.region or None,
                endpoint_url=self.endpoint_url or None,
                access_key_id=self.access_key_id or None,
                secret_access_key=self.secret_access_key or None,
                role_arn=self.role_arn or None,
            ),
            backup=self._backup(),
            layout=RunLayout(
                format=self.format,
                compression=self.compression,
                fields=FIELDS if self.fields is None else tuple(self.fields),
                max_file_bytes=(
                    USUAL_FILE_BYTES if self.max_file_bytes is None else self.max_file_bytes
                ),
                filter=self._filter(),
            ),
            schedule=self.schedule,
            timezone=self.timezone or "UTC",
            threshold_events=self.threshold_events,
            webhook_url=self.webhook_url or None,
            rotates_webhook_secret=bool(self.rotate_webhook_secret),
            rotates_hook=bool(self.rotate_hook),
        )

    def _filter(self) -> queries.EventFilter | None:
        wanted = self.filter.to_query() if self.filter else queries.EVERYTHING
        return None if wanted == queries.EVERYTHING else wanted

    def _backup(self) -> BucketDraft | None:
        given = {
            "backupPrefix": self.backup_prefix,
            "backupRegion": self.backup_region,
            "backupEndpointUrl": self.backup_endpoint_url,
            "backupAccessKeyId": self.backup_access_key_id,
            "backupSecretAccessKey": self.backup_secret_access_key,
            "backupRoleArn": self.backup_role_arn,
        }
        if not self.backup_bucket:
            for name, value in given.items():
                if value:
                    raise BadUserInput(name, f"{name} is about a backup: give backupBucket, too")
            return None
        return BucketDraft(
            bucket=self.backup_bucket,
            prefix=self.prefix or "" if self.backup_prefix is None else self.backup_prefix,
            region=self.backup_region or self.region or None,
            endpoint_url=self.backup_endpoint_url or self.endpoint_url or None,
            access_key_id=self.backup_access_key_id or None,
            secret_access_key=self.backup_secret_access_key or None,
            role_arn=self.backup_role_arn or None,
        )
