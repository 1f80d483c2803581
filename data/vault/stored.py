"""What the service keeps in Vault's KV store: its own keys, passwords, and secrets by name.

`<mount>/<path>` holds the fields `admin_key` and `import_key` and, where Vault makes no database
users, pairs like `database_username` and `database_password`. `<mount>/<path>/named/<NAME>` holds
one secret each, in the field `value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import structlog

from data.credentials import Credential, Target
from data.secret_errors import SecretsUnreadable
from data.secret_names import check_name
from data.secrets import ServiceKeys, fresh_keys, missing, parse_keys
from data.vault.client import VaultClient, VaultRefused

log = structlog.get_logger()

_CONFLICT = 400


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    keys: ServiceKeys
    credentials: Mapping[Target, Credential] = field(repr=False)


class StoredSecrets:
    """The service's own secrets in the KV store, as they were when they were last read."""

    def __init__(self, client: VaultClient) -> None:
        self._client = client
        self._path = client.address.secret_path
        self._kept: _Kept | None = None

    @property
    def keys(self) -> ServiceKeys:
        """The service's own keys."""
        assert self._kept is not None  # read when Vault was opened
        return self._kept.keys

    def credential(self, target: Target) -> Credential | None:
        """User and password, where they are kept here."""
        assert self._kept is not None
        return self._kept.credentials.get(target)

    async def read(self) -> None:
        """Read everything anew; raises `SecretsUnreadable`, `VaultRefused`, `VaultUnavailable`.

        What was read before stays where the new content cannot be understood.
        """
        place = self._client.address.place
        stored = await self._client.read(self._path)
        if stored is None:
            raise SecretsUnreadable(
                f"Vault has nothing at {place}: run `footfall secrets init` with a token that may "
                "write there, or put admin_key (ff_admin_ and 64 hexadecimal digits) and "
                "import_key (64 hexadecimal digits) there"
            )
        if self._kept is not None and stored.version == self._kept.version:
            return
        try:
            kept = _Kept(stored.version, parse_keys(stored.content), _credentials(stored.content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            which = str(error) if isinstance(error, ValueError) else "a field is missing"
            raise SecretsUnreadable(
                f"what Vault has at {place} cannot be used ({which}): put admin_key (ff_admin_ and "
                "64 hexadecimal digits) and import_key (64 hexadecimal digits) there"
            ) from None
        if self._kept is not None:
            log.info("vault.secrets.changed", version=kept.version)
        self._kept = kept

    async def named(self, name: str) -> str:
        """A secret by its name; raises `SecretMissing` and as `read` does."""
        stored = await self._client.read(named_path(self._path, check_name(name)))
        value = stored.content.get("value") if stored else None
        if not isinstance(value, str):
            raise missing(name)
        return value


def named_path(path: str, name: str = "") -> str:
    """Where a named secret is, or with no name all of them."""
    return f"{path}/named/{name}".rstrip("/")


async def write_fresh(client: VaultClient) -> bool:
    """Put new keys into the KV store unless some are there; whether that was so."""
    path = client.address.secret_path
    if await client.read(path) is not None:
        return False
    try:
        await client.write(path, fresh_keys(), version=0)
    except VaultRefused as refused:
        # Somebody else was first, or there was something that has been deleted.
        if refused.status != _CONFLICT or "check-and-set" not in str(refused):
            raise
        if await client.read(path) is None:
            raise SecretsUnreadable(
                f"what was at {client.address.place} has been deleted: undelete it, or delete its "
                "metadata as well and run this again for new keys"
            ) from None
        return False
    return True


def _credentials(content: Mapping[str, Any]) -> Mapping[Target, Credential]:
    found: dict[Target, Credential] = {}
    targets: tuple[Target, ...] = get_args(Target)
    for target in targets:
        user, password = content.get(f"{target}_username"), content.get(f"{target}_password")
        if password is None and user is None:
            continue
        if not isinstance(password, str) or not isinstance(user or "", str):
            raise ValueError(f"{target}_username and {target}_password must both be texts")  # noqa: TRY004
        found[target] = Credential(user or "", password)
    return found


async def set_named(client: VaultClient, name: str, value: str) -> None:
    """Keep a secret under a name."""
    path = named_path(client.address.secret_path, check_name(name))
    await client.write(path, {"value": value}, version=None)


async def named_names(client: VaultClient) -> list[str]:
    """The names of all named secrets, sorted."""
    return sorted(await client.names(named_path(client.address.secret_path)))


async def remove_named(client: VaultClient, name: str) -> None:
    """Forget a secret, with all its versions; raises `SecretMissing`."""
    path = named_path(client.address.secret_path, check_name(name))
    if await client.read(path) is None:
        raise missing(name)
    await client.delete(path)


async def rotate_transit(client: VaultClient) -> int:
    """Add a version to the transit key; its number."""
    await client.rotate_transit()
    return await client.transit_version()
