"""Everything that a running service holds open, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from data.columnar import ColumnarCopy
from data.follower import Follower
from data.group_commit import GroupCommit
from data.live import Live
from data.persisted import PersistedQueries
from data.postgres.directory import Directory
from data.postgres.key_uses import KeyUses
from data.postgres.ledger import Ledger
from data.postgres.salts import SaltKeeper
from data.rate_limits import RateLimits
from data.redis.client import RedisConnection
from data.secrets import Secrets
from telemetry.metrics import Metrics
from telemetry.tracing import Tracing

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Resources:
    """Opened in order by the server, closed in reverse; handed to resolvers and jobs."""

    ledger: Ledger
    directory: Directory
    key_uses: KeyUses
    committer: GroupCommit
    columnar: ColumnarCopy
    follower: Follower
    live: Live
    salts: SaltKeeper
    persisted: PersistedQueries
    redis: RedisConnection | None
    rate_limits: RateLimits | None
    secrets: Secrets
    metrics: Metrics
    tracing: Tracing
    clock: Clock
