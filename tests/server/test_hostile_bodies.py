"""Bodies that are made to cost much: each is refused for next to no work."""

import asyncio

import pytest
from starlette.types import Message

from benchmarks.hostile_documents import BODIES
from server.graphql_request import BadRequest, read_post
from tests.fixtures.work import calls_in

JSON = {b"content-type": b"application/json"}
# Of functions in Python or in C: nothing is done for each part of a body but decoding it, which is
# one call. benchmarks/hostile.py measures how long that takes.
MOST_CALLS = 1_000


async def refusal_of(body: bytes) -> BadRequest:
    """Why a body is not taken."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    with pytest.raises(BadRequest) as refused:
        await read_post(JSON, receive)
    return refused.value


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_made_to_cost_much_is_refused_for_little_work(name: str) -> None:
    refusals: list[BadRequest] = []
    with asyncio.Runner() as runner:
        runner.get_loop()

        calls = calls_in(lambda: refusals.append(runner.run(refusal_of(BODIES[name]))))

    (refusal,) = refusals
    assert 400 <= refusal.status < 500
    assert calls < MOST_CALLS
