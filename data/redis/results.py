"""Results that all processes share through Redis, and turns to compute them.

A turn is a lock with the token of whoever has it; it runs out by itself soon after its owner has
died. An entry expires when it would not be shown any more, so that Redis stays bounded.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from secrets import token_hex
from typing import Any, TypeVar

import msgspec
import structlog

from data.cache import OF_THE_PAST, Entry, Question
from data.redis.client import RedisConnection, RedisUnavailable
from data.shared_results import NOBODY, Told, Turn

log = structlog.get_logger()

# Goes up with every change of what is written there, or of what a key stands for.
FORMAT_VERSION = 1
# Rows longer than this are compressed; what is still longer than the other is not shared.
COMPRESSED_BYTES = 4_096
MOST_BYTES = 1_048_576
# What takes this much in memory is written in a thread.
_LONG_BYTES = 100_000
# How many entries one script drops: a script holds up everybody else.
_DROPPED_AT_ONCE = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The keys of a script and its arguments.
_Call = tuple[tuple[str, ...], tuple[str | bytes | int, ...]]

Given = TypeVar("Given")
Made = TypeVar("Made")

# Entry, turn and epoch; the position that is needed, the one at hand, a token and milliseconds.
# Gives what to do, the entry if it is newer than the one at hand, and the epoch. `pcall`: where
# there is no memory for the turn, what is there can still be read.
_ASK = """
local found = redis.call('HMGET', KEYS[1], 'position', 'entry')
local position, entry = tonumber(found[1] or '-1'), found[2]
local epoch = redis.call('GET', KEYS[3])
if position <= tonumber(ARGV[2]) then entry = false end
if position >= tonumber(ARGV[1]) and entry then return {'found', entry, epoch} end
local taken = redis.pcall('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4])
if type(taken) == 'table' and taken.err then return {'alone', entry, epoch} end
return {taken and 'mine' or 'busy', entry, epoch}
"""

# Entry, turn, epoch, the index of a site and that of all sites; the entry, its position, its
# milliseconds, the token, the epoch in which it was begun, its digest, and the site's.
_KEEP = """
local is_ours = redis.call('GET', KEYS[2]) == ARGV[4]
if (redis.call('GET', KEYS[3]) or '') == ARGV[5] then
    local kept = tonumber(redis.call('HGET', KEYS[1], 'position') or '-1')
    if tonumber(ARGV[2]) >= kept then
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local gone = now + tonumber(ARGV[3])
        redis.call('ZADD', KEYS[4], gone, ARGV[6])
        redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
        redis.call('PEXPIRE', KEYS[4], ARGV[8])
        redis.call('ZADD', KEYS[5], now + tonumber(ARGV[8]), ARGV[7])
        redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now)
        redis.call('PEXPIRE', KEYS[5], ARGV[8])
        redis.call('HSET', KEYS[1], 'position', ARGV[2], 'entry', ARGV[1])
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
    end
end
if is_ours then redis.call('DEL', KEYS[2]) end
"""

_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

# The index of a site; what the keys of its entries begin with, and how many to drop at the most.
# Gives the digests of those that were there, and whether there are more.
_DROP = """
local digests = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[2]) - 1)
local dropped = {}
for _, digest in ipairs(digests) do
    if redis.call('DEL', ARGV[1] .. digest) == 1 then table.insert(dropped, digest) end
    redis.call('ZREM', KEYS[1], digest)
end
return {dropped, redis.call('ZCARD', KEYS[1])}
"""


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

    `on_drop` is called where another process has dropped results and it was not heard.
    """

    redis: RedisConnection
    space: str
    on_drop: Callable[[], None] = lambda: None
    turn_seconds: float = 3.0
    renew_seconds: float = 1.0
    _epoch: bytes | None = None

    @property
    def is_available(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self.redis.is_available

    async def ask(
        self, questions: Sequence[Question], own: Sequence[int], token: str
    ) -> list[Told]:
        """For each question what to do, in one exchange with Redis."""
        milliseconds = round(1000 * self.turn_seconds)
        calls: list[_Call] = []
        for question, position in zip(questions, own, strict=True):
            keys = (self._entry(question), self._turn(question), self._key("epoch"))
            calls.append((keys, (question.version, position, token, milliseconds)))
        answers = await self._run(_ASK, calls)
        if answers is None:
            return [NOBODY] * len(questions)
        self._note_epoch(answers[-1][2])
        is_long = any(text and len(text) > COMPRESSED_BYTES for _, text, _ in answers)
        return await _apart(is_long, _told_all, list(zip(questions, answers, strict=True)))

    def _note_epoch(self, epoch: bytes | None) -> None:
        epoch = epoch or b""
        before, self._epoch = self._epoch, epoch
        if before is not None and before != epoch:
            self.on_drop()

    async def keep(self, kept: Sequence[tuple[Question, Entry]], token: str) -> None:
        """Share entries; those that are too long only end their turn."""
        begun = self._epoch or b""
        index_milliseconds = round(1000 * OF_THE_PAST.stale)
        is_long = any(entry.size > _LONG_BYTES for _, entry in kept)
        calls: list[_Call] = []
        too_long: list[Question] = []
        for question, position, text in await _apart(is_long, _write_all, kept):
            if len(text) > MOST_BYTES:
                too_long.append(question)
                continue
            site = _site(question.site_id)
            keys = (
                *(self._entry(question), self._turn(question), self._key("epoch")),
                *(self._key(f"site:{site}"), self._key("sites")),
            )
            milliseconds = round(1000 * question.lifetimes.stale)
            more = (begun, question.key.hex(), site, index_milliseconds)
            calls.append((keys, (text, position, milliseconds, token, *more)))
        await self._run(_KEEP, calls)
        await self.release(too_long, token)

    async def renew(self, questions: Sequence[Question], token: str) -> None:
        """Give the turns their full time again."""
        milliseconds = round(1000 * self.turn_seconds)
        await self._run(_RENEW, [((self._turn(one),), (token, milliseconds)) for one in questions])

    async def release(self, questions: Sequence[Question], token: str) -> None:
        """End turns."""
        await self._run(_RELEASE, [((self._turn(one),), (token,)) for one in questions])

    async def drop(self, site_id: str | None) -> set[bytes]:
        """Forget entries, and let nothing be shared that was begun before."""
        # Our own drop is no news to us.
        self._epoch = token_hex(8).encode()
        milliseconds = round(1000 * OF_THE_PAST.stale)
        try:
            async with self.redis.using() as client:
                await client.set(self._key("epoch"), self._epoch, px=milliseconds)
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
        found = await self._run(_DROP, [((self._key(f"site:{site}"),), arguments)])
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


def _told(question: Question, turn: bytes, text: bytes | None, _: bytes | None) -> Told:
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
