"""PostgreSQL's own ceiling: events into the ledger without HTTP, and rows into a bare heap.

The service's statements first, as it runs them (`data.postgres.append`), then what the server takes
where nothing but the rows is asked of it: no index, no ids claimed, no partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg

from benchmarks.tables import Results, WrongAnswer
from benchmarks.traffic import Traffic
from data.events import Event
from data.postgres.append import append, make_partitions_ahead
from data.postgres.embedded import EmbeddedPostgres, embedded_server
from data.postgres.engine import Engine
from data.postgres.ledger import LedgerAddress, open_ledger

_EVENT_COLUMNS = (
    "batch_id",
    "ordinal",
    "site_id",
    "event_id",
    "event_type",
    "occurred_at",
    "received_at",
    "user_id",
    "visitor_id",
    "session_id",
    "url",
    "path",
    "referrer",
    "properties",
)
_MAKE_HEAP = "create table bench_heap (like events)"
# As the ledger does it: with the arrays in a FROM it takes twice as long.
_UNNEST = """
insert into bench_heap
select
    unnest($1::bigint[]), unnest($2::smallint[]), unnest($3::text[]), unnest($4::uuid[]),
    unnest($5::text[]), unnest($6::timestamptz[]), unnest($7::timestamptz[]), unnest($8::text[]),
    unnest($9::text[]), unnest($10::text[]), unnest($11::text[]), unnest($12::text[]),
    unnest($13::text[]), unnest($14::text[])::json
"""
_SIZES = (1_000, 5_000)

# Takes one batch, in the form that it was made ready in before the clock started.
Write = Callable[[Sequence[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is written: events for each run, and how many runs."""

    events: int
    runs: int


async def measure_ceiling(results: Results, home: Path, extent: Extent, site: str) -> None:
    """Events per second of each way of writing, into the ledger of a service that is stopped."""
    async with embedded_server(home) as server:
        async with open_ledger(LedgerAddress(home)) as ledger:
            await make_partitions_ahead(ledger.writer, datetime.now(UTC))
            await _measure_append(results, ledger.writer, extent, site)
        await _measure_heap(results, server, extent, site)


async def _measure_append(results: Results, writer: Engine, extent: Extent, site: str) -> None:
    for size in _SIZES:
        for connections in (1, 2):
            writers = [partial(_append, writer)] * connections
            rates = [
                await _rate(writers, _batches(extent, size, site), extent.events)
                for _ in range(extent.runs)
            ]
            results.add(f"postgres.append.{size}.connections_{connections}", "events/s", rates)


async def _append(writer: Engine, events: Sequence[Event]) -> None:
    appended = await append(writer, events, [])
    if not all(appended.fresh):
        raise WrongAnswer("the ledger knew ids that are new")


async def _measure_heap(
    results: Results, server: EmbeddedPostgres, extent: Extent, site: str
) -> None:
    connection = await asyncpg.connect(
        host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
    )
    try:
        for name, write, prepare in (
            ("insert_unnest", _unnest, _columns),
            ("copy", _copy, _rows),
        ):
            rates = []
            for _ in range(extent.runs):
                batches = [prepare(batch) for batch in _batches(extent, 5_000, site)]
                await connection.execute(_MAKE_HEAP)
                rates.append(await _rate([partial(write, connection)], batches, extent.events))
                await _require_rows(connection, extent.events)
                await connection.execute("drop table bench_heap")
            results.add(f"postgres.bare_heap.{name}.5000", "events/s", rates)
    finally:
        await connection.close()


async def _require_rows(connection: asyncpg.Connection, expected: int) -> None:
    found = await connection.fetchval("select count(*) from bench_heap")
    if found != expected:
        raise WrongAnswer(f"the heap has {found:,} rows, {expected:,} were written")


async def _unnest(connection: asyncpg.Connection, columns: Sequence[list[object]]) -> None:
    await connection.execute(_UNNEST, *columns)


async def _copy(connection: asyncpg.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    await connection.copy_records_to_table("bench_heap", records=rows, columns=_EVENT_COLUMNS)


def _rows(events: Sequence[Event]) -> list[tuple[object, ...]]:
    return [
        (1, ordinal, *(getattr(event, name) for name in _EVENT_COLUMNS[2:]))
        for ordinal, event in enumerate(events)
    ]


def _columns(events: Sequence[Event]) -> list[list[object]]:
    return [list(column) for column in zip(*_rows(events), strict=True)]


def _batches(extent: Extent, size: int, site: str) -> list[list[Event]]:
    made = list(Traffic().ledger_events(site, extent.events))
    return [made[start : start + size] for start in range(0, len(made), size)]


async def _rate(writers: Sequence[Write], batches: Sequence[Sequence[Any]], events: int) -> float:
    """Events per second where each writer takes the next batch as soon as it is done with one."""
    waiting = iter(batches)

    async def work(write: Write) -> None:
        for batch in waiting:
            await write(batch)

    started = perf_counter()
    async with asyncio.TaskGroup() as group:
        for write in writers:
            group.create_task(work(write))
    return events / (perf_counter() - started)
