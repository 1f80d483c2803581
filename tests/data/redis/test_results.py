"""Results in Redis: shared by processes, computed once for all of them, and never needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.cache import OF_NOW, CacheStatus, Codec, Entry, Question, Room
from data.events import Event
from data.flights import Computed, Landed
from data.postgres.append import append
from data.postgres.feed import feed_state
from data.redis.client import RedisConnection, RedisPace, open_redis
from data.redis.results import MOST_BYTES, RedisResults
from data.result_history import drop_unknown
from data.results import Batch, Results, open_results
from data.shared_results import Turn
from telemetry.metrics import Metrics
from tests.fixtures.redis import RedisServer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODEC = Codec(encode=str.encode, decode=bytes.decode, size=len)
HIT, STALE, MISS = CacheStatus.HIT, CacheStatus.STALE, CacheStatus.MISS
SOON = 30


@dataclass
class Process:
    """Results as one process has them, with a store that tells at which position it answered."""

    redis: RedisConnection
    shared: RedisResults
    results: Results
    metrics: Metrics
    position: int = 1
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    computed: list[str] = field(default_factory=list)
    padding: str = ""

    def question(self, name: str = "a", **fields: Any) -> Question:
        question = Question(
            asked=name,
            key=name.encode().ljust(16),
            site_id="shop",
            version=self.position,
            position=self.position,
            through=NOON + timedelta(seconds=self.position),
            lifetimes=OF_NOW,
            codec=CODEC,
        )
        return replace(question, **fields)

    async def compute(self, asked: Sequence[str]) -> Computed:
        self.computed += asked
        position = self.position
        await self.gate.wait()
        rows = [f"{one}@{position}{self.padding}" for one in asked]
        return Computed(rows, position, NOON + timedelta(seconds=position))

    async def answer(self, name: str = "a", **fields: Any) -> Landed:
        question = self.question(name, **fields)
        return await self.results.answer(question, Batch(self.results, self.compute))

    async def ask(self, name: str = "a", **fields: Any) -> tuple[str, CacheStatus]:
        landed = await self.answer(name, **fields)
        return landed.entry.rows, landed.status

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"footfall_{name}") or 0.0


@asynccontextmanager
async def process(
    server: RedisServer, *, space: str = "ledger", patience: float = SOON, **shared: Any
) -> AsyncIterator[Process]:
    metrics = Metrics.create()
    pace = RedisPace(answer_seconds=1.5, look_seconds=0.1)
    async with open_redis(server.url, metrics.redis, pace) as redis:
        theirs = RedisResults(redis, space, **shared)
        kept = Results(Room(10_000_000), theirs, metrics.cache, lambda: NOON, patience)
        theirs.on_drop = kept.forget_all
        async with open_results(kept) as results:
            made = Process(redis, theirs, results, metrics)
            made.gate.set()
            yield made


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON):
        while not await condition():
            await asyncio.sleep(0.01)


async def keys(server: RedisServer) -> list[bytes]:
    async with server.client() as client:
        return sorted(key for key in await client.keys() if isinstance(key, bytes))


async def is_shared(server: RedisServer, name: str = "a") -> bool:
    """Whether there is an entry, and nobody's turn any more."""
    digest = name.encode().ljust(16).hex().encode()
    found = [key for key in await keys(server) if key.endswith(digest)]
    return len(found) == 1 and b":entry:" in found[0]


