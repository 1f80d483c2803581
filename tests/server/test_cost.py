"""Cost as data: what answers tell, what a dry run tells, and what happens when a budget is spent."""

from pathlib import Path
from typing import Any

from data.postgres.keys import Scope
from schema.limits import LIMITS as DOCUMENT_LIMITS
from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database

DAU = (
    "query ($to: Date!) {"
    ' dau(siteId: "shop", range: {from: "2026-01-01", to: $to}) { points { date users } total } }'
)
LIMITS = (
    "{ viewer { limits { operationCost budget available restoreRate depth fields aliases"
    " rootFields directives tokens characters lines comments operations timeoutSeconds } } }"
)


def _cost(body: dict[str, Any]) -> dict[str, Any]:
    cost: dict[str, Any] = body["extensions"]["cost"]
    return cost


async def test_every_answer_tells_what_it_cost_and_what_is_left(app: App) -> None:
    first = _cost(await app.post(DAU, {"to": "2026-01-31"}))

    assert first["requestedQueryCost"] > 31
    assert first["actualQueryCost"] == first["requestedQueryCost"]
    assert first["throttleStatus"]["maximumAvailable"] == 1_000_000
    assert first["throttleStatus"]["currentlyAvailable"] <= 1_000_000
    assert first["throttleStatus"]["restoreRate"] == 50_000


async def test_a_longer_range_costs_more(app: App) -> None:
    month = _cost(await app.post(DAU, {"to": "2026-01-31"}))["requestedQueryCost"]
    year = _cost(await app.post(DAU, {"to": "2026-12-31"}))["requestedQueryCost"]

    assert year - month == 365 - 31


async def test_a_page_that_is_not_full_costs_what_it_holds(app: App) -> None:
    await app.ingest("shop", {"eventType": "view"}, {"eventType": "view"})
    await app.followed()
    full, part = [
        _cost(await app.post('{ events(siteId: "shop", first: 500) { nodes { eventType } } }'))[
            name
        ]
        for name in ("requestedQueryCost", "actualQueryCost")
    ]

    assert full - part == 498


async def test_a_dry_run_tells_the_cost_and_does_nothing(app: App) -> None:
    response = await app.client.post(
        "/graphql",
        json={
            "query": "mutation ($input: SiteInput!) { saveSite(input: $input) { id } }",
            "variables": {"input": {"id": "new"}},
            "extensions": {"cost": {"dryRun": True}},
        },
        headers={"x-api-key": app.admin_key},
    )

    body = response.json()
    assert response.status_code == 200
    assert body["data"] is None
    assert "errors" not in body
    assert _cost(body)["requestedQueryCost"] > 0
    assert _cost(body)["actualQueryCost"] == 0
    assert [site["id"] for site in (await app.data("{ sites { id } }"))["sites"]] == [
        "blog",
        "shop",
    ]


async def test_a_dry_run_tells_the_price_of_what_one_could_not_pay(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path, query_cost_limit=1_000) as app:
        await app.site("shop")
        hours = (
            '{ eventCounts(siteId: "shop", interval: HOUR,'
            ' range: {from: "2024-01-01", to: "2026-12-31"}) { points { count } } }'
        )

        refusal = await app.refusal(hours)
        response = await app.client.post(
            "/graphql",
            json={"query": hours, "extensions": {"cost": {"dryRun": True}}},
            headers={"x-api-key": app.admin_key},
        )

    assert (refusal["code"], refusal["limit"]) == ("QUERY_TOO_EXPENSIVE", "cost")
    assert refusal["found"] == _cost(response.json())["requestedQueryCost"]
    assert refusal["maximum"] == 1_000


