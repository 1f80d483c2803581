"""What `append` takes and says against plain Python, for groups with ids that come again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection, RejectionCode
from data.postgres.append import append, make_partitions_ahead
from data.postgres.embedded import EmbeddedPostgres
from data.postgres.engine import WRITER
from tests.fixtures.ledger import Database, engine_of, new_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
texts = st.none() | st.just("") | words
ids = st.integers(0, 12).map(lambda n: UUID(int=n))
events = st.builds(
    Event,
    event_id=ids,
    site_id=st.sampled_from(["shop", "blog"]),
    event_type=words,
    occurred_at=st.datetimes(
        datetime(1970, 1, 1),
        datetime(2100, 1, 1),
        timezones=st.just(UTC),
    ),
    received_at=st.just(NOW),
    user_id=texts,
    visitor_id=texts,
    session_id=texts,
    url=texts,
    path=texts,
    referrer=texts,
    properties=st.sampled_from([None, "{}", '{"a": 1.10, "b": "\\u00e9"}', '{ "a":1e400 }']),
)
rejections = st.builds(
    Rejection,
    site_id=st.sampled_from(["shop", "blog"]),
    event_id=st.none() | ids,
    code=st.sampled_from(RejectionCode),
    message=words,
    payload=st.just("{}"),
    payload_bytes=st.integers(0, 9),
    received_at=st.just(NOW),
)
groups = st.tuples(st.lists(events, max_size=30), st.lists(rejections, max_size=3))


@dataclass(slots=True)
class Expected:
    """A ledger that is a list."""

    stored: list[tuple[int, int, Event]]
    rejected: list[Rejection]
    position: int = 0

    def append(self, group: list[Event], refused: list[Rejection]) -> tuple[list[bool], int | None]:
        known = {(one.event_id, one.site_id) for _, _, one in self.stored}
        fresh = []
        for ordinal, one in enumerate(group):
            fresh.append((one.event_id, one.site_id) not in known)
            if fresh[-1]:
                known.add((one.event_id, one.site_id))
                self.stored.append((self.position + 1, ordinal, one))
        self.rejected += refused
        self.position += any(fresh)
        return fresh, self.position if any(fresh) else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    async with new_database(postgres) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def appending(ledger: Database) -> AsyncIterator[AsyncEngine]:
    async with engine_of(ledger, WRITER) as engine:
        await make_partitions_ahead(engine, NOW)
        yield engine


@given(st.lists(groups, min_size=1, max_size=4))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_every_group_is_stored_as_a_list_would_store_it(
    ledger: Database,
    appending: AsyncEngine,
    sent: list[tuple[list[Event], list[Rejection]]],
) -> None:
    looking = await ledger.connect()
    await looking.execute("truncate events, event_ids, ingest_batches, rejected_events")
    expected = Expected([], [])

    for group, refused in sent:
        appended = await append(appending, group, refused)
        assert (appended.fresh, appended.position) == expected.append(group, refused)

    stored = await looking.fetch(
        "select position, ordinal, e.* from events e join ingest_batches using (batch_id)"
        " order by position, ordinal"
    )
    rejected = await looking.fetch("select * from rejected_events order by rejected_id")
    counted = await looking.fetchval("select coalesce(sum(events), 0) from ingest_batches")
    await looking.close()
    fields = Event.__struct_fields__
    assert [
        (row["position"], row["ordinal"], *(row[name] for name in fields)) for row in stored
    ] == [
        (position, ordinal, *(getattr(one, name) for name in fields))
        for position, ordinal, one in expected.stored
    ]
    names = Rejection.__struct_fields__
    assert [tuple(row[name] for name in names) for row in rejected] == [
        tuple(getattr(one, name) for name in names) for one in expected.rejected
    ]
    assert counted == len(expected.stored)
