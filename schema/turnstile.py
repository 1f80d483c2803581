"""A pace for work that must not crowd out other work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Turnstile:
    """Lets through so many steps a second, those of all who come taken together.

    After a pause up to `burst` steps pass at once. Who has to wait does so in order of arrival.
    """

    rate: float
    burst: float
    _free_at: float = float("-inf")

    async def pass_through(self, steps: int = 1) -> None:
        """Return when it is the caller's turn."""
        now = asyncio.get_running_loop().time()
        earliest = now - self.burst / self.rate
        self._free_at = max(self._free_at, earliest) + steps / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
