"""Saving destinations of exports: what is taken, what is refused and why, and what is shown once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from data.exports.destination import ROLE_KEY_SECRET
from data.exports.layout import FIELDS
from data.local_secrets import NamedSecrets
from data.postgres.keys import Scope
from tests.fixtures.app import App, open_app
from tests.fixtures.exported import LIST, SAVE, destination, exported, run, save, until
from tests.fixtures.ledger import Database
from tests.fixtures.s3 import (
    BUCKET,
    KEY_ID,
    REGION,
    SECRET,
    S3Server,
    answering,
    running_cloud,
)


@pytest.fixture
def app(exported_app: App) -> App:
    """The application, whose buckets may be on this machine."""
    return exported_app


async def test_a_destination_is_saved_with_its_defaults_after_a_small_write(
    app: App, s3_server: S3Server
) -> None:
    given = destination(s3_server, compression=None, schedule=None)

    saved = (await app.data(SAVE, {"input": given}))["saveExportDestination"]

    assert saved.pop("id")
    assert saved.pop("hookToken").startswith("ffx_")
    assert saved.pop("nextRunAt").endswith(":00:00Z")
    key = {"kind": "KEY", "roleArn": None, "externalId": None}
    assert saved == {
        "siteId": "shop",
        "name": "warehouse",
        "bucket": BUCKET,
        "prefix": "exports",
        "region": "us-east-1",
        "endpointUrl": s3_server.endpoint,
        "login": key,
        "format": "JSONL",
        "compression": "GZIP",
        "schedule": "HOURLY",
        "timezone": "UTC",
        "thresholdEvents": None,
        "maxFileBytes": 268_435_456,
        "fields": list(FIELDS),
        "filter": None,
        "backup": None,
        "webhookUrl": None,
        "paused": False,
        "pausedReason": None,
        "lagEvents": 0,
        "lastRun": None,
        "version": 1,
        "webhookSecret": None,
    }
    assert s3_server.files() == {}


async def test_everything_that_a_destination_can_have_is_shown_as_it_was_given(
    app: App, s3_server: S3Server
) -> None:
    (s3_server.folder / "second").mkdir()
    fields: dict[str, object] = {
        "prefix": "/footfall/shop/",
        "region": "eu-central-1",
        "format": "PARQUET",
        "compression": "ZSTD",
        "schedule": "30 2 * * mon-fri",
        "timezone": "Europe/Berlin",
        "thresholdEvents": 5_000,
        "maxFileBytes": 5_000_000,
        "fields": ["user_id", "event_type"],
        "filter": {"eventType": {"in": ["buy"]}, "or": [{"path": {"isSet": False}}]},
        "backupBucket": "second",
        "webhookUrl": "http://127.0.0.1:9/hook",
    }

    saved = await save(app, s3_server, **fields)

    assert saved["prefix"] == "footfall/shop"
    assert saved["fields"] == ["event_id", "event_type", "user_id"]
    same = {"region", "format", "compression", "schedule", "timezone", "thresholdEvents"}
    for name in (*same, "maxFileBytes", "filter", "webhookUrl"):
        assert saved[name] == fields[name], name
    assert saved["backup"] == {
        "bucket": "second",
        "prefix": "footfall/shop",
        "region": "eu-central-1",
        "endpointUrl": s3_server.endpoint,
        "login": {"kind": "KEY", "roleArn": None, "externalId": None},
        "paused": False,
        "pausedReason": None,
    }
    assert saved["webhookSecret"].startswith("whsec_")


BAD: list[tuple[dict[str, object], str, str]] = [
    ({"name": " "}, "name", "1 to 100"),
    ({"siteId": "nowhere"}, "siteId", "no site"),
    ({"bucket": "Their_Events"}, "bucket", "small letters"),
    ({"bucket": "not-there"}, "bucket", "there is no bucket not-there"),
    ({"accessKeyId": "AKIDSOMEBODYELSE0001"}, "accessKeyId", "not known"),
    ({"secretAccessKey": "hush-and-wrong"}, "secretAccessKey", "does not belong"),
    ({"accessKeyId": "AKIDFOOTFALLTEST0001\n"}, "accessKeyId", "line break"),
    ({"accessKeyId": None}, "accessKeyId", "accessKeyId, too"),
    ({"secretAccessKey": None}, "secretAccessKey", "together with"),
    ({"accessKeyId": None, "secretAccessKey": None}, "accessKeyId", "or roleArn"),
    ({"roleArn": "someone"}, "roleArn", "ARN"),
    ({"region": "mars north"}, "region", "region"),
    ({"region": "mars-north-1", "endpointUrl": None}, "region", "AWS has no region"),
    ({"endpointUrl": "ftp://example.com"}, "endpointUrl", "URL"),
    ({"endpointUrl": "http://me:hush@127.0.0.1"}, "endpointUrl", "credentials"),
    ({"endpointUrl": "http://127.0.0.1:1"}, "endpointUrl", "no connection"),
    ({"endpointUrl": "http://object_store:9000"}, "endpointUrl", "letters, digits"),
    ({"prefix": "a/../b"}, "prefix", "'..'"),
    ({"prefix": "a//b"}, "prefix", "slashes"),
    ({"prefix": "a\0b"}, "prefix", "character"),
    ({"schedule": "every day"}, "schedule", "five fields"),
    ({"schedule": "61 * * * *"}, "schedule", "minute"),
    ({"schedule": "0 0 30 2 *"}, "schedule", "'0 0 30 2 *'"),
    ({"schedule": "hourly"}, "schedule", "HOURLY"),
    ({"timezone": "Mars/Olympus"}, "timezone", "time zone"),
    ({"thresholdEvents": 0}, "thresholdEvents", "from 1"),
    ({"maxFileBytes": 1}, "maxFileBytes", "1,048,576"),
    ({"fields": ["price"]}, "fields", "no field 'price'"),
    ({"fields": ["url", "url"]}, "fields", "twice"),
    ({"filter": {"eventType": {"matches": "("}}}, "filter", "matches"),
    ({"filter": {"eventType": {"in": ["a", "b\0"]}}}, "filter", "U+0000"),
    ({"filter": {"not": {"properties": [{"name": "a\0"}]}}}, "filter", "U+0000"),
    ({"filter": {"eventType": {"like": "x"}}}, "input", "unknown field"),
    ({"webhookUrl": "ftp://example.com/x"}, "webhookUrl", "address"),
    ({"webhookUrl": "http://no-such-host.invalid/x"}, "webhookUrl", "no host"),
    ({"backupBucket": BUCKET}, "backupBucket", "same place"),
    ({"backupBucket": "not-there"}, "backupBucket", "there is no bucket not-there"),
    ({"backupBucket": BUCKET, "backupPrefix": "a/.."}, "backupPrefix", "'..'"),
    ({"backupPrefix": "copies"}, "backupPrefix", "backupBucket"),
    ({"id": "0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11"}, "id", "no export destination"),
    ({"id": "warehouse"}, "id", "no export destination"),
]


async def test_what_is_wrong_is_refused_with_exactly_what_it_is(
    app: App, s3_server: S3Server
) -> None:
    for fields, argument, says in BAD:
        refusal = await app.refusal(SAVE, {"input": destination(s3_server, **fields)})

        wanted = "NOT_FOUND" if argument in ("id", "siteId") else "BAD_USER_INPUT"
        assert (refusal["code"], refusal["argument"]) == (wanted, argument), fields
        assert says in refusal["message"], fields
        assert "hush" not in refusal["message"]
        assert SECRET not in refusal["message"]
    assert (await app.data(LIST))["exportDestinations"] == []
    assert s3_server.files() == {}


async def test_a_permission_that_is_missing_is_named(app: App, s3_server: S3Server) -> None:
    denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    async with answering(403, denied) as (endpoint, _):
        given = destination(s3_server, endpointUrl=endpoint)
        refusal = await app.refusal(SAVE, {"input": given})

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "bucket")
    assert "s3:PutObject on arn:aws:s3:::their-events/exports/*" in refusal["message"]


async def test_a_service_that_is_busy_is_no_mistake_of_whoever_saves(
    app: App, s3_server: S3Server
) -> None:
    async with answering(503, "<Error><Code>SlowDown</Code></Error>") as (endpoint, _):
        refusal = await app.refusal(SAVE, {"input": destination(s3_server, endpointUrl=endpoint)})

    assert (refusal["code"], refusal["part"]) == ("UNAVAILABLE", "bucket")


async def test_private_addresses_are_refused_unless_they_are_allowed(
    database: Database, tmp_path: Path, s3_server: S3Server
) -> None:
    async with open_app(database, tmp_path / "home") as app:
        await app.site("shop")
        for host in (s3_server.endpoint, "http://localhost", "http://169.254.169.254"):
            given = destination(s3_server, endpointUrl=host)
            refusal = await app.refusal(SAVE, {"input": given})
            assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "endpointUrl")
            assert "public address" in refusal["message"]
        # A place that is checked last is not even asked for a webhook in a private network.
        given = destination(s3_server, webhookUrl="http://10.0.0.1/hook")
        refusal = await app.refusal(SAVE, {"input": given})
        assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "webhookUrl")


async def test_the_operators_endpoint_is_meant_where_none_is_given(
    database: Database, tmp_path: Path, s3_server: S3Server
) -> None:
    settings = {"outbound_allow_private": True, "s3_endpoint_url": s3_server.endpoint}
    async with open_app(database, tmp_path / "home", **settings) as app:
        await app.site("shop")
        setup = (await app.data("{ exportSetup { endpointUrl } }"))["exportSetup"]
        saved = await save(app, s3_server, endpointUrl=None)

    assert setup["endpointUrl"] == saved["endpointUrl"] == s3_server.endpoint


@pytest.mark.parametrize("prefix", ["exports", "exports/more", "", "exports/"])
async def test_a_place_belongs_to_one_destination_also_when_that_is_deleted(
    app: App, s3_server: S3Server, prefix: str
) -> None:
    first = await save(app, s3_server)
    given = destination(s3_server, name="second", prefix=prefix)
    of_another = await app.refusal(SAVE, {"input": {**given, "siteId": "blog"}})
    refusal = await app.refusal(SAVE, {"input": given})
    delete = "mutation ($id: ID!) { deleteExportDestination(id: $id) }"
    await app.data(delete, {"id": first["id"]})
    afterwards = await app.refusal(SAVE, {"input": given})

    for one in (refusal, of_another, afterwards):
        assert (one["code"], one["argument"]) == ("BAD_USER_INPUT", "prefix")
    assert "'warehouse'" in refusal["message"]
    assert "another site" in of_another["message"]
    assert "warehouse" not in of_another["message"]
    assert "deleted" in afterwards["message"]


async def test_credentials_that_are_left_out_stay_and_new_ones_take_their_place(
    app: App, s3_server: S3Server
) -> None:
    first = await save(app, s3_server)
    without = destination(s3_server, id=first["id"], accessKeyId=None, secretAccessKey=None)

    changed = await app.data(SAVE, {"input": {**without, "format": "CSV"}})
    wrong = await app.refusal(SAVE, {"input": {**without, "accessKeyId": KEY_ID,
                                               "secretAccessKey": "nonsense"}})  # fmt: skip
    elsewhere = await app.refusal(SAVE, {"input": {**without, "endpointUrl": "http://127.0.0.1:2"}})
    await app.ingest("shop", {"eventType": "view"})
    await app.followed()
    done = await exported(app, first["id"])

    assert changed["saveExportDestination"]["version"] == 2
    assert changed["saveExportDestination"]["hookToken"] is None
    assert (wrong["code"], wrong["argument"]) == ("BAD_USER_INPUT", "secretAccessKey")
    assert (elsewhere["code"], elsewhere["argument"]) == ("BAD_USER_INPUT", "accessKeyId")
    assert done["files"][0]["key"].endswith(".csv")


async def test_a_destination_stays_with_its_site_and_where_its_runs_are(
    app: App, s3_server: S3Server
) -> None:
    first = await save(app, s3_server)
    moved = await save(app, s3_server, id=first["id"], prefix="elsewhere")
    await exported(app, first["id"])

    given = destination(s3_server, id=first["id"], prefix="elsewhere")
    again = await app.refusal(SAVE, {"input": {**given, "prefix": "exports"}})
    of_blog = await app.refusal(SAVE, {"input": {**given, "siteId": "blog"}})

    assert moved["prefix"] == "elsewhere"
    assert (again["code"], again["argument"]) == ("BAD_USER_INPUT", "prefix")
    assert (of_blog["code"], of_blog["argument"]) == ("BAD_USER_INPUT", "siteId")


async def test_secrets_of_hook_and_webhook_are_shown_once_and_made_anew_when_asked_for(
    app: App, s3_server: S3Server
) -> None:
    first = await save(app, s3_server, webhookUrl="http://127.0.0.1:9/hook")
    given = {"id": first["id"], "webhookUrl": "http://127.0.0.1:9/hook"}
    same = await save(app, s3_server, **given)
    other = await save(app, s3_server, **given, rotateHook=True, rotateWebhookSecret=True)
    none = await save(app, s3_server, id=first["id"])
    back = await save(app, s3_server, **given)

    names = ("hookToken", "webhookSecret")
    assert [same[name] for name in names] == [None, None]
    assert all(other[name] and other[name] != first[name] for name in names)
    assert [none[name] for name in names] == [None, None]
    assert back["webhookSecret"] not in (None, first["webhookSecret"], other["webhookSecret"])
    listed = (await app.data(LIST))["exportDestinations"]
    assert [listed[0][name] for name in names] == [None, None]
    answers = [
        (await app.client.post(f"/hooks/export/{one['hookToken']}")).status_code
        for one in (first, other)
    ]
    assert answers == [404, 202]


async def test_a_role_without_a_key_of_the_service_is_refused_with_its_external_id_known_before(
    app: App, s3_server: S3Server
) -> None:
    role = "arn:aws:iam::123456789012:role/footfall"
    given = destination(s3_server, roleArn=role, accessKeyId=None, secretAccessKey=None)

    setup = "query ($site: ID) { exportSetup(siteId: $site) { externalId } }"
    ids = [(await app.data(setup, {"site": site}))["exportSetup"] for site in ("shop", "blog")]
    refusal = await app.refusal(SAVE, {"input": given})

    assert ids[0] == (await app.data(setup, {"site": "shop"}))["exportSetup"]
    assert ids[0] != ids[1]
    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", "roleArn")
    assert "docs/operations/exports.md" in refusal["message"]


def policy(statement: Mapping[str, object]) -> str:
    """A policy as AWS takes it."""
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def test_a_role_is_assumed_by_its_external_id_where_the_service_has_a_key_for_that(
    app: App, s3_server: S3Server, tmp_path: Path
) -> None:
    external_id = (await app.data('{ exportSetup(siteId: "shop") { externalId } }'))["exportSetup"]
    role = "arn:aws:iam::123456789012:role/exports"
    condition = {"StringEquals": {"sts:ExternalId": external_id["externalId"]}}
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    async with running_cloud(unchecked=1 + 3 + 2) as cloud:
        keys = cloud.set_up({"us": ["sts:AssumeRole"]})
        iam = cloud.client("iam")
        iam.create_role(
            RoleName="exports",
            AssumeRolePolicyDocument=policy({**trust, "Condition": condition}),
        )
        iam.put_role_policy(RoleName="exports", PolicyName="may", PolicyDocument=policy(may))
        named = NamedSecrets(tmp_path / "home")
        named.set(ROLE_KEY_SECRET, f"{keys['us'].key_id}:{keys['us'].secret}")
        given = {"roleArn": role, "accessKeyId": None, "secretAccessKey": None, "region": REGION}
        saved = await save(app, s3_server, endpointUrl=cloud.endpoint, **given)
        done = await exported(app, saved["id"])

    assert saved["login"] == {"kind": "ROLE", "roleArn": role, **external_id}
    assert done["status"] == "SUCCEEDED"


async def test_only_admins_of_the_site_may_save_and_see_destinations(
    app: App, s3_server: S3Server
) -> None:
    first = await save(app, s3_server)
    own, other = await app.key("shop", Scope.ADMIN), await app.key("blog", Scope.ADMIN)
    reader = await app.key("shop", Scope.READ, Scope.INGEST)
    given = destination(s3_server, prefix="another")

    for key in (other, reader):
        assert (await app.refusal(SAVE, {"input": given}, key))["code"] == "FORBIDDEN"
    assert (await app.refusal(LIST, {}, reader))["code"] == "FORBIDDEN"
    changing = destination(s3_server, id=first["id"], siteId=None)
    assert (await app.refusal(SAVE, {"input": changing}, other))["code"] == "FORBIDDEN"
    assert (await app.data(LIST, {}, other))["exportDestinations"] == []
    assert (await app.refusal(LIST, {"site": "shop"}, other))["code"] == "FORBIDDEN"
    assert [one["id"] for one in (await app.data(LIST, {}, own))["exportDestinations"]] == [
        first["id"]
    ]
    mine = await app.data(SAVE, {"input": {**given, "siteId": None}}, own)
    assert mine["saveExportDestination"]["siteId"] == "shop"
    assert len((await app.data(LIST))["exportDestinations"]) == 2


async def test_the_log_says_what_was_changed_and_no_secret(app: App, s3_server: S3Server) -> None:
    first = await save(
        app,
        s3_server,
        webhookUrl="http://127.0.0.1:9/hush-in-the-path",
        filter={"eventType": {"ne": "x"}},
    )
    await save(app, s3_server, id=first["id"], schedule="DAILY", rotateHook=True)

    log = (await app.data("{ adminLog { nodes { action target siteId details } } }"))["adminLog"]
    entries = [one for one in log["nodes"] if one["action"].startswith("export.")]

    assert [one["action"] for one in entries] == [
        "export.credentials",
        "export.saved",
        "export.saved",
    ]
    assert {(one["target"], one["siteId"]) for one in entries} == {(first["id"], "shop")}
    assert entries[0]["details"] == {"name": "warehouse", "changed": ["client", "hook"]}
    assert entries[1]["details"]["changes"]["schedule"] == {"from": "MANUAL", "to": "DAILY"}
    assert entries[2]["details"]["webhook_url"] == "127.0.0.1"
    assert entries[2]["details"]["layout"]["filter"] == {"fields": [["event_type", {"ne": "x"}]]}
    shown = json.dumps(log)
    for secret in (SECRET, KEY_ID, first["hookToken"], first["webhookSecret"], "hush"):
        assert secret not in shown


async def test_a_destination_that_is_changed_takes_up_where_it_was(
    app: App, s3_server: S3Server
) -> None:
    first = await save(app, s3_server)
    await app.ingest("shop", {"eventType": "one"})
    await app.followed()
    before = await exported(app, first["id"])
    await save(app, s3_server, id=first["id"], format="JSON")
    await app.ingest("shop", {"eventType": "two"}, {"eventType": "three"})
    await app.followed()

    after = await until(app, (await run(app, first["id"]))["id"], "SUCCEEDED")

    assert (before["events"], after["events"]) == (1, 2)
    assert after["after"] == before["through"]
