"""Buckets of destinations, opened by the keys that are kept for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import structlog

from data.envelope import key_version
from data.exports.destination import (
    ROLE_KEY_SECRET,
    Destination,
    Place,
    TargetKind,
    role_key_of,
)
from data.postgres.engine import Engine, transaction
from data.postgres.export_destinations import (
    SealedSecrets,
    sealed_secrets,
)
from data.postgres.export_sealed import all_sealed, replace_sealed
from data.s3.bucket import Bucket, open_bucket
from data.s3.clients import Pace
from data.s3.places import AccessKey
from data.secret_errors import Undecipherable
from data.secrets import Secrets

log = structlog.get_logger()


class NoCredentials(Exception):
    """There is no key that a bucket could be opened by; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ExportBuckets:
    """Opens buckets. `engine` writes the ledger; `allow_private`: on private networks, too."""

    engine: Engine
    secrets: Secrets
    allow_private: bool
    pace: Pace = field(default_factory=Pace)

    @asynccontextmanager
    async def open(self, place: Place, key: AccessKey | None) -> AsyncIterator[Bucket]:
        """A bucket by a key that was given just now; None: by the service's own, for a role.

        Raises `PlaceInvalid`, `NoCredentials` and what secrets raise.
        """
        opened_by = key if key is not None else await self._role_key(place)
        opened = open_bucket(
            place.opened_by(opened_by), allow_private=self.allow_private, pace=self.pace
        )
        async with opened as bucket:
            yield bucket

    @asynccontextmanager
    async def open_target(
        self, destination: Destination, target: TargetKind
    ) -> AsyncIterator[Bucket]:
        """A bucket of a destination, by what is kept for it; raises as `open`, `Undecipherable`."""
        place = destination.place(target)
        if place is None:
            raise NoCredentials("the destination has no backup bucket")
        key = await self.kept_key(destination.destination_id, target)
        async with self.open(place, key) as bucket:
            yield bucket

    async def probe(self, place: Place, key: AccessKey | None) -> None:
        """Write and delete a few bytes; raises as `open`, and `BucketFailed` with what is missing."""
        async with self.open(place, key) as bucket:
            await bucket.probe(place.prefix)

    async def seal(self, destination_id: UUID, target: TargetKind, key: AccessKey) -> str:
        """A key as it is kept in the ledger; raises `SecretsUnavailable`."""
        plain = msgspec.json.encode(key)
        return await self.secrets.envelope.encrypt(plain, secret_context(destination_id, target))

    async def kept_key(self, destination_id: UUID, target: TargetKind) -> AccessKey | None:
        """The key that is kept for a target; the backup's is the client's where it has none."""
        sealed = await sealed_secrets(self.engine, destination_id)
        for kind, text in _texts(sealed, target):
            if text is not None:
                context = secret_context(destination_id, kind)
                plain = await self.secrets.envelope.decrypt(text, context)
                return msgspec.json.decode(plain, type=AccessKey)
        return None

    async def rewrap(self) -> int:
        """How many secrets were moved on to the newest key just now, so that older ones may go.

        Raises `LedgerUnavailable` and `SecretsUnavailable`. What cannot be read stays as it is.
        """
        envelope = self.secrets.envelope
        newest = await envelope.newest_version()
        moved = 0
        for destination_id, kind, text in await all_sealed(self.engine):
            try:
                if key_version(text) >= newest:
                    continue
                again = await envelope.rewrap(text, secret_context(destination_id, kind))
            except Undecipherable as error:
                log.warning(
                    "export.secret.unreadable",
                    destination=str(destination_id),
                    kind=kind.value,
                    reason=str(error),
                )
                continue
            async with transaction(self.engine) as connection:
                moved += await replace_sealed(connection, destination_id, kind, text, again)
        return moved

    async def _role_key(self, place: Place) -> AccessKey:
        if place.role is None:
            raise NoCredentials(
                f"no credentials are kept for bucket {place.bucket}: save the destination with them"
            )
        return role_key_of(await self.secrets.named(ROLE_KEY_SECRET))


def secret_context(destination_id: UUID, kind: str) -> bytes:
    """What a secret of a destination is bound to: it can be read for nothing else."""
    return f"export:{destination_id}:{kind}".encode()


def _texts(sealed: SealedSecrets | None, target: TargetKind) -> list[tuple[TargetKind, str | None]]:
    if sealed is None:
        return []
    client = (TargetKind.CLIENT, sealed.client)
    return [client] if target is TargetKind.CLIENT else [(target, sealed.backup), client]
