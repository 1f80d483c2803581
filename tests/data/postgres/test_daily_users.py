"""The view of daily users: brought forward once, by one process at a time, in nobody's way."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.calendar import DateRange
from data.events import Event
from data.postgres.actor_days import Effort, advance, refill
from data.postgres.append import append
from data.postgres.daily_users import DaysAsked, daily_users, view_state
from data.postgres.engine import WRITER, LedgerUnavailable, Login, open_engine
from tests.fixtures.ledger import Database

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
BOTH = DateRange(FIRST, SECOND)
AT_ONCE = Effort(rest=0)


def event(user_id: str | None, at: datetime = NOW, **fields: str) -> Event:
    return Event(uuid4(), "shop", "view", at, NOW, user_id=user_id, **fields)


async def make_site(writer: AsyncEngine, site_id: str = "shop", timezone: str = "UTC") -> None:
    async with writer.begin() as connection:
        await connection.exec_driver_sql(
            "insert into sites values ($1, $1, $2, 'MONDAY', '{}', now())"
            " on conflict (site_id) do update set timezone = excluded.timezone",
            (site_id, timezone),
        )


async def users(reader: AsyncEngine, timezone: str = "UTC") -> dict[date, int] | None:
    [answer] = await daily_users(reader, [DaysAsked("shop", BOTH, timezone)])
    return answer.rows.users if answer else None


async def test_a_refresh_that_found_nothing_new_only_says_so(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await make_site(writer)
    await append(writer, [event("ada"), event("bob"), event(None)], [])

    first = await advance(writer, AT_ONCE)
    second = await advance(writer, AT_ONCE)

    assert first
    assert second
    assert (first.position, first.added, first.view_rows, first.is_complete) == (1, 2, 1, True)
    assert (second.position, second.added, second.view_rows) == (1, 0, None)
    assert second.refresh_seconds is None
    assert second.through > first.through
    state = await view_state(reader)
    assert (state.position, state.through, state.refilling) == (1, second.through, 0)


async def test_what_brings_nobody_new_needs_no_refresh(writer: AsyncEngine) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    await advance(writer, AT_ONCE)
    await append(writer, [event("ada"), event(None)], [])

    done = await advance(writer, AT_ONCE)

    assert done
    assert (done.position, done.refresh_seconds) == (2, None)


async def test_a_refresh_rests_in_proportion_to_what_the_last_one_took(
    writer: AsyncEngine,
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    assert await advance(writer)
    await append(writer, [event("bob")], [])

    assert await advance(writer, Effort(rest=1_000_000)) is None
    assert await advance(writer, AT_ONCE)


async def test_the_view_names_a_moment_that_is_true_of_it_in_the_middle_of_a_long_way(
    writer: AsyncEngine, reader: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    for number in range(4):
        await append(writer, [event(f"u{number}")], [])
    looking = await database.connect()
    committed = await looking.fetch("select committed_at from ingest_batches order by position")
    await looking.close()

    for done in range(1, 4):
        advanced = await advance(writer, Effort(slice_events=1, seconds=0, rest=0))
        [answer] = await daily_users(reader, [DaysAsked("shop", BOTH, "UTC")])

        assert advanced
        assert not advanced.is_complete
        assert answer
        assert (answer.position, answer.rows.total) == (done, done)
        assert answer.through == committed[done - 1]["committed_at"]


async def test_one_process_at_a_time_brings_the_view_forward(
    writer: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    other = await database.connect("footfall_writer")
    async with other.transaction():
        await other.execute("select from daily_users_state for update")

        assert await advance(writer, AT_ONCE) is None
    await other.close()

    done = await asyncio.gather(*(advance(writer, AT_ONCE) for _ in range(4)))
    assert sum(one.added for one in done if one) == 1


async def test_ingest_and_reading_go_on_while_the_view_is_refreshed(
    writer: AsyncEngine, reader: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    await advance(writer, AT_ONCE)
    # What `advance` holds until its commit: everything but the commit itself is done here.
    slow = await database.connect("footfall_writer")
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("select from daily_users_state for update")
    await slow.execute("insert into actor_days values ('shop', '2026-03-01', 'bob')")
    await slow.execute("select refresh_daily_active_users()")

    async with asyncio.timeout(60):
        appended = await append(writer, [event("eve")], [])
        assert await users(reader) == {FIRST: 1}

    await transaction.rollback()
    await slow.close()
    assert appended.position == 2


async def test_a_site_with_another_clock_has_no_answer_until_its_days_are_cut_anew(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await make_site(writer)
    await make_site(writer, "blog")
    blog = Event(uuid4(), "blog", "view", NOW, NOW, user_id="ada")
    await append(writer, [event("ada"), event("bob", NOW - timedelta(hours=1)), blog], [])
    await append(writer, [event("eve", NOW + timedelta(hours=1))], [])
    await advance(writer, AT_ONCE)
    assert await users(reader) == {FIRST: 2, SECOND: 1}

    await make_site(writer, timezone="Europe/Berlin")
    assert await users(reader, "Europe/Berlin") is None
    small = Effort(slice_events=1, seconds=0, rest=0)
    steps = []
    await advance(writer, small)
    while (await view_state(reader)).refilling:
        steps.append(await users(reader, "Europe/Berlin"))
        async with reader.connect() as connection:
            rows = await connection.exec_driver_sql("select site_id from daily_active_users")
            assert [row.site_id for row in rows] == ["blog"]
        # What comes meanwhile is not lost, whichever way it takes.
        if len(steps) == 2:
            await append(writer, [event("joe", NOW - timedelta(hours=23))], [])
        await advance(writer, small)

    assert set(steps) == {None}
    assert len(steps) > 2
    assert await users(reader) is None
    berlin = await users(reader, "Europe/Berlin")
    assert berlin == {FIRST: 2, SECOND: 2}
    [answer] = await daily_users(reader, [DaysAsked("blog", BOTH, "UTC")])
    assert answer
    assert answer.rows.users == {FIRST: 1}


async def test_days_that_were_changed_by_hand_are_right_again_after_a_refill(
    writer: AsyncEngine, reader: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    await append(writer, [event("ada"), event("bob")], [])
    await advance(writer, AT_ONCE)
    admin = await database.connect()
    await admin.execute("update actor_days set day = day + 1 where actor = 'ada'")
    await admin.execute("insert into actor_days values ('shop', '2026-03-02', 'nobody')")
    await admin.close()

    await refill(writer, ["shop"])
    assert await users(reader) is None
    await advance(writer, AT_ONCE)

    assert await users(reader) == {FIRST: 2}


async def test_several_questions_are_answered_together_and_each_by_its_own_site(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await make_site(writer)
    await make_site(writer, "blog", "Asia/Kathmandu")
    blog = [Event(uuid4(), "blog", "view", NOW, NOW, visitor_id=f"v{n}") for n in range(3)]
    await append(writer, [event("ada"), event("ada", NOW + timedelta(hours=1)), *blog], [])
    await advance(writer, AT_ONCE)

    answers = await daily_users(
        reader,
        [
            DaysAsked("shop", BOTH, "UTC"),
            DaysAsked("blog", BOTH, "UTC"),
            DaysAsked("blog", BOTH, "Asia/Kathmandu"),
            DaysAsked("nowhere", BOTH, "UTC"),
            DaysAsked("shop", DateRange(SECOND, SECOND), "UTC"),
        ],
    )

    rows = [answer.rows if answer else None for answer in answers]
    assert [one and (one.users, one.total) for one in rows] == [
        ({FIRST: 1, SECOND: 1}, 1),
        None,
        ({SECOND: 3}, 3),
        None,
        ({SECOND: 1}, 1),
    ]


async def test_the_longest_ids_and_the_oldest_days_have_their_place(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await make_site(writer, timezone="America/Los_Angeles")
    # Four bytes each, and nothing that could be packed.
    long = "".join(chr(0x1F300 + number * 7 % 1_500) for number in range(512))
    first_moment = datetime(1, 1, 1, tzinfo=UTC)
    await append(writer, [event(long), event("old", first_moment)], [])

    done = await advance(writer, AT_ONCE)

    assert done
    assert done.is_complete
    assert await users(reader, "America/Los_Angeles") == {FIRST: 1}


async def test_days_of_very_many_years_are_cut_without_falling_silent(
    database: Database,
) -> None:
    silence = (("idle_in_transaction_session_timeout", "1s"),)
    login = Login(make_url(database.url(WRITER)), WRITER, settings=silence)
    async with open_engine(login) as impatient:
        # Nobody has asked for the days of these clocks before.
        for site_id, timezone in (("shop", "Pacific/Chatham"), ("blog", "Asia/Kathmandu")):
            await make_site(impatient, site_id, timezone)
            old = [datetime(year, 7, 1, tzinfo=UTC) for year in range(2, 2_000)]
            await append(
                impatient,
                [Event(uuid4(), site_id, "view", at, NOW, user_id="ada") for at in old],
                [],
            )

        done = await advance(impatient, AT_ONCE)

    assert done
    assert (done.added, done.is_complete) == (3_996, True)


async def test_a_clock_that_nobody_knows_keeps_its_site_out_and_no_other(
    writer: AsyncEngine, reader: AsyncEngine
) -> None:
    await make_site(writer)
    await make_site(writer, "blog", "Mars/Olympus")
    blog = Event(uuid4(), "blog", "view", NOW, NOW, user_id="ada")
    await append(writer, [event("ada"), blog], [])
    await advance(writer, AT_ONCE)

    assert await users(reader) == {FIRST: 1}
    [answer] = await daily_users(reader, [DaysAsked("blog", BOTH, "Mars/Olympus")])
    assert answer is None

    await make_site(writer, "blog", "Europe/Berlin")
    await advance(writer, AT_ONCE)
    [answer] = await daily_users(reader, [DaysAsked("blog", BOTH, "Europe/Berlin")])
    assert answer
    assert answer.rows.users == {SECOND: 1}


async def test_sql_users_read_the_view_by_name_and_change_nothing(
    writer: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    await advance(writer, AT_ONCE)
    connection = await database.connect("replica_user")

    rows = await connection.fetch("select * from daily_active_users")

    assert [tuple(row) for row in rows] == [("shop", FIRST, 1)]
    for statement in (
        "refresh materialized view daily_active_users",
        "select refresh_daily_active_users()",
        "delete from actor_days",
        "update daily_users_state set position = 0",
    ):
        with pytest.raises(asyncpg.PostgresError, match=r"read-only|permission denied|must be"):
            await connection.execute(statement)
    await connection.close()


async def test_a_refresh_that_finds_the_view_locked_gives_up_and_changes_nothing(
    writer: AsyncEngine, reader: AsyncEngine, database: Database
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    admin = await database.connect()
    async with admin.transaction():
        await admin.execute("select refresh_daily_active_users()")

        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            await advance(writer, AT_ONCE)
    await admin.close()

    assert (await view_state(reader)).position == 0
    assert await advance(writer, AT_ONCE)
    assert await users(reader) == {FIRST: 1}


async def test_a_process_that_dies_in_the_middle_leaves_the_view_as_it_was(
    writer: AsyncEngine, reader: AsyncEngine, database: Database, tmp_path: Path
) -> None:
    await make_site(writer)
    await append(writer, [event("ada")], [])
    await advance(writer, AT_ONCE)
    await append(writer, [event("bob")], [])
    admin = await database.connect()
    async with admin.transaction():
        # The refresh waits for this, with everything else done.
        await admin.execute("select refresh_daily_active_users()")
        running = asyncio.create_task(advance(writer, AT_ONCE))
        looking = await database.connect()
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock'"
        async with asyncio.timeout(60):
            while not (pid := await looking.fetchval(waiting)):
                await asyncio.sleep(0.01)
        await looking.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises(LedgerUnavailable):
            await running
        await looking.close()
    await admin.close()

    assert await users(reader) == {FIRST: 1}
    assert (await view_state(reader)).position == 1
    done = await advance(writer, AT_ONCE)
    assert done
    assert done.added == 1
    assert await users(reader) == {FIRST: 2}
