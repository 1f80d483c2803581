"""Inputs and arguments: what resolvers are handed for what clients send."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
import strawberry
from strawberry import UNSET
from strawberry.schema.config import StrawberryConfig

from data import calendar
from data.calendar import Interval, Weekday
from data.postgres.keys import Scope
from data.queries import EVERYTHING, CohortRule, EventFilter, PeriodRule
from resolvers.errors import BadUserInput
from resolvers.keys import KeyDraft
from resolvers.pipeline import FIELDS
from resolvers.raw_events import PageAsked
from resolvers.reports import Asked
from resolvers.retention import RetentionAsked
from resolvers.sites import SiteDraft
from schema.arguments import SiteId
from schema.build import graphql_schema
from schema.events import Days
from schema.filters import Filter
from schema.ingest import IngestInput
from schema.keys import ApiKeyInput
from schema.pagination import After, First, page_asked
from schema.reports import LongInterval, Range, TimeZone, asked
from schema.retention import Options, Periods, retention_asked
from schema.scalars import SCALARS
from schema.sites import SiteInput

heard: list[Any] = []


@strawberry.type
class Echo:
    """The inputs of the schema, on fields that only listen."""

    @strawberry.field
    def report(
        self,
        range: Range,
        site_id: SiteId = UNSET,
        filter: Filter = UNSET,
        timezone: TimeZone = UNSET,
    ) -> bool:
        heard.append(asked(range, site_id, filter, timezone))
        return True

    @strawberry.field
    def retention(
        self,
        interval: LongInterval = Interval.WEEK,
        periods: Periods = 8,
        options: Options = UNSET,
    ) -> bool:
        heard.append(retention_asked(interval, periods, options))
        return True

    @strawberry.field
    def page(self, range: Days = UNSET, first: First = 50, after: After = UNSET) -> bool:
        heard.append((range.to_query() if range else None, page_asked(first, after)))
        return True

    @strawberry.field
    def ingest(self, input: IngestInput) -> bool:
        heard.append((input.site_id, input.events))
        return True

    @strawberry.field
    def site(self, input: SiteInput) -> bool:
        heard.append(input.to_draft())
        return True

    @strawberry.field
    def key(self, input: ApiKeyInput) -> bool:
        heard.append(input.to_draft())
        return True


SCHEMA = strawberry.Schema(Echo, config=StrawberryConfig(scalar_map=SCALARS))
RANGE = 'range: {from: "2026-01-01", to: "2026-01-31"}'


def understood(question: str, variables: Mapping[str, object] | None = None) -> Any:
    """What a field was handed."""
    heard.clear()
    result = SCHEMA.execute_sync(question, dict(variables or {}))
    assert result.errors is None, result.errors
    return heard.pop()


def ingested(batch: object) -> Any:
    """Site and drafts of an IngestInput in a variable."""
    return understood("query ($i: IngestInput!) { ingest(input: $i) }", {"i": batch})


@pytest.mark.parametrize("rest", ["", ", siteId: null, filter: null, timezone: null"])
def test_a_report_needs_no_more_than_its_range(rest: str) -> None:
    question = understood(f"{{ report({RANGE}{rest}) }}")

    assert question == Asked(None, date(2026, 1, 1), date(2026, 1, 31), None, EVERYTHING)


def test_a_report_is_asked_about_a_site_in_a_zone_with_a_filter() -> None:
    question = understood(
        f'{{ report({RANGE}, siteId: "shop", timezone: "Asia/Kathmandu", filter: {{or: []}}) }}'
    )

    expected = Asked("shop", date(2026, 1, 1), date(2026, 1, 31), "Asia/Kathmandu")
    assert question.filter == EventFilter(any_of=())
    assert (question.site_id, question.start, question.end, question.timezone) == (
        expected.site_id,
        expected.start,
        expected.end,
        expected.timezone,
    )


def test_an_empty_text_is_not_left_out() -> None:
    question = understood(f'{{ report({RANGE}, siteId: "", timezone: "") }}')

    assert (question.site_id, question.timezone) == ("", "")


@pytest.mark.parametrize(
    "options",
    [
        "",
        "(options: null)",
        "(options: {})",
        "(options: {cohort: null, periods: null, unbounded: null})",
        "(options: {startEvents: null, returnEvents: null})",
        "(interval: WEEK, periods: 8)",
    ],
)
def test_retention_has_defaults(options: str) -> None:
    assert understood(f"{{ retention{options} }}") == RetentionAsked(
        interval=Interval.WEEK,
        periods=8,
        cohort=CohortRule.FIRST_EVER,
        period_rule=PeriodRule.CALENDAR,
        unbounded=False,
        start_events=None,
        return_events=None,
    )


def test_retention_takes_options() -> None:
    options = (
        "{cohort: RECURRING, periods: RANGE_START, unbounded: true, "
        'startEvents: ["sign_up"], returnEvents: []}'
    )

    how = understood(f"{{ retention(interval: MONTH, periods: 0, options: {options}) }}")

    assert how == RetentionAsked(
        interval=Interval.MONTH,
        periods=0,
        cohort=CohortRule.RECURRING,
        period_rule=PeriodRule.RANGE_START,
        unbounded=True,
        start_events=("sign_up",),
        return_events=(),
    )
    # Members of the enums, not their names: resolvers tell them apart by identity.
    assert how.interval is Interval.MONTH
    assert how.cohort is CohortRule.RECURRING
    assert how.period_rule is PeriodRule.RANGE_START


def test_enums_reach_resolvers_as_members_in_the_real_schema_too() -> None:
    for name in ("Interval", "CohortRule", "PeriodRule", "Weekday", "Scope", "ReceiptStatus"):
        enum = graphql_schema().type_map[name]
        for value in enum.values:  # type: ignore[attr-defined]
            assert type(enum.coerce_input_value(value)).__name__ == name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "days", "page"),
    [
        ("", None, PageAsked(50, None)),
        ("(range: null, after: null)", None, PageAsked(50, None)),
        ('(first: -1, after: "x")', None, PageAsked(-1, "x")),
        (
            f"({RANGE})",
            calendar.DateRange(date(2026, 1, 1), date(2026, 1, 31)),
            PageAsked(50, None),
        ),
    ],
)
def test_pages(arguments: str, days: object, page: PageAsked) -> None:
    assert understood(f"{{ page{arguments} }}") == (days, page)


def test_an_event_becomes_a_draft_of_what_was_given_and_nothing_else() -> None:
    full = {
        "eventId": "not judged here",
        "eventType": "view",
        "occurredAt": 1_769_817_600_000,
        "userId": "ada",
        "visitorId": "v",
        "sessionId": "s",
        "url": "https://example.com/a",
        "path": "/a",
        "referrer": "",
        "properties": {"aB": {"cD": [1, None]}},
    }

    site_id, drafts = ingested({"siteId": "shop", "events": [full, {"eventType": "view"}]})

    assert site_id == "shop"
    assert drafts == [
        {
            "event_id": "not judged here",
            "event_type": "view",
            "occurred_at": 1_769_817_600_000,
            "user_id": "ada",
            "visitor_id": "v",
            "session_id": "s",
            "url": "https://example.com/a",
            "path": "/a",
            "referrer": "",
            "properties": {"aB": {"cD": [1, None]}},
        },
        {"event_type": "view"},
    ]
    assert set(drafts[0]) == FIELDS


def test_null_is_handed_on_as_none() -> None:
    _, [draft] = ingested({"siteId": None, "events": [{"eventType": "view", "eventId": None}]})

    assert draft == {"event_type": "view", "event_id": None}


def test_events_in_the_document_become_the_same_drafts() -> None:
    event = '{eventType: "view", occurredAt: "whenever", properties: {a: [1, "b", null]}}'

    assert understood(f"{{ ingest(input: {{events: [{event}]}}) }}") == (
        None,
        [
            {
                "event_type": "view",
                "occurred_at": "whenever",
                "properties": {"a": [1, "b", None]},
            }
        ],
    )


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({}, "eventType"),
        ({"eventType": None}, "String!"),
        ({"eventType": 1}, "String cannot represent"),
        ({"eventType": "view", "userId": 7}, "String cannot represent"),
        ({"eventType": "view", "occurredAt": True}, "DateTime takes"),
        ({"eventType": "view", "eventId": 1}, "UUID takes"),
        ({"eventType": "view", "user_id": "ada"}, "user_id"),
        ("view", "EventInput"),
        (None, "EventInput!"),
    ],
)
def test_an_event_of_the_wrong_shape_is_refused_with_its_place(event: object, message: str) -> None:
    result = SCHEMA.execute_sync(
        "query ($i: IngestInput!) { ingest(input: $i) }",
        {"i": {"events": [{"eventType": "view"}, event]}},
    )

    assert result.errors
    assert "events[1]" in result.errors[0].message
    assert message in result.errors[0].message


def test_a_site_is_handed_on_with_none_for_what_stays_as_it_is() -> None:
    assert understood('{ site(input: {id: "shop", name: null}) }') == SiteDraft("shop")
    assert understood(
        '{ site(input: {id: "shop", name: "Shop", timezone: "UTC", weekStart: SUNDAY, origins: []})}'
    ) == SiteDraft("shop", "Shop", "UTC", Weekday.SUNDAY, [])


def test_a_key_is_handed_on_with_the_instant_at_which_it_ends() -> None:
    assert understood('{ key(input: {name: "a", scopes: [READ, READ]}) }') == KeyDraft(
        "a", [Scope.READ, Scope.READ], None, None
    )
    for sent in ('"2026-01-31T13:00:00+01:00"', "1769860800000"):
        key = f'{{name: "a", scopes: [], siteId: "shop", expiresAt: {sent}}}'
        assert understood(f"{{ key(input: {key}) }}") == KeyDraft(
            "a", [], "shop", datetime(2026, 1, 31, 12, tzinfo=UTC)
        )


def test_a_key_that_ends_nobody_knows_when_is_refused() -> None:
    result = SCHEMA.execute_sync(
        '{ key(input: {name: "a", scopes: [READ], expiresAt: "2026-01-31"}) }'
    )

    assert result.errors
    assert isinstance(result.errors[0].original_error, BadUserInput)
    assert result.errors[0].extensions == {"code": "BAD_USER_INPUT", "argument": "expiresAt"}
