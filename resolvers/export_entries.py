"""What the admin log says of destinations of exports that are saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from data.admin_log import AdminAction, Entry
from data.exports.destination import Destination
from data.exports.webhooks import host_of
from data.postgres.export_destinations import SecretChanges, SecretKind
from resolvers.context import Context


def saving_entries(
    ctx: Context, before: Destination | None, saved: Destination, changes: SecretChanges
) -> Iterator[Entry]:
    """One for a destination that was made (`before` is None) or changed, and one for its secrets."""

    def entry(action: AdminAction, details: dict[str, object]) -> Entry:
        target = str(saved.destination_id)
        return Entry(ctx.now, ctx.caller.actor, action, target, saved.site_id, details)

    yield entry(AdminAction.EXPORT_SAVED, _saving(before, saved))
    changed = sorted(kind.value for kind in _changed(changes))
    if before is not None and changed:
        yield entry(AdminAction.EXPORT_CREDENTIALS, {"name": saved.name, "changed": changed})


def _changed(changes: SecretChanges) -> Iterator[SecretKind]:
    given = {
        SecretKind.CLIENT: changes.client,
        SecretKind.BACKUP: changes.backup,
        SecretKind.WEBHOOK: changes.webhook,
        SecretKind.HOOK: changes.hook_hash,
    }
    for kind, secret in given.items():
        if secret is not None:
            yield kind


def _saving(before: Destination | None, saved: Destination) -> dict[str, object]:
    new = _described(saved)
    if before is None:
        return {"isNew": True, **new}
    old = _described(before)
    names = [name for name in new.keys() | old.keys() if new.get(name) != old.get(name)]
    changes = {name: {"from": old.get(name), "to": new.get(name)} for name in sorted(names)}
    return {"isNew": False, "name": saved.name, "changes": changes}


def _described(destination: Destination) -> dict[str, object]:
    """A destination without what may be a secret: of the webhook's address the host alone."""
    plain: dict[str, object] = _without_nothing(msgspec.to_builtins(destination))
    plain.pop("destination_id")
    plain.pop("site_id")
    if destination.webhook_url is not None:
        plain["webhook_url"] = host_of(destination.webhook_url)
    return plain


def _without_nothing(value: Any) -> Any:
    """The same without what is not there: most conditions that a filter could have."""
    if isinstance(value, dict):
        return {
            name: _without_nothing(one)
            for name, one in value.items()
            # Of no filters none passes: an empty list says something there.
            if one is not None and one is not False and (one != () or name == "any_of")
        }
    return [_without_nothing(one) for one in value] if isinstance(value, tuple) else value
