"""Direct mode and queue mode beside one another, by 1, 2 and 4 processes, with a real standby."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import psutil

from benchmarks.load import Check, Load, Outcome, run_load
from benchmarks.servers import Pair, running_pair, running_redis
from benchmarks.service import (
    CommandFailed,
    Service,
    command,
    end,
    environment,
    new_home,
    run_benchmark,
    serving,
)
from benchmarks.tables import Mark, Results, WrongAnswer, print_title, read_options
from benchmarks.traffic import (
    Traffic,
    accepted_batch,
    accepted_one,
    days_around_now,
    queued_batch,
    queued_one,
)
from telemetry.logs import configure_logs

SITE = "bench"
_BATCH = 1_000
_SINGLE_CONNECTIONS = 32
_BATCH_CONNECTIONS = 4
_START_SECONDS = 120
# Draining has come to a halt where nothing has been added for so long.
_STALLED_SECONDS = 60
_WARM_UP = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: requests are for all processes together."""

    processes: tuple[int, ...]
    runs: int
    seconds: float
    single_requests: int
    batches: int


FULL = Plan(processes=(1, 2, 4), runs=3, seconds=5, single_requests=60_000, batches=200)
QUICK = Plan(processes=(1, 2, 4), runs=1, seconds=1, single_requests=2_000, batches=12)


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of taking events, and what an answer must say in it."""

    name: str
    one: Check
    batch: Check
    workers: int


MODES = (
    Mode("direct", accepted_one, partial(accepted_batch, size=_BATCH), workers=0),
    Mode("queue", queued_one, partial(queued_batch, size=_BATCH), workers=1),
)


@dataclass(slots=True)
class Bench:
    """Processes of one mode on one ledger, and the figures about them."""

    plan: Plan
    results: Results
    name: str
    mode: Mode
    pair: Pair
    services: list[Service]
    workers: list[psutil.Process]
    traffic: Traffic = field(default_factory=Traffic)
    acknowledged: int = 0

    def add(self, name: str, unit: str, runs: Sequence[float], mark: Mark | None = None) -> None:
        """Keep a figure of this mode and number of processes."""
        self.results.add(f"{self.name}.{name}", unit, runs, mark)

    async def send(self, requests: list[bytes], connections: int, check: Check) -> Outcome:
        """Send a load to all processes at once, to each its share; what came of it together."""
        number = len(self.services)
        loads = [
            Load(
                service.address,
                requests[place::number],
                max(1, connections // number),
                check,
                self.plan.seconds,
            )
            for place, service in enumerate(self.services)
        ]
        outcomes = await asyncio.gather(*map(run_load, loads))
        together = Outcome(max(one.seconds for one in outcomes))
        for one in outcomes:
            together.acknowledged += one.acknowledged
            together.latencies.extend(one.latencies)
        self.acknowledged += together.acknowledged
        return together

    async def drained(self) -> float:
        """Seconds until the ledger holds what was acknowledged; raises `WrongAnswer`."""
        started = moved_at = perf_counter()
        before = -1
        while (found := await self.pair.events()) != self.acknowledged:
            now = perf_counter()
            if found != before:
                before, moved_at = found, now
            if found > self.acknowledged or now - moved_at > _STALLED_SECONDS:
                raise WrongAnswer(
                    f"the ledger has {found:,} events, acknowledged were {self.acknowledged:,}"
                )
            await asyncio.sleep(0.02)
        return perf_counter() - started

    async def require_everything(self) -> None:
        """Return when every process reports what was acknowledged; raises `WrongAnswer`."""
        for service in self.services:
            service.acknowledged[SITE] = self.acknowledged
            await service.require_everything(days_around_now())


async def measure(results: Results, plan: Plan) -> None:
    """Both modes in turns, so that both meet the same machine, each on a ledger of its own."""
    for processes in plan.processes:
        for mode in MODES:
            before = len(results.figures)
            with new_home() as folder:
                async with running(results, plan, mode, processes, folder) as bench:
                    await _measure(bench)
            title = f"{mode.name} mode, {processes} API process(es)"
            results.show(title, results.figures[before:])
    _compare(results, plan)


@asynccontextmanager
async def running(
    results: Results, plan: Plan, mode: Mode, processes: int, folder: Path
) -> AsyncIterator[Bench]:
    """All processes of one configuration, with a site that all of them know."""
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(running_pair(folder))
        redis_url = await stack.enter_async_context(running_redis(folder / "redis"))
        home = folder / "home"
        home.mkdir()
        settings = {
            "DATABASE_URL": pair.primary_url,
            "REPLICA_DATABASE_URL": pair.standby_url,
            "REDIS_URL": redis_url,
            "INGEST_MODE": mode.name,
        }
        first = await stack.enter_async_context(serving(home, **settings))
        # Before the others start, so that they know it from the beginning.
        await first.make_site(SITE)
        others = [
            await stack.enter_async_context(serving(home, **settings)) for _ in range(processes - 1)
        ]
        workers = [
            await stack.enter_async_context(_working(home, settings)) for _ in range(mode.workers)
        ]
        name = f"{mode.name}.processes_{processes}"
        yield Bench(plan, results, name, mode, pair, [first, *others], workers)


@asynccontextmanager
async def _working(home: Path, settings: dict[str, str]) -> AsyncIterator[psutil.Process]:
    """A worker that drains the queue; what it logs is in `home`."""
    with (home / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command("worker"),
            cwd=home,
            env=environment(home, **settings),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await process.stdout.readline()
        if b"drains the queue" not in line:
            log_text = (home / "worker.log").read_text(encoding="utf-8", errors="replace")
            raise CommandFailed(f"footfall worker did not start: {log_text[-2_000:]}")
        yield psutil.Process(process.pid)
    finally:
        await end(process)


async def _measure(bench: Bench) -> None:
    plan, mode = bench.plan, bench.mode
    await bench.send(bench.traffic.single_requests(SITE, _WARM_UP), _SINGLE_CONNECTIONS, mode.one)
    await bench.drained()
    singles, drains = [], []
    for _ in range(plan.runs):
        requests = bench.traffic.single_requests(SITE, plan.single_requests)
        singles.append(await bench.send(requests, _SINGLE_CONNECTIONS, mode.one))
        drains.append(1_000 * await bench.drained())
    at_least = Mark("at least", 3_000) if bench.name == "direct.processes_1" else None
    _add(bench, "collect", singles, at_least)
    batches, batch_drains = await _batches(bench)
    at_least = Mark("at least", 20_000) if bench.name.endswith("processes_1") else None
    _add(bench, "graphql_batches", batches, at_least)
    if mode.workers:
        bench.add("collect.drained_after", "ms", drains)
        bench.add("graphql_batches.drained_after", "ms", batch_drains)
        whole = sum(run.acknowledged for run in batches)
        seconds = sum(run.seconds for run in batches) + sum(batch_drains) / 1_000
        bench.add("graphql_batches.rate_into_ledger", "events/s", [whole / seconds])
    await bench.require_everything()
    _add_memory(bench)


async def _batches(bench: Bench) -> tuple[list[Outcome], list[float]]:
    """Loads of batches, and the milliseconds after each until the ledger held all of it."""
    key = bench.services[0].admin_key
    outcomes, drains = [], []
    for _ in range(bench.plan.runs):
        requests = bench.traffic.batch_requests(SITE, key, bench.plan.batches, _BATCH)
        outcomes.append(await bench.send(requests, _BATCH_CONNECTIONS, bench.mode.batch))
        drains.append(1_000 * await bench.drained())
    return outcomes, drains


def _add(bench: Bench, name: str, runs: Sequence[Outcome], mark: Mark | None) -> None:
    bench.add(f"{name}.rate", "events/s", [run.events_per_second for run in runs], mark)
    bench.add(f"{name}.p50", "ms", [run.milliseconds(0.5) for run in runs])
    bench.add(f"{name}.p99", "ms", [run.milliseconds(0.99) for run in runs])


def _add_memory(bench: Bench) -> None:
    each = [service.resident_bytes() / 2**20 for service in bench.services]
    bench.add("memory.each_api", "MiB", each, Mark("at most", 512))
    bench.add("memory.all_api", "MiB", [sum(each)])
    if bench.workers:
        workers = [worker.memory_info().rss / 2**20 for worker in bench.workers]
        bench.add("memory.worker", "MiB", workers, Mark("at most", 512))


def _compare(results: Results, plan: Plan) -> None:
    """What queueing gives and takes, mode beside mode."""
    found = {figure.name: figure.median for figure in results.figures}
    before = len(results.figures)
    for processes in plan.processes:
        for what in ("collect", "graphql_batches"):
            queue, direct = (
                found[f"{mode}.processes_{processes}.{what}.rate"] for mode in ("queue", "direct")
            )
            name = f"queue_by_direct.processes_{processes}.{what}"
            results.add(name, "ratio of rates", [queue / direct])
    results.show("Queue mode by direct mode", results.figures[before:])


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {
        "runs": plan.runs,
        "seconds": plan.seconds,
        "batch": _BATCH,
        "single_connections": _SINGLE_CONNECTIONS,
        "batch_connections": _BATCH_CONNECTIONS,
        "workers": 1,
    }
    results = Results("production", options, settings)
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
