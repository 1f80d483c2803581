"""Rate limits that all processes count together, in Redis; each for itself while it is away."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from data.rate_limits import OwnWindows, Standing, take
from data.redis.client import Client, RedisConnection, RedisRefused, RedisUnavailable
from telemetry.rate_limits import RateLimitMetrics

# For how long a refusal stands for how things are: nobody may ask meanwhile.
_REMEMBERED_SECONDS = 10.0


@dataclass(slots=True)
class SharedWindows:
    """`Windows` in Redis, and in this process while Redis is away.

    Then a client may get as much from each process; nobody is locked out, and nobody waits.
    """

    redis: RedisConnection
    prefix: str
    metrics: RateLimitMetrics
    own: OwnWindows = field(default_factory=OwnWindows)
    _limiter: SlidingWindowCounterRateLimiter | None = None
    _refused_at: float = -_REMEMBERED_SECONDS

    @property
    def is_shared(self) -> bool:
        """Whether Redis answers, and has taken the counts of late: a full one answers as well."""
        was_refused = monotonic() - self._refused_at < _REMEMBERED_SECONDS
        return self.redis.is_available and not was_refused

    async def take(self, name: str, item: RateLimitItemPerSecond) -> Standing:
        """Count one request."""
        try:
            async with self.redis.using() as client:
                standing = await take(self._limiter_of(client), name, item)
        except RedisUnavailable as error:
            if isinstance(error, RedisRefused):
                self._refused_at = monotonic()
            self.metrics.places["memory"].inc()
            return await self.own.take(name, item)
        self._refused_at = -_REMEMBERED_SECONDS
        self.metrics.places["redis"].inc()
        return standing

    def _limiter_of(self, client: Client) -> SlidingWindowCounterRateLimiter:
        """The library's limiter on the connections of ours, which have our time limits."""
        if self._limiter is None:
            options: dict[str, Any] = {"connection_pool": client.connection_pool}
            storage = RedisStorage(
                "redis://", implementation="redispy", key_prefix=self.prefix, **options
            )
            self._limiter = SlidingWindowCounterRateLimiter(storage)
        return self._limiter
