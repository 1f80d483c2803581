"""What tests of fetches share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from data.outbound.client import open_outbound
from data.sources.fetch import Pace, fetch, request_headers
from data.sources.fetched import Fetched, FetchFailed, Progress, Unchanged, Validators
from data.sources.source import Source

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# As in production, but for the waits between tries.
QUICK = Pace(first_wait=0.01, most_between=0.05)


async def fetched(
    source: Source,
    *,
    secrets: Mapping[str, str] | None = None,
    validators: Validators | None = None,
    progress: Progress | None = None,
    pace: Pace = QUICK,
) -> Fetched | Unchanged:
    """One fetch, as a process that may call this machine makes it."""
    headers = request_headers(source, secrets or {})
    async with open_outbound(allow_private=True) as outbound:
        return await fetch(
            outbound, source, headers, validators, progress or Progress(), NOW, pace=pace
        )


async def failure(source: Source, **more: Any) -> FetchFailed:
    """How a fetch that has to fail does."""
    with pytest.raises(FetchFailed) as failed:
        await fetched(source, **more)
    return failed.value


async def contents(source: Source, **more: Any) -> dict[str, Any]:
    """The records of a fetch that succeeds, by id."""
    result = await fetched(source, **more)
    assert isinstance(result, Fetched)
    return {key: msgspec.json.decode(record.data) for key, record in result.records.items()}
