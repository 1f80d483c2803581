"""The spool takes events: on the disk when it answers, within its bounds, whatever the disk does."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data.intake import StoreAway, StoreFull, Taken
from data.postgres.engine import LedgerRefused
from data.spool.records import Spooled
from data.spool.segments import segments_in
from data.spool.store import Spool, SpoolLimits
from telemetry.metrics import Metrics
from tests.data.spool.spooling import SMALL, event, on_disk, rejection, spool_in


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk is like: no file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until_it_can_take(spool: Spool) -> None:
    async with asyncio.timeout(60):
        while not spool.can_take:
            await asyncio.sleep(0.01)


async def test_what_is_acknowledged_is_on_the_disk_in_order(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        for number in range(30):
            sent = [event(user_id=f"{number}-{one}") for one in range(3)]

            assert await spool.submit(sent, [rejection()], 100) == Taken(None)

            assert on_disk(spool.folder)[-1] == Spooled(sent, [rejection()])
        users = [one.user_id for each in on_disk(spool.folder) for one in each.events]
    assert users == [f"{number}-{one}" for number in range(30) for one in range(3)]
    assert len(segments_in(spool.folder)) > 1


async def test_concurrent_requests_share_writes(tmp_path: Path) -> None:
    metrics = Metrics.create()
    async with spool_in(tmp_path, metrics=metrics) as spool:
        await asyncio.gather(*(spool.submit([event()], [], 10) for _ in range(100)))

        assert len(on_disk(spool.folder)) == 100
        writes = metrics.registry.get_sample_value("footfall_spool_write_duration_seconds_count")
        assert writes is not None
        assert writes < 50
        assert (
            metrics.registry.get_sample_value("footfall_spool_events_total", {"outcome": "spooled"})
            == 100
        )
        assert spool.held_bytes == sum(one.stat().st_size for one in segments_in(spool.folder))


async def test_another_start_finds_what_an_earlier_one_left(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        await spool.submit([event(user_id="before")], [], 10)
        held = spool.held_bytes

    async with spool_in(tmp_path) as again:
        assert (again.held_bytes, again.oldest) == (held, spool.oldest)
        assert again.holds.is_set()
        await again.submit([event(user_id="after")], [], 10)
        found = [one.events[0].user_id for one in on_disk(again.folder)]
    assert found == ["before", "after"]


async def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as first, spool_in(tmp_path) as second:
        assert first.folder != second.folder
    async with spool_in(tmp_path) as next_one:
        assert next_one.folder == first.folder


async def test_a_full_spool_refuses_before_it_takes_anything_and_says_when_to_retry(
    tmp_path: Path,
) -> None:
    limits = SpoolLimits(held=9_500, segment=2_000)
    async with spool_in(tmp_path, limits) as spool:
        requests = [spool.submit([event(url="/" + "x" * 500)], [], 10) for _ in range(20)]
        answers = await asyncio.gather(*requests, return_exceptions=True)

        refusals = [one for one in answers if isinstance(one, StoreFull)]
        assert 5 < len(refusals) < 15
        assert refusals[0].retry_after > 1
        assert len(on_disk(spool.folder)) == answers.count(Taken(None)) == 20 - len(refusals)
        assert spool.held_bytes <= limits.held
        assert not spool.can_take


async def test_a_spool_of_no_size_is_switched_off(tmp_path: Path) -> None:
    async with spool_in(tmp_path, SpoolLimits(held=0)) as spool:
        with pytest.raises(StoreAway):
            await spool.submit([event()], [], 10)
        assert not spool.can_take


async def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    limits = SpoolLimits(held=1024 * 1024, look_seconds=0.02)
    small = event(user_id="small")
    async with spool_in(tmp_path, limits) as spool:
        await spool.submit([small], [], 10)
        with files_of_at_most(1_000):
            for _ in range(3):
                with pytest.raises(StoreFull, match="no room"):
                    await spool.submit([event(url="/" + "x" * 5_000)], [], 10)
            assert not spool.can_take
            assert [one.events for one in on_disk(spool.folder)] == [[small]]
            # What fits is still taken.
            await spool.submit([event(user_id="fits")], [], 10)
            with pytest.raises(StoreFull):
                await spool.submit([event(url="/" + "x" * 5_000)], [], 10)

        # Without anybody asking for it, it is found out that the disk works again.
        await until_it_can_take(spool)
        await spool.submit([event(user_id="after")], [], 10)
        users = [one.events[0].user_id for one in on_disk(spool.folder)]
        assert spool.held_bytes == sum(one.stat().st_size for one in segments_in(spool.folder))
    assert users == ["small", "fits", "after"]


async def test_a_disk_that_fails_is_told_apart_from_one_that_is_full(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        await spool.submit([event()], [], 10)
        # The nearest to a broken disk that a test can make: the file is gone from under it.
        os.close(spool.writer._descriptor)

        with pytest.raises(StoreAway, match="disk"):
            await spool.submit([event()], [], 10)

        await spool.submit([event()], [], 10)
        assert len(on_disk(spool.folder)) == 2


async def test_what_no_ledger_would_take_is_not_spooled(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        with pytest.raises(LedgerRefused):
            await spool.submit([event(user_id="\ud800")], [], 10)
        assert segments_in(spool.folder) == []


async def test_a_client_that_goes_away_takes_nobody_with_it(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        leaving = asyncio.create_task(spool.submit([event(user_id="gone")], [], 10))
        staying = asyncio.create_task(spool.submit([event(user_id="here")], [], 10))
        await asyncio.sleep(0)
        leaving.cancel()

        assert await staying == Taken(None)
        assert [one.events[0].user_id for one in on_disk(spool.folder)] == ["gone", "here"]


async def test_what_was_taken_is_on_the_disk_after_closing(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        waiting = [asyncio.create_task(spool.submit([event()], [], 10)) for _ in range(20)]
        await asyncio.sleep(0)

    assert await asyncio.gather(*waiting) == [Taken(None)] * 20
    assert len(on_disk(spool.folder)) == 20
    with pytest.raises(StoreFull):
        await spool.submit([event()], [], 10)


async def test_a_large_request_goes_into_one_segment(tmp_path: Path) -> None:
    sent = [event(url="/" + "x" * 100) for _ in range(1_000)]
    async with spool_in(tmp_path, SMALL) as spool:
        await spool.submit(sent, [], 10)

        assert on_disk(spool.folder) == [Spooled(sent, [])]
        assert len(segments_in(spool.folder)) == 1
