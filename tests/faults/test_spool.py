"""The real service over a real primary that is killed or frozen: what was acknowledged is stored."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from data.postgres.engine import WRITER, Login, open_engine, parse_url
from data.postgres.migrate import migrate
from resolvers.sites import SiteDraft, checked, store_site
from tests.faults.clients import Tally, send, sending
from tests.fixtures.primary import Primary, open_primary
from tests.fixtures.service import Service, launch

# Beyond what a request may wait for a ledger that has just frozen, by far.
ANSWER_SECONDS = 60
KILLS = 5 if os.environ.get("FOOTFALL_LONG_FAULTS") else 3


@asynccontextmanager
async def primary_with_site(folder: Path) -> AsyncIterator[Primary]:
    """A migrated primary that knows the site `shop`."""
    async with open_primary(folder / "primary") as primary:
        url = parse_url(primary.url)
        await migrate(url)
        async with open_engine(Login(url, WRITER)) as engine:
            await store_site(engine, checked(SiteDraft("shop")), datetime.now(UTC))
        yield primary


async def started(stack: AsyncExitStack, home: Path, primary: Primary) -> Service:
    """A service, which does not outlive the test whatever happens in it."""
    service = await launch(home, DATABASE_URL=primary.url)
    stack.push_async_callback(service.client.aclose)
    stack.push_async_callback(service.stop, signal.SIGKILL)
    return service


async def until_queued(tally: Tally, events: int) -> None:
    """Return when clients were told of so many events that they are queued."""
    async with asyncio.timeout(60):
        while tally.queued < events:
            await asyncio.sleep(0.02)


async def settle(service: Service, tally: Tally, primary: Primary) -> None:
    """Send what is left, wait until all is drained, stop in an orderly way, and count."""
    while tally.open:
        await send(service, tally.open.pop(), tally)
    await service.until_drained()
    assert await service.stop() == 0
    await service.client.aclose()
    counts = await primary.counts()
    assert set(tally.acknowledged) <= set(counts)
    assert set(counts.values()) == {1}
    assert max(tally.accepted.values()) == 1
    assert list((service.home / "spool").glob("*/*.segment")) == []
    assert list((service.home / "spool").glob("*/*.damaged")) == []


async def test_a_primary_that_is_killed_and_comes_back_costs_no_client_an_event(
    tmp_path: Path,
) -> None:
    tally = Tally()
    async with AsyncExitStack() as stack, primary_with_site(tmp_path) as primary:
        service = await started(stack, tmp_path / "home", primary)
        for _ in range(3):
            queued, failed = tally.queued, tally.failures
            async with sending(service, tally):
                await asyncio.sleep(random.uniform(0.1, 0.5))
                await primary.kill()
                await until_queued(tally, queued + 500)
                health = await service.client.get("/health")
                assert (health.status_code, health.json()["status"]) == (200, "degraded")
                await primary.start()
                # Beside what comes in.
                await service.until_drained()
            assert tally.failures == failed
        await settle(service, tally, primary)


async def test_a_primary_that_freezes_keeps_nobody_waiting_for_long(tmp_path: Path) -> None:
    tally = Tally()
    async with AsyncExitStack() as stack, primary_with_site(tmp_path) as primary:
        service = await started(stack, tmp_path / "home", primary)
        async with sending(service, tally):
            await asyncio.sleep(0.5)
            primary.freeze()
            try:
                await until_queued(tally, 1)
                # Nobody waits for it any more.
                await until_queued(tally, tally.queued + 100)
                health = await asyncio.wait_for(service.client.get("/health"), ANSWER_SECONDS)
                assert (health.status_code, health.json()["status"]) == (200, "degraded")
            finally:
                primary.thaw()
        assert tally.failures == 0
        await settle(service, tally, primary)


async def stopped_while_it_drains(service: Service, tally: Tally, primary: Primary) -> bool:
    """Whether a service was frozen in the middle of draining much, or had drained it by then."""
    spool = service.home / "spool"
    await primary.kill()
    async with sending(service, tally):
        await until_queued(tally, tally.queued + 30_000)
    await primary.start()
    async with asyncio.timeout(ANSWER_SECONDS):
        while list(spool.glob("*/*.segment")) and not list(spool.glob("*/*.place")):
            await asyncio.sleep(0.002)
    service.process.send_signal(signal.SIGSTOP)
    if list(spool.glob("*/*.segment")):
        return True
    service.process.send_signal(signal.SIGCONT)
    await service.until_drained()
    return False


async def test_a_service_that_is_killed_while_the_spool_drains_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    tally, home = Tally(), tmp_path / "home"
    async with AsyncExitStack() as stack, primary_with_site(tmp_path) as primary:
        service = await started(stack, home, primary)
        await send(service, [str(uuid4())], tally)
        # The first at its very beginning, the others at any moment.
        while not await stopped_while_it_drains(service, tally, primary):
            pass
        for _ in range(KILLS):
            await service.stop(signal.SIGKILL)
            await service.client.aclose()
            service = await started(stack, home, primary)
            await asyncio.sleep(random.uniform(0, 0.3))
        await settle(service, tally, primary)


async def test_what_a_killed_process_left_is_drained_by_the_one_beside_it(tmp_path: Path) -> None:
    tally, home = Tally(), tmp_path / "home"
    async with AsyncExitStack() as stack, primary_with_site(tmp_path) as primary:
        dying = await started(stack, home, primary)
        living = await started(stack, home, primary)
        await send(dying, [str(uuid4())], tally)
        await send(living, [str(uuid4())], tally)
        await primary.kill()
        for _ in range(20):
            await send(dying, [str(uuid4()) for _ in range(50)], tally)
        assert tally.queued == 1_000
        await dying.stop(signal.SIGKILL)
        await dying.client.aclose()
        await primary.start()
        async with asyncio.timeout(60):
            while list((home / "spool").glob("*/*.segment")):
                await asyncio.sleep(0.05)
        await settle(living, tally, primary)
