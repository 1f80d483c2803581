"""What a resolver is given: who asks, when, and what the service holds open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from data.postgres.keys import DocumentsMode, Scope
from data.resources import Resources
from resolvers.loaders import Loaders
from resolvers.rate_limits import Meter
from resolvers.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key. `site_id` None is a key for all sites."""

    key_id: str
    name: str
    scopes: frozenset[Scope]
    site_id: str | None
    expires_at: datetime | None = None
    documents: DocumentsMode = DocumentsMode.APQ


# A struct, as every request makes one: a frozen data class takes six times as long.
class Context(msgspec.Struct, frozen=True):
    """One request. `body_bytes` is the size of its body, by which its memory is reckoned.

    `wants_new`: nothing will do that was kept from before. `meter` counts it; None where nothing is counted.
    """

    resources: Resources
    caller: Caller
    now: datetime
    loaders: Loaders
    throttle: Throttle = msgspec.field(default_factory=Throttle)
    body_bytes: int = 0
    wants_new: bool = False
    meter: Meter | None = None
