"""A service that has its secrets, and its database users, from Vault."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.fixtures.guarded_postgres import GuardedLedger
from tests.fixtures.service import (
    CONNECTIONS,
    ROOT,
    Service,
    clean_environment,
    command,
    free_port,
)
from tests.fixtures.vault import VaultServer


@asynccontextmanager
async def started(home: Path, said: Path, **environment: str) -> AsyncIterator[Service]:
    """A service in a process of its own that writes all it says into a file."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    with said.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command("serve", "--port", str(port)),
            cwd=ROOT,
            env=clean_environment(home, **environment),
            stdout=file,
            stderr=file,
        )
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=CONNECTIONS)
    service = Service(home, port, process, client)
    try:
        await service.wait_until_ready()
        yield service
    finally:
        await client.aclose()
        if process.returncode is None:
            process.kill()
            await process.wait()


def settings(vault: VaultServer, ledger: GuardedLedger, **more: str) -> dict[str, str]:
    """The settings of a service whose database users are made by Vault."""
    return vault.environment(
        DATABASE_URL=ledger.url, VAULT_DATABASE_ROLE="footfall", LOG_LEVEL="INFO", **more
    )


@dataclass(slots=True)
class Traffic:
    """Requests one after another, and how each ended."""

    service: Service
    sent: list[str] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send events, ask reports and use the admin key until told to stop."""
        while not self._stop.is_set():
            event_id = str(uuid4())
            event = {"site": "shop", "event": "view", "user": "ann", "event_id": event_id}
            try:
                answer = await self.service.client.post("/collect", json=event)
                if answer.status_code == 200:
                    self.sent.append(event_id)
                else:
                    self.refused.append((answer.status_code, answer.text))
                asked = await self.service.graphql(
                    f'{{ receipts(siteId: "shop", eventIds: ["{event_id}"]) {{ status }} }}'
                )
                if "errors" in asked:
                    self.refused.append(asked["errors"])
            except httpx.HTTPError as error:
                self.refused.append(repr(error))
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator["Traffic"]:
        """Let it run meanwhile."""
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            self._stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def part(service: Service) -> tuple[str, str]:
    """How health says Vault is, and in which words."""
    found = (await service.client.get("/health")).json()
    return found["vault"], found["details"]["vault"]


async def until_part(service: Service, status: str, seconds: float = 60) -> str:
    """Return the words when health has this status for Vault."""
    async with asyncio.timeout(seconds):
        while True:
            now, words = await part(service)
            if now == status:
                return words
            await asyncio.sleep(0.05)
