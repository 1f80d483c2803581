"""The API by HTTP: who may ask, what may be asked, and what is never told."""

import gzip
import json
from typing import Any

import pytest

from data.postgres.keys import Scope
from tests.fixtures.app import App
from tests.fixtures.ledger import Database

TYPENAME = '{"query": "{ __typename }"}'
JSON = {"content-type": "application/json"}


async def send(app: App, body: bytes | str, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = await app.client.post(
        "/graphql", content=body, headers={"x-api-key": app.admin_key, **JSON, **headers}
    )
    return answer.status_code, answer.json()


async def test_a_key_is_taken_from_either_header(app: App) -> None:
    for headers in (
        {"x-api-key": app.admin_key},
        {"authorization": f"Bearer {app.admin_key}"},
        {"authorization": f"bearer {app.admin_key}"},
    ):
        answer = await app.client.post("/graphql", content=TYPENAME, headers={**JSON, **headers})
        assert (answer.status_code, answer.json()["data"]) == (200, {"__typename": "Query"})


async def test_without_a_good_key_there_is_nothing_but_401(app: App) -> None:
    good = await app.key("shop")
    for key in ("", "x", "ff_nobody_00", good[:-1] + ("0" if good[-1] != "0" else "1"), good + "0"):
        answer = await app.client.post(
            "/graphql", content=TYPENAME, headers={**JSON, "x-api-key": key}
        )
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


async def test_every_answer_carries_a_correlation_id_and_keeps_one_that_was_sent(app: App) -> None:
    made = await app.client.get("/health/live")
    sent = await app.client.get("/health/live", headers={"x-correlation-id": "trace-12345678"})
    odd = await app.client.get("/health/live", headers={"x-correlation-id": "a b\tc"})

    assert len(made.headers["x-correlation-id"]) >= 16
    assert sent.headers["x-correlation-id"] == "trace-12345678"
    assert odd.headers["x-correlation-id"] != "a b\tc"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ a" + "{a" * 5_000, "GRAPHQL_PARSE_FAILED"),
        ("{ __typename " + "__typename " * 12_000 + "}", "GRAPHQL_PARSE_FAILED"),
        ("{ __typename " + " " * 100_001 + "}", "GRAPHQL_PARSE_FAILED"),
        ("query A { __typename } query B { __typename }", "BAD_USER_INPUT"),
        ("query ($a: Int!) { topEvents(limit: $a, range: $b) { total } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query ($a: Boolean!) { __typename @include(if: $a) }", "BAD_USER_INPUT"),
    ],
)  # fmt: skip
async def test_a_bad_document_has_a_code_by_what_is_wrong(
    app: App, document: str, code: str
) -> None:
    status, answer = await send(app, json.dumps({"query": document}))

    assert status == 200
    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"] == code


async def test_a_gzip_request_is_read(app: App) -> None:
    status, _ = await send(app, gzip.compress(TYPENAME.encode()), **{"content-encoding": "gzip"})

    assert status == 200


async def test_an_unexpected_error_is_masked_and_logged_by_its_correlation_id(
    app: App, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    # A site that a hand at the database broke: no such weekday.
    connection = await database.connect()
    await connection.execute("update sites set week_start = 'SOMEDAY'")
    await connection.close()
    app.resources.directory.forget()

    answer = await app.client.post(
        "/graphql",
        json={"query": "{ sites { id } }"},
        headers={"x-api-key": app.admin_key, "x-correlation-id": "find-me-0001"},
    )

    error = answer.json()["errors"][0]
    assert error["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert error["extensions"]["correlationId"] == "find-me-0001"
    assert "SOMEDAY" not in answer.text


async def test_bad_variables_name_the_variable(app: App) -> None:
    query = 'query ($days: DateRange!) { dau(siteId: "shop", range: $days) { total } }'

    error = await app.refusal(query, {"days": {"from": "2026-02-30", "to": "2026-03-01"}})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "days")


ASK = """
query ($range: DateRange!, $timezone: String, $filter: EventFilter, $site: ID) {
  dau(siteId: $site, range: $range, timezone: $timezone, filter: $filter) { total }
}
"""
MARCH = {"from": "2026-03-01", "to": "2026-03-31"}


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"range": {"from": "2026-03-02", "to": "2026-03-01"}}, "range"),
        ({"range": {"from": "2020-01-01", "to": "2026-03-01"}}, "range"),
        ({"range": {"from": "0001-01-01", "to": "0001-01-02"}}, "range"),
        ({"range": MARCH, "timezone": "Mars/Olympus"}, "timezone"),
        ({"range": MARCH, "timezone": "../../etc/passwd"}, "timezone"),
        ({"range": MARCH, "filter": {"url": {"matches": "("}}}, "filter"),
        ({"range": MARCH, "filter": {"url": {"matches": "(?=a)"}}}, "filter"),
        (
            {"range": MARCH, "filter": {"properties": [{"name": "a", "string": {"matches": "["}}]}},
            "filter",
        ),
        ({"range": MARCH, "filter": {"or": [{"url": {"eq": "x"}}] * 201}}, "filter"),
        ({"range": MARCH, "site": None}, "siteId"),
    ],
)
async def test_what_cannot_be_asked_names_its_argument(
    app: App, variables: dict[str, object], argument: str
) -> None:
    error = await app.refusal(ASK, {"site": "shop", **variables})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)
    assert len(error["message"]) > 10


