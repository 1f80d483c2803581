"""Limits of time for answers of others, which do not count the time in which we could not listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# A loop that comes so late to a timer was at something else: what came meanwhile is still unread.
_HELD_UP_SECONDS = 0.05


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, for an answer from outside; raises `TimeoutError`.

    Where this process itself was held up as the time ran out, by other work, a busy machine or a
    frozen one, there is the whole time once more: the answer may have come long ago.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def end(due: float, may_wait: bool) -> None:
        nonlocal timer
        now = loop.time()
        if may_wait and now - due > _HELD_UP_SECONDS:
            timer = loop.call_at(now + seconds, end, now + seconds, False)
        else:
            limit.reschedule(now)

    due = loop.time() + seconds
    timer = loop.call_at(due, end, due, True)
    try:
        async with asyncio.timeout(None) as limit:
            yield
    finally:
        timer.cancel()
