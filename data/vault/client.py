"""Vault's HTTP API as far as it is used: each call in a thread, bounded in time, with two errors.

The library blocks, so no call of it happens in the event loop. `VaultUnavailable` may pass by
itself: no answer, sealed, overloaded. `VaultRefused` stays until somebody changes something.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import hvac
import requests
from hvac.exceptions import (
    Forbidden,
    InvalidPath,
    InvalidRequest,
    ParamValidationError,
    Unauthorized,
    VaultDown,
    VaultError,
)

from data.credentials import Credential
from data.secret_errors import SecretsUnavailable, SecretsUnreadable
from data.vault.address import VaultAddress

T = TypeVar("T")

_THREADS = 4
_LONGEST_REASON = 200
# A request is bounded by the library for each of its steps; this bounds all of them together.
_STEPS = 2
_NOT_FOUND = 404
_STATUSES: Mapping[type[VaultError], int] = {Unauthorized: 401, Forbidden: 403, InvalidPath: 404}
_REFUSALS = (InvalidRequest, Unauthorized, Forbidden, InvalidPath, ParamValidationError)


class VaultUnavailable(SecretsUnavailable):
    """Vault does not answer, is sealed or overloaded; it may come back by itself."""


class VaultRefused(SecretsUnreadable):
    """Vault answers and does not do what it is asked; `status` is 400, 403 or 404."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TokenLife:
    """How long a token holds: `seconds` from now, None for ever."""

    seconds: float | None
    is_renewable: bool


