"""`footfall serve`: how it starts, how it ends, and why it does not start."""

import asyncio
import os
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from data.postgres.embedded import account_for
from tests.fixtures.service import free_port
from tests.server.cli.commands import Several, end_of, ended, rows_of, start


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Where a service that has just been started says that it answers."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    found = re.search(r"answers on (http://\S+)", line)
    assert found, await end_of(process)
    return found[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_it_tells_the_port_it_chose_answers_there_and_ends_in_order(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    home = tmp_path / "home"
    process = await start(home, "serve", "--port", "0")
    url = await address_of(process)
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        health = await client.get("/health")

        process.send_signal(number)
        service = await end_of(process)

    assert health.status_code == 200
    assert service.code == code
    assert f"health    {url}/health" in service.out
    assert "Traceback" not in service.err
    # Who leaves last stops the embedded server.
    assert not (home / "postgres" / "postmaster.pid").exists()


async def test_a_signal_while_it_starts_ends_it_in_order(tmp_path: Path) -> None:
    turn = 0
    while True:
        turn += 1
        assert turn < 10, "it is always done before"
        home = tmp_path / f"home-{turn}"
        process = await start(home, "serve", "--port", "0")
        while not (home / "postgres-run" / "gate").exists():
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        service = await end_of(process)
        if not service.out:
            break
        # It had started before the signal came: once more.

    assert (service.code, service.out) == (130, "")
    assert service.line == "stopped"
    assert not (home / "postgres" / "postmaster.pid").exists()


async def test_a_taken_port_is_found_before_anything_is_started(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        services = await several(home, ("serve", "--port", port), ("demo", "--port", port))

    for service in services:
        assert (service.code, service.out) == (1, "")
        assert service.line == f"port {port} is in use: stop the other program or pass --port"
    assert not (home / "postgres").exists()


async def test_what_keeps_it_from_starting_is_one_clear_line(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    (tmp_path / "file").write_text("")
    other_version = tmp_path / "other"
    (other_version / "postgres").mkdir(parents=True)
    (other_version / "postgres" / "PG_VERSION").write_text("12\n")
    # As if it had been made by Footfall, which as root leaves PostgreSQL to another account.
    account = account_for(tmp_path / "home")
    os.chown(other_version / "postgres", account.uid, account.gid)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "secrets.json").write_text("{")
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    serve = ("serve", "--port", "0")

    services = await several(
        home,
        (f"FOOTFALL_HOME={tmp_path / 'file' / 'home'}", *serve),
        (f"FOOTFALL_HOME={other_version}", *serve),
        (f"FOOTFALL_HOME={damaged}", *serve),
        ("LOG_LEVEL=LOUD", *serve),
        (*serve, "--host", "203.0.113.7"),
        (f"DATABASE_URL={away}", *serve),
    )

    said = (
        "cannot be written to",
        "was made by PostgreSQL 12",
        "secrets.json is damaged",
        "LOG_LEVEL cannot be used",
        "pass another --host",
        "the database cannot be used now",
    )
    for service, words in zip(services, said, strict=True):
        assert (service.code, service.out) == (1, "")
        assert words in service.line


async def test_commands_work_side_by_side_while_it_runs(
    home: Path, tmp_path: Path, several: Several
) -> None:
    file = tmp_path / "beside.jsonl"
    file.write_text('{"event_type": "beside", "user_id": "ann"}\n' * 500)
    process = await start(home, "serve", "--port", "0")
    url = await address_of(process)

    made, (key, migrated), imported = await asyncio.gather(
        ended(home, "sites", "create", "beside"),
        several(home, ("keys", "create", "--scopes", "read"), ("migrate", "--json")),
        ended(home, "import", str(file), "--site", "shop", "--json"),
    )
    query = """{ topEvents(siteId: "shop", range: {from: "2020-01-01", to: "2020-01-02"}) {
        meta { dataThrough } } site(id: "beside") { timezone } }"""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.post(
            "/graphql", json={"query": query}, headers={"x-api-key": key.out.strip()}
        )
    process.send_signal(signal.SIGTERM)
    service = await end_of(process)

    for command in (made, key, migrated, imported, service):
        assert command.code == 0, command.err
    assert imported.json["accepted"] == 500
    assert migrated.json == {"applied": []}
    assert answer.json()["data"]["site"] == {"timezone": "UTC"}
    rows = "select count(*) from events where event_type = 'beside'"
    assert await rows_of(home, rows) == [(500,)]
