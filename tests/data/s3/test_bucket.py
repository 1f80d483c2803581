"""Objects in a real bucket, and what its owner is told when something is wrong."""

import asyncio
import contextlib
import hashlib
import logging
import ssl
import threading
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from data.exports.layout import Selection
from data.exports.orders import RunOrder
from data.s3 import connections
from data.s3.bucket import PIECE_BYTES, Bucket, Sending, open_bucket
from data.s3.clients import Pace
from data.s3.failures import BucketFailed, Reason, Verdict
from data.s3.places import (
    AccessKey,
    BucketPlace,
    PlaceInvalid,
    Role,
    _regions,
    require_endpoint,
)
from tests.data.exports.test_files import noise
from tests.fixtures.certificates import Authority
from tests.fixtures.s3 import (
    BUCKET,
    KEY_ID,
    REGION,
    SECRET,
    S3Server,
    answering,
    running_cloud,
    running_gate,
)
from tests.fixtures.service import free_port

# One attempt, with time for a busy machine: what is refused or cut off fails at once all the same.
QUICK = Pace(connect=20, read=30, attempts=1)
ARN = "arn:aws:iam::123456789012:role/exports"


@pytest.fixture
async def bucket(s3_server: S3Server) -> AsyncIterator[Bucket]:
    """The bucket of the test."""
    async with open_bucket(s3_server.place(), allow_private=True, pace=QUICK) as opened:
        yield opened


async def failure_of(
    place: BucketPlace, *, allow_private: bool = True, pace: Pace = QUICK
) -> BucketFailed:
    """What a probe of a place says."""
    async with open_bucket(place, allow_private=allow_private, pace=pace) as bucket:
        with pytest.raises(BucketFailed) as failed:
            await bucket.probe("exports")
    assert "\n" not in str(failed.value)
    return failed.value


async def until_no_thread() -> None:
    """Return when no thread is at a request: the process could not end before."""
    async with asyncio.timeout(60):
        while [one for one in threading.enumerate() if one.name.startswith("bucket")]:
            await asyncio.sleep(0.05)


def sending_of(path: Path, data: bytes, name: str = "a/b c+d=e.bin") -> Sending:
    path.write_bytes(data)
    return Sending(name, path, "application/x-test", hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17])
async def test_what_is_put_comes_back_whatever_its_size(
    bucket: Bucket, tmp_path: Path, size: int
) -> None:
    data = bytes.fromhex(noise(size, 2 * size))

    await bucket.put(sending_of(tmp_path / "file", data))

    found = b"".join([piece async for piece in bucket.pieces("a/b c+d=e.bin")])
    assert found == data
    head = await bucket.head("a/b c+d=e.bin")
    assert head is not None
    assert (head.name, head.bytes) == ("a/b c+d=e.bin", size)
    assert [upload async for upload in bucket.uploads("")] == []


