"""Live events: what the columnar copy has got since, for everyone who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from weakref import WeakSet

from data.background import Loop
from data.columnar import ColumnarCopy
from data.event_store import StoreUnavailable
from data.events import StoredEvent
from data.live_streams import EventStream
from data.queries import EventFilter, NewEventsQuery, last_arrival
from telemetry.metrics import LiveMetrics


@dataclass(frozen=True, slots=True)
class EventBounds:
    """How much is read at once, and how much waits for a slow reader.

    Events become Python objects by pages; readers have their turn between two of them, so that
    a large slice overruns nobody who keeps up. A statement reads for so many feeds, and takes half
    a millisecond of CPU time for each: `rest` is how much longer than a reading the pause after it
    is, up to a limit, so that many feeds make live events later and little else slower.
    """

    most_waiting: int = 10_000
    page_events: int = 2_000
    feeds_of_statement: int = 50
    rest: float = 4.0
    most_rest_seconds: float = 0.5
    retry_seconds: float = 1.0


@dataclass(slots=True, eq=False)
class _Feed:
    """All streams of one site and filter, which have got everything up to the place `seen`."""

    site_id: str
    filter: EventFilter
    seen: int
    streams: WeakSet[EventStream] = field(default_factory=WeakSet)

    @property
    def query(self) -> NewEventsQuery:
        return NewEventsQuery(self.site_id, self.filter, self.seen)

    def hand_over(self, events: Sequence[StoredEvent], through: int) -> None:
        # A copy that is being built anew holds less than the one before it.
        self.seen = max(self.seen, through)
        if events:
            for stream in self.streams:
                stream.hand_over(events)

    def start_behind(self, arrival: int) -> None:
        self.seen = arrival
        for stream in self.streams:
            stream.start_behind(arrival)


@dataclass(slots=True, eq=False)
class LiveEvents:
    """Reads what is new once for each site and filter that somebody waits for.

    It is a `data.follower.Listener`. A place in the order of arrival belongs to the ledger and
    not to a copy of it, so another copy neither repeats an event nor leaves one out.
    """

    copy: ColumnarCopy
    metrics: LiveMetrics
    bounds: EventBounds = field(default_factory=EventBounds)
    _feeds: dict[tuple[str, EventFilter], _Feed] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _history: int = 0
    _rest: float = 0.0

    def __len__(self) -> int:
        """How many streams are read now."""
        return sum(len(feed.streams) for feed in self._feeds.values())

    def subscribe(self, site_id: str, wanted: EventFilter, newest: int) -> EventStream:
        """A stream of the events in batches behind the position `newest`; close it at the end."""
        after = last_arrival(newest)
        feed = self._feeds.get((site_id, wanted))
        if feed is None or not feed.streams:
            # One that nobody reads any more may be far behind.
            feed = self._feeds[site_id, wanted] = _Feed(site_id, wanted, after)
        stream = EventStream(
            feed.streams.discard, after, self.bounds.most_waiting, self.metrics.dropped_events.inc
        )
        feed.streams.add(stream)
        # What was committed a moment ago may be in the copy already.
        self._changed.set()
        return stream

    def followed(self) -> None:
        """The copy holds more than before, or is another one."""
        self._changed.set()

    def turned_back(self, newest: int) -> None:
        """The ledger has another history: go on behind its end."""
        self._history += 1
        for feed in self._feeds.values():
            feed.start_behind(last_arrival(newest))

    def reading(self) -> Loop:
        """What hands out whatever is new."""
        return Loop(
            "live.events",
            self._hand_out,
            pause=lambda: min(self._rest, self.bounds.most_rest_seconds),
            retry=self.bounds.retry_seconds,
            expected=(StoreUnavailable,),
        )

    async def _hand_out(self) -> None:
        """Wait for something new, and hand it out."""
        await self._changed.wait()
        self._changed.clear()
        started = perf_counter()
        try:
            await self._read()
        except Exception:
            # The next round need not wait for more of it.
            self._changed.set()
            raise
        self._rest = self.bounds.rest * (perf_counter() - started)

    def end(self) -> None:
        """End all streams."""
        for feed in self._feeds.values():
            for stream in list(feed.streams):
                stream.close()
        self._feeds.clear()

    async def _read(self) -> None:
        waiting = True
        while waiting:
            self._leave_abandoned()
            feeds = list(self._feeds.values())
            size = self.bounds.feeds_of_statement
            groups = [feeds[start : start + size] for start in range(0, len(feeds), size)]
            waiting = not all([await self._read_group(group) for group in groups])

    def _leave_abandoned(self) -> None:
        for key, feed in list(self._feeds.items()):
            if not feed.streams:
                del self._feeds[key]

    async def _read_group(self, feeds: Sequence[_Feed]) -> bool:
        """Hand out a page of what is new; whether that was all."""
        try:
            return await self._read_page(feeds)
        except StoreUnavailable:
            # Raises if it is not the question that is wrong.
            await self.copy.store.watermark()
        return all([await self._read_alone(feed) for feed in feeds])

    async def _read_page(self, feeds: Sequence[_Feed]) -> bool:
        history = self._history
        queries = [feed.query for feed in feeds]
        page = await self.copy.store.new_events(queries, self.bounds.page_events)
        if history != self._history:
            return False
        for feed, events in zip(feeds, page.rows, strict=True):
            feed.hand_over(events, page.through)
        return page.is_all

    async def _read_alone(self, feed: _Feed) -> bool:
        """A filter that the store cannot work with silences nobody but those who wait for it."""
        try:
            return await self._read_page([feed])
        except StoreUnavailable as error:
            key = (feed.site_id, feed.filter)
            # Not one that took its place meanwhile, for readers who came later.
            if self._feeds.get(key) is feed:
                del self._feeds[key]
            for stream in feed.streams:
                stream.fail(error)
            return True
