"""Headers that every answer has: what a browser may make of it, and from where.

They are constant bytes, added once by the middleware. An answer that needs others says so under
`GUARDS` in its request's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.addresses import is_trusted_peer
from server.responses import Header
from server.settings import Network

# In a scope: the headers that guard this answer in place of the usual ones.
GUARDS = "footfall.guards"

# Two years, as browsers want it of those who mean it. Without `includeSubDomains`: what else stands
# below the operator's domain is not ours to decide.
STRICT_TRANSPORT: Header = (b"strict-transport-security", b"max-age=63072000")

_OF_ALL: tuple[Header, ...] = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
# An answer of the API is data: should a browser be made to show it, it runs and loads nothing.
_INERT: Header = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_OWN_ORIGIN: Header = (b"cross-origin-resource-policy", b"same-origin")
_ANY_ORIGIN: Header = (b"cross-origin-resource-policy", b"cross-origin")

OF_API: tuple[Header, ...] = (_INERT, *_OF_ALL, _OWN_ORIGIN)
# The pixel is there to be loaded by the pages of others.
OF_COLLECT: tuple[Header, ...] = (_INERT, *_OF_ALL, _ANY_ORIGIN)


def came_by_https(scope: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Whether the client spoke TLS, with us or, as `X-Forwarded-Proto` tells, a trusted proxy."""
    if scope["scheme"] in ("https", "wss"):
        return True
    if not is_trusted_peer(scope, trusted):
        return False
    told = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    # The last one is the nearest proxy's; a list in it is in the order of the hops, as is the rest.
    return bool(told) and told[-1].rpartition(b",")[2].strip().lower() == b"https"
