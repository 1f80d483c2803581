"""The view of daily users against plain Python and against the columnar copy, on random events.

Events come in several commits, late ones and ones that are sent twice among them; between the
commits the view is brought forward, now to the end and now only a slice further.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import DateRange
from data.duckdb.store import DuckDBStore, open_copy
from data.events import Event, StoredEvent
from data.follower import fetch_slice
from data.postgres.actor_days import Effort, advance
from data.postgres.append import append, make_partitions
from data.postgres.daily_users import DaysAsked, daily_users
from data.postgres.embedded import EmbeddedPostgres
from data.queries import ActiveUsersQuery, Scope
from tests import oracle
from tests.fixtures.ledger import TEMPLATE, Database, engine_of
from tests.slices import stored_event
from tests.strategies import SITES, Scene, draw_range, draw_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Stage:
    """A ledger with its view, and a columnar copy of it; each example has sites of its own."""

    writer: AsyncEngine
    reader: AsyncEngine
    copy: DuckDBStore
    folder: Path
    examples: int = 0
    kept: dict[int, list[StoredEvent]] = field(default_factory=dict)

    async def make_sites(self, zones: Sequence[str]) -> None:
        """The two sites of an example, each with a clock."""
        self.examples += 1
        async with self.writer.begin() as connection:
            for site, zone in zip(SITES, zones, strict=True):
                await connection.exec_driver_sql(
                    "insert into sites values ($1, $1, $2, 'MONDAY', '{}', now())",
                    (self.site(site), zone),
                )

    def site(self, site_id: str) -> str:
        return f"{site_id}-{self.examples}"

    async def commit(self, events: Sequence[Event]) -> None:
        """Append a batch; what was new of it is kept under its position."""
        batch = [
            msgspec.structs.replace(
                event,
                site_id=self.site(event.site_id),
                received_at=NOW,
            )
            for event in events
        ]
        appended = await append(self.writer, batch, [])
        if appended.position is not None:
            self.kept[appended.position] = [
                stored_event(event, appended.position * 65_536 + ordinal)
                for ordinal, (event, fresh) in enumerate(zip(batch, appended.fresh, strict=True))
                if fresh
            ]

    def up_to(self, position: int) -> list[StoredEvent]:
        """What the ledger holds of this example's sites up to a position."""
        own = {self.site(site) for site in SITES}
        return [
            event
            for at, events in self.kept.items()
            for event in events
            if at <= position and event.site_id in own
        ]

    async def follow(self) -> int:
        """Bring the copy up to the end; the position."""
        while True:
            watermark = await self.copy.watermark()
            position = watermark.position if watermark else 0
            rows = self.folder / "slice.csv"
            piece = await fetch_slice(self.reader, position, rows)
            if piece is None:
                return position
            await self.copy.apply(rows, piece.events, piece.last)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    database = Database(postgres, f"test_{uuid4().hex}")
    admin = await database.server_connection()
    await admin.execute(f"create database {database.name} template {TEMPLATE}")
    folder = tmp_path_factory.mktemp("copy")
    async with (
        engine_of(database, "footfall_writer") as writer,
        engine_of(database, "replica_user") as reader,
        open_copy(folder / "copy.duckdb", ledger_id="this") as copy,
    ):
        await make_partitions(writer, NOW.date(), NOW.date())
        yield Stage(writer, reader, copy, folder)
    await admin.execute(f"drop database {database.name} with (force)")
    await admin.close()


@st.composite
def histories(draw: st.DrawFn) -> tuple[Scene, random.Random]:
    chance = draw(st.randoms(use_true_random=False))
    return draw_scene(chance), chance


@given(history=histories())
@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=settings.default.max_examples if settings.default else 50,
)
async def test_the_view_says_what_plain_python_says_of_the_position_that_it_names(
    stage: Stage, history: tuple[Scene, random.Random]
) -> None:
    scene, chance = history
    zones = {"left": scene.zone, "right": chance.choice((scene.zone, ZoneInfo("UTC")))}
    await stage.make_sites([zones[site].key for site in SITES])
    sent: list[Event] = []
    for batch in (batch for piece in scene.slices for batch in piece):
        again = chance.sample(sent, min(len(sent), chance.choice((0, 0, 2))))
        await stage.commit([*batch.events, *again])
        sent += batch.events
        if chance.choice((True, False)):
            effort = Effort(chance.choice((1, 3, 20_000)), seconds=chance.choice((0, 60)), rest=0)
            await advance(stage.writer, effort)
            await require_the_same(stage, zones, [draw_range(chance, scene) for _ in range(3)])
    done = await advance(stage.writer, Effort(rest=0))

    assert done is not None
    assert done.is_complete
    assert done.position == max(stage.kept)
    assert await stage.follow() == done.position
    await require_every_row(stage, zones)
    asked = questions(stage, zones, [draw_range(chance, scene) for _ in range(3)])
    by_view = await daily_users(stage.reader, asked)
    by_copy = await stage.copy.active_users(
        [ActiveUsersQuery(Scope(one.site_id, one.days, ZoneInfo(one.timezone))) for one in asked]
    )
    assert by_copy.watermark is not None
    assert by_copy.watermark.position == done.position
    assert [answer.rows if answer else None for answer in by_view] == list(by_copy.rows)


def questions(
    stage: Stage, zones: dict[str, ZoneInfo], ranges: Sequence[DateRange]
) -> list[DaysAsked]:
    return [DaysAsked(stage.site(site), days, zones[site].key) for site in SITES for days in ranges]


async def require_the_same(
    stage: Stage, zones: dict[str, ZoneInfo], ranges: Sequence[DateRange]
) -> None:
    """What the view answers must be what plain Python finds in the events up to its position."""
    asked = questions(stage, zones, ranges)
    for one, answer in zip(asked, await daily_users(stage.reader, asked), strict=True):
        assert answer is not None
        scope = Scope(one.site_id, one.days, ZoneInfo(one.timezone))
        expected = oracle.active_users(stage.up_to(answer.position), ActiveUsersQuery(scope))
        assert answer.rows == expected


async def require_every_row(stage: Stage, zones: dict[str, ZoneInfo]) -> None:
    """As SQL users read it: each day of each site on which somebody was active, and no other."""
    actors: dict[tuple[str, date], set[str]] = defaultdict(set)
    for event in stage.up_to(max(stage.kept)):
        if (actor := oracle.actor_of(event)) is not None:
            zone = zones[event.site_id.split("-")[0]]
            actors[event.site_id, oracle.day_of(event, zone)].add(actor)
    async with stage.reader.connect() as connection:
        rows = await connection.exec_driver_sql(
            "select site_id, day, users from daily_active_users where site_id = any($1)",
            ([stage.site(site) for site in SITES],),
        )
        found = {(row.site_id, row.day): row.users for row in rows}
    assert found == {key: len(who) for key, who in actors.items()}
