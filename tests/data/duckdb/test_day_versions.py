"""Day versions: what came when, as the copy and its process know it at any time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.day_versions import DayVersions, Touched
from data.duckdb.store import DuckDBStore, open_copy
from data.event_store import StoreUnavailable
from data.events import Event
from tests.data.duckdb.examples import LEDGER, Feed, make_event, mark
from tests.slices import Batch, write_slice

DAY = timedelta(days=1)
# Around the borders of blocks of days, at both ends of the calendar, and far apart.
ORDINALS = st.sampled_from(
    [1, 2, 63, 64, 65, 127, 128, 738_000, 738_047, 738_048, 738_049, 738_112, 738_500, 3_652_059]
) | st.integers(737_900, 738_200)


def utc(day: int) -> datetime:
    return datetime.combine(date.fromordinal(day), datetime.min.time(), UTC)


def of_days(versions: DayVersions, first: int, last: int, site: str = "site") -> int:
    """The version of some days, both ends included."""
    return versions.of(site, utc(first), utc(last) + DAY if last < 3_652_059 else None)


@given(
    touches=st.lists(st.tuples(ORDINALS, st.integers(1, 50)), max_size=30),
    ranges=st.lists(st.tuples(ORDINALS, ORDINALS), min_size=1, max_size=10),
)
def test_the_version_of_a_range_is_the_newest_of_its_days(
    touches: list[tuple[int, int]], ranges: list[tuple[int, int]]
) -> None:
    versions = DayVersions()
    for day, position in touches:
        versions.advance([Touched("site", day, position)], mark(position))

    for one, other in ranges:
        first, last = min(one, other), max(one, other)
        inside = [position for day, position in touches if first <= day <= last]
        assert of_days(versions, first, last) == max(inside, default=0)
    assert versions.of("site", None, None) == max((p for _, p in touches), default=0)
    assert versions.of("other", None, None) == 0


def test_what_nobody_knows_is_not_taken_for_nothing() -> None:
    unknown, empty = DayVersions(), DayVersions()
    empty.advance([], None)

    assert [unknown.is_known, empty.is_known] == [False, True]
    assert [unknown.position, empty.position] == [-1, 0]


MARCH = date(2024, 3, 1).toordinal()


def seen(store: DuckDBStore) -> list[int]:
    """The versions of the first five days of March."""
    return [of_days(store.day_versions, MARCH + n, MARCH + n) for n in range(5)]


async def test_slices_move_the_versions_of_the_days_that_they_touch(
    store: DuckDBStore, feed: Feed
) -> None:
    await feed(make_event(1, "2024-03-01T00:00"), make_event(2, "2024-03-03T23:59:59.999999"))
    assert seen(store) == [1, 0, 1, 0, 0]
    await feed(make_event(3, "2024-03-03T12:00"))
    assert seen(store) == [1, 0, 2, 0, 0]
    await feed(make_event(4, "2024-03-03T12:00", site_id="other"))
    assert seen(store) == [1, 0, 2, 0, 0]
    await feed()
    assert seen(store) == [1, 0, 2, 0, 0]
    assert store.day_versions.watermark == mark(4)
    await feed(make_event(5, "1969-12-31T12:00"), make_event(6, "9999-12-31T12:00"))
    assert seen(store) == [1, 0, 2, 0, 0]
    assert store.day_versions.of("site", None, None) == 5
    assert store.day_versions.of("site", None, datetime(1970, 1, 1, tzinfo=UTC)) == 5
    assert store.day_versions.of("site", None, datetime(1969, 12, 31, tzinfo=UTC)) == 0


async def test_a_slice_of_several_batches_has_the_place_of_each(
    store: DuckDBStore, tmp_path: Path
) -> None:
    batches = [
        Batch(3, [make_event(1, "2024-03-01T12:00"), make_event(2, "2024-03-02T12:00")]),
        Batch(9, [make_event(3, "2024-03-02T12:00")]),
        Batch(12, []),
    ]
    rows = write_slice(tmp_path / "slice.csv", batches)
    await store.apply(tmp_path / "slice.csv", rows, mark(12))

    assert seen(store) == [3, 9, 0, 0, 0]
    assert store.day_versions.position == 12


async def test_a_slice_that_is_refused_changes_nothing(
    store: DuckDBStore, feed: Feed, tmp_path: Path
) -> None:
    await feed(make_event(1, "2024-03-01T12:00"))
    rows = write_slice(tmp_path / "next.csv", [Batch(2, [make_event(2, "2024-03-02T12:00")])])

    with pytest.raises(StoreUnavailable):
        await store.apply(tmp_path / "next.csv", rows + 1, mark(2))

    assert seen(store) == [1, 0, 0, 0, 0]
    assert store.day_versions.position == 1


async def test_they_are_known_again_after_a_restart(path: Path) -> None:
    async with open_copy(path, ledger_id=LEDGER) as store:
        feed = Feed(store, path.parent)
        await feed(make_event(1, "2024-03-01T12:00"), make_event(2, "2024-03-02T12:00"))
        await feed(make_event(3, "2024-03-02T12:00"))
        before = seen(store)
    async with open_copy(path, ledger_id=LEDGER) as store:
        assert not store.day_versions.is_known
        await store.learn_versions(await store.watermark())
        assert seen(store) == before == [1, 2, 0, 0, 0]
        assert store.day_versions.watermark == mark(2)


async def test_an_empty_copy_is_known_to_be_empty(store: DuckDBStore) -> None:
    await store.learn_versions(await store.watermark())
    assert store.day_versions.is_known
    assert store.day_versions.position == 0


async def test_a_commit_of_which_nobody_heard_is_made_up_for(
    store: DuckDBStore, feed: Feed, tmp_path: Path
) -> None:
    await feed(make_event(1, "2024-03-01T12:00"))
    rows = write_slice(tmp_path / "next.csv", [Batch(2, [make_event(2, "2024-03-02T12:00")])])
    await store.apply(tmp_path / "next.csv", rows, mark(2))
    # As if it had been cancelled at the last moment: the copy has it, and the process was not told.
    store.day_versions = DayVersions()
    store.day_versions.advance([Touched("site", MARCH, 1)], mark(1))

    await store.learn_versions(await store.watermark())

    assert seen(store) == [1, 2, 0, 0, 0]


@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["site", "other"])), max_size=5),
        min_size=1,
        max_size=6,
    )
)
async def test_versions_in_memory_are_those_of_the_events(
    tmp_path_factory: pytest.TempPathFactory, batches: Sequence[Sequence[tuple[int, str]]]
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    start = datetime(2023, 12, 31, 23, 30, tzinfo=UTC)
    async with open_copy(folder / "copy.duckdb", ledger_id=LEDGER) as store:
        feed = Feed(store, folder)
        events: list[tuple[int, Event]] = []
        for place, batch in enumerate(batches, 1):
            new = [
                make_event(
                    number,
                    (start + hours * DAY / 24).replace(tzinfo=None).isoformat(),
                    site_id=site,
                )
                for number, (hours, site) in enumerate(batch, 1)
            ]
            await feed(*new)
            events += [(place, event) for event in new]
            for site in ("site", "other"):
                for day in range(start.toordinal() - 1, start.toordinal() + 20):
                    expected = [
                        position
                        for position, event in events
                        if event.site_id == site and event.occurred_at.toordinal() == day
                    ]
                    assert of_days(store.day_versions, day, day, site) == max(expected, default=0)
