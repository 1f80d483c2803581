"""A user in the database that Vault has made for this process, and its successors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import structlog

from data.credentials import Credential
from data.vault.client import DatabaseLease, VaultClient, VaultRefused, VaultUnavailable
from data.vault.lifetime import Lifetime
from telemetry.vault_metrics import LeaseMetrics

log = structlog.get_logger()


class DatabaseUser:
    """The user to log in as (`Credentials`): its lease is renewed, and replaced before it ends."""

    def __init__(
        self,
        client: VaultClient,
        metrics: LeaseMetrics,
        on_doubt: Callable[[], None],
        *,
        settle_seconds: float,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._on_doubt = on_doubt
        self._settle_seconds = settle_seconds
        self._lease: DatabaseLease | None = None
        self._former: list[tuple[DatabaseLease, Lifetime]] = []
        self._first = self.life = Lifetime.of(0, asked=monotonic())
        self._token_serial = 0
        self._is_doubted = False

    def current(self) -> Credential:
        """See `Credentials`."""
        assert self._lease is not None  # had when Vault was opened
        return self._lease.credential

    def doubt(self) -> None:
        """See `Credentials`."""
        # A database that lets nobody in must not have Vault make one user after another.
        if monotonic() - self._first.began > self._settle_seconds:
            self._is_doubted = True
            self._on_doubt()

    @property
    def due_in(self) -> float:
        """Seconds until `keep` has something to do."""
        return 0.0 if self._is_doubted else self.life.due_in

    async def obtain(self, token_serial: int) -> None:
        """Have Vault make a new user; raises `VaultUnavailable` or `VaultRefused`."""
        asked = monotonic()
        lease = await self._client.lease_database_user()
        if self._lease is not None:
            self._former = [one for one in self._former if one[1].remaining]
            self._former.append((self._lease, self.life))
        self._lease = lease
        self._token_serial = token_serial
        self._first = self.life = Lifetime.of(lease.seconds, asked=asked)

    async def keep(self, token_serial: int) -> None:
        """Renew or replace the user if it is time, or if the token that it hangs on was replaced.

        Raises as `obtain` does.
        """
        is_orphaned = token_serial != self._token_serial
        if self.due_in > 0 and not is_orphaned:
            return
        try:
            if not self._is_doubted and not is_orphaned and await self._is_renewed():
                self._metrics.renewals["renewed"].inc()
            else:
                await self.obtain(token_serial)
                self._metrics.renewals["replaced"].inc()
                log.info("vault.database_user.replaced", seconds=round(self.life.remaining))
        except Exception:
            self._metrics.renewals["failed"].inc()
            raise
        self._is_doubted = False

    async def _is_renewed(self) -> bool:
        """Whether the same user is ours for about as long as at first."""
        assert self._lease is not None
        if not self._lease.is_renewable:
            return False
        asked = monotonic()
        try:
            self._lease = await self._client.renew_lease(self._lease)
        except VaultRefused:
            return False
        self.life = Lifetime.of(self._lease.seconds, asked=asked)
        return self.life.is_worth(self._first)

    async def give_back(self) -> None:
        """End the leases that have not ended yet; a failure leaves them to end by themselves."""
        current = [(self._lease, self.life)] if self._lease else []
        for lease, life in (*self._former, *current):
            if life.remaining:
                with suppress(VaultRefused, VaultUnavailable):
                    await self._client.revoke_lease(lease.lease_id)

    def settled(self) -> Credential:
        """What to log in with on a standby.

        A user made on the primary is there a moment later. Until then the former one serves,
        where it has not ended.
        """
        if self._former and monotonic() - self._first.began < self._settle_seconds:
            lease, life = self._former[-1]
            if life.remaining:
                return lease.credential
        return self.current()


class StandbyUser:
    """The same user for connections to a standby (`Credentials`), which learns of it later."""

    def __init__(self, user: DatabaseUser) -> None:
        self._user = user

    def current(self) -> Credential:
        """See `Credentials`."""
        return self._user.settled()

    def doubt(self) -> None:
        """See `Credentials`."""
        # The standby may merely be behind; a user that has ended shows on the primary as well.
