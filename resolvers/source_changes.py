"""Saving and deleting sources, and refreshing them by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from data.admin_log import AdminAction, Entry
from data.postgres.admin_log import record, record_alone
from data.postgres.engine import LedgerRefused, LedgerUnavailable, transaction
from data.postgres.source_reading import audits_by_ids
from data.postgres.sources import (
    StoredSource,
    all_sources,
    delete_source,
    save_source,
    source_by_key,
)
from data.secret_errors import SecretMissing, SecretsUnavailable, SecretsUnreadable
from data.sources.checking import SourceInvalid, check_reachable, check_source
from data.sources.records import StoredAudit
from data.sources.source import Source
from resolvers.access import require_service_wide
from resolvers.context import Context
from resolvers.errors import BadUserInput, NotFound, Unavailable
from resolvers.sources import MAX_SOURCES, ShownSource, can_be_kept, shown

# What is left of a request's time, at the least, to tell what became of a refresh.
_REST_SECONDS = 1.0
_LOOK_UP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh by hand came to: sources as they are now, and what has ended of it.

    `running`: keys of those that are still under way, or wait for their turn.
    """

    sources: Sequence[ShownSource]
    audits: Sequence[StoredAudit]
    running: Sequence[str]


async def save(ctx: Context, source: Source) -> ShownSource:
    """Change a source, or make a new one, after all of it that can be checked was checked."""
    require_service_wide(ctx.caller)
    try:
        check_source(source)
        await _require_site(ctx, source.site_id)
        await _require_secrets(ctx, source)
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            await check_reachable(source, allow_private=ctx.resources.refresher.allow_private)
    except TimeoutError:
        raise BadUserInput("url", "the name of its host could not be looked up in time") from None
    except SourceInvalid as error:
        raise BadUserInput(error.field, str(error)) from None
    try:
        writer = ctx.resources.ledger.writer
        before = await source_by_key(writer, source.key, ctx.now)
        if before is not None and before.is_declared:
            raise _declared(source.key)
        if before is None and len(await all_sources(writer, ctx.now)) >= MAX_SOURCES:
            raise BadUserInput("key", f"there are {MAX_SOURCES:,} sources, and that is the most")
        async with transaction(writer) as connection:
            saved = await save_source(connection, source, ctx.now, is_declared=False)
            details = saving(before.source if before else None, source)
            await record(connection, _entry(ctx, AdminAction.SOURCE_SAVED, source, details))
    except (LedgerUnavailable, LedgerRefused) as error:
        raise _unsaved() from error
    _tell_loaders(ctx, [saved], ())
    return shown(saved)


async def delete(ctx: Context, key: str) -> bool:
    """Delete a source with its records and audits."""
    require_service_wide(ctx.caller)
    missing = NotFound(f"there is no source {key!r}", argument="key")
    if not can_be_kept(key):
        raise missing
    try:
        writer = ctx.resources.ledger.writer
        before = await source_by_key(writer, key, ctx.now)
        if before is None:
            raise missing
        if before.is_declared:
            raise _declared(key)
        async with transaction(writer) as connection:
            is_deleted = await delete_source(connection, key)
            if is_deleted:
                details: dict[str, object] = {"records": before.state.records}
                entry = _entry(ctx, AdminAction.SOURCE_DELETED, before.source, details)
                await record(connection, entry)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise _unsaved() from error
    if not is_deleted:
        raise missing
    ctx.resources.metrics.sources.forget(key)
    _tell_loaders(ctx, (), ())
    return True


async def refresh(ctx: Context, keys: Sequence[str] | None, *, wait: bool) -> Refreshed:
    """Fetch sources now: these, or all that are switched on."""
    require_service_wide(ctx.caller)
    refresher, writer = ctx.resources.refresher, ctx.resources.ledger.writer
    try:
        wanted = await _wanted(ctx, keys)
        details: dict[str, object] = {"keys": wanted[:50], "sources": len(wanted)}
        target = "every source" if keys is None else ", ".join(wanted[:5])
        if wanted:
            action = AdminAction.SOURCES_REFRESHED
            entry = Entry(ctx.now, ctx.caller.actor, action, target, None, details)
            await record_alone(writer, entry)
        audit_ids: Sequence[int] = ()
        if wait:
            audit_ids = await refresher.refresh(wanted, seconds=_seconds(ctx))
        else:
            await refresher.begin(wanted)
        audits = await audits_by_ids(writer, audit_ids)
        told = set(wanted)
        found = await all_sources(writer, ctx.resources.clock())
    except (LedgerUnavailable, LedgerRefused) as error:
        raise Unavailable("ledger", "sources cannot be refreshed now; try again shortly") from error
    sources = [stored for stored in found if stored.source.key in told]
    _tell_loaders(ctx, found, audits)
    return Refreshed(
        sources=[shown(stored) for stored in sources],
        audits=audits,
        running=_unfinished(sources, audits, ctx.resources.clock()),
    )


