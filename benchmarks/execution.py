"""What GraphQL itself costs: executing answers and coercing events, beside graphql-core alone.

Resolvers give objects that are ready, so that nothing but the execution is measured; both sides
work on the same schema, documents and values in turns, and have to come to the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from time import thread_time
from typing import Any
from uuid import UUID

import msgspec
import strawberry
from graphql import (
    DocumentNode,
    GraphQLSchema,
    OperationDefinitionNode,
    execute,
    get_variable_values,
    parse,
)
from strawberry.schema.config import StrawberryConfig

from benchmarks.tables import Mark, Results, WrongAnswer, print_title, read_options
from data.calendar import Interval
from data.events import Receipt, ReceiptStatus, StoredEvent
from resolvers.raw_events import EventPage
from resolvers.reports import ActiveUsers, ActiveUsersPoint, Meta
from resolvers.retention import Retention, RetentionCohort, RetentionPeriod
from schema.build import graphql_schema
from schema.execution import Variables, build_executor, coerce_variables
from schema.ingest import IngestInput
from schema.scalars import SCALARS

_NOW = datetime(2026, 1, 31, 12, 30, 15, 250_000, UTC)
_DAY = timedelta(days=1)
_META = Meta(_NOW, _NOW, "Europe/Berlin")
_RANGE = 'range: {from: "2026-01-01", to: "2026-12-31"}'
_INGEST = "query ($input: IngestInput!) { ingest(input: $input) }"


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each thing is done, after once to warm up."""

    runs: int


FULL = Plan(runs=101)
QUICK = Plan(runs=11)


@dataclass(frozen=True, slots=True)
class Question:
    """A document, what its root field gives, and how many times faster it should be."""

    text: str
    answer: object = None
    times: float | None = None


def _dau() -> ActiveUsers:
    points = [ActiveUsersPoint(date(2026, 1, 1) + _DAY * at, 10 * at, True) for at in range(365)]
    return ActiveUsers(Interval.DAY, points, 12_345, _META)


def _retention() -> Retention:
    cohorts = [
        RetentionCohort(
            start=date(2026, 1, 5) + 7 * _DAY * week,
            size=100,
            periods=[
                RetentionPeriod(k, date(2026, 1, 5) + 7 * _DAY * (week + k), 100 - k, 0.5, True)
                for k in range(9)
            ],
        )
        for week in range(52)
    ]
    return Retention(Interval.WEEK, cohorts, _META)


def _page() -> EventPage:
    events = [
        StoredEvent(
            event_id=UUID(int=at),
            site_id="shop",
            event_type="page_view",
            occurred_at=_NOW - timedelta(seconds=at),
            received_at=_NOW,
            user_id=f"user {at}",
            visitor_id=None,
            session_id=f"session {at}" if at % 2 else None,
            url=f"https://shop.example/articles/{at}",
            path=f"/articles/{at}",
            referrer=None,
            properties={"plan": "pro", "price": 12.5},
            arrival=at,
        )
        for at in range(1_000)
    ]
    cursors = [f"cursor {at}" for at in range(1_000)]
    return EventPage(events, cursors, has_next=True, has_previous=False, meta=_META)


def _receipts() -> list[Receipt]:
    return [Receipt(ReceiptStatus.ACCEPTED, at, UUID(int=at)) for at in range(5_000)]


def _questions() -> dict[str, Question]:
    meta = "meta { dataThrough computedAt cache source exact timezone }"
    event = (
        "eventId eventType siteId occurredAt receivedAt userId visitorId sessionId url path "
        "referrer properties"
    )
    return {
        "typename": Question("{ __typename }"),
        "dau_365": Question(
            f"{{ dau({_RANGE}) {{ points {{ date users complete }} total {meta} }} }}", _dau(), 5
        ),
        "retention_52x9": Question(
            f"{{ retention({_RANGE}) {{ cohorts {{ start size "
            f"periods {{ period start users rate complete }} }} {meta} }} }}",
            _retention(),
        ),
        "events_1000": Question(
            f"{{ events(first: 1000) {{ nodes {{ {event} }} pageInfo {{ endCursor }} }} }}", _page()
        ),
        "edges_1000": Question(
            f"{{ events(first: 1000) {{ edges {{ cursor node {{ {event} }} }} }} }}", _page()
        ),
        "receipts_5000": Question(
            "{ receipts(eventIds: []) { index eventId status code message } }", _receipts()
        ),
    }


def _body() -> bytes:
    """A request with 1,000 typed events, every field of each given."""
    events = [
        {
            "eventId": str(UUID(int=at)),
            "eventType": "page_view",
            "occurredAt": _NOW.isoformat(),
            "userId": f"user {at}",
            "visitorId": f"visitor {at}",
            "sessionId": f"session {at}",
            "url": f"https://shop.example/articles/{at}",
            "path": f"/articles/{at}",
            "referrer": "https://search.example/",
            "properties": {"plan": "pro", "price": 12.5},
        }
        for at in range(1_000)
    ]
    return msgspec.json.encode({"query": _INGEST, "variables": {"input": {"events": events}}})


