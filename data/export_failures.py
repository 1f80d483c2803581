"""What a failed attempt at a run means: whether it is tried again, by itself or by somebody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from msgspec import ValidationError
from tenacity import AsyncRetrying, RetryCallState, wait_exponential_jitter

from data.event_store import InvalidPattern, StoreUnavailable
from data.export_buckets import NoCredentials
from data.exports.failures import CopyDiffers, DiskFull
from data.exports.layout import LayoutInvalid
from data.exports.manifest import ManifestUnreadable
from data.exports.orders import PrefixInvalid
from data.postgres.engine import LedgerRefused, LedgerUnavailable
from data.postgres.export_outcomes import After, Failure
from data.s3.failures import BucketFailed, Reason, Verdict
from data.s3.places import PlaceInvalid
from data.secret_errors import (
    SecretMissing,
    SecretsUnavailable,
    SecretsUnreadable,
    Undecipherable,
)

_UNEXPECTED = "an unexpected error, which stands in the log of the service"

# Nothing of the bucket's owner is wrong, or nothing that is not mended by itself.
_PASSING: dict[type[Exception], str] = {
    StoreUnavailable: "COPY",
    LedgerUnavailable: "LEDGER",
    DiskFull: "DISK_FULL",
    SecretsUnavailable: "SECRETS",
    TimeoutError: "TIMEOUT",
}
# Somebody has to save the destination anew.
_RESTING: dict[type[Exception], str] = {
    NoCredentials: "NO_CREDENTIALS",
    Undecipherable: "CREDENTIALS_UNREADABLE",
    SecretMissing: "NO_ROLE_KEY",
    SecretsUnreadable: "CREDENTIALS_UNREADABLE",
    PlaceInvalid: "INVALID",
}
_DEADLY: dict[type[Exception], str] = {
    CopyDiffers: "COPY_DIFFERS",
    ManifestUnreadable: "NAME_TAKEN",
    LayoutInvalid: "INVALID",
    PrefixInvalid: "INVALID",
    ValidationError: "INVALID",
    InvalidPattern: "INVALID",
    LedgerRefused: "LEDGER_REFUSED",
}
# No run will succeed before the place is in order: so that not every one of them dies.
_OF_THE_PLACE = frozenset(
    {Reason.NO_BUCKET, Reason.WRONG_REGION, Reason.ADDRESS_REFUSED, Reason.UNTRUSTED}
)


@dataclass(frozen=True, slots=True)
class RetryPace:
    """Waits of `first` and then twice as long each time, `longest` at most; `attempts` in all."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=15)
    attempts: int = 24

    def wait(self, attempts: int) -> timedelta:
        """How long to wait after so many attempts, somewhat at random."""
        waiting = wait_exponential_jitter(
            multiplier=self.first.total_seconds(),
            max=self.longest.total_seconds(),
            jitter=self.first.total_seconds() / 2,
        )
        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.attempt_number = attempts
        return timedelta(seconds=waiting(state))


def failure_of(error: Exception, attempts: int, now: datetime, pace: RetryPace) -> Failure:
    """What follows from the error of an attempt, of which there were `attempts` with this one."""
    failure = _failure(error)
    if failure.after is not After.RETRY:
        return failure
    if attempts >= pace.attempts:
        told = f"given up after {attempts} attempts: {failure.error}"
        return replace(failure, error=told, after=After.DEATH)
    return replace(failure, next_attempt_at=now + pace.wait(attempts))


def is_unexpected(error: Exception) -> bool:
    """Whether nobody has thought of it, so that the log should have all of it."""
    return _failure(error).reason == "UNEXPECTED"


def _failure(error: Exception) -> Failure:
    if isinstance(error, BucketFailed):
        return _of_bucket(error)
    for kinds, after in (
        (_PASSING, After.RETRY),
        (_RESTING, After.PAUSE),
        (_DEADLY, After.DEATH),
    ):
        for kind, reason in kinds.items():
            if isinstance(error, kind):
                return Failure(reason, _words(error, reason), after)
    return Failure("UNEXPECTED", _UNEXPECTED, After.RETRY)


def _of_bucket(failed: BucketFailed) -> Failure:
    if failed.verdict is Verdict.MAY_PASS:
        after = After.RETRY
    elif failed.verdict is Verdict.REFUSED:
        after = After.PAUSE
    else:
        after = After.DEATH_AND_PAUSE if failed.reason in _OF_THE_PLACE else After.DEATH
    return Failure(failed.reason.value, str(failed), after)


def _words(error: Exception, reason: str) -> str:
    """The error for people; texts of drivers are for the log."""
    if reason in _PLAIN:
        return _PLAIN[reason]
    return str(error)


_PLAIN = {
    "COPY": "the columnar copy of the service cannot be read now",
    "LEDGER": "the ledger of the service cannot be reached now",
    "LEDGER_REFUSED": "the ledger did not take what the run came to",
    "SECRETS": "the credentials cannot be read now, as the secret store does not answer",
    "CREDENTIALS_UNREADABLE": "the credentials cannot be read any more: save them again",
    "TIMEOUT": "it took too long",
}
