"""Destinations of exports in the ledger: how each is defined, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.exports.checking import DestinationInvalid, Occupied, first_overlap, is_same_place
from data.exports.destination import REALTIME, Destination, TargetKind
from data.exports.hooks import hook_hash
from data.exports.records import Pause, StoredDestination
from data.exports.schedule import next_run
from data.postgres.engine import ledger_errors
from data.postgres.export_pauses import BACKUP_REMOVED, PAUSES, give_up, make_due_again
from data.postgres.tables import export_destinations

# One saves at a time, so that no two destinations come to the same place.
_LOCK = text("select pg_advisory_xact_lock(7077, 7)")


class SecretKind(StrEnum):
    """What is kept beside a destination."""

    CLIENT = "client"
    BACKUP = "backup"
    WEBHOOK = "webhook"
    HOOK = "hook"


@dataclass(frozen=True, slots=True)
class SecretChanges:
    """New secrets of a destination, as texts of the envelope; None: as they were.

    `forgotten` are those that there shall not be any more: then the client's key opens the backup,
    and the service's own key assumes roles.
    """

    client: str | None = field(default=None, repr=False)
    backup: str | None = field(default=None, repr=False)
    webhook: str | None = field(default=None, repr=False)
    hook_hash: bytes | None = field(default=None, repr=False)
    forgotten: frozenset[SecretKind] = frozenset()


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """What is kept beside a destination, as texts of the envelope."""

    client: str | None = field(repr=False)
    backup: str | None = field(repr=False)
    webhook: str | None = field(repr=False)


NO_CHANGES = SecretChanges()


def stored_destinations() -> Select[Any]:
    """What everybody may read of destinations."""
    columns = export_destinations.c
    return select(
        columns.destination_id,
        columns.definition,
        columns.planned_through,
        columns.runs,
        columns.next_run_at,
        columns.paused_at,
        columns.paused_reason,
        columns.backup_paused_at,
        columns.backup_paused_reason,
        columns.credentials_at,
        columns.webhook_secret_at,
        columns.hook_at,
        columns.version,
        columns.created_at,
        columns.updated_at,
        columns.deleted_at,
    )


def destination_of(row: Row[Any]) -> StoredDestination:
    """The destination in a row of `stored_destinations`."""
    pauses = {}
    for target, (at, reason) in PAUSES.items():
        if row._mapping[at] is not None:
            pauses[target] = Pause(row._mapping[at], row._mapping[reason])
    return StoredDestination(
        destination=msgspec.convert(row.definition, Destination),
        planned_through=row.planned_through,
        runs=row.runs,
        next_run_at=row.next_run_at,
        pauses=pauses,
        credentials_at=row.credentials_at,
        webhook_secret_at=row.webhook_secret_at,
        hook_at=row.hook_at,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


async def _read(engine: AsyncEngine, statement: Select[Any]) -> list[StoredDestination]:
    with ledger_errors():
        async with engine.connect() as connection:
            return [destination_of(row) for row in await connection.execute(statement)]


async def destinations(engine: AsyncEngine, site_id: str | None = None) -> list[StoredDestination]:
    """Every destination that was not deleted, or those of a site, in order of their making."""
    columns = export_destinations.c
    statement = stored_destinations().where(columns.deleted_at.is_(None))
    if site_id is not None:
        statement = statement.where(columns.site_id == site_id)
    return await _read(engine, statement.order_by(columns.created_at, columns.destination_id))


async def destinations_by_ids(
    engine: AsyncEngine, destination_ids: Sequence[UUID]
) -> dict[UUID, StoredDestination]:
    """Those that there are, also those that were deleted."""
    statement = stored_destinations().where(
        export_destinations.c.destination_id.in_(destination_ids)
    )
    return {stored.destination_id: stored for stored in await _read(engine, statement)}


async def destination_by_id(engine: AsyncEngine, destination_id: UUID) -> StoredDestination | None:
    """The destination of an id, None also for one that was deleted."""
    stored = (await destinations_by_ids(engine, [destination_id])).get(destination_id)
    return None if stored is None or stored.deleted_at is not None else stored


async def destination_by_hook(engine: AsyncEngine, token: str) -> StoredDestination | None:
    """The destination that a hook's token belongs to. `engine` is one that writes."""
    columns = export_destinations.c
    statement = stored_destinations().where(
        columns.hook_hash == hook_hash(token), columns.deleted_at.is_(None)
    )
    return next(iter(await _read(engine, statement)), None)


