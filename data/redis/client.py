"""Redis: the connections of one process, and what happens while it does not answer.

Redis is an accelerator and never needed. Every use of it may raise `RedisUnavailable`, soon, and
its caller then does without. After a failure nobody waits for it again: one task looks whether it
answers, and until it does, uses are turned away at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as AnswerLate

from data.background import Loop, in_background
from data.deadlines import answer_within
from telemetry.metrics import RedisMetrics

log = structlog.get_logger()

# The client of the library, for rooms of `data/` that pass it on without importing the library.
Client = Redis

_EXAMPLE = "redis://user:password@host:6379/0"
# What the library raises where Redis, or the way to it, does not answer as it should.
_OUTAGES = (ConnectionFailed, AnswerLate, InvalidResponse, OSError, TimeoutError)
# What a URL may say after its `?`. Nothing else: all other options are ours to set, and one of
# them would switch the check of certificates off.
_OPTIONS = frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


class RedisUnavailable(Exception):
    """Redis cannot be used now; do without it."""


class RedisRefused(RedisUnavailable):
    """Redis answers, but does not take this: its memory is full, it is read-only, ..."""


@dataclass(frozen=True, slots=True)
class RedisPace:
    """How long one use may take, how often to look for a Redis that is away, how many at a time.

    A use that includes connecting takes a few milliseconds at the most; a Redis that needs longer
    than `answer_seconds` is no help any more.
    """

    answer_seconds: float = 0.4
    look_seconds: float = 1.0
    say_again_seconds: float = 60.0
    connections: int = 32


def check_redis_url(url: str) -> None:
    """Raises ValueError, with what is wrong, unless Redis can be looked for at this address."""
    _connection_arguments(url)


def _connection_arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"it must begin with redis://, rediss:// or unix://, such as {_EXAMPLE}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("it names no socket: write unix:///path/to/redis.sock")
    if parts.scheme != "unix":
        if not parts.hostname:
            raise ValueError(f"it names no host, as in {_EXAMPLE}")
        database = parts.path.strip("/")
        if database and not (database.isascii() and database.isdigit()):
            raise ValueError("the database after the host must be a number")
        _check_port(url)
    unknown = parse_qs(parts.query, keep_blank_values=True).keys() - _OPTIONS
    if unknown:
        raise ValueError(f"it has options that cannot be set: {', '.join(sorted(unknown))}")
    return dict(parse_url(url))


def _check_port(url: str) -> None:
    try:
        urlsplit(url).port  # noqa: B018 - the property checks
    except ValueError:
        raise ValueError("its port must be a number from 0 to 65535") from None


@dataclass(slots=True)
class RedisConnection:
    """A Redis and what is known of it. Made by `open_redis`."""

    metrics: RedisMetrics
    pace: RedisPace
    _arguments: dict[str, Any] = field(repr=False)
    _client: Client = field(init=False, repr=False)
    _answers: asyncio.Event = field(default_factory=asyncio.Event)
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)
    _reason: str = "it was not asked yet"
    _back_at: float = -1e9
    _refusal_told_at: float = -1e9

    def __post_init__(self) -> None:
        self._client = self._made_client(self.pace.connections)

    @property
    def is_available(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._answers.is_set()

    async def until_available(self) -> None:
        """Return when Redis answers."""
        await self._answers.wait()

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Client]:
        """The library's client for one short use: a command, a pipeline or a script.

        Raises `RedisUnavailable`, at once while Redis is known to be away, and in any case within
        `answer_seconds`; `RedisRefused` where it answers with an error. Other errors of the
        library, such as that of a watched key that has changed, are passed on as they are.
        """
        if not self._answers.is_set():
            self.metrics.uses["skipped"].inc()
            raise RedisUnavailable(self._reason)
        with self.outages():
            async with answer_within(self.pace.answer_seconds):
                yield self._client
        self.metrics.uses["succeeded"].inc()

    def pubsub(self) -> PubSub:
        """A new subscriber, which takes a connection for itself; use it within `outages()`."""
        return self._client.pubsub()

    @asynccontextmanager
    async def on_its_own(self) -> AsyncIterator[Client]:
        """A client with a connection for itself, for what waits; use it within `outages()`.

        Whoever uses it says how long it may wait.
        """
        client = self._made_client(1)
        try:
            yield client
        finally:
            await _close(client)

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Turns what the library raises into `RedisUnavailable` and takes note of it."""
        began = monotonic()
        try:
            yield
        except ResponseError as error:
            self.metrics.uses["refused"].inc()
            self._tell_refusal(_gist(error))
            raise RedisRefused(_gist(error)) from error
        except _OUTAGES as error:
            self.metrics.uses["failed"].inc()
            # What was begun before Redis came back says nothing about how it is now.
            if began > self._back_at:
                self._doubt(_gist(error))
            raise RedisUnavailable(_gist(error)) from error

    def _doubt(self, reason: str) -> None:
        self._reason = reason
        self._answers.clear()
        self._doubted.set()

    def _tell_refusal(self, reason: str) -> None:
        if monotonic() - self._refusal_told_at > self.pace.say_again_seconds:
            self._refusal_told_at = monotonic()
            log.warning("redis.refused", reason=reason)

    async def look(self) -> bool:
        """Whether Redis answers on a connection of its own; bounded in time."""
        probe = self._made_client(1)
        try:
            async with answer_within(self.pace.answer_seconds):
                await probe.ping()
        except (*_OUTAGES, ResponseError) as error:
            self._reason = _gist(error)
        else:
            return True
        finally:
            await _close(probe)
        return False

    def watch(self) -> Loop:
        """What brings Redis back into use after each failure."""
        return Loop("redis.watch", self._bring_back, pause=0, retry=self.pace.look_seconds)

    async def _bring_back(self) -> None:
        """Wait for a failure, then until Redis answers."""
        await self._doubted.wait()
        # One broken connection is no outage, unless it has become a habit.
        if monotonic() - self._back_at < self.pace.look_seconds:
            await asyncio.sleep(self.pace.look_seconds)
        await self._drop_connections()
        if not await self.look():
            await self._wait_for_it()
        self._come_back()

    async def _wait_for_it(self) -> None:
        began = monotonic()
        log.warning("redis.gone", reason=self._reason)
        while True:
            await asyncio.sleep(self.pace.look_seconds)
            if await self.look():
                break
        log.warning("redis.back", seconds=round(monotonic() - began, 1))

    def _come_back(self) -> None:
        self._back_at = monotonic()
        self._doubted.clear()
        self._answers.set()

    async def _drop_connections(self) -> None:
        """Idle connections may be as dead as the one that failed."""
        with suppress(ConnectionFailed, AnswerLate, OSError, TimeoutError):
            await self._client.connection_pool.disconnect(inuse_connections=False)

    async def start(self) -> None:
        """Look for Redis for the first time."""
        if await self.look():
            self._come_back()
        else:
            self._doubt(self._reason)

    async def close(self) -> None:
        """Give all connections back."""
        await _close(self._client)

    def _made_client(self, connections: int) -> Client:
        pool = BlockingConnectionPool(
            max_connections=connections,
            timeout=self.pace.answer_seconds,
            # The limit of each use is ours, around all of it. The library's for each command goes
            # by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation now and then.
            socket_timeout=None,
            socket_connect_timeout=None,
            # Whoever asks has better things to do than to ask again.
            retry=Retry(NoBackoff(), 0),
            # The older protocol: every server speaks it, and so does every proxy.
            protocol=2,
            client_name="footfall",
            driver_info=None,
            **self._arguments,
        )
        return Redis.from_pool(pool)


async def _close(client: Client) -> None:
    with suppress(ConnectionFailed, AnswerLate, OSError, TimeoutError):
        await client.aclose()


def _gist(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@asynccontextmanager
async def open_redis(
    url: str, metrics: RedisMetrics, pace: RedisPace | None = None
) -> AsyncIterator[RedisConnection]:
    """A Redis by its URL, also one that is away for now. `rediss://` checks its certificate.

    Raises ValueError where the URL cannot be used.
    """
    connection = RedisConnection(metrics, pace or RedisPace(), _connection_arguments(url))
    await connection.start()
    try:
        async with in_background(connection.watch()):
            yield connection
    finally:
        await connection.close()
