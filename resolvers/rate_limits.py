"""One request at the door: counted once, and turned away where there were too many."""

from __future__ import annotations

from dataclasses import dataclass

from data.rate_limits import RateLimits, Standing
from resolvers.errors import RateLimited
from telemetry.rate_limits import RateKind


@dataclass(slots=True)
class Meter:
    """Counts one request under the key that it came with, or under its client's address.

    Who has a key that is good counts under it wherever they are: an office behind one address has
    as many allowances as it has keys. Everybody else counts under their address, above all those
    who try keys. See docs/decisions/0027.
    """

    limits: RateLimits
    client: str
    key_id: str | None = None
    standing: Standing | None = None
    is_counted: bool = False

    async def count(self, kind: RateKind) -> None:
        """Count the request, the first time this is called; raises `RateLimited`."""
        if self.is_counted:
            return
        self.is_counted = True
        self.standing = await self.limits.take(kind, self.key_id, self.client)
        if self.standing is not None and not self.standing.is_within:
            wait = max(1, self.standing.reset_seconds)
            what = "requests with events" if kind == "ingest" else "requests"
            raise RateLimited(
                f"more than {self.standing.limit:,} {what} in {self.limits.rates.seconds} s; "
                f"try again in {wait} s",
                retry_after=wait,
            )
