"""The deployment of docker-compose.yml without its containers, and nginx in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from data.events import MAX_BODY_BYTES
from tests.deploy.composition import PLAIN, PRODUCTION, composition, environment, make_secrets
from tests.deploy.deployed import running_api, running_servers, running_worker
from tests.fixtures.fleet import Fleet, running_fleet
from tests.fixtures.ledger import Database
from tests.fixtures.service import ROOT, Service, free_port, launch
from tests.fixtures.windows import within_an_hour

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin")
SECONDS = 60
SAVE = 'mutation { saveSite(input: {id: "shop", name: "Shop", timezone: "UTC"}) { id } }'
INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) { receipts { status } }
}
"""
COUNT = """
query ($ids: [UUID!]!) { receipts(siteId: "shop", eventIds: $ids) { status } }
"""
EVENTS = "{ events(first: 50) { nodes { eventType visitorId } } }"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
LIVE = 'subscription { liveEvents(siteId: "shop") { userId } }'


# It is no package of the index, so not even CI can be sure to have it.
needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="NOT CHECKED for want of nginx: deploy/nginx, which is not run"
)
HEADERS = {"content-type": "application/json", "accept": "application/json"}


def events(number: int) -> list[dict[str, str]]:
    return [
        {"eventId": str(uuid4()), "eventType": "view", "userId": f"user {place % 7}"}
        for place in range(number)
    ]


async def known(service: Service, sent: list[dict[str, str]]) -> int:
    """How many events the ledger has, as a process tells."""
    answer = await service.data(COUNT, {"ids": [one["eventId"] for one in sent]})
    return sum(one is not None for one in answer["receipts"])


async def until_known(service: Service, sent: list[dict[str, str]]) -> None:
    async with asyncio.timeout(SECONDS):
        while await known(service, sent) < len(sent):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("files", [PLAIN, PRODUCTION], ids=["plain", "production"])
async def test_two_api_processes_and_a_worker_come_up_by_the_settings_of_the_compose_file(
    tmp_path_factory: pytest.TempPathFactory, files: tuple[str, ...]
) -> None:
    async with (
        running_servers(tmp_path_factory.mktemp("deployed"), files) as deployed,
        running_api(deployed) as first,
        running_api(deployed) as second,
        running_worker(deployed, metrics := free_port()),
    ):
        await first.data(SAVE)
        sent = events(500)
        answer = await first.data(INGEST, {"events": sent})
        assert {one["status"] for one in answer["ingest"]["receipts"]} == {"QUEUED"}

        # The worker has brought them into the ledger, and both processes tell the same.
        for service in (first, second):
            await until_known(service, sent)
            await whole(service)
        async with httpx.AsyncClient(timeout=30) as client:
            page = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text
        assert "footfall_" in page
        # Secrets come from Vault: there are none in files.
        assert not (deployed.folder / "home" / "secrets.json").exists()


async def whole(service: Service) -> None:
    """Return when every part is in use and well."""
    async with asyncio.timeout(SECONDS):
        while True:
            health = (await service.client.get("/health")).json()
            parts = ("database", "replica", "columnar", "spool", "queue", "cache", "vault")
            if all(health[part] == "ok" for part in parts) and health["status"] == "ok":
                return
            await asyncio.sleep(0.1)


async def test_a_missing_secret_is_said_in_one_line(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "deploy/api/start", "serve"),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL_FILE": str(tmp_path / "none")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 1
    assert out.decode().strip().endswith("which is not there: run deploy/init first")


def test_the_limits_of_nginx_fit_those_of_the_service() -> None:
    text = (ROOT / "deploy/nginx/locations.conf").read_text(encoding="utf-8")
    api = environment(composition(PLAIN)["services"]["api"])
    waits = int(text.split("proxy_read_timeout ")[1].split("s;")[0])
    assert waits > float(api["QUERY_TIMEOUT_SECONDS"])
    assert int(text.split("client_max_body_size ")[1].split("m;")[0]) * 2**20 > MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class Front:
    """nginx by the files of deploy/nginx, and where it listens."""

    folder: Path
    port: int
    tls_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def render(folder: Path, files: tuple[str, ...], ports: list[int], more: dict[str, str]) -> None:
    """What the image does with the templates at its start, and the file around them."""
    nginx = composition(files)["services"]["nginx"]
    values = environment(nginx) | {
        "API_SERVERS": " ".join(
            f"server 127.0.0.1:{port} max_fails=1 fail_timeout=5s;" for port in ports
        ),
        "RESOLVER": "127.0.0.1",
        **more,
    }
    for volume in nginx["volumes"]:
        source, place, _ = volume.split(":")
        text = (ROOT / source).read_text(encoding="utf-8")
        if "/templates/" in place:
            for name, value in values.items():
                text = text.replace(f"${{{name}}}", value)
            assert "${" not in text
        path = folder / place.removeprefix("/etc/nginx/").replace("templates", "conf.d")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.removesuffix(".template")).write_text(text, encoding="utf-8")
    make_main(folder)


