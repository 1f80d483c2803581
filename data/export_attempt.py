"""One attempt at a target of a run: written under a claim that is renewed, and noted at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import TypeVar

import msgspec
import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from data.columnar import ColumnarCopy
from data.export_buckets import ExportBuckets
from data.export_failures import RetryPace, failure_of, is_unexpected
from data.exports.destination import TargetKind
from data.exports.layout import Selection
from data.exports.manifest import Manifest, ManifestFile
from data.exports.orders import RunOrder
from data.exports.records import Metering, RunProgress
from data.exports.runs import (
    LedgerProof,
    RunParts,
    clear_attempt,
    clear_run,
    is_whole,
    published,
    write_run,
)
from data.postgres.engine import Engine, LedgerUnavailable
from data.postgres.export_claims import HOLD, Claim, renew
from data.postgres.export_outcomes import After, Failure, write_failure, write_success
from data.s3.bucket import Bucket
from data.s3.failures import BucketFailed, Reason
from telemetry.export_metrics import ExportMetrics

log = structlog.get_logger()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ExportPace:
    """How many targets are written at a time, how often is looked for them, and when again.

    A claim is renewed every `renew_every` seconds; one renewal takes `renewal` at most, and a process
    that could not renew for so long that its hold may end before the next try stops. What a failed
    run has left is taken away within `clearing` seconds, or by the next attempt.
    """

    lanes: int = 2
    look_every: float = 1.0
    measure_every: float = 15.0
    renew_every: float = 3.0
    renewal: float = 3.0
    clearing: float = 20.0
    outcome_tries: int = 5
    retry: RetryPace = field(default_factory=RetryPace)

    @property
    def patience(self) -> float:
        """Seconds since the last renewal after which another one would come too late."""
        return HOLD.total_seconds() - 2 * self.renewal


@dataclass(frozen=True, slots=True)
class AttemptMeans:
    """What runs are written with. `engine` writes the ledger, `prove` counts in it."""

    engine: Engine
    copy: ColumnarCopy
    folder: Path
    buckets: ExportBuckets
    prove: LedgerProof
    metrics: ExportMetrics
    clock: Callable[[], datetime]


class ClaimLost(Exception):
    """Another process has taken the target over."""


@dataclass(slots=True)
class ExportAttempt:
    """An attempt at work, from its claim to what is noted of it."""

    means: AttemptMeans
    pace: ExportPace
    claimed: Claim
    progress: RunProgress = field(default_factory=RunProgress)

    async def run(self) -> None:
        """Publish the target, or note why not; where the claim is lost, nothing is noted.

        Raises `LedgerUnavailable` where nothing can be noted: the claim ends by itself then.
        """
        began = perf_counter()
        try:
            manifest = await self._while_held(self._publish)
        except ClaimLost:
            await self._lost()
        except Exception as error:  # noqa: BLE001 - whatever it was, it is noted and told
            await self._failed(error)
        else:
            await self._succeeded(manifest, perf_counter() - began)

    async def give_up(self) -> None:
        """Note that nobody has come to the end of an attempt. Raises `LedgerUnavailable`."""
        attempts = self.claimed.target.attempts - 1
        error = f"given up after {attempts} attempts: the processes at work were killed, or hung"
        await self._note(Failure("KILLED", error, After.DEATH), self.means.clock())

    async def _while_held(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """What the work comes to, with the claim renewed all the time."""
        try:
            async with asyncio.TaskGroup() as group:
                holding = group.create_task(self._hold())
                result = await work()
                holding.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return result

    async def _publish(self) -> Manifest:
        claimed, means = self.claimed, self.means
        run, kind = claimed.run, claimed.kind
        order = run.order(claimed.target.place, claimed.hold_id)
        parts = RunParts(
            source=lambda: means.copy.store,
            # Not that of an attempt of this process that was lost and is not quite over.
            folder=means.folder / f"{kind.value}-{claimed.hold_id}",
            ledger=means.prove,
            clock=means.clock,
            may_publish=self._require_held,
            on_written=self._note_written,
        )
        async with means.buckets.open_target(claimed.stored.destination, kind) as bucket:
            manifest = await self._left_behind(order, bucket)
            if manifest is None:
                self.progress.of = await self._expected(order.selection)
                manifest = await write_run(order, parts, bucket, self._note_file)
            if kind is TargetKind.BACKUP:
                await self._meter(order, manifest, bucket)
        return manifest

    async def _left_behind(self, order: RunOrder, bucket: Bucket) -> Manifest | None:
        """What an earlier attempt has published; else its files are taken away."""
        if order.attempt == 1:
            return None
        # Without leave to read and list, names of its own keep an attempt apart from the others.
        try:
            manifest = await published(order, bucket)
            if manifest is not None and await is_whole(manifest, bucket):
                return manifest
            await clear_run(order, bucket)
        except BucketFailed as failed:
            if failed.reason is not Reason.NO_PERMISSION:
                raise
        return None

    async def _expected(self, selection: Selection) -> int:
        store = self.means.copy.store
        stacks = await store.export_stacks(selection, selection.arrivals, 1)
        return sum(stack.events for stack in stacks)

    async def _meter(self, order: RunOrder, manifest: Manifest, bucket: Bucket) -> None:
        run = self.claimed.run
        metering = Metering(
            run_id=run.run_id,
            site_id=run.site_id,
            destination_id=run.destination_id,
            number=run.number,
            trigger=run.trigger,
            events=manifest.taken.events,
            bytes=manifest.bytes,
            files=len(manifest.files),
            after=manifest.after,
            through=manifest.through,
            finished_at=manifest.finished_at,
        )
        data = msgspec.json.format(msgspec.json.encode(metering), indent=2) + b"\n"
        await bucket.put_bytes(order.metering_name, data, "application/json")

    def _note_written(self, events: int) -> None:
        self.progress.written = events

    def _note_file(self, file: ManifestFile) -> None:
        self.progress.files += 1
        self.progress.rows += file.rows
        self.progress.bytes += file.bytes

    async def _hold(self) -> None:
        """Renew the claim; raises `ClaimLost`, and `LedgerUnavailable` where that is not known."""
        renewed_at = monotonic()
        reason = "too late"
        while True:
            await asyncio.sleep(self.pace.renew_every)
            if monotonic() - renewed_at > self.pace.patience:
                raise LedgerUnavailable(f"the claim could not be renewed: {reason}")
            try:
                await self._require_held()
            except (LedgerUnavailable, TimeoutError) as error:
                reason = str(error)
                continue
            renewed_at = monotonic()

    async def _require_held(self) -> None:
        """Renew the claim now; raises `ClaimLost`, `LedgerUnavailable` and `TimeoutError`."""
        seconds = self.pace.renewal
        showing = replace(self.progress)
        # Also for a connection to become free.
        async with asyncio.timeout(seconds):
            if not await renew(self.means.engine, self.claimed, showing, seconds=seconds):
                raise ClaimLost

    async def _lost(self) -> None:
        """Take away what this attempt has left, beside the files of whoever has taken over."""
        self._tell_lost()
        await self._clear(whole=False)

    def _tell_lost(self) -> None:
        log.warning("export.lost", **self._about())

    async def _clear_whole(self) -> None:
        """Take away what the run has left, as long as nobody else can be at it."""
        # Whoever has taken over has files there that are not listed yet.
        with suppress(ClaimLost, LedgerUnavailable, TimeoutError):
            await self._require_held()
            await self._while_held(partial(self._clear, whole=True))

    async def _clear(self, *, whole: bool) -> None:
        """Take away what the run (`whole`) or this attempt has left, unless it was published."""
        claimed = self.claimed
        # Whatever is in the way: nobody reads files that no manifest lists.
        with suppress(Exception):
            order = claimed.run.order(claimed.target.place, claimed.hold_id)
            async with (
                asyncio.timeout(self.pace.clearing),
                self.means.buckets.open_target(claimed.stored.destination, claimed.kind) as bucket,
            ):
                manifest = await published(order, bucket)
                if manifest is None:
                    await (clear_run if whole else clear_attempt)(order, bucket)
                elif not _lists(manifest, order.attempt_prefix):
                    await clear_attempt(order, bucket)

    async def _succeeded(self, manifest: Manifest, seconds: float) -> None:
        engine, claimed = self.means.engine, self.claimed

        async def write() -> bool:
            return await write_success(engine, claimed, manifest, self.means.clock())

        # Where another has taken over meanwhile, it finds the manifest and notes it.
        if not await self._noted(write):
            self._tell_lost()
            return
        metrics, destination = self.means.metrics, str(claimed.run.destination_id)
        metrics.targets.labels(destination, claimed.kind.value, "succeeded").inc()
        metrics.events.labels(destination, claimed.kind.value).inc(manifest.taken.events)
        metrics.bytes.labels(destination, claimed.kind.value).inc(manifest.bytes)
        metrics.run_seconds.labels(claimed.kind.value).observe(seconds)
        log.info("export.published", events=manifest.taken.events, **self._about())

    async def _failed(self, error: Exception) -> None:
        claimed, now = self.claimed, self.means.clock()
        failure = failure_of(error, claimed.target.attempts, now, self.pace.retry)
        if is_unexpected(error):
            # What went wrong is for the log: it may hold anything.
            log.error("export.unexpected", exc_info=error, **self._about())
        await self._note(failure, now)

    async def _note(self, failure: Failure, now: datetime) -> None:
        claimed = self.claimed
        if failure.after is After.DEATH:
            await self._clear_whole()

        async def write() -> bool:
            return await write_failure(self.means.engine, claimed, failure, now)

        if not await self._noted(write):
            await self._lost()
            return
        self._tell_failure(failure)

    def _tell_failure(self, failure: Failure) -> None:
        claimed, metrics = self.claimed, self.means.metrics
        outcome = {After.RETRY: "failed", After.PAUSE: "paused"}.get(failure.after, "dead")
        destination = str(claimed.run.destination_id)
        metrics.targets.labels(destination, claimed.kind.value, outcome).inc()
        metrics.failures.labels(failure.reason).inc()
        line = f"export.{outcome}"
        log.warning(line, reason=failure.reason, error=failure.error, **self._about())

    async def _noted(self, write: Callable[[], Awaitable[bool]]) -> bool:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            stop=stop_after_attempt(self.pace.outcome_tries),
            wait=wait_exponential_jitter(multiplier=0.2, jitter=0.1),
            reraise=True,
        )
        return await attempts(write)

    def _about(self) -> dict[str, object]:
        run = self.claimed.run
        return {
            "run": str(run.run_id),
            "destination": str(run.destination_id),
            "target": self.claimed.kind.value,
            "attempt": self.claimed.target.attempts,
        }


def _lists(manifest: Manifest, prefix: str) -> bool:
    """Whether files of this prefix belong to a manifest."""
    return any(file.name.startswith(prefix) for file in manifest.files)