@pytest.mark.parametrize(
    ("field", "argument"),
    [
        ('activeUsers(interval: HOUR, siteId: "shop", range: $r) { total }', "interval"),
        ('activeUsers(interval: WEEK, rolling: 7, siteId: "shop", range: $r) { total }', "rolling"),
        ('activeUsers(rolling: 0, siteId: "shop", range: $r) { total }', "rolling"),
        ('topEvents(limit: 0, siteId: "shop", range: $r) { total }', "limit"),
        ('retention(interval: HOUR, siteId: "shop", range: $r) { interval }', "interval"),
        ('retention(periods: -1, siteId: "shop", range: $r) { interval }', "periods"),
        ('retention(periods: 100000, siteId: "shop", range: $r) { interval }', "periods"),
        ('events(first: 0, siteId: "shop", range: $r) { edges { cursor } }', "first"),
        ('events(first: 1001, siteId: "shop", range: $r) { edges { cursor } }', "first"),
        ('events(after: "nope", siteId: "shop", range: $r) { edges { cursor } }', "after"),
    ],
)  # fmt: skip
async def test_limits_of_arguments_are_told(app: App, field: str, argument: str) -> None:
    error = await app.refusal(f"query ($r: DateRange!) {{ {field} }}", {"r": MARCH})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)


async def test_periods_beyond_the_calendar_are_refused(app: App) -> None:
    query = """query ($r: DateRange!) {
      retention(siteId: "shop", range: $r, periods: 1100) { interval }
    }"""

    error = await app.refusal(query, {"r": {"from": "9990-01-01", "to": "9990-01-02"}})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "periods")


async def test_a_key_of_one_site_sees_no_other(app: App) -> None:
    shared = "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"
    await app.ingest("shop", {"eventId": shared, "eventType": "v", "userId": "a"})
    await app.ingest("blog", {"eventId": shared, "eventType": "w", "userId": "b"})
    await app.followed()
    shop = await app.key("shop", Scope.READ)

    own = await app.data("{ events { nodes { siteId eventType } } }", key=shop)
    assert own["events"]["nodes"] == [{"siteId": "shop", "eventType": "v"}]
    for query in (
        '{ events(siteId: "blog") { nodes { eventType } } }',
        '{ userEvents(siteId: "blog", userId: "b") { nodes { eventType } } }',
        f'{{ receipts(siteId: "blog", eventIds: ["{shared}"]) {{ status }} }}',
        '{ site(id: "blog") { name } }',
        '{ site(id: "no-such-site") { name } }',
    ):
        assert (await app.post(query, key=shop))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    sites = await app.data("{ sites { id } }", key=shop)
    assert sites["sites"] == [{"id": "shop"}]


async def test_scopes_are_kept_apart(app: App) -> None:
    ingest = await app.key("shop", Scope.INGEST)
    read = await app.key("shop", Scope.READ)
    send_one = 'mutation { ingest(input: {events: [{eventType: "v"}]}) { accepted } }'

    assert (await app.data(send_one, key=ingest))["ingest"]["accepted"] == 1
    assert (await app.refusal(send_one, key=read))["code"] == "FORBIDDEN"
    assert (await app.refusal("{ sites { id } }", key=ingest))["code"] == "FORBIDDEN"
    assert (await app.refusal("{ system { status } }", key=read))["code"] == "FORBIDDEN"


