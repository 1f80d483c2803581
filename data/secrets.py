"""Secrets of an embedded service: a file that only its owner can read, made at first start."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.postgres.keys import PREFIX, hash_secret, split_key


class SecretsUnreadable(Exception):
    """The secrets file cannot be read, written or understood; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the service must keep to itself; nothing of it shows in `repr`."""

    admin_key: str = field(repr=False)
    import_key: bytes = field(repr=False)

    @property
    def admin_key_hash(self) -> bytes:
        """The hash to compare the service-wide admin key with."""
        parts = split_key(self.admin_key)
        assert parts is not None  # checked when the file was read
        return hash_secret(parts[1])


ADMIN_KEY_ID = "admin"


def _new_admin_key() -> str:
    return f"{PREFIX}_{ADMIN_KEY_ID}_{secrets.token_hex(32)}"


def load_secrets(path: Path) -> Secrets:
    """The service's secrets, made on the first call; raises `SecretsUnreadable`."""
    try:
        _create(path)
        # The mode is kept strict even where somebody has loosened it.
        path.chmod(0o600)
        return _parse(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise SecretsUnreadable(
            f"the secrets file {path} cannot be used ({error.strerror}); "
            "make its folder writable for this user"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SecretsUnreadable(
            f"the secrets file {path} is damaged; restore it from a backup, or delete it to get "
            "a new admin key"
        ) from error


def _create(path: Path) -> None:
    """Write a new file unless there is one; of several processes the first one wins."""
    if path.exists():
        return
    content = {"admin_key": _new_admin_key(), "import_key": secrets.token_hex(32)}
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        # A link and not a rename: it fails where another process was first.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _parse(content: dict[str, Any], path: Path) -> Secrets:
    parts = split_key(content["admin_key"])
    if parts is None or parts[0] != ADMIN_KEY_ID:
        raise ValueError(path)
    return Secrets(content["admin_key"], bytes.fromhex(content["import_key"]))
