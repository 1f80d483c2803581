"""What the cache of answers keeps, for how long, and for whom it is fetched."""

import asyncio
import gzip

import pytest

from server.response_cache import Kept, Key, ResponseCache, Wish, wish_of

KEY: Key = ("key", b"application/json", b"query=x")


def kept(at: float = 0.0, size: int = 100, max_age: int = 5) -> Kept:
    return Kept(b"x" * size, b"application/json", max_age, at, is_by_name=False)


@pytest.mark.parametrize("size", [2_000, 1_000_000])
async def test_an_answer_is_compressed_once(size: int) -> None:
    one = kept(size=size)

    first, second = await asyncio.gather(one.zipped(), one.zipped())

    assert first is second is await one.zipped()
    assert gzip.decompress(first.body) == one.body
    assert first.etag == one.plain.etag[:-1] + b'-gzip"'
    assert (b"content-encoding", b"gzip") in first.ok
    assert (b"content-encoding", b"gzip") not in one.plain.ok


def test_an_answer_is_fresh_for_as_long_as_it_says() -> None:
    cache = ResponseCache()
    cache.keep(KEY, one := kept(at=100.0))

    assert cache.fresh(KEY, 100.0) is one
    assert cache.fresh(KEY, 104.9) is one
    assert cache.fresh(KEY, 105.0) is None
    assert cache.size == 0


def test_nothing_outlives_a_moment_at_which_all_is_forgotten() -> None:
    cache = ResponseCache()
    cache.keep(KEY, kept(at=100.0))

    cache.clear(101.0)
    assert (cache.fresh(KEY, 101.0), cache.size) == (None, 0)
    # It was being made at that moment.
    cache.keep(KEY, kept(at=100.5))
    assert cache.fresh(KEY, 101.0) is None
    cache.keep(KEY, one := kept(at=101.5))
    assert cache.fresh(KEY, 101.5) is one


def test_nobody_gets_the_answer_of_another_key_or_media_type_or_question() -> None:
    cache = ResponseCache()
    cache.keep(KEY, kept())

    for other in (
        ("other", KEY[1], KEY[2]),
        (KEY[0], b"application/graphql-response+json", KEY[2]),
        (KEY[0], KEY[1], b"query=y"),
    ):
        assert cache.fresh(other, 0.0) is None


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        (None, Wish()),
        (b"", Wish()),
        (b"no-cache", Wish(0.0)),
        (b"No-Cache, foo=bar", Wish(0.0)),
        (b"no-store", Wish(0.0, may_keep=False)),
        (b"no-store, no-cache", Wish(0.0, may_keep=False)),
        (b"max-age=0", Wish(0.0)),
        (b"max-age=3", Wish(3.0)),
        (b'max-age="3", max-stale', Wish(3.0)),
        (b"max-age=soon, only-if-cached", Wish()),
        (b"no-cache, max-age=3", Wish(0.0)),
    ],
)
def test_a_wish_is_read_from_cache_control(header: bytes | None, wish: Wish) -> None:
    assert wish_of(header) == wish


def test_pragma_counts_where_there_is_nothing_newer() -> None:
    assert wish_of(None, b"no-cache") == Wish(0.0)
    assert wish_of(b"max-age=3", b"no-cache") == Wish(3.0)


def test_a_wish_for_something_younger_leaves_the_answer_to_others() -> None:
    cache = ResponseCache()
    cache.keep(KEY, one := kept(at=0.0))

    assert cache.fresh(KEY, 2.0, Wish(1.0)) is None
    assert cache.fresh(KEY, 2.0, Wish(0.0)) is None
    assert cache.fresh(KEY, 2.0, Wish(2.0)) is one


def test_the_cache_is_bounded_by_bytes_and_lets_go_of_what_was_used_longest_ago() -> None:
    cache = ResponseCache(max_bytes=1_000_000)
    keys: list[Key] = [("key", b"", b"%d" % number) for number in range(40)]
    for key in keys[:20]:
        cache.keep(key, kept(size=30_000))
    assert cache.fresh(keys[0], 0.0)

    for key in keys[20:]:
        cache.keep(key, kept(size=30_000))
        assert cache.size <= 1_000_000
        assert cache.fresh(keys[0], 0.0)

    assert cache.fresh(keys[1], 0.0) is None
    assert cache.fresh(keys[-1], 0.0)


def test_an_answer_that_would_push_out_many_is_not_kept() -> None:
    cache = ResponseCache(max_bytes=1_000_000)
    cache.keep(KEY, kept(size=100_000))

    assert cache.fresh(KEY, 0.0) is None
    assert cache.size == 0


def test_keeping_anew_takes_no_more_room() -> None:
    cache = ResponseCache()
    cache.keep(KEY, kept())
    size = cache.size
    cache.keep(KEY, newer := kept(at=3.0))

    assert cache.size == size
    assert cache.fresh(KEY, 6.0) is newer


async def test_who_asks_meanwhile_gets_the_same_answer() -> None:
    cache = ResponseCache()
    async with cache.flight(KEY) as flight:
        waiting = [asyncio.create_task(cache.shared(KEY)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        flight.set_result(one := kept())
        assert await asyncio.gather(*waiting[1:]) == [one, one]

    assert await cache.shared(KEY) is None


async def test_who_waits_for_one_that_fails_must_ask_alone() -> None:
    cache = ResponseCache()

    async def fail() -> None:
        async with cache.flight(KEY):
            await asyncio.sleep(0)
            raise RuntimeError

    failing = asyncio.create_task(fail())
    await asyncio.sleep(0)
    assert await cache.shared(KEY) is None
    with pytest.raises(RuntimeError):
        await failing


async def test_one_that_went_alone_does_not_end_the_flight_of_another() -> None:
    cache = ResponseCache()
    async with cache.flight(KEY) as first:
        async with cache.flight(KEY):
            pass
        waiting = asyncio.create_task(cache.shared(KEY))
        await asyncio.sleep(0)
        first.set_result(one := kept())
        assert await waiting is one
