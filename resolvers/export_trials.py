"""Trying a bucket out before it is saved, and naming the field that is to blame."""

from __future__ import annotations

import asyncio

from data.export_buckets import ExportBuckets, NoCredentials
from data.exports.destination import Place, TargetKind
from data.s3.failures import BucketFailed, Reason, Verdict
from data.s3.places import AccessKey, PlaceInvalid
from data.secret_errors import SecretMissing, SecretsUnavailable, SecretsUnreadable
from resolvers.errors import BadUserInput, Refusal, Unavailable

_SECONDS = 20.0

# Which field of the input is to blame; the backup's has its name in front.
_FIELDS = {
    Reason.WRONG_KEY: "accessKeyId",
    Reason.WRONG_SECRET: "secretAccessKey",
    Reason.ROLE_REFUSED: "roleArn",
    Reason.WRONG_REGION: "region",
    Reason.ADDRESS_REFUSED: "endpointUrl",
    Reason.UNREACHABLE: "endpointUrl",
    Reason.UNTRUSTED: "endpointUrl",
}


async def try_place(
    buckets: ExportBuckets, target: TargetKind, place: Place, key: AccessKey | None
) -> None:
    """Write a few bytes into a bucket, and delete them; key None: the service's own, for a role.

    Raises `BadUserInput` with exactly what is missing, and `Unavailable` where that may pass.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            await buckets.probe(place, key)
    except BucketFailed as failed:
        raise _refusal(target, place, failed) from None
    except PlaceInvalid as invalid:
        raise BadUserInput(field_of(target, "bucket"), str(invalid)) from None
    except NoCredentials as missing:
        raise BadUserInput(field_of(target, "accessKeyId"), str(missing)) from None
    except SecretMissing:
        raise BadUserInput(
            field_of(target, "roleArn"),
            "this service has no key of its own to assume roles by: whoever runs it sets one up "
            "(docs/operations/exports.md); give an access key instead",
        ) from None
    except (SecretsUnavailable, SecretsUnreadable) as error:
        raise Unavailable("secrets", "secrets cannot be read now; try again shortly") from error
    except TimeoutError:
        raise BadUserInput(
            field_of(target, "endpointUrl"),
            f"bucket {place.bucket} did not answer within {_SECONDS:g} s: check the endpoint, or "
            "try again",
        ) from None


def field_of(target: TargetKind, name: str) -> str:
    """The name of a field of the input that is about this bucket."""
    return name if target is TargetKind.CLIENT else f"backup{name[:1].upper()}{name[1:]}"


def _refusal(target: TargetKind, place: Place, failed: BucketFailed) -> Refusal:
    name = _FIELDS.get(failed.reason)
    if name == "endpointUrl" and place.endpoint is None:
        name = "region"
    if failed.verdict is Verdict.MAY_PASS and name is None:
        return Unavailable("bucket", f"{failed}; try again shortly")
    message = str(failed)
    if failed.reason is Reason.ROLE_REFUSED and place.role is not None:
        message += f", which is {place.role.external_id}"
    return BadUserInput(field_of(target, name or "bucket"), message)
