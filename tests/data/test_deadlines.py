"""Limits for answers: they end what does not answer, and forgive what we were too busy to hear."""

import asyncio
import socket
import time

import pytest

from data.deadlines import answer_within


async def test_what_does_not_answer_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)

    with pytest.raises(TimeoutError):
        async with answer_within(0.1):
            await reader.readline()

    writer.close()
    theirs.close()


async def test_an_answer_that_came_while_the_process_was_held_up_counts() -> None:
    # A pair of sockets: what is sent is there at once, whoever else is held up.
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)

    async with answer_within(2.5):
        reading = asyncio.ensure_future(reader.readline())
        await asyncio.sleep(0.01)
        theirs.sendall(b"here\n")
        time.sleep(3)
        assert await reading == b"here\n"

    writer.close()
    theirs.close()


async def test_being_held_up_gives_more_time_once_and_not_for_ever() -> None:
    asyncio.get_running_loop().call_later(0.05, time.sleep, 0.3)
    with pytest.raises(TimeoutError):
        async with answer_within(0.1):
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_is_none_of_its_business() -> None:
    async def wait() -> None:
        async with answer_within(30):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
