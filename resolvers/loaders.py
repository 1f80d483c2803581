"""Dataloaders of one request: what it asks of several sites or ranges becomes one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial
from typing import Any, TypeVar

import structlog
from aiodataloader import DataLoader

from data.columnar import ColumnarCopy
from data.event_store import EventStore, StoreUnavailable
from data.postgres.daily_users import DaysAsked, ViewAnswer, daily_users
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.reads import Question, Reads
from data.postgres.source_reading import histories, last_audits
from data.postgres.sources import StoredSource, sources_by_keys
from data.queries import (
    Answer,
    EventRows,
    EventsQuery,
    Watermark,
)
from data.results import Batch
from data.sources.records import RecordChange, StoredAudit
from resolvers.errors import Unavailable
from resolvers.export_loaders import ExportLoaders
from telemetry.tracing import Tracing

log = structlog.get_logger()

Query = TypeVar("Query")
Rows = TypeVar("Rows")
Read = TypeVar("Read")

# Of each server, and in all: there is the columnar copy to answer, well within a query's time.
_VIEW_SECONDS = 4.0
_VIEW_SECONDS_IN_ALL = 10.0

Loaded = tuple[Rows, Watermark | None]
Ask = Callable[[EventStore, Sequence[Query]], Awaitable[Answer[Rows]]]


class Loaders:
    """One dataloader for each kind of question, made when it is first asked."""

    def __init__(
        self,
        copy: ColumnarCopy,
        tracing: Tracing,
        reads: Reads | None = None,
        now: datetime | None = None,
    ) -> None:
        self._copy = copy
        self._tracing = tracing
        self._reads = reads
        self._now = now
        self._running: set[asyncio.Task[object]] = set()
        self._reports: dict[str, DataLoader[Any, Any]] = {}

    @cached_property
    def batches(self) -> dict[str, Batch]:
        """What is being asked through the cache of results, by the kind of question."""
        return {}

    def cancel(self) -> None:
        """Give up what is still being asked: the stores interrupt their statements.

        A loader asks in a task of its own, which does not end with those who wait for it.
        """
        for task in self._running:
            task.cancel()

    def reports(self, name: str, ask: Ask[Query, Rows]) -> DataLoader[Query, Loaded[Rows]]:
        """Reports of one kind, of several sites, ranges and zones."""
        if name not in self._reports:
            self._reports[name] = self._loader(name, ask)
        return self._reports[name]

    @cached_property
    def daily_users(self) -> DataLoader[DaysAsked, ViewAnswer | None]:
        """Daily users by the view in the replica; None where it cannot say."""

        async def load(asked: list[DaysAsked]) -> list[ViewAnswer | None]:
            nothing: list[ViewAnswer | None] = [None] * len(asked)
            reads = self._reads
            if reads is None:
                return nothing
            try:
                with self._asking("daily_users", len(asked)):
                    async with asyncio.timeout(_VIEW_SECONDS_IN_ALL):
                        return await reads.run(
                            partial(daily_users, asked=asked), seconds=_VIEW_SECONDS
                        )
            except (LedgerUnavailable, LedgerRefused, TimeoutError) as error:
                log.warning("view.unavailable", error=str(error) or "it took too long")
                return nothing

        return DataLoader(load)

    @cached_property
    def events(self) -> DataLoader[EventsQuery, Loaded[EventRows]]:
        """Pages of single events."""
        return self._loader("events", lambda store, asked: store.events(asked))

    @cached_property
    def sources(self) -> DataLoader[str, StoredSource | None]:
        """Sources by key, as they are at the time of the request."""

        async def load(keys: list[str]) -> list[StoredSource | None]:
            now = self._now
            assert now is not None
            found = await self._read("sources", keys, lambda at: sources_by_keys(at, keys, now))
            return [found.get(key) for key in keys]

        return DataLoader(load)

    @cached_property
    def last_audits(self) -> DataLoader[str, StoredAudit | None]:
        """The newest audit of each source, by key."""

        async def load(keys: list[str]) -> list[StoredAudit | None]:
            found = await self._read("last_audits", keys, lambda at: last_audits(at, keys))
            return [found.get(key) for key in keys]

        return DataLoader(load)

    @cached_property
    def histories(self) -> DataLoader[tuple[int, int], list[RecordChange]]:
        """The newest changes of records, by a record's id and how many of them."""

        async def load(asked: list[tuple[int, int]]) -> list[list[RecordChange]]:
            most = max(first for _, first in asked)
            ids = [record_id for record_id, _ in asked]
            found = await self._read("histories", ids, lambda at: histories(at, ids, most))
            return [found[record_id][:first] for record_id, first in asked]

        return DataLoader(load)

    @cached_property
    def exports(self) -> ExportLoaders:
        """Destinations of exports, and their runs."""
        return ExportLoaders(self._read)

    async def _read(self, name: str, asked: Sequence[object], question: Question[Read]) -> Read:
        """What the ledger answers; raises `Unavailable`."""
        assert self._reads is not None
        try:
            with self._asking(name, len(asked)):
                return await self._reads.run(question)
        except (LedgerUnavailable, LedgerRefused) as error:
            raise Unavailable("ledger", "this cannot be read now; try again shortly") from error

    def _loader(self, name: str, ask: Ask[Query, Rows]) -> DataLoader[Query, Loaded[Rows]]:
        async def load(queries: list[Query]) -> list[Loaded[Rows]]:
            try:
                with self._asking(name, len(queries)):
                    # Looked up per question: a rebuild may put another store in its place.
                    answer = await ask(self._copy.store, queries)
            except StoreUnavailable as error:
                raise Unavailable("columnar", "reports cannot be answered now") from error
            return [(rows, answer.watermark) for rows in answer.rows]

        return DataLoader(load)

    @contextmanager
    def _asking(self, name: str, queries: int) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            with self._tracing.span(f"store.{name}", queries=queries):
                yield
        finally:
            self._running.discard(task)
