"""Vault as the service uses it: opened, kept, replaced, lost and found again."""

import asyncio
import shutil
from pathlib import Path

import pytest

from data.secret_errors import SecretMissing, SecretsUnreadable, Undecipherable
from data.vault.address import VaultLogin
from data.vault.checkup import checkup
from data.vault.client import VaultRefused, VaultUnavailable
from telemetry.metrics import Metrics
from tests.data.vault.patience import now, opened, until
from tests.fixtures.vault import VaultServer, certificate_for_loopback, running_vault

EVERYTHING = 'path "*" { capabilities = ["create", "read", "update", "delete"] }'


async def test_the_keys_that_init_made_are_read(vault_server: VaultServer) -> None:
    async with opened(vault_server) as vault:
        assert vault.admin_key.startswith("ff_admin_")
        assert len(vault.import_key) == 32
        assert vault.state().trouble is None


async def test_new_keys_in_vault_hold_soon(vault_server: VaultServer) -> None:
    async with opened(vault_server) as vault:
        before = vault.admin_key_hash
        kept = {"admin_key": "ff_admin_" + "e" * 64, "import_key": "ab" * 32}

        vault_server.root.secrets.kv.v2.create_or_update_secret("footfall", kept)
        await until(lambda: vault.admin_key == kept["admin_key"])

        assert vault.admin_key_hash != before
        assert vault.import_key == bytes.fromhex("ab" * 32)


async def test_new_keys_that_cannot_be_used_are_told_and_the_old_ones_stay(
    vault_server: VaultServer,
) -> None:
    async with opened(vault_server) as vault:
        before = vault.admin_key

        broken = {"admin_key": "hush-hush", "import_key": "ab"}
        vault_server.root.secrets.kv.v2.create_or_update_secret("footfall", broken)
        await until(lambda: vault.state().trouble is not None)

        assert vault.admin_key == before
        assert "secret/footfall cannot be used" in str(vault.state().trouble)
        assert "hush-hush" not in str(vault.state().trouble)


async def test_a_token_is_renewed_before_it_ends(vault_server: VaultServer) -> None:
    metrics = Metrics.create()
    await vault_server.set_up("--token-ttl", "1s", "--token-max-ttl", "1h")
    async with opened(vault_server, metrics=metrics) as vault:
        await until(lambda: metrics.vault.token.renewals["renewed"]._value.get() >= 2)

        assert vault.state().trouble is None
        assert metrics.vault.token.renewals["replaced"]._value.get() == 0


async def test_a_token_at_the_end_of_its_longest_time_is_replaced_by_a_login(
    vault_server: VaultServer,
) -> None:
    metrics = Metrics.create()
    await vault_server.set_up("--token-ttl", "1s", "--token-max-ttl", "2s")
    async with opened(vault_server, metrics=metrics) as vault:
        await until(lambda: metrics.vault.token.renewals["replaced"]._value.get() >= 1)

        assert vault.state().trouble is None
        assert metrics.vault.token.renewals["failed"]._value.get() == 0


async def test_a_token_that_somebody_ended_is_replaced(vault_server: VaultServer) -> None:
    metrics = Metrics.create()
    async with opened(vault_server, metrics=metrics) as vault:
        await vault._token._client.revoke_token()
        await until(lambda: metrics.vault.token.renewals["replaced"]._value.get() == 1)
        await until(lambda: vault.state().trouble is None)


async def test_a_token_in_a_file_is_read_anew_when_the_old_one_ends(
    vault_server: VaultServer, tmp_path: Path
) -> None:
    create = vault_server.root.auth.token.create
    options = {"policies": ["footfall"], "explicit_max_ttl": "6s"}
    file = tmp_path / "token"
    file.write_text(create(ttl="6s", **options)["auth"]["client_token"])
    metrics = Metrics.create()

    login = VaultLogin(token_file=str(file))
    async with opened(vault_server, login, metrics=metrics) as vault:
        file.write_text(create(ttl="1h", policies=["footfall"])["auth"]["client_token"])
        await until(lambda: metrics.vault.token.renewals["replaced"]._value.get() == 1)
        # The old one ends meanwhile.
        await asyncio.sleep(4)

        assert vault.state().trouble is None


async def test_an_orderly_end_gives_the_token_back(vault_server: VaultServer) -> None:
    async with opened(vault_server):
        during = len(vault_server.state()["tokens"])

    assert len(vault_server.state()["tokens"]) == during - 1


