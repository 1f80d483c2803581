"""Freshness: how long after its acknowledgement an event is in the answer of a report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

from benchmarks.load import Client, graphql_request, http_request
from benchmarks.service import Service
from benchmarks.tables import WrongAnswer
from benchmarks.traffic import Traffic, accepted_one, days_around_now

_IS_IN = (
    "query ($site: ID!, $range: DateRange!, $user: String!) { eventCounts("
    "siteId: $site, range: $range, filter: {userId: {eq: $user}}) { total } }"
)
_TOO_LATE_SECONDS = 30
# While nothing is new, the answer of before is there in a millisecond: who asks again without a
# pause takes the processor from those that are to be measured.
_PAUSE_SECONDS = 0.01


@dataclass(slots=True)
class Probes:
    """Sends single events and asks for each, again and again, until a report counts it.

    A sample is the time from the acknowledgement to the answer that has the event; the question's
    own time is in it.
    """

    service: Service
    site: str
    traffic: Traffic
    samples: list[float] = field(default_factory=list)

    async def take(self, count: int, *, at_once: int, seconds: float) -> list[float]:
        """Up to `count` samples, from `at_once` probers, within about `seconds`."""
        until = perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._probe_until(count, until))
        return self.samples

    async def _probe_until(self, count: int, until: float) -> None:
        client = Client(self.service.address)
        try:
            while len(self.samples) < count and perf_counter() < until:
                self.samples.append(await self._probe(client))
        finally:
            await client.close()

    async def _probe(self, client: Client) -> float:
        user = str(self.traffic.new_id())
        event = {"site": self.site, "event": "probe", "user": user}
        days = days_around_now()
        question = graphql_request(
            self.service.admin_key,
            _IS_IN,
            {"site": self.site, "range": {"from": days[0], "to": days[1]}, "user": user},
        )
        body = await client.send(http_request("POST", "/collect", json.dumps(event).encode()))
        acknowledged = perf_counter()
        self.service.acknowledged[self.site] += accepted_one(body)
        while True:
            answer = json.loads(await client.send(question))
            waited = perf_counter() - acknowledged
            match answer:
                case {"data": {"eventCounts": {"total": 1}}}:
                    return waited
                case {"data": {"eventCounts": {"total": 0}}} if waited < _TOO_LATE_SECONDS:
                    await asyncio.sleep(_PAUSE_SECONDS)
                case _:
                    raise WrongAnswer(f"{waited:.1f} s after its acknowledgement: {answer}")


class Trickle:
    """Single events at a steady rate, whatever the answers take, while the block is at work."""

    def __init__(self, service: Service, requests: Sequence[bytes], per_second: int) -> None:
        self._service = service
        self._requests = iter(requests)
        self._gap = 1 / per_second
        self._senders: list[asyncio.Task[None]] = []
        self.acknowledged = 0
        self.seconds = 0.0
        self._started = 0.0
        self._due = 0.0

    async def __aenter__(self) -> Self:
        self._started = self._due = perf_counter()
        self._senders = [asyncio.create_task(self._send()) for _ in range(16)]
        return self

    async def __aexit__(self, *_: object) -> None:
        # The event on its way is still counted; no further one is sent.
        self._requests = iter(())
        await asyncio.gather(*self._senders)
        self.seconds = perf_counter() - self._started

    async def _send(self) -> None:
        client = Client(self._service.address)
        try:
            while (request := next(self._requests, None)) is not None:
                due, self._due = self._due, self._due + self._gap
                await asyncio.sleep(max(0.0, due - perf_counter()))
                body = await client.send(request)
                self.acknowledged += accepted_one(body)
        finally:
            await client.close()
