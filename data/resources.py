"""Everything that a running service holds open, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from data.admin_log_head import AdminLogWatch
from data.columnar import ColumnarCopy
from data.exporter import Exporter
from data.follower import Follower
from data.group_commit import GroupCommit
from data.intake import Intake
from data.live import Live
from data.persisted import PersistedQueries
from data.postgres.directory import Directory
from data.postgres.key_uses import KeyUses
from data.postgres.leadership import Leadership
from data.postgres.ledger import Ledger
from data.postgres.lookout import Lookout
from data.postgres.salts import SaltKeeper
from data.rate_limits import RateLimits
from data.reconciliation import Reconciliation
from data.redis.client import RedisConnection
from data.redis.queue import Queue
from data.redis.queue_store import QueueStore
from data.refresher import Refresher
from data.results import Results
from data.secrets import Secrets
from data.spool.store import Spool
from telemetry.metrics import Metrics
from telemetry.tracing import Tracing

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Resources:
    """Opened in order by the server, closed in reverse; handed to resolvers and jobs."""

    ledger: Ledger
    leadership: Leadership
    directory: Directory
    key_uses: KeyUses
    committer: GroupCommit
    intake: Intake
    lookout: Lookout
    spool: Spool
    columnar: ColumnarCopy
    follower: Follower
    reconciliation: Reconciliation
    live: Live
    salts: SaltKeeper
    refresher: Refresher
    exporter: Exporter
    persisted: PersistedQueries
    redis: RedisConnection | None
    queue: Queue | None
    queue_store: QueueStore | None
    results: Results
    rate_limits: RateLimits | None
    secrets: Secrets
    metrics: Metrics
    tracing: Tracing
    clock: Clock
    admin_log: AdminLogWatch
