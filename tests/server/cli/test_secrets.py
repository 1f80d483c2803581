"""`footfall secrets`, and what `footfall doctor` finds out about Vault."""

import asyncio
import json
from pathlib import Path
from typing import Any

from data.secrets import parse_keys
from tests.fixtures.service import ended_command
from tests.fixtures.vault import VaultServer, running_vault
from tests.server.cli.commands import Several


async def test_secrets_in_files_are_set_listed_removed_and_rotated(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"

    said = await said_by(several, home, "secrets", "init")
    assert said == f"made new keys in {home / 'secrets.json'}\n"
    kept = (home / "secrets.json").read_text()
    await said_by(several, home, "secrets", "init")
    assert (home / "secrets.json").read_text() == kept

    assert await ended_command(home, "secrets", "set", "crm", stdin="hush\n") == (
        "secret crm is set\n"
    )
    assert await said_by(several, home, "secrets", "list", "--json") == '[\n  "crm"\n]\n'
    rotated = await said_by(several, home, "secrets", "rotate")
    assert rotated == "the master key is at version 2; 1 named secrets were moved on to it\n"
    assert await said_by(several, home, "secrets", "remove", "crm") == "secret crm is gone\n"
    again = await said_by(several, home, "secrets", "remove", "crm")
    assert again == ("footfall: there is no secret 'crm': set it with `footfall secrets set crm`\n")
    nothing = await ended_command(home, "secrets", "set", "crm", stdin="\n")
    assert nothing.startswith("footfall: a secret has 1 to 65,536 characters")


async def test_secrets_in_vault_are_made_once_and_set_by_an_operator(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    async with running_vault(tmp_path / "vault") as server:
        operator = {"VAULT_ADDR": server.url, "VAULT_TOKEN": server.root_token}
        await server.set_up()
        await server.make_keys()
        kv = server.root.secrets.kv.v2
        stored = kv.read_secret_version("footfall", raise_on_deleted_version=True)["data"]

        again = await said_by(several, home, "secrets", "init", **operator)
        assert again == "there are keys in secret/footfall; they stay\n"
        parse_keys(stored["data"])
        assert stored["metadata"]["version"] == 1

        await ended_command(home, "secrets", "set", "crm", stdin="hush", **operator)
        assert await said_by(several, home, "secrets", "list", **operator) == "crm\n"
        rotated = await said_by(several, home, "secrets", "rotate", **operator)
        assert rotated == "the transit key footfall is at version 2\n"
        key = await said_by(several, home, "keys", "admin", **server.environment())
        assert key == stored["data"]["admin_key"] + "\n"
        # The service itself may not write.
        refused = await ended_command(
            home, "secrets", "set", "crm", stdin="hush", **server.environment()
        )
        assert refused.startswith("footfall: Vault does not let it write secret/footfall/named/crm")
        await said_by(several, home, "secrets", "remove", "crm", **operator)
        assert "no secrets yet" in await said_by(several, home, "secrets", "list", **operator)
    assert not (home / "secrets.json").exists()


async def test_the_doctor_looks_at_everything_that_vault_is_for(
    vault_server: VaultServer, tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    well = await checks(several, home, **vault_server.environment())
    assert {name: check["status"] for name, check in well.items() if "vault" in name} == {
        "vault": "ok",
        "vault secrets": "ok",
        "vault transit": "ok",
    }
    assert "secrets" not in well

    poor = vault_server.root.auth.token.create(ttl="1h")["auth"]["client_token"]
    environment = {"VAULT_ADDR": vault_server.url, "VAULT_TOKEN": poor}
    found = await checks(several, home, **environment)
    for name in ("vault secrets", "vault transit"):
        assert found[name]["status"] == "problem"
        assert "permission denied" in found[name]["detail"]
        assert "docs/operations/secrets.md" in found[name]["advice"]

    endless = {"VAULT_ADDR": vault_server.url, "VAULT_TOKEN": vault_server.root_token}
    assert (await checks(several, home, **endless))["vault"]["status"] == "warning"

    await vault_server.seal()
    sealed = await checks(several, home, **vault_server.environment())
    assert sealed["vault"]["status"] == "problem"
    assert "it is sealed" in sealed["vault"]["detail"]


async def checks(several: Several, home: Path, **environment: str) -> dict[str, dict[str, Any]]:
    said = await said_by(several, home, "doctor", "--json", PORT="0", **environment)
    return {check["name"]: check for check in json.loads(said)["checks"]}


async def test_setting_vault_up_twice_changes_nothing_and_sets_what_the_policy_needs(
    tmp_path: Path, several: Several
) -> None:
    async with running_vault(tmp_path / "vault") as server:
        names = ("--kv-mount", "apps", "--secret-path", "team/usage", "--transit-key", "usage")
        await asyncio.to_thread(server.root.sys.enable_secrets_engine, "kv", "apps")
        named = {
            "VAULT_KV_MOUNT": "apps",
            "VAULT_SECRET_PATH": "team/usage",
            "VAULT_TRANSIT_KEY": "usage",
        }
        await server.set_up(*names)
        secret_id = (server.credentials / "secret-id").read_text()
        before = server.state()["transit"]

        await server.set_up(*names)

        assert (server.credentials / "secret-id").read_text() == secret_id
        assert (server.credentials / "secret-id").stat().st_mode & 0o077 == 0
        assert server.state()["transit"] == before
        operator = {"VAULT_ADDR": server.url, "VAULT_TOKEN": server.root_token, **named}
        home = tmp_path / "home"
        made = await said_by(several, home, "secrets", "init", **operator)
        assert made == "made new keys in apps/team/usage\n"
        found = await checks(several, home, **server.environment(**named))
        assert found["vault secrets"]["status"] == "ok", found
        assert found["vault transit"]["status"] == "ok", found


async def said_by(several: Several, home: Path, *arguments: str, **environment: str) -> str:
    """All that a command said that needs no input."""
    [ended] = await several(
        home, (*(f"{name}={value}" for name, value in environment.items()), *arguments)
    )
    return ended.out + ended.err
