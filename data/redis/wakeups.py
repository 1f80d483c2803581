"""Wake-ups: a commit in one process wakes the followers of all others at once.

They carry no data. Every process follows the ledger by itself and looks for new batches a few
times a second anyway; a wake-up that is lost, or a Redis that is away, costs that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio.client import PubSub

from data.background import Loop, in_background
from data.deadlines import answer_within
from data.redis.client import RedisConnection, RedisUnavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WakeupPace:
    """How long commits gather, how long silence is believed, and how soon to subscribe again."""

    gather_seconds: float = 0.02
    silence_seconds: float = 5.0
    least_pause_seconds: float = 0.1
    most_pause_seconds: float = 30.0


@dataclass(slots=True)
class Wakeups:
    """Tells the other processes on a ledger of commits here, and hears of theirs."""

    redis: RedisConnection
    channel: str
    on_wake: Callable[[], None]
    pace: WakeupPace
    is_listening: bool = False
    _sender: bytes = field(default_factory=lambda: token_hex(8).encode())
    _newest: int | None = None
    _committed: asyncio.Event = field(default_factory=asyncio.Event)
    _pause: float = field(init=False)

    def __post_init__(self) -> None:
        self._pause = self.pace.least_pause_seconds

    def publish(self, position: int) -> None:
        """Say that the ledger has come to this position. Takes no time; may get lost."""
        self._newest = position
        self._committed.set()

    def sending(self) -> Loop:
        """What publishes, one message at a time."""
        # Commits come in flocks: the newest position speaks for those before it.
        return Loop("redis.wakeups.send", self._send, pause=self.pace.gather_seconds)

    async def _send(self) -> None:
        """Publish what was said last, as soon as there is something."""
        await self._committed.wait()
        self._committed.clear()
        with suppress(RedisUnavailable):
            async with self.redis.using() as client:
                message = b"%s %d" % (self._sender, self._newest or 0)
                await client.publish(self.channel, message)

    def listening(self) -> Loop:
        """What wakes the follower whenever another process has committed."""
        return Loop("redis.wakeups.listen", self._listen, pause=self._next_pause)

    async def _listen(self) -> None:
        """Subscribe when Redis answers, and listen for as long as it does."""
        await self.redis.until_available()
        try:
            async with self._subscription() as pubsub:
                self._pause = self.pace.least_pause_seconds
                # Whatever was said while nobody listened here went unheard.
                self.on_wake()
                while True:
                    await self._hear(pubsub)
        except RedisUnavailable as error:
            log.debug("redis.wakeups.lost", reason=str(error), pause=self._pause)

    def _next_pause(self) -> float:
        pause = self._pause
        self._pause = min(2 * pause, self.pace.most_pause_seconds)
        return pause

    @asynccontextmanager
    async def _subscription(self) -> AsyncIterator[PubSub]:
        pubsub = self.redis.pubsub()
        try:
            with self.redis.outages():
                async with answer_within(self.redis.pace.answer_seconds):
                    await pubsub.subscribe(self.channel)
                    await self._answer(pubsub)
                self.is_listening = True
                yield pubsub
        finally:
            self.is_listening = False
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _hear(self, pubsub: PubSub) -> None:
        """Wait for one message; raises where there is none and the server does not answer."""
        # Around all of it, since the library connects anew by itself where a connection breaks.
        async with answer_within(self.pace.silence_seconds + 2 * self.redis.pace.answer_seconds):
            message = await pubsub.get_message(timeout=self.pace.silence_seconds)
            if message is None:
                await pubsub.ping()
                message = await self._answer(pubsub)
        if message["type"] == "message" and not message["data"].startswith(self._sender):
            self.on_wake()

    async def _answer(self, pubsub: PubSub) -> dict[str, Any]:
        """The next message of any kind; the caller says how long that may take."""
        message: dict[str, Any] | None = await pubsub.get_message(timeout=None)
        if message is None:
            raise TimeoutError("the subscription is silent")
        return message


@asynccontextmanager
async def open_wakeups(
    redis: RedisConnection,
    ledger_id: UUID,
    on_wake: Callable[[], None],
    pace: WakeupPace | None = None,
    *,
    about: str = "commits",
) -> AsyncIterator[Wakeups]:
    """Wake-ups between the processes on one ledger, until the block is left.

    `on_wake` is called for commits of other processes, and when listening begins anew. `about` names
    another matter that processes tell each other of in the same way.
    """
    wakeups = Wakeups(redis, f"footfall:{ledger_id}:{about}", on_wake, pace or WakeupPace())
    async with in_background(wakeups.sending(), wakeups.listening()):
        yield wakeups
