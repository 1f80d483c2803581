"""Dead letters of the queue: looking at them, queueing them anew, and deleting them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from data.admin_log import AdminAction
from data.events import Event, Rejection
from data.redis import dead_letters as stored
from data.redis.client import RedisRefused, RedisUnavailable
from data.redis.dead_letters import DeadLetter, LetterPage
from data.redis.entries import Entry, Undecodable, decode_entry
from data.redis.queue import Queue
from resolvers.access import require_service_wide
from resolvers.admin_log import logged
from resolvers.context import Context
from resolvers.cursors import LETTER_ID, letter_cursor_of, letter_id_of
from resolvers.errors import BadUserInput, Unavailable

MAX_LETTERS = 100
MAX_LETTER_IDS = 1_000
MAX_PREVIEW = 5
_PREVIEW_CHARACTERS = 500
_MOST_LOGGED = 50


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """A dead letter as it is shown: of what is in it, the site and the first events."""

    id: str
    site_id: str | None
    reason: str
    tries: int
    events: int
    queued_at: datetime
    failed_at: datetime
    preview: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """A page of dead letters, oldest first; `cursors[i]` belongs to letter i."""

    letters: Sequence[ShownLetter]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


async def dead_letters(ctx: Context, first: int, after: str | None) -> DeadLetterPage:
    """The first so many dead letters behind a cursor, fewer where they are large.

    None where there is no Redis.
    """
    require_service_wide(ctx.caller)
    if not 1 <= first <= MAX_LETTERS:
        raise BadUserInput("first", f"first takes 1 to {MAX_LETTERS}")
    place = letter_id_of(after) if after else None
    queue = ctx.resources.queue
    try:
        found = await stored.letters_after(queue, place, first) if queue else LetterPage((), False)
    except RedisUnavailable as error:
        raise _unavailable() from error
    return DeadLetterPage(
        letters=[_shown(letter) for letter in found.letters],
        cursors=[letter_cursor_of(letter.letter_id) for letter in found.letters],
        has_next=found.has_next,
        has_previous=place is not None,
    )


async def replay(ctx: Context, ids: Sequence[str] | None) -> int:
    """Queue these dead letters anew, or the oldest ones; how many found room."""
    queue = _required(ctx, ids)
    if queue is None:
        return 0
    try:
        if ids is None:
            ids = await stored.oldest_letter_ids(queue, MAX_LETTERS)
        async with _logged(ctx, queue, AdminAction.DEAD_LETTERS_REPLAYED) as details:
            replayed = details["replayed"] = await queue.replay(ids)
            return replayed
    except RedisUnavailable as error:
        raise _unavailable() from error


async def delete(ctx: Context, ids: Sequence[str]) -> int:
    """Delete these dead letters for good; how many there were of them."""
    queue = _required(ctx, ids)
    if queue is None or not ids:
        return 0
    try:
        async with _logged(ctx, queue, AdminAction.DEAD_LETTERS_DELETED) as details:
            details["ids"] = list(ids[:_MOST_LOGGED])
            deleted = details["deleted"] = await stored.delete_letters(queue, ids)
            return deleted
    except RedisUnavailable as error:
        raise _unavailable() from error


@asynccontextmanager
async def _logged(
    ctx: Context, queue: Queue, action: AdminAction
) -> AsyncIterator[dict[str, object]]:
    """See `logged`; an entry is also left where Redis did not answer, and may have done it."""
    silence: RedisUnavailable | None = None
    if not queue.redis.is_available:
        raise _unavailable()  # nothing would be sent
    async with logged(ctx, action, "dead letters") as details:
        try:
            yield details
        except RedisRefused:
            raise
        except RedisUnavailable as error:
            details["outcome"] = "unknown"
            silence = error
    if silence is not None:
        raise silence


def _required(ctx: Context, ids: Sequence[str] | None) -> Queue | None:
    require_service_wide(ctx.caller)
    if ids is not None and len(ids) > MAX_LETTER_IDS:
        raise BadUserInput("ids", f"at most {MAX_LETTER_IDS} dead letters can be named at once")
    if any(not LETTER_ID.fullmatch(one) for one in ids or ()):
        raise BadUserInput("ids", "one of these is not the id of a dead letter")
    return ctx.resources.queue


def _unavailable() -> Unavailable:
    return Unavailable("queue", "dead letters cannot be reached now; try again shortly")


def _shown(letter: DeadLetter) -> ShownLetter:
    site_id, preview = _content(letter.content)
    return ShownLetter(
        id=letter.letter_id,
        site_id=site_id,
        reason=letter.reason,
        tries=letter.tries,
        events=letter.events,
        queued_at=letter.queued_at,
        failed_at=letter.failed_at,
        preview=preview,
    )


def _content(content: bytes) -> tuple[str | None, list[dict[str, object]]]:
    try:
        entry = decode_entry(content)
    except Undecodable:
        start = content[:_PREVIEW_CHARACTERS].hex()[:_PREVIEW_CHARACTERS]
        return None, [{"bytes": len(content), "hex": start}]
    return _site_of(entry), _preview(entry)


def _site_of(entry: Entry) -> str | None:
    if entry.events:
        return entry.events[0].site_id
    return entry.rejections[0].site_id if entry.rejections else None


def _preview(entry: Entry) -> list[dict[str, object]]:
    events = [_event(event) for event in entry.events[:MAX_PREVIEW]]
    left = MAX_PREVIEW - len(events)
    return events + [_rejection(one) for one in entry.rejections[:left]]


def _event(event: Event) -> dict[str, object]:
    texts = {
        "eventType": event.event_type,
        "userId": event.user_id,
        "visitorId": event.visitor_id,
        "sessionId": event.session_id,
        "url": event.url,
        "path": event.path,
        "referrer": event.referrer,
        "properties": event.properties,
    }
    return {
        "eventId": str(event.event_id),
        "occurredAt": event.occurred_at.isoformat(),
        "receivedAt": event.received_at.isoformat(),
        **{name: text[:_PREVIEW_CHARACTERS] for name, text in texts.items() if text is not None},
    }


def _rejection(rejection: Rejection) -> dict[str, object]:
    return {
        "rejected": rejection.code.value,
        "message": rejection.message[:_PREVIEW_CHARACTERS],
        "payload": rejection.payload[:_PREVIEW_CHARACTERS],
    }
