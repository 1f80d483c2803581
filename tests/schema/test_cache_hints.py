"""How long answers may be kept, by what they ask for."""

import pytest
from graphql import OperationDefinitionNode, parse

from schema.build import graphql_schema, sdl
from schema.cache_hints import max_age_of, max_ages_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("{ dau { total } }", 5),
        ("{ a: dau { total } b: sites { id } __typename }", 5),
        ("{ dau { total } viewer { name } }", 0),
        ("{ dau { total } viewer @skip(if: true) { name } }", 0),
        ("{ __typename }", 0),
        ("{ __schema { description } dau { total } }", 0),
        ("{ noSuchField }", 0),
        ("{ ... { dau { total } ... on Query { viewer { name } } } }", 0),
        ("{ ...A } fragment A on Query { ...B } fragment B on Query { dau { total } }", 5),
        ("{ ...A ...A } fragment A on Query { dau { total } viewer { name } }", 0),
        ("mutation { dau { total } }", 0),
        ("subscription { dau { total } }", 0),
    ],
)
def test_the_shortest_time_of_all_root_fields_holds(text: str, seconds: int) -> None:
    document = parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)

    assert max_age_of(max_ages_of(graphql_schema()), document, operation) == seconds


def test_the_schema_says_which_answers_may_be_kept() -> None:
    kept = max_ages_of(graphql_schema())

    assert set(kept.values()) == {5}
    assert {"viewer", "system", "receipts"}.isdisjoint(kept)
    assert sdl().count("@cacheControl(maxAge: 5)") == len(kept) > 0
