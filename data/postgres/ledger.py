"""Opens the ledger: the embedded server or a given one, up to date, with one pool per role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.credentials import Credentials
from data.postgres.engine import READER, WRITER, Login, open_engine
from data.postgres.feed import ledger_id
from data.postgres.migrate import migrate, pending
from data.postgres.supervision import supervised_server

log = structlog.get_logger()

# Every read of the service finds its rows by an index: by key, by position, by batch. The planner
# would now and then read whole tables instead, before it has statistics on a fast-growing ledger.
_READ_BY_INDEX = (
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
)


class MigrationsPending(Exception):
    """The ledger's tables are older than this program; the message says what to run."""


@dataclass(frozen=True, slots=True)
class LedgerAddress:
    """Where the ledger is. Without `database_url` it is the embedded server under `home`.

    With credentials, user and password of each new connection come from these; those in the URLs
    are what the first connections log in with.
    """

    home: Path
    database_url: URL | None = None
    replica_url: URL | None = None
    credentials: Credentials | None = None
    replica_credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger: `writer` on the primary, `reader` on the replica or, without one, there too."""

    ledger_id: UUID
    writer: AsyncEngine
    reader: AsyncEngine
    is_embedded: bool
    has_replica: bool


@dataclass(frozen=True, slots=True)
class LedgerUrls:
    """One URL for each purpose; `admin` may make roles and tables."""

    admin: URL
    writer: URL
    reader: URL


@asynccontextmanager
async def ledger_urls(address: LedgerAddress) -> AsyncIterator[LedgerUrls]:
    """URLs of the ledger; starts the embedded server, or attaches to it, when it is meant."""
    if address.database_url is not None:
        yield LedgerUrls(
            admin=address.database_url,
            writer=address.database_url,
            reader=address.replica_url or address.database_url,
        )
        return
    async with supervised_server(address.home) as server:
        yield LedgerUrls(
            admin=make_url(server.url("postgres")),
            writer=make_url(server.url(WRITER)),
            reader=make_url(server.url(READER)),
        )


async def bring_up_to_date(urls: LedgerUrls, address: LedgerAddress) -> None:
    """Migrate the embedded ledger; refuse any other that is behind (`MigrationsPending`)."""
    missing = await pending(urls.admin)
    if not missing:
        return
    if address.database_url is not None:
        raise MigrationsPending(
            f"the database lacks {len(missing)} migration(s): run `footfall migrate`, "
            "as a user that may create roles, then start again"
        )
    applied = await migrate(urls.admin)
    log.info("ledger.migrated", revisions=applied)


@asynccontextmanager
async def open_ledger(address: LedgerAddress, *, connections: int = 5) -> AsyncIterator[Ledger]:
    """The ledger, ready for use; `connections` is the size of each of its two pools."""
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(ledger_urls(address))
        await bring_up_to_date(urls, address)
        writer = Login(urls.writer, WRITER, connections, credentials=address.credentials)
        reader = replace(
            writer,
            url=urls.reader,
            role=READER,
            settings=_READ_BY_INDEX,
            credentials=address.replica_credentials if address.replica_url else writer.credentials,
        )
        writer_engine = await stack.enter_async_context(open_engine(writer))
        reader_engine = await stack.enter_async_context(open_engine(reader))
        yield Ledger(
            ledger_id=await ledger_id(writer_engine),
            writer=writer_engine,
            reader=reader_engine,
            is_embedded=address.database_url is None,
            has_replica=address.replica_url is not None,
        )