def _unfinished(
    sources: Sequence[StoredSource], audits: Sequence[StoredAudit], now: datetime
) -> list[str]:
    """The keys of sources that are being refreshed, or are due and wait for their turn."""
    ended = {audit.source_key for audit in audits}
    return [
        stored.source.key
        for stored in sources
        if stored.state.is_held or (stored.source.key not in ended and _is_due(stored, now))
    ]


def _is_due(stored: StoredSource, now: datetime) -> bool:
    at = stored.state.next_attempt_at
    return at is not None and at <= now


def _tell_loaders(
    ctx: Context, found: Sequence[StoredSource], audits: Sequence[StoredAudit]
) -> None:
    """Have the rest of the answer tell what is now: a replica may not know of it yet."""
    loaders = ctx.loaders
    loaders.sources.clear_all()
    loaders.last_audits.clear_all()
    for stored in found:
        loaders.sources.prime(stored.source.key, stored)
    for audit in reversed(audits):  # of several the newest
        loaders.last_audits.prime(audit.source_key, audit)


def _seconds(ctx: Context) -> float:
    """How long to wait for refreshes: what a request may take, less what the rest of it takes."""
    allowed = ctx.throttle.allowance.seconds
    return max(allowed / 2, allowed - max(_REST_SECONDS, allowed / 10))


async def _wanted(ctx: Context, keys: Sequence[str] | None) -> list[str]:
    """The keys that are meant; raises `BadUserInput` for one that cannot be refreshed."""
    known = {
        stored.source.key: stored.source
        for stored in await all_sources(ctx.resources.ledger.writer, ctx.now)
    }
    if keys is None:
        return [key for key, source in known.items() if source.enabled]
    for key in keys:
        if key not in known:
            raise BadUserInput("keys", f"there is no source {key!r}")
        if not known[key].enabled:
            raise BadUserInput("keys", f"the source {key!r} is switched off: enable it first")
    return list(dict.fromkeys(keys))


async def _require_site(ctx: Context, site_id: str | None) -> None:
    if site_id is None:
        return
    try:
        site = await ctx.resources.directory.site(site_id)
    except LedgerUnavailable as error:
        raise _unsaved() from error
    if site is None:
        raise BadUserInput("siteId", f"there is no site {site_id!r}")


async def _require_secrets(ctx: Context, source: Source) -> None:
    for header in source.headers:
        if header.secret is None:
            continue
        try:
            await ctx.resources.secrets.named(header.secret)
        except SecretMissing as error:
            raise BadUserInput("headers", f"header {header.name}: {error}") from None
        except (SecretsUnavailable, SecretsUnreadable) as error:
            raise Unavailable("secrets", "secrets cannot be read now; try again shortly") from error


def _declared(key: str) -> BadUserInput:
    return BadUserInput(
        "key", f"the source {key!r} is declared in SOURCES_FILE: change it there, and start anew"
    )


def _unsaved() -> Unavailable:
    return Unavailable("ledger", "sources cannot be saved now; try again shortly")


def _entry(ctx: Context, action: AdminAction, source: Source, details: dict[str, object]) -> Entry:
    return Entry(ctx.now, ctx.caller.actor, action, source.key, source.site_id, details)


def saving(before: Source | None, saved: Source) -> dict[str, object]:
    """What the admin log says of a source that was made (`before` is None) or changed."""
    new = _described(saved)
    if before is None:
        return {"isNew": True, **new}
    old = _described(before)
    names = [name for name in new.keys() | old.keys() if new.get(name) != old.get(name)]
    changes = {name: {"from": old.get(name), "to": new.get(name)} for name in sorted(names)}
    hidden = [name for name in ("body", "headers") if getattr(before, name) != getattr(saved, name)]
    return {"isNew": False, "changes": changes, "changedUnseen": hidden}


def _described(source: Source) -> dict[str, object]:
    """A source without what may be confidential: its body, and values of headers."""
    plain: dict[str, object] = msgspec.to_builtins(source)
    plain.pop("body", None)
    if source.headers:
        plain["headers"] = [
            f"{header.name}: {{{header.secret}}}" if header.secret else header.name
            for header in source.headers
        ]
    return plain
