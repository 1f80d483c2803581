"""What the GraphQL edge costs: requests per second beside an application that does nothing."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from benchmarks import execution
from benchmarks.bare import bare_service
from benchmarks.load import Address
from benchmarks.service import Service, new_home, run_benchmark, serving
from benchmarks.tables import Mark, Results, WrongAnswer, print_title, read_options
from benchmarks.traffic import Traffic, accepted_batch, days_around_now
from benchmarks.wrk import CONNECTIONS, Hits, Rate, hit, keep_to_core, require_wrk

SITE = "bench"
DAYS = 365
_DAU = (
    'query ($range: DateRange!) { dau(siteId: "bench", range: $range)'
    " { points { date users complete } total meta { timezone exact } } }"
)
_DAU_BEGINS = '{"data":{"dau":{"points":['


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int
    seconds: float
    execution: execution.Plan


FULL = Plan(runs=5, seconds=5, execution=execution.FULL)
QUICK = Plan(runs=1, seconds=1, execution=execution.QUICK)


@dataclass(frozen=True, slots=True)
class Question:
    """One request with the share of the bare rate that it should reach."""

    name: str
    hits: Hits
    mark: Mark | None


async def measure(plan: Plan, results: Results) -> None:
    """All figures, with a table at the end of each part."""
    require_wrk()
    with new_home() as home:
        async with (
            bare_service("empty") as (bare, bare_pid),
            serving(home) as service,
        ):
            keep_to_core(bare_pid, 0)
            keep_to_core(service.process.pid, 0)
            await service.make_site(SITE)
            for batch in Traffic().batch_requests(SITE, service.admin_key, 5, 1_000):
                service.acknowledged[SITE] += accepted_batch(
                    await service.client.send(batch), 1_000
                )
            await service.require_everything(days_around_now())
            questions = _questions(service)
            await _measure_rates(plan, results, bare, service, questions)
    execution.measure(results, plan.execution)
    results.write()


async def _measure_rates(
    plan: Plan, results: Results, bare: Address, service: Service, questions: list[Question]
) -> None:
    # Turn by turn, so that whatever else the machine does hits all of them alike.
    rates: dict[str, list[Rate]] = {name: [] for name in ("bare", *(q.name for q in questions))}
    for _ in range(plan.runs):
        rates["bare"].append(await hit(bare, Hits("/", status=204), plan.seconds))
        for question in questions:
            rates[question.name].append(await hit(service.address, question.hits, plan.seconds))
    ceiling = [rate.per_second for rate in rates["bare"]]
    figures = [results.add("bare_204.rate", "req/s", ceiling)]
    for question in questions:
        found = rates[question.name]
        per_second = [rate.per_second for rate in found]
        shares = [one / most for one, most in zip(per_second, ceiling, strict=True)]
        figures += [
            results.add(f"{question.name}.rate", "req/s", per_second),
            results.add(f"{question.name}.share_of_bare", "", shares, question.mark),
            results.add(f"{question.name}.p99", "ms", [rate.p99 for rate in found]),
        ]
    results.show(f"HTTP, wrk with {CONNECTIONS} connections", figures)


def _questions(service: Service) -> list[Question]:
    key = {"X-API-Key": service.admin_key}
    post = {**key, "Content-Type": "application/json"}
    last = datetime.now(UTC).date()
    days = {"from": str(last - timedelta(days=DAYS - 1)), "to": str(last)}
    path = "/graphql?" + urlencode({"query": _DAU, "variables": json.dumps({"range": days})})
    preflight = {**key, "Apollo-Require-Preflight": "1"}
    tag = _etag(service.address, path, preflight)
    return [
        Question(
            "typename",
            Hits(
                "/graphql",
                "POST",
                json.dumps({"query": "{ __typename }"}),
                post,
                begins='{"data":{"__typename":"Query"}',
            ),
            Mark("at least", 0.20),
        ),
        Question(
            "dau_365_get_hit",
            Hits(path, headers=preflight, begins=_DAU_BEGINS),
            Mark("at least", 0.20),
        ),
        Question(
            "dau_365_get_304",
            Hits(path, headers={**preflight, "If-None-Match": tag}, status=304),
            Mark("at least", 0.30),
        ),
        Question(
            "dau_365_post_executed",
            Hits(
                "/graphql",
                "POST",
                json.dumps({"query": _DAU, "variables": {"range": days}}),
                post,
                begins=_DAU_BEGINS,
            ),
            None,
        ),
    ]


def _etag(address: Address, path: str, headers: dict[str, str]) -> str:
    """The tag of an answer that holds all points and does not change while nothing is committed."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        tag = answer.headers["ETag"]
    finally:
        connection.close()
    if len(body["data"]["dau"]["points"]) != DAYS or tag is None:
        raise WrongAnswer(f"no tag, or not {DAYS} points: {str(body)[:500]}")
    return tag


def main() -> None:
    options = read_options(__doc__ or "")
    plan = QUICK if options.quick else FULL
    settings: dict[str, object] = {
        "connections": CONNECTIONS,
        "seconds": plan.seconds,
        "days": DAYS,
    }
    results = Results("http", options, settings)
    print_title(results)
    run_benchmark(measure(plan, results))


if __name__ == "__main__":
    main()