@pytest.mark.parametrize("how", ["seal", "freeze", "kill"])
async def test_while_vault_is_away_the_service_goes_on_and_comes_back_by_itself(
    vault_server: VaultServer, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    metrics = Metrics.create()
    async with opened(vault_server, metrics=metrics) as vault:
        await _take_away(vault_server, how)
        await until(lambda: vault.state().trouble is not None)

        assert vault.admin_key.startswith("ff_admin_")
        ends_at = vault.state().ends_at
        assert ends_at is not None
        assert 0 < (ends_at - now()).total_seconds() <= 3_600
        assert metrics.vault.up._value.get() == 0
        with pytest.raises(VaultUnavailable):
            await vault.envelope.encrypt(b"x", b"here")

        await _bring_back(vault_server, how)
        await until(lambda: vault.state().trouble is None)

        assert metrics.vault.up._value.get() == 1
        text = await vault.envelope.encrypt(b"x", b"here")
        assert await vault.envelope.decrypt(text, b"here") == b"x"
    said = capfd.readouterr().out
    assert said.count("vault.away") == 1
    assert said.count("vault.back") == 1


async def _take_away(server: VaultServer, how: str) -> None:
    match how:
        case "seal":
            await server.seal()
        case "freeze":
            server.freeze()
        case _:
            await server.kill()


async def _bring_back(server: VaultServer, how: str) -> None:
    match how:
        case "seal":
            await server.unseal()
        case "freeze":
            server.thaw()
        case _:
            await server.start()


async def test_leases_that_run_out_while_vault_is_away_are_warned_of_beforehand(
    vault_server: VaultServer, capfd: pytest.CaptureFixture[str]
) -> None:
    await vault_server.set_up("--token-ttl", "10s")
    async with opened(vault_server) as vault:
        await vault_server.kill()
        await until(lambda: vault.state().has_ended)
        await asyncio.sleep(1)
        said = capfd.readouterr().out
        assert vault.state().trouble == "it cannot be connected to"
        order = [said.index(f"vault.{what} ") for what in ("away", "leases.ending", "leases.ended")]
        assert order == sorted(order)

        # A token that has ended is no matter for AppRole.
        await vault_server.start()
        await until(lambda: vault.state().trouble is None)
        assert not vault.state().has_ended


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("seal", "it is sealed"),
        ("freeze", "it does not answer in time"),
        ("kill", "it cannot be connected to"),
    ],
)
async def test_a_vault_that_is_away_at_the_start_is_an_error(
    vault_server: VaultServer, how: str, reason: str
) -> None:
    await _take_away(vault_server, how)

    with pytest.raises(VaultUnavailable, match=reason):
        async with opened(vault_server):
            pass


async def test_without_keys_the_start_says_how_to_make_them(vault_server: VaultServer) -> None:
    vault_server.root.secrets.kv.v2.delete_metadata_and_all_versions("footfall")

    with pytest.raises(
        SecretsUnreadable, match="nothing at secret/footfall: run `footfall secrets"
    ):
        async with opened(vault_server):
            pass


async def test_a_wrong_secret_id_is_refused_without_being_shown(vault_server: VaultServer) -> None:
    login = VaultLogin(role_id=vault_server.app_role().role_id, secret_id="hush-hush")

    with pytest.raises(VaultRefused, match="invalid role or secret ID") as refused:
        async with opened(vault_server, login):
            pass
    assert "hush-hush" not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert "hush-hush" not in repr(login)


async def test_a_token_without_the_policy_is_refused_with_what_it_may_not(
    vault_server: VaultServer,
) -> None:
    token = vault_server.root.auth.token.create(ttl="1h")["auth"]["client_token"]

    with pytest.raises(VaultRefused, match=r"let it read secret/footfall \(.*permission denied"):
        async with opened(vault_server, VaultLogin(token=token)):
            pass


async def test_passwords_in_the_store_are_what_to_log_in_with(vault_server: VaultServer) -> None:
    kv = vault_server.root.secrets.kv.v2
    content = kv.read_secret_version("footfall", raise_on_deleted_version=True)["data"]["data"]
    more = {"database_username": "u", "database_password": "p1", "redis_password": "r"}
    kv.create_or_update_secret("footfall", {**content, **more})

    async with opened(vault_server) as vault:
        database, redis = vault.credentials("database"), vault.credentials("redis")
        assert database is not None
        assert redis is not None
        assert vault.credentials("replica_database") is None
        assert (database.current().username, database.current().password) == ("u", "p1")
        assert (redis.current().username, redis.current().password) == ("", "r")

        kv.create_or_update_secret("footfall", {**content, **more, "database_password": "p2"})
        await until(lambda: database.current().password == "p2")


