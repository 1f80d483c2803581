"""`/collect`: what pages may send, what they hear, and what never happens."""

import asyncio
import gzip
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from server.collect import PIXEL
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.windows import within_an_hour


async def stored(app: App, database: Database) -> list[dict[str, object]]:
    connection = await database.connect()
    rows = await connection.fetch("select * from events order by batch_id, ordinal")
    await connection.close()
    return [dict(row) for row in rows]


async def test_all_names_of_a_field_mean_the_same(app: App, database: Database) -> None:
    bodies: list[dict[str, object]] = [
        {"site": "shop", "event": "v", "user": "u", "ref": "https://r.example/", "props": {"a": 1}},
        {
            "siteId": "shop",
            "eventType": "v",
            "userId": "u",
            "referrer": "https://r.example/",
            "properties": {"a": 1},
        },
        {
            "site_id": "shop",
            "event_type": "v",
            "user_id": "u",
            "referrer": "https://r.example/",
            "properties": {"a": 1},
        },
    ]
    for body in bodies:
        assert (await app.client.post("/collect", json=body)).status_code == 200

    rows = await stored(app, database)
    seen = {(r["event_type"], r["user_id"], r["referrer"], r["properties"]) for r in rows}
    assert len(rows) == 3
    assert seen == {("v", "u", "https://r.example/", '{"a":1}')}


async def test_the_answer_names_the_event_and_a_retry_is_a_duplicate(app: App) -> None:
    event_id = str(uuid4())
    body = {"site": "shop", "event": "v", "event_id": event_id}

    first = (await app.client.post("/collect", json=body)).json()
    again = (await app.client.post("/collect", json=body)).json()

    assert (first["status"], first["event_id"], first["receipt"]) == (
        "success",
        event_id,
        "ACCEPTED",
    )
    assert datetime.fromisoformat(first["timestamp"]) <= datetime.now(UTC)
    assert (again["status"], again["receipt"]) == ("success", "DUPLICATE")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""],
)
async def test_the_body_is_json_whatever_it_calls_itself(app: App, content_type: str) -> None:
    answer = await app.client.post(
        "/collect",
        content=b'{"site": "shop", "event": "v"}',
        headers={"content-type": content_type},
    )

    assert answer.status_code == 200


async def test_a_gzip_body_is_read_also_in_several_members(app: App) -> None:
    text = b'{"site": "shop", "event": "v"}'
    body = gzip.compress(text[:10]) + gzip.compress(text[10:])

    answer = await app.client.post("/collect", content=body, headers={"content-encoding": "gzip"})

    assert answer.json()["receipt"] == "ACCEPTED"


async def test_a_batch_tells_of_each_event_and_bad_ones_sink_no_others(
    app: App, database: Database
) -> None:
    body = {"site": "shop", "events": [{"event": "v"}, {"event": ""}, 7, {"event": "w"}]}

    answer = await app.client.post("/collect", json=body)

    found = answer.json()
    assert (answer.status_code, found["status"]) == (200, "success")
    assert (found["accepted"], found["duplicates"], found["rejected"]) == (2, 0, 2)
    assert [one["status"] for one in found["receipts"]] == [
        "ACCEPTED",
        "REJECTED",
        "REJECTED",
        "ACCEPTED",
    ]
    assert found["receipts"][1]["code"] == "INVALID_EVENT_TYPE"
    connection = await database.connect()
    payloads = await connection.fetch("select payload from rejected_events order by rejected_id")
    await connection.close()
    assert [json.loads(row["payload"]) for row in payloads] == [{"event_type": ""}, 7]


