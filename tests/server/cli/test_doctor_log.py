"""`footfall doctor --verify-log`, and what commands leave in the admin log."""

import json
import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from websockets.asyncio.client import connect

from data.postgres.embedded import embedded_server
from tests.fixtures.service import free_port, running
from tests.server.cli.commands import Ended, Several, rows_of

VERIFY = ("doctor", "--verify-log", "--json")
USER = f"user {pwd.getpwuid(os.getuid()).pw_name}"


def check(command: Ended) -> dict[str, Any]:
    [found] = [one for one in command.json["checks"] if one["name"] == "admin log"]
    return dict(found)


async def execute(home: Path, *statements: str) -> None:
    """Change the ledger in a home as a superuser who goes around the service."""
    async with embedded_server(home) as server:
        connection = await asyncpg.connect(
            host=str(server.socket_dir), port=server.port, user="postgres", database="footfall"
        )
        for statement in ("alter table admin_log disable trigger all", *statements):
            await connection.execute(statement)
        await connection.close()


async def logged(home: Path) -> list[tuple[Any, ...]]:
    return await rows_of(
        home,
        "select action, target, site_id, actor_key_id, actor_name from admin_log order by position",
    )


async def test_every_command_that_changes_something_leaves_an_entry_and_no_other_does(
    tmp_path: Path, several: Several
) -> None:
    async with embedded_server(tmp_path / "home"):
        await check_commands(tmp_path / "home", tmp_path / "one.graphql", several)


async def check_commands(home: Path, manifest: Path, several: Several) -> None:
    manifest.write_text("query Who { viewer { name } }\n")
    port = f"PORT={free_port()}"
    made, key, *rest = await several(
        home,
        ("sites", "create", "shop"),
        ("keys", "create", "--site", "shop", "--scopes", "read", "--json"),
        ("sites", "create", "shop"),
        ("keys", "revoke", "nosuchkey"),
        ("documents", "add", str(manifest), "--site", "shop"),
        ("documents", "add", str(manifest), "--site", "shop"),
        ("documents", "list", "--json"),
        ("sites", "list"),
        ("keys", "list"),
        ("schema",),
        (port, "doctor"),
        ("rebuild",),
    )
    document_id = rest[4].json[0]["document_id"]
    removed, missing, revoked = await several(
        home,
        ("documents", "remove", document_id, "--site", "shop"),
        ("documents", "remove", document_id, "--site", "shop"),
        ("keys", "revoke", key.json["key"]),
    )

    assert [made.code, key.code, removed.code, missing.code, revoked.code] == [0, 0, 0, 1, 0]
    by = ("cli", USER)
    assert await logged(home) == [
        ("site.saved", "shop", "shop", *by),
        ("key.created", key.json["key_id"], "shop", *by),
        ("documents.added", "shop", "shop", *by),
        ("copy.rebuilt", "columnar copies", None, *by),
        ("documents.removed", "shop", "shop", *by),
        ("key.revoked", key.json["key_id"], "shop", *by),
    ]
    details = str(await rows_of(home, "select details from admin_log"))
    assert key.json["key"].split("_")[2] not in details
    assert document_id in details
    [[position, newest]] = await rows_of(
        home, "select position, hash from admin_log order by position desc limit 1"
    )
    kept = json.loads((home / "admin_log.head").read_text())
    assert list(kept.values()) == [{"position": position, "hash": newest}]


@pytest_asyncio.fixture
async def with_log(tmp_path: Path, several: Several) -> AsyncIterator[Path]:
    """A home with a log of five entries, whose server runs already."""
    home = tmp_path / "home"
    async with embedded_server(home):
        await several(home, *(("sites", "create", f"site-{number}") for number in range(5)))
        yield home


async def test_a_whole_log_is_proved(with_log: Path, several: Several) -> None:
    port = f"PORT={free_port()}"
    [[newest]] = await rows_of(with_log, "select hash from admin_log where position = 5")

    as_json, in_words, without = await several(
        with_log, (port, *VERIFY), (port, "doctor", "--verify-log"), (port, "doctor", "--json")
    )

    assert (as_json.code, check(as_json)["status"]) == (0, "ok")
    assert check(as_json)["detail"] == f"5 entries, chain whole, newest hash {newest}"
    assert as_json.json["admin_log"] == {
        "entries": 5,
        "newest": {"position": 5, "hash": newest},
        "kept": {"position": 5, "hash": newest},
        "broken": None,
    }
    assert in_words.code == 0
    assert f"admin log\tok\t5 entries, chain whole, newest hash {newest}" in in_words.out
    assert "admin_log" not in without.json


