"""Vault opened at a pace for tests, and waiting with an end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from data.vault.address import VaultLogin
from data.vault.vault import Vault, VaultPace, open_vault
from telemetry.metrics import Metrics
from tests.fixtures.vault import VaultServer

FAST = VaultPace(
    answer_seconds=3.0,
    read_seconds=0.3,
    longest_wait_seconds=0.5,
    say_again_seconds=0.5,
    settle_seconds=0.5,
    start_attempts=2,
)


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def opened(
    server: VaultServer,
    login: VaultLogin | None = None,
    metrics: Metrics | None = None,
    **more: Any,
) -> AsyncIterator[Vault]:
    """Vault, with the AppRole of its set-up if no other login is given."""
    address, chosen = server.address(**more), metrics or Metrics.create()
    async with open_vault(address, login or server.app_role(), now, chosen.vault, FAST) as vault:
        yield vault


async def until(claim: Callable[[], bool], seconds: float = 60) -> None:
    """Return when it is so."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.02)
