"""Executing a document both ways, and telling all of two results apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    execute,
)
from graphql.pyutils import AwaitableOrValue

from schema.execution import build_executor, coerce_variables
from schema.execution.executor import FastExecutor
from tests.schema.execution.answers import Asked

GIVEN = {"yes": True}


def executor_of(schema: GraphQLSchema, document: DocumentNode, context: object) -> FastExecutor:
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    variables = coerce_variables(schema, operation, GIVEN, hide_suggestions=True)
    assert not isinstance(variables, list), variables
    return build_executor(schema, document, operation, variables, context, hide_suggestions=True)


class Watched(FastExecutor):
    """Keeps the fields of which graphql-core went through lists item by item."""

    def __init__(self, executor: FastExecutor) -> None:
        self.__dict__.update(executor.__dict__)
        self.went_through: list[str] = []

    def complete_iterable_value(
        self, item_type: Any, details: Any, info: Any, path: Any, items: Iterable[Any], at: None
    ) -> Any:
        if items not in ([], ()):
            self.went_through.append(info.field_name)
        return super().complete_iterable_value(item_type, details, info, path, items, at)


async def result_of(execution: AwaitableOrValue[Any]) -> ExecutionResult:
    result = execution if isinstance(execution, ExecutionResult) else await execution
    # What was left behind when something failed is to end before anything else begins.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert isinstance(result, ExecutionResult)
    return result


def shown(result: ExecutionResult) -> tuple[object, ...]:
    """All of a result that can be told apart: types of values and order of keys, too."""
    return (repr(result.data), result.extensions, [*map(_shown_error, result.errors or ())])


def _shown_error(error: GraphQLError) -> tuple[object, ...]:
    cause = error.original_error
    return (error.message, error.path, error.locations, error.extensions, type(cause), str(cause))


async def executed(schema: GraphQLSchema, document: DocumentNode, context: object) -> Watched:
    """An executor that has executed. The result and how often `Asked` was must be graphql-core's."""
    watched = Watched(executor_of(schema, document, context))

    Asked.reads = 0
    found = await result_of(watched.execute_operation())
    reads, Asked.reads = Asked.reads, 0
    expected = await result_of(
        execute(schema, document, context_value=context, variable_values=dict(GIVEN))
    )

    assert shown(found) == shown(expected), context
    assert reads == Asked.reads
    return watched
