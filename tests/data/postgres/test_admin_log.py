"""The admin log in a real ledger: who adds at the same time, and who tries to change it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.admin_log import (
    NOTHING,
    SERVICE,
    AdminAction,
    BreakKind,
    Entry,
    Head,
    LoggedEntry,
    follow,
)
from data.admin_log_head import AdminLogWatch, keep_head, read_head, set_aside
from data.postgres.admin_log import (
    LogQuery,
    log_page,
    prove,
    prove_head,
    record,
    record_alone,
)
from data.postgres.engine import LedgerUnavailable, transaction
from telemetry.metrics import Metrics
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEDGER = uuid4()
CHANGES = (
    "update admin_log set target = 'other'",
    "update admin_log set target = 'other' where false",
    "delete from admin_log",
    "delete from admin_log where false",
    "truncate admin_log",
)


def entry(number: int = 0, site_id: str | None = None) -> Entry:
    return Entry(
        NOW + timedelta(seconds=number),
        SERVICE,
        AdminAction.SITE_SAVED,
        f"thing {number}",
        site_id,
        {"number": number, "words": "\0 “—” \U0001f511"},
    )


async def added(writer: AsyncEngine, count: int) -> list[LoggedEntry]:
    return [await record_alone(writer, entry(number)) for number in range(1, count + 1)]


async def everything(writer: AsyncEngine) -> list[LoggedEntry]:
    """The whole log, oldest first."""
    return (await log_page(writer, LogQuery(first=10_000)))[::-1]


async def break_in(writer: AsyncEngine) -> tuple[BreakKind, int] | None:
    broken = (await prove(writer)).broken
    return (broken.kind, broken.position) if broken else None


async def test_those_who_add_at_the_same_time_make_one_chain_without_gaps(
    writer: AsyncEngine,
) -> None:
    async def add(who: int) -> None:
        for number in range(10):
            async with transaction(writer) as connection:
                await record(connection, entry(100 * who + number))
                if number % 3 == 2:
                    # What comes to nothing leaves no gap.
                    await connection.rollback()

    await asyncio.gather(*(add(who) for who in range(8)))

    proof = await prove(writer)
    assert (proof.entries, proof.newest.position, proof.broken) == (56, 56, None)
    log = await everything(writer)
    assert [one.position for one in log] == list(range(1, 57))
    assert len({one.target for one in log}) == 56


async def test_what_is_read_back_is_what_was_hashed(writer: AsyncEngine) -> None:
    made = await added(writer, 3)

    assert await everything(writer) == made
    assert made[0].previous_hash == NOTHING.hash


async def test_an_entry_falls_with_the_change_that_it_is_of(writer: AsyncEngine) -> None:
    async def change_and_fail() -> None:
        async with transaction(writer) as connection:
            await record(connection, entry())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await change_and_fail()

    assert await everything(writer) == []


@pytest.mark.parametrize("statement", CHANGES)
async def test_nobody_changes_or_empties_the_log_not_even_its_owner(
    database: Database, writer: AsyncEngine, statement: str
) -> None:
    await added(writer, 2)
    for role in ("footfall_writer", "footfall_owner", "postgres"):
        connection = await database.connect(role)
        expected: type[Exception] = asyncpg.RestrictViolationError
        if role == "footfall_writer":
            expected = asyncpg.InsufficientPrivilegeError
        with pytest.raises(expected):
            await connection.execute(statement)
        if role == "postgres":
            # Where ordinary triggers are left out.
            await connection.execute("set session_replication_role = replica")
            with pytest.raises(expected):
                await connection.execute(statement)
        await connection.close()

    assert len(await everything(writer)) == 2


async def test_the_reader_has_no_right_on_the_log(database: Database, writer: AsyncEngine) -> None:
    await added(writer, 1)
    connection = await database.connect("replica_user")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("select position from admin_log")
    await connection.close()


FORGERIES = {
    "altered": (
        "update admin_log set details = '{}' where position = 3",
        (BreakKind.ALTERED, 3),
    ),
    "backdated": (
        "update admin_log set at = at - interval '1 microsecond' where position = 5",
        (BreakKind.ALTERED, 5),
    ),
    "deleted": ("delete from admin_log where position = 3", (BreakKind.MISSING, 3)),
    "first deleted": ("delete from admin_log where position = 1", (BreakKind.MISSING, 1)),
    "closed up": (
        (
            "delete from admin_log where position = 3;"
            "update admin_log set position = 3 where position = 5"
        ),
        (BreakKind.ALTERED, 3),
    ),
    "inserted": (
        (
            "insert into admin_log select 9, at, actor_key_id, actor_name, site_id, action, target,"
            " details, previous_hash, hash from admin_log where position = 2"
        ),
        (BreakKind.MISSING, 6),
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_what_a_superuser_does_to_the_log_is_found_where_it_was_done(
    database: Database, writer: AsyncEngine, name: str
) -> None:
    await added(writer, 5)
    statement, found = FORGERIES[name]
    superuser = await database.connect()

    await superuser.execute("alter table admin_log disable trigger all")
    await superuser.execute(statement)
    await superuser.close()

    assert await break_in(writer) == found


async def test_a_row_that_is_put_in_again_with_a_hash_of_its_own_does_not_fit(
    database: Database, writer: AsyncEngine
) -> None:
    made = await added(writer, 5)
    forged = follow(made[1].head, entry(99))
    superuser = await database.connect()

    await superuser.execute("alter table admin_log disable trigger all")
    await superuser.execute("delete from admin_log where position = 3")
    await superuser.execute(
        "insert into admin_log values ($1, $2, $3, $4, null, $5, $6, $7, $8, $9)",
        forged.position,
        forged.at,
        forged.actor.key_id,
        forged.actor.name,
        forged.action,
        forged.target,
        forged.details,
        forged.previous_hash,
        forged.hash,
    )
    await superuser.close()

    proof = await prove(writer)
    assert proof.broken is not None
    assert (proof.broken.kind, proof.broken.position) == (BreakKind.UNLINKED, 4)
    assert (proof.broken.expected, proof.broken.found) == (forged.hash, made[2].hash)
    assert (proof.entries, proof.newest) == (3, forged.head)


async def cut_behind(database: Database, position: int) -> None:
    superuser = await database.connect()
    await superuser.execute("alter table admin_log disable trigger all")
    await superuser.execute("delete from admin_log where position > $1", position)
    await superuser.execute("alter table admin_log enable trigger all")
    await superuser.close()


def watch_of(writer: AsyncEngine, file: Path) -> AdminLogWatch:
    return AdminLogWatch(writer, LEDGER, file, Metrics.create().admin_log)


async def test_an_end_that_was_cut_off_is_missed_by_who_has_seen_it(
    database: Database, writer: AsyncEngine, tmp_path: Path
) -> None:
    made = await added(writer, 5)
    file = tmp_path / "admin_log.head"
    await watch_of(writer, file).look()
    assert read_head(file, LEDGER) == made[-1].head

    await cut_behind(database, 3)
    restarted = watch_of(writer, file)
    await restarted.look()

    assert await break_in(writer) is None, "what is left is whole"
    broken = restarted.broken
    assert broken is not None
    assert (broken.kind, broken.position) == (BreakKind.CUT_OFF, 5)
    assert (broken.expected, broken.found) == (made[-1].hash, "3")
    assert read_head(file, LEDGER) == made[-1].head, "the evidence stays"

    for number in range(3):
        await record_alone(writer, entry(50 + number))
    await restarted.look()

    assert restarted.broken is not None
    assert restarted.broken.kind is BreakKind.REPLACED
    assert restarted.metrics.breaks._value.get() == 2
    assert await prove_head(writer, made[2].head) is None


async def test_a_watch_proves_what_came_since_and_remembers_it(
    database: Database, writer: AsyncEngine, tmp_path: Path
) -> None:
    file = tmp_path / "admin_log.head"
    watch = watch_of(writer, file)
    await watch.look()
    assert (watch.seen, file.exists()) == (NOTHING, False)
    made = await added(writer, 4)
    await watch.look()
    assert (watch.seen, watch.broken) == (made[-1].head, None)
    assert watch.metrics.position._value.get() == 4

    superuser = await database.connect()
    await superuser.execute("alter table admin_log disable trigger all")
    await record_alone(writer, entry(9))
    await superuser.execute("update admin_log set target = 'x' where position = 5")
    await superuser.close()
    await watch.look()

    assert watch.broken is not None
    assert (watch.broken.kind, watch.broken.position) == (BreakKind.ALTERED, 5)
    assert read_head(file, LEDGER) == made[-1].head

    file.unlink()
    other = watch_of(writer, file)
    await other.look()
    assert other.broken == watch.broken
    assert read_head(file, LEDGER) is None


async def test_the_file_keeps_the_latest_end_of_each_ledger(tmp_path: Path) -> None:
    file, other = tmp_path / "admin_log.head", uuid4()
    heads = [Head(number, f"{number:064x}") for number in range(1, 40)]

    await asyncio.gather(
        *(asyncio.to_thread(keep_head, file, LEDGER, head) for head in reversed(heads)),
        *(asyncio.to_thread(keep_head, file, other, head) for head in heads[:7]),
    )

    assert read_head(file, LEDGER) == heads[-1]
    assert read_head(file, other) == heads[6]
    assert read_head(file, uuid4()) is None
    file.write_text("damaged")
    with pytest.raises(ValueError, match="damaged"):
        read_head(file, LEDGER)
    keep_head(file, LEDGER, heads[0])
    assert read_head(file, LEDGER) == heads[0]
    assert [path.read_text() for path in set_aside(file)] == ["damaged"]
    file.write_text("again")
    keep_head(file, LEDGER, heads[0])
    assert [path.read_text() for path in set_aside(file)] == ["damaged", "again"]


async def test_a_damaged_file_is_told_until_somebody_has_looked_at_it(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    made = await added(writer, 3)
    file = tmp_path / "admin_log.head"
    file.write_text("{")
    watch = watch_of(writer, file)

    for _ in range(2):
        await watch.look()
        assert (watch.seen, watch.broken) == (made[-1].head, None)
        assert "damaged" in str(watch.trouble)
    restarted = watch_of(writer, file)
    await restarted.look()
    assert "was damaged and put aside" in str(restarted.trouble)
    (aside,) = set_aside(file)
    aside.unlink()
    await restarted.look()

    assert restarted.trouble is None
    assert read_head(file, LEDGER) == made[-1].head


async def test_a_file_that_cannot_be_written_keeps_nobody_from_looking(
    writer: AsyncEngine, tmp_path: Path
) -> None:
    made = await added(writer, 2)
    watch = watch_of(writer, tmp_path / "no folder" / "admin_log.head")

    await watch.look()

    assert (watch.seen, watch.broken) == (made[-1].head, None)
    assert watch.trouble is not None
    assert "No such file or directory" in watch.trouble


async def test_pages_go_backwards_and_hold_still(writer: AsyncEngine) -> None:
    for number in range(9):
        await record_alone(writer, entry(number, "shop" if number % 2 else None))
    first = await log_page(writer, LogQuery(first=4))
    await record_alone(writer, entry(99))
    second = await log_page(writer, LogQuery(first=4, before=first[-1].position))

    assert [one.position for one in (*first, *second)] == [9, 8, 7, 6, 5, 4, 3, 2]
    of_shop = await log_page(writer, LogQuery(first=9, site_id="shop"))
    assert [one.position for one in of_shop] == [8, 6, 4, 2]
    since, until = NOW + timedelta(seconds=2), NOW + timedelta(seconds=5)
    between = await log_page(writer, LogQuery(first=9, since=since, until=until))
    assert [one.position for one in between] == [5, 4, 3]
    assert await log_page(writer, LogQuery(first=9, action="key.created")) == []


async def test_without_the_table_a_change_is_refused_and_no_words_are_lost_on_it(
    database: Database, writer: AsyncEngine
) -> None:
    superuser = await database.connect()
    await superuser.execute("alter table admin_log rename to away")
    await superuser.close()

    with pytest.raises(LedgerUnavailable):
        await record_alone(writer, entry())
