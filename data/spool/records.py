"""What a segment of the spool holds: a head, then one record for each request.

    segment   magic (8 bytes) | moment of its making (8: microseconds since 1970)
    record    mark (4) | length (4) | CRC-32 of the payload (4) | CRC-32 of the 12 before (4) | payload

Numbers are little-endian; the payload is MessagePack. The mark lets reading go on behind a stretch
that is damaged; it is no UTF-8, so that no text of an event can pass for it. The checksum of the
header tells a record whose end is missing, which was never acknowledged, from one whose length
can't be believed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from data.events import Event, Rejection

_MAGIC = b"FFSPOOL1"
_HEAD = struct.Struct("<8sQ")
_MARK = b"\xf0FF\n"
_HEADER = struct.Struct("<4sIII")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HEAD_BYTES = _HEAD.size


class Unreadable(Exception):
    """A file is no segment, or of a later version of the service."""


class Spooled(msgspec.Struct, frozen=True):
    """What one request brought: with ids and times given, so that it can be committed later."""

    events: list[Event]
    rejections: list[Rejection]


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record; `end` is where the next one begins."""

    spooled: Spooled
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment where records were, or may have been, that can't be read."""

    start: int
    end: int


_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(Spooled).decode


def encode_head(made_at: datetime) -> bytes:
    """How a segment begins."""
    return _HEAD.pack(_MAGIC, (made_at - _EPOCH) // timedelta(microseconds=1))


def decode_head(head: bytes) -> datetime:
    """When a segment was made; raises `Unreadable`."""
    if len(head) < HEAD_BYTES or not head.startswith(_MAGIC):
        raise Unreadable("it does not begin as a segment does")
    try:
        return _EPOCH + timedelta(microseconds=_HEAD.unpack_from(head)[1])
    except OverflowError:
        raise Unreadable("it was made at no possible time") from None


def encode_record(events: Sequence[Event], rejections: Sequence[Rejection]) -> bytes:
    """A record; raises UnicodeEncodeError for half characters, which no store takes."""
    payload = _encoder.encode(Spooled(list(events), list(rejections)))
    front = struct.pack("<4sII", _MARK, len(payload), zlib.crc32(payload))
    return b"".join((front, struct.pack("<I", zlib.crc32(front)), payload))


def read_records(segment: bytes, start: int = HEAD_BYTES) -> Iterator[Record | Damage]:
    """Every whole record from `start` on, in order, and the damaged stretches between them.

    A last record whose end is missing is left out: its writing was cut off, so nobody was told
    that it is safe.
    """
    position = start
    while not _is_torn(segment, position):
        record = _record_at(segment, position)
        if record is None:
            end = _next_record(segment, position + 1)
            yield Damage(position, end)
            position = end
        else:
            yield record
            position = record.end


def _is_torn(segment: bytes, position: int) -> bool:
    """Whether nothing but an unfinished record follows, or nothing at all."""
    rest = len(segment) - position
    if rest < _HEADER.size:
        return True
    length = _length_at(segment, position)
    if length is not None:
        return rest < _HEADER.size + length
    # After a loss of power a file may be longer than what reached the disk.
    return not segment[position:].strip(b"\0")


def _length_at(segment: bytes, position: int) -> int | None:
    """The length of the payload, where a sound header stands."""
    if len(segment) - position < _HEADER.size:
        return None
    mark, length, _, checksum = _HEADER.unpack_from(segment, position)
    front = segment[position : position + _HEADER.size - 4]
    return length if mark == _MARK and checksum == zlib.crc32(front) else None


def _record_at(segment: bytes, position: int) -> Record | None:
    length = _length_at(segment, position)
    if length is None:
        return None
    begin = position + _HEADER.size
    payload = segment[begin : begin + length]
    if len(payload) < length or zlib.crc32(payload) != _HEADER.unpack_from(segment, position)[2]:
        return None
    try:
        return Record(_decode(payload), begin + length)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _next_record(segment: bytes, position: int) -> int:
    """Where the next sound header stands; the end of the segment if there is none."""
    while (position := segment.find(_MARK, position)) >= 0:
        if _length_at(segment, position) is not None:
            return position
        position += 1
    return len(segment)
