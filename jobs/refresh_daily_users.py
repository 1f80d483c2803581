"""Brings `daily_active_users` up to the end of the change feed, a stretch at a time."""

from datetime import datetime
from time import perf_counter

import structlog

from data.postgres.actor_days import Advance, advance
from data.resources import Resources
from telemetry.view_metrics import ViewMetrics

log = structlog.get_logger()

# The job comes again soon; a long way is gone in several runs.
_SECONDS = 60.0


async def refresh_daily_users(resources: Resources, now: datetime) -> None:
    """Fill and refresh until nothing is left, for a minute or so; one process at a time does."""
    began = perf_counter()
    while perf_counter() - began < _SECONDS:
        done = await advance(resources.ledger.writer)
        if done is None:
            return
        _measure(resources.metrics.view, done)
        if done.refresh_seconds is not None:
            log.debug(
                "view.refreshed",
                position=done.position,
                rows=done.view_rows,
                seconds=round(done.refresh_seconds, 3),
            )
        if done.is_complete:
            return


def _measure(metrics: ViewMetrics, done: Advance) -> None:
    metrics.position.set(done.position)
    metrics.through.set(done.through.timestamp())
    metrics.actor_days.inc(done.added)
    if done.refresh_seconds is not None:
        metrics.refresh_seconds.observe(done.refresh_seconds)
    if done.view_rows is not None:
        metrics.rows.set(done.view_rows)
