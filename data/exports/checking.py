"""Whether a destination can be used, as far as that can be known before its bucket is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from data.calendar import UnknownZone, zone_of
from data.exports.destination import Destination, Place
from data.exports.layout import LayoutInvalid
from data.exports.orders import PrefixInvalid, checked_prefix
from data.exports.schedule import next_run
from data.s3.places import (
    AccessKey,
    PlaceInvalid,
    Role,
    require_bucket_name,
    require_endpoint,
    require_region,
)
from data.schedules import InvalidCron

_MAX_NAME_CHARS = 100
_MAX_THRESHOLD = 1_000_000_000
_AWS = (".amazonaws.com", ".amazonaws.com.cn")


class DestinationInvalid(Exception):
    """A destination that cannot be: a field of ExportDestinationInput, and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Occupied:
    """A place in a bucket: the host of its service (`aws` for AWS), bucket, and prefix."""

    host: str
    bucket: str
    prefix: str

    @classmethod
    def of(cls, place: Place) -> Occupied:
        """The place as it is compared: the same one, however it is written."""
        return cls(_host(place.endpoint), place.bucket, checked_prefix(place.prefix))

    def overlaps(self, other: Occupied) -> bool:
        """Whether they are the same, or one lies within the other."""
        if (self.host, self.bucket) != (other.host, other.bucket):
            return False
        ours, theirs = _segments(self.prefix), _segments(other.prefix)
        shared = min(len(ours), len(theirs))
        return ours[:shared] == theirs[:shared]

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket


def is_same_place(one: Place, other: Place | None) -> bool:
    """Whether both are the same bucket and prefix of the same service; None is no place."""
    return other is not None and Occupied.of(one) == Occupied.of(other)


def check_destination(destination: Destination) -> None:
    """Raises `DestinationInvalid` for the first thing that is wrong; asks nobody.

    The webhook is `require_webhook`'s.
    """
    _check_name(destination.name)
    _check_place(destination.client, "bucket", "prefix", "region", "endpointUrl")
    if destination.backup is not None:
        backup = ("backupBucket", "backupPrefix", "backupRegion", "backupEndpointUrl")
        _check_place(destination.backup, *backup)
        if Occupied.of(destination.client).overlaps(Occupied.of(destination.backup)):
            raise DestinationInvalid(
                "backupBucket",
                "the backup lies in the same place as the exports: give it another bucket, or a"
                " prefix of its own",
            )
    _check_layout(destination)
    _check_schedule(destination)
    _check_threshold(destination.threshold_events)


def check_range(since: datetime | None, until: datetime | None, now: datetime) -> None:
    """Raises `DestinationInvalid` unless a backfill can be about the range."""
    if since is not None and since >= now:
        raise DestinationInvalid("since", "it lies in the future: there is nothing to export yet")
    if until is not None and until > now:
        raise DestinationInvalid("until", "it lies in the future: events may still come")
    if since is not None and until is not None and since >= until:
        raise DestinationInvalid("until", "it must be later than since")


def first_overlap(
    places: Sequence[Occupied], taken: Iterable[tuple[str, Sequence[Occupied]]]
) -> tuple[Occupied, str] | None:
    """The first of the places that lies where another destination has one, and that one's name."""
    for name, others in taken:
        for place in places:
            if any(place.overlaps(other) for other in others):
                return place, name
    return None


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise DestinationInvalid(
            "name", f"a name has 1 to {_MAX_NAME_CHARS} characters, none of them a control one"
        )


def _check_place(place: Place, bucket: str, prefix: str, region: str, endpoint: str) -> None:
    """The names are those of the fields."""
    try:
        require_bucket_name(place.bucket)
    except PlaceInvalid as error:
        raise DestinationInvalid(bucket, str(error)) from None
    try:
        checked_prefix(place.prefix)
    except PrefixInvalid as error:
        raise DestinationInvalid(prefix, str(error)) from None
    try:
        if place.endpoint is None:
            require_region(place.region)
        else:
            require_endpoint(place.endpoint)
    except PlaceInvalid as error:
        raise DestinationInvalid(
            region if place.endpoint is None else endpoint, str(error)
        ) from None
    try:
        # What is left: the region elsewhere, and the role.
        login = place.opened_by(AccessKey("", "")).login
    except PlaceInvalid as error:
        field = "roleArn" if place.role is not None and "region" not in str(error) else region
        raise DestinationInvalid(field, str(error)) from None
    assert isinstance(login, Role) == (place.role is not None)


def _check_layout(destination: Destination) -> None:
    layout = destination.layout
    try:
        _ = layout.layout
    except LayoutInvalid as error:
        field = "maxFileBytes" if "file size" in str(error) else "fields"
        raise DestinationInvalid(field, str(error)) from None
    if _has_nul(msgspec.to_builtins(layout.filter)):
        raise DestinationInvalid("filter", "no event has the character U+0000 in a text")


def _has_nul(value: object) -> bool:
    """Whether there is a text that the ledger could not keep."""
    if isinstance(value, dict):
        return any(_has_nul(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_nul(one) for one in value)
    return isinstance(value, str) and "\0" in value


def _check_schedule(destination: Destination) -> None:
    try:
        zone_of(destination.timezone)
    except UnknownZone:
        raise DestinationInvalid(
            "timezone", f"{destination.timezone[:60]!r} is not a time zone such as Europe/Berlin"
        ) from None
    try:
        next_run(destination.schedule, destination.timezone, _SOME_DAY)
    except InvalidCron as error:
        raise DestinationInvalid(
            "schedule",
            f"it is HOURLY, DAILY, REALTIME, MANUAL or five fields of cron: {error}",
        ) from None


_SOME_DAY = datetime.fromisoformat("2026-01-01T00:00:00Z")


def _check_threshold(threshold: int | None) -> None:
    if threshold is not None and not 1 <= threshold <= _MAX_THRESHOLD:
        raise DestinationInvalid("thresholdEvents", f"it must be from 1 to {_MAX_THRESHOLD:,}")


def _segments(prefix: str) -> list[str]:
    return prefix.split("/") if prefix else []


def _host(endpoint: str | None) -> str:
    if endpoint is None:
        return "aws"
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower().rstrip(".")
    if host.endswith(_AWS):
        return "aws"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return host if port in (80, 443) else f"{host}:{port}"
