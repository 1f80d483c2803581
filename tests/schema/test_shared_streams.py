"""Many readers, one execution: who shares, and what becomes of those who are slow."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from graphql import ExecutionResult

from data.postgres.keys import Scope
from resolvers.context import Caller
from schema.operations import Operations, Prepared, Request, RequestRefused
from schema.payloads import MAX_CHARACTERS, PORTION, Delivery, Payload, Recent
from schema.shared_streams import (
    EVERY_EVENT,
    MAX_EXECUTIONS,
    MAX_EXECUTIONS_OF_KEY,
    SharedStreams,
)
from schema.turnstile import Turnstile
from tests.fixtures.app import App
from tests.fixtures.live import Live, SourceFailed, until

ACTIVITY = "subscription { liveActivity { users } }"
EVENTS = "subscription { liveEvents }"
SHOP = Caller("k1", "one", frozenset({Scope.READ}), "shop")


@dataclass(slots=True)
class Bench:
    """A schema with its taps, and streams over it."""

    app: App
    live: Live
    operations: Operations
    streams: SharedStreams

    async def prepared(
        self,
        query: str,
        caller: Caller = SHOP,
        name: str | None = None,
        variables: dict[str, object] | None = None,
    ) -> Prepared:
        request = Request(query, variables, name)
        return await self.operations.prepare(
            request, self.operations.context(self.app.resources, caller)
        )


@pytest_asyncio.fixture
async def bench(app: App) -> Bench:
    live = Live()
    operations = live.operations()
    return Bench(app, live, operations, SharedStreams(operations))


async def taken(payloads: AsyncIterator[str], count: int) -> list[Any]:
    async with asyncio.timeout(60):
        return [json.loads(await anext(payloads)) for _ in range(count)]


async def rest(payloads: AsyncIterator[str]) -> list[Any]:
    async with asyncio.timeout(60):
        return [json.loads(text) async for text in payloads]


async def test_each_event_is_executed_once_for_all_who_ask_the_same(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(
                bench.streams.payloads(await bench.prepared(ACTIVITY, replace(SHOP, key_id=key)))
            )
            for key in ("k1", "k2", "k3")
        ]
        await bench.live.activity.until_open()
        for users in (1, 2):
            bench.live.activity.push({"users": users})
            for reader in readers:
                assert await taken(reader, 1) == [{"data": {"liveActivity": {"users": users}}}]
        assert (bench.live.activity.opened, bench.live.activity.executed) == (1, 2)
        assert len(bench.streams) == 1
    await until(lambda: not bench.live.activity.sources)
    assert len(bench.streams) == 0


async def test_who_asks_or_sees_something_else_has_an_execution_of_its_own(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        for number, (query, caller) in enumerate(
            (
                (ACTIVITY, SHOP),
                ("subscription  { liveActivity { users } }", SHOP),
                (ACTIVITY, replace(SHOP, site_id="blog")),
                (ACTIVITY, replace(SHOP, site_id=None)),
                (ACTIVITY, replace(SHOP, scopes=frozenset(Scope))),
            ),
            1,
        ):
            prepared = await bench.prepared(query, caller)
            await stack.enter_async_context(bench.streams.payloads(prepared))
            assert len(bench.streams) == number


async def test_variables_and_the_operation_make_a_difference_and_spelling_does_not(
    bench: Bench,
) -> None:
    query = (
        "subscription A($site: ID, $since: Int = 0) "
        "{ liveActivity(siteId: $site, since: $since) { users } } "
        "subscription B { liveActivity { users } }"
    )
    same: list[dict[str, object]] = [
        {"site": "shop", "since": 0},
        {"since": 0, "site": "shop"},
        {"site": "shop"},
        {"site": "shop", "undeclared": 1},
    ]
    others: list[dict[str, object]] = [{"site": "blog"}, {"since": 0}, {"site": None}]
    async with AsyncExitStack() as stack:

        async def join(name: str, variables: dict[str, object] | None = None) -> None:
            prepared = await bench.prepared(query, name=name, variables=variables)
            await stack.enter_async_context(bench.streams.payloads(prepared))

        for variables in same:
            await join("A", variables)
        assert len(bench.streams) == 1
        for variables in others:
            await join("A", variables)
        await join("B")
        assert len(bench.streams) == 1 + len(others) + 1


async def test_a_late_reader_of_activity_has_the_current_value_at_once(bench: Bench) -> None:
    prepared = await bench.prepared(ACTIVITY)
    async with bench.streams.payloads(prepared) as first:
        bench.live.activity.push({"users": 1})
        await until(lambda: bench.live.activity.sources)
        bench.live.activity.push({"users": 1}, {"users": 2})
        while (await taken(first, 1))[0]["data"]["liveActivity"]["users"] < 2:
            pass
        async with bench.streams.payloads(prepared) as second:
            assert await taken(second, 1) == [{"data": {"liveActivity": {"users": 2}}}]
            bench.live.activity.push({"users": 3})
            for reader in (first, second):
                assert await taken(reader, 1) == [{"data": {"liveActivity": {"users": 3}}}]


async def test_a_late_reader_of_events_has_those_from_then_on(bench: Bench) -> None:
    prepared = await bench.prepared(
        "subscription { ...On } fragment On on Subscription "
        "{ ... on Subscription { live: liveEvents } }"
    )
    async with bench.streams.payloads(prepared) as first:
        await bench.live.events.until_open()
        bench.live.events.push("early")
        assert await taken(first, 1) == [{"data": {"live": "early"}}]
        async with bench.streams.payloads(prepared) as second:
            bench.live.events.push("late", None)
            assert await rest(second) == await rest(first) == [{"data": {"live": "late"}}]


async def test_a_slow_reader_of_activity_has_the_newest_value_only(bench: Bench) -> None:
    prepared = await bench.prepared(ACTIVITY)
    async with bench.streams.payloads(prepared) as quick, bench.streams.payloads(prepared) as slow:
        await bench.live.activity.until_open()
        for users in range(50):
            bench.live.activity.push({"users": users})
            assert await taken(quick, 1) == [{"data": {"liveActivity": {"users": users}}}]
        assert await taken(slow, 1) == [{"data": {"liveActivity": {"users": 49}}}]
        bench.live.activity.push(None)
        assert await rest(slow) == []


async def test_a_slow_reader_of_events_hears_how_many_it_missed(bench: Bench) -> None:
    prepared, extra = await bench.prepared(EVENTS), 7
    count = EVERY_EVENT.capacity + extra
    async with bench.streams.payloads(prepared) as quick, bench.streams.payloads(prepared) as slow:
        await bench.live.events.until_open()
        for number in range(count):
            bench.live.events.push(str(number))
            assert await taken(quick, 1) == [{"data": {"liveEvents": str(number)}}]
        found = await taken(slow, 2)
        assert found == [
            {"data": {"liveEvents": str(extra)}, "extensions": {"missed": extra}},
            {"data": {"liveEvents": str(extra + 1)}},
        ]
        bench.live.events.push(None)
        assert len(await rest(slow)) == EVERY_EVENT.capacity - 2


async def test_the_source_ends_with_its_last_reader(bench: Bench) -> None:
    prepared = await bench.prepared(EVENTS)
    async with bench.streams.payloads(prepared) as stays:
        async with bench.streams.payloads(prepared):
            await bench.live.events.until_open()
        bench.live.events.push("still here")
        assert await taken(stays, 1) == [{"data": {"liveEvents": "still here"}}]
    await until(lambda: not bench.live.events.sources)
    # And who comes then begins anew.
    async with bench.streams.payloads(prepared) as anew:
        await bench.live.events.until_open()
        bench.live.events.push("again", None)
        assert await rest(anew) == [{"data": {"liveEvents": "again"}}]
    assert bench.live.events.opened == 2


async def test_who_leaves_while_the_source_opens_leaves_the_others_waiting(bench: Bench) -> None:
    gate = bench.live.events.gate = asyncio.Event()
    prepared = await bench.prepared(EVENTS)

    async def first_event() -> Any:
        async with bench.streams.payloads(prepared) as payloads:
            return (await taken(payloads, 1))[0]

    tasks = [asyncio.create_task(first_event()) for _ in range(3)]
    await until(lambda: bench.live.events.opened == 1)
    tasks[0].cancel()
    gate.set()
    await bench.live.events.until_open()
    bench.live.events.push("here")
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [{"data": {"liveEvents": "here"}}] * 2


async def test_nobody_waits_for_a_source_that_all_have_left(bench: Bench) -> None:
    bench.live.events.gate = asyncio.Event()
    prepared = await bench.prepared(EVENTS)
    tasks = [asyncio.create_task(_join(bench, prepared)) for _ in range(2)]
    await until(lambda: bench.live.events.opened == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(bench.streams) == 0
    bench.live.events.gate = None
    async with bench.streams.payloads(prepared):
        assert bench.live.events.opened == 2


async def test_a_refusal_reaches_all_who_wait(bench: Bench) -> None:
    for query, code in (
        ("subscription { forbidden }", "FORBIDDEN"),
        ("subscription { broken }", "INTERNAL_SERVER_ERROR"),
    ):
        prepared = await bench.prepared(query)
        joining = (_join(bench, prepared) for _ in range(5))
        for refusal in await asyncio.gather(*joining, return_exceptions=True):
            assert isinstance(refusal, RequestRefused)
            assert [(error.extensions or {}).get("code") for error in refusal.errors] == [code]
            assert "hunter2" not in refusal.errors[0].message
        assert len(bench.streams) == 0


async def _join(bench: Bench, prepared: Prepared) -> None:
    async with bench.streams.payloads(prepared):
        pass


async def test_all_readers_hear_when_a_source_fails(bench: Bench) -> None:
    prepared = await bench.prepared(EVENTS)
    async with bench.streams.payloads(prepared) as one, bench.streams.payloads(prepared) as two:
        await bench.live.events.until_open()
        bench.live.events.push("fine", SourceFailed("password=hunter2"))
        found = await rest(one)
        assert await rest(two) == found
        assert found[0] == {"data": {"liveEvents": "fine"}}
        (error,) = found[1]["errors"]
        assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
        assert "hunter2" not in json.dumps(found)
        assert len(bench.streams) == 0


async def test_other_operations_give_one_payload(bench: Bench) -> None:
    async with bench.streams.payloads(await bench.prepared("{ hello }")) as payloads:
        (found,) = await rest(payloads)
    assert found["data"] == {"hello": "world"}
    assert found["extensions"]["cost"]["requestedQueryCost"] == 0
    assert len(bench.streams) == 0


async def test_a_thousand_readers_keep_no_more_than_their_queues_hold(bench: Bench) -> None:
    prepared = await bench.prepared(ACTIVITY)
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(bench.streams.payloads(prepared)) for _ in range(1_000)
        ]
        await bench.live.activity.until_open()
        quick = readers[PORTION // 2]
        for users in range(100):
            bench.live.activity.push({"users": users})
            assert await taken(quick, 1) == [{"data": {"liveActivity": {"users": users}}}]
        bench.live.activity.push(None)
        await until(lambda: len(bench.streams) == 0)
        for reader in readers:
            if reader is not quick:
                assert await rest(reader) == [{"data": {"liveActivity": {"users": 99}}}]
        assert (bench.live.activity.opened, bench.live.activity.executed) == (1, 100)


async def test_a_queue_holds_only_so_much_text() -> None:
    recent = Recent(EVERY_EVENT)
    reader = recent.reader()
    for _ in range(10):
        await recent.add(Payload.of(ExecutionResult({"text": "x" * (MAX_CHARACTERS // 4)})))
    assert recent.end - recent.first == 3
    await recent.add(Payload.of(ExecutionResult({"text": "y" * MAX_CHARACTERS})))
    recent.finish()
    assert await rest(reader) == [
        {"data": {"text": "y" * MAX_CHARACTERS}, "extensions": {"missed": 10}}
    ]


async def test_extensions_that_are_there_stay_beside_the_number_of_missed() -> None:
    recent = Recent(Delivery(capacity=1))
    reader = recent.reader()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for day in range(3):
        at = (moment + timedelta(days=day)).isoformat()
        await recent.add(Payload.of(ExecutionResult({"at": at}, None, {"cost": day})))
    recent.finish()
    assert await rest(reader) == [
        {"data": {"at": "2026-01-03T00:00:00+00:00"}, "extensions": {"cost": 2, "missed": 2}}
    ]


async def test_what_the_source_lost_is_added_to_what_a_reader_lost() -> None:
    recent = Recent(Delivery(capacity=2))
    reader = recent.reader()
    for number, missed in enumerate((None, 5, None, 3)):
        extensions = {"missed": missed} if missed else None
        await recent.add(Payload.of(ExecutionResult({"number": number}, None, extensions)))
    late = recent.reader()
    await recent.add(Payload.of(ExecutionResult({"number": 4})))
    recent.finish()
    assert await rest(late) == [{"data": {"number": 4}}]
    # 0, 1 and 2 were dropped here, and 5 before 1 and 3 before 3 by the source.
    assert await rest(reader) == [
        {"data": {"number": 3}, "extensions": {"missed": 3 + 5 + 3}},
        {"data": {"number": 4}},
    ]


async def test_a_reader_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    recent = Recent(EVERY_EVENT)
    tasks = [asyncio.create_task(rest(recent.reader())) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert len(recent._waiting) == 1
    await recent.add(Payload.of(ExecutionResult({"number": 1})))
    recent.finish()
    assert await tasks[0] == [{"data": {"number": 1}}]
    assert len(recent._waiting) == 0


async def test_a_turnstile_lets_a_burst_pass_and_then_keeps_the_pace() -> None:
    turnstile, clock = Turnstile(rate=200, burst=20), asyncio.get_running_loop().time
    started = clock()
    await asyncio.gather(*(turnstile.pass_through(2) for _ in range(20)))
    # 40 steps, of which 20 pass at once.
    assert clock() - started >= 20 / 200
    order: list[int] = []

    async def come(number: int) -> None:
        await turnstile.pass_through()
        order.append(number)

    await asyncio.gather(*(come(number) for number in range(10)))
    assert order == list(range(10))


async def test_events_beyond_the_pace_are_left_out_and_told(bench: Bench) -> None:
    streams = SharedStreams(bench.operations, Turnstile(rate=400, burst=1))
    prepared, count = await bench.prepared(EVENTS), EVERY_EVENT.capacity + 20
    async with streams.payloads(prepared) as payloads:
        await bench.live.events.until_open()
        bench.live.events.push(*("early" for _ in range(count)), None)
        # The pump keeps the pace, too: it leaves the source as it is meanwhile.
        assert await taken(payloads, 1) == [{"data": {"liveEvents": "early"}}]
        assert bench.live.events.executed < count


async def test_there_is_a_bound_to_how_many_things_a_key_and_all_keys_may_listen_to(
    bench: Bench,
) -> None:
    async def begin(stack: AsyncExitStack, number: int, key: str) -> None:
        alias = f"subscription {{ a{number}: liveActivity {{ users }} }}"
        prepared = await bench.prepared(alias, replace(SHOP, key_id=key))
        await stack.enter_async_context(bench.streams.payloads(prepared))

    async with AsyncExitStack() as stack:
        for number in range(MAX_EXECUTIONS):
            await begin(stack, number, f"k{number // MAX_EXECUTIONS_OF_KEY}")
        for key in ("k0", "another"):
            with pytest.raises(RequestRefused) as refused:
                await begin(stack, MAX_EXECUTIONS, key)
            (error,) = refused.value.errors
            assert (error.extensions or {})["code"] == "OVERLOADED"
            # What goes on already, anybody may read.
            await begin(stack, 0, key)
    assert len(bench.streams) == 0


async def test_a_key_has_its_own_bound(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        for number in range(MAX_EXECUTIONS_OF_KEY + 1):
            alias = f"subscription {{ a{number}: liveActivity {{ users }} }}"
            payloads = bench.streams.payloads(await bench.prepared(alias))
            if number < MAX_EXECUTIONS_OF_KEY:
                await stack.enter_async_context(payloads)
                continue
            with pytest.raises(RequestRefused):
                await stack.enter_async_context(payloads)
        other = await bench.prepared(EVENTS, replace(SHOP, key_id="another"))
        await stack.enter_async_context(bench.streams.payloads(other))
