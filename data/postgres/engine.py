"""Connections to the ledger: engines by role, and what their errors mean to the rest."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from data.credentials import Credentials
from data.postgres.logins import follow_credentials
from data.postgres.tls import with_tls

# The name under which rooms without SQL pass a pool of connections on.
Engine = AsyncEngine

WRITER = "footfall_writer"
READER = "replica_user"


class LedgerUnavailable(Exception):
    """The ledger cannot be reached or cannot work now; trying again later may help."""


class StatementGivenUp(LedgerUnavailable):
    """The server gave a statement up: it took too long, or stood in the way of others."""


class StatementFailed(LedgerUnavailable):
    """The server is well, and cannot carry out this statement: a table is missing there, say."""


class LedgerRefused(Exception):
    """The ledger does not take what it was given; trying again does not help."""


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a ledger and as whom.

    `role` is taken on after the login (`SET ROLE`) where the URL's own user is another. With
    `credentials`, these are asked for user and password at every new connection.
    """

    url: URL
    role: str
    connections: int = 5
    timeout: timedelta = timedelta(seconds=30)
    connect_timeout: timedelta = timedelta(seconds=5)
    settings: tuple[tuple[str, str], ...] = ()
    credentials: Credentials | None = None


def parse_url(url: str) -> URL:
    """The SQLAlchemy URL of a `postgresql://` address; raises ValueError with what is wrong."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("it is not a URL like postgresql://user:password@host/database") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"it must begin with postgresql://, not {parsed.drivername}://")
    with_tls(parsed)  # what it says of TLS is better refused now than at the first connection
    return parsed.set(drivername="postgresql+asyncpg")


def single_use_engine(url: URL) -> AsyncEngine:
    """An engine for one task, with a connection for each use of it. Dispose of it at the end."""
    bare, tls = with_tls(url)
    return create_async_engine(bare, poolclass=NullPool, connect_args={"timeout": 10, **tls})


# What a session does at the server must end soon after its client: whoever is killed or frozen
# would leave locks behind that everybody waits for, and whoever was cut off while waiting for one
# would go on waiting, with its connection, until the server has none left.
_CLIENT_GONE = "2s"
_CLIENT_SILENT = "10s"


def _settings(login: Login) -> dict[str, str]:
    settings = {
        "application_name": "footfall",
        "timezone": "UTC",
        "jit": "off",
        "client_connection_check_interval": _CLIENT_GONE,
        "idle_in_transaction_session_timeout": _CLIENT_SILENT,
    }
    if login.credentials is not None or login.url.username != login.role:
        settings["role"] = login.role
    if login.role == READER:
        settings["default_transaction_read_only"] = "on"
    return settings | dict(login.settings)


@asynccontextmanager
async def open_engine(login: Login) -> AsyncIterator[AsyncEngine]:
    """A pool of connections in one role. Nothing is connected until it is used."""
    url, tls = with_tls(login.url)
    engine = create_async_engine(
        url,
        pool_size=login.connections,
        max_overflow=0,
        pool_timeout=login.timeout.total_seconds(),
        pool_pre_ping=False,
        connect_args={
            "server_settings": _settings(login),
            "timeout": login.connect_timeout.total_seconds(),
            "command_timeout": login.timeout.total_seconds(),
            **tls,
        },
    )
    event.listen(engine.sync_engine, "checkout", _renew_if_closed)
    event.listen(engine.sync_engine, "invalidate", _cut)
    if login.credentials is not None:
        follow_credentials(engine, login.credentials)
    try:
        yield engine
    finally:
        await engine.dispose()


def _cut(connection: Any, *_: object) -> None:
    """Ends a connection that failed without a word: an orderly end waits for a server that hangs."""
    connection.driver_connection.terminate()


def _renew_if_closed(connection: Any, *_: object) -> None:
    """Has the pool connect anew, so that a server's restart fails nobody who comes after it."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


# What PostgreSQL says about the data it was given (22: data, 23: integrity, 54: size), as against
# its state.
_REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeError,
)
# Also what a standby says to a statement that reads what has to be replayed away.
_GIVEN_UP = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
)
# 42: names, rights and syntax; 25: what its transactions may do.
_FAILED = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidTransactionStateError,
)
_OUTAGES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What asyncpg raises where a connection breaks in the middle of a COPY.
    asyncpg.InternalClientError,
    SQLAlchemyError,
    OSError,
    TimeoutError,
)


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Turns what drivers raise into `LedgerUnavailable` or `LedgerRefused`."""
    try:
        yield
    except (*_REFUSALS, *_OUTAGES) as error:
        cause = getattr(error.orig, "__cause__", None) if isinstance(error, DBAPIError) else error
        if isinstance(cause, _REFUSALS):
            raise LedgerRefused(_gist(cause)) from error
        if isinstance(cause, _GIVEN_UP):
            raise StatementGivenUp(_gist(cause)) from error
        if isinstance(cause, _FAILED):
            raise StatementFailed(_gist(cause)) from error
        raise LedgerUnavailable(_gist(cause or error)) from error


def _gist(error: BaseException) -> str:
    if isinstance(error, PoolTimeout):
        return "no connection to PostgreSQL became free in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One unit of work: committed at the end, rolled back on an exception."""
    with ledger_errors():
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def driver_connection(
    engine: AsyncEngine, seconds: float | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """A bare asyncpg connection out of the pool, for what SQLAlchemy has no words for: COPY.

    A connection on which anything failed does not go back into the pool. After `seconds` it is cut
    off, whatever it is at: a driver that is cancelled would still wait for a server that hangs, for
    its leave to roll back.
    """
    with ledger_errors():
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            cut = seconds and asyncio.get_running_loop().call_later(seconds, driver.terminate)
            try:
                yield driver
            except BaseException:
                # Also when the caller is cancelled in the middle of a statement.
                await connection.invalidate()
                raise
            finally:
                if cut:
                    cut.cancel()
