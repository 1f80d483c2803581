"""Sites and keys at hand: read from the ledger and held for a moment, for the hot path."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine

from data.postgres.engine import LedgerUnavailable, ledger_errors
from data.postgres.keys import ApiKey, all_keys
from data.postgres.sites import Site, all_sites

# How long a change made by another process may go unseen, and how long an answer that could not
# be renewed still serves when the ledger is away.
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Content:
    sites: dict[str, Site]
    keys: dict[str, ApiKey]
    origins: frozenset[str]
    read_at: float


@dataclass(slots=True)
class Directory:
    """All sites and keys, at most a second old; a change in this process is seen at once."""

    engine: AsyncEngine
    _content: _Content | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def site(self, site_id: str) -> Site | None:
        """The site of an id."""
        return (await self._current()).sites.get(site_id)

    async def sites(self) -> list[Site]:
        """All sites, in order of id."""
        return list((await self._current()).sites.values())

    async def key(self, key_id: str) -> ApiKey | None:
        """The key of an id, also when it is revoked."""
        return (await self._current()).keys.get(key_id)

    async def allows_origin_somewhere(self, origin: str) -> bool:
        """Whether any site takes events from pages of this origin."""
        return bool((await self._current()).origins & {origin, "*"})

    def forget(self) -> None:
        """Read anew on the next question: something was changed here."""
        self._content = None

    async def _current(self) -> _Content:
        content = self._content
        if content and monotonic() - content.read_at < FRESH_SECONDS:
            return content
        async with self._reading:
            content = self._content
            if content and monotonic() - content.read_at < FRESH_SECONDS:
                return content
            return await self._read(content)

    async def _read(self, stale: _Content | None) -> _Content:
        started = monotonic()
        try:
            with ledger_errors():
                async with self.engine.connect() as connection:
                    sites = {site.site_id: site for site in await all_sites(connection)}
                    keys = {key.key_id: key for key in await all_keys(connection)}
        except LedgerUnavailable:
            if stale is None:
                raise
            # Reports go on while the ledger is away; nothing can be revoked meanwhile anyway.
            content = _Content(stale.sites, stale.keys, stale.origins, monotonic())
        else:
            origins = frozenset(
                origin for site in sites.values() for origin in (site.origins or ("*",))
            )
            content = _Content(sites, keys, origins, started)
        self._content = content
        return content
