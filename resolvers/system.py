"""The state of every part of the service, for operators and for health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from data.admin_log_head import AdminLogWatch
from data.breaker import BreakerState
from data.deadlines import answer_within
from data.event_store import StoreUnavailable
from data.postgres.daily_users import view_state
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from data.postgres.export_pauses import standing
from data.postgres.feed import feed_state
from data.postgres.leadership import Leadership
from data.postgres.reads import Reads
from data.postgres.sources import all_sources
from data.rate_limits import RateLimits
from data.reconciliation import DayDifference, Reconciliation
from data.redis.client import RedisConnection
from data.redis.queue_store import QueueStore
from data.resources import Resources
from data.results import ResultsState
from data.spool.store import Spool
from data.vault.vault import Vault
from resolvers.access import require_service_wide
from resolvers.context import Context
from resolvers.sources import ShownSource, shown

CHECK_SECONDS = 2.0
# A refresh is due every quarter of a minute, or after nine times as long as the last one took.
_VIEW_IS_OLD = timedelta(minutes=10)
# So many sources are named in a sentence.
_NAMED = 5


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
class QueueFigures:
    """What waits in the queue, in entries (requests) and events, and who drains it."""

    length: int
    events: int
    pending: int
    dead_letters: int
    workers: int
    oldest_age_seconds: float


@dataclass(frozen=True, slots=True)
class SystemState:
    """All parts, and how far the columnar copy has followed."""

    parts: list[Part]
    data_through: datetime | None
    ledger_position: int | None
    copy_position: int | None
    pending_events: int
    cache: ResultsState
    queue: QueueFigures | None = None
    reconciliation: tuple[DayDifference, ...] = ()
    sources: Sequence[ShownSource] = ()


@dataclass(frozen=True, slots=True)
class Looks:
    """What takes questions to a database: the parts, and how far the feed of changes has come."""

    ledger: tuple[Part, int | None]
    replica: tuple[Part, int | None]
    view: Part
    sources: tuple[Part, Sequence[ShownSource]]
    exports: Part


async def look(resources: Resources) -> Looks:
    """Ask the databases, each for two seconds at most."""
    ledger, replica, view, sources, exports = await asyncio.gather(
        _ledger_part("ledger", resources.ledger.writer),
        _replica_part(resources.ledger.reads),
        _view_part(resources),
        _sources_part(resources),
        _exports_part(resources),
    )
    return Looks(ledger, replica, view, sources, exports)


async def system_state(resources: Resources, looks: Looks | None = None) -> SystemState:
    """How every part is; with `looks`, the databases are not asked again."""
    looks = looks or await look(resources)
    ledger, replica, view = looks.ledger, looks.replica, looks.view
    if resources.lookout.is_away() and ledger[0].status is PartStatus.OK:
        doubtful = "PostgreSQL answers, but it took no writes a moment ago"
        ledger = Part("ledger", PartStatus.DEGRADED, doubtful), ledger[1]
    columnar, copy_position, through = await _columnar_part(resources)
    redis = [_redis_part(resources.redis)] if resources.redis else []
    queue = [_queue_part(resources.queue_store)] if resources.queue_store else []
    limits = (
        [_limits_part(resources.rate_limits)] if resources.redis and resources.rate_limits else []
    )
    return SystemState(
        parts=[
            ledger[0],
            replica[0],
            columnar,
            _spool_part(resources.spool),
            *queue,
            *redis,
            *_vault_parts(resources),
            _leader_part(resources.leadership),
            view,
            _admin_log_part(resources.admin_log),
            _reconcile_part(resources.reconciliation),
            looks.sources[0],
            looks.exports,
            *limits,
        ],
        data_through=through,
        ledger_position=ledger[1] if ledger[1] is not None else replica[1],
        copy_position=copy_position,
        pending_events=resources.committer.pending_events,
        queue=_queue_figures(resources.queue_store),
        reconciliation=resources.reconciliation.differences,
        cache=resources.results.state,
        sources=looks.sources[1],
    )


async def _ledger_part(name: str, engine: Engine) -> tuple[Part, int | None]:
    try:
        async with answer_within(CHECK_SECONDS):
            state = await feed_state(engine, 0)
    except (LedgerUnavailable, LedgerRefused, TimeoutError):
        return Part(name, PartStatus.DOWN, "PostgreSQL does not answer"), None
    return Part(name, PartStatus.OK, f"at position {state.newest} of the change feed"), state.newest


async def _replica_part(reads: Reads) -> tuple[Part, int | None]:
    replica = reads.replica
    if replica is None:
        return await _ledger_part("replica", reads.primary)
    if replica.breaker.state is not BreakerState.CLOSED or replica.state is None:
        detail = f"it does not answer, reads go to the primary; breaker {replica.breaker.state}"
        return Part("replica", PartStatus.DOWN, detail), None
    seen = replica.state
    lag = "an unknown time" if seen.lag is None else f"{seen.lag:.1f} s"
    behind = f"at position {seen.newest} of the change feed, {lag} behind; breaker closed"
    if replica.is_lagging:
        detail = f"lags too far, reads go to the primary while that answers; {behind}"
        return Part("replica", PartStatus.DEGRADED, detail), seen.newest
    return Part("replica", PartStatus.OK, behind), seen.newest


def _leader_part(leadership: Leadership) -> Part:
    leader = leadership.leader
    if leader is None:
        return Part("leader", PartStatus.DEGRADED, "no process leads: jobs that run once wait")
    who = "this process" if leadership.is_leader else "another process"
    return Part("leader", PartStatus.OK, f"{who} leads: {leader}")


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


async def _view_part(resources: Resources) -> Part:
    try:
        async with answer_within(CHECK_SECONDS):
            state = await resources.ledger.reads.run(view_state)
    except (LedgerUnavailable, LedgerRefused, TimeoutError):
        return Part("view", PartStatus.DOWN, "daily_active_users cannot be read")
    where = f"at position {state.position}"
    if state.refilling:
        sites = f"{state.refilling} site(s) are filled anew"
        return Part("view", PartStatus.DEGRADED, f"{where}; {sites}")
    behind = resources.clock() - state.through
    if state.refreshed_at is not None and behind > _VIEW_IS_OLD:
        minutes = int(behind.total_seconds() / 60)
        return Part("view", PartStatus.DEGRADED, f"{where}; {minutes} minutes behind")
    return Part("view", PartStatus.OK, where)


async def _sources_part(resources: Resources) -> tuple[Part, list[ShownSource]]:
    now = resources.clock()
    try:
        async with answer_within(CHECK_SECONDS):
            found = await resources.ledger.reads.run(lambda at: all_sources(at, now))
    except (LedgerUnavailable, LedgerRefused, TimeoutError):
        return Part("sources", PartStatus.DEGRADED, "sources cannot be read now"), []
    sources = [shown(stored) for stored in found]
    left_alone = [
        one.key for one in sources if one.enabled and one.breaker is not BreakerState.CLOSED
    ]
    if not left_alone:
        count = f"{len(sources)} source(s)" if sources else "none"
        return Part("sources", PartStatus.OK, count), sources
    named = ", ".join(left_alone[:_NAMED])
    more = len(left_alone) - _NAMED
    detail = f"{len(left_alone)} of {len(sources)} fail again and again: {named}"
    detail += f" and {more} more" if more > 0 else ""
    return Part("sources", PartStatus.DEGRADED, f"{detail}; see `audits`"), sources


async def _exports_part(resources: Resources) -> Part:
    try:
        async with answer_within(CHECK_SECONDS):
            found = await resources.ledger.reads.run(standing)
    except (LedgerUnavailable, LedgerRefused, TimeoutError):
        return Part("exports", PartStatus.DEGRADED, "exports cannot be read now")
    count = f"{found.destinations} destination(s)" if found.destinations else "none"
    dead = f"; {found.dead} dead run(s), which wait for `retryExport`" if found.dead else ""
    if not found.resting:
        return Part("exports", PartStatus.OK, count + dead)
    named = ", ".join(found.resting[:_NAMED])
    more = len(found.resting) - _NAMED
    named += f" and {more} more" if more > 0 else ""
    detail = f"{len(found.resting)} of {count} rest for a failure: {named}{dead}"
    return Part("exports", PartStatus.DEGRADED, detail)


def source_state(source: ShownSource) -> str:
    """How a source is, in a word or two."""
    if not source.enabled:
        return "off"
    if source.breaker is not BreakerState.CLOSED:
        return f"breaker {source.breaker.value}"
    if source.failures:
        return "failing"
    return "ok" if source.last_success_at else "new"


def _reconcile_part(reconciliation: Reconciliation) -> Part:
    if not reconciliation.differences:
        at = reconciliation.compared_at
        detail = f"stores agreed at {at:%Y-%m-%d %H:%M:%S} UTC" if at else "nothing compared yet"
        return Part("reconcile", PartStatus.OK, detail)
    detail = f"{len(reconciliation.differences)} day(s) of sites differ from the ledger"
    if reconciliation.follower.is_rebuilding:
        detail += "; the columnar copy is being built anew"
    return Part("reconcile", PartStatus.DEGRADED, detail)


def _redis_part(redis: RedisConnection) -> Part:
    if redis.is_available:
        return Part("redis", PartStatus.OK, "results, persisted queries and wake-ups are shared")
    return Part("redis", PartStatus.DOWN, "Redis does not answer; this process does without it")


def _spool_part(spool: Spool) -> Part:
    held = f"{spool.held_bytes / 1_000_000:.1f} MB wait for the ledger"
    if spool.failure is not None:
        return Part("spool", PartStatus.DOWN, f"the disk takes nothing: {spool.failure}; {held}")
    if spool.is_on and spool.is_full:
        return Part("spool", PartStatus.DOWN, f"full: {held}")
    if spool.oldest is not None:
        return Part("spool", PartStatus.DEGRADED, f"{held}, since {spool.oldest:%Y-%m-%d %H:%M}Z")
    return Part("spool", PartStatus.OK, "empty" if spool.is_on else "switched off")


def _queue_part(store: QueueStore) -> Part:
    state, reason = store.watch.state, store.why_not_used()
    if reason is not None or state is None:
        said = f"{reason or 'Redis was not looked at yet'}; events go to the ledger"
        return Part("queue", PartStatus.DOWN, said)
    waits = f"{state.events} events wait, {state.workers} workers"
    limits, bare = store.queue.limits, store.watch.held.bare_events
    trouble = [
        store.watch.durability.problem if store.watch.durability else None,
        None if state.workers else "no worker drains it: run `footfall worker`",
        "it is full" if state.events >= limits.events else None,
        "no dead letter finds room: see `deadLetters`"
        if state.dead_letters >= limits.dead_letters
        else None,
        f"{bare} events are in Redis alone" if bare else None,
    ]
    if found := [one for one in trouble if one]:
        return Part("queue", PartStatus.DEGRADED, f"{waits}; {'; '.join(found)}")
    letters = f", {state.dead_letters} dead letters" if state.dead_letters else ""
    return Part("queue", PartStatus.OK, waits + letters)


def _queue_figures(store: QueueStore | None) -> QueueFigures | None:
    state = store.watch.state if store else None
    if store is None or state is None or not store.queue.redis.is_available:
        return None
    return QueueFigures(
        length=state.entries,
        events=state.events,
        pending=state.pending,
        dead_letters=state.dead_letters,
        workers=state.workers,
        oldest_age_seconds=state.oldest_age_seconds,
    )


def queue_takes(resources: Resources) -> bool:
    """Whether events can be taken by the queue."""
    store = resources.queue_store
    return store is not None and store.why_not_used() is None


def _vault_parts(resources: Resources) -> list[Part]:
    if not isinstance(resources.secrets, Vault):
        return []
    state = resources.secrets.state()
    until = f"{state.ends_at:%Y-%m-%d %H:%M:%S} UTC" if state.ends_at else None
    if state.trouble is None:
        words = f"leases are held until {until}, and renewed" if until else "it answers"
        return [Part("vault", PartStatus.OK, words)]
    trouble = "Vault does not do what it is asked; the service goes on with what it holds"
    if state.has_ended:
        return [Part("vault", PartStatus.DOWN, f"{trouble}; leases have ended")]
    return [Part("vault", PartStatus.DEGRADED, f"{trouble}; leases end at {until or 'no time'}")]


def _admin_log_part(watch: AdminLogWatch) -> Part:
    if watch.broken is not None:
        words = f"broken at entry {watch.broken.position}: run `footfall doctor --verify-log`"
        return Part("admin_log", PartStatus.DEGRADED, words)
    words = f"at position {watch.seen.position}, whole"
    if watch.trouble is not None:
        words += "; its end is not kept safely here: run `footfall doctor --verify-log`"
        return Part("admin_log", PartStatus.DEGRADED, words)
    return Part("admin_log", PartStatus.OK, words)


def _limits_part(limits: RateLimits) -> Part:
    name = "rate_limits"
    if limits.windows.is_shared:
        return Part(name, PartStatus.OK, "all processes count together")
    return Part(
        name, PartStatus.DEGRADED, "each process counts for itself, as Redis takes no counts"
    )


async def system(ctx: Context) -> SystemState:
    """The state of the service, for admins."""
    require_service_wide(ctx.caller)
    return await system_state(ctx.resources)
