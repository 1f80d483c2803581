"""Two services over one ledger: one of them leads, whatever becomes of the other."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fixtures.service import Service, launch
from tests.fixtures.standby import Replicated

SECONDS = 30


async def is_leader(service: Service) -> bool:
    page = (await service.client.get("/metrics")).text
    [line] = [line for line in page.splitlines() if line.startswith("footfall_leader ")]
    return float(line.rpartition(" ")[2]) == 1


async def until_leads(service: Service) -> None:
    async with asyncio.timeout(SECONDS):
        while not await is_leader(service):
            await asyncio.sleep(0.1)


async def heartbeats(service: Service) -> float:
    page = (await service.client.get("/metrics")).text
    name = 'footfall_job_runs_total{job="send_heartbeat",outcome="succeeded"}'
    [line] = [line for line in page.splitlines() if line.startswith(name)]
    return float(line.rpartition(" ")[2])


async def test_a_service_that_leads_and_is_killed_or_frozen_is_replaced(
    replicated: Replicated, tmp_path: Path
) -> None:
    environment = {
        "DATABASE_URL": replicated.primary.url(),
        "REPLICA_DATABASE_URL": replicated.standby.url("replica_user"),
    }
    async with AsyncExitStack() as stack:
        services = []
        for name in ("first", "second", "third"):
            service = await launch(tmp_path / name, None, **environment)
            stack.push_async_callback(service.client.aclose)
            stack.push_async_callback(service.stop, signal.SIGKILL)
            services.append(service)
        first, second, third = services
        assert [await is_leader(service) for service in services] == [True, False, False]
        named = {(await one.client.get("/health")).json()["leader"] for one in services}
        assert len(named) == 1
        assert await heartbeats(second) == 0

        first.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(SECONDS):
            while not (await is_leader(second) or await is_leader(third)):
                await asyncio.sleep(0.1)
        leader, other = (second, third) if await is_leader(second) else (third, second)
        assert not await is_leader(other)
        first.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(SECONDS):
            while await is_leader(first):
                await asyncio.sleep(0.05)
        before = await heartbeats(first), await heartbeats(leader)
        await asyncio.sleep(3)
        after = await heartbeats(first), await heartbeats(leader)
        assert after[0] == before[0]
        assert after[1] > before[1]

        leader.process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(SECONDS):
            while not (await is_leader(first) or await is_leader(other)):
                await asyncio.sleep(0.1)
