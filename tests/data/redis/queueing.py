"""A queue as a process of the service or a worker has it, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from data.events import Event, Rejection
from data.intake import StoreAway, Taken
from data.redis.client import RedisPace, open_redis
from data.redis.queue import Queue, QueueLimits
from data.redis.queue_store import QueueStore, open_queue_store
from data.redis.queue_watch import WatchPace
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEDGER = uuid4()
# Not timed assertions: bounds that only something that hangs would reach.
SOON = 30.0


def event(event_id: UUID | None = None, **fields: str) -> Event:
    """An event of the site `shop`."""
    return Event(event_id or uuid4(), "shop", "view", NOW, NOW, **fields)


@dataclass(slots=True)
class OtherStore:
    """What takes events where the queue does not; it can be told to be away, or to take its time.

    `asked` is how many requests it was brought, `taken` what it took of them.
    """

    is_away: bool = False
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    taken: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.is_ready.set()

    async def submit(
        self, events: Sequence[Event], rejections: Sequence[Rejection], size: int
    ) -> Taken:
        """Remember the events."""
        assert size or not rejections
        self.asked += 1
        await self.is_ready.wait()
        if self.is_away:
            raise StoreAway("it was told to")
        self.taken += events
        return Taken([True] * len(events))


@dataclass(frozen=True, slots=True)
class Process:
    """One process with the queue."""

    store: QueueStore
    queue: Queue
    metrics: Metrics
    other: OtherStore

    def value(self, name: str, **labels: str) -> float:
        """A metric of the process."""
        found = self.metrics.registry.get_sample_value(f"footfall_queue_{name}", labels)
        assert found is not None, name
        return found


@asynccontextmanager
async def queue_on(server: RedisServer, limits: QueueLimits | None = None) -> AsyncIterator[Queue]:
    """The queue alone."""
    pace = RedisPace(answer_seconds=2, look_seconds=0.1)
    async with open_redis(server.url, Metrics.create().redis, pace) as redis:
        yield Queue(redis, LEDGER, limits or QueueLimits())


@asynccontextmanager
async def process(
    server: RedisServer,
    limits: QueueLimits | None = None,
    pace: WatchPace | None = None,
    *,
    must_last: bool = False,
) -> AsyncIterator[Process]:
    """A process that takes events by the queue."""
    metrics, other = Metrics.create(), OtherStore()
    redis_pace = RedisPace(answer_seconds=1, look_seconds=0.1)
    async with open_redis(server.url, metrics.redis, redis_pace) as redis:
        queue = Queue(redis, LEDGER, limits or QueueLimits())
        async with open_queue_store(
            queue,
            metrics.queue,
            rescue=other,
            must_last=must_last,
            pace=pace or WatchPace(look_seconds=0.05),
        ) as store:
            yield Process(store, queue, metrics, other)


async def until(is_so: Callable[[], bool]) -> None:
    """Return when something is so."""
    async with asyncio.timeout(SOON):
        while not is_so():
            await asyncio.sleep(0.01)
