"""`footfall keys`: make, list and end API keys."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated

import typer

from data.postgres.engine import transaction
from data.postgres.keys import (
    ApiKey,
    DocumentsMode,
    NewKey,
    Scope,
    all_keys,
    revoke_key,
    split_key,
)
from resolvers.errors import NotFound
from resolvers.keys import KeyDraft, checked, store_key
from resolvers.pipeline import parse_instant
from server.cli.options import Json
from server.cli.session import (
    opened_ledger,
    require_known_site,
    run,
    service_keys,
    settings_of_command,
)
from server.cli.terminal import say, show, show_json, show_table
from server.clock import utc_now
from server.settings import Settings


def _scopes(text: str) -> frozenset[Scope]:
    names = [part.strip().upper() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in set(Scope)]
    if unknown or not names:
        raise typer.BadParameter(
            "name one or more of ingest, read, admin, with commas between", param_hint="--scopes"
        )
    return frozenset(Scope(name) for name in names)


def _expiry(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"it {error}, or a day, such as 2027-01-31", param_hint="--expires"
        ) from None


def create(
    scopes: Annotated[
        str,
        typer.Option(help="What the key may do: ingest, read, admin, with commas between."),
    ],
    site: Annotated[
        str | None, typer.Option(metavar="ID", help="The only site it is for; all if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="What people know it by.")] = "command line",
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When it ends: RFC 3339, or a day (UTC); never if left out."
        ),
    ] = None,
    documents: Annotated[
        DocumentsMode,
        typer.Option(
            case_sensitive=False,
            help="Which documents it may send: any, always whole (off); any, by their hash once "
            "they are known (apq); those of `footfall documents add` only (trusted).",
        ),
    ] = DocumentsMode.APQ,
    json: Json = False,
) -> None:
    """Make a key and print it, once: only a hash of it is kept."""
    now = utc_now()
    draft = checked(
        KeyDraft(name, _scopes(scopes), site, _expiry(expires) if expires else None, documents),
        now,
    )
    made = run(_create(settings_of_command(), draft, now))
    if json:
        show_json({"key_id": made.key_id, "key": made.text, **_described(draft)})
        return
    show(made.text)
    say(f"made key {made.key_id}; it is not shown again")


def _described(key: KeyDraft | ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "site_id": key.site_id,
        "scopes": sorted(key.scopes),
        "documents": key.documents,
        "expires_at": key.expires_at,
    }


async def _create(settings: Settings, draft: KeyDraft, now: datetime) -> NewKey:
    async with opened_ledger(settings) as ledger:
        if draft.site_id is not None:
            await require_known_site(ledger, draft.site_id)
        return await store_key(ledger.writer, draft, draft.site_id, now)


def list_keys(json: Json = False) -> None:
    """List all keys, revoked ones too; the keys themselves are not kept."""
    keys, now = run(_list(settings_of_command())), utc_now()
    if json:
        show_json(
            [
                {
                    "key_id": key.key_id,
                    **_described(key),
                    "created_at": key.created_at,
                    "revoked_at": key.revoked_at,
                    "last_used_at": key.last_used_at,
                    "is_valid": key.is_valid(now),
                }
                for key in keys
            ]
        )
        return
    show_table(
        ("id", "name", "site", "scopes", "documents", "created", "last used", "state"),
        [
            (
                key.key_id,
                key.name,
                key.site_id or "all",
                ",".join(sorted(scope.lower() for scope in key.scopes)),
                key.documents.lower(),
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
                _state(key, now),
            )
            for key in keys
        ],
    )


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "valid"
    return f"{'valid until' if key.is_valid(now) else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"


async def _list(settings: Settings) -> list[ApiKey]:
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        return await all_keys(connection)


def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help="The id that `footfall keys list` shows.")
    ],
    json: Json = False,
) -> None:
    """End a key, within a second in running services."""
    # Who has a whole key at hand need not know which part of it is the id.
    parts = split_key(key_id)
    wanted = parts[0] if parts else key_id
    now = utc_now()
    run(_revoke(settings_of_command(), wanted, now))
    if json:
        show_json({"key_id": wanted, "revoked_at": now})
        return
    say(f"revoked key {wanted}")


async def _revoke(settings: Settings, key_id: str, now: datetime) -> None:
    async with opened_ledger(settings) as ledger, transaction(ledger.writer) as connection:
        if not await revoke_key(connection, key_id, now):
            raise NotFound(
                f"there is no key {key_id!r} that could be revoked: see `footfall keys list`"
            )


def admin(json: Json = False) -> None:
    """Print the service-wide admin key, which may do everything with every site."""
    settings = settings_of_command()
    key = run(service_keys(settings)).admin_key
    if json:
        show_json({"key": key})
        return
    show(key)