async def test_a_revoked_key_ends_at_once_and_an_expired_one_by_itself(app: App) -> None:
    create = """mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { id key } }"""
    made = (await app.data(create, {"input": {"siteId": "shop", "name": "x", "scopes": ["READ"]}}))[
        "createApiKey"
    ]
    assert await app.data("{ viewer { name scopes } }", key=made["key"])

    await app.data("mutation ($id: ID!) { revokeApiKey(id: $id) }", {"id": made["id"]})

    assert (await app.refusal("{ viewer { name } }", key=made["key"]))["code"] == "UNAUTHENTICATED"
    past = {"name": "x", "scopes": ["READ"], "expiresAt": "2020-01-01T00:00:00Z"}
    error = await app.refusal(create, {"input": past})
    assert error["argument"] == "expiresAt"


async def test_only_hashes_of_keys_are_stored(app: App, database: Database) -> None:
    key = await app.key("shop")
    secret = key.split("_")[2]

    connection = await database.connect()
    found = await connection.fetch("select k::text from api_keys k where k::text like $1", secret)
    stored = await connection.fetchval("select encode(secret_hash, 'hex') from api_keys")
    await connection.close()
    assert found == []
    assert secret not in stored


async def test_an_admin_of_one_site_governs_that_site_alone(app: App) -> None:
    admin = await app.key("shop", Scope.ADMIN, Scope.READ)
    save = "mutation ($input: SiteInput!) { saveSite(input: $input) { id timezone weekStart } }"
    create = "mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { id } }"

    saved = await app.data(save, {"input": {"id": "shop", "timezone": "Asia/Tokyo"}}, key=admin)
    assert saved["saveSite"] == {"id": "shop", "timezone": "Asia/Tokyo", "weekStart": "MONDAY"}
    for query, value in (
        (save, {"id": "blog", "timezone": "Asia/Tokyo"}),
        (save, {"id": "new-site"}),
        (create, {"siteId": "blog", "name": "x", "scopes": ["READ"]}),
    ):
        assert (await app.refusal(query, {"input": value}, key=admin))["code"] == "FORBIDDEN"
    assert await app.data(create, {"input": {"name": "x", "scopes": ["READ"]}}, key=admin)


@pytest.mark.parametrize(
    ("fields", "argument"),
    [
        ({"id": "Shop One"}, "id"),
        ({"id": "ok", "timezone": "Nowhere"}, "timezone"),
        ({"id": "ok", "name": " "}, "name"),
        ({"id": "ok", "origins": ["shop.example"]}, "origins"),
        ({"id": "ok", "origins": ["https://shop.example/path"]}, "origins"),
        ({"id": "ok", "origins": ["https://u@shop.example"]}, "origins"),
    ],
)
async def test_a_site_that_cannot_be_is_refused(
    app: App, fields: dict[str, object], argument: str
) -> None:
    save = "mutation ($input: SiteInput!) { saveSite(input: $input) { id } }"

    error = await app.refusal(save, {"input": fields})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", argument)


async def test_origins_are_kept_as_browsers_send_them(app: App) -> None:
    save = "mutation ($input: SiteInput!) { saveSite(input: $input) { origins } }"
    origins = ["https://Shop.Example:443/", "http://a.example:8080", "https://shop.example", "*"]

    saved = await app.data(save, {"input": {"id": "shop", "origins": origins}})

    assert saved["saveSite"]["origins"] == ["https://shop.example", "http://a.example:8080", "*"]


INGEST = """
mutation ($events: [EventInput!]!) {
  ingest(input: {siteId: "shop", events: $events}) {
    received accepted duplicates queued rejected
    receipts { index eventId status code message }
    refused: receipts(only: [REJECTED]) { index code }
  }
}
"""


async def test_each_event_has_its_receipt_and_a_bad_one_sinks_no_other(app: App) -> None:
    known = "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"
    await app.ingest("shop", {"eventId": known, "eventType": "v"})
    events = [
        {"eventType": "v"},
        {"eventId": known, "eventType": "v"},
        {"eventType": "v", "occurredAt": "2999-01-01T00:00:00Z"},
        {"eventType": "v", "occurredAt": "no time"},
        {"eventType": "v", "eventId": "no id"},
        {"eventType": "v", "properties": [1]},
        {"eventType": "v", "properties": {"k": "x" * 33_000}},
        {"eventType": "v", "url": "what is this"},
        {"eventType": ""},
    ]

    payload = (await app.data(INGEST, {"events": events}))["ingest"]

    assert (payload["received"], payload["accepted"], payload["duplicates"]) == (9, 1, 1)
    assert (payload["queued"], payload["rejected"]) == (0, 7)
    assert [one["code"] for one in payload["receipts"]] == [
        None,
        None,
        "INVALID_TIMESTAMP",
        "INVALID_TIMESTAMP",
        "INVALID_EVENT_ID",
        "PROPERTIES_NOT_AN_OBJECT",
        "EVENT_TOO_LARGE",
        "INVALID_URL",
        "INVALID_EVENT_TYPE",
    ]
    assert [one["index"] for one in payload["refused"]] == [2, 3, 4, 5, 6, 7, 8]


