"""Whether Vault does all that a service will ask of it, for `footfall doctor`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from data.vault.address import VaultAddress, VaultLogin
from data.vault.client import TokenLife, VaultClient, VaultRefused, VaultUnavailable
from data.vault.stored import StoredSecrets
from data.vault.transit import TransitEnvelope

_ANSWER_SECONDS = 5.0


class VaultCheckup:
    """A Vault that one is logged in to, and what it is asked for by a service."""

    def __init__(self, client: VaultClient, *, is_app_role: bool) -> None:
        self._client = client
        self.is_app_role = is_app_role

    async def token(self) -> TokenLife:
        """How long the token holds."""
        return await self._client.look_up_token()

    async def read_secrets(self) -> str:
        """Words on the service's own secrets; raises `SecretsUnreadable`."""
        await StoredSecrets(self._client).read()
        return f"{self._client.address.place} can be read and used"

    async def use_envelope(self) -> str:
        """Words on the transit key, with which something is encrypted and decrypted."""
        envelope = TransitEnvelope(self._client)
        text = await envelope.encrypt(secrets.token_bytes(16), b"checkup")
        await envelope.decrypt(text, b"checkup")
        version = await envelope.newest_version()
        return f"key {self._client.address.transit_key}, version {version}"

    async def make_user(self) -> str | None:
        """Words on a database user that is made and ended; None where none are asked for."""
        if not self._client.address.database_role:
            return None
        lease = await self._client.lease_database_user()
        await self._client.renew_lease(lease)
        await self._client.revoke_lease(lease.lease_id)
        role = self._client.address.database_role
        return f"role {role}: users for {lease.seconds:,.0f} s at a time"


@asynccontextmanager
async def checkup(address: VaultAddress, login: VaultLogin) -> AsyncIterator[VaultCheckup]:
    """A Vault to look over; raises `VaultUnavailable`, or `SecretsUnreadable` for a bad login."""
    async with logged_in(address, login) as client:
        yield VaultCheckup(client, is_app_role=login.is_app_role)


@asynccontextmanager
async def logged_in(address: VaultAddress, login: VaultLogin) -> AsyncIterator[VaultClient]:
    """A client for a few calls by hand; its token is ended where the login has made it."""
    client = VaultClient(address, answer_seconds=_ANSWER_SECONDS)
    try:
        if login.is_app_role:
            await client.log_in(login.role_id, login.current_secret_id())
        else:
            client.use_token(login.current_token())
        yield client
        if login.is_app_role:
            with suppress(VaultRefused, VaultUnavailable):
                await client.revoke_token()
    finally:
        client.close()
