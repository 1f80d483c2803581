"""What a process keeps of the entries that it has queued, until it is known that they left."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from data.redis.queue import QueueState
from telemetry.queue_metrics import QueueMetrics

MOST_BYTES = 64 * 1024 * 1024
# What an entry takes beside its content.
_ENTRY_BYTES = 250


@dataclass(frozen=True, slots=True)
class HeldEntry:
    """An entry of the queue: its events, and its content."""

    events: int
    content: bytes


@dataclass(slots=True)
class Held:
    """Entries of one stream in the order in which they were queued, in `most_bytes` of memory.

    Those that find no room are counted in `bare_events`: Redis alone has them.
    """

    metrics: QueueMetrics
    most_bytes: int = MOST_BYTES
    token: bytes = b""
    bare_events: int = 0
    _entries: OrderedDict[bytes, HeldEntry] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _last_bare: bytes = b""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry_id: bytes) -> bool:
        return entry_id in self._entries

    @property
    def ids(self) -> list[bytes]:
        """The ids of all entries."""
        return list(self._entries)

    def add(self, entry_id: bytes, entry: HeldEntry) -> None:
        """Keep an entry that was queued just now."""
        if self._bytes + len(entry.content) + _ENTRY_BYTES > self.most_bytes:
            self.bare_events += entry.events
            self._last_bare = entry_id
        else:
            self._entries[entry_id] = entry
            self._bytes += len(entry.content) + _ENTRY_BYTES
        self._tell()

    def release(self, state: QueueState) -> None:
        """Let go of what has left the stream. Only for a state of the stream that is meant."""
        while self._entries and state.is_gone(next(iter(self._entries))):
            _, entry = self._entries.popitem(last=False)
            self._bytes -= len(entry.content) + _ENTRY_BYTES
        if self._last_bare and state.is_gone(self._last_bare):
            self.bare_events, self._last_bare = 0, b""
        self._tell()

    def get(self, entry_id: bytes) -> HeldEntry:
        """An entry that is kept."""
        return self._entries[entry_id]

    def forget(self, entry_id: bytes) -> None:
        """Let go of an entry that is safe elsewhere."""
        entry = self._entries.pop(entry_id, None)
        if entry is not None:
            self._bytes -= len(entry.content) + _ENTRY_BYTES
        self._tell()

    def _tell(self) -> None:
        self.metrics.held_bytes.set(self._bytes)
        self.metrics.bare_events.set(self.bare_events)
