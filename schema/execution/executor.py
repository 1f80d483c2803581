"""graphql-core's executor with a short way through lists, and how one is made."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from contextlib import suppress
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    FragmentDefinitionNode,
    GraphQLList,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    create_source_event_stream,
    default_field_resolver,
    default_type_resolver,
)
from graphql.execution.collect_fields import FieldDetailsList, FragmentDetails
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import AwaitableOrValue, Path, RefMap
from graphql.type import assert_valid_schema

from schema.execution.inputs import Variables
from schema.execution.lists import Column, list_column
from schema.execution.plain import NotPlain


class FastExecutor(Executor[Any]):
    """An executor that completes lists of plain values at once, where it can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By place in the document and type. The place is kept so that its id stays its own.
        self._columns: dict[tuple[int, int], tuple[FieldDetailsList, Column | None]] = {}

    def begun(self, variables: Variables, context: Any) -> FastExecutor:
        """An execution of the same operation, with nothing known of any other.

        graphql-core makes its executors for the events of a subscription by copying, too: all but
        what is set here is the same for every execution. An executor made anew also refers to
        itself, and would wait for the garbage collector.
        """
        executor = object.__new__(FastExecutor)
        executor.__dict__ = {
            **self.__dict__,
            "variable_values": variables,
            "context_value": context,
            "collected_errors": CollectedErrors(),
            "pending_incremental_futures": set(),
            "background_futures": set(),
            "_relevant_sub_fields": {},
            "_stream_usages": RefMap(),
            "_columns": {},
        }
        return executor

    def complete_list_value(  # noqa: PLR0913, PLR0917 - graphql-core's own
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: AsyncIterable[Any] | Iterable[Any],
        position_context: Any,
    ) -> AwaitableOrValue[list[Any]]:
        """The items as the answer has them."""
        # Finding out how an item is completed pays from the first item on.
        if (type(result) is list or type(result) is tuple) and result:
            complete = self._column(return_type, field_details_list)
            if complete is not None:
                with suppress(NotPlain):
                    # A copy, since the answer is not to hold what the resolver keeps.
                    return complete(list(result))
        return super().complete_list_value(
            return_type, field_details_list, info, path, result, position_context
        )

    def _column(
        self, type_: GraphQLList[GraphQLOutputType], details: FieldDetailsList
    ) -> Column | None:
        place = (id(type_), id(details))
        if place not in self._columns:
            self._columns[place] = (details, list_column(self, type_, details))
        return self._columns[place][1]


def build_executor(  # noqa: PLR0913 - what makes up an execution
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Variables,
    context: Any,
    *,
    hide_suggestions: bool,
) -> FastExecutor:
    """What executes an operation of a validated document, once for each call.

    `.execute_operation()` gives the result or an awaitable of it. For a subscription,
    `.build_per_event_executor(event).execute_operation(serially=False)` does so for one event.
    """
    assert_valid_schema(schema)
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    return FastExecutor(
        schema,
        fragments,
        {name: FragmentDetails(fragment) for name, fragment in fragments.items()},
        None,
        context,
        operation,
        variables,
        default_field_resolver,
        default_type_resolver,
        default_field_resolver,
        hide_suggestions=hide_suggestions,
    )


async def source_events(executor: Executor[Any]) -> AsyncIterable[Any] | ExecutionResult:
    """The events that a subscription executes for, or a result without data that says why none."""
    events = create_source_event_stream(executor)
    return await events if isinstance(events, Awaitable) else events
