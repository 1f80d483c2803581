"""Fetches from a real server that behaves, and from one that does not."""

import asyncio
import json
import re
from typing import Any

import pytest

from data.sources.fetch import Pace, request_headers
from data.sources.fetched import Effort, Fetched, FetchFailed, Progress, Unchanged, Validators
from data.sources.source import Header, Method, Source
from tests.data.sources.fetching import contents, failure, fetched
from tests.fixtures.source_answers import (
    Failing,
    Gated,
    Items,
    as_json,
    bomb,
    drip,
    half_body,
    hang,
    hang_midway,
    hang_up,
    html,
    huge,
    no_http,
    text,
)
from tests.fixtures.source_server import Handler, SourceServer

TWO: list[dict[str, Any]] = [{"id": 1, "price": 2.5}, {"id": "b", "price": 3}]


def source(server: SourceServer, **more: Any) -> Source:
    return Source(**{"key": "prices", "url": server.url("/prices"), **more})


async def test_records_come_by_their_ids_in_order(source_server: SourceServer) -> None:
    source_server.at("/prices", Items(TWO))
    progress = Progress()

    result = await fetched(source(source_server), progress=progress)

    assert isinstance(result, Fetched)
    assert {key: one.data for key, one in result.records.items()} == {
        "1": b'{"id":1,"price":2.5}',
        "b": b'{"id":"b","price":3}',
    }
    assert list(result.records) == ["1", "b"]
    assert result.is_complete
    assert result.effort == Effort(tries=1, pages=1, bytes=progress.bytes, http_status=200)
    assert (progress.tries, progress.pages, progress.records) == (1, 1, 2)
    assert progress.bytes == len('[{"id": 1, "price": 2.5}, {"id": "b", "price": 3}]')


async def test_the_same_content_has_the_same_hash_however_it_is_written(
    source_server: SourceServer,
) -> None:
    source_server.at("/prices", text('[{"id": 1, "a": {"x": 1, "y": [2.50]}}]'))
    source_server.at("/other", text('[ {"a":{"y":[2.50],"x":1}, "id":1} ]'))
    source_server.at("/changed", text('[{"id": 1, "a": {"x": 1, "y": [2.5]}}]'))

    one, other, changed = [
        (await fetched(source(source_server, url=source_server.url(path)))).records["1"]  # type: ignore[union-attr]
        for path in ("/prices", "/other", "/changed")
    ]

    assert one.content_hash == other.content_hash != changed.content_hash
    assert len(one.content_hash) == 16


@pytest.mark.parametrize("kind", ["etag", "last_modified"])
async def test_what_is_known_is_not_sent_again(source_server: SourceServer, kind: str) -> None:
    items = source_server.at("/prices", Items(TWO, **{"etag": False, kind: True}))
    first = await fetched(source(source_server))
    assert isinstance(first, Fetched)

    again = await fetched(source(source_server), validators=first.validators)

    assert again == Unchanged(Effort(tries=1, http_status=304))
    items.records.append({"id": 3})
    items.modified_at = items.modified_at.replace(hour=13)
    changed = await fetched(source(source_server), validators=first.validators)
    assert isinstance(changed, Fetched)
    assert len(changed.records) == 3


async def test_304_without_a_condition_is_a_failure(source_server: SourceServer) -> None:
    source_server.at("/prices", text("", status=304))

    failed = await failure(source(source_server))

    assert str(failed) == "127.0.0.1 answers 304 Not Modified, though it was not asked for changes"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(source_server: SourceServer, status: int) -> None:
    source_server.at("/prices", Failing(status, 2, Items(TWO)))

    result = await fetched(source(source_server))

    assert isinstance(result, Fetched)
    assert result.effort.tries == 3
    assert result.effort.http_status == 200


async def test_three_tries_are_enough(source_server: SourceServer) -> None:
    source_server.at("/prices", Failing(500, 3, Items(TWO)))

    failed = await failure(source(source_server))

    assert str(failed) == "127.0.0.1 answers 500 Internal Server Error"
    assert failed.effort == Effort(tries=3, http_status=500)
    assert failed.retry_after is None