async def test_objects_are_listed_read_in_part_and_deleted(bucket: Bucket) -> None:
    names = [f"p/{number:04}" for number in range(1_005)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(bucket.put_bytes(name, name.encode(), "text/plain"))

    assert [found.name async for found in bucket.objects("p/")] == names
    assert [found.name async for found in bucket.objects("p/000")] == names[:10]
    assert await bucket.read("p/0007", 3) == b"p/00"
    assert await bucket.head("p/x") is None
    await bucket.delete("p/0007")
    await bucket.delete("p/0007")
    assert await bucket.head("p/0007") is None
    with pytest.raises(BucketFailed, match="there is no object p/0007") as failed:
        await bucket.read("p/0007", 3)
    assert failed.value.reason is Reason.NOT_FOUND


async def test_an_upload_that_was_left_is_found_and_thrown_away(
    bucket: Bucket, s3_server: S3Server, tmp_path: Path
) -> None:
    data = bytes(3 * PIECE_BYTES)
    async with running_gate(s3_server) as gate:
        gate.bytes_left = PIECE_BYTES + 100_000
        place = s3_server.place(endpoint=gate.endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as cut:
            with pytest.raises(BucketFailed) as failed:
                await cut.put(sending_of(tmp_path / "file", data, "exports/events/x"))
    assert failed.value.verdict is Verdict.MAY_PASS

    [left] = [upload async for upload in bucket.uploads("exports/")]
    assert left.name == "exports/events/x"
    assert abs((left.begun_at - datetime.now(UTC)).total_seconds()) < 60
    assert [upload async for upload in bucket.uploads("other/")] == []
    assert await bucket.abort_uploads("exports/") == 1
    assert await bucket.abort_uploads("exports/") == 0
    await bucket.abort(left)


async def test_an_upload_that_is_given_up_is_aborted(
    bucket: Bucket, s3_server: S3Server, tmp_path: Path
) -> None:
    async with running_gate(s3_server) as gate:
        place = s3_server.place(endpoint=gate.endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as slow:
            sending = sending_of(tmp_path / "file", bytes(12 * PIECE_BYTES), "exports/x")
            gate.stop_after = 2 * PIECE_BYTES
            putting = asyncio.create_task(slow.put(sending))
            await gate.until_stopped()
            putting.cancel()
            gate.stop_after = None
            with pytest.raises(asyncio.CancelledError):
                await putting

    assert await bucket.head("exports/x") is None


async def test_a_probe_writes_and_leaves_nothing(bucket: Bucket) -> None:
    await bucket.probe("a/b")
    await bucket.probe("")

    assert [found async for found in bucket.objects("")] == []


async def test_a_probe_says_what_is_wrong_with_credentials_or_bucket(s3_server: S3Server) -> None:
    key = await failure_of(s3_server.place(key_id="AKIDOFSOMEBODYELSE01"))
    secret = await failure_of(s3_server.place(secret=SECRET[:-1] + "x"))
    gone = await failure_of(s3_server.place(bucket="other-events"))

    where = s3_server.endpoint.removeprefix("http://")
    assert (key.reason, key.verdict) == (Reason.WRONG_KEY, Verdict.REFUSED)
    assert str(key) == f"the access key is not known at {where}, or not valid any more"
    assert (secret.reason, secret.verdict) == (Reason.WRONG_SECRET, Verdict.REFUSED)
    assert str(secret) == "the secret does not belong to the access key: enter both again"
    assert (gone.reason, gone.verdict) == (Reason.NO_BUCKET, Verdict.PERMANENT)
    assert str(gone) == f"there is no bucket other-events at {where}"


@pytest.mark.parametrize("prefix", ["events", "a/events-2026", "manifests/day=1", ""])
async def test_a_missing_permission_is_named_with_the_whole_prefix(prefix: str) -> None:
    order = RunOrder(UUID(int=1), datetime.now(UTC), Selection("shop", 0, 7), prefix=prefix)
    names = [order.file_name(1), order.manifest_name, order.metering_name]
    async with answering(403, error("AccessDenied")) as (endpoint, _):
        place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
            said = []
            for name in names:
                with pytest.raises(BucketFailed) as caught:
                    await bucket.put_bytes(name, b"x", "text/plain")
                said.append(str(caught.value))
            with pytest.raises(BucketFailed) as caught:
                await bucket.probe(prefix)
            said.append(str(caught.value))
    where = f"{BUCKET}/{prefix}/*" if prefix else f"{BUCKET}/*"
    assert set(said) == {f"permission is missing: allow s3:PutObject on arn:aws:s3:::{where}"}


async def test_a_probe_says_which_permission_is_missing() -> None:
    async with running_cloud(unchecked=1 + 3 * 3) as cloud:
        keys = cloud.set_up({"none": ["s3:GetObject"], "writes": ["s3:PutObject"], "all": ["s3:*"]})
        none, writes = [
            await failure_of(BucketPlace(BUCKET, REGION, keys[name], cloud.endpoint))
            for name in ("none", "writes")
        ]
        place = BucketPlace(BUCKET, REGION, keys["all"], cloud.endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
            await bucket.probe("exports")
            [left] = [found.name async for found in bucket.objects("")]

    assert (none.reason, none.verdict) == (Reason.NO_PERMISSION, Verdict.REFUSED)
    assert str(none) == (
        f"permission is missing: allow s3:PutObject on arn:aws:s3:::{BUCKET}/exports/*"
    )
    assert writes.reason is Reason.NO_PERMISSION
    assert str(writes) == (
        f"writing works, but permission is missing: allow s3:DeleteObject on"
        f" arn:aws:s3:::{BUCKET}/exports/*; the object {left} is left behind"
    )


async def test_a_role_is_assumed_with_its_external_id() -> None:
    async with running_cloud(unchecked=1 + 2 * 3 + 2) as cloud:
        keys = cloud.set_up({"us": ["sts:AssumeRole"], "others": ["s3:GetObject"]})
        iam = cloud.client("iam")
        trust = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},'
            '"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":'
            '"their-external-id"}}}]}'
        )
        iam.create_role(RoleName="exports", AssumeRolePolicyDocument=trust)
        iam.put_role_policy(
            RoleName="exports",
            PolicyName="may",
            PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
            '"Action":["s3:*"],"Resource":"*"}]}',
        )
        role = Role(ARN, "their-external-id", keys["us"], cloud.endpoint)
        place = BucketPlace(BUCKET, REGION, role, cloud.endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
            await bucket.probe("exports")
        refused = await failure_of(
            BucketPlace(
                BUCKET, REGION, Role(ARN, "xx", keys["others"], cloud.endpoint), cloud.endpoint
            )
        )

    assert (refused.reason, refused.verdict) == (Reason.ROLE_REFUSED, Verdict.REFUSED)
    assert str(refused).startswith(f"the role {ARN} may not be assumed: its trust policy must")


def error(code: str, more: str = "") -> str:
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{SECRET} {KEY_ID}</Message>'
        f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>{more}</Error>"
    )


MOVED = "<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint>"


@pytest.mark.parametrize(
    ("status", "body", "reason", "verdict", "words"),
    [
        (
            400,
            error("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            Reason.WRONG_REGION,
            Verdict.PERMANENT,
            f"bucket {BUCKET} is not in region {REGION} but in eu-west-1",
        ),
        (301, error("PermanentRedirect", MOVED), Reason.WRONG_REGION, Verdict.PERMANENT, "region"),
        (403, error("RequestTimeTooSkewed"), Reason.CLOCK, Verdict.MAY_PASS, "clocks"),
        (403, error("ExpiredToken"), Reason.WRONG_KEY, Verdict.REFUSED, "not valid any more"),
        (403, "", Reason.NO_PERMISSION, Verdict.REFUSED, "allow s3:PutObject"),
        (500, error("InternalError"), Reason.BUSY, Verdict.MAY_PASS, "HTTP 500, InternalError"),
        (503, error("SlowDown"), Reason.BUSY, Verdict.MAY_PASS, "does not keep up"),
        (507, error("InsufficientStorage"), Reason.FULL, Verdict.MAY_PASS, "is full"),
        (400, error("BadDigest"), Reason.DAMAGED, Verdict.MAY_PASS, "not what was sent"),
        (
            400,
            error("KMS.DisabledException"),
            Reason.NOT_TAKEN,
            Verdict.PERMANENT,
            "HTTP 400, KMS.DisabledException",
        ),
        (400, error(f"{SECRET}!"), Reason.NOT_TAKEN, Verdict.PERMANENT, "HTTP 400"),
        (502, "<html>gateway</html>", Reason.BUSY, Verdict.MAY_PASS, "HTTP 502"),
    ],
)
async def test_what_services_say_is_told_in_our_words(
    status: int, body: str, reason: Reason, verdict: Verdict, words: str
) -> None:
    async with answering(status, body) as (endpoint, _):
        place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), endpoint)
        failed = await failure_of(place)

    assert (failed.reason, failed.verdict) == (reason, verdict)
    assert words in str(failed)
    assert SECRET not in str(failed)
    assert KEY_ID not in str(failed)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_no_connection_goes_to_an_address_that_is_not_public(
    s3_server: S3Server, host: str
) -> None:
    async with running_gate(s3_server) as gate:
        place = s3_server.place(endpoint=f"http://{host}:{gate.port}")
        failed = await failure_of(place, allow_private=False, pace=Pace(2, 5, 3))

        assert gate.connections == 0
    assert (failed.reason, failed.verdict) == (Reason.ADDRESS_REFUSED, Verdict.PERMANENT)
    assert "not a public address" in str(failed)


async def test_the_guard_is_there_for_roles_too(s3_server: S3Server) -> None:
    async with running_gate(s3_server) as gate:
        role = Role(ARN, "external", AccessKey(KEY_ID, SECRET), gate.endpoint)
        place = BucketPlace(BUCKET, REGION, role, "https://s3.example.com")

        failed = await failure_of(place, allow_private=False)

        assert gate.connections == 0
    assert failed.reason is Reason.ADDRESS_REFUSED


async def test_redirects_lead_nowhere() -> None:
    async with (
        answering(200) as (elsewhere, asked),
        answering(307, error("TemporaryRedirect"), Location=f"{elsewhere}/x") as (endpoint, _),
    ):
        place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), endpoint)
        failed = await failure_of(place)

    assert failed.reason is Reason.WRONG_REGION
    assert asked == []


