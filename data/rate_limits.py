"""How much each key and each client address has asked for lately, and how much it may.

The window slides: what was asked in the one before counts by the part of it that is still within
reach, so that nobody gets twice the rate around the turn of a minute. Counting is the library's,
`limits`; in this process, or in Redis for all processes together (`data/redis/limits.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from time import time
from typing import Protocol
from uuid import UUID

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from telemetry.rate_limits import RateKind, RateLimitMetrics

# Counters that a process holds at most: two for each client that came lately.
MOST_COUNTERS = 200_000


@dataclass(frozen=True, slots=True)
class Rates:
    """What a key or an address may ask in a window of so many seconds; 0 is as much as it likes."""

    queries: int = 0
    ingests: int = 0
    seconds: int = 60

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self.queries or self.ingests)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands after asking once more.

    `reset_seconds` is how long it takes, at most, until more remains than now.
    """

    is_within: bool
    limit: int
    remaining: int
    reset_seconds: int


class Windows(Protocol):
    """Sliding windows by name."""

    @property
    def is_shared(self) -> bool:
        """Whether all processes count together, now."""

    async def take(self, name: str, item: RateLimitItemPerSecond) -> Standing:
        """Count one request, unless there are too many already."""


async def take(
    limiter: SlidingWindowCounterRateLimiter, name: str, item: RateLimitItemPerSecond
) -> Standing:
    """Count one request by the library, and see what remains."""
    is_within = await limiter.hit(item, name)
    stats = await limiter.get_window_stats(item, name)
    reset = max(0, ceil(stats.reset_time - time()))
    return Standing(is_within, item.amount, stats.remaining if is_within else 0, reset)


class _BoundedMemory(MemoryStorage):
    """The library's counters, of so many windows at most; the oldest go first.

    The library's own way of forgetting looks at every counter with each request.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count = await self.get(key) + amount
        if count == amount:
            self.expirations[key] = time() + expiry
        self.storage[key] = count
        # In order of their making, which is that of their end.
        while len(self.expirations) > self.most or self._oldest_end() <= time():
            oldest = next(iter(self.expirations))
            del self.expirations[oldest]
            self.storage.pop(oldest, None)
        return count

    def _oldest_end(self) -> float:
        return next(iter(self.expirations.values()))


@dataclass(slots=True)
class OwnWindows:
    """`Windows` in the memory of this process."""

    most: int = MOST_COUNTERS
    is_shared: bool = False
    _limiter: SlidingWindowCounterRateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_BoundedMemory(self.most))

    async def take(self, name: str, item: RateLimitItemPerSecond) -> Standing:
        """Count one request."""
        return await take(self._limiter, name, item)


@dataclass(slots=True)
class RateLimits:
    """Counts requests under the key that they came with, or else under their client's address."""

    rates: Rates
    windows: Windows
    ledger_id: UUID
    metrics: RateLimitMetrics
    _items: Mapping[RateKind, RateLimitItemPerSecond] = field(init=False)

    def __post_init__(self) -> None:
        rates = self.rates
        kinds: dict[RateKind, int] = {"query": rates.queries, "ingest": rates.ingests}
        self._items = {
            kind: RateLimitItemPerSecond(most, rates.seconds, namespace=kind)
            for kind, most in kinds.items()
            if most
        }

    async def take(self, kind: RateKind, key_id: str | None, client: str) -> Standing | None:
        """Count one request; None where requests of this kind have no limit."""
        item = self._items.get(kind)
        if item is None:
            return None
        name = f"address-{self._hidden(client)}" if key_id is None else f"key-{key_id}"
        standing = await self.windows.take(name, item)
        self.metrics.requests[kind, "within" if standing.is_within else "over"].inc()
        return standing

    def _hidden(self, client: str) -> str:
        """A name for an address that tells nothing of it: addresses are not to be kept anywhere."""
        secret = self.ledger_id.bytes
        return blake2b(client.encode(), digest_size=12, key=secret).hexdigest()
