"""Documents: read, measured and checked once, and kept for the next request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode

from schema.cost import CostModel, CostPlan
from schema.execution import FastExecutor, Variables, build_executor
from schema.limits import LIMITS, Shape, measure, parse_document, problems
from schema.validation import MAX_MISTAKES, validate_document
from telemetry.metrics import OperationType

# What is kept at most: documents, and characters of all their texts. A parsed document takes about
# a hundred times the memory of its text.
MAX_DOCUMENTS = 512
MAX_CHARACTERS = 500_000


class BadDocument(Exception):
    """A text that is no document of this schema, or one that asks for too much."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = list(errors)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document with all that is known before its variables are.

    `executor` has neither variables nor a context: each execution is begun from it.
    """

    node: OperationDefinitionNode
    kind: OperationType
    shape: Shape
    cost: CostPlan
    executor: FastExecutor


@dataclass(frozen=True, slots=True)
class Document:
    """A text that may be executed. Operations are in order of the text."""

    text: str
    ast: DocumentNode
    operations: Mapping[str | None, Operation]

    def operation(self, name: str | None) -> Operation | None:
        """The operation of a name, or the only one where no name is given."""
        if name is not None:
            return self.operations.get(name)
        return next(iter(self.operations.values())) if len(self.operations) == 1 else None


@dataclass(slots=True)
class Documents:
    """Documents of a schema, those that were used last kept."""

    schema: GraphQLSchema
    hide_suggestions: bool
    _costs: CostModel = field(init=False)
    _kept: OrderedDict[str, Document] = field(default_factory=OrderedDict)
    _characters: int = 0

    def __post_init__(self) -> None:
        self._costs = CostModel(self.schema)

    def of(self, text: str) -> Document:
        """The document of a text; raises `BadDocument`, after little work however bad it is."""
        known = self._kept.get(text)
        if known is not None:
            self._kept.move_to_end(text)
            return known
        document = self._read(text)
        self._keep(document)
        return document

    def _keep(self, document: Document) -> None:
        # Those that are refused are not kept: nobody can push the good ones out with rubbish.
        self._kept[document.text] = document
        self._characters += len(document.text)
        while len(self._kept) > MAX_DOCUMENTS or self._characters > MAX_CHARACTERS:
            text, _ = self._kept.popitem(last=False)
            self._characters -= len(text)

    def _read(self, text: str) -> Document:
        try:
            ast = parse_document(text, LIMITS)
        except GraphQLError as error:
            raise BadDocument([error]) from None
        shapes = measure(ast)
        if isinstance(shapes, list):
            raise BadDocument(shapes)
        too_much = [problem for shape in shapes.values() for problem in problems(shape, LIMITS)]
        if too_much:
            raise BadDocument(too_much[:MAX_MISTAKES])
        mistakes = validate_document(self.schema, ast, hide_suggestions=self.hide_suggestions)
        if mistakes:
            raise BadDocument(mistakes)
        operations = {
            name: Operation(
                node=node,
                kind=node.operation.value,
                shape=shapes[name],
                cost=self._costs.plan(ast, node),
                executor=build_executor(
                    self.schema,
                    ast,
                    node,
                    Variables({}, {}),
                    None,
                    hide_suggestions=self.hide_suggestions,
                ),
            )
            for node in ast.definitions
            if isinstance(node, OperationDefinitionNode)
            for name in [node.name.value if node.name else None]
        }
        return Document(text, ast, operations)