BREAKS = {
    "altered": ("update admin_log set target = 'x' where position = 2", "ALTERED", 2),
    "deleted": ("delete from admin_log where position = 4", "MISSING", 4),
    "cut off": ("delete from admin_log where position > 3", "CUT_OFF", 5),
    "hash altered": (
        "update admin_log set hash = repeat('0', 64) where position = 3",
        "ALTERED",
        3,
    ),
    "emptied": ("truncate admin_log", "CUT_OFF", 5),
}


async def test_a_broken_log_is_a_problem_with_its_place(with_log: Path, several: Several) -> None:
    port = f"PORT={free_port()}"
    await execute(with_log, "create table kept as select * from admin_log")
    for name, (statement, kind, position) in BREAKS.items():
        await execute(with_log, statement)
        [as_json] = await several(with_log, (port, *VERIFY))
        if name != "emptied":  # the last one
            await execute(
                with_log, "truncate admin_log", "insert into admin_log select * from kept"
            )

        assert (name, as_json.code, as_json.json["is_well"]) == (name, 1, False)
        broken = as_json.json["admin_log"]["broken"]
        assert (name, broken["kind"], broken["position"]) == (name, kind, position)
        assert check(as_json)["status"] == "problem"
        assert f"entry {position} " in check(as_json)["detail"]

    [in_words] = await several(with_log, (port, "doctor", "--verify-log"))
    assert in_words.code == 1
    assert "admin log\tPROBLEM\tentry" in in_words.out
    assert "admin log: somebody went around the service" in in_words.out


async def test_without_a_kept_end_the_doctor_says_that_a_cut_would_not_be_seen(
    with_log: Path, several: Several
) -> None:
    port = f"PORT={free_port()}"
    (with_log / "admin_log.head").unlink()
    [without] = await several(with_log, (port, *VERIFY))
    (with_log / "admin_log.head").write_text("{")
    [damaged] = await several(with_log, (port, *VERIFY))
    # The next command that changes something keeps the end anew, and what was there aside.
    _, aside = await several(with_log, ("sites", "create", "another"), (port, *VERIFY))
    (with_log / "admin_log.head.damaged").unlink()
    [mended] = await several(with_log, (port, *VERIFY))

    assert (without.code, check(without)["status"]) == (0, "warning")
    assert "nothing was kept" in check(without)["detail"]
    for command, words in ((damaged, "is damaged"), (aside, "was damaged and put aside")):
        assert (command.code, check(command)["status"]) == (1, "problem")
        assert words in check(command)["detail"]
    assert (mended.code, check(mended)["status"]) == (0, "ok")


async def test_a_service_logs_too_many_bad_keys_of_a_network_once(
    tmp_path: Path, several: Several
) -> None:
    home = tmp_path / "home"
    bad = "ff_0123456789ab_" + "0" * 64
    asked = {"query": "{ __typename }"}
    async with running(home, TRUSTED_PROXIES="127.0.0.0/8") as service:
        statuses = []
        for number in range(10):
            come_from = {"x-forwarded-for": f"203.0.113.{number}"}
            for key in ({"x-api-key": bad}, {}):
                answer = await service.client.post(
                    "/graphql", json=asked, headers={**come_from, **key}
                )
                statuses.append(answer.status_code)
        for _ in range(3):
            async with connect(
                f"ws://127.0.0.1:{service.port}/graphql",
                subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
                additional_headers={"x-forwarded-for": "203.0.113.200", "x-api-key": bad},
            ) as socket:
                await socket.send('{"type": "connection_init"}')
                await socket.wait_closed()
            assert socket.close_code == 4403
        metrics = (await service.client.get("/metrics")).text
    rows = await rows_of(
        home, "select action, target, details, actor_key_id from admin_log order by position"
    )
    [doctor] = await several(home, (f"PORT={free_port()}", *VERIFY))

    assert set(statuses) == {401}
    assert "footfall_login_failures_total 13.0" in metrics
    [(action, target, details, actor)] = rows
    assert (action, target, actor) == ("login.failures", "203.0.113.0/24", "service")
    assert json.loads(details)["failures"] == 13
    assert doctor.code == 0
