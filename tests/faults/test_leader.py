"""Services over one ledger, under load: one of them leads, whatever becomes of the others."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.load import SAVE_SITE, SECONDS, Load
from tests.fixtures.service import Service, launch
from tests.fixtures.standby import Replicated

KNOWN = '{ receipts(siteId: "shop", eventIds: []) { status } }'


async def is_leader(service: Service) -> bool:
    page = (await service.client.get("/metrics")).text
    [line] = [line for line in page.splitlines() if line.startswith("footfall_leader ")]
    return float(line.rpartition(" ")[2]) == 1


async def heartbeats(service: Service, outcome: str = "succeeded") -> float:
    page = (await service.client.get("/metrics")).text
    name = f'footfall_job_runs_total{{job="send_heartbeat",outcome="{outcome}"}}'
    [line] = [line for line in page.splitlines() if line.startswith(name)]
    return float(line.rpartition(" ")[2])


async def until_known(load: Load) -> None:
    """Return when every service knows the site."""
    async with asyncio.timeout(SECONDS):
        for service in load.services:
            while "errors" in await service.graphql(KNOWN):
                await asyncio.sleep(0.1)


async def until_one_leads(services: list[Service]) -> Service:
    """The one of these that leads, once there is one; no other does."""
    async with asyncio.timeout(SECONDS):
        while True:
            leading = [service for service in services if await is_leader(service)]
            if leading:
                [leader] = leading
                return leader
            await asyncio.sleep(0.1)


async def freeze(leader: Service, others: list[Service]) -> Service:
    """The leader that followed one that hung; the old one is awake again, and leads no more."""
    leader.process.send_signal(signal.SIGSTOP)
    new = await until_one_leads(others)
    leader.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(SECONDS):
        while await is_leader(leader):
            await asyncio.sleep(0.05)
    # What it was at when it froze has ended by the time that another one is not begun.
    refused = await heartbeats(leader, "not_leader")
    async with asyncio.timeout(SECONDS):
        while await heartbeats(leader, "not_leader") == refused:
            await asyncio.sleep(0.05)
    before = await heartbeats(leader), await heartbeats(new)
    async with asyncio.timeout(SECONDS):
        while await heartbeats(new) < before[1] + 2:
            await asyncio.sleep(0.1)
    assert await heartbeats(leader) == before[0]
    return new


async def started(stack: AsyncExitStack, folder: Path, pair: Replicated) -> list[Service]:
    """Three services, of which the first leads."""
    environment = {
        "DATABASE_URL": pair.primary.url(),
        "REPLICA_DATABASE_URL": pair.standby.url("replica_user"),
    }

    async def start(name: str) -> Service:
        service = await launch(folder / name, None, **environment)
        stack.push_async_callback(service.client.aclose)
        stack.push_async_callback(service.stop, signal.SIGKILL)
        return service

    first = await start("first")
    await until_one_leads([first])
    return [first, *await asyncio.gather(start("second"), start("third"))]


async def test_a_service_that_leads_and_is_killed_or_frozen_is_replaced(
    replicated: Replicated, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        services = await started(stack, tmp_path, replicated)
        first, second, third = services
        load = Load(services)
        assert [await is_leader(service) for service in services] == [True, False, False]
        async with asyncio.timeout(SECONDS):
            # Each looks for itself who it is.
            while len({(await load.health(one))["leader"] for one in services}) > 1:
                await asyncio.sleep(0.1)
        assert await heartbeats(second) == 0
        await first.data(SAVE_SITE)
        await until_known(load)
        async with load.flowing():
            leader = await freeze(first, [second, third])
            # Its clients turn to the others, and send again what it left without an answer.
            load.services.remove(leader)
            leader.process.send_signal(signal.SIGKILL)
            await until_one_leads(load.services)
            await asyncio.sleep(1)
        await load.whole()
        for service in load.services:
            assert await service.stop() == 0
        await replicated.caught_up()
        await load.count(replicated.primary, replicated.standby)

    # Connections that the killed one broke off; every answer that came was a good one.
    broken = ("ReadError", "WriteError", "ConnectError", "RemoteProtocolError")
    assert load.failed.keys() <= {
        f"{what} {error}" for what in ("ingest", "ask") for error in broken
    }
