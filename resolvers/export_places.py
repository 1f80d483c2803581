"""Drafts of destinations become destinations: defaults, places, and what becomes of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from data.exports.checking import Occupied, check_destination
from data.exports.destination import ANY_REGION, AssumedRole, Destination, Place, TargetKind
from data.postgres.export_destinations import SecretKind
from data.s3.places import AccessKey
from resolvers.errors import BadUserInput
from resolvers.export_drafts import BucketDraft, DestinationDraft

# Names of fields of the input, by the bucket that they are about.
_NAMES = {
    TargetKind.CLIENT: ("accessKeyId", "secretAccessKey", "roleArn"),
    TargetKind.BACKUP: ("backupAccessKeyId", "backupSecretAccessKey", "backupRoleArn"),
}
_AWS = "amazonaws.com"
_KEPT = {TargetKind.CLIENT: SecretKind.CLIENT, TargetKind.BACKUP: SecretKind.BACKUP}


@dataclass(frozen=True, slots=True)
class Ground:
    """What a draft is worked out upon: what there is already, and what goes without saying.

    `endpoint` is the one that is meant where none is given; None is AWS.
    """

    before: Destination | None
    site_id: str
    external_id: str
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A destination as it is to be, the keys that came along, and those that are not kept on."""

    destination: Destination
    keys: Mapping[TargetKind, AccessKey] = field(repr=False)
    forgotten: frozenset[SecretKind]


def wanted_destination(draft: DestinationDraft, ground: Ground) -> Wanted:
    """The destination that a draft means.

    Raises `DestinationInvalid`, and `BadUserInput` for what its logins lack.
    """
    before = ground.before
    places = {TargetKind.CLIENT: _place(draft.client, ground)}
    keys = _given_keys(draft.client, TargetKind.CLIENT)
    if draft.backup is not None:
        keys |= _given_keys(draft.backup, TargetKind.BACKUP)
        places[TargetKind.BACKUP] = _place(draft.backup, ground)
    destination = Destination(
        destination_id=before.destination_id if before else uuid4(),
        site_id=ground.site_id,
        name=draft.name,
        client=places[TargetKind.CLIENT],
        backup=places.get(TargetKind.BACKUP),
        layout=draft.layout,
        schedule=draft.schedule,
        timezone=draft.timezone,
        threshold_events=draft.threshold_events,
        webhook_url=draft.webhook_url,
    )
    check_destination(destination)
    destination = _with_shared_role(destination, keys)
    return Wanted(destination, keys, _forgotten(destination, before, keys))


def _place(draft: BucketDraft, ground: Ground) -> Place:
    endpoint = draft.endpoint_url or ground.endpoint
    role = None
    if draft.role_arn is not None:
        # Services that are not AWS have roles and buckets in one place.
        sts = endpoint if endpoint and _AWS not in endpoint else None
        role = AssumedRole(arn=draft.role_arn, external_id=ground.external_id, sts_endpoint=sts)
    return Place(
        bucket=draft.bucket,
        prefix=draft.prefix.strip("/"),
        region=draft.region or ANY_REGION,
        endpoint=endpoint,
        role=role,
    )


def _with_shared_role(
    destination: Destination, keys: Mapping[TargetKind, AccessKey]
) -> Destination:
    """The backup is opened as the first bucket is, unless it has a login of its own."""
    client, backup = destination.client, destination.backup
    if backup is None or backup.role is not None or TargetKind.BACKUP in keys:
        return destination
    if not _is_same_service(backup, client):
        return destination
    shared = msgspec.structs.replace(backup, role=client.role)
    return msgspec.structs.replace(destination, backup=shared)


def _given_keys(draft: BucketDraft, target: TargetKind) -> dict[TargetKind, AccessKey]:
    key_name, secret_name, _ = _NAMES[target]
    if draft.access_key_id is None and draft.secret_access_key is None:
        return {}
    if draft.access_key_id is None:
        raise BadUserInput(key_name, f"{secret_name} belongs to a key: give {key_name}, too")
    if draft.secret_access_key is None:
        raise BadUserInput(secret_name, f"give {secret_name} together with {key_name}")
    if not draft.access_key_id.isprintable():
        raise BadUserInput(key_name, "there is a line break or the like in it: enter it again")
    return {target: AccessKey(draft.access_key_id, draft.secret_access_key)}


def _forgotten(
    after: Destination, before: Destination | None, keys: Mapping[TargetKind, AccessKey]
) -> frozenset[SecretKind]:
    """What is not kept on; raises `BadUserInput` where there is nothing to get in by then."""
    forgotten = set()
    for target, place in after.places.items():
        if target in keys:
            continue
        known = before.place(target) if before else None
        is_elsewhere = known is None or not _is_same_service(known, place)
        is_new_role = place.role is not None and (known is None or known.role != place.role)
        if is_elsewhere or is_new_role:
            forgotten.add(_KEPT[target])
        if place.role is None and is_elsewhere:
            _require_login(after, target, is_new=known is None)
    return frozenset(forgotten)


def _require_login(after: Destination, target: TargetKind, *, is_new: bool) -> None:
    if target is TargetKind.BACKUP and _is_same_service(after.places[target], after.client):
        return  # by what opens the first one
    key, secret, role = _NAMES[target]
    if is_new:
        raise BadUserInput(key, f"give {key} and {secret}, or {role}")
    raise BadUserInput(key, f"the bucket is at another endpoint now: give {key} and {secret} again")


def _is_same_service(one: Place, other: Place) -> bool:
    return Occupied.of(one).host == Occupied.of(other).host
