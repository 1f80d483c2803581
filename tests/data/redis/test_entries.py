"""Entries of the queue: what goes in comes out, and what is none is told from what is."""

import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.events import Event, Rejection, RejectionCode
from data.redis.entries import Entry, Undecodable, decode_entry, encode_entry

INSTANTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.none() | st.text(max_size=40)
EVENTS = st.builds(
    Event,
    event_id=st.uuids(),
    site_id=st.text(max_size=20),
    event_type=st.text(max_size=40),
    occurred_at=INSTANTS,
    received_at=INSTANTS,
    user_id=TEXTS,
    visitor_id=TEXTS,
    session_id=TEXTS,
    url=TEXTS,
    path=TEXTS,
    referrer=TEXTS,
    properties=TEXTS,
)
REJECTIONS = st.builds(
    Rejection,
    site_id=st.text(max_size=20),
    code=st.sampled_from(RejectionCode),
    message=st.text(max_size=40),
    payload=st.text(max_size=200),
    payload_bytes=st.integers(0, 2**31 - 1),
    received_at=INSTANTS,
    event_id=st.none() | st.uuids(),
)


@given(st.lists(EVENTS, max_size=60), st.lists(REJECTIONS, max_size=10))
def test_an_entry_is_read_as_it_was_written(
    events: list[Event], rejections: list[Rejection]
) -> None:
    read = decode_entry(encode_entry(events, rejections))

    assert read == Entry(events, rejections)
    assert read.size == len(events) + len(rejections)
    for event in read.events:
        assert event.occurred_at.utcoffset() == timedelta(0)


@given(st.binary(max_size=300))
def test_other_bytes_are_no_entry(data: bytes) -> None:
    # Bytes that happen to be one are possible, if barely; any other error is not.
    with suppress(Undecodable):
        assert isinstance(decode_entry(data), Entry)


@given(st.lists(EVENTS, min_size=30, max_size=30), st.integers(0, 2**32), st.integers(0, 255))
def test_a_changed_byte_is_found_or_harmless(events: list[Event], at: int, byte: int) -> None:
    data = bytearray(encode_entry(events, []))
    data[at % len(data)] = byte
    with suppress(Undecodable):
        assert isinstance(decode_entry(bytes(data)), Entry)


def test_large_entries_are_compressed_and_small_ones_are_not() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    events = [Event(_id(number), "shop", "view", now, now) for number in range(1_000)]

    assert len(encode_entry(events, [])) < 60 * len(events)
    assert encode_entry(events[:1], [])[:1] == b"\x01"


def test_what_claims_to_be_larger_than_anything_is_not_inflated() -> None:
    bomb = b"\x02" + zlib.compress(b"\x00" * (65 * 1024 * 1024), 9)

    with pytest.raises(Undecodable, match="larger"):
        decode_entry(bomb)


def _id(number: int) -> UUID:
    return UUID(int=number)
