"""Makes the export runs that are due; processes with a columnar copy take them up by themselves."""

from datetime import datetime

from data.resources import Resources


async def plan_exports(resources: Resources, now: datetime) -> None:
    """Make a run for each destination whose time has come, or where enough events wait."""
    await resources.exporter.plan(now)
