"""Deletes what became of records, and how refreshes ended, when it was kept for long enough."""

from datetime import datetime

import structlog

from data.resources import Resources

log = structlog.get_logger()


async def expire_source_history(resources: Resources, now: datetime) -> None:
    """Delete changes and audits for which their time is over; the records themselves stay."""
    changes, audits = await resources.refresher.expire(now)
    if changes or audits:
        log.info("source.history.expired", changes=changes, audits=audits)
