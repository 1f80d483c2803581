"""Has every source refreshed that is due; the refreshes themselves go on beside the job."""

from datetime import datetime

from data.resources import Resources


async def refresh_due_sources(resources: Resources, now: datetime) -> None:
    """Take up what is due, as far as there is room for it; the rest waits in the ledger."""
    await resources.refresher.begin_due(now)
