"""When runs are made: by the schedules of destinations, and by how many events wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog

from data.columnar import ColumnarCopy
from data.exports.destination import REALTIME
from data.exports.records import RunAsked, StoredDestination, Trigger
from data.postgres.engine import Engine, transaction
from data.postgres.export_planning import (
    DestinationPaused,
    NoDestination,
    Plannable,
    PlannedMeanwhile,
    newest_position,
    plan_run,
    plannable,
    skip_run,
    sweep_deleted,
)
from telemetry.export_metrics import ExportMetrics

log = structlog.get_logger()


@dataclass(slots=True)
class _Count:
    """Events of a destination's site that wait: behind `after`, up to and with `through`."""

    after: int
    through: int
    events: int = 0


@dataclass(slots=True)
class ExportPlanner:
    """Plans runs, in the process that leads. What waits it counts by its own columnar copy.

    Each position is counted once, however often it looks.
    """

    engine: Engine
    copy: ColumnarCopy
    metrics: ExportMetrics
    _counts: dict[UUID, _Count] = field(default_factory=dict)

    async def plan(self, now: datetime) -> int:
        """How many runs were made just now. Raises `LedgerUnavailable` and `StoreUnavailable`."""
        newest = await newest_position(self.engine)
        found = await plannable(self.engine)
        reached = await self._count([one.stored for one in found])
        made = 0
        for one in found:
            made += await self._plan(one, now, newest, is_all=reached >= newest)
        async with transaction(self.engine) as connection:
            await sweep_deleted(connection, now)
        return made

    async def _count(self, found: Sequence[StoredDestination]) -> int:
        """Bring the counts up to the copy's position, which is given."""
        store = self.copy.store
        watermark = await store.watermark()
        reached = watermark.position if watermark else 0
        before, self._counts = self._counts, {}
        for stored in found:
            count = before.get(stored.destination_id)
            if count is None or count.after != stored.planned_through:
                count = _Count(stored.planned_through, stored.planned_through)
            self._counts[stored.destination_id] = count
        # Nearly all of them were counted up to the same position.
        for after in {count.through for count in self._counts.values() if count.through < reached}:
            waiting = await store.export_waiting(after, reached)
            for stored in found:
                count = self._counts[stored.destination_id]
                if count.through == after:
                    site = waiting.get(stored.site_id)
                    count.events += site.events if site else 0
                    count.through = reached
        return reached

    async def _plan(self, one: Plannable, now: datetime, newest: int, *, is_all: bool) -> int:
        """1 where a run was made; `is_all`: the counts hold everything that was committed."""
        stored, waiting = one.stored, self._counts[one.stored.destination_id].events
        if one.is_busy:
            return 0
        due = stored.next_run_at is not None and stored.next_run_at <= now
        if newest < stored.planned_through:
            # The ledger was put back to an earlier state: what comes now has positions anew.
            waiting = max(waiting, 1)
        threshold = stored.destination.threshold_events
        if due and waiting:
            return await self._make(stored, Trigger.SCHEDULE, now)
        if threshold is not None and waiting >= threshold:
            return await self._make(stored, Trigger.THRESHOLD, now)
        if due and is_all and stored.destination.schedule != REALTIME:
            async with transaction(self.engine) as connection:
                await skip_run(connection, stored, now)
        return 0

    async def _make(self, stored: StoredDestination, trigger: Trigger, now: datetime) -> int:
        asked = RunAsked(stored.destination_id, trigger, counted_from=stored.planned_through)
        try:
            async with transaction(self.engine) as connection:
                planned = await plan_run(connection, asked, now)
        except (NoDestination, DestinationPaused, PlannedMeanwhile):
            # Somebody was faster; the next look sees what is now.
            return 0
        if not planned.is_new:
            return 0
        run = planned.run
        self.metrics.runs.labels(str(stored.destination_id), trigger.value).inc()
        log.info(
            "export.planned",
            run=str(run.run_id),
            destination=str(run.destination_id),
            trigger=trigger.value,
            after=run.after,
            through=run.through,
        )
        return 1
