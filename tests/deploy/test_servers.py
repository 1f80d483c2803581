"""The scripts and files of deploy/ by which PostgreSQL and Redis are run, on real servers."""

import asyncio
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError

from tests.deploy.deployed import (
    ScriptedReplica,
    redis_client,
    running_primary,
    running_redis_script,
    secrets_for,
    set_up_primary,
)
from tests.fixtures.service import free_port
from tests.fixtures.standby import PASSWORDS, PostgresServer, _account


async def test_a_primary_and_a_replica_come_up_by_their_scripts_and_stream_again_after_each_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("servers")
    account = _account(folder)
    secrets = secrets_for(folder / "secrets", account)
    async with running_primary(folder / "postgres", secrets) as primary:
        replica = ScriptedReplica(
            folder / "postgres" / "replica", account, primary_port=primary.port, secrets=secrets
        )
        try:
            await replica.start()
            await primary.value("create table seen (number int)")
            await arrives(primary, replica, 1)
            # A replica that is killed has not been copied anew: it goes on from its slot.
            made = (replica.data_dir / "PG_VERSION").stat().st_mtime_ns
            await replica.kill()
            await primary.value("insert into seen values (2)")
            await replica.start()
            await arrives(primary, replica, 3)
            assert (replica.data_dir / "PG_VERSION").stat().st_mtime_ns == made
            assert await primary.value("select count(*) from pg_replication_slots") == 1
            assert await primary.value("select every(active) from pg_replication_slots")

            # New passwords: the script on the primary, and a restart of the replica.
            (secrets / "replicator_password").chmod(0o600)
            (secrets / "replicator_password").write_text("another")
            await set_up_primary(primary, secrets)
            await replica.kill()
            await replica.start()
            await arrives(primary, replica, 4)
        finally:
            await replica.kill()
        hba = (primary.data_dir / "pg_hba.conf").read_text()
        assert hba.count("host replication replicator samenet scram-sha-256") == 1


async def arrives(primary: PostgresServer, replica: PostgresServer, number: int) -> None:
    await primary.value(f"insert into seen values ({number})")
    async with asyncio.timeout(30):
        while True:
            try:
                if await replica.value(f"select count(*) from seen where number = {number}"):
                    return
            except asyncpg.UndefinedTableError:
                pass
            await asyncio.sleep(0.02)


async def test_the_roles_of_the_primary_may_do_their_own_part_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("roles")
    secrets = secrets_for(folder / "secrets", _account(folder))
    async with running_primary(folder / "postgres", secrets) as primary:
        rows = await primary.value(
            "select string_agg(rolname || ':' || rolcanlogin || rolcreaterole || rolreplication, "
            "' ' order by rolname) from pg_roles where rolname !~ '^pg_' and rolname != 'postgres'"
        )
        assert rows == (
            "footfall_migrator:truetruefalse footfall_owner:falsefalsefalse "
            "footfall_service:truefalsefalse footfall_writer:falsefalsefalse "
            "replica_user:truefalsefalse replicator:truefalsetrue"
        )
        assert not await primary.value(
            "select bool_or(rolsuper) from pg_roles where rolname !~ '^pg_' "
            "and rolname != 'postgres'"
        )
        for role, password in (("replicator", PASSWORDS["replicator"]), ("replica_user", "wrong")):
            with pytest.raises(asyncpg.PostgresError):
                await asyncpg.connect(
                    host="127.0.0.1",
                    port=primary.port,
                    user=role,
                    password=password,
                    database="footfall",
                )


async def kept_in(client: Redis) -> object:
    """What was kept; None while the server is busy with its start."""
    with suppress(BusyLoadingError):
        return await client.get("kept")
    return None


async def test_redis_wants_its_password_keeps_every_write_and_throws_nothing_away(
    tmp_path: Path,
) -> None:
    secrets = secrets_for(tmp_path / "secrets", _account(tmp_path))
    port = free_port()
    async with running_redis_script(tmp_path / "redis", secrets, port):
        async with redis_client(port, secrets) as client:
            names = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "save")
            settings = {name: (await client.config_get(name))[name] for name in names}
            assert settings == {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory": str(512 * 1024 * 1024),
                "maxmemory-policy": "noeviction",
                "save": "",
            }
            await client.set("kept", "yes")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "redis_password").write_text("wrong")
        async with redis_client(port, tmp_path / "other") as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.get("kept")
    # It was killed.
    async with (
        running_redis_script(tmp_path / "redis", secrets, port),
        redis_client(port, secrets) as client,
    ):
        async with asyncio.timeout(60):
            # Until it has read its file.
            while await kept_in(client) != b"yes":
                await asyncio.sleep(0.02)
