"""An open, empty columnar copy, and what feeds it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from data.duckdb.store import DuckDBStore, open_copy
from tests.data.duckdb.examples import LEDGER, Feed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the copy is."""
    return tmp_path / "copy.duckdb"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[DuckDBStore]:
    """An open, empty copy."""
    async with open_copy(path, ledger_id=LEDGER, memory_limit="256MB") as opened:
        yield opened


@pytest.fixture
def feed(store: DuckDBStore, tmp_path: Path) -> Feed:
    """Brings events into the copy: `await feed(event, event)`."""
    return Feed(store, tmp_path)
