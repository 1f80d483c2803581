"""Live activity: once a second, who is active now on each site that somebody watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakSet

from data.background import Loop
from data.columnar import ColumnarCopy
from data.event_store import EventStore, StoreUnavailable
from data.follower import Follower
from data.live_streams import ActivityStream
from data.live_window import Window
from data.queries import Activity, ActivityChanges, KnownActivity, last_arrival
from telemetry.metrics import LiveMetrics

SECOND = timedelta(seconds=1)
# Of all windows together: some 125 MB. What goes beyond is counted by the copy each second.
MOST_ENTRIES = 500_000


@dataclass(slots=True, eq=False)
class _Site:
    """A site that somebody watches. `window` None: the copy counts it anew each second."""

    site_id: str
    streams: WeakSet[ActivityStream] = field(default_factory=WeakSet)
    window: Window | None = field(default_factory=Window)
    arrival: int = -1
    latest: Activity | None = None

    @property
    def known(self) -> KnownActivity:
        return KnownActivity(self.site_id, self.arrival, self.window.at if self.window else 0)

    def start_over(self) -> None:
        self.window, self.arrival = Window(), -1

    def hand_over(self, activity: Activity) -> None:
        self.latest = activity
        for stream in self.streams:
            stream.hand_over(activity)


@dataclass(slots=True, eq=False)
class LiveActivity:
    """Counts the last five minutes of all watched sites by one question a second.

    Nothing is counted while nobody watches, nor while the copy cannot be up to date: a value
    that is missing misleads less than one that is too small.
    """

    copy: ColumnarCopy
    follower: Follower
    clock: Callable[[], datetime]
    metrics: LiveMetrics
    most_entries: int = MOST_ENTRIES
    _sites: dict[str, _Site] = field(default_factory=dict)
    _joined: asyncio.Event = field(default_factory=asyncio.Event)
    _store: EventStore | None = None

    def __len__(self) -> int:
        """How many streams are read now."""
        return sum(len(site.streams) for site in self._sites.values())

    def subscribe(self, site_id: str) -> ActivityStream:
        """A stream of values, the first one at once; close it at the end."""
        site = self._sites.setdefault(site_id, _Site(site_id))
        stream = ActivityStream(site.streams.discard)
        site.streams.add(stream)
        if site.latest is not None and site.latest.at >= _whole_second(self.clock()) - SECOND:
            stream.hand_over(site.latest)
        else:
            self._joined.set()
        return stream

    def counting(self) -> Loop:
        """What counts once a second."""
        return Loop(
            "live.activity", self._wait_and_count, pause=0, retry=0, expected=(StoreUnavailable,)
        )

    async def _wait_and_count(self) -> None:
        """Wait for the next second, or for somebody who joins, and count."""
        self._leave_abandoned()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_second() if self._sites else None):
                await self._joined.wait()
        self._joined.clear()
        self._leave_abandoned()
        if self._sites and self.follower.is_healthy and self.follower.is_caught_up:
            await self._tick(_whole_second(self.clock()))

    def _until_next_second(self) -> float:
        # Reckoned after the work: a second that it took longer than is left out.
        now = self.clock()
        return (_whole_second(now) + SECOND - now).total_seconds()

    def end(self) -> None:
        """End all streams."""
        for site in self._sites.values():
            for stream in list(site.streams):
                stream.close()
        self._sites.clear()

    def _leave_abandoned(self) -> None:
        for site in list(self._sites.values()):
            if not site.streams:
                del self._sites[site.site_id]

    async def _tick(self, at: datetime) -> None:
        """Count the sites that have no value for this second yet, and hand it over."""
        store = self.copy.store
        if store is not self._store:
            # Another copy may be of another history: what was known is worth nothing.
            for site in self._sites.values():
                site.start_over()
            self._store = store
        due = [one for one in self._sites.values() if one.latest is None or one.latest.at != at]
        if not due:
            return
        kept = [site for site in due if site.window is not None]
        large = [site for site in due if site.window is None]
        if kept:
            await self._move_windows(store, at, kept)
        if large:
            answer = await store.activity(at, [site.site_id for site in large])
            for site, activity in zip(large, answer.rows, strict=True):
                site.hand_over(activity)
        self.metrics.ticks.inc()

    async def _move_windows(self, store: EventStore, at: datetime, sites: Sequence[_Site]) -> None:
        second = int(at.timestamp())
        for site in sites:
            if second < site.known.at:
                # The clock was put back, and a window moves on only.
                site.start_over()
        answer = await store.activity_changes(at, [site.known for site in sites])
        arrival = last_arrival(answer.watermark.position) if answer.watermark else -1
        # Not in the event loop: the first time, a window takes in five minutes at once.
        activities = await asyncio.to_thread(_move, sites, second, answer.rows)
        for site, activity in zip(sites, activities, strict=True):
            site.arrival = arrival
            site.hand_over(activity)
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        """Give up the largest windows when all of them take too much memory."""
        windows = {
            site.site_id: site.window.entries for site in self._sites.values() if site.window
        }
        excess = sum(windows.values()) - self.most_entries
        for site_id in sorted(windows, key=lambda one: windows[one], reverse=True):
            if excess <= 0:
                return
            excess -= windows[site_id]
            self._sites[site_id].window = None


def _move(
    sites: Sequence[_Site], second: int, changes: Sequence[ActivityChanges]
) -> list[Activity]:
    moved = []
    for site, of_site in zip(sites, changes, strict=True):
        assert site.window is not None  # only sites with one are asked for changes
        moved.append(site.window.move(second, of_site))
    return moved


def _whole_second(now: datetime) -> datetime:
    return now.replace(microsecond=0)
