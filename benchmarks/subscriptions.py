"""What a thousand subscribers cost: ingest with and without them, and the service's memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from benchmarks.load import Load, Outcome, run_load
from benchmarks.pacing import send_paced
from benchmarks.service import Cpu, Service, new_home, run_benchmark, serving
from benchmarks.subscribers import Crowd
from benchmarks.tables import Mark, Results, print_title, read_options
from benchmarks.traffic import Traffic, accepted_batch, days_around_now
from telemetry.logs import configure_logs

SITE = "bench"
_TARGET = 5_000
_TARGET_BATCH = 250
_FULL_BATCH = 1_000
_FULL_CONNECTIONS = 4
_LOSS = Mark("at most", 15)

_ACTIVITY = f'subscription {{ liveActivity(siteId: "{SITE}") {{ at users events topPaths }} }}'
# Of those who read nothing: large values, so that their buffers are full before long.
_ALIASES = " ".join(f"again{number}: topPaths" for number in range(90))
_WIDE = f'subscription {{ liveActivity(siteId: "{SITE}") {{ at {_ALIASES} }} }}'


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int
    seconds: float
    full_seconds: float
    full_batches: int
    subscribers: int
    slow: int


FULL = Plan(runs=3, seconds=20, full_seconds=10, full_batches=400, subscribers=1_000, slow=100)
QUICK = Plan(runs=1, seconds=3, full_seconds=2, full_batches=60, subscribers=100, slow=10)


@dataclass(slots=True)
class Found:
    """What was found out with subscribers, or without; one entry for each run."""

    target: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)
    cpu_target: list[float] = field(default_factory=list)
    cpu_full: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Bench:
    """What the steps share."""

    plan: Plan
    service: Service
    traffic: Traffic

    async def ingest(self, found: Found) -> None:
        """Ingest at the target rate and at full speed; memory at the end."""
        before = self.service.cpu()
        outcome = await self._at_target()
        found.cpu_target.append(self._cpu_of(outcome, before))
        found.target.append(outcome.events_per_second)
        found.latency.append(outcome.milliseconds(0.99))
        before = self.service.cpu()
        outcome = await self._at_full_speed()
        found.cpu_full.append(self._cpu_of(outcome, before))
        found.full.append(outcome.events_per_second)
        found.memory.append(self.service.resident_bytes() / 2**20)
        # The next step begins with nothing left to be done.
        await self.service.require_everything(days_around_now())

    def _cpu_of(self, outcome: Outcome, before: Cpu) -> float:
        """Microseconds of the service's processor time for each event."""
        return 1e6 * (self.service.cpu() - before).service / outcome.acknowledged

    async def _at_target(self) -> Outcome:
        key, plan = self.service.admin_key, self.plan
        count = int(plan.seconds * _TARGET / _TARGET_BATCH)
        requests = self.traffic.batch_requests(SITE, key, count, _TARGET_BATCH)
        check = partial(accepted_batch, size=_TARGET_BATCH)
        address = self.service.address
        outcome = await send_paced(address, requests, _TARGET_BATCH / _TARGET, check)
        self.service.acknowledged[SITE] += outcome.acknowledged
        return outcome

    async def _at_full_speed(self) -> Outcome:
        key, plan = self.service.admin_key, self.plan
        requests = self.traffic.batch_requests(SITE, key, plan.full_batches, _FULL_BATCH)
        check = partial(accepted_batch, size=_FULL_BATCH)
        address = self.service.address
        outcome = await run_load(
            Load(address, requests, _FULL_CONNECTIONS, check, plan.full_seconds)
        )
        self.service.acknowledged[SITE] += outcome.acknowledged
        return outcome


async def measure(results: Results, plan: Plan) -> None:
    """Ingest alone and beside subscribers, in turns."""
    alone, beside = Found(), Found()
    joined: list[float] = []
    ticks: list[float] = []
    memory_each: list[float] = []
    memory_after: list[float] = []
    with new_home() as home:
        async with serving(home) as service:
            bench = Bench(plan, service, Traffic())
            await service.make_site(SITE)
            await bench.ingest(Found())  # the first time, everything is slower
            idle = service.resident_bytes() / 2**20
            for _ in range(plan.runs):
                await bench.ingest(alone)
                crowd, before = Crowd(), service.resident_bytes()
                try:
                    joined.append(await _join(bench, crowd))
                    grown = service.resident_bytes() - before
                    memory_each.append(grown / 1_024 / (plan.subscribers + plan.slow))
                    ticks.append(await _listened(bench, crowd, beside))
                finally:
                    crowd.leave()
                await asyncio.sleep(2)
                memory_after.append(service.resident_bytes() / 2**20)
    results.add(
        "joining", "subscribers/s", [(plan.subscribers + plan.slow) / one for one in joined]
    )
    results.add("ticks", "ticks/s/subscriber", ticks)
    _add_ingest(results, alone, beside)
    results.add("memory.each", "KiB/subscriber", memory_each)
    results.add("memory.before_any", "MiB", [idle])
    results.add("memory.alone", "MiB", alone.memory)
    results.add("memory.beside", "MiB", beside.memory)
    results.add("memory.after", "MiB", memory_after)
    results.show("Ingest beside subscribers", results.figures)


async def _join(bench: Bench, crowd: Crowd) -> float:
    plan, address, key = bench.plan, bench.service.address, bench.service.admin_key
    seconds = await crowd.join(address, key, _ACTIVITY, plan.subscribers, reads=True)
    return seconds + await crowd.join(address, key, _WIDE, plan.slow, reads=False)


async def _listened(bench: Bench, crowd: Crowd, beside: Found) -> float:
    """Ingest while they listen; what the one who got least got, in ticks per second."""
    readers = crowd.members[: bench.plan.subscribers]
    before, started = [one.ticks for one in readers], perf_counter()
    await bench.ingest(beside)
    seconds = perf_counter() - started
    least = min(one.ticks - count for one, count in zip(readers, before, strict=True))
    if any(one.is_lost for one in readers):
        raise AssertionError("a subscriber that reads was let down")
    return least / seconds


def _add_ingest(results: Results, alone: Found, beside: Found) -> None:
    for name, one, other in (
        ("target", alone.target, beside.target),
        ("full_speed", alone.full, beside.full),
    ):
        results.add(f"ingest.{name}.alone", "events/s", one)
        results.add(f"ingest.{name}.beside", "events/s", other)
        losses = [100 * (1 - b / a) for a, b in zip(one, other, strict=True)]
        results.add(f"ingest.{name}.loss", "%", losses, _LOSS)
    results.add("ingest.target.alone.p99", "ms", alone.latency)
    results.add("ingest.target.beside.p99", "ms", beside.latency)
    # Processor time hangs less on who else is at work than rates do.
    results.add("cpu.target.alone", "us/event", alone.cpu_target)
    results.add("cpu.target.beside", "us/event", beside.cpu_target)
    results.add("cpu.full_speed.alone", "us/event", alone.cpu_full)
    results.add("cpu.full_speed.beside", "us/event", beside.cpu_full)


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {
        "runs": plan.runs,
        "seconds": plan.seconds,
        "target": _TARGET,
        "subscribers": plan.subscribers,
        "slow": plan.slow,
    }
    results = Results("subscriptions", options, settings)
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