async def test_what_one_process_computes_another_finds(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        assert await one.ask() == ("a@1", MISS)
        await until(lambda: is_shared(redis_server))

        landed = await other.answer()

        assert (landed.entry.rows, landed.status) == ("a@1", HIT)
        assert landed.entry.through == NOON + timedelta(seconds=1)
        assert landed.entry.computed_at == NOON
        assert await other.ask() == ("a@1", HIT)
        assert (one.computed, other.computed) == (["a"], [])
        assert other.value("cache_shared_hits_total") == 1


async def test_what_is_at_hand_costs_redis_nothing(redis_server: RedisServer) -> None:
    async with process(redis_server) as one:
        await one.ask()
        await until(lambda: is_shared(redis_server))
        uses = {"outcome": "succeeded"}
        count = one.metrics.registry.get_sample_value
        before = count("footfall_redis_uses_total", uses)

        for _ in range(50):
            assert await one.ask() == ("a@1", HIT)

        assert count("footfall_redis_uses_total", uses) == before


async def test_many_processes_compute_once(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        one.gate.clear()
        other.gate.clear()
        asking = [asyncio.create_task(each.ask()) for each in (one, other) for _ in range(50)]

        async def is_begun() -> bool:
            return bool(one.computed or other.computed)

        await until(is_begun)
        # Longer than a turn lasts by itself: it is renewed.
        await asyncio.sleep(0.3)
        one.gate.set()
        other.gate.set()

        assert {rows for rows, _ in await asyncio.gather(*asking)} == {"a@1"}
        assert len(one.computed + other.computed) == 1


async def test_a_turn_is_renewed_while_it_is_used(redis_server: RedisServer) -> None:
    times: dict[str, Any] = {"turn_seconds": 3.0, "renew_seconds": 0.1}
    async with process(redis_server, **times) as one, process(redis_server, **times) as other:
        one.gate.clear()
        asking = asyncio.create_task(one.ask())

        async def is_begun() -> bool:
            return bool(one.computed)

        await until(is_begun)
        waiting = asyncio.create_task(other.ask())
        await asyncio.sleep(4.5)
        assert other.computed == []
        one.gate.set()

        assert await asking == ("a@1", MISS)
        assert (await waiting)[0] == "a@1"
        assert other.computed == []


async def test_the_turn_of_one_who_died_is_taken_over(redis_server: RedisServer) -> None:
    async with process(redis_server, turn_seconds=0.3) as other:
        [told] = await other.shared.ask([other.question()], [-1], "somebody who dies now")
        assert told.turn is Turn.MINE

        assert await other.ask() == ("a@1", MISS)

        assert other.computed == ["a"]


async def test_who_gives_up_lets_others_have_the_turn(redis_server: RedisServer) -> None:
    async with (
        process(redis_server, turn_seconds=1_000, renew_seconds=1_000) as one,
        process(redis_server) as other,
    ):
        one.gate.clear()
        asking = asyncio.create_task(one.ask())

        async def is_begun() -> bool:
            return bool(one.computed)

        await until(is_begun)
        asking.cancel()

        async with asyncio.timeout(SOON):
            assert await other.ask() == ("a@1", MISS)


async def test_a_process_that_is_behind_does_not_answer_one_that_is_ahead(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as behind, process(redis_server) as ahead:
        ahead.position = 5
        await behind.ask()
        await until(lambda: is_shared(redis_server))

        assert await ahead.ask() == ("a@5", MISS)
        await until(lambda: is_shared(redis_server))

        # And the one behind gets more than it knows of itself.
        behind.position = 2
        assert await behind.ask() == ("a@5", HIT)
        assert ahead.computed == behind.computed == ["a"]


async def test_a_process_that_is_behind_does_not_overwrite_what_is_newer(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as behind, process(redis_server) as third:
        question = behind.question()
        made = [
            Entry(f"a@{position}", "shop", position, NOON, NOON, NOON, 0.1, 10)
            for position in (7, 3)
        ]
        for entry in made:
            await behind.shared.ask([question], [-1], "token")
            await behind.shared.keep([(question, entry)], "token")
        third.position = 7

        assert await third.ask() == ("a@7", HIT)


async def test_an_older_answer_of_another_process_serves_while_a_new_one_is_computed(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, process(redis_server, patience=0.05) as other:
        await one.ask()
        await until(lambda: is_shared(redis_server))
        other.position = 2
        other.gate.clear()

        assert await other.ask() == ("a@1", STALE)


async def test_entries_expire_when_they_would_not_be_shown_any_more(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, redis_server.client() as client:
        await one.ask()
        await until(lambda: is_shared(redis_server))

        for key in await keys(redis_server):
            limit = 1_000 * OF_NOW.stale if b":entry:" in key else 3_600_000
            assert 0 < await client.pttl(key) <= limit


@pytest.mark.parametrize("length", [10, 5_000, MOST_BYTES])
async def test_long_rows_are_compressed_and_shared(redis_server: RedisServer, length: int) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        one.padding = "x" * length
        await one.ask()
        await until(lambda: is_shared(redis_server))

        assert await other.ask() == (f"a@1{one.padding}", HIT)
        [key] = [key for key in await keys(redis_server) if b":entry:" in key]
        async with redis_server.client() as client:
            assert 0 < (await client.memory_usage(key, samples=0) or 0) < 10_000


async def test_what_is_too_long_to_share_only_gives_the_turn_back(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        # Nothing of it repeats, so that it cannot be compressed.
        one.padding = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(800_000))
        other.padding = one.padding
        one.shared.renew_seconds = other.shared.renew_seconds = 0.2
        assert (await one.ask())[1] is MISS

        assert (await other.ask())[1] is MISS

        async def is_empty() -> bool:
            return not [key for key in await keys(redis_server) if not key.endswith(b":drops")]

        await until(is_empty)


async def test_other_ledgers_and_releases_are_left_alone(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server, space="other") as other:
        await one.ask()
        await until(lambda: is_shared(redis_server))

        assert await other.ask() == ("a@1", MISS)


async def test_a_drop_reaches_redis_and_is_counted_once(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        for name in ("a", "b"):
            await one.ask(name)
            await until(lambda name=name: is_shared(redis_server, name))  # type: ignore[misc]
        await one.ask("c", site_id="blog")
        await until(lambda: is_shared(redis_server, "c"))
        await other.ask("a")

        # Two in its memory and in Redis.
        assert await one.results.drop("shop") == 2
        assert await one.ask("a") == ("a@1", MISS)
        assert await one.ask("c", site_id="blog") == ("c@1", HIT)
        # The other hears of it when it next asks anything.
        await other.ask("d")
        await until(lambda: is_shared(redis_server, "d"))
        assert other.results.room.get(b"a".ljust(16)) is None
        # What the first has computed anew, what was another site's, and what came last.
        assert await other.results.drop(None) == 3


async def test_more_entries_than_are_dropped_at_once_are_dropped(redis_server: RedisServer) -> None:
    async with process(redis_server) as one:
        questions = [one.question(f"{number:04}") for number in range(1_201)]
        entry = Entry("rows", "shop", 1, NOON, NOON, NOON, 0.1, 10)
        await one.shared.ask(questions[:1], [-1], "token")
        await one.shared.keep([(question, entry) for question in questions], "token")

        assert await one.results.drop("shop") == 1_201


async def test_what_was_begun_before_a_drop_is_not_shared(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        one.gate.clear()
        asking = asyncio.create_task(one.ask())

        async def is_begun() -> bool:
            return bool(one.computed)

        await until(is_begun)
        await other.results.drop(None)
        one.gate.set()
        assert await asking == ("a@1", MISS)

        async def is_settled() -> bool:
            return not [key for key in await keys(redis_server) if b":turn:" in key]

        await until(is_settled)
        assert await other.ask() == ("a@1", MISS)


async def test_a_drop_that_another_one_follows_at_once_is_heard_of(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, process(redis_server) as other:
        await one.ask("a")
        await other.results.drop("shop")

        # It has not heard of that yet.
        await one.results.drop("blog")

        assert await one.ask("a") == ("a@1", MISS)


async def is_dropped(*processes: Process) -> None:
    """Return when Redis knows of all drops of these processes."""

    async def is_done() -> bool:
        return not any(one.shared._undone for one in processes)

    await until(is_done)


@pytest.mark.parametrize("site_id", ["shop", None])
async def test_a_drop_while_redis_is_away_is_made_up_for(
    redis_server: RedisServer, site_id: str | None
) -> None:
    async with process(redis_server, retry_seconds=0.1) as one, process(redis_server) as other:
        await one.ask()
        await until(lambda: is_shared(redis_server))
        redis_server.freeze()

        assert await one.results.drop(site_id) == 1

        one.padding = other.padding = " anew"
        assert await one.ask() == ("a@1 anew", MISS)
        redis_server.thaw()
        await is_dropped(one)
        await other.redis.until_available()
        assert (await other.ask())[0] == "a@1 anew"


@pytest.mark.parametrize("site_id", ["shop", None])
async def test_a_drop_while_redis_is_full_is_made_up_for(
    redis_server: RedisServer, site_id: str | None
) -> None:
    async with (
        process(redis_server, retry_seconds=0.1) as one,
        process(redis_server) as other,
        redis_server.client() as client,
    ):
        await one.ask()
        await until(lambda: is_shared(redis_server))
        other.gate.clear()
        asking = asyncio.create_task(other.ask("b"))

        async def is_begun() -> bool:
            return bool(other.computed)

        await until(is_begun)
        await client.config_set("maxmemory", "1")

        assert await one.results.drop(site_id) == 1

        assert not [key for key in await keys(redis_server) if b":entry:" in key]
        await client.config_set("maxmemory", "0")
        await is_dropped(one)
        # What was begun before is not shared afterwards, either.
        other.gate.set()
        await asking
        assert await one.ask("b") == ("b@1", MISS)


async def test_what_was_dropped_is_found_by_nobody_though_it_is_still_there(
    redis_server: RedisServer,
) -> None:
    async with (
        process(redis_server) as one,
        process(redis_server) as other,
        redis_server.client() as client,
    ):
        await one.ask("a")
        await one.ask("c", site_id="blog")
        await until(lambda: is_shared(redis_server, "c"))
        # As where Redis had to make room: nothing leads to the entries any more.
        await client.delete(*[key for key in await keys(redis_server) if b"site" in key])

        await one.results.drop("shop")

        assert len([key for key in await keys(redis_server) if b":entry:" in key]) == 2
        assert await other.ask("a") == ("a@1", MISS)
        assert await other.ask("c", site_id="blog") == ("c@1", HIT)
        await one.results.drop(None)
        other.results.forget_all()
        assert await other.ask("c", site_id="blog") == ("c@1", MISS)


async def test_a_redis_that_has_lost_all_marks_has_nobody_forget_anything(
    redis_server: RedisServer,
) -> None:
    async with (
        process(redis_server) as one,
        process(redis_server) as other,
        redis_server.client() as client,
    ):
        await one.results.drop(None)
        for each in (one, other):
            await each.shared.look()
            await each.ask("a")
        await client.flushall()

        for each in (one, other):
            await each.shared.look()
            await each.ask(f"b{id(each)}")

        assert await one.ask("a") == await other.ask("a") == ("a@1", HIT)


async def test_marks_of_drops_outlive_what_was_kept_last(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, redis_server.client() as client:
        await one.ask("a")
        await until(lambda: is_shared(redis_server, "a"))
        [drops] = [key for key in await keys(redis_server) if key.endswith(b":drops")]
        await client.pexpire(drops, 60_000)

        await one.ask("b")

        await until(lambda: is_shared(redis_server, "b"))
        assert await client.pttl(drops) > 3_000_000


@pytest.mark.parametrize("is_restored", [True, False])
async def test_what_rests_on_another_history_of_the_ledger_is_dropped(
    redis_server: RedisServer, writer: AsyncEngine, is_restored: bool
) -> None:
    await append(writer, [Event(uuid4(), "shop", "view", NOON, NOON)], [])
    known = (await feed_state(writer, 1)).known
    assert known is not None
    if is_restored:
        # The same position, taken by another batch.
        known = replace(known, batch_id=known.batch_id + 1)
    async with process(redis_server, newest=lambda: known) as one:
        await one.ask()
        await until(lambda: is_shared(redis_server))
    async with process(redis_server) as new:
        await drop_unknown(new.results, writer)

        assert await new.ask() == ("a@1", MISS if is_restored else HIT)


async def test_what_somebody_else_wrote_there_is_not_believed(redis_server: RedisServer) -> None:
    async with process(redis_server) as one, redis_server.client() as client:
        await one.ask()
        await until(lambda: is_shared(redis_server))
        [key] = [key for key in await keys(redis_server) if b":entry:" in key]
        for text in (b"", b"nonsense", b"\x97\x01\xc0\x01\x01\xcb" + bytes(8) + b"\xc3\xc4\x01x"):
            await client.hset(key, mapping={"position": 9, "entry": text})
            one.results.forget_all()

            assert await one.ask() == ("a@1", MISS)


async def test_a_key_of_another_kind_in_our_place_is_done_without(
    redis_server: RedisServer,
) -> None:
    async with process(redis_server) as one, redis_server.client() as client:
        await one.ask()
        await until(lambda: is_shared(redis_server))
        [key] = [key for key in await keys(redis_server) if b":entry:" in key]
        await client.delete(key)
        await client.set(key, "a text")
        one.results.forget_all()

        assert await one.ask() == ("a@1", MISS)
        assert one.redis.is_available