async def sealed_secrets(engine: AsyncEngine, destination_id: UUID) -> SealedSecrets | None:
    """What is kept beside a destination. `engine` is one that writes."""
    columns = export_destinations.c
    statement = select(columns.client_secret, columns.backup_secret, columns.webhook_secret).where(
        columns.destination_id == destination_id
    )
    with ledger_errors():
        async with engine.connect() as connection:
            row = (await connection.execute(statement)).one_or_none()
    return SealedSecrets(*row) if row else None


async def save_destination(
    connection: AsyncConnection, destination: Destination, changes: SecretChanges, now: datetime
) -> StoredDestination:
    """Add a destination or change the one of its id; what rests for a failure goes on.

    It was checked, and its buckets were tried. Raises `DestinationInvalid` where its places are
    taken, or where it would leave the place that its runs are in.
    """
    await connection.execute(_LOCK)
    # Nobody plans its first run or deletes it between the look at it and the change.
    await connection.execute(_locking(destination.destination_id))
    everybody = (await connection.execute(_everybody())).all()
    row = next((one for one in everybody if one.destination_id == destination.destination_id), None)
    occupied = [Occupied.of(place) for place in destination.places.values()]
    _require_free(destination, occupied, [one for one in everybody if one is not row])
    definition = msgspec.json.decode(msgspec.json.encode(destination))
    values = {
        "name": destination.name,
        "definition": definition,
        "updated_at": now,
        **_secret_values(changes, now),
    }
    if row is None:
        statement = insert(export_destinations).values(
            destination_id=destination.destination_id,
            site_id=destination.site_id,
            places=_places(occupied),
            next_run_at=_first_run(destination, now),
            created_at=now,
            **values,
        )
        await connection.execute(statement)
    else:
        if row.deleted_at is not None:
            raise DestinationInvalid("id", "the destination was deleted")
        before = msgspec.convert(row.definition, Destination)
        _require_same_chain(before, destination, row.runs)
        if (before.schedule, before.timezone) != (destination.schedule, destination.timezone):
            values["next_run_at"] = _first_run(destination, now)
        known = [Occupied(*one) for one in row.places]
        values["places"] = _places([*known, *(one for one in occupied if one not in known)])
        values["version"] = export_destinations.c.version + 1
        await connection.execute(_change(destination.destination_id).values(values))
        await _go_on(connection, row, now)
        if before.backup is not None and not is_same_place(before.backup, destination.backup):
            await _drop_backup(connection, destination, now)
    return await _stored(connection, destination.destination_id)


async def delete_destination(
    connection: AsyncConnection, destination_id: UUID, now: datetime
) -> bool:
    """Delete a destination with its secrets; False if there is none. Its place stays taken."""
    columns = export_destinations.c
    statement = (
        _change(destination_id)
        .where(columns.deleted_at.is_(None))
        .values(
            deleted_at=now,
            updated_at=now,
            next_run_at=None,
            client_secret=None,
            backup_secret=None,
            webhook_secret=None,
            hook_hash=None,
        )
    )
    if (await connection.execute(statement)).rowcount != 1:
        return False
    await give_up_deleted(connection, destination_id, now)
    return True


async def give_up_deleted(connection: AsyncConnection, destination_id: UUID, now: datetime) -> None:
    """End what still waits of a destination that was deleted."""
    why = "DELETED", "the destination was deleted"
    await give_up(connection, destination_id, list(TargetKind), why, now)


async def set_paused(
    connection: AsyncConnection, destination_id: UUID, now: datetime, *, paused: bool
) -> StoredDestination | None:
    """Have a destination rest, or go on, whatever it rested for; None if there is none."""
    columns = export_destinations.c
    values: dict[str, Any] = {"updated_at": now}
    for at, reason in PAUSES.values():
        values |= {at: now if paused else None, reason: None}
    statement = _change(destination_id).where(columns.deleted_at.is_(None)).values(values)
    if (await connection.execute(statement)).rowcount != 1:
        return None
    if not paused:
        await make_due_again(connection, destination_id, list(TargetKind), now)
    return await _stored(connection, destination_id)


