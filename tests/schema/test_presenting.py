"""Errors as clients see them: their own mistakes in full, ours masked."""

import pytest
from graphql import build_schema, execute_sync, parse

from schema.presenting import presented

SCHEMA = build_schema("enum Color { RED } type Query { number(of: Int): Int, color: Color }")


@pytest.mark.parametrize(
    ("query", "root"),
    [("{ number }", {"number": 2**31}), ("{ color }", {"color": "a secret"})],
)
def test_an_answer_that_does_not_fit_its_type_is_our_mistake(
    query: str, root: dict[str, object]
) -> None:
    result = presented(execute_sync(SCHEMA, parse(query), root))

    assert result.errors is not None
    (error,) = result.errors
    assert (error.extensions or {})["code"] == "INTERNAL_SERVER_ERROR"
    assert error.path == list(root)
    assert "2147483648" not in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("query", ['{ number(of: "x") }', "query ($of: Int) { number(of: $of) }"])
def test_an_argument_that_does_not_fit_is_the_client_s_mistake(query: str) -> None:
    result = presented(execute_sync(SCHEMA, parse(query), {}, variable_values={"of": "x"}))

    assert result.errors is not None
    (error,) = result.errors
    assert (error.extensions or {})["code"] == "BAD_USER_INPUT"
    assert "Int cannot represent" in error.message
