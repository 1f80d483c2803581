"""Dead letters: what a worker could not bring into the ledger, kept until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from data.redis import queue_scripts as scripts
from data.redis.queue import Queue

# A page is fetched within the time that Redis has for any answer.
_PAGE_BYTES = 2 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Dead letters, oldest first, and whether there are more behind them."""

    letters: Sequence[DeadLetter]
    has_next: bool


async def letters_after(queue: Queue, after: str | None, most: int) -> LetterPage:
    """Dead letters behind a place: so many at the most, and fewer where they are large.

    Raises `RedisUnavailable`.
    """
    start = f"({after}" if after else "-"
    found, has_next = await queue.run(scripts.LETTERS, start, most, _PAGE_BYTES)
    return LetterPage([_letter(*one) for one in found], bool(has_next))


async def oldest_letter_ids(queue: Queue, most: int) -> list[str]:
    """Ids of so many dead letters, oldest first."""
    return [one.decode() for one in await queue.run(scripts.LETTER_IDS, most)]


async def delete_letters(queue: Queue, ids: Sequence[str]) -> int:
    """Delete dead letters for good; how many of them there were."""
    async with queue.redis.using() as client:
        count: int = await client.xdel(queue.keys[2], *ids)
    return count


def _letter(letter_id: bytes, parts: Sequence[bytes]) -> DeadLetter:
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    return DeadLetter(
        letter_id=letter_id.decode(),
        content=fields.get(b"p", b""),
        events=int(fields.get(b"n", b"0")),
        reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
        tries=int(fields.get(b"tries", b"0")),
        queued_at=_moment(fields.get(b"queued", b"0")),
        failed_at=_moment(fields.get(b"failed", b"0")),
    )


def _moment(millis: bytes) -> datetime:
    return datetime.fromtimestamp(int(millis) / 1000, UTC)
