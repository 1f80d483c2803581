"""Tells webhooks of exports, in every process that has one of these, until each was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from data.background import Loop, in_background
from data.envelope import Envelope
from data.export_buckets import secret_context
from data.exports.webhooks import host_of, signed_headers
from data.outbound.addresses import AddressRefused
from data.outbound.client import Outbound, open_outbound
from data.outbound.failures import OutboundFailed
from data.postgres.engine import Engine, LedgerUnavailable, Login, open_engine
from data.postgres.export_destinations import SecretKind
from data.postgres.export_notices import AttemptEnd, ClaimedNotice, claim_notices, end_attempt
from data.secret_errors import SecretsUnavailable, SecretsUnreadable, Undecipherable
from telemetry.notice_metrics import NoticeMetrics, NoticeOutcome

log = structlog.get_logger()

_GONE = 410
_CONNECTIONS = 2


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """Where webhooks may be, how many notices are sent at a time, and when again.

    A notice is held for `hold`, which is more than the `attempt` takes. The wait after a failure is
    random: up to `first_wait`, doubled each time, `longest_wait` at the most. A notice that could
    not be delivered for `patience` is given up.
    """

    allow_private: bool = False
    at_once: int = 16
    attempt: timedelta = timedelta(seconds=10)
    hold: timedelta = timedelta(seconds=30)
    look_every: timedelta = timedelta(seconds=2)
    least_wait: timedelta = timedelta(seconds=2)
    first_wait: timedelta = timedelta(seconds=5)
    longest_wait: timedelta = timedelta(hours=1)
    patience: timedelta = timedelta(days=1)


class _NotDelivered(Exception):
    """An attempt failed; `is_final`: another one would be of no use."""

    def __init__(self, message: str, *, status: int | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.is_final = is_final


@dataclass(slots=True)
class ExportNotifier:
    """Sends notices that are due. Made by `open_export_notifier`."""

    engine: Engine
    envelope: Envelope
    outbound: Outbound
    metrics: NoticeMetrics
    clock: Callable[[], datetime]
    rules: NoticeRules
    _rest: float = 0.0

    def rest(self) -> float:
        """Seconds until the next look: none while there is more to send."""
        return self._rest

    async def send_due(self) -> int:
        """How many notices were in hand: one of a destination at the most, all at once.

        Raises `LedgerUnavailable`.
        """
        rules = self.rules
        claimed = await claim_notices(
            self.engine, self.clock(), limit=rules.at_once, hold=rules.hold
        )
        self._rest = 0.0 if claimed else rules.look_every.total_seconds()
        async with asyncio.TaskGroup() as group:
            for one in claimed:
                group.create_task(self._attempt(one))
        return len(claimed)

    async def _attempt(self, claimed: ClaimedNotice) -> None:
        try:
            status = await self._deliver(claimed)
        except _NotDelivered as failed:
            await self._end(claimed, self._after(claimed, failed))
            return
        except Exception:
            # What went wrong is for the log: it may hold anything.
            log.exception("export.notice.failed", notice=str(claimed.notice_id))
            unexpected = _NotDelivered(
                "an unexpected error, which stands in the log of the service"
            )
            await self._end(claimed, self._after(claimed, unexpected))
            return
        now = self.clock()
        self.metrics.delay_seconds.observe(max((now - claimed.created_at).total_seconds(), 0))
        await self._end(claimed, AttemptEnd(delivered_at=now, http_status=status))

    async def _deliver(self, claimed: ClaimedNotice) -> int:
        """The status with which the notice was taken; raises `_NotDelivered`."""
        if claimed.url is None:
            raise _NotDelivered("the destination has no webhook any more", is_final=True)
        host, seconds = host_of(claimed.url), self.rules.attempt.total_seconds()
        try:
            # Also for keys that come from elsewhere.
            async with asyncio.timeout(seconds):
                headers = await self._headers(claimed)
                status = await self.outbound.post(
                    claimed.url, claimed.body, headers, seconds=seconds
                )
        except TimeoutError:
            raise _NotDelivered(f"{host} was not told within {seconds:g} s") from None
        except OutboundFailed as failed:
            raise _NotDelivered(str(failed), is_final=isinstance(failed, AddressRefused)) from None
        if 300 <= status < 400:
            raise _NotDelivered(
                f"{host} redirects ({status}), which is not followed: save the address itself",
                status=status,
            )
        if not 200 <= status < 300:
            raise _NotDelivered(
                f"{host} answered {status}", status=status, is_final=status == _GONE
            )
        return status

    async def _headers(self, claimed: ClaimedNotice) -> dict[str, str]:
        if claimed.sealed_secret is None:
            raise _NotDelivered("the webhook has no secret: save the destination again")
        context = secret_context(claimed.destination_id, SecretKind.WEBHOOK)
        try:
            secret = await self.envelope.decrypt(claimed.sealed_secret, context)
        except (SecretsUnavailable, SecretsUnreadable) as error:
            raise _NotDelivered(f"the webhook's secret cannot be read now: {error}") from None
        except Undecipherable as error:
            raise _NotDelivered(f"the webhook's secret cannot be read: {error}") from None
        notice_id = str(claimed.notice_id)
        return signed_headers(secret.decode(), notice_id, self.clock(), claimed.body)

    def _after(self, claimed: ClaimedNotice, failed: _NotDelivered) -> AttemptEnd:
        """What becomes of a notice after a failure."""
        now, error = self.clock(), str(failed)
        following = now + self._wait(claimed.attempts + 1)
        if failed.is_final or following - claimed.created_at > self.rules.patience:
            return AttemptEnd(given_up_at=now, http_status=failed.status, error=error)
        return AttemptEnd(next_attempt_at=following, http_status=failed.status, error=error)

    def _wait(self, attempts: int) -> timedelta:
        rules = self.rules
        waiting = wait_random_exponential(
            multiplier=rules.first_wait.total_seconds(),
            max=rules.longest_wait,
            min=rules.least_wait,
        )
        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.attempt_number = attempts
        return timedelta(seconds=waiting(state))

    async def _end(self, claimed: ClaimedNotice, end: AttemptEnd) -> None:
        """Note how an attempt ended; where that cannot be, the hold ends and it is made again."""
        outcome: NoticeOutcome = "delivered"
        about = {"notice": str(claimed.notice_id), "destination": str(claimed.destination_id)}
        if end.given_up_at is not None:
            outcome = "given_up"
            log.warning("export.notice.given_up", kind=claimed.kind, reason=end.error, **about)
        elif end.next_attempt_at is not None:
            outcome = "failed"
            log.info("export.notice.not_delivered", reason=end.error, **about)
        self.metrics.attempts[outcome].inc()
        try:
            if not await end_attempt(self.engine, claimed, end):
                log.warning("export.notice.lost", **about)
        except LedgerUnavailable as error:
            log.warning("export.notice.lost", reason=str(error), **about)


@asynccontextmanager
async def open_export_notifier(
    login: Login,
    envelope: Envelope,
    metrics: NoticeMetrics,
    clock: Callable[[], datetime],
    rules: NoticeRules,
) -> AsyncIterator[ExportNotifier]:
    """A notifier that writes the ledger by this login, at work until the block is left.

    What it has in hand then is sent again by another one, when its hold ends.
    """
    async with (
        open_engine(replace(login, connections=_CONNECTIONS)) as engine,
        open_outbound(allow_private=rules.allow_private) as outbound,
    ):
        notifier = ExportNotifier(engine, envelope, outbound, metrics, clock, rules)
        sending = Loop(
            "export.notices",
            notifier.send_due,
            pause=notifier.rest,
            retry=rules.look_every.total_seconds(),
            expected=(LedgerUnavailable,),
        )
        async with in_background(sending):
            yield notifier
