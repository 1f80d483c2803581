"""An open copy, what feeds it, and runs of it whose files stay for the test to read."""

import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from data.duckdb.store import DuckDBStore, open_copy
from data.events import Event
from data.exports.files import Part, open_parts
from data.exports.layout import Layout, Selection
from data.exports.orders import RunOrder
from data.exports.tally import Proof, Tally
from tests.data.duckdb.examples import LEDGER, Feed

BEGUN = datetime(2026, 3, 5, 23, 59, 58, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a run, kept, and what it said of itself."""

    parts: Sequence[Part]
    tally: Tally


@dataclass(slots=True)
class Exporter:
    """A copy with its feed, and runs over it."""

    store: DuckDBStore
    feed: Feed
    folder: Path
    kept: Path

    async def write(self, layout: Layout, selection: Selection | None = None) -> Written:
        """The files of a run over everything that was fed of a site, or of a selection."""
        chosen = selection or Selection("site", 0, self.feed.position)
        order = RunOrder(uuid4(), BEGUN, chosen, layout)
        target = self.kept / str(order.run_id)
        target.mkdir(parents=True)
        found = []
        async with open_parts(lambda: self.store, order, self.folder) as parts:
            async for part in parts:
                kept = target / part.path.name
                shutil.copy(part.path, kept)
                found.append(replace(part, path=kept))
        return Written(found, parts.tally)


def proof_of(events: Sequence[Event]) -> Proof:
    """What anybody finds out from events."""
    return sum((Proof(1, UUID(str(event.event_id)).int) for event in events), start=Proof())


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    """An empty copy to feed, and to export from."""
    copy = tmp_path / "slot" / "copy.duckdb"
    copy.parent.mkdir()
    async with open_copy(copy, ledger_id=LEDGER, memory_limit="256MB") as store:
        yield Exporter(store, Feed(store, copy.parent), copy.parent / "exports", tmp_path / "kept")
