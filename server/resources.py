"""Opens everything that the service holds, in order, on one exit stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from uuid import UUID

from data.columnar import open_columnar, take_slot
from data.follower import Follower, following
from data.group_commit import open_group_commit
from data.live import open_live
from data.persisted import OwnPersistedQueries
from data.postgres.append import append, make_partitions_ahead
from data.postgres.directory import Directory
from data.postgres.engine import parse_url
from data.postgres.key_uses import open_key_uses
from data.postgres.ledger import LedgerAddress, open_ledger
from data.postgres.salts import SaltKeeper
from data.rate_limits import OwnWindows, RateLimits, Rates, Windows
from data.redis.client import RedisConnection, open_redis
from data.redis.documents import SharedPersistedQueries
from data.redis.limits import SharedWindows
from data.redis.wakeups import open_wakeups
from data.resources import Resources
from data.secrets import load_secrets
from jobs.runner import JobRunner, open_jobs
from jobs.table import JOBS
from server.settings import Settings
from telemetry.metrics import Metrics
from telemetry.tracing import open_tracing


class HomeUnusable(Exception):
    """The folder of the service cannot be used; the message says what to do."""


def utc_now() -> datetime:
    """The wall clock: the one place where the service reads it."""
    return datetime.now(UTC)


def ledger_address(settings: Settings) -> LedgerAddress:
    """Where the settings say the ledger is."""
    return LedgerAddress(
        home=settings.home,
        database_url=parse_url(settings.database_url) if settings.database_url else None,
        replica_url=(
            parse_url(settings.replica_database_url) if settings.replica_database_url else None
        ),
    )


def prepare_home(settings: Settings) -> None:
    """Make the service's folder and see that it can be written to; raises `HomeUnusable`."""
    home = settings.home
    probe = home / ".writable"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"footfall")
        probe.unlink()
    except OSError as error:
        raise HomeUnusable(
            f"{home} cannot be written to ({error.strerror}): make room or change its owner, or "
            "set FOOTFALL_HOME to another folder"
        ) from error


@asynccontextmanager
async def open_resources(
    settings: Settings,
) -> AsyncIterator[tuple[Resources, JobRunner[Resources]]]:
    """Everything a running service needs; closed in reverse order."""
    prepare_home(settings)
    metrics = Metrics.create()
    async with AsyncExitStack() as stack:
        tracing = stack.enter_context(
            open_tracing(
                settings.otel_exporter_otlp_endpoint or None, service_version=version("footfall")
            )
        )
        secrets = load_secrets(settings.home / "secrets.json")
        ledger = await stack.enter_async_context(open_ledger(ledger_address(settings)))
        await make_partitions_ahead(ledger.writer, utc_now())
        slot = stack.enter_context(take_slot(settings.home / "columnar"))
        columnar = await stack.enter_async_context(
            open_columnar(slot, ledger_id=str(ledger.ledger_id), metrics=metrics)
        )
        follower = await stack.enter_async_context(
            following(Follower(columnar, ledger.reader, ledger.writer, metrics.follow))
        )
        live = await stack.enter_async_context(
            open_live(follower, clock=utc_now, metrics=metrics.live)
        )
        redis = await _enter_redis(stack, settings.redis_url, metrics)
        wakeups = (
            await stack.enter_async_context(open_wakeups(redis, ledger.ledger_id, follower.wake))
            if redis
            else None
        )

        def on_commit(position: int) -> None:
            follower.wake()
            if wakeups is not None:
                wakeups.publish(position)

        # After the follower, so that it closes first and its last commits are still followed.
        committer = await stack.enter_async_context(
            open_group_commit(
                partial(append, ledger.writer), on_commit=on_commit, metrics=metrics.ingest
            )
        )
        resources = Resources(
            ledger=ledger,
            directory=Directory(ledger.writer),
            key_uses=await stack.enter_async_context(open_key_uses(ledger.writer)),
            committer=committer,
            columnar=columnar,
            follower=follower,
            live=live,
            salts=SaltKeeper(ledger.writer),
            persisted=(
                SharedPersistedQueries(redis, metrics.persisted)
                if redis
                else OwnPersistedQueries(metrics.persisted)
            ),
            redis=redis,
            rate_limits=_rate_limits(settings, redis, ledger.ledger_id, metrics),
            secrets=secrets,
            metrics=metrics,
            tracing=tracing,
            clock=utc_now,
        )
        runner = await stack.enter_async_context(
            open_jobs(JOBS, resources, clock=utc_now, metrics=metrics, leader=_always)
        )
        yield resources, runner


async def _enter_redis(stack: AsyncExitStack, url: str, metrics: Metrics) -> RedisConnection | None:
    return await stack.enter_async_context(open_redis(url, metrics.redis)) if url else None


def _rate_limits(
    settings: Settings, redis: RedisConnection | None, ledger_id: UUID, metrics: Metrics
) -> RateLimits | None:
    """What counts requests; None where there is no limit, and nothing to count."""
    rates = Rates(
        settings.rate_limit_requests,
        settings.rate_limit_ingest_requests,
        settings.rate_limit_window_seconds,
    )
    if not rates:
        return None
    windows: Windows = (
        SharedWindows(redis, f"footfall:{ledger_id}:rates", metrics.rate_limits)
        if redis
        else OwnWindows()
    )
    return RateLimits(rates, windows, ledger_id, metrics.rate_limits)


async def _always() -> bool:
    """Every process runs the jobs: those there are may run twice without harm."""
    return True