@pytest.mark.parametrize("status", [204, 206, 301, 400, 401, 403, 404, 410, 499])
async def test_what_will_not_pass_is_tried_once(source_server: SourceServer, status: int) -> None:
    source_server.at("/prices", text("[]", status=status))

    failed = await failure(source(source_server))

    assert f"127.0.0.1 answers {status}" in str(failed)
    assert failed.effort.tries == 1
    assert failed.effort.http_status == status


async def test_retry_after_is_waited_for(source_server: SourceServer) -> None:
    source_server.at("/prices", Failing(429, 1, Items(TWO), retry_after="1"))
    clock = asyncio.get_running_loop().time
    began = clock()

    result = await fetched(source(source_server))

    assert result.effort.tries == 2
    assert clock() - began >= 1


@pytest.mark.parametrize("written", ["120", "in a date"])
async def test_a_long_retry_after_is_left_to_the_schedule(
    source_server: SourceServer, written: str
) -> None:
    # The date is told apart by when the fetch began, which is another time in these tests.
    retry_after = "Sun, 22 Nov 2026 12:02:00 GMT" if written == "in a date" else written
    source_server.at("/prices", Failing(429, 1, Items(TWO), retry_after=retry_after))

    failed = await failure(source(source_server))

    assert str(failed) == (
        "127.0.0.1 answers 429 Too Many Requests and asks to be left alone for 120 s"
    )
    assert failed.retry_after == pytest.approx(120, abs=5)
    assert failed.effort.tries == 1


async def test_a_retry_after_of_the_past_means_at_once(source_server: SourceServer) -> None:
    source_server.at(
        "/prices", Failing(503, 1, Items(TWO), retry_after="Sun, 22 Nov 2020 12:02:00 GMT")
    )

    assert (await fetched(source(source_server))).effort.tries == 2


async def test_no_source_puts_itself_out_of_reach(source_server: SourceServer) -> None:
    source_server.at("/prices", Failing(429, 1, Items(TWO), retry_after="99999999999999999999"))

    assert (await failure(source(source_server))).retry_after == 86_400


@pytest.mark.parametrize("retry_after", ["soon", "-5", "1.5", "٣", ""])
async def test_an_odd_retry_after_is_passed_over(
    source_server: SourceServer, retry_after: str
) -> None:
    source_server.at(
        "/prices", Failing(429, 1, Items(TWO), retry_after=retry_after.encode().decode("latin-1"))
    )

    result = await fetched(source(source_server), pace=Pace(first_wait=0.01))

    assert result.effort.tries == 2


BROKEN: dict[str, tuple[Handler, str, int]] = {
    "hangs": (hang, "no answer from 127.0.0.1 within 1 s", 3),
    "hangs midway": (hang_midway, "no whole answer from 127.0.0.1 within 3 s", 3),
    "drips": (drip, "no whole answer from 127.0.0.1 within 3 s", 3),
    "half a body": (half_body, "the answer of 127.0.0.1 broke off", 3),
    "hangs up": (hang_up, "the answer of 127.0.0.1 broke off", 3),
    "no HTTP": (no_http, "what 127.0.0.1 answers is not HTTP", 3),
    "HTML": (html(), "the answer is a web page (text/html), no data", 1),
    "HTML that calls itself JSON": (
        text("<html>"),
        "the answer is HTML or XML, not JSON",
        1,
    ),
    "half of JSON": (text('[{"id": 1},'), "the answer is not JSON: Input data was truncated", 1),
    "empty": (text(""), "the answer is empty", 1),
    "not UTF-8": (text(b'[{"id": "\xff"}]'), "the answer is not UTF-8", 1),
    "an object": (
        as_json({"items": [], "next": None}),
        (
            "the answer is an object, not a list; recordsAt says where the records are "
            "(it has: items, next)"
        ),
        1,
    ),
    "numbers": (as_json([1, 2]), "record 1 is not an object", 1),
    "a text": (as_json("no"), "the answer is not a list of records", 1),
    "duplicate ids": (
        as_json([{"id": 1}, {"id": 2}, {"id": "1"}]),
        "record 3 has the id '1', which a record before it has, too",
        1,
    ),
    "missing ids": (as_json([{"id": 1}, {"name": "x"}]), "record 2 has no 'id'", 1),
    "an id that is null": (as_json([{"id": None}]), "record 1 has no 'id'", 1),
    "an id that is a list": (
        as_json([{"id": [1]}]),
        "the 'id' of record 1 is neither a text nor an integer",
        1,
    ),
    "an unknown compression": (
        text("[]", content_encoding="br"),
        "the answer is compressed as 'br', which was not asked for",
        1,
    ),
    "no compression": (
        text("[]", content_encoding="gzip"),
        "the answer is not gzip, though it says so",
        1,
    ),
}


