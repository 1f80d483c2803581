"""Bodies: those of requests bounded in size, also after decompression; those of answers small."""

from __future__ import annotations

import gzip
from asyncio import to_thread
from collections.abc import Mapping

from msgspec.structs import replace
from starlette.types import Message, Receive

from data.events import MAX_BODY_BYTES
from data.inflating import CutOff, Inflater, NotCompressed, TooManyMembers
from server.negotiation import takes_gzip
from server.responses import Answer

# A body below this fits into a packet or two anyway.
COMPRESSED_BYTES = 1_024
# From here on compressing would hold up all other requests for some milliseconds.
THREAD_BYTES = 256 * 1_024


class BodyProblem(Exception):
    """A body that cannot be read: an HTTP status and a sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; send it in several requests"


class ClientGone(Exception):
    """The client went away before it had sent all of its body."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body, decompressed where it is gzip; raises `BodyProblem` or `ClientGone`."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b"", b"gzip", b"x-gzip"):
        raise BodyProblem(415, "the content encoding must be gzip or none")
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise BodyProblem(413, _TOO_LARGE)
    message = await receive()
    body = message.get("body", b"")
    if message.get("more_body") or message["type"] == "http.disconnect":
        body = await _receive_all(receive, message)
    elif len(body) > MAX_BODY_BYTES:
        raise BodyProblem(413, _TOO_LARGE)
    return _gunzip(body) if encoding in (b"gzip", b"x-gzip") else body


async def _receive_all(receive: Receive, message: Message) -> bytes:
    """A body that comes in several messages, of which the first is there."""
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyProblem(413, _TOO_LARGE)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _gunzip(body: bytes) -> bytes:
    """Decompressed; stops as soon as it gets too large, whatever the compressed size."""
    inflater = Inflater()
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    try:
        for piece in inflater.pieces(body, MAX_BODY_BYTES + 1):
            parts.append(piece)
            room -= len(piece)
            if room < 0:
                raise BodyProblem(413, _TOO_LARGE)
        inflater.finish()
    except TooManyMembers:
        raise BodyProblem(400, "the gzip body has too many members; compress it as one") from None
    except CutOff:
        raise BodyProblem(400, "the gzip body is cut off") from None
    except NotCompressed:
        raise BodyProblem(
            400, "the body is not gzip, though its content encoding says so"
        ) from None
    return b"".join(parts)


def compressed(body: bytes) -> bytes:
    """The body as gzip, made fast rather than small; the same bytes for the same body."""
    return gzip.compress(body, compresslevel=1, mtime=0)


async def packed(answer: Answer, accept_encoding: bytes) -> Answer:
    """The answer as the client would rather have it: compressed, where that is worth it."""
    body = answer.body
    if len(body) < COMPRESSED_BYTES or not takes_gzip(accept_encoding):
        return answer
    small = compressed(body) if len(body) < THREAD_BYTES else await to_thread(compressed, body)
    return replace(answer, body=small, headers=(*answer.headers, (b"content-encoding", b"gzip")))