async def test_nothing_of_the_machine_takes_part(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with answering(200) as (elsewhere, asked):
        profile = tmp_path / "credentials"
        profile.write_text(f"[default]\naws_access_key_id = {KEY_ID}\n")
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIDOFTHEMACHINE0001",
            "AWS_SECRET_ACCESS_KEY": "of the machine",
            "AWS_SESSION_TOKEN": "of the machine",
            "AWS_SHARED_CREDENTIALS_FILE": str(profile),
            "AWS_CONFIG_FILE": str(profile),
            "AWS_PROFILE": "nobody",
            "AWS_ENDPOINT_URL": elsewhere,
            "AWS_ENDPOINT_URL_S3": elsewhere,
            "AWS_MAX_ATTEMPTS": "no number",
            "AWS_CA_BUNDLE": "/nowhere",
            "HTTP_PROXY": elsewhere,
            "http_proxy": elsewhere,
        }.items():
            monkeypatch.setenv(name, value)
        _regions.cache_clear()
        BucketPlace("their-events", "eu-central-1", AccessKey(KEY_ID, SECRET))
        async with open_bucket(s3_server.place(), allow_private=True, pace=QUICK) as bucket:
            await bucket.probe("x")

    assert asked == []


async def test_a_certificate_that_nobody_has_signed_is_told(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).certificate_for("127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    async with answering(200, tls=tls) as (endpoint, asked):
        place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), endpoint)
        failed = await failure_of(place)

    assert (failed.reason, failed.verdict) == (Reason.UNTRUSTED, Verdict.PERMANENT)
    assert "is not trusted" in str(failed)
    assert asked == []


