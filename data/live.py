"""Live data: what subscriptions are told, from the columnar copy of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from data.background import in_background
from data.event_store import StoreUnavailable
from data.follower import Follower
from data.live_activity import LiveActivity
from data.live_events import LiveEvents
from data.live_streams import ActivityStream, EventStream
from data.queries import EventFilter
from telemetry.metrics import LiveMetrics


@dataclass(frozen=True, slots=True)
class Live:
    """Streams of what happens. Each belongs to one reader, who closes it."""

    follower: Follower
    every_event: LiveEvents
    current_activity: LiveActivity

    def events(self, site_id: str, wanted: EventFilter) -> EventStream:
        """The site's events that pass the filter, as they are committed from now on.

        Raises `StoreUnavailable` as long as the ledger has not been seen at all.
        """
        newest = self.follower.ledger_position
        if newest is None:
            raise StoreUnavailable("the ledger has not been reached since the start")
        return self.every_event.subscribe(site_id, wanted, newest)

    def activity(self, site_id: str) -> ActivityStream:
        """The site's last five minutes, at once and then each second."""
        return self.current_activity.subscribe(site_id)


@asynccontextmanager
async def open_live(
    follower: Follower, *, clock: Callable[[], datetime], metrics: LiveMetrics
) -> AsyncIterator[Live]:
    """Live data of a follower's copy. When the block is left all streams end."""
    events = LiveEvents(follower.copy, metrics)
    activity = LiveActivity(follower.copy, follower, clock, metrics)
    metrics.open_streams["liveEvents"].set_function(lambda: len(events))
    metrics.open_streams["liveActivity"].set_function(lambda: len(activity))
    try:
        async with in_background(events.reading(), activity.counting()):
            with follower.telling(events):
                yield Live(follower, events, activity)
    finally:
        events.end()
        activity.end()
