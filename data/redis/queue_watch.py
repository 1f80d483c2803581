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

import structlog

from data.intake import NotTaken, Store
from data.postgres.engine import LedgerRefused
from data.redis.client import RedisRefused, RedisUnavailable
from data.redis.durability import Durability, durability_of
from data.redis.entries import decode_entry
from data.redis.held import MOST_BYTES, Held
from data.redis.queue import Queue, QueueState, show_state
from telemetry.queue_metrics import QueueMetrics

log = structlog.get_logger()

_REAPPEND_ENTRIES = 200
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
    _problem_told: str | None = None

    def __post_init__(self) -> None:
        self.held = Held(self.metrics, self.pace.held_bytes)

    async def run(self) -> None:
        """Look at the queue over and over, until cancelled."""
        while True:
            try:
                await self._until_available()
                await self.look()
            except RedisRefused as error:
                self._tell_problem(f"Redis does not let itself be looked at: {error}")
            except RedisUnavailable:
                pass  # it is said elsewhere
            except Exception:
                log.exception("queue.look.failed")
            await asyncio.sleep(self.pace.look_seconds)

    async def _until_available(self) -> None:
        """Return when Redis answers; commit what is held if that takes long."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.rescue_seconds):
                    await self.queue.redis.until_available()
                    return
            await self.hand_over()

    async def look(self) -> None:
        """Look at the queue once; raises `RedisUnavailable`."""
        state, info = await self.queue.look()
        durability, before = durability_of(info), self.durability
        is_other_run = before is not None and before.run_id != durability.run_id
        is_other_stream = bool(self.held.token) and state.token != self.held.token
        if len(self.held) and (is_other_run or is_other_stream):
            # Before anything else of this look is believed: if it fails, the next one tries again.
            await self._give_again(is_other_stream)
        elif is_other_stream:
            self.held.token = state.token
        else:
            self.held.release(state)
        self.state, self.durability = state, durability
        self._tell_problem(durability.problem)
        show_state(self.metrics, state)

    async def _give_again(self, is_other_stream: bool) -> None:
        """Queue anew what the stream does not have. What a worker had taken out comes twice."""
        ids, token = self.held.ids, self.held.token
        # Another stream may have given one of these ids to something else.
        missing = set(ids) if is_other_stream else await self.queue.missing(ids)
        lost = [entry_id for entry_id in ids if entry_id in missing]
        for start in range(0, len(lost), _REAPPEND_ENTRIES):
            some = lost[start : start + _REAPPEND_ENTRIES]
            entries = [self.held.get(entry_id) for entry_id in some]
            token, given = await self.queue.append(
                [(one.events, one.content) for one in entries], is_bounded=False
            )
            new = [(one, entry) for one, entry in zip(given, entries, strict=True) if one]
            self.held.replace(some, new)
        self.held.token = token
        self.metrics.reappended.inc(len(lost))
        log.warning(
            "queue.given_again",
            entries=len(lost),
            of=len(ids),
            # Nobody could give these again.
            bare_events=self.held.bare_events,
            whole_stream=is_other_stream,
        )

    async def hand_over(self) -> None:
        """Let another store take what is held; what it does not take stays."""
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
            log.warning("queue.handed_over", entries=handed, reason="Redis is away")

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
