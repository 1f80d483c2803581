"""`footfall migrate`, `schema`, `rebuild`, `doctor`."""

import asyncio
import fcntl
import socket
from pathlib import Path

from graphql import build_schema

from data.secrets import load_secrets
from tests.fixtures.service import free_port, running
from tests.server.cli.commands import Ended, Several, end_of, start


async def test_a_fresh_database_is_migrated_and_then_up_to_date(
    tmp_path: Path, several: Several
) -> None:
    first, again = await several(tmp_path / "home", ("migrate", "--json"), ("migrate",))

    assert (first.code, again.code) == (0, 0)
    assert len(first.json["applied"]) >= 1
    assert again.out == "nothing to apply: the database is up to date\n"


async def test_the_schema_is_printed_and_nothing_else(home: Path, several: Several) -> None:
    [command] = await several(home, ("schema",))

    assert command.code == 0
    assert build_schema(command.out).query_type is not None
    assert command.out.endswith("}\n")


def statuses(command: Ended) -> dict[str, str]:
    return {check["name"]: check["status"] for check in command.json["checks"]}


async def test_a_copy_is_made_rebuilt_when_damaged_and_examined(
    home: Path, several: Several
) -> None:
    port = f"PORT={free_port()}"
    made, well = await several(home, ("rebuild", "--json"), (port, "doctor", "--json"))
    slot = home / "columnar" / "0"
    [copy] = slot.glob("copy-*.duckdb")
    copy.write_bytes(b"no database at all" * 1_000)

    damaged, rebuilt, mended = await several(
        home, (port, "doctor", "--json"), ("rebuild",), (port, "doctor", "--json")
    )

    assert made.json == {"rebuilt": [{"slot": "0", "by_running_process": False}]}
    assert set(statuses(well).values()) == {"ok"}
    assert {
        *("settings", "python", "home", "secrets", "port", "database", "clock", "migrations"),
        *("writer role", "reader role", "partitions", "columnar copy 0"),
    } == set(statuses(well))
    assert (damaged.code, statuses(damaged)["columnar copy 0"]) == (0, "warning")
    assert (rebuilt.code, rebuilt.out) == (0, "rebuilt columnar copy 0 on disk\n")
    assert statuses(mended)["columnar copy 0"] == "ok"


async def test_the_doctor_reads_the_file_of_sources(
    home: Path, several: Several, tmp_path: Path
) -> None:
    file = tmp_path / "sources.toml"
    settings = (f"PORT={free_port()}", f"SOURCES_FILE={file}")
    table = '[[sources]]\nkey = "p"\nurl = "https://p.example/"\n'
    file.write_text(table)
    [good] = await several(home, (*settings, "doctor", "--json"))
    file.write_text(f"{table}refresh_seconds = 0\n")
    [bad] = await several(home, (*settings, "doctor", "--json"))

    assert (good.code, statuses(good)["sources"]) == (0, "ok")
    assert (bad.code, statuses(bad)["sources"]) == (1, "problem")
    assert f"{file}: source 'p': refresh_seconds: " in bad.out


async def test_the_copy_of_a_running_service_is_rebuilt_by_the_service(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    async with running(home) as service:
        await several(home, ("sites", "create", "shop"))
        event = {"site": "shop", "event": "view", "user": "ann"}
        sent = await service.client.post("/collect", json=event)
        await service.until_followed(sent.json()["timestamp"])
        [before] = (home / "columnar" / "0").glob("copy-*.duckdb")

        rebuilt, doctor = await several(
            home, ("rebuild", "--json"), (f"PORT={service.port}", "doctor", "--json")
        )

        answer = await service.data('{ events(siteId: "shop") { nodes { userId } } }')
    assert rebuilt.json == {"rebuilt": [{"slot": "0", "by_running_process": True}]}
    assert answer == {"events": {"nodes": [{"userId": "ann"}]}}
    assert not before.exists()
    assert doctor.json["is_well"]
    [port] = [check for check in doctor.json["checks"] if check["name"] == "port"]
    assert "a running Footfall answers" in port["detail"]


async def test_the_doctor_says_what_is_wrong_and_ends_with_1(
    home: Path, tmp_path: Path, several: Several
) -> None:
    (tmp_path / "file").write_text("")
    load_secrets(home / "secrets.json")
    (home / "secrets.json").chmod(0o644)
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()

        taken, no_home, bad_setting, no_database = await several(
            home,
            (f"PORT={stranger.getsockname()[1]}", "doctor", "--json"),
            (f"FOOTFALL_HOME={tmp_path / 'file' / 'home'}", "doctor", "--json"),
            ("PORT=many", "doctor", "--json"),
            (f"DATABASE_URL={away}", "doctor"),
        )

    for command in (taken, no_home, bad_setting, no_database):
        assert (command.code, command.err) == (1, "")
    assert (statuses(taken)["port"], statuses(taken)["secrets"]) == ("problem", "warning")
    assert (home / "secrets.json").stat().st_mode & 0o077 == 0
    assert statuses(no_home)["home"] == "problem"
    assert statuses(no_home)["database"] == "problem"
    assert statuses(bad_setting) == {"settings": "problem"}
    assert "database\tPROBLEM\t" in no_database.out


async def test_a_copy_whose_holder_goes_away_unheard_is_rebuilt_by_the_command(
    home: Path,
) -> None:
    slot = home / "columnar" / "0"
    slot.mkdir(parents=True, exist_ok=True)
    with (slot / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = await start(home, "rebuild", "--json")
        while not (slot / "rebuild.request").exists():
            assert process.returncode is None
            await asyncio.sleep(0.02)
    command = await end_of(process)

    assert command.json == {"rebuilt": [{"slot": "0", "by_running_process": False}]}
