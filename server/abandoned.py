"""Questions whose askers have gone: their work ends before its deadline."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from server.bodies import ClientGone

# Nearly every question is answered by then, and pays for a timer only.
PATIENCE_SECONDS = 1.0


class WhileAwaited:
    """Work within this block is cancelled when the client goes away; it then raises `ClientGone`.

    The whole body must have been received: what comes after it can only be the end.
    """

    __slots__ = ("_cancelling", "_is_gone", "_receive", "_task", "_timer", "_watching")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # an endpoint runs in one
        self._task, self._cancelling = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._watch)

    def _watch(self) -> None:
        self._watching = asyncio.create_task(self._until_gone(), name="client-watch")

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the empty body of a GET
        self._is_gone = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        # Another reason to end, such as the end of the service, comes before ours.
        is_ours = self._is_gone and self._task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise ClientGone from None