BAD = {
    "malformed JSON": (b'{"site": "shop", ', 400, "BAD_JSON"),
    "an empty body": (b"", 400, "BAD_JSON"),
    "invalid UTF-8": (b'{"site": "shop", "event": "\xff\xfe"}', 400, "BAD_JSON"),
    "deep nesting": (b"[" * 100_000, 400, "BAD_JSON"),
    "a list": (b"[]", 400, "BAD_JSON"),
    "a lone surrogate": (b'{"site": "shop", "event": "\\ud800"}', 400, "BAD_JSON"),
    "no site": (b'{"event": "v"}', 400, "BAD_USER_INPUT"),
    "an unknown site": (b'{"site": "nowhere", "event": "v"}', 400, "UNKNOWN_SITE"),
    "an odd site": (b'{"site": {"a": 1}, "event": "v"}', 400, "UNKNOWN_SITE"),
    "two sites": (
        b'{"events": [{"site": "shop", "event": "v"}, {"site": "blog", "event": "v"}]}',
        400,
        "BAD_USER_INPUT",
    ),
    "no type": (b'{"site": "shop"}', 400, "INVALID_EVENT_TYPE"),
    "a wrong type": (b'{"site": "shop", "event": 7}', 400, "INVALID_EVENT_TYPE"),
    "a NUL": (b'{"site": "shop", "event": "a\\u0000b"}', 400, "INVALID_TEXT"),
    "an odd id": (b'{"site": "shop", "event": "v", "id": "7"}', 400, "INVALID_EVENT_ID"),
    "a far future": (
        b'{"site": "shop", "event": "v", "occurred_at": "2999-01-01T00:00:00Z"}',
        400,
        "INVALID_TIMESTAMP",
    ),
    "an absurd time": (
        b'{"site": "shop", "event": "v", "occurred_at": 1e999999}',
        400,
        "BAD_JSON",
    ),
    "33 KiB": (
        json.dumps({"site": "shop", "event": "v", "props": {"k": "x" * 33 * 1024}}).encode(),
        400,
        "EVENT_TOO_LARGE",
    ),
    "5,001 events": (
        json.dumps({"site": "shop", "events": [{"event": "v"}] * 5_001}).encode(),
        400,
        "BAD_USER_INPUT",
    ),
    "no events": (b'{"site": "shop", "events": []}', 400, "BAD_USER_INPUT"),
    "events that are no list": (b'{"site": "shop", "events": {}}', 400, "BAD_USER_INPUT"),
    "more than 5 MiB": (b" " * (5 * 1024 * 1024 + 1), 413, "BODY_TOO_LARGE"),
    "a misspelt field": (b'{"site": "shop", "event": "v", "usr": 1}', 400, "UNKNOWN_FIELD"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_gets_a_reason_and_leaves_nothing(
    app: App, database: Database, name: str
) -> None:
    body, status, code = BAD[name]

    answer = await app.client.post("/collect", content=body)

    found = answer.json()
    assert (answer.status_code, found["status"], found["code"]) == (status, "error", code)
    assert len(found["message"]) > 10
    assert await stored(app, database) == []


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b" " * (6 * 1024 * 1024)), "gzip", 413),
        (gzip.compress(b'{"site": "shop", "event": "v"}')[:-9], "gzip", 400),
        (b"not gzip", "gzip", 400),
        (b"{}", "br", 415),
    ],
    # Not by the body: gzip says the time in it.
    ids=["too large", "cut off", "not gzip", "brotli"],
)
async def test_a_bad_encoding_is_refused(app: App, body: bytes, encoding: str, status: int) -> None:
    headers = {"content-encoding": encoding}

    answer = await app.client.post("/collect", content=body, headers=headers)

    assert answer.status_code == status
    assert answer.json()["status"] == "error"


async def test_the_pixel_is_always_the_same_image_and_says_why_it_took_nothing(app: App) -> None:
    good = await app.client.get("/collect?site=shop&event=v&props=%7B%22a%22%3A1%7D")
    bad = [
        "",
        "site=nowhere&event=v",
        "site=shop",
        "site=shop&event=v&props=nope",
        "site=shop&event=%FF%FE",
        "site=shop&event=v&event_id=7",
        "&".join(f"a{n}=1" for n in range(100)),
    ]

    assert (good.status_code, good.content, "x-footfall" in good.headers) == (200, PIXEL, False)
    for query in bad:
        answer = await app.client.get(f"/collect?{query}")
        assert (answer.status_code, answer.content) == (200, PIXEL)
        assert answer.headers["x-footfall"].startswith("ignored: ")
        assert answer.headers["cache-control"] == "no-store"


