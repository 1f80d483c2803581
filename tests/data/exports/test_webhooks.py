"""Webhooks: their signatures, by the example of the standard, and the addresses they may have."""

from base64 import b64decode
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from data.exports.notices import Notice, NoticeKind, Told
from data.exports.webhooks import (
    WebhookInvalid,
    host_of,
    new_webhook_secret,
    require_webhook,
    signed_headers,
)

DESTINATION = UUID("018f0000-0000-7000-8000-000000000001")


def test_the_example_of_the_standard_is_signed_as_it_says() -> None:
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )

    assert headers == {
        "content-type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_every_secret_is_another_and_has_256_bits() -> None:
    made = {new_webhook_secret() for _ in range(100)}

    assert len(made) == 100
    assert {one[:6] for one in made} == {"whsec_"}
    assert {len(b64decode(one[6:], validate=True)) for one in made} == {32}


def test_a_notice_says_what_there_is_and_leaves_out_what_there_is_not() -> None:
    told = Told(destination_id=DESTINATION, destination="Lake", site_id="shop", events=0)
    at = datetime(2026, 3, 5, 12, 0, 0, 250_000, UTC)

    assert msgspec.json.decode(Notice(NoticeKind.SUCCEEDED, at, told).body) == {
        "type": "export.succeeded",
        "timestamp": "2026-03-05T12:00:00.250000Z",
        "data": {
            "destination_id": str(DESTINATION),
            "destination": "Lake",
            "site_id": "shop",
            "events": 0,
        },
    }


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not an address"),
        ("example.com/hook", "not an address"),
        ("ftp://example.com/hook", "not an address"),
        ("https:///hook", "not an address"),
        ("https://example.com:0/hook", "not an address"),
        ("https://example.com:99999/hook", "not an address"),
        ("https://[::1/hook", "not an address"),
        ("https://me:secret@example.com/hook", "user name or password"),
        ("https://example.com/a b", "%XX"),
        ("https://example.com/a\nb", "%XX"),
        ("https://example.com/ä", "%XX"),
        (f"https://example.com/{'a' * 2_000}", "2,000 characters"),
        ("http://127.0.0.1/hook", "not a public address"),
        ("http://localhost/hook", "not a public address"),
        ("http://169.254.169.254/latest/meta-data/", "not a public address"),
        ("http://0x7f000001/hook", "not a public address"),
        ("http://[::ffff:10.0.0.1]/hook", "not a public address"),
        ("https://no-such-host.invalid/hook", "no host|could not be looked up"),
    ],
)
async def test_an_address_that_cannot_be_told_is_refused(url: str, message: str) -> None:
    with pytest.raises(WebhookInvalid, match=message) as refused:
        await require_webhook(url, allow_private=False)

    assert "\n" not in str(refused.value)
    assert "secret@" not in str(refused.value)


async def test_public_addresses_can_be_told_and_private_ones_where_that_is_allowed() -> None:
    await require_webhook("https://1.1.1.1/hook?token=1", allow_private=False)
    await require_webhook("http://127.0.0.1:8080/hook", allow_private=True)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com:8443/s3cret?s3cret", "example.com"),
        ("https://[::1", "the webhook"),
        ("nothing", "the webhook"),
    ],
)
def test_of_an_address_the_host_alone_is_told(url: str, host: str) -> None:
    assert host_of(url) == host
