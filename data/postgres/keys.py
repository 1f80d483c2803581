"""API keys in the ledger: who may do what; of the secret only a hash is kept."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from data.postgres.tables import api_keys


class Scope(StrEnum):
    """What a key may do."""

    INGEST = "INGEST"
    READ = "READ"
    ADMIN = "ADMIN"


class DocumentsMode(StrEnum):
    """Which documents a key may send, and whether it may name them by a hash instead.

    OFF: any, always whole. APQ: any; those sent once may then be named by their hash. TRUSTED:
    none but trusted documents, whole or by name.
    """

    OFF = "OFF"
    APQ = "APQ"
    TRUSTED = "TRUSTED"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the ledger knows it. `site_id` None: a key for all sites.

    `last_used_at` is a minute late at most, and None for a key that never was.
    """

    key_id: str
    name: str
    site_id: str | None
    scopes: frozenset[Scope]
    documents: DocumentsMode
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    secret_hash: bytes
    last_used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `text` is what its owner sends; it cannot be had again."""

    key_id: str
    text: str
    secret_hash: bytes


PREFIX = "ff"


def new_key() -> NewKey:
    """A fresh key: `ff_ID_SECRET` with 256 random bits in the secret."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    return NewKey(key_id, f"{PREFIX}_{key_id}_{secret}", hash_secret(secret))


def hash_secret(secret: str) -> bytes:
    """SHA-256; enough for random secrets, which cannot be guessed from a word list."""
    return sha256(secret.encode()).digest()


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key as it is sent, or None if it does not look like one."""
    parts = text.split("_")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == PREFIX else None


def secret_matches(secret: str, expected_hash: bytes) -> bool:
    """Compared in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_secret(secret), expected_hash)


async def all_keys(connection: AsyncConnection) -> list[ApiKey]:
    """Every key, revoked ones too, oldest first."""
    statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    return [
        ApiKey(
            key_id=row.key_id,
            name=row.name,
            site_id=row.site_id,
            scopes=frozenset(Scope(scope) for scope in row.scopes),
            documents=DocumentsMode(row.documents),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            secret_hash=row.secret_hash,
            last_used_at=row.last_used_at,
        )
        for row in await connection.execute(statement)
    ]


async def add_key(connection: AsyncConnection, key: ApiKey) -> None:
    """Keep a new key."""
    await connection.execute(
        insert(api_keys).values(
            key_id=key.key_id,
            secret_hash=key.secret_hash,
            name=key.name,
            site_id=key.site_id,
            scopes=sorted(scope.value for scope in key.scopes),
            documents=key.documents.value,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )


async def revoke_key(
    connection: AsyncConnection, key_id: str, now: datetime, site_id: str | None = None
) -> bool:
    """End a key, of the site if one is named; False if there is none that is not revoked yet."""
    statement = (
        update(api_keys)
        .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if site_id is not None:
        statement = statement.where(api_keys.c.site_id == site_id)
    result = await connection.execute(statement)
    return result.rowcount == 1