async def test_the_pixel_keeps_what_the_query_says(app: App, database: Database) -> None:
    await app.client.get(
        "/collect",
        params={
            "site": "shop",
            "event": "pageview",
            "url": "https://shop.example/cart?x=1",
            "ref": "https://search.example/",
            "visitor": "v1",
            "session": "s1",
            "props": '{"plan": "pro"}',
        },
    )

    [row] = await stored(app, database)
    assert (row["event_type"], row["url"], row["path"]) == (
        "pageview",
        "https://shop.example/cart?x=1",
        "/cart",
    )
    assert (row["visitor_id"], row["session_id"], row["properties"]) == (
        "v1",
        "s1",
        '{"plan":"pro"}',
    )


async def test_origins_of_a_site_bind_browsers_and_nobody_else(app: App) -> None:
    await app.site("shop", origins=["https://shop.example"])
    body = {"site": "shop", "event": "v"}

    async def status(**headers: str) -> int:
        return (await app.client.post("/collect", json=body, headers=headers)).status_code

    assert await status() == 200
    assert await status(origin="https://shop.example") == 200
    assert await status(origin="https://evil.example") == 403
    assert await status(origin="null") == 403


async def test_a_refused_origin_reads_nothing_and_an_allowed_one_may(app: App) -> None:
    await app.site("shop", origins=["https://shop.example"])
    body = {"site": "shop", "event": "v"}

    good = await app.client.post("/collect", json=body, headers={"origin": "https://shop.example"})
    bad = await app.client.post("/collect", json=body, headers={"origin": "https://evil.example"})

    assert good.headers["access-control-allow-origin"] == "https://shop.example"
    assert good.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in bad.headers
    assert bad.json()["code"] == "ORIGIN_NOT_ALLOWED"


async def test_the_pixel_of_a_foreign_page_is_not_taken(app: App, database: Database) -> None:
    await app.site("shop", origins=["https://shop.example"])
    query = "/collect?site=shop&event=v"

    bad = await app.client.get(query, headers={"referer": "https://evil.example/page"})
    good = await app.client.get(query, headers={"referer": "https://shop.example/page"})

    assert (bad.content, "x-footfall" in bad.headers) == (PIXEL, True)
    assert "x-footfall" not in good.headers
    assert len(await stored(app, database)) == 1


async def test_the_pixel_of_a_page_without_a_proper_address_is_one_of_no_origin(
    app: App, database: Database
) -> None:
    await app.site("shop", origins=["https://shop.example"])
    await app.site("open")

    shut = await app.client.get("/collect?site=shop&event=v", headers={"referer": "http://["})
    taken = await app.client.get("/collect?site=open&event=v", headers={"referer": "http://["})

    assert (shut.status_code, shut.content, "x-footfall" in shut.headers) == (200, PIXEL, True)
    assert (taken.status_code, taken.content, "x-footfall" in taken.headers) == (200, PIXEL, False)
    assert len(await stored(app, database)) == 1


async def test_a_preflight_is_answered_for_origins_that_some_site_allows(app: App) -> None:
    await app.site("shop", origins=["https://shop.example"])
    await app.site("blog", origins=["https://blog.example"])

    async def preflight(origin: str) -> int:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        return (await app.client.options("/collect", headers=headers)).status_code

    assert await preflight("https://blog.example") == 204
    assert await preflight("https://evil.example") == 403


async def test_other_methods_are_told_which_are_allowed(app: App) -> None:
    answer = await app.client.put("/collect")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")


