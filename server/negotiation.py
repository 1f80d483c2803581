"""What a client and the service agree on: media types and encodings (RFC 9110, 12.5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

JSON = b"application/json"
RESPONSE = b"application/graphql-response+json"
EVENT_STREAM = b"text/event-stream"
HTML = b"text/html"

# Longer headers than clients have a reason for are read anew each time, so that nobody fills the
# cache, and those that are longer still only so far: reading them is work before any key is seen.
_CACHED_LENGTH = 400
_READ_LENGTH = 4_000
_ANYTHING = b"*/*"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type as a header names it. `charset` is lower case and empty where none is named."""

    essence: bytes
    charset: bytes


@dataclass(frozen=True, slots=True)
class _Range:
    """One entry of a header such as `Accept`. `quality` is from 0, not acceptable, to 1."""

    name: bytes
    charset: bytes
    quality: float
    position: int


def media_type_of(content_type: bytes) -> MediaType:
    """The media type that a `Content-Type` header names."""
    if len(content_type) > _CACHED_LENGTH:
        return _media_type_of(content_type)
    return _media_type_of_cached(content_type)


def preferred(accept: bytes, offered: tuple[bytes, ...]) -> bytes | None:
    """The media type, of those offered, that an `Accept` header likes best; None if it takes none.

    The higher quality wins (RFC 9110, 12.5.1), judged for each type by the most specific range
    that fits. Among equals a type that is named goes before one that a wildcard lets in, then the
    one named earlier, then the one offered earlier. An empty header takes anything.
    """
    if len(accept) > _CACHED_LENGTH:
        return _preferred(accept[:_READ_LENGTH], offered)
    return _preferred_cached(accept, offered)


def takes_gzip(accept_encoding: bytes) -> bool:
    """Whether an `Accept-Encoding` header takes gzip, and likes it no less than plain bytes."""
    if len(accept_encoding) > _CACHED_LENGTH:
        return _takes_gzip(accept_encoding[:_READ_LENGTH])
    return _takes_gzip_cached(accept_encoding)


def _media_type_of(content_type: bytes) -> MediaType:
    essence, *parameters = content_type.split(b";")
    return MediaType(essence.strip().lower(), _parameter(parameters, b"charset"))


def _preferred(accept: bytes, offered: tuple[bytes, ...]) -> bytes | None:
    ranges = _ranges(accept) if accept.strip() else [_Range(_ANYTHING, b"", 1.0, 0)]
    best: bytes | None = None
    best_rank = (0.0, 0, 0)
    for media_type in offered:
        found = [(fit, one) for one in ranges if (fit := _fit(one, media_type))]
        if not found:
            continue
        specific, one = max(found, key=lambda pair: (pair[0], -pair[1].position))
        rank = (one.quality, specific, -one.position)
        if one.quality > 0 and (best is None or rank > best_rank):
            best, best_rank = media_type, rank
    return best


def _takes_gzip(accept_encoding: bytes) -> bool:
    qualities = {one.name: one.quality for one in _ranges(accept_encoding)}
    gzip = qualities.get(b"gzip", qualities.get(b"x-gzip", qualities.get(b"*", 0.0)))
    return gzip > 0 and gzip >= qualities.get(b"identity", 0.0)


_media_type_of_cached = lru_cache(maxsize=512)(_media_type_of)
_preferred_cached = lru_cache(maxsize=512)(_preferred)
_takes_gzip_cached = lru_cache(maxsize=512)(_takes_gzip)


def _ranges(header: bytes) -> list[_Range]:
    ranges = []
    for position, entry in enumerate(header.split(b",")):
        name, *parameters = entry.split(b";")
        name = name.strip().lower()
        quality = _quality(_parameter(parameters, b"q"))
        if name and quality is not None:
            ranges.append(_Range(name, _parameter(parameters, b"charset"), quality, position))
    return ranges


def _parameter(parameters: list[bytes], wanted: bytes) -> bytes:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == wanted:
            return value.strip().strip(b'"').lower()
    return b""


def _quality(text: bytes) -> float | None:
    if not text:
        return 1.0
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return None


def _fit(one: _Range, media_type: bytes) -> int:
    """How closely a range fits a type: 0 not at all, 1 to 3 ever closer."""
    if one.charset not in (b"", b"utf-8", b"utf8"):
        return 0
    if one.name == media_type:
        return 3
    if one.name == media_type.partition(b"/")[0] + b"/*":
        return 2
    return 1 if one.name in (_ANYTHING, b"*") else 0
