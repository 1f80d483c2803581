"""Sending answers as bare ASGI messages: the hot paths need no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from starlette.types import Send

Header = tuple[bytes, bytes]

encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[Header, ...] = ()


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
