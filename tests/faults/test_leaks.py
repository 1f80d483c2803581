"""No secret is ever said: not in logs at DEBUG, errors, answers, health, metrics, nor by `repr`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import pytest

from data.export_buckets import ExportBuckets
from data.exports.destination import Place, TargetKind
from data.local_secrets import LocalSecrets
from data.postgres.embedded import embedded_server
from data.postgres.export_destinations import SecretChanges
from data.resources import Resources
from data.s3.failures import BucketFailed
from data.s3.places import AccessKey
from resolvers.export_drafts import BucketDraft
from server.resources import open_resources
from server.settings import Settings, load_settings
from tests.faults.vault_service import started, until_part
from tests.fixtures.guarded_postgres import GuardedLedger
from tests.fixtures.redis import running_redis
from tests.fixtures.s3 import BUCKET, KEY_ID, running_s3
from tests.fixtures.service import Service, ended_command, free_port
from tests.fixtures.vault import VaultServer

ADMIN_KEY = "ff_admin_" + "c0ffee" * 10 + "feed"
IMPORT_KEY = "badc0de5" * 8
DATABASE_PASSWORD = "hush:database/p@ss%word"
REDIS_PASSWORD = "hush-redis-password"
NAMED = "hush named secret ü"
PLAINTEXT = b"hush-bucket-secret-key"


@dataclass(slots=True)
class Search:
    """Texts that were seen somewhere, and secrets that must not be among them."""

    secrets: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    def see(self, place: str, text: str) -> None:
        """Remember what was said somewhere."""
        self.seen[place] = self.seen.get(place, "") + text

    def leaks(self) -> list[str]:
        """Every place that shows a secret, in any of the ways in which it is written."""
        return [
            f"{place} shows {name}"
            for name, secret in self.secrets.items()
            for written in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
            for place, text in self.seen.items()
            if written in text
        ]


def test_the_search_finds_what_it_looks_for() -> None:
    search = Search({"key": "a/b"}, {"log": "x a%2Fb y", "page": "nothing"})

    assert search.leaks() == ["log shows key"]


async def test_a_service_whose_parts_all_fail_says_no_secret(
    vault_server: VaultServer, guarded: GuardedLedger, tmp_path: Path
) -> None:
    search, said = Search(), tmp_path / "said.log"
    (tmp_path / "redis").mkdir()
    await vault_server.set_up(
        *("--token-ttl", "12s", "--token-max-ttl", "40s"),
        *guarded.set_up_options(ttl="8s", max_ttl="24s"),
    )
    keep_recognisable_secrets(vault_server)
    async with running_redis(tmp_path / "redis", "--requirepass", REDIS_PASSWORD) as redis:
        chosen = vault_server.environment(
            DATABASE_URL=guarded.url,
            REPLICA_DATABASE_URL=guarded.url,
            VAULT_DATABASE_ROLE="footfall",
            REDIS_URL=redis.url,
            LOG_LEVEL="DEBUG",
        )
        async with started(tmp_path / "home", said, **chosen) as service:
            service.admin_key = ADMIN_KEY
            await use_everything(service, search)
            search.secrets |= secrets_of(vault_server)

            # Each part goes, one after the other, and all of them stay away for a while.
            await redis.kill()
            await use_everything(service, search)
            async with without_database(guarded):
                await use_everything(service, search)
                await vault_server.kill()
                await until_said(said, "vault.away")
                await use_everything(service, search)
                await until_part(service, "down")
                await use_everything(service, search)
                await until_said(said, "vault.leases.ended")
            await use_everything(service, search)
            await vault_server.start()
            await until_part(service, "ok")
            search.secrets |= secrets_of(vault_server)
            await vault_server.seal()
            await use_everything(service, search)
            await vault_server.unseal()
            assert await service.stop() == 0
    search.see("log", said.read_text())

    assert len(search.secrets) > 8
    assert search.leaks() == []
    # It did say something: each failure is there, and the paths that were asked.
    log = search.seen["log"]
    for word in ("vault.away", "vault.leases.ended", "redis.gone", "/v1/secret/data/footfall"):
        assert word in log, word


async def until_said(said: Path, word: str) -> None:
    """Return when the log has this word."""
    async with asyncio.timeout(60):
        while word not in said.read_text():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def without_database(guarded: GuardedLedger) -> AsyncIterator[None]:
    """The ledger lets nobody in meanwhile."""
    connection = await guarded.connect("postgres")
    await connection.execute("alter database footfall allow_connections false")
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'v-%'"
    )
    yield
    await connection.execute("alter database footfall allow_connections true")
    await connection.close()


def keep_recognisable_secrets(vault: VaultServer) -> None:
    content = {
        "admin_key": ADMIN_KEY,
        "import_key": IMPORT_KEY,
        "redis_password": REDIS_PASSWORD,
    }
    vault.root.secrets.kv.v2.create_or_update_secret("footfall", content)
    vault.root.secrets.kv.v2.create_or_update_secret("footfall/named/crm", {"value": NAMED})


def secrets_of(vault: VaultServer) -> dict[str, str]:
    """Everything that must not be seen, by a name for people."""
    state = vault.state()
    login = vault.app_role()
    known = {
        "admin key": ADMIN_KEY.removeprefix("ff_admin_"),
        "import key": IMPORT_KEY,
        "redis password": REDIS_PASSWORD,
        "named secret": NAMED,
        "secret id": login.current_secret_id(),
    }
    known |= {f"token {number}": token for number, token in enumerate(state["tokens"])}
    known |= {f"lease {number}": one for number, one in enumerate(state["leases"])}
    known |= {
        f"user {number}": lease["password"] for number, lease in enumerate(state["leases"].values())
    }
    return known


async def use_everything(service: Service, search: Search) -> None:
    """Good and bad uses of every way in; whatever comes back is looked at."""
    queries = (
        '{ dau(siteId: "shop", range: {from: "2026-01-01", to: "2026-01-02"}) { total } }',
        "{ system { parts { name status detail } } }",
        'mutation { saveSite(input: {id: "shop", name: "Shop"}) { id } }',
        "{ nonsense",
        "{ sites { id name } }",
    )
    wrong = ADMIN_KEY[:-1] + "0"
    for path in ("/health", "/metrics", "/health/live", "/nowhere"):
        search.see(path, (await get(service, path)).text)
    for query in queries:
        for key in (ADMIN_KEY, wrong):
            answer = await service.client.post(
                "/graphql",
                json={"query": query},
                headers={"authorization": f"Bearer {key}", "cookie": f"key={key}"},
            )
            search.see("graphql", answer.text + repr(answer.headers))
    answer = await service.client.get("/graphql", params={"query": "{", "key": ADMIN_KEY})
    search.see("graphql", answer.text)
    answer = await service.client.post("/collect", json={"site": "shop", "event": "v"})
    search.see("collect", answer.text)


async def get(service: Service, path: str) -> httpx.Response:
    return await service.client.get(path, headers={"x-api-key": ADMIN_KEY})


async def test_nothing_that_is_held_shows_its_secrets(
    vault_server: VaultServer, guarded: GuardedLedger, tmp_path: Path
) -> None:
    await vault_server.set_up(*guarded.set_up_options(ttl="1h", max_ttl="2h"))
    keep_recognisable_secrets(vault_server)
    chosen = vault_server.environment(
        DATABASE_URL=f"postgresql://me:{quote(DATABASE_PASSWORD, safe='')}@{guarded.place}",
        REDIS_URL=f"redis://:{REDIS_PASSWORD}@127.0.0.1:{free_port()}/0",
        VAULT_DATABASE_ROLE="footfall",
        FOOTFALL_HOME=str(tmp_path / "home"),
    )
    settings = load_settings(
        _env_file=None, **{name.lower(): value for name, value in chosen.items()}
    )
    search = Search(
        {
            **secrets_of(vault_server),
            "database password": DATABASE_PASSWORD,
            "plaintext": PLAINTEXT.decode(),
        }
    )
    async with open_resources(settings) as (resources, _):
        search.secrets |= secrets_of(vault_server)
        see_all(search, settings, resources)
        text = await resources.secrets.envelope.encrypt(PLAINTEXT, b"destination:1")
        search.see("ciphertext", text)
        for wrong in (text[:-8] + "AAAAAAA=", "nonsense"):
            for context in (b"destination:1", b"destination:2"):
                with pytest.raises(Exception) as caught:
                    await resources.secrets.envelope.decrypt(wrong, context)
                search.see("error", repr(caught.value) + str(caught.value.__cause__))
        await vault_server.kill()
        with pytest.raises(Exception) as caught:
            await resources.secrets.envelope.encrypt(PLAINTEXT, b"destination:1")
        search.see("error", repr(caught.value) + str(caught.value.__cause__))
        see_all(search, settings, resources)

    assert search.leaks() == []


def see_all(search: Search, settings: Settings, resources: Resources) -> None:
    """The `repr` and `str` of everything that is held, three levels deep."""
    held: list[object] = [settings, settings.vault_address, settings.vault_login, resources]
    for _ in range(3):
        for one in held:
            search.see(type(one).__name__, f"{one!r} {one!s}")
        held = [inner for one in held for inner in inside(one)]
    engines = (resources.ledger.writer, resources.ledger.reads.primary)
    for engine in engines:
        search.see("engine", f"{engine!r} {engine.url!r} {engine.url!s} {engine.pool.status()}")


def inside(one: object) -> list[object]:
    """The objects of ours that an object holds."""
    names = {*getattr(type(one), "__slots__", ()), *getattr(one, "__dict__", {})}
    found = [getattr(one, name, None) for name in names]
    ours = re.compile(r"(data|server|telemetry|jobs)\.")
    return [value for value in found if ours.match(type(value).__module__)]


EXPORT_SECRET = "hush/Export+secret=of-a-client"
NO_SECRET = "hush-a-secret-that-is-wrong"
SAVE_EXPORT = """
mutation ($input: ExportDestinationInput!) {
  saveExportDestination(input: $input) { id hookToken webhookSecret }
}
"""
ABOUT_EXPORTS = """
{
  exportDestinations { id name bucket filter webhookUrl login { kind } hookToken webhookSecret }
  exportRuns { nodes { id status error targets { error reason } destination { hookToken } } }
  exportSetup(siteId: "shop") { externalId }
  adminLog { nodes { action target actor { keyId name } details } }
  system { parts { name status detail } }
}
"""


async def test_exports_say_nothing_of_the_credentials_that_they_have(tmp_path: Path) -> None:
    search, said, home = Search(), tmp_path / "said.log", tmp_path / "home"
    await ended_command(home, "sites", "create", "shop")
    async with (
        running_s3(tmp_path / "s3", secret=EXPORT_SECRET) as server,
        started(home, said, LOG_LEVEL="DEBUG", OUTBOUND_ALLOW_PRIVATE="true") as service,
    ):
        given = {
            "siteId": "shop",
            "name": "lake",
            "bucket": BUCKET,
            "schedule": "MANUAL",
            "endpointUrl": server.endpoint,
            "accessKeyId": KEY_ID,
            "webhookUrl": f"http://127.0.0.1:{free_port()}/",
        }

        async def save(secret: str) -> dict[str, str]:
            document = {"input": {**given, "secretAccessKey": secret}}
            body = await service.graphql(SAVE_EXPORT, document)
            saved: dict[str, str] = (body["data"] or {}).get("saveExportDestination") or {}
            # What is shown once is for whoever has saved it.
            search.see("refusal", json.dumps(body.get("errors", "")))
            return saved

        search.secrets = {"client's secret": EXPORT_SECRET, "wrong secret": NO_SECRET}
        assert await save(NO_SECRET) == {}
        made = await save(EXPORT_SECRET)
        search.secrets |= {
            "key id": KEY_ID,
            "hook": made["hookToken"],
            "webhook": made["webhookSecret"].removeprefix("whsec_"),
        }
        for token in (made["hookToken"], f"{made['hookToken']}x"):
            search.see("hook", (await service.client.post(f"/hooks/export/{token}")).text)
        await until_said(said, "export.published")
        # The bucket refuses what it took before: the destination pauses and says why.
        await server.kill()
        server.secret = "another one"
        await server.start()
        search.see("hook", (await service.client.post(f"/hooks/export/{made['hookToken']}")).text)
        await until_said(said, "export.paused")
        search.see("exports", json.dumps(await service.data(ABOUT_EXPORTS)))
        for path in ("/health", "/metrics"):
            search.see(path, (await get(service, path)).text)
        search.see("ledger", await ledger_text(home))
        assert await service.stop() == 0
    search.see("log", said.read_text())
    kept = await ended_command(home, "export", "lake", LOG_LEVEL="DEBUG")
    search.see("command", kept)

    assert search.leaks() == []
    assert "does not belong to the access key" in search.seen["exports"]


async def ledger_text(home: Path) -> str:
    """Every row of every table, as text."""
    found = []
    async with embedded_server(home) as server:
        connection = await asyncpg.connect(
            host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
        )
        names = await connection.fetch(
            "select format('%I', tablename) from pg_tables where schemaname = 'public'"
        )
        for (name,) in names:
            rows = await connection.fetch(f"select one::text from {name} as one")
            found += [row[0] for row in rows]
        await connection.close()
    return "\n".join(found)


async def test_nothing_of_an_exporter_shows_a_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    key = AccessKey(KEY_ID, EXPORT_SECRET, EXPORT_SECRET)
    search = Search({"client's secret": EXPORT_SECRET})
    buckets = ExportBuckets(None, LocalSecrets(home), True)  # type: ignore[arg-type]
    place = Place(bucket=BUCKET, endpoint="http://127.0.0.1:9")
    sealed = await buckets.seal(UUID(int=1), TargetKind.CLIENT, key)
    draft = BucketDraft(BUCKET, "", None, None, KEY_ID, EXPORT_SECRET, None)
    for one in (key, place, place.opened_by(key), buckets, draft, SecretChanges(client=sealed)):
        search.see(type(one).__name__, f"{one!r} {one!s}")
    async with buckets.open(place, key) as bucket:
        search.see("bucket", f"{bucket!r} {bucket.place!r}")
        with pytest.raises(BucketFailed) as caught:
            await bucket.put_bytes("x", b"", "text/plain")
        search.see("error", f"{caught.value!r} {caught.value.__cause__!r}")

    assert search.leaks() == []
    assert EXPORT_SECRET not in sealed


async def test_local_secrets_do_not_show_either(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secrets.json").write_text(
        json.dumps({"admin_key": ADMIN_KEY, "import_key": IMPORT_KEY})
    )
    search, said = Search(), tmp_path / "said.log"
    search.secrets = {"admin key": ADMIN_KEY, "import key": IMPORT_KEY, "named secret": NAMED}
    kept = await ended_command(home, "secrets", "set", "crm", stdin=NAMED, LOG_LEVEL="DEBUG")
    for arguments in (("secrets", "list"), ("secrets", "rotate"), ("secrets", "init")):
        kept += await ended_command(home, *arguments, LOG_LEVEL="DEBUG")
    async with started(home, said, LOG_LEVEL="DEBUG") as service:
        service.admin_key = ADMIN_KEY
        await use_everything(service, search)
        assert await service.stop() == 0
    master_keys = json.loads((home / "master-keys.json").read_text())["keys"]
    search.secrets |= {f"master key {version}": key for version, key in master_keys.items()}
    # Damaged files are told of without what is in them.
    for name, words in (
        ("secrets.json", "keys admin"),
        ("master-keys.json", "secrets set other"),
        ("named-secrets.json", "secrets list"),
    ):
        path = home / name
        whole = path.read_text()
        path.write_text(whole[:-3])
        kept += await ended_command(home, *words.split(), stdin=NAMED, LOG_LEVEL="DEBUG")
        path.write_text(whole)
    search.see("commands", kept)
    search.see("log", said.read_text())
    local = LocalSecrets(home)
    search.see("repr", f"{local!r} {local.keys!r} {local.envelope!r} {local.__dict__!r}")

    assert {"1", "2"} <= set(master_keys)
    assert kept.count("damaged") == 3
    assert search.leaks() == []
    assert await asyncio.to_thread(local._named.get, "crm") == NAMED
