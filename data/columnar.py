"""The columnar copy on disk: which file is the current one, and changing it for a new one.

Each process that answers reports keeps a copy of its own in a slot (`data/slots.py`). The copy is
disposable: one that cannot be used is thrown away and built anew from the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from data.duckdb.copy_file import CopyUnusable, remove_copy
from data.duckdb.runner import OnQuery, QueryOutcome
from data.duckdb.store import DuckDBStore, open_copy
from telemetry.metrics import Metrics

log = structlog.get_logger()


@dataclass(slots=True)
class _Generation:
    store: DuckDBStore
    closing: AsyncExitStack
    path: Path


@dataclass(slots=True)
class ColumnarCopy:
    """The current copy of one process. Ask `store` anew for every question: it may change."""

    slot: Path
    ledger_id: str
    on_query: OnQuery
    # Told when another copy has taken the place of one that answered.
    on_replaced: Callable[[], None] = lambda: None
    _current: _Generation | None = None
    _retired: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def store(self) -> DuckDBStore:
        """The copy that answers now."""
        assert self._current is not None  # open_columnar opens one before anybody can ask
        return self._current.store

    async def open_current(self) -> str | None:
        """Open the copy that the last process left; the reason if a new one had to be made."""
        number = self._pointer()
        for path in self.slot.glob("copy-*.duckdb"):
            if path.name != f"copy-{number}.duckdb":
                remove_copy(path)
        try:
            self._current = await self._open(number)
        except CopyUnusable as unusable:
            log.warning("columnar.copy.unusable", reason=unusable.reason, detail=str(unusable))
            await self.start_over()
            return unusable.reason
        return None

    async def start_over(self) -> None:
        """Answer from a new, empty copy from now on."""
        async with self.building() as generation:
            await self.replace_with(generation)

    def _free_number(self) -> int:
        """A number that no copy has, be it the current one or one that is being built."""
        names = (path.stem.removeprefix("copy-") for path in self.slot.glob("copy-*.duckdb"))
        return 1 + max([self._pointer(), *(int(name) for name in names if name.isdigit())])

    @asynccontextmanager
    async def building(self) -> AsyncIterator[_Generation]:
        """A new, empty copy beside the current one; it is deleted unless it takes its place."""
        number = self._free_number()
        generation = await self._open(number)
        try:
            yield generation
        finally:
            if self._current is not generation:
                await _discard(generation)

    async def replace_with(self, generation: _Generation) -> None:
        """Answer from another copy; the old one goes when its last question is answered."""
        self._point_to(int(generation.path.stem.removeprefix("copy-")))
        old, self._current = self._current, generation
        if old is not None:
            retiring = asyncio.create_task(_discard(old))
            self._retired.add(retiring)
            retiring.add_done_callback(self._retired.discard)
            self.on_replaced()

    async def close(self) -> None:
        """Close the current copy and wait for those that it replaced."""
        await asyncio.gather(*self._retired, return_exceptions=True)
        if self._current is not None:
            await self._current.closing.aclose()

    async def _open(self, number: int) -> _Generation:
        path = self.slot / f"copy-{number}.duckdb"
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(
                open_copy(path, ledger_id=self.ledger_id, on_query=self.on_query)
            )
            return _Generation(store, stack.pop_all(), path)
        raise AssertionError("unreachable")  # the stack swallows nothing

    def _pointer(self) -> int:
        try:
            return int((self.slot / "current").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return 0

    def _point_to(self, number: int) -> None:
        draft = self.slot / "current.new"
        draft.write_text(str(number), encoding="ascii")
        draft.replace(self.slot / "current")


async def _discard(generation: _Generation) -> None:
    await generation.closing.aclose()
    remove_copy(generation.path)


@asynccontextmanager
async def open_columnar(
    slot: Path, *, ledger_id: str, metrics: Metrics
) -> AsyncIterator[ColumnarCopy]:
    """The columnar copy of a slot, opened or newly made."""

    def on_query(name: str, seconds: float, outcome: QueryOutcome) -> None:
        metrics.store.query_seconds.labels(name).observe(seconds)
        if outcome == "failed":
            metrics.store.failures.labels(name).inc()
        elif outcome == "interrupted":
            metrics.store.interruptions.labels(name).inc()

    copy = ColumnarCopy(slot, ledger_id, on_query)
    reason = await copy.open_current()
    if reason is not None:
        metrics.follow.rebuilds.labels(reason).inc()
    try:
        yield copy
    finally:
        await copy.close()
