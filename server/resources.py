"""Opens everything that the service holds, in order, on one exit stack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from uuid import UUID

from data.admin_log_head import FILE_NAME, AdminLogWatch, watching_admin_log
from data.cache import Room
from data.columnar import ColumnarCopy, open_columnar
from data.comparison import Comparison
from data.export_notifier import NoticeRules, open_export_notifier
from data.exporter import Exporter, ExporterParts, ExporterRules, open_exporter
from data.follower import Follower, following
from data.live import open_live
from data.persisted import OwnPersistedQueries
from data.postgres.append import make_partitions_ahead
from data.postgres.directory import Directory
from data.postgres.engine import parse_url
from data.postgres.key_uses import open_key_uses
from data.postgres.leadership import open_leadership
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.postgres.salts import SaltKeeper
from data.queries import Watermark
from data.rate_limits import OwnWindows, RateLimits, Rates, Windows
from data.reconciliation import Reconciliation
from data.redis.client import RedisConnection, open_redis
from data.redis.documents import SharedPersistedQueries
from data.redis.limits import SharedWindows
from data.redis.results import RedisResults
from data.redis.wakeups import open_wakeups
from data.refresher import Refresher, RefreshRules, open_refresher
from data.resources import Resources
from data.result_history import drop_unknown
from data.results import Results, open_results
from data.secrets import Secrets
from data.slots import take_slot
from jobs.runner import JobRunner, open_jobs
from jobs.table import JOBS, REPLICA_JOBS
from server.clock import utc_now
from server.declared_sources import declare_sources
from server.production import require_fit_urls
from server.secrets import open_secrets
from server.settings import Settings
from server.taking import open_taking
from telemetry.metrics import Metrics
from telemetry.tracing import open_tracing


class HomeUnusable(Exception):
    """The folder of the service cannot be used; the message says what to do."""


def ledger_address(settings: Settings, secrets: Secrets | None = None) -> LedgerAddress:
    """Where the settings say the ledger is; with secrets, each connection asks these whom to be."""
    return LedgerAddress(
        home=settings.home,
        database_url=parse_url(settings.database_url) if settings.database_url else None,
        replica_url=(
            parse_url(settings.replica_database_url) if settings.replica_database_url else None
        ),
        replica_max_lag=timedelta(seconds=settings.replica_max_lag_seconds),
        credentials=secrets.credentials("database") if secrets else None,
        replica_credentials=secrets.credentials("replica_database") if secrets else None,
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


def admin_log_watch(settings: Settings, ledger: Ledger, metrics: Metrics) -> AdminLogWatch:
    """What keeps an eye on a ledger's admin log from this machine."""
    file = settings.home / FILE_NAME
    return AdminLogWatch(ledger.writer, ledger.ledger_id, file, metrics.admin_log)


@asynccontextmanager
async def open_resources(
    settings: Settings, *, is_service: bool = False
) -> AsyncIterator[tuple[Resources, JobRunner[Resources]]]:
    """Everything a running service needs; closed in reverse order.

    `is_service`: it brings SOURCES_FILE in. A command that borrows these for a while does not: in
    the shell that it is started from there may be no such setting, or another one.
    """
    prepare_home(settings)
    metrics = Metrics.create()
    async with AsyncExitStack() as stack:
        tracing = stack.enter_context(
            open_tracing(
                settings.otel_exporter_otlp_endpoint or None, service_version=version("footfall")
            )
        )
        settings, secrets = await stack.enter_async_context(
            open_secrets(settings, utc_now, metrics.vault)
        )
        require_fit_urls(settings)
        ledger = await stack.enter_async_context(
            open_ledger(ledger_address(settings, secrets), metrics=metrics)
        )
        await make_partitions_ahead(ledger.writer, utc_now())
        slot = stack.enter_context(take_slot(settings.home / "columnar"))
        columnar = await stack.enter_async_context(
            open_columnar(slot, ledger_id=str(ledger.ledger_id), metrics=metrics)
        )
        redis = await _enter_redis(stack, settings.redis_url, metrics)
        # Before the follower, which may have to replace the copy with its first step.
        results = await _enter_results(stack, settings, columnar, redis, metrics)
        if redis is not None:
            await _enter_drops(stack, results, redis, ledger)
        follower = await stack.enter_async_context(
            following(Follower(columnar, ledger.reads, ledger.writer, metrics.follow))
        )
        live = await stack.enter_async_context(
            open_live(follower, clock=utc_now, metrics=metrics.live)
        )
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
        taking = await stack.enter_async_context(
            open_taking(settings, ledger, redis, on_commit, metrics)
        )
        leadership = await stack.enter_async_context(
            open_leadership(ledger.writer_login, metrics.leader)
        )
        directory = Directory(ledger.writer, taking.lookout)
        salts = SaltKeeper(ledger.writer, taking.lookout)
        # At hand from the start: events are taken by them also while the ledger is away.
        await directory.sites()
        await salts.salt(utc_now())
        await declare_sources(
            settings.sources_file if is_service else None,
            ledger.writer,
            directory,
            secrets,
            utc_now(),
        )
        await _enter_export_notifier(stack, settings, ledger, secrets, metrics)
        resources = Resources(
            ledger=ledger,
            leadership=leadership,
            directory=directory,
            committer=taking.committer,
            intake=taking.intake,
            lookout=taking.lookout,
            spool=taking.spool,
            key_uses=await stack.enter_async_context(open_key_uses(ledger.writer)),
            columnar=columnar,
            follower=follower,
            reconciliation=Reconciliation(follower, metrics.reconcile, Comparison(ledger.reads)),
            live=live,
            salts=salts,
            refresher=await _enter_refresher(stack, settings, ledger, secrets, metrics),
            exporter=await _enter_exporter(
                stack,
                settings,
                ExporterParts(
                    ledger.writer_login, ledger.reads, columnar, secrets, metrics.exports, utc_now
                ),
            ),
            persisted=(
                SharedPersistedQueries(redis, metrics.persisted)
                if redis
                else OwnPersistedQueries(metrics.persisted)
            ),
            redis=redis,
            queue=taking.queue,
            queue_store=taking.queue_store,
            results=results,
            rate_limits=_rate_limits(settings, redis, ledger.ledger_id, metrics),
            secrets=secrets,
            metrics=metrics,
            tracing=tracing,
            clock=utc_now,
            admin_log=await stack.enter_async_context(
                watching_admin_log(admin_log_watch(settings, ledger, metrics))
            ),
        )
        jobs = (*JOBS, *REPLICA_JOBS) if ledger.reads.has_replica else JOBS
        runner = await stack.enter_async_context(
            open_jobs(jobs, resources, clock=utc_now, metrics=metrics, leader=leadership.leads)
        )
        leadership.on_elected = runner.took_over
        yield resources, runner


