"""Vault as the service uses it: opened once, looked after by one task, and held on to when it goes.

All that is needed for serving is held in memory. While Vault is away the service goes on with it,
says so, and tries again; leases that end meanwhile end what hangs on them, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from data.background import Loop, in_background
from data.credentials import Credential, Credentials, Target
from data.secret_errors import SecretsUnreadable
from data.secrets import Secrets, ServiceKeys
from data.vault.address import VaultAddress, VaultLogin
from data.vault.client import VaultClient, VaultRefused, VaultUnavailable
from data.vault.database import DatabaseUser, StandbyUser
from data.vault.stored import StoredSecrets
from data.vault.token import Token
from data.vault.transit import TransitEnvelope
from telemetry.vault_metrics import VaultMetrics

log = structlog.get_logger()

_FORBIDDEN = 403
# However short a lease is, Vault is not asked more often than this.
_SHORTEST_WAIT = 0.2


@dataclass(frozen=True, slots=True)
class VaultPace:
    """How long to wait for an answer, and how often to ask and to say the same thing again.

    A database user is taken to be known everywhere, and to be let in, after `settle_seconds`.
    """

    answer_seconds: float = 3.0
    read_seconds: float = 60.0
    longest_wait_seconds: float = 10.0
    say_again_seconds: float = 60.0
    settle_seconds: float = 10.0
    start_attempts: int = 3


@dataclass(frozen=True, slots=True)
class VaultState:
    """How Vault is. `trouble`: what is wrong, or None. `ends_at`: when the first lease ends."""

    trouble: str | None
    ends_at: datetime | None
    has_ended: bool


class Vault(Secrets):
    """The secrets in Vault. Made by `open_vault`."""

    def __init__(
        self,
        client: VaultClient,
        login: VaultLogin,
        clock: Callable[[], datetime],
        metrics: VaultMetrics,
        pace: VaultPace,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._pace = pace
        self._wake = asyncio.Event()
        self._client = client
        self._token = Token(client, login, metrics.token)
        self._stored = StoredSecrets(client)
        self._user = (
            DatabaseUser(
                client, metrics.database, self._wake.set, settle_seconds=pace.settle_seconds
            )
            if client.address.database_role
            else None
        )
        self._read_at = monotonic()
        self._trouble: str | None = None
        self._away_since = 0.0
        self._held_then = 0.0
        self._warned_at = 0.0
        self._has_told_end = False
        self.envelope = TransitEnvelope(client)

    @property
    def keys(self) -> ServiceKeys:
        """See `Secrets`."""
        return self._stored.keys

    def credentials(self, target: Target) -> Credentials | None:
        """See `Secrets`."""
        if self._user is not None and target != "redis":
            return self._user if target == "database" else StandbyUser(self._user)
        return _Kept(self._stored, target) if self._stored.credential(target) else None

    async def named(self, name: str) -> str:
        """See `Secrets`."""
        return await self._stored.named(name)

    def state(self) -> VaultState:
        """How Vault is, as far as is known; asks nobody."""
        remaining = self._remaining()
        ends_at = None if remaining is None else self._clock() + timedelta(seconds=round(remaining))
        return VaultState(self._trouble, ends_at, remaining == 0)

    async def start(self) -> None:
        """Log in and get everything; raises `VaultUnavailable` or `SecretsUnreadable`."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(VaultUnavailable),
            stop=stop_after_attempt(self._pace.start_attempts),
            wait=wait_exponential_jitter(multiplier=0.3, max=2, jitter=0.2),
            reraise=True,
        )
        await retrying(self._get_everything)
        self._metrics.up.set(1)
        self._metrics.token.tell_seconds(lambda: self._token.life.remaining)
        if self._user is not None:
            user = self._user
            self._metrics.database.tell_seconds(lambda: user.life.remaining)
        log.info("vault.opened", ends_at=self.state().ends_at)

    async def _get_everything(self) -> None:
        if not self._token.serial:  # an attempt before this one may have got that far
            await self._token.obtain()
        await self._stored.read()
        await self._client.transit_version()
        if self._user is not None:
            await self._user.obtain(self._token.serial)

    def keeping(self) -> Loop:
        """What renews, replaces and reads again whatever is due."""
        # Whatever fails, leases go on ending: without this they would all run out.
        return Loop("vault.keep", self._keep, pause=0, retry=self._pace.longest_wait_seconds)

    async def _keep(self) -> None:
        """Wait until something is due, and look after it."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((VaultUnavailable, SecretsUnreadable)),
            wait=wait_exponential_jitter(
                multiplier=0.3, max=self._pace.longest_wait_seconds, jitter=0.3
            ),
            before_sleep=self._note_trouble,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(max(_SHORTEST_WAIT, self._due_in())):
                await self._wake.wait()
        self._wake.clear()
        await retrying(self._look_after)
        self._note_success()

    def _due_in(self) -> float:
        dues = [self._token.due_in, self._read_at + self._pace.read_seconds - monotonic()]
        if self._user is not None:
            dues.append(self._user.due_in)
        return min(dues)

    async def _look_after(self) -> None:
        """One round; a refusal of one thing does not keep the others from being looked after."""
        refused: SecretsUnreadable | None = None
        for step in (self._keep_token, self._keep_user, self._read_again):
            try:
                await step()
            except SecretsUnreadable as error:
                refused = refused or error
                if isinstance(error, VaultRefused) and error.status == _FORBIDDEN:
                    self._token.doubt()
        if refused is not None:
            raise refused

    async def _keep_token(self) -> None:
        await self._token.keep()

    async def _keep_user(self) -> None:
        if self._user is not None:
            await self._user.keep(self._token.serial)

    async def _read_again(self) -> None:
        # Also the call by which a Vault that is away is seen to be back.
        if self._trouble or self._read_at + self._pace.read_seconds <= monotonic():
            await self._stored.read()
            self._read_at = monotonic()

    def _note_trouble(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        was_well, self._trouble = self._trouble is None, str(error)
        self._metrics.up.set(0)
        state = self.state()
        if was_well:
            self._away_since = self._warned_at = monotonic()
            self._held_then = self._remaining() or 0.0
            event = "vault.refused" if isinstance(error, SecretsUnreadable) else "vault.away"
            log.warning(event, reason=self._trouble, ends_at=state.ends_at)
        self._warn_if_ending()

    def _note_success(self) -> None:
        if self._trouble is not None:
            log.warning("vault.back", seconds=round(monotonic() - self._away_since, 1))
        self._trouble, self._held_then = None, 0.0
        self._metrics.up.set(1)
        self._warn_if_ending()

    def _warn_if_ending(self) -> None:
        """Warn at half of what was held, again and again in the last quarter, and at the end."""
        remaining = self._remaining()
        if remaining is None:
            return
        is_new_end = not remaining and not self._has_told_end
        is_half = remaining < self._held_then / 2
        is_silent_for_long = monotonic() - self._warned_at >= self._pace.say_again_seconds
        if not (is_new_end or is_half or (self._is_ending() and is_silent_for_long)):
            return
        self._has_told_end = not remaining
        self._held_then = 0.0 if is_half else self._held_then
        self._warned_at = monotonic()
        event = "vault.leases.ending" if remaining else "vault.leases.ended"
        log.warning(event, reason=self._trouble, ends_at=self.state().ends_at)

    def _is_ending(self) -> bool:
        lives = [self._token.life, *([self._user.life] if self._user else [])]
        return any(life.is_in_last_quarter for life in lives)

    def _remaining(self) -> float | None:
        """Seconds until the first end of anything; None where nothing ends."""
        lives = [self._token.life, *([self._user.life] if self._user else [])]
        return min((life.remaining for life in lives if life.is_finite), default=None)

    async def give_back(self) -> None:
        """End what was lent to this process, unless Vault is away."""
        if self._trouble is None:
            if self._user is not None:
                await self._user.give_back()
            await self._token.give_back()


@dataclass(frozen=True, slots=True)
class _Kept:
    """User and password in the KV store (`Credentials`), as last read."""

    stored: StoredSecrets
    target: Target

    def current(self) -> Credential:
        """See `Credentials`."""
        return self.stored.credential(self.target) or Credential("", "")

    def doubt(self) -> None:
        """See `Credentials`. They are read again soon anyway."""


@asynccontextmanager
async def open_vault(
    address: VaultAddress,
    login: VaultLogin,
    clock: Callable[[], datetime],
    metrics: VaultMetrics,
    pace: VaultPace | None = None,
) -> AsyncIterator[Vault]:
    """Vault, logged in, with everything read that the service needs.

    Raises `VaultUnavailable` where it is away, and `SecretsUnreadable` with what to do.
    """
    pace = pace or VaultPace()
    client = VaultClient(address, answer_seconds=pace.answer_seconds)
    vault = Vault(client, login, clock, metrics, pace)
    try:
        await vault.start()
        async with in_background(vault.keeping()):
            yield vault
    finally:
        await vault.give_back()
        client.close()
