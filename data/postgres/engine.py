"""Connections to the ledger: engines by role, and what their errors mean to the rest."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from data.postgres.tls import with_tls

# The name under which rooms without SQL pass a pool of connections on.
Engine = AsyncEngine

WRITER = "footfall_writer"
READER = "replica_user"


class LedgerUnavailable(Exception):
    """The ledger cannot be reached or cannot work now; trying again later may help."""


class LedgerRefused(Exception):
    """The ledger does not take what it was given; trying again does not help."""


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a ledger and as whom.

    `role` is taken on after the login (`SET ROLE`) where the URL's own user is another.
    """

    url: URL
    role: str
    connections: int = 5
    timeout: timedelta = timedelta(seconds=30)
    settings: tuple[tuple[str, str], ...] = ()


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


def _settings(login: Login) -> dict[str, str]:
    settings = {"application_name": "footfall", "timezone": "UTC", "jit": "off"}
    if login.url.username != login.role:
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
            "timeout": 5,
            "command_timeout": login.timeout.total_seconds(),
            **tls,
        },
    )
    try:
        yield engine
    finally:
        await engine.dispose()


# What PostgreSQL says about the data it was given (22: data, 23: integrity), as against its state.
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, UnicodeError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    # What asyncpg raises where a connection breaks in the middle of a COPY.
    asyncpg.InternalClientError,
    OSError,
)
_OUTAGES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
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
async def driver_connection(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """A bare asyncpg connection out of the pool, for what SQLAlchemy has no words for: COPY.

    A connection on which anything failed does not go back into the pool.
    """
    with ledger_errors():
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            try:
                yield driver
            except BaseException as error:
                # Also when the caller is cancelled in the middle of a statement.
                driver.terminate()
                await connection.invalidate()
                if isinstance(error, _LOST):
                    # The server has gone: none of the pool's other connections is any better.
                    await engine.dispose()
                raise