def make_main(folder: Path) -> None:
    """The file around what is in `conf.d`: as in the image, but for where it writes."""
    (folder / "nginx.conf").write_text(
        # As root, its workers would be somebody who cannot reach this folder.
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        f"pid {folder}/pid;\nworker_processes 1;\ndaemon off;\nerror_log stderr warn;\n"
        "events { worker_connections 256; }\n"
        "http {\n"
        f"access_log {folder}/unasked.log;\n"
        + "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "include conf.d/*.conf;\n}\n",
        encoding="utf-8",
    )


@asynccontextmanager
async def running_nginx(
    folder: Path, files: tuple[str, ...], ports: list[int]
) -> AsyncIterator[Front]:
    """nginx in front of processes, with its test of the configuration before."""
    front = Front(folder, free_port(), free_port())
    folder.mkdir()
    folder.chmod(0o755)
    make_secrets(folder / "secrets", "127.0.0.1")
    listen = {
        "LISTEN": f"127.0.0.1:{front.port}",
        "LISTEN_TLS": f"127.0.0.1:{front.tls_port}",
        "CERTIFICATE": str(folder / "secrets" / "web.pem"),
        "CERTIFICATE_KEY": str(folder / "secrets" / "web.key"),
    }
    render(folder, files, ports, listen)
    async with started_nginx(folder, front.port):
        yield front


@asynccontextmanager
async def started_nginx(folder: Path, port: int) -> AsyncIterator[None]:
    """nginx on a folder with its configuration, which it has tested before."""
    assert NGINX is not None
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with (folder / "said.log").open("ab") as said:
        process = await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said)
    try:
        async with asyncio.timeout(SECONDS), httpx.AsyncClient() as client:
            while True:
                assert process.returncode is None, "nginx ended at its start"
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{port}/metrics")
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@needs_nginx
async def test_nginx_passes_queries_streams_and_addresses_on_and_goes_round_a_dead_process(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("front")
    trusted = {"TRUSTED_PROXIES": "127.0.0.1/32"}
    async with running_fleet(database, folder, 1, **trusted) as fleet, AsyncExitStack() as stack:
        url = database.url("postgres")
        doomed = await launch(folder / "doomed", None, DATABASE_URL=url, **trusted)
        stack.push_async_callback(doomed.client.aclose)
        stack.push_async_callback(doomed.stop, signal.SIGKILL)
        both = Fleet([*fleet.services, doomed], fleet.key)
        ports = [one.port for one in both.services]
        front = await stack.enter_async_context(running_nginx(folder / "nginx", PLAIN, ports))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=front.url, timeout=30))
        client.headers["x-api-key"] = fleet.key
        answer = await client.post("/graphql", json={"query": "{ site { id } }"})
        assert answer.json()["data"] == {"site": {"id": "shop"}}
        assert (await client.get("/metrics")).status_code == 404
        large = await client.post("/graphql", content=b" " * (5 * 2**20 + 1), headers=HEADERS)
        assert large.status_code == 413
        assert "errors" in large.json()  # the service's own words

        await hears_by_event_stream(front, fleet.key, client)
        await hears_by_web_socket(front, fleet.key, client)
        await tells_addresses(front, both)

        await lose_one(doomed, client)
        says_no_address(front)


def says_no_address(front: Front) -> None:
    """Logs have networks in place of addresses, and nothing of what was sent, errors and all."""
    # The image has a log of its own, with all of it, for servers that name no other.
    assert not (front.folder / "unasked.log").read_bytes()
    said = (front.folder / "said.log").read_text()
    assert "127.0.0.0/24 [" in said
    assert '"POST /graphql" 413' in said
    assert not re.search(r"^127\.0\.0\.[1-9]", said, re.MULTILINE), said
    assert "client:" not in said


@needs_nginx
async def test_nginx_logs_the_network_of_every_kind_of_address(tmp_path: Path) -> None:
    template = (ROOT / "deploy/nginx/upstream.conf.template").read_text(encoding="utf-8")
    _, _, rest = template.partition("map $remote_addr $footfall_network")
    told = "map $arg_address $footfall_network" + rest.partition("}")[0] + "}\n"
    port = free_port()
    tmp_path.chmod(0o755)
    make_main(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "map.conf").write_text(
        told + f"server {{ listen 127.0.0.1:{port}; return 200 $footfall_network; }}\n"
    )
    async with started_nginx(tmp_path, port), httpx.AsyncClient() as client:
        for address, network in (
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("2001:db8:1::6", "2001:db8:1::/48"),
            ("2001:db8::1:2:3", "2001:db8::/48"),
            ("fe80::1", "fe80::/48"),
            ("::1", "-"),
            ("unix:", "-"),
        ):
            answer = await client.get(f"http://127.0.0.1:{port}/?address={address}")
            assert (address, answer.text) == (address, network)


async def send_one(client: httpx.AsyncClient, user: str) -> None:
    body = {"site": "shop", "event": "view", "user": user}
    (await client.post("/collect", json=body)).raise_for_status()


@asynccontextmanager
async def sending_on(client: httpx.AsyncClient, user: str) -> AsyncIterator[None]:
    """One event after the other, for whoever begins to listen meanwhile."""

    async def send_on() -> None:
        while True:
            await send_one(client, user)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(send_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def hears_by_event_stream(front: Front, key: str, client: httpx.AsyncClient) -> None:
    """Events come through while the stream is open: nothing keeps them back."""
    async with (
        httpx.AsyncClient(timeout=30) as listener,
        listener.stream(
            "POST",
            f"{front.url}/graphql",
            json={"query": LIVE},
            headers={"x-api-key": key, "accept": "text/event-stream"},
        ) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        async with sending_on(client, "by stream"), asyncio.timeout(SECONDS):
            async for line in response.aiter_lines():
                if line.startswith("data:") and "by stream" in line:
                    return
    raise AssertionError("the stream ended")


async def hears_by_web_socket(front: Front, key: str, client: httpx.AsyncClient) -> None:
    address = f"ws://127.0.0.1:{front.port}/graphql"
    async with connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"apiKey": key}}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": LIVE}}))
        async with sending_on(client, "by socket"), asyncio.timeout(SECONDS):
            heard = ""
            # What was sent for the stream may come first.
            while heard != "by socket":
                message = json.loads(await socket.recv())
                heard = message["payload"]["data"]["liveEvents"]["userId"]


async def tells_addresses(front: Front, fleet: Fleet) -> None:
    """Visitors without a name are told apart by the address that nginx saw, not by what they say."""
    await within_an_hour(30)
    body = {"site": "shop", "event": "seen"}
    for address, made_up in (
        ("127.0.0.2", "203.0.113.1"),
        ("127.0.0.2", "203.0.113.2"),
        ("127.0.0.3", "203.0.113.1"),
    ):
        transport = httpx.AsyncHTTPTransport(local_address=address)
        headers = {"user-agent": BROWSER, "x-forwarded-for": made_up}
        async with httpx.AsyncClient(transport=transport, headers=headers) as visitor:
            (await visitor.post(f"{front.url}/collect", json=body)).raise_for_status()
    await fleet.followed()
    answer = await fleet.services[0].data(EVENTS, key=fleet.key)
    nodes = answer["events"]["nodes"]
    seen = [one["visitorId"] for one in nodes if one["eventType"] == "seen"]
    assert sorted(seen.count(one) for one in set(seen)) == [1, 2]


async def lose_one(service: Service, client: httpx.AsyncClient) -> None:
    """One of two processes is killed; whoever asks afterwards gets an answer."""
    await service.stop(signal.SIGKILL)
    for _ in range(40):
        answer = await client.post("/graphql", json={"query": "{ site { id } }"})
        assert answer.status_code == 200
        assert answer.json()["data"] == {"site": {"id": "shop"}}


@needs_nginx
async def test_nginx_has_tls_in_production_and_sends_everybody_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with running_nginx(tmp_path / "nginx", PRODUCTION, [free_port()]) as front:
        context = ssl.create_default_context(cafile=front.folder / "secrets" / "authority.pem")
        context.check_hostname = False  # the certificate is for a name, and this is an address
        async with httpx.AsyncClient(verify=context) as client:
            moved = await client.get(f"{front.url}/graphql?query=x")
            assert moved.status_code == 308
            assert moved.headers["location"] == "https://127.0.0.1/graphql?query=x"
            # No process is there: nginx says so, by TLS.
            answer = await client.get(f"https://127.0.0.1:{front.tls_port}/health")
            assert answer.status_code == 502
            assert (
                await client.get(f"https://127.0.0.1:{front.tls_port}/metrics")
            ).status_code == 404
