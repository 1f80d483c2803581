"""Bodies that are made to cost much: each is refused in under 50 ms of processor time."""

from time import process_time

import pytest
from starlette.types import Message

from data.events import MAX_BODY_BYTES
from server.graphql_request import BadRequest, read_post

MOST_SECONDS = 0.050
RUNS = 5
JSON = {b"content-type": b"application/json"}


async def seconds_until_refused(body: bytes) -> float:
    """Processor time of the quickest of several times."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    quickest = float("inf")
    for _ in range(RUNS):
        started = process_time()
        with pytest.raises(BadRequest) as refused:
            await read_post(JSON, receive)
        quickest = min(quickest, process_time() - started)
        assert 400 <= refused.value.status < 500
    return quickest


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 20_000 + b"]" * 20_000, id="20,000 arrays in one another"),
        pytest.param(b"[" * (MAX_BODY_BYTES - 1), id="as many as go into a body"),
        pytest.param(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, id="20,000 objects"),
        pytest.param(
            b'{"query":"{__typename}","variables":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
            id="variables 20,000 deep",
        ),
        pytest.param(b'"' + b"\\u0000" * 800_000 + b'"', id="a text of escapes"),
        pytest.param(b"1" * 1_000_000, id="a number of a million digits"),
        pytest.param(b"1e" + b"9" * 1_000_000, id="an exponent of a million digits"),
    ],
)
async def test_a_body_that_is_made_to_cost_much_costs_little(body: bytes) -> None:
    assert await seconds_until_refused(body) < MOST_SECONDS
