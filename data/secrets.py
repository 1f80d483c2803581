"""What the service must keep to itself, wherever it is kept: a file, or Vault.

An embedded service has a file that only its owner can read, made at first start.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.credentials import Credentials, Target
from data.envelope import Envelope
from data.postgres.keys import PREFIX, hash_secret, split_key
from data.private_files import read_private, write_private
from data.secret_errors import SecretMissing, SecretsUnreadable

ADMIN_KEY_ID = "admin"
# 256 bits, as `fresh_keys` makes them.
_DIGITS = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """The keys of the service itself; nothing of them shows in `repr`."""

    admin_key: str = field(repr=False)
    import_key: bytes = field(repr=False)
    # What the service-wide admin key is compared with, at every request that sends it.
    admin_key_hash: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = split_key(self.admin_key)
        assert parts is not None  # checked when it was read
        object.__setattr__(self, "admin_key_hash", hash_secret(parts[1]))


class Secrets(ABC):
    """All secrets of a running service. What it says may change while the service runs.

    `envelope` encrypts what is kept for others.
    """

    envelope: Envelope

    @property
    @abstractmethod
    def keys(self) -> ServiceKeys:
        """The service's own keys as they are now, from memory."""

    @abstractmethod
    def credentials(self, target: Target) -> Credentials | None:
        """What to log in with; None: what the URL in the settings says."""

    @abstractmethod
    async def named(self, name: str) -> str:
        """A secret that an operator has set by name, such as a header of a source.

        Raises `SecretMissing`, `SecretsUnreadable` or `SecretsUnavailable`.
        """

    @property
    def admin_key(self) -> str:
        """The service-wide admin key, as it is sent."""
        return self.keys.admin_key

    @property
    def admin_key_hash(self) -> bytes:
        """The hash to compare the service-wide admin key with."""
        return self.keys.admin_key_hash

    @property
    def import_key(self) -> bytes:
        """What visitors in access logs are told apart by."""
        return self.keys.import_key


def missing(name: str) -> SecretMissing:
    """What is said of a name that nothing is kept under."""
    return SecretMissing(f"there is no secret {name!r}: set it with `footfall secrets set {name}`")


def fresh_keys() -> dict[str, Any]:
    """New random keys, in the form in which they are kept."""
    return {
        "admin_key": f"{PREFIX}_{ADMIN_KEY_ID}_{secrets.token_hex(32)}",
        "import_key": secrets.token_hex(32),
    }


def parse_keys(content: Mapping[str, Any]) -> ServiceKeys:
    """The keys out of what is kept; raises ValueError, KeyError or TypeError, without showing it."""
    parts = split_key(content["admin_key"])
    # Of what somebody has thought up, the hash would not keep long.
    if parts is None or parts[0] != ADMIN_KEY_ID or not _DIGITS.fullmatch(parts[1]):
        raise ValueError("admin_key does not look like one")
    if not _DIGITS.fullmatch(content["import_key"]):
        raise ValueError("import_key does not look like one")
    return ServiceKeys(content["admin_key"], bytes.fromhex(content["import_key"]))


def load_secrets(path: Path) -> ServiceKeys:
    """The keys in a file, which is made on the first call; raises `SecretsUnreadable`."""
    try:
        if not path.exists():
            write_private(path, fresh_keys(), only_new=True)
        return parse_keys(read_private(path))
    except OSError as error:
        raise SecretsUnreadable(
            f"the secrets file {path} cannot be used ({error.strerror}); "
            "make its folder writable for this user"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not chained: what cannot be parsed is shown by some errors, and may be most of a key.
        raise SecretsUnreadable(
            f"the secrets file {path} is damaged; restore it from a backup, or delete it to get "
            "a new admin key"
        ) from None