async def visitors_of(app: App, database: Database, *headers: dict[str, str]) -> list[object]:
    # Visitors are told apart within a day.
    await within_an_hour(30)
    for one in headers:
        await app.client.post("/collect", json={"site": "shop", "event": "v"}, headers=one)
    return [row["visitor_id"] for row in await stored(app, database)]


async def test_a_page_without_identity_gets_a_visitor_of_address_and_browser(
    app: App, database: Database
) -> None:
    a, b, c = await visitors_of(
        app, database, {"user-agent": "one"}, {"user-agent": "one"}, {"user-agent": "two"}
    )

    assert a == b != c
    assert isinstance(a, str)
    assert len(a) == 32


async def test_whoever_is_known_gets_no_derived_visitor(app: App, database: Database) -> None:
    await app.client.post("/collect", json={"site": "shop", "event": "v", "user": "ada"})
    await app.client.post(
        "/collect",
        json={"site": "shop", "events": [{"event": "v", "visitor": "x"}, {"event": "v"}]},
    )

    rows = await stored(app, database)
    assert [row["visitor_id"] for row in rows][:2] == [None, "x"]
    assert rows[2]["visitor_id"] not in (None, "x")


async def test_visitors_of_two_sites_or_two_days_cannot_be_told_to_be_one(
    app: App, database: Database
) -> None:
    await app.client.post("/collect", json={"site": "shop", "event": "v"})
    await app.client.post("/collect", json={"site": "blog", "event": "v"})
    # A new day has a new salt.
    connection = await database.connect()
    await connection.execute("delete from visitor_salts")
    await connection.close()
    app.resources.salts._day = None
    await app.client.post("/collect", json={"site": "shop", "event": "v"})

    visitors = [row["visitor_id"] for row in await stored(app, database)]
    assert len(set(visitors)) == 3


async def test_forwarded_addresses_count_only_behind_trusted_proxies(
    app: App, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    forged = [{"x-forwarded-for": "1.1.1.1"}, {"x-forwarded-for": "2.2.2.2"}]
    unknown = await visitors_of(app, database, *forged)
    home = tmp_path_factory.mktemp("proxied")
    async with open_app(database, home, trusted_proxies="127.0.0.1") as proxied:
        behind = await visitors_of(
            proxied, database, *forged, {"x-forwarded-for": "9.9.9.9, 1.1.1.1"}
        )

    assert len(set(unknown)) == 1
    assert len(set(behind[2:])) == 2
    assert behind[2] == behind[4]


async def test_no_address_is_stored_anywhere(app: App, database: Database) -> None:
    await app.client.post("/collect", json={"site": "shop", "event": "v"})
    await app.client.post("/collect", json={"site": "shop", "event": ""})

    connection = await database.connect()
    tables = await connection.fetch(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    for table in tables:
        found = await connection.fetch(
            f"select t::text from \"{table['relname']}\" t where t::text like '%127.0.0.1%'"
        )
        assert found == []
    await connection.close()


async def test_requests_that_come_together_are_all_answered(app: App, database: Database) -> None:
    answers = await asyncio.gather(
        *(app.client.post("/collect", json={"site": "shop", "event": "v"}) for _ in range(200))
    )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["event_id"] for answer in answers}) == 200
    assert len(await stored(app, database)) == 200


async def test_a_failure_that_nobody_foresaw_is_masked_under_its_correlation_id(
    app: App, database: Database
) -> None:
    # A site that a hand at the database broke: no such weekday.
    connection = await database.connect()
    await connection.execute("update sites set week_start = 'SOMEDAY'")
    await connection.close()
    app.resources.directory.forget()

    answer = await app.client.post(
        "/collect",
        json={"site": "shop", "event": "v"},
        headers={"x-correlation-id": "find-me-0002"},
    )

    assert answer.status_code == 500
    assert answer.json()["code"] == "INTERNAL_SERVER_ERROR"
    assert "find-me-0002" in answer.json()["message"]
    assert "SOMEDAY" not in answer.text
