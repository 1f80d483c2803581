"""One refresh of a source: fetched under a claim that is renewed, and committed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic, perf_counter

import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from data.breaker import BreakerState
from data.outbound.client import Outbound
from data.postgres.engine import Engine, LedgerRefused, LedgerUnavailable
from data.postgres.source_claims import HOLD, Claim, renew
from data.postgres.source_writing import Result, Written, write_refresh
from data.secret_errors import SecretMissing, SecretsUnavailable, SecretsUnreadable
from data.secrets import Secrets
from data.sources.fetch import Pace, fetch, request_headers
from data.sources.fetched import FetchFailed, Progress
from data.sources.records import FetchOutcome
from telemetry.source_metrics import SourceMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RefreshPace:
    """How many sources are fetched and written at a time, and how often a claim is renewed.

    Of the places for fetches, sources that failed the last time get half at most.

    A claim is renewed `renew_every` seconds, and every `show_every` where there is progress to be
    shown; one renewal takes `renewal` at most. A process that could not renew for so long that its
    hold may end before the next try stops fetching.
    """

    fetches: int = 4
    writes: int = 2
    write_tries: int = 5
    show_every: float = 1.0
    renew_every: float = 5.0
    renewal: float = 3.0
    look_every: float = 0.2
    fetch: Pace = field(default_factory=Pace)

    @property
    def patience(self) -> float:
        """Seconds since the last renewal after which another one would come too late."""
        return HOLD.total_seconds() - self.renewal - self.show_every


@dataclass(frozen=True, slots=True)
class RefreshMeans:
    """What a refresh is made with. `engine` writes the ledger."""

    engine: Engine
    outbound: Outbound
    secrets: Secrets
    metrics: SourceMetrics
    clock: Callable[[], datetime]


@dataclass(slots=True)
class Refresh:
    """One refresh at work, from its claim to its commit; `turn` bounds how many commit at a time."""

    means: RefreshMeans
    pace: RefreshPace
    claimed: Claim
    turn: asyncio.Semaphore
    progress: Progress = field(default_factory=Progress)

    async def run(self) -> None:
        """Fetch and commit, unless the claim is lost meanwhile; then nothing is written.

        Raises `LedgerUnavailable`, and leaves nothing but a claim that ends by itself.
        """
        began = perf_counter()
        self._note_breaker(BreakerState.CLOSED, self.claimed.breaker)
        fetching = asyncio.create_task(self._fetch())
        holding = asyncio.create_task(self._hold())
        try:
            await asyncio.wait({fetching, holding}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                holding.result()
                await _cancelled(fetching)
                result: Result = FetchFailed("it was given up")
            else:
                result = fetching.result()
            async with self.turn:
                # What is written has the row in its hands.
                await _cancelled(holding)
                written = await self._write_at_last(result, began)
        finally:
            await _cancelled(fetching)
            await _cancelled(holding)
        if written is None:
            log.warning("source.refresh.lost", source=self.claimed.source.key)
            return
        self._tell(written, perf_counter() - began)

    async def _fetch(self) -> Result:
        claimed, source = self.claimed, self.claimed.source
        try:
            names = {header.secret for header in source.headers if header.secret is not None}
            secrets = {name: await self.means.secrets.named(name) for name in names}
            return await fetch(
                self.means.outbound,
                source,
                request_headers(source, secrets),
                claimed.validators,
                self.progress,
                claimed.started_at,
                pace=self.pace.fetch,
            )
        except FetchFailed as error:
            return error
        except SecretMissing as error:
            return FetchFailed(str(error))
        except (SecretsUnavailable, SecretsUnreadable) as error:
            # Where secrets are kept is nothing for those who read audits.
            log.warning("source.secrets.unavailable", source=source.key, reason=str(error))
            told = "the secrets of its headers cannot be read now; the log of the service says why"
            return FetchFailed(told)
        except Exception:
            # What went wrong is for the log: it may hold anything.
            log.exception("source.fetch.failed", source=source.key)
            return FetchFailed("an unexpected error, which stands in the log of the service")

    async def _hold(self) -> None:
        """Renew the claim until it is ours no more; `LedgerUnavailable` where that is not known."""
        renewed_at = monotonic()
        shown = Progress()
        reason = ""
        while True:
            await asyncio.sleep(self.pace.show_every)
            now = monotonic()
            if now - renewed_at > self.pace.patience:
                raise LedgerUnavailable(f"the claim could not be renewed: {reason or 'too late'}")
            if now - renewed_at < self.pace.renew_every and self.progress == shown:
                continue
            showing = replace(self.progress)
            seconds = self.pace.renewal
            try:
                # Also for a connection to become free.
                async with asyncio.timeout(seconds):
                    is_ours = await renew(self.means.engine, self.claimed, showing, seconds=seconds)
            except (LedgerUnavailable, TimeoutError) as error:
                reason = str(error)
                continue
            if not is_ours:
                return
            renewed_at, shown = now, showing

    async def _write_at_last(self, result: Result, began: float) -> Written | None:
        """Write, again if need be: where somebody else has begun meanwhile, nothing is written."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(LedgerUnavailable),
            stop=stop_after_attempt(self.pace.write_tries),
            wait=wait_exponential_jitter(multiplier=0.2, jitter=0.1),
            reraise=True,
        )
        return await attempts(self._write, result, began)

    async def _write(self, result: Result, began: float) -> Written | None:
        engine, clock = self.means.engine, self.means.clock
        try:
            return await write_refresh(engine, self.claimed, result, clock(), began)
        except LedgerRefused as error:
            # Its words may quote what was sent.
            log.warning("source.refused", source=self.claimed.source.key, reason=str(error))
            refused = FetchFailed(
                "the ledger does not take what the source sent; the log of the service says why",
                effort=result.effort,
            )
            return await write_refresh(engine, self.claimed, refused, clock(), began)

    def _tell(self, written: Written, seconds: float) -> None:
        metrics, attempt, key = self.means.metrics, written.attempt, self.claimed.source.key
        metrics.refreshes.labels(key, attempt.outcome).inc()
        metrics.refresh_seconds.labels(attempt.outcome).observe(seconds)
        metrics.bytes.labels(key).inc(attempt.effort.bytes)
        metrics.records.labels(key).set(written.records)
        tally = attempt.tally
        for kind in ("added", "changed", "vanished"):
            metrics.changes.labels(key, kind).inc(getattr(tally, kind))
        if attempt.outcome is FetchOutcome.SUCCESS:
            metrics.last_success.labels(key).set(self.means.clock().timestamp())
            log.debug("source.refreshed", source=key, records=written.records)
        else:
            log.warning("source.refresh.failed", source=key, reason=attempt.error)
        if written.breaker is not None:
            self._note_breaker(self.claimed.breaker, written.breaker)

    def _note_breaker(self, before: BreakerState, after: BreakerState) -> None:
        if before is after:
            return
        key = self.claimed.source.key
        self.means.metrics.breaker_changes.labels(key, after.value).inc()
        log.warning("source.breaker.changed", source=key, state=after.value)


async def _cancelled(task: asyncio.Task[object]) -> None:
    """Returns when a task has ended, whatever came of it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
