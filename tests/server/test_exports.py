"""Runs of exports over GraphQL and by hook: begun, read in pages, paused, tried again, verified."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from data.exports.destination import TargetKind
from data.postgres.keys import Scope
from data.s3.places import AccessKey
from tests.fixtures.app import App, open_app
from tests.fixtures.exported import (
    DELETE,
    LIST,
    PAUSE,
    RETRY,
    RUN,
    RUNS,
    VERIFY,
    exported,
    run,
    runs,
    save,
    until,
)
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import BUCKET, KEY_ID, S3Server
from tests.fixtures.windows import lasting_window, within_an_hour


@pytest.fixture
def app(exported_app: App) -> App:
    """The application, whose buckets may be on this machine."""
    return exported_app


async def ingest(app: App, count: int, site_id: str = "shop", **fields: object) -> None:
    """Commit new events, and have the columnar copy follow."""
    await app.ingest(site_id, *({"eventType": "view", **fields} for _ in range(count)))
    await app.followed()


async def restart(server: S3Server) -> None:
    """Have the server forget what it remembers of a folder."""
    await server.kill()
    await server.start()


async def lose_key(app: App, database: Database, destination_id: str) -> None:
    """As if the key of a destination had another secret by now."""
    key, buckets = AccessKey(KEY_ID, "that of last year"), app.resources.exporter.buckets
    sealed = await buckets.seal(UUID(destination_id), TargetKind.CLIENT, key)
    connection = await database.connect()
    await connection.execute("update export_destinations set client_secret = $1", sealed)
    await connection.close()


async def test_a_run_tells_of_its_files_and_of_both_buckets(app: App, s3_server: S3Server) -> None:
    (s3_server.folder / "second").mkdir()
    saved = await save(app, s3_server, backupBucket="second")
    await ingest(app, 3, occurredAt="2026-03-05T12:00:00Z")
    await ingest(app, 2, occurredAt="2026-03-04T12:00:00Z")

    done = await exported(app, saved["id"])

    [file] = done["files"]
    assert file["key"] in s3_server.files()
    assert done["manifestKey"] in s3_server.files()
    lines = s3_server.files()[file["key"]].read_text().splitlines()
    assert len({json.loads(line)["event_id"] for line in lines}) == 5
    assert (file["rows"], file["bytes"]) == (5, done["bytes"])
    days = [{"day": "2026-03-04", "events": 2}, {"day": "2026-03-05", "events": 3}]
    expected = {
        "number": 1,
        "trigger": "REQUEST",
        "status": "SUCCEEDED",
        "after": 0,
        "isBackfill": False,
        "since": None,
        "until": None,
        "events": 5,
        "fileCount": 1,
        "days": days,
        "attempts": 1,
        "nextAttemptAt": None,
        "error": None,
        "destination": {"id": saved["id"], "name": "warehouse"},
    }
    assert {name: done[name] for name in expected} == expected
    assert done["startedAt"] < done["finishedAt"]
    client, backup = done["targets"]
    assert (client["kind"], client["bucket"]) == ("CLIENT", BUCKET)
    assert (backup["kind"], backup["bucket"]) == ("BACKUP", "second")
    for target in (client, backup):
        assert (target["status"], target["events"], target["prefix"]) == ("SUCCEEDED", 5, "exports")
        assert target["manifestKey"] == done["manifestKey"]
    [listed] = (await app.data(LIST))["exportDestinations"]
    assert listed["lastRun"] == {"id": done["id"], "status": "SUCCEEDED"}
    assert listed["lagEvents"] == 0


async def test_what_waits_is_counted_until_it_is_published(app: App, s3_server: S3Server) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 4)
    await ingest(app, 2, "blog")

    [before] = (await app.data(LIST))["exportDestinations"]
    await exported(app, saved["id"])
    [after] = (await app.data(LIST))["exportDestinations"]

    assert (before["lagEvents"], after["lagEvents"]) == (4, 0)


async def test_who_asks_while_a_run_is_under_way_gets_that_run(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 1)
    s3_server.freeze()
    first = await run(app, saved["id"])
    second = await run(app, saved["id"])
    by_hook = await app.client.post(f"/hooks/export/{saved['hookToken']}")
    backfill = await run(app, saved["id"], since="2026-01-01T00:00:00Z")
    s3_server.thaw()

    assert first["id"] == second["id"] == by_hook.json()["run_id"]
    assert (by_hook.status_code, by_hook.json()["status"]) == (200, "under way")
    assert backfill["id"] != first["id"]
    for one in (first, backfill):
        await until(app, one["id"], "SUCCEEDED")


async def test_a_backfill_takes_what_occurred_then_beside_the_chain(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 2, occurredAt="2026-03-04T23:59:59Z")
    await ingest(app, 3, occurredAt="2026-03-05T00:00:00Z")
    given = {"since": "2026-03-05T00:00:00Z", "until": "2026-03-06T01:00:00+01:00"}

    backfill = await exported(app, saved["id"], **given)
    chain = await exported(app, saved["id"])

    assert (backfill["isBackfill"], backfill["events"]) == (True, 3)
    assert backfill["until"] == "2026-03-06T00:00:00Z"
    assert (chain["isBackfill"], chain["after"], chain["events"]) == (False, 0, 5)
    manifest = json.loads(s3_server.files()[backfill["manifestKey"]].read_text())
    assert manifest["is_backfill"] is True


@pytest.mark.parametrize(
    ("since", "until", "argument"),
    [
        ("2999-01-01T00:00:00Z", None, "since"),
        (None, "2999-01-01T00:00:00Z", "until"),
        ("2026-03-05T00:00:00Z", "2026-03-05T00:00:00Z", "until"),
        ("2026-03-05T00:00:00Z", "2026-03-04T00:00:00Z", "until"),
        ("yesterday", None, "since"),
        ("2026-03-05T00:00:00", None, "since"),
    ],
)
async def test_a_range_that_cannot_be_is_refused(
    app: App, s3_server: S3Server, since: str | None, until: str | None, argument: str
) -> None:
    saved = await save(app, s3_server)

    asked = {"destination": saved["id"], "since": since, "until": until}
    refusal = await app.refusal(RUN, asked)

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", argument)
    assert await runs(app) == []


async def test_pages_of_runs_hold_still_and_can_be_narrowed(app: App, s3_server: S3Server) -> None:
    first = await save(app, s3_server)
    other = await save(app, s3_server, siteId="blog", prefix="of-blog")
    made = [(await exported(app, first["id"]))["id"] for _ in range(5)]
    of_blog = (await exported(app, other["id"]))["id"]

    seen: list[str] = []
    after = None
    while True:
        asked = {"destination": first["id"], "first": 2, "after": after}
        page = (await app.data(RUNS, asked))["exportRuns"]
        seen += [one["id"] for one in page["nodes"]]
        assert [one["node"]["id"] for one in page["edges"]] == seen[-len(page["nodes"]) :]
        after = page["pageInfo"]["endCursor"]
        await run(app, first["id"], since="2026-01-01T00:00:00Z")
        if not page["pageInfo"]["hasNextPage"]:
            break

    assert seen == made[::-1]
    assert [one["id"] for one in await runs(app, site="blog")] == [of_blog]
    assert {one["id"] for one in await runs(app, status="SUCCEEDED")} >= {*made, of_blog}
    assert await runs(app, status="DEAD") == []
    wrong = await app.refusal(RUNS, {"after": "bm90aGluZw"})
    assert (wrong["code"], wrong["argument"]) == ("BAD_USER_INPUT", "after")
    unknown = await app.refusal(RUNS, {"destination": str(uuid4())})
    assert (unknown["code"], unknown["argument"]) == ("NOT_FOUND", "destinationId")


async def test_files_and_days_are_listed_as_many_as_are_asked_for(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    for day in range(1, 5):
        await ingest(app, 1, occurredAt=f"2026-03-0{day}T12:00:00Z")
    await exported(app, saved["id"])

    ask = "{ exportRuns(first: 1) { nodes { days(first: %d) { day } files(first: %d) { rows } } } }"
    some = (await app.data(ask % (2, 1)))["exportRuns"]["nodes"][0]
    refusals = [await app.refusal(ask % numbers) for numbers in ((0, 1), (1, 10_001))]

    assert some == {"days": [{"day": "2026-03-03"}, {"day": "2026-03-04"}], "files": [{"rows": 4}]}
    assert {(one["code"], one["argument"]) for one in refusals} == {("BAD_USER_INPUT", "first")}


async def test_a_destination_that_is_paused_by_hand_runs_when_it_goes_on(
    app: App, s3_server: S3Server
) -> None:
    await within_an_hour(60)
    saved = await save(app, s3_server, schedule="HOURLY")
    paused = (await app.data(PAUSE, {"id": saved["id"], "paused": True}))["setExportPaused"]
    refusal = await app.refusal(RUN, {"destination": saved["id"]})
    by_hook = await app.client.post(f"/hooks/export/{saved['hookToken']}")
    on = (await app.data(PAUSE, {"id": saved["id"], "paused": False}))["setExportPaused"]

    assert (paused["paused"], paused["nextRunAt"]) == (True, None)
    assert "administrator" in paused["pausedReason"]
    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "destinationId")
    assert "paused" in refusal["message"]
    assert (by_hook.status_code, by_hook.json()["code"]) == (409, "PAUSED")
    assert (on["paused"], on["pausedReason"], on["nextRunAt"]) == (False, None, saved["nextRunAt"])
    assert (await exported(app, saved["id"]))["number"] == 1


async def test_a_refused_destination_says_why_and_goes_on_with_what_was_mended(
    app: App, s3_server: S3Server, database: Database
) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 2)
    await lose_key(app, database, saved["id"])
    begun = await run(app, saved["id"])
    failed = await until(app, begun["id"], "FAILED")
    [shown] = (await app.data(LIST))["exportDestinations"]

    retried = await app.refusal(RUN, {"destination": saved["id"]})
    await save(app, s3_server, id=saved["id"])
    done = await until(app, begun["id"], "SUCCEEDED")

    assert failed["nextAttemptAt"] is None
    assert "secret does not belong" in failed["error"]
    assert failed["targets"][0]["reason"] == "WRONG_SECRET"
    assert shown["paused"] is True
    assert "secret does not belong" in shown["pausedReason"]
    assert "secret does not belong" in retried["message"]
    assert done["events"] == 2


async def test_a_dead_run_is_taken_up_again_and_one_that_is_done_is_not(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 2)
    await restart(s3_server)
    s3_server.remove_bucket()
    begun = await run(app, saved["id"])
    dead = await until(app, begun["id"], "DEAD")
    await restart(s3_server)
    taken = (await app.data(RETRY, {"run": begun["id"]}))["retryExport"]
    done = await until(app, begun["id"], "SUCCEEDED")
    again = await app.refusal(RETRY, {"run": begun["id"]})

    assert "there is no bucket" in dead["error"]
    assert taken["status"] == "PENDING"
    assert done["events"] == 2
    assert (again["code"], again["argument"]) == ("BAD_USER_INPUT", "runId")
    assert (await app.refusal(RETRY, {"run": "nonsense"}))["code"] == "NOT_FOUND"


async def test_verifying_names_every_object_that_somebody_has_changed_or_taken_away(
    app: App, s3_server: S3Server
) -> None:
    (s3_server.folder / "second").mkdir()
    saved = await save(app, s3_server, backupBucket="second")
    await ingest(app, 20)
    done = await exported(app, saved["id"])
    key = done["files"][0]["key"]
    file, copy = s3_server.files()[key], s3_server.folder / "second" / key

    clean = (await app.data(VERIFY, {"run": done["id"]}))["verifyExport"]
    file.write_text(file.read_text().replace("view", "vieW"))
    copy.unlink()
    await restart(s3_server)
    changed = (await app.data(VERIFY, {"run": done["id"]}))["verifyExport"]
    s3_server.files()[done["manifestKey"]].unlink()
    await restart(s3_server)
    gone = (await app.data(VERIFY, {"run": done["id"]}))["verifyExport"]

    assert (clean["matches"], clean["problems"], clean["runId"]) == (True, [], done["id"])
    assert changed["matches"] is False
    assert changed["problems"] == [
        f"file {key} was changed: its SHA-256 is not {done['files'][0]['sha256']}",
        f"in the backup: file {key} is missing, with 20 events",
    ]
    assert f"manifest {done['manifestKey']} is missing" in gone["problems"]
    log = await app.data('{ adminLog(action: "export.verified") { nodes { target details } } }')
    assert [one["details"]["matches"] for one in log["adminLog"]["nodes"]] == [False, False, True]


async def test_what_has_no_manifest_cannot_be_verified(app: App, s3_server: S3Server) -> None:
    saved = await save(app, s3_server)
    s3_server.freeze()
    begun = await run(app, saved["id"])
    refusal = await app.refusal(VERIFY, {"run": begun["id"]})
    s3_server.thaw()

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "runId")
    assert "no manifest yet" in refusal["message"]


async def test_a_bucket_that_cannot_be_read_is_a_finding_and_no_failure(
    app: App, s3_server: S3Server, database: Database
) -> None:
    saved = await save(app, s3_server)
    done = await exported(app, saved["id"])
    await lose_key(app, database, saved["id"])

    found = (await app.data(VERIFY, {"run": done["id"]}))["verifyExport"]

    assert found["matches"] is False
    assert "nothing can be read: the secret does not belong" in found["problems"][0]


async def test_a_deleted_destination_is_gone_with_its_hook_and_its_objects_stay(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    await ingest(app, 1)
    done = await exported(app, saved["id"])

    deleted = await app.data(DELETE, {"id": saved["id"]})

    assert deleted == {"deleteExportDestination": True}
    assert (await app.data(LIST))["exportDestinations"] == []
    assert await runs(app) == []
    assert (await app.client.post(f"/hooks/export/{saved['hookToken']}")).status_code == 404
    assert done["manifestKey"] in s3_server.files()
    for query, asked in (
        (DELETE, {"id": saved["id"]}),
        (RUN, {"destination": saved["id"]}),
        (PAUSE, {"id": saved["id"], "paused": True}),
        (VERIFY, {"run": done["id"]}),
        (RETRY, {"run": done["id"]}),
    ):
        assert (await app.refusal(query, asked))["code"] == "NOT_FOUND", query


async def test_exports_of_another_site_are_nobodys_business(app: App, s3_server: S3Server) -> None:
    saved = await save(app, s3_server)
    done = await exported(app, saved["id"])
    other, reader = await app.key("blog", Scope.ADMIN), await app.key("shop", Scope.READ)

    assert await runs(app, other) == []
    for query, asked in (
        (RUN, {"destination": saved["id"]}),
        (RETRY, {"run": done["id"]}),
        (VERIFY, {"run": done["id"]}),
        (PAUSE, {"id": saved["id"], "paused": True}),
        (DELETE, {"id": saved["id"]}),
        (RUNS, {"destination": saved["id"]}),
    ):
        for key in (other, reader):
            assert (await app.refusal(query, asked, key))["code"] == "FORBIDDEN", query
    assert (await app.refusal(RUNS, {"site": "shop"}, other))["code"] == "FORBIDDEN"


async def test_the_hook_takes_posts_with_a_token_that_there_is(
    app: App, s3_server: S3Server
) -> None:
    saved = await save(app, s3_server)
    path = f"/hooks/export/{saved['hookToken']}"

    # What a page in somebody's browser may send along changes nothing.
    begun = await app.client.post(path, content=b"x" * 100, headers={"origin": "https://a.example"})
    done = await until(app, begun.json()["run_id"], "SUCCEEDED")
    log = await app.data('{ adminLog(action: "export.run") { nodes { actor { keyId name } } } }')
    wrong = {
        other: (await app.client.post(other)).json()["code"]
        for other in (path[:-1], f"{path}x", "/hooks/export/ffx_", "/hooks/export/%00")
    }
    by_get = await app.client.get(path)

    assert (begun.status_code, begun.headers["cache-control"]) == (202, "no-store")
    assert "access-control-allow-origin" not in begun.headers
    assert (done["trigger"], done["events"]) == ("HOOK", 0)
    assert log["adminLog"]["nodes"] == [
        {"actor": {"keyId": "hook", "name": "hook of export warehouse"}}
    ]
    assert set(wrong.values()) == {"NOT_FOUND"}
    assert (by_get.status_code, by_get.headers["allow"]) == (405, "POST")
    page = (await app.client.get("/metrics")).text
    assert 'route="/hooks/export"' in page
    assert saved["hookToken"] not in page


async def test_calls_of_the_hook_are_limited_before_their_token_is_looked_at(
    database: Database, tmp_path: Path, s3_server: S3Server
) -> None:
    limits = {"rate_limit_requests": 3, "rate_limit_window_seconds": lasting_window()}
    async with (
        open_app(database, tmp_path / "home", **limits) as app,
        app.client_from("203.0.113.9") as client,
    ):
        answers = [await client.post("/hooks/export/ffx_guess") for _ in range(5)]

    assert [one.status_code for one in answers] == [404, 404, 404, 429, 429]
    assert answers[-1].json()["code"] == "RATE_LIMITED"
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_enough_events_begin_a_run_before_its_time(app: App, s3_server: S3Server) -> None:
    saved = await save(app, s3_server, schedule="DAILY", thresholdEvents=5)
    await ingest(app, 4)
    await ingest(app, 1)

    found: list[dict[str, Any]] = []
    while not found:
        found = await runs(app)
    done = await until(app, found[0]["id"], "SUCCEEDED")

    assert (done["trigger"], done["events"]) == ("THRESHOLD", 5)
    assert datetime.fromisoformat(saved["nextRunAt"]) - datetime.now(UTC) <= timedelta(days=1)
