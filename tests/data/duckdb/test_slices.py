"""Slices of the ledger: every text as it was, all or nothing, and once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.duckdb.store import DuckDBStore, open_copy
from data.event_store import StoreUnavailable
from data.events import Event, StoredEvent
from data.queries import EventsQuery
from tests.data.duckdb.examples import (
    EARLY,
    LEDGER,
    UTC_ZONE,
    Feed,
    make_event,
    mark,
    numbers,
)
from tests.slices import Batch, stored, write_slice

NASTY = st.sampled_from(
    [
        "",
        "\\N",
        '"',
        '""',
        "\\.",
        "NULL",
        "\r\n",
        "\n",
        "\r",
        "\\",
        '\\"',
        ",",
        " ",
        "\ufeff",
        "\\N\n",
    ]
) | st.text(
    st.sampled_from("\",\n\r\\N \t;|'#.ab\ufeff\u2028\x1a\x01\x7f\x85é\U0001f600")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=30,
)
MAYBE = st.none() | NASTY
EVENTS = st.builds(
    make_event,
    st.integers(1, 10**9),
    event_type=NASTY,
    user_id=MAYBE,
    visitor_id=MAYBE,
    session_id=MAYBE,
    url=MAYBE,
    path=MAYBE,
    referrer=MAYBE,
    properties=st.none() | st.dictionaries(NASTY, NASTY, max_size=3).map(json.dumps),
)


async def everything(store: DuckDBStore) -> list[StoredEvent]:
    """All events of the site, oldest arrival first."""
    query = EventsQuery("site", UTC_ZONE, first=1_000_000)
    return sorted((await store.events([query])).rows[0], key=lambda event: event.arrival)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=4))
async def test_whatever_the_texts_hold_they_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Event]]
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    numbered = [Batch(position, events) for position, events in enumerate(batches, 1)]
    async with open_copy(folder / "copy.duckdb", ledger_id=LEDGER) as store:
        rows = write_slice(folder / "slice.csv", numbered)
        await store.apply(folder / "slice.csv", rows, mark(len(numbered)))

        assert await everything(store) == stored(numbered)


async def test_quoted_line_breaks_may_lie_across_the_borders_of_buffers(
    store: DuckDBStore, feed: Feed
) -> None:
    # 34 MB, more than two of the reader's buffers, almost all of it quotes and line breaks.
    text = ('"\n' * 11 + "\r\n,") * 300
    events = [make_event(number, url=text + str(number)) for number in range(1, 2_501)]
    await feed(*events)

    assert await everything(store) == stored([Batch(1, events)])


async def test_the_largest_event_fits(store: DuckDBStore, feed: Feed) -> None:
    quotes = json.dumps({"text": '"' * 64 * 1024})
    await feed(make_event(1, properties=quotes, url="\n" * 32 * 1024))

    assert await everything(store) == stored(
        [Batch(1, [make_event(1, properties=quotes, url="\n" * 32 * 1024)])]
    )


async def test_times_keep_their_microseconds_before_1970_too(
    store: DuckDBStore, feed: Feed
) -> None:
    events = [
        make_event(1, "0001-01-05T00:00:00.000001"),
        make_event(2, "1969-12-31T23:59:59.999999"),
        make_event(3, "2024-02-29T00:00:00"),
        make_event(4, "9999-12-25T23:59:59.999999"),
    ]
    await feed(*events)

    assert await everything(store) == stored([Batch(1, events)])


async def test_the_watermark_moves_with_the_slice(store: DuckDBStore, feed: Feed) -> None:
    assert await store.watermark() is None
    assert (await store.events([])).watermark is None

    assert await store.watermark() is None
    await feed(make_event(1))

    assert await store.watermark() == mark(1)
    assert (await store.events([])).watermark == mark(1)


async def test_a_batch_without_events_moves_the_watermark(store: DuckDBStore, feed: Feed) -> None:
    await feed()

    assert await store.watermark() == mark(1)


async def applied(store: DuckDBStore, path: Path, expected: int) -> str:
    """What the store says against a slice, after a look that it changed nothing."""
    before = await store.watermark(), await numbers(store)
    with pytest.raises(StoreUnavailable) as refusal:
        await store.apply(path, expected, mark(2))
    assert (await store.watermark(), await numbers(store)) == before
    return str(refusal.value)


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_another_number_of_rows_changes_nothing(
    store: DuckDBStore, feed: Feed, tmp_path: Path, expected: int
) -> None:
    await feed(make_event(1))
    path = tmp_path / "next.csv"
    write_slice(path, [Batch(2, [make_event(2), make_event(3)])])

    assert "has 2 rows" in await applied(store, path, expected)


GOOD = (
    "00000000-0000-0000-0000-000000000007,"
    '"site","view",1700000000000000,1700000000000000,"u",\\N,\\N,\\N,\\N,\\N,"{}",2,0\n'
)


@pytest.mark.parametrize(
    "broken",
    [
        GOOD[:-1],  # no line break at the end: the last number may have lost digits
        GOOD + GOOD[:40],
        GOOD + GOOD[:20] + "\n",
        GOOD + "\n".join(["x"] * 14) + "\n",
        GOOD.replace('"view"', "view,more"),
        GOOD.replace('"view",', ""),
        GOOD.replace("1700000000000000", "yesterday"),
        GOOD.replace("1700000000000000", "", 1),
        GOOD.replace("00000000-0000", "no-uuid"),
        GOOD.replace('"view"', "\\N"),  # an event without a type
        GOOD.replace('"view"', '"vi"ew"'),
        GOOD.replace('"site"', '"site'),
    ],
)
async def test_a_broken_file_changes_nothing(
    store: DuckDBStore, feed: Feed, tmp_path: Path, broken: str
) -> None:
    await feed(make_event(1))
    path = tmp_path / "next.csv"
    path.write_text(broken)

    assert await applied(store, path, 1)
    path.write_text(GOOD)
    await store.apply(path, 1, mark(2))
    assert await numbers(store) == {1, 7}


async def test_bytes_that_are_no_text_change_nothing(
    store: DuckDBStore, feed: Feed, tmp_path: Path
) -> None:
    await feed(make_event(1))
    path = tmp_path / "next.csv"
    path.write_bytes(GOOD.encode().replace(b"view", b"v\xff\xfew"))

    assert "nicode" in await applied(store, path, 1)


async def test_a_missing_file_changes_nothing(
    store: DuckDBStore, feed: Feed, tmp_path: Path
) -> None:
    await feed(make_event(1))

    assert "No such file" in await applied(store, tmp_path / "gone.csv", 1)


@pytest.mark.parametrize("position", [1, 2])
async def test_a_watermark_that_is_not_ahead_is_refused(
    store: DuckDBStore, feed: Feed, tmp_path: Path, position: int
) -> None:
    await feed(make_event(1))
    await feed(make_event(2))
    path = tmp_path / "again.csv"
    rows = write_slice(path, [Batch(position, [make_event(3)])])

    with pytest.raises(StoreUnavailable, match="up to 2"):
        await store.apply(path, rows, mark(position))

    assert await store.watermark() == mark(2)
    assert await numbers(store) == {1, 2}


async def test_the_order_of_arrival_is_that_of_the_feed(store: DuckDBStore, feed: Feed) -> None:
    await feed(make_event(3), make_event(1))
    await feed(make_event(2))

    found = await everything(store)

    assert [event.event_id.int for event in found] == [3, 1, 2]
    assert [event.arrival for event in found] == [65536, 65537, 131072]


async def test_the_moment_of_arrival_is_kept(store: DuckDBStore, feed: Feed) -> None:
    await feed(make_event(1, received_at=EARLY))

    [event] = await everything(store)

    assert event.received_at == EARLY
