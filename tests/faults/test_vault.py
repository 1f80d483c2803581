"""Vault sealed, frozen and killed under a service at work, and leases that run out meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from data.secrets import parse_keys
from data.vault.vault import Vault
from tests.faults.vault_service import Traffic, part, settings, started, until_part
from tests.fixtures.app import open_app
from tests.fixtures.guarded_postgres import GuardedLedger
from tests.fixtures.ledger import Database
from tests.fixtures.service import Service, clean_environment, command, footfall
from tests.fixtures.vault import VaultServer

Act = Callable[[VaultServer], Awaitable[None]]


async def prepare(
    vault: VaultServer, guarded: GuardedLedger, home: Path, *options: str
) -> dict[str, str]:
    """Set the database up in Vault and make a site; the settings of the service."""
    await vault.set_up(*options)
    chosen = settings(vault, guarded)
    await footfall(home, "sites", "create", "shop", **chosen)
    return chosen


def admin_key(vault: VaultServer) -> str:
    kv = vault.root.secrets.kv.v2
    found = kv.read_secret_version("footfall", raise_on_deleted_version=True)
    return parse_keys(found["data"]["data"]).admin_key


async def count(guarded: GuardedLedger, ids: list[str]) -> int:
    """How many of these events are in the ledger; each may be there once."""
    connection = await guarded.connect()
    rows = await connection.fetch("select event_id::text, count(*) as times from events group by 1")
    await connection.close()
    found = {row["event_id"]: row["times"] for row in rows}
    assert set(found.values()) <= {1}
    return sum(one in found for one in ids)


async def seal(vault: VaultServer) -> None:
    await vault.seal()


async def unseal(vault: VaultServer) -> None:
    await vault.unseal()


async def freeze(vault: VaultServer) -> None:
    vault.freeze()


async def thaw(vault: VaultServer) -> None:
    vault.thaw()


async def kill(vault: VaultServer) -> None:
    await vault.kill()


async def start(vault: VaultServer) -> None:
    await vault.start()


@pytest.mark.parametrize(
    ("ways", "ttl"),
    [
        # Noticed at the next renewal, which is due at half of it.
        ([(seal, unseal), (kill, start)], "20s"),
        # Noticed only when no answer has come for a while.
        ([(freeze, thaw)], "40s"),
    ],
    ids=["sealed and killed", "frozen"],
)
async def test_a_service_goes_on_while_vault_is_away(
    vault_server: VaultServer,
    guarded: GuardedLedger,
    tmp_path: Path,
    ways: list[tuple[Act, Act]],
    ttl: str,
) -> None:
    home, said = tmp_path / "home", tmp_path / "said.log"
    options = guarded.set_up_options(ttl=ttl, max_ttl="1h")
    chosen = await prepare(vault_server, guarded, home, *options)
    async with started(home, said, **chosen) as service:
        service.admin_key = admin_key(vault_server)
        async with Traffic(service).flowing() as traffic:
            for take_away, bring_back in ways:
                await take_away(vault_server)
                words = await until_part(service, "degraded")
                await asyncio.sleep(1)
                health = await service.client.get("/health")
                await bring_back(vault_server)
                await until_part(service, "ok")
                assert "goes on with what it holds; leases end at 20" in words
                assert (health.status_code, health.json()["status"]) == (200, "degraded")

        assert traffic.refused == []
        assert len(traffic.sent) > 100
        assert await count(guarded, traffic.sent) == len(traffic.sent)
        page = (await service.client.get("/metrics")).text
        assert "footfall_vault_up 1.0" in page
        assert 'footfall_vault_lease_remaining_seconds{lease="database"}' in page
        assert await service.stop() == 0
    lines = said.read_text()
    assert (lines.count("vault.away"), lines.count("vault.back")) == (len(ways), len(ways))
    assert await guarded.made_users() == []


async def test_leases_that_reach_their_longest_time_are_replaced_without_a_failed_request(
    vault_server: VaultServer, guarded: GuardedLedger, tmp_path: Path
) -> None:
    home, said = tmp_path / "home", tmp_path / "said.log"
    options = ("--token-ttl", "10s", "--token-max-ttl", "20s")
    chosen = await prepare(
        vault_server, guarded, home, *options, *guarded.set_up_options(ttl="8s", max_ttl="12s")
    )
    async with started(home, said, **chosen) as service:
        service.admin_key = admin_key(vault_server)
        users: set[str] = set()
        async with Traffic(service).flowing() as traffic, asyncio.timeout(120):
            while len(users) < 4:
                users.update(await guarded.made_users())
                await asyncio.sleep(0.1)

        assert traffic.refused == []
        assert await count(guarded, traffic.sent) == len(traffic.sent) > 100
        assert (await part(service))[0] == "ok"
        assert await service.stop() == 0
    assert said.read_text().count("vault.database_user.replaced") >= 3
    assert await guarded.made_users() == []


async def test_leases_that_run_out_while_vault_is_away_are_told_and_mended_when_it_is_back(
    vault_server: VaultServer, guarded: GuardedLedger, tmp_path: Path
) -> None:
    home, said = tmp_path / "home", tmp_path / "said.log"
    chosen = await prepare(
        vault_server, guarded, home, *guarded.set_up_options(ttl="12s", max_ttl="1h")
    )
    async with started(home, said, **chosen) as service:
        service.admin_key = admin_key(vault_server)
        await vault_server.kill()
        # It is degraded in between, which the log tells: nobody need see it.
        words = await until_part(service, "down")
        # Connections that are open go on: nobody is there to end them.
        await ingest(service)
        # The real one ends what has run out as soon as it works again.
        await vault_server.start()
        await until_part(service, "ok")
        async with asyncio.timeout(60):
            while (await service.client.get("/health")).json()["status"] != "ok":
                await asyncio.sleep(0.1)
        await ingest(service)

        assert words.endswith("leases have ended")
        assert await service.stop() == 0
    lines = said.read_text()
    order = [lines.index(f"vault.{one} ") for one in ("away", "leases.ending", "back")]
    assert order == sorted(order)


async def ingest(service: Service) -> None:
    answer = await service.client.post("/collect", json={"site": "shop", "event": "v"})
    assert answer.status_code == 200, answer.text


async def test_a_new_admin_key_in_vault_holds_without_a_restart(
    vault_server: VaultServer, database: Database, tmp_path: Path
) -> None:
    settings = {name.lower(): value for name, value in vault_server.environment().items()}
    async with open_app(database, tmp_path / "home", **settings) as app:
        old, new = app.admin_key, "ff_admin_" + "e" * 64
        kept = {"admin_key": new, "import_key": "ab" * 32}
        vault_server.root.secrets.kv.v2.create_or_update_secret("footfall", kept)
        before = await app.post("{ sites { id } }", key=new)
        # It reads once a minute; the minute is over.
        vault = app.resources.secrets
        assert isinstance(vault, Vault)
        vault._read_at -= 60
        vault._wake.set()
        async with asyncio.timeout(60):
            while "errors" in await app.post("{ sites { id } }", key=new):
                await asyncio.sleep(0.02)
        refused = await app.post("{ sites { id } }", key=old)

    for answer in (before, refused):
        assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("take_away", "reason"), [(seal, "it is sealed"), (kill, "it cannot be connected to")]
)
async def test_without_vault_the_service_does_not_start_and_says_why_in_one_line(
    vault_server: VaultServer, tmp_path: Path, take_away: Act, reason: str
) -> None:
    environment = vault_server.environment()
    await take_away(vault_server)

    process = await asyncio.create_subprocess_exec(
        *command("serve", "--port", "0"),
        env=clean_environment(tmp_path / "home", PYTHONPATH=str(Path.cwd()), **environment),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, err = await process.communicate()

    assert process.returncode == 1
    assert err.decode().count("\n") == 1
    assert err.decode().startswith("footfall: Vault cannot be used now (")
    assert reason in err.decode()
    assert not (tmp_path / "home" / "secrets.json").exists()
