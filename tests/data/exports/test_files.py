"""How a selection becomes files: in order, of bounded size, with nothing left on disk."""

import asyncio
import hashlib
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.event_store import StoreUnavailable
from data.events import Event
from data.exports.cutting import Cutter
from data.exports.failures import DiskFull
from data.exports.files import open_parts, remove_leftovers
from data.exports.layout import (
    MIN_FILE_BYTES,
    Arrivals,
    Compression,
    FileFormat,
    Layout,
    Selection,
)
from data.exports.manifest import manifest_of
from data.exports.orders import PrefixInvalid, RunOrder, checked_prefix
from data.exports.source import Stack
from data.exports.tally import Tally
from data.queries import EVERYTHING, EventFilter, Field, PropertyFilter, StringFilter
from tests.data.duckdb.examples import make_event
from tests.data.exports.conftest import BEGUN, Exporter, proof_of
from tests.data.exports.readers import by_python

SMALL = Layout(FileFormat.JSONL, Compression.NONE, ("event_type", "url"), MIN_FILE_BYTES)


def noise(number: int, characters: int) -> str:
    """A text that no compression makes much of."""
    return random.Random(number).randbytes(characters // 2).hex()


async def feed_events(exporter: Exporter, batches: int, each: int, size: int) -> list[Event]:
    """Batches with events of two sites, of which those of `site` are given back."""
    events = []
    for batch in range(batches):
        numbers = range(batch * each, batch * each + each)
        brought = [
            make_event(
                number + 1,
                f"2026-01-{1 + number % 28:02}T00:00",
                url=noise(number, size),
                event_type=f"kind-{number % 4}",
                site_id="other" if number % 5 == 4 else "site",
            )
            for number in numbers
        ]
        await exporter.feed(*brought)
        events += [event for event in brought if event.site_id == "site"]
    return events


async def ids_in(exporter: Exporter, layout: Layout) -> list[str]:
    written = await exporter.write(layout)
    return [row["event_id"] for part in written.parts for row in by_python(part.path, layout)]


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("each", FileFormat)
async def test_files_hold_each_event_once_in_order_of_arrival_and_keep_to_their_size(
    exporter: Exporter, each: FileFormat, compression: Compression
) -> None:
    events = await feed_events(exporter, batches=20, each=1_000, size=400)
    layout = Layout(each, compression, ("event_type", "url"), MIN_FILE_BYTES)

    written = await exporter.write(layout)

    found = [row["event_id"] for part in written.parts for row in by_python(part.path, layout)]
    assert found == [str(event.event_id) for event in events]
    assert len(written.parts) > 2
    assert [part.number for part in written.parts] == list(range(1, len(written.parts) + 1))
    for part in written.parts:
        data = part.path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (
            part.digest.bytes,
            part.digest.sha256,
        )
        assert len(data) <= MIN_FILE_BYTES
    assert written.tally.taken == written.tally.everything == proof_of(events)
    assert sum(written.tally.days.values()) == len(events)
    assert len(written.tally.days) == 28


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        EventFilter(fields=((Field.EVENT_TYPE, StringFilter(ne="kind-0")),)),
        EventFilter(fields=((Field.EVENT_TYPE, StringFilter(in_=("kind-1", "kind-2"))),)),
        EventFilter(
            negated=EventFilter(
                any_of=(
                    EventFilter(properties=(PropertyFilter("n", StringFilter(not_in=("1",))),)),
                )
            )
        ),
    ],
)
async def test_many_events_are_in_order_of_arrival_whatever_the_filter(
    exporter: Exporter, wanted: EventFilter
) -> None:
    await exporter.store._runner.run("fill", "write", fill)
    for layout in (SMALL, Layout(FileFormat.PARQUET, max_file_bytes=MIN_FILE_BYTES * 16)):
        written = await exporter.write(layout, Selection("site", 0, 400, wanted))

        found = [
            UUID(row["event_id"]).int
            for part in written.parts
            for row in by_python(part.path, layout)
        ]
        assert len(found) > 90_000
        assert found == sorted(found)


