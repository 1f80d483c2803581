"""Webhooks as Standard Webhooks has them: who may be told, and how it is signed.

The signature is an HMAC-SHA-256 of id, time and body, so whoever has the secret knows that a notice
is ours, unchanged, and not one of last week (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from datetime import datetime
from urllib.parse import SplitResult, urlsplit

from data.outbound.addresses import resolve
from data.outbound.failures import OutboundFailed

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_MAX_URL_CHARS = 2_000
_NO_URL = "it is not an address such as https://example.com/footfall"


class WebhookInvalid(ValueError):
    """Nothing can be sent to such an address; the message says why, in a line."""


def new_webhook_secret() -> str:
    """A secret for one webhook, as its owner gets to see it once: `whsec_` and base64."""
    return _PREFIX + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, notice_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """What goes with a notice that is sent at a moment (aware), its signature among it."""
    moment = str(int(at.timestamp()))
    signed = b".".join([notice_id.encode(), moment.encode(), body])
    digest = hmac.new(b64decode(secret.removeprefix(_PREFIX)), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": notice_id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{b64encode(digest).decode()}",
    }


async def require_webhook(url: str, *, allow_private: bool) -> None:
    """Raise `WebhookInvalid` unless it is an address that may be called, as far as is known now.

    Where the name is looked up anew for every notice, it is checked anew.
    """
    parts = _parts(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        await resolve(parts.hostname or "", port, allow_private=allow_private)
    except OutboundFailed as error:
        raise WebhookInvalid(str(error)) from None


def host_of(url: str) -> str:
    """The host of an address, all of it that may be told: the rest may be a secret."""
    try:
        return urlsplit(url).hostname or "the webhook"
    except ValueError:
        return "the webhook"


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise WebhookInvalid(_NO_URL) from None
    if not is_url:
        raise WebhookInvalid(_NO_URL)
    if len(url) > _MAX_URL_CHARS:
        raise WebhookInvalid(f"it has more than {_MAX_URL_CHARS:,} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookInvalid("it has a character that must be written as %XX in an address")
    if "@" in parts.netloc:
        raise WebhookInvalid(
            "it has a user name or password in it; notices are signed instead, see the secret"
        )
    return parts