@pytest.mark.parametrize(("handler", "message", "tries"), BROKEN.values(), ids=BROKEN)
async def test_what_is_broken_is_told_in_plain_words(
    source_server: SourceServer, handler: Handler, message: str, tries: int
) -> None:
    source_server.at("/prices", handler)

    within = re.search(r"within (\d+) s", message)
    seconds = float(within[1]) if within else 30
    failed = await failure(source(source_server, timeout_seconds=seconds))

    assert str(failed) == message
    assert failed.effort.tries == len(source_server.asked) == tries


async def test_nobody_answers(source_server: SourceServer) -> None:
    failed = await failure(source(source_server, url="http://127.0.0.1:1/prices"))

    assert str(failed) == "cannot connect to 127.0.0.1: connection refused"
    assert failed.effort == Effort(tries=3)


async def test_a_host_that_is_not_there(source_server: SourceServer) -> None:
    failed = await failure(source(source_server, url="http://no-such-host.invalid/prices"))

    assert "no-such-host.invalid" in str(failed)
    assert failed.effort == Effort(tries=3)


@pytest.mark.parametrize(
    "handler",
    [huge(), huge(is_declared=True), bomb()],
    ids=["2 GB", "2 GB that are told before", "a gzip bomb of 2 GB"],
)
async def test_size_is_bounded_while_it_streams(
    source_server: SourceServer, handler: Handler
) -> None:
    source_server.at("/prices", handler)
    progress = Progress()

    failed = await failure(source(source_server, max_bytes=5_000_000), progress=progress)

    assert str(failed) == "the answer is larger than 5,000,000 bytes (maxBytes)"
    assert progress.bytes < 6_000_000
    assert failed.effort.tries == 1


async def test_numbers_of_records_are_bounded(source_server: SourceServer) -> None:
    source_server.at("/prices", Items(TWO))

    many = await failure(source(source_server, max_records=1))
    few = await failure(source(source_server, min_records=3))

    assert str(many) == "there are more than 1 records (maxRecords)"
    assert str(few) == "there are 2 records, fewer than 3 (minRecords)"


async def test_a_fetch_has_a_time_for_all_of_it(source_server: SourceServer) -> None:
    source_server.at("/prices", hang)

    failed = await failure(source(source_server), pace=Pace(whole=0.3))

    assert str(failed) == "it was not done within 0.005 minutes"
    assert failed.effort.tries == 1


async def test_no_try_is_made_for_which_there_is_no_time(source_server: SourceServer) -> None:
    source_server.at("/prices", Failing(503, 1, Items(TWO), retry_after="20"))

    failed = await failure(source(source_server), pace=Pace(whole=10))

    assert failed.retry_after == 20
    assert failed.effort.tries == 1