@strawberry.type
class Listening:
    """A schema with the real input, and a resolver that only counts the drafts."""

    @strawberry.field
    def ingest(self, input: IngestInput) -> int:
        return len(input.events)


def _answering_schema() -> GraphQLSchema:
    """Our schema, with questions that give what the context is."""
    schema = graphql_schema()
    assert schema.query_type is not None
    for field in schema.query_type.fields.values():
        field.resolve = lambda _, info, **__: info.context
    return schema


def _listening_schema() -> GraphQLSchema:
    config = StrawberryConfig(scalar_map=SCALARS)
    return strawberry.Schema(Listening, config=config)._schema


def measure(results: Results, plan: Plan) -> None:
    """Both sides of everything, and how many times as long graphql-core takes."""
    schema = _answering_schema()
    for name, question in _questions().items():
        document = parse(question.text)
        mark = Mark("at least", question.times) if question.times else None
        _compare(
            Comparison(results, plan, f"execute.{name}", mark),
            partial(_execute, schema, document, {}, question.answer),
            partial(_execute_stock, schema, document, {}, question.answer),
        )
    _measure_ingest(results, plan)


def _measure_ingest(results: Results, plan: Plan) -> None:
    """1,000 events: read from JSON, coerced, and handed to the resolver as drafts."""
    schema, document = _listening_schema(), parse(_INGEST)
    body = _body()
    sent = _variables(body)
    results.add("ingest_1000.decode", "ms", _times(partial(_variables, body), plan.runs))
    _compare(
        Comparison(results, plan, "ingest_1000.coerce"),
        lambda: _coerced(schema, document, sent).coerced,
        lambda: _coerced_stock(schema, document, sent).coerced,
    )
    _compare(
        Comparison(results, plan, "ingest_1000.decode_to_resolver", at_most=6.0),
        lambda: _execute(schema, document, _variables(body), None),
        lambda: _execute_stock(schema, document, _variables(body), None),
    )


def _variables(body: bytes) -> dict[str, Any]:
    variables: dict[str, Any] = msgspec.json.decode(body)["variables"]
    return variables


def _operation(document: DocumentNode) -> OperationDefinitionNode:
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return operation


def _coerced(schema: GraphQLSchema, document: DocumentNode, sent: dict[str, Any]) -> Variables:
    variables = coerce_variables(schema, _operation(document), sent, hide_suggestions=True)
    if isinstance(variables, list):
        raise WrongAnswer(f"variables are refused: {variables[0].message}")
    return variables


def _coerced_stock(
    schema: GraphQLSchema, document: DocumentNode, sent: dict[str, Any]
) -> Variables:
    definitions = _operation(document).variable_definitions or ()
    variables = get_variable_values(schema, definitions, sent)
    assert not isinstance(variables, list)
    return variables


def _execute(
    schema: GraphQLSchema, document: DocumentNode, sent: dict[str, Any], context: object
) -> object:
    variables = _coerced(schema, document, sent)
    operation = _operation(document)
    return build_executor(
        schema, document, operation, variables, context, hide_suggestions=True
    ).execute_operation()


def _execute_stock(
    schema: GraphQLSchema, document: DocumentNode, sent: dict[str, Any], context: object
) -> object:
    return execute(schema, document, None, context, sent)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is measured, and what it should reach: times as fast, or milliseconds."""

    results: Results
    plan: Plan
    name: str
    times: Mark | None = None
    at_most: float | None = None


def _compare(what: Comparison, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Keep the milliseconds of both sides, measured in turns, and their ratio."""
    if ours() != theirs():
        raise WrongAnswer(f"{what.name}: the result is not graphql-core's")
    mine: list[float] = []
    other: list[float] = []
    for _ in range(what.plan.runs):
        mine += _times(ours, 1)
        other += _times(theirs, 1)
    mark = Mark("at most", what.at_most) if what.at_most else None
    one = what.results.add(f"{what.name}.footfall", "ms", mine, mark)
    two = what.results.add(f"{what.name}.graphql_core", "ms", other)
    what.results.add(f"{what.name}.ratio", "times", [two.median / one.median], what.times)


def _times(work: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of processor time of each run, which others on the machine disturb least."""
    found = []
    for _ in range(runs):
        started = thread_time()
        work()
        found.append(1_000 * (thread_time() - started))
    return found


def main() -> None:
    options = read_options(__doc__ or "")
    plan = QUICK if options.quick else FULL
    results = Results("execution", options, asdict(plan))
    print_title(results)
    # As `footfall serve` does: what lives as long as the process is not looked through again.
    gc.collect()
    gc.freeze()
    measure(results, plan)
    gc.unfreeze()
    results.show("Executing and coercing, medians", results.figures)
    results.write()


if __name__ == "__main__":
    main()
