"""A client gets all of its events in its own bucket, is told of it, and can prove it."""

from __future__ import annotations

import asyncio
import base64
import csv
import functools
import gzip
import hashlib
import hmac
import io
import json
import operator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.fixtures.s3 import BUCKET, KEY_ID, SECRET, S3Server
from tests.fixtures.service import Service, footfall, running
from tests.fixtures.source_answers import as_json
from tests.fixtures.source_server import SourceServer

SAVE = """
mutation ($input: ExportDestinationInput!) {
  saveExportDestination(input: $input) { id nextRunAt hookToken webhookSecret }
}
"""
INGEST = """
mutation ($input: IngestInput!) { ingest(input: $input) { accepted duplicates } }
"""
RUNS = """
{
  exportRuns {
    nodes { id trigger status events manifestKey error files(first: 1000) { key rows sha256 } }
  }
}
"""
VERIFY = "mutation ($run: ID!) { verifyExport(runId: $run) { matches problems } }"


async def until_exported(service: Service, key: str, events: int) -> list[dict[str, Any]]:
    """The runs, oldest first, once they have taken so many events together."""
    async with asyncio.timeout(60):
        while True:
            runs: list[dict[str, Any]] = (await service.data(RUNS, key=key))["exportRuns"]["nodes"]
            if sum(run["events"] for run in runs if run["status"] == "SUCCEEDED") >= events:
                return runs[::-1]
            await asyncio.sleep(0.1)


def rows_of(server: S3Server, manifest: dict[str, Any]) -> list[dict[str, str]]:
    """The events in the files of a manifest, each of which is what the manifest says."""
    rows: list[dict[str, str]] = []
    for file in manifest["files"]:
        data = server.files()[file["name"]].read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        found = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode(), newline="")))
        assert len(found) == file["rows"]
        rows += found
    return rows


def is_ours(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a notice was signed by the secret; as docs/exports.md tells receivers to find out."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(
        hmac.compare_digest(expected, one) for one in headers["webhook-signature"].split(" ")
    )


async def new_client(home: Path) -> str:
    """The key of a site that was just made."""
    await footfall(home, "sites", "create", "shop")
    scopes = ("--site", "shop", "--scopes", "ingest,read,admin")
    return (await footfall(home, "keys", "create", *scopes)).strip()


def warehouse(server: S3Server) -> dict[str, object]:
    """A destination that gets events within a minute."""
    bucket = {"bucket": BUCKET, "prefix": "footfall", "endpointUrl": server.endpoint}
    login = {"accessKeyId": KEY_ID, "secretAccessKey": SECRET}
    return {"name": "warehouse", "format": "CSV", "schedule": "REALTIME", **bucket, **login}


def assert_proved(manifests: list[dict[str, Any]], taken: list[list[dict[str, str]]]) -> None:
    """What anybody can check who has nothing but the bucket: see docs/exports.md."""
    for before, following in pairwise(manifests):
        assert before["through"] == following["after"]
    for manifest, rows in zip(manifests, taken, strict=True):
        ids = [UUID(row["event_id"]).int for row in rows]
        checksum = functools.reduce(operator.xor, ids, 0)
        assert f"{checksum:032x}" == manifest["taken"]["checksum"]


async def damage(service: Service, server: S3Server, run: dict[str, Any], key: str) -> list[str]:
    """What is said of a run after its first file was changed by hand."""
    file = server.files()[run["files"][0]["key"]]
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    found = (await service.data(VERIFY, {"run": run["id"]}, key))["verifyExport"]
    assert found["matches"] is False
    problems: list[str] = found["problems"]
    return problems


async def test_events_come_to_their_owners_bucket_by_themselves_and_can_be_proved_there(
    tmp_path: Path, s3_server: S3Server, source_server: SourceServer
) -> None:
    home = tmp_path / "home"
    source_server.at("/told", as_json({}))
    key = await new_client(home)
    given = {**warehouse(s3_server), "webhookUrl": source_server.url("/told")}
    late = {"eventType": "view", "occurredAt": "2020-02-29T12:00:00Z"}
    events = [
        {"eventId": str(UUID(int=n + 1)), "userId": f'ü{n},\n"x"', **late} for n in range(300)
    ]
    async with running(home, OUTBOUND_ALLOW_PRIVATE="true") as service:
        saved = (await service.data(SAVE, {"input": given}, key))["saveExportDestination"]
        for batch in (events[:200], events[150:250], events[250:]):
            await service.data(INGEST, {"input": {"events": batch}}, key)
        runs = await until_exported(service, key, 300)
        hook = await service.client.post(f"/hooks/export/{saved['hookToken']}")
        done = [run for run in runs if run["status"] == "SUCCEEDED"]
        verified = [(await service.data(VERIFY, {"run": run["id"]}, key)) for run in done]
        files = s3_server.files()
        manifests = [json.loads(files[run["manifestKey"]].read_text()) for run in done]
        taken = [rows_of(s3_server, one) for one in manifests]
        victim = next(run for run in done if run["files"])
        problems = await damage(service, s3_server, victim, key)
        shown = await footfall(home, "export", "warehouse", "--json")
        async with asyncio.timeout(30):
            while not any(b"export.succeeded" in one.body for one in source_server.asked):
                await asyncio.sleep(0.05)

    rows = [row for some in taken for row in some]
    assert sorted(row["event_id"] for row in rows) == [event["eventId"] for event in events]
    assert {row["user_id"] for row in rows} == {event["userId"] for event in events}
    assert all(one["verifyExport"] == {"matches": True, "problems": []} for one in verified)
    assert_proved(manifests, taken)
    assert len(problems) == 1
    assert f"file {victim['files'][0]['key']} was changed" in problems[0]
    assert (hook.status_code in (200, 202), json.loads(shown)["status"]) == (True, "SUCCEEDED")
    told = source_server.asked_for("/told")
    assert all(is_ours(saved["webhookSecret"], one.headers, one.body) for one in told)
    assert {json.loads(one.body)["type"] for one in told} >= {"export.test", "export.succeeded"}