async def _go_on(connection: AsyncConnection, row: Row[Any], now: datetime) -> None:
    """End the pauses of a destination that failures have made."""
    targets = [target for target, (_, reason) in PAUSES.items() if row._mapping[reason] is not None]
    if not targets:
        return
    values = {name: None for target in targets for name in PAUSES[target]}
    await connection.execute(_change(row.destination_id).values(values))
    await make_due_again(connection, row.destination_id, targets, now)


async def _drop_backup(
    connection: AsyncConnection, destination: Destination, now: datetime
) -> None:
    """End what waits for a backup bucket that is not there any more."""
    destination_id = destination.destination_id
    values = dict.fromkeys(PAUSES[TargetKind.BACKUP])
    if destination.backup is None:
        values["backup_secret"] = None
    await connection.execute(_change(destination_id).values(values))
    why = BACKUP_REMOVED["reason"], BACKUP_REMOVED["error"]
    await give_up(connection, destination_id, [TargetKind.BACKUP], why, now)


async def _stored(connection: AsyncConnection, destination_id: UUID) -> StoredDestination:
    statement = stored_destinations().where(export_destinations.c.destination_id == destination_id)
    return destination_of((await connection.execute(statement)).one())


def _locking(destination_id: UUID) -> Select[Any]:
    column = export_destinations.c.destination_id
    return select(column).where(column == destination_id).with_for_update(key_share=True)


def _everybody() -> Select[Any]:
    return stored_destinations().add_columns(
        export_destinations.c.site_id, export_destinations.c.name, export_destinations.c.places
    )


def _require_free(
    destination: Destination, occupied: Sequence[Occupied], others: Sequence[Row[Any]]
) -> None:
    taken = [
        (_whose(destination, row), [Occupied(*place) for place in row.places]) for row in others
    ]
    found = first_overlap(occupied, taken)
    if found is None:
        return
    place, whose = found
    field_name = "prefix" if place == occupied[0] else "backupBucket"
    raise DestinationInvalid(
        field_name,
        f"{place} overlaps with the place of {whose}: a chain of runs has its own prefix",
    )


def _whose(destination: Destination, row: Row[Any]) -> str:
    """The other destination; one of another site is not named."""
    if row.site_id != destination.site_id:
        return "a destination of another site"
    return f"the destination {row.name!r}" + (
        ", which was deleted" if row.deleted_at is not None else ""
    )


def _require_same_chain(before: Destination, after: Destination, runs: int) -> None:
    if before.site_id != after.site_id:
        raise DestinationInvalid("siteId", "a destination keeps its site: make a new one")
    if runs and not is_same_place(before.client, after.client):
        raise DestinationInvalid(
            "prefix",
            "its runs are in another place, and a chain of runs stays together: make a new"
            " destination, which exports everything again",
        )


def _places(occupied: Sequence[Occupied]) -> list[list[str]]:
    return [[one.host, one.bucket, one.prefix] for one in occupied]


def _first_run(destination: Destination, now: datetime) -> datetime | None:
    if destination.schedule == REALTIME:
        return now
    return next_run(destination.schedule, destination.timezone, now)


def _secret_values(changes: SecretChanges, now: datetime) -> dict[str, Any]:
    columns: dict[SecretKind, tuple[str, object, str]] = {
        SecretKind.CLIENT: ("client_secret", changes.client, "credentials_at"),
        SecretKind.BACKUP: ("backup_secret", changes.backup, "credentials_at"),
        SecretKind.WEBHOOK: ("webhook_secret", changes.webhook, "webhook_secret_at"),
        SecretKind.HOOK: ("hook_hash", changes.hook_hash, "hook_at"),
    }
    values: dict[str, Any] = {}
    for kind, (name, secret, at) in columns.items():
        if secret is not None:
            values |= {name: secret, at: now}
        elif kind in changes.forgotten:
            values[name] = None
            values[at] = now if at == "credentials_at" else None
    return values


def _change(destination_id: UUID) -> Any:
    return update(export_destinations).where(export_destinations.c.destination_id == destination_id)