def fill(cursor: duckdb.DuckDBPyConnection) -> None:
    """400,000 events, far more than one thread takes at a time, with ids in order of arrival."""
    cursor.execute(
        "insert into events select 'site', printf('00000000-0000-0000-0000-%012x', n)::uuid,"
        " 'kind-' || n % 4, timestamp '2026-01-01', timestamp '2026-01-01', null, null, null,"
        " null, null, null, null, printf('{\"n\":%d}', n % 3), (1 + n // 1000) * 65536 + n % 1000"
        " from range(400000) as numbers (n)"
    )
    cursor.execute("update copy_state set position = 400, batch_id = 400, committed_at = 0")


async def test_consecutive_runs_neither_overlap_nor_leave_a_gap(exporter: Exporter) -> None:
    events = await feed_events(exporter, batches=12, each=50, size=10)

    found = []
    for after, through in ((0, 1), (1, 1), (1, 7), (7, 12)):
        written = await exporter.write(SMALL, Selection("site", after, through))
        found += [row["event_id"] for part in written.parts for row in by_python(part.path, SMALL)]

    assert found == [str(event.event_id) for event in events]


async def test_nothing_to_export_is_no_file(exporter: Exporter) -> None:
    await exporter.feed(make_event(1, site_id="other"))

    nothing = await exporter.write(SMALL)
    no_feed = await exporter.write(SMALL, Selection("site", 0, 0))
    unfit = EventFilter(fields=((Field.EVENT_TYPE, StringFilter(eq="nothing")),))
    filtered = await exporter.write(SMALL, Selection("other", 0, 1, unfit))

    assert nothing.parts == no_feed.parts == filtered.parts == []
    assert nothing.tally.everything.events == 0
    assert (filtered.tally.taken.events, filtered.tally.everything.events) == (0, 1)


async def test_a_backfill_takes_a_range_of_time(exporter: Exporter) -> None:
    for batch in range(3):
        await exporter.feed(
            *(make_event(100 * batch + day, f"2026-01-{day:02}T12:00") for day in range(1, 28))
        )
    since, until = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 7, 12, tzinfo=UTC)

    selection = Selection("site", 0, 3, since=since, until=until)
    written = await exporter.write(SMALL, selection)

    rows = [row for part in written.parts for row in by_python(part.path, SMALL)]
    assert [UUID(row["event_id"]).int for row in rows] == [5, 6, 105, 106, 205, 206]
    assert written.tally.everything.events == 6
    assert selection.is_backfill


async def test_a_copy_that_is_not_as_far_gives_no_file(exporter: Exporter) -> None:
    await exporter.feed(make_event(1))

    with pytest.raises(StoreUnavailable, match="the copy is at position 1, the run goes up to 2"):
        await exporter.write(SMALL, Selection("site", 0, 2))


async def test_two_files_at_most_lie_on_disk_and_none_afterwards(exporter: Exporter) -> None:
    await feed_events(exporter, batches=10, each=2_000, size=400)
    order = RunOrder(UUID(int=7), BEGUN, Selection("site", 0, 10), SMALL)

    seen = 0
    async with open_parts(lambda: exporter.store, order, exporter.folder) as parts:
        async for part in parts:
            # What comes next gets all the time that it takes to be there.
            await asyncio.sleep(0.2)
            on_disk = list((exporter.folder / str(order.run_id)).iterdir())
            assert part.path in on_disk
            assert len(on_disk) <= 2
            seen += 1

    assert seen > 3
    assert list(exporter.folder.iterdir()) == []


async def test_whoever_stops_in_the_middle_leaves_nothing_behind(exporter: Exporter) -> None:
    await feed_events(exporter, batches=10, each=2_000, size=400)
    for compression in Compression:
        layout = Layout(FileFormat.JSON, compression, max_file_bytes=MIN_FILE_BYTES)
        order = RunOrder(UUID(int=7), BEGUN, Selection("site", 0, 10), layout)

        async def run(order: RunOrder = order) -> None:
            async with open_parts(lambda: exporter.store, order, exporter.folder) as parts:
                async for _ in parts:
                    await asyncio.sleep(3600)

        task = asyncio.create_task(run())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert list(exporter.folder.iterdir()) == []


