"""What an operation counts as where requests are counted."""

from __future__ import annotations

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
)

from telemetry.rate_limits import RateKind

_INGEST = "ingest"


def rate_kind(document: DocumentNode, operation: OperationDefinitionNode) -> RateKind:
    """An operation that brings events counts as one of those, whatever else it does."""
    if operation.operation is not OperationType.MUTATION:
        return "query"
    fragments = {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }
    waiting, seen = [*operation.selection_set.selections], set[str]()
    while waiting:
        selection = waiting.pop()
        if isinstance(selection, FieldNode):
            if selection.name.value == _INGEST:
                return "ingest"
        elif isinstance(selection, InlineFragmentNode):
            waiting += selection.selection_set.selections
        elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in seen:
            seen.add(selection.name.value)
            waiting += fragments[selection.name.value].selection_set.selections
    return "query"
