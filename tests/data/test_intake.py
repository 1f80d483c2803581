"""The order of stores: who is asked next, what is told, and what an outage looks like."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection
from data.group_commit import CommitLimits, open_group_commit
from data.intake import Intake, LedgerStore, StoreAway, StoreFull, Taken
from data.postgres.append import Append, Appended, append, make_partitions_ahead
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.lookout import Lookout, LookoutPace, looking_out
from data.spool.store import Spool, SpoolLimits
from telemetry.metrics import Metrics
from tests.data.spool.spooling import NOW, event, on_disk, rejection, spool_in
from tests.fixtures.ledger import Database

QUICK = LookoutPace(answer_seconds=3, look_seconds=0.02)


class Scene:
    """An intake with its parts."""

    def __init__(self, intake: Intake, lookout: Lookout, spool: Spool) -> None:
        self.intake = intake
        self.lookout = lookout
        self.spool = spool

    async def send(self, *events: Event) -> list[bool] | None:
        return (await self.intake.submit(events, [], 10)).fresh


@asynccontextmanager
async def scene(
    engine: AsyncEngine,
    root: Path,
    append_: Append | None = None,
    commits: CommitLimits | None = None,
    limits: SpoolLimits | None = None,
) -> AsyncIterator[Scene]:
    metrics = Metrics.create()
    await make_partitions_ahead(engine, NOW)
    lookout = Lookout(engine, metrics.ledger, QUICK)
    taking = lookout.bounded(append_ or partial(append, engine))
    async with (
        looking_out(lookout),
        open_group_commit(
            taking, on_commit=lambda _: None, metrics=metrics.ingest, limits=commits
        ) as committer,
        spool_in(root, limits or SpoolLimits(), metrics) as spool,
    ):
        stores = (LedgerStore(committer, lookout.is_away), spool)
        yield Scene(Intake(stores, lookout.is_away), lookout, spool)


async def test_a_ledger_that_works_takes_everything(writer: AsyncEngine, tmp_path: Path) -> None:
    sent = event()
    async with scene(writer, tmp_path) as at:
        assert await at.send(sent, event()) == [True, True]
        assert await at.send(sent) == [False]
        assert await at.intake.submit([], [rejection()], 10) == Taken([])
        assert on_disk(at.spool.folder) == []


async def test_a_ledger_that_fails_leaves_events_to_the_spool_and_comes_back_by_itself(
    writer: AsyncEngine, database: Database, tmp_path: Path
) -> None:
    admin = await database.server_connection()
    async with scene(writer, tmp_path) as at:
        assert await at.send(event()) == [True]
        await admin.execute(f"alter database {database.name} allow_connections false")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            database.name,
        )
        lost = [event() for _ in range(5)]

        assert [await at.send(one) for one in lost] == [None] * 5

        assert at.lookout.is_away()
        assert [one.events for one in on_disk(at.spool.folder)] == [[one] for one in lost]
        await admin.execute(f"alter database {database.name} allow_connections true")
        async with asyncio.timeout(60):
            await at.lookout.until_back()
        assert await at.send(event()) == [True]
    await admin.close()


async def test_a_ledger_that_hangs_keeps_one_request_waiting_and_no_later_one(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    calls = 0

    async def hang(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        nonlocal calls
        calls += 1
        await append(writer, events, rejections)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    sent = [event() for _ in range(20)]
    async with scene(writer, tmp_path, hang) as at:
        answers = await asyncio.gather(*(at.send(one) for one in sent[:10]))
        assert answers == [None] * 10
        assert calls <= 2
    # What was committed without anybody hearing of it is in both: once, when it is drained.
    assert {one.event_id for each in on_disk(at.spool.folder) for one in each.events} == {
        one.event_id for one in sent[:10]
    }


async def test_what_the_ledger_refuses_is_not_put_off(writer: AsyncEngine, tmp_path: Path) -> None:
    async with scene(writer, tmp_path) as at:
        with pytest.raises(LedgerRefused):
            await at.send(event(user_id="a\0b"))
        assert on_disk(at.spool.folder) == []
        assert not at.lookout.is_away()


async def test_too_much_at_once_is_told_while_the_ledger_works(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    gate = asyncio.Event()

    async def wait(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        await gate.wait()
        return await append(writer, events, rejections)

    async with scene(writer, tmp_path, wait, CommitLimits(pending_events=1)) as at:
        waiting = asyncio.create_task(at.send(event()))
        await asyncio.sleep(0)

        with pytest.raises(StoreFull):
            await at.send(event())

        gate.set()
        assert await waiting == [True]
        assert on_disk(at.spool.folder) == []


async def test_with_the_ledger_away_a_full_store_is_passed_over(tmp_path: Path) -> None:
    class Full:
        async def submit(self, *_: object) -> Taken:
            raise StoreFull("the queue is full")

    async with spool_in(tmp_path) as spool:
        working = Intake((Full(), spool), lambda: False)
        with pytest.raises(StoreFull):
            await working.submit([event()], [], 10)
        assert await Intake((Full(), spool), lambda: True).submit([event()], [], 10) == Taken(None)


@pytest.mark.parametrize("is_ledger_away", [True, False])
async def test_what_may_have_been_taken_is_never_called_refused(is_ledger_away: bool) -> None:
    class Silent:
        is_unknown = True

        async def submit(self, *_: object) -> Taken:
            raise StoreAway("nobody heard what came of it", is_unknown=self.is_unknown)

    class Full:
        async def submit(self, *_: object) -> Taken:
            raise StoreFull("no room")

    silent = Silent()
    intake = Intake((silent, Full()), lambda: is_ledger_away)
    with pytest.raises(StoreAway, match="nobody heard"):
        await intake.submit([event()], [], 10)
    silent.is_unknown = False
    with pytest.raises(StoreFull):
        await intake.submit([event()], [], 10)


async def test_where_nothing_takes_events_the_last_store_says_why(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    async def fail(*_: object) -> Appended:
        raise LedgerUnavailable("away")

    async with scene(writer, tmp_path / "a", fail, limits=SpoolLimits(held=0)) as at:
        with pytest.raises(StoreAway, match="no spool"):
            await at.send(event())
    async with scene(writer, tmp_path / "b", fail, limits=SpoolLimits(held=100)) as at:
        # Whether the first was committed nobody knows; the next is not even tried.
        with pytest.raises(StoreAway, match="away"):
            await at.send(event())
        with pytest.raises(StoreFull, match="spool is full"):
            await at.send(event())
    with pytest.raises(StoreAway):
        await Intake(()).submit([event()], [], 10)
