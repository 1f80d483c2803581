"""Bodies of answers: compressed where that is worth it, and the same each time."""

import gzip

import pytest

from server.bodies import COMPRESSED_BYTES, packed
from server.responses import Answer


def answer(size: int) -> Answer:
    return Answer(200, b"0123456789abcdef" * (size // 16), headers=((b"allow", b"GET"),))


@pytest.mark.parametrize("size", [COMPRESSED_BYTES, 20_000, 1_000_000])
async def test_long_bodies_are_compressed(size: int) -> None:
    plain = answer(size)

    zipped = await packed(plain, b"gzip")

    assert gzip.decompress(zipped.body) == plain.body
    assert len(zipped.body) < len(plain.body) / 2
    assert zipped.headers == (*plain.headers, (b"content-encoding", b"gzip"))
    assert await packed(plain, b"gzip") == zipped


async def test_short_bodies_and_those_for_others_stay_as_they_are() -> None:
    short, long = answer(COMPRESSED_BYTES - 16), answer(20_000)

    assert await packed(short, b"gzip") is short
    assert await packed(long, b"br") is long
    assert await packed(long, b"") is long
