"""Watching the queue: how it is, whether its Redis keeps it, and giving it again what it lost.

What this process has queued is held here until a worker has taken it out of the stream. A Redis
that comes back without it, or with less of it, is given it again; one that stays away is done
without: what is held is committed from here. Either may make an entry arrive twice, which its
events' ids make safe.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import structlog

from data.background import Loop
from data.intake import NotTaken, Store
from data.postgres.engine import LedgerRefused
from data.redis.client import RedisRefused, RedisUnavailable
from data.redis.durability import Durability, durability_of
from data.redis.entries import decode_entry
from data.redis.held import MOST_BYTES, Held, HeldEntry
from data.redis.queue import Queue, QueueState, show_state
from telemetry.queue_metrics import QueueMetrics

log = structlog.get_logger()

# Far less than Redis takes in the time that it has for an answer: what it was too slow to confirm is
# given once more, and stands in its memory twice.
_REAPPEND_ENTRIES = 200
_REAPPEND_BYTES = 1024 * 1024
_HAND_OVER_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class WatchPace:
    """How often to look at the queue, and for how long to wait for a Redis that is away."""

    look_seconds: float = 0.5
    rescue_seconds: float = 30.0
    held_bytes: int = MOST_BYTES


@dataclass(slots=True)
class QueueWatch:
    """What one process knows of the queue. `rescue` takes what is held while Redis is away.

    `state` and `durability` are None until Redis was looked at, and then as it was last seen.
    """

    queue: Queue
    metrics: QueueMetrics
    rescue: Store
    pace: WatchPace
    state: QueueState | None = None
    durability: Durability | None = None
    held: Held = field(init=False)
    # Ids of what is held and not in the stream: it is to be queued anew.
    _lost: list[bytes] = field(default_factory=list)
    _problem_told: str | None = None
    _well_at: float = field(default_factory=monotonic)
    # Why Redis did not keep what it was given, when it last did not.
    _reason: str = ""

    def __post_init__(self) -> None:
        self.held = Held(self.metrics, self.pace.held_bytes)

    def looking(self) -> Loop:
        """What looks at the queue over and over."""
        return Loop("queue.look", self._look_or_rescue, pause=self.pace.look_seconds)

    async def _look_or_rescue(self) -> None:
        """Look once Redis answers; first commit what is held where it has not for too long."""
        try:
            if monotonic() - self._well_at >= self.pace.rescue_seconds:
                self._well_at = monotonic()
                await self.hand_over(self._reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.rescue_seconds):
                    await self.queue.redis.until_available()
            await self.look()
            self._well_at = monotonic()
        except RedisRefused as error:
            self._reason = str(error)
            self._tell_problem(f"Redis does not take what it is told: {error}")
        except RedisUnavailable as error:
            self._reason = str(error)  # it is said elsewhere

    async def look(self) -> None:
        """Look at the queue once; raises `RedisUnavailable`."""
        state, info = await self.queue.look()
        durability, before = durability_of(info), self.durability
        await self._find_lost(state, before is not None and before.run_id != durability.run_id)
        # Before anything else of this look is believed: if it fails, the next one goes on with it.
        if self._lost:
            await self._give_again()
        else:
            self.held.release(state)
        self.state, self.durability = state, durability
        self._tell_problem(durability.problem)
        show_state(self.metrics, state)

    async def _find_lost(self, state: QueueState, is_other_run: bool) -> None:
        """Note what is held and not in the stream."""
        # What another store has taken meanwhile is not held any more.
        self._lost = [one for one in self._lost if one in self.held]
        if self.held.token and state.token != self.held.token:
            # Even where it has such an id: another stream may have given it to something else.
            self._lost, self.held.token = self.held.ids, state.token
        elif is_other_run and len(self.held):
            noted = set(self._lost)
            missing = await self.queue.missing([one for one in self.held.ids if one not in noted])
            self._lost += [one for one in self.held.ids if one in missing]

    async def _give_again(self) -> None:
        """Queue anew what the stream does not have. What a worker had taken out comes twice."""
        count = len(self._lost)
        while entries := self._next_lost():
            some = self._lost[: len(entries)]
            token, given = await self.queue.append(
                [(one.events, one.content) for one in entries], is_bounded=False
            )
            self.held.token = self.held.token or token
            del self._lost[: len(entries)]
            for old, new, entry in zip(some, given, entries, strict=True):
                self.held.forget(old)
                if new is not None:
                    self.held.add(new, entry)
            self.metrics.reappended.inc(len(some))
        log.warning(
            "queue.given_again",
            entries=count,
            held=len(self.held),
            # Nobody could give these again.
            bare_events=self.held.bare_events,
        )

    def _next_lost(self) -> list[HeldEntry]:
        """The first of what is to be queued anew, as much as is queued at a time."""
        entries, size = list[HeldEntry](), 0
        for entry_id in self._lost[:_REAPPEND_ENTRIES]:
            entry = self.held.get(entry_id)
            size += len(entry.content)
            if entries and size > _REAPPEND_BYTES:
                break
            entries.append(entry)
        return entries

    async def hand_over(self, reason: str) -> None:
        """Let another store take what is held; what it does not take stays.

        `reason` says why Redis does not keep it.
        """
        handed, ids = 0, self.held.ids
        for start in range(0, len(ids), _HAND_OVER_ENTRIES):
            some = ids[start : start + _HAND_OVER_ENTRIES]
            # Together, as requests come: then they share their commits.
            failures = await asyncio.gather(*map(self._rescue, some))
            handed += failures.count(None)
            failure = next((one for one in failures if one), None)
            if failure:
                log.warning("queue.not_handed_over", entries=len(self.held), reason=failure)
                break
        if handed:
            log.warning("queue.handed_over", entries=handed, reason=reason)

    async def _rescue(self, entry_id: bytes) -> str | None:
        """Hand one entry over; why that failed, or None."""
        held = self.held.get(entry_id)
        # Without what was refused: its sender was told, and it would be kept twice.
        events = decode_entry(held.content).events
        try:
            await self.rescue.submit(events, [], len(held.content))
        except LedgerRefused:
            return None  # it stays; a worker sorts out which of its events that is
        except NotTaken as error:
            return str(error)
        self.held.forget(entry_id)
        return None

    def _tell_problem(self, problem: str | None) -> None:
        if problem == self._problem_told:
            return
        self._problem_told = problem
        if problem:
            log.warning("queue.not_durable", reason=problem)
        else:
            log.warning("queue.durable_again")
