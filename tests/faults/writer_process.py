"""A process that brings groups of events into a ledger, until it is ended: URL, seed and groups."""

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import make_url

from data.events import Event, Rejection, RejectionCode
from data.postgres.append import append
from data.postgres.engine import WRITER, LedgerUnavailable, Login, open_engine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUP = 2_000
BEGUN = "begun\n"


def groups(seed: int, count: int) -> Iterator[list[Event]]:
    """The same groups for the same seed, too large for a connection to take in one go."""
    chance = random.Random(seed)
    for _ in range(count):
        yield [
            Event(
                event_id=UUID(int=chance.getrandbits(128)),
                site_id="shop",
                event_type="view",
                occurred_at=NOW,
                received_at=NOW,
                properties=f'{{"text": "{"x" * 400}"}}',
            )
            for _ in range(GROUP)
        ]


def rejection() -> Rejection:
    """One that goes along with a group."""
    return Rejection("shop", RejectionCode.INVALID_URL, "no URL", "{}", 2, NOW)


async def main(url: str, seed: int, count: int) -> None:
    """Append one group after the other, as a service does."""
    async with open_engine(Login(make_url(url), WRITER)) as engine:
        await append(engine, [], [])
        sys.stdout.write(BEGUN)
        sys.stdout.flush()
        for group in groups(seed, count):
            # What it was at when it was frozen may have been ended meanwhile.
            with suppress(LedgerUnavailable):
                await append(engine, group, [rejection()], seconds=10)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
