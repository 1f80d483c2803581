"""Persisted queries that all processes share through Redis, each with the latest in its memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256 as hash_of
from time import monotonic
from typing import Any

from data.persisted import MOST_CHARACTERS, BoundedTexts, Kept
from data.redis.client import RedisConnection, RedisUnavailable
from telemetry.metrics import PersistedMetrics

KEEP_SECONDS = 7 * 24 * 3600
# A text that this process has in its own memory is renewed in Redis no more often than this.
RENEW_SECONDS = 24 * 3600
MOST_SHARED_BYTES = 64 * 1024 * 1024
# What Redis needs for an entry beside its text: the hash twice, and its place in two tables.
ENTRY_BYTES = 300

# The braces keep the three together on one node of a cluster.
_KEYS = [f"footfall:{{persisted}}:{part}" for part in ("texts", "used", "bytes")]

_FIND = """
local text = redis.call('HGET', KEYS[1], ARGV[1])
if text then redis.call('ZADD', KEYS[2], 'XX', redis.call('TIME')[1], ARGV[1]) end
return text
"""

# Texts, when each was last used, and what all take: those unused for too long go, and then the
# longest unused until the rest fits. Redis may have thrown one of the three keys away for want of
# memory; what is left of the others is worth nothing then.
_KEEP = """
local texts, used, bytes = KEYS[1], KEYS[2], KEYS[3]
local hash, text, most, seconds = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local entry = tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
local function drop(old)
    redis.call('DECRBY', bytes, redis.call('HSTRLEN', texts, old) + entry)
    redis.call('HDEL', texts, old)
    redis.call('ZREM', used, old)
end

if redis.call('EXISTS', texts, used, bytes) < 3 then redis.call('DEL', texts, used, bytes) end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', used, '-inf', now - seconds, 'LIMIT', 0, 100)) do
    drop(old)
end
if redis.call('HEXISTS', texts, hash) == 1 then drop(hash) end
redis.call('INCRBY', bytes, #text + entry)
redis.call('HSET', texts, hash, text)
redis.call('ZADD', used, now, hash)
while tonumber(redis.call('GET', bytes)) > most do
    local oldest = redis.call('ZRANGE', used, 0, 0)[1]
    if oldest == hash then oldest = redis.call('ZRANGE', used, 1, 1)[1] end
    if not oldest then break end
    drop(oldest)
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
"""


@dataclass(slots=True)
class SharedPersistedQueries:
    """`PersistedQueries` in Redis, with this process's memory in front of it.

    While Redis is away it is the memory alone; what is used meanwhile is shared afterwards.
    """

    redis: RedisConnection
    metrics: PersistedMetrics
    texts: BoundedTexts = field(default_factory=BoundedTexts)
    most_shared_bytes: int = MOST_SHARED_BYTES

    async def find(self, sha256: str) -> str | None:
        """The text of a hash, or None."""
        kept = self.texts.get(sha256)
        if kept is not None:
            self.metrics.lookups["memory"].inc()
            await self._share(sha256, kept)
            return kept.text
        text = await self._ask(sha256)
        self.metrics.lookups["redis" if text is not None else "nowhere"].inc()
        if text is not None:
            self.texts.put(sha256, text).shared_at = monotonic()
        return text

    async def keep(self, sha256: str, text: str) -> None:
        """Keep a text, unless it is very long."""
        if len(text) <= MOST_CHARACTERS:
            await self._share(sha256, self.texts.put(sha256, text))

    async def _ask(self, sha256: str) -> str | None:
        try:
            async with self.redis.using() as client:
                found: Any = await client.eval(_FIND, len(_KEYS), *_KEYS, sha256)
        except RedisUnavailable:
            return None
        # Others may write to this Redis: only the hash says that it is the text that was meant.
        if not isinstance(found, bytes) or hash_of(found).hexdigest() != sha256:
            return None
        return found.decode()

    async def _share(self, sha256: str, kept: Kept) -> None:
        now = monotonic()
        if now - kept.shared_at < RENEW_SECONDS or not self.redis.is_available:
            return
        # Before the answer is known, so that only one of many requests at a time waits for it.
        before, kept.shared_at = kept.shared_at, now
        bounds = (self.most_shared_bytes, KEEP_SECONDS, ENTRY_BYTES)
        try:
            async with self.redis.using() as client:
                await client.eval(_KEEP, len(_KEYS), *_KEYS, sha256, kept.text, *bounds)
        except RedisUnavailable:
            kept.shared_at = before
