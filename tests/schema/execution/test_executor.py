"""The executor: what it leaves to graphql-core, what it gives away, and how events are executed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

import pytest
import strawberry
from graphql import (
    ExecutionResult,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_subscription_event,
    execute_sync,
    is_object_type,
    parse,
)
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig

from schema.execution import Variables, build_executor, source_events
from schema.execution.executor import FastExecutor
from tests.schema.execution.comparing import executed, executor_of, result_of


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Cat(Named):
    lives: int


@strawberry.type
class Dog(Named):
    barks: bool | None


@strawberry.type
class Stone:
    weight: float


class Nobody(BasePermission):
    message = "not for you"

    def has_permission(self, source: Any, info: Any, **_: Any) -> bool:  # noqa: ARG002
        return bool(source.value != 2)


class Doubled(FieldExtension):
    def resolve(self, next_: Any, source: Any, info: Any, **_: Any) -> Any:
        return 2 * next_(source, info)


@strawberry.type
class Box:
    value: int
    secret: int | None = strawberry.field(permission_classes=[Nobody])
    twice: int = strawberry.field(extensions=[Doubled()])
    tags: list[str]

    @strawberry.field
    def computed(self) -> int:
        return 10 * self.value


@dataclass(slots=True, unsafe_hash=True)
class Held:
    value: int
    secret: int = 5
    twice: int = 3
    tags: list[str] = field(default_factory=lambda: ["a", "b"], hash=False)
    computed: int = 1


def answer(info: strawberry.Info) -> Any:
    return info.context


def answering(annotation: Any) -> Any:
    return strawberry.field(resolver=answer, graphql_type=annotation)


@strawberry.enum
class Alike(Enum):
    ONE = 1
    TWO = 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    __hash__ = None  # type: ignore[assignment]


@strawberry.type
class Query:
    alike = answering(list[Alike])
    named = answering(list[Named])
    cats = answering(list[Cat])
    things = answering(list[Annotated[Cat | Stone, strawberry.union("Thing")]])
    boxes = answering(list[Box])
    box = answering(Box)


def schema_of_its_own(**config: Any) -> GraphQLSchema:
    """A schema whose types no other has: Strawberry keeps in fields how a schema reads them."""

    @strawberry.type
    class Box:
        value: int

    query = strawberry.type(type("Query", (), {"boxes": answering(list[Box])}))
    return strawberry.Schema(query, config=StrawberryConfig(**config))._schema


async def three_events() -> AsyncIterator[object]:
    for event in ([Held(1)], [Held(2), None], [Held(3)]):
        yield event


async def no_events() -> AsyncIterator[object]:
    raise ValueError("no events for you")


@strawberry.type
class Subscription:
    boxes = strawberry.subscription(resolver=three_events, graphql_type=list[Box])
    nothing = strawberry.subscription(resolver=no_events, graphql_type=int)


SCHEMA: GraphQLSchema = strawberry.Schema(
    Query, subscription=Subscription, types=[Cat, Dog]
)._schema


CATS = [Cat(name="a", lives=9), Cat(name="b", lives=1)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("named { __typename name ... on Cat { lives } }", [*CATS, Dog(name="c", barks=None)]),
        ("named { name }", [Stone(weight=1)]),
        ("cats { name lives }", CATS),
        ("cats { name lives }", [Held(1)]),
        ("things { ... on Cat { name } ... on Stone { weight } }", [Stone(weight=1.5), *CATS]),
        ("boxes { computed value }", [Held(1), Held(2)]),
        ("boxes { value secret }", [Held(1), Held(2)]),
        ("boxes { twice }", [Held(1), Held(2)]),
        ("boxes { value }", {Held(1): 1}.keys()),
        ("boxes { value }", [Held(1), None, Held(3)]),
        ("boxes { value }", [Held(1), ValueError("broken"), Held(3)]),
    ],
)
async def test_what_is_not_plain_is_left_to_graphql_core(question: str, answer: object) -> None:
    executor = await executed(SCHEMA, parse(f"{{ {question} }}"), answer)

    assert executor.went_through


def traced(next_: Any, source: Any, info: Any, **arguments: Any) -> Any:
    """Middleware that marks what it sees."""
    value = next_(source, info, **arguments)
    return [*value, "traced"] if info.field_name == "tags" else value


def test_middleware_sees_every_field() -> None:
    document = parse("{ boxes { tags } }")

    found, expected = (
        execute_sync(
            SCHEMA,
            document,
            context_value=[Held(1)],
            middleware=[traced],
            executor_class=executor_class,
        )
        for executor_class in (FastExecutor, None)
    )

    assert found == expected
    assert found.data == {"boxes": [{"tags": ["a", "b", "traced"]}]}


async def test_a_resolver_put_in_the_place_of_reading_an_attribute_is_called() -> None:
    schema = schema_of_its_own()
    box = schema.type_map["Box"]
    assert is_object_type(box)
    box.fields["value"].resolve = lambda source, _: -source.value

    executor = await executed(schema, parse("{ boxes { value } }"), [Held(1)])

    assert executor.went_through == ["boxes"]


async def test_attributes_are_read_as_the_schema_is_told_to_read_them() -> None:
    schema = schema_of_its_own(default_resolver=lambda _, name: len(name))

    executor = await executed(schema, parse("{ boxes { value } }"), [Held(1)])

    assert executor.went_through == ["boxes"]


async def test_members_that_are_equal_to_each_other_keep_their_names() -> None:
    executor = await executed(SCHEMA, parse("{ alike }"), [Alike.ONE, Alike.TWO])

    assert executor.went_through == ["alike"]


async def test_lists_within_objects_that_graphql_core_executes_are_completed_at_once() -> None:
    executor = await executed(SCHEMA, parse("{ boxes { computed tags } }"), [Held(1), Held(2)])

    assert executor.went_through == ["boxes"]


@pytest.mark.parametrize("answer", ["text", {"a": 1}, 7, None])
async def test_what_is_no_list_is_refused_as_by_graphql_core(answer: object) -> None:
    executor = await executed(SCHEMA, parse("{ boxes { value } }"), answer)

    assert executor.collected_errors.errors


async def test_an_answer_is_not_the_list_that_the_resolver_keeps() -> None:
    held = Held(1)

    result = await result_of(
        executor_of(SCHEMA, parse("{ box { tags } }"), held).execute_operation()
    )

    assert result.data == {"box": {"tags": ["a", "b"]}}
    assert result.data["box"]["tags"] is not held.tags


def executor_for(subscription: str) -> FastExecutor:
    document = parse(subscription)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    return build_executor(
        SCHEMA, document, operation, Variables({}, {}), None, hide_suggestions=True
    )


async def test_each_event_of_a_subscription_has_a_result_and_errors_of_its_own() -> None:
    executor = executor_for("subscription { boxes { value tags } }")

    source = await source_events(executor)

    assert not isinstance(source, ExecutionResult)
    first, second, third = [
        await result_of(execute_subscription_event(executor.build_per_event_executor(event)))
        async for event in source
    ]
    assert (first.data, first.errors) == ({"boxes": [{"value": 1, "tags": ["a", "b"]}]}, None)
    assert second.data is None
    assert [error.path for error in second.errors or ()] == [["boxes", 1]]
    assert (third.data, third.errors) == ({"boxes": [{"value": 3, "tags": ["a", "b"]}]}, None)


async def test_a_subscription_without_events_has_a_result_that_says_why() -> None:
    source = await source_events(executor_for("subscription { nothing }"))

    assert isinstance(source, ExecutionResult)
    assert source.data is None
    assert [error.message for error in source.errors or ()] == ["no events for you"]


async def test_executions_of_one_operation_know_nothing_of_each_other() -> None:
    schema = build_schema("type Query { boxes: [Box!] } type Box { value: Int, tags: [String] }")
    assert schema.query_type is not None

    async def boxes(_: Any, info: Any) -> Any:
        await asyncio.sleep(0)
        return info.context

    schema.query_type.fields["boxes"].resolve = boxes
    document = parse("query ($all: Boolean!) { boxes { value tags @include(if: $all) } }")
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    once = build_executor(
        schema, document, operation, Variables({}, {}), None, hide_suggestions=True
    )
    box = {"value": 1, "tags": ["a"]}

    found = await asyncio.gather(
        *(
            result_of(once.begun(Variables({}, {"all": all_}), context).execute_operation())
            for all_, context in [(True, [box]), (False, [box]), (True, [None]), (False, [box])]
        )
    )

    assert [one.data for one in found] == [
        {"boxes": [box]},
        {"boxes": [{"value": 1}]},
        {"boxes": None},
        {"boxes": [{"value": 1}]},
    ]
    assert [len(one.errors or ()) for one in found] == [0, 0, 1, 0]
