"""GraphQL over HTTP, request by request: the public audits without Node, and what they leave out.

The audits are those of the npm package graphql-http 1.23.1, by their ids.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.settings import Settings
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.service import running

NEW = "application/graphql-response+json"
OLD = "application/json"
TYPENAME = {"query": "{ __typename }"}
BY_NAME = "query Type($name: String!) { __type(name: $name) { name } }"
COERCE = {"query": "query CoerceFailure($id: ID!){ __typename }", "variables": {"id": None}}
NO_FIELD = {"query": "{ 8f31403dfe404bccbb0e835f2629c6a7 }"}

ANY_FAILURE = range(400, 600)
ANY_REFUSAL = range(400, 500)


@dataclass(frozen=True)
class Audit:
    """A request and what its answer must be; `without` names what the body may not hold."""

    body: object = None
    text: str | None = None
    query: Mapping[str, str] | None = None
    accept: str | None = None
    content_type: str | None = OLD
    status: Collection[int] = (200,)
    answers_in: str | None = None
    without: tuple[str, ...] = ()

    async def problem(self, app: App) -> str | None:
        """What is wrong with the answer."""
        answer = await self.answer(app)
        if answer.status_code not in self.status:
            return f"status {answer.status_code}: {answer.text[:200]}"
        content_type = answer.headers["content-type"]
        if self.answers_in and self.answers_in not in content_type:
            return f"content type {content_type}"
        body = answer.content.decode("utf-8")
        present = [key for key in self.without if key in json.loads(body)]
        return f"the body has {present}: {body[:200]}" if present else None

    async def answer(self, app: App) -> httpx.Response:
        """The answer to the request."""
        content = self.text if self.text is not None else json.dumps(self.body)
        is_get = self.query is not None
        request = app.client.build_request(
            "GET" if is_get else "POST",
            "/graphql",
            params=self.query,
            content=None if is_get else content,
            headers={"x-api-key": app.admin_key},
        )
        # What the client adds by itself would not leave a header out.
        for name, value in (("accept", self.accept), ("content-type", self.content_type)):
            if value is None or (is_get and name == "content-type"):
                request.headers.pop(name, None)
            else:
                request.headers[name] = value
        return await app.client.send(request)


def wrong(name: str, *values: object) -> list[Audit]:
    """A parameter with values of other types than its own."""
    return [Audit({**TYPENAME, name: value}, status=(400,)) for value in values]


def both(newer_id: str, older_id: str, body: object) -> dict[str, Audit]:
    """The same request in both media types."""
    return {
        newer_id: Audit(body, accept=NEW, without=("errors",)),
        older_id: Audit(body, accept=OLD, without=("errors",)),
    }


def numbered(prefix: str, audits: list[Audit]) -> dict[str, Audit]:
    return {f"{prefix}{index}": audit for index, audit in enumerate(audits)}


AUDITS: dict[str, Audit] = {
    "22EB": Audit(TYPENAME, accept=NEW, answers_in=NEW),
    "4655": Audit(TYPENAME, accept=OLD, answers_in=OLD),
    "47DE": Audit(TYPENAME, accept="*/*", answers_in=OLD),
    "80D8": Audit(TYPENAME, answers_in=OLD),
    "82A3": Audit(TYPENAME),
    "BF61": Audit(
        {"query": '{ __type(name: "Run🏃Swim🏊") { name } }'},
        content_type="application/json; charset=utf-8",
    ),
    "78D5": Audit(TYPENAME),
    "2C94": Audit(TYPENAME),
    "5A70": Audit(query=TYPENAME),
    "9C48": Audit(query={"query": "mutation { __typename }"}, accept=NEW, status=ANY_REFUSAL),
    "9ABE": Audit(TYPENAME, content_type=None, status=ANY_REFUSAL),
    "03D4": Audit(TYPENAME),
    "A5BF": Audit(text="", status=(400,)),
    "423L": Audit({"notquery": "{ __typename }"}, accept=NEW, status=(400,)),
    **numbered("LKJ", wrong("query", {"obj": "ect"}, 0, False, ["array"])),
    **both("34A2", "13EE", TYPENAME),
    **numbered("6C0", wrong("operationName", {"obj": "ect"}, 0, False, ["array"])),
    **both("8161", "B8B3", {"query": "query Query { __typename }", "operationName": "Query"}),
    **both("94B0", "0220", {**TYPENAME, "variables": None}),
    **both("94B1", "0221", {**TYPENAME, "operationName": None}),
    **both("94B2", "0222", {**TYPENAME, "extensions": None}),
    **numbered("476", wrong("variables", "string", 0, False, ["array"])),
    **both("2EA1", "28B9", {"query": BY_NAME, "variables": {"name": "sometype"}}),
    "D6D5": Audit(
        query={"query": BY_NAME, "variables": '{"name":"sometype"}'},
        accept=NEW,
        without=("errors",),
    ),
    "6A70": Audit(
        query={"query": BY_NAME, "variables": '{"name":"sometype"}'},
        accept=OLD,
        without=("errors",),
    ),
    **numbered("58B", wrong("extensions", "string", 0, False, ["array"])),
    **both("428F", "1B7A", {**TYPENAME, "extensions": {"some": "value"}}),
    "B6DC": Audit(text='{ "not a JSON', accept=OLD, status=range(200, 600)),
    "BCF8": Audit(text='{ "not a JSON', accept=OLD, status=(400,)),
    "B7N8": Audit(text='{ "not a JSON', accept=NEW, status=(400,)),
    "8764": Audit({"qeury": "{ __typename }"}, status=ANY_FAILURE),
    "3E3A": Audit({"qeury": "{ __typename }"}, status=(400,)),
    "572B": Audit({"query": "{"}, accept=OLD),
    "FDE2": Audit(NO_FIELD, accept=OLD),
    "7B9B": Audit(COERCE, accept=OLD),
    "865D": Audit({"query": "{"}, accept=NEW, status=ANY_FAILURE),
    "556A": Audit({"query": "{"}, accept=NEW, status=(400,)),
    "D586": Audit({"query": "{"}, accept=NEW, status=ANY_FAILURE, without=("data",)),
    "51FE": Audit(NO_FIELD, accept=NEW, status=ANY_FAILURE),
    "74FF": Audit(NO_FIELD, accept=NEW, status=(400,)),
    "5E5B": Audit(NO_FIELD, accept=NEW, status=ANY_FAILURE, without=("data",)),
    "86EE": Audit(COERCE, accept=NEW, status=(400,)),
}

# The suite knows an earlier draft: 400 where the later one has 422, 200 where it has 4xx.
NOT_IN_DRAFT = {
    *("423L", "LKJ0", "LKJ1", "LKJ2", "LKJ3", "6C00", "6C01", "6C02", "6C03"),
    *("4760", "4761", "4762", "4763", "58B0", "58B1", "58B2", "58B3", "3E3A"),
    *("572B", "FDE2", "7B9B", "86EE"),
}


async def failed_audits(app: App) -> dict[str, str]:
    problems = {name: await audit.problem(app) for name, audit in AUDITS.items()}
    return {name: problem for name, problem in problems.items() if problem is not None}


async def test_all_public_audits_pass(app: App) -> None:
    assert len(AUDITS) == 61
    assert await failed_audits(app) == {}


async def test_by_the_draft_just_those_audits_fail_that_know_older_codes(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", graphql_status_profile="draft") as app:
        assert set(await failed_audits(app)) == NOT_IN_DRAFT


@dataclass(frozen=True)
class Asked:
    """A request and the status that each profile answers with; by POST unless `params` are given.

    `draft` is that of the draft where it differs.
    """

    status: int
    content: str | bytes = '{"query": "{ __typename }"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    params: Any = None
    code: str = "BAD_USER_INPUT"
    draft: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


def deep(levels: int) -> str:
    return '{"query": "{ __typename }", "variables": ' + '{"a":' * levels


UNLIKE = {
    "body is a number": Asked(400, "1", draft=422),
    "body is a text": Asked(400, '"x"', draft=422),
    "body is null": Asked(400, "null", draft=422),
    "body is empty": Asked(400, ""),
    "body is no JSON": Asked(400, "{"),
    "body has something behind it": Asked(400, '{"query": "{ __typename }"}}'),
    "body is no UTF-8": Asked(400, b'{"query": "\xff"}'),
    "body is UTF-16": Asked(400, '{"query": "{ __typename }"}'.encode("utf-16")),
    "body has half a surrogate": Asked(400, '{"query": "{ __typename }", "x": "\\ud800"}'),
    "body has a number beyond any": Asked(400, '{"query": "{ __typename }", "x": 1e999}'),
    "body is nested deep": Asked(400, "[" * 20_000),
    "variables are nested deep": Asked(400, deep(20_000)),
    "body is too large": Asked(413, " " * (5 * 1024 * 1024 + 1)),
    "batch of a number": Asked(400, "[1]", draft=422),
    "batch of one": Asked(400, '[{"query": "{ __typename }"}]', draft=422),
    "batch with a bad item": Asked(400, '[{"query": 1}]', draft=422),
    "batch with an item that asks nothing": Asked(
        400, '[{"query": "{ __typename }"}, {}]', draft=422
    ),
    "batch of nothing": Asked(400, "[]", draft=422),
    "batch of variables": Asked(
        400, '{"query": "{ __typename }", "variables": [{}]}', draft=422
    ),
    "query is empty": Asked(400, '{"query": ""}', draft=422),
    "query is null": Asked(400, '{"query": null}', draft=422),
    "persisted query is null": Asked(400, '{"extensions": {"persistedQuery": null}}', draft=422),
    "documentId is a number": Asked(400, '{"documentId": 1}', draft=422),
    "plain text": Asked(415, headers={"content-type": "text/plain"}),
    "form": Asked(415, headers={"content-type": "application/x-www-form-urlencoded"}),
    "multipart": Asked(415, headers={"content-type": "multipart/form-data; boundary=x"}),
    "JSON patch": Asked(415, headers={"content-type": "application/json-patch+json"}),
    "GraphQL as it is": Asked(415, headers={"content-type": "application/graphql"}),
    "no content type": Asked(415, headers={"content-type": ""}),
    "other charset": Asked(415, headers={"content-type": "application/json; charset=latin1"}),
    "other encoding": Asked(415, headers={"content-encoding": "br"}),
    "not gzip": Asked(400, headers={"content-encoding": "gzip"}),
    "takes XML only": Asked(406, headers={"accept": "text/xml"}),
    "takes JSON in UTF-16 only": Asked(
        406, headers={"accept": "application/json; charset=utf-16"}
    ),
    "refuses JSON": Asked(406, headers={"accept": "application/json;q=0"}),
    **{
        method: Asked(405, method=method, answer_headers={"allow": "GET, POST"})
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "NONSENSE")
    },
    "GET of nothing": Asked(400, method="GET", draft=422),
    "GET of an empty query": Asked(400, method="GET", params={"query": ""}, draft=422),
    "GET of a mutation": Asked(
        405,
        method="GET",
        params={"query": 'mutation { revokeApiKey(id: "x") }'},
        answer_headers={"allow": "POST"},
    ),
    "GET of a mutation among others": Asked(
        405,
        method="GET",
        params={
            "query": 'query Q { __typename } mutation M { revokeApiKey(id: "x") }',
            "operationName": "M",
        },
        answer_headers={"allow": "POST"},
    ),
    "GET of variables that are no JSON": Asked(
        400, method="GET", params={"query": "{ __typename }", "variables": "{"}
    ),
    "GET of variables that are a list": Asked(
        400, method="GET", params={"query": "{ __typename }", "variables": "[]"}, draft=422
    ),
    "GET of extensions that are a text": Asked(
        400, method="GET", params={"query": "{ __typename }", "extensions": '"x"'}, draft=422
    ),
    "GET of two queries": Asked(
        400, method="GET", params=[("query", "{ __typename }"), ("query", "{ a }")], draft=422
    ),
    "GET of no UTF-8": Asked(400, method="GET", params=b"query=%ff"),
    "GET of many parameters": Asked(400, method="GET", params=b"a=1&" * 60),
}  # fmt: skip


async def answer_to(app: App, asked: Asked) -> httpx.Response:
    headers = {"x-api-key": app.admin_key, "content-type": OLD, **asked.headers}
    content = None if asked.method == "GET" else asked.content
    if isinstance(asked.params, bytes):
        path = f"/graphql?{asked.params.decode()}"
        return await app.client.request(asked.method, path, headers=headers)
    return await app.client.request(
        asked.method, "/graphql", params=asked.params, content=content, headers=headers
    )


async def unlike(app: App, *, is_draft: bool) -> dict[str, str]:
    problems = {}
    for name, asked in UNLIKE.items():
        answer = await answer_to(app, asked)
        wanted = asked.draft if is_draft and asked.draft else asked.status
        found = {key: answer.headers.get(key) for key in asked.answer_headers}
        told = (answer.status_code, answer.headers["content-type"], found)
        if told != (wanted, "application/json; charset=utf-8", asked.answer_headers):
            problems[name] = f"{told} instead of {wanted}: {answer.text[:200]}"
            continue
        error = answer.json()["errors"][0]
        if error["extensions"]["code"] != asked.code or not error["message"]:
            problems[name] = answer.text
        if answer.headers["cache-control"] != "no-store" or "data" in answer.json():
            problems[name] = f"{answer.headers} {answer.text}"
    return problems


async def test_what_is_no_request_is_refused_with_an_error_in_json(app: App) -> None:
    assert await unlike(app, is_draft=False) == {}


async def test_by_the_draft_a_request_of_another_form_is_unprocessable(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", graphql_status_profile="draft") as app:
        assert await unlike(app, is_draft=True) == {}


async def test_a_head_is_refused_without_a_body_of_its_own(app: App) -> None:
    answer = await app.client.head("/graphql", headers={"x-api-key": app.admin_key})

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


FILTER = 'topEvents(siteId: "shop", range: {from: "2026-03-01", to: "2026-03-01"}, limit: 0)'
# By media type and profile: not a document, a document of nothing we have, no such operation,
# a variable that does not fit, and an operation that ran into an error.
STATUSES = {
    (OLD, "compatible"): (200, 200, 200, 200, 200),
    (NEW, "compatible"): (400, 400, 400, 400, 200),
    (OLD, "draft"): (400, 422, 422, 422, 200),
    (NEW, "draft"): (400, 422, 422, 422, 294),
}


@pytest.mark.parametrize("profile", ["compatible", "draft"])
async def test_the_status_says_how_far_a_request_came(
    database: Database, tmp_path: Path, profile: str
) -> None:
    bodies: list[dict[str, object]] = [
        {"query": "{"},
        {"query": "{ nope }"},
        {"query": "query A { __typename } query B { __typename }"},
        {"query": "query ($a: Boolean!) { __typename @include(if: $a) }"},
        {"query": f"{{ __typename {FILTER} {{ total }} }}"},
    ]
    async with open_app(database, tmp_path / "home", graphql_status_profile=profile) as app:
        await app.site("shop")
        for media_type in (OLD, NEW):
            headers = {"x-api-key": app.admin_key, "accept": media_type}
            answers = [
                await app.client.post("/graphql", json=body, headers=headers) for body in bodies
            ]
            statuses = tuple(answer.status_code for answer in answers)
            assert statuses == STATUSES[media_type, profile]
            assert ["data" in answer.json() for answer in answers] == [False] * 4 + [True]
            for answer in answers:
                # By the draft the older type stands on answers of success alone.
                is_old = media_type == OLD and (profile == "compatible" or answer.is_success)
                named = OLD if is_old else NEW
                assert answer.headers["content-type"] == f"{named}; charset=utf-8"


async def test_without_a_key_there_is_a_challenge_before_anything_is_read(app: App) -> None:
    for request in (
        app.client.build_request("POST", "/graphql", content="{", headers={"content-type": OLD}),
        app.client.build_request("POST", "/graphql", content="x"),
        app.client.build_request("GET", "/graphql"),
        app.client.build_request("GET", "/graphql", params=TYPENAME),
    ):
        answer = await app.client.send(request)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_empty_parameters_of_a_get_are_as_good_as_none(app: App) -> None:
    params = {**TYPENAME, "variables": "", "extensions": "", "operationName": "", "documentId": ""}

    answer = await app.client.get("/graphql", params=params, headers={"x-api-key": app.admin_key})

    assert (answer.status_code, answer.json()["data"]) == (200, {"__typename": "Query"})


async def test_null_by_get_is_a_name_like_any_other(app: App) -> None:
    headers = {"x-api-key": app.admin_key}
    query = "query null { __typename } query other { __typename }"

    answer = await app.client.get(
        "/graphql", params={"query": query, "operationName": "null"}, headers=headers
    )

    assert answer.json()["data"] == {"__typename": "Query"}


async def test_what_the_protocol_does_not_know_is_ignored(app: App) -> None:
    body = {
        **TYPENAME,
        "operationName": "",
        "documentId": None,
        "batch": True,
        "query2": 1,
        # Grafana sends these whether a document declares them or not.
        "variables": {"from": 1_767_225_600_000, "interval_ms": 1_000, "refId": "A", "to": [{}]},
    }

    answer = await app.client.post(
        "/graphql?query=%7B", json=body, headers={"x-api-key": app.admin_key}
    )

    assert (answer.status_code, answer.json()["data"]) == (200, {"__typename": "Query"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_subscription_needs_a_connection_that_stays_open(app: App, method: str) -> None:
    body = {"query": "subscription { __typename }"}
    headers = {"x-api-key": app.admin_key}

    answer = (
        await app.client.post("/graphql", json=body, headers=headers)
        if method == "POST"
        else await app.client.get("/graphql", params=body, headers=headers)
    )

    assert answer.status_code in {400, 200}
    assert "errors" in answer.json()


PREFLIGHTED = [
    {"x-apollo-operation-name": "Dau"},
    {"apollo-require-preflight": "true"},
    {"graphql-require-preflight": "1"},
    {"content-type": "application/json"},
    {"content-type": "application/graphql-response+json; charset=utf-8"},
    {"content-type": "no media type at all"},
]
LIKE_A_FORM = [
    {},
    {"x-apollo-operation-name": ""},
    {"content-type": ""},
    {"content-type": "text/plain"},
    {"content-type": "Text/Plain; charset=utf-8"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
]


async def test_in_production_a_get_must_show_that_no_other_page_sent_it(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        for key in ({"x-api-key": app.admin_key}, {"authorization": f"Bearer {app.admin_key}"}):
            for headers in PREFLIGHTED:
                answer = await app.client.get(
                    "/graphql", params=TYPENAME, headers={**key, **headers}
                )
                assert answer.status_code == 200, headers
            for headers in LIKE_A_FORM:
                answer = await app.client.get(
                    "/graphql", params=TYPENAME, headers={**key, **headers}
                )
                assert answer.status_code == 400, headers
                assert "GraphQL-Require-Preflight" in answer.json()["errors"][0]["message"]
        posted = await app.client.post("/graphql", json=TYPENAME, headers=key)
        assert posted.status_code == 200


async def test_in_development_a_key_in_a_header_shows_it_too(app: App) -> None:
    for headers in (
        {"x-api-key": app.admin_key},
        {"authorization": f"Bearer {app.admin_key}"},
        {"x-api-key": app.admin_key, "content-type": "text/plain"},
    ):
        answer = await app.client.get("/graphql", params=TYPENAME, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"documentId": "sha256:" + "0" * 64},
        {"extensions": json.dumps({"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}})},
    ],
)
async def test_in_production_a_get_by_a_documents_name_needs_to_show_nothing(
    database: Database, tmp_path: Path, params: dict[str, str]
) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        headers = {"x-api-key": app.admin_key}

        by_name = await app.client.get("/graphql", params=params, headers=headers)
        with_text = await app.client.get("/graphql", params={**params, **TYPENAME}, headers=headers)

        code = by_name.json()["errors"][0]["extensions"]["code"]
        assert code in {"PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_SUPPORTED"}
        assert with_text.status_code == 400
        assert "GraphQL-Require-Preflight" in with_text.json()["errors"][0]["message"]


async def test_a_key_that_has_spent_its_budget_is_told_when_to_come_back(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(
        database, tmp_path / "home", query_cost_budget=1_000, query_cost_restore_per_second=1
    ) as app:
        await app.site("shop")
        query = 'query ($r: DateRange!) { dau(siteId: "shop", range: $r) { total } }'
        body = {"query": query, "variables": {"r": {"from": "2026-03-01", "to": "2026-03-01"}}}
        for media_type in (OLD, NEW):
            headers = {"x-api-key": app.admin_key, "accept": media_type}
            answers = [
                await app.client.post("/graphql", json=body, headers=headers) for _ in range(11)
            ]
            last = answers[-1]
            assert {answer.status_code for answer in answers} <= {200, 429}
            assert last.status_code == 429
            error = last.json()["errors"][0]
            assert error["extensions"]["code"] == "RATE_LIMITED"
            assert int(last.headers["retry-after"]) == error["extensions"]["retryAfter"] > 0
            assert last.headers["cache-control"] == "no-store"


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_a_browser_that_asks_for_nothing_sees_a_page_in_development(app: App) -> None:
    page = await app.client.get("/graphql?theme=dark", headers=BROWSER)
    asked = await app.client.get(
        "/graphql", params=TYPENAME, headers={**BROWSER, "x-api-key": app.admin_key}
    )

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert asked.json()["data"] == {"__typename": "Query"}


async def test_in_production_a_browser_sees_no_page(database: Database, tmp_path: Path) -> None:
    async with open_app(database, tmp_path / "home", environment="production") as app:
        answer = await app.client.get("/graphql", headers=BROWSER)

        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_a_failure_that_nobody_foresaw_is_an_error_like_any_other(tmp_path: Path) -> None:
    # Nothing was opened: the endpoint lacks everything that it works with.
    never_opened = create_app(Settings(_env_file=None, footfall_home=tmp_path))
    transport = httpx.ASGITransport(never_opened)
    async with httpx.AsyncClient(transport=transport, base_url="http://footfall") as client:
        answer = await client.post(
            "/graphql", json=TYPENAME, headers={"x-correlation-id": "find-me-0002"}
        )

    assert answer.status_code == 500
    error = answer.json()["errors"][0]
    assert error["extensions"] == {
        "code": "INTERNAL_SERVER_ERROR",
        "correlationId": "find-me-0002",
    }


async def test_a_connection_goes_on_after_every_refusal(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        key = {"x-api-key": service.admin_key}
        large = b"x" * 3_000_000
        requests: list[tuple[int, str, bytes, dict[str, str]]] = [
            (401, "POST", large, {"content-type": OLD}),
            (415, "POST", large, {**key, "content-type": "text/plain"}),
            (413, "POST", large * 2, {**key, "content-type": OLD}),
            (405, "PUT", large, key),
            (405, "HEAD", b"", key),
            (406, "POST", large, {**key, "accept": "text/xml"}),
            (200, "GET", b"", key),
            (304, "GET", b"", {**key, "if-none-match": "*"}),
            (200, "GET", b"", key),
        ]
        limits = httpx.Limits(max_connections=1, keepalive_expiry=2)
        async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=30) as client:
            for status, method, content, headers in requests:
                params = {"query": "{ sites { id } }"} if method == "GET" else None
                answer = await client.request(
                    method, "/graphql", params=params, content=content, headers=headers
                )
                assert answer.status_code == status
                assert answer.content == b"" or answer.json()
