"""Compares ledger, columnar copy and view of daily users, and has repaired what is wrong."""

from datetime import datetime

from data.resources import Resources


async def reconcile(resources: Resources, now: datetime) -> None:
    """Compare the newest and some of the rest; see `data.reconciliation`."""
    await resources.reconciliation.run(now)