async def test_receipts_tell_of_every_id_in_the_order_asked(app: App) -> None:
    taken = "f76a251e-8df9-5301-a00a-0e67bbdd4fd4"
    refused = "2cc35d5e-e724-5d88-b2e9-fb574d28d978"
    unknown = "00000000-0000-4000-8000-000000000000"
    await app.ingest(
        "shop", {"eventId": taken, "eventType": "v"}, {"eventId": refused, "eventType": ""}
    )
    query = (
        """query ($ids: [UUID!]!) { receipts(siteId: "shop", eventIds: $ids) { status code } }"""
    )

    found = (await app.data(query, {"ids": [unknown, refused, taken]}))["receipts"]

    assert found == [
        None,
        {"status": "REJECTED", "code": "INVALID_EVENT_TYPE"},
        {"status": "ACCEPTED", "code": None},
    ]


@pytest.mark.parametrize("count", [0, 5_001])
async def test_a_request_takes_one_to_five_thousand_events(app: App, count: int) -> None:
    error = await app.refusal(INGEST, {"events": [{"eventType": "v"}] * count})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "events")


async def test_five_thousand_events_are_taken_at_once(app: App) -> None:
    events = [{"eventType": "v"}] * 5_000

    payload = (await app.data(INGEST, {"events": events}))["ingest"]

    assert payload["accepted"] == 5_000


@pytest.mark.parametrize(
    "event", [{}, {"eventType": None}, {"eventType": 7}, {"eventType": "v", "nope": 1}]
)
async def test_wrong_types_are_told_by_the_schema(app: App, event: dict[str, object]) -> None:
    error = await app.refusal(INGEST, {"events": [event]})

    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", "events")


async def test_pages_of_events_hold_still_while_events_arrive(app: App) -> None:
    def moment(minute: int) -> str:
        return f"2026-03-01T12:{minute:02}:00Z"

    await app.ingest(
        "shop", *({"eventType": f"e{n}", "userId": "a", "occurredAt": moment(n)} for n in range(7))
    )
    await app.followed()
    query = """
    query ($after: String) {
      userEvents(siteId: "shop", userId: "a", first: 3, after: $after) {
        edges { cursor node { eventType occurredAt } }
        nodes { eventType }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        meta { dataThrough }
      }
    }
    """
    seen, after = [], None
    while True:
        page = (await app.data(query, {"after": after}))["userEvents"]
        seen += [edge["node"]["eventType"] for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
        # Newer and older events come in between; those of later pages may show, none twice.
        await app.ingest(
            "shop", {"eventType": "new", "userId": "a", "occurredAt": "2026-03-02T00:00:00Z"}
        )
        await app.followed()

    assert seen == ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]


async def test_several_sites_and_ranges_of_one_request_are_one_statement(app: App) -> None:
    for site in ("shop", "blog"):
        await app.ingest(
            site, {"eventType": "v", "userId": site, "occurredAt": "2026-03-01T12:00:00Z"}
        )
    await app.followed()
    query = """{
      a: dau(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-01"}) { total }
      b: dau(siteId: "blog", range: {from: "2026-03-01", to: "2026-03-02"}) { total }
      c: dau(siteId: "blog", range: {from: "2026-02-01", to: "2026-02-02"}) { total }
      d: dau(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-01"}, timezone: "Asia/Tokyo") { total }
    }"""

    def asked() -> float:
        page = app.resources.metrics.render()[0].decode()
        name = 'footfall_store_query_duration_seconds_count{query="active_users"} '
        return sum(float(line.removeprefix(name)) for line in page.splitlines() if name in line)

    before = asked()
    answer = await app.data(query)

    assert [answer[alias]["total"] for alias in "abcd"] == [1, 1, 0, 1]
    assert asked() - before == 1
