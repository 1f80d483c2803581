"""Sources over GraphQL: fetching them, what they brought, and how fresh it is."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.app import App, open_app
from tests.fixtures.ledger import Database
from tests.fixtures.redis import RedisServer
from tests.fixtures.source_answers import Failing, Gated, Items, as_json, html
from tests.fixtures.source_server import SourceServer
from tests.fixtures.sourced import RECORDS, REFRESH, contents, page, refresh, save

SUMMARY = """
{
  sourceSummary {
    records sources { records ageSeconds source { key breaker } } meta { cache computedAt }
  }
}
"""


@pytest.fixture
def app(sourced_app: App) -> App:
    """The application, whose sources may be on this machine."""
    return sourced_app


async def test_what_a_source_brings_is_there_when_the_refresh_has_been_waited_for(
    app: App, source_server: SourceServer
) -> None:
    prices = source_server.at("/prices", Items([{"id": 1, "price": 5}, {"id": "b", "price": 7}]))
    await save(app, "prices", source_server.url("/prices"))

    done = await refresh(app, "prices")

    [audit] = done["audits"]
    assert (done["running"], done["sources"][0]["records"]) == ([], 2)
    assert (audit["outcome"], audit["httpStatus"], audit["attempts"]) == ("SUCCESS", 200, 1)
    figures = ("recordsSeen", "recordsAdded", "recordsChanged", "recordsVanished")
    assert [audit[name] for name in figures] == [2, 2, 2, 0]
    assert contents(await page(app)) == {"1": prices.records[0], "b": prices.records[1]}

    prices.records = [{"id": 1, "price": 6}, {"id": "c", "price": 1}]
    [audit] = (await refresh(app, "prices"))["audits"]
    there, all_of_them = await page(app), await page(app, gone=True)

    assert [audit[name] for name in figures] == [2, 1, 2, 1]
    assert contents(there) == {"1": {"id": 1, "price": 6}, "c": {"id": "c", "price": 1}}
    gone = {node["externalId"]: node["vanishedAt"] for node in all_of_them["nodes"]}
    assert [one for one, at in gone.items() if at] == ["b"]
    [one] = [node for node in there["nodes"] if node["externalId"] == "1"]
    assert [change["kind"] for change in one["history"]] == ["CHANGED", "ADDED"]
    assert [change["data"]["price"] for change in one["history"]] == [6, 5]
    assert one["changedAt"] > one["firstSeenAt"]
    assert one["source"] == {"key": "prices", "records": 2}


async def test_a_refresh_that_finds_nothing_new_moves_fetched_at_and_nothing_else(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/prices", Items([{"id": 1}], etag=False))
    await save(app, "prices", source_server.url("/prices"))
    await refresh(app, "prices")
    [before] = (await page(app))["nodes"]

    [audit] = (await refresh(app, "prices"))["audits"]
    [after] = (await page(app))["nodes"]

    assert (audit["recordsSeen"], audit["recordsChanged"]) == (1, 0)
    assert after["fetchedAt"] > before["fetchedAt"]
    assert after | {"fetchedAt": 0} == before | {"fetchedAt": 0}


async def test_numbers_keep_the_digits_that_the_source_wrote(
    app: App, source_server: SourceServer
) -> None:
    text = '[{"id": 1, "a": 0.10000000000000000001, "b": 1e300, "c": 12345678901234567890123}]'
    source_server.at("/n", as_json(0))

    async def answer(asked: Any, writer: asyncio.StreamWriter) -> None:
        body = text.encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    source_server.at("/n", answer)
    await save(app, "numbers", source_server.url("/n"))
    await refresh(app, "numbers")

    response = await app.client.post(
        "/graphql",
        json={"query": "{ records { nodes { data } } }"},
        headers={"x-api-key": app.admin_key},
    )

    assert '"a":0.10000000000000000001,"b":1e300,"c":12345678901234567890123' in response.text


async def test_pages_of_records_have_neither_gaps_nor_repetitions(
    app: App, source_server: SourceServer
) -> None:
    numbers = source_server.at("/n", Items([{"id": n, "n": 0} for n in range(25)]))
    await save(app, "numbers", source_server.url("/n"))
    await refresh(app, "numbers")
    numbers.records[7]["n"] = numbers.records[21]["n"] = 1
    await refresh(app, "numbers")

    seen, after = [], None
    while True:
        found = await page(app, source="numbers", first=10, after=after)
        seen += [node["externalId"] for node in found["nodes"]]
        assert [edge["node"]["id"] for edge in found["edges"]] == [n["id"] for n in found["nodes"]]
        after = found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break

    assert set(seen[:2]) == {"7", "21"}
    assert sorted(map(int, seen)) == list(range(25))


async def test_records_are_found_by_id_and_by_the_time_of_their_change(
    app: App, source_server: SourceServer
) -> None:
    items = source_server.at("/a", Items([{"id": 1}, {"id": 2}]))
    source_server.at("/b", Items([{"id": 1}]))
    await save(app, "a", source_server.url("/a"))
    await save(app, "b", source_server.url("/b"))
    await refresh(app, "a", "b")
    moment = max(node["changedAt"] for node in (await page(app))["nodes"])
    items.records.append({"id": 3})
    await refresh(app, "a")

    newer = [n for n in (await page(app, since=moment))["nodes"] if n["changedAt"] > moment]
    older = await page(app, before=newer[0]["changedAt"])
    one = await page(app, source="b", id="1")
    record = await app.data(
        "query ($id: ID!) { record(id: $id) { externalId source { key } } }",
        {"id": newer[0]["id"]},
    )

    assert [node["externalId"] for node in newer] == ["3"]
    assert len(older["nodes"]) == 3
    assert [node["source"]["key"] for node in one["nodes"]] == ["b"]
    assert record["record"] == {"externalId": "3", "source": {"key": "a"}}
    for unknown in ("0", "-1", "x", "9" * 30, "99999999"):
        assert await app.data(f'{{ record(id: "{unknown}") {{ id }} }}') == {"record": None}


async def test_a_failure_changes_nothing_and_is_told_in_plain_words(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/prices", Items([{"id": 1}]))
    await save(app, "prices", source_server.url("/prices"))
    await refresh(app, "prices")
    before = contents(await page(app))
    source_server.at("/prices", html())

    done = await refresh(app, "prices")
    found = await app.data(
        '{ audits(sourceKey: "prices", outcome: FAILURE) { nodes { outcome error recordsSeen } } '
        "sources { key lastFailureAt failures lastAudit { outcome } } }"
    )

    assert [audit["outcome"] for audit in done["audits"]] == ["FAILURE"]
    assert "web page" in done["audits"][0]["error"]
    assert [node["outcome"] for node in found["audits"]["nodes"]] == ["FAILURE"]
    assert found["sources"][0]["lastAudit"] == {"outcome": "FAILURE"}
    assert found["sources"][0]["failures"] == 1
    assert contents(await page(app)) == before


async def rest_is_over(database: Database) -> None:
    """As if every breaker had opened long ago."""
    connection = await database.connect()
    await connection.execute("update source_states set opened_at = opened_at - interval '1 hour'")
    await connection.close()


async def test_the_breaker_shows_at_each_step(
    app: App, source_server: SourceServer, database: Database
) -> None:
    failing = source_server.at("/p", Failing(404, 2, Items([{"id": 1}])))
    url = source_server.url("/p")
    await save(app, "p", url, breakerFailures=2, breakerSeconds=600)
    states = "{ sources { breaker failures } system { parts { name status detail } } }"

    outcomes = []
    for _ in range(3):
        done = await refresh(app, "p")
        outcomes.append((done["audits"][0]["outcome"], done["sources"][0]["breaker"]))
    shown = await app.data(states)
    health = (await app.client.get("/health")).json()
    await rest_is_over(database)
    half = await app.data(states)
    last = await refresh(app, "p")

    assert outcomes == [
        ("FAILURE", "CLOSED"),
        ("FAILURE", "OPEN"),
        ("SKIPPED_BREAKER_OPEN", "OPEN"),
    ]
    [part] = [one for one in shown["system"]["parts"] if one["name"] == "sources"]
    assert part["status"] == "DEGRADED"
    assert "p" in part["detail"]
    assert health["sources"] == {"p": "breaker open"}
    assert half["sources"][0]["breaker"] == "HALF_OPEN"
    assert (last["audits"][0]["outcome"], last["sources"][0]["breaker"]) == ("SUCCESS", "CLOSED")
    assert failing.left == 0


async def test_a_refresh_that_hangs_is_told_as_running_and_the_summary_answers(
    app: App, source_server: SourceServer
) -> None:
    gated = source_server.at("/slow", Gated(Items([{"id": 1}])))
    await save(app, "slow", source_server.url("/slow"))

    begun = await refresh(app, "slow", wait=False)
    async with asyncio.timeout(60):
        await gated.arrived.wait()
    meanwhile = await refresh(app, "slow", wait=False)
    summary = (await app.data(SUMMARY))["sourceSummary"]
    asked = len(source_server.asked_for("/slow"))
    gated.gate.set()
    done = await refresh(app, "slow")

    assert begun["audits"] == []
    assert meanwhile["running"] == ["slow"]
    assert meanwhile["sources"][0]["refresh"]["startedAt"]
    assert asked == 1
    assert [row["source"]["key"] for row in summary["sources"]] == ["slow"]
    assert summary["sources"][0]["ageSeconds"] is None
    assert done["running"] == []
    assert done["sources"][0]["records"] == 1


async def test_with_wait_an_answer_comes_before_the_request_would_time_out(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    gated = source_server.at("/slow", Gated(Items([{"id": 1}])))
    source_server.at("/quick", Items([{"id": 1}]))
    options: dict[str, Any] = {"outbound_allow_private": True, "query_timeout_seconds": 10}
    async with open_app(database, tmp_path / "home", **options) as app:
        await save(app, "quick", source_server.url("/quick"))
        await save(app, "slow", source_server.url("/slow"))

        done = await refresh(app, "quick", "slow")
        gated.gate.set()

    assert done["running"] == ["slow"]
    assert [audit["source"]["key"] for audit in done["audits"]] == ["quick"]


async def test_those_that_wait_for_their_turn_are_told_as_running_too(
    database: Database, tmp_path: Path, source_server: SourceServer
) -> None:
    gated = source_server.at("/slow", Gated(Items([{"id": 1}])))
    # More than are fetched at a time.
    keys = [f"slow-{number}" for number in range(6)]
    options: dict[str, Any] = {"outbound_allow_private": True, "query_timeout_seconds": 3}
    async with open_app(database, tmp_path / "home", **options) as app:
        for key in keys:
            await save(app, key, source_server.url("/slow"), timeoutSeconds=60)

        begun = await refresh(app, *keys, wait=False)
        waited = await refresh(app, *keys)
        gated.gate.set()

    assert (begun["running"], begun["audits"]) == (keys, [])
    assert (waited["running"], waited["audits"]) == (keys, [])
    assert None in [source["refresh"] for source in waited["sources"]]


async def test_a_refresh_without_keys_is_of_all_that_are_switched_on(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/x", Items([{"id": 1}]))
    for key, enabled in (("a", True), ("b", False), ("c", True)):
        await save(app, key, source_server.url("/x"), enabled=enabled)

    data = await app.data("mutation { refreshSources(wait: true) { sources { key } } }")

    assert [one["key"] for one in data["refreshSources"]["sources"]] == ["a", "c"]
    assert (await app.data("mutation { refreshSources(keys: []) { running } }")) == {
        "refreshSources": {"running": []}
    }


async def test_audits_are_found_by_time_and_in_pages(app: App, source_server: SourceServer) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    await save(app, "p", source_server.url("/p"))
    for _ in range(3):
        await refresh(app, "p")
    query = """
    query ($since: DateTime, $until: DateTime, $first: Int! = 2, $after: String) {
      audits(since: $since, until: $until, first: $first, after: $after) {
        edges { cursor } nodes { id startedAt durationMs } pageInfo { hasNextPage endCursor }
      }
    }
    """

    first = (await app.data(query))["audits"]
    rest = (await app.data(query, {"after": first["pageInfo"]["endCursor"], "first": 50}))["audits"]
    ids = [int(node["id"]) for node in first["nodes"] + rest["nodes"]]
    moment = first["nodes"][0]["startedAt"]
    since = (await app.data(query, {"since": moment}))["audits"]
    until = (await app.data(query, {"until": moment, "first": 50}))["audits"]

    assert first["pageInfo"]["hasNextPage"]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == len(ids) >= 3
    assert [int(node["id"]) for node in since["nodes"]] == ids[:1]
    assert [int(node["id"]) for node in until["nodes"]] == ids[1:]
    for cursor in ("x", "MTpsb2c6MQ"):  # of the admin log, the second
        assert (await app.refusal(query, {"after": cursor}))["argument"] == "after"


async def test_each_command_of_a_document_tells_what_is_after_it(
    app: App, source_server: SourceServer
) -> None:
    items = source_server.at("/p", Items([{"id": 1}]))
    await save(app, "p", source_server.url("/p"))
    fields = "{ audits { id source { records } } sources { records lastAudit { id } } }"
    command = f'refreshSources(keys: ["p"], wait: true) {fields}'

    one = (await app.data(f"mutation {{ a: {command} }}"))["a"]
    items.records.append({"id": 2})
    both = await app.data(f"mutation {{ a: {command} b: {command} }}")

    assert one["audits"][0]["source"] == {"records": 1}
    for each in (one, *both.values()):
        assert each["sources"][0]["lastAudit"]["id"] == each["audits"][-1]["id"]
    assert both["a"]["audits"] != both["b"]["audits"]
    assert both["b"]["audits"][0]["source"] == {"records": 2}


@pytest.mark.parametrize("odd", ["a\0b", "x" * 100_000, "'; drop table sources; --"])
async def test_odd_texts_find_nothing(app: App, odd: str) -> None:
    record = "query ($id: ID!) { record(id: $id) { id } }"
    delete = "mutation ($key: String!) { deleteSource(key: $key) }"

    async def asked(query: str, **variables: object) -> dict[str, Any]:
        return await app.post(query, variables)

    assert (await asked(RECORDS, id=odd))["data"]["records"]["nodes"] == []
    assert (await asked(record, id=odd))["data"] == {"record": None}
    refused = [
        await asked(RECORDS, source=odd),
        await asked(delete, key=odd),
        await asked(REFRESH, keys=[odd]),
    ]
    codes = [body["errors"][0]["extensions"]["code"] for body in refused]
    assert codes == ["NOT_FOUND", "NOT_FOUND", "BAD_USER_INPUT"]


@pytest.mark.parametrize(
    ("asked", "argument"),
    [
        ({"first": 0}, "first"),
        ({"after": "x"}, "after"),
        ({"after": "MTpsb2c6MQ"}, "after"),  # of the admin log
        ({"since": "yesterday"}, "changedSince"),
        ({"before": "2026-01-01"}, "changedBefore"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    app: App, asked: dict[str, object], argument: str
) -> None:
    refusal = await app.refusal(RECORDS, asked)

    assert (refusal["code"], refusal["argument"]) == ("BAD_USER_INPUT", argument)


async def test_null_counts_as_left_out(app: App, source_server: SourceServer) -> None:
    names = (
        *("enabled", "refreshSeconds", "recordsAt", "siteId", "cron", "timezone", "method", "body"),
        *("headers", "format", "recordsQuery", "minRecords", "maxRecords", "maxBytes"),
        *("timeoutSeconds", "breakerFailures", "breakerSeconds"),
    )
    paging = {"kind": "LINK_HEADER", "maxPages": None, "first": None, "nextAt": None}
    url = source_server.url("/p")

    nothing = await save(app, "p", url, **dict.fromkeys(names), paging=paging)
    left_out = await save(app, "p", url, refreshSeconds=None, paging={"kind": "LINK_HEADER"})

    assert nothing == left_out | {name: nothing[name] for name in ("nextAttemptAt", "version")}
    assert left_out["refreshSeconds"] == 600
    assert left_out["paging"]["maxPages"] == 100


async def test_the_summary_is_kept_for_a_second_and_then_computed_anew(
    app: App, source_server: SourceServer
) -> None:
    source_server.at("/p", Items([{"id": 1}, {"id": 2}]))
    await save(app, "p", source_server.url("/p"))
    await refresh(app, "p")

    first = (await app.data(SUMMARY))["sourceSummary"]
    async with asyncio.timeout(60):
        while (later := (await app.data(SUMMARY))["sourceSummary"])["meta"]["cache"] == "HIT":
            assert later["meta"]["computedAt"] == first["meta"]["computedAt"]
            await asyncio.sleep(0.1)
    response = await app.client.post(
        "/graphql",
        json={"query": SUMMARY},
        headers={"x-api-key": app.admin_key, "cache-control": "no-cache"},
    )

    assert first["meta"]["cache"] == "MISS"
    assert first["records"] == 2
    assert first["sources"][0]["ageSeconds"] < 60
    ages = [datetime.fromisoformat(one["meta"]["computedAt"]) for one in (first, later)]
    assert (ages[1] - ages[0]).total_seconds() > 0.9
    assert response.json()["data"]["sourceSummary"]["meta"]["cache"] == "BYPASS"


async def test_a_summary_that_cannot_be_computed_is_answered_from_before(
    app: App, source_server: SourceServer, database: Database
) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    await save(app, "p", source_server.url("/p"))
    await refresh(app, "p")
    before = (await app.data(SUMMARY))["sourceSummary"]
    superuser = await database.connect()
    transaction = superuser.transaction()
    await transaction.start()
    await superuser.execute("lock table source_states in access exclusive mode")

    async with asyncio.timeout(60):
        while (meanwhile := (await app.data(SUMMARY))["sourceSummary"])["meta"]["cache"] == "HIT":
            await asyncio.sleep(0.1)
    await transaction.rollback()
    async with asyncio.timeout(60):
        while (after := (await app.data(SUMMARY))["sourceSummary"])["meta"]["cache"] == "STALE":
            await asyncio.sleep(0.05)
    await superuser.close()

    assert meanwhile["meta"] == before["meta"] | {"cache": "STALE"}
    assert meanwhile["records"] == before["records"] == 1
    assert after["meta"]["computedAt"] > before["meta"]["computedAt"]


async def test_health_and_system_show_each_source(app: App, source_server: SourceServer) -> None:
    source_server.at("/p", Items([{"id": 1}]))
    source_server.at("/bad", html())
    for key, path in (("good", "/p"), ("bad", "/bad")):
        await save(app, key, source_server.url(path))
    await save(app, "off", source_server.url("/p"), enabled=False)
    await refresh(app, "good", "bad")

    health = (await app.client.get("/health")).json()
    system = (await app.data("{ system { sources { key records } parts { name status } } }"))[
        "system"
    ]

    assert health["sources"] == {"good": "ok", "bad": "failing", "off": "off"}
    assert [(one["key"], one["records"]) for one in system["sources"]] == [
        ("bad", 0),
        ("good", 1),
        ("off", 0),
    ]
    assert {"name": "sources", "status": "OK"} in system["parts"]


async def test_processes_share_the_summary(
    database: Database, tmp_path: Path, source_server: SourceServer, redis_server: RedisServer
) -> None:
    settings: dict[str, Any] = {"outbound_allow_private": True, "redis_url": redis_server.url}
    source_server.at("/p", Items([{"id": 1}, {"id": 2}]))
    async with (
        open_app(database, tmp_path / "one", **settings) as one,
        open_app(database, tmp_path / "other", **settings) as other,
    ):
        await one.site("shop")
        await save(one, "p", source_server.url("/p"), siteId="shop", cron="0 0 1 1 *")
        await refresh(one, "p")
        # As long as a round of the two takes more than the second for which it is kept.
        async with asyncio.timeout(60):
            while True:
                first = (await one.data(SUMMARY))["sourceSummary"]
                second = (await other.data(SUMMARY))["sourceSummary"]
                is_same = first["meta"]["computedAt"] == second["meta"]["computedAt"]
                if is_same and second["meta"]["cache"] == "HIT":
                    break

    assert first["records"] == second["records"] == 2
    assert [row["source"]["key"] for row in second["sources"]] == ["p"]
