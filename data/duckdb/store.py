"""The columnar copy in DuckDB as an event store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import duckdb
from duckdb import DuckDBPyConnection as Cursor

from data.day_versions import DayVersions
from data.duckdb.active_users import active_users
from data.duckdb.copy_file import CopyFile, read_watermark
from data.duckdb.day_versions import News, touched_since
from data.duckdb.event_counts import event_counts
from data.duckdb.exports import export_rows, export_stacks, export_tally, export_waiting
from data.duckdb.live import activity, activity_changes, new_events
from data.duckdb.retention import retention
from data.duckdb.runner import OnQuery, Runner
from data.duckdb.single_events import events
from data.duckdb.slices import apply_slice
from data.duckdb.tallies import days_before, tally_days, tally_stretch
from data.duckdb.top_events import top_events
from data.event_store import InvalidPattern
from data.exports.layout import Arrivals, Selection
from data.exports.source import FileOrder, Stack, Waiting
from data.exports.tally import Tally
from data.queries import (
    ActiveUsersQuery,
    ActiveUsersRows,
    Activity,
    ActivityChanges,
    Answer,
    EventCountsQuery,
    EventCountsRows,
    EventRows,
    EventsQuery,
    KnownActivity,
    NewEvents,
    NewEventsQuery,
    RetentionQuery,
    RetentionRows,
    TopEventsQuery,
    TopEventsRows,
    Watermark,
)
from data.tallies import SiteDays, Stretch, Tallies

Query = TypeVar("Query")
Rows = TypeVar("Rows")

# Regular expressions that are known to be good, so that asking again costs no statement.
_MOST_PATTERNS = 1_000


class DuckDBStore:
    """An `EventStore` over one file of DuckDB; `open_copy` makes it."""

    def __init__(self, path: Path, runner: Runner) -> None:
        self._path = path
        self._runner = runner
        self.day_versions = DayVersions()
        self._patterns: set[str] = set()

    async def active_users(self, queries: Sequence[ActiveUsersQuery]) -> Answer[ActiveUsersRows]:
        return await self._answer("active_users", active_users, queries)

    async def top_events(self, queries: Sequence[TopEventsQuery]) -> Answer[TopEventsRows]:
        return await self._answer("top_events", top_events, queries)

    async def event_counts(self, queries: Sequence[EventCountsQuery]) -> Answer[EventCountsRows]:
        return await self._answer("event_counts", event_counts, queries)

    async def retention(self, queries: Sequence[RetentionQuery]) -> Answer[RetentionRows]:
        return await self._answer("retention", retention, queries)

    async def events(self, queries: Sequence[EventsQuery]) -> Answer[EventRows]:
        return await self._answer("events", _each_page, queries)

    async def new_events(self, queries: Sequence[NewEventsQuery], most: int) -> NewEvents:
        work = partial(new_events, queries=queries, most=most)
        return await self._runner.run("new_events", "read", work)

    async def activity(self, at: datetime, site_ids: Sequence[str]) -> Answer[Activity]:
        def report(cursor: Cursor, site_ids: Sequence[str]) -> Sequence[Activity]:
            return activity(cursor, at, site_ids)

        return await self._answer("activity", report, site_ids)

    async def activity_changes(
        self, at: datetime, known: Sequence[KnownActivity]
    ) -> Answer[ActivityChanges]:
        def report(cursor: Cursor, known: Sequence[KnownActivity]) -> Sequence[ActivityChanges]:
            return activity_changes(cursor, at, known)

        return await self._answer("activity_changes", report, known)

    async def check_pattern(self, pattern: str) -> None:
        if pattern in self._patterns:
            return
        await self._runner.run("check_pattern", "read", partial(_check_pattern, pattern=pattern))
        if len(self._patterns) < _MOST_PATTERNS:
            self._patterns.add(pattern)

    async def watermark(self) -> Watermark | None:
        return await self._runner.run("watermark", "read", read_watermark)

    async def learn_versions(self, watermark: Watermark | None) -> None:
        """See to it that `day_versions` are those at a watermark of this copy, or newer.

        They are behind at the start, and after a commit of which nobody could hear any more.
        """
        since = self.day_versions.position
        if since < (watermark.position if watermark else 0):
            work = partial(touched_since, position=since)
            self._learn(await self._runner.run("day_versions", "read", work))

    async def apply(self, rows: Path, expected: int, watermark: Watermark) -> None:
        since = self.day_versions.position

        def work(cursor: Cursor) -> News:
            apply_slice(cursor, rows, expected, watermark)
            return touched_since(cursor, since)

        self._learn(await self._runner.run("apply", "write", work))

    def _learn(self, news: News) -> None:
        # Two may have looked at the same time: what is known already comes once more, or older.
        position = news.watermark.position if news.watermark else 0
        if position > self.day_versions.position:
            self.day_versions.advance(news.touched, news.watermark)

    async def tally_days(self, asked: Sequence[SiteDays], position: int) -> Tallies:
        """Events and users of local days, of what the feed holds up to a position."""
        work = partial(tally_days, asked=asked, position=position)
        return await self._runner.run("tally_days", "read", work)

    async def tally_stretch(self, stretch: Stretch) -> Tallies:
        """Events and users of UTC days, of a stretch of the feed alone."""
        work = partial(tally_stretch, stretch=stretch)
        return await self._runner.run("tally_stretch", "read", work)

    async def days_before(self, day: date, most: int) -> list[date]:
        """The last UTC days before a day on which anything happened, newest first."""
        work = partial(days_before, day=day, most=most)
        return await self._runner.run("days_before", "read", work)

    async def export_stacks(
        self, selection: Selection, arrivals: Arrivals, most: int
    ) -> Sequence[Stack]:
        """See `ExportSource`."""
        work = partial(export_stacks, selection=selection, arrivals=arrivals, most=most)
        return await self._runner.run("export_stacks", "read", work)

    async def export_tally(self, selection: Selection, arrivals: Arrivals) -> Tally:
        """See `ExportSource`."""
        work = partial(export_tally, selection=selection, arrivals=arrivals)
        return await self._runner.run("export_tally", "read", work)

    async def export_rows(self, order: FileOrder) -> int:
        """See `ExportSource`."""
        return await self._runner.run("export_rows", "read", partial(export_rows, order=order))

    async def export_waiting(
        self, after: int, through: int, site_id: str | None = None
    ) -> dict[str, Waiting]:
        """Events by site (None: all that have any) in positions (after, through] of the feed."""
        work = partial(export_waiting, after=after, through=through, site_id=site_id)
        return await self._runner.run("export_waiting", "read", work)

    async def size(self) -> int:
        """Bytes that the copy takes on disk, with its write-ahead log."""
        return await asyncio.to_thread(_size, self._path)

    async def _answer(
        self,
        name: str,
        report: Callable[[Cursor, Sequence[Query]], Sequence[Rows]],
        queries: Sequence[Query],
    ) -> Answer[Rows]:
        """Rows and watermark from one transaction, so that each fits the other."""

        def work(cursor: Cursor) -> Answer[Rows]:
            watermark = read_watermark(cursor)
            return Answer(report(cursor, queries), watermark)

        return await self._runner.run(name, "read", work)


@asynccontextmanager
async def open_copy(
    path: Path,
    *,
    ledger_id: str,
    memory_limit: str = "1GB",
    threads: int = 2,
    on_query: OnQuery | None = None,
) -> AsyncIterator[DuckDBStore]:
    """The copy at `path`, made anew and empty where there is none; closed when the block is left.

    `on_query` hears of every call, in a worker thread: its name, seconds, and outcome.
    Raises `CopyUnusable`, `CopyInUse`, or `StoreUnavailable` where the file system refuses.
    """
    file = CopyFile(path, ledger_id, memory_limit, threads)
    # Opening may take a while: it reads the write-ahead log of a process that was killed.
    connection = await asyncio.to_thread(file.connect)
    runner = Runner(file, connection, on_query)
    try:
        yield DuckDBStore(path, runner)
    finally:
        await runner.close()


def _each_page(cursor: Cursor, queries: Sequence[EventsQuery]) -> list[EventRows]:
    return [events(cursor, query) for query in queries]


def _check_pattern(cursor: Cursor, pattern: str) -> None:
    try:
        cursor.execute("select regexp_matches('', $pattern::varchar)", {"pattern": pattern})
    except duckdb.InvalidInputException as error:
        raise InvalidPattern(str(error).removeprefix("Invalid Input Error: ")) from error


def _size(path: Path) -> int:
    total = 0
    for one in (path, path.with_name(f"{path.name}.wal")):
        try:
            total += one.stat().st_size
        except FileNotFoundError:
            continue
    return total
