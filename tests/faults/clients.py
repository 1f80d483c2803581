"""Clients that keep sending, and remember what they were told of every event."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from tests.fixtures.service import Service

INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { eventId status } }
}
"""


@dataclass(slots=True)
class Tally:
    """What the clients were told: `acknowledged` ids, and those whose answer never came."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    open: list[list[str]] = field(default_factory=list)
    duplicates: int = 0
    queued: int = 0
    failures: int = 0


async def send(service: Service, ids: list[str], tally: Tally) -> None:
    """One request with these ids; raises if it was not acknowledged as a whole."""
    if len(ids) == 1:
        body = {"site": "shop", "event_id": ids[0], "event": "view", "user": ids[0][:4]}
        response = await service.client.post("/collect", json=body)
        response.raise_for_status()
        receipts = [(response.json()["event_id"], response.json()["receipt"])]
    else:
        events = [{"eventId": one, "eventType": "view", "userId": one[:4]} for one in ids]
        answer = await service.graphql(INGEST, {"events": events})
        if "errors" in answer:
            raise ConnectionError(answer["errors"])
        payload = answer["data"]["ingest"]["receipts"]
        receipts = [(one["eventId"], one["status"]) for one in payload]
    assert [event_id for event_id, _ in receipts] == ids
    for event_id, status in receipts:
        assert status in ("ACCEPTED", "DUPLICATE", "QUEUED")
        tally.acknowledged[event_id] += 1
        tally.accepted[event_id] += status == "ACCEPTED"
        tally.duplicates += status == "DUPLICATE"
        tally.queued += status == "QUEUED"


async def client(service: Service, tally: Tally, stop: asyncio.Event) -> None:
    """Send, and send again what was left without an answer, until told to stop."""
    while not stop.is_set():
        ids = (
            tally.open.pop()
            if tally.open
            else [str(uuid4()) for _ in range(random.choice([1, 1, 2, 50, 400]))]
        )
        try:
            await send(service, ids, tally)
        except (httpx.HTTPError, ConnectionError, ValueError):
            tally.open.append(ids)
            tally.failures += 1
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sending(service: Service, tally: Tally, clients: int = 8) -> AsyncIterator[None]:
    """Clients at work until the block is left, each to the end of its last request."""
    stop = asyncio.Event()
    running = [asyncio.create_task(client(service, tally, stop)) for _ in range(clients)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)
