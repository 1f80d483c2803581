"""What may go wrong with a bucket, in words for its owner, and what is to be done about it."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What becomes of the work that failed."""

    # The same again, a little later.
    MAY_PASS = "MAY_PASS"  # noqa: S105 - no password
    # Nothing will work until somebody gives other credentials or permissions.
    REFUSED = "REFUSED"
    # This work will not succeed, whenever it is tried.
    PERMANENT = "PERMANENT"


class Reason(StrEnum):
    """What is wrong."""

    WRONG_KEY = "WRONG_KEY"
    WRONG_SECRET = "WRONG_SECRET"  # noqa: S105 - no password
    NO_PERMISSION = "NO_PERMISSION"
    ROLE_REFUSED = "ROLE_REFUSED"
    NO_BUCKET = "NO_BUCKET"
    WRONG_REGION = "WRONG_REGION"
    NOT_FOUND = "NOT_FOUND"
    ADDRESS_REFUSED = "ADDRESS_REFUSED"
    UNREACHABLE = "UNREACHABLE"
    UNTRUSTED = "UNTRUSTED"
    BROKE_OFF = "BROKE_OFF"
    BUSY = "BUSY"
    FULL = "FULL"
    CLOCK = "CLOCK"
    DAMAGED = "DAMAGED"
    UPLOAD_GONE = "UPLOAD_GONE"
    NOT_TAKEN = "NOT_TAKEN"
    ALREADY_THERE = "ALREADY_THERE"
    NOT_OFFERED = "NOT_OFFERED"


_VERDICTS = {
    Reason.WRONG_KEY: Verdict.REFUSED,
    Reason.WRONG_SECRET: Verdict.REFUSED,
    Reason.NO_PERMISSION: Verdict.REFUSED,
    Reason.ROLE_REFUSED: Verdict.REFUSED,
    Reason.NO_BUCKET: Verdict.PERMANENT,
    Reason.WRONG_REGION: Verdict.PERMANENT,
    Reason.NOT_FOUND: Verdict.PERMANENT,
    Reason.ADDRESS_REFUSED: Verdict.PERMANENT,
    Reason.UNTRUSTED: Verdict.PERMANENT,
    Reason.NOT_TAKEN: Verdict.PERMANENT,
    Reason.NOT_OFFERED: Verdict.PERMANENT,
}


class BucketFailed(Exception):
    """The bucket did not do what was asked of it. The message names no credentials."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.verdict = _VERDICTS.get(reason, Verdict.MAY_PASS)
