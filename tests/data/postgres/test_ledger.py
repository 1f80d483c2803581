"""The ledger: ids for ever, the feed in commit order, partitions, and roles that keep to theirs."""

import asyncio
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event, Rejection, RejectionCode
from data.postgres.append import MAX_GROUP_EVENTS, append, make_partitions_ahead
from data.postgres.engine import READER, LedgerUnavailable, Login, open_engine, transaction
from data.postgres.feed import copy_slice, feed_state, next_slice
from data.postgres.migrate import differences, migrate, pending
from data.postgres.receipts import receipts
from data.postgres.salts import SaltKeeper, destroy_salts
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(event_id: UUID | None = None, site_id: str = "shop", **fields: object) -> Event:
    defaults: dict[str, object] = {"event_type": "view", "occurred_at": NOW, "received_at": NOW}
    return Event(event_id=event_id or uuid4(), site_id=site_id, **{**defaults, **fields})  # type: ignore[arg-type]


async def test_an_id_is_accepted_once_and_for_ever(writer: AsyncEngine) -> None:
    first = event()
    again = event(
        first.event_id, occurred_at=NOW - timedelta(days=400), received_at=NOW + timedelta(days=900)
    )

    assert (await append(writer, [first], [])).fresh == [True]
    assert (await append(writer, [again], [])).fresh == [False]


async def test_the_first_of_several_with_one_id_in_a_group_counts(
    writer: AsyncEngine, database: Database
) -> None:
    one, other = event(user_id="first"), event()

    appended = await append(writer, [one, other, event(one.event_id, user_id="second")], [])

    connection = await database.connect()
    users = await connection.fetch("select user_id from events where event_id = $1", one.event_id)
    await connection.close()
    assert appended.fresh == [True, True, False]
    assert [row["user_id"] for row in users] == ["first"]


async def test_two_sites_with_the_same_ids_do_not_meet(writer: AsyncEngine) -> None:
    shared = uuid4()

    await append(writer, [event(shared, "shop")], [])

    assert (await append(writer, [event(shared, "blog")], [])).fresh == [True]
    assert (await append(writer, [event(shared, "shop")], [])).fresh == [False]


async def test_a_group_of_nothing_but_duplicates_takes_no_place_in_the_feed(
    writer: AsyncEngine,
) -> None:
    known = [event(), event()]
    assert (await append(writer, known, [])).position == 1

    assert (await append(writer, known, [])).position is None
    assert (await append(writer, [event()], [])).position == 2


async def test_opposite_orders_of_the_same_ids_do_not_lock_each_other_out(
    writer: AsyncEngine,
) -> None:
    for _ in range(20):
        group = [event() for _ in range(200)]

        one, other = await asyncio.gather(
            append(writer, group, []), append(writer, group[::-1], [])
        )

        assert sum(one.fresh) + sum(other.fresh) == 200


async def watch_once(database: Database, seen: list[list[int]]) -> None:
    connection = await database.connect()
    rows = await connection.fetch("select position from ingest_batches order by position")
    seen.append([row["position"] for row in rows])
    await connection.close()


async def test_positions_follow_commits_without_gaps_while_many_write(
    writer: AsyncEngine, database: Database
) -> None:
    seen: list[list[int]] = []

    async def watch() -> None:
        connection = await database.connect()
        try:
            while not done.is_set():
                rows = await connection.fetch(
                    "select position from ingest_batches order by position"
                )
                seen.append([row["position"] for row in rows])
        finally:
            await connection.close()

    done = asyncio.Event()
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(append(writer, [event()], []) for _ in range(200)))
    done.set()
    await watching
    await watch_once(database, seen)

    # At no moment was a position visible before a smaller one.
    assert all(positions == list(range(1, len(positions) + 1)) for positions in seen)
    assert len(seen[-1]) == 200


async def test_a_month_without_a_partition_gets_one_when_it_is_needed(
    writer: AsyncEngine, database: Database
) -> None:
    later = NOW + timedelta(days=800)

    assert (await append(writer, [event(received_at=later)], [])).fresh == [True]

    connection = await database.connect()
    partition = await connection.fetchval("select tableoid::regclass::text from events")
    await connection.close()
    assert partition == f"events_{later:%Y_%m}"


