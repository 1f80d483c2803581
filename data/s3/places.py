"""Which bucket, where, and by what credentials: checked values, of which no secret shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

from data.s3.sessions import plain_session

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}")


class PlaceInvalid(ValueError):
    """There can be no such bucket, region, endpoint or role; the message says why, in a line."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key as a bucket's owner gives it; `token` belongs to temporary ones."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume, by the service's own key, and the external id that its owner has set.

    `sts_endpoint` is for services other than AWS.
    """

    arn: str
    external_id: str = field(repr=False)
    by: AccessKey
    sts_endpoint: str | None = None

    def __post_init__(self) -> None:
        if not _ROLE.fullmatch(self.arn):
            raise PlaceInvalid("a role is named by its ARN: arn:aws:iam::123456789012:role/NAME")
        if not _EXTERNAL_ID.fullmatch(self.external_id):
            raise PlaceInvalid(
                "an external id has 2 to 1,224 letters, digits or any of _ + = , . @ : / -"
            )
        if self.sts_endpoint is not None:
            require_endpoint(self.sts_endpoint)


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket. Without an endpoint it is one of AWS, and the region must be one of theirs."""

    bucket: str
    region: str
    login: AccessKey | Role
    endpoint: str | None = None

    def __post_init__(self) -> None:
        require_bucket_name(self.bucket)
        if self.endpoint is None:
            require_region(self.region)
            return
        require_endpoint(self.endpoint)
        if not _REGION.fullmatch(self.region):
            raise PlaceInvalid("a region has up to 40 small letters, digits and -")


def require_bucket_name(name: str) -> None:
    """Raise `PlaceInvalid` unless a bucket can have the name."""
    if not _BUCKET.fullmatch(name) or ".." in name or _is_address(name):
        raise PlaceInvalid(
            f"no bucket is named {name!r:.80}: 3 to 63 small letters, digits, dots and -,"
            " a letter or digit at both ends"
        )


def require_region(region: str) -> None:
    """Raise `PlaceInvalid` unless AWS has the region."""
    if region not in _regions():
        raise PlaceInvalid(
            f"AWS has no region {region!r:.80}; a bucket elsewhere needs its endpoint"
        )


def require_endpoint(url: str) -> None:
    """Raise `PlaceInvalid` unless it is the address of a service: scheme, host, maybe a port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PlaceInvalid("the endpoint is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise PlaceInvalid("the endpoint is a URL such as https://s3.example.com")
    if "@" in parts.netloc:
        raise PlaceInvalid("the endpoint must not have credentials in it")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise PlaceInvalid("the endpoint is scheme, host and port, with nothing behind them")
    if not (is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)):
        raise PlaceInvalid(
            "the host of the endpoint is an address or a name of letters, digits, dots and -"
        )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _regions() -> frozenset[str]:
    """As the library lists them; a new region comes with its next version."""
    session = plain_session()
    partitions = session.get_available_partitions()
    return frozenset(
        region
        for partition in partitions
        for region in session.get_available_regions("s3", partition_name=partition)
    )
