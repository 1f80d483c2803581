"""What a segment holds: all that is whole comes out, and what is not is told."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.events import Event, Rejection, RejectionCode
from data.spool.records import (
    HEAD_BYTES,
    Damage,
    Record,
    Spooled,
    Unreadable,
    decode_head,
    encode_head,
    encode_record,
    read_records,
)

MADE = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
HEAD = encode_head(MADE)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
instants = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)
events = st.builds(
    Event,
    event_id=st.uuids(),
    site_id=texts,
    event_type=texts,
    occurred_at=instants,
    received_at=instants,
    user_id=st.none() | texts,
    url=st.none() | texts,
    properties=st.none() | texts,
)
rejections = st.builds(
    Rejection,
    site_id=texts,
    code=st.sampled_from(RejectionCode),
    message=texts,
    payload=texts,
    payload_bytes=st.integers(0, 2**31 - 1),
    received_at=instants,
    event_id=st.none() | st.uuids(),
)
requests = st.builds(Spooled, st.lists(events, max_size=3), st.lists(rejections, max_size=2))


def segment_of(sent: list[Spooled]) -> bytes:
    return HEAD + b"".join(encode_record(one.events, one.rejections) for one in sent)


def ends_of(sent: list[Spooled]) -> list[int]:
    """Where the record of each request ends."""
    end, ends = HEAD_BYTES, []
    for one in sent:
        end += len(encode_record(one.events, one.rejections))
        ends.append(end)
    return ends


def whole(segment: bytes) -> list[Spooled]:
    return [found.spooled for found in read_records(segment) if isinstance(found, Record)]


def damaged(segment: bytes) -> list[Damage]:
    return [found for found in read_records(segment) if isinstance(found, Damage)]


@given(st.lists(requests, max_size=5))
def test_what_was_written_comes_out_as_it_was_and_in_order(sent: list[Spooled]) -> None:
    segment = segment_of(sent)

    found = list(read_records(segment))

    assert found == [Record(one, end) for one, end in zip(sent, ends_of(sent), strict=True)]
    assert decode_head(segment) == MADE


@given(st.lists(requests, min_size=1, max_size=5), st.data())
def test_a_segment_that_was_cut_off_anywhere_gives_all_records_before(
    sent: list[Spooled], data: st.DataObject
) -> None:
    segment = segment_of(sent)
    cut = data.draw(st.integers(HEAD_BYTES, len(segment)))
    # After a loss of power the file may have its length, and nothing in it.
    zeros = data.draw(st.sampled_from([0, 1, 15, 16, 100, 5_000]))

    torn = segment[:cut] + b"\0" * zeros

    complete = [one for one, end in zip(sent, ends_of(sent), strict=True) if end <= cut]
    assert whole(torn)[: len(complete)] == complete
    if zeros == 0 or cut in (HEAD_BYTES, *ends_of(sent)):
        assert whole(torn) == complete
        assert damaged(torn) == []


@given(st.lists(requests, min_size=1, max_size=5), st.data())
def test_damage_costs_no_more_than_the_records_that_it_hits_and_is_told(
    sent: list[Spooled], data: st.DataObject
) -> None:
    segment = bytearray(segment_of(sent))
    begin = data.draw(st.integers(HEAD_BYTES, len(segment) - 1))
    length = data.draw(st.sampled_from([1, 2, 30, 300]))
    for place in range(begin, min(begin + length, len(segment))):
        segment[place] ^= data.draw(st.integers(1, 255))
    hit = {
        index
        for index, (first, end) in enumerate(
            zip([HEAD_BYTES, *ends_of(sent)], ends_of(sent), strict=False)
        )
        if first < begin + length and begin < end
    }

    found = list(read_records(bytes(segment)))

    spared = [one for index, one in enumerate(sent) if index not in hit]
    assert [one.spooled for one in found if isinstance(one, Record)] == spared
    stretches = [one for one in found if isinstance(one, Damage)]
    assert stretches
    assert stretches[0].start <= begin < stretches[-1].end


def test_no_text_of_an_event_can_pass_for_a_record() -> None:
    inner = encode_record([Event(UUID(int=1), "shop", "v", MADE, MADE)], [])
    forged = Event(UUID(int=2), "shop", "v", MADE, MADE, user_id=inner.decode("latin-1"))
    segment = bytearray(HEAD + encode_record([forged], []))
    segment[HEAD_BYTES] ^= 1

    assert whole(bytes(segment)) == []


@pytest.mark.parametrize("head", [b"", HEAD[:-1], b"FFSPOOL9" + HEAD[8:], HEAD[:8] + b"\xff" * 8])
def test_a_file_that_begins_otherwise_is_no_segment(head: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_head(head)


def test_half_a_character_is_refused_when_it_is_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_record([Event(UUID(int=1), "shop", "v", MADE, MADE, user_id="\ud800")], [])
