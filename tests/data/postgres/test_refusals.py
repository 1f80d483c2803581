"""What an operator is told of a refused event: what to do, and not what the driver said."""

from random import Random

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.events import Event
from data.postgres.append import append, make_partitions_ahead
from data.postgres.engine import LedgerRefused
from data.postgres.refusals import reason_of
from tests.data.redis.queueing import NOW, event

# Too long for an index, however well PostgreSQL compresses it.
LONG = Random(1).randbytes(9_000).hex()


async def refusal(engine: AsyncEngine, *events: Event) -> LedgerRefused:
    with pytest.raises(LedgerRefused) as caught:
        await append(engine, events, [])
    return caught.value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"user_id": "half\0way"}, "holds a character that the database does not store"),
        ({"properties": "{"}, "holds a value that the database does not take"),
        ({"site_id": LONG}, "holds more than the database takes in one place"),
        ({"event_type": None}, "breaks a rule of the database: run `footfall doctor`"),
    ],
    ids=["character", "value", "size", "rule"],
)
async def test_what_is_refused_is_told_in_plain_words(
    changes: dict[str, str | None], told: str, writer: AsyncEngine
) -> None:
    await make_partitions_ahead(writer, NOW)
    bad = msgspec.structs.replace(event(), **changes)
    alone = await refusal(writer, bad)
    among = await refusal(writer, *[event() for _ in range(100)], bad)

    for refused in (alone, among):
        assert told in reason_of(refused)
        said = str(refused).partition(": ")
        assert said[0] not in reason_of(refused)
        assert said[2] not in reason_of(refused)
