"""The ingest pipeline: what becomes of anything that can be sent."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.events import MAX_EVENT_BYTES, Event, Rejection, RejectionCode
from resolvers.pipeline import FIELDS, Arrival, parse_instant, process

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL = Arrival("shop", NOW)


def taken(**fields: object) -> Event:
    outcome = process({"event_type": "view", **fields}, ARRIVAL)
    assert isinstance(outcome, Event), outcome
    return outcome


def refused(sent: object) -> tuple[RejectionCode, str]:
    outcome = process(sent, ARRIVAL)
    assert isinstance(outcome, Rejection), outcome
    return outcome.code, outcome.message


def test_an_event_with_nothing_but_a_type_gets_an_id_and_the_moment_of_its_arrival() -> None:
    event = taken()

    assert (event.site_id, event.event_type, event.occurred_at) == ("shop", "view", NOW)
    assert event.event_id.version == 7
    assert event.user_id is event.visitor_id is event.path is event.properties is None


def test_all_fields_arrive_as_they_were_sent() -> None:
    event = taken(
        event_id="f76a251e-8df9-5301-a00a-0e67bbdd4fd4",
        occurred_at="2025-07-01T12:00:00.123456+02:00",
        user_id="ada",
        visitor_id="v1",
        session_id="s1",
        url="https://shop.example/cart?id=1#top",
        referrer="https://search.example/",
        properties={"price": 12.5, "tags": ["a", None]},
    )

    assert event.event_id == UUID("f76a251e-8df9-5301-a00a-0e67bbdd4fd4")
    assert event.occurred_at == datetime(2025, 7, 1, 10, 0, 0, 123456, UTC)
    assert (event.user_id, event.visitor_id, event.session_id) == ("ada", "v1", "s1")
    assert (event.url, event.path) == ("https://shop.example/cart?id=1#top", "/cart")
    assert event.properties is not None
    assert json.loads(event.properties) == {"price": 12.5, "tags": ["a", None]}


def test_a_whole_number_is_good_enough_for_an_id_of_a_user() -> None:
    assert taken(user_id=42).user_id == "42"


def test_empty_ids_identify_nobody() -> None:
    event = taken(user_id=" ", visitor_id="")

    assert (event.user_id, event.visitor_id) == (None, None)


@pytest.mark.parametrize(
    ("fields", "visitor_id"),
    [
        ({}, "derived"),
        ({"user_id": "ada"}, None),
        ({"visitor_id": "v"}, "v"),
        ({"user_id": ""}, "derived"),
    ],
)
def test_only_events_without_any_identity_get_the_visitor_of_the_request(
    fields: dict[str, object], visitor_id: str | None
) -> None:
    outcome = process({"event_type": "view", **fields}, Arrival("shop", NOW, visitor_id="derived"))

    assert isinstance(outcome, Event)
    assert outcome.visitor_id == visitor_id


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.example", "/"),
        ("/presentations/x?y=1", "/presentations/x"),
        ("app://host/screen", "/screen"),
        ("//favicon.ico", "//favicon.ico"),
        ("/a#b?c", "/a"),
        ("https://a.example/%C3%A9", "/%C3%A9"),
    ],
)
def test_the_path_is_taken_from_the_address(url: str, path: str) -> None:
    assert taken(url=url).path == path


def test_a_path_that_was_sent_is_kept() -> None:
    assert taken(url="https://a.example/x", path="/other").path == "/other"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([], RejectionCode.INVALID_TEXT),
        ("text", RejectionCode.INVALID_TEXT),
        ({}, RejectionCode.INVALID_EVENT_TYPE),
        ({"event_type": None}, RejectionCode.INVALID_EVENT_TYPE),
        ({"event_type": " "}, RejectionCode.INVALID_EVENT_TYPE),
        ({"event_type": 7}, RejectionCode.INVALID_EVENT_TYPE),
        ({"event_type": "x" * 201}, RejectionCode.INVALID_EVENT_TYPE),
        ({"event_type": "v", "event_id": "no-uuid"}, RejectionCode.INVALID_EVENT_ID),
        ({"event_type": "v", "event_id": 5}, RejectionCode.INVALID_EVENT_ID),
        ({"event_type": "v", "occurred_at": "yesterday"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": "2026-03-01T12:00:00"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": "2026-13-01T12:00:00Z"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": "2026-03-02T12:00:01Z"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": "9999-12-31T23:59:59-01:00"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": "0001-01-01T00:00:00+01:00"}, RejectionCode.INVALID_TIMESTAMP),
        # What PostgreSQL's driver would store as minus infinity, and nobody could follow.
        ({"event_type": "v", "occurred_at": "0001-01-01T00:00:00Z"}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": -62_135_596_800_000}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": True}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": 1e300}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": -(10**40)}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "occurred_at": []}, RejectionCode.INVALID_TIMESTAMP),
        ({"event_type": "v", "user_id": ["ada"]}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "user_id": "x" * 513}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "user_id": "a\0b"}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "properties": {"k": "a\0b"}}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "properties": {"a\0b": 1}}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "user_id": "\ud800"}, RejectionCode.INVALID_TEXT),
        ({"event_type": "v", "url": "not an address"}, RejectionCode.INVALID_URL),
        ({"event_type": "v", "url": "http://[1"}, RejectionCode.INVALID_URL),
        ({"event_type": "v", "url": "https://a.example/\r\nx"}, RejectionCode.INVALID_URL),
        ({"event_type": "v", "url": 7}, RejectionCode.INVALID_URL),
        ({"event_type": "v", "properties": "{}"}, RejectionCode.PROPERTIES_NOT_AN_OBJECT),
        ({"event_type": "v", "properties": [1]}, RejectionCode.PROPERTIES_NOT_AN_OBJECT),
        ({"event_type": "v", "properties": {"k": "x" * MAX_EVENT_BYTES}}, RejectionCode.EVENT_TOO_LARGE),
        ({"event_type": "v", "usr_id": "ada"}, RejectionCode.UNKNOWN_FIELD),
    ],
)  # fmt: skip
def test_a_bad_event_is_a_value_with_a_code_and_a_sentence(
    sent: object, code: RejectionCode
) -> None:
    found, message = refused(sent)

    assert found == code
    assert len(message) > 10


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    event = taken(properties={"path": "\\u0000", "more": "\\\\u0000"})

    assert event.properties is not None
    assert json.loads(event.properties) == {"path": "\\u0000", "more": "\\\\u0000"}


def test_a_day_ahead_is_fine_and_so_is_any_past() -> None:
    assert taken(occurred_at="2026-03-02T12:00:00Z").occurred_at == NOW + timedelta(hours=24)
    assert taken(occurred_at="0002-01-01T00:00:00Z").occurred_at.year == 2


def test_milliseconds_since_1970_are_an_instant() -> None:
    assert parse_instant(1_751_364_000_123) == datetime(2025, 7, 1, 10, 0, 0, 123000, UTC)


def test_a_rejection_keeps_what_was_sent_and_its_id() -> None:
    outcome = process(
        {"event_id": "f76a251e-8df9-5301-a00a-0e67bbdd4fd4", "event_type": "", "user_id": "a\0"},
        ARRIVAL,
    )

    assert isinstance(outcome, Rejection)
    assert str(outcome.event_id) == "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"
    assert json.loads(outcome.payload)["user_id"] == "a\0"
    assert "\0" not in outcome.payload


def test_a_huge_rejection_is_kept_by_its_beginning_and_its_size() -> None:
    outcome = process({"event_type": "v", "properties": {"k": "é" * 100_000}}, ARRIVAL)

    assert isinstance(outcome, Rejection)
    assert len(outcome.payload) == 64 * 1024
    assert outcome.payload_bytes > 200_000


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(), anything) | anything)
def test_whatever_is_sent_becomes_an_event_or_a_rejection(sent: object) -> None:
    outcome = process(sent, ARRIVAL)

    if isinstance(outcome, Event):
        assert outcome.event_type.strip() == outcome.event_type != ""
        assert outcome.occurred_at <= NOW + timedelta(hours=24)
        assert outcome.properties is None or isinstance(json.loads(outcome.properties), dict)
    else:
        assert outcome.message
        outcome.payload.encode()
