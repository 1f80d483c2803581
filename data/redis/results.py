"""Results that all processes share through Redis, and turns to compute them.

A turn is a lock with the token of whoever has it; it runs out by itself soon after its owner has
died. An entry expires when it would not be shown any more, so that Redis stays bounded.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from secrets import token_hex
from typing import Any, TypeVar

import msgspec
import structlog

from data.cache import OF_THE_PAST, Entry, Question
from data.queries import Watermark
from data.redis.client import RedisConnection, RedisUnavailable
from data.redis.result_scripts import ASK, DROP, KEEP, MARK, RELEASE, RENEW
from data.shared_results import NOBODY, Told, Turn

log = structlog.get_logger()

# Goes up with every change of what is written there, or of what a key stands for.
FORMAT_VERSION = 2
# Rows longer than this are compressed; what is still longer than the other is not shared.
COMPRESSED_BYTES = 4_096
MOST_BYTES = 1_048_576
# What takes this much in memory is written in a thread.
_LONG_BYTES = 100_000
# How many entries one script drops: a script holds up everybody else.
_DROPPED_AT_ONCE = 500
# How long marks of drops, and indexes, outlive what was kept last: as long as any entry.
_MILLISECONDS = round(1000 * OF_THE_PAST.stale)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The keys of a script and its arguments.
_Call = tuple[tuple[str, ...], tuple[str | bytes | int, ...]]

Given = TypeVar("Given")
Made = TypeVar("Made")


class _Written(msgspec.Struct, array_like=True):
    """An entry as it lies in Redis; times are microseconds since 1970."""

    position: int
    through: int | None
    computed_at: int
    exact_at: int
    seconds: float
    is_compressed: bool
    rows: bytes


@dataclass(slots=True)
class RedisResults:
    """`SharedResults` in Redis. `space` tells apart what must not be mixed: ledgers and releases.

    `on_drop` is called where another process has dropped results and it was not heard. `newest` is
    the batch up to which answers of this process rest on the ledger, at least.
    """

    redis: RedisConnection
    space: str
    newest: Callable[[], Watermark | None] = lambda: None
    on_drop: Callable[[], None] = lambda: None
    turn_seconds: float = 3.0
    renew_seconds: float = 1.0
    retry_seconds: float = 1.0
    # The mark of the last drop of all processes, as far as was heard.
    _last: bytes = b"none"
    # Sites that Redis does not know yet to be dropped; None for all of them.
    _undone: set[str | None] = field(default_factory=set)

    @property
    def is_available(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self.redis.is_available

    async def ask(
        self, questions: Sequence[Question], own: Sequence[int], token: str
    ) -> list[Told]:
        """For each question what to do, in one exchange with Redis."""
        nobody = [NOBODY] * len(questions)
        if self._undone:
            return nobody
        milliseconds = round(1000 * self.turn_seconds)
        calls: list[_Call] = []
        for question, position in zip(questions, own, strict=True):
            keys = (self._entry(question), self._turn(question), self._key("drops"))
            more = (_site(question.site_id), self._last, _MILLISECONDS)
            calls.append((keys, (question.version, position, token, milliseconds, *more)))
        answers = await self._run(ASK, calls)
        if answers is None:
            return nobody
        self._hear(answers[-1][2])
        is_long = any(text and len(text) > COMPRESSED_BYTES for _, text, _ in answers)
        return await _apart(is_long, _told_all, list(zip(questions, answers, strict=True)))

    def _hear(self, last: bytes) -> None:
        before, self._last = self._last, last
        if before != last:
            self.on_drop()

    async def look(self) -> tuple[int, int] | None:
        """Position and id of the newest batch that entries rest on; hears of drops, too."""
        try:
            async with self.redis.using() as client:
                found: Any = await client.hmget(self._key("drops"), "last", "position", "batch")
        except RedisUnavailable:
            return None
        last, position, batch = found
        # Where nothing is known there, nothing is known to have been dropped.
        if last is not None:
            self._hear(last)
        return None if position is None else (int(position), int(batch))

    async def keep(self, kept: Sequence[tuple[Question, Entry]], token: str) -> None:
        """Share entries; those that are too long only end their turn."""
        begun, newest = self._last, self.newest()
        batch = (newest.position, newest.batch_id) if newest else (0, 0)
        is_long = any(entry.size > _LONG_BYTES for _, entry in kept)
        calls: list[_Call] = []
        others: list[Question] = []
        for question, position, text in await _apart(is_long, _write_all, kept):
            if self._undone or len(text) > MOST_BYTES:
                others.append(question)
                continue
            site = _site(question.site_id)
            keys = (
                *(self._entry(question), self._turn(question), self._key("drops")),
                *(self._key(f"site:{site}"), self._key("sites")),
            )
            milliseconds = round(1000 * question.lifetimes.stale)
            more = (begun, question.key.hex(), site, _MILLISECONDS, *batch)
            calls.append((keys, (text, position, milliseconds, token, *more)))
        await self._run(KEEP, calls)
        await self.release(others, token)

    async def renew(self, questions: Sequence[Question], token: str) -> None:
        """Give the turns their full time again."""
        milliseconds = round(1000 * self.turn_seconds)
        await self._run(RENEW, [((self._turn(one),), (token, milliseconds)) for one in questions])

    async def release(self, questions: Sequence[Question], token: str) -> None:
        """End turns."""
        await self._run(RELEASE, [((self._turn(one),), (token,)) for one in questions])

    async def drop(self, site_id: str | None) -> set[bytes]:
        """Forget entries, and let nothing be shared that was begun before."""
        self._undone.add(site_id)
        return await self._drop_undone()

    async def finish_drops(self) -> bool:
        """Return when Redis knows of all drops; whether it did not at once."""
        was_undone = bool(self._undone)
        while self._undone:
            await asyncio.sleep(self.retry_seconds)
            await self.redis.until_available()
            await self._drop_undone()
        return was_undone

    async def _drop_undone(self) -> set[bytes]:
        dropped: set[bytes] = set()
        for site_id in list(self._undone):
            if await self._mark(site_id):
                self._undone.discard(site_id)
            # Also where there is no memory for the mark.
            dropped |= await self._drop_entries(site_id)
        return dropped

    async def _mark(self, site_id: str | None) -> bool:
        mark = token_hex(8).encode()
        site = "" if site_id is None else _site(site_id)
        answers = await self._run(MARK, [((self._key("drops"),), (site, mark, _MILLISECONDS))])
        if answers is None:
            return False
        # Our own drop is no news to us. One just before it is: its mark is seen here for the last
        # time.
        if answers[0] is not None:
            self._hear(answers[0])
        self._last = mark
        return True

    async def _drop_entries(self, site_id: str | None) -> set[bytes]:
        try:
            async with self.redis.using() as client:
                found: Any = await client.zrange(self._key("sites"), 0, -1)
        except RedisUnavailable:
            return set()
        sites = [one.decode() for one in found] if site_id is None else [_site(site_id)]
        dropped: set[bytes] = set()
        for site in sites:
            is_more = True
            while is_more:
                digests, is_more = await self._drop_some(site)
                dropped.update(bytes.fromhex(digest.decode()) for digest in digests)
        return dropped

    async def _drop_some(self, site: str) -> tuple[list[bytes], bool]:
        arguments = (self._key(f"entry:{site}:"), _DROPPED_AT_ONCE)
        found = await self._run(DROP, [((self._key(f"site:{site}"),), arguments)])
        return (found[0][0], bool(found[0][1])) if found else ([], False)

    async def _run(self, script: str, calls: Sequence[_Call]) -> list[Any] | None:
        """What a script gives for each of its calls; None where Redis is away."""
        if not calls:
            return []
        try:
            async with self.redis.using() as client, client.pipeline(transaction=False) as pipe:
                for keys, arguments in calls:
                    _ = pipe.eval(script, len(keys), *keys, *arguments)
                answers: list[Any] = await pipe.execute()
        except RedisUnavailable:
            return None
        return answers

    def _key(self, name: str) -> str:
        # The braces keep all of them together on one node of a cluster.
        return f"footfall:{{results:{FORMAT_VERSION}:{self.space}}}:{name}"

    def _entry(self, question: Question) -> str:
        return self._key(f"entry:{_site(question.site_id)}:{question.key.hex()}")

    def _turn(self, question: Question) -> str:
        return self._key(f"turn:{question.key.hex()}")


def _site(site_id: str) -> str:
    return blake2b(site_id.encode(), digest_size=8).hexdigest()


async def _apart(is_long: bool, work: Callable[[Given], Made], given: Given) -> Made:
    """What the work makes, in a thread where it would hold up other requests."""
    return await asyncio.to_thread(work, given) if is_long else work(given)


def _told_all(answers: Sequence[tuple[Question, Any]]) -> list[Told]:
    return [_told(question, *one) for question, one in answers]


def _told(question: Question, turn: bytes, text: bytes | None, _: bytes) -> Told:
    entry = _read(question, text) if text else None
    told = Turn[turn.decode().upper()]
    if told is Turn.FOUND and entry is None:
        told = Turn.ALONE
    return Told(told, entry)


def _write_all(kept: Sequence[tuple[Question, Entry]]) -> list[tuple[Question, int, bytes]]:
    return [(question, entry.position, _write(question, entry)) for question, entry in kept]


def _write(question: Question, entry: Entry) -> bytes:
    rows = question.codec.encode(entry.rows)
    is_compressed = len(rows) > COMPRESSED_BYTES
    return msgspec.msgpack.encode(
        _Written(
            position=entry.position,
            through=_micros(entry.through) if entry.through else None,
            computed_at=_micros(entry.computed_at),
            exact_at=_micros(entry.exact_at),
            seconds=entry.seconds,
            is_compressed=is_compressed,
            rows=zlib.compress(rows, 1) if is_compressed else rows,
        )
    )


def _read(question: Question, text: bytes) -> Entry | None:
    """The entry, or None where somebody else has written there what is none."""
    try:
        written = msgspec.msgpack.decode(text, type=_Written)
        rows = question.codec.decode(
            zlib.decompress(written.rows) if written.is_compressed else written.rows
        )
        times = [_EPOCH + one * _MICROSECOND for one in (written.computed_at, written.exact_at)]
        through = None if written.through is None else _EPOCH + written.through * _MICROSECOND
    except (msgspec.MsgspecError, zlib.error, ValueError, OverflowError) as error:
        log.warning("cache.entry.unreadable", error=str(error))
        return None
    return Entry(
        rows=rows,
        site_id=question.site_id,
        position=written.position,
        through=through,
        computed_at=times[0],
        exact_at=times[1],
        seconds=written.seconds,
        size=question.codec.size(rows),
    )


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
