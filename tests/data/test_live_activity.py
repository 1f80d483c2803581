"""Live activity: whole seconds, the latest value, and no value rather than a wrong one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from data.live_streams import ActivityStream
from data.queries import Activity
from tests.data.live_scene import NOW, SECONDS, Scene, opened, until

SECOND = timedelta(seconds=1)


@dataclass
class Clock:
    """A clock that stands until it is set; it goes on by itself from `base` on."""

    base: datetime = NOW
    since: float = 0.0

    def __call__(self) -> datetime:
        return self.base + timedelta(seconds=asyncio.get_running_loop().time() - self.since)

    def set(self, base: datetime) -> None:
        self.base, self.since = base, asyncio.get_running_loop().time()


@pytest.fixture
async def clock() -> Clock:
    clock = Clock()
    clock.set(NOW)
    return clock


@pytest.fixture
async def scene(
    writer: AsyncEngine, reader: AsyncEngine, tmp_path: Path, clock: Clock
) -> AsyncIterator[Scene]:
    async with opened(writer, reader, tmp_path, clock) as one:
        yield one


async def next_of(stream: ActivityStream) -> Activity:
    async with asyncio.timeout(SECONDS):
        return await anext(stream)


async def followed(scene: Scene, rows: int) -> None:
    await until(lambda: scene.value("follow_applied_rows_total") >= rows)


async def test_the_first_value_comes_at_once_and_then_one_a_second(
    scene: Scene, clock: Clock
) -> None:
    clock.set(NOW + 10.2 * SECOND)
    at = NOW + 10 * SECOND
    await scene.commit(
        scene.event(occurred_at=at, user_id="ann", path="/a"),
        scene.event(occurred_at=at - 299 * SECOND, user_id="ann", path="/b"),
        scene.event(occurred_at=at - 300 * SECOND, user_id="old", path="/old"),
        scene.event(occurred_at=at + SECOND, visitor_id="soon", path="/b"),
        scene.event(occurred_at=at, site_id="blog", user_id="bob"),
    )
    await followed(scene, 5)
    stream = scene.live.activity("shop")

    assert await next_of(stream) == Activity(at, 1, 2, ("/a", "/b"))
    assert clock() < at + SECOND
    assert await next_of(stream) == Activity(at + SECOND, 2, 2, ("/a", "/b"))
    assert clock() >= at + SECOND
    assert (await next_of(stream)).at == at + 2 * SECOND


async def test_who_joins_gets_the_latest_value_at_once(scene: Scene) -> None:
    first = scene.live.activity("shop")
    value = await next_of(first)
    before = scene.reads("activity_changes")

    more = [scene.live.activity("shop") for _ in range(100)]
    values = [await next_of(stream) for stream in more]

    assert {one.at for one in values} <= {value.at, value.at + SECOND}
    assert scene.reads("activity_changes") - before <= 2


async def test_events_that_come_late_count_in_their_second(scene: Scene, clock: Clock) -> None:
    stream = scene.live.activity("shop")
    await next_of(stream)
    await scene.commit(scene.event(occurred_at=NOW - 250 * SECOND, user_id="late", path="/late"))
    async with asyncio.timeout(SECONDS):
        while (await anext(stream)).users != 1:
            pass
    clock.set(NOW + 45 * SECOND)
    assert (await newest(stream, NOW + 45 * SECOND)).users == 1
    clock.set(NOW + 50 * SECOND)

    assert (await newest(stream, NOW + 50 * SECOND)).users == 0


async def newest(stream: ActivityStream, at: datetime) -> Activity:
    """The first value of this moment or a later one."""
    async with asyncio.timeout(SECONDS):
        async for value in stream:
            if value.at >= at:
                return value
    raise AssertionError("the stream ended")


async def test_a_slow_reader_gets_the_latest_value_alone(scene: Scene) -> None:
    slow, watching = scene.live.activity("shop"), scene.live.activity("shop")
    values = [await next_of(watching) for _ in range(3)]

    assert await next_of(slow) == values[-1]


async def test_nothing_is_counted_while_nobody_watches(scene: Scene) -> None:
    await asyncio.sleep(1.2)
    assert scene.reads("activity_changes") == 0
    stream = scene.live.activity("shop")
    await next_of(stream)
    await stream.aclose()
    await asyncio.sleep(1.1)
    counted = scene.reads("activity_changes")

    await asyncio.sleep(1.2)

    assert scene.reads("activity_changes") == counted
    assert scene.value("live_open_streams", field="liveActivity") == 0


async def test_all_sites_share_a_question(scene: Scene) -> None:
    streams = [scene.live.activity(f"site-{number}") for number in range(50)]
    for stream in streams:
        await next_of(stream)
    before = scene.reads("activity_changes")
    ticks = scene.value("live_activity_ticks_total")

    for stream in streams:
        await next_of(stream)

    assert scene.reads("activity_changes") - before == (
        scene.value("live_activity_ticks_total") - ticks
    )


async def test_a_copy_that_is_built_anew_gives_no_numbers_that_are_too_small(
    scene: Scene, clock: Clock
) -> None:
    for number in range(30):
        await scene.commit(scene.event(occurred_at=NOW, user_id=f"u{number}"))
    await followed(scene, 30)
    stream = scene.live.activity("shop")
    counts = {(await next_of(stream)).users}

    for _ in range(3):
        await scene.start_over()
        counts.add((await next_of(stream)).users)
        await scene.follower.rebuild(lambda *_: None)
        counts.add((await next_of(stream)).users)

    assert counts == {30}


async def test_no_value_comes_while_following_fails(scene: Scene) -> None:
    stream = scene.live.activity("shop")
    await next_of(stream)
    scene.follower.copy = None  # type: ignore[assignment]
    await until(lambda: scene.value("follow_slices_total", outcome="failed") >= 1)
    await asyncio.sleep(1.1)
    ticks = scene.value("live_activity_ticks_total")
    await asyncio.sleep(2)
    assert scene.value("live_activity_ticks_total") == ticks
    scene.follower.copy = scene.copy

    assert (await newest(stream, NOW + 4 * SECOND)).users == 0


async def test_a_clock_that_is_put_back_is_believed(scene: Scene, clock: Clock) -> None:
    clock.set(NOW + 100 * SECOND)
    await scene.commit(
        scene.event(occurred_at=NOW, user_id="a"),
        scene.event(occurred_at=NOW + 90 * SECOND, user_id="b"),
    )
    await followed(scene, 2)
    stream = scene.live.activity("shop")
    assert (await newest(stream, NOW + 100 * SECOND)).users == 2
    clock.set(NOW + 50 * SECOND)

    async with asyncio.timeout(SECONDS):
        async for value in stream:
            if value.at < NOW + 90 * SECOND:
                break

    assert value.users == 1


async def test_windows_that_are_too_large_are_counted_by_the_copy(scene: Scene) -> None:
    scene.live.current_activity.most_entries = 30
    at = NOW - SECOND
    await scene.commit(
        *(scene.event(occurred_at=at, user_id=f"u{n}", path=f"/{n}") for n in range(40)),
        *(scene.event(occurred_at=at, site_id="blog", user_id=f"u{n}") for n in range(5)),
    )
    await followed(scene, 45)
    large, small = scene.live.activity("shop"), scene.live.activity("blog")
    values = [(await next_of(large), await next_of(small)) for _ in range(3)]

    expected = tuple(sorted(f"/{n}" for n in range(40)))[:10]
    assert {(one.users, one.events, one.top_paths) for one, _ in values} == {(40, 40, expected)}
    assert {(one.users, one.events, one.top_paths) for _, one in values} == {(5, 5, ())}
    assert scene.reads("activity") >= 1
    windows = scene.live.current_activity._sites
    assert [windows[site].window is None for site in ("shop", "blog")] == [True, False]
