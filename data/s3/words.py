"""What a failed request to a bucket means, said for its owner, without the service's own words."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

from botocore import exceptions as library
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from data.outbound.addresses import AddressRefused
from data.outbound.failures import OutboundFailed
from data.s3.failures import BucketFailed, Reason
from data.s3.places import BucketPlace, Role

_REASONS = {
    "InvalidAccessKeyId": Reason.WRONG_KEY,
    "InvalidClientTokenId": Reason.WRONG_KEY,
    "UnrecognizedClientException": Reason.WRONG_KEY,
    "ExpiredToken": Reason.WRONG_KEY,
    "InvalidToken": Reason.WRONG_KEY,
    "SignatureDoesNotMatch": Reason.WRONG_SECRET,
    "AccessDenied": Reason.NO_PERMISSION,
    "AccessDeniedException": Reason.NO_PERMISSION,
    "AllAccessDisabled": Reason.NO_PERMISSION,
    "AccountProblem": Reason.NO_PERMISSION,
    "NotSignedUp": Reason.NO_PERMISSION,
    "NoSuchBucket": Reason.NO_BUCKET,
    "PermanentRedirect": Reason.WRONG_REGION,
    "TemporaryRedirect": Reason.WRONG_REGION,
    "AuthorizationHeaderMalformed": Reason.WRONG_REGION,
    "IllegalLocationConstraintException": Reason.WRONG_REGION,
    "NoSuchKey": Reason.NOT_FOUND,
    "NoSuchUpload": Reason.UPLOAD_GONE,
    "RequestTimeTooSkewed": Reason.CLOCK,
    "BadDigest": Reason.DAMAGED,
    "InvalidDigest": Reason.DAMAGED,
    "InvalidPart": Reason.DAMAGED,
    "XAmzContentSHA256Mismatch": Reason.DAMAGED,
    "IncompleteBody": Reason.BROKE_OFF,
    "RequestTimeout": Reason.BROKE_OFF,
    "InsufficientStorage": Reason.FULL,
    "QuotaExceeded": Reason.FULL,
    "XMinioStorageFull": Reason.FULL,
    "PreconditionFailed": Reason.ALREADY_THERE,
    "ConditionalRequestConflict": Reason.BUSY,
    "NotImplemented": Reason.NOT_OFFERED,
}
_BY_STATUS = {
    301: Reason.WRONG_REGION,
    307: Reason.WRONG_REGION,
    401: Reason.NO_PERMISSION,
    403: Reason.NO_PERMISSION,
    404: Reason.NOT_FOUND,
    412: Reason.ALREADY_THERE,
    429: Reason.BUSY,
    501: Reason.NOT_OFFERED,
    507: Reason.FULL,
}
_PERMISSIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
}
_OF_THE_BUCKET = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})
_CODE = re.compile(r"[A-Za-z0-9.]{1,60}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
# Objects of exports, whatever their prefix is made of.
_IN_FOLDER = re.compile(
    r"(?:(?P<prefix>.*)/)?(?:(?:events|manifests|metering)/day=[^/]*/[^/]*|\.footfall-[^/]*)"
)


def in_words(error: Exception, place: BucketPlace, name: str = "") -> BucketFailed:
    """The failure that an exception of the library is; `name` is the object it was about."""
    if isinstance(error, library.ClientError):
        if error.operation_name == "AssumeRole":
            return _of_role(error, place)
        return _of_answer(error, place, name)
    if isinstance(error, AddressRefused):
        return BucketFailed(Reason.ADDRESS_REFUSED, str(error))
    if isinstance(error, OutboundFailed):
        return BucketFailed(Reason.UNREACHABLE, _hint_of_region(str(error), place))
    return _of_connection(error, place)


def too_slow(place: BucketPlace, seconds: float) -> BucketFailed:
    """What is said of a service that answers, but never to the end."""
    return BucketFailed(
        Reason.BROKE_OFF, f"a request to {_where(place)} had not ended after {seconds:g} s"
    )


def _of_connection(error: Exception, place: BucketPlace) -> BucketFailed:
    where = _where(place)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BucketFailed(
                Reason.UNTRUSTED,
                f"the certificate of {where} is not trusted: {cause.verify_message}",
            )
    if isinstance(error, library.EndpointConnectionError | library.ConnectTimeoutError):
        return BucketFailed(
            Reason.UNREACHABLE, _hint_of_region(f"there is no connection to {where}", place)
        )
    if isinstance(error, library.SSLError):
        return BucketFailed(Reason.UNREACHABLE, f"no TLS connection to {where} can be made")
    if isinstance(error, ResponseParserError):
        return BucketFailed(Reason.BROKE_OFF, f"the answer of {where} is not that of S3")
    if isinstance(error, library.HTTPClientError | library.IncompleteReadError | HTTPError):
        return BucketFailed(Reason.BROKE_OFF, f"the connection to {where} broke off")
    return BucketFailed(
        Reason.NOT_TAKEN, f"the request to {where} cannot be made: {type(error).__name__}"
    )


def _of_answer(error: library.ClientError, place: BucketPlace, name: str) -> BucketFailed:
    code, status = _code(error), _status(error)
    reason = _REASONS.get(code) or _BY_STATUS.get(status)
    if reason is None:
        reason = Reason.BUSY if status >= 500 or _is_throttling(code) else Reason.NOT_TAKEN
    return BucketFailed(reason, _sentence(reason, error, place, name))


def _sentence(reason: Reason, error: library.ClientError, place: BucketPlace, name: str) -> str:
    where = _where(place)
    match reason:
        case Reason.WRONG_KEY:
            return _wrong_key(place)
        case Reason.NO_PERMISSION:
            return _missing_permission(error.operation_name, place, name)
        case Reason.WRONG_REGION:
            return _wrong_region(error, place)
        case Reason.BUSY:
            return f"{where} does not keep up now (it answers {_told(error)})"
        case Reason.NOT_TAKEN:
            return f"{where} does not take {name or 'the request'}: {_told(error)}"
        case _:
            return _SENTENCES[reason].format(where=where, bucket=place.bucket, name=name)


_SENTENCES = {
    Reason.WRONG_SECRET: "the secret does not belong to the access key: enter both again",
    Reason.NO_BUCKET: "there is no bucket {bucket} at {where}",
    Reason.NOT_FOUND: "there is no object {name} in bucket {bucket}",
    Reason.CLOCK: "the clocks of this machine and of {where} are minutes apart",
    Reason.DAMAGED: "what arrived at {where} is not what was sent",
    Reason.BROKE_OFF: "the request to {where} broke off",
    Reason.UPLOAD_GONE: "the upload of {name} was aborted meanwhile",
    Reason.FULL: "bucket {bucket} is full",
    Reason.ALREADY_THERE: "there is an object {name} in bucket {bucket} already",
    Reason.NOT_OFFERED: "{where} does not offer what is asked of it for {name}",
}


def _wrong_key(place: BucketPlace) -> str:
    if isinstance(place.login, Role):
        return "the credentials of the assumed role are not valid any more"
    return f"the access key is not known at {_where(place)}, or not valid any more"


def _missing_permission(operation: str, place: BucketPlace, name: str) -> str:
    action = _PERMISSIONS.get(operation, "s3:PutObject")
    what = place.bucket if action in _OF_THE_BUCKET else f"{place.bucket}/{_folder_of(name)}*"
    return f"permission is missing: allow {action} on arn:aws:s3:::{what}"


def _folder_of(name: str) -> str:
    """The prefix of a destination: what stands before the folders of an export."""
    found = _IN_FOLDER.fullmatch(name)
    return f"{found['prefix']}/" if found and found["prefix"] else ""


def _wrong_region(error: library.ClientError, place: BucketPlace) -> str:
    answer = error.response
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    right = str(answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    sentence = f"bucket {place.bucket} is not in region {place.region}"
    if _REGION.fullmatch(right) and right != place.region:
        return f"{sentence} but in {right}"
    return f"{sentence}: look up its region"


def _of_role(error: library.ClientError, place: BucketPlace) -> BucketFailed:
    assert isinstance(place.login, Role)  # nobody else assumes one
    reason = _REASONS.get(_code(error))
    if reason in (Reason.WRONG_KEY, Reason.WRONG_SECRET):
        return BucketFailed(
            reason,
            "the key by which the role is assumed is not valid: enter it again or, where it is this"
            " service's own, have whoever runs it renew that",
        )
    if _status(error) >= 500 or _is_throttling(_code(error)):
        return BucketFailed(Reason.BUSY, f"roles cannot be assumed now ({_told(error)})")
    return BucketFailed(
        Reason.ROLE_REFUSED,
        f"the role {place.login.arn} may not be assumed: its trust policy must allow"
        " sts:AssumeRole to this service's account, with the external id of this destination",
    )


def _code(error: library.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: library.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _told(error: library.ClientError) -> str:
    """Status and code, the latter only where it looks like one."""
    code, status = _code(error), _status(error)
    if not _CODE.fullmatch(code) or code == str(status):
        return f"HTTP {status}"
    return f"HTTP {status}, {code}"


def _is_throttling(code: str) -> bool:
    return code in ("SlowDown", "ServiceUnavailable", "InternalError", "OperationAborted") or (
        "Throttl" in code or "LimitExceeded" in code
    )


def _where(place: BucketPlace) -> str:
    if place.endpoint is None:
        return f"AWS in {place.region}"
    return place.endpoint.partition("://")[2].strip("/")


def _hint_of_region(sentence: str, place: BucketPlace) -> str:
    return sentence if place.endpoint else f"{sentence}: check the region {place.region}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        inner = getattr(found, "kwargs", None)
        known = inner.get("error") if isinstance(inner, dict) else None
        reason = getattr(found, "reason", None)
        following = known or reason or found.__cause__ or found.__context__
        found = following if isinstance(following, BaseException) else None
