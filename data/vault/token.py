"""The token that every call to Vault carries: got by a login, renewed, replaced before it ends."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

import structlog

from data.vault.address import VaultLogin
from data.vault.client import TokenLife, VaultClient, VaultRefused, VaultUnavailable
from data.vault.lifetime import Lifetime
from telemetry.vault_metrics import LeaseMetrics

log = structlog.get_logger()


class Token:
    """The token in use. `serial` changes with each new one: what the last had leased ends with it."""

    def __init__(self, client: VaultClient, login: VaultLogin, metrics: LeaseMetrics) -> None:
        self._client = client
        self._login = login
        self._metrics = metrics
        self._first = self.life = Lifetime.of(0, asked=monotonic())
        self._is_renewable = False
        self._is_doubted = False
        self._given = ""
        self.serial = 0

    def doubt(self) -> None:
        """Say that Vault refused a call, so that the token is looked at before its time."""
        self._is_doubted = True

    @property
    def due_in(self) -> float:
        """Seconds until `keep` has something to do."""
        return 0.0 if self._is_doubted else self.life.due_in

    async def obtain(self) -> None:
        """Log in; raises `VaultUnavailable`, `VaultRefused` or `SecretsUnreadable`."""
        asked = monotonic()
        if self._login.is_app_role:
            life = await self._client.log_in(self._login.role_id, self._login.current_secret_id())
            self.serial += 1
        else:
            life = await self._look_up_given()
        self._take(life, asked)
        self._first = self.life

    async def _look_up_given(self) -> TokenLife:
        """How long the token that we were given holds; it may be another one in its file by now."""
        token = self._login.current_token()
        self._client.use_token(token)
        life = await self._client.look_up_token()
        if token != self._given:
            self._given = token
            self.serial += 1
        return life

    async def keep(self) -> None:
        """Renew or replace the token if it is time; raises as `obtain` does."""
        if self.due_in > 0:
            return
        before = self.serial
        try:
            if await self._is_renewed():
                self._metrics.renewals["renewed"].inc()
            else:
                await self.obtain()
        except Exception:
            self._metrics.renewals["failed"].inc()
            raise
        self._is_doubted = False
        if self.serial != before:
            self._metrics.renewals["replaced"].inc()
            log.info("vault.token.replaced", seconds=round(self.life.remaining))

    async def _is_renewed(self) -> bool:
        """Whether the same token is ours for about as long as at first."""
        asked = monotonic()
        try:
            if not self._is_renewable or not self.life.is_finite:
                # One that cannot be renewed is good for as long as Vault knows it.
                life = await self._client.look_up_token()
            else:
                life = await self._client.renew_token()
        except VaultRefused:
            return False
        self._take(life, asked)
        if not self.life.is_finite:
            return True
        return self._is_renewable and self.life.is_worth(self._first)

    def _take(self, life: TokenLife, asked: float) -> None:
        self.life = Lifetime.of(life.seconds, asked=asked)
        self._is_renewable = life.is_renewable

    async def give_back(self) -> None:
        """End a token that a login of ours has made; a failure leaves it to end by itself."""
        if self._login.is_app_role and self.serial:
            with suppress(VaultRefused, VaultUnavailable):
                await self._client.revoke_token()
