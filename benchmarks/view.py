"""What the view of daily users costs to keep, beside one that counts all events each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import asyncpg

from benchmarks.dataset import DAYS, FIRST_DAY, LAST_DAY, MAIN, SITES, TIMEZONE, Dataset, Size
from benchmarks.loading import event_batches
from benchmarks.service import new_home, run_benchmark
from benchmarks.tables import Mark, Results, WrongAnswer, percentile, print_title, read_options
from data.calendar import DateRange, Weekday
from data.comparison import Comparison
from data.duckdb.store import open_copy
from data.events import Event
from data.follower import fetch_slice
from data.postgres.actor_days import Effort, advance
from data.postgres.append import append, make_partitions_ahead
from data.postgres.daily_users import DaysAsked, daily_users
from data.postgres.embedded import EmbeddedPostgres, embedded_server
from data.postgres.engine import Engine, transaction
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.postgres.sites import Site, create_site
from telemetry.logs import configure_logs

# The obvious way, with the zone of all sites of the dataset.
_PLAIN = f"""
create materialized view counted_events as
select
    site_id,
    (occurred_at at time zone '{TIMEZONE}')::date as day,
    count(distinct coalesce(user_id, visitor_id)) as users
from events
where coalesce(user_id, visitor_id) is not null
group by 1, 2;
create unique index on counted_events (site_id, day);
"""
_DIFFERENCES = """
select count(*)
from counted_events as plain
full join daily_active_users as ours using (site_id, day)
where plain.users is distinct from ours.users
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: sizes of the ledger, and refreshes after 10,000 more events each."""

    sizes: tuple[int, ...]
    runs: int


FULL = Plan(sizes=(1_000_000,), runs=5)
QUICK = Plan(sizes=(50_000,), runs=2)


@dataclass(slots=True)
class Bench:
    """A ledger with both views, and the figures of one size."""

    results: Results
    ledger: Ledger
    admin: asyncpg.Connection
    name: str

    def add(self, name: str, unit: str, runs: Sequence[float], mark: Mark | None = None) -> None:
        """Keep a figure of this size."""
        self.results.add(f"{self.name}.{name}", unit, runs, mark)


async def measure(results: Results, plan: Plan) -> None:
    """Each size in a ledger of its own."""
    for events in plan.sizes:
        with new_home() as folder:
            home = folder / "home"
            home.mkdir()
            async with (
                embedded_server(home) as server,
                open_ledger(LedgerAddress(home)) as ledger,
            ):
                admin = await _connect(server)
                bench = Bench(results, ledger, admin, Size(events).name)
                before = len(results.figures)
                await _measure_size(bench, Size(events), folder, plan.runs)
                results.show(f"{events:,} events", results.figures[before:])
                await admin.close()


async def _connect(server: EmbeddedPostgres) -> asyncpg.Connection:
    connection = await asyncpg.connect(
        host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
    )
    await connection.execute("set work_mem = '64MB'")
    return connection


async def _measure_size(bench: Bench, size: Size, folder: Path, runs: int) -> None:
    writer = bench.ledger.writer
    with Dataset(folder, size) as dataset:
        batches = list(event_batches(dataset, datetime.now(UTC)))
    await _make_sites(writer)
    for batch in batches[:-runs]:
        await append(writer, batch, [])
    await bench.admin.execute("vacuum analyze")
    started = perf_counter()
    added = await _bring_forward(writer)
    seconds = perf_counter() - started
    bench.add("fill.rate", "events/s", [sum(map(len, batches[:-runs])) / seconds])
    bench.add("fill.actor_days", "rows", [added])
    await bench.admin.execute(_PLAIN)
    await _measure_refreshes(bench, batches[-runs:])
    await _measure_appends(bench)
    await _measure_sizes(bench)
    await _measure_reading(bench)
    await _measure_reconciling(bench, folder)


async def _measure_refreshes(bench: Bench, batches: Sequence[Sequence[Event]]) -> None:
    """Both views after the same events, one after the other."""
    ours, refreshes, plain = [], [], []
    for batch in batches:
        await append(bench.ledger.writer, batch, [])
        started = perf_counter()
        done = await advance(bench.ledger.writer, Effort(rest=0))
        ours.append(1_000 * (perf_counter() - started))
        if done is None or done.refresh_seconds is None or not done.is_complete:
            raise WrongAnswer("the view was not refreshed")
        refreshes.append(1_000 * done.refresh_seconds)
        plain.append(await _milliseconds(lambda: _refresh_plain(bench.admin)))
        if different := await bench.admin.fetchval(_DIFFERENCES):
            raise WrongAnswer(f"the two views differ on {different} days")
    bench.add("after_10k_events.actor_days", "ms", ours)
    bench.add("after_10k_events.of_this_refresh", "ms", refreshes)
    bench.add("after_10k_events.counting_events", "ms", plain)
    ratios = [theirs / mine for mine, theirs in zip(ours, plain, strict=True)]
    bench.add("after_10k_events.ratio", "times", ratios, Mark("at least", 1))
    nothing = [
        await _milliseconds(lambda: advance(bench.ledger.writer, Effort(rest=0))) for _ in batches
    ]
    bench.add("nothing_new.actor_days", "ms", nothing)
    again = [await _milliseconds(lambda: _refresh_plain(bench.admin)) for _ in batches]
    bench.add("nothing_new.counting_events", "ms", again)


async def _measure_appends(bench: Bench) -> None:
    """Single appends, alone and with refreshes one after the other meanwhile."""

    async def ours() -> None:
        await advance(bench.ledger.writer, Effort(rest=0))

    async def plain() -> None:
        await _refresh_plain(bench.admin)

    async def nothing() -> None:
        await asyncio.sleep(0.01)

    for name, work in (("alone", nothing), ("with_actor_days", ours), ("with_counting", plain)):
        appends = await _appends_during(bench, work)
        bench.add(f"appends_{name}.p50", "ms", [1_000 * percentile(appends, 0.5)])
        bench.add(f"appends_{name}.p99", "ms", [1_000 * percentile(appends, 0.99)])
        bench.add(f"appends_{name}.max", "ms", [1_000 * max(appends)])


async def _appends_during(bench: Bench, work: Callable[[], Awaitable[None]]) -> list[float]:
    """Seconds of each of 300 single appends."""

    async def again_and_again() -> None:
        while True:
            await work()

    refreshing = asyncio.create_task(again_and_again())
    seconds = []
    try:
        for number in range(300):
            moment = datetime.now(UTC)
            event = Event(uuid4(), MAIN, "view", moment, moment, user_id=f"n{number}")
            started = perf_counter()
            await append(bench.ledger.writer, [event], [])
            seconds.append(perf_counter() - started)
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)
    return seconds


async def _measure_sizes(bench: Bench) -> None:
    for name in ("actor_days", "daily_active_users"):
        found = await bench.admin.fetchval(f"select pg_total_relation_size('{name}')")
        bench.add(f"size.{name}", "MiB", [found / 2**20])
    found = await bench.admin.fetchval(
        "select sum(pg_total_relation_size(relid)) from pg_partition_tree('events') where isleaf"
    )
    bench.add("size.events", "MiB", [float(found) / 2**20])


async def _measure_reading(bench: Bench) -> None:
    """Daily users and their total over 90 days of the main site, from the view."""
    asked = [DaysAsked(MAIN, DateRange(FIRST_DAY, LAST_DAY), TIMEZONE)]
    runs = [
        await _milliseconds(lambda: daily_users(bench.ledger.reads.primary, asked))
        for _ in range(6)
    ]
    bench.add(f"dau_{DAYS}_days", "ms", runs[1:])


async def _measure_reconciling(bench: Bench, folder: Path) -> None:
    """Runs that compare ledger, copy and view, none of which may find a difference."""
    async with open_copy(folder / "copy.duckdb", ledger_id=str(bench.ledger.ledger_id)) as copy:
        position = 0
        rows = folder / "slice.csv"
        while piece := await fetch_slice(bench.ledger.reads.primary, position, rows):
            await copy.apply(rows, piece.events, piece.last)
            position = piece.last.position
        await _bring_forward(bench.ledger.writer)
        comparison, runs = Comparison(bench.ledger.reads), []
        for _ in range(6):
            started = perf_counter()
            findings = await comparison.compare(copy, position, datetime.now(UTC).date())
            runs.append(1_000 * (perf_counter() - started))
            if findings.stretches or findings.view_days:
                raise WrongAnswer("ledger, copy and view do not agree")
    bench.add("reconcile.run", "ms", runs[1:])


async def _bring_forward(writer: Engine) -> int:
    added = 0
    while True:
        done = await advance(writer, Effort(rest=0))
        if done is None:
            raise WrongAnswer("another process brings the view forward")
        added += done.added
        if done.is_complete:
            return added


async def _make_sites(writer: Engine) -> None:
    now = datetime.now(UTC)
    await make_partitions_ahead(writer, now)
    async with transaction(writer) as connection:
        for site in SITES:
            await create_site(connection, Site(site, site, TIMEZONE, Weekday.MONDAY, (), now))


async def _refresh_plain(admin: asyncpg.Connection) -> None:
    await admin.execute("refresh materialized view concurrently counted_events")


async def _milliseconds(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return 1_000 * (perf_counter() - started)


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    results = Results("view", options, {"runs": plan.runs, "sizes": list(plan.sizes)})
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
