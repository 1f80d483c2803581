"""Clients of the library: what they send, by what credentials, and what they keep to themselves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials, DeferredRefreshableCredentials

from data.s3.connections import CheckedSession
from data.s3.places import AccessKey, BucketPlace, Role
from data.s3.sessions import plain_session

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

_SESSION_NAME = "footfall-export"
_ROLE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for a connection and between two bytes of an answer; tries of one request.

    `whole` is for a request with all of its tries: who answers a byte now and then holds nobody up.
    """

    connect: float = 10.0
    read: float = 60.0
    attempts: int = 3
    whole: float = 600.0


def s3_client(place: BucketPlace, sending: CheckedSession, pace: Pace) -> S3Client:
    """A client of the bucket's service. Makes no request; it takes a tenth of a second."""
    _hush()
    session = plain_session(_credentials(place, sending, pace))
    client = boto3.Session(botocore_session=session).client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint,
        config=_config(pace).merge(
            Config(
                s3={
                    # Names of buckets are no hosts elsewhere.
                    "addressing_style": "path" if place.endpoint else "virtual",
                    # Then a service that knows nothing of checksums checks them, too.
                    "payload_signing_enabled": True,
                },
                # Ours are SHA-256, and are given with every piece.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
        ),
    )
    client.meta.events.register("before-call.s3", _keep_to_endpoint)
    _send_by(client, sending)
    return client


def _sts_client(role: Role, region: str, sending: CheckedSession, pace: Pace) -> STSClient:
    session = plain_session(Credentials(role.by.key_id, role.by.secret, role.by.token))
    client = boto3.Session(botocore_session=session).client(
        "sts", region_name=region, endpoint_url=role.sts_endpoint, config=_config(pace)
    )
    _send_by(client, sending)
    return client


def _hush() -> None:
    """Let the library log nothing that has credentials in it, whatever the level of the logs.

    At DEBUG it logs answers, and that to an assumed role has the role's secret; where such an answer
    cannot be read, its text comes as a warning.
    """
    for name, level in (
        ("botocore", logging.WARNING),
        ("boto3", logging.WARNING),
        ("botocore.credentials", logging.CRITICAL),
    ):
        logging.getLogger(name).setLevel(level)


def _config(pace: Pace) -> Config:
    return Config(
        connect_timeout=pace.connect,
        read_timeout=pace.read,
        retries={"mode": "standard", "total_max_attempts": pace.attempts},
        proxies={},
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
        user_agent_appid="footfall",
    )


def _keep_to_endpoint(params: dict[str, Any], **_: Any) -> None:
    """Have no redirect followed: who gave a wrong region is told so, and no server leads elsewhere.

    The library would ask where the bucket is, and follow the redirect of that question, too.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _send_by(client: S3Client | STSClient, sending: CheckedSession) -> None:
    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return sending.send(request)

    # Whatever answers this event is taken for the answer of the network.
    client.meta.events.register("before-send", send)  # type: ignore[arg-type]


def _credentials(place: BucketPlace, sending: CheckedSession, pace: Pace) -> Credentials:
    login = place.login
    if isinstance(login, AccessKey):
        return Credentials(login.key_id, login.secret, login.token)
    client = _sts_client(login, place.region, sending, pace)

    def assume() -> dict[str, str]:
        answer = client.assume_role(
            RoleArn=login.arn,
            RoleSessionName=_SESSION_NAME,
            ExternalId=login.external_id,
            DurationSeconds=_ROLE_SECONDS,
        )["Credentials"]
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    # Asked for with the first request, and anew some minutes before it expires.
    return DeferredRefreshableCredentials(refresh_using=assume, method="assume-role")
