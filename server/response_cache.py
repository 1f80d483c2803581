"""Answers to queries by GET, kept for as long as they say themselves that they are fresh.

What a client sees of it is what a private HTTP cache in front of the service would show
(RFC 9111); only that its key is checked for every request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from starlette.types import Send

from server.bodies import COMPRESSED_BYTES, THREAD_BYTES, compressed
from server.negotiation import takes_gzip
from server.responses import Header, is_known_tag

MAX_BYTES = 64 * 1024 * 1024
# One answer may take no more than this part of it all.
_LARGEST_PART = 16
# What an entry takes beside its texts.
_OVERHEAD = 2_048

# Whose answer it is, in which media type, and the query string just as it came.
Key = tuple[str, bytes, bytes]


@dataclass(frozen=True)
class Kept:
    """An answer of success. `made_at` is in monotonic seconds, `max_age` in seconds.

    `is_by_name` tells that the request sent no document's text.
    """

    body: bytes
    content_type: bytes
    max_age: int
    made_at: float
    is_by_name: bool

    @cached_property
    def plain(self) -> Variant:
        """The body as it is."""
        tag = sha256(self.body).hexdigest()[:32]
        return self._variant(self.body, b'"%s"' % tag.encode())

    @cached_property
    def gzip(self) -> Variant:
        """The compressed body: other bytes, and therefore another tag."""
        tag = self.plain.etag[:-1] + b'-gzip"'
        return self._variant(compressed(self.body), tag, (b"content-encoding", b"gzip"))

    async def zipped(self) -> Variant:
        """The compressed body, made in a thread where making it would hold up other requests."""
        if len(self.body) < THREAD_BYTES or "gzip" in vars(self):
            return self.gzip
        return await asyncio.to_thread(lambda: self.gzip)

    def _variant(self, body: bytes, etag: bytes, *more: Header) -> Variant:
        validated = [
            (b"etag", etag),
            # Never to be shared: it depends on who asks.
            (b"cache-control", b"private, max-age=%d" % self.max_age),
        ]
        described = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(body)),
            *more,
        ]
        return Variant(body, etag, validated, [*described, *validated])


@dataclass(frozen=True, slots=True)
class Variant:
    """An answer in one encoding: its strong tag, and the headers of a 304 and of a 200."""

    body: bytes
    etag: bytes
    not_modified: list[Header]
    ok: list[Header]


async def send_kept(
    send: Send, kept: Kept, headers: Mapping[bytes, bytes], more: tuple[Header, ...]
) -> None:
    """Send the answer in the encoding that the request's headers ask for; 304 if it is known."""
    is_long = len(kept.body) >= COMPRESSED_BYTES
    is_zipped = is_long and takes_gzip(headers.get(b"accept-encoding", b""))
    variant = await kept.zipped() if is_zipped else kept.plain
    is_known = is_known_tag(headers, variant.etag)
    status, head, body = (
        (304, variant.not_modified, b"") if is_known else (200, variant.ok, variant.body)
    )
    await send({"type": "http.response.start", "status": status, "headers": [*head, *more]})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class Wish:
    """How old an answer may be that a request takes, and whether its own may be kept."""

    max_age: float = float("inf")
    may_keep: bool = True

    @property
    def is_for_new(self) -> bool:
        """Nothing that was there before will do, however young."""
        return self.max_age <= 0


_ANY = Wish()


def wish_of(cache_control: bytes | None, pragma: bytes | None = None) -> Wish:
    """What a request's `Cache-Control` asks for; what says nothing to us is passed over."""
    if cache_control is None:
        return Wish(0.0) if pragma and b"no-cache" in pragma.lower() else _ANY
    oldest, may_keep = float("inf"), True
    for directive in cache_control.lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        if name in (b"no-cache", b"no-store"):
            oldest = 0.0
            may_keep = may_keep and name != b"no-store"
        elif name == b"max-age" and (number := value.strip(b' "')).isdigit():
            oldest = min(oldest, float(number))
    return Wish(oldest, may_keep)


@dataclass(slots=True)
class ResponseCache:
    """Answers, those that were used last kept, with no more than `max_bytes` altogether."""

    max_bytes: int = MAX_BYTES
    size: int = 0
    _kept: OrderedDict[Key, Kept] = field(default_factory=OrderedDict)
    _flights: dict[Key, asyncio.Future[Kept | None]] = field(default_factory=dict)

    def fresh(self, key: Key, at: float, wish: Wish = _ANY) -> Kept | None:
        """The answer that is kept under a key, if it is young enough at that moment."""
        kept = self._kept.get(key)
        if kept is None or wish.is_for_new:
            return None
        age = at - kept.made_at
        if age >= kept.max_age:
            self._drop(key)
            return None
        if age > wish.max_age:
            return None
        self._kept.move_to_end(key)
        return kept

    def keep(self, key: Key, kept: Kept) -> None:
        """Keep an answer, in place of an older one."""
        self._drop(key)
        if _size(key, kept) * _LARGEST_PART > self.max_bytes:
            return
        self._kept[key] = kept
        self.size += _size(key, kept)
        while self.size > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= _size(key, kept)

    async def shared(self, key: Key) -> Kept | None:
        """The answer that another request is getting right now, if it may be shared."""
        flight = self._flights.get(key)
        # Shielded: who stops waiting does not stop the others.
        return await asyncio.shield(flight) if flight is not None else None

    @asynccontextmanager
    async def flight(self, key: Key) -> AsyncIterator[asyncio.Future[Kept | None]]:
        """Get an answer for whoever asks for it meanwhile.

        Set the future to the answer, or to None as soon as it is clear that it may not be shared.
        """
        flight: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        if key not in self._flights:
            self._flights[key] = flight
        try:
            yield flight
        finally:
            if not flight.done():
                flight.set_result(None)
            if self._flights.get(key) is flight:
                del self._flights[key]


def _size(key: Key, kept: Kept) -> int:
    # With room for the compressed body, which is made when somebody asks for it.
    return len(key[2]) + len(kept.body) * 3 // 2 + _OVERHEAD
