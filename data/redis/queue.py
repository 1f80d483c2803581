"""The queue: a stream of one ledger in Redis, in which the events of requests wait for a worker.

One consumer group hands each entry to one worker at a time. An entry is in the stream from the
moment it is acknowledged until its events are committed or stand among the dead letters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any
from uuid import UUID

from data.deadlines import answer_within
from data.redis import queue_scripts as scripts
from data.redis.client import Client, RedisConnection, RedisUnavailable
from telemetry.queue_metrics import QueueMetrics

GROUP = "ledger"
# A worker that was not heard of for so long is not counted any more.
WORKER_SECONDS = 15
# Beyond these a worker is given no more entries at a time; the last may exceed them.
_TAKE_EVENTS = 5_000
_TAKE_BYTES = 16 * 1024 * 1024
_TAKE_ENTRIES = 1_000
# An entry that went down with so many workers is handed out alone.
_SUSPECT_TIMES = 2
_SPREAD = 500
# Each may hold a whole request, and nothing else is done meanwhile.
_REPLAY_LETTERS = 50


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many events may wait, and how many dead letters are kept."""

    events: int = 1_000_000
    dead_letters: int = 10_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry in a worker's hand. `times` is how often it was handed out, this time included.

    `events` is what the entry counts for in the queue's length.
    """

    entry_id: bytes
    times: int
    events: int
    content: bytes

    @property
    def queued_at(self) -> datetime:
        """When it was queued, by Redis' clock."""
        return moment_of(self.entry_id)


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be kept of a refused event, or of an entry that cannot be decoded."""

    events: int
    content: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue as Redis has it. `token` is empty where there is none yet.

    `entries` and `events` wait, `pending` of the entries in some worker's hand. `first` is the
    oldest entry, or None; `last` the newest that ever was.
    """

    token: bytes
    events: int
    entries: int
    pending: int
    dead_letters: int
    workers: int
    first: bytes | None
    last: bytes
    now: datetime

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest entry has waited; 0 where none does."""
        if self.first is None:
            return 0.0
        return max(0.0, (self.now - moment_of(self.first)).total_seconds())

    def is_gone(self, entry_id: bytes) -> bool:
        """Whether an entry of this stream has left it."""
        if self.first is not None:
            return place_of(entry_id) < place_of(self.first)
        return place_of(entry_id) <= place_of(self.last)


def place_of(entry_id: bytes) -> tuple[int, int]:
    """The place of an entry in the order of the stream."""
    millis, _, number = entry_id.partition(b"-")
    return int(millis), int(number)


def moment_of(entry_id: bytes) -> datetime:
    """When an entry was added, by Redis' clock."""
    return datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of one ledger; every use may raise `RedisUnavailable`."""

    redis: RedisConnection
    ledger_id: UUID
    limits: QueueLimits

    @property
    def keys(self) -> tuple[str, str, str, str]:
        """Entries, what is known of them, dead letters, workers: on one node of a cluster."""
        start = f"footfall:{{{self.ledger_id}}}:queue"
        return start, f"{start}:state", f"{start}:dead", f"{start}:workers"

    async def append(
        self, entries: Sequence[tuple[int, bytes]], *, is_bounded: bool = True
    ) -> tuple[bytes, list[bytes | None]]:
        """Add entries (events, content): the stream's token and the id of each.

        None instead of an id where there was no room. Once the ids are here the entries stand in
        the stream; after `RedisUnavailable` they may.
        """
        most = self.limits.events if is_bounded else 2**53
        arguments = [part for entry in entries for part in entry]
        token, *ids = await self.run(scripts.APPEND, most, *arguments)
        return token, ids

    async def take(self, worker: str) -> list[Delivery]:
        """New entries for a worker, the oldest first; none where none wait."""
        bounds = (_TAKE_EVENTS, _TAKE_BYTES, _TAKE_ENTRIES)
        return _deliveries(await self.run(scripts.TAKE, worker, *bounds))

    async def reclaim(self, worker: str, idle_seconds: float) -> list[Delivery]:
        """Entries whose worker has not renewed them for so long, for this worker now."""
        bounds = (_TAKE_EVENTS, _TAKE_BYTES, _TAKE_ENTRIES)
        idle = int(idle_seconds * 1000)
        return _deliveries(await self.run(scripts.RECLAIM, worker, *bounds, idle, _SUSPECT_TIMES))

    async def settle(self, settled: Sequence[Delivery]) -> int:
        """Take committed entries out; how many events of those nobody had taken out before."""
        pairs = [part for one in settled for part in (one.entry_id, one.events)]
        count: int = await self.run(scripts.SETTLE, *pairs)
        return count

    async def bury(self, delivery: Delivery, letters: Sequence[Letter]) -> bool:
        """Move what is left of an entry to the dead letters; False where they are full."""
        parts = [
            part
            for letter in letters
            for part in (letter.events, letter.content, letter.reason, delivery.times)
        ]
        place = (self.limits.dead_letters, delivery.entry_id, delivery.events)
        return bool(await self.run(scripts.BURY, *place, *parts))

    async def renew(self, worker: str, in_hand: Sequence[bytes]) -> None:
        """Say that a worker lives and still works on these entries."""
        await self.run(scripts.RENEW, worker, *in_hand)

    async def give_back(
        self, worker: str, deliveries: Sequence[Delivery], idle_seconds: float
    ) -> None:
        """Let others have entries, as if they were never handed out this time.

        Whoever reclaims what has been idle for `idle_seconds` gets them at once.
        """
        pairs = [part for one in deliveries for part in (one.entry_id, max(one.times - 1, 0))]
        await self.run(scripts.GIVE_BACK, worker, int(idle_seconds * 1000), *pairs)

    async def leave(self, worker: str) -> None:
        """Say that a worker has ended."""
        await self.run(scripts.LEAVE, worker)

    async def state(self) -> QueueState:
        """The queue as it is now."""
        return _state(await self.run(scripts.STATE, WORKER_SECONDS))

    async def look(self) -> tuple[QueueState, Mapping[str, Any]]:
        """The queue as it is now, and what its Redis says of itself: both of one server."""
        async with self.redis.using() as client:
            pipeline = client.pipeline(transaction=False)
            for section in ("server", "persistence", "memory"):
                pipeline.execute_command("INFO", section)
            pipeline.execute_command("EVAL", *self._call(scripts.STATE, WORKER_SECONDS))
            *sections, state = await pipeline.execute()
        return _state(state), {name: value for one in sections for name, value in one.items()}

    async def replay(self, letter_ids: Sequence[str]) -> int:
        """Queue dead letters anew, as many as there is room for; how many that were.

        Raises `RedisUnavailable` where it is not known of any.
        """
        count = 0
        for start in range(0, len(letter_ids), _REPLAY_LETTERS):
            some = letter_ids[start : start + _REPLAY_LETTERS]
            try:
                count += await self.run(scripts.REPLAY, self.limits.events, *some)
            except RedisUnavailable:
                if not count:
                    raise
                break
        return count

    async def missing(self, entry_ids: Sequence[bytes]) -> set[bytes]:
        """Those of the entries that are not in the stream."""
        missing: set[bytes] = set()
        for start in range(0, len(entry_ids), _SPREAD):
            some = entry_ids[start : start + _SPREAD]
            missing.update(await self.run(scripts.MISSING, *some))
        return missing

    async def run(self, script: str, *arguments: Any) -> Any:
        """What one of the scripts answers."""
        async with self.redis.using() as client:
            return await client.eval(*self._call(script, *arguments))

    def _call(self, script: str, *arguments: Any) -> tuple[Any, ...]:
        return (script, len(self.keys), *self.keys, token_hex(16), GROUP, *arguments)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits for new entries on a connection of its own."""

    queue: Queue
    client: Client

    async def one(self, worker: str, seconds: float) -> list[Delivery]:
        """The next new entry, as soon as there is one; none where none came in time."""
        entries = self.queue.keys[0]
        with self.queue.redis.outages():
            async with answer_within(seconds + self.queue.redis.pace.answer_seconds):
                read: Any = await self.client.xreadgroup(
                    GROUP, worker, {entries: ">"}, count=1, block=int(seconds * 1000)
                )
        found = read[0][1] if read else ()
        return [
            Delivery(entry_id, 1, _number(fields.get(b"n")), fields.get(b"p", b""))
            for entry_id, fields in found
        ]


@asynccontextmanager
async def waiting_for(queue: Queue) -> AsyncIterator[Waiting]:
    """What waits for entries of the queue, until the block is left."""
    async with queue.redis.on_its_own() as client:
        yield Waiting(queue, client)


def show_state(metrics: QueueMetrics, state: QueueState) -> None:
    """Let the metrics of a process show the queue as it is."""
    metrics.events.set(state.events)
    metrics.entries.set(state.entries)
    metrics.pending_entries.set(state.pending)
    metrics.oldest_age_seconds.set(state.oldest_age_seconds)
    metrics.workers.set(state.workers)
    metrics.dead_letters.set(state.dead_letters)


def _deliveries(found: Sequence[Sequence[Any]]) -> list[Delivery]:
    return [
        Delivery(entry_id, times, _number(events), content)
        for entry_id, times, events, content in found
    ]


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _state(found: Sequence[Any]) -> QueueState:
    token, events, last, entries, first, pending, dead, workers, now = found
    return QueueState(
        token=token,
        events=events,
        entries=entries,
        pending=pending,
        dead_letters=dead,
        workers=workers,
        first=first or None,
        last=last,
        now=datetime.fromtimestamp(now / 1000, UTC),
    )
