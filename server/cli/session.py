"""What commands have in common: settings, logs, an event loop that ends well, the ledger."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from types import FrameType
from typing import Any, TypeVar

import uvloop

from data.postgres.ledger import Ledger, open_ledger
from data.postgres.sites import Site, all_sites
from data.postgres.engine import transaction
from resolvers.errors import NotFound
from server.cli.failures import Stopped
from server.cli.terminal import waiting
from server.resources import ledger_address, prepare_home
from server.settings import Settings, load_settings
from telemetry.logs import configure_logs

T = TypeVar("T")

_CONNECTIONS = 4


def settings_of_command() -> Settings:
    """The settings, with logs set up for a command: it speaks by itself, so only trouble is told.

    `LOG_LEVEL=DEBUG` tells everything.
    """
    settings = load_settings()
    level = settings.log_level
    configure_logs(
        level="WARNING" if level == "INFO" else level, json=settings.is_production
    )
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. A signal cancels it, so that it ends in order; then raises `Stopped`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_stoppable(work))
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    """Lets SIGTERM do what asyncio lets Ctrl-C do."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # a runner makes one
    is_terminated = False

    def terminate(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        return await work
    except asyncio.CancelledError:
        if is_terminated:
            raise Stopped(signal.SIGTERM) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def opened_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger, also while a service runs on it."""
    address = ledger_address(settings)
    if address.database_url is None:
        prepare_home(settings)
    async with AsyncExitStack() as stack:
        with waiting("Opening the database"):
            opening = open_ledger(address, connections=_CONNECTIONS)
            ledger = await stack.enter_async_context(opening)
        yield ledger


async def require_known_site(ledger: Ledger, site_id: str) -> Site:
    """The site; raises `NotFound` with the command that makes it."""
    async with transaction(ledger.writer) as connection:
        known = {site.site_id: site for site in await all_sites(connection)}
    if site_id not in known:
        raise NotFound(
            f"there is no site {site_id!r}: make it with `footfall sites create {site_id}`"
        )
    return known[site_id]
