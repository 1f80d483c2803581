"""Connections that stay: watched together, and ended when their key is, or when they stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic

import structlog
from starlette.types import Message, Send

from data.background import Loop, in_background
from data.resources import Resources
from resolvers.access import authenticate
from resolvers.context import Caller
from resolvers.errors import Refusal, Unauthenticated

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """Of connections that stay, in seconds."""

    # How long a WebSocket may be open without saying who it is.
    greeting: float = 5.0
    # How often a key is looked at again.
    recheck: float = 30.0
    # How long a peer may take nothing although something waits for it.
    stall: float = 30.0
    # How long a last word may take to get out.
    farewell: float = 5.0
    # How often an event stream says that it is alive, so that proxies don't take it for dead.
    comment: float = 12.0
    # How often connections are looked at.
    sweep: float = 5.0


class Ended(Exception):
    """The service ends a connection; code and reason as a WebSocket is closed with them."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class KeyEnded(Ended):
    """The key that opened the connection is no longer good."""

    def __init__(self) -> None:
        super().__init__(4403, "Forbidden")


class StoodStill(Ended):
    """The peer took nothing of what waited for it."""

    def __init__(self) -> None:
        super().__init__(1013, "Try again later: nothing was read for too long")


class Leaving(Ended):
    """The service stops."""

    def __init__(self) -> None:
        super().__init__(1012, "Service restart")


class PeerGone(Exception):
    """The other side has left; there is nobody to tell."""


@dataclass(slots=True)
class Outlet:
    """The way out to a peer, which knows for how long the peer has taken nothing.

    The server's `send` waits while the peer's buffer is full, so nothing piles up behind it.
    """

    send: Send
    _sending: int = 0
    _moved_at: float = 0.0

    async def __call__(self, message: Message) -> None:
        """Send a message when there is room for it; raises `PeerGone`."""
        if self._sending == 0:
            self._moved_at = monotonic()
        self._sending += 1
        try:
            await self.send(message)
        except (OSError, RuntimeError):
            # What servers raise once the peer has left; and once they have closed a connection
            # themselves, for a frame that is none or a ping without an answer.
            raise PeerGone from None
        finally:
            self._sending -= 1
        self._moved_at = monotonic()

    def stalled_for(self, at: float) -> float:
        """Seconds without any movement though something waits, at a monotonic moment."""
        return at - self._moved_at if self._sending else 0.0


@dataclass(slots=True, eq=False)
class Connection:
    """A connection as those who watch it see it. `tasks` is all that goes on for it."""

    key: str | None
    caller: Caller
    outlet: Outlet
    tasks: asyncio.TaskGroup
    checked_at: float = field(default_factory=monotonic)

    def end(self, why: Ended) -> None:
        """Have `tasks` end with `why`, once whatever it waits for can be interrupted."""
        ending = _raise(why)
        try:
            self.tasks.create_task(ending)
        except RuntimeError:  # it is ending already
            ending.close()


async def _raise(why: Ended) -> None:
    raise why


@dataclass(slots=True, eq=False)
class Connections:
    """All connections of this process that stay: one task looks after them."""

    resources: Resources
    pace: Pace = field(default_factory=Pace)
    _open: dict[Connection, None] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """Look after a connection until the block is left."""
        self._open[connection] = None
        try:
            yield
        finally:
            del self._open[connection]

    def end_all(self) -> None:
        """The service stops: end every connection, so that clients look for another one."""
        for connection in tuple(self._open):
            connection.end(Leaving())

    def sweeping(self) -> Loop:
        """What looks after connections."""
        return Loop("connections.sweep", self._sweep, pause=self.pace.sweep, waits_first=True)

    async def _sweep(self) -> None:
        self._end_stalled(monotonic())
        await self._recheck(monotonic())

    def _end_stalled(self, at: float) -> None:
        for connection in tuple(self._open):
            if connection.outlet.stalled_for(at) > self.pace.stall:
                log.info("connections.stalled", key_id=connection.caller.key_id)
                connection.end(StoodStill())

    async def _recheck(self, at: float) -> None:
        due = [one for one in self._open if at - one.checked_at >= self.pace.recheck]
        # Dashboards open many connections with the same key.
        callers: dict[str | None, Caller | None] = {}
        for connection in due:
            connection.checked_at = at
            if connection.key not in callers:
                callers[connection.key] = await self._caller(connection)
            if callers[connection.key] != connection.caller:
                connection.end(KeyEnded())

    async def _caller(self, connection: Connection) -> Caller | None:
        """Whose the key is now; the same as before where that cannot be found out."""
        try:
            return await authenticate(self.resources, connection.key, self.resources.clock())
        except Unauthenticated:
            return None
        except Refusal:
            return connection.caller


@asynccontextmanager
async def open_connections(
    resources: Resources, pace: Pace | None = None
) -> AsyncIterator[Connections]:
    """The connections of a service, looked after; whoever is still there at the end is ended."""
    connections = Connections(resources, pace or Pace())
    try:
        async with in_background(connections.sweeping()):
            yield connections
    finally:
        connections.end_all()
