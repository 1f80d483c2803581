"""Database users that Vault makes: new ones in time, for every connection, and none left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from data.credentials import Credential, with_credential
from data.postgres.engine import LedgerUnavailable, transaction
from data.postgres.ledger import Ledger, LedgerAddress, open_ledger
from data.vault.vault import Vault
from telemetry.metrics import Metrics
from tests.data.vault.patience import opened, until
from tests.fixtures.guarded_postgres import GuardedLedger
from tests.fixtures.service import ROOT
from tests.fixtures.vault import VaultServer

WHO = text("select session_user, current_user")


@asynccontextmanager
async def ledger_by_vault(
    server: VaultServer, guarded: GuardedLedger, metrics: Metrics | None = None
) -> AsyncIterator[tuple[Vault, Ledger]]:
    async with opened(server, metrics=metrics, database_role="footfall") as vault:
        credentials = vault.credentials("database")
        assert credentials is not None
        url = with_credential(guarded.url, credentials.current())
        address = LedgerAddress(
            server.folder,
            database_url=make_url(url.replace("postgresql:", "postgresql+asyncpg:")),
            credentials=credentials,
        )
        async with open_ledger(address) as ledger:
            yield vault, ledger


async def who(engine: AsyncEngine) -> tuple[str, str]:
    async with transaction(engine) as connection:
        row = (await connection.execute(WHO)).one()
        return row.session_user, row.current_user


async def test_both_pools_log_in_as_the_user_that_vault_made(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    await vault_server.set_up(*guarded.set_up_options(ttl="1h", max_ttl="2h"))
    async with ledger_by_vault(vault_server, guarded) as (_, ledger):
        [user] = await guarded.made_users()

        assert await who(ledger.writer) == (user, "footfall_writer")
        assert await who(ledger.reads.primary) == (user, "replica_user")

    # Its lease was given back.
    assert await guarded.made_users() == []


async def test_a_user_is_replaced_before_its_end_and_nobody_notices(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    metrics = Metrics.create()
    await vault_server.set_up(*guarded.set_up_options(ttl="8s", max_ttl="12s"))
    async with ledger_by_vault(vault_server, guarded, metrics) as (vault, ledger):
        first, _ = await who(ledger.writer)
        seen: set[str] = set()
        async with asyncio.timeout(120):
            async with transaction(ledger.writer) as long_one:
                while len(seen) < 2:
                    seen.add((await who(ledger.writer))[0])
                    await asyncio.sleep(0.02)
                # One that is under way goes on when others have the new user already.
                assert (await long_one.execute(WHO)).one().session_user == first
            while len(seen) < 3:
                seen |= {(await who(ledger.writer))[0], (await who(ledger.reads.primary))[0]}
                await asyncio.sleep(0.02)

        assert vault.state().trouble is None
        assert metrics.vault.database.renewals["renewed"]._value.get() >= 1
        assert metrics.vault.database.renewals["replaced"]._value.get() >= 2
        assert metrics.vault.database.renewals["failed"]._value.get() == 0
        await guarded.until_gone(first)
        assert (await who(ledger.writer))[0] != first
    assert await guarded.made_users() == []


async def test_a_new_token_brings_a_new_user_as_the_old_one_ends_with_its_token(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    await vault_server.set_up(
        *("--token-ttl", "8s", "--token-max-ttl", "12s"),
        *guarded.set_up_options(ttl="1h", max_ttl="2h"),
    )
    async with ledger_by_vault(vault_server, guarded) as (vault, ledger):
        first, _ = await who(ledger.writer)
        async with asyncio.timeout(60):
            while first in await guarded.made_users():
                await who(ledger.writer)
                await who(ledger.reads.primary)
                await asyncio.sleep(0.02)

        assert (await who(ledger.writer))[0] != first
        assert vault.state().trouble is None


async def test_a_user_that_somebody_dropped_is_replaced_at_the_next_login(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    await vault_server.set_up(*guarded.set_up_options(ttl="1h", max_ttl="2h"))
    metrics = Metrics.create()
    async with ledger_by_vault(vault_server, guarded, metrics) as (_, ledger):
        first, _ = await who(ledger.writer)
        await asyncio.sleep(1)
        lease = next(iter(vault_server.state()["leases"]))
        await asyncio.to_thread(vault_server.root.sys.revoke_lease, lease)

        # The set-up's statements end its connections, too.
        after = first
        async with asyncio.timeout(60):
            while after == first:
                with suppress(LedgerUnavailable):
                    after, _ = await who(ledger.writer)
                await asyncio.sleep(0.05)

        await until(lambda: metrics.vault.database.renewals["replaced"]._value.get() == 1)


async def test_a_standby_is_asked_as_the_former_user_until_it_may_know_the_new_one(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    await vault_server.set_up(*guarded.set_up_options(ttl="5s", max_ttl="5s"))
    async with opened(vault_server, database_role="footfall") as vault:
        primary, standby = vault.credentials("database"), vault.credentials("replica_database")
        assert primary is not None
        assert standby is not None
        first = primary.current()
        assert standby.current() == first

        former = first
        async with asyncio.timeout(60):
            # Looked at together: they differ for half a second each time.
            while standby.current() == primary.current():
                former = primary.current()
                await asyncio.sleep(0.02)

        assert standby.current() == former
        await until(lambda: standby.current() == primary.current())


async def test_a_vault_that_is_no_superuser_makes_users_and_ends_them_with_their_connections(
    vault_server: VaultServer, guarded: GuardedLedger, tmp_path: Path
) -> None:
    # What the documentation tells a superuser to do, and nothing more.
    page = (ROOT / "docs/operations/secrets.md").read_text(encoding="utf-8")
    statements = page.partition("```sql")[2].partition("```")[0].replace("'...'", "'of vault'")
    superuser = await guarded.connect()
    await superuser.execute(statements)
    password = tmp_path / "password"
    password.write_text("of vault")
    options = guarded.set_up_options(ttl="1h", max_ttl="2h", user="vault", password_file=password)
    await vault_server.set_up(*options)

    async with opened(vault_server, database_role="footfall") as vault:
        credentials = vault.credentials("database")
        assert credentials is not None
        made = credentials.current()
        connection = await asyncpg.connect(with_credential(guarded.url, made))
        assert await guarded.made_users() == [made.username]

    # Given back, also while somebody works as this user.
    await guarded.until_gone(made.username)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetch("select 1")
    await superuser.close()


async def test_while_vault_is_away_new_connections_use_what_is_held(
    vault_server: VaultServer, guarded: GuardedLedger
) -> None:
    await vault_server.set_up(*guarded.set_up_options(ttl="1h", max_ttl="2h"))
    async with ledger_by_vault(vault_server, guarded) as (vault, ledger):
        first, _ = await who(ledger.writer)
        await vault_server.kill()
        await until(lambda: vault.state().trouble is not None)
        await ledger.writer.dispose()

        assert (await who(ledger.writer))[0] == first


def test_a_url_takes_user_and_password_whatever_is_in_them() -> None:
    credential = _credential("a@b", "p/w:?#%")
    for url, expected in (
        ("postgresql://h:5/db", "postgresql://a%40b:p%2Fw%3A%3F%23%25@h:5/db"),
        ("postgresql://old:pw@h/db", "postgresql://a%40b:p%2Fw%3A%3F%23%25@h/db"),
        ("postgresql:///db?host=/run", "postgresql://a%40b:p%2Fw%3A%3F%23%25@/db?host=/run"),
    ):
        assert with_credential(url, credential) == expected
        parsed = make_url(with_credential(url, credential))
        assert (parsed.username, parsed.password) == ("a@b", "p/w:?#%")
    assert with_credential("redis://:old@h/0", _credential("", "n")) == "redis://:n@h/0"
    assert with_credential("postgresql://me@h/d", _credential("", "n")) == "postgresql://me:n@h/d"


def _credential(username: str, password: str) -> Credential:
    return Credential(username, password)
