"""Sources that are refreshed beside ingest: whether they are on time, and what ingest notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter
from typing import Any

from benchmarks.external import External, serving_external
from benchmarks.load import Outcome
from benchmarks.pacing import send_paced
from benchmarks.service import Cpu, Service, new_home, run_benchmark, serving
from benchmarks.tables import (
    Mark,
    Results,
    WrongAnswer,
    percentile,
    print_title,
    read_options,
)
from benchmarks.traffic import Traffic, accepted_batch, days_around_now
from data.sources.schedule import next_due
from data.sources.source import Source
from telemetry.logs import configure_logs

SITE = "bench"
_RATE = 5_000
_BATCH = 250
_INTERVAL = 10
_INTERVAL_TIME = timedelta(seconds=_INTERVAL)
_ONE_IN = 20
_SETTLED_SECONDS = 120
_SAVE = "mutation ($input: SourceInput!) { saveSource(input: $input) { key } }"
_LOOK = "{ sources { key records lastSuccessAt refresh { startedAt } } }"
_AUDITS = """
query ($key: String!, $since: DateTime!, $until: DateTime!) {
  audits(sourceKey: $key, since: $since, until: $until, first: 100) {
    edges { node { startedAt durationMs outcome recordsSeen recordsChanged } }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int
    seconds: float
    sources: int
    records: int


FULL = Plan(runs=3, seconds=60, sources=50, records=2_000)
QUICK = Plan(runs=1, seconds=15, sources=50, records=2_000)


@dataclass(slots=True)
class Found:
    """What was found out with sources, or without; one entry for each run."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    postgres: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh as its audit has it, in seconds; `late` is after the moment at which it was due."""

    due: datetime
    late: float
    took: float
    changed: int

    @property
    def is_on_time(self) -> bool:
        """Whether it was done before the next one was due."""
        return self.late + self.took < _INTERVAL


@dataclass(slots=True)
class Bench:
    """What the steps share."""

    plan: Plan
    service: Service
    external: External
    traffic: Traffic = field(default_factory=Traffic)

    def source(self, number: int) -> Source:
        """One of the sources as it is saved."""
        url = self.external.url(number)
        return Source(key=f"source-{number}", url=url, refresh_seconds=_INTERVAL)

    async def save(self, *, enabled: bool) -> None:
        """Switch all sources on or off."""
        for number in range(self.plan.sources):
            source = self.source(number)
            given = {
                "key": source.key,
                "url": source.url,
                "refreshSeconds": _INTERVAL,
                "recordsAt": "/items",
                "enabled": enabled,
            }
            await self.service.ask(_SAVE, {"input": given})

    async def settled(self, since: datetime) -> float:
        """Seconds until every source was refreshed after a moment."""
        started = perf_counter()
        while True:
            found = (await self.service.ask(_LOOK))["sources"]
            if all(_moment(one["lastSuccessAt"]) > since for one in found):
                break
            if perf_counter() - started > _SETTLED_SECONDS:
                raise WrongAnswer(f"sources were not refreshed: {found[:3]}")
            await asyncio.sleep(0.1)
        if any(one["records"] != self.plan.records for one in found):
            raise WrongAnswer(f"sources have other numbers of records: {found[:3]}")
        return perf_counter() - started

    async def at_rest(self) -> None:
        """Return when nothing is being refreshed."""
        while True:
            found = (await self.service.ask(_LOOK))["sources"]
            if not any(one["refresh"] for one in found):
                return
            await asyncio.sleep(0.1)

    async def ingest(self, found: Found) -> None:
        """Ingest at the target rate for some time."""
        key, plan = self.service.admin_key, self.plan
        requests = self.traffic.batch_requests(
            SITE, key, int(plan.seconds * _RATE / _BATCH), _BATCH
        )
        before = self.service.cpu()
        check = partial(accepted_batch, size=_BATCH)
        async with _watching_memory(self.service) as memory:
            outcome = await send_paced(self.service.address, requests, _BATCH / _RATE, check)
        self.service.acknowledged[SITE] += outcome.acknowledged
        _note(found, outcome, self.service.cpu() - before)
        found.memory.append(max(memory) / 2**20)

    async def refreshes(self, since: datetime, until: datetime) -> tuple[int, list[Refresh]]:
        """How many were due in a time, and those that were made for them.

        Raises `WrongAnswer` for one that failed.
        """
        due, made = 0, []
        for number in range(self.plan.sources):
            source = self.source(number)
            variables = {
                "key": source.key,
                "since": since.isoformat(),
                "until": (until + _INTERVAL_TIME).isoformat(),
            }
            audits = (await self.service.ask(_AUDITS, variables))["audits"]["edges"]
            moments = list(_due_moments(source, since, until))
            due += len(moments)
            refreshes = [_refresh(source, edge["node"], self.plan.records) for edge in audits]
            made += [one for one in refreshes if one.due in moments]
        return due, made


def _due_moments(source: Source, since: datetime, until: datetime) -> Iterator[datetime]:
    moment = next_due(source, since)
    while moment < until:
        yield moment
        moment = next_due(source, moment)


def _note(found: Found, outcome: Outcome, cpu: Cpu) -> None:
    found.rate.append(outcome.events_per_second)
    found.p50.append(outcome.milliseconds(0.5))
    found.p99.append(outcome.milliseconds(0.99))
    found.service.append(100 * cpu.service / outcome.seconds)
    found.postgres.append(100 * cpu.postgres / outcome.seconds)


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


def _refresh(source: Source, audit: dict[str, Any], records: int) -> Refresh:
    if audit["outcome"] != "SUCCESS" or audit["recordsSeen"] != records:
        raise WrongAnswer(f"{source.key} was refreshed by {audit}")
    started = _moment(audit["startedAt"])
    due = next_due(source, started - _INTERVAL_TIME)
    late = (started - due).total_seconds()
    return Refresh(due, late, audit["durationMs"] / 1_000, audit["recordsChanged"])


@asynccontextmanager
async def _watching_memory(service: Service) -> AsyncIterator[list[int]]:
    """Resident bytes of the service at each tenth of a second of the block."""
    seen = [service.resident_bytes()]

    async def look() -> None:
        while True:
            await asyncio.sleep(0.1)
            seen.append(service.resident_bytes())

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def measure(results: Results, plan: Plan) -> None:
    """Ingest alone and beside sources, in turns."""
    alone, beside = Found(), Found()
    refreshes: list[tuple[int, list[Refresh]]] = []
    async with serving_external(External(plan.sources, plan.records, _ONE_IN)) as external:
        with new_home() as home:
            async with serving(home, OUTBOUND_ALLOW_PRIVATE="true") as service:
                bench = Bench(plan, service, external)
                await service.make_site(SITE)
                started = datetime.now(UTC)
                await bench.save(enabled=True)
                first = await bench.settled(started)
                for _ in range(plan.runs):
                    await bench.save(enabled=False)
                    await bench.at_rest()
                    await bench.ingest(alone)
                    refreshes.append(await _beside(bench, beside))
                await service.require_everything(days_around_now())
    results.add("first_refresh_of_all", "s", [first])
    results.show("Sources from nothing", results.figures)
    _add_refreshes(results, plan, refreshes)
    _add_ingest(results, alone, beside)


async def _beside(bench: Bench, found: Found) -> tuple[int, list[Refresh]]:
    """Ingest while every source is refreshed at its interval; as `Bench.refreshes`."""
    switched_on = datetime.now(UTC)
    await bench.save(enabled=True)
    await bench.settled(switched_on)
    # Those that were switched on together are on their own moments from the next interval on.
    await asyncio.sleep(_INTERVAL)
    since = datetime.now(UTC)
    await bench.ingest(found)
    until = datetime.now(UTC)
    # What was due at the end has its interval, too.
    await asyncio.sleep(_INTERVAL)
    return await bench.refreshes(since, until)


def _add_refreshes(
    results: Results, plan: Plan, runs: Sequence[tuple[int, Sequence[Refresh]]]
) -> None:
    before = len(results.figures)
    results.add("refreshes.due", "refreshes", [due for due, _ in runs])
    on_time = [100 * sum(one.is_on_time for one in made) / due for due, made in runs]
    results.add("refreshes.on_time", "% of those due", on_time, Mark("at least", 100))
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        took = [1_000 * percentile([one.took for one in made], share) for _, made in runs]
        results.add(f"refreshes.took.{name}", "ms", took)
        late = [1_000 * percentile([one.late for one in made], share) for _, made in runs]
        results.add(f"refreshes.late.{name}", "ms", late)
    changed = [sum(one.changed for one in made) / len(made) for _, made in runs]
    results.add("refreshes.changed", "records each", changed)
    results.show(f"{plan.sources} sources of {plan.records:,} records", results.figures[before:])


def _add_ingest(results: Results, alone: Found, beside: Found) -> None:
    before = len(results.figures)
    for name, found in (("alone", alone), ("beside_sources", beside)):
        at_least = Mark("at least", 0.99 * _RATE)
        results.add(f"ingest_{name}.rate", "events/s", found.rate, at_least)
        results.add(f"ingest_{name}.p50", "ms", found.p50)
        results.add(f"ingest_{name}.p99", "ms", found.p99)
        results.add(f"ingest_{name}.cpu_service", "% of a core", found.service)
        results.add(f"ingest_{name}.cpu_postgres", "% of a core", found.postgres)
        results.add(f"ingest_{name}.memory", "MiB", found.memory, Mark("at most", 512))
    results.show(f"Ingest at {_RATE:,} events/s", results.figures[before:])


def main() -> None:
    options = read_options(__doc__ or "")
    configure_logs(level="WARNING", json=False)
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {
        "runs": plan.runs,
        "seconds": plan.seconds,
        "sources": plan.sources,
        "records": plan.records,
        "interval_seconds": _INTERVAL,
        "one_record_changes_in": _ONE_IN,
        "events_per_second": _RATE,
        "batch": _BATCH,
    }
    results = Results("sources", options, settings)
    print_title(results)
    run_benchmark(measure(results, plan))
    results.write()


if __name__ == "__main__":
    main()
