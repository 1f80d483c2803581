"""What a key may spend: a budget of points that an operation draws on and that fills up again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil

import msgspec

from resolvers.errors import QueryTooExpensive, RateLimited

# Keys whose budgets are remembered. A forgotten one begins anew with a full budget, which whoever
# was not seen for so long has again anyway.
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What operations may take.

    In points: one of them, all of a key's together, and what comes back to a key per second. And
    the seconds of one.
    """

    operation: int = 200_000
    maximum: int = 1_000_000
    restore_rate: int = 50_000
    seconds: float = 30.0


# A struct, as every operation is told its own.
class ThrottleState(msgspec.Struct, frozen=True):
    """What is left of a key's budget, in points; `restore_rate` is per second."""

    maximum: int
    available: int
    restore_rate: int


@dataclass(slots=True)
class _Account:
    available: float
    seen_at: float


@dataclass(slots=True)
class Throttle:
    """The budgets of all keys in this process. Moments are monotonic seconds."""

    allowance: Allowance = field(default_factory=Allowance)
    _accounts: OrderedDict[str, _Account] = field(default_factory=OrderedDict)

    def reserve(self, key_id: str, points: int, at: float) -> None:
        """Take the points off a key's budget.

        Raises `QueryTooExpensive` where no operation may cost so much, and `RateLimited` where
        the budget does not hold as much now; then nothing is taken.
        """
        most = self.allowance.operation
        if points > most:
            raise QueryTooExpensive(
                f"the operation costs {points:,} points; one may cost {most:,}: ask for fewer "
                "fields, shorter ranges or smaller pages",
                limit="cost",
                maximum=most,
                found=points,
            )
        account = self._account(key_id, at)
        if points > account.available:
            wait = max(1, ceil((points - account.available) / self.allowance.restore_rate))
            raise RateLimited(
                f"the operation costs {points:,} points and the key has "
                f"{int(account.available):,} left; try again in {wait} s",
                retry_after=wait,
            )
        account.available -= points

    def settle(self, key_id: str, unused: int, at: float) -> ThrottleState:
        """Put back what an operation had reserved and did not need; what is left then."""
        account = self._account(key_id, at)
        account.available = min(self.allowance.maximum, account.available + unused)
        return self._state(account)

    def state(self, key_id: str, at: float) -> ThrottleState:
        """What is left of a key's budget."""
        return self._state(self._account(key_id, at))

    def _state(self, account: _Account) -> ThrottleState:
        allowance = self.allowance
        return ThrottleState(allowance.maximum, int(account.available), allowance.restore_rate)

    def _account(self, key_id: str, at: float) -> _Account:
        allowance = self.allowance
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(allowance.maximum, at)
            if len(self._accounts) > MAX_KEYS:
                self._accounts.popitem(last=False)
            return account
        self._accounts.move_to_end(key_id)
        if at > account.seen_at:
            account.available += (at - account.seen_at) * allowance.restore_rate
        account.available = min(account.available, allowance.maximum)
        account.seen_at = at
        return account
