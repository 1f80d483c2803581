"""Brings the embedded server back when it dies under a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from data.background import Loop, in_background
from data.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, embedded_server

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 1.0


@asynccontextmanager
async def supervised_server(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    """The embedded server, which is started again should it end by itself or be killed."""
    async with AsyncExitStack() as attachments:
        server = await attachments.enter_async_context(embedded_server(home))
        look = partial(_bring_back, home, server, attachments)
        async with in_background(
            Loop("postgres.look", look, pause=LOOK_EVERY_SECONDS, waits_first=True)
        ):
            yield server


async def _bring_back(home: Path, server: EmbeddedPostgres, attachments: AsyncExitStack) -> None:
    if await _listens(server):
        return
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