async def test_leftovers_of_a_killed_process_are_thrown_away(tmp_path: Path) -> None:
    left = tmp_path / "exports" / str(UUID(int=1)) / "part-00001.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text("{}")

    remove_leftovers(tmp_path / "exports")
    remove_leftovers(tmp_path / "exports")

    assert not left.exists()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk is like: no file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("each", [FileFormat.PARQUET, FileFormat.JSONL])
async def test_a_full_disk_is_told_as_one_and_the_next_run_works(
    exporter: Exporter, each: FileFormat, compression: Compression
) -> None:
    events = await feed_events(exporter, batches=2, each=2_000, size=400)
    layout = Layout(each, compression, max_file_bytes=MIN_FILE_BYTES)

    with files_of_at_most(64 * 1024), pytest.raises(DiskFull, match="free some room"):
        await exporter.write(layout)
    assert list(exporter.folder.iterdir()) == []

    assert len(await ids_in(exporter, layout)) == len(events)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    most=st.integers(1, 60),
)
async def test_cuts_leave_nothing_out_and_are_never_too_long(counts: list[int], most: int) -> None:
    places = [
        position * 65_536 + ordinal
        for position, count in enumerate(counts, 1)
        for ordinal in range(count)
    ]
    cutter = Cutter(lambda: Counted(places), Selection("site", 0, len(counts)), whole(counts))  # type: ignore[arg-type, return-value]

    taken: list[int] = []
    while (stack := await cutter.take(most)) is not None:
        inside = [
            place for place in places if stack.arrivals.after < place <= stack.arrivals.through
        ]
        assert len(inside) == stack.events <= most
        taken += inside

    assert taken == places


def whole(counts: list[int]) -> Arrivals:
    return Selection("site", 0, len(counts)).arrivals


class Counted:
    """Counts places in a list, in a few stretches only, so that cuts must look closer."""

    def __init__(self, places: list[int]) -> None:
        self._places = places

    async def export_stacks(
        self, _selection: Selection, arrivals: Arrivals, _most: int
    ) -> list[Stack]:
        width = -(-arrivals.width // 5)
        stacks = []
        for after in range(arrivals.after, arrivals.through, width):
            through = min(after + width, arrivals.through)
            events = sum(after < place <= through for place in self._places)
            if events:
                stacks.append(Stack(Arrivals(after, through), events))
        return stacks


def test_names_sort_in_the_order_of_the_feed() -> None:
    orders = [
        RunOrder(UUID(int=99 - number), BEGUN, Selection("site", 0, through), SMALL, "/a/b/")
        for number, through in enumerate((1, 9, 10, 99, 1_000, 2**40))
    ]

    names = [order.file_name(number) for order in orders for number in (1, 2, 10)]
    manifests = [order.manifest_name for order in orders]

    assert names == sorted(names)
    assert manifests == sorted(manifests)
    assert names[0] == (
        "a/b/events/day=2026-03-05/0000000000000000001-00000000-0000-0000-0000-000000000063-001-00001"
        ".jsonl"
    )
    assert manifests[0] == (
        "a/b/manifests/day=2026-03-05/0000000000000000001-00000000-0000-0000-0000-000000000063.json"
    )


@pytest.mark.parametrize("prefix", ["", "manifests/day=1", "events/day=1", "a/manifests/day=b/c"])
def test_the_files_of_a_manifest_are_found_whatever_its_prefix(prefix: str) -> None:
    order = RunOrder(UUID(int=1), BEGUN, Selection("site", 0, 7), SMALL, prefix)
    manifest = manifest_of(order, (), Tally(), BEGUN)
    assert manifest.files_prefix == order.files_prefix


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("a/../b", "must not go through '..'"),
        ("..", "must not go through '..'"),
        ("a//b", "two slashes"),
        ("a/b\n", "not every tool"),
        ("a/ b", "not every tool"),
        ("ü", "not every tool"),
        ("a?b", "not every tool"),
        ("x" * 600, "512 bytes"),
    ],
)
def test_prefixes_that_lead_astray_are_refused(prefix: str, complaint: str) -> None:
    with pytest.raises(PrefixInvalid, match=complaint):
        checked_prefix(prefix)


def test_a_prefix_may_begin_and_end_with_a_slash_or_be_none() -> None:
    assert checked_prefix("/exports/site=1/") == "exports/site=1"
    assert checked_prefix("/") == checked_prefix("") == ""
