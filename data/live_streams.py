"""What a live subscription reads: an async iterator that is handed things and may be left."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from data.events import StoredEvent
from data.queries import Activity

Item = TypeVar("Item")

# So many items are read without a pause; then other work gets its turn.
_IN_A_ROW = 32


class Stream(AsyncGenerator[Item, None], Generic[Item]):
    """Items for one reader, in a bounded place: handing one over never waits for the reader.

    It has a generator's methods, so that whoever closes generators closes it. It is registered
    from the moment at which it is made; the registers hold it weakly, as a generator around it
    that is thrown away before its first step never closes what it reads.
    """

    def __init__(self, leave: Callable[[Any], object]) -> None:
        self._leave = leave
        self._arrived = asyncio.Event()
        self._closed = False
        self._failure: Exception | None = None
        self._in_a_row = 0

    @abstractmethod
    def _taken(self) -> Item | None:
        """The next item, taken out; None if there is none now."""

    @abstractmethod
    def _forget(self) -> None:
        """Throw away what waits."""

    async def __anext__(self) -> Item:
        self._in_a_row += 1
        if self._in_a_row > _IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        while True:
            if self._closed:
                raise StopAsyncIteration
            if (item := self._taken()) is not None:
                return item
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            self._in_a_row = 0
            await self._arrived.wait()

    def fail(self, failure: Exception) -> None:
        """Let the reader have what waits, and then this error."""
        self._failure = failure
        self._arrived.set()

    def close(self) -> None:
        """Leave: nothing more is handed over, and a reader that waits stops."""
        self._closed = True
        self._leave(self)
        self._forget()
        self._arrived.set()

    async def asend(self, value: None) -> Item:  # noqa: ARG002 - what is sent says nothing
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Item:
        self.close()
        if isinstance(typ, BaseException):
            raise typ
        raise cast("BaseException", typ() if val is None else val).with_traceback(tb)

    async def aclose(self) -> None:
        self.close()


class EventStream(Stream[StoredEvent]):
    """Events in order of arrival, those behind the place `after`.

    At most `most_waiting` wait for the reader. When there are more the oldest are dropped, and
    `missed` says how many that were by the event that was read last.
    """

    def __init__(
        self,
        leave: Callable[[EventStream], object],
        after: int,
        most_waiting: int,
        on_drop: Callable[[int], object],
    ) -> None:
        super().__init__(leave)
        self.missed = 0
        self.waiting = 0
        self._after = after
        self._most_waiting = most_waiting
        self._on_drop = on_drop
        # Events as they were handed over, shared with all other streams; those of the first
        # portion before the place `_read` are gone. So a portion costs each stream the same.
        self._portions: deque[Sequence[StoredEvent]] = deque()
        self._read = 0
        self._dropped = 0

    def hand_over(self, events: Sequence[StoredEvent]) -> None:
        """Add events, which are in order of arrival and behind those of the last time."""
        if events and events[0].arrival <= self._after:
            events = [event for event in events if event.arrival > self._after]
        if not events:
            return
        self._portions.append(events)
        self.waiting += len(events)
        dropped = max(0, self.waiting - self._most_waiting)
        if dropped:
            self._leave_out(dropped)
            self._dropped += dropped
            self._on_drop(dropped)
        self._arrived.set()

    def start_behind(self, arrival: int) -> None:
        """Wait for what stands behind another place from now on."""
        self._after = arrival

    def _taken(self) -> StoredEvent | None:
        if not self.waiting:
            return None
        event = self._portions[0][self._read]
        self._leave_out(1)
        self.missed += self._dropped
        self._dropped = 0
        return event

    def _leave_out(self, number: int) -> None:
        """Let go of the oldest events."""
        self.waiting -= number
        self._read += number
        while self._portions and self._read >= len(self._portions[0]):
            self._read -= len(self._portions.popleft())

    def _forget(self) -> None:
        self._portions.clear()
        self.waiting = self._read = 0


class ActivityStream(Stream[Activity]):
    """The latest value; one that was not read when the next came is replaced by it."""

    def __init__(self, leave: Callable[[ActivityStream], object]) -> None:
        super().__init__(leave)
        self._latest: Activity | None = None

    def hand_over(self, activity: Activity) -> None:
        """Let this be the value to read."""
        self._latest = activity
        self._arrived.set()

    def _taken(self) -> Activity | None:
        latest, self._latest = self._latest, None
        return latest

    def _forget(self) -> None:
        self._latest = None
