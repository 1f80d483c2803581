"""Dead letters in pages: bounded in bytes, so that no page makes Redis look away."""

from data.redis.dead_letters import LetterPage, letters_after, oldest_letter_ids
from data.redis.queue import Letter, Queue
from tests.data.redis.queueing import queue_on
from tests.fixtures.redis import RedisServer

MEBIBYTE = 1024 * 1024


async def bury(queue: Queue, *sizes: int) -> None:
    """A dead letter of each of these sizes."""
    for size in sizes:
        await queue.append([(1, b"")])
        [taken] = await queue.take("one")
        assert await queue.bury(taken, [Letter(1, b"x" * size, f"{size} bytes")])


async def pages(queue: Queue, most: int) -> list[LetterPage]:
    """All dead letters, page by page."""
    found, after = list[LetterPage](), None
    while True:
        page = await letters_after(queue, after, most)
        found.append(page)
        if not page.has_next:
            return found
        after = page.letters[-1].letter_id


async def test_pages_follow_one_another_without_a_gap(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        empty = await letters_after(queue, None, 3)
        await bury(queue, *range(1, 8))
        found = await pages(queue, 3)
        ids = await oldest_letter_ids(queue, 5)

    assert (empty.letters, empty.has_next) == ([], False)
    assert [[len(one.content) for one in page.letters] for page in found] == [
        [1, 2, 3],
        [4, 5, 6],
        [7],
    ]
    assert ids == [one.letter_id for page in found for one in page.letters][:5]


async def test_a_page_ends_early_where_letters_are_large(redis_server: RedisServer) -> None:
    sizes = [MEBIBYTE, MEBIBYTE // 2, 3 * MEBIBYTE, 10, MEBIBYTE, 10]
    async with queue_on(redis_server) as queue:
        await bury(queue, *sizes)
        found = await pages(queue, 100)

    assert [[len(one.content) for one in page.letters] for page in found] == [
        sizes[:2],
        # Larger than a page may be, and shown all the same.
        sizes[2:3],
        sizes[3:],
    ]


async def test_many_are_replayed_a_few_at_a_time(redis_server: RedisServer) -> None:
    async with queue_on(redis_server) as queue:
        await bury(queue, *range(1, 121))
        ids = await oldest_letter_ids(queue, 110)
        replayed = await queue.replay([*ids, "99-99"])
        again = [len(one.content) for one in await queue.take("one")]
        left = await letters_after(queue, None, 100)

    assert replayed == 110
    assert again == list(range(1, 111))
    assert [len(one.content) for one in left.letters] == list(range(111, 121))
