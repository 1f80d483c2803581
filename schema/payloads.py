"""Results as texts, ready to be sent, and where they wait for their readers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from graphql import ExecutionResult, GraphQLError

from schema.turnstile import Turnstile

# However few they are, so much text of a stream is kept for slow readers at most.
MAX_CHARACTERS = 1_000_000
# So many readers are woken at once; then other work gets its turn.
PORTION = 100

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Payload:
    """One result as JSON text; its extensions begin behind `start` characters of it.

    `lost` is how many events nobody got, because the source itself could not keep up.
    """

    text: str
    start: int
    extensions: Mapping[str, object]
    lost: int = 0

    @property
    def events(self) -> int:
        """How many events it stands for: its own and those that were lost before it."""
        return 1 + self.lost

    @classmethod
    def of(cls, result: ExecutionResult) -> Payload:
        """The text of a result whose errors are presented already."""
        body: dict[str, object] = {"data": result.data}
        if result.errors:
            body["errors"] = [error.formatted for error in result.errors]
        start, extensions = _encode(body).decode()[:-1], result.extensions or {}
        lost = extensions.get("missed")
        return cls(
            _closed(start, extensions),
            len(start),
            extensions,
            lost if isinstance(lost, int) else 0,
        )

    @classmethod
    def of_errors(cls, errors: Sequence[GraphQLError]) -> Payload:
        """The text of a refusal: nothing was executed, so there is no data."""
        text = _encode({"errors": [error.formatted for error in errors]}).decode()
        return cls(text, len(text) - 1, {})

    def telling(self, missed: int) -> str:
        """The text with the number of events that its reader lost before it."""
        return _closed(self.text[: self.start], {**self.extensions, "missed": missed})


def _closed(start: str, extensions: Mapping[str, object]) -> str:
    if not extensions:
        return f"{start}}}"
    return f'{start},"extensions":{_encode(extensions).decode()}}}'


@dataclass(frozen=True, slots=True)
class Delivery:
    """What becomes of payloads that a reader does not take in time.

    It finds the newest ones, `capacity` of them at most. `is_current`: each payload stands for all
    before it, so a lost one needs no mention, and who joins gets the newest at once. Otherwise the
    next payload tells in `extensions.missed` how many events were lost.
    """

    capacity: int
    is_current: bool = False


@dataclass(slots=True, eq=False)
class Recent:
    """The newest payloads of a stream, once for all of its readers.

    Each reader has no more than a place among them: one that is slow costs nothing until it takes
    the next payload, and what was dropped meanwhile was dropped once for all. Payloads are numbered
    from 0; `first` is the oldest that is still there, and `gone` counts the events before it. Each
    reader passes the turnstile, where there is one, for each payload.
    """

    delivery: Delivery
    turnstile: Turnstile | None = None
    first: int = 0
    gone: int = 0
    has_ended: bool = False
    _payloads: deque[Payload] = field(default_factory=deque)
    _characters: int = 0
    _waiting: dict[asyncio.Future[None], None] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The number that the next payload will have."""
        return self.first + len(self._payloads)

    def __getitem__(self, number: int) -> Payload:
        return self._payloads[number - self.first]

    def reader(self) -> Reader:
        """A new reader: of what comes and, where that is the current value, of the newest."""
        seen = self.gone + sum(payload.events for payload in self._payloads)
        if not self.delivery.is_current or not self._payloads:
            return Reader(self, self.end, seen)
        return Reader(self, self.end - 1, seen - self._payloads[-1].events)

    async def add(self, payload: Payload) -> None:
        """Keep a payload and wake who waits for it; the oldest make room."""
        payloads = self._payloads
        payloads.append(payload)
        self._characters += len(payload.text)
        while len(payloads) > self.delivery.capacity or (
            self._characters > MAX_CHARACTERS and len(payloads) > 1
        ):
            dropped = payloads.popleft()
            self._characters -= len(dropped.text)
            self.first += 1
            self.gone += dropped.events
        for number, waiting in enumerate(tuple(self._waiting), 1):
            _wake(waiting)
            if number % PORTION == 0:
                await asyncio.sleep(0)

    def finish(self) -> None:
        """Nothing comes any more; readers still get what is there."""
        self.has_ended = True
        for waiting in tuple(self._waiting):
            _wake(waiting)

    async def change(self) -> None:
        """Return when there is another payload, or the end."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = None
        try:
            await waiting
        finally:
            del self._waiting[waiting]


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@dataclass(slots=True, eq=False)
class Reader:
    """One reader's place in a stream: an iterator over payload texts that ends with it.

    `at` is the number of the payload that comes next, `seen` how many events were before it.
    """

    recent: Recent
    at: int
    seen: int

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        recent = self.recent
        while self.at >= recent.end:
            if recent.has_ended:
                raise StopAsyncIteration
            await recent.change()
        if recent.turnstile is not None:
            await recent.turnstile.pass_through()
        missed = 0
        if self.at < recent.first:
            missed, self.at, self.seen = recent.gone - self.seen, recent.first, recent.gone
        payload = recent[self.at]
        self.at += 1
        self.seen += payload.events
        if not missed or recent.delivery.is_current:
            return payload.text
        return payload.telling(missed + payload.lost)
