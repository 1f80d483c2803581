"""How fast events come in, how that compares with the ceilings, and how soon reports have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from benchmarks.bare import bare_service
from benchmarks.ceiling import Extent, measure_ceiling
from benchmarks.freshness import Probes, Trickle
from benchmarks.load import Address, Check, Load, Outcome, run_load
from benchmarks.service import Cpu, Service, new_home, run_benchmark, serving
from benchmarks.tables import Mark, Results, percentile, print_title, read_options
from benchmarks.traffic import Traffic, accepted_batch, accepted_one, days_around_now
from telemetry.logs import configure_logs

SITE = "bench"
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int
    seconds: float
    single_requests: int
    connections: tuple[int, ...]
    batches: int
    batch_connections: tuple[int, ...]
    probes: int
    probe_seconds: float
    full_load_batches: int
    ceiling: Extent


FULL = Plan(
    runs=3,
    seconds=5,
    single_requests=60_000,
    connections=(1, 32, 64, 128),
    batches=250,
    batch_connections=(4,),
    probes=300,
    probe_seconds=30,
    full_load_batches=600,
    ceiling=Extent(events=100_000, runs=3),
)
QUICK = Plan(
    runs=1,
    seconds=1,
    single_requests=5_000,
    connections=(1, 32),
    batches=15,
    batch_connections=(4,),
    probes=10,
    probe_seconds=3,
    full_load_batches=40,
    ceiling=Extent(events=10_000, runs=1),
)


@dataclass(slots=True)
class Bench:
    """What the steps share."""

    plan: Plan
    results: Results
    traffic: Traffic
    bare: Address
    service: Service

    async def send(self, requests: Iterable[bytes], connections: int, check: Check) -> Outcome:
        """Send a load to the service and count what it acknowledged."""
        load = Load(self.service.address, requests, connections, check, self.plan.seconds)
        outcome = await run_load(load)
        self.service.acknowledged[SITE] += outcome.acknowledged
        return outcome

    def show(self, title: str, since: int) -> None:
        """Print the figures that were added since there were `since`."""
        self.results.show(title, self.results.figures[since:])


async def measure(results: Results, plan: Plan) -> None:
    """All steps, each with a table as soon as it is done."""
    with new_home() as home:
        async with bare_service() as (bare, _), serving(home) as service:
            bench = Bench(plan, results, Traffic(), bare, service)
            await service.make_site(SITE)
            await _step(bench, "Single events: POST /collect", _single_events)
            await _step(bench, f"GraphQL batches of {_BATCH:,}", _batches)
            await _step(bench, "Freshness: from acknowledgement to visible", _freshness)
            results.add("service.memory", "MiB", [service.resident_bytes() / 2**20])
            results.add("service.events", "events", [service.acknowledged[SITE]])
        before = len(results.figures)
        await measure_ceiling(results, home, plan.ceiling, SITE)
        results.show("PostgreSQL's ceiling", results.figures[before:])


async def _step(bench: Bench, title: str, step: Callable[[Bench], object]) -> None:
    before = len(bench.results.figures)
    done = step(bench)
    assert asyncio.iscoroutine(done)
    await done
    # Whatever was acknowledged must be there, once, or the figures are worth nothing.
    await bench.service.require_everything(days_around_now())
    bench.show(title, before)


async def _single_events(bench: Bench) -> None:
    await bench.send(bench.traffic.single_requests(SITE, 500), 32, accepted_one)
    for connections in bench.plan.connections:
        await _single_events_over(bench, connections)


async def _single_events_over(bench: Bench, connections: int) -> None:
    """The service and the bare application in turns, so that both meet the same machine."""
    plan, add = bench.plan, bench.results.add
    bare, ours, cpu = [], [], Cpu(0, 0)
    for _ in range(plan.runs):
        requests = bench.traffic.single_requests(SITE, plan.single_requests)
        bare.append(await run_load(Load(bench.bare, requests, connections, _one, plan.seconds / 3)))
        before = bench.service.cpu()
        ours.append(await bench.send(requests, connections, accepted_one))
        cpu += bench.service.cpu() - before
    name = f"collect.connections_{connections}"
    mark = Mark("at least", 4_000) if connections == 32 else None
    add(f"{name}.rate", "events/s", [run.events_per_second for run in ours], mark)
    add(f"{name}.p50", "ms", [run.milliseconds(0.5) for run in ours])
    add(f"{name}.p99", "ms", [run.milliseconds(0.99) for run in ours])
    add(f"{name}.bare_asgi", "requests/s", [run.requests_per_second for run in bare])
    shares = [
        100 * one.requests_per_second / other.requests_per_second
        for one, other in zip(ours, bare, strict=True)
    ]
    add(f"{name}.share_of_bare_asgi", "%", shares)
    _add_cpu(bench.results, name, cpu, ours)


def _one(_: bytes) -> int:
    return 1


def _add_cpu(results: Results, name: str, cpu: Cpu, runs: Sequence[Outcome]) -> None:
    """Processor time hangs less on who else is at work than rates do."""
    events = sum(run.acknowledged for run in runs)
    results.add(f"{name}.cpu_service", "us/event", [1e6 * cpu.service / events])
    results.add(f"{name}.cpu_postgres", "us/event", [1e6 * cpu.postgres / events])


async def _batches(bench: Bench) -> None:
    check = partial(accepted_batch, size=_BATCH)
    key = bench.service.admin_key
    await bench.send(bench.traffic.batch_requests(SITE, key, 4, _BATCH), 2, check)
    for connections in bench.plan.batch_connections:
        runs, cpu = [], Cpu(0, 0)
        for _ in range(bench.plan.runs):
            requests = bench.traffic.batch_requests(SITE, key, bench.plan.batches, _BATCH)
            before = bench.service.cpu()
            runs.append(await bench.send(requests, connections, check))
            cpu += bench.service.cpu() - before
        name = f"graphql_batches.connections_{connections}"
        rates = [run.events_per_second for run in runs]
        bench.results.add(f"{name}.rate", "events/s", rates, Mark("at least", 20_000))
        bench.results.add(f"{name}.p50", "ms", [run.milliseconds(0.5) for run in runs])
        bench.results.add(f"{name}.p99", "ms", [run.milliseconds(0.99) for run in runs])
        _add_cpu(bench.results, name, cpu, runs)
    seconds = await bench.service.require_everything(days_around_now())
    bench.results.add("graphql_batches.followed_after", "ms", [seconds * 1_000])


async def _freshness(bench: Bench) -> None:
    plan = bench.plan
    rate = 500
    requests = bench.traffic.single_requests(SITE, int(rate * (plan.probe_seconds + 30)))
    async with Trickle(bench.service, requests, rate) as trickle:
        samples = await Probes(bench.service, SITE, bench.traffic).take(
            plan.probes, at_once=1, seconds=plan.probe_seconds
        )
    bench.service.acknowledged[SITE] += trickle.acknowledged
    reached = trickle.acknowledged / trickle.seconds
    bench.results.add("freshness.single_events.offered", "events/s", [reached])
    _add_freshness(bench.results, "freshness.single_events", samples)
    samples, rate_meanwhile = await _freshness_under_batches(bench)
    bench.results.add("freshness.full_load.offered", "events/s", [rate_meanwhile])
    _add_freshness(bench.results, "freshness.full_load", samples)


async def _freshness_under_batches(bench: Bench) -> tuple[list[float], float]:
    """Samples while batches come in as fast as they are taken, and how fast that was."""
    plan = bench.plan
    # All of them beforehand: this process also takes the time of the probes.
    requests = bench.traffic.batch_requests(
        SITE, bench.service.admin_key, plan.full_load_batches, _BATCH
    )
    probes = Probes(bench.service, SITE, bench.traffic)
    probing = asyncio.create_task(probes.take(plan.probes, at_once=4, seconds=plan.probe_seconds))
    try:
        check = partial(accepted_batch, size=_BATCH)
        outcome = await bench.send(takewhile(lambda _: not probing.done(), requests), 4, check)
        samples = await probing
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
    return samples, outcome.events_per_second


def _add_freshness(results: Results, name: str, samples: Sequence[float]) -> None:
    within = 100 * sum(sample <= 1 for sample in samples) / len(samples)
    results.add(f"{name}.samples", "events", [len(samples)])
    results.add(f"{name}.within_1s", "%", [within], Mark("at least", 99))
    results.add(f"{name}.p50", "ms", [1_000 * percentile(samples, 0.5)])
    results.add(f"{name}.p99", "ms", [1_000 * percentile(samples, 0.99)])
    results.add(f"{name}.max", "ms", [1_000 * max(samples)])


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {"runs": plan.runs, "seconds": plan.seconds, "batch": _BATCH}
    results = Results("ingest", options, settings)
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
