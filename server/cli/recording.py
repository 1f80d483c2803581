"""In whose name commands write to the admin log, and where its end is kept afterwards."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from data.admin_log import Actor
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.ledger import Ledger
from server.cli.session import opened_ledger
from server.resources import admin_log_watch
from server.settings import Settings
from telemetry.metrics import Metrics


def command_actor() -> Actor:
    """Who runs this command: the user of the operating system."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Actor("cli", f"user {name}")


@asynccontextmanager
async def ledger_to_change(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger, for commands that stand in the admin log; keeps the log's new end at last."""
    async with opened_ledger(settings) as ledger:
        yield ledger
        # Beside another machine's database there may be no folder; then its service keeps it.
        if settings.home.is_dir():
            with suppress(LedgerUnavailable, LedgerRefused):
                await admin_log_watch(settings, ledger, Metrics.create()).look()