async def test_an_authority_that_the_machine_trusts_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    certificate = authority.certificate_for("127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.roots))
    async with answering(200, tls=tls) as (endpoint, asked):
        place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), endpoint)
        async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
            await bucket.probe("x")

    assert [request.split()[0] for request in asked] == [b"PUT", b"DELETE"]


async def test_servers_that_are_away_or_hang_may_come_back(s3_server: S3Server) -> None:
    s3_server.freeze()
    hung = await failure_of(s3_server.place(), pace=Pace(connect=0.5, read=0.5, attempts=1))
    s3_server.thaw()
    await s3_server.kill()
    away = await failure_of(s3_server.place())
    nobody = await failure_of(s3_server.place(endpoint="http://nowhere.invalid:9000"))

    assert [one.verdict for one in (hung, away, nobody)] == [Verdict.MAY_PASS] * 3
    assert (away.reason, nobody.reason) == (Reason.UNREACHABLE, Reason.UNREACHABLE)


async def test_who_answers_a_byte_now_and_then_is_not_waited_for() -> None:
    ended = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.transport.abort()
        ended.set()

    port = free_port()
    server = await asyncio.start_server(trickle, "127.0.0.1", port)
    place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, SECRET), f"http://127.0.0.1:{port}")
    pace = Pace(connect=2, read=5, attempts=1, whole=1)
    try:
        async with asyncio.timeout(30):
            failed = await failure_of(place, pace=pace)
        assert (failed.reason, failed.verdict) == (Reason.BROKE_OFF, Verdict.MAY_PASS)
        assert str(failed) == f"a request to 127.0.0.1:{port} had not ended after 1 s"
        await until_no_thread()
        async with asyncio.timeout(30):
            await ended.wait()
    finally:
        server.close()


