"""Dead letters: what a worker could not bring into the ledger, kept until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from data.redis.queue import Queue


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event or, where none can be told apart, an entry that was taken out of the queue.

    `content` is an entry of the queue, if it can be decoded at all, with `events` in it. `tries`
    is how often it was handed to a worker.
    """

    letter_id: str
    content: bytes
    events: int
    reason: str
    tries: int
    queued_at: datetime
    failed_at: datetime


async def letters_after(queue: Queue, after: str | None, most: int) -> list[DeadLetter]:
    """Dead letters behind a place, oldest first; raises `RedisUnavailable`."""
    start = f"({after}" if after else "-"
    async with queue.redis.using() as client:
        found: Any = await client.xrange(queue.keys[2], min=start, count=most)
    return [_letter(letter_id.decode(), fields) for letter_id, fields in found]


async def oldest_letter_ids(queue: Queue, most: int) -> list[str]:
    """Ids of so many dead letters, oldest first."""
    return [one.letter_id for one in await letters_after(queue, None, most)]


async def delete_letters(queue: Queue, ids: Sequence[str]) -> int:
    """Delete dead letters for good; how many of them there were."""
    async with queue.redis.using() as client:
        count: int = await client.xdel(queue.keys[2], *ids)
    return count


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        letter_id=letter_id,
        content=fields.get(b"p", b""),
        events=int(fields.get(b"n", b"0")),
        reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
        tries=int(fields.get(b"tries", b"0")),
        queued_at=_moment(fields.get(b"queued", b"0")),
        failed_at=_moment(fields.get(b"failed", b"0")),
    )


def _moment(millis: bytes) -> datetime:
    return datetime.fromtimestamp(int(millis) / 1000, UTC)
