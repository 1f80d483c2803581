"""Sending answers as bare ASGI messages: the hot paths need no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

encode_json = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """One complete answer."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[Header, ...] = ()


def is_known_tag(headers: Mapping[bytes, bytes], etag: bytes) -> bool:
    """Whether `If-None-Match` names the tag, by weak comparison as RFC 9110 has it (13.1.2)."""
    names = headers.get(b"if-none-match")
    if names is None:
        return False
    if names in (etag, b"*"):
        return True
    return any(one.strip().removeprefix(b"W/") == etag for one in names.split(b","))


async def send_answer(send: Send, answer: Answer, more: Iterable[Header] = ()) -> None:
    """Send an answer, with further headers."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
