"""Reconciliation: what is broken by hand is found, told and repaired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from data.calendar import DateRange
from data.columnar import open_columnar
from data.comparison import Comparison, Extent
from data.events import Event
from data.follower import Follower, following
from data.postgres.actor_days import Effort, advance
from data.postgres.append import append
from data.postgres.daily_users import DaysAsked, daily_users
from data.postgres.engine import LedgerUnavailable, parse_url, single_use_engine
from data.postgres.feed import feed_state, ledger_id
from data.postgres.reads import ReadPace, Reads, Replica
from data.queries import ActiveUsersQuery, Scope
from data.reconciliation import DayDifference, Reconciliation
from data.slots import take_slot
from data.tallies import Tally
from telemetry.metrics import Metrics
from telemetry.view_metrics import ReconciledStore
from tests.fixtures.ledger import Database
from tests.fixtures.service import free_port

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = NOW.date()
LONG_AGO = datetime(2021, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Scene:
    """A ledger with a view, a copy that follows it, and what compares them."""

    writer: AsyncEngine
    reader: AsyncEngine
    database: Database
    follower: Follower
    reconciliation: Reconciliation
    metrics: Metrics

    async def commit(self, *events: Event) -> None:
        await append(self.writer, list(events), [])

    async def settle(self) -> None:
        """Return when view and copy hold everything."""
        await advance(self.writer, Effort(rest=0))
        newest = (await feed_state(self.writer, 0)).newest
        async with asyncio.timeout(20):
            while True:
                watermark = await self.follower.copy.store.watermark()
                held = watermark.position if watermark else 0
                if held >= newest and self.follower.is_caught_up:
                    return
                await asyncio.sleep(0.01)

    def break_copy(self, *statements: str) -> None:
        """Change the file of the copy behind its back."""
        cursor = self.follower.copy.store._runner._connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()

    async def break_view(self, *statements: str) -> None:
        """Change what lies beneath the view, and have it counted."""
        admin = await self.database.connect()
        for statement in (*statements, "select refresh_daily_active_users()"):
            await admin.execute(statement)
        await admin.close()

    async def rebuilt(self) -> None:
        """Return when the copy that was asked for is in place."""
        async with asyncio.timeout(20):
            while self.follower.is_rebuilding or not self.follower.is_caught_up:
                await asyncio.sleep(0.01)

    async def users_by_copy(self, day: date = TODAY) -> int:
        scope = Scope("shop", DateRange(day, day), ZoneInfo("UTC"))
        answer = await self.follower.copy.store.active_users([ActiveUsersQuery(scope)])
        return answer.rows[0].total

    async def users_by_view(self, day: date = TODAY) -> int | None:
        asked = DaysAsked("shop", DateRange(day, day), "UTC")
        [answer] = await daily_users(self.reader, [asked])
        return answer.rows.users.get(day, 0) if answer else None

    def differences(self, store: ReconciledStore) -> float:
        labels: dict[str, str] = {"what": store}
        value = self.metrics.registry.get_sample_value("footfall_reconcile_differences", labels)
        assert value is not None
        return value

    def repairs(self, store: ReconciledStore) -> float:
        labels: dict[str, str] = {"what": store}
        name = "footfall_reconcile_repairs_total"
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value


def event(user_id: str, at: datetime = NOW, site_id: str = "shop") -> Event:
    return Event(uuid4(), site_id, "view", at, NOW, user_id=user_id)


@asynccontextmanager
async def scene_of(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, folder: Path, extent: Extent
) -> AsyncIterator[Scene]:
    async with writer.begin() as connection:
        for site, zone in (("shop", "UTC"), ("blog", "Europe/Berlin")):
            await connection.exec_driver_sql(
                "insert into sites values ($1, $1, $2, 'MONDAY', '{}', now())", (site, zone)
            )
    metrics = Metrics.create()
    with take_slot(folder) as slot:
        identity = str(await ledger_id(writer))
        async with (
            open_columnar(slot, ledger_id=identity, metrics=metrics) as copy,
            following(Follower(copy, Reads(reader), writer, metrics.follow)) as follower,
        ):
            compared = Comparison(Reads(reader), extent)
            reconciliation = Reconciliation(follower, metrics.reconcile, compared)
            yield Scene(writer, reader, database, follower, reconciliation, metrics)


@pytest_asyncio.fixture
async def scene(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, writer, reader, tmp_path, Extent()) as made:
        await made.commit(event("ada"), event("bob"), event("ada", site_id="blog"))
        await made.commit(event("eve"), event("ada", LONG_AGO))
        await made.settle()
        yield made


async def test_stores_that_agree_are_found_to_agree(scene: Scene) -> None:
    with capture_logs() as logs:
        await scene.reconciliation.run(NOW)

    assert scene.reconciliation.differences == ()
    assert scene.reconciliation.compared_at == NOW
    assert not scene.follower.is_rebuilding
    assert [line["event"] for line in logs] == []
    value_of = scene.metrics.registry.get_sample_value
    assert value_of("footfall_reconcile_last_run_timestamp_seconds") == NOW.timestamp()
    # Three days of sites by the feed, and the same three by the view.
    assert value_of("footfall_reconcile_compared_days_total") == 6


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "delete from events where actor = 'bob'",
            DayDifference("shop", TODAY, Tally(3, 3), Tally(2, 2), 3, True, False),
        ),
        (
            "delete from events where actor = 'ada' and occurred_at < '2022-01-01'",
            DayDifference("shop", LONG_AGO.date(), Tally(1, 1), Tally(0, 0), 1, True, False),
        ),
        (
            "insert into events select * from events where actor = 'eve'",
            DayDifference("shop", TODAY, Tally(3, 3), Tally(4, 3), None, True, False),
        ),
        (
            "update events set actor = 'ada' where actor = 'bob'",
            DayDifference("shop", TODAY, Tally(3, 3), Tally(3, 2), 3, True, False),
        ),
        (
            "update events set occurred_at = occurred_at - interval 40 day where actor = 'bob'",
            DayDifference("shop", TODAY, Tally(3, 3), Tally(2, 2), 3, True, False),
        ),
    ],
)
async def test_a_copy_that_was_changed_is_told_of_and_built_anew(
    scene: Scene, statement: str, expected: DayDifference
) -> None:
    scene.break_copy(statement)

    with capture_logs() as logs:
        await scene.reconciliation.run(NOW)

    assert expected in scene.reconciliation.differences
    assert scene.differences("copy") == len(scene.reconciliation.differences)
    assert scene.differences("view") == 0
    assert scene.repairs("copy") == 1
    [line] = [line for line in logs if line["event"] == "reconcile.differences"]
    assert line["log_level"] == "warning"
    assert line["repairs"] == ["copy"]
    assert any(text.startswith(f"shop {expected.day}: users ledger") for text in line["worst"])
    await scene.rebuilt()
    await scene.reconciliation.run(NOW + MINUTE)
    assert scene.reconciliation.differences == ()
    assert scene.differences("copy") == 0
    assert (await scene.users_by_copy(), await scene.users_by_copy(LONG_AGO.date())) == (3, 1)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "delete from actor_days where actor = 'bob'",
            DayDifference("shop", TODAY, Tally(3, 3), Tally(3, 3), 2, False, True),
        ),
        (
            "insert into actor_days values ('shop', '1999-05-05', 'nobody')",
            DayDifference("shop", date(1999, 5, 5), Tally(), Tally(), 1, False, True),
        ),
        (
            "update actor_days set actor = 'bob' where day = '2021-06-01'",
            None,  # as many, but others: the view says nothing wrong
        ),
        (
            "delete from actor_days where site_id = 'blog'",
            DayDifference("blog", TODAY, Tally(1, 1), Tally(1, 1), 0, False, True),
        ),
    ],
)
async def test_a_view_that_was_changed_is_told_of_and_filled_anew(
    scene: Scene, statement: str, expected: DayDifference | None
) -> None:
    await scene.break_view(statement)

    await scene.reconciliation.run(NOW)

    assert scene.reconciliation.differences == ((expected,) if expected else ())
    assert scene.differences("view") == (1 if expected else 0)
    assert scene.repairs("copy") == 0
    if expected and expected.site_id == "shop":
        assert await scene.users_by_view() is None
    await scene.settle()
    await scene.reconciliation.run(NOW + MINUTE)
    assert scene.reconciliation.differences == ()
    assert scene.differences("view") == 0
    assert (await scene.users_by_view(), await scene.users_by_view(LONG_AGO.date())) == (3, 1)
    assert await scene.users_by_view(date(1999, 5, 5)) == 0


async def test_copy_and_view_may_be_wrong_on_the_same_day(scene: Scene) -> None:
    scene.break_copy("delete from events where actor = 'bob'")
    await scene.break_view("delete from actor_days where actor in ('bob', 'eve')")

    await scene.reconciliation.run(NOW)

    wrong = DayDifference("shop", TODAY, Tally(3, 3), Tally(2, 2), 1, True, True)
    assert wrong in scene.reconciliation.differences
    await scene.rebuilt()
    await scene.settle()
    await scene.reconciliation.run(NOW + MINUTE)
    assert scene.reconciliation.differences == ()


async def test_what_came_after_the_last_refresh_is_no_difference(scene: Scene) -> None:
    await scene.commit(event("joe"), event("zoe", LONG_AGO))
    newest = (await feed_state(scene.writer, 0)).newest
    async with asyncio.timeout(20):
        while True:
            watermark = await scene.follower.copy.store.watermark()
            if watermark and watermark.position == newest:
                break
            await asyncio.sleep(0.01)
    assert await scene.users_by_view() == 3

    await scene.reconciliation.run(NOW)

    assert scene.reconciliation.differences == ()
    # And what is wrong is still found then, in the view as in what it does not hold yet.
    scene.break_copy("delete from events where actor in ('joe', 'bob')")
    await scene.reconciliation.run(NOW)
    by_view = DayDifference("shop", TODAY, Tally(3, 3), Tally(2, 2), 3, True, False)
    assert by_view in scene.reconciliation.differences


async def test_a_fault_that_no_repair_mends_is_not_repaired_for_ever(scene: Scene) -> None:
    times = []
    for minute in range(0, 1_000, 5):
        # Whatever is built is broken again at once.
        scene.break_copy("delete from events where actor = 'bob'")
        before = scene.repairs("copy")
        await scene.reconciliation.run(NOW + minute * MINUTE)
        assert scene.reconciliation.differences
        if scene.repairs("copy") > before:
            times.append(minute)
            await scene.rebuilt()

    assert times == [0, 10, 50, 210, 850]


async def test_a_long_history_is_gone_through_bit_by_bit(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    extent = Extent(newest_events=2, older_events=5, newest_days=2, older_days=3)
    async with scene_of(database, writer, reader, tmp_path, extent) as scene:
        for number in range(40):
            await scene.commit(event(f"u{number}", NOW - timedelta(days=10 * number)))
        await scene.settle()
        scene.break_copy("delete from events where actor = 'u33'")
        day = (NOW - timedelta(days=330)).date()

        runs = 0
        while not scene.reconciliation.differences:
            runs += 1
            await scene.reconciliation.run(NOW)

        wrong = DayDifference("shop", day, Tally(1, 1), Tally(0, 0), None, True, False)
        assert runs == 2  # ten events of the feed, from its end; u33 is the seventh from there
        assert wrong in scene.reconciliation.differences
        # It is looked at again and again until it is mended, wherever the round has come to.
        await scene.rebuilt()
        await scene.reconciliation.run(NOW)
        assert scene.reconciliation.differences == ()


@pytest.mark.parametrize("fails_at", ["ingest_batches", "daily_users_state"])
async def test_a_replica_that_fails_in_the_middle_leaves_nothing_out_of_the_round(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, fails_at: str
) -> None:
    extent = Extent(newest_events=2, older_events=5, newest_days=2, older_days=3)
    async with scene_of(database, writer, reader, tmp_path, extent) as scene:
        for number in range(40):
            await scene.commit(event(f"u{number}", NOW - timedelta(days=10 * number)))
        await scene.settle()
        scene.break_copy("delete from events where actor = 'u33'")
        admin = await database.connect()
        await admin.execute(f"revoke select on {fails_at} from replica_user")
        await admin.close()
        replica = Replica(
            *(reader, reader, await ledger_id(writer), timedelta(hours=1)),
            *(scene.metrics.replica, ReadPace()),
        )
        scene.reconciliation.comparison = Comparison(Reads(writer, replica), extent)
        scene.follower.reads = Reads(writer)

        runs = 0
        while not scene.reconciliation.differences:
            runs += 1
            await scene.reconciliation.run(NOW)

        assert runs == 2
        assert replica.breaker.changes == 0


async def test_where_there_is_no_time_to_look_closely_the_copy_is_no_suspect_of_the_view(
    scene: Scene,
) -> None:
    await scene.break_view("delete from actor_days where actor = 'bob'")
    nowhere = single_use_engine(parse_url(f"postgresql://nobody@127.0.0.1:{free_port()}/none"))
    scene.follower.reads = Reads(nowhere)

    await scene.reconciliation.run(NOW)

    unknown = DayDifference("shop", TODAY, None, None, None, False, True)
    assert scene.reconciliation.differences == (unknown,)
    assert (scene.repairs("copy"), scene.repairs("view")) == (0, 1)
    await nowhere.dispose()


async def test_the_oldest_day_of_the_view_is_reached_in_time(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    extent = Extent(newest_events=2, older_events=5, newest_days=2, older_days=3)
    async with scene_of(database, writer, reader, tmp_path, extent) as scene:
        for number in range(12):
            await scene.commit(event(f"u{number}", NOW - timedelta(days=10 * number)))
        await scene.settle()
        await scene.break_view("delete from actor_days where actor = 'u11'")

        runs = 0
        while not scene.reconciliation.differences:
            runs += 1
            await scene.reconciliation.run(NOW)

        day = (NOW - timedelta(days=110)).date()
        wrong = DayDifference("shop", day, Tally(1, 1), Tally(1, 1), 0, False, True)
        assert list(scene.reconciliation.differences) == [wrong]
        assert runs == 4
        # It is told until it is mended: a site that is being filled anew is not compared.
        await scene.reconciliation.run(NOW)
        assert list(scene.reconciliation.differences) == [wrong]
        assert scene.repairs("view") == 1
        await scene.settle()
        await scene.reconciliation.run(NOW)
        assert not scene.reconciliation.differences


async def test_events_in_the_wrong_place_are_found_where_every_day_has_as_many(
    database: Database, writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    extent = Extent(newest_events=1, older_events=1)
    async with scene_of(database, writer, reader, tmp_path, extent) as scene:
        await scene.commit(event("ada"))
        await scene.commit(event("bob"))
        await scene.settle()
        scene.break_copy("update events set arrival = arrival + 65536 where actor = 'ada'")

        await scene.reconciliation.run(NOW)

        unknown = DayDifference("shop", TODAY, None, None, None, True, False)
        assert list(scene.reconciliation.differences) == [unknown]
        await scene.rebuilt()
        await scene.reconciliation.run(NOW)
        assert not scene.reconciliation.differences


async def test_nothing_is_compared_while_the_copy_is_catching_up(scene: Scene) -> None:
    await scene.follower._swapping.acquire()
    await scene.follower._start_over("asked")

    await scene.reconciliation.run(NOW)

    assert scene.reconciliation.compared_at is None
    scene.follower._swapping.release()
    await scene.settle()
    await scene.reconciliation.run(NOW)
    assert scene.reconciliation.compared_at == NOW
    assert scene.reconciliation.differences == ()


async def test_a_ledger_that_cannot_be_read_is_no_difference(scene: Scene) -> None:
    admin = await scene.database.connect()
    await admin.execute("alter table events rename to away")

    with pytest.raises(LedgerUnavailable):
        await scene.reconciliation.run(NOW)

    await admin.execute("alter table away rename to events")
    await admin.close()
    assert scene.reconciliation.differences == ()
    assert not scene.follower.is_rebuilding