async def test_named_secrets_are_found_by_their_name(vault_server: VaultServer) -> None:
    kv = vault_server.root.secrets.kv.v2
    kv.create_or_update_secret("footfall/named/crm.token", {"value": "hush"})

    async with opened(vault_server) as vault:
        assert await vault.named("crm.token") == "hush"
        with pytest.raises(SecretMissing, match="footfall secrets set other"):
            await vault.named("other")
        for outside in ("../footfall", "a/b", "", "1x"):
            with pytest.raises(SecretMissing):
                await vault.named(outside)


async def test_transit_texts_belong_to_their_context_and_survive_rotation(
    vault_server: VaultServer,
) -> None:
    async with opened(vault_server) as vault:
        envelope = vault.envelope
        text = await envelope.encrypt(b"key of a bucket", b"destination:1")
        assert text.startswith("vault:v1:")
        vault_server.root.secrets.transit.rotate_key("footfall")

        assert await envelope.newest_version() == 2
        assert await envelope.decrypt(text, b"destination:1") == b"key of a bucket"
        moved = await envelope.rewrap(text, b"destination:1")
        assert moved.startswith("vault:v2:")
        assert await envelope.decrypt(moved, b"destination:1") == b"key of a bucket"
        for wrong in (text[:-6] + "AAAAA=", "vault:v9:" + text[9:], "plain"):
            with pytest.raises(Undecipherable):
                await envelope.decrypt(wrong, b"destination:1")
        with pytest.raises(Undecipherable):
            await envelope.decrypt(text, b"destination:2")
        with pytest.raises(ValueError, match="context"):
            await envelope.encrypt(b"x", b"")


@pytest.mark.parametrize("of", ["the start", "the checkup", "the set-up"])
async def test_a_transit_key_that_heeds_no_context_is_refused(
    vault_server: VaultServer, of: str
) -> None:
    vault_server.root.secrets.transit.create_key("plain")
    match of:
        case "the start":
            vault_server.root.sys.create_or_update_acl_policy("footfall", EVERYTHING)
            with pytest.raises(SecretsUnreadable, match="the transit key plain is not derived"):
                async with opened(vault_server, transit_key="plain"):
                    pass
        case "the checkup":
            address = vault_server.address(transit_key="plain")
            async with checkup(address, VaultLogin(token=vault_server.root_token)) as asked:
                with pytest.raises(SecretsUnreadable, match="the transit key plain is not derived"):
                    await asked.use_envelope()
        case _:
            with pytest.raises(AssertionError, match="a transit key plain that is not derived"):
                await vault_server.set_up("--transit-key", "plain")


async def test_a_start_that_fails_leaves_no_token_behind(vault_server: VaultServer) -> None:
    # Tried several times: Vault cannot make users in a database that is away.
    nowhere = "postgresql://{{username}}@127.0.0.1:1/x"
    await vault_server.set_up("--database-url", nowhere, "--database-username", "vault")
    before = set(vault_server.state()["tokens"])
    with pytest.raises(VaultUnavailable, match="failed to create user"):
        async with opened(vault_server, database_role="footfall"):
            pass
    assert set(vault_server.state()["tokens"]) == before

    vault_server.root.secrets.kv.v2.delete_metadata_and_all_versions("footfall")
    with pytest.raises(SecretsUnreadable):
        async with opened(vault_server):
            pass
    assert set(vault_server.state()["tokens"]) == before


async def test_an_answer_of_something_else_is_no_vault(vault_server: VaultServer) -> None:
    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1") as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(VaultUnavailable, match="does not speak as Vault"):
            async with opened(vault_server, url=f"http://127.0.0.1:{port}"):
                pass


async def test_https_is_checked_with_the_certificate_given(
    vault_set_up: Path, tmp_path: Path
) -> None:
    shutil.copytree(vault_set_up, tmp_path / "vault")
    async with running_vault(tmp_path / "vault", certificate_for_loopback(tmp_path)) as server:
        async with opened(server) as vault:
            assert vault.admin_key.startswith("ff_admin_")

        with pytest.raises(VaultUnavailable, match="its certificate is not one"):
            async with opened(server, ca_certificate=""):
                pass
