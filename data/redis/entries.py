"""What an entry of the queue holds: the events and rejections of one request, as bytes.

The first byte says how the rest is written, so that a later version can read what an earlier one
has queued. Ids and times are those that the pipeline has fixed: whoever commits an entry, and
however often, commits the same events.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from data.events import Event, Rejection

_PLAIN = b"\x01"
_COMPRESSED = b"\x02"
# Below this, compressing takes longer than it saves.
_COMPRESS_BYTES = 4 * 1024
# Fast rather than small: the names of fields are most of what it saves.
_LEVEL = 1
# Far beyond what the largest request comes to; who claims more means no good.
MAX_ENTRY_BYTES = 64 * 1024 * 1024


class Undecodable(Exception):
    """These bytes are no entry; the message says how they differ."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The events of one request that are to be committed, and those that were refused."""

    events: list[Event]
    rejections: list[Rejection] = []

    @property
    def size(self) -> int:
        """How many events it stands for, refused ones included."""
        return len(self.events) + len(self.rejections)


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def encode_entry(events: Sequence[Event], rejections: Sequence[Rejection]) -> bytes:
    """The bytes of an entry, compressed where that saves much."""
    plain = _encode((events, rejections))
    if len(plain) < _COMPRESS_BYTES:
        return _PLAIN + plain
    return _COMPRESSED + zlib.compress(plain, _LEVEL)


def decode_entry(data: bytes) -> Entry:
    """The entry that was written as these bytes; raises `Undecodable`."""
    form, body = data[:1], data[1:]
    if form == _COMPRESSED:
        body = _inflated(body)
    elif form != _PLAIN:
        raise Undecodable(f"it begins with {form!r}: no version of an entry does")
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Undecodable(str(error)) from None


def _inflated(body: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        plain = inflating.decompress(body, MAX_ENTRY_BYTES)
    except zlib.error as error:
        raise Undecodable(f"it cannot be inflated: {error}") from None
    if not inflating.eof or inflating.unused_data:
        raise Undecodable("it was cut off, or is larger than an entry can be")
    return plain
