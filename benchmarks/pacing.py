"""Load at a fixed rate: each request has its moment, whatever became of those before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from benchmarks.load import Address, Check, Client, Outcome

# Requests on their way at once, at most, while the pace is kept.
_CONNECTIONS = 16


async def send_paced(
    address: Address, requests: Sequence[bytes], interval: float, check: Check
) -> Outcome:
    """Send requests at fixed moments; a latency is from its moment to the answer."""
    outcome, started = Outcome(), perf_counter()
    due = iter([(started + number * interval, one) for number, one in enumerate(requests)])

    async def work() -> None:
        client = Client(address)
        try:
            for moment, request in due:
                await asyncio.sleep(max(0.0, moment - perf_counter()))
                body = await client.send(request)
                outcome.acknowledged += check(body)
                outcome.latencies.append(perf_counter() - moment)
        finally:
            await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(work())
    # The last request has its interval, too.
    outcome.seconds = max(perf_counter() - started, len(requests) * interval)
    return outcome
