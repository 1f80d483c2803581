"""Opens the ways that events take: to the ledger, through the queue, by the spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from data.group_commit import GroupCommit, open_group_commit
from data.intake import Intake, LedgerStore, Store
from data.postgres.append import append
from data.postgres.ledger import Ledger
from data.postgres.lookout import Lookout, looking_out
from data.redis.client import RedisConnection
from data.redis.queue import Queue, QueueLimits
from data.redis.queue_store import QueueStore, open_queue_store
from data.spool.drain import Drain, DrainPace, draining
from data.spool.store import Spool, SpoolLimits, open_spool
from server.clock import utc_now
from server.settings import Settings
from telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Taking:
    """What takes events. `intake` tries the stores in order; the others are its parts.

    `queue` is there with a Redis, `queue_store` only where events are to go through it.
    """

    intake: Intake
    committer: GroupCommit
    lookout: Lookout
    spool: Spool
    queue: Queue | None
    queue_store: QueueStore | None


def queue_limits(settings: Settings) -> QueueLimits:
    """How much may wait in the queue."""
    return QueueLimits(events=settings.queue_max_events)


@asynccontextmanager
async def open_taking(
    settings: Settings,
    ledger: Ledger,
    redis: RedisConnection | None,
    on_commit: Callable[[int], None],
    metrics: Metrics,
) -> AsyncIterator[Taking]:
    """Everything that takes events; on leaving, what was taken is committed or left on disk.

    `on_commit` hears of the position of every commit of this process.
    """
    async with AsyncExitStack() as stack:
        lookout = await stack.enter_async_context(
            looking_out(Lookout(ledger.writer, metrics.ledger))
        )
        committing = partial(append, ledger.writer, seconds=lookout.pace.answer_seconds)
        committer = await stack.enter_async_context(
            open_group_commit(
                lookout.bounded(committing), on_commit=on_commit, metrics=metrics.ingest
            )
        )
        spool = await stack.enter_async_context(_spool(settings, metrics))
        await stack.enter_async_context(draining(_drain(spool, lookout, on_commit)))
        intake = Intake((LedgerStore(committer, lookout.is_away), spool), lookout.is_away)
        queue = Queue(redis, ledger.ledger_id, queue_limits(settings)) if redis else None
        queue_store = None
        if settings.ingest_mode == "queue" and queue is not None:
            queue_store = await stack.enter_async_context(
                _queue_store(settings, queue, intake, metrics)
            )
            intake = Intake((queue_store, *intake.stores), lookout.is_away)
        yield Taking(intake, committer, lookout, spool, queue, queue_store)


def _spool(settings: Settings, metrics: Metrics) -> AbstractAsyncContextManager[Spool]:
    limits = SpoolLimits(held=settings.spool_megabytes * 1024 * 1024)
    return open_spool(settings.home / "spool", limits=limits, clock=utc_now, metrics=metrics.spool)


def _queue_store(
    settings: Settings, queue: Queue, rescue: Store, metrics: Metrics
) -> AbstractAsyncContextManager[QueueStore]:
    return open_queue_store(queue, metrics.queue, rescue=rescue, must_last=settings.is_production)


def _drain(spool: Spool, lookout: Lookout, on_commit: Callable[[int], None]) -> Drain:
    pace = DrainPace()
    committing = partial(append, lookout.engine, seconds=pace.commit_seconds)
    bounded = lookout.bounded(committing, pace.commit_seconds)
    return Drain(spool, bounded, lookout, on_commit, pace)
