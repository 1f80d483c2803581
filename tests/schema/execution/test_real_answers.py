"""Answers of the service itself, executed both ways."""

from datetime import UTC, datetime, timedelta

import pytest
from graphql import OperationDefinitionNode, execute, parse

from resolvers.access import authenticate
from resolvers.context import Context
from resolvers.loaders import Loaders
from schema.build import graphql_schema
from schema.execution import build_executor, coerce_variables
from tests.fixtures.app import App
from tests.schema.execution.comparing import result_of, shown

EVENT_IDS = [f"0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b{at:02}" for at in range(30)]
# Without the times in `meta`, which go on between one execution and the other.
DOCUMENT = """
query ($site: ID!, $days: DateRange!, $ids: [UUID!]!, $more: Boolean!) {
  dau(siteId: $site, range: $days) { points { date users complete } total meta { ...Meta } }
  hours: eventCounts(siteId: $site, range: $days, interval: HOUR) { points { at count complete } }
  topEvents(siteId: $site, range: $days) { events { eventType count users } }
  retention(siteId: $site, range: $days, interval: DAY, periods: 3) {
    cohorts { start size periods { period start users rate complete @include(if: $more) } }
  }
  events(siteId: $site, first: 1000) {
    edges { cursor node { ...Event } }
    nodes { ...Event @skip(if: $more) ... on Event { __typename userId visitorId } }
    pageInfo { hasNextPage endCursor }
  }
  receipts(siteId: $site, eventIds: $ids) { index eventId status code message }
  sites { id name weekStart origins createdAt }
  viewer { name scopes }
}
fragment Meta on ReportMeta { cache source exact timezone }
fragment Event on Event {
  eventId eventType siteId occurredAt receivedAt sessionId url path referrer properties
}
"""


@pytest.mark.parametrize("more", [False, True])
async def test_real_answers_come_out_as_from_graphql_core(app: App, more: bool) -> None:
    now = datetime.now(UTC)
    await app.site("shop", timezone="Europe/Berlin", origins=["https://shop.example"])
    await app.ingest(
        "shop",
        *(
            {
                "eventId": event_id,
                "eventType": f"event_{at % 3}",
                "occurredAt": (now - timedelta(hours=7 * at)).isoformat(),
                "userId": f"user {at % 5}" if at % 4 else None,
                "properties": {"at": at},
                "url": f"https://shop.example/{at}",
            }
            for at, event_id in enumerate(EVENT_IDS[:-1])
        ),
    )
    await app.followed()
    sent = {
        "site": "shop",
        "days": {"from": str((now - timedelta(days=9)).date()), "to": str(now.date())},
        "ids": EVENT_IDS,
        "more": more,
    }
    schema, document = graphql_schema(), parse(DOCUMENT)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)

    loaders = Loaders(app.resources.columnar, app.resources.tracing)
    caller = await authenticate(app.resources, app.admin_key, now)
    # Both execute the same: the second does not get what was kept of the first.
    context = Context(app.resources, caller, now, loaders, wants_new=True)

    variables = coerce_variables(schema, operation, sent, hide_suggestions=True)
    assert not isinstance(variables, list)
    executor = build_executor(
        schema, document, operation, variables, context, hide_suggestions=True
    )
    found = await result_of(executor.execute_operation())
    expected = await result_of(
        execute(schema, document, context_value=context, variable_values=sent)
    )

    assert found.errors is None
    assert found.data is not None
    assert len(found.data["events"]["edges"]) == len(EVENT_IDS) - 1
    assert shown(found) == shown(expected)
