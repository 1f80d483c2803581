"""What operations cost, by the `@cost` and `@listSize` of the schema.

An object costs a point, scalars and enums nothing, a field what its `@cost` says beside its
objects; lists multiply by their size. Of several possible types the dearest counts. A field that
is written twice in one place counts twice, though it is executed once. See decision 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    OperationDefinitionNode,
)

from schema.cost_plan import POINT, Part, Variables
from schema.cost_planner import Planner
from schema.prices import Prices


@dataclass(frozen=True, slots=True)
class CostPlan:
    """What one operation costs, in points."""

    _root: Part

    def requested(self, variables: Variables) -> int:
        """The most that the operation can cost with these variables, coerced, by name."""
        return _points(self._root.requested(variables))

    def actual(self, data: Mapping[str, Any] | None, variables: Variables) -> int:
        """The same sum with the lists that were answered; what has no answer costs nothing."""
        return 0 if data is None else _points(self._root.actual(data, variables))


class CostModel:
    """Tells what operations of a schema cost.

    Raises ValueError for a schema that doesn't say how long its lists of objects can get.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        self._prices = Prices(schema)
        self._document: DocumentNode | None = None
        self._planner = Planner(self._prices, {})

    def plan(self, document: DocumentNode, operation: OperationDefinitionNode) -> CostPlan:
        """What an operation of the document costs.

        Take only documents that are valid and that `schema.limits` has nothing against: a cost is
        added up along every path through the fragments.
        """
        root = self._prices.schema.get_root_type(operation.operation)
        assert root is not None  # validation made sure of it
        # All operations of a document are planned one after the other, and share its fragments.
        if document is not self._document:
            self._document = document
            self._planner = Planner(self._prices, _fragments_of(document))
        return CostPlan(self._planner.selection(operation.selection_set, root))


def _fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }


def _points(thousandths: int) -> int:
    return -(-thousandths // POINT)
