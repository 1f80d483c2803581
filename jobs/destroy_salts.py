"""Destroys the salts of past days, after which visitor ids lead back to nobody."""

from datetime import datetime

import structlog

from data.postgres.engine import transaction
from data.postgres.salts import destroy_salts as destroy_old_salts
from data.resources import Resources

log = structlog.get_logger()


async def destroy_salts(resources: Resources, now: datetime) -> None:
    """Delete every salt whose day began 48 hours ago or more."""
    async with transaction(resources.ledger.writer) as connection:
        destroyed = await destroy_old_salts(connection, now)
    if destroyed:
        log.info("privacy.salts.destroyed", salts=destroyed)
