"""Exports: takes up the targets of runs that are due, in every process with a columnar copy."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

import structlog

from data.background import Loop, in_background
from data.columnar import ColumnarCopy
from data.event_store import StoreUnavailable
from data.export_attempt import AttemptMeans, ExportAttempt, ExportPace
from data.export_buckets import ExportBuckets
from data.export_planner import ExportPlanner
from data.exports.checking import is_same_place
from data.exports.destination import Place, TargetKind
from data.exports.files import remove_leftovers
from data.exports.layout import Selection
from data.exports.records import Lag, StoredDestination, StoredRun
from data.exports.source import Waiting
from data.exports.tally import Proof
from data.exports.verification import verify
from data.postgres.engine import LedgerUnavailable, Login, open_engine
from data.postgres.export_claims import Claim, abandon, claim, due_targets
from data.postgres.export_destinations import destination_by_id, destinations
from data.postgres.export_runs import commit_times, manifests_of, runs_by_ids, unpublished
from data.postgres.exports import ledger_proof
from data.postgres.reads import Reads
from data.s3.clients import Pace
from data.secrets import Secrets
from telemetry.export_metrics import ExportMetrics
from telemetry.logs import bind_correlation_id, new_correlation_id

log = structlog.get_logger()

_CONNECTIONS = 4
_CLOSING_SECONDS = 2.0
_FOLDER = "exports"
# Counting in a large ledger, a statement after the other.
_PROOF_SECONDS = 900.0
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class ExporterRules:
    """Where buckets may be, how fast everything goes, and whether runs are taken up at all.

    `endpoint` is the service that is meant where a destination names none; None is AWS.
    """

    allow_private: bool = False
    endpoint: str | None = None
    takes_up: bool = True
    pace: ExportPace = field(default_factory=ExportPace)
    bucket_pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class ExporterParts:
    """What an exporter is made of. `login` writes the ledger."""

    login: Login
    reads: Reads
    copy: ColumnarCopy
    secrets: Secrets
    metrics: ExportMetrics
    clock: Callable[[], datetime]


class NotPublished(Exception):
    """The run has no manifest for this target yet, so there is nothing to verify."""


@dataclass(slots=True)
class Exporter:
    """Writes runs into buckets, plans them, and verifies them. Made by `open_exporter`."""

    means: AttemptMeans
    reads: Reads
    pace: ExportPace
    planner: ExportPlanner
    # The service that is meant where a destination names none; None is AWS.
    endpoint: str | None = None
    _name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid4()}")
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def buckets(self) -> ExportBuckets:
        """Buckets of destinations, and the keys that are kept for them."""
        return self.means.buckets

    def wake(self) -> None:
        """A run was planned in this process: take it up at once."""
        self._wake.set()

    async def plan(self, now: datetime) -> int:
        """How many runs were made that are due. Raises `LedgerUnavailable`, `StoreUnavailable`."""
        made = await self.planner.plan(now)
        if made:
            self.wake()
        return made

    async def verify(self, run_id: UUID, target: TargetKind) -> list[str]:
        """What differs between manifest, bucket and ledger, a sentence each; nothing: all is right.

        Raises `NotPublished`, `BucketFailed`, `LedgerUnavailable`, and what opening buckets raises.
        """
        engine = self.means.engine
        run = (await runs_by_ids(engine, [run_id])).get(run_id)
        stored = await destination_by_id(engine, run.destination_id) if run else None
        manifest = (await manifests_of(engine, [run_id])).get((run_id, target))
        if run is None or manifest is None or stored is None:
            raise NotPublished(f"run {run_id} has published nothing into its {target} bucket")
        if not is_same_place(_place(run, target), stored.destination.place(target)):
            raise NotPublished(f"the {target} bucket of run {run_id} is not its destination's now")
        async with self.buckets.open_target(stored.destination, target) as bucket:
            return await verify(manifest, bucket, self.means.prove)

    async def lags(self, found: Sequence[StoredDestination]) -> dict[UUID, Lag]:
        """How far each destination is behind, as far as this process has followed the ledger.

        Raises `LedgerUnavailable` and `StoreUnavailable`.
        """
        ids = [stored.destination_id for stored in found]
        planned = await self.reads.run(lambda engine: unpublished(engine, ids))
        store = self.means.copy.store
        watermark = await store.watermark()
        reached = watermark.position if watermark else 0
        waiting: dict[UUID, list[Waiting]] = {}
        for stored in found:
            stretches = planned.get(stored.destination_id, [])
            for after, through in (*stretches, (stored.planned_through, reached)):
                counted = await store.export_waiting(after, min(through, reached), stored.site_id)
                waiting.setdefault(stored.destination_id, []).extend(counted.values())
        firsts = {one.first for each in waiting.values() for one in each}
        times = await self.reads.run(lambda engine: commit_times(engine, sorted(firsts)))
        return {
            destination_id: Lag(
                sum(one.events for one in each),
                min((times[one.first] for one in each if one.first in times), default=None),
            )
            for destination_id, each in waiting.items()
        }

    async def measure(self) -> None:
        """Show how far every destination is behind."""
        found = await self.reads.run(destinations)
        now = self.means.clock()
        lags = await self.lags(found)
        shown = {
            str(destination_id): (
                lag.events,
                max((now - lag.since).total_seconds(), 0.0) if lag.since else 0.0,
            )
            for destination_id, lag in lags.items()
        }
        self.means.metrics.show_lags(shown)

    async def take_up(self, *, only_fresh: bool = False) -> bool:
        """Whether a target was due and is dealt with now, however that ended.

        `only_fresh`: not one that has failed before. Raises `LedgerUnavailable`.
        """
        means = self.means
        watermark = await means.copy.store.watermark()
        reached = watermark.position if watermark else 0
        now = means.clock()
        due = await due_targets(means.engine, now, reached, only_fresh=only_fresh, first=_LOOKED_AT)
        for one in due:
            claimed = await claim(means.engine, one, now, self._name)
            if claimed is not None:
                with bind_correlation_id(new_correlation_id()):
                    await self._attempt(claimed)
                return True
        return False

    async def _attempt(self, claimed: Claim) -> None:
        self.means.metrics.running.inc()
        attempt = ExportAttempt(self.means, self.pace, claimed)
        try:
            # Of attempts that failed, the last one has ended it: then processes were killed.
            if claimed.target.attempts > self.pace.retry.attempts:
                await attempt.give_up()
            else:
                await attempt.run()
        except asyncio.CancelledError:
            with suppress(LedgerUnavailable):
                await abandon(self.means.engine, claimed, seconds=_CLOSING_SECONDS)
            raise
        finally:
            self.means.metrics.running.dec()

    def lanes(self) -> list[Loop]:
        """What takes up targets: all lanes but the first are kept for those that never failed."""
        return [self._lane(number) for number in range(self.pace.lanes)]

    def _lane(self, number: int) -> Loop:
        # A bucket that hangs must not hold up all others.
        only_fresh = number > 0

        async def go() -> None:
            if not await self.take_up(only_fresh=only_fresh):
                await self._rest()

        return Loop(
            f"export.lane_{number}",
            go,
            pause=0,
            retry=self.pace.look_every,
            expected=(LedgerUnavailable, StoreUnavailable),
        )

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pace.look_every):
                await self._wake.wait()
        self._wake.clear()

    def measuring(self) -> Loop:
        """What shows how far destinations are behind."""
        return Loop(
            "export.measure",
            self.measure,
            pause=self.pace.measure_every,
            expected=(LedgerUnavailable, StoreUnavailable),
            waits_first=True,
        )


def _place(run: StoredRun, kind: TargetKind) -> Place:
    """Where a target of a run was published."""
    return next(target.place for target in run.targets if target.kind is kind)


@asynccontextmanager
async def open_exporter(parts: ExporterParts, rules: ExporterRules) -> AsyncIterator[Exporter]:
    """An exporter that takes up what is due until the block is left.

    What is under way then is given up, and other processes take it up at once.
    """
    folder = parts.copy.slot / _FOLDER
    # What a process has left that was killed; the slot is ours alone.
    await asyncio.to_thread(remove_leftovers, folder)

    async def prove(selection: Selection) -> Proof:
        question = partial(ledger_proof, selection=selection)
        return await parts.reads.run(question, seconds=_PROOF_SECONDS)

    login = replace(parts.login, connections=_CONNECTIONS)
    async with open_engine(login) as engine:
        buckets = ExportBuckets(engine, parts.secrets, rules.allow_private, rules.bucket_pace)
        means = AttemptMeans(engine, parts.copy, folder, buckets, prove, parts.metrics, parts.clock)
        planner = ExportPlanner(engine, parts.copy, parts.metrics)
        exporter = Exporter(means, parts.reads, rules.pace, planner, rules.endpoint)
        if not rules.takes_up:
            yield exporter
            return
        async with in_background(*exporter.lanes(), exporter.measuring()):
            yield exporter
