"""Where Vault is, what of it is ours, and how to log in."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from data.secret_errors import SecretsUnreadable


@dataclass(frozen=True, slots=True)
class VaultAddress:
    """A Vault and the places in it that are Footfall's.

    `ca_certificate` is the path of a file (PEM) of those who may have signed Vault's certificate;
    empty: those that this machine trusts. An empty `database_role` asks for no leased credentials.
    """

    url: str
    namespace: str = ""
    ca_certificate: str = ""
    kv_mount: str = "secret"
    secret_path: str = "footfall"  # noqa: S105 - where it is, not what it is
    database_mount: str = "database"
    database_role: str = ""
    transit_key: str = "footfall"

    @property
    def place(self) -> str:
        """The path of the service's own secrets, as people write it."""
        return f"{self.kv_mount}/{self.secret_path}"


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """A token, or role id and secret id (AppRole). What is in a file is read at every login."""

    token: str = field(default="", repr=False)
    token_file: str = ""
    role_id: str = field(default="", repr=False)
    secret_id: str = field(default="", repr=False)
    secret_id_file: str = ""

    @property
    def is_app_role(self) -> bool:
        """Whether each login makes a token of its own."""
        return bool(self.role_id)

    def current_token(self) -> str:
        """The token, read anew where it is in a file; raises `SecretsUnreadable`."""
        return _content(self.token_file, "VAULT_TOKEN_FILE") if self.token_file else self.token

    def current_secret_id(self) -> str:
        """The secret id, read anew where it is in a file; raises `SecretsUnreadable`."""
        if not self.secret_id_file:
            return self.secret_id
        return _content(self.secret_id_file, "VAULT_SECRET_ID_FILE")


def _content(path: str, setting: str) -> str:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise SecretsUnreadable(f"the file of {setting}, {path}, cannot be read: {why}") from None
    if not text:
        raise SecretsUnreadable(f"the file of {setting}, {path}, is empty")
    return text


def check_vault_url(url: str, *, is_production: bool) -> None:
    """Raises ValueError, with what is wrong, unless Vault may be spoken to at this address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an address such as https://vault.example:8200")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it must be scheme, host and port alone, as in https://vault.example:8200")
    try:
        parts.port  # noqa: B018 - the property checks
    except ValueError:
        raise ValueError("its port must be a number from 0 to 65535") from None
    if parts.scheme == "http" and is_production and not _is_loopback(parts.hostname):
        raise ValueError("it must be https:// in production, unless Vault is on this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
