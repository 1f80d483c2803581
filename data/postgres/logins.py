"""Connections whose user and password change while the pool is in use."""

from __future__ import annotations

from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from data.credentials import Credential, Credentials

_MADE_WITH = "footfall_credential"


def follow_credentials(engine: AsyncEngine, credentials: Credentials) -> None:
    """Let every new connection of the pool log in with what is current then.

    A connection made with an older lease is replaced the next time somebody takes it out of the
    pool: none is used until its user is dropped, and none is cut in the middle of its work.
    """

    def log_in(
        _dialect: Dialect, entry: ConnectionPoolEntry, _args: Any, parameters: dict[str, Any]
    ) -> None:
        credential = credentials.current()
        entry.info[_MADE_WITH] = credential
        if credential.username:
            parameters["user"] = credential.username
        if credential.password:
            parameters["password"] = credential.password
        parameters["async_creator_fn"] = partial(_connect, credentials)

    def refuse_outdated(_connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        made_with: Credential | None = entry.info.get(_MADE_WITH)
        if made_with is not None and made_with.is_leased and made_with != credentials.current():
            # The pool closes it and makes a new one; whoever asked does not notice.
            raise DisconnectionError("its lease has been replaced")

    event.listen(engine.sync_engine, "do_connect", log_in)
    event.listen(engine.sync_engine, "checkout", refuse_outdated)


async def _connect(credentials: Credentials, *args: Any, **options: Any) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(*args, **options)
    except asyncpg.InvalidAuthorizationSpecificationError:
        # A password that somebody changed, or a user that was dropped before its time.
        credentials.doubt()
        raise