async def test_partitions_are_made_ahead_once(writer: AsyncEngine) -> None:
    assert await make_partitions_ahead(writer, NOW) == 6
    assert await make_partitions_ahead(writer, NOW) == 0
    assert await make_partitions_ahead(writer, NOW + timedelta(days=31)) == 1


async def test_rejections_are_kept_beside_the_events_of_their_group(
    writer: AsyncEngine, reader: AsyncEngine, database: Database
) -> None:
    taken, refused = event(), uuid4()
    rejection = Rejection(
        "shop", RejectionCode.INVALID_URL, "url is odd", '{"url": 7}', 10, NOW, refused
    )

    await append(writer, [taken], [rejection])

    found = await receipts(reader, "shop", [refused, taken.event_id, uuid4()])
    connection = await database.connect()
    payload = await connection.fetchval("select payload from rejected_events")
    await connection.close()
    assert {str(key): one.status.value for key, one in found.items()} == {
        str(refused): "REJECTED",
        str(taken.event_id): "ACCEPTED",
    }
    assert found[refused].code is RejectionCode.INVALID_URL
    assert json.loads(payload) == {"url": 7}


async def test_an_id_that_was_refused_and_then_accepted_is_accepted(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    mended = uuid4()
    rejection = Rejection("shop", RejectionCode.INVALID_URL, "odd", "{}", 2, NOW, mended)
    await append(writer, [], [rejection])

    await append(writer, [event(mended)], [])

    assert (await receipts(reader, "shop", [mended]))[mended].status.value == "ACCEPTED"
    assert await receipts(reader, "blog", [mended]) == {}


async def test_a_slice_holds_whole_batches_in_the_order_of_their_commits(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path
) -> None:
    groups = [[event(user_id=f"{g}-{n}") for n in range(3)] for g in range(4)]
    for group in groups:
        await append(writer, group, [])

    piece = await next_slice(reader, 1, most_events=6)
    assert piece is not None
    await copy_slice(reader, piece, tmp_path / "slice.csv")

    with (tmp_path / "slice.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert (piece.events, piece.last.position) == (6, 3)
    assert [row[5] for row in rows] == [f"{g}-{n}" for g in (1, 2) for n in range(3)]
    assert [row[12:] for row in rows] == [[str(p), str(o)] for p in (2, 3) for o in range(3)]
    assert rows[0][3] == str(int(NOW.timestamp() * 1_000_000))


async def test_a_batch_larger_than_a_slice_is_not_cut(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await append(writer, [event() for _ in range(10)], [])

    piece = await next_slice(reader, 0, most_events=3)

    assert piece is not None
    assert piece.events == 10


async def test_the_feed_tells_what_it_holds_at_a_position(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    before = await feed_state(reader, 0)
    await append(writer, [event()], [])
    after = await feed_state(reader, 1)

    assert (before.newest, before.known) == (0, None)
    assert (after.newest, after.known and after.known.position) == (1, 1)
    assert before.through < after.through
    assert after.known is not None
    assert after.known.committed_at <= after.through


async def test_the_reader_cannot_write_by_any_statement(database: Database) -> None:
    connection = await database.connect(READER)
    statements = [
        "insert into sites values ('a', 'a', 'UTC', 'MONDAY', '{}', now())",
        "delete from events",
        "update ingest_batches set events = 0",
        "truncate events",
        "drop table sites",
        "create table public.mine (x int)",
        "select nextval('batch_ids')",
        "select * from take_position(1, 1)",
        "select make_event_partitions('2030-01-01', '2030-01-01')",
        "select * from api_keys",
        "select * from visitor_salts",
        "select * from trusted_documents",
        "select payload from rejected_events",
        "set role footfall_writer",
    ]
    # The role is read-only twice: by default, and where that is switched off by its rights.
    await connection.execute("set default_transaction_read_only = off")

    for statement in statements:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_the_reader_starts_in_read_only_transactions(database: Database) -> None:
    connection = await database.connect(READER)

    assert await connection.fetchval("show transaction_read_only") == "on"
    await connection.close()


async def test_a_shared_login_takes_on_the_reader_role(database: Database) -> None:
    login = Login(make_url(database.url("postgres")), READER)
    async with open_engine(login) as engine:
        with pytest.raises(LedgerUnavailable, match=r"read-only|permission denied"):
            async with transaction(engine) as connection:
                await connection.exec_driver_sql("delete from events")


async def test_the_writer_cannot_take_anything_back(database: Database) -> None:
    connection = await database.connect("footfall_writer")

    for statement in [
        "delete from events",
        "delete from event_ids",
        "update ingest_batches set position = 0",
        "truncate events",
        "drop table events",
        "create table mine (x int)",
        "update trusted_documents set text = ''",
        "update ledger set ledger_id = gen_random_uuid()",
    ]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_migrations_make_just_what_the_program_knows(database: Database) -> None:
    url = make_url(database.url())

    assert await pending(url) == []
    assert await migrate(url) == []
    assert await differences(url) == []


async def test_a_salt_lives_for_two_days_and_is_the_same_for_all(
    writer: AsyncEngine, database: Database
) -> None:
    first = await SaltKeeper(writer).salt(NOW)
    second = await SaltKeeper(writer).salt(NOW + timedelta(hours=11))
    next_day = await SaltKeeper(writer).salt(NOW + timedelta(days=1))
    assert first == second != next_day
    assert len(first) == 32

    # That of the day after is made ahead.
    async with transaction(writer) as connection:
        assert await destroy_salts(connection, datetime(2026, 3, 2, 23, 59, tzinfo=UTC)) == 0
        assert await destroy_salts(connection, datetime(2026, 3, 3, 0, 0, tzinfo=UTC)) == 1

    looking = await database.connect()
    days = await looking.fetch("select day from visitor_salts order by day")
    await looking.close()
    assert [row["day"].isoformat() for row in days] == ["2026-03-02", "2026-03-03"]


@pytest.mark.parametrize("size", [3, 100, MAX_GROUP_EVENTS])
async def test_small_and_large_groups_are_told_the_same(
    writer: AsyncEngine, database: Database, size: int
) -> None:
    known = [event() for _ in range(size // 3)]
    await append(writer, known, [])
    new = [
        event(user_id=f"u{n}", url="/p", path="/p", properties=f'{{"n": {n}}}')
        for n in range(size - len(known) - 1)
    ]
    group = [*new, *known, event(new[0].event_id, user_id="second")]

    appended = await append(writer, group, [])

    connection = await database.connect()
    rows = await connection.fetch(
        "select e.*, b.position, b.events from events e join ingest_batches b using (batch_id)"
        " where position = 2 order by ordinal"
    )
    await connection.close()
    assert appended.position == 2
    assert appended.fresh == [True] * len(new) + [False] * (len(known) + 1)
    assert [row["event_id"] for row in rows] == [one.event_id for one in new]
    assert [row["ordinal"] for row in rows] == list(range(len(new)))
    assert {row["events"] for row in rows} == {len(new)}
    assert [(row["user_id"], row["properties"]) for row in rows] == [
        (one.user_id, one.properties) for one in new
    ]


async def test_small_and_large_groups_take_their_places_in_one_order(
    writer: AsyncEngine, database: Database
) -> None:
    await asyncio.gather(
        *(append(writer, [event() for _ in range(n % 2 * 150 + 1)], []) for n in range(60))
    )

    connection = await database.connect()
    batches = await connection.fetch(
        "select position, committed_at from ingest_batches order by position"
    )
    stored = await connection.fetchval("select count(*) from events")
    await connection.close()
    moments = [row["committed_at"] for row in batches]
    assert [row["position"] for row in batches] == list(range(1, 61))
    assert moments == sorted(moments)
    assert stored == 30 * 1 + 30 * 151


@pytest.mark.parametrize("size", [1, 100])
async def test_a_commit_that_hangs_is_cut_off_and_sending_again_is_safe(
    writer: AsyncEngine, database: Database, size: int
) -> None:
    sent = [event() for _ in range(size)]
    other = await database.connect()
    barrier = other.transaction()
    await barrier.start()
    await other.execute("lock table event_ids in access exclusive mode")

    with pytest.raises(LedgerUnavailable):
        await append(writer, sent, [], seconds=0.2)

    await barrier.commit()
    await append(writer, sent, [])
    assert await other.fetchval("select count(*) from events") == size
    await other.close()
