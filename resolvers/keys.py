"""API keys: listing, making and revoking them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from data.postgres.engine import Engine, LedgerUnavailable, transaction
from data.postgres.keys import (
    ApiKey,
    DocumentsMode,
    NewKey,
    Scope,
    add_key,
    new_key,
    revoke_key,
)
from resolvers.access import require_scope, require_site
from resolvers.context import Context
from resolvers.errors import BadUserInput, Forbidden, NotFound, Unavailable
from resolvers.names import checked_name


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """A key as it is to be; `site_id` None is a key for all sites."""

    name: str
    scopes: Collection[Scope]
    site_id: str | None = None
    expires_at: datetime | None = None
    documents: DocumentsMode = DocumentsMode.APQ


def checked(draft: KeyDraft, now: datetime) -> KeyDraft:
    """The draft, if a key can be like this; raises `BadUserInput`."""
    name = checked_name(draft.name, "key")
    if not draft.scopes:
        raise BadUserInput("scopes", "a key needs at least one scope: INGEST, READ or ADMIN")
    if draft.expires_at is not None and draft.expires_at <= now:
        raise BadUserInput("expiresAt", "expiresAt is in the past")
    return replace(draft, name=name)


async def api_keys(ctx: Context, site_id: str | None) -> list[ApiKey]:
    """The keys of a site; all of them where none is named by an admin of all sites."""
    require_scope(ctx.caller, Scope.ADMIN)
    wanted = site_id or ctx.caller.site_id
    if wanted is not None:
        wanted = (await require_site(ctx, wanted, Scope.ADMIN)).site_id
    try:
        keys = await ctx.resources.directory.keys()
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "keys cannot be read now; try again shortly") from error
    return [key for key in keys if wanted in (None, key.site_id)]


async def create_api_key(ctx: Context, draft: KeyDraft) -> NewKey:
    """A new key; an admin of one site makes keys of that site alone."""
    require_scope(ctx.caller, Scope.ADMIN)
    site_id = draft.site_id or ctx.caller.site_id
    if site_id is not None:
        site_id = (await require_site(ctx, site_id, Scope.ADMIN)).site_id
    wanted = checked(draft, ctx.now)
    try:
        made = await store_key(ctx.resources.ledger.writer, wanted, site_id, ctx.now)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "the key cannot be made now; try again shortly") from error
    ctx.resources.directory.forget()
    return made


async def store_key(writer: Engine, draft: KeyDraft, site_id: str | None, now: datetime) -> NewKey:
    """Make a key and keep its hash."""
    made = new_key()
    key = ApiKey(
        key_id=made.key_id,
        name=draft.name.strip(),
        site_id=site_id,
        scopes=frozenset(draft.scopes),
        documents=draft.documents,
        created_at=now,
        expires_at=draft.expires_at,
        revoked_at=None,
        secret_hash=made.secret_hash,
    )
    async with transaction(writer) as connection:
        await add_key(connection, key)
    return made


async def revoke_api_key(ctx: Context, key_id: str) -> bool:
    """End a key, at once in this process and within a second in others."""
    require_scope(ctx.caller, Scope.ADMIN)
    missing = NotFound(f"there is no key {key_id!r} that could be revoked", argument="id")
    if not key_id.isalnum():  # PostgreSQL would not even look for a NUL
        raise missing
    try:
        known = await ctx.resources.directory.key(key_id)
        if known is not None and ctx.caller.site_id not in (None, known.site_id):
            raise Forbidden("this key belongs to another site")
        async with transaction(ctx.resources.ledger.writer) as connection:
            revoked = await revoke_key(connection, key_id, ctx.now, ctx.caller.site_id)
    except LedgerUnavailable as error:
        raise Unavailable("ledger", "the key cannot be revoked now; try again shortly") from error
    ctx.resources.directory.forget()
    if not revoked:
        raise missing
    return True
