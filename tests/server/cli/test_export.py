"""`footfall export`: a run that is followed or done here, and the proof of all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fixtures.s3 import BUCKET, KEY_ID, SECRET, S3Server
from tests.fixtures.service import running
from tests.server.cli.commands import Several

SAVE = """
mutation ($input: ExportDestinationInput!) { saveExportDestination(input: $input) { id } }
"""
INGEST = "mutation ($input: IngestInput!) { ingest(input: $input) { accepted } }"
PAUSE = "mutation ($id: ID!) { setExportPaused(id: $id, paused: true) { paused } }"
# Far from what other tests bring into the same home.
BACK_THEN = "2019-08-17"
ALLOWED = "OUTBOUND_ALLOW_PRIVATE=true"


def events(count: int, day: str = "2026-03-05") -> list[dict[str, Any]]:
    """New events of a day."""
    return [{"eventType": "view", "occurredAt": f"{day}T12:00:00Z"} for _ in range(count)]


async def set_up(home: Path, server: S3Server, name: str) -> str:
    """A destination of the site `shop`, saved by a service that has ended since."""
    given = {
        "siteId": "shop",
        "name": name,
        "bucket": BUCKET,
        "prefix": name,
        "endpointUrl": server.endpoint,
        "accessKeyId": KEY_ID,
        "secretAccessKey": SECRET,
        "schedule": "MANUAL",
    }
    async with running(home, OUTBOUND_ALLOW_PRIVATE="true") as service:
        saved = await service.data(SAVE, {"input": given})
        await service.data(INGEST, {"input": {"siteId": "shop", "events": events(30)}})
        destination_id: str = saved["saveExportDestination"]["id"]
        if name == "paused":
            await service.data(PAUSE, {"id": destination_id})
    return destination_id


async def test_a_run_is_followed_where_a_service_takes_it_up(
    home: Path, s3_server: S3Server, several: Several
) -> None:
    async with running(home, OUTBOUND_ALLOW_PRIVATE="true") as service:
        given = {
            "siteId": "shop",
            "name": "followed",
            "bucket": BUCKET,
            "endpointUrl": s3_server.endpoint,
            "accessKeyId": KEY_ID,
            "secretAccessKey": SECRET,
        }
        await service.data(SAVE, {"input": given})
        batch = {"siteId": "shop", "events": [*events(5), *events(7, BACK_THEN)]}
        await service.data(INGEST, {"input": batch})
        order = ("export", "followed", "--json")
        done, backfill, for_people, proven = await several(
            home,
            order,
            (*order, "--since", BACK_THEN, "--until", "2019-08-18T00:00:00Z"),
            ("export", "followed"),
            (ALLOWED, "export", "followed", "--verify", "--json"),
        )
        s3_server.files()[done.json["targets"][0]["manifest_key"]].write_text("{}")
        [broken] = await several(home, (ALLOWED, "export", "followed", "--verify"))

    for one in (done, backfill, for_people, proven):
        assert one.code == 0, one.err
    assert done.json["status"] == "SUCCEEDED"
    assert done.json["events"] >= 12
    assert done.json["files"] == 1
    assert backfill.json["events"] == 7
    assert backfill.json["since"] == f"{BACK_THEN}T00:00:00Z"
    assert f"bucket {BUCKET}  SUCCEEDED" in for_people.out
    assert "0 events in 0 files" in for_people.out
    assert (proven.json["matches"], proven.json["runs"]) == (True, 3)
    assert broken.code == 1
    assert done.json["targets"][0]["manifest_key"] in broken.out
    assert "in what followed exported" in broken.line


async def test_a_command_does_it_by_itself_where_no_service_runs(
    home: Path, s3_server: S3Server, several: Several
) -> None:
    destination_id = await set_up(home, s3_server, "alone")

    done, again, proven = await several(
        home,
        (ALLOWED, "export", destination_id, "--json"),
        (ALLOWED, "export", "alone"),
        (ALLOWED, "export", "alone", "--verify"),
    )

    assert done.code == 0, done.err
    assert done.json["events"] >= 30
    assert done.json["targets"][0]["status"] == "SUCCEEDED"
    assert "no service takes the run up" in done.err
    assert again.code == 0, again.err
    assert "0 events" in again.out
    assert "what the ledger holds" in proven.out


async def test_what_cannot_be_exported_is_one_clear_line(
    home: Path, s3_server: S3Server, several: Several
) -> None:
    await set_up(home, s3_server, "paused")

    unknown, *ranges, paused = await several(
        home,
        ("export", "nowhere"),
        ("export", "paused", "--since", "yesterday"),
        ("export", "paused", "--since", "2999-01-01"),
        ("export", "paused", "--since", "2026-03-05", "--until", "2026-03-05"),
        ("export", "paused", "--since", "2026-03-05", "--verify"),
        ("export", "paused"),
    )

    assert (unknown.code, unknown.out) == (1, "")
    assert "'nowhere'" in unknown.line
    assert [one.code for one in ranges] == [2, 2, 2, 2]
    assert [one.line.split(" ")[0].rstrip(":") for one in ranges] == [
        *("--since", "--since", "--until", "--verify")
    ]
    assert paused.code == 1
    assert "paused" in paused.line


async def test_a_run_that_does_not_reach_its_bucket_ends_the_command_with_the_reason(
    home: Path, s3_server: S3Server, several: Several
) -> None:
    await set_up(home, s3_server, "gone")
    # The server would remember the folder.
    await s3_server.kill()
    await s3_server.start()
    s3_server.remove_bucket()

    [failed] = await several(home, (ALLOWED, "export", "gone", "--json"))

    assert failed.code == 1
    assert failed.json["status"] == "DEAD"
    assert "there is no bucket" in failed.err
    assert "retryExport" in failed.err
