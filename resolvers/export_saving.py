"""Saving destinations of exports: checked, tried out, and with their secrets put away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from data.export_buckets import secret_context
from data.exports.checking import DestinationInvalid
from data.exports.destination import Destination, TargetKind
from data.exports.hooks import hook_hash, new_hook_token
from data.exports.notices import Notice, NoticeKind, Told
from data.exports.records import StoredDestination
from data.exports.webhooks import (
    WebhookInvalid,
    new_webhook_secret,
    require_webhook,
)
from data.postgres.admin_log import record
from data.postgres.engine import LedgerRefused, LedgerUnavailable, transaction
from data.postgres.export_destinations import (
    SecretChanges,
    SecretKind,
    destinations,
    save_destination,
    sealed_secrets,
)
from data.postgres.export_notices import add_notice
from data.postgres.keys import Scope
from data.s3.places import AccessKey
from data.secret_errors import SecretsUnavailable, SecretsUnreadable, Undecipherable
from resolvers.access import require_scope, require_site
from resolvers.context import Context
from resolvers.errors import BadUserInput, Unavailable
from resolvers.export_drafts import DestinationDraft
from resolvers.export_entries import saving_entries
from resolvers.export_places import Ground, Wanted, wanted_destination
from resolvers.export_trials import try_place
from resolvers.export_views import (
    MAX_DESTINATIONS,
    Secrets,
    ShownDestination,
    shown_destination,
    with_secrets,
)
from resolvers.exports import external_id_of, require_destination, tell_loaders, unsaved
from resolvers.reports import require_filter

_LOOK_UP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Secrets as the ledger is to keep them, and as they are shown this once."""

    changes: SecretChanges
    shown: Secrets = field(repr=False)


async def save(ctx: Context, draft: DestinationDraft) -> ShownDestination:
    """Change a destination, or make a new one, after all of it that can be tried was tried."""
    require_scope(ctx.caller, Scope.ADMIN)
    before = None
    if draft.destination_id is not None:
        before = await require_destination(ctx, draft.destination_id, "id")
    wanted = await _checked(ctx, draft, before)
    try:
        await _try_buckets(ctx, wanted, before)
        sealed = await _seal(ctx, wanted, draft, before)
        saved = await _write(ctx, wanted, before, sealed)
    except DestinationInvalid as error:
        raise BadUserInput(error.field, str(error)) from None
    except (LedgerUnavailable, LedgerRefused) as error:
        raise unsaved() from error
    except (SecretsUnavailable, SecretsUnreadable) as error:
        raise Unavailable("secrets", "nothing can be encrypted now; try again shortly") from error
    except Undecipherable:
        raise BadUserInput(
            "accessKeyId", "the credentials that are kept cannot be read any more: give them again"
        ) from None
    ctx.resources.exporter.wake()
    tell_loaders(ctx, saved)
    return with_secrets(shown_destination(saved), sealed.shown)


async def _checked(
    ctx: Context, draft: DestinationDraft, before: StoredDestination | None
) -> Wanted:
    """The destination that is meant; refuses what can be known to be wrong without its buckets."""
    named = draft.site_id or (before.site_id if before else None)
    site_id = (await require_site(ctx, named, Scope.ADMIN)).site_id
    known = before.destination if before else None
    exporter, ledger_id = ctx.resources.exporter, ctx.resources.ledger.ledger_id
    ground = Ground(known, site_id, external_id_of(ledger_id, site_id), exporter.endpoint)
    try:
        wanted = wanted_destination(draft, ground)
    except DestinationInvalid as error:
        raise BadUserInput(error.field, str(error)) from None
    await require_filter(ctx, wanted.destination.layout.wanted)
    await _require_room(ctx, wanted.destination)
    await _require_webhook(ctx, wanted.destination.webhook_url)
    return wanted


async def _require_room(ctx: Context, wanted: Destination) -> None:
    try:
        found = await destinations(ctx.resources.ledger.writer)
    except (LedgerUnavailable, LedgerRefused) as error:
        raise unsaved() from error
    others = [one for one in found if one.destination_id != wanted.destination_id]
    if len(others) >= MAX_DESTINATIONS:
        raise BadUserInput(
            "name", f"there are {MAX_DESTINATIONS:,} destinations, and that is the most"
        )


