"""Getting a dataset into the ledger, and all of the ledger out again for another engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.dataset import MAIN, SITES, Dataset
from benchmarks.service import Finished, Service, footfall
from benchmarks.tables import WrongAnswer
from data.events import Event
from data.postgres.append import append, make_partitions_ahead
from data.postgres.engine import driver_connection
from data.postgres.ledger import LedgerAddress, open_ledger

_BATCH = 10_000
_CONNECTIONS = 2
_EXPORT_SECONDS = 900

# As the ledger keeps them, so that another engine gets what ours has followed.
_EVERYTHING = """
select
    e.site_id,
    e.event_id,
    e.event_type,
    (extract(epoch from e.occurred_at) * 1000000)::bigint,
    coalesce(e.user_id, e.visitor_id, ''),
    e.path,
    e.properties::text,
    b.position * 65536 + e.ordinal
from ingest_batches as b
join events as e on e.batch_id = b.batch_id
"""


async def import_dataset(service: Service, dataset: Dataset, folder: Path) -> Finished:
    """Import each site's file while the service runs; what the main site's import took."""
    finished: dict[str, Finished] = {}
    for site in SITES:
        file = folder / f"{site}.csv"
        dataset.write_csv(site, file)
        done = finished[site] = await footfall(
            service.home, "import", str(file), "--site", site, "--json"
        )
        summary = json.loads(done.out)
        expected = dataset.count(site)
        if (summary["accepted"], summary["rows"]) != (expected, expected):
            raise WrongAnswer(f"{expected:,} new rows of site {site} were imported as {summary}")
        service.acknowledged[site] = expected
        file.unlink()
    return finished[MAIN]


async def append_dataset(home: Path, dataset: Dataset) -> float:
    """Seconds to append all events by the service's own statements, without HTTP or a pipeline.

    The service must be stopped: on two cores, its follower would only slow the loading down.
    """
    arrived = datetime.now(UTC)
    batches = event_batches(dataset, arrived)

    async def work() -> None:
        for events in batches:
            appended = await append(ledger.writer, events, [])
            if not all(appended.fresh):
                raise WrongAnswer("the ledger knew ids that are new")

    async with open_ledger(LedgerAddress(home)) as ledger:
        await make_partitions_ahead(ledger.writer, arrived)
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(work())
        return perf_counter() - started


def event_batches(dataset: Dataset, arrived: datetime) -> Iterator[list[Event]]:
    """The events of a dataset in order of time, 10,000 at once."""
    for rows in dataset.batches(_BATCH):
        yield [_event(row, arrived) for row in rows]


def _event(row: tuple[Any, ...], arrived: datetime) -> Event:
    site, event_id, occurred_at, user, visitor, session, event_type, url, path, properties = row
    return Event(
        event_id=event_id,
        site_id=site,
        event_type=event_type,
        occurred_at=occurred_at.replace(tzinfo=UTC),
        received_at=arrived,
        user_id=user,
        visitor_id=visitor,
        session_id=session,
        url=url,
        path=path,
        properties=properties,
    )


async def export_ledger(home: Path, file: Path) -> None:
    """Write every event of the ledger to a CSV file, with the columns that questions need."""
    async with (
        open_ledger(LedgerAddress(home)) as ledger,
        driver_connection(ledger.writer) as connection,
    ):
        await connection.copy_from_query(
            _EVERYTHING, output=str(file), format="csv", timeout=_EXPORT_SECONDS
        )
