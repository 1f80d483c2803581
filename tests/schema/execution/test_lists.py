"""Lists of answers: whatever is asked of whatever values, the result is graphql-core's."""

from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any

import pytest
import strawberry
from graphql import GraphQLSchema, Undefined, get_named_type, is_object_type, parse
from hypothesis import given
from hypothesis import strategies as st

from tests.schema.execution.answers import (
    GOOD,
    LEAVES,
    ODD,
    ODD_HOLDERS,
    PLAIN_HOLDERS,
    Answers,
    Later,
    Open,
    draw_document,
    draw_schema,
    schema_for,
)
from tests.schema.execution.comparing import executed

seeds = st.integers(0, 2**64 - 1)


@given(seeds)
async def test_odd_answers_come_out_as_from_graphql_core(seed: int) -> None:
    random = Random(seed)
    schema = draw_schema(random, with_resolvers=True)
    document = parse(draw_document(random, schema))

    await executed(schema, document, Answers(random, is_odd=True).to(schema))


@given(seeds)
async def test_plain_answers_come_out_as_from_graphql_core_which_goes_through_no_list(
    seed: int,
) -> None:
    random = Random(seed)
    schema = draw_schema(random, with_resolvers=False)
    document = parse(draw_document(random, schema))

    executor = await executed(schema, document, Answers(random, is_odd=False).to(schema))

    assert executor.collected_errors.errors == []
    assert executor.went_through == []


def holding(leaf: Any) -> Any:
    """An object type with one field, `f0`."""
    return strawberry.type(type("T", (), {"__annotations__": {"f0": leaf}}))


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("is_optional", [False, True])
async def test_every_value_of_every_leaf_comes_out_as_from_graphql_core(
    leaf: Any, is_optional: bool
) -> None:
    type_: Any = holding(leaf | None if is_optional else leaf)
    schema, document = schema_for(list[type_]), parse("{ things { f0 } }")
    [good, *_] = GOOD[leaf_name(schema)]
    for value in [*ODD, *chain.from_iterable(GOOD.values())]:
        for column in ([value, value], [good, value]):
            await executed(schema, document, [Open(f0=one) for one in column])


def leaf_name(schema: GraphQLSchema) -> str:
    type_ = schema.type_map["T"]
    assert is_object_type(type_)
    return str(get_named_type(type_.fields["f0"].type))


@pytest.mark.parametrize("holder", [*PLAIN_HOLDERS, *ODD_HOLDERS, lambda f0: f0])
@pytest.mark.parametrize("fields", ["__typename", "f0", "__typename f0"])
@pytest.mark.parametrize("is_optional", [False, True])
async def test_items_of_every_kind_come_out_as_from_graphql_core(
    holder: Callable[..., object], fields: str, is_optional: bool
) -> None:
    type_: Any = holding(int | None)
    item: Any = type_ | None if is_optional else type_
    schema, document = schema_for(list[item]), parse(f"{{ things {{ {fields} }} }}")
    for value in (1, None, Undefined, ValueError("an error"), Later(1)):
        await executed(schema, document, [holder(f0=value)])
        await executed(schema, document, [Open(f0=1), holder(f0=value)])
