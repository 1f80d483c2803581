"""Connections that stay: when a peer counts as gone, as slow, or as somebody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from starlette.types import Message

from data.postgres.keys import Scope
from resolvers.access import authenticate
from resolvers.context import Caller
from server.connections import (
    Connection,
    Connections,
    Ended,
    KeyEnded,
    Leaving,
    Outlet,
    Pace,
    PeerGone,
    StoodStill,
    open_connections,
)
from tests.fixtures.app import App

NOBODY = Caller("nobody", "nobody", frozenset({Scope.READ}), "shop")


async def nowhere(_: Message) -> None:
    return


@pytest_asyncio.fixture
async def connections(app: App) -> AsyncIterator[Connections]:
    async with open_connections(app.resources, Pace(recheck=0.02, sweep=0.01, stall=0.1)) as opened:
        yield opened


async def why_ended(connections: Connections, outlet: Outlet, key: str, caller: Caller) -> Ended:
    """Why a connection that does nothing by itself was ended."""
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            with connections.watching(Connection(key, caller, outlet, tasks)):
                await asyncio.Event().wait()
    except ExceptionGroup as several:
        why = several.exceptions[0]
        assert isinstance(why, Ended)
        return why
    raise AssertionError("it was not ended")


@pytest.mark.parametrize("error", [OSError("closed"), RuntimeError("after sending close")])
async def test_who_cannot_be_sent_anything_is_gone(error: Exception) -> None:
    async def send(_: Message) -> None:
        raise error

    with pytest.raises(PeerGone):
        await Outlet(send)({"type": "websocket.send", "text": ""})


async def test_a_peer_stalls_only_while_something_waits_for_it() -> None:
    gate = asyncio.Event()

    async def send(_: Message) -> None:
        await gate.wait()

    outlet, clock = Outlet(send), asyncio.get_running_loop().time
    assert outlet.stalled_for(clock() + 100) == 0
    sending = [asyncio.create_task(outlet({"type": "websocket.send"})) for _ in range(2)]
    await asyncio.sleep(0)
    assert outlet.stalled_for(clock() + 100) > 99
    sending[0].cancel()
    with suppress(asyncio.CancelledError):
        await sending[0]
    assert outlet.stalled_for(clock() + 100) > 99
    gate.set()
    await sending[1]
    assert outlet.stalled_for(clock() + 100) == 0


async def test_a_connection_of_a_key_that_is_no_good_any_more_ends(
    app: App, connections: Connections
) -> None:
    why = await why_ended(connections, Outlet(nowhere), "ff_nobody_00", NOBODY)
    assert isinstance(why, KeyEnded)
    # As does one whose key has become another's, or may do something else now.
    key = await app.key("shop", Scope.READ)
    why = await why_ended(connections, Outlet(nowhere), key, NOBODY)
    assert isinstance(why, KeyEnded)
    assert (why.code, why.reason) == (4403, "Forbidden")


async def test_a_connection_that_stands_still_ends_and_one_that_is_idle_stays(
    app: App, connections: Connections
) -> None:
    async def never(_: Message) -> None:
        await asyncio.Event().wait()

    caller = await authenticate(app.resources, app.admin_key, app.resources.clock())
    idle = asyncio.create_task(why_ended(connections, Outlet(nowhere), app.admin_key, caller))
    outlet = Outlet(never)
    sending = asyncio.create_task(outlet({"type": "websocket.send"}))
    why = await why_ended(connections, outlet, app.admin_key, caller)
    assert isinstance(why, StoodStill)
    assert len(connections) == 1
    sending.cancel()
    connections.end_all()
    # Told twice, it ends once.
    connections.end_all()
    assert isinstance(await idle, Leaving)
