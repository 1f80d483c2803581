"""What `footfall doctor` finds out about Redis."""

from __future__ import annotations

from uuid import UUID

from data.redis.client import RedisConnection, RedisUnavailable, open_redis
from data.redis.durability import durability_of
from data.redis.queue import Queue
from server.cli.checks import Check, Status
from server.settings import Settings
from server.taking import queue_limits
from telemetry.metrics import Metrics


async def redis_checks(settings: Settings) -> list[Check]:
    """Whether Redis answers, where one is set."""
    if not settings.redis_url:
        return []
    async with open_redis(settings.redis_url, Metrics.create().redis) as redis:
        if redis.is_available:
            fitness = await _fitness(settings, redis)
            return [Check("redis", Status.OK, "it answers"), *fitness]
    return [
        Check(
            "redis",
            Status.WARNING,
            "Redis does not answer; the service does without it",
            "start Redis, or mend REDIS_URL; until then persisted queries are not shared",
        )
    ]


async def _fitness(settings: Settings, redis: RedisConnection) -> list[Check]:
    """Whether Redis keeps what is queued in it, where events go through the queue."""
    if settings.ingest_mode != "queue":
        return []
    try:
        # Which ledger's queue it is does not matter to what Redis says of itself.
        _, info = await Queue(redis, UUID(int=0), queue_limits(settings)).look()
    except RedisUnavailable as error:
        advice = "let the user of REDIS_URL run scripts and INFO"
        return [Check("queue", Status.PROBLEM, f"Redis refuses: {error}", advice)]
    problem = durability_of(info).problem
    if problem is None:
        return [Check("queue", Status.OK, "Redis keeps what is queued")]
    status = Status.PROBLEM if settings.is_production else Status.WARNING
    return [Check("queue", status, "Redis may lose what is queued", problem)]