@pytest.mark.parametrize("allow_private", [True, False])
async def test_a_request_that_hangs_ends_with_its_bucket(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, allow_private: bool
) -> None:
    # As if this machine were in the public internet.
    monkeypatch.setattr(connections, "require_public", lambda _: None)
    s3_server.freeze()
    async with running_gate(s3_server) as gate:
        place = s3_server.place(endpoint=gate.endpoint)
        pace = Pace(connect=5, read=3_600, attempts=3)
        async with open_bucket(place, allow_private=allow_private, pace=pace) as bucket:
            probing = asyncio.create_task(bucket.probe("exports"))
            async with asyncio.timeout(30):
                while not gate.connections:
                    await asyncio.sleep(0.02)
            probing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await probing
        await until_no_thread()
    s3_server.thaw()


async def test_no_credential_shows_in_values_errors_or_logs(
    s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "boto3", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    token = "TheTokenOfASession"
    place = BucketPlace(BUCKET, REGION, AccessKey(KEY_ID, "x" + SECRET, token), s3_server.endpoint)
    role = Role(ARN, "TheExternalId", AccessKey(KEY_ID, "x" + SECRET, token))
    shown = [repr(place), repr(role), repr(BucketPlace(BUCKET, REGION, role))]
    async with open_bucket(place, allow_private=True, pace=QUICK) as bucket:
        shown += [repr(bucket), str(vars(bucket))]
        with pytest.raises(BucketFailed) as caught:
            await bucket.probe("")
    failed = caught.value
    shown += [repr(failed), "".join(traceback.format_exception(failed))]
    # Reporters of errors follow these.
    assert failed.__cause__ is None
    assert failed.__suppress_context__

    for text in [*shown, caplog.text]:
        for secret in (SECRET, token, "TheExternalId"):
            assert secret not in text


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"bucket": "Their_Events"}, "no bucket is named"),
        ({"bucket": "a"}, "no bucket is named"),
        ({"bucket": "10.0.0.1"}, "no bucket is named"),
        ({"bucket": "a..b"}, "no bucket is named"),
        ({"bucket": "a/b"}, "no bucket is named"),
        ({"region": "mars-north-1"}, "AWS has no region 'mars-north-1'"),
        ({"region": "EU", "endpoint": "https://s3.example.com"}, "small letters"),
        ({"endpoint": "s3.example.com"}, "the endpoint is a URL"),
        ({"endpoint": "ftp://s3.example.com"}, "the endpoint is a URL"),
        ({"endpoint": "https://me:secret@s3.example.com"}, "must not have credentials"),
        ({"endpoint": "https://s3.example.com/path"}, "nothing behind"),
        ({"endpoint": "https://s3.example.com:99999"}, "not a URL"),
        ({"endpoint": "http://object_store:9000"}, "letters, digits, dots and -"),
        ({"endpoint": "http://s3 .example.com"}, "letters, digits, dots and -"),
        ({"endpoint": "http://s3\x00.example.com"}, "letters, digits, dots and -"),
        ({"endpoint": "http://s3..example.com"}, "letters, digits, dots and -"),
        ({"endpoint": "http://[fe80::zz]:9000"}, "not a URL"),
    ],
)
def test_places_that_cannot_be_are_refused(fields: dict[str, str], complaint: str) -> None:
    with pytest.raises(PlaceInvalid, match=complaint) as refused:
        BucketPlace(
            **{"bucket": BUCKET, "region": "eu-central-1"} | fields,
            login=AccessKey(KEY_ID, SECRET),
        )
    assert "secret@" not in str(refused.value)


def test_places_that_can_be_are_taken() -> None:
    for region in ("eu-central-1", "us-gov-west-1", "cn-north-1"):
        BucketPlace("their-events", region, AccessKey(KEY_ID, SECRET))
    for host in ("s3.example.com:9000/", "10.0.0.1", "[::1]:9000", "minio", "S3.Example.com."):
        require_endpoint(f"https://{host}")
    with pytest.raises(PlaceInvalid, match="ARN"):
        Role("exports", "their-id", AccessKey(KEY_ID, SECRET))
    with pytest.raises(PlaceInvalid, match="external id"):
        Role(ARN, "", AccessKey(KEY_ID, SECRET))
