"""`footfall worker`: drains the queue into the ledger, beside the service or on another machine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from secrets import token_hex
from typing import Annotated

import structlog
import typer
from prometheus_client import start_http_server

from data.drain import Worker
from data.postgres.append import append
from data.postgres.ledger import open_ledger
from data.redis.client import RedisPace, open_redis
from data.redis.queue import Queue
from data.redis.wakeups import open_wakeups
from data.secrets import Secrets
from server.cli.failures import CommandFailed, Stopped
from server.cli.session import end_if_stopped, opened_secrets, run
from server.cli.terminal import show
from server.production import require_fit, require_fit_urls
from server.resources import ledger_address
from server.settings import Settings, load_settings
from server.taking import queue_limits
from telemetry.logs import configure_logs
from telemetry.metrics import Metrics

log = structlog.get_logger()

# Nobody waits for a worker, so it has more patience with Redis than a request has.
# A server that hangs is given up after this; the same ids are safe to send again.
_COMMIT_SECONDS = 10.0
_PACE = RedisPace(answer_seconds=5.0, connections=4)

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65_535, help="Serve /metrics for Prometheus on this port; not if left out."
    ),
]
MetricsHost = Annotated[str, typer.Option(help="The address on which /metrics is served.")]


def worker(metrics_port: MetricsPort = None, metrics_host: MetricsHost = "127.0.0.1") -> None:
    """Bring what is queued in Redis into the database, until SIGTERM or Ctrl-C.

    Several workers share the work. What one has in hand when it ends is finished first; what one
    had in hand when it was killed, another takes over within seconds.
    """
    settings = load_settings()
    configure_logs(level=settings.log_level, json=settings.is_production)
    require_fit(settings)
    if not settings.redis_url:
        raise CommandFailed("there is no queue to drain: set REDIS_URL")
    metrics = Metrics.create()
    with _page(metrics, metrics_host, metrics_port):
        run(_work(settings, metrics))


async def _work(settings: Settings, metrics: Metrics) -> None:
    async with opened_secrets(settings) as (known, secrets):
        require_fit_urls(known)
        await _drain(known, secrets, metrics)


async def _drain(settings: Settings, secrets: Secrets, metrics: Metrics) -> None:
    name = f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"
    async with (
        open_ledger(ledger_address(settings, secrets), connections=2) as ledger,
        open_redis(settings.redis_url, metrics.redis, _PACE) as redis,
        open_wakeups(redis, ledger.ledger_id, _wake_nobody) as wakeups,
    ):
        drainer = Worker(
            name=name,
            queue=Queue(redis, ledger.ledger_id, queue_limits(settings)),
            append=partial(append, ledger.writer, seconds=_COMMIT_SECONDS),
            on_commit=wakeups.publish,
            metrics=metrics.worker,
            queue_metrics=metrics.queue,
        )
        end_if_stopped()
        with _stopped_by_signals(drainer) as noted:
            log.info("worker.started", worker=name, ledger_id=str(ledger.ledger_id))
            if not settings.is_production:
                show(f"footfall worker {name} drains the queue. Ctrl-C stops it.")
            await drainer.run()
        log.info("worker.stopped", worker=name)
    if signal.SIGINT in noted:
        raise Stopped(signal.SIGINT)


def _wake_nobody() -> None:
    """A worker follows nothing."""


@contextmanager
def _stopped_by_signals(drainer: Worker) -> Iterator[list[int]]:
    """Lets a signal end the worker in order; gives the signals that came."""
    loop, noted = asyncio.get_running_loop(), list[int]()

    def stop(number: int) -> None:
        noted.append(number)
        drainer.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        yield noted
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def _page(metrics: Metrics, host: str, port: int | None) -> Iterator[None]:
    """Serves the metrics beside the work, where a port is given."""
    if port is None:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry=metrics.registry)
    except OSError as error:
        raise CommandFailed(
            f"{host} port {port} cannot be listened on ({os.strerror(error.errno or 0)}): pass "
            "another --metrics-port"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
