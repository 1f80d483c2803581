"""Every report of the columnar copy against plain Python, on random events and questions.

One copy takes the events of all examples; each example has sites of its own, so what it finds
is also a proof that sites don't meet.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings

from data.duckdb.store import DuckDBStore, open_copy
from data.events import StoredEvent
from data.queries import (
    ActiveUsersQuery,
    EventCountsQuery,
    EventRows,
    EventsQuery,
    Place,
    RetentionQuery,
    TopEventsQuery,
    Watermark,
)
from tests import oracle
from tests.slices import EPOCH, Batch, stored, write_slice
from tests.strategies import (
    Scene,
    cases,
    draw_active_users,
    draw_event_counts,
    draw_events,
    draw_filtered_events,
    draw_retention,
    draw_top_events,
    mixed_cases,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What the profile says, or three times that: an example is small, and there is much to combine.
# Making one takes milliseconds, but who knows how busy the machine is.
some = settings(suppress_health_check=[HealthCheck.too_slow])
many = settings(some, max_examples=3 * some.max_examples)

ScopedQuery = TypeVar(
    "ScopedQuery", ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery
)


@dataclass
class Copy:
    """An open columnar copy that remembers how far it was fed."""

    store: DuckDBStore
    folder: Path
    position: int = 0
    examples: int = 0
    watermark: Watermark | None = None

    async def take(self, slices: Sequence[Sequence[Batch]]) -> list[StoredEvent]:
        """Apply slices one after another; all their events as they must be read back."""
        for piece in slices:
            path = self.folder / "slice.csv"
            rows = write_slice(path, piece)
            self.position = piece[-1].position
            self.watermark = Watermark(
                self.position,
                self.position + 1_000_000,
                EPOCH + timedelta(seconds=self.position, microseconds=1),
            )
            await self.store.apply(path, rows, self.watermark)
        return stored(batch for piece in slices for batch in piece)


@dataclass(frozen=True)
class Stage:
    """A scene put into a copy: its sites have other names there, its batches later places."""

    number: int
    first_position: int

    def site(self, site_id: str) -> str:
        return f"{site_id}-{self.number}"

    def slices(self, scene: Scene) -> list[list[Batch]]:
        return [
            [
                Batch(
                    self.first_position + batch.position,
                    [
                        msgspec.structs.replace(event, site_id=self.site(event.site_id))
                        for event in batch.events
                    ],
                )
                for batch in piece
            ]
            for piece in scene.slices
        ]

    def scoped(self, query: ScopedQuery) -> ScopedQuery:
        return replace(query, scope=replace(query.scope, site_id=self.site(query.scope.site_id)))

    def page(self, query: EventsQuery) -> EventsQuery:
        after = query.after and Place(
            query.after.occurred_at, query.after.arrival + self.first_position * 65536
        )
        return replace(query, site_id=self.site(query.site_id), after=after)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def copy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Copy]:
    folder = tmp_path_factory.mktemp("copy")
    async with open_copy(
        folder / "copy.duckdb", ledger_id="test", memory_limit="1GB", threads=2
    ) as store:
        yield Copy(store, folder)


def stage(copy: Copy) -> Stage:
    copy.examples += 1
    return Stage(copy.examples, copy.position)


async def put(copy: Copy, scene: Scene) -> tuple[Stage, list[StoredEvent]]:
    here = stage(copy)
    return here, await copy.take(here.slices(scene))


@many
@given(
    case=cases(
        draw_active_users, lambda events, query: bool(oracle.active_users(events, query).users)
    )
)
async def test_active_users(copy: Copy, case: tuple[Scene, list[ActiveUsersQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.scoped(query) for query in case[1]]

    answer = await copy.store.active_users(queries)

    assert list(answer.rows) == [oracle.active_users(events, query) for query in queries]
    assert answer.watermark == copy.watermark


@many
@given(
    case=cases(draw_top_events, lambda events, query: bool(oracle.top_events(events, query).total))
)
async def test_top_events(copy: Copy, case: tuple[Scene, list[TopEventsQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.scoped(query) for query in case[1]]

    answer = await copy.store.top_events(queries)

    assert list(answer.rows) == [oracle.top_events(events, query) for query in queries]
    assert answer.watermark == copy.watermark


@many
@given(
    case=cases(
        draw_event_counts, lambda events, query: bool(oracle.event_counts(events, query).total)
    )
)
async def test_event_counts(copy: Copy, case: tuple[Scene, list[EventCountsQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.scoped(query) for query in case[1]]

    answer = await copy.store.event_counts(queries)

    assert list(answer.rows) == [oracle.event_counts(events, query) for query in queries]
    assert answer.watermark == copy.watermark


@many
@given(
    case=cases(
        draw_retention,
        lambda events, query: bool(oracle.retention(events, query).returned),
    )
)
async def test_retention(copy: Copy, case: tuple[Scene, list[RetentionQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.scoped(query) for query in case[1]]

    answer = await copy.store.retention(queries)

    assert list(answer.rows) == [oracle.retention(events, query) for query in queries]
    assert answer.watermark == copy.watermark


def spelled_out(pages: Sequence[EventRows]) -> list[list[tuple[StoredEvent, str]]]:
    """Events with the JSON text of their properties: in Python 1, 1.0 and True are equal."""
    return [[(event, json.dumps(event.properties)) for event in page] for page in pages]


@many
@given(case=cases(draw_events, lambda events, query: bool(oracle.events_page(events, query))))
async def test_events(copy: Copy, case: tuple[Scene, list[EventsQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.page(query) for query in case[1]]

    answer = await copy.store.events(queries)

    expected = [oracle.events_page(events, query) for query in queries]
    assert spelled_out(answer.rows) == spelled_out(expected)
    assert answer.watermark == copy.watermark


def splits(events: Sequence[StoredEvent], query: EventsQuery) -> bool:
    """Whether some of the events pass and some do not."""
    return len({oracle.holds(event, query.filter) for event in events}) > 1


@many
@given(case=cases(draw_filtered_events, splits, most=8))
async def test_filters(copy: Copy, case: tuple[Scene, list[EventsQuery]]) -> None:
    here, events = await put(copy, case[0])
    queries = [here.page(query) for query in case[1]]

    answer = await copy.store.events(queries)

    assert list(answer.rows) == [oracle.events_page(events, query) for query in queries]


@some
@given(case=mixed_cases())
async def test_every_report_is_right_after_every_slice(
    copy: Copy,
    case: tuple[Scene, ActiveUsersQuery, TopEventsQuery, EventCountsQuery, RetentionQuery],
) -> None:
    here = stage(copy)
    users, top, counts, retained = (
        here.scoped(case[1]),
        here.scoped(case[2]),
        here.scoped(case[3]),
        here.scoped(case[4]),
    )
    events: list[StoredEvent] = []
    for piece in here.slices(case[0]):
        events += await copy.take([piece])

        assert list((await copy.store.active_users([users])).rows) == [
            oracle.active_users(events, users)
        ]
        assert list((await copy.store.top_events([top])).rows) == [oracle.top_events(events, top)]
        assert list((await copy.store.event_counts([counts])).rows) == [
            oracle.event_counts(events, counts)
        ]
        assert list((await copy.store.retention([retained])).rows) == [
            oracle.retention(events, retained)
        ]
    assert await copy.store.watermark() == copy.watermark


async def test_no_question_has_no_answer(copy: Copy) -> None:
    assert list((await copy.store.active_users([])).rows) == []
    assert list((await copy.store.events([])).rows) == []
