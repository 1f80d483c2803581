"""The state of every part of the service, for operators and for health checks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from data.event_store import StoreUnavailable
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from data.postgres.feed import feed_state
from data.rate_limits import RateLimits
from data.redis.client import RedisConnection
from data.resources import Resources
from resolvers.access import require_service_wide
from resolvers.context import Context

CHECK_SECONDS = 2.0


class PartStatus(StrEnum):
    """How a part is: working, working but not as it should, or not."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the service with a sentence about it."""

    name: str
    status: PartStatus
    detail: str


@dataclass(frozen=True, slots=True)
class SystemState:
    """All parts, and how far the columnar copy has followed."""

    parts: list[Part]
    data_through: datetime | None
    ledger_position: int | None
    copy_position: int | None
    pending_events: int


async def system_state(resources: Resources) -> SystemState:
    """Look at every part, each for two seconds at most."""
    ledger, replica = await asyncio.gather(
        _ledger_part("ledger", resources.ledger.writer),
        _ledger_part("replica", resources.ledger.reader),
    )
    columnar, copy_position, through = await _columnar_part(resources)
    redis = [_redis_part(resources.redis)] if resources.redis else []
    limits = (
        [_limits_part(resources.rate_limits)] if resources.redis and resources.rate_limits else []
    )
    return SystemState(
        parts=[ledger[0], replica[0], columnar, *redis, *limits],
        data_through=through,
        ledger_position=replica[1] if replica[1] is not None else ledger[1],
        copy_position=copy_position,
        pending_events=resources.committer.pending_events,
    )


async def _ledger_part(name: str, engine: Engine) -> tuple[Part, int | None]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            state = await feed_state(engine, 0)
    except (LedgerUnavailable, LedgerRefused, TimeoutError):
        return Part(name, PartStatus.DOWN, "PostgreSQL does not answer"), None
    return Part(name, PartStatus.OK, f"at position {state.newest} of the change feed"), state.newest


async def _columnar_part(resources: Resources) -> tuple[Part, int | None, datetime | None]:
    follower = resources.follower
    try:
        watermark = await resources.columnar.store.watermark()
    except StoreUnavailable:
        return Part("columnar", PartStatus.DOWN, "the columnar copy does not answer"), None, None
    position = watermark.position if watermark else 0
    through = follower.data_through(watermark)
    if not follower.is_healthy:
        part = Part("columnar", PartStatus.DEGRADED, f"following fails; at position {position}")
    elif not follower.is_caught_up:
        part = Part("columnar", PartStatus.DEGRADED, f"catching up; at position {position}")
    else:
        part = Part("columnar", PartStatus.OK, f"at position {position}")
    return part, position, through


def _redis_part(redis: RedisConnection) -> Part:
    if redis.is_available:
        return Part("redis", PartStatus.OK, "persisted queries and wake-ups are shared")
    return Part("redis", PartStatus.DOWN, "Redis does not answer; this process does without it")


def _limits_part(limits: RateLimits) -> Part:
    name = "rate_limits"
    if limits.windows.is_shared:
        return Part(name, PartStatus.OK, "all processes count together")
    return Part(name, PartStatus.DEGRADED, "each process counts for itself, as Redis is away")


async def system(ctx: Context) -> SystemState:
    """The state of the service, for admins."""
    require_service_wide(ctx.caller)
    return await system_state(ctx.resources)
