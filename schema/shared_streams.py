"""Subscriptions that many read: one execution for all who ask the same and may see the same.

Each event is executed and encoded once, and kept once for all readers until newer ones take its
place. Handing out waits for nobody, so a reader that is slow costs the others nothing; what becomes
of payloads that it does not take stands here for each field, in `DELIVERIES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from contextvars import Context as ContextVariables
from dataclasses import dataclass, field

import msgspec
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
)

from resolvers.errors import Overloaded
from schema.operations import Operations, Prepared, Reason, RequestRefused
from schema.payloads import Delivery, Payload, Recent
from schema.presenting import refused, unexpected
from schema.turnstile import Turnstile
from telemetry.logs import bind_correlation_id, new_correlation_id

EVERY_EVENT = Delivery(capacity=1_000)
CURRENT_VALUE = Delivery(capacity=1, is_current=True)
# By root field; EVERY_EVENT for one that is not here.
DELIVERIES: Mapping[str, Delivery] = {
    "liveActivity": CURRENT_VALUE,
    "liveEvents": EVERY_EVENT,
}

# All events together have a fifth of a core: a step is one event sent to one reader, some 40 us,
# and executing an event takes as long as three. Beyond that events are left out, and told as
# missed; without a bound, pages that list a busy site's events would take the core from ingest.
STEPS_PER_SECOND = 5_000
STEPS_OF_EXECUTION = 3

# Each execution may keep a megabyte for its readers and has a statement run for it all the time, so
# that nobody may have one for whatever comes to mind.
MAX_EXECUTIONS = 500
MAX_EXECUTIONS_OF_KEY = 50
_RETRY_SECONDS = 10

_canonical = msgspec.json.Encoder(enc_hook=repr, order="deterministic").encode


@dataclass(slots=True, eq=False)
class _Stream:
    """One execution, begun for a key. `opened` tells whether the source could be had."""

    key_id: str
    recent: Recent
    opened: asyncio.Future[None]
    readers: int = 0
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class SharedStreams:
    """The subscriptions that are read now, in this process."""

    operations: Operations
    events_pace: Turnstile = field(
        default_factory=lambda: Turnstile(STEPS_PER_SECOND, burst=STEPS_PER_SECOND)
    )
    _streams: dict[object, _Stream] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __len__(self) -> int:
        """How many executions there are."""
        return len(self._streams)

    @asynccontextmanager
    async def payloads(self, prepared: Prepared) -> AsyncIterator[AsyncIterator[str]]:
        """The results of an operation as JSON texts: of a subscription for as long as it goes.

        Raises `RequestRefused` before the first one. A subscription ends when its last reader
        leaves.
        """
        if prepared.kind != "subscription" or prepared.is_dry_run:
            yield _once(Payload.of(await self.operations.execute(prepared)).text)
            return
        key = _key(prepared)
        stream = self._streams.get(key) or self._start(key, prepared)
        stream.readers += 1
        try:
            reader = stream.recent.reader()
            # Shielded: who came first may leave, and the others still wait for it.
            await asyncio.shield(stream.opened)
            yield reader
        finally:
            stream.readers -= 1
            if not stream.readers:
                self._end(key, stream)

    def _start(self, key: object, prepared: Prepared) -> _Stream:
        key_id = prepared.context.caller.key_id
        self._require_room(key_id, prepared)
        delivery = DELIVERIES.get(_root_field(prepared), EVERY_EVENT)
        recent = Recent(delivery, None if delivery.is_current else self.events_pace)
        stream = _Stream(key_id, recent, asyncio.get_running_loop().create_future())
        # In a context of its own: what is done for many belongs to nobody's request or trace.
        stream.task = asyncio.create_task(
            self._run(key, stream, prepared), name="shared-stream", context=ContextVariables()
        )
        self._streams[key] = stream
        self._tasks.add(stream.task)
        stream.task.add_done_callback(self._tasks.discard)
        return stream

    def _require_room(self, key_id: str, prepared: Prepared) -> None:
        own = sum(stream.key_id == key_id for stream in self._streams.values())
        if own < MAX_EXECUTIONS_OF_KEY and len(self._streams) < MAX_EXECUTIONS:
            return
        full = Overloaded(
            f"{own} different subscriptions of this key and {len(self._streams)} in all go on "
            f"here; {MAX_EXECUTIONS_OF_KEY} and {MAX_EXECUTIONS} are the most: end one, or ask "
            "what another one asks",
            _RETRY_SECONDS,
        )
        raise RequestRefused([refused(full)], Reason.SUBSCRIPTION, prepared.kind)

    async def _run(self, key: object, stream: _Stream, prepared: Prepared) -> None:
        try:
            with bind_correlation_id(new_correlation_id()):
                await self._read(stream, prepared)
        except RequestRefused as refusal:
            stream.opened.set_exception(refusal)
        finally:
            # First, so that whoever comes now gets a stream that goes on.
            self._forget(key, stream)
            stream.opened.cancel()
            stream.recent.finish()

    async def _read(self, stream: _Stream, prepared: Prepared) -> None:
        try:
            async with aclosing(await self.operations.subscribe(prepared)) as results:
                stream.opened.set_result(None)
                async for result in results:
                    await stream.recent.add(Payload.of(result))
                    if stream.recent.turnstile is not None:
                        await stream.recent.turnstile.pass_through(STEPS_OF_EXECUTION)
        except RequestRefused:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the readers get an answer
            errors = [unexpected(error)]
            if not stream.opened.done():
                raise RequestRefused(errors, Reason.SUBSCRIPTION, prepared.kind) from None
            await stream.recent.add(Payload.of_errors(errors))

    def _end(self, key: object, stream: _Stream) -> None:
        self._forget(key, stream)
        assert stream.task is not None
        stream.task.cancel()

    def _forget(self, key: object, stream: _Stream) -> None:
        if self._streams.get(key) is stream:
            del self._streams[key]


async def _once(text: str) -> AsyncIterator[str]:
    yield text


def _key(prepared: Prepared) -> object:
    """What makes two subscriptions the same: what is asked, and what the caller may see.

    What events tell may depend on a caller's site and scopes, and on nothing else of the key.
    """
    caller, name = prepared.context.caller, prepared.operation.node.name
    return (
        prepared.document.text,
        name.value if name else None,
        _canonical(prepared.variables.coerced),
        caller.site_id,
        caller.scopes,
    )


def _root_field(prepared: Prepared) -> str:
    """The one field of a subscription, which may stand in a fragment."""
    fragments = {
        node.name.value: node
        for node in prepared.document.ast.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    return next(_fields(prepared.operation.node.selection_set, fragments), "")


def _fields(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[str]:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode):
            yield from _fields(fragments[node.name.value].selection_set, fragments)
