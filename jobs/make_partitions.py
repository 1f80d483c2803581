"""Makes the partitions of the coming months, long before an event needs one."""

from datetime import datetime

import structlog

from data.postgres.append import make_partitions_ahead
from data.resources import Resources

log = structlog.get_logger()


async def make_partitions(resources: Resources, now: datetime) -> None:
    """Make what is missing of this month and the next three."""
    made = await make_partitions_ahead(resources.ledger.writer, now)
    if made:
        log.info("ledger.partitions.made", partitions=made)
