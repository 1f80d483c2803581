"""Persisted queries: texts of documents that clients may name by their SHA-256 from then on."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from telemetry.metrics import PersistedMetrics

# A longer text is not kept: whoever sends one sends it each time.
MOST_CHARACTERS = 100_000
# What an entry takes beside its text: the hash, the entry and its place in the dictionary.
_ENTRY_BYTES = 400


class PersistedQueries(Protocol):
    """Texts by their SHA-256 (64 lower hex digits). Both methods may forget, and never raise.

    A hash identifies its text, so texts are shared by all keys and sites.
    """

    async def find(self, sha256: str) -> str | None:
        """The text of a hash, or None."""

    async def keep(self, sha256: str, text: str) -> None:
        """Keep a text that was accepted; `sha256` is its hash, and the caller has checked that."""


@dataclass(slots=True)
class Kept:
    """A text at hand. `shared_at` is when others were told of it (`monotonic`)."""

    text: str
    size: int
    shared_at: float = float("-inf")


@dataclass(slots=True)
class BoundedTexts:
    """Texts in memory, of at most `most_bytes` together; the one unused for longest goes first."""

    most_bytes: int = 16 * 1024 * 1024
    _kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    _bytes: int = 0

    @property
    def size(self) -> int:
        """What all texts take, in bytes."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, sha256: str) -> Kept | None:
        """The entry of a hash, which counts as a use of it."""
        kept = self._kept.get(sha256)
        if kept is not None:
            self._kept.move_to_end(sha256)
        return kept

    def put(self, sha256: str, text: str) -> Kept:
        """The entry of a text, new or known."""
        kept = self.get(sha256)
        if kept is not None:
            return kept
        kept = self._kept[sha256] = Kept(text, sys.getsizeof(text) + _ENTRY_BYTES)
        self._bytes += kept.size
        while self._bytes > self.most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size
        return kept


@dataclass(slots=True)
class OwnPersistedQueries:
    """`PersistedQueries` of one process, in its memory."""

    metrics: PersistedMetrics
    texts: BoundedTexts = field(default_factory=BoundedTexts)

    async def find(self, sha256: str) -> str | None:
        """The text of a hash, or None."""
        kept = self.texts.get(sha256)
        self.metrics.lookups["memory" if kept else "nowhere"].inc()
        return kept.text if kept else None

    async def keep(self, sha256: str, text: str) -> None:
        """Keep a text, unless it is very long."""
        if len(text) <= MOST_CHARACTERS:
            self.texts.put(sha256, text)
