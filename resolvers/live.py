"""Live data: who may listen to what. Refusals come before the first event."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType

from data.event_store import StoreUnavailable
from data.events import StoredEvent
from data.live_streams import ActivityStream, EventStream
from data.postgres.keys import Scope
from data.queries import EventFilter
from resolvers.access import require_site
from resolvers.context import Context
from resolvers.errors import Unavailable
from resolvers.reports import require_filter


class LiveEvents(AsyncGenerator[StoredEvent, None]):
    """Events in order of arrival; close it at the end.

    `missed` is the number of events that were left out, by the event that was read last, because
    the reader did not keep up. Raises `Unavailable` where the store cannot go on.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    @property
    def missed(self) -> int:
        """How many events were left out until now."""
        return self._stream.missed

    async def asend(self, value: None) -> StoredEvent:
        try:
            return await self._stream.asend(value)
        except StoreUnavailable as error:
            raise _unavailable() from error

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> StoredEvent:
        return await self._stream.athrow(typ, val, tb)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def live_events(ctx: Context, site_id: str | None, wanted: EventFilter) -> LiveEvents:
    """A site's events that pass the filter, as they are committed from now on."""
    site = await require_site(ctx, site_id, Scope.READ)
    await require_filter(ctx, wanted)
    try:
        return LiveEvents(ctx.resources.live.events(site.site_id, wanted))
    except StoreUnavailable as error:
        raise _unavailable() from error


async def live_activity(ctx: Context, site_id: str | None) -> ActivityStream:
    """A site's users, events and paths of the last five minutes: at once, then every second."""
    site = await require_site(ctx, site_id, Scope.READ)
    return ctx.resources.live.activity(site.site_id)


def _unavailable() -> Unavailable:
    return Unavailable("columnar", "live events cannot be told now; subscribe again shortly")
