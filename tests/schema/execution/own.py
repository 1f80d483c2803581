"""Questions to our own schema, with answers of the sizes and classes that resolvers give."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from graphql import GraphQLSchema

from data.calendar import Interval, Weekday
from data.events import Event, Receipt, ReceiptStatus, Rejection, RejectionCode, StoredEvent
from data.postgres.sites import Site
from data.queries import TopEventsRow
from data.results import ResultsState
from resolvers.ingest import Outcome
from resolvers.raw_events import EventPage
from resolvers.reports import (
    ActiveUsers,
    ActiveUsersPoint,
    EventCountPoint,
    EventCounts,
    Meta,
    TopEvents,
)
from resolvers.retention import Retention, RetentionCohort, RetentionPeriod
from resolvers.system import Part, PartStatus, SystemState
from schema.build import graphql_schema

_NOW = datetime(2026, 1, 31, 12, 30, 15, 250_000, UTC)
_META = Meta(_NOW, _NOW, "Europe/Berlin")
_META_FIELDS = "meta { dataThrough computedAt cache source exact timezone }"
_EVENT_FIELDS = (
    "eventId eventType siteId occurredAt receivedAt userId visitorId sessionId url path referrer "
    "properties"
)
_RECEIPT_FIELDS = "index eventId status code message"
_RANGE = 'range: {from: "2026-01-01", to: "2026-12-31"}'
_DAY = timedelta(days=1)

DAU = f"{{ dau({_RANGE}) {{ points {{ date users complete }} total {_META_FIELDS} }} }}"
DOCUMENTS = {
    "dau": DAU,
    "eventCounts": (
        f"{{ eventCounts({_RANGE}) {{ interval points {{ at count complete }} total }} }}"
    ),
    "topEvents": f"{{ topEvents({_RANGE}) {{ events {{ eventType count users }} total }} }}",
    "retention": (
        f"{{ retention({_RANGE}) {{ interval cohorts {{ start size "
        "periods { period start users rate complete } } } }"
    ),
    "events": f"{{ events {{ nodes {{ {_EVENT_FIELDS} }} pageInfo {{ hasNextPage }} }} }}",
    "edges": f"{{ events {{ edges {{ cursor node {{ {_EVENT_FIELDS} }} }} }} }}",
    "receipts": f"{{ receipts(eventIds: []) {{ {_RECEIPT_FIELDS} }} }}",
    "sites": "{ sites { id name timezone weekStart origins createdAt } }",
    "system": "{ system { status parts { name status detail } dataThrough pendingEvents } }",
    "ingest": (
        "mutation { ingest(input: {events: []}) "
        f"{{ accepted received receipts {{ {_RECEIPT_FIELDS} }} }} }}"
    ),
}


def answering_schema() -> GraphQLSchema:
    """Our schema, with questions that give what the context has under their names."""
    schema = graphql_schema()
    for root in (schema.query_type, schema.mutation_type):
        assert root is not None
        for name, field in root.fields.items():
            field.resolve = _from_context(name)
    return schema


def _from_context(name: str) -> Callable[..., Any]:
    return lambda _, info, **__: info.context[name]


def answers(random: Random, size: int) -> dict[str, Any]:
    """An answer to each question, with lists of so many entries."""
    days = [date(2026, 1, 1) + _DAY * at for at in range(size)]
    page = _page(random, size)
    return {
        "dau": ActiveUsers(
            Interval.DAY,
            [
                ActiveUsersPoint(day, random.randint(0, 10**6), bool(at % 7))
                for at, day in enumerate(days)
            ],
            10**6,
            _META,
        ),
        "eventCounts": EventCounts(
            Interval.HOUR,
            [
                EventCountPoint(_NOW + _DAY * at, 10 ** random.randint(0, 18), True)
                for at in range(size)
            ],
            10**18,
            _META,
        ),
        "topEvents": TopEvents(
            tuple(
                TopEventsRow(f"event_{at}", 10 ** random.randint(0, 18), at) for at in range(size)
            ),
            7,
            _META,
        ),
        "retention": Retention(Interval.WEEK, [_cohort(random, day) for day in days], _META),
        "events": page,
        "edges": page,
        "receipts": [_receipt(random, at) for at in range(size)],
        "sites": [_site(random, at) for at in range(size)],
        "system": _system(random, size),
        "ingest": Outcome([_result(random, at) for at in range(size)], [True] * size),
    }


def _cohort(random: Random, day: date) -> RetentionCohort:
    periods = [
        RetentionPeriod(k, day + _DAY * k, users := random.randint(0, 99), users / 99, k < 5)
        for k in range(random.randint(0, 9))
    ]
    return RetentionCohort(day, 99, periods)


def _page(random: Random, size: int) -> EventPage:
    events = [_event(random, at) for at in range(size)]
    cursors = [f"cursor {at}" for at in range(size)]
    return EventPage(events, cursors, has_next=True, has_previous=False, meta=_META)


def _event(random: Random, at: int) -> StoredEvent:
    def text() -> str | None:
        return random.choice([None, f"text {at}"])

    return StoredEvent(
        event_id=UUID(int=random.getrandbits(128)),
        site_id="shop",
        event_type="page_view",
        occurred_at=_NOW - timedelta(seconds=at),
        received_at=_NOW,
        user_id=text(),
        visitor_id=text(),
        session_id=text(),
        url=text(),
        path=text(),
        referrer=text(),
        properties=random.choice([None, {}, {"plan": "pro", "tags": [1, None, "a"]}]),
        arrival=at,
    )


def _receipt(random: Random, at: int) -> Receipt | None:
    return random.choice(
        [
            None,
            Receipt(ReceiptStatus.ACCEPTED, at, UUID(int=at)),
            Receipt(ReceiptStatus.REJECTED, at, None, RejectionCode.INVALID_URL, "no address"),
        ]
    )


def _result(random: Random, at: int) -> Event | Rejection:
    if random.random() < 0.5:
        return Event(UUID(int=at), "shop", "view", _NOW, _NOW)
    return Rejection("shop", RejectionCode.INVALID_EVENT_TYPE, "no type", "{}", 2, _NOW)


def _site(random: Random, at: int) -> Site:
    origins = tuple(f"https://{host}.example" for host in range(random.randint(0, 3)))
    return Site(f"site{at}", "Site", "UTC", random.choice(list(Weekday)), origins, _NOW)


def _system(random: Random, size: int) -> SystemState:
    parts = [Part("ledger", random.choice(list(PartStatus)), "fine") for _ in range(size + 1)]
    cache = ResultsState(size, 2**40, 3, 0, 1, 0, shared=True)
    return SystemState(parts, random.choice([None, _NOW]), 2**60, None, 0, cache)