async def test_a_key_that_has_spent_its_budget_is_told_when_to_come_back(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(
        database,
        tmp_path,
        query_cost_limit=1_000,
        query_cost_budget=1_000,
        query_cost_restore_per_second=1,
    ) as app:
        await app.site("shop")
        reader = await app.key("shop", Scope.READ)
        asked = {"query": DAU, "variables": {"to": "2026-12-31"}}
        headers = {"x-api-key": reader}
        answers = [await app.client.post("/graphql", json=asked, headers=headers) for _ in range(6)]
        other = await app.post(DAU, {"to": "2026-12-31"})

    refused = answers[-1]
    assert answers[0].status_code == 200
    assert refused.status_code == 429
    (error,) = refused.json()["errors"]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert int(refused.headers["retry-after"]) == error["extensions"]["retryAfter"] > 0
    assert "errors" not in other, "a budget belongs to its key alone"


async def test_what_a_full_budget_could_not_pay_for_is_too_expensive_and_not_too_early(
    database: Database, tmp_path: Path
) -> None:
    async with open_app(database, tmp_path, query_cost_budget=1_000) as app:
        await app.site("shop")
        refusal = await app.refusal(DAU, {"to": "2028-12-31"})
        limits = (await app.data(LIMITS))["viewer"]["limits"]

    assert (refusal["code"], refusal["limit"]) == ("QUERY_TOO_EXPENSIVE", "cost")
    assert refusal["maximum"] == limits["operationCost"] == 1_000


async def test_mutations_that_are_done_are_paid_for_when_a_later_one_fails(app: App) -> None:
    ingest = 'ingest(input: {siteId: "shop", events: [{eventType: "view"}]}) { accepted }'
    alone = _cost(await app.post(f"mutation {{ {ingest} }}"))
    body = await app.post(f'mutation {{ {ingest} revokeApiKey(id: "nobody") }}')
    refused = _cost(await app.post('mutation { revokeApiKey(id: "nobody") }'))

    assert body["data"] is None
    assert body["errors"][0]["path"] == ["revokeApiKey"]
    cost = _cost(body)
    assert cost["actualQueryCost"] == cost["requestedQueryCost"] > alone["actualQueryCost"] > 0
    assert refused["actualQueryCost"] == 0, "where nothing was done, everything comes back"


async def test_a_viewer_knows_its_limits_and_what_is_left(app: App) -> None:
    before = (await app.data(LIMITS))["viewer"]["limits"]
    await app.data(DAU, {"to": "2028-01-01"})
    after = (await app.data(LIMITS))["viewer"]["limits"]

    assert before["budget"] == 1_000_000
    assert before["operationCost"] == 200_000
    assert before["restoreRate"] == 50_000
    assert before["timeoutSeconds"] == 30
    assert 0 < after["available"] <= 1_000_000
    assert min(before[name] for name in ("depth", "fields", "aliases", "tokens")) > 0
    names = ("lines", "comments", "operations")
    assert [before[name] for name in names] == [getattr(DOCUMENT_LIMITS, name) for name in names]


async def test_introspection_in_production_answers_to_a_service_wide_admin_alone(
    database: Database, tmp_path: Path
) -> None:
    asked = "{ __schema { queryType { name } } }"
    async with open_app(database, tmp_path, environment="production") as app:
        await app.site("shop")
        for scopes, site in ((tuple(Scope), "shop"), ((Scope.READ, Scope.INGEST), None)):
            refusal = await app.refusal(asked, key=await app.key(site, *scopes))
            assert refusal["code"] == "GRAPHQL_VALIDATION_FAILED"
        hidden = 'query Q($yes: Boolean!) { ...F @include(if: $yes) } fragment F on Query { __type(name: "Event") { name } }'
        refusal = await app.refusal(hidden, {"yes": True}, await app.key("shop", Scope.READ))
        assert refusal["code"] == "GRAPHQL_VALIDATION_FAILED"
        assert (await app.data(asked))["__schema"]["queryType"]["name"] == "Query"
        # What clients add to every selection is no introspection.
        assert await app.data("{ __typename }") == {"__typename": "Query"}


async def test_long_texts_cost_what_keeps_answers_from_filling_the_memory(app: App) -> None:
    every_field = "nodes { eventId eventType occurredAt userId url path referrer properties }"
    page = f'{{ events(siteId: "shop", first: 1000) {{ {every_field} }} }}'
    again = " ".join(f"p{number}: properties" for number in range(90))
    many = f'{{ events(siteId: "shop", first: 1000) {{ nodes {{ {again} }} }} }}'

    assert "errors" not in await app.post(page)
    assert (await app.refusal(many))["limit"] == "cost"
