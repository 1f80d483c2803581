"""Commits nothing once a second, by which the lag of a replica can be told."""

from datetime import datetime

from data.postgres.standby import send_heartbeat as commit_heartbeat
from data.resources import Resources


async def send_heartbeat(resources: Resources, now: datetime) -> None:
    """One empty commit on the primary, for the replica to replay."""
    await commit_heartbeat(resources.ledger.writer)
