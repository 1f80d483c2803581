"""Master keys of an embedded service: a file with all versions, the newest of which encrypts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from data.private_files import read_private, sole_writer, write_private
from data.secret_errors import SecretsUnreadable

# What is encrypted by the master keys beside it.
NAMED_FILE = "named-secrets.json"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All versions, 256 bits each; `newest` is 0 where there is none."""

    newest: int
    _by_version: Mapping[int, bytes] = field(repr=False)

    def has(self, version: int) -> bool:
        """Whether texts of this version can be read."""
        return version in self._by_version

    def of(self, version: int) -> bytes:
        """One key; raises KeyError."""
        return self._by_version[version]

    def tag(self, version: int) -> str:
        """Which key it is, for texts to name: two of the same version differ in it."""
        name = blake2b(self._by_version[version], digest_size=4, person=b"footfall-key-tag")
        return f"v{version}.{name.hexdigest()}"


def read_master_keys(path: Path) -> MasterKeys:
    """What is in the file, if there is one; raises `SecretsUnreadable`."""
    try:
        return _parse(read_private(path)) if path.exists() else MasterKeys(0, {})
    except OSError as error:
        raise SecretsUnreadable(
            f"the master keys {path} cannot be read ({error.strerror}): let this user own the file"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SecretsUnreadable(
            f"the master keys {path} are damaged: restore the file from a backup, as nothing that "
            "they have encrypted can be read without it"
        ) from None


def add_master_key(path: Path, *, only_first: bool = False) -> MasterKeys:
    """All keys with a new one as the newest; with `only_first` one is made only if there is none."""
    keys = read_master_keys(path)
    if only_first and keys.newest:
        return keys
    try:
        with sole_writer(path):
            keys = read_master_keys(path)
            if only_first and keys.newest:
                return keys
            if not keys.newest:
                _require_nothing_encrypted(path)
            newest = keys.newest + 1
            grown = MasterKeys(newest, {**keys._by_version, newest: os.urandom(_BYTES)})
            write_private(path, _content(grown))
            return grown
    except OSError as error:
        raise SecretsUnreadable(
            f"the master keys {path} cannot be written ({error.strerror}): make its folder "
            "writable for this user, and see that there is room"
        ) from error


def _require_nothing_encrypted(path: Path) -> None:
    """Raises `SecretsUnreadable` where there must have been keys: new ones could not read it."""
    named = path.with_name(NAMED_FILE)
    if named.exists() and read_private(named) != {}:
        raise SecretsUnreadable(
            f"the master keys {path} are gone, and {named} was encrypted by them: restore the file "
            f"from a backup, or delete {named} and set those secrets again"
        )


def _content(keys: MasterKeys) -> dict[str, Any]:
    return {
        "newest": keys.newest,
        "keys": {str(version): key.hex() for version, key in keys._by_version.items()},
    }


def _parse(content: dict[str, Any]) -> MasterKeys:
    by_version = {int(version): bytes.fromhex(key) for version, key in content["keys"].items()}
    newest = int(content["newest"])
    if newest not in by_version or any(len(key) != _BYTES for key in by_version.values()):
        raise ValueError("keys of another length, or the newest is not there")
    return MasterKeys(newest, by_version)
