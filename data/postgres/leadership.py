"""Which of several processes leads: the one that holds an advisory lock of the primary.

The lock belongs to a session, and the leader speaks on it each second. A leader that finds no
answer within two seconds leads no more. The server ends a session that is silent for five, so one
that was killed, frozen or cut off is replaced within seconds, and never before it has stopped
believing in itself or has nothing to believe with: a process that was frozen asks before each job.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from data.background import Loop, in_background
from data.postgres.engine import (
    LedgerUnavailable,
    Login,
    driver_connection,
    ledger_errors,
    open_engine,
)
from telemetry.ledger_metrics import LeaderMetrics

log = structlog.get_logger()

# 7077 marks the locks of Footfall; 1 to 3 are those of positions, partitions and migrations.
_TRY = "select pg_try_advisory_lock(7077, 4)"
_UNLOCK = "select pg_advisory_unlock(7077, 4)"
# The lock is looked at, not only the session: a pooler in between would change sessions at will.
_HOLDS = """
select exists (
    select from pg_locks
    where locktype = 'advisory' and classid = 7077 and objid = 4 and objsubid = 2
        and granted and pid = pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
)
"""
_HOLDER = """
select activity.application_name
from pg_locks as lock join pg_stat_activity as activity using (pid)
where lock.locktype = 'advisory' and lock.classid = 7077 and lock.objid = 4 and lock.objsubid = 2
    and lock.granted
    and lock.database = (select oid from pg_database where datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class LeaderPace:
    """In seconds: how often to try or to ask, how long an answer may take.

    `silence` is when the server gives a leader up; it must be longer than the other two together.
    """

    look_every: float = 1.0
    answer: float = 2.0
    silence: float = 5.0

    def __post_init__(self) -> None:
        if self.silence <= self.look_every + self.answer:
            raise ValueError("the server would give up a leader that still believes in itself")


class _Dropped(Exception):
    """Has a connection thrown away instead of given back."""


@dataclass(slots=True)
class Leadership:
    """Whether this process leads, and if not, who does. Made by `open_leadership`."""

    engine: AsyncEngine
    metrics: LeaderMetrics
    pace: LeaderPace
    name: str
    on_elected: Callable[[], None] | None = None
    _session: asyncpg.Connection | None = None
    _holding: AsyncExitStack = field(default_factory=AsyncExitStack)
    _leads: bool = False
    _other: str | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_leader(self) -> bool:
        """Whether this process led when it last asked; `leads` asks."""
        return self._leads

    @property
    def leader(self) -> str | None:
        """The process that leads as far as is known, such as `web-1:4242`; None if none does."""
        return self.name if self._leads else self._other

    async def leads(self) -> bool:
        """Whether this process leads at this moment, by asking the server."""
        if not self._leads:
            return False
        async with self._turn:
            await self._look()
        return self._leads

    async def look(self) -> None:
        """Stay the leader, or try to become it."""
        async with self._turn:
            await self._look()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self.pace.answer):
                await self._ask()
        except (LedgerUnavailable, TimeoutError) as error:
            await self._drop()
            self._other = None
            self._become(False, reason=type(error).__name__)

    async def _ask(self) -> None:
        session: asyncpg.Connection = self._session or await self._opened()
        with ledger_errors():
            if self._leads:
                holds = bool(await session.fetchval(_HOLDS))
            else:
                holds = bool(await session.fetchval(_TRY))
            self._other = None if holds else await session.fetchval(_HOLDER)
        self._become(holds, reason="the lock is lost")

    async def _opened(self) -> asyncpg.Connection:
        self._session = await self._holding.enter_async_context(driver_connection(self.engine))
        return self._session

    def _become(self, leads: bool, *, reason: str) -> None:
        if leads == self._leads:
            return
        self._leads = leads
        self.metrics.is_leader.set(leads)
        if not leads:
            log.warning("leader.deposed", reason=reason)
            return
        self.metrics.elections.inc()
        log.info("leader.elected", name=self.name)
        if self.on_elected is not None:
            self.on_elected()

    async def _drop(self) -> None:
        """Cut the session, without waiting for a server that may hang."""
        self._session = None
        with suppress(_Dropped):
            async with self._holding:
                raise _Dropped

    async def close(self) -> None:
        """Give the lead up, so that the next process need not wait."""
        async with self._turn:
            if self._session is not None and self._leads:
                with suppress(LedgerUnavailable, TimeoutError), ledger_errors():
                    async with asyncio.timeout(self.pace.answer):
                        await self._session.execute(_UNLOCK)
            self._leads = False
            self.metrics.is_leader.set(0)
            await self._drop()


def process_name() -> str:
    """What this process is called among those of all machines."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"


def leader_login(writer: Login, pace: LeaderPace, name: str) -> Login:
    """How the session of a leader is opened: one that the server drops when it falls silent."""
    silence = str(int(pace.silence * 1_000))
    return replace(
        writer,
        connections=1,
        timeout=timedelta(seconds=pace.answer),
        connect_timeout=timedelta(seconds=pace.answer),
        settings=(
            ("application_name", name),
            ("idle_session_timeout", silence),
            # For a machine that vanished without a word.
            ("tcp_keepalives_idle", "2"),
            ("tcp_keepalives_interval", "1"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", silence),
        ),
    )


@asynccontextmanager
async def open_leadership(
    writer: Login, metrics: LeaderMetrics, pace: LeaderPace | None = None, name: str | None = None
) -> AsyncIterator[Leadership]:
    """The leadership over a ledger, of which `writer` is the login; tried for once at the start."""
    pace, name = pace or LeaderPace(), name or process_name()
    async with open_engine(leader_login(writer, pace, name)) as engine:
        leadership = Leadership(engine, metrics, pace, name)
        await leadership.look()
        watch = Loop("leader.look", leadership.look, pause=pace.look_every, waits_first=True)
        try:
            async with in_background(watch):
                yield leadership
        finally:
            await leadership.close()
