"""Deletes notices of exports that were delivered or given up long ago."""

from datetime import datetime, timedelta

import structlog

from data.postgres.export_notices import expire_notices
from data.resources import Resources

log = structlog.get_logger()

_KEPT = timedelta(days=30)
_AT_ONCE = 5_000


async def expire_export_notices(resources: Resources, now: datetime) -> None:
    """Delete what nobody asks for any more, in steps that are committed one by one."""
    writer, expired = resources.ledger.writer, 0
    while more := await expire_notices(writer, now - _KEPT, limit=_AT_ONCE):
        expired += more
    if expired:
        log.info("export.notices.expired", notices=expired)
