"""Brings the embedded server back when it dies under a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from data.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, embedded_server

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 1.0


@asynccontextmanager
async def supervised_server(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    """The embedded server, which is started again should it end by itself or be killed."""
    async with AsyncExitStack() as attachments:
        server = await attachments.enter_async_context(embedded_server(home))
        watching = asyncio.create_task(_watch(home, server, attachments), name="postgres-watch")
        try:
            yield server
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _watch(home: Path, server: EmbeddedPostgres, attachments: AsyncExitStack) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        if await _listens(server):
            continue
        log.error("postgres.gone", folder=str(server.data_dir))
        try:
            # Joining once more starts the server if nobody has done so yet.
            await attachments.enter_async_context(embedded_server(home))
        except EmbeddedPostgresError as error:
            log.error("postgres.restart.failed", reason=str(error))  # noqa: TRY400 - it says all
        else:
            log.warning("postgres.back", folder=str(server.data_dir))


async def _listens(server: EmbeddedPostgres) -> bool:
    path = server.socket_dir / f".s.PGSQL.{server.port}"
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True
