"""Moves the credentials of exports on to the newest key, after somebody has rotated it."""

from datetime import datetime

import structlog

from data.resources import Resources

log = structlog.get_logger()


async def rewrap_export_secrets(resources: Resources, now: datetime) -> None:
    """Wrap anew what an older key has wrapped, so that nothing needs that any more."""
    moved = await resources.exporter.buckets.rewrap()
    if moved:
        log.info("export.secrets.rewrapped", secrets=moved)
