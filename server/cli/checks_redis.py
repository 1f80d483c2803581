"""What `footfall doctor` finds out about Redis."""

from __future__ import annotations

from data.redis.client import open_redis
from server.cli.checks import Check, Status
from server.settings import Settings
from telemetry.metrics import Metrics


async def redis_checks(settings: Settings) -> list[Check]:
    """Whether Redis answers, where one is set."""
    if not settings.redis_url:
        return []
    async with open_redis(settings.redis_url, Metrics.create().redis) as redis:
        if redis.is_available:
            return [Check("redis", Status.OK, "it answers")]
    return [
        Check(
            "redis",
            Status.WARNING,
            "Redis does not answer; the service does without it",
            "start Redis, or mend REDIS_URL; until then persisted queries are not shared",
        )
    ]
