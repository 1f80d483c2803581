"""Secrets of an embedded service: three files under its home folder, for its owner only.

`secrets.json` holds the service's own keys, `master-keys.json` what everything else is encrypted
by, and `named-secrets.json` the secrets that operators set by name, encrypted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from data.credentials import Credentials, Target
from data.envelope import LocalEnvelope, opened, rewrapped, sealed
from data.master_keys import NAMED_FILE, MasterKeys, add_master_key, read_master_keys
from data.private_files import read_private, sole_writer, write_private
from data.secret_errors import SecretsUnreadable, Undecipherable
from data.secret_names import check_name
from data.secrets import Secrets, ServiceKeys, load_secrets, missing


class LocalSecrets(Secrets):
    """The secrets in a home folder. Reads the service's own keys at once; `SecretsUnreadable`."""

    def __init__(self, home: Path) -> None:
        self._keys = load_secrets(home / "secrets.json")
        self._named = NamedSecrets(home)
        self.envelope = LocalEnvelope(home / "master-keys.json")

    @property
    def keys(self) -> ServiceKeys:
        """See `Secrets`."""
        return self._keys

    def credentials(self, _target: Target) -> Credentials | None:
        """None: the settings' URLs say what to log in with."""
        return None

    async def named(self, name: str) -> str:
        """See `Secrets`."""
        return await asyncio.to_thread(self._named.get, name)


class NamedSecrets:
    """Secrets by name in a file, each encrypted under its name. Blocking; for commands, too."""

    def __init__(self, home: Path) -> None:
        self._path = home / NAMED_FILE
        self._master_path = home / "master-keys.json"

    def get(self, name: str) -> str:
        """One secret; raises `SecretMissing`."""
        text = self._texts().get(check_name(name))
        if text is None:
            raise missing(name)
        return _opened(read_master_keys(self._master_path), name, text)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._texts())

    def set(self, name: str, value: str) -> None:
        """Keep a secret under a name, in place of the one that was there."""
        check_name(name)
        keys = add_master_key(self._master_path, only_first=True)
        text = sealed(keys, value.encode(), _context(name))
        self._change(lambda texts: texts | {name: text})

    def remove(self, name: str) -> None:
        """Forget a secret; raises `SecretMissing`."""

        def without(texts: dict[str, str]) -> dict[str, str]:
            if name not in texts:
                raise missing(name)
            return {other: text for other, text in texts.items() if other != name}

        self._change(without)

    def rotate(self) -> tuple[int, int]:
        """Make a new master key and move all named secrets on to it; its version and how many.

        Raises `SecretsUnreadable`, and then has changed nothing, where one cannot be read.
        """
        version, moved = 0, 0

        def rewrap(texts: dict[str, str]) -> dict[str, str]:
            nonlocal version, moved
            before = read_master_keys(self._master_path)
            for name, text in texts.items():
                _opened(before, name, text)
            keys = add_master_key(self._master_path)
            version, moved = keys.newest, len(texts)
            return {name: rewrapped(keys, text, _context(name)) for name, text in texts.items()}

        self._change(rewrap)
        return version, moved

    def _texts(self) -> dict[str, str]:
        try:
            content = read_private(self._path) if self._path.exists() else {}
            return {str(name): str(text) for name, text in content.items()}
        except OSError as error:
            raise SecretsUnreadable(
                f"the named secrets {self._path} cannot be read ({error.strerror}): let this user "
                "own the file"
            ) from error
        except (ValueError, AttributeError):
            raise SecretsUnreadable(
                f"the named secrets {self._path} are damaged: restore the file from a backup, or "
                "delete it and set them again"
            ) from None

    def _change(self, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        try:
            with sole_writer(self._path):
                before = self._texts()
                after = change(before)
                if after != before:
                    write_private(self._path, after)
        except OSError as error:
            raise SecretsUnreadable(
                f"the named secrets {self._path} cannot be written ({error.strerror}): make the "
                "folder writable for this user, and see that there is room"
            ) from error


def _opened(keys: MasterKeys, name: str, text: str) -> str:
    try:
        return opened(keys, text, _context(name)).decode()
    except Undecipherable as error:
        raise SecretsUnreadable(
            f"the secret {name!r} cannot be decrypted ({error}): set it again with "
            f"`footfall secrets set {name}`"
        ) from None


def _context(name: str) -> bytes:
    return b"named-secret:" + name.encode()
