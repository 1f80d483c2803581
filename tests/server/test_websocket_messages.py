"""Reading messages: whatever a client sends, it is one of the protocol's or the end has a reason."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schema.operations import Request
from server.connections import Ended, PeerGone
from server.websocket_messages import (
    Complete,
    Init,
    Ping,
    Pong,
    Subscribe,
    close,
    complete,
    next_start,
    pong,
    read_message,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
names = st.sampled_from(
    ["query", "variables", "operationName", "extensions", "documentId", "apiKey", "authorization"]
)
near_messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["connection_init", "ping", "pong", "subscribe", "complete", "next"]
        )
        | anything,
        "id": st.text(max_size=9) | anything,
        "payload": st.dictionaries(names, st.just("{a}") | st.just({}) | anything) | anything,
    },
)


def read(text: str) -> Any:
    return read_message({"type": "websocket.receive", "text": text})


def outcome(text: str) -> Any:
    try:
        return read(text)
    except Ended as why:
        return why


@given(st.text() | anything.map(json.dumps) | near_messages.map(json.dumps))
@example('{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":{"a":1e999}}}')
@example('{"type":"ping","payload":{"n":123456789012345678901234567890}}')
@example('{"type":"connection_init","payload":{"authorization":"Bearer"}}')
def test_any_text_is_a_message_or_ends_the_connection_with_a_reason(text: str) -> None:
    found = outcome(text)
    if isinstance(found, Ended):
        assert found.code == 4400
        assert found.reason.startswith("Invalid message: ")
    else:
        assert isinstance(found, Init | Ping | Pong | Subscribe | Complete)
        if isinstance(found, Ping):
            assert json.loads(pong(found))["type"] == "pong"


@given(st.text(min_size=1), st.dictionaries(st.text(), st.integers()))
def test_what_is_told_carries_the_id_as_it_came(id: str, data: dict[str, int]) -> None:
    payload = {"data": data}
    text = f"{next_start(id)}{json.dumps(payload)}}}"
    assert json.loads(text) == {"id": id, "type": "next", "payload": payload}
    assert json.loads(complete(id)) == {"id": id, "type": "complete"}


@given(st.integers(1000, 4999), st.text())
def test_a_reason_always_fits_into_its_frame(code: int, reason: str) -> None:
    message = close(Ended(code, reason))
    assert len(message["reason"].encode()) <= 123
    assert reason.startswith(message["reason"])


def test_a_request_has_all_its_parts() -> None:
    payload = {
        "query": "query A { a }",
        "variables": {"a": 1},
        "operationName": "A",
        "extensions": {"b": 2},
        "documentId": "c",
        "unknown": 3,
    }
    text = json.dumps({"id": "1", "type": "subscribe", "payload": payload, "unknown": 4})
    request = Request("query A { a }", {"a": 1}, "A", {"b": 2}, "c")
    assert read(text) == Subscribe("1", request, len(text))


@pytest.mark.parametrize(
    "payload",
    [
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "x"}}},
        {"documentId": "x"},
        {"query": None, "documentId": "x", "variables": None, "operationName": None},
    ],
)
def test_a_request_may_name_its_document(payload: dict[str, object]) -> None:
    message = read(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
    assert isinstance(message, Subscribe)
    assert message.request.query is None


def test_a_peer_that_left_says_nothing() -> None:
    with pytest.raises(PeerGone):
        read_message({"type": "websocket.disconnect", "code": 1001})
