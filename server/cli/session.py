"""What commands have in common: settings, logs, an event loop that ends well, the ledger."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import uvloop

from data.group_commit import open_group_commit
from data.intake import LedgerStore
from data.postgres.append import append
from data.postgres.engine import transaction
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.postgres.sites import Site, all_sites
from data.secrets import Secrets, ServiceKeys
from resolvers.errors import NotFound
from resolvers.ingest import Door
from server.cli.failures import Stopped
from server.cli.terminal import waiting
from server.clock import utc_now
from server.resources import ledger_address, prepare_home
from server.secrets import open_secrets
from server.settings import Settings, load_settings
from telemetry.logs import configure_logs
from telemetry.metrics import Metrics

T = TypeVar("T")

_CONNECTIONS = 4
# An import says by itself what happens to it; a line for every attempt would bury that.
_HEARD_FROM_IMPORTS = ("data.group_commit", "data.postgres.supervision")


def settings_of_command() -> Settings:
    """The settings, with logs set up for a command."""
    settings = load_settings()
    configure_command_logs(settings)
    return settings


def configure_command_logs(settings: Settings) -> None:
    """Let only trouble be logged: a command speaks by itself. `LOG_LEVEL=DEBUG` logs everything."""
    level = "WARNING" if settings.log_level == "INFO" else settings.log_level
    configure_logs(level=level, json=settings.is_production)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. A signal cancels it, so that it ends in order; then raises `Stopped`."""
    # Modules and schema stay: spared of every full collection, an import takes a fifth less time.
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_stoppable(work))
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT) from None
    finally:
        # Else they would never be taken down, and libraries complain of that at the very end.
        gc.unfreeze()


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


def end_if_stopped() -> None:
    """End what was begun where a signal came while it began and a library has swallowed that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def opened_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger, also while a service runs on it."""
    if not settings.database_url:
        prepare_home(settings)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(opened_address(settings))
        with waiting("Opening the database"):
            opening = open_ledger(address, connections=_CONNECTIONS)
            ledger = await stack.enter_async_context(opening)
        yield ledger


@asynccontextmanager
async def opened_address(settings: Settings) -> AsyncIterator[LedgerAddress]:
    """Where the ledger is, and as whom to log in, which Vault may have to be asked for."""
    if not settings.vault_addr:
        yield ledger_address(settings)
        return
    async with opened_secrets(settings) as (known, secrets):
        yield ledger_address(known, secrets)


@asynccontextmanager
async def opened_secrets(settings: Settings) -> AsyncIterator[tuple[Settings, Secrets]]:
    """The secrets, and the settings with the users and passwords that stand there."""
    if not settings.vault_addr:
        prepare_home(settings)
    async with open_secrets(settings, utc_now, Metrics.create().vault) as opened:
        yield opened


async def service_keys(settings: Settings) -> ServiceKeys:
    """The service's own keys, out of the file or out of Vault."""
    # Nothing else is needed: no user is to be made in the database for this.
    without_users = settings.model_copy(update={"vault_database_role": ""})
    async with opened_secrets(without_users) as (_, secrets):
        return secrets.keys


@asynccontextmanager
async def import_door(ledger: Ledger) -> AsyncIterator[Door]:
    """The way in for rows of files; on leaving it, what was handed over is committed."""
    metrics = Metrics.create().ingest
    for name in _HEARD_FROM_IMPORTS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    async with open_group_commit(
        partial(append, ledger.writer), on_commit=_tell_nobody, metrics=metrics
    ) as committer:
        yield Door(LedgerStore(committer), metrics, "import")


def _tell_nobody(_: int) -> None:
    """No follower in this process; those of running services look by themselves."""


async def require_known_site(ledger: Ledger, site_id: str) -> Site:
    """The site; raises `NotFound` with the command that makes it."""
    async with transaction(ledger.writer) as connection:
        known = {site.site_id: site for site in await all_sites(connection)}
    if site_id not in known:
        raise NotFound(
            f"there is no site {site_id!r}: make it with `footfall sites create {site_id}`"
        )
    return known[site_id]
