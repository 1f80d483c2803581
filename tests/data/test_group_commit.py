"""Group commit: shared transactions, answers to each, bounds, and bad company."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection, RejectionCode
from data.group_commit import (
    CommitLimits,
    CommitterClosed,
    CommitterFull,
    GroupCommit,
    open_group_commit,
)
from data.postgres.append import Append, Appended, append
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(event_id: UUID | None = None, **fields: str) -> Event:
    return Event(event_id or uuid4(), "shop", "view", NOW, NOW, **fields)


def committer(
    append_: Append, limits: CommitLimits | None = None, woken: list[int] | None = None
) -> AbstractAsyncContextManager[GroupCommit]:
    seen: list[int] = [] if woken is None else woken
    return open_group_commit(
        append_,
        on_commit=seen.append,
        metrics=Metrics.create().ingest,
        limits=limits,
    )


async def test_concurrent_requests_share_transactions_and_each_gets_its_own_answer(
    writer: AsyncEngine, database: Database
) -> None:
    known = uuid4()
    await append(writer, [event(known)], [])

    async with committer(partial(append, writer)) as commits:
        answers = await asyncio.gather(
            *(commits.submit([event(), event(known), event()], [], 300) for _ in range(100))
        )

    assert answers == [[True, False, True]] * 100
    connection = await database.connect()
    batches = await connection.fetchval("select count(*) from ingest_batches")
    stored = await connection.fetchval("select count(*) from events")
    await connection.close()
    assert stored == 201
    assert batches < 50


async def test_an_id_in_two_requests_of_one_group_is_fresh_for_the_first_only(
    writer: AsyncEngine,
) -> None:
    shared = uuid4()

    async with committer(partial(append, writer), CommitLimits(lanes=1)) as commits:
        answers = await asyncio.gather(
            *(commits.submit([event(shared)], [], 100) for _ in range(10))
        )

    assert sorted(answers) == [[False]] * 9 + [[True]]


async def test_whoever_hears_of_a_commit_and_fails_strands_nobody_who_comes_later(
    writer: AsyncEngine,
) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("it did not hear well")

    limits = CommitLimits(lanes=1)
    metrics = Metrics.create().ingest
    async with open_group_commit(
        partial(append, writer), on_commit=fail, metrics=metrics, limits=limits
    ) as commits:
        async with asyncio.timeout(20):
            assert await commits.submit([event()], [], 100) == [True]
            assert await commits.submit([event()], [], 100) == [True]


async def test_a_commit_of_nothing_new_wakes_nobody(writer: AsyncEngine) -> None:
    known, woken = event(), list[int]()
    async with committer(partial(append, writer), woken=woken) as commits:
        await commits.submit([known], [], 100)
        await commits.submit([known], [], 100)

    assert len(woken) == 1


async def test_what_was_taken_is_committed_before_closing(
    writer: AsyncEngine, database: Database
) -> None:
    async with committer(partial(append, writer)) as commits:
        waiting = [asyncio.create_task(commits.submit([event()], [], 10)) for _ in range(50)]
        await asyncio.sleep(0)

    assert await asyncio.gather(*waiting) == [[True]] * 50
    with pytest.raises(CommitterClosed):
        await commits.submit([event()], [], 10)


async def test_a_client_that_goes_away_takes_nobody_with_it(
    writer: AsyncEngine, database: Database
) -> None:
    gone = event()
    async with committer(partial(append, writer), CommitLimits(lanes=1)) as commits:
        leaving = asyncio.create_task(commits.submit([gone], [], 10))
        staying = asyncio.create_task(commits.submit([event()], [], 10))
        await asyncio.sleep(0)
        leaving.cancel()

        assert await staying == [True]
        assert await commits.submit([gone], [], 10) == [False]
    assert commits.pending_events == 0


class Gate:
    """An append that waits until it is opened, around the real one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.open = asyncio.Event()

    async def append(self, events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        await self.open.wait()
        return await append(self.engine, events, rejections)


@pytest.mark.parametrize(
    "limits", [CommitLimits(pending_events=10), CommitLimits(pending_bytes=1_000)]
)
async def test_a_full_committer_refuses_before_it_takes_anything(
    writer: AsyncEngine, limits: CommitLimits
) -> None:
    gate = Gate(writer)
    async with committer(gate.append, limits) as commits:
        waiting = [
            asyncio.create_task(commits.submit([event() for _ in range(5)], [], 500))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        refused = event()

        with pytest.raises(CommitterFull):
            await commits.submit([refused], [], 100)

        gate.open.set()
        await asyncio.gather(*waiting)
        assert await commits.submit([refused], [], 100) == [True]


async def test_a_request_larger_than_all_bounds_is_taken_when_it_is_alone(
    writer: AsyncEngine,
) -> None:
    limits = CommitLimits(pending_events=10, group_events=10)
    async with committer(partial(append, writer), limits) as commits:
        assert await commits.submit([event() for _ in range(50)], [], 10) == [True] * 50


async def test_one_request_that_the_ledger_refuses_does_not_sink_the_others(
    writer: AsyncEngine, database: Database
) -> None:
    gate = Gate(writer)
    # No way in lets a NUL through; if one ever did, it would be this request's loss alone.
    bad = event(user_id="a\0b")
    rejection = Rejection("shop", RejectionCode.INVALID_TEXT, "odd", "{}", 2, NOW)
    async with committer(gate.append, CommitLimits(lanes=1)) as commits:
        requests = [
            asyncio.create_task(commits.submit([event()], [rejection], 10)),
            asyncio.create_task(commits.submit([bad], [], 10)),
            asyncio.create_task(commits.submit([event()], [], 10)),
        ]
        await asyncio.sleep(0)
        gate.open.set()
        outcomes = await asyncio.gather(*requests, return_exceptions=True)

    assert outcomes[0] == outcomes[2] == [True]
    assert isinstance(outcomes[1], LedgerRefused)
    connection = await database.connect()
    assert await connection.fetchval("select count(*) from events") == 2
    assert await connection.fetchval("select count(*) from rejected_events") == 1
    await connection.close()


async def test_a_ledger_that_goes_away_fails_the_request_and_a_retry_is_safe(
    writer: AsyncEngine, database: Database
) -> None:
    sent = [event() for _ in range(10)]
    admin = await database.connect()
    async with committer(partial(append, writer)) as commits:
        await commits.submit([event()], [], 10)
        await admin.execute("alter table event_ids rename to away")

        with pytest.raises(LedgerUnavailable):
            await commits.submit(sent, [], 10)

        await admin.execute("alter table away rename to event_ids")
        # Every connection is cut as well: the pool must find that out and go on.
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        for _ in range(10):
            try:
                answer = await commits.submit(sent, [], 10)
                break
            except LedgerUnavailable:
                continue
        assert answer == [True] * 10
        assert commits.pending_events == 0
    await admin.close()


async def test_a_failure_that_nobody_foresaw_fails_its_group_and_no_later_one(
    writer: AsyncEngine,
) -> None:
    fails = [RuntimeError("a driver's surprise") for _ in range(5)]

    async def moody(events: Sequence[Event], rejections: Sequence[Rejection]) -> Appended:
        if fails:
            raise fails.pop()
        return await append(writer, events, rejections)

    async with committer(moody) as commits:
        for _ in range(5):
            with pytest.raises(LedgerUnavailable, match="cut off"):
                await commits.submit([event()], [], 10)

        assert await commits.submit([event()], [], 10) == [True]