async def _require_webhook(ctx: Context, url: str | None) -> None:
    if url is None:
        return
    try:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            await require_webhook(url, allow_private=ctx.resources.exporter.buckets.allow_private)
    except WebhookInvalid as error:
        raise BadUserInput("webhookUrl", str(error)) from None
    except TimeoutError:
        raise BadUserInput(
            "webhookUrl", "the name of its host could not be looked up in time"
        ) from None


async def _try_buckets(ctx: Context, wanted: Wanted, before: StoredDestination | None) -> None:
    keys = await _keys(ctx, wanted, before)
    for target, place in wanted.destination.places.items():
        await try_place(ctx.resources.exporter.buckets, target, place, keys[target])


async def _keys(
    ctx: Context, wanted: Wanted, before: StoredDestination | None
) -> dict[TargetKind, AccessKey | None]:
    """By what each bucket will be opened: a key that was given or is kept, or the service's own."""
    destination_id = wanted.destination.destination_id
    buckets = ctx.resources.exporter.buckets
    sealed = await sealed_secrets(ctx.resources.ledger.writer, destination_id) if before else None
    client = wanted.keys.get(TargetKind.CLIENT)
    if client is None and sealed is not None and SecretKind.CLIENT not in wanted.forgotten:
        client = await buckets.kept_key(destination_id, TargetKind.CLIENT)
    backup = wanted.keys.get(TargetKind.BACKUP)
    is_kept = sealed is not None and sealed.backup is not None
    if backup is None and is_kept and SecretKind.BACKUP not in wanted.forgotten:
        backup = await buckets.kept_key(destination_id, TargetKind.BACKUP)
    return {TargetKind.CLIENT: client, TargetKind.BACKUP: backup or client}


async def _seal(
    ctx: Context, wanted: Wanted, draft: DestinationDraft, before: StoredDestination | None
) -> _Sealed:
    destination_id = wanted.destination.destination_id
    sealed = {
        target: await ctx.resources.exporter.buckets.seal(destination_id, target, key)
        for target, key in wanted.keys.items()
    }
    token = new_hook_token() if before is None or draft.rotates_hook else None
    forgotten = set(wanted.forgotten)
    webhook_secret = None
    if draft.webhook_url is None:
        forgotten.add(SecretKind.WEBHOOK)
    elif before is None or before.webhook_secret_at is None or draft.rotates_webhook_secret:
        webhook_secret = new_webhook_secret()
    changes = SecretChanges(
        client=sealed.get(TargetKind.CLIENT),
        backup=sealed.get(TargetKind.BACKUP),
        webhook=await _sealed_webhook(ctx, destination_id, webhook_secret),
        hook_hash=None if token is None else hook_hash(token),
        forgotten=frozenset(forgotten),
    )
    return _Sealed(changes, Secrets(token, webhook_secret))


async def _sealed_webhook(ctx: Context, destination_id: UUID, secret: str | None) -> str | None:
    if secret is None:
        return None
    envelope = ctx.resources.secrets.envelope
    return await envelope.encrypt(
        secret.encode(), secret_context(destination_id, SecretKind.WEBHOOK)
    )


async def _write(
    ctx: Context, wanted: Wanted, before: StoredDestination | None, sealed: _Sealed
) -> StoredDestination:
    known = before.destination if before else None
    async with transaction(ctx.resources.ledger.writer) as connection:
        saved = await save_destination(connection, wanted.destination, sealed.changes, ctx.now)
        for entry in saving_entries(ctx, known, saved.destination, sealed.changes):
            await record(connection, entry)
        url = saved.destination.webhook_url
        is_other = known is None or known.webhook_url != url or sealed.changes.webhook is not None
        if url is not None and is_other:
            told = Told(
                destination_id=saved.destination_id,
                destination=saved.destination.name,
                site_id=saved.site_id,
            )
            await add_notice(connection, Notice(NoticeKind.TEST, ctx.now, told))
    return saved