async def _enter_redis(stack: AsyncExitStack, url: str, metrics: Metrics) -> RedisConnection | None:
    return await stack.enter_async_context(open_redis(url, metrics.redis)) if url else None


async def _enter_refresher(
    stack: AsyncExitStack, settings: Settings, ledger: Ledger, secrets: Secrets, metrics: Metrics
) -> Refresher:
    rules = RefreshRules(
        allow_private=settings.outbound_allow_private,
        keep_changes=timedelta(days=settings.source_history_days),
        keep_audits=timedelta(days=settings.source_audit_days),
    )
    # With connections of its own, so that ingest never waits for one that a refresh has.
    return await stack.enter_async_context(
        open_refresher(ledger.writer_login, secrets, metrics.sources, utc_now, rules)
    )


async def _enter_exporter(
    stack: AsyncExitStack, settings: Settings, parts: ExporterParts
) -> Exporter:
    rules = ExporterRules(
        allow_private=settings.outbound_allow_private, endpoint=settings.s3_endpoint_url or None
    )
    return await stack.enter_async_context(open_exporter(parts, rules))


async def _enter_export_notifier(
    stack: AsyncExitStack, settings: Settings, ledger: Ledger, secrets: Secrets, metrics: Metrics
) -> None:
    rules = NoticeRules(allow_private=settings.outbound_allow_private)
    await stack.enter_async_context(
        open_export_notifier(ledger.writer_login, secrets.envelope, metrics.notices, utc_now, rules)
    )


async def _enter_results(
    stack: AsyncExitStack,
    settings: Settings,
    columnar: ColumnarCopy,
    redis: RedisConnection | None,
    metrics: Metrics,
) -> Results:
    """Kept results, which are forgotten with the copy that they were computed from."""
    # What another release has computed may have been counted otherwise.
    space = f"{columnar.ledger_id}:{version('footfall')}"
    shared = RedisResults(redis, space, partial(_newest, columnar)) if redis else None
    results = await stack.enter_async_context(
        open_results(
            Results(
                room=Room(settings.result_cache_megabytes * 1024 * 1024),
                shared=shared,
                metrics=metrics.cache,
                clock=utc_now,
                patience=settings.result_cache_patience_seconds,
            )
        )
    )
    columnar.on_replaced = results.drop_soon
    if shared is not None:
        shared.on_drop = results.forget_all
    return results


async def _enter_drops(
    stack: AsyncExitStack, results: Results, redis: RedisConnection, ledger: Ledger
) -> None:
    """Have processes hear of each other's drops, and of those that they have missed."""

    def on_drop() -> None:
        results.begin(drop_unknown(results, ledger.writer))

    await drop_unknown(results, ledger.writer)
    drops = await stack.enter_async_context(
        open_wakeups(redis, ledger.ledger_id, on_drop, about="drops")
    )
    results.tell = partial(drops.publish, 0)


def _newest(columnar: ColumnarCopy) -> Watermark | None:
    return columnar.store.day_versions.watermark


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