async def test_a_fetch_that_is_given_up_lets_go_of_the_source(source_server: SourceServer) -> None:
    gated = source_server.at("/prices", Gated(Items(TWO)))
    task = asyncio.create_task(fetched(source(source_server)))
    await gated.arrived.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_headers_and_bodies_are_sent_with_secrets_filled_in(
    source_server: SourceServer,
) -> None:
    source_server.at("/prices", Items(TWO))
    wanted = source(
        source_server,
        method=Method.POST,
        body='{"query": "{ prices }"}',
        headers=(
            Header("Authorization", value="Bearer {}", secret="prices-key"),
            Header("X-Key", secret="other-key"),
            Header("X-Team", value="shop {}"),
        ),
    )

    await fetched(wanted, secrets={"prices-key": "s3cret", "other-key": "0ther"})

    (asked,) = source_server.asked
    assert asked.method == "POST"
    assert asked.body == b'{"query": "{ prices }"}'
    assert asked.headers["authorization"] == "Bearer s3cret"
    assert asked.headers["x-key"] == "0ther"
    assert asked.headers["x-team"] == "shop {}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept"].startswith("application/json")
    assert asked.headers["accept-encoding"] == "gzip, deflate"
    assert asked.headers["user-agent"].startswith("Footfall/")
    assert "cookie" not in asked.headers


@pytest.mark.parametrize(
    "secret", ["two\nlines", "line\r\nX-Other: 1", "trailing\n", "ümlaut", " "]
)
def test_a_secret_that_no_header_can_hold_is_named_and_not_shown(secret: str) -> None:
    wanted = Source(key="a", url="http://a.example", headers=(Header("X-Key", secret="the-key"),))

    with pytest.raises(FetchFailed, match="the secret the-key") as failed:
        request_headers(wanted, {"the-key": secret})

    assert secret.strip() == "" or secret not in str(failed.value)


async def test_cookies_are_not_kept(source_server: SourceServer) -> None:
    source_server.at("/prices", Failing(503, 1, text("[]", set_cookie="a=b; Path=/")))
    source_server.at("/first", text("[]", set_cookie="a=b; Path=/"))

    for path in ("/first", "/prices"):
        await fetched(source(source_server, url=source_server.url(path)))

    assert all("cookie" not in asked.headers for asked in source_server.asked)


async def test_a_large_answer_does_not_hold_up_the_loop(source_server: SourceServer) -> None:
    """Others have their turns while megabytes are taken apart."""
    body = json.dumps([{"id": number, "text": "x" * 200} for number in range(20_000)])
    source_server.at("/prices", text(body))
    progress = Progress()
    turns = 0
    fetching = asyncio.create_task(fetched(source(source_server), progress=progress))

    while not fetching.done():
        turns += progress.bytes == len(body)
        await asyncio.sleep(0)

    assert len(getattr(await fetching, "records", ())) == 20_000
    assert turns > 200


async def test_validators_that_cannot_be_sent_back_are_not_kept(
    source_server: SourceServer,
) -> None:
    source_server.at("/prices", text("[]", etag='"' + "x" * 600 + '"', last_modified="caf\xe9"))

    result = await fetched(source(source_server))

    assert isinstance(result, Fetched)
    assert result.validators is None


async def test_validators_are_sent_as_they_came(source_server: SourceServer) -> None:
    source_server.at("/prices", text("[]"))

    await fetched(source(source_server), validators=Validators('W/"a"', "Sun, 1 Nov 2026"))

    (asked,) = source_server.asked
    assert asked.headers["if-none-match"] == 'W/"a"'
    assert asked.headers["if-modified-since"] == "Sun, 1 Nov 2026"


async def test_records_are_where_the_source_says(source_server: SourceServer) -> None:
    body = '{"data": {"items": [{"meta": {"sku": "a"}, "n": 1.10}, {"meta": {"sku": 7}, "n": 9}]}}'
    source_server.at("/prices", text(body))
    by_pointer = source(source_server, records_at="/data/items", id_field="/meta/sku")
    by_query = source(source_server, records_query="data.items[?n > `2`].{id: meta.sku, n: n}")

    assert list(await contents(by_pointer)) == ["a", "7"]
    assert await contents(by_query) == {"7": {"id": 7, "n": 9}}
