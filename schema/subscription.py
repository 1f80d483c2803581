"""What can be listened to: input to query object, resolver, type."""

from __future__ import annotations

from collections.abc import AsyncIterator

import strawberry
from strawberry import UNSET

from data.events import StoredEvent
from data.queries import Activity
from resolvers import live
from schema.arguments import Info, SiteId, given
from schema.directives import Cost
from schema.events import Event
from schema.fields import stream
from schema.filters import Filter, filter_asked
from schema.live import LiveActivity

# Of subscribing; what comes then costs nothing more.
_STORE = Cost(weight="100")


@strawberry.type
class Subscription:
    """What can be listened to, of one site at a time; a key of one site need not say which."""

    @stream(
        "Events as they are committed, in order of arrival, from the moment of subscribing. A "
        "reader that falls too far behind loses the oldest ones; `extensions.missed` then says "
        "how many.",
        Event,
        directives=[_STORE],
    )
    async def live_events(
        self, info: Info, *, site_id: SiteId = UNSET, filter: Filter = UNSET
    ) -> AsyncIterator[StoredEvent]:
        return await live.live_events(info.context, given(site_id), filter_asked(filter))

    @stream(
        "Users, events and paths of the last five minutes: at once, then at every whole second. "
        "No value comes while the service cannot be up to date, nor for a second that a reader "
        "has slept through.",
        LiveActivity,
        directives=[_STORE],
    )
    async def live_activity(
        self, info: Info, *, site_id: SiteId = UNSET
    ) -> AsyncIterator[Activity]:
        return await live.live_activity(info.context, given(site_id))
