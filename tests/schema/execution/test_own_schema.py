"""Our own answers and inputs: all that is long goes the short way, and comes out the same."""

from random import Random
from typing import Any

import pytest
from graphql import is_input_object_type, parse

from schema.build import graphql_schema
from schema.execution.inputs import position_of
from tests.schema.execution.comparing import executed
from tests.schema.execution.own import DOCUMENTS, answering_schema, answers
from tests.schema.execution.test_variables import operation, outcomes

EVENT = {
    "eventId": "0192f0c1-7a3e-7cc3-8f5d-3c1f5a0d9b11",
    "eventType": "page_view",
    "occurredAt": 1_769_817_600_000,
    "userId": None,
    "properties": {"plan": "pro", "price": 12.5},
    "url": "https://shop.example/cart",
}


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("size", [0, 1, 50])
async def test_our_lists_come_out_as_from_graphql_core_which_goes_through_none(
    name: str, size: int
) -> None:
    executor = await executed(
        answering_schema(), parse(DOCUMENTS[name]), answers(Random(size), size)
    )

    assert executor.collected_errors.errors == []
    assert executor.went_through == []


def test_our_input_objects_are_coerced_here_but_for_filters_which_may_be_nested() -> None:
    inputs = {
        name: type_
        for name, type_ in graphql_schema().type_map.items()
        if is_input_object_type(type_)
    }

    others = {name for name, type_ in inputs.items() if position_of(type_) is None}

    # The second one has the first one in it.
    assert others == {"EventFilter", "ExportDestinationInput"}
    assert len(inputs) > 5


def test_events_are_coerced_here_and_come_out_as_from_graphql_core() -> None:
    schema = graphql_schema()
    asked = operation("mutation ($input: IngestInput!) { ingest(input: $input) { accepted } }")
    sent = {"siteId": 7, "events": [EVENT, {"eventType": "view"}, dict(reversed(EVENT.items()))]}
    type_ = schema.type_map["IngestInput"]
    assert is_input_object_type(type_)

    found, expected = outcomes(schema, asked, {"input": sent}, hide=True)

    assert found == expected
    position = position_of(type_)
    assert position is not None
    # Not refused by the short way, which leaves what it refuses to graphql-core.
    assert position.take(sent)["events"][0] == EVENT


@pytest.mark.parametrize(
    "wrong",
    [
        {"eventType": None},
        {"eventType": 1},
        {"userId": 7},
        {"occurredAt": True},
        {"eventId": []},
        {"user_id": "ada"},
        {"occurredAt": float("nan")},
    ],
)
@pytest.mark.parametrize("hide", [False, True])
def test_wrong_events_among_thousands_are_reported_as_by_graphql_core(
    wrong: dict[str, Any], hide: bool
) -> None:
    asked = operation("mutation ($input: IngestInput!) { ingest(input: $input) { accepted } }")
    events = [EVENT] * 1_000
    events[500:] = [{**EVENT, **wrong}] * 500

    found, expected = outcomes(graphql_schema(), asked, {"input": {"events": events}}, hide=hide)

    assert found == expected
