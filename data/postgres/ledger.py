"""Opens the ledger: the embedded server or a given one, up to date, with one pool per role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from data.credentials import Credentials
from data.postgres.engine import READER, WRITER, Login, open_engine
from data.postgres.feed import ledger_id
from data.postgres.migrate import migrate, pending
from data.postgres.reads import MAX_LAG, ReadPace, Reads, Replica, open_reads
from data.postgres.supervision import supervised_server
from telemetry.metrics import Metrics

log = structlog.get_logger()

# Every read of the service finds its rows by an index: by key, by position, by batch. The planner
# would now and then read whole tables instead, before it has statistics on a fast-growing ledger.
_READ_BY_INDEX = (
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
)
_REPLICA_CONNECT = timedelta(seconds=2)


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
    replica_max_lag: timedelta = MAX_LAG
    credentials: Credentials | None = None
    replica_credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger: `writer` on the primary, `reads` as a role that can only SELECT.

    `writer_login` is for a session of one's own.
    """

    ledger_id: UUID
    writer: AsyncEngine
    writer_login: Login
    reads: Reads
    is_embedded: bool


@dataclass(frozen=True, slots=True)
class LedgerUrls:
    """One URL for each purpose; `admin` may make roles and tables."""

    admin: URL
    writer: URL
    reader: URL
    replica: URL | None = None


@asynccontextmanager
async def ledger_urls(address: LedgerAddress) -> AsyncIterator[LedgerUrls]:
    """URLs of the ledger; starts the embedded server, or attaches to it, when it is meant."""
    if address.database_url is not None:
        yield LedgerUrls(
            admin=address.database_url,
            writer=address.database_url,
            reader=address.database_url,
            replica=address.replica_url,
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
async def open_ledger(
    address: LedgerAddress, *, connections: int = 5, metrics: Metrics | None = None
) -> AsyncIterator[Ledger]:
    """The ledger, ready for use; `connections` is the size of each of its pools."""
    metrics = metrics or Metrics.create()
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(ledger_urls(address))
        await bring_up_to_date(urls, address)
        writer = Login(urls.writer, WRITER, connections, credentials=address.credentials)
        reader = replace(
            writer,
            url=urls.reader,
            role=READER,
            settings=_READ_BY_INDEX,
        )
        writer_engine = await stack.enter_async_context(open_engine(writer))
        reader_engine = await stack.enter_async_context(open_engine(reader))
        identity = await ledger_id(writer_engine)
        replica = None
        if urls.replica is not None:
            login = replace(
                reader,
                url=urls.replica,
                connect_timeout=_REPLICA_CONNECT,
                credentials=address.replica_credentials,
            )
            replica = Replica(
                await stack.enter_async_context(open_engine(login)),
                await stack.enter_async_context(open_engine(replace(login, connections=1))),
                identity,
                address.replica_max_lag,
                metrics.replica,
                ReadPace(),
            )
        reads = Reads(reader_engine, replica, metrics.replica)
        yield Ledger(
            ledger_id=identity,
            writer=writer_engine,
            writer_login=writer,
            reads=await stack.enter_async_context(open_reads(reads)),
            is_embedded=address.database_url is None,
        )
