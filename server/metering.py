"""Rate limits over HTTP: whom a request counts for, and the headers that tell what remains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.types import Message, Scope, Send

from data.resources import Resources
from resolvers.rate_limits import Meter
from server.addresses import client_address, client_of
from server.responses import Header
from server.settings import Network

TOLD: tuple[str, ...] = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def meter_of(scope: Scope, trusted: Sequence[Network], key_id: str | None = None) -> Meter | None:
    """What counts this request; None where nothing is counted."""
    resources: Resources = scope["state"]["resources"]
    limits = resources.rate_limits
    if limits is None:
        return None
    return Meter(limits, client_of(client_address(scope, trusted)), key_id)


def telling(send: Send, meter: Meter) -> Send:
    """A `send` whose answer tells where its client stands, once the request was counted."""

    async def send_with_standing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *standing_headers(meter)]
        await send(message)

    return send_with_standing


def standing_headers(meter: Meter) -> tuple[Header, ...]:
    """The limit, what remains of it, and the seconds until more does; none if nothing counted."""
    standing = meter.standing
    if standing is None:
        return ()
    values: tuple[Any, ...] = (standing.limit, standing.remaining, standing.reset_seconds)
    return tuple((name.encode(), b"%d" % value) for name, value in zip(TOLD, values, strict=True))
