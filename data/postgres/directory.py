"""Sites, keys and trusted documents at hand: read from the ledger and held, for the hot path."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine

from data.persisted import BoundedTexts
from data.postgres.documents import (
    DocumentIndex,
    document_index,
    document_text,
    documents_version,
)
from data.postgres.engine import LedgerUnavailable, ledger_errors
from data.postgres.keys import ApiKey, all_keys
from data.postgres.lookout import Lookout
from data.postgres.sites import Site, all_sites

# How long a change made by another process may go unseen, and how long an answer that could not
# be renewed still serves when the ledger is away.
FRESH_SECONDS = 1.0
# From this age on it is read again while everybody goes on with what there is: those who ask wait
# only where a reading takes longer than the rest of the second.
RENEW_SECONDS = 0.5
# How often it is read again, at the most, for what it does not hold: whoever makes a site or a key
# in another process wants to use it at once, and guesses of strangers are not to cost much.
UNKNOWN_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Content:
    sites: dict[str, Site]
    keys: dict[str, ApiKey]
    origins: frozenset[str]
    documents_version: int
    read_at: float


@dataclass(slots=True)
class Directory:
    """All sites and keys, at most a second old; a change in this process is seen at once.

    Of the trusted documents it holds which there are, and the texts that are asked for.
    """

    engine: AsyncEngine
    lookout: Lookout | None = None
    _content: _Content | None = None
    # How often something was changed here: what was read meanwhile may lack it.
    _changes: int = 0
    _reading: asyncio.Task[_Content] | None = None
    # Before the first change, of which version 1 tells, there are none.
    _documents: DocumentIndex = field(default_factory=DocumentIndex)
    _documents_version: int = 0
    _reading_documents: asyncio.Lock = field(default_factory=asyncio.Lock)
    _texts: BoundedTexts = field(default_factory=BoundedTexts)

    async def site(self, site_id: str) -> Site | None:
        """The site of an id."""
        known = (await self._current()).sites.get(site_id)
        return known or (await self._current(UNKNOWN_SECONDS)).sites.get(site_id)

    async def sites(self) -> list[Site]:
        """All sites, in order of id."""
        return list((await self._current()).sites.values())

    async def key(self, key_id: str) -> ApiKey | None:
        """The key of an id, also when it is revoked."""
        known = (await self._current()).keys.get(key_id)
        return known or (await self._current(UNKNOWN_SECONDS)).keys.get(key_id)

    async def keys(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        return list((await self._current()).keys.values())

    async def allows_origin_somewhere(self, origin: str) -> bool:
        """Whether any site takes events from pages of this origin."""
        return bool((await self._current()).origins & {origin, "*"})

    async def documents(self) -> DocumentIndex:
        """Which documents are trusted; read anew only after one was added or taken away."""
        version = (await self._current()).documents_version
        if version == self._documents_version:
            return self._documents
        async with self._reading_documents:
            if version != self._documents_version:
                with ledger_errors():
                    async with self.engine.connect() as connection:
                        # What is read here may be newer than its version says: then it is read
                        # once more. It is never older.
                        self._documents = await document_index(connection)
                self._documents_version = version
        return self._documents

    async def document_text(self, sha256: str) -> str | None:
        """The text of a trusted document; whether it is trusted, and for whom, the index says."""
        kept = self._texts.get(sha256)
        if kept is None:
            with ledger_errors():
                async with self.engine.connect() as connection:
                    text = await document_text(connection, sha256)
            if text is None:
                return None
            kept = self._texts.put(sha256, text)
        return kept.text

    def forget(self) -> None:
        """Read anew on the next question: something was changed here."""
        self._changes += 1
        self._content = self._reading = None

    async def _current(self, seconds: float = FRESH_SECONDS) -> _Content:
        asked = monotonic()
        content = self._content
        if content is not None and content.read_at < asked - RENEW_SECONDS:
            _ = self._renewed()
        # A reading that had begun long before may lack what is looked for: then once more.
        while content is None or content.read_at < asked - seconds:
            content = await asyncio.shield(self._renewed())
        return content

    def _renewed(self) -> asyncio.Task[_Content]:
        """The reading that is under way, or a new one; all go on at once who wait for it."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(self._content), name="directory")
            self._reading.add_done_callback(self._ended)
        return self._reading

    def _ended(self, reading: asyncio.Task[_Content]) -> None:
        if self._reading is reading:
            self._reading = None
        if not reading.cancelled():
            reading.exception()  # looked at: it may be that nobody waits

    async def _read(self, stale: _Content | None) -> _Content:
        changes = self._changes
        try:
            reading = self._fetched()
            content = await (self.lookout.ask(reading) if self.lookout else reading)
        except LedgerUnavailable:
            if stale is None:
                raise
            # Reports and the spool go on while the ledger is away; nothing can be revoked
            # meanwhile anyway.
            content = replace(stale, read_at=monotonic())
        if changes == self._changes:
            self._content = content
        return content

    async def _fetched(self) -> _Content:
        started = monotonic()
        with ledger_errors():
            async with self.engine.connect() as connection:
                sites = {site.site_id: site for site in await all_sites(connection)}
                keys = {key.key_id: key for key in await all_keys(connection)}
                version = await documents_version(connection)
        origins = frozenset(
            origin for site in sites.values() for origin in (site.origins or ("*",))
        )
        return _Content(sites, keys, origins, version, started)
