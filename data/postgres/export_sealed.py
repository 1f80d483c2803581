"""Secrets of destinations, all of them, for whoever moves them on to another key."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from data.postgres.engine import ledger_errors
from data.postgres.export_destinations import SecretKind
from data.postgres.tables import export_destinations

_SEALED = (SecretKind.CLIENT, SecretKind.BACKUP, SecretKind.WEBHOOK)


async def all_sealed(engine: AsyncEngine) -> list[tuple[UUID, SecretKind, str]]:
    """Every text of the envelope that is kept. `engine` is one that writes."""
    columns = export_destinations.c
    statement = select(
        columns.destination_id, columns.client_secret, columns.backup_secret, columns.webhook_secret
    )
    with ledger_errors():
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
    return [
        (row.destination_id, kind, text)
        for row in rows
        for kind, text in zip(_SEALED, row[1:], strict=True)
        if text is not None
    ]


async def replace_sealed(
    connection: AsyncConnection, destination_id: UUID, kind: SecretKind, before: str, after: str
) -> bool:
    """Keep a text in the place of another one; False where that was changed meanwhile."""
    column = export_destinations.c[f"{kind.value}_secret"]
    statement = (
        update(export_destinations)
        .where(export_destinations.c.destination_id == destination_id, column == before)
        .values({column: after})
    )
    return (await connection.execute(statement)).rowcount == 1