@dataclass(frozen=True, slots=True)
class DatabaseLease:
    """A user that Vault has made in the database, for so many `seconds` from now."""

    lease_id: str = field(repr=False)
    credential: Credential
    seconds: float
    is_renewable: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept under a path, and which version of it."""

    content: Mapping[str, Any] = field(repr=False)
    version: int


class VaultClient:
    """One Vault. `answer_seconds` bounds connecting, and each wait for an answer."""

    def __init__(self, address: VaultAddress, *, answer_seconds: float) -> None:
        self.address = address
        self._seconds = answer_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="vault")
        self._hvac = _made_client(address, answer_seconds)
        # Logins go without a token, while other calls still use the one of before.
        self._door = _made_client(address, answer_seconds)

    def close(self) -> None:
        """Begin no more calls; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._hvac.session.close()
        self._door.session.close()

    def use_token(self, token: str) -> None:
        """Call with this token from now on."""
        self._hvac.token = token

    async def log_in(self, role_id: str, secret_id: str) -> TokenLife:
        """A new token by AppRole, used from now on."""
        login = partial(self._door.auth.approle.login, role_id, secret_id, use_token=False)

        def parse(answer: Any) -> TokenLife:
            self.use_token(answer["auth"]["client_token"])
            return _life(answer["auth"])

        return await self._ask("log in by VAULT_ROLE_ID and VAULT_SECRET_ID", login, parse)

    async def look_up_token(self) -> TokenLife:
        """How long the token in use holds."""
        return await self._ask(
            "look its token up",
            self._hvac.auth.token.lookup_self,
            lambda answer: _given_life(answer["data"]),
        )

    async def renew_token(self) -> TokenLife:
        """The token in use, for longer."""
        return await self._ask(
            "renew its token",
            self._hvac.auth.token.renew_self,
            lambda answer: _life(answer["auth"]),
        )

    async def revoke_token(self) -> None:
        """End the token in use, and with it all that was leased by it."""
        await self._ask("revoke its token", self._hvac.auth.token.revoke_self, _nothing)

    async def read(self, path: str) -> Stored | None:
        """What is under a path of the KV store; None: nothing, or it was deleted."""
        mount = self.address.kv_mount
        read = partial(
            self._hvac.secrets.kv.v2.read_secret_version,
            path,
            mount_point=mount,
            raise_on_deleted_version=True,
        )

        def parse(answer: Any) -> Stored:
            return Stored(dict(answer["data"]["data"]), int(answer["data"]["metadata"]["version"]))

        try:
            return await self._ask(f"read {mount}/{path}", read, parse)
        except VaultRefused as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise

    async def names(self, path: str) -> list[str]:
        """The names right below a path of the KV store."""
        mount = self.address.kv_mount
        listing = partial(self._hvac.secrets.kv.v2.list_secrets, path, mount_point=mount)
        try:
            return await self._ask(
                f"list {mount}/{path}", listing, lambda answer: list(answer["data"]["keys"])
            )
        except VaultRefused as refused:
            if refused.status == _NOT_FOUND:
                return []
            raise

    async def write(self, path: str, content: Mapping[str, Any], *, version: int | None) -> None:
        """Write a new version; if `version` (0: nothing) is what is there now, unless it is None."""
        mount = self.address.kv_mount
        write = partial(
            self._hvac.secrets.kv.v2.create_or_update_secret,
            path,
            dict(content),
            cas=version,
            mount_point=mount,
        )
        await self._ask(f"write {mount}/{path}", write, _nothing)

    async def delete(self, path: str) -> None:
        """Take a path of the KV store away, with all versions."""
        mount = self.address.kv_mount
        delete = partial(
            self._hvac.secrets.kv.v2.delete_metadata_and_all_versions, path, mount_point=mount
        )
        await self._ask(f"delete {mount}/{path}", delete, _nothing)

    async def encrypt(self, plaintext: bytes, context: bytes) -> str:
        """A text by the transit key, derived for this context."""
        key = self.address.transit_key
        encrypt = partial(
            self._hvac.secrets.transit.encrypt_data,
            key,
            plaintext=_packed(plaintext),
            context=_packed(context),
        )
        return await self._ask(f"encrypt by the transit key {key}", encrypt, _ciphertext)

    async def decrypt(self, text: str, context: bytes) -> bytes:
        """What was encrypted for this context."""
        key = self.address.transit_key
        decrypt = partial(
            self._hvac.secrets.transit.decrypt_data, key, ciphertext=text, context=_packed(context)
        )
        return await self._ask(
            f"decrypt by the transit key {key}",
            decrypt,
            lambda answer: base64.b64decode(answer["data"]["plaintext"]),
        )

    async def rewrap(self, text: str, context: bytes) -> str:
        """The same under the newest version of the transit key."""
        key = self.address.transit_key
        rewrap = partial(
            self._hvac.secrets.transit.rewrap_data, key, text, context=_packed(context)
        )
        return await self._ask(f"rewrap by the transit key {key}", rewrap, _ciphertext)

    async def transit_version(self) -> int:
        """The newest version of the transit key; raises `SecretsUnreadable` if it will not do."""
        key = self.address.transit_key

        def parse(answer: Any) -> int:
            # Vault takes a context for any key, and heeds it only for one that is derived.
            if answer["data"]["derived"] is not True:
                raise SecretsUnreadable(
                    f"the transit key {key} is not derived, so what it encrypts belongs to no "
                    "context: name another by VAULT_TRANSIT_KEY, which deploy/vault/setup.py makes"
                )
            return int(answer["data"]["latest_version"])

        read = partial(self._hvac.secrets.transit.read_key, key)
        return await self._ask(f"see the transit key {key}", read, parse)

    async def rotate_transit(self) -> None:
        """Add a version to the transit key."""
        key = self.address.transit_key
        rotate = partial(self._hvac.secrets.transit.rotate_key, key)
        await self._ask(f"rotate the transit key {key}", rotate, _nothing)

    async def lease_database_user(self) -> DatabaseLease:
        """A new user in the database."""
        role, mount = self.address.database_role, self.address.database_mount
        generate = partial(
            self._hvac.secrets.database.generate_credentials, role, mount_point=mount
        )

        def parse(answer: Any) -> DatabaseLease:
            user, password = answer["data"]["username"], answer["data"]["password"]
            return DatabaseLease(
                answer["lease_id"],
                Credential(user, password, is_leased=True),
                float(answer["lease_duration"]),
                bool(answer["renewable"]),
            )

        return await self._ask(f"make a database user by {mount}/creds/{role}", generate, parse)

    async def renew_lease(self, lease: DatabaseLease) -> DatabaseLease:
        """The same user, for longer."""
        return await self._ask(
            "renew its database user",
            partial(self._hvac.sys.renew_lease, lease.lease_id),
            lambda answer: replace(
                lease,
                seconds=float(answer["lease_duration"]),
                is_renewable=bool(answer["renewable"]),
            ),
        )

    async def revoke_lease(self, lease_id: str) -> None:
        """End a lease, and with it the user."""
        revoke = partial(self._hvac.sys.revoke_lease, lease_id)
        await self._ask("revoke its database user", revoke, _nothing)

    async def _ask(self, what: str, call: Callable[[], Any], parse: Callable[[Any], T]) -> T:
        try:
            async with asyncio.timeout(_STEPS * self._seconds):
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, call)
            return parse(answer)
        except _REFUSALS as error:
            refusal = f"Vault does not let it {what} ({_gist(error)})"
            raise VaultRefused(refusal, _STATUSES.get(type(error), 400)) from None
        except VaultDown as error:
            is_sealed = "sealed" in _gist(error)
            raise VaultUnavailable("it is sealed" if is_sealed else _gist(error)) from None
        except VaultError as error:
            raise VaultUnavailable(_gist(error)) from None
        except requests.exceptions.SSLError:
            raise VaultUnavailable("its certificate is not one that can be trusted") from None
        except (requests.exceptions.Timeout, TimeoutError):
            raise VaultUnavailable("it does not answer in time") from None
        except (requests.exceptions.RequestException, OSError):
            raise VaultUnavailable("it cannot be connected to") from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise VaultUnavailable("what answers there does not speak as Vault does") from None


def _made_client(address: VaultAddress, answer_seconds: float) -> hvac.Client:
    # Every argument is given: the library would look into the environment for the rest.
    client = hvac.Client(
        url=address.url.rstrip("/"),
        token="",
        verify=address.ca_certificate or True,
        timeout=answer_seconds,
        namespace=address.namespace or None,
    )
    # No proxy, no `.netrc`, no other certificates by the environment's word.
    client.session.trust_env = False
    if address.url.startswith("https://"):
        # A redirection must not take the token on to a connection that others can read.
        client.session.adapters.pop("http://")
    return client


def _packed(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _life(auth: Mapping[str, Any]) -> TokenLife:
    return TokenLife(float(auth["lease_duration"]), bool(auth["renewable"]))


def _given_life(token: Mapping[str, Any]) -> TokenLife:
    # A `ttl` of 0 is said of tokens without an end, such as root's, and in the last second as well.
    is_endless = token.get("expire_time") is None and not token["ttl"]
    return TokenLife(None if is_endless else float(token["ttl"]), bool(token.get("renewable")))


def _ciphertext(answer: Any) -> str:
    return str(answer["data"]["ciphertext"])


def _nothing(_answer: Any) -> None:
    return None


def _gist(error: VaultError) -> str:
    """What Vault said, in a line; never the address asked, nor what was sent."""
    said = ", ".join(error.errors or ()) or type(error).__name__
    return " ".join(said.split())[:_LONGEST_REASON]
