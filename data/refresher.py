"""Refreshes sources: takes up each that is due, a few at a time, in every process that is asked."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from uuid import uuid4

import structlog

from data.outbound.client import open_outbound
from data.postgres.engine import LedgerUnavailable, Login, open_engine
from data.postgres.source_audits import expire_audits, expire_changes
from data.postgres.source_claims import (
    Awaited,
    Due,
    Room,
    Skipped,
    abandon,
    answers_of,
    claim,
    due_sources,
    make_due,
)
from data.secrets import Secrets
from data.source_refresh import Refresh, RefreshMeans, RefreshPace
from data.sources.records import FetchOutcome
from telemetry.logs import bind_correlation_id, new_correlation_id
from telemetry.source_metrics import SourceMetrics

log = structlog.get_logger()

# More than these wait in the ledger, where any process may take them. Of those that failed the last
# time there may be as many again: they wait for long, and nobody else is to wait for their places.
_MOST_WAITING = 200
_CONNECTIONS = 3
_CLOSING_SECONDS = 2.0
_MOST_EXPIRED = 5_000


@dataclass(frozen=True, slots=True)
class RefreshRules:
    """What an operator decides: where sources may be, and how long it is kept what became of them.

    `keep_changes` is for the history of records, `keep_audits` for that of refreshes.
    """

    allow_private: bool = False
    keep_changes: timedelta = timedelta(days=30)
    keep_audits: timedelta = timedelta(days=90)
    pace: RefreshPace = field(default_factory=RefreshPace)


@dataclass(slots=True)
class Refresher:
    """Refreshes sources in this process, a few at a time. Made by `open_refresher`."""

    means: RefreshMeans
    rules: RefreshRules
    _name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid4()}")
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _failing_taken: set[str] = field(default_factory=set)
    _again: dict[str, Due] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False
    _fetching: asyncio.Semaphore = field(init=False)
    _failing: asyncio.Semaphore = field(init=False)
    _writing: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._fetching = asyncio.Semaphore(self.rules.pace.fetches)
        self._failing = asyncio.Semaphore(max(1, self.rules.pace.fetches // 2))
        self._writing = asyncio.Semaphore(self.rules.pace.writes)

    @property
    def allow_private(self) -> bool:
        """Whether sources may be on private networks."""
        return self.rules.allow_private

    async def begin_due(self, now: datetime) -> int:
        """How many sources are due and were taken up here. Raises `LedgerUnavailable`."""
        failing = len(self._failing_taken)
        room = Room(
            well=max(0, _MOST_WAITING - (len(self._tasks) - failing)),
            failing=max(0, _MOST_WAITING - failing),
            taken=list(self._tasks),
        )
        if not room.well and not room.failing:
            return 0
        due = await due_sources(self.means.engine, now, room)
        return sum(map(self._take_up, due))

    async def begin(self, keys: Sequence[str] | None) -> list[str]:
        """The keys of the sources whose refresh was begun, or waits for its turn; None: all.

        Not those that are under way already, nor those that are switched off. Raises
        `LedgerUnavailable`.
        """
        awaited = await self._make_due(keys)
        return [one.key for one in awaited if not one.is_held]

    async def refresh(self, keys: Sequence[str] | None, *, seconds: float) -> list[int]:
        """Refresh sources and wait until that is done, or the seconds are over: ids of the audits.

        What is under way, here or in another process, is waited for instead of begun. What does
        not end in time goes on. Raises `LedgerUnavailable`.
        """
        ends_at = monotonic() + seconds
        awaited = await self._make_due(keys)
        answers: dict[str, int | None] = {}
        while awaited:
            self._changed.clear()
            answers = await answers_of(self.means.engine, awaited)
            left = ends_at - monotonic()
            if len(answers) == len(awaited) or left <= 0:
                break
            # Others end theirs without a word to us.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, self.rules.pace.look_every)):
                    await self._changed.wait()
        return [audit for one in awaited if (audit := answers.get(one.key)) is not None]

    async def expire(self, now: datetime) -> tuple[int, int]:
        """How many changes of records and audits were deleted, for which their time is over.

        In small steps, each committed. Raises `LedgerUnavailable`.
        """
        engine, rules = self.means.engine, self.rules
        changes = audits = 0
        while more := await expire_changes(engine, now - rules.keep_changes, limit=_MOST_EXPIRED):
            changes += more
        while more := await expire_audits(engine, now - rules.keep_audits, limit=_MOST_EXPIRED):
            audits += more
        return changes, audits

    async def close(self) -> None:
        """End what is under way; other processes take it up at once."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make_due(self, keys: Sequence[str] | None) -> list[Awaited]:
        awaited = await make_due(self.means.engine, keys, self.means.clock())
        for one in awaited:
            if not one.is_held:
                self._take_up(one)
        return awaited

    def _take_up(self, due: Due) -> bool:
        """Have a source refreshed when it is its turn; False where it is in hand already."""
        if self._is_closed:
            return False
        if due.key in self._tasks:
            # It may be at its end, and have been claimed for an earlier reason.
            self._again[due.key] = due
            return False
        if due.is_failing:
            self._failing_taken.add(due.key)
        self._tasks[due.key] = asyncio.create_task(self._run(due), name=f"refresh {due.key}")
        self._tasks[due.key].add_done_callback(lambda _: self._ended(due.key))
        return True

    def _ended(self, key: str) -> None:
        del self._tasks[key]
        self._failing_taken.discard(key)
        self._changed.set()
        if (due := self._again.pop(key, None)) is not None:
            self._take_up(due)

    async def _run(self, due: Due) -> None:
        key = due.key
        # Sources that hang would hold up those that do not, if they could have every place.
        async with self._failing if due.is_failing else nullcontext(), self._fetching:
            with bind_correlation_id(new_correlation_id()):
                try:
                    await self._attempt(key)
                except LedgerUnavailable as error:
                    # The claim ends by itself, and the source is still due.
                    log.warning("source.refresh.given_up", source=key, reason=str(error))
                except Exception:
                    log.exception("source.refresh.failed", source=key)

    async def _attempt(self, key: str) -> None:
        means = self.means
        claimed = await claim(means.engine, key, means.clock(), self._name)
        if claimed is None:
            return
        if isinstance(claimed, Skipped):
            means.metrics.refreshes.labels(key, FetchOutcome.SKIPPED_BREAKER_OPEN).inc()
            log.info("source.refresh.skipped", source=key, reason="its breaker is open")
            return
        delay = (claimed.started_at - claimed.due_at).total_seconds()
        means.metrics.delay_seconds.observe(max(delay, 0))
        means.metrics.running.inc()
        try:
            await Refresh(means, self.rules.pace, claimed, self._writing).run()
        except asyncio.CancelledError:
            with suppress(LedgerUnavailable):
                await abandon(means.engine, claimed, seconds=_CLOSING_SECONDS)
            raise
        finally:
            means.metrics.running.dec()


@asynccontextmanager
async def open_refresher(
    login: Login,
    secrets: Secrets,
    metrics: SourceMetrics,
    clock: Callable[[], datetime],
    rules: RefreshRules,
) -> AsyncIterator[Refresher]:
    """A refresher that writes the ledger by this login; closed with what is under way."""
    async with (
        open_engine(replace(login, connections=_CONNECTIONS)) as engine,
        open_outbound(allow_private=rules.allow_private) as outbound,
    ):
        means = RefreshMeans(engine, outbound, secrets, metrics, clock)
        refresher = Refresher(means, rules)
        try:
            yield refresher
        finally:
            await refresher.close()
